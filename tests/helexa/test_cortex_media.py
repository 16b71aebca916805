"""Pictures that a chat names by address: fetched where that is allowed, and held in bounds."""

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
import trio
import trio.testing
from attrs import define, evolve, field
from gateways import Gateway, gateway_of, provider
from http_parts import live, plays, start_app, start_script, until, whole

from config import Cortex, Limits, Media, Route, Topology
from config.units import Duration, Size
from helexa.cortex.exchange.media import AT_A_TIME, Pictures
from helexa.web.fetching import Fetcher
from helexa.web.server import Receive, Scope, Send
from helexa.wire.dialect import Translated
from helexa.wire.errors import ApiError
from helexa.wire.ollama.requests import to_ollama

PNG = b"\x89PNG" + b"x" * 96
DATA = "data:image/png;base64," + b64encode(PNG).decode()
OPEN = Cortex(media=Media(fetch=True))


@define(eq=False)
class Site:
    """A server of pictures on loopback, which these tests take for the internet."""

    port: int = 0
    asked: list[str] = field(factory=list)
    waiting: trio.Event | None = None
    at_a_time: int = 0
    most_at_a_time: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await live(receive, send)
            return
        self.asked.append(scope["path"])
        self.at_a_time += 1
        self.most_at_a_time = max(self.most_at_a_time, self.at_a_time)
        if self.waiting is not None:
            await self.waiting.wait()
        self.at_a_time -= 1
        status = 404 if scope["path"] == "/missing" else 200
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"image/png")]})
        await send({"type": "http.response.body", "body": PNG})

    def url(self, path: str) -> str:
        return f"http://pictures.example:{self.port}{path}"


async def loopback(_host: str, _port: int) -> Sequence[str]:
    await trio.lowlevel.checkpoint()
    return ["127.0.0.1"]


@pytest.fixture
async def site(nursery: trio.Nursery) -> Site:
    site = Site()
    site.port = await start_app(nursery, site)
    return site


@pytest.fixture
def pictures() -> Pictures:
    return Pictures(Fetcher(loopback, lambda _: True))


def picture(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def chat(*parts: Any) -> Translated:
    return Translated({"model": "m", "messages": [{"role": "user", "content": list(parts)}]}, ("a warning",))


async def refusal(pictures: Pictures, given: Translated, cortex: Cortex = OPEN) -> ApiError:
    with pytest.raises(ApiError) as raised:
        async with pictures.brought(given, cortex):
            pass
    assert pictures.held == 0
    return raised.value


async def test_a_picture_stands_where_its_address_stood(site: Site, pictures: Pictures) -> None:
    text = {"type": "text", "text": "what is this?"}
    given = chat(text, picture(site.url("/a"), detail="low"), {"type": "image_url", "image_url": site.url("/b")})
    async with pictures.brought(given, OPEN) as found:
        content = found.chat["messages"][0]["content"]
        assert content == [text, picture(DATA, detail="low"), picture(DATA)]
        assert (found.warnings, pictures.held) == (("a warning",), 200)
        assert to_ollama(found.chat)["messages"][0]["images"] == [b64encode(PNG).decode()] * 2
    assert pictures.held == 0
    assert given.chat["messages"][0]["content"][1] == picture(site.url("/a"), detail="low")


async def test_a_picture_that_is_named_twice_is_fetched_once(site: Site, pictures: Pictures) -> None:
    async with pictures.brought(chat(picture(site.url("/a")), picture(site.url("/a"))), OPEN) as found:
        assert found.chat["messages"][0]["content"] == [picture(DATA), picture(DATA)]
    assert site.asked == ["/a"]


async def test_nothing_is_fetched_unless_that_is_allowed(site: Site, pictures: Pictures) -> None:
    given = chat(picture(site.url("/a")))
    async with pictures.brought(given, Cortex()) as found:
        assert found is given
        with pytest.raises(ApiError, match="Ollama takes pictures as base64 data URLs, not as addresses"):
            to_ollama(found.chat)
    assert site.asked == []


@pytest.mark.parametrize("prefix", ["data:", "DATA:"])
async def test_what_has_come_along_is_left_alone(pictures: Pictures, prefix: str) -> None:
    given = chat(picture(prefix + DATA.removeprefix("data:")), {"type": "text", "text": "http://x.example/a.png"})
    async with pictures.brought(given, OPEN) as found:
        assert found is given


@pytest.mark.parametrize(
    "messages",
    [
        None,
        7,
        [],
        [None, "x", {}, {"content": None}, {"content": "http://x.example/"}],
        [{"content": [None, 7, {}, {"type": "image_url"}, {"type": "image_url", "image_url": 7}]}],
        [{"content": [{"type": "image_url", "image_url": {"url": 7}}]}],
    ],
)
async def test_what_has_not_the_shape_of_a_chat_is_left_to_who_reads_it(pictures: Pictures, messages: Any) -> None:
    given = Translated({"messages": messages})
    async with pictures.brought(given, OPEN) as found:
        assert found is given


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("file:///etc/passwd", "its address is neither http nor https"),
        ("", "its address is neither http nor https"),
        ("http://x.example:22/", "its port, 22, is not one of the web's"),
    ],
)
async def test_a_picture_that_may_not_be_had_is_named(pictures: Pictures, url: str, reason: str) -> None:
    error = await refusal(pictures, chat({"type": "text", "text": "x"}, picture(url)))
    assert (error.status, error.code, error.param) == (400, "invalid_value", "messages[0].content[1].image_url")
    assert error.message == f"Invalid value for 'messages[0].content[1].image_url': {reason}."


