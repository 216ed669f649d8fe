"""What bonuses over an episode's embeddings have in common: an encoder learnt by inverse dynamics."""

import torch
from torch import Tensor

from farl.curiosity.dynamics import InverseDynamics, action_loss
from farl.curiosity.features import Whitened, fixed_seed
from farl.curiosity.module import ActionSpec, Predictor, Prepared, Transitions


class InverseEmbedding(Whitened):
    """A module that compares embeddings within an episode; its surprisal and loss are those of the inverse dynamics.

    :param shape: shape of one observation; [channels, height, width] for an image
    :param actions: the form of one action
    :param features: width of the embedding
    :param hidden: width of the inverse network, and of the trunk for vectors
    :param clip: whitened observations are clipped to +-clip
    :param seed: draws the random weights; the global random state is left alone
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        actions: ActionSpec,
        features: int = 32,
        hidden: int = 128,
        clip: float = 5.0,
        seed: int = 0,
    ) -> None:
        with fixed_seed(seed):
            super().__init__(shape, clip=clip)
            self.actions = actions
            self.predictor = InverseDynamics(shape, actions.size, features, hidden)
            self._finish()

    @torch.no_grad()
    def prepare(self, transitions: Transitions) -> Prepared:
        """Return the whitened observations before and after, and the encoded actions."""
        return {
            "inputs": self.whiten(transitions.observations),
            "next_inputs": self.whiten(transitions.next_observations),
            "actions": self.actions.encode(transitions.actions),
        }

    def surprisal(self, predictor: Predictor, prepared: Prepared) -> Tensor:
        """Return how badly the action was told from the observations, float32[B]."""
        return self.evaluate(predictor, prepared)["surprisal"]

    def evaluate(self, predictor: Predictor, prepared: Prepared) -> Prepared:
        """Return the surprisal, and the embeddings ``before`` and ``after``."""
        before, after, action = predictor(prepared["inputs"], prepared["next_inputs"])
        surprisal = action_loss(action, prepared["actions"], self.actions.discrete)
        return {"surprisal": surprisal, "before": before, "after": after}
