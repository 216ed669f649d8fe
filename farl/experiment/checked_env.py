"""Looks at what an environment returns, before it can spoil a run: the fault is named where it happens.

Stable-Baselines3 copies observations into its own arrays, which stretches a shape (1,) to (3,), turns 300 into the 44
of a ``uint8`` and hands NaN on to the network. Here each of them ends in one line.
"""

import logging
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from farl.errors import ConfigError

__all__ = ["CheckedEnv", "EnvironmentFault", "observation_check"]

AnyEnv = gym.Env[Any, Any]
Check = Callable[[Any], str | None]

_LOG = logging.getLogger(__name__)
_MOST_RESTARTS = 3
"""Restarts without a step in between that worked, after which there is no use in another."""
_SEED_STRIDE = 1_000_003
_FLOAT32_MAX = float(np.finfo(np.float32).max)


class EnvironmentFault(ConfigError):
    """An environment raised, or returned what it must not."""


class CheckedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """One environment of a run whose faults say what they are.

    A value a little outside its space is mentioned once, for many published environments do that. One that lies further
    out than the space is wide is a fault.

    :param make: makes the environment, and another in its place where ``restart`` says so
    :param name: what messages call it
    :param number: the environment's number in its run, from 0
    :param restart: whether to go on after a fault with a new environment: the episode then ends there, as if cut off
        the next step's ``info["restarts"]`` says how many there were
    :param timeout: seconds that a step or a reset may take, counted in the main thread only; None for no limit
    """

    def __init__(
        self, make: Callable[[], AnyEnv], name: str, number: int, restart: bool = False, timeout: float | None = None
    ) -> None:
        super().__init__(make())
        self._make, self._name, self._number, self._restart = make, name, number, restart
        self._timeout = timeout
        self._check = observation_check(self.observation_space, "the observation", self._mention)
        self._steps = self._episodes = self._failed_in_a_row = self._untold = 0
        self._mentioned = self._unseeded = False
        self._seed = 0
        self._last: tuple[Any, dict[str, Any]] | None = None
        self.restarts = 0
        """How often it was made anew."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; see Gymnasium.

        :raises EnvironmentFault: naming what is wrong
        """
        self._steps = 0
        self._episodes += 1
        self._seed = self._seed if seed is None else seed
        while True:
            try:
                self._last = self._called("reset()", lambda: self._reset(seed, options))
                return self._last
            except EnvironmentFault as fault:
                self._begin_anew(fault)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take a step; see Gymnasium.

        :raises EnvironmentFault: naming what is wrong
        """
        self._steps += 1
        try:
            observation, reward, terminated, truncated, info = self._called(
                f"step {self._steps:,} of its episode {self._episodes:,}", lambda: self._step(action)
            )
        except EnvironmentFault as fault:
            self._begin_anew(fault)
            # The episode is cut off where it was last known: its end says nothing about what comes after it.
            assert self._last is not None
            observation, reward, terminated, truncated, info = self._last[0], 0.0, False, True, dict(self._last[1])
        else:
            self._failed_in_a_row = 0
            if self._restart:
                self._last = observation, {name: value for name, value in info.items() if name != "episode"}
        if self._untold:
            info["restarts"], self._untold = self._untold, 0
        return observation, reward, terminated, truncated, info

    def _reset(self, seed: int | None, options: dict[str, Any] | None) -> tuple[Any, dict[str, Any]]:
        if seed is None and self._unseeded:  # a new one in the place of another, which goes on with seeds of its own
            seed = (self._seed + self.restarts * _SEED_STRIDE) % 2**31
        self._unseeded = False
        returned = self.env.reset(seed=seed, options=options)
        if not (isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], dict)):
            raise _Returned(f"{_told(returned)} instead of (observation, info)")
        self._judge(returned[0])
        return returned

    def _step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        returned: Any = self.env.step(action)
        if not (isinstance(returned, tuple) and len(returned) == 5 and isinstance(returned[4], dict)):
            raise _Returned(f"{_told(returned)} instead of (observation, reward, terminated, truncated, info)")
        self._judge(returned[0])
        if (problem := _reward_problem(returned[1])) is not None:
            raise _Returned(problem)
        for flag, what in ((returned[2], "terminated"), (returned[3], "truncated")):
            if not isinstance(flag, bool | np.bool_ | int):
                raise _Returned(f"{_told(flag)} for {what}, which must be true or false")
        return returned

    def _judge(self, observation: Any) -> None:
        problem = self._check(observation)
        if problem is not None:
            raise _Returned(problem)

    def _called(self, where: str, call: Callable[[], Any]) -> Any:
        place = f"environment {self._number} ({self._name})"
        try:
            if self._timeout is None:
                return call()
            with _deadline(self._timeout):
                return call()
        except _TooSlow:
            raise EnvironmentFault(
                f"{place} has not answered in {where} for {self._timeout:g} s (environment.timeout)"
            ) from None
        except _Returned as wrong:
            raise EnvironmentFault(f"{place} returned {wrong} in {where}") from None
        except Exception as error:
            raise EnvironmentFault(f"{place} raised in {where}: {last_line(error)}") from error

    def _begin_anew(self, fault: EnvironmentFault) -> None:
        """Put a new environment in the place of the one that failed, or let the fault go where it must not."""
        self._failed_in_a_row += 1
        if not self._restart or self._failed_in_a_row > _MOST_RESTARTS:
            raise fault
        try:
            self.env.close()
        except Exception as error:  # it is broken already
            _LOG.debug("a broken environment does not close: %s", error)
        self.env = self._called("its making", self._make)
        self.restarts += 1
        self._untold += 1
        self._unseeded = True
        _LOG.warning("%s; it was made anew and its episode cut off (restart %d)", fault, self.restarts)

    def _mention(self, problem: str) -> None:
        if not self._mentioned:
            self._mentioned = True
            _LOG.warning("environment %d (%s) returned %s; said once", self._number, self._name, problem)


def last_line(error: BaseException) -> str:
    """Return what the last line of a traceback says, and where it was raised."""
    lines = str(error).strip().splitlines()
    told = " ".join(lines[0].split()) if lines else ""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    kind = type(error).__name__
    return (f"{kind}: {told}" if told else kind)[:200] + place


def observation_check(space: spaces.Space[Any], what: str, mention: Callable[[str], None]) -> Check:
    """Return a function that says what is wrong with an observation, or None.

    :param space: where observations should lie
    :param what: what messages call them
    :param mention: told about values that lie a little outside
    """
    if isinstance(space, spaces.Box):
        return _box_check(space, what, mention)
    if isinstance(space, spaces.Dict):
        parts = {key: observation_check(part, f"{what}[{key!r}]", mention) for key, part in space.spaces.items()}
        return lambda value: _parts_problem(value, parts, what)
    if isinstance(space, spaces.Tuple):
        ordered = [observation_check(part, f"{what}[{index}]", mention) for index, part in enumerate(space.spaces)]
        return lambda value: _tuple_problem(value, ordered, what)
    return lambda value: None if _contains(space, value) else f"{_told(value)} as {what}, which must lie in {space}"


def _box_check(space: spaces.Box, what: str, mention: Callable[[str], None]) -> Check:
    shape, dtype = space.shape, space.dtype
    floating = np.issubdtype(dtype, np.floating)
    bounded = bool(np.isfinite(space.low).any() or np.isfinite(space.high).any())
    if not floating:
        limits: Any = np.iinfo(dtype.type) if dtype.kind in "iu" else None
        bounded = limits is None or bool((space.low > limits.min).any() or (space.high < limits.max).any())
    flat = bounded and bool((space.low == space.low.flat[0]).all() and (space.high == space.high.flat[0]).all())
    low, high = (space.low.flat[0], space.high.flat[0]) if flat else (space.low, space.high)

    def problem(value: Any) -> str | None:
        array = value if type(value) is np.ndarray else _as_array(value)
        if array is None or array.dtype.kind not in "biuf":
            return f"{_told(value)} as {what}, which must be numbers of shape {shape}"
        if array.shape != shape:
            return f"an array of shape {array.shape} as {what}, whose space has the shape {shape}"
        if array.dtype.kind == "f" and not floating:
            return f"numbers of type {array.dtype} as {what}, whose space is of type {dtype}"
        if floating and not _finite(array):
            return f"{_not_finite(array)} in {what}"
        same = array.dtype == dtype
        if (bounded or not same) and array.size:
            inside = (
                array.min() >= low and array.max() <= high
                if flat
                else bool(((array >= space.low) & (array <= space.high)).all())
            )
            if not inside:
                return _outside(array, space, what, mention)
        return None

    return problem


def _outside(array: Any, space: spaces.Box, what: str, mention: Callable[[str], None]) -> str | None:
    """Say how far an observation lies outside, or mention that it does so only a little."""
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    beyond = np.maximum(low - array, array - high)
    worst = np.unravel_index(int(np.argmax(beyond)), beyond.shape)
    bounds = f"[{low[worst]:g}, {high[worst]:g}]"
    place = f"[{', '.join(map(str, worst))}]" if worst else ""
    told = f"{array[worst]:g} in {what}{place}, outside of its space {bounds}"
    width = high[worst] - low[worst]
    if not np.isfinite(width):
        width = max(1.0, min(abs(low[worst]), abs(high[worst])))
    if np.issubdtype(space.dtype, np.floating) and beyond[worst] <= width:
        mention(told)
        return None
    return told


def _parts_problem(value: Any, parts: dict[str, Check], what: str) -> str | None:
    if not isinstance(value, dict):
        return f"{_told(value)} as {what}, which must be a dictionary with {', '.join(map(repr, parts))}"
    for key, check in parts.items():
        if key not in value:
            return f"{what} without {key!r}, which its space has"
        if (problem := check(value[key])) is not None:
            return problem
    return None


def _tuple_problem(value: Any, parts: list[Check], what: str) -> str | None:
    if not isinstance(value, tuple) or len(value) != len(parts):
        return f"{_told(value)} as {what}, which must be a tuple of {len(parts)}"
    return next((problem for part, check in zip(value, parts, strict=True) if (problem := check(part))), None)


def _contains(space: spaces.Space[Any], value: Any) -> bool:
    try:
        return bool(space.contains(value))
    except (TypeError, ValueError, OverflowError):
        return False


def _as_array(value: Any) -> Any:
    try:
        return None if value is None else np.asarray(value)
    except (TypeError, ValueError):
        return None


def _finite(array: Any) -> bool:
    """Whether all of it is finite; the dot product tells in a tenth of the time unless it overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        quick = np.isfinite(np.vdot(array, array))
    return bool(quick or np.isfinite(array).all())


def _not_finite(array: Any) -> str:
    bad = ~np.isfinite(array)
    value = array[bad].flat[0]
    count = int(bad.sum())
    return f"{'NaN' if np.isnan(value) else 'infinity'} ({count} of {array.size} numbers)"


def _reward_problem(reward: Any) -> str | None:
    if type(reward) is not float:
        array = _as_array(reward)
        if array is None or array.size != 1 or array.dtype.kind not in "biuf":
            return f"{_told(reward)} as the reward, which must be a number"
        reward = float(array.reshape(()))
    if reward - reward != 0:  # NaN and infinities
        return f"{'NaN' if reward != reward else 'infinity'} as the reward"
    return f"the reward {reward:g}, too large for a float32" if abs(reward) > _FLOAT32_MAX else None


def _told(value: Any) -> str:
    """A value in few words."""
    if value is None:
        return "None"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and type {value.dtype}"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:37] + '...'}"


class _Returned(Exception):
    """What an environment returned, and must not."""


class _TooSlow(Exception):
    """The time is up."""


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Raise in the block when its time is up; only the main thread can be interrupted, and no compiled code."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def ring(number: int, frame: object) -> None:
        raise _TooSlow

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
