"""Requests that outlive the process that served them: who goes on, in which order, and who is taken for the cause."""

import math

import pytest
import trio
from attrs import define, field
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import requests as policy
from actors.generation import LiveGeneration
from actors.requests import Requests
from helexa.engine.protocol import (
    Abort,
    Began,
    Command,
    Failed,
    Finished,
    Progress,
    Submit,
    TokenDelta,
    TokenLogprob,
    Tokens,
)
from helexa.neuron.ports import ChoiceNews, End
from helexa.wire.sampling import SamplingParams

SEEDED = SamplingParams(seed=7, max_tokens=9)
WHY = "killed by SIGSEGV"


@define(eq=False)
class Desk:
    """Requests, and the commands that went out since last asked."""

    commands: list[Command] = field(factory=list)
    requests: Requests = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.requests = Requests("cpu", self.commands.append)
        self.requests.resume("m")

    def submit(self, sampling: SamplingParams = SEEDED, model: str = "m") -> LiveGeneration:
        return self.requests.submit(model, [1, 2], sampling, "team")

    def running(self, count: int, sampling: SamplingParams = SEEDED) -> list[LiveGeneration]:
        """Requests that have begun."""
        found = [self.submit(sampling) for _ in range(count)]
        self.requests.begin(Began([each.request for each in self.sent()]))
        return found

    def sent(self) -> list[Submit]:
        """The requests submitted since."""
        found = [each for each in self.commands if isinstance(each, Submit)]
        self.commands.clear()
        return found

    def names(self) -> list[str]:
        return [each.request for each in self.sent()]

    def tokens(self, *ids: int, request: str = "cpu/1", index: int = 0) -> None:
        self.requests.extend(Tokens(1, [TokenDelta(request, list(ids), index)]))

    def die(self, deadline: float = math.inf, reason: str = WHY, *, blameless: bool = False) -> None:
        self.requests.suspend(reason, deadline, blameless=blameless)

    def restart(self, model: str = "m") -> None:
        self.requests.resume(model)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def end_of(generation: LiveGeneration, index: int = 0) -> End | None:
    return generation._choices[index].end


async def test_a_request_goes_on_with_what_it_has(desk: Desk) -> None:
    (generation,) = desk.running(1)
    desk.tokens(5, 6)
    assert await generation.progress() == (ChoiceNews(0, (5, 6)),)
    desk.tokens(7)
    desk.die()
    assert desk.commands == []
    desk.restart()
    assert desk.sent() == [Submit("cpu/1", "m", [1, 2], SEEDED, "team", progress=[Progress(0, [5, 6, 7])])]
    desk.tokens(8)
    desk.requests.finish(Finished("cpu/1", "stop", 2, 4))
    assert await generation.progress() == (ChoiceNews(0, (7, 8), end=End("stop")),)
    assert desk.requests.choices == 0


def test_a_request_without_tokens_begins_anew(desk: Desk) -> None:
    desk.running(1)
    desk.die()
    desk.restart()
    assert desk.sent() == [Submit("cpu/1", "m", [1, 2], SEEDED, "team")]


def test_choices_that_have_ended_stay_so(desk: Desk) -> None:
    (generation,) = desk.running(1, SamplingParams(n=3))
    desk.tokens(5, index=1)
    desk.requests.finish(Finished("cpu/1", "stop", 2, 1, 1, 16))
    desk.die()
    desk.restart()
    (submit,) = desk.sent()
    assert (submit.sampling.n, submit.progress) == (3, [Progress(0), Progress(2)])
    assert end_of(generation, 1) == End("stop", cached_tokens=16)
    assert desk.requests.choices == 2


def test_a_choice_that_was_told_to_stop_ends_with_its_process(desk: Desk) -> None:
    (generation,) = desk.running(1, SamplingParams(n=2))
    generation.stop(1)
    desk.die()
    assert (end_of(generation, 1), desk.requests.choices) == (End("abort"), 1)
    desk.restart()
    assert [each.index for each in desk.sent()[0].progress] == [0]


def test_a_choice_that_is_told_to_stop_while_there_is_no_process_ends_at_once(desk: Desk) -> None:
    (generation,) = desk.running(1, SamplingParams(n=2))
    desk.die()
    generation.stop(0)
    assert (end_of(generation, 0), desk.requests.choices, desk.commands) == (End("abort"), 1, [])
    generation.stop(1)
    assert desk.requests.choices == 0
    desk.restart()
    assert desk.commands == []


