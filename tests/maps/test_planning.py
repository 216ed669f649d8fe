import networkx as nx
import numpy as np
import pytest
import torch
from scipy import ndimage

from farl.maps.frontiers import FrontierRule, count_frontier, find_clusters, plan_to_frontier, quadrant
from farl.maps.geometry import FREE, STEP_COLS, STEP_ROWS, UNKNOWN
from farl.maps.planner import Scratch, plan_to_state
from farl.maps.unseen import joined
from farl.maps.views import cone_widths, count_known, plan_to_best_view, plan_to_nearest, unknown_ahead

SIDE = 48
BOX = np.array([16, 31, 16, 31])


def random_map(seed, unknown=0.15):
    rng = np.random.default_rng(seed)
    label = np.zeros((SIDE, SIDE), np.int32)
    draw = rng.random((16, 16))
    label[16:32, 16:32] = np.where(draw < unknown, UNKNOWN, np.where(draw < 0.35, 5, FREE))
    label[24, 24] = FREE
    return label


def steps_graph(label):
    """All states (row, column, heading) of the known free cells, joined by steps."""
    graph = nx.DiGraph()
    for row, col in np.argwhere(label == FREE):
        for heading in range(4):
            for step in range(4):
                to = (row + STEP_ROWS[step], col + STEP_COLS[step])
                if label[to] == FREE:
                    graph.add_edge((row, col, heading), (*to, step))
    return graph


def walk(label, pose, plan):
    row, col, heading = pose
    for step in plan:
        row, col, heading = row + STEP_ROWS[step], col + STEP_COLS[step], step
        assert label[row, col] == FREE
    return row, col, heading


@pytest.mark.parametrize("seed", range(20))
def test_plans_are_shortest_paths_over_row_column_and_heading(seed):
    label = random_map(seed)
    pose = np.array([24, 24, 0])
    lengths = nx.single_source_shortest_path_length(steps_graph(label), (24, 24, 0)) if label[24, 24] == FREE else {}
    plan = np.zeros(600, np.int8)
    scratch = Scratch.of(SIDE)
    for state, length in lengths.items():
        found = plan_to_state(label, pose, *state, scratch, plan)
        assert found == length
        assert walk(label, pose, plan[:found]) == state


def test_a_heading_that_no_step_can_give_is_replaced_by_another():
    label = np.zeros((SIDE, SIDE), np.int32)
    label[24, 20:28] = FREE
    plan = np.zeros(50, np.int8)
    found = plan_to_state(label, np.array([24, 20, 3]), 24, 25, 0, Scratch.of(SIDE), plan)
    row, col, heading = walk(label, (24, 20, 3), plan[:found])
    assert (row, col) == (24, 25)
    assert heading in (2, 3)


def test_there_is_no_plan_to_what_cannot_be_reached():
    label = np.zeros((SIDE, SIDE), np.int32)
    label[24, 20] = label[24, 24:27] = FREE
    assert plan_to_state(label, np.array([24, 20, 3]), 24, 25, 3, Scratch.of(SIDE), np.zeros(50, np.int8)) == -1


@pytest.mark.parametrize("seed", range(10))
def test_frontier_clusters_are_those_of_image_labelling(seed):
    label = random_map(seed)
    frontier = (label == UNKNOWN) & ndimage.binary_dilation(label == FREE, np.ones((3, 3)))
    _, n_clusters = ndimage.label(frontier, np.ones((3, 3)))
    clusters = find_clusters(label, BOX, Scratch.of(SIDE))
    assert count_frontier(label, BOX) == frontier.sum()
    assert len(clusters) == n_clusters
    assert clusters[:, 0].sum() == frontier.sum()
    rows, cols = clusters[:, 1:].astype(int).T
    assert (label[rows, cols] == FREE).all()
    near = ndimage.binary_dilation(frontier, np.ones((3, 3)))
    assert near[rows, cols].all()


def open_room():
    label = np.zeros((SIDE, SIDE), np.int32)
    label[16:32, 16:32] = FREE
    return label


def sampled(clusters, by_size, bias, heading=0):
    label, scratch, plan = open_room(), Scratch.of(SIDE), np.zeros(100, np.int8)
    rule, random = FrontierRule(by_size, bias, least=3), np.array([7], np.uint64)
    ends = [
        walk(
            label,
            (24, 24, heading),
            plan[: plan_to_frontier(label, np.array([24, 24, heading]), clusters, rule, random, 0, scratch, plan)],
        )[:2]
        for _ in range(400)
    ]
    return [sum(end == (int(row), int(col)) for end in ends) / 400 for _, row, col in clusters]


def test_subgoals_are_sampled_by_size_over_distance():
    clusters = np.array([[10.0, 20, 24], [30.0, 16, 24]])
    shares = sampled(clusters, by_size=True, bias=False)
    assert shares[0] == pytest.approx((10 / 4) / (10 / 4 + 30 / 8), abs=0.08)
    shares = sampled(clusters, by_size=False, bias=False)
    assert shares[0] == pytest.approx(2 / 3, abs=0.08)


