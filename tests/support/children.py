"""Processes that this one has started, and still has. It may have others, which live for a whole run of tests."""

import psutil


def children_with(part: str) -> list[tuple[psutil.Process, list[str]]]:
    """Children whose command line has this for one of its parts, with that line."""
    found = []
    for child in psutil.Process().children():
        try:
            line = child.cmdline()
        except psutil.Error:  # it has just ended
            continue
        found += [(child, line)] if part in line else []
    return found


def rank_children() -> dict[int, psutil.Process]:
    """Ranks of groups, by their number."""
    found = children_with("helexa.engine.ranks")
    return {int(line[line.index("--rank") + 1]): child for child, line in found}
