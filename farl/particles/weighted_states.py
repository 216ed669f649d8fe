"""The gradient-based weighted particle filter, over states instead of network weights."""

from __future__ import annotations

import torch
from torch import Tensor

from farl.errors import ConfigError
from farl.particles.manifold import Manifold
from farl.particles.state_space import Impossible, Observation, StateFilter, loss_and_gradient, losses


class WeightedStateFilter(StateFilter):
    """Every particle follows the gradient of its loss and takes a weight; none is ever resampled (arXiv 2410.22695).

    With p a mixture of w_i N(x_i, sigma^2 I) and a loss L that is linear around each particle:

        x_i <- x_i - sigma^2 grad L(x_i),    log w_i <- log w_i - (L(x_i before) + L(x_i after)) / 2.

    :class:`~farl.particles.weighted.WeightedParticleFilter` is the same over the weights of networks.

    :param particles: float[..., n, m] draws from the prior
    :param generator: source of randomness (for dynamics; the update has none)
    :param variance: sigma^2, the step size
    :param impossible: see :class:`~farl.particles.state_space.StateFilter`
    :param manifold: see :class:`~farl.particles.state_space.StateFilter`
    :raises ConfigError: for a variance below 0
    """

    _needs = "a finite loss, with a finite gradient, at every particle"

    def __init__(
        self,
        particles: Tensor,
        generator: torch.Generator | None = None,
        variance: float = 0.01,
        *,
        impossible: Impossible = "raise",
        manifold: Manifold | None = None,
    ) -> None:
        super().__init__(particles, generator, impossible=impossible, manifold=manifold)
        if not variance >= 0:
            raise ConfigError(f"variance must be at least 0, got {variance}")
        self.variance = variance

    def _update(self, observation: Observation) -> Tensor:
        """Move the particles, then weigh them by the mean of the losses before and after."""
        before, gradient, failed = loss_and_gradient(observation, self.particles, "the weighted filter")
        self.particles = self.particles - self.variance * gradient
        after = losses(observation, self.particles)
        failed = failed | ~after.isfinite().all(-1)
        self.log_weights = (self.log_weights - (before + after) / 2).log_softmax(-1)
        return failed | self.log_weights.isnan().any(-1)
