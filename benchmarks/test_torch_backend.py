"""fastloss.torch: in each group PyTorch, the same compiled, and fastloss, side by side.

For ratios between them: ``python -m benchmarks.torch_backend``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest

from benchmarks import memory
from benchmarks.contenders import UnavailableError
from benchmarks.elementwise_cases import COMPILED

pytest.importorskip("pytest_benchmark")
pytest.importorskip("torch")

from benchmarks import torch_backend as backend

# For those that need something done before each run, which pytest-benchmark cannot calibrate.
ROUNDS = 10

PAIRS = [
    pytest.param(case, name, id=f"{case.name}-{name.replace(' ', '_')}")
    for case in backend.ROWS
    for name in case.contenders
]


@lru_cache(maxsize=1)
def problem_of(case: backend.Case | backend.StepCase, is_small: bool) -> Any:
    """The arrays of a row, kept for the contenders of that row."""
    return backend.problem_of(case, is_small)


@pytest.mark.parametrize(("case", "name"), PAIRS)
def test_contender(benchmark: Any, case: Any, name: str, is_small: bool) -> None:
    """Time forward and backward, or a step of training, then check what came of it."""
    if is_small and name == COMPILED:
        pytest.skip("takes long to compile")
    benchmark.group = case.title
    try:
        contender = backend.build(name, problem_of(case, is_small))
    except (UnavailableError, ImportError) as reason:
        pytest.skip(str(reason))
    with contender.setting():
        if contender.before is None:
            result = benchmark(contender.call)
        else:
            result = benchmark.pedantic(
                contender.call, setup=contender.before, rounds=ROUNDS, warmup_rounds=1
            )
    contender.check(result)


def test_in_place_takes_no_memory(is_small: bool) -> None:
    """The peak of a process that does nothing else; on small shapes only that it runs and is right."""
    share = backend.share_in_a_process_of_its_own(backend.IN_PLACE, backend.FLOAT32, is_small)
    assert is_small or share <= memory.ALLOWED
