"""Stop strings: property tests against a reference that sees the whole text at once."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.text import StopStrings

STOPS = st.lists(st.text("ab", min_size=1, max_size=5), max_size=4)


def reference(text: str, stops: list[str]) -> tuple[str, str | None]:
    """Earliest start, then longest."""
    found = [(text.find(stop), -len(stop), stop) for stop in stops if stop in text]
    if not found:
        return text, None
    start, _, stop = min(found)
    return text[:start], stop


def run(chunks: list[str], stops: list[str]) -> tuple[str, str | None]:
    stream = StopStrings(stops)
    text = "".join([stream.push(chunk) for chunk in chunks]) + stream.finish()
    return text, stream.matched


def cut(text: str, mask: int) -> list[str]:
    """Cut after each position whose bit in the mask is set."""
    cuts = [0, *(i for i in range(1, len(text)) if mask >> (i - 1) & 1), len(text)]
    return [text[a:b] for a, b in pairwise(cuts)]


@given(st.text("abc", max_size=24), STOPS, st.integers(min_value=0))
def test_any_chunking_gives_what_the_whole_text_gives(text: str, stops: list[str], mask: int) -> None:
    assert run(cut(text, mask), stops) == reference(text, stops)


@pytest.mark.parametrize(
    ("text", "stops"),
    [("xabcabdy", ["abd", "ca"]), ("aabaab", ["aab", "ab"]), ("abcabx", ["abcabd", "ca"]), ("END", ["EN", "END"])],
)
def test_every_single_chunking_of_a_text(text: str, stops: list[str]) -> None:
    expected = reference(text, stops)
    assert all(run(cut(text, mask), stops) == expected for mask in range(1 << (len(text) - 1)))


@given(st.text("ab", max_size=24), STOPS.filter(bool))
def test_held_text_is_shorter_than_the_longest_stop(text: str, stops: list[str]) -> None:
    stream, shown = StopStrings(stops), 0
    for count, char in enumerate(text, start=1):
        shown += len(stream.push(char))
        assert stream.matched is not None or count - shown < max(map(len, stops))


def test_text_that_cannot_belong_to_a_stop_comes_out_at_once() -> None:
    stream = StopStrings(["###"])
    assert [stream.push("hello"), stream.push(" #"), stream.push("1 ##")] == ["hello", " ", "#1 "]


def test_nothing_comes_out_after_a_match() -> None:
    stream = StopStrings(["\n\n"])
    assert stream.push("a\n\nb") == "a"
    assert (stream.push("more"), stream.finish(), stream.matched) == ("", "", "\n\n")


def test_of_two_stops_with_one_start_the_longer_wins() -> None:
    stream = StopStrings(["ab", "abc"])
    assert (stream.push("xab"), stream.matched) == ("x", None)
    assert (stream.push("c"), stream.matched) == ("", "abc")


def test_the_shorter_stop_is_found_when_the_longer_does_not_come() -> None:
    stream = StopStrings(["ab", "abc"])
    assert (stream.push("xab"), stream.finish(), stream.matched) == ("x", "", "ab")


def test_without_stops_all_text_passes() -> None:
    assert run(["a", "", "b"], []) == ("ab", None)


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one character"):
        StopStrings(["x", ""])
