"""From a client's request to an answer: the fleet's nodes first, then the providers of the route that matches.

A request's life here: body read, model found in it, a place granted, sent on, the answer passed through, the place
given back; whatever fails before the answer's first byte is tried elsewhere. Streams are never buffered.
"""

import os
from collections.abc import Mapping
from re import compile as pattern
from uuid import uuid4

from attrs import Factory, field, frozen

from helexa.cortex.access.auth import KEY, Key, check_model
from helexa.cortex.exchange import dialects
from helexa.cortex.exchange.answer import Answer
from helexa.cortex.exchange.dialects import Asked
from helexa.cortex.exchange.local import Local
from helexa.cortex.exchange.providers import Breakers, Providers
from helexa.cortex.exchange.upstream import Pool
from helexa.cortex.ports import Routes
from helexa.cortex.telemetry.observing import Observation, Observer
from helexa.web.asgi import Ending, header, one_end, read_body, run_while_connected
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
        observer: counts, times and logs.
    """

    routes: Routes
    pool: Pool
    drain: Drain
    secret: str | None = None
    environment: Mapping[str, str] = field(factory=lambda: os.environ, repr=False)
    breakers: Breakers = field(factory=Breakers)
    observer: Observer = Factory(lambda proxy: Observer(proxy.routes.fleet, dialects.DIALECTS), takes_self=True)

    async def __call__(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, whatever happens: an answer, or one error in its place."""
        with self.observer.begin(path, request_id_of(scope), key_name(scope)) as seen:
            answer = Answer(send, dialects.DIALECTS[path], seen.request_id, seen)
            async with one_end(answer, "proxy.fault", request_id=seen.request_id):
                asked = await self._read(scope, receive, seen)
                ending = await run_while_connected(lambda: self._run(asked, answer, scope), receive, self.drain)
                if ending is Ending.CUT:
                    raise errors.shutting_down()

    async def _read(self, scope: Scope, receive: Receive, seen: Observation) -> Asked:
        raw = await read_body(scope, receive)
        body = parse_object(raw)
        strip = self.routes.fleet().topology.cortex.strip_billing
        name = Fields(body).text("model")
        seen.read(name)
        return Asked(dialects.DIALECTS[seen.route], raw, body, name, seen.request_id, strip)

    async def _run(self, asked: Asked, answer: Answer, scope: Scope) -> None:
        """Ask the fleet, then whom the topology names outside of it."""
        key = scope.get(KEY)
        check_model(key, asked.name, self.routes.fleet().topology.aliases)
        local = Local(self.routes, self.pool, self.secret, asked, answer, key_name(scope))
        refusal = await local.run()
        if refusal is not None:
            limited = key is not None and bool(key.models)
            outside = Providers(self.pool, self.environment, self.breakers, asked, answer, handed_on(scope), limited)
            await outside.run(self.routes.fleet().topology, refusal)


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
