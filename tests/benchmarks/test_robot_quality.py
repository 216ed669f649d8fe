"""The map quality of the robot's benchmark is a share: nearly 1 of a right map, never more, and less of a bent one."""

import numpy as np
import pytest
from scipy import ndimage

from benchmarks.robot import _quality
from farl.envs.map_world.occupancy import OPEN, UNMAPPED, WALL, OccupancyGrid
from farl.envs.robot.offices import generate_office
from farl.envs.robot.vec_env import RobotVecEnv


class Mapped:
    """An agent that knows its building, from its start, turned by ``bend`` radians a metre to the right."""

    def __init__(self, env, bend):
        free = (env.worlds.building(0).leap > 0)[:640, :640]
        blocks = free.reshape(free.shape[0] // 2, 2, free.shape[1] // 2, 2)
        free = blocks.all(axis=(1, 3))
        near = ndimage.binary_dilation(free, np.ones((3, 3)))  # a robot sees the faces of walls
        cells = np.where(free, OPEN, np.where(near, WALL, UNMAPPED)).astype(np.int8)
        rows, cols = np.indices(cells.shape)
        moved = np.clip(np.round(rows + bend * 0.05 * cols**2).astype(int), 0, len(cells) - 1)
        bent = np.full_like(cells, UNMAPPED)
        bent[moved, cols] = cells
        x, y, _ = env.worlds.start[0]
        self.grid = OccupancyGrid(bent[::-1].copy(), 0.1, (-float(x), -float(y), 0.0))

    def whole_map(self):
        return self.grid


@pytest.mark.parametrize(("bend", "least", "most"), [(0.0, 0.93, 1.0), (0.01, 0.3, 0.93)])
def test_quality_is_a_share(bend, least, most):
    grid = generate_office(np.random.default_rng(3), floors=1, width=16.0)
    free = grid.cells[: grid.cells.shape[0] // 2 * 2, : grid.cells.shape[1] // 2 * 2]
    env = RobotVecEnv(1, maps=free, until_covered=None)
    env.seed(0)
    env.reset()
    env.worlds.start[0, 2] = 0.0
    quality = _quality(Mapped(env, bend), env)
    assert least < quality["iou"] <= most
    assert quality["iou"] - 0.02 <= quality["iou_local"] <= 1.0
