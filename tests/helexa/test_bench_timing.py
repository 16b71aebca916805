"""What is read off a stream, and what is not believed."""

from contextlib import suppress
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.bench.client.exchanges import Exchange, TargetError
from helexa.bench.measuring import timing

USAGE = {"prompt_tokens": 20, "completion_tokens": 3}


def delta(**said: Any) -> dict[str, Any]:
    return {"choices": [{"delta": said, "finish_reason": None}]}


FINISH = {"choices": [{"delta": {}, "finish_reason": "length"}]}


def told(**used: Any) -> dict[str, Any]:
    return {"choices": [], "usage": {**USAGE, **used}}


def exchange(*events: tuple[float, Any], done: bool = True, sent_at: float = 10.0, ended_at: float = 13.0) -> Exchange:
    data = tuple((at, each if isinstance(each, bytes) else orjson.dumps(each)) for at, each in events)
    return Exchange(200, {}, sent_at, sent_at, ended_at, data, done)


def three(**used: Any) -> Exchange:
    """Three tokens at 11, 11.5 and 12.5 s."""
    pieces = [(at, delta(content="a")) for at in (11.0, 11.5, 12.5)]
    return exchange((10.5, delta(role="assistant", content="")), *pieces, (12.5, FINISH), (12.6, told(**used)))


def fault(found: Exchange, **settings: Any) -> tuple[str, str]:
    with pytest.raises(TargetError) as caught:
        timing.read(found, **{"max_tokens": 3, **settings})
    return caught.value.code, caught.value.message


def test_the_first_token_is_the_first_content_and_not_the_role() -> None:
    found = timing.read(three(), max_tokens=3)
    assert (found.ttft, found.total, found.gaps) == (1.0, 3.0, (0.5, 1.0))


def test_the_decode_rate_is_of_the_tokens_after_the_first() -> None:
    assert timing.read(three(), max_tokens=3).decode_rate == pytest.approx(2 / 1.5)


def test_tokens_that_show_no_text_count_until_the_end_of_the_answer() -> None:
    """Ends that were to be ignored are no text; without them 63 tokens seem to come in the time of the first ten."""
    events = [(11.0, delta(content="a")), (11.5, delta(content="b")), (15.0, FINISH), (15.0, told(completion_tokens=9))]
    found = timing.read(exchange(*events, ended_at=15.1), max_tokens=9)
    assert found.decode_rate == pytest.approx(8 / 4.0)
    assert found.gaps == (0.5,)


@pytest.mark.parametrize("piece", [{"reasoning_content": "a"}, {"reasoning": "a"}, {"tool_calls": [{"index": 0}]}])
def test_reasoning_and_calls_are_content(piece: dict[str, Any]) -> None:
    found = exchange((11.0, delta(**piece)), (12.0, delta(content="b")), (12.0, told()))
    assert timing.read(found, max_tokens=3).ttft == 1.0


def test_text_completions_are_read_alike() -> None:
    found = exchange((11.0, {"choices": [{"text": "a"}]}), (12.0, told()))
    assert timing.read(found, max_tokens=3).ttft == 1.0


def test_under_load_time_counts_from_when_a_request_was_due() -> None:
    found = timing.read(three(), max_tokens=3, since=9.0)
    assert (found.ttft, found.total) == (2.0, 4.0)


def test_what_came_all_at_once_has_no_decode_rate() -> None:
    found = timing.read(exchange((11.0, delta(content="abc")), (11.0, FINISH), (11.0, told())), max_tokens=3)
    assert (found.decode_rate, found.tpot, found.gaps) == (None, None, ())


def test_cached_tokens_are_told() -> None:
    assert timing.read(three(prompt_tokens_details={"cached_tokens": 16}), max_tokens=3).cached_tokens == 16
    assert timing.read(three(), max_tokens=3).cached_tokens is None


