"""What nearly all curiosity modules share among their fragments: whitened observations and fixed random features."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from farl.curiosity.encoders import image_to_float, initialise, make_encoder
from farl.curiosity.module import CuriosityModule, Transitions
from farl.curiosity.normalisation import ObservationNorm


class RandomFeatures(CuriosityModule):
    """A module with an observation norm and a fixed random network, each one for all fragments.

    The network's features of the next observation are the recall keys: what a fragment learns would make its keys
    incomparable with those of others, and would move them while it learns.

    Subclasses build their ``predictor`` and call ``_finish``, both inside ``fixed_seed``.

    :param shape: of one observation; [channels, height, width] for an image
    :param features: width of the random features
    :param hidden: width of the trunk for vectors
    :param frame_stack: observations are stacks of so many frames along the channels; only the newest is used
    :param clip: whitened observations are clipped to +-clip
    :raises ValueError: if the channels cannot be divided into frame_stack frames
    """

    def __init__(
        self, shape: tuple[int, ...], features: int, hidden: int, frame_stack: int = 1, clip: float = 5.0
    ) -> None:
        super().__init__()
        if shape[0] % frame_stack:
            raise ValueError(f"{shape[0]} channels are not a stack of {frame_stack} frames; correct frame_stack")
        self.channels = shape[0] // frame_stack
        self.shape = (self.channels, *shape[1:])
        self.norm = ObservationNorm(self.shape, clip)
        trunk, width = make_encoder(self.shape, hidden)
        self.target = nn.Sequential(trunk, nn.Linear(width, features))

    def _finish(self) -> None:
        """Draw all weights as Burda et al. do, and keep autograd off: banks ask for gradients where they train."""
        initialise(self.target)
        initialise(self.predictor)
        self.requires_grad_(False)

    def warm_up(self, transitions: Transitions) -> None:
        """Update the observation norm."""
        self.norm.update(self._newest_frame(transitions.next_observations))

    def whiten(self, observations: Tensor) -> Tensor:
        """Return the newest frame of B observations, whitened and clipped, float32[B, *shape]."""
        whitened: Tensor = self.norm(self._newest_frame(observations))
        return whitened

    def _newest_frame(self, observations: Tensor) -> Tensor:
        return image_to_float(observations[:, -self.channels :])


@contextmanager
def fixed_seed(seed: int) -> Iterator[None]:
    """Let torch draw from a seed of its own; afterwards the global random state is as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
