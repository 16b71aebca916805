"""One choice of a request inside the engine: its tokens, its blocks, and how far it has come. No tensors."""

from collections.abc import Sequence as Ids

from attrs import define, field

from helexa.engine.protocol import ScoringParams, Submit
from helexa.engine.scheduling.blocks import chain, salt_root

Account = tuple[int, str]
"""Who is served at what: priority and key."""


@define(eq=False)
class Sequence:
    """A sequence from arrival to its end. The scheduler owns it.

    Attributes:
        number: unique in this engine; grows with arrival.
        request: the id that the neuron knows the request by.
        index: which of the request's choices.
        key: who asks.
        priority: larger goes first.
        ids: prompt and generated token ids.
        prompt_length: how many of ``ids`` are the prompt.
        limit: ``len(ids)`` at which it ends with reason ``length``.
        stop_ids: token ids that end it.
        arrived: when, in seconds on the caller's clock.
        computed: how many of ``ids`` are in the KV cache, or will be after the step that is planned.
        blocks: its block table.
        hashes: of its full blocks so far.
        began: ``len(ids)`` when it last began to run; what it has generated since is its turn so far.
        cached_tokens: prompt tokens found in the cache when it first ran; ``None`` before.
        reported: tokens of the prompt whose log probabilities were told; ``None`` where nobody asked for them.
    """

    number: int
    request: str
    index: int
    key: str
    priority: int
    ids: list[int]
    prompt_length: int
    limit: int
    stop_ids: frozenset[int]
    arrived: float
    computed: int = 0
    blocks: list[int] = field(factory=list)
    hashes: list[bytes] = field(factory=list)
    began: int = 0
    cached_tokens: int | None = None
    reported: int | None = None

    @classmethod
    def of(cls, submit: Submit, index: int, number: int, context_length: int, now: float) -> "Sequence":
        """One choice of a request whose prompt is known to be shorter than the context."""
        wanted = submit.sampling.max_tokens
        prompt = len(submit.prompt_ids)
        return cls(
            number=number,
            request=submit.request,
            index=index,
            key=submit.key,
            priority=submit.priority,
            ids=list(submit.prompt_ids),
            prompt_length=prompt,
            limit=context_length if wanted is None else min(context_length, prompt + wanted),
            stop_ids=frozenset(submit.sampling.stop_token_ids),
            arrived=now,
            reported=0 if isinstance(submit.sampling, ScoringParams) else None,
        )

    @property
    def account(self) -> Account:
        """Whose share it is served from."""
        return self.priority, self.key

    @property
    def generated(self) -> int:
        """Tokens generated so far."""
        return len(self.ids) - self.prompt_length

    @property
    def pending(self) -> int:
        """Tokens whose keys and values are not in the cache: 1 while decoding."""
        return len(self.ids) - self.computed

    @property
    def reusable(self) -> int:
        """How many of its first tokens may be found in the cache: the logits after the last, at least, are wanted."""
        if self.reported is None or self.reported >= self.prompt_length:
            return len(self.ids) - 1
        return max(self.reported, 1) - 1

    def scored(self, start: int, end: int) -> int:
        """How many tokens of its prompt get their log probabilities when the positions ``[start, end)`` are computed.

        A position foretells the token after it; the prompt's last foretells none of the prompt's.
        """
        return max(0, min(end, self.prompt_length - 1) - max(start, self.reusable))

    def resume(self, told: list[int]) -> list[int]:
        """Go on from what another process has told of it; what was generated of that, without an echoed prompt."""
        if self.reported is None:
            return told
        self.reported = min(len(told), self.prompt_length)
        return told[self.prompt_length :]

    def hash_until(self, blocks: int, block_size: int) -> Ids[bytes]:
        """The hashes of its first ``blocks`` blocks, all of them full."""
        while (done := len(self.hashes)) < blocks:
            parent = self.hashes[-1] if self.hashes else salt_root(self.key)
            self.hashes.append(chain(parent, self.ids[done * block_size : (done + 1) * block_size]))
        return self.hashes[:blocks]

    def append(self, token: int) -> str | None:
        """Take a sampled token; the finish reason if it was the last."""
        self.ids.append(token)
        if token in self.stop_ids:
            return "stop"
        return "length" if len(self.ids) >= self.limit else None
