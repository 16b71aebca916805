"""Classes of holes that servers of this kind have had, on the neuron's side; see test_hardening for the gateway's.

Code and pickles in a model's directory are in test_engine_loading, with a repository that is poisoned all over; what a
template may cost in test_text_sandbox; what a grammar may cost in test_grammar.
"""

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import orjson
import pytest
import trio
from checkpoints import TEMPLATE, make_llama
from engine_port import FakeEngines
from http_parts import Call, scope_of
from hypothesis import given, settings
from hypothesis import strategies as st
from neurons import answer, app_of, ask, complete, play, say

from config import Address
from helexa.engine.weights.loading import LoadError, load_model
from helexa.neuron.guard import allowed_listen
from helexa.neuron.service import Service
from helexa.text import ChatTokenizer, sandbox
from helexa.web.front import Front
from helexa.web.server import Drain
from helexa.wire import errors
from helexa.wire.fleet import LoadRequest

SECRET = "s3cret"


async def neuron_with(template: str, qwen: Path, directory: Path, engines: FakeEngines) -> Front:
    """A neuron whose one model has this chat template."""
    shutil.copytree(qwen, directory)
    (directory / "chat_template.jinja").write_text(template)
    service = Service(engines, {"m": f"path:{directory}"}.get)
    await service.load(LoadRequest("m"))
    return app_of(service, Drain())


@pytest.fixture
def engines() -> FakeEngines:
    """Engines with room for tools in the prompt."""
    return FakeEngines(context=4000)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "SECONDS", 0.05)


@pytest.mark.usefixtures("quick")
async def test_a_template_that_loops_costs_one_request_and_not_the_neuron(
    qwen: Path, tmp_path: Path, engines: FakeEngines, text: ChatTokenizer
) -> None:
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    template = "{% if 'loop' in messages[-1].content %}" + loop + "{% endif %}" + TEMPLATE
    app = await neuron_with(template, qwen, tmp_path / "m", engines)
    for padding in ("", "x" * 20_000):  # on the event loop, and beside it
        call = await ask(messages=[{"role": "user", "content": "loop" + padding}]).run(app)
        assert (call.status, call.error["code"], call.error["param"]) == (400, "invalid_value", "messages")
        assert "it takes more than 0.05 s" in call.error["message"]
    assert answer(await play(app, ask(), engines, say(text, "Hi")))["choices"][0]["message"]["content"] == "Hi"


@pytest.mark.usefixtures("quick")
async def test_a_template_that_blows_up_costs_one_request_and_not_the_neuron(
    qwen: Path, tmp_path: Path, engines: FakeEngines, text: ChatTokenizer
) -> None:
    template = "{% if times is defined %}{{ 'a' * times }}{% endif %}" + TEMPLATE
    app = await neuron_with(template, qwen, tmp_path / "m", engines)
    call = await ask(chat_template_kwargs={"times": 10**12}).run(app)
    assert (call.status, call.error["code"]) == (400, "invalid_value")
    assert answer(await play(app, ask(), engines, say(text, "Hi")))["choices"][0]["message"]["content"] == "Hi"


TEMPLATES = ("chat_template", "tokenize", "tokenizer_kwargs", "return_tensors", "continue_final_message", "messages")


@pytest.mark.parametrize("name", TEMPLATES)
async def test_a_client_brings_no_template_and_no_order_to_the_renderer(app: Front, name: str) -> None:
    call = await ask(chat_template_kwargs={name: "{{ 7 * 7 }}"}).run(app)
    assert (call.status, call.error["code"]) == (400, "invalid_value")


async def test_a_template_beside_the_messages_changes_nothing(
    app: Front, engines: FakeEngines, text: ChatTokenizer
) -> None:
    for fields in ({}, {"chat_template": "{{ 7 * 7 }}"}):
        await play(app, ask(**fields), engines, say(text, "Hi"))
    plain, given = engines.submitted
    assert plain.prompt_ids == given.prompt_ids


def forced(parameters: Any) -> dict[str, Any]:
    return {
        "tools": [{"type": "function", "function": {"name": "f", "parameters": parameters}}],
        "tool_choice": "required",
    }


DEEP: dict[str, Any] = {"type": "object"}
for _ in range(60):
    DEEP = {"type": "object", "properties": {"a": DEEP}}
