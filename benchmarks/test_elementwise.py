"""The elementwise losses: in each group the memory limit, fastloss and every installed peer, side by side.

Without torch.compile, which takes long to compile: ``python -m benchmarks.elementwise --with torch.compile``.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import pytest

from benchmarks.contenders import Contender, UnavailableError, is_installed
from benchmarks.elementwise_cases import DTYPES, ROWS, SIZE, Case, Problem
from benchmarks.elementwise_contenders import build

pytest.importorskip("pytest_benchmark")

SMALL = 5000


def pairs(dtype: str, is_value: bool) -> list[Any]:
    """Each row with each of its contenders."""
    kind = f"{dtype}-{'value' if is_value else 'gradient'}"
    return [
        pytest.param(case, name, id=f"{case.name}-{kind}-{name.replace(' ', '_')}")
        for case in (Case(row, dtype=dtype, is_value=is_value) for row in ROWS)
        for name in case.contenders
        if is_installed(name)
    ]


@lru_cache(maxsize=1)
def problem_of(case: Case) -> Problem:
    """The arrays of a row, kept for the contenders of that row."""
    return Problem(case)


def built(case: Case, name: str) -> Contender:
    """The contender of that name; skips the test where there is none."""
    try:
        return build(name, problem_of(case))
    except (UnavailableError, ImportError) as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize(("case", "name"), [*pairs("float32", False), *pairs("float32", True)])
def test_contender(benchmark: Any, case: Case, name: str, is_small: bool) -> None:
    """Time the whole call of one contender for one row, then check what it returned."""
    case = replace(case, size=SMALL if is_small else SIZE)
    benchmark.group = case.title
    contender = built(case, name)
    with contender.setting():
        result = benchmark(contender.call)
    contender.check(result)


@pytest.mark.parametrize(("case", "name"), [pair for dtype in DTYPES[1:] for pair in pairs(dtype, False)])
def test_every_type_is_right(case: Case, name: str) -> None:
    """The other types are timed by ``python -m benchmarks.elementwise`` alone: here one call of each."""
    contender = built(replace(case, size=SMALL), name)
    with contender.setting():
        contender.check(contender.call())
