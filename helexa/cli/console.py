"""``helexa console``: which console is opened, where. Nothing of it is imported before it is known to be wanted."""

import gc
import os
import shlex
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import frozen

from helexa.cli.output import DONE, FAILED, WRONG, fail, say

if TYPE_CHECKING:
    from tui.app import Console

DRIVER: Final = "TEXTUAL_DRIVER"
"""Set by the server of the web mode for each console that it starts: its terminal is a browser."""


@frozen
class Wanted:
    """What an operator asked for.

    Attributes:
        url: of the gateway.
        key: API key, if the fleet asks for one.
        bench_url: of the benchmarks' API.
        readonly: whether nothing can be changed from it.
        record: a file to keep what is seen in.
        replay: a recording that is shown in place of a fleet.
        speed: seconds of the recording in one of ours.
    """

    url: str
    key: str | None
    bench_url: str
    readonly: bool = False
    record: Path | None = None
    replay: Path | None = None
    speed: float = 1.0


@frozen
class Web:
    """Where the console is served to browsers.

    Attributes:
        writable: whether the fleet can be changed from there: whoever reaches the address may use the operator's key.
    """

    host: str
    port: int
    writable: bool = False


def console(wanted: Wanted, web: Web | None = None) -> int:
    """Open a console, here or for browsers; its exit code."""
    problem = _problem(wanted, web)
    if problem is not None:
        return fail(problem, WRONG)
    return show(wanted) if web is None else _serve(wanted, web)


def _problem(wanted: Wanted, web: Web | None) -> str | None:
    if wanted.record is not None and wanted.replay is not None:
        return "a recording that is shown is not recorded again; leave out --record or --replay."
    if wanted.record is not None and web is not None:
        return "each browser has a console of its own, which cannot all write one file; leave out --record or --web."
    return None if web is not None else no_terminal()


def no_terminal() -> str | None:
    """Why no console can be opened here, if none can."""
    if DRIVER in os.environ or (sys.stdin.isatty() and sys.stdout.isatty()):
        return None
    return "the console needs a terminal; 'helexa status' prints the fleet for pipes and scripts."


def show(wanted: Wanted, leaving: str | None = None) -> int:
    """Run a console in this terminal until the operator leaves it.

    Args:
        wanted: which one.
        leaving: what is asked before it is left; ``None``: nothing.
    """
    if os.environ.get("TERM") == "linux":  # its fonts have letters, and hardly any sign
        os.environ.setdefault("HELEXA_ASCII", "1")
    gc.disable()  # until the first picture is there, ``Garbage.begin``: what is made before is there to stay
    from tui.client import FleetError
    from tui.garbage import Garbage
    from tui.recording import RecordingError

    try:
        with ExitStack() as files:
            found = _make(wanted, files)
            found.leaving, found.garbage = leaving, Garbage()
            found.run()
    except (FleetError, RecordingError) as error:
        return fail(str(error))
    finally:
        gc.enable()
    return DONE if found.return_code in (0, None) else FAILED


def _make(wanted: Wanted, files: ExitStack) -> "Console":
    from tui.app import live, replay
    from tui.recording import Recorder

    if wanted.replay is not None:
        return replay(wanted.replay, wanted.speed)
    recorder = None if wanted.record is None else files.enter_context(Recorder(wanted.record, wanted.url))
    return live(wanted.url, wanted.key, wanted.bench_url, readonly=wanted.readonly, recorder=recorder)


def _serve(wanted: Wanted, web: Web) -> int:
    from tui.web import serve

    readonly = wanted.readonly or not web.writable
    if wanted.key is not None:
        os.environ["HELEXA_API_KEY"] = wanted.key  # not among the arguments, which every user of the machine can see
    kind = "changes nothing; --web-writable lets it" if readonly else "may change the fleet"
    announce: Callable[[str], None] = lambda url: say(f"the console is at {url}, and {kind}; Ctrl-C ends it")  # noqa: E731 - said once the port is bound
    try:
        serve(shlex.join(command(wanted, readonly=readonly)), web.host, web.port, announce)
    except OSError as error:
        return fail(f"cannot serve the console on {web.host}:{web.port}: {(error.strerror or str(error)).lower()}.")
    return DONE


def command(wanted: Wanted, *, readonly: bool) -> list[str]:
    """The command line of one such console; the key is left to the environment."""
    found = [sys.executable, "-m", "helexa", "console", "--url", wanted.url, "--bench-url", wanted.bench_url]
    if wanted.replay is not None:
        found += ["--replay", str(wanted.replay.absolute()), "--speed", f"{wanted.speed:g}"]
    return [*found, "--readonly"] if readonly else found
