"""fastloss.torch beside torch's own functions: forward and backward of each row.

For ratios between them: ``python -m benchmarks.torch_backend``.
"""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("pytest_benchmark")
pytest.importorskip("torch")

from benchmarks import torch_backend
from benchmarks.torch_backend import CASES, COMPILED, Case, build

# Compiling takes longer than all the rest.
PAIRS = [
    pytest.param(case, name, id=f"{case.name}-{name.replace(' ', '_')}")
    for case in CASES
    for name in case.contenders
    if name != COMPILED
]


@pytest.mark.filterwarnings("ignore:reduction. .mean. divides:UserWarning")
@pytest.mark.parametrize(("case", "name"), PAIRS)
def test_contender(benchmark: Any, case: Case, name: str, is_small: bool) -> None:
    """Time forward and backward, then check loss and gradient."""
    benchmark.group = case.title
    contender = build(name, case, is_small)

    def prepare() -> None:
        if contender.before is not None:
            contender.before()

    with contender.setting():
        result = benchmark.pedantic(contender.call, setup=prepare, rounds=1 if is_small else 10)
    contender.check(result)


def test_memory(is_small: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """One gradient beyond the logits; in place, nothing. On small shapes only that it runs."""
    assert torch_backend.main(["--memory", *(["--small"] if is_small else [])]) == 0
    assert capsys.readouterr().out.count("x the logits") == 3
