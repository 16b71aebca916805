"""Whether anything was read anew. Pure."""


def same(now: tuple[object, ...], before: tuple[object, ...]) -> bool:
    """Whether these are the same objects, numbers and texts by their value.

    To compare all that a large fleet tells would take longer than to draw it.
    """
    return len(now) == len(before) and all(map(_alike, now, before))


def _alike(one: object, other: object) -> bool:
    return one is other or (isinstance(one, int | str) and one == other)
