"""Rollouts, as SB3 collects them, without what costs time in each step."""

from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from farl.plain import from_plain, to_plain
from farl.sb3.fast.policies import Acted, Lane
from farl.sb3.observations import Array
from farl.sb3.stepping import is_aligned, rollout_rows, rows_taken


class Actor(Protocol):
    """Acts in one rollout.

    :ivar unscales: whether squashed actions are scaled to the environment's
    """

    unscales: bool

    def act(self, observations: Any, step: int) -> Acted:
        """Act at E observations."""

    def advance(self) -> None:
        """Go on to the next step."""

    def memory_of(self, env: int) -> Any:
        """Return what valuing the observation after this step of one environment needs besides."""

    def values(self, observations: Any, memories: list[Any]) -> Tensor:
        """Return the values of N observations, each with such a memory."""

    def last_values(self, observations: Any, dones: Array) -> Tensor:
        """Return the values of what follows the rollout."""


class FeedforwardActor:
    """Acts by what is seen alone."""

    unscales = True

    def __init__(self, lane: Lane, n_samples: int) -> None:
        self._lane, self._policy = lane, lane.of
        lane.look_for_repeats(n_samples)

    def act(self, observations: Any, step: int) -> Acted:
        """Act at E observations."""
        return self._lane.policy.act(self._lane.seen(observations), self._lane.repeats)

    def advance(self) -> None:
        """There is nothing to remember."""

    def memory_of(self, env: int) -> None:
        """There is nothing to remember."""

    def values(self, observations: Any, memories: list[Any]) -> Tensor:
        """Return the values of N observations."""
        return self._policy.predict_values(observations)

    def last_values(self, observations: Any, dones: Array) -> Tensor:
        """Return the values of what follows the rollout."""
        return self._policy.predict_values(observations)


class Collected(NamedTuple):
    """What has been collected of a rollout of T steps, and is written to its buffer at the end.

    :ivar values: float32[T, E]
    :ivar log_probs: float32[T, E]
    :ivar cut_off: where time limits ended episodes: step, environment, last observation, and the actor's memory of it
    """

    values: Tensor
    log_probs: Tensor
    cut_off: list[tuple[int, int, Any, Any]]


def state_of(model: Any) -> Any:
    """Return what has been collected of an algorithm's open rollout; None of nothing."""
    rows = rollout_rows(model.rollout_buffer)
    if model.collected is None or not rows:
        return None
    values, log_probs, cut_off = model.collected
    return to_plain((values[:rows], log_probs[:rows], cut_off))


def put_back(model: Any, state: Any) -> None:
    """Put back what ``state_of`` returned into an algorithm that has begun to collect."""
    if state is None:
        return
    assert model.collected is not None
    values, log_probs, cut_off = from_plain(state)
    model.collected.values[: len(values)] = values.to(model.device)
    model.collected.log_probs[: len(values)] = log_probs.to(model.device)
    model.collected.cut_off[:] = [(step, env, seen, _on(model.device, memory)) for step, env, seen, memory in cut_off]


def _on(device: torch.device, memory: Any) -> Any:
    return None if memory is None else tuple(part.to(device) for part in memory)


def takes(buffer: RolloutBuffer) -> bool:
    """Whether a buffer is one of SB3's own, which hold what this module writes into them."""
    return type(buffer) in (RolloutBuffer, DictRolloutBuffer)


def begin(buffer: RolloutBuffer) -> None:
    """Empty a buffer; its arrays are used again, for all of them will be written over."""
    if buffer.generator_ready or buffer.rewards.shape != (buffer.buffer_size, buffer.n_envs):
        buffer.reset()
    buffer.pos, buffer.full, buffer.generator_ready = 0, False, False


