"""The form in which modules lie on disk: parameters exact, Adam's moments small."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from farl.memory import Codec

_BLOCK = 512
_LEVELS = 15  # of four bits; the sixteenth is zero


def encode(state: Mapping[str, Any]) -> dict[str, Any]:
    """Write a ``ModuleState`` small: 4.52 bytes a parameter instead of 12.

    Parameters stay float32, so that a recalled module predicts to the bit what it predicted. Of Adam's state:

    - the first moment is left out: it forgets within about ten steps anyway, and starts again from zero;
    - the second moment is kept in four bits an element, as one of 15 levels evenly spaced on the logarithmic scale
      between the least and the greatest of its block of 512, or as zero. A step is the root of it: where a block spans
      six orders of magnitude, a step's size is at most 28% off, and on average half that.

    Block-wise quantisation of optimiser states as in Dettmers, Lewis, Shleifer, Zettlemoyer, "8-bit optimizers via
    block-wise quantization" (ICLR 2022), with fewer levels on another scale.
    """
    moment = torch.cat([tensor.flatten() for tensor in state["second_moment"].values()] or [torch.zeros(0)])
    padded = torch.nn.functional.pad(moment, (0, -len(moment) % _BLOCK)).view(-1, _BLOCK)
    logarithm = padded.log2()  # of zero it is -inf
    zero = torch.isneginf(logarithm)
    high = logarithm.amax(dim=1)
    low = logarithm.masked_fill(zero, torch.inf).amin(dim=1)
    blank = torch.isneginf(high)
    low, high = low.masked_fill(blank, 0.0), high.masked_fill(blank, 0.0)
    step = (high - low).clamp(min=torch.finfo(torch.float32).tiny) / (_LEVELS - 1)
    level = logarithm.sub_(low[:, None]).div_(step[:, None]).round_().add_(1.0).clamp_(min=0.0)
    codes = level.to(torch.uint8).flatten()
    return {
        "parameters": dict(state["parameters"]),
        "second_moment": codes[::2] | (codes[1::2] << 4),
        "low": low,
        "high": high,
        "steps": state["steps"],
    }


def decode(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``ModuleState`` that ``encode`` wrote, as far as it was kept."""
    packed, low, high = tree["second_moment"], tree["low"], tree["high"]
    codes = torch.stack([packed & 15, packed >> 4], dim=1).view(-1, _BLOCK)
    step = (high - low) / (_LEVELS - 1)
    exponent = codes.float().sub_(1.0).mul_(step[:, None]).add_(low[:, None])
    moment = exponent.exp2_().masked_fill_(codes == 0, 0.0).flatten()
    parameters: dict[str, Tensor] = tree["parameters"]
    sizes = [tensor.numel() for tensor in parameters.values()]
    parts = torch.split(moment[: sum(sizes)], sizes)
    return {
        "parameters": dict(parameters),
        "first_moment": {name: torch.zeros_like(tensor) for name, tensor in parameters.items()},
        "second_moment": {
            name: part.view(tensor.shape) for (name, tensor), part in zip(parameters.items(), parts, strict=True)
        },
        "steps": tree["steps"],
    }


MODULE_CODEC = Codec(encode, decode)
