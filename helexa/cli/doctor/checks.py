"""Judges the facts of a host that do not depend on its GPUs. Pure."""

from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from config import Entitlements
from helexa.cli.doctor.facts import Facts, Port
from helexa.cli.doctor.finding import Finding
from helexa.cortex.access.auth import MissingKeyError, declared_keys
from helexa.cortex.exchange.providers import ProviderKeyError, key_of

Check: TypeAlias = Callable[[Facts], Iterator[Finding]]

OLDEST_PYTHON: Final = (3, 11)
GIB: Final = 2**30
LITTLE_MEMORY: Final = 2 * GIB
"""Less than this is left: a small model fits, and little beside it."""
LITTLE_DISK: Final = 10 * GIB
"""Less than this is left: a model of a few thousand million parameters does not fit."""
FILES_OF_A_REQUEST: Final = 2
"""Sockets: to the client, and to the node."""
SPARE_FILES: Final = 256


def python(facts: Facts) -> Iterator[Finding]:
    """The interpreter."""
    found = facts.interpreter
    version = ".".join(map(str, found.version))
    if found.version < OLDEST_PYTHON:
        yield Finding("python", "problem", f"this is Python {version}", "helexa needs Python 3.11 or later")
    elif not found.is_64_bit:
        yield Finding("python", "problem", f"this is a 32-bit Python {version}", "torch needs a 64-bit one")
    elif found.system == "nt":
        yield Finding("python", "problem", "this is Windows", "run helexa on Linux, or in WSL 2")
    else:
        yield Finding("python", "ok", f"Python {version}")


def packages(facts: Facts) -> Iterator[Finding]:
    """What is installed beside helexa. Torch of another version may well do: its own check says."""
    for package in facts.packages:
        remedy = f"pip install '{package.name}{package.wanted}'"
        if package.installed is None:
            yield Finding("packages", "problem", f"the package {package.name} is not installed", remedy)
        elif not package.fits:
            message = f"{package.name} is {package.installed}, and helexa asks for {package.wanted}"
            yield Finding("packages", "warning", message, remedy)
    if not facts.packages:
        yield Finding("packages", "ok", "all that helexa needs is installed")


def memory(facts: Facts) -> Iterator[Finding]:
    """The host's memory: weights on their way to a GPU pass through it, and on a CPU they stay there."""
    left = _size(facts.memory_available)
    if facts.memory_available < LITTLE_MEMORY:
        remedy = "end what else uses memory here, or have helexa load small models alone"
        yield Finding("memory", "warning", f"only {left} of memory are free", remedy)
    else:
        yield Finding("memory", "ok", f"{left} of memory are free")


def cache(facts: Facts) -> Iterator[Finding]:
    """Room for models that are fetched. What is there already can be served in any case."""
    found = facts.cache
    if not found.writable:
        remedy = "let this user write there, or set HF_HOME to another directory; what is there already can be used"
        yield Finding("cache", "warning", f"models cannot be fetched into {found.path}", remedy)
    elif found.free is not None and found.free < LITTLE_DISK:
        remedy = "make room, or set HF_HOME to a directory on a larger disk"
        yield Finding("cache", "warning", f"only {_size(found.free)} are free for models in {found.path}", remedy)
    else:
        room = "" if found.free is None else f", {_size(found.free)} are free"
        yield Finding("cache", "ok", f"models are kept in {found.path}{room}")
    if found.offline:
        yield Finding("cache", "note", "HF_HUB_OFFLINE is set: only models that are there already can be used")


def files(facts: Facts) -> Iterator[Finding]:
    """How many sockets the gateway may have open."""
    if facts.open_files is None or facts.topology is None or not facts.is_gateway:
        return
    most = facts.topology.cortex.max_in_flight
    if facts.open_files < FILES_OF_A_REQUEST * most + SPARE_FILES:
        remedy = f"raise the limit (ulimit -n, LimitNOFILE=), or lower cortex.max_in_flight, which is {most}"
        yield Finding("files", "warning", f"a process may have only {facts.open_files} files and sockets open", remedy)


