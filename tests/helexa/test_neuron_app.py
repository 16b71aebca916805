"""The neuron's HTTP application in memory, with a stand-in for the engines: guards, faults, and who is told what."""

import shutil
from pathlib import Path

import orjson
import pytest
import trio
from attrs import evolve
from engine_port import FakeEngines, Submitted, failing
from http_parts import Call, scope_of, sse_data
from neurons import CHAT, COMPLETIONS, HELLO, app_of, ask, play, say
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from helexa.neuron.ports import End
from helexa.neuron.service import Service
from helexa.text import ChatTokenizer
from helexa.web.front import Front
from helexa.web.server import Drain
from helexa.wire import errors
from helexa.wire.fleet import KvCache, LoadRequest
from helexa.wire.sampling import SamplingParams

SECRET = "correct horse"
ROUTES = [
    ("GET", "/discovery"),
    ("GET", "/version"),
    ("GET", "/health"),
    ("GET", "/actors"),
    ("GET", "/models"),
    ("POST", "/models/load"),
    ("POST", "/models/unload"),
    ("POST", "/models/estimate"),
    ("POST", "/devices/cpu/restart"),
    ("POST", "/tokenize"),
    ("POST", CHAT),
    ("POST", COMPLETIONS),
    ("GET", "/nowhere"),
    ("PUT", "/models"),
]


@pytest.fixture
def particular(qwen: Path, tmp_path: Path) -> Path:
    """A model whose publisher recommends something."""
    copy = shutil.copytree(qwen, tmp_path / "particular")
    (copy / "generation_config.json").write_text('{"temperature": 0.6, "top_k": 20}')
    return copy


# guards


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("given", [None, b"", b"Bearer ", b"Bearer wrong", b"Basic correct horse", b"correct horse"])
async def test_every_route_asks_for_the_secret(
    service: Service, drain: Drain, method: str, path: str, given: bytes | None
) -> None:
    headers = [] if given is None else [(b"authorization", given)]
    call = await Call(scope_of(method, path, headers)).run(app_of(service, drain, SECRET))
    assert (call.status, call.error["code"]) == (401, "invalid_api_key")
    assert SECRET not in call.answer.decode()


async def test_the_secret_opens_every_route_whatever_the_host_is_called(service: Service, drain: Drain) -> None:
    scope = scope_of("GET", "/models")
    scope["headers"] = [(b"host", b"beast.lan:13131"), (b"authorization", f"Bearer {SECRET}".encode())]
    assert (await Call(scope).run(app_of(service, drain, SECRET))).status == 200


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_without_a_secret_a_foreign_host_name_is_refused(app: Front, method: str, path: str) -> None:
    """That is what DNS rebinding looks like."""
    scope = scope_of(method, path)
    scope["headers"] = [(b"host", b"evil.example:13131")]
    call = await Call(scope).run(app)
    assert (call.status, call.error["code"]) == (403, "host_not_allowed")


@pytest.mark.parametrize("host", [b"localhost:1", b"127.0.0.1:13131", b"[::1]:13131", b"127.0.0.1"])
async def test_without_a_secret_this_machine_is_let_in(app: Front, host: bytes) -> None:
    scope = scope_of("GET", "/models")
    scope["headers"] = [(b"host", host)]
    assert (await Call(scope).run(app)).status == 200


async def test_unknown_paths_and_methods_have_envelopes(app: Front) -> None:
    for method, path, status, code in [
        ("GET", "/nowhere", 404, "not_found"),
        ("DELETE", "/models", 405, "method_not_allowed"),
        ("GET", CHAT, 405, "method_not_allowed"),
    ]:
        call = await Call(scope_of(method, path)).run(app)
        assert (call.status, call.error["code"]) == (status, code)


