"""How much a request may hold: messages and pictures, counted alike in all dialects. Pure."""

from typing import Any, Final

from config import Limits
from helexa.wire import errors
from helexa.wire.dialect import Json

_CONVERSATIONS: Final = ("messages", "input")
"""Where chats and Messages requests have theirs, and where Responses do."""
_PICTURES: Final = ("image_url", "input_image", "image", "computer_screenshot")
"""Types of parts: of chats, of Responses, of Messages, of what a tool of Responses has seen."""
_NESTS: Final = ("content", "output", "source")
"""Keys that hold parts: of messages, of what tools returned, of documents."""


def check_size(body: Json, limits: Limits) -> None:
    """Refuse a request with more messages, or more pictures, than there may be.

    Args:
        body: the request as it was parsed, in any dialect, not checked otherwise.
        limits: the topology's.

    Raises:
        ApiError: 400 ``invalid_value``, naming the conversation.
    """
    for name in _CONVERSATIONS:
        found = body.get(name)
        if isinstance(found, list):
            _check(name, "messages", len(found), limits.messages)
            _check(name, "pictures", _pictures(found), limits.images)


def _check(param: str, what: str, count: int, most: int) -> None:
    if count > most:
        raise errors.invalid_value(param, f"expected at most {most} {what}, and there are {count}")


def _pictures(items: list[Any]) -> int:
    """Pictures at any depth; without recursion, as the depth is the client's to choose."""
    count, left = 0, [items]
    while left:
        for item in left.pop():
            if isinstance(item, dict):
                count += item.get("type") in _PICTURES
                left.extend(_nested(item))
    return count


def _nested(item: Json) -> list[list[Any]]:
    found = (item.get(key) for key in _NESTS)
    return [each if isinstance(each, list) else [each] for each in found if isinstance(each, list | dict)]
