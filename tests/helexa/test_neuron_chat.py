"""Full sampling over HTTP, in memory: several choices, log probabilities, cached tokens, structures, who asks."""

from collections.abc import Callable

import orjson
import pytest
from engine_port import FakeEngines, Submitted
from http_parts import Call, sse_data
from neurons import CHAT, HELLO, answer, app_of, ask, choices_of, content_of, play, say

from helexa.engine.protocol import TokenLogprob
from helexa.neuron.ports import End
from helexa.neuron.service import Service
from helexa.text import ChatTokenizer
from helexa.web.front import Front
from helexa.web.server import Drain

# several choices


def three(text: ChatTokenizer) -> Callable[[Submitted], None]:
    """Choices that come mixed up, and end in another order than they began."""

    def script(submitted: Submitted) -> None:
        submitted.cached_tokens = 16
        for index in (2, 0, 1):
            submitted.extend(text.encode(f"Hello {index}"), index)
        submitted.finish(End("length"), 1)
        submitted.extend(text.encode(" more"), 0)
        submitted.finish(End("stop"), 2)
        submitted.finish(End("stop"), 0)

    return script


async def test_each_choice_is_an_answer_of_its_own(app: Front, engines: FakeEngines, text: ChatTokenizer) -> None:
    found = answer(await play(app, ask(n=3), engines, three(text)))
    assert engines.submitted[0].sampling.n == 3
    expected = [(0, "Hello 0 more", "stop"), (1, "Hello 1", "length"), (2, "Hello 2", "stop")]
    choices = [(each["index"], each["message"]["content"], each["finish_reason"]) for each in found["choices"]]
    assert choices == expected
    count = sum(len(text.encode(words)) for words in ("Hello 0", " more", "Hello 1", "Hello 2"))
    prompt = len(text.prompt_ids(HELLO))
    assert found["usage"] == {
        "prompt_tokens": prompt,
        "completion_tokens": count,
        "total_tokens": prompt + count,
        "prompt_tokens_details": {"cached_tokens": 16},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


async def test_choices_stream_side_by_side(app: Front, engines: FakeEngines, text: ChatTokenizer) -> None:
    call = await play(app, ask(n=3, stream=True, stream_options={"include_usage": True}), engines, three(text))
    found = choices_of(call)
    assert {index: content_of(chunks) for index, chunks in found.items()} == {
        0: "Hello 0 more",
        1: "Hello 1",
        2: "Hello 2",
    }
    assert {index: chunks[-1]["finish_reason"] for index, chunks in found.items()} == {
        0: "stop",
        1: "length",
        2: "stop",
    }
    last = sse_data(call.answer)[-2]
    engines.submitted.clear()
    whole = answer(await play(app, ask(n=3), engines, three(text)))
    assert (last["choices"], last["usage"]) == ([], whole["usage"])


@pytest.mark.parametrize("stream", [True, False])
async def test_a_stop_string_ends_its_own_choice_and_the_others_go_on(
    app: Front, engines: FakeEngines, text: ChatTokenizer, *, stream: bool
) -> None:
    def script(submitted: Submitted) -> None:
        submitted.cached_tokens = 32
        submitted.extend(text.encode("Hello world"), 0)
        submitted.extend(text.encode("Hello"), 1)

    def more(submitted: Submitted) -> None:
        assert submitted.aborts == [0]
        submitted.extend(text.encode(" again"), 1)
        submitted.finish(End("stop"), 1)

    request = ask(n=2, stop="world", stream=stream)
    call = await play(app, request, engines, script, more)
    assert call.ended
    assert engines.submitted[0].aborts == [0]
    if stream:
        contents = {index: content_of(chunks) for index, chunks in choices_of(call).items()}
        assert {index: chunks[-1].get("stop_reason") for index, chunks in choices_of(call).items()} == {
            0: "world",
            1: None,
        }
    else:
        found = answer(call)
        assert [each.get("stop_reason") for each in found["choices"]] == ["world", None]
        contents = {each["index"]: each["message"]["content"] for each in found["choices"]}
        assert found["usage"]["prompt_tokens_details"] == {"cached_tokens": 32}
        assert {each["finish_reason"] for each in found["choices"]} == {"stop"}
    assert contents == {0: "Hello ", 1: "Hello again"}


async def test_a_client_that_leaves_aborts_all_choices(app: Front, engines: FakeEngines, text: ChatTokenizer) -> None:
    call = ask(n=2, stream=True)

    def script(submitted: Submitted) -> None:
        submitted.finish(End("stop"), 1)
        submitted.extend(text.encode("Hello"), 0)
        call.leave()

    await play(app, call, engines, script)
    assert engines.submitted[0].aborts == [None]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_failure_is_one_error_however_many_choices_it_ends(
    app: Front, engines: FakeEngines, *, stream: bool
) -> None:
    def script(submitted: Submitted) -> None:
        submitted.finish(End("stop"), 0)
        submitted.generation.finish_all(End("failed", "upstream_error", "Gone."))

    call = await play(app, ask(n=3, stream=stream), engines, script)
    if stream:
        *_, error, done = sse_data(call.answer)
        assert (error["error"]["message"], done) == ("Gone.", "[DONE]")
        assert call.answer.count(b'"error"') == 1
    else:
        assert (call.status, call.error["message"]) == (502, "Gone.")


@pytest.mark.parametrize("end", [End("failed", "upstream_error", "Gone."), End("abort"), End("stop")])
async def test_an_answer_that_a_stop_string_has_completed_is_whole_whatever_the_engine_says_then(
    app: Front, engines: FakeEngines, text: ChatTokenizer, end: End
) -> None:
    def script(submitted: Submitted) -> None:
        submitted.extend(text.encode("Hello world"))
        submitted.finish(end)

    (choice,) = answer(await play(app, ask(stop="world"), engines, script))["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Hello ", "stop")


# log probabilities


def uncertain(text: ChatTokenizer, words: str) -> Callable[[Submitted], None]:
    def script(submitted: Submitted) -> None:
        for number, token in enumerate(text.encode(words)):
            submitted.extend([token], 0, [TokenLogprob(-number / 4, [(token, -number / 4), (5, -9.5)])])
        (end,) = text.eos_ids
        submitted.extend([end], 0, [TokenLogprob(-1.0, [(end, -1.0), (5, -9.5)])])
        submitted.finish(End("stop"))

    return script


async def test_log_probabilities_have_openai_s_shape(app: Front, engines: FakeEngines, text: ChatTokenizer) -> None:
    call = await play(app, ask(logprobs=True, top_logprobs=2), engines, uncertain(text, "Hello 😀"))
    assert engines.submitted[0].sampling.logprobs == 2
    (choice,) = answer(call)["choices"]
    assert choice["logprobs"]["refusal"] is None
    entries = choice["logprobs"]["content"]
    assert b"".join(bytes(entry["bytes"]) for entry in entries).decode() == choice["message"]["content"] == "Hello 😀"
    assert all(set(entry) == {"token", "logprob", "bytes", "top_logprobs"} for entry in entries)
    assert [entry["logprob"] for entry in entries] == [-number / 4 for number in range(len(entries))]
    for entry in entries:
        first, second = entry["top_logprobs"]
        assert {key: entry[key] for key in ("token", "logprob", "bytes")} == first
        assert second["logprob"] == -9.5


async def test_a_stream_s_log_probabilities_are_those_of_the_whole_answer(
    app: Front, engines: FakeEngines, text: ChatTokenizer
) -> None:
    fields = {"logprobs": True, "top_logprobs": 1, "stop": ["o w", "zzz"]}
    script = uncertain(text, "Hello world, how?")
    whole = answer(await play(app, ask(**fields), engines, script))
    engines.submitted.clear()
    call = await play(app, ask(stream=True, **fields), engines, script)
    (chunks,) = choices_of(call).values()
    entries = [entry for chunk in chunks if chunk["logprobs"] for entry in chunk["logprobs"]["content"]]
    assert entries == whole["choices"][0]["logprobs"]["content"]
    assert content_of(chunks) == whole["choices"][0]["message"]["content"] == "Hell"
    assert chunks[0]["logprobs"] is None


async def test_without_being_asked_for_there_are_none(app: Front, engines: FakeEngines, text: ChatTokenizer) -> None:
    (choice,) = answer(await play(app, ask(), engines, uncertain(text, "Hello")))["choices"]
    assert choice["logprobs"] is None
    engines.submitted.clear()
    call = await play(app, ask(stream=True), engines, uncertain(text, "Hello"))
    assert {chunk["logprobs"] for chunk in choices_of(call)[0]} == {None}


# what else the engine is told


async def test_ids_beyond_the_vocabulary_are_refused(app: Front, engines: FakeEngines, text: ChatTokenizer) -> None:
    for fields in ({"logit_bias": {str(text.vocab_size): 1}}, {"stop_token_ids": [text.vocab_size]}):
        call = await ask(**fields).run(app)
        assert (call.status, call.error["param"]) == (400, next(iter(fields)))
    assert engines.submitted == []


async def test_ends_of_the_caller_s_join_the_model_s_unless_those_are_to_be_ignored(
    app: Front, engines: FakeEngines, text: ChatTokenizer
) -> None:
    for fields, expected in [
        ({"stop_token_ids": [7]}, {7, *text.eos_ids}),
        ({"stop_token_ids": [7], "ignore_eos": True}, {7}),
        ({"ignore_eos": True}, set()),
    ]:
        engines.submitted.clear()
        await play(app, ask(**fields), engines, say(text, "Hi"))
        assert set(engines.submitted[0].sampling.stop_token_ids) == expected


async def test_no_reasoning_effort_is_no_thinking(app: Front, engines: FakeEngines, text: ChatTokenizer) -> None:
    await play(app, ask(reasoning_effort="none"), engines, say(text, "Hi"))
    assert engines.submitted[0].prompt_ids == text.prompt_ids(HELLO, template_kwargs={"enable_thinking": False})


@pytest.mark.parametrize(
    ("header", "key"), [(b"team-a", "team-a"), (None, ""), (b"", ""), (b"x" * 129, ""), (b"a b", ""), (b"\xff", "")]
)
async def test_the_engine_is_told_who_asks(
    app: Front, engines: FakeEngines, text: ChatTokenizer, header: bytes | None, key: str
) -> None:
    headers = [] if header is None else [(b"x-helexa-tenant", header)]
    call = Call.post(CHAT, orjson.dumps({"model": "m", "messages": HELLO}), headers)
    await play(app, call, engines, say(text, "Hi"))
    assert engines.submitted[0].key == key


async def test_nobody_tells_who_asks_without_the_fleet_s_secret(service: Service, engines: FakeEngines) -> None:
    call = Call.post(CHAT, orjson.dumps({"model": "m", "messages": HELLO}), [(b"x-helexa-tenant", b"team-a")])
    await call.run(app_of(service, Drain(), "correct horse"))
    assert call.status == 401
    assert engines.submitted == []
