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
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import numpy.typing as npt

from fastloss._types import Array

__all__ = ["workspace"]

# Bytes from which memory is kept (malloc keeps less by itself), and up to which.
LEAST, MOST = 2**20, 2**28
_can_keep = hasattr(mmap, "MADV_FREE")
_lock = threading.Lock()
_kept: mmap.mmap | None = None


def _after_fork_in_child() -> None:
    """Another thread of the parent may have held the lock, and worked in the memory."""
    global _lock, _kept
    _lock, _kept = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _room(size: int) -> mmap.mmap | None:
    """The memory that is kept, made anew where it is too small; None where there is none."""
    global _kept
    if _kept is None or len(_kept) < size:
        _kept = None
        try:
            _kept = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError:
            return None
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):  # a kernel may not have them
                _kept.madvise(mmap.MADV_HUGEPAGE)
    return _kept


def _offer() -> None:
    """Let the system have what is kept, if it needs it; where it knows no such offer, give it back."""
    global _kept, _can_keep
    if _kept is not None:
        try:
            _kept.madvise(mmap.MADV_FREE)
        except OSError:
            _kept, _can_keep = None, False


@contextmanager
def workspace(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Iterator[Array]:
    """An array with anything in it, until the end of the block.

    What is kept is one: who finds it taken, by another thread, gets fresh memory.
    """
    count, lock = math.prod(shape), _lock
    size = count * np.dtype(dtype).itemsize
    if not _can_keep or not LEAST <= size <= MOST or not lock.acquire(blocking=False):
        yield np.empty(shape, dtype)
        return
    try:
        room = _room(size)
        yield np.empty(shape, dtype) if room is None else np.frombuffer(room, dtype, count).reshape(shape)
    finally:
        _offer()
        lock.release()
