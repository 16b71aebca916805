"""A registry's models on this disk, laid out as Hugging Face's library lays them out.

Source: https://huggingface.co/docs/huggingface_hub/guides/manage-cache, "Understand caching": `blobs/` has contents by
their checksum, `snapshots/<commit>/` links to them by name, `refs/main` says which commit is current. So each finds
what the other has fetched.
"""

import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from uuid import uuid4

from attrs import frozen

_REVISION = "main"
_COMMIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@frozen
class Cache:
    """One repository in a cache.

    Attributes:
        root: the directory of all repositories of a registry.
        repository: its name there, ``owner/name``.
    """

    root: Path
    repository: str

    @property
    def folder(self) -> Path:
        """Where everything of this repository is."""
        return self.root / self._name

    @property
    def _name(self) -> str:
        return f"models--{self.repository.replace('/', '--')}"

    def blob(self, key: str) -> Path:
        """The file of that content, which need not be there."""
        return self.folder / "blobs" / key

    def partial(self, key: str) -> Path:
        """What has come of it so far."""
        return self.folder / "blobs" / f"{key}.incomplete"

    def lock(self, key: str) -> Path:
        """The file that whoever fetches this content holds a lock on; Hugging Face's library takes the same."""
        return self.root / ".locks" / self._name / f"{key}.lock"

    def current(self) -> Path | None:
        """The directory of the commit that was current when it was last asked for, whole or not."""
        try:
            commit = (self.folder / "refs" / _REVISION).read_text("utf-8").strip()
        except (OSError, ValueError):
            return None
        found = self.folder / "snapshots" / commit
        return found if _COMMIT.fullmatch(commit) and found.is_dir() else None

    def link(self, commit: str, contents: Mapping[str, str]) -> Path:
        """Give fetched contents their names, and have them be the current ones: the last thing a download does.

        Args:
            commit: what the registry calls this state of the repository.
            contents: the key of each file's content, by its name.
        """
        snapshot = self.folder / "snapshots" / commit
        for name, key in contents.items():
            place = snapshot / name
            place.parent.mkdir(parents=True, exist_ok=True)
            target = os.path.relpath(self.blob(key), place.parent)
            _replace(place, partial(Path.symlink_to, target=target))
        reference = self.folder / "refs" / _REVISION
        reference.parent.mkdir(parents=True, exist_ok=True)
        _replace(reference, partial(Path.write_text, data=commit, encoding="utf-8"))
        return snapshot


def _replace(place: Path, make: Callable[[Path], object]) -> None:
    """Put something in a place at once: whoever looks sees what was there before, or all of it."""
    new = place.with_name(f".{place.name}.{uuid4().hex[:8]}")
    try:
        make(new)
        new.replace(place)
    finally:
        new.unlink(missing_ok=True)
