"""Pictures of an exploration: where the agent went, what surprised it, what it remembers.

Everything is drawn on ``matplotlib.figure.Figure`` objects, without pyplot and its global state, so it works without a
display and in many processes. Within one set of pictures a fragment has one colour, and each picture is a handful of
artists however large the map is. ``records`` says what they are drawn from.
"""

from farl.exploration.colors import FragmentColors
from farl.exploration.records import Cells, Episode, KeyFrame, Particles, Plane, Trace, Visits
from farl.figures.canvas import figure_array
from farl.figures.gallery import gallery
from farl.figures.graph import memory_graph
from farl.figures.maps import cell_map, episode_way, fragment_map, visit_map, world_maps
from farl.figures.overview import exploration_overview
from farl.figures.particles import particle_weights
from farl.figures.plane import plane_fragments, plane_visits
from farl.figures.surprisal import fragment_timeline, surprisal_trace
from farl.figures.tasks import task_matrix

__all__ = [
    "Cells", "Episode", "FragmentColors", "KeyFrame", "Particles", "Plane", "Trace", "Visits", "cell_map",
    "episode_way", "exploration_overview", "figure_array", "fragment_map", "fragment_timeline",
    "gallery", "memory_graph", "particle_weights", "plane_fragments", "plane_visits", "surprisal_trace", "task_matrix",
    "visit_map", "world_maps",
]  # fmt: skip
