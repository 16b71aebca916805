"""What the neuron's HTTP side needs from whoever runs the engine workers."""

from typing import Protocol

from attrs import frozen

from config import Quant
from helexa.engine.protocol import TokenLogprob
from helexa.wire.fleet import ActorReport, ModelReport
from helexa.wire.rank_reports import RankReport
from helexa.wire.ranks import Elsewhere, RankRequest
from helexa.wire.sampling import SamplingParams


@frozen
class End:
    """How one choice of a generation ended.

    Attributes:
        reason: ``stop``, ``length`` or ``abort``; ``failed`` when ``code`` and ``error`` say why.
        code: an error code of the API, ``None`` unless failed.
        error: a sentence for the caller, ``None`` unless failed.
        cached_tokens: how many of the prompt's tokens were found in the KV cache.
    """

    reason: str
    code: str | None = None
    error: str | None = None
    cached_tokens: int = 0


@frozen
class ChoiceNews:
    """What one choice has brought since the last look.

    Attributes:
        index: which of the request's choices.
        ids: its new token ids, in order.
        logprobs: one per id where the request asked for them, otherwise empty.
        end: its end if that has come; each choice's is told once.
    """

    index: int
    ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()
    end: End | None = None


class Generation(Protocol):
    """One request in an engine. Whoever got it closes it; closing it early is the abort."""

    async def progress(self) -> tuple[ChoiceNews, ...]:
        """Wait for news, and tell it choice by choice, in the order of their indices; empty once all have ended.

        Tokens that came while nobody looked arrive together: a slow reader delays nobody.
        """

    def stop(self, index: int) -> None:
        """One choice needs no more. Never blocks. Its end comes like any other's, after the step under way. Idempotent.

        Waiting for it is what tells the cached tokens of an answer that a stop string has ended.
        """

    def close(self) -> None:
        """Stop caring. Never blocks; the engine drops what still lives before its next step. Idempotent."""


class Engines(Protocol):
    """The engine workers of this host."""

    def reports(self) -> tuple[ModelReport, ...]:
        """Every model that is loaded, loading, recovering or failed."""

    def actors(self) -> tuple[ActorReport, ...]:
        """The actors that own the workers."""

    async def load(
        self,
        model: str,
        path: str,
        device: str | None,
        quant: Quant | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        """Load a model and wait until it serves; joins a load already under way.

        Args:
            model: its id.
            path: where its files are.
            device: torch's name of one, or of several that are to share it; ``None`` leaves the choice to the host.
            quant: what its weights are reduced to.
            elsewhere: ranks of it that other hosts run.

        Raises:
            ApiError: ``upstream_error`` with the reason.
        """

    async def unload(self, model: str) -> None:
        """Unload a model and wait until its memory is free.

        Raises:
            ApiError: ``model_not_found``.
        """

    async def restart(self, device: str, *, force: bool) -> None:
        """End a device's worker in an orderly way, start a new one, and wait until it has the same models or failed.

        Its memory is whole again afterwards, whatever loads and unloads had left of it.

        Args:
            device: torch's name of it.
            force: also while it has requests or loads a model; its requests end with an error.

        Raises:
            ApiError: ``device_not_found``, or ``device_busy``.
        """

    def submit(self, model: str, prompt_ids: list[int], sampling: SamplingParams, key: str) -> Generation:
        """Start a generation.

        Args:
            model: its id.
            prompt_ids: the rendered prompt, at least one token.
            sampling: how to pick tokens, and for how many choices.
            key: who asks; the engine is fair between keys, and no prefix is reused across them.

        Raises:
            ApiError: the model is unknown, recovering, or its worker is overloaded.
        """


class Ranks(Protocol):
    """The ranks of this host in groups that other neurons lead. They serve no requests."""

    def reports(self) -> tuple[RankReport, ...]:
        """Every rank that was asked for and is still wanted."""

    def actors(self) -> tuple[ActorReport, ...]:
        """The actors that own their processes."""

    async def start(self, request: RankRequest) -> RankReport:
        """Run a rank, until ``stop``; instead of the one that this group had on the device, if it had one.

        Raises:
            ApiError: ``device_not_found``; ``device_busy`` while another group has a rank there; ``no_interconnect``.
        """

    async def stop(self, group: str) -> None:
        """End all ranks of a group; returns when their memory is free.

        Raises:
            ApiError: ``rank_not_found``.
        """