# what is wrong with a request


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{oops", 400, "invalid_json"),
        (b"[]", 400, "invalid_json"),
        (b"{}", 400, "missing_required_parameter"),
        (b'{"model": 7}', 400, "invalid_value"),
        (b'{"model": "m"}', 400, "missing_required_parameter"),
        (b'{"model": "m", "messages": []}', 400, "invalid_value"),
        (b'{"model": "ghost", "messages": [{"role": "user", "content": "x"}]}', 404, "model_not_found"),
        (b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "n": 0}', 400, "invalid_value"),
        (b'{"model": "m", "messages": [{"role": "user", "content": 7}]}', 400, "invalid_value"),
    ],
)
async def test_a_bad_request_never_reaches_the_engine(
    app: Front, engines: FakeEngines, body: bytes, status: int, code: str
) -> None:
    call = await Call.post(CHAT, body).run(app)
    assert (call.status, call.error["code"]) == (status, code)
    assert engines.submitted == []


async def test_what_the_template_refuses_is_one_sentence(app: Front) -> None:
    call = await ask(chat_template_kwargs={"chat_template": "x"}).run(app)
    assert (call.status, call.error["param"]) == (400, "messages")
    assert call.error["message"].endswith("it is reserved.")


async def test_a_prompt_beyond_the_context_is_refused_with_both_numbers(
    app: Front, engines: FakeEngines, text: ChatTokenizer
) -> None:
    messages = [{"role": "user", "content": "x " * 200}]
    call = await ask(messages=messages).run(app)
    assert (call.status, call.error["code"]) == (400, "context_length_exceeded")
    assert "100" in call.error["message"]
    assert str(len(text.prompt_ids(messages))) in call.error["message"]
    assert engines.submitted == []


async def test_a_long_body_is_tokenized_beside_the_event_loop(app: Front) -> None:
    call = await ask(messages=[{"role": "user", "content": "x" * 40_000}]).run(app)
    assert call.error["code"] == "context_length_exceeded"


@pytest.mark.parametrize("status", ["loading", "recovering", "failed"])
async def test_a_model_that_cannot_serve_now(app: Front, engines: FakeEngines, status: str) -> None:
    engines.set("m", status)
    call = await ask().run(app)
    assert (call.status, call.headers[b"retry-after"]) == (503, b"2")
    assert status in call.error["message"]


# what the engine is asked


async def test_the_engine_gets_the_rendered_prompt_and_the_ids_that_end_an_answer(
    app: Front, engines: FakeEngines, text: ChatTokenizer
) -> None:
    await play(app, ask(temperature=0.5, seed=7, max_tokens=9, top_k=3), engines, say(text, "Hi"))
    (submitted,) = engines.submitted
    assert submitted.prompt_ids == text.prompt_ids(HELLO)
    assert submitted.sampling == SamplingParams(
        max_tokens=9, temperature=0.5, top_k=3, seed=7, stop_token_ids=tuple(sorted(text.eos_ids))
    )


async def test_max_completion_tokens_goes_before_max_tokens(
    app: Front, engines: FakeEngines, text: ChatTokenizer
) -> None:
    await play(app, ask(max_tokens=9, max_completion_tokens=4), engines, say(text, "Hi"))
    assert engines.submitted[0].sampling.max_tokens == 4


async def test_the_publisher_s_parameters_fill_in_for_absent_ones(
    app: Front, service: Service, engines: FakeEngines, text: ChatTokenizer, particular: Path
) -> None:
    await service.unload("m")
    await service.load(LoadRequest("m", f"path:{particular}"))
    await play(app, ask(temperature=0.1), engines, say(text, "Hi"))
    sampling = engines.submitted[0].sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (0.1, 20, 1.0)


@pytest.mark.parametrize(("choice", "shown"), [("auto", True), (None, True), ("none", False)])
async def test_tools_are_shown_to_the_model_unless_it_must_not_call_them(
    app: Front, engines: FakeEngines, text: ChatTokenizer, choice: str | None, *, shown: bool
) -> None:
    tools = [{"type": "function", "function": {"name": "multiply"}}]
    call = '<tool_call>{"name": "multiply", "arguments": {}}</tool_call>'
    made = await play(app, ask(tools=tools, tool_choice=choice), engines, say(text, call))
    assert engines.submitted[0].prompt_ids == text.prompt_ids(HELLO, tools=tools if shown else None)
    (answer,) = orjson.loads(made.answer)["choices"]
    assert (answer["finish_reason"] == "tool_calls") == ("tool_calls" in answer["message"]) == shown


