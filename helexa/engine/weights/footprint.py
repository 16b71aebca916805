"""What a model takes of a device, before anything of it is loaded: weights, KV cache, and what a step needs. Pure.

A model of the family that helexa runs itself is known by the numbers of its configuration: which products it has, how
they are joined, what each is held as, and how ranks share them (see ``native`` and ``parallel``). Of any other model
the headers of its files, or their size, tell the weights, and it cannot be spread over ranks.

Held against what loading really takes, in processes of workers, by ``tests/actors/test_footprint.py``.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import evolve, field, frozen

from helexa.engine.memory import SHORTEST_CONTEXT, bytes_per_token
from helexa.engine.networks import decoders
from helexa.engine.networks.decoders import Decoder
from helexa.engine.networks.workspace import READ_AHEAD, Step
from helexa.engine.quant.formats import NEAREST, Quant, held_as, linear_bytes, of_head, reduced_bytes, rough_bytes
from helexa.engine.weights.files import STORED_FLOATS
from helexa.engine.weights.headers import Place
from helexa.gguf import Header

DEGREES: Final = (2, 4, 8)
"""Numbers of ranks that a model may be spread over."""
_FLOAT32: Final = 4
_WIDE: Final = 3
"""Bytes per number from which files have to be in float32."""
_CLOSE: Final = 0.1
"""How far the numbers in a model's files may be from those that its configuration makes, if it is to be believed."""
_BITS: Final[dict[Quant, int]] = {"bf16": 16, "int8": 8, "fp8": 8, "int4": 4}
_SCRATCH: Final[dict[Quant, int]] = {"bf16": 0, "int8": 2, "int4": 0, "fp8": 8}
"""Bytes per weight that reducing a matrix to this takes meanwhile, beside the matrix and what comes of it."""
_EXPERTS: Final = ".experts."


@frozen
class Target:
    """A kind of device.

    Attributes:
        kind: torch's name of it, ``cpu`` or ``cuda``.
        packs: weights in bfloat16 are laid out anew (see ``packing``), so that a tied output layer is held twice.
    """

    kind: str = "cpu"
    packs: bool = True

    def lays_out(self, dtype: str) -> bool:
        """Whether weights of a dtype that are not reduced are copied as well."""
        return self.packs and self.kind == "cpu" and dtype == "bfloat16"


@frozen
class Footprint:
    """Bytes that one rank needs of its device.

    Attributes:
        weights: of its share.
        token: of keys and values of one token.
        context: tokens of the shortest context worth serving, or of the model's, if that is shorter.
        workspace: what loading, or a step over that context, takes beside weights and such a cache, at most. A step
            over a longer one takes more, on CPUs in proportion.
    """

    weights: int
    token: int
    context: int
    workspace: int

    @property
    def kv(self) -> int:
        """KV cache for one sequence of that context."""
        return self.context * self.token


@frozen
class Needs:
    """What a model needs.

    Attributes:
        alone: of a device that has it to itself.
        shared: of each of several ranks, by how many there are: those that it can be spread over.
    """

    alone: Footprint
    shared: Mapping[int, Footprint] = field(factory=dict)


@frozen
class Product:
    """One rank's part of a linear layer as it is held: of several of the model's, where they are joined."""

    outputs: int
    inputs: int
    quant: Quant | None
    biased: bool = False

    @property
    def held(self) -> Quant:
        """What it is held as."""
        return held_as(self.quant, self.outputs, self.inputs)

    def nbytes(self, element: int) -> int:
        """Bytes of weight, scales and bias; ``element`` bytes for each number that is not reduced."""
        bias = self.outputs * element if self.biased else 0
        return linear_bytes(self.quant, self.outputs, self.inputs, element) + bias

    def scratch(self) -> int:
        """Bytes that reducing it takes meanwhile."""
        return self.outputs * self.inputs * _SCRATCH[self.held]


@frozen
class Formats:
    """What the four products of a layer are asked to be held as; ``None``: as the files have them."""

    qkv: Quant | None
    output: Quant | None
    gate_up: Quant | None
    down: Quant | None


