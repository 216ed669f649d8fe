"""A callback that records where an agent goes, what surprises it and which fragment is active, and draws it."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from farl.errors import ConfigError
from farl.exploration import (
    Block,
    CellStatistics,
    Episodes,
    ExplorationRecord,
    NewEpisode,
    ObservationSample,
    ParticleHistory,
    VisitCounts,
    WaitingStep,
)  # fmt: skip
from farl.exploration.agreement import RoomAgreement
from farl.plain import Known, from_plain, to_plain
from farl.sb3.advice import without_advice
from farl.sb3.pictures import PictureTimes, Pixels, log_pictures, rendered, takes_images, write_png
from farl.sb3.seen import (
    environment_id,
    frames_of,
    mention_positions,
    numbers_of,
    observation_names,
    resolve_axes,
    shows_frames,
)  # fmt: skip
from farl.sb3.unnormalised import original_observations, unnormalised_space

if TYPE_CHECKING:  # drawing imports matplotlib, and a run starts without it
    from matplotlib.figure import Figure

__all__ = ["ExplorationCallback"]

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_TOGETHER = 256
"""Steps that are recorded at once where the curiosity tells of each as it is made."""
_KNOWN: Known = {kind.__name__: kind for kind in (NewEpisode, WaitingStep)}


class ExplorationCallback(BaseCallback):
    """Record an exploration while any SB3 algorithm learns, and draw it.

    Every part is recorded if it is there:

    - visits, coverage and what is measured in each cell, where the environment gives ``info["position"]``, (x, y), and
      ``reachable``, bool[H, W] (``farl.envs.minigrid.PositionInfo`` adds both to MiniGrid);
    - elsewhere the observations: vectors on two axes, images as a gallery of what was seen where a fragment began;
    - surprisal, fractures and recalls where the model or an environment around it has ``curiosity``, as
      ``FAR(Algorithm)`` and ``FARVecEnv`` do. A plain algorithm's visits all count for fragment 0;
    - weights and returns where the model has ``particle_state``, as ``ParticlePPO`` does.

    Logged at the end of each rollout: ``exploration/coverage`` (of all cells, since training began),
    ``exploration/episode_coverage`` (mean over the episodes that ended in it, of the first 16 environments), and
    ``far/room_agreement`` (the adjusted Rand index between fragments and rooms, where the environment gives
    ``room_of_cell``, int64[H, W], -1 outside of rooms); to TensorBoard also the pictures. At the end of training they
    are written to ``out_dir``, with ``overview.png``, and with ``map.gif`` where the model films what it explores.

    The visits go by all environments, the surprisal trace by the first one. Where worlds change from episode to
    episode, coverage counts a cell that can be reached, and was visited, in any of them: look at the episodes'.

    Pictures wait until they, and those at the end, take no more than 3 % of the time so far, whatever ``image_freq``
    is.

    :param out_dir: folder for the pictures, made if missing; None writes none
    :param image_freq: timesteps between two sets of pictures in TensorBoard, with one more at the end; 0 logs none
    :param axes: names or numbers of the two axes that vectors are drawn over; None takes their first two principal
        components
    :raises ConfigError: if ``image_freq`` is negative
    :raises ConfigError: when training starts, if the observations have no such axes
    """

    def __init__(
        self,
        out_dir: str | os.PathLike[str] | None = None,
        image_freq: int = 50_000,
        axes: Sequence[str | int] | None = None,
    ) -> None:
        super().__init__()
        if image_freq < 0:
            raise ConfigError(f"image_freq must be 0 (no pictures in TensorBoard) or more, got {image_freq}")
        self.out_dir = None if out_dir is None else Path(out_dir)
        self.image_freq = image_freq
        self.axes = axes
        self._record = ExplorationRecord()
        self._times = PictureTimes(image_freq)
        self.room_agreement: float | None = None
        """How well fragments agreed with rooms in the last rollout (adjusted Rand index); None where rooms are not
        known."""
        self._agreement: RoomAgreement | None = None
        self._waiting: list[WaitingStep] = []
        self._infos: list[dict[str, Any]] = []  # of the last step
        self._seen: float | None = None  # before the first step after a resume
        self._uncounted: list[tuple[int, ...]] = []  # positions of steps whose cells do not count as covered yet
        self._settled = 0  # steps of this rollout that have been recorded

    @property
    def record(self) -> ExplorationRecord:
        """What has been recorded, up to date with all steps so far."""
        self._settle()
        self._look_at_memory()
        return self._record

    @property
    def coverage(self) -> float | None:
        """Part of the reachable cells visited since training began, in [0, 1]; None if positions are not known."""
        self._count_covered()
        return None if self._record.visits is None else self._record.visits.coverage

    @property
    def episode_coverage(self) -> float | None:
        """Mean coverage of the last complete episode of each world, in [0, 1]; None if there is none yet."""
        episodes = [] if self._record.episodes is None else self._record.episodes.snapshot()
        complete = [episode.coverage for episode in episodes if episode.complete]
        return float(np.mean(complete)) if complete else None

    @property
    def seen(self) -> float | None:
        """Mean share of their worlds that is seen in the episodes that go on, in [0, 1]; None where no world tells."""
        told = [info["coverage"] for info in self._infos if "coverage" in info]
        return float(np.mean(told)) if told else self._seen

    @property
    def procedural(self) -> bool:
        """Whether worlds have differed between environments or episodes: then ``coverage`` is that of all together."""
        return self._record.episodes is not None and self._record.episodes.procedural

    def draw(self) -> "dict[str, Figure]":
        """Draw all there is to draw, by the name of the picture; ``map`` is the map explorers' own."""
        drawn = self.record.draw()
        if hasattr(self.model, "draw_map") and (world := self.model.draw_map()) is not None:
            drawn["map"] = world
        return drawn

    def write(self, out_dir: str | os.PathLike[str], pixels: "dict[str, Pixels] | None" = None) -> list[Path]:
        """Write the pictures, their overview and a map explorer's film, each whole or not at all; return the paths.

        :param out_dir: the folder, made if missing
        :param pixels: the pictures, if they have been rendered already, uint8[H, W, 3] each
        """
        pixels = rendered(self.draw()) if pixels is None else dict(pixels)
        if (overview := self.record.overview()) is not None:
            pixels |= rendered({"overview": overview})
        folder = Path(out_dir)
        folder.mkdir(parents=True, exist_ok=True)
        written = [write_png(folder / f"{name}.png", picture) for name, picture in pixels.items()]
        film = self.model.write_film(folder / "map.gif") if hasattr(self.model, "write_film") else None
        return written if film is None else [*written, film]

    def state_dict(self) -> dict[str, Any]:
        """Return all that was recorded, as tensors, numbers and text."""
        return self.record.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` returned; call it before ``learn``."""
        self._record = ExplorationRecord.from_state_dict(state)

    def open_state(self) -> dict[str, Any]:
        """Return all that was recorded and what still waits, as it is: nothing is taken in for it."""
        self._count_covered()
        return {
            "record": self._record.state_dict(),
            "waiting": to_plain([_plainer(step) for step in self._waiting], _KNOWN),
            "settled": self._settled,
            "last_image": self._times.last,
            "agreement": None if self._agreement is None else self._agreement.state_dict(),
            "room_agreement": self.room_agreement,
            "seen": self.seen,
        }

    def take_up(self, state: Mapping[str, Any], begin_anew: bool = False) -> None:
        """Go on from what ``open_state`` returned; call it between two steps.

        :param begin_anew: whether the environments have begun new episodes since
        """
        self._record = ExplorationRecord.from_state_dict(state["record"])
        self._waiting = from_plain(state["waiting"], _KNOWN)
        self._settled, self._times.last = int(state["settled"]), int(state["last_image"])
        self.room_agreement = state["room_agreement"]
        self._seen = None if begin_anew else state.get("seen")  # a file of before has none
        if self._agreement is not None and state["agreement"] is not None:
            self._agreement.load_state_dict(state["agreement"])
        if begin_anew and self._positions_told:
            self._begin_worlds(self.training_env)

    def _on_training_start(self) -> None:
        self._settle()  # what an interrupted rollout left
        self._times.begin(self.num_timesteps)
        env, record = self.training_env, self._record
        # Looked up once, not in each step, as all else that stays as it is: recording is to cost next to nothing.
        self._env, self._source, self._tells_later = env, self._curiosity, hasattr(self.model, "curiosity_steps")
        if self.out_dir is not None and hasattr(self.model, "begin_film"):
            self.model.begin_film()
        self._observation_space = unnormalised_space(env)
        if env.has_attr("reachable"):
            self._begin_worlds(env)
        else:
            record.names = observation_names(self._observation_space, environment_id(env))
            if record.sample is None and record.names:
                record.sample = ObservationSample(len(record.names))
            mention_positions(env)
        record.axes = resolve_axes(self.axes, record.names) if record.names or self.axes is None else None
        self._positions_told = record.episodes is not None
        self._frames = self._source is not None and shows_frames(self._observation_space)

    def _begin_worlds(self, env: VecEnv) -> None:
        """Look at the worlds that are there when training starts."""
        record = self._record
        if record.episodes is None:
            record.episodes = Episodes()
        worlds = [np.asarray(each, bool) for each in env.get_attr("reachable")]
        infos = env.unwrapped.reset_infos
        for number, reachable in enumerate(worlds[: record.episodes.limit]):
            record.episodes.begin(number, reachable, _position(infos[number]))
        if (env.has_attr("world_changes") and any(env.get_attr("world_changes"))) or len({w.shape for w in worlds}) > 1:
            record.episodes.procedural = True
            return  # there is no one map to draw visits on
        reachable = np.any(worlds, axis=0)
        if record.visits is None:
            record.visits, record.cells = VisitCounts(reachable), CellStatistics(reachable)
        elif record.visits.reachable.shape != reachable.shape:
            raise ConfigError(
                f"the recorded exploration is of a world of {record.visits.reachable.shape} cells, this environment "
                f"has {reachable.shape}: resume with the environment it was recorded in"
            )
        if record.cells is None:
            record.cells = CellStatistics(reachable)
        if self._curiosity is not None and env.has_attr("room_of_cell"):
            self._agreement = RoomAgreement(np.asarray(env.get_attr("room_of_cell")[0]))
        self._cover_starts(np.ones(env.num_envs, bool))

    def _on_rollout_start(self) -> None:
        self._settled = 0
        if self.training_env is not self._env:  # a sequence of tasks has put others in their place
            self._settle()
            self._env, self._source = self.training_env, self._curiosity
            if self._positions_told:
                envs = np.ones(self._env.num_envs, bool)
                for new in self._new_episodes(envs):
                    assert self._record.episodes is not None
                    self._record.episodes.begin(new.env, new.reachable, new.start)
                self._cover_starts(envs)

    def _on_step(self) -> bool:
        record, dones, self._infos = self._record, np.array(self.locals["dones"], bool), self.locals["infos"]
        positions = vectors = frames = None
        begun: list[NewEpisode] = []
        if self._positions_told:
            # The info of an environment that is done is still that of its last step, not of the reset after it.
            positions = [tuple(info["position"]) for info in self._infos]
            self._uncounted += positions
            if dones.any():
                self._count_covered()  # the next worlds may have another shape
                begun = self._new_episodes(dones)
                self._cover_starts(dones)
        if (self._frames or record.sample is not None) and (seen := self.locals.get("new_obs")) is not None:
            seen = without_advice(original_observations(seen, self.training_env), self._observation_space)
            frames = frames_of(self._observation_space, seen) if self._frames else None
            if record.sample is not None:
                vectors = numbers_of(self._observation_space, seen)
        told = None if self._tells_later else getattr(self._source, "last", None)
        self._waiting.append(WaitingStep(self.num_timesteps, dones, begun, positions, vectors, frames, told))
        if not self._tells_later and (begun or len(self._waiting) >= _TOGETHER):
            self._settle()
        return True

    def _new_episodes(self, dones: BoolArray) -> list[NewEpisode]:
        assert self._record.episodes is not None
        envs = [int(env) for env in np.flatnonzero(dones) if env < self._record.episodes.limit]
        if not envs:
            return []
        worlds = self.training_env.get_attr("reachable", envs)
        infos = self.training_env.unwrapped.reset_infos
        begun = [
            NewEpisode(env, np.array(world, bool), _position(infos[env]))
            for env, world in zip(envs, worlds, strict=True)
        ]
        visits = self._record.visits
        if visits is not None:
            if any(new.reachable.shape != visits.reachable.shape for new in begun):
                self._record.visits = self._record.cells = None  # the worlds have no common map
            else:
                for new in begun:
                    visits.reachable |= new.reachable
        return begun

    def _settle(self) -> None:
        """Record the steps that wait: together, at the end of a rollout, where the model can tell of them then.

        FAR on an on-policy algorithm takes in many steps together for much less than one after the other.
        """
        self._count_covered()
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        told = [step.told for step in waiting]
        if self._tells_later:
            model: Any = self.model
            model.take_in()
            told = model.curiosity_steps[self._settled : self._settled + len(waiting)]
            self._settled += len(waiting)
        events: dict[str, Any] = {}
        if len(told) == len(waiting) and all(told):
            rows = [_events(step) for step in told]
            events = {name: np.array([row[name] for row in rows]) for name in rows[0]}
            events |= self._thresholds(events["active"])
        columns = {
            name: None if getattr(waiting[0], name) is None else np.array([getattr(step, name) for step in waiting])
            for name in ("timesteps", "dones", "positions", "vectors", "frames")
        }
        self._record.add(Block(begun=[step.begun for step in waiting], **columns, **events))  # type: ignore[arg-type]
        if self._agreement is not None and events:
            assert columns["positions"] is not None
            self._agreement.add(columns["positions"], events["active"])

    def _thresholds(self, active: IntArray) -> dict[str, Any]:
        """The surprisal above which the first environment's fragments, int64[T, E], would end now."""
        criterion: Any = getattr(getattr(self._curiosity, "router", None), "criterion", None)
        return {"thresholds": criterion.bound(active[:, 0])} if hasattr(criterion, "bound") else {}

    @property
    def _curiosity(self) -> Any:
        """The curiosity of the model, or of an environment around it."""
        if (own := getattr(self.model, "curiosity", None)) is not None or self.model is None:
            return own
        env: Any = self.training_env
        while env is not None:
            if getattr(env, "curiosity", None) is not None:
                return env.curiosity
            env = getattr(env, "venv", None)
        return None

    def _look_at_memory(self) -> None:
        """Take note of the memory's graph and of the particles' weights."""
        curiosity = self._curiosity if self.model is not None else None
        if curiosity is not None:
            self._record.graph, self._record.opened = curiosity.memory.graph, int(curiosity.fragments)

    def _on_rollout_end(self) -> None:
        self._settle()
        self._settled = 0
        if self.coverage is not None:
            self.logger.record("exploration/coverage", self.coverage)
        if self._agreement is not None and (agreement := self._agreement.take()) is not None:
            self.room_agreement = agreement
            self.logger.record("far/room_agreement", agreement)
        episodes = self._record.episodes
        if episodes is not None and episodes.coverages:
            self.logger.record("exploration/episode_coverage", float(np.mean(episodes.coverages)))
            episodes.coverages.clear()
        if hasattr(self.model, "particle_state"):
            weights, returns = self.model.particle_state()
            if self._record.particles is None:
                self._record.particles = ParticleHistory(len(weights))
            self._record.particles.add(self.num_timesteps, weights, returns)
        if self._times.due(self.num_timesteps) and takes_images(self.logger):
            with self._times.drawing():
                log_pictures(self.logger, rendered(self.draw()))

    def _on_training_end(self) -> None:
        last_wanted = self._times.last_wanted(self.num_timesteps) and takes_images(self.logger)
        if self.out_dir is None and not last_wanted:
            return
        pixels = rendered(self.draw())
        if last_wanted:
            log_pictures(self.logger, pixels)
            self.logger.dump(self.num_timesteps)  # nobody else will, after the last rollout
        if self.out_dir is not None:
            self.write(self.out_dir, pixels)

    def _count_covered(self) -> None:
        """Count the cells that were stepped on as covered, when somebody asks: not in each step."""
        waiting, self._uncounted = self._uncounted, []
        if waiting and self._record.visits is not None:
            x, y = np.array(waiting, np.int64).T
            self._record.visits.covered[y, x] = True

    def _cover_starts(self, at: BoolArray) -> None:
        """Count the cells where episodes have just begun as covered: no step leads to them."""
        if self._record.visits is None:
            return
        infos = self.training_env.unwrapped.reset_infos
        for env in np.flatnonzero(at):
            if (start := _position(infos[env])) is not None:
                self._record.visits.covered[start[1], start[0]] = True


_EVENTS = ("active", "fragmented", "recalled")


def _events(step: Any) -> dict[str, Any]:
    """What the curiosity made of one step, as a row of ``Block`` takes it."""
    if isinstance(step, dict):
        return step  # it was saved so
    found = {name: getattr(step.events, name) for name in _EVENTS}
    found["surprisal"] = np.asarray(step.surprisal, np.float64)
    if (reward := getattr(step, "intrinsic_reward", None)) is not None:
        found["rewards"] = np.asarray(reward, np.float64)
    return found


def _plainer(step: WaitingStep) -> WaitingStep:
    """A step that waits, with arrays instead of what they are made from."""
    positions = None if step.positions is None else np.array(step.positions, np.int64)
    return step._replace(positions=positions, told=None if step.told is None else _events(step.told))


def _position(info: dict[str, Any]) -> IntArray | None:
    return np.array(info["position"], np.int64) if "position" in info else None
