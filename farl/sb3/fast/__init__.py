"""``Fast(Algorithm)``: PPO, A2C and RecurrentPPO, the same to within rounding, in less time."""

from farl.sb3.fast.factory import Fast, why_not_fast

__all__ = ["Fast", "why_not_fast"]
