"""What a prompt would be as token ids, as a neuron tells it."""

import json
import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest
from engine_port import FakeEngines
from http_parts import Call
from neurons import HELLO, answer, app_of, ask, play, say

from helexa.neuron.service import Service
from helexa.text import ChatTokenizer
from helexa.web.front import Front
from helexa.web.server import Drain

TOOLS = [{"type": "function", "function": {"name": "add"}}]


@pytest.fixture
def bos(qwen: Path, tmp_path: Path) -> Path:
    """A model whose tokenizer begins every text with a token of its own."""
    copy = shutil.copytree(qwen, tmp_path / "bos")
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    token = {"id": "<|im_start|>", "type_id": 0}
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": token}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<|im_start|>": {"id": "<|im_start|>", "ids": [0], "tokens": ["<|im_start|>"]}},
    }
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    return copy


async def tokenize(app: Front, **fields: Any) -> Call:
    return await Call.post("/tokenize", orjson.dumps({"model": "m", **fields})).run(app)


async def ids(app: Front, **fields: Any) -> list[int]:
    found = answer(await tokenize(app, **fields))
    assert found.keys() == {"count", "max_model_len", "tokens"}
    assert (found["count"], found["max_model_len"]) == (len(found["tokens"]), 100)
    tokens: list[int] = found["tokens"]
    return tokens


async def test_messages_are_tokenized_as_a_chat_request_s_are(
    app: Front, engines: FakeEngines, text: ChatTokenizer
) -> None:
    more: dict[str, Any] = {"tools": TOOLS, "chat_template_kwargs": {"enable_thinking": True}}
    await play(app, ask(**more), engines, say(text, "Hi"))
    found = await ids(app, messages=HELLO, **more)
    assert "add" in "".join(text.decode_stream().push(found))
    assert found == engines.submitted[0].prompt_ids
    assert len(found) > len(await ids(app, messages=HELLO))


async def test_fields_that_only_an_answer_needs_are_passed_over(app: Front) -> None:
    assert await ids(app, messages=HELLO, stream=True, max_tokens=5, n=3) == await ids(app, messages=HELLO)


async def test_tools_that_may_not_be_called_are_not_counted(app: Front) -> None:
    assert await ids(app, messages=HELLO, tools=TOOLS, tool_choice="none") == await ids(app, messages=HELLO)


async def test_the_header_of_the_answer_may_be_left_out(app: Front, text: ChatTokenizer) -> None:
    found = await ids(app, messages=HELLO, add_generation_prompt=False)
    assert found == text.prompt_ids(HELLO, add_generation_prompt=False)
    assert found == (await ids(app, messages=HELLO))[: len(found)]


@pytest.mark.parametrize("prompt", ["Hello world", "", "naïve 😀 <|im_end|>", "x " * 20_000])
async def test_a_prompt_is_tokenized_as_it_is(app: Front, text: ChatTokenizer, prompt: str) -> None:
    assert await ids(app, prompt=prompt) == text.encode(prompt)


async def test_special_tokens_are_added_unless_they_are_not_wanted(engines: FakeEngines, bos: Path) -> None:
    service = Service(engines, {"m": f"path:{bos}"}.get)
    await Call.post("/models/load", b'{"model": "m"}').run(app := app_of(service, Drain()))
    with_bos, without = await ids(app, prompt="Hello"), await ids(app, prompt="Hello", add_special_tokens=False)
    assert with_bos[1:] == without
    assert len(with_bos) == len(without) + 1


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({}, 400, "missing_required_parameter", "messages"),
        ({"model": None, "prompt": "x"}, 400, "missing_required_parameter", "model"),
        ({"model": "ghost", "prompt": "x"}, 404, "model_not_found", "model"),
        ({"prompt": ["x"]}, 400, "invalid_value", "prompt"),
        ({"prompt": "x", "messages": HELLO}, 400, "invalid_value", "prompt"),
        ({"prompt": "x", "add_special_tokens": 1}, 400, "invalid_value", "add_special_tokens"),
        ({"messages": []}, 400, "invalid_value", "messages"),
        ({"messages": HELLO, "add_generation_prompt": "no"}, 400, "invalid_value", "add_generation_prompt"),
        ({"messages": HELLO, "chat_template_kwargs": {"chat_template": "x"}}, 400, "invalid_value", "messages"),
    ],
)
async def test_what_is_refused(app: Front, fields: dict[str, Any], status: int, code: str, param: str) -> None:
    call = await tokenize(app, **fields)
    assert (call.status, call.error["code"], call.error["param"]) == (status, code, param)


async def test_half_a_surrogate_pair_is_told_of_the_prompt(app: Front) -> None:
    call = await Call.post("/tokenize", b'{"model": "m", "prompt": "\\ud83d"}').run(app)
    assert call.status == 400


async def test_a_model_that_recovers_still_counts(app: Front, engines: FakeEngines) -> None:
    engines.set("m", "recovering")
    assert (await tokenize(app, prompt="Hello")).status == 200


async def test_a_model_that_was_never_loaded_is_told_as_what_it_is(app: Front, engines: FakeEngines) -> None:
    engines.set("late", "loading")
    call = await tokenize(app, model="late", prompt="Hello")
    assert (call.status, call.headers[b"retry-after"]) == (503, b"2")
