"""The same short answer as servers of each kind give it, whole and streamed."""

from typing import Any

import orjson

TEXT = "Hällo 🦀"
USAGE = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
HEAD = {"id": "chatcmpl-1", "created": 1, "model": "up"}
COMPLETION = {
    **HEAD,
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
    "usage": USAGE,
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "up",
    "content": [{"type": "text", "text": TEXT}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 5},
}
OLLAMA = {
    "model": "up",
    "created_at": "2025-01-01T00:00:00Z",
    "message": {"role": "assistant", "content": TEXT},
    "done": True,
    "done_reason": "stop",
    "prompt_eval_count": 3,
    "eval_count": 5,
}
WHOLE: dict[str, Any] = {"openai": COMPLETION, "anthropic": MESSAGE, "ollama": OLLAMA, "neuron": COMPLETION}


def _chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {
        **HEAD,
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
    }


def _events(*payloads: dict[str, Any], named: bool = False) -> bytes:
    heads = (b"event: " + each["type"].encode() + b"\n" if named else b"" for each in payloads)
    return b"".join(head + b"data: " + orjson.dumps(each) + b"\n\n" for head, each in zip(heads, payloads, strict=True))


CHUNKS = _events(
    _chunk({"role": "assistant", "content": ""}),
    _chunk({"content": TEXT[:3]}),
    _chunk({"content": TEXT[3:]}),
    _chunk({}, "stop"),
    {**HEAD, "object": "chat.completion.chunk", "choices": [], "usage": USAGE},
)
STREAMS: dict[str, tuple[str, bytes]] = {
    "openai": ("text/event-stream", CHUNKS + b"data: [DONE]\n\n"),
    "anthropic": (
        "text/event-stream; charset=utf-8",
        _events(
            {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": TEXT[:3]}},
            {"type": "ping"},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": TEXT[3:]}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
            {"type": "message_stop"},
            named=True,
        ),
    ),
    "ollama": (
        "application/x-ndjson",
        b"".join(
            orjson.dumps({**OLLAMA, "message": {"role": "assistant", "content": text}, "done": done}) + b"\n"
            for text, done in ((TEXT[:3], False), (TEXT[3:], False), ("", True))
        ),
    ),
}
STREAMS["neuron"] = STREAMS["openai"]