BLOW_UPS = [
    {"structured_outputs": {"regex": "((a{1,1000}){1,1000}){1,1000}"}},
    {"structured_outputs": {"regex": "(" * 5000 + ")" * 5000}},
    {"structured_outputs": {"regex": "(a|a)*" * 3000 + "b"}},
    {"structured_outputs": {"grammar": "start: " + "(" * 3000 + '"a"' + ")" * 3000}},
    {"structured_outputs": {"grammar": 'start: start start | "a"'}},
    {"structured_outputs": {"json": {"type": "string", "pattern": "^(([a-z])+.)+[A-Z]([a-z])+$" * 200}}},
    {"structured_outputs": {"json": {"type": "array", "maxItems": 10**18, "minItems": 10**18}}},
    {"structured_outputs": {"json": {"type": "string", "minLength": 10**18}}},
    {"structured_outputs": {"choice": ["x" * 1000] * 1000}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": DEEP}}},
    forced({"$ref": "#"}),
    forced({"type": ["sculpture"]}),
    forced({"properties": {"a": {"pattern": "(a*)*" * 1000}}}),
    forced(7),
]


async def busy(app: Front, engines: FakeEngines, call: Call) -> Call:
    """Make a call of an engine that takes nothing: what gets as far as there is a 503."""

    def refuse(_: object) -> None:
        raise errors.unavailable("It is full.", 1)

    engines.on_submit = refuse
    return await call.run(app)


@pytest.mark.parametrize("fields", BLOW_UPS, ids=lambda each: str(each)[:60])
async def test_a_structure_made_to_blow_up_is_refused_or_cheap(
    app: Front, engines: FakeEngines, fields: dict[str, Any]
) -> None:
    with trio.fail_after(40):
        call = await busy(app, engines, ask(**fields))
    assert call.status in (400, 503), call.answer
    assert (await busy(app, engines, ask())).status == 503  # and the next one is served as if nothing had been


CODE = "__import__('os').system('touch {}')"


async def test_what_a_model_writes_as_a_call_is_text_and_never_run(
    app: Front, engines: FakeEngines, text: ChatTokenizer, tmp_path: Path
) -> None:
    code = CODE.format(tmp_path / "ran")
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    for words in (code, f"<tool_call>{code}</tool_call>", f"<tool_call>f({code})</tool_call>", f"[f(a={code})]"):
        call = await play(app, ask(tools=[tool]), engines, say(text, words))
        assert call.status == 200
    assert not (tmp_path / "ran").exists()


TENSORS = [
    {"prompt_embeds": "AAAA"},
    {"prompt": {"embeds": "AAAA"}},
    {"prompt": None, "prompt_embeds": ["AAAA"]},
    {"prompt": [1.5, 2.5]},
    {"prompt": [[-1]]},
    {"prompt": [10**12]},
]


@pytest.mark.parametrize("fields", TENSORS, ids=str)
async def test_no_client_brings_a_tensor(app: Front, engines: FakeEngines, fields: dict[str, Any]) -> None:
    call = await busy(app, engines, complete(**fields))
    accepted = "prompt" not in fields  # passed over, and never read
    assert call.status == (503 if accepted else 400), call.answer


@pytest.mark.parametrize("part", ["image_embeds", "image_url", "input_audio", "video_url", "audio_url", "file"])
@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x", "file:///etc/passwd", "data:;base64,AAAA"])
async def test_a_neuron_fetches_nothing_that_a_message_names(
    app: Front, engines: FakeEngines, part: str, url: str
) -> None:
    content = [{"type": part, part: {"url": url, "data": url}}]
    call = await busy(app, engines, ask(messages=[{"role": "user", "content": content}]))
    assert call.status == 400
    assert engines.submitted == []


@pytest.mark.parametrize("fields", [{"n": 10**9}, {"n": 129}, {"n": -1}, {"n": 0}, {"best_of": 10**9}, {"n": "9"}])
async def test_so_many_answers_are_asked_for_and_no_more(
    app: Front, engines: FakeEngines, fields: dict[str, Any]
) -> None:
    for call in (ask(**fields), complete(**fields)):
        done = await busy(app, engines, call)
        assert done.status in (400, 503)
        assert done.status == 400 or max(each.sampling.n for each in engines.submitted) <= 1


async def test_prompts_times_answers_have_a_limit(app: Front, engines: FakeEngines) -> None:
    call = await busy(app, engines, complete(prompt=["a"] * 100, n=100))
    assert (call.status, call.error["param"]) == (400, "n")


TRAVERSALS = ("../../etc", "/etc", "..", "a/../../b", "a\0b", "~root", "org/../../../etc", "%2e%2e/x", "org//m", ".")


@pytest.mark.parametrize("model", TRAVERSALS)
@pytest.mark.parametrize("source", ["huggingface", "helexa", None])
async def test_a_path_as_model_loads_nothing(app: Front, engines: FakeEngines, model: str, source: str | None) -> None:
    loads = list(engines.loads)
    call = Call(scope_of("POST", "/models/load"), orjson.dumps({"model": model, "source": source}))
    assert (await call.run(app)).status in (400, 404, 502), call.answer
    assert engines.loads == loads


@pytest.mark.parametrize("source", ["path:/etc", "path:", "path:/nowhere", "path:/proc/self", "file:///etc", "/etc"])
async def test_a_source_that_is_no_model_tells_nothing_of_what_it_is(app: Front, source: str) -> None:
    call = Call(scope_of("POST", "/models/load"), orjson.dumps({"model": "x", "source": source}))
    done = await call.run(app)
    assert done.status == 400
    assert b"root" not in done.answer


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("weights") / "llama")


