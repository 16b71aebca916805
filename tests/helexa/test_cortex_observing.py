"""One request's way into the metrics and the log."""

import orjson
import pytest
from fleets import topology_of
from scrapes import Watched, small_fleet
from structlog.testing import capture_logs

from config import Provider, Route
from helexa.cortex.exchange.dialects import CHAT, MESSAGES
from helexa.cortex.routing.state import Happening
from helexa.cortex.telemetry.metrics import MAX_KEYS, OTHER
from helexa.cortex.telemetry.observing import Observation
from helexa.wire import errors
from helexa.wire.meter import Totals
from helexa.wire.sse import DONE, event

USED = (9, 5, 8)
ANSWER = orjson.dumps({"choices": [{"message": {"content": "secret answer"}}]})
ROLE = event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
WORD = event({"choices": [{"delta": {"content": "secret answer"}}]})
LAST = event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
AT = {"model": "m", "node": "a"}


@pytest.fixture
def watched() -> Watched:
    return Watched()


def begun(watched: Watched, model: str = "m", key: str | None = "ci", route: str = CHAT) -> Observation:
    seen = watched.observer.begin(route, "r1", key)
    seen.read(model)
    return seen


def placed(watched: Watched, node: str = "a", wait: float = 0.0) -> Observation:
    """A request that has waited so long for a place, and was then sent on."""
    seen = begun(watched)
    seen.wait_begins()
    watched.later(wait)
    seen.wait_ends()
    seen.sent(node)
    return seen


def stream(watched: Watched, seen: Observation, *pieces: bytes, used: Totals | None = USED) -> None:
    """A piece each second, and the last one at once after the one before."""
    for piece in pieces:
        watched.later(1.0)
        if used is not None:
            seen.used(used)
        seen.wrote(piece, more=True)
    seen.wrote(b"", more=False)


async def test_an_answer_in_one_piece_is_counted_with_its_tokens(watched: Watched) -> None:
    seen = placed(watched)
    watched.later(2.0)
    seen.used(USED)
    seen.answered(200, ANSWER)
    seen.end()
    assert await watched.value("requests_total", route=CHAT, status="200", **AT) == 1
    assert await watched.value("prompt_tokens_total", **AT) == 9
    assert await watched.value("prompt_tokens_cached_total", **AT) == 8
    assert await watched.value("completion_tokens_total", **AT) == 5
    assert await watched.value("key_requests_total", key="ci") == 1
    assert await watched.value("key_tokens_total", key="ci", kind="prompt") == 9
    assert await watched.value("key_tokens_total", key="ci", kind="completion") == 5
    assert await watched.value("e2e_request_latency_seconds_sum", **AT) == 2.0
    assert await watched.value("time_to_first_token_seconds_count", **AT) is None


async def test_a_stream_is_timed_to_its_first_token_and_between_them(watched: Watched) -> None:
    seen = placed(watched)
    stream(watched, seen, ROLE, WORD, WORD, LAST + DONE)
    watched.later(100.0)  # what the connection has to say after the end is not the client's wait
    seen.end()
    assert await watched.value("time_to_first_token_seconds_sum", **AT) == 2.0
    assert await watched.value("inter_token_latency_seconds_sum", **AT) == 2.0 / 4
    assert await watched.value("e2e_request_latency_seconds_sum", **AT) == 4.0
    assert await watched.value("completion_tokens_total", **AT) == 5
    assert await watched.value("requests_total", route=CHAT, status="200", **AT) == 1


async def test_a_stream_that_tells_no_counts_has_no_tokens_and_is_timed_all_the_same(watched: Watched) -> None:
    seen = placed(watched)
    stream(watched, seen, ROLE, WORD, DONE, used=None)
    seen.end()
    assert await watched.value("time_to_first_token_seconds_count", **AT) == 1
    assert await watched.value("inter_token_latency_seconds_count", **AT) is None
    assert await watched.value("completion_tokens_total", **AT) is None


async def test_a_stream_of_one_token_has_nothing_between_its_tokens(watched: Watched) -> None:
    seen = placed(watched)
    stream(watched, seen, WORD, LAST, DONE, used=(1, 1, 0))
    seen.end()
    assert await watched.value("completion_tokens_total", **AT) == 1
    assert await watched.value("inter_token_latency_seconds_count", **AT) is None


