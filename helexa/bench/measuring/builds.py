"""What tells one build from another: software and hardware, and nothing that changes with a restart. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from helexa.bench.records import UNKNOWN, Build
from helexa.wire.fleet import DeviceInfo, Discovery, Version

_SHORT = 7
_LONGEST = 200


def of_neuron(version: Version, discovery: Discovery) -> Build:
    """A neuron's build: helexa, what it stands on, and the host's devices."""
    return Build(name_of(version), {**_software(version), **_hardware(discovery)})


def name_of(version: Version) -> str:
    """For people, e.g. ``helexa 0.1.0 ac1aa60+``; the plus is for changes that no commit has."""
    commit = f" {version.git_sha[:_SHORT]}{'+' if version.dirty else ''}" if version.git_sha else ""
    return f"helexa {version.version}{commit}"


def _software(version: Version) -> dict[str, str]:
    # An installed package has no commit; when its files came tells two of one version apart.
    found = {
        "version": version.version,
        "commit": version.git_sha,
        "dirty": "yes" if version.dirty else None,
        "built": None if version.git_sha else version.build_time,
        "python": version.python,
        "torch": version.torch,
        "transformers": version.transformers,
        "cuda": version.cuda,
    }
    return known(found)


def _hardware(discovery: Discovery) -> dict[str, str]:
    found = {"os": discovery.os, "driver": discovery.driver, "devices": kinds(discovery.devices)}
    processor = discovery.processor
    return known({**found, "processor": f"{processor.name}, {processor.threads} threads" if processor else None})


def kinds(devices: Iterable[DeviceInfo]) -> str:
    """What devices there are, e.g. ``2x NVIDIA GeForce RTX 3090``, whatever their order."""
    counts = Counter(device.kind for device in devices)
    return ", ".join(f"{count}x {kind}" if count > 1 else kind for kind, count in sorted(counts.items()))


def known(found: Mapping[str, Any]) -> dict[str, str]:
    """Details without those that are not known, none of them of a length that no table could show."""
    return {name: str(value)[:_LONGEST] for name, value in found.items() if value is not None and value != ""}


def of_model(device: str | None, discovery: Discovery | None, precision: str | None) -> dict[str, str]:
    """What belongs to the build of one model: its precision, and which of the devices it is on, by what they are.

    Not by their number: a model that moved to the other one of two like it is measured no differently.
    """
    names = set(device.split("+")) if device else set()
    has = [each for each in discovery.devices if each.name in names] if discovery else []
    return known({"precision": precision, "on": kinds(has)})


def of_nodes(builds: Mapping[str, Build]) -> Build:
    """A gateway's build: its nodes', by their names."""
    names = sorted({build.name for build in builds.values()})
    told = {f"{node}.{key}": value for node, build in builds.items() for key, value in build.details.items()}
    return Build(" / ".join(names) or UNKNOWN, dict(sorted(told.items())))


def of_server(version: object, info: object, banner: str | None) -> Build:
    """The build of a server that is none of ours, as far as it tells.

    Args:
        version: what it says at ``/version``, as vLLM does.
        info: ``build_info`` at ``/props``, where llama.cpp says it.
        banner: its ``Server`` header: often no more than the name of what it is made with.
    """
    found = known({"version": version, "build": info, "server": banner})
    product = "llama.cpp" if "build" in found else (banner or "server").split("/")[0]
    said = found.get("version") or found.get("build")
    return Build(f"{product} {said}" if said else banner or UNKNOWN, found)
