"""The objective of lists: LightGBM's lambdarank, for both libraries."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from boosting_cases import LIBRARIES, estimator, evaluation, labelled, over_libraries, over_weights
from helpers import Array, on_every_isa, refused
from numpy.testing import assert_allclose, assert_array_equal

import fastloss
from fastloss.boosting import lightgbm_objective, xgboost_objective

OPTIONS: list[dict[str, Any]] = [
    {},
    {"sigmoid": 2.0, "truncation_level": 5},
    {"normalize": False, "label_gain": [0.0, 1.0, 4.0, 5.0, 20.0]},
]
over_options = pytest.mark.parametrize("options", OPTIONS, ids=str)


def problem(groups: int = 60) -> tuple[Array, Array, Array, Array]:
    """Features, labels from 0 to 4, sizes of groups (one of them 1), and weights of documents."""
    rng = np.random.default_rng(12)
    sizes = np.concatenate([[1], rng.integers(2, 40, groups - 1)])
    x = rng.normal(size=(sizes.sum(), 5))
    y = np.digitize(x[:, 0] + x[:, 1] * x[:, 2] + 0.5 * rng.normal(size=len(x)), [-0.5, 0.5, 1.2, 2.0])
    return x, y.astype(float), sizes, rng.uniform(0.2, 2.0, len(x)).astype(np.float32)


def dataset(y: Array, sizes: Array, weight: Array | None = None) -> Any:
    """Data with groups, as LightGBM has them."""
    return labelled(y, weight, get_group=lambda: sizes)


def matrix(y: Array, sizes: Array, weight: Array | None = None) -> Any:
    """Data with groups, as XGBoost has them."""
    bounds = {"group_ptr": np.concatenate([[0], np.cumsum(sizes)]).astype(np.uint32)}
    return labelled(y, weight, get_uint_info=bounds.__getitem__)


@on_every_isa
@over_libraries
@over_options
def test_derivatives_are_those_of_the_loss(options: dict[str, Any], library: str) -> None:
    """By every interface, with scores of both types and in any order, and with weights."""
    _, y, sizes, weight = problem()
    objective = LIBRARIES[library]("lambda_rank_loss", **options)
    exact = np.random.default_rng(1).normal(size=len(y))
    for s in (exact, exact.astype(np.float32), exact.repeat(2)[::2]):
        _, *want = fastloss.lambda_rank_loss(
            s.astype(float), y, sizes, **options, reduction="sum", return_grad=True, return_hessian=True
        )
        for found, factor in (
            (objective(y, s, None, sizes), 1.0),
            (objective(y.astype(np.int64), s, group=sizes.tolist()), 1.0),
            (objective(y, s, weight, sizes), weight),
            (objective(s, dataset(y, sizes)), 1.0),
            (objective(s, dataset(y, sizes, weight)), weight),
            (objective(s, matrix(y, sizes, np.empty(0, np.float32))), 1.0),
        ):
            for one, exactly in zip(found, want, strict=True):
                assert one.dtype == np.float32 and one.shape == s.shape
                assert_allclose(one, factor * exactly, rtol=1e-6, atol=1e-7)


def test_xgboost_has_a_weight_for_each_group() -> None:
    _, y, sizes, _ = problem()
    objective, s = xgboost_objective("lambda_rank_loss"), np.random.default_rng(1).normal(size=len(y))
    weight = np.arange(1.0, len(sizes) + 1.0)
    plain = objective(s, matrix(y, sizes))
    found = objective(s, matrix(y, sizes, weight))
    for one, unweighted in zip(found, plain, strict=True):
        assert_allclose(one, np.repeat(weight, sizes) * unweighted, rtol=1e-6)
    refused(lambda: lightgbm_objective("lambda_rank_loss")(y, s, weight, sizes), ValueError, "weight")


def of_lightgbm(options: dict[str, Any]) -> dict[str, Any]:
    names = {"truncation_level": "lambdarank_truncation_level", "normalize": "lambdarank_norm"}
    return {"objective": "lambdarank", **{names.get(key, key): value for key, value in options.items()}}


@over_weights
@over_options
def test_as_lightgbm(options: dict[str, Any], is_weighted: bool) -> None:
    """The trees of LightGBM's own lambdarank, up to the error of its table of the sigmoid."""
    lightgbm = pytest.importorskip("lightgbm")
    x, y, sizes, weight = problem()
    few = {"verbose": -1, "num_leaves": 7, "num_threads": 1, "learning_rate": 0.1}
    trained = []
    objective = lightgbm_objective("lambda_rank_loss", **options)
    for parameters in (of_lightgbm(options), {"objective": objective}):
        data = lightgbm.Dataset(x, y, group=sizes, weight=weight if is_weighted else None)
        trained.append(lightgbm.train({**few, **parameters}, data, 20))
    own, ours = (model.predict(x, pred_leaf=True) for model in trained)
    assert own.shape == (len(y), 20) and (own.max(axis=0) == 6).all()
    assert_array_equal(ours, own)
    assert_allclose(trained[1].predict(x), trained[0].predict(x), rtol=1e-4, atol=5e-5)


