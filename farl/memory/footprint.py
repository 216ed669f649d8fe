"""How much memory objects take."""

import sys
from collections import deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    import networkx as nx

TENSOR = 600
"""Bytes of a tensor beside its numbers, in Python and below it (measured with PyTorch 2)."""
_NODE, _EDGE = 600, 350
"""Bytes of a node and of an edge of networkx's ``MultiGraph``, without the edge's data (measured with networkx 3)."""
_OWN = ("farl", "torch")
_OPAQUE = (type, torch.Generator, torch.device, torch.dtype, np.dtype)


def footprint(*roots: Any, apart_from: Iterable[Any] = ()) -> int:
    """Return the bytes that objects and all that belongs to them take, on all devices.

    Tensors and arrays count with the whole of what they are views of; what is shared counts once. Looked into are
    tensors, arrays, containers, networks, and objects of FARL and PyTorch; of others, only the object itself counts.

    :param apart_from: objects that are left out with all that only they lead to
    """
    known = {id(left_out) for left_out in apart_from}
    blocks: set[int] = set()
    waiting, total = list(roots), 0
    while waiting:
        each = waiting.pop()
        if id(each) in known:
            continue
        known.add(id(each))
        if isinstance(each, torch.Tensor):
            storage = each.untyped_storage()
            total += TENSOR + _once(storage.data_ptr(), storage.nbytes(), blocks)
            waiting.append(each.grad)
        elif isinstance(each, np.ndarray):
            total += _array_bytes(each, blocks)
            if each.dtype == object:
                waiting += each.flat
        elif isinstance(each, Mapping):
            total += sys.getsizeof(each)
            waiting += each.keys()
            waiting += each.values()
        elif isinstance(each, list | tuple | set | frozenset | deque):
            total += sys.getsizeof(each)
            waiting += each
        else:
            total += sys.getsizeof(each)
            if _is_looked_into(each):
                waiting.append(each.__dict__)
    return total


def graph_footprint(graph: "nx.MultiGraph") -> int:
    """Return about how many bytes a graph takes, by its size and by one of its edges."""
    edges = graph.number_of_edges()
    data = footprint(next(iter(graph.edges(data=True)))[2]) if edges else 0
    return _NODE * graph.number_of_nodes() + edges * (_EDGE + data)


def _once(address: int, size: int, blocks: set[int]) -> int:
    if not size or address in blocks:
        return 0
    blocks.add(address)
    return size


def _array_bytes(array: Any, blocks: set[int]) -> int:
    """Return the bytes of an array; where it is a view, those of what it is a view of."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    head = sys.getsizeof(array)
    if array.flags.owndata:
        head -= int(array.nbytes)
    if isinstance(array.base, torch.Tensor):
        storage = array.base.untyped_storage()
        return head + _once(storage.data_ptr(), storage.nbytes(), blocks)
    return head + _once(array.ctypes.data, array.nbytes, blocks)


def _is_looked_into(value: Any) -> bool:
    if isinstance(value, _OPAQUE) or not hasattr(value, "__dict__"):
        return False
    return isinstance(value, nn.Module) or type(value).__module__.partition(".")[0] in _OWN