# how it ends


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (
            End("failed", "context_length_exceeded", "Prompt of 9 tokens, context of 8."),
            (400, "context_length_exceeded"),
        ),
        (End("failed", "invalid_value", "The grammar ends in a dead end."), (400, "invalid_value")),
        (End("failed", "rate_limit_exceeded", "Too many."), (429, "rate_limit_exceeded")),
        (End("failed", "service_unavailable", "Not loaded."), (503, "service_unavailable")),
        (End("failed", "upstream_error", "The engine worker of cpu is gone."), (502, "upstream_error")),
        (End("failed", "some_new_code", "Odd."), (502, "upstream_error")),
        (End("abort"), (502, "upstream_error")),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_failure_of_the_engine_is_one_error(
    app: Front, engines: FakeEngines, end: End, expected: tuple[int, str], *, stream: bool
) -> None:
    status, code = expected
    call = await play(app, ask(stream=stream), engines, lambda submitted: submitted.finish(end))
    error = sse_data(call.answer)[-2]["error"] if stream else call.error
    assert error["code"] == code
    assert error["message"] == (end.error or "The engine gave the request up.")
    if not stream:
        assert call.status == status
        assert (b"retry-after" in call.headers) == (status in (429, 503))


async def test_a_failure_in_the_middle_of_a_stream_ends_it_properly(
    app: Front, engines: FakeEngines, text: ChatTokenizer
) -> None:
    broken = End("failed", "upstream_error", "Gone.")
    call = await play(app, ask(stream=True), engines, say(text, "Hello", broken))
    *_, error, done = sse_data(call.answer)
    assert error["error"]["message"] == "Gone."
    assert done == "[DONE]"
    assert call.ended


async def test_a_fault_of_our_own_tells_the_log_and_not_the_caller(app: Front, engines: FakeEngines) -> None:
    engines.on_submit = failing(RuntimeError("the details"))
    with capture_logs() as logs:
        call = await ask().run(app)
    assert (call.status, call.error["code"]) == (500, "internal_error")
    assert "details" not in call.error["message"]
    assert str(logs[0]["exc_info"]) == "the details"


async def test_an_overloaded_worker_is_a_429(app: Front, engines: FakeEngines) -> None:
    engines.on_submit = failing(errors.rate_limited("4096 requests are already in flight.", 1))
    call = await ask(stream=True).run(app)
    assert (call.status, call.headers[b"retry-after"]) == (429, b"1")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("tokens", [0, 3])
async def test_a_client_that_leaves_aborts_at_once(
    app: Front, engines: FakeEngines, text: ChatTokenizer, tokens: int, *, stream: bool
) -> None:
    call = ask(stream=stream)

    def script(submitted: Submitted) -> None:
        submitted.extend(text.encode("Hello")[:tokens])
        call.leave()

    await play(app, call, engines, script)
    assert engines.submitted[0].aborted
    assert not call.ended


@pytest.mark.parametrize("stream", [True, False])
async def test_a_stop_string_frees_the_engine(
    app: Front, engines: FakeEngines, text: ChatTokenizer, *, stream: bool
) -> None:
    call = await play(
        app,
        ask(stream=stream, stop="world"),
        engines,
        lambda submitted: submitted.extend(text.encode("Hello world")),
    )
    assert engines.submitted[0].aborts == [0]
    assert call.ended
    assert call.answer.count(b"world") == 1
    assert b'"finish_reason":"stop","stop_reason":"world"' in call.answer


async def test_an_answer_that_ended_aborts_nothing(app: Front, engines: FakeEngines, text: ChatTokenizer) -> None:
    await play(app, ask(), engines, say(text, "Hi"))
    assert not engines.submitted[0].aborted