def test_who_leaves_meanwhile_is_forgotten(desk: Desk) -> None:
    first, _ = desk.running(2)
    desk.die()
    first.close()
    assert (desk.commands, desk.requests.choices) == ([], 1)
    desk.restart()
    assert desk.names() == ["cpu/2"]


def test_what_was_running_comes_back_one_by_one_and_the_rest_after_it(desk: Desk) -> None:
    desk.running(3)
    desk.submit()  # in the queue of the process that dies
    desk.sent()
    desk.die()
    desk.restart()
    desk.submit()  # came since
    assert desk.names() == ["cpu/1"]
    desk.tokens(5)
    assert desk.names() == ["cpu/2"]
    desk.tokens(5, request="cpu/2")
    desk.requests.finish(Finished("cpu/2", "stop", 2, 1))
    assert desk.names() == ["cpu/3"]
    desk.requests.fail(Failed("cpu/3", "upstream_error", "x"))
    assert desk.names() == ["cpu/4", "cpu/5"]
    desk.submit()
    assert desk.names() == ["cpu/6"]


def test_one_that_is_tried_and_closed_makes_way(desk: Desk) -> None:
    first, _ = desk.running(2)
    desk.die()
    desk.restart()
    first.close()
    assert [type(each) for each in desk.commands] == [Submit, Abort, Submit]


def test_deaths_of_which_no_request_is_the_cause_are_not_counted(desk: Desk) -> None:
    first, second = desk.running(2)
    for _ in range(4):
        desk.die(blameless=True)
        desk.restart()
        desk.requests.begin(Began(desk.names()))
    assert (end_of(first), end_of(second)) == (None, None)
    desk.die()
    assert (end_of(first), end_of(second)) == (None, None), "the first that counts"
    desk.restart()
    desk.requests.begin(Began(desk.names()))
    desk.die(blameless=True)
    assert (end_of(first), end_of(second)) == (None, None)
    desk.restart()
    desk.requests.begin(Began(desk.names()))
    desk.die()
    assert end_of(first) is not None
    assert end_of(second) is None


def test_models_come_back_one_after_the_other_with_their_requests(desk: Desk) -> None:
    desk.restart("other")
    desk.submit(model="other")
    desk.submit()
    desk.sent()
    desk.die()
    desk.restart()
    assert desk.names() == ["cpu/2"]
    desk.restart("other")
    assert desk.names() == ["cpu/1"]


def test_the_one_that_was_alone_at_two_deaths_is_taken_for_the_cause_and_the_others_go_on(desk: Desk) -> None:
    generations = desk.running(3)
    desk.die()
    desk.restart()
    desk.tokens(5)
    desk.requests.begin(Began(desk.names()))
    desk.die()
    second = end_of(generations[1])
    assert second is not None
    assert (second.reason, second.code) == ("failed", "upstream_error")
    assert second.error == (
        "The engine worker of cpu has died 2 times in a row while it ran this request (killed by SIGSEGV). "
        "It is not tried again."
    )
    assert [end_of(each) for each in generations[::2]] == [None, None]
    desk.restart()
    assert desk.names() == ["cpu/3"]
    desk.tokens(6, request="cpu/3")
    assert desk.names() == ["cpu/1"], "it has shown itself harmless, and takes its turn"


def test_a_death_whose_cause_is_found_counts_against_nobody_else(desk: Desk) -> None:
    """However many bad requests come, one after the other: a good one that runs beside all of them goes on."""
    good = desk.running(1)[0]
    for number in range(2, 6):
        desk.running(1)
        desk.die()
        desk.restart()
        desk.tokens(5)
        desk.requests.begin(Began(desk.names()))
        desk.die()
        desk.restart()
        desk.tokens(5)
        assert desk.names() == ["cpu/1"]
        assert f"cpu/{number}" not in desk.requests._live
    assert end_of(good) is None


def test_one_that_only_waited_is_not_taken_for_the_cause(desk: Desk) -> None:
    generation = desk.submit()
    for _ in range(5):
        desk.die()
        desk.restart()
    assert end_of(generation) is None


def test_one_that_gets_further_each_time_has_a_chance_more(desk: Desk) -> None:
    (generation,) = desk.running(1)
    for _ in range(policy.DEATHS_IN_ALL - 1):
        desk.tokens(5)
        desk.die()
        assert end_of(generation) is None
        desk.restart()
    desk.tokens(5)
    desk.die()
    assert end_of(generation) is not None


