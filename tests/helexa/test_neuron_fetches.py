"""What is told of models on their way, and who may end that."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from engine_port import FakeEngines
from hubs import Fault, Hub, Repository, contents, serving_hub
from trio.testing import wait_all_tasks_blocked

from helexa.neuron.fetches import Fetches
from helexa.neuron.service import Service
from helexa.wire import errors
from helexa.wire.errors import ApiError
from helexa.wire.fleet import LoadRequest, ModelReport
from helexa.wire.progress import Progress

WEIGHTS = "model.safetensors"
MODEL = "huggingface:org/model"


@pytest.fixture
def engines() -> FakeEngines:
    return FakeEngines()


@pytest.fixture
def service(engines: FakeEngines) -> Service:
    return Service(engines, {"mine": "huggingface:org/model"}.get)


@pytest.fixture
def slow() -> Fault:
    """An answer that waits in the middle."""
    return Fault(wait_at=1000)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, qwen: Path, slow: Fault) -> Iterator[Hub]:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with serving_hub() as hub:
        hub.repositories["org/model"] = Repository(contents(qwen))
        hub.faults[WEIGHTS] = [slow]
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        try:
            yield hub
        finally:
            slow.go.set()


async def reached(event: threading.Event) -> None:
    assert await trio.to_thread.run_sync(event.wait, 30)


async def over(service: Service) -> None:
    """Wait until nothing is fetched any more."""
    while any(report.status == "loading" for report in service.reports()):
        await trio.lowlevel.checkpoint()


async def test_a_model_that_is_fetched_reads_as_loading_and_tells_how_far_it_is(
    service: Service, hub: Hub, slow: Fault
) -> None:
    size = sum(map(len, hub.repositories["org/model"].files.values()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.load, LoadRequest("mine", device="cpu"))
        await reached(slow.wait)
        (told,) = service.reports()
        assert (told.id, told.status, told.device) == ("mine", "loading", "cpu")
        assert told.progress is not None
        assert (told.progress.phase, told.progress.total) == ("downloading", size)
        assert 0 < told.progress.done < size
        slow.go.set()
    assert [(each.id, each.status, each.progress) for each in service.reports()] == [("mine", "loaded", None)]


async def test_between_download_and_engine_it_reads_as_loading(
    service: Service, engines: FakeEngines, hub: Hub
) -> None:
    hub.faults.clear()
    engines.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.load, LoadRequest("mine"))
        while not engines.loads:
            await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked()
        assert service.report("mine").status == "loading"
        engines.gate.set()


async def test_a_qualified_id_needs_no_entry_in_the_catalogue(service: Service, hub: Hub) -> None:
    hub.faults.clear()
    assert (await service.load(LoadRequest(MODEL))).status == "loaded"


async def test_unloading_a_model_that_is_fetched_ends_that(service: Service, hub: Hub, slow: Fault) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fails_to_load, service, "mine", "download_stopped")
        await reached(slow.wait)
        await service.unload("mine")
        slow.go.set()
    assert service.reports() == ()
    with pytest.raises(ApiError) as caught:
        await service.unload("mine")
    assert caught.value.code == "model_not_found"


async def fails_to_load(service: Service, model: str, code: str) -> None:
    with pytest.raises(ApiError) as caught:
        await service.load(LoadRequest(model))
    assert caught.value.code == code


async def test_what_nobody_waits_for_any_more_is_fetched_to_its_end(service: Service, hub: Hub, slow: Fault) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.load, LoadRequest("mine"))
        await reached(slow.wait)
        nursery.cancel_scope.cancel()
    assert service.report("mine").status == "loading"
    slow.go.set()
    await over(service)
    assert service.reports() == ()
    asked = len(hub.asked)
    await service.load(LoadRequest("mine"))
    assert len(hub.asked) == asked


async def test_a_model_that_cannot_be_fetched_has_failed_until_it_is_tried_again_or_forgotten(
    service: Service, hub: Hub
) -> None:
    hub.faults.clear()
    config = hub.repositories["org/model"].files.pop("config.json")
    await fails_to_load(service, "mine", "config_missing")
    (told,) = service.reports()
    assert (told.id, told.status) == ("mine", "failed")
    assert "has no config.json" in (told.error or "")
    await service.unload("mine")
    assert service.reports() == ()
    await fails_to_load(service, "mine", "config_missing")
    hub.repositories["org/model"].files["config.json"] = config
    await service.load(LoadRequest("mine"))
    assert [each.status for each in service.reports()] == ["loaded"]


async def test_a_failure_after_everybody_has_left_is_told_as_well(service: Service, hub: Hub, slow: Fault) -> None:
    hub.faults["config.json"] = [Fault(spoil=True, wait_at=5, wait=slow.wait, go=slow.go)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.load, LoadRequest("mine"))
        await reached(slow.wait)
        nursery.cancel_scope.cancel()
    slow.go.set()
    await over(service)
    assert service.report("mine").status == "failed"


# alone


def test_a_load_that_waits_for_another_s_download_tells_of_that_one() -> None:
    fetches = Fetches()
    with fetches.shown(LoadRequest("m")) as first, fetches.shown(LoadRequest("m")) as second:
        first.meter.have(5)
        assert [each.progress for each in fetches.with_reports(())] == [Progress("resolving", 5)]
        second.meter.have(6)
        assert [each.progress for each in fetches.with_reports(())] == [Progress("resolving", 6)]


@pytest.mark.parametrize("status", ["loaded", "loading", "recovering"])
def test_what_an_engine_tells_goes_first(status: str) -> None:
    told = ModelReport("m", status)  # type: ignore[arg-type]
    fetches = Fetches()
    with fetches.shown(LoadRequest("m")):
        assert fetches.with_reports([told, ModelReport("n", "loaded")])[0] == told


def test_a_new_try_hides_an_engine_s_failure() -> None:
    fetches, broken = Fetches(), ModelReport("m", "failed", error="no memory")
    with fetches.shown(LoadRequest("m")) as fetch:
        assert fetches.with_reports([broken]) == (fetch.report,)
    assert fetches.with_reports([broken]) == (broken,)


def test_of_failures_only_the_last_are_remembered() -> None:
    fetches = Fetches()
    for index in range(200):
        with pytest.raises(ApiError), fetches.shown(LoadRequest(f"m{index}")):
            raise errors.upstream_error("no")
    told = fetches.with_reports(())
    assert len(told) <= 65
    assert told[-1].id == "m199"


def test_an_engine_s_failure_is_told_by_the_engine() -> None:
    fetches, broken = Fetches(), ModelReport("m", "failed", "cpu", error="no memory")
    with pytest.raises(ApiError), fetches.shown(LoadRequest("m")):
        raise errors.upstream_error("no memory")
    assert fetches.with_reports([broken]) == (broken,)
