"""What the neuron's HTTP side needs from whoever runs the engine workers."""

from typing import Protocol

from attrs import frozen

from helexa.wire.fleet import ActorReport, ModelReport
from helexa.wire.sampling import SamplingParams


@frozen
class End:
    """How a generation ended.

    Attributes:
        reason: ``stop``, ``length`` or ``abort``; ``failed`` when ``code`` and ``error`` say why.
        code: an error code of the API, ``None`` unless failed.
        error: a sentence for the caller, ``None`` unless failed.
    """

    reason: str
    code: str | None = None
    error: str | None = None


@frozen
class Progress:
    """New token ids since the last look, in order, and the end if it has come."""

    ids: tuple[int, ...]
    end: End | None


class Generation(Protocol):
    """One request in an engine. Whoever got it closes it; closing it early is the abort."""

    async def progress(self) -> Progress:
        """Wait for news. Tokens that came while nobody looked arrive together: a slow reader delays nobody."""

    def close(self) -> None:
        """Stop caring. Never blocks; the engine drops the request before its next step. Idempotent."""


class Engines(Protocol):
    """The engine workers of this host."""

    def reports(self) -> tuple[ModelReport, ...]:
        """Every model that is loaded, loading, recovering or failed."""

    def actors(self) -> tuple[ActorReport, ...]:
        """The actors that own the workers."""

    async def load(self, model: str, path: str, device: str | None) -> None:
        """Load a model and wait until it serves; joins a load already under way.

        Raises:
            ApiError: ``upstream_error`` with the reason.
        """

    async def unload(self, model: str) -> None:
        """Unload a model and wait until its memory is free.

        Raises:
            ApiError: ``model_not_found``.
        """

    def submit(self, model: str, prompt_ids: list[int], sampling: SamplingParams) -> Generation:
        """Start a generation.

        Raises:
            ApiError: the model is unknown, recovering, or its worker is overloaded.
        """
