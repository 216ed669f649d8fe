"""What is imported only when something of it is asked for: reading settings takes no torch."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from types import ModuleType
from typing import Any

__all__ = ["exports", "spare"]


def exports(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package.

    :param package: its name
    :param modules: each name that it exports -> the module that has it
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(modules[name]), name)
        setattr(sys.modules[package], name, value)  # asked for once
        return value

    return get


def spare(package: str, importer: str) -> None:
    """Let a module do without a package that it imports, until it first uses something of it.

    :param package: what takes long to import; where it is not installed, or was imported already, nothing changes
    :param importer: who imports it; where it was imported already, nothing changes
    """
    if package not in sys.modules and find_spec(package) is not None:
        sys.meta_path.insert(0, _Sparing(package, importer))


class _Sparing(MetaPathFinder):
    """Finds one module as it is found without, and puts a stand-in in the package's place while its code runs."""

    def __init__(self, package: str, importer: str) -> None:
        self._package, self._importer = package, importer

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._importer:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_without(module: ModuleType) -> None:
                with _stood_in(self._package):
                    run(module)

            spec.loader.exec_module = run_without  # type: ignore[method-assign]
        return spec


@contextmanager
def _stood_in(package: str) -> Iterator[None]:
    stand_in = sys.modules.setdefault(package, _StandIn(package))
    try:
        yield
    finally:
        if sys.modules.get(package) is stand_in and isinstance(stand_in, _StandIn):
            del sys.modules[package]


class _StandIn(ModuleType):
    """Has what the package has, which is imported to get it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)
