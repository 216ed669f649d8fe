"""Records a video of the latest checkpoint of a run."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import imageio.v2
import imageio.v3
import numpy as np
import numpy.typing as npt
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from farl.errors import ConfigError
from farl.experiment.checkpoint import latest_checkpoint, restore_normalisation
from farl.experiment.environments import make_probe, make_vec_env
from farl.experiment.learner import load_learner
from farl.experiment.run_directory import RunDirectory

FORMATS = (".mp4", ".gif")
_RENDER_MODE = "rgb_array"


def record(run: RunDirectory, out: Path, episodes: int, deterministic: bool, seed: int) -> int:
    """Play ``episodes`` episodes and write them to ``out``, an mp4 or a gif; returns the number of frames.

    Raises:
        ConfigError: the format is unknown, the place cannot be written, the environment draws no pictures, or the run
            has no checkpoint that can be loaded.
    """
    check_output(out)
    config = run.read_config()
    probe = make_probe(config.environment)
    metadata: dict[str, Any] = probe.unwrapped.metadata  # a VecEnvWrapper hides it
    modes, rate = metadata.get("render_modes") or [], int(metadata.get("render_fps") or 30)
    probe.close()
    if _RENDER_MODE not in modes:
        raise ConfigError(
            f"{config.environment.id} cannot be recorded: it has no render mode {_RENDER_MODE!r} "
            f"(it has: {', '.join(map(str, modes)) or 'none'})"
        )
    checkpoint = latest_checkpoint(run.checkpoints)
    venv = make_vec_env(config.environment, seed, n_envs=1, render_mode=_RENDER_MODE)
    try:
        if isinstance(venv, VecNormalize):
            venv.training = venv.norm_reward = False
            restore_normalisation(checkpoint, venv)
        model = load_learner(config, checkpoint, None)
        set_random_seed(seed)
        return _write(out, _frames(model, venv, episodes, deterministic), rate)
    finally:
        venv.close()


def check_output(out: Path) -> None:
    """Refuse a path that cannot become a video.

    Raises:
        ConfigError: with the reason.
    """
    if out.suffix.lower() not in FORMATS:
        raise ConfigError(f"--out {out}: the name must end in {' or '.join(FORMATS)}")
    if out.exists():
        raise ConfigError(f"--out {out}: exists already; choose another name or remove it")
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no directory {out.parent}; make it first")


def _frames(model: BaseAlgorithm, venv: VecEnv, episodes: int, deterministic: bool) -> Iterator[npt.NDArray[np.uint8]]:
    observation: Any = venv.reset()
    state: tuple[npt.NDArray[Any], ...] | None = None
    starts = np.ones(1, dtype=bool)
    yield _frame(venv)
    finished = 0
    while finished < episodes:
        action, state = model.predict(observation, state=state, episode_start=starts, deterministic=deterministic)
        observation, _, starts, _ = venv.step(action)
        finished += int(starts[0])
        yield _frame(venv)


def _frame(venv: VecEnv) -> npt.NDArray[np.uint8]:
    frame = np.asarray(venv.get_images()[0], dtype=np.uint8)
    # Video encoders want even sides.
    return frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]


def _write(out: Path, frames: Iterator[npt.NDArray[np.uint8]], rate: int) -> int:
    count = 0
    handle, temporary = tempfile.mkstemp(dir=out.parent, prefix=".recording-", suffix=out.suffix.lower())
    os.close(handle)
    try:
        with _writer(temporary, rate) as append:
            for frame in frames:
                append(frame)
                count += 1
        Path(temporary).chmod(0o644)
        os.replace(temporary, out)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return count


@contextmanager
def _writer(path: str, rate: int) -> Iterator[Callable[[npt.NDArray[np.uint8]], None]]:
    """Open a video; each frame goes to the file at once, for a long recording does not fit into memory."""
    file: Any
    if path.endswith(".gif"):
        with imageio.v2.get_writer(path, duration=1000 / rate, loop=0) as file:
            yield file.append_data
    else:
        with imageio.v3.imopen(path, "w", plugin="pyav") as file:
            file.init_video_stream("libx264", fps=rate)
            yield file.write_frame
