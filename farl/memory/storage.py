"""State on disk: one file of tensors (safetensors) whose header holds the rest as JSON. No pickle."""

import json
import os
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from farl.errors import ConfigError

FORMAT = "farl-state-2"


def save_state(state: Any, path: str | os.PathLike[str], durable: bool = True) -> None:
    """Write a tree of dicts (string or integer keys), lists, tensors, numbers, strings and None to one file.

    The file appears whole or not at all: it is written under another name and then moved into place. Tensors that share
    their storage are written once.

    :param durable: whether to wait until the disk has it, so that it survives a loss of power
    :raises TypeError: if the tree holds anything else
    """
    tensors: dict[str, torch.Tensor] = {}
    names: dict[tuple[Any, ...], str] = {}
    document = _pack(state, tensors, names)
    text = json.dumps(document)
    # One entry, for the order of several is drawn by lot, and the same state is to give the same file.
    content = save(tensors, {"farl": f"{FORMAT} {_checksum(text)}\n{text}"})
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load_state(path: str | os.PathLike[str], device: str | torch.device = "cpu") -> Any:
    """Read what ``save_state`` wrote.

    :raises FileNotFoundError: if there is no such file
    :raises ConfigError: if the file is damaged or not one of ours
    """
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            header: Mapping[str, str] = file.metadata() or {}
            head, _, text = header.get("farl", "").partition("\n")
            kind, _, checksum = head.partition(" ")
            if kind != FORMAT:
                raise ConfigError(f"{path} is not a FARL state file (or one of another version)")
            if checksum != _checksum(text):
                raise ConfigError(f"{path} is damaged: its description has another checksum")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict, not iterable)
            return _unpack(json.loads(text), tensors)
    except FileNotFoundError:
        raise
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path} is damaged or not a FARL state file: {str(error)[:100]}") from error


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def _pack(node: Any, tensors: dict[str, torch.Tensor], names: dict[tuple[Any, ...], str]) -> Any:
    if isinstance(node, torch.Tensor | np.ndarray):
        tensor = torch.as_tensor(node)
        key = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()) if tensor.numel() else (id(node),)
        if key not in names:
            names[key] = str(len(names))
            tensors[names[key]] = tensor.detach().cpu().clone().contiguous()
        return {"tensor": names[key]}
    if isinstance(node, Mapping):
        return {"dict": [[key, _pack(value, tensors, names)] for key, value in node.items()]}
    if isinstance(node, list | tuple):
        return [_pack(value, tensors, names) for value in node]
    if node is None or isinstance(node, str | int | float | bool):
        return node
    raise TypeError(f"cannot save a {type(node).__name__}: a state holds tensors, numbers, strings, lists and dicts")


def _unpack(node: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(node, list):
        return [_unpack(value, tensors) for value in node]
    if isinstance(node, dict):
        if node.keys() == {"tensor"}:
            return tensors[node["tensor"]]
        if node.keys() != {"dict"}:
            raise ValueError("neither a tensor nor a dictionary")
        unpacked = {key: _unpack(value, tensors) for key, value in node["dict"]}
        if not all(isinstance(key, str | int) for key in unpacked):
            raise ValueError("a key is neither text nor a whole number")
        return unpacked
    return node
