"""Checkpoints: a folder that appears whole or not at all, and says of itself whether it is intact.

A checkpoint holds the model's zip, the replay buffer of off-policy algorithms, the VecNormalize statistics, and the
state of everything around them: see docs/resume.md.
"""

import logging
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from farl.errors import ConfigError
from farl.experiment.manifest import read_manifest, write_manifest
from farl.memory.storage import load_state, save_state
from farl.sb3.archives import save_without_pickles

_log = logging.getLogger(__name__)

_MODEL = "model.zip"
_STATE = "state.safetensors"
_REPLAY = "replay_buffer.safetensors"
_PARTS = {"run", "environments", "model", "exploration", "events"}
"""Of the state that a run goes on from."""
_NAME = re.compile(r"^step_(\d+)(?:\.(\d+))?$")


@dataclass(frozen=True)
class Checkpoint:
    """An intact checkpoint on disk."""

    path: Path
    timesteps: int
    algorithm: str
    far: bool

    @property
    def model_file(self) -> Path:
        """The zip that ``load`` of the algorithm reads."""
        return self.path / _MODEL


def save_checkpoint(
    folder: Path,
    model: BaseAlgorithm,
    algorithm: str,
    extra: Mapping[str, Any],
    keep: int,
    replay: bool = True,
    copies: Sequence[Path] = (),
) -> Path:
    """Save a checkpoint below ``folder`` and remove all but the ``keep`` latest.

    :param folder: the run's folder of checkpoints
    :param model: what to save, with its environment
    :param algorithm: its name in the configuration
    :param extra: further state, a tree of dicts, lists, arrays, tensors, numbers and strings
    :param keep: how many checkpoints stay
    :param replay: whether to save the replay buffer, which only going on with the training needs
    :param copies: files that are kept with it, such as the run's ``config.yaml``
    """
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(".unfinished-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    unfinished = Path(tempfile.mkdtemp(dir=folder, prefix=".unfinished-"))
    try:
        save_without_pickles(model, unfinished / _MODEL)
        save_state(_as_tensors({"norm": _norm_state(model), **extra}), unfinished / _STATE)
        if replay and isinstance(model, OffPolicyAlgorithm) and model.replay_buffer is not None:
            save_state(_as_tensors(_replay_state(model.replay_buffer)), unfinished / _REPLAY)
        for file in copies:
            shutil.copyfile(file, unfinished / file.name)
        write_manifest(unfinished, int(model.num_timesteps), algorithm, getattr(model, "far", None) is not None)
        for file in unfinished.iterdir():
            _flush_to_disk(file)
        unfinished.chmod(0o755)
        target = _free_name(folder, int(model.num_timesteps))
        os.replace(unfinished, target)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    for old in _sorted(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def latest_path(folder: Path) -> Path | None:
    """Return the folder of the latest checkpoint, intact or not; None if there is none."""
    found = _sorted(folder)
    return found[-1] if found else None


def latest_checkpoint(folder: Path) -> Checkpoint:
    """The latest intact checkpoint below ``folder``, every byte of it checked; damaged ones are told and passed over.

    :raises ConfigError: there is none
    """
    again = f"train again with: farl train {folder.parent}/config.yaml"
    found = _sorted(folder)
    if not found:
        raise ConfigError(f"{folder.parent}: has no checkpoint yet; {again}")
    damage: list[str] = []
    for path in reversed(found):
        try:
            manifest = read_manifest(path)
            missing = {_MODEL, _STATE} - manifest.files.keys()
            if missing:
                raise ConfigError(f"{path / min(missing)}: missing from the checkpoint")
        except ConfigError as error:
            damage.append(str(error))
            continue
        if damage:
            _log.warning("%s; going by the checkpoint before: %s", damage[0], path)
        return Checkpoint(path, manifest.timesteps, manifest.algorithm, manifest.far)
    raise ConfigError(f"{damage[0]}; there is no other that is whole; {again}")


def read_checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the ``extra`` state that was saved, with its arrays as tensors."""
    state: Any = load_state(checkpoint.path / _STATE)
    if not isinstance(state, dict) or not state.keys() >= _PARTS or not isinstance(state["run"], dict):
        raise ConfigError(f"{checkpoint.path / _STATE}: holds no state to go on from")
    return state


def restore_replay(checkpoint: Checkpoint, model: BaseAlgorithm) -> None:
    """Fill the replay buffer of a model that was loaded from ``checkpoint.model_file``, if it has one."""
    replay_file = checkpoint.path / _REPLAY
    if replay_file.is_file() and isinstance(model, OffPolicyAlgorithm) and model.replay_buffer is not None:
        _restore_replay(model.replay_buffer, _as_arrays(load_state(replay_file)))


def restore_normalisation(checkpoint: Checkpoint, venv: VecNormalize | None) -> None:
    """Put the saved running statistics into a VecNormalize, if there is one."""
    norm = _as_arrays(load_state(checkpoint.path / _STATE))["norm"]
    if venv is None or norm is None:
        return
    for name, moments in norm.items():
        statistics = getattr(venv, name)
        for key, value in moments.items():
            holder = statistics[key] if isinstance(statistics, dict) else statistics
            holder.mean, holder.var, holder.count = value["mean"], value["var"], value["count"]


def hold_normalisation(checkpoint: Checkpoint, venv: VecEnv) -> None:
    """Let a VecNormalize, if it is one, stand still at the saved statistics and leave rewards as they are."""
    if isinstance(venv, VecNormalize):
        venv.training = venv.norm_reward = False
        restore_normalisation(checkpoint, venv)


def _norm_state(model: BaseAlgorithm) -> dict[str, Any] | None:
    venv = model.get_vec_normalize_env()
    if venv is None:
        return None
    state: dict[str, Any] = {}
    for name in ("obs_rms", "ret_rms"):
        statistics = getattr(venv, name, None)
        if statistics is None:
            continue
        parts = statistics if isinstance(statistics, dict) else {"": statistics}
        state[name] = {
            key: {"mean": np.asarray(part.mean), "var": np.asarray(part.var), "count": float(part.count)}
            for key, part in parts.items()
        }
    return state


def _replay_state(buffer: ReplayBuffer) -> dict[str, Any]:
    """The filled part of every array of the buffer."""
    filled = buffer.buffer_size if buffer.full else min(buffer.pos + 1, buffer.buffer_size)
    arrays: dict[str, Any] = {}
    for name, value in vars(buffer).items():
        parts = value if isinstance(value, dict) else {"": value}
        if parts and all(isinstance(part, np.ndarray) for part in parts.values()):
            arrays[name] = {key: part[:filled] for key, part in parts.items()}
    return {"pos": int(buffer.pos), "full": bool(buffer.full), "arrays": arrays}


def _restore_replay(buffer: ReplayBuffer, state: dict[str, Any]) -> None:
    for name, parts in state["arrays"].items():
        holder = getattr(buffer, name)
        for key, saved in parts.items():
            array = holder[key] if isinstance(holder, dict) else holder
            array[: len(saved)] = saved
    buffer.pos, buffer.full = state["pos"], state["full"]


def _as_tensors(tree: Any) -> Any:
    if isinstance(tree, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(tree)).reshape(tree.shape)
    if isinstance(tree, np.generic):
        return tree.item()
    if isinstance(tree, Mapping):
        return {key: _as_tensors(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_as_tensors(value) for value in tree]
    return tree


def _as_arrays(tree: Any) -> Any:
    if isinstance(tree, torch.Tensor):
        return tree.numpy()
    if isinstance(tree, dict):
        return {key: _as_arrays(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_as_arrays(value) for value in tree]
    return tree


def _flush_to_disk(file: Path) -> None:
    with file.open("rb+") as stream:
        os.fsync(stream.fileno())


def _free_name(folder: Path, timesteps: int) -> Path:
    """A new name even when the same step was saved before, so that no intact checkpoint is ever taken away first."""
    path, number = folder / f"step_{timesteps:09d}", 1
    while path.exists():
        number += 1
        path = folder / f"step_{timesteps:09d}.{number}"
    return path


def _sorted(folder: Path) -> list[Path]:
    matches = [(_NAME.match(path.name), path) for path in folder.glob("step_*") if path.is_dir()]
    numbered = [(int(match[1]), int(match[2] or 1), path) for match, path in matches if match]
    return [path for _, _, path in sorted(numbered)]
