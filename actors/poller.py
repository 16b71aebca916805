"""Watches the neurons: one task each, so that a slow one delays no other."""

from collections.abc import Mapping
from typing import NoReturn

import httpx
import trio

from actors.actor import Actor
from actors.mailbox import Mailbox
from actors.router import NodeDown, NodeUp, Router, Sight
from helexa.cortex.fleet import Sighting
from helexa.wire import fleet as shapes

TIMEOUT_SECONDS = 5.0
LOOK_SECONDS = 15.0
"""For all requests of a look together: a peer that sends a byte now and then would keep each of them going for ever."""
MAX_BACKOFF_FACTOR = 8
"""A node that stays down is asked less and less often, at least once in so many intervals."""


class Poller(Actor):
    """Tells the router what each neuron says, every ``interval`` seconds.

    Args:
        router: who is told, and who may ask for a look out of turn.
        endpoints: base URL by node name.
        interval: seconds between two looks.
        secret: the fleet secret, if there is one.
    """

    def __init__(self, router: Router, endpoints: Mapping[str, str], interval: float, secret: str | None) -> None:
        self.name = "poller"
        self._router: Mailbox[Sight] = router.mailbox
        self._watches = [_Watch(name, endpoint) for name, endpoint in endpoints.items()]
        self._interval = interval
        self._headers = {"authorization": f"Bearer {secret}"} if secret else {}
        for watch in self._watches:
            router.on_poke(watch.node, watch.poke)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch for ever. Started at once: a fleet whose neurons are all down is still served its 503s."""
        limits = httpx.Limits(max_keepalive_connections=2 * len(self._watches) + 1, keepalive_expiry=30)
        # trust_env=False: a proxy variable meant for the internet must not stand between cortex and its neurons
        client = httpx.AsyncClient(headers=self._headers, timeout=TIMEOUT_SECONDS, limits=limits, trust_env=False)
        async with client, trio.open_nursery() as nursery:
            for watch in self._watches:
                nursery.start_soon(self._watch, client, watch)
            task_status.started()
            await trio.sleep_forever()

    async def _watch(self, client: httpx.AsyncClient, watch: "_Watch") -> NoReturn:
        factor = 1
        while True:
            watch.poked = trio.Event()
            sight = await watch.look(client)
            self._router.tell(sight)
            with trio.move_on_after(self._interval * factor):
                await watch.poked.wait()
            up_or_poked = isinstance(sight, NodeUp) or watch.poked.is_set()
            factor = 1 if up_or_poked else min(2 * factor, MAX_BACKOFF_FACTOR)


class _Watch:
    """One neuron: what does not change while it runs is asked for once."""

    def __init__(self, node: str, endpoint: str) -> None:
        self.node = node
        self.poked = trio.Event()
        self._endpoint = endpoint
        self._known: tuple[shapes.Discovery, shapes.Version] | None = None
        self._uptime = 0.0

    def poke(self) -> None:
        """Have the next look taken now."""
        self.poked.set()

    async def look(self, client: httpx.AsyncClient) -> Sight:
        """Ask the neuron; never raises for what a neuron or a network can do."""
        try:
            with trio.fail_after(LOOK_SECONDS):
                return NodeUp(self.node, await self._sighting(client))
        except httpx.HTTPError as error:
            problem = f"{type(error).__name__}: {str(error) or 'no answer'}"
        except trio.TooSlowError:
            problem = f"it takes more than {LOOK_SECONDS:g} s to answer"
        except ValueError as error:
            problem = f"it does not answer as a neuron does: {error}"
        self._known = None  # it may be another one, or another build, that answers next
        return NodeDown(self.node, problem)

    async def _sighting(self, client: httpx.AsyncClient) -> Sighting:
        health = shapes.from_json(await self._get(client, "/health"), shapes.Health)
        if self._known is None or health.uptime_seconds < self._uptime:
            discovery = shapes.from_json(await self._get(client, "/discovery"), shapes.Discovery)
            self._known = discovery, shapes.from_json(await self._get(client, "/version"), shapes.Version)
        self._uptime = health.uptime_seconds
        actors = shapes.from_json(await self._get(client, "/actors"), tuple[shapes.ActorReport, ...])
        found, version = self._known
        return Sighting(found, version, health.uptime_seconds, health.devices, health.models, health.activation, actors)

    async def _get(self, client: httpx.AsyncClient, path: str) -> bytes:
        response = await client.get(self._endpoint + path)
        if response.status_code != httpx.codes.OK:
            secret = ", as the two have different fleet secrets" * (response.status_code == httpx.codes.UNAUTHORIZED)
            raise ValueError(f"GET {path} gave status {response.status_code}{secret}")
        return response.content
