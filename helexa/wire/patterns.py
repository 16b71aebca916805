"""Patterns of model names, as topologies and keys have them. Pure."""

import re
from functools import lru_cache


def matches(pattern: str, name: str) -> bool:
    """Whether a name is of a pattern with ``*`` and ``?`` as wildcards."""
    return _compiled(pattern).fullmatch(name) is not None


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    """``*`` and ``?`` are wildcards and all else is itself: fnmatch would read brackets as sets of characters.

    What stands between two stars is looked for once, from the left: going back over it could not help, and a client
    who may send names of any length could make it take for ever.
    """
    first, *rest = (re.escape(part).replace(r"\?", ".") for part in pattern.split("*"))
    if not rest:
        return re.compile(first, re.DOTALL)
    between = "".join(f"(?>.*?{part})" for part in rest[:-1] if part)
    return re.compile(f"{first}{between}.*{rest[-1]}", re.DOTALL)
