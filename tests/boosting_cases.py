"""The table of `fastloss.boosting`: the objectives, and those that LightGBM and XGBoost have built in."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from helpers import Array, Options
from numpy.testing import assert_array_less

from fastloss import boosting, reference
from fastloss.boosting import Objective, lightgbm_objective, xgboost_objective

Pair = tuple[Array, Array]
Make = Callable[..., Objective]
LIBRARIES: dict[str, Make] = {"lightgbm": lightgbm_objective, "xgboost": xgboost_objective}
CLASSES = 5
# Objectives with labels of their own kind: see test_boosting_survival.py and test_boosting_lists.py.
APART = {"aft_loss", "cox_ph_loss", "lambda_rank_loss"}
# And those with several scores for each row: see test_boosting_outputs.py.
APART |= {"gaussian_nll_loss", "negative_binomial_nll_loss", "student_t_nll_loss"}
# Rows and rounds of the models that are compared.
N, ROUNDS = 600, 20


# The formulas of the libraries' documentation and sources, in float64 and without a thought for speed.


def sigmoid(s: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-s))


def focal(s: Array, y: Array, alpha: float | None = 0.25, gamma: float = 2.0) -> Pair:
    share = 1.0 if alpha is None else np.where(y == 1, alpha, 1.0 - alpha)
    sign = 2.0 * y - 1.0
    p, q = sigmoid(sign * s), sigmoid(-sign * s)
    slope = share * q**gamma * (gamma * p * np.log(p) - q)
    bend = share * p * q**gamma * (q * (1 + 2 * gamma + gamma * np.log(p)) - gamma**2 * p * np.log(p))
    return sign * slope, np.maximum(bend, p * np.abs(slope))


def log_cosh(s: Array, y: Array) -> Pair:
    r = s - y
    return np.tanh(r), np.divide(np.tanh(r), r, out=np.ones_like(r), where=r != 0)


def quantile(s: Array, y: Array, quantile: float = 0.5) -> Pair:
    level = np.float32(quantile)  # as they have it
    return np.where(s >= y, np.float32(1) - level, -level).astype(np.float64), np.ones_like(s)


def tweedie(s: Array, y: Array, power: float = 1.5) -> Pair:
    above, below = np.exp((2 - power) * s), y * np.exp((1 - power) * s)
    return above - below, (2 - power) * above - (1 - power) * below


def binary(s: Array, y: Array, pos_weight: float = 1.0) -> Pair:
    w, p = np.where(y == 1, pos_weight, 1.0), sigmoid(s)
    return w * (p - y), w * p * sigmoid(-s)


def multiclass(s: Array, y: Array) -> Pair:
    p = reference.softmax(s)
    return p - (np.arange(s.shape[1]) == y[:, None]), p * (1.0 - p)


def softmax_focal(s: Array, y: Array, alpha: Any = None, gamma: float = 2.0) -> Pair:
    """The second derivative, too, is that of the cross-entropy times a factor of the row."""
    at = np.arange(len(s)), y.astype(int)
    e = np.exp(s - s.max(axis=1, keepdims=True))
    others = e.copy()
    others[at] = 0.0
    u, p = others.sum(axis=1) / e.sum(axis=1), reference.softmax(s)[at]
    loss = np.log(e.sum(axis=1)) - (s - s.max(axis=1, keepdims=True))[at]
    factor = u**gamma * (1.0 + gamma * p * np.divide(loss, u, out=np.ones_like(u), where=u > 0.0))
    if alpha is not None:
        factor *= np.broadcast_to(alpha, s.shape[1])[at[1]]
    return tuple(factor[:, None] * a for a in multiclass(s, y))  # type: ignore[return-value]


class Kind(NamedTuple):
    """What a name stands for: derivatives, labels ("errors" are of any numbers), and the link."""

    formula: Callable[..., Pair]
    labels: str
    link: Callable[[Array], Array] = np.positive


KINDS = {
    "mse_loss": Kind(lambda s, y: (s - y, np.ones_like(s)), "errors"),
    "l1_loss": Kind(lambda s, y: (np.sign(s - y), np.ones_like(s)), "errors"),
    "huber_loss": Kind(lambda s, y, delta=1.0: (np.clip(s - y, -delta, delta), np.ones_like(s)), "errors"),
    "quantile_loss": Kind(quantile, "errors"),
    "log_cosh_loss": Kind(log_cosh, "errors"),
    "poisson_nll_loss": Kind(
        lambda s, y, max_delta_step=0.7: (np.exp(s) - y, np.exp(s + max_delta_step)), "counts", np.exp
    ),
    "gamma_nll_loss": Kind(lambda s, y: (1 - y * np.exp(-s), y * np.exp(-s)), "positive", np.exp),
    "tweedie_nll_loss": Kind(tweedie, "positive", np.exp),
    "binary_cross_entropy_with_logits": Kind(binary, "binary", sigmoid),
    "sigmoid_focal_loss": Kind(focal, "binary", sigmoid),
    "cross_entropy": Kind(multiclass, "classes", reference.softmax),
    "softmax_focal_loss": Kind(softmax_focal, "classes", reference.softmax),
}


def is_of_classes(name: str) -> bool:
    return KINDS[name].labels == "classes"


class Row(NamedTuple):
    """An objective, and the parameters of the built-in one whose models are the same, if there is one."""

    name: str
    options: Options = {}  # noqa: RUF012
    lightgbm: Options | None = None
    xgboost: Options | None = None

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{k}={v}" for k, v in self.options.items())])

    def objective(self, library: str) -> Objective:
        return LIBRARIES[library](self.name, **self.options)

    def built_in(self, library: str) -> Options | None:
        return self.lightgbm if library == "lightgbm" else self.xgboost

    @property
    def labels(self) -> str:
        return KINDS[self.name].labels


SOFTMAX = {"num_class": CLASSES}
# fmt: off
ROWS = [
    Row("mse_loss", {}, {"objective": "regression"}, {"objective": "reg:squarederror"}),
    Row("l1_loss", {}, {"objective": "regression_l1"}, {"objective": "reg:absoluteerror"}),
    Row("huber_loss"),
    Row("huber_loss", {"delta": 0.6}, {"objective": "huber", "alpha": 0.6}),
    Row("quantile_loss"),
    Row("quantile_loss", {"quantile": 0.8}, {"objective": "quantile", "alpha": 0.8},
        {"objective": "reg:quantileerror", "quantile_alpha": 0.8}),
    Row("log_cosh_loss"),
    Row("poisson_nll_loss", {}, {"objective": "poisson"}, {"objective": "count:poisson"}),
    Row("poisson_nll_loss", {"max_delta_step": 0.2}, {"objective": "poisson", "poisson_max_delta_step": 0.2},
        {"objective": "count:poisson", "max_delta_step": 0.2}),
    Row("poisson_nll_loss", {"max_delta_step": 0.0}),
    Row("gamma_nll_loss", {}, {"objective": "gamma"}, {"objective": "reg:gamma"}),
    Row("tweedie_nll_loss", {}, {"objective": "tweedie"}, {"objective": "reg:tweedie"}),
    Row("tweedie_nll_loss", {"power": 1.2}, {"objective": "tweedie", "tweedie_variance_power": 1.2},
        {"objective": "reg:tweedie", "tweedie_variance_power": 1.2}),
    Row("tweedie_nll_loss", {"power": 1}),
    Row("tweedie_nll_loss", {"power": 2.0}),
    Row("binary_cross_entropy_with_logits", {}, {"objective": "binary"}, {"objective": "binary:logistic"}),
    Row("binary_cross_entropy_with_logits", {"pos_weight": 3.0},
        {"objective": "binary", "scale_pos_weight": 3},
        {"objective": "binary:logistic", "scale_pos_weight": 3}),
    Row("sigmoid_focal_loss"),
    Row("sigmoid_focal_loss", {"alpha": None, "gamma": 0.0}, {"objective": "binary"},
        {"objective": "binary:logistic"}),
    Row("sigmoid_focal_loss", {"alpha": 0.75, "gamma": 0.5}),
    Row("sigmoid_focal_loss", {"gamma": 5}),
    Row("cross_entropy", {}, {"objective": "multiclass", **SOFTMAX},
        {"objective": "multi:softprob", **SOFTMAX}),
    Row("softmax_focal_loss"),
    Row("softmax_focal_loss", {"gamma": 0.0}, {"objective": "multiclass", **SOFTMAX},
        {"objective": "multi:softprob", **SOFTMAX}),
    Row("softmax_focal_loss", {"gamma": 0.5, "alpha": 0.3}),
    Row("softmax_focal_loss", {"gamma": 5, "alpha": (0.1, 0.5, 1.0, 2.0, 0.0)}),
]
# fmt: on
# Built in, their leaves are computed again. XGBoost does so for ours, too; of LightGBM's models only where
# the first tree splits is the same.
RENEWED = ("l1_loss", "quantile_loss")


def names_of(library: str) -> set[str]:
    """The names that an objective may have, as the error says."""
    with pytest.raises(ValueError, match="name must be one of") as caught:
        LIBRARIES[library]("")
    return set(re.findall(r"'(\w+)'", str(caught.value)))


def missing_rows(rows: list[Row]) -> set[str]:
    """Names without a row of their defaults, or a row of every option."""
    of_defaults = {row.name for row in rows if not row.options}
    options = {name: set().union(*(row.options for row in rows if row.name == name)) for name in of_defaults}
    lacking = {n for n in of_defaults if set(lightgbm_objective(n).options) - options[n]}
    return lacking | set.union(*((names_of(library) - APART) ^ of_defaults for library in LIBRARIES))


OBJECTIVES = [row.objective(library) for library in LIBRARIES for row in ROWS]
over_libraries = pytest.mark.parametrize("library", LIBRARIES)
over_weights = pytest.mark.parametrize("is_weighted", [False, True])
over_all = pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
# With the default options.
over_plain = pytest.mark.parametrize(
    "objective", [make(name) for make in LIBRARIES.values() for name in KINDS], ids=repr
)


def expected(objective: Objective, s: Array, y: Array, weight: Array | None = None) -> Pair:
    """What the library has for these scores."""
    name, library = objective.name, objective.library
    s, y = s.astype(np.float64), y.astype(np.float64)
    gradient, hessian = KINDS[name].formula(s, y, **objective.options)
    w = np.ones(len(s)) if weight is None else weight.astype(np.float64)
    w = w.reshape((-1,) + (1,) * (s.ndim - 1))
    if is_of_classes(name):
        hessian = (s.shape[1] / (s.shape[1] - 1) if library == "lightgbm" else 2.0) * hessian * w
        return gradient * w, np.maximum(hessian, 1e-16) if library == "xgboost" else hessian
    if library == "xgboost" and KINDS[name].labels == "binary":
        hessian = np.maximum(hessian, 1e-16)
    return gradient * w, hessian * w


def check(library: str, found: Pair, want: Pair, bound: float | None = None) -> None:
    """LightGBM's scores are float64, and only the result is rounded; XGBoost computes in float32, too."""
    bound = bound or (2.5e-7 if library == "lightgbm" else 2e-6)
    for got, exact in zip(found, want, strict=True):
        assert got.dtype == np.float32
        assert got.shape == exact.shape
        scale = np.abs(exact) if library == "lightgbm" else np.maximum(np.abs(exact), 1.0)
        assert_array_less(np.abs(got - exact), bound * scale + 1e-30)


