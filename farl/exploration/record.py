"""All that is recorded of one exploration, and the pictures of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farl.exploration.cells import CellStatistics
from farl.exploration.colors import FragmentColors
from farl.exploration.episodes import Episodes
from farl.exploration.fragments import FragmentUse
from farl.exploration.particles import ParticleHistory
from farl.exploration.plane import ObservationSample
from farl.exploration.records import Trace, Visits
from farl.exploration.trace import SurprisalTrace
from farl.exploration.visits import VisitCounts

if TYPE_CHECKING:  # drawing imports matplotlib, and a run starts without it
    import networkx as nx
    from matplotlib.figure import Figure

__all__ = ["Block", "ExplorationRecord", "NewEpisode", "WaitingStep"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class NewEpisode:
    """The beginning of an episode in a world of cells.

    :param env: number of the environment
    :param reachable: bool[H, W]
    :param start: int64[2], the cell (x, y), where it is known
    """

    env: int
    reachable: BoolArray
    start: IntArray | None


class WaitingStep(NamedTuple):
    """One step of all environments that has not been recorded yet: a row of a ``Block``."""

    timesteps: int
    dones: BoolArray
    begun: list[NewEpisode]
    positions: Sequence[tuple[int, ...]] | IntArray | None
    vectors: npt.NDArray[np.float32] | None
    frames: npt.NDArray[np.uint8] | None
    told: Any
    """What the curiosity made of it; None where nobody told, or tells only when asked at the end of a rollout."""


@dataclass(frozen=True)
class Block:
    """T steps of E environments.

    :param timesteps: int64[T], as SB3 counts them
    :param dones: bool[T, E]
    :param begun: the episodes that began after each step
    :param positions: int64[T, E, 2], cells (x, y); None where the environments do not tell
    :param vectors: float[T, E, d], observations; None where they are not sampled
    :param frames: uint8[T, E, H, W] or uint8[T, E, H, W, 3], observations; None where they are no images
    :param active: int64[T, E], the active fragments; None without fragmentation, and so are the rest
    :param fragmented: bool[T, E]
    :param recalled: bool[T, E]
    :param surprisal: float64[T, E]
    :param rewards: float64[T, E], intrinsic; None where there are none
    :param thresholds: float64[T], of the first environment, NaN where there are none
    """

    timesteps: IntArray
    dones: BoolArray
    begun: Sequence[Sequence[NewEpisode]]
    positions: IntArray | None = None
    vectors: npt.NDArray[np.floating[Any]] | None = None
    frames: npt.NDArray[np.uint8] | None = None
    active: IntArray | None = None
    fragmented: BoolArray | None = None
    recalled: BoolArray | None = None
    surprisal: FloatArray | None = None
    rewards: FloatArray | None = None
    thresholds: FloatArray | None = None


@dataclass
class ExplorationRecord:
    """What has been recorded so far; a part is None where the environment or the agent gives nothing to record.

    :param visits: numbers of visits by fragment and cell, over the whole training
    :param cells: what was measured in each cell
    :param episodes: the present and the last episode of each world
    :param sample: some observations, for worlds without cells
    :param use: how each fragment was used
    :param trace: surprisal of the first environment
    :param particles: their weights
    :param graph: the memory's
    :param opened: fragments so far
    :param axes: the numbers of an observation to draw; None is principal components
    :param names: names of all numbers of an observation
    """

    visits: VisitCounts | None = None
    cells: CellStatistics | None = None
    episodes: Episodes | None = None
    sample: ObservationSample | None = None
    use: FragmentUse | None = None
    trace: SurprisalTrace | None = None
    particles: ParticleHistory | None = None
    graph: "nx.MultiGraph[int] | None" = None
    opened: int | None = None
    axes: tuple[int, int] | None = None
    names: tuple[str, ...] = ()
    colors: FragmentColors = field(default_factory=FragmentColors)

    def add(self, block: Block) -> None:
        """Take in the steps of a block."""
        active = np.zeros(block.dones.shape, np.int64) if block.active is None else block.active
        flat = active.ravel()
        if block.positions is not None:
            self._add_cells(block, active)
        if self.sample is not None and block.vectors is not None:
            self.sample.add(block.vectors.reshape(len(flat), -1), flat)
        if block.active is None:
            return
        assert block.fragmented is not None
        assert block.recalled is not None
        assert block.surprisal is not None
        if self.use is None:
            self.use = FragmentUse()
            if block.frames is not None:
                self.use.see(int(active[0, 0]), block.frames[0, 0])
        self.use.add(flat, block.recalled.ravel(), block.surprisal.ravel())
        if block.frames is not None:
            for step, env in np.argwhere(block.fragmented):  # fractures are rare
                self.use.see(int(active[step, env]), block.frames[step, env])
        self._add_trace(block)

    def draw(self) -> "dict[str, Figure]":
        """Draw all there is to draw, by the name of the picture."""
        return dict(self._drawn())

    def overview(self) -> "Figure | None":
        """Draw map, memory graph and surprisal in one picture; None where there is none of them."""
        visits = None if self.visits is None else self.visits.snapshot()
        trace, graph = self._drawn_trace, self._drawn_graph
        if visits is None and trace is None and graph is None:
            return None
        from farl import figures

        self._assign_colors()
        return figures.exploration_overview(visits, trace, graph, self.colors, self.opened)

    def state_dict(self) -> dict[str, Any]:
        """Return all of it as tensors, numbers and text."""
        parts = {name: getattr(self, name) for name in _PARTS}
        graph = None
        if self.graph is not None:
            edges = [[int(a), int(b), str(data.get("kind", ""))] for a, b, data in self.graph.edges(data=True)]
            graph = {"nodes": [int(node) for node in self.graph.nodes], "edges": edges}
        return {
            **{name: None if part is None else part.state_dict() for name, part in parts.items()},
            "graph": graph,
            "opened": self.opened,
            "axes": None if self.axes is None else list(self.axes),
            "names": list(self.names),
            "colors": list(self.colors.slots),
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "ExplorationRecord":
        """Restore what ``state_dict`` returned; parts that an older version did not record begin anew."""
        record = cls()
        for name, kind in _PARTS.items():
            if state.get(name) is not None:
                setattr(record, name, kind(state[name]))
        if state.get("graph") is not None:
            import networkx as nx

            record.graph = nx.MultiGraph()
            record.graph.add_nodes_from(state["graph"]["nodes"])
            record.graph.add_edges_from((a, b, {"kind": kind}) for a, b, kind in state["graph"]["edges"])
        record.opened = state.get("opened")
        record.axes = None if state.get("axes") is None else (int(state["axes"][0]), int(state["axes"][1]))
        record.names = tuple(state.get("names", ()))
        record.colors = FragmentColors(tuple(state.get("colors", FragmentColors().slots)))
        return record

    @property
    def sizes(self) -> dict[int, float]:
        """Visits of each fragment."""
        if self.use is not None:
            return self.use.sizes
        return {} if self.visits is None else self.visits.snapshot().sizes()

    def _add_cells(self, block: Block, active: IntArray) -> None:
        assert block.positions is not None
        if self.episodes is not None:
            begin = 0
            for step in np.flatnonzero(block.dones.any(axis=1)).tolist():
                self.episodes.add(active[begin : step + 1], block.positions[begin : step + 1])
                for env in np.flatnonzero(block.dones[step]).tolist():
                    self.episodes.end(env)
                for new in block.begun[step]:
                    self.episodes.begin(new.env, new.reachable, new.start)
                begin = step + 1
            if begin < len(active):
                self.episodes.add(active[begin:], block.positions[begin:])
        if self.visits is None:
            return
        places = block.positions.reshape(-1, 2)
        self.visits.add(active.ravel(), places)
        if block.fragmented is not None and block.recalled is not None:
            self.visits.add_events(block.fragmented.ravel(), block.recalled.ravel(), places)
        if self.cells is not None:
            self.cells.add(block.timesteps, block.positions, block.surprisal, block.rewards)

    def _add_trace(self, block: Block) -> None:
        assert block.active is not None
        assert block.fragmented is not None
        assert block.recalled is not None
        assert block.surprisal is not None
        if self.trace is None:
            self.trace = SurprisalTrace()
        elsewhere = block.fragmented[:, 1:].sum(axis=1)
        thresholds = np.nan if block.thresholds is None else block.thresholds
        rewards = np.nan if block.rewards is None else block.rewards[:, 0]
        surprisal, active, fragmented, recalled = (
            part[:, 0] for part in (block.surprisal, block.active, block.fragmented, block.recalled)
        )
        self.trace.add(block.timesteps, surprisal, active, fragmented, recalled, elsewhere, thresholds, rewards)

    @property
    def _worlds_differ(self) -> bool:
        return self.visits is None and self.episodes is not None

    @property
    def _drawn_trace(self) -> Trace | None:
        """The surprisal over time; None where nothing is predicted."""
        trace = None if self.trace is None else self.trace.snapshot()
        return trace if trace is not None and trace.surprisal.any() else None

    @property
    def _drawn_graph(self) -> "nx.MultiGraph[int] | None":
        """The graph of the memory; where worlds differ its largest connected part, which is of one world or of all."""
        if self.graph is None or len(self.graph) < 2:
            return None
        if not self._worlds_differ:
            return self.graph
        import networkx as nx

        part: nx.MultiGraph[int] = self.graph.subgraph(max(nx.connected_components(self.graph), key=len))
        return part if len(part) > 1 else None

    def _assign_colors(self) -> None:
        self.colors = self.colors.updated(self.sizes)

    def _drawn(self) -> "Iterator[tuple[str, Figure]]":
        from farl import figures

        self._assign_colors()
        visits = None if self.visits is None else self.visits.snapshot()
        n_fragments = len(self.sizes)
        procedural = self.episodes is not None and self.episodes.procedural
        if visits is not None:
            yield "visits", figures.visit_map(visits, procedural)
            if n_fragments > 1:
                yield "fragment_map", figures.fragment_map(visits, self.colors)
        if visits is not None and self.cells is not None:
            measured = self.cells.snapshot()
            for what in ("intrinsic_reward", "forgetting", "first_visit"):
                if (figure := figures.cell_map(measured, what)) is not None:
                    yield what, figure
        episodes = [] if self.episodes is None else self.episodes.snapshot()
        if procedural and len(episodes) > 1:
            yield "worlds", figures.world_maps(episodes)
        elif episodes:
            yield "last_episode", figures.episode_way(episodes[0])
        if self.sample is not None and len(self.sample) > 1:
            plane = self.sample.snapshot(self.axes, self.names)
            yield "visits", figures.plane_visits(plane)
            if n_fragments > 1:
                yield "fragment_map", figures.plane_fragments(plane, self.colors)
        yield from self._drawn_fragments(visits, n_fragments)
        if self.particles is not None and len((drawn := self.particles.snapshot()).steps) > 1:
            yield "particles", figures.particle_weights(drawn)

    def _drawn_fragments(self, visits: Visits | None, n_fragments: int) -> "Iterator[tuple[str, Figure]]":
        from farl import figures

        if self.trace is not None:
            trace = self.trace.snapshot()
            # Where worlds differ a fragment is of one of them: the ten used most are then those of the first world.
            colors = FragmentColors().updated(trace.usage()) if self._worlds_differ else self.colors
            if trace.surprisal.any():  # or nothing is predicted
                yield "surprisal", figures.surprisal_trace(trace, colors)
            if n_fragments > 1:
                yield "timeline", figures.fragment_timeline(trace, colors)
        if (graph := self._drawn_graph) is not None:
            places, ground = (None, None) if visits is None else (visits.centers(), visits.reachable)
            use = {i: n for i, n in self.sizes.items() if i in graph}
            colors = FragmentColors().updated(use) if self._worlds_differ else self.colors
            yield "memory_graph", figures.memory_graph(graph, colors, use, places, ground, self.opened)
        if self.use is not None:
            frames = self.use.snapshot()
            if any(each.frame is not None for each in frames):
                yield "gallery", figures.gallery(frames, self.colors, self.opened)


def _load_trace(state: dict[str, Any]) -> SurprisalTrace:
    trace = SurprisalTrace()
    trace.load_state_dict(state)
    return trace


_PARTS: dict[str, Any] = {
    "visits": VisitCounts.from_state_dict,
    "cells": CellStatistics.from_state_dict,
    "episodes": Episodes.from_state_dict,
    "sample": ObservationSample.from_state_dict,
    "use": FragmentUse.from_state_dict,
    "trace": _load_trace,
    "particles": ParticleHistory.from_state_dict,
}
