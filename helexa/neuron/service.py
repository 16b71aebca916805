"""The models this host serves: engine workers for the tokens, tokenizers for the text, and how start-up is going."""

from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic

import structlog
import trio
from attrs import define, evolve, field, frozen

from config import Quant
from config.source import is_qualified
from helexa.gguf_tokenizer import tokenizer_directory
from helexa.neuron.defaults import recommended
from helexa.neuron.fetches import Fetches
from helexa.neuron.grammars import Grammars
from helexa.neuron.ports import Engines
from helexa.text import ChatTokenizer
from helexa.wire import errors
from helexa.wire.errors import ApiError
from helexa.wire.fleet import Activation, ActivationFailure, LoadRequest, ModelReport
from helexa.wire.sampling import SamplingParams

_COMPILERS = 2
"""Of so many grammars at a time, each may take seconds if it was made for that; answers go on meanwhile."""
_log = structlog.get_logger()


@frozen
class Face:
    """The side of a model that callers meet; the engine knows nothing of it.

    Attributes:
        text: its tokenizer and chat template.
        defaults: the sampling parameters that its publisher recommends.
        grammars: what its answers may have to match.
    """

    text: ChatTokenizer
    defaults: SamplingParams
    grammars: Grammars = field(init=False)

    @grammars.default
    def _own_grammars(self) -> Grammars:
        return Grammars(self.text)


@define(eq=False)
class Service:
    """Owns the tokenizers and the activation state; asks the engines for everything else.

    Attributes:
        engines: the workers.
        source_of: the catalogue's source of a model, ``None`` if the catalogue does not have it.
        quant_of: what the catalogue wants a model's weights reduced to.
        registry: the URL of what the source ``helexa`` means, as the topology says.
        compilers: the threads in which grammars are compiled.
    """

    engines: Engines
    source_of: Callable[[str], str | None]
    registry: str | None = None
    quant_of: Callable[[str], Quant | None] = lambda _: None
    activation: Activation = field(factory=Activation)
    started: float = field(factory=monotonic)
    compilers: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(_COMPILERS))
    _faces: dict[str, Face] = field(factory=dict)
    _fetches: Fetches = field(factory=Fetches)

    def reports(self) -> tuple[ModelReport, ...]:
        """Every model here or on its way, with the capabilities its template shows."""
        return self._fetches.with_reports(self._with_capabilities(report) for report in self.engines.reports())

    def _with_capabilities(self, report: ModelReport) -> ModelReport:
        face = self._faces.get(report.id)
        return report if face is None else evolve(report, capabilities=_capabilities(face.text))

    def report(self, model: str) -> ModelReport:
        """One model.

        Raises:
            ApiError: ``model_not_found``.
        """
        for report in self.reports():
            if report.id == model:
                return report
        raise errors.model_not_found(model)

    def face(self, model: str) -> Face:
        """The face of a model that is or was loaded.

        Raises:
            ApiError: ``model_not_found``, or 503 while its first load is under way.
        """
        if model in self._faces:
            return self._faces[model]
        report = self.report(model)
        raise errors.unavailable(f"The model '{model}' is {report.status}.", 2)

    async def load(self, request: LoadRequest) -> ModelReport:
        """Load a model and wait until it serves.

        Raises:
            ApiError: it is not in the catalogue, its files are not there, or it does not load.
        """
        source = request.source or self.source_of(request.model)
        if source is None and not is_qualified(request.model):
            raise errors.model_not_found(request.model)
        with self._fetches.shown(request) as fetch:
            await self._serve(request, await fetch.resolve(source, self.registry))
        return self.report(request.model)

    async def _serve(self, request: LoadRequest, path: str) -> None:
        """Load what is here."""
        face = await trio.to_thread.run_sync(_load_face, request.model, path, abandon_on_cancel=True)
        if not self._is_here(request.model):
            # Before the engine is asked: the model will load also when whoever wants it now does not wait for it.
            self._faces[request.model] = face
        quant = request.quant if request.source or request.quant else self.quant_of(request.model)
        await self.engines.load(request.model, path, request.device, quant, request.elsewhere)

    def _is_here(self, model: str) -> bool:
        """Whether a model is loaded, or about to be, and so keeps the tokenizer that belongs to its weights."""
        here = any(report.id == model and report.status != "failed" for report in self.engines.reports())
        return here and model in self._faces

    async def unload(self, model: str) -> None:
        """Unload a model and wait until its memory is free; fetch it no further, if that is as far as it has come.

        Raises:
            ApiError: ``model_not_found``.
        """
        self.report(model)
        was_coming = self._fetches.stop(model)
        self._faces.pop(model, None)
        if not was_coming or any(report.id == model for report in self.engines.reports()):
            await self.engines.unload(model)

    async def restart(self, device: str, *, force: bool) -> tuple[ModelReport, ...]:
        """Restart a device's worker, and wait until its models serve again; what became of them.

        Raises:
            ApiError: there is no such device, or it is busy and ``force`` was not asked for.
        """
        await self.engines.restart(device, force=force)
        return tuple(report for report in self.reports() if report.device == device)

    async def preload(self, models: Sequence[str]) -> None:
        """Load the models named in the topology, one after the other; a failure is recorded, the next one goes on."""
        self.activation = Activation("pre_warming", tuple(models))
        for model in models:
            rest = tuple(each for each in self.activation.pending if each != model)
            self.activation = evolve(self.activation, pending=rest, in_progress=model)
            await self._preload_one(model)
        self.activation = evolve(self.activation, state="ready", in_progress=None)

    async def _preload_one(self, model: str) -> None:
        before = self.activation
        try:
            await self.load(LoadRequest(model))
        except ApiError as error:
            _log.error("preload.failed", model=model, error=error.message)
            failure = ActivationFailure(model, error.message)
            self.activation = evolve(before, failed=(*before.failed, failure))
        else:
            self.activation = evolve(before, completed=(*before.completed, model))


def _load_face(model: str, path: str) -> Face:
    try:
        files = str(tokenizer_directory(Path(path))) if path.endswith(".gguf") else path
        return Face(ChatTokenizer.load(files), recommended(files))
    except Exception as error:
        detail = f"The tokenizer of '{model}' does not load: {type(error).__name__}: {error}"
        raise errors.upstream_error(detail.splitlines()[0]) from error


def _capabilities(text: ChatTokenizer) -> tuple[str, ...]:
    found = {"chat": text.has_chat_template, "tool_call": text.supports_tools, "reasoning": text.supports_thinking}
    return tuple(name for name, has in found.items() if has)
