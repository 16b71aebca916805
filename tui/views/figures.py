"""Figures as operators read them: short, with their unit, always of the same width. Pure."""

import re
from typing import Final

from rich.text import Text

from helexa.wire.fleet import DeviceHealth, KvCache
from tui.views.safe import line

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_LONG: Final = 100  # from here on, digits behind the point tell nothing


def span(seconds: float) -> str:
    """A time in its largest fitting unit, as ``42s``, ``12m``, ``31h`` or ``9d``."""
    for unit, letter, most in ((1, "s", 100), (_MINUTE, "m", 100), (_HOUR, "h", 48)):
        if seconds < most * unit:  # so that "99s" does not become the coarser "1m"
            return f"{int(seconds / unit)}{letter}"
    return f"{int(seconds / _DAY)}d"


def memory(used_mb: float, total_mb: float, unit: str = "iB") -> str:
    """Of so much so much is in use, from MiB; ``unit`` is what follows G or M."""
    if total_mb < 1024:  # noqa: PLR2004 - one GiB
        return f"{used_mb:.0f}/{total_mb:.0f} M{unit}"
    used, total = used_mb / 1024, total_mb / 1024
    return f"{_short(used)}/{_short(total)} G{unit}"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= _LONG else f"{value:.1f}"


def size(mb: float) -> str:
    """An amount of memory, from MiB."""
    return f"{mb:.0f} MiB" if mb < 1024 else f"{_short(mb / 1024)} GiB"  # noqa: PLR2004 - one GiB


def throughput(rate: float | None) -> str:
    """Tokens a second; ``""``: unknown."""
    if rate is None:
        return ""
    if rate >= 1000:  # noqa: PLR2004 - a k
        return f"{_short(rate / 1000)}k tok/s"
    return f"{rate:.0f} tok/s" if rate >= 10 or rate == 0 else f"{rate:.1f} tok/s"  # noqa: PLR2004 - two digits tell


def transfer(rate: float) -> str:
    """Bytes a second; ``""``: nothing moves."""
    if rate <= 0:
        return ""
    return f"{rate / 2**30:.1f} GiB/s" if rate >= 2**30 else f"{rate / 2**20:.0f} MiB/s"


def percent(part: float | None) -> str:
    """A fraction; ``""``: unknown."""
    return "" if part is None else f"{100 * part:.0f} %"


def tokens(count: int) -> str:
    """A number of tokens, in thousands of 1024 where it is of such."""
    return f"{count // 1024}k" if count >= 1024 and count % 1024 == 0 else f"{count:,}"  # noqa: PLR2004 - a k


def kv_used(kv: KvCache | None) -> float | None:
    """The part of a KV cache that sequences use; what is only kept for prompts to come does not count."""
    if kv is None or not kv.blocks_total:
        return None
    return 1 - (kv.blocks_free + kv.blocks_cached) / kv.blocks_total


def memory_used(device: DeviceHealth) -> float | None:
    """The part of a device's memory that is in use; ``None``: it does not tell."""
    return device.memory_used_mb / device.memory_total_mb if device.memory_total_mb else None


_NOISE: Final = re.compile(r"\((?:R|TM|C)\)|\b(?:NVIDIA|GeForce|Processor|CPU)\b|@.*|\d+-Core.*", re.IGNORECASE)


def short_kind(kind: str) -> str:
    """A device's name without what all devices of its maker are called."""
    return " ".join(_NOISE.sub(" ", kind).split()) or kind


def fit(text: str | Text, width: int, style: str = "", *, right: bool = False) -> Text:
    """A cell of just this width: cut with an ellipsis, or filled up."""
    if width <= 0:
        return Text()
    cell = Text(text, style) if isinstance(text, str) else text
    if not cell.plain.isprintable():
        cell.plain = line(cell.plain)
    if cell.cell_len > width:
        cell.truncate(width, overflow="ellipsis")
    missing = width - cell.cell_len
    if missing > 0:
        if right:
            cell.pad_left(missing)
        else:
            cell.pad_right(missing)
    return cell