async def test_the_gateways_own_time_is_neither_the_wait_nor_the_node(watched: Watched) -> None:
    seen = begun(watched)
    watched.later(0.25)
    seen.wait_begins()
    watched.later(10.0)
    seen.wait_ends()
    watched.later(0.5)
    seen.sent("a")
    watched.later(10.0)
    seen.answered(200, ANSWER)
    seen.end()
    assert await watched.value("gateway_overhead_seconds_sum", route=CHAT) == 0.75
    assert await watched.value("request_queue_time_seconds_sum", model="m") == 10.0


async def test_the_waits_for_several_places_add_up(watched: Watched) -> None:
    seen = begun(watched)
    for _ in range(2):
        seen.wait_begins()
        watched.later(3.0)
        seen.wait_ends()
    seen.end()
    assert await watched.value("request_queue_time_seconds_sum", model="m") == 6.0


async def test_what_was_used_last_is_what_counts(watched: Watched) -> None:
    seen = placed(watched)
    for number in range(1, 21):
        watched.later(1.0)
        seen.used((7, number, 0))
        seen.wrote(WORD, more=True)
    seen.end()
    assert await watched.value("prompt_tokens_total", **AT) == 7
    assert await watched.value("completion_tokens_total", **AT) == 20


async def test_the_wait_for_a_turn_is_a_wait_and_not_the_gateways_own_time(watched: Watched) -> None:
    seen = begun(watched)
    watched.later(4.0)
    seen.queued(4.0)
    watched.later(0.5)
    seen.sent("a")
    seen.answered(200, ANSWER)
    seen.end()
    assert await watched.value("gateway_overhead_seconds_sum", route=CHAT) == 0.5
    assert await watched.value("request_queue_time_seconds_sum", model="m") == 4.0


def test_what_is_estimated_is_marked_in_the_log(watched: Watched) -> None:
    with capture_logs() as lines:
        seen = placed(watched)
        seen.used((3, 4, 0), estimated=True)
        seen.answered(200, ANSWER)
        seen.end()
    assert (lines[0]["prompt_tokens"], lines[0]["completion_tokens"], lines[0]["estimated"]) == (3, 4, True)


async def test_the_time_a_client_takes_to_send_its_request_is_its_own(watched: Watched) -> None:
    seen = watched.observer.begin(CHAT, "r1", None)
    watched.later(30.0)
    seen.read("m")
    seen.sent("a")
    seen.answered(200, ANSWER)
    seen.end()
    assert await watched.value("e2e_request_latency_seconds_sum", **AT) == 0.0
    assert await watched.value("gateway_overhead_seconds_sum", route=CHAT) == 0.0


async def test_requests_in_flight_and_waiting_are_told_while_they_are(watched: Watched) -> None:
    seen = begun(watched)
    assert await watched.value("requests_in_flight", route=CHAT, model="m") == 1
    assert await watched.value("requests_waiting", model="m") is None
    seen.wait_begins()
    assert await watched.value("requests_waiting", model="m") == 1
    seen.wait_ends()
    assert await watched.value("requests_waiting", model="m") == 0
    seen.answered(200, ANSWER)
    seen.end()
    assert await watched.value("requests_in_flight", route=CHAT, model="m") == 0


async def test_a_client_that_leaves_while_it_waits_is_counted_and_waits_no_longer(watched: Watched) -> None:
    seen = begun(watched)
    seen.wait_begins()
    watched.later(3.0)
    seen.end()
    assert await watched.value("requests_total", route=CHAT, model="m", node="", status="499") == 1
    assert await watched.value("request_errors_total", route=CHAT, code="client_closed_request") == 1
    assert await watched.value("requests_waiting", model="m") == 0
    assert await watched.value("requests_in_flight", route=CHAT, model="m") == 0
    assert await watched.value("request_queue_time_seconds_sum", model="m") == 3.0


async def test_a_client_that_leaves_in_the_middle_of_a_stream_has_had_its_first_token(watched: Watched) -> None:
    seen = placed(watched)
    seen.wrote(ROLE + WORD, more=True)
    seen.end()
    assert await watched.value("requests_total", route=CHAT, status="499", **AT) == 1
    assert await watched.value("time_to_first_token_seconds_count", **AT) == 1
    assert await watched.value("e2e_request_latency_seconds_count", **AT) is None


