"""The metrics of a real fleet, on their own port: what a request leaves there, and what its nodes tell."""

from pathlib import Path

import httpx
import pytest
from collectors import attributes, collecting
from harness import Fleet, make_fleet, wait_until
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.usefixtures("forked_fleets")
MODEL = "helexa/tiny"


def samples(fleet: Fleet) -> dict[str, float]:
    """The values of everything about the model, by name, summed over all other labels."""
    found: dict[str, float] = {}
    text = httpx.get(f"http://127.0.0.1:{fleet.metrics_port}/metrics", timeout=10).text
    for family in text_string_to_metric_families(text):
        for each in family.samples:
            if each.labels.get("model") == MODEL:
                found[each.name] = found.get(each.name, 0.0) + each.value
    return found


def test_a_request_is_counted_and_its_tokens(fleet: Fleet) -> None:
    before = samples(fleet)
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 5}
    usage = httpx.post(f"{fleet.url}/v1/chat/completions", json=body, timeout=30).json()["usage"]
    after = samples(fleet)
    grown = {name: value - before.get(name, 0.0) for name, value in after.items()}
    assert grown["helexa_requests_total"] == 1
    assert grown["helexa_e2e_request_latency_seconds_count"] == 1
    assert grown["helexa_prompt_tokens_total"] == usage["prompt_tokens"]
    assert grown["helexa_completion_tokens_total"] == usage["completion_tokens"]


def test_nodes_tell_of_their_models(fleet: Fleet) -> None:
    wait_until(lambda: samples(fleet).get("helexa_kv_cache_blocks", 0) > 0, 10, "the size of the KV cache")


def test_the_metrics_port_serves_nothing_else(fleet: Fleet) -> None:
    assert httpx.get(f"http://127.0.0.1:{fleet.metrics_port}/fleet", timeout=10).status_code == 404
    stranger = httpx.get(
        f"http://127.0.0.1:{fleet.metrics_port}/metrics", headers={"host": "rebound.example"}, timeout=10
    )
    assert stranger.status_code == 403


def test_nodes_tell_how_long_steps_take(fleet: Fleet) -> None:
    wait_until(lambda: samples(fleet).get("helexa_engine_steps_total", 0) > 0, 10, "the engine's steps")
    found = samples(fleet)
    assert found["helexa_engine_step_tokens_total"] > found["helexa_engine_new_tokens_total"] > 0
    assert 0 < found["helexa_engine_step_seconds_total"] / found["helexa_engine_steps_total"] < 1


def test_the_gateway_tells_how_late_it_is_and_who_waits(fleet: Fleet) -> None:
    text = httpx.get(f"http://127.0.0.1:{fleet.metrics_port}/metrics", timeout=10).text
    assert "\nhelexa_event_loop_lag_seconds_bucket" in text
    assert "\nhelexa_admission_waiting 0.0" in text


def test_a_request_is_exported_as_spans_and_the_last_ones_at_the_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
        own = make_fleet(tmp_path).start()
        body = {"model": "tiny", "messages": [{"role": "user", "content": "marked"}], "max_tokens": 5, "stream": True}
        httpx.post(f"{own.url}/v1/chat/completions", json=body, timeout=30).raise_for_status()
        assert own.stop() == 0
        server, client = collector.spans()
    assert client.parent_span_id == server.span_id
    assert attributes(client)["gen_ai.usage.output_tokens"] == 5
    assert attributes(client)["helexa.node"] == "local"
    assert b"marked" not in b"".join(collector.bodies)
