"""Particle filters: over network weights (WPF) and over states (RFPF and its baselines)."""

from farl.particles.ensemble import ParticleEnsemble
from farl.particles.kalman import EnsembleKalmanFilter, ExtendedKalmanFilter
from farl.particles.last_layer import LastLayerFilter
from farl.particles.manifold import Euclidean, Manifold, Product
from farl.particles.mixture_transform import MixtureTransformFilter
from farl.particles.resampling import Resampling
from farl.particles.resampling_free import ResamplingFreeFilter
from farl.particles.se2 import SE2
from farl.particles.se3 import SE3
from farl.particles.state_space import (
    BootstrapFilter,
    GaussianObservation,
    LikelihoodObservation,
    MonteCarloLocalisation,
    random_walk,
)
from farl.particles.weighted import WPF, StepReport, WeightedParticleFilter
from farl.particles.weighted_states import WeightedStateFilter
from farl.particles.weights import DatasetTempering, EssFloorTempering, FixedTempering

__all__ = [
    "SE2",
    "SE3",
    "WPF",
    "BootstrapFilter",
    "DatasetTempering",
    "EnsembleKalmanFilter",
    "EssFloorTempering",
    "Euclidean",
    "ExtendedKalmanFilter",
    "FixedTempering",
    "GaussianObservation",
    "LastLayerFilter",
    "LikelihoodObservation",
    "Manifold",
    "MixtureTransformFilter",
    "MonteCarloLocalisation",
    "ParticleEnsemble",
    "Product",
    "Resampling",
    "ResamplingFreeFilter",
    "StepReport",
    "WeightedParticleFilter",
    "WeightedStateFilter",
    "random_walk",
]
