"""What the commands about keys and accounts share: asking the fleet, and showing what it answers."""

import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from helexa.cli.budgets import budget_text
from helexa.cli.operate import PIPE_COLUMNS, Fleet
from helexa.cli.output import DONE, fail

if TYPE_CHECKING:
    from rich.console import RenderableType

TIMEOUT_SECONDS = 30.0
"""A gateway whose database is away takes half of that to say so."""
DEFAULT_URL = "http://127.0.0.1:31313"
_TIMES = ("created", "rotated", "expires", "revoked")

Url = Annotated[str, typer.Option("--url", envvar="HELEXA_URL", help="The fleet's base URL.", show_default=True)]
ApiKey = Annotated[
    str | None, typer.Option("--key", envvar="HELEXA_API_KEY", help="API key with the scope fleet:admin.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def at(root: str, name: str) -> str:
    """The path of what has this name; whatever is typed stays one part of it."""
    return f"{root}/{quote(name, safe='')}"


def run(
    fleet: Fleet, method: str, path: str, body: dict[str, Any] | None = None, *, show: Callable[[dict[str, Any]], None]
) -> None:
    """Ask, show, and end with the exit code; every failure that an operator can cause is one sentence."""
    from tui.client import FleetError

    try:
        found = _ask(fleet, method, path, body)
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


def _print_json(found: Any) -> None:
    import orjson

    sys.stdout.write(orjson.dumps(found).decode() + "\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[str] = ()) -> None:
    """Print a table; the columns of ``numbers`` keep to the right."""
    from rich.table import Table
    from rich.text import Text

    found = Table(box=None, pad_edge=False)
    for column in columns:
        found.add_column(column, overflow="fold", justify="right" if column in numbers else "left")
    for row in rows:
        found.add_row(*map(Text, row))  # as text: a pattern may hold brackets, which are markup to the terminal
    _print(found)


def facts(found: dict[str, Any]) -> None:
    """Print what is known of one thing, a fact a line."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, show_header=False)
    for name, value in found.items():
        shown.add_row(Text(name), Text(_fact(name, value)))
    _print(shown)


def _print(what: "RenderableType") -> None:
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS).print(what)


_NOTHING = {"max_in_flight": "the fleet's default", "source": "nowhere", **dict.fromkeys(_TIMES, "never")}
_EMPTY = {"models": "all"}


def _fact(name: str, value: Any) -> str:
    if value is None:
        return _NOTHING.get(name, "unknown")
    if name in _TIMES:
        return time_text(value)
    if name == "budgets":
        return budgets_text(value)
    if isinstance(value, dict):
        return ", ".join(f"{label}={text}" for label, text in value.items()) or "none"
    return (", ".join(value) or _EMPTY.get(name, "none")) if isinstance(value, list) else str(value)


def budgets_text(found: Sequence[dict[str, Any]]) -> str:
    """Budgets of an answer, a line each."""
    return "\n".join(map(budget_text, found)) or "none"


def time_text(at_time: float) -> str:
    """A Unix time as people read it."""
    return f"{datetime.fromtimestamp(at_time, UTC):%Y-%m-%d %H:%M} UTC"
