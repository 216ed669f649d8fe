"""A trained run as a folder that others can use, with FARL or without it, and its way to the Hugging Face Hub."""

import json
import math
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.vec_env import VecNormalize

from farl.errors import ConfigError
from farl.experiment.checkpoint import hold_normalisation, latest_checkpoint
from farl.experiment.config import ExperimentConfig, learner_name
from farl.experiment.environments import make_vec_env
from farl.experiment.evaluation import Evaluation, evaluate
from farl.experiment.files import write_atomically
from farl.experiment.learner import limit_threads, load_learner
from farl.experiment.model_card import count_of, model_card
from farl.experiment.playing import Observe
from farl.experiment.recording import record
from farl.experiment.run_directory import RunDirectory

PLAIN, WITH_FAR, NORMALISATION, VIDEO = "model.zip", "far_model.zip", "vec_normalize.pkl", "replay.mp4"
_COPIED = ("config.yaml", "metrics.json", "report.html")
_EVALUATION_SEED = 0
_VIDEO_STEPS = 1_000  # a card wants a short one


@dataclass(frozen=True)
class Exported:
    """What an export holds."""

    folder: Path
    sizes: dict[str, int]
    """File -> bytes."""
    notes: list[str]
    """What is missing, and why."""


def export(
    run: RunDirectory,
    out: Path,
    episodes: int,
    max_steps: int,
    tell: Callable[[str], None] = lambda line: None,
    bar: Callable[[int], AbstractContextManager[Observe | None]] = lambda episodes: nullcontext(),
) -> Exported:
    """Write the latest checkpoint of a run as ordinary SB3 files, with results, a video and a model card.

    :param run: A run with a checkpoint.
    :param out: A new or empty folder.
    :param episodes: Episodes of the evaluation on the card; 0 takes no evaluation.
    :param max_steps: Most steps of an episode of the evaluation; one that has more is cut off, as the card says.
    :param tell: Told what is being done.
    :param bar: Shows how the episodes go that are played.
    :return: What was written.
    :raises ConfigError: the folder is not empty, or the run has no checkpoint that can be loaded.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out}: is not an empty folder; choose another")
    config = run.read_config()
    limit_threads(config)
    checkpoint = latest_checkpoint(run.checkpoints)
    tell("loading the checkpoint")
    model = load_learner(config, checkpoint, None, run.trusted)
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    notes: list[str] = []
    try:
        if hasattr(model, "plain"):
            model.plain().save(unfinished / PLAIN)
            _thinned(checkpoint.model_file, unfinished / WITH_FAR)
        else:
            model.save(unfinished / PLAIN)
        _save_normalisation(config, run, unfinished)
        for name in _COPIED:
            if (run.path / name).is_file():
                shutil.copy(run.path / name, unfinished / name)
        for picture in sorted([*run.exploration.glob("*.png"), *run.exploration.glob("*.gif")]):
            shutil.copy(picture, unfinished / picture.name)
        result: Evaluation | None = None
        if episodes:
            tell(f"evaluating {count_of(episodes)} of at most {max_steps:,} steps (--episodes, --max-steps)")
            with bar(episodes) as observe:
                result = evaluate(run, episodes, None, _EVALUATION_SEED, max_steps, observe)
            write_atomically(unfinished / "evaluation.json", json.dumps(result.as_dict(), indent=2) + "\n")
        tell("recording a video")
        try:
            with bar(1) as observe:
                filmed = record(run, unfinished / VIDEO, 1, None, _EVALUATION_SEED, _VIDEO_STEPS, observe)
            if filmed.episodes[0].cut:
                notes.append(f"the video shows the first {_VIDEO_STEPS:,} steps of an episode")
        except ConfigError as error:
            notes.append(f"no video: {error.problems[0]}")
        card = model_card(
            config, learner_name(config), result, sorted(path.name for path in unfinished.iterdir()), version("farl")
        )
        write_atomically(unfinished / "README.md", card)
        unfinished.chmod(0o755)
        if out.is_dir():
            out.rmdir()
        os.replace(unfinished, out)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return Exported(out, {path.name: path.stat().st_size for path in sorted(out.iterdir())}, notes)


def push(folder: Path, repository: str, private: bool) -> str:
    """Upload an exported folder to the Hugging Face Hub, which ``HF_ENDPOINT`` may replace by another one.

    :param folder: What ``export`` wrote.
    :param repository: ``user/name``; made where it does not exist.
    :param private: Whether a new repository is private.
    :return: The address of the commit.
    :raises ConfigError: the library is missing, nobody is logged in, or the hub refuses.
    """
    require_login()
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload from FARL"))
    except HFValidationError as error:
        raise ConfigError(f"{repository}: is no name of a repository: {_brief(error)}") from None
    except (HfHubHTTPError, OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"{repository}: the hub cannot be reached, or refuses: {_brief(error)}") from None


def require_login() -> None:
    """Refuse to go on where nothing could be uploaded.

    :raises ConfigError: huggingface_hub is missing, or nobody is logged in.
    """
    try:
        from huggingface_hub import get_token
    except ImportError:
        raise ConfigError("farl push needs huggingface_hub: pip install 'farl[hub]'") from None
    if get_token() is None:
        raise ConfigError("not logged in to the Hugging Face Hub; log in with: hf auth login, or set HF_TOKEN")


def _save_normalisation(config: ExperimentConfig, run: RunDirectory, folder: Path) -> None:
    venv = make_vec_env(config.environment, seed=0, n_envs=1)
    try:
        if isinstance(venv, VecNormalize):
            hold_normalisation(latest_checkpoint(run.checkpoints), venv)
            venv.save(str(folder / NORMALISATION))
    finally:
        venv.close()


def _thinned(source: Path, target: Path) -> None:
    """The model with its fragments, compressed, without the optimiser's moments of each: two thirds of their size.

    It acts and is rewarded as before; where it is trained further, the modules' optimisers begin anew.
    """
    with zipfile.ZipFile(source) as whole, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as thin:
        for entry in whole.infolist():
            if entry.filename != "curiosity.pth":
                thin.writestr(entry.filename, whole.read(entry))
                continue
            with whole.open(entry) as stream:
                state = torch.load(stream, map_location="cpu", weights_only=True)
            with thin.open(entry.filename, "w", force_zip64=True) as stream:
                torch.save(_without_moments(state), stream)


def _without_moments(state: Any, inside: bool = False) -> Any:
    """Moments become zeros that take no place: one number, seen from all cells."""
    if isinstance(state, torch.Tensor):
        return torch.zeros(1, dtype=state.dtype).expand(state.shape) if inside and state.numel() else state
    if isinstance(state, dict):
        return {key: _without_moments(value, inside or "moment" in str(key)) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_without_moments(value, inside) for value in state)
    return state


def _brief(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def export_map(run: RunDirectory, out: Path, world: int, resolution: float | None) -> Path:
    """Write the map that the agent of a run built, in the format of ROS's map_server.

    :param out: the YAML file, or its picture
    :param world: number of the world, counted from 0
    :param resolution: metres a cell; None is that of the world
    :return: path of the YAML file
    :raises ConfigError: if the agent builds no map or knows nothing yet, or the file exists or cannot be written
    """
    if resolution is not None and not (math.isfinite(resolution) and resolution > 0.0):
        raise ConfigError(f"--resolution {resolution}: metres a cell, above 0")
    for path in {out, out.with_suffix(".yaml")}:
        if path.exists():
            raise ConfigError(f"--out {path}: exists already; choose another name or remove it")
    config = run.read_config()
    model: Any = load_learner(config, latest_checkpoint(run.checkpoints), None, run.trusted)
    if not hasattr(model, "save_map"):
        raise ConfigError(f"{run.path}: {learner_name(config)} builds no map; FARMap, FARMapPlus and others do")
    written: Path = model.save_map(out, world, resolution)
    return written
