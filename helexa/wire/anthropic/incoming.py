"""Messages read as chat completions. Source: Anthropic API reference, "Create a Message": the response."""

from time import time

from helexa.wire import completion
from helexa.wire.anthropic.shapes import ShapeError, finish_reason, optional, text, usage, written
from helexa.wire.completion import Head
from helexa.wire.dialect import Json


def to_completion(message: Json, created: int | None = None) -> Json:
    """A message as a chat completion.

    Args:
        message: the body of the answer.
        created: Unix time; a message does not tell.

    Raises:
        ValueError: it is no message; one sentence that begins with "it".
    """
    blocks = message.get("content")
    if message.get("type") != "message" or not isinstance(blocks, list):
        raise ShapeError("it sent something else than a message")
    if not all(isinstance(block, dict) for block in blocks):
        raise ShapeError("it sent content that is not a list of blocks")
    choice = completion.choice(0, _spoken(blocks), finish_reason(message.get("stop_reason")), None)
    choice |= stop(message)
    return head(message, created).completion([choice], usage(optional(message, "usage")))


def head(message: Json, created: int | None) -> Head:
    """What every piece of the answer repeats; its id tells the upstream's."""
    return Head(f"chatcmpl-{text(message, 'id')}", text(message, "model"), int(time()) if created is None else created)


def stop(holder: Json) -> Json:
    """The stop sequence that ended it, under vLLM's name for it; OpenAI has none."""
    found = holder.get("stop_sequence")
    return {"stop_reason": found} if isinstance(found, str) else {}


def _spoken(blocks: list[Json]) -> Json:
    said = "".join(text(block, "text") for block in blocks if block.get("type") == "text")
    thoughts = [text(block, "thinking") for block in blocks if block.get("type") == "thinking"]
    calls = [_call(block) for block in blocks if block.get("type") == "tool_use"]
    message: Json = {"role": "assistant", "content": said or (None if calls else ""), "refusal": None}
    if any(thoughts):
        message["reasoning_content"] = "\n".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return message


def _call(block: Json) -> Json:
    function = {"name": text(block, "name"), "arguments": written(block, "input")}
    return {"id": text(block, "id"), "type": "function", "function": function}
