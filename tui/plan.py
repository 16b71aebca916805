"""A plan as text: what a topology would change, and where its models would fit."""

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from tui.status import add_row, new_table

_STYLES = {"fits": "green", "loaded": "green", "later": "yellow", "failed": "red"}


def render_plan(plan: dict[str, Any]) -> RenderableType:
    """The answer of ``/fleet/plan``."""
    lines = [Text(change["line"]) for change in plan["changes"]] or [Text("Nothing would change.")]
    return Group(*lines, _places(plan["models"]))


def _places(models: list[dict[str, Any]]) -> RenderableType:
    table = new_table("\nMODEL", "\nNODE", "\nDEVICE", "\nNEEDS", "\nFREE", "\nVERDICT")
    for model in models:
        for site in model["sites"]:
            add_row(table, *_cells(model, site))
        if not model["sites"]:
            add_row(table, model["id"], "", "", "", "", "there is no node")
    return table


def _cells(model: dict[str, Any], site: dict[str, Any]) -> list[str | Text]:
    known = site["device"] is not None
    needs = f"{site['need_mb']:,} MiB" if site["need_mb"] else "not known" if known else ""
    free = f"{site['free_mb']:,} of {site['total_mb']:,} MiB" if known else ""
    return [model["id"], site["node"], site["device"] or "", needs, free, _verdict(model, site)]


def _verdict(model: dict[str, Any], site: dict[str, Any]) -> Text:
    if site["node"] in model["loaded_on"]:
        return Text("is loaded", _STYLES["loaded"])
    text = site["reason"] or "fits"
    if site["evicts"]:
        text = f"fits in place of {', '.join(site['evicts'])}"
    return Text(text, _STYLES.get(site["verdict"], ""))
