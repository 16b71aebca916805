"""What the owner of the fleet believes, remembers and tells, event by event."""

import pytest
from attrs import evolve
from fleets import Clock, loaded, model, neuron, sighting, state_of, topology_of
from states import AT, EMPTY, HERE, LOADED, PLAN, THERE, WANTED, see, told, two

from config import Topology
from helexa.cortex.routing.fleet import Holder, Use
from helexa.cortex.routing.policy import NoHealthyNodes, Route, Wanted
from helexa.cortex.routing.state import REMEMBERED_PREFIXES, Happening, NodeDown, NodeUp, State
from helexa.wire.fleet import Activation, ModelReport


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_requests_are_counted_until_they_end(clock: Clock) -> None:
    state = two(clock, LOADED, LOADED)
    state.open(HERE)
    state.open(HERE)
    state.open(THERE)
    assert state.fleet.in_flight == {("a", "m"): 2, ("b", "m"): 1}
    assert (state.close(HERE), state.close(THERE), state.close(HERE)) == (False, True, True)
    assert state.fleet.in_flight == {}


def test_a_request_that_ends_twice_is_counted_once(clock: Clock) -> None:
    state = two(clock, LOADED)
    assert state.close(HERE)
    state.open(HERE)
    assert state.fleet.in_flight == {AT: 1}


def test_a_model_is_used_when_a_request_begins_and_when_it_ends(clock: Clock) -> None:
    state = two(clock, LOADED)
    assert state.fleet.uses == {AT: Use(100.0, 100.0)}
    clock.now = 110.0
    state.open(HERE)
    assert state.fleet.uses[AT] == Use(100.0, 110.0)
    clock.now = 150.0
    state.close(HERE)
    assert state.fleet.uses[AT] == Use(100.0, 150.0)


def test_a_model_is_used_too_while_its_node_tells_of_requests_that_are_not_ours(clock: Clock) -> None:
    state = two(clock, LOADED)
    clock.now = 120.0
    see(state, LOADED)
    assert state.fleet.uses[AT].used_at == 100.0
    see(state, sighting(loaded(waiting=1)))
    assert state.fleet.uses[AT].used_at == 120.0


def test_a_conversation_goes_where_its_longest_beginning_was_served(clock: Clock) -> None:
    state = two(clock, LOADED, LOADED)
    state.open(THERE, (b"long", b"short"))
    state.close(THERE)
    state.open(HERE, (b"short",))
    state.close(HERE)
    assert state.decide(Wanted("m", (b"longer", b"long", b"short"))) == THERE
    assert state.decide(Wanted("m", (b"short",))) == HERE
    assert state.decide(Wanted("m", (b"other",))) == HERE


def test_a_beginning_served_where_the_model_is_not_any_more_gives_way_to_a_shorter_one(clock: Clock) -> None:
    state = state_of(topology_of("a", "b", "c"), dict.fromkeys("abc", LOADED), clock)
    gone = Route("c", "http://c:1", "m")
    for route, prefix in ((gone, b"long"), (THERE, b"short")):
        state.open(route, (prefix,))
        state.close(route)
    see(state, EMPTY, node="c")
    wanted = Wanted("m", (b"long", b"short"))
    assert state.decide(wanted) == THERE
    assert state.decide(evolve(wanted, avoid=frozenset("b"))) == HERE


def test_beginnings_are_told_apart_by_model_and_follow_an_alias(clock: Clock) -> None:
    both = sighting(loaded(), loaded("n"))
    state = two(clock, both, both, models=(model(), model("n")), aliases={"alias": "m"})
    state.open(THERE, (b"x",))
    state.close(THERE)
    assert state.decide(Wanted("alias", (b"x",))) == THERE
    assert state.decide(Wanted("n", (b"x",))) == Route("a", "http://a:1", "n")


def test_only_so_many_beginnings_are_remembered_the_latest(clock: Clock) -> None:
    state = two(clock, LOADED, LOADED)
    state.open(THERE, [b"%d" % index for index in range(REMEMBERED_PREFIXES)])
    state.open(THERE, [b"0", b"new"])
    state.close(THERE)
    state.close(THERE)
    assert len(state._served) == REMEMBERED_PREFIXES
    assert [state.decide(Wanted("m", (each,))) for each in (b"0", b"new", b"1")] == [THERE, THERE, HERE]


