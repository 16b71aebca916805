"""The commands about keys, against the gateway's own routes and a real keyring: what is printed where, exit codes."""

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from operators import Gateway, run_with, serve, told

from config import Budget, Duration
from helexa.cli.keys import keys_app
from helexa.cortex.access.auth import Key, sha256
from helexa.cortex.ledger.rows import Sums


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    yield from serve(tmp_path, monkeypatch)


def run(*arguments: object) -> tuple[int, str, str]:
    return run_with(keys_app, *arguments)


def test_a_new_key_is_all_there_is_on_stdout(gateway: Gateway) -> None:
    code, out, err = run("create", "ci")
    assert code == 0
    (key,) = out.splitlines()
    identity = gateway.keyring.record("ci").id
    assert gateway.keyring.find(sha256(key.encode())) == Key("ci", "ci", frozenset({"inference"}), id=identity)
    assert err == "This is the key 'ci'. It is not shown again: keep it now.\n"


def test_every_option_arrives(gateway: Gateway) -> None:
    options = ["--account", "team/a", "--scope", "audio", "--scope", "fleet:read", "--model", "m/*", "--model", "x"]
    labels = ["--label", "who=me=you", "--label", "why=tests"]
    code, _, err = run("create", "ci", *options, *labels, "--expires", "30d")
    assert code == 0
    assert " It expires on 20" in err
    record = gateway.keyring.record("ci")
    assert (record.account, record.scopes, record.models) == ("team/a", ("audio", "fleet:read"), ("m/*", "x"))
    assert record.labels == {"who": "me=you", "why": "tests"}
    assert record.expires == record.created + 30 * 86_400
    limits = ["--budget", "5000000tokens/1d", "--budget", "20usd", "--weight", "2", "--max-in-flight", "4"]
    assert run("create", "b", *limits)[0] == 0
    record = gateway.keyring.record("b")
    assert record.budgets == (Budget(tokens=5_000_000, per=Duration(86_400.0)), Budget(usd=20.0))
    assert (record.weight, record.max_in_flight) == (2, 4)


def test_what_is_given_changes_and_all_else_stays(gateway: Gateway) -> None:
    run("create", "ci", "--model", "m/*", "--label", "a=b", "--budget", "5usd", "--max-in-flight", "4")
    code, out, err = run("set", "ci", "--weight", "3", "--label", "c=d", "--budget", "600requests/1m")
    assert (code, err) == (0, "")
    record = gateway.keyring.record("ci")
    assert (record.models, record.labels, record.weight, record.max_in_flight) == (("m/*",), {"c": "d"}, 3, 4)
    assert record.budgets == (Budget(requests=600, per=Duration(60.0)),)
    rows = dict(line.strip().split(maxsplit=1) for line in out.splitlines())
    assert (rows["weight"], rows["budgets"]) == ("3", "600 requests per 1m (0 requests spent, 600 requests left)")


def test_none_empties_what_a_key_had(gateway: Gateway) -> None:
    run("create", "ci", "--label", "a=b", "--budget", "5usd", "--max-in-flight", "4")
    assert run("set", "ci", "--label", "none", "--budget", "none", "--max-in-flight", "none")[0] == 0
    record = gateway.keyring.record("ci")
    assert (record.labels, record.budgets, record.max_in_flight) == ({}, (), None)


@pytest.mark.usefixtures("gateway")
def test_a_change_of_nothing_is_wrong_usage() -> None:
    run("create", "ci")
    code, out, err = run("set", "ci")
    assert (code, out) == (2, "")
    assert "there is nothing to change" in told(err)


