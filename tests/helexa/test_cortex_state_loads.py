"""What the owner of the fleet knows of loads, unloads and failures, its own and those of the nodes."""

import pytest
from attrs import evolve
from fleets import Clock, eviction, loaded, model, needs, sighting, state_of, topology_of
from states import AT, EMPTY, HERE, LOADED, PLAN, THERE, WANTED, see, status, two

from helexa.cortex.routing.fleet import Failure, Holder, Load, Sighting, Use
from helexa.cortex.routing.policy import ColdLoad, LoadFailed, NoHealthyNodes, Wait, Wanted
from helexa.cortex.routing.state import FIRST_BACKOFF, LAST_BACKOFF, Happening, NodeDown, NodeUp, State
from helexa.wire.fleet import Activation, ActivationFailure, ModelReport, ModelStatus


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_load_is_known_while_it_lasts(clock: Clock) -> None:
    state = two(clock)
    load = state.begin(evolve(PLAN, evicts=("x",)))
    assert load == Load("m", "a", "cpu", ("x",), 100.0)
    assert state.fleet.loads == {"m": load}
    assert state.decide(WANTED) == Wait("m", "it is being loaded on a")
    state.loaded(load, loaded(capacity=3))
    assert state.fleet.loads == {}
    assert state.decide(WANTED) == HERE
    assert state.fleet.uses == {AT: Use(100.0, 100.0)}


def test_a_model_is_not_loaded_twice_at_once(clock: Clock) -> None:
    state = two(clock)
    state.begin(PLAN)
    with pytest.raises(RuntimeError, match="m is being loaded already"):
        state.begin(evolve(PLAN, node="b"))


def test_a_sighting_asked_for_before_a_load_has_ended_does_not_undo_it(clock: Clock) -> None:
    state = two(clock)
    load = state.begin(PLAN)
    clock.now = 110.0
    state.loaded(load, loaded())
    late = sighting(ModelReport("m", "loading"), loaded("n"))
    for asked_at, news in ((105.0, [("model.loaded", "n")]), (110.0, [])):
        assert see(state, late, asked_at) == news
        assert (status(state), status(state, name="n")) == ("loaded", "loaded")
    assert see(state, EMPTY, 110.5) == [("model.unloaded", "m"), ("model.unloaded", "n")]
    assert status(state) is None


def test_a_sighting_asked_for_before_an_unload_has_ended_does_not_bring_the_model_back(clock: Clock) -> None:
    state = two(clock, sighting(loaded(), loaded("n")))
    clock.now = 110.0
    state.unloaded(AT)
    assert see(state, sighting(loaded(), ModelReport("n", "failed", error="x")), 109.0) == [("model.load_failed", "n")]
    assert status(state) is None
    assert state.fleet.uses == {}
    assert state.decide(WANTED) == PLAN
    assert see(state, LOADED, 111.0) == [("model.loaded", "m"), ("model.unloaded", "n")]


def test_a_load_and_an_unload_in_the_shadow_of_one_sighting_are_both_kept(clock: Clock) -> None:
    state = two(clock, sighting(loaded("x")))
    load = state.begin(evolve(PLAN, evicts=("x",)))
    clock.now = 101.0
    state.unloaded(("a", "x"))
    clock.now = 102.0
    state.loaded(load, loaded())
    see(state, sighting(loaded("x")), 100.5)
    assert [report.id for report in state.fleet.nodes["a"].models] == ["m"]
    see(state, sighting(), 101.5)  # after the unload, before the load
    assert [report.id for report in state.fleet.nodes["a"].models] == ["m"]
    assert state.fleet.holders == {"m": (Holder("a", "http://a:1", 0),)}


def test_a_late_first_word_of_a_node_is_not_believed(clock: Clock) -> None:
    state = State(topology_of("a"), clock)
    state.loaded(Load("m", "a", "cpu", (), 100.0), loaded())
    assert see(state, EMPTY, 99.0) == []
    assert state.decide(WANTED) == NoHealthyNodes("m")
    assert see(state, LOADED, 101.0) == [("node.up", "a"), ("model.loaded", "m")]


