"""The choice among the goals of the current fragment and of all stored ones: gain over steps, by hand."""

import numpy as np
import pytest
import torch

from farl.maps.choice import CROSSING, Memory, Rule, best_elsewhere, choose_goal
from farl.maps.geometry import FREE
from farl.maps.known_cells import KnownCells
from farl.maps.local_map import LocalMaps
from farl.maps.planner import Scratch, search
from farl.maps.roadmap import Roadmaps
from farl.maps.views import cone_widths

VIEW, WALL, RIGHT, DOWN = 5, 7, 3, 1
LENGTH = 12


class Corridor:
    """Fragment 0 is active: a corridor of 12 cells to the right of the agent, walls all around, with nothing to see.

    Its last cell is a landmark. Stored fragments lead on from there to goals of their own.
    """

    def __init__(self):
        self.maps, self.roadmaps, self.index = LocalMaps(1, VIEW), Roadmaps(1), KnownCells(1)
        label = np.full((3, LENGTH + 2), WALL, np.int32)
        label[1, 1:-1] = FREE
        self.known = {"label": torch.from_numpy(label), "value": torch.ones(label.shape), "corner": [-1, -1]}
        self.maps.copy_in(0, self.known | {"n_free": LENGTH})
        self.index.note(0, [self.known])
        self.active = np.zeros(1, np.int64)
        self.add(0, [(0, 0), (0, LENGTH - 1)], [])

    def add(self, fragment_id, landmarks, goals):
        """Add a stored fragment; goals are (row, col, heading, gain, steps from each landmark)."""
        cells = np.array(landmarks, np.int64)
        rows = np.array([goal[:4] for goal in goals], np.int64).reshape(-1, 4)
        ways = np.zeros((len(cells), len(cells) + len(rows), 2), np.int32)
        for i, (row, col) in enumerate(landmarks):
            for j, (to_row, to_col) in enumerate(landmarks):
                ways[i, j] = abs(row - to_row) + abs(col - to_col), RIGHT if to_col >= col else RIGHT ^ 1
            for j, goal in enumerate(goals):
                ways[i, len(cells) + j] = goal[4][i], RIGHT
        self.roadmaps.join(0, fragment_id, cells, self.roadmaps.find(0, cells), rows, ways)

    def look(self, best=0.0, reluctance=0.0):
        """``best_elsewhere``, from the agent's place: where the fragment is left (row, col), heading, fragment."""
        scratch = Scratch.of(self.maps.side)
        row, col = self.maps.pose[0, :2]
        search(self.maps.label[0], row, col, -1, -1, scratch)
        memory = Memory(self.index.bits, self.index.centre, self.roadmaps.state, self.active)
        rule = Rule(reluctance, cone_widths(VIEW))
        at, heading, through = best_elsewhere(best, 0, self.maps.state, memory, rule, scratch)
        return None if at < 0 else (tuple(self.roadmaps.place[0, at, :2].tolist()), heading, through)


# What a goal far from all that is known shows: the whole cone.
CONE = int((2 * cone_widths(VIEW) + 1).sum())
EXIT = (0, LENGTH - 1)


def test_a_goal_of_another_fragment_is_taken_through_the_landmark_that_both_share():
    world = Corridor()
    assert world.look() is None
    world.add(1, [EXIT], [(0, 30, RIGHT, CONE, [10])])
    assert world.look() == (EXIT, RIGHT, 1)


def test_its_worth_is_its_gain_over_the_steps_to_the_landmark_and_on_with_one_for_the_crossing():
    world = Corridor()
    world.add(1, [EXIT], [(0, 30, RIGHT, CONE, [10])])
    steps = (LENGTH - 1) + 10 + CROSSING
    assert world.look(best=CONE / steps - 1e-6) is not None
    assert world.look(best=CONE / steps) is None
    assert world.look(best=CONE / (steps + 5) - 1e-6, reluctance=5.0) is not None
    assert world.look(best=CONE / (steps + 5), reluctance=5.0) is None


def test_the_better_of_two_fragments_is_taken():
    world = Corridor()
    world.add(1, [EXIT], [(0, 40, RIGHT, CONE, [20])])
    world.add(2, [EXIT], [(20, 30, DOWN, CONE, [8])])
    assert world.look() == (EXIT, RIGHT, 2)


def test_a_way_through_several_fragments_is_begun_with_the_first_of_them():
    world = Corridor()
    world.add(1, [EXIT, (0, 20)], [])
    world.add(2, [(0, 20)], [(0, 40, RIGHT, CONE, [10])])
    assert world.look() == (EXIT, RIGHT, 1)
    steps = (LENGTH - 1) + 9 + 10 + CROSSING
    assert world.look(best=CONE / steps - 1e-6) is not None
    assert world.look(best=CONE / steps) is None


def test_what_was_seen_meanwhile_is_counted_anew():
    world = Corridor()
    world.add(1, [EXIT], [(0, 30, RIGHT, CONE, [10])])
    wide = np.full((9, 9), FREE, np.int32)
    world.index.note(0, [{"label": torch.from_numpy(wide), "corner": [-4, 27]}])
    assert world.look() is None


@pytest.mark.parametrize(("distance", "elsewhere"), [(1, True), (60, False)])
def test_the_own_fragments_goal_and_others_are_weighed_together(distance, elsewhere):
    world = Corridor()
    # The wall at the end of the corridor was never seen: there is a goal 11 steps away, which shows a cone.
    row, col = world.maps.origin[0]
    world.maps.label[0, row - 1 : row + 2, col + LENGTH] = 0
    world.index.clear(np.zeros(1, np.int64))
    world.index.note(0, [world.known | {"label": world.known["label"][:, : LENGTH + 1]}])
    world.add(1, [(0, 0)], [(30, 0, DOWN, CONE, [distance])])
    plan, trip = np.zeros(50, np.int8), np.zeros(3, np.int64)
    memory = Memory(world.index.bits, world.index.centre, world.roadmaps.state, world.active)
    length, found = choose_goal(
        0, world.maps.state, memory, Rule(0.0, cone_widths(VIEW)), Scratch.of(world.maps.side), plan, trip
    )
    assert found
    assert (trip[0] == 1) == elsewhere
    if not elsewhere:
        assert trip[0] == -1
        assert plan[:length].tolist() == [RIGHT] * (LENGTH - 1)
