"""What all map-building agents share: E explorers at once behind Stable-Baselines3's interface."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import networkx as nx
import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from matplotlib.figure import Figure
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback
from stable_baselines3.common.utils import safe_mean
from stable_baselines3.common.vec_env import VecEnv

from farl.agents.episode_way import EpisodeWay, ExploredWorld
from farl.agents.observation_spaces import view_size_of
from farl.envs.map_world.map_server import save_occupancy_map
from farl.envs.map_world.occupancy import OPEN, UNMAPPED, WALL, OccupancyGrid
from farl.errors import ConfigError
from farl.maps.geometry import FREE, UNKNOWN, Int32Array, IntArray, WordArray, encode
from farl.maps.local_map import LocalMap
from farl.maps.pictures import draw_explored
from farl.maps.unseen import joined
from farl.sb3.stepping import OpenRollout

Observation = Mapping[str, npt.NDArray[Any]]
Self = TypeVar("Self", bound="MapExplorer")

ROLLOUT = 1_000
"""Steps of all environments that callbacks and the log count as one rollout."""

RESOLUTION = 0.05
"""Metres a cell of saved maps whose world does not tell."""


class Explorers(ABC):
    """The memories of E explorers and what they do next.

    :param n_envs: number of explorers E
    :param view_size: V, cells a side of their views
    :param seed: starts their random choices
    """

    fragments = 0
    """Fragments that were opened by a fracture so far, in all environments."""
    recalls = 0
    """Recalls so far, in all environments."""

    def __init__(self, n_envs: int, view_size: int, seed: int) -> None:
        self.n_envs, self.view_size = n_envs, view_size
        self.random: WordArray = np.random.SeedSequence(seed).generate_state(n_envs, np.uint64).astype(np.uint64)
        """uint64[E], one random stream each."""

    @abstractmethod
    def act(self, codes: Int32Array, odometry: Int32Array, starts: npt.NDArray[np.bool_]) -> IntArray:
        """Take in what all explorers see and return their steps, int64[E].

        :param codes: int32[E, V, V], colour codes
        :param odometry: int32[E, 3]
        :param starts: bool[E], True where an episode begins: that explorer's memory is cleared
        """

    @property
    @abstractmethod
    def active_memory(self) -> IntArray:
        """int64[E], cells of the current map's bounding box."""

    @property
    def memory_bytes(self) -> int:
        """Bytes of the long-term memory, all explorers together."""
        return 0

    @property
    def graph(self) -> "nx.MultiGraph":
        """How the stored maps are joined, all explorers together."""
        return nx.MultiGraph()

    def known_maps(self, env: int) -> dict[int, LocalMap]:
        """Return the maps that an explorer has, the current one included, by fragment."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return everything that decides what happens next."""
        return {"random": torch.from_numpy(self.random.view(np.int64).copy())}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Restore what ``state_dict`` returned.

        :raises ConfigError: if it is the state of another number of explorers
        """
        saved = state["random"].cpu().numpy().view(np.uint64)
        if len(saved) != self.n_envs:
            raise ConfigError(
                f"the saved agent explores {len(saved)} worlds at once, this one {self.n_envs}: load it with as many"
            )
        self.random = saved.copy()


class MapExplorer(OpenRollout):
    """Base of the map-building agents: ``learn`` explores, ``predict`` chooses a step, ``save`` and ``load`` are exact.

    A subclass says in ``_make_explorers`` how its explorers are made. The environment is one or many map worlds
    (``farl.envs.map_world``): its observations are dictionaries with ``view`` and ``odometry``.

    What is logged at the end of rollouts: ``exploration/coverage`` (in the present episodes) and ``far/active_memory``
    (cells), means over worlds, ``far/fragments`` (in memory), ``far/recalls``, and the usual ``rollout/`` and
    ``time/``.

    :param policy: "MapPolicy"; there is no network
    :param env: the worlds to explore
    :param seed: starts the random choices of the agent and of the worlds
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = dict.fromkeys(
        ("MapPolicy", "MultiInputPolicy"),
        BasePolicy,  # type: ignore[type-abstract]
    )
    """Map explorers have no network: the class stands where Stable-Baselines3 expects one, and none is made."""

    supported_action_spaces: ClassVar[tuple[type[spaces.Space[Any]], ...]] = (spaces.Discrete,)
    """The action spaces of the worlds that it explores."""

    def __init__(
        self,
        policy: str | type[BasePolicy] = "MapPolicy",
        env: GymEnv | str | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "cpu",
        _init_setup_model: bool = True,
    ) -> None:
        super().__init__(
            policy,
            env,
            learning_rate=0.0,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            support_multi_env=True,
            seed=seed,
            supported_action_spaces=self.supported_action_spaces,
        )
        self.resolution: float | None = None
        """Metres a cell of the first world; None where it does not tell."""
        self._predicting: Explorers | None = None
        self._episode = EpisodeWay()
        self._iteration = 0  # steps of all environments since training began
        if _init_setup_model:
            self._setup_model()

    @abstractmethod
    def _make_explorers(self, n_envs: int, seed: int) -> Explorers:
        """Make the explorers of ``n_envs`` worlds."""

    @property
    def curiosity(self) -> Any:
        """What ``farl.sb3.exploration`` draws: surprisal, events and the memory's graph. None without fragments."""
        return self.explorers if hasattr(self.explorers, "router") else None

    @property
    def view_size(self) -> int:
        """V, cells a side of the view.

        :raises ConfigError: if the environment is not a map world
        """
        return view_size_of(self.observation_space, type(self).__name__)

    def _setup_model(self) -> None:
        self.set_random_seed(self.seed)
        self.explorers = self._make_explorers(self.n_envs, self.seed or 0)

    def learn(
        self: Self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "explore",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Explore for ``total_timesteps`` steps, all environments together.

        :param log_interval: rollouts, of ``ROLLOUT`` steps of all environments each, between two log entries
        """
        if reset_num_timesteps or self._last_obs is None:
            self._last_episode_starts = None
        total, callback = self._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)
        assert isinstance(self.env, VecEnv)
        if self._last_episode_starts is None:
            self._last_episode_starts = np.ones(self.n_envs, bool)
        if self.env.has_attr("plan"):
            self.resolution = self.env.get_attr("plan", 0)[0].resolution
        callback.on_training_start(locals(), globals())
        if self.reopened is None:
            self._iteration = 0
        while self.num_timesteps < total:
            if self._iteration % ROLLOUT == 0:
                callback.on_rollout_start()
            self.pause()
            assert isinstance(self._last_obs, dict)
            if self._last_episode_starts[0] or self._episode.walls is None:
                self._episode.begin(self.env)
            actions = self.explorers.act(*self._read(self._last_obs), self._last_episode_starts)
            observation, rewards, dones, infos = self.env.step(actions)
            self._last_obs, self._last_episode_starts = observation, dones  # type: ignore[assignment]
            self._episode.step(infos[0], self._last_obs["odometry"][0], dones[0])  # type: ignore[index]
            if dones[0]:
                self._episode.last = self._explored(complete=True) or self._episode.last
            self.num_timesteps += self.n_envs
            self._update_info_buffer(infos, dones)
            self._update_current_progress_remaining(self.num_timesteps, total)
            callback.update_locals(locals())
            if not callback.on_step():
                break
            self._iteration += 1
            if self._iteration % ROLLOUT == 0:
                callback.on_rollout_end()
                if log_interval and self._iteration // ROLLOUT % log_interval == 0:
                    self._dump_logs(infos)
        callback.on_training_end()
        return self

    def predict(
        self,
        observation: Any,
        state: tuple[Any, ...] | None = None,
        episode_start: npt.NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[Any], tuple[Any, ...] | None]:
        """Choose the next step of agents with a memory of their own, apart from that of ``learn``.

        The memory is the returned state: pass it back as ``state``, as with any recurrent policy. Without a state the
        agent goes on with the memory of the last call, if that was for as many environments; episode_start clears it.

        :param observation: one observation, or a batch of them
        :param deterministic: has no effect: the sampling of subgoals is part of the method
        :raises ValueError: if the observation is not as the observation space says
        """
        observation, single = self._batch(observation)
        seen, odometry = self._read(observation)
        explorers = state[0] if state is not None else self._predicting
        starts = np.zeros(len(odometry), bool) if episode_start is None else np.asarray(episode_start, bool)
        if explorers is None or explorers.n_envs != len(odometry):
            explorers = self._make_explorers(len(odometry), self.seed or 0)
            starts = np.ones(len(odometry), bool)
        self._predicting = explorers
        actions = explorers.act(seen, odometry, starts)
        return (actions[0] if single else actions), (explorers,)

    def _batch(self, observation: Any) -> tuple[dict[str, npt.NDArray[Any]], bool]:
        """Return an observation as a batch, and whether it was a single one; refuse what the space does not hold."""
        assert isinstance(self.observation_space, spaces.Dict)
        parts = self.observation_space.spaces
        if not isinstance(observation, Mapping) or not parts.keys() <= observation.keys():
            told = ", ".join(map(str, observation)) if isinstance(observation, Mapping) else type(observation).__name__
            raise ValueError(f"an observation is a dict of {' and '.join(parts)}; got {told or 'an empty one'}")
        batch = {name: np.asarray(observation[name]) for name in parts}
        # Pictures may have their channels first or last.
        sizes = {name: sorted(part.shape or ()) for name, part in parts.items()}
        single = all(sorted(batch[name].shape) == size for name, size in sizes.items())
        if single:
            return {name: value[None] for name, value in batch.items()}, True
        for name, part in parts.items():
            if sorted(batch[name].shape[1:]) != sizes[name] or not len(batch[name]):
                raise ValueError(
                    f"`{name}` of an observation has the shape {part.shape}, or more of them in a batch; "
                    f"got {batch[name].shape}"
                )
        if len({len(value) for value in batch.values()}) > 1:
            raise ValueError("the parts of an observation are batches of different lengths")
        return batch, False

    def whole_map(self, env: int = 0, resolution: float | None = None) -> OccupancyGrid:
        """Lay all that is remembered of a world side by side.

        :param env: number of the world
        :param resolution: metres a cell; None is that of the world, or ``RESOLUTION`` where it does not tell
        :return: the map, with the odometry's zero as the origin of its coordinates
        :raises ConfigError: if there is no such world, or nothing was explored in it
        """
        if not 0 <= env < self.explorers.n_envs:
            raise ConfigError(f"no world {env}: this agent explores {self.explorers.n_envs}, counted from 0")
        label, corner = joined(self.explorers.known_maps(env).values(), margin=0)
        if not (label == FREE).any():
            raise ConfigError(f"nothing of world {env} is known yet: explore first")
        size = resolution or self.resolution or RESOLUTION
        cells = np.where(label == FREE, OPEN, np.where(label == UNKNOWN, UNMAPPED, WALL)).astype(np.int8)
        # The odometry's zero is the middle of the cell where the episode began.
        left, bottom = corner[1] - 0.5, -(corner[0] + len(label) - 0.5)
        return OccupancyGrid(cells, size, (float(left * size), float(bottom * size), 0.0))

    def save_map(self, path: str | Path, env: int = 0, resolution: float | None = None) -> Path:
        """Write the map of a world as ROS's map_server reads it: a YAML file and a picture. Return the former's path.

        :param path: path of the YAML file or of the picture (.pgm, .png, .bmp)
        :param env: number of the world
        :param resolution: metres a cell; None is that of the world, or ``RESOLUTION`` where it does not tell
        :raises ConfigError: if nothing was explored, or the files cannot be written
        """
        return save_occupancy_map(path, self.whole_map(env, resolution))

    def draw_map(self) -> Figure | None:
        """Draw the first world as it was known at the end of its last episode, or is now where none has ended.

        None where nothing was explored, nothing is remembered, or the world does not tell its walls.
        """
        world = self._episode.last or self._explored(complete=False)
        return None if world is None else draw_explored(*world)

    def _explored(self, complete: bool) -> ExploredWorld | None:
        """The first world as it is known now."""
        return self._episode.world(self.explorers.known_maps(0), self.explorers.graph, complete)

    def open_state(self) -> dict[str, Any]:
        """Return the way so far in the first world."""
        return super().open_state() | {"way": self._episode.state_dict()}

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Put it back."""
        super().take_up(state)
        self._episode.load_state_dict(state["way"])

    def show_in(self, env: VecEnv) -> None:
        """Show what is believed in the pictures of an environment, where it can draw that; for ``predict``."""

    def _read(self, observation: Observation) -> tuple[Any, Any]:
        """What the explorers take in of a batch of observations: what is seen, and the odometry."""
        return unpack(observation)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_predicting", "_episode", "explorers"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["explorers"], []

    def _dump_logs(self, infos: list[dict[str, Any]]) -> None:
        record = self.logger.record
        if self.ep_info_buffer:
            record("rollout/ep_rew_mean", safe_mean([episode["r"] for episode in self.ep_info_buffer]))
            record("rollout/ep_len_mean", safe_mean([episode["l"] for episode in self.ep_info_buffer]))
        if infos and "coverage" in infos[0]:
            record("exploration/coverage", float(np.mean([info["coverage"] for info in infos])))
        record("far/active_memory", float(self.explorers.active_memory.mean()))
        record("far/memory_mb", self.explorers.memory_bytes / 2**20)
        record("far/fragments", len(self.explorers.graph))
        record("far/recalls", self.explorers.recalls)
        self.dump_logs()

    def dump_logs(self, iteration: int = 0) -> None:
        """Write the log, with the time and the steps per second."""
        import time

        seconds = max((time.time_ns() - self.start_time) / 1e9, 1e-9)
        self.logger.record("time/fps", int((self.num_timesteps - self._num_timesteps_at_start) / seconds))
        self.logger.record("time/time_elapsed", int(seconds), exclude="tensorboard")
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(step=self.num_timesteps)


def unpack(observation: Observation) -> tuple[Int32Array, Int32Array]:
    """Colour codes, int32[E, V, V], and odometry, int32[E, 3], of a batch of observations."""
    view = observation["view"]
    if view.shape[-1] != 3:  # Stable-Baselines3 puts channels first
        view = np.moveaxis(view, 1, -1)
    return encode(np.ascontiguousarray(view)), np.asarray(observation["odometry"], np.int32)
