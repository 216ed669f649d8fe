"""RE3: random encoders for efficient exploration."""

from typing import Any

import torch
from torch import Tensor, nn

from farl.curiosity.features import RandomFeatures, fixed_seed
from farl.curiosity.module import Predictor, Prepared, Transitions


class RE3(RandomFeatures):
    """Rewards ``log(distance to the k-th nearest neighbour + 1)`` in random features: an estimate of state entropy.

    Seo, Chen, Shin, Lee, Abbeel, Lee, "State entropy maximization with random encoders for efficient exploration"
    (ICML 2021), equation 4. Neighbours are sought among the latest samples of all environments.

    :param shape: shape of one observation; [channels, height, width] for an image
    :param features: width of the random features
    :param hidden: width of the trunk for vectors
    :param neighbours: k
    :param capacity: samples that neighbours are sought among, the latest
    :param frame_stack: number of frames that an observation stacks along its channels; only the newest is used
    :param clip: whitened observations are clipped to +-clip
    :param seed: draws the random weights; the global random state is left alone
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        features: int = 64,
        hidden: int = 128,
        neighbours: int = 3,
        capacity: int = 10_000,
        frame_stack: int = 1,
        clip: float = 5.0,
        seed: int = 0,
    ) -> None:
        with fixed_seed(seed):
            super().__init__(shape, features, hidden, frame_stack, clip)
            self.predictor = nn.Identity()
            self._finish()
        self.neighbours = neighbours
        self.samples = _Samples(capacity)

    @torch.no_grad()
    def prepare(self, transitions: Transitions) -> Prepared:
        """Return the random ``features`` of the next observations."""
        return {"features": self.target(self.whiten(transitions.next_observations))}

    def surprisal(self, predictor: Predictor, prepared: Prepared) -> Tensor:
        """Return zeros: nothing is predicted."""
        return torch.zeros(len(prepared["features"]), device=prepared["features"].device)

    def bonus(self, outputs: Prepared, prepared: Prepared, starts: Tensor) -> Tensor:
        """Return the log of the distance, float32[E]; 0 while there are fewer than k samples."""
        features = prepared["features"]
        known = self.samples.held
        if len(known) >= self.neighbours:
            # Without the product that torch prefers: it cannot tell near from equal.
            distances = torch.cdist(features, known, compute_mode="donot_use_mm_for_euclid_dist")
            bonus = distances.kthvalue(self.neighbours, dim=1).values.log1p()
        else:
            bonus = features.new_zeros(len(features))
        self.samples.add(features)
        return bonus


class _Samples(nn.Module):
    """The latest samples of all environments, in a ring."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.held = torch.zeros(0, 0)
        """float32[n, d], in no order."""
        self._capacity, self._oldest = capacity, 0

    def add(self, samples: Tensor) -> None:
        """Take in E samples, float32[E, d], in place of the oldest ones once the ring is full."""
        self.held = self.held.to(samples.device)
        grown = samples[: self._capacity - len(self.held)]
        self.held = torch.cat([self.held, grown]) if len(self.held) else grown.clone()
        rest = samples[len(grown) :][-self._capacity :]
        rows = (self._oldest + torch.arange(len(rest), device=rest.device)) % self._capacity
        self.held[rows] = rest
        self._oldest = (self._oldest + len(rest)) % self._capacity

    def get_extra_state(self) -> dict[str, Any]:
        """Return the samples, for ``state_dict``."""
        return {"held": self.held.clone(), "oldest": self._oldest}

    def set_extra_state(self, state: Any) -> None:
        """Restore what ``get_extra_state`` returned."""
        self.held, self._oldest = state["held"].clone(), state["oldest"]
