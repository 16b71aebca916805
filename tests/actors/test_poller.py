"""Watching neurons: a real client against servers that play what neurons and networks do."""

import orjson
import pytest
import trio
from attrs import evolve
from fleets import DISCOVERY, VERSION
from http_parts import start_app
from watching import GARBAGE, Neuron, start, watching

from actors import poller as poller_module
from helexa.cortex.routing.state import NodeDown, NodeUp
from helexa.wire.fleet import Activation, DeviceHealth, Health, ModelReport


@pytest.fixture
async def neuron(nursery: trio.Nursery) -> Neuron:
    return Neuron()


@pytest.fixture
async def url(nursery: trio.Nursery, neuron: Neuron) -> str:
    """A neuron that answers."""
    return f"http://127.0.0.1:{await start_app(nursery, neuron)}"


async def test_a_neuron_that_answers_is_up_as_it_says(nursery: trio.Nursery, neuron: Neuron, url: str) -> None:
    model = ModelReport("m", "loaded", "cpu", 12, running=1)
    neuron.health = Health("ok", 12.5, (DeviceHealth("cpu", 100, 50),), (model,), Activation("ready", completed=("m",)))
    watch = await start(nursery, watching(url))
    sight = await watch.up()
    assert (sight.node, sight.sighting.discovery, sight.sighting.version) == ("n", DISCOVERY, VERSION)
    assert (sight.sighting.models, sight.sighting.devices) == ((model,), neuron.health.devices)
    assert (sight.sighting.activation, sight.sighting.uptime_seconds) == (neuron.health.activation, 12.5)
    assert sight.sighting.actors[0].name == "device-worker:cpu"


async def test_what_does_not_change_is_asked_for_once(nursery: trio.Nursery, neuron: Neuron, url: str) -> None:
    watch = await start(nursery, watching(url))
    await watch.up()
    neuron.asked.clear()
    neuron.health = evolve(neuron.health, uptime_seconds=11.0)
    assert isinstance(await watch.next_look(), NodeUp)
    assert neuron.asked == ["/health", "/actors"]


async def test_a_restart_shows_in_the_uptime_and_has_everything_asked_again(
    nursery: trio.Nursery, neuron: Neuron, url: str
) -> None:
    watch = await start(nursery, watching(url))
    await watch.up()
    neuron.health = evolve(neuron.health, uptime_seconds=1.0)
    neuron.version = evolve(VERSION, version="0.2.0")
    sight = await watch.next_look()
    assert sight.sighting.version.version == "0.2.0"


async def test_one_that_was_away_is_asked_everything_again(nursery: trio.Nursery, neuron: Neuron, url: str) -> None:
    """It may have been away for longer than it had been up before, so that its uptime proves nothing."""
    watch = await start(nursery, watching(url))
    await watch.up()
    neuron.answers = {"/health": (503, b""), "/models": (503, b"")}
    assert isinstance(await watch.next_look(), NodeDown)
    neuron.answers.clear()
    neuron.health = evolve(neuron.health, uptime_seconds=99.0)
    neuron.version = evolve(VERSION, version="0.2.0")
    sight = await watch.next_look()
    assert sight.sighting.version.version == "0.2.0"


async def test_the_fleet_secret_is_sent(nursery: trio.Nursery, neuron: Neuron, url: str) -> None:
    await (await start(nursery, watching(url, secret="s3cret"))).up()
    assert neuron.headers[b"authorization"] == b"Bearer s3cret"


async def test_without_a_secret_none_is_sent(nursery: trio.Nursery, neuron: Neuron, url: str) -> None:
    await (await start(nursery, watching(url))).up()
    assert b"authorization" not in neuron.headers