def test_lightgbms_ranker() -> None:
    """The same models and the same metric, with early stopping; and by LightGBM's own estimator."""
    lightgbm = pytest.importorskip("lightgbm")
    pytest.importorskip("sklearn")
    from fastloss import boosting

    x, y, sizes, weight = problem()
    held = int(sizes[40:].sum())
    kept = len(y) - held
    results = []
    objective = lightgbm_objective("lambda_rank_loss")
    for kind, own in (
        (lightgbm.LGBMRanker, None),
        (boosting.LGBMRanker, objective),
        (boosting.LGBMRanker, None),
        (lightgbm.LGBMRanker, objective),
    ):
        model = kind(objective=own, n_estimators=60, verbose=-1, n_jobs=1, num_leaves=7)
        model.fit(
            x[:kept], y[:kept], sample_weight=weight[:kept], group=sizes[:40], eval_group=[sizes[40:]],
            **evaluation([(x[kept:], y[kept:])]), eval_at=[5],
            callbacks=[lightgbm.early_stopping(8, verbose=False)],
        )  # fmt: skip
        results.append((model.predict(x), model.best_iteration_, model.best_score_["valid_0"]["ndcg@5"]))
    assert 1 < results[0][1] < 60
    for found, best, score in results[1:]:
        assert_allclose(found, results[0][0], rtol=1e-4, atol=5e-5)
        assert best == results[0][1] and score == pytest.approx(results[0][2], abs=1e-9)
    model = boosting.LGBMRanker(objective=lightgbm_objective("mse_loss"))
    refused(lambda: model.fit(x, y, group=sizes), ValueError, "ranker")
    twin = pickle.loads(pickle.dumps(boosting.LGBMRanker(objective=objective, n_estimators=2, verbose=-1)))
    assert twin.fit(x, y, group=sizes).objective == objective


def test_xgboost_learns_to_rank() -> None:
    """Groups by their sizes or by qid; the scores rank better than without training."""
    xgboost = pytest.importorskip("xgboost")
    x, y, sizes, _ = problem()
    objective = xgboost_objective("lambda_rank_loss")
    queries = np.repeat(np.arange(len(sizes)), sizes)
    by_size, by_query, weighted = (xgboost.DMatrix(x, y, qid=qid) for qid in (None, queries, queries))
    by_size.set_group(sizes)
    weighted.set_weight(np.linspace(0.1, 3.0, len(sizes)))
    params = {"max_depth": 3, "nthread": 1, "disable_default_eval_metric": True}
    every = (by_size, by_query, weighted)
    found = [xgboost.train(params, data, 15, obj=objective).predict(data) for data in every]
    assert_array_equal(found[0], found[1])
    assert not np.allclose(found[0], found[2])
    for scores in found:
        loss = fastloss.lambda_rank_loss(scores, y, sizes, normalize=False)
        assert np.corrcoef(scores, y)[0, 1] > 0.6 and np.isfinite(loss)
    refused(lambda: xgboost.train(params, xgboost.DMatrix(x, y), 1, obj=objective), ValueError, "group .*qid")


@over_libraries
def test_errors_and_objects(library: str) -> None:
    make = LIBRARIES[library]
    objective = make("lambda_rank_loss", label_gain=np.arange(3.0), sigmoid=2)
    for twin in (pickle.loads(pickle.dumps(objective)), copy.deepcopy(objective)):
        assert twin == objective and twin.options["label_gain"] == (0.0, 1.0, 2.0)
    assert objective.init_score([0, 1, 2]) == 0.0 and objective.transform(1.5) == 1.5
    s, y, sizes = np.zeros(4), np.array([0.0, 1.0, 2.0, 0.0]), [3, 1]
    for labels, scores, weight, group, match in (
        (y, s, None, None, "group must have the size .* got None"),
        (y, s, None, [3, 2], "group must add up to .* 4; got 5"),
        (y, s, None, [5, -1], r"group\[1\] is -1: expected"),
        (y + 1.0, s, None, sizes, r"label\[2\] is 3.0"),
        (y + 0.5, s, None, sizes, r"label\[0\] is 0.5"),
        (y[:3], s, None, sizes, "scores and labels"),
        (y, np.zeros((4, 2)), None, sizes, "scores and labels"),
        (y, s, np.ones(3), sizes, "weight must have shape"),
    ):
        refused(lambda a=labels, b=scores, c=weight, d=group: objective(a, b, c, d), ValueError, match)
    refused(lambda: objective(y, s, None, [2.0, 2.0]), TypeError, "group must hold integers")
    refused(lambda: objective(s, labelled(y)), ValueError, "group")
    for options, match in (
        ({"sigmoid": 0.0}, "sigmoid"),
        ({"truncation_level": 0}, "truncation_level"),
        ({"label_gain": [1.0, 0.0]}, r"label_gain\[1\] is 0.0: expected"),
        ({"norm": True}, "norm is no option"),
    ):
        refused(lambda o=options: make("lambda_rank_loss", **o), ValueError, match)
    refused(lambda: make("lambda_rank_loss", normalize=1), TypeError, "normalize")
    empty = objective([], [], None, [])
    assert all(a.shape == (0,) and a.dtype == np.float32 for a in empty)


def test_xgboosts_regressor_has_no_groups() -> None:
    x, y, *_ = problem()
    model = estimator("xgboost", "Regressor", xgboost_objective("lambda_rank_loss"))
    refused(lambda: model.fit(x, y), ValueError, "group .*qid")
