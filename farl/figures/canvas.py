"""What all pictures share: figures without pyplot, titles, legends, and pixels.

Places are given in inches instead of being solved for: a layout engine would take longer than the drawing itself.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import EngFormatter

from farl.figures.palette import INK, MUTED, UNVISITED, WALL

__all__ = ["HEAD", "WIDTH", "Box", "figure_array"]

WIDTH = 5.0
"""Inches: TensorBoard shows a picture of 500 pixels at about two thirds of its size."""
HEAD = 0.56
"""Inches that a title and a line of detail take."""
DPI = 100

Box = tuple[float, float, float, float]
"""Left, bottom, width and height of a part of a figure, in inches."""


def new_figure(width: float, height: float) -> Figure:
    """Return an empty white figure of so many inches."""
    return Figure((width, height), dpi=DPI, facecolor="white")


def add_axes(figure: Figure, box: Box) -> Axes:
    """Add axes at a place in inches."""
    width, height = figure.get_size_inches()
    left, bottom, wide, high = box
    return figure.add_axes((left / width, bottom / height, wide / width, high / height))


def figure_array(figure: Figure) -> npt.NDArray[np.uint8]:
    """Render a figure to pixels, uint8[height, width, 3]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]


def title(figure: Figure, box: Box, text: str, detail: str = "") -> None:
    """Write a title and a line of detail into the upper ``HEAD`` inches of a box."""
    width, height = figure.get_size_inches()
    left, top = box[0] / width, box[1] + box[3]
    figure.text(left, (top - 0.07) / height, text, fontsize=11.5, fontweight="bold", color=INK, va="top")
    figure.text(left, (top - 0.31) / height, detail, fontsize=9, color=MUTED, va="top")


def plural(n: int, noun: str) -> str:
    """Return "1 fragment", "2 fragments"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def ground(axes: Axes, pixels: npt.NDArray[Any], **kwargs: Any) -> Any:
    """Draw a picture of cells, each a crisp square, without ticks and frame."""
    image = axes.imshow(pixels, interpolation="nearest" if max(pixels.shape[:2]) <= 256 else "antialiased", **kwargs)
    axes.set(xticks=[], yticks=[], autoscale_on=False)
    axes.spines[:].set_visible(False)
    return image


def world_pixels(reachable: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return the colours of cells that can be reached and of walls, float64[H, W, 3]."""
    return np.where(reachable[..., None], to_rgb(UNVISITED), to_rgb(WALL))


def label(axes: Axes, x: float, y: float, text: object) -> None:
    """Write a fragment's number where it can be read on any colour."""
    axes.text(
        x, y, str(text), ha="center", va="center", fontsize=10, fontweight="bold", color="white", zorder=5,
        clip_on=True, path_effects=[withStroke(linewidth=2.2, foreground=INK)],
    )  # fmt: skip


def marker(shape: str, face: str, text: str, size: float = 5.5, edge: str = INK) -> Line2D:
    """Return a legend's entry for a mark."""
    return Line2D(
        [], [], linestyle="", marker=shape, markersize=size, markerfacecolor=face, markeredgecolor=edge, label=text
    )


def legend_below(axes: Axes, handles: Sequence[Any], ncols: int | None = None) -> None:
    """Put a legend under the axes."""
    if handles:
        axes.legend(
            handles=list(handles), loc="upper center", bbox_to_anchor=(0.5, 0), ncols=ncols or len(handles),
            fontsize=9, frameon=False, borderaxespad=0.3, handletextpad=0.4, columnspacing=1.2, handlelength=1.2,
        )  # fmt: skip


def timesteps_axis(axes: Axes, first: float, last: float) -> None:
    """Let the horizontal axis count timesteps."""
    axes.set_xlim(first, max(last, first + 1))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel("timesteps", fontsize=9, color=INK)
    axes.tick_params(labelsize=8.5, colors=MUTED)
    axes.spines[["top", "right"]].set_visible(False)
