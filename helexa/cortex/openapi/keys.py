"""Schemas and paths of keys, accounts and usage. Pure."""

from typing import Final, get_args

from helexa.cortex.access.auth import ALL_SCOPES
from helexa.cortex.access.key_fields import MOST_BUDGETS, MOST_DOLLARS, MOST_MODELS
from helexa.cortex.access.keys import MOST_IN_FLIGHT, MOST_WEIGHT
from helexa.cortex.ledger.rows import Grouping
from helexa.cortex.openapi.parts import (
    COUNT,
    NUMBER,
    TEXT,
    Schema,
    any_of,
    between,
    in_path,
    in_query,
    items,
    nullable,
    one_of,
    operation,
    ref,
    table,
    whole,
)

_CLOSED: Final[Schema] = {"additionalProperties": False}
"""What is not known is refused."""
_LABELS: Final[Schema] = {"type": "object", "additionalProperties": TEXT}
_MOST_COUNT: Final = 2**63 - 1
_YEAR: Final = 366 * 86_400


def _budget(unit: str, amount: Schema) -> Schema:
    return table([unit], **{unit: amount}, per=nullable(between(1, _YEAR))) | _CLOSED


def _standing(unit: str, amount: Schema) -> Schema:
    known = ("spent", "reserved", "left")
    return table(
        [unit, "per", *known], **{unit: amount}, per=nullable(NUMBER), **dict.fromkeys(known, nullable(amount))
    )


_CHANGEABLE: Final[Schema] = {
    "scopes": nullable(items(one_of(*ALL_SCOPES), least=1)),
    "models": nullable(items(TEXT, least=1, most=MOST_MODELS)),
    "labels": nullable(_LABELS),
    "budgets": nullable(items(ref("Budget"), most=MOST_BUDGETS)),
    "weight": nullable(whole(1, MOST_WEIGHT)),
    "max_in_flight": nullable(whole(1, MOST_IN_FLIGHT)),
}

_KEY: Final = table(
    ["name", "state", "source", "account", "scopes", "models", "labels", "budgets", "weight", "max_in_flight"],
    name=TEXT,
    state=one_of("active", "expired", "revoked"),
    source=one_of("database", "topology"),
    account=TEXT,
    scopes=items(one_of(*ALL_SCOPES)),
    models=items(TEXT),
    labels=_LABELS,
    budgets=items(ref("BudgetStanding")),
    weight=COUNT,
    max_in_flight=nullable(COUNT),
    hint=nullable(TEXT),
    created=nullable(NUMBER),
    rotated=nullable(NUMBER),
    expires=nullable(NUMBER),
    revoked=nullable(NUMBER),
)

SCHEMAS: Final[dict[str, Schema]] = {
    "Budget": any_of(
        _budget("tokens", whole(0, _MOST_COUNT)),
        _budget("requests", whole(0, _MOST_COUNT)),
        _budget("usd", between(0, MOST_DOLLARS)),
    ),
    "BudgetStanding": any_of(
        _standing("tokens", COUNT), _standing("requests", COUNT), _standing("usd", {"type": "number", "minimum": 0})
    ),
    "KeyRequest": table(
        ["name"],
        name={"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"},
        account=nullable(TEXT),
        expires_in=nullable({"type": "number", "exclusiveMinimum": 0}),
        **_CHANGEABLE,
    )
    | _CLOSED,
    "KeyChange": table(**_CHANGEABLE) | _CLOSED,
    "Key": _KEY,
    "NewKey": {"allOf": [ref("Key"), table(["key"], key=TEXT)]},
    "Keys": table(["keys"], keys=items(ref("Key"))),
    "AccountRequest": table(["budgets"], budgets=items(ref("Budget"), most=MOST_BUDGETS)) | _CLOSED,
    "Account": table(
        ["name", "source", "keys", "budgets"],
        name=TEXT,
        source=nullable(one_of("database", "topology")),
        keys=items(TEXT),
        budgets=items(ref("BudgetStanding")),
    ),
    "Accounts": table(["accounts"], accounts=items(ref("Account"))),
    "AccountDropped": table(["name"], name=TEXT),
    "Usage": table(
        ["by", "since", "until", "usage"],
        by=one_of(*get_args(Grouping)),
        since=NUMBER,
        until=NUMBER,
        usage=items(
            table(
                ["name", "requests", "prompt_tokens", "cached_tokens", "completion_tokens", "usd"],
                name=TEXT,
                requests=COUNT,
                prompt_tokens=COUNT,
                cached_tokens=COUNT,
                completion_tokens=COUNT,
                usd=NUMBER,
            )
        ),
    ),
}

_ERRORS: Final = ("400", "401", "403", "404", "409", "503")
_KEY_NAME: Final = in_path("name", "A key's name.")
_ACCOUNT_NAME: Final = in_path("name", "An account's name, slashes and all.")


def paths() -> Schema:
    """What is served about keys, accounts and usage."""
    return {**_keys(), **_accounts(), "/fleet/usage": {"get": _usage()}}


def _keys() -> Schema:
    listed = operation("listKeys", "Every key, and none of their secrets", ref("Keys"), tag="Keys", errors=_ERRORS)
    return {
        "/fleet/keys": {"get": listed, "post": _made("createKey", "Make a key", "KeyRequest")},
        "/fleet/keys/{name}": {
            "get": _key("showKey", "What is known of a key, and where its budgets stand"),
            "patch": _key("changeKey", "Change what a key may do and use", "KeyChange"),
            "delete": _key("revokeKey", "Have a key be refused from now on"),
        },
        "/fleet/keys/{name}/rotate": {"post": _made("rotateKey", "Exchange a key; the old one is refused at once")},
    }


def _key(name: str, summary: str, request: str | None = None) -> Schema:
    body = None if request is None else ref(request)
    return operation(name, summary, ref("Key"), tag="Keys", body=body, errors=_ERRORS, parameters=[_KEY_NAME])


def _made(name: str, summary: str, request: str | None = None) -> Schema:
    """A key is in the answer this once."""
    body = None if request is None else ref(request)
    parameters = [_KEY_NAME] if request is None else []
    return operation(name, summary, ref("NewKey"), tag="Keys", body=body, errors=_ERRORS, parameters=parameters)


def _accounts() -> Schema:
    summary = "Every account, and where its budgets stand"
    return {
        "/fleet/accounts": {"get": operation("listAccounts", summary, ref("Accounts"), tag="Accounts", errors=_ERRORS)},
        "/fleet/accounts/{name}": {
            "get": _account("showAccount", "One of them", "Account"),
            "put": _account("setAccount", "Set what its keys may use together", "Account", "AccountRequest"),
            "delete": _account("dropAccount", "Forget what its keys may use together", "AccountDropped"),
        },
    }


def _account(name: str, summary: str, answer: str, request: str | None = None) -> Schema:
    body = None if request is None else ref(request)
    return operation(name, summary, ref(answer), tag="Accounts", body=body, errors=_ERRORS, parameters=[_ACCOUNT_NAME])


def _usage() -> Schema:
    by = in_query("by", "Whose sums.") | {"schema": one_of(*get_args(Grouping))}
    since = in_query("since", "From when on: a Unix time, or how long ago, such as `7d`. Absent: all that is kept.")
    until = in_query("until", "Up to when, written likewise. Absent: now.")
    summary = "What was used: requests, tokens and money, the dearest first"
    return operation(
        "getUsage",
        summary,
        ref("Usage"),
        tag="Usage",
        errors=("400", "401", "403", "503"),
        parameters=[by, since, until],
    )
