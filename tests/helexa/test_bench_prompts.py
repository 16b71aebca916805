"""Prompts of a length by the server's own count, no two alike."""

import re
from random import Random

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from helexa.bench.client.exchanges import TargetError
from helexa.bench.measuring import prompts
from helexa.bench.measuring.prompts import Bag, Count


def counter(overhead: int, chars: int, asked: list[int] | None = None) -> Count:
    """A server that cuts every word into pieces of so many characters."""

    async def count(text: str) -> int:
        found = overhead + sum(-(-len(word) // chars) for word in text.split())
        if asked is not None:
            asked.append(found)
        return found

    return count


def calibrated(tokens: int, count: Count) -> Bag:
    return trio.run(prompts.calibrate, tokens, count)


@given(st.integers(32, 20_000), st.integers(0, 25), st.integers(1, 12))
def test_a_prompt_has_its_tokens_within_2_percent(tokens: int, overhead: int, chars: int) -> None:
    asked: list[int] = []
    bag = calibrated(tokens, counter(overhead, chars, asked))
    assert abs(bag.tokens - tokens) <= max(2, 0.02 * tokens)
    assert len(asked) <= 14


@given(st.integers(200, 20_000), st.integers(0, 25), st.integers(1, 12))
def test_what_is_asked_on_the_way_is_hardly_longer_than_what_is_wanted(tokens: int, overhead: int, chars: int) -> None:
    """Behind it a context may end: a server refuses what does not fit."""
    asked: list[int] = []
    calibrated(tokens, counter(overhead, chars, asked))
    assert max(asked) <= 1.06 * tokens + 2 * 9


def test_the_order_of_words_does_not_change_the_count_and_the_beginning_differs() -> None:
    count = counter(7, 3)
    bag = calibrated(500, count)
    drawn = [bag.prompt(Random(seed)) for seed in range(20)]
    assert {trio.run(count, prompt) for prompt in drawn} == {bag.tokens}
    assert len(set(drawn)) == 20
    assert len({tuple(each.split()[:3]) for each in drawn}) == 20


def test_one_seed_draws_one_prompt() -> None:
    bag = Bag(prompts.words(50), 50)
    assert bag.prompt(Random("a")) == bag.prompt(Random("a")) != bag.prompt(Random("b"))


@given(st.floats(0.01, 1.0), st.integers(2, 200))
def test_shared_prompts_begin_alike_and_are_as_long(share: float, size: int) -> None:
    bag = Bag(prompts.words(size), size)
    drawn = [each.split() for each in bag.sharing(Random(1), share, 4)]
    common = min(round(share * size), size - 1)
    assert {tuple(each[:common]) for each in drawn} == {tuple(drawn[0][:common])}
    assert {tuple(sorted(each)) for each in drawn} == {tuple(sorted(bag.words))}


def test_words_are_plain_and_always_the_same() -> None:
    found = prompts.words(1000)
    assert all(re.fullmatch("[a-z]+", word) for word in found)
    assert found[:5] == prompts.words(5)


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (lambda _: 20, "does not grow"),
        (lambda _: 0, "counts no tokens"),
        (lambda text: 5000 + len(text), "No prompt of 128 tokens can be made"),
    ],
)
def test_a_count_that_follows_no_text_is_not_believed(count: object, said: str) -> None:
    async def told(text: str) -> int:
        return count(text)  # type: ignore[operator]

    with pytest.raises(TargetError, match=said) as caught:
        calibrated(128, told)
    assert caught.value.code == "lying"


def test_what_goes_wrong_while_counting_is_told() -> None:
    async def told(_text: str) -> int:
        raise TargetError("unreachable", "gone")

    with pytest.raises(TargetError, match="gone"):
        calibrated(128, told)


def test_a_count_that_hardly_grows_is_not_followed_into_endless_prompts() -> None:
    asked: list[int] = []

    async def told(text: str) -> int:
        asked.append(len(text.split()))
        return len(asked)

    with pytest.raises(TargetError, match="No prompt of 128 tokens can be made"):
        calibrated(128, told)
    assert max(asked) <= 4 * 128 + 24
