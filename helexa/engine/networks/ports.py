"""What a model's mathematics look like to whoever runs them."""

from typing import Protocol

import torch
from torch import Tensor

from helexa.engine.networks.attention import Attend
from helexa.engine.scheduling.batch import Batch
from helexa.engine.shapes import LayerShape


class Network(Protocol):
    """A model without its cache.

    Attributes:
        vocabulary: width of the logits.
        layers: what each layer keeps per token.
        plain: whether every kernel knows its attention.
    """

    vocabulary: int
    layers: list[LayerShape]
    plain: bool

    @property
    def dtype(self) -> torch.dtype:
        """Of keys and values."""

    def logits(self, batch: Batch, attend: Attend) -> Tensor:
        """``[rows, vocabulary]``: the logits after the batch's ``last`` rows."""
