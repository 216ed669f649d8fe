"""E3B: exploration via elliptical episodic bonuses."""

from typing import Any

import torch
from torch import Tensor, nn

from farl.curiosity.embedding import InverseEmbedding
from farl.curiosity.module import ActionSpec, Prepared


class E3B(InverseEmbedding):
    """Rewards an embedding that lies outside the ellipse of those seen in the episode.

    Henaff, Raileanu, Jiang, Rocktäschel, "Exploration via elliptical episodic bonuses" (NeurIPS 2022), equation 1:
    ``phi^T C^-1 phi`` with ``C = ridge I + sum of phi phi^T`` over the episode so far, which generalises an episodic
    count to features. The inverse is kept up to date by the Sherman-Morrison formula.

    :param ridge: start of the covariance's diagonal; smaller rewards the first observations of an episode more
    :param arguments: those of ``InverseEmbedding``
    """

    def __init__(self, shape: tuple[int, ...], actions: ActionSpec, ridge: float = 0.1, **arguments: Any) -> None:
        super().__init__(shape, actions, **arguments)
        self.ellipse = Ellipse(ridge)

    def bonus(self, outputs: Prepared, prepared: Prepared, starts: Tensor) -> Tensor:
        """Return the elliptical bonus, float32[E]."""
        bonus: Tensor = self.ellipse(outputs["after"], starts)
        return bonus


class Ellipse(nn.Module):
    """The inverse covariance of each environment's embeddings in its episode, float32[E, d, d].

    :param ridge: a multiple of the identity to start from
    """

    def __init__(self, ridge: float) -> None:
        super().__init__()
        self.ridge = ridge
        self.inverse = torch.zeros(0, 0, 0)

    @torch.no_grad()
    def forward(self, embeddings: Tensor, starts: Tensor) -> Tensor:
        """Return the bonus of E embeddings, float32[E, d] -> float32[E], and take them in.

        :param starts: bool[E], where an episode starts anew
        """
        n_envs, width = embeddings.shape
        if len(self.inverse) != n_envs:
            self.inverse = embeddings.new_empty((n_envs, width, width))
            starts = torch.ones_like(starts)
        self.inverse = self.inverse.to(embeddings.device)
        self.inverse[starts] = torch.eye(width, device=embeddings.device) / self.ridge
        scaled = torch.bmm(self.inverse, embeddings[:, :, None])
        bonus = torch.bmm(embeddings[:, None], scaled)
        self.inverse -= scaled @ scaled.transpose(1, 2) / (1.0 + bonus)
        return bonus.flatten()

    def get_extra_state(self) -> Tensor:
        """Return the inverses, for ``state_dict``."""
        return self.inverse.clone()

    def set_extra_state(self, state: Tensor) -> None:
        """Restore what ``get_extra_state`` returned."""
        self.inverse = state.clone()
