"""Robots: rays, driving, bumping, drift, and what they refuse."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_sb3_env
from stable_baselines3.common.vec_env import DummyVecEnv

import farl.envs  # noqa: F401 (registers)
from farl.envs.map_world import OccupancyGrid, save_occupancy_map
from farl.envs.robot.buildings import WORLDS, draw_plan, make_building
from farl.envs.robot.env import RobotEnv
from farl.envs.robot.lidar import cast, leaps
from farl.envs.robot.settings import RobotSettings
from farl.envs.robot.vec_env import RobotVecEnv
from farl.envs.robot.worlds import beam_angles
from farl.errors import ConfigError
from farl.slam.poses import between, compose, inverse

QUIET = {"range_noise": 0.0, "dropouts": 0.0, "drift": 0.0}


def room(height=60, width=100, resolution=0.05):
    """One empty room with a pillar in it."""
    cells = np.ones((height, width), np.int8)
    cells[1:-1, 1:-1] = 0
    cells[20:26, 60:70] = 1
    return cells


def make_env(**options):
    return RobotEnv(maps=room(), until_covered=None, **(QUIET | options))


def test_the_environment_keeps_gymnasiums_and_stable_baselines_conventions():
    check_env(gym.make("farl/Robot-v0").unwrapped, skip_render_check=True)
    env = make_env(render_mode="rgb_array")
    check_sb3_env(env)
    env.reset(seed=0)
    picture = env.render()
    assert picture.dtype == np.uint8
    assert picture.shape == (60, 100, 3)


def test_a_ray_ends_where_walking_along_it_in_small_steps_ends():
    obstacles = np.random.default_rng(0).random((80, 90)) < 0.04
    obstacles[[0, -1]] = obstacles[:, [0, -1]] = True
    leap, rng = leaps(obstacles), np.random.default_rng(1)
    for _ in range(300):
        x, y, angle = rng.uniform(1, 89), rng.uniform(1, 79), rng.uniform(-np.pi, np.pi)
        length = cast(leap, x, y, np.cos(angle), np.sin(angle), 60.0)
        way = np.arange(0.0, 60.0, 0.001)
        hit = obstacles[
            (y + way * np.sin(angle)).clip(0, 79).astype(int), (x + way * np.cos(angle)).clip(0, 89).astype(int)
        ]
        assert length == pytest.approx(way[hit.argmax()] if hit.any() else 60.0, abs=0.01)


def test_a_scan_measures_the_walls_of_a_room():
    env = make_env(beams=4, start=(2.0, 1.0, 0.0))
    observation, info = env.reset(seed=0)
    # Beams at -180, -90, 0 and 90 degrees; walls are one cell, 5 cm, thick.
    np.testing.assert_allclose(observation["scan"], [1.95, 0.95, 2.95, 0.95 + 1.0], atol=1e-6)
    assert info["pose"] == [2.0, 1.0, 0.0]


@pytest.mark.parametrize(("field", "beams"), [(360.0, 180), (60.0, 31), (270.0, 1), (90.0, 2)])
def test_beams_are_symmetric_to_the_heading(field, beams):
    angles = beam_angles(field, beams)
    assert len(angles) == beams
    if field < 360.0:
        np.testing.assert_allclose(angles, -angles[::-1], atol=1e-12)
    env = make_env(lidar_field=field, beams=beams, start=(2.0, 1.5, 0.3))
    scan = env.reset(seed=0)[0]["scan"]
    leap = leaps(room()[::-1] != 0)
    expected = [cast(leap, 40.0, 30.0, np.cos(0.3 + a), np.sin(0.3 + a), 160.0) * 0.05 for a in angles]
    np.testing.assert_allclose(scan, expected, atol=1e-5)


def test_it_drives_in_arcs_as_fast_as_told_and_its_odometry_says_so():
    env = make_env(rate=10.0, max_speed=0.4, max_turn=1.0, start=(1.0, 1.0, 0.0))
    env.reset(seed=0)
    for _ in range(10):
        observation, *_, info = env.step(np.array([1.0, 0.5], np.float32))
    radius = 0.4 / 0.5
    expected = [1.0 + radius * np.sin(0.5), 1.0 + radius * (1 - np.cos(0.5)), 0.5]
    np.testing.assert_allclose(info["pose"], expected, atol=1e-3)
    np.testing.assert_allclose(observation["odometry"], between([1.0, 1.0, 0.0], info["pose"]), atol=1e-3)
    assert info["driven"] == pytest.approx(0.4)


def test_it_stops_at_a_wall_and_can_turn_away():
    env = make_env(start=(1.0, 1.0, np.pi))
    env.reset(seed=0)
    for _ in range(100):
        *_, info = env.step(np.array([1.0, 0.0]))
    assert info["bumped"]
    assert 0.05 + 0.18 - 0.05 < info["pose"][0] < 0.05 + 0.18 + 0.1
    for _ in range(42):
        *_, info = env.step(np.array([0.0, 1.0]))
    for _ in range(20):
        *_, info = env.step(np.array([1.0, 0.0]))
    assert info["pose"][0] > 0.4


@pytest.mark.parametrize("speed", [0.5, 10.0])
def test_no_speed_drives_through_a_wall(speed):
    cells = np.ones((40, 120), np.int8)
    cells[1:-1, 1:60] = cells[1:-1, 61:-1] = 0
    env = RobotVecEnv(16, maps=cells, max_speed=speed, rate=2.0, until_covered=None, **QUIET)
    env.seed(0)
    env.reset()
    left = env.worlds.pose[:, 0] < 3.0
    rng = np.random.default_rng(0)
    for _ in range(200):
        env.step(rng.uniform(-1, 1, (16, 2)))
    np.testing.assert_array_equal(env.worlds.pose[:, 0] < 3.0, left)


def test_drift_grows_with_the_way_and_with_the_rate_and_none_is_none():
    def errors(drift, steps):
        env = RobotVecEnv(
            64, maps=np.zeros((400, 400), np.int8), drift=drift, beams=1, until_covered=None, max_steps=9_999
        )
        env.seed(0)
        env.reset()
        for step in range(steps):
            env.step(np.tile([1.0, 0.2 if step // 40 % 2 else -0.2], (64, 1)))
        moved = between(env.worlds.start, env.worlds.pose)
        return np.hypot(*(moved - env.worlds.odometry)[:, :2].T).mean() / env.worlds.driven.mean()

    assert errors(0.0, 300) < 1e-4  # arcs in one piece and in several
    small, large, longer = errors(0.01, 300), errors(0.05, 300), errors(0.01, 600)
    assert 0.004 < small < 0.03
    assert 3.0 < large / small < 7.0
    assert longer * 600 > 1.2 * small * 300


def test_noise_and_dropouts_are_as_large_as_told():
    env = RobotVecEnv(
        1, maps=room(), range_noise=0.05, dropouts=0.1, drift=0.0, start=(1.0, 1.0, 0.0), until_covered=None
    )
    env.seed(0)
    scans = np.array([env.reset()["scan"][0], *(env.step(np.zeros((1, 2)))[0]["scan"][0] for _ in range(500))])
    assert (scans == 0).mean() == pytest.approx(0.1, abs=0.01)
    beam = scans[:, 90][scans[:, 90] > 0]
    assert beam.std() == pytest.approx(0.05, rel=0.15)
    assert beam.mean() == pytest.approx(3.95, abs=0.02)


def test_many_robots_do_what_each_does_alone_and_a_seed_repeats_it():
    options = {"maps": room(), "max_steps": 40}
    many = RobotVecEnv(3, **options)
    single = DummyVecEnv([lambda: RobotEnv(**options) for _ in range(3)])
    for env in (many, single):
        env.seed(5)
    a, b = many.reset(), single.reset()
    rng = np.random.default_rng(0)
    for _ in range(100):
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])
        actions = rng.uniform(-1, 1, (3, 2)).astype(np.float32)
        (a, rewards, dones, infos), (b, rewards_b, dones_b, infos_b) = many.step(actions), single.step(actions)
        np.testing.assert_allclose(rewards, rewards_b, atol=1e-7)
        np.testing.assert_array_equal(dones, dones_b)
        assert [info["pose"] for info in infos] == [info["pose"] for info in infos_b]
        for one, other in zip(infos, infos_b, strict=True):
            assert ("terminal_observation" in one) == ("terminal_observation" in other)


def test_coverage_counts_what_can_be_seen_once():
    env = make_env(start=(1.0, 1.0, 0.0))
    env.reset(seed=0)
    first, total = env.worlds.coverage[0], 0.0
    for step in range(300):
        _, reward, *_, info = env.step(np.array([1.0, 0.2 if step % 60 < 30 else -0.2]))
        total += reward
    assert first > 0.3
    assert info["coverage"] == pytest.approx(first + total)
    assert info["coverage"] > 0.9


@pytest.mark.parametrize("world", [world for world in WORLDS if world != "huge"])
def test_every_world_that_is_drawn_can_be_driven_in(world):
    for seed in range(3):
        building = make_building(draw_plan(world, np.random.default_rng(seed)), RobotSettings())
        free = (building.grid.cells == 0).sum()
        assert len(building.starts) > 0.3 * free
        assert building.areas.sum() * building.cells_per_area**2 > 0.7 * free


def test_poses_compose_and_come_apart():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-3, 3, (2, 20, 3))
    np.testing.assert_allclose(between(a, compose(a, b)), b, atol=1e-12)
    np.testing.assert_allclose(compose(a, inverse(a)), np.zeros((20, 3)), atol=1e-12)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"maps": np.ones((9, 9), np.int8)}, "no free cell"),
        ({"maps": room(), "radius": 3.0}, "fits nowhere"),
        ({"maps": room(), "resolution": 0.0}, "above 0"),
        ({"maps": room(), "resolution": float("nan")}, "above 0"),
        ({"maps": room(), "lidar_range": 0.01}, "below one cell"),
        ({"maps": room(), "lidar_range": 0.0}, "lidar_range must be above 0"),
        ({"maps": room(), "drift": -0.1}, "drift must be at least 0"),
        ({"maps": room(), "drift": float("nan")}, "drift must be"),
        ({"maps": room(), "beams": 2.5}, "whole number"),
        ({"maps": room(), "rate": "fast"}, "rate must be"),
        ({"maps": room(), "lidar_rnge": 3.0}, "lidar_range"),
        ({"maps": room(), "start": (0.01, 0.01, 0.0)}, "nearest free place"),
        ({"maps": room(), "start": (99.0, 1.0, 0.0)}, "outside the plan"),
        ({"maps": room(), "start": (1.0, float("nan"), 0.0)}, "three finite numbers"),
        ({"maps": room(), "max_steps": 0}, "max_steps"),
        ({"maps": room(), "max_steps": 2.5}, "max_steps must be a whole number"),
        ({"maps": room(), "max_steps": float("nan")}, "max_steps must be"),
        ({"maps": room(), "resolution": "fine"}, "resolution must be"),
        ({"maps": room(), "start": "here"}, "three finite numbers"),
        ({"maps": room(), "until_covered": 1.5}, "until_covered"),
        ({"maps": room(), "until_covered": "all"}, "until_covered"),
        ({"maps": room(), "threshold": 2.0}, "threshold is a brightness"),
        ({"maps": room(), "dark": "wal"}, "dark is what dark pixels are"),
        ({"world": "ofice"}, "office"),
    ],
)
@pytest.mark.parametrize("many", [False, True])
def test_bad_input_gets_one_line(options, words, many):
    with pytest.raises(ConfigError) as caught:
        (RobotVecEnv(2, **options) if many else RobotEnv(**options)).reset()
    assert len(caught.value.problems) == 1
    assert words in caught.value.problems[0]


@pytest.mark.parametrize("n_envs", [0, -1, 2.5, "two"])
def test_a_number_of_robots_that_is_none_is_refused(n_envs):
    with pytest.raises(ConfigError, match="n_envs must be"):
        RobotVecEnv(n_envs, maps=room())


def test_a_reset_into_a_wall_is_refused_and_nothing_is_lost():
    env = make_env(start=(1.0, 1.0, 0.0))
    env.reset(seed=0)
    with pytest.raises(ConfigError, match="cannot start"):
        env.reset(options={"start": (0.0, 0.0, 0.0)})
    assert env.step(np.array([0.0, 0.0]))[4]["pose"] == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("action", [[np.nan, 0.0], [1.0], [[0.0, 0.0]], ["on", 1.0], {}, None])
def test_actions_that_are_none_are_refused(action):
    env = make_env()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action"):
        env.step(action)


def test_a_ros_map_is_driven_in_at_its_own_or_another_resolution(tmp_path):
    path = save_occupancy_map(tmp_path / "plan.yaml", OccupancyGrid(room(), 0.05))
    assert RobotEnv(maps=path).plan.resolution == 0.05
    coarse = RobotEnv(maps=path, resolution=0.1)
    assert coarse.plan.resolution == 0.1
    assert coarse.plan.cells.shape == (30, 50)


def test_several_plans_are_several_buildings():
    rooms = [np.zeros((40, 40), np.int8), np.zeros((50, 40), np.int8)]
    for maps, change in ((rooms, True), (rooms[0], False), (None, True)):
        assert RobotVecEnv(2, maps=maps).world_changes is change
        assert RobotEnv(maps=maps).world_changes is change
