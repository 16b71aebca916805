"""What an operator does at a terminal, with the real command."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest
from harness import Fleet, make_fleet, sse_events, wait_until

forked = pytest.mark.usefixtures("forked")
"""Of the tests that are not about a start: each of the others begins a process from nothing, as operators do."""
QUESTION = {"model": "helexa/tiny", "messages": [{"role": "user", "content": "Tell me a story."}]}


def helexa(*arguments: object, stdin: str = "", timeout: float = 60) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "helexa", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)


@forked
def test_chat_holds_a_conversation_of_two_turns(fleet: Fleet) -> None:
    done = helexa("chat", "--url", fleet.url, stdin="My name is Anna.\nWhat is my name?\n")
    assert done.returncode == 0, done.stderr
    assert "Anna" in done.stdout.strip().splitlines()[-1]


@forked
def test_status_shows_nodes_models_and_actors(fleet: Fleet) -> None:
    shown = helexa("status", "--url", fleet.url).stdout
    for word in ("local", "helexa/tiny", "loaded", "poller", "router", "local/device-worker:cpu"):
        assert word in shown
    parsed = json.loads(helexa("status", "--url", fleet.url, "--json").stdout)
    assert parsed["nodes"][0]["up"]


def test_no_fleet_is_one_sentence_that_says_what_to_do() -> None:
    done = helexa("status", "--url", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "helexa up" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_topology_starts_nothing_and_shows_every_problem(tmp_path: Path) -> None:
    file = tmp_path / "broken.toml"
    file.write_text('[cortex]\nlisten = 80\nlisen = "x"\n[[models]]\nid = "a/b"\n[aliases]\nx = "nobody"\n')
    done = helexa("up", file)
    assert done.returncode == 2
    for line in ("broken.toml:2: cortex.listen", "broken.toml:3: cortex.lisen", "broken.toml:7: aliases.x"):
        assert line in done.stderr
    assert helexa("check", file).returncode == 2


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    done = helexa("up", tmp_path / "absent.toml")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "absent.toml" in done.stderr


def test_a_host_without_a_part_is_told_which_hosts_there_are(tmp_path: Path) -> None:
    file = tmp_path / "two.toml"
    file.write_text(
        '[cortex]\nhost = "gateway"\nlisten="127.0.0.1:0"\n[[neurons]]\nname = "beast"\nhost = "beast"\n'
        'listen = "0.0.0.0:13131"\nendpoint = "http://beast.lan:13131"\n'
    )
    done = helexa("up", file, "--host", "elsewhere")
    assert done.returncode == 2
    assert "gateway, beast" in done.stderr


@forked
def test_a_port_in_use_names_the_port_and_who_asked_for_it(tmp_path: Path) -> None:
    fleet = make_fleet(tmp_path)
    with socket.create_server(("127.0.0.1", fleet.port)):
        done = helexa("up", fleet.topology)
    assert done.returncode == 1
    assert f"127.0.0.1:{fleet.port}" in done.stderr
    assert "cortex.listen" in done.stderr
    with socket.create_server(("127.0.0.1", fleet.neuron_port)):
        done = helexa("up", fleet.topology)
    assert done.returncode == 1
    assert "neurons.local.listen" in done.stderr


def test_init_writes_a_topology_that_check_likes(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    assert helexa("init", file).returncode == 0
    assert helexa("check", file).returncode == 0
    again = helexa("init", file)
    assert again.returncode == 1
    assert "--force" in again.stderr


@forked
def test_ctrl_c_ends_open_streams_properly_and_leaves_nothing(own_fleet: Fleet) -> None:
    family = own_fleet.family()
    assert len(family) == 3
    body = {**QUESTION, "stream": True, "temperature": 2, "max_tokens": 1900, "seed": 1}
    with (
        httpx.stream("GET", f"{own_fleet.url}/fleet/events", timeout=30) as watched,
        httpx.stream("POST", f"{own_fleet.url}/v1/chat/completions", json=body, timeout=30) as answered,
    ):
        events, answer = watched.iter_text(), answered.iter_text()
        first, received = next(events), next(answer)
        own_fleet.process.send_signal(signal.SIGINT)
        received += "".join(answer)
        told = first + "".join(events)  # raises where it is cut off
    *_, last, done = sse_events(received)
    assert done == "[DONE]"
    assert "error" in last or last["choices"][0]["finish_reason"]
    assert told.startswith("id: ")
    assert told.endswith("\n\n")
    assert own_fleet.process.wait(10) == 0
    assert not psutil.wait_procs(family, timeout=2)[1]


def test_sigterm_with_nothing_to_do_is_quick_and_clean(own_fleet: Fleet) -> None:
    assert own_fleet.stop(signal.SIGTERM, seconds=6) == 0
    assert "Traceback" not in own_fleet.log.read_text()


@forked
def test_help_of_every_command_reads() -> None:
    for command in ("up", "check", "status", "chat", "init", "neuron"):
        done = helexa(command, "--help")
        assert done.returncode == 0
        assert "Usage" in done.stdout


def test_the_banner_names_a_curl_line_that_works(fleet: Fleet) -> None:
    line = wait_until(
        lambda: next((text for text in fleet.log.read_text().splitlines() if "curl" in text), None), 20, "the banner"
    )
    done = subprocess.run(line.partition("try")[2], shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert json.loads(done.stdout)["choices"][0]["message"]["content"]
