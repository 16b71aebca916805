"""Which console is opened, and what is said when none can be."""

import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from config import parse
from helexa.cli.app import app
from helexa.cli.console import Wanted, command
from helexa.cli.fleet_child import _wanted

RUNNER = CliRunner()


def run(*arguments: object) -> tuple[int, str]:
    """Exit code and what is said; no terminal is there."""
    result = RUNNER.invoke(app, ["console", *map(str, arguments)])
    assert not isinstance(result.exception, Exception), result.exception
    return result.exit_code, " ".join(result.stderr.replace("│", " ").split())


def test_without_a_terminal_what_to_do_instead_is_said() -> None:
    code, said = run()
    assert code == 2
    assert "helexa status" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--record", "a", "--replay", "b"), "--record or --replay"),
        (("--record", "a", "--web"), "--record or --web"),
        (("--speed", "0"), "--speed"),
        (("--web-port", "65536"), "--web-port"),
    ],
)
def test_what_does_not_go_together_or_is_out_of_range_is_wrong_usage(arguments: tuple[str, ...], said: str) -> None:
    code, told = run(*arguments)
    assert code == 2
    assert said in told


@pytest.fixture
def driven(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a browser were the terminal, so that the next check is reached."""
    monkeypatch.setenv("TEXTUAL_DRIVER", "textual.drivers.headless_driver:HeadlessDriver")


@pytest.mark.usefixtures("driven")
@pytest.mark.parametrize(
    "arguments", [("--url", "http://[::1"), ("--url", "http://a:99999"), ("--bench-url", "http://[::1")]
)
def test_what_is_no_url_is_one_sentence(arguments: tuple[str, ...]) -> None:
    code, said = run(*arguments)
    assert code == 1
    assert said.startswith("helexa: cannot ask a fleet at")


@pytest.mark.usefixtures("driven")
def test_what_cannot_be_recorded_to_or_replayed_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no recording")
    for arguments in (
        ("--record", tmp_path / "absent" / "x"),
        ("--replay", tmp_path / "x"),
        ("--replay", tmp_path / "text"),
    ):
        code, said = run(*arguments)
        assert code == 1
        assert said.startswith(("helexa: cannot re", f"helexa: {tmp_path}"))


def test_a_port_that_is_taken_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, said = run("--web", "--web-port", taken.getsockname()[1])
    assert code == 1
    assert "cannot serve the console on 127.0.0.1:" in said


def test_a_browsers_console_is_started_without_the_key_on_its_command_line() -> None:
    wanted = Wanted("http://a b;c", "sk-secret", "http://bench", replay=Path("x y"), speed=2.0)
    line = command(wanted, readonly=True)
    assert "sk-secret" not in " ".join(line)
    assert line[3:] == [
        "console", "--url", "http://a b;c", "--bench-url", "http://bench",
        "--replay", str(Path("x y").absolute()), "--speed", "2", "--readonly",
    ]  # fmt: skip


KEYS = """
[cortex]
listen = "0.0.0.0:4000"
[[neurons]]
name = "local"
listen = "127.0.0.1:4001"
[[entitlements.keys]]
name = "app"
key_env = "APP_KEY"
[[entitlements.keys]]
name = "operator"
key_env = "OPERATOR_KEY"
scopes = ["fleet:read", "fleet:admin"]
"""


def test_the_console_of_a_fleet_that_is_started_with_it_asks_with_the_operators_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HELEXA_API_KEY", raising=False)
    monkeypatch.setenv("APP_KEY", "sk-app")
    monkeypatch.delenv("OPERATOR_KEY", raising=False)
    assert _wanted(parse(KEYS)) == Wanted("http://127.0.0.1:4000", None, "http://127.0.0.1:31315")
    monkeypatch.setenv("OPERATOR_KEY", "sk-operator")
    assert _wanted(parse(KEYS)).key == "sk-operator"
    monkeypatch.setenv("HELEXA_API_KEY", "sk-mine")
    assert _wanted(parse(KEYS)).key == "sk-mine"


def test_without_a_terminal_no_fleet_is_started_for_a_console(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text(KEYS.replace("4000", "1"))
    result = RUNNER.invoke(app, ["up", "--console", str(tmp_path / "t.toml")])
    assert result.exit_code == 2
    assert "needs a terminal" in result.stderr


def test_a_console_of_a_gateway_on_another_host_is_opened_by_its_url(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text(
        KEYS.replace("[cortex]", '[cortex]\nhost = "gate"').replace("[[neurons]]", '[[neurons]]\nhost = "gate"')
    )
    result = RUNNER.invoke(app, ["up", "--console", "--host", "beast", str(tmp_path / "t.toml")])
    assert result.exit_code == 2
    assert "helexa console --url" in result.stderr


def test_a_broken_topology_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text("[cortex]\nlisten = 7")
    result = RUNNER.invoke(app, ["up", "--console", str(tmp_path / "t.toml")])
    assert result.exit_code == 2
    assert "nothing was started" in result.stderr
