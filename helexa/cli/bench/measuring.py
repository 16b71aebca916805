"""Targets are asked what they are, and measured, until all is done or somebody presses Ctrl-C."""

import re
import signal
from collections.abc import Mapping, Sequence
from typing import Any, Final

import trio
from attrs import frozen

from helexa.bench.client.exchanges import TargetError, Timeouts, refusal
from helexa.bench.client.http import Client
from helexa.bench.measuring.runner import Task, measure, new_batch
from helexa.bench.measuring.targets import Access, look
from helexa.bench.records import Run, TargetKind
from helexa.cli.bench.choosing import Known
from helexa.cli.bench.progress import Board
from helexa.cli.bench.ways import Way

_PATIENCE: Final = Timeouts(connect=5.0, head=15.0, idle=15.0, total=30.0)
"""Of questions that need no model."""


@frozen
class Measured:
    """What has come of it.

    Attributes:
        runs: that have ended, with what there is of them.
        broken_off: whether somebody stopped it.
    """

    runs: Sequence[Run]
    broken_off: bool


async def look_at(ways: Sequence[Way]) -> tuple[list[Known], list[str]]:
    """Ask all targets at once.

    Returns:
        Those that answered, in order, and a sentence for each of the others.
    """
    found: dict[int, Known | str] = {}

    async def ask(index: int, way: Way) -> None:
        try:
            found[index] = await _known(way)
        except TargetError as error:
            found[index] = _trouble(way.access, error)

    async with trio.open_nursery() as nursery:
        for index, way in enumerate(ways):
            nursery.start_soon(ask, index, way)
    ordered = [found[index] for index in range(len(ways))]
    return [each for each in ordered if isinstance(each, Known)], [each for each in ordered if isinstance(each, str)]


async def _known(way: Way) -> Known:
    access = way.access
    async with access.client(_PATIENCE) as client:
        facts = await look(access, client)
        aliases = way.aliases if access.target.kind != "cortex" else await _aliases(client)
    return Known(access, facts, aliases)


async def _aliases(client: Client) -> Mapping[str, str]:
    """The further names of a fleet's models."""
    exchange = await client.get("/fleet")
    if not exchange.ok:
        raise refusal(exchange)
    said: Any = exchange.json()
    found = said.get("aliases") if isinstance(said, dict) else None
    return {str(name): str(model) for name, model in found.items()} if isinstance(found, dict) else {}


def _trouble(access: Access, error: TargetError) -> str:
    target = access.target
    if error.code == "unreachable" and target.kind == "cortex":
        return (
            f"no fleet answers at {target.url} ({error.message.rstrip('.')}). "
            "Start one with 'helexa up', or name another with --url or HELEXA_URL."
        )
    hint = _HINTS.get((target.kind, _status(error)), "")
    return f"'{target.name}' at {target.url}: {error.message}{hint and f' {hint}'}"


def _status(error: TargetError) -> int:
    """The HTTP status that a refusal tells in words; 0: it tells none."""
    found = re.search(r"status (\d+)", error.message) if error.code == "refused" else None
    return int(found[1]) if found else 0


_HINTS: Final[Mapping[tuple[TargetKind, int], str]] = {
    ("cortex", 401): "Give one with --key or HELEXA_API_KEY.",
    ("cortex", 403): "Give a key that may read the fleet, or measure it as --target NAME=URL.",
    ("cortex", 404): "What is no helexa fleet is measured with --target NAME=URL.",
    ("neuron", 401): "Set the fleet's secret in the environment, as for 'helexa up'.",
    ("openai", 401): "Name the environment variable with its key: --target-key-env NAME=VARIABLE.",
}


async def measured(tasks: Sequence[Task], board: Board, label: str) -> Measured:
    """Measure.

    Args:
        tasks: what.
        board: is told of progress.
        label: what the batch is called; may be empty.
    """
    stopped = False

    async def stop_at_signal(scope: trio.CancelScope) -> None:
        nonlocal stopped
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                stopped = True
                scope.cancel()
                return  # a second one ends the process as usual

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop_at_signal, nursery.cancel_scope)
        await measure(tasks, board.rounds, board, batch=new_batch(), label=label)
        nursery.cancel_scope.cancel()
    return Measured([run for run in board.runs if run.samples or not stopped], stopped)
