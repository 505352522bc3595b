"""LightGBM's estimators for scikit-learn, with start, link and metrics for custom objectives."""

from __future__ import annotations

import inspect
from typing import Any

import lightgbm
import numpy as np
from sklearn.preprocessing import LabelEncoder
from sklearn.utils.class_weight import compute_sample_weight

from fastloss._engine.types import Array
from fastloss.boosting import _metrics
from fastloss.boosting._objective import Objective, require_classifier, require_ranker
from fastloss.boosting._signature import with_signature_of

__all__ = ["LGBMClassifier", "LGBMRanker", "LGBMRegressor"]

# LightGBM's aliases of its parameters.
_OBJECTIVES = ("loss", "application", "app", "objective_type", "objective")
_METRICS = ("metric", "metrics", "metric_types")
_LEAST_ROWS = ("min_child_samples", "min_data_in_leaf", "min_data_per_leaf", "min_data", "min_samples_leaf")
# LightGBM renews the leaves of these, but only for its own objectives.
_LIGHTGBMS_OWN = {"l1_loss": "regression_l1", "quantile_loss": "quantile"}
_NOT_PREDICTIONS = ("raw_score", "pred_leaf", "pred_contrib")


class _Boosted:
    """The common part of the estimators: a base class before LightGBM's own."""

    _fitted: Objective | None = None  # the objective of the model, if it is one of fastloss
    _is_filtered = True  # whether LightGBM may leave out features that cannot split

    def fit(self, X: Any, y: Any, *arguments: Any, **named: Any) -> Any:  # noqa: N803
        """Fit the model by LightGBM's own `fit`, with start and metrics of an objective of fastloss."""
        call = inspect.signature(super().fit).bind(X, y, *arguments, **named)  # type: ignore[misc]
        given = call.arguments
        objective = self._fitted = self._given_objective()
        start: Any = 0.0
        self._is_filtered = True
        labels = None if objective is None else self._labels(objective, y)
        if objective is not None and _is_lightgbms_own(objective):
            self._objective = _LIGHTGBMS_OWN[objective.name]
        elif objective is not None and labels is not None:
            least = max(self.get_params().get(name) or 0 for name in _LEAST_ROWS)  # type: ignore[attr-defined]
            # LightGBM fails with a custom objective if no feature is left, which is likely for few rows.
            self._is_filtered = len(labels) >= 20 * least
            self._set_metrics(objective, given)
            start = self._set_start(objective, labels, given)
        super().fit(*call.args, **call.kwargs)  # type: ignore[misc]
        _add_to_first_trees(self.booster_, start)  # type: ignore[attr-defined]
        return self

    def _given_objective(self) -> Objective | None:
        parameters = self.get_params()  # type: ignore[attr-defined]
        found = next((parameters[name] for name in _OBJECTIVES if parameters.get(name) is not None), None)
        return found if isinstance(found, Objective) else None

    def _labels(self, objective: Objective, y: Any) -> Array | None:
        """Return labels as the objective requires them, or None if LightGBM will reject them."""
        raise NotImplementedError

    def _set_start(self, objective: Objective, labels: Array, given: dict[str, Any]) -> float | Array:
        """Start the scores of all data sets at the score of least loss, and return it."""
        if given.get("init_score") is not None or given.get("init_model") is not None:
            return 0.0
        if self.get_params().get("linear_tree"):  # type: ignore[attr-defined]
            raise ValueError(
                "linear_tree=True has no leaves that could hold the score at which boosting starts: "
                "pass init_score, and add it to what the model predicts"
            )
        weight = given.get("sample_weight")
        class_weight = self.class_weight  # type: ignore[attr-defined]
        if class_weight is not None:
            by_class = compute_sample_weight(class_weight, given["y"])
            weight = by_class if weight is None else np.multiply(weight, by_class)
        # LightGBM itself uses float32.
        more = {} if objective.outputs else self._classes_of(objective)
        start = objective.init_score(labels.astype(np.float32), weight, **more)
        given["init_score"] = _of_rows(start, len(labels))
        rows = [len(labels_of_set) for labels_of_set in _evaluated(given)]
        if rows:
            kept = given.get("eval_init_score")
            scores = [_at(kept, i) for i in range(len(rows))]
            given["eval_init_score"] = [
                _of_rows(start, n) if score is None else score for score, n in zip(scores, rows, strict=True)
            ]
        return start

    def _classes_of(self, objective: Objective) -> dict[str, int]:
        return {"num_class": objective.outputs} if objective.outputs else {}

    def _set_metrics(self, objective: Objective, given: dict[str, Any]) -> None:
        """Turn metrics into functions that apply the link, in LightGBM's order."""
        metrics = _listed(given.get("eval_metric"))
        if objective.outputs:  # LightGBM's metrics by name are of one prediction for each row
            functions: list[Any] = [_metrics.of_predictions(m, objective) for m in metrics if callable(m)]
            given["eval_metric"] = [*functions, _metrics.of_loss(objective)]
            return
        if not _has_link(objective):
            return
        parameters = self.get_params()  # type: ignore[attr-defined]
        set_before = [parameters[name] for name in _METRICS if name in parameters]
        default = _listed(set_before[0] if set_before else _metrics.default(objective))
        names = [m for m in metrics if isinstance(m, str)] + [m for m in default if isinstance(m, str)]
        names = [_metrics.canonical(part, objective) for name in names for part in name.split(",")]
        functions = [_metrics.by_name(name, objective) for name in dict.fromkeys(names) if name]
        functions += [_metrics.of_predictions(m, objective) for m in metrics if callable(m)]
        given["eval_metric"] = functions

    def _process_params(self, stage: str) -> dict[str, Any]:
        """Convert the estimator's parameters to those of training and prediction, as LightGBM does."""
        parameters: dict[str, Any] = super()._process_params(stage)  # type: ignore[misc]
        objective = self._fitted
        if objective is None:
            return parameters
        if _is_lightgbms_own(objective):
            parameters["objective"] = _LIGHTGBMS_OWN[objective.name]
            if objective.name == "quantile_loss":
                parameters["alpha"] = objective.options["quantile"]
        elif _has_link(objective) or objective.outputs:
            parameters["metric"] = "None"  # replaced by functions
        if not self._is_filtered:
            parameters.setdefault("feature_pre_filter", False)
        return parameters | self._classes_of(objective)


