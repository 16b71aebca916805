"""A file that is edited while somebody watches it, in virtual time."""

import os
from pathlib import Path

import pytest
import trio
from attrs import define, field
from http_parts import until
from structlog.testing import capture_logs
from trio.testing import MockClock

from actors import Supervisor
from actors.reconciler import Reconciler
from config import Changes, RestartPolicy, Topology, load

ONE = '[[neurons]]\nname = "a"\n[[models]]\nid = "one"\n'
TWO = ONE + '[[models]]\nid = "two"\n'
BROKEN = ONE + "[[models]\n"
WRONG = ONE + '[aliases]\nshort = "nothing"\n'


@define(eq=False)
class Watched:
    """A file, the reconciler that watches it, and what that did."""

    path: Path
    env: dict[str, str] = field(factory=dict)
    applied: list[Topology] = field(factory=list)
    changes: list[list[str]] = field(factory=list)
    rejected: list[tuple[str, ...]] = field(factory=list)
    error: Exception | None = None
    reconciler: Reconciler = field(init=False)

    @reconciler.default
    def _reconciler(self) -> Reconciler:
        current = load(self.path, env=self.env)
        return Reconciler(self.path, current, self.env, self._apply, self.rejected.append)

    async def _apply(self, wanted: Topology, changes: Changes) -> None:
        await trio.lowlevel.checkpoint()
        self.applied.append(wanted)
        self.changes.append(changes.lines())
        if self.error is not None:
            raise self.error

    async def edit(self, text: str) -> None:
        """Write, and wait until that has been seen to."""
        self.path.write_text(text)
        await self.looks()

    async def looks(self, count: int = 4) -> None:
        # one after the other, as time and the threads that read do not pass at the same pace
        for _ in range(count):
            await self.reconciler.look()

    def models(self) -> list[list[str]]:
        return [[model.id for model in topology.models] for topology in self.applied]


@pytest.fixture
async def watched(tmp_path: Path) -> Watched:
    (tmp_path / "topology.toml").write_text(ONE)
    watched = Watched(tmp_path / "topology.toml")
    await watched.looks()
    return watched


async def test_a_file_as_it_was_at_the_start_changes_nothing(watched: Watched) -> None:
    assert (watched.applied, watched.rejected) == ([], [])


async def test_an_edit_between_the_start_and_the_first_look_counts(tmp_path: Path) -> None:
    (tmp_path / "topology.toml").write_text(ONE)
    watched = Watched(tmp_path / "topology.toml")
    await watched.edit(TWO)
    assert watched.models() == [["one", "two"]]


async def test_a_valid_edit_is_applied_once(watched: Watched) -> None:
    with capture_logs() as logs:
        await watched.edit(TWO)
        await watched.looks(10)
    assert (watched.models(), watched.changes) == ([["one", "two"]], [["+ models.two"]])
    assert [(log["event"], log["changes"]) for log in logs] == [("topology.applied", ["+ models.two"])]


@pytest.mark.parametrize("text", [BROKEN, WRONG, "\0", "cortex = 7"])
async def test_an_invalid_edit_changes_nothing_and_is_told_once(watched: Watched, text: str) -> None:
    with capture_logs() as logs:
        await watched.edit(text)
        watched.path.write_text(text)  # touched
        await watched.looks()
    assert watched.applied == []
    ((problem, *_),) = watched.rejected
    assert str(watched.path) in problem
    assert [log["event"] for log in logs] == ["topology.rejected"]


async def test_an_invalid_edit_that_is_mended_is_applied(watched: Watched) -> None:
    await watched.edit(BROKEN)
    await watched.edit(TWO)
    assert watched.models() == [["one", "two"]]
    assert watched.rejected[1:] == [()]


async def test_an_invalid_edit_that_is_taken_back_leaves_no_problem(watched: Watched) -> None:
    await watched.edit(WRONG)
    await watched.edit(ONE)
    assert watched.applied == []
    assert watched.rejected[1:] == [()]


async def test_another_mistake_is_told_as_well(watched: Watched) -> None:
    await watched.edit(WRONG)
    await watched.edit(BROKEN)
    assert len(watched.rejected) == 2


async def test_a_file_that_is_replaced_by_another_one_of_the_same_size_and_time_is_seen(watched: Watched) -> None:
    new = watched.path.with_name("new")
    new.write_text(ONE.replace("one", "uno"))
    times = watched.path.stat()
    os.utime(new, ns=(times.st_atime_ns, times.st_mtime_ns))
    new.replace(watched.path)
    await watched.looks()
    assert watched.models() == [["uno"]]


