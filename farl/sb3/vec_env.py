"""``FARVecEnv``: curiosity under fragmentation and recall from outside, for code that cannot change its algorithm."""

from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.utils import get_device
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecMonitor, VecNormalize, unwrap_vec_wrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from farl.curiosity import FARCuriosity
from farl.errors import ConfigError
from farl.memory import load_state, save_state
from farl.sb3.advice import AdvisedSpace, advised_last, with_advice
from farl.sb3.config import FARConfig
from farl.sb3.observations import Array, require_finite
from farl.sb3.rollout import Rollout


class FARVecEnv(VecEnvWrapper):
    """A vector environment whose rewards are ``extrinsic_coef * reward + intrinsic_coef * intrinsic reward``.

    For any library that takes a ``VecEnv``. Where the algorithm can be chosen, ``FAR(Algorithm)`` is the better way: it
    is saved with the model, logs, and gives the intrinsic return a critic of its own.

    - Monitors belong inside, so that episode returns stay extrinsic: where there is none, a ``VecMonitor`` is added.
    - ``VecNormalize`` belongs outside, or off-policy algorithms of SB3 would lose the bonus: inside it is refused.
    - Evaluate on an environment without rewards of its own: ``FARVecEnv(eval_env)`` passes everything through, and has
      the depth that ``EvalCallback`` asks for where there is a ``VecNormalize``.

    - Where the module is told to give advice (``module: {name: recognition, graph: {}}``), observations become dicts:
      ``advice``, float32[A], one-hot, beside ``observation``, or beside the parts of what was a dict already. It takes
      ``MultiInputPolicy``. The default gives none.

    :param venv: what is wrapped
    :param far: as in ``FAR(Algorithm)(..., far=...)``; None passes everything through. What concerns the intrinsic
        critic does not apply; modules learn whenever ``batch_size`` samples have come together
    :param device: where the curiosity modules lie
    :param seed: the curiosity's; None is a random one
    :raises ConfigError: if there is a ``VecNormalize`` in ``venv``, or a setting is wrong

    >>> from stable_baselines3 import PPO
    >>> from stable_baselines3.common.env_util import make_vec_env
    >>> env = FARVecEnv(make_vec_env("CartPole-v1", n_envs=2), far={}, seed=0)
    >>> model = PPO("MlpPolicy", env, n_steps=8, batch_size=16, device="cpu").learn(64)
    >>> env.curiosity.samples_seen
    64
    """

    def __init__(
        self,
        venv: VecEnv,
        far: FARConfig | dict[str, Any] | None = None,
        device: torch.device | str = "auto",
        seed: int | None = None,
    ) -> None:
        if unwrap_vec_wrapper(venv, VecNormalize) is not None:
            raise ConfigError(
                "FARVecEnv around VecNormalize: off-policy algorithms would lose the intrinsic reward. "
                "Write VecNormalize(FARVecEnv(venv, ...))"
            )
        config = FARConfig.parse(far)
        if config is not None:
            config = config.without_default_graph()
        monitored = unwrap_vec_wrapper(venv, VecMonitor) is not None or any(venv.env_is_wrapped(Monitor))
        super().__init__(venv if monitored else VecMonitor(venv))
        self.metrics: dict[str, float] = {}
        """What ``FAR(Algorithm)`` logs, as of the latest step."""
        self._rollout: Rollout | None = None
        if config is not None:
            self._rollout = Rollout(
                config, self.observation_space, self.action_space, self.num_envs, get_device(device), seed
            )
            self._n_advised: int = self._rollout.curiosity.module.n_advised
            if self._n_advised:
                self.observation_space = AdvisedSpace(self.observation_space, self._n_advised)

    @property
    def curiosity(self) -> FARCuriosity | None:
        """The live curiosity; None without ``far``."""
        return None if self._rollout is None else self._rollout.curiosity

    def reset(self) -> VecEnvObs:
        """Reset all environments."""
        if self._rollout is not None:
            self._rollout.attach(self.venv)
        observations = self.venv.reset()
        if self._rollout is not None:
            self._rollout.begin(observations, restarts=True)  # type: ignore[arg-type]
            if self._n_advised:
                return with_advice(observations, self._rollout.advise(np.ones(self.num_envs, bool)))  # type: ignore[arg-type]
        return observations

    def step_async(self, actions: Array) -> None:
        """Begin a step."""
        self._actions = actions
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Finish a step; the rewards hold the intrinsic part."""
        observations, rewards, dones, infos = self.venv.step_wait()
        rollout = self._rollout
        if rollout is None:
            return observations, rewards, dones, infos
        require_finite("reward", rewards)
        rollout.clear()
        rollout.add(observations, self._actions, rewards, dones, infos)  # type: ignore[arg-type]
        (step,) = rollout.take_in()
        if rollout.curiosity.module.predicts:
            self.metrics["far/surprisal"] = float(step.surprisal.mean())
        self.metrics["far/intrinsic_reward"] = float(step.intrinsic_reward.mean())
        if rollout.is_due:
            rollout.update(self.metrics.__setitem__)
        if self._n_advised:
            infos = [advised_last(info, self.venv.observation_space, self._n_advised) for info in infos]
            observations = with_advice(observations, rollout.advise(dones))  # type: ignore[arg-type]
        return observations, rollout.mixed(rewards), dones, infos

    def get_state(self) -> dict[str, Any]:
        """Return the curiosity and all that decides what happens next."""
        if self._rollout is None:
            return {}
        return {
            "curiosity": self._rollout.curiosity.state_dict(),
            "rollout": self._rollout.open_state(),
            "metrics": dict(self.metrics),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``get_state`` returned."""
        if self._rollout is not None:
            self._rollout.curiosity.load_state_dict(state["curiosity"])
            self._rollout.take_up(state["rollout"])
            self.metrics = dict(state["metrics"])

    def save(self, path: str | PathLike[str]) -> None:
        """Write settings and curiosity to one file (safetensors), whole or not at all.

        :raises ConfigError: without ``far`` there is nothing to save
        """
        if self._rollout is None:
            raise ConfigError("this FARVecEnv has no far: there is nothing to save")
        settings = self._rollout.config.model_dump(mode="json")
        save_state({"far": settings, "curiosity": self._rollout.curiosity.state_dict()}, path)

    @classmethod
    def load(
        cls, path: str | PathLike[str], venv: VecEnv, device: torch.device | str = "auto", seed: int | None = None
    ) -> "FARVecEnv":
        """Wrap an environment and go on with what ``save`` wrote.

        :raises FileNotFoundError: if there is no such file
        :raises ConfigError: if the file is damaged, not one of ours, or of other observations than those of ``venv``
        """
        state = load_state(path)
        wrapped = cls(venv, state["far"], device, seed)
        assert wrapped.curiosity is not None
        try:
            wrapped.curiosity.load_state_dict(state["curiosity"])
        except RuntimeError as error:  # torch's, when shapes differ
            raise ConfigError(f"{path} was saved with other observations than those of this environment") from error
        return wrapped
