"""Where payloads lie: in host memory, and beyond a limit in files, the least recently used first."""

import errno
import tempfile
import weakref
import zlib
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import torch

from farl.errors import ConfigError
from farl.memory.storage import load_state, save_state

Payload = TypeVar("Payload")


class MemoryTierError(RuntimeError):
    """A payload could not be moved to disk or back; all others are where they were."""


class _File(NamedTuple):
    path: Path
    size: int
    checksum: int


class Tiers(Generic[Payload]):
    """A mapping from fragment ids to payloads that keeps at most so many in host memory.

    With a limit, payloads must be trees of dicts, lists, tensors, numbers and strings, and must not be changed in
    place. A payload that was only read goes back to disk without being written again.

    :param host: most payloads in host memory; None for no limit
    :param disk: folder for the rest; a folder of its own is made there, and removed with this object
    :raises ConfigError: if only one of host and disk is given, or the folder cannot be made
    """

    def __init__(self, host: int | None = None, disk: str | PathLike[str] | None = None) -> None:
        if (host is None) != (disk is None):
            raise ConfigError("memory: host and disk belong together: how many fragments in host memory, and where to")
        self.host = host
        self._held: dict[int, Payload] = {}  # in the order of use, the oldest first
        self._files: dict[int, _File] = {}
        self._lent: dict[int, _File] = {}  # of payloads that were handed over, in case they come back unchanged
        self._folder: Path | None = None
        if disk is not None:
            try:
                Path(disk).mkdir(parents=True, exist_ok=True)
                folder = tempfile.TemporaryDirectory(prefix="farl-memory-", dir=disk, ignore_cleanup_errors=True)
            except OSError as error:
                raise ConfigError(
                    f"memory: disk: {disk} cannot be used: {error.strerror}; name a folder that can be written"
                ) from None
            self._folder = Path(folder.name)
            weakref.finalize(self, folder.cleanup)

    def __contains__(self, fragment_id: int) -> bool:
        return fragment_id in self._held or fragment_id in self._files

    def __iter__(self) -> Iterator[int]:
        yield from self._held
        yield from self.on_disk

    @property
    def in_host(self) -> list[int]:
        """Fragments whose payload is in host memory, the least recently used first."""
        return list(self._held)

    @property
    def on_disk(self) -> list[int]:
        """Fragments whose payload is on disk alone."""
        return [fragment_id for fragment_id in self._files if fragment_id not in self._held]

    def file_of(self, fragment_id: int) -> Path:
        """Return the file of a payload.

        :raises KeyError: if it has none
        """
        return self._files[fragment_id].path

    @property
    def disk_bytes(self) -> int:
        """Size of all files."""
        return sum(file.size for files in (self._files, self._lent) for file in files.values())

    def __getitem__(self, fragment_id: int) -> Payload:
        """Return a payload, and bring it back to host memory if it was on disk.

        :raises KeyError: if there is none
        :raises MemoryTierError: if its file is missing or damaged, or another payload had to make room and the disk is
            full
        """
        if fragment_id in self._held:
            self._held[fragment_id] = self._held.pop(fragment_id)
        else:
            self._held[fragment_id] = self._read(fragment_id)
            self._make_room()
        return self._held[fragment_id]

    def __setitem__(self, fragment_id: int, payload: Payload) -> None:
        """Keep a payload.

        :raises MemoryTierError: if another had to make room and the disk is full; the payload is kept all the same
        """
        self._held.pop(fragment_id, None)
        self._held[fragment_id] = payload
        self._remove_file(fragment_id)
        self._make_room()

    def put_back(self, fragment_id: int, payload: Payload) -> None:
        """Keep a payload that is as ``pop`` handed it over: if it came from a file, that one still holds it.

        :raises MemoryTierError: if another had to make room and the disk is full; the payload is kept all the same
        """
        self._held[fragment_id] = payload
        if fragment_id in self._lent:
            self._files[fragment_id] = self._lent.pop(fragment_id)
        self._make_room()

    def pop(self, fragment_id: int) -> Payload:
        """Hand a payload over: it is no longer kept. Its file, if it has one, waits for ``put_back``.

        :raises KeyError: if there is none
        :raises MemoryTierError: if its file is missing or damaged
        """
        payload = self._held.pop(fragment_id) if fragment_id in self._held else self._read(fragment_id)
        if fragment_id in self._files:
            self._lent[fragment_id] = self._files.pop(fragment_id)
        return payload

    def drop(self, fragment_id: int) -> None:
        """Forget a payload, wherever it is, and even if its file is gone."""
        self._held.pop(fragment_id, None)
        self._remove_file(fragment_id)

    def state_dict(self) -> dict[str, Any]:
        """Return the payloads; those on disk are mapped from their files, not read into memory."""
        return {
            "payloads": dict(self._held),
            "files": {fragment_id: self._read(fragment_id) for fragment_id in self.on_disk},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned; without a disk, what was on one comes to host memory."""
        for fragment_id in [*self, *self._lent]:
            self.drop(fragment_id)
        for fragment_id, payload in state["files"].items():
            if self._folder is None:
                self._held[fragment_id] = payload
            else:
                self._write(fragment_id, payload)
        self._held.update(state["payloads"])
        self._make_room()

    def _make_room(self) -> None:
        while self.host is not None and len(self._held) > self.host:
            oldest = next(iter(self._held))
            if oldest not in self._files:
                self._write(oldest, self._held[oldest])
            del self._held[oldest]

    def _write(self, fragment_id: int, payload: Any) -> None:
        assert self._folder is not None
        path = self._folder / f"fragment-{fragment_id}.safetensors"
        try:
            # The memory lives as long as its process: checkpoints are what has to survive a loss of power.
            save_state(payload, path, durable=False)
        except OSError as error:
            reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
            raise MemoryTierError(
                f"fragment {fragment_id} cannot be moved to {self._folder}: {reason}. It stays in host memory, and "
                "nothing is lost; free some space, or set memory: disk to another folder"
            ) from error
        self._files[fragment_id] = _File(path, path.stat().st_size, _checksum(payload))

    def _read(self, fragment_id: int) -> Any:
        if fragment_id not in self._files:
            raise KeyError(f"no payload of fragment {fragment_id}: it was never set, or is lent")
        path, _, checksum = self._files[fragment_id]
        try:
            tree = load_state(path)
            problem = "damaged" if _checksum(tree) != checksum else None
        except FileNotFoundError:
            problem = "missing"
        except (ValueError, OSError):
            problem = "damaged"
        if problem is not None:
            raise MemoryTierError(
                f"fragment {fragment_id} cannot be recalled: {path} is {problem}. All other fragments are intact; "
                f"memory.evict({fragment_id}) gives this one up, or resume from the last checkpoint"
            )
        return tree

    def _remove_file(self, fragment_id: int) -> None:
        for files in (self._files, self._lent):
            file = files.pop(fragment_id, None)
            if file is not None:
                file.path.unlink(missing_ok=True)


def _checksum(tree: Any, start: int = 0) -> int:
    """CRC-32 of all tensors of a tree, in order."""
    if isinstance(tree, torch.Tensor):
        raw = tree.detach().contiguous().cpu().flatten().view(torch.uint8)
        return zlib.crc32(raw.numpy().data, start)
    parts = tree.values() if isinstance(tree, Mapping) else tree if isinstance(tree, list | tuple) else ()
    for part in parts:
        start = _checksum(part, start)
    return start
