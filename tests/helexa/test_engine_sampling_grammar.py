"""Constrained decoding: whatever a model says, what comes out matches."""

import json
import math
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
import torch
from attrs import evolve
from llguidance import LLMatcher, LLTokenizer
from samplers import CPU
from tokenizers import Tokenizer

from helexa.engine.sampling.masks import allows_only, forbid
from helexa.engine.sampling.sampler import Sampled, Sampler
from helexa.grammar import compile_grammar, load_tokenizer
from helexa.grammar_trial import limits
from helexa.tiny import CHECKPOINT
from helexa.wire.sampling import SamplingParams

VOCABULARY = 3072
ENDS = (3063, 3065)
RANDOM = SamplingParams(temperature=1.0, stop_token_ids=ENDS)
GREEDY = evolve(RANDOM, temperature=0.0)
ANSWER = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["red", "blue"]}, "minItems": 1, "maxItems": 3},
        "rest": {"anyOf": [{"type": "null"}, {"type": "boolean"}]},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


@cache
def tokenizer() -> LLTokenizer:
    return load_tokenizer(CHECKPOINT, VOCABULARY, ENDS)


@cache
def compiled(grammar: str) -> LLMatcher:
    return compile_grammar(tokenizer(), grammar)


@cache
def text_of(ids: tuple[int, ...]) -> str:
    found: str = Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json")).decode(list(ids), skip_special_tokens=False)
    return found


def schema(value: Any) -> str:
    return LLMatcher.grammar_from_json_schema(json.dumps(value))


def regex(value: str) -> str:
    return LLMatcher.grammar_from_regex(value)


def rows(*texts: str) -> torch.Tensor:
    """Logits that want the first token of each text."""
    logits = torch.zeros(len(texts), VOCABULARY)
    for row, text in enumerate(texts):
        logits[row, tokenizer().tokenize_str(text)[0]] = 50.0
    return logits


def random_rows(seed: int, count: int, spread: float = 3.0) -> torch.Tensor:
    return torch.randn(count, VOCABULARY, generator=torch.Generator().manual_seed(seed)) * spread


def generate(grammars: Sequence[str | None], params: SamplingParams, limit: int = 400) -> list[list[Sampled]]:
    """What random logits make of a batch with these grammars; each ends with its grammar, a stop id or the limit."""
    sampler = Sampler(VOCABULARY, CPU)
    for number, grammar in enumerate(grammars):
        matcher = None if grammar is None else compiled(grammar).deep_copy()
        sampler.add(number, evolve(params, seed=number), [0], matcher)
    found: list[list[Sampled]] = [[] for _ in grammars]
    live = list(range(len(grammars)))
    for step in range(limit):
        for number, sampled in zip(live, sampler.sample(random_rows(step, len(live)), live), strict=True):
            assert sampled.error is None
            found[number].append(sampled)
        live = [number for number in live if not ended(found[number][-1])]
        if not live:
            break
    return found


def ended(sampled: Sampled) -> bool:
    return sampled.done or sampled.token in ENDS


def text(sequence: list[Sampled]) -> str:
    assert ended(sequence[-1]), "the limit came first"
    return text_of(tuple(each.token for each in sequence if each.token not in ENDS))


def is_answer(found: str) -> bool:
    value = json.loads(found)
    return (
        {"name", "age", "tags"} <= value.keys() <= {"name", "age", "tags", "rest"}
        and isinstance(value["name"], str)
        and len(value["name"]) <= 12
        and type(value["age"]) is int
        and 0 <= value["age"] <= 150
        and 1 <= len(value["tags"]) <= 3
        and set(value["tags"]) <= {"red", "blue"}
        and value.get("rest") in (None, True, False)
    )


def is_nested(found: str) -> bool:
    """Brackets around one to five numbers or such brackets."""
    flat = re.sub("[0-9]{1,2}", "n", found)
    while flat != (shorter := re.sub(r"\(n(,n){0,4}\)", "n", flat)):
        flat = shorter
    return flat == "n" and found.startswith("(")


def is_like(pattern: str) -> Callable[[str], bool]:
    return lambda found: re.fullmatch(pattern, found) is not None


WORDS = "[A-Z][a-z]{2,9}: ([0-9]{1,3}|none)[.]( ?[a-zäöü☃]{3}){0,3}"
NESTED = 'start: "(" item ("," item){0,4} ")"\nitem: NUMBER | start\nNUMBER: /[0-9]{1,2}/'
REASON = 'start: %json {"type": "boolean"} " because " /[a-z ]{1,20}/'


