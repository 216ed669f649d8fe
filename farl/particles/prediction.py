"""What a network is given and what it puts out, told by its loss; and how the particles' outputs are mixed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from farl.errors import ConfigError
from farl.particles.group import ParticleGroup

Mixture = Literal["probabilities", "logits", "mean"]
Kind = Literal["classes", "log-probabilities", "binary", "probabilities", "values", "unknown"]

_KINDS: dict[Kind, tuple[Any, ...]] = {
    "classes": (F.cross_entropy, nn.CrossEntropyLoss),
    "log-probabilities": (F.nll_loss, nn.NLLLoss),
    "binary": (
        F.binary_cross_entropy_with_logits,
        F.multilabel_soft_margin_loss,
        nn.BCEWithLogitsLoss,
        nn.MultiLabelSoftMarginLoss,
    ),
    "probabilities": (F.binary_cross_entropy, nn.BCELoss),
    "values": (
        F.mse_loss,
        F.l1_loss,
        F.smooth_l1_loss,
        F.huber_loss,
        nn.MSELoss,
        nn.L1Loss,
        nn.SmoothL1Loss,
        nn.HuberLoss,
    ),
}


def kind_of(loss: Callable[..., Any]) -> Kind:
    """Return what a network puts out that is trained with ``loss``: ``"unknown"`` unless it is one of torch's own."""
    while isinstance(loss, partial):
        loss = loss.func
    for kind, members in _KINDS.items():
        if loss in members or type(loss) in members:
            return kind
    return "unknown"


def default_mixture(kind: Kind) -> Mixture | None:
    """Return how outputs are mixed unless told otherwise: nobody can say for a loss that is not known."""
    if kind == "unknown":
        return None
    return "mean" if kind in ("values", "probabilities") else "probabilities"


def check_mixture(mixture: Mixture | None, kind: Kind) -> None:
    """Refuse a mixture that the outputs have not.

    :raises ConfigError: for an unknown one, or one that does not fit the loss
    """
    if mixture not in (None, "probabilities", "logits", "mean"):
        raise ConfigError(f"mixture must be 'probabilities', 'logits' or 'mean', got {mixture!r}")
    if kind in ("values", "probabilities") and mixture == "logits":
        raise ConfigError(f"the loss given trains {kind}, not logits: use mixture='mean'")
    if kind == "values" and mixture == "probabilities":
        raise ConfigError("the loss given trains values, not probabilities: use mixture='mean'")


def check_training(kind: Kind, outputs: Tensor, targets: Any) -> None:
    """Refuse outputs [batch, ...] of one particle from which the loss would learn nothing, or the wrong thing.

    :raises ConfigError: for one logit under a loss of classes, or values of another shape than their targets
    """
    if kind in ("classes", "log-probabilities") and outputs.dim() > 1 and outputs.shape[1] == 1:
        raise ConfigError(
            "the network has one output, of which the softmax is always 1: give it one output a class, or "
            "loss=F.binary_cross_entropy_with_logits"
        )
    if kind == "values" and isinstance(targets, Tensor) and outputs.shape != targets.shape:
        raise ConfigError(
            f"outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)} differ in shape and would be "
            "broadcast: give targets of the outputs' shape"
        )


def as_batch(given: Any, module: nn.Module) -> tuple[Tensor, ...]:
    """Return what a data loader gave as tensors (inputs..., targets) of which the module takes the inputs.

    :raises ConfigError: if it is anything else
    """
    otherwise = (
        "let the loader give (inputs..., targets), or call step(objective, *batch) with an objective of your own"
    )
    parts = tuple(given) if isinstance(given, (tuple, list)) else ()
    if len(parts) < 2 or not all(isinstance(part, Tensor) for part in parts):
        kinds = ", ".join(type(part).__name__ for part in parts) or type(given).__name__
        raise ConfigError(f"a batch must be tensors (inputs..., targets), got ({kinds}): {otherwise}")
    try:
        inspect.signature(module.forward).bind(*parts[:-1])
    except TypeError as error:
        raise ConfigError(
            f"the loader gives batches of {len(parts)} tensors, of which {type(module).__name__} should take the first "
            f"{len(parts) - 1} ({error}): {otherwise}"
        ) from None
    return parts


def mixed(
    parts: Iterable[tuple[slice, Tensor]], weights: Tensor, group: ParticleGroup, kind: Kind, mixture: Mixture | None
) -> Tensor:
    """Return the prediction of weighted mixtures of particles, [replicas, batch, ...].

    Classes lie along the axis after the batch, as torch's losses have them.

    :param parts: rows of particles, those of one replica after those of another, and their outputs [rows, batch, ...]
    :param weights: [replicas, n] of this process's particles
    :param group: processes that share the particles
    :raises ConfigError: if nobody can say what the outputs are
    """
    if mixture is None:
        raise ConfigError(
            "predict cannot tell what the outputs of a network with this loss are: give mixture='probabilities' "
            "(softmax over the classes), 'logits' or 'mean' (the outputs as they are)"
        )
    total: Tensor | None = None
    for rows, raw in parts:
        outputs = _probabilities(raw, kind) if mixture == "probabilities" else raw
        if total is None:
            total = outputs.new_zeros((len(weights), *outputs.shape[1:]))
        replica = torch.arange(rows.start, rows.stop, device=weights.device) // weights.shape[1]
        weight = weights.flatten()[rows].to(outputs.dtype)
        total.index_add_(0, replica, weight.reshape(-1, *(1,) * (outputs.dim() - 1)) * outputs)
    assert total is not None
    mean = group.sum(total)
    if mixture != "logits":
        return mean
    return _probabilities(mean, "classes" if kind == "log-probabilities" else kind)


def _probabilities(outputs: Tensor, kind: Kind) -> Tensor:
    if kind == "binary":
        return outputs.sigmoid()
    if kind == "probabilities":
        return outputs
    if outputs.dim() < 3 or outputs.shape[2] == 1 or (kind == "unknown" and outputs.dim() > 3):
        raise ConfigError(
            f"outputs {tuple(outputs.shape[1:])} are no scores of classes [batch, classes >= 2]: give torch's own "
            "loss, such as F.binary_cross_entropy_with_logits, or mixture='mean'"
        )
    return outputs.exp() if kind == "log-probabilities" else outputs.softmax(2)
