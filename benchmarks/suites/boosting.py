"""The objectives for gradient boosting beside LightGBM's own and a NumPy formula.

The rows `call-...` time a call of an objective, in the form of LightGBM or XGBoost, beside the formula in
NumPy with its results converted to float32, as the libraries do. The rows `round-...` time a whole round of
LightGBM (`Booster.update`) with its built-in objective, with that of fastloss, with the NumPy formula, and
with precomputed derivatives: the time beyond the last is that of the objective. (For custom objectives
LightGBM also copies the scores; only the built-in one avoids it.) The rounds grow trees of two leaves on
one feature of a few values, so that other work is small.

`call-gaussian` has two scores for each row. There torch has the gradient from one automatic differentiation,
and the diagonal of the second derivative from another one for each parameter. (That of fastloss is the Fisher
information, so that only gradients are compared.) `round-lambdarank` has queries of 20 documents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

import fastloss
from fastloss import reference
from fastloss.boosting import lightgbm_objective, xgboost_objective

from ..case import NUMPY, OURS, TORCH, Case, Suite, at_least, at_most
from ..contenders import Contender, contender, imported
from ..problem import Array, Problem, require

__all__ = ["BUILT_IN", "READY", "SUITE", "BoostingProblem", "Pair", "built_in", "objective_of", "ready"]

BUILT_IN, READY = "LightGBM's own", "ready"
CLASSES = 10
DOCUMENTS = 20  # of a query
ROWS, SMALL_ROWS = 100_000, 2000
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Data:
    """The part of a data set that objectives use."""

    label: Array
    group: Array | None = None

    def get_group(self) -> Array | None:
        return self.group

    def get_label(self) -> Array:
        return self.label

    def get_weight(self) -> None:
        return None


Pair = tuple[Array, Array]
Objective = Callable[[Array, Data], Pair]


def _case(
    name: str,
    loss: str,
    library: str = "lightgbm",
    own: str | None = None,
    peers: tuple[str, ...] = (NUMPY,),
) -> Case:
    """Return a row: a call of an objective, or, with the library's `own`, the round around it."""
    others = {"cross_entropy": (CLASSES,), "softmax_focal_loss": (CLASSES,), "gaussian_nll_loss": (2,)}.get(
        loss, ()
    )
    shape, small = (ROWS, *others), (SMALL_ROWS, *others)
    return Case(
        "boosting",
        name,
        f"{loss} for {library}, {shape}, {'a call' if own is None else 'a round'}",
        loss,
        shape,
        small,
        contenders=(OURS, *peers) if own is None else (BUILT_IN, OURS, *peers, READY),
        targets=(*([] if own is None else [at_most(1, BUILT_IN)]), *(at_least(1, peer) for peer in peers)),
        details={"library": library, "own": own},
    )


