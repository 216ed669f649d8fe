"""Activations for the policies of any Stable-Baselines3 algorithm."""

import torch.nn.functional as F
from torch import Tensor, nn


class LayerNormLeakyReLU(nn.Module):
    """Layer normalisation without parameters, then leaky ReLU: ``policy_kwargs={"activation_fn": LayerNormLeakyReLU}``.

    Ba, Kiros, Hinton, "Layer normalization" (2016), equation 3, with gain 1 and bias 0. Networks that go on learning
    stay plastic for longer (Lyle et al., "Understanding plasticity in neural networks", ICML 2023).
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalise over the last dimension, [..., width], and activate."""
        return F.leaky_relu(F.layer_norm(inputs, inputs.shape[-1:]))
