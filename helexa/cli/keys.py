"""The commands about keys. A new key goes to stdout by itself, so that a script can take it; the rest to stderr."""

import sys
from collections.abc import Iterable
from typing import Annotated, Any, get_args
from urllib.parse import urlencode

import typer

from config import NEVER, Duration, InvalidValueError, Scope, parse_duration
from helexa.cli.budgets import NONE, budget, dollars, listed
from helexa.cli.manage import DEFAULT_URL, ApiKey, Json, Url, at, budgets_text, facts, run, table, time_text
from helexa.cli.operate import Fleet
from helexa.cli.output import say

_KEYS = "/fleet/keys"
_GROUPINGS = ("key", "account", "model", "node")

keys_app = typer.Typer(
    name="keys",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Make, list, change, exchange and revoke API keys of a fleet, and see what they used.",
)


def _life(text: str) -> Duration:
    try:
        life = parse_duration(text)
    except InvalidValueError as error:
        raise typer.BadParameter(str(error)) from None
    if life <= 0:
        raise typer.BadParameter("it would have expired before it could be used")
    return life


def _scope(text: str) -> str:
    if text not in get_args(Scope):
        raise typer.BadParameter(f"'{text}' is not one of {', '.join(get_args(Scope))}")
    return text


def _label(text: str) -> tuple[str, str] | None:
    name, sign, value = text.partition("=")
    if text == NONE:
        return None
    if not (name and sign and value):
        raise typer.BadParameter(f"'{text}' is not a label: write NAME=VALUE")
    return name, value


def _at_a_time(text: str) -> int:
    """0: as many as the fleet's keys may by default; ``None`` would be an option that was not given."""
    if text == NONE:
        return 0
    if not text.isdecimal() or int(text) < 1:
        raise typer.BadParameter(f"'{text}' is not a number of requests: write one from 1 up, or none")
    return int(text)


def _by(text: str) -> str:
    if text not in _GROUPINGS:
        raise typer.BadParameter(f"'{text}' is not one of {', '.join(_GROUPINGS)}")
    return text


Name = Annotated[str, typer.Argument(help="The key's name.", show_default=False)]
Scopes = Annotated[
    list[Any] | None,
    typer.Option(
        "--scope", metavar="SCOPE", parser=_scope, help="What it may do; repeatable. A new key without it: inference."
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model", metavar="GLOB", help="Models it may use, with * and ?; repeatable. A new key without it: all."
    ),
]
Labels = Annotated[
    list[Any] | None, typer.Option("--label", metavar="NAME=VALUE", parser=_label, help="A note; repeatable.")
]
Budgets = Annotated[
    list[Any] | None,
    typer.Option(
        "--budget",
        metavar="BUDGET",
        parser=budget,
        help="What it may use, such as 5000000tokens/1d, 600requests/1m or 20usd; repeatable.",
    ),
]
Weight = Annotated[
    int | None, typer.Option(min=1, max=1000, help="Its share when requests queue: twice the weight, twice the share.")
]
AtATime = Annotated[
    Any,
    typer.Option("--max-in-flight", metavar="NUMBER", parser=_at_a_time, help="Requests that are served at a time."),
]


@keys_app.command()
def create(  # noqa: PLR0913, PLR0917 - each is an option of the command
    name: Annotated[str, typer.Argument(help="What logs and listings will call it.", show_default=False)],
    account: Annotated[
        str | None, typer.Option(help="Whom its tokens are booked to.", show_default="an account of its own name")
    ] = None,
    scope: Scopes = None,
    model: Models = None,
    expires: Annotated[
        Any,
        typer.Option(metavar="TIME", parser=_life, help="How long it lasts, such as 12h or 30d."),
    ] = "never",
    label: Labels = None,
    budgets: Budgets = None,
    weight: Weight = None,
    max_in_flight: AtATime = None,
    url: Url = DEFAULT_URL,
    key: ApiKey = None,
    *,
    as_json: Json = False,
) -> None:
    """Make a key. It is printed this once, and kept nowhere."""
    wanted = {
        "name": name,
        "account": account,
        **_given(scope, model, label, budgets, weight),
        "max_in_flight": max_in_flight or None,
        "expires_in": None if expires == NEVER else expires,
    }
    run(Fleet(url, key, as_json), "POST", _KEYS, wanted, show=_new)


def _given(
    scope: list[Any] | None,
    model: list[str] | None,
    label: list[Any] | None,
    budgets: list[Any] | None,
    weight: int | None,
) -> dict[str, Any]:
    """What a request says about options that several commands have; those that were not given are not in it."""
    labels = None if not label else dict(pair for pair in label if pair is not None)
    found = {"scopes": scope or None, "models": model or None, "labels": labels, "weight": weight}
    found["budgets"] = listed(budgets) if budgets else None
    return {name: value for name, value in found.items() if value is not None}


