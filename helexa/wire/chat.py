"""OpenAI chat completions: the request read strictly, the response and its chunks written.

Source: OpenAI API reference, "Create chat completion" and "The chat completion chunk object".
"""

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from helexa.wire import errors
from helexa.wire.fields import Fields
from helexa.wire.sampling import MAX_SEED, SamplingParams

MAX_STOPS = 16
MAX_STOP_LENGTH = 256
MAX_TOOLS = 128
ROLES = ("system", "developer", "user", "assistant", "tool", "function")


@frozen
class ChatRequest:
    """A checked chat request.

    Attributes:
        model: the id or alias the caller asked for.
        messages: message objects, checked for role and content shape, otherwise as sent.
        tools: OpenAI tool objects; empty when there are none or ``tool_choice`` is ``none``.
        sampling: what the engine needs; stop token ids are added by whoever knows the model.
        stop: stop strings.
        stream: whether to stream.
        include_usage: whether the stream carries a last chunk with the usage.
        template_kwargs: extra variables for the chat template, e.g. ``enable_thinking``.
    """

    model: str
    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    sampling: SamplingParams = field(factory=SamplingParams)
    stop: tuple[str, ...] = ()
    stream: bool = False
    include_usage: bool = False
    template_kwargs: Mapping[str, Any] = field(factory=dict)


NEUTRAL = SamplingParams()


def parse(body: dict[str, Any], defaults: SamplingParams = NEUTRAL) -> ChatRequest:
    """Check a request body.

    Args:
        body: the JSON object.
        defaults: what the model's publisher recommends, for what the caller leaves out.

    Raises:
        ApiError: naming the first field that is missing, wrong or not supported.
    """
    fields = Fields(body)
    model = fields.text("model")
    _refuse_unsupported(fields)
    stream = fields.flag("stream")
    return ChatRequest(
        model=model,
        messages=_messages(fields),
        tools=_tools(fields),
        sampling=_sampling(fields, defaults),
        stop=_stops(fields),
        stream=stream,
        include_usage=_include_usage(fields, stream=stream),
        template_kwargs=fields.mapping("chat_template_kwargs", {}),
    )


def _sampling(fields: Fields, defaults: SamplingParams) -> SamplingParams:
    limit = fields.integer("max_completion_tokens", 1, 2**31 - 1, None)
    return SamplingParams(
        max_tokens=limit if limit is not None else fields.integer("max_tokens", 1, 2**31 - 1, None),
        temperature=float(fields.number("temperature", 0, 2, defaults.temperature)),
        top_p=_top_p(fields, defaults.top_p),
        top_k=max(0, fields.integer("top_k", -1, 2**31 - 1, defaults.top_k)),
        min_p=float(fields.number("min_p", 0, 1, defaults.min_p)),
        seed=fields.integer("seed", -MAX_SEED, MAX_SEED, None),
    )


def _top_p(fields: Fields, default: float) -> float:
    value = float(fields.number("top_p", 0, 1, default))
    if value == 0:
        raise fields.wrong("top_p", "a number above 0 and at most 1")
    return value


def _messages(fields: Fields) -> tuple[Mapping[str, Any], ...]:
    messages = fields.objects("messages")
    if not messages:
        raise fields.wrong("messages", "at least one message")
    for index, message in enumerate(messages):
        _check_message(Fields(message, f"messages[{index}]"))
    return tuple(messages)


def _check_message(message: Fields) -> None:
    role = message.choice("role", ROLES)
    content = message.data.get("content")
    if isinstance(content, list):
        for index, part in enumerate(content):
            _check_part(part, f"{message.name('content')}[{index}]")
    elif content is None and role not in ("assistant", "function"):
        raise errors.missing(message.name("content"))
    elif content is not None and not isinstance(content, str):
        raise message.wrong("content", "a string or a list of parts")
    if role == "assistant":
        _check_tool_calls(message)


def _check_part(part: Any, path: str) -> None:
    if not isinstance(part, dict):
        raise errors.invalid_value(path, "expected an object")
    fields = Fields(part, path)
    if fields.text("type") not in ("text", "refusal"):
        raise errors.unsupported(fields.name("type"), "the loaded models read text parts only")
    fields.text(part["type"])


