"""What a model's weights are reduced to travels from the topology to the engine."""

from pathlib import Path

import orjson
import pytest
import torch
from checkpoints import make_tokenizer
from engine_port import FakeEngines
from fleets import fleet_of, model, sighting
from gguf_files import file_bytes, header_of
from http_parts import Call

from config import Quant
from helexa.cortex.routing.policy import ColdLoad, Wanted, resolve
from helexa.neuron.service import Service
from helexa.web.front import Front
from helexa.wire.errors import ApiError
from helexa.wire.fleet import LoadRequest


@pytest.mark.parametrize(
    ("request_", "quant"),
    [
        (LoadRequest("q"), "int4"),
        (LoadRequest("q", quant="int8"), "int8"),
        (LoadRequest("l"), None),
    ],
)
async def test_a_model_is_reduced_as_its_request_says_or_the_catalogue(
    engines: FakeEngines, qwen: Path, request_: LoadRequest, quant: Quant | None
) -> None:
    wanted: dict[str, Quant] = {"q": "int4"}
    await Service(engines, dict.fromkeys("ql", f"path:{qwen}").get, quant_of=wanted.get).load(request_)
    assert engines.quants == [quant]


async def test_a_request_that_names_its_source_says_all(engines: FakeEngines, qwen: Path) -> None:
    """It is the gateway's, whose catalogue may be newer."""
    wanted: dict[str, Quant] = {"q": "int4"}
    await Service(engines, {"q": "helexa"}.get, quant_of=wanted.get).load(LoadRequest("q", f"path:{qwen}"))
    assert engines.quants == [None]


async def test_a_precision_that_there_is_not_is_refused(app: Front) -> None:
    call = await Call.post("/models/load", orjson.dumps({"model": "m", "quant": "int3"})).run(app)
    assert (call.status, call.error["param"]) == (400, "quant")


def test_a_cold_load_is_of_the_catalogue_s_precision() -> None:
    fleet = fleet_of({"a": sighting()}, models=(model(quant="int4"),))
    assert resolve(fleet, Wanted("m")) == ColdLoad("m", "helexa", "a", "cpu", quant="int4")


async def test_the_tokenizer_of_a_gguf_file_is_the_one_in_it(
    engines: FakeEngines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file, original = tmp_path / "m.gguf", make_tokenizer()
    file.write_bytes(file_bytes(header_of(original).metadata, {"t": ("F32", torch.zeros(8))}))
    service = Service(engines, {"g": f"path:{file}"}.get)
    await service.load(LoadRequest("g"))
    assert engines.loads[0][:2] == ("g", str(file))
    assert service.face("g").text.eos_ids == {original.eos_token_id}


async def test_a_gguf_file_with_a_tokenizer_that_is_not_known_is_refused(engines: FakeEngines, tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(file_bytes(header_of(make_tokenizer(), model="llama").metadata, {"t": ("F32", torch.zeros(8))}))
    with pytest.raises(
        ApiError, match=r"it has a tokenizer of the kind 'llama'; put the model's tokenizer\.json beside it"
    ):
        await Service(engines, {"g": f"path:{file}"}.get).load(LoadRequest("g"))
    assert engines.loads == []
