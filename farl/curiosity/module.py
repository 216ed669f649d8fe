"""What a curiosity module is: shared parts that are computed once, and a predictor that every fragment owns."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from farl.fragmentation.recall import NoRecall, Recall
from farl.memory import LongTermMemory

Predictor = Callable[..., Any]
Prepared = dict[str, Tensor]
"""Tensors with one row per sample: what predictors of all fragments read and predict."""


class ActionSpec(NamedTuple):
    """The form of one action.

    :ivar size: number of discrete actions, or length of an action vector
    :ivar discrete: whether actions are numbers 0 ... size - 1
    """

    size: int
    discrete: bool

    def encode(self, actions: Tensor) -> Tensor:
        """Return B actions as networks read them, float32[B, size]: one-hot, or the vectors themselves."""
        if self.discrete:
            return nn.functional.one_hot(actions.long().flatten(), self.size).float()
        return actions.float().reshape(len(actions), -1)  # a single number counts as a vector of one


class Transitions(NamedTuple):
    """B transitions as a curiosity module sees them.

    :ivar observations: [B, *shape], uint8 for images (channels first), float32 for all else
    :ivar actions: [B] integers or float32[B, a]
    :ivar next_observations: as observations; where an episode ended, its true last observation
    """

    observations: Tensor
    actions: Tensor
    next_observations: Tensor


class CuriosityModule(nn.Module, ABC):
    """A source of prediction error and of an intrinsic reward, split so that many fragments can share all that need
    not be their own.

    - Shared by all fragments: the module's own parameters and buffers (a target network, an observation norm), used in
      ``prepare``.
    - Owned by each fragment: a copy of ``predictor``, which a ``ModuleBank`` holds, evaluates and trains.
    - Of each environment: what ``bonus`` remembers of its episode, if anything (see ``EpisodicMemory``).

    Each step runs ``prepare`` and ``evaluate`` on one transition per environment, routes by the surprisal, and rewards
    with ``bonus``. A module of the plainest kind, such as RND, writes ``warm_up``, ``prepare`` and ``surprisal`` alone:
    it is rewarded with its surprisal. To add a method, write these members and a ``ModuleConfig`` in a file, and name
    it in ``farl/curiosity/registry.py``.
    """

    n_advised = 0
    """Length of the advice for each environment, for modules that know the way to what is new; 0 gives none."""
    predictor: nn.Module
    """The predictor that every fragment starts from. Starting all alike makes a fresh fragment's errors comparable."""
    takes_stacked_samples = False
    """Whether ``evaluate`` and ``loss`` also take many fragments at once, [T, W, ...] instead of [B, ...], because they
    work on the last dimensions only. Then a plain predictor needs no ``vmap`` and is faster."""

    determined_by: tuple[str, ...] = ()
    """Names of what ``prepare`` returns on which all the rest of it depends, as far as predictors see it; none is all.
    Samples that agree in these are the same, and are looked at once."""

    predicts = True
    """Whether surprisal says anything: not where nothing is predicted."""
    one_norm = False
    """Whether all fragments share one reward norm, because the bonus means the same in all of them."""

    def recall(self, memory: LongTermMemory[Any]) -> Recall:
        """Return a strategy of recall by what the module itself recognises: none, unless overridden."""
        return NoRecall()

    def stay_whole(self) -> None:
        """Called before the first step where there will be one fragment: drop what serves to tell them apart alone."""

    @abstractmethod
    def warm_up(self, transitions: Transitions) -> None:
        """Adapt what is shared, before the first fragment is trained; afterwards it stays as it is."""

    @abstractmethod
    def prepare(self, transitions: Transitions) -> Prepared:
        """Compute the shared part for B samples, once: they are trained on as they were prepared when they were seen.

        It must not depend on what ``learn_shared`` trains.
        The entry ``features``, float32[B, d], serves as recall key; modules that cannot be fragmented may leave it out.
        """

    @abstractmethod
    def surprisal(self, predictor: Predictor, prepared: Prepared) -> Tensor:
        """Return the raw prediction error of one fragment's predictor, float32[B]. Fragments are routed by it."""

    def evaluate(self, predictor: Predictor, prepared: Prepared) -> Prepared:
        """Return all that the bonus needs of one fragment's predictor, with the surprisal as entry ``surprisal``."""
        return {"surprisal": self.surprisal(predictor, prepared)}

    def loss(self, predictor: Predictor, prepared: Prepared) -> Tensor:
        """Return what the fragment's predictor is trained to reduce, float32[B]: the surprisal, unless overridden."""
        return self.surprisal(predictor, prepared)

    def bonus(self, outputs: Prepared, prepared: Prepared, starts: Tensor) -> Tensor:
        """Return the raw intrinsic reward, float32[E]: the surprisal, unless overridden.

        Called once per step with one row per environment, always in the same order: here a module keeps what belongs
        to an environment or an episode.

        :param outputs: what ``evaluate`` returned for the fragments that are active after the step
        :param starts: bool[E], where this is the first transition of an episode
        """
        return outputs["surprisal"]

    def arrive(self, observations: Tensor, envs: Tensor, n_envs: int) -> None:
        """Take note of where environments have been put: the first observations of episodes. Nothing, unless
        overridden.

        :param observations: [n, *shape]
        :param envs: int64[n], the environments that they belong to
        :param n_envs: number of all environments
        """

    def locate(self, prepared: Prepared, starts: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64] | None:
        """Return the place that each environment has come to, int64[E], -1 where it is not known.

        None, unless overridden: nobody recognises places. Asked once a step, before ``bonus``, after the warm-up.

        :param prepared: what ``prepare`` returned for this step
        :param starts: bool[E], where this step was the first of an episode
        """
        return None

    def learn_shared(self, prepared: Prepared) -> None:
        """Train what all fragments share and what goes on learning, on one minibatch: nothing, unless overridden."""
