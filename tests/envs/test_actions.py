"""No environment of ours takes an action that is none: compiled kernels would read beyond their arrays."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

import farl.envs
from farl.envs.actions import check_actions
from farl.envs.control import ControlVecEnv
from farl.envs.control_tasks import TASKS
from farl.envs.map_world import MapWorldVecEnv
from farl.envs.room_chain import RoomChainVecEnv

farl_ids = sorted(farl.envs.list_envs())
WRONG = [-1, 10**6, 1.5, float("nan"), None, "1", [0, 1]]


@pytest.mark.parametrize("name", farl_ids)
def test_registered_environments_refuse_what_is_no_action(name):
    env = gym.make(name).unwrapped
    env.reset(seed=0)
    if isinstance(env.action_space, spaces.Box):  # velocities within limits are taken, others are cut to them
        wrong: list[Any] = [float("nan"), None, "fast", [0.0], [0.0, np.inf], [0.0, 0.0, 0.0]]
    else:
        assert isinstance(env.action_space, spaces.Discrete)
        wrong = [*WRONG, int(env.action_space.n)]
    for action in wrong:
        with pytest.raises((ValueError, TypeError), match=r"action|whole number|shape|float"):
            env.step(action)
    env.step(env.action_space.sample())  # and none of it was done


BATCHED = {
    "MapWorld": lambda: MapWorldVecEnv(2),
    "RoomChain": lambda: RoomChainVecEnv(2),
    **{task: lambda task=task: ControlVecEnv(task, 2) for task in TASKS if task != "LunarLander"},
}


@pytest.mark.parametrize("name", BATCHED)
def test_batched_environments_refuse_what_is_no_action(name):
    env = BATCHED[name]()
    env.reset()
    n = int(env.action_space.n)
    for actions in ([0, n], [-1, 0], [0.0, 1.0], [0], [0, 0, 0], [[0, 0]], [None, 0]):
        with pytest.raises(ValueError, match="action"):
            env.step(np.array(actions))
    env.step(np.array([0, n - 1]))


def test_the_refusal_names_action_range_and_environment():
    with pytest.raises(ValueError, match=r"action must be in 0\.\.3, got 4 in environment 1"):
        check_actions([0, 4, 9], 4, 3)
    np.testing.assert_array_equal(check_actions(np.array([1, 2], np.uint8), 4, 2), [1, 2])
