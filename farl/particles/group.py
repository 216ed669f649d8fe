"""Particles shared among processes: sums, log-sums and exchange over ``torch.distributed``."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from farl.errors import ConfigError
from farl.particles import weights


class ParticleGroup:
    """The processes that share the particles of one filter; with ``group=None`` this process alone.

    Every process holds an equal, contiguous share: process r of W holds particles r N/W to (r+1) N/W - 1.

    :param group: a process group, such as ``torch.distributed.group.WORLD``
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self.group = group
        self.rank = dist.get_rank(group) if group is not None else 0
        self.size = dist.get_world_size(group) if group is not None else 1

    def share(self, n_particles: int) -> range:
        """Return the numbers of the particles that this process holds.

        :raises ConfigError: if the particles do not divide evenly
        """
        if n_particles % self.size:
            raise ConfigError(
                f"{n_particles} particles cannot be shared evenly by {self.size} processes: use a multiple"
            )
        each = n_particles // self.size
        return range(self.rank * each, (self.rank + 1) * each)

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum of ``value`` over the processes."""
        if self.group is not None:
            value = value.clone()
            dist.all_reduce(value, group=self.group)
        return value

    def normalise(self, log_weights: Tensor) -> Tensor:
        """Return log-weights [..., n] shifted so that the weights of all processes' particles sum to one."""
        if self.group is None:
            return weights.normalise(log_weights)
        top = log_weights.amax(-1, keepdim=True)
        dist.all_reduce(top, op=dist.ReduceOp.MAX, group=self.group)
        total = self.sum(torch.exp(log_weights - top).sum(-1, keepdim=True))
        return log_weights - top - total.log()

    def gather(self, value: Tensor, dim: int = -1) -> Tensor:
        """Return the processes' values joined along ``dim`` in the order of the particles."""
        if self.group is None:
            return value
        parts = [torch.empty_like(value) for _ in range(self.size)]
        dist.all_gather(parts, value.contiguous(), group=self.group)
        return torch.cat(parts, dim)
