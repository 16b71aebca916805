"""What the fleet's own state becomes when it is scraped."""

from attrs import evolve
from fleets import Clock, fleet_of, loaded, sighting, state_of, topology_of
from prometheus_client import CollectorRegistry
from scrapes import scraped, value

from config import Provider
from helexa.cortex.exchange.breaker import FAILURES
from helexa.cortex.exchange.providers import Breakers
from helexa.cortex.routing.fleet import Fleet
from helexa.cortex.routing.policy import Route
from helexa.cortex.routing.state import NodeDown
from helexa.cortex.telemetry.metrics_fleet import FleetCollector
from helexa.wire.fleet import ActorReport, DeviceHealth, KvCache, ModelReport, Steps

MIB = 2**20
KV = KvCache(blocks_total=100, blocks_free=50, blocks_cached=30, prefix_queries=9, prefix_hits=8, preemptions=2)
BUSY = loaded(memory_mb=10, kv_mb=4, capacity=16, running=3, waiting=2, kv=KV, steps=Steps(40, 2.5, 900, 120))
ACTOR = ActorReport("router", "running", 2, 5, None, 1.0)


def registry_of(
    fleet: Fleet, *actors: ActorReport, breakers: Breakers | None = None, clock: Clock | None = None
) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(FleetCollector(lambda: fleet, lambda: actors, breakers or Breakers(), clock or Clock()))
    return registry


async def test_a_loaded_model_tells_what_its_engine_told() -> None:
    registry, at = registry_of(fleet_of({"a": sighting(BUSY)})), {"node": "a", "model": "m"}
    found = {
        name: await value(registry, f"helexa_{name}", **at)
        for name in ("num_requests_running", "num_requests_waiting", "model_max_sequences", "kv_cache_usage_ratio")
    }
    assert found == {
        "num_requests_running": 3,
        "num_requests_waiting": 2,
        "model_max_sequences": 16,
        "kv_cache_usage_ratio": 0.2,
    }
    blocks = {each: await value(registry, "helexa_kv_cache_blocks", **at, state=each) for each in ("used", "cached")}
    assert blocks == {"used": 20, "cached": 30}
    assert await value(registry, "helexa_kv_cache_blocks", **at, state="free") == 50
    assert await value(registry, "helexa_prefix_cache_queries_total", **at) == 9
    assert await value(registry, "helexa_prefix_cache_hits_total", **at) == 8
    assert await value(registry, "helexa_num_preemptions_total", **at) == 2
    assert await value(registry, "helexa_model_memory_bytes", **at, kind="weights") == 10 * MIB
    assert await value(registry, "helexa_model_memory_bytes", **at, kind="kv") == 4 * MIB


async def test_a_loaded_model_tells_what_its_steps_took_and_brought() -> None:
    registry, at = registry_of(fleet_of({"a": sighting(BUSY)})), {"node": "a", "model": "m"}
    names = ("engine_steps", "engine_step_seconds", "engine_step_tokens", "engine_new_tokens")
    assert [await value(registry, f"helexa_{name}_total", **at) for name in names] == [40, 2.5, 900, 120]


async def test_an_engine_that_has_told_nothing_yet_has_no_steps() -> None:
    registry = registry_of(fleet_of({"a": sighting(loaded())}))
    assert (await scraped(registry))["helexa_engine_steps"].samples == []


async def test_a_model_is_in_one_status_at_a_time() -> None:
    registry = registry_of(fleet_of({"a": sighting(ModelReport("m", "failed", error="no room"))}))
    metric = (await scraped(registry))["helexa_model_status"]
    assert {sample.labels["status"]: sample.value for sample in metric.samples} == {
        "loaded": 0,
        "unloaded": 0,
        "loading": 0,
        "recovering": 0,
        "failed": 1,
    }


async def test_a_model_that_is_not_loaded_has_no_engine_to_tell_of() -> None:
    registry = registry_of(fleet_of({"a": sighting(ModelReport("m", "loading"))}))
    assert (await scraped(registry))["helexa_num_requests_running"].samples == []


async def test_an_empty_cache_is_not_divided_by() -> None:
    registry = registry_of(fleet_of({"a": sighting(loaded(kv=KvCache(0, 0, 0)))}))
    assert await value(registry, "helexa_kv_cache_usage_ratio", node="a", model="m") is None
    assert await value(registry, "helexa_kv_cache_blocks", node="a", model="m", state="used") == 0


