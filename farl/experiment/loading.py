"""From a YAML file and command-line overrides to a checked ``ExperimentConfig``, with all problems at once."""

import importlib.resources
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from farl.errors import ConfigError, did_you_mean
from farl.experiment.checks import (
    algorithm_problems,
    combination_problems,
    device_problem,
    environment_problems,
)
from farl.experiment.config import AlgorithmConfig, EnvironmentConfig, ExperimentConfig
from farl.experiment.shipped import find_config, shipped_configs
from farl.experiment.signatures import signature_of
from farl.experiment.tasks import check_sequence, check_spaces, task_environment
from farl.experiment.yaml_source import YamlDocument, parse_value, read_yaml, write_yaml
from farl.validation import KeyPath, Problem, validation_problems

MAX_BASES = 10
_COMMAND_LINE = "command line"
_AnyModel = TypeVar("_AnyModel", bound=BaseModel)


def load_config(reference: str | Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Read, complete and check a configuration; nothing is written.

    :param reference: a YAML file, or the bare name of a configuration that comes with FARL
    :param overrides: ``key.path=value``, later ones win; values are read as YAML
    :raises ConfigError: with every problem found, one line each
    """
    problems: list[str] = []
    document = YamlDocument({})
    with importlib.resources.as_file(find_config(str(reference))) as path:
        try:
            document = _with_bases(path, ())
        except ConfigError as error:
            problems.extend(error.problems)
        default_name = _slug(path.stem)
        folder = path.parent if Path(reference).exists() else Path.cwd()
    document.data.setdefault("name", default_name)
    for override in overrides:
        try:
            _apply_override(document, override)
        except ConfigError as error:
            problems.extend(error.problems)
    _name_folder(document.data, folder)
    if problems and document.data.keys() <= {"name"}:  # nothing could be read: there is nothing more to check
        raise ConfigError(*problems)
    try:
        config = parse_config(document.data, document.origins)
    except ConfigError as error:
        raise ConfigError(*problems, *error.problems) from None
    if problems:
        raise ConfigError(*problems)
    return config


def _name_folder(data: dict[str, Any], folder: Path) -> None:
    """Modules of the user's own lie beside the YAML file; the run directory's config.yaml lies elsewhere."""
    environment = data.get("environment")
    if isinstance(environment, dict) and environment.get("folder") is None:
        parts = [environment.get("id"), *(environment.get("wrappers") or []), *(environment.get("vec_wrappers") or [])]
        names = [part.get("name") if isinstance(part, dict) else part for part in parts]
        if any(":" in str(name) for name in names):
            environment["folder"] = str(folder.resolve())


def parse_config(data: dict[str, Any], origins: dict[KeyPath, str] | None = None) -> ExperimentConfig:
    """Check plain data against the types, the registries and itself.

    :param data: nested mappings, as a YAML file holds them
    :param origins: where each key stands, named in the messages
    :raises ConfigError: with every problem found, one line each
    """
    problems: list[Problem] = []
    config = None
    try:
        config = ExperimentConfig.model_validate(data)
    except ValidationError as error:
        problems.extend(validation_problems(error, data, ExperimentConfig))
    # A mistake in one section must not hide the mistakes in another: each is checked as far as it can be read.
    environment = _section(EnvironmentConfig, data.get("environment"))
    algorithm = _section(AlgorithmConfig, data.get("algorithm", {}))
    deeper: list[Problem] = []
    if environment is not None:
        deeper.extend(environment_problems(environment))
    if algorithm is not None:
        deeper.extend(algorithm_problems(algorithm))
    if environment is not None and algorithm is not None and not problems and not deeper:
        deeper.extend(combination_problems(environment, algorithm))
    if config is not None:
        deeper.extend(_sequence_problems(config, sound=not deeper and not problems))
        small = None if config.far is None else config.far.memory.why_too_small(config.environment.n_envs)
        if small is not None:
            deeper.append((("far", "memory", "capacity"), small))
        problem = device_problem(config.device)
        if problem is not None:
            deeper.append((("device",), problem))
    problems.extend(deeper)
    if problems or config is None:
        raise ConfigError(*(_line(problem, origins or {}) for problem in problems))
    return config


def _sequence_problems(config: ExperimentConfig, sound: bool) -> Iterator[Problem]:
    """What is wrong with a sequence's tasks; their environments are made only where all else is ``sound``."""
    if config.sequence is None:
        return
    found: list[Problem] = list(check_sequence(config))
    for number, changes in enumerate(config.sequence.tasks):
        place = ("sequence", "tasks", str(number))
        try:
            environment = task_environment(config, changes)
        except ValidationError as error:
            told = validation_problems(error, changes, EnvironmentConfig)
            found.extend(((*place, *path), text) for path, text in told)
            continue
        found.extend(((*place, *path[1:]), text) for path, text in environment_problems(environment))
    yield from found
    if sound and not found:
        yield from check_spaces(config)


def resolved_yaml(config: ExperimentConfig) -> str:
    """The whole configuration with all defaults written out; it loads to an equal configuration.

    The algorithm's own defaults stand in comments: they are Stable-Baselines3's, and more than YAML can say.
    """
    given = config.algorithm.hyperparameters
    defaults = signature_of(config.algorithm.name).defaults.items()
    own = "".join(f"#   {name}: {value}\n" for name, value in defaults if name not in given)
    comment = "# The experiment as it ran, with every default written out.\n"
    return write_yaml(
        config.model_dump(mode="json"),
        comment + (f"# Hyperparameters of {config.algorithm.name} that are its own defaults:\n{own}" if own else ""),
    )


def _with_bases(path: Path, seen: tuple[Path, ...]) -> YamlDocument:
    """The file merged over its base, and that over its own."""
    here = path.resolve()
    if here in seen:
        chain = " -> ".join(step.name for step in (*seen, here))
        raise ConfigError(f"{path}: base files form a circle: {chain}; remove one of the base lines")
    if len(seen) >= MAX_BASES:
        raise ConfigError(f"{path}: more than {MAX_BASES} base files on top of each other")
    document = read_yaml(path)
    base = document.data.pop("base", None)
    if base is None:
        return document
    where = document.origins.get(("base",), str(path))
    if not isinstance(base, str) or not base:
        raise ConfigError(f"{where}: base: expected the path of another YAML file, found {base!r}")
    target = path.parent / base
    if not target.is_file() and base.removesuffix(".yaml") in shipped_configs():
        with importlib.resources.as_file(find_config(base)) as target:
            below = _with_bases(target, (*seen, here))
    elif not target.is_file():
        beside = [file.name for file in path.parent.glob("*.yaml") if file != path]
        raise ConfigError(
            f"{where}: base: no such file: {target}{did_you_mean(base, beside)}; paths are relative to this file"
        )
    else:
        below = _with_bases(target, (*seen, here))
    below.data.pop("name", None)
    return YamlDocument(_merge(below.data, document.data), below.origins | document.origins)


def _merge(below: dict[str, Any], above: dict[str, Any], path: KeyPath = ()) -> dict[str, Any]:
    """Mappings are merged key by key, everything else is replaced; so is a module or criterion by one of another
    name."""
    of_another_name = path[:1] == ("far",) and above.get("name", below.get("name")) != below.get("name")
    merged = {} if of_another_name else dict(below)
    if path == ("algorithm",) and above.get("name", below.get("name")) != below.get("name"):
        for belonging in ("hyperparameters", "fast"):
            merged.pop(belonging, None)  # they belong to the other algorithm
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merge(merged[key], value, (*path, key))
        else:
            merged[key] = value
    return merged


def _apply_override(document: YamlDocument, override: str) -> None:
    name, equals, text = override.partition("=")
    keys = tuple(name.split("."))
    if not equals or not all(re.fullmatch(r"\w+", key) for key in keys):
        raise ConfigError(f"cannot read {override!r}: write overrides as key=value or section.key=value")
    if not text.strip():
        raise ConfigError(f"cannot read {override!r}: there is no value; write {name}=null to switch it off")
    if keys == ("base",):
        raise ConfigError("base can only be set in a file; give the other file as CONFIG instead")
    value = parse_value(text, name)
    for key in reversed(keys):
        value = {key: value}
    merged = _merge(document.data, value)
    document.data.clear()
    document.data.update(merged)
    for length in range(1, len(keys) + 1):
        document.origins.setdefault(keys[:length], _COMMAND_LINE)
    document.origins[keys] = _COMMAND_LINE


def _section(model: type[_AnyModel], data: Any) -> _AnyModel | None:
    """As much of a section as can be read: keys that are reported already are left out."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        bad = {detail["loc"][0] for detail in error.errors() if detail["loc"]}
    try:
        return model.model_validate({key: value for key, value in data.items() if key not in bad}) if bad else None
    except ValidationError:
        return None


def _line(problem: Problem, origins: dict[KeyPath, str]) -> str:
    path, message = problem
    where = next((origins[path[:size]] for size in range(len(path), 0, -1) if path[:size] in origins), None)
    name = ".".join(path)
    return ": ".join(part for part in (where, name, message) if part)


def _slug(stem: str) -> str:
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")
    return cleaned[:100] or "experiment"
