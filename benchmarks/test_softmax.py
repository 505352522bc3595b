"""The softmax rows: in each group the memory limit, fastloss and every installed peer, side by side.

    pytest benchmarks --benchmark-only            everything (many minutes)
    pytest benchmarks -k one-call                 one row
    pytest benchmarks --benchmark-disable         no timing: each contender once, on a small shape

Every result is checked, after its timing. Times of different contenders are from different minutes here; for
ratios between them run ``python -m benchmarks.compare``, which takes them in turn.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest

from benchmarks.cases import CASES, Case
from benchmarks.contenders import UnavailableError, build, is_installed
from benchmarks.problem import Problem

pytest.importorskip("pytest_benchmark")

# For those that need something done before each run, which pytest-benchmark cannot calibrate.
ROUNDS = 10

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
    problem = problem_of(case, is_small)
    try:
        contender = build(name, problem)
    except (UnavailableError, ImportError) as reason:
        pytest.skip(str(reason))
    benchmark.extra_info["threads"] = problem.threads
    with contender.setting():
        if contender.before is None:
            result = benchmark(contender.call)
        else:
            result = benchmark.pedantic(
                contender.call, setup=contender.before, rounds=ROUNDS, warmup_rounds=1
            )
    contender.check(result)
