"""What lies outside the fleet, and whose requests may go there or anywhere: providers, routes and keys."""

from typing import Literal, TypeAlias

from attrs import field, frozen
from attrs.validators import optional

from config import validators as v
from config.budgets import LARGEST_COUNT, Budget, Window
from config.problems import InvalidValueError
from config.units import Duration

ProviderKind: TypeAlias = Literal["openai", "anthropic", "ollama"]
Scope: TypeAlias = Literal["inference", "embeddings", "audio", "images", "models:read", "fleet:read", "fleet:admin"]

_BASE_URLS: dict[ProviderKind, str] = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com/v1",
    "ollama": "http://127.0.0.1:11434",
}


def without_slash(url: str) -> str:
    """Drop the slashes at the end of a URL, so that paths can be appended to it."""
    return url.rstrip("/")


@frozen
class Provider:
    """An engine or a cloud outside the fleet.

    Attributes:
        name: What routes call it.
        kind: The protocol it speaks.
        base_url: Requests go to this URL followed by `/chat/completions`, `/messages` or `/api/chat`, by kind.
            Absent: the public service of that kind; for ollama, its usual port on this host.
        api_key_env: The environment variable with its key; absent: no key is sent.
        allow: Patterns of the model names that it may be asked for; empty: any.
        deny: Patterns of model names that it may not, whichever route leads here: those it would be asked for, and
            those that clients ask for.
        responses: Whether it speaks `/responses` itself (kind `openai`): such requests are passed on as they are.
            Absent: they become chat completions, which every server of that kind knows.
        retries: How often a request is sent again after a failure that a second try may mend.
        first_byte_timeout: Seconds it may take to begin its answer.
        idle_timeout: Seconds it may be silent in the middle of one.
    """

    name: str = field(validator=v.name)
    kind: ProviderKind = "openai"
    base_url: str = field(converter=without_slash, validator=v.url)
    api_key_env: str | None = field(default=None, validator=optional(v.environment))
    allow: tuple[str, ...] = field(default=(), validator=[v.each(v.pattern), v.distinct])
    deny: tuple[str, ...] = field(default=(), validator=[v.each(v.pattern), v.distinct])
    responses: bool = False
    retries: int = field(default=2, validator=v.between(0, 10))
    first_byte_timeout: Duration = field(default=Duration(600.0), validator=[v.positive("10m"), v.finite])
    idle_timeout: Duration = field(default=Duration(300.0), validator=[v.positive("5m"), v.finite])

    @base_url.default
    def _default_base_url(self) -> str:
        return _BASE_URLS.get(self.kind, "")


@frozen
class Cost:
    """What tokens are accounted at, in US dollars per million."""

    input: float = field(default=0.0, validator=v.price)
    output: float = field(default=0.0, validator=v.price)


@frozen
class Route:
    """Where to send requests for models that nothing in the fleet serves.

    Attributes:
        pattern: Model names this route is for, with `*` and `?` as wildcards.
        providers: Provider names, tried in order.
        deny: Patterns of model names that are refused.
        model: The name that the providers are asked for; None: the one that the client asked for.
        cost: What tokens are accounted at that come from outside by this route.
    """

    pattern: str = field(validator=v.pattern)
    providers: tuple[str, ...] = field(validator=[v.not_empty, v.distinct])
    deny: tuple[str, ...] = field(default=(), validator=[v.each(v.pattern), v.distinct])
    model: str | None = field(default=None, validator=optional(v.slug))
    cost: Cost = Cost()


@frozen
class Key:
    """A key that clients present.

    Attributes:
        name: What logs and listings call it.
        key_env: The environment variable with the key. Either this or `key_hash`.
        key_hash: "sha256:" and the hexadecimal SHA-256 of the key.
        account: Whom its tokens are booked to; absent: an account of its own name.
        scopes: What it may do.
        models: Patterns of the model names it is for; empty: all.
        hard_cap: Tokens it may use within `window`; None: uncapped, still metered. The short way to write one budget.
        window: How the cap renews.
        budgets: What it may use, each a limit of its own.
        weight: Its share when requests queue: twice the weight, twice the requests.
        max_in_flight: Requests of it that are served at a time, the others wait; None: see `Entitlements`.
    """

    name: str = field(validator=v.name)
    key_env: str | None = field(default=None, validator=optional(v.environment))
    key_hash: str | None = field(default=None, validator=optional(v.key_hash), repr=False)
    account: str = field(validator=v.slug)
    scopes: tuple[Scope, ...] = field(default=("inference",), validator=[v.not_empty, v.distinct])
    models: tuple[str, ...] = field(default=(), validator=[v.each(v.pattern), v.distinct])
    hard_cap: int | None = field(default=None, validator=optional(v.between(0, LARGEST_COUNT)))
    window: Window = field(default=Window())
    budgets: tuple[Budget, ...] = field(default=(), validator=v.distinct)
    weight: int = field(default=1, validator=v.between(1, 1000))
    max_in_flight: int | None = field(default=None, validator=optional(v.between(1, 1_000_000)))

    @account.default
    def _default_account(self) -> str:
        return self.name

    def __attrs_post_init__(self) -> None:
        """Refuse a key with no source, or with two."""
        if self.key_env is None and self.key_hash is None:
            hint = 'add key_env = "MY_KEY" or key_hash = "sha256:…"'
            raise InvalidValueError("is missing, and so is key_hash", hint, ("key_env",), because=("key_hash",))
        if self.key_env is not None and self.key_hash is not None:
            raise InvalidValueError("stands beside key_env", "keep one of the two", ("key_hash",))

    @property
    def all_budgets(self) -> tuple[Budget, ...]:
        """The budgets, that of `hard_cap` among them."""
        return self.budgets if self.hard_cap is None else (Budget(self.hard_cap, per=self.window.period), *self.budgets)


@frozen
class Account:
    """Whom the usage of several keys is booked to.

    Attributes:
        name: What keys call it.
        budgets: What all its keys may use together, each a limit of its own.
    """

    name: str = field(validator=v.slug)
    budgets: tuple[Budget, ...] = field(default=(), validator=v.distinct)


@frozen
class Entitlements:
    """Authentication and budgets.

    Attributes:
        require_auth: Whether clients need a key; None: see `Topology.auth_required`.
        keys: Keys declared in the file; others live in the database.
        accounts: Budgets of accounts; one that is not listed has none of its own.
        max_in_flight: Requests of each key that are served at a time, where the key says nothing; None: any number.
    """

    require_auth: bool | None = None
    keys: tuple[Key, ...] = ()
    accounts: tuple[Account, ...] = ()
    max_in_flight: int | None = field(default=None, validator=optional(v.between(1, 1_000_000)))
