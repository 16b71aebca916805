"""Trains the bundled model from nothing: ``python -m helexa.tiny.train``.

The corpus, the tokenizer and the weights follow from the seed. First the whole corpus is learned, then the tasks that
need the most practice are drawn oftener. About an hour on two cores.
"""

import argparse
import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import torch
from attrs import asdict, frozen
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR

from helexa.tiny import CHECKPOINT
from helexa.tiny import tokenizer as bpe
from helexa.tiny.batches import Batch, sample, stream
from helexa.tiny.corpus import POLISH_SHARES, SHARES, Draw
from helexa.tiny.encode import END_OF_TEXT, END_OF_TURN, Renderer, token_id

CONTEXT = 2048
STEPS = 3000
POLISH = 1200
SHAPE = {
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
}

_SAMPLE = 30_000  # texts that the tokenizer is trained on
_BATCHES = 2  # batches of different lengths per step: one length alone would be one kind of task alone
_TOKENS = 4096  # per batch, padding included
_MUON_PEAK = 0.02
_ADAM_PEAK = 4e-3
_WARMUP = 100
_GENTLE = 0.3  # peak learning rates of the second stage, as a share of those of the first
_LOG_EVERY = 25
_SAVE_EVERY = 300


@frozen
class Stage:
    """A stretch of training with a learning-rate schedule of its own.

    Attributes:
        steps: optimizer steps.
        height: peak learning rates as a share of the usual ones.
        shares: how often each task is drawn.
        seed: seed of its corpus.
    """

    steps: int
    height: float
    shares: Mapping[str, float]
    seed: int


@frozen
class Progress:
    """What a stage has come to, for the card."""

    steps: int
    tokens: int
    seconds: float
    loss: float
    parameters: int


def make_tokenizer(seed: int) -> Tokenizer:
    """Train the tokenizer on a sample of the corpus."""
    texts = sample(Renderer(), Draw(Random(seed)), _SAMPLE)
    return bpe.train(text for pieces in texts for text, _ in pieces)


