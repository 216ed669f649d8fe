"""Environments in processes of their own that say what went wrong, where plain ``SubprocVecEnv`` says ``EOFError``."""

import logging
import multiprocessing as mp
import pickle
import signal
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import SubprocVecEnv
from stable_baselines3.common.vec_env.base_vec_env import CloudpickleWrapper, VecEnvIndices, VecEnvObs, VecEnvStepReturn
from stable_baselines3.common.vec_env.subproc_vec_env import _stack_obs, _worker

from farl.experiment.checked_env import EnvironmentFault

AnyEnv = gym.Env[Any, Any]
_LOG = logging.getLogger(__name__)
_MOST_RESTARTS = 3
_SEED_STRIDE = 1_000_003
_FAILURE = "worker_failure"
_GONE = (EOFError, ConnectionResetError, BrokenPipeError)


class WorkerVecEnv(SubprocVecEnv):
    """``SubprocVecEnv`` that raises in this process what an environment raised in its own, once, with its traceback.

    :param makers: one function for each environment that makes it
    :param start_method: how processes start; SB3's default if None
    :param timeout: seconds that a worker may take for an answer; None for no limit
    :param restart: whether a worker that ended or hangs is replaced: its episode then ends there, as if cut off
    :raises EnvironmentFault: a worker ended by itself, such as one that was killed for its memory, or hangs
    """

    def __init__(
        self,
        makers: Sequence[Callable[[], AnyEnv]],
        start_method: str | None = None,
        timeout: float | None = None,
        restart: bool = False,
    ) -> None:
        self._gone = False
        self._replaced = 0
        self._timeout, self._restart = timeout, restart
        self._makers: list[Callable[[], AnyEnv]] = [_Maker(make) for make in makers]
        self._start_method = start_method
        self._failed_in_a_row = [0] * len(makers)
        try:
            super().__init__(self._makers, start_method)
        except _GONE:
            raise self._ended() from None

    def reset(self) -> VecEnvObs:
        """Reset all environments."""
        try:
            observations = super().reset()
        except _GONE:
            raise self._ended() from None
        self._raise_failures(self.reset_infos)
        return observations

    def step_wait(self) -> VecEnvStepReturn:
        """Wait for the steps of all environments."""
        results = [self._answer(number) for number in range(self.num_envs)]
        self.waiting = False
        observations, rewards, dones, infos, resets = zip(*results, strict=True)
        self.reset_infos = list(resets)
        self._raise_failures([*infos, *resets])
        stacked = _stack_obs(observations, self.observation_space)
        return stacked, np.stack(rewards), np.stack(dones), infos  # type: ignore[return-value]

    def _answer(self, number: int) -> Any:
        """What a worker answers to a step, or what stands for it where the worker was replaced."""
        remote = self.remotes[number]
        try:
            if self._timeout is None or remote.poll(self._timeout):
                answer = remote.recv()
                self._failed_in_a_row[number] = 0
                return answer
            told = f"the process of environment {number} has not answered for {self._timeout:g} s"
        except _GONE:
            self.processes[number].join(timeout=1.0)
            told = _ended_line(f"environment {number} (exit code {self.processes[number].exitcode})")
        self._failed_in_a_row[number] += 1
        if not self._restart or self._failed_in_a_row[number] > _MOST_RESTARTS:
            self._gone = True
            self.close()
            raise EnvironmentFault(told)
        _LOG.warning("%s; it was replaced and its episode cut off", told)
        observation, info = self._replace(number)
        cut = {"TimeLimit.truncated": True, "terminal_observation": observation, "restarts": 1}
        return observation, 0.0, True, cut, info

    def _replace(self, number: int) -> tuple[Any, dict[str, Any]]:
        """Start a new worker in the place of one, and reset its environment."""
        self.processes[number].kill()
        self.processes[number].join()
        self.remotes[number].close()
        context: Any = mp.get_context(self._start_method or "forkserver")
        here, there = context.Pipe()
        arguments = (there, here, CloudpickleWrapper(self._makers[number]))
        process = context.Process(target=_worker, args=arguments, daemon=True)
        process.start()
        there.close()
        self.processes[number] = process
        self.remotes = tuple(here if at == number else old for at, old in enumerate(self.remotes))
        self._replaced += 1
        here.send(("reset", ((self._replaced * _SEED_STRIDE + number) % 2**31, {})))
        try:
            observation, info = here.recv()
        except _GONE:
            raise self._ended() from None
        self._raise_failures([info])
        return observation, info

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Call a method of the environments."""
        try:
            answers = super().env_method("answer", method_name, *args, indices=indices, **kwargs)
        except _GONE:
            raise self._ended() from None
        for _, failure in answers:
            if failure is not None:
                raise failure
        return [result for result, _ in answers]

    def close(self) -> None:
        """End all workers."""
        if self._gone and not self.closed:  # those that wait for an answer would wait for ever
            for process in self.processes:
                process.terminate()
                process.join()
            for remote in self.remotes:
                remote.close()
            self.closed = True
        super().close()

    def _ended(self) -> EnvironmentFault:
        self._gone = True
        for process in self.processes:
            process.join(timeout=1.0)
        ended = [(number, process.exitcode) for number, process in enumerate(self.processes) if not process.is_alive()]
        which = ", ".join(f"environment {number} (exit code {code})" for number, code in ended) or "an environment"
        self.close()
        return EnvironmentFault(_ended_line(which))

    @staticmethod
    def _raise_failures(infos: Sequence[dict[str, Any]]) -> None:
        for info in infos:
            if _FAILURE in info:
                raise info[_FAILURE]


def _ended_line(which: str) -> str:
    return f"the process of {which} has ended; what it said before is above"


class _Maker:
    """Makes one environment in its worker."""

    def __init__(self, make: Callable[[], AnyEnv]) -> None:
        self._make = make

    def __call__(self) -> AnyEnv:
        # Ctrl-C reaches the whole process group: only the parent may react, or it has no environments left to stop.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return _Reporting(self._make())


class _Reporting(gym.Wrapper[Any, Any, Any, Any]):
    """Puts an exception into ``info``, where its worker would have ended with it."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        try:
            return super().reset(**kwargs)
        except Exception as error:
            return self.observation_space.sample(), {_FAILURE: _to_send(error)}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        try:
            return super().step(action)
        except Exception as error:
            return self.observation_space.sample(), 0.0, False, False, {_FAILURE: _to_send(error)}

    def answer(self, method_name: str, *args: Any, **kwargs: Any) -> tuple[Any, Exception | None]:
        try:
            return self.env.get_wrapper_attr(method_name)(*args, **kwargs), None
        except Exception as error:
            return None, _to_send(error)


def _to_send(error: Exception) -> Exception:
    """The exception with its traceback as a note, or what can be said of it where it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
        sent = error
    except Exception:  # pickling runs what the exception's class defines: anything may be raised
        sent = RuntimeError(f"{type(error).__name__}: {error}")
    sent.add_note("In the process of the environment:\n" + "".join(traceback.format_exception(error)))
    return sent
