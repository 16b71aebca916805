"""The whole set of metrics, as an independent parser reads it: names, types, words, how many series there are."""

import re
from importlib.resources import files
from typing import Any

import orjson
import pytest
from budget_figures import BOOKS
from fleets import Clock, fleet_of, loaded, sighting
from prometheus_client import Metric
from scrapes import Watched, scraped

from config import Cortex, Provider
from helexa.cortex.exchange.admission import Admission
from helexa.cortex.exchange.dialects import DIALECTS
from helexa.cortex.exchange.providers import Breakers
from helexa.cortex.routing.state import Happening
from helexa.cortex.telemetry.metrics import MAX_CODES, OTHER, Few
from helexa.cortex.telemetry.metrics_budgets import BudgetCollector
from helexa.cortex.telemetry.metrics_fleet import FleetCollector
from helexa.wire import errors
from helexa.wire.fleet import ActorReport, KvCache, Steps
from helexa.wire.sse import event

KV = KvCache(10, 5, 3, 9, 8, 1)
KINDS = {
    "requests": "counter",
    "request_errors": "counter",
    "requests_in_flight": "gauge",
    "requests_waiting": "gauge",
    "request_retries": "counter",
    "fallbacks": "counter",
    "key_requests": "counter",
    "gateway_overhead_seconds": "histogram",
    "request_queue_time_seconds": "histogram",
    "time_to_first_token_seconds": "histogram",
    "inter_token_latency_seconds": "histogram",
    "e2e_request_latency_seconds": "histogram",
    "event_loop_lag_seconds": "histogram",
    "prompt_tokens": "counter",
    "prompt_tokens_cached": "counter",
    "completion_tokens": "counter",
    "key_tokens": "counter",
    "cold_starts": "counter",
    "model_loads": "counter",
    "model_load_seconds": "histogram",
    "model_evictions": "counter",
    "fleet_events": "counter",
    "build_info": "gauge",
    "node_up": "gauge",
    "requests_placed": "gauge",
    "model_status": "gauge",
    "num_requests_running": "gauge",
    "num_requests_waiting": "gauge",
    "model_max_sequences": "gauge",
    "model_memory_bytes": "gauge",
    "kv_cache_blocks": "gauge",
    "kv_cache_usage_ratio": "gauge",
    "prefix_cache_queries": "counter",
    "prefix_cache_hits": "counter",
    "num_preemptions": "counter",
    "engine_steps": "counter",
    "engine_step_seconds": "counter",
    "engine_step_tokens": "counter",
    "engine_new_tokens": "counter",
    "device_memory_total_bytes": "gauge",
    "device_memory_used_bytes": "gauge",
    "device_utilization_ratio": "gauge",
    "device_temperature_celsius": "gauge",
    "device_power_watts": "gauge",
    "device_power_limit_watts": "gauge",
    "device_clock_hertz": "gauge",
    "device_memory_clock_hertz": "gauge",
    "device_throttled": "gauge",
    "device_up": "gauge",
    "actor_restarts": "counter",
    "actor_mailbox_depth": "gauge",
    "actor_running": "gauge",
    "provider_breaker_state": "gauge",
    "admission_in_flight": "gauge",
    "admission_waiting": "gauge",
    "admission_turned_away": "counter",
    "admission_waits": "counter",
    "admission_wait_seconds": "counter",
    "ledger_open_charges": "gauge",
    "ledger_journal_rows": "gauge",
    "ledger_database_up": "gauge",
    "ledger_tokens": "counter",
    "ledger_requests": "counter",
    "ledger_cost_usd": "counter",
    "budget_remaining": "gauge",
    "budget_remaining_ratio": "gauge",
}
LABELS = {
    *("route", "model", "node", "status", "code", "key", "kind", "result", "reason", "provider", "state"),
    *("device", "actor", "version", "le", "owner", "unit", "period"),
}


def gateway() -> Watched:
    """An observer of a small fleet, with everything registered that is served."""
    fleet = fleet_of(
        {"a": sighting(loaded(kv=KV, steps=Steps(4, 0.5, 9, 4)))}, providers=(Provider("p", "openai", "http://p"),)
    )
    watched = Watched(fleet)
    actors = (ActorReport("router", "running", 0, 0, None, 1.0),)
    metrics = watched.observer.metrics
    metrics.registry.register(FleetCollector(lambda: watched.fleet, lambda: actors, Breakers(), Clock()))
    metrics.registry.register(BudgetCollector(Admission(Cortex).figures, lambda: BOOKS, metrics.keys))
    metrics.loop_lag.observe(0.0)
    return watched


def use(watched: Watched, number: int = 0) -> None:
    """One request of each kind of ending, and an event; of what is made up there is more with each number."""
    for path in DIALECTS:
        for model in ("m", f"invented-{number}"):
            with watched.observer.begin(path, f"request-{number}", f"key-{number}") as seen:
                seen.read(model)
                seen.wait_begins()
                seen.wait_ends()
                seen.sent("a")
                seen.sent("provider:p")
                seen.fell_back()
                seen.wrote(event({"choices": [{"text": "a"}]}), more=True)
                seen.used((9, 5, 0))
                seen.wrote(event({"choices": []}), more=False)
        with watched.observer.begin(path, "request", None) as seen:
            seen.answered(400, orjson.dumps({"error": {"code": f"code_{number}"}}))
    watched.observer.refused(f"/path-{number}", errors.invalid_api_key())
    for kind, data in (("model.loading", {"device": "cpu"}), ("model.loaded", {"seconds": 1.0}), ("model.evicted", {})):
        watched.observer.happened(Happening(kind, {"model": "m", "node": "a", **data}))
    watched.observer.happened(Happening(f"made.up.{number}"))


