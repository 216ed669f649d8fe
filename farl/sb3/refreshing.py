"""Replay buffers whose intrinsic rewards are computed anew when transitions are sampled."""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.policies import BasePolicy

from farl.curiosity import Transitions
from farl.sb3.observations import Array, Observation
from farl.sb3.watching import Watcher


class _Refreshing(ReplayBuffer):
    """Keeps the extrinsic reward and the fragment of each transition beside what SB3 keeps.

    What was stored serves where the fragment has been evicted since.
    """

    _watcher: Watcher | None = None
    _policy: BasePolicy | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.extrinsic = np.zeros((self.buffer_size, self.n_envs), np.float32)
        self.fragments = np.full((self.buffer_size, self.n_envs), -1, np.int64)

    def attach(self, watcher: Watcher, policy: BasePolicy) -> None:
        """Say who computes the rewards, and who knows how actions were scaled for the buffer."""
        watcher.curiosity.require_replayable_bonus()
        self._watcher, self._policy = watcher, policy

    def note(self, extrinsic: Array) -> None:
        """Keep the extrinsic reward, [E], and the fragments of the transition that is about to be added."""
        assert self._watcher is not None
        assert self._watcher.curiosity.last is not None
        self.extrinsic[self.pos] = extrinsic
        self.fragments[self.pos] = self._watcher.curiosity.last.events.active

    def _get_samples(self, batch_inds: Array, env: Any = None) -> Any:
        # SB3 draws the environments inside its method and does not tell which: they are drawn twice from one state.
        state = np.random.get_state()  # noqa: NPY002
        envs = np.random.randint(0, high=self.n_envs, size=(len(batch_inds),))  # noqa: NPY002
        np.random.set_state(state)  # noqa: NPY002
        samples = super()._get_samples(batch_inds, env)
        rewards = self._normalize_reward(self.refreshed(batch_inds, envs)[:, None], env)
        return samples._replace(rewards=self.to_torch(rewards))

    def refreshed(self, steps: Array, envs: Array) -> Array:
        """Return the rewards of B stored transitions by the modules as they are now, float32[B].

        :param steps: int64[B], rows of the buffer
        :param envs: int64[B]
        """
        assert self._watcher is not None
        watcher = self._watcher
        rewards: Array = self.rewards[steps, envs].copy()
        fragments = self.fragments[steps, envs]
        held = np.flatnonzero(np.isin(fragments, watcher.curiosity.memory.ids))
        if len(held):
            steps, envs, fragments = steps[held], envs[held], fragments[held]
            intrinsic = watcher.curiosity.reward_again(self._transitions(steps, envs), fragments)
            config = watcher.config
            rewards[held] = config.extrinsic_coef * self.extrinsic[steps, envs] + config.intrinsic_coef * intrinsic
        return rewards

    def _transitions(self, steps: Array, envs: Array) -> Transitions:
        assert self._watcher is not None
        adapter, device = self._watcher.adapter, self._watcher.device
        actions = self.actions[steps, envs]
        if isinstance(self.action_space, spaces.Box):
            assert self._policy is not None
            actions = self._policy.unscale_action(actions)
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
        return {name: value for name, value in self.__dict__.items() if name not in ("_watcher", "_policy")}


class RefreshingReplayBuffer(_Refreshing):
    """A ``ReplayBuffer`` with refreshed intrinsic rewards."""


class RefreshingDictReplayBuffer(_Refreshing, DictReplayBuffer):
    """A ``DictReplayBuffer`` with refreshed intrinsic rewards."""


REFRESHING = (RefreshingReplayBuffer, RefreshingDictReplayBuffer)


def refreshing_class(given: type[ReplayBuffer] | None, space: spaces.Space[Any], n_steps: int) -> type[ReplayBuffer]:
    """Return the buffer that refreshes for an observation space.

    :raises ValueError: if the algorithm was given a buffer of another kind, or wants returns of several steps
    """
    if given not in (None, *REFRESHING) or n_steps > 1:
        raise ValueError(
            "refresh: true brings a replay buffer of its own, for one-step returns; leave out replay_buffer_class and "
            "n_steps, or set refresh: false"
        )
    return RefreshingDictReplayBuffer if isinstance(space, spaces.Dict) else RefreshingReplayBuffer


def _pick(observations: Any, steps: Array, envs: Array) -> Observation:
    if isinstance(observations, dict):
        return {name: part[steps, envs] for name, part in observations.items()}
    picked: Array = observations[steps, envs]
    return picked
