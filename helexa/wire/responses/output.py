"""The output of a response: items that grow as deltas come, and the events that say so.

Source: OpenAI API reference, "Streaming events" and "The response object": ``output``.
"""

from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field, frozen

from helexa.wire.dialect import Json
from helexa.wire.responses.content import seal
from helexa.wire.sse import dumps

NewId = Callable[[str], str]


@define
class Events:
    """Events on their way out, numbered from 0."""

    _number: int = 0
    _waiting: list[bytes] = field(factory=list)

    def emit(self, kind: str, **fields: Any) -> None:
        """Append an event as it is now: what it shows may go on growing."""
        payload = dumps({"type": kind, "sequence_number": self._number, **fields})
        self._waiting += [b"event: ", kind.encode(), b"\ndata: ", payload, b"\n\n"]
        self._number += 1

    def take(self) -> bytes:
        """The events since the last call."""
        taken, self._waiting = b"".join(self._waiting), []
        return taken


@frozen
class PartKind:
    """A kind of content.

    Attributes:
        type: of the part.
        events: what its events' names begin with.
        key: what its text is called.
        scored: whether log probabilities go with it.
    """

    type: str
    events: str
    key: str = "text"
    scored: bool = False


TEXT = PartKind("output_text", "response.output_text", scored=True)
REFUSAL = PartKind("refusal", "response.refusal", "refusal")
REASONING = PartKind("reasoning_text", "response.reasoning_text")


@define
class _Part:
    kind: PartKind
    texts: list[str] = field(factory=list)
    entries: list[Json] = field(factory=list)

    def to_json(self) -> Json:
        found: Json = {"type": self.kind.type, self.kind.key: "".join(self.texts)}
        return {**found, "annotations": [], "logprobs": self.entries} if self.kind.scored else found

    def scores(self, entries: Sequence[Json]) -> Json:
        return {"logprobs": list(entries)} if self.kind.scored else {}


@define
class Said:
    """A message, or what was thought before one: content in parts."""

    id: str
    sealed: bool
    kinds: tuple[PartKind, ...]
    status: str = "in_progress"
    _parts: list[_Part] = field(factory=list)

    def to_json(self) -> Json:
        """The item as it stands."""
        content = [part.to_json() for part in self._parts]
        if REASONING not in self.kinds:
            head = {"id": self.id, "type": "message", "status": self.status}
            return {**head, "role": "assistant", "content": content}
        found = {"id": self.id, "type": "reasoning", "status": self.status, "summary": [], "content": content}
        thought = "\n\n".join(part[REASONING.key] for part in content)
        return {**found, "encrypted_content": seal(thought) if thought else None} if self.sealed else found

    def add(self, events: Events, place: Json, kind: PartKind, text: str, entries: Sequence[Json]) -> None:
        """Append text, which may be empty, to the open part where it is of this kind."""
        if not self._parts or self._parts[-1].kind is not kind:
            self._close_part(events, place)
            self._parts.append(_Part(kind))
            events.emit("response.content_part.added", **self._at(place), part=self._parts[-1].to_json())
        part = self._parts[-1]
        part.texts.append(text)
        part.entries += entries
        if text or entries:
            events.emit(f"{kind.events}.delta", **self._at(place), delta=text, **part.scores(entries))

    def scored(self) -> bool:
        """Whether log probabilities may still be added."""
        return self.status == "in_progress" and bool(self._parts) and self._parts[-1].kind.scored

    def close(self, events: Events, place: Json) -> None:
        """Say that all of it was said."""
        self._close_part(events, place)

    def _close_part(self, events: Events, place: Json) -> None:
        if not self._parts:
            return
        part, whole = self._parts[-1], self._parts[-1].to_json()
        at, text = self._at(place), {part.kind.key: whole[part.kind.key]}
        events.emit(f"{part.kind.events}.done", **at, **text, **part.scores(part.entries))
        events.emit("response.content_part.done", **at, part=whole)

    def _at(self, place: Json) -> Json:
        return {**place, "content_index": len(self._parts) - 1}


