"""Some thousand of the random calls of fuzz.py, the same in every run."""

from collections import Counter

import fuzz
import numpy as np
import pytest
from rows import ROWS


@pytest.mark.parametrize("start", range(4))
def test_random_calls(start: int) -> None:
    seen: Counter[str] = Counter()
    fuzz.run(600, start, seen)
    assert seen.total() >= 600
    assert len(seen) > len({row.name for row in ROWS}) // 2


def test_memory_between_pages_holds_any_array() -> None:
    for place in (fuzz.FENCED, "contiguous"):
        for at_end in (False, True):
            array = fuzz.placed(np.arange(3000.0).reshape(30, 100), place, at_end)
            assert array[29, 99] == 2999.0 and array.flags.writeable
