"""Fixtures that several tests of the gateway, and several of the neuron, share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from engine_port import FakeEngines
from fleets import in_flight
from gateways import Gateway
from neurons import app_of

from helexa.neuron.service import Service
from helexa.text import ChatTokenizer
from helexa.web.front import Front
from helexa.web.server import Drain
from helexa.wire.fleet import LoadRequest


@pytest.fixture
async def gateways() -> AsyncIterator[list[Gateway]]:
    """Gateways to look after: at the end nothing is in flight, and their connections are closed."""
    found: list[Gateway] = []
    yield found
    for gateway in found:
        assert in_flight(gateway.router) == 0
        assert gateway.proxy.drain._scopes == set()
        assert (gateway.proxy.bodies.held, gateway.proxy.admission.figures().in_flight) == (0, 0)
        await gateway.proxy.pool.aclose()


@pytest.fixture
def engines() -> FakeEngines:
    return FakeEngines()


@pytest.fixture
async def service(engines: FakeEngines, qwen: Path) -> Service:
    """A service with the model "m" loaded."""
    service = Service(engines, {"m": f"path:{qwen}"}.get)
    await service.load(LoadRequest("m"))
    return service


@pytest.fixture
def drain() -> Drain:
    return Drain()


@pytest.fixture
async def app(service: Service, drain: Drain) -> Front:
    """The application of a neuron without a secret."""
    return app_of(service, drain)


@pytest.fixture(scope="module")
def text(qwen: Path) -> ChatTokenizer:
    """The tokenizer of the model "m"."""
    return ChatTokenizer.load(qwen)
