"""What goes into a step of a curiosity and what comes out of it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from farl.curiosity.module import Transitions
from farl.fragmentation import Events
from farl.fragmentation.recall import Where


class Seen(NamedTuple):
    """One step of E environments.

    :ivar transitions: E of them
    :ivar starts: bool[E], True where this is the first transition of an episode
    :ivar where: one JSON-able mapping per environment that describes the place, kept with the graph's edges
    """

    transitions: Transitions
    starts: npt.NDArray[np.bool_]
    where: Where | None = None


class CuriosityStep(NamedTuple):
    """What one step of E environments gave.

    :ivar surprisal: float64[E], raw prediction error under the fragment that is active after the step
    :ivar intrinsic_reward: float64[E], the module's bonus divided by the fragment's reward norm; 0 during the warm-up
    :ivar events: fragments before and after
    """

    surprisal: npt.NDArray[np.float64]
    intrinsic_reward: npt.NDArray[np.float64]
    events: Events


def all_transitions(block: Sequence[Seen]) -> Transitions:
    """Return the transitions of T steps, [T * E, ...], step by step."""
    if len(block) == 1:
        return block[0].transitions
    return Transitions(*(torch.cat(parts) for parts in zip(*(seen.transitions for seen in block), strict=True)))
