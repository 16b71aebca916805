"""A device's worker dies in the middle of answers: their readers see a pause, and the tokens they would have got."""

import json
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psutil
import pytest
from fleet_forks import SPARES
from fork_server import CONSTANTS
from forks import can_fork
from harness import HTTP, Fleet, gone_all, make_fleet, sse_events, wait_until

KEEP_ALIVE = ": keep-alive"
STORY: dict[str, Any] = {
    "model": "helexa/tiny",
    "messages": [{"role": "user", "content": "Tell me a story."}],
    "stream": True,
    "temperature": 1.5,
    "seed": 7,
    "max_tokens": 320,
    "ignore_eos": True,
    "stream_options": {"include_usage": True},
}
NUMBERS = {
    "type": "array",
    "items": {"type": "integer", "minimum": 100, "maximum": 999},
    "minItems": 70,
    "maxItems": 80,
}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "numbers", "schema": NUMBERS, "strict": True}}
KINDS: dict[str, dict[str, Any]] = {
    **{f"the seed {seed}": {"seed": seed} for seed in range(4)},
    "greedily": {"temperature": 0, "frequency_penalty": 1.0, "repetition_penalty": 1.2},
    "several choices with log probabilities": {"n": 3, "logprobs": True, "top_logprobs": 2},
    "a schema": {"response_format": SCHEMA, "ignore_eos": False},
    "a stop string": {"stop": ["zzzz"]},
}
IMPATIENT = "actors.vitals:SILENCE_SECONDS=6 helexa.neuron.exchange:KEEP_ALIVE_SECONDS=2"
PATIENCE = 5 if can_fork() else 12
"""Seconds between two comments and more, and less than until a worker is missed."""
DEATHS = 5
"""Of workers, at most."""
SEQUENCES = len(KINDS) + 4
"""All choices of all kinds, an answer in one piece, and one of another dialect."""


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory, forked_fleets: None) -> Iterator[Fleet]:
    """A fleet whose worker may die often."""
    restart = '[actors.device_worker]\nrestart = { max = 100, window = "1s", backoff = "100ms" }'
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SPARES, str(DEATHS))
        patch.setenv(CONSTANTS, IMPATIENT)
        running = make_fleet(tmp_path_factory.mktemp("fleet"), restart).start()
    yield running
    assert running.stop() == 0


def kill(fleet: Fleet) -> None:
    (worker,) = fleet.workers()
    os.kill(worker, signal.SIGKILL)


def stream(
    fleet: Fleet,
    body: dict[str, Any],
    path: str = "/v1/chat/completions",
    signals: Sequence[int] = (),
    wait: float = 90,
) -> str:
    """A whole stream, silent for `wait` seconds at most; each signal is for another worker, once more has come."""
    received, met = "", set[int]()
    with HTTP.stream("POST", fleet.url + path, json=body, timeout=wait) as response:
        assert response.status_code == 200, response.read()
        for piece in response.iter_text():
            received += piece
            if len(met) < len(signals) and '"content"' in piece and (new := set(fleet.workers()) - met):
                os.kill(min(new), signals[len(met)])
                met |= new
    assert len(met) == len(signals), "the answer was over before it could be broken"
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


@pytest.fixture(scope="module")
def story(mortal: Fleet) -> Any:
    """What comes of the story when nobody dies."""
    wait_until(lambda: serves(mortal), 60, "a model that serves")
    return answers_of(stream(mortal, STORY))


def in_one_piece(fleet: Fleet) -> str:
    plain = {key: value for key, value in STORY.items() if key not in ("stream", "stream_options")}
    found = HTTP.post(f"{fleet.url}/v1/chat/completions", json=plain, timeout=90).json()
    return str(found["choices"][0]["message"]["content"])


def in_another_dialect(fleet: Fleet) -> str:
    messages = {key: STORY[key] for key in ("model", "messages", "max_tokens", "stream")} | {"temperature": 0}
    return texts_of(stream(fleet, messages, "/v1/messages"))


def begin_all(threads: ThreadPoolExecutor, fleet: Fleet) -> dict[str, Future[Any]]:
    """Ask for answers of all kinds at once."""
    begun: dict[str, Future[Any]] = {
        kind: threads.submit(lambda body: answers_of(stream(fleet, body)), {**STORY, **change})
        for kind, change in KINDS.items()
    }
    return begun | {each.__name__: threads.submit(each, fleet) for each in (in_one_piece, in_another_dialect)}


def test_answers_of_every_kind_go_on_token_for_token_after_their_worker_was_killed(mortal: Fleet) -> None:
    with ThreadPoolExecutor(SEQUENCES) as threads:
        whole = {kind: each.result() for kind, each in begin_all(threads, mortal).items()}
        begun = begin_all(threads, mortal)
        wait_until(lambda: mortal.engine_health()["running"] == SEQUENCES, 20, "all of them to be answered")
        kill(mortal)
        for kind, each in begun.items():
            assert each.result() == whole[kind], kind


def texts_of(received: str) -> str:
    """The text of a stream of Anthropic's."""
    events = [json.loads(line.removeprefix("data: ")) for line in received.splitlines() if line.startswith("data: ")]
    assert events[-1]["type"] == "message_stop"
    return "".join(each["delta"]["text"] for each in events if each["type"] == "content_block_delta")


def test_a_worker_that_hangs_is_replaced_while_comments_keep_the_connection_alive_and_so_is_the_next_one(
    mortal: Fleet, story: Any
) -> None:
    """SIGSTOP stands for a wedged driver call: a process that neither dies nor works."""
    first = psutil.Process(*mortal.workers())
    received = stream(mortal, STORY, signals=[signal.SIGSTOP, signal.SIGKILL], wait=PATIENCE)
    assert answers_of(received) == story
    assert received.count(KEEP_ALIVE) >= 2
    gone_all([first], 5)


def test_a_client_that_leaves_during_a_recovery_leaves_nothing(mortal: Fleet) -> None:
    with HTTP.stream("POST", f"{mortal.url}/v1/chat/completions", json=STORY, timeout=30) as response:
        next(response.iter_text())
        dying = psutil.Process(*mortal.workers())
        kill(mortal)
        gone_all([dying], 5)
    wait_until(lambda: mortal.workers() not in ([], [dying.pid]) and serves(mortal), 60, "another worker that serves")
    health = mortal.engine_health()
    assert (health["running"], health["waiting"]) == (0, 0)