def test_subgoals_behind_are_taken_only_when_there_is_nothing_ahead():
    ahead, behind = [10.0, 20, 24], [20.0, 27, 24]
    assert sampled(np.array([ahead, behind]), by_size=True, bias=True)[0] == 1.0
    assert sampled(np.array([behind]), by_size=True, bias=True)[0] == 1.0


def test_small_clusters_count_only_when_there_are_no_larger_ones():
    small, large = [2.0, 23, 24], [3.0, 16, 24]
    assert sampled(np.array([small, large]), by_size=True, bias=False)[0] == 0.0
    assert sampled(np.array([small]), by_size=True, bias=False)[0] == 1.0


def test_quadrants_are_those_of_the_headings():
    assert [quadrant(-3, 1), quadrant(3, -2), quadrant(1, -4), quadrant(0, 2)] == [0, 1, 2, 3]


@pytest.mark.parametrize("seed", range(10))
def test_the_nearest_goal_is_nearest_over_all_states(seed):
    label = random_map(seed)
    label[23, 24] = FREE  # what lies ahead of an agent is known
    lengths = nx.single_source_shortest_path_length(steps_graph(label), (24, 24, 0))
    goals = [
        length
        for (row, col, heading), length in lengths.items()
        if length and label[row + STEP_ROWS[heading], col + STEP_COLS[heading]] == UNKNOWN
    ]
    plan = np.zeros(600, np.int8)
    found = plan_to_nearest(label, np.array([24, 24, 0]), Scratch.of(SIDE), plan)
    assert found == min(goals, default=0)


def brute_gain(label, row, col, heading, widths):
    step, right = (STEP_ROWS[heading], STEP_COLS[heading]), ((0, 1), (0, -1), (-1, 0), (1, 0))[heading]
    gain = 0
    for i, width in enumerate(widths):
        for s in range(-width, width + 1):
            r, c = row + (i + 1) * step[0] + s * right[0], col + (i + 1) * step[1] + s * right[1]
            gain += not (0 <= r < SIDE and 0 <= c < SIDE) or label[r, c] == UNKNOWN
    return gain


@pytest.mark.parametrize("heading", range(4))
def test_gain_counts_the_unknown_cells_in_the_cone(heading):
    label, widths = random_map(3, unknown=0.4), cone_widths(15)
    by_row, by_col = np.zeros((SIDE + 1, SIDE + 1), np.int32), np.zeros((SIDE + 1, SIDE + 1), np.int32)
    count_known(label, BOX, by_row, by_col)
    for row in range(16, 32, 3):
        for col in range(16, 32, 3):
            gain = unknown_ahead(row, col, heading, BOX, by_row, by_col, widths)
            assert gain == brute_gain(label, row, col, heading, widths)


def test_the_best_view_trades_gain_against_path():
    label = np.zeros((SIDE, SIDE), np.int32)
    label[23:26, 10:40] = 5
    label[24, 11:39] = FREE
    label[24, 10] = UNKNOWN  # a hole at the near end
    label[24, 39:] = UNKNOWN  # the open end
    label[10:40, 40:] = UNKNOWN
    label[20:23, 2:9] = label[26:30, 2:9] = label[22:27, 2:9] = 5
    box = np.array([10, 40, 2, 40])
    counts = tuple(np.zeros((SIDE + 1, SIDE + 1), np.int32) for _ in range(2))
    plan = np.zeros(100, np.int8)
    pose = np.array([24, 20, 3])
    far = plan_to_best_view(label, pose, box, cone_widths(15), 1000.0, counts, Scratch.of(SIDE), plan)
    assert walk(label, pose, plan[:far]) == (24, 38, 3)
    near = plan_to_nearest(label, pose, Scratch.of(SIDE), plan)
    assert near <= far


def test_clusters_look_at_nothing_beyond_the_canvas():
    """What is known may end two cells from the canvas's edge; beyond lies other memory, here full of free cells."""
    memory = np.full((24, 24), FREE, np.int32)
    label = memory[:12, :12]
    label[:] = UNKNOWN
    label[4:10, 4:10] = FREE
    clusters = find_clusters(label, np.array([4, 9, 4, 9]), Scratch.of(12))
    assert clusters[:, 0].tolist() == [8**2 - 6**2]


@pytest.mark.parametrize("place", [(0, 0), (40, -30)])
def test_maps_are_laid_side_by_side_with_the_place_of_who_knows_it_no_longer(place):
    stored = {"label": torch.full((3, 4), FREE, dtype=torch.int32), "corner": [2, 2]}
    for maps in ([], [stored]):
        whole, corner = joined(maps, place=np.array(place))
        row, col = np.array(place) - corner
        assert 2 <= row < whole.shape[0] - 2
        assert 2 <= col < whole.shape[1] - 2
        assert (whole == FREE).sum() == 12 * len(maps)
