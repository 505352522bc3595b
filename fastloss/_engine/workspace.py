"""Memory that is kept for later calls, unless the system reclaims it in between.

New memory costs page faults. For 131 MB these take 22 ms if the kernel has free pages, and 340 ms if a
virtual machine requests them from its host; the gradient of as many logits takes 10 ms. But kept memory is
not available to other processes. ``madvise(MADV_FREE)`` solves both: the pages stay, and the kernel reclaims
those that it needs. (Measured: filling the pages again takes 15.3 ms, with and without the call.)

malloc keeps an array of less than 4 MiB, but not two: when both are deleted, it returns their memory to the
system. So the further arrays of a call come from a few small pieces, which are kept as they are: offering
256 KiB takes eight times as long as filling them. (Measured with both derivatives of 65,536 to 1,000,000
elements on a virtual machine: a tenth of the time.)
"""

from __future__ import annotations

import math
import mmap
from collections import deque
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from fastloss import _kernels
from fastloss._engine.types import Array

__all__ = ["empty", "empty_like"]

# The least and the most bytes of a piece that is kept (malloc keeps smaller ones), and the number of pieces.
LEAST, MOST, PIECES = _kernels.KEPT, 2**28, 2
# The same for the further arrays of a call; larger ones are as the first.
LEAST_BESIDE, PIECES_BESIDE = 2**17, 4
# A piece may be this many times as large as the request that reuses it.
SLACK = 8
_can_keep = hasattr(mmap, "MADV_FREE")
# Threads use these without a lock. At worst a thread finds no piece, and gets new memory.
_kept: deque[mmap.mmap] = deque()
_kept_beside: deque[mmap.mmap] = deque()


def _taken(kept: deque[mmap.mmap], size: int) -> mmap.mmap | None:
    """Remove and return the smallest kept piece that fits, or None."""
    pieces = []
    with suppress(IndexError):
        while True:
            pieces.append(kept.popleft())
    fitting = [piece for piece in pieces if size <= len(piece) <= SLACK * size]
    found = min(fitting, key=len, default=None)
    kept.extend(piece for piece in pieces if piece is not found)
    return found


def _new(size: int) -> mmap.mmap | None:
    try:
        piece = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError:
        return None
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel may not support huge pages
            piece.madvise(mmap.MADV_HUGEPAGE)
    return piece


def _keep(kept: deque[mmap.mmap], most: int, piece: mmap.mmap) -> None:
    kept.append(piece)
    with suppress(IndexError):
        while len(kept) > most:
            kept.popleft()


def _give_back(piece: mmap.mmap) -> None:
    """Keep a piece, and let the system reclaim it. Release it if the system has no ``MADV_FREE``."""
    global _can_keep
    try:
        piece.madvise(mmap.MADV_FREE)
    except OSError:
        _can_keep = False
        return
    _keep(_kept, PIECES, piece)


def _give_back_beside(piece: mmap.mmap) -> None:
    _keep(_kept_beside, PIECES_BESIDE, piece)


def _lent(size: int, is_beside: bool) -> Any:
    """Return a buffer whose memory is kept when its last array is deleted; None if memory is not kept."""
    if not _can_keep or not (LEAST_BESIDE if is_beside else LEAST) <= size <= MOST:
        return None
    kept, give_back = (_kept_beside, _give_back_beside) if size < LEAST else (_kept, _give_back)
    piece = _taken(kept, size) or _new(size)
    if piece is None:
        kept.clear()  # there may be room now
        return None
    # Arrays keep a reference to the object that owns their memory, and so do their views.
    return _kernels.Lent(piece, size, give_back)


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike, *, is_beside: bool = False) -> Array:
    """Return an uninitialized array, like ``numpy.empty``; `is_beside`: a further one of a call."""
    lent = _lent(math.prod(shape) * np.dtype(dtype).itemsize, is_beside)
    if lent is None:
        return np.empty(shape, dtype)
    return np.ndarray(shape, dtype, buffer=lent)


def _strides_like(array: Array) -> tuple[int, ...]:
    """Return the strides of ``numpy.empty_like(array)``: no gaps, and the same order of axes in memory."""
    strides = [0] * array.ndim
    step = array.itemsize
    for axis in sorted(range(array.ndim), key=lambda axis: (abs(array.strides[axis]), -axis)):
        strides[axis] = step
        step *= array.shape[axis]
    return tuple(strides)


def empty_like(array: Array, *, is_beside: bool = False) -> Array:
    """Return an uninitialized array, like ``numpy.empty_like``; `is_beside`: a further one of a call."""
    lent = _lent(array.nbytes, is_beside)
    if lent is None:
        return np.empty_like(array)
    flags = array.flags
    if flags.c_contiguous or flags.f_contiguous:
        return np.ndarray(array.shape, array.dtype, lent, order="C" if flags.c_contiguous else "F")
    return np.ndarray(array.shape, array.dtype, lent, strides=_strides_like(array))
