"""The control plane over TLS: a neuron with a certificate of the fleet's own, and cortex, who trusts it or not."""

from pathlib import Path
from typing import Any

import pytest
import trio
from certificates import Authority
from engine_port import FakeEngines
from fleets import neuron as neuron_at
from neurons import app_of

from actors.control import ControlError, NeuronControl
from actors.poller import Poller
from actors.router import Router
from config import Topology
from helexa.cortex.routing.state import NodeDown, NodeUp
from helexa.neuron.service import Service
from helexa.web.server import Drain, bind, serve
from helexa.web.tls import client_context, server_context

SECRET = "s3cret"
DISTRUST = "its certificate is not to be trusted: unable to get local issuer certificate"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.in_(tmp_path)


@pytest.fixture
async def url(nursery: trio.Nursery, authority: Authority) -> str:
    """A neuron's real application behind TLS."""
    sock = bind("127.0.0.1", 0, "test")
    port = sock.getsockname()[1]
    app = app_of(Service(FakeEngines(), {}.get), Drain(), SECRET)
    await nursery.start(serve, app, sock, Drain(), server_context(authority.files(), "neurons.n.tls"))
    return f"https://127.0.0.1:{port}"


async def look(nursery: trio.Nursery, url: str, **trusted: Any) -> Any:
    router = Router(Topology(neurons=(neuron_at("n", endpoint=url),)))
    poller = Poller(router, SECRET, **trusted)

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        await poller.run(task_status=task_status)

    await nursery.start(run)
    with trio.fail_after(10):
        return await router.mailbox.receive()


async def test_the_poller_sees_a_neuron_whose_certificate_it_trusts(
    nursery: trio.Nursery, authority: Authority, url: str
) -> None:
    assert isinstance(await look(nursery, url, trusted=client_context(authority.ca)), NodeUp)


async def test_the_poller_says_that_it_does_not_trust_a_neuron(nursery: trio.Nursery, url: str) -> None:
    sight = await look(nursery, url)
    assert isinstance(sight, NodeDown)
    assert sight.error == DISTRUST


async def test_loads_are_asked_for_only_of_who_is_trusted(authority: Authority, url: str) -> None:
    async with NeuronControl(SECRET, client_context(authority.ca)) as control:
        await control.unload(url, "m")  # one that is not there is no error
    async with NeuronControl(SECRET) as control:
        with pytest.raises(ControlError) as raised:
            await control.unload(url, "m")
    assert str(raised.value) == DISTRUST
