"""Weights and config from a local directory or the Hugging Face cache, and what they tell about limits."""

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
        memory_mb: MiB that its parameters and buffers hold.
        seconds: how long loading took.
    """

    module: Any
    device: torch.device
    context_length: int
    memory_mb: int
    seconds: float


def load_model(path: str, device: str) -> LoadedModel:
    """Load a causal language model from ``path`` (a directory or a Hugging Face id) onto ``device``.

    Weights come from safetensors only and code only from ``transformers`` itself: neither a pickle nor a script of a
    model repository is ever run.

    Raises:
        LoadError: whatever went wrong, in one sentence.
    """
    from transformers import AutoModelForCausalLM

    start = perf_counter()
    try:
        module = AutoModelForCausalLM.from_pretrained(
            path, dtype="auto", use_safetensors=True, trust_remote_code=False, local_files_only=False
        )
        module.to(device).eval()
    except Exception as error:
        raise LoadError(f"{type(error).__name__}: {_first_line(error)}") from error
    return LoadedModel(
        module, torch.device(device), _context_length(module), _megabytes(module), perf_counter() - start
    )


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
