"""The fleet's state under anything that can happen, in any order, beside a world of neurons that it hears of late."""

from collections import Counter
from collections.abc import Iterable

from attrs import define, evolve, field
from fleets import Clock, eviction, model, needs, neuron, sighting
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from config import Topology
from helexa.cortex.routing import eviction as evicting
from helexa.cortex.routing import listing
from helexa.cortex.routing.fleet import At, Holder, Load, Node, Sighting
from helexa.cortex.routing.policy import ColdLoad, LoadFailed, Route, Wait, Wanted
from helexa.cortex.routing.state import LAST_BACKOFF, NodeDown, NodeUp, State
from helexa.wire.fleet import Activation, ModelReport, ModelStatus

SIZES = {"m": 300, "n": 500, "o": 700}
TOTAL = 1000
NAMES = st.sampled_from([*SIZES, "alias", "ghost"])
NODES = st.sampled_from("abc")
AVOID = st.one_of(st.just(frozenset[str]()), st.frozensets(NODES, max_size=2))
PREFIXES = st.sampled_from([(), (b"x",), (b"y", b"x")])
ESTIMATES = tuple(needs(name, size) for name, size in SIZES.items())
STATUSES: st.SearchStrategy[ModelStatus] = st.sampled_from(["recovering", "loaded", "failed"])
CATALOGUE = (model("m"), model("n", priority=1), model("o", pinned_on=("a", "b")))


@define(eq=False)
class Machine:
    """A neuron as it really is."""

    models: dict[str, ModelReport] = field(factory=dict)
    started_at: float = 0.0
    pending: tuple[str, ...] = ()

    def said(self) -> Sighting:
        used = sum(report.memory_mb for report in self.models.values())
        activation = Activation("ready", pending=self.pending)
        return sighting(
            *self.models.values(), activation=activation, used_mb=used, estimates=ESTIMATES, started_at=self.started_at
        )


@define(eq=False)
class Job:
    """A load under way, and those that have yet to make room for it."""

    plan: ColdLoad
    load: Load
    endpoint: str
    evicts: list[str]
    loading: bool = False


def topology(names: Iterable[str], moved: str = "") -> Topology:
    neurons = (neuron(each, endpoint=f"http://{each}{'2' * (each == moved)}:1") for each in names)
    return Topology(cortex=eviction(idle_ttl=60.0), neurons=tuple(neurons), models=CATALOGUE, aliases={"alias": "m"})


