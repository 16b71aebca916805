"""The neuron's HTTP application: control routes on Quart, inference on bare ASGI, one guard in front of both."""

import hmac
from time import monotonic
from typing import NoReturn

from attrs import frozen
from quart import Response, request
from quart_trio import QuartTrio

from helexa.neuron import inference
from helexa.neuron.build_info import build_version
from helexa.neuron.discovery import Host
from helexa.neuron.service import Service
from helexa.web.asgi import header, send_error
from helexa.web.hosts import is_local_name
from helexa.web.quart_errors import json_app, json_response
from helexa.web.server import Drain, Receive, Scope, Send
from helexa.wire import errors, fleet
from helexa.wire.errors import ApiError
from helexa.wire.fields import Fields, parse_object


@frozen
class NeuronApp:
    """The ASGI application.

    Attributes:
        service: the models of this host.
        host: its devices.
        drain: this server's shutdown.
        secret: the fleet secret that callers must bear; ``None`` leaves the door open to this machine.
    """

    service: Service
    host: Host
    drain: Drain
    control: QuartTrio
    secret: str | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's request."""
        if scope["type"] == "http" and (error := self._refusal(scope)) is not None:
            await send_error(send, error)
        elif scope["type"] == "http" and (scope["method"], scope["path"]) == ("POST", "/v1/chat/completions"):
            await inference.chat_completions(self.service, self.drain, scope, receive, send)
        else:
            await self.control(scope, receive, send)  # type: ignore[arg-type]  # quart's own scope types

    def _refusal(self, scope: Scope) -> ApiError | None:
        if self.secret is None:
            return None if is_local_name(scope) else errors.host_not_allowed()
        given = header(scope, b"authorization") or b""
        return None if hmac.compare_digest(given, b"Bearer " + self.secret.encode()) else errors.invalid_api_key()


def make_app(service: Service, host: Host, drain: Drain, secret: str | None) -> NeuronApp:
    """Wire the routes."""
    return NeuronApp(service, host, drain, _control(service, host), secret)


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

    @app.route("/v1/chat/completions", methods=["POST"])
    async def chat() -> NoReturn:
        # Served by the bare ASGI handler; registered so that other methods are told 405 and not 404.
        raise errors.internal()

    return app
