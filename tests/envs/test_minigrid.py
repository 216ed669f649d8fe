import doctest
import pickle
from typing import Any

import gymnasium as gym
import minigrid  # noqa: F401  (registers MiniGrid's own environments)
import numpy as np
import pytest
from minigrid.core.world_object import Wall
from minigrid.minigrid_env import MiniGridEnv
from minigrid.wrappers import OneHotPartialObsWrapper
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

import farl.envs.minigrid
import farl.envs.minigrid_wrappers
from farl.envs.minigrid import FastPartialView, HeteroRoomsEnv, ImgObsWrapper, OneHotObs, PositionInfo
from farl.envs.minigrid_vec_env import HeteroRoomsVecEnv

TEXTURES = ["none", "color", "texture"]


def random_actions(n: int, seed: int = 0) -> list[int]:
    # Mostly forward, so that the agent leaves the first room.
    return np.random.default_rng(seed).choice(3, size=n, p=[0.2, 0.2, 0.6]).tolist()


def trace(env: gym.Env[Any, Any], actions: list[int], seed: int) -> list[Any]:
    observation, info = env.reset(seed=seed)
    steps: list[Any] = [(observation["image"].tobytes(), observation["direction"], info["position"])]
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        steps.append((observation["image"].tobytes(), observation["direction"], info["position"], reward))
        if terminated or truncated:
            env.reset()
    return steps


@pytest.mark.parametrize("module", [farl.envs.minigrid, farl.envs.minigrid_wrappers])
def test_examples_in_docstrings_run(module: Any) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("texture", TEXTURES)
@pytest.mark.parametrize("agent_view_size", [3, 7])
def test_views_from_the_table_equal_minigrids_in_every_cell_and_direction(texture: Any, agent_view_size: int) -> None:
    env = HeteroRoomsEnv(room_size=5, texture=texture, goal=True, agent_view_size=agent_view_size, layout_seed=3)
    env.reset()
    for y, x in np.argwhere(env.reachable):
        for direction in range(4):
            env.agent_pos, env.agent_dir = (int(x), int(y)), direction
            np.testing.assert_array_equal(env.gen_obs()["image"], MiniGridEnv.gen_obs(env)["image"])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("MiniGrid-MultiRoom-N6-v0", {}),
        ("MiniGrid-KeyCorridorS3R3-v0", {"agent_view_size": 5}),
        ("MiniGrid-ObstructedMaze-1Dlh-v0", {}),
        ("MiniGrid-Empty-Random-6x6-v0", {}),
    ],
)
def test_the_fast_view_equals_minigrids_own_through_doors_and_with_things_carried(name: str, options: Any) -> None:
    fast, slow = FastPartialView(gym.make(name, **options)), gym.make(name, **options)
    rng = np.random.default_rng(0)
    carried = opened = 0
    for episode in range(20):
        expected, _ = slow.reset(seed=episode)
        observation, _ = fast.reset(seed=episode)
        for action in rng.choice(7, size=200, p=[0.15, 0.15, 0.4, 0.1, 0.05, 0.15, 0]):
            np.testing.assert_array_equal(observation["image"], expected["image"])
            assert observation["image"].dtype == expected["image"].dtype
            assert (observation["direction"], observation["mission"]) == (expected["direction"], expected["mission"])
            carried += slow.unwrapped.carrying is not None
            opened += any(
                cell is not None and cell.type == "door" and cell.is_open for cell in slow.unwrapped.grid.grid
            )
            expected, *outcome, _ = slow.step(action)
            observation, *found, _ = fast.step(action)
            assert outcome == found
            if outcome[1] or outcome[2]:
                break
    assert opened > 0 or "Empty" in name
    assert carried > 0 or "Key" not in name


@pytest.mark.parametrize("all_actions", [False, True])
def test_a_trace_equals_that_of_minigrids_own_step(all_actions: bool) -> None:
    options: dict[str, Any] = {"room_size": 3, "goal": True, "max_steps": 300, "all_actions": all_actions}
    fast, slow = HeteroRoomsEnv(**options), HeteroRoomsEnv(**options)
    fast.reset(seed=0)
    slow.reset(seed=0)
    rewards = 0.0
    for action in random_actions(4000) if not all_actions else np.random.default_rng(0).integers(7, size=1000).tolist():
        observation, reward, terminated, truncated, info = fast.step(action)
        expected, *outcome, _ = MiniGridEnv.step(slow, action)
        np.testing.assert_array_equal(observation["image"], expected["image"])
        assert [reward, terminated, truncated] == outcome
        assert info["position"] == tuple(slow.agent_pos)
        assert (observation["direction"], observation["mission"]) == (expected["direction"], expected["mission"])
        rewards += reward
        if terminated or truncated:
            fast.reset()
            slow.reset()
    assert rewards > 0 or all_actions  # the goal was reached on the way