async def test_a_stream_that_breaks_is_an_error_although_its_status_was_not(watched: Watched) -> None:
    seen = placed(watched)
    seen.wrote(WORD, more=True)
    seen.failed("upstream_error")
    seen.wrote(event({"error": {"code": "upstream_error"}}) + DONE, more=False)
    seen.end()
    assert await watched.value("requests_total", route=CHAT, status="200", **AT) == 1
    assert await watched.value("request_errors_total", route=CHAT, code="upstream_error") == 1
    assert await watched.value("e2e_request_latency_seconds_count", **AT) is None


async def test_a_refusal_of_an_upstream_that_is_passed_on_is_counted_by_its_code(watched: Watched) -> None:
    seen = placed(watched)
    seen.answered(429, b'{"error": {"code": "rate_limit_exceeded"}}')
    seen.end()
    assert await watched.value("requests_total", route=CHAT, status="429", **AT) == 1
    assert await watched.value("request_errors_total", route=CHAT, code="rate_limit_exceeded") == 1
    assert await watched.value("prompt_tokens_total", **AT) is None


async def test_an_error_of_ours_is_counted_by_its_code_whatever_its_body_looks_like(watched: Watched) -> None:
    seen = placed(watched)
    seen.failed("upstream_timeout")
    seen.answered(504, b'{"type": "error", "error": {"type": "api_error"}}')
    seen.end()
    assert await watched.value("request_errors_total", route=CHAT, code="upstream_timeout") == 1
    assert await watched.value("request_errors_total", route=CHAT, code="api_error") is None


async def test_each_attempt_but_the_first_is_a_retry_at_its_node(watched: Watched) -> None:
    seen = placed(watched)
    for node in ("b", "provider:x", "provider:x"):
        seen.sent(node)
    seen.answered(200, ANSWER)
    seen.end()
    assert await watched.value("request_retries_total", node="a") is None
    assert await watched.value("request_retries_total", node="b") == 1
    assert await watched.value("request_retries_total", node="provider:x") == 2
    assert await watched.value("gateway_overhead_seconds_count", route=CHAT) == 1
    assert await watched.value("requests_total", route=CHAT, model="m", node="provider:x", status="200") == 1


async def test_going_outside_with_a_model_of_the_fleet_is_a_fall_back(watched: Watched) -> None:
    seen = placed(watched)
    seen.fell_back()
    seen.answered(200, ANSWER)
    seen.end()
    assert await watched.value("fallbacks_total", model="m") == 1


def test_a_model_is_told_by_its_id_its_route_or_not_at_all() -> None:
    topology = topology_of(
        "a",
        aliases={"small": "m", "far": "out-1"},
        providers=(Provider("p", "openai", "http://p"),),
        routes=(Route("out-*", ("p",), deny=("out-secret*",)), Route("gpt-4o", ("p",))),
    )
    watched = Watched(small_fleet())
    watched.change(topology=topology, aliases=topology.aliases)
    names = ("m", "small", "out-1", "out-2", "far", "out-secret-1", "gpt-4o", "gpt-4o-mini", "", "x\n")
    assert [watched.observer.model(name) for name in names] == [
        *("m", "m", "out-*", "out-*", "out-*", "out-*", "gpt-4o", "unknown", "unknown", "unknown")
    ]


async def test_ten_thousand_invented_models_make_one_series(watched: Watched) -> None:
    for number in range(10_000):
        with watched.observer.begin(CHAT, "r", None) as seen:
            seen.read(f"invented-{number}")
            seen.failed("model_not_found")
            seen.answered(404, b"")
    labels = {"route": CHAT, "model": "unknown", "node": "", "status": "404"}
    assert await watched.value("requests_total", **labels) == 10_000


async def test_a_hundred_keys_have_a_series_each_and_all_others_share_one(watched: Watched) -> None:
    for number in range(MAX_KEYS + 20):
        seen = begun(watched, key=f"key-{number}")
        seen.used(USED)
        seen.answered(200, ANSWER)
        seen.end()
    assert await watched.value("key_requests_total", key=f"key-{MAX_KEYS - 1}") == 1
    assert await watched.value("key_requests_total", key=f"key-{MAX_KEYS}") is None
    assert await watched.value("key_requests_total", key=OTHER) == 20
    assert await watched.value("key_tokens_total", key=OTHER, kind="prompt") == 20 * 9


