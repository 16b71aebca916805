"""What neurons are asked over real connections, and every way in which they do not do it."""

from collections.abc import AsyncIterator

import orjson
import pytest
import trio
from fleets import model, neuron, sighting
from http_parts import Peer, Play, live, plays, start_app, start_script, until, whole

from actors import Supervisor
from actors.control import ControlError, NeuronControl
from actors.router import Router
from config import RestartPolicy, Topology
from helexa.cortex.ports import Grant
from helexa.cortex.routing.policy import LoadFailed, Wanted
from helexa.cortex.routing.state import NodeUp
from helexa.web.server import Receive, Scope, Send
from helexa.wire import errors, fleet
from helexa.wire.fleet import LoadRequest, ModelReport
from helexa.wire.rank_reports import RankList, RankReport
from helexa.wire.ranks import RankRequest

REPORT = ModelReport("m", "loaded", "cpu", 12)
LOADED = whole(fleet.to_json(REPORT))
DONE = whole(b"{}")


@pytest.fixture
async def control() -> AsyncIterator[NeuronControl]:
    async with NeuronControl("s3cret") as control:
        yield control


def refused(error: errors.ApiError) -> bytes:
    return whole(error.body(), f"{error.status} no")


async def silence(peer: Peer) -> None:
    await trio.sleep_forever()


async def hang_up(peer: Peer) -> None:
    peer.keep = False


async def test_a_load_is_asked_for_and_reported(nursery: trio.Nursery, control: NeuronControl) -> None:
    script = await start_script(nursery, plays(LOADED))
    assert await control.load(script.url, LoadRequest("m", "helexa", "cpu")) == REPORT
    ((head, body),) = script.requests
    assert head.startswith(b"POST /models/load HTTP/1.1\r\n")
    assert b"authorization: bearer s3cret" in head.lower()
    assert orjson.loads(body) == {"model": "m", "source": "helexa", "device": "cpu", "quant": None, "elsewhere": None}


async def test_an_unload_and_a_restart_name_what_they_are_about(nursery: trio.Nursery, control: NeuronControl) -> None:
    script = await start_script(nursery, plays(DONE))
    await control.unload(script.url, "org/m")
    await control.restart(script.url, "cuda:0")
    (unload, body), (restart, _) = script.requests
    assert unload.startswith(b"POST /models/unload HTTP/1.1\r\n")
    assert orjson.loads(body) == {"model": "org/m"}
    assert restart.startswith(b"POST /devices/cuda:0/restart HTTP/1.1\r\n")


RANK = RankRequest("a/org/m:1", "cpu", 1, 2, "10.0.0.1", 5, "token")
REPORTED = RankReport("a/org/m:1", "cpu", 1, 2, "running")


