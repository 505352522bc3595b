"""Objectives with several scores for each row: several quantiles, and all parameters of distributions."""

import pickle
from typing import Any

import numpy as np
import pytest
from boosting_cases import LIBRARIES, estimator, over_libraries
from helpers import Array, bits, refused

import fastloss

QUANTILES = (0.1, 0.5, 0.9)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(600, 3))
Y = X[:, 0] + np.exp(0.5 * X[:, 1]) * RNG.normal(size=600)
COUNTS = RNG.poisson(np.exp(X[:, 0]) * RNG.gamma(2.0, 0.5, 600)).astype(float)
WEIGHT = RNG.uniform(0.5, 1.5, 600)
LABELS = {"negative_binomial_nll_loss": COUNTS}
# The parameters of each, from its scores.
PARAMETERS = {
    "gaussian_nll_loss": (False, True),
    "negative_binomial_nll_loss": (False, True),
    "student_t_nll_loss": (False, True, True),
}
NAMES = [*PARAMETERS, "quantile_loss"]


def made(library: str, name: str) -> Any:
    return LIBRARIES[library](name, **({"quantile": QUANTILES} if name == "quantile_loss" else {}))


def scores_of(name: str) -> Array:
    return RNG.normal(size=(600, len(PARAMETERS.get(name, QUANTILES))))


@over_libraries
@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("order", ["C", "F"])
def test_gradients_are_those_of_the_loss(library: str, name: str, order: Any) -> None:
    """By the chain rule, with weights, in any order of the scores."""
    scores, labels = scores_of(name), LABELS.get(name, Y)
    places = [np.exp(s) if is_log else s for s, is_log in zip(scores.T, PARAMETERS[name], strict=True)]
    _, grads = getattr(fastloss, name)(
        places[0], labels, *places[1:], weight=WEIGHT, reduction="sum", return_grad=True
    )
    chain = [p if is_log else 1.0 for p, is_log in zip(places, PARAMETERS[name], strict=True)]
    expected = np.stack([g * c for g, c in zip(grads, chain, strict=True)], axis=1)
    gradient, hessian = made(library, name)(labels, np.array(scores, order=order), WEIGHT)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-6)
    assert gradient.dtype == hessian.dtype == np.float32 and (hessian > 0.0).all()
    assert gradient.flags.f_contiguous == (order == "F")


def test_second_derivatives_are_the_information() -> None:
    """The expected square of the gradient: sums over counts, integrals of a dense grid."""
    a, m = 0.2, 4.0
    counts = np.arange(400.0)
    scores = np.log(np.broadcast_to([m, a], (400, 2)))
    gradient, hessian = made("xgboost", "negative_binomial_nll_loss")(counts, scores)
    log_p = -fastloss.negative_binomial_nll_loss(scores[:, 0], counts, a, full=True, reduction="none")
    found = np.exp(log_p) @ gradient.astype(float) ** 2
    assert hessian[0, 0] == pytest.approx(found[0], rel=1e-5)
    assert found[1] <= hessian[0, 1] <= 3.5 * found[1]
    z = np.concatenate([-np.logspace(5.0, -6.0, 40_001), np.logspace(-6.0, 5.0, 40_001)])
    scores = np.broadcast_to([0.0, 0.0, np.log(3.0)], (len(z), 3))
    gradient, hessian = made("xgboost", "student_t_nll_loss")(z, scores)
    p = np.exp(-fastloss.student_t_nll_loss(np.zeros_like(z), z, 1.0, 3.0, full=True, reduction="none"))
    found = np.trapezoid(p[:, None] * gradient.astype(float) ** 2, z, axis=0)
    np.testing.assert_allclose(hessian[0, :2], found[:2], rtol=1e-4)
    assert found[2] == pytest.approx(hessian[0, 2], rel=0.4)


@pytest.mark.parametrize("name", NAMES)
@over_libraries
def test_starts_and_links(library: str, name: str) -> None:
    """No score near the start has less loss; far scores are finite; labels and shapes are checked."""
    objective, labels = made(library, name), LABELS.get(name, Y)
    start = objective.init_score(labels, WEIGHT)
    if name in PARAMETERS:
        gradient, _ = objective(labels, np.broadcast_to(start, (600, len(start))), WEIGHT)
        np.testing.assert_allclose(gradient.sum(axis=0, dtype=float), 0.0, atol=0.05)
        logs = (np.exp(start[:1]) if name.startswith("negative") else start[:1], np.exp(start[1:]))
        np.testing.assert_allclose(objective.transform(start), np.concatenate(logs))
        for far in (50.0, -50.0):
            assert all(np.isfinite(a).all() for a in objective(labels, np.full((600, len(start)), far)))
    else:
        each = (LIBRARIES[library](name, quantile=q) for q in QUANTILES)
        assert start.tolist() == [one.init_score(labels, WEIGHT) for one in each]
    assert pickle.loads(pickle.dumps(objective)) == objective
    refused(lambda: objective(labels, np.zeros((600, 7))), ValueError, "scores")
    refused(lambda: objective(labels[:5], scores_of(name)), ValueError, "labels")
    if name in LABELS:
        refused(lambda: objective(-1.0 - labels, scores_of(name)), ValueError, "label")


def test_several_quantiles_are_those_of_each() -> None:
    scores = scores_of("quantile_loss")
    scores[::7, 1] = Y[::7]
    gradient, hessian = made("xgboost", "quantile_loss")(Y, scores, WEIGHT)
    for k, q in enumerate(QUANTILES):
        one = LIBRARIES["xgboost"]("quantile_loss", quantile=q)(Y, scores[:, k], WEIGHT)
        assert bits(gradient[:, k], hessian[:, k]) == bits(one)
    refused(lambda: LIBRARIES["xgboost"]("quantile_loss", quantile=[0.5, 1.5]), ValueError, "quantile")


def test_as_xgboost_itself() -> None:
    """The model of several quantiles equals that of XGBoost's own objective."""
    xgboost = pytest.importorskip("xgboost")
    objective = made("xgboost", "quantile_loss")
    parameters = {
        "objective": "reg:quantileerror", "quantile_alpha": list(QUANTILES), "max_depth": 3,
        "base_score": objective.init_score(Y, WEIGHT).tolist(),
    }  # fmt: skip
    data = xgboost.DMatrix(X, Y, weight=WEIGHT)
    own, ours = (xgboost.train(parameters, data, 15, obj=obj).predict(data) for obj in (None, objective))
    np.testing.assert_allclose(ours, own, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@over_libraries
def test_estimators(library: str, name: str) -> None:
    """Predictions have a column for each parameter or quantile, and less loss than those of the start."""
    objective, labels = made(library, name), LABELS.get(name, Y)
    model = estimator(library, "Regressor", objective, n_estimators=40).fit(X, labels, sample_weight=WEIGHT)

    def loss(predicted: Array) -> Any:
        if name == "quantile_loss":
            return fastloss.quantile_loss(predicted, labels, quantile=QUANTILES)
        p = np.array(predicted, float)
        first = np.log(p[:, 0]) if name.startswith("negative") else p[:, 0]
        return getattr(fastloss, name)(first, labels, *p[:, 1:].T)

    found = model.predict(X)
    start = np.broadcast_to(objective.transform(objective.init_score(labels)), found.shape)
    assert found.shape == scores_of(name).shape and loss(found) < loss(start) - 0.02
