"""What models would need: from real files, from a cache of Hugging Face's, and from a network that does not answer."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
import trio
from architectures import make_module
from attrs import evolve
from checkpoints import LLAMA_CONTEXT, QWEN_CONTEXT
from gguf_files import file_bytes, write_model
from http_parts import Call
from hubs import Hub, Repository, contents, serving_hub

from helexa import tiny
from helexa.engine.memory import MIB
from helexa.engine.weights import files
from helexa.engine.weights.footprint import Target
from helexa.neuron import estimates
from helexa.neuron.sources.listing import Listing, RemoteFile
from helexa.web.front import Front
from helexa.wire.fleet import DeviceInfo, Discovery, Estimate, EstimateList, LoadRequest, Processor, from_json
from helexa.wire.ranks import Share

TOKEN_BYTES = 2 * 2 * (16 + 16) * 4
"""Of the small models: layers, heads, key and value, float32."""
COMMIT = "0" * 40


def mib(size: int) -> int:
    return -(-size // MIB)


async def estimate(model: str, source: str | None) -> Estimate:
    (found,) = (await estimates.estimate([LoadRequest(model, source)], lambda _: None)).models
    return found


@pytest.fixture
def copy(qwen: Path, tmp_path: Path) -> Path:
    """A checkpoint that the test may spoil."""
    return shutil.copytree(qwen, tmp_path / "copy")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A registry that has nothing, in the place of Hugging Face, and an empty cache."""
    monkeypatch.delenv("HELEXA_REGISTRY", raising=False)
    with serving_hub() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        yield hub


def cache(directory: Path, model: str, files_of: Path) -> Path:
    """Put a model into the cache, as a download would."""
    repository = directory / "hub" / f"models--{model.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    shutil.copytree(files_of, snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return snapshot


# from files


async def test_a_directory_is_estimated_by_its_files(qwen: Path) -> None:
    found = await estimate("m", f"path:{qwen}")
    assert (found.weights_mb, found.kv_mb) == (mib(files.weights_bytes(qwen)), mib(QWEN_CONTEXT * TOKEN_BYTES))
    assert 0 < found.workspace_mb < 32
    assert found.error is None


