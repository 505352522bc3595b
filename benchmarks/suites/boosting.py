"""The objectives for gradient boosting beside LightGBM's own and a NumPy formula.

The rows `call-...` time a call of an objective, in the form of LightGBM or XGBoost, beside the formula in
NumPy with its results converted to float32, as the libraries do. The rows `round-...` time a whole round of
LightGBM (`Booster.update`) with its built-in objective, with that of fastloss, with the NumPy formula, and
with precomputed derivatives: the time beyond the last is that of the objective. (For custom objectives
LightGBM also copies the scores; only the built-in one avoids it.) The rounds grow trees of two leaves on
one feature of a few values, so that other work is small.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

import fastloss
from benchmarks.case import NUMPY, OURS, Case, Suite, at_least, at_most
from benchmarks.contenders import Contender, contender, imported
from benchmarks.problem import Array, Problem, require
from fastloss.boosting import lightgbm_objective, xgboost_objective

__all__ = ["SUITE"]

BUILT_IN, READY = "LightGBM's own", "ready"
CLASSES = 10
ROWS, SMALL_ROWS = 100_000, 2000
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Data:
    """The part of a data set that objectives use."""

    label: Array

    def get_label(self) -> Array:
        return self.label

    def get_weight(self) -> None:
        return None


Pair = tuple[Array, Array]
Objective = Callable[[Array, Data], Pair]


def _case(name: str, loss: str, library: str = "lightgbm", own: str | None = None) -> Case:
    """Return a row: a call of an objective, or, with the library's `own`, the round around it."""
    others = (CLASSES,) if loss == "cross_entropy" else ()
    shape, small = (ROWS, *others), (SMALL_ROWS, *others)
    return Case(
        "boosting",
        name,
        f"{loss} for {library}, {shape}, {'a call' if own is None else 'a round'}",
        loss,
        shape,
        small,
        contenders=(OURS, NUMPY) if own is None else (BUILT_IN, OURS, NUMPY, READY),
        targets=(at_least(1, NUMPY),) if own is None else (at_most(1, BUILT_IN), at_least(1, NUMPY)),
        details={"library": library, "own": own},
    )


CASES = (
    _case("call-multiclass", "cross_entropy"),
    _case("call-xgboost-multiclass", "cross_entropy", "xgboost"),
    _case("call-binary", "binary_cross_entropy_with_logits"),
    _case("call-poisson", "poisson_nll_loss"),
    _case("call-huber", "huber_loss"),
    _case("round-multiclass", "cross_entropy", own="multiclass"),
    _case("round-binary", "binary_cross_entropy_with_logits", own="binary"),
)


# --- the formulas in plain NumPy ---


def numpy_multiclass(scores: Array, data: Data, factor: float = CLASSES / (CLASSES - 1)) -> Pair:
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    hessian = factor * p * (1.0 - p)
    p[np.arange(len(p)), data.get_label().astype(np.int64)] -= 1.0
    return p, hessian


def numpy_binary(scores: Array, data: Data) -> Pair:
    p = 1.0 / (1.0 + np.exp(-scores))
    return p - data.get_label(), p * (1.0 - p)


def numpy_poisson(scores: Array, data: Data) -> Pair:
    return np.exp(scores) - data.get_label(), np.exp(scores + 0.7)


def numpy_huber(scores: Array, data: Data) -> Pair:
    return np.clip(scores - data.get_label(), -1.0, 1.0), np.ones_like(scores)


FORMULAS: dict[str, Objective] = {
    "cross_entropy": numpy_multiclass,
    "binary_cross_entropy_with_logits": numpy_binary,
    "poisson_nll_loss": numpy_poisson,
    "huber_loss": numpy_huber,
}


# --- the contenders ---


