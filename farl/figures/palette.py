"""The colours of everything but fragments."""

from matplotlib.colors import LinearSegmentedColormap

__all__ = ["DIVERGING", "INK", "MUTED", "SEQUENTIAL", "UNVISITED", "WALL"]

INK, MUTED, WALL, UNVISITED = "#22272e", "#57606a", "#3d444d", "#f3f2ee"

SEQUENTIAL = LinearSegmentedColormap.from_list("farl_sequential", ["#dcebf7", "#8fb8de", "#3b76b5", "#123a6b"])
"""Little to much, for numbers without a middle."""
DIVERGING = LinearSegmentedColormap.from_list("farl_diverging", ["#1f5fbf", "#9dbbe6", "#efeeea", "#f0b27a", "#b3500b"])
"""Blue below, orange above a middle."""
