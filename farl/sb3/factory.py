"""``FAR(Algorithm)``: any Stable-Baselines3 algorithm with curiosity under fragmentation and recall."""

from copyreg import pickle as register_for_pickle
from functools import cache
from typing import Any, TypeVar

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from farl.sb3.algorithm import FARAlgorithm
from farl.sb3.off_policy import OffPolicyFAR
from farl.sb3.on_policy import OnPolicyFAR
from farl.sb3.saving import FARClass

Algorithm = TypeVar("Algorithm", bound=BaseAlgorithm)


def FAR(algorithm: type[Algorithm]) -> type[Algorithm]:
    """Return a subclass of an algorithm that takes one more keyword, ``far``.

    ``far`` is a dict or a ``FARConfig``; ``{}`` is the defaults; None, or leaving it out, switches everything off, and
    the subclass then does bit for bit what the algorithm does. Saving, loading, callbacks, evaluation and
    ``VecNormalize`` work as ever; ``rollout/ep_rew_mean`` stays the extrinsic return. ``model.curiosity`` is the live
    ``FARCuriosity``, and ``model.plain()`` an ordinary model that loads without FARL.

    - ``FAR(Fast(PPO))`` is the same in less time; see ``Fast``.
    - On-policy algorithms get a separate intrinsic critic; advantages are weighted sums, value targets stay extrinsic.
    - Off-policy algorithms store ``extrinsic_coef * reward + intrinsic_coef * intrinsic reward``; with ``refresh`` the
      intrinsic part is computed anew, by the modules as they are then, whenever a transition is replayed.

    :param algorithm: a class derived from SB3's ``OnPolicyAlgorithm`` or ``OffPolicyAlgorithm``
    :raises TypeError: if it is anything else

    >>> from stable_baselines3 import PPO
    >>> model = FAR(PPO)("MlpPolicy", "CartPole-v1", far={"criterion": {"name": "ratio", "threshold": 4.0}})
    >>> model.curiosity.fragments
    1
    """
    if not (isinstance(algorithm, type) and issubclass(algorithm, OnPolicyAlgorithm | OffPolicyAlgorithm)):
        raise TypeError(
            f"FAR takes the class of an SB3 algorithm, as in FAR(PPO)(...), on-policy or off-policy; got {algorithm!r}"
        )
    return algorithm if issubclass(algorithm, FARAlgorithm) else _make_class(algorithm)


@cache  # FAR(PPO) is FAR(PPO)
def _make_class(algorithm: type[Any]) -> type[Any]:
    mixin = OnPolicyFAR if issubclass(algorithm, OnPolicyAlgorithm) else OffPolicyFAR
    members = {
        "__doc__": algorithm.__doc__,
        "__module__": __name__,
        "algorithm_class": getattr(algorithm, "plain_class", algorithm),
        "__reduce__": lambda model: (_bare, _origin(type(model)), model.__dict__),
    }
    return type(f"FAR{algorithm.__name__}", (mixin, algorithm), members)


# Pickle finds what is made here by the algorithm that it was made of.


def _origin(made: type[Any]) -> tuple[type[BaseAlgorithm], bool]:
    """Return the algorithm that a class was made of, and whether by way of ``Fast``."""
    return made.algorithm_class, hasattr(made, "plain_class")


def _class_of(algorithm: type[Any], fast: bool) -> type[Any]:
    if fast:
        from farl.sb3.fast import Fast

        algorithm = Fast(algorithm)
    return FAR(algorithm)


def _bare(algorithm: type[Any], fast: bool) -> Any:
    """Return what pickle fills."""
    return object.__new__(_class_of(algorithm, fast))


def _reduce_class(made: Any) -> Any:
    return (_class_of, _origin(made)) if "algorithm_class" in vars(made) else made.__qualname__


register_for_pickle(FARClass, _reduce_class)
