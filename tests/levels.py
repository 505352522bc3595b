"""What tests choose in place of the machine: the instruction set, and what is written past the caches."""

from collections.abc import Iterator
from contextlib import contextmanager

from fastloss import _kernels

# Indices into _kernels.LEVELS ("baseline", "avx2", "avx512").
LEVELS = [level for level in _kernels.BUILT_LEVELS if level <= _kernels.MACHINE_LEVEL]
LEVEL_NAMES = [_kernels.LEVELS[level] for level in LEVELS]


@contextmanager
def using(level: int) -> Iterator[None]:
    """Run a block with the kernels of one level."""
    before = _kernels.use_level(level)
    try:
        yield
    finally:
        _kernels.use_level(before)


@contextmanager
def streaming_from(size: int) -> Iterator[None]:
    """Run a block with outputs of that many bytes, and larger ones, written past the caches."""
    before = _kernels.stream_from(size)
    try:
        yield
    finally:
        _kernels.stream_from(before)
