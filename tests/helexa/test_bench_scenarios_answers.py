"""What scenarios make of answers: pure functions of theirs."""

import math
from itertools import pairwise
from typing import Any

import pytest

from helexa.bench.client.exchanges import TargetError
from helexa.bench.measuring.timing import Timing
from helexa.bench.scenarios import Skipped
from helexa.bench.scenarios.embeddings import check
from helexa.bench.scenarios.load import Expected, values, why_failed
from helexa.bench.scenarios.passages import PASSAGES
from helexa.bench.scenarios.poisson import arrivals
from helexa.bench.scenarios.quality import prompt_logprobs
from helexa.bench.scenarios.structured import is_valid
from helexa.bench.scenarios.tools import valid_call


def answered(since: float, ttft: float, tokens: int = 11, tpot: float = 0.1) -> Timing:
    first = since + ttft
    last = first + (tokens - 1) * tpot
    return Timing(since, first, last, last, (tpot,), 5, tokens)


def test_rates_are_over_the_time_of_all_requests_together() -> None:
    found = values([answered(0.0, 1.0), answered(0.0, 1.0), answered(6.0, 1.0)], Expected(1.0, 0.11))
    assert (found["rate"], found["requests"], found["goodput"]) == pytest.approx((33 / 8, 3 / 8, 3 / 8))
    assert (found["ttft_p50"], found["tpot_p50"], found["failed"]) == pytest.approx((1.0, 0.1, 0.0))


@pytest.mark.parametrize("slow", [answered(0.0, 1.1, tpot=0.09), answered(0.0, 0.1, tpot=0.2)])
def test_requests_that_were_too_slow_are_no_part_of_the_goodput(slow: Timing) -> None:
    found = values([answered(0.0, 1.0, tpot=0.1), slow], Expected(1.0, 0.11))
    assert found["goodput"] == pytest.approx((found["requests"] or 0) / 2)


def test_requests_that_failed_are_in_no_rate() -> None:
    found = values([answered(0.0, 1.0), "gone", "gone", "gone"], Expected(1.0, 1.0))
    assert (found["failed"], found["requests"]) == (0.75, pytest.approx(1 / 2))


def test_where_all_failed_the_first_reason_is_told() -> None:
    assert why_failed(["gone.", "lost."]) == "None of 2 requests went well: gone."
    assert why_failed(["gone.", answered(0.0, 1.0)]) is None


def test_arrivals_are_random_and_always_the_same() -> None:
    found = arrivals(4.0, 4001, 1)
    assert (found[0], found == sorted(found), len(found)) == (0.0, True, 4001)
    assert found[-1] == pytest.approx(1000, rel=0.1)
    assert found == arrivals(4.0, 4001, 1) != arrivals(4.0, 4001, 2)
    gaps = [later - earlier for earlier, later in pairwise(found)]
    mean = sum(gaps) / len(gaps)
    deviation = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert deviation == pytest.approx(mean, rel=0.1)  # as only those of a Poisson process


def call(name: str, arguments: Any, count: int = 1) -> dict[str, Any]:
    calls = [{"function": {"name": name, "arguments": arguments}}] * count
    return {"choices": [{"message": {"tool_calls": calls}}]}


def test_a_call_is_valid_if_it_is_as_the_function_wants() -> None:
    assert valid_call(call("set_timer", '{"minutes": 12}')) == "set_timer"
    assert valid_call(call("get_weather", '{"city": "Lima", "unit": "celsius"}')) == "get_weather"


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"choices": []},
        {"choices": [{"message": {"content": "no"}}]},
        call("fly", "{}"),
        call("set_timer", '{"minutes": 12'),
        call("set_timer", {"minutes": 12}),
        call("set_timer", '{"minutes": "12"}'),
        call("set_timer", '{"minutes": true}'),
        call("set_timer", '{"minutes": 1, "seconds": 2}'),
        call("set_timer", "{}"),
        call("set_timer", "[]"),
        call("set_timer", '{"minutes": 12}', count=2),
        call("get_weather", '{"city": "Lima", "unit": "kelvin"}'),
        call("switch_light", '{"room": 5, "on": true}'),
    ],
)
def test_other_calls_are_not(answer: dict[str, Any]) -> None:
    assert valid_call(answer) is None


def said(text: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"content": text}}]}


def test_an_answer_is_valid_if_it_has_the_shape() -> None:
    assert is_valid(said('{"fruit": "fig", "count": 1, "ripe": true, "for": "lunch"}'))
    for other in (
        '{"fruit": "kiwi", "count": 1, "ripe": true, "for": "lunch"}',
        '{"fruit": "fig", "count": 1.5, "ripe": true, "for": "lunch"}',
        '{"fruit": "fig", "count": 1, "ripe": 1, "for": "lunch"}',
        '{"fruit": "fig", "count": 1, "ripe": true}',
        '{"fruit": "fig", "count": 1, "ripe"',
        "null",
        None,
        7,
    ):
        assert not is_valid(said(other))
    assert not is_valid({})


def test_vectors_are_one_for_each_text() -> None:
    check({"data": [{"embedding": [0.0, 1]}, {"embedding": [0.5, 0.5]}]}, 2)


@pytest.mark.parametrize(
    "vectors",
    [[], [[1.0]], [[1.0], [1.0, 2.0]], [[0.0], [1.0]], [["a"], ["b"]], [None, None], [[math.nan], [1.0]], [[], []]],
)
def test_what_are_no_vectors_is_not_believed(vectors: list[Any]) -> None:
    with pytest.raises(TargetError) as caught:
        check({"data": [{"embedding": each} for each in vectors]}, 2)
    assert caught.value.code == "lying"


def repeated(told: Any, prompt: int = 3) -> dict[str, Any]:
    used = {"prompt_tokens": prompt, "completion_tokens": 1}
    return {"choices": [{"logprobs": {"token_logprobs": told}}], "usage": used}


def test_the_likelihood_is_of_the_prompt_and_not_of_what_was_generated() -> None:
    assert prompt_logprobs(repeated([None, -1.0, -2.0, -9.0])) == [-1.0, -2.0]
    assert prompt_logprobs(repeated([-0.5, -1.0, -2.0, -9.0])) == [-0.5, -1.0, -2.0]


@pytest.mark.parametrize(
    "told", [[None, 0.5, -1.0], [None, "a", -1.0], [None, None, -1.0], [], [None], [None, math.nan, 0]]
)
def test_what_is_no_likelihood_is_not_believed(told: list[Any]) -> None:
    with pytest.raises(TargetError) as caught:
        prompt_logprobs(repeated(told))
    assert caught.value.code == "lying"


@pytest.mark.parametrize("answer", [{}, {"choices": [{"logprobs": None}]}, {"choices": [{"text": "a"}]}])
def test_an_answer_without_likelihoods_is_from_a_server_that_cannot_tell(answer: dict[str, Any]) -> None:
    with pytest.raises(Skipped, match="without the log-likelihood"):
        prompt_logprobs(answer)


def test_a_likelihood_of_fewer_tokens_than_the_prompt_has_is_not_believed() -> None:
    with pytest.raises(TargetError):
        prompt_logprobs(repeated([None, -1.0], prompt=9))


def test_the_texts_are_long_enough_to_tell_something() -> None:
    assert len(PASSAGES) == len(set(PASSAGES)) == 8
    assert sum(len(text.split()) for text in PASSAGES) > 500
