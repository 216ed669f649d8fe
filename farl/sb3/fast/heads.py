"""What the last layer means: sampling, log-probabilities and entropies without ``Distribution`` objects.

Each head draws from torch's random stream as SB3's distribution does, so that both take the same actions.
"""

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
import torch.nn.functional as F
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
)
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor

from farl.sb3.observations import Array

_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


class Head(ABC):
    """A distribution of actions over the outputs of ``action_net``."""

    def prepare(self, outputs: Tensor) -> Tensor:
        """Return what ``draw`` needs of B outputs, float32[B, P]; it is the same whenever it is drawn from."""
        return outputs

    @abstractmethod
    def draw(self, prepared: Tensor) -> tuple[Tensor, Tensor]:
        """Draw an action for each of B; return actions, [B, ...], and log-probabilities, float32[B]."""

    def draw_array(self, prepared: Array) -> tuple[Array, Array]:
        """Do the same with arrays, in the time that few environments need."""
        actions, log_prob = self.draw(torch.from_numpy(prepared))
        return actions.numpy(), log_prob.numpy()

    @abstractmethod
    def evaluate(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probability and entropy, float32[B] each, of B actions as the rollout stores them, [B, A]."""

    def rows(self, outputs: Tensor, where: Tensor | None, actions: Tensor) -> "Rows":
        """Evaluate B actions of which sample b has the outputs of row ``where[b]``; None is one row a sample."""
        return Rows(self, outputs, where, actions)


class Rows:
    """Log-probabilities and entropies of samples, some of which share a row of outputs, and the way back."""

    def __init__(self, head: Head, outputs: Tensor, where: Tensor | None, actions: Tensor) -> None:
        self._n_rows, self._where = len(outputs), where
        self._outputs = (outputs if where is None else outputs.index_select(0, where)).detach().requires_grad_()
        with torch.enable_grad():
            self._said = head.evaluate(self._outputs, actions)
        self.log_prob, self.entropy = (part.detach() for part in self._said)

    def gradient(self, log_prob_gradient: Tensor, entropy_gradient: float) -> Tensor:
        """Return the gradient by the outputs, float32[rows, P]; that by the head's own parameters is accumulated.

        :param log_prob_gradient: float32[B]
        :param entropy_gradient: gradient of each sample's entropy
        """
        entropy_gradients = torch.full_like(self.entropy, entropy_gradient)
        torch.autograd.backward(self._said, [log_prob_gradient, entropy_gradients])
        gradient = self._outputs.grad
        assert gradient is not None
        if self._where is None:
            return gradient
        return gradient.new_zeros(self._n_rows, gradient.shape[1]).index_add_(0, self._where, gradient)


class Categorical(Head):
    """One of A actions."""

    def prepare(self, outputs: Tensor) -> Tensor:
        """Return log-probabilities."""
        return F.log_softmax(outputs, 1)

    def draw(self, prepared: Tensor) -> tuple[Tensor, Tensor]:
        """Draw by log-probabilities."""
        actions = _draw(prepared)
        return actions.squeeze(1), prepared.gather(1, actions).squeeze(1)

    def draw_array(self, prepared: Array) -> tuple[Array, Array]:
        """Draw by log-probabilities."""
        from farl.sb3.fast import compiled  # numba takes a second to import

        noise = torch.empty(prepared.shape).exponential_().numpy()
        drawn, chosen = np.empty(len(prepared), np.int64), np.empty(len(prepared), np.float32)
        compiled.draw(prepared, noise, drawn, chosen)
        return drawn, chosen

    def evaluate(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate actions, [B, 1]."""
        log_probs = F.log_softmax(outputs, 1)
        return log_probs.gather(1, actions.long()).squeeze(1), _entropy(log_probs)

    def rows(self, outputs: Tensor, where: Tensor | None, actions: Tensor) -> Rows:
        """Evaluate without autograd."""
        kind = _CompiledCategoricalRows if outputs.device.type == "cpu" else _CategoricalRows
        return kind(outputs, where, actions)


class _CategoricalRows(Rows):
    """The same by hand: one softmax a row of outputs, however many samples share it."""

    def __init__(self, outputs: Tensor, where: Tensor | None, actions: Tensor) -> None:
        self._where = where
        self._log_probs = F.log_softmax(outputs, 1)
        self._probs = self._log_probs.exp()
        self._entropies = -torch.einsum("ra,ra->r", self._probs, self._log_probs)
        n_actions = outputs.shape[1]
        rows = torch.arange(len(outputs), device=outputs.device) if where is None else where
        self._at = torch.add(actions.long().squeeze(1), rows, alpha=n_actions)
        self.log_prob = self._log_probs.view(-1).index_select(0, self._at)
        self.entropy = self._entropies if where is None else self._entropies.index_select(0, where)

    def gradient(self, log_prob_gradient: Tensor, entropy_gradient: float) -> Tensor:
        probs, where = self._probs, self._where
        gradient = torch.zeros_like(probs)
        gradient.view(-1).index_add_(0, self._at, log_prob_gradient)
        if where is None:
            sums, counts = log_prob_gradient, torch.tensor(1.0, device=probs.device)
        else:
            sums = probs.new_zeros(len(probs)).index_add_(0, where, log_prob_gradient)
            counts = torch.bincount(where, minlength=len(probs))
        gradient.addcmul_(probs, sums.unsqueeze(1), value=-1)
        if entropy_gradient != 0.0:
            slope = (self._log_probs + self._entropies.unsqueeze(1)).mul_(probs)
            gradient.addcmul_(slope, counts.unsqueeze(-1).to(slope.dtype), value=-entropy_gradient)
        return gradient


class _CompiledCategoricalRows(Rows):
    """The same in two compiled loops."""

    def __init__(self, outputs: Tensor, where: Tensor | None, actions: Tensor) -> None:
        from farl.sb3.fast import compiled

        array = outputs.detach().contiguous().numpy()
        self._rows = np.arange(len(array)) if where is None else where.numpy()
        self._actions = actions.detach().numpy().reshape(-1).astype(np.int64)
        self._log_probs, self._entropies = np.empty_like(array), np.empty(len(array), np.float32)
        chosen = np.empty(len(self._rows), np.float32)
        compiled.categorical(array, self._rows, self._actions, self._log_probs, self._entropies, chosen)
        self.log_prob, self.entropy = torch.from_numpy(chosen), torch.from_numpy(self._entropies[self._rows])

    def gradient(self, log_prob_gradient: Tensor, entropy_gradient: float) -> Tensor:
        from farl.sb3.fast import compiled

        gradient = np.zeros_like(self._log_probs)
        told = self._log_probs, self._entropies, self._rows, self._actions
        compiled.categorical_gradient(*told, log_prob_gradient.numpy(), float(entropy_gradient), gradient)
        return torch.from_numpy(gradient)


class MultiCategorical(Head):
    """Several choices at once.

    :param sizes: number of actions of each
    """

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes

    def draw(self, prepared: Tensor) -> tuple[Tensor, Tensor]:
        """Draw one action after the other."""
        log_probs = [F.log_softmax(part, 1) for part in torch.split(prepared, self.sizes, 1)]
        actions = torch.cat([_draw(part) for part in log_probs], 1)
        return actions, self._log_prob(log_probs, actions)

    def evaluate(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate actions, [B, number of choices]."""
        log_probs = [F.log_softmax(part, 1) for part in torch.split(outputs, self.sizes, 1)]
        entropies = torch.stack([_entropy(part) for part in log_probs])
        return self._log_prob(log_probs, actions.long()), entropies.sum(0)

    def _log_prob(self, log_probs: list[Tensor], actions: Tensor) -> Tensor:
        chosen = [part.gather(1, actions[:, index : index + 1]) for index, part in enumerate(log_probs)]
        return torch.cat(chosen, 1).sum(1)


class Bernoulli(Head):
    """Several switches at once."""

    def draw(self, prepared: Tensor) -> tuple[Tensor, Tensor]:
        """Draw by the logistic function of the outputs."""
        actions = torch.bernoulli(prepared.sigmoid())
        return actions, -F.binary_cross_entropy_with_logits(prepared, actions, reduction="none").sum(1)

    def evaluate(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate actions, [B, number of switches]."""
        log_prob = -F.binary_cross_entropy_with_logits(outputs, actions.to(outputs.dtype), reduction="none")
        entropy = F.binary_cross_entropy_with_logits(outputs, outputs.sigmoid(), reduction="none")
        return log_prob.sum(1), entropy.sum(1)


class Gaussian(Head):
    """Continuous actions around the outputs.

    :param log_std: float32[A], a parameter
    """

    def __init__(self, log_std: Tensor) -> None:
        self.log_std = log_std

    def draw(self, prepared: Tensor) -> tuple[Tensor, Tensor]:
        """Add noise to the means."""
        actions = torch.normal(prepared, self.log_std.exp().expand_as(prepared))
        return actions, self._log_prob(prepared, actions)

    def draw_array(self, prepared: Array) -> tuple[Array, Array]:
        """Add noise to the means."""
        from farl.sb3.fast import compiled

        noise = torch.empty(prepared.shape).normal_().numpy()
        log_probs = np.empty(len(prepared), np.float32)
        compiled.draw_gaussian(prepared, self.log_std.detach().numpy(), noise, log_probs)
        return noise, log_probs

    def evaluate(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate actions, [B, A]."""
        entropy = (self.log_std + (0.5 + _HALF_LOG_TWO_PI)).sum()
        return self._log_prob(outputs, actions.to(outputs.dtype)), entropy.expand(len(outputs))

    def rows(self, outputs: Tensor, where: Tensor | None, actions: Tensor) -> Rows:
        """Evaluate without autograd."""
        return _GaussianRows(self.log_std, outputs, where, actions.to(outputs.dtype))

    def _log_prob(self, outputs: Tensor, actions: Tensor) -> Tensor:
        scaled = (actions - outputs) * (-self.log_std).exp()
        return (-0.5 * scaled.square() - self.log_std - _HALF_LOG_TWO_PI).sum(1)


class _GaussianRows(Rows):
    """The same by hand."""

    @torch.no_grad()
    def __init__(self, log_std: Tensor, outputs: Tensor, where: Tensor | None, actions: Tensor) -> None:
        self._log_std, self._n_rows, self._where = log_std, len(outputs), where
        self._inverse = (-log_std).exp()
        means = outputs if where is None else outputs.index_select(0, where)
        self._scaled = (actions - means).mul_(self._inverse)
        self._squares = self._scaled.square()
        sizes = log_std.sum()
        self.log_prob = self._squares.sum(1).mul_(-0.5).sub_(sizes + len(log_std) * _HALF_LOG_TWO_PI)
        self.entropy = (sizes + len(log_std) * (0.5 + _HALF_LOG_TWO_PI)).expand(len(actions))

    @torch.no_grad()
    def gradient(self, log_prob_gradient: Tensor, entropy_gradient: float) -> Tensor:
        by_log_std = torch.mv(self._squares.t(), log_prob_gradient)
        by_log_std += len(log_prob_gradient) * entropy_gradient - log_prob_gradient.sum()
        _accumulate(self._log_std, by_log_std)
        gradient = self._scaled.mul_(self._inverse).mul_(log_prob_gradient.unsqueeze(1))
        if self._where is None:
            return gradient
        return gradient.new_zeros(self._n_rows, gradient.shape[1]).index_add_(0, self._where, gradient)


def head_of(policy: ActorCriticPolicy) -> Head | None:
    """Return the head that does what a policy's ``action_dist`` does; None if there is none (gSDE)."""
    distribution = policy.action_dist
    if type(distribution) is CategoricalDistribution:
        return Categorical()
    if type(distribution) is MultiCategoricalDistribution:
        return MultiCategorical([int(size) for size in distribution.action_dims])
    if type(distribution) is BernoulliDistribution:
        return Bernoulli()
    if type(distribution) is DiagGaussianDistribution:
        return Gaussian(policy.log_std)
    return None


def _accumulate(parameter: Tensor, gradient: Tensor) -> None:
    if parameter.grad is None:
        parameter.grad = gradient
    else:
        parameter.grad += gradient


def _draw(log_probs: Tensor) -> Tensor:
    """What ``torch.multinomial`` does for one sample, without its checks: int64[B, 1]."""
    return (log_probs.exp() / torch.empty_like(log_probs).exponential_()).argmax(1, keepdim=True)


def _entropy(log_probs: Tensor) -> Tensor:
    return -(log_probs.exp() * log_probs).sum(1)
