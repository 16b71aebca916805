"""Batches, put together from the runs that were measured together."""

from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from helexa.bench.storage.store import Filter, Store, Summary

_PAGE = 500


@frozen
class Batch:
    """Runs that were measured together.

    Attributes:
        id: theirs.
        label: what the operator called it; may be empty.
        started_at: when the first of them began, Unix time in seconds.
        targets: each once, as the others.
        models: ids.
        builds: ids.
        runs: how many.
        not_ok: how many of them have no figures.
    """

    id: str
    label: str
    started_at: float
    targets: tuple[str, ...]
    models: tuple[str, ...]
    builds: tuple[str, ...]
    runs: int
    not_ok: int


def batches_of(store: "Store", which: "Filter", limit: int) -> list[Batch]:
    """The newest batches with such runs, the newest first."""
    found: dict[str, list[Summary]] = {}
    before: str | None = None
    while page := store.summaries(which, limit=_PAGE, before=before):
        for each in page:
            found.setdefault(each.batch, []).append(each)
        before = page[-1].id
        if len(found) > limit:  # the last one that counts is whole: a run of an older batch has come
            break
    return [_batch(runs) for runs in list(found.values())[:limit]]


def _batch(runs: "list[Summary]") -> Batch:
    first = min(runs, key=lambda run: run.started_at)
    targets, models, builds = (
        tuple(dict.fromkeys(names))
        for names in (
            [run.target.name for run in runs],
            [run.cell.model for run in runs],
            [run.build.id for run in runs],
        )
    )
    not_ok = sum(run.outcome != "ok" for run in runs)
    return Batch(first.batch, first.label, first.started_at, targets, models, builds, len(runs), not_ok)
