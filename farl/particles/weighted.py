"""The gradient-based weighted particle filter over network weights (WPF)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from farl.errors import ConfigError
from farl.particles import weights
from farl.particles.ensemble import Backend, Objective, ParticleEnsemble
from farl.particles.group import ParticleGroup
from farl.particles.initialisation import Initialisation, draw_particles, particle_seed, reinitialise
from farl.particles.interaction import Interaction
from farl.particles.optimisation import ParticleOptimizer, all_finite
from farl.particles.prediction import Mixture, as_batch, check_mixture, check_training, default_mixture, kind_of, mixed
from farl.particles.resampling import Resampling
from farl.particles.storage import filter_header, restore_filter, save_filter
from farl.particles.weights import FixedTempering, Tempering

Motion = Literal["independent", "mixture"]
Adjust = Callable[[int, dict[str, Tensor]], None]
"""``adjust(chunk, leaves)`` may change the gradients of a chunk's leaves before the local move."""

DEFAULT_OPTIMIZER = partial(torch.optim.SGD, lr=0.01)
_JITTER_STREAM = 1


@dataclass(frozen=True)
class _Work:
    """What one step works on: see :meth:`WeightedParticleFilter.step`; ``defer`` is the ensemble's."""

    objective: Objective
    likelihood: Objective
    batch: tuple[Tensor, ...]
    per_particle: bool
    adjust: Adjust | None
    defer: bool


@dataclass(frozen=True)
class StepReport:
    """What one update did; tensors end in an axis over this process's particles, [..., n].

    :ivar losses: loss of each particle before the move
    :ivar redrawn: particles whose loss was not finite and which were replaced, over all replicas
    :ivar resampled: whether resampling took place, bool [...]
    """

    losses: Tensor
    redrawn: int
    resampled: Tensor


