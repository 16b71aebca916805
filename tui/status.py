"""The fleet as tables."""

from collections.abc import Iterable
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

_STYLES = {
    **dict.fromkeys(("up", "loaded", "running"), "green"),
    **dict.fromkeys(("loading", "recovering", "starting", "backoff"), "yellow"),
    **dict.fromkeys(("down", "failed"), "red"),
}


def render(fleet: dict[str, Any], models: Iterable[dict[str, Any]], actors: Iterable[dict[str, Any]]) -> RenderableType:
    """Nodes, models and actors, one table each.

    Args:
        fleet: the snapshot of ``/fleet``.
        models: the entries of ``/v1/models``.
        actors: the entries of ``/fleet/actors``.
    """
    return Group(_nodes(fleet["nodes"]), _models(models), _actors(actors))


def _state(name: str) -> Text:
    return Text(name, _STYLES.get(name, ""))


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column)
    return table


def _add(table: Table, *cells: str | Text) -> None:
    """A row. As ``Text``, since rich would read markup in a ``str``: an error may well hold ``[brackets]``."""
    table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in cells))


def _nodes(nodes: Iterable[dict[str, Any]]) -> Table:
    table = _table("NODE", "STATE", "DEVICES", "MEMORY USED", "ENDPOINT")
    for node in nodes:
        devices = node["devices"] or []
        used, total = (sum(device[key] for device in devices) for key in ("memory_used_mb", "memory_total_mb"))
        names = ", ".join(device["name"] for device in devices)
        where = node["endpoint"] if node["up"] else f"{node['endpoint']}  {node['error'] or 'not seen yet'}"
        _add(table, node["name"], _state("up" if node["up"] else "down"), names, f"{used:,} of {total:,} MiB", where)
    return table


def _models(models: Iterable[dict[str, Any]]) -> Table:
    table = _table("\nMODEL", "\nSTATUS", "\nCONTEXT", "\nON")
    for model in models:
        context = str(model["limit"]["context"]) if model["limit"] else ""
        places = ", ".join(place["node"] for place in model["locations"])
        _add(table, model["id"], _state(model["status"]), context, places)
    return table


def _actors(actors: Iterable[dict[str, Any]]) -> Table:
    table = _table("\nACTOR", "\nSTATE", "\nRESTARTS", "\nLAST ERROR")
    for actor in actors:
        _add(table, actor["name"], _state(actor["state"]), str(actor["restarts"]), actor["last_error"] or "")
    return table
