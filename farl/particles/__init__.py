"""Particle filters: over network weights (WPF) and over states (RFPF and its baselines)."""

from farl.particles.ensemble import ParticleEnsemble
from farl.particles.kalman import EnsembleKalmanFilter
from farl.particles.last_layer import LastLayerFilter
from farl.particles.mixture_transform import MixtureTransformFilter
from farl.particles.resampling import Resampling
from farl.particles.resampling_free import ResamplingFreeFilter
from farl.particles.state_space import (
    BootstrapFilter,
    GaussianObservation,
    LikelihoodObservation,
    MonteCarloLocalisation,
)
from farl.particles.weighted import WPF, StepReport, WeightedParticleFilter
from farl.particles.weights import DatasetTempering, EssFloorTempering, FixedTempering

__all__ = [
    "WPF",
    "BootstrapFilter",
    "DatasetTempering",
    "EnsembleKalmanFilter",
    "EssFloorTempering",
    "FixedTempering",
    "GaussianObservation",
    "LastLayerFilter",
    "LikelihoodObservation",
    "MixtureTransformFilter",
    "MonteCarloLocalisation",
    "ParticleEnsemble",
    "Resampling",
    "ResamplingFreeFilter",
    "StepReport",
    "WeightedParticleFilter",
]
