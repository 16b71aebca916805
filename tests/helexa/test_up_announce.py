"""What the operator reads while a fleet starts, and which part of a topology a host runs."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from attrs import evolve
from fleets import sighting

from actors.router import Router
from config import Address, Cortex, Entitlements, Model, Neuron, Topology
from helexa.cortex.routing.fleet import Node
from helexa.cortex.routing.state import NodeUp
from helexa.up.announce import announce, banner
from helexa.up.plan import Plan
from helexa.wire.fleet import Activation, ActivationFailure, DeviceInfo, ModelReport

LOCAL = Neuron("here")
REMOTE = Neuron("there", endpoint="http://there:13131")
TOPOLOGY = Topology(Cortex(listen=Address("0.0.0.0", 31313)), (LOCAL, REMOTE), (Model("m"), Model("x")))
LOADED = ModelReport("m", "loaded")


@pytest.fixture
def router() -> Router:
    return Router(TOPOLOGY)


def seen(*reports: ModelReport, **activation: Any) -> NodeUp:
    found = sighting(*reports, activation=Activation(**activation))
    return NodeUp("here", evolve(found, discovery=evolve(found.discovery, devices=(DeviceInfo(0, "cpu", "x", 1),))))


def node(name: str, *reports: ModelReport) -> Node:
    return Node(Neuron(name), up=True, sighting=sighting(*reports))


async def test_each_step_is_said_once(router: Router, autojump_clock: trio.testing.MockClock) -> None:
    said: list[str] = []
    pokes: list[float] = []
    router.on_poke("here", lambda: pokes.append(trio.current_time()))
    failed = (ActivationFailure("x", "no such file"),)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(announce, TOPOLOGY, [LOCAL], router, said.append, True)
        await trio.sleep(1)
        assert said == ["here: starting"]
        router.see(seen(pending=("x",), in_progress="m"))
        await trio.sleep(1)
        router.see(seen(LOADED, in_progress="x", completed=("m",)))
        await trio.sleep(1)
        router.see(seen(LOADED, state="ready", completed=("m",), failed=failed))
    assert said[1:7] == [
        "here: up at http://127.0.0.1:13131, cpu",
        "here: loading m",
        "here: loaded m",
        "here: loading x",
        "here: could not load x: no such file",
        "",
    ]
    assert said[7] == "helexa serves m on http://127.0.0.1:31313/v1"
    assert len(pokes) > 5


async def test_a_host_without_the_gateway_says_where_that_is() -> None:
    said: list[str] = []
    topology = evolve(TOPOLOGY, cortex=Cortex(host="gateway"))
    await announce(topology, [LOCAL], Router(topology), said.append, False)
    assert said == ["running here; the gateway is on host 'gateway'"]


def test_the_banner_names_each_model_of_the_fleet_once() -> None:
    nodes = [node("here", LOADED), node("there", LOADED, ModelReport("x", "loaded"), ModelReport("y", "failed"))]
    assert list(banner(TOPOLOGY, nodes))[1].startswith("helexa serves m, x on ")


def test_without_a_model_there_is_nothing_to_try() -> None:
    lines = list(banner(TOPOLOGY, []))
    assert lines[1] == "helexa serves no model yet on http://127.0.0.1:31313/v1"
    assert not any("curl" in line for line in lines)


@pytest.mark.parametrize("auth", [True, False])
def test_the_line_to_try_is_one_a_shell_understands(*, auth: bool) -> None:
    topology = evolve(TOPOLOGY, entitlements=Entitlements(require_auth=auth))
    (line,) = (line for line in banner(topology, [node("here", LOADED)]) if "curl" in line)
    words = shlex.split(line)
    assert words[:3] == ["try", "curl", "http://127.0.0.1:31313/v1/chat/completions"]
    assert ("authorization: Bearer YOUR_KEY" in words) == auth
    assert words[-1].startswith('{"model": "m"')


def test_a_host_runs_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    topology = Topology(
        Cortex(host="gateway", secret_env="FLEET_SECRET"),
        (
            Neuron("a", host="beast", endpoint="http://beast:1"),
            Neuron("b", host="gateway", endpoint="http://gateway:1"),
        ),
    )
    monkeypatch.setenv("FLEET_SECRET", "s")
    gateway, beast, stranger = (Plan.of(topology, Path("t.toml"), host) for host in ("gateway", "beast", "laptop"))
    assert (gateway.cortex, [each.name for each in gateway.neurons], gateway.secret) == (True, ["b"], "s")
    assert (beast.cortex, [each.name for each in beast.neurons]) == (False, ["a"])
    assert (stranger.cortex, stranger.neurons) == (False, ())
    assert gateway.path.is_absolute()


def test_one_box_runs_everything_and_an_empty_secret_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELEXA_SECRET", "")
    plan = Plan.of(TOPOLOGY, Path("t.toml"), "anything")
    assert (plan.cortex, plan.neurons, plan.secret) == (True, (LOCAL, REMOTE), None)
