"""Packages that others import wherever they find them, and that nobody needs there."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(name: str) -> Iterator[None]:
    """Within it, a package reads as one that is not installed; one that is imported already stays.

    For imports of packages that ask once whether there is another one, and remember the answer.
    """
    if sys.modules.get(name) is not None:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # what makes `import` and `find_spec` say that there is none
    try:
        yield
    finally:
        del sys.modules[name]
