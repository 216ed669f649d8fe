"""The 16 ProcGen games as a Stable-Baselines3 VecEnv, straight on the C++ library."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from farl.envs.batched import BatchedVecEnv
from farl.envs.procgen_games import LEVELS, TIMEOUTS, game_spaces, import_procgen
from farl.errors import ConfigError

Pixels = npt.NDArray[np.uint8]


class _Result(NamedTuple):
    """What one step gave, for all environments.

    :ivar observations: uint8[E, 3, 64, 64], of the new episode where one ended
    :ivar terminal: last observations of the episodes that ended, uint8[ended, 3, 64, 64]
    """

    observations: Pixels
    rewards: npt.NDArray[np.float32]
    dones: npt.NDArray[np.bool_]
    terminal: Pixels
    truncated: npt.NDArray[np.bool_]
    """bool[E]"""


class _Games:
    """ProcGen's library: it begins the next episode within the step that ends one, and says no more of the end."""

    def __init__(self, game: str, num_envs: int, options: dict[str, Any], seed: int, picture: bool) -> None:
        procgen = import_procgen()
        if options["distribution_mode"] == "exploration":  # it is one level of its own
            options = {key: value for key, value in options.items() if key not in ("num_levels", "start_level")}
        self.env = procgen.ProcgenGym3Env(
            num=num_envs, env_name=game, rand_seed=seed, render_mode="rgb_array" if picture else None, **options
        )
        # The library looks up the function that closes an environment when it is collected. A collection may fall into
        # the making of another environment, which holds the lock that the first look-up needs: a deadlock.
        _ = self.env._c_lib.libenv_close
        self.timeout = TIMEOUTS[game]
        self.picture = picture
        self._fresh = True
        self._last = self._observe()[1]

    def _observe(self) -> tuple[npt.NDArray[np.float32], Pixels, npt.NDArray[np.bool_]]:
        rewards, observation, first = self.env.observe()
        # In rows, as a checkpoint holds it: networks round otherwise where numbers lie in another order.
        return rewards, np.ascontiguousarray(observation["rgb"].transpose(0, 3, 1, 2)), first

    def reset(self) -> Pixels:
        if not self._fresh:
            self.env.act(np.full(self.env.num, -1))  # ends every episode
            self._last = self._observe()[1]
        self._fresh = True
        return self._last

    def step(self, actions: npt.NDArray[np.int32], lengths: npt.NDArray[np.int64]) -> _Result:
        self._fresh = False
        before = self._last
        self.env.act(actions)
        rewards, self._last, dones = self._observe()
        truncated = dones & (lengths >= self.timeout)
        if truncated.any():
            truncated &= ~self._info["prev_level_complete"].astype(bool)
        return _Result(self._last, rewards, dones, before[dones], truncated)

    def level_seeds(self) -> npt.NDArray[np.int64]:
        return self._info["level_seed"].astype(np.int64)

    @property
    def _info(self) -> dict[str, npt.NDArray[Any]]:
        # Not get_info(), which makes a dict for each environment: episodes end all the time somewhere.
        arrays: dict[str, npt.NDArray[Any]] = self.env._info
        return arrays

    def get_state(self) -> list[bytes]:
        states: list[bytes] = self.env.get_state()
        return states

    def set_state(self, state: list[bytes]) -> None:
        self.env.set_state(state)
        self._fresh, self._last = False, self._observe()[1]

    def images(self) -> list[Pixels]:
        if self.picture:
            return [info["rgb"] for info in self.env.get_info()]
        return list(self._last.transpose(0, 2, 3, 1))

    def close(self) -> None:
        self.env.close()


