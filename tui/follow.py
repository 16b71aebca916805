"""Asks a fleet for something that takes its time, and hears meanwhile what happens there."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import orjson
import trio

from helexa.wire.sse import EventReader
from tui.client import CONNECT_SECONDS, FAILURES, client_options, no_url, read_object, trouble

Hear = Callable[[dict[str, Any]], None]


async def ask(url: str, key: str | None, path: str, body: dict[str, Any], hear: Hear) -> dict[str, Any]:
    """Post ``body`` and wait for the answer, however long that takes; cancelling gives up the wait.

    Args:
        url: the fleet's base URL.
        key: API key, if the fleet asks for one.
        path: where to.
        body: plain JSON.
        hear: is told each event of the fleet until the answer comes, the snapshot first; nothing where events cannot
            be had.

    Raises:
        FleetError: the fleet could not be asked, or answered with an error.
    """
    options = client_options(url, key)
    try:
        client = httpx.AsyncClient(**options)
    except (httpx.InvalidURL, ValueError) as error:
        raise no_url(url, error) from error
    async with client:
        return await _ask(client, options["base_url"], path, body, hear)


async def _ask(client: httpx.AsyncClient, url: str, path: str, body: dict[str, Any], hear: Hear) -> dict[str, Any]:
    failure, response = None, None
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(CONNECT_SECONDS):
            await nursery.start(_follow, client, hear)
        try:
            response = await client.post(path, json=body)
        except FAILURES as error:
            failure = error
        nursery.cancel_scope.cancel()
    if response is None:
        assert failure is not None
        raise trouble(url, failure) from failure
    return read_object(response)


async def _follow(
    client: httpx.AsyncClient, hear: Hear, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Hear events until they end; started as soon as the first was heard, so that none of what follows is missed."""
    reader, heard = EventReader(), False
    with suppress(*FAILURES, ValueError):
        async with client.stream("GET", "/fleet/events") as response:
            async for piece in response.aiter_bytes():
                for data in reader.push(piece) if response.is_success else ():
                    hear(orjson.loads(data))
                    if not heard:
                        heard = True
                        task_status.started()
    if not heard:
        task_status.started()
