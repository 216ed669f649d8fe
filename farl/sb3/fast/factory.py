"""``Fast(Algorithm)``: a subclass that does the same in less time."""

from functools import cache
from typing import Any, TypeVar

from stable_baselines3 import A2C, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from farl.sb3.fast import collecting, updating
from farl.sb3.fast.policies import Lane

Algorithm = TypeVar("Algorithm", bound=BaseAlgorithm)


def Fast(algorithm: type[Algorithm]) -> type[Algorithm]:
    """Return a subclass of an algorithm that learns the same, to within rounding, in less time.

    It draws the same random numbers, takes the same actions and the same gradient steps as the algorithm; arguments,
    callbacks, what is logged and what is saved are the same, and either loads what the other saved. ``FAR(Fast(PPO))``
    is fast, too. A policy or buffer of your own is called as Stable-Baselines3 calls it.

    :param algorithm: ``PPO`` or ``A2C``, or a subclass that changes neither how these collect rollouts nor how they
        train
    :raises TypeError: if it is anything else

    >>> from stable_baselines3 import A2C, PPO
    >>> model = Fast(PPO)("MlpPolicy", "CartPole-v1")
    """
    if isinstance(algorithm, type) and issubclass(algorithm, _FastAlgorithm):
        return algorithm
    if not (isinstance(algorithm, type) and issubclass(algorithm, BaseAlgorithm)):
        raise TypeError(f"Fast takes the class of an algorithm, as in Fast(PPO)(...); got {algorithm!r}")
    if why_not_fast(algorithm) is not None:
        raise TypeError(why_not_fast(algorithm))
    return _make_class(algorithm)


def why_not_fast(algorithm: type[BaseAlgorithm]) -> str | None:
    """Say why there is no ``Fast`` of an algorithm; None if there is."""
    mixin = _mixin(algorithm)
    if mixin is None:
        return f"Fast takes PPO and A2C; use {algorithm.__name__} without it"
    name, learns = algorithm.__name__, mixin.learns_as
    if algorithm.train is not learns.train or algorithm.collect_rollouts is not learns.collect_rollouts:  # type: ignore[attr-defined]
        return f"Fast would change how {name} learns, which it does in a way of its own; use {name} without it"
    return None


@cache  # Fast(PPO) is Fast(PPO)
def _make_class(algorithm: type[Any]) -> type[Any]:
    members = {"__doc__": algorithm.__doc__, "__module__": __name__, "plain_class": algorithm}
    mixin: Any = _mixin(algorithm)
    return type(f"Fast{algorithm.__name__}", (mixin, algorithm), members)


def _mixin(algorithm: type[Any]) -> "type[_FastAlgorithm] | None":
    mixins = (_FastPPO, _FastA2C)
    return next((mixin for mixin in mixins if issubclass(algorithm, mixin.learns_as)), None)


class _FastAlgorithm(OnPolicyAlgorithm):
    """Collects rollouts."""

    learns_as: type[OnPolicyAlgorithm]
    plain_class: type[OnPolicyAlgorithm]
    _lane: Lane | None = None

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_lane"]

    def _the_lane(self) -> Lane:
        if self._lane is None or not self._lane.fits(self.policy):
            self._lane = Lane(self.policy)
        return self._lane

    def collect_rollouts(self, env: Any, callback: BaseCallback, rollout_buffer: Any, n_rollout_steps: int) -> bool:
        """Collect a rollout; see SB3."""
        if not collecting.takes(rollout_buffer) or n_rollout_steps != rollout_buffer.buffer_size:
            return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        assert self._last_obs is not None
        self.policy.set_training_mode(False)
        lane = self._the_lane()
        lane.begin()
        return collecting.collect(self, lane, env, callback, rollout_buffer)


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
        updating.update(self, self._the_lane())
        return None
