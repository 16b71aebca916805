"""Where a model's files are: the bundled checkpoint, the Hugging Face cache, or a directory."""

from pathlib import Path

from helexa import tiny
from helexa.wire import errors
from helexa.wire.errors import ApiError

_WANTED = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]


def resolve(model: str, source: str) -> str:
    """The model's directory. Blocks, for as long as a download takes where the cache lacks a file.

    Raises:
        ApiError: the source is unknown, names a directory that is not there, or cannot be downloaded.
    """
    if source == "helexa":
        if model != tiny.MODEL_ID:
            raise _invalid(f"'{model}' is not bundled with helexa; '{tiny.MODEL_ID}' is")
        return str(tiny.CHECKPOINT)
    if source == "huggingface":
        return _download(model)
    if source.startswith("path:"):
        return _local(source.removeprefix("path:"))
    raise _invalid(f"unknown source '{source}'; use 'helexa', 'huggingface' or 'path:/…'")


def _local(directory: str) -> str:
    try:
        path = Path(directory).expanduser()
        if (path / "config.json").is_file():
            return str(path)
    except (OSError, RuntimeError) as error:  # not to be entered; nobody's home
        raise _invalid(f"'{directory}' cannot be read: {error}") from error
    raise _invalid(f"'{directory}' has no config.json; a model directory is expected")


def _download(model: str) -> str:
    """From the Hugging Face cache, or into it. Weights in pickles and code are not even fetched."""
    from huggingface_hub import snapshot_download

    try:
        return str(snapshot_download(model, allow_patterns=_WANTED))
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise errors.upstream_error(f"'{model}' cannot be fetched from Hugging Face: {reason}.") from error


def _invalid(problem: str) -> ApiError:
    return ApiError(400, f"{problem}.", "invalid_request_error", "invalid_value", "source")
