"""The fleet as tables."""

from collections.abc import Iterable
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from config import Duration, format_duration

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
    tables = (_nodes(fleet["nodes"]), _models(models), _actors(actors))
    return Group(*tables, *_topology(fleet.get("topology") or {}))


def held(fleet: dict[str, Any]) -> list[dict[str, Any]]:
    """The models that nodes hold or are about to, one entry for each node; from the snapshot of ``/fleet``."""
    return [
        {"model": model["id"], "node": node["name"], **{key: model.get(key) for key in _HELD}}
        for node in fleet["nodes"]
        for model in node["models"]
        if model["status"] != "unloaded"
    ]


_HELD = (
    "status",
    "device",
    "memory_mb",
    "kv_mb",
    "kv",
    "capacity",
    "running",
    "waiting",
    "in_flight",
    "pinned",
    "draining",
    "idle_seconds",
    "error",
    "limit",
    "progress",
)


def render_held(rows: Iterable[dict[str, Any]]) -> RenderableType:
    """What ``held`` found, as a table."""
    table = new_table("MODEL", "NODE", "DEVICE", "STATUS", "MEMORY", "KV CACHE", "RUNNING", "WAITING", "IDLE")
    for row in rows:
        state = f"{_doing(row)}, pinned" if row["pinned"] else _doing(row)
        status = Text("unloading", "yellow") if row["draining"] else Text(state, _STYLES.get(row["status"], ""))
        memory, running, waiting = f"{row['memory_mb']:,} MiB", str(row["running"]), str(row["waiting"])
        add_row(
            table,
            row["model"],
            row["node"],
            row["device"] or "",
            status,
            memory,
            _kv(row),
            running,
            waiting,
            _idle(row),
        )
    return table


def _doing(row: dict[str, Any]) -> str:
    progress = row["progress"] or {}
    if progress.get("phase") == "downloading":
        return f"fetching, {come(progress)}"
    status = str(row["status"])
    return f"{status}, {come(progress)}" if progress.get("total") else status


def come(progress: dict[str, Any]) -> str:
    """How far a download or a load has come, e.g. ``45 % of 15.3 GiB, 2m left``; from a report's ``progress``."""
    done, total, left = progress["done"], progress["total"], progress["seconds_left"]
    part = f"{100 * done // total} % of {total / 2**30:.1f} GiB" if total else "nothing yet"
    return part if left is None else f"{part}, {format_duration(Duration(float(round(left))))} left"


def _kv(row: dict[str, Any]) -> str:
    """How much of the KV cache is in use; what is only kept for prompts to come does not count."""
    size = f"{row['kv_mb']:,} MiB" if row["kv_mb"] else ""
    kv = row["kv"]
    if not kv or not kv["blocks_total"]:
        return size
    used = 1 - (kv["blocks_free"] + kv["blocks_cached"]) / kv["blocks_total"]
    return f"{used:.0%} of {size}" if size else f"{used:.0%}"


def _idle(row: dict[str, Any]) -> str:
    if row["idle_seconds"] is None or row["in_flight"]:
        return ""
    return format_duration(Duration(float(round(row["idle_seconds"]))))


def _topology(topology: dict[str, Any]) -> Iterable[Text]:
    """What is wrong with the topology file, where an edit of it was not accepted."""
    if problems := topology.get("problems"):
        yield Text("\nThe latest edit of the topology is not in force:", "red")
        yield from (Text(f"  {problem}") for problem in problems)


def _state(name: str) -> Text:
    return Text(name, _STYLES.get(name, ""))


def new_table(*columns: str) -> Table:
    """A table without lines."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, no_wrap=index == 0)  # names are for copying: the rest gives way
    return table


def add_row(table: Table, *cells: str | Text) -> None:
    """Add a row. As ``Text``, since rich would read markup in a ``str``: an error may well hold ``[brackets]``."""
    table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in cells))


def _nodes(nodes: Iterable[dict[str, Any]]) -> Table:
    table = new_table("NODE", "STATE", "DEVICES", "MEMORY USED", "ENDPOINT")
    for node in nodes:
        devices = node["devices"] or []
        used, total = (sum(device[key] for device in devices) for key in ("memory_used_mb", "memory_total_mb"))
        names = ", ".join(device["name"] for device in devices)
        where = "  ".join(filter(None, (node["endpoint"], _trouble(node))))
        add_row(table, node["name"], _state("up" if node["up"] else "down"), names, f"{used:,} of {total:,} MiB", where)
    return table


def _trouble(node: dict[str, Any]) -> str | None:
    """What is wrong with a node, or with the first of its devices that something is wrong with."""
    if not node["up"]:
        return node["error"] or "not seen yet"
    return next((device["error"] for device in node["devices"] or [] if device.get("error")), None)


def _models(models: Iterable[dict[str, Any]]) -> Table:
    table = new_table("\nMODEL", "\nSTATUS", "\nCONTEXT", "\nON")
    for model in models:
        context = str(model["limit"]["context"]) if model["limit"] else ""
        places = ", ".join(place["node"] for place in model["locations"])
        add_row(table, model["id"], _state(model["status"]), context, places)
    return table


def _actors(actors: Iterable[dict[str, Any]]) -> Table:
    table = new_table("\nACTOR", "\nSTATE", "\nRESTARTS", "\nLAST ERROR")
    for actor in actors:
        add_row(table, actor["name"], _state(actor["state"]), str(actor["restarts"]), actor["last_error"] or "")
    return table
