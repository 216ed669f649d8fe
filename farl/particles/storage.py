"""Tensors and a JSON header in one safetensors file, written atomically."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor


def save_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Write tensors and a JSON header to ``path``; a reader sees the old file or the new one, never a part.

    Raises:
        ValueError: if the folder does not exist.
    """
    if not path.parent.is_dir():
        raise ValueError(f"cannot write {path}: the folder {path.parent} does not exist")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        # Views of one stack share memory, which safetensors refuses.
        own = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
        save_file(own, temporary, metadata={"farl": json.dumps(header)})
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_tensors(path: Path, kind: str, *, tensors: bool = True) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_tensors` wrote; with ``tensors=False`` the header alone.

    Raises:
        ValueError: if the file is missing, truncated, or holds something other than ``kind``.
    """
    if not path.is_file():
        raise ValueError(f"no such file: {path}")
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get("farl", "{}"))
            held: dict[str, torch.Tensor] = {n: file.get_tensor(n) for n in file.keys()} if tensors else {}  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise ValueError(f"{path} is not a file of FARL's, or is damaged: {error}") from error
    if header.get("kind") != kind:
        raise ValueError(f"{path} holds {header.get('kind', 'something unknown')}, not a {kind}")
    return held, header
