"""What becomes of a run that fails: its state is saved, and the reason told in a few lines."""

import errno
import logging
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from farl.errors import ConfigError
from farl.experiment.checked_batch import BatchCheck
from farl.experiment.checked_env import last_line
from farl.experiment.checkpoint import latest_path
from farl.experiment.files import write_atomically
from farl.experiment.run_directory import RunDirectory

__all__ = ["Soundness", "TrainingFailed", "close_quietly", "failed", "unsound_weights"]

_LOG = logging.getLogger(__name__)
_CHECKING_TIME = 0.02
"""Share of the wall-clock time that looking at the weights may take."""
_SECONDS_BETWEEN_LOOKS = 2.0
_PLAIN_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "permission denied",
    errno.EIO: "the disk does not work",
}


class TrainingFailed(Exception):
    """Training ended by an error; ``checkpoint`` holds everything up to the last step that was completed.

    :ivar reason: what failed and where, one line
    :ivar timesteps: that were completed
    :ivar run: the run directory; None for none
    :ivar checkpoint: the latest that can be resumed from; None for none
    :ivar lost: what is not in it, in words; empty where nothing is lost
    :ivar log: the file with the whole traceback; None where it could not be written
    """

    def __init__(
        self,
        reason: str,
        timesteps: int,
        run: Path | None = None,
        checkpoint: Path | None = None,
        lost: str = "",
        log: Path | None = None,
    ) -> None:
        super().__init__(reason, timesteps, run, checkpoint, lost, log)
        self.reason, self.timesteps, self.run = reason, timesteps, run
        self.checkpoint, self.lost, self.log = checkpoint, lost, log

    def __str__(self) -> str:
        return self.reason

    @property
    def lines(self) -> list[str]:
        """What to tell the user."""
        told = [f"training failed after {self.timesteps:,} timesteps: {self.reason}"]
        if self.log is not None:
            told.append(f"the whole traceback: {self.log}")
        if self.lost:
            told.append(self.lost)
        if self.run is not None and self.checkpoint is not None:
            told.append(f"saved {self.checkpoint}; go on with: farl resume {self.run}")
        return told


def failed(
    error: Exception,
    model: BaseAlgorithm,
    run: RunDirectory | None,
    save: Callable[[], Path],
) -> TrainingFailed:
    """Save what can be saved and return what to raise.

    :param error: what ended the training
    :param model: as it was then
    :param run: the run directory, None for none
    :param save: writes a checkpoint of the last completed step and returns it
    """
    reason = _reason(error, model)
    told = "".join(traceback.format_exception(error))
    if run is None:
        return TrainingFailed(reason, model.num_timesteps)
    saved, lost = None, ""
    if model.num_timesteps == 0:
        lost = "nothing was learnt yet, so nothing was saved"
    elif unsound_weights(model) is not None:
        lost = "nothing was saved, for the weights are no longer numbers"
    else:
        try:
            saved = save()
        except Exception as second:  # whatever it is, the first error is what the user has to know
            lost = f"what came after the latest checkpoint could not be saved: {plain_reason(second)}"
            told += f"\nand while this was saved:\n{traceback.format_exc()}"
    log: Path | None = run.error_file
    try:
        write_atomically(run.error_file, told)
    except OSError:
        log = None
        _LOG.error("%s", told.rstrip())  # what cannot be written goes to the terminal
    return TrainingFailed(reason, model.num_timesteps, run.path, saved or latest_path(run.checkpoints), lost, log)


class _Closable(Protocol):
    def close(self) -> None: ...


def close_quietly(thing: _Closable, name: str) -> None:
    """Close something; what then goes wrong is told in one line and hides nothing that went wrong before."""
    try:
        thing.close()
    except Exception as error:
        _LOG.warning("%s could not be closed: %s", name, plain_reason(error))


def plain_reason(error: BaseException) -> str:
    """Return what an error says in one line, in plain words where the operating system raised it."""
    if isinstance(error, ConfigError):
        return "; ".join(" ".join(problem.split()) for problem in error.problems)
    if isinstance(error, OSError) and error.errno is not None:
        reason = _PLAIN_REASONS.get(error.errno, (error.strerror or "cannot be written").lower())
        return f"{reason} ({error.filename})" if error.filename else reason
    return last_line(error)


def _reason(error: Exception, model: BaseAlgorithm) -> str:
    # What torch says of them, far from where they arose, helps nobody.
    return plain_reason(error) if isinstance(error, ConfigError) else unsound_weights(model) or plain_reason(error)


def unsound_weights(model: BaseAlgorithm) -> str | None:
    """Say which weights are NaN or infinite, or return None."""
    policy = getattr(model, "policy", None)
    if not isinstance(policy, torch.nn.Module):
        return None
    for name, value in policy.state_dict().items():
        if isinstance(value, torch.Tensor) and value.is_floating_point() and not bool(torch.isfinite(value).all()):
            return f"weights of the policy became NaN or infinite ({name}); {_CALMER}"
    return None


_CALMER = "lower learning_rate or max_grad_norm, or normalise observations and rewards"


class Soundness(BaseCallback):
    """Ends a run that has gone wrong without a word, and counts environments that were made anew.

    What ends it: observations of a batch that are not what they have to be; NaN in rewards, losses or weights; a run
    directory that is gone.

    :param run: the run directory, None for none
    :param counting: whether environments can be made anew
    """

    def __init__(self, run: Path | None, counting: bool) -> None:
        super().__init__()
        self.restarts = 0
        """Environments that were made anew after a fault."""
        self._run, self._counting = run, counting
        self._looked = self._began = 0.0
        self._looking = 0.0
        self._check: BatchCheck | None = None

    def _on_training_start(self) -> None:
        self._began = self._looked = time.monotonic()
        self._check = BatchCheck(self.training_env)
        self._check(self.model._last_obs)

    def _on_rollout_start(self) -> None:
        if self._check is not None and self._check.env is not self.training_env:  # a task of a sequence has begun
            self._check = BatchCheck(self.training_env)
        for name, value in self.model.logger.name_to_value.items():
            if "loss" in name and isinstance(value, int | float | np.number) and not np.isfinite(value):
                raise ConfigError(f"{name} became {value}; {_CALMER}")
        now = time.monotonic()
        if self._looking <= _CHECKING_TIME * (now - self._began):
            if (problem := unsound_weights(self.model)) is not None:
                raise ConfigError(problem)
            self._looking += time.monotonic() - now

    def _on_step(self) -> bool:
        assert self._check is not None
        self._check(self.locals.get("new_obs", self.model._last_obs))
        rewards: Any = self.locals.get("rewards")
        if rewards is not None and not np.isfinite(rewards).all():
            number = int(np.flatnonzero(~np.isfinite(rewards))[0])
            raise ConfigError(f"environment {number} gave {rewards[number]} as the reward")
        if self._counting:
            self.restarts += sum(info.get("restarts", 0) for info in self.locals["infos"])
            self.logger.record("environment/restarts", self.restarts)
        if self._run is not None and time.monotonic() - self._looked > _SECONDS_BETWEEN_LOOKS:
            self._looked = time.monotonic()
            if not self._run.is_dir():
                raise ConfigError(f"{self._run}: the run directory was deleted or moved while it was written to")
        return True
