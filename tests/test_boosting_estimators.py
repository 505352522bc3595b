"""Boosting as a first-time user runs it: the lines of docs/boosting.md, and scikit-learn's estimators."""
# ruff: noqa: N803, N806  (X, as scikit-learn has it)

from __future__ import annotations

import inspect
import pickle
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from boosting_cases import FEW, LIBRARIES, QUIET, ROWS, Row, estimator, evaluation, names_of, over_weights
from helpers import Array, refused
from numpy.testing import assert_allclose, assert_array_equal

import fastloss
from fastloss import boosting
from fastloss.boosting import lightgbm_objective, xgboost_objective

lightgbm = pytest.importorskip("lightgbm")
xgboost = pytest.importorskip("xgboost")
pytest.importorskip("sklearn")

from sklearn import datasets  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score  # noqa: E402
from sklearn.utils.estimator_checks import check_estimator  # noqa: E402

PAGE = (Path(__file__).parents[1] / "docs" / "boosting.md").read_text(encoding="utf-8")
# The first block makes data, in the place of which come others for the next three.
DATA, *BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SNIPPETS, OTHERS = BLOCKS[:3], BLOCKS[3:]
# The objectives of the others, and how many numbers they predict for a row.
OUTPUTS = {
    "quantile_loss": 3, "gaussian_nll_loss": 0, "negative_binomial_nll_loss": 0, "student_t_nll_loss": 0,
    "cox_ph_loss": 0, "aft_loss": 0, "lambda_rank_loss": 0, "softmax_focal_loss": 4,
}  # fmt: skip


Data = tuple[Array, Array]
diabetes: Callable[[], Data] = partial(datasets.load_diabetes, return_X_y=True)
cancer: Callable[[], Data] = partial(datasets.load_breast_cancer, return_X_y=True)
iris: Callable[[], Data] = partial(datasets.load_iris, return_X_y=True)


def splits(X: Array, y: Array) -> tuple[Array, Array, Array, Array]:
    """Rows to learn from, and every third one held out."""
    is_held = np.arange(len(y)) % 3 == 0
    return X[~is_held], y[~is_held], X[is_held], y[is_held]


