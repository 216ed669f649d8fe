"""Running norms of observations and of intrinsic rewards."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from farl.fragmentation import SurprisalStatistics


class ObservationNorm(nn.Module):
    """Whitens observations by a mean and standard deviation per element, then clips them.

    Shared by all fragments, and fixed once warmed up: keys stored under a norm that goes on drifting would no longer
    match.

    :param shape: shape of one observation
    :param clip: largest absolute value after whitening
    :param epsilon: added to the variance; an element that never varied during the warm-up is not blown up by more than
        ``1 / sqrt(epsilon)``
    """

    mean: Tensor
    variance: Tensor
    scale: Tensor
    count: Tensor

    def __init__(self, shape: tuple[int, ...], clip: float = 5.0, epsilon: float = 1e-2) -> None:
        super().__init__()
        self.clip = clip
        self.epsilon = epsilon
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("variance", torch.ones(shape))
        self.register_buffer("scale", torch.ones(shape))  # kept, for the root is dearer than all else in ``forward``
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def update(self, observations: Tensor) -> None:
        """Add a batch, float32[B, *shape], to the running statistics (Chan et al., 1979)."""
        variance, mean = torch.var_mean(observations, dim=0, correction=0)
        batch = len(observations)
        total = self.count + batch
        delta = mean - self.mean
        ratio = (batch / total).to(mean.dtype)
        self.variance.lerp_(variance, ratio).add_(delta.square() * ratio * (1 - ratio))
        self.mean.lerp_(mean, ratio)
        self.scale.copy_((self.variance + self.epsilon).rsqrt())
        self.count.copy_(total)

    def forward(self, observations: Tensor) -> Tensor:
        """Whiten and clip, float32[B, *shape]; before the first update, only clip."""
        return (observations - self.mean).mul_(self.scale).clamp_(-self.clip, self.clip)


class RewardNorm:
    """Divides intrinsic rewards by the running standard deviation of their discounted return, one norm a fragment.

    The return runs along the time of each environment, over the ends of episodes and over changes of fragment (Burda et
    al., 2019, section 2.4). A new fragment goes on from its parent's statistics: its first rewards would otherwise be
    divided by the spread of almost nothing, and once it is well known, its small errors would be blown up to the size
    of everyone else's.

    :param n_envs: number of environments
    :param gamma: discount of the return
    """

    def __init__(self, n_envs: int, gamma: float = 0.99) -> None:
        self.gamma = gamma
        self.statistics = SurprisalStatistics()
        self._returns = np.zeros(n_envs)

    def __call__(
        self, rewards: npt.NDArray[np.float64], fragment_ids: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """Take in one raw reward per environment, float64[E], and return the normalised ones."""
        self._returns = self.gamma * self._returns + rewards
        self.statistics.update(fragment_ids, self._returns)
        return self.scaled(rewards, fragment_ids)

    def scaled(self, rewards: npt.NDArray[np.float64], fragment_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Normalise B rewards, float64[B], by what is known, without taking them in."""
        std = self.statistics.std(fragment_ids)
        return np.divide(rewards, std, out=np.zeros(len(std)), where=std > 0.0)

    def open(self, fragment_id: int, parent: int) -> None:
        """Start the norm of a new fragment from its parent's."""
        self.statistics.inherit(fragment_id, parent)

    def keep_only(self, fragment_ids: list[int]) -> None:
        """Drop the norms of all other fragments: they have been evicted."""
        known = self.statistics.fragment_ids
        if len(gone := known[~np.isin(known, fragment_ids)]):
            self.statistics.forget(gone)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that ``load_state_dict`` needs."""
        return {"statistics": self.statistics.state_dict(), "returns": torch.from_numpy(self._returns.copy())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned; with another number of environments their returns start at 0."""
        self.statistics.load_state_dict(state["statistics"])
        returns = state["returns"].cpu().numpy().copy()
        self._returns = returns if len(returns) == len(self._returns) else np.zeros_like(self._returns)
