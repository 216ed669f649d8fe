"""Finds what users wrote themselves and named as ``module:name``: environments and wrappers of their own."""

import difflib
import importlib
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym

from farl.errors import ConfigError, did_you_mean


def find_environment(reference: str, folder: str | None) -> "str | gym.envs.registration.EnvSpec":
    """What ``gymnasium.make`` takes for ``module:Env-v0`` (an id that the module registers) or ``module:Class``.

    :param reference: As it stands in YAML.
    :param folder: Where the module is looked for: the folder of the YAML file.
    :return: An id, or a specification of the class.
    :raises ConfigError: the module, or the environment in it, cannot be found or imported.
    """
    module_name, _, name = reference.partition(":")
    module = import_own(module_name, folder)
    if name in gym.registry:
        return reference
    found = getattr(module, name, None)
    if found is None:
        classes = [key for key, entry in vars(module).items() if inspect.isclass(entry) and issubclass(entry, gym.Env)]
        registered = [key for key, spec in gym.registry.items() if str(spec.entry_point).startswith(f"{module_name}:")]
        hint = did_you_mean(name, [*classes, *registered])
        raise ConfigError(f"{_place(module)} has no environment {name!r}, neither a class nor a registered id{hint}")
    if inspect.isclass(found) and not issubclass(found, gym.Env):
        raise ConfigError(f"{_place(module)}: {name} is no gymnasium.Env; let the class inherit from it")
    if not callable(found):
        raise ConfigError(f"{_place(module)}: {name} is neither a class nor a function that makes an environment")
    return gym.envs.registration.EnvSpec(id=f"{name}-v0", entry_point=found)


def find_named(reference: str, folder: str | None) -> Any:
    """What ``module:name`` names.

    :param reference: As it stands in YAML.
    :param folder: Where the module is looked for first.
    :raises ConfigError: the module, or the name in it, cannot be found or imported.
    """
    module_name, _, name = reference.partition(":")
    module = import_own(module_name, folder)
    try:
        return getattr(module, name)
    except AttributeError:
        known = [key for key in vars(module) if not key.startswith("_")]
        raise ConfigError(f"{_place(module)} has no {name!r}{did_you_mean(name, known)}") from None


def import_own(name: str, folder: str | None) -> ModuleType:
    """Import a module that may lie beside a YAML file.

    :param name: Its dotted name.
    :param folder: Where it is looked for, as is the current folder, if it is not installed; None for nowhere else.
    :raises ConfigError: there is no such module, or it fails while it is imported.
    """
    for place in (folder, str(Path.cwd())):
        if place is not None and place not in sys.path:
            sys.path.append(place)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigError(f"{name} needs the package {error.name!r}, which is not installed") from None
        beside = [path.stem for path in Path(folder).glob("*.py")] if folder is not None else []
        near = difflib.get_close_matches(name, beside, n=1)
        hint = (
            f"; did you mean {near[0]}?"
            if near
            else f"; put {name.split('.')[0]}.py beside the YAML file, or install it"
        )
        raise ConfigError(f"there is no module {name!r}{hint}") from None
    except SyntaxError as error:
        raise ConfigError(f"{error.filename}:{error.lineno}: cannot be imported: {error.msg}") from None
    except Exception as error:  # whatever the user's code raises
        lines = str(error).strip().splitlines()
        told = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        raise ConfigError(f"{name} cannot be imported: {told}") from None


def _place(module: ModuleType) -> str:
    return str(getattr(module, "__file__", None) or module.__name__)
