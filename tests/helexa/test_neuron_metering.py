"""What a neuron tells its gateway of tokens, and how it keeps to what a request may use."""

from re import findall

import orjson
import pytest
from engine_port import FakeEngines, Submitted
from http_parts import Call
from hypothesis import given
from hypothesis import strategies as st
from neurons import CHAT, COMPLETIONS, HELLO, answer, app_of, play, say

from helexa.neuron.ports import End
from helexa.neuron.prepare import Prepared
from helexa.neuron.service import Service
from helexa.text import ChatTokenizer
from helexa.web.front import Front
from helexa.web.server import Drain
from helexa.wire import meter
from helexa.wire.errors import ApiError
from helexa.wire.meter import Allowance, Reader
from helexa.wire.sampling import SamplingParams

METER = (meter.HEADER, meter.ON)
Headers = list[tuple[bytes, bytes]]


def chat(headers: Headers, **fields: object) -> Call:
    return Call.post(CHAT, orjson.dumps({"model": "m", "messages": HELLO, **fields}), headers)


def texts(headers: Headers, **fields: object) -> Call:
    return Call.post(COMPLETIONS, orjson.dumps({"model": "m", "prompt": "Hello", **fields}), headers)


def allowing(total: int, output: int) -> Headers:
    return [METER, (meter.BUDGET, meter.write_allowance(Allowance(total, output)))]


def totals(stream: bytes) -> list[tuple[int, ...]]:
    return [tuple(map(int, each.split())) for each in findall(rb"(?m)^:u (.*)$", stream)]


async def test_each_write_of_a_stream_tells_what_was_used_up_to_it(
    app: Front, engines: FakeEngines, text: ChatTokenizer
) -> None:
    words = [text.encode(each) for each in ("Hello", " there", ", you")]

    def script(submitted: Submitted) -> None:
        submitted.cached_tokens = 3
        submitted.extend(words[0])

    call = await play(
        app,
        chat([METER], stream=True, stream_options={"include_usage": True}),
        engines,
        script,
        lambda submitted: submitted.extend(words[1]),
        lambda submitted: submitted.extend(words[2]),
        lambda submitted: submitted.finish(End("stop")),
    )
    assert call.headers[meter.HEADER] == meter.ON
    prompt, counts = len(text.prompt_ids(HELLO)), [len(each) for each in words]
    assert [message["body"].count(b"\n:u ") for message in call.messages[1:]] == [1, 1, 1, 1, 1, 1, 0]
    assert totals(call.answer) == [
        (prompt, 0, 0),
        (prompt, counts[0], 0),
        (prompt, sum(counts[:2]), 0),
        (prompt, sum(counts), 0),
        (prompt, sum(counts), 3),
        (prompt, sum(counts), 3),
    ]
    assert call.answer.endswith(b":u %d %d 3\ndata: [DONE]\n\n" % (prompt, sum(counts)))


async def test_who_does_not_ask_is_told_nothing_and_gets_the_same_events(
    app: Front, engines: FakeEngines, text: ChatTokenizer
) -> None:
    plain, metered = [
        await play(app, chat(headers, stream=True), engines, say(text, "Hello you")) for headers in ([], [METER])
    ]
    assert meter.HEADER not in plain.headers
    assert b":u " not in plain.answer
    shown = Reader().push(metered.answer)
    ids = [orjson.loads(each.answer.split(b"\n")[0].removeprefix(b"data: "))["id"] for each in (plain, metered)]
    assert shown.replace(ids[1].encode(), ids[0].encode()) == plain.answer


async def test_an_answer_in_one_piece_tells_it_in_a_header(
    app: Front, engines: FakeEngines, text: ChatTokenizer
) -> None:
    def cached(submitted: Submitted) -> None:
        submitted.cached_tokens = 2

    call = await play(app, chat([METER]), engines, cached, say(text, "Hello you"))
    usage = answer(call)["usage"]
    assert meter.read_usage(call.headers[meter.USAGE]) == (usage["prompt_tokens"], usage["completion_tokens"], 2)
    assert meter.USAGE not in (await play(app, chat([]), engines, say(text, "Hello"))).headers


async def test_all_choices_of_all_prompts_are_counted(app: Front, engines: FakeEngines, text: ChatTokenizer) -> None:
    def script(_: Submitted) -> None:
        for part in engines.submitted:
            for index in range(2):
                part.extend(text.encode("a b c"), index)
                part.finish(End("length"), index)

    call = await play(app, texts([METER], prompt=["Hello", "Hello you"], n=2, stream=True), engines, script)
    prompts = sum(len(text.encode(each)) for each in ("Hello", "Hello you"))
    assert totals(call.answer)[-1] == (prompts, 4 * len(text.encode("a b c")), 0)


