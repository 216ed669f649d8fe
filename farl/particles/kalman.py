"""The ensemble Kalman filter."""

from __future__ import annotations

import torch
from torch import Tensor

from farl.errors import ConfigError
from farl.particles.state_space import GaussianObservation, Observation, StateFilter


def usable(observation: Observation, particles: Tensor, who: str) -> tuple[GaussianObservation, Tensor]:
    """Return the part of an observation that a Kalman update can use, and where all of it is unusable, bool[...].

    :raises ConfigError: if only the observation's likelihood is known
    """
    if not isinstance(observation, GaussianObservation):
        raise ConfigError(
            f"{who} needs the observation function and its noise: give a GaussianObservation, not "
            f"{type(observation).__name__}"
        )
    broken = ~observation.predict(particles).isfinite().all(-2) | observation.value.isinf()
    failed = (broken & observation.known).any(-1)
    return observation.restricted(observation.known & ~failed[..., None]), failed


class EnsembleKalmanFilter(StateFilter):
    """Evensen's stochastic ensemble Kalman filter: every particle is corrected towards a perturbed observation."""

    _needs = "a finite observation, and a finite prediction of it for every particle"

    def _update(self, observation: Observation) -> Tensor:
        """Correct the particles by the Kalman gain of their sample covariances."""
        x = self.particles
        seen, failed = usable(observation, x, "the ensemble Kalman filter")
        n = x.shape[-2]
        predicted = seen.predict(x)
        dx = x - x.mean(-2, keepdim=True)
        dy = predicted - predicted.mean(-2, keepdim=True)
        cross = dx.mT @ dy / (n - 1)
        innovation = dy.mT @ dy / (n - 1) + seen.covariance
        root = torch.linalg.cholesky(seen.covariance)
        perturbed = seen.value[..., None, :] + self._noise(predicted) @ root.mT
        gain = torch.linalg.solve(innovation, cross.mT)  # [..., k, m]: the gain, transposed
        self.particles = x + (perturbed - predicted) @ gain
        return failed | ~self.particles.isfinite().all(-1).all(-1)
