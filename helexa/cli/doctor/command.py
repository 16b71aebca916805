"""The command: gathers, judges, and shows what came of it."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from config import DEMO
from helexa.cli.doctor import checks, devices
from helexa.cli.doctor.facts import Facts
from helexa.cli.doctor.finding import Finding, can_serve
from helexa.cli.doctor.gather import gather
from helexa.cli.output import DONE, FAILED, WRONG, say
from helexa.wire.fleet import to_dict

_MARKS: Final = {"ok": "ok", "note": "note", "warning": "WARNING", "problem": "PROBLEM"}
_INDENT: Final = " " * 23


def doctor(file: Path | None, host: str | None, *, as_json: bool) -> int:
    """Show what helexa sees on this host; 0 if it can serve, 1 if not, 2 if that is because the topology is wrong.

    Args:
        file: the topology; ``None``: the bundled demo fleet.
        host: which host of it this is; ``None``: this machine's name.
        as_json: whether a script is to read it.
    """
    if not as_json:
        say("looking at this host …")
    facts = gather(file or DEMO, host or socket.gethostname())
    findings = examine(facts)
    sys.stdout.write(_json(facts, findings) if as_json else "".join(f"{line}\n" for line in _text(facts, findings)))
    if facts.topology is None:
        return WRONG
    return DONE if can_serve(findings) else FAILED


def examine(facts: Facts) -> tuple[Finding, ...]:
    """All findings, in the order of the checks. Pure."""
    return tuple(finding for check in (*checks.CHECKS, *devices.CHECKS) for finding in check(facts))


def _json(facts: Facts, findings: tuple[Finding, ...]) -> str:
    import orjson

    told: dict[str, Any] = {
        "can_serve": can_serve(findings),
        "is_up": facts.is_up,
        "host": facts.here,
        "file": facts.file,
        "findings": to_dict(findings),
        "discovery": to_dict(facts.host.discovery),
        "health": to_dict(facts.health),
        "torch": to_dict(facts.torch),
    }
    return orjson.dumps(told).decode() + "\n"


def _text(facts: Facts, findings: tuple[Finding, ...]) -> Iterator[str]:
    found = facts.host.discovery
    driver = f", driver {found.driver}, CUDA {found.cuda}" if found.driver else ""
    yield f"{found.hostname}: {found.os}{driver}"
    for finding in findings:
        yield f"{_MARKS[finding.level]:8} {finding.check:13} {_one_line(finding.message)}."
        if finding.remedy:
            yield f"{_INDENT}{_one_line(finding.remedy)}."
    yield summary(findings)


def summary(findings: tuple[Finding, ...]) -> str:
    """The last line."""
    problems, warnings = (sum(each.level == level for each in findings) for level in ("problem", "warning"))
    if problems:
        return f"This host cannot serve: {problems} problem{'s' * (problems != 1)}."
    return "This host can serve" + (f", with {warnings} warning{'s' * (warnings != 1)}." if warnings else ".")


def _one_line(text: str) -> str:
    """What drivers, file names and command lines hold, without what a terminal would act on."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
