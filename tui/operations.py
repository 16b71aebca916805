"""What an operator does to a fleet from the console; each a request, and a sentence about how it went."""

from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx

from tui import chatting
from tui.client import CONNECT_SECONDS, FAILURES, FleetError, client_options, model_path, no_url, read_object, trouble


class Operations:
    """Asks a fleet for changes. Owns its connections; close it.

    Args:
        url: of the gateway.
        key: API key, if the fleet asks for one.

    Raises:
        FleetError: the URL is none. As every method: the fleet was not reached, or did not do it.
    """

    def __init__(self, url: str, key: str | None) -> None:
        self.url = url
        try:
            self._client = httpx.AsyncClient(**client_options(url, key))
        except (httpx.InvalidURL, ValueError) as error:
            raise no_url(url, error) from error

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def load(self, model: str, node: str | None = None) -> str:
        """Load a model and wait until it serves."""
        found = await self._ask("POST", model_path(model, "load"), {"node": node}, patient=True)
        return f"{model} is loaded on {found.get('node', '?')}."

    async def unload(self, model: str, node: str | None = None) -> str:
        """Unload a model once its requests have ended."""
        found = await self._ask("POST", model_path(model, "unload"), {"node": node}, patient=True)
        return f"{model} is unloaded from {', '.join(found.get('nodes', ())) or '?'}."

    async def pin(self, model: str, *, pinned: bool, node: str | None = None) -> str:
        """Keep a model where it is loaded, or no longer."""
        found = await self._ask("POST", model_path(model, "pin"), {"pinned": pinned, "node": node})
        return f"{model} is {'kept' if pinned else 'no longer kept'} on {', '.join(found.get('nodes', ())) or '?'}."

    async def alias(self, alias: str, model: str) -> str:
        """Have a further name for a model, until the gateway ends."""
        await self._ask("PUT", f"/fleet/aliases/{quote(alias)}", {"model": model})
        return f"{alias} stands for {model} until the gateway ends; the topology file makes it last."

    async def unalias(self, alias: str) -> str:
        """No longer have it."""
        await self._ask("DELETE", f"/fleet/aliases/{quote(alias)}")
        return f"{alias} stands for nothing any more."

    async def cancel(self, number: int) -> str:
        """End a request."""
        await self._ask("DELETE", f"/fleet/requests/{number}")
        return f"Request {number} is cancelled."

    def chat(self, wanted: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Ask a model; see `chatting.chunks`."""
        return chatting.chunks(self._client, self.url, wanted)

    async def create_key(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Make a key; the answer holds it, this once."""
        return await self._ask("POST", "/fleet/keys", wanted)

    async def rotate_key(self, name: str) -> dict[str, Any]:
        """Exchange a key; the answer holds the new one, this once."""
        return await self._ask("POST", f"/fleet/keys/{quote(name, safe='')}/rotate", {})

    async def revoke_key(self, name: str) -> str:
        """Have a key open nothing any more."""
        await self._ask("DELETE", f"/fleet/keys/{quote(name, safe='')}")
        return f"The key {name} is revoked."

    async def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, patient: bool = False
    ) -> dict[str, Any]:
        timeout = httpx.Timeout(None if patient else _SECONDS, connect=CONNECT_SECONDS)
        try:
            response = await self._client.request(method, path, json=body, timeout=timeout)
        except FAILURES as error:
            raise trouble(self.url, error) from error
        return read_object(response)


_SECONDS = 30.0

__all__ = ["FleetError", "Operations"]
