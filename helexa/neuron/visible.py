"""Which of a host's GPUs ``CUDA_VISIBLE_DEVICES`` leaves. Pure.

NVML knows nothing of that variable, and torch counts what it leaves from 0 on, so that ``cuda:0`` may be NVML's 2.

Source: CUDA C++ Programming Guide, "CUDA Environment Variables".
"""

from collections.abc import Sequence

VARIABLE = "CUDA_VISIBLE_DEVICES"


def visible(wanted: str | None, uuids: Sequence[str | None]) -> tuple[int, ...]:
    """NVML's indices of the GPUs that CUDA shows, in CUDA's order.

    Args:
        wanted: the variable's value, ``None`` if it is not set.
        uuids: of all GPUs by index; ``None`` where one does not tell its own.
    """
    if wanted is None:
        return tuple(range(len(uuids)))
    found: list[int] = []
    for token in wanted.split(","):
        index = _meant(token.strip(), uuids)
        if index is None:  # CUDA takes what stands before the first mistake
            break
        if index in found:  # and nothing at all if one is named twice
            return ()
        found.append(index)
    return tuple(found)


def _meant(token: str, uuids: Sequence[str | None]) -> int | None:
    if token.isascii() and token.isdigit():
        return int(token) if int(token) < len(uuids) else None
    if not token.upper().startswith("GPU-"):
        return None
    matches = [index for index, uuid in enumerate(uuids) if (uuid or "").upper().startswith(token.upper())]
    return matches[0] if len(matches) == 1 else None
