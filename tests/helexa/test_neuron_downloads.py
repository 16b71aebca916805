"""Models that are fetched from a registry: what is asked for, what lies here afterwards, and what is said if not."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hubs import COMMIT, Fault, Hub, Repository, contents, serving_hub

from helexa.neuron.sources import resolve
from helexa.neuron.sources.meter import Meter
from helexa.wire.errors import ApiError

MODEL = "org/model"
SPLIT = {f"q4-0000{n}-of-00002.gguf": b"GGUF" + bytes([n]) * 50 for n in (1, 2)}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, qwen: Path) -> Iterator[Hub]:
    """A registry that Hugging Face's library is set up for, with one model, and an empty cache."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HELEXA_REGISTRY", "HELEXA_REGISTRY_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with serving_hub() as hub:
        hub.repositories[MODEL] = Repository(contents(qwen))
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
        monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        yield hub


@pytest.fixture
def model(hub: Hub) -> Repository:
    return hub.repositories[MODEL]


def refused(model: str = MODEL, source: str = "huggingface") -> ApiError:
    with pytest.raises(ApiError) as caught:
        resolve(model, source)
    assert caught.value.message.endswith(".")
    assert "\n" not in caught.value.message
    return caught.value


# what is fetched


def test_a_model_lies_where_hugging_face_s_library_looks_for_it(hub: Hub, model: Repository, tmp_path: Path) -> None:
    from huggingface_hub import snapshot_download

    found = Path(resolve(MODEL, "huggingface"))
    assert found == tmp_path / "hub" / "models--org--model" / "snapshots" / COMMIT
    assert contents(found) == model.files
    assert snapshot_download(MODEL, local_files_only=True) == str(found)


def test_nothing_but_the_model_is_left_of_a_download(hub: Hub, model: Repository, tmp_path: Path) -> None:
    resolve(MODEL, "huggingface")
    folder = tmp_path / "hub" / "models--org--model"
    assert len(list((folder / "blobs").iterdir())) == len(model.files)
    assert all(each.is_symlink() and not each.readlink().is_absolute() for each in folder.glob("snapshots/*/*"))
    assert (folder / "refs" / "main").read_text() == COMMIT


def test_what_is_here_is_not_asked_for_again(hub: Hub) -> None:
    found = resolve(MODEL, "huggingface")
    asked = len(hub.asked)
    assert resolve(MODEL, "huggingface") == found
    assert len(hub.asked) == asked


def test_a_source_may_name_another_repository_than_the_id(hub: Hub) -> None:
    assert resolve("my-name", f"huggingface:{MODEL}").endswith(COMMIT)
    assert resolve(f"huggingface:{MODEL}", "huggingface").endswith(COMMIT)


def test_only_what_a_model_is_read_from_is_fetched(hub: Hub, model: Repository) -> None:
    wanted = set(model.files)
    others = ["modeling.py", "pytorch_model.bin", "consolidated.safetensors", "onnx/model.safetensors", "README.md"]
    model.files |= dict.fromkeys([*others, "pytorch_model.bin.index.json"], b"{}")
    found = Path(resolve(MODEL, "huggingface"))
    assert {each.name for each in found.rglob("*") if each.is_file()} == wanted


def test_an_index_says_which_weights(hub: Hub, model: Repository) -> None:
    weights = model.files.pop("model.safetensors")
    index = {"weight_map": {"a": "weights-a.safetensors", "b": "weights-b.safetensors"}}
    model.files |= {"weights-a.safetensors": weights, "weights-b.safetensors": weights, "other.safetensors": b"x"}
    model.files["model.safetensors.index.json"] = json.dumps(index).encode()
    found = contents(Path(resolve(MODEL, "huggingface")))
    assert set(found) == set(model.files) - {"other.safetensors"}


def test_templates_in_their_folder_come_along(hub: Hub, model: Repository) -> None:
    model.files["additional_chat_templates/rag.jinja"] = b"{{ x }}"
    found = Path(resolve(MODEL, "huggingface"))
    assert (found / "additional_chat_templates" / "rag.jinja").read_bytes() == b"{{ x }}"


def test_a_gguf_file_comes_with_its_tokenizer_and_without_its_siblings(hub: Hub) -> None:
    files = {"q8.gguf": b"GGUF8", "q4.gguf": b"GGUF4", "tokenizer.json": b"{}"}
    hub.repositories["org/ggufs"] = Repository(files)
    found = Path(resolve("m", "huggingface:org/ggufs/q4.gguf"))
    assert found.name == "q4.gguf"
    assert set(contents(found.parent)) == {"q4.gguf", "tokenizer.json"}
    assert Path(resolve("m", "huggingface:org/ggufs/q8.gguf")).read_bytes() == b"GGUF8"


