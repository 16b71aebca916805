"""Measuring real servers that answer as they should: what is asked, in which order, and what is kept."""

import math
from collections.abc import Sequence

import pytest
import trio
from bench_targets import MODEL, Canned, Reply, as_json, count

from helexa.bench.measuring.runner import Task, measure, new_batch
from helexa.bench.records import Run, Sample
from helexa.bench.scenarios import Scenario, parse

CHAT = "/v1/chat/completions"
SHORT = "chat:prompt_tokens=64,output_tokens=4,requests=2"


class Notes:
    """Writes down what a watch is told."""

    def __init__(self) -> None:
        self.said: list[tuple[object, ...]] = []

    def began(self, task: Task, round: int) -> None:  # noqa: A002 - as watches have it
        self.said.append(("began", task.scenario.name, round))

    def sampled(self, task: Task, samples: Sequence[Sample]) -> None:
        self.said.append(("sampled", task.scenario.name, len(samples)))

    def ended(self, task: Task, run: Run) -> None:
        self.said.append(("ended", task.scenario.name, run.outcome))


@pytest.fixture
async def server(nursery: trio.Nursery) -> Canned:
    return await Canned().start(nursery)


async def run_of(server: Canned, spelled: str, kind: str = "openai", rounds: int = 2) -> Run:
    task = Task(server.access(kind), MODEL, parse(spelled))  # type: ignore[arg-type] - tests spell kinds
    (found,) = await measure([task], rounds, batch="b")
    return found


async def test_a_run_is_what_was_measured_and_where(server: Canned) -> None:
    found = await run_of(server, SHORT)
    assert (found.outcome, found.reason, found.id, found.batch) == ("ok", "", "b-0000", "b")
    assert (found.cell.target, found.cell.model, found.cell.scenario) == ("box", MODEL, "chat")
    assert found.cell.parameters == {"prompt_tokens": 64, "output_tokens": 4, "requests": 2}
    assert [sample.round for sample in found.samples] == [0, 0, 1, 1]
    assert found.seconds > 0
    assert all(sample.at >= found.started_at for sample in found.samples)


@pytest.mark.parametrize("name", ["chat", "throughput", "poisson:rate=1000", "prefix", "long", "embeddings", "quality"])
async def test_every_scenario_gives_values_of_all_its_metrics(server: Canned, name: str) -> None:
    server.pause = 0.0001  # else all tokens may come at once, and there is no rate
    found = await run_of(server, name, rounds=1)
    assert (found.outcome, found.reason) == ("ok", "")
    for metric in found.metrics:
        (value, *_) = found.values(metric.name)
        assert math.isfinite(value), metric


async def test_prompts_have_their_length_and_none_is_asked_twice(server: Canned) -> None:
    await run_of(server, "chat:prompt_tokens=100,output_tokens=4", rounds=3)
    asked = [body["messages"][0]["content"] for body in server.bodies(CHAT) if body["max_tokens"] == 4][1:]
    sizes = {len(text.split()) + 3 for text in asked if text != "Good morning."}
    assert sizes == {100}
    assert len(set(asked)) == len(asked)
    assert len({text.split()[0] for text in asked}) > 3


async def test_prompts_differ_from_run_to_run(server: Canned) -> None:
    for batch in ("one", "two"):
        await measure([Task(server.access(), MODEL, parse(SHORT))], 2, batch=batch)
    measured = [body["messages"][0]["content"] for body in server.bodies(CHAT) if body.get("stream")]
    long = [text for text in measured if text != "Good morning."]
    assert len(set(long)) == len(long)


async def test_rounds_are_outside_and_their_order_alternates(server: Canned) -> None:
    notes = Notes()
    tasks = [Task(server.access(), MODEL, parse(name)) for name in (SHORT, "quality")]
    await measure(tasks, 3, notes, batch="b")
    assert [(name, number) for what, name, number in notes.said if what == "began"] == [
        ("chat", 0),
        ("quality", 0),
        ("quality", 1),
        ("chat", 1),
        ("chat", 2),
        ("quality", 2),
    ]
    assert [each for each in notes.said if each[0] == "ended"] == [("ended", "chat", "ok"), ("ended", "quality", "ok")]


