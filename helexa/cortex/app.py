"""The gateway's HTTP application: one gate, then the proxied routes on bare ASGI and the rest on Quart."""

from contextlib import suppress
from time import time
from typing import Any, NoReturn

from attrs import evolve, frozen
from quart import Response
from quart_trio import QuartTrio

from helexa.cortex import listing
from helexa.cortex.auth import Gate, presented_key
from helexa.cortex.ports import Actors, Routes
from helexa.cortex.proxy import Proxy
from helexa.web.asgi import ClientGoneError, discard_body, origin_form, send_error, serve_whole
from helexa.web.hosts import is_local_name
from helexa.web.quart_errors import json_app, json_response
from helexa.web.server import Receive, Scope, Send
from helexa.wire import errors, fleet, sse
from helexa.wire.errors import ApiError

PROXIED = frozenset({"/v1/chat/completions"})
_PREFIX = "/api/v1/openai"


@frozen
class CortexApp:
    """The ASGI application.

    Attributes:
        proxy: serves the routes that a neuron answers.
        control: serves the others.
        gate: checks keys.
        local_only: requests must name a loopback host. A page that rebinds its own name to 127.0.0.1 cannot, so it
            cannot use a gateway that asks for no key.
    """

    proxy: Proxy
    control: QuartTrio
    gate: Gate
    local_only: bool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's request."""
        if scope["type"] == "lifespan":
            await self.control(scope, receive, send)  # type: ignore[arg-type]  # quart's own scope types
            return
        scope = _unprefixed(origin_form(scope))
        with suppress(ClientGoneError):
            try:
                self._admit(scope)
            except ApiError as error:
                await _refuse(scope, receive, send, error)
            else:
                await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in PROXIED:
            await self.proxy(scope["path"], scope, receive, send)
        elif scope["type"] == "http":
            await serve_whole(self.control, scope, receive, send)  # type: ignore[arg-type]  # as above
        else:
            await self.control(scope, receive, send)  # type: ignore[arg-type]  # as above

    def _admit(self, scope: Scope) -> None:
        if self.local_only and not is_local_name(scope):
            raise errors.host_not_allowed()
        self.gate.admit(scope.get("method", "GET"), scope["path"], presented_key(scope["headers"]))


async def _refuse(scope: Scope, receive: Receive, send: Send, error: ApiError) -> None:
    if scope["type"] == "http":
        await discard_body(receive)
        await send_error(send, error)
    else:
        await send({"type": "websocket.close", "code": 1008, "reason": error.message})


def _unprefixed(scope: Scope) -> Scope:
    """The same request without the prefix that some reverse proxies insist on."""
    path: str = scope["path"]
    if not path.startswith(_PREFIX + "/v1/"):
        return scope
    return {**scope, "path": path.removeprefix(_PREFIX), "raw_path": scope["raw_path"].removeprefix(_PREFIX.encode())}


def make_app(proxy: Proxy, actors: Actors, gate: Gate, *, local_only: bool) -> CortexApp:
    """Wire the routes."""
    return CortexApp(proxy, _control(proxy.routes, actors), gate, local_only)


def _control(routes: Routes, actors: Actors) -> QuartTrio:
    app = json_app("helexa.cortex")
    _health_routes(app, routes)
    _model_routes(app, routes)
    _fleet_routes(app, routes, actors)

    @app.post("/v1/chat/completions")
    async def proxied() -> NoReturn:
        # Served by the proxy; registered so that other methods are told 405 and not 404.
        raise errors.internal()

    return app


def _health_routes(app: QuartTrio, routes: Routes) -> None:
    @app.get("/health")
    async def health() -> Response:
        return _json({"status": "ok"})

    @app.get("/ready")
    async def ready() -> Response:
        reports = (report for node in routes.fleet().nodes.values() if node.up for report in node.models)
        if any(report.status == "loaded" for report in reports):
            return _json({"status": "ready"})
        raise errors.unavailable("No model is loaded.", 2)


def _model_routes(app: QuartTrio, routes: Routes) -> None:
    created = int(time())

    @app.get("/v1/models")
    async def models() -> Response:
        return _json({"object": "list", "data": listing.models(routes.fleet(), created)})

    @app.get("/v1/models/<path:model>")
    async def model(model: str) -> Response:
        for entry in listing.models(routes.fleet(), created):
            if entry["id"] == model:
                return _json(entry)
        raise errors.model_not_found(model)


def _fleet_routes(app: QuartTrio, routes: Routes, actors: Actors) -> None:
    @app.get("/fleet")
    async def fleet_snapshot() -> Response:
        return _json(listing.snapshot(routes.fleet()))

    @app.get("/fleet/actors")
    async def fleet_actors() -> Response:
        return json_response(fleet.to_json({"actors": _all_actors(routes, actors)}))


def _all_actors(routes: Routes, actors: Actors) -> list[fleet.ActorReport]:
    """This process's actors, then each node's as ``node/actor``."""
    found = list(actors.actors())
    for node in routes.fleet().nodes.values():
        reports = node.sighting.actors if node.sighting and node.up else ()
        found += [evolve(report, name=f"{node.name}/{report.name}") for report in reports]
    return found


def _json(payload: Any) -> Response:
    return json_response(sse.dumps(payload))