@frozen
class Native:
    """A model of the family, as it is to be loaded.

    Attributes:
        decoder: its shape.
        layers: what each layer is asked to be held as.
        head: what the output layer is.
        target: where to.
        ranks: how many share it; a number that ``decoder`` divides by.
    """

    decoder: Decoder
    layers: Sequence[Formats]
    head: Quant | None
    target: Target = field(factory=Target)
    ranks: int = 1

    def products(self, formats: Formats) -> tuple[Product, ...]:
        """Of one layer, as one rank holds them."""
        shape, ranks = self.decoder, self.ranks
        queries, keys = shape.heads * shape.head // ranks, shape.kv_heads * shape.head // ranks
        neurons, biased = shape.neurons // ranks, shape.biased
        return (
            Product(queries + 2 * keys, shape.width, formats.qkv, "qkv" in biased),
            Product(shape.width, queries, formats.output, "output" in biased),
            Product(2 * neurons, shape.width, formats.gate_up, "gate_up" in biased),
            Product(shape.width, neurons, formats.down, "down" in biased),
        )

    @property
    def output_layer(self) -> Product:
        """This rank's rows of it."""
        return Product(-(-self.decoder.vocabulary // self.ranks), self.decoder.width, self.head)

    @property
    def copies_head(self) -> bool:
        """Whether the output layer is made of a matrix that stays what it was, for the embedding or until the end."""
        reduced = self.output_layer.held != "bf16"
        return self.ranks > 1 or reduced or self.target.lays_out(self.decoder.dtype)

    @property
    def weights(self) -> int:
        """Bytes of one rank's share; embedding and norms are whole on each."""
        element = self.decoder.element
        layers = sum(each.nbytes(element) for formats in self.layers for each in self.products(formats))
        head = self.output_layer.nbytes(element) if self.copies_head or not self.decoder.tied else 0
        return self._embedding + layers + head + self.norms

    @property
    def arranging(self) -> int:
        """Bytes beside the weights while these are made: what is read, what is joined of it, and the output layer.

        What is read lies in memory that is used again until all is arranged; see ``arena``.
        """
        whole = evolve(self, ranks=1).products(Formats(None, None, None, None))
        element, made = self.decoder.element, self.products(self.layers[0])
        replaced = whole if self.copies_head else (whole[0], whole[2])  # or else the other two stay as they are read
        layer = sum(each.nbytes(element) for each in replaced)
        joined = whole[2].nbytes(element) + max(map(Product.scratch, made))
        left = self._embedding if self.copies_head and not self.decoder.tied else 0
        read = max(layer, min(READ_AHEAD, layer * self.decoder.depth))
        return left + max(read + joined, self.output_layer.scratch())

    @property
    def footprint(self) -> Footprint:
        """All of it."""
        decoder = self.decoder
        context = min(SHORTEST_CONTEXT, decoder.context)
        token = bytes_per_token(decoder.kept, decoder.element) // self.ranks
        step = Step(decoder, self.target.kind, self.ranks, self.layers[0].gate_up, context).nbytes
        return Footprint(self.weights, token, context, max(step, self.arranging - context * token))

    @property
    def _embedding(self) -> int:
        return self.decoder.vocabulary * self.decoder.width * self.decoder.element

    @property
    def norms(self) -> int:
        """Bytes of them, held in float32."""
        shape = self.decoder
        scales = (shape.heads + shape.kv_heads) // self.ranks * shape.head if shape.scaled else 0
        return ((2 * shape.depth + 1) * shape.width + shape.depth * scales) * _FLOAT32


def native(decoder: Decoder, quant: Quant | None, target: Target) -> Native:
    """A model of the family whose layers are all asked to be held alike."""
    shape = _reduced(decoder, quant)
    return Native(shape, [Formats(quant, quant, quant, quant)] * shape.depth, of_head(quant), target)


def native_gguf(header: Header, quant: Quant | None, target: Target) -> Native | None:
    """The model in a GGUF file; ``None`` if its header does not say what it takes to know.

    Args:
        header: of the file.
        quant: what all layers are asked to be held as; ``None``: each as what is nearest to what the file has.
        target: where to.
    """
    decoder = decoders.of_gguf(header)
    if decoder is None:
        return None
    try:
        layers = [_formats(header, layer, quant) for layer in range(decoder.depth)]
    except KeyError:  # a tensor that the model needs
        return None
    output = header.tensors.get("output.weight") or header.tensors["token_embd.weight"]
    return Native(decoder, layers, of_head(quant or NEAREST[output.kind.name]), target)


def _formats(header: Header, layer: int, quant: Quant | None) -> Formats:
    """Layers that are held as one are held as the widest of them; see ``packing.asked_of``."""

    def widest(*names: str) -> Quant:
        found: list[Quant] = [NEAREST[header.tensors[f"blk.{layer}.{name}.weight"].kind.name] for name in names]
        largest: Quant = max(found, key=_BITS.__getitem__)
        return quant or largest

    qkv, output = widest("attn_q", "attn_k", "attn_v"), widest("attn_output")
    return Formats(qkv, output, widest("ffn_gate", "ffn_up"), widest("ffn_down"))


def spread(model: Native) -> dict[int, Footprint]:
    """What each rank needs, by how many there are: for those numbers that the model can be spread over."""
    return {ranks: evolve(model, ranks=ranks).footprint for ranks in DEGREES if model.decoder.divides(ranks)}


def parameters(decoder: Decoder) -> int:
    """Numbers that the matrices of a model of the family have in its files."""
    model = native(decoder, None, Target(packs=False))
    return (model.weights - model.norms) // decoder.element


def of_gguf(header: Header, quant: Quant | None, target: Target) -> Needs | None:
    """The model in a GGUF file; ``None`` if its header does not say what it takes to know."""
    model = native_gguf(header, quant, target)
    return None if model is None else Needs(model.footprint, spread(model))


def of_checkpoint(config: Any, places: Mapping[str, Place], nbytes: int, quant: Quant | None, target: Target) -> Needs:
    """A model in a directory: by its configuration if the headers of its files agree, or else by these.

    Args:
        config: of transformers.
        places: every tensor of its files.
        nbytes: of all of them in the dtype that the configuration wants.
        quant: what its linear layers are to be reduced to.
        target: where to.

    Raises:
        Exception: of any kind: the configuration is not one of a decoder.
    """
    stored = next((each.dtype for each in places.values() if each.dtype in STORED_FLOATS), None)
    decoder = decoders.of_config(config, stored)
    if _is_of(decoder, sum(math.prod(each.shape) for each in places.values())):
        model = native(decoder, quant, target)
        return Needs(model.footprint, spread(model))
    return Needs(_general(decoder, {name: each.shape for name, each in places.items()}, nbytes, quant, target))


def of_published(config: Any, nbytes: int, quant: Quant | None, target: Target) -> Needs:
    """A model that is still to be fetched: by its configuration if its files have the size for that, or by their size.

    Args:
        config: of transformers.
        nbytes: of the files with its weights.
        quant: what its linear layers are to be reduced to.
        target: where to.

    Raises:
        Exception: of any kind: the configuration is not one of a decoder.
    """
    decoder = decoders.of_config(config)
    if not decoder.stated and nbytes > _WIDE * parameters(decoder):
        decoder = evolve(decoder, dtype="float32")
    if _is_of(decoder, nbytes // decoder.element):
        model = native(decoder, quant, target)
        return Needs(model.footprint, spread(model))
    return Needs(_of_size(_reduced(decoder, quant), rough_bytes(quant, nbytes), quant, target))


def _is_of(decoder: Decoder, numbers: int) -> bool:
    """Whether so many numbers in files are those of a model of the family."""
    return decoder.native and math.isclose(parameters(decoder), numbers, rel_tol=_CLOSE)


def _general(
    decoder: Decoder, tensors: Mapping[str, Sequence[int]], stored: int, quant: Quant | None, target: Target
) -> Footprint:
    """A model that transformers reads: from the headers of its files."""
    shape = _reduced(decoder, quant)
    weights = (stored if quant is None else _general_bytes(quant, tensors)) + _tied_copy(shape, quant, target, tensors)
    return _of_size(shape, weights, quant, target, whole=2 * sum(map(math.prod, tensors.values())) if quant else 0)


def _of_size(decoder: Decoder, weights: int, quant: Quant | None, target: Target, whole: int = 0) -> Footprint:
    """A model of which no more is known than the bytes of its weights, ``whole`` before they are reduced."""
    context = min(SHORTEST_CONTEXT, decoder.context)
    token = bytes_per_token(decoder.kept, decoder.element)
    step = Step(decoder, target.kind, 1, quant, context).nbytes
    arranging = max(0, whole - weights) if target.kind == "cpu" else 0  # all of it is read, and then reduced
    return Footprint(weights, token, context, max(step, arranging - context * token))


def _general_bytes(quant: Quant, tensors: Mapping[str, Sequence[int]]) -> int:
    """Experts are stacked, one matrix in the files or not: they stay as they are."""
    dense = {name: shape for name, shape in tensors.items() if _EXPERTS not in name}
    return reduced_bytes(quant, dense) + 2 * sum(map(math.prod, (tensors[name] for name in tensors.keys() - dense)))


def _tied_copy(decoder: Decoder, quant: Quant | None, target: Target, tensors: Mapping[str, Sequence[int]]) -> int:
    """Of the embedding, laid out anew as the output layer."""
    head = Product(decoder.vocabulary, decoder.width, of_head(quant))
    missing = decoder.tied and not any("lm_head" in name for name in tensors)
    copied = missing and head.held == "bf16" and target.lays_out(decoder.dtype)
    return head.nbytes(decoder.element) if copied else 0


def _reduced(decoder: Decoder, quant: Quant | None) -> Decoder:
    """What is not reduced is in bfloat16 then."""
    return decoder if quant is None else evolve(decoder, dtype="bfloat16")
