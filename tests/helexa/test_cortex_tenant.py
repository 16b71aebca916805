"""Whose request it is, from a client's key to the header a neuron reads: told by the gateway, and by nobody else."""

import pytest
import trio
from gateways import ANSWER, PATH, REQUEST, Gateway, app_of, gateway_to
from http_parts import Call, Script, plays, start_script, whole

from helexa.cortex.access.auth import Gate, Key, sha256
from helexa.wire import tenant

INFERENCE = frozenset({"inference"})
NAMES = {"team-key": "team-a", "odd-key": "J. Döe\r\nx-forged: 1", "long-key": "x" * 500}
KEYS = {sha256(key.encode()): Key(name, "account", INFERENCE) for key, name in NAMES.items()}
FORGED = (b"x-helexa-tenant", b"someone-else")


async def ask(script: Script, gateways: list[Gateway], gate: Gate, *headers: tuple[bytes, bytes]) -> list[bytes]:
    """The tenants a node was told when a client with these headers asked."""
    gateways.append(gateway_to({"a": script.url}))
    app = app_of(gateways[-1], gate)
    call = await Call.post(PATH, REQUEST, list(headers)).run(app)
    assert call.status == 200, call.answer
    lines = script.requests[-1][0].split(b"\r\n")
    assert not any(line.startswith(b"x-forged") for line in lines)
    return [line.partition(b": ")[2] for line in lines if line.lower().startswith(tenant.HEADER)]


@pytest.fixture
async def script(nursery: trio.Nursery) -> Script:
    return await start_script(nursery, plays(whole(ANSWER)))


@pytest.mark.parametrize("forged", [[], [FORGED], [FORGED, FORGED]])
@pytest.mark.parametrize("key", NAMES)
async def test_a_node_is_told_whose_key_it_was_whatever_the_client_says(
    script: Script, gateways: list[Gateway], key: str, forged: list[tuple[bytes, bytes]]
) -> None:
    gate = Gate(required=True, keys=KEYS)
    (told,) = await ask(script, gateways, gate, *forged, (b"authorization", b"Bearer " + key.encode()), *forged)
    assert told == tenant.write(NAMES[key])
    assert tenant.read(told)


@pytest.mark.parametrize("headers", [[], [FORGED], [(b"authorization", b"Bearer team-key"), FORGED]])
async def test_without_keys_nobody_is_named(
    script: Script, gateways: list[Gateway], headers: list[tuple[bytes, bytes]]
) -> None:
    assert await ask(script, gateways, Gate(required=False), *headers) == []
