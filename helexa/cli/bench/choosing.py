"""Which models of which targets are measured, from what was typed and what targets say of themselves. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

if TYPE_CHECKING:
    from helexa.bench.measuring.targets import Access, Facts

_LISTED: Final = 8
"""Names in a sentence."""


@frozen
class Known:
    """What a target has said of itself.

    Attributes:
        access: how it is reached.
        facts: what it is.
        aliases: further names of its models.
    """

    access: "Access"
    facts: "Facts"
    aliases: Mapping[str, str] = field(factory=dict)

    @property
    def name(self) -> str:
        """What tables call it."""
        return self.facts.target.name

    @property
    def models(self) -> list[str]:
        """Ids of its models, without further names."""
        return [each.id for each in self.facts.models if each.id not in self.aliases]

    @property
    def loaded(self) -> list[str]:
        """Those that are loaded."""
        return [each.id for each in self.facts.models if each.status == "loaded" and each.id not in self.aliases]

    def resolve(self, name: str) -> str | None:
        """The id that is meant by an id or another name; ``None``: it has no such model."""
        found = self.aliases.get(name, name)
        return found if found in self.models else None


@frozen
class Choice:
    """What will be measured.

    Attributes:
        pairs: targets and models, each once.
        troubles: a sentence for each thing that was asked for and will not be measured.
    """

    pairs: "Sequence[tuple[Access, str]]" = ()
    troubles: Sequence[str] = ()


def choose(known: Sequence[Known], names: Sequence[str]) -> Choice:
    """Take the models of these names wherever they are; without names, those that are loaded.

    A model that one target has and another one has not is no trouble: two servers may call theirs differently.
    """
    if not names:
        return Choice(*_those_loaded(known))
    pairs = [(each, model) for each in known for name in names if (model := each.resolve(name)) is not None]
    ready = [(each.access, model) for each, model in pairs if _can_serve(each, model)]
    troubles = [_absent(each, model) for each, model in pairs if not _can_serve(each, model)]
    nowhere = [_unknown(name, known) for name in names if known and not any(each.resolve(name) for each in known)]
    return Choice(_distinct(ready), [*nowhere, *dict.fromkeys(troubles)])


def _those_loaded(known: Sequence[Known]) -> "tuple[list[tuple[Access, str]], list[str]]":
    troubles = {each.name: trouble for each in known if (trouble := _undecided(each)) is not None}
    pairs = [(each.access, model) for each in known if each.name not in troubles for model in each.loaded]
    return _distinct(pairs), list(troubles.values())


def _undecided(known: Known) -> str | None:
    if not known.loaded:
        other = "" if known.facts.target.kind == "openai" else ", or load one with 'helexa load'"
        return f"'{known.name}' has no model loaded: name one with --model{other}."
    # An outside server lists what it would serve, perhaps hundreds at a price; a fleet tells what it has in memory.
    if known.facts.target.kind == "openai" and len(known.loaded) > 1:
        return f"'{known.name}' has {len(known.loaded)} models: {_listed(known.loaded)}. Say which with --model."
    return None


def _can_serve(known: Known, model: str) -> bool:
    """A gateway loads what it is asked for; a neuron does not."""
    return known.facts.target.kind != "neuron" or model in known.loaded


def _absent(known: Known, model: str) -> str:
    return f"'{known.name}' has not loaded '{model}': 'helexa load {model} --node {known.name}' does."


def _unknown(name: str, known: Sequence[Known]) -> str:
    there = list(dict.fromkeys(model for each in known for model in each.models))
    return f"no target has a model '{name}'; there is {_listed(there) or 'none'}."


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _distinct(pairs: "Iterable[tuple[Access, str]]") -> "list[tuple[Access, str]]":
    return list({(access.target.name, model): (access, model) for access, model in pairs}.values())
