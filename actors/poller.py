"""Watches the neurons: one task each, so that a slow one delays no other."""

import math
import ssl
from collections.abc import Callable
from contextlib import suppress

import httpx
import structlog
import trio
from attrs import define, evolve, field

from actors.actor import Actor
from actors.mailbox import MailboxFullError
from actors.router import Router
from config import Model, Topology
from helexa.cortex.routing.fleet import Sighting
from helexa.cortex.routing.state import NodeDown, NodeUp, Sight
from helexa.web.tls import distrust
from helexa.wire import fleet as shapes
from helexa.wire import secret as secrets
from helexa.wire.fleet import EstimateRequest, LoadRequest

TIMEOUT_SECONDS = 5.0
ESTIMATE_SECONDS = 60.0
"""For models whose files are elsewhere a neuron asks their hub."""
ESTIMATE_AGAIN_SECONDS = 30.0
"""After it did not answer. Without estimates everything seems to fit, and nothing would ever be evicted for it."""
LOOK_SECONDS = 15.0
"""For all requests of a look together: a peer that sends a byte now and then would keep each of them going for ever."""
MAX_BACKOFF_FACTOR = 8
"""A node that stays down is asked less and less often, at least once in so many intervals."""
_TROUBLE = (httpx.HTTPError, httpx.InvalidURL, ValueError)
"""What a neuron or a network can do to a request; the last also for answers of another shape, and strange host names.

The second is no ``HTTPError``: there are URLs that the topology takes and the client does not.
"""
_log = structlog.get_logger()


