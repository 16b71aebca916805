"""A request asked of the fleet's nodes: one after the other, as long as another might do better."""

import structlog
from attrs import define, field, frozen

from helexa.cortex.exchange import kinds
from helexa.cortex.exchange.answer import LOCAL_ROUTE, Answer, Plain
from helexa.cortex.exchange.asks import cost_of
from helexa.cortex.exchange.attempt import Attempt, OverdrawnError
from helexa.cortex.exchange.dialects import CHAT, COMPLETIONS, COUNT_TOKENS, Asked
from helexa.cortex.exchange.failures import Failed, Target
from helexa.cortex.exchange.prefixes import prefixes
from helexa.cortex.exchange.upstream import PATIENCE, Pool
from helexa.cortex.ports import Grant, Routes
from helexa.cortex.routing.policy import (
    LoadingTooLong,
    NoHealthyNodes,
    Recovering,
    Refusal,
    Unknown,
    Wanted,
    refusal_error,
)
from helexa.cortex.routing.policy import Route as Place
from helexa.web.asgi import Headers
from helexa.wire import errors, meter, tenant
from helexa.wire import secret as secrets
from helexa.wire.errors import ApiError

_log = structlog.get_logger()
_UNAVAILABLE = 503
_BASICS: Headers = [(b"content-type", b"application/json"), (meter.HEADER, meter.ON)]


@frozen
class Unanswered:
    """No node has answered.

    Attributes:
        answer: what the client gets if nobody outside answers either.
        known: whether the fleet knows the model at all.
        soon: whether it will serve it soon: then nobody outside is asked.
    """

    answer: Plain | ApiError
    known: bool = True
    soon: bool = False


@define(eq=False)
class Local:
    """One request's walk through the fleet.

    Attributes:
        routes: grants places.
        pool: connections.
        secret: the fleet's.
        asked: the request.
        answer: what the client gets.
        key_name: whose request it is.
    """

    routes: Routes
    pool: Pool
    secret: str | None = field(repr=False)
    asked: Asked
    answer: Answer
    key_name: str | None
    _avoid: frozenset[str] = field(default=frozenset(), init=False)
    _twice: frozenset[str] = field(default=frozenset(), init=False)
    _last: Plain | ApiError | None = field(default=None, init=False)

    async def run(self) -> Unanswered | None:
        """Answer the request; or say why no node did."""
        beginnings = self._beginnings()
        while True:
            self.answer.seen.wait_begins()
            granted = await self.routes.acquire(Wanted(self.asked.name, beginnings, self._avoid))
            self.answer.seen.wait_ends()
            if not isinstance(granted, Grant):
                return self._unanswered(granted)
            try:
                goes_on = await self._ask(granted.route)
            finally:
                self.routes.release(granted)
            if self.answer.ended:
                return None
            if not goes_on:
                return self._unanswered(NoHealthyNodes(granted.route.model))

    def _beginnings(self) -> tuple[bytes, ...]:
        """What the router recognizes the conversation by, where that makes a difference."""
        if not self.routes.wants_prefixes(self.asked.name) or self.asked.dialect.path == COMPLETIONS:
            return ()
        chat = self.asked.body if self.asked.dialect.path == CHAT else self.asked.chat.chat
        return prefixes(chat, self.key_name or "")

    def _unanswered(self, refusal: Refusal) -> Unanswered:
        soon = isinstance(refusal, Recovering | LoadingTooLong)
        return Unanswered(self._last or refusal_error(refusal), not isinstance(refusal, Unknown), soon)

    async def _ask(self, place: Place) -> bool:
        """Ask one node; whether another may be asked if it has not answered."""
        if place.node in self._twice:
            return False
        if place.node in self._avoid:  # it has loaded the model anew, or there is no other
            self._twice |= {place.node}
        self.answer.route = LOCAL_ROUTE
        try:
            await self._afford(place)
        except Failed as failed:
            self._avoid |= {place.node}
            return self._learn(place, failed)
        except ApiError:
            if self.answer.started:  # it broke in the middle of its answer
                self.routes.suspect(place.node)
            raise
        return False

    async def _afford(self, place: Place) -> None:
        """Ask a node; and once more with a larger allowance if it finds the prompt longer than was thought possible.

        Raises:
            Failed: nothing was sent to the client.
            ApiError: its budget does not suffice; or see ``Attempt.run``.
        """
        try:
            await self._attempt(place).run(self.pool)
        except OverdrawnError as found:
            await self._enlarge(place, found.prompt)
            try:
                await self._attempt(place).run(self.pool)
            except OverdrawnError:
                raise self._refusal(place) from None

    async def _enlarge(self, place: Place, prompt: int) -> None:
        if self.answer.tab is None:
            raise self._refusal(place)
        await self.answer.tab.enlarge(prompt)

    def _refusal(self, place: Place) -> ApiError:
        """Whose budget it is only we know; a node that finds one wanting where there is none is broken."""
        tab = self.answer.tab
        detail = f"The node '{place.node}' refused this request for a budget that it has not."
        return errors.upstream_error(detail) if tab is None else tab.refusal()

    def _attempt(self, place: Place) -> Attempt:
        kind = kinds.TOKENIZER if self.asked.dialect.path == COUNT_TOKENS else kinds.NEURON
        way = kinds.way(self.asked.dialect, kind)
        assert way is not None  # a node answers every dialect
        title = f"node '{place.node}'"
        target = Target(place.node, title, place.endpoint, place.model, self._headers(), PATIENCE, local=True)
        return Attempt(target, way, self.asked, self.answer, cost_of(self.routes.fleet(), place.model))

    def _headers(self) -> Headers:
        headers = [*_BASICS, (b"x-request-id", self.asked.request_id.encode())]
        if self.secret is not None:
            headers.append(secrets.header(self.secret))
        if self.key_name is not None:
            headers.append((tenant.HEADER, tenant.write(self.key_name)))
        if self.answer.tab is not None and (allowance := self.answer.tab.allowance) is not None:
            headers.append((meter.BUDGET, meter.write_allowance(allowance)))
        return headers

    def _learn(self, place: Place, failed: Failed) -> bool:
        """Tell the router, and decide whether to ask another node.

        A node that was not reached, or does not have the model any more, says nothing about the request: the model may
        even be loaded elsewhere for it. After any other failure only nodes that have it are asked, since the request
        may be what broke this one.
        """
        reason = str(failed.__cause__ or failed)
        _log.warning("node.failed_request", node=place.node, request_id=self.asked.request_id, reason=reason)
        if not failed.connected:
            self.routes.unreachable(place.node, reason)
            return True
        self.routes.suspect(place.node)
        if failed.unloaded:
            return True
        self._last = failed.answer
        holders = self.routes.fleet().holders.get(place.model, ())
        return failed.status == _UNAVAILABLE or any(each.node not in self._avoid for each in holders)
