"""Long-term memory: fragments, the keys that recall them, and the graph that joins them."""

from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from farl.errors import ConfigError
from farl.memory.footprint import graph_footprint
from farl.memory.storage import load_state, save_state
from farl.memory.tiers import Tiers

if TYPE_CHECKING:
    import networkx as nx

Payload = TypeVar("Payload")
IntArray = npt.NDArray[np.int64]
KeyArray = npt.NDArray[np.float32]

_TINY = float(np.finfo(np.float32).tiny)


class Match(NamedTuple):
    """The best stored key for each query.

    :ivar fragment_ids: int64[E], the fragment that owns the key, -1 while no key is stored
    :ivar similarity: float32[E], cosine similarity in [-1, 1], -inf while no key is stored
    """

    fragment_ids: IntArray
    similarity: KeyArray


class LongTermMemory(Generic[Payload]):
    """Fragments with a payload each, recalled by keys, joined in a graph by the points where one became the other.

    A payload is anything: a local map, the state of a curiosity module. Ids count up from 0 and are never used again.
    Above ``capacity`` the least recently used fragment is evicted, and its keys and edges go with it.

    :param capacity: most fragments held at once, None for no limit
    :param keys_per_fragment: most keys of one fragment; beyond it the oldest go. None for no limit
    :param tiers: where payloads lie; None for host memory alone
    :raises ValueError: if a limit is below 1

    >>> memory = LongTermMemory(capacity=2)
    >>> kitchen = memory.add("map of the kitchen", keys=np.array([[1.0, 0.0]]))
    >>> hall = memory.add("map of the hall", keys=np.array([[0.0, 1.0]]))
    >>> memory.connect(kitchen, hall, {"position": [3, 4]})
    >>> memory.match(np.array([[0.1, 2.0]])).fragment_ids
    array([1])
    """

    def __init__(
        self,
        capacity: int | None = None,
        keys_per_fragment: int | None = 64,
        tiers: Tiers[Payload] | None = None,
    ) -> None:
        for name, limit in (("capacity", capacity), ("keys_per_fragment", keys_per_fragment)):
            if limit is not None and limit < 1:
                raise ValueError(f"{name} must be at least 1, or None for no limit; got {limit}")
        self.capacity = capacity
        self.keys_per_fragment = keys_per_fragment
        self.graph = _empty_graph()
        """Nodes are fragment ids; the data of each edge is the ``where`` that ``connect`` was given."""
        self.on_evict: list[Callable[[int], object]] = []
        """Called with the id of each fragment that is evicted, for those who keep something beside the memory."""
        self.tiers: Tiers[Payload] = Tiers() if tiers is None else tiers
        """Where the payloads lie."""
        self._last_used: dict[int, int] = {}  # its keys are the fragments held
        self._clock = 0
        self._next_id = 0
        self._keys = np.empty((0, 0), np.float32)  # rows beyond _n_keys are spare room
        self._owners: IntArray = np.empty(0, np.int64)
        self._n_keys = 0

    def __len__(self) -> int:
        return len(self._last_used)

    def __contains__(self, fragment_id: object) -> bool:
        return fragment_id in self._last_used

    def __getitem__(self, fragment_id: int) -> Payload:
        self._require(fragment_id)
        return self.tiers[fragment_id]

    def __setitem__(self, fragment_id: int, payload: Payload) -> None:
        self._require(fragment_id)
        self.tiers[fragment_id] = payload

    def lend(self, fragment_id: int) -> Payload:
        """Hand out a payload to whom it belongs until it is set again, or taken back: until then the memory does not
        hold it.

        :raises KeyError: if there is no such fragment, or it is lent already
        :raises MemoryTierError: if it lies on disk and cannot be read; nothing has changed then
        """
        self._require(fragment_id)
        return self.tiers.pop(fragment_id)

    def take_back(self, fragment_id: int, payload: Payload) -> None:
        """Take back a payload that was lent and has not changed: what lies on disk need not be written again.

        :raises KeyError: if there is no such fragment
        """
        self._require(fragment_id)
        self.tiers.put_back(fragment_id, payload)

    def by_last_use(self, fragment_ids: Iterable[int]) -> list[int]:
        """Sort fragments by when they were last used, the longest ago first."""
        return sorted(fragment_ids, key=self._last_used.__getitem__)

    @property
    def ids(self) -> list[int]:
        """Ids of the fragments held, ascending."""
        return list(self._last_used)

    @property
    def keys(self) -> KeyArray:
        """All keys, float32[K, d], each of length 1."""
        return self._keys[: self._n_keys]

    @property
    def key_owners(self) -> IntArray:
        """The fragment each key belongs to, int64[K]."""
        return self._owners[: self._n_keys]

    @property
    def index_bytes(self) -> int:
        """Size of keys and graph in bytes, without the payloads."""
        return self.keys.nbytes + self.key_owners.nbytes + graph_footprint(self.graph)

    def add(self, payload: Payload, keys: npt.ArrayLike | None = None, keep: Iterable[int] = ()) -> int:
        """Store a new fragment and return its id; when the memory is full, evict the least recently used one first.

        :param payload: what the fragment holds
        :param keys: float[k, d] that recall it, None for none yet
        :param keep: fragments that must not be evicted (those in use)
        :raises ValueError: if a key has another width than those stored, is not finite or is zero, or if the memory is
            full of fragments to keep. Nothing has changed then.
        """
        rows = None if keys is None else self._normalised(keys)
        fragment_id = self.open(keep)
        if rows is not None:
            self._append_keys(fragment_id, rows)
        self.tiers[fragment_id] = payload  # last, for it may have to say that the disk is full
        return fragment_id

    def open(self, keep: Iterable[int] = ()) -> int:
        """Make room for a new fragment and return its id; its payload is with whom it belongs to, as if lent.

        :param keep: fragments that must not be evicted (those in use)
        :raises ValueError: if the memory is full of fragments to keep. Nothing has changed then.
        """
        if self.capacity is not None and len(self) >= self.capacity:
            kept = set(keep)
            candidates = [fragment_id for fragment_id in self._last_used if fragment_id not in kept]
            if not candidates:
                raise ValueError(
                    f"the memory is full: all {self.capacity} fragments are in use. Raise its capacity above the "
                    "number of environments"
                )
            self.evict(min(candidates, key=self._last_used.__getitem__))
        fragment_id = self._next_id
        self._next_id += 1
        self._last_used[fragment_id] = self._clock
        self.graph.add_node(fragment_id)
        self.touch([fragment_id])
        return fragment_id

    def add_keys(self, fragment_id: int, keys: npt.ArrayLike) -> None:
        """Give a fragment more keys, float[k, d].

        :raises KeyError: if there is no such fragment
        :raises ValueError: if a key has another width than those stored, is not finite or is zero
        """
        self._require(fragment_id)
        self._append_keys(fragment_id, self._normalised(keys))

    def match(self, queries: npt.ArrayLike) -> Match:
        """Find the stored key with the highest cosine similarity to each query, in one batched product.

        :param queries: float[E, d]
        :raises ValueError: if d is not the width of the stored keys
        """
        queries = np.asarray(queries, np.float32)
        if self._n_keys == 0:
            return Match(np.full(len(queries), -1, np.int64), np.full(len(queries), -np.inf, np.float32))
        self._check_width(queries)
        # torch's product, not numpy's: it keeps to torch.set_num_threads; numpy's BLAS would contend for all cores.
        product = (torch.from_numpy(queries) @ torch.from_numpy(self.keys).T).numpy()
        best = product.argmax(axis=1)
        length = np.sqrt(np.einsum("ed,ed->e", queries, queries))
        similarity = product[np.arange(len(best)), best] / np.maximum(length, _TINY)
        return Match(self.key_owners[best], similarity.clip(-1.0, 1.0))

    def connect(self, a: int, b: int, where: Mapping[str, Any]) -> None:
        """Join two fragments by an edge.

        :param where: describes the fracture point; JSON values only, for they are saved with the graph
        :raises KeyError: if one of them is not in the memory
        """
        self._require(a)
        self._require(b)
        self.graph.add_edge(a, b, **where)

    def touch(self, fragment_ids: Iterable[int]) -> None:
        """Mark fragments as used now; the order within one call does not count.

        :raises KeyError: if one of them is not in the memory
        """
        self._clock += 1
        for fragment_id in fragment_ids:
            self._require(fragment_id)
            self._last_used[fragment_id] = self._clock

    def evict(self, fragment_id: int) -> None:
        """Remove a fragment, its keys and its edges.

        :raises KeyError: if there is no such fragment
        """
        self._require(fragment_id)
        del self._last_used[fragment_id]
        self.tiers.drop(fragment_id)
        self.graph.remove_node(fragment_id)
        self._drop_keys(np.flatnonzero(self.key_owners == fragment_id))
        for callback in self.on_evict:
            callback(fragment_id)

    def state_dict(self) -> dict[str, Any]:
        """Return all of it as tensors, numbers, strings and lists; payloads are held, not copied.

        Payloads that are lent are not in it.
        """
        return {
            "tiers": self.tiers.state_dict(),
            "lent": [fragment_id for fragment_id in self._last_used if fragment_id not in self.tiers],
            "keys": torch.from_numpy(self.keys.copy()),
            "key_owners": torch.from_numpy(self.key_owners.copy()),
            "last_used": dict(self._last_used),
            "clock": self._clock,
            "next_id": self._next_id,
            "edges": [[int(a), int(b), dict(data)] for a, b, data in self.graph.edges(data=True)],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned; the capacity stays as it is.

        :raises ValueError: if the state refers to fragments that it does not hold, or holds more than the capacity
        """
        ids = sorted({*state["tiers"]["payloads"], *state["tiers"]["files"], *state["lent"]})
        owners = state["key_owners"].cpu().numpy().copy()
        named = {int(owner) for owner in owners} | {end for a, b, _ in state["edges"] for end in (a, b)}
        if not named <= set(ids) or set(ids) != set(state["last_used"]):
            raise ValueError("this memory refers to fragments that it does not hold: the state is damaged")
        if state["keys"].ndim != 2 or owners.shape != state["keys"].shape[:1]:
            raise ValueError("this memory's keys are not those of its fragments: the state is damaged")
        if self.capacity is not None and len(ids) > self.capacity:
            raise ValueError(f"{len(ids)} fragments do not fit into a memory with a capacity of {self.capacity}")
        self.tiers.load_state_dict(state["tiers"])
        self._last_used = {fragment_id: state["last_used"][fragment_id] for fragment_id in ids}
        self._clock, self._next_id = int(state["clock"]), int(state["next_id"])
        self._keys, self._owners = state["keys"].cpu().numpy().copy(), owners
        self._n_keys = len(owners)
        self.graph = _empty_graph()
        self.graph.add_nodes_from(ids)
        self.graph.add_edges_from((a, b, dict(data)) for a, b, data in state["edges"])

    def save(self, path: str | PathLike[str]) -> None:
        """Write the memory to one safetensors file, whole or not at all.

        :raises TypeError: if a payload is not a tree of dicts, lists, tensors, numbers and strings
        """
        save_state(self.state_dict(), path)

    def load(self, path: str | PathLike[str]) -> None:
        """Read what ``save`` wrote.

        :raises FileNotFoundError: if there is no such file
        :raises ConfigError: if the file is damaged or not one of ours
        """
        state = load_state(path)
        try:
            self.load_state_dict(state)
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from None
        except (KeyError, TypeError, AttributeError, IndexError, RuntimeError, OverflowError) as error:
            raise ConfigError(f"{path}: holds something other than a memory, or is damaged") from error

    def _require(self, fragment_id: int) -> None:
        if fragment_id not in self._last_used:
            raise KeyError(f"no fragment {fragment_id} in the memory; it was never added, or has been evicted")

    def _check_width(self, rows: KeyArray) -> None:
        if rows.ndim != 2 or (self._n_keys and rows.shape[1] != self._keys.shape[1]):
            width = str(self._keys.shape[1]) if self._n_keys else "d"
            raise ValueError(f"keys have the shape [n, {width}]; got {list(rows.shape)}")

    def _normalised(self, keys: npt.ArrayLike) -> KeyArray:
        rows = np.asarray(keys, np.float32)
        self._check_width(rows)
        norm = np.linalg.norm(rows, axis=1, keepdims=True)
        if not (np.isfinite(norm).all() and (norm > 0.0).all()):
            raise ValueError("a key must be finite and not zero, or no query could match it")
        normalised: KeyArray = rows / norm
        return normalised

    def _append_keys(self, fragment_id: int, rows: KeyArray) -> None:
        needed = self._n_keys + len(rows)
        if needed > len(self._owners) or self._keys.shape[1] != rows.shape[1]:
            room = max(16, needed + needed // 4)  # in proportion: appending stays cheap on average
            keys, owners = np.empty((room, rows.shape[1]), np.float32), np.empty(room, np.int64)
            if self._n_keys:
                keys[: self._n_keys], owners[: self._n_keys] = self.keys, self.key_owners
            self._keys, self._owners = keys, owners
        self._keys[self._n_keys : needed], self._owners[self._n_keys : needed] = rows, fragment_id
        self._n_keys = needed
        of_fragment = np.flatnonzero(self.key_owners == fragment_id)
        if self.keys_per_fragment is not None and len(of_fragment) > self.keys_per_fragment:
            self._drop_keys(of_fragment[: -self.keys_per_fragment])

    def _drop_keys(self, rows: IntArray) -> None:
        self._keys, self._owners = np.delete(self.keys, rows, axis=0), np.delete(self.key_owners, rows)
        self._n_keys = len(self._owners)


def _empty_graph() -> "nx.MultiGraph":
    import networkx as nx  # here, for it takes long, and many who import this module only need its types

    return nx.MultiGraph()