@pytest.mark.parametrize("stream", [True, False])
async def test_a_server_that_stops_ends_its_answers_with_an_error(
    app: Front, engines: FakeEngines, drain: Drain, text: ChatTokenizer, *, stream: bool
) -> None:
    def script(submitted: Submitted) -> None:
        submitted.extend(text.encode("Hello"))
        drain.cut()

    call = await play(app, ask(stream=stream), engines, script)
    error = sse_data(call.answer)[-2]["error"] if stream else call.error
    assert error["code"] == "service_unavailable"
    assert "shutting down" in error["message"]
    assert engines.submitted[0].aborted


async def test_what_a_slow_client_has_missed_comes_in_one_write(
    app: Front, engines: FakeEngines, text: ChatTokenizer
) -> None:
    hold = trio.Event()
    call = ask(stream=True)
    call.pace = hold.wait
    ids = text.encode("Hello world, how are you?")

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call.run, app)
            await wait_all_tasks_blocked()
            for token in ids:
                engines.submitted[0].extend([token])
                await wait_all_tasks_blocked()
            hold.set()
            engines.submitted[0].finish(End("stop"))
    assert len(ids) > 5
    assert len(call.messages) <= 5
    events = sse_data(call.answer)
    content = "".join(event["choices"][0]["delta"].get("content", "") for event in events[:-1])
    assert content == "Hello world, how are you?"


# models


async def test_health_shows_how_a_model_s_cache_is_used(app: Front, engines: FakeEngines) -> None:
    engines.models["m"] = evolve(engines.models["m"], kv=KvCache(64, 10, 30, 900, 512, 4))
    for path in ("/health", "/models"):
        (model,) = orjson.loads((await Call(scope_of("GET", path)).run(app)).answer)["models"]
        assert model["kv"] == {
            "blocks_total": 64,
            "blocks_free": 10,
            "blocks_cached": 30,
            "prefix_queries": 900,
            "prefix_hits": 512,
            "preemptions": 4,
        }


async def test_load_takes_a_model_a_source_and_a_device(app: Front, engines: FakeEngines, llama: Path) -> None:
    body = {"model": "new", "source": f"path:{llama}", "device": "cpu"}
    call = await Call.post("/models/load", orjson.dumps(body)).run(app)
    assert call.status == 200
    report = orjson.loads(call.answer)
    assert (report["id"], report["status"]) == ("new", "loaded")
    assert engines.loads[-1] == ("new", str(llama), "cpu")


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/models/load", b"", 400, "invalid_json"),
        ("/models/load", b"{}", 400, "missing_required_parameter"),
        ("/models/load", b'{"model": "m", "source": 7}', 400, "invalid_value"),
        ("/models/load", b'{"model": "ghost"}', 404, "model_not_found"),
        ("/models/load", b'{"model": "x", "source": "path:/nowhere"}', 400, "invalid_value"),
        ("/models/unload", b"{}", 400, "missing_required_parameter"),
        ("/models/unload", b'{"model": "ghost"}', 404, "model_not_found"),
    ],
)
async def test_loads_and_unloads_that_are_refused(app: Front, path: str, body: bytes, status: int, code: str) -> None:
    call = await Call.post(path, body).run(app)
    assert (call.status, call.error["code"]) == (status, code)


async def test_a_load_that_fails_is_a_502_with_the_reason(app: Front, engines: FakeEngines) -> None:
    await Call.post("/models/unload", b'{"model": "m"}').run(app)
    engines.broken["m"] = "SafetensorError: header too large"
    call = await Call.post("/models/load", b'{"model": "m"}').run(app)
    assert (call.status, call.error["code"]) == (502, "upstream_error")
    assert "header too large" in call.error["message"]


async def test_unload(app: Front, engines: FakeEngines) -> None:
    call = await Call.post("/models/unload", b'{"model": "m"}').run(app)
    assert (call.status, orjson.loads(call.answer)["status"]) == (200, "unloaded")
    assert engines.models == {}
