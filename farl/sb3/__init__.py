"""FARL in Stable-Baselines3: ``FAR(Algorithm)``, ``FARVecEnv`` and their settings, and ``Fast(Algorithm)``."""

from farl.sb3.config import FARConfig
from farl.sb3.factory import FAR
from farl.sb3.fast import Fast
from farl.sb3.vec_env import FARVecEnv

__all__ = ["FAR", "FARConfig", "FARVecEnv", "Fast"]
