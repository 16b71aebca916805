"""Remembering what the user said a few turns ago."""

from collections.abc import Callable

from attrs import frozen

from helexa.tiny.corpus.draw import Draw, Phrases
from helexa.tiny.corpus.framing import dress
from helexa.tiny.corpus.lexicon import CITIES, COLOURS, LIKES, NAMES, PET_NAMES, any_word, fresh_word, proper, several
from helexa.tiny.corpus.shapes import Exchange

_PETS = ("dog", "cat", "horse", "rabbit", "parrot", "hamster", "goldfish", "turtle", "pony", "bird")
_PEOPLE = ("sister", "brother", "mother", "father", "friend", "boss", "teacher", "son", "daughter", "wife", "husband")


@frozen
class Memory:
    """A thing to tell and to ask back; ``{x}`` is what is remembered, ``{k}`` what kind of thing it is."""

    tell: Phrases
    ask: Phrases
    noted: str
    reply: str
    value: Callable[[Draw], str]
    kinds: tuple[str, ...] = ("",)


def _number(draw: Draw) -> str:
    return str(draw.fresh(lambda: draw.number(2, 9999 if draw.chance(0.5) else 99)))


def _like(draw: Draw) -> str:
    return fresh_word(draw, 2, 3) if draw.chance(0.3) else draw.pick(LIKES)


def _colour(draw: Draw) -> str:
    return draw.pick(COLOURS)


def _word(draw: Draw) -> str:
    return several(draw, 1, 2) if draw.chance(0.3) else any_word(draw)


def _name(draw: Draw) -> str:
    return proper(draw, NAMES)


def _pet(draw: Draw) -> str:
    return proper(draw, PET_NAMES)


def _city(draw: Draw) -> str:
    return proper(draw, CITIES)