def test_before_anything_was_seen_nothing_can_serve(clock: Clock) -> None:
    assert State(topology_of("a"), clock).decide(WANTED) == NoHealthyNodes("m")


def test_a_sighting_of_a_node_that_is_not_in_the_topology_is_passed_over(clock: Clock) -> None:
    state = two(clock)
    before = state.fleet
    assert see(state, LOADED, node="x") == []
    assert state.see(NodeDown("x", "gone")) == []
    assert state.fleet is before


def test_what_holds_a_model_follows_the_sightings(clock: Clock) -> None:
    state = two(clock, sighting(loaded(capacity=4)), LOADED)
    assert state.fleet.holders == {"m": (Holder("a", "http://a:1", 4), Holder("b", "http://b:1", 0))}
    state.see(NodeDown("a", "gone"))
    assert state.fleet.holders == {"m": (Holder("b", "http://b:1", 0),)}
    assert state.fleet.placed == {"m": ("a", "b")}
    see(state, EMPTY, node="b")
    assert (state.fleet.holders, state.fleet.placed) == ({}, {"m": ("a",)})
    see(state, sighting(loaded(capacity=8)))
    assert state.fleet.holders == {"m": (Holder("a", "http://a:1", 8),)}


def test_holders_come_in_the_topologys_order_whoever_was_seen_first(clock: Clock) -> None:
    state = State(topology_of("b", "a"), clock)
    for name in ("a", "b"):
        see(state, LOADED, node=name)
    assert [holder.node for holder in state.fleet.holders["m"]] == ["b", "a"]


def test_a_fleet_once_read_keeps_its_nodes(clock: Clock) -> None:
    state = two(clock)
    before = state.fleet
    see(state, LOADED)
    assert before.nodes["a"].models == ()
    assert before.holders == {}


def test_changes_are_told_once(clock: Clock) -> None:
    state = State(topology_of("a"), clock)
    assert see(state, EMPTY) == [("node.up", "a")]
    assert see(state, EMPTY) == []
    assert see(state, sighting(ModelReport("m", "loading"), loaded("k"))) == [
        ("model.loaded", "k"),
        ("model.loading", "m"),
    ]
    assert see(state, sighting(loaded(running=3), loaded("k"))) == [("model.loaded", "m")]
    assert told(state.see(NodeDown("a", "x"))) == [
        ("node.down", "a"),
        ("model.recovering", "k"),
        ("model.recovering", "m"),
    ]
    assert told(state.see(NodeDown("a", "y"))) == []
    assert state.fleet.nodes["a"].error == "y"
    assert see(state, LOADED) == [("node.up", "a"), ("model.unloaded", "k"), ("model.loaded", "m")]
    assert see(state, sighting(ModelReport("m", "unloaded"))) == [("model.unloaded", "m")]
    assert see(state, EMPTY) == []


def test_a_node_that_is_down_is_told_with_the_reason(clock: Clock) -> None:
    state = two(clock)
    assert state.see(NodeDown("a", "no route")) == [Happening("node.down", {"node": "a", "error": "no route"})]


def test_a_node_may_serve_although_something_is_wrong_with_it(clock: Clock) -> None:
    state = two(clock)
    state.see(NodeUp("a", LOADED, 100.0, "its health is not known"))
    assert state.fleet.nodes["a"].error == "its health is not known"
    assert state.decide(WANTED) == HERE


def test_a_start_up_is_told_model_by_model(clock: Clock) -> None:
    state = State(topology_of("a"), clock)
    assert see(state, sighting(activation=Activation(pending=("m",)))) == [("node.up", "a"), ("model.loading", "m")]
    loading = sighting(ModelReport("m", "loading"), activation=Activation(in_progress="m"))
    assert see(state, loading) == []
    assert see(state, sighting(loaded(), activation=Activation("ready", completed=("m",)))) == [("model.loaded", "m")]


