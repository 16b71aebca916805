"""Measuring targets that fail, lie or stall: each ends in a run with its reason, and none in an exception."""

from typing import Any

import pytest
import trio
from attrs import evolve
from bench_targets import (
    MODEL,
    REPORT,
    Canned,
    Handler,
    Reply,
    always,
    as_json,
    choice,
    count,
    event,
    refused,
    streamed,
    usage,
)

from helexa.bench.client.exchanges import Timeouts
from helexa.bench.measuring.runner import Task, measure
from helexa.bench.measuring.targets import Access
from helexa.bench.records import Run, Target
from helexa.bench.scenarios import parse

CHAT = "/v1/chat/completions"
SHORT = "chat:prompt_tokens=64,output_tokens=4,requests=1"


@pytest.fixture
async def server(nursery: trio.Nursery) -> Canned:
    return await Canned().start(nursery)


async def measured(access: Access, spelled: str = SHORT, rounds: int = 3) -> Run:
    (found,) = await measure([Task(access, MODEL, parse(spelled))], rounds, batch="b")
    return found


def stage(server: Canned, faulty: Handler, *, after: int) -> None:
    """Answer chats as a good server would, and from some request on otherwise."""
    good, seen = _good, [0]

    async def handler(server: Canned, body: dict[str, Any]) -> Reply:
        seen[0] += bool(body.get("stream"))
        return await (faulty if seen[0] > after and body.get("stream") else good)(server, body)

    server.routes[CHAT] = handler


async def _good(server: Canned, body: dict[str, Any]) -> Reply:
    if body.get("stream"):
        return streamed(count(body), body["max_tokens"], server.pause)
    return as_json({"choices": [], "usage": usage(count(body), 1)})


WARM = 2
"""Streams before the first round: one that warms the model up, one of the prompt's length."""


async def test_a_target_that_is_not_there_is_a_failed_run() -> None:
    found = await measured(Access(Target("gone", "openai", "http://127.0.0.1:9")))
    assert (found.outcome, found.samples, found.build.name) == ("failed", (), "unknown")
    assert "127.0.0.1:9" in found.reason


async def test_neither_is_a_url_that_is_none() -> None:
    found = await measured(Access(Target("odd", "openai", "ftp://nowhere")))
    assert (found.outcome, "cannot be asked" in found.reason) == ("failed", True)


async def test_one_target_that_is_away_stops_no_other(server: Canned) -> None:
    tasks = [
        Task(Access(Target("gone", "openai", "http://127.0.0.1:9")), MODEL, parse(SHORT)),
        Task(server.access(), MODEL, parse(SHORT)),
    ]
    found = await measure(tasks, 2, batch="b")
    assert [run.outcome for run in found] == ["failed", "ok"]


@pytest.mark.parametrize("kind", ["neuron", "cortex", "openai"])
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Reply(b"<html>"), "no JSON"),
        (as_json([1]), ""),
        (as_json({}), ""),
        (as_json({"data": 3, "models": 3}), ""),
        (refused("Invalid API key.", 401), "It answered with status 401: Invalid API key."),
        (refused("down", 503), "It answered with status 503: down"),
    ],
)
async def test_one_that_is_something_else_is_a_failed_run(server: Canned, kind: Any, answer: Reply, said: str) -> None:
    for path in ("/v1/models", "/version", "/discovery", "/models", "/health", "/fleet"):
        server.routes[path] = always(answer)
    found = await measured(server.access(kind))
    assert found.outcome == "failed"
    assert said in found.reason or kind == "neuron"
    assert found.reason


async def test_a_model_that_it_has_not_is_a_failed_run(server: Canned) -> None:
    (found,) = await measure([Task(server.access(), "other", parse(SHORT))], 1, batch="b")
    assert (found.outcome, found.reason) == ("failed", "box has no model 'other'.")


async def test_a_neuron_s_model_that_is_not_loaded_is_skipped_and_not_loaded(server: Canned) -> None:
    server.report = evolve(REPORT, status="unloaded")
    found = await measured(server.access("neuron"))
    assert (found.outcome, found.reason) == ("skipped", "m is not loaded on box: it is unloaded.")
    assert not server.bodies(CHAT)


