"""Occupancy, scan matching, and the graph of poses."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from farl.envs.robot.lidar import cast, leaps
from farl.envs.robot.worlds import beam_angles
from farl.slam.localising import Cloud
from farl.slam.matching import match
from farl.slam.merging import merged
from farl.slam.occupancy import IS_FREE, IS_OCCUPIED, Canvas
from farl.slam.planning import UNREACHED, clearance, path_to, views, ways
from farl.slam.pose_graph import Edge, PoseGraph
from farl.slam.poses import between, compose, inverse, moved

ANGLES, REACH = beam_angles(360.0, 180), 8.0


def room():
    """4 m x 3 m with a pillar, 5 cm a cell, row 0 at the bottom."""
    walls = np.zeros((60, 80), bool)
    walls[[0, -1]] = walls[:, [0, -1]] = True
    walls[35:42, 50:56] = True
    return walls


def scan_at(pose, walls=None, noise=0.0, seed=0):
    leap = leaps(room() if walls is None else walls)
    lengths = [
        cast(leap, pose[0] / 0.05, pose[1] / 0.05, np.cos(pose[2] + a), np.sin(pose[2] + a), 160.0) for a in ANGLES
    ]
    scan = np.array(lengths) * 0.05
    return (scan + noise * np.random.default_rng(seed).normal(size=180) * (scan < REACH)).astype(np.float32)


def map_of(poses, walls=None):
    canvas = Canvas(0.1)
    for pose in poses:
        canvas.take_in(np.array(pose), scan_at(pose, walls), ANGLES, REACH)
    return canvas


POSES = [(1.0, 1.0, 0.0), (1.5, 1.2, 0.5), (2.0, 1.0, 1.0), (1.2, 1.8, -2.0), (3.2, 0.8, 0.3)]


def test_a_map_holds_what_was_seen():
    canvas = map_of(POSES)
    odds, corner = canvas.inner()
    walls, free = odds > IS_OCCUPIED, odds < IS_FREE
    true = room().reshape(30, 2, 40, 2)
    rows, cols = np.nonzero(free)
    rows, cols = rows + corner[0], cols + corner[1]
    assert not true.all(axis=(1, 3))[rows, cols].any()
    assert free.sum() > 0.8 * (~true.any(axis=(1, 3))).sum()
    assert walls.sum() > 80


def test_what_is_expected_does_not_surprise_and_what_is_new_or_wrong_does():
    canvas = map_of(POSES * 3)
    known = canvas.fit(np.array(POSES[0]), scan_at(POSES[0]), ANGLES, REACH)
    assert known.surprisal < 0.2
    assert known.new < 0.05
    assert known.contradicted < 0.05
    assert canvas.fit(np.array([9.0, 9.0, 0.0]), scan_at(POSES[0]), ANGLES, REACH).new == 1.0
    turned = canvas.fit(np.array([1.0, 1.0, 0.5]), scan_at(POSES[0]), ANGLES, REACH)
    assert turned.contradicted > 2 * known.contradicted
    assert turned.surprisal > known.surprisal + 0.1


@pytest.mark.parametrize("seed", range(8))
def test_a_scan_is_matched_to_within_a_fraction_of_a_cell(seed):
    canvas, rng = map_of(POSES * 2), np.random.default_rng(seed)
    true = np.array([1.4, 1.1, 0.2])
    off = np.array([*rng.uniform(-0.12, 0.12, 2), rng.uniform(-0.08, 0.08)])
    found = match(canvas, true + off, np.diag([0.1, 0.1, 0.1]) ** 2, scan_at(true, noise=0.01), ANGLES, REACH)
    assert np.hypot(*(found.pose - true)[:2]) < 0.04
    assert abs(found.pose[2] - true[2]) < 0.02
    assert found.score > 0.6


@pytest.mark.parametrize("seed", range(4))
def test_a_wide_window_finds_a_pose_far_from_the_guess(seed):
    canvas, rng = map_of(POSES * 2), np.random.default_rng(seed)
    true = np.array([1.4, 1.1, 0.2])
    off = np.array([*rng.uniform(-0.8, 0.8, 2), rng.uniform(-0.3, 0.3)])
    found = match(canvas, true + off, np.diag([0.6, 0.6, 0.3]) ** 2, scan_at(true), ANGLES, REACH, (1.2, 0.4))
    assert np.hypot(*(found.pose - true)[:2]) < 0.06
    assert abs(found.pose[2] - true[2]) < 0.03


def test_a_corridor_fixes_a_robot_across_it_and_not_along_it():
    walls = np.zeros((40, 400), bool)
    walls[[0, -1]] = True
    poses = [(x, 1.0, 0.0) for x in (9.0, 9.5, 10.0, 10.5)]
    guess = np.array([10.2, 1.05, 0.01])
    found = match(
        map_of(poses, walls), guess, np.diag([0.2, 0.2, 0.1]) ** 2, scan_at((10.0, 1.0, 0.0), walls), ANGLES, REACH
    )
    assert abs(found.pose[1] - 1.0) < 0.03
    assert found.covariance[0, 0] > 5 * found.covariance[1, 1]


@pytest.mark.parametrize("seed", range(4))
def test_particles_find_the_robot_and_follow_it(seed):
    canvas, rng = map_of(POSES * 2), np.random.default_rng(seed)
    true = np.array([1.0, 0.9, 0.1])
    spread = np.diag([0.15, 0.15, 0.1])
    pose = true + spread @ rng.normal(size=3)
    cloud = Cloud(pose, spread**2, 150, torch.Generator().manual_seed(seed))
    for k in range(12):
        if k:
            true = compose(true, [0.06, 0.0, 0.05])
            pose = compose(pose, [0.063, 0.0, 0.053])
        pose, covariance = cloud.follow(pose, canvas, scan_at(true, noise=0.01, seed=k), ANGLES, REACH)
    assert np.hypot(*(pose - true)[:2]) < 0.05
    assert abs(pose[2] - true[2]) < 0.03
    assert np.sqrt(covariance[[0, 1], [0, 1]]).max() < 0.06


def test_particles_do_not_know_where_along_a_corridor_they_are_or_without_an_echo():
    walls = np.zeros((40, 400), bool)
    walls[[0, -1]] = True
    canvas = map_of([(x, 1.0, 1.5) for x in (9.0, 9.5, 10.0, 10.5)], walls)
    pose, wide = np.array([10.0, 1.0, 1.5]), np.diag([0.2, 0.2, 0.05]) ** 2
    cloud = Cloud(pose, wide, 400, torch.Generator().manual_seed(0))
    nothing = np.zeros(180, np.float32)
    _, unseen = cloud.follow(pose, canvas, nothing, ANGLES, REACH)
    np.testing.assert_allclose(np.sqrt(np.diag(unseen)), [0.2, 0.2, 0.05], rtol=0.2)
    for _ in range(3):
        pose, covariance = cloud.follow(pose, canvas, scan_at((10.0, 1.0, 1.5), walls), ANGLES, REACH)
    assert abs(pose[1] - 1.0) < 0.05
    assert covariance[0, 0] > 5 * covariance[1, 1]


def test_rooms_that_look_alike_are_each_others_rivals():
    walls = np.zeros((60, 160), bool)
    walls[[0, -1]] = walls[:, [0, 40, 80, 120, -1]] = True
    walls[25:35, [40, 80, 120]] = False
    poses = [(1.0 + 2.0 * k, 1.5, 0.0) for k in range(4)]
    scan = scan_at((3.0, 1.5, 0.0), walls)
    wide = match(map_of(poses, walls), np.array([4.0, 1.5, 0.0]), np.eye(3), scan, ANGLES, REACH, (2.5, 0.1))
    assert wide.rival > 0.85
    one = match(map_of(POSES), np.array([1.0, 1.0, 0.0]), np.eye(3), scan_at(POSES[0]), ANGLES, REACH, (1.0, 0.1))
    assert one.rival < 0.85


def test_an_empty_scan_matches_nothing():
    assert match(map_of(POSES), np.zeros(3), np.eye(3), np.zeros(180, np.float32), ANGLES, REACH) is None


def ring(n=12, noise=0.02, seed=0):
    """Frames around a square, driven with noise, and their true poses."""
    rng = np.random.default_rng(seed)
    step = [np.array([3.0, 0.0, np.pi / 2 if k % 3 == 2 else 0.0]) for k in range(n)]
    true, graph = [np.zeros(3)], PoseGraph()
    graph.add(0, np.zeros(3))
    covariance = np.diag([noise, noise, noise / 2]) ** 2
    for k in range(1, n):
        true.append(compose(true[-1], step[k - 1]))
        told = compose(step[k - 1], rng.normal(size=3) * [noise, noise, noise / 2])
        graph.add(k, compose(graph.poses[k - 1], told))
        graph.join(Edge(k - 1, k, told, covariance, False))
    return graph, np.array(true), covariance


def error(graph, true):
    return np.mean([np.hypot(*(graph.poses[k] - true[k])[:2]) for k in range(len(true))])


def test_closing_a_loop_puts_the_poses_right():
    graph, true, covariance = ring(noise=0.1)
    before = error(graph, true)
    assert graph.close(Edge(11, 0, between(true[11], true[0]), covariance / 100, True))
    assert error(graph, true) < 0.6 * before


@pytest.mark.parametrize("first", [True, False])
def test_a_closure_that_contradicts_the_others_is_undone(first):
    graph, true, covariance = ring()
    right = Edge(11, 0, between(true[11], true[0]), covariance, True)
    wrong = Edge(10, 2, np.array([0.1, 0.2, 0.0]), covariance, True)  # rooms that look alike
    before = {frame: pose.copy() for frame, pose in graph.poses.items()}
    kept = [graph.close(edge) for edge in ((wrong, right) if first else (right, wrong))]
    assert kept == ([False, True] if first else [True, False])
    assert any(edge is right for edge in graph.edges)
    assert all(edge.relative is not wrong.relative for edge in graph.edges)
    assert error(graph, true) < 0.5
    assert all(np.abs(graph.poses[frame] - pose)[:2].max() < 1.0 for frame, pose in before.items())


def test_the_covariance_of_a_relative_pose_is_what_a_chain_adds_up_to():
    graph, _, _ = ring(5, noise=0.1)
    pose, covariance = np.zeros(3), np.zeros((3, 3))
    for edge in graph.edges:
        pose, covariance = moved(pose, covariance, edge.relative, edge.covariance)
    found, spread = graph.relative(0, 4)
    np.testing.assert_allclose(found, pose, atol=1e-9)
    np.testing.assert_allclose(spread, covariance, rtol=1e-3, atol=1e-5)
    back, _ = graph.relative(4, 0)
    np.testing.assert_allclose(back, inverse(found), atol=1e-9)


def test_a_frame_that_is_taken_out_leaves_its_neighbours_joined():
    graph, _, _ = ring(5)
    expected = graph.relative(1, 3)[0]
    graph.remove(2)
    graph.optimise()
    np.testing.assert_allclose(graph.relative(1, 3)[0], expected, atol=1e-6)


def test_a_frame_that_is_taken_out_leaves_closures_that_can_be_undone():
    """What rested on a closure stays one, and several edges to one neighbour make no edge from it to itself."""
    graph, true, covariance = ring(8)
    graph.join(Edge(4, 1, np.array([0.1, 0.2, 0.0]), covariance, True))  # wrong
    graph.join(Edge(3, 4, between(true[3], true[4]), covariance, True))
    graph.remove(4)
    assert all(edge.a != edge.b for edge in graph.edges)
    assert [1 in (edge.a, edge.b) for edge in graph.edges if edge.closure] == [True]
    assert graph.close(Edge(7, 0, between(true[7], true[0]), covariance, True))
    assert sum(edge.closure for edge in graph.edges) == 1
    graph.poses[4] = true[4]
    assert error(graph, true) < 0.5


@pytest.mark.parametrize("turned", [False, True])
def test_what_a_frame_told_of_its_neighbours_is_as_sure_as_both_ways_together(turned):
    """Also where an edge was noted from its other end, whose error of heading is one of place seen from here."""
    covariance = np.diag([0.1, 0.1, 0.05]) ** 2
    edges = [
        Edge(0, 1, np.array([4.0, 1.0, 0.5]), covariance, False),
        Edge(1, 2, np.array([3.0, -1.0, 0.2]), covariance, False),
    ]
    if turned:
        edges[1] = Edge(2, 1, inverse(edges[1].relative), covariance, False)
    graph = PoseGraph()
    for frame, pose in enumerate((np.zeros(3), edges[0].relative, compose(edges[0].relative, [3.0, -1.0, 0.2]))):
        graph.add(frame, pose)
    for edge in edges:
        graph.join(edge)
    pose, spread = graph.relative(0, 2)
    graph.remove(1)
    np.testing.assert_allclose(graph.relative(0, 2)[0], pose, atol=1e-9)
    np.testing.assert_allclose(graph.relative(0, 2)[1], spread, rtol=1e-3, atol=1e-5)


def test_a_graph_continues_as_it_was_saved():
    graph, _, _ = ring()
    again = PoseGraph()
    again.load_state_dict(graph.state_dict())
    for one in (graph, again):
        one.optimise()
    for frame, pose in graph.poses.items():
        np.testing.assert_array_equal(again.poses[frame], pose)


def test_single_poses_are_composed_as_many_are():
    a, b = np.random.default_rng(0).uniform(-4.0, 4.0, (2, 50, 3))
    for function in (compose, between):
        one_by_one = np.array([function(x, y) for x, y in zip(a, b, strict=True)])
        np.testing.assert_allclose(one_by_one, function(a, b), atol=1e-12)
    np.testing.assert_allclose(between(a, compose(a, b))[:, :2], b[:, :2], atol=1e-9)


def test_a_way_that_winds_leads_all_the_way():
    """Between walls that force it to and fro it is longer than the map is wide and high together."""
    cells = np.full((60, 62), -1_000, np.int16)
    for wall, row in enumerate(range(5, 58, 5)):
        cells[row, : 55 if wall % 2 else 62] = 1_000
        cells[row, : 7 if wall % 2 == 0 else 0] = -1_000
    cells[[0, -1]] = cells[:, [0, -1]] = 1_000
    canvas = Canvas.of(cells, [0, 0], 0.1)
    cost = ways(canvas, np.array([0.35, 0.35, 0.0]), 0.1)
    way = path_to(cost, canvas, 3.0, 5.8)
    assert len(way) > 60 + 62
    np.testing.assert_allclose(way[0], [0.35, 0.35])
    assert np.abs(np.diff(way, axis=0)).max() < 0.11


def test_ways_keep_clear_of_obstacles_and_lead_where_there_is_room():
    canvas = map_of(POSES * 2)
    cost = ways(canvas, np.array([1.0, 1.0, 0.0]), 0.2)
    way = path_to(cost, canvas, 3.4, 2.4)
    assert len(way) > 10
    walls = np.argwhere(room()) * 0.05 + 0.025
    clear = [np.hypot(*(walls - at[::-1]).T).min() for at in way[2:]]
    assert min(clear) > 0.12
    assert np.abs(np.diff(way, axis=0)).max() < 0.11
    assert len(path_to(cost, canvas, 9.0, 9.0)) == 0
    assert (cost < UNREACHED).sum() > 200


def test_clearance_is_the_distance_to_what_is_occupied_as_far_as_it_matters():
    canvas = map_of([np.array([3.0, 2.0, 0.0])])
    known = canvas.cells[canvas.box[0] : canvas.box[1] + 1, canvas.box[2] : canvas.box[3] + 1]
    true = ndimage.distance_transform_edt(known <= IS_OCCUPIED) * canvas.resolution
    found = clearance(canvas, 0.23)
    inside = found[canvas.box[0] : canvas.box[1] + 1, canvas.box[2] : canvas.box[3] + 1]
    assert inside.max() >= 0.23 + 0.2  # all that makes ways cost more
    np.testing.assert_allclose(inside, np.minimum(true, inside.max()), atol=1e-6)
    assert not found[: canvas.box[0]].any()


def test_a_view_is_worth_what_it_would_show_and_nothing_where_another_map_knows_it():
    canvas = map_of([(1.0, 1.0, 0.0)])
    cost = ways(canvas, np.array([1.0, 1.0, 0.0]), 0.2)
    nothing = np.zeros(canvas.cells.shape, np.uint8)
    found = views(canvas, cost, nothing, np.zeros((0, 2)), 4.0, 0.3)
    assert len(found)  # behind the pillar
    best = found[found[:, 2].argmax()]
    assert best[0] > 1.5
    assert len(views(canvas, cost, np.ones_like(nothing), np.zeros((0, 2)), 4.0, 0.3)) == 0


@pytest.mark.parametrize("rim", [1, 2, 3])
def test_a_map_has_the_same_views_from_anywhere_and_wherever_it_lies_on_its_canvas(rim):
    canvas = map_of(POSES[:2])
    cells, corner = canvas.inner()
    again = Canvas.of(cells, corner, 0.1)
    again.cells, again.corner = np.pad(again.cells, rim), again.corner - rim
    again.box += rim
    canvas.surround(4.0)
    again.surround(4.0)
    both = []
    for one, start in ((canvas, POSES[0]), (again, POSES[1])):
        cost = ways(one, np.array(start), 0.2)
        found = views(one, cost, np.zeros(one.cells.shape, np.uint8), np.array([[1.0, 1.0]]), 4.0, 0.3)[:, :3]
        both.append({tuple(np.round(at, 6)): gain for *at, gain in found})
    # Around obstacles next to the robot more is reached.
    common = both[0].keys() & both[1].keys()
    assert len(common) > 0.9 * max(len(each) for each in both)
    np.testing.assert_allclose([both[0][at] for at in common], [both[1][at] for at in common], atol=1e-9)


@pytest.mark.parametrize("turn", [0.0, 0.7])
def test_fragments_are_laid_over_each_other_where_the_graph_has_them(turn):
    shift = np.array([1.5, 1.2, turn])
    here, there = map_of(POSES[:2]), Canvas(0.1)
    for pose in POSES[2:]:
        there.take_in(between(shift, pose), scan_at(pose), ANGLES, REACH)
    graph = PoseGraph()
    graph.add(0, np.zeros(3))
    graph.add(1, shift)

    def fragment(canvas):
        import torch

        cells, corner = canvas.inner()
        return {"cells": torch.from_numpy(cells), "corner": corner.tolist()}

    odds, corner = merged([(0, fragment(here)), (1, fragment(there))], graph, 0.1)
    true = room().reshape(30, 2, 40, 2)
    rows, cols = np.nonzero(odds < IS_FREE)
    rows, cols = (rows + corner[0]).clip(0, 29), (cols + corner[1]).clip(0, 39)
    assert true.all(axis=(1, 3))[rows, cols].mean() < 0.02
    assert len(rows) > 0.8 * (~true.any(axis=(1, 3))).sum()
