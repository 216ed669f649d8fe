"""Curiosity by disagreement."""

import math

import torch
from torch import Tensor, nn

from farl.curiosity.features import RandomFeatures, fixed_seed
from farl.curiosity.module import ActionSpec, Predictor, Prepared, Transitions


class Disagreement(RandomFeatures):
    """Rewards the variance among several forward models: what is noise, all come to predict alike.

    Pathak, Gandhi, Gupta, "Self-supervised exploration via disagreement" (ICML 2019), equation 1, over the features of
    a fixed random network, which they found to serve as well as learnt ones. The models differ in their first weights
    alone. Surprisal, by which fragments are routed, is the error of their mean. A fragment owns an ensemble.

    :param shape: shape of one observation; [channels, height, width] for an image
    :param actions: the form of one action
    :param models: number of forward models
    :param features: width of the random features
    :param hidden: width of the models' two hidden layers, and of the trunk for vectors
    :param frame_stack: number of frames that an observation stacks along its channels; only the newest is used
    :param clip: whitened observations are clipped to +-clip
    :param seed: draws the random weights; the global random state is left alone
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        actions: ActionSpec,
        models: int = 5,
        features: int = 64,
        hidden: int = 128,
        frame_stack: int = 1,
        clip: float = 5.0,
        seed: int = 0,
    ) -> None:
        with fixed_seed(seed):
            super().__init__(shape, features, hidden, frame_stack, clip)
            self.actions = actions
            self.predictor = nn.Sequential(
                _ParallelLinear(models, features + actions.size, hidden),
                nn.ReLU(),
                _ParallelLinear(models, hidden, hidden),
                nn.ReLU(),
                _ParallelLinear(models, hidden, features),
            )
            self._finish()

    @torch.no_grad()
    def prepare(self, transitions: Transitions) -> Prepared:
        """Return what the models read, features before and action, as ``inputs``, and the next ``features``."""
        before = self.target(self.whiten(transitions.observations))
        return {
            "inputs": torch.cat([before, self.actions.encode(transitions.actions)], dim=1),
            "features": self.target(self.whiten(transitions.next_observations)),
        }

    def surprisal(self, predictor: Predictor, prepared: Prepared) -> Tensor:
        """Return the mean squared error of the models' mean, float32[B]."""
        return self.evaluate(predictor, prepared)["surprisal"]

    def evaluate(self, predictor: Predictor, prepared: Prepared) -> Prepared:
        """Return the surprisal, and the ``variance`` among the models as a mean over the features."""
        predictions = predictor(prepared["inputs"][:, None])
        return {
            "surprisal": (predictions.mean(dim=1) - prepared["features"]).square().mean(dim=-1),
            "variance": predictions.var(dim=1, correction=0).mean(dim=-1),
        }

    def loss(self, predictor: Predictor, prepared: Prepared) -> Tensor:
        """Return the mean squared error of each model, averaged over models, float32[B]."""
        predictions: Tensor = predictor(prepared["inputs"][:, None])
        return (predictions - prepared["features"][:, None]).square().mean(dim=(1, 2))

    def bonus(self, outputs: Prepared, prepared: Prepared, starts: Tensor) -> Tensor:
        """Return the variance among the models, float32[E]."""
        return outputs["variance"]


class _ParallelLinear(nn.Module):
    """As many linear layers as models, in one product."""

    def __init__(self, models: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(models, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(models, outputs))
        for weight in self.weight:
            nn.init.orthogonal_(weight, math.sqrt(2))

    def forward(self, inputs: Tensor) -> Tensor:
        """Map [B, models or 1, inputs] to [B, models, outputs]."""
        inputs = inputs.expand(-1, len(self.weight), -1)
        return torch.einsum("bki,kio->bko", inputs, self.weight) + self.bias
