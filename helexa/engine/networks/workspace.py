"""What a model takes of a device beside weights and cache, at most: while it is loaded, and in its largest step. Pure.

Sums of the tensors that are there at the same time, as ``native``, ``attention``, ``flash``, ``graphs`` and
`helexa.engine.sampling.drawing` make them. Of models that transformers runs, a guess in the same terms.
"""

from typing import Final

from attrs import frozen

from helexa.engine.memory import MIB, block_size
from helexa.engine.networks.decoders import Decoder
from helexa.engine.quant.formats import Quant
from helexa.engine.scheduling.scheduler import Budget

READ_AHEAD: Final = 64 * MIB
"""As ``reading.AHEAD``, which imports torch."""
CUDA_CONTEXT: Final = 512 * MIB
"""What the driver, its kernels and cuBLAS hold of a GPU for a process; some hundred MiB, by GPU and driver."""
_FLOAT32: Final = 4
_TILE: Final = 128
"""Rows of a prompt that are attended at once on a CPU; ``attention._TILE``."""
_SLICE: Final = 512
"""Rows of reduced weights that are widened at a time."""
_DRAWN: Final = 24
"""Bytes per logit while a token is drawn by its probability: float32 twice, int64 twice."""
_DRAWN_AT_ONCE: Final = 2**19
"""Logits, on a CPU; ``sampling._SLICE``."""


@frozen
class Step:
    """The largest step of a model on a kind of device.

    Attributes:
        decoder: the model.
        kind: of the device.
        ranks: how many share the model.
        quant: what most of it is held as.
        context: tokens that a sequence has at its end.
    """

    decoder: Decoder
    kind: str
    ranks: int
    quant: Quant | None
    context: int

    @property
    def tokens(self) -> int:
        """That it computes: of one prompt, all that the budget of a step allows."""
        return min(Budget.for_device(self.kind).tokens, self.context)

    @property
    def running(self) -> int:
        """Sequences at once: as many as the budget allows, and as there are blocks for in a cache of ``context``."""
        return max(1, min(Budget.for_device(self.kind).running, self.context // block_size(self.kind)))

    @property
    def nbytes(self) -> int:
        """Beside weights and cache, at most."""
        phases = (self._projecting, self._attending, self._widening, self._drawing)
        graphs = self._graphs + CUDA_CONTEXT if self.kind == "cuda" else 0
        return self._standing + max(phases) + graphs

    @property
    def _attended(self) -> int:
        """Bytes of all heads' outputs."""
        return self.tokens * self.decoder.heads * self.decoder.head // self.ranks * self.decoder.element

    @property
    def _hidden(self) -> int:
        return self.tokens * self.decoder.width * self.decoder.element

    @property
    def _neurons(self) -> int:
        return self.tokens * self.decoder.neurons // self.ranks * self.decoder.element

    @property
    def _standing(self) -> int:
        """There through all of a layer: its input, the turn of each position, what the layer before has left."""
        turn = self.tokens * self.decoder.head * _FLOAT32
        return 2 * self._hidden + turn + self._attended + 2 * self._neurons

    @property
    def _qkv(self) -> int:
        decoder = self.decoder
        return self.tokens * (decoder.heads + 2 * decoder.kv_heads) * decoder.head // self.ranks * decoder.element

    @property
    def _projecting(self) -> int:
        """Queries, keys and values; the first two in float32, and once more turned."""
        return self._qkv + 2 * self._qkv * _FLOAT32 // self.decoder.element

    @property
    def _attending(self) -> int:
        """On a GPU in one kernel; on a CPU as scores of some rows, in float32, before and after the softmax."""
        there = 2 * self._qkv + 2 * self._attended
        if self.kind == "cuda" and not self.decoder.written_out:
            return there
        return there + self._gathered + (self._formula if self.decoder.written_out else self._tile)

    @property
    def _seen(self) -> int:
        """Positions that the tokens of a step see."""
        window = self.decoder.window
        return self.context if window is None else min(self.context, window + self.tokens)

    @property
    def _gathered(self) -> int:
        """Keys and values of one layer that do not lie in a row."""
        return max(each.elements for each in self.decoder.kept) // self.ranks * self._seen * self.decoder.element

    @property
    def _tile(self) -> int:
        rows, element = min(_TILE, self.tokens), self.decoder.element
        each = 2 * _FLOAT32 + (element if element < _FLOAT32 else 0)
        return self.decoder.heads // self.ranks * rows * self._seen * each

    @property
    def _formula(self) -> int:
        """All rows at once, three times; and keys and values for every head, in float32."""
        decoder = self.decoder
        wide = 2 * decoder.heads * decoder.head * self._seen * _FLOAT32
        return 3 * decoder.heads * self.tokens * self._seen * _FLOAT32 + wide

    @property
    def _widening(self) -> int:
        """Gate and up, and what becomes of them; a piece of weights that are reduced; what ranks exchange."""
        piece = _SLICE * max(self.decoder.width, self.decoder.neurons) * 4 if self.quant not in (None, "bf16") else 0
        exchanged = (self.ranks - 1) * self._hidden
        return self._hidden + 3 * self._neurons + piece + exchanged

    @property
    def _logits(self) -> int:
        """Of all sequences; where several ranks have parts of them, those too, and put together."""
        copies = 1 if self.ranks == 1 else 3
        return self.running * self.decoder.vocabulary * self.decoder.element * copies

    @property
    def _drawing(self) -> int:
        vocabulary = self.decoder.vocabulary
        at_once = self.running * vocabulary
        if self.kind == "cpu":
            at_once = min(at_once, max(_DRAWN_AT_ONCE, vocabulary))
        return self._logits + at_once * _DRAWN

    @property
    def _graphs(self) -> int:
        """Logits of each graph of decode steps, and the activations of the largest; all are recorded at the start."""
        if self.ranks > 1:
            return 0
        running, element = Budget.for_device(self.kind).running, self.decoder.element
        rows = sum(graph_sizes(running))
        layer = self.decoder.width * 4 + self.decoder.neurons * 4 + self.decoder.heads * self.decoder.head * 4
        return rows * self.decoder.vocabulary * element + running * layer * element


def graph_sizes(most: int) -> list[int]:
    """Of the batches that ``graphs`` records; ``graphs.buckets``, which imports torch."""
    return [*(size for size in (1, 2, 4, 8, 16) if size < most), *range(32, most, 32), most]
