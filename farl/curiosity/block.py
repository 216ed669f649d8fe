"""What modules make of several steps at once, before it is known where the environments will go."""

import numpy as np
import numpy.typing as npt
import torch

from farl.curiosity.fragment_modules import FragmentModules
from farl.curiosity.module import Prepared
from farl.curiosity.samples import select

IntArray = npt.NDArray[np.int64]

_FIRST_STRIDE = 8  # steps evaluated at once after a move: about what the weights have to be read for anyway
_GROWTH = 4


class Block:
    """T steps of E environments, evaluated under the fragments they are in, as if they stayed there to the end.

    Mostly they do, and then one call serves all steps. Where an environment moves, its outputs from then on are
    evaluated anew: for a few steps first, then for four times as many, and so on, so that one which moves often costs
    little more than without looking ahead.

    :param modules: evaluate
    :param prepared: T * E samples, step by step
    :param n_envs: number of environments E
    """

    def __init__(self, modules: FragmentModules, prepared: Prepared, n_envs: int) -> None:
        self._modules = modules
        self._prepared = prepared
        self._n_envs = n_envs
        self._steps = len(next(iter(prepared.values()))) // n_envs
        self._outputs: Prepared = {}
        self._known_until = np.zeros(n_envs, np.int64)
        self._stride = np.full(n_envs, self._steps)

    def prepared(self, step: int) -> Prepared:
        """Return the samples of a step, [E, ...], as views."""
        return self._of(step, self._prepared)

    def outputs(self, step: int, active: IntArray) -> Prepared:
        """Return what modules make of a step, [E, ...], under the active fragments, int64[E]."""
        envs = np.flatnonzero(self._known_until <= step)
        if len(envs):
            until = np.minimum(step + self._stride[envs], self._steps)
            self._evaluate(step, envs, until - step, active)
            self._known_until[envs] = until
            self._stride[envs] *= _GROWTH
        return self._of(step, self._outputs)

    def moved(self, step: int, envs: IntArray) -> None:
        """Note that environments, int64[n], left their fragments in a step."""
        self._known_until[envs] = step + 1
        self._stride[envs] = _FIRST_STRIDE

    def _of(self, step: int, samples: Prepared) -> Prepared:
        rows = slice(step * self._n_envs, (step + 1) * self._n_envs)
        return {name: tensor[rows] for name, tensor in samples.items()}

    def _evaluate(self, step: int, envs: IntArray, span: IntArray, active: IntArray) -> None:
        """Evaluate some environments from a step on, each for so many steps."""
        if span.sum() == self._steps * self._n_envs:
            self._outputs = self._modules.evaluate(np.tile(active, self._steps), self._prepared)
            return
        env = np.repeat(envs, span)
        rows = (step + np.arange(len(env)) - np.repeat(np.cumsum(span) - span, span)) * self._n_envs + env
        into = torch.from_numpy(rows)
        for name, tensor in self._modules.evaluate(active[env], select(self._prepared, rows)).items():
            self._outputs[name][into] = tensor
