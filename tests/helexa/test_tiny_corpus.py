"""The generator of the bundled model's training data."""

import json
from collections.abc import Iterator
from types import ModuleType

import pytest

from helexa.tiny.corpus import (
    SHARES,
    Draw,
    Phrases,
    calls,
    conversation,
    errands,
    facts,
    framing,
    invented,
    lookups,
    memory,
    stories,
    sums,
    talk,
    task_names,
    unknown,
    words,
)
from helexa.tiny.corpus.draw import reserved
from helexa.tiny.corpus.toolspec import Family
from helexa.tiny.encode import Renderer
from helexa.tiny.evaluate import calls_in, is_right

MODULES = (calls, errands, facts, framing, invented, lookups, memory, stories, sums, talk, unknown, words)


def phrases_of(module: ModuleType) -> Iterator[Phrases]:
    for value in vars(module).values():
        if isinstance(value, Phrases):
            yield value
        if isinstance(value, Family):
            yield value.asks
        if isinstance(value, memory.Memory):
            yield from (value.tell, value.ask)


def all_phrases() -> list[Phrases]:
    found = [phrases for module in MODULES for phrases in phrases_of(module)]
    return found + [phrases for phrases, _ in talk.TOPICS.values()]


def test_held_out_phrases_are_never_trained_on() -> None:
    everything = all_phrases()
    trained = {phrase.lower() for phrases in everything for phrase in phrases.trained}
    held = {phrase.lower() for phrases in everything for phrase in phrases.held}
    assert len(everything) > 50
    assert not trained & held


def test_every_split_has_both_sides() -> None:
    assert all(phrases.trained and phrases.held for phrases in all_phrases())


@pytest.mark.parametrize("held", [False, True])
def test_values_fall_on_one_side(held: bool) -> None:  # noqa: FBT001
    draw = Draw.seeded(3, held=held)
    assert all(reserved(draw.fresh(lambda: draw.number(0, 10_000))) is held for _ in range(50))


@pytest.mark.parametrize("task", task_names())
def test_the_same_seed_gives_the_same_conversation(task: str) -> None:
    assert conversation(Draw.seeded(7), task) == conversation(Draw.seeded(7), task)


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("task", task_names())
def test_the_target_of_every_task_is_judged_right(task: str, held: bool) -> None:  # noqa: FBT001
    draw = Draw.seeded(11, held=held)
    for _ in range(30):
        made = conversation(draw, task)
        assert is_right(made, made.target)
        assert not is_right(made, made.target.replace("think>", "thunk>") + " and more" if made.thinks else "no")


def test_a_call_names_an_offered_tool_and_its_parameters() -> None:
    draw = Draw.seeded(13)
    for _ in range(200):
        made = conversation(draw, draw.pick(("tool call", "new tool", "two calls")))
        offered = {tool["function"]["name"]: tool["function"]["parameters"] for tool in made.tools}
        for call in made.calls:
            schema = offered[call["name"]]
            assert set(schema.get("required", ())) <= set(call["arguments"]) <= set(schema["properties"])


def test_thinking_hides_earlier_answers_from_the_loss() -> None:
    renderer, draw = Renderer(), Draw.seeded(17)
    made = [conversation(draw, "thinking") for _ in range(20)]
    learned = [[text for text, taught in renderer.pieces(talk) if taught] for talk in made]
    assert all(texts == [f"{talk.target}<|im_end|>"] for texts, talk in zip(learned, made, strict=True))


@pytest.mark.parametrize(("sign", "a", "b"), [("+", 17, 26), ("-", 52, 17), ("-", 17, 52), ("*", 12, 11), ("*", 0, 5)])
def test_workings_end_in_the_result(sign: str, a: int, b: int) -> None:
    assert sums.working(sign, a, b).endswith(f"So {a} {sign} {b} = {sums.result(sign, a, b)}.")


def test_carries_and_borrows_are_worked_digit_by_digit() -> None:
    assert "7 + 6 = 13. Write 3, carry 1. Tens: 1 + 2 + 1 = 4." in sums.working("+", 17, 26)
    assert "12 - 7 = 5, borrow 1. Tens: 5 - 1 - 1 = 3." in sums.working("-", 52, 17)


def test_calls_are_read_from_an_answer_that_is_nothing_else() -> None:
    text = calls.call_text([{"name": "f", "arguments": {"x": 1}}])
    assert calls_in(text) == [{"name": "f", "arguments": {"x": 1}}]
    assert calls_in(f"Sure! {text}") is None
    assert calls_in(text.replace("}}", "}")) is None


def test_tool_results_are_valid_json_or_plain_text() -> None:
    draw = Draw.seeded(19)
    for _ in range(100):
        content, spoken = calls.outcome(draw)
        assert spoken
        if content.startswith(("{", "[")):
            json.loads(content)


def test_forty_capitals_at_least() -> None:
    assert len(facts.CAPITAL_OF) >= 40


def test_shares_are_positive() -> None:
    assert all(share > 0 for share in SHARES.values())
