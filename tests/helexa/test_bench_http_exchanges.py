"""What is read from an answer: JSON, and the reason in an error."""

from typing import Any

import orjson
import pytest

from helexa.bench.client.http import Exchange, TargetError, refusal


def exchange(body: bytes = b"", status: int = 200, **more: Any) -> Exchange:
    return Exchange(status, more.pop("headers", {}), 1.0, 2.0, 3.0, body=body, **more)


def test_a_body_that_is_json_is_decoded() -> None:
    assert exchange(b'{"a": 1}').json() == {"a": 1}


@pytest.mark.parametrize("body", [b"", b"<html>", b"{", b"\xff"])
def test_a_body_that_is_no_json_is_an_error(body: bytes) -> None:
    with pytest.raises(TargetError, match=r"^Its answer, with status 200, is no JSON\.$") as caught:
        exchange(body).json()
    assert caught.value.code == "protocol"


def test_events_are_no_json() -> None:
    with pytest.raises(TargetError, match=r"^Its answer, with status 200, is a stream of events\.$"):
        exchange(events=((1.0, b"{}"),)).json()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"message": "No such model.", "type": "x"}}, ": No such model."),
        ({"error": "model 'x' not found"}, ": model 'x' not found"),
        ({"object": "error", "message": "too long"}, ": too long"),
        ({"detail": "Not Found"}, ": Not Found"),
        ({"detail": [{"loc": ["body"], "msg": "missing"}]}, ': [{"loc":["body"],"msg":"missing"}]'),
        ({"error": {"code": 5}}, ': {"code":5}'),
        ({"error": None}, "."),
        (["a"], ': ["a"]'),
        ("just text", ": just text"),
    ],
)
def test_an_error_says_what_the_server_says(body: Any, said: str) -> None:
    assert str(refusal(exchange(orjson.dumps(body), 400))) == f"It answered with status 400{said}"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "."),
        (b"  <!DOCTYPE html><html>", "."),
        (b"busy\r\n\x1b[31m now\x00\n", ": busy [31m now"),
        (b"\xff\xfe", ": ��"),
        (b"x" * 1000, ": " + "x" * 299 + "…"),
        (b"{" * 500_000, ": " + "{" * 299 + "…"),
    ],
)
def test_an_error_that_is_no_json_is_one_short_printable_line(body: bytes, said: str) -> None:
    assert str(refusal(exchange(body, 503))) == f"It answered with status 503{said}"


def test_an_error_may_come_as_an_event() -> None:
    events = ((1.0, b'{"error": {"message": "no room"}}'),)
    assert str(refusal(exchange(b"", 500, events=events))) == "It answered with status 500: no room"


def test_a_redirection_says_where_to() -> None:
    told = refusal(exchange(b"moved", 308, headers={"location": "https://there/v1"}))
    assert str(told) == "It answered with status 308: it is to be asked at https://there/v1 instead"
    assert (told.code, told.message) == ("refused", str(told))


@pytest.mark.parametrize(("status", "ok"), [(200, True), (204, True), (301, False), (404, False), (500, False)])
def test_only_success_is_ok(status: int, *, ok: bool) -> None:
    assert exchange(b"", status).ok is ok
