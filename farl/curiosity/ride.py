"""RIDE: rewarding impact-driven exploration."""

import math
from typing import Any

import torch
from torch import Tensor

from farl.curiosity.episodic import EpisodicCounts
from farl.curiosity.hashing import ExactHash
from farl.curiosity.icm import ICM
from farl.curiosity.module import ActionSpec, Predictor, Prepared, Transitions


class RIDE(ICM):
    """Rewards a change in learnt features, ``|phi(s') - phi(s)| / sqrt(n(s'))``, n being the visits in the episode.

    Raileanu, Rocktäschel, "RIDE: rewarding impact-driven exploration for procedurally-generated environments" (ICLR
    2020), equation 3. The features are learnt by forward and inverse dynamics together, under the fragment that is
    active after the step; surprisal, loss and recall keys are ICM's.

    :param arguments: those of ``ICM``
    """

    encoder_learns_from_forward = True

    def __init__(self, shape: tuple[int, ...], actions: ActionSpec, seed: int = 0, **arguments: Any) -> None:
        super().__init__(shape, actions, seed=seed, **arguments)
        self.hash = ExactHash(math.prod(self.shape), torch.Generator().manual_seed(seed))
        self.counts = EpisodicCounts()

    @torch.no_grad()
    def prepare(self, transitions: Transitions) -> Prepared:
        """Return what ICM needs, and the codes of both observations."""
        return {
            **super().prepare(transitions),
            "code_before": self.hash(transitions.observations),
            "code": self.hash(transitions.next_observations),
        }

    def evaluate(self, predictor: Predictor, prepared: Prepared) -> Prepared:
        """Return the surprisal, and the ``impact``: the distance between both features."""
        networks = self._run(predictor, prepared)
        return {"surprisal": networks["forward"], "impact": (networks["after"] - networks["before"]).norm(dim=-1)}

    def bonus(self, outputs: Prepared, prepared: Prepared, starts: Tensor) -> Tensor:
        """Return the impact over the root of the visits, float32[E]."""
        visits = self.counts.visit(prepared["code_before"], prepared["code"], starts)
        return outputs["impact"] * visits.float().rsqrt()
