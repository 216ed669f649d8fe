"""Tasks in sequence: how good the agent is on each after each."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from farl.figures.canvas import HEAD, WIDTH, add_axes, new_figure, plural, title
from farl.figures.palette import INK, MUTED, SEQUENTIAL

__all__ = ["square", "task_matrix"]

_NUMBERED = 12


def square(returns: Sequence[Sequence[float]]) -> npt.NDArray[np.float64]:
    """Return the means after each task as a matrix, float64[tasks, tasks], NaN where nothing was evaluated."""
    n = max((len(row) for row in returns), default=0)
    matrix = np.full((len(returns), n), np.nan)
    for row, values in enumerate(returns):
        matrix[row, : len(values)] = values
    return matrix


def task_matrix(returns: Sequence[Sequence[float]]) -> Figure:
    """Draw the mean return on each task, by column, after each task learnt, by row.

    :param returns: after each finished task the mean return on it and on each before it
    """
    matrix = square(returns)
    side = WIDTH - 1.0
    high = max(side * matrix.shape[0] / max(matrix.shape[1], 1), 0.6)
    figure = new_figure(WIDTH, HEAD + high + 0.6)
    box = (0.12, 0.0, WIDTH - 0.2, HEAD + high + 0.6)
    title(
        figure, box, "What became of each task", f"mean return after {plural(len(matrix), 'task')}; rows: learnt so far"
    )
    axes = add_axes(figure, (0.65, 0.5, side, high))
    axes.imshow(matrix, cmap=SEQUENTIAL, aspect="auto")
    if matrix.size and max(matrix.shape) <= _NUMBERED:
        low, span = np.nanmin(matrix), max(float(np.ptp(matrix[np.isfinite(matrix)])), 1e-9)
        for (row, column), value in np.ndenumerate(matrix):
            if np.isfinite(value):
                shade = "white" if (value - low) / span > 0.55 else INK
                axes.text(column, row, f"{value:.3g}", ha="center", va="center", fontsize=9.5, color=shade)
    axes.set_xticks(range(matrix.shape[1]))
    axes.set_yticks(range(matrix.shape[0]))
    axes.set_xlabel("evaluated on task", fontsize=9.5, color=INK)
    axes.set_ylabel("after task", fontsize=9.5, color=INK)
    axes.tick_params(labelsize=8.5, colors=MUTED, length=0)
    axes.spines[:].set_visible(False)
    return figure
