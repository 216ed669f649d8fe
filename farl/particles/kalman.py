"""The ensemble and the extended Kalman filter."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

from farl.errors import ConfigError
from farl.particles.state_space import GaussianObservation, Observation, StateFilter, weighted_moments


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


def roots(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Return the symmetric square root and its (pseudo-)inverse, [..., m, m], of covariances [..., m, m]."""
    values, vectors = torch.linalg.eigh(covariance)
    deviations = values.clamp_min(0).sqrt()
    cutoff = 1e-7 * deviations.amax(-1, keepdim=True)
    inverse = torch.where(deviations > cutoff, 1 / deviations.clamp_min(1e-300), 0.0)
    return (vectors * deviations[..., None, :]) @ vectors.mT, (vectors * inverse[..., None, :]) @ vectors.mT


def transport(root: Tensor, inverse_root: Tensor, posterior: Tensor) -> Tensor:
    """Return the symmetric map [..., m, m] that carries N(0, P) to N(0, P') by the shortest way.

    With P = R R it is R^-1 (R P' R)^(1/2) R^-1, the optimal transport between the two.

    :param root: R, float[..., m, m]
    :param inverse_root: its inverse
    :param posterior: P', float[..., m, m]
    """
    whitened = root @ posterior @ root
    values, vectors = torch.linalg.eigh((whitened + whitened.mT) / 2)
    middle = (vectors * values.clamp_min(0).sqrt()[..., None, :]) @ vectors.mT
    carried: Tensor = inverse_root @ middle @ inverse_root
    return carried


def linearise(observation: GaussianObservation, at: Tensor) -> tuple[Tensor, Tensor]:
    """Return what is predicted at states [..., m], [..., k], and its derivatives, transposed: [..., m, k].

    :raises ConfigError: if torch cannot differentiate the observation function
    """
    m = at.shape[-1]
    along = torch.eye(m, dtype=at.dtype).expand(*at.shape, m)
    with forward_ad.dual_level():
        here = at[..., None, :].expand_as(along).contiguous()
        points = forward_ad.make_dual(here, along.contiguous())  # type: ignore[no-untyped-call]
        value, slope = forward_ad.unpack_dual(observation.predict(points))  # type: ignore[no-untyped-call]
    if slope is None:
        raise ConfigError("the extended Kalman filter needs an observation function that torch can differentiate")
    return value[..., 0, :], slope


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


class ExtendedKalmanFilter(StateFilter):
    """The extended Kalman filter: mean and covariance, corrected by the observation's derivative at the mean.

    The particles stand for the Gaussian: an update carries them to the corrected mean and covariance exactly, by the
    shortest way, so that dynamics may draw as for every other filter. More particles than dimensions are needed, and
    more of them only make the noise of the dynamics smoother.
    """

    _needs = "a finite observation, and a finite prediction of it with finite derivatives"

    def _update(self, observation: Observation) -> Tensor:
        """Move the particles so that their moments are those of the Kalman update."""
        x = self.particles
        seen, failed = usable(observation, x, "the extended Kalman filter")
        mean, covariance = weighted_moments(x, self.log_weights)
        predicted, slope = linearise(seen, mean)
        broken = ~(predicted.isfinite().all(-1) & slope.isfinite().all(-1).all(-1))
        slope = slope.where(~broken[..., None, None], slope.new_zeros(()))
        cross = covariance @ slope
        gain = torch.linalg.solve(slope.mT @ cross + seen.covariance, cross.mT)  # [..., k, m]: the gain, transposed
        shift = ((seen.value - predicted)[..., None, :] @ gain)[..., 0, :]
        moving = transport(*roots(covariance), covariance - cross @ gain)
        self.particles = (mean + shift)[..., None, :] + (x - mean[..., None, :]) @ moving
        return failed | broken | ~self.particles.isfinite().all(-1).all(-1)
