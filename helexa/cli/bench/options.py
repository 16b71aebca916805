"""What is typed behind the options of ``helexa bench``, read. Pure, but for the clock."""

import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from attrs import field, frozen

from config import Bench, InvalidValueError, parse_duration
from config import validators as v

DEFAULT_URL: Final = "http://127.0.0.1:31313"
DEFAULT_DATABASE: Final = Bench().database
NOTHING: Final = "none"
_LONGEST_LABEL: Final = 100
_MEANT: Final = ("last", "previous", NOTHING)
"""Words that mean a batch, or none, wherever one can be named."""
_ENVIRONMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _base(url: str) -> str:
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


@frozen
class Server:
    """A server outside the fleet: ``--target NAME=URL``.

    Attributes:
        name: what tables call it.
        url: its base URL, without ``/v1`` and without a slash at the end.
    """

    name: str = field(validator=v.name)
    url: str = field(converter=_base, validator=v.url)


def server(text: str) -> Server:
    """Read ``NAME=URL``."""
    name, value = _pair(text, "NAME=URL, such as vllm=http://127.0.0.1:8000")
    try:
        return Server(name, value)
    except InvalidValueError as error:
        raise typer.BadParameter(f"of '{name}': {error}") from None


def key_of(text: str) -> tuple[str, str]:
    """Read ``NAME=VARIABLE``: a target's name, and the environment variable with its key."""
    name, variable = _pair(text, "NAME=VARIABLE, such as vllm=VLLM_API_KEY")
    if not _ENVIRONMENT.fullmatch(variable):
        raise typer.BadParameter(f"what '{name}' is given is not the name of an environment variable")
    return name, variable


@frozen
class _Kept:
    database: str = field(validator=v.database)


def database(text: str) -> str:
    """Read where runs are kept; what is wrong is not repeated, for it may hold a password."""
    try:
        return _Kept(text).database
    except InvalidValueError as error:
        raise typer.BadParameter(str(error)) from None


def _pair(text: str, example: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise typer.BadParameter(f"write {example}")  # what was typed may hold a secret: it is not repeated
    return name, value


def called(text: str) -> str:
    """Read a target's name."""
    try:
        return Server(text, "http://localhost").name
    except InvalidValueError as error:
        raise typer.BadParameter(str(error)) from None


def label(text: str) -> str:
    """Read a label: what a batch can be asked for by, so no word that means another one."""
    if text in _MEANT:
        raise typer.BadParameter(f"'{text}' means a batch already: call it otherwise")
    if not (text.isprintable() and text.strip() == text and 0 < len(text) <= _LONGEST_LABEL):
        raise typer.BadParameter(f"a label is one line of 1 to {_LONGEST_LABEL} characters")
    return text


def scenario(text: str) -> Any:
    """Read a scenario and its parameters, as ``chat:prompt_tokens=4096``."""
    from helexa.bench.scenarios import parse

    try:
        return parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def all_of(given: Sequence[Any] | None, suite: str | None) -> list[Any]:
    """Scenarios that were named, and those of a suite, each once; without either, those of the quickest suite."""
    from helexa.bench.scenarios import suite as scenarios_of

    named = list(given or ())
    return list(dict.fromkeys([*named, *(scenarios_of(suite or "quick") if suite or not named else ())]))


def ago(text: str) -> float:
    """Read how long ago, such as ``30d``; the Unix time that this was, in seconds; for ``never`` minus infinity."""
    try:
        return time.time() - parse_duration(text)
    except InvalidValueError as error:
        raise typer.BadParameter(str(error)) from None


def fraction(text: str) -> float:
    """Read a size such as ``5%`` or ``0.05``."""
    try:
        found = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        found = -1.0
    if not 0 <= found < 1:
        raise typer.BadParameter(f"'{text}' is not a size: write one from 0% up to under 100%, such as 5%")
    return found


def twice(names: Iterable[str]) -> str | None:
    """The first name that occurs more than once."""
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), None)  # type: ignore[func-returns-value]


ApiKey = Annotated[
    str | None, typer.Option("--key", envvar="HELEXA_API_KEY", help="API key, if the fleet asks for one.")
]
Database = Annotated[
    Any,
    typer.Option(
        "--database",
        metavar="URL",
        parser=database,
        envvar="HELEXA_BENCH_DATABASE",
        help=f"Where runs are kept. [default: {DEFAULT_DATABASE.removeprefix('sqlite:///')}]",
        show_default=False,
    ),
]
Targets = Annotated[
    list[Any] | None,
    typer.Option(
        "--target",
        metavar="NAME=URL",
        parser=server,
        help="Any server that speaks OpenAI's API; repeatable. In place of the fleet, unless --url is given too.",
    ),
]
TargetKeys = Annotated[
    list[Any] | None,
    typer.Option(
        "--target-key-env",
        metavar="NAME=VARIABLE",
        parser=key_of,
        help="The environment variable with the key of a --target; repeatable.",
    ),
]
Neurons = Annotated[
    Path | None,
    typer.Option(
        "--topology",
        metavar="FILE",
        help="Measure the neurons of this topology directly. In place of the fleet, unless --url is given too.",
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", metavar="MODEL", help="Model or alias; repeatable.", show_default="those that are loaded"),
]
Scenarios = Annotated[
    list[Any] | None,
    typer.Option(
        "--scenario",
        metavar="SCENARIO",
        parser=scenario,
        help="As 'helexa bench scenarios' lists them, with parameters as in chat:prompt_tokens=4096; repeatable. "
        "In place of the suite, unless --suite is given too.",
    ),
]
Rounds = Annotated[int, typer.Option(min=1, max=1000, help="How often everything is measured, in turns.")]
Label = Annotated[
    Any, typer.Option("--label", metavar="TEXT", parser=label, help="What to call it, to be asked for by later.")
]
Against = Annotated[
    str | None,
    typer.Option(
        metavar="REF",
        help="What to compare with: a batch, label, build, target or exported file, one of the targets that are "
        "measured, or 'none'.",
        show_default="the newest batch of another build, else the newest",
    ),
]
_REF: Final = "a batch or the beginning of its id, a label, a build, a target, 'last', 'previous', or an exported file"
Before = Annotated[str, typer.Argument(metavar="BEFORE", help=f"One side: {_REF}.", show_default=False)]
After = Annotated[str, typer.Argument(metavar="AFTER", help="The other side, likewise.", show_default=False)]
OptionalRef = Annotated[
    str | None, typer.Argument(metavar="REF", help="Only these: see 'compare'.", show_default="all")
]
Since = Annotated[Any, typer.Option("--since", metavar="TIME", parser=ago, help="Only what is not older, such as 30d.")]
OnlyTargets = Annotated[list[str] | None, typer.Option("--target", metavar="NAME", help="Only of it; repeatable.")]
OnlyModels = Annotated[list[str] | None, typer.Option("--model", metavar="MODEL", help="Only of it; repeatable.")]
OnlyScenarios = Annotated[list[str] | None, typer.Option("--scenario", metavar="NAME", help="Only of it; repeatable.")]
Smallest = Annotated[
    Any,
    typer.Option("--smallest", metavar="SIZE", parser=fraction, help="No smaller change counts, however sure it is."),
]
