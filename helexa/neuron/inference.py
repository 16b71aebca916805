"""``POST /v1/chat/completions``: read, render, submit, stream.

A request's life here: body checked, prompt rendered, engine asked, tokens to text, exactly one end. The generation is
closed on every way out, which is what aborts it when the client has gone.
"""

from time import time
from typing import Any, Self
from uuid import uuid4

import trio
from attrs import evolve, frozen

from helexa.neuron.answer import Answer, Message, delta_json
from helexa.neuron.ports import End, Generation, Progress
from helexa.neuron.service import Service
from helexa.text import ChatTokenizer, Delta, TextError, prompt_opens_reasoning
from helexa.web.asgi import Ending, EventStream, one_end, read_body, run_while_connected, send_body
from helexa.web.server import Drain, Receive, Scope, Send
from helexa.wire import chat, errors, sse
from helexa.wire.chat import ChatRequest, Head
from helexa.wire.errors import ApiError
from helexa.wire.fields import Fields, parse_object

_INLINE_BYTES = 16_384
"""Bodies up to this size are tokenized on the event loop: below a millisecond, less than a thread costs under load."""


async def chat_completions(service: Service, drain: Drain, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one request, whatever happens: an answer, or one error in its place."""
    stream = EventStream(send)
    async with one_end(stream, "chat.fault"):
        body = await read_body(scope, receive)
        with await _begin(service, parse_object(body), len(body)) as exchange:
            ending = await run_while_connected(lambda: exchange.answer(send, stream), receive, drain)
        if ending is Ending.CUT:
            raise errors.shutting_down()


async def _begin(service: Service, body: dict[str, Any], size: int) -> "_Exchange":
    model = Fields(body).text("model")
    face = service.face(model)
    request = chat.parse(body, face.defaults)
    prompt, inside_reasoning = await _tokenize(face.text, request, size)
    limit = service.report(request.model).limit
    if limit is not None and len(prompt) > limit.input:
        raise errors.context_length_exceeded(limit.context, len(prompt))
    sampling = evolve(request.sampling, stop_token_ids=tuple(face.text.eos_ids))
    generation = service.engines.submit(request.model, prompt, sampling)
    head = Head(f"chatcmpl-{uuid4().hex}", request.model, int(time()))
    answer = Answer.begin(face.text, request, len(prompt), inside_reasoning=inside_reasoning)
    return _Exchange(request, head, generation, answer)


async def _tokenize(text: ChatTokenizer, request: ChatRequest, size: int) -> tuple[list[int], bool]:
    """The prompt's ids, and whether it ends inside a reasoning block."""

    def run() -> tuple[list[int], bool]:
        tools = request.tools or None
        prompt = text.render(request.messages, tools=tools, template_kwargs=request.template_kwargs)
        return text.encode(prompt), text.supports_thinking and prompt_opens_reasoning(prompt)

    try:
        return run() if size <= _INLINE_BYTES else await trio.to_thread.run_sync(run)
    except TextError as error:
        raise errors.invalid_value("messages", str(error).removesuffix(".")) from None


@frozen(eq=False)
class _Exchange:
    """One request that the engine has taken. A context manager: leaving it ends the generation."""

    request: ChatRequest
    head: Head
    generation: Generation
    text: Answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.generation.close()

    async def answer(self, send: Send, stream: EventStream) -> None:
        """Send the whole answer, streamed or not."""
        if self.request.stream:
            await self._stream(stream)
        else:
            await self._whole(send)

    async def _whole(self, send: Send) -> None:
        message = Message()
        while (end := (progress := await self._progress()).end) is None:
            message.add(self.text.push(progress.ids))
        message.add([*self.text.push(progress.ids), *self.text.finish()])
        body = self.head.completion(message.to_json(), self.text.finish_reason(end.reason), self.text.usage())
        await send_body(send, 200, sse.dumps(body))

    async def _stream(self, stream: EventStream) -> None:
        await stream.write(sse.event(self.head.chunk({"role": "assistant", "content": ""})))
        while (end := (progress := await self._progress()).end) is None:
            # One write for all that has come since the last: a slow client gets fewer, larger writes.
            await stream.write(self._events(self.text.push(progress.ids)))
        last = self._events([*self.text.push(progress.ids), *self.text.finish()])
        last += sse.event(self.head.chunk({}, self.text.finish_reason(end.reason)))
        if self.request.include_usage:
            last += sse.event(self.head.usage_chunk(self.text.usage()))
        await stream.write(last)
        await stream.end(sse.DONE)

    def _events(self, deltas: list[Delta]) -> bytes:
        return b"".join(sse.event(self.head.chunk(delta_json(delta))) for delta in deltas)

    async def _progress(self) -> Progress:
        """News from the engine. A stop string found is an end of its own: the engine need not run on."""
        if self.text.stopped:
            return Progress((), End("stop"))
        progress = await self.generation.progress()
        if progress.end is not None and progress.end.reason in ("failed", "abort"):
            raise _failure(progress.end)
        return progress


def _failure(end: End) -> ApiError:
    message = end.error or "The engine gave the request up."
    match end.code:
        case "context_length_exceeded" as code:
            return ApiError(400, message, "invalid_request_error", code, "messages")
        case "rate_limit_exceeded":
            return errors.rate_limited(message, 1)
        case "service_unavailable":
            return errors.unavailable(message, 2)
        case _:
            return errors.upstream_error(message)
