"""The decoding controls of a request: how tokens are picked and when to stop, read strictly into `SamplingParams`.

Sources: OpenAI API reference, "Create chat completion"; vLLM's names where OpenAI has none (``top_k``, ``min_p``,
``repetition_penalty``, ``min_tokens``, ``stop_token_ids``, ``ignore_eos``).
"""

from helexa.wire import errors
from helexa.wire.fields import Fields
from helexa.wire.sampling import MAX_SEED, SamplingParams

MAX_CHOICES = 128
"""OpenAI's bound of ``n``."""
MAX_STOPS = 16
MAX_STOP_LENGTH = 256
MAX_STOP_TOKENS = 64
MAX_BIASES = 1024
MAX_TOP_LOGPROBS = 20
_MAX_COUNT = 2**31 - 1


def sampling(fields: Fields, defaults: SamplingParams, vocabulary: int | None) -> SamplingParams:
    """The sampling parameters, without a grammar and without the model's own stop token ids.

    Args:
        fields: the request.
        defaults: for what the caller leaves out.
        vocabulary: number of token ids of the model; ``None`` if not known.

    Raises:
        ApiError: naming the first parameter that is wrong.
    """
    most = max_tokens(fields)
    return SamplingParams(
        n=fields.integer("n", 1, MAX_CHOICES, 1),
        max_tokens=most,
        min_tokens=_min_tokens(fields, most),
        temperature=float(fields.number("temperature", 0, 2, defaults.temperature)),
        top_p=float(fields.positive("top_p", 1, defaults.top_p)),
        top_k=max(0, fields.integer("top_k", -1, _MAX_COUNT, defaults.top_k)),
        min_p=float(fields.number("min_p", 0, 1, defaults.min_p)),
        presence_penalty=float(fields.number("presence_penalty", -2, 2, 0)),
        frequency_penalty=float(fields.number("frequency_penalty", -2, 2, 0)),
        repetition_penalty=float(fields.positive("repetition_penalty", 10, defaults.repetition_penalty)),
        logit_bias=_logit_bias(fields, vocabulary),
        seed=fields.integer("seed", -MAX_SEED, MAX_SEED, None),
        logprobs=_logprobs(fields),
        stop_token_ids=tuple(fields.integers("stop_token_ids", 0, _last_id(vocabulary), MAX_STOP_TOKENS)),
    )


def max_tokens(fields: Fields, least: int = 1) -> int | None:
    """The bound on the generated tokens, under its newer name if both are given; at least ``least``."""
    newer: int | None = fields.integer("max_completion_tokens", least, _MAX_COUNT, None)
    older: int | None = fields.integer("max_tokens", least, _MAX_COUNT, None)
    return older if newer is None else newer


def _min_tokens(fields: Fields, most: int | None) -> int:
    least: int = fields.integer("min_tokens", 0, _MAX_COUNT, 0)
    if most is not None and least > most:
        raise fields.wrong("min_tokens", f"at most 'max_tokens', which is {most}")
    return least


def _logprobs(fields: Fields) -> int | None:
    """``None`` for none, otherwise how many of the likeliest tokens to report beside the one picked."""
    top: int = fields.integer("top_logprobs", 0, MAX_TOP_LOGPROBS, 0)
    if fields.flag("logprobs"):
        return top
    if top:
        raise errors.invalid_value("top_logprobs", "only allowed together with 'logprobs': true")
    return None


def _logit_bias(fields: Fields, vocabulary: int | None) -> tuple[tuple[int, float], ...]:
    given = fields.mapping("logit_bias", {})
    if len(given) > MAX_BIASES:
        raise fields.wrong("logit_bias", f"at most {MAX_BIASES} token ids")
    biases = Fields(given, "logit_bias")
    last = _last_id(vocabulary)
    for key in given:
        if not _is_id(key) or int(key) > last:
            raise fields.wrong("logit_bias", f"token ids between 0 and {last} as keys, not {key[:20]!r}")
    return tuple((int(key), float(biases.number(key, -100, 100, 0))) for key in given)


def _is_id(key: str) -> bool:
    """Whether a JSON key is a number in its one proper form: "5" and "05" would be two biases of one token."""
    return key.isascii() and key.isdigit() and len(key) <= len(str(_MAX_COUNT)) and key == str(int(key))


def _last_id(vocabulary: int | None) -> int:
    return _MAX_COUNT if vocabulary is None else vocabulary - 1


def stops(fields: Fields) -> tuple[str, ...]:
    """The stop strings, of which there may be one without a list around it."""
    stop = fields.data.get("stop")
    found = [] if stop is None else [stop] if isinstance(stop, str) else stop
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise fields.wrong("stop", "a string or a list of strings")
    if len(found) > MAX_STOPS or any(not 0 < len(each) <= MAX_STOP_LENGTH for each in found):
        raise fields.wrong("stop", f"at most {MAX_STOPS} strings of 1 to {MAX_STOP_LENGTH} characters")
    return tuple(found)
