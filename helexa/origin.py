"""Makes sure that the four packages are the ones that belong together.

``config``, ``actors`` and ``tui`` are common names: another distribution, or a stray directory on the path, may shadow
one, and what follows would be baffling. Checked before any of them is imported.
"""

from importlib.machinery import PathFinder
from pathlib import Path

PACKAGES = ("config", "actors", "tui")


class OriginError(Exception):
    """A package of helexa's is shadowed by, or missing beside, another one."""


def check_origin(home: Path | None = None, path: list[str] | None = None) -> None:
    """Check that every package resolves to a directory beside ``helexa``'s.

    Args:
        home: the directory that holds the packages; where this file's package is, if not given.
        path: the import path to search; ``sys.path`` if not given.

    Raises:
        OriginError: with what was found instead and what to do.
    """
    beside = home or Path(__file__).resolve().parents[1]
    for package in PACKAGES:
        found, wanted = _directory(package, path), (beside / package).resolve()
        if found != wanted:
            where = found or "nowhere"
            raise OriginError(
                f"the package '{package}' resolves to {where} instead of {wanted}. Another distribution or "
                "directory with that name comes first on the import path: run helexa in a virtual environment of its "
                "own, and not with a PYTHONPATH that holds such a directory."
            )


def _directory(package: str, path: list[str] | None) -> Path | None:
    spec = PathFinder.find_spec(package, path)
    if spec is None or not spec.submodule_search_locations:
        return None if spec is None or spec.origin is None else Path(spec.origin)
    return Path(next(iter(spec.submodule_search_locations))).resolve()
