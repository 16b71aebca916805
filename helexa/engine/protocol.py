"""The frames between a neuron and an engine worker, and how they are laid on a socket.

A frame is a 4-byte big-endian length and that many bytes of msgpack: a map with the frame's class name under ``_type``.
The worker speaks first, with ``Hello``; a neuron that does not know its version must not go on. Tokens are ids in
both directions: text, templates and stop strings are the neuron's business, and the engine never waits for them.
"""

from attrs import field, frozen

from helexa.engine.framing import LENGTH, Codec
from helexa.engine.quant.formats import Quant
from helexa.wire.sampling import SamplingParams

VERSION = 6
MAX_FRAME_BYTES = 64 * 2**20


@frozen
class Hello:
    """Worker to neuron, first: who speaks."""

    version: int
    pid: int
    device: str
    torch: str


@frozen
class Load:
    """Neuron to worker: load a causal language model.

    Attributes:
        model: the id every later frame names it by.
        path: a local directory, or a Hugging Face id to be found in its cache.
        memory: bytes of the device that all models of the worker may have together, weights and KV caches; ``None``
            for what is free.
        quant: what its weights are to be reduced to; ``None``: as they are.
    """

    model: str
    path: str
    memory: int | None = None
    quant: Quant | None = None


@frozen
class Unload:
    """Neuron to worker: forget a model; its sequences end as aborted."""

    model: str


@frozen
class ScoringParams(SamplingParams):
    """As they are, where the log probabilities of the prompt's own tokens are wanted as well.

    Each choice then begins with the tokens of its prompt, in as many deltas as its prefill takes steps, and goes on
    with what is generated. No choice finds them in the KV cache, where no logits are.

    Attributes:
        prompt_logprobs: how many of the likeliest tokens to report beside each of the prompt's.
    """

    prompt_logprobs: int = field(kw_only=True)


@frozen
class Progress:
    """How far one choice of a request had come in an earlier process.

    Attributes:
        index: which of the request's choices.
        ids: the tokens told of it so far: what was generated, and before that the prompt's where those are told.
    """

    index: int
    ids: list[int] = field(factory=list)


@frozen
class Submit:
    """Neuron to worker: generate.

    Attributes:
        request: unique among the worker's live requests.
        prompt_ids: the rendered prompt, at least one token.
        key: who asks; fairness and prefix reuse never cross keys.
        priority: larger goes first.
        progress: the choices to go on with, where the process that served the request is gone; empty: all of them,
            from the start.
    """

    request: str
    model: str
    prompt_ids: list[int]
    sampling: SamplingParams | ScoringParams = field(factory=SamplingParams)
    key: str = ""
    priority: int = 0
    progress: list[Progress] = field(factory=list)


@frozen
class Abort:
    """Neuron to worker: nobody waits for this request any more, or for one of its choices.

    ``Finished(reason="abort")`` answers for each choice that lived.

    Attributes:
        index: the choice; ``None`` means all of them.
    """

    request: str
    index: int | None = None


@frozen
class Loading:
    """Worker to neuron: how far a load is.

    The first one says that it has begun: if the process does not live through it, the model may be why.

    Attributes:
        done: bytes of its files that have been read.
        total: bytes in all; 0 while nobody knows.
    """

    model: str
    done: int = 0
    total: int = 0


@frozen
class Loaded:
    """Worker to neuron: a model can take requests. Memory in MiB, lengths in tokens.

    Attributes:
        memory_mb: what its weights hold.
        kv_mb: what its KV cache may hold.
        capacity: sequences that can run at once.
    """

    model: str
    memory_mb: int
    context_length: int
    seconds: float
    kv_mb: int = 0
    capacity: int = 0


@frozen
class LoadFailed:
    """Worker to neuron: a model could not be loaded; the worker lives on."""

    model: str
    error: str


@frozen
class Unloaded:
    """Worker to neuron: a model and its memory are gone."""

    model: str


@frozen
class TokenLogprob:
    """What the model itself thought of a token it was made to pick, or was given: natural logarithms.

    Attributes:
        logprob: of the token; ``None`` for the first of a prompt, which nothing foretells.
        top: pairs of id and logarithm of the likeliest tokens, likeliest first; as many as were asked for.
        prompt: the token is one of the prompt's.
    """

    logprob: float | None
    top: list[tuple[int, float]] = field(factory=list)
    prompt: bool = False


