"""What the doctor gathers, from real sockets, files, processes and databases."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest
import trio
from attrs import evolve
from certificates import Authority
from fleets import DISCOVERY
from http_parts import start_app
from hypothesis import given
from hypothesis import strategies as st
from postgres import serving
from prometheus_client import CollectorRegistry

from config import DEMO, Address, parse
from helexa.cli.doctor import command, doctor, gather, installed, listening, storage
from helexa.cli.doctor.facts import Facts, Port, Torch
from helexa.cortex.access.keystore import KeyStore
from helexa.cortex.telemetry.metrics_app import make_app
from helexa.neuron.discovery import Host

LISTENER = """
import socket, sys
with socket.socket() as sock:
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    print(sock.getsockname()[1], flush=True)
    sys.stdin.read()
"""


@contextmanager
def listening_program(script: Path) -> Iterator[tuple[int, int]]:
    """A program that listens on loopback: its process and its port."""
    script.write_text(LISTENER)
    with subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
        process.communicate()


def test_an_address_that_is_free_is_free_afterwards() -> None:
    address = free_address()
    assert listening.look("cortex.listen", address) == Port("cortex.listen", str(address))
    assert listening.look("cortex.listen", address).state == "free"


def free_address() -> Address:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return Address("127.0.0.1", sock.getsockname()[1])


def test_another_program_s_address_is_taken_and_the_program_named(tmp_path: Path) -> None:
    with listening_program(tmp_path / "rival.py") as (pid, port):
        found = listening.look("cortex.listen", Address("127.0.0.1", port))
    assert found.state == "taken"
    assert (found.holder or "").startswith(f"{pid} (")
    assert "rival.py" in (found.holder or "")


@pytest.mark.parametrize("wanted", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_helexa_s_own_address_is_known_as_such(tmp_path: Path, wanted: str) -> None:
    with listening_program(tmp_path / "helexa") as (_, port):
        assert listening.look("cortex.listen", Address(wanted, port)).state == "ours"


def test_an_address_of_another_host_cannot_be_had() -> None:
    found = listening.look("neurons.n.listen", Address("192.0.2.1", 13131))
    assert (found.state, found.error) == ("wrong", "Cannot assign requested address")
    unknown = listening.look("neurons.n.listen", Address("no.such.host.invalid", 13131))
    assert unknown.state == "wrong"
    assert unknown.error


@pytest.mark.parametrize(
    ("theirs", "wanted", "may"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "localhost", True),
        ("127.0.0.2", "127.0.0.1", False),
        ("127.0.0.2", "0.0.0.0", True),
        ("::", "127.0.0.1", True),
        ("10.0.0.7", "beast.lan", True),
        ("::1", "127.0.0.1", False),
    ],
)
def test_who_listens_elsewhere_on_a_port_is_not_in_the_way(theirs: str, wanted: str, may: bool) -> None:  # noqa: FBT001
    assert listening._may_be(Address(theirs, 7), Address(wanted, 7)) == may


@pytest.mark.parametrize(
    ("words", "ours"),
    [
        ("/opt/python -P -m helexa neuron fleet.toml", True),
        ("/opt/python /opt/bin/helexa up", True),
        ("/opt/bin/helexa up", True),
        ("nginx: master process", False),
        ("vim topology.toml a b c helexa", False),
        ("/opt/python -m helexas", False),
        ("", False),
    ],
)
def test_a_command_line_tells_whether_it_is_helexa(words: str, ours: bool) -> None:  # noqa: FBT001
    assert listening.is_helexa(words.split()) == ours


async def test_a_helexa_of_another_user_is_known_by_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "_holder", lambda _address: None)  # as the kernel does for other users
    async with trio.open_nursery() as nursery:
        address = Address("127.0.0.1", await start_app(nursery, make_app(CollectorRegistry(), local_only=True)))
        found = await trio.to_thread.run_sync(listening.look, "neurons.n.listen", address)
        nursery.cancel_scope.cancel()
    assert (found.state, found.holder) == ("ours", None)


def test_another_user_s_program_is_not_taken_for_helexa(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "_holder", lambda _address: None)
    monkeypatch.setattr(listening, "_ASK_SECONDS", 0.05)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        found = listening.look("cortex.listen", Address("127.0.0.1", mute.getsockname()[1]))
    assert found.state == "taken"


@pytest.mark.parametrize(
    ("body", "ours"),
    [
        ('{"status":"ok"}', True),
        ('{"status":"ok","uptime_seconds":3}', True),
        ('{"error":{"message":"m","type":"t","code":"invalid_api_key","param":null}}', True),
        ('{"error":"not found"}', False),
        ('{"status":"UP"}', False),
        ("<html>", False),
        ("[1]", False),
        ("", False),
    ],
)
def test_an_answer_tells_whether_it_is_helexa_s(body: str, ours: bool) -> None:  # noqa: FBT001
    assert listening.speaks_like_helexa(body) == ours


@given(st.text())
def test_any_answer_is_judged(body: str) -> None:
    listening.speaks_like_helexa(body)


def test_listeners_are_those_of_this_host() -> None:
    topology = parse(
        '[cortex]\nhost = "g"\nmetrics_listen = "0.0.0.0:9"\n'
        '[[neurons]]\nname = "b"\nhost = "beast"\nlisten = "0.0.0.0:7"\nendpoint = "http://b:7"\n'
    )
    at_gate = [(by, str(at)) for by, at in listening.listeners(topology, "g", {})]
    assert at_gate == [("cortex.listen", "127.0.0.1:31313"), ("cortex.metrics_listen", "0.0.0.0:9")]
    assert [str(at) for _, at in listening.listeners(topology, "beast", {})] == ["127.0.0.1:7"]
    assert [str(at) for _, at in listening.listeners(topology, "beast", {"HELEXA_SECRET": "s"})] == ["0.0.0.0:7"]


def test_requirements_are_compared_with_what_is_installed() -> None:
    needed = [
        "pytest>=1",
        "pytest<1",
        "no-such-package>=2",
        "no-such-extra; extra == 'other'",
        "no-such-system; sys_platform == 'plan9'",
        "not a requirement !",
    ]
    found = {(package.name, package.wanted): package for package in installed.compare(needed)}
    assert [(name, package.fits) for (name, _), package in found.items()] == [
        ("pytest", True),
        ("pytest", False),
        ("no-such-package", False),
    ]
    assert found["no-such-package", ">=2"].installed is None


def test_a_distribution_that_is_not_installed_needs_nothing() -> None:
    assert installed.unfit_packages("no-such-distribution") == ()


def test_torch_tells_of_itself() -> None:
    found = installed.ask_torch()
    assert found.error is None
    assert (found.version or "").startswith("2.")


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("raise ImportError('libcudart.so.12 is missing')", "ImportError: libcudart.so.12 is missing"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "it was ended by SIGILL, an instruction that"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "it was ended by SIGSEGV"),
        ("raise SystemExit(3)", "it ended with code 3"),
        ("print('nothing')", "it did not tell about itself"),
        ("print('[]')", "it did not tell about itself"),
        ("", "it did not tell about itself"),
    ],
)
def test_a_torch_that_fails_says_why(script: str, error: str) -> None:
    found = installed.ask_torch([sys.executable, "-c", script])
    assert (found.error or "").startswith(error)


def test_what_libraries_print_before_torch_tells_is_passed_over() -> None:
    told = {"version": "2.11", "cuda": "12.6", "architectures": ["sm_90"], "gpus": 1, "said": ""}
    script = f"print('hello'); print({json.dumps(told)!r})"
    assert installed.ask_torch([sys.executable, "-c", script]) == Torch("2.11", "12.6", ("sm_90",), 1)


def test_a_torch_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "_SECONDS", 0.05)
    found = installed.ask_torch([sys.executable, "-c", "import threading; threading.Event().wait()"])
    assert found.error == "it has not answered for 0.05 s"


def test_the_cache_is_where_the_library_keeps_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "not" / "made"))
    found = storage.model_cache({"HF_HUB_OFFLINE": "1"})
    assert (found.path, found.writable, found.offline) == (str(tmp_path / "not" / "made"), True, True)
    assert (found.free or 0) > 0
    assert not (tmp_path / "not").exists()
    (tmp_path / "file").touch()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "file" / "under"))
    assert not storage.model_cache({}).writable


def test_a_database_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    assert storage.database_trouble(f"sqlite:///{tmp_path}/state/helexa.db") is None
    assert list(tmp_path.iterdir()) == []


def test_a_database_in_use_is_fine_and_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/helexa.db"
    with closing(KeyStore(url)) as store:
        before = store.look(None)
        assert storage.database_trouble(url) is None
        assert store.look(None) == before


def test_a_database_that_is_none_and_a_place_that_cannot_hold_one(tmp_path: Path) -> None:
    (tmp_path / "letter.db").write_text("Dear database, " * 100)
    said = storage.database_trouble(f"sqlite:///{tmp_path}/letter.db")
    assert said == f"cortex.database: {tmp_path}/letter.db cannot be read: file is not a database"
    assert storage.database_trouble(f"sqlite:///{tmp_path}/letter.db/x/y.db") == (
        f"cortex.database: {tmp_path}/letter.db is no directory"
    )
    assert storage.database_trouble(f"sqlite:///{tmp_path}") is not None


def test_a_database_that_this_user_may_not_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = tmp_path

    def access(path: Path, mode: int) -> bool:  # root, who may run this, may write everywhere
        return not (mode & os.W_OK and Path(path) == closed)

    monkeypatch.setattr(os, "access", access)
    assert storage.database_trouble(f"sqlite:///{tmp_path}/helexa.db") == (
        f"cortex.database: this user may not write {tmp_path}"
    )
    with closing(sqlite3.connect(tmp_path / "helexa.db")):
        pass
    assert "may not write" in (storage.database_trouble(f"sqlite:///{tmp_path}/helexa.db") or "")
    closed = tmp_path / "helexa.db"
    assert storage.database_trouble(f"sqlite:///{tmp_path}/helexa.db") == (
        f"cortex.database: this user may not write {tmp_path}/helexa.db"
    )


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _place: SimpleNamespace(free=1000))
    assert storage.database_trouble(f"sqlite:///{tmp_path}/helexa.db") == (
        f"cortex.database: the disk of {tmp_path} is full"
    )


def test_no_home_is_a_sentence() -> None:
    said = storage.database_trouble("sqlite:///~nobody-at-all/helexa.db")
    assert said == "cortex.database: the '~' of sqlite:///~nobody-at-all/helexa.db leads to no home directory"


def test_a_postgresql_that_does_not_answer_and_no_password_of_it_is_shown() -> None:
    said = storage.database_trouble(f"postgresql://helexa:hush@{free_address()}/x")
    assert said is not None
    assert said.startswith("cortex.database does not answer: ")
    assert "hush" not in said


def test_a_postgresql_that_answers_is_left_as_it_is() -> None:
    import psycopg

    with serving() as server:
        assert storage.database_trouble(server.url) is None
        with psycopg.connect(server.url) as connection:
            assert connection.execute("SELECT 1 FROM pg_tables WHERE tablename LIKE 'helexa%'").fetchall() == []


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch takes seconds, and memory's speed is not the point."""
    monkeypatch.setattr(installed, "ask_torch", lambda: Torch("2.13.0+cpu"))
    monkeypatch.setattr(gather, "discover", lambda **_environment: Host(DISCOVERY))


