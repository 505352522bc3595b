"""Memory for a call that is there for the next one too, unless the system has needed it in between.

Fresh memory costs page faults: 131 MB of logits 22 ms where the kernel has the pages at hand, 340 where a
virtual machine has to ask its host for them, beside 510 for the matrix products that fill and use them.
Keeping it would cost others that memory. The system call for both is ``madvise(MADV_FREE)``: the pages stay,
and the kernel takes those that it needs for something else. (Measured: 15.3 ms to fill them again, as without
the call.)
"""

from __future__ import annotations

import math
import mmap
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from fastloss._types import Array

__all__ = ["workspace"]

# Bytes from which memory is kept (malloc keeps less by itself), and up to which.
LEAST, MOST = 2**20, 2**28
_can_keep = hasattr(mmap, "MADV_FREE")
_lock = threading.Lock()
_kept: mmap.mmap | None = None


def _room(size: int) -> mmap.mmap:
    """The memory that is kept, made anew where it is too small."""
    global _kept
    if _kept is None or len(_kept) < size:
        _kept = None
        _kept = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            _kept.madvise(mmap.MADV_HUGEPAGE)
    return _kept


@contextmanager
def workspace(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Iterator[Array]:
    """An array with anything in it, until the end of the block.

    What is kept is one: who finds it taken, by another thread, gets fresh memory.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if not _can_keep or not LEAST <= size <= MOST or not _lock.acquire(blocking=False):
        yield np.empty(shape, dtype)
        return
    try:
        yield np.frombuffer(_room(size), dtype, math.prod(shape)).reshape(shape)
    finally:
        if _kept is not None:
            _kept.madvise(mmap.MADV_FREE)
        _lock.release()
