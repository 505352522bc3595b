"""The further losses over classes, where the registry does not go."""

import math
from typing import Any

import numpy as np
import pytest
from helpers import over_wide

import fastloss

over_classes = pytest.mark.parametrize("classes", [2, 10, 70, 3000])


def certain(name: str, classes: int, dtype: str, margin: float, **options: float) -> Any:
    """Loss and gradient of a row whose target is certain, and the probability of the others as odds."""
    x = np.zeros((1, classes), dtype)
    x[0, 1] = margin
    loss, grad = getattr(fastloss, name)(x, [1], **options, reduction="none", return_grad=True)
    others = (classes - 1) * math.exp(-float(x[0, 1]))
    return loss[0], grad[0], others


@over_wide
@over_classes
@pytest.mark.parametrize("gamma", [0.5, 2.0, 3.0])
def test_focal_loss_of_certain_rows(dtype: str, classes: int, gamma: float) -> None:
    """1 - p comes from the sum of the others, where 1 minus a rounded p would be 0."""
    loss, grad, others = certain("softmax_focal_loss", classes, dtype, 30.0, gamma=gamma)
    u, surprise = others / (1.0 + others), math.log1p(others)
    relative = 4e-6 if dtype == "float32" else 1e-12
    assert loss == pytest.approx(u**gamma * surprise, rel=relative, abs=0.0)
    slope = u**gamma + gamma * u ** (gamma - 1.0) * (1.0 - u) * surprise
    assert grad[1] == pytest.approx(-slope * u, rel=relative, abs=0.0)
    assert grad.sum() == pytest.approx(0.0, abs=4e-6 * slope * u + 1e-37)


@over_wide
@over_classes
@pytest.mark.parametrize("margin", [5.0, 30.0])
def test_poly_loss_of_certain_rows(dtype: str, classes: int, margin: float) -> None:
    """Without its first term the loss is u**2 / 2 + u**3 / 3 ..., and its gradient that of u**2."""
    loss, grad, others = certain("poly_loss", classes, dtype, margin + math.log(classes), epsilon=-1.0)
    u, relative = others / (1.0 + others), 2e-6 if dtype == "float32" else 1e-12
    assert loss == pytest.approx(sum(u**k / k for k in range(2, 30)), rel=relative, abs=0.0)
    assert grad[1] == pytest.approx(-u * u, rel=relative, abs=0.0)


@over_wide
@over_classes
@pytest.mark.parametrize("q", [1e-6, 0.3, 1.0])
def test_generalized_cross_entropy_of_certain_rows(dtype: str, classes: int, q: float) -> None:
    """1 - p**q keeps its digits where p is nearly 1, or q nearly 0."""
    loss, grad, others = certain("generalized_cross_entropy", classes, dtype, 30.0, q=q)
    u, surprise = others / (1.0 + others), math.log1p(others)
    relative = 2e-6 if dtype == "float32" else 1e-12
    assert loss == pytest.approx(-math.expm1(-q * surprise) / q, rel=relative, abs=0.0)
    assert grad[1] == pytest.approx(-u * math.exp(-q * surprise), rel=relative, abs=0.0)


@over_wide
@over_classes
@pytest.mark.parametrize(
    ("name", "options", "weights", "of_masked", "factor"),
    [
        ("softmax_focal_loss", {}, "alpha", np.inf, 1.0),
        ("poly_loss", {"epsilon": 2.0}, "weight", np.inf, 1.0),
        ("poly_loss", {"epsilon": -1.0}, "weight", np.inf, 1.0),
        ("generalized_cross_entropy", {"q": 0.5}, "weight", 2.0, 0.0),
    ],
)
def test_impossible_and_only_classes(
    dtype: str,
    classes: int,
    name: str,
    options: dict[str, Any],
    weights: str,
    of_masked: float,
    factor: float,
) -> None:
    x = np.zeros((4, classes), dtype)
    x[0, 1] = -np.inf  # the target is masked: as of the cross-entropy
    x[1], x[1, 1] = -np.inf, 2.0  # nothing but the target is possible
    x[2, 0] = np.nan
    x[3, 1] = -np.inf  # as the first; below without weight
    weight, y = np.ones(classes), [1, 1, 1, 1]
    given = {**options, weights: weight, "reduction": "none", "return_grad": True}
    loss, grad = getattr(fastloss, name)(x, y, **given)
    plain = fastloss.cross_entropy(x, y, reduction="none", return_grad=True)[1]
    np.testing.assert_array_equal(loss, [of_masked, 0.0, np.nan, of_masked])
    np.testing.assert_array_equal(grad[1], np.zeros(classes))
    np.testing.assert_allclose(grad[0], factor * plain[0], rtol=1e-6)
    assert np.isnan(grad[2]).all()
    weight[1] = 0.0
    loss, grad = getattr(fastloss, name)(x[3:], y[3:], **given)
    assert loss[0] == 0.0 and not grad.any()


@over_wide
@pytest.mark.parametrize(
    ("name", "option", "weights", "reduction"),
    [
        # Its mean is over the rows.
        ("softmax_focal_loss", "gamma", "alpha", "none"),
        ("poly_loss", "epsilon", "weight", "mean"),
        ("generalized_cross_entropy", "q", "weight", "mean"),
    ],
)
def test_cross_entropy_is_the_limit(dtype: str, name: str, option: str, weights: str, reduction: str) -> None:
    rng = np.random.default_rng(0)
    x, y, weight = rng.standard_normal((50, 7)).astype(dtype), rng.integers(0, 7, 50), rng.random(7)
    y[3] = -100
    given: dict[str, Any] = {"reduction": reduction, "return_grad": True}
    ours = getattr(fastloss, name)(x, y, **{option: 0, weights: weight}, **given)
    plain = fastloss.cross_entropy(x, y, weight=weight, **given)
    for mine, theirs in zip(ours, plain, strict=True):
        np.testing.assert_array_equal(mine, theirs)
