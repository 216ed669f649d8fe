"""How much memory objects hold."""

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
_NODE, _EDGE = 600, 650
"""Bytes of a node and of an edge of the memory's graph, with a kind and a position (measured with networkx 3)."""


def footprint(*roots: Any, apart_from: Iterable[Any] = ()) -> int:
    """Return the bytes of all tensors and arrays that belong to some objects, on all devices.

    They are looked for in containers, in networks, and in the attributes of objects of FARL. What is shared counts
    once. An object that keeps something beside its state, such as what it can work out anew, says by an attribute
    ``held_bytes`` what counts: a run that is resumed then reports what it would have reported without the stop.

    :param apart_from: objects that are left out, with all that only they lead to
    """
    known = {id(left_out) for left_out in apart_from}
    blocks: set[tuple[int, int]] = set()
    waiting: list[Any] = list(roots)
    total = 0
    while waiting:
        each = waiting.pop()
        if id(each) in known:
            continue
        known.add(id(each))
        if isinstance(each, torch.Tensor | np.ndarray):
            address = each.data_ptr() if isinstance(each, torch.Tensor) else each.ctypes.data
            if (address, each.nbytes) not in blocks:
                blocks.add((address, each.nbytes))
                total += int(each.nbytes)
        elif isinstance(each, Mapping):
            waiting += each.values()
        elif isinstance(each, list | tuple | set | frozenset | deque):
            waiting += each
        elif isinstance(each, nn.Module) or type(each).__module__.startswith("farl."):  # no classes: theirs is "type"
            if (held := getattr(each, "held_bytes", None)) is None:
                waiting.append(getattr(each, "__dict__", ()))
            else:
                total += int(held)
    return total


def graph_footprint(graph: "nx.MultiGraph") -> int:
    """Return about how many bytes a memory's graph takes, by its size."""
    nodes, edges = int(graph.number_of_nodes()), int(graph.number_of_edges())
    return _NODE * nodes + _EDGE * edges
