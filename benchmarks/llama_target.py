"""llama.cpp with the same checkpoint, for ``engine_targets.py``; left out where its packages are not installed.

    .venv/bin/pip install llama-cpp-python gguf

The checkpoint is written as GGUF in bfloat16, beside the original, when it is first asked for. llama.cpp is driven by
its C interface, as its own server drives it: all sequences of a step in one batch, the logits of each one's last token.
"""

import ctypes
import json
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

CONTEXT = 4096
_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_file(directory: Path) -> Path:
    """The checkpoint as GGUF."""
    path = directory / "model.gguf"
    if not path.is_file():
        _write(directory, path)
    return path


def _write(directory: Path, path: Path) -> None:
    import gguf
    from safetensors import safe_open

    config = json.loads((directory / "config.json").read_text())
    writer = gguf.GGUFWriter(path.with_suffix(".part"), "qwen3")
    _describe(writer, config, gguf.LlamaFileType.MOSTLY_BF16)
    for file in sorted(directory.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a mapping
                _add(writer, _name(name), tensors.get_tensor(name), gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    path.with_suffix(".part").rename(path)


def _describe(writer: Any, config: dict[str, Any], file_type: Any) -> None:
    writer.add_file_type(file_type)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("none")  # it is given token ids


def _name(name: str) -> str:
    stem = name.removesuffix(".weight")
    if stem in _OUTSIDE:
        return f"{_OUTSIDE[stem]}.weight"
    _, _, number, rest = stem.split(".", 3)
    return f"blk.{number}.{_LAYER[rest]}.weight"


def _add(writer: Any, name: str, tensor: torch.Tensor, bfloat16: Any) -> None:
    if tensor.dim() == 1:  # norms are kept in float32
        writer.add_tensor(name, tensor.float().numpy())
    else:
        writer.add_tensor(name, tensor.view(torch.uint8).numpy(), raw_dtype=bfloat16)


class LlamaCpp:
    """llama.cpp's library with one context; owns both for the process's life."""

    def __init__(self, directory: Path, threads: int) -> None:
        import llama_cpp

        self.api = llama_cpp
        self._quiet = llama_cpp.llama_log_callback(lambda *_: None)  # kept: C calls it
        llama_cpp.llama_log_set(self._quiet, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        model = llama_cpp.llama_model_load_from_file(
            str(gguf_file(directory)).encode(), llama_cpp.llama_model_default_params()
        )
        options = llama_cpp.llama_context_default_params()
        options.n_ctx, options.n_batch, options.n_ubatch, options.n_seq_max = CONTEXT, 2048, 512, 32
        options.n_threads = options.n_threads_batch = threads
        options.kv_unified = True
        self.context = llama_cpp.llama_init_from_model(model, options)
        if not self.context:
            raise SystemExit("llama.cpp makes no context")
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        self.batch = llama_cpp.llama_batch_init(2048, 0, 1)

    def __call__(self, batch: list[list[int]], output: int) -> list[list[float]]:
        """Greedy tokens of all prompts; the time of each."""
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)
        stamps: list[list[float]] = [[] for _ in batch]
        news, position = batch, 0
        for _ in range(output):
            last = self._decode(news, position)
            position += len(news[0])
            now = perf_counter()
            for each in stamps:
                each.append(now)
            news = [[token] for token in last]
        return stamps

    def _decode(self, news: list[list[int]], position: int) -> list[int]:
        """One step: each sequence's new tokens in, its next token out."""
        entry, ends = 0, []
        for sequence, tokens in enumerate(news):
            for offset, token in enumerate(tokens):
                self._put(entry, token, position + offset, sequence, offset == len(tokens) - 1)
                entry += 1
            ends.append(entry - 1)
        self.batch.n_tokens = entry
        if self.api.llama_decode(self.context, self.batch):
            raise SystemExit("llama.cpp refuses a batch")
        return [self._best(end) for end in ends]

    def _put(self, entry: int, token: int, position: int, sequence: int, is_last: bool) -> None:  # noqa: FBT001 - as C
        batch = self.batch
        batch.token[entry], batch.pos[entry] = token, position
        batch.n_seq_id[entry], batch.seq_id[entry][0] = 1, sequence
        batch.logits[entry] = is_last

    def _best(self, entry: int) -> int:
        logits = self.api.llama_get_logits_ith(self.context, entry)
        view = ctypes.cast(logits, ctypes.POINTER(ctypes.c_float * self.vocabulary)).contents
        return int(torch.frombuffer(view, dtype=torch.float32).argmax())
