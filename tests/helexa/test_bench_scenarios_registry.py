"""Scenarios by name, and how they are spelled."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.bench.measuring.facts import ModelFacts
from helexa.bench.scenarios import SCENARIOS, SUITES, Scenario, parse, suite
from helexa.bench.scenarios.chat import Chat
from helexa.bench.scenarios.embeddings import Embeddings
from helexa.bench.scenarios.long import Long
from helexa.bench.scenarios.poisson import Poisson
from helexa.bench.scenarios.prefix import Prefix
from helexa.bench.scenarios.throughput import Throughput

EVERY = [scenario for name in SUITES for scenario in suite(name)]
TINY = ModelFacts("helexa/tiny", context=2048, capabilities=("chat", "tool_call", "reasoning"))


def test_a_scenario_is_its_name_and_its_parameters() -> None:
    assert parse("chat:prompt_tokens=4096, output_tokens=64") == Chat(4096, 64)
    assert parse("poisson:rate=0.5") == Poisson(rate=0.5)
    assert parse("chat") == Chat() == parse("chat:")


@pytest.mark.parametrize("scenario", [*EVERY, *(kind() for kind in SCENARIOS.values())], ids=lambda each: each.spelled)
def test_every_scenario_is_spelled_as_it_is_read(scenario: Scenario) -> None:
    assert parse(scenario.spelled) == scenario
    assert hash(parse(scenario.spelled)) == hash(scenario)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("chatt", "There is no scenario 'chatt'; there are chat, throughput, poisson, prefix, "),
        ("", "There is no scenario ''"),
        ("chat:tokens=4", "chat has no parameter 'tokens'; it has prompt_tokens, output_tokens and requests."),
        ("chat:prompt_tokens", "chat: prompt_tokens has no value; write prompt_tokens=…."),
        ("chat:prompt_tokens=many", "chat: prompt_tokens has to be a whole number, not 'many'."),
        ("chat:prompt_tokens=1.5", "chat: prompt_tokens has to be a whole number, not '1.5'."),
        ("chat:prompt_tokens=", "chat: prompt_tokens has to be a whole number, not ''."),
        ("chat:prompt_tokens=3", "chat: prompt_tokens has to be a whole number of at least 16, not 3."),
        ("chat:requests=1,requests=2", "chat: requests is given twice."),
        ("poisson:rate=nan", "poisson: rate has to be a number, not 'nan'."),
        ("poisson:rate=inf", "poisson: rate has to be a number, not 'inf'."),
        ("poisson:rate=-1", "poisson: rate has to be a number above 0 and at most 10000, not -1.0."),
        ("prefix:share=1.5", "prefix: share has to be a number above 0 and at most 1, not 1.5."),
    ],
)
def test_what_is_misspelled_is_told_in_a_sentence(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
        parse(text)


@given(st.text(alphabet="chatprefix:=,._-0123456789 e", max_size=30))
def test_any_text_is_a_scenario_or_a_sentence(text: str) -> None:
    try:
        found = parse(text)
    except ValueError as error:
        assert str(error).endswith(".")  # noqa: PT017 - it is only one of two ends
    else:
        assert found.name in SCENARIOS


def test_suites_have_names_and_no_others() -> None:
    with pytest.raises(ValueError, match="There is no suite 'slow'; there are quick, standard and full"):
        suite("slow")
    assert set(suite("standard")) <= set(suite("full"))


@pytest.mark.parametrize("name", SUITES)
def test_no_cell_is_twice_in_a_suite(name: str) -> None:
    assert len(set(suite(name))) == len(suite(name))


@pytest.mark.parametrize("kind", SCENARIOS.values())
def test_metrics_have_names_of_their_own_and_one_at_least_counts(kind: type[Scenario]) -> None:
    names = [metric.name for metric in kind.metrics]
    assert len(set(names)) == len(names)
    assert any(metric.primary for metric in kind.metrics)


def test_the_quick_suite_fits_the_bundled_model() -> None:
    assert [scenario.unfit(TINY) for scenario in suite("quick")] == [None] * len(suite("quick"))


@pytest.mark.parametrize(
    ("scenario", "model", "said"),
    [
        (Chat(4096, 64), TINY, "It takes 4,160 tokens, and the model's context has 2,048."),
        (Throughput(prompt_tokens=2048), TINY, "It takes 2,112 tokens"),
        (Poisson(prompt_tokens=2048), TINY, "It takes 2,112 tokens"),
        (Prefix(prompt_tokens=2048), TINY, "It takes 2,052 tokens"),
        (Embeddings(), TINY, "The model makes no embeddings."),
        (Long(), ModelFacts("m", context=256), "A context of 256 tokens is too short to be called long."),
        (Long(), ModelFacts("m"), "The target does not tell how long the model's context is."),
        (parse("tools"), ModelFacts("m", capabilities=("chat",)), "The model is not made for tool calls."),
        *(
            (parse(name), ModelFacts("m", capabilities=("embeddings",)), "The model makes embeddings, and no text.")
            for name in ("chat", "throughput", "poisson", "prefix", "long", "structured", "quality")
        ),
    ],
)
def test_a_model_that_is_not_for_a_scenario_has_its_reason(scenario: Scenario, model: ModelFacts, said: str) -> None:
    assert str(scenario.unfit(model)).startswith(said)


@pytest.mark.parametrize("kind", [kind for kind in SCENARIOS.values() if kind is not Long])
def test_a_model_of_which_nothing_is_known_is_tried(kind: type[Scenario]) -> None:
    assert kind().unfit(ModelFacts("m")) is None


def test_the_context_of_a_model_that_is_not_loaded_may_become_known() -> None:
    assert Long().unfit(ModelFacts("m", "unloaded")) is None


def test_a_long_prompt_leaves_room_for_the_answer() -> None:
    assert Long(fill=1.0, output_tokens=32).prompt_tokens(2048) + 32 == 2048
    assert Long(fill=1.0, most=1000).prompt_tokens(2048) == 1000
