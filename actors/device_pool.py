"""The device workers of one host as the neuron's HTTP side sees them."""

from collections.abc import Sequence

import trio

from actors.actor import ActorStatus
from actors.device_worker import RECOVERY_SECONDS, DeviceWorker
from actors.generation import LiveGeneration
from actors.reports import actor_report
from actors.supervisor import Supervisor, SupervisorNotRunningError
from config import Quant, RestartPolicy
from helexa.wire import errors
from helexa.wire.errors import ApiError
from helexa.wire.fleet import ActorReport, ModelReport
from helexa.wire.sampling import SamplingParams


class DevicePool:
    """Finds the worker that holds a model, or picks one to hold it. Supervises them; implements ``ports.Engines``.

    Args:
        devices: torch device names, at least one.
        policy: restart budget of each worker. One that exceeds it stays failed; the others serve on.
        memory: bytes of each device that its models may have together; ``None`` for what is free.
        recovery: seconds that a request waits for a new process of a worker that has died.
    """

    def __init__(
        self,
        devices: Sequence[str],
        policy: RestartPolicy,
        memory: int | None = None,
        recovery: float = RECOVERY_SECONDS,
    ) -> None:
        workers = [DeviceWorker(device, memory=memory, recovery=recovery) for device in devices]
        self._workers = {worker.name: worker for worker in workers}
        self._policy = policy
        self._restarting: set[str] = set()
        self._supervisor = Supervisor("devices", on_change=self._note)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the workers until cancelled. Started at once: a host serves /health before its engines are up."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._supervisor.run)
            for worker in self._workers.values():
                self._supervisor.spawn(worker, self._policy, escalate=False)
            task_status.started()

    def _note(self, status: ActorStatus) -> None:
        if status.state == "failed":
            self._workers[status.name].give_up(status.last_error or "its worker failed")

    def reports(self) -> tuple[ModelReport, ...]:
        """Every model of every worker."""
        return tuple(report for worker in self._workers.values() for report in worker.reports())

    def actors(self) -> tuple[ActorReport, ...]:
        """The workers as actors."""
        return tuple(actor_report(status) for status in self._supervisor.status())

    async def load(self, model: str, path: str, device: str | None, quant: Quant | None = None) -> None:
        """Load a model where it already is, else on ``device``, else on the live worker that has the fewest.

        Raises:
            ApiError: no such device, or the worker's reason.
        """
        await self._place(model, device).load(model, path, quant)

    async def unload(self, model: str) -> None:
        """Unload a model.

        Raises:
            ApiError: ``model_not_found``.
        """
        await self._holder(model).unload(model)

    async def restart(self, device: str, *, force: bool) -> None:
        """Replace a device's worker process by a new one with the same models, and wait until these have settled.

        One that was given up gets another chance: somebody asks for it.

        Raises:
            ApiError: ``device_not_found``; ``device_busy`` while it has requests or loads a model, unless ``force``,
                and while it is being restarted already.
        """
        worker = self._on(device)
        if worker.name in self._restarting or (worker.busy and not force):
            raise _busy(device)
        self._restarting.add(worker.name)
        try:
            with trio.CancelScope(shield=True):  # a device whose worker was only stopped would never serve again
                await self._replace(worker)
        finally:
            self._restarting.remove(worker.name)
        await worker.wait_settled()

    async def _replace(self, worker: DeviceWorker) -> None:
        worker.wind_up()
        await self._supervisor.stop(worker.name)
        try:
            self._supervisor.spawn(worker, self._policy, escalate=False)
        except SupervisorNotRunningError as error:
            raise errors.shutting_down() from error

    def _on(self, device: str) -> DeviceWorker:
        for worker in self._workers.values():
            if worker.device == device:
                return worker
        message = f"There is no device '{device}'; this host has {self._known()}."
        raise ApiError(404, message, "invalid_request_error", "device_not_found")

    def _known(self) -> str:
        return ", ".join(worker.device for worker in self._workers.values())

    def submit(self, model: str, prompt_ids: list[int], sampling: SamplingParams, key: str) -> LiveGeneration:
        """Start a generation for whoever ``key`` names; the caller closes it.

        Raises:
            ApiError: the model is unknown, not ready, or its worker is overloaded.
        """
        return self._holder(model).submit(model, prompt_ids, sampling, key)

    def _holder(self, model: str) -> DeviceWorker:
        for worker in self._workers.values():
            if worker.holds(model):
                return worker
        raise errors.model_not_found(model)

    def _place(self, model: str, device: str | None) -> DeviceWorker:
        workers = self._workers.values()
        if any(worker.holds(model) for worker in workers):
            return self._holder(model)
        if device is None:
            return min(workers, key=lambda worker: (worker.given_up, len(worker.reports())))
        for worker in workers:
            if worker.device == device:
                return worker
        raise errors.invalid_value("device", f"this host has {self._known()}")


def _busy(device: str) -> ApiError:
    message = f"The device '{device}' has requests or loads a model. Wait, or ask with 'force': true."
    return ApiError(409, message, "invalid_request_error", "device_busy")