def generated() -> Data:
    """Positive labels of a large scale, skewed, some of them 0."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(1500, 6))
    y = rng.poisson(np.exp(3.0 + 0.6 * X[:, 0] + 0.4 * X[:, 1] * X[:, 2])).astype(float)
    return X, y


def rare() -> Data:
    rng = np.random.default_rng(4)
    X = rng.normal(size=(1500, 6))
    return X, (X[:, 0] + X[:, 1] + 0.5 * rng.normal(size=1500) > 2.0).astype(int)


# The lines of docs/boosting.md


# XGBoost has no Huber: beside its smooth relative, which fails on such labels, or the squared error.
PSEUDO_HUBER = {"objective": "reg:pseudohubererror", "huber_slope": 2.0}
# Rows with other options where the table's say little, and by which loss predictions are judged.
LINES = [
    Row("huber_loss", {"delta": 2.0}, {"objective": "huber", "alpha": 2.0}, PSEUDO_HUBER),
    Row("huber_loss", {"delta": 40.0}, {"objective": "huber", "alpha": 40.0}),
    # Neither library has it: beside the squared error.
    Row("log_cosh_loss", {}, {"objective": "regression"}, {"objective": "reg:squarederror"}),
]
LEARNT = ("mse", "poisson_nll", "gamma_nll", "tweedie_nll", "binary_cross_entropy_with_logits")
LINES += [row for row in ROWS if row.name.removesuffix("_loss") in LEARNT and not row.options]
JUDGES = {
    "huber_loss": "huber_loss", "log_cosh_loss": "l1_loss", "gamma_nll_loss": "l1_loss",
    "binary_cross_entropy_with_logits": "binary_cross_entropy",
}  # fmt: skip
over_lines = pytest.mark.parametrize("row", LINES, ids=str)


def data_of(name: str) -> Iterator[tuple[Array, Array, Array, Array]]:
    X, y = generated()
    numbers = (diabetes(), (X, y + 1.0 if name == "gamma_nll_loss" else y))
    for data in (cancer(), rare()) if name.startswith("binary") else numbers:
        yield splits(*data)


def run_lines(snippet: str, row: Row, data: dict[str, Any], link: str = "") -> Any:
    """Run a snippet of the page with another loss in its place, and return its prediction."""
    arguments = ", ".join([repr(row.name), *(f"{k}={v!r}" for k, v in row.options.items())])
    snippet, count = re.subn(
        r'_objective\("(huber|poisson_nll)_loss"[^)]*\)', f"_objective({arguments})", snippet
    )
    assert count == 1
    if link:
        assert '"count:poisson"' in snippet
        snippet = snippet.replace("count:poisson", link)
    variables = {"np": np, **data}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(snippet, variables)
    return variables["prediction"]


def mean_loss(row: Row, prediction: Array, y: Array) -> float:
    judge = getattr(fastloss, JUDGES.get(row.name, "mse_loss"))
    loss: float = judge(np.asarray(prediction, np.float64), y.astype(np.float64))
    return loss


def test_the_page_has_its_lines() -> None:
    for snippet, words in zip(SNIPPETS, ("LGBMClassifier", "lightgbm.train", "xgboost.train"), strict=True):
        assert words in snippet


@over_lines
def test_the_pages_lines_for_lightgbm(row: Row) -> None:
    for kept, labels, held, wanted in data_of(row.name):
        data = {"X": kept, "y": labels, "X_new": held, "classes": labels > np.median(labels)}
        built_in = lightgbm.train({**row.lightgbm, "verbose": -1}, lightgbm.Dataset(kept, labels))
        bound = 1.1 * mean_loss(row, built_in.predict(held), wanted)
        is_binary = row.labels == "binary"  # the estimator's lines are of another
        for snippet in SNIPPETS[1:2] if is_binary else SNIPPETS[:2]:
            assert mean_loss(row, run_lines(snippet, row, data), wanted) <= bound


@over_lines
def test_the_pages_lines_for_xgboost(row: Row) -> None:
    for kept, labels, held, wanted in data_of(row.name):
        params = row.xgboost or {"objective": "reg:squarederror"}
        link = "reg:squarederror" if row.name == "huber_loss" else params["objective"]
        found = run_lines(SNIPPETS[2], row, {"X": kept, "y": labels, "X_new": held}, link)
        built_in = xgboost.train(params, xgboost.DMatrix(kept, labels), 100).predict(xgboost.DMatrix(held))
        assert mean_loss(row, found, wanted) <= 1.1 * mean_loss(row, built_in, wanted)
        # And it has learnt something.
        constant = np.full(len(wanted), labels.mean())
        assert mean_loss(row, found, wanted) < 0.9 * mean_loss(row, constant, wanted)


def test_the_pages_classifier() -> None:
    kept, labels, held, wanted = splits(*cancer())
    words = np.array(["no", "yes"])[labels]
    variables: dict[str, Any] = {"X": kept, "y": labels, "X_new": held, "classes": words}
    exec(SNIPPETS[0], variables)
    assert variables["probabilities"].shape == (len(wanted), 2)
    assert ((variables["probabilities"][:, 1] > 0.5) == wanted).mean() > 0.9


def objective_in(snippet: str) -> str:
    (name,) = re.findall(r'_objective\(\s*"(\w+)"', snippet)
    return str(name)


def test_the_page_has_all_objectives() -> None:
    assert set(map(objective_in, OTHERS)) == set(OUTPUTS)
    table_ = PAGE[PAGE.index("| name, and") : PAGE.index("Options have the")]
    for name in names_of("lightgbm"):
        (line,) = (line for line in table_.splitlines() if f"`{name}`" in line or f"`{name}(" in line)
        options = lightgbm_objective(name).options
        shown_options = line.split(f"`{name}(")[1].split(")`")[0] if options else ""
        assert eval(f"dict({shown_options})") == options


@pytest.mark.parametrize("snippet", OTHERS, ids=objective_in)
def test_the_pages_other_lines(snippet: str) -> None:
    """They run, and predict more than a constant."""
    variables: dict[str, Any] = {}
    exec(DATA, variables)
    exec(snippet, variables)
    columns = OUTPUTS[objective_in(snippet)]
    assert variables["prediction"].shape == ((10, columns) if columns else (10,))
    assert np.isfinite(variables["prediction"]).all() and np.ptp(variables["prediction"], axis=0).min() > 0.0


# What LightGBM does otherwise for any objective from outside


def of_both(params: dict[str, Any], kind: str = "regression") -> Data:
    """The raw scores of LightGBM's own objective and of ours, without its own start."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 8))
    y = X[:, 0] + X[:, 1] * X[:, 2] + rng.normal(size=600)
    is_binary = kind == "binary"
    ours = lightgbm_objective("binary_cross_entropy_with_logits" if is_binary else "mse_loss")
    common = {"verbose": -1, "num_threads": 1, "num_leaves": 7, "seed": 3, "boost_from_average": False}
    found = []
    for objective in (kind, ours):
        data = lightgbm.Dataset(X, y > 0.8 if is_binary else y)
        model = lightgbm.train({**common, "objective": objective, **params}, data, 20)
        found.append(model.predict(X, raw_score=True))
    return found[0], found[1]


