"""A database that is locked, stopped, full or not to be written: who goes on, who is refused, and nothing is lost."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import count
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_FSIZE, prlimit

import pytest
import trio
from attrs import define, field
from budget_books import Books, discrepancies
from budget_clients import PROMPTS, Got, ask, order_of
from budget_parts import IMPATIENT, Entitled, Holder, Host, database_of, make_box, make_gateway
from harness import wait_until
from postgres import Server, serving

from config import Budget

pytestmark = pytest.mark.usefixtures("forked_fleets")
MANY = (Budget(tokens=1_000_000),)
HOUSE = "house"
"""An account that the topology says all of; of others the database may know budgets."""
KEYS = Entitled(
    (
        Holder("free", (), HOUSE),
        Holder("known", MANY, HOUSE),
        Holder("new", MANY, HOUSE),
        Holder("small", (Budget(tokens=400),), HOUSE),
        Holder("stranger"),
    ),
    {HOUSE: ()},
)
SERVE = 'database_away = "serve"'
Away = Callable[[], AbstractContextManager[None]]
WITHOUT_RIGHTS = """
import ctypes, os, sys
for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: root, too, is bound by the modes of files
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
os.execv(sys.argv[1], sys.argv[1:])
"""
COPY = "import sqlite3, sys; source, target = map(sqlite3.connect, sys.argv[1:]); source.backup(target)"
ON_A_SMALL_DISK = 'mount -t tmpfs -o size=4m none "$0" && exec "$@"'


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    running = make_box(tmp_path_factory.mktemp("box")).start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    with serving() as server:
        yield server


@define(eq=False)
class Desk:
    """A gateway, and all that its clients got, over all its lives."""

    gateway: Host
    url: str
    got: list[Got] = field(factory=list)
    _numbers: Iterator[int] = field(factory=count)

    def ask(self, key: str, tokens: int = 4) -> Got:
        order = order_of(key, "chat", PROMPTS[0], tokens)
        self.got.append(trio.run(ask, self.gateway.port, order, f"{key}.{next(self._numbers)}"))
        return self.got[-1]

    def serves(self, key: str) -> bool:
        return self.ask(key).whole

    def assert_unavailable(self, key: str) -> None:
        refused = self.ask(key)
        assert (refused.status, refused.code) == (503, "service_unavailable")
        assert refused.retry_after

    def assert_exact(self) -> None:
        """Whatever was served is booked soon, and nothing else."""
        books = Books(self.url)
        deadline = time.monotonic() + 10
        while (wrong := discrepancies(self.got, books.rows())) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert wrong == []
        assert self.gateway.stop() == 0


Open = Callable[..., Desk]


@pytest.fixture
def desk(box: Host, tmp_path: Path) -> Iterator[Open]:
    """Makes a gateway that serves; whatever is left of it is ended."""
    made: list[Host] = []

    def make(cortex: str = "", url: str = "", wrapper: tuple[str, ...] = ()) -> Desk:
        gateway = make_gateway(tmp_path / "gate", box, KEYS, url, cortex)
        gateway.wrapper, gateway.program = wrapper, IMPATIENT
        made.append(gateway)
        return Desk(gateway.start(), database_of(gateway))

    yield make
    for gateway in made:
        gateway.end()


@contextmanager
def locked(desk: Desk) -> Iterator[None]:
    """Another program writes to the file, and takes its time."""
    other = sqlite3.connect(desk.url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.close()


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    server.control("stop", "-m", "fast")
    try:
        yield
    finally:
        server.control("start")


@pytest.fixture(params=["sqlite", "postgresql"])
def opened(request: pytest.FixtureRequest, desk: Open) -> Callable[[str], tuple[Desk, Away]]:
    """A gateway with settings, on each kind of database; and how to take that away from it."""

    def make(cortex: str) -> tuple[Desk, Away]:
        if request.param == "sqlite":
            made = desk(cortex)
            return made, lambda: locked(made)
        server = request.getfixturevalue("postgres")
        return desk(cortex, server.empty()), lambda: stopped(server)

    return make


Opened = Callable[[str], tuple[Desk, Away]]


def test_while_the_database_is_away_budgets_at_hand_go_on_and_others_are_refused(opened: Opened) -> None:
    desk, away = opened("")
    assert desk.serves("known")
    with away():
        assert desk.serves("known")
        assert desk.serves("free")
        desk.assert_unavailable("new")
        desk.assert_unavailable("new")  # the second time without waiting for the database
        assert desk.serves("free")
    wait_until(lambda: desk.serves("new"), 20, "a budget that the database is asked for")
    desk.assert_exact()


def test_while_the_database_is_away_all_are_served_where_it_is_so_configured_and_booked_later(opened: Opened) -> None:
    desk, away = opened(SERVE)
    with away():
        for _ in range(20):
            assert desk.ask("small", tokens=24).whole  # more than it may use: nobody can tell
        assert desk.serves("new")
        assert desk.serves("free")
    wait_until(lambda: desk.ask("small").code == "insufficient_quota", 20, "that its budget is known to be used up")
    desk.assert_exact()


@pytest.mark.parametrize("cortex", ["", SERVE])
def test_a_gateway_killed_while_the_database_is_away_begins_again_and_loses_nothing(
    opened: Opened, cortex: str
) -> None:
    desk, away = opened(cortex)
    assert desk.serves("known")
    with away():
        assert all(desk.serves(key) for key in ("known", "free", "known"))
        desk.gateway.kill()
        desk.gateway.start()
        assert desk.serves("free")
        for key in ("known", "stranger"):
            if cortex or (key == "stranger" and desk.url.startswith("sqlite")):
                assert desk.serves(key)
            else:  # of a stranger's account the database may know a budget; one that is locked can still be read
                desk.assert_unavailable(key)
        desk.gateway.kill()
        desk.gateway.start()
    wait_until(lambda: desk.serves("known"), 20, "a budget that the database is asked for")
    desk.assert_exact()


@contextmanager
def no_file_grows(desk: Desk) -> Iterator[None]:
    """No write to any file succeeds, as on a disk that is full or broken."""
    pid = desk.gateway.process.pid
    prlimit(pid, RLIMIT_FSIZE, (0, RLIM_INFINITY))
    try:
        yield
    finally:
        prlimit(pid, RLIMIT_FSIZE, (RLIM_INFINITY, RLIM_INFINITY))


def test_while_nothing_can_be_written_the_gateway_serves_what_it_may_and_books_it_later(desk: Open) -> None:
    served = desk()
    assert served.serves("known")
    with no_file_grows(served):
        assert all(served.serves(key) for key in ("known", "free", "known", "free"))
        served.assert_unavailable("new")
        assert served.serves("free")
    wait_until(lambda: served.serves("new"), 20, "a budget that the database is asked for")
    served.assert_exact()


@pytest.fixture
def small_disk(tmp_path: Path) -> tuple[Path, tuple[str, ...]]:
    """A directory, and a command that runs another one for which it is a disk of four MiB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    wrapper = ("unshare", "--map-root-user", "--mount", "sh", "-c", ON_A_SMALL_DISK, str(directory))
    if subprocess.run([*wrapper, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets no test mount a disk of its own")
    return directory, wrapper


@contextmanager
def filled(ballast: Path) -> Iterator[None]:
    """A file takes all the room that there is."""
    try:
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        yield
    finally:
        ballast.unlink()


def test_on_a_full_disk_the_gateway_lives_and_books_it_all_once_there_is_room(
    desk: Open, small_disk: tuple[Path, tuple[str, ...]], tmp_path: Path
) -> None:
    directory, wrapper = small_disk
    served = desk(url=f"sqlite:///{directory}/helexa.db", wrapper=wrapper)
    seen = Path(f"/proc/{served.gateway.process.pid}/root{directory}")  # what is mounted there only it can see
    assert served.serves("known")
    with filled(seen / "ballast"):
        assert all(served.serves(key) for key in ("known", "free") * 40)
    wait_until(lambda: served.serves("new"), 20, "a budget that the database is asked for")
    wait_until(lambda: discrepancies(served.got, copied(served, tmp_path).rows()) == [], 10, "all to be booked")
    assert served.gateway.stop() == 0


def copied(desk: Desk, directory: Path) -> Books:
    """What the database says that only the gateway sees: its file system is gone as soon as it is."""
    inside = ("nsenter", f"--target={desk.gateway.process.pid}", "--user", "--preserve-credentials", "--mount")
    files = (desk.url.removeprefix("sqlite:///"), str(directory / "copy.db"))
    subprocess.run([*inside, sys.executable, "-c", COPY, *files], check=True)
    return Books(f"sqlite:///{directory}/copy.db")


def test_files_that_are_not_to_be_written_are_told_of_and_cost_nobody_without_a_budget_anything(desk: Open) -> None:
    served = desk(wrapper=(sys.executable, "-c", WITHOUT_RIGHTS))
    assert served.serves("known")
    assert served.gateway.stop() == 0
    places = [served.gateway.topology.parent, *served.gateway.topology.parent.rglob("*")]
    modes = {place: place.stat().st_mode for place in places if place != served.gateway.log}
    for place, mode in modes.items():
        place.chmod(mode & 0o555)
    served.gateway.start()
    assert served.serves("free")
    served.assert_unavailable("known")
    assert "read" in served.gateway.said()
    for place, mode in modes.items():
        place.chmod(mode)
    wait_until(lambda: served.serves("known"), 20, "a budget that the database is asked for")
    served.assert_exact()
