"""What the doctor says."""

from typing import Literal

from attrs import frozen

Level = Literal["ok", "note", "warning", "problem"]


@frozen
class Finding:
    """One thing that was looked at.

    Attributes:
        check: what was looked at, in one word.
        level: ``problem``: this host cannot serve like this; ``warning``: it can, worse than it might; ``note``: good
            to know.
        message: what was found.
        remedy: how to mend it; ``None``: there is nothing to mend.
    """

    check: str
    level: Level
    message: str
    remedy: str | None = None


def can_serve(findings: tuple[Finding, ...]) -> bool:
    """Whether nothing stands in the way."""
    return all(finding.level != "problem" for finding in findings)
