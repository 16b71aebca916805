"""A rank of a tensor-parallel group: ``python -m helexa.engine.ranks --rank 0 --ranks 2 --device cpu …``.

Rank 0 is the engine worker that its neuron knows: it schedules, samples, and tells the other ranks each step before it
takes its own part in it. They know nothing of requests. When any of them ends, all do: whoever started them starts them
anew.
"""

import argparse
import gc
import os
import signal
import socket
import threading
from functools import partial
from typing import NoReturn

import torch
from attrs import evolve, frozen
from torch import Tensor

from helexa import lifeline, logs
from helexa.engine import environment, libraries, threads
from helexa.engine.networks.runner import Runner
from helexa.engine.parallel import group as parallel_group
from helexa.engine.parallel.control import ALONE, Gate, JoinError, Lead, Member, Peer, leave
from helexa.engine.parallel.frames import Drop, LoadShard, RankFrame, RankProtocolError, Step
from helexa.engine.parallel.group import Collectives
from helexa.engine.parallel.loading import ShardLoading, load_shard
from helexa.engine.protocol import Load
from helexa.engine.scheduling.plan import StepPlan
from helexa.engine.weights.loading import LoadedModel, LoadError, load_model
from helexa.engine.worker import Link, Worker

TOKEN = "HELEXA_RANKS_TOKEN"  # noqa: S105 - the variable's name
"""Environment variable with the group's secret: a command line is there for every user of the host to read."""


class LeadRunner:
    """A model's runner on rank 0: the others run each step too.

    Attributes:
        vocabulary: width of the logits.
        reuses_prefixes: blocks may be shared between sequences.
    """

    def __init__(self, model: str, own: Runner, lead: Lead) -> None:
        self._model, self._own, self._lead = model, own, lead
        self.vocabulary, self.reuses_prefixes = own.vocabulary, own.reuses_prefixes

    def forward(self, plan: StepPlan) -> Tensor:
        """``[rows, vocabulary]``: the logits that are wanted; see ``runner.Runner``.

        A step that breaks here ends the process: the others are in the middle of it, and cannot be called back.
        """
        self._lead.tell(Step.of(self._model, plan))
        try:
            return self._own.forward(plan)
        except Exception as error:  # noqa: BLE001 - out of memory among them, which a worker of its own would survive
            leave(f"a step broke: {type(error).__name__}: {error}", 1)

    def forget(self, number: int) -> None:
        """A sequence has ended: the blocks are the scheduler's, and the other ranks keep nothing else."""
        self._own.forget(number)


class LeadWorker(Worker):
    """The engine worker of a group, on rank 0."""

    def __init__(self, link: Link, device: str, lead: Lead, collectives: Collectives) -> None:
        super().__init__(link, device)
        self._lead, self._collectives = lead, collectives

    def _read(self, load: Load, left: int | None) -> LoadedModel:
        order = LoadShard(load.model, load.path, self._budget.running, left, load.quant)
        self._lead.tell(order)
        loading = ShardLoading(self._lead, self._collectives)
        model = load_shard(order, self._device, loading, partial(load_model, told=self._tell))
        return evolve(model, runner=LeadRunner(load.model, model.runner, self._lead))

    def _forget(self, model: str) -> None:
        super()._forget(model)
        self._lead.tell(Drop(model))


class Follower:
    """Any other rank: does what the first one says.

    Args:
        member: the connection to it.
        device: torch's name of this rank's device.
        collectives: of the group.
    """

    def __init__(self, member: Member, device: str, collectives: Collectives) -> None:
        self._member, self._device, self._collectives = member, device, collectives
        self._runners: dict[str, Runner] = {}

    def run(self) -> NoReturn:
        """Follow for ever; the end of the connection ends the process."""
        while True:
            self.handle(self._member.take())

    def handle(self, frame: RankFrame) -> None:
        """Do one thing.

        Raises:
            RankProtocolError: the first rank asks for what it cannot.
        """
        match frame:
            case Step(model) if model in self._runners:
                self._runners[model].forward(frame.plan)
            case LoadShard():
                self._load(frame)
            case Drop(model):
                self._runners.pop(model, None)
                _collect()
            case _:
                raise RankProtocolError(f"the first rank sent {type(frame).__name__} out of turn")

    def _load(self, order: LoadShard) -> None:
        try:
            model = load_shard(order, self._device, ShardLoading(self._member, self._collectives))
        except LoadError:
            pass  # the first rank knows, and tells
        else:
            self._runners[order.model] = model.runner
        _collect()


