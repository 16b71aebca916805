"""The neuron's HTTP application: control routes on Quart, inference on bare ASGI, one guard in front of both."""

import hmac
from collections.abc import Iterable
from ipaddress import ip_address
from time import monotonic
from typing import NoReturn, cast, get_args

from quart import Response, request
from quart_trio import QuartTrio

from config import Quant
from helexa.neuron import estimates, inference
from helexa.neuron import tokenize as tokenizing
from helexa.neuron.build_info import build_version
from helexa.neuron.discovery import Host
from helexa.neuron.ports import Ranks
from helexa.neuron.service import Service
from helexa.web.asgi import header
from helexa.web.front import Front
from helexa.web.hosts import is_local
from helexa.web.log_pages import log_page
from helexa.web.quart_errors import json_app, json_response
from helexa.web.server import App, Drain, Scope
from helexa.wire import errors, fleet, sse
from helexa.wire import secret as secrets
from helexa.wire.fields import Fields, parse_object
from helexa.wire.rank_reports import RankList
from helexa.wire.ranks import Elsewhere, RankRequest

_MOST_ESTIMATES = 1024
_MOST_RANKS = 1024
_LARGEST_PORT = 65_535
_LONGEST_NAME = 512


def make_app(service: Service, host: Host, drain: Drain, secret: str | None, ranks: Ranks | None = None) -> Front:
    """Wire the routes.

    Args:
        service: the models of this host.
        host: its devices.
        drain: this server's shutdown.
        secret: the fleet secret that callers must bear; ``None`` leaves the door open to this machine.
        ranks: of this host, in groups that other neurons lead; ``None``: it takes part in none.
    """

    def admit(scope: Scope) -> Scope:
        if secret is None and not is_local(scope):
            raise errors.host_not_allowed()
        if secret is not None and not _bears(scope, secret):
            raise errors.invalid_api_key()
        return scope

    bare = inference.handlers(service, drain)
    return Front(admit, bare, cast("App", _control(service, host, bare, ranks)))


def _bears(scope: Scope, secret: str) -> bool:
    name, value = secrets.header(secret)
    return hmac.compare_digest(header(scope, name) or b"", value)


async def _data() -> bytes:
    return await request.get_data(cache=False, as_text=False, parse_form_data=False)


async def _body() -> Fields:
    return Fields(parse_object(await _data()))


async def _listed(key: str, most: int) -> list[Fields]:
    """The objects of a list in the body."""
    body = await _body()
    found = body.objects(key)
    if len(found) > most:
        raise body.wrong(key, f"a list of at most {most} objects")
    return [Fields(each, f"{body.name(key)}[{index}]") for index, each in enumerate(found)]


def _load_request(fields: Fields) -> fleet.LoadRequest:
    source, device = fields.text("source", None), fields.text("device", None)
    quant = fields.choice("quant", get_args(Quant), None)
    elsewhere = _elsewhere(fields.nested("elsewhere")) if fields.has("elsewhere") else None
    return fleet.LoadRequest(fields.text("model"), source, device, quant, elsewhere)


def _elsewhere(fields: Fields) -> Elsewhere:
    count, port = fields.integer("count", 1, _MOST_RANKS - 1), fields.integer("port", 1, _LARGEST_PORT)
    return Elsewhere(count, _ip(fields, "host"), port, _name(fields, "token"))


def _rank_request(fields: Fields) -> RankRequest:
    ranks = fields.integer("ranks", 2, _MOST_RANKS)
    rank, port = fields.integer("rank", 1, ranks - 1), fields.integer("port", 1, _LARGEST_PORT)
    group, device = _name(fields, "group"), _name(fields, "device")
    return RankRequest(group, device, rank, ranks, _ip(fields, "host"), port, _name(fields, "token"))