async def test_a_model_that_can_be_spread_tells_what_each_rank_needs(qwen: Path) -> None:
    found = await estimate("m", f"path:{qwen}")
    assert found.share(1) == Share(1, found.weights_mb, found.kv_mb, found.workspace_mb)
    (share,) = found.shares  # of its two key heads, each rank has one
    assert (share.ranks, share.weights_mb, share.kv_mb) == (2, 1, mib(QWEN_CONTEXT * TOKEN_BYTES // 2))
    assert found.share(2) == share
    assert found.share(4) is None


async def test_keys_and_values_of_a_model_that_is_reduced_are_in_half_precision(qwen: Path) -> None:
    (found,) = (await estimates.estimate([LoadRequest("m", f"path:{qwen}", quant="int8")], lambda _: None)).models
    assert found.kv_mb == mib(QWEN_CONTEXT * TOKEN_BYTES // 2)


async def test_a_gpu_needs_more_beside_the_weights(qwen: Path) -> None:
    request = LoadRequest("m", f"path:{qwen}")
    (on_gpu,) = (await estimates.estimate([request], lambda _: None, target=Target("cuda"))).models
    asked_for = [evolve(request, device=device) for device in ("cpu", "cuda:1", "cuda:0+cuda:1")]
    found = await estimates.estimate(asked_for, lambda _: None, target=Target("cuda"))
    assert [each.workspace_mb > 512 for each in found.models] == [False, True, True]
    assert on_gpu == found.models[1]


@pytest.mark.parametrize(
    ("devices", "instructions", "expected"),
    [
        (("cpu",), ("avx2", "avx512f"), Target("cpu", packs=True)),
        (("cpu",), ("avx2",), Target("cpu", packs=False)),
        (("cpu",), ("asimd", "bf16"), Target("cpu", packs=True)),
        (("cuda:0", "cuda:1"), ("avx2",), Target("cuda", packs=False)),
        ((), (), Target("cpu", packs=False)),
    ],
)
def test_what_a_host_is_made_of(devices: Sequence[str], instructions: tuple[str, ...], expected: Target) -> None:
    found = tuple(DeviceInfo(index, name, "", 1) for index, name in enumerate(devices))
    processor = Processor("", None, 1, instructions)
    assert estimates.target_of(Discovery("", "", None, found, processor=processor)) == expected
    assert estimates.target_of(Discovery("", "", None, found)) == evolve(expected, packs=False)


async def test_a_short_context_needs_less(llama: Path) -> None:
    assert (await estimate("m", f"path:{llama}")).kv_mb == mib(LLAMA_CONTEXT * TOKEN_BYTES)


async def test_a_long_context_is_estimated_by_what_is_worth_serving(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 2**20}))
    assert (await estimate("m", f"path:{copy}")).kv_mb == mib(4096 * TOKEN_BYTES)


async def test_half_precision_halves_both(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    del config["layer_types"]
    (copy / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16", "num_hidden_layers": 64}))
    found = await estimate("m", f"path:{copy}")
    assert found.kv_mb == mib(QWEN_CONTEXT * TOKEN_BYTES * 32 // 2)


async def test_the_bundled_model() -> None:
    found = await estimate(tiny.MODEL_ID, "helexa")
    assert found.error is None
    assert found.weights_mb in (8, 10)  # with its output layer laid out anew, where the processor has that
    assert found.kv_mb > 0


async def test_the_catalogue_s_source_fills_in_and_the_order_is_kept(qwen: Path) -> None:
    wanted = [LoadRequest("ghost"), LoadRequest("q"), LoadRequest("gone", "path:/nowhere"), LoadRequest("q")]
    found = await estimates.estimate(wanted, {"q": f"path:{qwen}"}.get)
    assert [each.model for each in found.models] == ["ghost", "q", "gone", "q"]
    assert [each.error is None for each in found.models] == [False, True, False, True]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (None, "it is not in the catalogue, and no source is given."),
        ("path:/nowhere", "'/nowhere' has no config.json; a model directory is expected."),
        ("s3://bucket", "'s3://bucket' is not a source; "),
        ("helexa", f"'m' is not bundled with helexa; '{tiny.MODEL_ID}' is."),
        ("huggingface:m", "'huggingface:m' does not name a repository; "),
    ],
)
async def test_what_cannot_be_loaded_is_told_with_the_reason(source: str | None, reason: str) -> None:
    found = await estimate("m", source)
    assert found == Estimate("m", error=found.error)
    assert (found.error or "").startswith(reason)


async def test_a_directory_that_holds_no_model(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    assert "has a config.json and no safetensors weights" in ((await estimate("m", f"path:{copy}")).error or "")


async def test_a_gguf_file_is_as_large_as_all_its_parts(copy: Path) -> None:
    for part in (1, 2):
        (copy / f"x-0000{part}-of-00002.gguf").write_bytes(b"GGUF" + bytes(3 * MIB))
    found = await estimate("m", f"path:{copy / 'x-00001-of-00002.gguf'}")
    assert found == Estimate("m", 7, mib(QWEN_CONTEXT * TOKEN_BYTES))
    (copy / "config.json").unlink()
    assert await estimate("m", f"path:{copy / 'x-00001-of-00002.gguf'}") == Estimate("m", 7)


async def test_a_gguf_file_tells_what_each_rank_needs(tmp_path: Path) -> None:
    file = write_model(make_module("qwen3"), tmp_path / "m.gguf", lambda _: "Q8_0")
    found = await estimate("m", f"path:{file}")
    assert [share.ranks for share in found.shares] == [2]
    assert found.workspace_mb > 0


async def test_a_gguf_file_of_a_family_that_is_not_known_is_told_by_its_tensors(tmp_path: Path) -> None:
    config = {"general.architecture": "strange", "strange.block_count": 2, "strange.context_length": 64}
    (tmp_path / "m.gguf").write_bytes(file_bytes(config, {"x": ("F16", torch.zeros(1024, 1024))}))
    assert await estimate("m", f"path:{tmp_path / 'm.gguf'}") == Estimate("m", 2)


@pytest.mark.parametrize("config", ["{", '{"model_type": "unheard-of"}', "{}", '{"model_type": "timm_wrapper"}'])
async def test_a_configuration_that_nobody_can_run(copy: Path, config: str) -> None:
    (copy / "config.json").write_text(config)
    found = await estimate("m", f"path:{copy}")
    assert found.weights_mb == found.kv_mb == 0
    assert "config" in (found.error or "")
    assert "\n" not in (found.error or "")


# Hugging Face


async def test_a_model_in_the_cache_needs_no_network(hub: Hub, qwen: Path, tmp_path: Path) -> None:
    cache(tmp_path, "org/model", qwen)
    found = await estimate("org/model", "huggingface")
    assert found == evolve(await estimate("m", f"path:{qwen}"), model="org/model")
    assert hub.asked == []


async def test_a_model_that_nothing_is_known_of_may_still_be_loaded(hub: Hub) -> None:
    assert await estimate("nobody/nothing", "huggingface") == Estimate("nobody/nothing")


async def test_a_model_is_estimated_before_it_is_fetched(hub: Hub, qwen: Path, tmp_path: Path) -> None:
    hub.repositories["org/model"] = Repository(contents(qwen))
    found = await estimate("mine", "huggingface:org/model")
    assert found == evolve(await estimate("m", f"path:{qwen}"), model="mine")
    assert hub.fetches("model.safetensors") == []
    assert contents(tmp_path) == {}


async def test_a_half_fetched_model_is_asked_for(hub: Hub, qwen: Path, tmp_path: Path) -> None:
    snapshot = cache(tmp_path, "org/model", qwen)
    (snapshot / "model.safetensors").unlink()
    config = (qwen / "config.json").read_bytes()
    hub.repositories["org/model"] = Repository({"model.safetensors": bytes(5 * MIB), "config.json": config})
    found = await estimate("org/model", "huggingface")
    assert (found.weights_mb, found.kv_mb, found.shares) == (5, mib(QWEN_CONTEXT * TOKEN_BYTES), ())


async def test_a_file_of_a_repository_is_estimated_alone(hub: Hub) -> None:
    hub.repositories["org/model"] = Repository({"a.gguf": bytes(5 * MIB), "b.gguf": bytes(7 * MIB)})
    assert await estimate("m", "huggingface:org/model/a.gguf") == Estimate("m", 5)


async def test_a_registry_of_one_s_own_is_asked(hub: Hub) -> None:
    hub.repositories["org/model"] = Repository({"a.gguf": bytes(5 * MIB)})
    wanted = [LoadRequest("m", "helexa:org/model/a.gguf")]
    (found,) = (await estimates.estimate(wanted, lambda _: None, hub.endpoint)).models
    assert found == Estimate("m", 5)


async def test_a_configuration_that_is_too_large_to_be_one_is_not_fetched(hub: Hub) -> None:
    hub.repositories["org/model"] = Repository({"model.safetensors": b"x", "config.json": bytes(2 * MIB)})
    assert await estimate("org/model", "huggingface") == Estimate("org/model", 1)
    assert hub.fetches("config.json") == []


async def test_a_network_that_never_answers_costs_five_seconds_for_all_together(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    async def never(work: Any, *args: Any, **_: Any) -> Any:
        return await trio.sleep_forever() if work is estimates._there else work(*args)

    monkeypatch.setattr(trio.to_thread, "run_sync", never)
    start = trio.current_time()
    found = await estimates.estimate([LoadRequest(f"org/{n}", "huggingface") for n in range(50)], lambda _: None)
    assert trio.current_time() - start == estimates.PATIENCE_SECONDS
    assert found == EstimateList(tuple(Estimate(f"org/{n}") for n in range(50)))


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"model.safetensors": 7, "config.json": 100}, 7),
        (
            {
                "model-00001-of-00002.safetensors": 3,
                "model-00002-of-00002.safetensors": 4,
                "consolidated.safetensors": 7,
            },
            7,
        ),
        ({"weights.safetensors": 5, "onnx/weights.safetensors": 50}, 5),
        ({"pytorch_model.bin": 5}, 0),
    ],
)
def test_of_a_repository_only_what_would_be_read_counts(sizes: dict[str, int], expected: int) -> None:
    listing = Listing("c", tuple(RemoteFile(name, size, None, None, "c") for name, size in sizes.items()))
    assert estimates.remote_weights(listing) == expected


