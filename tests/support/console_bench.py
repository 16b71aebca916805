"""Answers of the benchmarks' API as the console reads them: from runs made up, through the real store."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from attrs import define
from bench_runs import CHAT, DAY, START, cell, drifting, measured

from helexa.bench.analysis.compare import changes
from helexa.bench.api import asking, shown
from helexa.bench.records import Build
from helexa.bench.storage.store import Store

NAMES = ("helexa 0.1.0 ac1aa60", "helexa 0.1.0 b07f3d1", "helexa 0.1.0 c9d20e7")
BUILDS = tuple(Build(name, {"commit": name.split()[-1], "device": "RTX 5090"}) for name in NAMES)
CELLS = (
    cell("beast", "qwen3-8b", "chat", {"prompt_tokens": 4096}),
    cell("beast", "llama-3.1-70b-instruct-awq", "load", {"clients": 8}),
    cell("hermes", "smollm2-1.7b", "chat", {"prompt_tokens": 128}),
)
SLOWER = {(2, CELLS[0].key): 1.25, (1, CELLS[2].key): 0.8, (2, CELLS[2].key): 0.8}
"""By build and cell: the first became worse with the third build, the last one better with the second."""
NOW = START + 9.5 * DAY


@define
class Measured:
    """A store with nine days of three builds."""

    store: Store

    @classmethod
    def made(cls, path: Path) -> "Measured":
        store = Store(f"sqlite:///{path}")
        machine = drifting(3, 0.01, 3000)
        for day in range(9):
            for index, each in enumerate(CELLS):
                factor, at = SLOWER.get((day // 3, each.key), 1.0), START + day * DAY + 60 * index
                more = {"batch": f"b{day}-{index}", "build": BUILDS[day // 3], "metrics": CHAT, "rounds": 7}
                store.add_all(measured(machine, [each], factor=factor, at=at, **more))
        return cls(store)

    def first(self) -> dict[str, Any]:
        """What a console is told at once, by feed."""
        judged = (
            each
            for each in changes(self.store.newest_builds(builds=5))
            if each.verdict in ("regression", "improvement")
        )
        return {
            "bench_summary": {"cells": [shown.summary(each) for each in self.store.newest()]},
            "bench_regressions": {"changes": [shown.change(each) for each in judged]},
            "bench_builds": shown.dimensions(self.store.dimensions()),
            "bench_status": {"state": "waiting", "measuring": None, "database": None, "last_error": None},
        }

    def asked(self, queries: dict[str, str]) -> dict[str, Any]:
        """What it is told of what it asked for."""
        return {feed: self._answer(feed, parse_qs(query)) for feed, query in queries.items()}

    def _answer(self, feed: str, query: dict[str, list[str]]) -> dict[str, Any]:
        if feed == "bench_series":
            found = self.store.summaries(asking.points_of(query, NOW), 500, None)
            return {"series": shown.series(query["metric"][0], found), "next": None}
        return {"cells": [shown.summary(each) for each in self.store.newest(asking.filter_of(query, NOW))]}
