"""Networks for the policies of any Stable-Baselines3 algorithm: the features extractor of IMPALA, an activation."""

import itertools

import torch
import torch.nn.functional as F
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn


class ImpalaCNN(BaseFeaturesExtractor):
    """Three stages of a convolution, a pool and two residual blocks, and one linear layer (Espeholt et al. 2018).

    :param observation_space: images, channels first, as SB3 hands them over: float in [0, 1]
    :param features_dim: width of the linear layer
    :param channels: channels of each stage
    """

    def __init__(
        self, observation_space: spaces.Box, features_dim: int = 256, channels: tuple[int, ...] = (16, 32, 32)
    ) -> None:
        super().__init__(observation_space, features_dim)
        depths = [observation_space.shape[0], *channels]
        self.stages = nn.ModuleList(_Stage(i, o) for i, o in itertools.pairwise(depths))
        with torch.no_grad():
            flat = self._convolve(torch.zeros(1, *observation_space.shape)).shape[1]
        self.linear = nn.Linear(flat, features_dim)

    def _convolve(self, images: Tensor) -> Tensor:
        for stage in self.stages:
            images = stage(images)
        return F.relu(images).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Return features [B, features_dim] of images [B, C, H, W]."""
        return F.relu(self.linear(self._convolve(images)))


class _Stage(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.blocks = nn.ModuleList(nn.Conv2d(outputs, outputs, 3, padding=1) for _ in range(4))

    def forward(self, images: Tensor) -> Tensor:
        images = F.max_pool2d(self.first(images), 3, stride=2, padding=1)
        for one, two in zip(self.blocks[::2], self.blocks[1::2], strict=True):
            images = images + two(F.relu(one(F.relu(images))))
        return images


class LayerNormLeakyReLU(nn.Module):
    """Layer normalisation without parameters, then leaky ReLU: ``policy_kwargs={"activation_fn": LayerNormLeakyReLU}``.

    Ba, Kiros, Hinton, "Layer normalization" (2016), equation 3, with gain 1 and bias 0. Networks that go on learning
    stay plastic for longer (Lyle et al., "Understanding plasticity in neural networks", ICML 2023).
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalise over the last dimension, [..., width], and activate."""
        return F.leaky_relu(F.layer_norm(inputs, inputs.shape[-1:]))
