"""Content, reasoning and tool calls out of a model's text."""

import json
from collections.abc import Callable
from itertools import count, pairwise

import pytest
from effort import grows_like_a_square
from hypothesis import example, given
from hypothesis import strategies as st

from helexa.text import (
    ContentDelta,
    Delta,
    OutputParser,
    ReasoningDelta,
    ToolCallDelta,
    merge,
    prompt_opens_reasoning,
    random_call_id,
)

CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": [2, "é"]}}\n</tool_call>'
ARGUMENTS = '{"a":1,"b":[2,"é"]}'


def content(text: str) -> Delta:
    return ContentDelta(text)


def reasoning(text: str) -> Delta:
    return ReasoningDelta(text)


def call(index: int, arguments: str = ARGUMENTS, name: str = "add") -> Delta:
    return ToolCallDelta(index, f"call_{index:024x}", name, arguments)


def ids() -> Callable[[], str]:
    numbers = count()
    return lambda: f"call_{next(numbers):024x}"


def parse(chunks: list[str], *, think: bool = True, tools: bool = True, inside: bool = False) -> list[Delta]:
    parser = OutputParser(reasoning=think, tools=tools, inside_reasoning=inside, new_call_id=ids())
    deltas = [delta for chunk in chunks for delta in parser.push(chunk)]
    return merge([*deltas, *parser.finish()])


GOLDEN: dict[str, tuple[str, list[Delta]]] = {
    "nothing": ("", []),
    "plain text": ("Hi  there \n", [content("Hi  there \n")]),
    "white space alone": (" \n ", [content(" \n ")]),
    "leading white space without a block": ("\n  Hi", [content("\n  Hi")]),
    "reasoning, then answer": ("<think>\nhm\n\nok\n</think>\n\nHi", [reasoning("hm\n\nok"), content("Hi")]),
    "white space before the block": (" \n<think>hm</think>Hi", [reasoning("hm"), content("Hi")]),
    "spaces after the block stay": ("<think>hm</think>\n Hi", [reasoning("hm"), content(" Hi")]),
    "empty block": ("<think>\n\n</think>\n\nHi", [content("Hi")]),
    "unterminated block": ("<think>\nhm\n</thin", [reasoning("hm\n</thin")]),
    "unterminated block ending in newlines": ("<think>hm\n\n", [reasoning("hm\n\n")]),
    "tag that breaks off": ("<thi", [content("<thi")]),
    "almost the tag": ("<thinker>", [content("<thinker>")]),
    "block later in the text": ("Hi <think>x</think>", [content("Hi <think>x</think>")]),
    "second block": ("<think>a</think>b<think>c</think>", [reasoning("a"), content("b<think>c</think>")]),
    "closing tag alone": ("a</think>b", [content("a</think>b")]),
    "one call": (CALL, [call(0)]),
    "call after text": (f"Sure.\n\n{CALL}", [content("Sure."), call(0)]),
    "two calls": (f"{CALL}\n\n{CALL}\n", [call(0), call(1)]),
    "text after a call": (f"{CALL}\nDone. ", [call(0), content("Done. ")]),
    "reasoning, then a call": (f"<think>x</think>\n\n{CALL}", [reasoning("x"), call(0)]),
    "call within reasoning": (f"<think>{CALL}</think>a", [reasoning(CALL), content("a")]),
    "block after a call": (f"{CALL}<think>x</think>", [call(0), content("<think>x</think>")]),
    "malformed call": (
        'a <tool_call>{"name": }</tool_call> b',
        [content('a <tool_call>{"name": }</tool_call> b')],
    ),
    "no brace, no call": ("<tool_call> \nnope</tool_call>\n", [content("<tool_call> \nnope</tool_call>\n")]),
    "prose about the tag": (f"I use <tool_call> so: {CALL}", [content("I use <tool_call> so:"), call(0)]),
    "never closed": (f"a \n{CALL[:-3]}", [content(f"a \n{CALL[:-3]}")]),
    "never closed, cut in white space": ("a <tool_call>\n", [content("a <tool_call>\n")]),
    "never closed after a call": (f"{CALL} {CALL[:-3]}", [call(0), content(CALL[:-3])]),
    "malformed between calls": (
        f"{CALL}\n<tool_call>{{}}</tool_call>\n{CALL}",
        [call(0), content("<tool_call>{}</tool_call>"), call(1)],
    ),
    "closing tag within a string": (
        r'<tool_call>{"name":"add","arguments":{"s":"a \"</tool_call>\" b"}}</tool_call> ok',
        [call(0, r'{"s":"a \"</tool_call>\" b"}'), content("ok")],
    ),
    "string that never ends, then a good call": (
        f'<tool_call>{{"name": "add}}</tool_call> retry: {CALL}',
        [content('<tool_call>{"name": "add}</tool_call> retry:'), call(0)],
    ),
    "string that never ends, then a call that never ends": (
        '<tool_call>{"a</tool_call> x <tool_call>{',
        [content('<tool_call>{"a</tool_call> x <tool_call>{')],
    ),
    "no arguments": ('<tool_call>{"name": "add"}</tool_call>', [call(0, "{}")]),
    "arguments as a string": (r'<tool_call>{"name":"add","arguments":"{\"a\": 1}"}</tool_call>', [call(0, '{"a":1}')]),
    "line break within a string": (
        '<tool_call>{"name":"add","arguments":{"s":"a\nb"}}</tool_call>',
        [call(0, r'{"s":"a\nb"}')],
    ),
}


def every_chunking(text: str) -> list[list[str]]:
    """One chunk, single characters, and every cut in two."""
    return [[text], list(text), *([text[:i], text[i:]] for i in range(1, len(text)))]


