"""Where a model comes from, as text: `scheme`, `scheme:owner/name`, `scheme:owner/name/file.gguf`, `path:/…`.

One grammar for the topology, for requests and for ids that carry their source. Pure: whether anything is there is found
out by the neuron that loads it.
"""

import re
from typing import Final, Literal, TypeAlias, get_args

from attrs import frozen

from config.problems import show

RegistryScheme: TypeAlias = Literal["huggingface", "helexa"]

_REGISTRIES: Final = get_args(RegistryScheme)
_PATH: Final = "path"
_PART: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")
_LONGEST_NAME: Final = 96
_GGUF: Final = ".gguf"
_LONGEST: Final = 4096

SOURCE_HINT: Final = (
    '"huggingface" or "helexa", with ":owner/name" where the repository is not the model\'s id, and "/file.gguf" after '
    'that for one file; or "path:" and an absolute path'
)


class InvalidSourceError(ValueError):
    """A text that is no source.

    Attributes:
        text: What it is: a source, or the id of a model whose source relies on it.
        problem: What is wrong; reads on from the text itself.
        hint: What would be right.
    """

    hint = SOURCE_HINT

    def __init__(self, text: str, problem: str) -> None:
        super().__init__(f"{show(text)} {problem} ({self.hint})")
        self.text, self.problem = text, problem


class UnknownSchemeError(InvalidSourceError):
    """It begins with nothing known."""


class UnprintableSourceError(InvalidSourceError):
    """It has control characters, or is longer than any path."""


class RelativePathError(InvalidSourceError):
    """A path that would mean something else for each process that reads it."""

    hint = '"path:" and an absolute path, such as "path:/srv/models/mine"'


class RepositoryNameError(InvalidSourceError):
    """What should be `owner/name` cannot be one."""

    hint = (
        "owner/name, both of letters, digits and ._- with a letter, digit or _ at either end, without -- or .., "
        f"{_LONGEST_NAME} characters at most together"
    )


class FileNameError(InvalidSourceError):
    """What follows `owner/name` is no GGUF file of a repository."""

    hint = 'a GGUF file, such as "huggingface:owner/name/model-Q4_K_M.gguf"; without it, the whole repository is meant'


class SchemeConflictError(InvalidSourceError):
    """A model's id names one scheme, its source another."""

    hint = "leave the source out, for the id says it"


@frozen
class Repository:
    """A model of a registry.

    Attributes:
        scheme: Which registry.
        name: `owner/name`, or `name` alone for the few that have no owner; None: the model's id says it.
        file: The GGUF file of it that is meant, with the folders it is in; None: the model as a whole.
    """

    scheme: RegistryScheme
    name: str | None = None
    file: str | None = None


@frozen
class LocalPath:
    """A directory of this host, or a GGUF file; `~` is still unexpanded."""

    path: str

    scheme: Literal["path"] = _PATH


Source: TypeAlias = Repository | LocalPath


def parse_source(text: str) -> Source:
    """Read a source.

    Raises:
        InvalidSourceError: One of its subclasses, by the mistake.
    """
    if len(text) > _LONGEST or not text.isprintable():
        raise UnprintableSourceError(text, "has control characters or is too long")
    scheme, colon, rest = text.partition(":")
    if scheme == _PATH and colon:
        return _local(text, rest)
    for known in _REGISTRIES:
        if scheme == known:
            return _repository(known, rest, text, ownerless=False) if colon else Repository(known)
    raise UnknownSchemeError(text, "is not a source")


def source_of(model: str, source: str | None) -> Source | None:
    """Put a model's id and its source together.

    Args:
        model: An id of the catalogue: a repository's name, or a qualified one, such as `huggingface:owner/name`.
        source: As `parse_source` reads it; None: the id says it all.

    Returns:
        A source whose repository is named; None where neither says where the model comes from.

    Raises:
        InvalidSourceError: One of its subclasses, by the mistake.
    """
    if source is None:
        return parse_source(model) if is_qualified(model) else None
    found = parse_source(source)
    if isinstance(found, LocalPath) or found.name is not None:
        return found
    if not is_qualified(model):
        return _repository(found.scheme, model, model, ownerless=True)
    own = parse_source(model)
    if own.scheme != found.scheme:
        raise SchemeConflictError(model, f"is not where the model comes from by its id: {own.scheme}")
    return own


def is_qualified(model: str) -> bool:
    """Whether a model's id begins with a scheme, and so says where it comes from."""
    scheme, colon, rest = model.partition(":")
    return bool(colon and rest) and scheme in {*_REGISTRIES, _PATH}


def _local(told: str, path: str) -> LocalPath:
    if not path.startswith(("/", "~")):
        raise RelativePathError(told, "has no absolute path")
    return LocalPath(path)


def _repository(scheme: RegistryScheme, text: str, told: str, *, ownerless: bool) -> Repository:
    """Read what follows the scheme; `told` is what was written, for the error."""
    parts = text.split("/")
    is_file = len(parts) > 2 or (len(parts) == 2 and text.endswith(_GGUF))  # noqa: PLR2004 - owner and name
    name, file = "/".join(parts[:2]), "/".join(parts[2:])
    if not _is_name(name, least=1 if ownerless else 2):
        raise RepositoryNameError(told, "does not name a repository")
    if is_file and not _is_file(file):
        raise FileNameError(told, "does not name a GGUF file of a repository")
    return Repository(scheme, name, file or None)


def _is_name(text: str, least: int) -> bool:
    """As the hub has it: https://huggingface.co/docs/huggingface_hub, "validate_repo_id"."""
    parts = text.split("/")
    fits = all(_PART.fullmatch(part) for part in parts) and len(parts) >= least and len(text) <= _LONGEST_NAME
    return fits and "--" not in text and ".." not in text and not text.endswith(".git")


def _is_file(text: str) -> bool:
    parts = text.split("/")
    is_gguf = parts[-1].endswith(_GGUF) and parts[-1] != _GGUF
    return is_gguf and text.isprintable() and not {"", ".", ".."} & set(parts) and not set("\\?#") & set(text)
