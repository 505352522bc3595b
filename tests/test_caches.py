"""The caches of the machine decide what is written past them, and no bit of a result."""

from pathlib import Path

import pytest
from helpers import HALF, each
from levels import streaming_from
from registry import Row, call, over, with_all
from rows import ROWS

from fastloss import _kernels

MIB = 2**20


def test_sizes() -> None:
    """As Linux reports them; in any case from the first level up, where they are known."""
    known = [size for size in _kernels.CACHES if size]
    assert len(_kernels.CACHES) == 3 and known == sorted(known) and all(size >= 1024 for size in known)
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        if kind != "Instruction" and int(level) <= 3:
            assert _kernels.CACHES[int(level) - 1] == int(size.removesuffix("K")) * 1024


@pytest.mark.parametrize(
    ("largest", "size"),
    [(0, 32), (-1, 32), (1, 8), (MIB, 8), (16 * MIB, 16), (48 * MIB, 48), (320 * MIB, 64), (2**62, 64)],
)
def test_what_follows_from_them(largest: int, size: int) -> None:
    """The largest, within bounds; a default where none is known."""
    assert _kernels.streamed(largest) == size * MIB


def test_in_use() -> None:
    assert _kernels.stream_from() == _kernels.streamed(max(_kernels.CACHES))
    with streaming_from(5):
        assert _kernels.stream_from() == 5


STREAMED = [row for row in ROWS if row.gradients and row.same_bits and len(row.shapes[0]) == 3]


@over(STREAMED)
@each("dtype", ["float32", "float64", HALF])
def test_same_bits(row: Row, dtype: str, isa: int) -> None:
    reduction = "none" if "none" in row.reductions else "mean"
    for c in (call(row, (70, 2, 70), dtype, reduction), with_all(row, (70, 2, 70), dtype)):
        with streaming_from(2**62):
            expected = c.bits(num_threads=1)
        with streaming_from(0):
            assert c.bits(num_threads=1) == expected, c.title
