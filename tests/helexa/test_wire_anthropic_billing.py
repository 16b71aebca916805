"""Billing headers go, everything else stays."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.wire.anthropic import billing

HEADER = "x-anthropic-billing-header: cc_version=2.1.177.01c; cc_entrypoint=cli; cch=36ee5;"
KEPT = {"type": "text", "text": "You are terse.", "cache_control": {"type": "ephemeral"}}


def block(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        ([block(HEADER), KEPT], [KEPT]),
        ([KEPT, block(HEADER)], [KEPT]),
        ([block(HEADER + "\n"), KEPT], [KEPT]),
        ([block(f"{HEADER}\n{HEADER}\nYou are terse.")], [block("You are terse.")]),
        ([{**KEPT, "text": HEADER + "\nYou are terse."}], [KEPT]),
        (HEADER + "\nYou are terse.", "You are terse."),
        (HEADER + "\r\nYou are terse.", "You are terse."),
        (HEADER + "\n\n  Indented.\n", "\n  Indented.\n"),
        (HEADER.upper() + "\nYou are terse.", "You are terse."),
    ],
)
def test_lines_at_the_beginning_of_a_system_text_go(system: Any, expected: Any) -> None:
    body = {"model": "m", "system": system, "messages": [{"role": "user", "content": HEADER}]}
    assert billing.strip(body) == {**body, "system": expected}


@pytest.mark.parametrize("system", [HEADER, HEADER + "\n\n", [block(HEADER)], [block(HEADER), block(HEADER + "\n")]])
def test_a_system_prompt_of_nothing_else_goes_altogether(system: Any) -> None:
    assert billing.strip({"model": "m", "system": system}) == {"model": "m"}


@pytest.mark.parametrize(
    "system",
    [
        None,
        "",
        7,
        {"text": HEADER},
        [],
        [KEPT],
        ["x-anthropic-billing-header: no block", 7, None, {"type": "text", "text": 7}],
        "It sends x-anthropic-billing-header: in its prompt.",
        "Headers:\n" + HEADER,
        " " + HEADER,
    ],
)
def test_what_has_no_header_is_the_very_same_object(system: Any) -> None:
    body = {"model": "m", "system": system, "messages": []}
    assert billing.strip(body) is body


def test_a_request_without_a_system_prompt_is_the_very_same_object() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": HEADER}]}
    assert billing.strip(body) is body


def test_two_requests_that_differ_in_their_headers_alone_become_the_same() -> None:
    one, other = ({"system": [block(f"x-anthropic-billing-header: cch={each};"), KEPT]} for each in ("36ee5", "0aaa9"))
    assert billing.strip(one) == billing.strip(other)


def test_the_request_itself_is_left_as_it_was() -> None:
    body = {"model": "m", "system": [block(HEADER + "\nYou are terse.")]}
    billing.strip(body)
    assert body == {"model": "m", "system": [block(HEADER + "\nYou are terse.")]}


@given(st.integers(0, 4), st.text(max_size=40).filter(str.strip), st.booleans())
def test_whatever_follows_the_headers_stays_to_the_letter(headers: int, rest: str, as_block: bool) -> None:  # noqa: FBT001 - Hypothesis fills it in
    text = f"{HEADER}\n" * headers + rest
    found = billing.strip({"system": [block(text)] if as_block else text})
    assert found == {"system": [block(rest)] if as_block else rest}
    assert billing.strip(found) is found
