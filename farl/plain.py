"""Python values as plain data, and back: trees that ``save_state`` writes, and whose reading never runs code."""

from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

__all__ = ["Known", "NotPlainError", "from_plain", "generator_of", "put_into", "to_plain"]

Known = Mapping[str, type[Any]]
"""Classes, by name, whose objects may be part of a value: named tuples, and objects that are all in their ``vars``."""

_BIT_GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")
_KIND = "kind"


class NotPlainError(TypeError):
    """A value holds something that is not data."""


def to_plain(value: Any, known: Known | None = None, seen: dict[int, Any] | None = None) -> Any:
    """Return a value as dicts, lists, tensors, uint8 arrays, numbers, strings and None.

    :param known: classes whose objects may be part of it; of these, what is no data is left out
    :param seen: what has been met so far; with it, what can change must not be met twice, for it would come back as two
    :raises NotPlainError: if it holds anything else
    """
    if value is None or isinstance(value, bool | str) or type(value) in (int, float):
        return value
    if isinstance(value, np.generic):
        return {_KIND: "scalar", **_raw(np.asarray(value))}
    if isinstance(value, bytes):
        return {_KIND: "bytes", "raw": np.frombuffer(bytearray(value), np.uint8)}
    if seen is not None and type(value) is not tuple:
        if id(value) in seen:
            raise NotPlainError("one object in two places")
        seen[id(value)] = value
    return _to_node(value, known or {}, seen)


def _to_node(value: Any, known: Known, seen: dict[int, Any] | None) -> Any:
    def inner(part: Any) -> Any:
        return to_plain(part, known, seen)

    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            return {_KIND: "objects", "shape": list(value.shape), "items": [inner(part) for part in value.ravel()]}
        return {_KIND: "array", **_raw(value)}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {_KIND: "named", "class": _name(value, known), "items": [inner(part) for part in value]}
    if type(value) is list:
        return [inner(part) for part in value]
    if type(value) in (tuple, set, frozenset):
        return {_KIND: type(value).__name__, "items": [inner(part) for part in value]}
    if type(value) is deque:
        return {_KIND: "deque", "longest": value.maxlen, "items": [inner(part) for part in value]}
    if type(value) in (dict, OrderedDict):
        pairs = [[to_plain(key, known), inner(part)] for key, part in value.items()]
        return {_KIND: "ordered" if type(value) is OrderedDict else "dict", "items": pairs}
    if isinstance(value, np.random.Generator):
        return {_KIND: "generator", "state": to_plain(value.bit_generator.state)}
    if isinstance(value, np.random.RandomState):
        return {_KIND: "random state", "state": to_plain(value.get_state(legacy=True))}
    if isinstance(value, torch.Generator):
        return {_KIND: "torch generator", "state": value.get_state()}
    return {_KIND: "object", "class": _name(value, known), "items": _data_of(value, known, seen)}


def _data_of(value: Any, known: Known, seen: dict[int, Any] | None) -> list[Any]:
    found = []
    for name, part in vars(value).items():
        try:
            found.append([name, to_plain(part, known, seen)])
        except NotPlainError:  # such as spaces, which stay as they are
            continue
    return found


def from_plain(tree: Any, known: Known | None = None) -> Any:
    """Return the value that ``to_plain`` was given.

    :raises ValueError: if the tree is damaged, or names a class that is not known
    """
    known = known or {}
    if isinstance(tree, list):
        return [from_plain(part, known) for part in tree]
    if not isinstance(tree, Mapping):
        return tree
    try:
        return _from_node(tree, known)
    except (KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        raise ValueError(f"damaged state: {error}") from error


def _from_node(tree: Mapping[Any, Any], known: Known) -> Any:
    kind = tree[_KIND]
    if kind in ("array", "scalar"):
        array = np.frombuffer(_bytes(tree["raw"]), np.dtype(tree["dtype"])).reshape(tree["shape"]).copy()
        return array[()] if kind == "scalar" else array
    if kind == "bytes":
        return _bytes(tree["raw"])
    if kind in ("generator", "random state", "torch generator"):
        return _generator(kind, tree["state"])
    items = tree["items"]
    if kind in ("dict", "ordered"):
        pairs = {from_plain(key, known): from_plain(part, known) for key, part in items}
        return OrderedDict(pairs) if kind == "ordered" else pairs
    if kind == "object":
        made = object.__new__(known[tree["class"]])
        vars(made).update({name: from_plain(part, known) for name, part in items})
        return made
    parts = [from_plain(part, known) for part in items]
    if kind == "objects":
        array = np.empty(len(parts), object)
        array[:] = parts
        return array.reshape(tree["shape"])
    if kind == "named":
        return known[tree["class"]](*parts)
    if kind == "deque":
        return deque(parts, tree["longest"])
    return {"tuple": tuple, "set": set, "frozenset": frozenset}[kind](parts)


def put_into(live: Any, tree: Any, known: Known | None = None) -> Any:
    """Return the value of a tree; objects that are there already take it up and stay the objects that they are."""
    known = known or {}
    if isinstance(tree, Mapping) and tree.get(_KIND) == "object" and type(live).__name__ == tree["class"]:
        for name, part in tree["items"]:
            vars(live)[name] = put_into(vars(live).get(name), part, known)
        return live
    if isinstance(tree, Mapping) and tree.get(_KIND) in ("dict", "ordered") and isinstance(live, dict):
        pairs = [(from_plain(key, known), part) for key, part in tree["items"]]
        return type(live)({key: put_into(live.get(key), part, known) for key, part in pairs})
    if isinstance(tree, list) and isinstance(live, list) and len(tree) == len(live):
        return [put_into(old, part, known) for old, part in zip(live, tree, strict=True)]
    return from_plain(tree, known)


def _name(value: Any, known: Known) -> str:
    name = type(value).__name__
    if known.get(name) is not type(value):
        raise NotPlainError(f"a {type(value).__module__}.{type(value).__qualname__}")
    return name


def _raw(array: np.ndarray[Any, Any]) -> dict[str, Any]:
    if array.dtype.hasobject or array.dtype.names is not None:
        raise NotPlainError(f"an array of {array.dtype}")
    # As bytes: torch has no text, and not all unsigned integers.
    raw = np.array(array, order="C", copy=True).reshape(-1).view(np.uint8)
    return {"dtype": array.dtype.str, "shape": list(array.shape), "raw": raw}


def _bytes(raw: Any) -> bytes:
    return bytes(raw.numpy() if isinstance(raw, torch.Tensor) else raw)


def _generator(kind: str, tree: Any) -> Any:
    if kind == "torch generator":
        generator = torch.Generator()
        generator.set_state(tree)
        return generator
    state = from_plain(tree)
    if kind == "random state":
        legacy = np.random.RandomState()
        legacy.set_state(state)
        return legacy
    return generator_of(state)


def generator_of(state: Any) -> np.random.Generator:
    """Return a generator whose ``bit_generator.state`` is the one given.

    :raises ValueError: if its kind is none of numpy's
    """
    name = state["bit_generator"]
    if name not in _BIT_GENERATORS:
        raise ValueError(f"damaged state: no bit generator {name!r}")
    bits = getattr(np.random, name)()
    bits.state = state
    return np.random.Generator(bits)
