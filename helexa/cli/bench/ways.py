"""How the targets that were typed are reached. Nobody is asked as yet."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import field, frozen

from config import InvalidValueError, Topology, TopologyError, load
from helexa.cli.bench.options import Server, twice
from helexa.cli.bench.output import Failure
from helexa.cli.output import WRONG, say

if TYPE_CHECKING:
    import ssl

    from helexa.bench.measuring.targets import Access


@frozen
class Wanted:
    """Targets as they were typed.

    Attributes:
        url: the fleet's; ``None``: it is not measured.
        key: its API key.
        name: what tables call it.
        topology: the file whose neurons are measured.
        servers: others.
        keys: environment variables with their keys, by their names.
    """

    url: str | None
    key: str | None = field(default=None, repr=False)
    name: str = "fleet"
    topology: Path | None = None
    servers: Sequence[Server] = ()
    keys: Mapping[str, str] = field(factory=dict)


@frozen
class Way:
    """How a target is reached.

    Attributes:
        access: its address, and what opens it.
        aliases: further names of its models, as a topology tells them; a fleet is asked for its own.
    """

    access: "Access"
    aliases: Mapping[str, str] = field(factory=dict)


def ways(wanted: Wanted) -> list[Way]:
    """How the targets are reached. Nobody is asked as yet.

    Raises:
        Failure: a file, a name or a variable is wrong.
    """
    found = [*_fleet(wanted), *_neurons(wanted.topology), *_servers(wanted)]
    if (name := twice(each.access.target.name for each in found)) is not None:
        raise Failure(f"two targets are called '{name}'; call one of them otherwise.", WRONG)
    return found


def _fleet(wanted: Wanted) -> Iterable[Way]:
    if wanted.url is not None:
        from helexa.bench.measuring.targets import cortex_at

        try:
            url = Server(wanted.name, wanted.url).url
        except InvalidValueError as error:  # what is wrong is not repeated: it may hold a password
            raise Failure(f"the fleet's URL {error}.", WRONG) from error
        yield Way(cortex_at(url, wanted.key, wanted.name, _trusted()))


def _neurons(file: Path | None) -> Iterable[Way]:
    if file is None:
        return
    from helexa.bench.measuring.targets import neurons_of

    topology = _topology(file)
    if not topology.neurons:
        raise Failure(f"{file} has no neurons.", WRONG)
    secret = os.environ.get(topology.cortex.secret_env) or None
    trusted = _trusted() if topology.cortex.ca is None else _trusting(topology.cortex.ca)
    for access in neurons_of(topology, secret, trusted):
        yield Way(access, topology.aliases)


def _topology(file: Path) -> "Topology":
    try:
        return load(file)
    except TopologyError as error:
        say(str(error))
        count = len(error.problems)
        raise Failure(f"{count} problem{'s' * (count != 1)} in {file}; nothing was measured.", WRONG) from None


def _servers(wanted: Wanted) -> Iterable[Way]:
    from helexa.bench.measuring.targets import server_at

    names = {each.name for each in wanted.servers}
    if strange := [name for name in wanted.keys if name not in names]:
        raise Failure(f"--target-key-env names '{strange[0]}', and no --target has that name.", WRONG)
    for each in wanted.servers:
        yield Way(server_at(each.name, each.url, _key(wanted.keys.get(each.name)), _trusted()))


def _key(variable: str | None) -> str | None:
    if variable is not None and not os.environ.get(variable):
        raise Failure(f"the environment variable {variable} is not set.", WRONG)
    return None if variable is None else os.environ[variable]


def _trusted() -> "ssl.SSLContext | None":
    from tui.client import CA

    return None if (ca := os.environ.get(CA)) is None else _trusting(ca, f"${CA}")


def _trusting(ca: str, asked_by: str = "cortex.ca") -> "ssl.SSLContext":
    from helexa.web.tls import CertificateError, client_context

    try:
        return client_context(ca, asked_by)
    except CertificateError as error:
        raise Failure(str(error), WRONG) from error
