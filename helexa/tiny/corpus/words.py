"""Tasks on words and numbers as text: echo, spelling, counting."""

from helexa.tiny.corpus.draw import Draw, Phrases
from helexa.tiny.corpus.framing import dress
from helexa.tiny.corpus.lexicon import NAMES, ONE_WORD_CITIES, WORDS, fresh_word, several
from helexa.tiny.corpus.shapes import Exchange

_ECHO = Phrases.of(
    """
    Repeat after me: {x}
    Repeat after me: "{x}"
    Repeat: {x}
    Say: {x}
    Say "{x}"
    Echo: {x}
    Echo this: {x}
    Repeat this: {x}
    Repeat exactly: {x}
    Please repeat: {x}
    Please say: {x}
    Please say "{x}"
    Say exactly this: {x}
    Write: {x}
    Write "{x}"
    Copy this: {x}
    Copy this text: {x}
    Print: {x}
    Repeat the following: {x}
    Repeat the words: {x}
    Repeat back to me: {x}
    Say the following: {x}
    Say this back to me: {x}
    Can you repeat this? {x}
    Can you say "{x}"?
    Reply with: {x}
    Reply with exactly: {x}
    Answer with just this: {x}
    Respond with "{x}"
    Output the text: {x}
    Just say {x}
    Say {x}
    Repeat {x}
    """,
    """
    Please repeat after me: {x}
    Repeat the following text: {x}
    Say these words: {x}
    Echo the following: {x}
    Now copy exactly: {x}
    Reply with exactly this: {x}
    Please write "{x}"
    """,
)
_SPELL = Phrases.of(
    """
    Spell {w}.
    Spell the word {w}.
    Spell "{w}".
    Spell the word "{w}".
    How do you spell {w}?
    How do you spell "{w}"?
    How is {w} spelled?
    How is {w} spelt?
    Can you spell {w}?
    Please spell {w}.
    Spell out {w}.
    Spell {w} for me.
    Spell it letter by letter: {w}
    What are the letters of {w}?
    What letters are in the word {w}?
    Spelling of {w}?
    Give me the spelling of {w}.
    Could you spell the word {w}?
    Would you spell {w}?
    Please spell {w} for me.
    How would you spell the word {w}?
    Spell out {w} for me.
    Please spell out the word {w}.
    Spell the word {w} for me.
    I want you to spell {w}.
    """,
    """
    Could you spell {w}?
    Please spell the word {w} for me.
    How would you spell "{w}"?
    Spell out the word "{w}".
    """,
)
_LETTERS = Phrases.of(
    """
    How many letters are in {w}?
    How many letters are in the word {w}?
    How many letters does {w} have?
    How many letters does the word {w} have?
    Count the letters in {w}.
    Count the letters of {w}.
    Count the letters in "{w}".
    How many letters are there in "{w}"?
    How many letters in {w}?
    How long is the word {w}?
    What is the number of letters in {w}?
    How many letters has {w}?
    Please count the letters in {w}.
    Please count the letters of the word {w}.
    Tell me how many letters are in {w}.
    Tell me the number of letters in {w}.
    How many letters are there in the word {w}?
    Count the letters in the word {w}.
    Please tell me how many letters the word {w} has.
    """,
    """
    Please count the letters in the word {w}.
    How many letters are there in {w}?
    Tell me how many letters {w} has.
    """,
)
_COUNT = Phrases.of(
    """
    Count from {a} to {b}.
    Count {a} to {b}.
    Please count from {a} to {b}.
    Can you count from {a} to {b}?
    Count up from {a} to {b}.
    Count from {a} up to {b}.
    List the numbers from {a} to {b}.
    Say the numbers from {a} to {b}.
    Write the numbers from {a} to {b}.
    Give me the numbers {a} to {b}.
    Start at {a} and count to {b}.
    What are the numbers from {a} to {b}?
    Print the numbers {a} to {b}.
    Count for me: {a} to {b}.
    Please count for me from {a} up to {b}.
    Count from {a} to {b} for me.
    Begin counting at {a} and end at {b}.
    Begin with {a} and count up to {b}.
    Start with {a} and go on to {b}.
    Show the numbers {a} to {b}.
    Show me all numbers from {a} to {b}.
    Could you please count from {a} up to {b}?
    Would you count from {a} to {b}?
    I want you to count from {a} to {b}.
    """,
    """
    Could you count from {a} to {b}?
    Count for me from {a} to {b}.
    Show me the numbers from {a} to {b}.
    Begin at {a} and count to {b}.
    """,
)
_COUNT_FROM_ONE = Phrases.of(
    """
    Count to {b}.
    Count up to {b}.
    Please count to {b}.
    Can you count to {b}?
    Count to {b}, please.
    Please count up to {b} for me.
    Could you please count to {b}?
    Would you count up to {b}?
    I want you to count to {b}.
    """,
    """
    Could you count up to {b}?
    Count to {b} for me.
    """,
)
_ODDITIES = (
    "héllo",
    "naïve",
    "café",
    "über",
    "señor",
    "łódź",
    "日本",
    "😀",
    "🌍",
    "→",
    "Ωmega",
    "привет",
    "ça va",
    "10€",
    "x²",
    "👍🏽",
)
_MARKS = ("!", "?", ".", "...", "!!", " :)", "-", ";")


