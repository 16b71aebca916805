"""Small random checkpoints: real files of a real architecture, made in a moment, that answer with noise."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

torch.set_num_threads(1)  # for models this small a second thread is only in the way

QWEN_CONTEXT = 4096
LLAMA_CONTEXT = 96
END = "<|im_end|>"
TEMPLATE = """
{%- if tools %}<|im_start|>tools
{{ tools | tojson }}<|im_end|>
{% endif %}
{%- for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}{% for c in m.tool_calls %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking %}<think>
{% endif %}{% endif %}"""


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE of about 300 tokens with a ChatML template."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|im_start|>", END],
        show_progress=False,
    )
    backend.train_from_iterator(["Hello world, how are you? The quick brown fox. " * 3], trainer)
    tags = ["<think>", "</think>", "<tool_call>", "</tool_call>"]
    backend.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in tags])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END, chat_template=TEMPLATE)


def make_qwen(directory: Path, seed: int = 0) -> Path:
    """A Qwen3 of two layers. Greedily it never ends: the row of its end token is zero."""
    config = Qwen3Config(**_SHAPE, head_dim=16, max_position_embeddings=QWEN_CONTEXT, tie_word_embeddings=False)
    return _save(Qwen3ForCausalLM, config, directory, seed)


def make_llama(directory: Path, seed: int = 1) -> Path:
    """A Llama of two layers, tied embeddings and a short context."""
    config = LlamaConfig(**_SHAPE, max_position_embeddings=LLAMA_CONTEXT, tie_word_embeddings=True)
    return _save(LlamaForCausalLM, config, directory, seed)


_SHAPE: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,  # the default makes logits so flat that rounding would decide
    "dtype": "float32",
    "eos_token_id": None,
    "bos_token_id": None,
}


def _save(architecture: Any, config: Any, directory: Path, seed: int) -> Path:
    tokenizer = make_tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = architecture(config)
    if not config.tie_word_embeddings:
        with torch.no_grad():
            model.lm_head.weight[tokenizer.eos_token_id] = 0
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
