"""Budgets under a crowd: the ledger says what clients got, and no cap is exceeded, whichever gateway dies meanwhile."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from budget_books import prompts_of
from budget_crowds import CROWDED, TWENTY, crowd_before, press, wrong_with
from budget_parts import Host, make_box, make_gateway
from budget_stress import summary
from postgres import Server, serving

pytestmark = pytest.mark.usefixtures("forked_fleets")
CLIENTS, KILLS = 2000, 20
REFUSED = {"429 insufficient_quota", "429 rate_limit_exceeded", "429 rate_limit_error"}  # the last one: Anthropic's
EARLY = {"503 service_unavailable", "503 overloaded_error"}
"""Of a gateway that has begun again this moment, and has not looked at its node yet."""


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """The host with the neuron; gateways come and go before it."""
    running = make_box(tmp_path_factory.mktemp("box")).start()
    yield running
    assert running.stop() == 0


@pytest.mark.timeout(300)
def test_two_thousand_clients_of_twenty_keys_and_a_gateway_killed_twenty_times(box: Host, tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path, box, TWENTY, cortex=CROWDED).start()
    crowd = crowd_before([gateway], CLIENTS, seed=1)
    try:
        trio.run(press, crowd, KILLS, 1)
        assert gateway.stop() == 0
    finally:
        gateway.end()
    assert wrong_with(crowd)[:5] == []
    assert len(prompts_of(crowd.got)) == 6  # three prompts, in chats and as texts: their tokens are all known
    ends = summary(crowd.got)
    assert ends["whole"] > CLIENTS // 3
    assert ends["left"] > CLIENTS // 20
    assert ends["broken"] > KILLS
    assert ends["429 insufficient_quota"] > 100
    assert set(ends) <= {"whole", "left", "broken", *REFUSED, *EARLY}
    assert sum(ends[each] for each in EARLY) < CLIENTS // 10
    assert all(got.retry_after for got in crowd.got if got.code == "rate_limit_exceeded")
    assert crowd.looks > KILLS


@pytest.fixture
def postgres() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def pair(box: Host, postgres: Server, tmp_path: Path) -> Iterator[list[Host]]:
    """Two gateways on one database of PostgreSQL's."""
    made = [make_gateway(tmp_path / name, box, TWENTY, postgres.url, CROWDED) for name in ("one", "two")]
    yield [gateway.start() for gateway in made]
    for gateway in made:
        gateway.end()


@pytest.mark.timeout(300)
def test_two_gateways_share_budgets_while_either_is_killed(pair: list[Host]) -> None:
    crowd = crowd_before(pair, 400, seed=2)
    trio.run(press, crowd, 4, 2)
    assert [gateway.stop() for gateway in pair] == [0, 0]
    assert wrong_with(crowd)[:5] == []
    assert len(prompts_of(crowd.got)) == 6  # three prompts, in chats and as texts: their tokens are all known
    assert summary(crowd.got)["whole"] > 100