def labels(name: str, n: int, rng: np.random.Generator, classes: int = CLASSES) -> Array:
    made: dict[str, Callable[[], Array]] = {
        "classes": lambda: rng.integers(classes, size=n),
        "binary": lambda: rng.integers(2, size=n),
        "counts": lambda: rng.poisson(2.0, n),
        "positive": lambda: rng.gamma(2.0, size=n) + 0.01,
        "errors": lambda: rng.normal(size=n),
    }
    return made[KINDS[name].labels]().astype(np.float32)


def whole_labels(name: str, n: int, rng: np.random.Generator) -> Array:
    """Labels that every type has."""
    y = np.ceil(np.abs(labels(name, n, rng)))
    return np.minimum(y, 1.0) if KINDS[name].labels == "binary" else y


def drawn(objective: Objective, n: int, seed: int, classes: int = CLASSES) -> tuple[Array, Array, Array]:
    """Scores (in the library's type), labels and weights for an objective."""
    rng, name = np.random.default_rng(seed), objective.name
    s = 2.0 * rng.normal(size=(n, classes) if is_of_classes(name) else n)
    kind = np.float32 if objective.library == "xgboost" else np.float64
    return s.astype(kind), labels(name, n, rng, classes), rng.uniform(0.0, 3.0, n).astype(np.float32)