def test_a_key_is_shown_with_where_its_budgets_stand(gateway: Gateway) -> None:
    run("create", "ci", "--budget", "5000000tokens/1d", "--budget", "20usd")
    identity = gateway.keyring.record("ci").id
    gateway.ledger.stands = {(f"key:{identity}", "tokens"): (12_000, 500), (f"key:{identity}", "usd"): (10**9, 0)}
    lines = [line.strip() for line in run("show", "ci")[1].splitlines()]
    first = "5,000,000 tokens per 1d (12,000 tokens spent, 500 tokens reserved, 4,987,500 tokens left)"
    assert f"budgets        {first}" in lines
    assert lines[lines.index(f"budgets        {first}") + 1] == "20.00 USD (0.0010 USD spent, 20.00 USD left)"
    gateway.ledger.away = True
    assert "20.00 USD" in [line.strip() for line in run("show", "ci")[1].splitlines()], (
        "of what is not known nothing is said"
    )
    assert "5,000,000 tokens per 1d" in run("list")[1]


def test_usage_is_a_table_or_json(gateway: Gateway) -> None:
    gateway.ledger.sums = (Sums("ci", "key:1", 1234, 100_000, 40, 20, 15 * 10**11), Sums("[b]", "key:2", 1))
    code, out, err = run("usage", "--by", "account", "--since", "7d")
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["ACCOUNT", "REQUESTS", "PROMPT", "CACHED", "COMPLETION", "USD"]
    assert rows[1] == ["ci", "1,234", "100,000", "40", "20", "1.50"]
    assert rows[2] == ["[b]", "1", "0", "0", "0", "0.00"]
    ((since, until, by, _),) = gateway.ledger.asked
    assert (by, until - since) == ("account", 7 * 86_400)
    assert orjson.loads(run("usage", "--json")[1])["usage"][1]["name"] == "[b]"


@pytest.mark.usefixtures("gateway")
def test_a_wrong_question_about_usage_is_one_sentence() -> None:
    code, out, err = run("usage", "--since", "yesterday")
    assert (code, out) == (1, "")
    assert err.startswith("helexa: Invalid value for 'since': expected a Unix time, or how long ago")
    code, out, err = run("usage", "--by", "day")
    assert (code, out) == (2, "")
    assert "'day' is not one of key, account, model, node" in told(err)


def test_usage_that_nobody_knows_is_one_sentence(gateway: Gateway) -> None:
    gateway.ledger.away = True
    code, out, err = run("usage")
    assert (code, out, err.splitlines()) == (1, "", ["helexa: away"])


def test_never_is_a_length_of_time(gateway: Gateway) -> None:
    assert run("create", "ci", "--expires", "never")[0] == 0
    assert gateway.keyring.record("ci").expires is None


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--expires", "30"], "is not a duration"),
        (["--expires", "0s"], "expired before it could be used"),
        (["--label", "x"], "write NAME=VALUE"),
        (["--label", "=x"], "write NAME=VALUE"),
        (["--scope", "root"], "'root' is not one of"),
        (["--budget", "5"], '"5" is not a budget: write one such as 5000000tokens/1d'),
        (["--budget", "none", "--budget", "5tokens"], "'none' stands beside budgets"),
        (["--weight", "0"], "'--weight'"),
        (["--max-in-flight", "0"], "'0' is not a number of requests"),
        (["--max-in-flight", "few"], "'few' is not a number of requests"),
    ],
)
def test_wrong_usage_is_exit_code_two_and_asks_nobody(options: list[str], expected: str) -> None:
    code, out, err = run("create", "ci", *options, "--url", "http://127.0.0.1:9")
    assert (code, out) == (2, "")
    assert expected in told(err)


def test_the_list_shows_every_key_and_no_secret(gateway: Gateway) -> None:
    key = run("create", "ci", "--model", "[x]*", "--expires", "1h")[1].strip()
    run("create", "old")
    run("revoke", "old")
    code, out, err = run("list")
    assert (code, err) == (0, "")
    assert key not in out
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["NAME", "STATE", "KEY", "ACCOUNT", "SCOPES", "MODELS", "BUDGETS", "EXPIRES", "FROM"]
    assert rows[1] == ["static", "active", "team", "inference", "all", "none", "never", "topology"]
    assert rows[2][:6] == ["ci", "active", f"…{key[-4:]}", "ci", "inference", "[x]*"]
    assert (rows[2][-1], rows[3][:2]) == ("database", ["old", "revoked"])


