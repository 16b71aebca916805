"""The benchmark loop beside a real fleet: it measures what nobody uses, serves it, makes way, and follows edits."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from harness import HTTP, Fleet, free_port, make_fleet, wait_until

PATIENCE = 120.0
"""Seconds; on a machine that does nothing else a run is there after half a minute."""


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def measured_fleet(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Fleet]:
    directory = tmp_path_factory.mktemp("bench")
    running = make_fleet(directory, bench(directory, port)).start()
    yield running
    assert running.stop() == 0


def bench(directory: Path, port: int, **settings: Any) -> str:
    lines = [f"{name} = {value}" for name, value in {"rounds": 1, "samples_per_build": 1, **settings}.items()]
    where = [f'listen = "127.0.0.1:{port}"', f'database = "sqlite:///{directory}/bench.db"']
    return "\n".join(["[bench]", *where, *lines])


def ask(port: int, path: str) -> Any:
    return HTTP.get(f"http://127.0.0.1:{port}{path}").json()


def runs(port: int) -> list[dict[str, Any]]:
    return ask(port, "/api/runs?outcome=ok")["runs"]


@pytest.mark.timeout(300)
def test_it_measures_what_is_loaded_follows_an_edit_and_makes_way_for_a_user(measured_fleet: Fleet, port: int) -> None:
    wait_until(lambda: _serves(port), 60, "a loop that serves")
    (first, *_) = wait_until(lambda: runs(port), PATIENCE, lambda: str(ask(port, "/api/status")))
    assert first["cell"]["target"] == "local"
    assert first["cell"]["model"] == "helexa/tiny"
    assert first["build"]["details"]["torch"]
    assert first["figures"]
    actors = HTTP.get(f"{measured_fleet.url}/fleet/actors").json()["actors"]
    assert ("bench", "running") in [(each["name"], each["state"]) for each in actors]
    said = HTTP.get(f"http://127.0.0.1:{port}/api/runs", headers={"host": "evil.example"})
    assert said.status_code == 403

    text = measured_fleet.topology.read_text()
    edited = text.replace("rounds = 1", "rounds = 1000").replace("samples_per_build = 1", "samples_per_build = 9")
    measured_fleet.topology.write_text(edited)
    wait_until(lambda: _measures(port, rounds=1000), PATIENCE, "a run that would take minutes")
    assert first["id"] in [each["id"] for each in runs(port)]
    (broken_off, *_) = wait_until(lambda: _use(measured_fleet, port), PATIENCE, lambda: str(ask(port, "/api/status")))
    assert broken_off["reason"] == "Others needed what was being measured."


def _use(fleet: Fleet, port: int) -> list[dict[str, Any]]:
    """Be a user; which runs have made way so far."""
    message = {"role": "user", "content": "Hello! Who are you?"}
    body = {"model": "helexa/tiny", "messages": [message], "max_tokens": 256, "ignore_eos": True}
    assert HTTP.post(f"{fleet.url}/v1/chat/completions", json=body, timeout=60).status_code == 200
    found: list[dict[str, Any]] = ask(port, "/api/runs?outcome=yielded")["runs"]
    return found


def _measures(port: int, rounds: int) -> bool:
    """Whether a loop that has heard of the edit is at it; there is none while one takes the other's place."""
    try:
        doing = ask(port, "/api/status")["measuring"]
    except httpx.TransportError:
        return False
    return doing is not None and doing["rounds"] == rounds


def _serves(port: int) -> bool:
    try:
        return bool(HTTP.get(f"http://127.0.0.1:{port}/health").status_code == 200)
    except httpx.TransportError:
        return False
