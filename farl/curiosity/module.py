"""What a curiosity module is: shared parts that are computed once, and a predictor that every fragment owns."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

Predictor = Callable[..., Tensor]
Prepared = dict[str, Tensor]
"""Tensors with one row per sample: what predictors of all fragments read and predict."""


class Transitions(NamedTuple):
    """B transitions as a curiosity module sees them.

    :ivar observations: [B, *shape], uint8 for images (channels first), float32 for all else
    :ivar actions: [B] integers or float32[B, a]
    :ivar next_observations: as observations; where an episode ended, its true last observation
    """

    observations: Tensor
    actions: Tensor
    next_observations: Tensor

    def select(self, rows: Tensor) -> "Transitions":
        """Return some of the samples, by index (int64[b]) or mask (bool[B])."""
        return Transitions(self.observations[rows], self.actions[rows], self.next_observations[rows])


class CuriosityModule(nn.Module, ABC):
    """A source of prediction error, split so that many fragments can share all that need not be their own.

    Shared by all fragments: the module's own parameters and buffers (a target network, an observation norm), used in
    ``prepare``. Owned by each fragment: a copy of ``predictor``, which a ``ModuleBank`` holds and trains. To add a
    method, write
    these members and name it in ``MODULES``.
    """

    predictor: nn.Module
    """The predictor that every fragment starts from. Starting all alike makes a fresh fragment's errors comparable."""

    @abstractmethod
    def warm_up(self, transitions: Transitions) -> None:
        """Adapt what is shared, before the first fragment is trained; afterwards it stays as it is."""

    @abstractmethod
    def prepare(self, transitions: Transitions) -> Prepared:
        """Compute the shared part for B samples. The entry ``features``, float32[B, d], serves as recall key."""

    @abstractmethod
    def surprisal(self, predictor: Predictor, prepared: Prepared) -> Tensor:
        """Return the raw prediction error of one fragment's predictor, float32[B]."""

    def loss(self, predictor: Predictor, prepared: Prepared) -> Tensor:
        """Return what the fragment's predictor is trained to reduce, float32[B]: the surprisal, unless overridden."""
        return self.surprisal(predictor, prepared)