async def test_nobody_listens(nursery: trio.Nursery) -> None:
    watch = await start(nursery, watching("http://127.0.0.1:1"))
    assert (await watch.down()).error.startswith("ConnectError: ")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (("/health", GARBAGE), "it does not answer as a neuron does: not a Health"),
        (("/health", (200, b"<html>It works!</html>")), "it does not answer as a neuron does: not a Health"),
        (("/health", (200, b"")), "it does not answer as a neuron does: not a Health"),
        (("/health", (200, b"[]")), "it does not answer as a neuron does: not a Health"),
        (("/health", (200, orjson.dumps({"status": "ok"}))), "it does not answer as a neuron does: not a Health"),
        (("/health", (404, b"no")), "it does not answer as a neuron does: GET /health gave status 404"),
        (("/health", (302, b"")), "it does not answer as a neuron does: GET /health gave status 302"),
        (("/health", (401, b"")), "GET /health gave status 401, as the two have different fleet secrets"),
        (("/discovery", GARBAGE), "it does not answer as a neuron does: not a Discovery"),
        (("/version", (500, b"")), "GET /version gave status 500"),
        (("/actors", (200, b"7")), "it does not answer as a neuron does"),
    ],
)
async def test_a_stranger_is_down_with_the_reason(
    nursery: trio.Nursery, neuron: Neuron, url: str, fault: tuple[str, tuple[int, bytes]], reason: str
) -> None:
    path, answer = fault
    neuron.answers[path] = answer
    watch = await start(nursery, watching(url))
    error = (await watch.down()).error
    assert reason in error
    assert "\n" not in error
    neuron.answers.clear()
    assert isinstance(await watch.next_look(), NodeUp)


async def test_something_that_does_not_speak_http(nursery: trio.Nursery) -> None:
    async def talk(stream: trio.SocketStream) -> None:
        await stream.send_all(b"SSH-2.0-OpenSSH_9.6\r\n")

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, talk, [listener])
    watch = await start(nursery, watching(f"http://127.0.0.1:{listener.socket.getsockname()[1]}"))
    assert (await watch.down()).error


async def test_one_that_never_answers(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poller_module, "TIMEOUT_SECONDS", 0.1)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        watch = await start(nursery, watching(f"http://127.0.0.1:{listener.socket.getsockname()[1]}"))
        assert (await watch.down()).error == "ReadTimeout: no answer"


async def test_one_that_never_ends_its_answer(
    nursery: trio.Nursery, neuron: Neuron, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller_module, "LOOK_SECONDS", 0.3)
    neuron.drip = True
    watch = await start(nursery, watching(url))
    assert (await watch.down()).error == "it takes more than 0.3 s to answer"
    neuron.drip = False
    assert isinstance(await watch.next_look(), NodeUp)


async def test_a_slow_one_delays_no_other(nursery: trio.Nursery, neuron: Neuron, url: str) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        silent = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        watch = await start(nursery, watching(silent, url, interval=0.05))
        assert [(await watch.up()).node for _ in range(3)] == ["o"] * 3


async def test_a_proxy_variable_does_not_stand_between(
    nursery: trio.Nursery, neuron: Neuron, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    await (await start(nursery, watching(url))).up()


async def test_a_poke_during_a_look_brings_another(nursery: trio.Nursery, neuron: Neuron, url: str) -> None:
    neuron.gate = trio.Event()
    watch = await start(nursery, watching(url))
    await neuron.arrived.wait()
    watch.router.suspect("n")
    neuron.gate.set()
    await watch.up()
    await watch.up()


# a health probe that fails while the models serve


async def test_a_failed_health_probe_alone_does_not_condemn_a_node(
    nursery: trio.Nursery, neuron: Neuron, url: str
) -> None:
    watch = await start(nursery, watching(url))
    first = await watch.up()
    neuron.answers["/health"] = (500, b"")
    neuron.health = evolve(neuron.health, models=(ModelReport("m", "loaded", "cpu"),))
    second = await watch.next_look()
    assert isinstance(second, NodeUp)
    assert second.error == "its health is not known: it does not answer as a neuron does: GET /health gave status 500"
    assert second.sighting == evolve(first.sighting, models=neuron.health.models)
    neuron.answers.clear()
    third = await watch.next_look()
    assert isinstance(third, NodeUp)
    assert third.error is None


async def test_one_that_was_never_seen_needs_its_health(nursery: trio.Nursery, neuron: Neuron, url: str) -> None:
    neuron.answers["/health"] = (500, b"")
    await (await start(nursery, watching(url))).down()


async def test_a_model_that_is_missing_from_a_report_is_gone(nursery: trio.Nursery, neuron: Neuron, url: str) -> None:
    neuron.health = evolve(neuron.health, models=(ModelReport("m", "loaded", "cpu"),))
    watch = await start(nursery, watching(url))
    watch.router.see(await watch.up())
    assert "m" in watch.router.fleet().holders
    neuron.health = evolve(neuron.health, models=())
    watch.router.see(await watch.next_look())
    assert (watch.router.fleet().holders, watch.router.fleet().placed) == ({}, {})
