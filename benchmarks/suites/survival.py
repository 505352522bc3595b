"""cox_ph_loss, gradient and diagonal second derivative, sorting included, beside cumulative sums in NumPy.

The NumPy version is what users write: a sort, cumulative sums of the hazards from the latest time on, and of
their reciprocals from the first one. Times are distinct, so that it needs no treatment of ties.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

import fastloss
from benchmarks.case import NUMPY, OURS, Case, Suite, at_least
from benchmarks.contenders import Contender, contender
from benchmarks.problem import Array, Problem, require
from fastloss import reference

__all__ = ["SUITE"]

# The largest error of a derivative, relative to its largest, and of the loss.
AGREEMENT = 1e-6


def _case(name: str, rows: int, what: str = "", **options: Any) -> Case:
    return Case(
        "survival",
        name,
        f"cox_ph_loss, {rows:,} rows{what}",
        "cox_ph_loss",
        (rows,),
        (500,),
        contenders=(OURS, NUMPY),
        targets=(at_least(3, NUMPY),),
        options=options,
    )


CASES = (_case("cox", 1_000_000), _case("cox-10k", 10_000))


def cumulative(x: Array, time: Array, event: Array) -> tuple[float, Array, Array]:
    """Return loss, gradient and second derivative of times without ties."""
    order = np.argsort(time)[::-1]
    y, d = x[order].astype(np.float64), event[order]
    top = y.max()
    hazard = np.exp(y - top)
    sums = np.cumsum(hazard)
    count = d.sum()
    loss = (np.log(sums[d]) - (y[d] - top)).sum() / count
    shares = np.where(d, 1.0 / sums, 0.0)
    a = np.cumsum(shares[::-1])[::-1]
    b = np.cumsum((shares * shares)[::-1])[::-1]
    gradient, hessian = np.empty_like(x), np.empty_like(x)
    gradient[order] = (hazard * a - d) / count
    hessian[order] = (hazard * a - hazard * hazard * b) / count
    return float(loss), gradient, hessian


class SurvivalProblem(Problem):
    """The expected result is that of the reference for a few rows, which needs a risk set for each event."""

    @cached_property
    def data(self) -> tuple[Array, Array, Array]:
        """Return log hazards, times and events, six of ten."""
        rng, rows = np.random.default_rng(0), self.shape[0]
        x = rng.standard_normal(rows, dtype=np.float32)
        return x, rng.exponential(1.0, rows), rng.random(rows) < 0.6

    @property
    def arguments(self) -> tuple[Array, ...]:  # type: ignore[override]
        return self.data

    @cached_property
    def expected(self) -> tuple[Any, ...]:
        given = (self.data[0].astype(np.float64), *self.data[1:])
        if len(given[0]) > 2000:
            return cumulative(*given)
        return reference.cox_ph_loss(*given, return_grad=True, return_hessian=True)  # type: ignore[return-value]

    def require_near(self, found: tuple[Any, ...]) -> None:
        for name, one, exact in zip(("loss", "gradient", "hessian"), found, self.expected, strict=True):
            require(np.abs(one - exact) / np.abs(exact).max(), AGREEMENT, name)


@contender(OURS, suite="survival")
def _ours(problem: SurvivalProblem, name: str) -> Contender:
    out = np.ones_like(problem.data[0])

    def call() -> Any:
        return fastloss.cox_ph_loss(*problem.data, return_grad=True, return_hessian=True, out=out)

    return Contender(name, call, problem.require_near)


@contender(NUMPY, suite="survival")
def _numpy(problem: SurvivalProblem, name: str) -> Contender:
    return Contender(name, lambda: cumulative(*problem.data), problem.require_near)


SUITE = Suite(
    name="survival",
    title="Cox's partial likelihood beside cumulative sums in NumPy (seconds)",
    cases=CASES,
    problem=SurvivalProblem,
    columns={OURS: OURS, NUMPY: NUMPY},
    repeats=9,
)
