"""Schemas of OpenAI's Responses and of Anthropic's Messages, as this build reads them. Pure.

Sources: OpenAI API reference, "Create a model response"; Anthropic API reference, "Create a Message".
"""

from typing import Final

from helexa.cortex.openapi.chat import STOP
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
from helexa.wire import chat, decoding

_INPUT_PART = any_of(
    table(["type", "text"], type=one_of("input_text", "output_text"), text=TEXT),
    table(["type", "image_url"], type=one_of("input_image"), image_url=TEXT),
)
_INPUT_ITEM = any_of(
    table(
        ["role", "content"],
        type=one_of("message"),
        role=one_of("user", "assistant", "system", "developer"),
        content=any_of(TEXT, items(_INPUT_PART)),
    ),
    table(
        ["type", "call_id", "name", "arguments"], type=one_of("function_call"), call_id=NAME, name=NAME, arguments=TEXT
    ),
    table(
        ["type", "call_id", "output"],
        type=one_of("function_call_output"),
        call_id=NAME,
        output=any_of(TEXT, items(_INPUT_PART)),
    ),
    table(
        ["type", "summary"],
        type=one_of("reasoning"),
        summary=items(table(["type", "text"], type=one_of("summary_text"), text=TEXT)),
    ),
)
_RESPONSE_TOOL = table(
    ["type", "name"], type=one_of("function"), name=NAME, description=nullable(TEXT), parameters=nullable(ANYTHING)
)
_TEXT_FORMAT = any_of(
    table(["type"], type=one_of("text", "json_object")),
    table(["type", "name", "schema"], type=one_of("json_schema"), name=TEXT, schema=ANYTHING, strict=nullable(FLAG)),
)

_SOURCE = any_of(
    table(["type", "media_type", "data"], type=one_of("base64", "text"), media_type=TEXT, data=TEXT),
    table(["type", "url"], type=one_of("url"), url=TEXT),
)
_TEXT_BLOCK = table(["type", "text"], type=one_of("text"), text=TEXT)
_USER_BLOCK = any_of(
    _TEXT_BLOCK,
    table(["type", "source"], type=one_of("image", "document"), source=_SOURCE),
    table(
        ["type", "tool_use_id"],
        type=one_of("tool_result"),
        tool_use_id=TEXT,
        content=any_of(TEXT, items(_TEXT_BLOCK)),
        is_error=FLAG,
    ),
)
_ASSISTANT_BLOCK = any_of(
    _TEXT_BLOCK,
    table(["type", "id", "name", "input"], type=one_of("tool_use"), id=TEXT, name=TEXT, input=ANYTHING),
    table(["type", "thinking"], type=one_of("thinking"), thinking=TEXT, signature=TEXT),
)
_TURN = any_of(
    table(["role", "content"], role=one_of("user"), content=any_of(TEXT, items(_USER_BLOCK))),
    table(["role", "content"], role=one_of("assistant"), content=any_of(TEXT, items(_ASSISTANT_BLOCK))),
)
_MESSAGE_TOOL = table(["name", "input_schema"], name=NAME, description=TEXT, input_schema=ANYTHING)
_PROMPT: dict[str, Schema] = {
    "model": TEXT,
    "system": any_of(TEXT, items(_TEXT_BLOCK)),
    "messages": items(_TURN, least=1),
    "tools": items(_MESSAGE_TOOL),
    "tool_choice": table(
        ["type"], type=one_of("auto", "any", "tool", "none"), name=TEXT, disable_parallel_tool_use=FLAG
    ),
    "thinking": any_of(
        table(["type", "budget_tokens"], type=one_of("enabled"), budget_tokens=whole(1024, MOST)),
        table(["type"], type=one_of("adaptive", "disabled")),
    ),
}

SCHEMAS: Final[dict[str, Schema]] = {
    "ResponseRequest": table(
        ["model", "input"],
        model=TEXT,
        input=any_of(TEXT, items(_INPUT_ITEM, least=1)),
        instructions=nullable(TEXT),
        tools=nullable(items(_RESPONSE_TOOL)),
        tool_choice=nullable(
            any_of(one_of("auto", "none", "required"), table(["type", "name"], type=one_of("function"), name=NAME))
        ),
        parallel_tool_calls=nullable(FLAG),
        text=nullable(table(format=nullable(_TEXT_FORMAT))),
        reasoning=nullable(table(effort=nullable(one_of(*chat.EFFORTS)), summary=nullable(TEXT))),
        max_output_tokens=nullable(whole(1, MOST)),
        temperature=nullable(between(0, 2)),
        top_p=nullable(ABOVE_ZERO),
        store=nullable(FLAG),
        stream=nullable(FLAG),
    ),
    "Response": table(
        ["id", "object", "status", "model", "output"],
        id=TEXT,
        object=one_of("response"),
        created_at=NUMBER,
        status=one_of("completed", "incomplete", "failed"),
        model=TEXT,
        output=items(ANYTHING),
        usage=nullable(ANYTHING),
    ),
    "MessageRequest": table(
        ["model", "messages", "max_tokens"],
        max_tokens=whole(1, MOST),
        stop_sequences=items(STOP, most=decoding.MAX_STOPS),
        temperature=between(0, 1),
        top_p=ABOVE_ZERO,
        top_k=COUNT,
        stream=FLAG,
        metadata=ANYTHING,
        **_PROMPT,
    ),
    "Message": table(
        ["id", "type", "role", "content", "model", "usage"],
        id=TEXT,
        type=one_of("message"),
        role=one_of("assistant"),
        content=items(ANYTHING),
        model=TEXT,
        stop_reason=nullable(TEXT),
        stop_sequence=nullable(TEXT),
        usage=table(["input_tokens", "output_tokens"], input_tokens=COUNT, output_tokens=COUNT),
    ),
    "CountTokensRequest": table(["model", "messages"], **_PROMPT),
    "CountTokens": table(["input_tokens"], input_tokens=COUNT),
    "MessageError": table(
        ["type", "error"],
        type=one_of("error"),
        error=table(["type", "message"], type=TEXT, message=TEXT),
        request_id=nullable(TEXT),
    ),
    "Error": table(["error"], error=ref("ErrorBody")),
    "ErrorBody": table(
        ["message", "type", "code", "param"], message=TEXT, type=TEXT, code=nullable(TEXT), param=nullable(TEXT)
    ),
}
