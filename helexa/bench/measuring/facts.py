"""What is known of a target and its models. Pure."""

from collections.abc import Mapping

from attrs import field, frozen

from helexa.bench.records import Build, Target


@frozen
class ModelFacts:
    """A model of a target.

    Attributes:
        id: what requests call it.
        status: as neurons say it (``loaded``, ``unloaded``, …); ``loaded`` where a server only lists what it serves.
        context: tokens of prompt and answer together; ``None``: unknown.
        capabilities: as neurons say them; ``None``: unknown.
        running: sequences that take part in steps now.
        waiting: sequences that do not yet.
        devices: those that have it: torch's names of them, behind the node's name and a slash where a gateway tells;
            empty: unknown.
        build: of what it runs on, where that is not all of the target; ``None``: the target's.
        details: what belongs to the build of this model alone, e.g. its precision.
    """

    id: str
    status: str = "loaded"
    context: int | None = None
    capabilities: tuple[str, ...] | None = None
    running: int = 0
    waiting: int = 0
    devices: tuple[str, ...] = ()
    build: Build | None = None
    details: Mapping[str, str] = field(factory=dict, hash=False)

    @property
    def ready(self) -> bool:
        """Whether it is loaded and nobody uses it."""
        return self.status == "loaded" and not self.running + self.waiting

    def lacks(self, capability: str) -> bool:
        """Whether it is known not to be capable of something."""
        return self.capabilities is not None and capability not in self.capabilities

    def short_of(self, tokens: int) -> str | None:
        """Why prompt and answer of so many tokens together have no room, a sentence; ``None``: nothing known of it."""
        if self.context is None or tokens <= self.context:
            return None
        return f"It takes {tokens:,} tokens, and the model's context has {self.context:,}."


@frozen
class Facts:
    """A target as it is now.

    Attributes:
        target: where.
        build: of the target, without what belongs to a model.
        models: that it has.
        powered: whether its devices tell what they draw.
    """

    target: Target
    build: Build
    models: tuple[ModelFacts, ...] = ()
    powered: bool = False

    @property
    def idle(self) -> bool:
        """Whether no model of it has anything to do, nor is one being loaded."""
        return not any(each.running + each.waiting or each.status == "loading" for each in self.models)

    def model(self, name: str) -> ModelFacts | None:
        """One of its models."""
        return next((each for each in self.models if each.id == name), None)

    def build_of(self, model: str) -> Build:
        """The build that runs of a model are filed under: the target's, and the model's details."""
        found = self.model(model)
        if found is None:
            return self.build
        base = found.build or self.build
        return Build(base.name, {**base.details, **found.details})
