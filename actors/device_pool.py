"""The device workers of one host, and the groups of devices that share models, as the neuron's HTTP side sees them.

A device has a worker for good. A group is made for the first model that devices are to share, and ended with the last:
its processes would otherwise keep memory of every device for nothing.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import trio

from actors import device_groups
from actors.actor import ActorStatus
from actors.device_worker import RECOVERY_SECONDS, DeviceWorker
from actors.generation import LiveGeneration
from actors.reports import actor_report
from actors.supervisor import Supervisor, SupervisorNotRunningError
from actors.tp_leader import Meeting, TpLeader
from actors.vitals import LOAD_SECONDS
from config import Quant, RestartPolicy
from helexa.wire import errors
from helexa.wire.errors import ApiError
from helexa.wire.fleet import ActorReport, ModelReport
from helexa.wire.ranks import Elsewhere, devices_of
from helexa.wire.sampling import SamplingParams

_NEVER = 1 << 30
"""How many models a device counts as having on which nothing will load."""


class DevicePool:
    """Finds the worker that holds a model, or picks one to hold it. Supervises them; implements ``ports.Engines``.

    Args:
        devices: torch device names, at least one.
        policy: restart budget of each worker. One that exceeds it stays failed; the others serve on.
        memory: bytes of each device that its models may have together; ``None`` for what is free.
        recovery: seconds that a request waits for a new process of a worker that has died.
        ranks_of: how many devices are to share a model for which a load names none.
        group_policy: restart budget of each group of devices; ``None``: as of a worker.
        load_seconds: how long a load may read nothing before its process is ended.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what a worker takes, and a group
        self,
        devices: Sequence[str],
        policy: RestartPolicy,
        memory: int | None = None,
        recovery: float = RECOVERY_SECONDS,
        ranks_of: Callable[[str], int] = lambda _: 1,
        group_policy: RestartPolicy | None = None,
        *,
        load_seconds: float = LOAD_SECONDS,
    ) -> None:
        workers = [
            DeviceWorker(device, memory=memory, recovery=recovery, load_seconds=load_seconds) for device in devices
        ]
        self._devices = tuple(devices)
        self._workers = {worker.name: worker for worker in workers}
        self._policy, self._group_policy = policy, group_policy or policy
        self._memory, self._recovery, self._load_seconds = memory, recovery, load_seconds
        self._ranks_of = ranks_of
        self._restarting: set[str] = set()
        self._joining: Counter[DeviceWorker] = Counter()
        self._ending: dict[str, trio.Event] = {}
        self._failed: dict[str, ModelReport] = {}
        self._supervisor = Supervisor("devices", on_change=self._note)
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the workers until cancelled. Started at once: a host serves /health before its engines are up."""
        try:
            async with trio.open_nursery() as self._nursery:
                await self._nursery.start(self._supervisor.run)
                for worker in self._workers.values():
                    self._supervisor.spawn(worker, self._policy, escalate=False)
                task_status.started()
        finally:
            self._nursery = None

    def _note(self, status: ActorStatus) -> None:
        if status.state == "failed" and (worker := self._workers.get(status.name)) is not None:
            worker.give_up(status.last_error or "its worker failed")

    def reports(self) -> tuple[ModelReport, ...]:
        """Every model of every worker, and those that were the last of a group, and failed."""
        found = [report for worker in self._workers.values() for report in worker.reports()]
        held = {report.id for report in found}
        return (*found, *(report for model, report in self._failed.items() if model not in held))

    def actors(self) -> tuple[ActorReport, ...]:
        """The workers as actors, without groups that have ended."""
        return tuple(actor_report(each) for each in self._supervisor.status() if each.name in self._workers)

    async def load(
        self,
        model: str,
        path: str,
        device: str | None,
        quant: Quant | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        """Load a model where it already is, else on ``device``, else where the fewest are.

        Raises:
            ApiError: no such device, or the worker's reason.
        """
        if device is not None:
            device_groups.check(device, self._devices)
        await self._leave_failed(model, device, elsewhere)
        worker = self._find(model) or await self._place(model, device, elsewhere)
        self._failed.pop(model, None)
        self._joining[worker] += 1
        try:
            await worker.load(model, path, quant)
        finally:
            self._leave(worker)
            if isinstance(worker, TpLeader) and self._nursery is not None:
                # not here: the load goes on, and may fail, also when whoever asked for it has gone
                self._nursery.start_soon(self._end_when_settled, worker)

    def _leave(self, worker: DeviceWorker) -> None:
        self._joining[worker] -= 1
        if self._joining[worker] <= 0:
            del self._joining[worker]

    async def _leave_failed(self, model: str, device: str | None, elsewhere: Elsewhere | None) -> None:
        """Forget a model that failed where it is not to be tried again: on other devices, or by ranks that are gone."""
        worker = self._find(model)
        if worker is None or _report(worker, model).status != "failed":
            return
        is_lost = isinstance(worker, TpLeader) and worker.given_up
        if is_lost or elsewhere is not None or device not in (None, worker.device):
            await self.unload(model)

    async def unload(self, model: str) -> None:
        """Unload a model; the processes of a group end with its last one.

        Raises:
            ApiError: ``model_not_found``.
        """
        if (worker := self._find(model)) is None:
            if self._failed.pop(model, None) is None:
                raise errors.model_not_found(model)
            return
        try:
            await worker.unload(model)
        finally:
            if isinstance(worker, TpLeader):
                await self._end_unless_wanted(worker)

    async def _end_when_settled(self, group: TpLeader) -> None:
        await group.wait_settled()
        await self._end_unless_wanted(group)

    async def _end_unless_wanted(self, group: TpLeader) -> None:
        """End a group that has no model but failed ones, and that nobody is about to load one on."""
        if self._joining[group] > 0 or any(report.status != "failed" for report in group.reports()):
            return
        if self._workers.get(group.name) is group:
            await self._end(group)
        elif (ending := self._ending.get(group.name)) is not None:
            with trio.CancelScope(shield=True):  # somebody else ends it; whoever unloads wants its memory back
                await ending.wait()

    async def _end(self, group: TpLeader) -> None:
        self._failed |= {report.id: report for report in group.reports()}
        del self._workers[group.name]
        ended = self._ending[group.name] = trio.Event()
        with trio.CancelScope(shield=True):  # bounded by the end of processes; half ended, they would be nobody's
            await self._supervisor.stop(group.name)
        del self._ending[group.name]
        ended.set()

    async def restart(self, device: str, *, force: bool) -> None:
        """Replace the processes of a device's worker, or of a group, and wait until the same models have settled.

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
        if self._workers.get(worker.name) is not worker:
            return  # a group that has ended meanwhile
        policy = self._group_policy if isinstance(worker, TpLeader) else self._policy
        try:
            self._supervisor.spawn(worker, policy, escalate=False)
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
        if (worker := self._find(model)) is not None:
            return worker.submit(model, prompt_ids, sampling, key)
        if (report := self._failed.get(model)) is not None:
            raise errors.unavailable(f"The model '{model}' is failed: {report.error}.", 2)
        raise errors.model_not_found(model)

    def _find(self, model: str) -> DeviceWorker | None:
        """The worker that has a model."""
        return next((worker for worker in self._workers.values() if worker.holds(model)), None)

    async def _place(self, model: str, device: str | None, elsewhere: Elsewhere | None) -> DeviceWorker:
        """The worker that is to have a model which none has."""
        device = device or self._pick(model)
        if elsewhere is None and device in self._devices:
            return self._on(device)
        return await self._group(model, device, elsewhere)

    def _pick(self, model: str) -> str:
        ranks = self._ranks_of(model)
        held = {device: sum(map(self._weight, self._workers_of(device))) for device in self._devices}
        if (found := device_groups.pick(held, ranks)) is None:
            here = ", ".join(self._devices)
            raise errors.upstream_error(f"'{model}' is to be spread over {ranks} devices, and this host has {here}.")
        return found

    def _workers_of(self, device: str) -> list[DeviceWorker]:
        return [worker for worker in self._workers.values() if device in devices_of(worker.device)]

    @staticmethod
    def _weight(worker: DeviceWorker) -> int:
        is_dead = worker.given_up and not isinstance(worker, TpLeader)
        return _NEVER if is_dead else len(worker.reports())

    async def _group(self, model: str, device: str, elsewhere: Elsewhere | None) -> TpLeader:
        """The group of these devices, made if there is none; one with ranks elsewhere has a single model.

        Raises:
            ApiError: the neuron is shutting down.
        """
        fresh = self._leader(model, device, elsewhere)
        while (ending := self._ending.get(fresh.name)) is not None:
            await ending.wait()
        known = self._workers.get(fresh.name)
        if isinstance(known, TpLeader) and (known.given_up or elsewhere is not None):
            await self._end(known)
            return await self._group(model, device, elsewhere)
        if isinstance(known, TpLeader):
            return known
        try:
            self._supervisor.spawn(fresh, self._group_policy, escalate=False)
        except SupervisorNotRunningError as error:
            raise errors.shutting_down() from error
        self._workers[fresh.name] = fresh
        return fresh

    def _leader(self, model: str, device: str, elsewhere: Elsewhere | None) -> TpLeader:
        meeting, label = Meeting(), ""
        if elsewhere is not None:
            meeting, label = Meeting(elsewhere.host, elsewhere.port, elsewhere.token, elsewhere.count), model
        return TpLeader(
            devices_of(device),
            memory=self._memory,
            recovery=self._recovery,
            load_seconds=self._load_seconds,
            meeting=meeting,
            label=label,
        )


def _report(worker: DeviceWorker, model: str) -> ModelReport:
    return next(report for report in worker.reports() if report.id == model)


def _busy(device: str) -> ApiError:
    message = f"The device '{device}' has requests or loads a model. Wait, or ask with 'force': true."
    return ApiError(409, message, "invalid_request_error", "device_busy")
