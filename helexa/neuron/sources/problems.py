"""What can be wrong with a model's source: a sentence and a code for each."""

from collections.abc import Sequence

from helexa.wire.errors import ApiError

DISK_FULL = "disk_full"
STOPPED = "download_stopped"
_SHOWN = 5


def invalid_source(problem: str) -> ApiError:
    """The source itself cannot be understood, or names nothing that is there."""
    return _refused(400, problem, "invalid_value")


def unknown_repository(model: str, registry: str, token_variable: str, *, has_token: bool) -> ApiError:
    """The registry knows no such repository, or does not admit to it."""
    private = f"the token in {token_variable} does not open it" if has_token else f"{token_variable} is not set"
    sentence = f"{registry} has no model '{model}', or it is private and {private}"
    return _refused(404, sentence, "source_not_found")


def gated(model: str, registry: str, page: str, token_variable: str, *, has_token: bool) -> ApiError:
    """The repository's terms have not been accepted, or nobody said by whom."""
    first = f"'{model}' is gated on {registry}: its terms have to be accepted at {page}"
    then = f"by the account of the token in {token_variable}" if has_token else "and an account's token to be set as "
    return _refused(403, f"{first} {then}{'' if has_token else token_variable}", "model_gated")


def token_refused(registry: str, token_variable: str) -> ApiError:
    """The registry knows no such token."""
    sentence = f"{registry} does not accept the token in {token_variable}: make a new one, or remove it"
    return _refused(403, sentence, "source_token_invalid")


def config_missing(where: str) -> ApiError:
    """A repository of something else."""
    return _refused(400, f"{where} has no config.json; it holds no model that helexa can read", "config_missing")


def config_broken(where: str, why: str) -> ApiError:
    """The configuration is not what it should be."""
    return _refused(400, f"The config.json of {where} cannot be read: {why}", "config_invalid")


def weights_missing(where: str, names: Sequence[str]) -> ApiError:
    """A configuration without weights, or with weights of kinds that are not read; ``names`` are all its files."""
    return _refused(400, f"{where} has a config.json and no safetensors weights{_instead(names)}", "weights_missing")


def _instead(names: Sequence[str]) -> str:
    ggufs = [name for name in names if name.endswith(".gguf")]
    if ggufs:
        return f"; name one of its GGUF files in the source: {_some(ggufs)}"
    pickles = [name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]
    if pickles:
        return f"; its {_some(pickles)} may be a pickle, which runs code when it is read and is never loaded"
    return ""


def weight_file_missing(where: str, name: str) -> ApiError:
    """The index names a file that is not there."""
    return _refused(400, f"{where} lacks '{name}', which its index of weights names", "weights_missing")


def file_missing(where: str, name: str, ggufs: Sequence[str]) -> ApiError:
    """The one file that is asked for is not there."""
    known = f"; it has {_some(ggufs)}" if ggufs else "; it has no GGUF file"
    return _refused(404, f"{where} has no file '{name}'{known}", "source_not_found")


def not_gguf(path: str) -> ApiError:
    """A file by that name, of another kind."""
    return _refused(400, f"'{path}' is no GGUF file: it does not begin as one", "weights_invalid")


def runs_code(where: str, kind: str) -> ApiError:
    """The model's code comes with the model."""
    sentence = f"{where} brings its own Python code (auto_map) and its type '{kind}' is not known without it"
    return _refused(400, f"{sentence}; code from a model's files is never run", "remote_code")


def offline(model: str, registry: str) -> ApiError:
    """What is needed is not here, and nobody may be asked."""
    sentence = f"'{model}' is not whole in the cache, and HF_HUB_OFFLINE forbids asking {registry} for it"
    return ApiError(502, f"{sentence}.", "api_error", "source_offline")


def download_failed(model: str, registry: str, why: str) -> ApiError:
    """The network, or the server behind it."""
    return ApiError(502, f"'{model}' cannot be fetched from {registry}: {why}.", "api_error", "download_failed")


def checksum_mismatch(model: str, registry: str, name: str) -> ApiError:
    """What came is not what was announced, also when it was fetched anew."""
    why = f"'{name}' does not have the checksum that {registry} tells of it, and has been removed"
    return ApiError(502, f"'{model}' cannot be fetched: {why}.", "api_error", "checksum_mismatch")


def disk_full(model: str, directory: str, needed: int, free: int) -> ApiError:
    """Bytes that are missing, bytes that there is room for."""
    sentence = f"'{model}' needs {_size(needed)} more in {directory}, where {_size(free)} are free"
    return ApiError(507, f"{sentence}; make room, or set HF_HOME to a larger disk.", "api_error", DISK_FULL)


def cannot_write(model: str, directory: str, why: str) -> ApiError:
    """The cache is not ours to write."""
    sentence = f"'{model}' cannot be written to {directory}: {why}"
    return ApiError(507, f"{sentence}; mend that, or set HF_HOME to a directory of yours.", "api_error", "cache_error")


def stopped(model: str) -> ApiError:
    """Somebody does not want it any more."""
    return ApiError(503, f"The download of '{model}' was stopped.", "api_error", STOPPED)


def no_registry(model: str, bundled: str) -> ApiError:
    """``helexa:`` without a registry that it could mean."""
    first = f"'{model}' is not bundled with helexa; '{bundled}' is"
    return invalid_source(f"{first}. For others, set HELEXA_REGISTRY to a server that speaks the hub's API")


def wrong_registry(url: str) -> ApiError:
    """The registry's URL is none. It may hold a password, so it is shown without what precedes the host."""
    return invalid_source(f"HELEXA_REGISTRY is not an http or https URL of a server: '{url.rpartition('@')[2]}'")


def _refused(status: int, sentence: str, code: str) -> ApiError:
    kind = "permission_error" if status == 403 else "invalid_request_error"  # noqa: PLR2004 - as in the sentence above
    return ApiError(status, f"{sentence}.", kind, code, "source")


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
