"""The commands about keys. A new key goes to stdout by itself, so that a script can take it; the rest to stderr."""

import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, get_args
from urllib.parse import quote

import typer

from config import NEVER, Duration, InvalidValueError, Scope, parse_duration
from helexa.cli.operate import PIPE_COLUMNS, Fleet
from helexa.cli.output import DONE, fail, say

if TYPE_CHECKING:
    from rich.console import RenderableType

TIMEOUT_SECONDS = 30.0
"""A gateway whose database is away takes half of that to say so."""
DEFAULT_URL = "http://127.0.0.1:31313"
_TIMES = ("created", "rotated", "expires", "revoked")

keys_app = typer.Typer(
    name="keys",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Make, list, exchange and revoke API keys of a fleet.",
)

Name = Annotated[str, typer.Argument(help="The key's name.", show_default=False)]
Url = Annotated[str, typer.Option("--url", envvar="HELEXA_URL", help="The fleet's base URL.", show_default=True)]
ApiKey = Annotated[
    str | None, typer.Option("--key", envvar="HELEXA_API_KEY", help="API key with the scope fleet:admin.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


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


def _label(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise typer.BadParameter(f"'{text}' is not a label: write NAME=VALUE")
    return name, value


@keys_app.command()
def create(  # noqa: PLR0913, PLR0917 - each is an option of the command
    name: Annotated[str, typer.Argument(help="What logs and listings will call it.", show_default=False)],
    account: Annotated[
        str | None, typer.Option(help="Whom its tokens are booked to.", show_default="an account of its own name")
    ] = None,
    scope: Annotated[
        list[Any] | None,
        typer.Option(metavar="SCOPE", parser=_scope, help="What it may do; repeatable.", show_default="inference"),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Models it may use, with * and ?; repeatable.", show_default="all"),
    ] = None,
    expires: Annotated[
        Any,
        typer.Option(metavar="TIME", parser=_life, help="How long it lasts, such as 12h or 30d."),
    ] = "never",
    label: Annotated[
        list[Any] | None, typer.Option(metavar="NAME=VALUE", parser=_label, help="A note; repeatable.")
    ] = None,
    url: Url = DEFAULT_URL,
    key: ApiKey = None,
    *,
    as_json: Json = False,
) -> None:
    """Make a key. It is printed this once, and kept nowhere."""
    wanted = {
        "name": name,
        "account": account,
        "scopes": scope or None,
        "models": model or None,
        "labels": dict(label or ()),
        "expires_in": None if expires == NEVER else expires,
    }
    _run(Fleet(url, key, as_json), "POST", "", wanted, show=_new)


@keys_app.command("list")
def list_keys(url: Url = DEFAULT_URL, key: ApiKey = None, *, as_json: Json = False) -> None:
    """List all keys, those of the topology and the revoked ones among them."""
    _run(Fleet(url, key, as_json), "GET", "", show=lambda found: _print(_table(found["keys"])))


@keys_app.command()
def show(name: Name, url: Url = DEFAULT_URL, key: ApiKey = None, *, as_json: Json = False) -> None:
    """Show what is known of a key."""
    _run(Fleet(url, key, as_json), "GET", _at(name), show=lambda found: _print(_facts(found)))


@keys_app.command()
def rotate(name: Name, url: Url = DEFAULT_URL, key: ApiKey = None, *, as_json: Json = False) -> None:
    """Exchange a key for a new one that is good for the same. The old one is refused at once."""
    _run(Fleet(url, key, as_json), "POST", _at(name) + "/rotate", show=_new)


@keys_app.command()
def revoke(name: Name, url: Url = DEFAULT_URL, key: ApiKey = None, *, as_json: Json = False) -> None:
    """Have a key be refused from now on, for good."""
    _run(
        Fleet(url, key, as_json), "DELETE", _at(name), show=lambda found: say(f"The key '{found['name']}' is revoked.")
    )


def _at(name: str) -> str:
    """The end of a key's path; whatever is typed stays one part of it."""
    return "/" + quote(name, safe="")


def _run(
    fleet: Fleet, method: str, path: str, body: dict[str, Any] | None = None, *, show: Callable[[dict[str, Any]], None]
) -> None:
    """Ask, show, and end with the exit code; every failure that an operator can cause is one sentence."""
    from tui.client import FleetError

    try:
        found = _ask(fleet, method, "/fleet/keys" + path, body)
        if fleet.as_json:
            _print_json(found)
        else:
            show(found)
        code = DONE
    except FleetError as error:
        code = fail(str(error))
    except KeyError as error:
        code = fail(f"{fleet.url} answered without {error}, and not as a fleet does.")
    sys.stdout.flush()
    raise typer.Exit(code)


def _ask(fleet: Fleet, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
    import httpx

    from tui.client import FAILURES, client_options, no_url, read_object, trouble

    try:
        client = httpx.Client(**client_options(fleet.url, fleet.key) | {"timeout": TIMEOUT_SECONDS})
    except (httpx.InvalidURL, ValueError) as error:
        raise no_url(fleet.url, error) from error
    with client:
        try:
            return read_object(client.request(method, path, json=body))
        except FAILURES as error:
            raise trouble(fleet.url, error) from error


def _new(found: dict[str, Any]) -> None:
    sys.stdout.write(found["key"] + "\n")
    end = "" if found["expires"] is None else f" It expires on {_time(found['expires'])}."
    say(f"This is the key '{found['name']}'. It is not shown again: keep it now.{end}")


def _print_json(found: Any) -> None:
    import orjson

    sys.stdout.write(orjson.dumps(found).decode() + "\n")


def _print(what: "RenderableType") -> None:
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS).print(what)


def _table(found: Iterable[dict[str, Any]]) -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in ("NAME", "STATE", "KEY", "ACCOUNT", "SCOPES", "MODELS", "EXPIRES", "FROM"):
        table.add_column(column, overflow="fold")
    for key in found:
        hint = "" if key["hint"] is None else f"…{key['hint']}"
        expires = "never" if key["expires"] is None else _time(key["expires"])
        lists = (", ".join(key["scopes"]), ", ".join(key["models"]) or "all")
        cells = (key["name"], key["state"], hint, key["account"], *lists, expires, key["source"])
        table.add_row(*map(Text, cells))  # as text: a pattern may hold brackets, which are markup to the terminal
    return table


def _facts(found: dict[str, Any]) -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in found.items():
        table.add_row(Text(name), Text(_fact(name, value)))
    return table


def _fact(name: str, value: Any) -> str:
    if value is None:
        return "never" if name in _TIMES else "unknown"
    if name in _TIMES:
        return _time(value)
    if isinstance(value, dict):
        return ", ".join(f"{label}={text}" for label, text in value.items()) or "none"
    return (", ".join(value) or "all") if isinstance(value, list) else str(value)


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