@frozen
class TokenDelta:
    """The new tokens of one choice of a request in one step.

    Attributes:
        index: which of the request's ``n`` choices.
        logprobs: one per id where the request asked for them, otherwise empty.
    """

    request: str
    ids: list[int]
    index: int = 0
    logprobs: list[TokenLogprob] = field(factory=list)


@frozen
class Began:
    """Worker to neuron: the next step is the first that has a part in these requests.

    Said before the step: if the process does not live through it, these may be why.
    """

    requests: list[str]


@frozen
class Tokens:
    """Worker to neuron: what one step brought, for all its sequences."""

    step: int
    deltas: list[TokenDelta]


@frozen
class Finished:
    """Worker to neuron: the one good end of one choice. ``reason`` is ``stop``, ``length`` or ``abort``.

    ``cached_tokens`` is how many of the prompt's tokens were found in the KV cache and not computed.
    """

    request: str
    reason: str
    prompt_tokens: int
    completion_tokens: int
    index: int = 0
    cached_tokens: int = 0


@frozen
class Failed:
    """Worker to neuron: the one bad end of a request, all its choices. ``code`` is an error code of the API."""

    request: str
    code: str
    error: str


@frozen
class Dying:
    """Worker to neuron, last: the process ends itself, and why; half a sentence."""

    error: str


@frozen
class ModelLoad:
    """How busy one model is, and how its KV cache is used.

    Attributes:
        running: sequences that take part in steps.
        waiting: sequences that do not yet.
        blocks_total: KV blocks in the pool; each is in use, free, or cached.
        blocks_free: blocks whose content nobody wants.
        blocks_cached: blocks that no sequence uses and whose content may be found again; taken when none is free.
        prefix_queries: prompt tokens looked up in the cache so far.
        prefix_hits: of these, tokens that were found.
        preemptions: sequences that had to give their blocks up so far.
        steps: steps taken so far.
        step_seconds: what they took, from the choice of what to compute to the tokens picked.
        step_tokens: tokens that they computed, of prompts and of answers.
        new_tokens: tokens that they picked.
    """

    model: str
    running: int
    waiting: int
    blocks_total: int = 0
    blocks_free: int = 0
    blocks_cached: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    preemptions: int = 0
    steps: int = 0
    step_seconds: float = 0.0
    step_tokens: int = 0
    new_tokens: int = 0


@frozen
class Heartbeat:
    """Worker to neuron, every second, from a thread of its own.

    A process whose heart beats and whose step never ends is wedged, and only its parent can end that.

    Attributes:
        step: steps so far, of all models.
        stalled_seconds: how long the current step has been running, or, of a load, since it last came further; 0 when
            idle.
        loading: it loads a model.
        tokens: what the current step, or the last one, computes.
        longest: seconds of the longest step of the same model so far; before there is one, of the steps that it was
            tried out with when it was loaded.
        largest: tokens of the largest one; 0 before there is one.
    """

    step: int
    stalled_seconds: float
    loading: bool
    models: list[ModelLoad]
    tokens: int = 0
    longest: float = 0.0
    largest: int = 0


Command = Load | Unload | Submit | Abort
Report = Hello | Loading | Loaded | LoadFailed | Unloaded | Began | Tokens | Finished | Failed | Dying | Heartbeat
Frame = Command | Report


class ProtocolError(Exception):
    """Bytes that are no frame of this protocol: the peer is broken or of another build."""


_CODEC: Codec[Frame] = Codec(Frame, (bool, int, float, str), ProtocolError)


def encode(frame: Frame) -> bytes:
    """A frame with its length prefix."""
    return _CODEC.encode(frame)


class FrameReader:
    """Cuts a byte stream, in pieces of any size, into frames. A reader that has raised is to be thrown away."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def push(self, data: bytes) -> list[Frame]:
        """The frames that ``data`` completes.

        Raises:
            ProtocolError: a length over ``MAX_FRAME_BYTES``, or a body that is no frame.
        """
        self._buffer += data
        frames = []
        while (body := self._take()) is not None:
            frames.append(_CODEC.decode(body))
        return frames

    def _take(self) -> bytes | None:
        if len(self._buffer) < LENGTH.size:
            return None
        (length,) = LENGTH.unpack_from(self._buffer)
        if length > MAX_FRAME_BYTES:
            raise ProtocolError(f"a frame of {length} bytes; at most {MAX_FRAME_BYTES} are allowed")
        end = LENGTH.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[LENGTH.size : end])
        del self._buffer[:end]
        return body
