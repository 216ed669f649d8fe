"""Copies that are stepped in one call: they do what so many single environments do, from Gymnasium and from YAML."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from farl.envs.batched import BatchedVecEnv
from farl.envs.registry import FAMILIES
from farl.envs.vector import SameStepVecEnv, in_rows
from farl.errors import ConfigError
from farl.experiment.config import EnvironmentConfig
from farl.experiment.environments import make_vec_env
from farl.experiment.loading import parse_config

IDS = [spec.id for family in FAMILIES for spec in family if "Huge" not in spec.id]
CASES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in IDS),
    *((name, {"start": "random"}) for name in IDS if "Map" not in name and "Robot" not in name),
    ("farl/HeteroRooms-1x6-v0", {"observation": "symbolic"}),
    ("farl/MapWorld-Small-v0", {"obstacles": 4, "recolour": True}),
]
SHORT = {"max_steps": 20}


class TwoAtOnce(SyncVectorEnv):
    """What another package might register: any vector environment that resets copies in the step in which they end."""

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(self, num_envs: int = 1, max_episode_steps: int | None = None) -> None:
        makers = [lambda: gym.make("CartPole-v1", max_episode_steps=9)] * num_envs
        super().__init__(makers, autoreset_mode=AutoresetMode.SAME_STEP)


@pytest.fixture
def theirs() -> Any:
    gym.register(
        "Theirs-v0", "gymnasium.envs.classic_control:CartPoleEnv", max_episode_steps=9, vector_entry_point=TwoAtOnce
    )
    yield "Theirs-v0"
    del gym.registry["Theirs-v0"]


def environment(name: str, backend: str, n_envs: int = 3, **kwargs: Any) -> EnvironmentConfig:
    kind = "minigrid" if "HeteroRooms" in name else "gymnasium"
    return EnvironmentConfig(id=name, kind=kind, n_envs=n_envs, vector_backend=backend, kwargs=kwargs)


def play(venv: Any, steps: int) -> list[Any]:
    trace = [venv.reset()]
    rng, space = np.random.default_rng(0), venv.action_space
    discrete = isinstance(space, gym.spaces.Discrete)
    for _ in range(steps):
        action = rng.integers(space.n, size=venv.num_envs) if discrete else rng.uniform(-1, 1, (venv.num_envs, 2))
        observations, rewards, dones, infos = venv.step(action)
        told = [{key: info.get(key) for key in ("position", "terminal_observation")} for info in infos]
        ends = [(info["TimeLimit.truncated"], info["episode"]["l"]) for info in infos if "episode" in info]
        returns = [info["episode"]["r"] for info in infos if "episode" in info]
        begun = [venv.unwrapped.reset_infos[env].get("position") for env in np.flatnonzero(dones)]
        trace.append((observations, rewards, dones, told, ends, returns, begun))
    return trace


def assert_equal(trace: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        assert trace.keys() == expected.keys()
        for key in expected:
            assert_equal(trace[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(trace) == len(expected)
        for one, other in zip(trace, expected, strict=True):
            assert_equal(one, other)
    elif expected is None:
        assert trace is None
    else:
        np.testing.assert_allclose(np.asarray(trace, float), np.asarray(expected, float), atol=1e-6)


@pytest.mark.parametrize(("name", "kwargs"), CASES, ids=str)
def test_a_batch_from_yaml_does_what_copies_do_one_after_another(name: str, kwargs: dict[str, Any]) -> None:
    kwargs = dict(kwargs)
    observation = {"observation": kwargs.pop("observation")} if "observation" in kwargs else {}
    batch, copies = (
        make_vec_env(environment(name, backend, **SHORT, **kwargs).model_copy(update=observation), seed=5)
        for backend in ("auto", "dummy")
    )
    assert isinstance(batch, BatchedVecEnv)
    assert isinstance(copies, DummyVecEnv)
    assert batch.observation_space == copies.observation_space
    assert batch.action_space == copies.action_space
    assert_equal(play(batch, 60), play(copies, 60))
    for each, other in zip(batch.get_attr("reachable"), copies.get_attr("reachable"), strict=True):
        np.testing.assert_array_equal(each, other)
    assert all(batch.env_is_wrapped(Monitor))


@pytest.mark.parametrize("noise", ["color-.2", "pixel-.1", "distractor-3", "light-.5"])
def test_one_agent_in_a_batch_sees_the_same_noise_as_a_single_one(noise: str) -> None:
    traces = [
        play(make_vec_env(environment("farl/RoomChain-v0", backend, 1, noise=noise, **SHORT), seed=5), 50)
        for backend in ("auto", "dummy")
    ]
    assert_equal(*traces)


@pytest.mark.parametrize("name", ["farl/RoomHub-v0", "farl/HeteroRooms-2x3-v0", "farl/MapWorld-Small-v0"])
def test_gymnasium_makes_it_with_make_vec(name: str) -> None:
    envs: Any = gym.make_vec(name, 2, max_steps=3)
    assert envs.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    observations, infos = envs.reset(seed=0)
    assert envs.observation_space.contains(observations)
    assert infos["position"][0] is not None
    for step in range(3):
        observations, rewards, terminated, truncated, infos = envs.step(envs.action_space.sample())
        assert rewards.shape == (2,)
        assert not terminated.any()
        assert truncated.all() == (step == 2)
    assert infos["_final_obs"].all()
    assert envs.single_observation_space.contains(infos["final_obs"][1])
    assert infos["final_info"]["episode"]["l"].tolist() == [3, 3]
    envs.close()


def test_any_registered_batch_that_resets_in_the_same_step_is_used(theirs: str) -> None:
    batch = make_vec_env(environment(theirs, "auto"), seed=5)
    copies = make_vec_env(environment(theirs, "dummy"), seed=5)
    assert isinstance(batch, VecMonitor)
    assert isinstance(batch.venv, SameStepVecEnv)
    assert_equal(play(batch, 40), play(copies, 40))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": "CartPole-v1"}, "SAME_STEP"),  # Gymnasium's own resets in the next step
        ({"id": "Acrobot-v1"}, "vector_entry_point"),
        ({"wrappers": ["TransformReward"], "kwargs": {}}, "wrappers"),
        ({"timeout": 3}, "timeout"),
    ],
)
def test_where_there_is_no_batch_copies_are_stepped_one_after_another_or_it_is_said_why(
    changes: dict[str, Any], words: str
) -> None:
    settings = {"id": "farl/RoomChain-v0", "n_envs": 2} | changes
    if "wrappers" in changes:
        settings["wrappers"] = [{"name": "TransformReward", "kwargs": {"func": float}}]
    assert isinstance(make_vec_env(EnvironmentConfig(**settings), 0), DummyVecEnv)
    with pytest.raises(ConfigError, match=words):
        parse_config({"environment": settings | {"vector_backend": "batch"}, "total_timesteps": 10})


def test_kwargs_that_only_a_single_one_takes_step_copies_one_after_another() -> None:
    venv = make_vec_env(environment("farl/HeteroRooms-2x3-v0", "auto", all_actions=True), 0)
    assert isinstance(venv, DummyVecEnv)
    assert venv.action_space.n == 7


@pytest.mark.parametrize(
    "environment",
    [
        {"id": "CartPole", "kind": "control"},
        {"id": "Acrobot", "kind": "control"},
        {"id": "farl/RoomChain-v0"},
        {"id": "farl/MapWorld-Small-v0"},
        {"id": "farl/HeteroRooms-2x3-v0", "kind": "minigrid"},
    ],
)
def test_observations_lie_in_rows_as_a_checkpoint_holds_them(environment: dict[str, Any]) -> None:
    """Networks round otherwise where they lie in another order, and a run that is resumed would differ."""
    venv = make_vec_env(EnvironmentConfig(n_envs=3, **environment), seed=0)
    shown: list[Any] = [venv.reset()]
    shown += [venv.step(np.array([venv.action_space.sample() for _ in range(3)]))[0] for _ in range(3)]
    for observations in shown:
        for part in observations.values() if isinstance(observations, dict) else [observations]:
            assert part.flags.c_contiguous
    venv.close()


def test_observations_of_others_are_put_in_rows() -> None:
    columns = np.arange(6.0).reshape(2, 3).T
    found = in_rows({"x": columns, "y": (columns, 3)})
    assert found["x"].flags.c_contiguous
    assert found["y"][0].flags.c_contiguous
    assert (found["x"] == columns).all()
    assert in_rows(found["x"]) is found["x"]