def topology(facts: Facts) -> Iterator[Finding]:
    """The file, and whether it has something for this host."""
    if facts.topology is None:
        remedy = "correct the file; 'helexa check' looks at it again"
        yield from (Finding("topology", "problem", problem, remedy) for problem in facts.problems)
    elif not facts.neurons and not facts.is_gateway:
        message = f"{facts.file} has nothing for host '{facts.here}'; it names {', '.join(facts.topology.hosts)}"
        yield Finding("topology", "problem", message, "say which of them this one is with --host")
    else:
        runs = [*(["the gateway"] if facts.is_gateway else []), *(neuron.name for neuron in facts.neurons)]
        yield Finding("topology", "ok", f"{facts.file} has this host run {', '.join(runs)}")


def ports(facts: Facts) -> Iterator[Finding]:
    """The addresses to listen on."""
    if facts.is_up:
        yield Finding("ports", "note", "a fleet is up here")
    for port in facts.ports:
        yield _port(port)


def _port(port: Port) -> Finding:
    by = f" by process {port.holder}" if port.holder else " by another user's program"
    match port.state:
        case "free":
            return Finding("ports", "ok", f"{port.address} is free for {port.asked_by}")
        case "ours":
            who = f", process {port.holder}" if port.holder else ""
            return Finding("ports", "ok", f"helexa serves at {port.address}{who}")
        case "taken":
            remedy = f"end that program, or give {port.asked_by} another port"
            return Finding("ports", "problem", f"{port.address}, for {port.asked_by}, is taken{by}", remedy)
        case "wrong":
            message = f"{port.address}, for {port.asked_by}, cannot be listened on: {port.error}"
            remedy = f"give {port.asked_by} an address of this host, and a port that this user may have"
            return Finding("ports", "problem", message, remedy)


def secrets(facts: Facts) -> Iterator[Finding]:
    """What the topology says is in the environment."""
    if facts.topology is not None:
        yield from _fleet_secret(facts)
    if facts.is_gateway:
        yield from _keys(facts)
        yield from _provider_keys(facts)


def _fleet_secret(facts: Facts) -> Iterator[Finding]:
    assert facts.topology is not None
    variable, hosts = facts.topology.cortex.secret_env, facts.topology.hosts
    if facts.environment.get(variable):
        yield Finding("secrets", "ok", f"${variable} is set")
    elif len(hosts) > 1:
        message = f"${variable} is not set, so neurons listen on loopback only and other hosts do not reach them"
        yield Finding("secrets", "problem", message, f"set ${variable} to the same secret on {', '.join(hosts)}")
    elif any(not neuron.listen.is_loopback for neuron in facts.neurons):
        message = f"${variable} is not set, so neurons listen on loopback only, whatever the file says"
        yield Finding("secrets", "warning", message, f"set ${variable}")


def _keys(facts: Facts) -> Iterator[Finding]:
    assert facts.topology is not None
    for key in facts.topology.entitlements.keys:
        try:
            declared_keys(Entitlements(keys=(key,)), facts.environment)
        except MissingKeyError as error:
            yield Finding("secrets", "problem", str(error), f"set ${key.key_env}, or take the key out of the file")


def _provider_keys(facts: Facts) -> Iterator[Finding]:
    assert facts.topology is not None
    for provider in facts.topology.providers:
        try:
            key_of(provider, facts.environment)
        except ProviderKeyError as error:
            message = f"the provider '{provider.name}' cannot be asked: {error}"
            yield Finding("secrets", "warning", message, f"set ${provider.api_key_env} to its key")


def database(facts: Facts) -> Iterator[Finding]:
    """Where keys and usage are kept."""
    if not facts.is_gateway:
        return
    if facts.database is None:
        yield Finding("database", "ok", "the gateway's database can be used")
    else:
        remedy = "see that the place or the server in cortex.database is there, and lets this user in"
        yield Finding("database", "problem", facts.database, remedy)


def certificates(facts: Facts) -> Iterator[Finding]:
    """The files of TLS."""
    for sentence in facts.certificates:
        remedy = "have the setting name a certificate in PEM form that is valid, and its key"
        yield Finding("certificates", "problem", sentence.rstrip("."), remedy)


def _size(count: int) -> str:
    return f"{count / GIB:.1f} GiB"


CHECKS: Final[tuple[Check, ...]] = (
    topology,
    python,
    packages,
    memory,
    cache,
    files,
    ports,
    secrets,
    database,
    certificates,
)
