"""Networks of the environment's dynamics: what was done (inverse), and what comes of it (forward)."""

import torch
from torch import Tensor, nn

from farl.curiosity.encoders import make_encoder


class InverseDynamics(nn.Module):
    """An encoder, and the action predicted from the features before and after it.

    Features that tell the action describe what the agent controls, and ignore the rest (Pathak et al., 2017,
    section 2.2).

    :param shape: shape of one observation
    :param n_actions: width of the encoded action
    :param features: width of the features
    :param hidden: width of the layer between both features and the action, and of the trunk for vectors
    """

    def __init__(self, shape: tuple[int, ...], n_actions: int, features: int, hidden: int) -> None:
        super().__init__()
        trunk, width = make_encoder(shape, hidden)
        self.encoder = nn.Sequential(trunk, nn.Linear(width, features))
        self.inverse = nn.Sequential(nn.Linear(2 * features, hidden), nn.ReLU(), nn.Linear(hidden, n_actions))

    def forward(self, inputs: Tensor, next_inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the features before and after, float32[B, features] each, and the predicted action, [B, n_actions]."""
        before, after = self.encoder(inputs), self.encoder(next_inputs)
        return before, after, self.inverse(torch.cat([before, after], dim=-1))


class ForwardDynamics(nn.Module):
    """Predicts features from the features before and the action, which every layer is told again.

    The residual form is that of Burda et al., "Large-scale study of curiosity-driven learning" (ICLR 2019), whose
    number of blocks is 4.

    :param features: width of the features
    :param n_actions: width of the encoded action
    :param hidden: width of the blocks
    :param blocks: number of residual blocks
    """

    def __init__(self, features: int, n_actions: int, hidden: int, blocks: int) -> None:
        super().__init__()
        self.first = nn.Linear(features + n_actions, hidden)
        self.blocks = nn.ModuleList(
            nn.ModuleList([nn.Linear(hidden + n_actions, hidden), nn.Linear(hidden + n_actions, hidden)])
            for _ in range(blocks)
        )
        self.last = nn.Linear(hidden + n_actions, features)

    def forward(self, features: Tensor, actions: Tensor) -> Tensor:
        """Return the predicted next features, float32[B, features]."""

        def with_action(hidden: Tensor) -> Tensor:
            return torch.cat([hidden, actions], dim=-1)

        hidden = nn.functional.leaky_relu(self.first(with_action(features)))
        for block in self.blocks:
            assert isinstance(block, nn.ModuleList)
            first, second = block
            inner = nn.functional.leaky_relu(first(with_action(hidden)))
            hidden = hidden + second(with_action(inner))
        predicted: Tensor = self.last(with_action(hidden))
        return predicted


def action_loss(predicted: Tensor, actions: Tensor, discrete: bool) -> Tensor:
    """Return how badly an action was predicted, float32[B]: cross-entropy, or the mean squared error of vectors.

    :param predicted: float32[B, a], logits or vectors
    :param actions: float32[B, a], encoded by ``ActionSpec.encode``
    """
    if discrete:
        return -(actions * nn.functional.log_softmax(predicted, dim=-1)).sum(dim=-1)
    return (predicted - actions).square().mean(dim=-1)
