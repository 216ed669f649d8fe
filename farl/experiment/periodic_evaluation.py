"""Evaluates the policy while it is trained: numbers, a table of all episodes, the best model, a film."""

import io
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, sync_envs_normalization

from farl.experiment.config import EvaluationConfig
from farl.experiment.logs import summary_writer
from farl.experiment.model_state import preserved_randomness
from farl.experiment.playing import Played, play, seen_reward
from farl.experiment.recording import Camera
from farl.experiment.tables import GrowingTable

__all__ = ["PeriodicEvaluation"]

_FILM_FRAMES = 150
_FILM_SIDE = 240
_FILM_TIME = 0.01
"""Share of the wall-clock time that films may take."""


class PeriodicEvaluation(BaseCallback):
    """Plays episodes every so often, in environments of its own.

    Logged: ``eval/mean_reward``, ``eval/mean_ep_length``, ``eval/coverage``.

    :param settings: when and how much
    :param venv: environments to play in
    :param table: takes a row for each episode; None keeps none
    :param save_best: called whenever the mean return, or at equal returns the coverage, is the best so far
    :param make_film_env: makes one environment that draws pictures; None makes no films
    :param seed: starts the episodes, together with the timesteps
    """

    def __init__(
        self,
        settings: EvaluationConfig,
        venv: VecEnv,
        table: GrowingTable | None,
        save_best: Callable[[], object],
        make_film_env: Callable[[], VecEnv] | None,
        seed: int,
    ) -> None:
        super().__init__()
        self.last_mean_reward: float | None = None
        """Mean return of the last evaluation; None before the first."""
        self.last_coverage: float | None = None
        """Mean coverage of its episodes; None where the environment does not tell."""
        self.best: tuple[float, float] | None = None
        """Mean return and coverage of the best evaluation so far."""
        self.venv = venv
        self._settings, self._table, self._save_best = settings, table, save_best
        self._make_film_env, self._seed = make_film_env, seed
        self._film_env: VecEnv | None = None
        self._done = 0
        self._began, self._filming = time.monotonic(), 0.0

    def close(self) -> None:
        """Close the environments."""
        self.venv.close()
        if self._film_env is not None:
            self._film_env.close()

    def _on_training_start(self) -> None:
        self._done = self.num_timesteps // self._settings.freq
        self._began, self._filming = time.monotonic(), 0.0

    def _on_step(self) -> bool:
        if self.num_timesteps // self._settings.freq > self._done:
            self._done = self.num_timesteps // self._settings.freq
            self._evaluate()
        return True

    def _evaluate(self) -> None:
        sync_envs_normalization(self.training_env, self.venv)
        # Not by what was played before: then a run that is resumed is evaluated alike.
        self.venv.seed((self._seed + self.num_timesteps) % 2**32)
        played = play(self.model, self.venv, self._settings.episodes, self._deterministic)
        self.last_mean_reward = float(np.mean([episode.extrinsic_return for episode in played]))
        covered = [episode.coverage for episode in played if episode.coverage is not None]
        self.last_coverage = float(np.mean(covered)) if covered else None
        self.logger.record("eval/mean_reward", self.last_mean_reward)
        self.logger.record("eval/mean_ep_length", float(np.mean([episode.length for episode in played])))
        if self.last_coverage is not None:
            self.logger.record("eval/coverage", self.last_coverage)
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(self.num_timesteps)
        if self._table is not None:
            self._table.add(_rows(self.num_timesteps, played))
        mark = (self.last_mean_reward, self.last_coverage or 0.0)
        if self.best is None or mark > self.best:
            self.best = mark
            self._save_best()
        if self._filming <= _FILM_TIME * (time.monotonic() - self._began):
            with preserved_randomness(self.model):  # whether there is time for it must change nothing
                self._film()

    def state_dict(self) -> dict[str, Any]:
        """Return what the evaluations so far came to."""
        best = None if self.best is None else list(self.best)
        return {"mean_reward": self.last_mean_reward, "coverage": self.last_coverage, "best": best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state_dict`` returned."""
        self.last_mean_reward, self.last_coverage = state["mean_reward"], state["coverage"]
        self.best = None if state["best"] is None else (float(state["best"][0]), float(state["best"][1]))

    @property
    def _deterministic(self) -> bool:
        asked = self._settings.deterministic
        return seen_reward(self.model) if asked is None else asked

    def _film(self) -> None:
        """Put a film of an episode's beginning among TensorBoard's images."""
        writer = summary_writer(self.logger)
        if writer is None or self._make_film_env is None:
            return
        began = time.monotonic()
        if self._film_env is None:
            self._film_env = self._make_film_env()
        sync_envs_normalization(self.training_env, self._film_env)
        frames: list[npt.NDArray[np.uint8]] = []
        camera = Camera(self.model, self._film_env, frames.append, _FILM_FRAMES)
        play(self.model, self._film_env, 1, self._deterministic, camera)
        add_film(writer, "evaluation/episode", frames, self.num_timesteps)
        self._filming += time.monotonic() - began


def add_film(writer: Any, tag: str, frames: list[npt.NDArray[np.uint8]], step: int) -> None:
    """Write frames, uint8[H, W, 3] each, as an animated picture for TensorBoard's tab Images."""
    from PIL import Image
    from tensorboard.compat.proto.summary_pb2 import Summary

    scale = min(_FILM_SIDE / max(frames[0].shape[:2]), 1.0)
    size = (max(round(frames[0].shape[1] * scale), 1), max(round(frames[0].shape[0] * scale), 1))
    pictures = [Image.fromarray(frame).resize(size).quantize(64) for frame in frames]
    content = io.BytesIO()
    pictures[0].save(content, "GIF", save_all=True, append_images=pictures[1:], duration=80, loop=0)
    image = Summary.Image(height=size[1], width=size[0], colorspace=3, encoded_image_string=content.getvalue())
    writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)


def _rows(timesteps: int, played: list[Played]) -> list[dict[str, Any]]:
    return [
        {
            "timesteps": timesteps,
            "episode": number,
            "return": episode.extrinsic_return,
            "length": episode.length,
            "coverage": episode.coverage,
        }
        for number, episode in enumerate(played)
    ]