SAME: list[dict[str, Any]] = [
    {}, {"bagging_fraction": 0.5, "bagging_freq": 1}, {"feature_fraction_bynode": 0.5},
    {"data_sample_strategy": "goss"}, {"extra_trees": True}, {"monotone_constraints": [1] + [0] * 7},
    {"linear_tree": True}, {"use_quantized_grad": True},
]  # fmt: skip
# Parameters that it ignores with ours, and others.
IGNORED: list[tuple[dict[str, Any], str]] = [
    ({"boost_from_average": True}, "binary"), ({"is_unbalance": True}, "binary"),
    ({"scale_pos_weight": 3.0}, "binary"), ({"sigmoid": 2.0}, "binary"), ({"reg_sqrt": True}, "regression"),
    ({"pos_bagging_fraction": 0.3, "bagging_freq": 1}, "binary"),
]  # fmt: skip
OTHER = [*IGNORED, ({"boosting": "dart"}, "regression"), ({"feature_fraction": 0.5}, "regression")]


@pytest.mark.parametrize("params", SAME, ids=str)
def test_lightgbm_does_the_same(params: dict[str, Any]) -> None:
    own, ours = of_both(params)
    assert_allclose(ours, own, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("params", "kind"), OTHER, ids=str)
def test_lightgbm_does_otherwise(params: dict[str, Any], kind: str) -> None:
    """With its own objective; what it ignores gives the model of ours without the parameter."""
    own, ours = of_both(params, kind)
    assert np.abs(ours - own).max() > 0.05
    if (params, kind) in IGNORED:
        assert_array_equal(ours, of_both({}, kind)[1])


def test_lightgbm_without_link_metric_or_features() -> None:
    X, y = diabetes()
    objective = lightgbm_objective("binary_cross_entropy_with_logits")
    params = {"objective": objective, "verbose": -1, "num_threads": 1}
    label = y > np.median(y)
    model = lightgbm.train(params, lightgbm.Dataset(X, label), 3)
    for one in (model, lightgbm.Booster(model_str=model.model_to_string())):
        assert_array_equal(one.predict(X), model.predict(X, raw_score=True))
    stopping = [lightgbm.early_stopping(2, verbose=False)]
    for more, match in (({}, "eval metric is required"), ({"boosting": "rf", "bagging_freq": 1}, "RF mode")):
        with pytest.raises((ValueError, lightgbm.basic.LightGBMError), match=match):
            data = lightgbm.Dataset(X, label)
            fraction = {"bagging_fraction": 0.5, **more}
            lightgbm.train({**params, **fraction}, data, 3, valid_sets=[data], callbacks=stopping)
    seen: dict[str, Any] = {}
    data = lightgbm.Dataset(X, label)
    lightgbm.train(
        {**params, "metric": "binary_logloss"}, data, 3, valid_sets=[data],
        callbacks=[lightgbm.record_evaluation(seen)],
    )  # fmt: skip
    assert seen["training"]["binary_logloss"][-1] > 3.0
    with pytest.raises(lightgbm.basic.LightGBMError, match="num_features"):
        lightgbm.train(params, lightgbm.Dataset(X[:30], label[:30]), 3)


# Why there is no callback for leaves