def broken(header: dict[str, Any]) -> list[dict[str, Any]]:
    """The same header with one lie in each."""
    name, entry = next((name, entry) for name, entry in header.items() if name != "__metadata__")
    first, last = entry["data_offsets"]
    lies: list[dict[str, Any]] = [
        {"data_offsets": [last, first]},
        {"data_offsets": [first, last + 10**12]},
        {"data_offsets": [-8, last]},
        {"data_offsets": [first, 2**64]},
        {"shape": [2**40, 2**40]},
        {"shape": [-1, *entry["shape"][1:]]},
        {"shape": []},
        {"shape": ["x"]},
        {"dtype": "F99"},
        {"dtype": "F64"},
        {"dtype": None},
    ]
    return [{**header, name: {**entry, **lie}} for lie in lies]


def test_weights_whose_header_lies_are_refused_and_nothing_else_happens(weights: Path, tmp_path: Path) -> None:
    data = (weights / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header, tensors = json.loads(data[8 : 8 + length]), data[8 + length :]
    for number, lie in enumerate(broken(header)):
        copy = shutil.copytree(weights, tmp_path / str(number))
        written = json.dumps(lie).encode()
        (copy / "model.safetensors").write_bytes(struct.pack("<Q", len(written)) + written + tensors)
        with pytest.raises(LoadError):
            load_model(str(copy), "cpu")
    for number, wrong in enumerate((data[: len(data) // 2], data[:4], b"", struct.pack("<Q", 2**63) + data[8:])):
        copy = shutil.copytree(weights, tmp_path / f"cut{number}")
        (copy / "model.safetensors").write_bytes(wrong)
        with pytest.raises(LoadError):
            load_model(str(copy), "cpu")


@given(st.binary(max_size=64), st.sampled_from([b"authorization", b"x-helexa-tenant", b"x-request-id", b"host"]))
@settings(max_examples=60)
def test_no_header_gets_past_a_neurons_guard(value: bytes, name: bytes) -> None:
    app = app_of(Service(FakeEngines(), {}.get), Drain(), SECRET)

    async def run() -> int:
        return (await Call(scope_of("GET", "/models", [(name, value)])).run(app)).status

    assert trio.run(run) == 401


async def test_two_authorizations_are_as_good_as_the_first(engines: FakeEngines) -> None:
    """Proxies in between may look at another one than we do."""
    app = app_of(Service(engines, {}.get), Drain(), SECRET)
    good, bad = (b"authorization", b"Bearer " + SECRET.encode()), (b"authorization", b"Bearer no")
    assert (await Call(scope_of("GET", "/models", [bad, good])).run(app)).status == 401
    assert (await Call(scope_of("GET", "/models", [good])).run(app)).status == 200


async def test_a_neuron_without_a_secret_listens_on_loopback_alone() -> None:
    assert allowed_listen(Address("0.0.0.0", 13131), None) == Address("127.0.0.1", 13131)
    assert allowed_listen(Address("0.0.0.0", 13131), "") == Address("127.0.0.1", 13131)
    assert allowed_listen(Address("0.0.0.0", 13131), SECRET) == Address("0.0.0.0", 13131)
    assert allowed_listen(Address("127.0.0.1.evil.example", 1), None).host == "127.0.0.1"
