"""The objectives for gradient boosting beside LightGBM's own and a NumPy formula, as ratios.

    python -m benchmarks.boosting                       every row (a minute or two)
    python -m benchmarks.boosting --rows 'round*'       some
    python -m benchmarks.boosting --small --repeats 2   to try it out

The rows `call-...` time a call of an objective, as LightGBM or XGBoost makes it, beside the formula in
NumPy, its results turned into float32, as the libraries do. The rows `round-...` time a whole round of
LightGBM (`Booster.update`) with its built-in objective, ours, the NumPy formula, and with derivatives that
are ready: what a round takes beyond those is the objective. (For one from outside LightGBM also copies the
scores, which is in all rounds but the built-in's.) The rounds grow trees of two leaves on one feature of a
few values, so that there is little else. How it measures: see `benchmarks.runner`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

import fastloss
from benchmarks import runner
from benchmarks.cases import NUMPY, OURS, Target, at_least, at_most
from benchmarks.contenders import Contender, imported
from benchmarks.problem import WrongResultError
from benchmarks.runner import Result
from fastloss.boosting import lightgbm_objective, xgboost_objective

__all__ = ["CASES", "Case", "build", "main"]

Array = npt.NDArray[Any]
Pair = tuple[Array, Array]
Objective = Callable[[Array, "Data"], Pair]

BUILT_IN, READY = "LightGBM's own", "ready"
CLASSES = 10
ROWS, SMALL_ROWS = 100_000, 2000
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Data:
    """What the objectives use of a data set."""

    label: Array

    def get_label(self) -> Array:
        return self.label

    def get_weight(self) -> None:
        return None


@dataclass(frozen=True)
class Case:
    """A row: a loss for a library; a call of its objective, or the round around it."""

    name: str
    loss: str
    library: str = "lightgbm"
    params: dict[str, Any] | None = None
    targets: tuple[Target, ...] = (at_least(1, NUMPY),)
    ceiling: float | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return (ROWS, CLASSES) if self.loss == "cross_entropy" else (ROWS,)

    @property
    def small(self) -> tuple[int, ...]:
        return (SMALL_ROWS, *self.shape[1:])

    @property
    def title(self) -> str:
        what = "a call" if self.params is None else "a round"
        return f"{self.loss} for {self.library}, {self.shape}, {what}"

    @property
    def contenders(self) -> tuple[str, ...]:
        return (OURS, NUMPY) if self.params is None else (BUILT_IN, OURS, NUMPY, READY)


WITHIN = (at_most(1, BUILT_IN), at_least(1, NUMPY))
CASES = (
    Case("call-multiclass", "cross_entropy"),
    Case("call-xgboost-multiclass", "cross_entropy", "xgboost"),
    Case("call-binary", "binary_cross_entropy_with_logits"),
    Case("call-poisson", "poisson_nll_loss"),
    Case("call-huber", "huber_loss"),
    Case("round-multiclass", "cross_entropy", params={"objective": "multiclass"}, targets=WITHIN),
    Case("round-binary", "binary_cross_entropy_with_logits", params={"objective": "binary"}, targets=WITHIN),
)


# --- the formulas, as one writes them in NumPy ---


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


def scores_of(case: Case, shape: tuple[int, ...]) -> Array:
    """Scores in the type and order that the library has."""
    scores = np.random.default_rng(0).normal(size=shape[::-1]).T
    return scores if case.library == "lightgbm" else np.ascontiguousarray(scores, np.float32)


def labels_of(case: Case, rows: int) -> Array:
    rng = np.random.default_rng(1)
    if case.loss == "cross_entropy":
        return rng.integers(CLASSES, size=rows).astype(np.float32)
    is_binary = case.loss == "binary_cross_entropy_with_logits"
    return (rng.integers(2, size=rows) if is_binary else rng.poisson(2.0, rows)).astype(np.float32)


def objective_of(case: Case, name: str) -> Objective:
    if name == OURS:
        make = lightgbm_objective if case.library == "lightgbm" else xgboost_objective
        return make(case.loss)
    if case.library == "xgboost":
        return partial(FORMULAS[case.loss], factor=2.0)
    return FORMULAS[case.loss]


def require_near(found: Pair, expected: Pair) -> None:
    for array, exact in zip(found, expected, strict=True):
        error = float(np.abs(array - exact).max())
        if not error <= TOLERANCE:
            raise WrongResultError(f"off by {error:.2g}")


def call_of(case: Case, name: str, shape: tuple[int, ...]) -> Contender:
    scores, data = scores_of(case, shape), Data(labels_of(case, shape[0]))
    expected = objective_of(case, NUMPY)(scores.astype(np.float64), data)
    objective = objective_of(case, name)

    def call() -> Pair:
        gradient, hessian = objective(scores, data)
        return gradient.astype(np.float32, copy=False), hessian.astype(np.float32, copy=False)

    return Contender(name, call, lambda found: require_near(found, expected))


def booster_of(case: Case, rows: int, is_built_in: bool) -> Any:
    """A booster whose trees cost next to nothing."""
    lightgbm = imported("lightgbm")
    params: dict[str, Any] = {
        "num_leaves": 2, "max_bin": 4, "min_data_in_leaf": 1, "learning_rate": 1e-3, "force_col_wise": True,
        "boost_from_average": False, "verbose": -1, "num_threads": fastloss.get_num_threads(),
    }  # fmt: skip
    feature = np.random.default_rng(2).integers(4, size=(rows, 1)).astype(np.float64)
    data = lightgbm.Dataset(feature, labels_of(case, rows), params=params)
    if case.loss == "cross_entropy":
        params["num_class"] = CLASSES
    own = case.params if is_built_in and case.params else {"objective": "none"}
    return lightgbm.Booster({**params, **own}, data)


def round_of(case: Case, name: str, shape: tuple[int, ...]) -> Contender:
    booster = booster_of(case, shape[0], name == BUILT_IN)
    if name == BUILT_IN:
        return Contender(name, booster.update, lambda found: None)
    if name == READY:
        scores = np.zeros(shape[::-1]).T
        first = lightgbm_objective(case.loss)(scores, Data(labels_of(case, shape[0])))
        return Contender(name, lambda: booster.update(fobj=lambda scores, data: first), lambda found: None)
    objective = objective_of(case, name)
    return Contender(name, lambda: booster.update(fobj=objective), lambda found: None)


def build(name: str, case: Case, is_small: bool) -> Contender:
    shape = case.small if is_small else case.shape
    return call_of(case, name, shape) if case.params is None else round_of(case, name, shape)


# --- the command ---


def print_shares(result: Result) -> None:
    """What each objective takes of a round."""
    ready = result.times.get(READY)
    for name in (BUILT_IN, OURS, NUMPY):
        if ready is not None and name in result.times:
            share = (result.times[name].median - ready.median) * 1e3
            print(f"  {name:24}{share:9.2f} ms beyond a round whose derivatives are ready")


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = runner.parser("python -m benchmarks.boosting", __doc__, repeats=41)
    parser.add_argument("--small", action="store_true", help="few rows, to try out the instrument itself")
    options = parser.parse_args(argv)
    runner.require_rows(parser, options, [case.name for case in CASES])
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report; 1 where a result was wrong."""
    options = arguments(argv)
    cases = runner.wanted(CASES, options)
    if options.list:
        runner.list_names(cases)
        return 0
    machine = runner.start(options)
    for package in ("lightgbm", "xgboost"):
        with suppress(importlib.metadata.PackageNotFoundError):
            machine[package] = importlib.metadata.version(package)
            print(f"{package:14} {machine[package]}")
    results: list[Result] = []
    for case in cases:
        shape = case.small if options.small else case.shape
        names = runner.contenders_of(case, options)
        make = partial(build, case=case, is_small=options.small)
        results.append(runner.measure(case, shape, names, make, options))
        runner.print_result(results[-1])
        print_shares(results[-1])
    columns = {BUILT_IN: BUILT_IN, OURS: OURS, NUMPY: NUMPY, READY: READY}
    if options.markdown:
        runner.print_markdown(results, columns)
    if options.json:
        runner.write_json(options.json, results, machine)
    return 1 if any(result.wrong for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