def test_scores_do_not_follow_leaves_that_are_set() -> None:
    """What the page says: LightGBM's scores of training and validation data keep the old leaves."""
    X, y = diabetes()
    objective = lightgbm_objective("quantile_loss", quantile=0.8)
    start = objective.init_score(y)
    seen: dict[str, list[Array]] = {"training": [], "validation": []}

    def train(callbacks: list[Callable[..., None]]) -> Any:
        seen.update(training=[], validation=[])

        def kept(scores: Array, data: Any) -> Any:
            seen["training"].append(scores.copy())
            return objective(scores, data)

        def metric(scores: Array, data: Any) -> tuple[str, float, bool]:
            seen["validation"].append(scores.copy())
            return "none", 0.0, False

        data = lightgbm.Dataset(X, y, init_score=np.full(len(y), start))
        held = lightgbm.Dataset(X[:50], y[:50], init_score=np.full(50, start), reference=data)
        params = {"objective": kept, "num_leaves": 4, "metric": "None", "verbose": -1}
        return lightgbm.train(params, data, 4, valid_sets=[held], feval=metric, callbacks=callbacks)

    def move(env: Any) -> None:
        for leaf in range(4):
            before = env.model.get_leaf_output(env.iteration, leaf)
            env.model.set_leaf_output(env.iteration, leaf, before + 10.0)

    plain = train([]).predict(X)
    before = {name: list(scores) for name, scores in seen.items()}
    moved = train([move]).predict(X)
    for name, scores in seen.items():
        assert_array_equal(scores, before[name])
    assert_allclose(moved, plain + 40.0)


# The estimators


def lightgbm_pair(row: Row, kind: str, **more: Any) -> tuple[Any, Any]:
    """Ours, and LightGBM's own with its objective."""
    params = {k: v for k, v in row.lightgbm.items() if k not in ("objective", "num_class")}
    built_in = estimator("lightgbm", kind, row.lightgbm["objective"], lightgbm, **params, **more)
    return estimator("lightgbm", kind, row.objective("lightgbm"), **more), built_in


OF_NUMBERS = [row for row in ROWS if row.labels not in ("binary", "classes")]
SQUARES, BINARY, MANY = (next(r for r in ROWS if r.labels == k) for k in ("errors", "binary", "classes"))


def weights_of(y: Array, is_weighted: bool) -> Array | None:
    return np.random.default_rng(5).uniform(0.2, 2.0, len(y)) if is_weighted else None


@over_weights
@pytest.mark.parametrize(
    "row", [row for row in OF_NUMBERS if row.lightgbm and row.name != "huber_loss"], ids=str
)
def test_lightgbm_regressors(row: Row, is_weighted: bool) -> None:
    """From our start, which is LightGBM's (but for Huber): the same models as with its own objectives."""
    X, y = diabetes()
    ours, built_in = lightgbm_pair(row, "Regressor")
    for model in (ours, built_in):
        model.fit(X, y, sample_weight=weights_of(y, is_weighted))
    assert_allclose(ours.predict(X), built_in.predict(X), rtol=1e-4)
    assert_allclose(ours.predict(X, raw_score=True), built_in.predict(X, raw_score=True), rtol=1e-4)
    assert ours.score(X, y) == pytest.approx(built_in.score(X, y), rel=1e-4)
    shares = ours.predict(X, pred_contrib=True)
    assert_allclose(shares.sum(axis=1), ours.predict(X, raw_score=True), rtol=1e-6)
    assert_array_equal(ours.predict(X, pred_leaf=True).shape, (len(y), 100))
    again = lightgbm.Booster(model_str=ours.booster_.model_to_string())  # the start is in the model
    assert_allclose(again.predict(X, raw_score=True), ours.predict(X, raw_score=True), rtol=1e-12)


@over_weights
@pytest.mark.parametrize("class_weight", [None, "balanced", (3.0, 1.0, 1.0)], ids=str)
@pytest.mark.parametrize("labels", [["no", "yes"], [7, 8, 9], ["a", "b", "c"]], ids=str)
def test_lightgbm_classifiers(labels: list[Any], class_weight: Any, is_weighted: bool) -> None:
    row, (X, y) = (BINARY, cancer()) if len(labels) == 2 else (MANY, iris())
    if isinstance(class_weight, tuple):
        class_weight = dict(zip(labels, class_weight, strict=False))
    target = np.array(labels)[y]
    ours, built_in = lightgbm_pair(row, "Classifier", class_weight=class_weight, n_estimators=20)
    for model in (ours, built_in):
        model.fit(X, target, sample_weight=weights_of(y, is_weighted))
    assert_allclose(ours.predict_proba(X), built_in.predict_proba(X), rtol=1e-4, atol=1e-7)
    assert_array_equal(ours.predict(X), built_in.predict(X))
    assert ours.predict(X).dtype == target.dtype and list(ours.classes_) == list(built_in.classes_)
    assert ours.score(X, target) == built_in.score(X, target)
    scores = built_in.predict(X, raw_score=True)
    for found in (ours.predict(X, raw_score=True), ours.decision_function(X)):
        assert_allclose(found, scores, rtol=1e-4, atol=1e-6)


