"""The whole fleet as frozen classes: one class per table of the file, one attribute per key."""

from collections.abc import Iterator, Mapping
from typing import Final, Literal, TypeAlias

from attrs import field, frozen
from attrs.validators import optional

from config import validators as v
from config.access import Cost, Entitlements, Provider, Route, without_slash
from config.address import Address
from config.bench import Bench
from config.problems import Path
from config.source import is_qualified
from config.supervision import ActorSettings
from config.units import Duration, Size

EvictionStrategy: TypeAlias = Literal["lru", "priority"]
DatabaseAway: TypeAlias = Literal["refuse", "serve"]
Quant: TypeAlias = Literal["bf16", "int8", "int4", "fp8"]
Capability: TypeAlias = Literal["tool_call", "reasoning", "vision", "embeddings", "transcription", "speech", "images"]

BUNDLED_MODEL: Final = "helexa/tiny"
"""The id of the model that comes with the package."""

_LOOPBACK: Final = "127.0.0.1"


@frozen
class Eviction:
    """Which loaded models make room, and when.

    Attributes:
        strategy: `lru`: the longest unused goes first; `priority`: the lowest priority, then the longest unused.
        idle_ttl: Seconds without a request after which a model is unloaded; infinity: never.
        defrag_after_cycles: Loads and unloads of a device after which its worker is restarted; 0: never.
        residency: Seconds a model that was just loaded serves before it has to make room for another one.
        drain: Seconds that a model's requests may take to end before it makes room; longer, and it stays.
    """

    strategy: EvictionStrategy = "lru"
    idle_ttl: Duration = field(default=Duration(1800.0), validator=v.positive("30m"))
    defrag_after_cycles: int = field(default=50, validator=v.between(0, 1_000_000))
    residency: Duration = field(default=Duration(5.0), validator=v.finite)
    drain: Duration = field(default=Duration(60.0), validator=[v.positive("1m"), v.finite])


@frozen
class Tls:
    """The certificate that a server shows; both files are PEM.

    Attributes:
        certificate: Path of the file with the certificate, and those that vouch for it.
        key: Path of the file with its private key.
    """

    certificate: str = field(validator=v.path)
    key: str = field(validator=v.path)


@frozen
class Media:
    """Pictures and files that requests name by their address instead of bringing them.

    Attributes:
        fetch: Whether they are fetched; otherwise such requests are refused.
        domains: Patterns of host names that they may be fetched from; empty: any. Addresses of private networks, of
            this machine and of cloud metadata are refused in any case.
        max_bytes: How large one may be.
        timeout: Seconds that fetching one may take.
    """

    fetch: bool = False
    domains: tuple[str, ...] = field(default=(), validator=[v.each(v.pattern), v.distinct])
    max_bytes: Size = field(default=Size(20 * 2**20), validator=v.positive("20MiB"))
    timeout: Duration = field(default=Duration(10.0), validator=[v.positive("10s"), v.finite])


@frozen
class Limits:
    """How large a request may be.

    Attributes:
        body: Bytes of a request's body.
        bodies: Bytes of all bodies that are held at a time; who comes then is asked to come again.
        body_timeout: Seconds that a client may take to send a body.
        messages: Messages of a conversation.
        images: Pictures in a request.
    """

    body: Size = field(default=Size(16 * 2**20), validator=v.positive("16MiB"))
    bodies: Size = field(default=Size(2**30), validator=v.positive("1GiB"))
    body_timeout: Duration = field(default=Duration(60.0), validator=[v.positive("1m"), v.finite])
    messages: int = field(default=10_000, validator=v.between(1, 1_000_000))
    images: int = field(default=100, validator=v.between(0, 10_000))