class BoostingProblem(Problem):
    """The expected result of a call is the formula in float64; a round's objective is checked in a call."""

    @cached_property
    def scores(self) -> Array:
        """Return scores in the type and order of the library."""
        scores = np.random.default_rng(0).normal(size=self.shape[::-1]).T
        return scores if self._is_lightgbm else np.ascontiguousarray(scores, np.float32)

    @cached_property
    def data(self) -> Data:
        rng, rows = np.random.default_rng(1), self.shape[0]
        high = {"cross_entropy": CLASSES, "binary_cross_entropy_with_logits": 2}.get(self.case.function)
        label = rng.poisson(2.0, rows) if high is None else rng.integers(high, size=rows)
        return Data(label.astype(np.float32))

    @property
    def _is_lightgbm(self) -> bool:
        return bool(self.case.details["library"] == "lightgbm")

    @property
    def threads(self) -> int:
        return fastloss.get_num_threads()

    def objective(self, name: str) -> Objective:
        """Return the objective of a contender."""
        if name == OURS:
            return (lightgbm_objective if self._is_lightgbm else xgboost_objective)(self.case.function)
        formula: Any = FORMULAS[self.case.function]
        return formula if self._is_lightgbm else partial(formula, factor=2.0)

    @cached_property
    def expected_values(self) -> tuple[Array, ...]:  # type: ignore[override]
        return self.objective(NUMPY)(self.scores.astype(np.float64), self.data)

    def require_near(self, found: Pair) -> None:
        for array, exact in zip(found, self.expected_values, strict=True):
            require(np.abs(array - exact), TOLERANCE, "a derivative")

    def booster(self, objective: str) -> Any:
        """Return a booster whose trees cost almost nothing."""
        lightgbm = imported("lightgbm")
        params: dict[str, Any] = {
            "num_leaves": 2, "max_bin": 4, "min_data_in_leaf": 1, "learning_rate": 1e-3,
            "force_col_wise": True, "boost_from_average": False, "verbose": -1, "num_threads": self.threads,
        }  # fmt: skip
        feature = np.random.default_rng(2).integers(4, size=(self.shape[0], 1)).astype(np.float64)
        data = lightgbm.Dataset(feature, self.data.get_label(), params=params)
        if self.case.function == "cross_entropy":
            params["num_class"] = CLASSES
        return lightgbm.Booster({**params, "objective": objective}, data)

    def notes(self, medians: dict[str, float]) -> list[str]:
        """Return the share of each objective in a round."""
        ready = medians.get(READY)
        return [
            f"{name:24}{(median - ready) * 1e3:9.2f} ms beyond a round whose derivatives are ready"
            for name, median in medians.items()
            if ready is not None and name != READY
        ]


@contender(OURS, NUMPY, suite="boosting")
def _objective(problem: BoostingProblem, name: str) -> Contender:
    objective, scores, data = problem.objective(name), problem.scores, problem.data

    def call() -> Pair:
        gradient, hessian = objective(scores, data)
        return gradient.astype(np.float32, copy=False), hessian.astype(np.float32, copy=False)

    if problem.case.details["own"] is None:
        return Contender(name, call, problem.require_near)
    booster = problem.booster("none")
    update = partial(booster.update, fobj=objective)
    return Contender(name, update, lambda _: problem.require_near(call()))


@contender(BUILT_IN, suite="boosting")
def _built_in(problem: BoostingProblem, name: str) -> Contender:
    return Contender(name, problem.booster(problem.case.details["own"]).update)


@contender(READY, suite="boosting")
def _ready(problem: BoostingProblem, name: str) -> Contender:
    booster = problem.booster("none")
    first = problem.objective(OURS)(np.zeros(problem.shape[::-1]).T, problem.data)
    return Contender(name, lambda: booster.update(fobj=lambda scores, data: first))


SUITE = Suite(
    name="boosting",
    title="objectives for LightGBM and XGBoost (a minute or two)",
    cases=CASES,
    problem=BoostingProblem,
    columns={BUILT_IN: BUILT_IN, OURS: OURS, NUMPY: NUMPY, READY: READY},
    repeats=41,
)
