"""Messages to prompts, by the templates of models, with small tokenizers trained here."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizer_files import byte_level, chat_in, save

from helexa.text import ChatTokenizer, TemplateError

PARTS_TEMPLATE = (
    """{% for m in messages %}{{ m.role }}: {% for p in m.content %}{{ p.text }}{% endfor %};{% endfor %}"""
)
TOOL = {"type": "function", "function": {"name": "add", "description": "", "parameters": {"type": "object"}}}


@pytest.fixture
def chat(tmp_path: Path) -> ChatTokenizer:
    return chat_in(tmp_path / "model")


def test_render_writes_the_prompt_and_the_generation_header(chat: ChatTokenizer) -> None:
    prompt = chat.render([{"role": "user", "content": "hi"}])
    assert prompt == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert chat.render([{"role": "user", "content": "hi"}], add_generation_prompt=False) == prompt[:-22]


def test_render_hands_tools_and_options_to_the_template(chat: ChatTokenizer) -> None:
    prompt = chat.render([{"role": "user", "content": "hi"}], tools=[TOOL], template_kwargs={"enable_thinking": False})
    assert '"name": "add"' in prompt
    assert prompt.endswith("<think>\n\n</think>\n\n")


def test_capabilities_are_seen_from_the_template(chat: ChatTokenizer) -> None:
    assert (chat.has_chat_template, chat.supports_tools, chat.supports_thinking) == (True, True, True)


def test_a_template_that_ignores_tools_does_not_support_them(tmp_path: Path) -> None:
    template = "{# tools #}{% for m in messages %}{{ m.content }}{% endfor %}"
    chat = ChatTokenizer.load(save(byte_level(), tmp_path, chat_template=template))
    assert (chat.has_chat_template, chat.supports_tools, chat.supports_thinking) == (True, False, False)


CALLS = [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"role": "assistant", "content": None}, "assistant\n"),
        ({"role": "assistant"}, "assistant\n"),
        ({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "user\na\nb"),
        ({"role": "developer", "content": "be kind"}, "system\nbe kind"),
        (
            {"role": "assistant", "content": None, "tool_calls": CALLS},
            'assistant\n<tool_call>add {"a": 1}</tool_call>',
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{oops"}}]},
            'assistant\n<tool_call>f "{oops"</tool_call>',
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": ""}}]},
            "assistant\n<tool_call>f {}</tool_call>",
        ),
        ({"role": "assistant", "content": "x", "tool_calls": []}, "assistant\nx"),
        ({"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}, "assistant\nNo."),
    ],
)
def test_messages_are_normalised_for_the_template(chat: ChatTokenizer, message: dict[str, Any], expected: str) -> None:
    before = json.dumps(message)
    assert chat.render([message], add_generation_prompt=False) == f"<|im_start|>{expected}<|im_end|>\n"
    assert json.dumps(message) == before


@pytest.mark.parametrize(
    ("messages", "sentence"),
    [
        ([], "at least one message"),
        ([{"content": "x"}], r"messages\[0\] has no role"),
        (["x"], r"messages\[0\] has no role"),
        ([{"role": "user", "content": 3}], r"messages\[0\]\.content is neither text nor a list"),
        (
            [{"role": "user", "content": [{"type": "image_url"}]}],
            "part of type 'image_url'; this model reads only text",
        ),
        ([{"role": "assistant", "tool_calls": "x"}], r"messages\[0\]\.tool_calls is not a list"),
        ([{"role": "narrator", "content": "x"}], "rejects these messages: Unknown role narrator"),
    ],
)
def test_messages_that_cannot_be_rendered_are_refused_in_a_sentence(
    chat: ChatTokenizer, messages: list[dict[str, Any]], sentence: str
) -> None:
    with pytest.raises(TemplateError, match=sentence):
        chat.render(messages)


@pytest.mark.parametrize("option", ["chat_template", "tokenize", "continue_final_message", "messages", "conversation"])
def test_template_options_cannot_reach_the_renderer(chat: ChatTokenizer, option: str) -> None:
    with pytest.raises(TemplateError, match=f"may not set '{option}'"):
        chat.render([{"role": "user", "content": "x"}], template_kwargs={option: "{{ 1 }}"})


@pytest.mark.parametrize(
    "template",
    ["{{ messages[0].content.nothing.at.all }}", "{{ 1 // 0 }}", "{% if %}", "{{ ''.__class__.__mro__[1] + 1 }}"],
)
def test_a_broken_template_is_reported_as_such(tmp_path: Path, template: str) -> None:
    chat = ChatTokenizer.load(save(byte_level(), tmp_path, chat_template=template))
    with pytest.raises(TemplateError, match=r"chat template rejects these messages: \S"):
        chat.render([{"role": "user", "content": "x"}])


def test_a_model_without_template_says_so(tmp_path: Path) -> None:
    chat = ChatTokenizer.load(save(byte_level(), tmp_path))
    assert not chat.has_chat_template
    with pytest.raises(TemplateError, match="has no chat template"):
        chat.render([{"role": "user", "content": "x"}])


def test_a_template_that_reads_only_parts_gets_parts(tmp_path: Path) -> None:
    chat = ChatTokenizer.load(save(byte_level(), tmp_path, chat_template=PARTS_TEMPLATE))
    assert chat.render([{"role": "user", "content": "hi"}]) == "user: hi;"


def test_the_tool_use_template_is_taken_when_tools_are_given(tmp_path: Path) -> None:
    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "{{ tools[0].function.name }}"}]
    chat = ChatTokenizer.load(save(byte_level(), tmp_path, chat_template=named))
    messages = [{"role": "user", "content": "x"}]
    assert (chat.render(messages), chat.render(messages, tools=[TOOL])) == ("plain", "add")
    assert chat.supports_tools
