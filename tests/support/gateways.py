"""A proxy in front of scripted nodes."""

import socket
from functools import partial
from pathlib import Path

import trio
from attrs import define, field
from fleets import router_of
from http_parts import SSE_HEAD, Call, Play, Script, chunk, live, start_script

from actors.router import Router
from helexa.cortex.proxy import Proxy
from helexa.cortex.upstream import Pool
from helexa.web.server import Drain, Receive, Scope, Send

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
            await self.proxy(PATH, scope, receive, send)

    async def ask(self, body: bytes = REQUEST) -> Call:
        return await Call.post(PATH, body).run(self.app)

    @property
    def down(self) -> list[str]:
        return [name for name, node in self.router.fleet().nodes.items() if not node.up]


def gateway_to(endpoints: dict[str, str], secret: str | None = None, **aliases: str) -> Gateway:
    router = router_of(endpoints, aliases=aliases)
    gateway = Gateway(router, Proxy(router, Pool(), Drain(), secret))
    for name in endpoints:
        router.on_poke(name, partial(gateway.poked.append, name))
    return gateway


async def start(nursery: trio.Nursery, gateways: list[Gateway], *scripted: Play) -> tuple[Gateway, Script]:
    """A gateway in front of one scripted node, `a`."""
    script = await start_script(nursery, *scripted)
    gateways.append(gateway_to({"a": script.url}))
    return gateways[-1], script


def refused_url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return f"http://127.0.0.1:{sock.getsockname()[1]}"
