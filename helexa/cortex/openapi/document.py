"""The document itself: every path, what it takes and what it answers."""

from functools import cache
from importlib.metadata import version
from typing import Final

from quart import Response
from quart_trio import QuartTrio

from helexa.cortex.openapi import chat, dialects, fleet, keys
from helexa.cortex.openapi.parts import EVENTS, TEXT, Schema, in_header, in_path, in_query, operation, ref
from helexa.web.quart_errors import json_response
from helexa.wire import sse

PATH: Final = "/openapi.json"
_MODEL: Final = in_path("model", "A model's id, slashes and all, or an alias.")
_READ: Final = ("401", "403")
_ADMIN: Final = ("400", "401", "403", "404", "413", "502", "503")


def add_route(app: QuartTrio) -> None:
    """Serve the document."""

    @app.get(PATH)
    async def openapi() -> Response:
        return json_response(_encoded())


@cache
def _encoded() -> bytes:
    return sse.dumps(document())


def document() -> Schema:
    """The whole document, as plain containers."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "helexa",
            "version": version("helexa"),
            "description": "One endpoint for a fleet of machines that serve language models. "
            "Every path under /v1 is served under /api/v1/openai/v1 as well.",
        },
        "paths": {**_inference(), **_models(), **_fleet(), **_health()},
        "components": {
            "schemas": {**chat.SCHEMAS, **dialects.SCHEMAS, **fleet.SCHEMAS},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
        "security": [{"bearer": []}, {"x-api-key": []}, {}],
    }


def _inference() -> Schema:
    return {
        "/v1/chat/completions": {"post": _answers("createChatCompletion", "Chat", "ChatRequest", "ChatCompletion")},
        "/v1/completions": {"post": _answers("createCompletion", "Text", "CompletionRequest", "Completion")},
        "/v1/responses": {"post": _answers("createResponse", "Responses", "ResponseRequest", "Response")},
        "/v1/messages": {"post": _answers("createMessage", "Messages", "MessageRequest", "Message", "MessageError")},
        "/v1/messages/count_tokens": {
            "post": operation(
                "countTokens",
                "Count the tokens that a message would be read as",
                ref("CountTokens"),
                tag="Messages",
                body=ref("CountTokensRequest"),
                error="MessageError",
            )
        },
    }


def _answers(name: str, tag: str, request: str, answer: str, error: str = "Error") -> Schema:
    summary = "Have a model answer, whole or as a stream of server-sent events"
    return operation(name, summary, ref(answer), tag=tag, body=ref(request), streams=True, error=error)


def _models() -> Schema:
    listed = operation("listModels", "Every model and alias", ref("ModelList"), tag="Models", errors=_READ)
    one = operation("getModel", "One of them", ref("Model"), tag="Models", errors=(*_READ, "404"), parameters=[_MODEL])
    return {"/v1/models": {"get": listed}, "/v1/models/{model}": {"get": one}}


def _fleet() -> Schema:
    state = operation("getFleet", "Nodes, models and devices as they are now", ref("Fleet"), tag="Fleet", errors=_READ)
    actors = operation("listActors", "What runs inside helexa", ref("Actors"), tag="Fleet", errors=_READ)
    return {
        "/fleet": {"get": state},
        "/fleet/actors": {"get": actors},
        "/fleet/events": {"get": _events()},
        "/fleet/plan": {"post": _plan()},
        "/fleet/requests": {"get": _requests()},
        "/fleet/requests/{number}": {"delete": _cancel()},
        "/fleet/logs": {"get": _logs()},
        "/fleet/aliases/{alias}": {"put": _alias(), "delete": _unalias()},
        **keys.paths(),
        "/fleet/models/{model}/places": {"get": _places()},
        "/fleet/models/{model}/load": {
            "post": _move("loadModel", "Load a model and wait until it serves", "Place", "Loaded")
        },
        "/fleet/models/{model}/unload": {
            "post": _move("unloadModel", "Unload a model once its requests have ended", "Place", "Unloaded")
        },
        "/fleet/models/{model}/pin": {
            "post": _move("pinModel", "Keep a model where it is loaded, or no longer", "Pin", "Pinned")
        },
    }


def _move(name: str, summary: str, request: str, answer: str) -> Schema:
    return operation(
        name,
        summary,
        ref(answer),
        tag="Fleet",
        body=ref(request),
        body_required=request == "Pin",
        errors=_ADMIN,
        parameters=[_MODEL],
    )


def _events() -> Schema:
    last = in_header("Last-Event-ID", "The last event that was seen; what came after it follows, where it is known.")
    summary = "What happens: a snapshot, then each change, as server-sent events without an end"
    found = operation("followEvents", summary, TEXT, tag="Fleet", errors=_READ, parameters=[last])
    found["responses"]["200"]["content"] = {EVENTS: {}}
    return found


def _requests() -> Schema:
    summary = "The requests that are being served, and the last that were"
    return operation("listRequests", summary, ref("Requests"), tag="Fleet", errors=_READ)


def _cancel() -> Schema:
    number = in_path("number", "The request's, as they are listed.")
    summary = "End a request with an error to its client"
    return operation(
        "cancelRequest", summary, ref("Cancelled"), tag="Fleet", errors=(*_READ, "404"), parameters=[number]
    )


def _logs() -> Schema:
    asked = [
        in_query("node", "Whose log; without it, the gateway's."),
        in_query("after", "The number of the last line that was seen."),
        in_query("limit", "How many lines at most, the latest."),
    ]
    errors = ("400", *_READ, "502")
    return operation("readLog", "The latest lines of a log", ref("Log"), tag="Fleet", errors=errors, parameters=asked)


_ALIAS: Final = in_path("alias", "The name.")


def _alias() -> Schema:
    return operation(
        "makeAlias",
        "Have a further name for a model until the gateway ends",
        ref("Alias"),
        tag="Fleet",
        body=ref("AliasRequest"),
        errors=_ADMIN,
        parameters=[_ALIAS],
    )


def _unalias() -> Schema:
    summary = "No longer have a name that was made so"
    return operation("removeAlias", summary, ref("Alias"), tag="Fleet", errors=_ADMIN, parameters=[_ALIAS])


def _plan() -> Schema:
    name = in_query("name", "What problems call the file.")
    return operation(
        "planTopology",
        "What a topology would change, and where each of its models would fit",
        ref("Plan"),
        tag="Fleet",
        body=TEXT,
        body_kind="application/toml",
        body_required=False,
        errors=("400", "401", "403", "413"),
        parameters=[name],
    )


def _places() -> Schema:
    summary = "Every place that a model could have as the fleet is now, and why not the others"
    errors = (*_READ, "404")
    return operation("listPlaces", summary, ref("PlannedModel"), tag="Fleet", errors=errors, parameters=[_MODEL])


def _health() -> Schema:
    alive = operation("getHealth", "Whether the gateway runs", ref("Health"), tag="Health", errors=(), public=True)
    ready = operation(
        "getReady", "Whether a model is loaded", ref("Health"), tag="Health", errors=("503",), public=True
    )
    itself = operation("getOpenapi", "This document", {"type": "object"}, tag="Health", errors=_READ)
    return {"/health": {"get": alive}, "/ready": {"get": ready}, PATH: {"get": itself}}
