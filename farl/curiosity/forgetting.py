"""What a curiosity has forgotten, measured while it learns: the error where it has been before."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

AWAY = 100
"""Steps after which coming back counts as a return, not as lingering."""
_DECADES = 5  # of the time since the last visit: 1, 10, 100, 1 000, 10 000 steps and more
_BITS = 60
_AT_ONCE = 64  # steps that are looked up together: one at a time, it would cost as much as the curiosity itself


class _Visits(NamedTuple):
    """The visits before N visits.

    :ivar places: int64[N], -1 for none
    :ivar times: int64[N]
    :ivar errors: float64[N]
    """

    places: IntArray
    times: IntArray
    errors: FloatArray


class ForgettingMeter:
    """Compares the error at a place with that of the last visit there, in bounded memory and time.

    A place is what has the same signs in random projections of its recall key (Charikar, 2002): the same observation,
    or in continuous worlds one that is all but the same. Each is kept with the time and the error of its last visit in
    a table of fixed size, in which a new place takes over the row of another when their numbers collide; a place whose
    row was taken counts as neither new nor known. Environments share the table.

    :param capacity: rows of the table
    :param seed: draws the projections
    """

    def __init__(self, capacity: int = 2**15, seed: int = 0) -> None:
        self.capacity = capacity
        self._seed = seed
        self._projections: torch.Tensor | None = None
        self._places = np.full(capacity, -1, np.int64)
        self._visited = np.zeros(capacity, np.int64)
        self._errors = np.zeros(capacity)
        self._time = 0
        self._waiting: list[tuple[npt.NDArray[np.float32], FloatArray, FloatArray]] = []  # steps not looked up yet
        self._clear()

    def observe(self, keys: npt.NDArray[np.float32], errors: FloatArray, rewards: FloatArray) -> None:
        """Take in one step of E environments.

        :param keys: float32[E, d], recall keys of what is seen
        :param errors: float64[E], raw prediction errors
        :param rewards: float64[E], the intrinsic rewards they gave
        """
        self._waiting.append((keys, errors, rewards))
        if len(self._waiting) == _AT_ONCE:
            self._look_up()

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
        self._look_up()
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

    @property
    def held_bytes(self) -> int:
        """Size of the table, in bytes."""
        return self._places.nbytes + self._visited.nbytes + self._errors.nbytes

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
        waiting = [[torch.from_numpy(array) for array in step] for step in self._waiting]
        return arrays | {"time": self._time, "seed": self._seed, "waiting": waiting}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        arrays = {name: value.cpu().numpy().copy() for name, value in state.items() if torch.is_tensor(value)}
        self._places[:] = -1
        self._places[arrays["rows"]] = arrays["places"]
        self._visited[arrays["rows"]], self._errors[arrays["rows"]] = arrays["visited"], arrays["errors"]
        self._first, self._ratio = arrays["first"], arrays["ratio"]
        self._revisits, self._by_age = arrays["revisits"], arrays["by_age"]
        self._time, self._seed, self._projections = int(state["time"]), int(state["seed"]), None
        self._waiting = [tuple(array.cpu().numpy() for array in step) for step in state["waiting"]]

    def _look_up(self) -> None:
        """Compare all that waits with what was there before, step by step, in one go."""
        if not self._waiting:
            return
        keys, errors, rewards = (np.concatenate(arrays) for arrays in zip(*self._waiting, strict=True))
        times = self._time + np.repeat(np.arange(len(self._waiting)), [len(seen) for seen, _, _ in self._waiting])
        places = self._hash(keys)
        self._measure(places, times, errors, rewards, self._visits_before(places, times, errors))
        # Of several visits to a row the last one stays.
        rows = self._rows(places)
        self._places[rows], self._visited[rows], self._errors[rows] = places, times, errors
        self._time += len(self._waiting)
        self._waiting = []

    def _visits_before(self, places: IntArray, times: IntArray, errors: FloatArray) -> _Visits:
        """Return the last visit to the row of each of N visits in an earlier step: of this block, or of the table."""
        rows = self._rows(places)
        # In the order of row and step, it is the one before the first of the same row and step.
        stamp = rows * (times[-1] + 1) + times
        order = np.argsort(stamp, kind="stable")
        latest = order[np.searchsorted(stamp[order], stamp) - 1]
        in_block = (rows[latest] == rows) & (times[latest] < times)
        return _Visits(
            np.where(in_block, places[latest], self._places[rows]),
            np.where(in_block, times[latest], self._visited[rows]),
            np.where(in_block, errors[latest], self._errors[rows]),
        )

    def _measure(
        self, places: IntArray, times: IntArray, errors: FloatArray, rewards: FloatArray, before: _Visits
    ) -> None:
        """Add N visits to the sums: each is a first one, a return to a place, or, where places collide, neither."""
        first, known, age = before.places < 0, before.places == places, times - before.times
        self._first += (errors[first].sum(), first.sum())
        decade = np.minimum(np.log10(np.maximum(age[known], 1)).astype(np.int64), _DECADES - 1)
        np.add.at(self._by_age, decade, np.stack([errors[known], np.ones(len(decade))], axis=1))
        back = known & (age >= AWAY)
        self._revisits += (errors[back].sum(), rewards[back].sum(), back.sum())
        positive = back & (errors > 0.0) & (before.errors > 0.0)
        self._ratio += (np.log(errors[positive] / before.errors[positive]).sum(), positive.sum())

    def _rows(self, places: IntArray) -> IntArray:
        return places % np.int64(self.capacity - 1)

    def _hash(self, keys: npt.NDArray[np.float32]) -> IntArray:
        """Number the places that N keys stand for, int64[N]."""
        if self._projections is None:
            rng = np.random.default_rng(self._seed)
            drawn = rng.standard_normal((keys.shape[1], _BITS)).astype(np.float32)
            self._projections = torch.from_numpy(drawn)
        # torch's product, not numpy's: it keeps to torch.set_num_threads.
        signs = (torch.from_numpy(keys) @ self._projections > 0).numpy()
        numbers: IntArray = np.packbits(signs, axis=1, bitorder="little").view("<i8")[:, 0]
        return numbers

    def _clear(self) -> None:
        self._first, self._ratio = np.zeros(2), np.zeros(2)  # sum and number
        self._revisits = np.zeros(3)  # sum of errors, of rewards, number
        self._by_age = np.zeros((_DECADES, 2))  # sum and number
