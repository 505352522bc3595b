"""XGBoost's estimators for scikit-learn, with start and link for custom objectives."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import xgboost

from fastloss._engine.types import Array
from fastloss.boosting._objective import Objective, require_classifier
from fastloss.boosting._signature import with_signature_of

__all__ = ["XGBClassifier", "XGBRegressor"]

# XGBoost's objective with the same link, and, if it has the same loss, with its option and its leaves.
_BESIDE = {
    "mse_loss": "reg:squarederror",
    "l1_loss": "reg:absoluteerror",
    "huber_loss": "reg:squarederror",
    "quantile_loss": "reg:quantileerror",
    "log_cosh_loss": "reg:squarederror",
    "poisson_nll_loss": "count:poisson",
    "gamma_nll_loss": "reg:gamma",
    "tweedie_nll_loss": "reg:tweedie",
    "binary_cross_entropy_with_logits": "binary:logistic",
    "sigmoid_focal_loss": "binary:logistic",
    "cross_entropy": "multi:softprob",
    "softmax_focal_loss": "multi:softprob",
    "gaussian_nll_loss": "reg:squarederror",
    "negative_binomial_nll_loss": "reg:squarederror",
    "student_t_nll_loss": "reg:squarederror",
    "cox_ph_loss": "survival:cox",
    "aft_loss": "survival:aft",
    "lambda_rank_loss": "reg:squarederror",  # its fit has no groups, and the objective says so
}
# XGBoost's names of options that its trees or metrics read.
_OPTIONS = {
    "quantile": "quantile_alpha",
    "power": "tweedie_variance_power",
    "max_delta_step": "max_delta_step",
    "scale": "aft_loss_distribution_scale",
    "distribution": "aft_loss_distribution",
}
# Probabilities of float32, the type of XGBoost's base_score.
_LEAST, _LARGEST = 1e-15, 1.0 - 2.0**-24
_HAS_A_START_FOR_EACH_CLASS = tuple(map(int, xgboost.__version__.split(".")[:2])) >= (3, 1)


class _Parameters(dict[str, Any]):
    """Parameters that keep their objective: the estimators would insert one with the identity link."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name != "objective":
            super().__setitem__(name, value)


class _Boosted:
    """The common part of the two estimators: a base class before XGBoost's own."""

    _is_fitting = False
    _start: float | list[float] | None = None  # the base_score during fit

    def fit(self, X: Any, y: Any, **named: Any) -> Any:  # noqa: N803
        """Fit the model by XGBoost's own `fit`, with the start of an objective of fastloss."""
        call = inspect.signature(super().fit).bind(X, y, **named)  # type: ignore[misc]
        objective = self._ours()
        is_set = self.base_score is not None  # type: ignore[attr-defined]
        is_set = is_set or any(named.get(name) is not None for name in ("base_margin", "xgb_model"))
        start = None if objective is None else self._start_of(objective, y, named.get("sample_weight"))
        try:
            self._is_fitting, self._start = True, None if is_set else start
            super().fit(*call.args, **call.kwargs)  # type: ignore[misc]
        finally:
            del self._is_fitting, self._start
        return self

    def _ours(self) -> Objective | None:
        objective = self.objective  # type: ignore[attr-defined]
        return objective if isinstance(objective, Objective) else None

    def _start_of(self, objective: Objective, y: Any, weight: Any) -> float | list[float] | None:
        labels = np.asarray(y)
        if labels.dtype.kind not in "fiub" or not labels.size or not np.isfinite(labels).all():
            return None  # XGBoost raises the error
        start = objective.init_score(labels, weight)
        if np.ndim(start) and not _HAS_A_START_FOR_EACH_CLASS:
            return None
        if objective.has_classes or objective.outputs:
            return np.asarray(start).tolist()  # type: ignore[no-any-return]
        prediction = np.asarray(objective.transform(start))
        if _BESIDE[objective.name] == "binary:logistic":
            prediction = prediction.clip(_LEAST, _LARGEST)
        return prediction.tolist()  # type: ignore[no-any-return]

    def get_xgb_params(self) -> dict[str, Any]:
        """Return the parameters of training."""
        parameters: dict[str, Any] = super().get_xgb_params()  # type: ignore[misc]
        objective = self._ours()
        if objective is None or not self._is_fitting:
            return parameters
        for option, value in objective.options.items():
            if option in _OPTIONS and parameters.get(_OPTIONS[option]) is None:
                parameters[_OPTIONS[option]] = list(value) if isinstance(value, tuple) else value
        parameters["objective"] = _BESIDE[objective.name]
        if objective.has_classes:
            parameters["num_class"] = self.n_classes_  # type: ignore[attr-defined]
        if objective.outputs and objective.name != "quantile_loss":
            # XGBoost's own metric is of one prediction for each row.
            parameters |= {"num_target": objective.outputs, "disable_default_eval_metric": True}
        if self._start is not None:
            parameters["base_score"] = self._start
        return _Parameters(parameters)


