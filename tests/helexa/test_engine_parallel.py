"""A model split over ranks computes what it computes whole: the same greedy tokens, logits but for rounding."""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
import torch
from architectures import NATIVE, Greedy, make_module, make_runner
from rank_threads import Ranks, ShardedRunner
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from helexa.engine.networks.runner import PagedRunner
from helexa.engine.parallel.network import ShareError, refuse_odd
from helexa.engine.quant.formats import Quant
from helexa.engine.scheduling.plan import Chunk, StepPlan
from helexa.engine.scheduling.scheduler import Budget
from helexa.tiny import CHECKPOINT

OUTPUT = 12
PROMPT = StepPlan((Chunk(1, list(range(3, 33)), 0, list(range(8)), due=True), Chunk(2, [7, 9, 11], 0, [9], due=True)))


def prompt(length: int) -> list[int]:
    random = Random(length)
    return [random.randrange(320) for _ in range(length)]


@pytest.fixture(scope="module")
def two() -> Iterator[Ranks]:
    ranks = Ranks(2)
    yield ranks
    ranks.close()


def with_biases(name: str, dtype: torch.dtype = torch.float32) -> Any:
    """With biases that are not zero, where there are any."""
    module = make_module(name, dtype)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(5)
        for key, parameter in module.named_parameters():
            if key.endswith("bias"):
                parameter.normal_(std=0.3)
    return module


def bundled() -> Any:
    return AutoModelForCausalLM.from_pretrained(CHECKPOINT, dtype=torch.bfloat16).eval()


@pytest.mark.parametrize("name", sorted(NATIVE))
def test_two_ranks_continue_as_one(two: Ranks, name: str) -> None:
    prompts = [prompt(length) for length in (5, 23, 24, 41)]
    whole = Greedy(make_runner(with_biases(name))).run(prompts, OUTPUT)
    assert Greedy(ShardedRunner(two, lambda: with_biases(name))).run(prompts, OUTPUT) == whole


@pytest.mark.parametrize("name", sorted(NATIVE))
def test_two_ranks_have_the_logits_of_one(two: Ranks, name: str) -> None:
    whole = make_runner(with_biases(name)).forward(PROMPT)
    torch.testing.assert_close(
        ShardedRunner(two, lambda: with_biases(name)).forward(PROMPT), whole, rtol=1e-4, atol=1e-4
    )


def test_a_prefill_in_chunks_nobody_waits_for_and_preemption_change_nothing(two: Ranks) -> None:
    prompts = [prompt(length) for length in (23, 41)]
    whole = Greedy(make_runner(make_module("qwen3"))).run(prompts, OUTPUT)
    chunked = Greedy(
        ShardedRunner(two, lambda: make_module("qwen3"), blocks=19), Budget(running=4, tokens=7), blocks=19
    )
    assert chunked.run(prompts, OUTPUT) == whole


def test_two_ranks_run_the_bundled_model_within_the_rounding_of_bfloat16(two: Ranks) -> None:
    whole, split = make_runner(bundled()).forward(PROMPT), ShardedRunner(two, bundled).forward(PROMPT)
    assert whole.shape == split.shape
    exact = make_runner(bundled().float()).forward(PROMPT)
    assert (split - exact).abs().max() < 2 * (whole - exact).abs().max() + 1e-2, "no farther off than one rank is"


@pytest.mark.parametrize("quant", ["int8", "int4"])
def test_shares_are_reduced_as_the_whole_is(two: Ranks, quant: Quant) -> None:
    whole = make_runner(bundled()).forward(PROMPT)
    split = ShardedRunner(two, bundled, quant)
    assert split.networks[0].nbytes < ShardedRunner(two, bundled).networks[0].nbytes
    distance = (split.forward(PROMPT) - whole).float().norm() / whole.float().norm()
    assert distance < {"int8": 0.05, "int4": 0.3}[quant]


def test_each_rank_has_half_of_all_but_embedding_and_norms(two: Ranks) -> None:
    module = make_module("llama")
    embedding = module.model.embed_tokens.weight.nbytes
    whole: Any = make_runner(module)
    nbytes, layers = whole._network.nbytes, whole._network.layers
    for network in ShardedRunner(two, lambda: make_module("llama")).networks:
        assert network.nbytes - embedding == pytest.approx((nbytes - embedding) / 2, rel=0.02)
        assert [each.heads * 2 for each in network.layers] == [each.heads for each in layers]


def small(**changes: Any) -> LlamaForCausalLM:
    shape: dict[str, Any] = {
        "vocab_size": 33,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.3,
    }
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return LlamaForCausalLM(LlamaConfig(**shape | changes)).eval()


@pytest.mark.parametrize("tied", [True, False])
def test_a_vocabulary_that_does_not_come_out_even_has_no_tokens_too_many(two: Ranks, *, tied: bool) -> None:
    def make() -> LlamaForCausalLM:
        return small(tie_word_embeddings=tied)

    whole, split = make_runner(make()).forward(PROMPT), ShardedRunner(two, make)
    assert split.vocabulary == 33
    logits = split.forward(PROMPT)
    assert logits.shape == whole.shape
    torch.testing.assert_close(logits, whole, rtol=1e-4, atol=1e-4)


def test_four_ranks_run_a_model_with_four_key_heads() -> None:
    def make() -> LlamaForCausalLM:
        return small(num_key_value_heads=4)

    ranks = Ranks(4)
    try:
        split = ShardedRunner(ranks, make).forward(PROMPT)
    finally:
        ranks.close()
    torch.testing.assert_close(split, make_runner(make()).forward(PROMPT), rtol=1e-4, atol=1e-4)


def test_a_share_keeps_nothing_of_the_whole_in_memory(two: Ranks) -> None:
    for network in ShardedRunner(two, lambda: make_module("llama")).networks:
        held = [network._head.own.weight, *(layer.output.own.weight for layer in network._layers)]
        assert all(each.untyped_storage().nbytes() == each.nbytes for each in held)


def test_a_runner_writes_each_step_only_into_its_own_heads(two: Ranks) -> None:
    split = ShardedRunner(two, lambda: make_module("qwen3"))
    split.forward(PROMPT)
    whole: Any = make_runner(make_module("qwen3"))
    whole.forward(PROMPT)
    runners: list[Any] = list(split._runners)
    keys = torch.cat([runner._cache._keys[0][:, :30] for runner in runners])
    torch.testing.assert_close(keys, whole._cache._keys[0][:, :30], rtol=1e-4, atol=1e-4)
    assert all(isinstance(runner, PagedRunner) for runner in runners)


@pytest.mark.parametrize(
    ("make", "ranks", "sentence"),
    [
        (lambda: small(num_attention_heads=8), 3, "its 8 attention heads cannot be shared evenly by 3 devices"),
        (small, 4, "its 2 key and value heads cannot be shared evenly by 4 devices"),
        (lambda: small(intermediate_size=33), 2, "its 33 neurons per layer cannot be shared evenly by 2 devices"),
        (lambda: make_module("gemma"), 2, "a GemmaForCausalLM cannot be spread over several devices"),
    ],
)
def test_what_cannot_be_split_is_refused_with_the_reason(make: Callable[[], Any], ranks: int, sentence: str) -> None:
    with pytest.raises(ShareError, match=sentence):
        refuse_odd(make(), ranks)
