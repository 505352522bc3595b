"""Memory for a call that is there for the next one too, unless the system has needed it in between.

Fresh memory costs page faults: 131 MB 22 ms where the kernel has the pages at hand, 340 where a virtual
machine has to ask its host for them; the gradient of as many logits takes 10. Keeping it would cost others
that memory. The system call for both is ``madvise(MADV_FREE)``: the pages stay, and the kernel takes those
that it needs for something else. (Measured: 15.3 ms to fill them again, as without the call.)
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

# Bytes from which memory is kept (malloc keeps less by itself), and up to which; and how many pieces.
LEAST, MOST, PIECES = _kernels.KEPT, 2**28, 2
# A piece may be this many times as large as what it serves for.
SLACK = 8
_can_keep = hasattr(mmap, "MADV_FREE")
# Threads take and give here without a lock: at worst one finds nothing, and gets fresh memory.
_kept: deque[mmap.mmap] = deque()


def _taken(size: int) -> mmap.mmap | None:
    """The smallest piece that fits, taken out of those that are kept."""
    pieces = []
    with suppress(IndexError):
        while True:
            pieces.append(_kept.popleft())
    fitting = [piece for piece in pieces if size <= len(piece) <= SLACK * size]
    found = min(fitting, key=len, default=None)
    _kept.extend(piece for piece in pieces if piece is not found)
    return found


def _new(size: int) -> mmap.mmap | None:
    try:
        piece = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError:
        return None
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel may not have them
            piece.madvise(mmap.MADV_HUGEPAGE)
    return piece


def _give_back(piece: mmap.mmap) -> None:
    """Let the system have a piece if it needs it; where it knows no such offer, give it back."""
    global _can_keep
    try:
        piece.madvise(mmap.MADV_FREE)
    except OSError:
        _can_keep = False
        return
    _kept.append(piece)
    with suppress(IndexError):
        while len(_kept) > PIECES:
            _kept.popleft()


def _lent(size: int) -> Any:
    """A buffer whose memory is kept when the last array in it is gone; None for memory that is not."""
    if not _can_keep or not LEAST <= size <= MOST:
        return None
    piece = _taken(size) or _new(size)
    if piece is None:
        return None
    # Arrays refer to the object that they have their memory from, and views of them to the same.
    return _kernels.Lent(piece, size, _give_back)


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """As ``numpy.empty``."""
    lent = _lent(math.prod(shape) * np.dtype(dtype).itemsize)
    if lent is None:
        return np.empty(shape, dtype)
    return np.ndarray(shape, dtype, buffer=lent)


def _strides_like(array: Array) -> tuple[int, ...]:
    """The strides of ``numpy.empty_like(array)``: without gaps, the axes in their order in memory."""
    strides = [0] * array.ndim
    step = array.itemsize
    for axis in sorted(range(array.ndim), key=lambda axis: (abs(array.strides[axis]), -axis)):
        strides[axis] = step
        step *= array.shape[axis]
    return tuple(strides)


def empty_like(array: Array) -> Array:
    """As ``numpy.empty_like``."""
    lent = _lent(array.nbytes)
    if lent is None:
        return np.empty_like(array)
    flags = array.flags
    if flags.c_contiguous or flags.f_contiguous:
        return np.ndarray(array.shape, array.dtype, lent, order="C" if flags.c_contiguous else "F")
    return np.ndarray(array.shape, array.dtype, lent, strides=_strides_like(array))
