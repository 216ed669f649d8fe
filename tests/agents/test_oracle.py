"""The explorer that knows the world: it goes where most is left to see for the way, and to the end."""

import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

from farl.agents.oracle import OracleExplorer
from farl.envs.map_world import MapWorldEnv, MapWorldVecEnv
from farl.errors import ConfigError
from farl.maps.geometry import encode

LEFT, RIGHT = 2, 3


def world(text):
    """A map of one character a cell, # is wall."""
    return np.array([[cell == "#" for cell in line] for line in text.split()])


def explore(maps, steps, **settings):
    """Return the actions, and the coverage after each."""
    venv = MapWorldVecEnv(1, maps=[maps], scale=1, view_size=5, max_steps=steps + 1, until_covered=False)
    model = OracleExplorer(env=venv, **settings)
    observation, starts, actions, coverage = venv.reset(), np.ones(1, bool), [], []
    for _ in range(steps):
        action = model.explorers.act(encode(observation["view"]), observation["odometry"], starts)
        observation, _, starts, infos = venv.step(action)
        actions.append(int(action[0]))
        coverage.append(infos[0]["coverage"])
    return actions, coverage


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_covers_a_world_and_knows_when_there_is_nothing_more(seed):
    rng = np.random.default_rng(seed)
    maps = np.pad(rng.random((14, 14)) < 0.15, 1, constant_values=True)
    _, coverage = explore(maps, 400)
    assert coverage[-1] == 1.0
    assert (np.diff(coverage) >= 0).all()


def test_it_walks_up_and_down_a_corridor_no_further_than_it_must():
    actions, coverage = explore(world("############## #............# ##############"), 24)
    done = coverage.index(1.0) + 1
    assert set(actions[:done]) <= {LEFT, RIGHT}
    assert done < 2 * 12  # it does not walk all of it twice, for it sees four cells ahead


def test_what_the_way_costs_decides_between_little_nearby_and_much_far_away():
    text = """
        ####################
        ########.###########
        #..................#
        ###############....#
        ###############....#
        ###############....#
        ####################
    """
    eager, _ = explore(world(text), 60, reluctance=0.0)
    calm, _ = explore(world(text), 60, reluctance=50.0)
    assert eager != calm


def test_it_does_better_than_chance_and_needs_a_batch_of_map_worlds():
    maps = np.pad(np.random.default_rng(5).random((20, 20)) < 0.2, 1, constant_values=True)
    _, coverage = explore(maps, 150)
    venv = MapWorldVecEnv(1, maps=[maps], scale=1, view_size=5, until_covered=False)
    venv.reset()
    rng = np.random.default_rng(0)
    for _ in range(150):
        _, _, _, infos = venv.step(rng.integers(4, size=1))
    assert coverage[-1] > infos[0]["coverage"] + 0.2
    with pytest.raises(ConfigError, match="give it a MapWorldVecEnv"):
        OracleExplorer(env=DummyVecEnv([MapWorldEnv]))