async def test_what_does_not_fit_is_skipped(server: Canned) -> None:
    found = await measured(server.access("neuron"), "chat:prompt_tokens=4096")
    assert (found.outcome, found.reason) == (
        "skipped",
        "It takes 4,160 tokens, and the model's context has 2,048.",
    )


async def test_a_model_that_does_not_answer_is_asked_once_for_all_its_scenarios(server: Canned) -> None:
    server.routes[CHAT] = always(refused("out of memory", 500))
    tasks = [Task(server.access(), MODEL, parse(name)) for name in (SHORT, "prefix", "quality")]
    found = await measure(tasks, 3, batch="b")
    assert [run.outcome for run in found] == ["failed", "failed", "ok"]
    assert {run.reason for run in found[:2]} == {"It answered with status 500: out of memory"}
    assert len(server.bodies(CHAT)) == 1


def lying_usage(**told: Any) -> Handler:
    async def handler(_server: Canned, body: dict[str, Any]) -> Reply:
        return streamed(count(body), body["max_tokens"], told={**usage(count(body), body["max_tokens"]), **told})

    return handler


async def _silent(_server: Canned, body: dict[str, Any]) -> Reply:
    return streamed(count(body), body["max_tokens"], told=None)


async def _cut(_server: Canned, _body: dict[str, Any]) -> Reply:
    return Reply(pieces=((0.0, choice({"content": "a"})),), ended=False)


async def _broken(_server: Canned, _body: dict[str, Any]) -> Reply:
    return Reply(pieces=((0.0, choice({"content": "a"})), (0.0, event({"error": {"message": "the GPU is gone"}}))))


@pytest.mark.parametrize(
    ("faulty", "said"),
    [
        (lying_usage(completion_tokens=5), "It counts 5 tokens where 4 were the most."),
        (lying_usage(completion_tokens=0), "It counts no tokens, and text came."),
        (lying_usage(prompt_tokens=9000), "It counts 9000 tokens of a prompt that it counted 64 of before."),
        (lying_usage(completion_tokens="four"), "no count of completion_tokens"),
        (_silent, "does not tell how many tokens it used"),
        (_cut, ""),
        (_broken, "The server broke the answer off: the GPU is gone"),
        (always(refused("busy", 429)), "It answered with status 429: busy"),
        (always(as_json({"choices": []})), "The answer is no stream of events."),
        (always(Reply(pieces=((0.0, b"data: {\n\n"),))), "The stream has an event that is not JSON."),
    ],
)
async def test_a_request_that_goes_wrong_is_a_failed_sample_with_its_reason(
    server: Canned, faulty: Handler, said: str
) -> None:
    stage(server, faulty, after=WARM + 1)
    found = await measured(server.access(), rounds=3)
    errors = [sample.error for sample in found.samples]
    assert (found.outcome, errors[0], found.failures) == ("ok", None, 2)
    assert all(error and said in error and "\n" not in error for error in errors[1:])
    assert all(not sample.values for sample in found.samples[1:])


@pytest.mark.parametrize("after", [0, WARM - 1, WARM])
async def test_a_run_without_a_value_has_failed_wherever_that_began(server: Canned, after: int) -> None:
    stage(server, _silent, after=after)
    found = await measured(server.access())
    assert (found.outcome, "does not tell how many tokens" in found.reason) == ("failed", True)


async def test_after_two_rounds_in_vain_the_rest_is_not_tried(server: Canned) -> None:
    stage(server, always(refused("busy", 429)), after=WARM)
    found = await measured(server.access(), rounds=50)
    assert (found.outcome, len(found.samples)) == ("failed", 2)


async def test_a_stream_that_stalls_is_a_failed_sample(server: Canned) -> None:
    async def stalled(_server: Canned, _body: dict[str, Any]) -> Reply:
        return Reply(pieces=((0.0, choice({"content": "a"})), (60.0, b"")))

    stage(server, stalled, after=WARM + 1)
    found = await measured(evolve(server.access(), patience=Timeouts(idle=0.05)), rounds=2)
    assert found.outcome == "ok"
    assert "went no further" in str(found.samples[1].error)


