"""Reading a fleet for the console, against a real small server: what comes, and what is said when nothing does."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest
from fleet_servers import Answer, FleetServer, answer, event, events, serving, silence
from textual.message import Message

from tui import live
from tui.client import FleetError
from tui.live import Live
from tui.messages import Happened, LinkChanged, Seen

Until = Callable[[list[Message]], bool]
FLEET = answer({"nodes": [], "from_the_future": {"x": [1]}})


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds pass quickly."""
    monkeypatch.setattr(live, "LEAST_SECONDS", 0.99)  # of the second that is between two reads of the fleet
    monkeypatch.setattr(live, "GATHER_SECONDS", 0.01)
    monkeypatch.setattr(live, "_AGAIN", (0.01,))


async def hear(source: Live, until: Until, *wanted: str) -> list[Message]:
    """What a source tells until that is so."""
    told: list[Message] = []
    enough = asyncio.Event()

    def tell(message: Message) -> None:
        told.append(message)
        if until(told):
            enough.set()

    running = asyncio.ensure_future(source.run(lambda: frozenset(wanted), tell))
    try:
        await asyncio.wait_for(enough.wait(), 20)
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    return told


def ask(until: Until, *wanted: str, key: str | None = None, **answers: Answer | list[Answer]) -> list[Message]:
    """What is told of a server with these answers."""

    async def main() -> list[Message]:
        async with serving(**answers) as server:
            return await hear(Live(server.url, key, server.url, clock=lambda: 7.0), until, *wanted)

    return asyncio.run(main())


def links(told: list[Message]) -> list[LinkChanged]:
    return [message for message in told if isinstance(message, LinkChanged)]


def seen(told: list[Message], feed: str) -> list[Seen]:
    return [message for message in told if isinstance(message, Seen) and message.feed == feed]


def linked(told: list[Message]) -> bool:
    return bool(links(told))


def of(feed: str) -> Until:
    return lambda told: bool(seen(told, feed))


def test_a_fleet_that_answers_is_connected_and_told_whole_with_the_time() -> None:
    told = ask(of("fleet"), fleet=FLEET)
    assert [link.state for link in links(told)] == ["connected"]
    assert seen(told, "fleet") == [Seen("fleet", {"nodes": [], "from_the_future": {"x": [1]}}, 7.0)]


def test_only_what_the_screen_in_front_needs_is_read() -> None:
    told = ask(of("requests"), "requests", fleet=FLEET, fleet__requests=answer({"running": []}))
    assert {message.feed for message in told if isinstance(message, Seen)} == {"fleet", "requests"}


def test_the_key_is_presented() -> None:
    async def main() -> FleetServer:
        async with serving(fleet=FLEET) as server:
            await hear(Live(server.url, "sk-1", server.url), of("fleet"))
            return server

    assert asyncio.run(main()).asked_for("/fleet")[0]["authorization"] == "bearer sk-1"


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_refused_is_told_with_the_fleets_sentence(status: int) -> None:
    told = ask(linked, fleet=answer({"error": {"message": "No such key."}}, status))
    assert links(told) == [LinkChanged("refused", "No such key.")]


@pytest.mark.parametrize(
    "strange",
    [
        answer(b"<html>hello", kind="text/html"),
        answer(b'{"nodes": [', kind="application/json"),
        answer(b"[1, 2]"),
        answer(b"null"),
        answer(b"\xff\xfe"),
        answer(b"", 204),
        answer(b"", 301),
        answer(b"<html>", 500, "text/html"),
        answer(b"<html>", 404, "text/html"),
    ],
    ids=["html", "half", "list", "null", "bytes", "empty", "moved", "error", "missing"],
)
def test_what_answers_and_is_no_fleet_is_said_to_be_none(strange: bytes) -> None:
    (link, *_) = links(ask(linked, fleet=strange))
    assert link.state == "strange"
    assert "127.0.0.1" in link.reason


@pytest.mark.parametrize("broken", [b"", b"\x00\x01nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"])
def test_an_answer_that_breaks_off_is_a_lost_connection(broken: bytes) -> None:
    (link, *_) = links(ask(linked, fleet=broken))
    assert link.state == "lost"
    assert "broke off" in link.reason


def test_a_server_that_accepts_and_says_nothing_is_a_lost_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "READ_SECONDS", 0.05)
    (link, *_) = links(ask(linked, fleet=silence))
    assert link.state == "lost"


def test_nobody_there_is_told_with_what_to_do() -> None:
    async def main() -> list[Message]:
        async with serving() as server:
            url = server.url
        return await hear(Live(url, None, url), linked)

    (link, *_) = links(asyncio.run(main()))
    assert link.state == "lost"
    assert "helexa up" in link.reason


@pytest.mark.parametrize("url", ["http://[::1", "http://fleet:x", "http://\x00"])
def test_what_is_no_url_is_said_before_anything_is_drawn(url: str) -> None:
    with pytest.raises(FleetError, match="cannot ask a fleet"):
        Live(url, None, url)