@define
class Call:
    """A function call.

    Attributes:
        index: the chat's number of it.
    """

    id: str
    call_id: str
    name: str
    index: int
    status: str = "in_progress"
    _arguments: list[str] = field(factory=list)

    def to_json(self) -> Json:
        """The item as it stands."""
        head = {"id": self.id, "type": "function_call", "status": self.status}
        return {**head, "call_id": self.call_id, "name": self.name, "arguments": "".join(self._arguments)}

    def add(self, events: Events, place: Json, arguments: str) -> None:
        """Append a fragment of the arguments."""
        self._arguments.append(arguments)
        events.emit("response.function_call_arguments.delta", **place, delta=arguments)

    def close(self, events: Events, place: Json) -> None:
        """Say that the arguments are whole."""
        done = {"name": self.name, "arguments": "".join(self._arguments)}
        events.emit("response.function_call_arguments.done", **place, **done)


@define
class Output:
    """All items of a response.

    Attributes:
        events: where they tell of their growth.
        new_id: makes identifiers.
        sealed: reasoning carries itself as ``encrypted_content``.
    """

    events: Events
    new_id: NewId
    sealed: bool = False
    _items: list[Said | Call] = field(factory=list)

    def say(self, kind: PartKind, text: str, entries: Sequence[Json] = ()) -> None:
        """Append text, if there is any, to the item it belongs to, which is a new one after anything else."""
        if text:
            self._say(kind, text, entries)

    def score(self, entries: Sequence[Json]) -> None:
        """Append log probabilities of tokens that showed no text; where none is open, they were not of any."""
        last = self._items[-1] if self._items else None
        if entries and isinstance(last, Said) and last.scored():
            self._say(TEXT, "", entries)

    def _say(self, kind: PartKind, text: str, entries: Sequence[Json]) -> None:
        last = self._items[-1] if self._items else None
        if not isinstance(last, Said) or kind not in last.kinds:
            self._close_said("completed")
            kinds, prefix = ((REASONING,), "rs") if kind is REASONING else ((TEXT, REFUSAL), "msg")
            last = Said(self.new_id(prefix), self.sealed, kinds)
            self._open(last)
        last.add(self.events, self._place(len(self._items) - 1), kind, text, entries)

    def call(self, index: int | None, call_id: str, name: str, arguments: str) -> None:
        """Append a piece of a function call.

        Args:
            index: the chat's number of it; ``None`` for the one that was last.
            call_id: the chat's id of it; empty where it is not repeated.
            name: of the function; likewise.
            arguments: a fragment of them.
        """
        place = self._find(index, call_id)
        if place is None:
            self._close_said("completed")
            number = len(self._items) if index is None else index
            self._open(Call(self.new_id("fc"), call_id or self.new_id("call"), name, number))
            place = len(self._items) - 1
        item = self._items[place]
        if isinstance(item, Call):
            item.name = item.name or name
            if arguments:
                item.add(self.events, self._place(place), arguments)

    def _find(self, index: int | None, call_id: str) -> int | None:
        """Where the call is that this belongs to. Some servers number every call 0, so a new id is a new call."""
        for place in range(len(self._items) - 1, -1, -1):
            item = self._items[place]
            if isinstance(item, Call) and (index is None or item.index == index):
                return place if not call_id or item.call_id == call_id else None
        return None

    def close(self, status: str) -> None:
        """End what is open; ``status`` is the last item's, what came before it is complete.

        An answer of nothing at all is an empty message: clients look for one.
        """
        if not self._items:
            self._say(TEXT, "", ())
        for place, item in enumerate(self._items):
            if item.status == "in_progress":
                self._close(place, status if place == len(self._items) - 1 else "completed")

    def abandon(self) -> None:
        """Mark what is open as incomplete, and say nothing."""
        for item in self._items:
            item.status = "incomplete" if item.status == "in_progress" else item.status

    def to_json(self) -> list[Json]:
        """The items as they stand."""
        return [item.to_json() for item in self._items]

    def _close_said(self, status: str) -> None:
        # Calls stay open to the end: nothing in a chat says that one is whole, and some servers send several at once.
        last = len(self._items) - 1
        if last >= 0 and isinstance(self._items[last], Said):
            self._close(last, status)

    def _close(self, place: int, status: str) -> None:
        item = self._items[place]
        item.close(self.events, self._place(place))
        item.status = status
        self.events.emit("response.output_item.done", output_index=place, item=item.to_json())

    def _open(self, item: Said | Call) -> None:
        self._items.append(item)
        self.events.emit("response.output_item.added", output_index=len(self._items) - 1, item=item.to_json())

    def _place(self, place: int) -> Json:
        return {"item_id": self._items[place].id, "output_index": place}
