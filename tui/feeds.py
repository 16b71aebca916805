"""What the console reads of a fleet, and how often."""

from typing import Final, Literal, TypeAlias

from attrs import frozen

FeedName: TypeAlias = Literal[
    "fleet",
    "models",
    "places",
    "actors",
    "requests",
    "keys",
    "accounts",
    "usage",
    "logs",
    "bench_summary",
    "bench_regressions",
    "bench_status",
    "bench_builds",
    "bench_series",
    "bench_before",
    "bench_after",
]


@frozen
class Feed:
    """Something that is read again and again.

    Attributes:
        name: what screens call it.
        path: under the base URL.
        seconds: between two reads.
        bench: whether it is the benchmarks' API that is asked, not the gateway's.
        queried: whether it is read only with a query, which a screen puts into ``Source.queries``.
    """

    name: FeedName
    path: str
    seconds: float
    bench: bool = False
    queried: bool = False


FEEDS: Final[dict[str, Feed]] = {
    feed.name: feed
    for feed in (
        Feed("fleet", "/fleet", 1.0),
        Feed("models", "/v1/models", 3.0),
        Feed("places", "/fleet/models/{model}/places", 3.0),
        Feed("actors", "/fleet/actors", 2.0),
        Feed("requests", "/fleet/requests", 1.0),
        Feed("keys", "/fleet/keys", 5.0),
        Feed("accounts", "/fleet/accounts", 5.0),
        Feed("usage", "/fleet/usage?by=key", 10.0),
        Feed("logs", "/fleet/logs", 1.0),
        Feed("bench_summary", "/api/summary", 30.0, bench=True),
        Feed("bench_regressions", "/api/regressions?improvements=1", 30.0, bench=True),
        Feed("bench_status", "/api/status", 5.0, bench=True),
        Feed("bench_builds", "/api/dimensions", 30.0, bench=True),
        Feed("bench_series", "/api/series", 30.0, bench=True, queried=True),
        Feed("bench_before", "/api/summary", 30.0, bench=True, queried=True),
        Feed("bench_after", "/api/summary", 30.0, bench=True, queried=True),
    )
}
ALWAYS: Final = frozenset({"fleet"})
"""Read whatever screen is shown: its answer tells whether the fleet is there."""
