"""What a curiosity would say of environments that it does not learn from."""

from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from farl.sb3.config import FARConfig
from farl.sb3.rollout import Rollout
from farl.sb3.unnormalised import unnormalised_space

__all__ = ["CuriosityShadow"]


class CuriosityShadow:
    """A copy of a model's curiosity that follows other environments; the model's own is left alone.

    It fragments and recalls as the model would, but its modules learn nothing.

    :param model: made by ``FAR(Algorithm)`` with ``far``
    :param venv: environments of the same spaces, before they are reset
    """

    def __init__(self, model: Any, venv: VecEnv) -> None:
        config = FARConfig.parse(model.far)
        assert config is not None
        without_disk = config.model_copy(update={"memory": config.memory.model_copy(update={"disk": None})})
        space = unnormalised_space(venv)
        self._rollout = Rollout(without_disk, space, model.action_space, venv.num_envs, model.device, model.seed)
        self._rollout.attach(venv)
        self._rollout.curiosity.load_state_dict(model.curiosity.state_dict())

    @classmethod
    def of(cls, model: BaseAlgorithm, venv: VecEnv) -> "CuriosityShadow | None":
        """Return the shadow of a model's curiosity; None if it has none of FAR's."""
        return cls(model, venv) if getattr(model, "far", None) is not None else None

    def follow(self, observations: Any, actions: Any, dones: npt.NDArray[np.bool_], infos: list[dict[str, Any]]) -> str:
        """Take in a reset (``actions`` is None) or a step, and say in a line what it meant in the first environment."""
        if actions is None:
            self._rollout.begin(observations, restarts=True)
            return f"fragment {int(self._rollout.curiosity.router.active[0])}"
        self._rollout.clear()
        self._rollout.add(observations, actions, np.zeros(len(dones)), dones, infos)
        (step,) = self._rollout.take_in()
        events = step.events
        event = " (new)" if events.fragmented[0] else " (recalled)" if events.recalled[0] else ""
        bonus = float(step.intrinsic_reward[0])
        return f"fragment {int(events.active[0])}{event}   surprisal {step.surprisal[0]:.3g}   bonus {bonus:.3g}"
