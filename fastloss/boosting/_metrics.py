"""LightGBM's metrics by name, with the link of a custom objective.

LightGBM applies no link for custom objectives: its log loss would use scores as probabilities.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastloss._engine.types import Array
from fastloss.boosting._objective import Objective
from fastloss.distribution import negative_binomial_nll_loss, student_t_nll_loss
from fastloss.regression import gaussian_nll_loss, quantile_loss

Result = tuple[str, float, bool]

# LightGBM's aliases.
_ALIASES = {
    "mean_squared_error": "l2", "mse": "l2", "regression": "l2", "regression_l2": "l2",
    "l2_root": "rmse", "root_mean_squared_error": "rmse",
    "mean_absolute_error": "l1", "mae": "l1", "regression_l1": "l1",
    "mean_absolute_percentage_error": "mape",
    "binary": "binary_logloss", "softmax": "multi_logloss", "multiclass": "multi_logloss",
    "xentropy": "cross_entropy",
}  # fmt: skip
_NONE = ("", "none", "null", "custom", "na")
_OF_TWO_OR_MORE = {"logloss": "logloss", "error": "error"} | {
    f"{prefix}_{name}": name for prefix in ("binary", "multi") for name in ("logloss", "error")
}


# --- a value for each row, from the label and the prediction ---


def _squared(y: Array, p: Array) -> Any:
    return np.square(p - y)


def _absolute(y: Array, p: Array) -> Any:
    return np.abs(p - y)


def _relative(y: Array, p: Array) -> Any:
    return np.abs(p - y) / np.maximum(1.0, np.abs(y))


def _poisson(y: Array, p: Array) -> Any:
    return p - y * np.log(np.maximum(p, 1e-10))


def _gamma(y: Array, p: Array) -> Any:
    held = np.maximum(p, 1e-10)
    return y / held + np.log(held)


def _binary_log_loss(y: Array, p: Array) -> Any:
    return -np.log(np.maximum(np.where(y > 0.0, p, 1.0 - p), 1e-15))


def _binary_error(y: Array, p: Array) -> Any:
    return (p > 0.5) != (y > 0.0)


def _cross_entropy(y: Array, p: Array) -> Any:
    held = np.clip(p, 1e-12, 1.0 - 1e-12)
    return -(y * np.log(held) + (1.0 - y) * np.log(1.0 - held))


def _log_loss(y: Array, p: Array) -> Any:
    return -np.log(np.maximum(_of_label(y, p), 1e-15))


def _error(y: Array, p: Array) -> Any:
    return np.count_nonzero(p >= _of_label(y, p)[:, None], axis=1) > 1


def _of_label(y: Array, p: Array) -> Any:
    return p[np.arange(len(y)), y.astype(np.int64)]


def _tweedie(y: Array, p: Array, power: float) -> Any:
    held = np.maximum(p, 1e-10)
    return held ** (2.0 - power) / (2.0 - power) - y * held ** (1.0 - power) / (1.0 - power)


_OF_ROWS: dict[str, Callable[[Array, Array], Any]] = {
    "l1": _absolute,
    "l2": _squared,
    "rmse": _squared,
    "mape": _relative,
    "poisson": _poisson,
    "gamma": _gamma,
    "binary_logloss": _binary_log_loss,
    "binary_error": _binary_error,
    "cross_entropy": _cross_entropy,
    "multi_logloss": _log_loss,
    "multi_error": _error,
}
_OF_PROBABILITIES = ("l1", "l2", "rmse", "binary_logloss", "binary_error", "cross_entropy")
_OF_MEANS = ("l1", "l2", "rmse", "mape", "poisson", "gamma")
_OF_RANKS = ("auc", "average_precision")


def _names(objective: Objective) -> tuple[str, ...]:
    """Return the names of the metrics for an objective."""
    if objective.has_classes:
        return "multi_logloss", "multi_error"
    if objective.name in ("binary_cross_entropy_with_logits", "sigmoid_focal_loss"):
        return _OF_PROBABILITIES + _OF_RANKS
    has_power = objective.name == "tweedie_nll_loss" and 1.0 < objective.options["power"] < 2.0
    return (*_OF_MEANS, "tweedie") if has_power else _OF_MEANS


def default(objective: Objective) -> str:
    """Return the metric of LightGBM's own objective, or of the most similar one."""
    if objective.name == "tweedie_nll_loss":
        return {1.0: "poisson", 2.0: "gamma"}.get(objective.options["power"], "tweedie")
    if objective.name in ("cox_ph_loss", "aft_loss"):
        return ""
    return {"poisson_nll_loss": "poisson", "gamma_nll_loss": "gamma"}.get(objective.name, "logloss")