def test_the_same_seed_gives_the_same_trace_and_the_layout_does_not_depend_on_it() -> None:
    actions = random_actions(600)
    env, other = (gym.make("farl/HeteroRooms-2x3-v0", start="random") for _ in range(2))
    assert trace(env, actions, seed=4) == trace(other, actions, seed=4)
    assert trace(env, actions, seed=4) != trace(other, actions, seed=5)
    assert env.unwrapped.grid == other.unwrapped.grid


def test_layout_seed_draws_another_layout() -> None:
    assert HeteroRoomsEnv(layout_seed=0).world.grid != HeteroRoomsEnv(layout_seed=1).world.grid


@pytest.mark.parametrize("spec", farl.envs.registry.MINIGRID, ids=lambda spec: spec.id)
def test_reachable_is_what_walking_reaches_and_no_more(spec: Any) -> None:
    env = gym.make(spec.id).unwrapped
    env.reset()
    seen, frontier = {env.agent_pos}, [env.agent_pos]
    while frontier:  # step from every cell in every direction
        cell = frontier.pop()
        for direction in range(4):
            env.agent_pos, env.agent_dir = cell, direction
            position = env.step(2)[-1]["position"]
            if position not in seen:
                seen.add(position)
                frontier.append(position)
    assert env.reachable.shape == (env.height, env.width)
    assert {(int(x), int(y)) for y, x in np.argwhere(env.reachable)} == seen


def test_rooms_are_alike_only_without_texture() -> None:
    def looks(texture: Any) -> list[bytes]:
        env = HeteroRoomsEnv(rows=3, cols=3, texture=texture, doorways="middle")
        codes = env.world.grid.encode()
        return [codes[9 * c + 1 : 9 * c + 8, 9 * r + 1 : 9 * r + 8].tobytes() for r in range(3) for c in range(3)]

    assert len(set(looks("none"))) == 1
    assert len(set(looks("texture"))) == 9
    colors = looks("color")
    for row, col in np.ndindex(3, 3):
        assert col == 2 or colors[3 * row + col] != colors[3 * row + col + 1]
        assert row == 2 or colors[3 * row + col] != colors[3 * row + col + 3]


def test_goal_lies_in_the_farthest_room_and_ends_the_episode_with_a_reward() -> None:
    env = HeteroRoomsEnv(rows=1, cols=2, room_size=3, doorways="middle", goal=True, max_steps=100)
    env.reset()
    outcomes = [env.step(2) for _ in range(5)]  # straight through the doorway to the middle of the second room
    assert [outcome[2] for outcome in outcomes] == [False] * 4 + [True]
    assert outcomes[-1][1] == pytest.approx(1 - 0.9 * 5 / 100)
    assert outcomes[-1][4]["position"] == (7, 2)


def test_episode_is_truncated_after_max_steps_and_not_before() -> None:
    env = HeteroRoomsEnv(max_steps=3)
    env.reset()
    assert [env.step(0)[3] for _ in range(3)] == [False, False, True]


def test_random_start_stays_within_the_first_room() -> None:
    env = HeteroRoomsEnv(start="random", room_size=4)
    starts = {env.reset(seed=seed)[1]["position"] for seed in range(300)}
    assert starts == {(x, y) for x in range(1, 5) for y in range(1, 5)}


def test_observations_are_copies_that_can_be_written_to() -> None:
    env = HeteroRoomsEnv()
    observation, _ = env.reset()
    before = observation["image"].copy()
    observation["image"][:] = 0
    np.testing.assert_array_equal(env.gen_obs()["image"], before)


