"""Atari 2600 games with the usual preprocessing, in two ways that look the same from outside.

``AtariVecEnv`` steps all copies in ale-py's C++ threads; ``make_atari_env`` makes one copy with Stable-Baselines3's
wrappers, for a ``DummyVecEnv`` or ``SubprocVecEnv`` and for pictures in colour. Both need the extra ``atari``.
"""

import importlib
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from farl.envs.atari_games import SIDE, STACK, AtariSettings, make_game, rom_name
from farl.envs.batched import BatchedVecEnv
from farl.envs.state import CannotRestoreError
from farl.errors import ConfigError


def make_atari_env(game: str, settings: AtariSettings, render_mode: str | None = None) -> gym.Env[Any, Any]:
    """Return one game with Stable-Baselines3's wrappers; observations are uint8[84, 84, 1], to be stacked by four.

    The monitor lies below all that changes rewards, so that returns are the game's own. Montezuma's Revenge tells
    positions.

    :param game: a Gymnasium id, such as ``"ALE/Jamesbond-v5"``
    :raises ConfigError: ale-py has no such game
    """
    from stable_baselines3.common.atari_wrappers import AtariWrapper

    return AtariWrapper(
        Monitor(make_game(game, settings, render_mode)),
        noop_max=settings.noop_max,
        frame_skip=settings.frameskip,
        screen_size=SIDE,
        terminal_on_life_loss=settings.episodic_life,
        clip_reward=settings.reward_clipping,
    )


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
            rom_name(game),
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
