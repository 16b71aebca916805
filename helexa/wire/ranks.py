"""A model that several devices share: how the group is named, and what neurons are told of ranks on several hosts."""

from attrs import field, frozen

_JOINT = "+"


def group_of(devices: tuple[str, ...]) -> str:
    """The name of the devices of one host that share a model, rank 0's first: ``cuda:0+cuda:1``."""
    return _JOINT.join(devices)


def devices_of(group: str | None) -> tuple[str, ...]:
    """The devices that a model's ``device`` stands for; one, for a model that shares none."""
    return () if group is None else tuple(group.split(_JOINT))


@frozen
class Share:
    """What one of so many ranks needs of its device for a model, in MiB.

    Attributes:
        ranks: how many devices share the model; 1: it has a device to itself.
        weights_mb: its part of the weights.
        kv_mb: its part of the KV cache for the shortest context worth serving.
        workspace_mb: what a step takes beside that, at most.
    """

    ranks: int
    weights_mb: int
    kv_mb: int
    workspace_mb: int = 0

    @property
    def need_mb(self) -> int:
        """All of it."""
        return self.weights_mb + self.kv_mb + self.workspace_mb


@frozen
class Elsewhere:
    """The ranks of a group that other hosts run; for the neuron that leads it.

    Attributes:
        count: how many, the last ones.
        host: this host's address, where the leader waits for them, and nowhere else.
        port: likewise.
        token: the group's secret.
    """

    count: int
    host: str
    port: int
    token: str = field(repr=False)


@frozen
class RankRequest:
    """``POST /ranks``: run one rank of a group that another neuron leads, until ``DELETE /ranks/{group}``.

    Attributes:
        group: names it; one device has one rank of it at most.
        device: torch's name of the device.
        rank: its number.
        ranks: how many there are.
        host: where the leader waits.
        port: likewise.
        token: the group's secret.
    """

    group: str
    device: str
    rank: int
    ranks: int
    host: str
    port: int
    token: str = field(repr=False)
