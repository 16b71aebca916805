"""What the ranks of a group do with what the first one tells them; two threads stand in for two processes."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from attrs import define, evolve
from engine_runs import Bench, greedy, prompt
from rank_threads import Ranks

from actors import python
from helexa.engine import protocol, ranks
from helexa.engine.core import Engine
from helexa.engine.parallel import frames as parallel_frames
from helexa.engine.parallel.control import ALONE, Lead, Member, Peer
from helexa.engine.parallel.frames import Drop, LoadShard, RankProtocolError, Step, Vote
from helexa.engine.parallel.loading import ShardLoading, load_shard
from helexa.engine.ranks import Follower, LeadRunner
from helexa.engine.scheduling.plan import Chunk, StepPlan
from helexa.engine.scheduling.scheduler import Budget
from helexa.engine.weights.loading import LoadedModel, LoadError, load_model
from helexa.tiny import CHECKPOINT

END = Drop("the test is over")
COMMAND = [sys.executable, "-P", "-m", "helexa.engine.ranks"]
RANK = ["--rank", "1", "--ranks", "2", "--device", "cpu", "--own", "127.0.0.2"]


@define(eq=False)
class Group:
    """A lead for the test to use, and a follower that does what it is told."""

    lead: Lead
    follower: Follower
    ranks: Ranks

    def load(self, path: Path | str, model: str = "m") -> LoadedModel:
        order = LoadShard(model, str(path), 8, None)
        self.lead.tell(order)
        loaded = load_shard(order, "cpu", ShardLoading(self.lead, self.ranks.collectives[0]))
        return evolve(loaded, runner=LeadRunner(model, loaded.runner, self.lead))


@pytest.fixture
def group() -> Iterator[Group]:
    ours, theirs = socket.socketpair()
    threads = Ranks(2)
    lead = Lead([Peer(ours, "rank 1", 10, lambda _: None)])
    member = Member(1, 2, Peer(theirs, "rank 0", 10, lambda _: None))
    found = Group(lead, Follower(member, "cpu", threads.collectives[1]), threads)

    def follow() -> None:
        while (frame := member.take()) != END:
            found.follower.handle(frame)

    following = threads.start(1, follow)
    yield found
    lead.tell(END)
    following.result(20)
    threads.close()
    # transformers sets it while it makes a model, for the whole process: two threads leave each other's behind
    torch.set_default_dtype(torch.float32)
    for each in (ours, theirs):
        each.shutdown(socket.SHUT_RDWR)
        each.close()


def answers(model: LoadedModel) -> list[list[int]]:
    """Greedy continuations of prompts that run together."""
    bench = Bench.of(model)
    for length in (3, 17, 60):
        assert bench.submit(f"r{length}", prompt(length, length), greedy(16)) == []
    outcome = bench.run()
    return [outcome.of(f"r{length}") for length in (3, 17, 60)]


def test_two_ranks_pick_the_tokens_of_one(group: Group) -> None:
    expected = answers(load_model(str(CHECKPOINT), "cpu"))
    assert answers(group.load(CHECKPOINT)) == expected


def scores(model: LoadedModel, ids: list[int]) -> list[float]:
    """What a model thinks of each token of a prompt but the first."""
    engine = Engine(model, Budget(tokens=24))
    params = protocol.ScoringParams(max_tokens=1, temperature=0, logprobs=0, prompt_logprobs=0)
    assert engine.submit(protocol.Submit("r", "m", ids, params)) == []
    found = []
    while engine.has_work:
        found += [each for delta in engine.step()[0] for each in delta.logprobs if each.prompt]
    return [each.logprob for each in found if each.logprob is not None]


def test_two_ranks_score_a_prompt_as_one(group: Group, qwen: Path) -> None:
    ids = prompt(90)
    expected = scores(load_model(str(qwen), "cpu"), ids)
    assert len(expected) == 89
    assert scores(group.load(qwen), ids) == pytest.approx(expected, abs=1e-3)


def test_a_model_that_does_not_load_leaves_the_group_as_it_was(group: Group, tmp_path: Path) -> None:
    model = group.load(CHECKPOINT)
    expected = answers(model)
    with pytest.raises(LoadError, match="there is no directory '/nowhere'"):
        group.load("/nowhere", "gone")
    assert set(group.follower._runners) == {"m"}
    assert answers(model) == expected


def test_a_model_that_is_dropped_is_gone_from_all_ranks(group: Group) -> None:
    group.load(CHECKPOINT)
    group.load(CHECKPOINT, "other")
    group.lead.tell(Drop("m"))
    with pytest.raises(LoadError):
        group.load("/nowhere", "gone")  # until it has voted on that, it may not have come to the drop
    assert set(group.follower._runners) == {"other"}


@pytest.mark.parametrize("frame", [Step.of("m", StepPlan((Chunk(1, [1], 0, [0], due=True),))), Vote(1)])
def test_what_a_rank_cannot_do_is_an_error(frame: parallel_frames.RankFrame) -> None:
    follower = Follower(None, "cpu", None)  # type: ignore[arg-type]  # it does not come to these
    with pytest.raises(RankProtocolError, match=f"the first rank sent {type(frame).__name__} out of turn"):
        follower.handle(frame)


def test_a_rank_that_finds_no_first_rank_says_so_and_ends(forked_engines: None) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        subprocess.Popen(
            [*COMMAND, *RANK, "--meet", f"127.0.0.1:{listener.getsockname()[1]}"],
            env={**python.environment(), ranks.TOKEN: "token"},
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process,
    ):
        sock, _ = listener.accept()
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        sock.close()
        assert process.wait(60) == ALONE
        assert process.stderr is not None
        assert b"the first rank at 127.0.0.1" in process.stderr.read()
        assert process.stdin is not None
        process.stdin.close()


def test_a_step_that_breaks_on_the_first_rank_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        vocabulary, reuses_prefixes = 3, True

        def forward(self, _plan: StepPlan) -> None:
            raise MemoryError("no room")

    def leave(reason: str, code: int) -> None:
        raise SystemExit(f"{reason} ({code})")

    monkeypatch.setattr(ranks, "leave", leave)
    runner = LeadRunner("m", Broken(), Lead([]))  # type: ignore[arg-type]  # it does not come to an answer
    with pytest.raises(SystemExit, match=r"a step broke: MemoryError: no room \(1\)"):
        runner.forward(StepPlan((Chunk(1, [1], 0, [0], due=True),)))
