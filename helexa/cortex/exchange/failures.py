"""What to make of a target that did not answer as it should. Pure: what came in, who is told what out."""

import math
from collections.abc import Callable
from time import time

from attrs import define, evolve, field, frozen

from helexa.cortex.exchange import chats, retry
from helexa.cortex.exchange.answer import Plain
from helexa.cortex.exchange.kinds import Way
from helexa.cortex.exchange.relays import unreadable
from helexa.cortex.exchange.upstream import ConnectError, Patience, TimeoutExceededError
from helexa.web.asgi import Headers
from helexa.wire import errors
from helexa.wire.errors import ApiError

PASSED = (b"retry-after", b"retry-after-ms", b"x-should-retry", b"cache-control", b"warning")
_NOT_LET_IN = {
    401: "it does not accept this gateway's secret",
    402: "it asks for payment",
    403: "it does not accept this gateway's secret",
    407: "a proxy in front of it asks for credentials",
}
"""Between gateway and target. Passed on, it would tell a client that its own key is wrong."""
_BAD_REQUEST, _NOT_FOUND, _INTERNAL = 400, 404, 500
_SLOW = frozenset({408, 504})
_FULL = frozenset({503, 529})
_TOO_MANY = 429
_LATER_SECONDS = 5
_SECRETS = (b"authorization", b"x-api-key")

Lookup = Callable[[bytes], bytes | None]


@frozen
class Target:
    """Where a request may be sent.

    Attributes:
        name: what ``x-helexa-node`` says.
        title: what sentences call it: "node 'a'".
        base_url: the way's path is appended to it.
        model: the name it knows the model by.
        headers: sent with each request.
        patience: how long it may take.
        local: whether it is a node of this fleet.
        as_checked: the request is written anew for it even where the client's bytes would do.
    """

    name: str
    title: str
    base_url: str
    model: str
    headers: Headers = field(repr=False)
    patience: Patience
    local: bool = False
    as_checked: bool = False


@define(slots=False, eq=False)  # slots and BaseException.__traceback__ do not mix
class Failed(Exception):  # noqa: N818 - an outcome that the loop over targets handles, not an error to report
    """An attempt that got nothing to send to the client.

    Attributes:
        answer: what the client gets if nobody else does better.
        status: of the target's answer; 0 if there was none.
        connected: whether the target got the request at all.
        unloaded: whether it is a node that does not have the model any more.
        again: whether another try at the same target may mend it.
        sick: whether it speaks against the target's health.
        wait: seconds that the target asks to wait.
        quotes: whether the answer is in the target's words, which may repeat what it was asked.
    """

    answer: Plain | ApiError
    status: int = 0
    connected: bool = True
    unloaded: bool = False
    again: bool = False
    sick: bool = True
    wait: float | None = None
    quotes: bool = False

    def __str__(self) -> str:
        """For logs: nothing of what was asked."""
        in_our_words = isinstance(self.answer, ApiError) and not self.quotes
        return str(self.answer) if in_our_words else f"status {self.status}"


def broken(target: Target, error: Exception) -> Failed:
    """A connection that failed, or an answer that is none; ``error`` says so in a sentence that begins with "it"."""
    if isinstance(error, TimeoutExceededError):
        return Failed(errors.upstream_timeout(_sentence(target, str(error))))
    connected = not isinstance(error, ConnectError)
    garbled = isinstance(error, ValueError)  # it would be the next time, too
    # The readers' own sentences begin like this. What Python says of a value is for no client.
    reason = str(error) if not garbled or str(error).startswith(("it ", "its ")) else str(unreadable(error))
    return Failed(errors.upstream_error(_sentence(target, reason)), connected=connected, again=not garbled)


def told(target: Target, error: ApiError) -> Failed | ApiError:
    """An error in place of a stream's first event; as it is, where it is about the request itself."""
    error = evolve(error, message=_scrubbed(target, error.message.encode()).decode())
    if not _is_mendable(target, error.status):
        return error
    return Failed(error, error.status, again=True, sick=error.status != _TOO_MANY, quotes=True)


def refused(target: Target, way: Way, status: int, header: Lookup, body: bytes) -> Failed | Plain | ApiError:
    """An answer whose status is no success.

    Returns:
        The answer itself where the request is at fault, so that nobody else would do better; else ``Failed``.
    """
    if (reason := _NOT_LET_IN.get(status)) is not None:
        return Failed(errors.upstream_error(_sentence(target, reason)), status, sick=False)
    wait = retry.asked_wait(header, time())
    answer = _answer(way, status, header, _scrubbed(target, body), wait)
    if _is_mendable(target, status):
        sick = status != _TOO_MANY
        told_by = answer or _in_our_words(target, status, wait)
        return Failed(told_by, status, again=True, sick=sick, wait=wait, quotes=answer is not None)
    if answer is None:
        return Failed(_in_our_words(target, status, wait), status, sick=False)
    if target.local and _is_unloaded(status, body):
        return Failed(answer, status, unloaded=True)
    return answer


def _scrubbed(target: Target, text: bytes) -> bytes:
    """What a target says, without what it was asked with: there are servers whose errors repeat it."""
    for name, value in target.headers:
        if name in _SECRETS and (secret := value.removeprefix(b"Bearer ")):
            text = text.replace(secret, b"***")
    return text


def _is_mendable(target: Target, status: int) -> bool:
    """Whether another try, or another target, may do better. How full a node is, its client is to know."""
    return status >= _INTERNAL or (status in (408, _TOO_MANY) and not target.local)


def _is_unloaded(status: int, body: bytes) -> bool:
    """Whether a node says that it does not have the model, which it had a moment ago."""
    error = chats.error_from(status, body) if status == _NOT_FOUND else None
    return error is not None and error.code == "model_not_found"


def _answer(way: Way, status: int, header: Lookup, body: bytes, wait: float | None) -> Plain | ApiError | None:
    found = way.refusal(status, body) if status >= _BAD_REQUEST else None
    if isinstance(found, bytes):
        return Plain(status, found, passed(header))
    if found is None or wait is None or found.retry_after is not None:
        return found
    return _with_wait(found, wait)


def passed(header: Lookup) -> Headers:
    """The headers of a target's answer that are the client's, too."""
    return [(name, value) for name in PASSED if (value := header(name)) is not None]


def _with_wait(error: ApiError, wait: float) -> ApiError:
    return evolve(error, retry_after=math.ceil(wait))


def _in_our_words(target: Target, status: int, wait: float | None) -> ApiError:
    """An error that was told by its status alone, say by a proxy in between."""
    detail = _sentence(target, f"it answered with status {status}")
    seconds = _LATER_SECONDS if wait is None else math.ceil(wait)
    if status == _TOO_MANY:
        return errors.rate_limited(detail, seconds)
    if status in _FULL:
        return errors.unavailable(detail, seconds)
    return errors.upstream_timeout(detail) if status in _SLOW else errors.upstream_error(detail)


def _sentence(target: Target, reason: str) -> str:
    return f"The {target.title} failed this request: {reason}."