def test_a_model_that_does_not_come_back_ends_its_requests_only(desk: Desk) -> None:
    desk.restart("other")
    there, gone = desk.submit(model="other"), desk.submit()
    desk.die()
    desk.requests.drop("m", "No such file.")
    assert end_of(gone) == End("failed", "upstream_error", "No such file.")
    assert (end_of(there), desk.requests.choices) == (None, 1)


def test_without_another_process_everything_ends(desk: Desk) -> None:
    generations = desk.running(2)
    desk.die()
    desk.sent()
    desk.requests.lose("Gone.")
    assert [end_of(each) for each in generations] == [End("failed", "upstream_error", "Gone.")] * 2
    assert (desk.commands, desk.requests.choices) == ([], 0)


def test_losing_what_waits_behind_another_sends_nothing(desk: Desk) -> None:
    desk.running(3)
    desk.die()
    desk.restart()
    desk.sent()
    desk.requests.lose("Gone.")
    assert desk.commands == []


async def test_the_wait_for_another_process_is_bounded(autojump_clock: MockClock) -> None:
    desk = Desk()
    early, late = desk.running(2)
    desk.tokens(5)
    desk.die(trio.current_time() + 60)
    began = trio.current_time()
    assert await early.progress() == (ChoiceNews(0, (5,)),)
    (news,) = await early.progress()
    assert trio.current_time() - began == pytest.approx(60)
    assert news.end is not None
    assert (news.end.code, "no other one came in time" in (news.end.error or "")) == ("service_unavailable", True)
    assert end_of(late) is None, "who does not wait is not in a hurry"
    await late.progress()
    assert (desk.requests.choices, end_of(late) is None) == (0, False)


async def test_the_bound_holds_for_who_waits_already_and_not_once_the_model_serves(autojump_clock: MockClock) -> None:
    desk = Desk()
    first, second = desk.running(2)
    seen: list[ChoiceNews] = []

    async def read(generation: LiveGeneration) -> None:
        seen.extend(await generation.progress())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, first)
        await wait_all_tasks_blocked()
        desk.die(trio.current_time() + 60)
        await trio.sleep(59)
        desk.restart()
        await trio.sleep(500)
        assert (seen, end_of(second)) == ([], None)
        desk.tokens(5)
    assert seen == [ChoiceNews(0, (5,))]


async def test_deaths_without_a_token_in_between_do_not_prolong_the_wait(autojump_clock: MockClock) -> None:
    desk = Desk()
    generation = desk.submit()
    began = trio.current_time()
    for _ in range(5):
        desk.die(trio.current_time() + 60)
        desk.restart()
        await trio.sleep(10)
    desk.die(trio.current_time() + 60)
    await generation.progress()
    assert trio.current_time() - began == pytest.approx(60)


@define(eq=False)
class _Request:
    """One request of the machine: token number i of choice c is a function of both, as with a seed.

    Attributes:
        fatal: tokens of its first choice after which a process that runs it dies; ``None``: it is harmless.
    """

    generation: LiveGeneration
    name: str
    choices: int
    length: int
    fatal: int | None
    read: list[list[int]] = field(factory=list)
    ends: dict[int, End] = field(factory=dict)

    def token(self, index: int, position: int) -> int:
        return 1_000 * index + position

    def whole(self, index: int) -> list[int]:
        return [self.token(index, position) for position in range(self.length)]


@define(eq=False)
class _Process:
    """What an engine does: takes requests in, brings a token of each that runs, ends them, or dies."""

    room: int
    waiting: list[Submit] = field(factory=list)
    running: dict[str, dict[int, int]] = field(factory=dict)


