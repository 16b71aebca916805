"""The console on a live fleet: in a terminal, and in a browser."""

import gzip
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import orjson
import psutil
import pytest
from browsers import CHROMIUM, Page, browse, different_rows
from harness import Fleet, make_fleet, wait_until
from tmux import SECONDS, TMUX, Terminal

pytestmark = pytest.mark.usefixtures("forked_fleets")
terminal = pytest.mark.skipif(TMUX is None, reason="tmux, the terminal that the console is driven in, is not installed")
browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed to open the console's page in")

SCREENS = {
    "2": ("Requests", ()),
    "3": ("Models", ("helexa/tiny", "local")),
    "4": ("Actors", ("router",)),
    "5": ("Bench", ()),
    "6": ("Keys", ()),
    "8": ("Logs", ("the gateway", "following")),
    "1": ("Fleet", ("local",)),
}


@terminal
@pytest.mark.parametrize("size", [(80, 24), (250, 70)], ids=["80x24", "250x70"])
def test_every_screen_is_opened_by_its_key_and_shows_the_fleet(fleet: Fleet, size: tuple[int, int]) -> None:
    with Terminal("console", "--url", fleet.url, size=size) as console:
        console.sees("connected", fleet.url, "local")
        for key, (_, shown) in SCREENS.items():
            console.press(key)
            console.sees("1 Fleet", "connected", *shown)
            assert "Traceback" not in console.shown()
        console.press("7")
        console.sees("helexa/tiny")
        console.press("C-q")
        console.sees("rc=0")


@terminal
def test_help_palette_filter_and_jump_are_a_key_away(fleet: Fleet) -> None:
    with Terminal("console", "--url", fleet.url) as console:
        console.sees("connected", "local")
        console.press("?")
        console.sees("Everywhere", "Jump to a letter")
        console.press("Escape")
        console.misses("Everywhere")
        console.press("4")
        console.sees("poller", "router")
        console.press("/")
        console.sees("filter:")
        console.press(*"poller")
        console.misses("router")
        console.press("Escape")
        console.sees("router")
        console.press("C-p")
        console.sees("Search")
        console.press(*"Logs")
        console.sees("key: 8")
        console.press("Enter")
        console.sees("following")
        console.press("1")
        console.sees("local")
        console.press("C-o")
        wait_until(lambda: re.search(r"^[a-z].*local", console.shown(), re.MULTILINE), SECONDS, "a letter at a line")
        console.press("Escape")
        wait_until(lambda: not re.search(r"^[a-z].*local", console.shown(), re.MULTILINE), SECONDS, "no letter")
        console.leave()


@terminal
def test_a_fleet_that_is_not_there_is_said_and_the_console_stays() -> None:
    with Terminal("console", "--url", "http://127.0.0.1:9") as console:
        console.sees("NO CONNECTION", "helexa up")
        console.press("q")
        assert "Traceback" not in console.sees("rc=0")


def lengthen(recording: Path) -> None:
    """By a minute in which nothing happens: what a test has recorded is over before anybody can have paused it."""
    with gzip.open(recording, "rb") as file:
        lines = file.readlines()
    last = orjson.loads(lines[-1])
    with gzip.open(recording, "wb") as file:
        file.writelines([*lines, orjson.dumps({**last, "at": last["at"] + 60}) + b"\n"])


@terminal
def test_what_was_recorded_is_replayed_and_can_be_paused(fleet: Fleet, tmp_path: Path) -> None:
    with Terminal("console", "--url", fleet.url, "--record", tmp_path / "rec") as console:
        console.sees("connected", "recording to", "local")
        console.press("q")
        console.sees("rc=0")
    lengthen(tmp_path / "rec")
    with Terminal("console", "--replay", tmp_path / "rec", "--speed", "0.1") as console:
        console.sees("replay", "local", "0.1x")
        console.press("Space")
        console.sees("replay, paused")
        console.press("q")
        console.sees("rc=0")


@terminal
def test_up_opens_the_console_on_its_fleet_and_leaving_it_stops_the_fleet(tmp_path: Path) -> None:
    fleet = make_fleet(tmp_path)
    with Terminal("up", "--console", fleet.topology, environment={"HOME": str(tmp_path)}) as console:
        console.sees("connected", fleet.url, "local")
        (log,) = tmp_path.glob(".local/state/helexa/up-*.log")
        running = [
            each for each in psutil.process_iter(["cmdline"]) if str(fleet.topology) in (each.info["cmdline"] or ())
        ]
        console.press("q")
        console.sees("stops the fleet")
        console.press("y")
        said = console.sees("rc=0")
        assert "the fleet has ended" in said
        assert str(log.name) in re.sub(r"\s", "", said)
        assert not psutil.wait_procs(running, timeout=10)[1] or not running
        assert fleet.get("/health") == 0


@terminal
def test_a_fleet_that_cannot_start_says_why_and_opens_no_console(tmp_path: Path, fleet: Fleet) -> None:
    broken = make_fleet(tmp_path)
    text = broken.topology.read_text().replace(f":{broken.neuron_port}", f":{fleet.neuron_port}")
    broken.topology.write_text(text)
    with Terminal("up", "--console", broken.topology, size=(200, 24), environment={"HOME": str(tmp_path)}) as console:
        console.sees("neurons.local.listen", "ended by itself", "rc=1")


@terminal
def test_a_console_is_not_opened_on_somebody_elses_fleet(fleet: Fleet) -> None:
    with Terminal("up", "--console", fleet.topology, size=(200, 24)) as console:
        console.sees("listens on", "helexa console", "rc=2")


@pytest.fixture
def served(fleet: Fleet) -> Iterator[str]:
    """The URL of the console's page."""
    command = [sys.executable, "-m", "helexa", "console", "--web", "--url", fleet.url, "--web-port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = re.search(r"http://\S+/", process.stderr.readline())
        assert found
        yield found[0]
        process.terminate()
        assert process.wait(20) == 0


@browser
def test_a_browser_shows_the_same_console_and_changes_nothing(served: str, tmp_path: Path) -> None:
    pictures: list[bytes] = []

    async def look(page: Page) -> None:
        await page.sees("connected")
        await page.sees("read-only")
        await page.press("?")
        await page.sees("Everywhere")
        pictures.append(await page.picture())

    browse(served, tmp_path / "profile", look)
    assert different_rows(pictures[0]) > 20


def test_a_page_of_another_site_gets_neither_the_console_nor_its_socket(served: str) -> None:
    upgrade = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    evil = {"origin": "http://evil.example"}
    assert httpx.get(f"{served}ws", headers=upgrade | evil).status_code == 403
    assert httpx.get(served, headers={"host": "evil.example"}).status_code == 403
    page = httpx.get(served)
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]
    wait_until(lambda: httpx.get(f"{served}static/js/textual.js").status_code == 200, 5, "the page's script")
