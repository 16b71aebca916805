"""How far a model with reduced weights is from what it was: on conversations that the bundled model never saw."""

import math
from functools import cache
from typing import Any

import torch
from attrs import frozen
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from helexa import tiny
from helexa.engine.quant.formats import Quant
from helexa.engine.quant.packing import pack_in_place
from helexa.tiny.corpus import Draw, conversation, task_names
from helexa.tiny.encode import Renderer, Row, encode

_SEED = 30_000  # a draw of its own; held out like every draw that asks for it


@frozen
class Distance:
    """Of one model from another.

    Attributes:
        perplexity: on what the assistant should say, of the reduced model divided by that of the whole one.
        divergence: mean Kullback-Leibler divergence of the next token's distribution, in nats, over all positions.
        agreement: share of positions with the same likeliest token.
        logits: root mean square of the difference of the logits, divided by that of the logits.
    """

    perplexity: float
    divergence: float
    agreement: float
    logits: float


@cache
def rows(per_task: int = 2) -> tuple[Row, ...]:
    """Conversations of every task, as token ids."""
    draw, renderer = Draw.seeded(_SEED, held=True), Renderer()
    talks = [conversation(draw, task) for task in task_names() for _ in range(per_task)]
    tokenizer = Tokenizer.from_file(str(tiny.CHECKPOINT / "tokenizer.json"))
    return tuple(encode(tokenizer, [renderer.pieces(talk) for talk in talks]))


def bundled(quant: Quant | None = None) -> Any:
    """The bundled model, its weights reduced."""
    from transformers import AutoModelForCausalLM

    module = AutoModelForCausalLM.from_pretrained(tiny.CHECKPOINT, dtype=torch.bfloat16).eval()
    if quant is not None:
        pack_in_place(module, quant)
    return module


@torch.inference_mode()
def logits_of(module: Any) -> list[Tensor]:
    """``[tokens, vocabulary]`` float32 of each conversation."""
    return [module(torch.tensor([row.ids]), use_cache=False).logits[0].float() for row in rows()]


def distance(whole: list[Tensor], reduced: list[Tensor]) -> Distance:
    """Of what ``logits_of`` gives."""
    before, after = torch.cat(whole), torch.cat(reduced)
    logs = log_softmax(before, -1), log_softmax(after, -1)
    return Distance(
        math.exp(_loss(reduced) - _loss(whole)),
        float(kl_div(logs[1], logs[0], reduction="batchmean", log_target=True)),
        float((before.argmax(-1) == after.argmax(-1)).float().mean()),
        float((before - after).norm() / before.norm()),
    )


def _loss(logits: list[Tensor]) -> float:
    """Mean loss in nats on the tokens that the model learns to say."""
    losses = []
    for each, row in zip(logits, rows(), strict=True):
        learned = torch.tensor(row.learned[1:])
        losses.append(cross_entropy(each[:-1][learned], torch.tensor(row.ids[1:])[learned], reduction="none"))
    return float(torch.cat(losses).mean())