@pytest.mark.parametrize("url", ["fleet:31313", "ftp://127.0.0.1", "http://", "http://127.0.0.1:99999", "http://a b"])
def test_a_url_that_leads_nowhere_is_a_lost_connection_or_refused_at_once(url: str) -> None:
    try:
        source = Live(url, None, url)
    except FleetError:
        return
    (link, *_) = links(asyncio.run(hear(source, linked)))
    assert link.state == "lost"


def test_a_feed_that_an_older_fleet_has_not_is_an_error_of_that_feed_alone() -> None:
    told = ask(of("requests"), "requests", fleet=FLEET)
    (found, *_) = seen(told, "requests")
    assert found.data is None
    assert "older" in (found.error or "")
    assert {link.state for link in links(told)} <= {"connected"}


def test_a_feed_that_this_key_may_not_read_says_so() -> None:
    refused = answer({"error": {"message": "This key may not see requests."}}, 403)
    (found, *_) = seen(ask(of("requests"), "requests", fleet=FLEET, fleet__requests=refused), "requests")
    assert found.error == "This key may not see requests."


def test_a_fleet_that_comes_back_is_connected_again() -> None:
    told = ask(lambda told: len(links(told)) == 3, fleet=[FLEET, b"", FLEET])
    assert [link.state for link in links(told)] == ["connected", "lost", "connected"]


def test_events_of_a_moment_are_told_together_and_a_snapshot_is_none() -> None:
    stream = events(event(1, "snapshot"), event(2, "node.up", node="a"), event(3, "node.down", node="a"), stay=True)
    told = ask(lambda told: any(isinstance(each, Happened) for each in told), fleet=FLEET, fleet__events=stream)
    (happened,) = [each for each in told if isinstance(each, Happened)]
    assert [(each.id, each.event, each.data) for each in happened.events] == [
        (2, "node.up", {"node": "a"}),
        (3, "node.down", {"node": "a"}),
    ]


def test_after_a_break_events_go_on_after_the_last_one_heard() -> None:
    async def main() -> FleetServer:
        first, second = events(event(41, "node.up")), events(event(42, "node.down"), stay=True)
        async with serving(fleet=FLEET, fleet__events=[first, b"", second]) as server:
            both = lambda told: sum(len(each.events) for each in told if isinstance(each, Happened)) == 2  # noqa: E731
            await hear(Live(server.url, None, server.url), both)
            return server

    asked = asyncio.run(main()).asked_for("/fleet/events")
    assert [headers.get("last-event-id") for headers in asked] == [None, "41", "41"]


def test_events_that_are_no_json_or_no_objects_are_passed_over() -> None:
    stream = events(b"data: {\n\n", b"data: [1]\n\n", b": hello\n\n", event(9, "node.up"), stay=True)
    told = ask(lambda told: any(isinstance(each, Happened) for each in told), fleet=FLEET, fleet__events=stream)
    named = [event for each in told if isinstance(each, Happened) for event in each.events if event.event]
    assert [each.id for each in named] == [9]


def test_an_event_has_the_fleet_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "LEAST_SECONDS", 0.0)
    monkeypatch.setitem(live.FEEDS, "fleet", live.Feed("fleet", "/fleet", 3600.0))
    told = ask(
        lambda told: len(seen(told, "fleet")) == 2, fleet=FLEET, fleet__events=events(event(1, "node.up"), stay=True)
    )
    assert len(seen(told, "fleet")) == 2


def test_lines_of_a_log_are_asked_for_after_the_last_one_that_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "LEAST_SECONDS", 0.0)
    monkeypatch.setitem(live.FEEDS, "logs", live.Feed("logs", "/fleet/logs", 0.01))

    async def main() -> FleetServer:
        logs = answer({"lines": [{"id": 5, "event": "a"}], "last": 5})
        async with serving(fleet=FLEET, fleet__logs=logs) as server:
            await hear(Live(server.url, None, server.url), lambda told: len(seen(told, "logs")) == 2, "logs")
            return server

    paths = [path for path, _ in asyncio.run(main()).asked if path.startswith("/fleet/logs")]
    assert paths[:2] == ["/fleet/logs?after=0", "/fleet/logs?after=5"]


def test_logs_of_another_node_have_a_count_of_their_own_and_say_whose_they_are() -> None:
    async def main() -> tuple[list[Message], list[str]]:
        async with serving(fleet=FLEET, fleet__logs=answer({"lines": [], "last": "many"})) as server:
            source = Live(server.url, None, server.url)
            source.logs_of = "beast & co"
            told = await hear(source, of("logs"), "logs")
            return told, [path for path, _ in server.asked if path.startswith("/fleet/logs")]

    told, paths = asyncio.run(main())
    assert paths == ["/fleet/logs?node=beast+%26+co&after=0"]
    assert seen(told, "logs")[0].data["node"] == "beast & co"
