"""helexa's forward passes held against transformers' own: the same logits, the same greedy tokens, however computed."""

from random import Random

import pytest
import torch
from architectures import ALL, BLOCK, NATIVE, PAGED, STATEFUL, Greedy, continue_greedily, make_module, make_runner

from helexa.engine.networks.generic import TransformersNetwork
from helexa.engine.networks.native import NativeNetwork
from helexa.engine.networks.runner import make_network
from helexa.engine.scheduling.plan import Chunk, StepPlan
from helexa.engine.scheduling.scheduler import Budget
from helexa.tiny import CHECKPOINT

OUTPUT = 12


def prompt(length: int, seed: int) -> list[int]:
    random = Random(seed)
    return [random.randrange(320) for _ in range(length)]


@pytest.fixture(scope="module", params=sorted(ALL))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def expected(name: str) -> dict[int, list[int]]:
    """transformers' greedy continuations of prompts of some lengths."""
    module = make_module(name)
    return {length: continue_greedily(module, prompt(length, length), OUTPUT) for length in (5, 23, 24, 41)}


@pytest.fixture
def greedy(name: str) -> Greedy:
    runner = make_runner(make_module(name))
    return Greedy(runner, Budget(reuse=runner.reuses_prefixes))


@pytest.mark.parametrize("name", sorted(NATIVE))
def test_the_llama_family_runs_natively(name: str) -> None:
    assert isinstance(make_network(make_module(name)), NativeNetwork)


@pytest.mark.parametrize("name", sorted(PAGED))
def test_other_attention_models_run_over_the_paged_cache(name: str) -> None:
    assert isinstance(make_network(make_module(name)), TransformersNetwork)


@pytest.mark.parametrize("name", sorted(STATEFUL))
def test_recurrent_models_run_with_a_state_per_sequence(name: str) -> None:
    assert make_network(make_module(name)) is None


def test_one_sequence_continues_as_in_transformers(greedy: Greedy, expected: dict[int, list[int]]) -> None:
    assert {length: greedy.run([prompt(length, length)], OUTPUT)[0] for length in expected} == expected


def test_a_batch_continues_as_in_transformers(greedy: Greedy, expected: dict[int, list[int]]) -> None:
    assert greedy.run([prompt(length, length) for length in expected], OUTPUT) == list(expected.values())


def test_a_prefill_in_chunks_changes_nothing(name: str, expected: dict[int, list[int]]) -> None:
    runner = make_runner(make_module(name))
    greedy = Greedy(runner, Budget(running=4, tokens=7, reuse=runner.reuses_prefixes))
    assert greedy.run([prompt(length, length) for length in expected], OUTPUT) == list(expected.values())
    assert max(greedy.steps) <= 7


def test_a_prefix_found_in_the_cache_changes_nothing(greedy: Greedy, expected: dict[int, list[int]]) -> None:
    first = greedy.run([prompt(41, 41)], OUTPUT)
    computed = sum(greedy.steps)
    second = greedy.run([prompt(41, 41)], OUTPUT)
    assert first == second == [expected[41]]
    if greedy.budget.reuse:
        assert sum(greedy.steps) - computed < computed - 30, "the second run found most of the prompt"


def test_sequences_that_share_a_prompt_in_one_step_get_the_same_tokens(
    greedy: Greedy, expected: dict[int, list[int]]
) -> None:
    assert greedy.run([prompt(41, 41)] * 3, OUTPUT) == [expected[41]] * 3


def test_preempted_sequences_continue_as_if_nothing_had_happened(name: str, expected: dict[int, list[int]]) -> None:
    runner = make_runner(make_module(name), blocks=24)
    greedy = Greedy(runner, Budget(reuse=runner.reuses_prefixes), blocks=24)
    assert greedy.run([prompt(length, length) for length in (24, 23, 24, 23)], OUTPUT) == [
        expected[length] for length in (24, 23, 24, 23)
    ]
    assert greedy.scheduler.preemptions > 0


@pytest.mark.parametrize("table", [[3, 4, 5, 6], [6, 2, 3, 9], [7, 5, 3, 1]], ids=["a row", "two runs", "scattered"])
def test_where_the_blocks_lie_changes_no_bit(table: list[int]) -> None:
    runner = make_runner(make_module("qwen3"))
    ids = prompt(4 * BLOCK, 1)
    whole = runner.forward(StepPlan((Chunk(1, ids, 0, [20, 21, 22, 23], due=True),)))
    assert torch.equal(runner.forward(StepPlan((Chunk(2, ids, 0, table, due=True),))), whole)


def test_the_bundled_model_continues_as_in_transformers() -> None:
    from transformers import AutoModelForCausalLM

    def load() -> object:
        return AutoModelForCausalLM.from_pretrained(CHECKPOINT, dtype=torch.float32).eval()

    text = prompt(60, 3)
    wanted = continue_greedily(load(), text, 40)
    assert Greedy(make_runner(load())).run([text], 40) == [wanted]


def test_packed_bfloat16_logits_are_close_to_transformers() -> None:
    """In bfloat16 both round, each in its own places: near, not equal."""
    ids = prompt(40, 5)
    with torch.inference_mode():
        wanted = make_module("qwen3", torch.bfloat16)(torch.tensor([ids])).logits[0, -1].float()
    table = list(range(10))
    found = make_runner(make_module("qwen3", torch.bfloat16)).forward(StepPlan((Chunk(1, ids, 0, table, due=True),)))
    assert torch.cosine_similarity(found[0].float(), wanted, dim=0) > 0.999
