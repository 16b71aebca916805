"""What every engine process imports before it serves."""

import gc

from helexa.imports import without


def bring_in() -> None:
    """Import transformers as far as opening a model needs it, without the collector of cycles, and for good.

    It would look at all there are again and again while a great many objects are made that all stay, and would walk
    through them at each unload later on. For the first lines of a process: what is garbage by then stays, too.

    Without scipy: a fifth of the time that all of it takes, for the losses of object detectors in training; and without
    trio, which the hub's client brings in for event loops of its kind. Nothing else in an engine has a use for either.
    """
    gc.disable()
    with without("scipy"), without("trio"):
        import transformers.modeling_utils
        from transformers import AutoModelForCausalLM, GenerationConfig  # noqa: F401 - imported when asked for

    transformers.utils.logging.disable_progress_bar()  # several processes share one terminal
    gc.freeze()
    gc.enable()
