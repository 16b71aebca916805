"""What a scenario is: something to ask of a model again and again, and what is read off the answers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from attrs import asdict, frozen

from helexa.bench.measuring.facts import ModelFacts
from helexa.bench.measuring.session import Session
from helexa.bench.records import Metric, Sample

WARM_TOKENS: Final = 4
"""Of the answer that warms a model up."""


class Skipped(Exception):  # noqa: N818 - it is no error that a server lacks something
    """What a round raises when it turns out that the server, or the model, cannot do what the scenario is about.

    Its text is a sentence; the run is ``skipped`` with it as the reason.
    """


@frozen
class Scenario(ABC):
    """A frozen attrs class; its attributes are its parameters. A new one is a subclass and a line in the registry.

    Attributes:
        name: unique, as the command line and the database say it.
        title: for people.
        metrics: what its samples have values of; not every sample need have each.
        asks: what kind of request it makes. A model is warmed up once for each kind.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    metrics: ClassVar[tuple[Metric, ...]]
    asks: ClassVar[str] = "chat"

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What it was told, as plain JSON: part of the cell that its runs belong to."""
        return asdict(self)

    @property
    def spelled(self) -> str:
        """The scenario as the command line takes it, e.g. ``chat:prompt_tokens=128,output_tokens=64``."""
        given = ",".join(f"{name}={value}" for name, value in self.parameters.items())
        return f"{self.name}:{given}" if given else self.name

    def unfit(self, model: ModelFacts) -> str | None:  # noqa: ARG002 - for subclasses to say
        """Why a model cannot be measured in this way, a sentence; ``None``: nothing known speaks against it."""
        return None

    async def warm(self, session: Session) -> None:
        """Have the model answer something short, uncounted.

        Raises:
            TargetError: it does not; the run has failed.
            Skipped: it cannot be measured.
        """
        await session.chat("Good morning.", WARM_TOKENS)

    async def prepare(self, session: Session) -> None:  # noqa: B027 - most have nothing to prepare
        """Once before the first round, not counted: prompts are brought to their length here.

        Raises:
            TargetError: the target did not go along; the run has failed.
            Skipped: it cannot be measured.
        """

    @abstractmethod
    async def round(self, session: Session, round: int) -> Sequence[Sample]:  # noqa: A002 - as samples call it
        """Measure once.

        Args:
            session: the model to ask.
            round: which round this is, from 0; what is random comes from ``session.random(round)``.

        Raises:
            TargetError: the round has failed.
            Skipped: it cannot be measured.
        """
