"""A callback that records where an agent goes, what surprises it and which fragment is active, and draws it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Image, TensorBoardOutputFormat

if TYPE_CHECKING:  # matplotlib is imported when there is something to draw: a run starts a second earlier
    from matplotlib.figure import Figure

    from farl.figures import Trace, Visits

__all__ = ["ExplorationCallback", "SurprisalTrace", "VisitCounts"]

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_NOT_TEXT = ("stdout", "log", "json", "csv")  # logger formats that cannot hold an image
_TENSORBOARD_DPI = 100


class VisitCounts:
    """Counts visits by fragment and cell, in bounded memory.

    Each fragment has a layer of its own until there are `max_layers`; from then on the least visited fragment joins a
    common layer, with the id -1, whenever a new one appears, and stays there.

    :param reachable: bool [H, W], the cells the agent can stand on
    :param max_layers: most fragments kept apart, the common layer included
    :raises ValueError: if `max_layers` is below 2
    """

    def __init__(self, reachable: BoolArray, max_layers: int = 64) -> None:
        if max_layers < 2:
            raise ValueError(f"max_layers must be at least 2, got {max_layers}")
        self.reachable = np.asarray(reachable, bool)
        self.max_layers = max_layers
        self.covered: BoolArray = np.zeros_like(self.reachable)
        """Cells visited so far, bool [H, W]."""
        self.fractures = np.zeros(self.reachable.shape, np.int32)
        """Fractures in each cell, int32 [H, W]."""
        self.recalls = np.zeros_like(self.fractures)
        """Recalls in each cell, int32 [H, W]."""
        self._layers = np.zeros((2, *self.reachable.shape), np.int32)
        self._ids: list[int] = [-1]  # fragment of each layer in use; layer 0 is the common one
        self._layer_of = np.full(16, -1, np.int64)  # layer of each fragment id, -1 while unseen

    @property
    def coverage(self) -> float:
        """Part of the reachable cells visited so far, in [0, 1]."""
        reached = np.count_nonzero(self.covered & self.reachable)
        return float(reached / max(np.count_nonzero(self.reachable), 1))

    def add(self, fragments: IntArray, positions: IntArray) -> None:
        """Count one visit for each environment.

        :param fragments: int64 [E], the active fragment
        :param positions: int64 [E, 2], the agent's cell (x, y)
        """
        highest = int(fragments.max())
        if highest >= len(self._layer_of):
            room = np.full(2 * highest - len(self._layer_of) + 1, -1, np.int64)
            self._layer_of = np.concatenate([self._layer_of, room])
        layers = self._layer_of[fragments]
        if (layers < 0).any():
            for fragment in np.unique(fragments[layers < 0]).tolist():  # a fragment is new once
                self._open(fragment)
            layers = self._layer_of[fragments]
        x, y = positions.T
        np.add.at(self._layers, (layers, y, x), 1)
        self.covered[y, x] = True

    def add_events(self, fractured: BoolArray, recalled: BoolArray, positions: IntArray) -> None:
        """Count fractures and recalls, bool [E] each, at the positions int64 [E, 2]."""
        for counts, at in ((self.fractures, fractured), (self.recalls, recalled)):
            if at.any():
                x, y = positions[at].T
                np.add.at(counts, (y, x), 1)

    def snapshot(self) -> "Visits":
        """Return the counts as `farl.figures` draws them."""
        from farl.figures import Visits

        n = len(self._ids)
        return Visits(self._layers[:n], np.array(self._ids, np.int64), self.reachable, self.fractures, self.recalls)

    def state_dict(self) -> dict[str, Any]:
        """Return all counts as tensors."""
        arrays = {
            "reachable": self.reachable,
            "covered": self.covered,
            "fractures": self.fractures,
            "recalls": self.recalls,
            "layers": self._layers[: len(self._ids)],
            "ids": np.array(self._ids, np.int64),
            "layer_of": self._layer_of,
        }
        return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any], max_layers: int = 64) -> "VisitCounts":
        """Restore what `state_dict` returned."""
        arrays = {name: tensor.cpu().numpy().copy() for name, tensor in state.items()}
        counts = cls(arrays["reachable"], max_layers)
        counts.covered, counts.fractures, counts.recalls = arrays["covered"], arrays["fractures"], arrays["recalls"]
        counts._layers, counts._ids, counts._layer_of = arrays["layers"], arrays["ids"].tolist(), arrays["layer_of"]
        return counts

    def _open(self, fragment: int) -> None:
        if len(self._ids) < self.max_layers:
            layer = len(self._ids)
            self._ids.append(fragment)
            if layer == len(self._layers):
                more = min(2 * layer, self.max_layers) - layer
                self._layers = np.concatenate([self._layers, np.zeros((more, *self.reachable.shape), np.int32)])
        else:
            layer = 1 + int(self._layers[1:].sum(axis=(1, 2)).argmin())
            self._layers[0] += self._layers[layer]
            self._layers[layer] = 0
            self._layer_of[self._ids[layer]] = 0
            self._ids[layer] = fragment
        self._layer_of[fragment] = layer


class SurprisalTrace:
    """The surprisal of one environment over a whole training, in bounded memory.

    When `capacity` points are full, neighbours are merged two by two and each point from then on sums up twice as many
    steps: the peaks, the means and the number of events stay true.

    :param capacity: most points, even
    :raises ValueError: if the capacity is odd or below 2
    """

    # What the columns hold: first step, highest and summed surprisal, last fragment; then the number of fractures, of
    # recalls, and of fractures elsewhere.
    _STEP, _PEAK, _SUM, _FRAGMENT = range(4)
    _EVENTS = slice(4, 7)

    def __init__(self, capacity: int = 4096) -> None:
        if capacity < 2 or capacity % 2:
            raise ValueError(f"capacity must be an even number of at least 2, got {capacity}")
        self._points = np.zeros((capacity, 7))
        self._stride = 1
        self._samples = 0

    def add(
        self, step: int, surprisal: float, fragment: int, fractured: bool, recalled: bool, fractures_elsewhere: int = 0
    ) -> None:
        """Append one step; `fractures_elsewhere` counts those of other environments that share the memory."""
        point, within = divmod(self._samples, self._stride)
        if point == len(self._points):
            self._merge()
            point, within = divmod(self._samples, self._stride)
        row = self._points[point]
        if within == 0:
            row[:] = (step, surprisal, surprisal, fragment, fractured, recalled, fractures_elsewhere)
        else:
            row[self._PEAK] = max(row[self._PEAK], surprisal)
            row[self._FRAGMENT] = fragment
            row[self._SUM] += surprisal
            row[self._EVENTS] += (fractured, recalled, fractures_elsewhere)
        self._samples += 1

    def snapshot(self) -> "Trace":
        """Return the trace as `farl.figures` draws it."""
        from farl.figures import Trace

        n = -(-self._samples // self._stride)
        step, peak, total, *counts = self._points[:n].T
        samples = np.full(n, self._stride)
        samples[n - 1 :] = self._samples - (n - 1) * self._stride  # the last point may not be full yet
        return Trace(
            step.astype(np.int64), peak.copy(), total / samples, *(column.astype(np.int64) for column in counts)
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the points and how many steps they sum up."""
        return {"points": torch.from_numpy(self._points.copy()), "stride": self._stride, "samples": self._samples}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._points = state["points"].cpu().numpy().copy()
        self._stride, self._samples = int(state["stride"]), int(state["samples"])

    def _merge(self) -> None:
        first, second = self._points[::2], self._points[1::2]
        merged = first + second
        merged[:, self._STEP] = first[:, self._STEP]
        merged[:, self._PEAK] = np.maximum(first[:, self._PEAK], second[:, self._PEAK])
        merged[:, self._FRAGMENT] = second[:, self._FRAGMENT]
        self._points[: len(merged)] = merged
        self._stride *= 2


