"""FARMapRobot explores, comes back to what it knows, and goes on where it was saved."""

import signal

import numpy as np
import pytest
from PIL import Image

from farl.agents.robot import FARMapRobot
from farl.agents.robot_driving import Body, Course
from farl.agents.robot_film import LONGEST, Film
from farl.agents.robot_map import Found, Lidar, RobotMap, Rules, canvas_of
from farl.agents.robot_pictures import way_of
from farl.agents.robot_travel import look_through
from farl.cli import main
from farl.envs.map_world import MapWorldVecEnv, load_occupancy_map
from farl.envs.map_world.occupancy import UNMAPPED, WALL
from farl.envs.robot.offices import generate_office
from farl.envs.robot.vec_env import RobotVecEnv
from farl.envs.robot.worlds import beam_angles
from farl.errors import ConfigError
from farl.experiment.config import EnvironmentConfig
from farl.experiment.environments import make_vec_env
from farl.memory import LongTermMemory
from farl.sb3.exploration import ExplorationCallback
from farl.slam.matching import Match
from farl.slam.occupancy import Fit
from tests.agents.offices import errors, make_env


@pytest.fixture(scope="module")
def explored(office):
    env = make_env(office, drift=0.03)
    agent = FARMapRobot(env=env, seed=0, largest=60.0, smallest=20.0)
    agent.learn(2_500, log_interval=0)
    return agent, env


def test_it_maps_an_office_in_fragments_and_knows_where_it_is(explored):
    agent, env = explored
    assert env.worlds.coverage[0] > 0.7
    assert agent.explorers.fragments >= 3
    assert errors(agent, env)[0] < 0.5
    known = (agent.whole_map().cells != UNMAPPED).sum()
    held = (agent.robots[0].canvas.cells != 0).sum()
    assert held < known


def test_it_does_not_hesitate_between_fragments(explored):
    agent, _ = explored
    assert 1 <= agent.explorers.recalls <= 6 * agent.explorers.fragments + 10


def test_ways_in_a_stored_fragment_are_measured_between_its_crossings(explored):
    agent, _ = explored
    robot, measured = agent.robots[0], 0
    for fragment in robot.others:
        look_through(robot, fragment, agent.explorers.taste)
        stored = robot.memory[fragment]
        sides, metres = stored["sides"], np.array(stored["metres"])
        ends = np.array([robot.crossings[fragment, other] for other in sides] + [at[:2] for at in stored["goals"]])
        assert metres.shape == (len(sides), len(ends))
        straight = np.hypot(*(ends[: len(sides), None] - ends[None]).transpose(2, 0, 1))
        assert (metres > straight - 0.3).all()
        finite = np.isfinite(metres)
        np.testing.assert_array_equal(np.isfinite(metres[:, : len(sides)]).diagonal(), True)
        measured += int(finite.sum())
    assert measured > len(robot.others)


def test_a_fragment_is_entered_where_it_knows_the_place_and_not_where_that_failed(explored):
    agent, _ = explored
    robot = agent.robots[0]
    known = dict(robot.enterable())
    for other, pose in known.items():
        inside = canvas_of(robot.memory[other], robot.rules.resolution)
        col, row, _ = inside.rays(pose)
        assert inside.cells[int(row), int(col)] < 0
        robot.refuse(other)
    assert not dict(robot.enterable())
    robot._refused.clear()


def test_it_is_not_lost_where_the_odometry_alone_is(office):
    wrong = {}
    for matching in (True, False):
        env = make_env(office, 2, drift=0.05)
        agent = FARMapRobot(env=env, seed=0, matching=matching, criterion="size" if matching else "none")
        agent.learn(2 * 1_000, log_interval=0)
        wrong[matching] = np.mean(errors(agent, env))
    assert wrong[True] < 0.4 * wrong[False]


def test_its_map_is_saved_and_can_be_explored(explored, tmp_path):
    agent, env = explored
    saved = load_occupancy_map(agent.save_map(tmp_path / "map.yaml"))
    assert saved.resolution == 0.1
    share = (saved.cells == 0).sum() * 0.1**2 / ((env.worlds.building(0).grid.cells == 0).sum() * 0.05**2)
    assert 0.6 < share < 1.1
    again = RobotVecEnv(1, maps=tmp_path / "map.yaml")
    again.seed(0)
    assert again.reset()["scan"].max() > 0.5
    assert MapWorldVecEnv(1, maps=tmp_path / "map.yaml", scale=1).reset()["view"].any()
    with pytest.raises(ConfigError, match="leave the resolution out"):
        agent.save_map(tmp_path / "other.yaml", resolution=0.2)