def make_model(tokenizer: Tokenizer, seed: int) -> Any:
    """Return an untrained Qwen3ForCausalLM with float32 weights."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    end, pad = token_id(tokenizer, END_OF_TURN), token_id(tokenizer, END_OF_TEXT)
    config = Qwen3Config(
        **SHAPE,
        vocab_size=tokenizer.get_vocab_size(),
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        attention_bias=False,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
    )
    model = Qwen3ForCausalLM(config)
    model.generation_config.do_sample = False  # a server that reads this decodes greedily unless told otherwise
    model.generation_config.eos_token_id = [end, pad]
    model.generation_config.pad_token_id = pad
    return model


def save(model: Any, tokenizer: Tokenizer, folder: Path) -> None:
    """Write a checkpoint in bfloat16, without touching the float32 weights being trained."""
    from transformers import Qwen3ForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder.mkdir(parents=True, exist_ok=True)
    copy = Qwen3ForCausalLM(model.config)
    copy.load_state_dict(model.state_dict())
    copy.generation_config = model.generation_config
    copy.to(torch.bfloat16).save_pretrained(folder)
    bpe.save(tokenizer, folder, CONTEXT)


def rate(step: int, steps: int) -> float:
    """Return the share of the peak learning rate: a warm-up, then half a cosine down to a hundredth."""
    if step < _WARMUP:
        return (step + 1) / _WARMUP
    done = (step - _WARMUP) / max(1, steps - _WARMUP)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))


def loss_function(model: Any, *, compiled: bool) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return the summed cross-entropy of the learned tokens; only these go through the output layer."""

    def total(ids: torch.Tensor, where: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        hidden = model.model(ids, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden.flatten(0, 1)[where])
        return cross_entropy(logits.float(), wanted, reduction="sum")

    return torch.compile(total, dynamic=True) if compiled else total


def optimizers_for(model: Any, height: float) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices of the layers, AdamW for the embedding and the norms.

    AdamW alone needs about twice the steps for the same loss.
    """
    matrices = [weight for weight in model.model.layers.parameters() if weight.dim() > 1]
    chosen = {id(weight) for weight in matrices}
    rest = [weight for weight in model.parameters() if id(weight) not in chosen]
    muon = torch.optim.Muon(matrices, lr=_MUON_PEAK * height, weight_decay=0.01, momentum=0.95)
    adam = torch.optim.AdamW(rest, lr=_ADAM_PEAK * height, betas=(0.9, 0.97), weight_decay=0.0, fused=True)
    return [muon, adam]


def targets(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return flat positions that predict a learned token, and these tokens."""
    predicts = torch.zeros_like(batch.learned)
    predicts[:, :-1] = batch.learned[:, 1:]
    where = predicts.flatten().nonzero().squeeze(1)
    return where, batch.ids.flatten()[where + 1]


class Trainer:
    """Owns the model and its optimizer and takes steps."""

    def __init__(self, model: Any, steps: int, *, compiled: bool, height: float = 1.0) -> None:
        self._model = model
        self._loss = loss_function(model, compiled=compiled)
        self._optimizers = optimizers_for(model, height)
        self._schedules = [LambdaLR(optimizer, lambda step: rate(step, steps)) for optimizer in self._optimizers]

    def step(self, batches: list[Batch]) -> float:
        """Take one step and return the mean loss per learned token, in nats."""
        goals = [targets(batch) for batch in batches]
        count = sum(len(wanted) for _, wanted in goals)
        total = sum(self._backward(batch, *goal, count) for batch, goal in zip(batches, goals, strict=True))
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        for optimizer, schedule in zip(self._optimizers, self._schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        return total

    def _backward(self, batch: Batch, where: torch.Tensor, wanted: torch.Tensor, count: int) -> float:
        with torch.autocast("cpu", torch.bfloat16):
            loss = self._loss(batch.ids, where, wanted) / count
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()


def run(trainer: Trainer, batches: Iterator[Batch], steps: int, report: Callable[[int, int, float], None]) -> None:
    """Take all steps, reporting the step, its tokens and its loss after each."""
    for number in range(steps):
        group = [next(batches) for _ in range(_BATCHES)]
        loss = trainer.step(group)
        report(number + 1, sum(batch.ids.numel() for batch in group), loss)


class Reporter:
    """Keeps the running loss, prints the progress and saves a checkpoint from time to time."""

    def __init__(self, steps: int, write: Callable[[], None]) -> None:
        self._steps = steps
        self._write = write
        self._began = time.monotonic()
        self.loss = math.nan
        self.tokens = 0
        self.step = 0

    @property
    def seconds(self) -> float:
        """Seconds since the training began."""
        return time.monotonic() - self._began

    def __call__(self, step: int, tokens: int, loss: float) -> None:
        """Note one step."""
        self.step = step
        self.tokens += tokens
        self.loss = loss if math.isnan(self.loss) else 0.98 * self.loss + 0.02 * loss
        if step % _LOG_EVERY == 0 or step == self._steps:
            self._print()
        if step % _SAVE_EVERY == 0:
            self._write()

    def _print(self) -> None:
        speed = self.tokens / self.seconds
        left = self.seconds / self.step * (self._steps - self.step)
        line = f"step {self.step}/{self._steps}  loss {self.loss:.4f}  {speed:,.0f} tokens/s  {left / 60:.1f} min left"
        print(line, flush=True)  # noqa: T201 - a command that reports to its terminal


def fit(model: Any, tokenizer: Tokenizer, folder: Path, stage: Stage, *, compiled: bool) -> Progress:
    """Train a model and write it to a folder; an interrupt ends the training early and still saves."""
    reporter = Reporter(stage.steps, lambda: save(model, tokenizer, folder))
    trainer = Trainer(model, stage.steps, compiled=compiled, height=stage.height)
    try:
        run(trainer, stream(tokenizer, stage.seed, _TOKENS, shares=stage.shares), stage.steps, reporter)
    finally:
        save(model, tokenizer, folder)
    return Progress(
        steps=reporter.step,
        tokens=reporter.tokens,
        seconds=round(reporter.seconds, 1),
        loss=round(reporter.loss, 5),
        parameters=sum(weight.numel() for weight in model.parameters()),
    )


def learn(steps: int, seed: int, folder: Path, *, compiled: bool) -> None:
    """Train a model from nothing on the whole corpus."""
    tokenizer = make_tokenizer(seed)
    stage = Stage(steps, 1.0, SHARES, seed + 1)
    progress = fit(make_model(tokenizer, seed), tokenizer, folder, stage, compiled=compiled)
    record(folder, [asdict(progress)])


def polish(steps: int, seed: int, folder: Path, *, compiled: bool) -> None:
    """Train the model of a folder further, on more of the tasks that need it.

    It starts from the bfloat16 weights on disk, so that both stages in one run and in two give the same. Done again, it
    is one more stage, on other data.
    """
    from transformers import Qwen3ForCausalLM

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    stages = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    model = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    stage = Stage(steps, _GENTLE, POLISH_SHARES, seed + 1 + len(stages))
    progress = fit(model, tokenizer, folder, stage, compiled=compiled)
    record(folder, [*stages, asdict(progress)])


def record(folder: Path, stages: list[dict[str, Any]]) -> None:
    """Write what the stages came to, for the card."""
    (folder / "training.json").write_text(json.dumps(stages, indent=2) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m helexa.tiny.train", description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS, help="optimizer steps (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of corpus and weights (default %(default)s)")
    parser.add_argument("--out", type=Path, default=CHECKPOINT, help="folder to write (default %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default %(default)s)")
    parser.add_argument(
        "--eager", action="store_true", help="do not compile the model (compiling needs a C++ compiler)"
    )
    parser.add_argument("--polish", type=int, default=POLISH, help="steps of the second stage (default %(default)s)")
    parser.add_argument("--only-polish", action="store_true", help="only the second stage, from the weights in --out")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    compiled = not options.eager and shutil.which("g++") is not None
    try:
        if not options.only_polish:
            learn(options.steps, options.seed, options.out, compiled=compiled)
        polish(options.polish, options.seed, options.out, compiled=compiled)
    except KeyboardInterrupt:
        print("interrupted; the weights so far are saved", file=sys.stderr)  # noqa: T201
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
