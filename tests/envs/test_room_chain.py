import doctest
from typing import Any

import networkx as nx
import numpy as np
import pytest
from minigrid.core.grid import Grid
from minigrid.core.world_object import Wall
from minigrid.minigrid_env import MiniGridEnv

import farl.envs.room_chain.env
from farl.envs.minigrid import HeteroRoomsEnv
from farl.envs.room_chain import Look, RoomChain, RoomChainEnv, RoomChainVecEnv
from farl.envs.room_chain.layout import AHEAD, UNSEEN, WALL
from farl.experiment.config import EnvironmentConfig
from farl.experiment.environments import make_vec_env


def test_examples_in_docstrings_run() -> None:
    result = doctest.testmod(farl.envs.room_chain.env)
    assert result.attempted
    assert not result.failed


def test_batched_agents_do_what_single_ones_do() -> None:
    options: dict[str, Any] = {"rows": 2, "cols": 2, "goal": True, "max_steps": 60}
    single, batched = RoomChainEnv(**options), RoomChainVecEnv(3, **options)
    seen = batched.reset()
    expected, _ = single.reset(seed=0)
    assert (seen == expected).all()
    for action in np.random.default_rng(0).choice(3, size=300, p=[0.2, 0.2, 0.6]):
        seen, rewards, dones, infos = batched.step(np.full(3, action))
        expected, reward, terminated, truncated, info = single.step(action)
        assert all(each["position"] == info["position"] for each in infos)
        assert (rewards == np.float32(reward)).all()
        assert (dones == (terminated or truncated)).all()
        if terminated or truncated:
            assert (infos[0]["terminal_observation"] == expected).all()
            assert infos[0]["TimeLimit.truncated"] == (not terminated)
            expected, _ = single.reset()
        assert (seen == expected).all()


def test_views_are_those_of_minigrid_where_walls_hide_what_is_behind() -> None:
    world = RoomChain(2, 2, "alike")
    height, width = world.reachable.shape
    grid = Grid(width, height)
    for y, x in np.argwhere(~world.reachable):
        grid.set(x, y, Wall())
    env: Any = HeteroRoomsEnv()
    env.reset()
    env.grid = grid
    theirs = np.empty((len(world.positions), 49), np.int64)  # MiniGrid: 0 unseen, 1 empty, 2 wall
    for pose, (position, direction) in enumerate(zip(world.positions.tolist(), world.directions.tolist(), strict=True)):
        env.agent_pos, env.agent_dir = tuple(position), direction
        theirs[pose] = MiniGridEnv.gen_obs(env)["image"][..., 0].ravel()
    ours = world.views(np.arange(len(theirs))).reshape(len(theirs), 49, -1)[..., :4].argmax(axis=-1)
    assert (np.array([UNSEEN, 2, WALL])[theirs] == ours).all()


@pytest.mark.parametrize("look", ["color", "texture"])
def test_rooms_differ_in_looks_and_alike_rooms_do_not(look: Look) -> None:
    def middles(world: RoomChain) -> np.ndarray[Any, Any]:
        return world.views(np.array([world.pose_at(0, col, 3) for col in range(1, world.cols - 1)]))

    assert len(np.unique(middles(RoomChain(1, 14, look)), axis=0)) == 12
    assert len(np.unique(middles(RoomChain(1, 14, "alike")), axis=0)) == 1


def test_the_layout_seed_alone_decides_the_layout_and_the_episode_seed_the_start() -> None:
    def start(seed: int, layout_seed: int) -> tuple[Any, Any]:
        env = RoomChainEnv(layout_seed=layout_seed, start="random")
        _, info = env.reset(seed=seed)
        return env.world.codes.tobytes(), info["position"]

    assert start(0, 1) == start(0, 1)
    assert start(0, 1)[0] != start(0, 2)[0]
    assert len({start(seed, 1)[1] for seed in range(20)}) > 5
    assert len({start(seed, 1)[0] for seed in range(20)}) == 1


def test_doorways_join_all_rooms() -> None:
    world = RoomChain(2, 3)
    reached = np.zeros(len(world.positions), bool)
    reached[world.start] = True
    for _ in range(200):
        reached[world.following[reached].ravel()] = True
    assert reached.all()
    assert world.reachable.sum() == 6 * 49 + 7
    assert (np.bincount(world.rooms[world.rooms >= 0]) == 4 * 49).all()


def test_a_wall_stops_an_agent() -> None:
    env = RoomChainEnv(rows=1, cols=1)
    env.reset()
    positions = [env.step(np.int64(AHEAD))[4]["position"] for _ in range(9)]
    assert positions[-1] == (7, 4)