def test_it_draws_what_it_knows_and_no_way_through_walls(explored):
    agent, _ = explored
    robot, cell = agent.robots[0], agent.cell
    assert agent.draw_map() is not None
    whole = agent.whole_map()
    walls = whole.cells[::-1] == WALL
    along = []
    for name, fragment in robot.fragments(0).items():
        for piece in way_of(fragment, robot.graph.poses[name]):
            share = np.linspace(0.0, 1.0, 10)[:, None, None]
            along.append(((1 - share) * piece[:-1] + share * piece[1:]).reshape(-1, 2))
    cols, rows = ((np.concatenate(along) - whole.origin[:2]) / cell).astype(int).T
    assert len(cols) > 5_000
    assert walls[rows, cols].mean() < 0.002


def test_what_happens_at_a_scan_is_recorded_once(office):
    agent, recorder = FARMapRobot(env=make_env(office), largest=40.0, smallest=10.0), ExplorationCallback()
    agent.learn(1_200, callback=recorder, log_interval=0)
    assert recorder.record.trace is not None
    events = recorder.record.trace.snapshot()
    assert agent.explorers.fragments + agent.explorers.recalls > 1
    assert events.fractures.sum() == agent.explorers.fragments
    assert events.recalls.sum() == agent.explorers.recalls


def test_what_it_believes_is_drawn_into_the_pictures_of_its_environment(office):
    settings = EnvironmentConfig(id="farl/Robot-v0", kwargs={"until_covered": None})
    env = make_vec_env(settings, 0, n_envs=1, render_mode="rgb_array")
    agent, observation = FARMapRobot(env=make_env(office)), env.reset()
    pictures = []
    for shown in (False, True):
        if shown:
            agent.show_in(env)
        agent.predict(observation)
        pictures.append(env.get_images()[0])
    colourful = [(np.ptp(picture.astype(int), axis=-1) > 20).sum() for picture in pictures]
    assert colourful[1] > colourful[0] + 100
    env.close()


def test_its_film_is_spread_over_the_whole_way_and_can_be_saved_and_seen(explored, tmp_path):
    robot = explored[0].robots[0]
    film = Film()
    for step in range(0, 40_000, 50):
        film.look(robot, step)
    assert LONGEST / 2 <= len(film.frames) <= LONGEST
    assert np.unique(np.diff([frame.step for frame in film.frames])).tolist() == [film.every]
    again = Film.from_state_dict(film.state_dict())
    assert again.frames == film.frames
    with Image.open(again.write(tmp_path / "map.gif")) as gif:
        assert gif.n_frames > 1 or len({picture.tobytes() for picture in film.draw()}) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["map.gif"]
    assert Film().write(tmp_path / "none.gif") is None


def test_a_place_that_it_cannot_quite_reach_is_not_sought_for_ever():
    env = make_env(generate_office(np.random.default_rng(23), floors=1).cells, drift=0.0)
    agent = FARMapRobot(env=env, seed=0, criterion="none", goal="nearest")
    env.seed(0)
    agent.learn(600, log_interval=0)
    driven = float(env.worlds.driven[0])
    assert driven > 6.0
    agent.learn(300, reset_num_timesteps=False, log_interval=0)
    assert env.worlds.driven[0] > driven + 2.0


@pytest.mark.parametrize("criterion", ["size", "none"])
def test_it_gets_past_thin_walls_and_through_narrow_gaps_to_the_end(criterion):
    plan = np.zeros((64, 84), np.int8)
    plan[[0, -1]], plan[:, [0, -1]] = 1, 1
    plan[15:, 28], plan[:49, 56] = 1, 1  # a cell thick, with gaps 70 cm wide
    env = make_env(plan, n_envs=3, drift=0.05)
    agent = FARMapRobot(env=env, seed=0, criterion=criterion, largest=8.0, smallest=4.0)
    for _ in range(8):
        agent.learn(3 * 250, reset_num_timesteps=False, log_interval=0)
        if (env.worlds.coverage > 0.99).all():
            break
    assert (env.worlds.coverage > 0.99).all(), env.worlds.coverage


