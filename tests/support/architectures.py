"""Small random models of the architectures that helexa is held against, and a greedy engine without a worker."""

from collections.abc import Sequence as Ids
from typing import Any

import torch
import transformers
from attrs import define, field

from helexa.engine.networks.runner import PagedRunner, Runner, make_network
from helexa.engine.networks.stateful import StatefulRunner
from helexa.engine.protocol import Submit
from helexa.engine.scheduling.blocks import BlockManager
from helexa.engine.scheduling.scheduler import Budget, Scheduler
from helexa.engine.scheduling.sequence import Sequence
from helexa.wire.sampling import SamplingParams

torch.set_num_threads(1)  # for models this small a second thread is only in the way

VOCABULARY = 320
CONTEXT = 512
BLOCK = 4
_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.3,  # the default makes logits so flat that rounding would decide
    "eos_token_id": None,
    "bos_token_id": None,
    "pad_token_id": None,
}
_HEAD: dict[str, Any] = {"head_dim": 16}
_EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
_WINDOW: dict[str, Any] = {"sliding_window": 8}

NATIVE: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3": ("Qwen3Config", _HEAD),
    "qwen2": ("Qwen2Config", {}),
    "llama": ("LlamaConfig", {"attention_bias": True, "mlp_bias": True}),
    "mistral with a sliding window": ("MistralConfig", _WINDOW),
}
PAGED: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3 with experts": ("Qwen3MoeConfig", _HEAD | _EXPERTS),
    "gemma": ("GemmaConfig", _HEAD),
    "gemma2 with a soft cap": ("Gemma2Config", _HEAD | _WINDOW),
    "gemma3 with alternating windows": ("Gemma3TextConfig", _HEAD | _WINDOW),
    "phi3": ("Phi3Config", {}),
    "gpt-oss with sinks": ("GptOssConfig", _HEAD | _WINDOW | {"num_local_experts": 4}),
    "deepseek with latent attention": (
        "DeepseekV3Config",
        {
            "num_key_value_heads": 4,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_group": 1,
            "topk_group": 1,
            "moe_intermediate_size": 32,
            "q_lora_rank": 32,
            "kv_lora_rank": 16,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 16,
            "v_head_dim": 16,
            "first_k_dense_replace": 1,
        },
    ),
}
STATEFUL: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3-next with linear attention": (
        "Qwen3NextConfig",
        _HEAD
        | _EXPERTS
        | {
            "shared_expert_intermediate_size": 32,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 16,
        },
    ),
}
ALL = NATIVE | PAGED | STATEFUL


def make_module(name: str, dtype: torch.dtype = torch.float32) -> Any:
    """A transformers model with weights from a seed, in evaluation mode."""
    kind, more = ALL[name]
    config = getattr(transformers, kind)(**_SHAPE | more)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return transformers.AutoModelForCausalLM.from_config(config).to(dtype).eval()


def make_runner(module: Any, blocks: int = 200) -> Runner:
    """The way helexa runs a module, which it takes apart."""
    network = make_network(module)
    return PagedRunner(network, torch.device("cpu"), blocks, BLOCK) if network else StatefulRunner(module)


@define
class Greedy:
    """An engine that takes the likeliest token, without a sampler or a worker.

    Attributes:
        steps: tokens computed by each step so far.
    """

    runner: Runner
    budget: Budget = field(factory=Budget)
    blocks: int = 200
    scheduler: Scheduler = field(init=False)
    steps: list[int] = field(factory=list)
    _count: int = 0

    def __attrs_post_init__(self) -> None:
        self.scheduler = Scheduler(BlockManager(self.blocks, BLOCK), self.budget)

    def run(self, prompts: Ids[Ids[int]], output: int) -> list[list[int]]:
        """The tokens that each prompt is continued with."""
        live = [self._add(list(prompt), output) for prompt in prompts]
        while (plan := self.scheduler.schedule()) is not None:
            self.steps.append(plan.tokens)
            picked = self.runner.forward(plan).argmax(dim=-1).tolist()
            self.scheduler.commit(plan, dict(zip(plan.due, picked, strict=True)))
            self.scheduler.check_integrity()
        return [each.ids[each.prompt_length :] for each in live]

    def _add(self, prompt: list[int], output: int) -> Sequence:
        self._count += 1
        submit = Submit(str(self._count), "", prompt, SamplingParams(max_tokens=output))
        sequence = Sequence.of(submit, 0, self._count, CONTEXT, 0.0)
        self.scheduler.add(sequence)
        return sequence


@torch.inference_mode()
def continue_greedily(module: Any, prompt: Ids[int], output: int) -> list[int]:
    """What transformers itself makes of a prompt, computed from scratch for every token."""
    ids = list(prompt)
    for _ in range(output):
        logits = module(torch.tensor([ids]), use_cache=False).logits[0, -1]
        ids.append(int(logits.argmax()))
    return ids[len(prompt) :]