class ExplorationCallback(BaseCallback):
    """Record an exploration while any SB3 algorithm learns, and draw it.

    Every part is recorded if it is there: visits and coverage where the environment gives `info["position"]`, (x, y),
    and `reachable`, bool [H, W]; surprisal, fractures and recalls where the model has `curiosity`, as `FAR(Algorithm)`
    does. A plain algorithm's visits all count for fragment 0.

    Logged at the end of each rollout: `exploration/coverage`, `exploration/fragments`, `exploration/recalls`; to
    TensorBoard also the pictures. At the end of training `visitation.png`, `surprisal.png`, `memory_graph.png`,
    `overview.png`, and the `map.png` of a map explorer are written, as far as there is something to draw.

    The visits go by all environments, the surprisal trace by the first one. Reachable cells are read once, when
    training starts; where environments differ, a cell counts if it can be reached in any of them.

    :param out_dir: folder for the pictures, made if missing; None writes none
    :param image_freq: timesteps between two pictures in TensorBoard, with one more at the end; 0 logs none
    :raises ValueError: if `image_freq` is negative
    """

    def __init__(self, out_dir: str | os.PathLike[str] | None = None, image_freq: int = 50_000) -> None:
        super().__init__()
        if image_freq < 0:
            raise ValueError(f"image_freq must be 0 (no pictures in TensorBoard) or more, got {image_freq}")
        self.out_dir = None if out_dir is None else Path(out_dir)
        self.image_freq = image_freq
        self.visits: VisitCounts | None = None
        """Visits so far; None if the environment gives no positions."""
        self.trace: SurprisalTrace | None = None
        """Surprisal of the first environment; None without curiosity."""
        self._last_image = 0
        self._waiting: list[tuple[int, IntArray | None]] = []
        """Timestep and positions of the steps whose surprisal and events have not been asked for."""
        self._settled = 0
        """Steps of this rollout that have been recorded."""

    @property
    def coverage(self) -> float | None:
        """Part of the reachable cells visited since training began, in [0, 1]; None if positions are not known."""
        return None if self.visits is None else self.visits.coverage

    def draw(self) -> "dict[str, Figure]":
        """Draw `visitation`, `surprisal`, `map` and `memory_graph`, as far as there is something to draw."""
        from farl.figures import memory_graph, surprisal_trace, visitation_map

        visits, trace, graph = self._recorded()
        drawn = {}
        if visits is not None:
            drawn["visitation"] = visitation_map(visits)
        if trace is not None:
            drawn["surprisal"] = surprisal_trace(trace)
        if hasattr(self.model, "draw_map") and (world := self.model.draw_map()) is not None:
            drawn["map"] = world
        if graph is not None:
            known = (visits.sizes(), visits.centers(), visits.reachable) if visits is not None else ()
            drawn["memory_graph"] = memory_graph(graph, *known)
        return drawn

    def write(self, out_dir: str | os.PathLike[str]) -> list[Path]:
        """Write the pictures and their overview to a folder, each whole or not at all; return the paths."""
        from farl.figures import exploration_overview

        drawn = self.draw()
        recorded = self._recorded()
        if any(part is not None for part in recorded):
            drawn["overview"] = exploration_overview(*recorded)
        folder = Path(out_dir)
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for name, figure in drawn.items():
            path, unfinished = folder / f"{name}.png", folder / f".{name}.{os.getpid()}.png"
            try:
                figure.savefig(unfinished)
                os.replace(unfinished, path)
            finally:
                unfinished.unlink(missing_ok=True)
            paths.append(path)
        return paths

    def state_dict(self) -> dict[str, Any]:
        """Return all that was recorded, as tensors and numbers."""
        self._settle()
        return {
            "visits": None if self.visits is None else self.visits.state_dict(),
            "trace": None if self.trace is None else self.trace.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned; call it before `learn`."""
        self.visits = None if state["visits"] is None else VisitCounts.from_state_dict(state["visits"])
        self.trace = None
        if state["trace"] is not None:
            self.trace = SurprisalTrace()
            self.trace.load_state_dict(state["trace"])

    def _on_training_start(self) -> None:
        self._settle()  # what an interrupted rollout left
        self._last_image = self.num_timesteps
        env = self.training_env
        if not env.has_attr("reachable") or (env.has_attr("world_changes") and any(env.get_attr("world_changes"))):
            return  # no positions, or no one map to draw them on
        reachable = np.asarray(env.get_attr("reachable"), bool).any(axis=0)
        if self.visits is None:
            self.visits = VisitCounts(reachable)
        elif self.visits.reachable.shape != reachable.shape:
            raise ValueError(
                f"the recorded exploration is of a world of {self.visits.reachable.shape} cells, this environment has "
                f"{reachable.shape}: resume with the environment it was recorded in"
            )
        self._cover_starts(np.ones(env.num_envs, bool))

    def _on_rollout_start(self) -> None:
        self._settled = 0

    def _on_step(self) -> bool:
        positions = None
        if self.visits is not None:
            # The info of an environment that is done is still that of its last step, not of the reset after it.
            positions = np.array([info["position"] for info in self.locals["infos"]], np.int64)
            x, y = positions.T
            self.visits.covered[y, x] = True
            if self.locals["dones"].any():
                self._cover_starts(self.locals["dones"])
        self._waiting.append((self.num_timesteps, positions))
        if not hasattr(self.model, "curiosity_steps"):
            self._settle()
        return True

    def _settle(self) -> None:
        """Record the steps that wait: together, at the end of a rollout, where the model can tell of them then.

        Asking FAR on an on-policy algorithm in each step would have it take in a rollout step by step.
        """
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        if hasattr(self.model, "curiosity_steps"):
            steps = self.model.curiosity_steps[self._settled : self._settled + len(waiting)]
            self._settled += len(waiting)
        else:
            last = getattr(getattr(self.model, "curiosity", None), "last", None)
            steps = [] if last is None else [last]
        for (timesteps, positions), step in zip(waiting, steps or [None] * len(waiting), strict=True):
            self._record(timesteps, positions, step)

    def _record(self, timesteps: int, positions: IntArray | None, step: Any) -> None:
        events = None if step is None else step.events
        if self.visits is not None and positions is not None:
            self.visits.add(np.zeros(len(positions), np.int64) if events is None else events.active, positions)
            if events is not None:
                self.visits.add_events(events.fragmented, events.recalled, positions)
        if events is not None:
            if self.trace is None:
                self.trace = SurprisalTrace()
            elsewhere = int(events.fragmented[1:].sum())
            now = (events.active[0], events.fragmented[0], events.recalled[0])
            self.trace.add(timesteps, step.surprisal[0], *now, elsewhere)

    def _on_rollout_end(self) -> None:
        self._settle()
        if self.coverage is not None:
            self.logger.record("exploration/coverage", self.coverage)
        curiosity = getattr(self.model, "curiosity", None)
        if curiosity is not None:
            self.logger.record("exploration/fragments", curiosity.fragments)
            self.logger.record("exploration/recalls", curiosity.recalls)
        if self.image_freq and self.num_timesteps - self._last_image >= self.image_freq:
            self._last_image = self.num_timesteps
            self._log_images()

    def _on_training_end(self) -> None:
        if self.out_dir is not None:
            self.write(self.out_dir)
        if self.image_freq and self._last_image != self.num_timesteps:
            self._last_image = self.num_timesteps
            self._log_images()
            self.logger.dump(self.num_timesteps)  # nobody else will, after the last rollout

    def _log_images(self) -> None:
        if not any(isinstance(output, TensorBoardOutputFormat) for output in self.logger.output_formats):
            return
        from farl.figures import figure_array

        for name, figure in self.draw().items():
            figure.set_dpi(_TENSORBOARD_DPI)
            image = Image(figure_array(figure), "HWC")
            self.logger.record(f"exploration/{name}", image, exclude=_NOT_TEXT)

    def _cover_starts(self, at: BoolArray) -> None:
        """Count the cells where episodes have just begun as covered: no step leads to them."""
        assert self.visits is not None
        infos = self.training_env.unwrapped.reset_infos
        for env in np.flatnonzero(at):
            if "position" in infos[env]:
                x, y = infos[env]["position"]
                self.visits.covered[y, x] = True

    def _recorded(self) -> "tuple[Visits | None, Trace | None, Any]":
        self._settle()
        curiosity = getattr(self.model, "curiosity", None)
        return (
            None if self.visits is None else self.visits.snapshot(),
            None if self.trace is None else self.trace.snapshot(),
            None if curiosity is None else curiosity.memory.graph,
        )