class XGBRegressor(_Boosted, xgboost.XGBRegressor):  # type: ignore[misc]
    """XGBoost's regressor, for the objectives of `xgboost_objective`.

    With one of them as `objective`, scores start at the minimum of the weighted loss, and the parameters
    also name XGBoost's own objective with the same link: `predict` and metrics, also of early stopping, are
    of means instead of their logarithms for Poisson, gamma and Tweedie, and leaves of `l1_loss` and
    `quantile_loss` are renewed. With several quantiles, and with distributions, `predict` returns a column
    for each quantile or parameter. Everything else, any other `objective` included, is as in
    ``xgboost.XGBRegressor``.
    """

    @with_signature_of(xgboost.XGBRegressor.fit)
    def fit(self, X: Any, y: Any, **named: Any) -> Any:  # noqa: N803
        """Fit the model as XGBoost's own class does, which has the same arguments.

        Without `base_score`, `base_margin` and `xgb_model` the scores start at ``objective.init_score``.
        """
        return super().fit(X, y, **named)

    @with_signature_of(xgboost.XGBRegressor.predict)
    def predict(self, X: Any, **named: Any) -> Any:  # noqa: N803
        """Return predictions, or with ``output_margin=True`` the scores; arguments are those of XGBoost."""
        found = super().predict(X, **named)
        objective = self._ours()
        if objective is None or not objective.parameters or named.get("output_margin"):
            return found
        return objective.transform(found)


class XGBClassifier(_Boosted, xgboost.XGBClassifier):  # type: ignore[misc]
    """XGBoost's classifier, for the objectives of `xgboost_objective`.

    With `binary_cross_entropy_with_logits`, `sigmoid_focal_loss` (two classes), `cross_entropy` or
    `softmax_focal_loss` (two or more) as `objective`, scores start at the minimum of the weighted loss. As in
    ``xgboost.XGBClassifier``, labels are 0, 1 and so on.
    """

    @with_signature_of(xgboost.XGBClassifier.fit)
    def fit(self, X: Any, y: Any, **named: Any) -> Any:  # noqa: N803
        """Fit the model as XGBoost's own class does, which has the same arguments.

        Without `base_score`, `base_margin` and `xgb_model` the scores start at ``objective.init_score``.
        """
        return super().fit(X, y, **named)

    def _start_of(self, objective: Objective, y: Any, weight: Any) -> float | list[float] | None:
        classes = len(np.unique(np.asarray(y)))
        require_classifier(objective, classes)
        if objective.has_classes and classes < 2:
            raise ValueError(f"the objective {objective.name!r} is for two classes or more, y has {classes}")
        return super()._start_of(objective, y, weight)

    @with_signature_of(xgboost.XGBClassifier.predict)
    def predict(self, X: Any, **named: Any) -> Any:  # noqa: N803
        """Return classes, or with ``output_margin=True`` the scores; arguments are those of XGBoost."""
        objective = self._ours()
        if objective is None or not objective.has_classes or named.get("output_margin"):
            return super().predict(X, **named)
        # XGBoost would treat two columns as two labels of each row.
        named.pop("output_margin", None)
        found: Array = self.predict_proba(X, **named).argmax(axis=1)
        return found
