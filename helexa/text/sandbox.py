"""Chat templates come with models, from strangers: what rendering one may cost.

jinja2's sandbox keeps a template from reaching anything but its variables. It lets one loop for hours, and multiply a
string until the memory is full. So loops and calls are counted here against the processor time of their thread, and
whatever makes much of little is refused before it does: operators, formats, and the filters and methods that repeat.

Rendering stays that of transformers: only the environment that it compiles templates in is another, with the same
filters, globals and extensions.
"""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from functools import lru_cache, wraps
from itertools import count
from time import perf_counter, thread_time
from typing import Any

from attrs import define, field
from jinja2 import Template, nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

SECONDS = 1.0
"""Of processor time, so that a busy machine refuses nobody. Long conversations take some hundredths."""
MOST_CHARACTERS = 32 * 2**20
"""Of a prompt, and of anything on the way to it; a request's body is bounded far lower."""
_MOST_BITS = 4096
_VALUES_PER_STEP = 256
_WIDTH = re.compile(r"\d{6,}")
_STEPS, _JOINED = "helexa_steps", "helexa_joined"
_FILTERS = (
    *("batch", "center", "escape", "e", "forceescape", "format", "indent", "join", "pprint", "replace", "slice"),
    *("string", "sum", "tojson", "truncate", "urlencode", "urlize", "wordwrap", "xmlattr"),
)
_METHODS = frozenset(
    ("center", "expandtabs", "format", "format_map", "join", "ljust", "replace", "rjust", "translate", "zfill")
)


class TemplateLimitError(SecurityError):
    """A template would cost more than it may; the message is half a sentence about what."""


@define(eq=False)
class _Meter:
    """Until when a rendering may take."""

    # Asking for the processor time takes ten times as long, and it never runs ahead of the clock on the wall.
    _wall: float = field(factory=lambda: perf_counter() + SECONDS)
    _used: float = field(factory=lambda: thread_time() + SECONDS)

    def look(self) -> None:
        if perf_counter() > self._wall and thread_time() > self._used:
            raise TemplateLimitError(f"it takes more than {SECONDS:g} s")


class _Current(threading.local):
    meter: _Meter | None = None


_current = _Current()


@contextmanager
def limited() -> Iterator[None]:
    """What this thread renders within the block has a time limit."""
    before, _current.meter = _current.meter, _Meter()
    try:
        yield
    finally:
        _current.meter = before


def install() -> None:
    """Have transformers compile chat templates in the bounded environment, from now on and in the whole process."""
    from transformers.utils import chat_template_utils

    chat_template_utils._compile_jinja_template = compiled  # noqa: SLF001 - there is no public way in


@lru_cache(maxsize=64)
def compiled(source: str) -> Template:
    """A chat template whose rendering is bounded.

    Raises:
        jinja2.TemplateError: it is no template, or one that costs too much to read.
    """
    environment = _environment()
    tree = _Bounding().visit(environment.parse(source))
    return environment.template_class.from_code(environment, environment.compile(tree), environment.globals.copy())


@lru_cache(maxsize=1)
def _environment() -> "_Bounded":
    """With what transformers gives templates; its own are made one per template, and a plain one tells what with."""
    from transformers.utils.chat_template_utils import _cached_compile_jinja_template as compile_plain

    theirs = compile_plain("").environment
    ours = _Bounded(
        trim_blocks=theirs.trim_blocks,
        lstrip_blocks=theirs.lstrip_blocks,
        extensions=[type(each) for each in theirs.extensions.values()],
        finalize=_shown,
    )
    ours.globals.update(theirs.globals)
    del ours.globals["lipsum"]  # any amount of text, made in one call
    ours.filters.update(theirs.filters)
    ours.filters.update({name: _bounded_filter(name, ours.filters[name]) for name in _FILTERS})
    ours.filters.update({_STEPS: _steps, _JOINED: _joined, "map": _bounded_map(ours.filters["map"])})
    return ours


