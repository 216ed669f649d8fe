"""Environments in processes of their own: what goes wrong in one is raised here, once."""

import os
import time

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

from farl.experiment.checked_env import EnvironmentFault
from farl.experiment.workers import WorkerVecEnv

FORK = {"start_method": "fork"}  # importing torch anew in each process would take longer than all else here


def _maker(fault="", at=3):
    """What makes an environment that fails in its ``at``-th step."""

    class Faulty(gym.Env):
        observation_space = gym.spaces.Box(0, 1, (2,), np.float32)
        action_space = gym.spaces.Discrete(2)

        class Unsendable(Exception):
            def __init__(self, one, two):
                super().__init__(f"{one} and {two}")

        def reset(self, seed=None, options=None):
            super().reset(seed=seed)
            if fault == "reset":
                raise LookupError("no such level")
            self.steps = 0
            return np.zeros(2, np.float32), {}

        def step(self, action):
            self.steps += 1
            if self.steps == at and fault == "step":
                raise ValueError("the robot fell over")
            if self.steps == at and fault == "unsendable":
                raise self.Unsendable("one", "two")
            if self.steps == at and fault == "hang":
                time.sleep(60)
            if self.steps == at and fault == "death":
                os._exit(7)
            return np.full(2, self.steps, np.float32), float(action), self.steps == 5, False, {}

    return Faulty


def _play(venv):
    venv.reset()
    for _ in range(3):
        venv.step(np.zeros(2, int))


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        ("step", ValueError, "the robot fell over"),
        ("unsendable", RuntimeError, "Unsendable: one and two"),
        ("reset", LookupError, "no such level"),
        ("death", EnvironmentFault, r"environment 0 \(exit code 7\) has ended"),
    ],
)
def test_a_fault_in_a_worker_is_raised_once_and_the_workers_end(fault, error, words):
    venv = WorkerVecEnv([_maker(fault), _maker()], **FORK)
    with pytest.raises(error, match=words) as raised:
        _play(venv)
    venv.close()  # raises nothing more, and waits for nobody
    assert not any(process.is_alive() for process in venv.processes)
    notes = getattr(raised.value, "__notes__", [])
    assert len(notes) == (fault != "death")
    assert all("Traceback" in note and f"in {'reset' if fault == 'reset' else 'step'}" in note for note in notes)
    assert raised.value.__context__ is None or raised.value.__suppress_context__


def test_without_a_fault_it_is_the_same_as_in_this_process():
    workers, here = WorkerVecEnv([_maker(), _maker()], **FORK), DummyVecEnv([_maker(), _maker()])
    np.testing.assert_array_equal(workers.reset(), here.reset())
    for _ in range(7):
        for got, expected in zip(workers.step(np.ones(2, int)), here.step(np.ones(2, int)), strict=True):
            np.testing.assert_equal(got, expected)
    workers.close()


def test_a_method_that_fails_in_a_worker_raises_here_and_the_worker_goes_on():
    workers = WorkerVecEnv([_maker(), _maker()], **FORK)
    with pytest.raises(AttributeError, match="get_state"):
        workers.env_method("get_state")
    assert workers.reset().shape == (2, 2)
    workers.close()


def test_a_worker_that_hangs_is_named_and_ended():
    venv = WorkerVecEnv([_maker(), _maker("hang")], timeout=0.5, **FORK)
    venv.reset()
    with pytest.raises(EnvironmentFault, match=r"environment 1 has not answered for 0\.5 s"):
        _step(venv, 3)
    assert not any(process.is_alive() for process in venv.processes)


@pytest.mark.parametrize("fault", ["hang", "death"])
def test_a_worker_that_ends_or_hangs_is_replaced_where_that_is_asked_for(fault):
    venv = WorkerVecEnv([_maker(), _maker(fault)], timeout=0.5, restart=True, **FORK)
    venv.reset()
    _step(venv, 2)
    _, rewards, dones, infos = venv.step(np.ones(2, int))
    assert dones.tolist() == [False, True]
    assert rewards.tolist() == [1.0, 0.0]
    assert infos[1]["TimeLimit.truncated"]
    assert infos[1]["restarts"] == 1
    _step(venv, 2)
    assert venv.step(np.ones(2, int))[3][1]["restarts"] == 1, "it fails in its third step again, and is replaced again"
    venv.close()
    assert not any(process.is_alive() for process in venv.processes)


def _step(venv, times):
    for _ in range(times):
        venv.step(np.ones(2, int))
