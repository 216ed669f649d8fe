"""What FARMapRobot makes of settings and observations that are none."""

import math

import numpy as np
import pytest

from farl.agents.robot import FARMapRobot
from farl.cli import main
from farl.envs.map_world import MapWorldVecEnv
from farl.envs.robot.vec_env import RobotVecEnv
from farl.errors import ConfigError
from tests.agents.offices import errors, make_env


def test_odometry_that_is_none_and_scans_that_are_none():
    env = RobotVecEnv(1, maps=np.zeros((60, 60), np.int8))
    env.seed(0)
    agent, seen = FARMapRobot(env=env, seed=0), env.reset()
    agent.predict(seen)
    with pytest.raises(ValueError, match="odometry of robot 0 is"):
        agent.predict({"scan": seen["scan"], "odometry": np.full((1, 3), np.nan)})
    actions, _ = agent.predict({"scan": np.full_like(seen["scan"], np.nan), "odometry": seen["odometry"]})
    assert np.isfinite(actions).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scan": np.zeros((1, 3), np.float32)}, "`scan` of an observation has the shape"),
        ({"scan": np.zeros((1, 400), np.float32)}, "`scan` of an observation has the shape"),
        ({"scan": np.zeros((2, 180), np.float32)}, "different lengths"),
        ({"odometry": np.zeros((1, 2))}, "`odometry` of an observation has the shape"),
        ({"odometry": None}, "a dict of odometry and scan; got scan"),
    ],
)
def test_observations_that_are_none_are_refused_and_nothing_is_taken_in(changes, words):
    env = make_env(np.zeros((60, 60), np.int8))
    agent, seen = FARMapRobot(env=env, seed=0), env.reset()
    agent.predict(seen)
    before = agent._predicting.robots[0].canvas.cells.copy()
    with pytest.raises(ValueError, match=words):
        agent.predict({name: part for name, part in (seen | changes).items() if part is not None})
    np.testing.assert_array_equal(agent._predicting.robots[0].canvas.cells, before)


@pytest.mark.parametrize("jump", [1.0, 50.0, 9e4])
def test_an_odometry_that_jumps_is_said_and_not_followed(office, jump, caplog):
    env = make_env(office, drift=0.0)
    agent, seen = FARMapRobot(env=env, seed=0), env.reset()
    shift, starts = np.zeros(3), np.ones(1, bool)
    for step in range(400):
        shift[:2] += jump * (step in (100, 200))
        actions = agent.explorers.act(seen["scan"], seen["odometry"] + shift, starts)
        seen, starts = env.step(actions)[0], np.zeros(1, bool)
    assert [record.getMessage()[:20] for record in caplog.records] == ["the odometry jumped "]
    assert errors(agent, env)[0] < 0.3
    assert agent.robots[0].canvas.cells.size < 400**2


def test_a_map_that_would_fill_the_memory_is_refused_in_one_line():
    env = make_env(np.zeros((60, 60), np.int8))
    agent, seen = FARMapRobot(env=env, seed=0, criterion="none"), env.reset()
    agent.explorers.act(seen["scan"], seen["odometry"], np.ones(1, bool))
    robot = agent.robots[0]
    robot.move(np.array([9e4, 9e4, 0.0]))
    with pytest.raises(ConfigError, match="Is the odometry in metres") as caught:
        robot.locate(seen["scan"][0])
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"criterion": "sise"}, "size"),
        ({"surprisal": "before"}, "new-cells"),
        ({"goal": "far"}, "nearest"),
        ({"largest": 10.0, "smallest": 20.0}, "smallest <= largest"),
        *(({name: math.nan}, f"{name} must be") for name in ("rho", "largest", "resolution", "reluctance", "radius")),
        *(({name: "x"}, f"{name} must be") for name in ("rho", "capacity", "max_turn")),
        *(({name: 2.5}, "whole number") for name in ("scan_every", "confirm", "min_samples", "capacity")),
        ({"largest": math.inf}, "largest must be"),
        ({"lidar_range": -1.0}, "lidar_range must be above 0"),
        ({"lidar_range": 0.05}, "at least 1"),
        ({"resolution": 0.001}, "at most 3,000"),
        ({"lidar_field": 720.0}, "at most 360"),
        ({"lidar_field": 90.0}, "the environment's lidar has 360"),
        ({"matching": "no"}, "true or false"),
        ({"particles": 1}, "particles must be at least 2"),
        ({"particles": 50, "matching": False}, "particles need matching"),
        ({"resolution": 0.0}, "above 0"),
        ({"scan_every": 0}, "at least 1"),
        ({"capacity": 1}, "at least 2"),
    ],
)
def test_bad_settings_get_one_line(options, words):
    with pytest.raises(ConfigError) as caught:
        FARMapRobot(env=RobotVecEnv(1, maps=np.zeros((60, 60), np.int8)), **options)
    assert len(caught.value.problems) == 1
    assert words in caught.value.problems[0]


def test_what_is_beyond_a_shorter_range_is_no_echo():
    """Also one that single precision rounds down, and infinity, which ROS's drivers give where there is no echo."""
    maps = np.zeros((240, 240), np.int8)
    env = make_env(maps, dropouts=0.0, range_noise=0.0, drift=0.0, start=(6.0, 6.0, 0.0))
    agent, seen = FARMapRobot(env=env, seed=0, lidar_range=2.3), env.reset()
    agent.predict(seen)
    grid = agent._predicting.robots[0].canvas
    assert not (grid.cells > 0).any()
    assert grid.area == pytest.approx(46**2, rel=0.05)
    endless = FARMapRobot(env=env, seed=0, lidar_range=2.3)
    endless.predict({"scan": np.full_like(seen["scan"], np.inf), "odometry": seen["odometry"]})
    assert np.array_equal(endless._predicting.robots[0].canvas.cells, grid.cells)


def test_a_lidar_that_never_reads_anything_leaves_no_map_and_no_fault(tmp_path):
    agent = FARMapRobot(env=make_env(np.zeros((60, 60), np.int8), dropouts=1.0), seed=0)
    agent.begin_film()
    agent.learn(120, log_interval=0)
    assert agent.draw_map() is None
    assert agent.write_film(tmp_path / "map.gif") is None
    with pytest.raises(ConfigError, match="nothing of world 0 is known"):
        agent.whole_map()


def test_a_choice_that_is_none_is_told_by_its_names(capsys):
    assert main(["validate", "robot", "algorithm.hyperparameters.criterion=ratio"]) == 2
    assert "criterion: expected one of size, zscore, none, found 'ratio'" in capsys.readouterr().err


def test_it_refuses_worlds_without_a_robot():
    with pytest.raises((ConfigError, AssertionError)):
        FARMapRobot(env=MapWorldVecEnv(1))
