"""Which headers of a trace are handed on, and which are not."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from helexa.cortex.telemetry.trace_context import MAX_MEMBERS, MAX_STATE_BYTES, TraceContext, read

TRACE, SPAN = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"
PARENT = b"00-" + TRACE + b"-" + SPAN + b"-01"


def context(parent: bytes, *states: bytes) -> TraceContext | None:
    return read([(b"traceparent", parent), *((b"tracestate", state) for state in states)])


def state(*values: bytes) -> bytes:
    found = context(PARENT, *values)
    assert found is not None
    return found.state


def test_a_trace_is_handed_on_as_it_came() -> None:
    given_headers = [(b"traceparent", PARENT), (b"tracestate", b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")]
    found = read([(b"host", b"x"), *given_headers, (b"accept", b"*/*")])
    assert found is not None
    assert found.headers() == given_headers


def test_a_request_without_a_trace_has_none() -> None:
    assert read([(b"host", b"x")]) is None
    assert read([(b"tracestate", b"a=1")]) is None


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"00",
        PARENT[:-1],
        PARENT + b"0",
        PARENT + b"-",
        PARENT + b"-more",
        PARENT.upper(),
        b"ff" + PARENT[2:],
        b"0g" + PARENT[2:],
        b"00-" + b"0" * 32 + b"-" + SPAN + b"-01",
        b"00-" + TRACE + b"-" + b"0" * 16 + b"-01",
        b"00_" + TRACE + b"-" + SPAN + b"-01",
        b"00-" + TRACE + b"-" + SPAN + b"-1 ",
        PARENT + b"\r\nx-helexa-secret: y",
        PARENT + b"\n",
        PARENT + b"," + PARENT,
        b"01" + PARENT[2:] + b"x",
    ],
)
def test_a_parent_that_breaks_the_grammar_takes_its_state_with_it(wrong: bytes) -> None:
    assert context(wrong, b"a=1") is None


def test_two_parents_are_none() -> None:
    assert read([(b"traceparent", PARENT), (b"traceparent", PARENT)]) is None


@pytest.mark.parametrize("parent", [b"01" + PARENT[2:], b"cc" + PARENT[2:] + b"-what-may-come"])
def test_a_later_version_is_read_as_far_as_it_is_known_and_handed_on_as_ours(parent: bytes) -> None:
    found = context(parent)
    assert found is not None
    assert found.headers() == [(b"traceparent", PARENT)]


def test_flags_that_nobody_knows_are_not_handed_on() -> None:
    found = context(PARENT[:-2] + b"ff")
    assert found is not None
    assert found.headers() == [(b"traceparent", PARENT[:-2] + b"03")]


def test_states_in_several_headers_are_one_list_without_its_blanks() -> None:
    assert state(b" a=1 ,\tb@c=2", b"", b",, d=x y ") == b"a=1,b@c=2,d=x y"


@pytest.mark.parametrize(
    "wrong",
    [
        b"a",
        b"=1",
        b"a=",
        b"A=1",
        b"a=1,b",
        b"a=1=2",
        b"a=\xc3\xa4",
        b"a=1\x7f",
        b"a=1\nb=2",
        b"a=1,b=2,a=3",
        b"k" * 257 + b"=1",
        b"a=" + b"v" * 257,
        b",".join(b"k%d=1" % n for n in range(MAX_MEMBERS + 1)),
        b",".join(b"k%d=%s" % (n, b"v" * 250) for n in range(1 + MAX_STATE_BYTES // 250)),
    ],
)
def test_a_state_that_breaks_the_grammar_is_dropped_whole_and_the_parent_goes_on(wrong: bytes) -> None:
    assert context(PARENT, wrong) == TraceContext(TRACE, SPAN, 1)
    assert context(PARENT, b"good=1", wrong) == TraceContext(TRACE, SPAN, 1)


@pytest.mark.parametrize(
    "longest",
    [b"k" * 256 + b"=" + b"v" * 256, b",".join(b"k%d=1" % n for n in range(MAX_MEMBERS)), b"0@/*_-= !~"],
)
def test_the_most_of_a_state_that_is_allowed_is_handed_on(longest: bytes) -> None:
    assert state(longest) == longest


@given(st.binary(max_size=80), st.lists(st.binary(max_size=60), max_size=3))
def test_whatever_comes_what_goes_on_is_within_the_grammar(parent: bytes, states: list[bytes]) -> None:
    for given_parent in (parent, PARENT):
        found = context(given_parent, *states)
        for name, value in [] if found is None else found.headers():
            assert name in (b"traceparent", b"tracestate")
            assert re.fullmatch(rb"[\x20-\x7e]+", value)


@given(st.from_regex(r"\A[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z"))
def test_what_opentelemetry_makes_of_a_parent_so_do_we(parent: str) -> None:
    theirs = TraceContextTextMapPropagator().extract({"traceparent": parent})
    ours = context(parent.encode())
    assert (ours is None) == (not theirs)