def test_one_key_is_shown_with_all_that_is_known(gateway: Gateway) -> None:
    key = run("create", "ci", "--label", "a=b")[1].strip()
    code, out, _ = run("show", "ci")
    assert code == 0
    rows = dict(line.strip().split(maxsplit=1) for line in out.splitlines())
    assert (rows["name"], rows["labels"], rows["expires"], rows["hint"]) == ("ci", "a=b", "never", key[-4:])
    assert (rows["models"], rows["scopes"]) == ("all", "inference")
    assert key not in out
    assert "unknown" in run("show", "static")[1]


def test_an_exchanged_key_is_printed_and_the_old_one_is_refused(gateway: Gateway) -> None:
    old = run("create", "ci")[1].strip()
    code, out, _ = run("rotate", "ci")
    assert code == 0
    assert gateway.keyring.find(sha256(old.encode())) is None
    assert gateway.keyring.find(sha256(out.strip().encode())) is not None


def test_a_revoked_key_is_refused(gateway: Gateway) -> None:
    key = run("create", "ci")[1].strip()
    assert run("revoke", "ci") == (0, "", "The key 'ci' is revoked.\n")
    assert gateway.keyring.find(sha256(key.encode())) is None
    assert run("revoke", "ci")[0] == 0


def test_json_is_the_answer_as_it_came(gateway: Gateway) -> None:
    code, out, err = run("create", "ci", "--json")
    made = orjson.loads(out)
    assert (code, err, made["name"]) == (0, "", "ci")
    key = made.pop("key")
    assert gateway.keyring.find(sha256(key.encode())) is not None
    assert orjson.loads(run("show", "ci", "--json")[1]) == made
    assert orjson.loads(run("list", "--json")[1])["keys"][1] == made
    assert orjson.loads(run("revoke", "ci", "--json")[1])["state"] == "revoked"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("create", "static"), "The key 'static' is declared in the topology; it can only be changed there."),
        (("create", "a b"), "Invalid value for 'name': \"a b\" is not a name"),
        (("create", "x", "--account", "a//b"), "Invalid value for 'account': \"a//b\" is not an id"),
        (("show", "nobody"), "There is no key 'nobody'."),
        (("set", "nobody", "--weight", 2), "There is no key 'nobody'."),
        (("set", "static", "--weight", 2), "The key 'static' is declared in the topology"),
        (("set", "static", "--model", ""), "Invalid value for 'models': expected a list"),
        (("rotate", "nobody"), "There is no key 'nobody'."),
        (("revoke", "no body%"), "There is no key 'no body%'."),
        (("revoke", "static"), "The key 'static' is declared in the topology"),
        (("show", "a/b"), "There is no route GET /fleet/keys/a/b."),
        (("revoke", ".."), "There is no "),
        (("revoke", "?x#y"), "There is no key '?x#y'."),
    ],
)
def test_a_refusal_is_one_sentence(gateway: Gateway, arguments: tuple[str, ...], told: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith(f"helexa: {told}"), err
    assert len(err.splitlines()) == 1


COMMANDS = [("create", "x"), ("list",), ("show", "x"), ("rotate", "x"), ("revoke", "x"), ("set", "x", "--weight", "2")]


@pytest.mark.parametrize("arguments", [*COMMANDS, ("usage",)])
def test_no_fleet_is_one_sentence(arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments, "--url", "http://127.0.0.1:9")
    assert (code, out) == (1, "")
    assert err.startswith("helexa: no fleet answers at http://127.0.0.1:9 (")
    assert run(*arguments, "--url", "http://[::1")[2].startswith("helexa: cannot ask a fleet at 'http://[::1': ")
