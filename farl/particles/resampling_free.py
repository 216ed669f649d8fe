"""The resampling-free particle filter (RFPF): particles flow instead of dying."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from farl.errors import ConfigError
from farl.particles.manifold import Manifold
from farl.particles.state_space import Impossible, Observation, StateFilter, loss_and_gradient

Form = Literal["derived", "published"]


def green_constant(dimension: int) -> float:
    """Return C(m) = Gamma(m/2 + 1) / (m (m-2) pi^(m/2)) of the Laplacian's Green's function C r^(2-m).

    :raises ConfigError: below three dimensions, where the function has another form
    """
    if dimension < 3:
        raise ConfigError(f"the resampling-free filter needs states of at least 3 dimensions, got {dimension}")
    return float(math.gamma(dimension / 2 + 1) / (dimension * (dimension - 2) * math.pi ** (dimension / 2)))


class ResamplingFreeFilter(StateFilter):
    """Particles move along the flow that carries p to p exp(-L) (Boopathy et al., arXiv 2404.13698).

    Continuity of dp/dt = -p (L - E L) gives a potential field with sources p (L - E L), hence a long-range push away
    from particles of high loss; the sharp density at each particle adds its own gradient:

        x_i <- x_i - gamma/n grad L_i - C(m)(m-2)/n sum_j (x_i - x_j) (|x_i - x_j| + eps)^-m (L_j - mean L)

    with eps = (gamma / C)^(1 / (2-m)). ``form="derived"`` is this; ``form="published"`` is the sum of the authors'
    code, which has L_i - mean L and the opposite sign.

    :param particles: float[..., n, m] draws from the prior, m >= 3
    :param generator: source of randomness (for dynamics; the update has none)
    :param gamma: softening; the paper's experiments take 0.1 n, the default
    :param form: ``"derived"`` or ``"published"``
    :param block: rows of the n x n distance matrix held at a time: memory is O(n block)
    :param impossible: see :class:`~farl.particles.state_space.StateFilter`
    :param manifold: see :class:`~farl.particles.state_space.StateFilter`
    """

    _needs = "a finite loss, with a finite gradient, at every particle"

    def __init__(
        self,
        particles: Tensor,
        generator: torch.Generator | None = None,
        gamma: float | None = None,
        form: Form = "derived",
        block: int = 1024,
        *,
        impossible: Impossible = "raise",
        manifold: Manifold | None = None,
    ) -> None:
        super().__init__(particles, generator, impossible=impossible, manifold=manifold)
        if form not in ("derived", "published"):
            raise ConfigError(f"form must be 'derived' or 'published', got {form!r}")
        n, m = particles.shape[-2], particles.shape[-1] if manifold is None else manifold.dimension
        self.gamma = 0.1 * n if gamma is None else gamma
        if self.gamma <= 0 or block < 1:
            raise ConfigError(f"gamma and block must be positive, got {self.gamma} and {block}")
        self.form = form
        self.block = block
        self._constant = green_constant(m)
        self._softening = (self.gamma / self._constant) ** (1 / (2 - m))

    def _update(self, observation: Observation) -> Tensor:
        """Move the particles along the flow of one observation."""
        x = self.particles
        n, m = x.shape[-2:]
        loss, gradient, failed = loss_and_gradient(observation, x, "the resampling-free filter")
        excess = (loss - loss.mean(-1, keepdim=True))[..., None]
        push = torch.cat([self._push(x, excess, start) for start in range(0, n, self.block)], -2)
        self.particles = x - self.gamma / n * gradient - self._constant * (m - 2) / n * push
        return failed | ~self.particles.isfinite().all(-1).all(-1)

    def _push(self, x: Tensor, excess: Tensor, start: int) -> Tensor:
        rows = x[..., start : start + self.block, :]
        kernel: Tensor = (torch.cdist(rows, x) + self._softening) ** -x.shape[-1]
        if self.form == "derived":
            return rows * (kernel @ excess) - kernel @ (excess * x)
        return -(rows * kernel.sum(-1, keepdim=True) - kernel @ x) * excess[..., start : start + self.block, :]