@pytest.mark.parametrize(
    ("grammar", "matches"),
    [
        (schema(ANSWER), is_answer),
        (regex(WORDS), is_like(WORDS)),
        (NESTED, is_nested),
        (REASON, is_like("(true|false) because [a-z ]{1,20}")),
    ],
    ids=["schema", "regex", "lark", "lark with a schema"],
)
@pytest.mark.parametrize(
    "params",
    [RANDOM, evolve(RANDOM, temperature=3.0), evolve(RANDOM, top_k=5, top_p=0.9), evolve(GREEDY, logprobs=2)],
    ids=["random", "hot", "truncated", "greedy"],
)
def test_whatever_the_logits_say_the_text_matches(
    grammar: str, matches: Callable[[str], bool], params: SamplingParams
) -> None:
    for sequence in generate([grammar] * 6, params):
        assert matches(text(sequence))


def test_a_batch_may_hold_rows_with_different_grammars_and_with_none() -> None:
    grammars = [schema(ANSWER), None, regex("a{5}"), schema(ANSWER), regex("[01]{8}")]
    together = generate(grammars, RANDOM, limit=200)
    assert is_answer(text(together[0]))
    assert is_answer(text(together[3]))
    assert text(together[2]) == "aaaaa"
    assert re.fullmatch("[01]{8}", text(together[4]))
    assert not any(each.done for each in together[1])


def test_a_constrained_row_gets_the_same_tokens_in_any_company() -> None:
    grammar, logits = schema(ANSWER), [random_rows(step, 1) for step in range(12)]
    found = []
    for others in (0, 3):
        sampler = Sampler(VOCABULARY, CPU)
        for number in range(others + 1):
            sampler.add(number, evolve(RANDOM, seed=4), [0], compiled(grammar).deep_copy())
        batch = range(others, -1, -1)
        noise = [random_rows(100 + step, others) for step in range(12)]
        steps = [sampler.sample(torch.cat([noise[step], logits[step]]), batch) for step in range(12)]
        found.append([each[-1].token for each in steps])
    assert found[0] == found[1]


def test_it_is_done_with_the_token_that_closes_the_brace() -> None:
    sampler = Sampler(VOCABULARY, CPU)
    sampler.add(0, GREEDY, [0], compiled(schema(ANSWER)).deep_copy())
    wanted = '{"name": "a", "age": 3, "tags": ["red"]}'
    ids = tokenizer().tokenize_str(wanted)
    for place, token in enumerate(ids):
        logits = torch.zeros(1, VOCABULARY)
        logits[0, token] = 9.0
        (sampled,) = sampler.sample(logits, [0])
        assert (sampled.token, sampled.done) == (token, place == len(ids) - 1)


def test_where_more_may_follow_it_is_not_done() -> None:
    sampler = Sampler(VOCABULARY, CPU)
    sampler.add(0, GREEDY, [0], compiled(regex("ab{0,2}")).deep_copy())
    found = [sampler.sample(rows(wanted), [0])[0] for wanted in "abb"]
    assert text_of(tuple(each.token for each in found)) == "abb"
    assert [each.done for each in found] == [False, False, True]


def test_an_end_of_sequence_id_ends_a_grammar_that_may_end_and_breaks_nothing() -> None:
    end = torch.zeros(1, VOCABULARY)
    end[0, ENDS[1]] = 50.0
    sampler = Sampler(VOCABULARY, CPU)
    sampler.add(0, GREEDY, [0], compiled(regex("ab*")).deep_copy())
    assert sampler.sample(end, [0])[0].token == tokenizer().tokenize_str("a")[0]
    (sampled,) = sampler.sample(end, [0])
    assert (sampled.token, sampled.error) == (ENDS[1], None)


def test_an_end_that_is_no_stop_id_of_the_request_is_the_grammars_end() -> None:
    end = torch.zeros(1, VOCABULARY)
    end[0, ENDS[0]] = 50.0
    sampler = Sampler(VOCABULARY, CPU)
    sampler.add(0, evolve(GREEDY, stop_token_ids=()), [0], compiled(regex("a*")).deep_copy())
    assert sampler.sample(end, [0]) == [Sampled(ENDS[0], done=True)]


def test_a_stop_id_that_the_grammar_takes_for_text_is_not_told_to_it() -> None:
    """Whoever asked for it ends there, however the grammar would go on."""
    (stop,) = tokenizer().tokenize_str("a")
    sampler = Sampler(VOCABULARY, CPU)
    sampler.add(0, evolve(GREEDY, stop_token_ids=(stop,)), [0], compiled(regex("a")).deep_copy())
    assert sampler.sample(rows("a"), [0]) == [Sampled(stop)]


def test_min_tokens_holds_an_optional_end_back_but_not_the_only_one() -> None:
    params = evolve(GREEDY, min_tokens=4)
    end = torch.zeros(1, VOCABULARY)
    end[0, ENDS[1]] = 50.0
    sampler = Sampler(VOCABULARY, CPU)
    sampler.add(0, params, [0], compiled(regex("b{0,9}")).deep_copy())
    found = [sampler.sample(end, [0])[0].token for _ in range(5)]
    assert [token in ENDS for token in found] == [False, False, False, False, True]
    sampler.add(1, params, [0], compiled(regex("b")).deep_copy())
    (only,) = sampler.sample(end, [1])
    assert only.done
    (after,) = sampler.sample(end, [1])
    assert (after.token, after.error) == (ENDS[1], None)


