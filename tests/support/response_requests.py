"""Requests for responses, and the parts that they are made of."""

from typing import Any

import pytest

from helexa.wire.errors import ApiError
from helexa.wire.responses.requests import to_chat

PIXEL = "data:image/png;base64,iVBORw0KGgo="
TOOL = {"type": "function", "name": "look", "description": "Look.", "parameters": {"type": "object"}, "strict": True}
STATELESS = "This endpoint is stateless: the response is not stored, whatever 'store' says."


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "helexa/tiny", "input": "Hi", "store": False, **fields}


def chat(**fields: Any) -> dict[str, Any]:
    return to_chat(body(**fields)).chat


def messages(*items: Any, **fields: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = chat(input=list(items), **fields)["messages"]
    return found


def refused(**fields: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        to_chat(body(**fields))
    return caught.value


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def call(id_: str = "call_1", arguments: str = "{}") -> dict[str, str]:
    return {"type": "function_call", "call_id": id_, "name": "look", "arguments": arguments}


def output(found: Any, id_: str = "call_1") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": id_, "output": found}


def thought(text: str) -> dict[str, Any]:
    return {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": text}]}


def called(id_: str = "call_1", arguments: str = "{}") -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": "look", "arguments": arguments}}