async def test_a_link_that_is_turned_to_another_file_is_seen(tmp_path: Path) -> None:
    """As in the mounted configuration of containers."""
    (tmp_path / "first").write_text(ONE)
    (tmp_path / "second").write_text(TWO)
    (tmp_path / "topology.toml").symlink_to("first")
    watched = Watched(tmp_path / "topology.toml")
    await watched.looks()
    (tmp_path / "next").symlink_to("second")
    (tmp_path / "next").replace(watched.path)
    await watched.looks()
    assert watched.models() == [["one", "two"]]


async def test_a_file_that_is_gone_is_a_problem_until_it_is_back(watched: Watched) -> None:
    watched.path.unlink()
    await watched.looks()
    ((problem,),) = watched.rejected
    assert "cannot be read: no such file" in problem
    await watched.edit(ONE)
    assert watched.rejected[1:] == [()]
    assert watched.applied == []


async def test_a_file_that_is_gone_at_the_start_is_a_problem_too(tmp_path: Path) -> None:
    (tmp_path / "topology.toml").write_text(ONE)
    watched = Watched(tmp_path / "topology.toml")
    watched.path.unlink()
    await watched.looks()
    assert len(watched.rejected) == 1


async def test_an_edit_of_comments_and_order_is_none(watched: Watched) -> None:
    await watched.edit(f"# a comment\n{ONE}\n\nsource = 'huggingface' # the default\n")
    assert (watched.applied, watched.rejected) == ([], [])


async def test_a_file_that_is_still_being_written_is_left_alone(watched: Watched) -> None:
    """Its beginning may well be valid: an empty file is a fleet of nothing."""
    for length in range(0, len(TWO), 7):
        watched.path.write_text(TWO[:length])
        await watched.looks(1)
    assert (watched.applied, watched.rejected) == ([], [])
    await watched.edit(TWO)
    assert watched.models() == [["one", "two"]]


async def test_an_environment_that_overrides_holds_for_edits(tmp_path: Path) -> None:
    (tmp_path / "topology.toml").write_text(ONE)
    watched = Watched(tmp_path / "topology.toml", {"HELEXA__CORTEX__LOAD_TIMEOUT": "7s"})
    await watched.edit(TWO)
    assert watched.applied[0].cortex.load_timeout == 7.0


# edits that cannot be put into force


async def test_an_edit_that_cannot_be_put_into_force_is_a_problem(watched: Watched) -> None:
    watched.error = OSError("the disk is full")
    await watched.edit(TWO)
    await watched.looks()
    assert len(watched.applied) == 1
    assert watched.rejected == [(f"{watched.path}: cannot be put into force: OSError: the disk is full",)]


async def test_it_is_tried_again_after_a_while(watched: Watched, autojump_clock: MockClock) -> None:
    watched.error = OSError("the disk is full")
    await watched.edit(TWO)
    watched.error = None
    await trio.sleep(31)
    await watched.looks()
    assert watched.models() == [["one", "two"]] * 2
    assert watched.rejected[1:] == [()]
    await trio.sleep(31)
    await watched.looks()
    assert len(watched.applied) == 2


async def test_taking_it_back_is_applied_as_part_of_it_may_be_in_force(watched: Watched) -> None:
    watched.error = OSError("the disk is full")
    await watched.edit(TWO)
    watched.error = None
    await watched.edit(ONE)
    assert watched.models() == [["one", "two"], ["one"]]
    assert watched.rejected[1:] == [()]


async def test_a_reader_that_breaks_on_a_file_does_not_end_the_watch(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_and_break(*_: object, **__: object) -> Topology:
        raise RecursionError("too deep")

    monkeypatch.setattr("actors.reconciler.load", load_and_break)
    await watched.edit(TWO)
    assert watched.rejected == [(f"{watched.path}: cannot be read: RecursionError: too deep",)]
    monkeypatch.undo()
    await watched.edit(TWO + "\n")
    assert watched.models() == [["one", "two"]]


async def test_it_looks_by_itself_and_stops_when_told_to(watched: Watched) -> None:
    watched.path.write_text(TWO)
    async with trio.open_nursery() as nursery:
        supervisor = Supervisor("test")
        await nursery.start(supervisor.run)
        await supervisor.start(watched.reconciler, RestartPolicy())
        await until(lambda: len(watched.applied) > 0)
        nursery.cancel_scope.cancel()
    assert watched.models() == [["one", "two"]]