@pytest.mark.parametrize("seen", [True, False])
def test_what_holds_it_fast_is_backed_off_from_whether_seen_or_not_and_at_last_given_up(seen):
    course, angles, body = Course(), np.array([-0.1, 0.0, 0.1]), Body(0.18, 1.5)
    scan = np.full(3, 0.1 if seen else 5.0, np.float32)
    for bump in range(3):
        assert course.take_ends() == []
        course.follow(np.array([[1.0, 0.0], [2.0, 0.0]]))
        steps = [course.steer(np.zeros(3), 0.0, scan, angles, body) for _ in range(30)]
        assert sum(forward < 0 for forward, _ in steps) >= 10, bump
    again = Course()
    again.load_state_dict(course.state_dict())
    assert again.take_ends() == course.take_ends() == [[2.0, 0.0]]
    assert course.take_ends() == []


def test_a_loaded_robot_goes_on_as_the_saved_one(explored, tmp_path):
    agent, env = explored
    agent.save(tmp_path / "agent.zip")
    again = FARMapRobot.load(tmp_path / "agent.zip")
    rng = np.random.default_rng(0)
    odometry = env.worlds.odometry.astype(np.float32)
    nobody = np.zeros(1, bool)
    for _ in range(30):
        scan = rng.uniform(0.5, 3.0, (1, 180)).astype(np.float32)
        odometry = odometry + np.array([[0.01, 0.0, 0.02]], np.float32)
        np.testing.assert_array_equal(
            agent.explorers.act(scan, odometry, nobody), again.explorers.act(scan, odometry, nobody)
        )


@pytest.mark.parametrize(
    "options",
    [
        {"criterion": "none", "matching": False},
        {"criterion": "none"},
        {"goal": "nearest"},
        {"planning": "global", "largest": 60.0, "smallest": 20.0},
        {"criterion": "zscore", "surprisal": "new-cells", "rho": 3.0, "largest": 60.0, "smallest": 20.0},
        {"capacity": 2, "largest": 40.0, "smallest": 10.0},
        {"particles": 80, "largest": 60.0, "smallest": 20.0},
    ],
    ids=str,
)
def test_every_variant_explores(office, options):
    env = make_env(office, drift=0.0)
    agent = FARMapRobot(env=env, seed=0, **options)
    agent.learn(500, log_interval=0)
    assert env.worlds.coverage[0] > 0.15
    assert errors(agent, env)[0] < 0.3


def test_a_new_episode_begins_with_nothing(office):
    env = RobotVecEnv(2, maps=office, max_steps=120, until_covered=None)
    env.seed(0)
    agent = FARMapRobot(env=env, seed=0, largest=20.0, smallest=5.0)
    agent.learn(2 * 250, log_interval=0)
    assert all(np.hypot(*robot.world_pose[:2]) < 1.0 for robot in agent.robots)
    assert all(len(robot.been) <= 4 for robot in agent.robots)


def test_it_takes_its_body_and_lidar_from_the_environment(tmp_path):
    env = make_env(np.zeros((60, 60), np.int8), lidar_field=90.0, radius=0.3, max_turn=0.7)
    agent = FARMapRobot(env=env, seed=0)
    assert (agent.lidar_field, agent.radius, agent.max_turn) == (90.0, 0.3, 0.7)
    assert np.ptp(agent.explorers.lidar.angles) == pytest.approx(np.pi / 2)
    agent.save(tmp_path / "robot")
    loaded = FARMapRobot.load(tmp_path / "robot")
    assert np.array_equal(loaded.explorers.lidar.angles, agent.explorers.lidar.angles)
    assert loaded.explorers.body == agent.explorers.body
    other = make_env(np.zeros((60, 60), np.int8))
    for refused in (lambda: FARMapRobot.load(tmp_path / "robot", env=other), lambda: agent.set_env(other)):
        with pytest.raises(ConfigError, match="lidar_field is 90 degrees"):
            refused()


def test_a_robot_that_is_localised_by_particles_goes_on_as_it_was_saved(office, tmp_path):
    env = make_env(office)
    agent = FARMapRobot(env=env, seed=0, particles=20)
    agent.learn(120, log_interval=0)
    agent.save(tmp_path / "agent.zip")
    again = FARMapRobot.load(tmp_path / "agent.zip")
    for step in range(12):
        seen = env.worlds.scan.copy(), env.worlds.odometry + 0.01 * step, np.zeros(1, bool)
        np.testing.assert_array_equal(agent.explorers.act(*seen), again.explorers.act(*seen))
    np.testing.assert_array_equal(agent.robots[0].pose, again.robots[0].pose)


