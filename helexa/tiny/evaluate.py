"""Measures the bundled model on phrasings that it never saw: ``python -m helexa.tiny.evaluate``."""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from attrs import frozen

from helexa.tiny import CHECKPOINT
from helexa.tiny.corpus import Conversation, Draw, conversation, task_names

_SEED = 20_000  # the draw is held-out as well: its phrasings are never trained on, whatever the seed
_BATCH = 32
_MOST = 512  # new tokens: the longest right answer is about 420

_THOUGHT = re.compile(r"<think>\n(.+?)\n</think>\n\n", re.DOTALL)
_CALL = re.compile(r"<tool_call>\n(.*?)\n</tool_call>", re.DOTALL)


@frozen
class Miss:
    """A wrong answer: the last message, what the model said, what it should have said."""

    task: str
    asked: str
    said: str
    wanted: str


@frozen
class Score:
    """How a task went."""

    task: str
    right: int
    asked: int

    @property
    def accuracy(self) -> float:
        """Share of right answers, 0 to 1."""
        return self.right / self.asked


class Speaker:
    """A checkpoint that answers greedily, many conversations at once."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        self._tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self._model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()

    def answers(self, talks: Sequence[Conversation]) -> list[str]:
        """Return the text of the next assistant turn of each, in order.

        A turn that does not end within the limit keeps no end token and reads as cut off.
        """
        prompts = [self.prompt(talk) for talk in talks]
        order = sorted(range(len(talks)), key=lambda i: len(prompts[i]))
        said = [""] * len(talks)
        for start in range(0, len(order), _BATCH):
            group = order[start : start + _BATCH]
            for i, text in zip(group, self._generate([prompts[i] for i in group]), strict=True):
                said[i] = text
        return said

    def prompt(self, talk: Conversation) -> str:
        """Return the text of a conversation up to where the model speaks."""
        text: str = self._tokenizer.apply_chat_template(
            list(talk.messages),
            tools=list(talk.tools) or None,
            enable_thinking=talk.directive,
            add_generation_prompt=True,
            tokenize=False,
        )
        return text

    def _generate(self, prompts: list[str]) -> Iterator[str]:
        inputs = self._tokenizer(prompts, return_tensors="pt", padding=True)
        output = self._model.generate(**inputs, do_sample=False, max_new_tokens=_MOST)
        for ids in output[:, inputs["input_ids"].shape[1] :]:
            yield self._tokenizer.decode(ids, skip_special_tokens=True)


def is_right(talk: Conversation, said: str) -> bool:
    """Judge an answer: thinking where asked and only there, then the exact call or the right words."""
    thought = _THOUGHT.match(said)
    if bool(thought) != talk.thinks:
        return False
    answer = said[thought.end() :] if thought else said
    if talk.calls:
        return calls_in(answer) == list(talk.calls)
    if talk.accept:
        return any(text in answer for text in talk.accept)
    return answer == _THOUGHT.sub("", talk.target)


def calls_in(answer: str) -> list[Any] | None:
    """Return the tool calls of an answer that is nothing but calls, or None."""
    if _CALL.sub("", answer).strip():
        return None
    try:
        return [json.loads(text) for text in _CALL.findall(answer)]
    except json.JSONDecodeError:
        return None


def measure(speaker: Speaker, task: str, count: int) -> tuple[Score, list[Miss]]:
    """Ask a number of questions of one task."""
    draw = Draw.seeded(_SEED, held=True)
    talks = [conversation(draw, task) for _ in range(count)]
    said = speaker.answers(talks)
    misses = [
        Miss(task, str(talk.messages[-1]["content"]), text, talk.target)
        for talk, text in zip(talks, said, strict=True)
        if not is_right(talk, text)
    ]
    return Score(task, count - len(misses), count), misses


def table(scores: Sequence[Score]) -> str:
    """Return the scores as a Markdown table."""
    rows = [f"| {score.task} | {score.accuracy:.1%} | {score.asked} |" for score in scores]
    return "\n".join(("| task | right | asked |", "|---|---:|---:|", *rows))


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(prog="python -m helexa.tiny.evaluate", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="folder to read (default %(default)s)")
    parser.add_argument("--count", type=int, default=100, help="questions per task (default %(default)s)")
    parser.add_argument("--task", action="append", choices=task_names(), help="only this task; may be repeated")
    parser.add_argument("--misses", type=int, default=0, help="wrong answers to show per task (default %(default)s)")
    parser.add_argument("--write", action="store_true", help="write the table into the checkpoint's card")
    options = parser.parse_args(arguments)
    scores = _report(Speaker(options.checkpoint), options.task or task_names(), options.count, options.misses)
    if options.write:
        from helexa.tiny.card import write_card

        write_card(options.checkpoint, table(scores))
    return 0


def _report(speaker: Speaker, tasks: Sequence[str], count: int, shown: int) -> list[Score]:
    scores = []
    for task in tasks:
        score, misses = measure(speaker, task, count)
        scores.append(score)
        print(f"{task:<18}{score.accuracy:7.1%}", flush=True)  # noqa: T201 - a command that reports to its terminal
        for miss in misses[:shown]:
            print(f"    asked  {miss.asked!r}\n    said   {miss.said!r}\n    wanted {miss.wanted!r}")  # noqa: T201
    return scores


if __name__ == "__main__":
    sys.exit(main())