def test_a_grammar_goes_before_a_bias() -> None:
    (b,) = tokenizer().tokenize_str("b")
    sampler = Sampler(VOCABULARY, CPU)
    sampler.add(0, evolve(GREEDY, logit_bias=((b, 100.0),)), [0], compiled(regex("a")).deep_copy())
    assert text(sampler.sample(rows("b"), [0])) == "a"


def test_log_probabilities_are_those_from_before_the_grammar() -> None:
    sampler = Sampler(VOCABULARY, CPU)
    sampler.add(0, evolve(GREEDY, logprobs=1), [0], compiled(regex("a")).deep_copy())
    (sampled,) = sampler.sample(rows("b"), [0])
    assert sampled.logprob is not None
    assert sampled.logprob.logprob == pytest.approx(-50, abs=0.01)
    assert sampled.logprob.top[0][0] == tokenizer().tokenize_str("b")[0]


def test_a_grammar_that_fails_on_the_way_fails_its_row_alone() -> None:
    """A token that the grammar does not take puts the matcher in error, as costs too high would."""
    broken = compiled(regex("a+")).deep_copy()
    broken.consume_token(tokenizer().tokenize_str("b")[0])
    assert broken.is_error()
    sampler = Sampler(VOCABULARY, CPU)
    sampler.add(0, GREEDY, [0], broken)
    sampler.add(1, GREEDY, [0], compiled(regex("a+")).deep_copy())
    for _ in range(2):
        first, second = sampler.sample(rows("b", "a"), [0, 1])
        assert first.error is not None
        assert first.error[0] == "upstream_error"
        assert first.error[1].startswith("The grammar cannot be followed any further: ")
        assert "\n" not in first.error[1]
        assert not first.done
        assert text_of((second.token,)) == "a"


def test_a_grammar_that_costs_too_much_on_the_way_fails_its_row_alone() -> None:
    dear = compiled(r"start: /\w*(a\w{30}b|c\w{40}d|e\w{50}f)\w*/").deep_copy()
    sampler = Sampler(VOCABULARY, CPU)
    sampler.add(0, RANDOM, [0], dear)
    sampler.add(1, RANDOM, [0])
    for step in range(300):
        first, second = sampler.sample(random_rows(step, 2), [0, 1])
        assert second.error is None
        if first.error is not None:
            assert "too many" in first.error[1]
            return
    pytest.fail("it was never too dear")


def test_a_grammar_that_fails_on_taking_a_token_is_not_mistaken_for_one_that_is_done() -> None:
    """After the brace there are more ways on than the library follows."""
    wide = {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(900)}}
    matcher = LLMatcher(tokenizer(), schema(wide), log_level=0, limits=limits())
    sampler = Sampler(VOCABULARY, CPU)
    sampler.add(0, GREEDY, [0], matcher)
    (sampled,) = sampler.sample(rows("{"), [0])
    assert matcher.is_error()
    assert sampled.error is not None
    assert "items" in sampled.error[1]
    assert not sampled.done


@pytest.mark.parametrize("params", [RANDOM, GREEDY, evolve(RANDOM, top_k=3), evolve(RANDOM, top_p=0.5)])
def test_logits_that_rule_out_all_that_the_grammar_allows_fail_the_row(params: SamplingParams) -> None:
    logits = torch.zeros(1, VOCABULARY)
    logits[0, tokenizer().tokenize_str("a")[0]] = -math.inf
    sampler = Sampler(VOCABULARY, CPU)
    sampler.add(0, params, [0], compiled(regex("a")).deep_copy())
    assert sampler.sample(logits, [0])[0].error is not None


@pytest.mark.parametrize("vocabulary", [1, 31, 32, 33, 3072])
def test_a_mask_rules_out_exactly_what_its_bits_do_not_allow(vocabulary: int) -> None:
    words = (vocabulary + 31) // 32
    masks = torch.randint(-(2**31), 2**31, (3, words), dtype=torch.int32).numpy()
    logits = torch.zeros(4, vocabulary)
    forbid(logits, [masks[0], None, masks[1], masks[2]])
    for row, mask in ((0, masks[0]), (2, masks[1]), (3, masks[2])):
        allowed = [bool(int(mask[token // 32]) >> token % 32 & 1) for token in range(vocabulary)]
        assert (logits[row] == 0).tolist() == allowed
    assert not logits[1].any()
    only = [token for token in range(vocabulary) if int(masks[0][token // 32]) >> token % 32 & 1]
    assert not only or not allows_only(masks[0], only[1:])
