"""The intrinsic curiosity module."""

import torch
from torch import Tensor, nn

from farl.curiosity.dynamics import ForwardDynamics, InverseDynamics, action_loss
from farl.curiosity.features import RandomFeatures, fixed_seed
from farl.curiosity.module import ActionSpec, Predictor, Prepared, Transitions


class ICM(RandomFeatures):
    """Surprisal is the error in predicting learnt features of the next observation from those before and the action.

    Pathak, Agrawal, Efros, Darrell, "Curiosity-driven exploration by self-supervised prediction" (ICML 2017),
    equations 2 to 6, with the error as a mean over the features instead of a sum. The encoder learns by the inverse
    loss alone: what the agent cannot influence is not worth predicting.

    Encoder, inverse and forward network are all owned by the fragment. Recall keys come from a fixed random network
    beside them, as features that fragments learn could not be compared.

    :param shape: shape of one observation; [channels, height, width] for an image
    :param actions: the form of one action
    :param features: width of the learnt features, and of the recall keys
    :param hidden: width of the inverse network, of the residual blocks, and of the trunk for vectors
    :param blocks: number of residual blocks of the forward network
    :param forward_weight: weight of the forward loss; the inverse loss has 1 - forward_weight
    :param clip: whitened observations are clipped to +-clip
    :param seed: draws the random weights; the global random state is left alone
    """

    encoder_learns_from_forward = False

    def __init__(
        self,
        shape: tuple[int, ...],
        actions: ActionSpec,
        features: int = 64,
        hidden: int = 128,
        blocks: int = 1,
        forward_weight: float = 0.2,
        clip: float = 5.0,
        seed: int = 0,
    ) -> None:
        with fixed_seed(seed):
            super().__init__(shape, features, hidden, clip=clip)
            self.actions, self.forward_weight = actions, forward_weight
            inverse = InverseDynamics(shape, actions.size, features, hidden)
            forward = ForwardDynamics(features, actions.size, hidden, blocks)
            self.predictor: nn.Module = _Networks(inverse, forward, self.encoder_learns_from_forward)
            self._finish()

    @torch.no_grad()
    def prepare(self, transitions: Transitions) -> Prepared:
        """Return the whitened observations before and after, the encoded actions, and the random ``features``."""
        next_inputs = self.whiten(transitions.next_observations)
        return {
            "inputs": self.whiten(transitions.observations),
            "next_inputs": next_inputs,
            "actions": self.actions.encode(transitions.actions),
            "features": self.target(next_inputs),
        }

    def surprisal(self, predictor: Predictor, prepared: Prepared) -> Tensor:
        """Return half the mean squared forward error, float32[B]."""
        return self._run(predictor, prepared)["forward"]

    def loss(self, predictor: Predictor, prepared: Prepared) -> Tensor:
        """Return the weighted sum of forward and inverse loss, float32[B]."""
        networks = self._run(predictor, prepared)
        inverse = action_loss(networks["action"], prepared["actions"], self.actions.discrete)
        return self.forward_weight * networks["forward"] + (1.0 - self.forward_weight) * inverse

    def _run(self, predictor: Predictor, prepared: Prepared) -> Prepared:
        outputs: Prepared = predictor(prepared["inputs"], prepared["next_inputs"], prepared["actions"])
        return outputs


class _Networks(nn.Module):
    """Encoder, inverse and forward network of one fragment."""

    def __init__(self, inverse: InverseDynamics, forward: ForwardDynamics, encoder_learns_from_forward: bool) -> None:
        super().__init__()
        self.inverse_dynamics, self.forward_dynamics = inverse, forward
        self._joint = encoder_learns_from_forward

    def forward(self, inputs: Tensor, next_inputs: Tensor, actions: Tensor) -> dict[str, Tensor]:
        """Return the features ``before`` and ``after``, the predicted ``action`` and the ``forward`` error."""
        before, after, action = self.inverse_dynamics(inputs, next_inputs)
        given, wanted = (before, after) if self._joint else (before.detach(), after.detach())
        error = 0.5 * (self.forward_dynamics(given, actions) - wanted).square().mean(dim=-1)
        return {"before": before, "after": after, "action": action, "forward": error}
