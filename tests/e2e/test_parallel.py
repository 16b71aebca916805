"""Two devices of one host share a model: it is served, shown, recovers from the end of either rank, and goes whole."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest
from fleet_forks import SPARES
from harness import START_SECONDS, Fleet, gone_all, make_fleet, sse_events, wait_until

GROUP = "cpu+cpu:0"
RANKS = 8
"""Processes of them that there are, one after another."""
SETTINGS = """
[actors.tp_leader]
restart = { max = 100, window = "1s", backoff = "100ms" }
"""
STORY: dict[str, Any] = {
    "model": "helexa/tiny",
    "messages": [{"role": "user", "content": "Tell me a story."}],
    "stream": True,
    "temperature": 0,
    "max_tokens": 80,
    "ignore_eos": True,
}


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory, forked_fleets: None) -> Iterator[Fleet]:
    """A fleet whose one model is preloaded by two devices together."""
    found = make_fleet(tmp_path_factory.mktemp("fleet"), SETTINGS)
    text = found.topology.read_text()
    text = text.replace('devices = ["cpu"]', 'devices = ["cpu", "cpu:0"]')
    found.topology.write_text(text.replace('id = "helexa/tiny"', 'id = "helexa/tiny"\ntensor_parallel = 2'))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SPARES, str(RANKS))
        found.start()
    yield found
    assert found.stop() == 0


def report(fleet: Fleet) -> dict[str, Any]:
    models = httpx.get(f"{fleet.neuron_url}/models", timeout=5).json()["models"]
    return next((each for each in models if each["id"] == "helexa/tiny"), {})


def ranks(fleet: Fleet) -> dict[int, psutil.Process]:
    """The rank processes, by rank."""
    found = {}
    for each in fleet.family():
        try:
            line = each.cmdline()
        except psutil.Error:
            continue
        if "helexa.engine.ranks" in line:
            found[int(line[line.index("--rank") + 1])] = each
    return found


def text_of(received: str) -> str:
    *events, done = [each for each in sse_events(received) if each != ": keep-alive"]
    assert done == "[DONE]"
    found = ""
    for event in events:
        assert isinstance(event, dict)
        assert "error" not in event, event
        found += "".join(each["delta"].get("content") or "" for each in event["choices"])
    return found


def stream(fleet: Fleet, kill: int | None = None) -> str:
    """A whole stream; a rank is killed once a piece of the answer has come, and the model's state is then looked at."""
    received, killed = "", kill is None
    processes = ranks(fleet)
    with httpx.stream("POST", f"{fleet.url}/v1/chat/completions", json=STORY, timeout=START_SECONDS) as response:
        assert response.status_code == 200, response.read()
        for piece in response.iter_text():
            received += piece
            if kill is not None and not killed and '"content"' in piece:
                killed = True
                processes[kill].send_signal(signal.SIGKILL)
                wait_until(lambda: report(fleet)["status"] == "recovering", 10, "a model that reads recovering")
    assert killed
    return text_of(received)


@pytest.fixture(autouse=True)
def _whole(spread: Fleet) -> None:
    wait_until(lambda: report(spread).get("status") == "loaded", START_SECONDS, "a model that serves")
    wait_until(lambda: spread.model()["status"] == "loaded", START_SECONDS, "a gateway that knows")


def test_a_model_is_served_by_two_ranks_that_preload_picked(spread: Fleet) -> None:
    assert sorted(ranks(spread)) == [0, 1]
    assert report(spread)["device"] == GROUP
    body = {key: STORY[key] for key in ("model", "messages", "temperature", "max_tokens")}
    answer = httpx.post(f"{spread.url}/v1/chat/completions", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"]


def test_the_fleet_shows_the_devices_that_share_it(spread: Fleet) -> None:
    (node,) = httpx.get(f"{spread.url}/fleet", timeout=5).json()["nodes"]
    assert [each["device"] for each in node["models"]] == [GROUP]
    command = [sys.executable, "-m", "helexa", "ps", "--url", spread.url]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert GROUP in shown.stdout


@pytest.fixture(scope="module")
def whole(spread: Fleet) -> str:
    """The answer that nothing interrupts."""
    return stream(spread)


def test_a_stream_goes_on_when_a_rank_is_killed(spread: Fleet, whole: str) -> None:
    """The second; that of the first is a worker's death like any other, and tried with the group's actor."""
    before = ranks(spread)
    assert stream(spread, kill=1) == whole
    assert not any(each.is_running() for each in before.values()), "a group lives and dies together"


def test_the_group_is_started_anew_by_its_name(spread: Fleet) -> None:
    before = ranks(spread)
    answer = httpx.post(f"{spread.neuron_url}/devices/{GROUP}/restart", json={}, timeout=START_SECONDS)
    assert [(each["id"], each["status"]) for each in answer.json()["models"]] == [("helexa/tiny", "loaded")]
    assert {each.pid for each in ranks(spread).values()}.isdisjoint(each.pid for each in before.values())


def test_an_unload_ends_the_processes_and_the_next_request_brings_them_back(spread: Fleet, whole: str) -> None:
    before = list(ranks(spread).values())
    unloaded = httpx.post(f"{spread.url}/fleet/models/helexa/tiny/unload", json={}, timeout=60)
    assert unloaded.status_code == 200, unloaded.text
    gone_all(before, 1)
    assert not ranks(spread)
    assert stream(spread) == whole
    assert report(spread)["device"] == GROUP, json.dumps(report(spread))


def test_devices_that_cannot_share_a_model_are_refused(spread: Fleet) -> None:
    for device, why in {"cpu+cpu:7": "this host has cpu, cpu:0", "cpu+cpu": "to be named once"}.items():
        body = {"model": "helexa/tiny", "device": device}
        answer = httpx.post(f"{spread.neuron_url}/models/load", json=body, timeout=30)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "device")
        assert why in answer.json()["error"]["message"]
