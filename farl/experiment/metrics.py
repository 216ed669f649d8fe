"""What a run is judged by, and on what it ran."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

import farl


def library_versions() -> dict[str, str | None]:
    """Version of each library that can change a result."""
    packages = {"sb3": "stable-baselines3", "numpy": "numpy", "gymnasium": "gymnasium", "minigrid": "minigrid"}
    return {
        "farl": farl.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name: _version(package) for name, package in packages.items()},
    }


def machine_facts() -> dict[str, Any]:
    """The processor, its cores that this process may use, the GPU if any, and the system."""
    import os

    return {
        "cpu": _cpu_model(),
        "cpu_count": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.release()}",
    }


def curiosity_metrics(model: BaseAlgorithm) -> dict[str, int | None]:
    """Fragments and recalls since the start of training, fragments held now, and the bytes of the long-term memory.

    All None for an algorithm without fragmentation and recall.
    """
    curiosity = getattr(model, "curiosity", None)
    if curiosity is None:
        return {"fragments": None, "fragments_in_memory": None, "recalls": None, "ltm_bytes": None}
    return {
        "fragments": int(curiosity.fragments),
        "fragments_in_memory": len(curiosity.memory),
        "recalls": int(curiosity.recalls),
        "ltm_bytes": int(curiosity.memory_bytes),
    }


def episode_metrics(model: BaseAlgorithm) -> dict[str, float | None]:
    """Mean extrinsic return, length and success rate of the latest episodes (100 by default), None where unknown."""
    episodes = list(model.ep_info_buffer or ())
    successes = list(model.ep_success_buffer or ())
    return {
        "ep_rew_mean": float(np.mean([episode["r"] for episode in episodes])) if episodes else None,
        "ep_len_mean": float(np.mean([episode["l"] for episode in episodes])) if episodes else None,
        "success_rate": float(np.mean(successes)) if successes else None,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
