"""Colours of fragments: ten for those used most, grey for the rest."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["COLORS", "OTHERS", "FragmentColors", "in_turn"]

FloatArray = npt.NDArray[np.float64]

COLORS = (
    "#0069ff", "#d27800", "#960f96", "#69e1b4", "#784b1e", "#ffd200", "#b44b78", "#69a5ff", "#c3e178", "#78e1ff",
)  # fmt: skip
"""Ten colours at least 30 apart (CIE 1976) for normal eyes, for deuteranopes and for protanopes.

Found by search over the sRGB cube, with the simulation of Machado, Oliveira and Fernandes (2009).
"""
OTHERS = "#9a9a9a"


@dataclass(frozen=True)
class FragmentColors:
    """Which fragment has which of the ten colours; all others are grey.

    :param slots: fragment of each colour, -1 where a colour is free
    """

    slots: tuple[int, ...] = (-1,) * len(COLORS)

    def updated(self, usage: Mapping[int, float]) -> "FragmentColors":
        """Return the colours for fragments used so much.

        A fragment keeps its colour for as long as it is among the ten used most.

        :param usage: fragment -> visits, or another measure of use
        """
        most = sorted((i for i in usage if i >= 0), key=lambda i: (-usage[i], i))[: len(self.slots)]
        slots = [i if i in most else -1 for i in self.slots]
        for fragment in most:
            if fragment not in slots:
                slots[slots.index(-1)] = fragment
        return FragmentColors(tuple(slots))

    def rgb(self, fragment_ids: Iterable[int]) -> FloatArray:
        """Return the colour of each fragment, float64[F, 3] in [0, 1]."""
        color = {i: COLORS[slot] for slot, i in enumerate(self.slots) if i >= 0}
        return _rgb(color.get(int(i), OTHERS) for i in fragment_ids)

    def __contains__(self, fragment: object) -> bool:
        return fragment in self.slots and fragment != -1


def in_turn(fragment_ids: npt.ArrayLike) -> FloatArray:
    """Return the ten colours in turn, by the fragments' numbers, int64[F], float64[F, 3] in [0, 1].

    For maps: there a fragment is told by its place, and keeps its colour however many there are.
    """
    return _rgb(COLORS)[np.asarray(fragment_ids, np.int64) % len(COLORS)]


def _rgb(colors: Iterable[str]) -> FloatArray:
    values = [[int(color[at : at + 2], 16) for at in (1, 3, 5)] for color in colors]
    return np.array(values, np.float64).reshape(-1, 3) / 255
