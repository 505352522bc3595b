"""What options and few classes cost: beside the plain cross-entropy of the same logits, or beside PyTorch.

All rows are value and gradient, written into a buffer that is kept.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from fastloss import reference

from ..case import OURS, TORCH, Case, Suite, at_least, at_most
from ..contenders import Contender, contender, ours
from ..problem import Array, in_blocks, require
from .softmax import SoftmaxProblem

__all__ = ["SUITE"]

PLAIN, HESSIAN = "fastloss plain", "fastloss with hessian"
WEIGHT = "weight"  # in the details: the row has class weights
OPTIONS: dict[str, dict[str, Any]] = {
    "smoothing": {"options": {"label_smoothing": 0.1}},
    "smoothing-weight": {"options": {"label_smoothing": 0.1}, "details": {WEIGHT: True}},
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


def _case(option: str, shape: tuple[int, int], factor: float) -> Case:
    title = f"cross entropy {shape}, {option.replace('-', ' and ')}"
    common = partial(
        Case, "options", f"{option}-{shape[1]}", title, "cross_entropy", shape, (24, min(shape[1], 300))
    )
    if option == "hessian":
        return common((PLAIN, HESSIAN), (at_most(factor, PLAIN, of=HESSIAN),))
    return common((PLAIN, OURS), (at_most(factor, PLAIN),), **OPTIONS[option])


def _beside_torch(name: str, shape: tuple[int, int], factor: float) -> Case:
    title = f"cross entropy {shape}"
    common = partial(Case, "options", name, title, "cross_entropy", shape, (24, shape[1]))
    return common((OURS, TORCH), (at_least(factor, TORCH),))


CASES = (
    *(
        _case(option, shape, factor)
        for shape, by_name in SHAPES.items()
        for option, factor in by_name.items()
    ),
    _beside_torch("two-classes", (262_144, 2), 20.0),
    _beside_torch("ten-classes", (65_536, 10), 28.0),
)


class OptionsProblem(SoftmaxProblem):
    """Rows of logits, whose classes may have weights."""

    @cached_property
    def our_options(self) -> dict[str, Any]:
        if not self.case.details.get(WEIGHT):
            return {}
        return {"weight": np.random.default_rng(2).uniform(0.5, 2.0, self.shape[-1]).astype(np.float32)}

    @cached_property
    def _count(self) -> float:
        """Return the divisor of the mean: the number of rows, or the sum of the weights of their targets."""
        weight = self.our_options.get("weight")
        return float(self.shape[0] if weight is None else weight[self.arguments[1]].sum(dtype=np.float64))

    @cached_property
    def expected_loss(self) -> float:
        options = {**self.case.options, **self.our_options}
        rows = in_blocks(reference.cross_entropy, self.arguments, reduction="sum", **options)
        return float(sum(rows)) / self._count

    @cached_property
    def expected_values(self) -> tuple[Array, ...]:
        function: Any = reference.cross_entropy
        options = {**self.case.options, **self.our_options}
        _, grad = function(*self.sampled(self.arguments), reduction="sum", return_grad=True, **options)
        return (grad / self._count,)


@contender(PLAIN, suite="options")
def _plain(problem: OptionsProblem, name: str) -> Contender:
    """Build the cross-entropy without options, of class indices."""
    return ours(OptionsProblem(replace(problem.case, options={}, details={}), problem.is_small), name)


@contender(HESSIAN, suite="options")
def _with_hessian(problem: OptionsProblem, name: str) -> Contender:
    """Build the cross-entropy with the diagonal of its hessian, which the tests check."""
    out = np.ones_like(problem.out), np.ones_like(problem.out)

    def check(result: Any) -> None:
        loss, gradient, hessian = result
        problem.check(name, loss, gradient)
        share = gradient * problem.shape[0]
        share[np.arange(problem.shape[0]), problem.arguments[1]] += 1.0
        require(np.abs(hessian * problem.shape[0] - share * (1.0 - share)).max(), 1e-6, "the hessian")

    return replace(ours(problem, name, return_hessian=True, out=out), check=check)


SUITE = Suite(
    name="options",
    title="options of cross-entropy beside none, and few classes beside PyTorch (half a minute)",
    cases=CASES,
    problem=OptionsProblem,
    columns={PLAIN: "plain", OURS: OURS, HESSIAN: "with hessian", TORCH: "PyTorch"},
)
