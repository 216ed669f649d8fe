"""From the observations and actions that SB3 hands around to those that a curiosity module takes."""

from copy import deepcopy
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import (
    get_action_dim,
    get_flattened_obs_dim,
    is_image_space,
    preprocess_obs,
)
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, VecTransposeImage, unwrap_vec_wrapper
from torch import Tensor

from farl.curiosity.module import ActionSpec

Array = npt.NDArray[Any]
Observation = Array | dict[str, Array]


class ObservationAdapter:
    """Turns batches of observations of a space into tensors: images stay uint8, channels first; all else is a vector.

    :param space: the policy's observation space
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
        self.shape: tuple[int, ...] = space.shape if self.is_image else (get_flattened_obs_dim(space),)  # type: ignore[assignment]

    def __call__(self, observations: Observation, device: torch.device | str) -> Tensor:
        """Convert B observations to uint8[B, channels, height, width] or float32[B, d]."""
        if self.is_image:
            assert isinstance(observations, np.ndarray)
            return torch.as_tensor(observations, device=device)
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


def true_next_observations(
    new_observations: Observation, dones: Array, infos: list[dict[str, Any]], env: VecEnv
) -> Observation:
    """Return what each transition really led to, before any normalisation.

    Where an episode ended, a vector environment has already reset and returns the next episode's first observation:
    the true
    one stands in ``infos``. A ``VecNormalize`` in between is undone: its statistics drift, and stored recall keys
    would drift
    out of reach with them.
    """
    observations = original_observations(new_observations, env)
    if not dones.any():
        return observations
    normalise = unwrap_vec_wrapper(env, VecNormalize)
    observations = deepcopy(observations)
    for index in np.flatnonzero(dones):
        last = infos[index].get("terminal_observation")
        if last is None:
            continue
        if normalise is not None:
            last = normalise.unnormalize_obs(last)
        if isinstance(observations, dict):
            for name, part in observations.items():
                part[index] = last[name]
        else:
            observations[index] = last
    return observations


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
