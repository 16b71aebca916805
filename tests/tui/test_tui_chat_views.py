"""What the Chat screen says beside answers, and what its form takes."""

from pathlib import Path

import pytest

from tui.chatting import Answer, Call, Parameters
from tui.shapes import Model
from tui.views import chat as view

LOADED, AWAY = Model("big", "loaded", loaded=True), Model("small", "unloaded")


def test_a_form_left_empty_leaves_everything_to_the_model() -> None:
    assert view.parameters({}) == Parameters()
    assert view.parameters({name: " " for name, _, _ in view.FIELDS}) == Parameters()


def test_a_filled_form_is_read(tmp_path: Path) -> None:
    tools = tmp_path / "tools.json"
    tools.write_text('[{"type": "function"}]')
    given = {"system": " Be brief. ", "temperature": "0.7", "top_p": "1", "max_tokens": "64", "tools": str(tools)}
    found = view.parameters(given)
    assert found == Parameters("Be brief.", 0.7, 1.0, 64, ({"type": "function"},))
    assert found.said() == "temperature 0.7, top-p 1, max tokens 64, system prompt, 1 tool"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("temperature", "warm", "Temperature: 'warm' is no number."),
        ("temperature", "2.1", "Temperature: from 0 to 2."),
        ("temperature", "nan", "Temperature: from 0 to 2."),
        ("top_p", "-1", "Top-p: from 0 to 1."),
        ("max_tokens", "0", "Most tokens: 1 or more."),
        ("max_tokens", "inf", "Most tokens: 1 or more."),
        ("max_tokens", "1.5", "Most tokens: a whole number."),
        ("tools", "/nowhere/tools.json", "Tools: /nowhere/tools.json cannot be read: no such file or directory."),
    ],
)
def test_a_wrong_line_is_told_in_a_sentence(name: str, value: str, said: str) -> None:
    with pytest.raises(view.WrongError) as caught:
        view.parameters({name: value})
    assert str(caught.value) == said


@pytest.mark.parametrize(("text", "said"), [("{", "is no JSON"), ("{}", "no array"), ("[1]", "no array")])
def test_a_file_without_tools_is_told(tmp_path: Path, text: str, said: str) -> None:
    tools = tmp_path / "tools.json"
    tools.write_text(text)
    with pytest.raises(view.WrongError, match=said):
        view.parameters({"tools": str(tools)})


def test_the_line_under_an_answer_tells_what_is_known() -> None:
    waiting = Answer(begun=5.0)
    assert view.figures(waiting, 8.25, running=True).plain == "waiting 3.2 s"
    done = Answer(5.0, 5.25, 7.25, "x", prompt_tokens=12, cached_tokens=8, completion_tokens=101, finish="length")
    assert view.figures(done, 9.0, running=False).plain == (
        "first token 250 ms  50.0 tok/s  12 (8 cached) + 101 tokens  cut: no more tokens were allowed"
    )
    assert view.figures(waiting, 9.0, running=False, stopped=True).plain == "stopped"


def test_one_token_has_no_rate() -> None:
    assert Answer(0.0, 1.0, 1.0, completion_tokens=1).rate is None


def test_calls_are_shown_in_a_line_each_without_what_terminals_obey() -> None:
    found = Answer(0.0, calls={0: Call("a", "look", '{"a": "\x1b[2J"}'), 1: Call("b", "go", "{\n}")})
    assert view.calls(found).plain == 'calls look {"a": "·[2J"}\ncalls go {⏎}'


def test_a_model_that_is_not_loaded_says_what_asking_it_means() -> None:
    assert "the first message has it loaded" in view.head("small", [LOADED, AWAY], None).plain
    assert "loaded" not in view.head("big", [LOADED, AWAY], None).plain
    assert "no model" in view.head("", [], None).plain


def test_who_is_talked_to_first_is_loaded_and_another_one_beside() -> None:
    assert view.first_model([AWAY, LOADED]) == "big"
    assert view.first_model([AWAY, LOADED], besides="big") == "small"
    assert view.first_model([LOADED], besides="big") == "big"
    assert view.first_model([]) == ""


def test_choices_begin_with_the_one_that_is_talked_to() -> None:
    assert [key for key, _ in view.choices([LOADED, AWAY], "small")] == ["small", "big"]