def canonical(name: str, objective: Objective) -> str:
    """Return LightGBM's canonical name of a metric for a number of classes; "" for none."""
    name = name.strip().lower()
    if name in _NONE:
        return ""
    name = _ALIASES.get(name, name)
    if name in _OF_TWO_OR_MORE:
        return f"{'multi' if objective.has_classes else 'binary'}_{_OF_TWO_OR_MORE[name]}"
    return name


def by_name(name: str, objective: Objective) -> Callable[[Array, Array, Array | None], Result]:
    """Return a metric of LightGBM as a function of labels, scores and weights, which applies the link."""
    known = _names(objective)
    if name not in known:
        raise ValueError(
            f"eval_metric {name!r} is not known for the objective {objective.name!r}, which has "
            f"{', '.join(known)}: pass a function of labels and predictions instead"
        )

    def evaluate(y_true: Array, y_pred: Array, weight: Array | None) -> Result:
        return (
            name,
            _value(name, y_true, _predictions(objective, y_pred), weight, objective),
            name in _OF_RANKS,
        )

    return evaluate


def _value(name: str, y: Array, p: Array, weight: Array | None, objective: Objective) -> float:
    if name in _OF_RANKS:
        from sklearn import metrics  # LightGBM's estimators also need it

        of_ranks = metrics.roc_auc_score if name == "auc" else metrics.average_precision_score
        return float(of_ranks(y > 0.0, p, sample_weight=weight))
    rows = _tweedie(y, p, objective.options["power"]) if name == "tweedie" else _OF_ROWS[name](y, p)
    average = float(np.average(rows, weights=weight))
    return math.sqrt(average) if name == "rmse" else average


def of_predictions(metric: Callable[..., Any], objective: Objective) -> Callable[..., Any]:
    """Return a user's metric of labels, predictions and optional weights as a metric of scores."""

    @functools.wraps(metric)  # LightGBM counts its arguments
    def evaluate(y_true: Array, y_pred: Array, *others: Any) -> Any:
        return metric(y_true, _predictions(objective, y_pred), *others)

    return evaluate


def of_loss(objective: Objective) -> Callable[..., Result]:
    """Return the weighted mean of the loss as a metric, for objectives with several scores for a row."""

    def evaluate(y_true: Array, y_pred: Array, weight: Array | None = None) -> Result:
        found = _predictions(objective, y_pred)
        y = np.asarray(y_true, found.dtype)
        if objective.name == "quantile_loss":
            level = objective.options["quantile"]
            return objective.name, quantile_loss(found, y, quantile=level, weight=weight), False
        if objective.name == "negative_binomial_nll_loss":
            found[:, 0] = y_pred[:, 0]  # this loss is of the logarithm of the mean
        function: Any = _OF_PARAMETERS[objective.name]
        columns = found.T
        return objective.name, function(columns[0], y, *columns[1:], weight=weight, check_domain=False), False

    return evaluate


_OF_PARAMETERS = {
    "gaussian_nll_loss": gaussian_nll_loss,
    "negative_binomial_nll_loss": negative_binomial_nll_loss,
    "student_t_nll_loss": student_t_nll_loss,
}


def _predictions(objective: Objective, scores: Array) -> Array:
    predictions = objective.transform(scores)
    assert isinstance(predictions, np.ndarray)
    return predictions
