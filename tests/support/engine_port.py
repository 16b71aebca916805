"""The engines of a neuron as a recording stand-in: what the HTTP side asks is kept, what it hears is the test's."""

from collections.abc import Callable, Sequence

import trio
from attrs import define, evolve, field

from actors.generation import LiveGeneration
from config import Quant
from helexa.engine.protocol import TokenLogprob
from helexa.neuron.ports import End
from helexa.wire import errors
from helexa.wire.errors import ApiError
from helexa.wire.fleet import ActorReport, Limit, ModelReport
from helexa.wire.ranks import Elsewhere
from helexa.wire.sampling import SamplingParams


@define
class Submitted:
    """A request the engine has taken.

    As an engine does, it answers for each choice that it is told to stop, though at once.

    Attributes:
        aborts: what was given up, in that order: the indices of choices, `None` for the whole request.
        cached_tokens: told at the end of each choice.
    """

    model: str
    prompt_ids: list[int]
    sampling: SamplingParams
    key: str
    generation: LiveGeneration = field(init=False)
    aborts: list[int | None] = field(factory=list)
    cached_tokens: int = 0

    def __attrs_post_init__(self) -> None:
        self.generation = LiveGeneration(self.sampling.n, self._abort)

    def _abort(self, index: int | None) -> None:
        self.aborts.append(index)
        if index is not None:
            self.finish(End("abort"), index)

    @property
    def aborted(self) -> bool:
        return bool(self.aborts)

    def extend(self, ids: Sequence[int], index: int = 0, logprobs: Sequence[TokenLogprob] = ()) -> None:
        """A step has brought a choice these."""
        self.generation.extend(index, ids, logprobs)

    def finish(self, end: End, index: int = 0) -> None:
        """A choice has ended."""
        self.generation.finish(index, evolve(end, cached_tokens=self.cached_tokens))


@define(eq=False)
class FakeEngines:
    """Implements `ports.Engines`. Loads succeed at once unless told otherwise.

    Attributes:
        gate: loads wait for it.
        broken: reasons why models do not load.
        on_submit: called with each request; may raise.
        context: tokens that each model takes.
    """

    models: dict[str, ModelReport] = field(factory=dict)
    loads: list[tuple[str, str, str | None]] = field(factory=list)
    quants: list[Quant | None] = field(factory=list)
    elsewhere: list[Elsewhere | None] = field(factory=list)
    submitted: list[Submitted] = field(factory=list)
    restarts: list[tuple[str, bool]] = field(factory=list)
    gate: trio.Event | None = None
    broken: dict[str, str] = field(factory=dict)
    on_submit: Callable[[Submitted], None] = lambda _: None
    context: int = 100

    def reports(self) -> tuple[ModelReport, ...]:
        return tuple(self.models.values())

    def actors(self) -> tuple[ActorReport, ...]:
        return (ActorReport("device-worker:cpu", "running", 0, 0, None, 1.5),)

    async def load(
        self,
        model: str,
        path: str,
        device: str | None,
        quant: Quant | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self.loads.append((model, path, device))
        self.elsewhere.append(elsewhere)
        self.quants.append(quant)
        if self.models.get(model, ModelReport(model, "failed")).status == "failed":
            self.models[model] = ModelReport(model, "loading", "cpu")
        if self.gate is not None:
            await self.gate.wait()
        if (reason := self.broken.get(model)) is not None:
            self.models[model] = ModelReport(model, "failed", "cpu", error=reason)
            raise errors.upstream_error(f"'{model}' does not load: {reason}")
        self.set(model, "loaded")

    def set(self, model: str, status: str) -> None:
        report = self.models.get(model, ModelReport(model, "loading", "cpu"))
        self.models[model] = evolve(
            report, status=status, limit=Limit(self.context, self.context - 1, self.context - 1)
        )

    async def restart(self, device: str, *, force: bool) -> None:
        if device != "cpu":
            raise ApiError(404, "No such device.", "invalid_request_error", "device_not_found")
        self.restarts.append((device, force))

    async def unload(self, model: str) -> None:
        if self.models.pop(model, None) is None:
            raise errors.model_not_found(model)

    def submit(self, model: str, prompt_ids: list[int], sampling: SamplingParams, key: str) -> LiveGeneration:
        if model not in self.models:
            raise errors.model_not_found(model)
        if self.models[model].status != "loaded":
            raise errors.unavailable(f"The model '{model}' is {self.models[model].status}.", 2)
        entry = Submitted(model, prompt_ids, sampling, key)
        self.submitted.append(entry)
        self.on_submit(entry)
        return entry.generation


def failing(error: Exception) -> Callable[[Submitted], None]:
    """A submission that raises."""

    def submit(_: Submitted) -> None:
        raise error

    return submit
