"""Records a video of the latest checkpoint of a run."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv

from farl.errors import ConfigError
from farl.experiment.checkpoint import hold_normalisation, latest_checkpoint
from farl.experiment.config import EnvironmentConfig
from farl.experiment.environments import make_probe, make_vec_env
from farl.experiment.learner import limit_threads, load_learner
from farl.experiment.playing import Observe, Played, play, seen_reward
from farl.experiment.run_directory import RunDirectory
from farl.sb3.shadow import CuriosityShadow

Frame = npt.NDArray[np.uint8]

FORMATS = (".mp4", ".gif")
MOST_FILMED = 5_000
"""Steps of an episode that are filmed, if nothing else is said: minutes of film."""
RENDER_MODE = "rgb_array"
_CAPTION, _READABLE = 24, 320  # pixels: height of the caption, and the width that it takes


@dataclass(frozen=True)
class Recorded:
    """What was recorded.

    :ivar frames: their number
    :ivar deterministic: whether the most likely actions were taken
    :ivar episodes: what was played
    """

    frames: int
    deterministic: bool
    episodes: list[Played]


def record(
    run: RunDirectory,
    out: Path,
    episodes: int,
    deterministic: bool | None,
    seed: int,
    max_steps: int = MOST_FILMED,
    observe: Observe | None = None,
) -> Recorded:
    """Play ``episodes`` episodes and write them to ``out``, an mp4 or a gif.

    Fragment, surprisal and bonus are written below the pictures of agents with curiosity.

    :param deterministic: whether to take the most likely actions; None: only where reward from outside moved the agent
    :param max_steps: most steps of an episode; one that has more is cut off, and no other follows
    :param observe: called as the camera is, see ``play``
    :raises ConfigError: the format is unknown, the place cannot be written, the environment draws no pictures, or the
        run has no checkpoint that can be loaded
    """
    check_output(out)
    config = run.read_config()
    limit_threads(config)
    rate = frame_rate(config.environment)
    if rate is None:
        raise ConfigError(f"{config.environment.id} cannot be recorded: it has no render mode {RENDER_MODE!r}")
    checkpoint = latest_checkpoint(run.checkpoints)
    venv = make_vec_env(config.environment, seed, n_envs=1, render_mode=RENDER_MODE)
    try:
        hold_normalisation(checkpoint, venv)
        model = load_learner(config, checkpoint, None, run.trusted)
        if hasattr(model, "show_in"):
            model.show_in(venv)
        set_random_seed(seed)
        deterministic = seen_reward(model) if deterministic is None else deterministic
        with _video(out, rate) as append:
            camera = Camera(model, venv, append)

            def look(*step: Any) -> bool:
                return (observe is not None and observe(*step)) or camera(*step)

            played = play(model, venv, episodes, deterministic, look, max_steps)
        return Recorded(camera.frames, deterministic, played)
    finally:
        venv.close()


def frame_rate(environment: EnvironmentConfig) -> int | None:
    """Return the frames per second of an environment's pictures; None if it draws none.

    :raises ConfigError: as ``make_probe``
    """
    probe = make_probe(environment)
    metadata: dict[str, Any] = probe.unwrapped.metadata  # a VecEnvWrapper hides it
    probe.close()
    if RENDER_MODE not in (metadata.get("render_modes") or []):
        return None
    return int(metadata.get("render_fps") or 30)


class Camera:
    """Takes a picture of the first environment in each step of its episodes, as ``play`` calls it.

    :param model: plays; where it has curiosity, fragment, surprisal and bonus are written below the picture
    :param append: takes the frames, uint8[H, W, 3]
    :param limit: most frames; None takes all
    """

    def __init__(
        self, model: BaseAlgorithm, venv: VecEnv, append: Callable[[Frame], object], limit: int | None = None
    ) -> None:
        self.frames = 0
        self._venv, self._append, self._limit = venv, append, limit
        self._shadow = CuriosityShadow.of(model, venv)

    def __call__(
        self, observation: Any, actions: Any, ended: npt.NDArray[np.bool_], infos: list[dict[str, Any]]
    ) -> bool:
        """Take a picture, and say whether it was the last one."""
        text = "" if self._shadow is None else self._shadow.follow(observation, actions, ended, infos)
        frame = np.asarray(self._venv.get_images()[0], np.uint8)
        self._append(captioned(frame, text) if self._shadow is not None else _even(frame))
        self.frames += 1
        return self.frames == self._limit


def captioned(frame: Frame, text: str) -> Frame:
    """Write a line of text below a picture, uint8[H, W, 3]; small pictures are enlarged so that it can be read."""
    from PIL import Image, ImageDraw, ImageFont

    scale = max(-(-_READABLE // frame.shape[1]), 1)
    height, width = frame.shape[0] * scale, frame.shape[1] * scale
    canvas = Image.new("RGB", (width, height + _CAPTION), "white")
    canvas.paste(Image.fromarray(frame).resize((width, height), Image.Resampling.NEAREST))
    ImageDraw.Draw(canvas).text((6, height + 4), text, fill="#22272e", font=ImageFont.load_default(13))
    return _even(np.asarray(canvas))


def check_output(out: Path) -> None:
    """Refuse a path that cannot become a video.

    :raises ConfigError: with the reason
    """
    if out.suffix.lower() not in FORMATS:
        raise ConfigError(f"--out {out}: the name must end in {' or '.join(FORMATS)}")
    if out.exists():
        raise ConfigError(f"--out {out}: exists already; choose another name or remove it")
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no directory {out.parent}; make it first")


def _even(frame: Frame) -> Frame:
    """Video encoders want even sides."""
    return frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]


@contextmanager
def _video(out: Path, rate: int) -> Iterator[Callable[[Frame], object]]:
    """Open a video that appears whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=out.parent, prefix=".recording-", suffix=out.suffix.lower())
    os.close(handle)
    try:
        with _writer(temporary, rate) as append:
            yield append
        Path(temporary).chmod(0o644)
        os.replace(temporary, out)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def _writer(path: str, rate: int) -> Iterator[Callable[[npt.NDArray[np.uint8]], None]]:
    """Open a video; each frame goes to the file at once, for a long recording does not fit into memory."""
    import imageio.v2  # only those who record wait for it
    import imageio.v3

    file: Any
    if path.endswith(".gif"):
        with imageio.v2.get_writer(path, duration=1000 / rate, loop=0) as file:
            yield file.append_data
    else:
        with imageio.v3.imopen(path, "w", plugin="pyav") as file:
            file.init_video_stream("libx264", fps=rate)
            yield file.write_frame