@frozen
class Cortex:
    """The gateway.

    Attributes:
        host: The host that runs it; None only in a fleet of one box.
        listen: Where it serves the API.
        metrics_listen: Where it serves its metrics.
        database: Where keys and usage are kept: `sqlite:///path` or `postgresql://…`.
        secret_env: The environment variable with the secret that cortex and its neurons share.
        load_timeout: Seconds that a request waits for its model to be loaded.
        strip_billing: Whether the lines that some agents put before their system prompt to have requests billed, other
            ones in each request, are taken out: no prefix of a prompt that begins with them is ever found again.
        eviction: Which models make room.
        max_in_flight: Requests that are served at a time; the others wait.
        max_queue: Requests that wait at a time; who comes then is asked to come again.
        queue_timeout: Seconds that a request waits for its turn before it is asked to come again.
        database_away: What becomes of requests that a budget has to be asked for while the database does not answer:
            `refuse` them, or `serve` them and book it later.
        usage_retention: Seconds that what each request used is kept; sums are kept for ever.
        tls: The certificate of the API and of the metrics; None: plain HTTP.
        ca: Path of a PEM file with the certificates that vouch for neurons, beside those that the system trusts.
        media: Pictures and files that are fetched.
        limits: How large a request may be.
    """

    host: str | None = field(default=None, validator=optional(v.name))
    listen: Address = field(default=Address(_LOOPBACK, 31313))
    metrics_listen: Address = field(default=Address(_LOOPBACK, 31314))
    database: str = field(default="sqlite:///~/.local/state/helexa/helexa.db", validator=v.database, repr=False)
    secret_env: str = field(default="HELEXA_SECRET", validator=v.environment)
    load_timeout: Duration = field(default=Duration(600.0), validator=[v.positive("10m"), v.finite])
    strip_billing: bool = True
    eviction: Eviction = Eviction()
    max_in_flight: int = field(default=1024, validator=v.between(1, 1_000_000))
    max_queue: int = field(default=1024, validator=v.between(0, 1_000_000))
    queue_timeout: Duration = field(default=Duration(60.0), validator=[v.positive("1m"), v.finite])
    database_away: DatabaseAway = "refuse"
    usage_retention: Duration = field(default=Duration(400 * 86_400.0), validator=v.positive("400d"))
    tls: Tls | None = None
    ca: str | None = field(default=None, validator=optional(v.path))
    media: Media = Media()
    limits: Limits = Limits()


@frozen
class Neuron:
    """The daemon of one host.

    Attributes:
        name: What the rest of the file calls it.
        host: The host that runs it; None only in a fleet of one box.
        listen: Where it serves.
        tls: The certificate it shows; None: plain HTTP.
        endpoint: The URL everyone else reaches it at, without a slash at the end.
        devices: The devices it uses ("cuda:0", "cpu"); None: all it discovers. "cpu:0" and the like are further workers
            on the CPU, which share its memory.
        memory: Bytes of each device that its models may have together; None: all that is free when they are loaded.
        preload: Ids of the models it loads at start.
        registry: The URL of what the source "helexa" means beyond the bundled model: a server that speaks the API of
            Hugging Face's hub; None: there is none, unless HELEXA_REGISTRY names one.
        interconnect: The address and port at which ranks of other hosts meet those of this one, for models that devices
            of several hosts share; None: it shares none with others.
    """

    name: str = field(validator=v.name)
    host: str | None = field(default=None, validator=optional(v.name))
    listen: Address = field(default=Address(_LOOPBACK, 13131), validator=v.fixed_port)
    tls: Tls | None = None
    endpoint: str = field(converter=without_slash, validator=v.url)
    devices: tuple[str, ...] | None = field(
        default=None, validator=optional([v.not_empty, v.each(v.device), v.distinct])
    )
    memory: Size | None = field(default=None, validator=optional(v.positive("24GiB")))
    preload: tuple[str, ...] = field(default=(), validator=v.distinct)
    registry: str | None = field(default=None, validator=optional(v.url))
    interconnect: Address | None = field(default=None, validator=optional(v.fixed_port))

    @endpoint.default
    def _default_endpoint(self) -> str:
        return f"{'http' if self.tls is None else 'https'}://{self.listen.connectable}"


