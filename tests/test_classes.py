"""The further losses over classes, where the registry does not go."""

import math
from typing import Any

import numpy as np
import pytest

import fastloss


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [2, 10, 70, 3000])
@pytest.mark.parametrize("gamma", [0.5, 2.0, 3.0])
def test_focal_loss_of_certain_rows(dtype: str, classes: int, gamma: float) -> None:
    """1 - p comes from the sum of the others, where 1 minus a rounded p would be 0."""
    x = np.zeros((1, classes), dtype)
    x[0, 1] = 30.0
    loss, grad = fastloss.softmax_focal_loss(x, [1], gamma=gamma, reduction="none", return_grad=True)
    others = (classes - 1) * math.exp(-30.0)
    u, surprise = others / (1.0 + others), math.log1p(others)
    near = pytest.approx(u**gamma * surprise, rel=4e-6 if dtype == "float32" else 1e-12)
    assert loss[0] == near
    slope = u**gamma + gamma * u ** (gamma - 1.0) * (1.0 - u) * surprise
    assert grad[0, 1] == pytest.approx(-slope * u, rel=4e-6 if dtype == "float32" else 1e-12)
    assert grad[0].sum() == pytest.approx(0.0, abs=4e-6 * slope * u + 1e-37)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [2, 10, 70, 3000])
def test_focal_loss_of_impossible_and_only_classes(dtype: str, classes: int) -> None:
    x = np.zeros((3, classes), dtype)
    x[0, 1] = -np.inf  # the target is masked: as of the cross-entropy
    x[1], x[1, 1] = -np.inf, 2.0  # nothing but the target is possible
    x[2, 0] = np.nan
    y = [1, 1, 1]
    loss, grad = fastloss.softmax_focal_loss(x, y, reduction="none", return_grad=True)
    plain = fastloss.cross_entropy(x, y, reduction="none", return_grad=True)
    np.testing.assert_array_equal(loss, [np.inf, 0.0, np.nan])
    np.testing.assert_array_equal(grad[1], np.zeros(classes))
    np.testing.assert_allclose(grad[0], plain[1][0], rtol=1e-6)
    assert np.isnan(grad[2]).all()


def test_focal_loss_is_the_cross_entropy_without_gamma() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((50, 7)), rng.integers(0, 7, 50)
    y[3] = -100
    alpha = rng.random(7)
    focal = fastloss.softmax_focal_loss(x, y, gamma=0, alpha=alpha, reduction="none", return_grad=True)
    plain = fastloss.cross_entropy(x, y, weight=alpha, reduction="none", return_grad=True)
    for ours, theirs in zip(focal, plain, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert fastloss.softmax_focal_loss(x, y, alpha=alpha, reduction="sum_and_count")[1] == 49.0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [2, 10, 70, 3000])
@pytest.mark.parametrize("margin", [5.0, 30.0])
def test_poly_loss_of_certain_rows(dtype: str, classes: int, margin: float) -> None:
    """Without its first term the loss is u**2 / 2 + u**3 / 3 ..., and its gradient that of u**2."""
    x = np.zeros((1, classes), dtype)
    x[0, 1] = margin + math.log(classes)
    loss, grad = fastloss.poly_loss(x, [1], epsilon=-1.0, reduction="none", return_grad=True)
    others = (classes - 1) * math.exp(-float(x[0, 1]))
    u = others / (1.0 + others)
    relative = 2e-6 if dtype == "float32" else 1e-12
    assert loss[0] == pytest.approx(sum(u**k / k for k in range(2, 30)), rel=relative)
    assert grad[0, 1] == pytest.approx(-u * u, rel=relative)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [2, 10, 70, 3000])
@pytest.mark.parametrize("q", [1e-6, 0.3, 1.0])
def test_generalized_cross_entropy_of_certain_rows(dtype: str, classes: int, q: float) -> None:
    """1 - p**q keeps its digits where p is nearly 1, or q nearly 0."""
    x = np.zeros((1, classes), dtype)
    x[0, 1] = 30.0
    loss, grad = fastloss.generalized_cross_entropy(x, [1], q=q, reduction="none", return_grad=True)
    others = (classes - 1) * math.exp(-30.0)
    u, surprise = others / (1.0 + others), math.log1p(others)
    relative = 2e-6 if dtype == "float32" else 1e-12
    assert loss[0] == pytest.approx(-math.expm1(-q * surprise) / q, rel=relative)
    assert grad[0, 1] == pytest.approx(-u * math.exp(-q * surprise), rel=relative)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [2, 10, 70, 3000])
@pytest.mark.parametrize(
    ("name", "options", "of_masked", "factor"),
    [
        ("poly_loss", {"epsilon": 2.0}, np.inf, 1.0),
        ("poly_loss", {"epsilon": -1.0}, np.inf, 1.0),
        ("generalized_cross_entropy", {"q": 0.5}, 2.0, 0.0),
    ],
)
def test_impossible_and_only_classes(
    dtype: str, classes: int, name: str, options: dict[str, Any], of_masked: float, factor: float
) -> None:
    x = np.zeros((4, classes), dtype)
    x[0, 1] = -np.inf  # the target is masked
    x[1], x[1, 1] = -np.inf, 2.0  # nothing but the target is possible
    x[2, 0] = np.nan
    x[3, 1] = -np.inf  # as the first; below without weight
    weight, y = np.ones(classes), [1, 1, 1, 1]
    function = getattr(fastloss, name)
    loss, grad = function(x, y, **options, weight=weight, reduction="none", return_grad=True)
    plain = fastloss.cross_entropy(x, y, reduction="none", return_grad=True)[1]
    np.testing.assert_array_equal(loss, [of_masked, 0.0, np.nan, of_masked])
    np.testing.assert_array_equal(grad[1], np.zeros(classes))
    np.testing.assert_allclose(grad[0], factor * plain[0], rtol=1e-6)
    assert np.isnan(grad[2]).all()
    weight[1] = 0.0
    loss, grad = function(x[3:], y[3:], **options, weight=weight, reduction="none", return_grad=True)
    assert loss[0] == 0.0 and not grad.any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "option"), [("poly_loss", "epsilon"), ("generalized_cross_entropy", "q")])
def test_cross_entropy_is_the_limit(dtype: str, name: str, option: str) -> None:
    rng = np.random.default_rng(0)
    x, y, weight = rng.standard_normal((50, 7)).astype(dtype), rng.integers(0, 7, 50), rng.random(7)
    y[3] = -100
    ours = getattr(fastloss, name)(x, y, **{option: 0}, weight=weight, return_grad=True)
    plain = fastloss.cross_entropy(x, y, weight=weight, return_grad=True)
    assert ours[0] == plain[0]
    np.testing.assert_array_equal(ours[1], plain[1])
