"""Models in directories, opened: their shape made, held against the headers of their files, no weight read yet.

Of the families that helexa runs itself. Their weights are read part by part, while the parts before are laid out
already, so that a model is never in memory twice. All other models are read by transformers, which renames, stacks and
splits what their files have; see ``loading``.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from attrs import define
from torch import Tensor

from helexa.engine.networks.native import is_native
from helexa.engine.weights import files
from helexa.engine.weights.headers import FileError, Place

_FAMILY: Final = ("llama", "mistral", "qwen2", "qwen3")
"""``model_type`` of those whose tensors are called in files as in transformers."""
_DTYPES: Final = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_HEAD: Final = "lm_head.weight"


@define(eq=False, slots=False)  # with a dictionary, so that it can be part of a circle, as modules are
class Opened:
    """A model whose shape is known.

    Attributes:
        module: the ``…ForCausalLM`` of transformers.
        places: where the weights that it does not have yet are, in the order in which it is read; ``None`` for a model
            that has all.
        dtype: of its weights.
    """

    module: Any
    places: Mapping[str, Place] | None
    dtype: torch.dtype


def open_native(directory: Path, dtype: torch.dtype | None = None) -> Opened | None:
    """A model that helexa runs itself; ``None`` if it has to be left to transformers.

    Args:
        directory: where its files are.
        dtype: what its weights are to be; ``None``: what its configuration says, or else its files.

    Raises:
        FileError: its files are not what they say, or are of another model than its configuration.
    """
    found = files.tensors(directory)
    if (config := _config(directory, found)) is None:
        return None
    dtype = dtype or _stated(config) or _stored(found)
    module = _make_module(directory, config, dtype)
    names = _order(module)
    if names is None or not names.keys() <= found.keys() or (config.tie_word_embeddings and _HEAD in found):
        return None
    places = {name: found[name] for name in names}
    _check(module, places)
    return Opened(module, places, dtype)


def refuse_strange(directory: Path) -> None:
    """Refuse models of which code or a pickle would have to be run.

    Raises:
        FileError: which.
    """
    config = read_config(directory)
    code = config.get("auto_map")
    if isinstance(code, dict) and code and not _is_known(config.get("model_type")):
        script = str(next(iter(code.values()))).partition(".")[0]
        raise FileError(f"it needs code of its own, '{script}.py'; no code of a model's directory is ever run")
    named = config.get("transformers_weights") or ".safetensors"
    if not str(named).endswith((".safetensors", ".safetensors.index.json")):
        raise FileError(f"its weights are in '{named}'; only safetensors files are read")
    _refuse_pickles(directory)


def _refuse_pickles(directory: Path) -> None:
    """Also those that an index names which is not the usual one."""
    for index in directory.glob("*.safetensors.index.json"):
        files.read_index(index)
    pickles = sorted(each.name for kind in ("*.bin", "*.pt", "*.pth", "*.ckpt") for each in directory.glob(kind))
    if pickles and not any(directory.glob("*.safetensors")):
        raise FileError(f"its weights are in '{pickles[0]}', and it has no safetensors file; pickles are never read")


def read_config(directory: Path) -> dict[str, Any]:
    """What a model's ``config.json`` says.

    Raises:
        FileError: there is none, or it is none.
    """
    try:
        found = json.loads((directory / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(f"its 'config.json' cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise FileError("its 'config.json' is no JSON object")
    return found


def _is_known(kind: Any) -> bool:
    from transformers import CONFIG_MAPPING

    return isinstance(kind, str) and kind in CONFIG_MAPPING


def _config(directory: Path, found: Mapping[str, Place]) -> Any:
    """Of a model of the family whose weights are plain numbers; else ``None``."""
    from transformers import AutoConfig

    raw = read_config(directory)
    if raw.get("model_type") not in _FAMILY or raw.get("quantization_config") or raw.get("transformers_weights"):
        return None
    config = AutoConfig.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
    if config.num_hidden_layers > len(found):  # before as many are made
        raise FileError(f"its configuration has {config.num_hidden_layers} layers, its files {len(found)} tensors")
    return config


def _stated(config: Any) -> torch.dtype | None:
    return config.dtype if isinstance(config.dtype, torch.dtype) else None


def _stored(found: Mapping[str, Place]) -> torch.dtype:
    """Of the first tensor of floats."""
    return next((_DTYPES[place.dtype] for place in found.values() if place.dtype in _DTYPES), torch.float32)


def _make_module(directory: Path, config: Any, dtype: torch.dtype) -> Any:
    """Its shape alone, without memory for weights."""
    from transformers import AutoModelForCausalLM, GenerationConfig

    with torch.device("meta"):
        module = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    if config.tie_word_embeddings:
        module.lm_head.weight = module.model.embed_tokens.weight
    if (directory / "generation_config.json").is_file():
        module.generation_config = GenerationConfig.from_pretrained(directory, local_files_only=True)
    return module.eval()


def _order(module: Any) -> dict[str, None] | None:
    """Names of its weights in the order in which ``NativeNetwork`` wants them; ``None`` if it is none of those.

    A dictionary, as an ordered set; a tied output layer is not among them.
    """
    if not is_native(module):
        return None
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return dict.fromkeys(names[id(parameter)] for part in _parts(module) for parameter in part.parameters())


def _parts(module: Any) -> Iterator[torch.nn.Module]:
    yield from (module.model.embed_tokens, module.model.norm, module.lm_head, *module.model.layers)


def _check(module: Any, places: Mapping[str, Place]) -> None:
    """Hold the tensors of files against those of the model that its configuration describes."""
    for name, parameter in module.named_parameters():
        place, shape = places[name], tuple(parameter.shape)
        if place.shape != shape:
            raise FileError(f"its files have '{name}' as {list(place.shape)}, and its configuration as {list(shape)}")
        if place.dtype not in _DTYPES:
            raise FileError(f"its files have '{name}' as {place.dtype}, which is no dtype of weights that are run here")


def filler(
    module: Any, take: Callable[[str], Tensor], remake: Callable[[Any], None] | None = None
) -> Callable[[torch.nn.Module], None]:
    """What reads the weights of a part of ``module``; for ``NativeNetwork``.

    Args:
        module: the ``…ForCausalLM``, its weights on the device ``meta``.
        take: a weight by its name, each asked for once.
        remake: gives the rotary embedding what it computes from its configuration; ``None`` does it as transformers.
    """
    names = {id(parameter): name for name, parameter in module.named_parameters()}

    def fill(part: torch.nn.Module) -> None:
        if part is module.model.rotary_emb:  # has no weights, and what it computes is not there
            (remake or partial(remake_rotary, config=module.config))(part)
        for owner in part.modules():
            for key, parameter in list(owner.named_parameters(recurse=False)):
                if parameter.is_meta:
                    weight = take(names[id(parameter)])
                    setattr(owner, key, torch.nn.Parameter(weight, requires_grad=False))
        if part is module.model.embed_tokens and module.config.tie_word_embeddings:
            module.lm_head.weight = module.model.embed_tokens.weight

    return fill


def remake_rotary(part: Any, config: Any) -> None:
    """Give a rotary embedding, made without memory, what it computes from its configuration."""
    vars(part).update(vars(type(part)(config)))