@keys_app.command("set")
def change(  # noqa: PLR0913, PLR0917 - each is an option of the command
    name: Name,
    scope: Scopes = None,
    model: Models = None,
    label: Labels = None,
    budgets: Budgets = None,
    weight: Weight = None,
    max_in_flight: AtATime = None,
    url: Url = DEFAULT_URL,
    key: ApiKey = None,
    *,
    as_json: Json = False,
) -> None:
    """Change what a key may do and use, from the next request on.

    What is given replaces what the key had. Labels, budgets and --max-in-flight can be given as "none".
    """
    wanted = _given(scope, model, label, budgets, weight)
    if max_in_flight is not None:
        wanted["max_in_flight"] = max_in_flight or None
    if not wanted:
        raise typer.BadParameter("there is nothing to change: give at least one of the options")
    run(Fleet(url, key, as_json), "PATCH", at(_KEYS, name), wanted, show=facts)


@keys_app.command("list")
def list_keys(url: Url = DEFAULT_URL, key: ApiKey = None, *, as_json: Json = False) -> None:
    """List all keys, those of the topology and the revoked ones among them."""
    run(Fleet(url, key, as_json), "GET", _KEYS, show=lambda found: _table(found["keys"]))


@keys_app.command()
def show(name: Name, url: Url = DEFAULT_URL, key: ApiKey = None, *, as_json: Json = False) -> None:
    """Show what is known of a key, and where its budgets stand."""
    run(Fleet(url, key, as_json), "GET", at(_KEYS, name), show=facts)


@keys_app.command()
def usage(  # noqa: PLR0913 - each is an option of the command
    by: Annotated[Any, typer.Option(metavar="WHAT", parser=_by, help=f"Whose sums: {', '.join(_GROUPINGS)}.")] = "key",
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="From when on: a Unix time or how long ago, such as 7d.", show_default="ever"
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Up to when, written likewise.", show_default="now")
    ] = None,
    url: Url = DEFAULT_URL,
    key: ApiKey = None,
    *,
    as_json: Json = False,
) -> None:
    """Show what was used: requests, tokens and money, the dearest first."""
    asked = {"by": by, "since": since, "until": until}
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    run(Fleet(url, key, as_json), "GET", f"/fleet/usage?{query}", show=lambda found: _usage(by, found["usage"]))


@keys_app.command()
def rotate(name: Name, url: Url = DEFAULT_URL, key: ApiKey = None, *, as_json: Json = False) -> None:
    """Exchange a key for a new one that is good for the same. The old one is refused at once."""
    run(Fleet(url, key, as_json), "POST", at(_KEYS, name) + "/rotate", show=_new)


@keys_app.command()
def revoke(name: Name, url: Url = DEFAULT_URL, key: ApiKey = None, *, as_json: Json = False) -> None:
    """Have a key be refused from now on, for good."""
    run(
        Fleet(url, key, as_json),
        "DELETE",
        at(_KEYS, name),
        show=lambda found: say(f"The key '{found['name']}' is revoked."),
    )


def _new(found: dict[str, Any]) -> None:
    sys.stdout.write(found["key"] + "\n")
    end = "" if found["expires"] is None else f" It expires on {time_text(found['expires'])}."
    say(f"This is the key '{found['name']}'. It is not shown again: keep it now.{end}")


def _table(found: Iterable[dict[str, Any]]) -> None:
    columns = ("NAME", "STATE", "KEY", "ACCOUNT", "SCOPES", "MODELS", "BUDGETS", "EXPIRES", "FROM")
    table(columns, map(_row, found))


def _row(key: dict[str, Any]) -> tuple[str, ...]:
    hint = "" if key["hint"] is None else f"…{key['hint']}"
    expires = "never" if key["expires"] is None else time_text(key["expires"])
    lists = (", ".join(key["scopes"]), ", ".join(key["models"]) or "all", budgets_text(key["budgets"]))
    return (key["name"], key["state"], hint, key["account"], *lists, expires, key["source"])


_COUNTS = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens")


def _usage(by: str, found: Iterable[dict[str, Any]]) -> None:
    numbers = ("REQUESTS", "PROMPT", "CACHED", "COMPLETION", "USD")
    rows = [(each["name"], *(f"{each[name]:,}" for name in _COUNTS), dollars(each["usd"])) for each in found]
    table((by.upper(), *numbers), rows, numbers)
