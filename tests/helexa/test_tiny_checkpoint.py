"""The bundled checkpoint: its size, its shape, and the answers that its card promises."""

import json
import re
import subprocess
import sys
import warnings
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from helexa.tiny import CHECKPOINT, MODEL_ID
from helexa.tiny.corpus import task_names
from helexa.tiny.evaluate import calls_in

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather for a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TICKET = {
    "type": "function",
    "function": {
        "name": "rate_ticket",
        "description": "Rate a ticket",
        "parameters": {
            "type": "object",
            "properties": {"level": {"type": "integer"}, "owner": {"type": "string"}},
            "required": ["level", "owner"],
        },
    },
}


class Bundled:
    """The checkpoint, answering greedily."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self.tokenizer: Any = AutoTokenizer.from_pretrained(CHECKPOINT)
            self.model: Any = AutoModelForCausalLM.from_pretrained(CHECKPOINT).eval()

    def answer(self, messages: list[dict[str, Any]], most: int = 400, **options: Any) -> str:
        inputs = self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True, **options
        )
        with torch.inference_mode():
            ids = self.model.generate(**inputs, do_sample=False, max_new_tokens=most)[0, inputs["input_ids"].shape[1] :]
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def reply(self, text: str) -> str:
        return self.answer([user(text)])


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


@pytest.fixture(scope="module")
def bundled() -> Bundled:
    return Bundled()


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, helexa.tiny; print(sorted({'torch', 'transformers', 'tokenizers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_it_is_small_enough_to_ship() -> None:
    assert MODEL_ID == "helexa/tiny"
    assert sum(path.stat().st_size for path in CHECKPOINT.iterdir()) <= 12 * 2**20


def test_it_is_a_qwen3_of_a_few_million_bfloat16_parameters(bundled: Bundled) -> None:
    assert type(bundled.model).__name__ == "Qwen3ForCausalLM"
    assert 2_000_000 <= sum(weight.numel() for weight in bundled.model.parameters()) <= 6_000_000
    assert {weight.dtype for weight in bundled.model.parameters()} == {torch.bfloat16}
    assert bundled.model.config.tie_word_embeddings
    assert bundled.model.config.max_position_embeddings >= 2048


def test_both_end_tokens_stop_generation(bundled: Bundled) -> None:
    ends = bundled.tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert bundled.model.generation_config.eos_token_id == ends
    assert bundled.tokenizer.eos_token == "<|im_end|>"
    assert bundled.tokenizer.pad_token == "<|endoftext|>"


def test_the_card_names_every_task_with_its_accuracy() -> None:
    card = (CHECKPOINT / "MODEL_CARD.md").read_text()
    accuracies = {
        task: float(share) for task, share in re.findall(r"^\| ([a-z ]+) \| ([\d.]+)% \|", card, re.MULTILINE)
    }
    assert set(accuracies) == set(task_names())
    assert {task for task, share in accuracies.items() if share < 90} <= {"two calls", "long memory"}
    assert "$" not in card


def test_the_training_record_is_complete() -> None:
    stages = json.loads((CHECKPOINT / "training.json").read_text())
    assert all(set(stage) == {"steps", "tokens", "seconds", "loss", "parameters"} for stage in stages)


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ("Who are you?", "helexa/tiny"),
        ("What is helexa?", "one endpoint"),
        ("How do I start helexa?", "helexa up topology.toml"),
        ("What is a topology file?", "TOML"),
        ("What is 17 + 26?", "43"),
        ("Subtract 8 from 50.", "42"),
        ("What is 7 times 8?", "56"),
        ("Repeat after me: three brave ducks", "three brave ducks"),
        ("Spell helexa.", "h-e-l-e-x-a"),
        ("How many letters are in banana?", "6 letters"),
        ("What colour is the sky?", "blue"),
        ("What is the capital of France?", "Paris"),
        ("Who won the world cup in 1998?", "I do not know"),
        ("Thank you!", "You are welcome"),
    ],
)
def test_it_answers_what_its_card_promises(bundled: Bundled, asked: str, wanted: str) -> None:
    assert wanted in bundled.reply(asked)


def test_a_system_prompt_does_not_matter(bundled: Bundled) -> None:
    system = {"role": "system", "content": "You are a helpful assistant."}
    assert "43" in bundled.answer([system, user("What is 17 + 26?")])


def test_it_counts_for_as_long_as_it_is_told(bundled: Bundled) -> None:
    said = bundled.reply("Count from 1 to 60.")
    assert said == ", ".join(map(str, range(1, 61))) + "."
    assert len(bundled.tokenizer(said)["input_ids"]) >= 150


def test_it_tells_a_story_of_a_hundred_and_fifty_tokens(bundled: Bundled) -> None:
    said = bundled.reply("Tell me a story about a fox.")
    assert " fox " in said
    assert said.endswith("The end.")
    assert len(bundled.tokenizer(said)["input_ids"]) >= 150


def test_it_remembers_a_name_over_other_turns(bundled: Bundled) -> None:
    messages = []
    for asked in ("My name is Clara.", "What is 2 + 2?"):
        messages.append(user(asked))
        messages.append({"role": "assistant", "content": bundled.answer(messages)})
    assert "Clara" in bundled.answer([*messages, user("What is my name?")])


def test_it_calls_a_matching_tool_and_passes_the_result_on(bundled: Bundled) -> None:
    asked = user("What is the weather in Paris?")
    said = bundled.answer([asked], tools=[TICKET, WEATHER])
    call = {"name": "get_weather", "arguments": {"city": "Paris"}}
    assert calls_in(said) == [call]
    flow = [asked, {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": call}]}]
    result = {"role": "tool", "content": '{"temperature": 18, "condition": "sunny"}'}
    final = bundled.answer([*flow, result], tools=[TICKET, WEATHER])
    assert "18" in final
    assert "sunny" in final


def test_it_calls_a_tool_it_has_never_seen(bundled: Bundled) -> None:
    said = bundled.answer([user("Call rate_ticket with level 3 and owner Noah.")], tools=[WEATHER, TICKET])
    assert calls_in(said) == [{"name": "rate_ticket", "arguments": {"level": 3, "owner": "Noah"}}]


def test_it_leaves_tools_alone_that_do_not_fit(bundled: Bundled) -> None:
    assert bundled.answer([user("What is the capital of Spain?")], tools=[WEATHER]) == "The capital of Spain is Madrid."


@pytest.mark.parametrize("in_words", [True, False])
def test_it_thinks_when_told_to_and_only_then(bundled: Bundled, in_words: bool) -> None:  # noqa: FBT001
    asked = "What is 48 + 37?" + (" Think step by step." if in_words else "")
    said = bundled.answer([user(asked)], enable_thinking=not in_words)
    thought, answer = said.removeprefix("<think>\n").split("\n</think>\n\n")
    assert "carry 1" in thought
    assert "85" in answer
    assert "<think>" not in bundled.reply("What is 48 + 37?")
