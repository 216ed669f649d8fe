"""PPO's update: the same minibatches and losses as SB3's, with their gradients by hand."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from stable_baselines3.common.utils import explained_variance, obs_as_tensor
from torch import Tensor

from farl.sb3.fast.flat_adam import ClippedSteps
from farl.sb3.fast.policies import Evaluated
from farl.sb3.observations import Array

Order = Callable[[int], Array]
Pick = Callable[[Tensor], tuple[Any, Any]]


class Evaluating(Protocol):
    """What says how likely actions are, and goes back from there."""

    def evaluate(self, observations: Any, actions: Tensor, where: Any) -> Evaluated:
        """Evaluate B actions."""

    def backward(self, log_prob: Tensor, values: Tensor, entropy: float) -> None:
        """Add the gradient of the parameters, given those of what ``evaluate`` returned."""


class Losses(NamedTuple):
    """Settings of the loss at the moment of an update."""

    clip_range: float
    clip_range_vf: float | None
    ent_coef: float
    vf_coef: float


class Minibatch(NamedTuple):
    """B samples, in the order of a shuffled epoch; float32[B] but for the actions, [B, A]."""

    actions: Tensor
    old_values: Tensor
    old_log_prob: Tensor
    advantages: Tensor
    returns: Tensor


def update(model: Any, policy: Evaluating, steps: ClippedSteps, order: Order, pick: Pick) -> None:
    """Do what ``PPO.train`` does, and log the same.

    :param order: returns the order of N samples for an epoch, numbered as SB3 does
    :param pick: returns the observations of some rows and what ``policy.evaluate`` needs to know of them
    """
    buffer = model.rollout_buffer
    model.policy.set_training_mode(True)
    model._update_learning_rate(model.policy.optimizer)
    progress: Any = model._current_progress_remaining
    clip_range: float = model.clip_range(progress)
    clip_range_vf = None if model.clip_range_vf is None else model.clip_range_vf(progress)
    losses = Losses(clip_range, clip_range_vf, model.ent_coef, model.vf_coef)
    stop_at = None if model.target_kl is None else 1.5 * model.target_kl

    n_steps, n_envs = buffer.buffer_size, buffer.n_envs
    size = n_steps * n_envs
    samples = Minibatch(
        torch.from_numpy(buffer.actions).flatten(0, 1).to(model.device),
        *(
            _vector(array, model.device)
            for array in (buffer.values, buffer.log_probs, buffer.advantages, buffer.returns)
        ),
    )
    report = Report(losses)
    stopped = False
    for epoch in range(model.n_epochs):
        report.begin_epoch()
        # SB3 numbers the samples environment by environment; they lie step by step.
        numbers = order(size)
        rows = torch.from_numpy(numbers % n_steps * n_envs + numbers // n_steps).to(model.device)
        shuffled = Minibatch(*(part.index_select(0, rows) for part in samples))
        for start in range(0, size, model.batch_size):
            batch = Minibatch(*(part[start : start + model.batch_size] for part in shuffled))
            picked, where = pick(rows[start : start + model.batch_size])
            if model.normalize_advantage and len(batch.returns) > 1:
                _normalise(batch.advantages)
            backward = _losses(policy, picked, where, batch, losses, report)
            if stop_at is not None and report.approx_kl() > stop_at:
                stopped = True
                if model.verbose >= 1:
                    model.logger.info(
                        f"Early stopping at step {epoch} due to reaching max kl: {report.approx_kl():.2f}"
                    )
                break
            steps.zero_gradient()
            backward()
            steps.step(model.max_grad_norm)
        model._n_updates += 1
        if stopped:
            break
    steps.end()
    _log(model, report)


def _normalise(advantages: Tensor) -> None:
    """Subtract the mean of float32[B] and divide by the standard deviation, in place."""
    if advantages.device.type == "cpu":
        from farl.sb3.fast import compiled  # numba takes a second to import

        compiled.normalise(advantages.numpy())
        return
    std, mean = torch.std_mean(advantages)
    advantages.sub_(mean).div_(std + 1e-8)


def _losses(
    policy: Evaluating, observations: Any, where: Any, batch: Minibatch, losses: Losses, report: "Report"
) -> Any:
    """Evaluate a minibatch and return what goes back from its loss."""
    count = len(batch.returns)
    said = policy.evaluate(observations, batch.actions, where)
    terms = terms_compiled if said.values.device.type == "cpu" else terms_of
    log_ratio, error, by_log_prob, by_values = terms(said.log_prob, said.values, batch, losses)
    report.add(log_ratio, batch.advantages, error, said.entropy if said.entropy is not None else -said.log_prob)

    def backward() -> None:
        if said.entropy is None:  # SB3 estimates it as -log_prob
            by_log_prob.add_(losses.ent_coef / count)
        policy.backward(by_log_prob, by_values, -losses.ent_coef / count)

    return backward


class Terms(NamedTuple):
    """What PPO's loss of B samples is made of, float32[B] each.

    :ivar log_ratio: logarithm of new probability over old
    :ivar error: errors of the values, as far as they may change
    :ivar by_log_prob: gradient of the loss, the entropy's part left out
    :ivar by_values: gradient of the loss
    """

    log_ratio: Tensor
    error: Tensor
    by_log_prob: Tensor
    by_values: Tensor


def terms_of(log_prob: Tensor, values: Tensor, batch: Minibatch, losses: Losses) -> Terms:
    """Compute the terms of the loss.

    The clipped surrogate has a slope where clipping has not made it smaller; a clipped value has one within its range.
    """
    count = len(log_prob)
    log_ratio = log_prob - batch.old_log_prob
    surrogate = log_ratio.exp()
    clipped = surrogate.clamp(1 - losses.clip_range, 1 + losses.clip_range).mul_(batch.advantages)
    surrogate.mul_(batch.advantages)
    by_log_prob = (surrogate <= clipped).mul(surrogate).mul_(-1.0 / count)
    if losses.clip_range_vf is None:
        error = values - batch.returns
        return Terms(log_ratio, error, by_log_prob, error * (2.0 * losses.vf_coef / count))
    change = values - batch.old_values
    within = change.abs() <= losses.clip_range_vf
    error = batch.old_values + change.clamp_(-losses.clip_range_vf, losses.clip_range_vf) - batch.returns
    return Terms(log_ratio, error, by_log_prob, (error * (2.0 * losses.vf_coef / count)).mul_(within))


def terms_compiled(log_prob: Tensor, values: Tensor, batch: Minibatch, losses: Losses) -> Terms:
    """Do the same on a CPU, in one loop."""
    from farl.sb3.fast import compiled

    terms = Terms(*torch.empty((4, len(log_prob))).unbind())
    clip_range_vf = np.inf if losses.clip_range_vf is None else float(losses.clip_range_vf)
    tensors = (log_prob, batch.old_log_prob, batch.advantages, values, batch.old_values, batch.returns)
    given = [part.numpy() for part in tensors]
    settings = [float(losses.clip_range), clip_range_vf, float(losses.vf_coef)]
    compiled.losses(*given, *settings, *(part.numpy() for part in terms))  # type: ignore[arg-type]
    return terms


class Report:
    """What an update logs, computed once at its end."""

    def __init__(self, losses: Losses) -> None:
        self._losses = losses
        self._all: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        self._epoch_began = 0

    def begin_epoch(self) -> None:
        """Note that what comes is of the next epoch: of these, SB3 logs the divergence of the last alone."""
        self._epoch_began = len(self._all)

    def add(self, log_ratio: Tensor, advantages: Tensor, error: Tensor, entropy: Tensor) -> None:
        """Keep what a minibatch gave, float32[B] each."""
        self._all.append((log_ratio, advantages, error, entropy.detach()))

    def approx_kl(self) -> float:
        """The divergence of the latest minibatch."""
        log_ratio = self._all[-1][0]
        return float((log_ratio.exp() - 1 - log_ratio).mean())

    def summary(self) -> dict[str, float]:
        """Means over minibatches, under the names that SB3 gives them."""
        clip_range = self._losses.clip_range
        sizes = [len(part[0]) for part in self._all]
        log_ratio, advantages, error, entropy = (torch.cat(parts) for parts in zip(*self._all, strict=True))
        ratio = log_ratio.exp()
        surrogate = torch.min(advantages * ratio, advantages * ratio.clamp(1 - clip_range, 1 + clip_range))
        clipped = ((ratio - 1).abs() > clip_range).float()
        columns = torch.stack((-entropy, -surrogate, error.square(), ratio - 1 - log_ratio, clipped))
        means = torch.stack([part.mean(1) for part in torch.split(columns, sizes, 1)]).double().cpu()
        entropy_loss, policy_loss, value_loss, _, clip_fraction = means.mean(0).tolist()
        last = means[-1]
        return {
            "entropy_loss": entropy_loss,
            "policy_gradient_loss": policy_loss,
            "value_loss": value_loss,
            "approx_kl": float(means[self._epoch_began :, 3].mean()),
            "clip_fraction": clip_fraction,
            "loss": float(last[1] + self._losses.ent_coef * last[0] + self._losses.vf_coef * last[2]),
        }


def _log(model: Any, report: Report) -> None:
    buffer, losses = model.rollout_buffer, report._losses
    for name, value in report.summary().items():
        model.logger.record(f"train/{name}", value)
    model.logger.record(
        "train/explained_variance", explained_variance(buffer.values.flatten(), buffer.returns.flatten())
    )
    if hasattr(model.policy, "log_std"):
        model.logger.record("train/std", float(model.policy.log_std.detach().exp().mean()))
    model.logger.record("train/n_updates", model._n_updates, exclude="tensorboard")
    model.logger.record("train/clip_range", losses.clip_range)
    if losses.clip_range_vf is not None:
        model.logger.record("train/clip_range_vf", losses.clip_range_vf)


def shuffled(size: int) -> Array:
    """PPO's order, from SB3's own random stream."""
    return np.random.permutation(size)  # noqa: NPY002


def rolled(size: int) -> Array:
    """RecurrentPPO's order: as it came, from a random sample on."""
    return np.roll(np.arange(size), -np.random.randint(size))  # noqa: NPY002


def on_device(observations: Any, device: torch.device) -> Any:
    """Return a buffer's observations, [T, E, ...], as tensors [T * E, ...]."""
    return obs_as_tensor(_flat(observations), device)


def _flat(observations: Any) -> Any:
    """[T, E, ...] -> [T * E, ...], without a copy; dicts by entry."""
    if isinstance(observations, dict):
        return {name: _flat(part) for name, part in observations.items()}
    return observations.reshape(-1, *observations.shape[2:])


def _vector(array: Any, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32)).flatten().to(device)
