"""The log of events and its readers: nothing lost, nothing twice, and nobody waits for a slow one."""

from typing import Any

import orjson
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from helexa.cortex.events import HEARTBEAT, HEARTBEAT_SECONDS, EventLog, Feed, seen

FIRST = 5000


def log_of(capacity: int = 4) -> EventLog:
    """A log whose clock stands at five seconds past the epoch, so that its first event is number 5001."""
    return EventLog(capacity, lambda: FIRST / 1000)


def feed_of(log: EventLog, after: int | None = None) -> Feed:
    return Feed(log, lambda: {"nodes": []}, after)


def read(data: bytes) -> list[tuple[int, str, Any]]:
    """Number, name and data of each event; what the lines say and what the data says has to agree."""
    found = []
    for event in data.removesuffix(b"\n\n").split(b"\n\n"):
        lines = dict(line.split(b": ", 1) for line in event.split(b"\n"))
        body = orjson.loads(lines[b"data"])
        assert (int(lines[b"id"]), lines[b"event"].decode()) == (body["id"], body["event"])
        assert body["time"] == FIRST / 1000
        found.append((body["id"], body["event"], body["data"]))
    return found


async def test_an_event_is_numbered_named_and_dated() -> None:
    log = log_of()
    log.publish("model.loaded", node="beast", model="m")
    (event,) = await log.wait(FIRST)
    assert event.encode() == (
        b'id: 5001\nevent: model.loaded\ndata: {"id":5001,"time":5.0,"event":"model.loaded",'
        b'"data":{"node":"beast","model":"m"}}\n\n'
    )


async def test_data_may_have_any_name() -> None:
    log = log_of()
    log.publish("x", kind="a", self="b", id=1)
    (event,) = await log.wait(FIRST)
    assert event.data == {"kind": "a", "self": "b", "id": 1}


async def test_a_new_reader_begins_with_a_snapshot_and_goes_on_with_what_changes() -> None:
    log = log_of()
    log.publish("before")
    feed = feed_of(log)
    assert read(await anext(feed)) == [(5001, "snapshot", {"nodes": []})]
    log.publish("after", n=1)
    log.publish("after", n=2)
    assert read(await anext(feed)) == [(5002, "after", {"n": 1}), (5003, "after", {"n": 2})]


async def test_a_reader_that_waits_is_woken(autojump_clock: trio.abc.Clock) -> None:
    log = log_of()
    feed = feed_of(log, log.last)

    async def publish() -> None:
        await trio.testing.wait_all_tasks_blocked()
        log.publish("now")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish)
        assert read(await anext(feed)) == [(5001, "now", {})]


async def test_a_reader_that_comes_back_gets_what_it_missed() -> None:
    log = log_of()
    for n in range(4):
        log.publish("e", n=n)
    assert [data["n"] for _, _, data in read(await anext(feed_of(log, FIRST)))] == [0, 1, 2, 3]
    assert [data["n"] for _, _, data in read(await anext(feed_of(log, 5003)))] == [3]


@pytest.mark.parametrize("after", [0, FIRST, FIRST - 1, 5006])
async def test_a_reader_whose_place_is_gone_begins_anew(after: int) -> None:
    """Fallen out of the log, from an earlier life of the gateway, or from a later one than this."""
    log = log_of()
    for _ in range(5):
        log.publish("e")
    feed = feed_of(log, after)
    assert read(await anext(feed)) == [(5005, "snapshot", {"nodes": []})]


async def test_a_reader_overtaken_in_its_sleep_begins_anew(autojump_clock: trio.abc.Clock) -> None:
    log = log_of()
    feed = feed_of(log, log.last)

    async def publish() -> None:
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(6):
            log.publish("e")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish)
        assert read(await anext(feed)) == [(5006, "snapshot", {"nodes": []})]
    log.publish("later")
    assert read(await anext(feed)) == [(5007, "later", {})]


async def test_a_restarted_gateway_does_not_take_old_numbers_for_its_own() -> None:
    old, new = EventLog(clock=lambda: 1.0), EventLog(clock=lambda: 2.0)
    for _ in range(100):
        old.publish("e")
    new.publish("e")
    assert not new.holds(old.last)


async def test_silence_is_filled_with_heartbeats_that_lose_nothing(autojump_clock: trio.abc.Clock) -> None:
    log = log_of()
    feed = feed_of(log, log.last)
    start = trio.current_time()
    assert await anext(feed) == HEARTBEAT
    assert await anext(feed) == HEARTBEAT
    assert trio.current_time() - start == 2 * HEARTBEAT_SECONDS
    log.publish("e")
    assert read(await anext(feed)) == [(5001, "e", {})]


async def test_closing_gives_readers_the_last_events_and_then_the_end() -> None:
    log = log_of()
    feed = feed_of(log, log.last)
    log.publish("last")
    log.close()
    assert [read(data) async for data in feed] == [[(5001, "last", {})]]


async def test_closing_wakes_a_reader_that_waits(autojump_clock: trio.abc.Clock) -> None:
    log = log_of()

    async def close() -> None:
        await trio.testing.wait_all_tasks_blocked()
        log.close()

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(close)
        assert [data async for data in feed_of(log, log.last)] == []
    assert trio.current_time() == start


async def test_publishing_outruns_any_reader() -> None:
    log = EventLog()
    for n in range(10_000):
        log.publish("e", n=n)
    assert len(await log.wait(log.last - 1024)) == 1024


@pytest.mark.parametrize(
    ("header", "number"),
    [(None, None), ("", None), ("17", 17), ("-1", None), ("1.5", None), ("x", None), ("²", None), ("9" * 5000, None)],
)
def test_a_last_event_id_is_a_number_or_nothing(header: str | None, number: int | None) -> None:
    assert seen(header) == number


@settings(deadline=None)
@given(capacity=st.integers(1, 4), steps=st.lists(st.integers(0, 6), max_size=12))
def test_what_a_reader_knows_adds_up_however_it_lags(capacity: int, steps: list[int]) -> None:
    """A reader that comes only after so many events knows at the end what the log knows."""

    async def follow() -> None:
        log, total = log_of(capacity), 0
        feed = Feed(log, lambda: {"total": total}, None)
        known = None
        for step in [0, *steps]:
            for _ in range(step):
                total += 1
                log.publish("counted", total=total)
            if step or known is None:
                for _, kind, data in read(await anext(feed)):
                    assert kind == "snapshot" or data["total"] == known + 1
                    known = data["total"]
            assert known == total

    trio.run(follow)
