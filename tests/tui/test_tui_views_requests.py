"""What the Requests screen makes of what a gateway tells."""

from typing import Any

import pytest
from console_traffic import DECODES, TRAFFIC, request
from hypothesis import given
from hypothesis import strategies as st

from tui import shapes
from tui.shapes import Request, Requests
from tui.views import requests as view
from tui.views.request_details import details, spent

KNOWN = shapes.read(Requests, TRAFFIC)


def read(told: dict[str, Any]) -> Request:
    return shapes.read(Request, told)


def numbers(order: str, *, ended: int = 0) -> list[int]:
    return [each.number for each in view.arranged(KNOWN, order, ended=ended)]


def test_what_runs_stands_above_what_has_ended() -> None:
    assert numbers("age", ended=9) == [41, 42, 44, 45, 46, 47, 43, 40, 39, 38, 37]
    assert numbers("age", ended=1) == [41, 42, 44, 45, 46, 47, 43]
    assert numbers("age") == [41, 42, 44, 45, 46, 47]


@pytest.mark.parametrize(
    ("order", "first"),
    [("tokens", [41, 42]), ("rate", [41, 42]), ("first token", [42, 41]), ("key", [42, 41]), ("model", [47, 46])],
)
def test_each_order_begins_with_what_is_looked_for(order: str, first: list[int]) -> None:
    assert numbers(order)[:2] == first
    assert numbers(order, ended=9)[:6] == numbers(order)


@given(st.integers(60, 400))
def test_columns_never_need_more_room_than_there_is(width: int) -> None:
    plan = view.columns(width)
    assert {"state", "model", "node", "key", "tokens", "rate", "first"} <= {column.key for column in plan}
    assert width < 80 or sum((column.width or 0) + 2 for column in plan) <= width - 2


@given(st.integers(80, 250))
def test_cells_fit_their_columns(width: int) -> None:
    plan = view.columns(width)
    for row in view.rows((*KNOWN.running, *KNOWN.ended), plan):
        for column in plan:
            assert getattr(row.cells[column.key], "cell_len", 0) <= (column.width or 0)


def test_of_a_long_models_name_the_publisher_goes_first() -> None:
    row = view.rows([read(request(1, model="mistralai/Mistral-7B"))], view.columns(80))[0]
    assert str(row.cells["model"]) == "Mistral-7B"


def test_what_a_client_calls_its_model_does_not_reach_the_terminal_as_it_is() -> None:
    evil = read(request(1, model="\x1b]0;owned\x07\n\x9b2J", key="\u202eecila", code="\x1b[2J"))
    shown = [str(cell) for cell in view.rows([evil], view.columns(250))[0].cells.values()]
    assert all(cell.isprintable() for cell in shown)
    assert all(line.isprintable() for line in details(evil, 60, unicode=True).plain.splitlines())


@pytest.mark.parametrize(
    ("status", "code", "failed"),
    [
        *((200, None, False), (499, "client_closed_request", False), (403, "request_cancelled", False)),
        *((403, "permission_denied", True), (503, "x", True), (None, None, False)),
        *((200, "request_cancelled", False), (200, "upstream_error", True)),
    ],
)
def test_neither_a_client_that_leaves_nor_an_operator_who_cancels_is_a_failure(
    status: int | None, code: str | None, *, failed: bool
) -> None:
    ended = read(request(1, "ended", status=status, code=code))
    assert view.has_failed(ended) == failed


@pytest.mark.parametrize(
    ("status", "code", "text"),
    [
        *((200, None, "✓ 200"), (200, "upstream_error", "✕ broken"), (429, "rate_limit_exceeded", "✕ 429")),
        *((200, "request_cancelled", "○ stopped"), (499, "client_closed_request", "○ left"), (None, None, "✓ ?")),
    ],
)
def test_a_stream_that_breaks_off_is_no_success_for_its_status(status: int | None, code: str | None, text: str) -> None:
    assert view.outcome(read(request(1, "ended", status=status, code=code))).plain == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0.0, "0ms"), (0.0316, "32ms"), (0.9996, "1.00s"), (9.996, "10.0s"), (42.14, "42.1s"), (720.0, "12m")],
)
def test_times_have_three_digits(value: float | None, text: str) -> None:
    assert view.seconds(value) == text


@given(
    st.sampled_from([*view.STATES, "ended", "?"]),
    st.floats(0, 1e6),
    st.none() | st.floats(0, 1e6),
    st.none() | st.floats(0, 1e6),
)
def test_the_parts_of_a_requests_time_are_all_of_it(
    state: str, whole: float, waited: float | None, first: float | None
) -> None:
    parts = spent(Request(state=state, seconds=whole, waited=waited, first_token=first))
    assert sum(parts) == pytest.approx(whole)
    assert min(parts) >= 0


def test_a_request_that_waits_has_done_nothing_else() -> None:
    assert spent(Request(state="waiting", seconds=3.0)) == (3.0, 0.0, 0.0)
    assert spent(Request(state="prefill", seconds=3.0, waited=1.0)) == (1.0, 2.0, 0.0)
    assert spent(Request(state="decode", seconds=3.0, waited=0.5, first_token=1.0)) == (0.5, 0.5, 2.0)


def test_details_tell_everything() -> None:
    text = details(read(DECODES), 60, unicode=False).plain
    for told in ("req-41", "/v1/chat/completions", "1,812 tokens, 1,536 of them cached", "531 tokens, 84.2 a second"):
        assert told in text
    assert "first token after 620ms" in text
    assert text.isascii() or "▶" in text


def test_details_tell_why_a_request_ended() -> None:
    text = details(read(request(1, "ended", status=503, code="no_capacity", ago=90.0, attempts=3)), 60, unicode=True)
    assert "90s ago, HTTP 503" in text.plain
    assert "no_capacity" in text.plain


def test_long_values_go_on_under_themselves() -> None:
    text = details(read(request(1, request_id="x" * 100)), 50, unicode=True).plain
    assert max(map(len, text.splitlines())) <= 50
    assert text.count("x") == 100


@given(st.integers(1, 60))
def test_a_bar_is_as_long_as_it_may_be_and_no_longer(width: int) -> None:
    lines = details(read(DECODES), width, unicode=False).plain.splitlines()
    (bar,) = [line for line in lines if line and set(line) <= set(".-#")]
    assert abs(len(bar) - max(10, width)) <= 1


@pytest.mark.parametrize("width", [40, 80, 250])
def test_the_line_above_fits_its_screen(width: int) -> None:
    assert view.summary(KNOWN, "rate", width, ended=False).cell_len <= width


def test_the_line_above_counts() -> None:
    text = view.summary(KNOWN, "rate", 200, ended=False).plain
    assert "6 running" in text
    assert "2 decode" in text
    assert "106 tok/s" in text
    assert "5 ended, 2 failed (hidden)" in text
    assert text.endswith("by rate")
    assert "failed" not in view.summary(Requests(), "age", 200, ended=True).plain


def test_of_a_request_from_the_future_what_is_known_is_shown() -> None:
    odd = read({"number": 7, "state": "teleported", "seconds": "soon", "rate": [], "status": {}, "more": 1})
    row = view.rows([odd], view.columns(250))[0]
    assert str(row.cells["state"]) == "? telepo…"
    assert "teleported" in details(odd, 60, unicode=True).plain
