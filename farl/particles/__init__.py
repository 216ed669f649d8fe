"""Particle filters: over network weights (WPF) and over states (RFPF and its baselines)."""

from farl.particles.ensemble import ParticleEnsemble
from farl.particles.resampling import Resampling
from farl.particles.weighted import WPF, StepReport, WeightedParticleFilter
from farl.particles.weights import DatasetTempering, EssFloorTempering, FixedTempering

__all__ = [
    "WPF",
    "DatasetTempering",
    "EssFloorTempering",
    "FixedTempering",
    "ParticleEnsemble",
    "Resampling",
    "StepReport",
    "WeightedParticleFilter",
]
