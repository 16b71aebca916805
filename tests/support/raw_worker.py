"""An engine worker's process and the bare socket to it, without a neuron in between."""

import socket
import subprocess
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import pytest
from attrs import define, field

from actors import python
from helexa.engine import protocol
from helexa.engine.protocol import (
    Began,
    Failed,
    Finished,
    Frame,
    FrameReader,
    Heartbeat,
    Hello,
    Loaded,
    LoadFailed,
    Loading,
    Tokens,
)

F = TypeVar("F")
PATIENCE = 60.0


@define(eq=False)
class RawWorker:
    """Owns the process and our end of the socket."""

    process: "subprocess.Popen[bytes]"
    socket: socket.socket
    heartbeats: list[Heartbeat] = field(factory=list)
    began: list[str] = field(factory=list)
    loading: list[Loading] = field(factory=list)
    _reader: FrameReader = field(factory=FrameReader)
    _frames: deque[Frame] = field(factory=deque)

    @classmethod
    def start(cls) -> "RawWorker":
        ours, theirs = socket.socketpair()
        with theirs:
            arguments = ("--device", "cpu", "--fd", str(theirs.fileno()), "--threads", "1")
            process = subprocess.Popen(
                python.command("helexa.engine.worker", *arguments),
                stdin=subprocess.PIPE,
                env=python.environment(),
                pass_fds=[theirs.fileno()],
            )
        ours.settimeout(PATIENCE)
        return cls(process, ours)

    def send(self, *frames: protocol.Command) -> None:
        self.socket.sendall(b"".join(map(protocol.encode, frames)))

    def next(self, *kinds: type[F]) -> F:
        """The next frame that answers something; the test fails if it is none of `kinds`."""
        while not self._frames:
            self._fill()
        frame = self._frames.popleft()
        if not isinstance(frame, kinds):
            pytest.fail(f"expected {[kind.__name__ for kind in kinds]}, the worker sent {frame}")
        return frame

    def _fill(self) -> None:
        data = self.socket.recv(1 << 16)
        assert data, "the worker has closed its end"
        for frame in self._reader.push(data):
            if isinstance(frame, Heartbeat):
                self.heartbeats.append(frame)
            elif isinstance(frame, Began):
                self.began += frame.requests
            elif isinstance(frame, Loading):
                self.loading.append(frame)
            else:
                self._frames.append(frame)

    def await_heartbeat(self) -> Heartbeat:
        """The next heartbeat from now."""
        seen = len(self.heartbeats)
        while len(self.heartbeats) == seen:
            self._fill()
        return self.heartbeats[-1]

    def load(self, model: str, path: Path | str) -> Loaded | LoadFailed:
        self.send(protocol.Load(model, str(path)))
        return self.next(Loaded, LoadFailed)

    def collect(self, requests: Iterable[str]) -> tuple[dict[str, list[int]], dict[str, Finished | Failed]]:
        """Tokens and ends by request, until each has ended."""
        waiting, tokens, ends = set(requests), dict[str, list[int]](), dict[str, Finished | Failed]()
        while waiting:
            frame = self.next(Tokens, Finished, Failed)
            if isinstance(frame, Tokens):
                for delta in frame.deltas:
                    tokens.setdefault(delta.request, []).extend(delta.ids)
            else:
                ends[frame.request] = frame
                waiting.remove(frame.request)
        return tokens, ends

    def greet(self) -> Hello:
        return self.next(Hello)

    def wait(self, seconds: float = 20) -> int:
        return self.process.wait(seconds)

    def end(self) -> None:
        """Whatever the test has left of it."""
        self.socket.close()
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()