class ProcgenVecEnv(BatchedVecEnv):
    """E copies of one ProcGen game (Cobbe et al. 2020), stepped by the library's C++ threads.

    Description
        Sixteen games whose levels are generated from seeds. Levels ``start_level`` to ``start_level + num_levels - 1``
        are drawn from, all from ``start_level`` on if ``num_levels`` is 0; a sequence of tasks is a sequence of
        ``start_level`` with ``num_levels=1``.
    Observation Space
        ``Box(0, 255, (3, 64, 64), uint8)``, channels first.
    Action Space
        ``Discrete(15)``: nine directions and six keys, of which each game uses some.
    Rewards
        The game's own, unchanged.
    Episodes
        The infos of an episode that ends hold ``episode`` (raw return ``r``, length ``l``), as a ``VecMonitor`` writes
        it, ``level_seed`` and ``TimeLimit.truncated``. The library draws the next episode within the step that ends
        one, and flags no truncation: ``terminal_observation`` is the observation *before* the last step, and an episode
        counts as truncated when it has the length of the game's timeout and its level is not solved. (A game lost in
        exactly that step is taken for truncated.) A bootstrapped value is thus one step old.
    Determinism
        The same seed gives the same episodes, whatever the number of threads.

    :param game: one of ``GAMES``
    :param num_envs: number of environments E
    :param distribution_mode: ``"easy"``, ``"hard"``; ``"extreme"``, ``"memory"``, ``"exploration"`` for some games
    :param num_levels: number of levels, 0 for no limit
    :param start_level: seed of the first level
    :param seed: decides which level comes when; None draws one
    :param num_threads: threads of the library; by default one for each core, up to one for each environment
    :param render_mode: ``"rgb_array"`` draws pictures of 512 x 512 pixels, which costs time
    :raises ConfigError: for an unknown game or mode, levels that do not exist, or a package that is missing
    """

    def __init__(
        self,
        game: str,
        num_envs: int,
        distribution_mode: str = "hard",
        num_levels: int = 0,
        start_level: int = 0,
        seed: int | None = None,
        num_threads: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        found = game_spaces(game, distribution_mode, num_levels, start_level, num_threads)
        if isinstance(num_envs, bool) or not isinstance(num_envs, int | np.integer) or num_envs < 1:
            raise ConfigError(f"num_envs must be a whole number of at least 1, found {num_envs!r}")
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.game, self.render_mode = game, render_mode
        self._settings = {
            "distribution_mode": distribution_mode,
            "num_levels": num_levels,
            "start_level": start_level,
            "num_threads": min(cores, num_envs) if num_threads is None else num_threads,
        }
        super().__init__(num_envs, *found)
        self.metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 15}
        drawn = int(np.random.default_rng().integers(LEVELS)) if seed is None else seed
        self._games = self._make(drawn)
        self._levels = np.zeros(num_envs, np.int64)

    def _make(self, seed: int) -> _Games:
        picture = self.render_mode == "rgb_array"
        return _Games(self.game, self.num_envs, self._settings, seed % LEVELS, picture)

    def reset(self) -> VecEnvObs:
        """Begin an episode in every environment; after ``seed``, from games made anew with that seed."""
        if self._seeds[0] is not None:
            self._games.close()
            self._games = self._make(self._seeds[0])
        observations = self._games.reset()
        self.lengths[:], self.returns[:] = 0, 0.0
        self._levels = self._games.level_seeds().copy()
        self.reset_infos = [{"level_seed": int(level)} for level in self._levels]
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_wait(self) -> VecEnvStepReturn:
        """Step every environment."""
        self.lengths += 1
        result = self._games.step(self._actions.astype(np.int32), self.lengths)
        self.returns += result.rewards
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        ended = np.flatnonzero(result.dones)
        if len(ended):
            for row, env in enumerate(ended):
                infos[env] = self.finish(int(env), result.terminal[row], bool(result.truncated[env]))
                infos[env]["level_seed"] = int(self._levels[env])
            self._levels = self._games.level_seeds().copy()
        return result.observations, result.rewards, result.dones, infos

    def get_state(self) -> dict[str, Any]:
        """Return all that decides what happens next."""
        return super().get_state() | {"games": self._games.get_state(), "levels": self._levels.copy()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``get_state`` returned."""
        super().set_state(state)
        self._games.set_state(state["games"])
        self._levels = state["levels"].copy()

    def get_images(self) -> Sequence[Pixels | None]:
        """Pictures, uint8[512, 512, 3] each with ``render_mode="rgb_array"``, otherwise the observations."""
        return self._games.images()

    def close(self) -> None:
        """Free the games."""
        self._games.close()
