import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gym_check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.vec_env import DummyVecEnv

import farl.envs  # noqa: F401 - registers the environments
from farl.envs.map_world import PLANS, MapWorldEnv, MapWorldVecEnv, generate_world, generate_worlds, hairpin
from farl.maps.geometry import FREE, UNKNOWN, decode, encode

SIZES = ("Small", "Medium", "Large", "Huge", "Rooms")


@pytest.mark.filterwarnings("ignore:The minimal resolution")
@pytest.mark.parametrize("size", SIZES)
def test_registered_worlds_pass_both_checkers(size):
    env = gym.make(f"farl/MapWorld-{size}-v0", render_mode="rgb_array").unwrapped
    sb3_check_env(env)
    gym_check_env(env, skip_render_check=True)
    assert env.render().dtype == np.uint8


@pytest.mark.parametrize(
    ("size", "low", "high"), [("small", 0, 3_000), ("medium", 3_001, 7_000), ("large", 7_001, 40_000)]
)
def test_generated_worlds_have_their_size_and_one_connected_part(size, low, high):
    for seed in range(5):
        world = generate_world(np.random.default_rng(seed), size)
        assert low <= world.size * 9 <= high
        MapWorldEnv(maps=world)


def test_the_huge_world_has_600_cells_a_side():
    world = generate_world(np.random.default_rng(0), "huge")
    assert min(world.shape) * 3 >= 600


def test_the_generator_repeats_with_its_seed():
    first, second = (generate_worlds(np.random.default_rng(7)) for _ in range(2))
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("options", [{}, {"recolour": True}, {"obstacles": 5}], ids=["plain", "recolour", "obstacles"])
def test_many_worlds_do_what_single_ones_do(options):
    options = {"size": "small", "max_steps": 60} | options
    many = MapWorldVecEnv(3, **options)
    single = DummyVecEnv([lambda: MapWorldEnv(**options) for _ in range(3)])
    for env in (many, single):
        env.seed(5)
    rng = np.random.default_rng(0)
    observations = many.reset(), single.reset()
    for _ in range(150):
        for key in ("view", "odometry"):
            np.testing.assert_array_equal(observations[0][key], observations[1][key])
        actions = rng.integers(0, 4, 3)
        steps = many.step(actions), single.step(actions)
        observations = steps[0][0], steps[1][0]
        np.testing.assert_allclose(steps[0][1], steps[1][1], rtol=1e-6)
        np.testing.assert_array_equal(steps[0][2], steps[1][2])
        for a, b in zip(steps[0][3], steps[1][3], strict=True):
            assert a["position"] == b["position"]
            assert a.get("TimeLimit.truncated", False) == b["TimeLimit.truncated"]
            assert ("terminal_observation" in a) == ("terminal_observation" in b)


def corridor(length=12):
    walls = np.ones((3, length + 2), bool)
    walls[1, 1:-1] = False
    return walls


def test_a_blocked_step_changes_nothing():
    env = MapWorldEnv(maps=corridor(), scale=1)
    env.reset(seed=0)
    before = env.worlds.pose.copy()
    env.step(0)
    np.testing.assert_array_equal(env.worlds.pose, before)


def test_a_step_sets_the_heading_and_the_odometry():
    env = MapWorldEnv(maps=corridor(), scale=1)
    env.reset(seed=0)
    env.worlds.pose[0, :2] = env.worlds.start[0] = 1, 4
    observation, *_, info = env.step(3)
    assert observation["odometry"].tolist() == [0, 1, 3]
    assert info["position"] == (5, 1)


def test_walking_through_a_corridor_covers_all_of_it_and_ends_the_episode():
    env = MapWorldEnv(maps=corridor(), scale=1)
    env.reset(seed=0)
    total, terminated = env.worlds.coverage[0], False
    for action in [2] * 12 + [3] * 12:
        _, reward, terminated, _, info = env.step(action)
        total += reward
        if terminated:
            break
    assert terminated
    assert info["coverage"] == 1.0
    assert total == pytest.approx(1.0)