class Problem(NamedTuple):
    """Features, labels of a loss that depend on them, and weights."""

    features: Array
    labels: Array
    weight: Array


def problem(name: str) -> Problem:
    rng = np.random.default_rng(9)
    x = rng.normal(size=(N, 5))
    signal = x[:, 0] + 0.5 * x[:, 1] * x[:, 2]
    made: dict[str, Callable[[], Array]] = {
        "classes": lambda: np.digitize(signal + 0.3 * rng.normal(size=N), [-1.0, -0.3, 0.3, 1.0]),
        "binary": lambda: signal + 0.5 * rng.normal(size=N) > 0,
        "counts": lambda: rng.poisson(np.exp(0.5 * signal)),
        "positive": lambda: rng.gamma(2.0, np.exp(0.5 * signal)),
        "errors": lambda: signal + 0.3 * rng.standard_t(2, size=N),
    }
    y = made[KINDS[name].labels]()
    return Problem(x, y.astype(np.float32), rng.uniform(0.2, 2.0, N).astype(np.float32))


def labelled(label: Array, weight: Array | None = None, **more: Any) -> Any:
    """What the objectives use of a Dataset or a DMatrix."""
    return SimpleNamespace(get_label=lambda: label, get_weight=lambda: weight, **more)


# The estimators

# Of the libraries' own, too, and few trees.
QUIET: Options = {"verbose": -1, "n_jobs": 1}
FEW: Options = {"n_jobs": 1, "n_estimators": 20, "max_depth": 3}


def estimator(library: str, kind: str, objective: Any, of: Any = boosting, **more: Any) -> Any:
    """An estimator of ours, or of the library itself, that is quiet."""
    pytest.importorskip(library)
    pytest.importorskip("sklearn")
    prefix, quiet = ("LGBM", QUIET) if library == "lightgbm" else ("XGB", FEW)
    return getattr(of, prefix + kind)(objective=objective, **{**quiet, **more})


def evaluation(sets: list[tuple[Array, Array]]) -> Options:
    """Sets for evaluation, as the version of LightGBM takes them."""
    lightgbm = pytest.importorskip("lightgbm")
    if "eval_X" in inspect.signature(lightgbm.LGBMModel.fit).parameters:
        return {"eval_X": tuple(x for x, _ in sets), "eval_y": tuple(y for _, y in sets)}
    return {"eval_set": sets}