class _Bounding(NodeTransformer):
    """Counts the rounds of loops, and measures what is joined by ``~`` before it is."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - jinja2's way of naming
        """Iterate over what counts."""
        self.generic_visit(node)
        node.iter = _filtered(node.iter, _STEPS)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - jinja2's way of naming
        """Join by a filter."""
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), _JOINED)


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    assert isinstance(node, nodes.Expr)
    found = nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)
    found.environment = node.environment
    return found


class _Bounded(ImmutableSandboxedEnvironment):
    """The sandbox, with bounds on what its operations make."""

    intercepted_binops = frozenset({"*", "**", "%", "+"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Do one of the operations that can make much of little."""
        if type(left) is str and type(right) is str and operator == "+" and len(left) + len(right) <= MOST_CHARACTERS:
            return left + right  # by far the most frequent
        _check_operation(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call what a template calls, macros among it."""
        _step()
        subject, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
        if isinstance(subject, str) and name in _METHODS:
            _check_expansion(name, subject, (*args, *kwargs.values()))
        elif name == "strftime_now":
            _check_format(*args)
        found = super().call(context, function, *args, **kwargs)
        return _within(found) if isinstance(found, str) else found

    @staticmethod
    def concat(pieces: Iterable[str]) -> str:
        """The whole output, as long as it does not grow too long."""
        found, size = [], 0
        for piece in pieces:
            size += len(piece)
            if size > MOST_CHARACTERS:
                raise _too_long()
            found.append(piece)
        return "".join(found)


def _step() -> None:
    if _current.meter is not None:
        _current.meter.look()


def _steps(found: Iterable[Any]) -> Iterable[Any]:
    """The same, counted; what is no sequence of anything is left for the loop to complain of."""
    return found if isinstance(found, Undefined) else _Counted(found)


@define(eq=False)
class _Counted:
    """What a loop goes through. Its length is known where that of the original is, for ``loop.last`` and the like."""

    _found: Iterable[Any]

    def __iter__(self) -> Iterator[Any]:
        for each in self._found:
            _step()
            yield each

    def __len__(self) -> int:
        if not isinstance(self._found, Sized):
            raise TypeError("object has no len()")
        return len(self._found)


def _joined(parts: list[Any]) -> str:
    _measure(parts)
    return "".join(map(str, parts))


def _shown(value: Any) -> Any:
    """A value on its way to the output: a container that holds itself many times over has many characters."""
    if not isinstance(value, str):
        _measure(value)
    return value


def _bounded_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    passed = getattr(function, "jinja_pass_arg", None) is not None

    @wraps(function)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        subject, *others = args[passed:]
        subject = list(subject) if isinstance(subject, Iterator) else subject  # what cannot be looked at twice
        _check_expansion(name, subject, (*others, *kwargs.values()))
        return function(*args[:passed], subject, *others, **kwargs)

    return bounded


def _bounded_map(function: Callable[..., Iterable[Any]]) -> Callable[..., Iterator[Any]]:
    """The one filter that makes a new value for each, at a time when nobody looks any more."""

    @wraps(function)
    def bounded(*args: Any, **kwargs: Any) -> Iterator[Any]:
        size = 0
        for each in function(*args, **kwargs):
            _step()
            size += _measure(each)
            if size > MOST_CHARACTERS:
                raise _too_long()
            yield each

    return bounded


def _check_operation(operator: str, left: Any, right: Any) -> None:
    if operator == "%":
        _check_format(left)
        _measure((left, right))
    elif isinstance(left, int) and isinstance(right, int):
        _check_numbers(operator, left, right)
    elif operator == "*":
        size, times = (left, right) if isinstance(right, int) else (right, left)
        if isinstance(size, Sized) and isinstance(times, int) and len(size) * times > MOST_CHARACTERS // 8:
            raise _too_long()
    elif isinstance(left, Sized) and isinstance(right, Sized) and len(left) + len(right) > MOST_CHARACTERS:
        raise _too_long()


def _check_numbers(operator: str, left: int, right: int) -> None:
    bits = left.bit_length() * max(1, right) if operator == "**" else left.bit_length() + right.bit_length()
    if bits > _MOST_BITS:
        raise TemplateLimitError("it computes with numbers that are too large")


def _check_format(*formats: Any) -> None:
    if any(isinstance(each, str) and "%" in each and _WIDTH.search(each) for each in formats):
        raise _too_long()


def _check_expansion(name: str, subject: Any, others: tuple[Any, ...]) -> None:
    """Refuse to repeat, fill or insert more than there may be in the end."""
    if _measure(subject) * _growth(name, subject, others) > MOST_CHARACTERS:
        raise _too_long()


def _growth(name: str, subject: Any, others: tuple[Any, ...]) -> int:
    """How many times as large as its subject a result may be, at most; exact enough where much is common."""
    if name == "sum" and any(isinstance(each, list | tuple) for each in others):
        raise TemplateLimitError("it sums up what are no numbers")
    if name == "replace" and isinstance(subject, str) and len(others) > 1:
        old, new = map(str, others[:2])
        return 1 + subject.count(old) * len(new) // (len(subject) + 1)
    if name in {"format", "format_map"} and isinstance(subject, str):
        if _WIDTH.search(subject):
            raise _too_long()
        return 1 + _measure(others) * (subject.count("{") + subject.count("%")) // (len(subject) + 1)
    return max([1, *map(_factor, others)])


def _factor(argument: Any) -> int:
    return argument if isinstance(argument, int) else _measure(argument)


def _measure(value: Any) -> int:
    """About how many characters a value has when it is written; what it holds twice is written twice.

    Raises:
        TemplateLimitError: more than there may be.
    """
    size, left = 0, [value]
    for number in count():
        if not left:
            break
        each = left.pop()
        if isinstance(each, str):
            size += len(each)
        elif isinstance(each, dict):
            left.extend(each.keys())
            left.extend(each.values())
        elif isinstance(each, list | tuple | set | frozenset):
            left.extend(each)
        size += 2
        if number % _VALUES_PER_STEP == _VALUES_PER_STEP - 1:
            _step()
        if size > MOST_CHARACTERS or len(left) > MOST_CHARACTERS // 8:
            raise _too_long()
    return size


def _within(text: str) -> str:
    if len(text) > MOST_CHARACTERS:
        raise _too_long()
    return text


def _too_long() -> TemplateLimitError:
    return TemplateLimitError(f"it makes more than {MOST_CHARACTERS} characters")
