"""Gymnasium's vector environments and Stable-Baselines3's VecEnv, each as the other, where all copies are one batch."""

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from stable_baselines3.common.vec_env import VecEnv, VecMonitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

__all__ = ["BatchedVectorEnv", "SameStepVecEnv", "batch_maker"]

AnyVectorEnv = VectorEnv[Any, Any, Any]


class BatchedVectorEnv(VectorEnv[Any, Any, Any]):
    """A VecEnv as ``gymnasium.make_vec`` makes it. Copies whose episode ends are reset in the same step.

    :param num_envs: number of copies
    :param kwargs: what else the VecEnv takes
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": ["rgb_array"]}  # noqa: RUF012
    batched: ClassVar[Callable[..., VecEnv]]
    """Makes the VecEnv."""

    def __init__(self, num_envs: int = 1, **kwargs: Any) -> None:
        self.venv = type(self).batched(num_envs, **kwargs)
        self.num_envs, self.render_mode = num_envs, kwargs.get("render_mode")
        self.single_observation_space, self.single_action_space = self.venv.observation_space, self.venv.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode of every copy; copy e with seed + e."""
        if seed is not None:
            self.venv.seed(seed)
        return self.venv.reset(), self._together(self.venv.reset_infos)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step every copy."""
        observations, rewards, dones, each = self.venv.step(actions)
        cut_off = np.array([bool(info.pop("TimeLimit.truncated", False)) for info in each])
        for env in np.flatnonzero(dones):
            last = each[env]
            each[env] = {"final_obs": last.pop("terminal_observation"), "final_info": last} | self.venv.reset_infos[env]
        return observations, rewards, dones & ~cut_off, cut_off, self._together(each)

    def render(self) -> tuple[Any, ...] | None:
        """Draw every copy."""
        return tuple(self.venv.get_images()) if self.render_mode == "rgb_array" else None

    def close_extras(self, **kwargs: Any) -> None:
        """Close the copies."""
        self.venv.close()

    def _together(self, each: Any) -> dict[str, Any]:
        infos: dict[str, Any] = {}
        for env, info in enumerate(each):
            infos = self._add_info(infos, info, env)
        return infos


class SameStepVecEnv(VecEnv):
    """Any vector environment of Gymnasium's that resets copies in the step in which they end, as a VecEnv.

    :param envs: with the autoreset mode ``SAME_STEP``
    """

    def __init__(self, envs: AnyVectorEnv) -> None:
        self.envs, self.render_mode = envs, envs.render_mode
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)
        self._actions: npt.NDArray[Any] = np.zeros(0)

    def reset(self) -> VecEnvObs:
        """Start an episode of every copy."""
        observations: VecEnvObs
        returned, infos = self.envs.reset(seed=self._seeds[0])
        observations = in_rows(returned)
        self.reset_infos = self._one_by_one(infos)
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Take the actions."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step every copy."""
        observations, rewards, terminated, truncated, infos = self.envs.step(self._actions)
        observations = in_rows(observations)
        each = self._one_by_one(infos)
        dones = np.asarray(terminated | truncated, bool)
        for env in np.flatnonzero(dones):
            last, final = each[env].pop("final_obs"), each[env].pop("final_info", {})
            self.reset_infos[env], each[env] = each[env], {**final, "terminal_observation": last}
            each[env]["TimeLimit.truncated"] = bool(truncated[env] and not terminated[env])
        return observations, np.asarray(rewards, np.float32), dones, each

    def _one_by_one(self, infos: dict[str, Any]) -> list[dict[str, Any]]:
        each: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for key, values in infos.items():
            if f"_{key}" not in infos:
                continue
            for env in np.flatnonzero(infos[f"_{key}"]):
                each[env][key] = _of(values, int(env))
        return each

    def close(self) -> None:
        """Close the copies."""
        self.envs.close()

    def get_images(self) -> Any:
        """Draw every copy."""
        return self.envs.render() or [None] * self.num_envs

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute once per copy: they share it."""
        value = getattr(self.envs, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of all copies."""
        setattr(self.envs, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Call a method of the copies: they have none.

        :raises AttributeError: always
        """
        raise AttributeError(f"the copies in {type(self.envs).__name__} have no method {method_name!r}")

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """The copies have no wrappers."""
        return [False for _ in self._get_indices(indices)]


def in_rows(observations: Any) -> Any:
    """Return observations in the order in which a checkpoint holds them, by copies only where they lie in another.

    Networks round otherwise where numbers lie in another order: a run that is resumed would differ in the last bits.
    """
    if isinstance(observations, dict):
        return {name: in_rows(part) for name, part in observations.items()}
    if isinstance(observations, tuple):
        return tuple(in_rows(part) for part in observations)
    return np.ascontiguousarray(observations) if isinstance(observations, np.ndarray) else observations


def _of(values: Any, env: int) -> Any:
    """One copy's part of what Gymnasium keeps together, in arrays and in dicts of them."""
    if isinstance(values, dict):
        return {key: _of(value, env) for key, value in values.items() if not key.startswith("_")}
    return values[env]


def batch_maker(spec: EnvSpec, keywords: Iterable[str] = ()) -> Callable[..., VecEnv] | None:
    """Return what makes many copies of a registered environment as one VecEnv, or None where there is no such thing.

    That is any ``vector_entry_point`` whose class resets copies in the step in which they end: Stable-Baselines3 knows
    no other way.

    :param keywords: names of the arguments that it is to take
    """
    if spec.vector_entry_point is None:
        return None
    found: Any = spec.vector_entry_point
    found = load_env_creator(found) if isinstance(found, str) else found
    if getattr(found, "metadata", {}).get("autoreset_mode") != AutoresetMode.SAME_STEP:
        return None
    ours = isinstance(found, type) and issubclass(found, BatchedVectorEnv)
    make = partial(found.batched, **spec.kwargs) if ours else partial(_make_vec, spec)
    parameters = inspect.signature(found.batched if ours else found).parameters
    takes_all = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    return make if takes_all or set(keywords) <= set(parameters) else None


def _make_vec(spec: EnvSpec, num_envs: int, **kwargs: Any) -> VecEnv:
    made = gym.make_vec(spec, num_envs, vectorization_mode="vector_entry_point", **kwargs)
    return VecMonitor(SameStepVecEnv(made))
