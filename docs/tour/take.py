"""Takes the README's pictures of the console: a real fleet with some traffic, and each screen of the console on it.

    just tour

Runs a fleet with the bundled model on free ports, with a state of its own, measures it twice for the Bench screen, has
a few clients ask it something all the time, and writes an SVG of each screen beside this file.
"""

import asyncio
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
from textual.pilot import Pilot

from tui.app import Console, live
from tui.screens.registry import SCREENS

HERE = Path(__file__).parent
SIZE = (118, 32)
QUESTIONS = ("Tell me a story.", "What is the capital of France?", "What is 17 + 25?", "Who are you?")
TOPOLOGY = """
[cortex]
listen = "127.0.0.1:{}"
metrics_listen = "127.0.0.1:{}"
database = "sqlite:///{state}/helexa.db"
[[neurons]]
name = "desk"
listen = "127.0.0.1:{}"
devices = ["cpu"]
preload = ["helexa/tiny", "house/tiny-int8"]
[[models]]
id = "helexa/tiny"
[[models]]
id = "house/tiny-int8"
source = "helexa:helexa/tiny"
quant = "int8"
[[models]]
id = "house/elsewhere"
source = "path:/nowhere"
[aliases]
tiny = "helexa/tiny"
[bench]
listen = "127.0.0.1:{}"
database = "sqlite:///{state}/bench.db"
interval = "never"
"""
FONT = re.compile(r"@font-face \{.*?\}", re.DOTALL)
"""Textual's pictures name fonts of other hosts; whatever shows them has a monospaced one of its own."""


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def fleet(state: Path, ports: list[int]) -> Iterator[str]:
    """One that serves; its URL."""
    file = state / "topology.toml"
    file.write_text(TOPOLOGY.format(*ports, state=state))
    url = f"http://127.0.0.1:{ports[0]}"
    with (state / "log").open("w") as log:
        running = subprocess.Popen([sys.executable, "-m", "helexa", "up", str(file)], stdout=log, stderr=log)
    try:
        wait_until(lambda: httpx.get(f"{url}/ready").is_success, running)
        yield url
    finally:
        running.terminate()
        running.wait(30)


def wait_until(true: Callable[[], bool], running: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until and running.poll() is None:
        with suppress(httpx.TransportError):
            if true():
                return
        time.sleep(0.2)
    raise SystemExit("the fleet does not serve")


def measure(url: str, state: Path) -> None:
    """So that the Bench screen has something to show."""
    environment = {**os.environ, "HELEXA_BENCH_DATABASE": f"sqlite:///{state}/bench.db"}
    for label in ("before", "after"):
        command = [sys.executable, "-m", "helexa", "bench", "run", "--url", url, "--label", label]
        subprocess.run([*command, "--model", "helexa/tiny", "--against", "none"], env=environment, check=False)


async def ask(url: str, number: int) -> None:
    """One client that always has another question."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        while True:
            question = QUESTIONS[number % len(QUESTIONS)]
            body = {"model": ("tiny", "house/tiny-int8")[number % 2], "stream": True, "max_tokens": 300 + 40 * number}
            messages = [{"role": "user", "content": question}]
            with suppress(httpx.HTTPError):
                await client.post("/v1/chat/completions", json={**body, "messages": messages, "ignore_eos": True})
            await asyncio.sleep(0.3)


async def converse(pilot: Pilot[None]) -> None:
    """A question in the chat, and its answer."""
    await pilot.press("i", *"What is the capital of France?", "enter")
    await pilot.pause(4)


async def visit(app: Console, take: Callable[[str], None]) -> None:
    async with app.run_test(size=SIZE) as pilot:
        for name in sorted(SCREENS, key=lambda each: each == "chat"):  # last: what is pressed then is written there
            await pilot.press(str(list(SCREENS).index(name) + 1))
            await pilot.pause(6 if name in ("fleet", "bench") else 3)
            if name == "chat":
                await converse(pilot)
            take(name)


async def tour(url: str, bench_url: str) -> None:
    async with asyncio.TaskGroup() as tasks:
        clients = [tasks.create_task(ask(url, number)) for number in range(4)]
        app = live(url, None, bench_url, readonly=False)
        await visit(app, lambda name: write(app, name))
        for each in clients:
            each.cancel()


def write(app: Console, name: str) -> None:
    picture = FONT.sub("", app.export_screenshot(title=f"helexa console: {SCREENS[name].title}"))
    (HERE / f"{name}.svg").write_text(picture)
    print(f"{name}.svg", file=sys.stderr)


def main() -> None:
    ports = free_ports(4)
    with tempfile.TemporaryDirectory() as directory, fleet(Path(directory), ports) as url:
        measure(url, Path(directory))
        asyncio.run(tour(url, f"http://127.0.0.1:{ports[3]}"))


if __name__ == "__main__":
    main()
