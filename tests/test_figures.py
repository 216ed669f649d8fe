import gc
from typing import Any

import networkx as nx
import numpy as np
import pytest
from matplotlib.figure import Figure

from farl.figures import (
    Trace,
    Visits,
    exploration_overview,
    figure_array,
    fragment_colors,
    memory_graph,
    surprisal_trace,
    visitation_map,
)


def make_visits(height: int = 6, width: int = 9, n_fragments: int = 3, **kwargs: Any) -> Visits:
    """Vertical bands, one a fragment, in a room with a ring of walls."""
    reachable = np.zeros((height, width), bool)
    reachable[1:-1, 1:-1] = True
    band = np.arange(width) * n_fragments // width
    counts = np.array([np.where(reachable & (band == f), 5 + f, 0) for f in range(n_fragments)])
    return Visits(counts, np.arange(n_fragments), reachable, **kwargs)


def make_trace(n: int = 50) -> Trace:
    steps = np.arange(n)
    surprisal = np.random.default_rng(0).random(n) + 0.1
    return Trace(steps, surprisal, surprisal, steps // 20, steps % 20 == 0, steps % 10 == 5, steps % 25 == 7)


def map_pixels(figure: Figure) -> np.ndarray:
    return np.asarray(figure.axes[0].images[0].get_array())


def hue_of(pixel: np.ndarray) -> int:
    """The fragment whose colour is nearest to the pixel, whatever its strength."""
    colors = fragment_colors(range(3))
    tints = np.linspace(0.3, 1, 50)[:, None, None]
    return int(np.abs(tints * colors + 1 - tints - pixel).sum(axis=2).min(axis=0).argmin())


def test_cells_have_the_colour_of_the_fragment_that_visited_them_most() -> None:
    visits = make_visits()
    visits.counts[2, 2, 2] = 100  # a cell of band 0, mostly visited by fragment 2
    pixels = map_pixels(visitation_map(visits))
    assert hue_of(pixels[1, 1]) == 0
    assert hue_of(pixels[2, 2]) == 2
    assert hue_of(pixels[2, 4]) == 1


def test_more_visits_make_a_stronger_colour_and_unvisited_cells_and_walls_have_their_own() -> None:
    visits = make_visits(n_fragments=1)
    visits.counts[0, 2, 2], visits.counts[0, 3, 3] = 1000, 0
    pixels = map_pixels(visitation_map(visits))
    white = np.linalg.norm(1 - pixels, axis=2)
    assert white[2, 2] > white[1, 1]
    assert not np.allclose(pixels[3, 3], pixels[0, 0])
    assert white[3, 3] < white[1, 1] < white[0, 0]


def test_fragment_keeps_its_colour_whatever_others_there_are() -> None:
    np.testing.assert_array_equal(fragment_colors([5, 40, -1])[1], fragment_colors(range(50))[40])
    colors = fragment_colors(range(30))
    assert ((colors >= 0) & (colors <= 1)).all()
    distance = np.linalg.norm(colors[:, None] - colors[None], axis=2) + np.eye(30)
    assert distance.min() > 0.03
    assert distance[:8, :8].min() > 0.25


def test_a_large_map_is_drawn_with_a_handful_of_artists() -> None:
    visits = make_visits(600, 600, 30, fractures=np.ones((600, 600), int), recalls=np.ones((600, 600), int))
    axes = visitation_map(visits).axes[0]
    assert len(axes.images) == 1
    assert len(axes.get_children()) < 40
    assert sum(len(marks.get_offsets()) for marks in axes.collections) < 200


def test_coverage_counts_reachable_cells_only() -> None:
    visits = make_visits(n_fragments=1)
    visits.counts[0, 1, 1:5] = 0
    visits.counts[0, 0, 0] = 3  # not reachable
    assert visits.coverage == pytest.approx(24 / 28)


def test_center_of_a_fragment_is_one_of_its_cells() -> None:
    reachable = np.ones((7, 7), bool)
    ring = np.zeros((1, 7, 7), int)
    ring[0, [0, -1], :] = ring[0, :, [0, -1]] = 1
    ((x, y),) = Visits(ring, np.array([4]), reachable).centers().values()
    assert ring[0, int(y), int(x)] == 1


def test_center_of_a_fragment_lies_where_most_of_its_cells_are() -> None:
    visits = Visits(np.zeros((1, 20, 40), int), np.array([0]), np.ones((20, 40), bool))
    visits.counts[0, 2:9, 2:9] = 1
    visits.counts[0, 5, 9:40] = 1  # a corridor that leads far away
    assert visits.centers() == {0: (5.0, 5.0)}


def test_fragment_that_owns_no_cell_still_has_a_center_and_a_size() -> None:
    visits = make_visits(n_fragments=2)
    visits.counts[1] = 0
    visits.counts[1, 2, 3] = 1
    assert visits.centers()[1] == (3.0, 2.0)
    assert visits.sizes()[1] == 1.0


def test_shapes_that_do_not_belong_together_are_named() -> None:
    reachable = np.ones((4, 5), bool)
    with pytest.raises(ValueError, match=r"counts must have the shape \[fragments, H, W\] = \(1, 4, 5\)"):
        Visits(np.zeros((2, 4, 5), int), np.array([0]), reachable)
    with pytest.raises(ValueError, match="recalls must have the shape"):
        Visits(np.zeros((1, 4, 5), int), np.array([0]), reachable, recalls=np.zeros((5, 4), int))
    with pytest.raises(ValueError, match="must have one length"):
        Trace(
            np.arange(3),
            np.zeros(3),
            np.zeros(3),
            np.zeros(3, int),
            np.zeros(2, bool),
            np.zeros(3, bool),
            np.zeros(3, int),
        )


def test_trace_marks_each_fracture_at_its_surprisal_and_shows_the_active_fragment() -> None:
    trace = make_trace()
    axes, strip = surprisal_trace(trace).axes
    (marks,) = [c for c in axes.collections if len(c.get_offsets()) == 3]
    np.testing.assert_allclose(np.asarray(marks.get_offsets())[:, 1], trace.surprisal[[0, 20, 40]])
    np.testing.assert_array_equal(np.asarray(strip.images[0].get_array())[0], fragment_colors(trace.fragments))


def test_graph_shows_every_fragment_of_the_memory_at_its_place() -> None:
    graph = nx.MultiGraph([(0, 1, {"kind": "fracture"}), (1, 7, {"kind": "recall"}), (1, 7, {"kind": "recall"})])
    positions = {0: (1.0, 1.0), 1: (7.0, 2.0), 7: (4.0, 4.0)}
    axes = memory_graph(graph, {0: 10.0, 1: 5.0, 7: 1.0}, positions, np.ones((6, 9), bool)).axes[0]
    nodes = axes.collections[-1]
    np.testing.assert_allclose(nodes.get_offsets(), list(positions.values()), atol=0.01)
    assert np.all(np.diff(nodes.get_sizes()) < 0)
    assert {text.get_text() for text in axes.texts} >= {"0", "1", "7"}


def test_nodes_that_would_hide_each_other_are_moved_apart_within_the_map() -> None:
    graph = nx.empty_graph(6, create_using=nx.MultiGraph)
    positions = dict.fromkeys(range(6), (0.0, 0.0)) | {5: (19.0, 19.0)}
    axes = memory_graph(graph, None, positions, np.ones((20, 20), bool)).axes[0]
    places = np.asarray(axes.collections[-1].get_offsets())
    assert len(np.unique(places.round(2), axis=0)) == 6
    assert places.min() >= 0
    assert places.max() <= 19


@pytest.mark.parametrize("has_visits", [True, False])
@pytest.mark.parametrize("has_trace", [True, False])
@pytest.mark.parametrize("has_graph", [True, False])
def test_overview_draws_what_there_is(has_visits: bool, has_trace: bool, has_graph: bool) -> None:
    parts: tuple[Any, ...] = (
        make_visits(fractures=np.eye(6, 9, dtype=int)) if has_visits else None,
        make_trace() if has_trace else None,
        nx.MultiGraph([(0, 1), (1, 2)]) if has_graph else None,
    )
    if not any(part is not None for part in parts):
        with pytest.raises(ValueError, match="nothing to draw"):
            exploration_overview(*parts)
        return
    figure = exploration_overview(*parts)
    assert len(figure.axes) == has_visits + has_graph + 2 * has_trace


def test_beginnings_are_drawn_without_warnings(recwarn: pytest.WarningsRecorder) -> None:
    gc.collect()  # what other tests left open may warn while it is collected
    recwarn.clear()
    nothing = np.zeros((1, 6, 9), int)
    graph = nx.empty_graph(1, create_using=nx.MultiGraph)
    empty = Trace(*(np.zeros(0, int) for _ in range(7)))
    one = Trace(*(np.ones(1, int) for _ in range(7)))
    for trace in (empty, one):
        visits = Visits(nothing, np.array([0]), np.ones((6, 9), bool))
        figure_array(exploration_overview(visits, trace, graph))
    assert not [str(warning.message) for warning in recwarn.list if warning.category is not ResourceWarning]


def test_pixels_have_the_size_of_the_figure_and_are_the_same_every_time() -> None:
    figures = [exploration_overview(make_visits(), make_trace(), nx.MultiGraph([(0, 1), (1, 2)])) for _ in range(2)]
    first, second = (figure_array(figure) for figure in figures)
    width, height = figures[0].get_size_inches() * figures[0].dpi
    assert first.shape == (int(height), int(width), 3)
    np.testing.assert_array_equal(first, second)
