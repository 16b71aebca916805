"""Whatever an upstream sends, its client gets an answer or an error of its dialect, and never a fault of ours."""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from http_parts import sse_data
from hypothesis import given, settings
from hypothesis import strategies as st
from upstream_answers import STREAMS, WHOLE

from helexa.cortex.exchange import kinds
from helexa.cortex.exchange.dialects import DIALECTS, Asked
from helexa.cortex.exchange.kinds import Kind, Way
from helexa.wire import errors
from helexa.wire.errors import ApiError

KINDS = {"neuron": kinds.NEURON, "openai": kinds.OPENAI, "anthropic": kinds.ANTHROPIC, "ollama": kinds.OLLAMA}
BODY = {"model": "m", "max_tokens": 9, "prompt": "hi", "input": "hi", "messages": [{"role": "user", "content": "hi"}]}
PAIRS = [
    (path, kind)
    for path in DIALECTS
    for kind in KINDS
    if path != "/v1/messages/count_tokens" and path not in KINDS[kind].verbatim
]
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**53) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["type", "x", "content"]), inner),
    max_leaves=4,
)


def asked(path: str, *, stream: bool) -> Asked:
    body = {**BODY, "stream": stream}
    return Asked(DIALECTS[path], orjson.dumps(body), body, "m", "id")


def way_of(path: str, kind: Kind) -> Way:
    found = kinds.way(DIALECTS[path], kind)
    assert found is not None
    return found


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in a JSON value there is something to replace."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from places(each, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], junk: Any) -> Any:
    if not path:
        return junk
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], junk)
    return copy


@st.composite
def spoilt(draw: st.DrawFn, value: Any) -> Any:
    """A JSON value with junk in one or two places."""
    for _ in range(draw(st.integers(1, 2))):
        value = replaced(value, draw(st.sampled_from(list(places(value)))), draw(JUNK))
    return value


@st.composite
def spoilt_stream(draw: st.DrawFn, kind: str) -> bytes:
    """A stream with one event spoilt."""
    end = b"\n" if kind == "ollama" else b"\n\n"
    events = STREAMS[kind][1].split(end)
    at = draw(st.sampled_from([at for at, event in enumerate(events) if b"{" in event]))
    head, _, data = events[at].partition(b"{")
    events[at] = head + orjson.dumps(draw(spoilt(orjson.loads(b"{" + data))))
    return end.join(events)


@pytest.mark.parametrize(("path", "kind"), PAIRS)
@settings(max_examples=30)
@given(data=st.data())
def test_a_spoilt_answer_is_an_answer_or_an_error(path: str, kind: str, data: st.DataObject) -> None:
    request = asked(path, stream=False)
    answer = orjson.dumps(data.draw(spoilt(WHOLE[kind])))
    try:
        found = orjson.loads(way_of(path, KINDS[kind]).whole(request, answer))
    except (ApiError, ValueError) as error:
        assert isinstance(error, ApiError) or str(error).startswith(("it ", "its "))  # noqa: PT017 - one of two outcomes
    else:
        assert isinstance(found, dict)


@pytest.mark.parametrize(("path", "kind"), PAIRS)
@settings(max_examples=30)
@given(data=st.data())
def test_a_spoilt_stream_is_events_to_its_end(path: str, kind: str, data: st.DataObject) -> None:
    request = asked(path, stream=True)
    stream = data.draw(spoilt_stream(kind))
    cut = data.draw(st.integers(0, len(stream)))
    relay, written = way_of(path, KINDS[kind]).relay(request), b""
    try:
        for piece in (stream[:cut], stream[cut:]):
            written += b"" if relay.complete else relay.push(piece)
        written += relay.finish()
    except (ApiError, ValueError) as error:
        assert isinstance(error, ApiError) or str(error).startswith(("it ", "its "))  # noqa: PT017 - one of two outcomes
        written += relay.fail(errors.internal())
    assert sse_data(written)


DEEP = b"[" * 500 + b"]" * 500


@pytest.mark.parametrize(("path", "kind"), PAIRS)
def test_an_answer_nested_deeper_than_can_be_written_is_the_upstreams_fault(path: str, kind: str) -> None:
    for spot in (b"3", orjson.dumps(WHOLE[kind]["model"])):
        answer = orjson.dumps(WHOLE[kind]).replace(spot, DEEP)
        try:
            way_of(path, KINDS[kind]).whole(asked(path, stream=False), answer)
        except ValueError as error:
            assert str(error).startswith(("it ", "its "))  # noqa: PT017 - some dialects have no room for it and pass it over


def test_a_response_nested_deeper_than_can_be_written_is_the_upstreams_fault() -> None:
    answer = b'{"object": "response", "x": ' + DEEP + b"}"
    with pytest.raises(ValueError, match=r"^its answer is nested too deep$"):
        way_of("/v1/responses", kinds.OPENAI_RESPONSES).whole(asked("/v1/responses", stream=False), answer)