def test_environment_can_be_pickled_and_goes_on_alike() -> None:
    env = HeteroRoomsEnv(start="random")
    env.reset(seed=1)
    other = pickle.loads(pickle.dumps(env))
    assert trace(env, random_actions(50), seed=2) == trace(other, random_actions(50), seed=2)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"rows": 0}, "rows must be a whole number of at least 1, got 0"),
        ({"cols": 2.0}, "cols must be a whole number"),
        ({"room_size": 2}, "room_size must be a whole number of at least 3, got 2"),
        ({"texture": "colour"}, "texture must be one of 'none', 'color', 'texture', got 'colour'"),
        ({"doorways": "left"}, "doorways must be one of"),
        ({"start": "here"}, "start must be one of"),
        ({"max_steps": True}, "max_steps must be a whole number"),
        ({"layout_seed": -1}, "layout_seed must be a whole number of at least 0"),
        ({"agent_view_size": 6}, "agent_view_size must be odd, got 6"),
        ({"rows": 1, "cols": 1, "goal": True}, "goal=True needs at least two rooms"),
    ],
)
def test_bad_arguments_are_named_with_the_fix(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HeteroRoomsEnv(**kwargs)


def test_unknown_action_is_refused() -> None:
    env = HeteroRoomsEnv()
    env.reset()
    with pytest.raises(ValueError, match=r"action must be in 0\.\.2, got 3"):
        env.step(3)


def test_one_hot_equals_minigrids_own() -> None:
    env = gym.make("MiniGrid-DoorKey-8x8-v0")
    ours, theirs = OneHotObs(env), OneHotPartialObsWrapper(env)
    observation, _ = env.reset(seed=0)
    for action in np.random.default_rng(0).integers(6, size=200):
        np.testing.assert_array_equal(
            ours.observation(observation), theirs.observation(observation)["image"].ravel().astype(np.float32)
        )
        observation = env.step(action)[0]


def test_one_hot_refuses_observations_it_cannot_read() -> None:
    with pytest.raises(ValueError, match="OneHotObs needs MiniGrid's dictionary"):
        OneHotObs(ImgObsWrapper(HeteroRoomsEnv()))


@pytest.mark.parametrize("wrapper", [OneHotObs, ImgObsWrapper])
def test_ppo_trains_on_wrapped_observations(wrapper: Any) -> None:
    env = make_vec_env("farl/HeteroRooms-2x3-v0", 2, wrapper_class=wrapper)
    PPO("MlpPolicy", env, n_steps=16, batch_size=16, n_epochs=1, policy_kwargs={"net_arch": [8]}).learn(32)


def test_position_info_follows_the_agent_in_any_minigrid_environment() -> None:
    env = PositionInfo(gym.make("MiniGrid-FourRooms-v0"))
    _, info = env.reset(seed=0)
    for action in random_actions(100):
        assert info["position"] == tuple(env.unwrapped.agent_pos)
        assert env.unwrapped.reachable[info["position"][1], info["position"][0]]
        info = env.step(action)[-1]


def test_position_info_counts_locked_rooms_as_reachable_and_sealed_cells_as_not() -> None:
    env = PositionInfo(gym.make("MiniGrid-DoorKey-8x8-v0"))
    env.reset(seed=0)
    world = env.unwrapped

    def not_walls() -> np.ndarray:
        walls = [isinstance(cell, Wall) for cell in world.grid.grid]
        return ~np.array(walls).reshape(world.height, world.width)

    np.testing.assert_array_equal(world.reachable, not_walls())

    def seal(width: int, height: int) -> None:
        generate(width, height)
        world.grid.set(6, 5, Wall())
        world.grid.set(5, 6, Wall())  # the last cell is cut off

    generate, world._gen_grid = world._gen_grid, seal
    env.reset(seed=0)
    expected = not_walls()
    assert expected[6, 6]
    expected[6, 6] = False
    np.testing.assert_array_equal(world.reachable, expected)


def test_every_cell_of_a_room_knows_it() -> None:
    env: Any = gym.make("farl/HeteroRooms-2x3-v0").unwrapped
    rooms, sizes = np.unique(env.room_of_cell, return_counts=True)
    assert rooms.tolist() == [-1, 0, 1, 2, 3, 4, 5]
    assert (sizes[1:] == 49).all()
    assert env.reachable[env.room_of_cell >= 0].all()
    x, y = env.world.room_center(1, 2)
    assert env.room_of_cell[y, x] == 5
    batched = HeteroRoomsVecEnv(2)
    np.testing.assert_array_equal(batched.get_attr("room_of_cell")[1], env.room_of_cell)
