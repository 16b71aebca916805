"""What the commands have in common: exit codes, and what goes to stderr."""

import sys
from collections.abc import Iterator
from typing import Final

DONE: Final = 0
FAILED: Final = 1
WRONG: Final = 2
"""Wrong usage, or a wrong topology."""


def say(line: str) -> None:
    """Show progress, for whoever is watching."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - that is what a command line does


def fail(message: str, code: int = FAILED) -> int:
    """Show an error; its exit code."""
    say(f"helexa: {message}")
    return code


def leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """The errors of a group that are no groups themselves."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error
