"""The configurations that come with FARL, found by their bare names from any directory."""

import importlib.resources
import re
from importlib.resources.abc import Traversable
from pathlib import Path

from farl.errors import ConfigError, did_you_mean

_DURATION = re.compile(r".*\b(second|minute|hour|day|week)s?\b.*\b(cores?|CPUs?|GPUs?)\b", re.IGNORECASE)
"""A sentence that says how long a run takes on which machine."""


def shipped_configs() -> dict[str, str]:
    """Bare name -> what it is and how long it takes, from the comment at the top of the file."""
    files = importlib.resources.files("farl.configs").iterdir()
    yaml_files = sorted((file for file in files if file.name.endswith(".yaml")), key=lambda file: file.name)
    return {file.name.removesuffix(".yaml"): _description(file) for file in yaml_files}


def find_config(reference: str) -> Traversable:
    """The file that the user means: a path, or the bare name of a shipped configuration.

    :raises ConfigError: neither exists
    """
    path = Path(reference)
    try:
        exists = path.exists()
    except (OSError, ValueError):
        exists = False
    if exists:
        return path
    bare = reference.removesuffix(".yaml")
    known = shipped_configs()
    if bare in known:
        return importlib.resources.files("farl.configs") / f"{bare}.yaml"
    hint = did_you_mean(path.name.removesuffix(".yaml"), known)
    raise ConfigError(f"{reference}: no such file{hint}; farl list configs shows the ones that come with FARL")


def _description(file: Traversable) -> str:
    comment: list[str] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        text = line.lstrip("#").strip()
        if not text.startswith("yaml-language-server"):
            comment.append(text)
    sentences = [sentence.strip().rstrip(".") for sentence in " ".join(comment).split(". ")]
    duration = next((sentence.partition(";")[0] for sentence in sentences if _DURATION.match(sentence)), "")
    return f"{sentences[0]}." + (f" {duration}." if duration else "")
