"""Random network distillation."""

import torch
from torch import Tensor, nn

from farl.curiosity.encoders import make_encoder
from farl.curiosity.features import RandomFeatures, fixed_seed
from farl.curiosity.module import Predictor, Prepared, Transitions


class RND(RandomFeatures):
    """Surprisal is the error in predicting the features that a fixed random network gives to the next observation.

    Burda, Edwards, Storkey, Klimov, "Exploration by random network distillation" (ICLR 2019), section 2.2. The target
    network and the observation norm are one for all fragments, so that features can serve as recall keys; a fragment
    owns its predictor. On 84 x 84 images with 512 features the target has 1.68 and the predictor 2.20 million
    parameters.

    :param shape: shape of one observation; [channels, height, width] for an image
    :param features: width of the predicted features
    :param hidden: width of the predictor's two upper layers, and of the trunk for vectors
    :param frame_stack: number of frames that an observation stacks along its channels; only the newest is used
    :param clip: whitened observations are clipped to +-clip
    :param seed: draws the random weights; the global random state is left alone
    :raises ValueError: if the channels cannot be divided into frame_stack frames
    """

    takes_stacked_samples = True
    determined_by = ("inputs",)

    def __init__(
        self,
        shape: tuple[int, ...],
        features: int = 64,
        hidden: int = 128,
        frame_stack: int = 1,
        clip: float = 5.0,
        seed: int = 0,
    ) -> None:
        with fixed_seed(seed):
            super().__init__(shape, features, hidden, frame_stack, clip)
            trunk, width = make_encoder(self.shape, hidden)
            self.predictor = nn.Sequential(
                trunk,
                nn.Linear(width, hidden),
                nn.ReLU(),
                nn.Linear(hidden, hidden),
                nn.ReLU(),
                nn.Linear(hidden, features),
            )
            self._finish()

    @torch.no_grad()
    def prepare(self, transitions: Transitions) -> Prepared:
        """Return the whitened next observations as ``inputs`` and the target's ``features`` of them."""
        inputs = self.whiten(transitions.next_observations)
        return {"inputs": inputs, "features": self.target(inputs)}

    def surprisal(self, predictor: Predictor, prepared: Prepared) -> Tensor:
        """Return the mean squared error over the features, float32[B]."""
        error: Tensor = (predictor(prepared["inputs"]) - prepared["features"]).square().mean(dim=-1)
        return error
