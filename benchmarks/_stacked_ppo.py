"""Many PPO learners side by side, each with a mixture of particles: small networks in batched products.

R learners with N particles each are R x N pairs of networks, an actor and a critic. All their parameters lie in one
tensor [R, N, 2, P], so that a layer of all of them is one ``baddbmm``. What a learner computes is what
Stable-Baselines3's PPO computes with separate networks of the same shape (a test compares the parameters after an
update); how it collects is TRAC's: whole episodes, as many for each iteration, instead of a fixed number of steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from farl.errors import ConfigError
from farl.particles.initialisation import Initialisation, particle_seed
from farl.particles.policies import Evidence, PolicyWeights, mixture_log_prob, ppo_loss

Acting = str
Factory = Callable[[list[Tensor]], torch.optim.Optimizer]
ACTORS, CRITICS = 0, 1


@dataclass(frozen=True)
class StackedSettings:
    """Of all learners alike; the defaults are TRAC's control experiments (Muppidi et al. 2024).

    :ivar hidden: widths of the hidden layers
    :ivar activation: ``"leaky_relu"`` (slope 0.1) or ``"crelu"`` (twice the width into the next layer)
    :ivar layer_norm: normalise the hidden layers before the activation, without parameters
    :ivar n_particles: networks of one learner
    :ivar init: how the particles begin: independent, or one plus noise
    :ivar acting: ``"mixture"`` of action probabilities, ``"thompson"`` (one particle an episode) or ``"map"``
    :ivar evidence: what moves the weights: the whole ``"loss"``, or its ``"policy"`` term
    :ivar beta, ess_floor, forgetting: see :class:`~farl.particles.policies.PolicyWeights`
    """

    hidden: tuple[int, ...] = (128, 128, 128)
    activation: str = "leaky_relu"
    layer_norm: bool = False
    n_particles: int = 1
    init: Initialisation = "independent"
    noise_scale: tuple[float, float] = (0.001, 0.04)
    acting: Acting = "mixture"
    evidence: Evidence = "loss"
    beta: float = 1.0
    ess_floor: float = 0.5
    forgetting: float = 1.0
    epochs: int = 5
    batch_size: int = 32
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip_range: float = 0.2
    ent_coef: float = 0.01
    vf_coef: float = 0.5


@dataclass
class Rollout:
    """The steps of R learners, padded to the longest: arrays [R, T, ...], of which the first ``lengths`` [R] count."""

    observations: Tensor
    actions: Tensor
    log_prob: Tensor
    advantages: Tensor
    returns: Tensor
    lengths: npt.NDArray[np.int64]


@dataclass(frozen=True)
class StackedNetworks:
    """The shape of the networks, and where each layer lies in a row of P parameters."""

    inputs: int
    outputs: int
    settings: StackedSettings
    layers: list[tuple[int, int]] = field(init=False)

    def __post_init__(self) -> None:
        wider = 2 if self.settings.activation == "crelu" else 1
        widths = list(self.settings.hidden)
        ins = [self.inputs, *(wider * width for width in widths)]
        object.__setattr__(self, "layers", list(zip(ins, [*widths, self.outputs], strict=True)))

    @property
    def size(self) -> int:
        """P."""
        return sum((i + 1) * o for i, o in self.layers)

    def split(self, rows: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return (weight [M, out, in], bias [M, 1, out]) of each layer as views of ``rows`` [M, P]."""
        sizes = [size for i, o in self.layers for size in (i * o, o)]
        parts = torch.split(rows, sizes, dim=1)
        return [(parts[2 * k].view(-1, o, i), parts[2 * k + 1].view(-1, 1, o)) for k, (i, o) in enumerate(self.layers)]

    def draw(self, seed: int) -> Tensor:
        """Return one row [P], drawn as ``torch.nn.Linear`` draws."""
        generator = torch.Generator().manual_seed(seed)
        parts = []
        for i, o in self.layers:
            bound = i**-0.5
            parts.append(torch.empty((i + 1) * o).uniform_(-bound, bound, generator=generator))
        return torch.cat(parts)

    def __call__(self, rows: Tensor, inputs: Tensor, hidden: list[Tensor] | None = None) -> Tensor:
        """Return outputs [M, batch, outputs] of the networks ``rows`` [M, P] for inputs [M, batch, inputs].

        The hidden layers' activations are appended to ``hidden``, if given.
        """
        layers = self.split(rows)
        value = inputs
        for weight, bias in layers[:-1]:
            value = torch.baddbmm(bias, value, weight.mT)
            if self.settings.layer_norm:
                value = F.layer_norm(value, value.shape[-1:])
            if self.settings.activation == "crelu":
                value = F.relu(torch.cat([value, -value], -1))
            else:
                value = F.leaky_relu(value, 0.1)
            if hidden is not None:
                hidden.append(value)
        weight, bias = layers[-1]
        return torch.baddbmm(bias, value, weight.mT)