@pytest.mark.parametrize(
    ("found", "settings", "code", "said"),
    [
        (three(completion_tokens=4), {}, "lying", "4 tokens where 3 were the most"),
        (three(completion_tokens=0), {}, "lying", "no tokens, and text came"),
        (three(prompt_tokens=60), {"prompt_tokens": 20}, "lying", "60 tokens of a prompt"),
        (three(prompt_tokens="many"), {}, "usage_missing", "no count of prompt_tokens"),
        (three(completion_tokens=-1), {}, "usage_missing", "no count of completion_tokens"),
        (three(completion_tokens=True), {}, "usage_missing", "no count of completion_tokens"),
        (exchange((11.0, delta(content="a"))), {}, "usage_missing", "does not tell"),
        (exchange((11.0, {**delta(content="a"), "usage": None})), {}, "usage_missing", "does not tell"),
        (exchange((11.0, FINISH), (11.0, told())), {}, "protocol", "No content came, though 3"),
        (exchange(), {}, "protocol", "no stream"),
        (exchange((11.0, delta(content="a")), (11.0, told()), done=False), {}, "protocol", "ended before"),
        (exchange((11.0, b"{")), {}, "protocol", "not JSON"),
        (exchange((11.0, b"[]")), {}, "protocol", "no JSON object"),
        (
            exchange((11.0, {"error": {"message": "out of memory"}})),
            {},
            "refused",
            "broke the answer off: out of memory",
        ),
        (exchange((11.0, {"error": "gone"})), {}, "refused", "broke the answer off: gone"),
        (exchange((12.0, delta(content="a")), (11.0, delta(content="b")), (12.0, told())), {}, "lying", "backwards"),
        (exchange((9.0, delta(content="a")), (12.0, told())), {}, "lying", "backwards"),
        (exchange((11.0, delta(content="a")), (14.0, told())), {}, "lying", "backwards"),
        (exchange((10.0, delta(content="a")), (12.0, told())), {}, "lying", "before it was asked"),
    ],
)
def test_what_cannot_be_measured_has_its_reason(
    found: Exchange, settings: dict[str, Any], code: str, said: str
) -> None:
    found_code, sentence = fault(found, **settings)
    assert (found_code, said in sentence) == (code, True), sentence


def test_more_pieces_than_tokens_are_not_believed() -> None:
    pieces = [(11.0 + each / 100, delta(content="a")) for each in range(20)]
    code, said = fault(exchange(*pieces, (12.0, told())))
    assert (code, "in 20 pieces, more than the 3 tokens" in said) == ("lying", True)


def test_a_token_may_come_in_two_pieces() -> None:
    """One may end the reasoning and begin the text behind it."""
    pieces = [(11.0 + each / 10, delta(content="a")) for each in range(5)]
    assert timing.read(exchange(*pieces, (12.0, told())), max_tokens=3).tokens == 3


def test_times_may_be_out_of_order_by_what_two_clocks_differ() -> None:
    events = [(11.0, delta(content="a")), (10.9995, delta(content="b")), (11.2, told())]
    assert timing.read(exchange(*events), max_tokens=3).gaps == (0.0,)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40), st.floats(0, 1))
def test_a_percentile_is_between_the_smallest_and_the_largest(values: list[float], share: float) -> None:
    found = timing.percentile(values, share)
    assert min(values) <= found <= max(values)
    assert (timing.percentile(values, 0), timing.percentile(values, 1)) == (min(values), max(values))


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=40))
def test_percentiles_grow(values: list[float]) -> None:
    found = [timing.percentile(values, share / 10) for share in range(11)]
    assert all(low <= high + 1e-6 for low, high in pairwise(found))


@given(st.binary(max_size=60))
def test_whatever_a_server_sends_ends_in_a_timing_or_a_reason(data: bytes) -> None:
    with pytest.raises(TargetError):
        timing.read(exchange((11.0, data)), max_tokens=3)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["choices", "delta", "content", "usage", "error", "text"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.lists(_JSON, max_size=4))
def test_json_of_any_shape_ends_in_a_timing_or_a_reason(events: list[Any]) -> None:
    found = exchange((11.0, delta(content="a")), *((11.0, each) for each in events), (11.0, told()))
    with suppress(TargetError):
        assert timing.read(found, max_tokens=3).ttft == 1.0
