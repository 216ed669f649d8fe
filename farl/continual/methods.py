"""The methods that continual learning is compared over, by name, each with the settings to tune it on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from farl.continual.learner import FilterLearner, Learner
from farl.continual.replay import AGEM, DarkExperienceReplay, ExperienceReplay
from farl.continual.strategies import EWC, LearningWithoutForgetting, OnlineEWC, Strategy, SynapticIntelligence
from farl.optimisers import Trac
from farl.particles.last_layer import LastLayerFilter
from farl.particles.resampling import Resampling
from farl.particles.weighted import WeightedParticleFilter
from farl.particles.weights import EssFloorTempering, FixedTempering

SGD_RATES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
ADAM_RATES = (0.0001, 0.0003, 0.001, 0.003, 0.01)


@dataclass(frozen=True)
class Setting:
    """What a method is built with.

    :ivar network: ``network(widening) -> nn.Module``, with about ``widening`` times the parameters of ``network(1)``
    :ivar replicas: seeds of the networks that learn side by side
    :ivar n_particles: particles (or members of an ensemble) of the methods that have several
    :ivar rate: learning rate (for the last-layer filter, which has none, the variance of the targets' noise)
    :ivar strength: strength of the penalty, for the methods that have one; None is the method's own default
    :ivar chunk_size: networks taken in one batched call
    :ivar seed: seed of replay buffers
    """

    network: Callable[[int], nn.Module]
    replicas: Sequence[int]
    n_particles: int
    rate: float
    strength: float | None = None
    chunk_size: int = 256
    seed: int = 0


@dataclass(frozen=True)
class Method:
    """One method.

    :ivar build: makes a learner
    :ivar rates: learning rates to sweep
    :ivar strengths: strengths to sweep with each of them
    :ivar many: whether it trains ``n_particles`` networks (or one as large), and costs accordingly
    """

    build: Callable[[Setting], Learner]
    rates: tuple[float, ...] = SGD_RATES
    strengths: tuple[float | None, ...] = (None,)
    many: bool = False

    def grid(self) -> list[tuple[float, float | None]]:
        """Return every (rate, strength)."""
        return [(rate, strength) for rate in self.rates for strength in self.strengths]


def _filter(setting: Setting, n: int, widening: int = 1, **arguments: Any) -> WeightedParticleFilter:
    options: dict[str, Any] = {"optimizer": partial(torch.optim.SGD, lr=setting.rate)} | arguments
    return WeightedParticleFilter(
        setting.network(widening),
        n,
        replicas=setting.replicas,
        backend="chunked",
        chunk_size=setting.chunk_size,
        **options,
    )


def _single(strategy: Callable[[Setting], Strategy] | None = None) -> Callable[[Setting], Learner]:
    """One network a replica, started as its layers start."""

    def build(setting: Setting) -> Learner:
        chosen = strategy(setting) if strategy is not None else None
        return FilterLearner(_filter(setting, 1, noise_scale=(0.0, 0.0)), chosen)

    return build


def _particles(strategy: Callable[[Setting], Strategy] | None = None, **arguments: Any) -> Callable[[Setting], Learner]:
    """``n_particles`` networks a replica."""

    def build(setting: Setting) -> Learner:
        chosen = strategy(setting) if strategy is not None else None
        return FilterLearner(_filter(setting, setting.n_particles, **arguments), chosen)

    return build


def _penalty(kind: Callable[..., Strategy]) -> Callable[[Setting], Strategy]:
    return lambda setting: kind() if setting.strength is None else kind(setting.strength)


def _adam(setting: Setting) -> Learner:
    optimizer = partial(torch.optim.Adam, lr=setting.rate)
    return FilterLearner(_filter(setting, 1, noise_scale=(0.0, 0.0), optimizer=optimizer))


def _trac(setting: Setting) -> Learner:
    def optimizer(parameters: list[Tensor]) -> Trac:
        return Trac(parameters, partial(torch.optim.Adam, lr=setting.rate), per_particle=True)

    return FilterLearner(_filter(setting, 1, noise_scale=(0.0, 0.0), optimizer=optimizer))


def _wide(setting: Setting) -> Learner:
    return FilterLearner(_filter(setting, 1, setting.n_particles, noise_scale=(0.0, 0.0)))


class _LastLayerLearner:
    """The last-layer filter as a learner; it needs no notice of tasks."""

    def __init__(self, setting: Setting, n_particles: int | None = None) -> None:
        self.replicas = len(setting.replicas)
        self.filter = LastLayerFilter(
            setting.network(1),
            setting.n_particles if n_particles is None else n_particles,
            noise=setting.rate,
            replicas=setting.replicas,
            backend="chunked",
            chunk_size=setting.chunk_size,
        )

    def observe(self, inputs: Tensor, labels: Tensor, dataset_size: int) -> None:
        """Learn a batch."""
        self.filter.update(inputs, labels)

    def end_task(self, inputs: Tensor, labels: Tensor) -> None:
        """Do nothing: there are no tasks for this filter."""

    def predict(self, inputs: Tensor) -> Tensor:
        """Return the weighted mean's probabilities."""
        return self.filter.predict(inputs)

    def effective_sample_size(self) -> Tensor:
        """Return the filter's."""
        return self.filter.effective_sample_size

    def state_bytes(self) -> int:
        """Return the bytes of features and sums, for one replica."""
        tensors = [*self.filter.ensemble.parameters.values(), self.filter.gram, self.filter.moment]
        return sum(t.numel() * t.element_size() for t in tensors) // self.replicas


_EVEN = FixedTempering(0.0)
_EWC_STRENGTHS = (1.0, 10.0, 100.0)
_SI_STRENGTHS = (0.01, 0.1, 1.0)
_LWF_STRENGTHS = (0.1, 0.5, 2.0)
_FEW_RATES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
_FEWER_RATES = (0.001, 0.003, 0.01, 0.03)

METHODS: dict[str, Method] = {
    "sgd": Method(_single()),
    "adam": Method(_adam, rates=ADAM_RATES),
    "trac": Method(_trac, rates=ADAM_RATES),
    "ewc": Method(_single(_penalty(EWC)), strengths=_EWC_STRENGTHS),
    "online-ewc": Method(_single(_penalty(OnlineEWC)), strengths=_EWC_STRENGTHS),
    "si": Method(_single(_penalty(SynapticIntelligence)), strengths=_SI_STRENGTHS),
    "lwf": Method(_single(_penalty(LearningWithoutForgetting)), strengths=_LWF_STRENGTHS),
    "er": Method(_single(lambda s: ExperienceReplay(seed=s.seed))),
    "agem": Method(_single(lambda s: AGEM(seed=s.seed))),
    "der++": Method(_single(lambda s: DarkExperienceReplay(seed=s.seed))),
    "wide": Method(_wide, rates=_FEW_RATES, many=True),
    "ensemble": Method(_particles(tempering=_EVEN, init="independent"), rates=_FEW_RATES, many=True),
    "average": Method(_particles(tempering=_EVEN), rates=_FEW_RATES, many=True),
    "wpf": Method(_particles(), rates=_FEW_RATES, many=True),
    "wpf-independent": Method(_particles(init="independent"), rates=_FEW_RATES, many=True),
    "wpf-ess": Method(_particles(tempering=EssFloorTempering(0.5), init="independent"), rates=_FEW_RATES, many=True),
    "wpf-mixture": Method(_particles(motion="mixture", init="independent"), rates=_FEW_RATES, many=True),
    "wpf-pull": Method(_particles(pull=0.01), rates=_FEW_RATES, many=True),
    "wpf-resample": Method(_particles(resampling=Resampling()), rates=_FEW_RATES, many=True),
    "wpf-ewc": Method(_particles(_penalty(EWC)), rates=_FEWER_RATES, strengths=(1.0, 10.0), many=True),
    "wpf-si": Method(_particles(_penalty(SynapticIntelligence)), rates=_FEWER_RATES, strengths=(0.01, 0.1), many=True),
    "wpf-lwf": Method(
        _particles(_penalty(LearningWithoutForgetting)), rates=_FEWER_RATES, strengths=(0.5, 2.0), many=True
    ),
    "last-layer-1": Method(lambda s: _LastLayerLearner(s, 1), rates=(0.03, 0.1, 0.3, 1.0)),
    "last-layer": Method(_LastLayerLearner, rates=(0.03, 0.1, 0.3, 1.0), many=True),
}
