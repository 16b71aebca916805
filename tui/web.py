"""The console in a browser: textual-serve runs one for each page, and hands keys and pictures to and fro.

Whoever can open the page works with the key of the operator who started this. So a page of another site must not get at
it through the operator's browser: the socket of a page that was not served from here is refused, and so is a name of
this host that nobody gave it, which is how another site would make itself look like this one (DNS rebinding).
"""

import asyncio
import ipaddress
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp_jinja2
from aiohttp import web
from textual_serve.server import Server

_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self' ws: wss:; frame-ancestors 'none'"
)
"""The template of textual-serve asks another host for a font; a console says nothing to anybody else."""


class WebConsole(Server):
    """Serves one page, and a console to each that opens it.

    Args:
        command: of a console, for a shell.
        host: address to listen at.
        port: 0: any.
        announce: is told the page's URL once it can be opened.
    """

    def __init__(self, command: str, host: str, port: int, announce: Callable[[str], None]) -> None:
        super().__init__(command, host=host, port=port, title="helexa")
        self._announce = announce

    async def _make_app(self) -> web.Application:
        app = await super()._make_app()
        app.middlewares.append(self._guard)
        return app

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if not allowed(request.headers.get("Host", ""), request.headers.get("Origin"), self.host):
            raise web.HTTPForbidden(text="This console is opened by its address, and from no other page.")
        return await handler(request)

    async def handle_index(self, request: web.Request) -> Any:
        """The page. With addresses as the browser knows them: the base class tells those it was made with."""
        scheme = "wss" if request.secure else "ws"
        given = request.query.get("fontsize", "")
        context = {
            "font_size": int(given) if given.isdecimal() and len(given) < 4 else 16,  # noqa: PLR2004 - no screen is so large
            "app_websocket_url": f"{scheme}://{request.host}/ws",
            "config": {"static": {"url": "/static/"}},
            "application": {"name": self.title},
        }
        response = aiohttp_jinja2.render_template("app_index.html", request, context)
        response.headers["Content-Security-Policy"] = _POLICY
        return response

    async def on_startup(self, app: web.Application) -> None:
        """Nothing of the base class's: its banner would show the command line."""

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            OSError: the port is taken, or the address is none of this host.
        """
        runner = web.AppRunner(await self._make_app(), access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, self.host, self.port)
            await site.start()
            self._announce(_url(self.host, runner))
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()


def serve(command: str, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve consoles to browsers until Ctrl-C or SIGTERM; see ``WebConsole``."""

    async def main() -> None:
        task = asyncio.ensure_future(WebConsole(command, host, port, announce).run())
        for each in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(each, task.cancel)
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(main())


def _url(host: str, runner: web.AppRunner) -> str:
    port = runner.addresses[0][1]
    known = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)  # noqa: S104 - to be shown
    return f"http://{f'[{known}]' if ':' in known else known}:{port}/"


def allowed(host: str, origin: str | None, served: str) -> bool:
    """Whether a request is one that a page of this server makes, or its own address line.

    Args:
        host: the header of that name.
        origin: likewise; browsers send it with every socket and every request from another site.
        served: what the operator gave as this server's host.
    """
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        return False
    name = (urlsplit(f"//{host}").hostname or "").removesuffix(".")
    ours = {"localhost", served.lower(), socket.gethostname().lower()}
    return name in ours or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
