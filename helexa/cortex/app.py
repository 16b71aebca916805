"""The gateway's HTTP application: one gate, then the proxied routes on bare ASGI and the rest on Quart."""

from collections.abc import Callable
from functools import partial
from time import time
from typing import Any, NoReturn, cast

from attrs import evolve
from quart import Response, request
from quart_trio import QuartTrio

from helexa.cortex import admin, openapi, watching
from helexa.cortex.access import key_routes
from helexa.cortex.access.auth import KEY, Gate, permitted, presented_by
from helexa.cortex.access.keys import Keys, Spending
from helexa.cortex.events import EventLog
from helexa.cortex.exchange.dialects import DIALECTS, MESSAGES, DialectError, of_path
from helexa.cortex.exchange.proxy import Proxy, request_id_of
from helexa.cortex.ports import Actors, Lifecycle, Routes
from helexa.cortex.routing import listing, planning
from helexa.web.front import Front
from helexa.web.hosts import is_local
from helexa.web.quart_errors import json_app, json_response
from helexa.web.server import App, Scope
from helexa.wire import errors, fleet, sse
from helexa.wire.errors import ApiError

_PREFIX = "/api/v1/openai"
_MESSAGES_METHODS = ("POST", "OPTIONS")


def make_app(  # noqa: PLR0913, PLR0917 - everything that the routes are about
    proxy: Proxy,
    routes: Routes,
    lifecycle: Lifecycle,
    actors: Actors,
    events: EventLog,
    gate: Callable[[], Gate],
    keyring: Keys,
    ledger: Spending | None = None,
    *,
    loopback: bool,
) -> Front:
    """Wire the routes.

    Args:
        proxy: serves the routes that nodes and providers answer.
        routes: the fleet, for reading.
        lifecycle: loads and unloads models by hand.
        actors: the actors of this process, for ``/fleet/actors``.
        events: what happens in the fleet.
        gate: the one that checks keys now; it changes with the topology.
        keyring: keeps the keys, for ``/fleet/keys`` and ``/fleet/accounts``.
        ledger: knows what was used, for these and ``/fleet/usage``; ``None``: nobody does.
        loopback: the gateway listens there alone. While it asks for no key, requests must name a loopback host then: a
            page that rebinds its own name to 127.0.0.1 cannot, so it cannot use the gateway.
    """

    def admit(scope: Scope) -> Scope:
        scope = _unprefixed(scope)
        try:
            return _admitted(scope, gate(), loopback=loopback)
        except ApiError as error:
            proxy.observer.refused(scope["path"], error)
            if scope["type"] != "http":
                raise
            raise DialectError.of(error, of_path(scope["path"]), request_id_of(scope)) from error

    bare = {path: partial(proxy, path) for path in DIALECTS}
    control = _control(routes, lifecycle, actors, events)
    key_routes.add_routes(control, keyring, ledger)
    watching.add_routes(control, proxy.observer, lifecycle)
    return Front(admit, bare, cast("App", control))


def _admitted(scope: Scope, gate: Gate, *, loopback: bool) -> Scope:
    """The request, with its key."""
    if loopback and not gate.required and not is_local(scope):
        raise errors.host_not_allowed()
    method, path = scope.get("method", "GET"), scope["path"]
    key = gate.admit(method, path, presented_by(scope))
    if of_path(path).path == MESSAGES and method not in _MESSAGES_METHODS:  # the framework knows no dialects
        raise errors.method_not_allowed(method, path, "POST")
    if of_path(path).path == MESSAGES and path not in DIALECTS:
        raise errors.route_not_found(method, path)
    return scope if key is None else {**scope, KEY: key}


def _unprefixed(scope: Scope) -> Scope:
    """The same request without the prefix that some reverse proxies insist on."""
    path: str = scope["path"]
    if not path.startswith(_PREFIX + "/v1/"):
        return scope
    return {**scope, "path": path.removeprefix(_PREFIX), "raw_path": scope["raw_path"].removeprefix(_PREFIX.encode())}


def _control(routes: Routes, lifecycle: Lifecycle, actors: Actors, events: EventLog) -> QuartTrio:
    app = json_app("helexa.cortex")
    _health_routes(app, routes)
    _model_routes(app, routes)
    _fleet_routes(app, routes, actors)
    admin.add_routes(app, routes, lifecycle, events, planning.plan)
    openapi.add_route(app)
    for path in DIALECTS:
        app.add_url_rule(path, path, _proxied, methods=["POST"])
    return app


async def _proxied() -> NoReturn:
    """Never called: the proxy serves these; registered so that other methods are told 405 and not 404."""
    raise errors.internal()


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
        found = listing.models(routes.fleet(), created)
        return _json({"object": "list", "data": [entry for entry in found if _may_know(routes, entry["id"])]})

    @app.get("/v1/models/<path:model>")
    async def model(model: str) -> Response:
        entry = listing.model(routes.fleet(), model, created)
        if entry is None or not _may_know(routes, model):
            raise errors.model_not_found(model)
        return _json(entry)


def _may_know(routes: Routes, model: str) -> bool:
    """Whether the key of the request at hand is for a model."""
    key: Any = request.scope.get(KEY)
    return permitted(key, model, routes.fleet().aliases)


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