def file_of(directory: Path, text: str = "") -> Path:
    """A topology whose addresses are free and whose database is its own."""
    cortex = (
        f'listen = "{free_address()}"\nmetrics_listen = "127.0.0.1:0"\ndatabase = "sqlite:///{directory}/helexa.db"'
    )
    file = directory / "topology.toml"
    file.write_text(f'[cortex]\n{cortex}\n[[neurons]]\nname = "local"\nlisten = "{free_address()}"\n{text}')
    return file


def test_a_host_that_can_serve_is_told_on_stdout(
    quick: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = file_of(tmp_path)
    assert doctor(file, "me", as_json=False) == 0
    out, err = capsys.readouterr()
    assert err == "looking at this host …\n"
    assert f"ok       topology      {file} has this host run the gateway, local.\n" in out
    assert out.splitlines()[-1].startswith("This host can serve")
    assert [path.name for path in tmp_path.iterdir()] == ["topology.toml"]


def test_a_host_that_cannot_serve_is_told_with_remedies(
    quick: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = file_of(tmp_path, '[[entitlements.keys]]\nname = "ci"\nkey_env = "NO_SUCH_KEY"\n')
    assert doctor(file, "me", as_json=False) == 1
    out = capsys.readouterr().out.splitlines()
    at = out.index("PROBLEM  secrets       the key 'ci' is to be read from $NO_SUCH_KEY, which is not set.")
    assert out[at + 1] == " " * 23 + "set $NO_SUCH_KEY, or take the key out of the file."
    assert out[-1] == "This host cannot serve: 1 problem."


def test_a_script_reads_json(quick: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(file_of(tmp_path), "me", as_json=True) == 0
    out, err = capsys.readouterr()
    told = orjson.loads(out)
    assert err == ""
    assert (told["can_serve"], told["is_up"], told["host"]) == (True, False, "me")
    assert told["discovery"]["devices"][0]["name"] == "cpu"
    assert {"check": "python", "level": "ok", "message": told["findings"][1]["message"], "remedy": None} in told[
        "findings"
    ]


def test_a_wrong_topology_does_not_keep_the_host_from_being_looked_at(
    quick: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "topology.toml"
    file.write_text("[cortex]\nlisten = 5\n")
    assert doctor(file, "me", as_json=True) == 2
    told = orjson.loads(capsys.readouterr().out)
    assert told["can_serve"] is False
    assert f"{file}:2: cortex.listen" in told["findings"][0]["message"]
    assert any(finding["check"] == "torch" for finding in told["findings"])
    assert doctor(tmp_path / "missing.toml", "me", as_json=False) == 2
    assert "cannot be read: no such file or directory" in capsys.readouterr().out


def test_without_a_file_it_is_the_demo_fleet(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Path, str]] = []

    def note(file: Path, here: str) -> Facts:
        asked.append((file, here))
        return gather.gather(file, here, {})

    monkeypatch.setattr(command, "gather", note)
    doctor(None, None, as_json=True)
    assert asked == [(DEMO, socket.gethostname())]


def test_certificate_files_are_read(quick: None, tmp_path: Path) -> None:
    files = Authority.in_(tmp_path / "ca").files()
    tls = f'[neurons.tls]\ncertificate = "{files.certificate}"\nkey = "%s"\n'
    fine = gather.gather(file_of(tmp_path, tls % files.key), "me", {})
    assert fine.certificates == ()
    missing = gather.gather(file_of(tmp_path, tls % "/no/key.pem"), "me", {"HELEXA__CORTEX__CA": "/no/ca.pem"})
    assert missing.certificates == (
        "/no/ca.pem, which cortex.ca names, cannot be read: No such file or directory.",
        "/no/key.pem, which neurons.local.tls.key names, cannot be read: No such file or directory.",
    )


def test_what_a_terminal_would_act_on_is_not_shown(
    quick: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = DISCOVERY.devices[0]
    host = Host(evolve(DISCOVERY, devices=(evolve(evil, kind="x\x1b[2J\ny"),)))
    monkeypatch.setattr(gather, "discover", lambda **_environment: host)
    doctor(file_of(tmp_path), "me", as_json=False)
    assert "cpu is x [2J y" in capsys.readouterr().out


def test_open_files_are_known() -> None:
    found = gather._open_files()
    assert found is None or found > 0
