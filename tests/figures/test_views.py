import gc
from typing import Any

import networkx as nx
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from farl.exploration.colors import COLORS, OTHERS
from farl.figures import (
    Cells,
    Episode,
    FragmentColors,
    KeyFrame,
    Particles,
    Plane,
    Trace,
    Visits,
    cell_map,
    exploration_overview,
    figure_array,
    fragment_map,
    fragment_timeline,
    gallery,
    memory_graph,
    particle_weights,
    plane_fragments,
    surprisal_trace,
    task_matrix,
    visit_map,
    world_maps,
)
from farl.figures.graph import thinned
from farl.figures.palette import UNVISITED, WALL


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


THREE = FragmentColors((0, 1, 2, *[-1] * 7))


def test_cells_have_the_colour_of_the_fragment_that_visited_them_most_whatever_the_visits() -> None:
    visits = make_visits()
    visits.counts[2, 2, 2] = 100  # a cell of band 0, mostly visited by fragment 2
    pixels = map_pixels(fragment_map(visits, THREE))
    for cell, fragment in (((1, 1), 0), ((2, 2), 2), ((2, 4), 1)):
        np.testing.assert_allclose(pixels[cell], to_rgb(COLORS[fragment]))


def test_visits_have_a_picture_of_their_own_and_unvisited_cells_and_walls_their_colours() -> None:
    visits = make_visits(n_fragments=1)
    visits.counts[0, 2, 2], visits.counts[0, 3, 3] = 1000, 0
    ground, values = (np.asarray(image.get_array()) for image in visit_map(visits).axes[0].images)
    assert values[2, 2] == 1000
    assert np.isnan(values[3, 3])
    np.testing.assert_allclose(ground[3, 3], to_rgb(UNVISITED))
    np.testing.assert_allclose(ground[0, 0], to_rgb(WALL))


@pytest.mark.parametrize(
    ("worlds_differ", "said"), [(False, "% of the cells, "), (True, "% of the cells of all worlds ")]
)
def test_coverage_of_layouts_that_change_is_said_to_be_of_all_together(worlds_differ: bool, said: str) -> None:
    assert said in visit_map(make_visits(), worlds_differ).texts[1].get_text()


def test_fragment_keeps_its_colour_for_as_long_as_it_is_among_the_ten_used_most() -> None:
    colors = FragmentColors().updated({i: 100.0 - i for i in range(12)})
    assert set(colors.slots) == set(range(10))
    later = colors.updated({**{i: 100.0 - i for i in range(12)}, 11: 500.0, 3: 0.5})
    assert 3 not in later
    assert later.slots.index(11) == colors.slots.index(3)
    assert all(later.slots.index(i) == colors.slots.index(i) for i in range(10) if i != 3)
    np.testing.assert_allclose(later.rgb([3, -1]), [to_rgb(OTHERS)] * 2)


@pytest.mark.parametrize("eyes", ["normal", "deuteranope", "protanope"])
def test_ten_colours_are_told_apart_by_all_eyes(eyes: str) -> None:
    drawn = np.array([to_rgb(color) for color in (*COLORS, OTHERS, UNVISITED, WALL)])
    places = cie_lab(drawn @ np.eye(3) if eyes == "normal" else seen_by(eyes, drawn))
    distance = np.linalg.norm(places[:, None] - places[None], axis=2) + 1e9 * np.eye(len(places))
    assert distance[:10, :10].min() > 25
    assert distance.min() > 12


