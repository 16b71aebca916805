"""Prompts that leave a hole: what comes before and after it, in the words that a model was trained with.

Sources: Bavarian et al., "Efficient Training of Language Models to Fill in the Middle" (2022); the model cards of
Qwen2.5-Coder, StarCoder, SantaCoder, DeepSeek-Coder, GLM-4, Code Llama and Codestral.
"""

from collections.abc import Iterable

from attrs import frozen

from helexa.text import ChatTokenizer


@frozen
class Infill:
    """How one family marks a hole.

    Attributes:
        before: the token in front of the text before the hole.
        after: the token in front of the text after it.
        hole: the token after both, where the answer begins; ``None`` where the text after the hole comes first, and
            the answer goes on from the text before it.
    """

    before: str
    after: str
    hole: str | None

    @property
    def marks(self) -> tuple[str, ...]:
        """All of them; a model whose vocabulary has these knows the format."""
        return tuple(mark for mark in (self.before, self.after, self.hole) if mark is not None)

    def render(self, prefix: str, suffix: str) -> str:
        """The prompt whose answer fills the hole between two texts."""
        if self.hole is None:
            return f"{self.after}{suffix}{self.before}{prefix}"
        return f"{self.before}{prefix}{self.after}{suffix}{self.hole}"


FORMATS = (
    Infill("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    Infill("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    Infill("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    Infill("<\uff5cfim▁begin\uff5c>", "<\uff5cfim▁hole\uff5c>", "<\uff5cfim▁end\uff5c>"),  # a wide vertical line
    Infill("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),
    Infill("▁<PRE>", "▁<SUF>", "▁<MID>"),
    Infill("[PREFIX]", "[SUFFIX]", None),
)


_ENDS = ("<|fim_pad|>", "<|file_sep|>", "<|repo_name|>", "<|file_separator|>", "<file_sep>", "<repo_name>", "▁<EOT>")
"""What such models write when the hole is full, and then go on with another file."""


def infill_of(text: ChatTokenizer) -> Infill | None:
    """The format that a model knows, by the tokens of its vocabulary; ``None`` if it knows none."""
    for known in FORMATS:
        if len(_ids(text, known.marks)) == len(known.marks):
            return known
    return None


def end_ids(text: ChatTokenizer, known: Infill) -> frozenset[int]:
    """The token ids that end what fills a hole, besides those that end any answer."""
    return frozenset(_ids(text, (*known.marks, *_ENDS)))


def _ids(text: ChatTokenizer, marks: Iterable[str]) -> list[int]:
    """Of those that are one token each."""
    return [ids[0] for ids in map(text.encode, marks) if len(ids) == 1]
