"""From the observations and actions that SB3 hands around to those that a curiosity module takes."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import (
    get_action_dim,
    get_flattened_obs_dim,
    is_image_space,
    is_image_space_channels_first,
    preprocess_obs,
)
from torch import Tensor

from farl.curiosity.encoders import CONVOLUTION_MIN_SIDE, PackedShape, image_to_float
from farl.curiosity.module import ActionSpec
from farl.errors import ConfigError

Array = npt.NDArray[Any]
Observation = Array | dict[str, Array]


class ObservationAdapter:
    """Turns batches of observations of a space into tensors, one row each.

    An image stays uint8, channels first. Without images, all parts are joined to one vector. Where a dict holds images
    among other things, all are joined too, images scaled to [0, 1], and ``shape`` is a ``PackedShape`` that says where
    they are. Images below 7 pixels count as numbers.

    :param space: space of the observations; images may have their channels first or last
    :raises ConfigError: if the space is of a kind that SB3 does not take
    """

    def __init__(self, space: spaces.Space[Any]) -> None:
        self.space = space
        self._parts = [_Part.of(path, part) for path, part in _leaves(space)]
        if not self._parts:
            raise ConfigError("observation space: the Dict is empty, so that there is nothing to be curious about")
        shapes = [part.shape for part in self._parts]
        self.is_image = self._parts[0].path == () and self._parts[0].is_image
        self.shape: tuple[int, ...] = (sum(math.prod(shape) for shape in shapes),)
        if self.is_image:
            self.shape = shapes[0]
        elif any(part.is_image for part in self._parts):
            self.shape = PackedShape(shapes)

    def __call__(self, observations: Observation, device: torch.device | str) -> Tensor:
        """Convert B observations to uint8[B, channels, height, width] or float32[B, d]. They are copied."""
        if self.is_image:
            return self._parts[0].image(observations, device)
        joined = [part.flat(part.of_all(observations), device) for part in self._parts]
        return joined[0] if len(joined) == 1 else torch.cat(joined, dim=1)


class _Part(NamedTuple):
    """An observation, or a part of one that is a dict, maybe of dicts.

    :ivar path: the keys that lead to it
    :ivar shape: as encoders see it: [channels, height, width], or [d]
    :ivar channels_last: whether an image's channels come last; None for numbers
    """

    path: tuple[str, ...]
    space: spaces.Space[Any]
    shape: tuple[int, ...]
    channels_last: bool | None

    @classmethod
    def of(cls, path: tuple[str, ...], space: spaces.Space[Any]) -> "_Part":
        if isinstance(space, spaces.Box) and is_image_space(space):
            channels_last = not is_image_space_channels_first(space)
            height_or_channels, *others = space.shape
            shape = (others[-1], height_or_channels, others[0]) if channels_last else space.shape
            if min(shape[1:]) >= CONVOLUTION_MIN_SIDE:
                return cls(path, space, shape, channels_last)
        return cls(path, space, (get_flattened_obs_dim(space),), None)

    @property
    def is_image(self) -> bool:
        return self.channels_last is not None

    def of_all(self, observations: Any) -> Any:
        for key in self.path:
            observations = observations[key]
        return observations

    def image(self, observations: Any, device: torch.device | str) -> Tensor:
        images = torch.tensor(observations, device=device)
        return images.movedim(-1, 1).contiguous() if self.channels_last else images

    def flat(self, observations: Any, device: torch.device | str) -> Tensor:
        if self.is_image:
            return image_to_float(self.image(observations, device)).flatten(1)
        if isinstance(self.space, spaces.Box):
            return torch.tensor(observations, dtype=torch.float32, device=device).flatten(1)
        encoded = preprocess_obs(torch.as_tensor(observations, device=device), self.space, normalize_images=False)
        assert isinstance(encoded, Tensor)
        return encoded.flatten(1).float()


def _leaves(
    space: spaces.Space[Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], spaces.Space[Any]]]:
    """Return the spaces inside dicts inside dicts, with the keys that lead to them."""
    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            yield from _leaves(part, (*path, key))
    elif isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        yield path, space
    else:
        where = f" at {'.'.join(path)}" if path else ""
        raise ConfigError(
            f"observation space{where}: FAR takes what Stable-Baselines3 takes (Box, Discrete, MultiDiscrete, "
            f"MultiBinary, and Dict of them), not {type(space).__name__}"
        )


def action_spec(space: spaces.Space[Any]) -> ActionSpec:
    """Describe the actions of a space; several discrete actions at once count as a vector of numbers."""
    if isinstance(space, spaces.Discrete):
        return ActionSpec(int(space.n), discrete=True)
    return ActionSpec(get_action_dim(space), discrete=False)


def true_last(dones: Array, infos: list[dict[str, Any]]) -> tuple[Array, Observation]:
    """Return the last observations of the episodes that have just ended.

    Where an episode ended, a vector environment has already reset and returns the next episode's first observation:
    the true one stands in ``infos``.

    :param dones: bool[E]
    :return: the environments whose infos tell, int64[n], and n observations
    """
    ended = np.array([env for env in np.flatnonzero(dones) if "terminal_observation" in infos[env]], np.int64)
    return ended, _stack([infos[index]["terminal_observation"] for index in ended]) if len(ended) else ended


def _stack(observations: list[Any]) -> Observation:
    """Make one batch of single observations."""
    if isinstance(observations[0], dict):
        return {key: _stack([each[key] for each in observations]) for key in observations[0]}  # type: ignore[misc]
    together: Array = np.stack(observations)
    return together


def require_finite(what: str, values: Any, timestep: int | None = None) -> None:
    """Check that what E environments returned holds neither NaN nor infinity.

    :param what: its name
    :param values: an array or tensor of numbers, [E, ...]
    :raises ConfigError: naming the first environment where it does
    """
    # A sum of large numbers may not be finite, though all of them are; of an array, numpy would warn of it.
    if np.isfinite(values).all() if isinstance(values, np.ndarray) else math.isfinite(torch.as_tensor(values).sum()):
        return
    finite = torch.isfinite(torch.as_tensor(values)).flatten(1 if np.ndim(values) > 1 else 0)
    if bool(finite.all()):
        return
    by_env = finite.all(dim=1) if finite.dim() > 1 else finite
    env = int((~by_env).nonzero()[0])
    wrong = torch.as_tensor(values)[env].flatten()
    when = "" if timestep is None else f" at timestep {timestep}"
    raise ConfigError(
        f"environment {env} returned the {what} {float(wrong[~torch.isfinite(wrong)][0])}{when}: correct the "
        "environment (VecCheckNan around it says after which action)"
    )
