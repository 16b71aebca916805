"""``POST /tokenize``: the token ids a prompt would have, without running anything.

Source: vLLM's documentation of its tokenizer API, whose requests and answers these are.
"""

from typing import Any

from helexa.neuron.prepare import beside_the_loop, render
from helexa.neuron.service import Service
from helexa.text import ChatTokenizer
from helexa.wire import chat, errors
from helexa.wire.fields import Fields


async def tokenize(service: Service, body: dict[str, Any], size: int) -> dict[str, Any]:
    """Messages as a chat request has them, tools and the template's variables among them, or a ``prompt`` as it is.

    Args:
        service: knows the model.
        body: the request.
        size: its bytes.

    Returns:
        ``count``, ``tokens``, and ``max_model_len``, which is ``None`` while the model loads.

    Raises:
        ApiError: a field is wrong, or the model is not known.
    """
    fields = Fields(body)
    model = fields.text("model")
    ids = await _ids(service.face(model).text, fields, size)
    limit = service.report(model).limit
    return {"count": len(ids), "max_model_len": None if limit is None else limit.context, "tokens": ids}


async def _ids(text: ChatTokenizer, fields: Fields, size: int) -> list[int]:
    if not fields.has("prompt"):
        header = fields.flag("add_generation_prompt", default=True)
        return (await render(text, chat.parse(fields.data), size, header=header)).ids
    if fields.has("messages"):
        raise errors.invalid_value("prompt", "it and 'messages' exclude each other")
    prompt, special = fields.text("prompt"), fields.flag("add_special_tokens", default=True)
    return await beside_the_loop(lambda: text.encode(prompt, add_special_tokens=special), size, "prompt")
