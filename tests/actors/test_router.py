"""The fleet state and its one owner: what it grants, whom it lets wait for a load, what it believes, whom it pokes."""

import pytest
import trio
from attrs import evolve
from fleets import in_flight, sighting, topology_of
from structlog.testing import capture_logs
from trio.testing import assert_no_checkpoints, wait_all_tasks_blocked

from actors import Supervisor
from actors.router import Router
from config import RestartPolicy
from helexa.cortex.ports import Grant
from helexa.cortex.routing.policy import (
    NoHealthyNodes,
    Recovering,
    Route,
    Unknown,
    Wanted,
)
from helexa.cortex.routing.state import NodeDown, NodeUp
from helexa.wire.fleet import ModelReport

LOADED = ModelReport("m", "loaded", "cpu")


@pytest.fixture
async def router() -> Router:
    """Two nodes, none of them seen yet, and a model of the catalogue under two names. It does not run."""
    return Router(topology_of("a", "b", aliases={"alias": "m"}))


async def granted(router: Router, name: str = "m", *avoid: str) -> Grant:
    grant = await router.acquire(Wanted(name, avoid=frozenset(avoid)))
    assert isinstance(grant, Grant)
    return grant


async def test_before_anything_was_seen_nothing_can_serve(router: Router) -> None:
    assert await router.acquire(Wanted("m")) == NoHealthyNodes("m")
    assert await router.acquire(Wanted("ghost")) == Unknown("ghost")


async def test_a_loaded_model_is_granted_where_it_is(router: Router) -> None:
    router.see(NodeUp("b", sighting(LOADED)))
    assert (await granted(router)).route == Route("b", "http://b:1", "m")
    assert (await granted(router, "alias")).route.model == "m"


async def test_where_the_model_is_loaded_no_other_task_gets_in_between(router: Router) -> None:
    router.see(NodeUp("a", sighting(LOADED)))
    with assert_no_checkpoints():
        await granted(router)


async def test_a_grant_reaches_also_a_caller_that_is_being_cancelled(router: Router) -> None:
    """Else its place would be taken for ever."""
    router.see(NodeUp("a", sighting(LOADED)))
    with trio.CancelScope() as scope:
        scope.cancel()
        router.release(await granted(router))
    assert in_flight(router) == 0


async def test_requests_spread_over_the_nodes_that_have_the_model(router: Router) -> None:
    for node in ("a", "b"):
        router.see(NodeUp(node, sighting(LOADED)))
    grants = [await granted(router) for _ in range(4)]
    assert [grant.route.node for grant in grants] == ["a", "b", "a", "b"]
    router.release(grants[1])
    assert (await granted(router)).route.node == "b"


async def test_a_conversation_goes_to_the_node_that_has_its_beginning(router: Router) -> None:
    for node in ("a", "b"):
        router.see(NodeUp(node, sighting(evolve(LOADED, capacity=64))))
    assert router.wants_prefixes("alias")
    first = await router.acquire(Wanted("m", (b"one",)))
    second = await router.acquire(Wanted("m", (b"two",)))
    assert isinstance(first, Grant)
    assert isinstance(second, Grant)
    assert {first.route.node, second.route.node} == {"a", "b"}
    for grant in (first, second):
        known = b"one" if grant is first else b"two"
        again = await router.acquire(Wanted("m", (b"longer than " + known, known)))
        assert isinstance(again, Grant)
        assert again.route.node == grant.route.node


async def test_prefixes_make_no_difference_for_one_node(router: Router) -> None:
    router.see(NodeUp("a", sighting(LOADED)))
    assert not router.wants_prefixes("m")


async def test_every_grant_is_counted_until_it_is_released(router: Router) -> None:
    router.see(NodeUp("a", sighting(LOADED)))
    grants = [await granted(router) for _ in range(3)]
    assert in_flight(router) == 3
    for grant in grants:
        router.release(grant)
    assert in_flight(router) == 0


