"""A proxy in front of scripted nodes and providers."""

import socket
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import trio
from attrs import define, field
from fleets import Clock, neuron, sighting
from http_parts import SSE_HEAD, Call, Play, Script, chunk, live, start_script

from actors.router import Router
from config import Account, Provider, ProviderKind, Route, Topology
from helexa.cortex.access import keys
from helexa.cortex.access.auth import Gate, Key
from helexa.cortex.access.keys import Change, Made, Record, Wanted
from helexa.cortex.app import make_app
from helexa.cortex.events import EventLog
from helexa.cortex.exchange.metering import Metering
from helexa.cortex.exchange.proxy import Proxy
from helexa.cortex.exchange.upstream import Pool
from helexa.cortex.routing.state import NodeUp
from helexa.web.front import Front
from helexa.web.server import Drain, Receive, Scope, Send
from helexa.wire import errors
from helexa.wire.fleet import ActorReport, ModelReport

GOLDEN = Path(__file__).parents[1] / "golden"
PATH = "/v1/chat/completions"
REQUEST = b'{ "model":"m",  "messages": [{"role":"user","content":"\\u00fc"}], "stream" : true }'
EVENTS = [
    (GOLDEN / name).read_bytes()
    for name in ("chat_chunk_role.sse", "chat_chunk_content.sse", "chat_chunk_end.sse", "chat_usage_chunk.sse")
]
DONE = b"data: [DONE]\n\n"
STREAM = b"".join(EVENTS) + DONE
STREAMED = SSE_HEAD + b"".join(chunk(event) for event in [*EVENTS, DONE]) + chunk(b"")
ANSWER = (GOLDEN / "chat_completion.json").read_bytes()


@define(eq=False)
class Gateway:
    """A proxy in front of scripted nodes, and what it asked of the router."""

    router: Router
    proxy: Proxy
    poked: list[str] = field(factory=list)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await live(receive, send)
        else:
            await self.proxy(scope["path"], scope, receive, send)

    async def ask(
        self, body: bytes = REQUEST, path: str = PATH, headers: list[tuple[bytes, bytes]] | None = None
    ) -> Call:
        return await Call.post(path, body, headers).run(self.app)

    @property
    def down(self) -> list[str]:
        return [name for name, node in self.router.fleet().nodes.items() if not node.up]


def topology_of(endpoints: Mapping[str, str], aliases: Mapping[str, str], **settings: Any) -> Topology:
    """Neurons at these URLs. The catalogue is empty, so that nothing is ever loaded for a request."""
    neurons = tuple(neuron(name, endpoint=url) for name, url in endpoints.items())
    return Topology(neurons=neurons, aliases=aliases, **settings)


LOADED = (ModelReport("m", "loaded"),)


def gateway_of(
    topology: Topology,
    secret: str | None = None,
    environment: Mapping[str, str] | None = None,
    reports: tuple[ModelReport, ...] = LOADED,
    metering: Metering | None = None,
) -> Gateway:
    """All of the topology's neurons are up and have the model `m` loaded, or what `reports` say."""
    router = Router(topology, clock=Clock())
    gateway = Gateway(router, Proxy(router, Pool(), Drain(), secret, environment or {}, metering=metering))
    for each in topology.neurons:
        router.see(NodeUp(each.name, sighting(*reports), 100.0))
        router.on_poke(each.name, partial(gateway.poked.append, each.name))
    return gateway


def gateway_to(endpoints: Mapping[str, str], secret: str | None = None, **aliases: str) -> Gateway:
    return gateway_of(topology_of(endpoints, aliases), secret)


def outside_gateway(*providers: Provider, route: Route | None = None, **environment: str) -> Gateway:
    """No neurons, and a route to these providers for every model that begins with `out`."""
    names = tuple(provider.name for provider in providers)
    routes = (route or Route("out*", names),)
    return gateway_of(Topology(providers=providers, routes=routes), environment=environment)


async def start(nursery: trio.Nursery, gateways: list[Gateway], *scripted: Play) -> tuple[Gateway, Script]:
    """A gateway in front of one scripted node, `a`."""
    script = await start_script(nursery, *scripted)
    gateways.append(gateway_to({"a": script.url}))
    return gateways[-1], script


ERROR = b'{"error":{"message":"busy","type":"server_error","code":"busy","param":null}}'


def chat(model: str, **settings: Any) -> bytes:
    """A chat request."""
    return orjson.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}], **settings})


def provider(name: str, url: str, kind: ProviderKind = "openai", **settings: Any) -> Provider:
    return Provider(name, kind, url, **{"retries": 0, **settings})


def told(call: Call) -> tuple[int, bytes, bytes]:
    """Status, who answered, after how many attempts."""
    return call.status, call.headers.get(b"x-helexa-node", b""), call.headers[b"x-helexa-attempts"]


class NoKeys:
    """Knows none, and makes none."""

    def records(self) -> tuple[Record, ...]:
        return ()

    def declared(self) -> tuple[Key, ...]:
        return ()

    def record(self, name: str) -> Record:
        raise keys.not_found(name)

    async def create(self, _wanted: Wanted) -> Made:
        raise keys.unchangeable()

    async def rotate(self, name: str) -> Made:
        raise keys.not_found(name)

    async def change(self, name: str, _change: Change) -> Record:
        raise keys.not_found(name)

    async def revoke(self, name: str) -> Record:
        raise keys.not_found(name)

    def declared_accounts(self) -> tuple[Account, ...]:
        return ()

    def accounts(self) -> tuple[Account, ...]:
        return ()

    async def set_account(self, _account: Account) -> None:
        raise keys.unchangeable()

    async def drop_account(self, name: str) -> None:
        raise keys.no_account(name)


class NoActors:
    def actors(self) -> tuple[ActorReport, ...]:
        return ()


class NoLifecycle:
    """Nothing can be loaded by hand."""

    async def load(self, model: str, _node: str | None) -> str:
        raise errors.model_not_found(model)

    async def unload(self, model: str, _node: str | None) -> tuple[str, ...]:
        raise errors.model_not_found(model)

    def pin(self, model: str, _node: str | None, **_: bool) -> tuple[str, ...]:
        raise errors.model_not_found(model)


def app_of(gateway: Gateway, gate: Gate | None = None, *, local_only: bool = False) -> Front:
    """The whole application around a gateway's proxy; without a gate it asks for no key."""
    open_gate = Gate(required=False)
    return make_app(
        gateway.proxy,
        gateway.router,
        NoLifecycle(),
        NoActors(),
        EventLog(),
        lambda: gate or open_gate,
        NoKeys(),
        loopback=local_only,
    )


def refused_url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return f"http://127.0.0.1:{sock.getsockname()[1]}"