async def test_a_level_of_load_counts_what_failed(server: Canned) -> None:
    seen = [0]

    async def every_other(server: Canned, body: dict[str, Any]) -> Reply:
        seen[0] += 1
        return await (_good if seen[0] % 2 else always(refused("busy", 429)))(server, body)

    stage(server, every_other, after=5)
    found = await measured(server.access(), "throughput:clients=4,output_tokens=4,requests=2", rounds=1)
    assert found.values("failed") == [0.5]


async def test_a_level_of_load_at_which_all_fails_is_a_failed_sample(server: Canned) -> None:
    stage(server, always(refused("busy", 429)), after=5)
    found = await measured(server.access(), "throughput:clients=4,output_tokens=4,requests=1", rounds=1)
    assert found.reason == "None of 4 requests went well: It answered with status 429: busy"


@pytest.mark.parametrize(
    ("name", "path"),
    [("tools", CHAT), ("structured", CHAT), ("quality", "/v1/completions"), ("embeddings", "/v1/embeddings")],
)
async def test_what_a_server_does_not_know_is_skipped(server: Canned, name: str, path: str) -> None:
    async def unable(server: Canned, body: dict[str, Any]) -> Reply:
        if path == CHAT and body.get("stream"):
            return await _good(server, body)
        return refused("Not supported here.")

    server.routes[path] = unable
    found = await measured(server.access(), name)
    assert found.outcome == "skipped"
    assert found.reason.endswith("It answered with status 400: Not supported here.")


async def test_a_server_that_is_overloaded_is_not_one_that_does_not_know(server: Canned) -> None:
    server.routes["/v1/completions"] = always(refused("busy", 503))
    assert (await measured(server.access(), "quality")).outcome == "failed"


@pytest.mark.parametrize("name", ["tools", "structured", "embeddings", "quality"])
@pytest.mark.parametrize("answer", [{}, {"choices": 3}, {"choices": [3]}, {"choices": [{"message": 3}], "data": [3]}])
async def test_whole_answers_of_any_shape_end_in_a_run(server: Canned, name: str, answer: dict[str, Any]) -> None:
    async def odd(server: Canned, body: dict[str, Any]) -> Reply:
        return await _good(server, body) if body.get("stream") else as_json(answer)

    for path in (CHAT, "/v1/completions", "/v1/embeddings"):
        server.routes[path] = odd
    found = await measured(server.access(), name)
    assert found.outcome in {"ok", "failed", "skipped"}
    assert found.values("valid") in ([], [0.0] * 3)


async def test_a_field_that_a_server_refuses_is_left_out(server: Canned) -> None:
    """OpenAI knows no ``ignore_eos``, and calls the limit of tokens otherwise."""

    async def strict(server: Canned, body: dict[str, Any]) -> Reply:
        for name, said in {
            "ignore_eos": "Unrecognized request argument supplied: ignore_eos",
            "temperature": "Unsupported value: 'temperature'",
            "max_tokens": "'max_tokens' is not supported. Use 'max_completion_tokens' instead.",
        }.items():
            if name in body:
                return refused(said)
        return await _good(server, {**body, "max_tokens": body["max_completion_tokens"]})

    server.routes[CHAT] = strict
    found = await measured(server.access(), rounds=2)
    assert (found.outcome, found.failures) == ("ok", 0)
    assert sum("ignore_eos" in body for _, body in server.asked) == 1


async def test_a_device_that_stops_telling_its_power_costs_the_energy_alone(server: Canned) -> None:
    server.power, asked = 100.0, [0]

    async def health(_server: Canned, _body: dict[str, Any]) -> Reply:
        asked[0] += 1
        return (
            as_json({"status": "ok", "uptime_seconds": 1.0, "devices": [_device(100.0)]}) if asked[0] == 1 else Reply()
        )

    server.routes["/health"] = health
    found = await measured(server.access("neuron"), rounds=1)
    assert (found.outcome, "energy" in found.samples[0].values) == ("ok", False)


