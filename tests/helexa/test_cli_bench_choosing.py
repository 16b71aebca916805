"""Which models of which targets are measured."""

from pathlib import Path

import pytest
from attrs import evolve

from config import DEMO
from helexa.bench.measuring.targets import Access, Facts, ModelFacts
from helexa.bench.records import Build, Target
from helexa.cli.bench.choosing import Choice, Known, choose
from helexa.cli.bench.options import Server
from helexa.cli.bench.output import Failure
from helexa.cli.bench.ways import Wanted, ways


def known(name: str, kind: str, *models: str, aliases: dict[str, str] | None = None, **absent: str) -> Known:
    target = Target(name, kind, f"http://{name}")  # type: ignore[arg-type]
    facts = [ModelFacts(model) for model in models] + [ModelFacts(model, status) for model, status in absent.items()]
    return Known(Access(target), Facts(target, Build(), tuple(facts)), aliases or {})


def names(choice: Choice) -> list[tuple[str, str]]:
    return [(access.target.name, model) for access, model in choice.pairs]


FLEET = known("fleet", "cortex", "a/x", "b/y", aliases={"x": "a/x"}, idle="unloaded")
NEURON = known("beast", "neuron", "a/x", aliases={"x": "a/x"}, idle="unloaded")
VLLM = known("vllm", "openai", "a/x")


def test_without_names_it_is_what_is_loaded() -> None:
    assert names(choose([FLEET, NEURON, VLLM], ())) == [
        ("fleet", "a/x"),
        ("fleet", "b/y"),
        ("beast", "a/x"),
        ("vllm", "a/x"),
    ]


def test_an_alias_that_is_listed_like_a_model_is_not_measured_beside_it() -> None:
    listed = evolve(FLEET, facts=evolve(FLEET.facts, models=(*FLEET.facts.models, ModelFacts("x"))))
    assert names(choose([listed], ())) == [("fleet", "a/x"), ("fleet", "b/y")]
    assert names(choose([listed], ["x"])) == [("fleet", "a/x")]


def test_names_and_aliases_mean_one_model_once() -> None:
    assert names(choose([FLEET], ["x", "a/x", "x"])) == [("fleet", "a/x")]


def test_a_gateway_loads_what_is_asked_for_and_a_neuron_does_not() -> None:
    choice = choose([FLEET, NEURON], ["idle"])
    assert names(choice) == [("fleet", "idle")]
    assert choice.troubles == ["'beast' has not loaded 'idle': 'helexa load idle --node beast' does."]


def test_a_model_that_only_one_target_has_is_no_trouble() -> None:
    assert choose([FLEET, VLLM], ["b/y"]).troubles == []


def test_a_model_that_none_has_is_said_once_with_what_there_is() -> None:
    choice = choose([FLEET, VLLM], ["z", "a/x"])
    assert names(choice) == [("fleet", "a/x"), ("vllm", "a/x")]
    assert choice.troubles == ["no target has a model 'z'; there is a/x, b/y, idle."]


def test_of_an_outside_server_with_many_models_none_is_taken_unasked() -> None:
    many = known("cloud", "openai", *(f"m{number}" for number in range(12)))
    choice = choose([many], ())
    assert names(choice) == []
    assert choice.troubles == [
        "'cloud' has 12 models: m0, m1, m2, m3, m4, m5, m6, m7 and 4 more. Say which with --model."
    ]
    assert names(choose([many], ["m3"])) == [("cloud", "m3")]


def test_a_target_with_nothing_loaded_says_what_to_do() -> None:
    [trouble] = choose([known("fleet", "cortex", idle="unloaded")], ()).troubles
    assert trouble == "'fleet' has no model loaded: name one with --model, or load one with 'helexa load'."
    assert choose([known("o", "openai")], ()).troubles == ["'o' has no model loaded: name one with --model."]


def test_of_targets_that_are_all_silent_no_model_is_missed() -> None:
    assert choose([], ["x"]) == Choice([], [])


def test_a_topologys_neurons_are_reached_with_its_secret_and_know_its_aliases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELEXA_SECRET", "hunter2")
    [way] = ways(Wanted(None, topology=DEMO))
    assert (way.access.target.name, way.access.target.kind) == ("local", "neuron")
    assert way.aliases == {"tiny": "helexa/tiny"}
    assert "Bearer hunter2" in way.access.headers.values()
    assert "hunter2" not in repr(way)


def test_the_fleets_url_may_end_with_its_version() -> None:
    [way] = ways(Wanted("http://h:1/v1/", "hunter2"))
    assert way.access.target == Target("fleet", "cortex", "http://h:1")
    assert "hunter2" not in repr(way) + repr(Wanted("http://h:1", "hunter2"))


def test_an_outside_server_gets_its_key_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "hunter2")
    wanted = Wanted(None, servers=(Server("a", "http://a"), Server("b", "http://b")), keys={"b": "SOME_KEY"})
    first, second = ways(wanted)
    assert not any("hunter2" in value for value in first.access.headers.values())
    assert "Bearer hunter2" in second.access.headers.values()


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted("ftp://me:hunter2@h"), "is not an http or https URL"),
        (Wanted("http://h", name="a", servers=(Server("a", "http://a"),)), "two targets are called 'a'"),
        (Wanted(None, keys={"a": "HOME"}), "--target-key-env names 'a', and no --target has that name."),
        (Wanted(None, servers=(Server("a", "http://a"),), keys={"a": "NOT_SET_AT_ALL"}), "NOT_SET_AT_ALL is not set"),
        (Wanted(None, topology=Path("/nothing/topology.toml")), "1 problem in /nothing/topology.toml"),
    ],
)
def test_targets_that_cannot_be_are_wrong_usage(wanted: Wanted, said: str) -> None:
    with pytest.raises(Failure) as failure:
        ways(wanted)
    assert said in str(failure.value)
    assert "hunter2" not in str(failure.value)
    assert failure.value.code == 2


def test_a_topology_without_neurons_is_wrong_usage(tmp_path: Path) -> None:
    file = tmp_path / "empty.toml"
    file.write_text("")
    with pytest.raises(Failure) as failure:
        ways(Wanted(None, topology=file))
    assert str(failure.value) == f"{file} has no neurons."


def test_certificates_that_cannot_be_read_are_wrong_usage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HELEXA_CA", str(tmp_path / "nothing.pem"))
    with pytest.raises(Failure, match="HELEXA_CA") as failure:
        ways(Wanted("https://h"))
    assert failure.value.code == 2
