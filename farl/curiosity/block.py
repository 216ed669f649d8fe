"""What modules make of several steps at once, before it is known where the environments will go."""

import numpy as np
import numpy.typing as npt
import torch

from farl.curiosity.fragment_modules import FragmentModules
from farl.curiosity.module import Prepared
from farl.curiosity.samples import kinds_of, once_each, select

IntArray = npt.NDArray[np.int64]

_FIRST_STRIDE = 8  # steps evaluated at once after a move: about what the weights have to be read for anyway
_GROWTH = 4


class Block:
    """T steps of E environments, evaluated under the fragments they are in, as if they stayed there to the end.

    Mostly they do, and then one call serves all steps. Where an environment moves, its outputs from then on are
    evaluated anew: for a few steps first, then for four times as many, and so on, so that one which moves often costs
    little more than without looking ahead.

    Each module looks once at samples that are the same, as those of grid worlds are, whoever saw them and when.

    :param modules: evaluate
    :param prepared: T * E samples, step by step
    :param n_envs: number of environments E
    """

    def __init__(self, modules: FragmentModules, prepared: Prepared, n_envs: int) -> None:
        self._modules = modules
        self._prepared = prepared
        self._n_envs = n_envs
        count = len(next(iter(prepared.values())))
        self._n_steps = count // n_envs
        self._everywhere = None if modules.bank.learns else modules.bank.evaluate(np.empty(0, np.int64), prepared)
        if self._everywhere is not None:
            return
        self._kinds = (
            kinds_of(prepared, modules.bank.module.determined_by) if modules.bank.sees_rows_alone else np.arange(count)
        )
        self._n_kinds = int(self._kinds.max()) + 1
        self._place_of: dict[int, int] = {}  # of fragments, in the table
        self._table: IntArray = np.empty((0, self._n_kinds), np.int64)  # by fragment and kind, rows of the outputs
        self._outputs: Prepared = {}
        self._rows = np.zeros(count, np.int64)  # of the outputs, by sample
        self._known_until = np.zeros(n_envs, np.int64)
        self._stride = np.full(n_envs, self._n_steps)

    def prepared(self, step: int) -> Prepared:
        """Return the samples of a step, [E, ...], as views."""
        return self._rows_of(step, self._prepared)

    def outputs(self, step: int, active: IntArray) -> Prepared:
        """Return what modules make of a step, [E, ...], under the active fragments, int64[E]."""
        if self._everywhere is not None:
            return self._rows_of(step, self._everywhere)
        envs = np.flatnonzero(self._known_until <= step)
        if len(envs):
            until = np.minimum(step + self._stride[envs], self._n_steps)
            self._evaluate(step, envs, until - step, active)
            self._known_until[envs] = until
            self._stride[envs] *= _GROWTH
        return select(self._outputs, self._rows[step * self._n_envs : (step + 1) * self._n_envs])

    def under(self, step: int, envs: IntArray, fragment_ids: IntArray) -> Prepared:
        """Return what modules make of what some environments show in a step, [n, ...], under any fragments.

        Whoever lingers at a border asks the same again and again.

        :param envs: int64[n]
        :param fragment_ids: int64[n]
        """
        samples = step * self._n_envs + envs
        if self._everywhere is not None:
            return select(self._everywhere, samples)
        rows = self._looked_up(samples, self._places(fragment_ids), fragment_ids)
        return select(self._outputs, rows)

    def moved(self, step: int, envs: IntArray) -> None:
        """Note that environments, int64[n], left their fragments in a step."""
        if self._everywhere is None:
            self._known_until[envs] = step + 1
            self._stride[envs] = _FIRST_STRIDE

    def _rows_of(self, step: int, samples: Prepared) -> Prepared:
        if self._n_steps == 1:
            return samples
        rows = slice(step * self._n_envs, (step + 1) * self._n_envs)
        return {name: tensor[rows] for name, tensor in samples.items()}

    def _evaluate(self, step: int, envs: IntArray, span: IntArray, active: IntArray) -> None:
        """Evaluate some environments from a step on, each for so many steps."""
        env = np.repeat(envs, span)
        samples = (step + np.arange(len(env)) - np.repeat(np.cumsum(span) - span, span)) * self._n_envs + env
        if len(samples) == len(self._rows):
            samples = np.arange(len(samples))
            env = samples % self._n_envs
        self._rows[samples] = self._looked_up(samples, self._places(active)[env], active[env])

    def _looked_up(self, samples: IntArray, places: IntArray, fragment_ids: IntArray) -> IntArray:
        """Return the rows of the outputs for some samples, each under a fragment with its place in the table."""
        pairs = places * self._n_kinds + self._kinds[samples]
        table = self._table.reshape(-1)
        unknown = np.flatnonzero(table[pairs] < 0)
        if len(unknown):
            first = unknown[once_each(pairs[unknown], table.size)[0]]
            held = len(next(iter(self._outputs.values()))) if self._outputs else 0
            table[pairs[first]] = held + np.arange(len(first))
            rows = samples[first]
            prepared = self._prepared if len(rows) == len(self._rows) else select(self._prepared, rows)
            outputs = self._modules.evaluate(fragment_ids[first], prepared)
            self._outputs = {
                name: torch.cat([self._outputs[name], tensor]) if held else tensor for name, tensor in outputs.items()
            }
        found: IntArray = table[pairs]
        return found

    def _places(self, active: IntArray) -> IntArray:
        """Return the row of the table for each fragment, int64[E]."""
        for fragment_id in active.tolist():
            self._place_of.setdefault(fragment_id, len(self._place_of))
        if (more := len(self._place_of) - len(self._table)) > 0:
            self._table = np.concatenate([self._table, np.full((more, self._n_kinds), -1)])
        return np.array([self._place_of[fragment_id] for fragment_id in active.tolist()])