def linear(rgb: np.ndarray) -> np.ndarray:
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def seen_by(eyes: str, rgb: np.ndarray) -> np.ndarray:
    """Machado, Oliveira and Fernandes (2009), severity 1."""
    matrix = {
        "deuteranope": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
        "protanope": [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
    }[eyes]
    light = np.clip(linear(rgb) @ np.array(matrix).T, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def cie_lab(rgb: np.ndarray) -> np.ndarray:
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
    xyz = linear(rgb) @ np.array(to_xyz).T / (0.95047, 1.0, 1.08883)
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def test_a_large_map_is_drawn_with_a_handful_of_artists() -> None:
    visits = make_visits(600, 600, 30, fractures=np.ones((600, 600), int), recalls=np.ones((600, 600), int))
    axes = fragment_map(visits, THREE).axes[0]
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
    strip, axes, _ = surprisal_trace(trace, THREE).axes
    (marks,) = [c for c in axes.collections if len(c.get_offsets()) == 3]
    np.testing.assert_allclose(np.asarray(marks.get_offsets())[:, 1], trace.surprisal[[0, 20, 40]])
    np.testing.assert_array_equal(np.asarray(strip.images[0].get_array())[0], THREE.rgb(trace.fragments))


def test_graph_shows_every_fragment_of_the_memory_at_its_place() -> None:
    graph = nx.MultiGraph([(0, 1, {"kind": "fracture"}), (1, 7, {"kind": "recall"}), (1, 7, {"kind": "recall"})])
    positions = {0: (1.0, 1.0), 1: (7.0, 2.0), 7: (4.0, 4.0)}
    axes = memory_graph(
        graph, FragmentColors((0, 1, 7)), {0: 10.0, 1: 5.0, 7: 1.0}, positions, np.ones((6, 9), bool)
    ).axes[0]
    nodes = axes.collections[-1]
    np.testing.assert_allclose(nodes.get_offsets(), list(positions.values()), atol=0.01)
    assert np.all(np.diff(nodes.get_sizes()) < 0)
    assert {text.get_text() for text in axes.texts} >= {"0", "1", "7"}


def test_nodes_that_would_hide_each_other_are_moved_apart_within_the_map() -> None:
    graph = nx.empty_graph(6, create_using=nx.MultiGraph)
    positions = dict.fromkeys(range(6), (0.0, 0.0)) | {5: (19.0, 19.0)}
    axes = memory_graph(graph, THREE, None, positions, np.ones((20, 20), bool)).axes[0]
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
    assert len(figure.axes) == has_visits + has_graph + 3 * has_trace


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
    assert first.shape == (round(height), round(width), 3)
    np.testing.assert_array_equal(first, second)


def test_title_counts_every_fragment_even_those_without_a_layer() -> None:
    visits = make_visits(n_fragments=3)
    crowded = Visits(visits.counts, visits.fragment_ids, visits.reachable, n_fragments=83)
    assert any("83 fragments" in text.get_text() for text in fragment_map(crowded, THREE).texts)


def test_graph_of_many_fragments_shows_those_used_most_and_says_so() -> None:
    graph = nx.gnm_random_graph(83, 1200, seed=0)
    sizes = {i: float(i) for i in range(83)}
    ways = thinned(graph, sizes)
    assert set(ways.nodes) == set(range(43, 83))
    assert len(ways.links) <= 2 * len(ways.nodes)
    texts = " ".join(text.get_text() for text in memory_graph(graph, THREE, sizes, opened=346).texts)
    assert "83 fragments of 346 opened" in texts
    assert "those used most" in texts


def test_threshold_is_drawn_where_there_is_one() -> None:
    trace = make_trace()
    with_threshold = Trace(**{**vars(trace), "threshold": np.full(50, 2.0)})
    lines = [len(surprisal_trace(each, THREE).axes[1].lines) for each in (trace, with_threshold)]
    assert lines == [2, 3]


def test_timeline_has_a_row_for_each_fragment_used_most_and_one_for_the_others() -> None:
    axes = fragment_timeline(make_trace(), FragmentColors((0, 1))).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "1", "others"]


@pytest.mark.parametrize("what", ["intrinsic_reward", "forgetting", "first_visit"])
def test_measures_of_cells_are_drawn_where_there_are_any(what: str) -> None:
    values = np.full((4, 5), np.nan)
    nothing = Cells(np.ones((4, 5), bool), values, values, values)
    assert cell_map(nothing, what) is None
    values = values.copy()
    values[1, 2] = 3.0
    figure = cell_map(Cells(np.ones((4, 5), bool), values, values, values), what)
    assert figure is not None
    assert figure_array(figure).ndim == 3
    assert np.nanmax(np.asarray(figure.axes[0].images[1].get_array())) == 3.0


def test_all_worlds_of_a_batch_are_drawn() -> None:
    way = np.array([[1, 1], [2, 1], [3, 1]])
    episodes = []
    for side in (5, 6, 7):
        counts, fragments = np.zeros((side, side), int), np.full((side, side), -1)
        counts[1, 1:4], fragments[1, 1:4] = 1, side
        episodes.append(Episode(np.ones((side, side), bool), counts, fragments, way, True))
    figure = world_maps(episodes)
    assert sum(len(axes.images) for axes in figure.axes) == 3
    assert figure_array(figure).ndim == 3


def test_plane_shows_where_each_fragment_was_active() -> None:
    places = np.concatenate([np.zeros((50, 2)), np.ones((50, 2))])
    plane = Plane(places, np.repeat([0, 1], 50), ("x", "y"))
    (image,) = plane_fragments(plane, THREE).axes[0].images
    pixels = np.asarray(image.get_array())
    seen = pixels[..., 3] > 0
    assert seen.sum() == 2
    np.testing.assert_allclose(sorted(pixels[seen][:, :3].tolist()), sorted(map(list, THREE.rgb([0, 1]))))


def test_gallery_shows_the_frames_of_the_fragments_used_most() -> None:
    frames = [KeyFrame(i, np.full((8, 8), i, np.uint8), 100 - i, 1, 0.5) for i in range(30)]
    shown = [axes for axes in gallery(frames, THREE).axes if axes.images]
    assert [int(np.asarray(axes.images[0].get_array())[0, 0]) for axes in shown] == list(range(16))


def test_particles_and_tasks_are_drawn() -> None:
    weights = np.full((5, 3), 1 / 3)
    assert figure_array(particle_weights(Particles(np.arange(5), weights, weights * 10))).ndim == 3
    (axes,) = task_matrix([[1.0], [0.5, 2.0], [0.1, 0.4, 3.0]]).axes
    matrix = np.asarray(axes.images[0].get_array())
    assert matrix.shape == (3, 3)
    assert np.isnan(matrix[0, 1])
    assert matrix[2, 0] == 0.1
    assert {text.get_text() for text in axes.texts} == {"1", "0.5", "2", "0.1", "0.4", "3"}
