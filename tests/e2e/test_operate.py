"""An operator moves models in a running fleet, with the real commands."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from harness import Fleet, free_port, make_fleet, wait_until

import helexa.tiny

pytestmark = pytest.mark.usefixtures("forked_fleets")
COPY = "house/copy"
CHECKPOINT = Path(helexa.tiny.__file__).parent / "checkpoint"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two neurons, and a model in the catalogue that none has loaded."""
    extra = f"""
[[neurons]]
name = "second"
listen = "127.0.0.1:{free_port()}"
devices = ["cpu"]
[[models]]
id = "{COPY}"
source = "path:{CHECKPOINT}"
"""
    running = make_fleet(tmp_path_factory.mktemp("operated"), extra).start()
    wait_until(lambda: all(node["up"] for node in snapshot(running)["nodes"]), 60, "both neurons")
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


def snapshot(fleet: Fleet) -> Any:
    return httpx.get(f"{fleet.url}/fleet", timeout=5).json()


def run(fleet: Fleet, *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    command = [sys.executable, "-m", "helexa", *map(str, arguments), "--url", fleet.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def held(fleet: Fleet) -> set[tuple[str, str]]:
    """Model and node of what is loaded, as scripts see it."""
    _, out, _ = run(fleet, "ps", "--json")
    return {(row["model"], row["node"]) for row in json.loads(out) if row["status"] == "loaded"}


def test_a_model_is_loaded_pinned_served_and_unloaded(fleet: Fleet) -> None:
    code, out, err = run(fleet, "load", COPY, "--node", "second")
    assert (code, out) == (0, f"{COPY} is loaded on second.\n"), err
    assert f"second: loading {COPY}\n" in err
    assert (COPY, "second") in held(fleet)
    body = {"model": COPY, "messages": [{"role": "user", "content": "What is the capital of France?"}]}
    answer = httpx.post(f"{fleet.url}/v1/chat/completions", json=body, timeout=30)
    assert answer.headers["x-helexa-node"] == "second"
    assert run(fleet, "pin", COPY)[:2] == (0, f"{COPY} is pinned on second.\n")
    assert "loaded, pinned" in run(fleet, "ps")[1]
    assert run(fleet, "pin", COPY, "--off")[0] == 0
    assert run(fleet, "unload", COPY)[:2] == (0, f"{COPY} is unloaded from second.\n")
    assert (COPY, "second") not in held(fleet)


def test_what_cannot_be_done_is_said_in_a_sentence(fleet: Fleet) -> None:
    for arguments in (("load", "nobody/x"), ("unload", "nobody/x"), ("pin", "nobody/x"), ("load", COPY, "--node", "z")):
        code, out, err = run(fleet, *arguments)
        assert (code, out) == (1, "")
        assert err.startswith("helexa: ")
        assert "Traceback" not in err


def test_a_plan_is_made_against_the_fleet_that_runs(fleet: Fleet, tmp_path: Path) -> None:
    code, out, err = run(fleet, "plan", fleet.topology)
    assert code == 0, err
    assert out.startswith("Nothing would change.\n")
    assert "is loaded" in out
    file = tmp_path / "next.toml"
    file.write_text(fleet.topology.read_text() + '[[models]]\nid = "new/one"\npinned_on = ["second"]\n')
    code, out, _ = run(fleet, "plan", file, "--json")
    found = json.loads(out)
    assert code == 0
    assert [change["line"] for change in found["changes"]] == ['+ models."new/one"']
    assert {site["node"]: site["verdict"] for site in found["models"][-1]["sites"]}["local"] == "never"


def test_the_events_tell_what_was_done(fleet: Fleet) -> None:
    with httpx.stream("GET", f"{fleet.url}/fleet/events", timeout=30) as events:
        lines = events.iter_lines()
        kinds = []
        first = next(line for line in lines if line.startswith("event: "))
        run(fleet, "load", COPY, "--node", "local")
        run(fleet, "unload", COPY)
        for line in lines:
            if line.startswith("data: ") and (data := json.loads(line[6:])["data"]).get("model") == COPY:
                kinds.append((json.loads(line[6:])["event"], data["node"]))
            if kinds and kinds[-1][0] == "model.unloaded":
                break
    assert first == "event: snapshot"
    wanted = [("model.loading", "local"), ("model.loaded", "local"), ("model.unloading", "local")]
    assert [kind for kind in wanted if kind in kinds] == wanted
