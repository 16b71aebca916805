"""Models that the paged cache is not for: which they are, that they continue as in transformers, what is refused."""

from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from architectures import CONTEXT, VOCABULARY, Greedy, continue_greedily, make_module
from structlog.testing import capture_logs

from helexa.engine.networks.runner import make_network
from helexa.engine.networks.stateful import NotContinuedError, StatefulRunner
from helexa.engine.scheduling.plan import Chunk, StepPlan
from helexa.engine.scheduling.scheduler import Budget

SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.3,
    "eos_token_id": None,
    "bos_token_id": None,
    "pad_token_id": None,
}
OTHER_NAMES: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 8, "n_positions": CONTEXT}
MAMBA: dict[str, Any] = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8}
JAMBA: dict[str, Any] = {
    "num_experts": 2,
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
    "mamba_d_state": 8,
    "use_mamba_kernels": False,
}
HIDDEN: dict[str, Any] = {"lru_width": 32, "attention_window_size": 8, "num_hidden_layers": 3}
LONGROPE: dict[str, Any] = {
    "rope_type": "longrope",
    "factor": 8.0,
    "rope_theta": 1e4,
    "short_factor": [1.0] * 4,
    "long_factor": [3.0] * 4,
    "original_max_position_embeddings": 16,
}
MODELS: dict[str, tuple[str, dict[str, Any], str]] = {
    "attention of its own": ("GPTJConfig", OTHER_NAMES, "of its 2 layers, 0 attend"),
    "attention of its own, with biases": ("BloomConfig", {"n_head": 4, "n_layer": 2}, "of its 2 layers, 0 attend"),
    "attention twice a layer": ("DiffLlamaConfig", {}, "its layer 0 attends more than once"),
    "rotation by length": ("LlamaConfig", {"rope_parameters": LONGROPE}, "rotary embedding depends"),
    "no attention": ("MambaConfig", {"state_size": 8}, "the kind 'linear_attention'"),
    "a state by another name": ("RwkvConfig", {"attention_hidden_size": 32}, "of its 2 layers, 0 attend"),
    "no chunks": ("JambaConfig", JAMBA, "layers of the kind 'linear_attention'"),
    "no sense of position": ("BambaConfig", {**MAMBA, "attn_layer_indices": [1]}, "the kind 'linear_attention'"),
    "a cache of its own kind": ("MiniMaxConfig", {"num_local_experts": 2}, "the kind 'linear_attention'"),
}


def make(kind: str, more: dict[str, Any]) -> Any:
    config = getattr(transformers, kind)(**SHAPE | more)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return transformers.AutoModelForCausalLM.from_config(config).eval()


def prompt(length: int, seed: int) -> list[int]:
    random = Random(seed)
    return [random.randrange(VOCABULARY) for _ in range(length)]


@pytest.mark.parametrize(("kind", "more", "why"), MODELS.values(), ids=MODELS)
def test_what_cannot_be_paged_is_told_and_runs_one_by_one_with_the_same_tokens(
    kind: str, more: dict[str, Any], why: str
) -> None:
    """Three prompts side by side, in chunks that end anywhere."""
    prompts = [prompt(length, length) for length in (5, 23, 30)]
    expected = [continue_greedily(make(kind, more), ids, 6) for ids in prompts]
    module = make(kind, more)
    with capture_logs() as logs:
        assert make_network(module) is None
    (entry,) = logs
    assert (entry["event"], entry["log_level"]) == ("model.not_paged", "warning")
    assert why in entry["reason"]
    greedy = Greedy(StatefulRunner(module), Budget(running=3, tokens=7, reuse=False))
    assert greedy.run(prompts, 6) == expected


