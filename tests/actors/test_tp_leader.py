"""A group of ranks against processes that misbehave: a small script stands in for each rank, one fault each."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from actors import engine_link, tp_leader
from actors.device_worker import WorkerDiedError
from actors.process import Exit
from actors.tp_leader import Meeting, RankDiedError, TpFollower, TpLeader, culprit
from helexa.engine import protocol
from helexa.wire.errors import ApiError
from helexa.wire.fleet import ModelReport
from helexa.wire.ranks import Elsewhere, RankRequest

ROOT = str(Path(protocol.__file__).parents[2])
PREAMBLE = f"""
import os, signal, socket, sys, time
sys.path.insert(0, {ROOT!r})
rank, arguments = int(sys.argv[1]), sys.argv[2:]
if "--fd" in arguments:
    from helexa.engine.protocol import *
    sock = socket.socket(fileno=int(arguments[arguments.index("--fd") + 1]))
    def send(*frames): sock.sendall(b"".join(map(encode, frames)))
    hello = lambda: send(Hello(VERSION, os.getpid(), "cpu", "0"))
"""
SERVE = "hello(); sock.recv(65536); send(Loaded('m', 1, 100, 0.1, 2, 3)); "
WAIT = "time.sleep(60)"
Script = Callable[[str, str], None]


pytestmark = pytest.mark.usefixtures("logs", "no_process_is_left")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts do not look whether their socket ends."""
    for module in (tp_leader, engine_link):
        monkeypatch.setattr(module, "LINGER_SECONDS", 0.6)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """Says what the first rank does, and what the others do."""

    def use(first: str, others: str) -> None:
        def command(place: Any, _host: str, _port: int) -> list[str]:
            program = others if place.rank else first
            return [sys.executable, "-c", PREAMBLE + program, str(place.rank)]

        monkeypatch.setattr(tp_leader, "_command", command)

    return use


def leader(ranks: int = 2) -> TpLeader:
    return TpLeader(["cpu"] * ranks)


async def died(worker: TpLeader) -> str:
    """Run one group until it ends; why it did."""
    with trio.fail_after(30), pytest.raises(WorkerDiedError) as caught:
        await worker.run()
    return str(caught.value)


KILLED, GONE, WEDGED = Exit(None, "SIGKILL"), Exit(3, None), Exit(4, None)


@pytest.mark.parametrize(
    ("ends", "sentence"),
    [
        ({0: Exit(1, None)}, "its rank 0 exited with code 1"),
        ({1: KILLED, 0: GONE}, "its rank 1 killed by SIGKILL"),
        ({0: GONE, 1: KILLED}, "its rank 1 killed by SIGKILL"),
        ({1: GONE, 0: Exit(None, "SIGSEGV"), 2: GONE}, "its rank 0 killed by SIGSEGV"),
        ({1: WEDGED, 0: KILLED}, "its rank 1 waited too long for another rank"),
        ({0: GONE}, "its rank 0 lost another rank"),
        ({0: Exit(6, None)}, "its rank 0 did not find the others, or is not let in by them"),
    ],
)
def test_the_rank_that_ended_by_itself_is_told(ends: dict[int, Exit], sentence: str) -> None:
    assert str(culprit(ends)) == sentence


@pytest.mark.parametrize(
    ("first", "others", "reason"),
    [
        ("sys.exit(5)", WAIT, "its rank 0 exited with code 5"),
        (WAIT, "sys.exit(5)", "its rank 1 exited with code 5"),
        ("hello(); " + WAIT, "os.kill(os.getpid(), signal.SIGSEGV)", "its rank 1 killed by SIGSEGV"),
        ("sys.exit(4)", WAIT, "its rank 0 waited too long for another rank"),
        ("sys.exit(3)", "signal.signal(signal.SIGTERM, signal.SIG_IGN); " + WAIT, "its rank 0 lost another rank"),
        ("hello(); send(Heartbeat(1, 1e6, False, [])); " + WAIT, WAIT, "one step has been running for 1000000 s"),
    ],
    ids=lambda value: value[-40:],
)
async def test_the_end_of_any_rank_ends_all_and_the_reason_is_told(
    script: Script, first: str, others: str, reason: str
) -> None:
    script(first, others)
    assert reason in await died(leader())


