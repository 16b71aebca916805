"""A request asked of providers outside the fleet: in the route's order, each as often as its failures may mend."""

import random
from collections.abc import Iterable, Mapping
from re import compile as pattern

import structlog
import trio
from attrs import define, evolve, field, frozen

from config import Provider, Topology
from helexa.cortex.exchange import kinds, outside, retry
from helexa.cortex.exchange.answer import LOCAL_ROUTE, Answer, Plain
from helexa.cortex.exchange.attempt import Attempt, UsageRefusedError
from helexa.cortex.exchange.breaker import Breaker
from helexa.cortex.exchange.dialects import Asked
from helexa.cortex.exchange.failures import Failed, Target
from helexa.cortex.exchange.kinds import Kind
from helexa.cortex.exchange.local import Unanswered
from helexa.cortex.exchange.media import Pictures
from helexa.cortex.exchange.outside import Denied, Outside
from helexa.cortex.exchange.upstream import Patience, Pool
from helexa.web.asgi import Headers
from helexa.wire import errors
from helexa.wire.errors import ApiError

ANTHROPIC_VERSION = (b"anthropic-version", b"2023-06-01")
_KEY = pattern(r"[\x21-\x7e]+")
_BASICS: Headers = [
    (b"content-type", b"application/json"),
    (b"accept-encoding", b"identity"),  # what is compressed could neither be cut at its events nor translated
    (b"user-agent", b"helexa"),  # some providers turn those away who do not say who they are
]
_log = structlog.get_logger()


class ProviderKeyError(Exception):
    """A provider's key is not in the environment."""


@frozen
class Breakers:
    """One breaker per provider; one that was moved elsewhere in the topology begins anew."""

    _by_provider: dict[tuple[str, str], Breaker] = field(factory=dict)

    def of(self, provider: Provider) -> Breaker:
        """The provider's."""
        return self._by_provider.setdefault((provider.name, provider.base_url), Breaker())

    def states(self, providers: Iterable[Provider], now: float) -> dict[str, str]:
        """The state of each provider's by its name, at a time of trio's clock."""
        return {provider.name: self.of(provider).state(now) for provider in providers}


@frozen
class Quirks:
    """What providers have shown not to know, as long as this process lives or they are moved in the topology."""

    _untold: set[tuple[str, str]] = field(factory=set)

    def kind_of(self, provider: Provider) -> Kind:
        """What a provider speaks."""
        found = kinds.kind_of(provider)
        return kinds.untold(found) if (provider.name, provider.base_url) in self._untold else found

    def refused_usage(self, provider: Provider) -> None:
        """It took being asked what its streams have used for an error."""
        _log.info("provider.tells_no_usage", provider=provider.name)
        self._untold.add((provider.name, provider.base_url))


