"""What follows a request through the gateway: a span per request and per attempt, or the client's trace handed on.

A client's ``traceparent`` and ``tracestate`` reach the node or provider that is asked: as they came where nothing is
exported, else with the span of that attempt as the parent. What is exported, and how, is ``otlp``'s.
"""

from types import TracebackType
from typing import Protocol, Self

from attrs import frozen

from helexa.cortex.telemetry import trace_context
from helexa.web.asgi import Headers
from helexa.web.server import Scope
from helexa.wire.meter import Totals

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""The variables that say where spans go; the first that is set counts."""


class Ended(Protocol):
    """What a trace is told of a request that has ended; an ``Observation`` is one.

    Times are in seconds of any one clock.
    """

    @property
    def asked(self) -> str:
        """The model's name as the client wrote it; empty if none was read."""

    @property
    def key(self) -> str | None:
        """The name of the key; never the key."""

    @property
    def node(self) -> str:
        """Who was asked last; empty if nobody was."""

    @property
    def attempts(self) -> int:
        """How often somebody was asked."""

    @property
    def status(self) -> int:
        """HTTP status."""

    @property
    def code(self) -> str | None:
        """The error's code."""

    @property
    def totals(self) -> Totals | None:
        """Tokens that the client was sent, and what they took."""

    @property
    def estimated(self) -> bool:
        """Whether ``totals`` is no exact count."""

    @property
    def began_at(self) -> float:
        """When the request had been read."""

    @property
    def first_token_at(self) -> float | None:
        """When its answer's first token came, if it streams."""


class Call(Protocol):
    """One attempt at a node or provider, as a context manager: an exception that leaves it is its failure."""

    @property
    def headers(self) -> Headers:
        """To be sent along: none, or ``traceparent`` and perhaps ``tracestate``."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None: ...

    def answered(self, status: int) -> None:
        """The head of the answer is here."""


class Trace(Protocol):
    """One request."""

    def attempt(self, name: str, base_url: str, model: str, kind: str, /) -> Call:
        """An attempt begins; the one before has ended.

        Args:
            name: who is asked: a node's name or ``provider:NAME``.
            base_url: where.
            model: the name it is asked for by.
            kind: what is spoken there, as ``Kind.name`` has it.
        """

    def end(self, ended: Ended) -> None:
        """Nothing more happens to the request. Called once."""


class Tracing(Protocol):
    """Begins traces."""

    def begin(self, scope: Scope, route: str, request_id: str, /) -> Trace:
        """Follow a request that was let in."""

    async def aclose(self) -> None:
        """Export what is left, for a few seconds at most; nothing begins afterwards."""


@frozen
class Passed:
    """A request that nothing is exported of: every attempt is sent what came."""

    headers: Headers

    def attempt(self, _name: str, _base_url: str, _model: str, _kind: str, /) -> Self:
        """See ``Trace``."""
        return self

    def end(self, ended: Ended) -> None:
        """See ``Trace``."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def answered(self, status: int) -> None:
        """See ``Call``."""


NO_TRACE = Passed([])
"""Of a request that belongs to none."""


@frozen
class Passing:
    """Exports nothing."""

    def begin(self, scope: Scope, _route: str, _request_id: str, /) -> Passed:
        """See ``Tracing``."""
        context = trace_context.read(scope["headers"])
        return NO_TRACE if context is None else Passed(context.headers())

    async def aclose(self) -> None:
        """See ``Tracing``."""
