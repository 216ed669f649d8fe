"""Population-based training (Jaderberg et al. 2017) by Ray Tune's own scheduler.

Ray Tune decides who copies whom and how settings change. Here stands only what it trains: a member that reports now and
then, with a checkpoint from which another one can go on with other settings.
"""

import importlib.util
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from farl.errors import ConfigError
from farl.experiment.config import ExperimentConfig
from farl.experiment.files import write_atomically
from farl.experiment.loading import resolved_yaml
from farl.experiment.pool import set_threads
from farl.experiment.sweep.backends import Resources, start_ray
from farl.experiment.sweep.objective import metric_value
from farl.experiment.sweep.search import Best, with_settings
from farl.experiment.sweep.settings import SearchSpace

_REPORTS = 10
"""How often a member reports over its training; it may be replaced each time."""
_HYPERPARAMETERS = "algorithm.hyperparameters."


@dataclass(frozen=True)
class Population:
    """What is trained."""

    config: ExperimentConfig
    spaces: Mapping[str, SearchSpace]
    """Setting -> where its first values are drawn from."""
    members: int
    metric: str
    direction: Literal["maximize", "minimize"]
    folder: Path
    """For Ray Tune's files and ``best.yaml``."""


def train_population(plan: Population, resources: Resources, console: Console) -> Best | None:
    """Train a population; write the last settings of its best member as ``best.yaml``.

    :param plan: What is trained.
    :param resources: Members at once, and threads of each.
    :param console: Where the outcome of each member is shown.
    :return: The best member; None where none finished.
    :raises ConfigError: Ray Tune is missing, or a setting cannot change while training.
    """
    fixed = [key for key in plan.spaces if not key.startswith((_HYPERPARAMETERS, "far."))]
    if fixed:
        raise ConfigError(f"--pbt: {fixed[0]} cannot change while training; search {_HYPERPARAMETERS}* and far.*")
    if importlib.util.find_spec("ray") is None or importlib.util.find_spec("pyarrow") is None:
        raise ConfigError("--pbt needs Ray Tune: pip install 'farl[ray]'")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    from ray import tune
    from ray.tune.schedulers import PopulationBasedTraining

    domains = {key: _domain(space) for key, space in plan.spaces.items()}
    mode = "max" if plan.direction == "maximize" else "min"
    plan.folder.mkdir(parents=True, exist_ok=True)
    with start_ray(resources):
        scheduler = PopulationBasedTraining(
            time_attr="timesteps",
            perturbation_interval=max(plan.config.total_timesteps // _REPORTS, 1),
            hyperparam_mutations=domains,
        )
        member = tune.with_parameters(_train_member, plan=plan, threads=resources.threads)
        tuner = tune.Tuner(
            tune.with_resources(member, {"cpu": resources.threads}),
            param_space=dict(domains),
            tune_config=tune.TuneConfig(
                metric="value",
                mode=mode,
                num_samples=plan.members,
                scheduler=scheduler,
                max_concurrent_trials=resources.jobs,
                reuse_actors=True,  # a member that is replaced goes on in its process
            ),
            run_config=tune.RunConfig(name="tune", storage_path=str(plan.folder.resolve()), verbose=0),
        )
        results = tuner.fit()
    ended = [result for number in range(len(results)) if "value" in ((result := results[number]).metrics or {})]
    for result in ended:
        told = ", ".join(f"{key}={value}" for key, value in (result.config or {}).items())
        console.print(f"{(result.metrics or {})['value']:.4g} with {told}", highlight=False)
    if not ended:
        return None
    best = results.get_best_result()
    settings = dict(best.config or {})
    config = with_settings(plan.config, settings).model_copy(update={"name": f"{plan.config.name}-best"})
    path = plan.folder / "best.yaml"
    write_atomically(path, resolved_yaml(config))
    assert best.metrics is not None
    return Best(float(best.metrics["value"]), settings, path, len(ended), 0, len(results) - len(ended))


def _train_member(settings: dict[str, Any], plan: Population, threads: int) -> None:
    """Train one member, from the start or from the checkpoint that Ray Tune gives it."""
    set_threads(threads)
    from ray import tune
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.vec_env import VecNormalize

    from farl.experiment.algorithms import algorithm_class
    from farl.experiment.environments import make_vec_env
    from farl.experiment.hyperparameter_values import build_hyperparameters
    from farl.experiment.learner import build_learner, learner_class
    from farl.experiment.metrics import curiosity_metrics, episode_metrics
    from farl.sb3.exploration import ExplorationCallback

    config = with_settings(plan.config, settings)
    venv = make_vec_env(config.environment, config.seed)
    exploration = ExplorationCallback(out_dir=None, image_freq=0)
    given = tune.get_checkpoint()

    class Report(BaseCallback):
        """Tells Ray Tune how the member does, with what another one needs to go on."""

        def _on_step(self) -> bool:
            return True

        def _on_rollout_start(self) -> None:
            if self.model.num_timesteps >= due[0]:
                due[0] += interval
                report(self.model)

    def report(model: BaseAlgorithm) -> None:
        known = {"coverage": exploration.coverage, **episode_metrics(model), **curiosity_metrics(model)}
        with tempfile.TemporaryDirectory() as folder:
            model.save(Path(folder) / "model.zip")
            normalised = model.get_vec_normalize_env()
            if normalised is not None:
                normalised.save(str(Path(folder) / "normalisation.pkl"))
            tune.report(
                {"value": metric_value(plan.metric, known), "timesteps": model.num_timesteps},
                checkpoint=tune.Checkpoint.from_directory(folder),
            )

    if given is None:
        model = build_learner(config, venv)
    else:
        with given.as_directory() as folder:
            normalisation = Path(folder) / "normalisation.pkl"
            if normalisation.is_file():
                venv = VecNormalize.load(str(normalisation), venv.venv if isinstance(venv, VecNormalize) else venv)
            changed = build_hyperparameters(
                algorithm_class(config.algorithm.name), config.algorithm.hyperparameters, venv.action_space.shape or ()
            )
            arguments: dict[str, Any] = {"far": config.far} if config.far is not None else {}
            model = learner_class(config).load(
                Path(folder) / "model.zip", env=venv, device=config.device, custom_objects=changed, **arguments
            )
    interval = max(config.total_timesteps // _REPORTS, 1)
    due = [(model.num_timesteps // interval + 1) * interval]
    try:
        if model.num_timesteps < config.total_timesteps:
            model.learn(
                config.total_timesteps - model.num_timesteps,
                callback=[exploration, Report()],
                reset_num_timesteps=given is None,
            )
        report(model)
    finally:
        venv.close()


def _domain(space: SearchSpace) -> Any:
    from ray import tune

    if space.log is not None:
        return tune.loguniform(*space.log)
    if space.uniform is not None:
        return tune.uniform(*space.uniform)
    if space.integer is not None:
        return tune.randint(space.integer[0], space.integer[1] + 1)
    return tune.choice(space.choice or [])
