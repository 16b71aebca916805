"""A real neuron, as `helexa neuron` runs it, over loopback HTTP: one process with one engine worker for the module."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from attrs import evolve
from checkpoints import LLAMA_CONTEXT, QWEN_CONTEXT
from harness import free_port, gone_all, sse_events, wait_until

from helexa.text import ChatTokenizer
from helexa.wire import fleet

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hello, how are you?"}]
ENDLESS = {"temperature": 0, "max_tokens": 4000}


@pytest.fixture(scope="module")
def port(qwen: Path, llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a neuron that has loaded "q" and failed to load "broken"."""
    directory, port = tmp_path_factory.mktemp("neuron"), free_port()
    broken = shutil.copytree(llama, directory / "broken")
    (broken / "model.safetensors").write_bytes(b"\0" * 64)
    topology = directory / "topology.toml"
    sources = {"q": qwen, "l": llama, "broken": broken}
    models = "".join(f'[[models]]\nid = "{name}"\nsource = "path:{path}"\n' for name, path in sources.items())
    neuron = f'[[neurons]]\nname = "n"\nlisten = "127.0.0.1:{port}"\ndevices = ["cpu"]\npreload = ["broken", "q"]\n'
    neuron += 'memory = "64MiB"\n'
    topology.write_text(neuron + models)
    command = [sys.executable, "-m", "helexa", "neuron", str(topology), "--name", "n"]
    environment = {key: value for key, value in os.environ.items() if key != "HELEXA_SECRET"}
    process = subprocess.Popen(command, env=environment)
    try:
        wait_until(lambda: activation(port) == "ready", 90, "a neuron that is ready")
        yield port
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        gone_all(family, 5)
    finally:
        process.kill()
        process.wait()


def activation(port: int) -> str | None:
    try:
        state: str = httpx.get(f"http://127.0.0.1:{port}/health").json()["activation"]["state"]
    except httpx.TransportError:
        return None
    return state


@pytest.fixture(scope="module")
def http(port: int) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def text(qwen: Path) -> ChatTokenizer:
    return ChatTokenizer.load(qwen)


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "q", "messages": HELLO, "temperature": 0, "max_tokens": 20, **fields}


def chat(http: httpx.Client, **fields: Any) -> dict[str, Any]:
    response = http.post(CHAT, json=body(**fields))
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def content(http: httpx.Client, **fields: Any) -> str:
    found: str = chat(http, **fields)["choices"][0]["message"]["content"]
    return found


def running(http: httpx.Client) -> int:
    health = fleet.from_json(http.get("/health").content, fleet.Health)
    return sum(model.running + model.waiting for model in health.models)


def test_start_up_has_gone_as_far_as_it_could(http: httpx.Client) -> None:
    found = fleet.from_json(http.get("/health").content, fleet.Health).activation
    assert (found.state, found.pending, found.in_progress, found.completed) == ("ready", (), None, ("q",))
    (failure,) = found.failed
    assert failure.model == "broken"
    assert "is no safetensors file" in failure.error


def test_health(http: httpx.Client) -> None:
    first, second = (fleet.from_json(http.get("/health").content, fleet.Health) for _ in range(2))
    assert first.status == "ok"
    assert 0 < first.uptime_seconds <= second.uptime_seconds
    (device,) = first.devices
    assert device.name == "cpu"
    assert {model.id: model.status for model in first.models} == {"broken": "failed", "q": "loaded"}


def test_models(http: httpx.Client) -> None:
    models = {model.id: model for model in fleet.from_json(http.get("/models").content, fleet.ModelList).models}
    assert evolve(models["q"], kv=None, steps=None) == fleet.ModelReport(
        "q",
        "loaded",
        "cpu",
        models["q"].memory_mb,
        fleet.Limit(QWEN_CONTEXT, QWEN_CONTEXT - 1, QWEN_CONTEXT - 1),
        ("chat", "tool_call", "reasoning"),
        kv_mb=models["q"].kv_mb,
        capacity=models["q"].capacity,
    )
    assert min(models["q"].memory_mb, models["q"].kv_mb, models["q"].capacity) > 0
    assert models["q"].kv_mb <= 64 // 4, "a share of what the topology allows"
    assert "is no safetensors file" in (models["broken"].error or "")


def kv(http: httpx.Client) -> fleet.KvCache | None:
    health = fleet.from_json(http.get("/health").content, fleet.Health)
    return next(model.kv for model in health.models if model.id == "q")