@pytest.mark.parametrize(("text", "expected"), GOLDEN.values(), ids=GOLDEN.keys())
def test_golden_case_in_every_chunking(text: str, expected: list[Delta]) -> None:
    for chunks in every_chunking(text):
        assert parse(chunks) == expected, chunks


@pytest.mark.parametrize(
    "body",
    [
        "[1]",
        "{",
        '{"name": 3, "arguments": {}}',
        '{"name": "", "arguments": {}}',
        '{"arguments": {}}',
        '{"name": "f", "arguments": [1]}',
        '{"name": "f", "arguments": null}',
        '{"name": "f", "arguments": "x"}',
        '{"name": "f", "arguments": {"x": NaN}}',
        '{"name": "f", "arguments": {"x": 1e999}}',
        '{"name": "f", "arguments": {"x": "\\ud800"}}',
        '{"name": "f", "arguments": {"x": ' + "[" * 100_000 + "}}",
        '{"name": "f", "arguments": {}} {}',
    ],
    ids=lambda body: body[:50],
)
def test_call_that_is_not_well_formed_comes_out_verbatim(body: str) -> None:
    text = f"a <tool_call> {body} </tool_call> b"
    assert parse([text]) == [content(text)]


FRAGMENTS = st.lists(
    st.sampled_from(
        ["<think>", "</think>", "\n", " ", "x", "<", '"', "\\", "{", "}", "<tool_call>", "</tool_call>", CALL, "<tool"]
    ),
    max_size=12,
)


@given(FRAGMENTS, st.lists(st.integers(0, 300), max_size=8), st.booleans(), st.booleans(), st.booleans())
@example(["<tool_call>", "{", '"', "</tool_call>", CALL], [3], True, True, False)
def test_any_chunking_gives_the_same_deltas(
    fragments: list[str],
    cuts: list[int],
    think: bool,  # noqa: FBT001 - drawn
    tools: bool,  # noqa: FBT001
    inside: bool,  # noqa: FBT001
) -> None:
    text = "".join(fragments)
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    chunks = [text[a:b] for a, b in pairwise(bounds)]
    whole = parse([text], think=think, tools=tools, inside=inside)
    assert parse(chunks, think=think, tools=tools, inside=inside) == whole
    assert parse(list(text), think=think, tools=tools, inside=inside) == whole


@given(FRAGMENTS)
def test_without_a_parsed_call_or_block_text_comes_out_verbatim(fragments: list[str]) -> None:
    text = "".join(fragments)
    assert parse([text], think=False, tools=False) == ([content(text)] if text else [])
    deltas = parse([text], think=False)
    if not any(isinstance(delta, ToolCallDelta) for delta in deltas):
        assert deltas == ([content(text)] if text else [])


def test_switched_off_reasoning_leaves_its_tags_in_the_text() -> None:
    assert parse(["<think>x</think>", CALL], think=False) == [content("<think>x</think>"), call(0)]


def test_switched_off_tools_leave_their_tags_in_the_text() -> None:
    assert parse(["<think>x</think>", CALL], tools=False) == [reasoning("x"), content(CALL)]


def test_output_of_a_prompt_that_opened_the_block() -> None:
    for chunks in every_chunking("\nhm\n</think>\n\nHi"):
        assert parse(chunks, inside=True) == [reasoning("hm"), content("Hi")]


def test_a_prompt_ending_in_the_tag_opens_the_block() -> None:
    assert prompt_opens_reasoning("<|im_start|>assistant\n<think>\n")
    assert not prompt_opens_reasoning("<think>\n\n</think>\n\n")


def test_text_streams_without_waiting_for_the_end() -> None:
    parser = OutputParser(reasoning=True, tools=True)
    assert parser.push("<think>\nlet") == [reasoning("let")]
    assert parser.push(" me\n") == [reasoning(" me")]
    assert parser.push("</think>\n\nHello") == [content("Hello")]
    assert parser.push(" world <") == [content(" world")]
    assert parser.push("b> ") == [content(" <b>")]
    assert parser.push("<tool_call> tags") == [content(" <tool_call> tags")]


def test_a_call_comes_out_at_its_closing_tag() -> None:
    parser = OutputParser(reasoning=True, tools=True, new_call_id=ids())
    assert parser.push(CALL[:-1]) == []
    assert parser.push(">") == [call(0)]


def test_call_ids_are_fresh_and_have_24_hexadecimal_digits() -> None:
    first, second = random_call_id(), random_call_id()
    assert first != second
    assert first.startswith("call_")
    assert len(bytes.fromhex(first.removeprefix("call_"))) == 12


@pytest.mark.parametrize(
    ("opening", "unit"),
    [
        ("", " "),
        ("", "x\n"),
        ("<think>", "\n"),
        ("<think>", "<"),
        ("", "<tool_call>"),
        ("<tool_call>", " "),
        ('<tool_call>{"', "x"),
        ('<tool_call>{"', "</tool_call>"),
        ('<tool_call>{"', "</tool_call>{<tool_call>"),
    ],
)
def test_work_grows_with_the_length_of_the_output_not_its_square(opening: str, unit: str) -> None:
    def work(chunks: int) -> None:
        parse([opening, *[unit * 32] * chunks])
        parse([opening + unit * 32 * chunks])

    assert not grows_like_a_square(work, 200)


def test_arguments_survive_the_round_trip() -> None:
    value = {"text": 'quote " backslash \\ newline \n', "n": 1.5, "deep": [{"a": None}], "big": 10**30}
    text = f"<tool_call>{json.dumps({'name': 'f', 'arguments': value})}</tool_call>"
    (delta,) = parse([text])
    assert isinstance(delta, ToolCallDelta)
    assert json.loads(delta.arguments) == value
