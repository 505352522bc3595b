"""cox_ph_loss, gradient and diagonal second derivative, sorting included, beside cumulative sums in NumPy.

The NumPy version is what users write: a sort, cumulative sums of the hazards from the latest time on, and of
their reciprocals from the first one. Times are distinct, so that it needs no treatment of ties.

aft_loss with normal noise, of times that are known exactly or censored on the right, stands beside PyTorch's
automatic differentiation of the formula. The limit reads all arguments and writes the gradient past the
caches.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np

import fastloss
from fastloss import reference

from ..case import LIMIT, NUMPY, OURS, TORCH, Case, Suite, at_least
from ..contenders import Contender, contender, imported, ours
from ..peers import torch_peer
from ..problem import Array, Problem, require

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


CASES = (
    _case("cox", 1_000_000),
    _case("cox-10k", 10_000),
    Case(
        "survival",
        "aft",
        "aft_loss, 1,000,000 rows, value and gradient",
        "aft_loss",
        (1_000_000,),
        (2000,),
        contenders=(LIMIT, OURS, TORCH),
        targets=(at_least(1, TORCH),),
        limit="move",
    ),
)


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
    def arguments(self) -> tuple[Array, ...]:
        return self.data

    @cached_property
    def expected(self) -> tuple[Any, ...]:
        given = (self.data[0].astype(np.float64), *self.data[1:])
        if len(given[0]) > 2000:
            return cumulative(*given)
        found: Any = reference.cox_ph_loss(*given, return_grad=True, return_hessian=True)
        return tuple(found)

    def require_near(self, found: tuple[Any, ...]) -> None:
        for name, one, exact in zip(("loss", "gradient", "hessian"), found, self.expected, strict=True):
            require(np.abs(one - exact) / np.abs(exact).max(), AGREEMENT, name)


class AftProblem(Problem):
    """The reference has the whole gradient; errors are relative to its largest entry."""

    largest_axis = None

    @cached_property
    def arguments(self) -> tuple[Array, ...]:
        """Return logarithms of times, and the bounds: equal for six of ten, and else without an upper one."""
        rng, rows = np.random.default_rng(0), self.shape[0]
        x = rng.standard_normal(rows, dtype=np.float32)
        lower = np.exp(x + rng.standard_normal(rows, dtype=np.float32))
        return x, lower, np.where(rng.random(rows) < 0.6, lower, np.float32(np.inf))

    @cached_property
    def answer(self) -> tuple[float, Array]:
        found: Any = reference.aft_loss(*self.arguments, return_grad=True)
        loss, gradient = found
        return loss, gradient

    @property
    def expected_loss(self) -> float:
        return self.answer[0]

    @property
    def expected_values(self) -> tuple[Array, ...]:
        return (self.answer[1],)


def _problem(case: Case, is_small: bool) -> Problem:
    return (AftProblem if case.function == "aft_loss" else SurvivalProblem)(case, is_small)


def _cox(problem: SurvivalProblem, name: str) -> Contender:
    out = np.ones_like(problem.data[0])

    def call() -> Any:
        return fastloss.cox_ph_loss(*problem.data, return_grad=True, return_hessian=True, out=out)

    return Contender(name, call, problem.require_near)


@contender(OURS, suite="survival")
def _ours(problem: Problem, name: str) -> Contender:
    return _cox(problem, name) if isinstance(problem, SurvivalProblem) else ours(problem, name)


@contender(NUMPY, suite="survival")
def _numpy(problem: SurvivalProblem, name: str) -> Contender:
    return Contender(name, lambda: cumulative(*problem.data), problem.require_near)


@contender(TORCH, suite="survival")
def _torch(problem: AftProblem, name: str) -> Contender:
    torch = imported("torch")
    constant = 0.5 * math.log(2.0 * math.pi)

    def aft_loss(x: Any, lower: Any, upper: Any) -> Any:
        log_time = lower.log()
        z = log_time - x
        exact = 0.5 * z * z + log_time + constant
        return torch.where(lower == upper, exact, -torch.special.log_ndtr(-z)).mean()

    return torch_peer(problem, name, aft_loss)


SUITE = Suite(
    name="survival",
    title="losses of survival times beside cumulative sums in NumPy, and PyTorch (seconds)",
    cases=CASES,
    problem=_problem,
    columns={LIMIT: "memory limit", OURS: OURS, NUMPY: "NumPy", TORCH: "PyTorch"},
    repeats=9,
)
