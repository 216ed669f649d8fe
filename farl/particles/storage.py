"""Files of filters: a state file whose header says what it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from farl.memory import load_state, save_state


def save_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Write tensors and a header of JSON values to ``path``; a reader sees the old file or the new one, never a part.

    Raises:
        ValueError: if the folder does not exist.
    """
    if not path.parent.is_dir():
        raise ValueError(f"cannot write {path}: the folder {path.parent} does not exist")
    save_state({"header": header, "tensors": tensors}, path)


def load_tensors(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_tensors` wrote.

    Raises:
        ValueError: if the file is missing, truncated, or holds something other than ``kind``.
    """
    if not path.is_file():
        raise ValueError(f"no such file: {path}")
    state = load_state(path)
    header = state.get("header") if isinstance(state, dict) else None
    if not isinstance(header, dict) or header.get("kind") != kind:
        raise ValueError(f"{path} holds something other than a {kind}")
    return state["tensors"], header