class LGBMRegressor(_Boosted, lightgbm.LGBMRegressor):  # type: ignore[misc]
    """LightGBM's regressor, for the objectives of `lightgbm_objective`.

    With one of them as `objective`, scores start at the minimum of the weighted loss, `predict` returns
    means instead of their logarithms for Poisson, gamma and Tweedie, and metrics, also of early stopping,
    are of predictions. `l1_loss` and `quantile_loss` of one quantile are passed to LightGBM's own objectives,
    which are equal and renew their leaves. With several quantiles, and with distributions, `predict` returns
    a column for each quantile or parameter, and the metric is the loss. Everything else, any other
    `objective` included, is as in ``lightgbm.LGBMRegressor``.
    """

    @with_signature_of(lightgbm.LGBMRegressor.fit)
    def fit(self, X: Any, y: Any, *arguments: Any, **named: Any) -> Any:  # noqa: N803
        """Fit the model as LightGBM's own class does, which has the same arguments.

        Without `init_score` and `init_model` the scores start at ``objective.init_score``, which becomes
        part of the first tree. Metrics, by name or as functions, are of predictions, not of raw scores.
        """
        return super().fit(X, y, *arguments, **named)

    def _labels(self, objective: Objective, y: Any) -> Array | None:
        return _numbers(y)

    @with_signature_of(lightgbm.LGBMRegressor.predict)
    def predict(self, X: Any, *arguments: Any, **named: Any) -> Any:  # noqa: N803
        """Return predictions, or with ``raw_score=True`` the scores; arguments are those of LightGBM."""
        found = super().predict(X, *arguments, **named)
        call = inspect.signature(super().predict).bind(X, *arguments, **named)
        if not _has_link(self._fitted) or not _is_of_predictions(call):
            return found
        assert self._fitted is not None
        return self._fitted.transform(found)


class LGBMRanker(_Boosted, lightgbm.LGBMRanker):  # type: ignore[misc]
    """LightGBM's ranker, for `lambda_rank_loss` of `lightgbm_objective`.

    Scores start at 0, as with LightGBM's own ``lambdarank``, whose models are equal up to the error of its
    table of the sigmoid. Metrics, by default NDCG, and everything else are as in ``lightgbm.LGBMRanker``.
    """

    @with_signature_of(lightgbm.LGBMRanker.fit)
    def fit(self, X: Any, y: Any, *arguments: Any, **named: Any) -> Any:  # noqa: N803
        """Fit the model as LightGBM's own class does, which has the same arguments."""
        return super().fit(X, y, *arguments, **named)

    def _labels(self, objective: Objective, y: Any) -> Array | None:
        require_ranker(objective)
        return _numbers(y)