# over HTTP


async def test_estimates_over_http(app: Front, qwen: Path) -> None:
    body = {"models": [{"model": "m"}, {"model": "n", "source": f"path:{qwen}"}, {"model": "ghost"}]}
    call = await Call.post("/models/estimate", orjson.dumps(body)).run(app)
    assert call.status == 200, call.answer
    known, given, ghost = from_json(call.answer, EstimateList).models
    assert known.weights_mb == given.weights_mb > 0
    assert "catalogue" in (ghost.error or "")


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"", "invalid_json", None),
        (b"{}", "missing_required_parameter", "models"),
        (b'{"models": {}}', "invalid_value", "models"),
        (b'{"models": [7]}', "invalid_value", "models"),
        (b'{"models": [{"model": "m"}, {}]}', "missing_required_parameter", "models[1].model"),
        (b'{"models": [{"model": "m", "source": 7}]}', "invalid_value", "models[0].source"),
        (b'{"models": [' + b'{"model": "m"},' * 1024 + b'{"model": "m"}]}', "invalid_value", "models"),
    ],
)
async def test_estimates_that_are_refused(app: Front, body: bytes, code: str, param: str | None) -> None:
    call = await Call.post("/models/estimate", body).run(app)
    assert (call.status, call.error["code"], call.error["param"]) == (400, code, param)
