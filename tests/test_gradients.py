"""Gradients of a softmax that are known: confident rows, rows that sum to 0, the optimum."""

import math
from typing import Any

import numpy as np
import pytest
from helpers import Array, assert_within, dtype_named, is_half, over_dtypes, over_wide, ulp
from registry import Call, call, of_values
from rows.softmax import CROSS_ENTROPY, OF_PROBABILITIES

import fastloss
from fastloss import reference

pytestmark = pytest.mark.usefixtures("isa")

# Confident rows: the loss is the sum of the other probabilities, and nothing of it is lost

CONFIDENT_CLASSES = [2, 3, 16, 17, 64, 65, 100, 1025, 5000]


def confident_rows(classes: int, margin: float, dtype: str) -> tuple[Array, Array]:
    """Rows whose target is `margin` above classes that are level; all numbers exact in the type.

    The target is first, last, and anywhere between; the rows are shifted.
    """
    target = np.unique([0, 1, classes // 2, classes - 2, classes - 1])
    x = np.zeros((len(target), classes), dtype_named(dtype))
    x[np.arange(len(target)), target] = margin
    x[1::2] -= dtype_named(dtype).type(16.0)
    return x, target


def digits(dtype: str) -> float:
    return 1e-14 if dtype == "float64" else 4e-7


def of_rows(x: Array, target: Any, **options: Any) -> Call:
    return of_values(CROSS_ENTROPY, x, target, dtype=x.dtype.name, **options)


def check_relative(p: Call, expected: Array) -> Array:
    """Check losses to full relative precision, and the gradient; return that, in float64."""
    loss, (grad, _) = p.run()
    for found in (loss, p.value()):
        assert_within(found, expected, digits(p.dtype) * expected, f"{p.title} loss")
    p.check_derivative("logits", grad)
    return np.asarray(grad, np.float64)


def check_level(x: Array, target: Array, expected: float) -> None:
    """Check rows that have one loss; the target's gradient is minus the sum of the others."""
    p, rows = of_rows(x, target), np.arange(len(x))
    wide = check_relative(p, np.full(len(x), expected))
    # Minus the sum of the others, not p - 1: that would be 0 or one unit in the last place of 1.
    at_target = wide[rows, target].copy()
    wide[rows, target] = 0.0
    others = wide.sum(axis=-1)
    # Every number that is added brings its own rounding to the type.
    rounding = 0.5 * (ulp(at_target, p.dtype) + ulp(wide, p.dtype).sum(axis=-1))
    assert_within(-at_target, others, digits(p.dtype) * others + rounding, f"{p.title} target's gradient")


def test_margin_of_30_by_hand() -> None:
    # log(1 + exp(-30)), in all its digits.
    for dtype in ("float32", "float64"):
        x = np.array([[30.0, 0.0]], dtype)
        loss, grad = fastloss.cross_entropy(x, np.array([0]), return_grad=True)
        assert loss == pytest.approx(9.357622968839737e-14, rel=1e-7, abs=0.0)
        assert grad[0].tolist() == pytest.approx(
            [-9.357622968839299e-14, 9.357622968839299e-14], rel=1e-7, abs=0.0
        )
        assert grad[0, 0] == -grad[0, 1]


@over_dtypes
@pytest.mark.parametrize("classes", CONFIDENT_CLASSES)
def test_confident_rows_keep_their_digits(classes: int, dtype: str) -> None:
    # At 30 and two classes the loss is 9.4e-14, at the last two 1e-28 and 1e-35: still far from the smallest
    # float32.
    for margin in (0.5, 4.0, 8.0, 16.0, 30.0, *([] if is_half(dtype) else [64.0, 80.0])):
        x, target = confident_rows(classes, margin, dtype)
        check_level(x, target, math.log1p((classes - 1) * math.exp(-margin)))


@pytest.mark.parametrize("classes", CONFIDENT_CLASSES)
def test_loss_of_1e_10_keeps_its_digits(classes: int) -> None:
    # The margin that makes it so, in the numbers that float32 has.
    margin = float(np.float32(math.log(classes - 1) - math.log(1e-10)))
    x, target = confident_rows(classes, margin, "float32")
    x[1::2] += np.float32(16.0)  # a shift would round the margin
    expected = math.log1p((classes - 1) * math.exp(-margin))
    assert expected == pytest.approx(1e-10, rel=1e-5)
    check_level(x, target, expected)


SOME = {"weight": None, "sample_weight": 0.5, "temperature": 2.0, "grad_output": -3.0, "ignore_index": -1}


@pytest.mark.parametrize(("option", "value"), SOME.items(), ids=SOME)
@pytest.mark.parametrize("classes", [2, 17, 100, 5000])
def test_confident_rows_keep_their_digits_under_options(classes: int, option: str, value: Any) -> None:
    x, target = confident_rows(classes, 60.0 if option == "temperature" else 30.0, "float32")
    if option == "weight":
        value = np.linspace(0.5, 2.0, classes)
    if option == "ignore_index":
        target[-1], x[-1] = -1, np.nan
    p = of_rows(x, target, **{option: value})
    assert p.expected[0].max() < 1e-6
    check_relative(p, p.expected[0])


@over_wide
@pytest.mark.parametrize("classes", [3, 17, 100, 5000])
def test_certain_probabilities_keep_their_digits(classes: int, dtype: str) -> None:
    # A one-hot row of probabilities says what a class index says, and loses no more of the loss.
    x, y = confident_rows(classes, 30.0, dtype)
    one_hot = (np.arange(classes) == y[:, np.newaxis]).astype(dtype)
    expected = math.log1p((classes - 1) * math.exp(-30.0))
    loss = fastloss.cross_entropy(x, one_hot, reduction="none")
    assert_within(loss, np.full(len(x), expected), digits(dtype) * expected, "one-hot loss")


@pytest.mark.parametrize("masked", [1, 50])
def test_confident_rows_with_masked_classes_keep_their_digits(masked: int) -> None:
    x, target = confident_rows(100, 30.0, "float32")
    x[:, 25 : 25 + masked] = -np.inf
    x[np.arange(len(x)), target] = np.where(np.arange(len(x)) % 2, 14.0, 30.0)
    keep = ~np.isin(target, np.arange(25, 25 + masked))
    check_level(x[keep], target[keep], math.log1p((99 - masked) * math.exp(-30)))


@over_dtypes
@pytest.mark.parametrize("margin", [8, 23, 27.5, 30, 60])
@pytest.mark.parametrize("classes", [2, 10, 64, 65, 300, 1000])
def test_confident_rows_of_any_numbers(classes: int, margin: float, dtype: str) -> None:
    """Logits with all their bits: their distance to the largest is not a number of the type itself."""
    rng, rows = np.random.default_rng(classes), np.arange(64)
    x = rng.uniform(-3.0, 3.0, (64, classes))
    target = rng.integers(0, classes, 64)
    x[rows, target] = rng.uniform(3.0, 4.0, 64) + margin
    p = of_rows(x.astype(dtype_named(dtype)), target)
    check_relative(p, p.expected[0])


# What gradients of a softmax loss always are


@over_wide
@pytest.mark.parametrize("classes", [2, 17, 64, 65, 1000, 5000])
def test_gradient_of_a_row_sums_to_zero(classes: int, dtype: str) -> None:
    # A shift of all logits changes nothing (z-loss, softcap apart).
    for row in (CROSS_ENTROPY, OF_PROBABILITIES):
        p = call(row, (9, classes), dtype, "none")
        _, (grad, _) = p.run()
        wide = grad.astype(np.float64)
        # The errors of all classes: as many as there are, each of its own size.
        assert_within(wide.sum(axis=-1), np.zeros(9), digits(dtype) * np.abs(wide).sum(axis=-1), p.title)


@over_wide
def test_gradient_vanishes_at_the_optimum(dtype: str) -> None:
    # Where the softmax is the target itself, all that is left is the rounding of either.
    for classes in (4, 60, 500):
        x = np.random.default_rng(classes).uniform(-2.0, 2.0, (3, classes)).astype(dtype)
        q = reference.softmax(x).astype(dtype)
        _, grad = fastloss.cross_entropy(x, q, reduction="sum", return_grad=True)
        assert_within(grad, np.zeros(x.shape), digits(dtype) * q.max(), f"{classes} classes")