def test_a_closure_that_is_undone_takes_its_crossing_with_it():
    """Two rooms that look alike: what joined the wrong one goes when a sure closure contradicts it."""
    robot = RobotMap(LongTermMemory(), Lidar(beam_angles(360.0, 180), 8.0), Rules(0.1, True, True, 3))
    robot.begin(0)
    sure = np.diag([0.02, 0.02, 0.01]) ** 2
    for frame in (1, 2):  # down a corridor, 10 m a fragment, give or take one
        robot.pose, robot.covariance = np.array([10.0, 0.0, 0.0]), np.diag([1.0, 1.0, 0.01])
        robot.divide(frame)

    def closed(fragment, at):
        """Whether being ``at`` in a fragment closes a loop, by what a scan there says."""
        found = Found(fragment, Match(np.array(at), sure, 0.9, 0.0), Fit(0.1, 0.0, 0.0))
        return robot._close(found, *robot._seen_from(fragment))

    robot.pose, robot.covariance = np.array([1.0, 0.0, 0.0]), sure
    assert closed(0, [16.0, 0.0, 0.0])  # the other room, 5 m from the right one: after so long a way it might be
    assert {(2, 0), (0, 2)} <= set(robot.crossings)
    assert closed(1, [11.0, 0.0, 0.0])  # what the odometry said of the way between the last two
    assert robot.undone == 1
    assert {frozenset(pair) for pair in robot.crossings} == {frozenset((0, 1)), frozenset((1, 2))}
    np.testing.assert_allclose(robot.graph.poses[2], [20.0, 0.0, 0.0], atol=0.01)


@pytest.mark.parametrize("seed", range(2))
def test_rooms_that_look_alike_are_told_apart(seed):
    """Two rooms of one shape and size, 7 m apart, in fragments of their own: neither is taken for the other."""
    plan = np.ones((120, 260), np.int8)
    plan[70:110, 4:256] = 0
    for left in (30, 170):
        plan[4:66, left : left + 60] = 0
        plan[4:20, left : left + 14] = 1
        plan[66:70, left + 24 : left + 40] = 0
    env = RobotVecEnv(1, maps=plan, drift=0.05, lidar_range=4.0, until_covered=None, max_steps=10**6)
    env.seed(seed)
    agent = FARMapRobot(env=env, seed=seed, largest=20.0, smallest=8.0)
    agent.learn(1_500, log_interval=0)
    assert env.worlds.coverage[0] > 0.9
    assert len(agent.robots[0].graph.poses) >= 3
    assert errors(agent, env)[0] < 1.0


def test_what_shows_too_little_is_not_worth_a_trip():
    env = make_env(np.zeros((60, 60), np.int8))
    for least, done in ((0.4, False), (1_000.0, True)):
        agent = FARMapRobot(env=env, seed=0, lidar_range=1.0, least_gain=least)
        agent.learn(8, log_interval=0)
        assert agent.explorers.done[0] == done


def test_the_preset_trains_and_leaves_pictures_and_a_map(tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", "robot", "total_timesteps=600", "--out", str(run)]) == 0
    assert (run / "exploration" / "map.png").is_file()
    with Image.open(run / "exploration" / "map.gif") as film:
        assert film.n_frames >= 3
    assert main(["record", str(run), "--out", str(tmp_path / "a.gif"), "--max-steps", "15"]) == 0
    assert "cut off after 15 steps (--max-steps)" in capsys.readouterr().out
    assert main(["export-map", str(run)]) == 0
    assert load_occupancy_map(run / "map.yaml").resolution == 0.1
    assert main(["train", "robot", "total_timesteps=80", f"environment.kwargs.maps={run / 'map.yaml'}", "--out",
                 str(tmp_path / "again")]) == 0  # fmt: skip


def test_a_run_that_is_stopped_leaves_its_pictures_and_film_and_goes_on(tmp_path, monkeypatch):
    run, look = tmp_path / "run", Film.look

    def stop_at_250(film, robot, step):
        look(film, robot, step)
        if step == 250:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(Film, "look", stop_at_250)
        assert main(["train", "robot", "total_timesteps=500", "--out", str(run)]) == 130
    assert (run / "exploration" / "map.png").is_file()
    with Image.open(run / "exploration" / "map.gif") as film:
        early = film.n_frames
    assert main(["resume", str(run)]) == 0
    with Image.open(run / "exploration" / "map.gif") as film:
        assert film.n_frames > early > 1
