"""What a frozen network makes of observations that repeat, kept so that each kind of them is looked at once."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from farl.kinds import Kinds

_TRIAL = 1024  # observations after which it is decided whether they repeat
_WORTHWHILE = 0.5  # most kinds an observation
_MOST_BYTES = 2**24  # of the kinds that are kept


class KnownKinds:
    """Answers for a function of observations that does not change, on a CPU.

    Each new kind is computed alone: its outputs do not depend on the batch in which it came, and are the same again
    after a run was resumed. Whether observations repeat is decided by the first 1 024, once for all.

    :param function: turns what ``before`` returns, float32[B, ...], into float32[B, d]
    :param before: what is done to observations, [B, ...], number by number: of several of them it is the same as of
        each alone
    """

    def __init__(self, function: Callable[[Tensor], Tensor], before: Callable[[Tensor], Tensor]) -> None:
        self._function, self._before = function, before
        self.start()

    def start(self) -> None:
        """Begin anew, as when the function has changed."""
        self._seen, self._distinct = 0, 0  # until it is decided
        self._drop()

    held_bytes = 0
    """What is kept can be worked out anew, and a resumed run may begin without it; it is 16 MiB at most."""

    def _drop(self) -> None:
        self._kinds = Kinds()
        self._outputs, self._computed = torch.empty(0), 0

    def __call__(self, observations: Tensor) -> Tensor:
        """Return what the function makes of B observations, float32[B, d]."""
        if not self.repeats or observations.device.type != "cpu":
            return self._function(self._before(observations))
        known = len(self._kinds)
        kinds = self._kinds(observations.numpy())
        if (found := len(self._kinds)) > self._computed:
            self._compute()
        if self._seen < _TRIAL:
            self._seen, self._distinct = self._seen + len(kinds), self._distinct + found - known
        made = self._outputs.index_select(0, torch.from_numpy(kinds))
        if self._kinds.observations.nbytes > _MOST_BYTES or not self.repeats:
            self._drop()
        return made

    @property
    def repeats(self) -> bool:
        """Whether observations repeat, as far as is known."""
        return self._seen < _TRIAL or self._distinct <= _WORTHWHILE * self._seen

    def state_dict(self) -> dict[str, Any]:
        """Return what has been found out about repetition; what is kept can be computed again.

        Until that is decided the kinds are told, too: one that was seen is not counted again after a resume.
        """
        kinds = torch.from_numpy(self._kinds.observations.copy()) if 0 < self._seen < _TRIAL else None
        return {"seen": self._seen, "distinct": self._distinct, "kinds": kinds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._seen, self._distinct = int(state["seen"]), int(state["distinct"])
        self._drop()
        if state.get("kinds") is not None and len(state["kinds"]):
            self._kinds(state["kinds"].numpy())  # computed when they are asked for: the function may be restored later

    def _compute(self) -> None:
        """Compute all kinds that have not been."""
        known, count = self._computed, len(self._kinds)
        new = self._before(torch.from_numpy(self._kinds.observations[known:]))
        made = torch.cat([self._function(one) for one in torch.split(new, 1)])
        if count > len(self._outputs):
            grown = made.new_empty((max(256, 2 * count), *made.shape[1:]))
            if known:
                grown[:known] = self._outputs[:known]
            self._outputs = grown
        self._outputs[known:count] = made
        self._computed = count
