"""The sampling parameters of one request, as the engine takes them."""

from attrs import frozen

MAX_SEED = 2**63 - 1


@frozen
class SamplingParams:
    """How to pick tokens, and when to stop.

    Attributes:
        max_tokens: upper bound on generated tokens; ``None`` means up to the model's context.
        temperature: 0 is greedy.
        top_p: nucleus mass kept, in (0, 1].
        top_k: number of candidates kept; 0 keeps all.
        min_p: candidates below ``min_p`` times the best one's probability are dropped.
        seed: makes the draw reproducible whatever else is in the batch; ``None`` draws a fresh one.
        stop_token_ids: ids that end the sequence, the model's end-of-sequence ids among them.
    """

    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop_token_ids: tuple[int, ...] = ()
