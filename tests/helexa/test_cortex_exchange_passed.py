"""What a request takes along on its way: the trace it belongs to, and pictures that it names."""

from base64 import b64encode
from types import TracebackType
from typing import Any, Self

import orjson
import pytest
import trio
from attrs import define, evolve, field
from gateways import ANSWER, ERROR, PATH, STREAM, STREAMED, Gateway, gateway_of, gateway_to, outside_gateway, provider
from http_parts import Call, plays, start_script, whole
from upstream_answers import WHOLE

from config import Cortex, Media
from helexa.cortex.exchange.media import Pictures
from helexa.cortex.telemetry.tracing import Ended
from helexa.web.answers import FetchError
from helexa.web.fetching import Fetched, Fetcher, Wanted
from helexa.web.server import Scope

PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
STATE = b"vendor=1"


@define(eq=False)
class Recording:
    """Implements `tracing.Tracing`, `Trace` and `Call`, for one request."""

    told: list[Any] = field(factory=list)
    headers: list[tuple[bytes, bytes]] = field(factory=list)

    def begin(self, _scope: Scope, route: str, request_id: str, /) -> Self:
        self.told.append(("begin", route, request_id))
        return self

    def attempt(self, name: str, base_url: str, model: str, kind: str, /) -> Self:
        self.told.append(("attempt", name, model, kind))
        self.headers = [(b"traceparent", b"%d of %b" % (len(self.told), base_url.encode()))]
        return self

    def answered(self, status: int) -> None:
        self.told.append(("answered", status))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self.told.append(("left", kind))

    def end(self, ended: Ended) -> None:
        self.told.append(("end", ended.node, ended.status, ended.code, ended.totals))

    async def aclose(self) -> None:
        pass


async def test_a_trace_is_handed_on_to_nodes_and_providers(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    script = await start_script(nursery, plays(whole(ANSWER)))
    gateways += [gateway_to({"a": script.url}), outside_gateway(provider("p", script.url))]
    for gateway, name in zip(gateways, (b"m", b"out"), strict=True):
        headers = [(b"traceparent", PARENT), (b"tracestate", STATE)]
        await gateway.ask(b'{"model": "%b"}' % name, headers=headers)
        head = script.requests[-1][0]
        assert b"\r\ntraceparent: " + PARENT in head
        assert b"\r\ntracestate: " + STATE in head
        await gateway.ask(
            b'{"model": "%b"}' % name, headers=[(b"traceparent", b"x\r\nevil: 1"), (b"tracestate", STATE)]
        )
        assert b"trace" not in script.requests[-1][0]


async def test_each_attempt_is_a_span_of_its_own(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    bad, good = [await start_script(nursery, play) for play in (plays(whole(ERROR, "500 Oops")), plays(STREAMED))]
    providers = (provider("p", bad.url, retries=0), provider("q", good.url))
    gateways.append(outside_gateway(*providers))
    tracing = Recording()
    gateways[-1] = evolve(gateways[-1], proxy=evolve(gateways[-1].proxy, tracing=tracing))
    call = await gateways[-1].ask(b'{"model": "out", "stream": true}', headers=[(b"x-request-id", b"r1")])
    assert call.answer == STREAM.replace(STREAM.split(b"\n\n")[3] + b"\n\n", b"")
    begun, first, oops, left, second, fine, ended, end = tracing.told
    assert (begun, first, oops) == (
        ("begin", PATH, "r1"),
        ("attempt", "provider:p", "out", "openai"),
        ("answered", 500),
    )
    assert (second, fine, ended) == (("attempt", "provider:q", "out", "openai"), ("answered", 200), ("left", None))
    assert issubclass(left[1], Exception)
    assert end[:4] == ("end", "provider:q", 200, None)
    assert end[4] is not None
    assert b"traceparent: 2 of " + bad.url.encode() in bad.requests[0][0]


@pytest.mark.parametrize("body", [b"[", b'{"model": "unknown"}'])
async def test_what_fails_before_it_is_sent_ends_its_trace(gateways: list[Gateway], body: bytes) -> None:
    tracing = Recording()
    gateways.append(gateway_to({}))
    gateways[-1] = evolve(gateways[-1], proxy=evolve(gateways[-1].proxy, tracing=tracing))
    call = await gateways[-1].ask(body)
    assert [each[0] for each in tracing.told] == ["begin", "end"]
    assert tracing.told[1][2] == call.status


@define(eq=False)
class Shelf:
    """In place of the internet: one picture."""

    asked: list[str] = field(factory=list)

    async def fetch(self, url: str, _wanted: Wanted) -> Fetched:
        await trio.lowlevel.checkpoint()
        self.asked.append(url)
        if url != "http://pictures.example/a.png":
            raise FetchError("it is not there")
        return Fetched("image/png", b"picture")


def showing(url: str) -> bytes:
    parts = [{"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {"url": url}}]
    return orjson.dumps({"model": "out", "messages": [{"role": "user", "content": parts}]})


async def test_a_picture_is_brought_to_a_provider_that_does_not_fetch_and_to_no_other(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    answers = {kind: await start_script(nursery, plays(whole(orjson.dumps(WHOLE[kind])))) for kind in WHOLE}
    shelf: Any = Shelf()
    pictures = Pictures(shelf)
    fetching = Cortex(media=Media(fetch=True))
    for kind in ("ollama", "openai"):
        made = outside_gateway(provider("p", answers[kind].url, kind))
        topology = evolve(made.router.fleet().topology, cortex=fetching)
        made = gateway_of(topology)
        gateways.append(evolve(made, proxy=evolve(made.proxy, pictures=pictures)))
        call = await gateways[-1].ask(showing("http://pictures.example/a.png"))
        assert call.status == 200, call.answer
    sent = orjson.loads(answers["ollama"].requests[0][1])
    assert sent["messages"][0]["images"] == [b64encode(b"picture").decode()]
    assert b"http://pictures.example/a.png" in answers["openai"].requests[0][1]
    assert (shelf.asked, pictures.held) == (["http://pictures.example/a.png"], 0)
    call = await gateways[0].ask(showing("http://pictures.example/b.png"))
    assert (call.status, call.error["param"]) == (400, "messages[0].content[1].image_url")


async def test_where_nothing_is_fetched_a_picture_by_its_address_is_refused(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    script = await start_script(nursery, plays(whole(orjson.dumps(WHOLE["ollama"]))))
    gateways.append(outside_gateway(provider("p", script.url, "ollama")))
    call = await Call.post(PATH, showing("http://pictures.example/a.png")).run(gateways[-1].app)
    assert (call.status, script.requests) == (400, [])
    assert isinstance(gateways[-1].proxy.pictures.fetcher, Fetcher)
