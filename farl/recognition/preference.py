"""Which of several untried actions an agent tries first."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

IntArray = npt.NDArray[np.int64]

_SPELL = 64
"""Steps for which an agent keeps to its preference."""
_EXPLORING = 8
"""One spell in so many goes to an action that is not the best."""
_LEAST = 1e-3
"""Of the best rate, what every action is taken to have: none is worth nothing."""
_KEPT = 0.9
"""Share of what is known that is kept from one spell to the next."""


class Preference:
    """Learns which action is worth trying first: that by which agents have found most new places a step of late.

    Where all actions of all places are tried in one order, the order decides how far agents get: one that turns at
    every place before it goes on stays where it is. Each action is preferred by some agent in turn, and all others
    follow the one that finds most: a bandit whose past fades, for a world runs out of new places.

    :param n_envs: number of agents E
    :param n_actions: number of actions A
    """

    def __init__(self, n_envs: int, n_actions: int) -> None:
        self._steps, self._found = np.zeros(n_actions), np.zeros(n_actions)
        self._clock = 0
        self.start(n_envs)

    def start(self, n_envs: int) -> None:
        """Begin with E agents; what is known of the actions stays."""
        self.preferred: IntArray = np.arange(n_envs) % len(self._steps)
        """int64[E], the action that each agent tries first."""

    def observe(self, found: npt.NDArray[np.bool_]) -> None:
        """Take in which agents have just found a new place, bool[E]."""
        self._steps += np.bincount(self.preferred, minlength=len(self._steps))
        self._found += np.bincount(self.preferred, found, len(self._found))
        self._clock += 1
        if self._clock % _SPELL == 0:
            n_envs, n_actions = len(self.preferred), len(self._steps)
            turn = np.arange(n_envs) + self._clock // _SPELL
            best = int(self._rates.argmax())
            self.preferred = np.where(turn % _EXPLORING == 0, turn // _EXPLORING % n_actions, best)
            self._steps *= _KEPT
            self._found *= _KEPT

    @property
    def worth(self) -> npt.NDArray[np.float64]:
        """How much it promises to try each action, float64[A] up to 1: the square of how many new places agents find
        that prefer it, beside the best. Rooms are left before all in them has been tried."""
        rates = self._rates
        best = float(rates.max())
        return np.maximum(rates / best, _LEAST) ** 2 if best > 0 else np.ones(len(self._steps))

    @property
    def _rates(self) -> npt.NDArray[np.float64]:
        return self._found / np.maximum(self._steps, 1.0)

    def state_dict(self) -> dict[str, Any]:
        """Return preferences and what they are based on."""
        parts = {"preferred": self.preferred, "steps": self._steps, "found": self._found}
        return {name: torch.from_numpy(part.copy()) for name, part in parts.items()} | {"clock": self._clock}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned; another number of agents share the saved preferences out."""
        self.preferred = np.resize(state["preferred"].cpu().numpy(), len(self.preferred))
        self._steps, self._found = (state[name].cpu().numpy().copy() for name in ("steps", "found"))
        self._clock = int(state["clock"])
