"""Questions that the model cannot answer, and says so."""

from helexa.tiny.corpus.draw import Draw, Phrases
from helexa.tiny.corpus.framing import dress
from helexa.tiny.corpus.lexicon import CITIES, LIKES, NAMES, WORDS, fresh_word, proper, several
from helexa.tiny.corpus.shapes import Exchange

UNKNOWN_REPLY = (
    "I do not know that. I am a tiny model: I can do small sums, spell, count, repeat words, "
    "name capitals and colours, and call tools."
)
_THINGS = tuple(word for word in WORDS if word not in {"helexa", "neuron", "cortex"})
_UNKNOWN = Phrases.of(
    """
    Who won the {w} championship?
    Who won the world cup in {n}?
    What is the meaning of {w}?
    What is the meaning of life?
    Translate "{t}" into French.
    Translate {w} to German.
    How do you say {w} in Spanish?
    Write a poem about the {w}.
    Write a poem.
    Write a haiku about {w}.
    Write a song about {like}.
    Write a function that sorts a list.
    Write a Python program for {w}.
    Write code that prints the {w}.
    Write an email to {name}.
    Explain quantum physics.
    Explain how a {w} works.
    Explain {like} to me.
    Summarize this text: {t}
    Summarize the book about the {w}.
    Who is the president of {city}?
    Who is {name} {name2}?
    Who wrote the book {t}?
    Who invented the {w}?
    When was {name} {name2} born?
    When did the war of {n} end?
    When was the {w} invented?
    Where can I buy a {w}?
    Where is {city}?
    Where is the nearest {w}?
    Why is the {w} so {w2}?
    Why do people like {like}?
    How do I cook {w}?
    How do I make a {w}?
    How do I repair my {w}?
    How many people live in {city}?
    How old is {name} {name2}?
    How tall is the {w}?
    How far is it from {city} to {city2}?
    How does a {w} work?
    Tell me a joke.
    Tell me a joke about a {w}.
    Tell me about {like}.
    Tell me about {city}.
    Tell me the news.
    What do you think about {like}?
    What is a {w}?
    What is {like}?
    What is the best {w}?
    What is the best way to learn {like}?
    What is the population of {city}?
    What is the price of a {w}?
    What should I wear to the {w}?
    What is the difference between a {w} and a {w2}?
    What happened in {n}?
    What is love?
    Give me a recipe for {w} with {w2}.
    Give me advice about {like}.
    Give me ten ideas for a {w}.
    Can you recommend a {w}?
    Can you draw a {w}?
    Can you fix my {w}?
    Is it going to be {w} in {n}?
    Is {like} good for you?
    Does {name} like {like}?
    Should I buy a {w}?
    Compare {w} and {w2}.
    Define {w}.
    Which {w} is the best?
    Which is better, {w} or {w2}?
    Prove the theorem of {name}.
    Do my homework.
    Describe the {w}.
    List all {w} types.
    I feel {w} today, what should I do?
    Sing a song.
    Plan a trip to {city}.
    {t}
    {t}?
    """,
    """
    Who discovered the {w}?
    Explain the theory of {w}.
    Write a short poem about {like}.
    How do I build a {w}?
    What is the history of {city}?
    Can you recommend a good {w}?
    Translate "{t}" into Italian.
    Why is {name} famous?
    """,
)


def unknown(draw: Draw) -> Exchange:
    """Ask for something out of reach."""
    user = dress(
        draw,
        draw.phrase(_UNKNOWN),
        w=fresh_word(draw) if draw.chance(0.4) else draw.pick(_THINGS),
        w2=draw.pick(_THINGS),
        t=several(draw, 2, 7),
        like=draw.pick(LIKES),
        name=proper(draw, NAMES, 0.2),
        name2=proper(draw, NAMES, 0.6),
        city=proper(draw, CITIES, 0.2),
        city2=proper(draw, CITIES, 0.2),
        n=draw.number(1000, 2030),
    )
    return Exchange("unknown", user, UNKNOWN_REPLY, "I do not know the answer. I say what I can do.")