async def test_what_the_gate_refuses_is_counted_by_route(watched: Watched) -> None:
    for path in (MESSAGES, "/fleet", "/v1/x/../y", "/"):
        watched.observer.refused(path, errors.invalid_api_key())
    labels = {"model": "unknown", "node": "", "status": "401"}
    assert await watched.value("requests_total", route=MESSAGES, **labels) == 1
    assert await watched.value("requests_total", route=OTHER, **labels) == 3
    assert await watched.value("request_errors_total", route=OTHER, code="invalid_api_key") == 3


async def test_a_request_that_was_never_read_is_of_no_model(watched: Watched) -> None:
    with watched.observer.begin(CHAT, "r1", "ci") as seen:
        seen.failed("invalid_json")
        seen.answered(400, b"")
    labels = {"route": CHAT, "model": "unknown", "node": "", "status": "400"}
    assert await watched.value("requests_total", **labels) == 1
    assert await watched.value("requests_in_flight", route=CHAT, model="unknown") is None


def test_a_request_leaves_one_line_in_the_log(watched: Watched) -> None:
    with capture_logs() as lines:
        seen = placed(watched, wait=0.5)
        stream(watched, seen, ROLE, WORD, LAST + DONE)
        seen.end()
    assert lines == [
        {
            "event": "request.ended",
            "log_level": "info",
            "request_id": "r1",
            "key": "ci",
            "route": CHAT,
            "model": "m",
            "node": "a",
            "status": 200,
            "attempts": 1,
            "seconds": 3.5,
            "waited": 0.5,
            "first_token": 2.5,
            "prompt_tokens": 9,
            "cached_tokens": 8,
            "completion_tokens": 5,
        }
    ]
    assert "secret" not in repr(lines)


@pytest.mark.parametrize("name", ["x\ny", "\x1b[31m", "x" * 10_000, "a\u2028b", "\x00"])
def test_a_clients_words_cannot_write_lines_or_colours_into_the_log(watched: Watched, name: str) -> None:
    with capture_logs() as lines, watched.observer.begin(CHAT, "r1", None) as seen:
        seen.read(name)
        seen.sent("provider:p")
        seen.answered(400, orjson.dumps({"error": {"code": name}}))
    (line,) = lines
    for told in (line["model"], line["code"]):
        assert told.isprintable()
        assert len(told) < 200


async def test_a_code_that_an_upstream_made_up_is_no_label(watched: Watched) -> None:
    seen = placed(watched)
    seen.answered(400, orjson.dumps({"error": {"code": 'x"}\n# evil'}}))
    seen.end()
    assert await watched.value("request_errors_total", route=CHAT, code=OTHER) == 1


LOADING = {"node": "a", "device": "cpu", "model": "m"}


async def test_loads_are_counted_and_timed_where_the_gateway_began_them(watched: Watched) -> None:
    for happening in (
        Happening("model.loading", {**LOADING, "evicts": []}),
        Happening("model.loaded", {**LOADING, "seconds": 4.5}),
        Happening("model.loading", {**LOADING, "evicts": []}),
        Happening("model.load_failed", {**LOADING, "error": "no room"}),
        Happening("model.loading", AT),  # a node's own start-up
        Happening("model.loaded", AT),
    ):
        watched.observer.happened(happening)
    assert await watched.value("cold_starts_total", **AT) == 2
    assert await watched.value("model_loads_total", result="loaded", **AT) == 2
    assert await watched.value("model_loads_total", result="failed", **AT) == 1
    assert await watched.value("model_load_seconds_count", **AT) == 1
    assert await watched.value("model_load_seconds_sum", **AT) == 4.5
    assert await watched.value("fleet_events_total", kind="model.loading") == 3


async def test_evictions_are_counted_by_their_reason(watched: Watched) -> None:
    watched.observer.happened(Happening("model.evicted", {**AT, "why": "it was idle"}))
    watched.observer.happened(Happening("model.evicted", {**AT, "why": "makes room for big"}))
    assert await watched.value("model_evictions_total", reason="idle", **AT) == 1
    assert await watched.value("model_evictions_total", reason="room", **AT) == 1


async def test_any_other_event_is_counted_by_its_kind(watched: Watched) -> None:
    watched.observer.happened(Happening("topology.applied", {"changes": []}))
    watched.observer.happened(Happening("node.down", {"node": "a", "error": None}))
    assert await watched.value("fleet_events_total", kind="topology.applied") == 1
    assert await watched.value("fleet_events_total", kind="node.down") == 1