class Deaths(RuleBasedStateMachine):
    """Processes come and go, some of them by a request: harmless ones get what they would have got of one process."""

    def __init__(self) -> None:
        super().__init__()
        self.commands: list[Command] = []
        self.requests = Requests("d", self._deliver)
        self.process: _Process | None = None
        self.all: dict[str, _Request] = {}
        self.innocent_deaths = 0
        self.start()

    def _deliver(self, command: Command) -> None:
        assert self.process is not None
        if isinstance(command, Submit):
            self.process.waiting.append(command)
        elif isinstance(command, Abort):
            self._abort(command)

    def _abort(self, abort: Abort) -> None:
        assert self.process is not None
        self.process.waiting = [each for each in self.process.waiting if each.request != abort.request]
        self.process.running.pop(abort.request, None)

    def start(self) -> None:
        self.process = _Process(room=3)
        self.requests.resume("m")

    @rule(n=st.integers(1, 3), length=st.integers(1, 6), fatal=st.none() | st.integers(0, 2))
    def submit(self, n: int, length: int, fatal: int | None) -> None:
        if self.process is None:
            return
        generation = self.requests.submit("m", [1], SamplingParams(n=n), "")
        name = f"d/{len(self.all) + 1}"
        self.all[name] = _Request(generation, name, n, length, fatal, [[] for _ in range(n)])

    @precondition(lambda self: self.process is not None)
    @rule()
    def step(self) -> None:
        process = self.process
        assert process is not None
        while process.waiting and len(process.running) < process.room:
            self._begin(process, process.waiting.pop(0))
        for name, positions in list(process.running.items()):
            if self.all[name].fatal is not None and positions.get(0, 99) >= (self.all[name].fatal or 0):
                self._die("itself")
                return
        for name in list(process.running):
            self._advance(process, name)

    def _begin(self, process: _Process, submit: Submit) -> None:
        known = {each.index: len(each.ids) for each in submit.progress}
        request = self.all[submit.request]
        for each in submit.progress:
            assert each.ids == request.whole(each.index)[: len(each.ids)]
        process.running[submit.request] = known or dict.fromkeys(range(request.choices), 0)
        self.requests.begin(Began([submit.request]))

    def _advance(self, process: _Process, name: str) -> None:
        request, positions = self.all[name], process.running[name]
        for index in list(positions):
            if positions[index] < request.length:
                token = request.token(index, positions[index])
                positions[index] += 1
                self.requests.extend(Tokens(1, [TokenDelta(name, [token], index, [TokenLogprob(-1.0)])]))
            if positions[index] == request.length:
                del positions[index]
                self.requests.finish(Finished(name, "length", 1, request.length, index))
        if not positions:
            process.running.pop(name, None)

    @precondition(lambda self: self.process is not None and self.innocent_deaths < policy.DEATHS - 1)
    @rule()
    def kill(self) -> None:
        self.innocent_deaths += 1
        self._die("from outside")

    def _die(self, reason: str) -> None:
        self.process = None
        self.requests.suspend(reason, math.inf)

    @precondition(lambda self: self.process is None)
    @rule()
    def restart(self) -> None:
        self.start()

    @precondition(lambda self: self.all)
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        self._read(self.all[data.draw(st.sampled_from(sorted(self.all)))])

    def _read(self, request: _Request) -> None:
        for index, choice in enumerate(request.generation._choices):
            if choice.has_news():
                news = choice.take(index)
                assert len(news.logprobs) == len(news.ids)
                request.read[index] += news.ids
                if news.end is not None:
                    request.ends[index] = news.end

    @precondition(lambda self: self.all)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.all)))
        closed = self.all[name]
        closed.generation.close()
        # It stays as fatal as it was: what it ended others with before it was closed may yet be held against these.
        self.all[name] = _Request(LiveGeneration(1, lambda _: None), name, 1, 0, closed.fatal, [[]])
        self.all[name].generation.finish(0, End("length"))

    @invariant()
    def what_was_read_is_the_beginning_of_the_whole(self) -> None:
        for request in self.all.values():
            for index, ids in enumerate(request.read):
                assert ids == request.whole(index)[: len(ids)]

    def teardown(self) -> None:
        for _ in range(400):
            if self.process is None:
                self.start()
            self.step()
        assert self.requests.choices == 0
        assert self.requests._live == {}
        for request in self.all.values():
            self._read(request)
            self._check(request)

    def _check(self, request: _Request) -> None:
        harmless = request.fatal is None or request.fatal >= request.length
        if harmless and self._deadly() <= 1:
            assert request.read == [request.whole(index) for index in range(request.choices)]
            assert {end.reason for end in request.ends.values()} == {"length"}
        elif not harmless and request.choices == 1:
            assert request.ends[0].reason == "failed"

    def _deadly(self) -> int:
        return sum(each.fatal is not None for each in self.all.values())


TestDeaths = Deaths.TestCase
TestDeaths.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
