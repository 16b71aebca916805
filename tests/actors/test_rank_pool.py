"""Ranks of groups that other hosts lead: one a device, started again when they end, and gone when they are let go of.

A small script stands in for each rank's process.
"""

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import trio
from attrs import evolve
from children import children_with
from structlog.testing import capture_logs

from actors import tp_leader
from actors.rank_pool import RankPool
from config import Address, RestartPolicy
from config.units import Duration
from helexa.wire.errors import ApiError
from helexa.wire.rank_reports import RankReport
from helexa.wire.ranks import RankRequest

OWN = Address("127.0.0.2", 5)
ONCE = RestartPolicy(max=1, backoff=Duration(0.01))
SOME = RankRequest("a/m", "cpu", 1, 3, "127.0.0.1", 5, "a secret of ours")
WAITS = "import sys; sys.stdin.read()"
Script = Callable[[str], None]
pytestmark = pytest.mark.usefixtures("no_process_is_left")
Started = list[list[str]]


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    with capture_logs() as captured:
        yield captured
    assert SOME.token not in repr(captured)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """The command lines that ranks would have; each only waits, with that command line's place in the list."""
    found: Started = []
    real = tp_leader._command

    def command(place: Any, host: str, port: int) -> list[str]:
        found.append(real(place, host, port))
        return [sys.executable, "-c", WAITS, str(len(found))]

    monkeypatch.setattr(tp_leader, "_command", command)
    return found


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tp_leader, "_command", lambda *_: [sys.executable, "-c", "import sys; sys.exit(5)"])


@pytest.fixture
async def pool(nursery: trio.Nursery) -> AsyncIterator[RankPool]:
    yield await running(nursery)
    nursery.cancel_scope.cancel()


async def running(nursery: trio.Nursery, own: Address | None = OWN) -> RankPool:
    found = RankPool(["cpu", "cpu:1"], own, ONCE)
    await nursery.start(found.run)
    return found


def processes() -> set[str]:
    """Which of the ranks' processes are there."""
    return {line[-1] for _, line in children_with(WAITS)}


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - real processes
            await trio.sleep(0.01)


def statuses(pool: RankPool) -> list[str]:
    return [each.status for each in pool.reports()]


async def test_a_rank_runs_until_it_is_let_go_of(pool: RankPool, started: Started) -> None:
    report = await pool.start(SOME)
    assert report == RankReport("a/m", "cpu", 1, 3, "starting")
    await until(lambda: statuses(pool) == ["running"])
    (command,) = started
    assert "--own 127.0.0.2 --meet 127.0.0.1:5" in " ".join(command)
    assert [(each.name, each.state) for each in pool.actors()] == [("tp-follower:cpu", "running")]
    await pool.stop("a/m")
    assert (pool.reports(), processes()) == ((), set())


async def test_the_secret_is_in_no_command_line_and_in_no_report(pool: RankPool, started: Started) -> None:
    report = await pool.start(SOME)
    assert SOME.token not in repr(started) + repr(report) + repr(pool.actors())


async def test_a_group_may_have_several_ranks_here(pool: RankPool, started: Started) -> None:
    await pool.start(SOME)
    await pool.start(evolve(SOME, device="cpu:1", rank=2))
    await until(lambda: statuses(pool) == ["running", "running"])
    await pool.stop("a/m")
    assert (pool.reports(), processes()) == ((), set())


async def test_a_device_runs_one_rank_at_a_time(pool: RankPool, started: Started) -> None:
    await pool.start(SOME)
    with pytest.raises(ApiError, match="The device 'cpu' has a rank of 'a/m'; it runs one rank at a time") as caught:
        await pool.start(evolve(SOME, group="b/m"))
    assert (caught.value.status, caught.value.code) == (409, "device_busy")
    await pool.stop("a/m")
    assert (await pool.start(evolve(SOME, group="b/m"))).group == "b/m"


async def test_the_same_request_again_changes_nothing(pool: RankPool, started: Started) -> None:
    await pool.start(SOME)
    await until(lambda: statuses(pool) == ["running"])
    await pool.start(SOME)
    assert len(started) == 1