async def start_neuron(nursery: trio.Nursery, status: int, answer: bytes) -> tuple[str, list[tuple[str, str, bytes]]]:
    """A served application that always answers the same; its URL, and what it was asked."""
    asked: list[tuple[str, str, bytes]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await live(receive, send)
            return
        asked.append((scope["method"], scope["path"], (await receive())["body"]))
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": answer})

    return f"http://127.0.0.1:{await start_app(nursery, app)}", asked


async def test_ranks_are_asked_for_listed_and_ended(nursery: trio.Nursery, control: NeuronControl) -> None:
    url, asked = await start_neuron(nursery, 200, fleet.to_json(RankList((REPORTED,))))
    await control.start_rank(url, RANK)
    assert await control.ranks(url) == (REPORTED,)
    await control.stop_ranks(url, RANK.group)
    (method, path, body), *others = asked
    assert (method, path, fleet.from_json(body, RankRequest)) == ("POST", "/ranks", RANK)
    assert others == [("GET", "/ranks", b""), ("DELETE", "/ranks/a/org/m:1", b"")]


async def test_to_end_ranks_that_are_not_there_is_no_error(nursery: trio.Nursery, control: NeuronControl) -> None:
    await control.stop_ranks((await start_neuron(nursery, 404, b"{}"))[0], "a/m")
    with pytest.raises(ControlError, match="it answered with status 500"):
        await control.stop_ranks((await start_neuron(nursery, 500, b"{}"))[0], "a/m")


async def test_ranks_of_what_is_no_neuron(nursery: trio.Nursery, control: NeuronControl) -> None:
    url, _ = await start_neuron(nursery, 200, b'{"ranks": 7}')
    with pytest.raises(ControlError, match="it does not answer as a neuron does: not a RankList"):
        await control.ranks(url)


async def test_without_a_secret_none_is_sent(nursery: trio.Nursery) -> None:
    script = await start_script(nursery, plays(DONE))
    async with NeuronControl(None) as control:
        await control.unload(script.url, "m")
    assert b"authorization" not in script.requests[0][0].lower()


async def test_every_request_has_a_connection_of_its_own(nursery: trio.Nursery, control: NeuronControl) -> None:
    """One that is kept may be closed just as the next request is written to it."""
    script = await start_script(nursery, plays(DONE))
    for _ in range(3):
        await control.unload(script.url, "m")
    assert script.connections == 3


async def test_to_unload_what_is_not_there_is_no_error(nursery: trio.Nursery, control: NeuronControl) -> None:
    script = await start_script(nursery, plays(refused(errors.model_not_found("m"))))
    await control.unload(script.url, "m")


@pytest.mark.parametrize(
    ("play", "reason"),
    [
        (plays(refused(errors.upstream_error("'m' does not load: no such file."))), "'m' does not load: no such file"),
        (plays(refused(errors.model_not_found("m"))), "The model 'm' does not exist here"),
        (plays(whole(b"<html>", "502 Bad Gateway", "text/html")), "it answered with status 502"),
        (plays(whole(b"[]", "500 no")), "it answered with status 500"),
        (plays(whole(b'{"error": null}', "500 no")), "it answered with status 500"),
        (plays(whole(b"", "302 Found", extra="location: http://elsewhere/\r\n")), "it answered with status 302"),
        (plays(whole(b"It works!", kind="text/html")), "it does not answer as a neuron does: not a ModelReport"),
        (plays(whole(b'{"id": "m", "status": "odd"}')), "it does not answer as a neuron does: not a ModelReport"),
        (plays(LOADED[:-3], close=True), "RemoteProtocolError: "),
        (plays(b"SSH-2.0-OpenSSH_9.6\r\n", close=True), "RemoteProtocolError: "),
        (hang_up, "RemoteProtocolError: Server disconnected without sending a response"),
    ],
)
async def test_a_neuron_that_does_not_do_it(
    nursery: trio.Nursery, control: NeuronControl, play: Play, reason: str
) -> None:
    script = await start_script(nursery, play)
    with pytest.raises(ControlError) as caught:
        await control.load(script.url, LoadRequest("m"))
    assert str(caught.value).startswith(reason)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", "http://a..b:80", "http://☃", "http://xn--zzzzzz99:1"])
async def test_nobody_is_there_or_can_be(control: NeuronControl, endpoint: str) -> None:
    """The last three are URLs as far as the topology can tell."""
    with pytest.raises(ControlError):
        await control.unload(endpoint, "m")


async def test_a_proxy_variable_does_not_stand_between(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    script = await start_script(nursery, plays(DONE))
    async with NeuronControl(None) as control:
        await control.unload(script.url, "m")


async def test_before_it_is_open_nobody_is_reached() -> None:
    with pytest.raises(ControlError, match="the router is starting anew"):
        await NeuronControl(None).unload("http://127.0.0.1:1", "m")


async def test_a_request_that_is_cancelled_leaves_no_connection(nursery: trio.Nursery, control: NeuronControl) -> None:
    script = await start_script(nursery, silence)
    async with trio.open_nursery() as asking:
        asking.start_soon(control.load, script.url, LoadRequest("m"))
        await until(lambda: len(script.requests) == 1)
        asking.cancel_scope.cancel()
    assert control._client is not None
    assert not control._client._transport._pool.connections  # type: ignore[attr-defined]


async def test_what_is_under_way_ends_with_an_error_when_it_is_closed(nursery: trio.Nursery) -> None:
    """An operator's unload is no part of the router that crashes."""
    script = await start_script(nursery, silence)
    found: list[ControlError] = []

    async def unload() -> None:
        try:
            await control.unload(script.url, "m")
        except ControlError as error:
            found.append(error)

    async with trio.open_nursery() as asking:
        async with NeuronControl(None) as control:
            asking.start_soon(unload)
            await until(lambda: len(script.requests) == 1)
        await until(lambda: len(found) > 0)
    assert len(found) == 1


# the router with a real neuron's side of the connection


def router_at(url: str) -> Router:
    router = Router(Topology(neurons=(neuron("a", endpoint=url),), models=(model(),)))
    router.see(NodeUp("a", sighting()))
    return router


async def run_supervised(nursery: trio.Nursery, router: Router) -> Supervisor:
    supervisor = Supervisor("test")
    await nursery.start(supervisor.run)
    await supervisor.start(router, RestartPolicy())
    return supervisor


async def test_one_load_over_a_real_connection_serves_all_who_wait(nursery: trio.Nursery) -> None:
    go = trio.Event()

    async def load(peer: Peer) -> None:
        await go.wait()
        await peer.send(LOADED)

    script = await start_script(nursery, load)
    router = router_at(script.url)
    await run_supervised(nursery, router)
    got: list[object] = []

    async def ask() -> None:
        got.append(await router.acquire(Wanted("m")))

    async with trio.open_nursery() as asking:
        for _ in range(20):
            asking.start_soon(ask)
        await until(lambda: len(script.requests) == 1)
        go.set()
    assert len(got) == 20
    assert all(isinstance(each, Grant) for each in got)
    assert len(script.requests) == 1


async def test_a_neuron_that_dies_in_the_middle_of_a_load_fails_it(nursery: trio.Nursery) -> None:
    script = await start_script(nursery, hang_up)
    router = router_at(script.url)
    await run_supervised(nursery, router)
    refusal = await router.acquire(Wanted("m"))
    assert isinstance(refusal, LoadFailed)
    assert "Server disconnected" in refusal.reasons[0][1]


async def test_a_stop_in_the_middle_of_a_load_closes_its_connection() -> None:
    async with trio.open_nursery() as serving:
        script = await start_script(serving, silence)
        router = router_at(script.url)
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                await run_supervised(nursery, router)
                nursery.start_soon(router.acquire, Wanted("m"))
                await until(lambda: len(script.requests) == 1)
                nursery.cancel_scope.cancel()
        assert dict(router.fleet().loads) == {}
        serving.cancel_scope.cancel()
