"""How the commands of ``helexa bench`` end: every failure that an operator can cause is one sentence and a code."""

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn

import attrs
import typer

from helexa.cli.operate import PIPE_COLUMNS
from helexa.cli.output import FAILED, WRONG, fail, leaves

if TYPE_CHECKING:
    from rich.console import RenderableType

REGRESSION: Final = 3
"""Everything was measured, or read, and something has become worse."""


class Failure(Exception):  # noqa: N818 - it is the command that has failed
    """A command cannot go on; its text is a sentence.

    Attributes:
        code: what the command exits with.
    """

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


def end_with(act: Callable[[], int]) -> NoReturn:
    """Do it, and end with its exit code."""
    code = _attempt(act)
    sys.stdout.flush()
    raise typer.Exit(code)


def _attempt(act: Callable[[], int]) -> int:
    from helexa.bench.storage.store import RefError, StoreError, StoreSettingError
    from helexa.bench.storage.transfer import TransferError

    code = FAILED
    try:
        code = act()
    except* Failure as group:
        code = max(fail(str(error), error.code) for error in leaves(group) if isinstance(error, Failure))
    except* StoreError as group:
        for error in leaves(group):
            code = fail(_sentence(f"the database of runs cannot be used: {error}"))
    except* StoreSettingError as group:
        for error in leaves(group):
            code = fail(_sentence(str(error)), WRONG)
    except* (RefError, TransferError) as group:
        for error in leaves(group):
            code = fail(_sentence(str(error)))
    except* KeyboardInterrupt:
        code = fail("broken off.")
    return code


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."


def show(what: "RenderableType") -> None:
    """Print to stdout; what no terminal shows is not cut to a terminal's width."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS).print(what)


def as_text(what: "RenderableType") -> str:
    """The same as text, in colours only where stdout is a terminal."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS)
    with console.capture() as captured:
        console.print(what)
    return captured.get()


def print_json(found: Any) -> None:
    """Print as one line of JSON; what no JSON can say (an infinite ratio) as null."""
    import orjson

    sys.stdout.write(orjson.dumps(plain(found)).decode() + "\n")


def plain(found: Any) -> Any:
    """Records as plain containers; a build with its id, by which it can be asked for."""
    from helexa.bench.records import Build

    if attrs.has(type(found)):
        shown = {field.name: plain(getattr(found, field.name)) for field in attrs.fields(type(found))}
        return {"id": found.id, **shown} if isinstance(found, Build) else shown
    if isinstance(found, Mapping):
        return {str(name): plain(value) for name, value in found.items()}
    return [plain(each) for each in found] if isinstance(found, list | tuple) else found
