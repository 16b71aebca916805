"""The neuron's HTTP application: control routes on Quart, inference on bare ASGI, one guard in front of both."""

import hmac
import os
from functools import partial
from time import monotonic
from typing import NoReturn, cast

from quart import Response, request
from quart_trio import QuartTrio

from helexa.neuron import inference
from helexa.neuron.build_info import build_version
from helexa.neuron.discovery import Host
from helexa.neuron.service import Service
from helexa.web.asgi import header
from helexa.web.front import Front
from helexa.web.hosts import is_local
from helexa.web.quart_errors import json_app, json_response
from helexa.web.server import App, Drain, Scope
from helexa.wire import errors, fleet
from helexa.wire.fields import Fields, parse_object

_CHAT = "/v1/chat/completions"


def make_app(service: Service, host: Host, drain: Drain, secret: str | None) -> Front:
    """Wire the routes.

    Args:
        service: the models of this host.
        host: its devices.
        drain: this server's shutdown.
        secret: the fleet secret that callers must bear; ``None`` leaves the door open to this machine.
    """

    def admit(scope: Scope) -> Scope:
        if secret is None and not is_local(scope):
            raise errors.host_not_allowed()
        if secret is not None and not _bears(scope, secret):
            raise errors.invalid_api_key()
        return scope

    bare = {_CHAT: partial(inference.chat_completions, service, drain)}
    return Front(admit, bare, cast("App", _control(service, host)))


def _bears(scope: Scope, secret: str) -> bool:
    given = header(scope, b"authorization") or b""
    return hmac.compare_digest(given, b"Bearer " + os.fsencode(secret))


async def _body() -> Fields:
    return Fields(parse_object(await request.get_data(cache=False, as_text=False, parse_form_data=False)))


def _control(service: Service, host: Host) -> QuartTrio:
    app = json_app("helexa.neuron")

    @app.get("/discovery")
    async def discovery() -> Response:
        return json_response(fleet.to_json(host.discovery))

    @app.get("/version")
    async def version() -> Response:
        return json_response(fleet.to_json(build_version()))

    @app.get("/health")
    async def health() -> Response:
        uptime = round(monotonic() - service.started, 3)
        found = fleet.Health("ok", uptime, host.health(), service.reports(), service.activation)
        return json_response(fleet.to_json(found))

    @app.get("/actors")
    async def actors() -> Response:
        return json_response(fleet.to_json(service.engines.actors()))

    @app.get("/models")
    async def models() -> Response:
        return json_response(fleet.to_json(fleet.ModelList(service.reports())))

    @app.post("/models/load")
    async def load() -> Response:
        fields = await _body()
        wanted = fleet.LoadRequest(fields.text("model"), fields.text("source", None), fields.text("device", None))
        return json_response(fleet.to_json(await service.load(wanted)))

    @app.post("/models/unload")
    async def unload() -> Response:
        fields = await _body()
        model = fields.text("model")
        await service.unload(model)
        return json_response(fleet.to_json(fleet.ModelReport(model, "unloaded")))

    @app.post(_CHAT)
    async def chat() -> NoReturn:
        # Served by the bare ASGI handler; registered so that other methods are told 405 and not 404.
        raise errors.internal()

    return app