@frozen
class _Place:
    """Where a rank is. ``own``: this host's address that the other ranks reach it by."""

    rank: int
    device: str
    own: str
    gate: Gate

    def lead(self, listener: socket.socket) -> tuple[Lead, Collectives]:
        """Wait for the other ranks, on the first."""
        store_socket = parallel_group.store_listener(self.own)
        port = int(store_socket.getsockname()[1])
        store = parallel_group.lead_store(store_socket, self.gate.ranks)
        found = self.gate.gather(listener, port)
        peers = [Peer(found[rank], f"rank {rank}", self.gate.patience) for rank in sorted(found)]
        return Lead(peers), self._form(store)

    def follow(self, address: tuple[str, int]) -> tuple[Member, Collectives]:
        """Come to the first rank."""
        sock, port = self.gate.join(address, self.rank, self.own)
        member = Member(self.rank, self.gate.ranks, Peer(sock, "rank 0", self.gate.patience))
        return member, self._form(parallel_group.member_store((address[0], port), self.gate.ranks))

    def _form(self, store: parallel_group.Store) -> Collectives:
        device = torch.device(self.device)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        gate = self.gate
        return parallel_group.form(self.rank, gate.ranks, device, store, self.own, patience=gate.patience)


def _collect() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _lead(place: _Place, fd: int, listen_fd: int) -> NoReturn:
    with socket.socket(fileno=listen_fd) as listener:
        lead, collectives = place.lead(listener)
    link = Link(socket.socket(fileno=fd))
    threading.Thread(target=link.read_for_ever, daemon=True, name="reader").start()
    LeadWorker(link, place.device, lead, collectives).run()


def _follow(place: _Place, meet: str) -> NoReturn:
    host, _, port = meet.rpartition(":")
    member, collectives = place.follow((host, int(port)))
    Follower(member, place.device, collectives).run()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m helexa.engine.ranks", description="Run a share of models.")
    parser.add_argument("--rank", type=int, required=True, help="0 schedules and samples")
    parser.add_argument("--ranks", type=int, required=True, help="how many there are")
    parser.add_argument("--device", required=True, help="torch device, e.g. cpu or cuda:0")
    parser.add_argument("--own", required=True, help="this host's address towards the other ranks")
    parser.add_argument("--meet", default="", help="rank 0's address:port, for the others")
    parser.add_argument("--fd", type=int, default=-1, help="inherited socket to the neuron, for rank 0")
    parser.add_argument("--listen-fd", type=int, default=-1, help="inherited socket to listen on, for rank 0")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads at most; 0 leaves the choice to torch")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds to wait for another rank in a step")
    return parser.parse_args()


def _prepare(most: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the root's to handle; it reaches us as a closed socket
    lifeline.watch(lambda: None, grace=1.0)
    logs.configure()
    environment.prepare()
    libraries.bring_in()
    threads.limit(most)


def main() -> None:
    """Run until another rank, or the neuron, is gone."""
    arguments = _arguments()
    _prepare(arguments.threads)
    gate = Gate(arguments.ranks, os.environ.pop(TOKEN).encode(), arguments.patience)
    place = _Place(arguments.rank, arguments.device, arguments.own, gate)
    try:
        if arguments.rank:
            _follow(place, arguments.meet)
        _lead(place, arguments.fd, arguments.listen_fd)
    except JoinError as error:
        leave(str(error), ALONE)
    except RankProtocolError as error:
        leave(str(error), 1)


if __name__ == "__main__":
    main()
