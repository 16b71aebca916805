"""Building a topology from data that may be wrong in many places at once.

The converter stops at a class whose parts are wrong, and the checks between the parts need all of them. So what is
wrong is noted and cut out, and the rest is built again, until it stands. Checks that depend on what was cut out are
dropped: better silent than misleading, and the next run tells.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from attrs import evolve
from cattrs.errors import ClassValidationError

from config.problems import Finding, Path
from config.references import check
from config.structure import CONVERTER, findings_in
from config.topology import Topology

_CUT: Final = object()  # stands in for an entry of a list, so that its neighbours keep their indices


def build(raw: dict[str, Any]) -> tuple[Topology, tuple[Finding, ...]]:
    """Build a topology and tell everything that is wrong with it.

    Args:
        raw: The document as `tomllib` returns it; left as it is.

    Returns:
        The topology without what is wrong, and what is wrong. With no findings the topology is sound.
    """
    draft = _Draft(raw)
    topology = draft.build()
    draft.check(check(topology))
    return topology, tuple(draft.findings)


class _Draft:
    """A copy of the document that loses what is wrong; used once."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self.findings: list[Finding] = []
        self._written = raw
        self._raw: dict[str, Any] = _copy(raw)
        self._wrong: list[Path] = []  # what findings are about
        self._cuts: set[Path] = set()  # what is gone because of them
        self._lost: set[Path] = set()  # the entries among them, by their names

    def build(self) -> Topology:
        """Cut until the rest stands. Every round cuts something, and the empty document stands."""
        while True:
            try:
                return CONVERTER.structure(_without_cuts(self._raw), Topology)
            except ClassValidationError as error:
                findings = [self._original(finding) for finding in findings_in(error)]
                self._note(findings)
                self._wrong += [finding.path for finding in findings]
                cuts = [self._remove(finding.path) for finding in findings]
                if not any(cuts):
                    raise  # a default that does not stand: a defect of this package, not of the file

    def check(self, findings: Iterable[Finding]) -> None:
        """Note what was found in the topology as it was built."""
        self._note([self._original(finding) for finding in findings])

    def _note(self, findings: list[Finding]) -> None:
        """Keep the findings that do not only follow from earlier ones."""
        self.findings += [finding for finding in findings if not self._follows(finding)]

    def _follows(self, finding: Finding) -> bool:
        if any(self._is_doubtful(path) for path in finding.because):
            return True
        return any(_within(finding.path, wrong) or _within(wrong, finding.path) for wrong in self._wrong)

    def _is_doubtful(self, path: Path) -> bool:
        return path in self._lost or any(_within(path, cut) for cut in self._cuts)

    def _remove(self, path: Path) -> bool:
        """Cut out what is wrong, unless something around it is already gone; return whether anything was cut."""
        if any(_within(path, cut) and path != cut for cut in self._cuts):
            return False
        return self._cut(path)

    def _cut(self, path: Path) -> bool:
        """Cut at a path; where nothing is there (a missing key), or it is one value of many, cut what encloses it."""
        if not path:
            return False
        *outer, last = path
        parent = _at(self._raw, outer)
        if isinstance(parent, dict) and last in parent:
            del parent[last]
        elif isinstance(parent, list) and any(isinstance(entry, dict) for entry in parent):
            parent[int(last)] = _CUT
            self._lost |= {(*outer, str(value)) for value in _names(_at(self._written, path))}
        else:
            return self._cut(tuple(outer))
        self._cuts.add(path)
        return True

    def _original(self, finding: Finding) -> Finding:
        because = tuple(_original(self._raw, path) for path in finding.because)
        return evolve(finding, path=_original(self._raw, finding.path), because=because)


def _original(node: Any, path: Path) -> Path:
    """Turn indices into the lists as they were built into indices into the lists as they were written."""
    if not path:
        return ()
    head, *tail = path
    if isinstance(node, list) and isinstance(head, int):
        head = [index for index, item in enumerate(node) if item is not _CUT][head]
        return (head, *_original(node[head], tuple(tail)))
    inner = node.get(head) if isinstance(node, dict) else None
    return (head, *_original(inner, tuple(tail)))


def _names(entry: Any) -> list[Any]:
    """Return what others may call an entry, as it was written."""
    return [entry[key] for key in ("id", "name") if key in entry] if isinstance(entry, dict) else []


def _within(path: Path, outer: Path) -> bool:
    return path[: len(outer)] == outer


def _at(node: Any, path: Sequence[str | int]) -> Any:
    for part in path:
        node = node[int(part)] if isinstance(node, list) else node.get(part, {})
    return node


def _copy(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _copy(value) for key, value in node.items()}
    return [_copy(item) for item in node] if isinstance(node, list) else node


def _without_cuts(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_cuts(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_without_cuts(item) for item in node if item is not _CUT]
    return node
