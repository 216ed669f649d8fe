"""State spaces that are curved: what a filter needs to know of one, Euclidean space, and products.

A state is a row of ``size`` numbers; small changes of it are rows of ``dimension`` numbers, its tangent space. Two maps
join them, boxplus and boxminus of Hertzberg et al., "Integrating generic sensor fusion algorithms with sound state
representations through encapsulation of manifolds", Information Fusion 14, 2013.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from farl.errors import ConfigError

_ROUNDS = 50


class Manifold(ABC):
    """A space of states.

    :ivar size: how many numbers hold a state
    :ivar dimension: dimension of the tangent space
    """

    size: int
    dimension: int

    @abstractmethod
    def retract(self, states: Tensor, tangents: Tensor) -> Tensor:
        """Go from states [..., size] along tangents [..., dimension] (boxplus); differentiable, at 0 as well."""

    @abstractmethod
    def local(self, states: Tensor, others: Tensor) -> Tensor:
        """Return the tangents [..., dimension] that lead from states to others, both [..., size] (boxminus)."""

    @abstractmethod
    def guess(self, states: Tensor, weights: Tensor) -> Tensor:
        """Return something near the mean, [..., size], where the search for it begins (see :meth:`mean`)."""

    def check(self, states: Tensor) -> None:
        """See that states are of this space.

        :raises ConfigError: for rows of another size, or numbers that stand for no state
        """
        if states.shape[-1] != self.size:
            raise ConfigError(
                f"a state of {type(self).__name__} is {self.size} numbers, not {states.shape[-1]} (states have the "
                f"shape {tuple(states.shape)})"
            )

    def mean(self, states: Tensor, weights: Tensor) -> Tensor:
        """Return the point at which the weighted tangents to all states sum to 0: the Karcher mean.

        The fixed point iteration of Pennec, "Intrinsic statistics on Riemannian manifolds", J. Math. Imaging Vis. 25,
        2006. It is unique where the states are not spread over half the space; of a wider cloud it is some point in the
        middle of it.

        :param states: float[..., n, size]
        :param weights: float[..., n], which sum to 1
        :return: float[..., size]
        """
        mean = self.guess(states, weights)
        enough = torch.finfo(states.dtype).eps ** 0.6
        for _ in range(_ROUNDS):
            step = (weights[..., None] * self.local(mean[..., None, :], states)).sum(-2)
            mean = self.retract(mean, step)
            if not bool((step.abs() > enough).any()):
                break
        return mean


class Euclidean(Manifold):
    """Rows of ``dimension`` numbers that are added: velocities or biases beside a pose.

    :param dimension: how many
    :raises ConfigError: below 1
    """

    def __init__(self, dimension: int) -> None:
        if dimension < 1:
            raise ConfigError(f"a Euclidean space needs at least 1 dimension, got {dimension}")
        self.size = self.dimension = dimension

    def retract(self, states: Tensor, tangents: Tensor) -> Tensor:
        """Return ``states + tangents``."""
        return states + tangents

    def local(self, states: Tensor, others: Tensor) -> Tensor:
        """Return ``others - states``."""
        return others - states

    def guess(self, states: Tensor, weights: Tensor) -> Tensor:
        """Return the weighted mean."""
        return (weights[..., None] * states).sum(-2)


class Product(Manifold):
    """States that are several things at once, side by side: a pose and its velocity, or the poses of several objects.

    :param parts: the spaces, in the order of their numbers
    :raises ConfigError: without parts
    """

    def __init__(self, *parts: Manifold) -> None:
        if not parts:
            raise ConfigError("a product needs at least one space")
        self.parts = parts
        self.size = sum(part.size for part in parts)
        self.dimension = sum(part.dimension for part in parts)
        self._states = _slices([part.size for part in parts])
        self._tangents = _slices([part.dimension for part in parts])

    def split(self, states: Tensor) -> tuple[Tensor, ...]:
        """Return each part's numbers of states [..., size]."""
        return tuple(states[..., place] for place in self._states)

    def retract(self, states: Tensor, tangents: Tensor) -> Tensor:
        """Go along the tangents in each part by itself."""
        split = zip(self.parts, self.split(states), self._tangents, strict=True)
        return torch.cat([part.retract(state, tangents[..., place]) for part, state, place in split], -1)

    def local(self, states: Tensor, others: Tensor) -> Tensor:
        """Return the tangents of each part, side by side."""
        split = zip(self.parts, self.split(states), self.split(others), strict=True)
        return torch.cat([part.local(state, other) for part, state, other in split], -1)

    def guess(self, states: Tensor, weights: Tensor) -> Tensor:
        """Return the guesses of the parts, side by side."""
        return torch.cat(
            [part.guess(state, weights) for part, state in zip(self.parts, self.split(states), strict=True)], -1
        )

    def check(self, states: Tensor) -> None:
        """See that each part is a state of its space."""
        super().check(states)
        for part, state in zip(self.parts, self.split(states), strict=True):
            part.check(state)


def _slices(sizes: Sequence[int]) -> list[slice]:
    ends = list(itertools.accumulate(sizes, initial=0))
    return [slice(start, end) for start, end in itertools.pairwise(ends)]