@frozen
class Model:
    """An entry of the catalogue.

    Attributes:
        id: The name clients ask for, and the repository it is fetched from.
        source: Where its files come from: see `config.source`. An id like "huggingface:owner/name" says it.
        quant: The precision its weights are reduced to when loaded; None: as published, and a GGUF file as it is
            held nearest.
        tensor_parallel: How many devices share it; None: the fewest that fit.
        min_device_memory: Bytes a device must have to be considered; None: decided from the model.
        pinned_on: Names of the neurons that may hold it, and keep it; empty: any may.
        priority: The higher, the later it is evicted.
        idle_ttl: Seconds without a request until it is unloaded; None: see `Topology.idle_ttl`.
        capabilities: What it can do beyond what its neurons report.
        cost: What its tokens are accounted at.
    """

    id: str = field(validator=v.slug)
    source: str = field(validator=v.source)
    quant: Quant | None = None
    tensor_parallel: int | None = field(default=None, validator=optional(v.between(1, 1024)))
    min_device_memory: Size | None = field(default=None, validator=optional(v.positive("24GiB")))
    pinned_on: tuple[str, ...] = field(default=(), validator=v.distinct)
    priority: int = field(default=0, validator=v.between(-1_000_000, 1_000_000))
    idle_ttl: Duration | None = field(default=None, validator=optional(v.positive("30m")))
    capabilities: tuple[Capability, ...] = field(default=(), validator=v.distinct)
    cost: Cost = field(default=Cost())

    @source.default
    def _default_source(self) -> str:
        if is_qualified(self.id):
            return self.id
        return "helexa" if self.id == BUNDLED_MODEL else "huggingface"


@frozen
class Listener:
    """A socket some process of the fleet binds; where the file says so, and on which host."""

    path: Path
    host: str | None
    address: Address


@frozen
class Topology:
    """A whole fleet.

    `bench` is the benchmark loop, which runs on cortex's host; None: there is none.

    `aliases` maps further names to ids of the catalogue; it is shared, not copied, and nobody may change it.
    """

    cortex: Cortex = Cortex()
    neurons: tuple[Neuron, ...] = ()
    models: tuple[Model, ...] = ()
    aliases: Mapping[str, str] = field(factory=dict, hash=False)
    providers: tuple[Provider, ...] = ()
    routes: tuple[Route, ...] = ()
    entitlements: Entitlements = field(default=Entitlements())
    bench: Bench | None = None
    actors: ActorSettings = field(default=ActorSettings())

    def neuron(self, name: str) -> Neuron | None:
        """Return the neuron of that name, or None."""
        return next((neuron for neuron in self.neurons if neuron.name == name), None)

    def model(self, name: str) -> Model | None:
        """Return the catalogue's entry whose id is `name`, or None; aliases are not followed."""
        return next((model for model in self.models if model.id == name), None)

    def resolve(self, name: str) -> Model | None:
        """Return the catalogue's entry that a client means by an id or an alias, or None."""
        return self.model(self.aliases.get(name, name))

    def provider(self, name: str) -> Provider | None:
        """Return the provider of that name, or None."""
        return next((provider for provider in self.providers if provider.name == name), None)

    def neurons_on(self, host: str) -> tuple[Neuron, ...]:
        """Return the neurons that run on a host: all of them in a fleet of one box."""
        return tuple(neuron for neuron in self.neurons if neuron.host in {None, host})

    def cortex_on(self, host: str) -> bool:
        """Whether cortex runs on a host: on any in a fleet of one box."""
        return self.cortex.host in {None, host}

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts the file names, each once, cortex's first; empty for a fleet of one box."""
        named = (self.cortex.host, *(neuron.host for neuron in self.neurons))
        return tuple(dict.fromkeys(host for host in named if host is not None))

    def idle_ttl(self, model: Model) -> Duration:
        """Return the idle time, in seconds, after which a model is unloaded: its own, else the fleet's."""
        return self.cortex.eviction.idle_ttl if model.idle_ttl is None else model.idle_ttl

    def listeners(self) -> Iterator[Listener]:
        """Yield every socket the fleet's processes bind."""
        cortex = self.cortex
        yield Listener(("cortex", "listen"), cortex.host, cortex.listen)
        yield Listener(("cortex", "metrics_listen"), cortex.host, cortex.metrics_listen)
        for index, neuron in enumerate(self.neurons):
            yield Listener(("neurons", index, "listen"), neuron.host, neuron.listen)
        if self.bench is not None:
            yield Listener(("bench", "listen"), cortex.host, self.bench.listen)

    @property
    def auth_required(self) -> bool:
        """Whether clients need a key: as the file says, else unless every listener is on loopback."""
        if self.entitlements.require_auth is not None:
            return self.entitlements.require_auth
        return not all(listener.address.is_loopback for listener in self.listeners())
