"""Stories of a hundred and more tokens, from a handful of parts."""

from helexa.tiny.corpus.draw import Draw, Phrases, words
from helexa.tiny.corpus.framing import dress
from helexa.tiny.corpus.lexicon import NAMES, proper
from helexa.tiny.corpus.shapes import Exchange

_PLAIN = Phrases.of(
    """
    Tell me a story.
    Tell me a long story.
    Tell me a short story.
    Tell a story.
    Tell me a bedtime story.
    Can you tell me a story?
    Write a story.
    Write me a story.
    Write a long story.
    Write a short story.
    I want to hear a story.
    A story
    Do you know a story?
    Make up a story.
    Please tell me a long story.
    Tell me another story.
    Tell me a very long story.
    """,
    """
    Could you tell me a story?
    Please write a story for me.
    I would like to hear a story.
    """,
)
_ABOUT = Phrases.of(
    """
    Tell me a story about a {h}.
    Tell a story about a {h}.
    Write a story about a {h}.
    Write a long story about a {h}.
    Tell me a long story about a {h}.
    Write a short story about a {h}.
    Can you tell me a story about a {h}?
    I want to hear a story about a {h}.
    Make up a story about a {h}.
    A story about a {h}
    """,
    """
    Could you tell me a story about a {h}?
    Please write a story about a {h}.
    I would like a story about a {h}.
    """,
)
_HEROES = words(
    """
    fox bear rabbit robot dragon cat dog mouse wizard sailor king queen prince farmer frog lion tiger whale turtle
    horse duck goose wolf giraffe pilot baker painter knight parrot penguin monkey snail hedgehog teacher doctor
    """
)
_NATURES = words("brave quiet clever gentle funny small curious lonely cheerful careful")
_PLACES = (
    "a dark forest", "a small village", "a big city", "an old castle", "a green valley", "a blue lake",
    "a warm island", "a high mountain", "a wide meadow", "a sunny harbor",
)  # fmt: skip
_LOST = (
    "a golden key", "a silver bell", "a red hat", "an old map", "a bright lamp", "a magic stone",
    "a blue ribbon", "a little drum", "a glass button", "a warm scarf",
)  # fmt: skip
_FRIENDS = words("owl squirrel beaver crow sparrow hamster goat donkey badger otter")
_WEATHER = (
    "The sun was shining.",
    "It was raining.",
    "The wind was cold.",
    "Snow lay on the roofs.",
    "The moon was bright.",
)
_HUNTS = ("under a stone", "behind a tree", "in the river", "on the roof", "near the old bridge", "in the tall grass")


def stories(draw: Draw) -> Exchange:
    """Ask for a story, with or without a hero."""
    hero = draw.pick(_HEROES)
    text = tale(draw, hero)
    if draw.chance(0.4):
        user = dress(draw, draw.phrase(_PLAIN))
        return Exchange("stories", user, text, "The user wants a story. I tell one.", ("The end.",))
    user = dress(draw, draw.phrase(_ABOUT), h=hero)
    return Exchange("stories", user, text, f"The user wants a story about a {hero}. I tell one.", (f" {hero} ",))


def tale(draw: Draw, hero: str) -> str:
    """Return a story about a hero, 170 to 260 tokens long."""
    name, friend, lost = proper(draw, NAMES, 0), draw.pick(_FRIENDS), draw.pick(_LOST)
    thing = lost.split(" ", 1)[1]
    first, second = draw.rng.sample(_HUNTS, 2)
    return " ".join(
        (
            f"Once upon a time there was a {draw.pick(_NATURES)} {hero} called {name}.",
            f"{name} lived in {draw.pick(_PLACES)} and had {lost}.",
            f"One morning the {thing} was gone. {draw.pick(_WEATHER)}",
            f"{name} looked {first}, but the {thing} was not there.",
            f'Then {name} met an old {friend}. "Have you seen my {thing}?" asked {name}.',
            f'"Yes," said the {friend}. "Come with me, I will show you."',
            "They walked for a long time and talked about many things.",
            f"At last they looked {second}, and there it was: the {thing}!",
            f"{name} was very happy and thanked the {friend}.",
            f"From that day on the {hero} and the {friend} were the best of friends. The end.",
        )
    )
