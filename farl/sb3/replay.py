"""Replay buffers that keep the intrinsic reward of each transition apart from the extrinsic one."""

from functools import cache
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from farl.curiosity import Transitions
from farl.errors import ConfigError
from farl.sb3.config import FARConfig
from farl.sb3.observations import Array, Observation
from farl.sb3.rollout import Rollout


class BonusReplay(ReplayBuffer):
    """Any replay buffer of SB3's kind, with a bonus beside each reward.

    ``VecNormalize`` divides extrinsic rewards when they are sampled. The bonus has a scale of its own, so it joins them
    afterwards: what is learnt is ``extrinsic_coef * normalised reward + intrinsic_coef * intrinsic reward``. The bonus
    belongs to the transition: rewards of several steps, and of goals that hindsight exchanged, have it too.

    ``rewards`` holds the same sum without normalisation. Made by ``with_bonus``, never directly.
    """

    base: type[ReplayBuffer]
    """What it was made of."""
    extrinsic: Array
    """float32[N, E], as the environments paid."""
    intrinsic: Array
    """float32[N, E], as the curiosity paid when the transition was new; 0 where it was not there."""
    fragments: Array
    """int64[N, E], the fragment that was active; -1 where the bonus cannot be computed anew."""
    _rollout: Rollout | None = None
    _policy: BasePolicy | None = None

    def attach(self, rollout: Rollout, policy: BasePolicy) -> None:
        """Say who weighs and refreshes the bonus, and who knows how actions were scaled for the buffer."""
        if rollout.config.refresh:
            rollout.curiosity.require_replayable_bonus()
        self._rollout, self._policy = rollout, policy
        self.rewards = self._sum(self.extrinsic, self.intrinsic)

    def pay(self, row: int, intrinsic: Array, fragments: Array) -> None:
        """Add the bonus to the transitions of one step, which SB3 has just stored.

        :param row: where they were stored
        :param intrinsic: float[E]
        :param fragments: int64[E], the active ones
        """
        self.extrinsic[row], self.intrinsic[row], self.fragments[row] = self.rewards[row], intrinsic, fragments
        self.rewards[row] = self._sum(self.extrinsic[row], self.intrinsic[row])
        if self._attached.config.refresh and self._attached.is_normalised:
            self._refresh_only_what_was_seen(row)

    def _refresh_only_what_was_seen(self, row: int) -> None:
        """Let transitions keep the bonus they were paid where SB3 stored another observation than the curiosity saw.

        ``VecNormalize`` clips the last observations of episodes, which SB3 gets back from it.

        :raises ConfigError: if SB3 stores others altogether
        """
        envs = np.arange(self.n_envs)
        stored = self._transitions(np.full(self.n_envs, row), envs).next_observations
        same = torch.isclose(stored, self._attached.latest, rtol=1e-3, atol=1e-3).flatten(1).all(dim=1).cpu().numpy()
        if not (same | (self.dones[row] > 0)).all():
            raise ConfigError(
                "refresh: true: SB3 stores observations as they are inside VecNormalize, and not as the policy sees "
                "them through the wrappers around it. Put VecNormalize outermost, or set refresh: false"
            )
        self.fragments[row, ~same] = -1

    def sample(self, *args: Any, **kwargs: Any) -> Any:
        """Sample as the buffer it was made of does.

        :raises ConfigError: if that buffer does not hand the rewards it picked to ``_normalize_reward``
        """
        # Whatever picks rewards picks their places, which ``_normalize_reward`` then looks up.
        rewards, self.rewards = self.rewards, (places := _Places(self.n_envs))  # type: ignore[assignment]
        try:
            samples = super().sample(*args, **kwargs)
        finally:
            self.rewards = rewards
        if not places.looked_up:
            raise ConfigError(
                f"replay_buffer_class: {self.base.__name__} samples rewards without passing them to "
                "self._normalize_reward(rewards, env), as SB3's buffers do; FAR adds the bonus there"
            )
        return samples

    def _normalize_reward(self, reward: Array, env: Any = None) -> Array:  # type: ignore[override]
        """Return what the learner is paid: normalised extrinsic rewards, with the bonus where places were picked."""
        rewards: Any = self.rewards
        if not isinstance(rewards, _Places) or reward.dtype != _Places.dtype:
            return self._sum(super()._normalize_reward(reward, env), 0.0)
        rewards.looked_up = True
        steps, envs = np.divmod(reward, self.n_envs)
        extrinsic = super()._normalize_reward(self.extrinsic[steps, envs], env)
        return self._sum(extrinsic, self.bonus(steps.ravel(), envs.ravel()).reshape(reward.shape))

    def bonus(self, steps: Array, envs: Array) -> Array:
        """Return the intrinsic rewards of B stored transitions, float32[B].

        With ``refresh`` by the modules as they are now, except where the fragment has been evicted since, and where
        ``optimize_memory_usage`` has put the next episode's first observation in the place of an episode's last.

        :param steps: int64[B], rows of the buffer
        :param envs: int64[B]
        """
        stored: Array = self.intrinsic[steps, envs]
        rollout = self._attached
        if not rollout.config.refresh:
            return stored
        fragments = self.fragments[steps, envs]
        overwritten = self.optimize_memory_usage & (self.dones[steps, envs] > 0)
        held = np.flatnonzero(np.isin(fragments, rollout.curiosity.memory.ids) & ~overwritten)
        if len(held):
            transitions = self._transitions(steps[held], envs[held])
            stored[held] = rollout.curiosity.reward_again(transitions, fragments[held])
        return stored

    def _sum(self, extrinsic: Array, intrinsic: Array | float) -> Array:
        config: FARConfig = self._attached.config
        weighted = config.extrinsic_coef * extrinsic + config.intrinsic_coef * intrinsic
        return np.asarray(weighted, np.float32)

    @property
    def _attached(self) -> Rollout:
        if self._rollout is None:
            raise ConfigError(
                "this replay buffer belongs to a FAR model: load it by load_replay_buffer of a model with far"
            )
        return self._rollout

    def _transitions(self, steps: Array, envs: Array) -> Transitions:
        adapter, device = self._attached.adapter, self._attached.device
        actions = self.actions[steps, envs]
        if isinstance(self.action_space, spaces.Box):
            assert self._policy is not None
            actions = self._policy.unscale_action(actions.reshape(-1, *self.action_space.shape))
        elif isinstance(self.action_space, spaces.Discrete):
            actions = actions[:, 0]
        following = self.observations if self.optimize_memory_usage else self.next_observations
        next_steps = (steps + 1) % self.buffer_size if self.optimize_memory_usage else steps
        return Transitions(
            adapter(_pick(self.observations, steps, envs), device),
            torch.as_tensor(actions, device=device),
            adapter(_pick(following, next_steps, envs), device),
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave the model out of a saved buffer: whoever loads it attaches its own."""
        state: dict[str, Any] = dict(super().__getstate__())  # type: ignore[call-overload]
        return {name: value for name, value in state.items() if name not in ("_rollout", "_policy")}

    def __reduce__(self) -> Any:
        return _empty, (self.base,), self.__getstate__()


class _HindsightBonus(BonusReplay, HerReplayBuffer):
    """Adds the bonus to transitions whose goal was exchanged: the environment computes their rewards anew."""

    def _get_virtual_samples(self, batch_indices: Array, env_indices: Array, env: Any = None) -> Any:
        samples = super()._get_virtual_samples(batch_indices, env_indices, env)
        bonus = self._attached.config.intrinsic_coef * self.bonus(batch_indices, env_indices)
        return samples._replace(rewards=samples.rewards + self.to_torch(bonus[:, None]))


class _Places:
    """Stands in for an array of rewards, [N, E], and gives the places of what is picked instead: ``step * E + env``."""

    dtype = np.dtype(np.int64)

    def __init__(self, n_envs: int) -> None:
        self._n_envs = n_envs
        self.looked_up = False

    def __getitem__(self, picked: tuple[Array, Array]) -> Array:
        steps, envs = picked
        places: Array = np.asarray(steps * self._n_envs + envs, self.dtype)
        return places


def with_bonus(buffer: ReplayBuffer) -> BonusReplay:
    """Turn a replay buffer, whatever its class, into one with a bonus. What it holds already has none."""
    if not isinstance(buffer, BonusReplay):
        buffer.__class__ = _bonus_class(type(buffer))
        assert isinstance(buffer, BonusReplay)
        buffer.extrinsic, buffer.intrinsic = buffer.rewards.copy(), np.zeros_like(buffer.rewards)
        buffer.fragments = np.full(buffer.rewards.shape, -1, np.int64)
    return buffer


def without_bonus(buffer: ReplayBuffer) -> ReplayBuffer:
    """Turn a replay buffer back into what it was before ``with_bonus``, with its extrinsic rewards alone."""
    if isinstance(buffer, BonusReplay):
        state, base = buffer.__dict__, buffer.base
        state["rewards"] = state.pop("extrinsic")
        for name in ("intrinsic", "fragments", "_rollout", "_policy"):
            state.pop(name, None)
        buffer.__class__ = base  # type: ignore[assignment]
    return buffer


@cache
def _bonus_class(base: type[ReplayBuffer]) -> type[BonusReplay]:
    mixin = _HindsightBonus if issubclass(base, HerReplayBuffer) else BonusReplay
    return type(f"Bonus{base.__name__}", (mixin, base), {"base": base, "__doc__": base.__doc__, "__module__": __name__})


def _empty(base: type[ReplayBuffer]) -> BonusReplay:
    """Return what pickle fills."""
    made = _bonus_class(base)
    return made.__new__(made)


def _pick(observations: Any, steps: Array, envs: Array) -> Observation:
    if isinstance(observations, dict):
        return {name: part[steps, envs] for name, part in observations.items()}
    picked: Array = observations[steps, envs]
    return picked
