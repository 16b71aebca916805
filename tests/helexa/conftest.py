"""Fixtures that several tests of the gateway share."""

from collections.abc import AsyncIterator

import pytest
from fleets import in_flight
from gateways import Gateway


@pytest.fixture
async def gateways() -> AsyncIterator[list[Gateway]]:
    """Gateways to look after: at the end nothing is in flight, and their connections are closed."""
    found: list[Gateway] = []
    yield found
    for gateway in found:
        assert in_flight(gateway.router) == 0
        assert gateway.proxy.drain._scopes == set()
        await gateway.proxy.pool.aclose()
