"""The commands about accounts: what the keys that are booked to one may use together."""

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from helexa.cli.budgets import budget, listed
from helexa.cli.manage import DEFAULT_URL, ApiKey, Json, Url, at, budgets_text, facts, run, table
from helexa.cli.operate import Fleet
from helexa.cli.output import say

_ACCOUNTS = "/fleet/accounts"

accounts_app = typer.Typer(
    name="accounts",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="See and set what the keys of an account may use together.",
)

Name = Annotated[str, typer.Argument(help="What keys call the account.", show_default=False)]


@accounts_app.command("list")
def list_accounts(url: Url = DEFAULT_URL, key: ApiKey = None, *, as_json: Json = False) -> None:
    """List all accounts, those without budgets among them."""
    run(Fleet(url, key, as_json), "GET", _ACCOUNTS, show=lambda found: _table(found["accounts"]))


@accounts_app.command()
def show(name: Name, url: Url = DEFAULT_URL, key: ApiKey = None, *, as_json: Json = False) -> None:
    """Show an account's keys, and where its budgets stand."""
    run(Fleet(url, key, as_json), "GET", at(_ACCOUNTS, name), show=facts)


@accounts_app.command("set")
def change(
    name: Name,
    budgets: Annotated[
        list[Any],
        typer.Option(
            "--budget",
            metavar="BUDGET",
            parser=budget,
            help="What its keys may use together, such as 5000000tokens/1d, 600requests/1m or 20usd; repeatable.",
        ),
    ],
    url: Url = DEFAULT_URL,
    key: ApiKey = None,
    *,
    as_json: Json = False,
) -> None:
    """Set an account's budgets, in the place of those it had, from the next request on."""
    run(Fleet(url, key, as_json), "PUT", at(_ACCOUNTS, name), {"budgets": listed(budgets)}, show=facts)


@accounts_app.command()
def drop(name: Name, url: Url = DEFAULT_URL, key: ApiKey = None, *, as_json: Json = False) -> None:
    """Forget an account's budgets. Its keys keep their own."""
    run(
        Fleet(url, key, as_json),
        "DELETE",
        at(_ACCOUNTS, name),
        show=lambda found: say(f"The account '{found['name']}' has no budgets any more."),
    )


def _table(found: Iterable[dict[str, Any]]) -> None:
    rows = [
        (each["name"], ", ".join(each["keys"]), budgets_text(each["budgets"]), each["source"] or "") for each in found
    ]
    table(("NAME", "KEYS", "BUDGETS", "FROM"), rows)
