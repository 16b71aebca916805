"""Tokenizers without torch, for processes that never run a model."""

import os
import sys

_ADVICE = "TRANSFORMERS_NO_ADVISORY_WARNINGS"


def forgo_torch() -> None:
    """Decide, for the whole process and for good, that torch is never imported here.

    transformers imports torch whenever it finds it installed, even to load a tokenizer: about 180 MB and a second that
    an HTTP daemon has no use for. Told that there is none, it takes its own supported path without it. Call this first
    thing in a process; later imports of torch then fail, which is the promise being kept.

    Raises:
        RuntimeError: torch is already imported, so there is nothing left to forgo.
    """
    if sys.modules.get("torch") is not None:
        raise RuntimeError("torch is already imported in this process; forgo_torch() has to come first.")
    # A None entry makes both `import torch` and `importlib.util.find_spec("torch")` say that there is no torch. An
    # environment variable would be the obvious way, but transformers no longer reads one for this.
    sys.modules["torch"] = None  # type: ignore[assignment]
    _import_quietly()


def _import_quietly() -> None:
    """Import transformers now, without its log line saying that torch is missing: here that is intended."""
    before = os.environ.get(_ADVICE)
    os.environ[_ADVICE] = "1"
    try:
        import transformers  # noqa: F401
    finally:
        if before is None:
            del os.environ[_ADVICE]
        else:
            os.environ[_ADVICE] = before