def _device(power: float) -> dict[str, Any]:
    return {"name": "cuda:0", "memory_total_mb": 1, "memory_used_mb": 0, "power": power}


async def test_a_failed_round_is_told_as_it_is_where_energy_is_measured_too(server: Canned) -> None:
    server.power = 100.0
    stage(server, _silent, after=WARM)
    found = await measured(server.access("neuron"))
    assert "does not tell how many tokens" in found.reason


@pytest.mark.parametrize("kind", ["chat", "embeddings"])
async def test_a_server_that_counts_no_tokens_of_prompts_is_a_failed_run(server: Canned, kind: str) -> None:
    vectors = [{"embedding": [1.0], "index": 0}]
    for path in (CHAT, "/v1/embeddings"):
        nothing = as_json({"choices": [], "data": vectors, "usage": usage(0, 1)})
        server.routes[path] = _streams_or(nothing)
    found = await measured(server.access(), kind)
    assert (found.outcome, found.reason) == ("failed", "The server counts no tokens in a prompt that has words.")


def _streams_or(reply: Reply) -> Handler:
    async def handler(server: Canned, body: dict[str, Any]) -> Reply:
        return await _good(server, body) if body.get("stream") else reply

    return handler


async def test_a_model_so_broken_that_its_perplexity_is_no_number_still_has_its_likelihood(server: Canned) -> None:
    async def unlikely(_server: Canned, body: dict[str, Any]) -> Reply:
        words = len(body["prompt"].split())
        choices = [{"text": "", "logprobs": {"token_logprobs": [None, *(-1e4 for _ in range(words))]}}]
        return as_json({"choices": choices, "usage": usage(words, 1)})

    server.routes["/v1/completions"] = unlikely
    found = await measured(server.access(), "quality")
    assert (found.outcome, found.values("loglikelihood"), found.values("perplexity")) == ("ok", [-1e4] * 3, [])


async def test_what_is_skipped_when_it_is_warmed_up_is_skipped_with_other_parameters_too(server: Canned) -> None:
    server.routes["/v1/embeddings"] = always(refused("no such thing", 404))
    tasks = [Task(server.access(), MODEL, parse(f"embeddings:tokens={each}")) for each in (8, 16)]
    found = await measure(tasks, 1, batch="b")
    assert [each.outcome for each in found] == ["skipped", "skipped"]
    assert found[0].reason == found[1].reason != ""


async def test_a_run_that_is_given_up_on_the_way_is_no_whole_one(server: Canned) -> None:
    stage(server, always(refused("out of memory", 500)), after=3)
    found = await measured(server.access(), rounds=5)
    assert found.broken_off
    assert found.reason == "2 rounds in a row failed: It answered with status 500: out of memory"
    assert len(found.values("ttft")) == 1


async def test_what_a_server_says_in_a_stream_is_kept_as_a_short_printable_line_without_our_key(
    server: Canned,
) -> None:
    said = "wrong key sk-geheim \x1b]0;owned\x07\n" + "x" * 10_000
    reply = Reply(pieces=((0.0, event({"error": {"message": said}})),))
    stage(server, always(reply), after=2)
    access = evolve(server.access(), headers={"authorization": "Bearer sk-geheim"})
    found = await measured(access)
    errors = {sample.error for sample in found.samples}
    assert len(errors) == 1
    (error,) = errors
    assert error is not None
    assert error.startswith("The server broke the answer off: wrong key [key] ]0;owned xxx")
    assert len(error) == 500


async def test_an_error_nested_beyond_all_reason_is_a_failed_run(server: Canned) -> None:
    for deep in (b'{"error":' * 1000 + b"1" + b"}" * 1000, b'{"error":' + b"[" * 500 + b"]" * 500 + b"}"):
        server.routes["/v1/models"] = always(as_json(deep, 500))
        found = await measured(server.access())
        assert found.outcome == "failed"
        assert found.reason.startswith("It answered with status 500")
