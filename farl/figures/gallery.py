"""A gallery of fragments: what the agent saw when each was opened, and how each was used."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from farl.exploration.colors import FragmentColors
from farl.exploration.records import KeyFrame
from farl.figures.canvas import HEAD, WIDTH, add_axes, new_figure, plural, title
from farl.figures.palette import INK, MUTED

__all__ = ["gallery"]

_COLUMNS = 4
_SHOWN = 16
_TEXT = 0.68  # inches: three lines below each frame


def gallery(frames: Sequence[KeyFrame], colors: FragmentColors, opened: int | None = None) -> Figure:
    """Draw the key frame of each of the fragments used most, with visits, recalls and mean surprisal.

    :param frames: fragments with a frame; the others are left out
    :param opened: how many fragments there have been
    """
    shown = sorted((each for each in frames if each.frame is not None), key=lambda each: (-each.visits, each.fragment))
    n, shown = opened if opened is not None else len(shown), shown[:_SHOWN]
    rows = max(-(-len(shown) // _COLUMNS), 1)
    each = (WIDTH - 0.1 * (_COLUMNS + 1)) / _COLUMNS
    figure = new_figure(WIDTH, HEAD + rows * (each + _TEXT))
    box = (0.12, 0.0, WIDTH - 0.2, float(figure.get_size_inches()[1]))
    title(figure, box, "What it saw where it fragmented", f"{plural(n, 'fragment')}; most visits first")
    for number, frame in enumerate(shown):
        row, column = divmod(number, _COLUMNS)
        left, bottom = 0.1 + column * (each + 0.1), (rows - 1 - row) * (each + _TEXT) + 0.5
        axes = add_axes(figure, (left, bottom, each, each))
        axes.imshow(np.asarray(frame.frame), cmap="gray", vmin=0, vmax=255, aspect="auto", interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color(tuple(colors.rgb([frame.fragment])[0]))
        axes.spines[:].set_linewidth(3.0)
        text = f"{frame.visits:,} visits\n{plural(frame.recalls, 'recall')}"
        text += f"\nsurprisal {frame.surprisal:.2g}" if np.isfinite(frame.surprisal) else ""
        axes.text(0, -0.05, text, transform=axes.transAxes, fontsize=7.5, color=MUTED, va="top")
        axes.add_patch(
            Rectangle((0, 0.86), 0.26, 0.14, transform=axes.transAxes, color=tuple(colors.rgb([frame.fragment])[0]))
        )
        axes.text(
            0.13, 0.925, str(frame.fragment), transform=axes.transAxes, fontsize=9, fontweight="bold", color=INK,
            ha="center", va="center",
        )  # fmt: skip
    return figure
