"""The benchmark loop as a topology has it: what it may say, what an edit changes, what its listener means for keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import Bench, BenchTarget, Hours, Topology, TopologyError, diff, dumps, parse

TARGET = '[[bench.targets]]\nname = "vllm"\nbase_url = "http://lab:8000/v1"\nmodels = ["m"]\n'


def problems_of(text: str) -> str:
    with pytest.raises(TopologyError) as caught:
        parse(text, name="f")
    return str(caught.value)


def test_without_the_table_there_is_no_loop() -> None:
    assert parse("").bench is None
    assert not [each for each in Topology().listeners() if each.path[0] == "bench"]


def test_an_empty_table_is_a_loop_with_its_defaults_and_is_written_as_one() -> None:
    topology = parse("[bench]")
    assert topology.bench == Bench()
    assert dumps(topology) == "[bench]\n"


def test_a_setting_of_the_environment_makes_the_table() -> None:
    topology = parse("", env={"HELEXA__BENCH__HOURS": "01:00-06:00"})
    assert topology.bench == Bench(hours=Hours(60, 360))


def test_a_target_outside_is_read() -> None:
    bench = parse(TARGET + 'api_key_env = "K"').bench
    assert bench is not None
    assert bench.targets == (BenchTarget("vllm", "http://lab:8000/v1", ("m",), "K"),)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('[bench]\nhours = "1-6"', '"1-6" is not a part of the day (two times of the day, such as "01:00-06:00" or'),
        ("[bench]\nhours = 5", "5 is not a part of the day"),
        ('[bench]\nhours = "01:60-02:00"', "has a time that no clock shows"),
        ('[bench]\nhours = "24:00-02:00"', "has a time that no clock shows"),
        ('[bench]\nhours = "02:00-24:01"', "has a time that no clock shows"),
        ('[bench]\nhours = "02:00-02:00"', "ends where it begins (leave it out for the whole day)"),
        ('[bench]\nsuite = "all"', '"all" is not one of the choices (one of "quick", "standard", "full")'),
        ("[bench]\nrounds = 0", "bench.rounds: 0 is out of range (from 1 to 1000)"),
        ('[bench]\nretention = "0s"', "bench.retention: must be more than zero"),
        ('[bench]\ndatabase = "mysql://u:hunter2@h/d"', "bench.database: is not a database URL"),
        (TARGET.replace('models = ["m"]', "models = []"), "bench.targets.0.models: is empty"),
        (TARGET.replace('models = ["m"]', ""), "bench.targets.0.models: is missing"),
        (TARGET.replace("http://lab", "http://u:pw@lab"), "bench.targets.0.base_url: is not an http or https URL"),
        (TARGET + TARGET, 'bench.targets.1.name: "vllm" is already the name of entry 0'),
        (TARGET + '[[neurons]]\nname = "vllm"', 'bench.targets.0.name: "vllm" is already the name of a neuron'),
        ('[bench]\nlisten = "127.0.0.1:31313"', 'bench.listen: "127.0.0.1:31313" is taken by cortex.listen'),
        ('[bench]\nlisten = "127.0.0.1:13131"\n[[neurons]]\nname = "n"', "is taken by neurons.0.listen"),
    ],
)
def test_a_mistake_is_told_with_what_to_do(text: str, answer: str) -> None:
    said = problems_of(text)
    assert answer in said
    assert "hunter2" not in said
    assert "pw" not in said


def test_a_loop_that_others_reach_makes_the_fleet_ask_for_keys() -> None:
    assert not parse("[bench]").auth_required
    assert parse('[bench]\nlisten = "0.0.0.0:31315"').auth_required
    assert not parse('[bench]\nlisten = "0.0.0.0:31315"\n[entitlements]\nrequire_auth = false').auth_required


def test_an_edit_takes_effect_at_once() -> None:
    changes = diff(parse('[bench]\nsuite = "quick"\n' + TARGET), parse('[bench]\nsuite = "full"\nrounds = 3'))
    assert changes.lines() == ["~ bench.rounds: default → 3", '~ bench.suite: default → "full"', "- bench.targets.vllm"]
    assert {each.when for each in changes.entries} == {"at once"}


def test_the_table_itself_comes_and_goes() -> None:
    assert diff(parse(""), parse("[bench]")).lines() == ["+ bench"]
    assert diff(parse("[bench]"), parse("")).lines() == ["- bench"]


def test_a_password_of_its_database_is_not_shown() -> None:
    changed = diff(parse("[bench]"), parse('[bench]\ndatabase = "postgresql://u:hunter2@h/d"'))
    assert "hunter2" not in "".join(changed.lines())
    assert "hunter2" not in repr(parse('[bench]\ndatabase = "postgresql://u:hunter2@h/d"'))


@given(st.integers(0, 1439), st.integers(0, 1440), st.integers(0, 1439))
def test_hours_are_read_back_and_split_the_day_in_two(begin: int, end: int, minute: int) -> None:
    if begin == end:
        return
    hours = Hours(begin, end)
    assert Hours.parse(str(hours)) == hours
    assert hours.contains(begin)
    walked = (minute - begin) % 1440 < ((end - begin) % 1440 or 1440)
    assert hours.contains(minute) == walked
