"""The further losses over classes, where the registry does not go."""

import math

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