@torch.no_grad()
def collect(model: Any, actor: Actor, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer) -> bool:
    """Do what ``OnPolicyAlgorithm.collect_rollouts`` does, with the same local variables for callbacks.

    Two things come later: values of what time limits cut off are computed together, at the end, and so are the
    advantages. The policy does not change meanwhile. Of a rollout that was reopened the rest is collected.

    :param model: an on-policy algorithm of ``Fast``

    :return: whether the rollout is complete
    """
    n_rollout_steps, n_envs = rollout_buffer.buffer_size, env.num_envs
    box = model.action_space if isinstance(model.action_space, spaces.Box) else None
    kept_values = torch.empty((n_rollout_steps, n_envs), device=model.device)
    kept_log_probs = torch.empty_like(kept_values)
    on_cpu = model.device.type == "cpu"
    # The same memory: writing to a tensor takes ten times as long.
    rows: Any = [part.numpy() if on_cpu else part for part in (kept_values, kept_log_probs)]
    value_rows, log_prob_rows = rows
    value_parts, log_prob_parts = kept_values.unsqueeze(2).unbind(), kept_log_probs.unbind()
    cut_off: list[tuple[int, int, Any, Any]] = []
    model.collected = Collected(kept_values, kept_log_probs, cut_off)
    n_steps = rows_taken(model)
    begin(rollout_buffer)
    if model.use_sde:
        model.policy.reset_noise(n_envs)
    callback.on_rollout_start()
    while n_steps < n_rollout_steps:
        if model.use_sde and model.sde_sample_freq > 0 and n_steps % model.sde_sample_freq == 0:
            model.policy.reset_noise(n_envs)
        if is_aligned(model, n_steps):
            model.pause()
        observations: Any = model._last_obs
        obs_tensor = _to_tensor(observations, model.device)
        acted = actor.act(obs_tensor, n_steps)
        value_rows[n_steps], log_prob_rows[n_steps] = acted.values, acted.log_prob
        actions, values, log_probs = acted.actions, value_parts[n_steps], log_prob_parts[n_steps]
        clipped_actions = actions
        if box is not None:
            if actor.unscales and model.policy.squash_output:
                clipped_actions = model.policy.unscale_action(clipped_actions)
            else:
                clipped_actions = np.clip(actions, box.low, box.high)
        _write(rollout_buffer.observations, n_steps, observations)
        rollout_buffer.actions[n_steps] = actions.reshape(n_envs, -1)
        rollout_buffer.episode_starts[n_steps] = model._last_episode_starts
        new_obs: Any
        new_obs, rewards, dones, infos = env.step(clipped_actions)
        model.num_timesteps += n_envs
        callback.update_locals(locals())
        if not callback.on_step():
            return False
        _note_episodes(model, infos, dones)
        for index in map(int, np.flatnonzero(dones)) if dones.any() else ():
            info = infos[index]
            if info.get("terminal_observation") is not None and info.get("TimeLimit.truncated", False):
                last = _copied(info["terminal_observation"])  # it is looked at later, when others may lie there
                cut_off.append((n_steps, index, last, actor.memory_of(index)))
        rollout_buffer.rewards[n_steps] = rewards
        n_steps += 1
        rollout_buffer.pos = n_steps
        model._last_obs, model._last_episode_starts = new_obs, dones
        actor.advance()
    rollout_buffer.full = True
    if not bool(kept_log_probs.isfinite().all()):
        raise RuntimeError("the policy's outputs are not finite: training has diverged; lower its learning rate")
    _add_values_beyond(model, actor, rollout_buffer, cut_off)
    values = actor.last_values(_to_tensor(new_obs, model.device), dones)
    rollout_buffer.values[:], rollout_buffer.log_probs[:] = kept_values.cpu().numpy(), kept_log_probs.cpu().numpy()
    _estimate_advantages(rollout_buffer, values.cpu().numpy().ravel(), dones)
    callback.update_locals(locals())
    callback.on_rollout_end()
    return True


def _to_tensor(observations: Any, device: torch.device) -> Any:
    """Do what ``obs_as_tensor`` does; most often in less time."""
    if device.type == "cpu" and type(observations) is np.ndarray:
        return torch.from_numpy(observations)
    return obs_as_tensor(observations, device)


def _copied(observation: Any) -> Any:
    if isinstance(observation, dict):
        return {name: np.array(part) for name, part in observation.items()}
    return np.array(observation)


def _write(kept: Any, step: int, observations: Any) -> None:
    if isinstance(kept, dict):
        for name, part in kept.items():
            _write(part, step, observations[name])
    else:
        kept[step] = observations if observations.shape == kept.shape[1:] else observations.reshape(kept.shape[1:])


def _note_episodes(model: OnPolicyAlgorithm, infos: list[dict[str, Any]], dones: Array) -> None:
    """Do what ``_update_info_buffer`` does, looking only at what there is."""
    telling = [(info, done) for info, done in zip(infos, dones.tolist(), strict=True) if done or "episode" in info]
    if telling:
        model._update_info_buffer([info for info, _ in telling], np.array([done for _, done in telling]))


def _add_values_beyond(
    model: OnPolicyAlgorithm,
    actor: Actor,
    buffer: RolloutBuffer,
    cut_off: list[tuple[int, int, Any, Any]],
    at_once: int = 256,
) -> None:
    """Add to the rewards the discounted values of the observations at which time limits ended episodes."""
    for start in range(0, len(cut_off), at_once):
        steps, envs, observations, memories = zip(*cut_off[start : start + at_once], strict=True)
        stacked: Any = (
            {name: np.stack([each[name] for each in observations]) for name in observations[0]}
            if isinstance(observations[0], dict)
            else np.stack(observations)
        )
        values = actor.values(model.policy.obs_to_tensor(stacked)[0], list(memories))
        buffer.rewards[list(steps), list(envs)] += model.gamma * values.cpu().numpy().ravel()


def _estimate_advantages(buffer: RolloutBuffer, last_values: Array, dones: Array) -> None:
    """Generalised advantage estimation (Schulman et al., 2016), as ``compute_returns_and_advantage`` does it."""
    goes_on = 1.0 - np.concatenate([buffer.episode_starts[1:], dones[None].astype(np.float32)])
    following = np.concatenate([buffer.values[1:], last_values[None]])
    delta = buffer.rewards + buffer.gamma * following * goes_on - buffer.values
    goes_on *= buffer.gamma * buffer.gae_lambda
    sums = np.zeros(buffer.n_envs, np.float32)
    for step in reversed(range(buffer.buffer_size)):
        sums *= goes_on[step]
        sums += delta[step]
        buffer.advantages[step] = sums
    buffer.returns = buffer.advantages + buffer.values
