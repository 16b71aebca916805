"""From conversations to token ids with a weight for each."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attrs import frozen
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from helexa.tiny.corpus import Conversation

TEMPLATE = Path(__file__).parent / "chat_template.jinja"
END_OF_TURN = "<|im_end|>"
END_OF_TEXT = "<|endoftext|>"

_TURN = re.compile(r"(?<=<\|im_start\|>assistant\n)(.*?<\|im_end\|>)", re.DOTALL)

Piece = tuple[str, bool]
"""A text and whether the model learns to say it."""


@frozen
class Row:
    """Token ids of one conversation and, for each, whether the model learns to say it."""

    ids: list[int]
    learned: list[bool]


class Renderer:
    """Renders conversations through the chat template, faster than through a tokenizer."""

    def __init__(self) -> None:
        # The same settings as transformers, so that the training text is the text of the prompts to come.
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
        self._template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))

    def prompt(self, talk: Conversation) -> str:
        """Return the text up to where the model speaks."""
        return self._template.render(
            messages=talk.messages,
            tools=list(talk.tools) or None,
            enable_thinking=talk.directive,
            add_generation_prompt=True,
        )

    def pieces(self, talk: Conversation) -> list[Piece]:
        """Return the whole text in pieces, assistant turns apart.

        Where the last turn thinks, earlier ones are not learned: they would teach to skip the thinking.
        """
        prompt = self.prompt(talk)
        parts: list[Any] = _TURN.split(prompt)
        pieces = [(part, bool(i % 2) and not talk.thinks) for i, part in enumerate(parts) if part]
        return [*pieces, (talk.target + END_OF_TURN, True), ("\n", False)]


def encode(tokenizer: Tokenizer, talks: Iterable[list[Piece]]) -> list[Row]:
    """Tokenize conversations given in pieces."""
    listed = list(talks)
    texts = [text for pieces in listed for text, _ in pieces]
    encoded = iter(tokenizer.encode_batch_fast(texts, add_special_tokens=False))
    return [_row([(next(encoded).ids, learned) for _, learned in pieces]) for pieces in listed]


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """Return the id of a token that the tokenizer is sure to have."""
    found = tokenizer.token_to_id(token)
    assert found is not None
    return int(found)


def _row(parts: list[tuple[list[int], bool]]) -> Row:
    ids = [token for part, _ in parts for token in part]
    return Row(ids, [learned for part, learned in parts for _ in part])