async def test_what_lies_inside_is_not_fetched_for_anyone(site: Site) -> None:
    for host in ("127.0.0.1", "localhost", "169.254.169.254", "[::ffff:127.0.0.1]"):
        error = await refusal(Pictures(), chat(picture(f"http://{host}:{site.port}/a")))
        assert error.message.endswith(": its host is not on the public internet.")
    assert site.asked == []


async def test_one_that_is_missing_ends_the_others(site: Site, pictures: Pictures) -> None:
    error = await refusal(pictures, chat(picture(site.url("/a")), picture(site.url("/missing"))))
    assert error.message.endswith("content[1].image_url': its server answered with status 404.")


async def test_the_domains_of_the_topology_hold(site: Site, pictures: Pictures) -> None:
    cortex = Cortex(media=Media(fetch=True, domains=("*.elsewhere.example",)))
    error = await refusal(pictures, chat(picture(site.url("/a"))), cortex)
    assert error.message.endswith(": its host is none that this gateway may fetch from.")


async def test_the_size_of_the_topology_holds(site: Site, pictures: Pictures) -> None:
    cortex = Cortex(media=Media(fetch=True, max_bytes=Size(99)))
    error = await refusal(pictures, chat(picture(site.url("/a"))), cortex)
    assert error.message.endswith(": it is larger than 99 bytes.")


async def test_the_time_of_the_topology_holds(site: Site, pictures: Pictures) -> None:
    site.waiting = trio.Event()
    cortex = Cortex(media=Media(fetch=True, timeout=Duration(0.05)))
    error = await refusal(pictures, chat(picture(site.url("/a"))), cortex)
    assert error.message.endswith(": it did not come within 0.05 s.")


async def test_all_pictures_of_a_request_together_are_as_large_as_a_body(site: Site, pictures: Pictures) -> None:
    cortex = Cortex(media=Media(fetch=True, max_bytes=Size(100)), limits=Limits(body=Size(250)))
    error = await refusal(pictures, chat(*(picture(site.url(f"/{number}")) for number in range(3))), cortex)
    assert error.message.endswith(": all pictures of a request together may have 250 bytes.")


async def test_all_pictures_that_are_held_together_are_bounded(site: Site, pictures: Pictures) -> None:
    cortex = Cortex(media=Media(fetch=True), limits=Limits(bodies=Size(150)))
    async with pictures.brought(chat(picture(site.url("/a"))), cortex):
        with pytest.raises(ApiError) as raised:
            async with pictures.brought(chat(picture(site.url("/b"))), cortex):
                pass
        assert (raised.value.status, raised.value.retry_after, pictures.held) == (503, 2, 100)
    async with pictures.brought(chat(picture(site.url("/b"))), cortex):
        assert pictures.held == 100


async def test_so_many_are_on_their_way_at_a_time(site: Site, pictures: Pictures) -> None:
    site.waiting = trio.Event()
    given = chat(*(picture(site.url(f"/{number}")) for number in range(3 * AT_A_TIME)))
    async with trio.open_nursery() as nursery:

        async def bring() -> None:
            async with pictures.brought(given, OPEN) as found:
                assert len(found.chat["messages"][0]["content"]) == 3 * AT_A_TIME

        nursery.start_soon(bring)
        await until(lambda: site.at_a_time == AT_A_TIME)
        await trio.testing.wait_all_tasks_blocked(0.05)
        site.waiting.set()
    assert site.most_at_a_time == AT_A_TIME


async def test_a_request_that_is_cancelled_holds_nothing(site: Site, pictures: Pictures) -> None:
    site.waiting = trio.Event()
    with trio.move_on_after(0.05):
        async with pictures.brought(chat(picture(site.url("/a"))), OPEN):
            pass
    assert (pictures.held, pictures._places.borrowed_tokens) == (0, 0)


OLLAMA = whole(b'{"model":"x","message":{"role":"assistant","content":"A cat."},"done":true,"done_reason":"stop"}')


@pytest.mark.parametrize("fetch", [True, False])
async def test_a_provider_that_fetches_nothing_is_sent_the_picture_itself(
    nursery: trio.Nursery, gateways: list[Gateway], site: Site, pictures: Pictures, *, fetch: bool
) -> None:
    script = await start_script(nursery, plays(OLLAMA))
    outside = provider("p", script.url, kind="ollama")
    topology = Topology(cortex=Cortex(media=Media(fetch=fetch)), providers=(outside,), routes=(Route("out*", ("p",)),))
    gateway = gateway_of(topology)
    gateway.proxy = evolve(gateway.proxy, pictures=pictures)
    gateways.append(gateway)
    content = [{"type": "text", "text": "what is this?"}, picture(site.url("/a"))]
    call = await gateway.ask(orjson.dumps({"model": "out", "messages": [{"role": "user", "content": content}]}))
    if fetch:
        assert call.status == 200
        assert orjson.loads(script.requests[0][1])["messages"][0]["images"] == [b64encode(PNG).decode()]
    else:
        assert (call.status, call.error["code"], script.requests, site.asked) == (400, "unsupported_value", [], [])
    assert pictures.held == 0
