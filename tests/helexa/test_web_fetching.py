"""Fetching what strangers name: no place in our network is asked for them, and no limit comes late."""

import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from addresses import NOT_PUBLIC
from attrs import define, field
from certificates import Authority
from http_parts import live, start_app
from hypothesis import given, settings
from hypothesis import strategies as st

from helexa.web import fetching
from helexa.web.answers import Answer, FetchError
from helexa.web.fetching import Fetched, Fetcher, Wanted, resolve
from helexa.web.server import Drain, Receive, Scope, Send, bind, serve
from helexa.web.tls import client_context, server_context

PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 100


@define(eq=False)
class Site:
    """A server on loopback that says by each path what is set for it, and remembers what it was asked."""

    pages: dict[str, tuple[int, dict[str, str], bytes]] = field(factory=dict)
    asked: list[dict[str, str]] = field(factory=list)
    port: int = 0
    sent: int = 0

    def page(self, path: str, body: bytes = PNG, status: int = 200, **headers: str) -> None:
        found = {"content_type": "image/png", **headers}
        self.pages[path] = (status, {name.replace("_", "-"): value for name, value in found.items()}, body)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await live(receive, send)
            return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.asked.append({**headers, "path": scope["path"], "query": scope["query_string"].decode()})
        if scope["path"] == "/never":
            await trio.sleep_forever()
        status, found, body = self.pages[scope["path"]]
        lines = [(name.encode(), value.encode()) for name, value in found.items()]
        await send({"type": "http.response.start", "status": status, "headers": lines})
        endless = scope["path"] == "/endless"
        while endless:
            self.sent += len(body)
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def site(nursery: trio.Nursery) -> Site:
    site = Site()
    site.port = await start_app(nursery, site)
    site.page("/a.png")
    return site


class Names:
    """Resolves as it is told to, and counts."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers) or [["127.0.0.1"]]
        self.asked: list[str] = []

    async def __call__(self, host: str, _port: int) -> Sequence[str]:
        await trio.lowlevel.checkpoint()
        self.asked.append(host)
        return self.answers[min(len(self.asked), len(self.answers)) - 1]


def fetcher(names: Names | None = None, allowed: Callable[[str], bool] = lambda _: True) -> Fetcher:
    """One that takes loopback, where these tests' servers are, for the internet."""
    return Fetcher(names or Names(), allowed)


async def refusal(fetching_: Fetcher, url: str, **wanted: Any) -> str:
    with pytest.raises(FetchError) as raised, trio.fail_after(10):
        await fetching_.fetch(url, Wanted(**wanted))
    return str(raised.value)


