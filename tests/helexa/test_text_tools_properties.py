"""What holds for tool calls in every format, whatever a model writes: nothing is lost, cut differently, or slow."""

import json
from itertools import pairwise

import pytest
from effort import grows_like_a_square
from hypothesis import given
from hypothesis import strategies as st
from tool_texts import BEGIN, CLOSE, END, OPEN, PAIRS, SEP, content, parse

from helexa.text import ToolCallDelta
from helexa.text.tools import (
    DEEPSEEK,
    DEEPSEEK_FENCED,
    GLM,
    HERMES,
    LLAMA,
    MISTRAL,
    MISTRAL_NAMED,
    PYTHONIC,
    QWEN_CODER,
    ToolFormat,
)

FORMATS = [DEEPSEEK, DEEPSEEK_FENCED, GLM, HERMES, LLAMA, MISTRAL, MISTRAL_NAMED, PYTHONIC, QWEN_CODER]
EXAMPLES = {tool_format: [text for other, text in PAIRS.values() if other is tool_format] for tool_format in FORMATS}
JSON_PARTS = [
    '{"name": "now", "arguments": {',
    '{"name":"now","parameters":',
    '"',
    "\\",
    "\\u00",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "1",
]
PARTS = {
    HERMES: ["<tool_call>", "</tool_call>", *JSON_PARTS],
    LLAMA: ["<|python_tag|>", ";", *JSON_PARTS],
    MISTRAL: ["[TOOL_CALLS]", *JSON_PARTS],
    MISTRAL_NAMED: ["[TOOL_CALLS]", "now", "[ARGS]", "[CALL_ID]", *JSON_PARTS],
    DEEPSEEK: [BEGIN, END, OPEN, CLOSE, SEP, "now", *JSON_PARTS],
    DEEPSEEK_FENCED: [BEGIN, END, OPEN, CLOSE, SEP, "function", "now", "```json", "```", *JSON_PARTS],
    GLM: [
        "<tool_call>",
        "</tool_call>",
        "weather",
        "city",
        "<arg_key>",
        "</arg_key>",
        "<arg_value>",
        "</arg_value>",
        "3",
    ],
    QWEN_CODER: [
        *("<tool_call>", "</tool_call>", "<function=", "weather", "city", ">", "<parameter=", "</parameter>"),
        *("</function>", "3", "<"),
    ],
    PYTHONIC: [
        "<|python_start|>",
        "<|python_end|>",
        "[",
        "]",
        "(",
        ")",
        "now(",
        "x=",
        "'",
        '"',
        "\\",
        "{",
        "}",
        ":",
        ",",
        "1",
    ],
}


@st.composite
def soups(draw: st.DrawFn) -> tuple[ToolFormat, str]:
    """A format, and text that looks like it here and there."""
    tool_format = draw(st.sampled_from(FORMATS))
    parts = st.sampled_from([*PARTS[tool_format], *EXAMPLES[tool_format], " ", "\n", "x"])
    return tool_format, "".join(draw(st.lists(parts, max_size=14)))


@given(soups(), st.lists(st.integers(0, 400), max_size=8), st.booleans())
def test_any_chunking_gives_the_same_deltas(soup: tuple[ToolFormat, str], cuts: list[int], stream: bool) -> None:  # noqa: FBT001
    tool_format, text = soup
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    whole = parse(tool_format, [text], stream=stream)
    assert parse(tool_format, [text[a:b] for a, b in pairwise(bounds)], stream=stream) == whole
    assert parse(tool_format, list(text), stream=stream) == whole


@given(soups())
def test_whole_calls_are_json_objects_and_text_without_any_is_verbatim(soup: tuple[ToolFormat, str]) -> None:
    tool_format, text = soup
    deltas = parse(tool_format, [text], stream=False)
    calls = [delta for delta in deltas if isinstance(delta, ToolCallDelta)]
    assert [delta.index for delta in calls] == list(range(len(calls)))
    assert all(isinstance(json.loads(delta.arguments), dict) and delta.name for delta in calls)
    if not calls:
        assert deltas == ([content(text)] if text else [])


