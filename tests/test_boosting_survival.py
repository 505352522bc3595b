"""The objectives of survival times: as XGBoost's own, and in LightGBM, which has none."""

import math
import pickle
from functools import partial
from typing import Any

import numpy as np
import pytest
from boosting_cases import LIBRARIES, estimator, labelled, over_libraries, over_weights
from helpers import Array, bits, refused
from numpy.testing import assert_allclose

import fastloss
from fastloss.boosting import lightgbm_objective, xgboost_objective

N, ROUNDS = 400, 12
over_names = pytest.mark.parametrize("name", ["cox_ph_loss", "aft_loss"])


def problem() -> tuple[Array, Array, Array, Array]:
    """Features, times, whether they are those of events, and weights."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(N, 4))
    time = np.exp(x[:, 0] - 0.5 * x[:, 1] + 0.4 * rng.normal(size=N)).astype(np.float32)
    return x, time, rng.random(N) < 0.7, rng.uniform(0.2, 2.0, N).astype(np.float32)


def trained(data: Any, params: dict[str, Any], obj: Any = None) -> Any:
    xgboost = pytest.importorskip("xgboost")
    # Without a larger penalty, steps of rows with a constant gradient and hardly a curvature diverge.
    few = {"max_depth": 3, "eta": 0.3, "lambda": 50, "base_score": 0.5, "nthread": 1, "seed": 0}
    return xgboost.train({**few, **params}, data, ROUNDS, obj=obj)


def assert_equal_models(data: Any, params: dict[str, Any], objective: Any) -> None:
    built_in, ours = trained(data, params), trained(data, params, objective)
    want = built_in.predict(data, output_margin=True)
    assert np.std(want) > 0.02
    assert_allclose(ours.predict(data, output_margin=True), want, rtol=1e-5, atol=1e-5)
    assert_allclose(ours.predict(data), built_in.predict(data), rtol=2e-5, atol=1e-5)


@over_weights
def test_cox_as_xgboost(is_weighted: bool) -> None:
    xgboost = pytest.importorskip("xgboost")
    x, time, event, weight = problem()
    data = xgboost.DMatrix(x, np.where(event, time, -time), weight=weight if is_weighted else None)
    assert_equal_models(data, {"objective": "survival:cox"}, xgboost_objective("cox_ph_loss"))


@over_weights
@pytest.mark.parametrize("distribution", ["normal", "logistic", "extreme"])
def test_intervals_as_xgboost(distribution: str, is_weighted: bool) -> None:
    """Exact times, intervals, and either side open; the start is far from some of them."""
    xgboost = pytest.importorskip("xgboost")
    x, time, _, weight = problem()
    kind = np.arange(N) % 4
    lower = np.where(kind == 2, 0.0, time)
    upper = np.where(kind == 0, time, np.where(kind == 1, math.inf, 1.5 * time)).astype(np.float32)
    data = xgboost.DMatrix(x, weight=weight if is_weighted else None)
    for scale in (0.4, 1.5):
        for size in (1.0, 30.0):
            data.set_float_info("label_lower_bound", size * lower)
            data.set_float_info("label_upper_bound", size * upper)
            params = {
                "objective": "survival:aft", "aft_loss_distribution": distribution,
                "aft_loss_distribution_scale": scale,
            }  # fmt: skip
            objective = xgboost_objective("aft_loss", distribution=distribution, scale=scale)
            assert_equal_models(data, params, objective)


@over_libraries
@over_names
def test_derivatives_are_those_of_the_loss(name: str, library: str) -> None:
    """With both interfaces; only XGBoost's weights of Cox's loss are not those of the risk sets."""
    _, time, event, weight = problem()
    signed, s = np.where(event, time, -time), np.random.default_rng(1).normal(size=N)
    objective = LIBRARIES[library](name)
    upper = np.where(event, time, math.inf)
    times = (time, event) if name == "cox_ph_loss" else (time, upper)
    options: Any = {"reduction": "sum", "return_grad": True, "return_hessian": True}
    loss = getattr(fastloss, name)
    _, *plain = loss(s, *times, **options)
    _, *weighted = loss(s, *times, weight=weight, **options)
    if (library, name) == ("xgboost", "cox_ph_loss"):
        weighted = [weight * a for a in plain]
    for found, want in (
        (objective(signed, s), plain),
        (objective(s, labelled(signed)), plain),
        (objective(signed, s, weight), weighted),
        (objective(s, labelled(signed, weight)), weighted),
    ):
        for one, exact in zip(found, want, strict=True):
            assert one.dtype == np.float32 and one.shape == (N,)
            assert_allclose(one, exact, rtol=1e-6, atol=1e-7)
    if name == "aft_loss":
        assert bits(objective(np.stack([time, upper], axis=1), s)) == bits(objective(signed, s))


def test_lightgbm_learns_survival() -> None:
    lightgbm = pytest.importorskip("lightgbm")
    x, time, event, _ = problem()
    signed = np.where(event, time, -time)
    for name, times in (
        ("cox_ph_loss", (time, event)),
        ("aft_loss", (time, np.where(event, time, math.inf))),
    ):
        objective = lightgbm_objective(name)
        params = {"objective": objective, "verbose": -1, "num_leaves": 7, "num_threads": 1}
        scores = lightgbm.train(params, lightgbm.Dataset(x, signed), 40).predict(x)
        loss = getattr(fastloss, name)
        assert loss(scores, *times) < loss(np.full(N, objective.init_score(signed)), *times) - 0.2


@over_libraries
@over_names
def test_estimators_of_survival(name: str, library: str) -> None:
    """`predict` returns hazards, or times."""
    x, time, event, _ = problem()
    model = estimator(library, "Regressor", LIBRARIES[library](name), n_estimators=20)
    model.fit(x, np.where(event, time, -time))
    scores = model.predict(x, **{"raw_score" if library == "lightgbm" else "output_margin": True})
    assert_allclose(model.predict(x), np.exp(scores), rtol=1e-5)
    order = np.corrcoef(scores, np.log(time))[0, 1]
    assert order < -0.6 if name == "cox_ph_loss" else order > 0.6


@over_libraries
def test_starts_and_objects(library: str) -> None:
    _, time, event, weight = problem()
    signed = np.where(event, time, -time)
    assert LIBRARIES[library]("cox_ph_loss").init_score(signed) == 0.0
    for options in ({}, {"scale": 0.5, "distribution": "logistic"}):
        objective = LIBRARIES[library]("aft_loss", **options)
        start = objective.init_score(signed, weight)
        best = [
            fastloss.aft_loss(np.full(N, c), time, np.where(event, time, math.inf), weight=weight, **options)
            for c in (start - 0.01, start, start + 0.01)
        ]
        assert best[1] < min(best[0], best[2])
        again = pickle.loads(pickle.dumps(objective))
        assert again == objective and again.options == objective.options
        assert objective.transform(1.0) == pytest.approx(math.e)
    for name, options, match in (
        ("aft_loss", {"scale": 0.0}, "scale"),
        ("aft_loss", {"distribution": "gumbel"}, "distribution"),
        ("aft_loss", {"ties": "efron"}, "ties is no option"),
        ("cox_ph_loss", {"ties": "exact"}, "ties"),
        ("cox_ph_loss", {"strata": [1]}, "strata is no option"),
    ):
        refused(partial(LIBRARIES[library], name, **options), ValueError, match)
    for name in ("aft_loss", "cox_ph_loss"):
        objective = LIBRARIES[library](name)
        for labels in (np.ones(3), np.ones((4, 3)), np.array([1.0, math.nan, 1.0, 1.0])):
            refused(partial(objective, labels, np.zeros(4)), ValueError, "labels?|times?|lower")
