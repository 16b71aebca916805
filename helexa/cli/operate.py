"""The commands that look at a running fleet and change it. Each returns its exit code."""

import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from attrs import frozen

from config import Problem
from helexa.cli.output import DONE, FAILED, WRONG, fail, leaves, say

PIPE_COLUMNS = 240
"""Of output that no terminal shows: what reads it must not find names cut short."""


@frozen
class Fleet:
    """Which fleet a command talks to, and how it answers.

    Attributes:
        url: base URL.
        key: API key, if the fleet asks for one.
        as_json: results are printed as JSON.
    """

    url: str
    key: str | None
    as_json: bool = False


def status(fleet: Fleet) -> int:
    """Show nodes, models and actors."""
    from tui.client import FleetClient
    from tui.status import render

    def look() -> int:
        with FleetClient(fleet.url, fleet.key) as client:
            found, models, actors = client.fleet(), client.models(), client.actors()
        everything = {**found, "models": models, "actors": actors}
        return _show(fleet, everything, lambda: render(found, models, actors))

    return _attempt(fleet, look)


def ps(fleet: Fleet) -> int:
    """Show the models that nodes hold."""
    from tui.client import FleetClient
    from tui.status import held, render_held

    def look() -> int:
        with FleetClient(fleet.url, fleet.key) as client:
            rows = held(client.fleet())
        return _show(fleet, rows, lambda: render_held(rows))

    return _attempt(fleet, look)


def load(fleet: Fleet, model: str, node: str | None) -> int:
    """Load a model and wait until it serves."""

    def wait() -> int:
        answer = _move(fleet, model, "load", node)
        return _result(fleet, answer, f"{answer['model']} is loaded on {answer['node']}.")

    return _attempt(fleet, wait)


def unload(fleet: Fleet, model: str, node: str | None) -> int:
    """Unload a model once its requests have ended."""

    def wait() -> int:
        answer = _move(fleet, model, "unload", node)
        return _result(fleet, answer, f"{answer['model']} is unloaded from {_names(answer['nodes'])}.")

    return _attempt(fleet, wait)


def pin(fleet: Fleet, model: str, node: str | None, *, pinned: bool) -> int:
    """Keep a model where it is loaded, or no longer."""
    from tui.client import FleetClient

    def ask() -> int:
        with FleetClient(fleet.url, fleet.key) as client:
            answer = client.pin(model, node, pinned=pinned)
        state = "pinned on" if pinned else "no longer pinned on"
        return _result(fleet, answer, f"{answer['model']} is {state} {_names(answer['nodes'])}.")

    return _attempt(fleet, ask)


def plan(fleet: Fleet, file: Path) -> int:
    """Show what a topology would change, and where its models would fit."""
    from tui.client import FleetClient, TopologyRefusedError
    from tui.plan import render_plan

    def ask() -> int:
        try:
            text = file.read_bytes()
        except OSError as error:
            return fail(f"{file} cannot be read: {(error.strerror or str(error)).lower()}.", WRONG)
        try:
            with FleetClient(fleet.url, fleet.key) as client:
                found = client.plan(text, str(file))
        except TopologyRefusedError as error:
            return _refused(file, error.problems)
        return _show(fleet, found, lambda: render_plan(found))

    return _attempt(fleet, ask)


def _refused(file: Path, problems: list[dict[str, Any]]) -> int:
    for each in problems:
        say(str(Problem(each["file"], each["line"], each["path"], each["message"], each["hint"])))
    return fail(f"{len(problems)} problem{'s' * (len(problems) != 1)} in {file}; nothing was planned.", WRONG)


def _move(fleet: Fleet, model: str, action: str, node: str | None) -> dict[str, Any]:
    """Ask for what takes a while, and tell meanwhile how it goes."""
    import trio

    from helexa.cli.progress import Progress
    from tui.client import model_path
    from tui.follow import ask

    body = {} if node is None else {"node": node}
    hear = Progress(model, say).hear
    answer: dict[str, Any] = trio.run(partial(ask, fleet.url, fleet.key, model_path(model, action), body, hear))
    return answer


def _attempt(fleet: Fleet, act: Callable[[], int]) -> int:
    """Do it; every failure that an operator can cause is one sentence."""
    from tui.client import FleetError

    code = FAILED
    try:
        code = act()
    except* FleetError as group:
        for error in leaves(group):
            fail(str(error))
    except* KeyError as group:
        for error in leaves(group):
            fail(f"{fleet.url} answered without {error}, and not as a fleet does.")
    except* KeyboardInterrupt:
        fail("no longer waiting; 'helexa ps' shows what has come of it.")
    return code


def _show(fleet: Fleet, found: Any, render: Callable[[], Any]) -> int:
    if fleet.as_json:
        _print_json(found)
    else:
        from rich.console import Console

        Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS).print(render())
    return DONE


def _result(fleet: Fleet, answer: dict[str, Any], sentence: str) -> int:
    if fleet.as_json:
        _print_json(answer)
    else:
        sys.stdout.write(sentence + "\n")
    return DONE


def _print_json(found: Any) -> None:
    import orjson

    sys.stdout.write(orjson.dumps(found).decode() + "\n")


def _names(nodes: Iterable[str]) -> str:
    return ", ".join(nodes)
