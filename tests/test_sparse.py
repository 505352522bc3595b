"""sparsemax_loss: supports of any size, and margins."""

import numpy as np
import pytest

import fastloss
from fastloss import reference


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("classes", [2, 63, 2048, 2050, 9000])
@pytest.mark.parametrize("size", [0.0, 1e-6, 0.1, 3.0])
def test_supports_of_any_size(classes: int, size: float) -> None:
    """Also those of more classes than a block, far from 0, and next to masked classes."""
    rng = np.random.default_rng(classes)
    offset = np.array([[0.0], [2.0**10], [-(2.0**10)], [1.0]])
    x = np.round(rng.standard_normal((4, classes)) * size, 12) + offset
    x[3, 1::2] = -np.inf
    target = np.array([0, classes - 1, classes // 2, 0])
    losses, grad = fastloss.sparsemax_loss(x, target, reduction="none", return_grad=True)
    expected, exact = reference.sparsemax_loss(x, target, reduction="none", return_grad=True)
    np.testing.assert_allclose(losses, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(grad, exact, rtol=0, atol=1e-14)
    np.testing.assert_allclose(grad.sum(axis=1), 0.0, atol=1e-12)


def test_newtons_steps_end_where_each_drops_one_class() -> None:
    x = 1.0 - 2.0 ** -np.arange(1.0, 50.0)
    loss, grad = fastloss.sparsemax_loss(x, 0, return_grad=True)
    expected, exact = reference.sparsemax_loss(x, 0, return_grad=True)
    assert loss == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(grad, exact, rtol=0, atol=1e-15)


def test_no_loss_beyond_a_margin_of_1() -> None:
    x = np.array([[1.0, 0.0, -3.0], [5.0, 4.0, 4.0], [1e300, 0.0, -np.inf], [1.0, 1e-3, 0.0]])
    losses, grad = fastloss.sparsemax_loss(x, np.zeros(4, int), reduction="none", return_grad=True)
    assert losses[:3].tolist() == [0.0] * 3 and not grad[:3].any()
    assert losses[3] == pytest.approx(2.5e-7, rel=1e-9), "a quarter of the square of what is missing"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_without_a_finite_loss(dtype: type) -> None:
    inf, nan = np.inf, np.nan
    x = np.array([[nan, 1, 2], [inf, 1, 2], [-inf] * 3, [1, 2, nan], [-inf, 2, 1.5]], dtype)
    losses, grad = fastloss.sparsemax_loss(x, np.zeros(5, int), reduction="none", return_grad=True)
    assert np.isnan(losses[:4]).all() and np.isnan(grad[:4]).all()
    assert losses[4] == inf and grad[4].tolist() == [-1.0, 0.75, 0.25]