async def test_a_group_that_is_formed_anew_gets_a_new_rank(pool: RankPool, started: Started) -> None:
    """Its secret is another one: the old process would knock in vain for ever."""
    await pool.start(SOME)
    await until(lambda: processes() == {"1"})
    await pool.start(evolve(SOME, token="another secret"))
    await until(lambda: statuses(pool) == ["running"])
    assert processes() == {"2"}


async def test_requests_at_the_same_time_leave_one_process(pool: RankPool, started: Started) -> None:
    async with trio.open_nursery() as asking:
        for number in range(5):
            asking.start_soon(pool.start, evolve(SOME, token=f"secret {number}"))
    await until(lambda: statuses(pool) == ["running"])
    assert len(processes()) == 1


async def test_a_rank_that_ends_is_started_again_and_given_up_in_the_end(pool: RankPool, failing: None) -> None:
    await pool.start(SOME)
    await until(lambda: statuses(pool) == ["failed"])
    (report,) = pool.reports()
    assert (report.restarts, report.error) == (
        1,
        "RankDiedError: the process of tp-follower:cpu exited with code 5",
    )


async def test_a_rank_that_was_given_up_is_in_nobodys_way(pool: RankPool, failing: None) -> None:
    await pool.start(SOME)
    await until(lambda: statuses(pool) == ["failed"])
    await pool.start(SOME)  # somebody asks for it: it gets another chance
    await until(lambda: statuses(pool) == ["failed"])
    assert (await pool.start(evolve(SOME, group="b/m"))).status == "starting"


async def test_a_killed_rank_comes_again(pool: RankPool, started: Started) -> None:
    await pool.start(SOME)
    await until(lambda: processes() == {"1"})
    ((process, _),) = children_with(WAITS)
    process.kill()
    await until(lambda: pool.reports()[0].restarts == 1)
    await until(lambda: processes() == {"1"})
    assert pool.reports()[0].error == "RankDiedError: the process of tp-follower:cpu killed by SIGKILL"


async def test_a_device_that_is_not_here(pool: RankPool) -> None:
    with pytest.raises(ApiError, match=r"There is no device 'cuda:9'; this host has cpu, cpu:1\.") as caught:
        await pool.start(evolve(SOME, device="cuda:9"))
    assert (caught.value.status, caught.value.code) == (404, "device_not_found")


@pytest.mark.parametrize(
    ("own", "why"),
    [
        (None, "none is set for this neuron in the topology"),
        (Address("192.0.2.1", 5), "192.0.2.1 cannot be used: Cannot assign requested address"),
    ],
    ids=["no address", "somebody else's"],
)
async def test_a_host_that_ranks_of_others_cannot_reach(nursery: trio.Nursery, own: Address | None, why: str) -> None:
    pool = await running(nursery, own)
    with pytest.raises(ApiError) as caught:
        await pool.start(SOME)
    assert (caught.value.status, caught.value.code) == (409, "no_interconnect")
    assert caught.value.message == f"This host has no interconnect address: {why}."
    assert pool.reports() == ()


async def test_to_end_what_is_not_there_is_said(pool: RankPool) -> None:
    with pytest.raises(ApiError, match="This host runs no rank of 'a/m'") as caught:
        await pool.stop("a/m")
    assert (caught.value.status, caught.value.code) == (404, "rank_not_found")


async def test_nothing_is_started_by_a_pool_that_ends() -> None:
    pool = RankPool(["cpu"], OWN, ONCE)
    with pytest.raises(ApiError, match="The server is shutting down"):
        await pool.start(SOME)
    assert pool.reports() == ()


async def test_the_end_of_the_pool_is_the_end_of_its_ranks(started: Started) -> None:
    async with trio.open_nursery() as nursery:
        pool = await running(nursery)
        await pool.start(SOME)
        await until(lambda: processes() == {"1"})
        nursery.cancel_scope.cancel()
    assert processes() == set()


async def test_a_stop_that_is_cancelled_still_ends_the_rank(pool: RankPool, started: Started) -> None:
    await pool.start(SOME)
    await until(lambda: processes() == {"1"})
    with trio.CancelScope() as scope:
        scope.cancel()
        await pool.stop("a/m")
    if pool.reports():  # cancelled before it began
        await pool.stop("a/m")
    assert (pool.reports(), processes()) == ((), set())
