"""What a curiosity has forgotten, measured while it learns: the error where it has been before."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

FloatArray = npt.NDArray[np.float64]

AWAY = 100
"""Steps after which coming back counts as a return, not as lingering."""
_DECADES = 5  # of the time since the last visit: 1, 10, 100, 1 000, 10 000 steps and more
_BITS = 60


class ForgettingMeter:
    """Compares the error at a place with that of the last visit there, in bounded memory and a fixed time a step.

    A place is what has the same signs in random projections of its recall key (Charikar, 2002): the same observation,
    or in continuous worlds one that is all but the same. Each is kept with the time and the error of its last visit in
    a table of fixed size, in which a new place takes over the row of another when their numbers collide; a place whose
    row was taken counts as neither new nor known. Environments share the table.

    :param capacity: rows of the table
    :param seed: of the projections
    """

    def __init__(self, capacity: int = 2**15, seed: int = 0) -> None:
        self.capacity = capacity
        self._seed = seed
        self._projections: npt.NDArray[np.float32] | None = None
        self._places = np.full(capacity, -1, np.int64)
        self._visited = np.zeros(capacity, np.int64)
        self._errors = np.zeros(capacity)
        self._time = 0
        self._clear()

    def observe(self, keys: npt.NDArray[np.float32], errors: FloatArray, rewards: FloatArray) -> None:
        """Take in one step of E environments.

        :param keys: float32[E, d], recall keys of what is seen
        :param errors: float64[E], raw prediction errors
        :param rewards: float64[E], the intrinsic rewards they gave
        """
        if self._projections is None:
            rng = np.random.default_rng(self._seed)
            self._projections = rng.standard_normal((keys.shape[1], _BITS)).astype(np.float32)
        places = (keys @ self._projections > 0) @ (1 << np.arange(_BITS))
        rows = places % np.int64(self.capacity - 1)
        known = self._places[rows] == places
        age = self._time - self._visited[rows]
        self._time += 1

        fresh = self._places[rows] < 0
        self._first += (errors[fresh].sum(), fresh.sum())
        decade = np.minimum(np.log10(np.maximum(age[known], 1)).astype(np.int64), _DECADES - 1)
        np.add.at(self._by_age, decade, np.stack([errors[known], np.ones(len(decade))], axis=1))
        back = known & (age >= AWAY)
        positive = back & (errors > 0.0) & (self._errors[rows] > 0.0)
        ratio = np.log(errors[positive] / self._errors[rows][positive])
        self._ratio += (ratio.sum(), len(ratio))
        self._revisits += (errors[back].sum(), rewards[back].sum(), back.sum())
        self._places[rows], self._visited[rows], self._errors[rows] = places, self._time - 1, errors

    def summary(self) -> dict[str, float]:
        """Return what was measured since the last call; what there was no occasion to measure is left out.

        - ``forgetting_ratio``: geometric mean, over returns after at least 100 steps, of the error now over the error
          at the last visit: above 1 the visit has been forgotten, below 1 more has been learnt since
        - ``revisit_bonus``: mean intrinsic reward of such returns
        - ``novelty_contrast``: mean error at first sight over mean error on return: how well the reward tells the new
          from the known
        - ``error_after_1``, ``_10``, ... ``_10000``: mean raw error where the last visit lies at least so many steps
          back, and less than ten times as many (but for the last)
        """
        found: dict[str, float] = {}
        error, reward, returns = self._revisits
        if self._ratio[1]:
            found["forgetting_ratio"] = float(np.exp(self._ratio[0] / self._ratio[1]))
        if returns:
            found["revisit_bonus"] = float(reward / returns)
        if returns and error > 0.0 and self._first[1]:
            found["novelty_contrast"] = float(self._first[0] / self._first[1] / (error / returns))
        for decade, (total, count) in enumerate(self._by_age):
            if count:
                found[f"error_after_{10**decade}"] = float(total / count)
        self._clear()
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return the table and what has been measured since the last summary."""
        held = np.flatnonzero(self._places >= 0)
        table = {
            "rows": held,
            "places": self._places[held],
            "visited": self._visited[held],
            "errors": self._errors[held],
        }
        sums = {"first": self._first, "ratio": self._ratio, "revisits": self._revisits, "by_age": self._by_age}
        arrays = {name: torch.from_numpy(array.copy()) for name, array in (table | sums).items()}
        return arrays | {"time": self._time, "seed": self._seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        arrays = {name: value.cpu().numpy().copy() for name, value in state.items() if torch.is_tensor(value)}
        self._places[:] = -1
        self._places[arrays["rows"]] = arrays["places"]
        self._visited[arrays["rows"]], self._errors[arrays["rows"]] = arrays["visited"], arrays["errors"]
        self._first, self._ratio = arrays["first"], arrays["ratio"]
        self._revisits, self._by_age = arrays["revisits"], arrays["by_age"]
        self._time, self._seed, self._projections = int(state["time"]), int(state["seed"]), None

    def _clear(self) -> None:
        self._first, self._ratio = np.zeros(2), np.zeros(2)  # sum and number
        self._revisits = np.zeros(3)  # sum of errors, of rewards, number
        self._by_age = np.zeros((_DECADES, 2))  # sum and number
