"""What an operator watches: the requests that are served, ended by hand where they must be, and the logs."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import orjson
import pytest
import structlog
import trio
from attrs import define, field
from gateways import DONE, EVENTS, PATH, REQUEST, NoLifecycle, start
from http_parts import SSE_HEAD, Call, Peer, chunk, scope_of, sse_data, until
from scrapes import Watched

from helexa import logs
from helexa.cortex import watching
from helexa.cortex.telemetry import live
from helexa.web.quart_errors import json_app
from helexa.wire import errors
from helexa.wire.sse import event

WORD = event({"choices": [{"delta": {"content": "word"}}]})


@define(eq=False)
class Nodes(NoLifecycle):
    """Their logs."""

    asked: list[tuple[str, str]] = field(factory=list)

    async def logs(self, node: str, query: str) -> bytes:
        self.asked.append((node, query))
        if node != "a":
            raise errors.upstream_error(f"{node} does not tell its log: gone.")
        return b'{"lines":[],"last":7}'


@define(eq=False)
class Side:
    app: Any
    watched: Watched
    nodes: Nodes

    async def ask(self, method: str, path: str, query: bytes = b"") -> tuple[int, Any]:
        call = Call({**scope_of(method, path), "query_string": query})
        await call.run(self.app)
        return call.status, orjson.loads(call.answer)

    async def requests(self) -> dict[str, list[dict[str, Any]]]:
        status, found = await self.ask("GET", "/fleet/requests")
        assert status == 200
        return found


@pytest.fixture
def side() -> Side:
    watched, nodes, app = Watched(), Nodes(), json_app("test")
    watching.add_routes(app, watched.observer, nodes)  # type: ignore[arg-type]
    return Side(app, watched, nodes)


@pytest.fixture
def book(monkeypatch: pytest.MonkeyPatch) -> Iterator[logs.LogBook]:
    """An empty book of this process, and structlog as ``helexa up`` has it."""
    book, before = logs.LogBook(4, lambda: 1.0), structlog.get_config()
    monkeypatch.setattr(logs, "book", book)
    structlog.configure(processors=[structlog.processors.add_log_level, book, structlog.dev.ConsoleRenderer()])
    yield book
    structlog.configure(**before)


async def test_a_request_is_shown_at_each_point_of_its_way(side: Side) -> None:
    seen = side.watched.observer.begin(PATH, "r1", "ci")
    states = [(await side.requests())["running"][0]["state"]]
    seen.read("m")
    states.append((await side.requests())["running"][0]["state"])
    seen.wait_begins()
    states.append((await side.requests())["running"][0]["state"])
    seen.wait_ends()
    seen.sent("a")
    states.append((await side.requests())["running"][0]["state"])
    seen.wrote(WORD, more=True)
    states.append((await side.requests())["running"][0]["state"])
    seen.wrote(b"", more=False)
    seen.end()
    found = await side.requests()
    assert states == ["reading", "queued", "waiting", "prefill", "decode"]
    assert (found["running"], found["ended"][0]["state"], found["ended"][0]["status"]) == ([], "ended", 200)


async def test_a_request_is_shown_with_its_tokens_and_how_fast_they_come(side: Side) -> None:
    seen = side.watched.observer.begin(PATH, "r1", "ci")
    seen.read("m")
    seen.sent("a")
    side.watched.later(0.5)
    seen.wrote(WORD, more=True)
    side.watched.later(2.0)
    seen.used((9, 5, 8))
    seen.wrote(WORD, more=True)
    side.watched.later(1.0)
    (shown,) = (await side.requests())["running"]
    assert shown == {
        "number": 1,
        "request_id": "r1",
        "route": PATH,
        "key": "ci",
        "model": "m",
        "node": "a",
        "attempts": 1,
        "state": "decode",
        "seconds": 3.5,
        "ago": None,
        "waited": None,
        "first_token": 0.5,
        "prompt_tokens": 9,
        "completion_tokens": 5,
        "cached_tokens": 8,
        "rate": 2.0,
        "status": None,
        "code": None,
    }


async def test_the_last_requests_that_ended_are_remembered_and_no_more(side: Side) -> None:
    for number in range(live.REMEMBERED + 3):
        with side.watched.observer.begin(PATH, f"r{number}", None) as seen:
            seen.read("m")
        side.watched.later(1.0)
    ended = (await side.requests())["ended"]
    assert [ended[0]["request_id"], len(ended), ended[1]["ago"]] == ["r258", 256, 2.0]
    assert ended[0]["code"] == "client_closed_request"


@pytest.mark.parametrize("number", ["7", "1"])
async def test_what_cannot_be_cancelled_is_a_404(side: Side, number: str) -> None:
    seen = side.watched.observer.begin(PATH, "r1", None)
    status, answer = await side.ask("DELETE", f"/fleet/requests/{number}")
    assert (status, answer["error"]["code"], seen.cancelled) == (404, "request_not_found", False)


@pytest.mark.parametrize("sent", [(), (SSE_HEAD, chunk(EVENTS[0]))], ids=["no head", "mid-stream"])
async def test_a_request_that_an_operator_cancels_ends_with_an_error_and_leaves_the_node(
    nursery: trio.Nursery, gateways: list[Any], sent: tuple[bytes, ...]
) -> None:
    async def play(peer: Peer) -> None:
        for piece in sent:
            await peer.stream.send_all(piece)
        await peer.stream.receive_some()

    gateway, script = await start(nursery, gateways, play)
    call = Call.post(PATH, REQUEST)
    async with trio.open_nursery() as inner:
        inner.start_soon(call.run, gateway.app)
        await until(lambda: bool(call.messages) if sent else len(script.requests) == 1)
        assert gateway.proxy.observer.live.cancel(1)
    await until(lambda: script.open == 0)
    *_, error = [orjson.loads(call.answer)] if not sent else sse_data(call.answer)[:-1]
    assert (call.status, error["error"]["code"]) == (200 if sent else 403, "request_cancelled")
    (shown,) = gateway.proxy.observer.live.shown(0.0)["ended"]
    assert (shown["code"], gateway.router.fleet().in_flight) == ("request_cancelled", {})


async def test_a_request_that_has_answered_is_not_turned_into_an_error(
    nursery: trio.Nursery, gateways: list[Any]
) -> None:
    async def play(peer: Peer) -> None:
        await peer.stream.send_all(SSE_HEAD + chunk(EVENTS[1]) + chunk(DONE) + chunk(b""))

    gateway, _ = await start(nursery, gateways, play)
    call = await gateway.ask()
    assert not gateway.proxy.observer.live.cancel(1)
    assert call.answer.endswith(DONE)


async def test_the_gateways_log_is_told_page_by_page(side: Side, book: logs.LogBook) -> None:
    log = structlog.get_logger()
    log.info("model.loaded", model="m", seconds=1.5)
    log.warning("node.down", error=OSError("gone"))
    _, first = await side.ask("GET", "/fleet/logs")
    assert [(line["level"], line["event"], line["fields"]) for line in first["lines"]] == [
        ("info", "model.loaded", {"model": "m", "seconds": 1.5}),
        ("warning", "node.down", {"error": "gone"}),
    ]
    log.info("later")
    _, second = await side.ask("GET", "/fleet/logs", b"after=%d" % first["last"])
    assert [line["event"] for line in second["lines"]] == ["later"]
    _, third = await side.ask("GET", "/fleet/logs", b"after=%d" % second["last"])
    assert (third["lines"], third["last"]) == ([], second["last"])


async def test_of_a_long_log_the_latest_lines_are_kept_and_told(side: Side, book: logs.LogBook) -> None:
    for number in range(9):
        structlog.get_logger().info(f"event.{number}")
    _, everything = await side.ask("GET", "/fleet/logs")
    _, some = await side.ask("GET", "/fleet/logs", b"limit=2")
    assert [line["event"] for line in everything["lines"]] == [f"event.{number}" for number in range(5, 9)]
    assert [line["event"] for line in some["lines"]] == ["event.7", "event.8"]


async def test_a_number_of_an_earlier_process_begins_the_log_anew(side: Side, book: logs.LogBook) -> None:
    structlog.get_logger().info("here")
    _, found = await side.ask("GET", "/fleet/logs", b"after=99999999999999")
    assert [line["event"] for line in found["lines"]] == ["here"]


def test_a_log_keeps_no_traceback_alive(book: logs.LogBook) -> None:
    try:
        raise ValueError("x")  # noqa: TRY301 - it is the traceback that is wanted
    except ValueError as error:
        structlog.get_logger().error("fault", exc_info=error)
    (line,) = book.since(0, 10)
    assert (line.event, dict(line.fields)) == ("fault", {"error": "ValueError: x"})


def test_a_line_says_what_was_raised_however_it_is_told_of_it(book: logs.LogBook) -> None:
    log, error = structlog.get_logger(), KeyError()
    for told in (error, (KeyError, error, None), (None, None, None), True, None):
        log.error("told", exc_info=told)
    log.error("in words already", error="gone", exc_info=error)
    with suppress(KeyError):
        _raise_and_tell(log)
    found = [dict(line.fields) for line in book.since(0, 10)]
    assert found[-4:] == [{}, {}, {"error": "gone"}, {"error": "KeyError: 'x'"}]


def _raise_and_tell(log: Any) -> None:
    try:
        {}["x"]
    except KeyError:
        log.exception("fault")
        raise


async def test_a_nodes_log_is_asked_of_the_node(side: Side) -> None:
    assert await side.ask("GET", "/fleet/logs", b"node=a&after=5&limit=6") == (200, {"lines": [], "last": 7})
    assert side.nodes.asked == [("a", "after=5&limit=6")]
    status, answer = await side.ask("GET", "/fleet/logs", b"node=b")
    assert (status, answer["error"]["code"]) == (502, "upstream_error")


@pytest.mark.parametrize("query", [b"after=x", b"limit=-1", b"after=%C2%B2", b"limit=" + b"9" * 30])
async def test_a_page_of_no_number_is_refused(side: Side, query: bytes) -> None:
    status, answer = await side.ask("GET", "/fleet/logs", query)
    assert (status, answer["error"]["code"]) == (400, "invalid_value")
