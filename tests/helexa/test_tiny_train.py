"""The training loop of the bundled model, on a handful of rows."""

from itertools import islice

import pytest
import torch
from tokenizers import Tokenizer

from helexa.tiny import CHECKPOINT
from helexa.tiny.batches import Batch, stream
from helexa.tiny.train import Trainer, make_model, rate, targets


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json"))


def test_a_position_predicts_the_learned_token_after_it() -> None:
    batch = Batch(torch.tensor([[5, 6, 7, 0], [8, 9, 0, 0]]), torch.tensor([[0, 0, 1, 0], [0, 1, 0, 0]]).bool())
    where, wanted = targets(batch)
    assert where.tolist() == [1, 4]
    assert wanted.tolist() == [7, 9]


def test_the_first_token_of_a_row_is_never_a_target_of_the_row_before() -> None:
    batch = Batch(torch.tensor([[5, 6], [7, 8]]), torch.tensor([[0, 0], [1, 0]]).bool())
    assert targets(batch)[0].tolist() == []


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [rate(step, 1000) for step in range(1001)]
    assert rates[0] < rates[50] < max(rates) == 1.0
    assert rates[-1] == pytest.approx(0.01)
    assert rates[100:] == sorted(rates[100:], reverse=True)


def test_the_same_seed_gives_the_same_batches(tokenizer: Tokenizer) -> None:
    first, second = (list(islice(stream(tokenizer, 3, 512, chunk=40), 12)) for _ in range(2))
    assert all(
        torch.equal(a.ids, b.ids) and torch.equal(a.learned, b.learned) for a, b in zip(first, second, strict=True)
    )


def test_batches_hold_whole_rows_within_the_budget(tokenizer: Tokenizer) -> None:
    for batch in islice(stream(tokenizer, 4, 1024, chunk=60), 20):
        assert batch.ids.numel() <= 1024 or len(batch.ids) == 1
        assert batch.learned.any(dim=1).all()


def test_steps_on_one_batch_lower_its_loss(tokenizer: Tokenizer) -> None:
    trainer = Trainer(make_model(tokenizer, 1), 100, compiled=False)
    batch = next(stream(tokenizer, 5, 256, chunk=20))
    losses = [trainer.step([batch]) for _ in range(6)]
    assert losses[-1] < losses[0] - 0.5
