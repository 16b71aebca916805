"""Messages and pictures of a request, in each dialect."""

from typing import Any

import pytest

from config import Limits
from helexa.cortex.exchange.sizes import check_size
from helexa.wire.errors import ApiError

LIMITS = Limits(messages=3, images=2)
CHAT = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
RESPONSES = {"type": "input_image", "image_url": "https://example.com/x.png"}
MESSAGES = {"type": "image", "source": {"type": "url", "url": "https://example.com/x.png"}}


def check(body: dict[str, Any]) -> None:
    check_size(body, LIMITS)


@pytest.mark.parametrize("name", ["messages", "input"])
def test_a_conversation_may_have_as_many_messages_as_is_said(name: str) -> None:
    check({name: [{"role": "user", "content": "x"}] * 3})
    with pytest.raises(ApiError, match=f"'{name}': expected at most 3 messages, and there are 4") as raised:
        check({name: [{"role": "user", "content": "x"}] * 4})
    assert (raised.value.status, raised.value.code, raised.value.param) == (400, "invalid_value", name)


@pytest.mark.parametrize(
    ("name", "items"),
    [
        ("messages", lambda n: [{"role": "user", "content": [CHAT] * n}]),
        ("messages", lambda n: [{"role": "user", "content": [CHAT]}] * n),
        ("messages", lambda n: [{"role": "tool", "content": [{"type": "text", "text": "x"}, *[CHAT] * n]}]),
        ("messages", lambda n: [{"role": "user", "content": [MESSAGES] * n}]),
        ("messages", lambda n: [{"role": "user", "content": [{"type": "tool_result", "content": [MESSAGES] * n}]}]),
        (
            "messages",
            lambda n: [{"content": [{"type": "document", "source": {"type": "content", "content": [MESSAGES] * n}}]}],
        ),
        ("input", lambda n: [{"role": "user", "content": [RESPONSES] * n}]),
        ("input", lambda n: [{"type": "function_call_output", "call_id": "1", "output": [RESPONSES] * n}]),
        ("input", lambda n: [{"type": "computer_call_output", "output": {"type": "computer_screenshot"}}] * n),
        ("input", lambda n: [RESPONSES] * n),
    ],
    ids=[
        "in one message of a chat",
        "over several",
        "from a tool",
        "in a message",
        "in a tool's result",
        "in a document",
        "in an item",
        "in a function's output",
        "seen by a computer",
        "as items",
    ],
)
def test_pictures_are_counted_wherever_they_are(name: str, items: Any) -> None:
    check({name: items(2)})
    with pytest.raises(ApiError, match=f"'{name}': expected at most 2 pictures, and there are 3") as raised:
        check({name: items(3)})
    assert (raised.value.status, raised.value.code, raised.value.param) == (400, "invalid_value", name)


def test_no_picture_at_all_can_be_asked_for() -> None:
    with pytest.raises(ApiError, match="at most 0 pictures, and there are 1"):
        check_size({"messages": [{"content": [CHAT]}]}, Limits(images=0))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": None, "input": "x"},
        {"messages": {"role": "user"}},
        {"messages": [None, 1, []]},
        {"messages": [{"content": [None, "x", [CHAT] * 9]}]},
        {"messages": ["x", {}]},
        {"messages": [{"type": ["image"], "content": {"type": {"a": []}}}]},
        {"prompt": ["x"] * 1000},
    ],
    ids=str,
)
def test_what_is_malformed_is_left_to_those_who_read_it(body: dict[str, Any]) -> None:
    check(body)


def test_depth_is_no_trouble() -> None:
    levels: list[dict[str, Any]] = [{"content": [CHAT] * 3}]
    for _ in range(50_000):
        levels.append({"content": [levels[-1]]})
    with pytest.raises(ApiError, match="there are 3"):
        check({"messages": [levels[-1]]})
    while levels:
        levels.pop().clear()  # from the outside in: a chain that long is not to be freed by recursion
