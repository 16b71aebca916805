"""The document describes what is served, no more and no less, in schemas that hold together."""

import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import orjson
import pytest
from http_parts import Call, scope_of

from helexa.cortex.app import make_app
from helexa.cortex.events import EventLog
from helexa.cortex.openapi import document
from helexa.cortex.openapi.document import PATH
from helexa.web.front import Front
from helexa.wire import errors

DOCUMENT = document()
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}


def parts(value: Any) -> Iterator[dict[str, Any]]:
    """Every object inside the document."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from parts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from parts(inner)


def app() -> Front:
    """The gateway's application; nothing here asks anything of its parts."""
    nothing: Any = object
    proxy: Any = type("Proxy", (), {"observer": nothing})
    return make_app(proxy, nothing, nothing, nothing, EventLog(), nothing, nothing, loopback=False)


def in_braces(rule: str) -> str:
    """A rule as the document writes it: `/x/<path:model>` is `/x/{model}`."""
    return re.sub(r"<(?:[a-z]+:)?([a-z]+)>", r"{\1}", rule)


def served() -> set[str]:
    """What the application serves, in the document's way of writing it."""
    front = app()
    found = {
        f"{method} {in_braces(rule.rule)}"
        for rule in front.control.url_map.iter_rules()  # type: ignore[attr-defined]
        for method in (rule.methods or ()) - {"HEAD", "OPTIONS"}
    }
    return found | {f"POST {path}" for path in front.bare}


def test_what_is_served_is_described_and_the_other_way_round() -> None:
    assert served() == set(OPERATIONS)


def test_every_reference_leads_somewhere() -> None:
    found = {part["$ref"] for part in parts(DOCUMENT) if "$ref" in part}
    known = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert found <= known
    assert known <= found, "and no schema lies about unused"


def test_every_operation_has_a_name_of_its_own() -> None:
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("where", OPERATIONS)
def test_the_parameters_of_a_path_are_those_in_it(where: str) -> None:
    named = [each["name"] for each in OPERATIONS[where]["parameters"] if each["in"] == "path"]
    assert named == re.findall(r"\{(\w+)\}", where)


@pytest.mark.parametrize("where", OPERATIONS)
def test_errors_are_envelopes_of_the_paths_own_dialect(where: str) -> None:
    expected = "MessageError" if "/v1/messages" in where else "Error"
    for status, answer in OPERATIONS[where]["responses"].items():
        if status != "200":
            assert answer["content"]["application/json"]["schema"] == {"$ref": f"#/components/schemas/{expected}"}


def valid(name: str, value: Any) -> bool:
    schema = {**DOCUMENT["components"]["schemas"][name], "components": DOCUMENT["components"]}
    return bool(jsonschema_rs.validator_for(schema).is_valid(value))


def test_the_envelope_is_as_described() -> None:
    for error in (errors.missing("model"), errors.internal(), errors.unavailable("Not now.", 5)):
        assert valid("Error", error.envelope())


HELLO = {"role": "user", "content": "Hello"}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("ChatRequest", {"model": "m", "messages": [HELLO]}, True),
        ("ChatRequest", {"model": "m", "messages": [HELLO], "stop": "x", "seed": None, "user": "u"}, True),
        ("ChatRequest", {"model": "m", "messages": []}, False),
        ("ChatRequest", {"model": "m", "messages": [HELLO], "temperature": 3}, False),
        ("CompletionRequest", {"model": "m", "prompt": [[1, 2], [3]]}, True),
        ("CompletionRequest", {"model": "m"}, False),
        ("ResponseRequest", {"model": "m", "input": "Hello"}, True),
        ("ResponseRequest", {"model": "m", "input": [HELLO]}, True),
        ("ResponseRequest", {"model": "m", "input": 1}, False),
        ("MessageRequest", {"model": "m", "messages": [HELLO], "max_tokens": 1}, True),
        ("MessageRequest", {"model": "m", "messages": [HELLO]}, False),
        ("CountTokensRequest", {"model": "m", "messages": [HELLO]}, True),
        ("Pin", {"pinned": True}, True),
        ("Pin", {}, False),
    ],
)
def test_requests_are_told_apart(name: str, value: Any, expected: bool) -> None:  # noqa: FBT001 - a column of the table
    assert valid(name, value) is expected


async def test_the_document_is_served() -> None:
    call = await Call(scope_of("GET", PATH)).run(app().control)
    assert (call.status, call.headers[b"content-type"]) == (200, b"application/json")
    assert orjson.loads(call.answer) == DOCUMENT