class StackedPPO:
    """R PPO learners with N particles each.

    :param inputs: numbers in an observation
    :param n_actions: size of the discrete action space
    :param seeds: one for each learner
    :param optimizer: ``optimizer([parameters [N, 2 P]]) -> Optimizer``, called once for each learner; it has to act on
        every element by itself, or to know the axis of particles.
    :param settings: settings of all learners
    :ivar parameters: [R, N, 2, P]
    :ivar weights: weights of the particles, [R, N]
    """

    def __init__(
        self, inputs: int, n_actions: int, seeds: Sequence[int], optimizer: Factory, settings: StackedSettings
    ) -> None:
        if settings.n_particles < 1:
            raise ConfigError(f"n_particles must be at least 1, got {settings.n_particles}")
        self.settings, self.n_actions = settings, n_actions
        self.networks = StackedNetworks(inputs, max(n_actions, 1), settings)
        self.parameters = torch.stack([self._draw(seed) for seed in seeds])
        self.initial = self.parameters.clone()
        n, size = settings.n_particles, self.networks.size
        self.rows = [self.parameters[r].view(n, 2 * size).requires_grad_() for r in range(len(seeds))]
        """For each learner a leaf [N, 2 P] that shares the memory of ``parameters``."""
        self.optimizers = [optimizer([row]) for row in self.rows]
        self.weights = PolicyWeights((len(seeds), n), settings.beta, settings.ess_floor, settings.forgetting)
        self.generators = [torch.Generator().manual_seed(particle_seed(seed, 0, 2)) for seed in seeds]

    def _draw(self, seed: int) -> Tensor:
        settings = self.settings
        numbers = range(settings.n_particles)
        if settings.init == "independent":
            return torch.stack(
                [torch.stack([self.networks.draw(particle_seed(seed, i, part)) for part in (0, 1)]) for i in numbers]
            )
        centre = torch.stack([self.networks.draw(particle_seed(seed, 0, part)) for part in (0, 1)])
        rows = centre.repeat(settings.n_particles, 1, 1)
        low, high = settings.noise_scale
        for i in numbers:
            generator = torch.Generator().manual_seed(particle_seed(seed, i, 3))
            scale = low + (high - low) * torch.rand((), generator=generator)
            rows[i] += scale * torch.randn(rows[i].shape, generator=generator)
        return rows

    def forward(self, parameters: Tensor, inputs: Tensor, hidden: list[Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Return log-probabilities [R, N, B, A] and values [R, N, B] for inputs [R, B, inputs]."""
        learners, n = parameters.shape[:2]
        batch = inputs.shape[1]
        shared = inputs[:, None, None].expand(learners, n, 2, batch, -1).reshape(2 * learners * n, batch, -1)
        out = self.networks(parameters.view(2 * learners * n, -1), shared, hidden).view(learners, n, 2, batch, -1)
        return out[:, :, ACTORS, :, : self.n_actions].log_softmax(-1), out[:, :, CRITICS, :, 0]

    def actors(self, episodes: int, steps: int) -> StackedActors:
        """Return the acting policies for ``episodes`` episodes of each learner, of up to ``steps`` steps."""
        return StackedActors(self, episodes, steps)

    @torch.no_grad()
    def values(self, observations: Tensor) -> Tensor:
        """Return the weighted mean of the particles' values, [R, B]."""
        _, values = self.forward(self.parameters, observations)
        return (self.weights.log_weights.exp().float()[..., None] * values).sum(1)

    def minibatches(self, lengths: npt.NDArray[np.int64]) -> list[tuple[Tensor, Tensor, npt.NDArray[np.bool_]]]:
        """Shuffle each learner's steps and cut them: (indices [R, B], shares [R, B], bool[R] who has one)."""
        size = self.settings.batch_size
        counts = -(-lengths // size)
        learners, most = len(lengths), int(counts.max())
        index = torch.zeros(learners, most * size, dtype=torch.int64)
        share = torch.zeros(learners, most * size)
        for r, (length, count) in enumerate(zip(lengths.tolist(), counts.tolist(), strict=True)):
            index[r, :length] = torch.randperm(length, generator=self.generators[r])
            share[r, :length] = 1 / size
            if length % size:
                share[r, (count - 1) * size : length] = 1 / (length % size)
        return [
            (index[:, k * size : (k + 1) * size], share[:, k * size : (k + 1) * size], counts > k) for k in range(most)
        ]

    def loss(self, parameters: Tensor, batch: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the loss of each particle and its policy term, [R, N]."""
        observations, actions, old_log_prob, advantages, returns, share = batch
        log_probs, values = self.forward(parameters, observations)
        entropy = -(log_probs.exp() * log_probs).sum(-1)
        taken = actions[:, None, :, None].expand(*log_probs.shape[:3], 1)
        log_prob = log_probs.gather(-1, taken)[..., 0]
        settings = self.settings
        total, policy, _, _ = ppo_loss(
            log_prob,
            old_log_prob[:, None],
            entropy,
            values,
            advantages[:, None],
            returns[:, None],
            settings.clip_range,
            settings.ent_coef,
            settings.vf_coef,
            share[:, None],
        )
        return total, policy

    def learn(
        self,
        rollout: Rollout,
        adjust: Callable[[Tensor], None] | None = None,
        extra: Callable[[Tensor], Tensor | None] | None = None,
    ) -> None:
        """Make the epochs of one iteration.

        :param rollout: the steps of all learners
        :param adjust: may change the gradients [R, N, 2, P] before each move
        :param extra: ``extra(parameters) -> [R, N]`` or None, added to the losses
        """
        weigh = self.settings.n_particles > 1 and self.settings.beta > 0
        for _ in range(self.settings.epochs):
            for index, share, active in self.minibatches(rollout.lengths):
                batch = self._batch(rollout, index, share)
                leaf = self.parameters.detach().requires_grad_()
                total, policy = self.loss(leaf, batch)
                added = extra(leaf) if extra is not None else None
                aim = total if added is None else total + added
                (gradient,) = torch.autograd.grad(aim.sum(), leaf)
                if adjust is not None:
                    adjust(gradient)
                for r in np.flatnonzero(active):
                    self.rows[r].grad = gradient[r].reshape(self.rows[r].shape)
                    self.optimizers[r].step()
                if weigh:
                    evidence = total if self.settings.evidence == "loss" else policy
                    self.weights.update(evidence.detach(), torch.from_numpy(active))

    @staticmethod
    def _batch(rollout: Rollout, index: Tensor, share: Tensor) -> list[Tensor]:
        def take(values: Tensor) -> Tensor:
            return values.gather(1, index)

        wide = index[..., None].expand(-1, -1, rollout.observations.shape[-1])
        advantages = take(rollout.advantages)
        # Normalised over the minibatch, with the sample's standard deviation, as Stable-Baselines3 does.
        count = (share > 0).sum(1, keepdim=True)
        mean = (advantages * share).sum(1, keepdim=True)
        variance = ((advantages - mean) ** 2 * share).sum(1, keepdim=True) * count / (count - 1).clamp_min(1)
        normal = torch.where(count > 1, (advantages - mean) / (variance.sqrt() + 1e-8), advantages)
        observations = rollout.observations.gather(1, wide)
        return [observations, take(rollout.actions), take(rollout.log_prob), normal, take(rollout.returns), share]


class StackedActors:
    """What acts while an iteration is collected: the actors and weights of that time, with the randomness drawn ahead.

    :param learner: the learners
    :param episodes: E, of each learner
    :param steps: longest episode
    """

    def __init__(self, learner: StackedPPO, episodes: int, steps: int) -> None:
        self.learner = learner
        self.actors = learner.parameters.detach()[:, :, ACTORS].reshape(-1, learner.networks.size)
        self.log_weights = learner.weights.log_weights.float()
        self.draws = torch.stack([torch.rand(steps, episodes, generator=g) for g in learner.generators], 1)
        self.chosen: Tensor | None = None
        """int64[R, E], for the policies in which one particle acts through an episode."""
        if learner.settings.acting == "map":
            self.chosen = self.log_weights.argmax(-1)[:, None].expand(-1, episodes)
        elif learner.settings.acting == "thompson":
            self.chosen = torch.stack(
                [
                    torch.multinomial(weight.exp(), episodes, replacement=True, generator=g)
                    for weight, g in zip(self.log_weights, learner.generators, strict=True)
                ]
            )

    @torch.no_grad()
    def __call__(self, observations: Tensor, step: int, greedy: bool = False) -> tuple[Tensor, Tensor]:
        """Return actions int64[R, E] and their log-probabilities under what acts, for observations [R, E, inputs]."""
        learners, n = self.log_weights.shape
        shared = observations
        if n > 1:
            shared = observations[:, None].expand(learners, n, *observations.shape[1:]).flatten(0, 1)
        logits = self.learner.networks(self.actors, shared)[..., : self.learner.n_actions]
        log_probs = logits.log_softmax(-1).view(learners, n, *logits.shape[1:])
        if self.chosen is not None:
            where = self.chosen[:, None, :, None].expand(-1, 1, -1, log_probs.shape[-1])
            acting = log_probs.gather(1, where)[:, 0]
        else:
            acting = mixture_log_prob(self.log_weights, log_probs) if n > 1 else log_probs[:, 0]
        if greedy:
            actions = acting.argmax(-1)
        else:
            below = acting.exp().cumsum(-1) < self.draws[step][..., None]
            actions = below.sum(-1).clamp_max(self.learner.n_actions - 1)
        return actions, acting.gather(-1, actions[..., None])[..., 0]


def advantages_and_returns(
    rewards: Tensor, values: Tensor, last_values: Tensor, lengths: Tensor, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Return generalised advantages and returns [..., T] of episodes with ``lengths`` [...] steps.

    :param rewards: [..., T]
    :param values: [..., T], of the observations before each step
    :param last_values: [...], of what follows the last step: 0 where the episode terminated
    :param lengths: int64[...]
    :param gamma: discount
    :param gae_lambda: lambda of the generalised advantage estimation (Schulman et al. 2016)
    """
    steps = rewards.shape[-1]
    place = torch.arange(steps)
    following = torch.cat([values[..., 1:], torch.zeros_like(values[..., :1])], -1)
    following = torch.where(place == lengths[..., None] - 1, last_values[..., None], following)
    inside = place < lengths[..., None]
    delta = torch.where(inside, rewards + gamma * following - values, torch.zeros_like(values))
    advantages = torch.zeros_like(values)
    held = torch.zeros_like(values[..., 0])
    for t in reversed(range(steps)):
        held = delta[..., t] + gamma * gae_lambda * held
        advantages[..., t] = held
    return advantages, advantages + values