class FleetMachine(RuleBasedStateMachine):
    """What it owns is what is true; `state` is what is believed."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.world = {name: Machine() for name in "abc"}
        self.state = State(topology("abc"), self.clock)
        self.asked: list[NodeUp] = []
        self.requests: list[Route] = []
        self.jobs: list[Job] = []
        self.leaving: list[At] = []
        self.sure: dict[At, bool] = {}
        """What cortex did last, and nothing else has happened to since: the model is loaded there, or is not."""

    @initialize(there=st.sampled_from(["", "m", "n", "mn"]))
    def everything_is_seen(self, there: str) -> None:
        for name in "abc":
            self.world[name].models = {each: ModelReport(each, "loaded", "cpu", SIZES[each]) for each in there}
            self.state.see(NodeUp(name, self.world[name].said(), self.clock()))
        self.clock.now += 1

    # What nobody asks for

    @rule(seconds=st.sampled_from([0.0, 0.5, 3.0, 30.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(node=NODES, how=st.sampled_from(["asks", "hears", "hears", "looks"]))
    def the_poller(self, node: str, how: str) -> None:
        if how == "hears" and self.asked:
            self.state.see(self.asked.pop(0))
        elif how == "looks":
            self.look(node)
        elif node in self.state.fleet.nodes:
            self.asked.append(NodeUp(node, self.world[node].said(), self.clock()))

    def look(self, node: str) -> None:
        """With an answer at once: what is believed is what is true."""
        self.clock.now += 0.001
        self.asked = [each for each in self.asked if each.node != node]
        self.state.see(NodeUp(node, self.world[node].said(), self.clock()))
        if node in self.state.fleet.nodes:
            known = self.state.fleet.nodes[node]
            assert {report.id: report for report in known.models} == self.world[node].models

    @rule(data=st.data(), node=NODES, what=st.sampled_from(["silent", "restarts", "lost", "status", "file"]))
    def something_goes_wrong(self, data: st.DataObject, node: str, what: str) -> None:
        match what:
            case "silent":
                self.state.see(NodeDown(node, "no answer"))
            case "restarts":
                self.world[node] = Machine(started_at=self.clock(), pending=data.draw(st.sampled_from([(), ("m",)])))
                self.forget(node)
            case "lost":
                self.lose(node, data.draw(st.sampled_from([*SIZES, "alien"])))
            case "status":
                self.become(node, data.draw(st.sampled_from([*SIZES])), data.draw(STATUSES))
            case "file":
                names = data.draw(st.lists(NODES, min_size=1, max_size=3, unique=True))
                self.apply(topology(names, data.draw(st.sampled_from(["", "", "a"]))))

    def lose(self, node: str, name: str) -> None:
        models = self.world[node].models
        self.sure.pop((node, name), None)
        if models.pop(name, None) is None and name == "alien":
            models[name] = ModelReport(name, "loaded", "cpu", 0)

    def become(self, node: str, name: str, status: ModelStatus) -> None:
        report = self.world[node].models.get(name)
        if report is not None and report.status != "loading":
            self.world[node].models[name] = evolve(report, status=status)
            self.sure.pop((node, name), None)

    def apply(self, wanted: Topology) -> None:
        old = dict(self.state.fleet.nodes)
        self.state.apply(wanted, 1.0)
        for name in "abc":
            new = self.state.fleet.nodes.get(name)
            if new is None or name not in old or old[name].endpoint != new.endpoint:
                self.asked = [each for each in self.asked if each.node != name]
                self.forget(name)
            if name in old and new is not None and old[name].endpoint != new.endpoint:
                self.world[name] = Machine(started_at=self.clock())
                assert new.sighting is None

    def forget(self, node: str) -> None:
        self.sure = {at: loaded for at, loaded in self.sure.items() if at[0] != node}

    # Requests

    @rule(name=NAMES, avoid=AVOID, prefix=PREFIXES)
    def a_request_comes(self, name: str, avoid: frozenset[str], prefix: tuple[bytes, ...]) -> None:
        fleet, now = self.state.fleet, self.clock()
        decision = self.state.decide(Wanted(name, prefix, avoid))
        match decision:
            case Route(node, endpoint, wanted):
                assert fleet.nodes[node].up
                assert fleet.nodes[node].endpoint == endpoint
                assert node not in avoid
                assert (node, wanted) not in fleet.draining
                report = fleet.nodes[node].model(wanted)
                assert report is not None
                assert report.status == "loaded"
                self.state.open(decision, prefix)
                self.requests.append(decision)
            case ColdLoad():
                self.check_plan(decision, avoid)
                self.begin(decision)
            case Wait(_, _, until):
                assert until is None or until > now
            case LoadFailed(retry_after=seconds):
                assert 1 <= seconds <= LAST_BACKOFF

    def check_plan(self, plan: ColdLoad, avoid: frozenset[str]) -> None:
        fleet = self.state.fleet
        node = fleet.nodes[plan.node]
        assert node.up
        assert plan.node not in avoid
        assert plan.model not in fleet.loads
        assert not any(load.node == plan.node for load in fleet.loads.values())
        assert not any(at[0] == plan.node and node.model(at[1]) for at in fleet.draining)
        assert plan.model != "o" or plan.node in ("a", "b")
        busy = [each for each in plan.evicts if (report := node.model(each)) and evicting.is_busy(fleet, node, report)]
        for each in plan.evicts:
            report = node.model(each)
            assert report is not None
            assert report.status == "loaded"
            assert not fleet.is_kept(plan.node, each)
        if busy:
            idle = [report for report in node.models if report.status == "loaded" and report.id not in busy]
            idle = [report for report in idle if not evicting.is_busy(fleet, node, report)]
            idle = [report for report in idle if not fleet.is_kept(plan.node, report.id)]
            assert node.sighting is not None
            free = TOTAL - node.sighting.devices[0].memory_used_mb
            assert free + sum(report.memory_mb for report in idle) < SIZES[plan.model]

    def begin(self, plan: ColdLoad) -> None:
        endpoint = self.state.fleet.nodes[plan.node].endpoint
        self.jobs.append(Job(plan, self.state.begin(plan), endpoint, list(plan.evicts)))
        for each in plan.evicts:
            self.state.drain((plan.node, each), on=True)

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def a_request_ends(self, data: st.DataObject) -> None:
        route = self.requests.pop(data.draw(st.integers(0, len(self.requests) - 1)))
        last = self.state.close(route)
        assert last == (route not in self.requests_at())

    def requests_at(self) -> list[Route]:
        return [Route(each.node, each.endpoint, each.model) for each in self.requests]

    # Loads and unloads

    @precondition(lambda self: self.jobs)
    @rule(steps=st.integers(1, 5), fails=st.sampled_from([False, False, False, True]))
    def loads_go_on(self, steps: int, fails: bool) -> None:  # noqa: FBT001 - drawn
        for step in range(steps):
            if self.jobs:
                self.go_on(self.jobs[0], fails=fails and step == steps - 1)

    def go_on(self, job: Job, *, fails: bool) -> None:
        node = self.state.fleet.nodes.get(job.plan.node)
        if fails or node is None or node.endpoint != job.endpoint:
            self.fail(job)
        elif job.evicts:
            self.evict_next(job)
        elif not job.loading:
            job.loading = True
            self.world[job.plan.node].models.setdefault(job.plan.model, ModelReport(job.plan.model, "loading", "cpu"))
        else:
            self.complete(job)

    def evict_next(self, job: Job) -> None:
        at = (job.plan.node, job.evicts[0])
        if self.state.fleet.in_flight.get(at):
            return
        job.evicts.pop(0)
        self.unload(at)

    def unload(self, at: At) -> None:
        self.world[at[0]].models.pop(at[1], None)
        self.state.unloaded(at)
        self.sure[at] = False

    def complete(self, job: Job) -> None:
        at = (job.plan.node, job.plan.model)
        others = [report for name, report in self.world[at[0]].models.items() if name != at[1]]
        assert sum(report.memory_mb for report in others) + SIZES[at[1]] <= TOTAL, "memory was promised twice"
        report = ModelReport(at[1], "loaded", "cpu", SIZES[at[1]], capacity=2)
        self.world[at[0]].models[at[1]] = report
        self.jobs.remove(job)
        self.state.loaded(job.load, report)
        self.sure[at] = True

    def fail(self, job: Job) -> None:
        at = (job.plan.node, job.plan.model)
        report = self.world[at[0]].models.get(at[1])
        if report is not None and report.status == "loading":
            self.world[at[0]].models[at[1]] = evolve(report, status="failed", error="no file")
        self.jobs.remove(job)
        self.state.load_failed(job.load, "no file")
        for each in job.plan.evicts:
            self.state.drain((at[0], each), on=False)
        decision = self.state.decide(Wanted(at[1], avoid=frozenset("abc") - {at[0]}))
        assert not isinstance(decision, ColdLoad), "tried again at once"

    @rule(node=NODES, name=st.sampled_from([*SIZES]), wish=st.sampled_from(["unload", "pin", "unpin", "forgive"]))
    def an_operator_wants(self, node: str, name: str, wish: str) -> None:
        at = (node, name)
        held = any(holder.node == node for holder in self.state.fleet.holders.get(name, ()))
        if wish == "forgive":
            self.state.forgive(name)
            assert not any(at[1] == name for at in self.state.fleet.failures)
        elif held and wish == "unload" and at not in self.state.fleet.draining:
            self.state.drain(at, on=True)
            self.leaving.append(at)
        elif held:
            self.state.pin(at, pinned=wish == "pin")

    @precondition(lambda self: self.leaving)
    @rule()
    def a_drain_ends(self) -> None:
        at = self.leaving.pop(0)
        if self.state.fleet.in_flight.get(at) or at[0] not in self.state.fleet.nodes:
            self.state.drain(at, on=False)
        else:
            self.unload(at)
            assert at not in self.state.fleet.draining

    @rule()
    def what_is_idle_goes(self) -> None:
        fleet = self.state.fleet
        for at in evicting.idle(fleet, self.clock()):
            assert not fleet.in_flight.get(at)
            assert not fleet.is_kept(*at)
            assert at not in fleet.draining
            assert self.clock() - fleet.uses[at].used_at >= 60
            if fleet.nodes[at[0]].up and not any(job.plan.node == at[0] for job in self.jobs):
                self.unload(at)

    # What always holds

    @invariant()
    def every_request_is_counted_and_none_twice(self) -> None:
        assert self.state.fleet.in_flight == Counter((each.node, each.model) for each in self.requests)

    @invariant()
    def holders_and_placed_are_what_the_nodes_say(self) -> None:
        fleet = self.state.fleet
        holders: dict[str, tuple[Holder, ...]] = {}
        placed: dict[str, tuple[str, ...]] = {}
        for node in fleet.nodes.values():
            for name in told_of(node):
                placed[name] = (*placed.get(name, ()), node.name)
            for report in node.models:
                if node.up and report.status == "loaded":
                    holders[report.id] = (
                        *holders.get(report.id, ()),
                        Holder(node.name, node.endpoint, report.capacity),
                    )
        assert (fleet.holders, fleet.placed) == (holders, placed)

    @invariant()
    def only_what_is_loaded_has_a_use(self) -> None:
        fleet = self.state.fleet
        kept = {
            (node.name, report.id)
            for node in fleet.nodes.values()
            for report in node.models
            if report.status in ("loaded", "recovering")
        }
        loaded = {(holder.node, name) for name, holders in fleet.holders.items() for holder in holders}
        assert loaded <= fleet.uses.keys() <= kept
        assert all(use.loaded_at <= use.used_at <= self.clock() for use in fleet.uses.values())

    @invariant()
    def what_cortex_did_last_is_believed_whatever_was_heard_late(self) -> None:
        fleet = self.state.fleet
        for (node, name), loaded in self.sure.items():
            if node in fleet.nodes and fleet.nodes[node].up:
                assert any(holder.node == node for holder in fleet.holders.get(name, ())) == loaded

    @invariant()
    def loads_and_drains_are_those_under_way(self) -> None:
        fleet = self.state.fleet
        assert fleet.loads == {job.plan.model: job.load for job in self.jobs}
        assert fleet.draining == {*self.leaving, *((job.plan.node, each) for job in self.jobs for each in job.evicts)}

    @invariant()
    def nothing_is_remembered_of_nodes_that_are_gone_or_for_ever(self) -> None:
        fleet, now = self.state.fleet, self.clock()
        assert all(at[0] in fleet.nodes for at in [*fleet.uses, *fleet.cycles])
        assert all(count > 0 for count in fleet.cycles.values())
        assert all(failure.until <= now + LAST_BACKOFF for failure in fleet.failures.values())
        assert not fleet.failures.keys() & {(each.node, name) for name, held in fleet.holders.items() for each in held}

    @invariant()
    def the_listing_agrees(self) -> None:
        fleet = self.state.fleet
        for each in listing.models(fleet, 0):
            assert each["loaded"] == bool(fleet.holders.get(fleet.resolve(each["id"])))
            assert {place["node"] for place in each["locations"]} <= fleet.nodes.keys()

    def teardown(self) -> None:
        for route in self.requests:
            self.state.close(route)
        assert self.state.fleet.in_flight == {}


def told_of(node: Node) -> set[str]:
    if node.sighting is None:
        return set()
    return {*node.sighting.activation.pending, *(report.id for report in node.models)}


TestFleet = FleetMachine.TestCase
TestFleet.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
