"""Tools as clients declare them: parameters, JSON schemas, and the many ways libraries write these."""

from collections.abc import Callable
from typing import Any

from attrs import field, frozen

from helexa.tiny.corpus.draw import Draw, Phrases
from helexa.tiny.corpus.shapes import Tool

Value = str | int | float | bool


@frozen
class Slot:
    """One parameter of a tool.

    Attributes:
        names: names that the parameter may carry in the schema.
        kind: its JSON schema type.
        says: its description.
        value: draws a value that a user may mention.
        options: the allowed values of an enum; empty for a free value.
    """

    names: tuple[str, ...]
    kind: str
    says: str
    value: Callable[[Draw], Value]
    options: tuple[str, ...] = ()


@frozen
class Family:
    """A kind of tool: its possible names and descriptions, its slots, the ways to ask for it.

    Attributes:
        topic: families of one topic are never offered together.
        names: names that the tool may carry.
        says: its possible descriptions.
        slots: its parameters by the placeholder that stands for them in ``asks``.
        asks: requests; a request mentions each required slot and may mention others.
    """

    topic: str
    names: tuple[str, ...]
    says: tuple[str, ...]
    asks: Phrases
    slots: dict[str, Slot] = field(factory=dict)

    @property
    def required(self) -> frozenset[str]:
        """Keys of the slots that every request mentions."""
        asks = (*self.asks.trained, *self.asks.held)
        return frozenset(key for key in self.slots if all(f"{{{key}}}" in ask for ask in asks))


@frozen
class Style:
    """How one client library writes its schemas: all tools of a request share it."""

    described: bool
    params_described: bool
    lists_required: bool
    strict: bool
    titled: bool

    @classmethod
    def drawn(cls, draw: Draw) -> "Style":
        """Choose a style."""
        chance = draw.chance
        return cls(chance(0.9), chance(0.5), chance(0.9), chance(0.1), chance(0.08))


@frozen
class Named:
    """A family with its names chosen.

    Attributes:
        family: what it is a case of.
        name: the name of the tool.
        params: the chosen parameter name of each slot.
    """

    family: Family
    name: str
    params: dict[str, str]

    @classmethod
    def drawn(cls, draw: Draw, family: Family) -> "Named":
        """Choose the tool's name and those of its parameters."""
        params = {key: draw.pick(slot.names) for key, slot in family.slots.items()}
        return cls(family, draw.pick(family.names), params)

    def clashes(self, other: "Named") -> bool:
        """Say whether two tools could not be offered together."""
        return self.name == other.name or self.family.topic == other.family.topic

    def spec(self, draw: Draw, style: Style) -> Tool:
        """Return the tool in the OpenAI shape."""
        function: dict[str, Any] = {"name": self.name}
        if style.described:
            function["description"] = draw.pick(self.family.says)
        function["parameters"] = self._schema(style)
        if style.strict:
            function["strict"] = True
        return {"type": "function", "function": function}

    def _schema(self, style: Style) -> dict[str, Any]:
        slots = self.family.slots
        properties = {self.params[key]: _property(slot, self.params[key], style) for key, slot in slots.items()}
        schema: dict[str, Any] = {"type": "object", "properties": properties}
        if style.lists_required:
            schema["required"] = [self.params[key] for key in slots if key in self.family.required]
        if style.strict:
            schema["additionalProperties"] = False
        return schema


def _property(slot: Slot, name: str, style: Style) -> dict[str, Any]:
    schema: dict[str, Any] = {"title": name.replace("_", " ").title()} if style.titled else {}
    schema["type"] = slot.kind
    if style.params_described:
        schema["description"] = slot.says
    if slot.options:
        schema["enum"] = list(slot.options)
    return schema
