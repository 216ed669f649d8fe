"""The state of every kind of environment: what is restored goes on as if nothing had happened."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecMonitor, VecNormalize

from farl.envs.state import CannotRestoreError, get_state, set_state
from farl.experiment.config import EnvironmentConfig
from farl.experiment.environments import make_vec_env
from farl.memory.storage import load_state, save_state
from farl.plain import from_plain, to_plain

ROOMS = "farl/RoomChain-v0"
ALONE = {"vector_backend": "dummy"}
KINDS: dict[str, dict[str, Any]] = {
    "cartpole": {"id": "CartPole-v1"},
    "pendulum": {"id": "Pendulum-v1"},
    "toy text": {"id": "FrozenLake-v1"},
    "rooms": {"id": ROOMS, "kwargs": {"start": "anywhere", "noise": "distractor-3", "max_steps": 30}},
    "hetero rooms": {"id": "farl/HeteroRooms-2x3-v0", "kind": "minigrid", "kwargs": {"start": "random"}},
    "robot": {"id": "farl/Robot-v0", "kwargs": {"max_steps": 25, "beams": 12}},
    "map world": {"id": "farl/MapWorld-Small-v0", "kwargs": {"obstacles": 3, "recolour": True, "max_steps": 25}},
    "rooms, one by one": {"id": ROOMS, "kwargs": {"start": "anywhere", "noise": "light-.5", "max_steps": 30}, **ALONE},
    "hetero rooms, one by one": {"id": "farl/HeteroRooms-2x3-Goal-v0", "kind": "minigrid", **ALONE},
    "map of rooms": {"id": "farl/MapWorld-Rooms-v0", "kwargs": {"max_steps": 25, "start": "anywhere"}},
    "map world, one by one": {"id": "farl/MapWorld-Small-v0", "kwargs": {"obstacles": 3, "max_steps": 25}, **ALONE},
    "minigrid": {"id": "MiniGrid-Dynamic-Obstacles-5x5-v0", "kind": "minigrid"},
    "minigrid key": {"id": "MiniGrid-KeyCorridorS3R1-v0", "kind": "minigrid"},
    "lander": {"id": "LunarLander-v3"},
    "control": {"id": "CartPole", "kind": "control", "kwargs": {"level": 2}},
    "control lander": {"id": "LunarLander", "kind": "control"},
    "wrappers": {
        "id": "CartPole-v1",
        "wrappers": [
            {"name": "RecordEpisodeStatistics", "kwargs": {"stats_key": "statistics"}},
            {"name": "NormalizeObservation"},
            {"name": "FrameStackObservation", "kwargs": {"stack_size": 3}},
        ],
    },
    "normalised": {"id": "CartPole-v1", "normalize_observations": True, "normalize_rewards": True},
    "stacked": {"id": "CartPole-v1", "vec_wrappers": [{"name": "VecFrameStack", "kwargs": {"n_stack": 3}}]},
    "processes, pickled": {"id": "MiniGrid-Fetch-5x5-N2-v0", "kind": "minigrid", "vector_backend": "subproc"},
    "procgen": {"id": "starpilot", "kind": "procgen", "kwargs": {"num_threads": 1}},
    "atari": {"id": "ALE/Breakout-v5", "kind": "atari", "kwargs": {"repeat_action_probability": 0.25}},
}


def make(kind: str, seed: int) -> VecEnv:
    needs = {"procgen": "procgen", "atari": "ale_py", "lander": "Box2D", "control lander": "Box2D"}
    if kind in needs:
        pytest.importorskip(needs[kind])
    return make_vec_env(EnvironmentConfig.model_validate({"n_envs": 2, **KINDS[kind]}), seed)


def walk(venv: VecEnv, steps: int, seed: int) -> list[Any]:
    """What happens when random actions are taken."""
    rng, trace = np.random.default_rng(seed), []
    space = venv.action_space
    for _ in range(steps):
        actions = (
            rng.integers(space.n, size=venv.num_envs)
            if isinstance(space, gym.spaces.Discrete)
            else rng.uniform(-1, 1, (venv.num_envs, *(space.shape or ()))).astype(np.float32)
        )
        observations, rewards, dones, infos = venv.step(actions)
        for info in infos:
            info.get("episode", {}).pop("t", None)  # of the clock
            info.get("statistics", {}).pop("t", None)
        trace.append((observations, rewards.copy(), dones.copy(), infos))
    return trace


@pytest.mark.parametrize("kind", KINDS)
def test_restored_environments_go_on_as_if_nothing_had_happened(kind: str, tmp_path: Path) -> None:
    venv, other = make(kind, 3), make(kind, 77)
    try:
        venv.reset()
        walk(venv, 37, 0)
        save_state(get_state(venv), tmp_path / "state.safetensors")
        expected = walk(venv, 60, 1)
        other.reset()
        walk(other, 11, 5)
        set_state(other, load_state(tmp_path / "state.safetensors"))
        np.testing.assert_equal(walk(other, 60, 1), expected)
    finally:
        venv.close()
        other.close()


class Unpicklable(gym.Env[Any, Any]):
    """Holds what cannot be saved."""

    observation_space = gym.spaces.Box(-1, 1, (1,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self) -> None:
        self.endless = iter(int, 1)
        self.generator = (number for number in range(9))

    def reset(self, **kwargs: Any) -> Any:
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(1, np.float32), 0.0, False, False, {}


class OwnWay(Unpicklable):
    """Knows how to save what it holds."""

    count = 0

    def step(self, action: Any) -> Any:
        self.count += 1
        return np.full(1, self.count / 9, np.float32), float(self.count), False, False, {}

    def get_state(self) -> Any:
        return {"count": self.count}

    def set_state(self, state: Any) -> None:
        self.count = state["count"]


def own(entry: str, seed: int) -> VecEnv:
    venv = make_vec_env(EnvironmentConfig(id=f"tests.envs.test_state:{entry}"), seed)
    venv.reset()
    return venv


def test_environment_of_ones_own_joins_by_two_methods() -> None:
    venv, other = own("OwnWay", 0), own("OwnWay", 1)
    walk(venv, 5, 0)
    set_state(other, get_state(venv))
    np.testing.assert_equal(walk(other, 3, 0), walk(venv, 3, 0))


def test_what_cannot_be_restored_says_why() -> None:
    with pytest.raises(CannotRestoreError, match=r"Unpicklable has no get_state, and cannot be pickled: .*generator"):
        get_state(own("Unpicklable", 0))


def test_pickles_of_others_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    venv = make("minigrid", 0)
    venv.reset()
    state = get_state(venv)
    set_state(venv, state)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))  # another user
    with pytest.raises(CannotRestoreError, match="pickles can run code"):
        set_state(venv, state)


def test_state_of_other_environments_is_refused() -> None:
    venv, other = make("cartpole", 0), make("pendulum", 0)
    venv.reset()
    other.reset()
    with pytest.raises(CannotRestoreError, match="CartPoleEnv"):
        set_state(other, get_state(venv))


@pytest.mark.parametrize("wrap", [VecMonitor, VecNormalize, lambda venv: VecFrameStack(VecNormalize(venv), 2)])
def test_wrappers_around_all_environments_are_restored(wrap: Callable[[VecEnv], VecEnv]) -> None:
    venv, other = wrap(make("rooms", 3)), wrap(make("rooms", 4))
    venv.reset()
    other.reset()
    walk(venv, 40, 0)
    set_state(other, get_state(venv))
    np.testing.assert_equal(walk(other, 50, 1), walk(venv, 50, 1))


@pytest.mark.parametrize(
    "value",
    [
        {"a": (1, 2.5, None, "x"), 3: {1, 2}, (1, 2): frozenset({"y"})},
        [np.float32(0.1), np.uint16(7), np.bool_(True), np.array("text"), b"bytes", 2**100, float("nan")],
        np.arange(6, dtype=np.uint64).reshape(2, 3),
        np.zeros((0, 4)),
    ],
)
def test_plain_data_comes_back_as_it_was(value: Any, tmp_path: Path) -> None:
    save_state({"value": to_plain(value)}, tmp_path / "x")
    back = from_plain(load_state(tmp_path / "x")["value"])
    np.testing.assert_equal(back, value)
    assert type(back) is type(value)
