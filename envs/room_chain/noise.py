"""What spoils a view: colours that are misread, pixels that flicker, things that pass by, light that changes."""

import re
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from farl.envs.room_chain.layout import COLORS, UNSEEN, VIEW_SIZE, one_hot

Codes = npt.NDArray[np.uint8]
Views = npt.NDArray[np.float32]

_KINDS = ("color", "pixel", "distractor", "light")
_LIGHT_DRIFT = 0.1
"""Largest change of the light in one step, as a share of its range."""


class NoiseState(NamedTuple):
    """What noise remembers of each agent.

    :ivar light: float64[E], where the light stands in its range, in [0, 1]
    :ivar passing: int64[E, 8], the cells in view that hold something passing by
    """

    light: npt.NDArray[np.float64]
    passing: npt.NDArray[np.int64]


class ViewNoise:
    """Noise of one kind and strength, new in every step, on the views of any number of agents.

    - ``color-P``: each cell in view shows a colour drawn anew with probability P
    - ``pixel-S``: normal noise of standard deviation S on every number of the observation
    - ``distractor-N``: N cells in view, at most 8, show a random colour and wander through it
    - ``light-S``: all numbers of an agent's view are dimmed alike, by a factor that drifts within [1 - S, 1]

    :param text: kind and strength, such as ``color-.05``; None is no noise
    :raises ValueError: if it is anything else
    """

    def __init__(self, text: str | None) -> None:
        kind, strength = "", 0.0
        if text is not None:
            match = re.fullmatch(r"([a-z]+)-([0-9]*\.?[0-9]+)", text) if isinstance(text, str) else None
            if match is None or match[1] not in _KINDS:
                raise ValueError(f"noise: expected one of {', '.join(f'{name}-X' for name in _KINDS)}, got {text!r}")
            kind, strength = match[1], float(match[2])
            most = 8.0 if kind == "distractor" else 1.0
            if strength > most or (kind == "distractor" and not strength.is_integer()):
                raise ValueError(f"noise {text}: expected {'a whole number up to 8' if most > 1 else 'at most 1'}")
        self.kind, self.strength = kind, strength

    def start(self, n_envs: int, rng: np.random.Generator) -> NoiseState:
        """Return what noise begins with for E agents."""
        return NoiseState(rng.random(n_envs), rng.integers(VIEW_SIZE**2, size=(n_envs, 8)))

    def step(self, state: NoiseState, rng: np.random.Generator) -> NoiseState:
        """Return what noise remembers one step later."""
        if self.kind == "light":
            drift = rng.uniform(-_LIGHT_DRIFT, _LIGHT_DRIFT, len(state.light))
            return state._replace(light=np.clip(state.light + drift, 0.0, 1.0))
        if self.kind == "distractor":
            column, row = np.divmod(state.passing, VIEW_SIZE)
            column, row = (np.clip(at + rng.integers(-1, 2, at.shape), 0, VIEW_SIZE - 1) for at in (column, row))
            return state._replace(passing=column * VIEW_SIZE + row)
        return state

    def views(self, codes: Codes, state: NoiseState, rng: np.random.Generator) -> Views:
        """Return what E agents see, float32[E, VIEW_WIDTH].

        :param codes: uint8[E, VIEW_SIZE ** 2, 2], kind and colour of each cell in view
        """
        if self.kind == "color":
            _redraw_colors(codes, self.strength, rng)
        elif self.kind == "distractor":
            cells = state.passing[:, : int(self.strength)]
            rows = np.arange(len(codes))[:, None]
            shown = codes[rows, cells]
            shown[..., 1] = np.where(shown[..., 0] == UNSEEN, 0, rng.integers(1, COLORS, cells.shape))
            codes[rows, cells] = shown
        seen = one_hot(codes)
        if self.kind == "pixel":
            seen += self.strength * rng.standard_normal(seen.shape, dtype=np.float32)
            seen.clip(0.0, 1.0, out=seen)
        elif self.kind == "light":
            seen *= (1.0 - self.strength * state.light[:, None]).astype(np.float32)
        return seen


@numba.njit(cache=True)
def _redraw_colors(codes: Codes, probability: float, rng: np.random.Generator) -> None:
    for view in range(codes.shape[0]):
        for cell in range(codes.shape[1]):
            if codes[view, cell, 0] != UNSEEN and rng.random() < probability:
                codes[view, cell, 1] = int(rng.random() * COLORS)
