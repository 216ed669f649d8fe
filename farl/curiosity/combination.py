"""A lifelong and an episodic bonus as one."""

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from farl.curiosity.bank import ModuleBank
from farl.curiosity.module import CuriosityModule, Predictor, Prepared, Transitions
from farl.curiosity.settings import Mode
from farl.fragmentation import SurprisalStatistics

_PREFIX = "episodic."
_SHARED = 0


class Combination(CuriosityModule):
    """Rewards what is new in the episode, and new altogether.

    - ``"product"``: lifelong x episodic bonus, as in RIDE and NovelD.
    - ``"modulated"``: episodic bonus x lifelong modulator, ``1 + (b - mean) / std`` of the lifelong bonus b, clipped to
      [1, limit]: Badia et al., "Never give up" (ICLR 2020), equation 1.
    - ``"sum"``: ``weight b / std(b) + (1 - weight) e / std(e)``.

    Means and standard deviations run over all environments and the whole training.

    Fragments are those of the lifelong module: its predictor, surprisal, loss and recall keys. The episodic one is
    shared: its network must be the same through an episode, in however many fragments that runs, or its embeddings
    could not be compared.

    :param lifelong: fades over the whole training
    :param episodic: begins anew in every episode
    :param mode: how they become one
    :param weight: the lifelong bonus's share in the sum, in [0, 1]
    :param limit: largest modulator
    :param learning_rate: Adam's, for the episodic module's network
    """

    def __init__(
        self,
        lifelong: CuriosityModule,
        episodic: CuriosityModule,
        mode: Mode = "modulated",
        weight: float = 0.5,
        limit: float = 5.0,
        learning_rate: float = 1e-3,
    ) -> None:
        super().__init__()
        self.lifelong, self.episodic = lifelong, episodic
        self.takes_stacked_samples = lifelong.takes_stacked_samples
        self.mode, self.weight, self.limit = mode, weight, limit
        self.learning_rate = learning_rate
        self._statistics = {"lifelong": SurprisalStatistics(), "episodic": SurprisalStatistics()}

    @property
    def predictor(self) -> nn.Module:  # type: ignore[override]
        """The lifelong module's."""
        return self.lifelong.predictor

    def warm_up(self, transitions: Transitions) -> None:
        """Warm up both."""
        self.lifelong.warm_up(transitions)
        self.episodic.warm_up(transitions)

    def prepare(self, transitions: Transitions) -> Prepared:
        """Prepare both."""
        episodic = {_PREFIX + name: tensor for name, tensor in self.episodic.prepare(transitions).items()}
        return {**self.lifelong.prepare(transitions), **episodic}

    def surprisal(self, predictor: Predictor, prepared: Prepared) -> Tensor:
        """Return the lifelong module's surprisal."""
        return self.lifelong.surprisal(predictor, prepared)

    def evaluate(self, predictor: Predictor, prepared: Prepared) -> Prepared:
        """Evaluate the lifelong module."""
        return self.lifelong.evaluate(predictor, prepared)

    def loss(self, predictor: Predictor, prepared: Prepared) -> Tensor:
        """Return the lifelong module's loss."""
        return self.lifelong.loss(predictor, prepared)

    def locate(self, prepared: Prepared, starts: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64] | None:
        """Let both modules recognise places; return those of the lifelong one."""
        self.episodic.locate(_episodic_part(prepared), starts)
        return self.lifelong.locate(prepared, starts)

    def bonus(self, outputs: Prepared, prepared: Prepared, starts: Tensor) -> Tensor:
        """Return the combined bonus, float32[E]."""
        seen = _episodic_part(prepared)
        lifelong = self.lifelong.bonus(outputs, prepared, starts)
        episodic = self.episodic.bonus(self._shared.evaluate(_ids(starts), seen), seen, starts)
        return self.combine(lifelong, episodic)

    def combine(self, lifelong: Tensor, episodic: Tensor) -> Tensor:
        """Make one bonus of two, float32[E] each."""
        if self.mode == "product":
            return lifelong * episodic
        mean, std = self._moments("lifelong", lifelong)
        if self.mode == "modulated":
            return episodic * (1.0 + (lifelong - mean) / std).clamp(1.0, self.limit)
        _, episodic_std = self._moments("episodic", episodic)
        return self.weight * lifelong / std + (1.0 - self.weight) * episodic / episodic_std

    def learn_shared(self, prepared: Prepared) -> None:
        """Train the episodic module's network."""
        seen = _episodic_part(prepared)
        self._shared.train(_ids(next(iter(seen.values()))), seen)
        self.episodic.learn_shared(seen)
        self.lifelong.learn_shared(prepared)

    def get_extra_state(self) -> dict[str, Any]:
        """Return the episodic network with its optimiser, and the statistics."""
        return {
            "shared": self._shared.state(_SHARED),
            "statistics": {name: statistics.state_dict() for name, statistics in self._statistics.items()},
        }

    def set_extra_state(self, state: Any) -> None:
        """Restore what ``get_extra_state`` returned."""
        self._shared.unload(_SHARED)
        self._shared.load(_SHARED, state["shared"])
        for name, statistics in self._statistics.items():
            statistics.load_state_dict(state["statistics"][name])

    @cached_property
    def _shared(self) -> ModuleBank:
        """The one network of the episodic module; made at first use, for by then the module is on its device."""
        bank = ModuleBank(self.episodic, self.learning_rate)
        bank.load(_SHARED, bank.initial_state())
        return bank

    def _moments(self, name: str, bonus: Tensor) -> tuple[float, float]:
        """Take in E bonuses and return their running mean and standard deviation, 1 while that is not known."""
        statistics = self._statistics[name]
        statistics.update(_ids(bonus), bonus.cpu().numpy().astype(np.float64))
        moments = statistics.moments(np.array([_SHARED]))
        return float(moments.mean[0]), float(moments.std[0]) or 1.0


def _episodic_part(prepared: Prepared) -> Prepared:
    return {name.removeprefix(_PREFIX): tensor for name, tensor in prepared.items() if name.startswith(_PREFIX)}


def _ids(rows: Tensor) -> npt.NDArray[np.int64]:
    return np.full(len(rows), _SHARED, np.int64)