def test_two_classes_by_softmax() -> None:
    """The classes of a fold may be two: the same model as with the binary loss, in other words."""
    X, y = cancer()
    words = np.array(["no", "yes"])[y]
    models = [estimator(of, "Classifier", MANY.objective(of), n_estimators=20) for of in LIBRARIES]
    for model, target in zip(models, (words, y), strict=True):
        model.fit(X, target)
        assert model.predict_proba(X).shape == (len(y), 2)
        assert model.score(X, target) > 0.97
        assert cross_val_score(model, X, target, cv=3, scoring="roc_auc", error_score="raise").min() > 0.97
    assert_allclose(models[0].decision_function(X).shape, (len(y),))
    found = models[0].predict_proba(X)[:, 1]
    assert_allclose(found, 1.0 / (1.0 + np.exp(-models[0].decision_function(X))), rtol=1e-6)


METRICS = {
    "binary_cross_entropy_with_logits": ("error average_precision l2 rmse", "auc"),
    "cross_entropy": ("multi_error",),
    "poisson_nll_loss": ("poisson l2 rmse mae mape",), "gamma_nll_loss": ("gamma",),
    "tweedie_nll_loss": ("tweedie rmse",), "mse_loss": ("mae huber",), "l1_loss": ("l2",),
}  # fmt: skip
SETS = [(row, metrics) for row in ROWS if not row.options for metrics in METRICS.get(row.name, ())]


@pytest.mark.parametrize("is_list", [False, True])
@pytest.mark.parametrize(("row", "metrics"), SETS, ids=str)
def test_early_stopping_in_lightgbm(row: Row, metrics: str, is_list: bool) -> None:
    """It stops where it would with LightGBM's own objective, by the same values of the same metrics."""
    kept, labels, held, wanted = splits(*{"binary": cancer, "classes": digits}.get(row.labels, diabetes)())
    kind = "Regressor" if row in OF_NUMBERS else "Classifier"
    results = []
    for model in lightgbm_pair(row, kind, n_estimators=80, learning_rate=0.4):
        # LightGBM's own has no words in eval_y.
        is_ours = kind == "Classifier" and isinstance(model, boosting.LGBMClassifier)
        a, b = (labels.astype(str), wanted.astype(str)) if is_ours else (labels, wanted)
        weights = [None, np.linspace(1.0, 2.0, len(b))]
        model.fit(
            kept, a, **evaluation([(kept, a), (held, b)]), eval_sample_weight=weights,
            eval_metric=metrics.split() if is_list else metrics.split()[0],
            callbacks=[lightgbm.early_stopping(4, verbose=False)],
        )  # fmt: skip
        results.append((model.best_iteration_, model.best_score_))
        assert model.best_iteration_ < 80
    (ours, our_scores), (theirs, their_scores) = results
    assert ours == theirs
    for data in ("training", "valid_1"):
        for metric, value in our_scores[data].items():
            assert value == pytest.approx(their_scores[data][metric], rel=1e-4)
    assert set(our_scores["valid_1"]) >= set(their_scores["valid_1"])


def digits() -> Data:
    X, y = datasets.load_digits(return_X_y=True)
    return X[:700], y[:700]