CASES = (
    _case("call-multiclass", "cross_entropy"),
    _case("call-xgboost-multiclass", "cross_entropy", "xgboost"),
    _case("call-binary", "binary_cross_entropy_with_logits"),
    _case("call-poisson", "poisson_nll_loss"),
    _case("call-huber", "huber_loss"),
    _case("call-focal-multiclass", "softmax_focal_loss"),
    _case("call-gaussian", "gaussian_nll_loss", peers=(NUMPY, TORCH)),
    _case("round-multiclass", "cross_entropy", own="multiclass"),
    _case("round-binary", "binary_cross_entropy_with_logits", own="binary"),
    _case("round-lambdarank", "lambda_rank_loss", own="lambdarank", peers=()),
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


def numpy_focal(scores: Array, data: Data, gamma: float = 2.0) -> Pair:
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    rows, label = np.arange(len(p)), data.get_label().astype(np.int64)
    q = p[rows, label]
    factor = (1.0 - q) ** gamma * (1.0 - gamma * q * np.log(q) / (1.0 - q))
    hessian = CLASSES / (CLASSES - 1) * factor[:, None] * p * (1.0 - p)
    p[rows, label] -= 1.0
    return factor[:, None] * p, hessian


def numpy_gaussian(scores: Array, data: Data) -> Pair:
    """Return the gradient by mean and log variance, and the Fisher information."""
    mean, log_variance = scores.T
    error, precision = mean - data.get_label(), np.exp(-log_variance)
    gradient = np.stack([error * precision, 0.5 - 0.5 * error * error * precision], axis=1)
    return gradient, np.stack([precision, np.full(len(scores), 0.5)], axis=1)


def torch_gaussian(scores: Array, data: Data) -> Pair:
    """Return the gradient and the diagonal of the second derivative by automatic differentiation."""
    torch = imported("torch")
    x = torch.from_numpy(np.ascontiguousarray(scores)).requires_grad_()
    label = torch.from_numpy(data.get_label())
    variance = x[:, 1].exp()
    loss = torch.nn.functional.gaussian_nll_loss(x[:, 0], label, variance, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
    second = [torch.autograd.grad(gradient[:, k].sum(), x, retain_graph=True)[0][:, k] for k in range(2)]
    return gradient.detach().numpy(), torch.stack(second, dim=1).numpy()


FORMULAS: dict[str, Objective] = {
    "cross_entropy": numpy_multiclass,
    "binary_cross_entropy_with_logits": numpy_binary,
    "poisson_nll_loss": numpy_poisson,
    "huber_loss": numpy_huber,
    "softmax_focal_loss": numpy_focal,
    "gaussian_nll_loss": numpy_gaussian,
}


# --- the contenders ---


class BoostingProblem(Problem):
    """The expected result of a call is the formula in float64; a round's objective is checked in a call."""

    documents = DOCUMENTS

    @cached_property
    def scores(self) -> Array:
        """Return scores in the type and order of the library."""
        scores = np.random.default_rng(0).normal(size=self.shape[::-1]).T
        return scores if self._is_lightgbm else np.ascontiguousarray(scores, np.float32)

    @cached_property
    def data(self) -> Data:
        rng, rows = np.random.default_rng(1), self.shape[0]
        kinds = {
            "cross_entropy": CLASSES, "softmax_focal_loss": CLASSES, "binary_cross_entropy_with_logits": 2,
            "lambda_rank_loss": 5,
        }  # fmt: skip
        high = kinds.get(self.case.function)
        label = rng.poisson(2.0, rows) if high is None else rng.integers(high, size=rows)
        return Data(label.astype(np.float32), self.sizes)

    @cached_property
    def sizes(self) -> Array | None:
        """Return the sizes of queries, or None."""
        if self.case.function != "lambda_rank_loss":
            return None
        return np.full(self.shape[0] // self.documents, self.documents)

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
        if name == TORCH:
            return torch_gaussian
        formula: Any = FORMULAS[self.case.function]
        return formula if self._is_lightgbm else partial(formula, factor=2.0)

    @cached_property
    def expected_values(self) -> Pair:
        if self.sizes is not None:
            options: Any = {"reduction": "sum", "return_grad": True, "return_hessian": True}
            found: Any = reference.lambda_rank_loss(self.scores, self.data.label, self.sizes, **options)
            _, gradient, hessian = found
            return gradient, hessian
        return self.objective(NUMPY)(self.scores.astype(np.float64), self.data)

    def require_near(self, found: Pair, name: str = OURS) -> None:
        """Compare derivatives; torch's second one is another."""
        for array, exact in list(zip(found, self.expected_values, strict=True))[: 1 if name == TORCH else 2]:
            require(np.abs(array - exact) / np.maximum(np.abs(exact), 1.0), TOLERANCE, "a derivative")

    def booster(self, objective: str) -> Any:
        """Return a booster whose trees cost almost nothing."""
        lightgbm = imported("lightgbm")
        params: dict[str, Any] = {
            "num_leaves": 2, "max_bin": 4, "min_data_in_leaf": 1, "learning_rate": 1e-3,
            "force_col_wise": True, "boost_from_average": False, "verbose": -1, "num_threads": self.threads,
        }  # fmt: skip
        feature = np.random.default_rng(2).integers(4, size=(self.shape[0], 1)).astype(np.float64)
        data = lightgbm.Dataset(feature, self.data.get_label(), group=self.sizes, params=params)
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


@contender(OURS, NUMPY, TORCH, suite="boosting")
def objective_of(problem: BoostingProblem, name: str) -> Contender:
    objective, scores, data = problem.objective(name), problem.scores, problem.data

    def call() -> Pair:
        gradient, hessian = objective(scores, data)
        return gradient.astype(np.float32, copy=False), hessian.astype(np.float32, copy=False)

    if problem.case.details["own"] is None:
        return Contender(name, call, partial(problem.require_near, name=name))
    booster = problem.booster("none")
    update = partial(booster.update, fobj=objective)
    return Contender(name, update, lambda _: problem.require_near(call()))


@contender(BUILT_IN, suite="boosting")
def built_in(problem: BoostingProblem, name: str) -> Contender:
    return Contender(name, problem.booster(problem.case.details["own"]).update)


@contender(READY, suite="boosting")
def ready(problem: BoostingProblem, name: str) -> Contender:
    booster = problem.booster("none")
    first = problem.objective(OURS)(np.zeros(problem.shape[::-1]).T, problem.data)
    return Contender(name, lambda: booster.update(fobj=lambda scores, data: first))


SUITE = Suite(
    name="boosting",
    title="objectives for LightGBM and XGBoost (a minute or two)",
    cases=CASES,
    problem=BoostingProblem,
    columns={BUILT_IN: BUILT_IN, OURS: OURS, NUMPY: NUMPY, TORCH: TORCH, READY: READY},
    repeats=41,
)
