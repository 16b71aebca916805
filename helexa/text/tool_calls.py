"""Splits tool calls written as `<tool_call>{"name": …, "arguments": {…}}</tool_call>` from the text around them. Pure.

States: text → opened (a tag, white space so far) → call (a tag and a brace) → text.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from helexa.text.deltas import ContentDelta, Delta, ToolCallDelta
from helexa.text.tags import TagScanner

OPEN = "<tool_call>"
CLOSE = "</tool_call>"
_SLICE = 4096  # characters
_QUOTE_OR_ESCAPE = re.compile(r'\\.|"', re.DOTALL)


def parse_call(body: str) -> tuple[str, str] | None:
    """Return the name and the compact JSON arguments of a call, None if it is not a well-formed one.

    Line breaks inside strings are accepted, since models write them. So are arguments that are absent, or that are
    themselves a JSON string of an object.
    """
    try:
        name, arguments = _read_call(_loads(body))
        written = json.dumps(arguments, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        (name + written).encode()  # half a surrogate pair would break whoever sends it on
    except (ValueError, TypeError, RecursionError):
        return None
    return name, written


def _loads(text: str) -> Any:
    return json.loads(text, strict=False, parse_constant=_not_json)


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON.")


def _read_call(call: object) -> tuple[str, dict[str, Any]]:
    if not isinstance(call, Mapping):
        raise TypeError("A call is an object.")
    name, arguments = call.get("name"), call.get("arguments", {})
    if isinstance(arguments, str):
        arguments = _loads(arguments)
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        raise TypeError("A call has a name and an object of arguments.")
    return name, arguments


class ToolCallSplitter:
    """One output stream. Each state is a method that takes text and returns what is left for the next state.

    A closing tag inside a JSON string belongs to the arguments (a model may be writing about tool calls). If no other
    closing tag ends the call, the string was malformed, and the text is read again taking each closing tag at face
    value.
    """

    def __init__(self, new_call_id: Callable[[], str]) -> None:
        """Start a stream; `new_call_id` names each call."""
        self._new_call_id = new_call_id
        self._state: Callable[[str], str] = self._text
        self._out: list[Delta] = []
        self._opening, self._closing = TagScanner(OPEN), TagScanner(CLOSE)
        self._blank: list[str] = []  # white space that is dropped if a call follows
        self._after_call = False  # white space is dropped because a call came before
        self._body: list[str] = []  # of the call so far, up to the last closing tag found inside a string
        self._segment: list[str] = []  # of the call after that
        self._in_string = False
        self._trust_strings = True
        self._calls = 0

    def push(self, text: str) -> list[Delta]:
        """Return the deltas that are certain after this text."""
        self._feed(text)
        return self._drain()

    def finish(self) -> list[Delta]:
        """Return what was held back; a call that was never closed comes out as it was written."""
        if self._state == self._call and self._in_string:
            self._reread()
        if self._state != self._text:
            self._content(OPEN + "".join([*self._body, *self._segment]) + self._closing.finish())
            self._leave()
        self._content(self._opening.finish())
        self._out.append(ContentDelta("".join(self._blank)))
        self._blank = []
        return self._drain()

    def _drain(self) -> list[Delta]:
        out, self._out = self._out, []
        return out

    def _reread(self) -> None:
        text = OPEN + "".join([*self._body, *self._segment]) + self._closing.finish()
        self._leave()
        self._trust_strings = False
        self._feed(text)

    def _feed(self, text: str) -> None:
        # In slices, because each change of state copies what is left: a long text full of tags would take its square.
        for start in range(0, len(text), _SLICE):
            rest = text[start : start + _SLICE]
            while rest:
                rest = self._state(rest)

    def _text(self, text: str) -> str:
        before, after = self._opening.push(text)
        self._content(before)
        if after is None:
            return ""
        self._state = self._opened
        return after

    def _opened(self, text: str) -> str:
        """Tell at the first character whether this can be a call: prose about the tag must not hold the stream up."""
        body = text.lstrip()
        self._segment.append(text[: len(text) - len(body)])
        if not body:
            return ""
        if body.startswith("{"):
            self._state = self._call
            return body
        self._content(OPEN + "".join(self._segment))
        self._leave()
        return body

    def _call(self, text: str) -> str:
        before, after = self._closing.push(text)
        self._segment.append(before)
        if after is None:
            return ""
        self._close()
        return after

    def _close(self) -> None:
        segment = "".join(self._segment)
        self._body.append(segment)
        self._segment = []
        self._in_string ^= _QUOTE_OR_ESCAPE.findall(segment).count('"') % 2 == 1
        if self._in_string and self._trust_strings:
            self._body.append(CLOSE)
        else:
            self._emit("".join(self._body))
            self._leave()

    def _emit(self, body: str) -> None:
        call = parse_call(body)
        if call is None:
            self._content(OPEN + body + CLOSE)
            return
        self._out.append(ToolCallDelta(self._calls, self._new_call_id(), *call))
        self._calls += 1
        self._blank, self._after_call = [], True

    def _leave(self) -> None:
        self._state, self._body, self._segment, self._in_string = self._text, [], [], False

    def _content(self, text: str) -> None:
        """Emit text, keeping back the white space at its end: it goes if a call follows."""
        if self._after_call:
            text = text.lstrip()
            self._after_call = not text
        core = text.rstrip()
        if not core:
            self._blank.append(text)
            return
        self._out.append(ContentDelta("".join([*self._blank, core])))
        self._blank = [text[len(core) :]]
