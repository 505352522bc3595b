"""The worst numbers of the elementary functions, as functions.py has found them, are not worse."""

import functions
import numpy as np
import pytest
from levels import LEVELS, using

from fastloss import _kernels

STORED = functions.load()
ERRORS = STORED["functions"]
# The baseline of another processor has other roundings, as it may fuse multiplications and additions.
IS_SAME_BASELINE = _kernels.MACHINE_LEVEL > 0


def most(by_level: dict[str, dict[str, float]], level: int) -> float:
    if IS_SAME_BASELINE:
        return by_level[_kernels.LEVELS[level]]["error"]
    return max(found["error"] for found in by_level.values())


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: _kernels.LEVELS[level])
@pytest.mark.parametrize("function", functions.FUNCTIONS, ids=lambda function: function.title)
def test_no_number_is_worse(function: functions.Function, level: int) -> None:
    by_level = ERRORS[function.title]
    worst = {bits for found in by_level.values() for bits in found["worst"]}
    some = np.arange(0, functions.ALL, 99_991, dtype=np.uint64)
    bits = np.concatenate([np.array([int(b, 16) for b in sorted(worst)], np.uint64), some]).astype(np.uint32)
    with np.errstate(all="ignore"):
        x = functions.within(function, bits.view(np.float32))
        exact = functions.Exact.of(function.exact(x.astype(np.float64)))
        with using(level):
            error = exact.errors(function.apply(x).astype(np.float32).astype(np.float64))
    assert error.max() <= most(by_level, level) + 1e-4, (x[error.argmax()], error.max())


@pytest.mark.skipif(not IS_SAME_BASELINE, reason="the table is of x86-64")
@pytest.mark.parametrize("function", functions.FUNCTIONS, ids=lambda function: function.title)
def test_the_worst_numbers_are_that_bad(function: functions.Function) -> None:
    """Where the C library of NumPy rounds as well as the one the table was made with: a better function is no
    fault, but the table is then stale."""
    for level in LEVELS:
        found = ERRORS[function.title][_kernels.LEVELS[level]]
        x = np.array([int(found["worst"][0], 16)], np.uint32).view(np.float32)
        with np.errstate(all="ignore"), using(level):
            exact = functions.Exact.of(function.exact(x.astype(np.float64)))
            error = exact.errors(function.apply(x).astype(np.float32).astype(np.float64))
        assert error[0] == pytest.approx(found["error"], abs=2e-4)


@pytest.mark.skipif(not functions.PAGE.exists(), reason="needs the folder docs")
def test_the_table_of_the_page_is_that_of_the_errors() -> None:
    page = functions.PAGE.read_text(encoding="utf-8")
    assert functions.with_table(page, STORED) == page, "run python tests/functions.py --write"


def test_wrong_results_are_found() -> None:
    """A last place, an infinity, a NaN, and a number where the result is none."""
    exact = functions.Exact.of(np.array([1.0, 1.0, 1.0, np.nan, 1e300, 1e-40, 2.0]))
    found = np.array([1.0 + 2.0**-23, np.inf, np.nan, 1.0, 1.0, 1.0, 2.0])
    with np.errstate(all="ignore"):
        assert exact.errors(found).tolist() == [1.0, np.inf, np.inf, np.inf, np.inf, np.inf, 0.0]
        good = np.array([1.0, 1.0, 1.0, np.nan, np.inf, 0.0, 2.0])
        assert not exact.errors(good).any()
