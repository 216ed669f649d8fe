"""Atari 2600 games with the usual preprocessing, in two ways that look the same from outside.

``AtariVecEnv`` steps all copies in ale-py's C++ threads; ``make_atari_env`` makes one copy with Stable-Baselines3's
wrappers, for a ``DummyVecEnv`` or ``SubprocVecEnv`` and for pictures in colour. Both need the extra ``atari``.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from farl.envs.batched import BatchedVecEnv
from farl.envs.state import CannotRestoreError
from farl.errors import ConfigError

SIDE = 84
STACK = 4


@dataclass(frozen=True)
class AtariSettings:
    """What is done to a game before an agent sees it; ale-py's names.

    :ivar repeat_action_probability: sticky actions, per emulated frame: 0 for none, 0.25 as Machado et al. (2018)
    :ivar frameskip: emulated frames in a step; the last two are merged by their maximum
    :ivar noop_max: most steps without an action at the start of a game; the number is drawn
    :ivar episodic_life: whether the loss of a life ends an episode; the game goes on
    :ivar reward_clipping: whether the agent gets the sign of the reward; ``info["episode"]`` keeps the raw return
    :ivar full_action_space: all 18 actions instead of those that the game knows
    :ivar max_num_frames_per_episode: emulated frames after which a game is cut off
    :ivar num_threads: number of ale-py's threads; 0 for as many as it finds useful
    """

    repeat_action_probability: float = 0.0
    frameskip: int = 4
    noop_max: int = 30
    episodic_life: bool = True
    reward_clipping: bool = True
    full_action_space: bool = False
    max_num_frames_per_episode: int = 108_000
    num_threads: int = 0


def make_atari_env(game: str, settings: AtariSettings, render_mode: str | None = None) -> gym.Env[Any, Any]:
    """Return one game with Stable-Baselines3's wrappers; observations are uint8[84, 84, 1], to be stacked by four.

    The monitor lies below all that changes rewards, so that returns are the game's own. Montezuma's Revenge tells
    positions.

    :param game: a Gymnasium id, such as ``"ALE/Jamesbond-v5"``
    :raises ConfigError: ale-py has no such game
    """
    from stable_baselines3.common.atari_wrappers import AtariWrapper

    rom = _rom_name(game)
    env: gym.Env[Any, Any] = gym.make(
        game,
        frameskip=1,  # the wrapper skips frames itself
        repeat_action_probability=settings.repeat_action_probability,
        full_action_space=settings.full_action_space,
        max_num_frames_per_episode=settings.max_num_frames_per_episode,
        render_mode=render_mode,
    )
    if rom == MontezumaPosition.GAME:
        env = MontezumaPosition(env)
    return AtariWrapper(
        Monitor(env),
        noop_max=settings.noop_max,
        frame_skip=settings.frameskip,
        screen_size=SIDE,
        terminal_on_life_loss=settings.episodic_life,
        clip_reward=settings.reward_clipping,
    )


class MontezumaPosition(gym.Wrapper[Any, Any, Any, Any]):
    """Tells where the agent is in Montezuma's Revenge, from the RAM: ``info["position"]``, two cells (x, y).

    The 24 rooms of a level lie on four floors of 3, 5, 7 and 9, as in the game; a room is ten cells wide and eight
    high. Bytes 3, 42 and 43 are room, x and y (Anand et al., "Unsupervised state representation learning in Atari",
    NeurIPS 2019). Which cells are walls is not known: all cells of rooms count as reachable.

    :ivar reachable: bool[32, 90], the cells of rooms
    :ivar room_of_cell: int64[32, 90], the number of the room, -1 outside
    """

    GAME = "montezuma_revenge"
    _ROOM, _X, _Y = 3, 42, 43
    _WIDTH, _HEIGHT, _PIXELS = 10, 8, 16
    _FIRST_ROOMS = np.array([0, 3, 8, 15])

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        rooms = np.full((len(self._FIRST_ROOMS), 9), -1)
        for room in range(24):
            rooms[self._place(room)] = room
        self.room_of_cell = rooms.repeat(self._HEIGHT, axis=0).repeat(self._WIDTH, axis=1)
        self.reachable = self.room_of_cell >= 0

    def reset(self, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        """Begin a game."""
        observation, info = self.env.reset(**arguments)
        return observation, info | {"position": self.position()}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the game."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated, info | {"position": self.position()}

    def position(self) -> npt.NDArray[np.int64]:
        """Return the cell of the agent, int64[2]."""
        ram = self.unwrapped.ale.getRAM().astype(np.int64)  # type: ignore[attr-defined]
        floor, column = self._place(min(int(ram[self._ROOM]), 23))
        x = min(ram[self._X] // self._PIXELS, self._WIDTH - 1)
        y = min((255 - ram[self._Y]) // self._PIXELS, self._HEIGHT - 1)
        return np.array([column * self._WIDTH + x, floor * self._HEIGHT + y])

    def _place(self, room: int) -> tuple[int, int]:
        """Return floor and column of a room."""
        floor = int(np.searchsorted(self._FIRST_ROOMS, room, side="right")) - 1
        return floor, int(room - self._FIRST_ROOMS[floor]) + len(self._FIRST_ROOMS) - 1 - floor


class AtariVecEnv(BatchedVecEnv):
    """E copies of one Atari 2600 game, stepped by ale-py's C++ threads.

    Description
        The Arcade Learning Environment (Bellemare et al., 2013), in the versions and with the ROMs of ale-py.
    Observation Space
        ``Box(0, 255, (4, 84, 84), uint8)``: the last four frames, gray, the newest last.
    Action Space
        ``Discrete``: the actions that the game knows, or all 18.
    Rewards
        float32, the game's own, or their sign (``reward_clipping``).
    Episodes
        One life (``episodic_life``), or a whole game. Where a game ends, ``infos`` hold ``episode`` with its raw return
        and its length in steps, as a ``Monitor`` writes it. ``TimeLimit.truncated`` is True where it was cut off.
        After the loss of a life the game goes on without a step in between, and without pressing fire.
    Determinism
        The same seed gives the same episodes, whatever the number of threads.

    :param game: a Gymnasium id, such as ``"ALE/Jamesbond-v5"``
    :param num_envs: number of environments E
    :param settings: the preprocessing's
    :raises ConfigError: if ale-py is missing, or has no such game
    """

    def __init__(self, game: str, num_envs: int, settings: AtariSettings | None = None) -> None:
        settings = settings or AtariSettings()
        self._clip = settings.reward_clipping
        # life_loss_info ends episodes and lets the game go on; ale-py's own episodic_life would begin a new game.
        self.env: Any = _vector_env_class()(
            _rom_name(game),
            num_envs,
            autoreset_mode="SameStep",
            repeat_action_probability=settings.repeat_action_probability,
            frameskip=settings.frameskip,
            noop_max=settings.noop_max,
            life_loss_info=settings.episodic_life,
            reward_clipping=False,  # the raw return is to be known
            full_action_space=settings.full_action_space,
            max_num_frames_per_episode=settings.max_num_frames_per_episode,
            num_threads=settings.num_threads,
            img_height=SIDE,
            img_width=SIDE,
            stack_num=STACK,
        )
        observation_space = spaces.Box(0, 255, (STACK, SIDE, SIDE), np.uint8)
        self.render_mode = None
        super().__init__(num_envs, observation_space, spaces.Discrete(int(self.env.single_action_space.n)))
        self.metadata: dict[str, Any] = {"render_modes": []}
        self._last = np.zeros((num_envs, STACK, SIDE, SIDE), np.uint8)
        self._frames = np.zeros(num_envs, np.int64)

    def reset(self) -> VecEnvObs:
        """Begin a game in every environment, with consecutive seeds after ``seed``."""
        self._last, info = self.env.reset(seed=self._seeds[0])
        self._frames = _frames_before_this_game(info)
        self.lengths[:], self.returns[:] = 0, 0.0
        self._reset_seeds()
        self._reset_options()
        return self._last

    def step_wait(self) -> VecEnvStepReturn:
        """Step every environment."""
        self._last, rewards, terminated, truncated, info = self.env.step(self._actions)
        rewards = rewards.astype(np.float32)  # they come as integers, to which no bonus could be added
        self.lengths += 1
        self.returns += rewards
        dones = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if dones.any():
            before, self._frames = self._frames, _frames_before_this_game(info)
            game_over = self._frames != before
            for env in map(int, np.flatnonzero(dones)):
                if game_over[env]:
                    infos[env] = self.finish(env, info["final_obs"][env], bool(truncated[env] and not terminated[env]))
                else:  # a life was lost: nothing was reset, and final_obs is not set
                    infos[env] = {"terminal_observation": self._last[env], "TimeLimit.truncated": False}
        return self._last, np.sign(rewards) if self._clip else rewards, dones, infos

    def get_state(self) -> dict[str, Any]:
        """Refuse.

        :raises CannotRestoreError: always
        """
        raise CannotRestoreError("ale-py's threads do not tell their state; vector_backend: dummy and subproc do")

    def get_images(self) -> Sequence[npt.NDArray[np.uint8] | None]:
        """The newest frame of each environment, gray, uint8[84, 84, 3]."""
        return [np.repeat(frames[-1][..., None], 3, axis=2) for frames in self._last]

    def close(self) -> None:
        """Free the emulators."""
        self.env.close()


def _frames_before_this_game(info: dict[str, Any]) -> npt.NDArray[np.int64]:
    """Emulated frames of all earlier games of each environment: it changes where a game ended, and only there."""
    frames: npt.NDArray[np.int64] = np.asarray(info["frame_number"], np.int64) - info["episode_frame_number"]
    return frames


def _vector_env_class() -> Any:
    try:
        return importlib.import_module("ale_py.vector_env").AtariVectorEnv
    except ImportError:
        raise ConfigError("Atari needs an extra: pip install 'farl[atari]'") from None


def _rom_name(game: str) -> str:
    gym.register_envs(importlib.import_module("ale_py"))
    rom = gym.registry[game].kwargs.get("game") if game in gym.registry else None
    if not isinstance(rom, str):
        raise ConfigError(f"{game!r} is no game of ale-py; write it as in ALE/Jamesbond-v5")
    return rom