class LGBMClassifier(_Boosted, lightgbm.LGBMClassifier):  # type: ignore[misc]
    """LightGBM's classifier, for the objectives of `lightgbm_objective`.

    With `binary_cross_entropy_with_logits`, `sigmoid_focal_loss` (two classes), `cross_entropy` or
    `softmax_focal_loss` (two or more) as `objective`, `predict` returns classes and `predict_proba`
    probabilities, scores start at the minimum of the weighted loss, and metrics, also of early stopping, are
    of the probabilities. Everything else, any other `objective` included, is as in
    ``lightgbm.LGBMClassifier``.
    """

    _number = 0  # of classes

    def _labels(self, objective: Objective, y: Any) -> Array | None:
        values = _flat(np.asarray(y))
        if (
            values.ndim != 1
            or not values.size
            or (values.dtype.kind == "f" and not np.isfinite(values).all())
        ):
            return None
        try:
            classes, labels = np.unique(values, return_inverse=True)
        except TypeError:
            return None
        self._number = len(classes)
        require_classifier(objective, len(classes))
        return labels

    @with_signature_of(lightgbm.LGBMClassifier.fit)
    def fit(self, X: Any, y: Any, *arguments: Any, **named: Any) -> Any:  # noqa: N803
        """Fit the model as LightGBM's own class does, which has the same arguments.

        Without `init_score` and `init_model` the scores start at ``objective.init_score``, which becomes
        part of the first tree. Metrics, by name or as functions, are of probabilities, not of raw scores;
        functions get the indices of the classes as labels.
        """
        if named.get("eval_y") is not None and self._given_objective() is not None:
            # LightGBM 4.7 turns labels into indices of classes in `y` and `eval_set`, but not here.
            encode = LabelEncoder().fit(y).transform
            labels = named["eval_y"]
            named["eval_y"] = tuple(map(encode, labels)) if isinstance(labels, tuple) else encode(labels)
        return super().fit(X, y, *arguments, **named)

    def _classes_of(self, objective: Objective) -> dict[str, int]:
        return {"num_class": max(self._number, 2)} if objective.has_classes else {}

    @with_signature_of(lightgbm.LGBMClassifier.predict)
    def predict(self, X: Any, *arguments: Any, **named: Any) -> Any:  # noqa: N803
        """Return classes, or with ``raw_score=True`` the scores; arguments are those of LightGBM."""
        found = super().predict(X, *arguments, **named)
        call = inspect.signature(super().predict).bind(X, *arguments, **named)
        if self._fitted is None or not _is_of_predictions(call):
            return found
        return self.classes_[found.argmax(axis=1)]

    @with_signature_of(lightgbm.LGBMClassifier.predict_proba)
    def predict_proba(self, X: Any, *arguments: Any, **named: Any) -> Any:  # noqa: N803
        """Return probabilities of shape (n, classes); arguments are those of LightGBM."""
        call = inspect.signature(super().predict_proba).bind(X, *arguments, **named)
        if self._fitted is None or not _is_of_predictions(call):
            return super().predict_proba(X, *arguments, **named)
        call.arguments["raw_score"] = True
        found = self._fitted.transform(super().predict_proba(*call.args, **call.kwargs))
        assert isinstance(found, np.ndarray)
        return found if found.ndim == 2 else np.stack([1.0 - found, found], axis=1)

    def decision_function(self, X: Any, **named: Any) -> Any:  # noqa: N803
        """Return the scores, (n,) for two classes, else (n, classes); arguments are those of LightGBM."""
        scores = self.predict(X, raw_score=True, **named)
        is_softmax = self._fitted is not None and self._fitted.has_classes
        return scores[:, 1] - scores[:, 0] if is_softmax and scores.shape[1] == 2 else scores


def _is_lightgbms_own(objective: Objective) -> bool:
    return objective.name in _LIGHTGBMS_OWN and not objective.outputs


def _has_link(objective: Objective | None) -> bool:
    return objective is not None and objective.has_link


def _is_of_predictions(call: inspect.BoundArguments) -> bool:
    """Return whether a call requests predictions, not scores, leaves or contributions."""
    return not any(call.arguments.get(name) for name in _NOT_PREDICTIONS)


def _numbers(y: Any) -> Array | None:
    """Return finite labels as float64, or None if there are others."""
    try:
        labels = _flat(np.asarray(y, np.float64))
    except (TypeError, ValueError):
        return None
    return labels if labels.ndim == 1 and labels.size and np.isfinite(labels).all() else None


def _flat(labels: Array) -> Array:
    """Return a column of labels with one axis, anything else unchanged."""
    return labels.reshape(-1) if labels.ndim == 2 and labels.shape[1] == 1 else labels


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple, set)) else [value]


def _evaluated(given: dict[str, Any]) -> list[Any]:
    """Return the labels of all sets for evaluation."""
    sets = given.get("eval_set")
    if sets is not None:
        return [y for _, y in ([sets] if isinstance(sets, tuple) else sets)]
    labels = given.get("eval_y")
    if labels is None:
        return []
    return list(labels) if isinstance(labels, tuple) else [labels]


def _at(collection: Any, i: int) -> Any:
    """Return an element of LightGBM's ``eval_...`` arguments, or None."""
    if isinstance(collection, dict):
        return collection.get(i)
    return collection[i] if collection is not None and i < len(collection) else None


def _of_rows(start: float | Array, rows: int) -> Array:
    return np.full((rows, *np.shape(start)), start)


def _add_to_first_trees(booster: Any, start: float | Array) -> None:
    """Add a score to the first tree of each class, as LightGBM does with its own start."""
    starts = np.atleast_1d(start)
    if not starts.any():
        return
    for tree in booster.dump_model(num_iteration=1)["tree_info"]:
        index = tree["tree_index"]
        for leaf in range(tree["num_leaves"]):
            booster.set_leaf_output(index, leaf, booster.get_leaf_output(index, leaf) + starts[index])
