"""Random network distillation."""

import torch
from torch import Tensor, nn

from farl.curiosity.encoders import image_to_float, initialise, make_encoder
from farl.curiosity.module import CuriosityModule, Predictor, Prepared, Transitions
from farl.curiosity.normalisation import ObservationNorm


class RND(CuriosityModule):
    """Surprisal is the error in predicting the features that a fixed random network gives to the next observation.

    Burda, Edwards, Storkey, Klimov, "Exploration by random network distillation" (ICLR 2019). The target network and
    the observation
    norm are one for all fragments, so that features can serve as recall keys; a fragment owns its predictor. On 84 x 84
    images with 512 features the target has 1.68 and the predictor 2.20 million parameters.

    :param shape: of one observation; [channels, height, width] for an image
    :param features: width of the predicted features
    :param hidden: width of the predictor's two upper layers, and of the trunk for vectors
    :param frame_stack: observations are stacks of so many frames along the channels; only the newest is used
    :param clip: whitened observations are clipped to +-clip
    :param seed: of the random weights; the global random state is left alone
    :raises ValueError: if the channels cannot be divided into frame_stack frames
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        features: int = 64,
        hidden: int = 128,
        frame_stack: int = 1,
        clip: float = 5.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if shape[0] % frame_stack:
            raise ValueError(f"{shape[0]} channels are not a stack of {frame_stack} frames; correct frame_stack")
        self.channels = shape[0] // frame_stack
        shape = (self.channels, *shape[1:])
        self.norm = ObservationNorm(shape, clip)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            trunk, width = make_encoder(shape, hidden)
            self.target = nn.Sequential(trunk, nn.Linear(width, features))
            trunk, width = make_encoder(shape, hidden)
            self.predictor = nn.Sequential(
                trunk,
                nn.Linear(width, hidden),
                nn.ReLU(),
                nn.Linear(hidden, hidden),
                nn.ReLU(),
                nn.Linear(hidden, features),
            )
            initialise(self.target)
            initialise(self.predictor)
        self.requires_grad_(False)

    def warm_up(self, transitions: Transitions) -> None:
        """Update the observation norm."""
        self.norm.update(self._newest_frame(transitions.next_observations))

    @torch.no_grad()
    def prepare(self, transitions: Transitions) -> Prepared:
        """Return the whitened next observations as ``inputs`` and the target's ``features`` of them."""
        inputs = self.norm(self._newest_frame(transitions.next_observations))
        return {"inputs": inputs, "features": self.target(inputs)}

    def surprisal(self, predictor: Predictor, prepared: Prepared) -> Tensor:
        """Return the mean squared error over the features, float32[B]."""
        return (predictor(prepared["inputs"]) - prepared["features"]).square().mean(dim=-1)

    def _newest_frame(self, observations: Tensor) -> Tensor:
        return image_to_float(observations[:, -self.channels :])
