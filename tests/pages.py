"""Copies of arrays that lie in memory in other ways, among them between pages that nobody may touch."""

import ctypes
import math
import mmap
import sys

import numpy as np
from helpers import LAYOUTS, Array

PAGE = mmap.PAGESIZE
FENCED = "between pages"
PLACES = [*LAYOUTS, *([FENCED] * 6 if sys.platform == "linux" else [])]


def fenced(values: Array, at_end: bool) -> Array:
    """A copy that begins behind, or ends before, a page that nobody may touch."""
    pages = max(1, math.ceil(values.nbytes / PAGE))
    room = mmap.mmap(-1, (pages + 2) * PAGE)
    first = ctypes.addressof(ctypes.c_char.from_buffer(room))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    for page in (first, first + (pages + 1) * PAGE):
        if protect(ctypes.c_void_p(page), ctypes.c_size_t(PAGE), 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    start = (pages + 1) * PAGE - values.nbytes if at_end else PAGE
    array = np.frombuffer(room, values.dtype, values.size, start).reshape(values.shape)
    array[...] = values
    return array


def placed(values: Array, place: str, at_end: bool) -> Array:
    """A copy that lies so; the layouts are those of up to three axes."""
    if place != FENCED and values.ndim <= 3:
        return LAYOUTS[place].place(values)[1]
    return fenced(values, at_end) if sys.platform == "linux" else values.copy()
