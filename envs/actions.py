"""The check of actions at the border of every environment whose kernels would take whatever they are given."""

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["check_actions"]


def check_actions(actions: npt.ArrayLike, n_actions: int, n_envs: int) -> npt.NDArray[np.int64]:
    """Return discrete actions as int64[E].

    :param actions: one whole number from 0 to ``n_actions - 1`` for each environment
    :param n_envs: E
    :raises ValueError: if they are anything else
    """
    given: npt.NDArray[Any] = np.asarray(actions)
    if given.shape != (n_envs,):
        raise ValueError(f"one action for each of {n_envs} environments is needed, got the shape {list(given.shape)}")
    if given.dtype.kind not in "iu":
        raise ValueError(f"action must be a whole number in 0..{n_actions - 1}, got {given[0]!r} ({given.dtype})")
    if len(given) and (given.min() < 0 or given.max() >= n_actions):
        env = int(((given < 0) | (given >= n_actions)).argmax())
        where = f" in environment {env}" if n_envs > 1 else ""
        raise ValueError(f"action must be in 0..{n_actions - 1}, got {given[env]}{where}")
    return given.astype(np.int64, copy=False)