@pytest.mark.filterwarnings("ignore:The argument 'eval_set' is deprecated")
def test_metrics_as_functions() -> None:
    """They get predictions, and weights where they take them; names and functions go together."""
    X, y = cancer()
    words = np.array(["no", "yes"])[y]
    seen: list[Data] = []

    def distance(y_true: Array, y_pred: Array) -> tuple[str, float, bool]:
        seen.append((y_true, y_pred))
        return "distance", float(np.abs(y_true - y_pred).mean()), False

    def weighted(y_true: Array, y_pred: Array, weight: Array | None) -> list[tuple[str, float, bool]]:
        assert weight is not None
        return [("weighted", float(np.average(np.abs(y_true - y_pred), weights=weight)), False)]

    model = boosting.LGBMClassifier(
        objective=lightgbm_objective("sigmoid_focal_loss"), n_estimators=8, metric=["auc", "None"], **QUIET
    )
    sets = {"eval_set": [(X, words), (X[:99], words[:99])], "eval_sample_weight": [None, np.full(99, 2.0)]}
    with pytest.raises(AssertionError):  # no weights of the training data
        model.fit(X, words, **sets, eval_metric=weighted)
    model.fit(
        X, words, sample_weight=np.full(len(y), 0.5), **sets, eval_metric=[distance, "binary_error", weighted]
    )
    assert list(model.evals_result_["valid_1"]) == ["binary_error", "auc", "distance", "weighted"]
    assert_allclose(seen[-1][1], model.predict_proba(X[:99])[:, 1], rtol=1e-6)
    assert_array_equal(seen[-1][0], y[:99])
    share = 1.0 - model.score(X[:99], words[:99])
    assert model.evals_result_["valid_1"]["binary_error"][-1] == pytest.approx(share, abs=1e-12)
    error = "fair' is not known .* which has l1, l2, rmse, .* pass a function"
    refused(partial(model.fit, X, words, eval_metric="fair"), ValueError, error)


def test_starts_of_the_user_stay() -> None:
    objective = lightgbm_objective("mse_loss")
    kept, labels, held, wanted = splits(*diabetes())
    own = np.full(len(labels), 100.0)
    model, same = lightgbm_pair(SQUARES, "Regressor", n_estimators=10)
    for one in (model, same):
        one.fit(kept, labels, init_score=own)
    assert_allclose(model.predict(held), same.predict(held), rtol=1e-6)  # without the 100
    # A model that goes on has its start already.
    first, both, whole = (estimator("lightgbm", "Regressor", objective, n_estimators=n) for n in (10, 5, 15))
    both.fit(kept, labels, init_model=first.fit(kept, labels))
    whole.fit(kept, labels)
    assert_allclose(both.predict(held), whole.predict(held), rtol=1e-6)
    # Of the sets for evaluation, those that are given.
    sets = evaluation([(held, wanted), (held, wanted)])
    model.fit(kept, labels, **sets, eval_init_score=[np.zeros(len(wanted))], eval_metric="l2")
    far, near = (model.evals_result_[f"valid_{i}"]["l2"][-1] for i in range(2))
    assert near == pytest.approx(np.mean((model.predict(held) - wanted) ** 2), rel=1e-6) and far > 4 * near
    linear = estimator("lightgbm", "Regressor", objective, linear_tree=True)
    refused(partial(linear.fit, kept, labels), ValueError, "linear_tree=True .* pass init_score")


def test_nothing_to_learn() -> None:
    """Labels that are one, of which no tree makes anything."""
    X = diabetes()[0][:100]
    for name, value in (("huber_loss", 150.0), ("poisson_nll_loss", 7.0), ("poisson_nll_loss", 0.0)):
        y = np.full(100, value)
        ours = boosting.LGBMRegressor(objective=lightgbm_objective(name), **QUIET).fit(X, y)
        assert_allclose(ours.predict(X), y, rtol=1e-6, atol=1e-12)
    for name in ("binary_cross_entropy_with_logits", "sigmoid_focal_loss", "cross_entropy"):
        model = boosting.LGBMClassifier(objective=lightgbm_objective(name), **QUIET).fit(X, np.full(100, "a"))
        assert (model.predict(X) == "a").all()
        assert_allclose(model.predict_proba(X)[:, 0], 1.0)


@pytest.mark.parametrize("boosting_type", ["dart", "goss"])
def test_other_ways_of_boosting(boosting_type: str) -> None:
    kept, labels, held, wanted = splits(*diabetes())
    models = lightgbm_pair(SQUARES, "Regressor", boosting_type=boosting_type)
    errors = [np.mean((model.fit(kept, labels).predict(held) - wanted) ** 2) for model in models]
    assert errors[0] < 1.1 * errors[1]


@pytest.mark.parametrize(
    ("library", "objective"),
    [("lightgbm", None), ("lightgbm", "huber"), ("xgboost", "reg:squarederror"),
     *((library, lambda y, s: (s - y, np.ones_like(s))) for library in LIBRARIES)],
)  # fmt: skip
def test_other_objectives_are_the_librarys(library: str, objective: Any) -> None:
    X, y = diabetes()
    models = [estimator(library, "Regressor", objective, of) for of in (boosting, sys.modules[library])]
    assert_array_equal(*(model.fit(X, y).predict(X) for model in models))


