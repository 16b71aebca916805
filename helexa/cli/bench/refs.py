"""Which runs are meant: by a reference, by a file, or as what came before."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from helexa.bench.records import Run
    from helexa.bench.storage.store import Store, Summary

_LOOKED_AT: Final = 2000
"""Runs of the same cells, newest first, among which the batch to compare with is looked for."""
_HISTORY: Final = 500
"""Runs that tell how much figures differ by themselves."""


def runs_of(ref: str, store: "Store") -> "list[Run]":
    """The runs of a file, if there is one of that name, else those that the store knows by the reference.

    Raises:
        RefError: it knows none.
        TransferError: the file cannot be read.
    """
    from helexa.bench.storage.transfer import read

    if is_file(ref):
        return read(Path(ref))
    return store.find(ref)


def is_file(ref: str) -> bool:
    """Whether it names a file; what has no suffix never does, as a label may be called like a directory's entry."""
    return bool(Path(ref).suffix) and Path(ref).is_file()


def earlier(store: "Store", runs: "Sequence[Run]") -> "list[Run]":
    """The runs of the newest batch of another build that measured any of the same; without one, of the newest batch.

    What was broken off does not count: of its few rounds the next comparison would make too much.
    """
    from helexa.bench.storage.store import Filter

    cells = tuple(run.cell for run in runs)
    found = store.summaries(Filter(cells=cells, outcomes=("ok",)), limit=_LOOKED_AT)
    batch = chosen_batch(found, runs)
    there = [] if batch is None else store.runs(Filter(batches=(batch,), cells=cells), limit=len(cells))
    return [run for run in there if not run.broken_off]


def chosen_batch(found: "Iterable[Summary]", runs: "Sequence[Run]") -> str | None:
    """The batch to compare with. Pure.

    Args:
        found: earlier runs of the same cells, newest first.
        runs: what was measured now.
    """
    builds = {run.cell.key: run.build.id for run in runs}
    own = {run.batch for run in runs}
    others = [each for each in found if each.batch not in own and not each.broken_off]
    other_builds = (each for each in others if each.build.id != builds.get(each.cell.key))
    newest = next(other_builds, None) or next(iter(others), None)
    return None if newest is None else newest.batch


def history(store: "Store", runs: "Sequence[Run]") -> "list[Run]":
    """Earlier runs of the same cells, which tell how much figures differ from run to run."""
    from helexa.bench.storage.store import Filter

    return store.runs(Filter(cells=tuple(run.cell for run in runs), outcomes=("ok",)), limit=_HISTORY)