def test_the_episode_is_truncated_at_its_limit():
    env = MapWorldEnv(maps=corridor(40), scale=1, max_steps=3)
    env.reset(seed=0)
    assert [env.step(0)[3] for _ in range(3)] == [False, False, True]


def test_every_wall_has_a_colour_of_its_own_that_is_neither_free_nor_unknown():
    env = MapWorldEnv(size="large")
    env.reset(seed=0)
    walls = ~env.reachable[::3, ::3]
    codes = encode(env.worlds.picture(0)[None, ::3, ::3])[0]
    colours = codes[walls]
    assert len(np.unique(colours)) == len(colours)
    assert not np.isin(colours, (FREE, UNKNOWN)).any()
    assert (codes[~walls] == FREE).all()


def test_recolouring_changes_walls_but_not_what_is_free():
    env = MapWorldEnv(recolour=True)
    env.reset(seed=0)
    before, free = env.worlds.picture(0).copy(), env.reachable
    env.step(0)
    after = env.worlds.picture(0)
    assert (before[free] == after[free]).all()
    assert (before[~free] != after[~free]).any(axis=-1).all()


def test_obstacles_move_over_free_cells_only_and_never_onto_the_agent():
    env = MapWorldEnv(obstacles=20)
    env.reset(seed=0)
    free = env.reachable
    rng = np.random.default_rng(0)
    places = set()
    for _ in range(50):
        env.step(rng.integers(4))
        rows, cols = env.worlds._obstacles[0].T
        assert free[rows, cols].all()
        assert len({(r, c) for r, c in zip(rows, cols, strict=True)} | {tuple(env.worlds.pose[0, :2])}) == 21
        places.add(tuple(rows))
        np.testing.assert_array_equal(env.reachable, free)
    assert len(places) > 40


def test_given_maps_are_explored_in_turn():
    maps = [corridor(10), corridor(20), corridor(30)]
    env = MapWorldEnv(maps=maps, scale=1)
    widths = []
    for _ in range(4):
        env.reset(seed=0)
        widths.append(env.reachable.sum())
    assert widths == [10, 20, 30, 10]
    many = MapWorldVecEnv(3, maps=maps, scale=1)
    many.reset()
    assert [free.sum() for free in many.get_attr("reachable")] == [10, 20, 30]


@pytest.mark.parametrize("name", PLANS)
def test_the_drawn_plans_are_worlds_whose_landmarks_can_be_walked_on(name):
    plan = PLANS[name]()
    assert plan.landmarks.any()
    assert not (plan.landmarks & plan.walls).any()
    env = MapWorldEnv(maps=name)
    env.reset(seed=0)
    np.testing.assert_array_equal(env.reachable[::3, ::3], ~plan.walls)


def test_a_hairpin_has_one_way_through():
    free = ~hairpin(4, 5).walls
    neighbours = sum(np.roll(free, shift, axis) for shift in (1, -1) for axis in (0, 1))
    assert ((neighbours == 1) & free).sum() == 2
    assert (neighbours[free] <= 2).all()


def test_colour_codes_and_pictures_are_two_writings_of_one_thing():
    codes = np.random.default_rng(0).integers(0, 1 << 24, (2, 5, 5)).astype(np.int32)
    picture = np.empty((2, 5, 5, 3), np.uint8)
    decode(codes, picture)
    np.testing.assert_array_equal(encode(picture), codes)


@pytest.mark.parametrize(
    "options",
    [
        {"scale": 0},
        {"obstacles": -1},
        {"view_size": 8},
        {"max_steps": 0},
        {"size": "tiny"},
        {"map_name": "x", "maps": corridor()},
    ],
)
def test_options_that_cannot_be_are_refused(options):
    with pytest.raises(ValueError, match=r".+"):
        MapWorldEnv(**options)


