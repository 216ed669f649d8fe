"""Count-based exploration."""

import math
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from farl.curiosity.episodic import EpisodicCounts
from farl.curiosity.features import Whitened
from farl.curiosity.hashing import ExactHash, SimHash
from farl.curiosity.module import Predictor, Prepared, Transitions
from farl.fragmentation.statistics import rank_in_fragment


class PseudoCount(Whitened):
    """Rewards ``1 / sqrt(n)``, n being how often the code of what is seen has been seen, this time included.

    Tang et al., "#Exploration: a study of count-based exploration for deep reinforcement learning" (NeurIPS 2017),
    section 2: codes are signs of random projections, so that n is a pseudo-count of what looks alike; or exact, for
    worlds with few observations. Episodic counts begin anew with every episode, lifelong ones never, and all
    environments share them.

    :param shape: shape of one observation; [channels, height, width] for an image
    :param scope: ``"episodic"`` or ``"lifelong"``
    :param bits: length of a code; None for exact codes
    :param frame_stack: number of frames that an observation stacks along its channels; only the newest is used
    :param seed: draws the codes
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        scope: Literal["episodic", "lifelong"] = "episodic",
        bits: int | None = None,
        frame_stack: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(shape, frame_stack)
        generator = torch.Generator().manual_seed(seed)
        size = math.prod(self.shape)
        self.hash = ExactHash(size, generator) if bits is None else SimHash(size, bits, generator)
        self.predictor = nn.Identity()
        self.counts = EpisodicCounts() if scope == "episodic" else _LifelongCounts()

    @torch.no_grad()
    def prepare(self, transitions: Transitions) -> Prepared:
        """Return the codes before and after."""
        return {"code_before": self._code(transitions.observations), "code": self._code(transitions.next_observations)}

    def surprisal(self, predictor: Predictor, prepared: Prepared) -> Tensor:
        """Return zeros: counts predict nothing."""
        return torch.zeros(len(prepared["code"]), device=prepared["code"].device)

    def bonus(self, outputs: Prepared, prepared: Prepared, starts: Tensor) -> Tensor:
        """Return one over the root of the count, float32[E]."""
        visits: Tensor = self.counts.visit(prepared["code_before"], prepared["code"], starts)
        return visits.float().rsqrt()

    def _code(self, observations: Tensor) -> Tensor:
        code: Tensor = self.hash(
            self.whiten(observations) if isinstance(self.hash, SimHash) else self.newest(observations)
        )
        return code


class _LifelongCounts(nn.Module):
    """How often all environments together have been somewhere. Codes are kept sorted."""

    def __init__(self) -> None:
        super().__init__()
        self._codes = np.empty(0, np.int64)
        self._visits = np.empty(0, np.int64)

    def visit(self, before: Tensor, codes: Tensor, starts: Tensor) -> Tensor:
        """Count E visits, of equal codes one after the other, and return the count of each, int64[E]."""
        seen = codes.cpu().numpy()
        distinct, inverse, times = np.unique(seen, return_inverse=True, return_counts=True)
        new = ~np.isin(distinct, self._codes, assume_unique=True)
        if new.any():
            place = np.searchsorted(self._codes, distinct[new])
            self._codes = np.insert(self._codes, place, distinct[new])
            self._visits = np.insert(self._visits, place, 0)
        rows = np.searchsorted(self._codes, distinct)
        visits = self._visits[rows][inverse] + rank_in_fragment(seen) + 1
        self._visits[rows] += times
        return torch.from_numpy(visits).to(codes.device)

    def get_extra_state(self) -> dict[str, Tensor]:
        """Return codes and counts, for ``state_dict``."""
        return {"codes": torch.from_numpy(self._codes.copy()), "visits": torch.from_numpy(self._visits.copy())}

    def set_extra_state(self, state: Any) -> None:
        """Restore what ``get_extra_state`` returned."""
        self._codes = state["codes"].cpu().numpy().copy()
        self._visits = state["visits"].cpu().numpy().copy()
