"""The ensemble Kalman filter."""

from __future__ import annotations

import torch

from farl.particles.state_space import GaussianObservation, Observation, StateFilter


def require_gaussian(observation: Observation, who: str) -> GaussianObservation:
    """Return the observation if a Kalman update can use it.

    Raises:
        ValueError: if only its likelihood is known.
    """
    if not isinstance(observation, GaussianObservation):
        raise ValueError(
            f"{who} needs the observation function and its noise: give a GaussianObservation, not "
            f"{type(observation).__name__}"
        )
    return observation


class EnsembleKalmanFilter(StateFilter):
    """Evensen's stochastic ensemble Kalman filter: every particle is corrected towards a perturbed observation."""

    def update(self, observation: Observation) -> None:
        """Correct the particles by the Kalman gain of their sample covariances."""
        seen = require_gaussian(observation, "the ensemble Kalman filter")
        x = self.particles
        n = x.shape[-2]
        predicted = seen.function(x)
        dx = x - x.mean(-2, keepdim=True)
        dy = predicted - predicted.mean(-2, keepdim=True)
        cross = dx.mT @ dy / (n - 1)
        innovation = dy.mT @ dy / (n - 1) + seen.covariance
        root = torch.linalg.cholesky(seen.covariance)
        perturbed = seen.value[..., None, :] + self._noise(predicted) @ root.mT
        gain = torch.linalg.solve(innovation, cross.mT)  # [..., k, m]: the gain, transposed
        self.particles = x + (perturbed - predicted) @ gain
