"""``POST /v1/chat/completions`` and ``POST /v1/completions``: read, prepare, submit, answer.

A request's life here: body checked, prompt made ready, grammar compiled, engine asked, tokens to text, exactly one end.
The generation is closed on every way out, which is what aborts it when the client has gone.
"""

from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from time import time
from typing import Any
from uuid import uuid4

from attrs import frozen

from helexa.neuron.answer import Answer
from helexa.neuron.exchange import Exchange
from helexa.neuron.ports import Generation
from helexa.neuron.prepare import Prepared, echoes, prepare, prepare_texts
from helexa.neuron.service import Service
from helexa.neuron.shapes import ChatWriter
from helexa.neuron.texts import TextWriter
from helexa.neuron.together import Together
from helexa.web.asgi import Ending, EventStream, header, one_end, read_body, run_while_connected
from helexa.web.server import App, Drain, Receive, Scope, Send
from helexa.wire import chat, completions, decoding, errors, meter, tenant
from helexa.wire.completion import Head
from helexa.wire.completions import TextHead
from helexa.wire.fields import Fields, parse_object
from helexa.wire.meter import Allowance


@frozen
class Told:
    """What the gateway says of a request, beside its body.

    Attributes:
        key: whose it is.
        allowance: what it may use; ``None``: no limit.
        metered: whether the gateway wants to know what is used.
    """

    key: str = ""
    allowance: Allowance | None = None
    metered: bool = False

    @classmethod
    def of(cls, scope: Scope) -> "Told":
        """Its headers. The guard in front of us has let the caller in, so what it says is believed.

        Raises:
            ApiError: they cannot be read.
        """
        return cls(
            tenant.read(header(scope, tenant.HEADER)),
            meter.read_allowance(header(scope, meter.BUDGET)),
            header(scope, meter.HEADER) == meter.ON,
        )


_METERED = [(meter.HEADER, meter.ON)]
Begin = Callable[[Service, dict[str, Any], int, Told], Awaitable[tuple[Exchange, bool]]]
"""From a body, its size and what the gateway says of it to an exchange, and whether to stream it."""


def handlers(service: Service, drain: Drain) -> dict[str, App]:
    """The handlers by path."""
    return {
        "/v1/chat/completions": _Handler("chat.fault", _begin_chat, service, drain),
        "/v1/completions": _Handler("completions.fault", _begin_texts, service, drain),
    }


@frozen
class _Handler:
    """An ASGI application of one route. ``fault`` is what the log calls an unforeseen error of it."""

    fault: str
    begin: Begin
    service: Service
    drain: Drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, whatever happens: an answer, or one error in its place."""
        stream = EventStream(send, _METERED if header(scope, meter.HEADER) == meter.ON else None)
        async with one_end(stream, self.fault):
            body = await read_body(scope, receive)
            exchange, streams = await self.begin(self.service, parse_object(body), len(body), Told.of(scope))
            with exchange:
                work = partial(exchange.stream, stream) if streams else partial(exchange.send_whole, send)
                ending = await run_while_connected(work, receive, self.drain)
            if ending is Ending.CUT:
                raise errors.shutting_down()


async def _begin_chat(service: Service, body: dict[str, Any], size: int, told: Told) -> tuple[Exchange, bool]:
    face = service.face(Fields(body).text("model"))
    request = chat.parse(body, face.defaults, face.text.vocab_size)
    prepared = _within(service, await prepare(service, face, request, size), body, told.allowance)
    inside = prepared.inside_reasoning
    answers = [
        Answer.begin(face.text, request, prepared.ends, inside_reasoning=inside) for _ in range(prepared.choices)
    ]
    writer = ChatWriter(request, Head(f"chatcmpl-{uuid4().hex}", request.model, int(time())))
    generation = _submit(service, request.model, prepared, told.key)
    found = Exchange(writer, prepared.tokens, generation, tuple(answers), request.sampling.n, told.metered)
    return found, request.stream


async def _begin_texts(service: Service, body: dict[str, Any], size: int, told: Told) -> tuple[Exchange, bool]:
    face = service.face(Fields(body).text("model"))
    request = completions.parse(body, face.defaults, face.text.vocab_size)
    prepared = _within(service, await prepare_texts(service, face, request, size), body, told.allowance)
    answers = [Answer.of_text(face.text, request, prepared.ends) for _ in range(prepared.choices)]
    head = TextHead(f"cmpl-{uuid4().hex}", request.model, int(time()))
    writer = TextWriter(request, head, echoes(face.text, request))
    generation = _submit(service, request.model, prepared, told.key)
    found = Exchange(writer, prepared.tokens, generation, tuple(answers), request.sampling.n, told.metered)
    return found, request.stream


def _within(service: Service, prepared: Prepared, body: dict[str, Any], allowance: Allowance | None) -> Prepared:
    """Keep to what the gateway allows.

    Raises:
        ApiError: ``budget_exceeded``.
    """
    if allowance is None:
        return prepared
    fields = Fields(body)
    limit = service.report(fields.text("model")).limit
    asked = decoding.max_tokens(fields, 0)  # whether none at all may be wanted was checked before
    return prepared.within(allowance, asked, None if limit is None else limit.context)


def _submit(service: Service, model: str, prepared: Prepared, key: str) -> Generation:
    """Start a generation for each prompt: all of them, or none."""
    with ExitStack() as undo:
        parts: list[Generation] = []
        for ids in prepared.prompts:
            parts.append(service.engines.submit(model, ids, prepared.sampling, key))
            undo.callback(parts[-1].close)
        undo.pop_all()
    return parts[0] if len(parts) == 1 else Together(tuple(parts), prepared.sampling.n)
