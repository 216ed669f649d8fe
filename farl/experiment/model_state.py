"""What a model needs beside its zip to go on, bit for bit, where it was: its rollout, its log, and all randomness."""

import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from stable_baselines3.common import noise
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from stable_baselines3.common.logger import Image

from farl.plain import Known, NotPlainError, from_plain, put_into, to_plain

__all__ = [
    "model_state",
    "prepare_model",
    "preserved_randomness",
    "random_state",
    "restore_randomness",
    "take_up_model",
]

_LSTM = "_last_lstm_states"
_PRESENT = ("_last_obs", "_last_original_obs", "_last_episode_starts")
"""Attributes that belong to the episodes that go on."""
_NOISE: Known = {kind.__name__: kind for kind in vars(noise).values() if isinstance(kind, type)}
_LOGGED: Known = {"Image": Image}
_GSDE = ("exploration_mat", "exploration_matrices")


def model_state(model: Any) -> dict[str, Any]:
    """Return the state of a ``Stepwise`` model between two steps, beside what ``save`` writes.

    Nothing is changed by it.
    """
    logger = model.logger
    return {
        "attributes": _attributes(model),
        "lstm": _lstm_state(model),
        "action_noise": None if model.action_noise is None else to_plain(model.action_noise, _NOISE),
        "gsde": [{name: getattr(each, name).detach() for name in _GSDE} for each in _state_dependent(model)],
        "log": {
            "values": _plain_parts(logger.name_to_value, _LOGGED),
            "counts": _plain_parts(logger.name_to_count, {}),
            "excluded": _plain_parts(logger.name_to_excluded, {}),
        },
        "random": random_state(model),
        "open": model.open_state(),
    }


def prepare_model(model: Any, state: Mapping[str, Any], anew: bool) -> None:
    """Prepare a loaded model for ``learn``.

    :param anew: whether its environments could not be restored, and begin new episodes
    """
    skipped = _PRESENT if anew else ()
    for name, value in state["attributes"].items():
        if name not in skipped:
            setattr(model, name, from_plain(value))
    if state["lstm"] is not None:
        kind = type(getattr(model, _LSTM))
        setattr(model, _LSTM, kind(*(tuple(part.to(model.device) for part in pair) for pair in state["lstm"])))
    model.reopen(state["open"], anew)


def take_up_model(model: Any, state: Mapping[str, Any], seconds: float) -> None:
    """Put a model, which has begun to learn and pauses before its first step, where it was.

    :param seconds: that the run has taken before
    """
    model.take_up(state["open"])
    model.start_time, model._num_timesteps_at_start = time.time_ns() - int(seconds * 1e9), 0
    if state["action_noise"] is not None:
        model.action_noise = put_into(model.action_noise, state["action_noise"], _NOISE)
    for each, saved in zip(_state_dependent(model), state["gsde"], strict=True):
        for name in _GSDE:
            setattr(each, name, saved[name].to(model.device))
    for name, held in (
        ("values", model.logger.name_to_value),
        ("counts", model.logger.name_to_count),
        ("excluded", model.logger.name_to_excluded),
    ):
        held.clear()
        held.update({key: from_plain(value, _LOGGED) for key, value in state["log"][name].items()})
    restore_randomness(model, state["random"])


def random_state(model: BaseAlgorithm) -> dict[str, Any]:
    """Return the state of all random number generators but the environments'."""
    return {
        "python": to_plain(random.getstate()),
        "numpy": to_plain(np.random.get_state(legacy=True)),  # noqa: NPY002
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "actions": to_plain(model.action_space.np_random.bit_generator.state),
    }


def restore_randomness(model: BaseAlgorithm, state: Mapping[str, Any]) -> None:
    """Restore what ``random_state`` returned."""
    random.setstate(from_plain(state["python"]))
    np.random.set_state(from_plain(state["numpy"]))  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([device.cpu() for device in state["cuda"]])
    model.action_space.np_random.bit_generator.state = from_plain(state["actions"])


@contextmanager
def preserved_randomness(model: BaseAlgorithm) -> Iterator[None]:
    """Undo all draws of the block: for what is done when there is time, and must change nothing."""
    state = random_state(model)
    try:
        yield
    finally:
        restore_randomness(model, state)


def _attributes(model: Any) -> dict[str, Any]:
    """All that is data among a model's attributes: counters, statistics, the latest observations, settings."""
    states, variables = model._get_torch_save_params()
    left_out = {*model._excluded_save_params(), *states, *variables, _LSTM}
    return _plain_parts({name: value for name, value in vars(model).items() if name not in left_out}, {})


def _plain_parts(parts: Mapping[str, Any], known: Known) -> dict[str, Any]:
    found = {}
    for name, value in parts.items():
        try:
            plain = to_plain(value, known)
        except NotPlainError:
            continue
        if not _has_tensor(plain):  # such as DQN's statistics of batch norms, which are the networks' own
            found[name] = plain
    return found


def _has_tensor(tree: Any) -> bool:
    if isinstance(tree, torch.Tensor):
        return True
    parts = tree.values() if isinstance(tree, Mapping) else tree if isinstance(tree, list) else ()
    return any(map(_has_tensor, parts))


def _lstm_state(model: Any) -> list[list[torch.Tensor]] | None:
    states = getattr(model, _LSTM, None)
    return None if states is None else [[part.detach() for part in pair] for pair in states]


def _state_dependent(model: Any) -> list[Any]:
    """The distributions whose noise is drawn for several steps (gSDE)."""
    policy = getattr(model, "policy", None)
    if not (getattr(model, "use_sde", False) and isinstance(policy, torch.nn.Module)):
        return []
    found = [getattr(module, "action_dist", None) for module in policy.modules()]
    return [each for each in found if isinstance(each, StateDependentNoiseDistribution)]
