"""Gathers what is installed: the packages that helexa needs, and torch, which is made to compute."""

import json
import signal
import subprocess
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import InvalidRequirement, Requirement

from actors import python
from helexa.cli.doctor.facts import Package, Torch

_SECONDS = 120
"""Torch may have to come from a cold disk."""


def unfit_packages(distribution: str = "helexa") -> tuple[Package, ...]:
    """The packages that an installed distribution needs, extras left out, and that are missing or of other versions."""
    try:
        needed = requires(distribution) or []
    except PackageNotFoundError:  # run from a source tree, where nobody has said what it needs
        needed = []
    return tuple(package for package in compare(needed) if not package.fits)


def compare(needed: Iterable[str]) -> Iterator[Package]:
    """Each of these requirements beside what is installed; those for other systems and for extras are left out."""
    for text in needed:
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            continue
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            found = _version(wanted.name)
            fits = found is not None and wanted.specifier.contains(found, prereleases=True)
            yield Package(wanted.name, str(wanted.specifier), found, fits)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def ask_torch(command: Iterable[str] = ()) -> Torch:
    """What torch tells, once it has computed something. Takes some seconds.

    Args:
        command: asks it; without one, our own.
    """
    asking = list(command) or python.command("helexa.cli.doctor.probe")
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            asking, env=python.environment(), capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Torch(error=f"it has not answered for {_SECONDS} s")
    if done.returncode != 0:
        return Torch(error=_why(done.returncode, done.stderr))
    return _told(done.stdout)


def _told(output: str) -> Torch:
    try:
        told = json.loads(output.strip().rpartition("\n")[2])  # libraries may have printed something before
        return Torch(**{**told, "architectures": tuple(told["architectures"])})
    except (ValueError, KeyError, TypeError):
        return Torch(error="it did not tell about itself")


def _why(code: int, said: str) -> str:
    """A signal's name, or the last line of what was written."""
    if code < 0:
        return f"it was ended by {signal.Signals(-code).name}" + (", an instruction that this processor lacks") * (
            -code == signal.SIGILL
        )
    return said.strip().rpartition("\n")[2].strip().rstrip(".") or f"it ended with code {code}"