async def test_an_answer_is_no_longer_than_the_budget_leaves(
    app: Front, engines: FakeEngines, text: ChatTokenizer
) -> None:
    prompt = len(text.prompt_ids(HELLO))
    for total, output, most in ((prompt + 5, 90, 5), (90, 7, 7), (10**12, 90, 90)):
        await play(app, chat(allowing(total, output)), engines, say(text, "Hello"))
        assert engines.submitted[-1].sampling.max_tokens == most
    await play(app, chat(allowing(prompt + 5, 5), max_tokens=5), engines, say(text, "Hello"))
    assert engines.submitted[-1].sampling.max_tokens == 5
    await play(app, chat([METER]), engines, say(text, "Hello"))
    assert engines.submitted[-1].sampling.max_tokens is None


async def test_several_answers_share_what_the_budget_leaves(
    app: Front, engines: FakeEngines, text: ChatTokenizer
) -> None:
    def both(_: Submitted) -> None:
        for part in engines.submitted:
            for index in range(2):
                part.finish(End("length"), index)

    await play(app, texts(allowing(100, 43), prompt=["a", "b"], n=2), engines, both)
    assert [each.sampling.max_tokens for each in engines.submitted] == [10, 10]


@pytest.mark.parametrize(
    "case",
    [
        (0, 50, {}),
        (-5, 50, {}),
        (5, 0, {}),
        (5, 50, {"max_tokens": 6}),
        (50, 5, {"max_completion_tokens": 6}),
        (5, 50, {"min_tokens": 6}),
        (9, 50, {"n": 10}),
    ],
)
async def test_a_budget_that_does_not_suffice_is_told_with_the_length_of_the_prompt(
    app: Front, engines: FakeEngines, text: ChatTokenizer, case: tuple[int, int, dict[str, int]]
) -> None:
    spare, output, fields = case
    prompt = len(text.prompt_ids(HELLO))
    call = await chat(allowing(prompt + spare, output), **fields).run(app)
    assert (call.status, call.error["code"]) == (429, "budget_exceeded")
    assert meter.read_usage(call.headers[meter.USAGE]) == (prompt, 0, 0)
    assert engines.submitted == []


async def test_more_than_the_context_has_room_for_is_not_asked_of_the_budget(
    app: Front, engines: FakeEngines, text: ChatTokenizer
) -> None:
    prompt = len(text.prompt_ids(HELLO))
    await play(app, chat(allowing(engines.context, 99), max_tokens=5000), engines, say(text, "Hello"))
    assert engines.submitted[-1].sampling.max_tokens == engines.context - prompt


async def test_a_completions_own_default_is_not_what_its_client_asked_for(
    app: Front, engines: FakeEngines, text: ChatTokenizer
) -> None:
    await play(app, texts(allowing(50, 3)), engines, say(text, "Hello"))
    assert engines.submitted[-1].sampling.max_tokens == 3
    await play(app, texts(allowing(90, 80)), engines, say(text, "Hello"))
    assert engines.submitted[-1].sampling.max_tokens == 16


@pytest.mark.parametrize("value", [b"", b"5", b"-1 5", b"5 5 5", b"all"])
async def test_a_budget_that_cannot_be_read_is_not_taken_for_none(
    app: Front, engines: FakeEngines, value: bytes
) -> None:
    call = await chat([(meter.BUDGET, value)]).run(app)
    assert (call.status, call.error["code"]) == (400, "invalid_value")
    assert engines.submitted == []


async def test_who_is_not_the_gateway_is_not_listened_to(service: Service, drain: Drain, engines: FakeEngines) -> None:
    call = await chat(allowing(10**9, 10**9)).run(app_of(service, drain, "s3cret"))
    assert (call.status, call.error["code"]) == (401, "invalid_api_key")
    assert meter.USAGE not in call.headers
    assert engines.submitted == []


@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=3),
    st.builds(SamplingParams, n=st.integers(1, 3), max_tokens=st.none() | st.integers(1, 200)),
    st.builds(Allowance, st.integers(0, 300), st.integers(0, 300)),
    st.booleans(),
)
def test_what_is_let_through_cannot_use_more_than_was_allowed(
    prompts: list[int],
    sampling: SamplingParams,
    allowance: Allowance,
    explicit: bool,  # noqa: FBT001 - drawn
) -> None:
    context = 100
    prepared = Prepared(tuple([0] * each for each in prompts), sampling)
    asked = sampling.max_tokens if explicit else None
    try:
        found = prepared.within(allowance, asked, context)
    except ApiError as error:
        assert error.code == meter.EXCEEDED  # noqa: PT017 - one of two outcomes
        return
    each = found.sampling.max_tokens
    assert each is not None
    assert each >= 1
    assert each * prepared.choices <= allowance.output
    assert each * prepared.choices + sum(prompts) <= allowance.total
    if asked is not None:
        assert all(min(each, context - prompt) == min(asked, context - prompt) for prompt in prompts)
