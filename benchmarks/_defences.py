"""What keeps stacked PPO learners plastic, or from forgetting: terms of the gradient, resets, replay."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks._stacked_ppo import Rollout, StackedPPO


class Defence:
    """None: plain PPO. Base of the others."""

    learner: StackedPPO

    def attach(self, learner: StackedPPO) -> None:
        """Get to know the learners; called once before training."""
        self.learner = learner

    def adjust(self, gradient: Tensor) -> None:
        """Change the gradients [R, N, 2, P] before a move."""

    def extra(self, parameters: Tensor) -> Tensor | None:
        """Return what is added to the losses, [R, N], or None."""
        return None

    def after_iteration(self, rollout: Rollout) -> None:
        """Take note of an iteration that has been learnt."""

    def end_level(self, rollout: Rollout) -> None:
        """Take note of the end of a level, given its last iteration."""


class L2Init(Defence):
    """A pull to where the parameters began: strength/2 |theta - theta_0|^2 (Kumar et al. 2023)."""

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def adjust(self, gradient: Tensor) -> None:
        """Add the pull."""
        gradient.add_(self.learner.parameters.detach() - self.learner.initial, alpha=self.strength)


class PolicyEWC(Defence):
    """Elastic weight consolidation (Kirkpatrick et al. 2017) with the Fisher information of the actors.

    From ``samples`` single steps of each level's last iteration; critics are free.
    """

    def __init__(self, strength: float, samples: int = 64) -> None:
        self.strength, self.samples = strength, samples

    def attach(self, learner: StackedPPO) -> None:
        """Start without any penalty."""
        super().attach(learner)
        self.importance = torch.zeros_like(learner.parameters)
        self.anchored = torch.zeros_like(learner.parameters)

    def adjust(self, gradient: Tensor) -> None:
        """Add the penalty's gradient."""
        held = self.learner.parameters.detach()
        gradient.add_(self.importance * held - self.anchored, alpha=self.strength)

    def end_level(self, rollout: Rollout) -> None:
        """Add the level's Fisher information, anchored where the networks are now."""
        used = min(self.samples, int(rollout.lengths.min()))
        held = self.learner.parameters.detach()
        for i in range(used):
            leaf = held.clone().requires_grad_()
            log_probs, _ = self.learner.forward(leaf, rollout.observations[:, i : i + 1])
            actions = rollout.actions[:, None, i : i + 1, None].expand(*log_probs.shape[:3], 1)
            (gradient,) = torch.autograd.grad(log_probs.gather(-1, actions).sum(), leaf)
            self.importance += gradient**2 / used
            self.anchored += gradient**2 * held / used


class ReDo(Defence):
    """Dormant units begin anew (Sokar et al. 2023): fresh incoming weights, outgoing ones zero, moments cleared.

    A unit is dormant when its mean |activation| is at most ``threshold`` times its layer's.
    """

    def __init__(self, threshold: float, every: int = 10, seed: int = 0) -> None:
        self.threshold, self.every = threshold, every
        self._count = 0
        self._generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def after_iteration(self, rollout: Rollout) -> None:
        """Look for dormant units every few iterations."""
        self._count += 1
        if self._count % self.every:
            return
        learner = self.learner
        layers = learner.networks.split(learner.parameters.detach().view(-1, learner.networks.size))
        for k, dormant in enumerate(dormant_units(learner, rollout, self.threshold)):
            weight, bias = layers[k]
            bound = weight.shape[2] ** -0.5
            fresh = torch.empty_like(weight).uniform_(-bound, bound, generator=self._generator)
            weight[dormant] = fresh[dormant]
            bias[:, 0][dormant] = 0.0
            outgoing = layers[k + 1][0].transpose(1, 2)
            for part in range(outgoing.shape[1] // dormant.shape[1]):  # crelu shows each unit twice
                outgoing[:, part * dormant.shape[1] : (part + 1) * dormant.shape[1]][dormant] = 0.0
            self._clear_moments(k, dormant)

    def _clear_moments(self, k: int, dormant: Tensor) -> None:
        learner = self.learner
        per_learner = dormant.view(len(learner.rows), -1, dormant.shape[1])
        for r, row in enumerate(learner.rows):
            for value in learner.optimizers[r].state[row].values():
                if isinstance(value, Tensor) and value.shape == row.shape:
                    layers = learner.networks.split(value.view(-1, learner.networks.size))
                    layers[k][0][per_learner[r]] = 0.0
                    layers[k][1][:, 0][per_learner[r]] = 0.0
                    layers[k + 1][0].transpose(1, 2)[:, : dormant.shape[1]][per_learner[r]] = 0.0


class Replay(Defence):
    """Behavioural cloning of earlier selves on a sample of all steps so far (CLEAR, Rolnick et al. 2019).

    Adds strength (KL(old policy || policy) + (old value - value)^2 / 2) on as many stored steps as a batch has.
    """

    def __init__(self, strength: float, capacity: int = 2_000, seed: int = 0) -> None:
        self.strength, self.capacity = strength, capacity
        self._generator = torch.Generator().manual_seed(seed)
        self._stored: list[Tensor] = []
        self._seen = 0

    @torch.no_grad()
    def after_iteration(self, rollout: Rollout) -> None:
        """Keep a reservoir: every step so far is in it with the same chance."""
        batch = self.learner.settings.batch_size
        length = int(rollout.lengths.min())
        chosen = torch.randperm(length, generator=self._generator)[:batch]
        observations = rollout.observations[:, chosen]
        log_probs, values = self.learner.forward(self.learner.parameters.detach(), observations)
        fresh = [observations, log_probs, values]
        if not self._stored:
            self._stored = [
                torch.zeros(v.shape[0], *v.shape[1:-2], self.capacity, v.shape[-1])
                if v is not values
                else torch.zeros(*v.shape[:2], self.capacity)
                for v in fresh
            ]
        for i in range(len(chosen)):
            self._seen += 1
            place = self._seen - 1
            if place >= self.capacity:
                place = int(torch.randint(self._seen, (1,), generator=self._generator))
            if place < self.capacity:
                self._stored[0][:, place] = observations[:, i]
                self._stored[1][:, :, place] = log_probs[:, :, i]
                self._stored[2][:, :, place] = values[:, :, i]

    def extra(self, parameters: Tensor) -> Tensor | None:
        """Return the distance to the earlier selves."""
        held = min(self._seen, self.capacity)
        if not held:
            return None
        index = torch.randint(held, (self.learner.settings.batch_size,), generator=self._generator)
        old_log_probs, old_values = self._stored[1][:, :, index], self._stored[2][:, :, index]
        log_probs, values = self.learner.forward(parameters, self._stored[0][:, index])
        distance = (old_log_probs.exp() * (old_log_probs - log_probs)).sum(-1).mean(-1)
        error = F.mse_loss(values, old_values, reduction="none").mean(-1)
        return self.strength * (distance + error / 2)


def dormant_units(learner: StackedPPO, rollout: Rollout, threshold: float = 0.025) -> list[Tensor]:
    """Return which units of each hidden layer are dormant, bool[networks, units], on the steps of a rollout."""
    hidden: list[Tensor] = []
    steps = min(int(rollout.lengths.min()), 256)
    with torch.no_grad():
        learner.forward(learner.parameters.detach(), rollout.observations[:, :steps], hidden)
    found = []
    for value, width in zip(hidden, learner.settings.hidden, strict=True):
        activity = value.abs().mean(1)
        activity = activity.view(len(activity), -1, width).sum(1)  # the two halves of crelu
        found.append(activity <= threshold * activity.mean(1, keepdim=True))
    return found
