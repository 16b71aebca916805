"""The fleet state and its one owner, asked and told directly: what it grants, what it believes, whom it pokes."""

import pytest
import trio
import trio.testing
from attrs import evolve
from fleets import in_flight, sighting
from structlog.testing import capture_logs

from actors import Supervisor
from actors.router import NodeDown, NodeUp, Router
from config import RestartPolicy
from helexa.cortex.policy import NoHealthyNodes, NotLoaded, Recovering, Route, Unknown
from helexa.cortex.ports import Grant
from helexa.wire.fleet import Activation, ModelReport

LOADED = ModelReport("m", "loaded", "cpu")


@pytest.fixture
def router() -> Router:
    """Two nodes, none of them seen yet, and a model of the catalogue under two names."""
    return Router({"a": "http://a:1", "b": "http://b:1"}, ["m"], {"alias": "m"})


def granted(router: Router, name: str = "m", *avoid: str) -> Grant:
    grant = router.grant(name, avoid)
    assert isinstance(grant, Grant)
    return grant


def test_before_anything_was_seen_nothing_can_serve(router: Router) -> None:
    assert router.grant("m") == NoHealthyNodes("m")
    assert router.grant("ghost") == Unknown("ghost")


def test_a_loaded_model_is_granted_where_it_is(router: Router) -> None:
    router.see(NodeUp("b", sighting(LOADED)))
    assert granted(router) == Grant(Route("b", "http://b:1", "m"))
    assert granted(router, "alias").route.model == "m"


def test_requests_spread_over_the_nodes_that_have_the_model(router: Router) -> None:
    for node in ("a", "b"):
        router.see(NodeUp(node, sighting(LOADED)))
    grants = [granted(router) for _ in range(4)]
    assert [grant.route.node for grant in grants] == ["a", "b", "a", "b"]
    router.release(grants[1])
    assert granted(router).route.node == "b"


def test_every_grant_is_counted_until_it_is_released(router: Router) -> None:
    router.see(NodeUp("a", sighting(LOADED)))
    grants = [granted(router) for _ in range(3)]
    assert in_flight(router) == 3
    for grant in grants:
        router.release(grant)
    assert in_flight(router) == 0


def test_sightings_leave_the_count_alone(router: Router) -> None:
    router.see(NodeUp("a", sighting(LOADED)))
    grant = granted(router)
    router.see(NodeDown("a", "gone"))
    router.see(NodeUp("a", sighting()))
    assert in_flight(router) == 1
    router.release(grant)
    assert in_flight(router) == 0


def test_a_refusal_is_not_counted(router: Router) -> None:
    router.see(NodeUp("a", sighting()))
    assert router.grant("m") == NotLoaded("m")
    assert in_flight(router) == 0


def test_a_node_to_avoid_is_avoided(router: Router) -> None:
    for node in ("a", "b"):
        router.see(NodeUp(node, sighting(LOADED)))
    assert granted(router, "m", "a").route.node == "b"
    assert router.grant("m", ("a", "b")) == NoHealthyNodes("m")


def test_a_node_that_went_down_keeps_what_was_known_and_gets_nothing(router: Router) -> None:
    router.see(NodeUp("a", sighting(LOADED)))
    router.see(NodeDown("a", "ConnectError: refused"))
    node = router.fleet().nodes["a"]
    assert (node.up, node.error) == (False, "ConnectError: refused")
    assert node.models == (evolve(LOADED, status="recovering"),)
    assert router.grant("m") == NoHealthyNodes("m")


def test_a_node_that_came_back_is_as_it_says_now(router: Router) -> None:
    router.see(NodeDown("a", "refused"))
    router.see(NodeUp("a", sighting(LOADED)))
    node = router.fleet().nodes["a"]
    assert (node.up, node.error) == (True, None)
    assert granted(router).route.node == "a"


def test_a_model_on_its_way_is_worth_waiting_for(router: Router) -> None:
    router.see(NodeUp("a", sighting(activation=Activation(pending=("m",)))))
    assert router.grant("m") == Recovering("m", "a", "loading")
    router.see(NodeUp("a", sighting(evolve(LOADED, status="recovering"))))
    assert router.grant("m") == Recovering("m", "a", "recovering")


def test_a_node_no_request_can_reach_is_down_at_once_and_looked_at(router: Router) -> None:
    pokes: list[str] = []
    for node in ("a", "b"):
        router.on_poke(node, lambda node=node: pokes.append(node))  # type: ignore[misc]
        router.see(NodeUp(node, sighting(LOADED)))
    router.unreachable("a", "no connection")
    assert pokes == ["a"]
    assert router.fleet().nodes["a"].error == "no connection"
    assert granted(router).route.node == "b"


def test_a_suspect_is_looked_at_and_still_trusted(router: Router) -> None:
    pokes: list[str] = []
    router.on_poke("a", lambda: pokes.append("a"))
    router.see(NodeUp("a", sighting(LOADED)))
    router.suspect("a")
    router.suspect("b")  # nobody watches it
    assert pokes == ["a"]
    assert granted(router).route.node == "a"


def test_a_fleet_once_read_does_not_change(router: Router) -> None:
    before = router.fleet()
    router.see(NodeUp("a", sighting(LOADED)))
    granted(router)
    assert not before.nodes["a"].up
    assert before.nodes["a"].in_flight == {}


def test_changes_are_logged_once(router: Router) -> None:
    router.see(NodeUp("a", sighting()))
    with capture_logs() as logs:
        for sight in (NodeDown("a", "x"), NodeDown("a", "x"), NodeUp("a", sighting()), NodeUp("a", sighting())):
            router.see(sight)
    assert [log["event"] for log in logs] == ["node.down", "node.up"]


async def test_what_it_is_told_it_takes_in_order_and_keeps_over_a_restart(router: Router) -> None:
    async with trio.open_nursery() as nursery:
        supervisor = Supervisor("test")
        await nursery.start(supervisor.run)
        await supervisor.start(router, RestartPolicy())
        router.mailbox.tell(NodeDown("a", "first"))
        router.mailbox.tell(NodeUp("a", sighting(LOADED)))
        await trio.testing.wait_all_tasks_blocked()
        assert router.fleet().nodes["a"].up
        (status,) = supervisor.status()
        assert (status.state, status.mailbox_depth) == ("running", 0)
        nursery.cancel_scope.cancel()
    assert granted(router).route.node == "a"
