"""What every engine process imports before it serves."""

import gc


def bring_in() -> None:
    """Import transformers as far as opening a model needs it, without the collector of cycles, and for good.

    It would look at all there are again and again while a great many objects are made that all stay, and would walk
    through them at each unload later on. For the first lines of a process: what is garbage by then stays, too.
    """
    gc.disable()
    import transformers.modeling_utils
    from transformers import AutoModelForCausalLM, GenerationConfig  # noqa: F401 - names that are imported when asked for

    transformers.utils.logging.disable_progress_bar()  # several processes share one terminal
    gc.freeze()
    gc.enable()
