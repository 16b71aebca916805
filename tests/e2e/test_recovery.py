"""A device's worker dies in the middle of answers: their readers see a pause, and the tokens they would have got."""

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from harness import Fleet, make_fleet, sse_events, wait_until

KEEP_ALIVE = ": keep-alive"
STORY: dict[str, Any] = {
    "model": "helexa/tiny",
    "messages": [{"role": "user", "content": "Tell me a story."}],
    "stream": True,
    "temperature": 1.5,
    "seed": 7,
    "max_tokens": 900,
    "ignore_eos": True,
    "stream_options": {"include_usage": True},
}
NUMBERS = {
    "type": "array",
    "items": {"type": "integer", "minimum": 100, "maximum": 999},
    "minItems": 200,
    "maxItems": 300,
}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "numbers", "schema": NUMBERS, "strict": True}}
KINDS: dict[str, dict[str, Any]] = {
    "a seed": {},
    "greedily": {"temperature": 0, "frequency_penalty": 1.0, "repetition_penalty": 1.2},
    "several choices with log probabilities": {"n": 3, "max_tokens": 400, "logprobs": True, "top_logprobs": 2},
    "a schema": {"response_format": SCHEMA, "ignore_eos": False},
    "a stop string": {"stop": ["zzzz"]},
}


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet whose worker may die often."""
    restart = '[actors.device_worker]\nrestart = { max = 100, window = "1s", backoff = "100ms" }'
    running = make_fleet(tmp_path_factory.mktemp("fleet"), restart).start()
    yield running
    assert running.stop() == 0


def kill(fleet: Fleet, with_signal: int = signal.SIGKILL) -> None:
    os.kill(fleet.family()[2].pid, with_signal)


def stream(fleet: Fleet, body: dict[str, Any], kills: int = 0, path: str = "/v1/chat/completions") -> str:
    """A whole stream; the worker is killed so many times, each when another piece of the answer has come."""
    received, workers = "", set[int]()
    with httpx.stream("POST", fleet.url + path, json=body, timeout=90) as response:
        assert response.status_code == 200, response.read()
        for piece in response.iter_text():
            received += piece
            if len(workers) < kills and '"content"' in piece and (worker := fleet.family()[2].pid) not in workers:
                workers.add(worker)
                os.kill(worker, signal.SIGKILL)
    assert len(workers) == kills, "the answer was over before it could be broken"
    return received


def events_of(received: str) -> list[dict[str, Any]]:
    """The events without the comments between them; the end mark has to be the last."""
    *events, done = [each for each in sse_events(received) if each != KEEP_ALIVE]
    assert done == "[DONE]"
    assert not any("error" in each for each in events), events[-1]
    return events  # type: ignore[return-value]  # each is JSON: so the line before says


def answers_of(received: str) -> tuple[dict[int, tuple[str, list[str], str]], int]:
    """Each choice's text, its tokens where log probabilities name them, and its end; and what was used."""
    found: dict[int, tuple[str, list[str], str]] = {}
    used = 0
    for event in events_of(received):
        used = (event.get("usage") or {}).get("completion_tokens", used)
        for choice in event["choices"]:
            text, tokens, end = found.get(choice["index"], ("", [], ""))
            entries = (choice.get("logprobs") or {}).get("content") or []
            text += choice["delta"].get("content") or ""
            found[choice["index"]] = (
                text,
                [*tokens, *(each["token"] for each in entries)],
                choice["finish_reason"] or end,
            )
    return found, used


def serves(fleet: Fleet) -> bool:
    return bool(fleet.model()["status"] == "loaded")


@pytest.fixture(autouse=True)
def _whole(mortal: Fleet) -> None:
    wait_until(lambda: serves(mortal), 60, "a model that serves")


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_whose_worker_is_killed_goes_on_token_for_token(mortal: Fleet, kind: str) -> None:
    body = {**STORY, **KINDS[kind]}
    whole = answers_of(stream(mortal, body))
    assert answers_of(stream(mortal, body, kills=1)) == whole


def test_a_stream_goes_on_a_second_time(mortal: Fleet) -> None:
    whole = answers_of(stream(mortal, STORY))
    assert answers_of(stream(mortal, STORY, kills=2)) == whole


def test_many_streams_go_on_beside_each_other(mortal: Fleet) -> None:
    bodies = [{**STORY, "seed": seed, "max_tokens": 400} for seed in range(8)]
    with ThreadPoolExecutor(len(bodies) + 1) as threads:
        whole = list(threads.map(lambda body: answers_of(stream(mortal, body)), bodies))
        streams = [threads.submit(stream, mortal, body) for body in bodies[1:]]
        first = answers_of(stream(mortal, bodies[0], kills=1))
        assert [first, *(answers_of(each.result()) for each in streams)] == whole


def test_an_answer_in_one_piece_and_another_dialect_go_on_too(mortal: Fleet) -> None:
    plain = {key: value for key, value in STORY.items() if key not in ("stream", "stream_options")}
    messages = {key: STORY[key] for key in ("model", "messages", "max_tokens", "stream")}
    messages |= {"temperature": 0}

    def ask() -> str:
        found = httpx.post(f"{mortal.url}/v1/chat/completions", json=plain, timeout=90).json()
        return str(found["choices"][0]["message"]["content"])

    def ask_other() -> str:
        return stream(mortal, messages, path="/v1/messages")

    with ThreadPoolExecutor(2) as threads:
        expected, other = ask(), texts_of(ask_other())
        answers = [threads.submit(ask), threads.submit(ask_other)]
        wait_until(lambda: mortal.engine_health()["running"] > 0, 10, "a running sequence")
        kill(mortal)
        assert (answers[0].result(), texts_of(answers[1].result())) == (expected, other)


def texts_of(received: str) -> str:
    """The text of a stream of Anthropic's."""
    events = [json.loads(line.removeprefix("data: ")) for line in received.splitlines() if line.startswith("data: ")]
    assert events[-1]["type"] == "message_stop"
    return "".join(each["delta"]["text"] for each in events if each["type"] == "content_block_delta")


def test_a_worker_that_hangs_is_replaced_while_comments_keep_the_connection_alive(mortal: Fleet) -> None:
    whole = answers_of(stream(mortal, STORY))
    received, stopped = "", False
    with httpx.stream("POST", f"{mortal.url}/v1/chat/completions", json=STORY, timeout=12) as response:
        for piece in response.iter_text():
            received += piece
            if not stopped and '"content"' in piece:
                stopped = True
                kill(mortal, signal.SIGSTOP)
    assert answers_of(received) == whole
    assert received.count(KEEP_ALIVE) >= 2


def test_a_client_that_leaves_during_a_recovery_leaves_nothing(mortal: Fleet) -> None:
    with httpx.stream("POST", f"{mortal.url}/v1/chat/completions", json=STORY, timeout=30) as response:
        next(response.iter_text())
        kill(mortal)
        wait_until(lambda: not serves(mortal), 10, "a model that recovers")
    wait_until(lambda: serves(mortal), 60, "a model that serves")
    health = mortal.engine_health()
    assert (health["running"], health["waiting"]) == (0, 0)
