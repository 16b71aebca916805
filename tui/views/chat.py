"""What the Chat screen says beside answers; what its form takes. Pure but for the file with tools."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import orjson
from rich.text import Text

from tui.chatting import Answer, Parameters
from tui.glyphs import sign
from tui.shapes import Model
from tui.views.safe import line, lines

_WHY: Final = {"length": "cut: no more tokens were allowed", "content_filter": "filtered"}
FIELDS: Final = (
    ("system", "System prompt", "none"),
    ("temperature", "Temperature", "0 to 2; empty: the model's"),
    ("top_p", "Top-p", "up to 1; empty: the model's"),
    ("max_tokens", "Most tokens", "of an answer; empty: as many as fit"),
    ("tools", "Tools", "a JSON file with an array of them, as in OpenAI's API"),
)
"""Name, title and placeholder of each line of the form."""


class WrongError(ValueError):
    """A line of the form is not as it has to be; the message is for the operator."""


def parameters(given: Mapping[str, str]) -> Parameters:
    """Read the form.

    Raises:
        WrongError: a line is wrong.
    """
    most = _number(given, "max_tokens", 1, math.inf)
    if most is not None and most != int(most):
        raise WrongError("Most tokens: a whole number.")
    return Parameters(
        given.get("system", "").strip(),
        _number(given, "temperature", 0, 2),
        _number(given, "top_p", 0, 1),
        None if most is None else int(most),
        _tools(given.get("tools", "").strip()),
    )


def _number(given: Mapping[str, str], name: str, least: float, most: float) -> float | None:
    text, title = given.get(name, "").strip(), next(title for each, title, _ in FIELDS if each == name)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise WrongError(f"{title}: '{text}' is no number.") from None
    if not (least <= value <= most and math.isfinite(value)):
        raise WrongError(f"{title}: {f'{least} or more' if most == math.inf else f'from {least} to {most}'}.")
    return value


def _tools(path: str) -> tuple[Mapping[str, Any], ...]:
    if not path:
        return ()
    try:
        found = orjson.loads(Path(path).expanduser().read_bytes())
    except OSError as error:
        raise WrongError(f"Tools: {path} cannot be read: {(error.strerror or str(error)).lower()}.") from None
    except ValueError as error:
        raise WrongError(f"Tools: {path} is no JSON: {error}.") from None
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise WrongError(f"Tools: {path} has no array of objects.")
    return tuple(found)


def calls(answer: Answer) -> Text:
    """The tools that an answer calls, a line for each."""
    found = [
        Text.assemble(("calls ", "dim"), (line(each.name), "bold cyan"), f" {line(each.arguments)}")
        for each in answer.calls.values()
    ]
    return Text("\n").join(found)


def thinking(answer: Answer) -> str:
    """The line that reasoning is folded into."""
    words = len(answer.reasoning.split())
    return f"Reasoning, {words} word{'' if words == 1 else 's'}"


def figures(answer: Answer, now: float, *, running: bool, stopped: bool = False) -> Text:
    """The line under an answer: how long the first token took, how fast the others came, how many."""
    found = [] if answer.wait is None else [f"first token {seconds(answer.wait)}"]
    if answer.rate is not None:
        found.append(f"{answer.rate:.1f} tok/s")
    if answer.completion_tokens is not None:
        cached = f" ({answer.cached_tokens} cached)" if answer.cached_tokens else ""
        found.append(f"{answer.prompt_tokens}{cached} + {answer.completion_tokens} tokens")
    if running:
        found.append(seconds(now - answer.begun) if found else f"waiting {seconds(now - answer.begun)}")
    found += ["stopped"] if stopped else [_WHY[answer.finish]] if answer.finish in _WHY else []
    return Text("  ".join(found), "dim")


def seconds(value: float) -> str:
    """A short time."""
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def head(model: str, known: Iterable[Model], parameters: Parameters | None) -> Text:
    """The line above a conversation."""
    if not model:
        return Text(" no model", "dim")
    found = next((each for each in known if each.id == model), None)
    status = found.status if found else ""
    text = Text(" ").append_text(sign(status)) if status else Text("")
    text.append(f" {line(model)}", "bold")
    if found is not None and not found.loaded:
        text.append(f"  {status or 'not loaded'}: the first message has it loaded", "yellow")
    if parameters is not None and (said := parameters.said()):
        text.append(f"  {said}", "dim")
    return text


def choices(known: Iterable[Model], current: str) -> list[tuple[str, Text]]:
    """Models to choose from: the one that is talked to, those that are loaded, the others."""
    order = sorted(known, key=lambda each: (each.id != current, not each.loaded, each.id))
    return [(each.id, sign(each.status).append(f" {line(each.id)}", "not dim default")) for each in order]


def first_model(known: Iterable[Model], besides: str = "") -> str:
    """Whom to talk to until the operator has chosen: a model that is loaded and not the one given."""
    order = sorted(known, key=lambda each: (each.id == besides, not each.loaded))
    return order[0].id if order else ""


def said(text: str) -> Text:
    """What the operator wrote."""
    return Text(lines(text))
