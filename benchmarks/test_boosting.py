"""The objectives for gradient boosting: a call of ours and of a NumPy formula, and rounds of LightGBM.

For ratios between them: ``python -m benchmarks.boosting``.
"""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.boosting import CASES, Case, build
from benchmarks.contenders import UnavailableError

pytest.importorskip("pytest_benchmark")

PAIRS = [
    pytest.param(case, name, id=f"{case.name}-{name.replace(' ', '_')}")
    for case in CASES
    for name in case.contenders
]


@pytest.mark.parametrize(("case", "name"), PAIRS)
def test_contender(benchmark: Any, case: Case, name: str, is_small: bool) -> None:
    """Time a call or a round, then check what it returned."""
    benchmark.group = case.title
    try:
        contender = build(name, case, is_small)
    except (UnavailableError, ImportError) as reason:
        pytest.skip(str(reason))
    with contender.setting():
        result = benchmark(contender.call)
    contender.check(result)