def test_picture_shows_the_agent_where_it_is() -> None:
    env = RoomChainEnv(render_mode="rgb_array", look="alike")
    env.reset()
    picture = env.render()
    assert picture is not None
    assert picture.shape == (9 * 8, 49 * 8, 3)
    white = np.argwhere((picture == 255).all(axis=-1))
    assert (white // 8 == 4).all()
    assert len(white)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": 0},
        {"look": "plain"},
        {"goal": True, "cols": 1},
        {"max_steps": 0},
        {"start": "nowhere"},
        *({"plan": plan} for plan in ("hub-2", "hub-0-1", "star-3", "chain-x", "grid-900-900", "ring-1-5", 3)),
        *({"noise": noise} for noise in ("color", "color-2", "snow-.1", "distractor-2.5", "distractor-9", 0.1)),
    ],
)
def test_wrong_arguments_are_named(wrong: dict[str, Any]) -> None:
    name = next(iter(wrong))
    with pytest.raises(ValueError, match=name):
        RoomChainEnv(**wrong)
    with pytest.raises(ValueError, match=name):
        RoomChainVecEnv(2, **wrong)


def test_a_configuration_can_name_it() -> None:
    venv = make_vec_env(EnvironmentConfig(id="farl/RoomChain-v0", n_envs=2, kwargs={"cols": 3, "look": "color"}), 0)
    assert venv.reset().shape == (2, 539)
    assert venv.get_attr("reachable")[0].sum() == 3 * 49 + 2
    venv.close()


@pytest.mark.parametrize(
    ("plan", "rooms", "doorways", "farthest"),
    [
        ("chain-5", 5, 4, 4),
        ("grid-2-3", 6, 7, 5),
        ("hub-2-5", 32, 31, 31),
        ("hub-1-2", 9, 8, 8),
        ("tree-4-4", 16, 15, None),
        ("ring-3-4", 10, 10, 5),
    ],
)
def test_plans_join_their_rooms(plan: str, rooms: int, doorways: int, farthest: int | None) -> None:
    world = RoomChain(plan=plan, layout_seed=3)
    assert world.n_rooms == rooms
    assert len(set(world.plan.doorways)) == doorways
    assert world.reachable.sum() == rooms * 49 + doorways
    graph = nx.Graph(world.plan.doorways)
    assert nx.is_connected(graph)
    assert graph.number_of_nodes() == rooms
    away = nx.single_source_shortest_path_length(graph, 0)
    assert away[world.plan.farthest] == max(away.values())
    assert farthest in (None, world.plan.farthest)
    assert len(np.unique(world.room_of_cell)) == rooms + 1


def test_a_hub_has_its_branches() -> None:
    graph = nx.Graph(RoomChain(plan="hub-3-4").plan.doorways)
    assert sorted(dict(graph.degree).values()) == [1] * 8 + [2] * 24 + [4] * 3


def test_trees_are_drawn_from_the_layout_seed() -> None:
    def doorways(seed: int) -> set[tuple[int, int]]:
        return set(RoomChain(plan="tree-4-4", layout_seed=seed).plan.doorways)

    assert doorways(1) == doorways(1)
    assert len({frozenset(doorways(seed)) for seed in range(10)}) == 10


def test_the_goal_lies_in_the_farthest_room() -> None:
    world = RoomChain(plan="hub-2-2", goal=True)
    assert set(world.rooms[world.is_goal].tolist()) == {world.plan.farthest}


def test_without_a_limit_agents_are_never_taken_back() -> None:
    venv = RoomChainVecEnv(2, cols=2, max_steps=None)
    venv.reset()
    assert not any(venv.step(np.array([0, 1]))[2].any() for _ in range(2000))


def test_episodes_can_begin_anywhere() -> None:
    venv = RoomChainVecEnv(64, plan="hub-2-2", start="anywhere")
    venv.seed(0)
    venv.reset()
    rooms = {int(venv.room_of_cell[y, x]) for x, y in (info["position"] for info in venv.reset_infos)}
    assert len(rooms) > 10


@pytest.mark.parametrize("noise", ["color-.1", "pixel-.1", "distractor-3", "light-.5"])
def test_noise_changes_what_is_seen_and_not_where_actions_lead(noise: str) -> None:
    clean, spoilt = RoomChainVecEnv(8, cols=3), RoomChainVecEnv(8, cols=3, noise=noise)
    for venv in (clean, spoilt):
        venv.seed(0)
        venv.reset()
    rng, apart = np.random.default_rng(0), []
    for _ in range(50):
        actions = rng.integers(3, size=8)
        seen, _, _, infos = spoilt.step(actions)
        expected, _, _, expected_infos = clean.step(actions)
        assert infos == expected_infos
        assert ((seen >= 0) & (seen <= 1)).all()
        apart.append(np.abs(seen - expected).max(axis=1))
    assert (np.array(apart) > 0).mean() > 0.8


def test_colours_are_redrawn_as_often_as_asked() -> None:
    world, spoilt = RoomChain(cols=2), RoomChainVecEnv(64, cols=2, noise="color-.05", start="random")
    spoilt.seed(0)
    changed = []
    for _ in range(20):
        seen = spoilt.reset().reshape(64, 49, -1)
        expected = world.views(spoilt._poses).reshape(64, 49, -1)
        changed.append(((seen != expected).any(axis=2) & (expected[..., 0] == 0)).sum() / (expected[..., 0] == 0).sum())
    assert np.mean(changed) == pytest.approx(0.05 * 6 / 7, rel=0.1)
