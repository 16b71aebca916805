"""The benchmark loop on a clock of its own: real decisions, a real database, targets that do as they are told."""

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import evolve
from bench_world import HALF_HOUR, RUN_SECONDS, Books, Chat, World, facts_of, place, spelled, sweep_for, sweeper
from structlog.testing import capture_logs
from trio.testing import MockClock

from actors import Supervisor
from actors.sweeper import IDLE_SECONDS, RETRY_SECONDS, Sweeper
from config import Bench, Duration, Hours, RestartPolicy
from helexa.bench import sweep
from helexa.bench.client.http import TargetError
from helexa.bench.measuring.targets import Access, Facts, ModelFacts
from helexa.bench.records import Build, Run
from helexa.bench.storage.kept import Filter


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    with capture_logs() as captured:
        yield captured


@pytest.fixture
def long_days(monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets are looked at once an hour, so that days pass in a moment."""
    monkeypatch.setattr(sweep, "MOST_SECONDS", 3600.0)


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    store = Books(f"sqlite:///{tmp_path}/bench.db")
    yield store
    store.close()


@pytest.fixture
def world() -> World:
    return World({"a": facts_of("a")})


async def test_every_cell_is_measured_until_it_has_enough_runs_and_then_left_alone(
    world: World, books: Books, autojump_clock: MockClock
) -> None:
    loop = sweeper(world, books)
    await sweep_for(loop, 6 * HALF_HOUR)
    assert world.what == ["a/m/chat1", "a/m/chat2"] * 2
    assert len(books.summaries(Filter(outcomes=("ok",)))) == 4
    assert loop.status()["runs"] == {"ok": 4, "failed": 0, "skipped": 0, "yielded": 0}
    assert loop.status()["targets"][0]["due"] == 0


async def test_the_second_run_of_a_cell_comes_an_interval_after_the_first(
    world: World, books: Books, autojump_clock: MockClock
) -> None:
    await sweep_for(sweeper(world, books, scenarios=(1,)), 3 * HALF_HOUR)
    (first, _), (second, _) = world.measured
    assert second - first >= HALF_HOUR + RUN_SECONDS


async def test_a_new_build_is_measured_anew(world: World, books: Books, autojump_clock: MockClock) -> None:
    loop = sweeper(world, books, scenarios=(1,), samples_per_build=1)
    await sweep_for(loop, HALF_HOUR)
    world.facts["a"] = facts_of("a", build=Build("helexa 2", {"commit": "2"}))
    await sweep_for(loop, 3 * HALF_HOUR)
    assert world.what == ["a/m/chat1"] * 2
    assert [each.build.name for each in books.summaries()] == ["helexa 2", "helexa 1"]


async def test_what_was_measured_before_a_restart_counts(world: World, books: Books, autojump_clock: MockClock) -> None:
    await sweep_for(sweeper(world, books, samples_per_build=1), HALF_HOUR)
    await sweep_for(sweeper(world, books, samples_per_build=1), 5 * HALF_HOUR)
    assert world.what == ["a/m/chat1", "a/m/chat2"]


async def test_only_models_that_are_loaded_are_measured_and_only_in_ways_that_fit(
    world: World, books: Books, autojump_clock: MockClock
) -> None:
    world.facts["a"] = facts_of("a", ModelFacts("m"), ModelFacts("cold", "unloaded"), ModelFacts("bad", "failed"))
    await sweep_for(sweeper(world, books, scenarios=(1, 2000)), HALF_HOUR)
    assert set(world.what) == {"a/m/chat1"}


async def test_it_waits_until_a_target_has_been_idle_for_a_while(
    world: World, books: Books, autojump_clock: MockClock
) -> None:
    await sweep_for(sweeper(world, books, scenarios=(1,)), HALF_HOUR)
    assert world.measured[0][0] - world.looks[0][0] >= IDLE_SECONDS
    assert len([at for at, _ in world.looks if at <= world.measured[0][0]]) > IDLE_SECONDS


@pytest.mark.parametrize("loading", [False, True])
async def test_a_target_that_is_used_or_loads_is_looked_at_again_soon(
    world: World,
    books: Books,
    autojump_clock: MockClock,
    loading: bool,  # noqa: FBT001 - as pytest calls it
) -> None:
    world.busy("a", loading=loading)
    async with trio.open_nursery() as nursery:
        loop = sweeper(world, books, scenarios=(1,))
        nursery.start_soon(loop.run)
        await trio.sleep(HALF_HOUR)
        assert world.what == []
        world.idle("a")
        await trio.sleep(120)
        assert world.what == ["a/m/chat1"]
        nursery.cancel_scope.cancel()


async def test_a_busy_target_delays_no_other(world: World, books: Books, autojump_clock: MockClock) -> None:
    world.facts["b"] = facts_of("b")
    world.busy("a")
    await sweep_for(sweeper(world, books, place("a"), place("b"), scenarios=(1,)), 120)
    assert world.what == ["b/m/chat1"]


async def test_a_run_that_made_way_for_users_is_tried_again_less_and_less_often(
    world: World, books: Books, long_days: None, autojump_clock: MockClock
) -> None:
    world.outcomes = lambda _: "yielded"
    await sweep_for(sweeper(world, books, scenarios=(1,)), 24 * 3600)
    begun = [at for at, _ in world.measured]
    gaps = [later - earlier for earlier, later in pairwise(begun)]
    assert gaps[0] < 120
    assert gaps == sorted(gaps)
    assert gaps[-1] > 3600


async def test_after_users_came_the_other_cells_of_the_target_wait_a_moment_too(
    world: World, books: Books, autojump_clock: MockClock
) -> None:
    world.outcomes = lambda task: "yielded" if spelled(task) == "chat1" else "ok"
    await sweep_for(sweeper(world, books, samples_per_build=1), 110)
    (first, _), (second, what) = world.measured[:2]
    assert what == "a/m/chat2"
    assert second - first >= 60


async def test_a_cell_that_fails_is_kept_with_its_reason_and_holds_nothing_up(
    world: World, books: Books, autojump_clock: MockClock
) -> None:
    world.outcomes = lambda task: "failed" if spelled(task) == "chat1" else "ok"
    loop = sweeper(world, books)
    await sweep_for(loop, 3 * HALF_HOUR)
    assert world.what.count("a/m/chat2") == 2
    failed = books.summaries(Filter(outcomes=("failed",)))
    assert {each.reason for each in failed} == {"said so"}
    assert loop.status()["last_error"]["message"] == "said so"


class Tiring(World):
    """Whose runs are given up on the way."""

    async def measure(self, *arguments: Any, **settings: Any) -> list[Run]:
        runs = await super().measure(*arguments, **settings)
        return [evolve(each, reason="2 rounds in a row failed: gone") for each in runs]


async def test_a_run_that_is_given_up_on_the_way_is_kept_and_tried_again_as_if_it_had_failed(
    books: Books, long_days: None, autojump_clock: MockClock
) -> None:
    world = Tiring({"a": facts_of("a")})
    loop = sweeper(world, books, scenarios=(1,))
    await sweep_for(loop, 24 * 3600)
    begun = [at for at, _ in world.measured]
    assert begun[-1] - begun[-2] > 2 * HALF_HOUR
    assert len(books.summaries(Filter(outcomes=("ok",)))) == len(begun)
    assert loop.status()["last_error"]["message"] == "2 rounds in a row failed: gone"


async def test_what_is_skipped_again_and_again_is_kept_once(
    world: World, books: Books, long_days: None, autojump_clock: MockClock
) -> None:
    world.outcomes = lambda _: "skipped"
    await sweep_for(sweeper(world, books, scenarios=(1,)), 24 * 3600)
    assert 3 < len(world.measured) < 10
    assert len(books.summaries()) == 1


async def test_a_target_that_is_away_is_noted_once_and_found_again(
    world: World, books: Books, autojump_clock: MockClock, logs: list[Any]
) -> None:
    back = world.facts["a"]
    world.facts["a"] = TargetError("unreachable", "Nothing listens there.")
    async with trio.open_nursery() as nursery:
        loop = sweeper(world, books, scenarios=(1,))
        nursery.start_soon(loop.run)
        await trio.sleep(4 * HALF_HOUR)
        assert loop.status()["targets"][0]["error"] == "Nothing listens there."
        world.facts["a"] = back
        await trio.sleep(2 * HALF_HOUR)
        assert loop.status()["targets"][0]["error"] is None
        nursery.cancel_scope.cancel()
    assert [each["event"] for each in logs if "target" in each["event"]] == ["bench.target_away", "bench.target_back"]
    assert world.what[0] == "a/m/chat1"


@pytest.mark.parametrize("error", [RuntimeError("of ours"), ExceptionGroup("two", [ValueError("x"), OSError("y")])])
async def test_a_fault_of_a_look_or_a_run_ends_neither_the_loop_nor_other_targets(
    world: World, books: Books, long_days: None, autojump_clock: MockClock, error: Exception
) -> None:
    world.facts |= {"b": error, "c": facts_of("c")}
    world.fault = error
    loop = sweeper(world, books, place("a"), place("b"), place("c"), scenarios=(1,))
    await sweep_for(loop, HALF_HOUR / 2)
    assert {"a/m/chat1", "c/m/chat1"} == set(world.what)
    assert loop.status()["runs"]["failed"] == len(world.what)
    world.fault = None
    await sweep_for(loop, 24 * HALF_HOUR)
    assert len(books.summaries(Filter(outcomes=("ok",)))) == 4


async def test_a_look_that_hangs_is_given_up(world: World, books: Books, autojump_clock: MockClock) -> None:
    world.facts["b"] = facts_of("b")
    asked = world.look

    async def look(access: Access) -> Facts:
        if access.target.name == "a":
            await trio.sleep_forever()
        return await asked(access)

    loop = Sweeper(books, Bench(), [place("a"), place("b")], [Chat()], evolve(world.tools(), look=look))
    await sweep_for(loop, 120)
    assert world.what == ["b/m/chat1"]
    assert "takes more than 30 s" in loop.status()["targets"][0]["error"]


async def test_while_the_database_is_away_nothing_is_measured_and_the_loop_goes_on_when_it_is_back(
    world: World, books: Books, autojump_clock: MockClock, logs: list[Any]
) -> None:
    books.away = "it is locked"
    async with trio.open_nursery() as nursery:
        loop = sweeper(world, books, scenarios=(1,))
        nursery.start_soon(loop.run)
        await trio.sleep(4 * HALF_HOUR)
        assert world.what == []
        assert (loop.status()["state"], loop.status()["database"]) == ("database away", "it is locked")
        books.away = None
        await trio.sleep(2 * RETRY_SECONDS)
        assert world.what == ["a/m/chat1"]
        assert loop.status()["database"] is None
        nursery.cancel_scope.cancel()
    events = [each["event"] for each in logs if "database" in each["event"]]
    assert events == ["bench.database_away", "bench.database_back"]


async def test_a_run_that_cannot_be_saved_is_saved_later_and_nothing_is_measured_meanwhile(
    world: World, books: Books, long_days: None, autojump_clock: MockClock
) -> None:
    books.full = "the disk is full"
    async with trio.open_nursery() as nursery:
        loop = sweeper(world, books)
        nursery.start_soon(loop.run)
        await trio.sleep(24 * HALF_HOUR)
        assert world.what == ["a/m/chat1"]
        assert loop.status()["unsaved"] == 1
        books.full = None
        await trio.sleep(2 * RETRY_SECONDS)
        assert loop.status()["unsaved"] == 0
        nursery.cancel_scope.cancel()
    assert len(books.summaries(Filter(outcomes=("ok",)))) >= 2


async def test_what_could_not_be_saved_outlives_a_crash_of_the_loop(
    world: World, books: Books, autojump_clock: MockClock
) -> None:
    books.full = "the disk is full"
    loop = sweeper(world, books, scenarios=(1,))
    await sweep_for(loop, 60)
    books.full = None
    await sweep_for(loop, 10)
    assert len(books.summaries()) == 1


async def test_no_run_begins_outside_its_hours(world: World, books: Books, autojump_clock: MockClock) -> None:
    world.minute = 720
    loop = sweeper(world, books, hours=Hours.parse("22:00-06:00"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(loop.run)
        await trio.sleep(HALF_HOUR + 1)
        assert (world.looks, loop.status()["state"]) == ([], "outside hours")
        world.minute = 1330
        await trio.sleep(RETRY_SECONDS + IDLE_SECONDS + 5)
        assert loop.status()["state"] == "measuring"
        world.minute = 400
        await trio.sleep(HALF_HOUR)
        assert world.what == ["a/m/chat1"], "the second did not begin"
        nursery.cancel_scope.cancel()


async def test_servers_outside_are_measured_on_the_models_that_are_named_and_without_a_guard(
    world: World, books: Books, autojump_clock: MockClock
) -> None:
    world.facts["out"] = facts_of("out", ModelFacts("listed"), ModelFacts("dear"))
    await sweep_for(sweeper(world, books, place("out", "openai", ("listed", "hidden")), scenarios=(1,)), 100)
    assert world.what == ["out/listed/chat1", "out/hidden/chat1"]
    assert world.guarded == []


async def test_runs_of_one_round_are_one_batch_and_no_two_are_measured_under_one_name(
    world: World, books: Books, autojump_clock: MockClock
) -> None:
    await sweep_for(sweeper(world, books), 5 * HALF_HOUR)
    found = books.summaries()
    assert [each.id for each in found] == sorted((each.id for each in found), reverse=True)
    assert len(set(world.batches)) == len(found) == 4
    assert len({each.batch for each in found}) == 2
    assert all(each.id.startswith(f"{each.batch}-") and each.label == "loop" for each in found)


async def test_an_interval_of_never_is_a_single_run_of_each(
    world: World, books: Books, long_days: None, autojump_clock: MockClock
) -> None:
    loop = sweeper(world, books, interval=Duration(math.inf))
    await sweep_for(loop, 86_400)
    assert world.what == ["a/m/chat1", "a/m/chat2"]


async def test_old_runs_are_deleted_once_a_day(
    world: World, books: Books, long_days: None, autojump_clock: MockClock
) -> None:
    day = 86_400.0
    loop = sweeper(
        world, books, scenarios=(1,), samples_per_build=40, interval=Duration(day), retention=Duration(5 * day)
    )
    await sweep_for(loop, 20 * day)
    kept = [each.started_at for each in books.summaries()]
    assert len(kept) in {6, 7}
    assert max(kept) - min(kept) <= 6.1 * day


async def test_its_status_says_what_it_measures(world: World, books: Books, autojump_clock: MockClock) -> None:
    loop = sweeper(world, books)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(loop.run)
        await trio.sleep(IDLE_SECONDS + 0.75 * RUN_SECONDS)
        status = loop.status()
        assert status["state"] == "measuring"
        doing = status["measuring"]
        assert (doing["model"], doing["scenario"], doing["round"], doing["rounds"]) == ("m", "chat", 2, 2)
        await trio.sleep(600)
        status = loop.status()
        assert (status["state"], status["measuring"]) == ("waiting", None)
        assert status["next_at"] >= trio.current_time()
        (target,) = status["targets"]
        assert (target["name"], target["cells"], target["due"]) == ("a", 2, 2)
        nursery.cancel_scope.cancel()


async def test_under_a_supervisor_it_runs_and_stops(world: World, books: Books, autojump_clock: MockClock) -> None:
    supervisor = Supervisor("test")
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        await supervisor.start(sweeper(world, books), RestartPolicy(), escalate=False)
        await trio.sleep(HALF_HOUR)
        (status,) = supervisor.status()
        assert (status.name, status.state, status.restarts) == ("sweeper", "running", 0)
        nursery.cancel_scope.cancel()
    assert world.what


async def test_a_model_that_is_loaded_for_a_while_only_is_not_missed(
    world: World, books: Books, autojump_clock: MockClock
) -> None:
    world.facts["a"] = facts_of("a", ModelFacts("m", "unloaded"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sweeper(world, books, scenarios=(1,), interval=Duration(6 * 3600.0)).run)
        await trio.sleep(600)
        world.idle("a")
        await trio.sleep(120)
        nursery.cancel_scope.cancel()
    assert world.what == ["a/m/chat1"]


async def test_servers_outside_are_asked_what_they_are_once_in_an_interval(
    world: World, books: Books, autojump_clock: MockClock
) -> None:
    world.facts["out"] = facts_of("out", ModelFacts("m"))
    loop = sweeper(world, books, place("out", "openai", ("m",)), scenarios=(1,), samples_per_build=1)
    await sweep_for(loop, 10 * HALF_HOUR)
    assert len(world.looks) <= 11


async def test_the_tail_of_its_own_requests_is_not_taken_for_a_user(
    world: World, books: Books, autojump_clock: MockClock
) -> None:
    asked = world.look

    async def look(access: Access) -> Facts:
        """The neuron tells of what was measured for a moment longer."""
        found = await asked(access)
        recent = world.measured and trio.current_time() < world.measured[-1][0] + RUN_SECONDS + 2.5
        return evolve(found, models=(ModelFacts("m", running=4),)) if recent else found

    loop = Sweeper(books, Bench(), [place("a")], [Chat(1), Chat(2)], evolve(world.tools(), look=look))
    await sweep_for(loop, 2 * RUN_SECONDS + 3 * IDLE_SECONDS)
    assert world.what == ["a/m/chat1", "a/m/chat2"]
