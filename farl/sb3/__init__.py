"""FARL in Stable-Baselines3: ``FAR(Algorithm)``, ``FARVecEnv`` and their settings, and ``Fast(Algorithm)``."""

from typing import TYPE_CHECKING

from farl.lazy import exports

if TYPE_CHECKING:
    from farl.sb3.config import FARConfig
    from farl.sb3.factory import FAR
    from farl.sb3.fast import Fast
    from farl.sb3.vec_env import FARVecEnv

__all__ = ["FAR", "FARConfig", "FARVecEnv", "Fast"]

__getattr__ = exports(
    __name__,
    {
        "FARConfig": "farl.sb3.config",
        "FAR": "farl.sb3.factory",
        "Fast": "farl.sb3.fast",
        "FARVecEnv": "farl.sb3.vec_env",
    },
)
