"""Policies as particles: the loss of each, their weights, and the policy that they make together."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from farl.errors import ConfigError
from farl.particles.weights import effective_sample_size, normalise, temperature_for

Evidence = Literal["loss", "policy"]


def ppo_loss(
    log_prob: Tensor,
    old_log_prob: Tensor,
    entropy: Tensor,
    values: Tensor,
    advantages: Tensor,
    returns: Tensor,
    clip_range: float,
    ent_coef: float,
    vf_coef: float,
    share: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return PPO's loss and its terms: (loss, policy, value, entropy), each a mean over the last axis, [...].

    The clipped surrogate of Schulman et al. 2017 as Stable-Baselines3 computes it; every argument is [..., batch], or
    broadcasts to that. It is no negative log-likelihood: as evidence for weights it says which particle would have
    made more of the advantages, not which explains them better.

    :param log_prob: log-probabilities of the actions, under the particle
    :param old_log_prob: log-probabilities of the actions, under the policy that acted: the mixture
    :param entropy: entropies of the particle's action distributions
    :param values: the particle's
    :param advantages: normalised, if they are to be
    :param returns: targets of the values
    :param clip_range: how far the ratio may be from 1
    :param ent_coef: factor of the entropy term
    :param vf_coef: factor of the value term
    :param share: what each sample counts, summing to one, for batches that are padded; None is an even share
    """

    def mean(value: Tensor) -> Tensor:
        return value.mean(-1) if share is None else (value * share).sum(-1)

    ratio = torch.exp(log_prob - old_log_prob)
    clipped = torch.clamp(ratio, 1 - clip_range, 1 + clip_range)
    policy = -mean(torch.min(advantages * ratio, advantages * clipped))
    value = mean((returns - values) ** 2)
    bonus = -mean(entropy)
    return policy + ent_coef * bonus + vf_coef * value, policy, value, bonus


def mixture_log_prob(log_weights: Tensor, log_prob: Tensor) -> Tensor:
    """Return log sum_i w_i p_i, [..., *batch], for weights [..., N] and log-probabilities [..., N, *batch]."""
    extra = log_prob.dim() - log_weights.dim()
    return (normalise(log_weights).reshape(*log_weights.shape, *(1,) * extra) + log_prob).logsumexp(
        log_weights.dim() - 1
    )


class PolicyWeights:
    """The log-weights [..., N] of particles that are policies, and how evidence moves them.

        log w_i <- forgetting (log w_i) - beta loss_i, then normalised

    In use they are flattened until the effective sample size reaches ``ess_floor`` N; the weights themselves keep all
    evidence, so that the temperature can rise again.

    :param shape: (..., N)
    :param beta: what a minibatch counts; 0 is plain averaging
    :param ess_floor: least effective sample size, as a share of the particles; 0 sets none
    :param forgetting: what remains of old evidence at each update, in [0, 1]: tasks change, and a likelihood that is
        never forgotten would let one task decide for ever.
    :raises ConfigError: for an argument out of range
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        beta: float = 1.0,
        ess_floor: float = 0.5,
        forgetting: float = 1.0,
        device: torch.device | str = "cpu",
    ) -> None:
        if not beta >= 0:
            raise ConfigError(f"beta must be at least 0, got {beta}")
        if not 0 <= ess_floor <= 1:
            raise ConfigError(f"ess_floor is a share of the particles in [0, 1], got {ess_floor}")
        if not 0 <= forgetting <= 1:
            raise ConfigError(f"forgetting is a factor in [0, 1], got {forgetting}")
        self.beta, self.ess_floor, self.forgetting = beta, ess_floor, forgetting
        self.evidence = normalise(torch.zeros(shape, dtype=torch.float64, device=device))
        self._in_use: tuple[Tensor, Tensor] | None = None
        """Temperature and log-weights, solved for when they are first asked for."""

    @property
    def temperature(self) -> Tensor:
        """What the evidence is multiplied by in use, float64[...]."""
        return self._used()[0]

    @property
    def log_weights(self) -> Tensor:
        """Normalised log-weights in use, after tempering, float64[..., N]."""
        return self._used()[1]

    def _used(self) -> tuple[Tensor, Tensor]:
        if self._in_use is None:
            temperature = temperature_for(self.evidence, self.ess_floor * self.evidence.shape[-1])
            self._in_use = temperature, normalise(temperature[..., None] * self.evidence)
        return self._in_use

    def update(self, losses: Tensor, rows: Tensor | None = None) -> None:
        """Take in the losses [..., N] of a minibatch, before the particles' move.

        Losses that are not finite count as the worst of the others. ``rows`` bool[...] names the filters that had a
        minibatch.
        """
        if self.beta == 0:
            return
        losses = losses.double()
        sound = torch.isfinite(losses)
        worst = torch.where(sound, losses, -torch.inf).amax(-1, keepdim=True).nan_to_num(0.0, 0.0, 0.0)
        moved = normalise(self.forgetting * self.evidence - self.beta * torch.where(sound, losses, worst))
        self.evidence = moved if rows is None else torch.where(rows[..., None], moved, self.evidence)
        self._in_use = None

    def effective_sample_size(self) -> Tensor:
        """Of the weights in use, [...]."""
        return effective_sample_size(self.log_weights)

    def entropy(self) -> Tensor:
        """Of the weights in use, in nats, [...]."""
        log_weights = self.log_weights
        return -(log_weights.exp() * log_weights).sum(-1)

    def set_evidence(self, evidence: Tensor) -> None:
        """Go on from saved evidence [..., N]."""
        self.evidence = evidence.to(self.evidence)
        self._in_use = None
