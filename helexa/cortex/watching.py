"""What an operator watches beside the fleet itself: the requests that are being served, and the logs."""

from urllib.parse import urlencode

from quart import Response, request
from quart_trio import QuartTrio

from helexa.cortex.ports import Lifecycle
from helexa.cortex.telemetry.observing import Observer
from helexa.web.log_pages import log_page
from helexa.web.quart_errors import json_response
from helexa.wire import sse
from helexa.wire.errors import ApiError


def add_routes(app: QuartTrio, observer: Observer, lifecycle: Lifecycle) -> None:
    """Add them.

    Args:
        app: takes the routes.
        observer: follows the requests.
        lifecycle: reaches the nodes, for their logs.
    """

    @app.get("/fleet/requests")
    async def requests() -> Response:
        return json_response(sse.dumps(observer.live.shown(observer.clock())))

    @app.delete("/fleet/requests/<int:number>")
    async def cancel(number: int) -> Response:
        if not observer.live.cancel(number):
            raise _no_request(number)
        return json_response(sse.dumps({"number": number}))

    @app.get("/fleet/logs")
    async def logs() -> Response:
        node = request.args.get("node")
        if node is None:
            return log_page(request.args)
        query = {name: value for name, value in request.args.items() if name != "node"}
        return json_response(await lifecycle.logs(node, urlencode(query)))


def _no_request(number: int) -> ApiError:
    message = f"There is no request {number} that could be cancelled; it may have ended, or not have begun its work."
    return ApiError(404, message, "invalid_request_error", "request_not_found")
