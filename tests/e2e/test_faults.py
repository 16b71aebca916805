"""Faults by name, on real processes: what a client sees, and that the fleet mends itself."""

import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest
from fleet_forks import SPARES
from harness import Fleet, gone_all, make_fleet, sse_events, wait_until

pytestmark = pytest.mark.usefixtures("forked_fleets")
STORY = {
    "model": "helexa/tiny",
    "messages": [{"role": "user", "content": "Tell me a story."}],
    "stream": True,
    "temperature": 2,
    "seed": 1,
    "max_tokens": 1900,
    "ignore_eos": True,
}
WORKER = "helexa.engine.worker"
HELLO = {"model": "helexa/tiny", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 5}


def post(fleet: Fleet, body: object = None, **kwargs: Any) -> httpx.Response:
    return httpx.post(f"{fleet.url}/v1/chat/completions", json=HELLO if body is None else body, timeout=30, **kwargs)


SEEN = '[actors.device_worker]\nrestart = { max = 100, window = "1s", backoff = "1500ms" }'
"""A worker is missed for long enough to be looked at, however soon another one is ready."""


@pytest.fixture(scope="module")
def mending(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet that is broken again and again, and mends itself each time."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(SPARES, "1")
        running = make_fleet(tmp_path_factory.mktemp("mending"), SEEN).start()
    yield running
    assert running.stop() == 0


def process_of(fleet: Fleet, word: str) -> psutil.Process:
    """The one of its processes whose command line has this word."""
    (found,) = [each for each in fleet.family() if word in each.cmdline()]
    return found


def serves_again(fleet: Fleet) -> bool:
    return wait_until(lambda: post(fleet).status_code == 200, 60, "an answer after the fault")


def test_worker_killed_mid_stream(mending: Fleet) -> None:
    worker, story = process_of(mending, WORKER), {**STORY, "max_tokens": 500}
    with httpx.stream("POST", f"{mending.url}/v1/chat/completions", json=story, timeout=30) as response:
        pieces = response.iter_text()
        received = next(pieces)
        os.kill(worker.pid, signal.SIGKILL)
        wait_until(lambda: mending.model()["status"] == "recovering", 5, "status recovering")
        refused = post(mending)
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "2"
        received += "".join(pieces)
    *_, last, done = sse_events(received)
    assert last["choices"][0]["finish_reason"] == "length"
    assert done == "[DONE]"
    serves_again(mending)
    assert mending.model()["status"] == "loaded"


def test_neuron_killed_mid_stream(mending: Fleet) -> None:
    neuron, worker = process_of(mending, "neuron"), process_of(mending, WORKER)
    with httpx.stream("POST", f"{mending.url}/v1/chat/completions", json=STORY, timeout=30) as response:
        pieces = response.iter_text()
        received = next(pieces)
        os.kill(neuron.pid, signal.SIGKILL)
        received += "".join(pieces)
    *_, error, done = sse_events(received)
    assert error["error"]["code"] == "upstream_error"
    assert done == "[DONE]"
    refused = post(mending)  # at once: another one is soon there
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "5"
    gone_all([worker], 10)
    serves_again(mending)


@pytest.mark.parametrize("killed", [(0,), (1, 0), (2, 0)], ids=["root", "neuron and root", "worker and root"])
def test_whoever_is_killed_no_process_stays(own_fleet: Fleet, killed: tuple[int, ...]) -> None:
    """The root last: who starts a process again is itself about to end."""
    family = own_fleet.family()
    for index in killed:
        os.kill(family[index].pid, signal.SIGKILL)
    own_fleet.process.wait(10)
    gone_all(family, 8)
    strays = [process for process in psutil.process_iter(["cmdline"]) if str(own_fleet.topology) in cmdline(process)]
    gone_all(strays, 8)


def cmdline(process: psutil.Process) -> str:
    return " ".join(process.info["cmdline"] or ())


def test_client_gone_mid_stream_frees_the_engine(fleet: Fleet) -> None:
    with httpx.stream("POST", f"{fleet.url}/v1/chat/completions", json=STORY, timeout=30) as response:
        next(response.iter_bytes())
    wait_until(lambda: fleet.engine_health()["running"] == 0, 20, "no running sequence")


def test_client_gone_before_the_first_token_frees_the_engine(fleet: Fleet) -> None:
    body = httpx.Request("POST", fleet.url, json={**STORY, "stream": False, "n": 16}).content
    with socket.create_connection(("127.0.0.1", fleet.port)) as sock:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
        sock.sendall(head.encode() + body)
        wait_until(lambda: fleet.engine_health()["running"] > 0, 20, "a running sequence")
    wait_until(lambda: fleet.engine_health()["running"] == 0, 20, "no running sequence")


def test_body_of_twenty_megabytes(fleet: Fleet) -> None:
    refused = httpx.post(f"{fleet.url}/v1/chat/completions", content=b"x" * 20_000_000, timeout=30)
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "request_too_large")


def test_body_that_is_not_json(fleet: Fleet) -> None:
    refused = httpx.post(f"{fleet.url}/v1/chat/completions", content=b"{oops")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_json")


def test_body_without_a_model(fleet: Fleet) -> None:
    refused = post(fleet, {"messages": []})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "model")


def test_body_with_a_wrong_type(fleet: Fleet) -> None:
    refused = post(fleet, {**HELLO, "temperature": "hot"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "temperature")


def test_unknown_routes_and_methods_have_an_envelope(fleet: Fleet) -> None:
    for method, path, status in [
        ("GET", "/nowhere", 404),
        ("PUT", "/v1/models", 405),
        ("GET", "/v1/chat/completions", 405),
    ]:
        answer = httpx.request(method, fleet.url + path)
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"message", "type", "code", "param"}


def test_a_name_that_is_not_this_machine_is_refused(fleet: Fleet) -> None:
    assert httpx.get(f"{fleet.url}/v1/models", headers={"host": "evil.example"}).status_code == 403
