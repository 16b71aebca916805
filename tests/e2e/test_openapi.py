"""Requests made from the document that a fleet serves, right ones and wrong ones: nothing is answered with a 500."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from harness import Fleet, make_fleet
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from helexa.cortex.openapi import document

pytestmark = pytest.mark.usefixtures("forked_fleets")
DOCUMENT = document()
API = schemathesis.openapi.from_dict(DOCUMENT)
ENDLESS = "/fleet/events"
"""Its answer has no end; it has tests of its own."""
OPERATIONS = [
    API[path][method.upper()] for path, methods in DOCUMENT["paths"].items() if path != ENDLESS for method in methods
]
CHECKS = [response_schema_conformance, content_type_conformance, status_code_conformance]
MODES = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
EXPLAINED = (502, 503, 504)
SECONDS = 12.0
"""For each operation; what is left of its examples then is drawn and not asked."""
FEW = {"max_tokens": 3, "max_completion_tokens": 3, "max_output_tokens": 3, "n": 2}


@schemathesis.serializer("application/toml")
def as_text(_: Any, value: Any) -> Any:
    """What is no string is sent as it prints: no topology either."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet of its own: what is drawn may load, unload and pin."""
    running = make_fleet(tmp_path_factory.mktemp("described")).start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def session() -> Any:
    with requests.Session() as found:
        yield found


def aimed(case: Any, *, known: bool) -> None:
    """Have some requests name a model that is there, so that more of them is looked at; and want little of it."""
    body = case.body
    if not isinstance(body, dict):
        return
    for name in FEW.keys() & body.keys():
        if type(body[name]) is int:
            body[name] = min(body[name], FEW[name])
    if known and isinstance(body.get("model"), str):
        body["model"] = "helexa/tiny"
        if "CountTokens" not in str(case.operation.body):
            body.setdefault("max_output_tokens" if "input" in body else "max_tokens", 3)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.label)
def test_no_request_meets_a_fault(fleet: Fleet, session: requests.Session, operation: Any) -> None:
    deadline = time.monotonic() + SECONDS

    @settings(
        max_examples=20,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data(), mode=st.sampled_from(MODES), known=st.booleans())
    def ask(data: st.DataObject, mode: GenerationMode, known: bool) -> None:  # noqa: FBT001 - drawn
        case = data.draw(operation.as_strategy(generation_mode=mode))
        if time.monotonic() > deadline:  # after the draw: what is drawn must not depend on the time
            return
        aimed(case, known=known)
        answer = case.call(base_url=fleet.url, session=session, timeout=30)
        excluded = [not_a_server_error] if answer.status_code in EXPLAINED else []
        case.validate_response(answer, checks=[*CHECKS, not_a_server_error], excluded_checks=excluded)
        assert answer.status_code != 500

    ask()


def test_the_fleet_serves_what_was_described_here(fleet: Fleet) -> None:
    assert httpx.get(f"{fleet.url}/openapi.json").json() == DOCUMENT


def test_the_fleet_still_serves(fleet: Fleet) -> None:
    assert fleet.get("/ready") == 200
    assert "Traceback" not in fleet.log.read_text()