async def used(times: int = 1) -> dict[str, Metric]:
    watched = gateway()
    for number in range(times):
        use(watched, number)
    found = await scraped(watched.observer.metrics.registry)
    return {name: metric for name, metric in found.items() if name.startswith("helexa_")}


async def test_every_metric_is_there_under_its_name_and_type() -> None:
    assert {name.removeprefix("helexa_"): metric.type for name, metric in (await used()).items()} == KINDS


async def test_names_and_units_follow_the_conventions() -> None:
    for name, metric in (await used()).items():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
        assert not re.search(r"milli|_ms\b|_mb\b|percent|minutes", name)
        if metric.type == "counter":
            assert all(sample.name == f"{name}_total" for sample in metric.samples)
        if metric.type == "histogram":
            assert name.endswith("_seconds")


async def test_every_metric_says_what_it_is_in_a_sentence() -> None:
    texts = {name: metric.documentation for name, metric in (await used()).items()}
    assert all(re.fullmatch(r"[A-Z1].{15,}\.", text) for text in texts.values()), texts
    assert len(set(texts.values())) == len(texts)


async def test_labels_are_few_and_none_is_a_request() -> None:
    found = await used()
    labels = {label for metric in found.values() for sample in metric.samples for label in sample.labels}
    assert labels == LABELS
    values = [value for metric in found.values() for sample in metric.samples for value in sample.labels.values()]
    assert not any(value.startswith(("request-", "invented-", "/path-")) for value in values)


async def test_no_series_is_there_twice_and_no_time_of_birth() -> None:
    for metric in (await used()).values():
        series = [(sample.name, frozenset(sample.labels.items())) for sample in metric.samples]
        assert len(series) == len(set(series)), metric.name
        assert not any(sample.name.endswith("_created") for sample in metric.samples)


async def test_buckets_rise_and_end_with_everything() -> None:
    for metric in (await used()).values():
        if metric.type != "histogram":
            continue
        buckets: dict[Any, list[tuple[float, float]]] = {}
        counts: dict[Any, float] = {}
        for sample in metric.samples:
            labels = frozenset((key, value) for key, value in sample.labels.items() if key != "le")
            if sample.name.endswith("_bucket"):
                buckets.setdefault(labels, []).append((float(sample.labels["le"]), sample.value))
            elif sample.name.endswith("_count"):
                counts[labels] = sample.value
        assert buckets, metric.name
        for labels, found in buckets.items():
            assert found == sorted(found)
            assert [count for _, count in found] == sorted(count for _, count in found)
            assert found[-1] == (float("inf"), counts[labels])
            assert len(found) <= 20


def series(found: dict[str, Metric]) -> int:
    return sum(len(metric.samples) for metric in found.values())


async def test_the_number_of_series_has_a_bound_that_no_client_can_move() -> None:
    some, more = series(await used(150)), series(await used(450))
    assert some == more
    assert more < 2_000


def test_values_from_outside_are_kept_as_long_as_they_are_few() -> None:
    few = Few(2)
    assert [few("a"), few("b"), few("c"), few("a"), few("b")] == ["a", "b", OTHER, "a", "b"]


@pytest.mark.parametrize("value", ["", "x" * 129, 'a"', "a\nb", "a\\", "{}"])
def test_a_value_that_could_be_mistaken_for_more_is_not_kept(value: str) -> None:
    few = Few(MAX_CODES)
    assert few(value) == OTHER
    assert few("fine") == "fine"


async def test_the_process_itself_is_told_under_the_names_that_everyone_uses() -> None:
    found = await scraped(gateway().observer.metrics.registry)
    assert {"process_cpu_seconds", "process_resident_memory_bytes", "process_open_fds"} <= found.keys()


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(files("helexa.cortex.telemetry").joinpath("dashboard.json").read_bytes())
    return found


def expressions() -> list[str]:
    targets = [target for panel in dashboard()["panels"] for target in panel.get("targets", [])]
    queries = [each["query"] for each in dashboard()["templating"]["list"] if each["type"] == "query"]
    return [target["expr"] for target in targets] + queries


async def test_the_dashboard_asks_only_for_what_there_is() -> None:
    found = await scraped(used_registry())
    there = {sample.name for metric in found.values() for sample in metric.samples} | found.keys()
    asked = {name for text in expressions() for name in re.findall(r"\b(?:helexa|process)_[a-z0-9_]+", text)}
    assert asked <= there
    histograms = {f"helexa_{name}" for name, kind in KINDS.items() if kind == "histogram"}
    assert histograms <= {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}


def used_registry() -> Any:
    watched = gateway()
    use(watched)
    return watched.observer.metrics.registry


async def test_the_dashboard_asks_for_labels_that_its_metrics_have() -> None:
    found = await scraped(used_registry())
    labels = {sample.name: set(sample.labels) for metric in found.values() for sample in metric.samples}
    for text in expressions():
        for name, selector in re.findall(r"\b(helexa_[a-z0-9_]+)\{([^}]*)\}", text):
            asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
            assert name not in labels or asked <= labels[name], text


def test_every_panel_of_the_dashboard_has_a_title_a_unit_and_a_place_of_its_own() -> None:
    panels, places = dashboard()["panels"], set()
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["title"]
        assert panel["type"] == "row" or panel["fieldConfig"]["defaults"]["unit"]
        grid = panel["gridPos"]
        cells = {
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & places, panel["title"]
        assert grid["x"] + grid["w"] <= 24
        places |= cells
