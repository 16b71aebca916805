"""An operator looks at the requests and the logs of a running fleet, and ends a request."""

import httpx
from harness import HTTP, Fleet, wait_until


def running(fleet: Fleet, request_id: str) -> list[dict]:
    found = HTTP.get(f"{fleet.url}/fleet/requests").json()["running"]
    return [each for each in found if each["request_id"] == request_id and each["completion_tokens"]]


def test_a_stream_that_is_seen_to_grow_is_cancelled_down_to_the_engine(fleet: Fleet) -> None:
    body = {
        "model": "helexa/tiny",
        "messages": [{"role": "user", "content": "Tell me a long story."}],
        "stream": True,
        "max_tokens": 1500,
        "ignore_eos": True,
    }
    headers = {"x-request-id": "to-be-cancelled"}
    with httpx.stream("POST", f"{fleet.url}/v1/chat/completions", json=body, headers=headers, timeout=30) as answer:
        lines = answer.iter_lines()
        next(lines)
        wait_until(lambda: running(fleet, "to-be-cancelled"), 20, "the request with its tokens")
        (seen,) = running(fleet, "to-be-cancelled")
        assert (seen["state"], seen["node"]) == ("decode", "local")
        assert HTTP.delete(f"{fleet.url}/fleet/requests/{seen['number']}").status_code == 200
        rest = "\n".join(lines)
    assert "request_cancelled" in rest
    assert rest.rstrip().endswith("data: [DONE]")
    wait_until(lambda: fleet.engine_health()["running"] == 0, 10, "an engine that is idle again")


def test_the_logs_of_the_gateway_and_of_a_node_are_told(fleet: Fleet) -> None:
    gateway = HTTP.get(f"{fleet.url}/fleet/logs").json()
    node = HTTP.get(f"{fleet.url}/fleet/logs", params={"node": "local"}).json()
    assert {"node.up", "model.loaded"} <= {line["event"] for line in gateway["lines"]}
    assert "model.loaded" in {line["event"] for line in node["lines"]}
    assert HTTP.get(f"{fleet.url}/fleet/logs", params={"node": "nowhere"}).status_code == 400
