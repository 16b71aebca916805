"""Quicker consoles: what is the same in each of them is parsed once, and waited for is work rather than time."""

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest
import textual.app
import textual.pilot
import textual.screen
from textual._context import active_app
from textual.app import App
from textual.css.model import RuleSet
from textual.css.stylesheet import Stylesheet

from tui.app import Console

MOMENT = 0.1
_PARSED: dict[Any, list[RuleSet]] = {}
_parse = Stylesheet._parse_rules


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """While the tests of the console run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stylesheet, "_parse_rules", _parse_once)
        patch.setattr(App, "delay_update", lambda _app: None)  # 50 ms in which a screen that comes is not drawn
        patch.setattr(textual.screen, "UPDATE_PERIOD", 3600.0)  # drawn is when `_idle` says so, and not in between
        for module in (textual.app, textual.pilot):
            patch.setattr(module, "wait_for_idle", _idle)
        yield


@pytest.fixture(scope="module", autouse=True)
def seldom_collected() -> Iterator[None]:
    """A console leaves a hundred thousand objects, and the whole heap would be walked through for each."""
    usual = gc.get_threshold()
    gc.set_threshold(usual[0], usual[1], 300)
    yield
    gc.set_threshold(*usual)


@pytest.fixture(autouse=True)
def begun(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a module names the screen that it is about as ``FIRST``, consoles begin with that one."""
    first = getattr(request.module, "FIRST", None)
    if first is not None:
        monkeypatch.setattr(Console, "switch_mode", lambda app, mode: _switch(app, mode, first))


def _switch(app: Console, mode: str, first: str) -> Any:
    return App.switch_mode(app, first if app.current_mode == app.DEFAULT_MODE else mode)


def _parse_once(sheet: Stylesheet, *place: Any, **more: Any) -> list[RuleSet]:
    """The rules of a stylesheet: each console parses all of them anew, half a dozen times, for half of its start.

    They may be shared: nodes take the values out of them, as those of one console do.
    """
    key = (frozenset(sheet._variables.items()), place, tuple(more.items()))
    if key not in _PARSED:
        _PARSED[key] = _parse(sheet, *place, **more)
    return _PARSED[key]


async def _idle(_least: float = 0.0, most: float = 10.0) -> None:
    """Until nothing can go on but with time, and everything is drawn; instead of until the process rests for 20 ms."""
    loop: Any = asyncio.get_running_loop()
    end = loop.time() + most
    while loop.time() < end:
        await asyncio.sleep(0)
        if not loop._ready and not _drew() and not await _rested():
            return


def _drew() -> bool:
    """Whether a screen that can be seen had something to draw; it is drawn now."""
    app = active_app.get()
    due = [each for each in _seen(app) if each._update_timer._active.is_set()]
    for screen in due:
        screen._on_timer_update()
    return bool(due)


async def _rested() -> bool:
    """Whether a screen that can be seen did something a moment later, as the one of the models once a cursor rests."""
    timers = [timer for screen in _seen(active_app.get()) for timer in screen._timers]
    due = [each._task for each in timers if each._repeat == 0 and each._interval <= MOMENT and each._active.is_set()]
    waited = [task for task in due if task is not None and not task.done()]
    if waited:
        await asyncio.wait(waited)
    return bool(waited)


def _seen(app: App[Any]) -> list[Any]:
    return [*app._background_screens, app.screen] if app.screen_stack else []
