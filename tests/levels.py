"""The instruction sets that this machine can run, for tests that go through all of them."""

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
