"""What options and few classes cost: beside the plain cross-entropy of the same logits, or beside PyTorch.

All rows are value and gradient, written into a buffer that is kept.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..case import OURS, TORCH, Case, Suite, at_least, at_most
from ..contenders import Contender, contender, ours
from ..problem import require
from .softmax import SoftmaxProblem

__all__ = ["SUITE"]

PLAIN, HESSIAN = "fastloss cross_entropy", "fastloss with hessian"
OPTIONS: dict[str, dict[str, Any]] = {
    "smoothing": {"options": {"label_smoothing": 0.1}},
    "smoothing-weight": {"options": {"label_smoothing": 0.1}, "details": {"has_weight": True}},
    "probabilities": {"details": {"has_probabilities": True}},
    "temperature": {"options": {"temperature": 1.3}},
    "softcap": {"options": {"softcap": 30.0}},
}
# The shapes, and for each option the largest time beside the plain row.
SHAPES: dict[tuple[int, int], dict[str, float]] = {
    (1024, 32000): {
        "smoothing": 1.15, "smoothing-weight": 1.35, "probabilities": 2.0, "temperature": 1.1, "softcap": 2.0,
    },
    (4096, 1000): {
        "smoothing": 1.2, "smoothing-weight": 1.45, "probabilities": 1.9, "temperature": 1.15, "softcap": 2.3,
        "hessian": 1.7,
    },
    (65536, 10): {
        "smoothing": 2.9, "probabilities": 3.9, "temperature": 1.15, "softcap": 5.0, "hessian": 2.5,
    },
}  # fmt: skip


def _case(name: str, shape: tuple[int, int], *, what: str = "", **others: Any) -> Case:
    title, small = f"cross entropy {shape}{what}", (24, min(shape[1], 300))
    return Case("options", name, title, "cross_entropy", shape=shape, small=small, **others)


def _beside_plain(option: str, shape: tuple[int, int], factor: float) -> Case:
    ours = HESSIAN if option == "hessian" else OURS
    return _case(
        f"{option}-{shape[1]}",
        shape,
        what=f", {option.replace('-', ' and ')}",
        contenders=(PLAIN, ours),
        targets=(at_most(factor, PLAIN, of=ours),),
        **OPTIONS.get(option, {}),
    )


def _beside_torch(name: str, shape: tuple[int, int], factor: float) -> Case:
    return _case(name, shape, contenders=(OURS, TORCH), targets=(at_least(factor, TORCH),))


CASES = (
    *(
        _beside_plain(option, shape, factor)
        for shape, by_name in SHAPES.items()
        for option, factor in by_name.items()
    ),
    _beside_torch("two-classes", (262_144, 2), 20.0),
    _beside_torch("ten-classes", (65_536, 10), 28.0),
)


@contender(HESSIAN, suite="options")
def _with_hessian(problem: SoftmaxProblem, name: str) -> Contender:
    """Build the cross-entropy with the diagonal of its hessian, which the tests check."""

    def check(result: Any) -> None:
        loss, gradient, hessian = result
        problem.check(name, loss, gradient)
        share = gradient * problem.shape[0]
        share[np.arange(problem.shape[0]), problem.arguments[1]] += 1.0
        require(np.abs(hessian * problem.shape[0] - share * (1.0 - share)).max(), 1e-6, "the hessian")

    return replace(ours(problem, name, return_hessian=True), check=check)


SUITE = Suite(
    name="options",
    title="options of cross-entropy beside none, and few classes beside PyTorch (half a minute)",
    cases=CASES,
    problem=SoftmaxProblem,
    columns={PLAIN: "plain", OURS: OURS, HESSIAN: "with hessian", TORCH: "PyTorch"},
)
