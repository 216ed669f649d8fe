"""``Fast(Algorithm)``: a subclass that does the same in less time."""

import sys
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

from stable_baselines3 import A2C, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from farl.sb3.fast import collecting, updating
from farl.sb3.fast.policies import Lane
from farl.sb3.stepping import OpenRollout, pausing, rows_taken

Algorithm = TypeVar("Algorithm", bound=BaseAlgorithm)


def Fast(algorithm: type[Algorithm]) -> type[Algorithm]:
    """Return a subclass of an algorithm that learns the same, to within rounding, in less time.

    It draws the same random numbers, takes the same actions and the same gradient steps as the algorithm; arguments,
    callbacks, what is logged and what is saved are the same, and either loads what the other saved. ``FAR(Fast(PPO))``
    is fast, too. A policy or buffer of your own is called as Stable-Baselines3 calls it.

    :param algorithm: ``PPO``, ``A2C`` or ``RecurrentPPO``, or a subclass that changes neither how they collect rollouts
        nor how they train
    :raises TypeError: if it is anything else

    >>> from stable_baselines3 import A2C, PPO
    >>> model = Fast(PPO)("MlpPolicy", "CartPole-v1")
    """
    if isinstance(algorithm, type) and hasattr(algorithm, "plain_class"):
        return algorithm
    if not (isinstance(algorithm, type) and issubclass(algorithm, BaseAlgorithm)):
        raise TypeError(f"Fast takes the class of an algorithm, as in Fast(PPO)(...); got {algorithm!r}")
    if why_not_fast(algorithm) is not None:
        raise TypeError(why_not_fast(algorithm))
    return _make_class(algorithm)


def why_not_fast(algorithm: type[BaseAlgorithm]) -> str | None:
    """Say why there is no ``Fast`` of an algorithm; None if there is."""
    if hasattr(algorithm, "algorithm_class"):
        return f"Fast goes inside: write FAR(Fast({algorithm.algorithm_class.__name__}))"
    mixin = _mixin(algorithm)
    if mixin is None:
        return f"Fast takes PPO, A2C and RecurrentPPO; use {algorithm.__name__} without it"
    name, learns = algorithm.__name__, mixin.learns_as
    if algorithm.train is not learns.train or algorithm.collect_rollouts is not learns.collect_rollouts:  # type: ignore[attr-defined]
        return f"Fast would change how {name} learns, which it does in a way of its own; use {name} without it"
    return None


@cache  # Fast(PPO) is Fast(PPO)
def _make_class(algorithm: type[Any]) -> type[Any]:
    members = {"__doc__": algorithm.__doc__, "__module__": __name__, "plain_class": algorithm}
    mixin = _mixin(algorithm)
    return type(f"Fast{algorithm.__name__}", (mixin, algorithm), members)


def _mixin(algorithm: type[Any]) -> Any:
    mixins: list[Any] = [_FastPPO, _FastA2C]
    if "sb3_contrib" in sys.modules:  # nobody has its algorithms who has not imported it
        from farl.sb3.fast.recurrent import FastRecurrentPPO

        mixins.append(FastRecurrentPPO)
    return next((mixin for mixin in mixins if issubclass(algorithm, mixin.learns_as)), None)


class _FastAlgorithm(OpenRollout, OnPolicyAlgorithm):
    """Collects rollouts."""

    pauses_itself = True
    collected: collecting.Collected | None = None
    learns_as: type[OnPolicyAlgorithm]
    plain_class: type[OnPolicyAlgorithm]
    _lane: Lane | None = None

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_lane", "collected"]

    def _the_lane(self) -> Lane:
        if self._lane is None or not self._lane.fits(self.policy):
            self._lane = Lane(self.policy)
        return self._lane

    def collect_rollouts(self, env: Any, callback: BaseCallback, rollout_buffer: Any, n_rollout_steps: int) -> bool:
        """Collect a rollout; see SB3."""
        taken = rows_taken(self)
        if not collecting.takes(rollout_buffer) or n_rollout_steps + taken != rollout_buffer.buffer_size:
            with pausing(self, taken):
                return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        assert self._last_obs is not None
        self.policy.set_training_mode(False)
        lane = self._the_lane()
        lane.begin()
        actor = collecting.FeedforwardActor(lane, rollout_buffer.buffer_size * env.num_envs)
        return collecting.collect(self, actor, env, callback, rollout_buffer)

    def open_state(self) -> dict[str, Any]:
        """Return what has been collected, and which observations have been seen."""
        lane = None if self._lane is None else self._lane.state_dict()
        is_learnt = self.rollout_buffer.full or self.rollout_buffer.generator_ready
        return super().open_state() | {"collected": collecting.state_of(self), "lane": lane, "is_learnt": is_learnt}

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Put it back."""
        super().take_up(state)
        collecting.put_back(self, state["collected"])
        if state["lane"] is not None:
            self._the_lane().load_state_dict(state["lane"])
            if state.get("is_learnt"):  # what was seen is of the rollout before; a file of before does not say
                self._the_lane().look_for_repeats(self.rollout_buffer.buffer_size * self.n_envs)


class _FastA2C(_FastAlgorithm):
    """One gradient step a rollout, which SB3 does well."""

    learns_as = A2C


class _FastPPO(_FastAlgorithm, PPO):
    """Many of them."""

    learns_as = PPO

    def train(self) -> None:
        """Do the gradient steps of a rollout; see SB3."""
        if not collecting.takes(self.rollout_buffer) or self.rollout_buffer.generator_ready:
            return super().train()
        lane, observations = self._the_lane(), updating.on_device(self.rollout_buffer.observations, self.device)
        lane.begin()
        updating.update(self, lane.policy, lane.steps, updating.shuffled, lane.picker(observations))
        return None
