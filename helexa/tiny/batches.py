"""An endless, reproducible stream of training batches."""

from collections.abc import Iterator, Mapping
from random import Random

import torch
from attrs import frozen
from tokenizers import Tokenizer

from helexa.tiny.corpus import DRILL, SHARES, Draw, conversation, document, draw_task, drill
from helexa.tiny.encode import END_OF_TEXT, Piece, Renderer, Row, encode, token_id

_CHUNK = 20_000  # conversations sorted by length together: enough for full batches, made in a few seconds
_DOCUMENTS = 0.02  # share of plain texts
_GRAIN = 32  # row lengths are rounded up to this, so that a compiler sees few shapes


@frozen
class Batch:
    """Rows of one length.

    Attributes:
        ids: int64 of (rows, length), padded on the right.
        learned: bool of (rows, length), true where the token is one the model learns to say.
    """

    ids: torch.Tensor
    learned: torch.Tensor


def pieces(renderer: Renderer, draw: Draw, shares: Mapping[str, float] = SHARES) -> list[Piece]:
    """Return one training text in pieces."""
    if draw.chance(_DOCUMENTS):
        return [(document(draw) + END_OF_TEXT, True)]
    task = draw_task(draw, shares)
    if task == DRILL:
        return [*_drilled(draw), (END_OF_TEXT, True)]
    return renderer.pieces(conversation(draw, task))


def sample(renderer: Renderer, draw: Draw, count: int, shares: Mapping[str, float] = SHARES) -> list[list[Piece]]:
    """Return a number of training texts."""
    return [pieces(renderer, draw, shares) for _ in range(count)]


def stream(
    tokenizer: Tokenizer, seed: int, tokens: int, chunk: int = _CHUNK, shares: Mapping[str, float] = SHARES
) -> Iterator[Batch]:
    """Yield batches of about ``tokens`` tokens for ever; the same seed yields the same batches."""
    renderer = Renderer()
    pad = token_id(tokenizer, END_OF_TEXT)
    draw = Draw(Random(seed))
    while True:
        rows = sorted(encode(tokenizer, sample(renderer, draw, chunk, shares)), key=lambda row: len(row.ids))
        groups = list(_groups(rows, tokens))
        draw.rng.shuffle(groups)
        yield from (_batch(group, pad) for group in groups)


def _drilled(draw: Draw) -> Iterator[Piece]:
    for given, learned in drill(draw):
        yield given, False
        yield learned, True
        yield " ", False


def _groups(rows: list[Row], tokens: int) -> Iterator[list[Row]]:
    group: list[Row] = []
    for row in rows:
        if group and _rounded(len(row.ids)) * (len(group) + 1) > tokens:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def _batch(rows: list[Row], pad: int) -> Batch:
    length = _rounded(max(len(row.ids) for row in rows))
    ids = torch.full((len(rows), length), pad)
    learned = torch.zeros((len(rows), length), dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = torch.tensor(row.ids)
        learned[i, : len(row.ids)] = torch.tensor(row.learned)
    return Batch(ids, learned)


def _rounded(length: int) -> int:
    return -(-length // _GRAIN) * _GRAIN
