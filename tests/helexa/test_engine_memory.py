"""How large a KV cache is made."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Config, LlamaConfig, MambaConfig, Qwen3Config

from helexa.engine.memory import (
    BLOCK_SIZE,
    FLASH_BLOCK_SIZE,
    block_size,
    bytes_per_token,
    context_length,
    layers_of,
    pool_blocks,
)
from helexa.engine.shapes import LayerShape


@pytest.mark.parametrize(("device", "size"), [("cpu", BLOCK_SIZE), ("cuda", FLASH_BLOCK_SIZE), ("mps", BLOCK_SIZE)])
def test_a_block_is_as_large_as_the_kernel_of_the_device_wants_it(device: str, size: int) -> None:
    assert block_size(device) == size


def test_a_token_holds_a_key_and_a_value_of_each_head_of_each_layer() -> None:
    layers = [LayerShape(8, 128, 128), LayerShape(8, 128, 128), LayerShape(1, 576, 512)]
    assert bytes_per_token(layers, 2) == 2 * (2 * 8 * 256 + 1088)
    assert bytes_per_token([], 2) == 0


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (Qwen3Config(num_hidden_layers=3, num_key_value_heads=4, head_dim=96), [LayerShape(4, 96, 96)] * 3),
        (LlamaConfig(num_hidden_layers=2, num_attention_heads=8, hidden_size=256), [LayerShape(8, 32, 32)] * 2),
        (GPT2Config(n_layer=1, n_head=4, n_embd=64), [LayerShape(4, 16, 16)]),
        (MambaConfig(num_hidden_layers=2, hidden_size=32), [LayerShape(1, 32, 32)] * 2),
    ],
)
def test_what_a_configuration_says_of_keys_and_values(config: Any, expected: list[LayerShape]) -> None:
    assert layers_of(config) == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [(Qwen3Config(max_position_embeddings=77), 77), (GPT2Config(n_positions=64), 64), (MambaConfig(), 4096)],
)
def test_what_a_configuration_says_of_the_context(config: Any, expected: int) -> None:
    assert context_length(config) == expected


def test_with_memory_to_spare_there_is_room_for_all_that_may_run() -> None:
    assert pool_blocks(1000, 10**12, context_length=4096, running=64, size=16) == 64 * 256
    assert pool_blocks(1000, 10**12, context_length=4097, running=64, size=16) == 64 * 257


def test_with_less_memory_there_is_what_fits() -> None:
    assert pool_blocks(1000, 16_000 * 10, context_length=4096, running=64, size=16) == 10
    assert pool_blocks(1000, 16_000 * 11 - 1, context_length=4096, running=64, size=16) == 10
    assert pool_blocks(1000, 16_000, context_length=4096, running=64, size=16) == 1


@pytest.mark.parametrize("memory", [0, 15_999])
def test_no_memory_for_a_single_block_is_an_error_that_says_so(memory: int) -> None:
    with pytest.raises(
        MemoryError, match="0 MiB are left for its KV cache, too little for 16 tokens, which need 1 MiB"
    ):
        pool_blocks(1000, memory, context_length=4096, running=64, size=16)


def test_the_error_tells_how_much_was_left() -> None:
    with pytest.raises(MemoryError, match=r"^5 MiB are left .* 16 tokens, which need 16 MiB$"):
        pool_blocks(2**20, 5 * 2**20, context_length=4096, running=64, size=16)


def test_a_model_that_keeps_nothing_per_token_needs_no_memory() -> None:
    assert pool_blocks(0, 10**6, context_length=100, running=2, size=16) == 14


@given(
    per_token=st.integers(1, 10**6),
    memory=st.integers(0, 10**12),
    context_length=st.integers(1, 10**6),
    running=st.integers(1, 512),
    size=st.sampled_from([16, 256]),
)
def test_a_pool_fits_its_memory_and_is_not_larger_than_it_can_be_filled(
    per_token: int, memory: int, context_length: int, running: int, size: int
) -> None:
    try:
        blocks = pool_blocks(per_token, memory, context_length, running, size)
    except MemoryError:
        assert per_token * size > memory
        return
    assert blocks >= 1
    assert blocks * size * per_token <= memory
    assert (blocks - 1) * size < (context_length + size - 1) * running
    enough = blocks * size >= context_length * running
    assert enough or (blocks + 1) * size * per_token > memory
