"""Settings from the environment: which place they mean, how their values are read, and who is to blame."""

import pytest

from config import Address, Topology, TopologyError, parse

FLEET = """
[[neurons]]
name = "Beast-1"
[[neurons]]
name = "mini"
listen = "127.0.0.1:13132"
[[models]]
id = "Qwen/Qwen3-32B"
[aliases]
"helexa/large" = "Qwen/Qwen3-32B"
"""


def with_env(**env: str) -> Topology:
    return parse(FLEET, name="f", env={f"HELEXA__{name}": value for name, value in env.items()})


def problems_of(**env: str) -> str:
    with pytest.raises(TopologyError) as caught:
        with_env(**env)
    return str(caught.value)


def test_a_key_is_found_whatever_its_case() -> None:
    assert with_env(CORTEX__LISTEN="0.0.0.0:80").cortex.listen == Address("0.0.0.0", 80)
    assert with_env(cortex__Listen="0.0.0.0:80").cortex.listen == Address("0.0.0.0", 80)


def test_tables_the_file_leaves_out_are_made() -> None:
    assert with_env(ACTORS__TP_LEADER__RESTART__MAX="2").actors.tp_leader.restart.max == 2


@pytest.mark.parametrize("entry", ["1", "mini", "MINI"])
def test_an_entry_of_a_list_is_found_by_index_or_name(entry: str) -> None:
    topology = with_env(**{f"NEURONS__{entry}__LISTEN": "127.0.0.1:9"})
    assert [neuron.listen.port for neuron in topology.neurons] == [13131, 9]


@pytest.mark.parametrize("entry", ["Beast-1", "BEAST_1"])
def test_characters_a_variable_cannot_have_are_spelt_as_underscores(entry: str) -> None:
    assert with_env(**{f"NEURONS__{entry}__LISTEN": "127.0.0.1:9"}).neurons[0].listen.port == 9
    assert with_env(MODELS__QWEN_QWEN3_32B__QUANT="int8").models[0].quant == "int8"


def test_aliases_are_replaced_or_added() -> None:
    target = "Qwen/Qwen3-32B"
    assert with_env(ALIASES__HELEXA_LARGE=target).aliases == {"helexa/large": target}
    assert with_env(ALIASES__big=target).aliases == {"helexa/large": target, "big": target}


def test_values_are_toml_where_the_place_takes_it_and_text_elsewhere() -> None:
    assert with_env(BENCH__SAMPLES_PER_BUILD="7").bench.samples_per_build == 7
    assert with_env(ENTITLEMENTS__REQUIRE_AUTH="true").entitlements.require_auth is True
    assert with_env(NEURONS__0__DEVICES='["cpu"]').neurons[0].devices == ("cpu",)
    assert with_env(MODELS__0__COST="{ input = 2 }").models[0].cost.input == 2.0
    assert with_env(BENCH__INTERVAL="1h").bench.interval == with_env(BENCH__INTERVAL='"1h"').bench.interval
    assert with_env(NEURONS__0__NAME="5").neurons[0].name == "5"
    assert with_env(NEURONS__0__NAME="true").neurons[0].name == "true"


def test_a_whole_list_can_be_replaced_and_then_changed() -> None:
    topology = with_env(NEURONS='[{ name = "x" }]', NEURONS__X__DEVICES='["cpu"]')
    assert [(neuron.name, neuron.devices) for neuron in topology.neurons] == [("x", ("cpu",))]


def test_other_variables_are_nobodys_business() -> None:
    assert parse("", env={"HELEXA_SECRET": "x", "HELEXA_URL": "y", "PATH": "z"}) == Topology()


def test_the_environment_counts_only_where_it_is_given() -> None:
    assert parse("") == Topology()


def test_a_line_end_cannot_smuggle_in_another_key() -> None:
    assert problems_of(BENCH__SAMPLES_PER_BUILD="7\nx = 1") == (
        'HELEXA__BENCH__SAMPLES_PER_BUILD: bench.samples_per_build: "7\\nx = 1" is not a whole number (such as 5)'
    )


@pytest.mark.parametrize(
    ("variable", "value", "answer"),
    [
        ("CORTEX__LISTN", "x", 'cortex.listn: is not a known key (did you mean "listen"?)'),
        ("CORTEX", "x", 'cortex: "x" is not a table (a table: { key = value })'),
        (
            "CORTEX__",
            "x",
            (
                'cortex."": is not a known key (known here: host, listen, metrics_listen, database, secret_env, '
                "load_timeout, strip_billing, eviction, max_in_flight, max_queue, …)"
            ),
        ),
        ("CORTEX__LISTEN__PORT", "x", "cortex.listen.PORT: is inside a single value (set all of cortex.listen)"),
        (
            "NEURONS__0__DEVICES__0",
            "cpu",
            "neurons.0.devices.0: is inside a single value (set all of neurons.0.devices)",
        ),
        ("NEURONS__2__LISTEN", "x", "neurons.2: is not an entry of the list (known here: 0 or Beast-1, 1 or mini)"),
        ("ROUTES__0__PATTERN", "x", "routes.0: is not an entry of the list (the file declares no routes)"),
        ("BENCH__SAMPLES_PER_BUILD", "0", "bench.samples_per_build: 0 is out of range (from 1 to 9223372036854775807)"),
        ("BENCH__SAMPLES_PER_BUILD", "ten", 'bench.samples_per_build: "ten" is not a whole number (such as 5)'),
        ("NEURONS__MINI__DEVICES", '["cpu", 5]', 'neurons.1.devices.1: 5 is not a string (put it in quotes: "5")'),
        ("ALIASES__x", "nope", 'aliases.x: there is no model "nope" in the catalogue (known here: Qwen/Qwen3-32B)'),
    ],
)
def test_a_problem_names_the_variable(variable: str, value: str, answer: str) -> None:
    assert problems_of(**{variable: value}) == f"HELEXA__{variable}: {answer}"


def test_two_entries_of_one_name_cannot_be_told_apart() -> None:
    text = "neurons = [{ name = 'a' }, { name = 'a', listen = '127.0.0.1:1' }]"
    with pytest.raises(TopologyError) as caught:
        parse(text, env={"HELEXA__NEURONS__A__LISTEN": "127.0.0.1:2"})
    assert "neurons.A: is more than one entry (known here: 0 or a, 1 or a)" in str(caught.value)


def test_problems_of_the_file_and_of_the_environment_come_together() -> None:
    with pytest.raises(TopologyError) as caught:
        parse("cortex = 5\n[bench]\nx = 1", name="f", env={"HELEXA__CORTEX__LISTEN": "y", "HELEXA__Z": "1"})
    assert [problem.file for problem in caught.value.problems] == ["HELEXA__Z", "f", "f"]
