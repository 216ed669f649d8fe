"""Recognition: what is not recognised is new, and the places that are recognised make a graph that leads to the new."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from farl.curiosity.known_kinds import KnownKinds
from farl.curiosity.module import ActionSpec, Predictor, Prepared, Transitions
from farl.curiosity.recognition_settings import Pays, Scope, n_directions
from farl.curiosity.rnd import RND
from farl.fragmentation.recall import NoRecall, Recall
from farl.memory import LongTermMemory
from farl.recognition import (
    Advice,
    Calibration,
    Guide,
    Localiser,
    PlaceGraph,
    PlaceStore,
    RegionRecall,
    Regions,
    Visits,
)
from farl.recognition.places import unit


@dataclass
class _Latest:
    """What changes in each step; apart, for a network's attributes take long to be set.

    :ivar advice: what each agent is advised
    :ivar found: bool[E], who has just found a new place
    """

    advice: Advice
    found: npt.NDArray[np.bool_]


class Recognition(RND):
    """Pays for coming to a place for the first time, as far as it can be told by its looks.

    A place is what the random features of an observation resemble: a key in a ``PlaceStore``, found again by cosine
    similarities that calibrate themselves to the noise of the first ``calibration`` samples, and by where the last
    action should have led (``Localiser``). It joins what episodic novelty needs (Savinov et al., "Episodic curiosity
    through reachability", ICLR 2019; Badia et al., "Never give up", ICLR 2020) to a store that lasts, so that nothing
    known is ever paid again:

    - ``"first"``: 1 at the first visit to a place, else 0
    - ``"count"``: ``1 / sqrt(n)`` at the nth visit of all agents together
    - ``"rare"``: ``1 / sqrt(n)`` at the first visit: what is new in the episode, by how new it is ever (Henaff et al.,
      "A study of global and episodic bonuses for exploration in contextual MDPs", ICML 2023)
    - ``"error"``: RND's root mean squared error at the first visit, as in NovelD (Zhang et al., NeurIPS 2021)
    - ``"auto"``: ``"first"``, but ``"rare"`` where layouts are found to differ from episode to episode (``Layouts``)

    With a graph, it learns as well which place each action leads to, guides every agent to places with an untried
    action (``advice``), and pays a little for each hop gained on the way. Where layouts differ it says nothing.

    With a ``resolution``, fragments are the regions of that graph: rooms, where doorways join them (``RegionRecall``).

    Surprisal, loss and recall keys are RND's: fragments are those of its predictors.

    :param shape: shape of one observation; [channels, height, width] for an image
    :param actions: the form of one action
    :param pays: auto, first, count, rare or error
    :param scope: what counts as a first visit: of an agent in its episode or its life, or of all agents
    :param threshold: cosine similarity from which on two views are of one place; None calibrates it
    :param calibration: samples by which it is calibrated; nothing is paid before
    :param capacity: most places; beyond it the likest ones become one
    :param shaping: paid for each hop gained on the way to a target; None leaves the graph out
    :param gamma: factor by which a target loses with every hop
    :param resolution: resolution of the regions of the graph that are fragments; None has none
    :param arguments: those of ``RND``
    """

    one_norm = True

    def __init__(
        self,
        shape: tuple[int, ...],
        actions: ActionSpec,
        pays: Pays = "auto",
        scope: Scope = "episode",
        threshold: float | None = None,
        calibration: int = 2048,
        capacity: int = 50_000,
        shaping: float | None = None,
        gamma: float = 0.97,
        resolution: float | None = 4e-4,
        **arguments: Any,
    ) -> None:
        super().__init__(shape, **arguments)
        self.actions = actions
        self.pays, self.scope, self.shaping, self.gamma = pays, scope, shaping, gamma
        self.n_advised = 0 if shaping is None else n_directions(actions)
        self._one_hot = np.eye(self.n_advised + 1, self.n_advised, dtype=np.float32)  # the last row is that of -1
        self.places = PlaceStore(1.0 if threshold is None else threshold, capacity=capacity)
        """What has been seen so far."""
        self.calibration = Calibration(calibration) if threshold is None else None
        self.graph = PlaceGraph(n_directions(actions))
        """Which place each action leads to."""
        self.localiser = Localiser(self.places, self.graph)
        self._features = KnownKinds(self.target, before=self.whiten)
        self.regions = None if resolution is None else Regions(resolution)
        """Which fragment each place belongs to; None if fragments are not regions."""
        self._visits = Visits(0, scope)
        self._guide = Guide(0, self.graph.n_actions, gamma)
        self._latest: _Latest
        self._start_with(0)

    @property
    def advice(self) -> npt.NDArray[np.float32]:
        """What each agent should do now, float32[E, n_advised]: one-hot, or zeros where nothing can be advised."""
        return self._one_hot[self._latest.advice.actions]

    def recall(self, memory: LongTermMemory[Any]) -> Recall:
        """Return the strategy that takes the regions of the graph for fragments; none where there are none."""
        if self.regions is None:
            return NoRecall()
        return RegionRecall(memory, self.places, self.graph, self.regions)

    def stay_whole(self) -> None:
        """Drop the predictor, if nothing is paid by its error."""
        if self.pays != "error":
            self.predictor, self.takes_stacked_samples, self.predicts = nn.Identity(), False, False

    def surprisal(self, predictor: Predictor, prepared: Prepared) -> Tensor:
        """Return RND's error, float32[B]; zeros where nothing is predicted."""
        if not self.predicts:
            return prepared["features"].new_zeros(prepared["features"].shape[:1])
        return super().surprisal(predictor, prepared)

    def warm_up(self, transitions: Transitions) -> None:
        """Update the observation norm. Places are not recognised yet: their keys would still move."""
        super().warm_up(transitions)
        self._features.start()

    def prepare(self, transitions: Transitions) -> Prepared:
        """Return what RND needs, and the actions."""
        directions = {"directions": direction(self.actions, transitions.actions)}
        if not self.predicts:
            return {"features": self._features(transitions.next_observations)} | directions
        return super().prepare(transitions) | directions

    def locate(self, prepared: Prepared, starts: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Return the place of each environment, int64[E]; -1 until the thresholds are calibrated."""
        keys = unit(prepared["features"].cpu().numpy())
        self._serve(len(keys))
        if self.calibration is not None and (found := self.calibration(keys)) is not None:
            self.places.certain, self.places.possible = found
            self.calibration = None
        if self.calibration is not None:
            return self.localiser.here
        located = self.localiser.follow(keys, prepared["directions"].cpu().numpy(), starts)
        self._latest.found = located.found
        self._follow_merge(located.merged)
        return located.places

    def bonus(self, outputs: Prepared, prepared: Prepared, starts: Tensor) -> Tensor:
        """Return what a place is worth, float32[E]; 0 until the thresholds are calibrated."""
        self._serve(len(starts))
        places = self.localiser.here
        if self.calibration is not None or (places < 0).all():
            return torch.zeros_like(outputs["surprisal"])
        new = self._visits.visit(places, starts.cpu().numpy(), len(self.places))
        paid = self._worth(places, new, outputs["surprisal"].cpu().numpy())
        if self.shaping is not None:
            self._guide.preference.observe(self._latest.found)
            # Under noise what looks new may be known: were no pick of it in vain, it would be sought for ever.
            found = None if self.places.is_noisy else self._latest.found
            self._latest.advice = self._advise(places, np.zeros(len(places), bool), found)
            paid = paid + self.shaping * self._latest.advice.gained
        return torch.from_numpy(paid.astype(np.float32)).to(outputs["surprisal"].device)

    def arrive(self, observations: Tensor, envs: Tensor, n_envs: int) -> None:
        """Let agents be where they were put, so that their first step is advised, too."""
        self._serve(n_envs)
        if self.shaping is None or self.calibration is not None:
            return
        rows = envs.cpu().numpy()
        self._follow_merge(self.localiser.put(rows, unit(self._features(observations).cpu().numpy())))
        starts = np.zeros(len(self.localiser.here), bool)
        starts[rows] = True
        again = self._advise(np.where(starts, self.localiser.here, -1), starts)
        self._latest.advice.actions[rows] = again.actions[rows]

    def close(self, allowed: npt.NDArray[np.bool_]) -> None:
        """Let no action that cannot be taken now, bool[E, A], be a reason to go where an agent is, nor be advised."""
        here, latest = self.localiser.here, self._latest.advice
        self.graph.close(here, allowed)
        told = np.flatnonzero(latest.actions >= 0)
        barred = np.zeros(len(here), bool)
        barred[told] = ~allowed[told, latest.actions[told]]
        if barred.any():
            again = self._guide.advise(self.graph, np.where(barred, here, -1), barred)
            latest.actions[barred] = np.where(allowed[barred, again.actions[barred]], again.actions[barred], -1)

    def get_extra_state(self) -> dict[str, Any]:
        """Return places, visits, graph, and where every agent is led."""
        return {
            "places": self.places.state_dict(),
            "calibration": None if self.calibration is None else self.calibration.state_dict(),
            "visits": self._visits.state_dict(),
            "graph": self.graph.state_dict(),
            "guide": self._guide.state_dict(),
            "localiser": self.localiser.state_dict(),
            "advised": torch.from_numpy(self._latest.advice.actions.copy()),
            "features": self._features.state_dict(),
        }

    def set_extra_state(self, state: Any) -> None:
        """Restore what ``get_extra_state`` returned."""
        self._serve(len(state["advised"]))
        self.places.load_state_dict(state["places"])
        if state["calibration"] is None:
            self.calibration = None
        elif self.calibration is not None:
            self.calibration.load_state_dict(state["calibration"])
        self._visits.load_state_dict(state["visits"])
        self.graph.load_state_dict(state["graph"])
        self._guide.load_state_dict(state["guide"])
        self.localiser.load_state_dict(state["localiser"])
        if "features" in state:  # a file of before has none
            self._features.load_state_dict(state["features"])
        self._latest.advice = Advice(state["advised"].cpu().numpy().copy(), np.zeros(len(state["advised"])))

    def _serve(self, n_envs: int) -> None:
        """Serve so many agents. Are they others than so far, none has been anywhere; what all know stays known."""
        if len(self.localiser.here) != n_envs:
            self._start_with(n_envs)

    def _start_with(self, n_envs: int) -> None:
        self.localiser.start(n_envs)
        self._latest = _Latest(Advice(np.full(n_envs, -1), np.zeros(n_envs)), np.zeros(n_envs, bool))
        self._visits.start(n_envs)
        self._guide.start(n_envs)

    def _follow_merge(self, merged: npt.NDArray[np.int64] | None) -> None:
        if merged is not None:
            self._visits.merge(merged, len(self.places))
            self._guide.forget()
            if self.regions is not None:
                self.regions.merge(merged, len(self.places))

    def _advise(
        self,
        places: npt.NDArray[np.int64],
        starts: npt.NDArray[np.bool_],
        found: npt.NDArray[np.bool_] | None = None,
    ) -> Advice:
        if self.localiser.layouts.differ:
            return Advice(np.full(len(places), -1), np.zeros(len(places)))
        return self._guide.advise(self.graph, places, starts, found)

    def _worth(
        self, places: npt.NDArray[np.int64], new: npt.NDArray[np.bool_], surprisal: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float64]:
        rarity = self._visits.counts[places] ** -0.5
        if self.pays == "count":
            return np.asarray(rarity)
        worth = new.astype(np.float64)
        if self.pays == "error":
            return worth * np.sqrt(surprisal)
        is_rare = self.pays == "rare" or (self.pays == "auto" and self.localiser.layouts.differ)
        return worth * rarity if is_rare else worth


def direction(actions: ActionSpec, taken: Tensor) -> Tensor:
    """Return the kind of B actions, int64[B]: their number, or the axis along which a vector is longest, and which
    way."""
    if actions.discrete:
        return taken.long().flatten()
    vectors = actions.encode(taken)
    return torch.cat([vectors, -vectors], dim=1).argmax(dim=1)