async def test_a_picture_is_fetched_under_its_name_and_with_nothing_of_ours(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    names = Names()
    found = await fetcher(names).fetch(f"http://pictures.example:{site.port}/a.png?x=1#part", Wanted())
    assert found == Fetched("image/png", PNG)
    (asked,) = site.asked
    assert asked == {
        "host": f"pictures.example:{site.port}",
        "accept-encoding": "identity",
        "user-agent": "helexa",
        "connection": "close",
        "path": "/a.png",
        "query": "x=1",
    }
    assert names.asked == ["pictures.example"]


LOCAL = [
    "http://127.0.0.1:{port}/a.png",
    "http://localhost:{port}/a.png",
    "http://127.1:{port}/a.png",
    "http://2130706433:{port}/a.png",
    "http://0x7f000001:{port}/a.png",
    "http://0177.0.0.1:{port}/a.png",
    "http://[::1]:{port}/a.png",
    "http://0:{port}/a.png",
    "http://[::ffff:127.0.0.1]:{port}/a.png",
    "http://[::ffff:7f00:1]:{port}/a.png",
    "http://LOCALHOST.:{port}/a.png",
    "http://127.0.0.1.:{port}/a.png",
    "http://[::]:{port}/a.png",
    "http://0.0.0.0:{port}/a.png",
    "http://①②⑦.0.0.1:{port}/a.png",
]


@pytest.mark.parametrize("url", LOCAL)
async def test_this_machine_is_not_asked_however_it_is_spelt(site: Site, url: str) -> None:
    reason = await refusal(Fetcher(), url.format(port=site.port))
    assert reason in {
        "its host is not on the public internet",
        "its host name leads nowhere",
        "its address is no URL",
    }
    assert site.asked == []


@pytest.mark.parametrize("address", NOT_PUBLIC)
async def test_a_name_that_leads_inside_is_not_asked(address: str) -> None:
    fetching_ = Fetcher(Names([address]))
    assert await refusal(fetching_, "http://pictures.example/") == "its host is not on the public internet"


async def test_one_address_inside_among_others_is_enough_to_refuse() -> None:
    fetching_ = Fetcher(Names(["8.8.8.8", "10.0.0.1"]))
    assert await refusal(fetching_, "http://pictures.example/") == "its host is not on the public internet"


async def test_a_name_is_resolved_once_so_that_it_cannot_change_its_mind(site: Site) -> None:
    """A second answer would be somewhere else; only the first is checked, and only the first is asked."""
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    seen: list[str] = []
    await fetcher(names, lambda address: seen.append(address) is None).fetch(
        f"http://rebinding.example:{site.port}/a.png", Wanted()
    )
    assert (names.asked, seen, len(site.asked)) == (["rebinding.example"], ["127.0.0.1"], 1)


async def test_an_address_that_does_not_answer_is_followed_by_the_next(site: Site) -> None:
    found = await fetcher(Names(["127.9.9.9", "127.0.0.1"])).fetch(f"http://x.example:{site.port}/a.png", Wanted())
    assert found.data == PNG


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_followed_and_checked_like_the_first(site: Site, status: int) -> None:
    site.page("/moved", b"", status, location=f"http://inside.example:{site.port}/a.png")
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    reason = await refusal(fetcher(names, "127.0.0.1".__eq__), f"http://x.example:{site.port}/moved")
    assert reason == "its host is not on the public internet"
    assert names.asked == ["x.example", "inside.example"]
    assert [asked["path"] for asked in site.asked] == ["/moved"]


async def test_a_redirect_within_a_site_is_followed_without_its_cookies(site: Site) -> None:
    site.page("/moved", b"", 302, location="/a.png", set_cookie="a=b")
    assert (await fetcher().fetch(f"http://x.example:{site.port}/moved", Wanted())).data == PNG
    assert "cookie" not in site.asked[1]


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("", "it is redirected nowhere"),
        ("file:///etc/passwd", "its address is neither http nor https"),
        ("gopher://x.example/", "its address is neither http nor https"),
        ("//localhost:22/", "its port, 22, is not one of the web's"),
        ("http://user:password@x.example/", "its address has a user name or a password in it"),
        ("http://x.example/" + "x" * 5000, "its address is longer than 4096 characters"),
        ("http://elsewhere.test/", "its host is none that this gateway may fetch from"),
    ],
)
async def test_a_redirect_leads_to_nothing_that_could_not_be_named(site: Site, location: str, reason: str) -> None:
    site.page("/moved", b"", 302, location=location)
    domains = ("*.example", "localhost")
    assert await refusal(fetcher(), f"http://x.example:{site.port}/moved", domains=domains) == reason


async def test_redirects_have_an_end(site: Site) -> None:
    site.page("/round", b"", 302, location="/round")
    assert await refusal(fetcher(), f"http://x.example:{site.port}/round") == "it is redirected more than 3 times"
    assert len(site.asked) == 4


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "/etc/passwd",
        "",
        "data:image/png;base64,AAAA",
        "ftp://x.example/",
        "http://",
        "http:///x",
        "HTTP+UNIX://x/",
        "javascript:alert(1)",
    ],
)
async def test_only_the_web_is_fetched_from(url: str) -> None:
    assert await refusal(fetcher(), url) == "its address is neither http nor https"


