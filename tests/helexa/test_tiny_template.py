"""The bundled model's chat template: one golden text for each shape of conversation."""

import json
from typing import Any

import pytest
from transformers import AutoTokenizer

from helexa.tiny import CHECKPOINT
from helexa.tiny.corpus import Draw, conversation, draw_task
from helexa.tiny.encode import TEMPLATE, Renderer

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather — quickly",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TOOL_TEXT = (
    '<tools>\n{"type": "function", "function": {"name": "get_weather", "description": "Get the weather — quickly", '
    '"parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}\n</tools>\n'
    'To call a tool, answer <tool_call>\n{"name": ..., "arguments": {...}}\n</tool_call>'
)
HELLO = {"role": "user", "content": "Hello!"}
ASKS = "<|im_start|>user\nHello!<|im_end|>\n"
ANSWERS = "<|im_start|>assistant\n"
CALL_TEXT = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(CHECKPOINT)


def call(arguments: object) -> dict[str, Any]:
    function = {"name": "get_weather", "arguments": arguments}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": function}],
    }


def render(tokenizer: Any, messages: list[dict[str, Any]], **options: Any) -> str:
    return tokenizer.apply_chat_template(messages, tokenize=False, **{"add_generation_prompt": True, **options})


def test_a_single_user_turn_has_no_system_turn(tokenizer: Any) -> None:
    assert render(tokenizer, [HELLO]) == ASKS + ANSWERS


def test_without_a_generation_prompt_nothing_follows_the_last_turn(tokenizer: Any) -> None:
    assert render(tokenizer, [HELLO], add_generation_prompt=False) == ASKS


@pytest.mark.parametrize("role", ["system", "developer"])
def test_system_and_developer_turns_read_the_same(tokenizer: Any, role: str) -> None:
    text = render(tokenizer, [{"role": role, "content": "Be kind."}, HELLO])
    assert text == "<|im_start|>system\nBe kind.<|im_end|>\n" + ASKS + ANSWERS


def test_tools_stand_in_the_system_turn_one_a_line(tokenizer: Any) -> None:
    system = {"role": "system", "content": "Be kind."}
    assert render(tokenizer, [HELLO], tools=[TOOL]) == f"<|im_start|>system\n{TOOL_TEXT}<|im_end|>\n{ASKS}{ANSWERS}"
    with_system = render(tokenizer, [system, HELLO], tools=[TOOL])
    assert with_system == f"<|im_start|>system\nBe kind.\n\n{TOOL_TEXT}<|im_end|>\n{ASKS}{ANSWERS}"


@pytest.mark.parametrize("arguments", [{"city": "Oslo"}, '{"city": "Oslo"}'])
def test_call_arguments_may_be_an_object_or_json_text(tokenizer: Any, arguments: object) -> None:
    text = render(tokenizer, [HELLO, call(arguments)], add_generation_prompt=False)
    assert text == f"{ASKS}{ANSWERS}{CALL_TEXT}<|im_end|>\n"


def test_words_before_a_call_and_several_calls_stand_on_lines_of_their_own(tokenizer: Any) -> None:
    message = call({"city": "Oslo"}) | {"content": "One moment."}
    message["tool_calls"] *= 2
    text = render(tokenizer, [HELLO, message], add_generation_prompt=False)
    assert text == f"{ASKS}{ANSWERS}One moment.\n{CALL_TEXT}\n{CALL_TEXT}<|im_end|>\n"


def test_tool_results_in_a_row_share_one_user_turn(tokenizer: Any) -> None:
    results = [{"role": "tool", "tool_call_id": "c1", "content": text} for text in ("4 degrees", "5 degrees")]
    text = render(tokenizer, [HELLO, call({"city": "Oslo"}), *results])
    responses = "".join(f"\n<tool_response>\n{n} degrees\n</tool_response>" for n in (4, 5))
    assert text == f"{ASKS}{ANSWERS}{CALL_TEXT}<|im_end|>\n<|im_start|>user{responses}<|im_end|>\n{ANSWERS}"


def test_content_parts_are_joined_and_other_parts_left_out(tokenizer: Any) -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "image_url", "image_url": {}}, {"type": "text", "text": "lo!"}]
    assert render(tokenizer, [{"role": "user", "content": parts}]) == ASKS + ANSWERS


def test_thinking_is_asked_for_in_the_system_turn(tokenizer: Any) -> None:
    system = {"role": "system", "content": "Be kind."}
    directive = "<|im_start|>system\nThink first.<|im_end|>\n"
    assert render(tokenizer, [HELLO], enable_thinking=True) == directive + ASKS + ANSWERS
    assert render(tokenizer, [HELLO], enable_thinking=False) == ASKS + ANSWERS
    assert "Be kind.\n\nThink first.<|im_end|>" in render(tokenizer, [system, HELLO], enable_thinking=True)
    assert "</tool_call>\n\nThink first.<|im_end|>" in render(tokenizer, [HELLO], tools=[TOOL], enable_thinking=True)


def test_earlier_reasoning_is_dropped(tokenizer: Any) -> None:
    kept = {"role": "assistant", "content": "Hi!", "reasoning_content": "A greeting."}
    inline = {"role": "assistant", "content": "<think>\nA greeting.\n</think>\n\nHi!"}
    for answer in (kept, inline):
        assert render(tokenizer, [HELLO, answer, HELLO]) == f"{ASKS}{ANSWERS}Hi!<|im_end|>\n{ASKS}{ANSWERS}"


def test_the_training_text_is_the_text_of_the_prompts(tokenizer: Any) -> None:
    renderer, draw = Renderer(), Draw.seeded(5)
    for _ in range(40):
        talk = conversation(draw, draw_task(draw))
        options = {"tools": list(talk.tools) or None, "enable_thinking": talk.directive}
        assert renderer.prompt(talk) == render(tokenizer, list(talk.messages), **options)


def test_the_checkpoint_carries_the_template_of_the_sources() -> None:
    assert (CHECKPOINT / "chat_template.jinja").read_text() == TEMPLATE.read_text()


def test_markup_is_one_token_each_and_survives_decoding_without_special_tokens(tokenizer: Any) -> None:
    text = "<think>\na\n</think>\n\n<tool_call>\n{}\n</tool_call><tool_response></tool_response>"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert all(len(tokenizer(tag)["input_ids"]) == 1 for tag in ("<think>", "</tool_call>", "<|im_end|>"))
    assert tokenizer.decode(tokenizer("a<|im_end|>")["input_ids"], skip_special_tokens=True) == "a"


@pytest.mark.parametrize("text", ["12345", "naïve 日本 😀", ' {"a": [1, "b c"]}\n\n', "tabs\tand  spaces\r\n"])
def test_any_text_survives_the_tokenizer(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_digits_stand_alone(tokenizer: Any) -> None:
    assert tokenizer.tokenize("4096") == ["4", "0", "9", "6"]


def test_a_word_is_the_same_tokens_wherever_it_stands(tokenizer: Any) -> None:
    word = tokenizer("zanzibar")["input_ids"]
    for text in (" zanzibar", '"zanzibar"', "-zanzibar", "\nzanzibar"):
        ids = tokenizer(text)["input_ids"]
        assert ids[1 : 1 + len(word)] == word


def test_tools_are_written_as_json_lines(tokenizer: Any) -> None:
    line = render(tokenizer, [HELLO], tools=[TOOL]).splitlines()[2]
    assert json.loads(line) == TOOL
