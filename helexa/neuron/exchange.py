"""One request that the engine has taken: its choices followed to their ends, and their answers sent."""

import math
from collections.abc import Sequence
from typing import Protocol, Self

import trio
from attrs import frozen

from helexa.neuron.answer import Answer, Piece, usage
from helexa.neuron.ports import ChoiceNews, End, Generation
from helexa.web.asgi import EventStream, send_body
from helexa.web.server import Send
from helexa.wire import errors, meter, sse
from helexa.wire.completion import Usage
from helexa.wire.errors import ApiError

KEEP_ALIVE_SECONDS = 5.0
"""How long a stream is silent before a comment breaks the silence."""


class Writer(Protocol):
    """Answers in the shape of one endpoint.

    Attributes:
        prompt: the request's field with the prompt.
    """

    prompt: str

    def begin(self, choices: int) -> bytes:
        """The events before the first token of so many choices; may be empty."""

    def piece(self, index: int, piece: Piece) -> bytes:
        """The event that adds to a choice."""

    def end(self, index: int, answer: Answer) -> bytes:
        """The event that ends a choice."""

    def usage(self, found: Usage) -> bytes:
        """The event after all choices that tells what they cost; empty for who has not asked."""

    def whole(self, pieces: Sequence[Sequence[Piece]], answers: Sequence[Answer], found: Usage) -> bytes:
        """The body of an answer that does not stream."""


@frozen(eq=False)
class Exchange:
    """A context manager: leaving it ends the generation.

    Attributes:
        writer: puts answers into the shape that was asked for.
        prompt_tokens: of all prompts.
        generation: closed at the end.
        answers: one for each choice, prompt by prompt.
        n: choices of each prompt.
        metered: tell what has been used, as ``wire.meter`` says.
    """

    writer: Writer
    prompt_tokens: int
    generation: Generation
    answers: tuple[Answer, ...]
    n: int
    metered: bool = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.generation.close()

    async def send_whole(self, send: Send) -> None:
        """Send the answer in one piece.

        Raises:
            ApiError: the engine did not bring it to its end.
        """
        pieces: list[list[Piece]] = [[] for _ in self.answers]
        while self._unfinished():
            for news in await self.generation.progress():
                pieces[news.index] += self._take(news)
        found = self._usage()
        headers = [(meter.USAGE, meter.write_usage(_totals(found)))] if self.metered else None
        await send_body(send, 200, self.writer.whole(pieces, self.answers, found), headers)

    async def stream(self, stream: EventStream) -> None:
        """Send the answer while it is made.

        Raises:
            ApiError: the engine did not bring it to its end.
        """
        await stream.write(self._told(self.writer.begin(len(self.answers))))
        while self._unfinished():
            await stream.write(self._told(await self._next_events(stream)))
        await stream.write(self._told(self.writer.usage(self._usage())))
        await stream.end(sse.DONE)

    async def _next_events(self, stream: EventStream) -> bytes:
        """What comes next, or a comment if that takes long: long prompts, long queues and recoveries of the engine do.

        Not before the stream's first event: until then, a failure can still be an answer of its own.
        """
        with trio.move_on_after(KEEP_ALIVE_SECONDS if stream.started else math.inf):
            # One write for all that has come since the last: a slow client gets fewer, larger writes.
            return b"".join([self._events(news) for news in await self.generation.progress()])
        return sse.KEEP_ALIVE

    def _told(self, events: bytes) -> bytes:
        """The events of one write, and what has been used up to them."""
        return events + meter.comment(_totals(self._usage())) if events and self.metered else events

    def _events(self, news: ChoiceNews) -> bytes:
        events = [self.writer.piece(news.index, piece) for piece in self._take(news)]
        answer = self.answers[news.index]
        if answer.finish_reason is not None:
            events.append(self.writer.end(news.index, answer))
        return b"".join(events)

    def _take(self, news: ChoiceNews) -> list[Piece]:
        """What a choice's news add to its answer. One that is complete needs nothing more of the engine."""
        answer = self.answers[news.index]
        pieces = answer.push(news.ids, news.logprobs)
        if news.end is not None:
            if news.end.reason in ("failed", "abort") and not answer.stopped:
                raise _failure(news.end, self.writer.prompt)
            pieces += answer.finish(news.end.reason, news.end.cached_tokens)
        elif answer.stopped:
            self.generation.stop(news.index)
        return pieces

    def _unfinished(self) -> bool:
        return any(answer.finish_reason is None for answer in self.answers)

    def _usage(self) -> Usage:
        return usage(self.prompt_tokens, self.answers, self.n)


def _totals(found: Usage) -> meter.Totals:
    return found.prompt_tokens, found.completion_tokens, found.cached_tokens


def _failure(end: End, prompt: str) -> ApiError:
    message = end.error or "The engine gave the request up."
    match end.code:
        case "context_length_exceeded" as code:
            return ApiError(400, message, "invalid_request_error", code, prompt)
        case "invalid_value" as code:
            return ApiError(400, message, "invalid_request_error", code)
        case "rate_limit_exceeded":
            return errors.rate_limited(message, 1)
        case "service_unavailable":
            return errors.unavailable(message, 2)
        case _:
            return errors.upstream_error(message)
