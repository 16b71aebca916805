"""Weights and config from a local directory or the Hugging Face cache, and what they tell about limits."""

import json
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from attrs import frozen


class LoadError(Exception):
    """A model that cannot be loaded; the message is for the operator."""


@frozen
class LoadedModel:
    """A model on its device, ready to run.

    Attributes:
        module: a ``transformers`` causal language model in evaluation mode.
        device: where its weights and inputs live.
        context_length: most tokens of prompt and output together.
        vocabulary: token ids it can take are below this.
        memory_mb: MiB that its parameters and buffers hold.
        seconds: how long loading took.
    """

    module: Any
    device: torch.device
    context_length: int
    vocabulary: int
    memory_mb: int
    seconds: float


def load_model(path: str, device: str) -> LoadedModel:
    """Load a causal language model from ``path`` (a directory, or a Hugging Face id in its cache) onto ``device``.

    Weights come from safetensors only and code only from ``transformers`` itself: neither a pickle nor a script of a
    model repository is ever run. Nothing is downloaded.

    Raises:
        LoadError: whatever went wrong, in one sentence.
    """
    start = perf_counter()
    try:
        module = _read(_directory(path)).to(device).eval()
    except LoadError:
        raise
    except Exception as error:
        raise LoadError(f"{type(error).__name__}: {_first_line(error)}") from error
    vocabulary = int(module.get_input_embeddings().weight.shape[0])
    seconds = perf_counter() - start
    return LoadedModel(module, torch.device(device), _context_length(module), vocabulary, _megabytes(module), seconds)


def _directory(path: str) -> Path:
    from huggingface_hub import snapshot_download

    if Path(path).is_dir():
        return Path(path)
    if Path(path).is_absolute():  # transformers would take it for a misspelt id
        raise LoadError(f"there is no directory '{path}'")
    return Path(snapshot_download(path, local_files_only=True))


def _read(directory: Path) -> Any:
    from transformers import AutoModelForCausalLM

    _refuse_pickles(directory)
    module, info = AutoModelForCausalLM.from_pretrained(
        directory,
        dtype="auto",
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
        output_loading_info=True,
    )
    if missing := sorted(info["missing_keys"]):  # transformers fills them with random numbers and goes on
        raise LoadError(f"its files lack {len(missing)} of the model's weights, '{missing[0]}' for one")
    return module


def _refuse_pickles(directory: Path) -> None:
    """Refuse weights that are none of safetensors': an index or the config may name any file, and it would be read."""
    config = json.loads((directory / "config.json").read_bytes())
    names = {config.get("transformers_weights") or ".safetensors"}
    for index in directory.glob("*.safetensors.index.json"):
        names.update(json.loads(index.read_bytes())["weight_map"].values())
    if wrong := sorted(name for name in names if not name.endswith((".safetensors", ".safetensors.index.json"))):
        raise LoadError(f"its weights are in '{wrong[0]}'; only safetensors files are read")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no further detail"


def _context_length(module: Any) -> int:
    config = module.config.get_text_config()
    return int(getattr(config, "max_position_embeddings", 0) or 4096)


def _megabytes(module: Any) -> int:
    tensors = [*module.parameters(), *module.buffers()]
    size: int = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return -(-size // 2**20)
