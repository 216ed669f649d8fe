"""How modules learn: samples wait, grow into minibatches, and are joined by some from long ago."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from farl.curiosity.fragment_modules import FragmentModules
from farl.curiosity.module import CuriosityModule, Prepared
from farl.curiosity.replay import Reservoir
from farl.curiosity.samples import (
    IntArray,
    Samples,
    fills_minibatches,
    join,
    kinds_of,
    minibatches,
    once_each,
    select,
)
from farl.kinds import Kinds

_WORTHWHILE = 0.8  # most kinds a sample


class ModuleTrainer:
    """Keeps samples from the step that saw them to the update that learns from them.

    Each fragment takes full minibatches of its own samples, all fragments in the same calls; what does not fill a
    minibatch waits for the next update. So the work grows with the samples, not with the fragments they fall on.

    Where a criterion takes some steps to be sure, samples under suspicion wait too, for one update at most, and go to
    the fragment that the environment turns out to have gone to.

    :param modules: what is trained
    :param train_fraction: share of the samples that is trained on, in (0, 1]
    :param epochs: passes over the samples
    :param batch_size: samples of one fragment in one gradient step
    :param replay: joins every minibatch by as many samples of long ago, of the same fragments; None by none
    :param seed: draws the choice and order of samples
    """

    def __init__(
        self,
        modules: FragmentModules,
        train_fraction: float = 1.0,
        epochs: int = 1,
        batch_size: int = 64,
        replay: Reservoir | None = None,
        seed: int = 0,
    ) -> None:
        self.modules = modules
        self.train_fraction = train_fraction
        self.epochs = epochs
        self.batch_size = batch_size
        self.replay = replay
        self.last_update = 0
        """Number of samples that had been seen by the latest update."""
        self.working_bytes = 0
        """Size of the copies and gradients that it worked with at a time, in bytes: the allocator keeps them."""
        self._generator = torch.Generator().manual_seed(seed)
        self._waiting: list[Samples] = []  # the oldest first

    def add(self, prepared: Prepared, fragment_ids: IntArray, time: int) -> None:
        """Keep a random ``train_fraction`` of a step's samples.

        :param prepared: what ``prepare`` returned for one sample of each of E environments
        :param fragment_ids: int64[E], where they belong
        :param time: number of samples seen, these included
        """
        n_envs = len(fragment_ids)
        samples = Samples(prepared, fragment_ids.copy(), np.arange(n_envs), np.full(n_envs, time))
        if self.train_fraction < 1.0:
            samples = samples.select((torch.rand(n_envs, generator=self._generator) < self.train_fraction).numpy())
        self._waiting.append(samples)

    def reassign(self, env: int, fragment_id: int, since: int) -> None:
        """Let the samples of an environment after a time belong to another fragment."""
        for part in reversed(self._waiting):
            if len(part.times) and part.times.max() <= since:
                break
            part.fragment_ids[(part.envs == env) & (part.times > since)] = fragment_id

    def update(self, module: CuriosityModule, suspicious_since: IntArray, time: int) -> float | None:
        """Train on what is there, and return the mean loss; None if no fragment had a minibatch.

        :param module: trains what its fragments share
        :param suspicious_since: int64[E], the time after which each environment has been under suspicion
        :param time: number of samples seen
        """
        self.working_bytes = 0
        losses = self._learn(module, join(self._waiting), suspicious_since) if self._waiting else []
        self.last_update = time
        return float(torch.stack(losses).mean()) if losses else None

    def _learn(self, module: CuriosityModule, samples: Samples, suspicious_since: IntArray) -> list[torch.Tensor]:
        ids = samples.fragment_ids
        held = np.isin(ids, self.modules.memory.ids)  # a fragment may have been evicted since
        waits = (samples.times > suspicious_since[samples.envs]) & (samples.times > self.last_update)
        ready = np.flatnonzero(held & ~waits)
        rows = ready[fills_minibatches(ids[ready], self.batch_size)]
        kinds = self._kinds(module, samples, rows) if len(rows) else None
        losses = []
        for _ in range(self.epochs if len(rows) else 0):
            shuffled = rows[torch.randperm(len(rows), generator=self._generator).numpy()]
            for chosen in minibatches(shuffled, ids[shuffled], self.batch_size):
                if kinds is None:
                    prepared, fragment_ids = self._with_replay(select(samples.prepared, chosen), ids[chosen])
                    losses.append(self.modules.train(fragment_ids, prepared)[: len(chosen)].mean())
                    module.learn_shared(prepared)
                else:
                    first, counts = once_each(kinds[chosen], len(kinds))
                    some = chosen[first]
                    made = self.modules.train(ids[some], select(samples.prepared, some), counts)
                    losses.append(torch.from_numpy(counts).to(made) @ made / len(chosen))
                self.working_bytes = max(self.working_bytes, self.modules.bank.copied_bytes)
        if self.replay is not None and len(rows):
            self.replay.add(select(samples.prepared, rows), ids[rows])
        held[rows] = False
        self._waiting = [samples.select(held)] if held.any() else []
        return losses

    def state_dict(self) -> dict[str, Any]:
        """Return the samples that wait, and the random state."""
        waiting: dict[str, Any] = {}
        if self._waiting:
            prepared, *numbers = join(self._waiting)
            waiting = {"prepared": prepared, "numbers": [torch.from_numpy(part.copy()) for part in numbers]}
        return {
            "waiting": waiting,
            "generator": self._generator.get_state(),
            "last_update": self.last_update,
            "working_bytes": self.working_bytes,
            "replay": None if self.replay is None else self.replay.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any], n_envs: int) -> None:
        """Restore what ``state_dict`` returned; with fewer environments than saved they share what there was."""
        self._waiting = []
        if waiting := state["waiting"]:
            fragment_ids, envs, times = (part.cpu().numpy().copy() for part in waiting["numbers"])
            self._waiting = [Samples(dict(waiting["prepared"]), fragment_ids, envs % n_envs, times)]
        self._generator.set_state(state["generator"].cpu())
        self.last_update = int(state["last_update"])
        self.working_bytes = int(state.get("working_bytes", 0))
        if self.replay is not None and state["replay"] is not None:
            self.replay.load_state_dict(state["replay"])

    def _kinds(self, module: CuriosityModule, samples: Samples, rows: IntArray) -> IntArray | None:
        """Number some samples, so that equal ones of one fragment get equal numbers, int64[all samples].

        None where it does not pay, or where it matters that there are several.
        """
        alone = self.modules.bank.sees_rows_alone and type(module).learn_shared is CuriosityModule.learn_shared
        if not alone or self.replay is not None:
            return None
        kinds = np.zeros(len(samples.times), np.int64)
        looks = kinds_of(select(samples.prepared, rows), module.determined_by)
        kinds[rows] = Kinds()(np.stack([samples.fragment_ids[rows], looks], axis=1))
        return kinds if kinds.max() < _WORTHWHILE * len(rows) else None

    def _with_replay(self, prepared: Prepared, fragment_ids: IntArray) -> tuple[Prepared, IntArray]:
        replayed = None if self.replay is None else self.replay.draw(fragment_ids)
        if replayed is None:
            return prepared, fragment_ids
        both = {name: torch.cat([tensor, replayed[0][name]]) for name, tensor in prepared.items()}
        return both, np.concatenate([fragment_ids, replayed[1]])