async def test_a_model_is_warmed_up_once_for_each_kind_of_request(server: Canned) -> None:
    tasks = [Task(server.access(), MODEL, parse(name)) for name in (SHORT, "throughput:clients=2", "quality")]
    await measure(tasks, 1, batch="b")
    assert sum(body["messages"][0]["content"] == "Good morning." for body in server.bodies(CHAT)) == 1


async def test_clients_of_a_closed_loop_ask_at_the_same_time(server: Canned) -> None:
    server.pause = 0.001
    found = await run_of(server, "throughput:clients=5,output_tokens=8,requests=2", rounds=1)
    assert server.most == 5
    assert len([body for body in server.bodies(CHAT) if body["max_tokens"] == 8]) == 10
    assert found.values("failed") == [0.0]


async def test_an_open_loop_does_not_wait_for_answers(server: Canned) -> None:
    server.pause = 0.01
    await run_of(server, "poisson:rate=2000,requests=8,output_tokens=4", rounds=1)
    assert server.most > 4


async def test_a_prefix_is_shared_within_a_round_alone(server: Canned) -> None:
    await run_of(server, "prefix:prompt_tokens=103,share=0.8,warm_requests=2", rounds=2)
    asked = [body["messages"][0]["content"].split() for body in server.bodies(CHAT) if body.get("stream")][1:]
    beginnings = [tuple(words[:80]) for words in asked]
    assert [beginnings.count(each) for each in dict.fromkeys(beginnings)] == [3, 3, 3]
    assert len({tuple(words) for words in asked}) == len(asked)


async def test_a_server_that_counts_tokens_is_not_asked_to_answer_for_that(server: Canned) -> None:
    async def tokenize(_server: Canned, body: dict[str, object]) -> Reply:
        return as_json({"count": count(body)})

    server.routes["/tokenize"] = tokenize
    found = await run_of(server, SHORT)
    assert found.outcome == "ok"
    assert not [body for body in server.bodies(CHAT) if not body.get("stream")]


async def test_a_length_is_looked_for_once(server: Canned) -> None:
    tasks = [Task(server.access(), MODEL, parse(name)) for name in (SHORT, "throughput:prompt_tokens=64,clients=2")]
    await measure(tasks, 1, batch="b")
    counted = [body for body in server.bodies(CHAT) if not body.get("stream")]
    await measure(tasks[:1], 1, batch="c")
    assert len([body for body in server.bodies(CHAT) if not body.get("stream")]) == 2 * len(counted)


async def test_the_build_is_the_target_s_and_the_model_s(server: Canned) -> None:
    found = await run_of(server, SHORT, "neuron")
    assert found.build.name == "helexa 0.1.0 ac1aa60"
    assert (found.build.details["commit"], found.build.details["on"]) == ("ac1aa60c2f", "NVIDIA RTX")


async def test_energy_per_token_is_told_where_devices_tell_their_power(server: Canned) -> None:
    server.power = 200.0
    found = await run_of(server, SHORT, "neuron")
    assert found.metrics[-1].name == "energy"
    for each in (0, 1):
        of_round = [sample for sample in found.samples if sample.round == each]
        seconds = sum(sample.values["total"] for sample in of_round)
        (energy,) = {sample.values["energy"] for sample in of_round}
        # 8 tokens in the round; the rest of it, and the looks around it, take a little
        assert 200 * seconds / 8 <= energy <= 200 * (seconds + 0.5) / 8


async def test_where_they_do_not_there_is_none(server: Canned) -> None:
    found = await run_of(server, SHORT, "neuron")
    assert "energy" not in {metric.name for metric in found.metrics}


async def test_tasks_of_a_target_share_what_is_known_of_it(server: Canned) -> None:
    await measure([Task(server.access("neuron"), MODEL, parse(SHORT))] * 3, 1, batch="b")
    assert len(server.bodies("/version")) == 1


async def test_no_tasks_are_no_runs() -> None:
    assert await measure([], 3, batch="b") == []