async def test_sightings_and_a_new_topology_leave_the_count_alone(router: Router) -> None:
    router.see(NodeUp("a", sighting(LOADED)))
    grant = await granted(router)
    router.see(NodeDown("a", "gone"))
    router.see(NodeUp("a", sighting()))
    router.apply(topology_of("b"))
    assert in_flight(router) == 1
    router.release(grant)
    assert in_flight(router) == 0


async def test_a_refusal_is_not_counted(router: Router) -> None:
    router.see(NodeUp("a", sighting(evolve(LOADED, status="recovering"))))
    assert await router.acquire(Wanted("m")) == Recovering("m", "a", "recovering")
    assert in_flight(router) == 0


async def test_a_node_to_avoid_is_avoided(router: Router) -> None:
    for node in ("a", "b"):
        router.see(NodeUp(node, sighting(LOADED)))
    assert (await granted(router, "m", "a")).route.node == "b"
    both = frozenset("ab")
    assert await router.acquire(Wanted("m", avoid=both)) == NoHealthyNodes("m")  # and nothing is loaded for it


async def test_a_node_that_went_down_keeps_what_was_known_and_gets_nothing(router: Router) -> None:
    router.see(NodeUp("a", sighting(LOADED)))
    router.see(NodeDown("a", "ConnectError: refused"))
    node = router.fleet().nodes["a"]
    assert (node.up, node.error) == (False, "ConnectError: refused")
    assert node.models == (evolve(LOADED, status="recovering"),)
    assert await router.acquire(Wanted("m")) == NoHealthyNodes("m")


async def test_a_node_that_came_back_is_as_it_says_now(router: Router) -> None:
    router.see(NodeDown("a", "refused"))
    router.see(NodeUp("a", sighting(LOADED)))
    node = router.fleet().nodes["a"]
    assert (node.up, node.error) == (True, None)
    assert (await granted(router)).route.node == "a"


async def test_a_node_no_request_can_reach_is_down_at_once_and_looked_at(router: Router) -> None:
    pokes: list[str] = []
    for node in ("a", "b"):
        router.on_poke(node, lambda node=node: pokes.append(node))  # type: ignore[misc]
        router.see(NodeUp(node, sighting(LOADED)))
    router.unreachable("a", "no connection")
    assert pokes == ["a"]
    assert router.fleet().nodes["a"].error == "no connection"
    assert (await granted(router)).route.node == "b"


async def test_a_suspect_is_looked_at_and_still_trusted(router: Router) -> None:
    pokes: list[str] = []
    router.on_poke("a", lambda: pokes.append("a"))
    router.see(NodeUp("a", sighting(LOADED)))
    router.suspect("a")
    router.suspect("b")  # nobody watches it
    assert pokes == ["a"]
    assert (await granted(router)).route.node == "a"
    router.on_poke("a", None)
    router.suspect("a")
    assert pokes == ["a"]


async def test_changes_are_logged_once(router: Router) -> None:
    router.see(NodeUp("a", sighting()))
    with capture_logs() as logs:
        for sight in (NodeDown("a", "x"), NodeDown("a", "x"), NodeUp("a", sighting()), NodeUp("a", sighting())):
            router.see(sight)
    assert [log["event"] for log in logs] == ["node.down", "node.up"]


async def test_what_is_wrong_with_an_edit_shows_until_the_next_one_is_in_force(router: Router) -> None:
    router.reject(("it is not TOML",))
    assert router.fleet().problems == ("it is not TOML",)
    router.apply(topology_of("a"))
    assert router.fleet().problems == ()


async def test_what_it_is_told_it_takes_in_order_and_keeps_over_a_restart(router: Router) -> None:
    async with trio.open_nursery() as nursery:
        supervisor = Supervisor("test")
        await nursery.start(supervisor.run)
        await supervisor.start(router, RestartPolicy())
        router.mailbox.tell(NodeDown("a", "first"))
        router.mailbox.tell(NodeUp("a", sighting(LOADED)))
        await wait_all_tasks_blocked()
        assert router.fleet().nodes["a"].up
        (status,) = supervisor.status()
        assert (status.state, status.mailbox_depth) == ("running", 0)
        nursery.cancel_scope.cancel()
    assert (await granted(router)).route.node == "a"
