"""The episodic bonus of Never Give Up."""

from typing import Any

import torch
from torch import Tensor

from farl.curiosity.embedding import InverseEmbedding
from farl.curiosity.episodic import EpisodicMemory
from farl.curiosity.module import ActionSpec, Prepared

_EPSILON = 1e-4
_CLUSTER_DISTANCE = 0.008
_PSEUDO_COUNT = 1e-3
_LARGEST_SIMILARITY = 8.0
_MEMORY_OF_THE_MEAN = 0.01


class EpisodicKNN(InverseEmbedding):
    """Rewards an embedding that is unlike its nearest neighbours of the episode.

    Badia et al., "Never give up: learning directed exploration strategies" (ICLR 2020), equations 2 and 3 and algorithm
    1, with the constants of its table 7: with squared distances d to the k nearest neighbours, divided by their running
    mean and cut at a cluster distance, ``1 / (sqrt(sum of epsilon / (d + epsilon)) + c)``, and 0 where the root exceeds
    8. Never Give Up itself is the module ``combination`` with its defaults.

    :param neighbours: k
    :param capacity: embeddings of an episode that are remembered, the latest
    :param arguments: those of ``InverseEmbedding``
    """

    mean_distance: Tensor
    updates: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        actions: ActionSpec,
        neighbours: int = 10,
        capacity: int = 5000,
        **arguments: Any,
    ) -> None:
        super().__init__(shape, actions, **arguments)
        self.neighbours = neighbours
        self.memory = EpisodicMemory(capacity)
        self.register_buffer("mean_distance", torch.zeros(()))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def bonus(self, outputs: Prepared, prepared: Prepared, starts: Tensor) -> Tensor:
        """Return the inverse similarity to the nearest neighbours, float32[E]."""
        self.memory.begin(starts, outputs["before"])
        distances = (self.memory.entries - outputs["after"][:, None]).square().sum(dim=-1)
        distances = distances.masked_fill(~self.memory.held, torch.inf)
        nearest = distances.topk(min(self.neighbours, distances.shape[1]), largest=False).values
        self.memory.add(outputs["after"])
        self._update_mean(nearest[nearest.isfinite()].mean())
        relative = (nearest / self.mean_distance.clamp(min=1e-8) - _CLUSTER_DISTANCE).clamp(min=0.0)
        # A neighbour that is not there is infinitely far away, and adds nothing.
        similarity = (_EPSILON / (relative + _EPSILON)).sum(dim=1).sqrt() + _PSEUDO_COUNT
        return torch.where(similarity > _LARGEST_SIMILARITY, 0.0, 1.0 / similarity)

    def _update_mean(self, distance: Tensor) -> None:
        """Move the running mean of the squared distances: a lifetime mean at first, later a moving one."""
        self.updates += 1
        self.mean_distance.lerp_(distance, max(_MEMORY_OF_THE_MEAN, 1.0 / int(self.updates)))
