"""Worlds without cells: observations on two axes."""

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from farl.exploration.colors import FragmentColors
from farl.exploration.records import FloatArray, Plane
from farl.figures.canvas import HEAD, WIDTH, add_axes, label, new_figure, plural, title
from farl.figures.palette import INK, MUTED, SEQUENTIAL, UNVISITED

__all__ = ["plane_fragments", "plane_visits"]

_BINS = 48


def plane_visits(plane: Plane) -> Figure:
    """Draw how often each part of the plane was visited, on a logarithmic scale."""
    counts, extent, _ = _binned(plane)
    total = counts.sum(axis=0)
    part = np.count_nonzero(total) / total.size
    detail = f"{len(plane.places):,} of its observations, in {part:.0%} of the squares"
    figure, axes = _figure(plane, "Where the agent went", detail)
    total[total == 0] = np.nan
    norm = LogNorm(1, max(float(np.nanmax(total, initial=1.0)), 2))
    axes.imshow(total, norm=norm, cmap=SEQUENTIAL, **_placed(extent))
    return figure


def plane_fragments(plane: Plane, colors: FragmentColors) -> Figure:
    """Draw which fragment was most active in each part of the plane: the ten used most in colour, the others grey."""
    counts, extent, ids = _binned(plane)
    owner = np.where(counts.sum(axis=0) > 0, counts.argmax(axis=0), -1)
    detail = f"{plural(len(ids), 'fragment')}; the ten used most in colour, with their number"
    figure, axes = _figure(plane, "Where it fragmented", detail)
    pixels = np.concatenate([colors.rgb(ids)[owner], (owner >= 0)[..., None]], axis=2)
    axes.imshow(pixels, **_placed(extent))
    for layer, fragment in enumerate(ids.tolist()):
        if fragment in colors and (owner == layer).any():
            row, column = np.unravel_index(np.where(owner == layer, counts[layer], -1.0).argmax(), owner.shape)
            x = extent[0] + (column + 0.5) / _BINS * (extent[1] - extent[0])
            y = extent[2] + (row + 0.5) / _BINS * (extent[3] - extent[2])
            label(axes, float(x), float(y), fragment)
    return figure


def _figure(plane: Plane, text: str, detail: str) -> tuple[Figure, Axes]:
    figure = new_figure(WIDTH, HEAD + 4.1)
    title(figure, (0.12, 0.0, WIDTH - 0.2, HEAD + 4.1), text, detail)
    axes = add_axes(figure, (0.75, 0.55, WIDTH - 0.95, 3.5))
    axes.set_facecolor(UNVISITED)
    axes.set_xlabel(plane.names[0], fontsize=9.5, color=INK)
    axes.set_ylabel(plane.names[1], fontsize=9.5, color=INK)
    axes.tick_params(labelsize=8.5, colors=MUTED)
    axes.spines[:].set_visible(False)
    return figure, axes


def _placed(extent: FloatArray) -> dict[str, Any]:
    return {"origin": "lower", "extent": tuple(extent.tolist()), "aspect": "auto", "interpolation": "nearest"}


def _binned(plane: Plane) -> tuple[FloatArray, FloatArray, npt.NDArray[np.int64]]:
    """Counts by fragment, row and column, float64[F, 48, 48]; the borders, float64[4]; the fragments, int64[F]."""
    low, high = np.quantile(plane.places, 0.001, axis=0), np.quantile(plane.places, 0.999, axis=0)
    room = np.maximum((high - low) * 0.03, 1e-9)
    low, high = low - room, high + room
    at = np.clip(((plane.places - low) / (high - low) * _BINS).astype(np.int64), 0, _BINS - 1)
    ids, layer = np.unique(np.asarray(plane.fragments, np.int64), return_inverse=True)
    counts = np.zeros((len(ids), _BINS, _BINS))
    np.add.at(counts, (layer, at[:, 1], at[:, 0]), 1)
    return counts, np.array([low[0], high[0], low[1], high[1]]), ids