def test_a_load_on_a_node_that_went_down_meanwhile_serves_nobody_yet(clock: Clock) -> None:
    state = two(clock)
    load = state.begin(PLAN)
    state.see(NodeDown("a", "gone"))
    state.loaded(load, loaded())
    assert status(state) == "recovering"
    assert state.fleet.holders == {}
    clock.now += 1
    see(state, LOADED)
    assert state.decide(WANTED) == HERE


def test_memory_is_taken_and_given_back_before_it_is_measured_anew(clock: Clock) -> None:
    state = two(clock, sighting(loaded("x", 300), used_mb=350))
    load = state.begin(evolve(PLAN, evicts=("x",)))
    state.unloaded(("a", "x"))
    assert used_mb(state) == 50
    state.loaded(load, loaded("m", 600, kv_mb=900))
    assert used_mb(state) == 650
    assert not see(state, sighting(loaded("m", 600), used_mb=1), 99.0)
    assert used_mb(state) == 650
    see(state, sighting(loaded("m", 600), used_mb=700), 100.5)
    assert used_mb(state) == 700


def test_memory_that_was_measured_during_a_load_is_not_taken_twice(clock: Clock) -> None:
    state = two(clock)
    load = state.begin(PLAN)
    clock.now = 110.0
    see(state, sighting(ModelReport("m", "loading", "cpu"), used_mb=620), 105.0)
    state.loaded(load, loaded("m", 600))
    assert used_mb(state) == 620


def test_memory_that_a_load_had_not_taken_yet_when_it_was_measured_is_taken(clock: Clock) -> None:
    state = two(clock, sighting(loaded("x", 300), used_mb=350))
    load = state.begin(PLAN)
    see(state, sighting(ModelReport("m", "loading", "cpu"), loaded("x", 300), used_mb=360))
    state.loaded(load, loaded("m", 600))
    assert used_mb(state) == 950


def used_mb(state: State) -> int:
    found = state.fleet.nodes["a"].sighting
    assert found is not None
    return found.devices[0].memory_used_mb


def test_two_loads_in_a_row_are_not_promised_the_same_memory(clock: Clock) -> None:
    estimates = (needs(weights_mb=600), needs("n", 600))
    state = state_of(
        topology_of("a", models=(model(), model("n")), cortex=eviction()), {"a": sighting(estimates=estimates)}, clock
    )
    state.loaded(state.begin(PLAN), loaded("m", 600))
    decision = state.decide(Wanted("n"))
    assert isinstance(decision, ColdLoad)
    assert decision.evicts == ("m",)


def test_a_load_that_failed_is_tried_again_later_and_later(clock: Clock) -> None:
    state = state_of(topology_of("a"), {"a": EMPTY}, clock)
    delays = []
    for _ in range(9):
        decision = state.decide(WANTED)
        assert isinstance(decision, ColdLoad)
        state.load_failed(state.begin(decision), "no file")
        refusal = state.decide(WANTED)
        assert isinstance(refusal, LoadFailed)
        delays.append(refusal.retry_after)
        clock.now += refusal.retry_after
    assert delays == [5, 10, 20, 40, 80, 160, 300, 300, 300]


def test_a_load_that_fails_for_days_is_still_remembered(clock: Clock) -> None:
    state = two(clock)
    for _ in range(2000):
        state.load_failed(state.begin(PLAN), "no file")
    assert state.fleet.failures[AT] == Failure("no file", 100.0 + LAST_BACKOFF, 2000)


def test_a_load_that_failed_on_one_node_is_tried_on_another(clock: Clock) -> None:
    state = two(clock)
    state.load_failed(state.begin(PLAN), "no file")
    assert state.decide(WANTED) == evolve(PLAN, node="b")


def test_a_load_that_succeeds_at_last_is_forgiven(clock: Clock) -> None:
    state = two(clock)
    state.load_failed(state.begin(PLAN), "no file")
    state.loaded(state.begin(PLAN), loaded())
    assert state.fleet.failures == {}


def test_a_model_seen_loaded_is_forgiven_whoever_loaded_it(clock: Clock) -> None:
    state = two(clock)
    state.load_failed(state.begin(PLAN), "no file")
    see(state, LOADED)
    assert state.fleet.failures == {}