@given(soups())
def test_calls_that_come_whole_come_in_pieces_too(soup: tuple[ToolFormat, str]) -> None:
    """As far as the first call that breaks: from there on the streams differ, as one was sent already."""
    tool_format, text = soup
    whole = [delta for delta in parse(tool_format, [text], stream=False) if isinstance(delta, ToolCallDelta)]
    pieces = [delta for delta in parse(tool_format, [text], stream=True) if isinstance(delta, ToolCallDelta)]
    for one, other in zip(whole, pieces, strict=False):
        if one.name != other.name or not is_json(other.arguments):
            break
        assert one.arguments == other.arguments
    assert not whole or pieces


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@st.composite
def damaged(draw: st.DrawFn) -> tuple[ToolFormat, str, list[str]]:
    """Calls and prose with a word of its own in each place, then some punctuation lost, doubled, or all cut off."""
    tool_format = draw(st.sampled_from(FORMATS))
    pieces: list[str] = []
    for i in range(draw(st.integers(1, 3))):
        text = draw(st.sampled_from(EXAMPLES[tool_format]))
        pieces += [text.replace("lo", f"w{i}a"), f" w{i}b "]
    whole = "".join(pieces)
    text = whole
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.sampled_from([i for i, char in enumerate(text) if char in "{}[]():,<>/=\"'\uff5c;"]))
        text = text[:at] + text[at] * draw(st.sampled_from([0, 2])) + text[at + 1 :]
    text = text[: draw(st.integers(0, len(text)) | st.just(len(text)))]
    return tool_format, text, [f"w{i}{kind}" for i in range(3) for kind in "ab"]


@given(damaged(), st.booleans())
def test_no_word_is_lost_or_said_twice(case: tuple[ToolFormat, str, list[str]], stream: bool) -> None:  # noqa: FBT001
    tool_format, text, words = case
    deltas = parse(tool_format, [text], stream=stream)
    seen = "".join(
        f"{d.name} {d.arguments}" if isinstance(d, ToolCallDelta) else getattr(d, "text", "") for d in deltas
    )
    assert {word: seen.count(word) for word in words} == {word: text.count(word) for word in words}


HOSTILE: list[tuple[ToolFormat, str, str]] = [
    (HERMES, "", "<tool_call>"),
    (HERMES, "", '<tool_call>{"'),
    (HERMES, "", '<tool_call>{"name":"f","arguments":{"a":"'),
    (HERMES, "<tool_call>", "{"),
    (HERMES, '<tool_call>{"name":"f","arguments":', "["),
    (HERMES, '<tool_call>{"name":"f","arguments":{"a":', "1"),
    (HERMES, '<tool_call>{"name":"f","arguments":{"a":"', "\\"),
    (HERMES, '<tool_call>{"name":"f","arguments":{"a":"', "</tool_call>{<tool_call>"),
    (QWEN_CODER, "", "<tool_call><function=weather><parameter=city>"),
    (QWEN_CODER, "", "<function="),
    (GLM, "", "<tool_call>weather<arg_key>city</arg_key><arg_value>"),
    (GLM, "", "<tool_call>weather<arg_key>"),
    (GLM, "<tool_call>weather<arg_key>days</arg_key><arg_value>", "<"),
    (LLAMA, "", '{"name":"f","parameters":{"a":"'),
    (LLAMA, "", '<|python_tag|>{"name":"f","parameters":{"a":"'),
    (LLAMA, "", "<|python_tag|>"),
    (LLAMA, '{"name":"f"}', ";"),
    (MISTRAL, "", "[TOOL_CALLS]["),
    (MISTRAL, "", '[TOOL_CALLS][{"name":"f","arguments":{}},'),
    (MISTRAL_NAMED, "", "[TOOL_CALLS]f[ARGS]"),
    (DEEPSEEK, "", f"{BEGIN}{OPEN}"),
    (DEEPSEEK, "", f"{BEGIN}{OPEN}f{SEP}{{"),
    (DEEPSEEK_FENCED, "", f"{OPEN}function{SEP}f\n```json\n"),
    (PYTHONIC, "", "["),
    (PYTHONIC, "[f(x=", "("),
    (PYTHONIC, "", "<|python_start|>[f(x='"),
    (PYTHONIC, "[f(x='", "\\"),
]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "in pieces"])
@pytest.mark.parametrize(("tool_format", "opening", "unit"), HOSTILE, ids=lambda value: getattr(value, "name", value))
def test_work_grows_with_the_length_of_the_output_not_its_square(
    tool_format: ToolFormat,
    opening: str,
    unit: str,
    stream: bool,  # noqa: FBT001
) -> None:
    def work(chunks: int) -> None:
        parse(tool_format, [opening, *[unit * 16] * chunks], stream=stream)
        parse(tool_format, [opening + unit * 16 * chunks], stream=stream)

    assert not grows_like_a_square(work, 50)
