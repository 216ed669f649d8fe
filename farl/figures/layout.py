"""Where the nodes and edges of a drawn graph lie."""

import networkx as nx
import numpy as np
import numpy.typing as npt

__all__ = ["curve", "spread", "spring_layout"]

FloatArray = npt.NDArray[np.float64]

_GOLDEN_RATIO = 0.6180339887498949


def spring_layout(graph: "nx.Graph[int]") -> FloatArray:
    """Place nodes by their edges alone, the same way every time: float64[N, 2], in the order of ``graph.nodes``."""
    layout = nx.spring_layout(nx.Graph(graph), k=4 / np.sqrt(max(len(graph), 1)), iterations=100, seed=0)
    return np.array([layout[node] for node in graph.nodes], np.float64).reshape(-1, 2)


def spread(places: FloatArray, ground: tuple[int, ...] | None) -> FloatArray:
    """Push places (x, y), float64[N, 2], apart that would hide each other, but not off the ground [H, W]."""
    if len(places) < 2:
        return places
    extent = max(ground) if ground is not None else np.ptp(places, axis=0).max()
    least = extent / max(12.0, 2 * np.sqrt(len(places)))
    angle = 2 * np.pi * _GOLDEN_RATIO * np.arange(len(places))
    places = places + 1e-3 * np.stack([np.cos(angle), np.sin(angle)], axis=1)  # parts those that coincide
    for _ in range(40):
        gap = places[:, None] - places[None]
        distance = np.maximum(np.linalg.norm(gap, axis=2, keepdims=True), 1e-12)
        push = np.where(distance < least, gap / distance * (least - distance) / 2, 0.0)
        places = places + push.sum(axis=1)
        if ground is not None:
            places = np.clip(places, 0, np.array(ground)[::-1] - 1)
    return places


def curve(a: FloatArray, b: FloatArray, bend: float) -> FloatArray:
    """Points, float64[16, 2], of a curve from ``a`` to ``b``, off the straight line by ``bend`` of its length."""
    along = np.linspace(0, 1, 16)[:, None]
    side = np.array([a[1] - b[1], b[0] - a[0]])
    return np.asarray(a + along * (b - a) + 4 * along * (1 - along) * bend * side)
