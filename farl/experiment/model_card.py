"""The README of an exported agent: what it is, how it was trained, what it came to, how to load it."""

import json
from collections.abc import Sequence
from typing import Any

from farl.experiment.config import ExperimentConfig
from farl.experiment.evaluation import Evaluation
from farl.experiment.statistics import Estimate
from farl.experiment.yaml_source import write_yaml

_STANDARD = ("PPO", "A2C", "DQN", "SAC", "TD3", "DDPG")
_BEST = ("map.png", "overview.png")
_CONTRIB = ("TRPO", "RecurrentPPO", "QRDQN", "TQC", "CrossQ", "MaskablePPO")


def model_card(
    config: ExperimentConfig, learner: str, result: Evaluation | None, files: Sequence[str], farl_version: str
) -> str:
    """Write the card as Markdown with the Hugging Face Hub's header.

    :param config: How the agent was trained.
    :param learner: ``FAR(PPO)`` or ``PPO``.
    :param result: What it came to, if it was evaluated.
    :param files: Names of the files beside the card.
    :param farl_version: Version of FARL.
    :return: The text.
    """
    name, environment = config.algorithm.name, config.environment.id
    parts = [
        _header(config, name, environment, result),
        f"# {learner} on {environment}",
        f"{learner} trained for {config.total_timesteps:,} timesteps in `{environment}` with seed {config.seed}, by "
        f"FARL {farl_version} on Stable-Baselines3. The settings are in `config.yaml`, the numbers of the training in "
        "`metrics.json`.",
    ]
    if result is not None:
        rows = {"return": result.mean, "return, interquartile mean": result.iqm}
        if result.coverage is not None:
            rows["coverage"] = result.coverage
        table = "".join(f"| {name} | {of.value:.4g} | {_interval(result, of)} |\n" for name, of in rows.items())
        parts.append(
            f"| | mean | 95% interval |\n|---|---|---|\n{table}\n"
            f"Over {count_of(result.episodes)} of one trained agent, with "
            f"{'the most likely' if result.deterministic else 'sampled'} actions{_cut(result)}. The interval says "
            "nothing of other training seeds."
        )
    pictures = [file for file in files if file.endswith(".png")]
    if (best := next((name for name in _BEST if name in pictures), None)) is not None:
        parts.append(f"![where the agent went]({best})")
    parts.append(_loading(name, files))
    parts.append("## Train it again\n\n```\npip install farl\nfarl train config.yaml\n```")
    return "\n\n".join(parts) + "\n"


def count_of(episodes: int) -> str:
    """So many episodes, in words."""
    return f"{episodes:,} episode" + "s" * (episodes != 1)


def _interval(result: Evaluation, of: Estimate) -> str:
    return f"{of.low:.4g} to {of.high:.4g}" if result.episodes > 1 else "unknown"


def _cut(result: Evaluation) -> str:
    if not result.cut:
        return ""
    which = f" {result.cut} of them" if result.cut < result.episodes else ""
    return f",{which} cut off after {max(result.lengths):,} steps"


def _loading(name: str, files: Sequence[str]) -> str:
    module = "sb3_contrib" if name in _CONTRIB else "stable_baselines3"
    parts = ["## Load it"]
    normalised = (
        'Observations were normalised: `VecNormalize.load("vec_normalize.pkl", venv)` restores the statistics.'
        if "vec_normalize.pkl" in files
        else None
    )
    if name in _STANDARD + _CONTRIB:
        parts.append(
            f'Without FARL:\n\n```python\nfrom {module} import {name}\n\nmodel = {name}.load("model.zip")\n```'
        )
    else:
        parts.append(
            f"```python\nfrom farl.experiment.algorithms import algorithm_class\n\n"
            f'model = algorithm_class("{name}").load("model.zip")\n```'
        )
    if "far_model.zip" in files:
        parts.append(
            f"With its fragments and their curiosity modules:\n\n```python\nfrom {module} import {name}\n\n"
            f'from farl import FAR\n\nmodel = FAR({name}).load("far_model.zip")\n```\n\n'
            "The optimiser states of the modules are left out: they act as they did, and begin with a fresh optimiser "
            "if they are trained further."
        )
    if normalised is not None:
        parts.append(normalised)
    return "\n\n".join(parts)


def _header(config: ExperimentConfig, name: str, environment: str, result: Evaluation | None) -> str:
    data: dict[str, Any] = {
        "library_name": "stable-baselines3",
        "tags": ["reinforcement-learning", "deep-reinforcement-learning", "stable-baselines3", "farl", environment],
    }
    if result is not None:
        spread = max(result.mean.high - result.mean.value, result.mean.value - result.mean.low)
        data["model-index"] = [
            {
                "name": f"FAR({name})" if config.far is not None else name,
                "results": [
                    {
                        "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
                        "dataset": {"name": environment, "type": environment},
                        "metrics": [
                            {
                                "type": "mean_reward",
                                "value": f"{result.mean.value:.2f}" + (result.episodes > 1) * f" +/- {spread:.2f}",
                                "name": "mean_reward",
                            }
                        ],
                    }
                ],
            }
        ]
    return write_yaml(json.loads(json.dumps(data)), "---\n") + "---"
