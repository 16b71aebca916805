"""A model that two neurons share, its ranks meeting over addresses of their own: it serves as one rank would, it gets
over the loss of each part, and it leaves nothing behind.
"""

import os
import signal
from collections.abc import Iterator

import httpx
import psutil
import pytest
from harness import gone_all, wait_until
from two_hosts import (
    ONE,
    SECRET,
    TWO,
    NoNamespacesError,
    TwoHosts,
    everything_told,
    heard_on,
    in_namespaces,
    on_loopback,
    secret_of,
    wires,
)

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("forked_fleets")]
LONG = {
    "model": TWO,
    "messages": [{"role": "user", "content": "Tell me a story."}],
    "stream": True,
    "temperature": 1.5,
    "seed": 7,
    "max_tokens": 48,
    "ignore_eos": True,
}
SERVES_AGAIN = 90
LOOPBACK, NAMESPACES = "loopback addresses", "network namespaces"
on_one_host = pytest.mark.parametrize("hosts", [LOOPBACK], indirect=True)
"""For what is no different between hosts that lie apart."""


@pytest.fixture(scope="module", params=[LOOPBACK, NAMESPACES])
def hosts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, forked_fleets: None
) -> Iterator[TwoHosts]:
    directory = tmp_path_factory.mktemp("fleet")
    if request.param == LOOPBACK:
        with on_loopback(directory) as running:
            yield running
        return
    try:
        with wires() as laid, in_namespaces(directory, laid) as running:
            yield running
    except NoNamespacesError as error:
        pytest.skip(f"network namespaces cannot be made here: {error}")


def ranks_of(hosts: TwoHosts) -> dict[int, psutil.Process]:
    """Both ranks, the group being whole."""
    hosts.answer(TWO, max_tokens=1)
    wait_until(lambda: hosts.status(TWO) == "loaded" and len(hosts.ranks()) == 2, SERVES_AGAIN, "a whole group")
    return hosts.ranks()


def test_two_hosts_answer_as_one_does(hosts: TwoHosts) -> None:
    alone = hosts.answer(ONE, max_tokens=48)
    assert hosts.answer(TWO, max_tokens=48) == alone
    ranks = ranks_of(hosts)
    heard = {name: heard_on(process) for name, process in zip(hosts.meet, (ranks[0], ranks[1]), strict=True)}
    assert heard == {name: {address} for name, address in hosts.meet.items()}, "and nowhere else"
    assert [psutil.Process(ranks[rank].ppid()) for rank in (0, 1)] == [hosts.neuron("left"), hosts.neuron("right")]


@on_one_host
def test_the_rank_is_known_to_its_neuron_and_gets_no_requests(hosts: TwoHosts) -> None:
    ranks_of(hosts)
    bearer = {"authorization": f"Bearer {SECRET}"}
    (rank,) = httpx.get(f"{hosts.neurons['right']}/ranks", headers=bearer, timeout=10).json()["ranks"]
    assert (rank["group"], rank["device"], rank["rank"], rank["ranks"]) == (f"left/{TWO}", "cpu", 1, 2)
    holders = [node["name"] for node in hosts.fleet()["nodes"] if TWO in [model["id"] for model in node["models"]]]
    assert holders == ["left"]


@on_one_host
def test_a_killed_rank_on_the_other_host_is_a_pause_in_the_stream(hosts: TwoHosts) -> None:
    far = ranks_of(hosts)[1]
    whole = hosts.stream(LONG)

    def kill() -> None:
        far.send_signal(signal.SIGKILL)
        wait_until(lambda: hosts.status(TWO) == "recovering", 30, "the model reads recovering")

    assert hosts.stream(LONG, kill) == whole


def test_the_groups_secret_is_nowhere_to_be_read(hosts: TwoHosts) -> None:
    """Not in what was said of the death above either."""
    first, second = (secret_of(ranks_of(hosts)[rank]) for rank in (0, 1))
    assert first == second
    told = everything_told(hosts)
    assert TWO in told
    assert first not in told
    assert SECRET not in told


@on_one_host
def test_the_other_hosts_neuron_may_be_started_anew(hosts: TwoHosts) -> None:
    """It has forgotten its rank, and is asked for it again, by the same secret."""
    before = ranks_of(hosts)
    secret = secret_of(before[0])
    neuron, longer = hosts.neuron("right"), LONG | {"max_tokens": 150}  # the rank has a second's grace
    whole = hosts.stream(longer)
    assert hosts.stream(longer, neuron.kill) == whole
    after = ranks_of(hosts)
    assert after[1].pid != before[1].pid
    assert secret_of(after[1]) == secret


@on_one_host
def test_an_unload_ends_the_ranks_of_both_hosts(hosts: TwoHosts) -> None:
    before = list(ranks_of(hosts).values())
    httpx.post(f"{hosts.url}/fleet/models/{TWO}/unload", timeout=60).raise_for_status()
    gone_all(before, 10)
    assert not hosts.ranks()
    assert hosts.answer(TWO, max_tokens=8), "it is loaded again when it is asked for"


@on_one_host
def test_a_leader_that_is_gone_leaves_no_rank_behind(hosts: TwoHosts) -> None:
    """Its neuron comes again without the model; the other's rank is let go of."""
    before = ranks_of(hosts)
    os.kill(hosts.neuron("left").pid, signal.SIGKILL)
    gone_all(list(before.values()), 30)
    wait_until(lambda: not hosts.ranks(), 60, "the rank that waits for a leader is let go of")
    assert hosts.answer(TWO, max_tokens=8)
    assert len(ranks_of(hosts)) == 2