@pytest.mark.parametrize("url", ["http://[::1", "http://\0/", "http://x\r\ny/", "http://[v1.x]/"])
async def test_what_is_no_url_is_told(url: str) -> None:
    assert await refusal(fetcher(), url) == "its address is no URL"


@pytest.mark.parametrize("port", [1, 22, 25, 53, 111, 445, 1023, 65536, 99999])
async def test_ports_of_other_protocols_are_not_asked(port: int) -> None:
    assert await refusal(fetcher(), f"http://x.example:{port}/") == f"its port, {port}, is not one of the web's"


async def test_only_listed_domains_are_asked_where_there_is_a_list(site: Site) -> None:
    listed = Wanted(domains=("*.Pictures.example", "pictures.example"))
    for host in ("pictures.example", "a.pictures.example", "A.PICTURES.EXAMPLE", "pictures.example."):
        assert (await fetcher().fetch(f"http://{host}:{site.port}/a.png", listed)).data == PNG
    for host in ("evilpictures.example", "pictures.example.evil.test", "a.test", "pictures.example@a.test"):
        with pytest.raises(FetchError, match=r"none that this gateway may fetch from|a user name"):
            await fetcher().fetch(f"http://{host}:{site.port}/a.png", listed)


async def test_a_body_that_says_it_is_too_large_is_not_read(site: Site) -> None:
    site.page("/large", b"x" * 2000, content_length="2000")
    assert (
        await refusal(fetcher(), f"http://x.example:{site.port}/large", max_bytes=1999)
        == "it is larger than 1999 bytes"
    )


async def test_a_body_without_an_end_is_cut_while_it_comes(site: Site) -> None:
    site.page("/endless", b"x" * 10_000)
    reason = await refusal(fetcher(), f"http://x.example:{site.port}/endless", max_bytes=50_000)
    assert reason == "it is larger than 50000 bytes"
    assert site.sent < 20_000_000  # what the sockets in between hold


async def test_a_body_of_exactly_the_limit_is_taken(site: Site) -> None:
    found = await fetcher().fetch(f"http://x.example:{site.port}/a.png", Wanted(max_bytes=len(PNG)))
    assert found.data == PNG


async def test_what_takes_too_long_is_given_up(site: Site) -> None:
    assert (
        await refusal(fetcher(), f"http://x.example:{site.port}/never", timeout=0.05) == "it did not come within 0.05 s"
    )


@pytest.mark.parametrize(
    "kind", ["text/html", "image/svg+xml", "application/json", "", "image", "text/plain; image/png"]
)
async def test_what_is_no_picture_is_not_taken(site: Site, kind: str) -> None:
    site.page("/page", content_type=kind)
    reason = "it is none of image/png, image/jpeg, image/gif, image/webp"
    assert await refusal(fetcher(), f"http://x.example:{site.port}/page") == reason


async def test_a_media_type_may_have_parameters_and_capitals(site: Site) -> None:
    site.page("/a", content_type="Image/PNG; charset=binary")
    assert (await fetcher().fetch(f"http://x.example:{site.port}/a", Wanted())).kind == "image/png"


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip", "zstd"])
async def test_what_would_grow_by_being_unpacked_is_not_taken(site: Site, encoding: str) -> None:
    site.page("/bomb", content_encoding=encoding)
    reason = await refusal(fetcher(), f"http://x.example:{site.port}/bomb")
    assert reason == "it comes compressed, although that was not asked for"


@pytest.mark.parametrize("status", [204, 206, 304, 400, 404, 500])
async def test_another_status_is_told(site: Site, status: int) -> None:
    site.page("/odd", b"", status)
    assert await refusal(fetcher(), f"http://x.example:{site.port}/odd") == f"its server answered with status {status}"


