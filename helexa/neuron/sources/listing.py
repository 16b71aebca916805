"""What a registry tells of a repository's files, and which of them a model is read from. Pure."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from attrs import field, frozen

INDEX = "model.safetensors.index.json"
_COMMIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")
_SMALL = ("*.json", "*.jinja", "*.txt", "*.model", "*.spm", "*.tiktoken", "additional_chat_templates/*.jinja")
_OTHER_INDICES = "*.index.json"
_SHARD = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
_SPLIT = re.compile(r"(?P<stem>.+-)(?P<part>\d{5})-of-(?P<count>\d{5})\.gguf")


@frozen
class RemoteFile:
    """A file of a repository.

    Attributes:
        name: with the folders it is in; never leads out of the repository.
        size: bytes.
        sha256: of its content, in hexadecimal; ``None`` for small files, which Git holds.
        git_sha1: of its content as a Git blob; ``None`` for large files, where it is that of a pointer.
        commit: of the repository.
    """

    name: str
    size: int
    sha256: str | None
    git_sha1: str | None
    commit: str

    @property
    def key(self) -> str:
        """What its content is kept under: the checksum, as Hugging Face's library does, or else where it is from."""
        made = hashlib.sha256(f"{self.commit}/{self.name}".encode()).hexdigest()
        return self.sha256 or self.git_sha1 or made


@frozen
class Listing:
    """All files of a repository at a commit."""

    commit: str
    files: tuple[RemoteFile, ...]
    _by_name: dict[str, RemoteFile] = field(init=False, repr=False, eq=False)

    @_by_name.default
    def _index(self) -> dict[str, RemoteFile]:
        return {file.name: file for file in self.files}

    @property
    def names(self) -> tuple[str, ...]:
        """Of all its files."""
        return tuple(self._by_name)

    def get(self, name: str) -> RemoteFile | None:
        """The file of that name."""
        return self._by_name.get(name)

    def small(self) -> tuple[RemoteFile, ...]:
        """Configuration, tokenizer, templates: what is read before the weights. Code is never among it."""
        return tuple(file for file in self.files if _is_small(file.name))

    def likely_weights(self) -> tuple[RemoteFile, ...]:
        """The weights, before the index has been read: it may name others."""
        usual = tuple(file for file in self.files if _SHARD.fullmatch(file.name))
        return usual or tuple(file for file in self.files if _is_loose(file.name))

    def parts_of(self, gguf: str) -> tuple[RemoteFile, ...]:
        """A GGUF file, or all parts of one that is split; nothing if one of them is not there."""
        found = [self.get(name) for name in split_parts(gguf)]
        return tuple(file for file in found if file is not None) if all(found) else ()


def split_parts(gguf: str) -> tuple[str, ...]:
    """The names of all parts of a GGUF file, its own among them, by llama.cpp's way of naming them."""
    found = _SPLIT.fullmatch(gguf)
    if found is None or not 1 <= int(found["part"]) <= int(found["count"]):
        return (gguf,)
    count = found["count"]
    return tuple(f"{found['stem']}{part:05d}-of-{count}.gguf" for part in range(1, int(count) + 1))


def read_listing(answer: Any) -> Listing:
    """Read what ``GET /api/models/{name}/revision/{revision}?blobs=true`` answers.

    Source: https://huggingface.co/docs/hub/api, "Get model info"; field names as the hub's library reads them.

    Raises:
        ValueError: it is not that, or names files outside the repository.
    """
    try:
        commit = str(answer["sha"])
        if not _COMMIT.fullmatch(commit):
            raise ValueError("its commit is none")
        return Listing(commit, tuple(_file(each, commit) for each in answer["siblings"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _file(told: Mapping[str, Any], commit: str) -> RemoteFile:
    name, large = told["rfilename"], told.get("lfs")
    if not isinstance(name, str) or not is_inside(name):
        raise ValueError(f"a file of it is called {name!r}")
    size = (large or told).get("size")
    if not isinstance(size, int) or size < 0:
        raise ValueError(f"it does not tell the size of {name!r}")
    sha256 = _hex(large.get("sha256"), _SHA256) if large else None
    return RemoteFile(name, size, sha256, None if large else _hex(told.get("blobId"), _SHA1), commit)


def _hex(told: Any, form: re.Pattern[str]) -> str | None:
    return told if isinstance(told, str) and form.fullmatch(told) else None


def is_inside(name: str) -> bool:
    """Whether a name, joined to a directory, stays in it. Registries are strangers."""
    parts = name.split("/")
    return name.isprintable() and "\\" not in name and not any(part in {"", ".", ".."} for part in parts)


def weight_names(index: Any) -> tuple[str, ...]:
    """The files that an index of weights names.

    Raises:
        ValueError: it is no index.
    """
    found = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(found, dict) or not found:
        raise ValueError(f"'{INDEX}' has no weight_map")
    return tuple(sorted(set(map(str, found.values()))))


def total(files: Iterable[RemoteFile]) -> int:
    """Bytes of them all."""
    return sum(file.size for file in files)


def _is_small(name: str) -> bool:
    if name != INDEX and fnmatchcase(name, _OTHER_INDICES):
        return False
    return any(name.count("/") == form.count("/") and fnmatchcase(name, form) for form in _SMALL)


def _is_loose(name: str) -> bool:
    return name.endswith(".safetensors") and "/" not in name
