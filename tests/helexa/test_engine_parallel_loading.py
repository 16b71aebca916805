"""A model is loaded by all ranks or by none, and whoever cannot go on leaves nobody waiting."""

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from architectures import make_module
from attrs import define, field

from helexa.engine.parallel import loading as parallel_loading
from helexa.engine.parallel.control import tally
from helexa.engine.parallel.frames import LoadShard, Vote
from helexa.engine.parallel.loading import AgreedError, ShardLoading, load_shard
from helexa.engine.weights.loading import LoadError

ORDER = LoadShard("m", "/m", 8, 2**30, "int8")


@define
class Others:
    """The rest of a group, which votes as it was told to. ``heard``: this rank's votes."""

    votes: deque[Vote]
    heard: list[Vote] = field(factory=list)

    def vote(self, own: Vote) -> Vote:
        self.heard.append(own)
        return tally([own, self.votes.popleft()])


class Three:
    rank, ranks = 0, 3


def attempt(others: Others, load: Callable[..., Any]) -> Any:
    return load_shard(ORDER, "cpu", ShardLoading(others, Three()), load)  # type: ignore[arg-type]  # no collectives


def agreeing(_path: str, _device: str, _running: int, _memory: int, _quant: str, *, ranks: ShardLoading) -> Any:
    return [ranks.count, ranks.agree(7), ranks.agree(7)]


def test_all_ranks_get_as_many_blocks_as_the_poorest_has_room_for() -> None:
    others = Others(deque([Vote(5), Vote(9)]))
    assert attempt(others, agreeing) == [3, 5, 7]
    assert others.heard == [Vote(7), Vote(7)]


def test_it_is_loaded_as_ordered() -> None:
    found: list[object] = []
    attempt(Others(deque()), lambda *order, **_: found.extend(order))
    assert found == ["/m", "cpu", 8, 2**30, "int8"]


@pytest.mark.parametrize("before", [0, 1])
def test_a_rank_that_cannot_go_on_tells_the_others(before: int) -> None:
    def load(*_: object, ranks: ShardLoading) -> None:
        for _vote in range(before):
            ranks.agree(7)
        raise LoadError("no room")

    others = Others(deque([Vote(5), Vote(5)]))
    with pytest.raises(LoadError, match="no room"):
        attempt(others, load)
    assert others.heard == [*[Vote(7)] * before, Vote(0, "no room")]


@pytest.mark.parametrize("votes", [[Vote(0, "no room")], [Vote(5), Vote(0, "no room")]])
def test_what_another_rank_cannot_is_told_once(votes: list[Vote]) -> None:
    others = Others(deque(votes))
    with pytest.raises(AgreedError, match="on rank 1, no room"):
        attempt(others, agreeing)
    assert len(others.heard) == len(votes)


def test_a_model_that_cannot_be_run_after_all_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, ranks: ShardLoading) -> None:
        ranks.agree(7)
        ranks.agree(7)
        raise LoadError("no room")

    def leave(reason: str) -> None:
        raise SystemExit(reason)

    monkeypatch.setattr(parallel_loading, "leave", leave)
    with pytest.raises(SystemExit, match="a model could be loaded and not be run: no room"):
        attempt(Others(deque([Vote(5), Vote(5)])), load)


def test_a_model_that_cannot_be_split_does_not_load() -> None:
    loading = ShardLoading(Others(deque()), Three())  # type: ignore[arg-type]  # no collectives
    with pytest.raises(LoadError, match="its 4 attention heads cannot be shared evenly by 3 devices"):
        loading.network(make_module("qwen3"))