async def test_a_server_that_speaks_something_else_is_told(nursery: trio.Nursery) -> None:
    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(b"220 mail.example ESMTP\r\n")

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, answer, [listener])
    url = f"http://x.example:{listener.socket.getsockname()[1]}/"
    assert await refusal(fetcher(), url) == "its server does not answer as one of the web does"


async def test_a_connection_that_breaks_off_is_told(nursery: trio.Nursery) -> None:
    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 100\r\n\r\nxx")

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, answer, [listener])
    url = f"http://x.example:{listener.socket.getsockname()[1]}/"
    assert await refusal(fetcher(), url) == "its server broke off in the middle of it"


async def test_a_name_that_nobody_knows_is_told() -> None:
    assert await refusal(Fetcher(), "http://nothing.invalid/") == "its host name leads nowhere"


async def start_tls(nursery: trio.Nursery, tmp_path: Path, name: str) -> tuple[int, ssl.SSLContext]:
    authority, site = Authority.in_(tmp_path), Site()
    site.page("/a.png")
    sock = bind("127.0.0.1", 0, "test")
    port = int(sock.getsockname()[1])
    tls = server_context(authority.files("server", name), "test")
    await nursery.start(serve, site, sock, Drain(), tls)
    return port, client_context(authority.ca)


async def test_over_tls_the_certificate_must_be_of_the_name_and_not_of_the_address(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    port, trusted = await start_tls(nursery, tmp_path, "pictures.example")
    fetching_ = Fetcher(Names(), lambda _: True, lambda: trusted)
    assert (await fetching_.fetch(f"https://pictures.example:{port}/a.png", Wanted())).data == PNG
    reason = await refusal(fetching_, f"https://other.example:{port}/a.png")
    assert reason.startswith("its certificate is not to be trusted: Hostname mismatch")


async def test_the_resolver_gives_each_address_once() -> None:
    assert list(await resolve("127.0.0.1", 80)) == ["127.0.0.1"]


def test_what_was_fetched_does_not_show_in_logs() -> None:
    assert "xxx" not in repr(Fetched("image/png", PNG))


def test_the_systems_trust_is_read_once() -> None:
    assert fetching._system_trust() is fetching._system_trust()
    assert fetching._system_trust().verify_mode is ssl.CERT_REQUIRED


HOSTS = ("::1", "127.0.0.1", "localhost", "169.254.169.254", "x.example", "xn--", "\u00fc", "0x7f", "user:pass@")
MARKS = (
    "://",
    ":",
    "/",
    "//",
    "\\",
    "@",
    "?",
    "#",
    "[",
    "]",
    ".",
    "..",
    "%",
    "%2f",
    "%00",
    "\uff0f",
    "\u2024",
    "-1",
    "80",
)
ODD = ("http", "HTTPS", "file", "\t", "\n", "\r", " ", "\0", "99999999", "a" * 300, "\ud800", "\U0001f600")
PIECES = st.sampled_from((*HOSTS, *MARKS, *ODD))


@given(text=st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=10).map("".join)), web=st.booleans())
@settings(max_examples=300)
def test_nothing_that_can_be_named_does_more_than_be_refused(text: str, *, web: bool) -> None:
    """Neither is anything asked inside, nor does any spelling make it fail in another way."""
    fetching_ = Fetcher(Names(["127.0.0.1"]))

    async def ask() -> None:
        with pytest.raises(FetchError):
            await fetching_.fetch("http://" + text if web else text, Wanted(timeout=5))

    trio.run(ask)


@given(st.binary(max_size=300))
@settings(max_examples=200)
def test_whatever_a_server_says_is_an_answer_or_refused(data: bytes) -> None:
    async def read() -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        await theirs.send_all(b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n" + data)
        await theirs.send_eof()
        try:
            answer = await Answer.begin(ours)
            assert len(await answer.body(100)) <= 100
        except FetchError:
            pass

    trio.run(read)
