"""A model that a real fleet fetches from a registry: told of meanwhile, resumed after a death, served in the end."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fleet_forks import SPARES
from harness import Fleet, make_fleet, wait_until
from hubs import Fault, Hub, Repository, contents, serving_hub

import helexa.tiny

pytestmark = pytest.mark.usefixtures("forked_fleets")
MODEL, OTHER = "house/fetched", "house/other"
WEIGHTS = "model.safetensors"
CHECKPOINT = Path(helexa.tiny.__file__).parent / "checkpoint"
HALF = 3 << 20


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A registry in the place of Hugging Face, for whatever is started from here; a neuron may be killed there."""
    with serving_hub() as hub, pytest.MonkeyPatch.context() as patch:
        hub.repositories |= {name: Repository(contents(CHECKPOINT)) for name in ("org/tiny", "org/other")}
        patch.setenv(SPARES, "1")
        patch.setenv("HF_ENDPOINT", hub.endpoint)
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("HF_HUB_CACHE", raising=False)
        patch.delenv("HF_HUB_OFFLINE", raising=False)
        yield hub


@pytest.fixture(scope="module")
def fleet(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    sources = {MODEL: "org/tiny", OTHER: "org/other"}
    models = "".join(f'[[models]]\nid = "{name}"\nsource = "huggingface:{where}"\n' for name, where in sources.items())
    running = make_fleet(tmp_path_factory.mktemp("fleet"), models).start()
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


def command(fleet: Fleet, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "helexa", *arguments, "--url", fleet.url]
    return subprocess.run(line, capture_output=True, text=True, timeout=90, check=False)


def row(fleet: Fleet, model: str) -> dict[str, Any] | None:
    """What `helexa ps` knows of a model."""
    found = json.loads(command(fleet, "ps", "--json").stdout)
    return next((each for each in found if each["model"] == model), None)


def downloading(fleet: Fleet) -> dict[str, Any] | None:
    """The same, once it tells of the download."""
    told = row(fleet, MODEL)
    return told if told and (told["progress"] or {}).get("phase") == "downloading" else None


def progress(fleet: Fleet, model: str) -> dict[str, Any]:
    told = httpx.get(f"{fleet.neuron_url}/models", timeout=5).json()["models"]
    return next((each["progress"] or {} for each in told if each["id"] == model), {})


def test_a_download_is_told_of_and_goes_on_after_the_neuron_was_killed(fleet: Fleet, hub: Hub) -> None:
    slow = Fault(wait_at=HALF)
    hub.faults[WEIGHTS] = [slow]
    ended: list[subprocess.CompletedProcess[str]] = []
    first = threading.Thread(target=lambda: ended.append(command(fleet, "load", MODEL)))
    first.start()
    assert slow.wait.wait(60)
    wait_until(lambda: progress(fleet, MODEL).get("done", 0) >= HALF, 30, "half a model")
    told = wait_until(lambda: downloading(fleet), 30, "the download at the front door, which polls")
    assert told["status"] == "loading"
    assert HALF < told["progress"]["total"] <= sum(map(len, contents(CHECKPOINT).values()))
    next(each for each in fleet.family() if "neuron" in each.cmdline()).kill()
    slow.go.set()
    first.join()
    assert ended[0].returncode == 1
    assert "fetching" in ended[0].stderr
    wait_until(lambda: fleet.get("/ready") == 200, 60, "the neuron again")
    again = command(fleet, "load", MODEL)
    assert again.returncode == 0, again.stderr
    assert hub.fetches(WEIGHTS)[-1] not in {None, "bytes=0-"}
    assert len(hub.fetches(WEIGHTS)) == 2
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
    assert httpx.post(f"{fleet.url}/v1/chat/completions", json=body, timeout=60).status_code == 200


def test_unloading_ends_a_download_and_a_missing_model_is_said(fleet: Fleet, hub: Hub) -> None:
    slow = Fault(wait_at=HALF)
    hub.faults[WEIGHTS] = [slow]
    ended: list[subprocess.CompletedProcess[str]] = []
    first = threading.Thread(target=lambda: ended.append(command(fleet, "load", OTHER)))
    first.start()
    assert slow.wait.wait(60)
    wait_until(lambda: progress(fleet, OTHER).get("done", 0) >= HALF, 30, "half a model")
    wait_until(lambda: row(fleet, OTHER), 30, "the model among those that are held")
    unloaded = command(fleet, "unload", OTHER)
    assert unloaded.returncode == 0, unloaded.stderr
    slow.go.set()
    first.join()
    assert "was stopped" in ended[0].stderr
    del hub.repositories["org/other"].files["config.json"]
    again = command(fleet, "load", OTHER)
    assert again.returncode == 1
    assert "'org/other' on Hugging Face has no config.json" in again.stderr
