"""How much memory models and their KV caches need, and may have. Pure."""

from collections.abc import Sequence
from typing import Any

from helexa.engine.shapes import LayerShape

MIB = 2**20
BLOCK_SIZE = 16
"""Tokens per block. Smaller wastes less of a sequence's last block, larger makes shorter tables."""
FLASH_BLOCK_SIZE = 256
"""Where FlashAttention reads the blocks: its second version, which torch has built in, takes multiples of this only."""
SHORTEST_CONTEXT = 4096
"""Tokens; a model with a KV cache for less is hardly worth serving."""


def block_size(device: str) -> int:
    """Tokens per block on a kind of device, by torch's name of the kind."""
    return FLASH_BLOCK_SIZE if device == "cuda" else BLOCK_SIZE


def bytes_per_token(layers: Sequence[LayerShape], element_bytes: int) -> int:
    """What one token position holds, over all layers."""
    return sum(layer.elements for layer in layers) * element_bytes


def context_length(config: Any) -> int:
    """Tokens that a model takes at most, by its configuration of transformers."""
    return int(getattr(config.get_text_config(), "max_position_embeddings", 0) or 4096)


def layers_of(config: Any) -> list[LayerShape]:
    """What a configuration of transformers says of keys and values.

    Recurrent layers keep less, and are counted like the others. Latent attention (DeepSeek-V2, section 2.1) is run as
    if it were plain: every head's key and value are kept, not what they are computed from.
    """
    text = config.get_text_config()
    if getattr(text, "kv_lora_rank", None):
        latent = LayerShape(text.num_attention_heads, text.qk_nope_head_dim + text.qk_rope_head_dim, text.v_head_dim)
        return [latent] * text.num_hidden_layers
    queries = getattr(text, "num_attention_heads", None) or 1
    heads = getattr(text, "num_key_value_heads", None) or queries
    width = getattr(text, "head_dim", None) or text.hidden_size // queries
    return [LayerShape(heads, width, width)] * text.num_hidden_layers


def pool_blocks(per_token: int, memory: int, context_length: int, running: int, size: int) -> int:
    """Blocks of a pool: as many as ``running`` sequences of full length need, or as fit into ``memory``.

    Args:
        per_token: bytes of one token position.
        memory: bytes that the pool may have.
        context_length: tokens of the longest sequence.
        running: sequences at once.
        size: tokens per block.

    Raises:
        MemoryError: not even one block fits.
    """
    wanted = -(-context_length // size) * running
    fitting = memory // (max(1, per_token) * size)
    if fitting < 1:
        needed = -(-per_token * size // MIB)
        left = f"{memory // MIB} MiB are left for its KV cache"
        raise MemoryError(f"{left}, too little for {size} tokens, which need {needed} MiB")
    return min(wanted, fitting)