def test_who_waits_for_a_load_does_not_go_on_to_wait_for_it_when_it_has_failed(clock: Clock) -> None:
    state = state_of(topology_of("a"), {"a": EMPTY}, clock)
    load = state.begin(PLAN)
    loading = sighting(ModelReport("m", "loading", "cpu"))
    see(state, loading)
    clock.now += 1
    state.load_failed(load, "no memory")
    assert isinstance(state.decide(WANTED), LoadFailed)
    assert see(state, loading, 100.5) == []
    assert isinstance(state.decide(WANTED), LoadFailed)
    assert see(state, sighting(ModelReport("m", "failed", "cpu", error="no memory"))) == []
    assert state.fleet.failures[AT].count == 1


@pytest.mark.parametrize("error", ["no memory", "CUDA out of memory at 0x1"])
def test_a_failed_load_counts_once_however_the_node_words_it_afterwards(clock: Clock, error: str) -> None:
    state = two(clock)
    state.load_failed(state.begin(PLAN), "no memory")
    failed = sighting(ModelReport("m", "failed", "cpu", error=error))
    for _ in range(3):
        assert see(state, failed) == []
        clock.now += 10
    assert state.fleet.failures[AT].count == 1


def test_a_load_that_the_node_says_has_failed_before_we_hear_of_it_counts_once(clock: Clock) -> None:
    state = two(clock)
    load = state.begin(PLAN)
    assert see(state, sighting(ModelReport("m", "failed", "cpu", error="x"))) == []
    state.load_failed(load, "x")
    assert state.fleet.failures[AT] == Failure("x", 100.0 + FIRST_BACKOFF, 1)


@pytest.mark.parametrize(
    "said",
    [
        sighting(ModelReport("m", "failed", error="no file")),
        sighting(activation=Activation("ready", failed=(ActivationFailure("m", "no file"),))),
    ],
)
def test_what_a_node_failed_to_load_by_itself_is_told_and_not_tried_there_at_once(clock: Clock, said: Sighting) -> None:
    state = two(clock)
    happened = state.see(NodeUp("a", said, 100.0))
    assert happened == [Happening("model.load_failed", {"node": "a", "model": "m", "error": "no file"})]
    assert state.fleet.failures == {AT: Failure("no file", 105.0)}
    clock.now = 104.0
    assert see(state, said) == []
    assert state.decide(WANTED) == evolve(PLAN, node="b")
    clock.now = 105.0
    assert see(state, said) == []
    assert state.decide(WANTED) == PLAN


def test_a_start_ups_failure_is_not_news_after_the_model_was_loaded_and_unloaded(clock: Clock) -> None:
    activation = Activation("ready", failed=(ActivationFailure("m", "no file"),))
    state = two(clock, sighting(activation=activation))
    clock.now = 105.0
    state.loaded(state.begin(PLAN), loaded())
    clock.now = 110.0
    assert see(state, sighting(loaded(), activation=activation)) == []
    state.unloaded(AT)
    clock.now = 111.0
    assert see(state, sighting(activation=activation)) == []
    assert state.fleet.failures == {}
    assert state.decide(WANTED) == PLAN


def test_a_start_ups_failure_is_news_of_the_next_start(clock: Clock) -> None:
    activation = Activation("ready", failed=(ActivationFailure("m", "no file"),))
    state = two(clock, sighting(activation=activation))
    clock.now = 200.0
    assert see(state, sighting(activation=activation, started_at=1.0)) == [("model.load_failed", "m")]
    assert state.fleet.failures[AT].count == 2


def test_those_who_wait_for_a_start_up_hear_that_it_has_failed_though_it_is_no_news(clock: Clock) -> None:
    state = two(clock)
    state.load_failed(state.begin(PLAN), "no file")
    see(state, sighting(activation=Activation(pending=("m",)), started_at=1.0))
    failed = Activation("ready", failed=(ActivationFailure("m", "no file"),))
    assert see(state, sighting(activation=failed, started_at=1.0)) != []


def test_an_operator_has_a_load_tried_again_at_once(clock: Clock) -> None:
    state = two(clock, models=(model(), model("n")))
    for node in ("a", "b"):
        state.load_failed(state.begin(evolve(PLAN, node=node)), "no file")
    state.load_failed(state.begin(evolve(PLAN, model="n")), "no file")
    state.forgive("m")
    assert list(state.fleet.failures) == [("a", "n")]


