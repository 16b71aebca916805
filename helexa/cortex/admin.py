"""The operators' routes: models loaded, unloaded and pinned by hand, plans, and events as they happen."""

import os
from collections.abc import Callable
from typing import Any

import trio
from quart import Response, request
from quart_trio import QuartTrio

from config import Problem, Topology, TopologyError, parse
from helexa.cortex.events import EventLog, Feed, seen
from helexa.cortex.ports import Lifecycle, Routes
from helexa.cortex.routing import listing, planning
from helexa.cortex.routing.fleet import Fleet
from helexa.web.quart_errors import json_response
from helexa.wire import errors, sse
from helexa.wire.errors import ApiError
from helexa.wire.fields import Fields, parse_object

MAX_TOPOLOGY_BYTES = 2**20
_LONGEST_NAME = 256
Planner = Callable[[Fleet, Topology], dict[str, Any]]


def add_routes(app: QuartTrio, routes: Routes, lifecycle: Lifecycle, events: EventLog, plan: Planner) -> None:
    """Add them.

    Args:
        app: takes the routes.
        routes: the fleet, for reading.
        lifecycle: does what is asked.
        events: what happens; whoever ends the server closes it, so that its readers go.
        plan: answers ``/fleet/plan``, given the fleet and the topology that is to be.
    """
    _model_routes(app, lifecycle)
    _event_route(app, routes, events)
    _plan_route(app, routes, plan)
    _places_route(app, routes)


def _model_routes(app: QuartTrio, lifecycle: Lifecycle) -> None:
    @app.post("/fleet/models/<path:model>/load")
    async def load(model: str) -> Response:
        node = await lifecycle.load(model, _node(await _fields()))
        return _json({"model": model, "node": node})

    @app.post("/fleet/models/<path:model>/unload")
    async def unload(model: str) -> Response:
        nodes = await lifecycle.unload(model, _node(await _fields()))
        return _json({"model": model, "nodes": nodes})

    @app.post("/fleet/models/<path:model>/pin")
    async def pin(model: str) -> Response:
        fields = await _fields()
        if not fields.has("pinned"):
            raise errors.missing("pinned")
        pinned = fields.flag("pinned")
        return _json({"model": model, "pinned": pinned, "nodes": lifecycle.pin(model, _node(fields), pinned=pinned)})

    @app.put("/fleet/aliases/<path:alias>")
    async def alias(alias: str) -> Response:
        model: str = (await _fields()).text("model")
        lifecycle.alias(_new_name(alias), model)
        return _json({"alias": alias, "model": model})

    @app.delete("/fleet/aliases/<path:alias>")
    async def unalias(alias: str) -> Response:
        lifecycle.alias(alias, None)
        return _json({"alias": alias})


def _new_name(alias: str) -> str:
    """A name that can stand in headers, logs and tables."""
    if len(alias) > _LONGEST_NAME or not alias.isprintable() or " " in alias:
        raise errors.invalid_value("alias", f"expected up to {_LONGEST_NAME} printable characters, and no space")
    return alias


async def _fields() -> Fields:
    """The request's object; none is as good as an empty one."""
    body = await _body()
    return Fields(parse_object(body) if body.strip() else {})


async def _body() -> bytes:
    return bytes(await request.get_data(cache=False, as_text=False, parse_form_data=False))


def _node(fields: Fields) -> str | None:
    node: str | None = fields.text("node", None)
    return node


def _event_route(app: QuartTrio, routes: Routes, events: EventLog) -> None:
    @app.get("/fleet/events")
    async def fleet_events() -> Response:
        if request.method == "HEAD":  # its body would be made all the same, and this one has no end
            return _stream(b"")
        after = seen(request.headers.get("Last-Event-ID"))
        return _stream(Feed(events, lambda: listing.snapshot(routes.fleet()), after))


def _stream(body: Feed | bytes) -> Response:
    response = Response(body, content_type="text/event-stream; charset=utf-8")
    response.timeout = None  # the framework would cut it after a minute
    response.headers["cache-control"] = "no-cache"
    response.headers["x-accel-buffering"] = "no"
    return response


def _plan_route(app: QuartTrio, routes: Routes, plan: Planner) -> None:
    @app.post("/fleet/plan")
    async def fleet_plan() -> Response:
        body = await _body()
        if len(body) > MAX_TOPOLOGY_BYTES:
            raise errors.request_too_large(MAX_TOPOLOGY_BYTES)
        name = request.args.get("name", "topology.toml")
        try:
            # In a thread: a large file takes longer to read than requests should wait.
            wanted = await trio.to_thread.run_sync(_read, body, name)
        except TopologyError as error:
            return _invalid_topology(error)
        return _json(plan(routes.fleet(), wanted))


def _places_route(app: QuartTrio, routes: Routes) -> None:
    @app.get("/fleet/models/<path:model>/places")
    async def places(model: str) -> Response:
        found = planning.places(routes.fleet(), model)
        if found is None:
            raise errors.model_not_found(model)
        return _json(found)


def _read(body: bytes, name: str) -> Topology:
    """A topology as this process would have read it at its start: with the overrides of its environment."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise TopologyError([Problem(name, None, "", "is not UTF-8 text", "save the file as UTF-8")]) from None
    return parse(text, name=name, env=os.environ)


def _invalid_topology(error: TopologyError) -> Response:
    """The envelope of every error, and beside it each problem by itself."""
    envelope = ApiError(400, str(error), "invalid_request_error", "invalid_topology").envelope()
    return json_response(sse.dumps({**envelope, "problems": [_problem(each) for each in error.problems]}), 400)


def _problem(problem: Problem) -> dict[str, Any]:
    return {
        "file": problem.file,
        "line": problem.line,
        "path": problem.path,
        "message": problem.message,
        "hint": problem.hint,
    }


def _json(payload: Any) -> Response:
    return json_response(sse.dumps(payload))