def test_objectives_that_do_not_fit() -> None:
    X, y = iris()
    for library, make in LIBRARIES.items():
        focal = estimator(library, "Classifier", make("sigmoid_focal_loss"))
        refused(partial(focal.fit, X, y), ValueError, "for two classes, y has 3: 'cross_entropy")
        for name in ("huber_loss", "l1_loss", "poisson_nll_loss"):
            model = estimator(library, "Classifier", make(name))
            refused(partial(model.fit, X, y), ValueError, f"{name}' is not for a classifier")


# XGBoost
@over_weights
@pytest.mark.parametrize("row", [row for row in OF_NUMBERS if row.xgboost], ids=str)
def test_xgboost_regressors(row: Row, is_weighted: bool) -> None:
    kept, labels, held, wanted = splits(*diabetes())
    objective, weight = row.objective("xgboost"), weights_of(labels, is_weighted)
    start = objective.transform(objective.init_score(labels, weight))
    rest: dict[str, Any] = {"early_stopping_rounds": 4, "n_estimators": 60, "learning_rate": 0.3}
    ours = estimator("xgboost", "Regressor", objective, **rest)
    built_in = xgboost.XGBRegressor(**row.xgboost, base_score=start, **{**FEW, **rest})
    for model in (ours, built_in):
        model.fit(kept, labels, sample_weight=weight, eval_set=[(held, wanted)], verbose=False)
    assert_allclose(ours.predict(held), built_in.predict(held), rtol=1e-4)
    assert ours.best_iteration == built_in.best_iteration
    assert ours.best_score == pytest.approx(built_in.best_score, rel=1e-5)
    assert ours.score(held, wanted) == pytest.approx(built_in.score(held, wanted), rel=1e-4)
    set_by_user = estimator("xgboost", "Regressor", objective, base_score=100.0).fit(kept, labels)
    assert set_by_user.base_score == 100.0
    same = xgboost.XGBRegressor(**row.xgboost, base_score=100.0, **FEW).fit(kept, labels)
    assert_allclose(set_by_user.predict(held), same.predict(held), rtol=1e-4)


def test_xgboost_learns_where_labels_are_far_from_0() -> None:
    kept, labels, held, wanted = splits(*diabetes())
    for name in ("huber_loss", "log_cosh_loss"):
        model = boosting.XGBRegressor(objective=xgboost_objective(name), n_estimators=100, **{"max_depth": 3})
        model.fit(kept, labels + 1000.0)
        constant = np.abs(wanted - np.median(labels)).mean()
        assert np.abs(model.predict(held) - 1000.0 - wanted).mean() < constant
    two = boosting.XGBRegressor(objective=xgboost_objective("mse_loss"), **FEW)
    two.fit(kept, np.stack([labels, -labels], axis=1))
    assert_allclose(two.predict(held)[:, 0], -two.predict(held)[:, 1], rtol=1e-4)


@pytest.mark.parametrize("name", ["binary_cross_entropy_with_logits", "sigmoid_focal_loss", "cross_entropy"])
def test_xgboost_classifiers(name: str) -> None:
    kept, labels, held, wanted = splits(*(iris() if name == "cross_entropy" else cancer()))
    objective = xgboost_objective(name)
    ours = boosting.XGBClassifier(objective=objective, early_stopping_rounds=3, **FEW)
    ours.fit(kept, labels, eval_set=[(held, wanted)], verbose=False)
    probabilities = ours.predict_proba(held)
    assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-6)
    assert_array_equal(ours.predict(held), probabilities.argmax(axis=1))
    margins = objective.transform(ours.predict(held, output_margin=True))
    last = probabilities if name == "cross_entropy" else probabilities[:, 1]
    assert_allclose(margins, last, rtol=1e-4, atol=1e-6)
    assert ours.score(held, wanted) > 0.9
    model = estimator("xgboost", "Classifier", xgboost_objective("cross_entropy"))
    refused(partial(model.fit, kept, 0 * labels), ValueError, "two classes or more")


# Conventions of scikit-learn

over_models = pytest.mark.parametrize("kind", sorted(boosting._ESTIMATORS.keys() - {"LGBMRanker"}))


