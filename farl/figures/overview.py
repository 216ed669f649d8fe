"""One picture of an exploration: the map of fragments, the memory graph on the same ground, and the surprisal."""

import networkx as nx
import numpy as np
from matplotlib.figure import Figure

from farl.exploration.colors import FragmentColors
from farl.exploration.records import Trace, Visits
from farl.figures.canvas import HEAD, add_axes, new_figure
from farl.figures.graph import draw_graph
from farl.figures.maps import draw_fragments
from farl.figures.surprisal import draw_trace

__all__ = ["exploration_overview"]

_WIDTH, _FOOT, _TRACE = 10.0, 0.45, 3.3


def exploration_overview(
    visits: Visits | None,
    trace: Trace | None,
    graph: "nx.Graph[int] | None",
    colors: FragmentColors | None = None,
    opened: int | None = None,
) -> Figure:
    """Draw all there is of a map, a memory graph and a trace.

    :param opened: how many fragments there have been
    :raises ValueError: if there is nothing to draw
    """
    if visits is None and trace is None and graph is None:
        raise ValueError("nothing to draw: give visits, a trace or a graph")
    if colors is None:
        colors = FragmentColors().updated(visits.sizes() if visits is not None else trace.usage() if trace else {})
    aspect = visits.reachable.shape[0] / visits.reachable.shape[1] if visits is not None else 0.7
    panels = [part for part in (visits, graph) if part is not None]
    # A map that is much wider than high gets the whole width, and the graph its own row below.
    columns = len(panels) if aspect > 0.4 else min(len(panels), 1)
    rows = -(-len(panels) // columns) if columns else 0
    wide = (_WIDTH - 0.2 * (columns + 1)) / max(columns, 1)
    high = float(np.clip(wide * aspect, 0.6, 6.0))
    below = _TRACE if trace is not None else 0.0
    total = rows * (HEAD + high + _FOOT) + below
    figure = new_figure(_WIDTH, total)
    for number, part in enumerate(panels):
        row, column = divmod(number, columns)
        left, bottom = 0.2 + column * (wide + 0.2), below + (rows - 1 - row) * (HEAD + high + _FOOT)
        box = (left, bottom, wide, HEAD + high + _FOOT)
        axes = add_axes(figure, (left, bottom + _FOOT, wide, high))
        if part is visits and visits is not None:
            draw_fragments(figure, box, axes, visits, colors)
        elif graph is not None:
            known = {}
            if visits is not None:
                known = {"sizes": visits.sizes(), "positions": visits.centers(), "reachable": visits.reachable}
            draw_graph(figure, box, axes, graph, colors, opened=opened, **known)  # type: ignore[arg-type]
    if trace is not None:
        draw_trace(figure, (0.2, 0.0, _WIDTH - 0.4, _TRACE), trace, colors)
    return figure
