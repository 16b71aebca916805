"""OpenAI's older completions, for upstreams that know conversations only: the prompt is what a user says. Pure.

Source: OpenAI API reference, "Create completion". Where a server knows completions itself, they are passed on as they
are; this is for the others, and what cannot be said to them is refused.
"""

from typing import Any
from uuid import uuid4

from attrs import define, field

from helexa.cortex.exchange.chats import error_event
from helexa.wire import errors, sse
from helexa.wire.dialect import Json, Translated
from helexa.wire.errors import ApiError
from helexa.wire.fields import Fields

_DEFAULT_TOKENS = 16
_MOST_TOKENS = 2**31 - 1
_CARRIED = ("temperature", "top_p", "n", "stop", "seed", "presence_penalty", "frequency_penalty", "logit_bias", "user")
_REFUSED = ("suffix", "echo", "logprobs", "best_of")


def to_chat(body: Json) -> Translated:
    """The request as a chat.

    Raises:
        ApiError: the prompt is not one string, or what is asked for does not exist in a conversation.
    """
    fields = Fields(body)
    for key in _REFUSED:
        if body.get(key) not in (None, False, "") and (key, body[key]) != ("best_of", 1):
            raise errors.unsupported(key, "the provider that serves this model knows conversations only")
    chat: Json = {
        "model": fields.text("model"),
        "messages": [{"role": "user", "content": _prompt(fields)}],
        "max_completion_tokens": fields.integer("max_tokens", 1, _MOST_TOKENS, _DEFAULT_TOKENS),
        **{key: body[key] for key in _CARRIED if body.get(key) is not None},
    }
    if fields.flag("stream"):
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    return Translated(chat)


def _prompt(fields: Fields) -> str:
    prompt = fields.data.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if prompt is None:
        raise errors.missing("prompt")
    if not isinstance(prompt, str):
        raise errors.unsupported("prompt", "the provider that serves this model takes a single string")
    return prompt


def _new_id() -> str:
    return f"cmpl-{uuid4().hex}"


@define(eq=False)
class CompletionReply:
    """Implements ``dialect.Reply``."""

    include_usage: bool = False
    id: str = field(factory=_new_id)

    @classmethod
    def to(cls, body: Json) -> "CompletionReply":
        """The reply to a request."""
        options = body.get("stream_options")
        return cls(isinstance(options, dict) and options.get("include_usage") is True)

    def whole(self, completion: Json) -> Json:
        """The body of an answer in one piece."""
        choices = [_choice(each, each.get("message")) for each in completion["choices"]]
        return self._object(completion, choices) | {"usage": completion.get("usage")}

    def push(self, chunk: Json) -> bytes:
        """The chunk's text, or its usage."""
        choices = [_choice(each, each.get("delta")) for each in chunk["choices"]]
        if choices:
            told = [each for each in choices if each["text"] or each["finish_reason"]]
            return sse.event(self._object(chunk, told)) if told else b""
        return sse.event(self._object(chunk, []) | {"usage": chunk.get("usage")}) if self.include_usage else b""

    def finish(self) -> bytes:
        """The end mark."""
        return sse.DONE

    def fail(self, error: ApiError) -> bytes:
        """An error event and the end mark."""
        return error_event(error)

    def _object(self, answer: Json, choices: list[Json]) -> Json:
        head = {"id": self.id, "object": "text_completion", "created": answer.get("created")}
        return {**head, "model": answer.get("model"), "choices": choices}


def _choice(choice: Json, said: Any) -> Json:
    text = said.get("content") if isinstance(said, dict) else None
    return {
        "text": text if isinstance(text, str) else "",
        "index": choice.get("index", 0),
        "logprobs": None,
        "finish_reason": choice.get("finish_reason"),
    }