def test_health_tells_of_the_cache_of_an_idle_engine(http: httpx.Client) -> None:
    wait_until(lambda: kv(http), 10, "figures of the KV cache")

    def idle() -> bool:
        found = kv(http)
        return found is not None and found.blocks_total == found.blocks_free + found.blocks_cached > 0

    wait_until(idle, 10, "no block in use")


def test_discovery(http: httpx.Client) -> None:
    found = fleet.from_json(http.get("/discovery").content, fleet.Discovery)
    assert found.hostname == socket.gethostname()
    assert found.devices
    assert (found.driver is None) == bool(found.unavailable_reason)


def test_version(http: httpx.Client) -> None:
    import torch

    found = fleet.from_json(http.get("/version").content, fleet.Version)
    assert (found.torch, found.cuda) == (torch.__version__, torch.version.cuda)
    assert found.python == sys.version.split()[0]
    assert found == fleet.from_json(http.get("/version").content, fleet.Version)


def test_actors(http: httpx.Client) -> None:
    (actor,) = fleet.from_json(http.get("/actors").content, tuple[fleet.ActorReport, ...])
    assert (actor.name, actor.state, actor.restarts, actor.last_error) == ("device-worker:cpu", "running", 0, None)


def test_an_answer_has_openai_s_shape_and_exact_usage(http: httpx.Client, text: ChatTokenizer) -> None:
    answer = chat(http)
    assert answer["object"] == "chat.completion"
    assert answer["id"].startswith("chatcmpl-")
    assert answer["model"] == "q"
    (choice,) = answer["choices"]
    assert (choice["index"], choice["finish_reason"], choice["message"]["role"]) == (0, "length", "assistant")
    prompt = len(text.prompt_ids(HELLO))
    usage = answer["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (prompt, 20, prompt + 20)


def stream(http: httpx.Client, **fields: Any) -> tuple[httpx.Response, list[Any]]:
    response = http.post(CHAT, json=body(stream=True, **fields))
    return response, sse_events(response.text)


def test_a_stream_says_what_the_whole_answer_says(http: httpx.Client) -> None:
    response, events = stream(http)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert events[-1] == "[DONE]"
    chunks = [event["choices"][0] for event in events[:-1]]
    assert chunks[0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(chunk["delta"].get("content", "") for chunk in chunks) == content(http)
    assert [chunk["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["length"]
    assert len({(event["id"], event["created"], event["object"], event["model"]) for event in events[:-1]}) == 1


def test_usage_in_a_stream_is_for_who_asks(http: httpx.Client) -> None:
    _, events = stream(http, stream_options={"include_usage": True})
    assert events[-2]["choices"] == []
    assert events[-2]["usage"] == chat(http)["usage"]
    assert not any("usage" in event for event in stream(http)[1][:-1])


def test_max_tokens_is_exact_under_both_names(http: httpx.Client) -> None:
    for fields in ({"max_tokens": 3}, {"max_tokens": None, "max_completion_tokens": 7}):
        answer = chat(http, **fields)
        assert answer["usage"]["completion_tokens"] == (fields["max_tokens"] or 7)
        assert answer["choices"][0]["finish_reason"] == "length"


def test_a_stop_string_cuts_the_answer(http: httpx.Client) -> None:
    whole = content(http, max_tokens=40)
    stop = whole[10:13]
    answer = chat(http, max_tokens=40, stop=[stop])
    assert answer["choices"][0]["message"]["content"] == whole[: whole.index(stop)]
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] < 40
    _, events = stream(http, max_tokens=40, stop=stop)
    streamed = "".join(event["choices"][0]["delta"].get("content", "") for event in events[:-1])
    assert streamed == whole[: whole.index(stop)]


def test_the_end_token_is_in_the_count(http: httpx.Client) -> None:
    """At a high temperature the random model ends by chance; the seed says when."""
    for seed in range(20):
        answer = chat(http, temperature=2, seed=seed, max_tokens=300)
        if answer["choices"][0]["finish_reason"] == "stop":
            break
    count = answer["usage"]["completion_tokens"]
    assert 1 <= count <= 300
    shorter = chat(http, temperature=2, seed=seed, max_tokens=count - 1)
    assert shorter["choices"][0]["finish_reason"] == "length"
    assert shorter["choices"][0]["message"]["content"] == answer["choices"][0]["message"]["content"]


def test_a_seed_makes_a_warm_answer_reproducible_in_any_company(http: httpx.Client) -> None:
    warm = {"temperature": 1.5, "top_p": 0.95, "max_tokens": 30}
    alone = [content(http, seed=seed, **warm) for seed in range(4)]
    assert len(set(alone)) == 4
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda seed: content(http, seed=seed % 4, **warm), range(8)))
    assert together == alone * 2


def test_choices_are_what_their_seeds_bring_alone_and_pay_for_the_prompt_once(http: httpx.Client) -> None:
    warm = {"temperature": 1.5, "max_tokens": 20}
    together = chat(http, n=3, seed=5, **warm)
    alone = [chat(http, seed=seed, **warm) for seed in (5, 6, 7)]
    assert [choice["message"] for choice in together["choices"]] == [each["choices"][0]["message"] for each in alone]
    assert together["usage"]["prompt_tokens"] == alone[0]["usage"]["prompt_tokens"]
    assert together["usage"]["completion_tokens"] == sum(each["usage"]["completion_tokens"] for each in alone)


def test_the_greedy_token_is_the_likeliest_one(http: httpx.Client) -> None:
    (choice,) = chat(http, logprobs=True, top_logprobs=2)["choices"]
    entries = choice["logprobs"]["content"]
    assert len(entries) == 20
    for entry in entries:
        first, second = entry["top_logprobs"]
        assert (first["bytes"], first["logprob"]) == (entry["bytes"], entry["logprob"])
        assert second["logprob"] <= first["logprob"] <= 0


def no_thinking(text: ChatTokenizer) -> dict[str, int]:
    """A model of noise begins to reason by chance, which grammars allow, and never ends it."""
    return {str(token): -100 for token in text.encode("\n<think>")}


def test_a_grammar_is_obeyed_by_a_model_that_knows_nothing_of_it(http: httpx.Client, text: ChatTokenizer) -> None:
    (choice,) = chat(http, structured_outputs={"regex": "(ab|ba){2}!"}, logit_bias=no_thinking(text))["choices"]
    assert re.fullmatch("(ab|ba){2}!", choice["message"]["content"])
    assert choice["finish_reason"] == "stop"


def test_a_stop_string_ends_one_choice_and_leaves_the_engine_free(http: httpx.Client) -> None:
    warm = {"temperature": 1.5, "seed": 5, "n": 2, "max_tokens": 30}
    whole = [choice["message"]["content"] for choice in chat(http, **warm)["choices"]]
    stop = next(whole[0][at : at + 3] for at in range(len(whole[0])) if whole[0][at : at + 3] not in whole[1])
    found = chat(http, stop=stop, **warm)["choices"]
    assert found[0]["message"]["content"] == whole[0][: whole[0].index(stop)]
    assert found[1]["message"]["content"] == whole[1]
    wait_until(lambda: running(http) == 0, 5, "no running sequence")


def test_thinking_that_the_template_opens_is_reasoning(http: httpx.Client) -> None:
    answer = chat(http, chat_template_kwargs={"enable_thinking": True})
    message, usage = answer["choices"][0]["message"], answer["usage"]
    assert message["content"] == ""
    assert message["reasoning_content"]
    assert usage["completion_tokens_details"]["reasoning_tokens"] == usage["completion_tokens"] == 20


def test_tools_are_part_of_the_prompt_unless_none_may_be_called(http: httpx.Client) -> None:
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
    plain, shown, hidden = (
        chat(http, **fields)["usage"]["prompt_tokens"]
        for fields in ({}, {"tools": tools}, {"tools": tools, "tool_choice": "none"})
    )
    assert plain == hidden < shown


def test_a_model_can_be_loaded_used_and_unloaded(http: httpx.Client) -> None:
    assert http.post(CHAT, json=body(model="l")).status_code == 404
    report = fleet.from_json(http.post("/models/load", json={"model": "l"}).content, fleet.ModelReport)
    assert (report.status, report.limit) == ("loaded", fleet.Limit(LLAMA_CONTEXT, LLAMA_CONTEXT - 1, LLAMA_CONTEXT - 1))
    assert content(http, model="l", max_tokens=5)
    refused = http.post(CHAT, json=body(model="l", messages=[{"role": "user", "content": "x " * 100}]))
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert str(LLAMA_CONTEXT) in refused.json()["error"]["message"]
    answer = chat(http, model="l", max_tokens=None)
    assert answer["usage"]["total_tokens"] == LLAMA_CONTEXT
    assert http.post("/models/unload", json={"model": "l"}).json()["status"] == "unloaded"
    assert http.post(CHAT, json=body(model="l")).status_code == 404


def test_loads_that_cannot_be(http: httpx.Client) -> None:
    for asked, status, code in [
        ({"model": "ghost"}, 404, "model_not_found"),
        ({"model": "broken"}, 502, "upstream_error"),
        ({"model": "l", "device": "cuda:7"}, 400, "invalid_value"),
        ({"model": "x", "source": "path:/nowhere"}, 400, "invalid_value"),
    ]:
        refused = http.post("/models/load", json=asked)
        assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
    refused = http.post(CHAT, json=body(model="broken"))
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")


def test_a_client_gone_in_the_middle_of_a_stream_frees_the_engine(http: httpx.Client) -> None:
    with http.stream("POST", CHAT, json=body(stream=True, **ENDLESS)) as response:
        pieces = response.iter_bytes()  # dropped, it would close the connection
        next(pieces)
        wait_until(lambda: running(http) == 1, 10, "a running sequence")
    wait_until(lambda: running(http) == 0, 5, "no running sequence")


def test_a_client_gone_before_its_answer_frees_the_engine(http: httpx.Client, port: int) -> None:
    data = json.dumps(body(**ENDLESS)).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(data)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(head.encode() + data)
        wait_until(lambda: running(http) == 1, 10, "a running sequence")
    wait_until(lambda: running(http) == 0, 5, "no running sequence")


def test_requests_beside_each_other_get_what_they_get_alone(http: httpx.Client) -> None:
    messages = [[{"role": "user", "content": word * n}] for n, word in enumerate(["Hello ", "quick ", "fox "] * 4, 1)]
    alone = [content(http, messages=each, max_tokens=12) for each in messages]
    with ThreadPoolExecutor(len(messages)) as threads:
        together = list(threads.map(lambda each: content(http, messages=each, max_tokens=12), messages))
    assert together == alone


def test_a_text_is_continued_as_its_tokens_are(http: httpx.Client, text: ChatTokenizer) -> None:
    fields = {"model": "q", "temperature": 0, "max_tokens": 12}
    ids = text.encode("Hello, how")
    given = http.post("/v1/completions", json={**fields, "prompt": ["Hello, how", "quick"]}).json()["choices"]
    (other,) = http.post("/v1/completions", json={**fields, "prompt": ids}).json()["choices"]
    assert [choice["index"] for choice in given] == [0, 1]
    assert given[0]["text"] == other["text"] != given[1]["text"]
    response = http.post("/v1/completions", json={**fields, "prompt": ["Hello, how", "quick"], "stream": True})
    streamed = {0: "", 1: ""}
    for event in sse_events(response.text)[:-1]:
        assert isinstance(event, dict)
        for choice in event["choices"]:
            streamed[choice["index"]] += choice["text"]
    assert streamed == {choice["index"]: choice["text"] for choice in given}


def test_an_estimate_is_what_a_load_then_holds(http: httpx.Client) -> None:
    (found,) = http.post("/models/estimate", json={"models": [{"model": "q"}]}).json()["models"]
    models = {model.id: model for model in fleet.from_json(http.get("/models").content, fleet.ModelList).models}
    assert found["weights_mb"] == models["q"].memory_mb
    assert 0 < found["kv_mb"] <= models["q"].kv_mb


def test_a_chat_s_tokens_can_be_counted_beforehand(http: httpx.Client) -> None:
    found = http.post("/tokenize", json={"model": "q", "messages": HELLO}).json()
    assert found["count"] == len(found["tokens"]) == chat(http)["usage"]["prompt_tokens"]
    assert found["max_model_len"] == QWEN_CONTEXT


def test_a_restarted_device_answers_as_before(http: httpx.Client) -> None:
    before = content(http)
    with http.stream("POST", CHAT, json=body(stream=True, **ENDLESS)) as response:
        pieces = response.iter_bytes()
        next(pieces)
        refused = http.post("/devices/cpu/restart")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "device_busy")
    wait_until(lambda: running(http) == 0, 5, "no running sequence")
    restarted = fleet.from_json(http.post("/devices/cpu/restart").content, fleet.ModelList).models
    assert {model.id: model.status for model in restarted} == {"broken": "failed", "q": "loaded"}
    assert content(http) == before


def test_a_foreign_host_name_is_refused(http: httpx.Client) -> None:
    assert http.get("/models", headers={"host": "evil.example"}).status_code == 403
