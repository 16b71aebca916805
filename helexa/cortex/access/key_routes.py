"""The operators' routes for keys. A key is in no answer but the one that made it, and a hash in none."""

import time
from typing import Any

import structlog
from quart import Response, request
from quart_trio import QuartTrio

from helexa.cortex.access import keys
from helexa.cortex.access.auth import KEY
from helexa.cortex.access.keys import Keys, Made
from helexa.web.quart_errors import json_response
from helexa.wire import sse
from helexa.wire.fields import Fields, parse_object

_log = structlog.get_logger()


def add_routes(app: QuartTrio, keyring: Keys) -> None:
    """Add them.

    Args:
        app: takes the routes.
        keyring: keeps the keys.
    """
    _reading(app, keyring)
    _changing(app, keyring)


def _reading(app: QuartTrio, keyring: Keys) -> None:
    @app.get("/fleet/keys")
    async def list_keys() -> Response:
        now = time.time()
        found = [keys.shown_declared(key) for key in keyring.declared()]
        return _json({"keys": found + [keys.shown(record, now) for record in keyring.records()]})

    @app.get("/fleet/keys/<name>")
    async def show_key(name: str) -> Response:
        return _json(_one(keyring, name))


def _one(keyring: Keys, name: str) -> dict[str, Any]:
    """The key of that name that is good for something, if there is one."""
    declared = next((key for key in keyring.declared() if key.name == name), None)
    live = any(record.name == name and record.revoked is None for record in keyring.records())
    if declared is not None and not live:
        return keys.shown_declared(declared)
    return keys.shown(keyring.record(name), time.time())


def _changing(app: QuartTrio, keyring: Keys) -> None:
    @app.post("/fleet/keys")
    async def create_key() -> Response:
        body = bytes(await request.get_data(cache=False, as_text=False, parse_form_data=False))
        made = await keyring.create(keys.read_wanted(Fields(parse_object(body))))
        _note("key.created", made.record.name)
        return _once(made)

    @app.post("/fleet/keys/<name>/rotate")
    async def rotate_key(name: str) -> Response:
        made = await keyring.rotate(name)
        _note("key.rotated", name)
        return _once(made)

    @app.delete("/fleet/keys/<name>")
    async def revoke_key(name: str) -> Response:
        record = await keyring.revoke(name)
        _note("key.revoked", name)
        return _json(keys.shown(record, time.time()))


def _note(what: str, name: str) -> None:
    by: Any = request.scope.get(KEY)
    _log.info(what, key=name, by=None if by is None else by.name)


def _once(made: Made) -> Response:
    """The only answer with a key in it."""
    response = _json({**keys.shown(made.record, time.time()), "key": made.key})
    response.headers["cache-control"] = "no-store"
    return response


def _json(payload: Any) -> Response:
    return json_response(sse.dumps(payload))