def _name(fields: Fields, key: str) -> str:
    found: str = fields.text(key)
    if not 0 < len(found) <= _LONGEST_NAME or not found.isprintable():
        raise fields.wrong(key, f"1 to {_LONGEST_NAME} printable characters")
    return found


def _ip(fields: Fields, key: str) -> str:
    """The address of one interface: what a name, or a wildcard, stands for is not ours to guess."""
    try:
        address = ip_address(fields.text(key))
    except ValueError:
        raise fields.wrong(key, "an IP address") from None
    if address.is_unspecified:
        raise fields.wrong(key, "the address of one interface")
    return str(address)


def _control(service: Service, host: Host, bare: Iterable[str], ranks: Ranks | None) -> QuartTrio:
    app = json_app("helexa.neuron")
    _add_reports(app, service, host, ranks)
    _add_models(app, service, host)
    if ranks is not None:
        _add_ranks(app, ranks)
    _add_tokenize(app, service)
    for path in bare:
        app.add_url_rule(path, path, _served_elsewhere, methods=["POST"])
    return app


async def _served_elsewhere() -> NoReturn:
    """Served by the bare ASGI handler; registered so that other methods are told 405 and not 404."""
    raise errors.internal()


def _add_reports(app: QuartTrio, service: Service, host: Host, ranks: Ranks | None) -> None:
    @app.get("/discovery")
    async def discovery() -> Response:
        return json_response(fleet.to_json(host.discovery))

    @app.get("/version")
    async def version() -> Response:
        return json_response(fleet.to_json(build_version()))

    @app.get("/health")
    async def health() -> Response:
        uptime = round(monotonic() - service.started, 3)
        own = ranks.reports() if ranks else ()
        found = fleet.Health("ok", uptime, await host.look(), service.reports(), service.activation, own)
        return json_response(fleet.to_json(found))

    @app.get("/actors")
    async def actors() -> Response:
        return json_response(fleet.to_json((*service.engines.actors(), *(ranks.actors() if ranks else ()))))

    @app.get("/logs")
    async def logs() -> Response:
        return log_page(request.args)

    @app.get("/models")
    async def models() -> Response:
        return json_response(fleet.to_json(fleet.ModelList(service.reports())))


def _add_models(app: QuartTrio, service: Service, host: Host) -> None:
    target = estimates.target_of(host.discovery)

    @app.post("/models/load")
    async def load() -> Response:
        return json_response(fleet.to_json(await service.load(_load_request(await _body()))))

    @app.post("/models/estimate")
    async def estimate() -> Response:
        wanted = [_load_request(fields) for fields in await _listed("models", _MOST_ESTIMATES)]
        return json_response(
            fleet.to_json(await estimates.estimate(wanted, service.source_of, service.registry, target))
        )

    @app.post("/models/unload")
    async def unload() -> Response:
        fields = await _body()
        model = fields.text("model")
        await service.unload(model)
        return json_response(fleet.to_json(fleet.ModelReport(model, "unloaded")))

    @app.post("/devices/<device>/restart")
    async def restart(device: str) -> Response:
        data = await _data()
        force = Fields(parse_object(data)).flag("force") if data else False
        return json_response(fleet.to_json(fleet.ModelList(await service.restart(device, force=force))))


def _add_ranks(app: QuartTrio, ranks: Ranks) -> None:
    @app.get("/ranks")
    async def listed() -> Response:
        return json_response(fleet.to_json(RankList(ranks.reports())))

    @app.post("/ranks")
    async def start() -> Response:
        return json_response(fleet.to_json(await ranks.start(_rank_request(await _body()))))

    @app.delete("/ranks/<path:group>")
    async def stop(group: str) -> Response:
        await ranks.stop(group)
        return json_response(b"{}")


def _add_tokenize(app: QuartTrio, service: Service) -> None:
    @app.post("/tokenize")
    async def tokenize() -> Response:
        data = await _data()
        return json_response(sse.dumps(await tokenizing.tokenize(service, parse_object(data), len(data))))
