"""The feed about the places of one model: which model it is about, and that it rests while it is about none."""

import asyncio

import pytest
from fleet_servers import answer, serving
from textual.message import Message

from tui import live
from tui.live import Live
from tui.messages import Seen

FLEET = answer({"nodes": []})
PLACES = {"id": "team/a b", "sites": []}


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds pass quickly."""
    monkeypatch.setattr(live, "LEAST_SECONDS", 0.01)


async def asked(model: str | None, feed: str) -> tuple[list[Message], list[str]]:
    """What is told until a feed has come, and which paths were asked for."""
    told: list[Message] = []
    enough = asyncio.Event()

    def tell(message: Message) -> None:
        told.append(message)
        if isinstance(message, Seen) and message.feed == feed:
            enough.set()

    async with serving(**{"fleet": FLEET, "fleet__models__team__a%20b__places": answer(PLACES)}) as server:
        source = Live(server.url, None, server.url)
        source.places_of = model
        running = asyncio.ensure_future(source.run(lambda: frozenset({"places"}), tell))
        await asyncio.wait_for(enough.wait(), 20)
        running.cancel()
        await asyncio.wait([running])
        return told, [path for path, _ in server.asked]


def test_the_places_of_a_model_with_any_name_are_asked_for() -> None:
    told, paths = asyncio.run(asked("team/a b", "places"))
    assert "/fleet/models/team/a%20b/places" in paths
    assert [each.data for each in told if isinstance(each, Seen) and each.feed == "places"] == [PLACES]


def test_while_there_is_no_model_nothing_is_asked_about_it() -> None:
    _, paths = asyncio.run(asked(None, "fleet"))
    assert not any("places" in path for path in paths)