def test_a_model_that_mixes_neighbouring_tokens_is_not_paged() -> None:
    """One sequence's last token and the next one's first are neighbours in a batch."""

    class Shifted(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.inner(x + torch.nn.functional.pad(x, (0, 0, 1, 0))[:, :-1])
            return out

    module = make_module("gemma")
    module.model.layers[0].mlp = Shifted(module.model.layers[0].mlp)
    with capture_logs() as logs:
        assert make_network(module) is None
    assert "unlike its own" in logs[0]["reason"]


def test_a_module_that_is_not_paged_attends_again_as_it_did() -> None:
    module = make("DiffLlamaConfig", {})
    before = module.config._attn_implementation
    make_network(module)
    assert module.config._attn_implementation == before


# The runner


@pytest.fixture(scope="module")
def module() -> Any:
    return make_module("qwen3-next with linear attention")


@pytest.fixture
def runner(module: Any) -> StatefulRunner:
    return StatefulRunner(module)


def chunk(number: int, ids: list[int], start: int = 0, *, due: bool = True) -> Chunk:
    return Chunk(number, ids, start, [0], due)


def whole(module: Any, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = module(torch.tensor([ids]), use_cache=False).logits[0, -1]
    return logits


def test_logits_are_of_the_chunks_that_are_due_in_order(runner: StatefulRunner, module: Any) -> None:
    a, b, c = prompt(9, 1), prompt(4, 2), prompt(6, 3)
    found = runner.forward(StepPlan((chunk(1, a), chunk(2, b, due=False), chunk(3, c))))
    assert found.shape == (2, runner.vocabulary) == (2, VOCABULARY)
    torch.testing.assert_close(found, torch.stack([whole(module, a), whole(module, c)]), rtol=1e-3, atol=1e-3)


def test_a_step_without_a_token_due_has_no_logits(runner: StatefulRunner) -> None:
    assert runner.forward(StepPlan((chunk(1, prompt(4, 1), due=False),))).shape == (0, VOCABULARY)


def test_a_prompt_in_chunks_ends_as_it_does_in_one(runner: StatefulRunner, module: Any) -> None:
    ids = prompt(12, 1)
    runner.forward(StepPlan((chunk(1, ids[:5], due=False),)))
    runner.forward(StepPlan((chunk(1, ids[5:7], 5, due=False),)))
    found = runner.forward(StepPlan((chunk(1, ids[7:], 7),)))
    torch.testing.assert_close(found[0], whole(module, ids), rtol=1e-3, atol=1e-3)


def test_a_sequence_that_starts_over_has_forgotten_everything(runner: StatefulRunner, module: Any) -> None:
    runner.forward(StepPlan((chunk(1, prompt(9, 1)),)))
    runner.forward(StepPlan((chunk(1, prompt(4, 8), 9, due=False),)))
    found = runner.forward(StepPlan((chunk(1, prompt(6, 2)),)))
    torch.testing.assert_close(found[0], whole(module, prompt(6, 2)), rtol=1e-3, atol=1e-3)


def test_what_is_forgotten_keeps_no_memory(runner: StatefulRunner) -> None:
    runner.forward(StepPlan((chunk(1, prompt(9, 1)), chunk(2, prompt(9, 2)))))
    runner.forget(1)
    assert list(runner._states) == [2]
    runner.forget(2)
    runner.forget(3)
    assert runner._states == {}


def test_a_model_that_takes_no_chunks_computes_nothing_before_the_last_one() -> None:
    module = make("MambaConfig", {"state_size": 8})
    runner, ids, seen = StatefulRunner(module), prompt(12, 1), list[int]()
    module.register_forward_hook(lambda _, args, __: seen.append(args[0].shape[1]))
    runner.forward(StepPlan((chunk(1, ids[:5], due=False),)))
    runner.forward(StepPlan((chunk(1, ids[5:], 5),)))
    runner.forward(StepPlan((chunk(1, [7], 12),)))
    assert seen == [12, 1]


def test_a_model_that_takes_chunks_computes_them_as_they_come(runner: StatefulRunner, module: Any) -> None:
    ids, seen = prompt(12, 1), list[int]()
    hook = module.register_forward_hook(lambda _, args, __: seen.append(args[0].shape[1]))
    runner.forward(StepPlan((chunk(1, ids[:5], due=False),)))
    runner.forward(StepPlan((chunk(1, ids[5:], 5),)))
    hook.remove()
    assert seen == [5, 7]


# What is refused


def test_a_model_that_hides_its_states_is_refused() -> None:
    """They are in its modules: all sequences would have the same."""
    with pytest.raises(NotContinuedError, match="does not hand out what it keeps"):
        StatefulRunner(make("RecurrentGemmaConfig", HIDDEN))


class Fake(torch.nn.Module):
    """A model whose logits are the running sum of its tokens' vectors, and whose cache has a fault."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(40, 40, _weight=torch.eye(40) + 0.1)
        self.fault, self.left_behind = fault, torch.zeros(40)
        self.config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(rope_parameters=None))
        self.device = torch.device("cpu")

    def get_output_embeddings(self) -> torch.nn.Embedding:
        return self.table

    def forward(self, ids: torch.Tensor, state: torch.Tensor | None = None, **_: object) -> Any:
        before = torch.zeros(40) if state is None else state
        if self.fault == "mixes" and state is not None:
            before = self.left_behind
        if self.fault == "chunks" and ids.shape[1] > 1:
            before = torch.zeros(40)
        sums = before + self.table(ids[0]).cumsum(0)
        self.left_behind = sums[-1]
        kept = torch.full((40,), float("nan")) if self.fault == "nan" else sums[-1]
        output = {"state": torch.zeros(40) if self.fault == "forgets" else kept}
        return type("Output", (dict,), {"logits": sums[None]})(output)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("forgets", "its cached logits are unlike its own"),
        ("nan", "its cached logits are unlike its own"),
        ("mixes", "its sequences disturb one another"),
    ],
)
def test_a_cache_that_does_not_do_its_work_is_refused(fault: str, sentence: str) -> None:
    with pytest.raises(NotContinuedError, match=sentence):
        StatefulRunner(Fake(fault))


@pytest.mark.parametrize(("fault", "in_chunks"), [("none", True), ("chunks", False)])
def test_what_a_cache_can_do_is_found_out(fault: str, *, in_chunks: bool) -> None:
    runner = StatefulRunner(Fake(fault))
    assert runner._in_chunks == in_chunks
    ids = [3, 1, 4, 1, 5]
    runner.forward(StepPlan((chunk(1, ids[:3], due=False),)))
    found = runner.forward(StepPlan((chunk(1, ids[3:], 3),)))
    torch.testing.assert_close(found[0], (torch.eye(40) + 0.1)[ids].sum(0))
