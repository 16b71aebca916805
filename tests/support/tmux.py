"""A terminal that is typed into and looked at: tmux, with a server of its own."""

import os
import shlex
import shutil
import subprocess
import sys
import uuid
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from harness import wait_until

TMUX = shutil.which("tmux")
SECONDS = 40.0


class Terminal:
    """Runs a helexa command until it is left; what it returned is shown at its end as ``rc=0``.

    Args:
        arguments: of helexa.
        size: columns and lines.
        environment: beside that of the tests.
    """

    def __init__(
        self, *arguments: object, size: tuple[int, int] = (80, 24), environment: Mapping[str, str] | None = None
    ) -> None:
        self._name = f"helexa-{uuid.uuid4().hex[:8]}"
        self._size = size
        command = shlex.join([sys.executable, "-m", "helexa", *map(str, arguments)])
        self._command = f"{command}; echo rc=$?; cat"  # which stays, so that the end can be looked at
        self._environment = {**os.environ, "LC_ALL": "C.UTF-8", "HELEXA_ASCII": "", **(environment or {})}

    def __enter__(self) -> Self:
        columns, lines = map(str, self._size)
        self._tmux("-f", "/dev/null", "-u", "new-session", "-d", "-x", columns, "-y", lines, self._command)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._tmux("kill-server")

    def _tmux(self, *arguments: str) -> str:
        assert TMUX is not None
        command = [TMUX, "-L", self._name, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20, env=self._environment)
        return done.stdout

    def press(self, *keys: str) -> None:
        """Keys as tmux calls them: ``Escape``, ``C-p``, ``q``."""
        self._tmux("send-keys", *keys)

    def shown(self) -> str:
        """What is on the screen."""
        return self._tmux("capture-pane", "-p")

    def sees(self, *texts: str) -> str:
        """Wait until all of these are on the screen; what is there then."""

        def look() -> str:
            found = self.shown()
            return found if all(text in found for text in texts) else ""

        return wait_until(look, SECONDS, lambda: f"{texts} on the screen, which shows\n{self.shown()}")

    def leave(self) -> None:
        """Press ``q`` until the command has ended well: one that follows Escape at once is Alt+q to a terminal."""

        def ended() -> bool:
            self.press("q")
            return "rc=0" in self.shown()

        wait_until(ended, SECONDS, lambda: f"the end, but\n{self.shown()}")

    def misses(self, text: str) -> None:
        """Wait until this is not on the screen."""
        wait_until(lambda: text not in self.shown(), SECONDS, lambda: f"no {text!r}, but\n{self.shown()}")
