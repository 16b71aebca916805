"""The Chat screen: what is asked of models, what is shown of their answers, and how an answer is stopped."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
from attrs import define, field
from consoles import LARGE, NOW, SMALL, Deeds, Script, compare, console, run, seen, settle, text
from textual.pilot import Pilot
from textual.widgets import Collapsible, Markdown

from tui.app import Console
from tui.client import FleetError
from tui.messages import Seen
from tui.screens.chat import ChatScreen
from tui.screens.parameters import ParametersForm
from tui.screens.picking import Pick
from tui.widgets import conversation
from tui.widgets.conversation import Conversation, Turn
from tui.widgets.prompt import Prompt

FIRST = "chat"
MODELS = {
    "data": [
        {"id": "qwen3-8b", "status": "loaded", "loaded": True},
        {"id": "llama-3.1-8b", "status": "loaded", "loaded": True},
        {"id": "phi-4", "status": "unloaded"},
    ]
}
TEXT = """Two ways:

1. **Measure** first, with `helexa bench run`.
2. Then change *one* thing.

| device | tok/s |
|---|---|
| big | 142 |
| small | 88 |
"""
CALL = {"index": 0, "id": "c1", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
USED = {"prompt_tokens": 21, "completion_tokens": 21, "prompt_tokens_details": {"cached_tokens": 8}}
END = {"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": USED}


def chunk(**delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


@define(eq=False)
class Models(Deeds):
    """Models that answer as scripted: chunks, seconds that pass, errors, events to be waited for.

    Attributes:
        scripts: by model.
        closed: whose answers were closed before their end.
    """

    scripts: dict[str, list[Any]] = field(factory=dict)
    closed: list[str] = field(factory=list)
    at: float = 0.0

    async def chat(self, wanted: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        self.done.append(("chat", wanted))
        try:
            for step in self.scripts[wanted["model"]]:
                if isinstance(step, float):
                    self.at += step
                elif isinstance(step, Exception):
                    raise step
                elif isinstance(step, asyncio.Event):
                    await step.wait()
                else:
                    yield step
        except (GeneratorExit, asyncio.CancelledError):
            self.closed.append(wanted["model"])
            raise


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Models:
    thought = [0.5, chunk(reasoning_content="The operator wants "), chunk(reasoning_content="speed.")]
    answer = [chunk(content=TEXT[:40]), 2.0, chunk(content=TEXT[40:]), END]
    called = [0.25, chunk(content="I ask."), 1.0, chunk(tool_calls=[CALL]), END]
    found = Models(scripts={"qwen3-8b": [*thought, *answer], "llama-3.1-8b": called})
    monkeypatch.setattr(conversation, "now", lambda: found.at)
    return found


def app_of(models: Models, *told: Any) -> Console:
    script = Script(list(told) or seen(NOW, fleet={"nodes": []}, models=MODELS))
    operations: Any = models
    return Console(script, operations, "http://fleet:31313")


def sides(app: Console) -> list[Conversation]:
    assert isinstance(app.screen, ChatScreen)
    return app.screen.sides


async def until(pilot: Pilot[None], fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not fact():
            await pilot.pause()
    await settle(pilot)


async def say(pilot: Pilot[None], message: str, *, wait: bool = True) -> None:
    app = pilot.app
    assert isinstance(app, Console)
    await pilot.press("enter")
    app.screen.query_one(Prompt).text = message
    await pilot.press("enter")
    await settle(pilot)
    if wait:
        await until(pilot, lambda: not any(side.running for side in sides(app)))
        for turn in app.screen.query(Turn):
            await turn.draw()
        await settle(pilot)


def asked(models: Models) -> list[Mapping[str, Any]]:
    return [wanted for name, wanted in models.done if name == "chat"]


def source(app: Console) -> list[str]:
    return [turn.query_one(Markdown).source for turn in app.screen.query(Turn)]


def test_a_message_is_answered_with_what_streams_in(models: Models) -> None:
    app = app_of(models)

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.pause()
        await say(pilot, "How fast?")
        (wanted,) = asked(models)
        assert wanted["model"] == "qwen3-8b"
        assert wanted["messages"] == [{"role": "user", "content": "How fast?"}]
        assert source(app) == [TEXT]
        assert app.screen.query_one(Prompt).text == ""
        assert "first token 500 ms  10.0 tok/s  21 (8 cached) + 21 tokens" in text(app)

    run(app, steps)


def test_the_next_message_tells_what_was_said_before(models: Models) -> None:
    app = app_of(models)

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.pause()
        await say(pilot, "one")
        await pilot.press("escape")
        await say(pilot, "two")
        roles = [(each["role"], each["content"]) for each in asked(models)[-1]["messages"]]
        assert roles == [("user", "one"), ("assistant", TEXT), ("user", "two")]
        await pilot.press("escape", "n")
        await say(pilot, "three")
        assert [each["content"] for each in asked(models)[-1]["messages"]] == ["three"]

    run(app, steps)


def test_reasoning_is_folded_until_it_is_wanted(models: Models) -> None:
    app = app_of(models)

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.pause()
        await say(pilot, "one")
        assert app.screen.query_one(Collapsible).collapsed
        assert app.screen.query_one(Collapsible).title == "Reasoning, 4 words"
        await pilot.press("escape", "r")
        await settle(pilot)
        assert not app.screen.query_one(Collapsible).collapsed
        assert "The operator wants speed." in text(app)

    run(app, steps)


def test_escape_stops_an_answer_closes_its_connection_and_keeps_what_came(models: Models) -> None:
    models.scripts["qwen3-8b"] = [chunk(content="Half"), asyncio.Event()]
    app = app_of(models)

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.pause()
        await say(pilot, "one", wait=False)
        await until(pilot, lambda: bool(sides(app)[0].query_one(Turn).answer.content))
        await pilot.press("escape")
        await until(pilot, lambda: models.closed == ["qwen3-8b"])
        await until(pilot, lambda: not sides(app)[0].running)
        await sides(app)[0].query_one(Turn).draw()
        await settle(pilot)
        assert "stopped" in text(app)
        assert source(app) == ["Half"]
        assert [each["content"] for each in sides(app)[0].messages] == ["one", "Half"]

    run(app, steps)


def test_what_failed_leaves_no_trace_and_can_be_sent_again(models: Models) -> None:
    models.scripts["qwen3-8b"] = [FleetError("The budget of this key is used up.")]
    app = app_of(models)

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.pause()
        await say(pilot, "one")
        assert "The budget of this key is used up." in text(app)
        assert sides(app)[0].messages == []
        assert app.screen.query_one(Prompt).text == "one"

    run(app, steps)


def test_two_models_are_asked_the_same_side_by_side(models: Models) -> None:
    app = app_of(models)

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("ctrl+t")
        await say(pilot, "Rain?")
        assert [each["model"] for each in asked(models)] == ["qwen3-8b", "llama-3.1-8b"]
        assert "calls weather" in text(app)
        assert app.screen.query_one(Prompt).placeholder == "Enter: write what the tool answers"
        await pilot.press("escape")
        models.scripts["llama-3.1-8b"] = [chunk(content="Wet."), END]
        await say(pilot, "It rains.")
        assert asked(models)[-1]["messages"][-1] == {"role": "tool", "tool_call_id": "c1", "content": "It rains."}
        assert asked(models)[-2]["messages"][-1] == {"role": "user", "content": "It rains."}
        await pilot.press("escape", "y")
        assert app.clipboard == f"qwen3-8b:\n{TEXT}\n\nllama-3.1-8b:\nWet."
        await pilot.press("ctrl+t")
        assert len(sides(app)) == 1

    run(app, steps, LARGE)


@pytest.mark.parametrize(("size", "name"), [(SMALL, "chat-80x24"), (LARGE, "chat-250x70")])
def test_the_screen_looks_as_it_did(models: Models, size: tuple[int, int], name: str) -> None:
    app = app_of(models)

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("ctrl+t")
        await say(pilot, "How fast?")
        await pilot.press("escape")
        await settle(pilot)
        compare(app, name)

    run(app, steps, size)


def test_a_model_is_chosen_from_a_list(models: Models) -> None:
    models.scripts["phi-4"] = [chunk(content="Here."), END]
    app = app_of(models)

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("m")
        assert isinstance(app.screen, Pick)
        await pilot.press(*"phi", "enter")
        await settle(pilot)
        assert "the first message has it loaded" in text(app)
        await say(pilot, "one")
        assert asked(models)[-1]["model"] == "phi-4"

    run(app, steps)


def test_settings_are_asked_for_until_they_make_sense_and_then_used(models: Models) -> None:
    app = app_of(models)

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("p")
        await pilot.press("tab", *"hot", "enter")
        assert isinstance(app.screen, ParametersForm)
        assert "Temperature: 'hot' is no number." in text(app)
        await pilot.press("backspace", "backspace", "backspace", *"0.5", "enter")
        await settle(pilot)
        assert "temperature 0.5" in text(app)
        await say(pilot, "one")
        assert asked(models)[-1]["temperature"] == 0.5

    run(app, steps)


def test_digits_are_text_where_a_message_is_written_and_screens_elsewhere(models: Models) -> None:
    app = app_of(models)

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("enter", *"1 / 2?", "ctrl+j", "q")
        assert app.screen.query_one(Prompt).text == "1 / 2?\nq"
        await pilot.press("escape", "1")
        assert not isinstance(app.screen, ChatScreen)

    run(app, steps)


def test_only_turns_with_the_words_are_shown(models: Models) -> None:
    app = app_of(models)

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.pause()
        await say(pilot, "alpha")
        await pilot.press("escape")
        await say(pilot, "beta")
        await pilot.press("escape", "slash", *"beta")
        await settle(pilot)
        assert [turn.display for turn in app.screen.query(Turn)] == [False, True]

    run(app, steps)


def test_a_console_that_only_looks_on_asks_nobody() -> None:
    app, _, _ = console(*seen(NOW, fleet={"nodes": []}, models=MODELS), readonly=True)

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("enter", "m", "p", "ctrl+t", "n", "y", "escape")
        await settle(pilot)
        assert isinstance(app.screen, ChatScreen)
        assert "only looks on" in text(app)
        assert "Model" not in text(app).splitlines()[-1]

    run(app, steps)


def test_a_fleet_without_models_and_one_that_does_not_list_them_say_so(models: Models) -> None:
    app = app_of(models, Seen("models", None, NOW, "This key may not."))

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.pause()
        await say(pilot, "one")
        assert [each.message for each in app._notifications] == ["Models cannot be listed: This key may not."]
        assert app.screen.query_one(Prompt).text == "one"
        assert asked(models) == []

    run(app, steps)


@pytest.mark.parametrize(
    "nasty",
    [
        "\x1b[2J\x07bell",
        "[bold]no[/] [/nope] [link=x]",
        "```nonsense\n\x00",
        "|a|\n|-|\n" * 30,
        "<script>x</script>\n" + "#" * 50,
    ],
)
def test_what_models_write_is_shown_and_obeyed_by_nobody(models: Models, nasty: str) -> None:
    models.scripts["qwen3-8b"] = [
        chunk(reasoning_content=nasty),
        *(chunk(content=each) for each in nasty),
        chunk(tool_calls=[CALL | {"id": nasty}]),
        END,
    ]
    app = app_of(models)

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.pause()
        await say(pilot, nasty)
        await pilot.press("escape", "r")
        await settle(pilot)
        assert "\x1b" not in text(app)
        assert "\x07" not in text(app)

    run(app, steps)
