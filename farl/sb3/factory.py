"""``FAR(Algorithm)``: any Stable-Baselines3 algorithm with curiosity under fragmentation and recall."""

from functools import cache
from typing import Any, TypeVar

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from farl.sb3.algorithm import FARAlgorithm
from farl.sb3.off_policy import OffPolicyFAR
from farl.sb3.on_policy import OnPolicyFAR

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
    }
    return type(f"FAR{algorithm.__name__}", (mixin, algorithm), members)
