"""How the benchmark loop's process is put together, and what an edit of the topology has to do with it."""

import socket
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from actors.bench_process import READY_FD
from config import DEMO, Topology, load, parse
from helexa.cli import commands
from helexa.database import StoreSettingError
from helexa.up.announce import banner
from helexa.up.bench import check, places_of
from helexa.up.local_bench import concerning
from helexa.web.server import PortInUseError

FLEET = """
[[neurons]]
name = "a"
[[neurons]]
name = "b"
listen = "127.0.0.1:13132"
[[models]]
id = "helexa/tiny"
quant = "int8"
"""
OUTSIDE = """
[[bench.targets]]
name = "vllm"
base_url = "http://lab:8000/v1"
models = ["m", "n"]
api_key_env = "LAB_KEY"
"""


def test_neurons_are_measured_directly_and_servers_outside_beside_them() -> None:
    a, b, outside = places_of(parse(FLEET + OUTSIDE), {"HELEXA_SECRET": "s3cret", "LAB_KEY": "k"})
    assert (a.name, a.access.target.kind, a.access.target.url, a.models) == (
        "a",
        "neuron",
        "http://127.0.0.1:13131",
        None,
    )
    assert b.access.headers == {"authorization": "Bearer s3cret"}
    assert a.access.precisions == {"helexa/tiny": "int8"}
    assert (outside.access.target.kind, outside.access.target.url, outside.models) == (
        "openai",
        "http://lab:8000",
        ("m", "n"),
    )
    assert outside.access.headers == {"authorization": "Bearer k"}


def test_a_key_that_is_not_set_keeps_nothing_from_running() -> None:
    with capture_logs() as logs:
        outside = places_of(parse(FLEET + OUTSIDE), {})[-1]
    assert outside.access.headers == {}
    assert [(each["event"], each["variable"]) for each in logs] == [("bench.key_missing", "LAB_KEY")]


@pytest.mark.parametrize(
    ("edit", "concerns"),
    [
        ("", False),
        ("[cortex]\nmax_queue = 5", False),
        ("[aliases]\nx = 'helexa/tiny'", False),
        ("[bench]\nrounds = 7", True),
        ("[entitlements]\nrequire_auth = true", True),
        ("[[neurons]]\nname = 'c'\nlisten = '127.0.0.1:9'", True),
        ("[cortex]\ndatabase = 'sqlite:////x'", True),
    ],
)
def test_only_an_edit_that_concerns_the_loop_starts_it_anew(edit: str, *, concerns: bool) -> None:
    whole = FLEET + ("[bench]\n" if "[bench]" not in edit else "")
    assert (concerning(parse(whole + edit)) != concerning(parse(FLEET + "[bench]"))) is concerns


def test_without_a_table_there_is_no_process() -> None:
    assert concerning(parse(FLEET)) is None
    check(parse(FLEET))


def test_an_address_that_is_taken_and_a_database_of_no_kind_are_found_before_anything_starts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PortInUseError, match=r"which bench\.listen asks for"):
            check(parse(f'[bench]\nlisten = "127.0.0.1:{taken.getsockname()[1]}"'))
    with pytest.raises(StoreSettingError, match=r"bench\.database"):
        check(parse('[bench]\ndatabase = "sqlite:///~nobody-of-that-name/x"'))


def test_where_the_figures_are_is_said_where_there_are_any() -> None:
    demo = load(DEMO, env={})
    assert not [line for line in banner(demo, []) if "bench" in line]
    assert [line for line in banner(Topology(bench=parse("[bench]").bench), []) if "31315/api/summary" in line]


def test_a_host_that_has_no_loop_is_told_where_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "t.toml"
    file.write_text('[cortex]\nhost = "gateway"\n')
    assert commands.bench_serve(file, "desk") == 2
    assert "runs on cortex's host, 'gateway', and not on 'desk'" in capsys.readouterr().err


def test_a_topology_with_mistakes_starts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "t.toml"
    file.write_text('[bench]\nsuite = "x"\n')
    assert commands.bench_serve(file) == 2
    assert "bench.suite" in capsys.readouterr().err


def test_a_port_that_is_taken_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(READY_FD, raising=False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        file = tmp_path / "t.toml"
        file.write_text(
            f'[bench]\nlisten = "127.0.0.1:{taken.getsockname()[1]}"\ndatabase = "sqlite:///{tmp_path}/b.db"\n'
        )
        assert commands.bench_serve(file) == 1
    assert "which bench.listen asks for: Address already in use" in capsys.readouterr().err