class WeightedParticleFilter:
    """N weighted copies of a network, each moved by its own gradients and weighted by its own likelihood.

    For every minibatch with loss L (arXiv 2410.22695): each particle takes a step of ``optimizer``, and

        log w_i <- log w_i - s (L(x_i before) + L(x_i after)) / 2,

    then the weights are normalised; ``s`` is set by ``tempering``. With plain SGD the learning rate is the variance
    of the Gaussian around each particle. Weights of fixed particles, and positions and weights under losses that are
    linear in the parameters, do not depend on the order of the minibatches; otherwise they do to second order in the
    learning rate.

    :param module: the network; its own parameters are the centre of ``init="noise"``
    :param n_particles: number of particles, over all processes
    :param loss: ``loss(outputs, targets) -> scalar`` of one particle, a mean over the batch
    :param optimizer: ``optimizer(parameters) -> torch.optim.Optimizer`` for the local move. It sees parameters with a
        leading particle axis, so it must act on every element by itself (SGD, Adam, ...) or know that axis.
    :param tempering: how strongly evidence moves the weights
    :param mixture: what predictions are the weighted mean of: ``"probabilities"``, ``"logits"`` (made probabilities
        after the mean), or the outputs as they are (``"mean"``, for regression). By default what the loss says:
        probabilities under ``F.cross_entropy``, ``F.nll_loss`` and ``F.binary_cross_entropy_with_logits``, the mean
        under ``F.mse_loss`` and its kind; with a loss of your own, :meth:`predict` asks for it
    :param motion: ``"independent"`` moves every particle by its own gradient, as published. ``"mixture"`` follows the
        gradient of the mixture's likelihood instead, -grad log sum_i w_i exp(-s L_i): a particle's step is scaled
        by N times its responsibility for the batch. Weights then feed back into motion: particles that explain a
        batch specialise in it and the others keep what they learnt before. (An optimiser that normalises its
        steps, such as Adam, cancels the scale.)
    :param pull: share of the way that particles move to their weighted mean after every step, the other feedback: what
        the heavy particles found reaches the light ones, so that weights do not end on one. It needs particles
        in one basin (``init="noise"``): a mean of independent networks is no network.
    :param resampling: resample with jitter when the effective sample size is low; by default never
    :param init: ``"noise"`` or ``"independent"``, see :class:`~farl.particles.ensemble.ParticleEnsemble`
    :param noise_scale: range of the standard deviations of the initial noise
    :param seed: seed of everything random here
    :param replicas: seeds of several filters run side by side in the same calls, each with batches of its own, or None
        for one filter. Each replica starts from an initialisation of its own.
    :param backend: see :class:`~farl.particles.ensemble.ParticleEnsemble`
    :param chunk_size: see :class:`~farl.particles.ensemble.ParticleEnsemble`
    :param device: where the particles live
    :param autocast: reduced precision of the forward pass
    :param group: processes that share the particles (``torch.distributed.group.WORLD`` under ``torchrun``); every
        process passes the same batches.
    :ivar log_weights: [n] (or [replicas, n]) normalised log-weights of this process's particles, before tempering
    :ivar ensemble: the particles
    :raises ConfigError: for a wrong argument
    """

    def __init__(
        self,
        module: nn.Module,
        n_particles: int = 100,
        *,
        loss: Callable[[Any, Any], Tensor] = F.cross_entropy,
        optimizer: Callable[[list[Tensor]], torch.optim.Optimizer] = DEFAULT_OPTIMIZER,
        tempering: Tempering | None = None,
        mixture: Mixture | None = None,
        motion: Motion = "independent",
        pull: float = 0.0,
        resampling: Resampling | None = None,
        init: Initialisation = "noise",
        noise_scale: tuple[float, float] = (0.001, 0.04),
        seed: int = 0,
        replicas: Sequence[int] | None = None,
        backend: Backend = "auto",
        chunk_size: int | None = None,
        device: torch.device | str | None = None,
        autocast: torch.dtype | None = None,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        if n_particles < 1:
            raise ConfigError(f"n_particles must be at least 1, got {n_particles}")
        self.kind = kind_of(loss)
        check_mixture(mixture, self.kind)
        if motion not in ("independent", "mixture"):
            raise ConfigError(f"motion must be 'independent' or 'mixture', got {motion!r}")
        if not 0 <= pull < 1:
            raise ConfigError(f"pull is a share in [0, 1), got {pull}")
        self.n_particles = n_particles
        self.loss = loss
        self.tempering: Tempering = FixedTempering() if tempering is None else tempering
        self.mixture = default_mixture(self.kind) if mixture is None else mixture
        self.motion = motion
        self.pull = pull
        self.resampling = resampling
        self.group = ParticleGroup(group)
        mine = self.group.share(n_particles)
        self.lead: tuple[int, ...] = () if replicas is None else (len(replicas),)
        self._n = len(mine)
        lines = 1 if replicas is None else len(replicas)
        state = None
        if replicas is not None:
            drawn = [draw_particles(reinitialise(module, s), mine, init, noise_scale, seed=s) for s in replicas]
            state = tuple({name: torch.cat([d[k][name] for d in drawn]) for name in drawn[0][k]} for k in (0, 1))
        self.ensemble = ParticleEnsemble(
            module,
            self._n * lines,
            init=init,
            noise_scale=noise_scale,
            seed=seed,
            backend=backend,
            chunk_size=chunk_size,
            device=device,
            autocast=autocast,
            particles=mine,
            state=state,  # type: ignore[arg-type]
        )
        self.optimizer = ParticleOptimizer(self.ensemble, optimizer)
        if pull > 0 and self.optimizer.has_reference:
            raise ConfigError(
                f"pull={pull} and TRAC undo each other, for TRAC keeps to a reference point: leave one out"
            )
        dtype = next(iter(self.ensemble.parameters.values())).dtype
        self.log_weights = self.group.normalise(
            torch.zeros(*self.lead, self._n, dtype=torch.promote_types(dtype, torch.float32), device=self.device)
        )
        self.generator = torch.Generator().manual_seed(particle_seed(seed, 0, _JITTER_STREAM))
        self._interaction = Interaction(self.ensemble, self.optimizer, self.group, lines, n_particles, self.generator)

    @property
    def device(self) -> torch.device:
        """Where the particles live."""
        return self.ensemble.device

    @property
    def weights(self) -> Tensor:
        """Weights [..., n] of this process's particles, as predictions use them (after tempering)."""
        everyone = self.group.gather(self.log_weights)
        share = self.group.share(self.n_particles)
        return weights.normalise(self._tempered(everyone))[..., share.start : share.stop].exp()

    @property
    def effective_sample_size(self) -> Tensor:
        """Effective sample size [...] of the weights of all processes' particles, as predictions use them."""
        return weights.effective_sample_size(self._tempered(self.group.gather(self.log_weights)))

    def _tempered(self, log_weights: Tensor) -> Tensor:
        return self.tempering.temperature(log_weights)[..., None] * log_weights

    def update(self, *batch: Tensor) -> StepReport:
        """Move and weigh the particles by one minibatch, (inputs..., targets).

        :param batch: tensors [batch, ...], or [replicas, batch, ...] with replicas; the last are the targets, the
            others the network's arguments
        """
        return self.step(self.objective, *batch)

    def objective(self, network: Callable[..., Any], *batch: Tensor) -> Tensor:
        """Return the loss of one particle on a minibatch (inputs..., targets)."""
        outputs = network(*batch[:-1])
        if isinstance(outputs, Tensor):
            check_training(self.kind, outputs, batch[-1])
        return self.loss(outputs, batch[-1])

    def step(
        self,
        objective: Objective,
        *batch: Tensor,
        likelihood: Objective | None = None,
        adjust: Adjust | None = None,
        dataset_size: int | None = None,
        epochs: int = 1,
        per_particle: bool = False,
    ) -> StepReport:
        """Move and weigh the particles by any objective.

        :param objective: ``objective(network, *batch) -> scalar``, which the local move descends
        :param batch: tensors with a batch axis; with replicas a first axis of that length before it
        :param likelihood: negative log-likelihood that moves the weights; by default the objective
        :param adjust: called with each chunk and its leaves between gradient and move
        :param dataset_size: samples in the whole data set, for tempering
        :param epochs: passes over it, for tempering
        :param per_particle: whether the batch already has a first axis over all particles
        :raises ImpossibleEvidenceError: if no particle of a replica has a finite loss: these are as they were
        """
        if self.lead and not per_particle:
            batch = tuple(self._spread(value) for value in batch)
        per_particle = per_particle or bool(self.lead)
        defer = adjust is None and self.optimizer.is_plain_descent
        self.ensemble.resolve(objective, batch, per_particle, defer)
        size = batch[0].shape[1] if per_particle else len(batch[0])
        factor = self.tempering.likelihood_scale(size, dataset_size, epochs) if self.n_particles > 1 else 0.0
        work = _Work(objective, objective if likelihood is None else likelihood, batch, per_particle, adjust, defer)
        scales = self._responsibilities(work, factor) if self.motion == "mixture" else None
        moves = [self._move(chunk, work, factor > 0, scales) for chunk in range(len(self.ensemble.chunks))]
        losses, evidence = (torch.cat(parts) for parts in zip(*moves, strict=True))
        redrawn = self._weigh(losses, evidence, factor)
        if self.pull > 0:
            self._interaction.pull(self.weights, self.pull)
        return StepReport(self._shaped(losses), redrawn, self._resample())

    def _responsibilities(self, work: _Work, factor: float) -> Tensor:
        """Return N times each particle's responsibility for a batch, [particles]."""
        chunks = range(len(self.ensemble.chunks))
        now = [self.ensemble.evaluate(c, work.likelihood, work.batch, per_particle=work.per_particle) for c in chunks]
        losses = self._shaped(torch.cat(now)).nan_to_num(nan=torch.inf)
        return (self.n_particles * self.group.normalise(self.log_weights - factor * losses).exp()).flatten()

    def _move(self, chunk: int, work: _Work, weigh: bool, scales: Tensor | None) -> tuple[Tensor, Tensor]:
        """Take the step of one chunk of particles; return the losses descended and the evidence, [particles] each."""
        ensemble = self.ensemble
        leaves = ensemble.leaves(chunk)
        scale = None if scales is None else scales[ensemble.chunks[chunk]].to(next(iter(leaves.values())).dtype)
        before = None
        if weigh and work.likelihood is not work.objective:
            before = ensemble.evaluate(chunk, work.likelihood, work.batch, per_particle=work.per_particle)
        losses = ensemble.backward(
            chunk, work.objective, work.batch, per_particle=work.per_particle, scale=scale, defer=work.defer
        )
        if work.adjust is not None:
            work.adjust(chunk, leaves)
        self.optimizer.step(chunk, losses)
        if not weigh:
            return losses, losses
        after = ensemble.evaluate(chunk, work.likelihood, work.batch, per_particle=work.per_particle)
        return losses, ((losses if before is None else before) + after) / 2

    def _weigh(self, losses: Tensor, evidence: Tensor, factor: float) -> int:
        """Move the log-weights by the evidence; redraw particles without any, and return how many these were."""
        healthy = None if all_finite(losses, evidence) else losses.isfinite() & evidence.isfinite()
        moved = self.log_weights
        if factor > 0:
            sound = evidence if healthy is None else evidence.where(healthy, evidence.new_zeros(()))
            moved = moved - factor * self._shaped(sound).to(moved)
        if healthy is not None:
            moved = self._interaction.redraw(moved, healthy)
        self.log_weights = self.group.normalise(moved)
        return 0 if healthy is None else int((~healthy).sum())

    def _resample(self) -> Tensor:
        """Resample where that is due; return where it was, bool[...]."""
        if self.resampling is None:
            return torch.zeros(self.lead, dtype=torch.bool, device=self.device)
        self.log_weights, resampled = self._interaction.resample(
            self.resampling, self.log_weights, self.effective_sample_size
        )
        return resampled

    def _spread(self, value: Tensor) -> Tensor:
        """Repeat a tensor [replicas, ...] for the particles of every replica."""
        if value.shape[0] != self.lead[0]:
            raise ConfigError(f"a batch needs a first axis of {self.lead[0]} replicas, got shape {tuple(value.shape)}")
        return value.repeat_interleave(self._n, 0)

    def _shaped(self, value: Tensor) -> Tensor:
        """View [particles, ...] as [..., n, ...]: with a replica axis if there are replicas."""
        return value.reshape(*self.lead, self._n, *value.shape[1:])

    def fit(self, loader: Iterable[Any], epochs: int = 1, progress: bool = True) -> WeightedParticleFilter:
        """Run :meth:`update` over a data loader of (inputs..., targets) and return the filter.

        :param loader: such as a ``torch.utils.data.DataLoader``
        :param epochs: passes over it
        :param progress: whether to show a progress bar with the weighted loss and the effective sample size
        :raises ConfigError: if the loader gives no batch, as an empty one does, or a generator on a second pass; or
            other batches than tensors of which the last are the targets and the network takes the others
        """
        try:
            size: int | None = len(loader.dataset)  # type: ignore[attr-defined]
        except (AttributeError, TypeError):
            size = None
        for epoch in range(epochs):
            report = None
            with tqdm(loader, desc=f"WPF {epoch + 1}/{epochs}", disable=not progress, leave=False) as bar:
                for given in bar:
                    batch = tuple(part.to(self.device) for part in as_batch(given, self.ensemble.module))
                    if report is None:
                        self.ensemble.train()
                    report = self.step(self.objective, *batch, dataset_size=size, epochs=epochs)
                    if progress:
                        bar.set_postfix(
                            loss=f"{float(report.losses.mean()):.3f}",
                            ess=f"{float(self.effective_sample_size.mean()):.1f}",
                        )
            if report is None:
                raise ConfigError(f"pass {epoch + 1} of {epochs}: loader gave no batch, empty or used up: {loader!r}")
        return self

    def predict(self, *inputs: Tensor, batch_size: int = 1024) -> Tensor:
        """Return the weighted mixture's prediction: [batch, ...], or [replicas, batch, ...] with replicas.

        What it is follows the loss, see ``mixture``. Inputs are shared by all replicas. The module runs in evaluation
        mode.

        :param inputs: the network's arguments, [batch, ...] each
        :param batch_size: inputs taken at a time
        :raises ConfigError: if it is not known what the outputs are
        """
        mine, how = self.weights.reshape(-1, self._n), (self.group, self.kind, self.mixture)
        training = self.ensemble.module.training
        self.ensemble.train(False)
        try:
            parts = [
                mixed(self.ensemble.outputs(*(part.to(self.device) for part in some)), mine, *how)
                for some in zip(*(torch.split(value, batch_size) for value in inputs), strict=True)
            ]
        finally:
            self.ensemble.train(training)
        prediction = torch.cat(parts, 1)
        return prediction if self.lead else prediction[0]

    def save(self, path: str | Path) -> None:
        """Write particles, weights, optimiser and random state to one safetensors file, atomically."""
        save_filter(self, Path(path))

    def restore(self, path: str | Path) -> WeightedParticleFilter:
        """Take up the state of a file written by :meth:`save` and return the filter.

        :raises ConfigError: if the file is no such file, or was written for another network or number of particles
        """
        restore_filter(self, Path(path))
        return self

    @classmethod
    def load(cls, path: str | Path, module: nn.Module, **arguments: Any) -> WeightedParticleFilter:
        """Return the filter that :meth:`save` wrote.

        :param path: the file
        :param module: a network of the same architecture (its parameter values do not matter)
        :param arguments: the constructor's other arguments, where they were not the defaults; ``n_particles`` and
            ``mixture`` are in the file.
        """
        header = filter_header(Path(path))
        stored = {"n_particles": header["n_particles"], "mixture": header["mixture"]}
        return cls(module, **(stored | arguments)).restore(path)


WPF = WeightedParticleFilter
