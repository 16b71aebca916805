"""A fleet of two neurons whose ranks meet over addresses of their own: of loopback, or of two network namespaces."""

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from attrs import define, field
from fleet_forks import SPARES
from fork_server import NAMESPACE
from harness import HTTP, START_SECONDS, free_port, gone_all, sse_events, wait_until

from helexa.tiny import CHECKPOINT

ONE, TWO = "house/one", "house/two"
"""The same model, on one device and on two."""
SECRET = "s3cret"
_RANKS = "helexa.engine.ranks"
_LISTENING = "0A"
"""As /proc/net/tcp has it."""
_MODELS = f"""
[[models]]
id = "{ONE}"
source = "path:{CHECKPOINT}"
tensor_parallel = 1
[[models]]
id = "{TWO}"
source = "path:{CHECKPOINT}"
tensor_parallel = 2
[entitlements]
require_auth = false
[actors.poller]
interval = "500ms"
[actors.tp_leader]
restart = {{ max = 100, window = "1s", backoff = "200ms" }}
[actors.device_worker]
restart = {{ max = 100, window = "1s", backoff = "200ms" }}
"""


@define(eq=False)
class TwoHosts:
    """Two neurons, ``left`` and ``right``, each with one CPU; and the gateway, beside the former.

    Attributes:
        url: of the gateway.
        neurons: their URLs.
        meet: the addresses at which their ranks listen.
        log: what all of them say.
        processes: every `helexa up`.
    """

    url: str
    neurons: dict[str, str]
    meet: dict[str, str]
    log: Path
    processes: list[subprocess.Popen[bytes]] = field(factory=list)

    def fleet(self) -> dict[str, Any]:
        found: dict[str, Any] = HTTP.get(f"{self.url}/fleet", timeout=10).json()
        return found

    def is_up(self) -> bool:
        try:
            return all(node["up"] for node in self.fleet()["nodes"])
        except httpx.TransportError:
            assert all(each.poll() is None for each in self.processes), self.log.read_text()
            return False

    def status(self, model: str) -> str:
        return str(HTTP.get(f"{self.url}/v1/models/{model}", timeout=10).json()["status"])

    def answer(self, model: str, **settings: Any) -> str:
        """A whole answer, greedy unless told otherwise."""
        body = {"model": model, "messages": [{"role": "user", "content": "Tell me a story."}], **settings}
        response = HTTP.post(f"{self.url}/v1/chat/completions", json={"temperature": 0, **body}, timeout=110)
        assert response.status_code == 200, (response.text, self.log.read_text()[-4000:])
        return str(response.json()["choices"][0]["message"]["content"])

    def stream(self, body: dict[str, Any], middle: Callable[[], object] = lambda: None) -> str:
        """The text of a stream; ``middle`` is called in another thread once the first piece has come."""
        received, started = "", []
        with (
            ThreadPoolExecutor() as threads,
            HTTP.stream("POST", f"{self.url}/v1/chat/completions", json=body, timeout=110) as response,
        ):
            for piece in response.iter_text():
                received += piece
                if not started and '"content"' in piece:
                    started.append(threads.submit(middle))
            assert [each.result() for each in started], "the answer has no content"
        return text_of(received)

    def family(self) -> list[psutil.Process]:
        roots = [psutil.Process(each.pid) for each in self.processes if each.poll() is None]
        return [each for root in roots for each in (root, *root.children(recursive=True))]

    def ranks(self) -> dict[int, psutil.Process]:
        """The rank processes, by rank."""
        found = {}
        for process in self.family():
            command = _command_of(process)
            if _RANKS in command:
                found[int(command[command.index("--rank") + 1])] = process
        return found

    def neuron(self, name: str) -> psutil.Process:
        (found,) = (each for each in self.family() if _is_neuron(_command_of(each), name))
        return found

    def stop(self) -> None:
        family = self.family()
        for each in self.processes:
            each.send_signal(signal.SIGTERM)
        codes = [each.wait(30) for each in self.processes]
        gone_all(family, 5)
        assert codes == [0] * len(codes), self.log.read_text()[-4000:]