async def test_a_third_rank_is_watched_too(script: Script) -> None:
    script("hello(); " + WAIT, "sys.exit(5) if rank == 2 else time.sleep(60)")
    assert "its rank 2 exited with code 5" in await died(leader(3))


async def test_a_program_that_cannot_be_started_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def command(place: Any, _host: str, _port: int) -> list[str]:
        return ["/nowhere/python"] if place.rank else [sys.executable, "-c", PREAMBLE + WAIT, "0"]

    monkeypatch.setattr(tp_leader, "_command", command)
    with trio.fail_after(10), pytest.raises(FileNotFoundError):
        await leader().run()


async def test_cancelling_a_start_leaves_nothing(script: Script) -> None:
    script(WAIT, WAIT)
    with trio.fail_after(10), trio.move_on_after(0.02):
        await leader().run()


async def test_a_model_reads_recovering_when_a_rank_has_died(script: Script) -> None:
    script(SERVE + WAIT, "time.sleep(1.5)")
    worker = leader()
    async with trio.open_nursery() as nursery:
        ended = trio.Event()

        async def run() -> None:
            assert "its rank 1 exited with code 0" in await died(worker)
            ended.set()

        nursery.start_soon(run)
        with trio.fail_after(10):
            await worker.load("m", "/m")
        assert [report.status for report in worker.reports()] == ["loaded"]
        await ended.wait()
    assert worker.reports() == (ModelReport("m", "recovering", "cpu+cpu", 1, **_settled(worker)),)


def _settled(worker: TpLeader) -> dict[str, Any]:
    report = worker.reports()[0]
    return {"limit": report.limit, "kv_mb": report.kv_mb, "capacity": report.capacity}


async def test_a_port_that_is_taken_is_an_error_of_the_system(script: Script) -> None:
    script(WAIT, WAIT)
    with trio.socket.socket() as taken:
        await taken.bind(("127.0.0.1", 0))
        taken.listen()
        meeting = Meeting(port=taken.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            await TpLeader(["cpu", "cpu"], meeting=meeting).run()


async def test_the_secret_is_in_no_command_line(script: Script, tmp_path: Path) -> None:
    said = tmp_path / "said"
    script(
        f"open({str(said)!r}, 'w').write(os.environ['HELEXA_RANKS_TOKEN'] + repr(sys.argv)); sys.exit(5)",
        WAIT,
    )
    await died(TpLeader(["cpu", "cpu"], meeting=Meeting(token="a secret of ours")))
    assert said.read_text().startswith("a secret of ours[")
    assert said.read_text().count("secret") == 1


async def test_each_start_has_a_secret_of_its_own(script: Script, tmp_path: Path) -> None:
    said = tmp_path / "said"
    script(f"open({str(said)!r}, 'a').write(os.environ['HELEXA_RANKS_TOKEN'] + ' '); sys.exit(5)", WAIT)
    worker = leader()
    await died(worker)
    await died(worker)
    first, second = said.read_text().split()
    assert len(first) == len(second) == 64
    assert first != second


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1, "exited with code 1"),
        (3, "lost the other ranks"),
        (6, "did not find the first rank, or is not let in by it"),
    ],
)
async def test_a_rank_for_another_host_ends_with_its_reason(script: Script, code: int, reason: str) -> None:
    script("", f"sys.exit({code})")
    meeting = Meeting("127.0.0.1", 1, "token")
    follower = TpFollower("cpu", rank=1, ranks=2, own="127.0.0.2", meeting=meeting)
    with trio.fail_after(10), pytest.raises(RankDiedError, match=f"the process of tp-follower:cpu {reason}"):
        await follower.run()
    assert follower.pid is None


async def test_without_a_group_there_is_nothing_to_ask(script: Script) -> None:
    worker = leader()
    worker.give_up("its ranks do not start")
    with pytest.raises(ApiError, match=r"does not load on cpu\+cpu: its ranks do not start"):
        await worker.load("m", "/m")


def test_a_groups_secret_is_not_shown_with_what_it_belongs_to() -> None:
    secret = "a secret of ours"
    whole = (Meeting(token=secret), Elsewhere(1, "::1", 1, secret), RankRequest("a/m", "cpu", 1, 2, "::1", 1, secret))
    assert secret not in repr(whole)
