"""Files of FAR's models: loading changes settings, takes plain files, and says what a file is."""

import warnings
from abc import ABCMeta
from functools import cache
from importlib import import_module
from pickle import UnpicklingError
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import load_from_zip_file

from farl.errors import ConfigError
from farl.sb3.archives import look_at, refusal
from farl.sb3.config import changed


class FARClass(ABCMeta):
    """The class of the classes that ``FAR`` makes: ``farl.sb3.factory`` says how pickle finds them."""


class Saving(BaseAlgorithm, metaclass=FARClass):
    """Saves and loads curiosity with a model."""

    algorithm_class: type[BaseAlgorithm]
    buffer_class_name: str
    """The attribute that holds the class of the algorithm's buffer."""
    far: dict[str, Any] | None
    _curiosity_apart = False

    @classmethod
    def load(
        cls, path: Any, env: Any = None, device: Any = "auto", custom_objects: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Load a model; see SB3.

        With ``far``, the settings that it names take the place of the saved ones, and all others stay; ``far=None``
        goes on without curiosity. A file of the plain algorithm loads too: its curiosity begins anew.

        Files of Stable-Baselines3 hold pickled objects, which can run code when they are read: load what you trust. A
        warning names what is not usual in them. Checkpoints of ``farl train`` hold none.

        :raises ConfigError: naming what is wrong in ``far``, or does not go with what was saved, or in the file
        """
        if "far" in kwargs:
            kwargs["_given_far"] = kwargs.pop("far")
        archive, given = look_at(path), custom_objects or {}
        if unfamiliar := archive.unfamiliar(given):
            names = ", ".join(unfamiliar[:3])
            warnings.warn(f"{path}: reading it calls {names}: load only files that you trust", stacklevel=2)
        try:
            return super().load(path, env, device, {**archive.plain, **given} or None, *args, **kwargs)
        except UnpicklingError as error:
            raise ConfigError(f"{path}: {refusal(error)}") from None
        except KeyError as error:  # on any ValueError SB3 looks for a reason of its own, which may fail
            if isinstance(error.__context__, ConfigError):
                raise error.__context__ from None
            missing = {"observation_space", "action_space"} - {*archive.plain, *archive.pickled}
            if missing:
                raise ConfigError(
                    f"{path}: is no whole model: it holds no {' and no '.join(sorted(missing))}"
                ) from None
            raise

    def save_as_it_is(self, *args: Any, **kwargs: Any) -> None:
        """Do what ``save`` does, without a look at what waits to be taken in.

        Only FAR loads the file again: for those without FARL, save ``model.plain()``.
        """
        plain = getattr(self, self.buffer_class_name)
        if self.far is not None:
            name = self.algorithm_class.__name__
            setattr(self, self.buffer_class_name, _only_for(name, plain))
        try:
            super().save(*args, **kwargs)
        finally:
            setattr(self, self.buffer_class_name, plain)

    def set_parameters(self, load_path_or_dict: Any, exact_match: bool = True, device: Any = "auto") -> None:
        """Set parameters; see SB3. Parameters of a model without curiosity leave the curiosity as it is.

        :raises ConfigError: if the saved curiosity was built with other settings
        """
        params = load_path_or_dict
        if not isinstance(params, dict):
            _, params, _ = load_from_zip_file(load_path_or_dict, device=device, load_data=False)
        for name in [name for name in self._curious_parts() if name in params]:
            try:
                getattr(self, name).load_state_dict(params[name])
            except (RuntimeError, KeyError, TypeError, ValueError) as error:
                reason = str(error).strip().splitlines()[-1].strip()
                raise ConfigError(
                    f"far: the saved {name} does not fit the settings given ({reason}). Leave out of far what "
                    "decides the size or kind of networks, criterion and memory"
                ) from error
        plain = {name: value for name, value in params.items() if name not in ("curiosity", "intrinsic_critic")}
        self._curiosity_apart = True
        try:
            super().set_parameters(plain, exact_match, device)
        finally:
            del self._curiosity_apart

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        state_dicts, variables = super()._get_torch_save_params()
        return state_dicts + ([] if self._curiosity_apart else self._curious_parts()), variables

    def _curious_parts(self) -> list[str]:
        """Return the attributes whose state is saved beside that of the plain algorithm."""
        return [] if self.far is None else ["curiosity"]

    def _unpack_settings(self) -> None:
        """Make of what ``load`` found in a file, and was given, what the model is built of."""
        saved_as = getattr(self, self.buffer_class_name)
        if isinstance(saved_as, type) and issubclass(saved_as, _OnlyForFAR):
            setattr(self, self.buffer_class_name, saved_as.base)
        if "_given_far" in self.__dict__:
            self.far = changed(self.far, self.__dict__.pop("_given_far"))


class _OnlyForFAR:
    """Stands in a file for the buffer's class, where the plain algorithm would build it: there it says what to do."""

    base: type[Any] | None
    algorithm: str

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise ConfigError(
            f"this file was saved by FAR({self.algorithm}): load it with farl.FAR({self.algorithm}).load. For "
            f"{self.algorithm}.load, which needs no FARL, save model.plain()"
        )


@cache
def _only_for(algorithm: str, base: type[Any] | None) -> type[Any]:
    """The class that stands for a buffer's, or for None, which lets the algorithm choose; its name tells of which, so
    that pickle finds it again by that."""
    of = ":" if base is None else f"{base.__module__.replace('.', '/')}:{base.__qualname__}"
    name = f"_OnlyForFAR:{algorithm}:{of}"
    return type(name, (_OnlyForFAR,), {"base": base, "algorithm": algorithm, "__module__": __name__})


def __getattr__(name: str) -> Any:
    kind, *parts = name.split(":")
    if kind == "_OnlyForFAR" and len(parts) == 3 and parts[1:] == ["", ""]:
        return _only_for(parts[0], None)
    if kind != "_OnlyForFAR" or len(parts) != 3 or not parts[1].startswith(("stable_baselines3/", "sb3_contrib/")):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _only_for(parts[0], getattr(import_module(parts[1].replace("/", ".")), parts[2]))