def echo(draw: Draw) -> Exchange:
    """Ask for a few arbitrary words back."""
    text = _echoed(draw)
    user = dress(draw, draw.phrase(_ECHO), closing=False, x=text)
    if not user.endswith((text, '"')):  # a dropped or added mark would change what is to be repeated
        user = f"Repeat after me: {text}"
    return Exchange("echo", user, text, "The user wants me to repeat the words. I repeat them exactly.")


def spell(draw: Draw) -> Exchange:
    """Ask how a word is spelled."""
    word = spelled(draw)
    user = dress(draw, draw.phrase(_SPELL), w=word)
    return Exchange("spell", user, f"{_dashes(word)}.", f"The word is {word}. I say its letters one by one.")


def letters(draw: Draw) -> Exchange:
    """Ask how many letters a word has."""
    word = spelled(draw)
    numbered = ", ".join(f"{letter} {i}" for i, letter in enumerate(word, 1))
    user = dress(draw, draw.phrase(_LETTERS), w=word)
    reply = f"{_dashes(word)}: {len(word)} letters."
    return Exchange("letters", user, reply, f"I count the letters: {numbered}.", (f": {len(word)} letter",))


def count(draw: Draw) -> Exchange:
    """Ask for the numbers between two bounds, both included."""
    first, last = draw.fresh(lambda: _bounds(draw))
    phrases = _COUNT_FROM_ONE if first == 1 and draw.chance(0.4) else _COUNT
    user = dress(draw, draw.phrase(phrases), a=first, b=last)
    reply = ", ".join(map(str, range(first, last + 1))) + "."
    return Exchange("count", user, reply, f"I start at {first} and stop at {last}.")


def _echoed(draw: Draw) -> str:
    return draw.odds((0.15, _numbers), (0.1, _odd), (0.1, _sentence), (0.65, _phrase))(draw)


def _numbers(draw: Draw) -> str:
    return draw.fresh(lambda: " ".join(str(draw.number(0, 999)) for _ in range(draw.number(1, 4))))


def _odd(draw: Draw) -> str:
    return f"{draw.pick(_ODDITIES)} {several(draw, 0, 2)}".strip()


def _sentence(draw: Draw) -> str:
    return several(draw, 6, 14)


def _phrase(draw: Draw) -> str:
    text = draw.fresh(lambda: several(draw, 1, 5))
    text = text.capitalize() if draw.chance(0.3) else text
    return text + draw.pick(_MARKS) if draw.chance(0.3) else text


def spelled(draw: Draw) -> str:
    """Choose a word to spell."""
    # A common word may be one token whose letters have to be remembered, so only made-up words are held out.
    return draw.odds((0.45, fresh_word(draw)), (0.4, draw.pick(WORDS)), (0.15, draw.pick(NAMES + ONE_WORD_CITIES)))


def _bounds(draw: Draw) -> tuple[int, int]:
    if draw.chance(0.5):
        return 1, draw.number(2, 100 if draw.chance(0.2) else 30)
    first = draw.number(0, 90)
    return first, min(100, first + draw.number(2, 60 if draw.chance(0.1) else 15))


def _dashes(word: str) -> str:
    return "-".join(word)