class Poller(Actor):
    """Tells the router what each neuron says, every ``actors.poller.interval``.

    Args:
        router: who is told, who may ask for a look out of turn, and whose topology says whom to watch.
        secret: the fleet secret, if there is one.
        trusted: whose certificates neurons may show; ``None``: whom the system trusts.
    """

    def __init__(self, router: Router, secret: str | None, trusted: ssl.SSLContext | None = None) -> None:
        self.name = "poller"
        self._trusted = trusted
        self._router = router
        self._headers = [secrets.header(secret)] if secret else []
        self._watches: dict[str, _Watch] = {}
        self._start: Callable[[_Watch], None] | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch for ever. Started at once: a fleet whose neurons are all down is still served its 503s."""
        limits = httpx.Limits(max_keepalive_connections=None, keepalive_expiry=30)
        # trust_env=False: a proxy variable meant for the internet must not stand between cortex and its neurons
        client = httpx.AsyncClient(
            headers=self._headers,
            timeout=TIMEOUT_SECONDS,
            limits=limits,
            trust_env=False,
            verify=self._trusted or ssl.create_default_context(),  # httpx would trust whom its own package lists
        )
        self._watches.clear()
        async with client, trio.open_nursery() as nursery:
            self._start = lambda watch: nursery.start_soon(self._watch, client, watch, nursery)
            try:
                self.follow(self._router.fleet().topology)
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._start = None

    def follow(self, topology: Topology) -> None:
        """Watch the neurons of another topology from now on."""
        if self._start is None:
            return
        wanted = {neuron.name: neuron.endpoint for neuron in topology.neurons}
        for name, watch in list(self._watches.items()):
            if wanted.get(name) != watch.endpoint:
                del self._watches[name]
                watch.scope.cancel()
                self._router.on_poke(name, None)
        for name, endpoint in wanted.items():
            if name not in self._watches:
                watch = self._watches[name] = _Watch(name, endpoint)
                self._router.on_poke(name, watch.poke)
                self._start(watch)
        for watch in self._watches.values():
            watch.expect(topology.models)

    async def _watch(self, client: httpx.AsyncClient, watch: "_Watch", nursery: trio.Nursery) -> None:
        factor = 1
        with watch.scope:
            while True:
                watch.poked = trio.Event()
                sight = await watch.look(client)
                with suppress(MailboxFullError):  # the router is down: what comes next will be news enough
                    self._router.mailbox.tell(sight)
                if watch.begin_estimate():
                    nursery.start_soon(watch.estimate, client)
                interval = self._router.fleet().topology.actors.poller.interval
                with trio.move_on_after(interval * factor):
                    await watch.poked.wait()
                up_or_poked = isinstance(sight, NodeUp) or watch.poked.is_set()
                factor = 1 if up_or_poked else min(2 * factor, MAX_BACKOFF_FACTOR)


@define(eq=False)
class _Known:
    """What does not change while a neuron runs."""

    discovery: shapes.Discovery
    version: shapes.Version
    estimates: dict[str, shapes.Estimate] = field(factory=dict)
    asked_for: tuple[Model, ...] = ()
    ask_again_at: float = math.inf


@define(eq=False)
class _Watch:
    """One neuron: what does not change while it runs is asked for once."""

    node: str
    endpoint: str
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    poked: trio.Event = field(factory=trio.Event)
    _models: tuple[Model, ...] = ()
    _known: _Known | None = None
    _uptime: float = 0.0
    _last: Sighting | None = None

    def poke(self) -> None:
        """Have the next look taken now."""
        self.poked.set()

    def expect(self, models: tuple[Model, ...]) -> None:
        """Ask for estimates of these models, unless they are what was asked for already."""
        if models != self._models:
            self._models = models
            self.poke()

    async def look(self, client: httpx.AsyncClient) -> Sight:
        """Ask the neuron; never raises for what a neuron or a network can do."""
        asked_at = trio.current_time()
        try:
            with trio.fail_after(LOOK_SECONDS):
                return NodeUp(self.node, await self._sighting(client), asked_at)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            problem = distrust(error) or f"{type(error).__name__}: {str(error) or 'no answer'}"
        except trio.TooSlowError:
            problem = f"it takes more than {LOOK_SECONDS:g} s to answer"
        except ValueError as error:
            problem = f"it does not answer as a neuron does: {error}"
        return await self._second_look(client, asked_at, problem)

    async def _second_look(self, client: httpx.AsyncClient, asked_at: float, problem: str) -> Sight:
        """A node whose health probe fails may serve all the same: its list of models decides."""
        if self._last is not None:
            with trio.move_on_after(TIMEOUT_SECONDS):
                try:
                    listed = shapes.from_json(await self._get(client, "/models"), shapes.ModelList)
                except _TROUBLE:
                    pass
                else:
                    self._last = evolve(self._last, models=listed.models)
                    return NodeUp(self.node, self._last, asked_at, f"its health is not known: {problem}")
        self._known = self._last = None  # it may be another one, or another build, that answers next
        return NodeDown(self.node, problem)

    async def _sighting(self, client: httpx.AsyncClient) -> Sighting:
        health = shapes.from_json(await self._get(client, "/health"), shapes.Health)
        if self._known is None or health.uptime_seconds < self._uptime:
            discovery = shapes.from_json(await self._get(client, "/discovery"), shapes.Discovery)
            version = shapes.from_json(await self._get(client, "/version"), shapes.Version)
            self._known = _Known(discovery, version)
        self._uptime = health.uptime_seconds
        actors = shapes.from_json(await self._get(client, "/actors"), tuple[shapes.ActorReport, ...])
        self._last = Sighting(
            self._known.discovery,
            self._known.version,
            health.uptime_seconds,
            health.devices,
            health.models,
            health.activation,
            actors,
            self._known.estimates,
            health.ranks,
        )
        return self._last

    def begin_estimate(self) -> bool:
        """Whether the neuron is to be asked what the models would need; not a second time before that is answered."""
        known = self._known
        if known is None or (known.asked_for == self._models and trio.current_time() < known.ask_again_at):
            return False
        known.asked_for, known.ask_again_at = self._models, math.inf
        return True

    async def estimate(self, client: httpx.AsyncClient) -> None:
        """Ask what the models would need there. Apart from the looks, as it may take a while."""
        known, models = self._known, self._models
        if known is None:
            return
        found = await self._estimates(client, models)
        if models != known.asked_for:
            return  # they are being asked for once more, and that answer may have come already
        if found is None:
            known.ask_again_at = trio.current_time() + ESTIMATE_AGAIN_SECONDS
        else:
            known.estimates = {estimate.model: estimate for estimate in found.models}
            self.poke()

    async def _estimates(self, client: httpx.AsyncClient, models: tuple[Model, ...]) -> shapes.EstimateList | None:
        request = EstimateRequest(tuple(LoadRequest(model.id, model.source, quant=model.quant) for model in models))
        url, body = self.endpoint + "/models/estimate", shapes.to_json(request)
        try:
            response = await client.post(url, content=body, timeout=ESTIMATE_SECONDS)
            return shapes.from_json(_checked(response, "POST /models/estimate"), shapes.EstimateList)
        except _TROUBLE as error:  # what fits is found out by loading
            _log.info("estimates.failed", node=self.node, error=str(error))
            return None

    async def _get(self, client: httpx.AsyncClient, path: str) -> bytes:
        return _checked(await client.get(self.endpoint + path), f"GET {path}")


def _checked(response: httpx.Response, request: str) -> bytes:
    if response.status_code != httpx.codes.OK:
        secret = ", as the two have different fleet secrets" * (response.status_code == httpx.codes.UNAUTHORIZED)
        raise ValueError(f"{request} gave status {response.status_code}{secret}")
    return response.content
