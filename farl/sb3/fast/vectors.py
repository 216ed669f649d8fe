"""Observations as the vectors that the first layer of a policy or critic reads."""

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import Tensor, nn

from farl.sb3.advice import ADVICE, AdvisedFeatures, AdvisedSpace, without_advice


class Vectors:
    """Makes vectors of observations: [B, ...] stay what they are, and advice is put behind what it comes with.

    :param rest: the space of the observations without advice
    :param n_advised: length of the advice; 0 for none
    """

    def __init__(self, rest: spaces.Space[Any], n_advised: int) -> None:
        self.rest, self.n_advised = rest, n_advised

    @classmethod
    def of(cls, space: spaces.Space[Any], extractor: nn.Module, normalize_images: bool) -> "Vectors | None":
        """Return what makes the vectors; None where a features extractor does more than to lay out numbers.

        :param space: space of the observations, with their advice if there is any
        :param extractor: what makes the features
        :param normalize_images: whether images are divided by 255
        """
        n_advised = 0
        if type(extractor) is AdvisedFeatures and isinstance(space, AdvisedSpace):
            n_advised, extractor, space = space.width, extractor.extractor, space.rest
        plain = type(extractor) is FlattenExtractor and type(space) is spaces.Box
        return cls(space, n_advised) if plain and not (normalize_images and is_image_space(space)) else None

    def __call__(self, observations: Any) -> Tensor:
        """Return B observations as [B, ...]; with advice, float32[B, d], the advice last."""
        if not self.n_advised:
            return observations  # type: ignore[no-any-return]
        return torch.cat([without_advice(observations, self.rest).flatten(1).float(), observations[ADVICE]], dim=1)
