"""Memory that goes back to the system as soon as it is not needed."""

import ctypes
import mmap
from collections.abc import Sequence
from math import prod

import torch

_FROM = 1 << 16  # bytes; below it, whole pages would cost too much of what they hold
_FLOAT = 4


class OwnPages:
    """Numbers on the CPU, zeros at first, on pages of memory that nothing else lies on.

    Allocators keep what is freed between other things for themselves: where large blocks come and go for days, as
    modules do, a process holds far more than it uses. Pages that were never written, or are given back, take no memory.
    Small tensors, and systems without private mappings, make do with the allocator.

    :param shape: shape of the tensor
    """

    def __init__(self, shape: Sequence[int]) -> None:
        size = _FLOAT * prod(shape)
        self._pages: mmap.mmap | None = None
        if size < _FROM or not hasattr(mmap, "MAP_ANONYMOUS"):
            self.tensor = torch.zeros(tuple(shape))
            """float32[shape]. It keeps the pages for as long as it, or a view of it, is there."""
            return
        self._pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_NOHUGEPAGE"):
            self._pages.madvise(mmap.MADV_NOHUGEPAGE)  # or a few numbers would take two megabytes
        self.tensor = torch.frombuffer(self._pages, dtype=torch.float32).view(tuple(shape))

    def give_back(self, first: int, end: int) -> None:
        """Give the memory of some of the numbers back, which may be zeros then; they count in the order in memory."""
        page = mmap.PAGESIZE
        start, stop = -(-_FLOAT * first // page) * page, _FLOAT * end // page * page
        if self._pages is not None and start < stop and hasattr(mmap, "MADV_DONTNEED"):
            self._pages.madvise(mmap.MADV_DONTNEED, start, stop - start)


def give_back_free_memory() -> None:
    """Give the system back what the allocator keeps for later, where it is glibc's; it takes milliseconds.

    What comes and goes between things that stay leaves holes in a process that runs for days: a hundred megabytes of
    them were held, and never the same, in runs with 200 fragments.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if hasattr(mmap, "MAP_ANONYMOUS") else None
    if trim is not None:
        trim(0)
