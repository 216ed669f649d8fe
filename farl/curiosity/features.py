"""What nearly all curiosity modules share among their fragments: whitened observations and fixed random features."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from farl.curiosity.encoders import PackedShape, image_to_float, initialise, make_encoder
from farl.curiosity.module import CuriosityModule, Transitions
from farl.curiosity.normalisation import ObservationNorm


class Whitened(CuriosityModule):
    """A module that reads whitened observations, by a norm that all fragments share.

    Subclasses build their ``predictor`` and call ``_finish``, both inside ``fixed_seed``.

    :param shape: shape of one observation; [channels, height, width] for an image
    :param frame_stack: number of frames that an observation stacks along its channels; only the newest is used
    :param clip: whitened observations are clipped to +-clip
    :raises ValueError: if the channels cannot be divided into frame_stack frames
    """

    def __init__(self, shape: tuple[int, ...], frame_stack: int = 1, clip: float = 5.0) -> None:
        super().__init__()
        if shape[0] % frame_stack or (isinstance(shape, PackedShape) and frame_stack > 1):
            what = "parts of a dict" if isinstance(shape, PackedShape) else f"{shape[0]} channels"
            raise ValueError(f"{what} are not a stack of {frame_stack} frames; correct frame_stack")
        self.channels = shape[0] // frame_stack
        self.shape = shape if frame_stack == 1 else (self.channels, *shape[1:])
        self.norm = ObservationNorm(self.shape, clip)

    def _finish(self) -> None:
        """Draw all weights as Burda et al. do, and keep autograd off: banks ask for gradients where they train."""
        initialise(self)
        self.requires_grad_(False)

    def warm_up(self, transitions: Transitions) -> None:
        """Update the observation norm."""
        self.norm.update(image_to_float(self.newest(transitions.next_observations)))

    def newest(self, observations: Tensor) -> Tensor:
        """Return the newest frame of B observations, [B, *shape]."""
        return observations[:, -self.channels :]

    def whiten(self, observations: Tensor) -> Tensor:
        """Return the newest frame of B observations, whitened and clipped, float32[B, *shape]."""
        whitened: Tensor = self.norm(image_to_float(self.newest(observations)))
        return whitened


class RandomFeatures(Whitened):
    """A module with a fixed random network, ``target``, that all fragments share.

    The network's features of the next observation are the recall keys: what a fragment learns would make its keys
    incomparable with those of others, and would move them while it learns.

    :param shape: shape of one observation; [channels, height, width] for an image
    :param features: width of the random features
    :param hidden: width of the trunk for vectors
    :param frame_stack: number of frames that an observation stacks along its channels; only the newest is used
    :param clip: whitened observations are clipped to +-clip
    """

    def __init__(
        self, shape: tuple[int, ...], features: int, hidden: int, frame_stack: int = 1, clip: float = 5.0
    ) -> None:
        super().__init__(shape, frame_stack, clip)
        trunk, width = make_encoder(self.shape, hidden)
        self.target = nn.Sequential(trunk, nn.Linear(width, features))


@contextmanager
def fixed_seed(seed: int) -> Iterator[None]:
    """Let torch draw from a seed of its own; afterwards the global random state is as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
