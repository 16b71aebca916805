"""The metrics' own server: what it answers, and whom."""

import pytest
import trio
from http_parts import Call, RawClient, request_bytes, scope_of, start_app
from prometheus_client.parser import text_string_to_metric_families
from scrapes import Watched, scraped

from helexa.cortex.telemetry.metrics_app import make_app, text
from helexa.web.server import App


@pytest.fixture
def app() -> App:
    return make_app(Watched().observer.metrics.registry, local_only=True)


async def ask(app: App, method: str = "GET", path: str = "/metrics", *headers: tuple[bytes, bytes]) -> Call:
    scope = scope_of(method, path, list(headers))
    if headers:  # the test's own host in place of the default
        scope["headers"] = list(headers)
    return await Call(scope).run(app)


async def test_metrics_are_served_as_prometheus_reads_them(app: App) -> None:
    call = await ask(app)
    assert call.status == 200
    assert call.headers[b"content-type"] == b"text/plain; version=0.0.4; charset=utf-8"
    assert len(list(text_string_to_metric_families(call.answer.decode()))) > 20


async def test_a_query_does_not_matter(app: App) -> None:
    scope = scope_of("GET", "/metrics")
    scope["query_string"] = b"name[]=up"
    assert (await Call(scope).run(app)).status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/metrics/"),
        ("GET", "/metricsx"),
        ("GET", "/v1/models"),
        ("POST", "/metrics"),
        ("HEAD", "/metrics"),
        ("DELETE", "/metrics"),
    ],
)
async def test_there_is_nothing_else(app: App, method: str, path: str) -> None:
    call = await ask(app, method, path)
    assert (call.status, call.error["code"]) == (404, "not_found")


@pytest.mark.parametrize("host", [b"evil.example", b"evil.example:31314", b"localhost.evil.example", b"10.0.0.1", b""])
async def test_on_loopback_only_loopback_names_are_answered(app: App, host: bytes) -> None:
    call = await ask(app, "GET", "/metrics", (b"host", host))
    assert (call.status, call.error["code"]) == (403, "host_not_allowed")


@pytest.mark.parametrize("host", [b"localhost:31314", b"127.0.0.1", b"[::1]:31314"])
async def test_every_loopback_name_is_answered(app: App, host: bytes) -> None:
    assert (await ask(app, "GET", "/metrics", (b"host", host))).status == 200


async def test_a_page_from_elsewhere_is_not_answered(app: App) -> None:
    call = await ask(app, "GET", "/metrics", (b"host", b"localhost"), (b"origin", b"https://evil.example"))
    assert call.status == 403


async def test_on_other_addresses_any_name_is_answered() -> None:
    app = make_app(Watched().observer.metrics.registry, local_only=False)
    assert (await ask(app, "GET", "/metrics", (b"host", b"gateway.lan:31314"))).status == 200


async def test_it_runs_behind_the_real_server_and_its_connections_serve_again(nursery: trio.Nursery, app: App) -> None:
    port = await start_app(nursery, app)
    async with await RawClient.connect(port) as client:
        for method, path, status in (("GET", "/metrics", 200), ("POST", "/metrics", 404), ("GET", "/metrics", 200)):
            found, _, body = await client.request(request_bytes(method, path, b"x" * 1000))
            assert found == status
            assert body


async def test_what_a_client_sends_is_read_before_it_is_turned_away(app: App) -> None:
    call = Call.post("/metrics", b"x" * 1000)
    await call.run(app)
    assert call.status == 404
    assert call._asked


async def test_a_client_that_has_gone_is_not_answered(app: App) -> None:
    call = Call.post("/metrics", b"x")
    call._asked = True
    call.leave()
    await call.run(app)
    assert call.messages == []


async def test_a_websocket_is_closed(app: App) -> None:
    sent = []

    async def send(message: dict[str, object]) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(message)

    async def receive() -> dict[str, object]:
        await trio.lowlevel.checkpoint()
        return {"type": "websocket.connect"}

    await app({**scope_of("GET", "/metrics"), "type": "websocket"}, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


async def test_a_metric_of_many_series_is_written_in_pieces_and_reads_as_one() -> None:
    metrics = Watched().observer.metrics
    for number in range(250):
        metrics.first_token.at("m", str(number)).observe(number)
    found = (await scraped(metrics.registry))["helexa_time_to_first_token_seconds"]
    counts = [sample for sample in found.samples if sample.name.endswith("_count")]
    assert (found.type, found.documentation) == ("histogram", "To a stream's first token.")
    assert {sample.labels["node"]: sample.value for sample in counts} == {str(number): 1 for number in range(250)}
    written = await text(metrics.registry)
    assert written.count(b"# TYPE helexa_time_to_first_token_seconds ") == 1


async def test_other_requests_are_served_while_many_series_are_written() -> None:
    metrics, switched = Watched().observer.metrics, 0
    for number in range(1000):
        metrics.fallbacks.at(str(number)).inc()

    async def other() -> None:
        nonlocal switched
        while True:
            switched += 1
            await trio.lowlevel.checkpoint()

    empty = len(list(metrics.registry.collect()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await text(metrics.registry)
        nursery.cancel_scope.cancel()
    assert switched > empty + 5
