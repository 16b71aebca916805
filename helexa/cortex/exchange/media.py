"""Pictures that a chat names by their address, for servers that take nothing but the pictures themselves.

They are fetched by ``helexa.web.fetching``, which decides what may be asked; here is how many, how much of them may be
held, and what the client is told. Only what is asked of a provider that cannot fetch is fetched at all.
"""

from base64 import b64encode
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import trio
from attrs import define, evolve, field

from config import Cortex, Media
from helexa.web.answers import FetchError
from helexa.web.fetching import Fetched, Fetcher, Wanted
from helexa.wire import errors
from helexa.wire.dialect import Json, Translated
from helexa.wire.errors import ApiError

AT_A_TIME = 16
"""Pictures that are on their way, of all requests together."""
_RETRY_SECONDS = 2


@define(eq=False)
class Pictures:
    """Fetches for a gateway's requests; one for all, as what they hold is bounded together.

    Attributes:
        fetcher: asks the internet.
        held: bytes of pictures that requests hold now.
    """

    fetcher: Fetcher = field(factory=Fetcher)
    held: int = 0
    _places: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(AT_A_TIME))

    def brought(self, chat: Translated, cortex: Cortex) -> "Brought":
        """``async with pictures.brought(chat, cortex) as chat``: the same with its pictures, held until the block ends.

        Args:
            chat: the client's request as a chat; it is not changed.
            cortex: says what may be fetched. If nothing may be, the chat is as it was.

        Raises:
            ApiError: when entered: 400 ``invalid_value``, naming the picture that cannot be had; 503
                ``service_unavailable``, too much is held already.
        """
        return Brought(self, chat, cortex)

    async def fetch(self, url: str, param: str, media: Media) -> Fetched | ApiError:
        """One picture, or the error that names it."""
        wanted = Wanted(domains=media.domains, max_bytes=media.max_bytes, timeout=media.timeout)
        try:
            async with self._places:
                return await self.fetcher.fetch(url, wanted)
        except FetchError as error:
            return errors.invalid_value(param, str(error))


@define(eq=False)
class Brought:
    """One request's pictures while they are held; entered once."""

    _pictures: Pictures
    _chat: Translated
    _cortex: Cortex
    _held: int = field(default=0, init=False)

    async def __aenter__(self) -> Translated:
        named = _named(self._chat.chat) if self._cortex.media.fetch else {}
        if not named:
            return self._chat
        try:
            return evolve(self._chat, chat=_with(self._chat.chat, await self._all(named)))
        except BaseException:
            self._release()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._release()

    async def _all(self, named: Mapping[str, str]) -> dict[str, str]:
        """The pictures of these addresses as data URLs; the first that cannot be had ends the others."""
        found: dict[str, str] = {}
        refusals: list[ApiError] = []

        async def bring(url: str, param: str) -> None:
            came = await self._pictures.fetch(url, param, self._cortex.media)
            refusal = came if isinstance(came, ApiError) else self._hold(len(came.data), param)
            if refusal is None and isinstance(came, Fetched):
                found[url] = f"data:{came.kind};base64,{b64encode(came.data).decode()}"
            elif refusal is not None:
                refusals.append(refusal)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for url, param in named.items():
                nursery.start_soon(bring, url, param)
        if refusals:
            raise refusals[0]
        return found

    def _hold(self, size: int, param: str) -> ApiError | None:
        """Count a picture that has come; or why it cannot be kept."""
        limits = self._cortex.limits
        together = max(limits.body, self._cortex.media.max_bytes)  # as large as if the client had brought them
        if self._held + size > together:
            return errors.invalid_value(param, f"all pictures of a request together may have {together} bytes")
        if self._pictures.held + size > max(limits.bodies, size):
            message = "The server holds as many pictures as it may; try again in a moment."
            return errors.unavailable(message, _RETRY_SECONDS)
        self._held += size
        self._pictures.held += size
        return None

    def _release(self) -> None:
        self._pictures.held -= self._held
        self._held = 0


def _named(chat: Json) -> dict[str, str]:
    """The addresses of pictures, each once, and where it stands first."""
    found: dict[str, str] = {}
    for param, part in _parts(chat):
        url = _address(part)
        if url is not None:
            found.setdefault(url, param)
    return found


def _with(chat: Json, pictures: Mapping[str, str]) -> Json:
    """A copy of a chat with pictures in place of their addresses; what else it holds is shared."""
    messages = deepcopy(chat["messages"])
    for _, part in _parts({"messages": messages}):
        if (url := _address(part)) is not None:
            given = part["image_url"]
            part["image_url"] = {**(given if isinstance(given, dict) else {}), "url": pictures[url]}
    return {**chat, "messages": messages}


def _parts(chat: Json) -> Iterator[tuple[str, Any]]:
    """Parts that show pictures, as far as a chat has the shape of one: who is asked refuses what has not."""
    for number, message in enumerate(_list(chat.get("messages"))):
        content = message.get("content") if isinstance(message, dict) else None
        for index, part in enumerate(_list(content)):
            if isinstance(part, dict) and part.get("type") == "image_url":
                yield f"messages[{number}].content[{index}].image_url", part


def _list(found: Any) -> list[Any]:
    return found if isinstance(found, list) else []


def _address(part: Json) -> str | None:
    """Where a picture is to be fetched; ``None``: it has come along, or there is none."""
    given = part.get("image_url")
    url = given.get("url") if isinstance(given, dict) else given
    return url if isinstance(url, str) and url[:5].lower() != "data:" else None
