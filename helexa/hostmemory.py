"""How much memory this process may have: the host's, or less of it where a container or a service is limited.

What the kernel tells of the host alone is the wrong answer in a container: who believes it is killed at the limit.

Source: Linux kernel documentation, "Control Group v2" (memory.max, memory.current, memory.stat) and "Memory Resource
Controller" (the same of v1).
"""

from pathlib import Path

import psutil
from attrs import frozen

from helexa import cgroups
from helexa.cgroups import Group

_V2 = ("memory.max", "memory.current")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")
_RECLAIMABLE = ("inactive_file", "active_file")


@frozen
class HostMemory:
    """Bytes in all, and bytes that can be had without anything being swapped out."""

    total: int
    available: int

    @property
    def used(self) -> int:
        """Bytes that cannot."""
        return self.total - self.available


def read(listed: Path = cgroups.LISTED, mounted: Path = cgroups.MOUNTED) -> HostMemory:
    """The memory now. Takes some tenths of a millisecond.

    Args:
        listed: where the kernel lists the control groups of this process.
        mounted: where they are mounted.
    """
    host = psutil.virtual_memory()
    total, available = host.total, host.available
    for group in cgroups.groups("memory", listed, mounted):
        limit, used = map(group.number, _V2 if group.is_v2 else _V1)
        if limit is not None and used is not None:
            total = min(total, limit)
            available = min(available, max(0, limit - used + _reclaimable(group)))
    return HostMemory(total, min(total, available))


def _reclaimable(group: Group) -> int:
    """Bytes of files that are only kept as long as nobody needs the room."""
    prefix = "" if group.is_v2 else "total_"  # in v1 the bare names leave the groups below out
    found = dict(line.split(maxsplit=1) for line in group.text("memory.stat").splitlines() if " " in line.strip())
    return sum(int(found[prefix + name]) for name in _RECLAIMABLE if found.get(prefix + name, "").isdigit())
