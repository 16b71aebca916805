"""Log probabilities of a prompt's tokens over HTTP, in memory, from an engine that runs beside: what a client reads."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
from engine_port import FakeEngines, Submitted
from engine_runs import load
from http_parts import sse_data
from neurons import answer, complete, play

from helexa.engine.core import Engine
from helexa.engine.protocol import Failed, Finished, ScoringParams, Submit, TokenLogprob
from helexa.engine.scheduling.scheduler import Budget
from helexa.neuron import prepare
from helexa.neuron.ports import End
from helexa.text import ChatTokenizer
from helexa.web.front import Front

WORDS = "Hello wörld 😀, hello"
Serve = Callable[[Submitted], None]


@pytest.fixture
def serve(engines: FakeEngines, qwen: Path) -> Serve:
    """Runs all that was submitted, to its end, in steps of a few tokens."""
    engine = Engine(load(qwen), Budget(running=8, tokens=16))

    def script(_: Submitted) -> None:
        for number, each in enumerate(engines.submitted):
            assert engine.submit(Submit(str(number), "m", each.prompt_ids, each.sampling)) == []
        while engine.has_work:
            deltas, ends = engine.step()
            for delta in deltas:
                engines.submitted[int(delta.request)].extend(delta.ids, delta.index, delta.logprobs)
            for end in ends:
                tell(engines.submitted[int(end.request)], end)

    return script


def tell(submitted: Submitted, end: Any) -> None:
    if isinstance(end, Failed):
        submitted.generation.finish_all(End("failed", end.code, end.error))
        return
    assert isinstance(end, Finished)
    submitted.finish(End(end.reason, cached_tokens=end.cached_tokens), end.index)


async def ask(app: Front, engines: FakeEngines, serve: Serve, **fields: Any) -> dict[str, Any]:
    """The answer; what streams has to say the same, put together."""
    fields = {"prompt": WORDS, "echo": True, "logprobs": 2, "max_tokens": 4, "temperature": 0, **fields}
    whole = answer(await play(app, complete(**fields), engines, serve))
    engines.submitted.clear()
    call = await play(app, complete(stream=True, stream_options={"include_usage": True}, **fields), engines, serve)
    *events, done = sse_data(call.answer)
    assert done == "[DONE]"
    assert [joined(events, choice["index"]) for choice in whole["choices"]] == whole["choices"]
    assert without_cached(events[-1]["usage"]) == without_cached(whole["usage"])
    return whole


def without_cached(usage: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in usage.items() if name.endswith("_tokens")}


def joined(events: list[dict[str, Any]], index: int) -> dict[str, Any]:
    """One choice of a stream as if it had come in one piece; its numbers rounded as pytest compares them."""
    parts = [choice for event in events for choice in event["choices"] if choice["index"] == index]
    known = [part["logprobs"] for part in parts if part["logprobs"]]
    logprobs = {name: [value for each in known for value in each[name]] for name in known[0]}
    return {
        "index": index,
        "text": "".join(part["text"] for part in parts),
        "logprobs": Near(logprobs),
        "finish_reason": parts[-1]["finish_reason"],
    }


class Near:
    """Equal to what differs from it by rounding: what was cached is computed in other batches."""

    def __init__(self, logprobs: dict[str, list[Any]]) -> None:
        self.logprobs = logprobs

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, dict)
        exact = all(self.logprobs[name] == other[name] for name in ("tokens", "text_offset"))
        return exact and all(map(near, self.logprobs["token_logprobs"], other["token_logprobs"]))

    __hash__ = None  # type: ignore[assignment]  # it is compared, and nothing else


def near(first: float | None, second: float | None) -> bool:
    return first is second is None or (None not in (first, second) and first == pytest.approx(second, abs=1e-3))


@torch.inference_mode()
def reference(directory: Path, ids: list[int]) -> list[float]:
    """What transformers thinks of each token but the first."""
    from transformers import AutoModelForCausalLM

    module = AutoModelForCausalLM.from_pretrained(directory).eval()
    table = torch.log_softmax(module(torch.tensor([ids])).logits[0, :-1].float(), dim=-1)
    found: list[float] = table.gather(-1, torch.tensor(ids[1:]).unsqueeze(-1)).squeeze(-1).tolist()
    return found


@pytest.mark.parametrize("most", [0, 1])
async def test_a_prompt_is_scored_as_transformers_does(
    app: Front, engines: FakeEngines, serve: Serve, qwen: Path, most: int
) -> None:
    whole = await ask(app, engines, serve, max_tokens=most)
    ids = engines.submitted[0].prompt_ids
    (choice,) = whole["choices"]
    found = choice["logprobs"]
    assert {len(each) for each in found.values()} == {len(ids) + most}
    assert found["token_logprobs"][0] is found["top_logprobs"][0] is None
    assert found["token_logprobs"][1 : len(ids)] == pytest.approx(reference(qwen, ids), abs=1e-3)
    assert (whole["usage"]["prompt_tokens"], whole["usage"]["completion_tokens"]) == (len(ids), most)
    assert choice["finish_reason"] == "length"
    assert choice["text"].startswith(WORDS) if most else choice["text"] == WORDS


async def test_offsets_are_those_of_the_text_with_the_prompt(
    app: Front, engines: FakeEngines, serve: Serve, text: ChatTokenizer
) -> None:
    ids = text.encode(WORDS)
    (choice,) = (await ask(app, engines, serve, max_tokens=1))["choices"]
    begins = [len(text.decode_stream().push(ids[:n])) for n in range(len(ids))]
    assert choice["logprobs"]["text_offset"] == [*begins, len(WORDS)]


async def test_the_likeliest_are_told_beside_each_token(
    app: Front, engines: FakeEngines, serve: Serve, text: ChatTokenizer
) -> None:
    (choice,) = (await ask(app, engines, serve, logprobs=3, max_tokens=0))["choices"]
    found = choice["logprobs"]
    for name, number, top in list(zip(found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True))[
        1:
    ]:
        assert top[name] == number
        assert 3 <= len(top) <= 4
    engines.submitted.clear()
    (choice,) = (await ask(app, engines, serve, logprobs=0, max_tokens=0))["choices"]
    found = choice["logprobs"]
    pairs = zip(found["tokens"][1:], found["token_logprobs"][1:], strict=True)
    assert found["top_logprobs"][1:] == [{name: number} for name, number in pairs]
    assert len(found["tokens"]) == len(text.encode(WORDS))


async def test_several_prompts_and_choices(app: Front, engines: FakeEngines, serve: Serve, text: ChatTokenizer) -> None:
    prompts = [WORDS, "Hello", "a 😀 b"]
    whole = await ask(app, engines, serve, prompt=prompts, n=2, temperature=1, seed=5)
    for place, choice in enumerate(whole["choices"]):
        prompt = prompts[place // 2]
        ids = text.encode(prompt)
        assert choice["index"] == place
        assert choice["text"].startswith(prompt)
        found = choice["logprobs"]
        assert found["tokens"][: len(ids)] == [spelled(text.token_bytes(each)) for each in ids]
        assert found["token_logprobs"].count(None) == 1
        assert len(found["tokens"]) > len(ids)
        assert found["text_offset"][len(ids)] == len(prompt)


def spelled(token: bytes) -> str:
    try:
        return token.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{each:02x}" for each in token)


async def test_a_prompt_of_one_token_has_nothing_to_foretell_it(
    app: Front, engines: FakeEngines, serve: Serve, text: ChatTokenizer
) -> None:
    (choice,) = (await ask(app, engines, serve, prompt=text.encode("Hello")[:1], max_tokens=0))["choices"]
    assert choice["logprobs"]["token_logprobs"] == [None]
    assert choice["logprobs"]["top_logprobs"] == [None]
    assert choice["logprobs"]["text_offset"] == [0]


@pytest.mark.parametrize("stream", [True, False])
async def test_the_token_that_ends_an_answer_is_told_as_well(
    app: Front, engines: FakeEngines, text: ChatTokenizer, *, stream: bool
) -> None:
    """Whoever scores a text cuts off as many as were generated, and must not cut into the prompt."""
    ids, (end, *_) = text.encode("Hello"), sorted(text.eos_ids)

    def script(submitted: Submitted) -> None:
        told = [
            TokenLogprob(None, prompt=True),
            *(TokenLogprob(-1.0, prompt=True) for _ in ids[1:]),
            TokenLogprob(-2.0),
        ]
        submitted.extend([*ids, end], 0, told)
        submitted.finish(End("stop"))

    call = await play(app, complete(echo=True, logprobs=1, max_tokens=1, stream=stream), engines, script)
    answers = sse_data(call.answer)[:-1] if stream else [answer(call)]
    choices = [choice for each in answers for choice in each["choices"]]
    numbers = [number for each in choices if each["logprobs"] for number in each["logprobs"]["token_logprobs"]]
    assert numbers == [None, *[-1.0] * (len(ids) - 1), -2.0]
    assert "".join(each["text"] for each in choices) == "Hello"
    assert choices[-1]["finish_reason"] == "stop"


async def test_nothing_is_generated_where_nothing_is_wanted_even_if_the_engine_ends_by_itself(
    app: Front, engines: FakeEngines, text: ChatTokenizer
) -> None:
    def script(submitted: Submitted) -> None:
        assert isinstance(submitted.sampling, ScoringParams)
        assert (submitted.sampling.max_tokens, submitted.sampling.prompt_logprobs) == (1, 1)
        submitted.extend(text.encode("Hello"), 0, [TokenLogprob(None, prompt=True)] * len(text.encode("Hello")))
        submitted.extend([min(text.eos_ids)], 0, [TokenLogprob(-2.0)])
        submitted.finish(End("stop"))

    found = answer(await play(app, complete(echo=True, logprobs=1, max_tokens=0), engines, script))
    assert found["choices"][0]["finish_reason"] == "length"
    assert found["usage"]["completion_tokens"] == 0
    assert found["usage"]["total_tokens"] == found["usage"]["prompt_tokens"]


async def test_who_asks_for_one_of_both_scores_nothing(app: Front, engines: FakeEngines, serve: Serve) -> None:
    for fields in ({"echo": True}, {"logprobs": 1}):
        await play(app, complete(max_tokens=2, **fields), engines, serve)
        assert not isinstance(engines.submitted[0].sampling, ScoringParams)
        engines.submitted.clear()


async def test_more_than_is_kept_is_refused(app: Front, engines: FakeEngines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "MAX_SCORED", 11)
    call = await complete(prompt=[[1, 2, 3], [4, 5, 6]], n=2, echo=True, logprobs=1).run(app)
    assert (call.status, call.error["code"], call.error["param"]) == (400, "invalid_value", "echo")
    assert "at most 11 tokens of prompts" in call.error["message"]
    assert "these have 12" in call.error["message"]
    assert engines.submitted == []
    assert orjson.loads(call.answer)


async def test_a_failure_is_one_and_nothing_else(app: Front, engines: FakeEngines) -> None:
    def script(submitted: Submitted) -> None:
        submitted.generation.finish_all(End("failed", "upstream_error", "The model's output is not a number."))

    call = await play(app, complete(echo=True, logprobs=1, max_tokens=0), engines, script)
    assert (call.status, call.error["code"]) == (502, "upstream_error")
