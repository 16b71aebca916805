"""Synthetic prompts: so many tokens by the server's own count, and no two alike.

Every prompt of a length is the same words in another order. Tokenizers cut text at spaces before they do anything else,
so the order does not change the count; independent draws of words would: 128 tokens of them differ by 4 % and more.
And where the first words differ, no prefix cache finds anything.
"""

from collections.abc import Awaitable, Callable, Iterable
from random import Random
from typing import Final, TypeAlias

from attrs import frozen

from helexa.bench.client.exchanges import TargetError

Count: TypeAlias = Callable[[str], Awaitable[int]]
"""How many tokens a request with this text has, by the server's count; its template's are part of it."""
TOLERANCE: Final = 0.02
FEWEST: Final = 2
"""Tokens that a short prompt may be off."""
_LOOKS: Final = 12
_SHORTEST: Final = "a"
_MOST_FILLED: Final = 24
"""Tokens; a prompt must not become one of a single word."""
_NEAR: Final = 1.25
_CAREFUL: Final = 0.9
_STRIDE: Final = 8
_FIRST_WORDS: Final = 12
_MOST_WORDS: Final = 4
"""For each token that is wanted: a word has one at least, and no count that says otherwise is followed for ever."""
_WORDS: Final = tuple(
    """
    above across after again against alone along already also always among another answer apart apple around arrive
    autumn away back bank basket beach bear because become before began behind below bench beside better between
    beyond bird black blue boat body book both bottle bottom branch bread break bridge bright bring broad brother
    brown build burn busy button call camp candle carry castle catch cattle center chair change cheese child choose
    circle city clean clear climb clock close cloud coast coat coffee cold color come common cook copper corner
    cotton count country course cover cross crowd dance dark daughter deep desert desk different dinner distance
    door double down draw dream dress drink drive drop dry during each early earth east easy edge eight either empty
    engine enough evening every eye face fact fair fall family famous farm fast father feather feel fence field
    fifteen fight fill final find finger finish fire fish five flat floor flower follow food foot forest forget fork
    form forward found four free fresh friend front fruit full garden gather gentle give glass gold good grain grass
    gray great green ground group grow guess half hammer hand hang happy harbor hard hat have head hear heart heavy
    help high hill history hold hollow home honey hope horse hour house hundred hurry island journey keep kitchen
    knee know ladder lake lamp land large last late laugh lead leaf learn leather leave letter level light line
    listen little long look low lunch machine main market matter meadow measure meet metal middle milk minute mirror
    money month moon morning mother mountain mouth move music narrow near neck needle never new next night nine
    noise north nothing number ocean often old open orange order other outside over page paint pair paper park part
    path pencil people picture piece place plain plant plate play point pond power press quick quiet rain raise
    reach ready red rest rice ride right ring rise river road rock roof room root rope round row run salt sand sail
    school season second seed seven shade shape sharp sheep shelf ship shoe shop short shoulder silver simple sing
    sister six skin sky sleep slow small smoke smooth snow soft soil some song soon south space speak spoon spring
    square stand star start station step stick still stone stop storm story straight stream street strong summer sun
    supper sweet swim table tail talk tall ten then thick thin thousand thread three through thunder tie time tired
    today together tomorrow tooth top touch toward town train travel tree turn twelve twenty under until valley
    village visit voice wagon wait walk wall warm wash watch water way weather week west wheat wheel white whole
    wide wild wind window winter wish wonder wood wool word work world write yard year yellow young
    """.split()  # noqa: SIM905 - four hundred quoted words are no list that anybody reads
)


@frozen
class Bag:
    """Words that make a prompt of a known length in any order.

    Attributes:
        words: of them.
        tokens: of a request with them, by the server's count.
    """

    words: tuple[str, ...]
    tokens: int

    def prompt(self, random: Random) -> str:
        """A prompt like no other."""
        return " ".join(random.sample(self.words, len(self.words)))

    def sharing(self, random: Random, share: float, count: int) -> list[str]:
        """Prompts that begin with the same words, and end with others.

        Args:
            random: decides the order of words.
            share: of the words, how many they have in common, 0 to 1.
            count: of prompts.
        """
        words = random.sample(self.words, len(self.words))
        cut = min(round(share * len(words)), len(words) - 1)
        return [" ".join(words[:cut] + random.sample(words[cut:], len(words) - cut)) for _ in range(count)]


def words(count: int) -> tuple[str, ...]:
    """So many words, always the same: what is measured must not change from run to run."""
    return tuple(Random(7).choices(_WORDS, k=count))  # noqa: S311 - reproducible is the point


async def calibrate(tokens: int, count: Count) -> Bag:
    """The bag whose prompts have a number of tokens within 2 %, or 2 tokens where that is more.

    Args:
        tokens: wanted.
        count: asks the server; it is asked a few times, mostly with shorter texts.

    Raises:
        TargetError: what ``count`` raises; ``lying``: the count does not follow the text.
    """
    last = await _counted(words(_FIRST_WORDS), count)
    if last.tokens <= 0:
        raise TargetError("lying", "The server counts no tokens in a prompt that has words.")
    # The template's tokens are in this: more than a word has, so that the next one is too short rather than too long.
    slope, found = last.tokens / _FIRST_WORDS, {_FIRST_WORDS: last}
    for _ in range(_LOOKS):
        size = min(_next_size(last, tokens, slope), _MOST_WORDS * tokens)
        if size in found:
            break
        found[size] = await _counted(words(size), count)
        slope, last = _slope(last, found[size]), found[size]
    best = await _filled(tokens, list(found.values()), count)
    if abs(best.tokens - tokens) > max(FEWEST, TOLERANCE * tokens):
        raise TargetError("lying", f"No prompt of {tokens} tokens can be made: {best.tokens} is as near as it counts.")
    return best


async def _filled(tokens: int, found: Iterable[Bag], count: Count) -> Bag:
    """The nearest of these, or the longest that is too short, filled up with the shortest word there is."""
    ordered = sorted(found, key=lambda bag: abs(bag.tokens - tokens))
    lacking = [(tokens - bag.tokens, bag) for bag in ordered if 0 < tokens - bag.tokens <= _MOST_FILLED]
    if ordered[0].tokens == tokens or not lacking:
        return ordered[0]
    missing, short = lacking[0]
    return min(
        ordered[0],
        await _counted((*short.words, *[_SHORTEST] * missing), count),
        key=lambda bag: abs(bag.tokens - tokens),
    )


def _next_size(last: Bag, tokens: int, slope: float) -> int:
    """How many words to try next. Far from the goal it is approached from below: behind it a context may end."""
    size = len(last.words)
    wanted = size + (tokens - last.tokens) / slope
    if wanted > size * _NEAR:
        wanted = min(size + _CAREFUL * (wanted - size), size * _STRIDE)
    return max(1, round(wanted))


async def _counted(chosen: tuple[str, ...], count: Count) -> Bag:
    return Bag(chosen, await count(" ".join(chosen)))


def _slope(one: Bag, other: Bag) -> float:
    """Tokens per word between two bags of different sizes."""
    found = (other.tokens - one.tokens) / (len(other.words) - len(one.words))
    if found <= 0:
        raise TargetError("lying", "The server's count of a prompt's tokens does not grow with the prompt.")
    return found
