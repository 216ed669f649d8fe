"""Environments in processes of their own that say what went wrong, where plain ``SubprocVecEnv`` says ``EOFError``."""

import pickle
import signal
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
from stable_baselines3.common.vec_env import SubprocVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

AnyEnv = gym.Env[Any, Any]
_FAILURE = "worker_failure"
_GONE = (EOFError, ConnectionResetError, BrokenPipeError)


class WorkerVecEnv(SubprocVecEnv):
    """``SubprocVecEnv`` that raises in this process what an environment raised in its own, once, with its traceback.

    :param makers: one function for each environment that makes it
    :param start_method: how processes start; SB3's default if None
    :raises RuntimeError: a worker ended by itself, such as one that was killed for its memory
    """

    def __init__(self, makers: Sequence[Callable[[], AnyEnv]], start_method: str | None = None) -> None:
        self._gone = False
        try:
            super().__init__([_Maker(make) for make in makers], start_method)
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
        try:
            result = super().step_wait()
        except _GONE:
            raise self._ended() from None
        self._raise_failures([*result[-1], *self.reset_infos])
        return result

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

    def _ended(self) -> RuntimeError:
        self._gone = True
        for process in self.processes:
            process.join(timeout=1.0)
        ended = [(number, process.exitcode) for number, process in enumerate(self.processes) if not process.is_alive()]
        which = ", ".join(f"environment {number} (exit code {code})" for number, code in ended) or "an environment"
        self.close()
        return RuntimeError(f"the process of {which} has ended; what it said before is above")

    @staticmethod
    def _raise_failures(infos: Sequence[dict[str, Any]]) -> None:
        for info in infos:
            if _FAILURE in info:
                raise info[_FAILURE]


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
    except Exception:
        sent = RuntimeError(f"{type(error).__name__}: {error}")
    sent.add_note("In the process of the environment:\n" + "".join(traceback.format_exception(error)))
    return sent
