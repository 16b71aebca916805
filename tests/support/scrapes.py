"""What a scraper reads."""

from typing import Any

from attrs import define, evolve, field
from fleets import Clock, fleet_of, loaded, sighting
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.parser import text_string_to_metric_families

from helexa.cortex.exchange.dialects import DIALECTS
from helexa.cortex.routing.fleet import Fleet
from helexa.cortex.telemetry.metrics_app import text
from helexa.cortex.telemetry.observing import Observer


async def scraped(registry: CollectorRegistry) -> dict[str, Metric]:
    """Every metric by its name, as a parser that is not ours reads them. A name that comes twice is an error."""
    found = list(text_string_to_metric_families((await text(registry)).decode()))
    assert len({metric.name for metric in found}) == len(found)
    return {metric.name: metric for metric in found}


async def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    """The one sample of that name and these labels."""
    for metric in (await scraped(registry)).values():
        for sample in metric.samples:
            if sample.name == name and sample.labels == labels:
                return float(sample.value)
    return None


def small_fleet(**settings: Any) -> Fleet:
    """A node, `a`, with the model `m`."""
    return fleet_of({"a": sighting(loaded())}, **settings)


@define(eq=False)
class Watched:
    """An observer whose clock a test moves."""

    fleet: Fleet = field(factory=small_fleet)
    clock: Clock = field(factory=Clock)
    observer: Observer = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.observer = Observer(lambda: self.fleet, DIALECTS, self.clock)

    def later(self, seconds: float) -> None:
        self.clock.now += seconds

    async def value(self, name: str, **labels: str) -> float | None:
        return await value(self.observer.metrics.registry, f"helexa_{name}", **labels)

    def change(self, **changes: Any) -> None:
        self.fleet = evolve(self.fleet, **changes)
