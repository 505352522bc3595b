"""The elementwise losses: in each group the memory limit, fastloss and every installed peer, side by side."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest

from benchmarks.contenders import UnavailableError
from benchmarks.elementwise import CONTENDERS, ROWS, SIZE, Problem, Row, build

pytest.importorskip("pytest_benchmark")


@lru_cache(maxsize=1)
def problem_of(row: Row, size: int, value_only: bool) -> Problem:
    """The arrays of a row, kept for the contenders of that row."""
    return Problem(row, size, value_only)


@pytest.mark.parametrize("name", CONTENDERS)
@pytest.mark.parametrize("value_only", [False, True], ids=["gradient", "value"])
@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_contender(benchmark: Any, row: Row, value_only: bool, name: str, is_small: bool) -> None:
    """Time the whole call of one contender for one row, then check what it returned."""
    benchmark.group = f"{row.loss}, {'value' if value_only else 'value and gradient'}"
    problem = problem_of(row, 5000 if is_small else SIZE, value_only)
    try:
        contender = build(name, problem)
    except (UnavailableError, ImportError) as reason:
        pytest.skip(str(reason))
    contender.check(benchmark(contender.call))
