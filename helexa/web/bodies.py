"""Request bodies, bounded each by itself and all together."""

from collections.abc import Callable
from typing import Final

from attrs import define

from config import Limits
from helexa.web.asgi import declared_length, discard_body, read_body
from helexa.web.server import Receive, Scope
from helexa.wire import errors
from helexa.wire.errors import ApiError

_RETRY_SECONDS: Final = 2


@define(eq=False)
class Bodies:
    """All bodies that a server holds; ``async with bodies.read(scope, receive) as raw: …``.

    What counts is what has come, not what was announced: announcing costs nothing.

    Attributes:
        limits: the topology's, as they are in force.
        held: bytes that are held now.
    """

    limits: Callable[[], Limits]
    held: int = 0

    def read(self, scope: Scope, receive: Receive) -> "Body":
        """The body of one request, which counts as held until the block is left.

        Raises:
            ApiError: when entered: 413 ``request_too_large``; 408 ``request_timeout``; 503 ``service_unavailable``,
                too much is held already.
            ClientGoneError: when entered: the client left in between.
        """
        return Body(self, scope, receive)


@define(eq=False)
class Body:
    """One request's body while it is held; entered once."""

    _bodies: Bodies
    _scope: Scope
    _receive: Receive
    _held: int = 0
    _most: int = 0

    async def __aenter__(self) -> bytes:
        limits = self._bodies.limits()
        self._most = min(limits.body, limits.bodies)
        if self._most >= declared_length(self._scope) > limits.bodies - self._bodies.held:
            await discard_body(self._receive, limits.body_timeout)
            raise _too_much_held()
        try:
            return await read_body(self._scope, self._receive, self._most, limits.body_timeout, self._take)
        except BaseException:
            self._release()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._release()

    def _take(self, more: int) -> ApiError | None:
        refusal = self._refusal(more)
        if refusal is not None:
            self._release()  # at once: the rest of it is still to be read, and dropped
            return refusal
        self._bodies.held += more
        self._held += more
        return None

    def _refusal(self, more: int) -> ApiError | None:
        if self._held + more > self._most:
            return errors.request_too_large(self._most)
        return _too_much_held() if self._bodies.held + more > self._bodies.limits().bodies else None

    def _release(self) -> None:
        self._bodies.held -= self._held
        self._held = 0


def _too_much_held() -> ApiError:
    return errors.unavailable(
        "The server holds as many request bodies as it may; try again in a moment.", _RETRY_SECONDS
    )
