"""Explorers see all of any connected world."""

import numpy as np
import pytest

from farl.agents.farmap import FARMap
from farl.agents.farmap_plus import FARMapPlus
from farl.agents.frontier import FrontierExplorer
from farl.envs.map_world import MapWorldVecEnv

AGENTS = {
    "farmap": (FARMap, {"patience": 100}),
    "farmap-plus": (FARMapPlus, {}),
    **{goal: (FrontierExplorer, {"goal": goal, "patience": 100}) for goal in ("frontier", "frontier-heading")},
    **{goal: (FrontierExplorer, {"goal": goal}) for goal in ("nearest", "infogain")},
}


def maze(seed, rows=7, cols=9, loops=0.1):
    """A random spanning tree of corridors one cell wide, with some walls taken out."""
    rng = np.random.default_rng(seed)
    walls = np.ones((2 * rows + 1, 2 * cols + 1), bool)
    walls[1, 1] = False
    way = [(0, 0)]
    while way:
        row, col = way[-1]
        steps = [(row + dr, col + dc) for dr, dc in ((1, 0), (-1, 0), (0, 1), (0, -1))]
        steps = [(r, c) for r, c in steps if 0 <= r < rows and 0 <= c < cols and walls[2 * r + 1, 2 * c + 1]]
        if not steps:
            way.pop()
            continue
        r, c = steps[rng.integers(len(steps))]
        walls[2 * r + 1, 2 * c + 1] = walls[row + r + 1, col + c + 1] = False
        way.append((r, c))
    inner = np.zeros_like(walls)
    inner[1:-1:2, 2:-1:2] = inner[2:-1:2, 1:-1:2] = True
    return walls & ~(inner & (rng.random(walls.shape) < loops))


def comb(teeth=20, depth=12):
    """Dead ends one cell wide, side by side."""
    walls = np.ones((depth + 3, 2 * teeth + 1), bool)
    walls[1, 1:-1] = walls[1:-1, 1::2] = False
    return walls


def steps_to_all(name, maps, scale, limit, seed=0):
    """Steps until every world was covered; ``limit`` where one was not."""
    agent_class, settings = AGENTS[name]
    env = MapWorldVecEnv(len(maps), maps=maps, scale=scale, until_covered=False, max_steps=10 * limit)
    agent = agent_class(env=env, seed=seed, **settings)
    for steps in range(250, limit + 1, 250):
        agent.learn(250 * len(maps), reset_num_timesteps=False, log_interval=0)
        if (env.worlds.coverage == 1.0).all():
            return steps
    return limit


@pytest.mark.parametrize("scale", [1, 2, 3])
@pytest.mark.parametrize("name", AGENTS)
def test_every_explorer_sees_all_of_any_maze(name, scale):
    assert steps_to_all(name, [maze(seed) for seed in range(12)], scale, limit=10_000) < 10_000


@pytest.mark.parametrize("name", AGENTS)
def test_every_explorer_sees_all_of_rooms_that_are_too_small_to_look_around_in(name):
    # Nobody turns on the spot, nor sees what is beside: some walls can only be bumped into.
    shapes = [(1, 1), (1, 2), (2, 1), (1, 9), (1, 40)]
    tiny = [np.pad(np.zeros(shape, bool), 1, constant_values=True) for shape in shapes]
    assert steps_to_all(name, tiny, 1, limit=2_000) < 2_000


@pytest.mark.parametrize("scale", [1, 2, 3])
@pytest.mark.parametrize("settings", [{"capacity": 3}, {"capacity": 2, "largest": 100, "smallest": 50}], ids=str)
def test_farmap_plus_sees_all_of_any_maze_with_very_little_memory(settings, scale, monkeypatch):
    monkeypatch.setitem(AGENTS, "forgetful", (FARMapPlus, settings))
    assert steps_to_all("forgetful", [maze(seed) for seed in range(6)], scale, limit=4_000) < 4_000


@pytest.mark.parametrize("turns", range(4))
def test_farmap_plus_is_done_with_a_comb_of_dead_ends_about_as_soon_as_the_nearest_frontier(turns):
    combs = [np.rot90(comb(), turns)] * 4
    assert steps_to_all("farmap-plus", combs, 1, 4_000) <= steps_to_all("nearest", combs, 1, 4_000) + 500


def test_farmap_as_published_has_no_such_patience():
    env = MapWorldVecEnv(1, maps=comb(30, 20), scale=1, until_covered=False, max_steps=10**6)
    env.seed(1)
    FARMap(env=env, seed=0, patience=None).learn(3_000, log_interval=0)
    assert env.worlds.coverage[0] < 0.9


def test_a_cell_beside_a_dead_end_is_found_by_trying_to_step_there():
    # From the lower end of the stub no state looks at what lies beside its upper end.
    walls = np.array(
        [[c == "#" for c in row] for row in ("#######", "#.....#", "#####.#", "#.....#", "#.#####", "###"[:1] * 7)]
    )
    for start in range(6):
        env = MapWorldVecEnv(1, maps=walls, scale=1, until_covered=False, max_steps=10**6)
        env.seed(start)
        FrontierExplorer(env=env, goal="nearest", seed=start).learn(200, log_interval=0)
        assert env.worlds.coverage[0] == 1.0