def test_a_gguf_file_in_a_folder_keeps_it(hub: Hub) -> None:
    hub.repositories["org/ggufs"] = Repository({"Q4/x.gguf": b"GGUF"})
    assert resolve("m", "huggingface:org/ggufs/Q4/x.gguf").endswith(f"{COMMIT}/Q4/x.gguf")


def test_all_parts_of_a_split_gguf_file_come(hub: Hub) -> None:
    hub.repositories["org/ggufs"] = Repository(SPLIT)
    found = Path(resolve("m", "huggingface:org/ggufs/q4-00001-of-00002.gguf"))
    assert contents(found.parent) == SPLIT


def test_the_environment_says_where_hugging_face_is(hub: Hub, tmp_path: Path) -> None:
    script = "import sys; from helexa.neuron.sources import resolve; print(resolve(*sys.argv[1:]))"
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": "hf_secret",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    environment.pop("HF_HUB_CACHE", None)
    command = [sys.executable, "-c", script, MODEL, "huggingface"]
    ended = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert ended.stdout.startswith(str(tmp_path / "home" / "hub" / "models--org--model"))
    assert hub.asked[0].authorization == "Bearer hf_secret"


def test_the_registry_of_these_tests_is_one_to_hugging_face_s_library(hub: Hub, model: Repository) -> None:
    from huggingface_hub import HfApi

    info = HfApi(hub.endpoint, token=False).model_info(MODEL, revision="main", files_metadata=True)
    told = {each.rfilename: each for each in info.siblings or ()}
    weights = told["model.safetensors"]
    assert set(told) == set(model.files)
    assert weights.lfs is not None
    assert weights.lfs.sha256 == hashlib.sha256(model.files["model.safetensors"]).hexdigest()
    assert info.sha == COMMIT
    assert len(told["config.json"].blob_id or "") == 40


# tokens


