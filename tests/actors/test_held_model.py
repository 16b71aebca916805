"""A model that is to be held: what others see of it, and when it is taken for what ends the processes that load it."""

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock

from actors.held_model import DEATHS, REFUSED_SECONDS, HeldModel
from helexa.engine.protocol import Load, Loaded, Loading, ModelLoad
from helexa.wire.fleet import ModelReport
from helexa.wire.progress import Progress

LOAD = Load("m", "/m")
LOADED = Loaded("m", 1, 100, 0.1, 2, 3)
WHY = "killed by SIGSEGV"


@pytest.fixture
def model() -> HeldModel:
    return HeldModel(LOAD, ModelReport("m", "loading", "cuda:0"))


async def test_how_far_it_is_and_when_it_will_be_there(model: HeldModel, autojump_clock: MockClock) -> None:
    assert model.report.progress is None
    model.advance(Loading("m"))
    assert model.report.progress == Progress("loading")
    for done in (100, 200, 300):
        await trio.sleep(1)
        model.advance(Loading("m", done, 1000))
    assert model.report.progress == Progress("loading", 300, 1000, 100.0, 7.0)


async def test_a_load_that_stands_still_does_not_go_on_telling_of_its_speed(
    model: HeldModel, autojump_clock: MockClock
) -> None:
    model.advance(Loading("m"))
    await trio.sleep(1)
    model.advance(Loading("m", 500, 1000))
    await trio.sleep(60)
    progress = model.report.progress
    assert progress is not None
    assert progress.rate == 0


async def test_what_serves_or_has_failed_is_on_no_way(model: HeldModel) -> None:
    model.advance(Loading("m", 5, 10))
    model.serve(LOADED)
    assert (model.report.status, model.report.progress) == ("loaded", None)
    model.lose()
    model.advance(Loading("m", 5, 10))
    assert (model.report.status, model.report.progress is not None) == ("recovering", True)
    model.fail("no such file")
    assert (model.report.status, model.report.progress, model.report.error) == ("failed", None, "no such file")


async def test_a_process_that_begins_anew_begins_at_nothing(model: HeldModel) -> None:
    model.advance(Loading("m", 9, 10))
    model.lose()
    assert model.report.progress is None
    model.advance(Loading("m", 1, 10))
    progress = model.report.progress
    assert progress is not None
    assert (progress.done, progress.total) == (1, 10)


async def test_what_has_failed_is_tried_by_the_next_process(model: HeldModel) -> None:
    model.fail("its disk was away")
    model.lose()
    assert (model.report.status, model.report.error, model.settled.is_set()) == ("loading", None, False)


async def test_one_death_while_it_was_loaded_may_be_chance(model: HeldModel) -> None:
    assert model.blame(WHY, hangs=False) is None
    model.lose()
    assert (model.is_condemned, model.report.status) == (False, "loading")


async def test_at_the_second_in_a_row_it_has_failed_and_no_process_tries_again(model: HeldModel) -> None:
    model.blame(WHY, hangs=False)
    error = model.blame(WHY, hangs=False)
    assert error == (
        "the engine worker of cuda:0 has died 2 times in a row while it loaded this model (killed by SIGSEGV)"
    )
    model.fail(error)
    model.lose()
    assert (model.is_condemned, model.report.status, model.report.error) == (True, "failed", error)
    assert model.settled.is_set()


async def test_deaths_are_in_a_row_only_if_it_was_not_loaded_in_between(model: HeldModel) -> None:
    for _ in range(DEATHS + 1):
        assert model.blame(WHY, hangs=False) is None
        model.lose()
        model.serve(LOADED)
        model.note(ModelLoad("m", 1, 0))


async def test_a_hang_is_not_waited_for_twice(model: HeldModel) -> None:
    error = model.blame("its load came no further for 300 s", hangs=True)
    assert error == (
        "the engine worker of cuda:0 was ended while it loaded this model (its load came no further for 300 s)"
    )
    assert model.is_condemned


async def test_it_is_refused_for_a_while_whoever_asks(model: HeldModel, autojump_clock: MockClock) -> None:
    assert model.refused_seconds(LOAD) == 0
    model.blame(WHY, hangs=True)
    assert model.refused_seconds(LOAD) == REFUSED_SECONDS
    await trio.sleep(REFUSED_SECONDS - 0.5)
    assert model.refused_seconds(LOAD) == 1
    await trio.sleep(0.5)
    assert model.refused_seconds(LOAD) == 0
    assert model.is_condemned


@pytest.mark.parametrize("other", [evolve(LOAD, path="/mended"), evolve(LOAD, quant="int8")])
async def test_what_is_wanted_otherwise_is_not_refused(model: HeldModel, other: Load) -> None:
    model.blame(WHY, hangs=True)
    assert model.refused_seconds(other) == 0


async def test_who_begins_the_device_anew_may_try_at_once_and_no_process_does_by_itself(model: HeldModel) -> None:
    model.forgive()
    assert not model.is_condemned
    model.blame(WHY, hangs=True)
    model.forgive()
    assert (model.refused_seconds(LOAD), model.is_condemned) == (0, True)