def model_of(kind: str) -> Any:
    library = "lightgbm" if kind.startswith("LGBM") else "xgboost"
    if kind.endswith("Classifier"):
        return estimator(library, "Classifier", MANY.objective(library), n_estimators=10)
    return estimator(library, "Regressor", LIBRARIES[library]("huber_loss", delta=20.0), n_estimators=10)


def data_for(kind: str) -> Data:
    return diabetes() if kind.endswith("Regressor") else digits()


@over_models
def test_conventions(kind: str) -> None:
    X, y = data_for(kind)
    model = model_of(kind)
    assert type(model) is getattr(boosting, kind) and kind in dir(boosting)
    twin = clone(model)
    assert twin.get_params() == model.get_params() and twin.objective == model.objective
    other = type(model)().set_params(**model.get_params())
    want = model.fit(X, y).predict(X)
    for again in (twin, other):
        assert_array_equal(again.fit(X, y).predict(X), want)
    loaded = pickle.loads(pickle.dumps(model))
    assert type(loaded) is type(model) and loaded.objective == model.objective
    assert_array_equal(loaded.predict(X), want)
    assert_array_equal(clone(loaded).fit(X, y).predict(X), want)
    assert model.get_params() == twin.get_params()  # fit leaves no trace in them
    names = list(inspect.signature(type(model).fit).parameters)
    assert names[:3] == ["self", "X", "y"] and "sample_weight" in names


@over_models
def test_model_selection(kind: str) -> None:
    X, y = data_for(kind)
    model = model_of(kind)
    alone, together = (cross_val_score(model, X, y, cv=3, n_jobs=n, error_score="raise") for n in (1, 2))
    assert_array_equal(alone, together)
    assert alone.mean() > (0.1 if kind.endswith("Regressor") else 0.75)
    if kind.endswith("Classifier"):
        probabilities = cross_val_predict(model, X, y, cv=3, method="predict_proba")
        assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-5)
        losses = cross_val_score(model, X, y, cv=3, scoring="neg_log_loss", error_score="raise")
        assert losses.mean() > -np.log(10)
    objectives = [model.objective, None] if kind[0] == "L" else [model.objective]
    search = GridSearchCV(model, {"objective": objectives, "max_depth": [2, 3]}, cv=2, n_jobs=2)
    found = search.fit(X, y)
    assert np.isfinite(found.cv_results_["mean_test_score"]).all()
    assert found.best_estimator_.predict(X).shape == y.shape


def failed_checks(model: Any) -> dict[str, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the checks' own data
        results = check_estimator(model, on_fail=None, on_skip=None)
    assert len(results) > 30
    return {r["check_name"]: repr(r["exception"]) for r in results if r["status"] == "failed"}


@pytest.mark.parametrize("kind", ["LGBMRegressor", "LGBMClassifier", "XGBRegressor"])
def test_checks_of_scikit_learn(kind: str) -> None:
    """All that the library's own estimator passes. (XGBoost's classifier takes classes 0, 1, ... alone.)"""
    if "on_fail" not in inspect.signature(check_estimator).parameters:
        pytest.skip("results of single checks came with scikit-learn 1.6")
    model = model_of(kind)
    parameters = {k: v for k, v in model.get_params().items() if k != "objective"}
    own = getattr(lightgbm if kind[0] == "L" else xgboost, kind)(**parameters)
    known = failed_checks(own)
    assert not {name: error for name, error in failed_checks(model).items() if name not in known}


@over_models
def test_tables_and_series(kind: str) -> None:
    pandas = pytest.importorskip("pandas")
    X, y = data_for(kind)
    want = model_of(kind).fit(X, y).predict(X)
    rows = np.arange(len(y))[::-1] + 5  # an index that is no position
    table = pandas.DataFrame(X, index=rows, columns=[f"f{i}" for i in range(X.shape[1])])
    series, weight = pandas.Series(y, index=rows), pandas.Series(np.ones(len(y)), index=rows)
    assert_allclose(model_of(kind).fit(table, series, sample_weight=weight).predict(table), want)
    objective = model_of(kind).objective
    assert_array_equal(objective.init_score(series, weight), objective.init_score(y))


def test_libraries_are_imported_when_asked_for() -> None:
    code = (
        "import sys; from fastloss import boosting; known = {'lightgbm', 'xgboost', 'sklearn'};"
        "dir(boosting); assert not known & set(sys.modules);"
        "boosting.LGBMRegressor; assert 'lightgbm' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'XGBRanker'"):
        _ = boosting.XGBRanker
