"""The commands about accounts, against a gateway's own routes, and budgets as they are typed and shown."""

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from operators import Gateway, run_with, serve, told

from config import Account, Budget, Duration
from helexa.cli.accounts import accounts_app
from helexa.cli.budgets import budget, budget_text, dollars


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    yield from serve(tmp_path, monkeypatch)


def run(*arguments: object) -> tuple[int, str, str]:
    return run_with(accounts_app, *arguments)


def test_an_accounts_budgets_are_set_listed_and_dropped(gateway: Gateway) -> None:
    code, out, err = run("set", "team/a", "--budget", "20usd/1d", "--budget", "600requests/1m")
    assert (code, err) == (0, "")
    assert "20.00 USD per 1d (0.00 USD spent, 20.00 USD left)" in out
    budgets = (Budget(usd=20.0, per=Duration(86_400.0)), Budget(requests=600, per=Duration(60.0)))
    assert gateway.keyring.accounts() == (Account("team/a", budgets),)
    gateway.ledger.stands = {("account:shared", "tokens"): (400, 0)}
    lines = [line.split() for line in run("list")[1].splitlines()]
    assert lines[0] == ["NAME", "KEYS", "BUDGETS", "FROM"]
    assert " ".join(lines[1]) == "shared 1,000 tokens per 1h (400 tokens spent, 600 tokens left) topology"
    assert lines[2] == ["team", "static", "none"], "an account that only a key names"
    assert (lines[3][0], lines[3][-1], lines[4][:2]) == ("team/a", "database", ["600", "requests"])
    assert run("drop", "team/a") == (0, "", "The account 'team/a' has no budgets any more.\n")
    assert gateway.keyring.accounts() == ()


def test_an_account_is_shown(gateway: Gateway) -> None:
    code, out, _ = run("show", "team")
    rows = dict(line.strip().split(maxsplit=1) for line in out.splitlines())
    assert (code, rows) == (0, {"name": "team", "source": "nowhere", "keys": "static", "budgets": "none"})
    assert orjson.loads(run("show", "team", "--json")[1])["keys"] == ["static"]
    assert gateway.keyring.accounts() == ()


def test_none_is_no_budget(gateway: Gateway) -> None:
    assert run("set", "team", "--budget", "none")[0] == 0
    assert gateway.keyring.accounts() == (Account("team", ()),)


@pytest.mark.usefixtures("gateway")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("set", "shared", "--budget", "5usd"), "The account 'shared' is declared in the topology; it can only be"),
        (("drop", "shared"), "The account 'shared' is declared in the topology; it can only be changed there."),
        (("drop", "team"), "There is no account 'team'."),
        (("show", "a b%"), "There is no account 'a b%'."),
        (("set", "a//b", "--budget", "5usd"), "Invalid value for 'name': \"a//b\" is not an id"),
        (("set", "b", "--budget", "5usd", "--budget", "5usd"), "Invalid value for 'budgets[1]': "),
    ],
)
def test_a_refusal_is_one_sentence(arguments: tuple[str, ...], expected: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith(f"helexa: {expected}"), err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("set", "x"), "Missing option '--budget'"),
        (("set", "x", "--budget", "5"), '"5" is not a budget'),
        (("set", "x", "--budget", "5usd", "--budget", "none"), "'none' stands beside budgets"),
    ],
)
def test_wrong_usage_is_exit_code_two(arguments: tuple[str, ...], expected: str) -> None:
    code, out, err = run(*arguments, "--url", "http://127.0.0.1:9")
    assert (code, out) == (2, "")
    assert expected in told(err)


@pytest.mark.parametrize("arguments", [("list",), ("show", "x"), ("set", "x", "--budget", "5usd"), ("drop", "x")])
def test_no_fleet_is_one_sentence(arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments, "--url", "http://127.0.0.1:9")
    assert (code, out) == (1, "")
    assert err.startswith("helexa: no fleet answers at http://127.0.0.1:9 (")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5000000tokens/1d", {"tokens": 5_000_000, "per": 86_400.0}),
        ("5_000_000 tokens", {"tokens": 5_000_000, "per": None}),
        ("1token/1s", {"tokens": 1, "per": 1.0}),
        ("600requests/1m", {"requests": 600, "per": 60.0}),
        ("1request/1h30m", {"requests": 1, "per": 5400.0}),
        ("20usd", {"usd": 20.0, "per": None}),
        ("0.25usd/7d", {"usd": 0.25, "per": 604_800.0}),
        ("0tokens", {"tokens": 0, "per": None}),
        ("none", None),
    ],
)
def test_a_budget_is_an_amount_a_unit_and_a_window(text: str, expected: dict[str, object] | None) -> None:
    assert budget(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "tokens",
        "-5tokens",
        "5.5tokens",
        "5 000tokens",
        "5_tokens",
        "5__0tokens",
        "5k",
        "5eur",
        "5tokens/",
        "5tokens/day",
        "5tokens/0s",
        "5tokens/500ms",
        "5tokens/never",
        "5tokens/400d",
        "5tokens per 1d",
        "1e6tokens",
        "9223372036854775808tokens",
        "1000001usd",
        "\u0665tokens",
        "5tokens\n",
        "9" * 5000 + "tokens",
        "9" * 5000 + "usd",
        "5tokens/" + "9" * 5000 + "d",
    ],
)
def test_what_is_no_budget_is_told_in_a_sentence(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="budget"):
        budget(text)


@given(st.text(max_size=20) | st.from_regex(r"[0-9]{1,5}(tokens|usd|requests)(/[0-9]{1,3}[smhd])?", fullmatch=True))
def test_whatever_is_typed_is_a_budget_or_a_mistake(text: str) -> None:
    try:
        found = budget(text)
    except typer.BadParameter:
        return
    assert found is None or Budget(**found)


@pytest.mark.parametrize(
    ("amount", "expected"),
    [(0.0, "0.00"), (20.0, "20.00"), (1234.5, "1,234.50"), (0.1, "0.10"), (0.001, "0.0010"), (1e-12, "0.000000000001")],
)
def test_small_amounts_of_money_can_be_told_from_nothing(amount: float, expected: str) -> None:
    assert dollars(amount) == expected


def test_a_budget_of_which_nothing_is_known_is_shown_by_itself() -> None:
    shown = {"requests": 5, "per": 90.0, "spent": None, "reserved": None, "left": None}
    assert budget_text(shown) == "5 requests per 1m30s"
