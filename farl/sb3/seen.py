"""What of an observation is recorded: an image as the agent sees it, or numbers with names."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.vec_env import VecEnv

from farl.errors import ConfigError, did_you_mean

__all__ = [
    "environment_id",
    "frames_of",
    "mention_positions",
    "numbers_of",
    "observation_names",
    "resolve_axes",
    "shows_frames",
]

_log = logging.getLogger(__name__)

_KNOWN_NAMES = {
    "MountainCar": ("position", "velocity"),
    "Pendulum": ("cos(angle)", "sin(angle)", "angular velocity"),
    "CartPole": ("position", "velocity", "angle", "angular velocity"),
    "Acrobot": ("cos(angle 1)", "sin(angle 1)", "cos(angle 2)", "sin(angle 2)", "velocity 1", "velocity 2"),
    "LunarLander": ("x", "y", "velocity x", "velocity y", "angle", "angular velocity", "left leg", "right leg"),
}
"""What the numbers of an observation are called, by the beginning of the environment's id."""


def shows_frames(space: spaces.Space[Any]) -> bool:
    """Whether ``frames_of`` finds images in observations of a space."""
    if isinstance(space, spaces.Dict):
        return any(map(shows_frames, space.spaces.values()))
    return isinstance(space, spaces.Box) and is_image_space(space, check_channels=False)


def frames_of(space: spaces.Space[Any], observations: Any) -> npt.NDArray[np.uint8] | None:
    """Return what E observations show, uint8[E, H, W] or uint8[E, H, W, 3], a copy; None if they are no images.

    Of stacked frames it is the newest; of a dict its first image.
    """
    if isinstance(space, spaces.Dict):
        for name, part in space.spaces.items():
            if (found := frames_of(part, observations[name])) is not None:
                return found
        return None
    if not isinstance(space, spaces.Box) or not shows_frames(space):
        return None
    images = np.asarray(observations)
    if is_image_space_channels_first(space):
        images = np.moveaxis(images, 1, -1)
    colored = images.shape[-1] == 3
    return np.array(images if colored else images[..., -1], np.uint8)


def numbers_of(space: spaces.Space[Any], observations: Any) -> npt.NDArray[np.float32] | None:
    """Return the numbers of E observations, float32[E, d], a copy; None if there are none, or they are images."""
    if isinstance(space, spaces.Dict):
        parts = [numbers_of(part, observations[name]) for name, part in space.spaces.items()]
        known = [part for part in parts if part is not None]
        return np.concatenate(known, axis=1) if known else None
    if isinstance(space, spaces.Discrete) or (isinstance(space, spaces.Box) and not is_image_space(space)):
        values = np.array(observations, np.float32)
        return values.reshape(len(values), -1)
    return None


def observation_names(space: spaces.Space[Any], environment: str = "") -> tuple[str, ...]:
    """Return what the numbers of ``numbers_of`` are called.

    :param environment: id, such as ``MountainCar-v0``
    """
    if isinstance(space, spaces.Dict):
        return tuple(
            f"{name} {number}" if len(inner) > 1 else name
            for name, part in space.spaces.items()
            for inner in [observation_names(part)]
            for number in range(len(inner))
        )
    if isinstance(space, spaces.Discrete):
        return ("state",)
    if not isinstance(space, spaces.Box) or is_image_space(space):
        return ()
    size = int(np.prod(space.shape))
    for beginning, names in _KNOWN_NAMES.items():
        if environment.startswith(beginning) and len(names) == size:
            return names
    return tuple(f"observation {number}" for number in range(size))


def resolve_axes(axes: Sequence[str | int] | None, names: Sequence[str]) -> tuple[int, int] | None:
    """Return the numbers of the two axes that the user named; None stays None.

    :param axes: two names or numbers
    :param names: names of all numbers of an observation
    :raises ConfigError: if there are not two, or one is unknown
    """
    if axes is None:
        return None
    if len(axes) != 2:
        raise ConfigError(f"axes: give two names or numbers, such as [0, 1]; found {list(axes)}")
    found = []
    for axis in axes:
        if isinstance(axis, str) and axis in names:
            found.append(list(names).index(axis))
        elif isinstance(axis, int) and not isinstance(axis, bool) and 0 <= axis < len(names):
            found.append(axis)
        elif not names:
            raise ConfigError("axes: the observations are no vectors, and have no axes; leave logging.axes out")
        else:
            hint = did_you_mean(str(axis), names, limit=10) or f"; there are {', '.join(names[:10])}"
            raise ConfigError(f"axes: {axis!r} is no number of the observation{hint}; or give 0 to {len(names) - 1}")
    return found[0], found[1]


def environment_id(env: VecEnv) -> str:
    """Return the id of the first environment, where it has one."""
    try:
        spec = env.get_attr("spec", 0)[0]
    except AttributeError:
        return ""
    return str(getattr(spec, "id", ""))


def mention_positions(env: VecEnv) -> None:
    """Tell those whose MiniGrid does not tell positions how to have them."""
    if env.has_attr("agent_pos"):
        _log.warning(
            "no map of visits: this MiniGrid environment does not tell where the agent is. Add the wrapper "
            "farl.envs.minigrid.PositionInfo, as in make_vec_env(id, wrapper_class=PositionInfo)"
        )