@pytest.mark.parametrize("options", [{"size": "rooms", "scale": 1}, {"maps": "compartments"}], ids=["drawn", "given"])
def test_a_layout_seed_holds_map_colours_and_start_over_episodes_and_worlds(options):
    env = MapWorldVecEnv(2, layout_seed=3, max_steps=4, until_covered=False, **options)
    env.seed(0)
    first = env.reset()
    assert not env.world_changes
    np.testing.assert_array_equal(first["view"][0], first["view"][1])
    for step in range(8):
        again, *_ = env.step(np.array([step % 4, 3]))
    np.testing.assert_array_equal(again["view"], first["view"])
    assert not again["odometry"][:, :2].any()
    alone = MapWorldEnv(layout_seed=3, **options)
    np.testing.assert_array_equal(alone.reset(seed=9)[0]["view"], first["view"][0])
    other = MapWorldEnv(layout_seed=4, **options)
    other.reset(seed=9)
    assert not np.array_equal(other.worlds.picture(0), alone.worlds.picture(0))


def test_a_held_layout_can_start_anywhere():
    env = MapWorldEnv(size="rooms", layout_seed=0, start="anywhere")
    starts, pictures = set(), []
    for seed in range(5):
        _, info = env.reset(seed=seed)
        starts.add(info["position"])
        pictures.append(env.worlds.picture(0))
    assert len(starts) > 1
    assert all(np.array_equal(picture, pictures[0]) for picture in pictures)


def test_rooms_are_those_that_were_drawn():
    env = gym.make("farl/MapWorld-Rooms-v0").unwrapped
    env.reset(seed=0)
    rooms, free = env.room_of_cell, env.reachable
    assert rooms.shape == free.shape
    assert np.bincount(rooms[rooms >= 0]).tolist() == [49] * 9
    assert not (rooms[~free] >= 0).any()
    doorways = np.argwhere(free & (rooms < 0))
    assert 8 <= len(doorways) <= 12
    for row, col in doorways:  # each lies between two rooms, and is a cell wide
        beside = {int(rooms[row + y, col + x]) for y, x in ((0, 1), (0, -1), (1, 0), (-1, 0))} - {-1}
        assert len(beside) == 2
    many = MapWorldVecEnv(2, size="rooms", scale=1, layout_seed=0)
    many.reset()
    np.testing.assert_array_equal(many.get_attr("room_of_cell")[1], rooms)


@pytest.mark.parametrize("size", ["small", "medium"])
def test_ragged_and_merged_rooms_stay_inside_their_map(size):
    env = MapWorldEnv(size=size, layout_seed=2)
    env.reset(seed=0)
    rooms = env.room_of_cell
    assert env.reachable[rooms >= 0].all()
    assert len(np.unique(rooms[rooms >= 0])) >= 3


def test_a_plan_by_its_name_tells_its_compartments_and_a_map_of_the_users_own_tells_none():
    env = MapWorldVecEnv(1, maps="compartments", scale=2)
    env.reset()
    rooms = env.get_attr("room_of_cell")[0]
    assert np.bincount(rooms[rooms >= 0]).tolist() == [4 * 49] * 6
    own = np.ones((5, 5), bool)
    own[1:4, 1:4] = False
    for world in (MapWorldVecEnv(1, maps=own), DummyVecEnv([lambda: gym.make("farl/MapWorld-Small-v0", maps=own)])):
        world.reset()
        assert not world.has_attr("room_of_cell")


def test_a_world_as_a_vector_is_its_view():
    parts, vector = (MapWorldEnv(layout_seed=1, observation=kind) for kind in ("parts", "vector"))
    seen = parts.reset(seed=0)[0], vector.reset(seed=0)[0]
    assert vector.observation_space.contains(seen[1])
    np.testing.assert_allclose(seen[1] * 255, seen[0]["view"].reshape(-1), rtol=1e-6)
    many = MapWorldVecEnv(2, layout_seed=1, observation="vector")
    np.testing.assert_array_equal(many.reset(), [seen[1]] * 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": "fixed"}, "needs a layout_seed"),
        ({"start": "middle"}, "start must be one of"),
        ({"layout_seed": -1}, "layout_seed must be"),
        ({"layout_seed": 1.5}, "layout_seed must be"),
        ({"observation": "pixels"}, "observation must be one of"),
    ],
)
def test_a_layout_that_cannot_be_is_refused(options, message):
    for make in (MapWorldEnv, lambda **given: MapWorldVecEnv(2, **given)):
        with pytest.raises(ValueError, match=message):
            make(**options)
