"""Atari 2600 games before they are preprocessed: their settings, their positions and their spaces.

They need the extra ``atari``.
"""

import importlib
from dataclasses import dataclass, fields
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

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

    def __post_init__(self) -> None:
        """Refuse what a game cannot take.

        :raises ConfigError: if a setting has another type, or a number is out of range
        """
        least = {"frameskip": 1, "max_num_frames_per_episode": 1}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(each.default, bool):
                if not isinstance(value, bool):
                    raise ConfigError(f"{each.name} must be true or false, found {value!r}")
            elif isinstance(each.default, int) and (
                isinstance(value, bool) or not isinstance(value, int) or value < least.get(each.name, 0)
            ):
                raise ConfigError(
                    f"{each.name} must be a whole number of at least {least.get(each.name, 0)}, found {value!r}"
                )
        chance = self.repeat_action_probability
        if isinstance(chance, bool) or not isinstance(chance, int | float) or not 0 <= chance <= 1:
            raise ConfigError(f"repeat_action_probability must be in [0, 1], found {chance!r}")


def make_game(game: str, settings: AtariSettings, render_mode: str | None = None) -> gym.Env[Any, Any]:
    """Return one game without preprocessing, every emulated frame a step; Montezuma's Revenge tells positions.

    :param game: a Gymnasium id, such as ``"ALE/Jamesbond-v5"``
    :raises ConfigError: ale-py has no such game
    """
    rom = rom_name(game)
    env: gym.Env[Any, Any] = gym.make(
        game,
        frameskip=1,
        repeat_action_probability=settings.repeat_action_probability,
        full_action_space=settings.full_action_space,
        max_num_frames_per_episode=settings.max_num_frames_per_episode,
        render_mode=render_mode,
    )
    return MontezumaPosition(env) if rom == MontezumaPosition.GAME else env


def game_spaces(game: str, settings: AtariSettings) -> tuple[spaces.Box, gym.Space[Any]]:
    """Return the spaces of observations and actions of a game after preprocessing.

    :raises ConfigError: ale-py has no such game
    """
    env = make_game(game, settings)
    env.close()
    return spaces.Box(0, 255, (STACK, SIDE, SIDE), np.uint8), env.action_space


def rom_name(game: str) -> str:
    """Return ale-py's own name of a game.

    :raises ConfigError: ale-py has no such game
    """
    gym.register_envs(importlib.import_module("ale_py"))
    rom = gym.registry[game].kwargs.get("game") if game in gym.registry else None
    if not isinstance(rom, str):
        raise ConfigError(f"{game!r} is no game of ale-py; write it as in ALE/Jamesbond-v5")
    return rom


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
