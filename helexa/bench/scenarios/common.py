"""What scenarios share: metrics, checks of parameters, reasons why a model is not for them. Pure."""

import math
from collections.abc import Sequence
from typing import Any, Final

from attrs import Attribute

from helexa.bench.measuring.facts import ModelFacts
from helexa.bench.measuring.timing import Timing, percentile
from helexa.bench.records import Metric

TTFT: Final = Metric("ttft", "time to first token", "s", "lower", primary=True)
ITL_P50: Final = Metric("itl_p50", "inter-token p50", "s", "lower")
ITL_P99: Final = Metric("itl_p99", "inter-token p99", "s", "lower")
DECODE: Final = Metric("decode", "decode", "tokens/s", "higher", primary=True)
TOTAL: Final = Metric("total", "total", "s", "lower")
VALID: Final = Metric("valid", "valid answers", "", "higher", primary=True)


def at_least(least: int) -> Any:
    """A validator: a whole number that is no less."""

    def check(_scenario: object, attribute: "Attribute[int]", value: object) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{attribute.name} has to be a whole number of at least {least}, not {value!r}.")

    return check


def above_zero(most: float = math.inf) -> Any:
    """A validator: a number above 0, and no more than ``most``."""

    def check(_scenario: object, attribute: "Attribute[float]", value: object) -> None:
        if not isinstance(value, int | float) or not 0 < value <= most or math.isinf(value):
            limit = "" if math.isinf(most) else f" and at most {most:g}"
            raise ValueError(f"{attribute.name} has to be a number above 0{limit}, not {value!r}.")

    return check


def no_text(model: ModelFacts) -> str | None:
    """Why a model cannot be asked for text; ``None``: nothing known speaks against it."""
    if model.capabilities is not None and "embeddings" in model.capabilities:
        return "The model makes embeddings, and no text."
    return None


def latencies(timing: Timing) -> dict[str, float | None]:
    """The values of one streamed answer, by the names of the metrics above."""
    return {
        "ttft": timing.ttft,
        "itl_p50": share_of(timing.gaps, 0.5),
        "itl_p99": share_of(timing.gaps, 0.99),
        "decode": timing.decode_rate,
        "total": timing.total,
    }


def share_of(values: Sequence[float], share: float) -> float | None:
    """A percentile; ``None``: there are no values."""
    return percentile(values, share) if values else None
