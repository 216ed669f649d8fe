"""What each environment has seen in its episode, all environments in one batch."""

from typing import Any

import torch
from torch import Tensor, nn

_FIRST_ROWS = 64


class EpisodicMemory(nn.Module):
    """The latest entries of each environment's episode, up to a capacity.

    Part of a curiosity module's ``state_dict``. With another number of environments than before it starts empty.

    :param capacity: most entries of an environment; beyond it the oldest is overwritten
    """

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.entries = torch.zeros(0, 0)
        """[E, rows, ...]; rows grow with the longest episode."""
        self.count = torch.zeros(0, dtype=torch.int64)
        """int64[E], entries added since the episode began."""

    @property
    def held(self) -> Tensor:
        """bool[E, rows], which rows hold an entry of the present episode."""
        rows = torch.arange(self.entries.shape[1], device=self.count.device)
        return rows < self.count[:, None]

    def begin(self, starts: Tensor, entries: Tensor) -> None:
        """Forget the last episode where a new one starts, and add what it starts from.

        :param starts: bool[E]
        :param entries: [E, ...], what was seen before this step; only read where an episode starts
        """
        if len(self.count) != len(starts):
            self.entries = entries.new_zeros((len(starts), 0, *entries.shape[1:]))
            self.count = torch.zeros(len(starts), dtype=torch.int64, device=entries.device)
        self.entries, self.count = self.entries.to(entries.device), self.count.to(entries.device)
        self.count[starts] = 0
        self.add(entries, starts)

    def add(self, entries: Tensor, where: Tensor | None = None) -> None:
        """Add one entry per environment, [E, ...], or to those of ``where``, bool[E], only."""
        envs = torch.arange(len(entries), device=entries.device) if where is None else where.nonzero().squeeze(1)
        if len(envs) == 0:
            return
        self._make_room(int(self.count.max()) + 1)
        self.entries[envs, self.count[envs] % self.capacity] = entries[envs]
        self.count[envs] += 1

    def get_extra_state(self) -> dict[str, Any]:
        """Return the entries of the present episodes, for ``state_dict``."""
        rows = min(int(self.count.max()), self.capacity) if len(self.count) else 0
        return {
            "entries": self.entries[:, :rows].clone(),
            "count": self.count.clone(),
            "room": list(self.entries.shape[1:2]),
        }

    def set_extra_state(self, state: Any) -> None:
        """Restore what ``get_extra_state`` returned."""
        self.entries, self.count = state["entries"].clone(), state["count"].clone()
        for rows in state.get("room", ()):
            self._add_room(rows - self.entries.shape[1])

    def _make_room(self, wanted: int) -> None:
        rows = self.entries.shape[1]
        wanted = min(wanted, self.capacity)
        if wanted > rows:
            self._add_room(min(max(wanted, 2 * rows, _FIRST_ROWS), self.capacity) - rows)

    def _add_room(self, rows: int) -> None:
        shape = (len(self.entries), rows, *self.entries.shape[2:])
        self.entries = torch.cat([self.entries, self.entries.new_zeros(shape)], dim=1)


class EpisodicCounts(nn.Module):
    """How often each environment has been where it is, in this episode.

    :param capacity: only so many of the latest steps count
    """

    def __init__(self, capacity: int = 10_000) -> None:
        super().__init__()
        self.memory = EpisodicMemory(capacity)

    def visit(self, before: Tensor, codes: Tensor, starts: Tensor) -> Tensor:
        """Take note of one step and return the number of visits so far, this one included, int64[E].

        :param before: int64[E], codes of what was seen before the step; an episode's first observation is a visit too
        :param codes: int64[E], codes of what is seen now
        :param starts: bool[E], where this is the first step of an episode
        """
        self.memory.begin(starts, before)
        self.memory.add(codes)
        return ((self.memory.entries == codes[:, None]) & self.memory.held).sum(dim=1)
