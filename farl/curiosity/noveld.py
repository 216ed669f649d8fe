"""NovelD: the difference in novelty."""

import math
from typing import Any

import torch
from torch import Tensor

from farl.curiosity.episodic import EpisodicCounts
from farl.curiosity.hashing import ExactHash, SimHash
from farl.curiosity.module import Predictor, Prepared, Transitions
from farl.curiosity.rnd import RND


class NovelD(RND):
    """Rewards crossing from the known to the new: ``max(b(s') - alpha b(s), 0)`` at the first visit of an episode.

    Zhang, Xu, Wang, Wu, Keutzer, Gonzalez, Tian, "NovelD: a simple yet effective exploration criterion" (NeurIPS 2021),
    equation 3. The novelty b is the distance of RND's prediction from its target, here as root mean square over the
    features, under the fragment that is active after the step. Surprisal, loss and recall keys are RND's.

    :param alpha: how much of the novelty left behind is taken off
    :param bits: first visits are told by so many signs of random projections of the random features, which tolerate
        noise; None tells all observations apart, as published
    :param arguments: those of ``RND``
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        alpha: float = 0.5,
        bits: int | None = None,
        features: int = 64,
        seed: int = 0,
        **arguments: Any,
    ) -> None:
        super().__init__(shape, features, seed=seed, **arguments)
        self.alpha, self.bits = alpha, bits
        generator = torch.Generator().manual_seed(seed)
        size = math.prod(self.shape)
        self.hash = ExactHash(size, generator) if bits is None else SimHash(features, bits, generator)
        self.counts = EpisodicCounts()

    @torch.no_grad()
    def prepare(self, transitions: Transitions) -> Prepared:
        """Return what RND needs of both observations, and their codes."""
        before, after = self.whiten(transitions.observations), super().prepare(transitions)
        known = {"inputs_before": before, "features_before": self.target(before)}
        if self.bits is None:
            coded = self.newest(transitions.observations), self.newest(transitions.next_observations)
        else:
            coded = known["features_before"], after["features"]
        return {**after, **known, "code_before": self.hash(coded[0]), "code": self.hash(coded[1])}

    def evaluate(self, predictor: Predictor, prepared: Prepared) -> Prepared:
        """Return the surprisal of both observations."""
        before = {"inputs": prepared["inputs_before"], "features": prepared["features_before"]}
        return {
            "surprisal": self.surprisal(predictor, prepared),
            "surprisal_before": self.surprisal(predictor, before),
        }

    def bonus(self, outputs: Prepared, prepared: Prepared, starts: Tensor) -> Tensor:
        """Return the rise in novelty where the episode has not been before, float32[E]."""
        visits = self.counts.visit(prepared["code_before"], prepared["code"], starts)
        rise = outputs["surprisal"].sqrt() - self.alpha * outputs["surprisal_before"].sqrt()
        return rise.clamp(min=0.0) * (visits == 1)
