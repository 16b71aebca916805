"""What every engine process imports before it serves."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def bring_in() -> None:
    """Import transformers as far as opening a model needs it, without the collector of cycles, and for good.

    It would look at all there are again and again while a great many objects are made that all stay, and would walk
    through them at each unload later on. For the first lines of a process: what is garbage by then stays, too.
    """
    gc.disable()
    with _missing("scipy"):
        import transformers.modeling_utils
        from transformers import AutoModelForCausalLM, GenerationConfig  # noqa: F401 - imported when asked for

    transformers.utils.logging.disable_progress_bar()  # several processes share one terminal
    gc.freeze()
    gc.enable()


@contextmanager
def _missing(name: str) -> Iterator[None]:
    """Within it, a package reads as one that is not installed; one that is imported already stays.

    transformers imports scipy wherever it finds it, a fifth of the time that all of it takes, for the losses of object
    detectors in training. It asks once and remembers the answer, and nothing else in an engine has a use for scipy.
    """
    if sys.modules.get(name) is not None:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # what makes `import` and `find_spec` say that there is none
    try:
        yield
    finally:
        del sys.modules[name]
