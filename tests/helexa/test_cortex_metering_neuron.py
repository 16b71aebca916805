"""A gateway that books in front of a neuron that meters: both as they are, with a socket between them."""

from typing import Any

import orjson
import pytest
import trio
from charges import FakeLedger, metering, request
from engine_port import FakeEngines, Submitted
from gateways import Gateway, gateway_of, topology_of
from http_parts import start_app
from neurons import app_of

from helexa.neuron.ports import End
from helexa.neuron.service import Service
from helexa.text import ChatTokenizer
from helexa.web.server import Drain

SECRET = "s3cret"
CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
HELLO = [{"role": "user", "content": "Hello"}]
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": HELLO},
    "/v1/completions": {"prompt": "Hello", "max_tokens": 20},
    RESPONSES: {"input": "Hello"},
    MESSAGES: {"messages": HELLO, "max_tokens": 20},
}


@pytest.fixture
async def fronted(
    nursery: trio.Nursery, gateways: list[Gateway], service: Service, drain: Drain
) -> tuple[Gateway, FakeLedger]:
    """The gateway, with the ledger it books in."""
    port = await start_app(nursery, app_of(service, drain, SECRET))
    ledger = FakeLedger()
    topology = topology_of({"a": f"http://127.0.0.1:{port}"}, {})
    gateways.append(gateway_of(topology, SECRET, metering=metering(ledger)))
    return gateways[-1], ledger


def says(engines: FakeEngines, text: ChatTokenizer, words: str, limit: int | None = None) -> list[int]:
    """Whatever is asked, the engine says this, as much of it as it may."""
    ids = text.encode(words)[:limit]

    def script(submitted: Submitted) -> None:
        submitted.cached_tokens = 2
        submitted.extend(ids[: submitted.sampling.max_tokens])
        submitted.finish(End("stop"))

    engines.on_submit = script
    return ids


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", BODIES)
async def test_what_is_booked_is_what_the_engine_made(
    fronted: tuple[Gateway, FakeLedger],
    engines: FakeEngines,
    text: ChatTokenizer,
    path: str,
    stream: bool,  # noqa: FBT001 - one of a table
) -> None:
    gateway, ledger = fronted
    ids = says(engines, text, "Hello you there")
    body = orjson.dumps({"model": "m", "stream": stream, **BODIES[path]})
    call = await request(body, path).run(gateway.app)
    assert call.status == 200
    assert b":u " not in call.answer
    assert not {b"x-helexa-usage", b"x-helexa-meter"} & set(call.headers)
    assert ledger.only.delivered == (len(engines.submitted[0].prompt_ids), len(ids), 2)


async def test_a_neuron_keeps_to_what_the_ledger_grants(
    fronted: tuple[Gateway, FakeLedger], engines: FakeEngines, text: ChatTokenizer
) -> None:
    gateway, ledger = fronted
    prompt = len(text.prompt_ids(HELLO))
    says(engines, text, "Hello you there and everybody else")
    ledger.grants = ((prompt + 3, 50, False),)
    body = orjson.dumps({"model": "m", "messages": HELLO})
    assert (await request(body).run(gateway.app)).status == 200
    assert engines.submitted[0].sampling.max_tokens == 3
    assert ledger.only.delivered == (prompt, 3, 2)


async def test_what_the_ledger_cannot_grant_is_refused_with_its_own_words(
    fronted: tuple[Gateway, FakeLedger], engines: FakeEngines, text: ChatTokenizer
) -> None:
    gateway, ledger = fronted
    prompt = len(text.prompt_ids(HELLO))
    ledger.grants = ((prompt + 3, 50, False),)
    body = orjson.dumps({"model": "m", "messages": HELLO, "max_tokens": 4})
    call = await request(body).run(gateway.app)
    assert (call.status, call.error["code"]) == (429, "insufficient_quota")
    assert (ledger.only.delivered, engines.submitted) == ((0, 0, 0), [])


async def test_a_template_that_adds_more_than_was_thought_possible_is_learnt_about(
    fronted: tuple[Gateway, FakeLedger], engines: FakeEngines, text: ChatTokenizer
) -> None:
    gateway, ledger = fronted
    prompt = len(text.prompt_ids(HELLO))
    says(engines, text, "Hello")
    ledger.grants = ((prompt, 50, True), (prompt + 5, 50, True))
    gateway.proxy.metering._surplus["m"] = -600
    body = orjson.dumps({"model": "m", "messages": HELLO, "max_tokens": 5})
    assert (await request(body).run(gateway.app)).status == 200
    assert [each.ask.prompt for each in ledger.charges] == [len(body) + 512 - 600, prompt]
    assert len(engines.submitted) == 1
