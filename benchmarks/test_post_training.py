"""The post-training losses: in each group the memory limit, fastloss and PyTorch, side by side.

For ratios between them: ``python -m benchmarks.post_training``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest

from benchmarks.contenders import UnavailableError, is_installed
from benchmarks.post_training_cases import CASES, Case, Problem
from benchmarks.post_training_contenders import build

pytest.importorskip("pytest_benchmark")

PAIRS = [
    pytest.param(case, name, id=f"{case.name}-{name.replace(' ', '_')}")
    for case in CASES
    for name in case.contenders
    if is_installed(name)
]


@lru_cache(maxsize=1)
def problem_of(case: Case, is_small: bool) -> Problem:
    """The arrays of a row, kept for the contenders of that row."""
    return Problem(case, is_small)


@pytest.mark.parametrize(("case", "name"), PAIRS)
def test_contender(benchmark: Any, case: Case, name: str, is_small: bool) -> None:
    """Time the whole call of one contender for one row, then check what it returned."""
    benchmark.group = case.title
    try:
        contender = build(name, problem_of(case, is_small))
    except (UnavailableError, ImportError) as reason:
        pytest.skip(str(reason))
    with contender.setting():
        result = benchmark(contender.call)
    contender.check(result)
