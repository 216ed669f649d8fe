"""FARL in Stable-Baselines3: the ``FAR(Algorithm)`` factory, its settings, and the exploration callback."""

from farl.sb3.config import FARConfig
from farl.sb3.factory import FAR

__all__ = ["FAR", "FARConfig"]
