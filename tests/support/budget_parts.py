"""A metered fleet on two hosts, both of them this machine: a gateway that may be killed, and a box that goes on."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import httpx
import orjson
import pytest
from attrs import define, field, frozen
from budget_clients import MODEL
from harness import START_SECONDS, free_port, wait_until

from config import Budget, Cost
from helexa.cortex.ledger.limits import Limit, Payer, Prices, payer

COST: Final = Cost(2.0, 10.0)
"""Of the model: dollars per million tokens."""
PRICES: Final = Prices.of(COST)
IMPATIENT: Final = (str(Path(__file__).with_name("impatient.py")),)
"""The command line for a `Host` whose database is away again and again."""
_SECRET: Final = {"HELEXA_SECRET": "the secret of the budgets' fleet"}


@frozen
class Holder:
    """A key of the topology, and what it may use; what it bears is `key-` and its name."""

    name: str
    budgets: tuple[Budget, ...] = ()
    account: str = ""
    max_in_flight: int | None = None

    def lines(self) -> str:
        digest = hashlib.sha256(f"key-{self.name}".encode()).hexdigest()
        account = self.account or self.name
        most = "" if self.max_in_flight is None else f"max_in_flight = {self.max_in_flight}\n"
        return (
            f'[[entitlements.keys]]\nname = "{self.name}"\nkey_hash = "sha256:{digest}"\naccount = "{account}"\n'
            f"budgets = {written(self.budgets)}\n{most}"
        )

    def payer(self, accounts: Mapping[str, Iterable[Budget]]) -> Payer:
        """Who pays, as the gateway is to see it."""
        return payer(f"declared/{self.name}", self.name, self.account or self.name, self.budgets, accounts)


def written(budgets: Iterable[Budget]) -> str:
    """Budgets in TOML."""
    return f"[{', '.join(map(_budget, budgets))}]"


def _budget(budget: Budget) -> str:
    per = "" if budget.per is None else f', per = "{budget.per:g}s"'
    return f"{{ {budget.unit} = {getattr(budget, budget.unit)}{per} }}"


@frozen
class Entitled:
    """Who may use what in a fleet."""

    holders: tuple[Holder, ...]
    accounts: Mapping[str, tuple[Budget, ...]] = field(factory=dict)

    def lines(self) -> str:
        shared = "".join(
            f'[[entitlements.accounts]]\nname = "{name}"\nbudgets = {written(budgets)}\n'
            for name, budgets in self.accounts.items()
        )
        return "[entitlements]\nrequire_auth = true\n" + "".join(each.lines() for each in self.holders) + shared

    def limits(self) -> set[Limit]:
        """All limits, each once."""
        return {limit for holder in self.holders for limit in holder.payer(self.accounts).limits}

    @property
    def names(self) -> list[str]:
        return [holder.name for holder in self.holders]


@define(eq=False)
class Host:
    """One host's part of a fleet: `helexa up`, begun again and again on the same files and ports.

    Attributes:
        topology: its file.
        host: the name of the host.
        port: of its gateway, or of its neuron.
        ready: the path that answers 200 as soon as it serves.
        log: where all that it says is appended to.
        wrapper: a command that runs it; empty: it is run as it is.
        program: what Python is to run.
    """

    topology: Path
    host: str
    port: int
    ready: str
    log: Path
    wrapper: Sequence[str] = ()
    program: Sequence[str] = ("-m", "helexa")
    process: subprocess.Popen = field(default=None)
    _tee: subprocess.Popen = field(default=None)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def begin(self) -> None:
        """Start it, without waiting."""
        command = [*self.wrapper, sys.executable, *self.program, "up", str(self.topology), "--host", self.host]
        with self.log.open("a") as log:  # by way of a pipe: the process's own files may be limited in size
            self._tee = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=log, start_new_session=True)
        state = str(self.topology.parent.parent / "state")  # what is kept beside a database that is no file
        out, environment = self._tee.stdin, {**os.environ, **_SECRET, "XDG_STATE_HOME": state}
        self.process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=environment)
        assert out is not None
        out.close()

    def start(self) -> "Host":
        """Start it, and wait until it serves."""
        self.begin()
        try:
            self.wait()
        except BaseException:
            self.end()
            raise
        return self

    def wait(self) -> None:
        """Wait until it serves."""
        headers = {"authorization": f"Bearer {_SECRET['HELEXA_SECRET']}"}  # a neuron asks for it
        with httpx.Client(timeout=5, headers=headers, verify=False) as client:
            wait_until(lambda: self._is_ready(client), START_SECONDS, f"{self.host} to serve")

    def _is_ready(self, client: httpx.Client) -> bool:
        if self.process.poll() is not None:
            pytest.fail(f"{self.host} ended with {self.process.returncode}: {self.said()}")
        try:
            return client.get(f"{self.url}{self.ready}").status_code == 200
        except httpx.TransportError:
            return False

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text()[-4000:] if self.log.exists() else ""

    def kill(self) -> None:
        """End it without a word."""
        self.process.send_signal(signal.SIGKILL)
        self._wait(10)

    def stop(self, seconds: float = 30) -> int:
        """End it in order; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self._wait(seconds)

    def _wait(self, seconds: float) -> int:
        code = self.process.wait(seconds)
        self._tee.wait(10)  # it has read all that was said
        return code

    def end(self) -> None:
        """Whatever state it is in: afterwards it is no more."""
        if self.process is not None:
            self.kill()


def make_box(directory: Path) -> Host:
    """The host with the neuron; the gateways' topologies name its port."""
    directory.mkdir(parents=True, exist_ok=True)
    port, topology = free_port(), directory / "box.toml"
    topology.write_text(_fleet(port, free_port(), free_port(), f"sqlite:///{directory}/unused.db", ""))
    return Host(topology, "box", port, "/health", directory / "box.log")


def make_gateway(directory: Path, box: Host, entitled: Entitled, database: str = "", cortex: str = "") -> Host:
    """A gateway before a box.

    Args:
        directory: for its files.
        box: runs already, or will.
        entitled: its keys.
        database: its URL; by default a file in the directory.
        cortex: more lines of that table.
    """
    directory.mkdir(parents=True, exist_ok=True)
    port, topology = free_port(), directory / "gate.toml"
    database = database or f"sqlite:///{directory}/helexa.db"
    topology.write_text(_fleet(box.port, port, free_port(), database, cortex) + entitled.lines())
    return Host(topology, "gate", port, "/ready", directory / "gate.log")


def _fleet(neuron: int, port: int, metrics: int, database: str, cortex: str) -> str:
    # localhost: an endpoint on 127.0.0.1 is refused where the neuron is said to be on another host
    return f"""
[cortex]
host = "gate"
listen = "127.0.0.1:{port}"
metrics_listen = "127.0.0.1:{metrics}"
database = "{database}"
{cortex}
[[neurons]]
name = "box"
host = "box"
listen = "127.0.0.1:{neuron}"
endpoint = "http://localhost:{neuron}"
devices = ["cpu"]
preload = ["{MODEL}"]
[[models]]
id = "{MODEL}"
cost = {{ input = {COST.input}, output = {COST.output} }}
[actors.poller]
interval = "500ms"
"""


def database_of(gateway: Host) -> str:
    """The URL of a gateway's database."""
    line = next(line for line in gateway.topology.read_text().splitlines() if line.startswith("database = "))
    return str(orjson.loads(line.partition(" = ")[2]))
