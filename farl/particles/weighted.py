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

from farl.particles import weights
from farl.particles.ensemble import Backend, Objective, ParticleEnsemble
from farl.particles.group import ParticleGroup
from farl.particles.initialisation import Initialisation, draw_particles, particle_seed, reinitialise
from farl.particles.optimisation import ParticleOptimizer, all_finite
from farl.particles.renewal import Renewal
from farl.particles.resampling import Resampling
from farl.particles.storage import load_tensors, save_tensors
from farl.particles.weights import FixedTempering, Tempering

Mixture = Literal["probabilities", "logits", "mean"]
Motion = Literal["independent", "mixture"]
Adjust = Callable[[int, dict[str, Tensor]], None]
"""``adjust(chunk, leaves)`` may change the gradients of a chunk's leaves before the local move."""

DEFAULT_OPTIMIZER = partial(torch.optim.SGD, lr=0.01)
_JITTER_STREAM = 1


@dataclass(frozen=True)
class StepReport:
    """What one update did; tensors end in an axis over this process's particles, [..., n].

    Attributes:
        losses: Loss of each particle before the move.
        redrawn: Particles whose loss was not finite and which were replaced, over all replicas.
        resampled: Whether resampling took place, bool [...].
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

    Args:
        module: The network; its own parameters are the centre of ``init="noise"``.
        n_particles: Number of particles, over all processes.
        loss: ``loss(outputs, targets) -> scalar`` of one particle, a mean over the batch.
        optimizer: ``optimizer(parameters) -> torch.optim.Optimizer`` for the local move. It sees parameters with a
            leading particle axis, so it must act on every element by itself (SGD, Adam, ...) or know that axis.
        tempering: How strongly evidence moves the weights.
        mixture: Prediction from the weighted mean of ``"probabilities"``, of ``"logits"`` (softmax after the mean),
            or the ``"mean"`` of the outputs as they are (regression).
        motion: ``"independent"`` moves every particle by its own gradient, as published. ``"mixture"`` follows the
            gradient of the mixture's likelihood instead, -grad log sum_i w_i exp(-s L_i): a particle's step is scaled
            by N times its responsibility for the batch. Weights then feed back into motion: particles that explain a
            batch specialise in it and the others keep what they learnt before. (An optimiser that normalises its
            steps, such as Adam, cancels the scale.)
        pull: Share of the way that particles move to their weighted mean after every step, the other feedback: what
            the heavy particles found reaches the light ones, so that weights do not end on one. It needs particles
            in one basin (``init="noise"``): a mean of independent networks is no network.
        resampling: Resample with jitter when the effective sample size is low; by default never.
        init: ``"noise"`` or ``"independent"``, see :class:`~farl.particles.ensemble.ParticleEnsemble`.
        noise_scale: Range of the standard deviations of the initial noise.
        seed: Seed of everything random here.
        replicas: Seeds of several filters run side by side in the same calls, each with batches of its own, or None
            for one filter. Each replica starts from an initialisation of its own.
        backend: See :class:`~farl.particles.ensemble.ParticleEnsemble`.
        chunk_size: See :class:`~farl.particles.ensemble.ParticleEnsemble`.
        device: Where the particles live.
        autocast: Reduced precision of the forward pass.
        group: Processes that share the particles (``torch.distributed.group.WORLD`` under ``torchrun``); every
            process passes the same batches.

    Attributes:
        log_weights: [n] (or [replicas, n]) normalised log-weights of this process's particles, before tempering.
        ensemble: The particles.

    Raises:
        ValueError: for a wrong argument.
    """

    def __init__(
        self,
        module: nn.Module,
        n_particles: int = 100,
        *,
        loss: Callable[[Any, Any], Tensor] = F.cross_entropy,
        optimizer: Callable[[list[Tensor]], torch.optim.Optimizer] = DEFAULT_OPTIMIZER,
        tempering: Tempering | None = None,
        mixture: Mixture = "probabilities",
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
            raise ValueError(f"n_particles must be at least 1, got {n_particles}")
        if mixture not in ("probabilities", "logits", "mean"):
            raise ValueError(f"mixture must be 'probabilities', 'logits' or 'mean', got {mixture!r}")
        if motion not in ("independent", "mixture"):
            raise ValueError(f"motion must be 'independent' or 'mixture', got {motion!r}")
        if not 0 <= pull < 1:
            raise ValueError(f"pull is a share in [0, 1), got {pull}")
        self.n_particles = n_particles
        self.loss = loss
        self.tempering: Tempering = FixedTempering() if tempering is None else tempering
        self.mixture = mixture
        self.motion = motion
        self.pull = pull
        self.resampling = resampling
        self.group = ParticleGroup(group)
        mine = self.group.share(n_particles)
        self._lead: tuple[int, ...] = () if replicas is None else (len(replicas),)
        self._n = len(mine)
        total = self._n * (1 if replicas is None else len(replicas))
        state = None
        if replicas is not None:
            drawn = [draw_particles(reinitialise(module, s), mine, init, noise_scale, seed=s) for s in replicas]
            state = tuple({name: torch.cat([d[k][name] for d in drawn]) for name in drawn[0][k]} for k in (0, 1))
        self.ensemble = ParticleEnsemble(
            module,
            total,
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
        dtype = next(iter(self.ensemble.parameters.values())).dtype
        self.log_weights = self.group.normalise(
            torch.zeros(*self._lead, self._n, dtype=torch.promote_types(dtype, torch.float32), device=self.device)
        )
        self._generator = torch.Generator().manual_seed(particle_seed(seed, 0, _JITTER_STREAM))
        lines = 1 if replicas is None else len(replicas)
        self._renewal = Renewal(self.ensemble, self.optimizer, self.group, lines, n_particles, self._generator)

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

    def update(self, inputs: Tensor, targets: Tensor) -> StepReport:
        """Move and weigh the particles by one minibatch: [batch, ...], or [replicas, batch, ...] with replicas."""
        return self.step(self.objective, inputs, targets)

    def objective(self, network: Callable[..., Any], inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of one particle on a minibatch."""
        return self.loss(network(inputs), targets)

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

        Args:
            objective: ``objective(network, *batch) -> scalar``, which the local move descends.
            *batch: Tensors with a batch axis; with replicas a first axis of that length before it.
            likelihood: Negative log-likelihood that moves the weights; by default the objective.
            adjust: Called with each chunk and its leaves between gradient and move.
            dataset_size: Samples in the whole data set, for tempering.
            epochs: Passes over it, for tempering.
            per_particle: Whether the batch already has a first axis over all particles.

        Raises:
            FloatingPointError: if no particle has a finite loss; the particles are unchanged.
        """
        if self._lead and not per_particle:
            batch = tuple(self._spread(value) for value in batch)
            per_particle = True
        ensemble, likelihood = self.ensemble, likelihood or objective
        defer = adjust is None and self.optimizer.is_plain_descent
        ensemble.resolve(objective, batch, per_particle, defer)
        size = batch[0].shape[1] if per_particle else len(batch[0])
        factor = self.tempering.likelihood_scale(size, dataset_size, epochs)
        weigh = factor > 0 and self.n_particles > 1
        chunks = range(len(ensemble.chunks))
        scale = None
        if self.motion == "mixture":
            now = torch.cat([ensemble.evaluate(c, likelihood, batch, per_particle=per_particle) for c in chunks])
            evidence = self.log_weights - factor * self._shaped(now).nan_to_num(nan=torch.inf)
            scale = (self.n_particles * self.group.normalise(evidence).exp()).flatten()
        before, after, moved = [], [], []
        for c, rows in enumerate(ensemble.chunks):
            part = None if scale is None else scale[rows].to(ensemble.parameters[next(iter(ensemble.leaves(c)))].dtype)
            if likelihood is not objective and weigh:
                before.append(ensemble.evaluate(c, likelihood, batch, per_particle=per_particle))
            losses = ensemble.backward(c, objective, batch, per_particle=per_particle, scale=part, defer=defer)
            if likelihood is objective or not weigh:
                before.append(losses)
            moved.append(losses)
            if adjust is not None:
                adjust(c, ensemble.leaves(c))
            self.optimizer.step(c, losses)
            if weigh:
                after.append(ensemble.evaluate(c, likelihood, batch, per_particle=per_particle))
        first = torch.cat(before)
        last = torch.cat(after) if weigh else first
        own = torch.cat(moved)
        redrawn = 0
        if all_finite(first, last, own):
            if weigh:
                self.log_weights = self.log_weights - factor * self._shaped((first + last) / 2).to(self.log_weights)
        else:
            healthy = first.isfinite() & last.isfinite() & own.isfinite()
            if weigh:
                loss = ((first + last) / 2).where(healthy, first.new_tensor(0.0)).to(self.log_weights)
                self.log_weights = self.log_weights - factor * self._shaped(loss)
            self.log_weights = self._renewal.redraw(self.log_weights, healthy)
            redrawn = int((~healthy).sum())
        self.log_weights = self.group.normalise(self.log_weights)
        if self.pull > 0:
            self._renewal.pull(self.weights, self.pull)
        resampled = torch.zeros(self._lead, dtype=torch.bool, device=self.device)
        if self.resampling is not None:
            sizes = self.effective_sample_size
            self.log_weights, resampled = self._renewal.resample(self.resampling, self.log_weights, sizes)
        return StepReport(self._shaped(own), redrawn, resampled)

    def _spread(self, value: Tensor) -> Tensor:
        """Repeat a tensor [replicas, ...] for the particles of every replica."""
        if value.shape[0] != self._lead[0]:
            raise ValueError(f"a batch needs a first axis of {self._lead[0]} replicas, got shape {tuple(value.shape)}")
        return value.repeat_interleave(self._n, 0)

    def _shaped(self, value: Tensor) -> Tensor:
        """View [particles, ...] as [..., n, ...]: with a replica axis if there are replicas."""
        return value.reshape(*self._lead, self._n, *value.shape[1:])

    def fit(self, loader: Iterable[Any], epochs: int = 1, progress: bool = True) -> WeightedParticleFilter:
        """Run :meth:`update` over a data loader of (inputs, targets) and return the filter.

        Args:
            loader: Such as a ``torch.utils.data.DataLoader``.
            epochs: Passes over it.
            progress: Whether to show a progress bar with the weighted loss and the effective sample size.

        Raises:
            ValueError: if the loader gives no batch, as an empty one does, or a generator on a second pass.
        """
        try:
            size: int | None = len(loader.dataset)  # type: ignore[attr-defined]
        except (AttributeError, TypeError):
            size = None
        for epoch in range(epochs):
            report = None
            with tqdm(loader, desc=f"WPF {epoch + 1}/{epochs}", disable=not progress, leave=False) as bar:
                for inputs, targets in bar:
                    if report is None:
                        self.ensemble.train()
                    batch = inputs.to(self.device), targets.to(self.device)
                    report = self.step(self.objective, *batch, dataset_size=size, epochs=epochs)
                    if progress:
                        bar.set_postfix(
                            loss=f"{float(report.losses.mean()):.3f}",
                            ess=f"{float(self.effective_sample_size.mean()):.1f}",
                        )
            if report is None:
                raise ValueError(f"pass {epoch + 1} of {epochs}: loader gave no batch, empty or used up: {loader!r}")
        return self

    def predict(self, inputs: Tensor, batch_size: int = 1024) -> Tensor:
        """Return the weighted mixture's prediction: [batch, ...], or [replicas, batch, ...] with replicas.

        Probabilities over the last axis, or the mean output with ``mixture="mean"``. Inputs are shared by all
        replicas. The module runs in evaluation mode.
        """
        mine = self.weights.flatten()
        training = self.ensemble.module.training
        self.ensemble.train(False)
        parts = [self._mix(part.to(self.device), mine) for part in torch.split(inputs, batch_size)]
        self.ensemble.train(training)
        return torch.cat(parts, len(self._lead))

    def _mix(self, inputs: Tensor, mine: Tensor) -> Tensor:
        total: Tensor | None = None
        for rows, raw in self.ensemble.outputs(inputs):
            outputs = raw.softmax(-1) if self.mixture == "probabilities" else raw
            if total is None:
                total = outputs.new_zeros((max(1, *self._lead, 1), *outputs.shape[1:]))
            replica = torch.arange(rows.start, rows.stop, device=self.device) // self._n
            weight = mine[rows].to(outputs.dtype).reshape(-1, *(1,) * (outputs.dim() - 1))
            total.index_add_(0, replica, weight * outputs)
        assert total is not None
        total = self.group.sum(total)
        if self.mixture == "logits":
            total = total.softmax(-1)
        return total if self._lead else total.squeeze(0)

    def save(self, path: str | Path) -> None:
        """Write particles, weights, optimiser and random state to one safetensors file, atomically."""
        tensors = {"log_weights": self.log_weights, "generator": self._generator.get_state()}
        tensors |= {f"parameters.{name}": value for name, value in self.ensemble.parameters.items()}
        tensors |= {f"buffers.{name}": value for name, value in self.ensemble.buffers.items()}
        tensors |= {f"optimizer.{name}": value for name, value in self.optimizer.state().items()}
        header = {
            "kind": "farl.WeightedParticleFilter",
            "n_particles": self.n_particles,
            "replicas": self._lead[0] if self._lead else None,
            "processes": self.group.size,
            "mixture": self.mixture,
        }
        save_tensors(Path(path), tensors, header)

    def restore(self, path: str | Path) -> WeightedParticleFilter:
        """Take up the state of a file written by :meth:`save` and return the filter.

        Raises:
            ValueError: if the file is no such file, or was written for another network or number of particles.
        """
        tensors, header = load_tensors(Path(path), "farl.WeightedParticleFilter")
        here = (self.n_particles, self._lead[0] if self._lead else None, self.group.size)
        there = (header["n_particles"], header["replicas"], header["processes"])
        if here != there:
            raise ValueError(
                f"{path} holds (particles, replicas, processes) = {there}, this filter has {here}: build it alike"
            )
        for prefix, stack in (("parameters.", self.ensemble.parameters), ("buffers.", self.ensemble.buffers)):
            found = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            shapes = {name: tuple(value.shape) for name, value in stack.items()}
            if {name: tuple(value.shape) for name, value in found.items()} != shapes:
                raise ValueError(f"{path} was written for another network: its {prefix[:-1]} differ in name or shape")
            for name, value in stack.items():
                with torch.no_grad():
                    value.copy_(found[name])
        self.log_weights = tensors["log_weights"].to(self.log_weights)
        self._generator.set_state(tensors["generator"])
        prefix = "optimizer."
        self.optimizer.load({n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)})
        return self

    @classmethod
    def load(cls, path: str | Path, module: nn.Module, **arguments: Any) -> WeightedParticleFilter:
        """Return the filter that :meth:`save` wrote.

        Args:
            path: The file.
            module: A network of the same architecture (its parameter values do not matter).
            **arguments: The constructor's other arguments, where they were not the defaults; ``n_particles`` and
                ``mixture`` are in the file.
        """
        _, header = load_tensors(Path(path), "farl.WeightedParticleFilter")
        stored = {"n_particles": header["n_particles"], "mixture": header["mixture"]}
        return cls(module, **(stored | arguments)).restore(path)


WPF = WeightedParticleFilter
