"""Whether a device multiplies weights in a format: asked of its properties, then of the kernel itself."""

import torch
from torch import Tensor

from helexa.engine.quant.formats import Quant, QuantError
from helexa.engine.quant.packing import make_linear

_CAPABILITY = {"int4": (8, 0), "fp8": (8, 9)}
"""Compute capability of the first NVIDIA GPUs whose tensor cores torch's kernels use for this."""
_CLOSE = {"int8": 0.03, "int4": 0.2, "fp8": 0.1}
"""Largest share of a product of random numbers that its reduced form may be off by: twice what is usual."""
_ROWS = (1, 128)
"""Of a step of few tokens, and of many: they may be computed in different ways."""


def check(quant: Quant | None, device: torch.device) -> None:
    """Refuse a format that ``device`` has no kernel for, before a model's weights are read.

    Raises:
        QuantError: it cannot, and why.
    """
    if quant is None or quant == "bf16":
        return
    if (reason := _refusal(quant, device)) is None:
        reason = _tried(quant, device)
    if reason is not None:
        raise QuantError(reason)


def _refusal(quant: Quant, device: torch.device) -> str | None:
    needed = _CAPABILITY.get(quant)
    if device.type == "cuda" and needed and (found := torch.cuda.get_device_capability(device)) < needed:
        return f"{quant} needs a GPU of compute capability {_dotted(needed)}, and {device} has {_dotted(found)}"
    if device.type == "cpu" and quant == "fp8":
        return "fp8 needs an NVIDIA GPU of compute capability 8.9, and 'cpu' is none; int8 is as small"
    return None


@torch.inference_mode()
def _tried(quant: Quant, device: torch.device) -> str | None:
    """Run it, so that a build of torch without the kernel, or with a broken one, is found out now."""
    try:
        weight = _random(256, 512).to(device)
        layer = make_linear(weight, None, quant)
        off = max(_off(layer(x), x @ weight.T) for x in (_random(rows, 512).to(device) for rows in _ROWS))
    except (RuntimeError, NotImplementedError, AttributeError) as error:
        return f"torch {torch.__version__} cannot multiply {quant} weights on {device}: {_first_line(error)}"
    if not off < _CLOSE[quant]:  # nan is not
        return f"torch {torch.__version__} multiplies {quant} weights on {device} wrongly"
    return None


def _off(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).float().norm() / expected.float().norm())


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)


def _dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
