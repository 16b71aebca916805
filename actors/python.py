"""How helexa starts its own modules as child processes."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

_HOME = str(Path(__file__).resolve().parents[1])


def command(module: str, *arguments: str) -> list[str]:
    """The command line of a module of ours.

    ``-P``: ``-m`` would otherwise put the working directory first on the import path, and an operator's project may
    well have a directory named ``config``.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def environment(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """``base``, or this process's environment, in which the child finds the packages that this process runs."""
    found = dict(os.environ if base is None else base)
    found["PYTHONPATH"] = os.pathsep.join(filter(None, [_HOME, found.get("PYTHONPATH")]))
    return found
