"""What a model under load gives: rates over all requests, latencies of each, and how many kept a target. Pure."""

from collections.abc import Sequence
from typing import Final, TypeAlias

from attrs import frozen

from helexa.bench.measuring.timing import Timing
from helexa.bench.records import Metric
from helexa.bench.scenarios.common import share_of

RATE: Final = Metric("rate", "output", "tokens/s", "higher", primary=True)
REQUESTS: Final = Metric("requests", "requests", "requests/s", "higher")
GOODPUT: Final = Metric("goodput", "goodput", "requests/s", "higher")
TTFT_P50: Final = Metric("ttft_p50", "time to first token p50", "s", "lower")
TTFT_P99: Final = Metric("ttft_p99", "time to first token p99", "s", "lower")
TPOT_P50: Final = Metric("tpot_p50", "time per output token p50", "s", "lower")
FAILED: Final = Metric("failed", "failed requests", "", "lower")
Result: TypeAlias = Timing | str
"""Of one request: its times, or why there are none."""


@frozen
class Expected:
    """What a request has to keep to be part of the goodput (Zhong et al., "DistServe", 2024, section 2).

    Attributes:
        ttft: seconds to the first token, at most.
        tpot: seconds per token after it, at most.
    """

    ttft: float
    tpot: float

    def kept(self, timing: Timing) -> bool:
        """Whether a request kept it."""
        return timing.ttft <= self.ttft and (timing.tpot or 0.0) <= self.tpot


def values(results: Sequence[Result], expected: Expected) -> dict[str, float | None]:
    """The values of a level of load, by the names of the metrics above.

    The window is from when the first request was due to when the last answer ended. Requests that failed are in none of
    the rates.

    Args:
        results: one for each request; one at least has its times.
        expected: for the goodput.
    """
    good = [result for result in results if isinstance(result, Timing)]
    window = max(each.ended for each in good) - min(each.since for each in good)
    first = [each.ttft for each in good]
    return {
        "rate": sum(each.tokens for each in good) / window,
        "requests": len(good) / window,
        "goodput": sum(map(expected.kept, good)) / window,
        "ttft_p50": share_of(first, 0.5),
        "ttft_p99": share_of(first, 0.99),
        "tpot_p50": share_of([each.tpot for each in good if each.tpot is not None], 0.5),
        "failed": 1 - len(good) / len(results),
    }


def why_failed(results: Sequence[Result]) -> str | None:
    """A sentence if not one request has its times."""
    failed = [result for result in results if isinstance(result, str)]
    return f"None of {len(results)} requests went well: {failed[0]}" if len(failed) == len(results) else None
