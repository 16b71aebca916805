"""A gateway's operators' routes on a thread of their own, for commands that ask them as a real fleet is asked."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import typer
from attrs import define, field
from http_parts import start_app
from keyrings import FakeLedger
from structlog.testing import capture_logs
from typer.testing import CliRunner

from actors.keyring import Keyring
from config import Account, Budget, Duration
from helexa.cortex.access import key_routes
from helexa.cortex.access.auth import Key
from helexa.cortex.access.keystore import KeyStore
from helexa.web.quart_errors import json_app

DECLARED = Key("static", "team", frozenset({"inference"}), id="declared/static")
TEAM = Account("shared", (Budget(tokens=1000, per=Duration(3600.0)),))


@define(eq=False)
class Gateway:
    """A real keyring, and a scripted ledger."""

    keyring: Keyring
    ledger: FakeLedger = field(factory=FakeLedger)
    url: str = ""
    asked: threading.Event = field(factory=threading.Event)
    _stop: Any = None

    def run(self) -> None:
        trio.run(self._main)

    async def _main(self) -> None:
        app, token = json_app("keys"), trio.lowlevel.current_trio_token()
        key_routes.add_routes(app, self.keyring, self.ledger)
        async with trio.open_nursery() as nursery:
            await nursery.start(self.keyring.run)
            self.url = f"http://127.0.0.1:{await start_app(nursery, app)}"
            self._stop = lambda: token.run_sync_soon(nursery.cancel_scope.cancel)
            self.asked.set()

    def stop(self) -> None:
        self._stop()


def serve(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """The gateway that commands ask until it is gone on with."""
    keyring = Keyring(KeyStore(f"sqlite:///{directory}/keys.db"))
    keyring.declare([DECLARED], [TEAM])
    found = Gateway(keyring)
    thread = threading.Thread(target=found.run)
    thread.start()
    assert found.asked.wait(10)
    monkeypatch.setenv("HELEXA_URL", found.url)
    with capture_logs():  # the gateway's, which would appear among what the commands print
        yield found
    found.stop()
    thread.join(10)


def run_with(app: typer.Typer, *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    return result.exit_code, result.stdout, result.stderr


def told(err: str) -> str:
    """What a usage error says, without its frame."""
    return " ".join(err.replace("│", " ").split())
