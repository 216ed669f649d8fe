"""FARL in Stable-Baselines3: ``FAR(Algorithm)``, ``FARVecEnv``, their settings, and the exploration callback."""

from farl.sb3.config import FARConfig
from farl.sb3.factory import FAR
from farl.sb3.vec_env import FARVecEnv

__all__ = ["FAR", "FARConfig", "FARVecEnv"]