_NAME = Memory(
    Phrases.of(
        """
        My name is {x}.
        My name is {x}
        Hi, my name is {x}.
        Hello, my name is {x}!
        Hello, I am {x}.
        I am {x}.
        I'm {x}.
        Hi, I'm {x}.
        Call me {x}.
        You can call me {x}.
        People call me {x}.
        Please remember that my name is {x}.
        Remember: my name is {x}.
        My name is {x}, nice to meet you.
        I am called {x}.
        """,
        """
        Hey, my name is {x}!
        Hello! I'm {x}.
        By the way, my name is {x}.
        Please call me {x}.
        """,
    ),
    Phrases.of(
        """
        What is my name?
        What's my name?
        Do you know my name?
        Do you remember my name?
        Tell me my name.
        Who am I?
        What am I called?
        Say my name.
        Can you tell me my name?
        What did I say my name was?
        What was my name?
        Can you remember my name?
        """,
        """
        Do you still know my name?
        What was my name again?
        Can you say my name?
        Please tell me my name.
        """,
    ),
    "Nice to meet you, {x}!",
    "Your name is {x}.",
    _name,
)
_PET = Memory(
    Phrases.of(
        """
        My {k} is called {x}.
        My {k}'s name is {x}.
        The name of my {k} is {x}.
        I have a {k} called {x}.
        I have a {k} named {x}.
        I call my {k} {x}.
        My {k} is named {x}.
        We have a {k}, and its name is {x}.
        Remember that my {k} is called {x}.
        """,
        """
        By the way, my {k} is called {x}.
        I have a {k} and it is called {x}.
        I named my {k} {x}.
        """,
    ),
    Phrases.of(
        """
        What is my {k} called?
        What is my {k}'s name?
        What is the name of my {k}?
        Do you know what my {k} is called?
        Do you remember the name of my {k}?
        Tell me the name of my {k}.
        What's my {k} called?
        What's my {k}'s name?
        How is my {k} called?
        What did I call my {k}?
        """,
        """
        What was the name of my {k}?
        Do you remember what my {k} is called?
        Please tell me the name of my {k}.
        """,
    ),
    "{x} is a nice name for a {k}.",
    "Your {k} is called {x}.",
    _pet,
    _PETS,
)
_PERSON = Memory(
    Phrases.of(
        """
        My {k} is called {x}.
        My {k}'s name is {x}.
        The name of my {k} is {x}.
        My {k} is named {x}.
        """,
        """
        By the way, my {k}'s name is {x}.
        You should know that my {k} is called {x}.
        """,
    ),
    _PET.ask,
    "I will remember that your {k} is called {x}.",
    "Your {k} is called {x}.",
    _name,
    _PEOPLE,
)
_LIKE = Memory(
    Phrases.of(
        """
        I like {x}.
        I love {x}.
        I really like {x}.
        I like {x} very much.
        I enjoy {x}.
        I like {x} a lot.
        Remember that I like {x}.
        What I like is {x}.
        """,
        """
        You should know that I like {x}.
        I just love {x}.
        I like {x} most of all.
        """,
    ),
    Phrases.of(
        """
        What do I like?
        What do I love?
        Do you know what I like?
        Do you remember what I like?
        Tell me what I like.
        What did I say I like?
        What is it that I like?
        What do I enjoy?
        """,
        """
        Can you tell me what I like?
        What was it that I like?
        Please tell me what I like.
        """,
    ),
    "Good to know that you like {x}.",
    "You like {x}.",
    _like,
)
_FAVOURITE = Memory(
    Phrases.of(
        """
        My favourite {k} is {x}.
        My favorite {k} is {x}.
        The {k} I like best is {x}.
        Remember that my favorite {k} is {x}.
        {x} is my favorite {k}.
        {x} is my favourite {k}.
        """,
        """
        By the way, my favorite {k} is {x}.
        You should know that my favourite {k} is {x}.
        """,
    ),
    Phrases.of(
        """
        What is my favourite {k}?
        What is my favorite {k}?
        What's my favorite {k}?
        Do you know my favorite {k}?
        Do you remember my favourite {k}?
        Tell me my favorite {k}.
        Which {k} do I like best?
        Which {k} is my favorite?
        """,
        """
        What was my favorite {k}?
        Can you tell me my favourite {k}?
        """,
    ),
    "{x} is a good choice.",
    "Your favourite {k} is {x}.",
    _word,
    ("colour", "color", "food", "animal", "word", "book", "game", "drink", "song", "fruit", "movie"),
)
_HOME = Memory(
    Phrases.of(
        """
        I live in {x}.
        I am from {x}.
        I'm from {x}.
        I come from {x}.
        My home is in {x}.
        I live in the city of {x}.
        My home town is {x}.
        """,
        """
        By the way, I live in {x}.
        You should know that I live in {x}.
        """,
    ),
    Phrases.of(
        """
        Where do I live?
        Where am I from?
        Which city do I live in?
        Do you know where I live?
        Do you remember where I live?
        Tell me where I live.
        Where do I come from?
        In which city do I live?
        Where is my home?
        """,
        """
        Can you tell me where I live?
        Where did I say I live?
        """,
    ),
    "{x} sounds like a nice place.",
    "You live in {x}.",
    _city,
)
_AGE = Memory(
    Phrases.of(
        """
        I am {x} years old.
        I'm {x} years old.
        My age is {x}.
        I turned {x} today.
        """,
        """
        By the way, I am {x} years old.
        """,
    ),
    Phrases.of(
        """
        How old am I?
        What is my age?
        Do you know how old I am?
        Tell me my age.
        Do you remember my age?
        """,
        """
        Can you tell me how old I am?
        How old did I say I am?
        """,
    ),
    "I will remember that you are {x}.",
    "You are {x} years old.",
    lambda draw: str(draw.number(3, 99)),
)
_SECRET = Memory(
    Phrases.of(
        """
        The secret {k} is {x}.
        The {k} is {x}.
        My {k} is {x}.
        Remember this {k}: {x}.
        Remember the {k} {x}.
        Please remember the {k} {x}.
        Keep this {k} in mind: {x}.
        My secret {k} is {x}.
        Remember that the {k} is {x}.
        """,
        """
        Please remember this {k}: {x}.
        Please keep the {k} {x} in mind.
        Do not forget: the {k} is {x}.
        """,
    ),
    Phrases.of(
        """
        What is the {k}?
        What is the secret {k}?
        What was the {k}?
        What is my {k}?
        Tell me the {k}.
        Which {k} did I tell you?
        Do you remember the {k}?
        What {k} did I give you?
        What {k} did I ask you to remember?
        What's the {k}?
        Say the {k}.
        """,
        """
        Can you tell me the {k}?
        What was the {k} again?
        Which {k} did I give you?
        """,
    ),
    "I will remember the {k} {x}.",
    "The {k} is {x}.",
    lambda draw: draw.pick((_number, _word))(draw),
    ("code", "number", "word", "password", "key", "code word", "phrase", "value"),
)
MEMORIES = (_NAME, _NAME, _PET, _PERSON, _LIKE, _FAVOURITE, _HOME, _AGE, _SECRET)


def remembered(draw: Draw, memory: Memory) -> tuple[Exchange, Exchange]:
    """Return the exchange that tells something and the one that asks it back."""
    said = {"x": memory.value(draw), "k": draw.pick(memory.kinds)}
    tell = dress(draw, draw.phrase(memory.tell), x=said["x"], k=said["k"])
    ask = dress(draw, draw.phrase(memory.ask), k=said["k"])
    reply = memory.reply.format(**said)
    first = Exchange("memory", tell, memory.noted.format(**said), f"The user tells me: {said['x']}. I remember it.")
    return first, Exchange("memory", ask, reply, f"The user asks what I was told. It was {said['x']}.")


def forgotten(draw: Draw) -> Exchange:
    """Ask for something that was never told."""
    memory = draw.pick(MEMORIES)
    user = dress(draw, draw.phrase(memory.ask), k=draw.pick(memory.kinds))
    return Exchange("memory", user, "You have not told me that.", "The user never told me. I say so.")
