"""A real fleet: `helexa up` as an operator runs it, with the bundled model, on ports of its own."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import httpx
import psutil
import pytest
from attrs import define, field

T = TypeVar("T")
START_SECONDS = 90.0
HTTP = httpx.Client(verify=False, timeout=5, limits=httpx.Limits(max_keepalive_connections=0))
"""For what is asked again and again: `httpx.get` reads all certificates of this machine first, 20 ms of a processor."""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_until(condition: Callable[[], T], seconds: float, what: str | Callable[[], str]) -> T:
    """Poll a real process until `condition` is true; its value. `what` is asked for at the end, where it is a call."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    pytest.fail(f"not within {seconds:g} s: {what if isinstance(what, str) else what()}")


@define
class Fleet:
    """A running `helexa up`."""

    topology: Path
    port: int
    neuron_port: int
    metrics_port: int
    log: Path
    process: subprocess.Popen = field(default=None)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def neuron_url(self) -> str:
        return f"http://127.0.0.1:{self.neuron_port}"

    def start(self, ready: str = "/ready") -> "Fleet":
        """Run it until `ready` answers: by default, until a model is loaded."""
        with self.log.open("w") as log:
            command = [sys.executable, "-m", "helexa", "up", str(self.topology)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        said = lambda: f"a fleet that serves; it said {self.log.read_text()}"  # noqa: E731 - read when it is too late
        wait_until(lambda: self.is_ready(ready), START_SECONDS, said)
        return self

    def is_ready(self, path: str) -> bool:
        if self.process.poll() is not None:
            pytest.fail(f"helexa up ended with {self.process.returncode}: {self.log.read_text()}")
        return self.get(path) == 200

    def get(self, path: str) -> int:
        try:
            return HTTP.get(self.url + path).status_code
        except httpx.TransportError:
            return 0

    def model(self) -> dict:
        return HTTP.get(f"{self.url}/v1/models/helexa/tiny").json()

    def engine_health(self) -> dict:
        return HTTP.get(f"{self.neuron_url}/health").json()["models"][0]

    def family(self) -> list[psutil.Process]:
        """Root, neuron and engine worker, in that order."""
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def workers(self) -> list[int]:
        """The processes of its engine workers that there are now."""
        return [each.pid for each in self.family() if "helexa.engine.worker" in _command_line(each)]

    def stop(self, with_signal: int = signal.SIGTERM, seconds: float = 20) -> int:
        family = self.family() if self.process.poll() is None else []
        if family:
            self.process.send_signal(with_signal)
        code = self.process.wait(seconds)
        gone_all(family, 10)
        return code


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it has ended meanwhile
        return []


def gone_all(family: list[psutil.Process], seconds: float) -> None:
    """Every process has ended, or the test fails."""
    _, alive = psutil.wait_procs(family, timeout=seconds)
    assert not alive, f"left behind: {[process.cmdline() for process in alive]}"


def make_fleet(directory: Path, extra: str = "") -> Fleet:
    port, neuron_port, metrics_port = free_port(), free_port(), free_port()
    topology = directory / "topology.toml"
    topology.write_text(
        f"""
[cortex]
listen = "127.0.0.1:{port}"
metrics_listen = "127.0.0.1:{metrics_port}"
database = "sqlite:///{directory}/helexa.db"
[[neurons]]
name = "local"
listen = "127.0.0.1:{neuron_port}"
devices = ["cpu"]
preload = ["helexa/tiny"]
[[models]]
id = "helexa/tiny"
[aliases]
tiny = "helexa/tiny"
[actors.poller]
interval = "500ms"
{extra}
"""
    )
    return Fleet(topology, port, neuron_port, metrics_port, directory / "log")


def sse_events(text: str) -> list[dict | str]:
    """The data of each event, JSON where it is JSON."""
    found = [part.removeprefix("data: ") for part in text.split("\n\n") if part]
    return [json.loads(data) if data.startswith("{") else data for data in found]
