"""Files of filters: a state file whose header says what it holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from farl.errors import ConfigError
from farl.memory import load_state, save_state

if TYPE_CHECKING:
    from farl.particles.weighted import WeightedParticleFilter

_FILTER = "farl.WeightedParticleFilter"


def save_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Write tensors and a header of JSON values to ``path``; a reader sees the old file or the new one, never a part.

    :raises ConfigError: if the folder does not exist
    """
    if not path.parent.is_dir():
        raise ConfigError(f"cannot write {path}: the folder {path.parent} does not exist")
    save_state({"header": header, "tensors": tensors}, path)


def load_tensors(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_tensors` wrote.

    :raises ConfigError: if the file is missing, truncated, or holds something other than ``kind``
    """
    if not path.is_file():
        raise ConfigError(f"no such file: {path}")
    state = load_state(path)
    header = state.get("header") if isinstance(state, dict) else None
    if not isinstance(header, dict) or header.get("kind") != kind:
        raise ConfigError(f"{path} holds something other than a {kind}")
    return state["tensors"], header


def save_filter(filter_: WeightedParticleFilter, path: Path) -> None:
    """Write particles, weights, optimiser and random state of a filter."""
    tensors = {"log_weights": filter_.log_weights, "generator": filter_.generator.get_state()}
    tensors |= {f"parameters.{name}": value for name, value in filter_.ensemble.parameters.items()}
    tensors |= {f"buffers.{name}": value for name, value in filter_.ensemble.buffers.items()}
    tensors |= {f"optimizer.{name}": value for name, value in filter_.optimizer.state().items()}
    header = {
        "kind": _FILTER,
        "n_particles": filter_.n_particles,
        "replicas": filter_.lead[0] if filter_.lead else None,
        "processes": filter_.group.size,
        "mixture": filter_.mixture,
        "outputs": filter_.kind,
    }
    save_tensors(path, tensors, header)


def filter_header(path: Path) -> dict[str, Any]:
    """Return what a filter's file says of it.

    :raises ConfigError: if the file is no such file
    """
    return load_tensors(path, _FILTER)[1]


def restore_filter(filter_: WeightedParticleFilter, path: Path) -> None:
    """Take up what :func:`save_filter` wrote.

    :raises ConfigError: if the file is no such file, or was written for another network or number of particles
    """
    tensors, header = load_tensors(path, _FILTER)
    here = (filter_.n_particles, filter_.lead[0] if filter_.lead else None, filter_.group.size)
    there = (header["n_particles"], header["replicas"], header["processes"])
    if here != there:
        raise ConfigError(
            f"{path} holds (particles, replicas, processes) = {there}, this filter has {here}: build it alike"
        )
    if header.get("outputs", filter_.kind) != filter_.kind:
        raise ConfigError(
            f"{path} was trained with a loss of {header['outputs']}, this filter has one of {filter_.kind}: give the "
            "same loss=..."
        )
    for prefix, stack in (("parameters.", filter_.ensemble.parameters), ("buffers.", filter_.ensemble.buffers)):
        found = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        shapes = {name: tuple(value.shape) for name, value in stack.items()}
        if {name: tuple(value.shape) for name, value in found.items()} != shapes:
            raise ConfigError(f"{path} was written for another network: its {prefix[:-1]} differ in name or shape")
        for name, value in stack.items():
            with torch.no_grad():
                value.copy_(found[name])
    filter_.log_weights = tensors["log_weights"].to(filter_.log_weights)
    filter_.generator.set_state(tensors["generator"])
    prefix = "optimizer."
    filter_.optimizer.load({n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)})
