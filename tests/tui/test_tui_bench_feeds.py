"""Feeds that are read only once a screen has said what it asks."""

import asyncio
from typing import Any

from fleet_servers import Answer, answer, serving
from textual.message import Message

from tui.live import Live
from tui.messages import Seen

SERIES = "bench_series"


async def told_of(feed: str, told: "asyncio.Queue[Message]") -> Any:
    """What is told of a feed next."""
    while True:
        message = await told.get()
        if isinstance(message, Seen) and message.feed == feed:
            return message.data


async def end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_a_feed_with_a_query_is_asked_for_with_it_and_not_before() -> None:
    async def main() -> None:
        told: asyncio.Queue[Message] = asyncio.Queue()
        answers = {"fleet": answer({"nodes": []}), "api__series": answer({"series": []}), "api__status": answer({})}
        async with serving(**answers) as server, asyncio.timeout(20):
            live = Live(server.url, None, server.url)
            task = asyncio.create_task(live.run(lambda: frozenset({SERIES, "bench_status"}), told.put_nowait))
            await told_of("bench_status", told)
            assert server.asked_for("/api/series") == []
            live.queries[SERIES] = "metric=ttft&model=a%2Fb"
            live.poke(SERIES)
            await told_of(SERIES, told)
            asked = [path for path, _ in server.asked if path.startswith("/api/series")]
            assert asked == ["/api/series?metric=ttft&model=a%2Fb"]
            await end(task)

    asyncio.run(main())


def test_an_answer_to_a_query_that_has_changed_meanwhile_is_not_told() -> None:
    async def main() -> None:
        told: asyncio.Queue[Message] = asyncio.Queue()
        asked, changed = asyncio.Event(), asyncio.Event()

        async def late(writer: asyncio.StreamWriter) -> None:
            asked.set()
            await changed.wait()
            writer.write(answer({"series": ["old"]}))
            await writer.drain()

        series: list[Answer] = [late, answer({"series": ["new"]})]
        async with serving(fleet=answer({"nodes": []}), api__series=series) as server, asyncio.timeout(20):
            live = Live(server.url, None, server.url)
            live.queries[SERIES] = "metric=old"
            task = asyncio.create_task(live.run(lambda: frozenset({SERIES}), told.put_nowait))
            await asked.wait()
            live.queries[SERIES] = "metric=new"
            live.poke(SERIES)
            changed.set()
            assert await told_of(SERIES, told) == {"series": ["new"]}
            await end(task)

    asyncio.run(main())
