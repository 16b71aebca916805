"""The commands about keys, against the gateway's own routes and a real keyring: what is printed where, exit codes."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import trio
from attrs import define, field
from http_parts import start_app
from structlog.testing import capture_logs
from typer.testing import CliRunner

from actors.keyring import Keyring
from helexa.cli.keys import keys_app
from helexa.cortex.access import key_routes
from helexa.cortex.access.auth import Key, sha256
from helexa.cortex.access.keystore import KeyStore
from helexa.web.quart_errors import json_app

RUNNER = CliRunner()
DECLARED = Key("static", "team", frozenset({"inference"}))


@define(eq=False)
class Gateway:
    """A gateway on a thread of its own."""

    keyring: Keyring
    url: str = ""
    asked: threading.Event = field(factory=threading.Event)
    _stop: Any = None

    def run(self) -> None:
        trio.run(self._main)

    async def _main(self) -> None:
        app, token = json_app("keys"), trio.lowlevel.current_trio_token()
        key_routes.add_routes(app, self.keyring)
        async with trio.open_nursery() as nursery:
            await nursery.start(self.keyring.run)
            self.url = f"http://127.0.0.1:{await start_app(nursery, app)}"
            self._stop = lambda: token.run_sync_soon(nursery.cancel_scope.cancel)
            self.asked.set()

    def stop(self) -> None:
        self._stop()


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    keyring = Keyring(KeyStore(f"sqlite:///{tmp_path}/keys.db"))
    keyring.declare([DECLARED])
    found = Gateway(keyring)
    thread = threading.Thread(target=found.run)
    thread.start()
    assert found.asked.wait(10)
    monkeypatch.setenv("HELEXA_URL", found.url)
    with capture_logs():  # the gateway's, which would appear among what the commands print
        yield found
    found.stop()
    thread.join(10)


def run(*arguments: object) -> tuple[int, str, str]:
    result = RUNNER.invoke(keys_app, [str(each) for each in arguments])
    return result.exit_code, result.stdout, result.stderr


def test_a_new_key_is_all_there_is_on_stdout(gateway: Gateway) -> None:
    code, out, err = run("create", "ci")
    assert code == 0
    (key,) = out.splitlines()
    assert gateway.keyring.find(sha256(key.encode())) == Key("ci", "ci", frozenset({"inference"}))
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


def test_never_is_a_length_of_time(gateway: Gateway) -> None:
    assert run("create", "ci", "--expires", "never")[0] == 0
    assert gateway.keyring.record("ci").expires is None


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--expires", "30"], "is not a duration"),
        (["--expires", "0s"], "expired before it could be used"),
        (["--label", "x"], "write NAME=VALUE"),
        (["--label", "=x"], "write NAME=VALUE"),
        (["--scope", "root"], "'root' is not one of"),
    ],
)
def test_wrong_usage_is_exit_code_two_and_asks_nobody(options: list[str], told: str) -> None:
    code, out, err = run("create", "ci", *options, "--url", "http://127.0.0.1:9")
    assert (code, out) == (2, "")
    assert told in " ".join(err.replace("│", " ").split())


def test_the_list_shows_every_key_and_no_secret(gateway: Gateway) -> None:
    key = run("create", "ci", "--model", "[x]*", "--expires", "1h")[1].strip()
    run("create", "old")
    run("revoke", "old")
    code, out, err = run("list")
    assert (code, err) == (0, "")
    assert key not in out
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["NAME", "STATE", "KEY", "ACCOUNT", "SCOPES", "MODELS", "EXPIRES", "FROM"]
    assert rows[1] == ["static", "active", "team", "inference", "all", "never", "topology"]
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


@pytest.mark.parametrize("arguments", [("create", "x"), ("list",), ("show", "x"), ("rotate", "x"), ("revoke", "x")])
def test_no_fleet_is_one_sentence(arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments, "--url", "http://127.0.0.1:9")
    assert (code, out) == (1, "")
    assert err.startswith("helexa: no fleet answers at http://127.0.0.1:9 (")
    assert run(*arguments, "--url", "http://[::1")[2].startswith("helexa: cannot ask a fleet at 'http://[::1': ")
