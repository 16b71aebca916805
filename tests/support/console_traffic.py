"""Requests and log lines for consoles, as a gateway tells them."""

from typing import Any

from consoles import NOW

QWEN = "Qwen/Qwen3-8B"
FLEET = {"nodes": [{"name": "blackbox", "up": True}, {"name": "attic", "up": True}]}


def request(number: int, state: str = "decode", **told: Any) -> dict[str, Any]:
    """One of ``/fleet/requests``."""
    usual = {"request_id": f"req-{number}", "route": "/v1/chat/completions", "key": "alice", "model": QWEN}
    return {"number": number, "state": state, "seconds": 1.5, "node": "", "attempts": 0, **usual, **told}


DECODES = {
    **request(41, node="blackbox", attempts=1, waited=0.2, first_token=0.62, seconds=6.9, rate=84.25),
    "prompt_tokens": 1812,
    "completion_tokens": 531,
    "cached_tokens": 1536,
}
MISTRAL = {
    **request(42, node="attic", attempts=2, key=None, model="mistralai/Mistral-Small-3.2-24B-Instruct"),
    "first_token": 1.9,
    "prompt_tokens": 120,
    "completion_tokens": 88,
    "cached_tokens": 0,
    "rate": 21.5,
}
TRAFFIC = {
    "running": [
        DECODES,
        MISTRAL,
        request(44, "prefill", node="blackbox", attempts=1, key="team-blue", waited=0.004, seconds=0.41),
        request(45, "waiting", seconds=12.5, key="nightly-batch", model="google/gemma-3-27b-it"),
        request(46, "queued", seconds=0.2),
        request(47, "reading", seconds=0.03, model="", key="bob"),
    ],
    "ended": [
        request(43, "ended", ago=2.5, status=200, node="blackbox", attempts=1, completion_tokens=200, rate=90.1),
        request(40, "ended", ago=31.0, status=429, code="rate_limit_exceeded", seconds=0.002, key="bob"),
        request(39, "ended", ago=75.0, status=499, code="client_closed_request", node="attic", attempts=1),
        request(38, "ended", ago=175.0, status=403, code="request_cancelled", node="attic", attempts=1, seconds=300.1),
        request(37, "ended", ago=4000.0, status=502, code="upstream_error", node="attic", attempts=3),
    ],
}


def line(number: int, level: str, event: str, **fields: Any) -> dict[str, Any]:
    """One of ``/fleet/logs``; a second after the one before."""
    return {"id": number, "time": NOW + number, "level": level, "event": event, "fields": fields}


def log(*lines: dict[str, Any], node: str = "") -> dict[str, Any]:
    """A page of a log, as the console's source hands it on."""
    return {"node": node, "lines": list(lines), "last": 0}


LINES = (
    line(1, "info", "topology.applied", file="/etc/helexa/homelab.toml", changes="[]"),
    line(2, "warning", "actor crashed and will be restarted", actor="device_worker:cuda:0", error="status 71"),
    line(3, "info", "request.ended", request_id="req-41", route="/v1/chat/completions", status=200, seconds=2.5),
    line(4, "debug", "step.done", tokens=3),
    line(5, "error", "http.fault", path="/fleet", exception="Traceback:\n  in f\nValueError: no"),
    line(6, "warning", "node.failed_request", node="attic", request_id="req-42", reason="\x1b[31mreset\x1b[0m"),
    line(7, "critical", "ledger.database_away", error="the database does not answer", unbooked=12),
    line(8, "info", "request.ended", request_id="req-40", route="/v1/chat/completions", status=429, key="bob"),
)
