"""Schemas of OpenAI's chat and text completions, as this build reads them. Pure.

Source: OpenAI API reference, "Create chat completion" and "Create completion"; vLLM's names where OpenAI has none.
"""

from typing import Final

from helexa.cortex.openapi.parts import (
    ABOVE_ZERO,
    ANYTHING,
    COUNT,
    FLAG,
    MOST,
    NAME,
    NUMBER,
    TEXT,
    Schema,
    any_of,
    between,
    items,
    nullable,
    one_of,
    ref,
    table,
    whole,
)
from helexa.wire import chat, decoding, tools
from helexa.wire.sampling import MAX_SEED

STOP: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": decoding.MAX_STOP_LENGTH}

SAMPLING: Final[dict[str, Schema]] = {
    "n": nullable(whole(1, decoding.MAX_CHOICES)),
    "max_tokens": nullable(whole(1, MOST)),
    "min_tokens": nullable(whole(0, MOST)),
    "temperature": nullable(between(0, 2)),
    "top_p": nullable(ABOVE_ZERO),
    "top_k": nullable(whole(-1, MOST)),
    "min_p": nullable(between(0, 1)),
    "presence_penalty": nullable(between(-2, 2)),
    "frequency_penalty": nullable(between(-2, 2)),
    "repetition_penalty": nullable({"type": "number", "exclusiveMinimum": 0, "maximum": 10}),
    "logit_bias": nullable({"type": "object", "additionalProperties": between(-100, 100)}),
    "seed": nullable(whole(-MAX_SEED, MAX_SEED)),
    "stop": nullable(any_of(STOP, items(STOP, most=decoding.MAX_STOPS))),
    "stop_token_ids": nullable(items(whole(0, MOST), most=decoding.MAX_STOP_TOKENS)),
    "ignore_eos": nullable(FLAG),
    "stream": nullable(FLAG),
    "stream_options": nullable(table(include_usage=nullable(FLAG))),
}

_PART = any_of(
    table(["type", "text"], type=one_of("text"), text=TEXT),
    table(["type", "image_url"], type=one_of("image_url"), image_url=table(["url"], url=TEXT)),
)
_CALL = table(["function"], id=TEXT, type=one_of("function"), function=table(["name"], name=TEXT, arguments=TEXT))
_CONTENT = any_of(TEXT, items(_PART))
_SPOKEN = one_of("assistant", "function")
_MESSAGE = any_of(
    table(
        ["role", "content"],
        role=one_of(*(role for role in chat.ROLES if role not in _SPOKEN["enum"])),
        content=_CONTENT,
        tool_call_id=TEXT,
        name=TEXT,
    ),
    table(
        ["role"],
        role=_SPOKEN,
        content=nullable(_CONTENT),
        reasoning_content=nullable(TEXT),
        tool_calls=items(_CALL),
        name=TEXT,
    ),
)
TOOL: Final = table(
    ["type", "function"],
    type=one_of("function"),
    function=table(["name"], name=NAME, description=nullable(TEXT), parameters=nullable(ANYTHING)),
)
_CHOICE = any_of(
    one_of("auto", "none", "required"),
    table(["type", "function"], type=one_of("function"), function=table(["name"], name=TEXT)),
)
_FORMAT = any_of(
    table(["type"], type=one_of("text", "json_object")),
    table(
        ["type", "json_schema"],
        type=one_of("json_schema"),
        json_schema=table(["name", "schema"], name=TEXT, schema=ANYTHING, strict=nullable(FLAG)),
    ),
)
_USAGE = table(
    ["prompt_tokens", "completion_tokens", "total_tokens"],
    prompt_tokens=COUNT,
    completion_tokens=COUNT,
    total_tokens=COUNT,
)

SCHEMAS: Final[dict[str, Schema]] = {
    "ChatRequest": table(
        ["model", "messages"],
        model=TEXT,
        messages=items(ref("ChatMessage"), least=1),
        tools=nullable(items(TOOL, most=tools.MAX_TOOLS)),
        tool_choice=nullable(_CHOICE),
        parallel_tool_calls=nullable(FLAG),
        response_format=nullable(_FORMAT),
        reasoning_effort=nullable(one_of(*chat.EFFORTS)),
        chat_template_kwargs=nullable(ANYTHING),
        logprobs=nullable(FLAG),
        top_logprobs=nullable(whole(0, decoding.MAX_TOP_LOGPROBS)),
        max_completion_tokens=nullable(whole(1, MOST)),
        **SAMPLING,
    ),
    "ChatMessage": _MESSAGE,
    "ChatCompletion": table(
        ["id", "object", "created", "model", "choices"],
        id=TEXT,
        object=one_of("chat.completion"),
        created=NUMBER,
        model=TEXT,
        choices=items(table(["index", "message"], index=COUNT, message=ANYTHING, finish_reason=nullable(TEXT))),
        usage=nullable(_USAGE),
    ),
    "CompletionRequest": table(
        ["model", "prompt"],
        model=TEXT,
        prompt=any_of(TEXT, items(TEXT, least=1), items(COUNT, least=1), items(items(COUNT, least=1), least=1)),
        suffix=nullable(TEXT),
        echo=nullable(FLAG),
        logprobs=nullable(whole(0, 5)),
        **SAMPLING | {"max_tokens": nullable(whole(0, MOST))},
    ),
    "Completion": table(
        ["id", "object", "created", "model", "choices"],
        id=TEXT,
        object=one_of("text_completion"),
        created=NUMBER,
        model=TEXT,
        choices=items(table(["index", "text"], index=COUNT, text=TEXT, finish_reason=nullable(TEXT))),
        usage=nullable(_USAGE),
    ),
}