async def test_of_a_node_that_is_down_only_that_is_told() -> None:
    state = state_of(topology_of("a", "b"), {"a": sighting(BUSY), "b": sighting(BUSY)})
    state.see(NodeDown("a", "gone"))
    registry = registry_of(state.fleet)
    for metric in (await scraped(registry)).values():
        nodes = {sample.labels.get("node") for sample in metric.samples}
        assert "a" not in nodes or metric.name == "helexa_node_up"
    assert await value(registry, "helexa_node_up", node="a") == 0
    assert await value(registry, "helexa_node_up", node="b") == 1


async def test_a_node_that_was_never_seen_is_down() -> None:
    assert await value(registry_of(fleet_of({"a": None})), "helexa_node_up", node="a") == 0


async def test_requests_of_this_gateway_are_told_where_they_are() -> None:
    state = state_of(topology_of("a"), {"a": sighting(loaded())})
    state.open(Route(node="a", endpoint="http://a:1", model="m"))
    assert await value(registry_of(state.fleet), "helexa_requests_placed", node="a", model="m") == 1


async def test_devices_tell_what_they_know_in_base_units() -> None:
    gpu = DeviceHealth("cuda:0", 1000, 400, 50.0, 61.0, 212.5, 450.0, 2520.0, 10_251.0, ("power_cap",))
    health = (gpu, DeviceHealth("cpu", 2000, 1, error="lost"))
    said = evolve(sighting(), devices=health)
    registry, at = registry_of(fleet_of({"a": said})), {"node": "a", "device": "cuda:0"}
    assert await value(registry, "helexa_device_memory_total_bytes", **at) == 1000 * MIB
    assert await value(registry, "helexa_device_memory_used_bytes", **at) == 400 * MIB
    assert await value(registry, "helexa_device_utilization_ratio", **at) == 0.5
    assert await value(registry, "helexa_device_temperature_celsius", **at) == 61
    assert await value(registry, "helexa_device_power_watts", **at) == 212.5
    assert await value(registry, "helexa_device_power_limit_watts", **at) == 450
    assert await value(registry, "helexa_device_clock_hertz", **at) == 2.52e9
    assert await value(registry, "helexa_device_memory_clock_hertz", **at) == 10.251e9
    for name, there, elsewhere in (("throttled", 1, 0), ("up", 1, 0)):
        assert await value(registry, f"helexa_device_{name}", **at) == there
        assert await value(registry, f"helexa_device_{name}", node="a", device="cpu") == elsewhere
    assert await value(registry, "helexa_device_power_watts", node="a", device="cpu") is None


async def test_actors_of_the_gateway_and_of_the_nodes_are_told_apart() -> None:
    said = evolve(sighting(), actors=(ActorReport("router", "backoff", 7, 0, "x", 1.0),))
    registry = registry_of(fleet_of({"a": said}), ACTOR)
    assert await value(registry, "helexa_actor_restarts_total", node="", actor="router") == 2
    assert await value(registry, "helexa_actor_mailbox_depth", node="", actor="router") == 5
    assert await value(registry, "helexa_actor_running", node="", actor="router") == 1
    assert await value(registry, "helexa_actor_restarts_total", node="a", actor="router") == 7
    assert await value(registry, "helexa_actor_running", node="a", actor="router") == 0


async def test_a_node_that_tells_of_something_twice_does_not_spoil_the_scrape() -> None:
    said = sighting(loaded(running=1), loaded(running=2))
    said = evolve(said, devices=said.devices * 2, actors=(ACTOR, ACTOR))
    found = await scraped(registry_of(fleet_of({"a": said}), ACTOR, ACTOR))
    for metric in found.values():
        labels = [(sample.name, frozenset(sample.labels.items())) for sample in metric.samples]
        assert len(labels) == len(set(labels)), metric.name


async def test_breakers_are_told_by_their_state() -> None:
    clock, breakers, provider = Clock(), Breakers(), Provider("p", "openai", "http://p")
    fleet = fleet_of({}, providers=(provider,))
    registry = registry_of(fleet, breakers=breakers, clock=clock)

    async def state() -> list[str]:
        metric = (await scraped(registry))["helexa_provider_breaker_state"]
        assert {sample.labels["provider"] for sample in metric.samples} == {"p"}
        return [sample.labels["state"] for sample in metric.samples if sample.value]

    assert await state() == ["closed"]
    for _ in range(FAILURES):
        given = breakers.of(provider).admit(clock())
        assert given is not None
        breakers.of(provider).settle(given, clock(), worked=False)
    assert await state() == ["open"]
    clock.now += 3600.0
    assert await state() == ["half-open"]


async def test_the_build_is_told() -> None:
    (sample,) = (await scraped(registry_of(fleet_of({}))))["helexa_build_info"].samples
    assert sample.value == 1
    assert sample.labels["version"]
