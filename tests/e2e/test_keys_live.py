"""Keys asked for by an edit of the topology, and keys and accounts changed by commands, in a fleet that serves."""

import re
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest
from harness import Fleet, make_fleet, wait_until

pytestmark = pytest.mark.usefixtures("forked_fleets")
FIRST = re.compile(r"which is not shown again: (hx-\w+)")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet that asks for no key."""
    running = make_fleet(tmp_path_factory.mktemp("live")).start("/health")
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


@pytest.fixture(scope="module")
def admin(fleet: Fleet) -> str:
    """The key that the fleet shows once it asks for one."""
    assert fleet.get("/fleet") == 200
    assert not FIRST.search(fleet.log.read_text())
    fleet.topology.write_text(fleet.topology.read_text() + "[entitlements]\nrequire_auth = true\n")
    return wait_until(lambda: FIRST.search(fleet.log.read_text()), 20, "the first key")[1]


def command(fleet: Fleet, admin: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"HELEXA_URL": fleet.url, "HELEXA_API_KEY": admin, "PATH": ""}
    line = [sys.executable, "-m", "helexa", *arguments]
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=60, check=False)


def status(fleet: Fleet, path: str, key: str) -> int:
    return httpx.get(fleet.url + path, headers={"x-api-key": key}, timeout=10).status_code


def test_the_first_key_of_a_fleet_that_begins_to_ask_for_one_is_shown_once(fleet: Fleet, admin: str) -> None:
    assert fleet.get("/fleet") == 401
    assert status(fleet, "/fleet/keys", admin) == 200
    assert fleet.log.read_text().count(admin) == 1


def test_what_a_key_may_do_changes_while_it_is_in_use(fleet: Fleet, admin: str) -> None:
    limits = ("--budget", "5000000tokens/1d", "--weight", "2", "--max-in-flight", "4", "--account", "team/a")
    made = command(fleet, admin, "keys", "create", "ci", *limits)
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    assert status(fleet, "/v1/models/helexa/tiny", key) == 200
    changed = command(fleet, admin, "keys", "set", "ci", "--model", "other/*", "--budget", "20usd")
    assert changed.returncode == 0, changed.stderr
    assert status(fleet, "/v1/models/helexa/tiny", key) == 404
    assert "20.00 USD" in changed.stdout
    assert key not in fleet.log.read_text()


def test_an_accounts_budgets_are_set_and_dropped(fleet: Fleet, admin: str) -> None:
    done = command(fleet, admin, "accounts", "set", "team/a", "--budget", "600requests/1m")
    assert done.returncode == 0, done.stderr
    assert "600 requests per 1m" in command(fleet, admin, "accounts", "list").stdout
    assert command(fleet, admin, "accounts", "drop", "team/a").returncode == 0
    assert "600 requests" not in command(fleet, admin, "accounts", "list").stdout


def test_usage_is_shown(fleet: Fleet, admin: str) -> None:
    done = command(fleet, admin, "keys", "usage", "--by", "account", "--since", "7d")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split()[:2] == ["ACCOUNT", "REQUESTS"]