def _command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it has just ended
        return []


def _is_neuron(command: list[str], name: str) -> bool:
    return "neuron" in command and "--name" in command and command[command.index("--name") + 1] == name


def text_of(received: str) -> str:
    """The text of a stream's events, which have to end as they should; comments keep it alive."""
    *events, done = [each for each in sse_events(received) if each != ": keep-alive"]
    assert done == "[DONE]", events[-1]
    assert not [each for each in events if "error" in each], events[-1]
    return "".join(choice["delta"].get("content") or "" for each in events for choice in each["choices"])  # type: ignore[index,union-attr]


def heard_on(process: psutil.Process) -> set[str]:
    """The addresses that a process listens on, in its own network namespace: psutil would look into ours."""
    own = {str(each.readlink()) for each in Path(f"/proc/{process.pid}/fd").iterdir()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{process.pid}/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == _LISTENING and f"socket:[{columns[9]}]" in own:
                found.add(_address(columns[1].partition(":")[0]))
    return found


def _address(number: str) -> str:
    """IPv4 as the kernel writes it, in hexadecimal and in this machine's order of bytes; IPv6 stays as it is."""
    return socket.inet_ntoa(struct.pack("=I", int(number, 16))) if len(number) == 8 else number


@contextmanager
def _running(hosts: TwoHosts, topology: Path, places: Sequence[tuple[str, ...]], spares: int) -> Iterator[TwoHosts]:
    """Start, wait until both nodes are up, and leave nothing behind, whatever happens in between.

    Args:
        hosts: whose processes they are.
        topology: of the fleet.
        places: a namespace and the name of the host in it, for each `helexa up`; neither where there is but one.
        spares: processes that may take the place of others, for each that has children.
    """
    # one thread each: on two hosts a rank has the cores to itself, here threads that wait would take the other's
    environment = {**os.environ, "HELEXA_SECRET": SECRET, "OMP_NUM_THREADS": "1", SPARES: str(spares)}
    with hosts.log.open("w") as log:
        for space, *host in places or [("",)]:
            command = [sys.executable, "-m", "helexa", "up", str(topology)]
            hosts.processes.append(
                subprocess.Popen(
                    [*command, *(part for name in host for part in ("--host", name))],
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    env=environment | {NAMESPACE: space},
                )
            )
    try:
        wait_until(hosts.is_up, START_SECONDS, "both nodes up")
        yield hosts
        hosts.stop()
    finally:
        for process in hosts.family():
            process.kill()
        for each in hosts.processes:
            each.wait(10)


@contextmanager
def on_loopback(directory: Path) -> Iterator[TwoHosts]:
    """Two neurons of one `helexa up`, whose ranks have 127.0.0.2 and 127.0.0.3."""
    ports = [free_port() for _ in range(6)]
    meet = {"left": "127.0.0.2", "right": "127.0.0.3"}
    neurons = "".join(
        f'[[neurons]]\nname = "{name}"\nlisten = "127.0.0.1:{ports[2 + index]}"\ndevices = ["cpu"]\n'
        f'interconnect = "{meet[name]}:{ports[4 + index]}"\n'
        for index, name in enumerate(meet)
    )
    topology = directory / "topology.toml"
    topology.write_text(_cortex(directory, "127.0.0.1", ports) + neurons + _MODELS)
    urls = {name: f"http://127.0.0.1:{ports[2 + index]}" for index, name in enumerate(meet)}
    hosts = TwoHosts(f"http://127.0.0.1:{ports[0]}", urls, meet, directory / "log")
    with _running(hosts, topology, [], spares=10) as running:
        yield running


def _cortex(directory: Path, host: str, ports: Sequence[int], extra: str = "") -> str:
    return (
        f'[cortex]\nlisten = "{host}:{ports[0]}"\nmetrics_listen = "{host}:{ports[1]}"\n'
        f'database = "sqlite:///{directory}/helexa.db"\n{extra}'
    )


class NoNamespacesError(Exception):
    """This host does not let us make network namespaces; the message says why."""


@define
class Wires:
    """Two network namespaces with a cable between them, and one from here to the first.

    Attributes:
        names: of the namespaces.
        cable: the first one's end of what lies between them.
    """

    names: tuple[str, str]
    cable: str
    outside: str
    gateway: str
    addresses: tuple[str, str]

    def cut(self) -> None:
        """Nothing gets through any more, and nobody is told."""
        _ip("-n", self.names[0], "link", "set", self.cable, "down")

    def mend(self) -> None:
        _ip("-n", self.names[0], "link", "set", self.cable, "up")


@contextmanager
def wires() -> Iterator[Wires]:
    """Lay them.

    Raises:
        NoNamespacesError: this host does not let us.
    """
    mark, net = f"hx{os.getpid() % 100_000}", os.getpid() % 250
    names = (f"{mark}l", f"{mark}r")
    found = Wires(names, f"{mark}a", f"10.213.{net}.1", f"10.213.{net}.2", (f"10.214.{net}.1", f"10.214.{net}.2"))
    try:
        for name in names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _lay((names[0], f"{mark}a", found.addresses[0]), (names[1], f"{mark}b", found.addresses[1]))
        _lay((names[0], f"{mark}c", found.gateway), (None, f"{mark}d", found.outside))
        yield found
    finally:
        for name in names:  # its ends of the cables go with it, and so the other ends
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _lay(one: tuple[str | None, str, str], other: tuple[str | None, str, str]) -> None:
    """A cable between two namespaces, ``None`` being ours."""
    ends = [[*(["netns", name] if name else []), "name", link] for name, link, _ in (one, other)]
    _ip("link", "add", *ends[0], "type", "veth", "peer", *ends[1])
    for name, link, address in (one, other):
        inside = ["-n", name] if name else []
        _ip(*inside, "address", "add", f"{address}/24", "dev", link)
        _ip(*inside, "link", "set", link, "up")


def _ip(*arguments: str) -> None:
    if shutil.which("ip") is None:
        raise NoNamespacesError("there is no program 'ip'")
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoNamespacesError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


@contextmanager
def in_namespaces(directory: Path, laid: Wires) -> Iterator[TwoHosts]:
    """A `helexa up` in each; the gateway in the first, where it is reached from here."""
    meet = dict(zip(("left", "right"), laid.addresses, strict=True))
    neurons = "".join(
        f'[[neurons]]\nname = "{name}"\nhost = "{name}"\nlisten = "{address}:13131"\ndevices = ["cpu"]\n'
        f'interconnect = "{address}:13132"\n'
        for name, address in meet.items()
    )
    topology = directory / "topology.toml"
    topology.write_text(_cortex(directory, laid.gateway, (31313, 31314), 'host = "left"\n') + neurons + _MODELS)
    urls = {name: f"http://{address}:13131" for name, address in meet.items()}
    hosts = TwoHosts(f"http://{laid.gateway}:31313", urls, meet, directory / "log")
    with _running(hosts, topology, list(zip(laid.names, meet, strict=True)), spares=2) as running:
        yield running


def secret_of(process: psutil.Process) -> str:
    """The secret of a rank's group, as only its user can read it."""
    return process.environ()["HELEXA_RANKS_TOKEN"]


def everything_told(hosts: TwoHosts) -> str:
    """What anybody could read of a fleet: command lines, logs, and what the gateway shows."""
    commands = [" ".join(_command_of(each)) for each in psutil.process_iter()]
    return "\n".join([*commands, hosts.log.read_text(), json.dumps(hosts.fleet())])