def test_what_was_forgiven_is_not_held_against_it_again_by_the_next_sighting(clock: Clock) -> None:
    failed = sighting(ModelReport("m", "failed", error="no file"))
    state = two(clock, failed)
    state.forgive("m")
    see(state, failed)
    assert state.fleet.failures == {}


@pytest.mark.parametrize(
    ("status", "kept"), [("recovering", True), ("loading", False), ("failed", False), ("unloaded", False)]
)
def test_a_pin_lasts_as_long_as_the_model_is_loaded_or_being_recovered(
    clock: Clock,
    status: ModelStatus,
    kept: bool,  # noqa: FBT001 - a table
) -> None:
    state = two(clock, LOADED)
    state.pin(AT, pinned=True)
    see(state, sighting(ModelReport("m", status)))
    see(state, LOADED)
    assert state.fleet.is_kept(*AT) == kept


def test_a_pin_outlasts_a_node_that_is_away_for_a_moment(clock: Clock) -> None:
    state = two(clock, LOADED)
    state.pin(AT, pinned=True)
    state.see(NodeDown("a", "gone"))
    see(state, LOADED)
    assert state.fleet.is_kept(*AT)
    state.pin(AT, pinned=False)
    assert not state.fleet.is_kept(*AT)


def test_a_model_loaded_anew_is_new(clock: Clock) -> None:
    state = two(clock, LOADED)
    clock.now = 200.0
    state.unloaded(AT)
    assert state.fleet.uses == {}
    state.loaded(state.begin(PLAN), loaded())
    assert state.fleet.uses == {AT: Use(200.0, 200.0)}


def test_what_is_not_loaded_cannot_be_pinned(clock: Clock) -> None:
    with pytest.raises(KeyError):
        two(clock).pin(AT, pinned=True)


def test_a_drained_model_gets_no_requests_until_it_may_again(clock: Clock) -> None:
    state = two(clock, LOADED, LOADED)
    state.drain(AT, on=True)
    assert state.decide(WANTED) == THERE
    state.drain(AT, on=False)
    assert state.decide(WANTED) == HERE
    state.drain(AT, on=False)


def test_an_unloaded_model_is_not_draining_any_more(clock: Clock) -> None:
    state = two(clock, LOADED)
    state.drain(AT, on=True)
    state.unloaded(AT)
    assert state.fleet.draining == set()


def test_unloads_are_counted_by_device_until_its_worker_begins_anew(clock: Clock) -> None:
    said = sighting(loaded("x"), loaded("y"), loaded("z", device="cuda:0"), devices=("cpu", "cuda:0"))
    state = two(clock, said)
    for name in "xyz":
        state.unloaded(("a", name))
        state.unloaded(("a", name))
    assert state.fleet.cycles == {("a", "cpu"): 2, ("a", "cuda:0"): 1}
    state.restarted("a", "cpu")
    state.restarted("b", "cpu")
    assert state.fleet.cycles == {("a", "cuda:0"): 1}


def test_an_unload_that_a_sighting_saw_first_is_counted_once(clock: Clock) -> None:
    state = two(clock, LOADED)
    clock.now = 110.0
    see(state, EMPTY, 109.0)
    state.unloaded(AT)
    assert state.fleet.cycles == {("a", "cpu"): 1}


def test_unloads_of_a_neurons_last_run_do_not_count(clock: Clock) -> None:
    state = two(clock, sighting(loaded(), loaded("n")))
    state.unloaded(AT)
    clock.now = 110.0
    see(state, sighting(started_at=5.0))
    assert state.fleet.cycles == {}


def test_an_unload_from_a_node_that_is_gone_is_no_trouble(clock: Clock) -> None:
    state = two(clock, LOADED)
    state.apply(topology_of("b"), 0.0)
    state.unloaded(AT)
    state.load_failed(Load("m", "a", "cpu", (), 0.0), "gone")
    state.loaded(Load("m", "a", "cpu", (), 0.0), loaded())
    assert (state.fleet.holders, state.fleet.cycles) == ({}, {})
