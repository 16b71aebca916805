"""One model's step loop: admit, run, sample, commit."""

from collections import deque

from helexa.engine.loading import LoadedModel
from helexa.engine.protocol import Failed, Finished, Report, Submit, TokenDelta
from helexa.engine.runner import Runner
from helexa.engine.sampling import sample
from helexa.engine.sequence import Sequence
from helexa.wire.sampling import SamplingParams

MAX_RUNNING = 16
MAX_WAITING = 1024


class Engine:
    """Every accepted request ends in exactly one ``Finished`` or ``Failed``; none is accepted that cannot be served."""

    def __init__(self, model: LoadedModel) -> None:
        self.model = model
        self._runner = Runner(model)
        self._running: dict[str, Sequence] = {}
        self._waiting: deque[Submit] = deque()

    def warm_up(self) -> None:
        """Run a request of our own: what the first forward sets up once is not paid for by the first caller."""
        self.submit(Submit("warm-up", "", [0, 0], SamplingParams(max_tokens=2)))
        while self.running or self.waiting:
            self.step()

    @property
    def running(self) -> int:
        """Sequences that take part in the next step."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Requests not yet admitted."""
        return len(self._waiting)

    def submit(self, submit: Submit) -> list[Report]:
        """Queue a request, or refuse it at once."""
        if (refusal := self._refusal(submit)) is not None:
            return [Failed(submit.request, *refusal)]
        self._waiting.append(submit)
        return []

    def _refusal(self, submit: Submit) -> tuple[str, str] | None:
        """Code and reason why a request cannot be served, ever or now."""
        limit, length = self.model.context_length, len(submit.prompt_ids)
        if not 0 < length < limit:
            return "context_length_exceeded", f"prompt of {length} tokens, context of {limit}"
        # Checked here: the look-up of such an id ends the process on a CPU, and breaks the context of a GPU.
        lowest, highest, known = min(submit.prompt_ids), max(submit.prompt_ids), self.model.vocabulary
        if lowest < 0 or highest >= known:
            return "upstream_error", f"prompt with token ids from {lowest} to {highest}, vocabulary of {known}"
        if len(self._waiting) >= MAX_WAITING:
            return "rate_limit_exceeded", f"{MAX_WAITING} requests are already waiting"
        return None

    def abort(self, request: str) -> list[Report]:
        """Forget a request; it has no part in the next step."""
        if (sequence := self._running.pop(request, None)) is not None:
            return [_finished(sequence, "abort")]
        for submit in self._waiting:
            if submit.request == request:
                self._waiting.remove(submit)
                return [Finished(request, "abort", len(submit.prompt_ids), 0)]
        return []

    def abort_all(self) -> list[Report]:
        """Forget every request."""
        requests = [*self._running, *(submit.request for submit in self._waiting)]
        return [report for request in requests for report in self.abort(request)]

    def step(self) -> tuple[list[TokenDelta], list[Report]]:
        """Advance every running sequence; the new tokens, and the ends that came with them."""
        self._admit()
        due, logits = self._runner.step(self._running.values())
        if logits is None:
            return [], []
        tokens = sample(logits, [each.params for each in due], [each.generator for each in due])
        return self._commit(due, tokens)

    def _admit(self) -> None:
        while self._waiting and len(self._running) < MAX_RUNNING:
            submit = self._waiting.popleft()
            self._running[submit.request] = Sequence.admit(submit, self.model.context_length)

    def _commit(self, due: list[Sequence], tokens: list[int]) -> tuple[list[TokenDelta], list[Report]]:
        deltas, ends = [], list[Report]()
        for sequence, token in zip(due, tokens, strict=True):
            deltas.append(TokenDelta(sequence.request, [token]))
            if (reason := sequence.append(token)) is not None:
                del self._running[sequence.request]
                ends.append(_finished(sequence, reason))
        return deltas, ends


def _finished(sequence: Sequence, reason: str) -> Finished:
    return Finished(sequence.request, reason, sequence.prompt_length, sequence.generated)
