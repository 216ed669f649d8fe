"""From the observations and actions that SB3 hands around to those that a curiosity module takes."""

from typing import Any

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
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, VecTransposeImage, unwrap_vec_wrapper
from torch import Tensor

from farl.curiosity.module import ActionSpec

Array = npt.NDArray[Any]
Observation = Array | dict[str, Array]


class ObservationAdapter:
    """Turns batches of observations of a space into tensors: images stay uint8, channels first; all else is a vector.

    :param space: of the observations; images may have their channels first or last
    :raises ValueError: if the space holds an image inside a dict
    """

    def __init__(self, space: spaces.Space[Any]) -> None:
        self.space = space
        self.is_image = isinstance(space, spaces.Box) and is_image_space(space, check_channels=False)
        if isinstance(space, spaces.Dict) and any(is_image_space(part) for part in space.spaces.values()):
            raise ValueError(
                "FAR takes images or vectors, not an image inside a dict. Select the image with "
                "gymnasium.wrappers.FilterObservation and FlattenObservation, or a wrapper of your own"
            )
        self.shape: tuple[int, ...] = (get_flattened_obs_dim(space),)
        self._channels_last = False
        if self.is_image:
            height_or_channels, *others = space.shape or ()
            self._channels_last = not is_image_space_channels_first(space)  # type: ignore[arg-type]
            self.shape = (others[-1], height_or_channels, others[0]) if self._channels_last else space.shape  # type: ignore[assignment]

    def __call__(self, observations: Observation, device: torch.device | str) -> Tensor:
        """Convert B observations to uint8[B, channels, height, width] or float32[B, d]."""
        if self.is_image:
            assert isinstance(observations, np.ndarray)
            images = torch.as_tensor(observations, device=device)
            return images.movedim(-1, 1).contiguous() if self._channels_last else images
        if isinstance(self.space, spaces.Box):
            return torch.tensor(observations, dtype=torch.float32, device=device).flatten(1)
        if isinstance(observations, dict):
            tensors: Any = {name: torch.as_tensor(part, device=device) for name, part in observations.items()}
        else:
            tensors = torch.as_tensor(observations, device=device)
        parts = preprocess_obs(tensors, self.space, normalize_images=False)
        flat = parts.values() if isinstance(parts, dict) else [parts]
        return torch.cat([part.flatten(1).float() for part in flat], dim=1)


def action_spec(space: spaces.Space[Any]) -> ActionSpec:
    """Describe the actions of a space; several discrete actions at once count as a vector of numbers."""
    if isinstance(space, spaces.Discrete):
        return ActionSpec(int(space.n), discrete=True)
    return ActionSpec(get_action_dim(space), discrete=False)


def true_last(dones: Array, infos: list[dict[str, Any]], env: VecEnv) -> tuple[Array, Observation]:
    """Return the last observations of the episodes that have just ended.

    Where an episode ended, a vector environment has already reset and returns the next episode's first observation:
    the true one stands in ``infos``. A ``VecNormalize`` in between is undone: its statistics drift, and stored recall
    keys would drift out of reach with them.

    :param dones: bool[E]
    :return: the environments whose infos tell, int64[n], and n observations
    """
    ended = np.array([env for env in np.flatnonzero(dones) if "terminal_observation" in infos[env]], np.int64)
    if len(ended) == 0:
        return ended, ended
    last = [infos[index]["terminal_observation"] for index in ended]
    observations: Observation
    if isinstance(last[0], dict):
        observations = {name: np.stack([each[name] for each in last]) for name in last[0]}
    else:
        observations = np.stack(last)
    normalise = unwrap_vec_wrapper(env, VecNormalize)
    return ended, observations if normalise is None else normalise.unnormalize_obs(observations)


def original_observations(observations: Observation, env: VecEnv) -> Observation:
    """Return the environment's latest observations without ``VecNormalize``, channels first as the policy sees them.

    :param observations: the latest as they came out of ``env``: returned as they are if nothing normalises them
    """
    normalise = unwrap_vec_wrapper(env, VecNormalize)
    if normalise is None:
        return observations
    original: Observation = normalise.get_original_obs()
    transpose = unwrap_vec_wrapper(env, VecTransposeImage)
    # SB3 puts the transposition outside a user's VecNormalize: below it, images are still channels last.
    if transpose is not None and unwrap_vec_wrapper(normalise, VecTransposeImage) is None:
        original = transpose.transpose_observations(original)
    return original
