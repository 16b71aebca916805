"""Text completions over HTTP, in memory: prompts of every kind, several at once, holes, echoes, log probabilities."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from answers import CALL, sure
from engine_port import FakeEngines, Submitted
from http_parts import Call, scope_of, sse_data
from neurons import COMPLETIONS, answer, app_of, complete, play, say
from openai.types import Completion
from transformers import AutoTokenizer

from helexa.neuron.infill import FORMATS, Infill, infill_of
from helexa.neuron.ports import End
from helexa.neuron.service import Service
from helexa.text import ChatTokenizer
from helexa.web.front import Front
from helexa.web.server import Drain
from helexa.wire import errors
from helexa.wire.fleet import LoadRequest
from helexa.wire.sampling import SamplingParams

THOUGHT = "<think>Hm</think> Hello"


def texts_of(call: Call) -> dict[int, str]:
    """The text of each choice of a stream, each of which has to end with its reason."""
    *events, done = sse_data(call.answer)
    assert done == "[DONE]"
    found: dict[int, str] = {}
    ended: set[int] = set()
    for event in events:
        assert event["object"] == "text_completion"
        for choice in event["choices"]:
            assert choice["index"] not in ended
            found[choice["index"]] = found.get(choice["index"], "") + choice["text"]
            if choice["finish_reason"]:
                ended.add(choice["index"])
    assert ended == set(found)
    return found


async def texts(app: Front, engines: FakeEngines, *scripts: Callable[[Submitted], None], **fields: Any) -> list[str]:
    """The text of each choice, which must be the same whether it streams or not."""
    engines.submitted.clear()
    whole = answer(await play(app, complete(**fields), engines, *scripts))
    Completion.model_validate(whole)
    engines.submitted.clear()
    streamed = texts_of(await play(app, complete(stream=True, **fields), engines, *scripts))
    found = [choice["text"] for choice in whole["choices"]]
    assert found == [streamed[index] for index in sorted(streamed)]
    return found


# one prompt


async def test_a_prompt_is_continued(app: Front, engines: FakeEngines, text: ChatTokenizer) -> None:
    found = answer(await play(app, complete(seed=7, max_tokens=9), engines, say(text, " world", End("length"))))
    (submitted,) = engines.submitted
    assert submitted.prompt_ids == text.encode("Hello")
    assert submitted.sampling == SamplingParams(max_tokens=9, seed=7, stop_token_ids=tuple(sorted(text.eos_ids)))
    assert found["id"].startswith("cmpl-")
    assert (found["object"], found["model"]) == ("text_completion", "m")
    (choice,) = found["choices"]
    assert choice == {"index": 0, "text": " world", "logprobs": None, "finish_reason": "length"}
    count = len(text.encode(" world"))
    assert found["usage"]["prompt_tokens"] == len(text.encode("Hello"))
    assert found["usage"]["completion_tokens"] == count


@pytest.mark.parametrize("words", [" world", THOUGHT, CALL, "naïve 😀"])
async def test_an_answer_is_text_whatever_it_reads_like(
    app: Front, engines: FakeEngines, text: ChatTokenizer, words: str
) -> None:
    assert await texts(app, engines, say(text, words)) == [words]


async def test_token_ids_are_taken_as_they_are(app: Front, engines: FakeEngines, text: ChatTokenizer) -> None:
    await texts(app, engines, say(text, "x"), prompt=[5, 6, 7])
    assert engines.submitted[0].prompt_ids == [5, 6, 7]


async def test_a_stop_string_ends_an_answer(app: Front, engines: FakeEngines, text: ChatTokenizer) -> None:
    script: Callable[[Submitted], None] = lambda submitted: submitted.extend(text.encode("Hello world"))  # noqa: E731
    assert await texts(app, engines, script, stop="wor") == ["Hello "]
    assert engines.submitted[0].aborts == [0]


async def test_usage_in_a_stream_is_for_who_asks(app: Front, engines: FakeEngines, text: ChatTokenizer) -> None:
    options = {"include_usage": True}
    call = await play(app, complete(stream=True, stream_options=options), engines, say(text, "x"))
    *_, last, _ = sse_data(call.answer)
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], len(text.encode("Hello")) + 1)
    call = await play(app, complete(stream=True), engines, say(text, "x"))
    assert b"usage" not in call.answer


async def test_an_answer_that_has_to_match_something(app: Front, engines: FakeEngines, text: ChatTokenizer) -> None:
    await texts(app, engines, say(text, "aa"), structured_outputs={"regex": "a+"})
    grammar = engines.submitted[0].sampling.grammar
    assert grammar is not None
    assert "think" not in grammar


async def test_an_end_that_is_to_be_passed_over(app: Front, engines: FakeEngines, text: ChatTokenizer) -> None:
    await texts(app, engines, say(text, "x"), ignore_eos=True)
    assert engines.submitted[0].sampling.stop_token_ids == ()


# echoes and log probabilities


@pytest.mark.parametrize("prompt", ["Hello", "a 😀 <|im_end|>"])
async def test_an_echo_comes_first(app: Front, engines: FakeEngines, text: ChatTokenizer, prompt: str) -> None:
    assert await texts(app, engines, say(text, " world"), prompt=prompt, echo=True) == [f"{prompt} world"]


async def test_an_echo_of_token_ids_is_their_text(app: Front, engines: FakeEngines, text: ChatTokenizer) -> None:
    prompt = text.encode("Hello")
    assert await texts(app, engines, say(text, " world"), prompt=prompt, echo=True) == ["Hello world"]


@pytest.mark.parametrize("stream", [True, False])
async def test_log_probabilities_in_the_older_shape(
    app: Front, engines: FakeEngines, text: ChatTokenizer, *, stream: bool
) -> None:
    ids = [*text.encode("Hello"), *text.encode(" 😀"), *text.eos_ids]

    def script(submitted: Submitted) -> None:
        submitted.extend(ids, 0, sure(len(ids)))
        submitted.finish(End("stop"))

    call = await play(app, complete(logprobs=2, stream=stream), engines, script)
    assert engines.submitted[0].sampling.logprobs == 2
    answers = sse_data(call.answer)[:-1] if stream else [answer(call)]
    parts = [choice["logprobs"] for each in answers for choice in each["choices"] if choice["logprobs"]]
    offsets = [each for part in parts for each in part["text_offset"]]
    assert [each for part in parts for each in part["token_logprobs"]] == [-float(n) for n in range(len(ids) - 1)]
    assert offsets == [len(text.decode_stream().push(ids[:n])) for n in range(len(ids) - 1)]


# several answers


async def test_several_answers_to_one_prompt(app: Front, engines: FakeEngines, text: ChatTokenizer) -> None:
    def script(submitted: Submitted) -> None:
        for index in (1, 0):
            submitted.extend(text.encode(f"answer {index}"), index)
            submitted.finish(End("stop"), index)

    assert await texts(app, engines, script, n=2) == ["answer 0", "answer 1"]


def each_prompt(text: ChatTokenizer, engines: FakeEngines) -> Callable[[Submitted], None]:
    """Choices of several prompts that come mixed up, and end in another order than they began."""

    def script(_: Submitted) -> None:
        for part, submitted in reversed(list(enumerate(engines.submitted))):
            submitted.cached_tokens = 16 * (part + 1)
            for index in range(submitted.sampling.n):
                submitted.extend(text.encode(f"{part}.{index}"), index)
        for submitted in engines.submitted:
            for index in reversed(range(submitted.sampling.n)):
                submitted.extend(text.encode("!"), index)
                submitted.finish(End("stop"), index)

    return script


@pytest.mark.parametrize("n", [1, 3])
async def test_choices_are_numbered_through_prompt_by_prompt(
    app: Front, engines: FakeEngines, text: ChatTokenizer, n: int
) -> None:
    prompts = ["one", "two", "three"]
    found = await texts(app, engines, each_prompt(text, engines), prompt=prompts, n=n, echo=True)
    assert found == [f"{prompt}{part}.{index}!" for part, prompt in enumerate(prompts) for index in range(n)]
    assert [each.prompt_ids for each in engines.submitted] == [text.encode(prompt) for prompt in prompts]


async def test_what_several_prompts_cost(app: Front, engines: FakeEngines, text: ChatTokenizer) -> None:
    script = each_prompt(text, engines)
    usage = answer(await play(app, complete(prompt=["one", "two"], n=2), engines, script))["usage"]
    words = [f"{part}.{index}!" for part in range(2) for index in range(2)]
    assert usage["prompt_tokens"] == len(text.encode("one")) + len(text.encode("two"))
    assert usage["completion_tokens"] == sum(len(text.encode(each[:-1])) + 1 for each in words)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 16 + 32


async def test_prompts_are_answered_side_by_side(app: Front, engines: FakeEngines, text: ChatTokenizer) -> None:
    """The second prompt's answer streams while the first one's has not begun."""
    call = complete(prompt=["one", "two"], stream=True)
    seen: list[str] = []

    def second(_: Submitted) -> None:
        engines.submitted[1].extend(text.encode("second"))

    def first(_: Submitted) -> None:
        seen.extend(choice["text"] for event in sse_data(call.answer) for choice in event["choices"])
        engines.submitted[1].finish(End("stop"))
        engines.submitted[0].extend(text.encode("first"))
        engines.submitted[0].finish(End("stop"))

    await play(app, call, engines, second, first)
    assert "".join(seen) == "second"
    assert texts_of(call) == {0: "first", 1: "second"}


async def test_a_stop_string_ends_its_own_prompt_s_answer(
    app: Front, engines: FakeEngines, text: ChatTokenizer
) -> None:
    def begin(_: Submitted) -> None:
        engines.submitted[0].extend(text.encode("going on"))
        engines.submitted[1].extend(text.encode("a STOP b"))

    def end(_: Submitted) -> None:
        engines.submitted[0].finish(End("length"))

    found = await texts(app, engines, begin, end, prompt=["one", "two"], stop="STOP")
    assert found == ["going on", "a "]
    assert [each.aborts for each in engines.submitted] == [[], [0]]


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("stream", [True, False])
async def test_one_prompt_that_fails_ends_all_and_frees_the_engine(
    app: Front, engines: FakeEngines, text: ChatTokenizer, *, stream: bool, begun: bool
) -> None:
    def begin(_: Submitted) -> None:
        engines.submitted[0].extend(text.encode("x") if begun else [])

    def fail(_: Submitted) -> None:
        engines.submitted[1].finish(End("failed", "context_length_exceeded", "Too long."))

    call = await play(app, complete(prompt=["one", "two", "three"], stream=stream), engines, begin, fail)
    error = sse_data(call.answer)[-2]["error"] if stream and begun else call.error
    assert call.status == (200 if stream and begun else 400), "what has not begun can still say how it ended"
    assert (error["code"], error["param"]) == ("context_length_exceeded", "prompt")
    assert [each.aborted for each in engines.submitted] == [True, False, True]


async def test_prompts_of_which_one_is_refused_are_not_begun(app: Front, engines: FakeEngines) -> None:
    def refuse_third(_: Submitted) -> None:
        if len(engines.submitted) == 3:
            raise errors.rate_limited("4096 requests are already in flight.", 1)

    engines.on_submit = refuse_third
    call = await complete(prompt=["one", "two", "three"]).run(app)
    assert (call.status, call.headers[b"retry-after"]) == (429, b"1")
    assert [each.aborted for each in engines.submitted] == [True, True, False]


async def test_a_client_that_leaves_aborts_every_prompt(app: Front, engines: FakeEngines) -> None:
    call = complete(prompt=["one", "two"], stream=True)
    await play(app, call, engines, lambda _: call.leave())
    assert all(each.aborted for each in engines.submitted)
    assert len(engines.submitted) == 2


# holes


def knowing(qwen: Path, directory: Path, known: Infill) -> Path:
    """A model whose vocabulary has the marks of a format."""
    copy = shutil.copytree(qwen, directory / "infill")
    tokenizer = AutoTokenizer.from_pretrained(copy)
    tokenizer.add_tokens([*known.marks, "<|file_sep|>"], special_tokens=True)
    tokenizer.save_pretrained(copy)
    return copy


@pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.before)
def test_a_model_that_has_the_marks_knows_the_format(qwen: Path, tmp_path: Path, known: Infill) -> None:
    text = ChatTokenizer.load(knowing(qwen, tmp_path, known))
    assert infill_of(text) == known
    ids = text.encode(known.render("def f():", "return x"))
    assert all(text.encode(mark)[0] in ids for mark in known.marks)


def test_where_the_answer_goes() -> None:
    assert Infill("<a>", "<b>", "<c>").render("before", "after") == "<a>before<b>after<c>"
    assert Infill("<a>", "<b>", None).render("before", "after") == "<b>after<a>before"


def test_texts_with_braces_in_them_are_texts() -> None:
    assert Infill("<a>", "<b>", "<c>").render("{suffix}", "{prefix}") == "<a>{suffix}<b>{prefix}<c>"


async def test_a_hole_is_filled_and_another_mark_or_file_ends_the_answer(
    engines: FakeEngines, qwen: Path, tmp_path: Path
) -> None:
    known = FORMATS[0]
    path = knowing(qwen, tmp_path, known)
    service = Service(engines, {"m": f"path:{path}"}.get)
    await service.load(LoadRequest("m"))
    text = ChatTokenizer.load(path)
    fields = {"prompt": "def f():", "suffix": "return x"}
    assert await texts(app_of(service, Drain()), engines, say(text, "x = 1"), **fields) == ["x = 1"]
    (submitted,) = engines.submitted
    assert submitted.prompt_ids == text.encode(known.render("def f():", "return x"))
    ends = {text.encode(mark)[0] for mark in (*known.marks, "<|file_sep|>")} | text.eos_ids
    assert set(submitted.sampling.stop_token_ids) == ends


async def test_a_hole_that_the_model_cannot_fill_is_refused(app: Front, engines: FakeEngines) -> None:
    call = await complete(suffix="return x").run(app)
    assert (call.status, call.error["code"], call.error["param"]) == (400, "unsupported_value", "suffix")
    assert "no tokens that mark a hole" in call.error["message"]
    assert engines.submitted == []


# refusals


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({"prompt": None}, (400, "missing_required_parameter", "prompt")),
        ({"prompt": ""}, (400, "invalid_value", "prompt")),
        ({"prompt": ["Hello", ""]}, (400, "invalid_value", "prompt")),
        ({"prompt": "x " * 200}, (400, "context_length_exceeded", "prompt")),
        ({"prompt": ["Hello", "x " * 200]}, (400, "context_length_exceeded", "prompt")),
        ({"prompt": "x" * 40_000}, (400, "context_length_exceeded", "prompt")),
        ({"prompt": [10**6]}, (400, "invalid_value", "prompt")),
        ({"echo": True, "logprobs": 1, "suffix": "x"}, (400, "invalid_value", "suffix")),
        ({"echo": True, "max_tokens": 0}, (400, "invalid_value", "max_tokens")),
        ({"structured_outputs": {"regex": "("}}, (400, "invalid_value", "structured_outputs")),
        ({"model": "ghost"}, (404, "model_not_found", "model")),
    ],
)
async def test_what_is_refused(
    app: Front, engines: FakeEngines, fields: dict[str, Any], refusal: tuple[int, str, str]
) -> None:
    call = await complete(**fields).run(app)
    assert (call.status, call.error["code"], call.error["param"]) == refusal
    assert engines.submitted == []


@pytest.mark.parametrize("status", ["loading", "recovering", "failed"])
async def test_a_model_that_cannot_serve_now(app: Front, engines: FakeEngines, status: str) -> None:
    engines.set("m", status)
    call = await complete().run(app)
    assert (call.status, call.headers[b"retry-after"]) == (503, b"2")


async def test_other_methods_are_told_which_there_is(app: Front) -> None:
    call = await Call(scope_of("GET", COMPLETIONS)).run(app)
    assert (call.status, call.headers[b"allow"]) == (405, b"POST")


async def test_a_body_that_is_none(app: Front) -> None:
    assert (await Call.post(COMPLETIONS, b"{oops").run(app)).error["code"] == "invalid_json"
    assert (await Call.post(COMPLETIONS, orjson.dumps([])).run(app)).error["code"] == "invalid_json"
