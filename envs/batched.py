"""What VecEnvs share whose environments are stepped by one call, and not one by one."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices

from farl.envs.actions import check_actions


class BatchedVecEnv(VecEnv):
    """E environments that share their attributes, have no wrappers, and keep a monitor's record of their episodes."""

    def __init__(self, num_envs: int, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
        super().__init__(num_envs, observation_space, action_space)
        self.lengths = np.zeros(num_envs, np.int64)
        """int64[E], steps of the present episodes."""
        self.returns = np.zeros(num_envs)
        """float64[E], of the present episodes: the raw rewards' sum."""
        self._n_actions = int(action_space.n) if isinstance(action_space, spaces.Discrete) else 0
        self._actions: npt.NDArray[np.int64] = np.zeros(num_envs, np.int64)

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Take the actions, int64[E].

        :raises ValueError: if they are no actions of these environments
        """
        self._actions = check_actions(actions, self._n_actions, self.num_envs)

    def finish(self, env: int, terminal_observation: Any, truncated: bool) -> dict[str, Any]:
        """Return the info of an episode that has ended, as ``Monitor`` and SB3's own VecEnvs write it; begin anew."""
        info = {
            "terminal_observation": terminal_observation,
            "TimeLimit.truncated": truncated,
            "episode": {"r": round(float(self.returns[env]), 6), "l": int(self.lengths[env]), "t": 0.0},
        }
        self.lengths[env], self.returns[env] = 0, 0.0
        return info

    def get_state(self) -> dict[str, Any]:
        """Return all that decides what happens next, as ``farl.envs.state`` has it."""
        return {"lengths": self.lengths.copy(), "returns": self.returns.copy(), "reset_infos": list(self.reset_infos)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``get_state`` returned."""
        self.lengths, self.returns = state["lengths"].copy(), state["returns"].copy()
        self.reset_infos = list(state["reset_infos"])

    def close(self) -> None:
        """There is nothing to close."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute once per environment."""
        value = getattr(self, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of all environments.

        :raises ValueError: if only some of them are named: they share their attributes
        """
        if len(list(self._get_indices(indices))) != self.num_envs:
            raise ValueError("the environments share their attributes: leave `indices` out")
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Call a method of the environments: there are none.

        :raises AttributeError: always
        """
        raise AttributeError(f"the environments of a {type(self).__name__} have no method {method_name!r}")

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """The environments have no wrappers, but keep a monitor's record."""
        return [issubclass(wrapper_class, Monitor) for _ in self._get_indices(indices)]
