"""The control groups that this process is in: what a container or a service may have of its host.

Source: cgroups(7); Linux kernel documentation, "Control Group v2".
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from attrs import frozen

LISTED: Final = Path("/proc/self/cgroup")
MOUNTED: Final = Path("/sys/fs/cgroup")


@frozen
class Group:
    """One group.

    Attributes:
        directory: where the kernel shows it.
        is_v2: whether its files are named as in the second version.
    """

    directory: Path
    is_v2: bool

    def text(self, name: str) -> str:
        """A file's text; empty where there is no such file, or it may not be read."""
        try:
            return (self.directory / name).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return ""

    def number(self, name: str) -> int | None:
        """A file's number; ``None`` for ``max``, for ``-1`` and for no such file."""
        text = self.text(name).strip()
        return int(text) if text.isascii() and text.isdigit() else None


def groups(controller: str, listed: Path = LISTED, mounted: Path = MOUNTED) -> Iterator[Group]:
    """The groups that limit what a controller counts, the innermost first: the tightest limit among them holds.

    In a container its own group is mounted as the root, and the path that the kernel tells lies outside of it.

    Args:
        controller: ``memory`` or ``cpu``.
        listed: where the kernel lists the groups of this process.
        mounted: where they are mounted.
    """
    for line in Group(listed.parent, is_v2=True).text(listed.name).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers or controller in controllers.split(","):
            root = mounted / controller if controllers else mounted
            inside = Path(path.lstrip("/"))
            yield from (Group(root / each, not controllers) for each in (inside, *inside.parents))
