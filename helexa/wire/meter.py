"""What a neuron tells its gateway of tokens, and the gateway its neuron of budgets. Pure.

A gateway that asks for it gets, in each stream, a comment line (WHATWG HTML, section 9.2: whoever reads events passes
it over) after the events of each write: what has been used up to them. So it knows at any moment what it has passed
on, however the stream ends, and no client sees the comments. An answer in one piece tells the same in a header.

The gateway says in turn how many tokens a request may use. A neuron counts the prompt exactly, and keeps to it.
"""

from re import compile as pattern
from typing import ClassVar

from attrs import define, frozen

from helexa.wire import sse
from helexa.wire.errors import ApiError

HEADER = b"x-helexa-meter"
"""Of a request: tell me. Of a stream: I do."""
ON = b"1"
USAGE = b"x-helexa-usage"
"""Of an answer in one piece: the totals."""
BUDGET = b"x-helexa-budget"
"""Of a request: an allowance."""
EXCEEDED = "budget_exceeded"
"""The code of a neuron's refusal. No client sees it: the gateway knows whose budget it is, and says so."""
Totals = tuple[int, int, int]
"""Tokens so far: of the prompt, of the answer, and of the prompt those found in the KV cache."""

_COMMENT = pattern(rb"\n:u (\d{1,15}) (\d{1,15}) (\d{1,15})(?=\n)")
"""With the end of the line before it, for which its own end stands in when it is taken out."""
_NUMBERS = pattern(rb"\d{1,15}(?: \d{1,15})*")
_PARTS = 4
"""Of a split: events, then the three groups."""


@frozen
class Allowance:
    """Tokens that a request may use.

    Attributes:
        total: of prompt and answers together.
        output: of all answers together.
    """

    total: int
    output: int

    def each(self, prompt: int, choices: int) -> int:
        """How long each answer may be, in tokens; less than one: there is no room for any.

        Args:
            prompt: tokens of all prompts, each counted once.
            choices: answers to all prompts together.
        """
        return min(self.output, self.total - prompt) // choices


def comment(totals: Totals) -> bytes:
    """The line that follows the events of a write."""
    return b":u %d %d %d\n" % totals


def write_usage(totals: Totals) -> bytes:
    """The value of ``USAGE``."""
    return b"%d %d %d" % totals


def read_usage(value: bytes | None) -> Totals | None:
    """The totals in a header; ``None`` if it is absent or none that ``write_usage`` makes."""
    found = _numbers(value, 3)
    return None if found is None else (found[0], found[1], found[2])


def write_allowance(allowance: Allowance) -> bytes:
    """The value of ``BUDGET``; what is below nothing is nothing."""
    return b"%d %d" % (max(0, allowance.total), max(0, allowance.output))


def read_allowance(value: bytes | None) -> Allowance | None:
    """The allowance; ``None``, no limit, if the header is absent.

    Raises:
        ApiError: it is none that ``write_allowance`` makes: to serve without a limit would not be what was meant.
    """
    if value is None:
        return None
    found = _numbers(value, 2)
    if found is None:
        message = f"The header '{BUDGET.decode()}' is two numbers of tokens."
        raise ApiError(400, message, "invalid_request_error", "invalid_value")
    return Allowance(found[0], found[1])


def _numbers(value: bytes | None, count: int) -> list[int] | None:
    if value is None or not _NUMBERS.fullmatch(value):
        return None
    found = [int(each) for each in value.split(b" ")]
    return found if len(found) == count else None


class ExceededError(ApiError):
    """An allowance that is too small, and how long the prompt is, which nobody but a neuron knows."""

    _prompt: int

    @classmethod
    def of(cls, prompt: int, wanted: int, room: int) -> "ExceededError":
        """All in tokens; ``wanted`` and ``room`` for each answer."""
        detail = f"The prompt has {prompt} tokens, and the budget leaves {max(0, room)} of {wanted} for an answer."
        made = cls(429, detail, "insufficient_quota", EXCEEDED)
        made._prompt = prompt
        return made

    def headers(self) -> list[tuple[bytes, bytes]]:
        """What an answer has as well."""
        return [(USAGE, write_usage((self._prompt, 0, 0)))]


@define(eq=False)
class Reader:
    """Takes the comments out of a stream, however it is cut, and hands out no event before its totals are known.

    Attributes:
        totals: what has been used up to and with the events handed out; ``None`` before the first comment.
        estimated: whether that is not known exactly.
    """

    estimated: ClassVar[bool] = False
    totals: Totals | None = None
    _held: bytes = b"\n"  # begins with the end of the last line handed out, as if there had always been one

    def push(self, data: bytes) -> bytes:
        """The events that these bytes complete: all up to the last comment, and the end mark, which costs nothing."""
        *told, tail = _COMMENT.split(self._held + data)
        found = b""
        if told:
            self.totals = (int(told[-3]), int(told[-2]), int(told[-1]))
            found = b"".join([*told[::_PARTS], b"\n"])[1:]
        if tail.endswith(sse.DONE):
            found, tail = found + tail[1:], b"\n"
        self._held = tail
        return found

    def finish(self) -> bytes:
        """The rest of a stream that has ended."""
        tail, self._held = self._held, b"\n"
        return tail[1:]