def _check_tool_calls(message: Fields) -> None:
    for index, call in enumerate(message.objects("tool_calls", ())):
        path = f"{message.name('tool_calls')}[{index}]"
        function = Fields(call, path).mapping("function")
        Fields(function, f"{path}.function").text("name")


def _tools(fields: Fields) -> tuple[Mapping[str, Any], ...]:
    tools = fields.objects("tools", ())
    if len(tools) > MAX_TOOLS:
        raise fields.wrong("tools", f"at most {MAX_TOOLS} tools")
    for index, tool in enumerate(tools):
        path = f"tools[{index}]"
        Fields(tool, path).choice("type", ("function",))
        Fields(Fields(tool, path).mapping("function"), f"{path}.function").text("name")
    return () if _tool_choice(fields) == "none" else tuple(tools)


def _tool_choice(fields: Fields) -> str:
    choice = fields.data.get("tool_choice")
    if choice is None or choice in ("auto", "none"):
        return choice or "auto"
    if choice == "required" or isinstance(choice, dict):
        raise errors.unsupported("tool_choice", "this build decodes without a grammar; use 'auto' or 'none'")
    raise fields.wrong("tool_choice", "'auto' or 'none'")


def _stops(fields: Fields) -> tuple[str, ...]:
    stop = fields.data.get("stop")
    stops = [] if stop is None else [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or not all(isinstance(each, str) for each in stops):
        raise fields.wrong("stop", "a string or a list of strings")
    if len(stops) > MAX_STOPS or any(not 0 < len(each) <= MAX_STOP_LENGTH for each in stops):
        raise fields.wrong("stop", f"at most {MAX_STOPS} strings of 1 to {MAX_STOP_LENGTH} characters")
    return tuple(stops)


def _include_usage(fields: Fields, *, stream: bool) -> bool:
    options = fields.mapping("stream_options", None)
    if options is None:
        return False
    if not stream:
        raise errors.invalid_value("stream_options", "only allowed together with 'stream': true")
    return Fields(options, "stream_options").flag("include_usage")


def _refuse_unsupported(fields: Fields) -> None:
    """Refuse what would change the answer and is not acted on; a parameter at its neutral value passes."""
    if fields.integer("n", 1, 128, 1) != 1:
        raise errors.unsupported("n", "this build returns one choice per request")
    if fields.flag("logprobs"):
        raise errors.unsupported("logprobs", "this build does not return log probabilities")
    for key in ("presence_penalty", "frequency_penalty"):
        if fields.number(key, -2, 2, 0) != 0:
            raise errors.unsupported(key, "only 0 is supported by this build")
    if fields.number("repetition_penalty", 0, 10, 1) != 1:
        raise errors.unsupported("repetition_penalty", "only 1 is supported by this build")
    if fields.mapping("logit_bias", {}):
        raise errors.unsupported("logit_bias", "this build does not bias logits")
    if fields.mapping("response_format", {"type": "text"}).get("type") != "text":
        raise errors.unsupported("response_format", "this build decodes without a grammar; only 'text' is supported")


@frozen
class Usage:
    """Token counts of one request, exact: the prompt as rendered, the tokens as sampled."""

    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int = 0

    def to_json(self) -> dict[str, Any]:
        """OpenAI's ``usage`` object."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
        }


@frozen
class Head:
    """What every piece of one response repeats."""

    id: str
    model: str
    created: int

    def chunk(self, delta: Mapping[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        """A streamed chunk with one choice."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return self._object("chat.completion.chunk", [choice])

    def usage_chunk(self, usage: Usage) -> dict[str, Any]:
        """The chunk after the last choice when ``include_usage`` was asked for."""
        return self._object("chat.completion.chunk", []) | {"usage": usage.to_json()}

    def completion(self, message: Mapping[str, Any], finish_reason: str, usage: Usage) -> dict[str, Any]:
        """The whole response of a request that does not stream."""
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
        return self._object("chat.completion", [choice]) | {"usage": usage.to_json()}

    def _object(self, kind: str, choices: list[Any]) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": choices}
