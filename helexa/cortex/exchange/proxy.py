"""From a client's request to an answer: the fleet's nodes first, then the providers of the route that matches.

A request's life here: body read, model found in it, its turn waited for, its budget set aside, a place granted, sent
on, the answer passed through and booked, the place given back; whatever fails before the answer's first byte is tried
elsewhere. Streams are never buffered.
"""

import os
from collections.abc import Callable, Mapping
from functools import partial
from re import compile as pattern
from uuid import uuid4

from attrs import Factory, field, frozen

from config import Topology
from helexa.cortex.access.auth import KEY, Key, check_model
from helexa.cortex.exchange import dialects
from helexa.cortex.exchange.admission import Admission
from helexa.cortex.exchange.answer import Answer
from helexa.cortex.exchange.dialects import Asked
from helexa.cortex.exchange.local import Local
from helexa.cortex.exchange.media import Pictures
from helexa.cortex.exchange.metering import Metering
from helexa.cortex.exchange.providers import Breakers, Providers, Quirks
from helexa.cortex.exchange.sizes import check_size
from helexa.cortex.exchange.upstream import Pool
from helexa.cortex.ports import Routes
from helexa.cortex.telemetry.observing import Observation, Observer
from helexa.cortex.telemetry.tracing import Passing, Tracing
from helexa.web.asgi import Ending, Headers, header, one_end, run_while_connected
from helexa.web.bodies import Bodies
from helexa.web.server import Drain, Receive, Scope, Send
from helexa.wire import errors
from helexa.wire.fields import Fields, parse_object

_REQUEST_ID = pattern(rb"[A-Za-z0-9._:/+=@~-]{1,128}")
_HANDED_ON = (b"anthropic-version", b"anthropic-beta")
_SENSIBLE = pattern(rb"[\x20-\x7e]{1,1024}")


@frozen
class Proxy:
    """Serves the routes that nodes and providers answer.

    Attributes:
        routes: grants places at nodes.
        pool: connections to them, and to providers.
        drain: this server's shutdown.
        secret: the fleet secret sent to neurons, if there is one.
        environment: where the providers' keys are.
        breakers: the providers' health.
        quirks: what they do not know.
        metering: sets aside and books what requests use; ``None``: nobody does.
        pictures: fetches those that chats name by their address, for providers that do not.
        tracing: follows requests from service to service.
        observer: counts, times and logs.
        admission: whose turn it is.
        bodies: the requests' bodies.
    """

    routes: Routes
    pool: Pool
    drain: Drain
    secret: str | None = field(default=None, repr=False)
    environment: Mapping[str, str] = field(factory=lambda: os.environ, repr=False)
    breakers: Breakers = field(factory=Breakers)
    quirks: Quirks = field(factory=Quirks)
    metering: Metering | None = None
    pictures: Pictures = field(factory=Pictures)
    tracing: Tracing = field(factory=Passing)
    observer: Observer = Factory(lambda proxy: Observer(proxy.routes.fleet, dialects.DIALECTS), takes_self=True)
    admission: Admission = Factory(lambda proxy: _admission(proxy.routes), takes_self=True)
    bodies: Bodies = Factory(lambda proxy: Bodies(lambda: _topology(proxy.routes).cortex.limits), takes_self=True)

    async def __call__(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, whatever happens: an answer, or one error in its place."""
        request_id = request_id_of(scope)
        trace = self.tracing.begin(scope, path, request_id)
        seen = self.observer.begin(path, request_id, key_name(scope))
        try:
            with seen:
                answer = Answer(send, dialects.DIALECTS[path], request_id, seen, self._limits(scope.get(KEY)))
                answer.trace = trace
                await self._answer(answer, scope, receive)
        finally:
            trace.end(seen)

    async def _answer(self, answer: Answer, scope: Scope, receive: Receive) -> None:
        fault = one_end(answer, "proxy.fault", request_id=answer.seen.request_id)
        async with fault, self.bodies.read(scope, receive) as raw:
            asked = self._read(raw, answer.seen)
            seen = answer.seen
            ending = await run_while_connected(
                lambda: self._run(asked, answer, scope), receive, self.drain, seen.cancellable
            )
            if ending is Ending.CUT:
                raise errors.shutting_down()
            if seen.cancelled and ending is Ending.CLIENT_GONE:
                raise errors.request_cancelled()

    def _limits(self, key: Key | None) -> Callable[[], Headers]:
        return list if self.metering is None or key is None else partial(self.metering.headers, key)

    def _read(self, raw: bytes, seen: Observation) -> Asked:
        body = parse_object(raw)
        cortex = _topology(self.routes).cortex
        name = Fields(body).text("model")
        seen.read(name)
        check_size(body, cortex.limits)
        return Asked(dialects.DIALECTS[seen.route], raw, body, name, seen.request_id, cortex.strip_billing)

    async def _run(self, asked: Asked, answer: Answer, scope: Scope) -> None:
        """Let it in, and set aside what it may use until it has ended."""
        key: Key | None = scope.get(KEY)
        check_model(key, asked.name, self.routes.fleet().aliases)
        async with self.admission.place(key) as place:
            answer.seen.queued(place.waited)
            if self.metering is not None and key is not None:
                answer.tab = await self.metering.open(key, asked, self.routes.fleet())
            try:
                await self._serve(asked, answer, scope)
            finally:
                if answer.tab is not None:
                    answer.tab.settle()
                    answer.tab = None  # what is written from here on is an error, and costs nothing

    async def _serve(self, asked: Asked, answer: Answer, scope: Scope) -> None:
        """Ask the fleet, then whom the topology names outside of it."""
        key: Key | None = scope.get(KEY)
        local = Local(self.routes, self.pool, self.secret, asked, answer, key_name(scope))
        refusal = await local.run()
        if refusal is not None:
            limited = key is not None and bool(key.models)
            known = self.environment, self.breakers, self.quirks, self.pictures
            outside = Providers(self.pool, *known, asked, answer, handed_on(scope), limited)
            fleet = self.routes.fleet()
            await outside.run(fleet.topology, fleet.resolve(asked.name), refusal)


def _topology(routes: Routes) -> Topology:
    return routes.fleet().topology


def _admission(routes: Routes) -> Admission:
    """As the topology in force has it."""
    return Admission(lambda: _topology(routes).cortex, lambda: _topology(routes).entitlements.max_in_flight)


def key_name(scope: Scope) -> str | None:
    """Whose key a request bears."""
    key: Key | None = scope.get(KEY)
    return None if key is None else key.name


def request_id_of(scope: Scope) -> str:
    """The client's own name for its request, if it is one that can stand in headers and logs; else a new one."""
    given = header(scope, b"x-request-id")
    return given.decode() if given is not None and _REQUEST_ID.fullmatch(given) else uuid4().hex


def handed_on(scope: Scope) -> list[tuple[bytes, bytes]]:
    """The headers of a request that are for a provider of its dialect, and for nobody in between."""
    found = ((name, header(scope, name)) for name in _HANDED_ON)
    return [(name, value) for name, value in found if value is not None and _SENSIBLE.fullmatch(value)]