async def test_a_run_that_is_cancelled_is_told_with_what_it_has(server: Canned) -> None:
    """Ctrl-C ends the program, and what took an hour to measure is not lost."""
    kept: list[Run] = []

    class Stop(Notes):
        def ended(self, task: Task, run: Run) -> None:
            kept.append(run)
            super().ended(task, run)

        def began(self, task: Task, round: int) -> None:  # noqa: A002 - as watches have it
            if round == 2 and task.scenario.name == "quality":
                scope.cancel()

    tasks = [Task(server.access(), MODEL, parse(name)) for name in (SHORT, "quality", "embeddings")]
    with trio.CancelScope() as scope:
        await measure(tasks, 5, Stop(), batch="b")
    assert [(run.cell.scenario, run.outcome, len(run.samples)) for run in kept] == [
        ("chat", "ok", 6),
        ("quality", "ok", 2),
        ("embeddings", "ok", 2),
    ]
    assert {(run.broken_off, run.reason) for run in kept} == {(True, "Measuring was broken off.")}


async def test_a_run_that_had_all_its_rounds_is_whole_though_others_of_its_batch_are_cancelled(server: Canned) -> None:
    kept: list[Run] = []

    class Stop(Notes):
        def ended(self, task: Task, run: Run) -> None:
            kept.append(run)
            scope.cancel()
            super().ended(task, run)

    tasks = [Task(server.access(), MODEL, parse(name)) for name in ("quality", "embeddings")]
    with trio.CancelScope() as scope:
        await measure(tasks, 3, Stop(), batch="b")
    assert [(run.cell.scenario, len(run.samples), run.broken_off) for run in kept] == [
        ("quality", 3, False),
        ("embeddings", 2, True),
    ]


async def test_one_that_had_nothing_yet_has_made_way(server: Canned) -> None:
    notes = Notes()
    with trio.CancelScope() as scope:
        scope.cancel()
        await measure([Task(server.access(), MODEL, parse(SHORT))], 5, notes, batch="b")
    assert notes.said == [("ended", "chat", "yielded")]


def test_batches_sort_in_the_order_in_which_they_were_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [new_batch() for _ in range(50)]
    assert (found == sorted(found), len(set(found))) == (True, 50)
    monkeypatch.setattr("helexa.bench.measuring.runner.time_ns", lambda: 0)  # somebody has set the clock
    assert new_batch() > found[-1]


async def test_runs_of_a_batch_sort_in_their_order(server: Canned) -> None:
    found = await measure([Task(server.access(), MODEL, parse("quality"))] * 12, 1, batch=new_batch())
    assert [run.id for run in found] == sorted(run.id for run in found)


async def test_a_scenario_of_one_s_own_needs_no_more_than_a_class(server: Canned) -> None:
    class Own(Scenario):
        name = "own"
        title = "Own"
        metrics = parse(SHORT).metrics

        async def round(self, session: object, round: int) -> Sequence[Sample]:  # noqa: A002 - as scenarios have it
            return [session.sample(round, {"ttft": 1.0, "decode": None})]  # type: ignore[attr-defined]

    (found,) = await measure([Task(server.access(), MODEL, Own())], 2, batch="b")
    assert ([dict(sample.values) for sample in found.samples], found.cell.parameters) == ([{"ttft": 1.0}] * 2, {})


async def test_a_model_that_a_gateway_loads_first_is_known_once_it_is_loaded(server: Canned) -> None:
    async def listed(server: Canned, _body: dict[str, object]) -> Reply:
        loaded = bool(server.bodies(CHAT))
        limit = {"context": 1000, "input": 1000, "output": 1000} if loaded else None
        return as_json({"data": [{"id": MODEL, "status": "loaded" if loaded else "unloaded", "limit": limit}]})

    server.routes["/v1/models"] = listed
    tasks = [Task(server.access("cortex"), MODEL, parse(name)) for name in ("long", "chat:prompt_tokens=4096")]
    found = await measure(tasks, 1, batch="b")
    assert [(run.outcome, run.reason) for run in found] == [
        ("ok", ""),
        ("skipped", "It takes 4,160 tokens, and the model's context has 1,000."),
    ]
    longest = max(len(body["messages"][0]["content"].split()) for body in server.bodies(CHAT))
    assert longest + 3 == 1000 * 0.9 - 32