def test_what_cortex_does_itself_is_not_told_by_the_sightings_that_see_it(clock: Clock) -> None:
    state = two(clock)
    load = state.begin(PLAN)
    assert see(state, sighting(ModelReport("m", "loading", "cpu"))) == []
    clock.now += 1
    state.loaded(load, loaded())
    assert see(state, LOADED) == []
    state.drain(AT, on=True)
    assert see(state, EMPTY) == []
    state.drain(AT, on=False)


def test_another_topology_keeps_what_is_known_of_the_nodes_that_stay(clock: Clock) -> None:
    state = two(clock, LOADED, LOADED)
    state.pin(AT, pinned=True)
    state.drain(AT, on=True)
    state.open(HERE)
    load = state.begin(evolve(PLAN, model="n"))
    uses, node = dict(state.fleet.uses), state.fleet.nodes["a"]
    state.apply(topology_of("c", "a", models=(model("n"),), aliases={"x": "m"}), 12.0)
    fleet = state.fleet
    assert list(fleet.nodes) == ["c", "a"]
    assert fleet.nodes["a"] == node
    assert (fleet.holders, fleet.placed) == ({"m": (Holder("a", "http://a:1", 0),)}, {"m": ("a",)})
    assert (fleet.uses, fleet.draining, fleet.in_flight, fleet.loads) == ({AT: uses[AT]}, {AT}, {AT: 1}, {"n": load})
    assert (fleet.applied_at, list(fleet.catalogue), fleet.resolve("x")) == (12.0, ["n"], "m")


def test_a_node_with_another_address_is_another_node(clock: Clock) -> None:
    state = two(clock, sighting(loaded(), loaded("n")), sighting(loaded("n")))
    state.pin(AT, pinned=True)
    state.unloaded(("a", "n"))
    state.unloaded(("b", "n"))
    assert state.fleet.cycles.keys() == {("a", "cpu"), ("b", "cpu")}
    moved = Topology(neurons=(neuron("a", endpoint="http://elsewhere:1"), neuron("b")), models=(model(),))
    state.apply(moved, 0.0)
    assert state.fleet.cycles == {("b", "cpu"): 1}
    assert state.fleet.nodes["a"].sighting is None
    assert (state.fleet.holders, state.fleet.placed, state.fleet.uses) == ({}, {}, {})
    see(state, LOADED)
    assert state.decide(WANTED) == Route("a", "http://elsewhere:1", "m")
    assert not state.fleet.is_kept(*AT)


def test_other_settings_of_a_node_are_in_force_at_once(clock: Clock) -> None:
    state = two(clock, sighting(loaded(device="cpu")))
    state.apply(Topology(neurons=(neuron("a", devices=("cuda:0",)),), models=(model(),)), 0.0)
    assert state.fleet.nodes["a"].devices == ()
    assert state.decide(WANTED) == HERE


def test_requests_at_a_node_that_is_gone_are_counted_to_their_end(clock: Clock) -> None:
    state = two(clock, LOADED)
    state.open(HERE)
    state.apply(topology_of("b"), 0.0)
    assert state.fleet.in_flight == {AT: 1}
    assert state.close(HERE)
    assert state.fleet.in_flight == {}
    assert state.fleet.uses == {}


def test_a_failed_load_is_tried_again_at_once_where_its_settings_have_changed(clock: Clock) -> None:
    state = two(clock, models=(model(), model("n")))
    for name in ("m", "n"):
        state.load_failed(state.begin(evolve(PLAN, model=name)), "no file")
    state.load_failed(state.begin(evolve(PLAN, node="b")), "no file")
    state.apply(topology_of("a", "b", models=(model(), model("n", source="path:/right"))), 0.0)
    assert list(state.fleet.failures) == [AT, ("b", "m")]
    other = (neuron("a"), neuron("b", devices=("cpu",)))
    state.apply(Topology(neurons=other, models=(model(),)), 0.0)
    assert list(state.fleet.failures) == [AT]


def test_what_is_wrong_with_an_edit_is_known_until_one_is_right(clock: Clock) -> None:
    state = two(clock)
    before = state.fleet
    state.reject(("3: no such key",))
    assert evolve(state.fleet, problems=()) == before
    assert state.fleet.problems == ("3: no such key",)
    state.apply(before.topology, 0.0)
    assert state.fleet.problems == ()