def test_a_token_opens_a_gated_model_and_is_not_shown_to_where_its_files_lie(
    hub: Hub, model: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.token, model.gated = "hf_secret", True
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    resolve(MODEL, "huggingface")
    shown = {each.authorization for each in hub.asked if each.elsewhere}
    assert shown == {None}
    assert {each.authorization for each in hub.asked if not each.elsewhere} == {"Bearer hf_secret"}


def test_a_gated_model_without_a_token(hub: Hub, model: Repository) -> None:
    model.token, model.gated = "hf_secret", True
    error = refused()
    assert (error.status, error.code) == (403, "model_gated")
    terms = f"its terms have to be accepted at {hub.endpoint}/{MODEL}"
    assert error.message == f"'{MODEL}' is gated on Hugging Face: {terms} and an account's token to be set as HF_TOKEN."


def test_a_gated_model_with_the_token_of_somebody_else(
    hub: Hub, model: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.token, model.gated = "hf_secret", True
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    error = refused()
    assert error.code == "model_gated"
    assert error.message.endswith("by the account of the token in HF_TOKEN.")
    assert "hf_" not in error.message


def test_a_model_that_is_not_there(hub: Hub) -> None:
    error = refused("org/ghost")
    assert (error.status, error.code) == (404, "source_not_found")
    assert error.message == "Hugging Face has no model 'org/ghost', or it is private and HF_TOKEN is not set."


def test_a_private_model_looks_like_none(hub: Hub, model: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    model.token = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    error = refused()
    assert (error.status, error.code) == (404, "source_not_found")
    assert error.message.endswith("or it is private and the token in HF_TOKEN does not open it.")


def test_a_token_that_is_none(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_old")
    said = {"X-Error-Message": "Invalid credentials in Authorization header"}
    hub.faults[MODEL] = [Fault(401, said)]
    error = refused()
    assert (error.status, error.code) == (403, "source_token_invalid")
    assert "does not accept the token in HF_TOKEN" in error.message


# repositories that hold no model, or one that is not to be trusted


def test_a_repository_without_a_configuration(hub: Hub, model: Repository) -> None:
    del model.files["config.json"]
    error = refused()
    assert (error.status, error.code) == (400, "config_missing")
    assert error.message == f"'{MODEL}' on Hugging Face has no config.json; it holds no model that helexa can read."


@pytest.mark.parametrize(
    ("instead", "said"),
    [
        ([], "has a config.json and no safetensors weights."),
        (["a.gguf", "b.gguf"], "name one of its GGUF files in the source: 'a.gguf', 'b.gguf'."),
        (["pytorch_model.bin"], "its 'pytorch_model.bin' may be a pickle, which runs code when it is read"),
        ([f"{n}.gguf" for n in range(9)], "'4.gguf' and 4 more."),
        (["onnx/model.safetensors"], "no safetensors weights."),
    ],
)
def test_a_repository_without_weights(hub: Hub, model: Repository, instead: list[str], said: str) -> None:
    del model.files["model.safetensors"]
    model.files |= dict.fromkeys(instead, b"GGUF")
    error = refused()
    assert (error.status, error.code) == (400, "weights_missing")
    assert said in error.message
    assert [each.path for each in hub.asked] == [f"/api/models/{MODEL}/revision/main"]


def test_weights_that_only_the_index_knows(hub: Hub, model: Repository) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    model.files["model.safetensors.index.json"] = json.dumps(index).encode()
    error = refused()
    assert error.code == "weights_missing"
    assert "lacks 'model-2.safetensors', which its index of weights names" in error.message
    assert hub.fetches("model.safetensors") == []


@pytest.mark.parametrize("index", [b"{", b"[]", b"{}", b'{"weight_map": {}}', b'{"weight_map": 7}'])
def test_an_index_that_is_none(hub: Hub, model: Repository, index: bytes) -> None:
    model.files["model.safetensors.index.json"] = index
    assert refused().code == "config_invalid"


@pytest.mark.parametrize("config", [b"{", b"[]", b"\xff"])
def test_a_configuration_that_is_none(hub: Hub, model: Repository, config: bytes) -> None:
    model.files["config.json"] = config
    error = refused()
    assert (error.status, error.code) == (400, "config_invalid")
    assert hub.fetches("model.safetensors") == []


def test_a_model_that_needs_its_own_code_is_refused_before_its_weights_come(hub: Hub, model: Repository) -> None:
    config = {"model_type": "homemade", "auto_map": {"AutoModelForCausalLM": "modeling.Homemade"}}
    model.files |= {"config.json": json.dumps(config).encode(), "modeling.py": b"raise SystemExit"}
    error = refused()
    assert (error.status, error.code) == (400, "remote_code")
    assert "brings its own Python code (auto_map) and its type 'homemade' is not known without it" in error.message
    assert hub.fetches("model.safetensors") == hub.fetches("modeling.py") == []


def test_code_for_old_libraries_does_not_matter(hub: Hub, model: Repository) -> None:
    config = json.loads(model.files["config.json"])
    model.files["config.json"] = json.dumps({**config, "auto_map": {"AutoConfig": "x.Y"}}).encode()
    assert resolve(MODEL, "huggingface")


def test_a_file_that_a_repository_does_not_have(hub: Hub) -> None:
    hub.repositories["org/ggufs"] = Repository({"a.gguf": b"GGUF"})
    error = refused("m", "huggingface:org/ggufs/b.gguf")
    assert (error.status, error.code) == (404, "source_not_found")
    assert error.message == "'org/ggufs' on Hugging Face has no file 'b.gguf'; it has 'a.gguf'."


def test_a_part_of_a_split_file_that_is_missing(hub: Hub) -> None:
    hub.repositories["org/ggufs"] = Repository(dict(list(SPLIT.items())[:1]))
    assert refused("m", "huggingface:org/ggufs/q4-00001-of-00002.gguf").code == "source_not_found"


def test_a_file_that_is_gguf_by_name_only(hub: Hub) -> None:
    hub.repositories["org/ggufs"] = Repository({"a.gguf": b"<html>"})
    error = refused("m", "huggingface:org/ggufs/a.gguf")
    assert (error.status, error.code) == (400, "weights_invalid")


# the cache


def test_offline_what_is_here_is_used(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    found = resolve(MODEL, "huggingface")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert resolve(MODEL, "huggingface") == found


@pytest.mark.parametrize("lost", ["config.json", "tokenizer.json", "model.safetensors"])
def test_offline_what_is_not_whole_is_not_used(hub: Hub, monkeypatch: pytest.MonkeyPatch, lost: str) -> None:
    (Path(resolve(MODEL, "huggingface")) / lost).unlink()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    error = refused()
    assert (error.status, error.code) == (502, "source_offline")
    assert "is not whole in the cache, and HF_HUB_OFFLINE forbids asking Hugging Face" in error.message


@pytest.mark.parametrize("length", [0, 100, 5000])
def test_a_file_that_a_crash_has_cut_short_is_fetched_again(hub: Hub, model: Repository, length: int) -> None:
    found = Path(resolve(MODEL, "huggingface"))
    os.truncate(found / "model.safetensors", length)
    assert resolve(MODEL, "huggingface") == str(found)
    assert contents(found) == model.files
    assert hub.fetches("model.safetensors") == [None, None]
    assert hub.fetches("config.json") == [None]


@pytest.mark.parametrize("commit", ["", "../elsewhere", "/etc", "\0", "a\nb"])
def test_a_reference_that_leads_nowhere_is_no_commit(hub: Hub, model: Repository, tmp_path: Path, commit: str) -> None:
    folder = tmp_path / "hub" / "models--org--model"
    shutil.copytree(resolve(MODEL, "huggingface"), folder / "elsewhere")
    (folder / "refs" / "main").write_text(commit)
    asked = len(hub.asked)
    assert resolve(MODEL, "huggingface").endswith(COMMIT)
    assert len(hub.asked) == asked + 1


# another registry


def test_a_registry_of_one_s_own(hub: Hub, model: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HELEXA_REGISTRY", hub.endpoint + "/")
    monkeypatch.setenv("HELEXA_REGISTRY_TOKEN", "ours")
    found = Path(resolve(MODEL, "helexa"))
    assert contents(found) == model.files
    assert found.is_relative_to(tmp_path / "helexa" / hub.endpoint.removeprefix("http://").replace(":", "_"))
    assert {each.authorization for each in hub.asked if not each.elsewhere} == {"Bearer ours"}


def test_a_token_may_have_a_line_s_end(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELEXA_REGISTRY_TOKEN", " ours\n")
    resolve("m", f"helexa:{MODEL}", registry=hub.endpoint)
    assert hub.asked[0].authorization == "Bearer ours"


@pytest.mark.parametrize("token", ["sec\nret", "secrét", "sec\x7fret"])
def test_a_token_that_no_header_can_carry_is_refused_and_not_shown(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("HELEXA_REGISTRY", hub.endpoint)
    monkeypatch.setenv("HELEXA_REGISTRY_TOKEN", token)
    error = refused("m/n", "helexa")
    assert (error.status, error.code) == (403, "source_token_invalid")
    assert "HELEXA_REGISTRY_TOKEN" in error.message
    assert token[:3] not in error.message.replace("source", "")


def test_a_token_of_hugging_face_s_that_no_header_can_carry(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secrét")
    error = refused()
    assert error.code == "source_token_invalid"
    assert "secr" not in error.message


def test_a_registry_gets_no_token_of_hugging_face_s(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    resolve("m", f"helexa:{MODEL}", registry=hub.endpoint)
    assert {each.authorization for each in hub.asked} == {None}


def test_the_environment_goes_before_the_topology(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELEXA_REGISTRY", hub.endpoint)
    assert resolve("m", f"helexa:{MODEL}", registry="http://127.0.0.1:1")


def test_no_registry_is_said_with_what_is_missing(hub: Hub) -> None:
    error = refused("m/n", "helexa")
    assert (error.status, error.code) == (400, "invalid_value")
    assert error.message.startswith(
        "'m/n' is not bundled with helexa; 'helexa/tiny' is. For others, set HELEXA_REGISTRY"
    )


@pytest.mark.parametrize("url", ["ftp://me:secret@host", "host", "http://", "http://host:x", "http://host/?q"])
def test_a_registry_s_address_that_is_none(hub: Hub, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("HELEXA_REGISTRY", url)
    error = refused("m/n", "helexa")
    assert (error.status, error.code) == (400, "invalid_value")
    assert "secret" not in error.message


# progress


def test_progress_is_told_in_bytes(hub: Hub, model: Repository) -> None:
    meter = Meter()
    resolve(MODEL, "huggingface", meter)
    size = sum(map(len, model.files.values()))
    told = meter.progress
    assert (told.phase, told.done, told.total) == ("downloading", size, size)
    assert told.rate > 0
    assert told.seconds_left == 0.0


def test_a_stop_ends_a_download_and_what_came_stays(hub: Hub, model: Repository) -> None:
    model.files["model.safetensors"] *= 50
    whole = len(model.files["model.safetensors"])
    fault = Fault(wait_at=whole - 1000)
    hub.faults["model.safetensors"] = [fault]
    stop = threading.Event()

    def end() -> None:
        fault.wait.wait(30)
        stop.set()
        fault.go.set()

    thread = threading.Thread(target=end)
    thread.start()
    with pytest.raises(ApiError) as caught:
        resolve(MODEL, "huggingface", stop=stop)
    thread.join()
    assert (caught.value.status, caught.value.code) == (503, "download_stopped")
    resolve(MODEL, "huggingface")
    (first, second) = hub.fetches("model.safetensors")
    assert (first, (second or "")[:6]) == (None, "bytes=")
