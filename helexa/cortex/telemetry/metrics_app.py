"""Serves the metrics: ``GET /metrics`` and nothing else, on a port of its own, so that a scraper needs no key."""

from collections.abc import Iterable, Iterator
from contextlib import suppress

import trio
from attrs import evolve, frozen
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from helexa.web.asgi import ClientGoneError, discard_body, origin_form, send_body, send_error
from helexa.web.hosts import is_local
from helexa.web.server import App, Receive, Scope, Send
from helexa.wire import errors

PATH = "/metrics"
_AT_ONCE = 100
_HEAD_LINES = 2
"""What a metric is, and its type; said once."""
_NOT_ALLOWED = (
    "The metrics answer to loopback names only. Call them as localhost, or give cortex.metrics_listen an address."
)


def make_app(registry: CollectorRegistry, *, local_only: bool) -> App:
    """The ASGI application.

    Args:
        registry: what is served.
        local_only: requests must name a loopback host, so that a page that rebinds its own name to 127.0.0.1 reads
            nothing.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "lifespan":
                await _live(receive, send)
            case "http":
                with suppress(ClientGoneError):
                    await _serve(registry, origin_form(scope), receive, send, local_only=local_only)
            case _:
                await send({"type": "websocket.close", "code": 1008, "reason": "There is nothing here but /metrics."})

    return app


async def _live(receive: Receive, send: Send) -> None:
    """There is nothing to prepare."""
    for event in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{event}.complete"})


async def _serve(registry: CollectorRegistry, scope: Scope, receive: Receive, send: Send, *, local_only: bool) -> None:
    await discard_body(receive)
    method, path = scope["method"], scope["path"]
    if local_only and not is_local(scope):
        await send_error(send, evolve(errors.host_not_allowed(), message=_NOT_ALLOWED))
    elif (method, path) != ("GET", PATH):
        await send_error(send, errors.route_not_found(method, path))
    else:
        kind = (b"content-type", CONTENT_TYPE_PLAIN_0_0_4.encode())
        await send_body(send, 200, await text(registry), [kind])


async def text(registry: CollectorRegistry) -> bytes:
    """Everything in Prometheus's text format; as there may be much, requests are served in between."""
    pieces = []
    for metric in registry.collect():
        for some in _pieces(metric):
            pieces.append(some)
            await trio.lowlevel.checkpoint()
    return b"".join(pieces)


def _pieces(metric: Metric) -> Iterator[bytes]:
    """One metric, without the times at which its series began: those are OpenMetrics's, and a series each of them."""
    samples = [sample for sample in metric.samples if sample.name != f"{metric.name}_created"]
    for start in range(0, max(1, len(samples)), _AT_ONCE):
        some = Metric(metric.name, metric.documentation, metric.type)
        some.samples = samples[start : start + _AT_ONCE]
        written = generate_latest(_Only(some))
        yield written if start == 0 else written.split(b"\n", _HEAD_LINES)[-1]


@frozen(eq=False)
class _Only(Collector):
    metric: Metric

    def collect(self) -> Iterable[Metric]:
        return [self.metric]
