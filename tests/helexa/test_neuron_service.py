"""Which models a host serves: their tokenizers stay with their weights, and start-up is told as it goes."""

import shutil
from pathlib import Path

import pytest
import trio
from engine_port import FakeEngines
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from helexa.neuron.service import Service
from helexa.wire.errors import ApiError
from helexa.wire.fleet import Activation, ActivationFailure, LoadRequest
from helexa.wire.ranks import Elsewhere


@pytest.fixture
def engines() -> FakeEngines:
    return FakeEngines()


@pytest.fixture
def service(engines: FakeEngines, qwen: Path, llama: Path) -> Service:
    catalogue = {"q": f"path:{qwen}", "l": f"path:{llama}", "gone": "path:/nowhere"}
    return Service(engines, catalogue.get)


async def test_a_model_of_the_catalogue_is_loaded_from_its_source(
    service: Service, engines: FakeEngines, qwen: Path
) -> None:
    report = await service.load(LoadRequest("q", device="cpu"))
    assert engines.loads == [("q", str(qwen), "cpu")]
    assert report.status == "loaded"
    assert report.capabilities == ("chat", "tool_call", "reasoning")
    assert service.report("q") == report
    assert service.face("q").text.has_chat_template


async def test_a_source_in_the_request_goes_first(service: Service, engines: FakeEngines, llama: Path) -> None:
    await service.load(LoadRequest("q", f"path:{llama}"))
    assert engines.loads[0][1] == str(llama)


async def test_the_engines_are_told_which_ranks_other_hosts_run(service: Service, engines: FakeEngines) -> None:
    await service.load(LoadRequest("q", device="cpu"))
    elsewhere = Elsewhere(1, "10.0.0.1", 9000, "secret")
    await service.load(LoadRequest("l", device="cpu", elsewhere=elsewhere))
    assert engines.elsewhere == [None, elsewhere]


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (LoadRequest("unheard-of"), 404, "model_not_found"),
        (LoadRequest("gone"), 400, "invalid_value"),
        (LoadRequest("q", "ftp"), 400, "invalid_value"),
    ],
)
async def test_what_cannot_be_found_never_reaches_an_engine(
    service: Service, engines: FakeEngines, request_: LoadRequest, status: int, code: str
) -> None:
    with pytest.raises(ApiError) as caught:
        await service.load(request_)
    assert (caught.value.status, caught.value.code) == (status, code)
    assert engines.loads == []


async def test_a_broken_tokenizer_is_told(service: Service, engines: FakeEngines, qwen: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(qwen, tmp_path / "broken")
    (broken / "tokenizer.json").write_text("{")
    with pytest.raises(ApiError, match="The tokenizer of 'q' does not load") as caught:
        await service.load(LoadRequest("q", f"path:{broken}"))
    assert caught.value.status == 502
    assert engines.loads == []


async def test_before_its_load_a_model_is_not_found_and_during_it_unavailable(
    service: Service, engines: FakeEngines
) -> None:
    with pytest.raises(ApiError, match="does not exist"):
        service.face("q")
    engines.set("q", "loading")
    with pytest.raises(ApiError, match="is loading") as caught:
        service.face("q")
    assert caught.value.status == 503


async def test_a_model_serves_although_whoever_asked_for_it_has_left(service: Service, engines: FakeEngines) -> None:
    engines.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.load, LoadRequest("q"))
        with trio.fail_after(20):
            while not engines.loads:  # noqa: ASYNC110 - a thread reads the tokenizer
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    engines.set("q", "loaded")
    assert service.face("q").text.has_chat_template


async def test_a_second_load_from_elsewhere_does_not_change_the_tokenizer_of_the_first(
    service: Service, qwen: Path, tmp_path: Path
) -> None:
    await service.load(LoadRequest("q"))
    face = service.face("q")
    other = shutil.copytree(qwen, tmp_path / "other")
    await service.load(LoadRequest("q", f"path:{other}"))
    assert service.face("q") is face


async def test_a_failed_model_gets_the_tokenizer_of_the_next_try(
    service: Service, engines: FakeEngines, qwen: Path, tmp_path: Path
) -> None:
    engines.broken["q"] = "corrupt"
    with pytest.raises(ApiError, match="corrupt"):
        await service.load(LoadRequest("q"))
    first = service.face("q")
    engines.broken.clear()
    await service.load(LoadRequest("q", f"path:{shutil.copytree(qwen, tmp_path / 'mended')}"))
    assert service.face("q") is not first


async def test_unloading_forgets_the_tokenizer(service: Service) -> None:
    await service.load(LoadRequest("q"))
    await service.unload("q")
    for ask in (service.face, service.report):
        with pytest.raises(ApiError, match="does not exist"):
            ask("q")
    assert (await service.load(LoadRequest("q"))).status == "loaded"
    assert service.face("q")


async def test_unloading_what_is_not_there(service: Service) -> None:
    with pytest.raises(ApiError) as caught:
        await service.unload("q")
    assert caught.value.code == "model_not_found"


async def test_start_up_is_told_step_by_step(service: Service, engines: FakeEngines) -> None:
    engines.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.preload, ["q", "l"])
        await wait_all_tasks_blocked(0.01)
        with trio.fail_after(20):
            while not engines.loads:  # noqa: ASYNC110 - a thread reads the tokenizer
                await trio.sleep(0.01)
        assert service.activation == Activation("pre_warming", pending=("l",), in_progress="q")
        engines.gate.set()
    assert service.activation == Activation("ready", completed=("q", "l"))


async def test_a_failure_at_start_up_is_recorded_and_the_next_goes_on(service: Service, engines: FakeEngines) -> None:
    engines.broken["q"] = "corrupt"
    with capture_logs() as logs:
        await service.preload(["gone", "q", "l"])
    failures = (
        ActivationFailure("gone", "'/nowhere' has no config.json; a model directory is expected."),
        ActivationFailure("q", "'q' does not load: corrupt"),
    )
    assert service.activation == Activation("ready", completed=("l",), failed=failures)
    assert [log["model"] for log in logs if log["log_level"] == "error"] == ["gone", "q"]


async def test_nothing_to_load_is_ready_at_once(service: Service) -> None:
    await service.preload([])
    assert service.activation == Activation("ready")
