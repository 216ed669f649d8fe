"""The tasks of a sequence as a configuration describes them, and what is wrong with them."""

from typing import Any

from farl.errors import ConfigError
from farl.experiment.config import EnvironmentConfig, ExperimentConfig
from farl.experiment.one_environment import spaces_of


def task_environments(config: ExperimentConfig) -> list[EnvironmentConfig]:
    """The environment of each task; the configuration's own where there is no sequence."""
    if config.sequence is None:
        return [config.environment]
    return [task_environment(config, changes) for changes in config.sequence.tasks]


def task_environment(config: ExperimentConfig, changes: dict[str, Any]) -> EnvironmentConfig:
    """The configuration's environment as a task changes it.

    :raises ValidationError: the changes are none that it can have
    """
    own = config.environment.model_dump(exclude_unset=True)
    kwargs = changes.get("kwargs", {})
    if isinstance(kwargs, dict):  # else the model says what is wrong with it
        kwargs = {**own.get("kwargs", {}), **kwargs}
    return EnvironmentConfig.model_validate({**own, **changes, "kwargs": kwargs})


def task_at(config: ExperimentConfig, timesteps: int) -> int:
    """The number of the task that is learnt after ``timesteps``, from 0."""
    if config.sequence is None:
        return 0
    return min(timesteps // config.sequence.steps, len(config.sequence.tasks) - 1)


def check_sequence(config: ExperimentConfig) -> list[tuple[tuple[str, ...], str]]:
    """What is wrong with a sequence, as (key path, problem); the tasks themselves are checked one by one elsewhere."""
    sequence = config.sequence
    if sequence is None:
        return []
    problems: list[tuple[tuple[str, ...], str]] = []
    wanted = sequence.steps * len(sequence.tasks)
    if config.total_timesteps != wanted:
        problems.append(
            (
                ("total_timesteps",),
                f"must be {wanted}, fixed by the tasks: sequence.steps {sequence.steps} x {len(sequence.tasks)} tasks, "
                f"found {config.total_timesteps}",
            )
        )
    for number, changes in enumerate(sequence.tasks):
        for key in ("n_envs", "kind", "vector_backend"):
            if key in changes and changes[key] != getattr(config.environment, key):
                problems.append((("sequence", "tasks", str(number), key), "must be the same in all tasks"))
    return problems


def check_spaces(config: ExperimentConfig) -> list[tuple[tuple[str, ...], str]]:
    """Tasks whose spaces are not those of the first: one network cannot serve them."""
    found: list[tuple[Any, Any]] = []
    for number, environment in enumerate(task_environments(config)):
        try:
            found.append(spaces_of(environment))
        except ConfigError as error:
            return [(("sequence", "tasks", str(number)), str(error))]
        if found[-1] != found[0]:
            return [
                (
                    ("sequence", "tasks", str(number)),
                    f"its spaces {found[-1][0]}, {found[-1][1]} are not those of the first task; choose tasks alike",
                )
            ]
    return []