@define(eq=False)
class Providers:
    """One request's walk along a route.

    Attributes:
        pool: connections.
        environment: where the keys are.
        breakers: the providers' health.
        quirks: what they do not know.
        pictures: fetches what they do not fetch themselves.
        asked: the request.
        answer: what the client gets.
        handed_on: the client's headers that are a provider's who speaks its dialect.
        limited: the client's key is for some models only.
    """

    pool: Pool
    environment: Mapping[str, str]
    breakers: Breakers
    quirks: Quirks
    pictures: Pictures
    asked: Asked
    answer: Answer
    handed_on: Headers
    limited: bool = False
    _last: Plain | ApiError | None = field(default=None, init=False)
    _unasked: ApiError | None = field(default=None, init=False)

    async def run(self, topology: Topology, model: str, unanswered: Unanswered) -> None:
        """Answer the request, if only with what the fleet has said.

        Args:
            topology: the one in force.
            model: what the name stands for that the client asked for.
            unanswered: what the fleet has said.

        Raises:
            ApiError: the topology forbids to ask anybody; or the client's budget does not suffice for all that it has
                asked for, and nobody outside would keep to less.
        """
        found = None if unanswered.soon else outside.targets(topology, self.asked.name, model)
        if isinstance(found, Denied) and not unanswered.known:
            raise outside.not_permitted(found)
        if unanswered.known:
            self.answer.route = LOCAL_ROUTE
        if isinstance(found, Outside):
            self._check_budget()
            self.answer.route = found.route.pattern
            if unanswered.known:
                self.answer.seen.fell_back()
            if await self._walk(topology, found):
                return
        reasons = (self._last, unanswered.answer if unanswered.known else None, self._unasked, unanswered.answer)
        await self.answer.give(next(each for each in reasons if each is not None))

    async def _walk(self, topology: Topology, found: Outside) -> bool:
        """Whether a provider has answered."""
        for provider in found.providers:
            try:
                answered = await self._one(topology, provider, found)
            except UsageRefusedError:
                self.quirks.refused_usage(provider)
                answered = await self._one(topology, provider, found)
            if answered:
                return True
        return False

    def _check_budget(self) -> None:
        if self.answer.tab is not None and not self.answer.tab.charge.full:
            raise self.answer.tab.refusal()

    async def _one(self, topology: Topology, provider: Provider, found: Outside) -> bool:
        """Whether this provider has answered."""
        target, way = self._target(provider, found), kinds.way(self.asked.dialect, self.quirks.kind_of(provider))
        if way is None:
            self._unasked = errors.unsupported("model", f"provider '{provider.name}' has nothing like this route")
        if way is None or target is None:
            return False
        attempt = Attempt(target, way, self.asked, self.answer, found.route.cost)
        if way.kind.fetches:
            return await self._ask(provider, attempt)
        async with self.pictures.brought(self.asked.chat, topology.cortex) as chat:
            return await self._ask(provider, evolve(attempt, asked=self.asked.showing(chat)))

    def _target(self, provider: Provider, found: Outside) -> Target | None:
        try:
            headers = self._headers(provider)
        except ProviderKeyError as error:
            _log.error("provider.no_key", provider=provider.name, reason=str(error))
            self._unasked = errors.upstream_error(f"The provider '{provider.name}' cannot be asked: {error}.")
            return None
        return Target(
            name=f"provider:{provider.name}",
            title=f"provider '{provider.name}'",
            base_url=provider.base_url,
            model=found.model,
            headers=headers,
            patience=Patience(provider.first_byte_timeout, provider.idle_timeout),
            as_checked=bool(self.limited or provider.allow or provider.deny or found.route.deny),
        )

    def _headers(self, provider: Provider) -> Headers:
        key = key_of(provider, self.environment)
        if provider.kind != "anthropic":
            return [*_BASICS, (b"authorization", b"Bearer " + key)] if key else _BASICS
        given = self.handed_on if self.asked.dialect.path in kinds.ANTHROPIC.verbatim else []
        version = [] if any(name == ANTHROPIC_VERSION[0] for name, _ in given) else [ANTHROPIC_VERSION]
        return [*_BASICS, *version, *given, *([(b"x-api-key", key)] if key else [])]

    async def _ask(self, provider: Provider, attempt: Attempt) -> bool:
        """Ask one provider until it has answered or there is no point in asking again; whether it has."""
        for failures in range(1, provider.retries + 2):
            failed = await self._try(provider, attempt)
            if failed is None:
                return self.answer.ended
            self._last = failed.answer
            wait = retry.wait(failures, failed.wait, random.random())  # noqa: S311 - spreads load, guards nothing
            if not failed.again or wait is None or failures > provider.retries:
                break
            await trio.sleep(wait)
        return False

    async def _try(self, provider: Provider, attempt: Attempt) -> Failed | None:
        """Ask once, if the breaker lets it through."""
        breaker = self.breakers.of(provider)
        given = breaker.admit(trio.current_time())
        if given is None:
            self._unasked = self._broken(provider, breaker.wait(trio.current_time()))
            return None
        worked: bool | None = None
        try:
            await attempt.run(self.pool)
            worked = True
        except Failed as failed:
            worked = not failed.sick
            _log.warning(
                "provider.failed", provider=provider.name, request_id=self.asked.request_id, reason=str(failed)
            )
            return failed
        except ApiError:
            worked = False if self.answer.started else None
            raise
        finally:
            breaker.settle(given, trio.current_time(), worked=worked)
        return None

    @staticmethod
    def _broken(provider: Provider, seconds: float) -> ApiError:
        detail = f"The provider '{provider.name}' has failed too often of late and is left alone for a while."
        return errors.unavailable(detail, max(1, round(seconds)))


def key_of(provider: Provider, environment: Mapping[str, str]) -> bytes:
    """The key that a provider is asked with; empty if it is asked without.

    Raises:
        ProviderKeyError: the topology names a variable that holds none.
    """
    if provider.api_key_env is None:
        return b""
    value = environment.get(provider.api_key_env, "").strip()
    if not value:
        raise ProviderKeyError(f"its key is to be read from ${provider.api_key_env}, which is not set")
    if not _KEY.fullmatch(value):
        raise ProviderKeyError(f"${provider.api_key_env} holds what cannot be a key")
    return value.encode()
