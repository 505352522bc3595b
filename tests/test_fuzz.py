"""Some thousand of the random calls of fuzz.py, the same in every run."""

from collections import Counter

import fuzz
import fuzz_objects
import numpy as np
import pages
import pytest
from helpers import full_if

import fastloss

# It prints; see test_public.py.
NOT_DRAWN = {"show_config"}


@pytest.mark.parametrize("start", [full_if(start > 0, start) for start in range(4)])
def test_random_calls(start: int) -> None:
    seen: Counter[str] = Counter()
    fuzz.run(600, start, seen)
    assert seen.total() >= 600
    assert len(seen) > len({row.name for row in fuzz.ROWS}) // 2


@pytest.mark.parametrize("name", fuzz_objects.CHECKS)
def test_random_cases_of_each_object(name: str) -> None:
    for number in range(12):
        fuzz_objects.ObjectCase(name, number, 1 + number).check()


def test_every_public_name_is_drawn() -> None:
    rows = {row.name for row in fuzz.ROWS}
    assert not rows & fuzz_objects.NAMES
    assert rows | fuzz_objects.NAMES | NOT_DRAWN == set(fastloss.__all__)


def test_memory_between_pages_holds_any_array() -> None:
    for place in (pages.FENCED, "contiguous"):
        for at_end in (False, True):
            array = pages.placed(np.arange(3000.0).reshape(30, 100), place, at_end)
            assert array[29, 99] == 2999.0 and array.flags.writeable
