"""One model loaded by all ranks of a group, or by none."""

from collections.abc import Callable
from typing import Any, Protocol

from helexa.engine.parallel.control import leave
from helexa.engine.parallel.frames import LoadShard, Vote
from helexa.engine.parallel.group import Collectives
from helexa.engine.parallel.network import ParallelNetwork, ShareError
from helexa.engine.weights.loading import LoadedModel, LoadError, load_model

_VOTES = 2
"""On a load: on how many KV blocks, once the weights are there; and that these are there too."""


class Control(Protocol):
    """What a group agrees by: `helexa.engine.parallel.control.Lead` or ``Member``."""

    def vote(self, own: Vote) -> Vote:
        """What this rank can do, for what the group can."""


class AgreedError(LoadError):
    """All ranks know that this load has failed."""


class ShardLoading:
    """What `helexa.engine.weights.loading.load_model` asks of a group: its ``Ranks``. For one load.

    Args:
        control: to agree with the other ranks.
        collectives: for the network.
    """

    def __init__(self, control: Control, collectives: Collectives) -> None:
        self._control = control
        self._collectives = collectives
        self._due = _VOTES

    @property
    def count(self) -> int:
        """How many ranks share the model."""
        return self._collectives.ranks

    def network(self, module: Any, **how: Any) -> ParallelNetwork:
        """This rank's share; ``how`` as for ``ParallelNetwork``.

        Raises:
            LoadError: it cannot be split.
        """
        try:
            return ParallelNetwork(module, self._collectives, **how)
        except ShareError as error:
            raise LoadError(str(error)) from error

    def agree(self, blocks: int) -> int:
        """KV blocks of every rank, of what this one has room for: the same block numbers have to exist on all.

        Raises:
            AgreedError: a rank cannot load its share.
        """
        return self._vote(Vote(blocks))

    def give_up(self, error: LoadError) -> None:
        """Tell the others that this rank cannot go on, if they do not know.

        After the last vote there is nobody who could be told: they are in a collective by then, and the group breaks.
        """
        if isinstance(error, AgreedError):
            return
        if not self._due:
            leave(f"a model could be loaded and not be run: {error}")
        self._control.vote(Vote(0, str(error)))

    def _vote(self, own: Vote) -> int:
        self._due -= 1
        verdict = self._control.vote(own)
        if verdict.error is not None:
            raise AgreedError(verdict.error)
        return verdict.value


def load_shard(
    order: LoadShard,
    device: str,
    loading: ShardLoading,
    load: Callable[..., LoadedModel] = load_model,
) -> LoadedModel:
    """Load this rank's share; every rank has to be told to.

    Args:
        order: what to load.
        device: torch's name of this rank's device.
        loading: for this load alone.
        load: `helexa.engine.weights.loading.load_model`.

    Raises:
        LoadError: a rank could not; none has it then.
    """
    try:
        return load(order.path, device, order.running, order.memory, order.quant, ranks=loading)
    except LoadError as error:
        loading.give_up(error)
        raise
