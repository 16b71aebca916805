"""What one step computes, and what came of it: the only things that pass between scheduler and runner."""

from collections.abc import Sequence

from attrs import frozen


@frozen
class Chunk:
    """Tokens of one sequence that a step computes. A sequence may have several chunks in a step, one after the other.

    Attributes:
        number: the sequence.
        ids: their token ids: one for a decode, a piece of the prompt for a prefill.
        start: position of the first of them, in tokens; everything before it is in the KV cache.
        blocks: the block table, covering at least ``start + len(ids)`` positions. The scheduler's own list: valid until
            the step is committed.
        due: the logits after the last token are wanted, to pick the sequence's next token.
        scored: the logits after this many of its last tokens are wanted as well, not counting the one that is ``due``:
            those that foretell tokens of the prompt which the request wants to know the log probabilities of.
    """

    number: int
    ids: Sequence[int]
    start: int
    blocks: Sequence[int]
    due: bool
    scored: int = 0

    @property
    def end(self) -> int:
        """The sequence's length in the KV cache after the step."""
        return self.start + len(self.ids)


@frozen
class StepPlan:
    """One step: decodes first, then prefills. Never empty.

    In each layer all keys and values of the step are written before any are read: a chunk may read blocks that another
    chunk of the same step fills.
    """

    chunks: tuple[Chunk, ...]

    @property
    def due(self) -> list[int]:
        """Numbers of the sequences whose next token is wanted, in order of their chunks."""
        return [chunk.number for chunk in self.chunks if chunk.due]

    @property
    def tokens(self) -> int:
        """Tokens computed."""
        return sum(len(chunk.ids) for chunk in self.chunks)
