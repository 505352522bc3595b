"""Gradients of a softmax that are known: confident rows, rows that sum to 0, the optimum."""

import math
from typing import Any

import numpy as np
import pytest
from helpers import DTYPES, Array, assert_within, dtype_named, ulp
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


def check_confident(p: Call, expected: Array) -> None:
    """Check loss and gradient of rows of class indices, to full relative precision."""
    digits = 1e-14 if p.dtype == "float64" else 4e-7
    rows = np.arange(len(p["target"]))
    loss, (grad, _) = p.run()
    assert_within(loss, expected, digits * expected, p.title + " loss")
    assert_within(p.value(), expected, digits * expected, p.title + " loss alone")
    p.check_derivative("logits", grad)
    # Minus the sum of the others, not p - 1: that would be 0 or one unit in the last place of 1.
    wide = np.asarray(grad, dtype=np.float64)
    at_target = wide[rows, p["target"]].copy()
    wide[rows, p["target"]] = 0.0
    others = wide.sum(axis=-1)
    # Every number that is added brings its own rounding to the type.
    rounding = 0.5 * (ulp(at_target, p.dtype) + ulp(wide, p.dtype).sum(axis=-1))
    assert_within(-at_target, others, digits * others + rounding, p.title + " target's gradient")


def as_call(x: Array, target: Array, dtype: str, **options: Any) -> Call:
    return of_values(CROSS_ENTROPY, x, target, dtype=dtype, **options)


def test_margin_of_30_by_hand() -> None:
    # log(1 + exp(-30)), in all its digits.
    for dtype in ("float32", "float64"):
        x = np.array([[30.0, 0.0]], dtype)
        loss, grad = fastloss.cross_entropy(x, np.array([0]), return_grad=True)
        assert loss == pytest.approx(9.357622968839737e-14, rel=1e-7)
        assert grad[0].tolist() == pytest.approx([-9.357622968839299e-14, 9.357622968839299e-14], rel=1e-7)
        assert grad[0, 0] == -grad[0, 1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", CONFIDENT_CLASSES)
def test_confident_rows_keep_their_digits(classes: int, dtype: str) -> None:
    # At 30 and two classes the loss is 9.4e-14.
    for margin in (0.5, 4.0, 8.0, 16.0, 30.0):
        x, target = confident_rows(classes, margin, dtype)
        p = as_call(x, target, dtype)
        check_confident(p, np.full(len(x), math.log1p((classes - 1) * math.exp(-margin))))


@pytest.mark.parametrize("classes", [2, 17, 65, 5000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_beyond_doubt_keep_their_digits(dtype: str, classes: int) -> None:
    # Losses of 1e-28 and 1e-35: still far from the smallest float32.
    for margin in (64.0, 80.0):
        x, target = confident_rows(classes, margin, dtype)
        p = as_call(x, target, dtype)
        check_confident(p, np.full(len(x), math.log1p((classes - 1) * math.exp(-margin))))


@pytest.mark.parametrize("classes", CONFIDENT_CLASSES)
def test_loss_of_1e_10_keeps_its_digits(classes: int) -> None:
    # The margin that makes it so, in the numbers that float32 has.
    margin = float(np.float32(math.log(classes - 1) - math.log(1e-10)))
    x, target = confident_rows(classes, margin, "float32")
    x[1::2] += np.float32(16.0)  # a shift would round the margin
    expected = np.full(len(x), math.log1p((classes - 1) * math.exp(-margin)))
    assert expected == pytest.approx(1e-10, rel=1e-5)
    check_confident(as_call(x, target, "float32"), expected)


@pytest.mark.parametrize(
    "options",
    [
        {"weight": True},
        {"sample_weight": 0.5},
        {"temperature": 2.0},
        {"grad_output": -3.0},
        {"ignore_index": -1},
    ],
    ids=lambda options: next(iter(options)),
)
@pytest.mark.parametrize("classes", [2, 17, 100, 5000])
def test_confident_rows_keep_their_digits_under_options(classes: int, options: dict[str, Any]) -> None:
    x, target = confident_rows(classes, 30.0 * options.get("temperature", 1.0), "float32")
    given = dict(options)
    if "weight" in given:
        given["weight"] = np.linspace(0.5, 2.0, classes)
    if "ignore_index" in given:
        target[-1] = -1
        x[-1] = np.nan
    p = as_call(x, target, "float32", **given)
    loss, (grad, _) = p.run()
    assert p.expected[0].max() < 1e-6
    assert_within(loss, p.expected[0], 4e-7 * p.expected[0], p.title)
    p.check_derivative("logits", grad)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [3, 17, 100, 5000])
def test_certain_probabilities_keep_their_digits(classes: int, dtype: str) -> None:
    # A one-hot row of probabilities says what a class index says, and loses no more of the loss.
    x, y = confident_rows(classes, 30.0, dtype)
    one_hot = (np.arange(classes) == y[:, np.newaxis]).astype(dtype)
    expected = math.log1p((classes - 1) * math.exp(-30.0))
    loss = fastloss.cross_entropy(x, one_hot, reduction="none")
    digits = 1e-14 if dtype == "float64" else 4e-7
    assert_within(loss, np.full(len(x), expected), digits * expected, "one-hot loss")


@pytest.mark.parametrize("masked", [1, 50])
def test_confident_rows_with_masked_classes_keep_their_digits(masked: int) -> None:
    x, target = confident_rows(100, 30.0, "float32")
    x[:, 25 : 25 + masked] = -np.inf
    x[np.arange(len(x)), target] = np.where(np.arange(len(x)) % 2, 14.0, 30.0)
    expected = math.log1p((99 - masked + np.isin(target, np.arange(25, 25 + masked))[0]) * math.exp(-30))
    keep = ~np.isin(target, np.arange(25, 25 + masked))
    check_confident(as_call(x[keep], target[keep], "float32"), np.full(keep.sum(), expected))


over_margins = pytest.mark.parametrize("margin", [8, 30, 60])
over_few_classes = pytest.mark.parametrize("classes", [2, 10, 1000])


def confident_rows_of_any_numbers(classes: int, margin: float) -> tuple[Array, Array]:
    """Logits with all their bits: their distance to the largest is not a float32 itself."""
    rng = np.random.default_rng(classes)
    x = rng.uniform(-3.0, 3.0, (64, classes)).astype(np.float32)
    target = rng.integers(0, classes, 64)
    x[np.arange(64), target] = rng.uniform(3.0, 4.0, 64) + margin
    return x, target


@over_margins
@over_few_classes
def test_gradient_of_confident_rows_of_any_numbers(classes: int, margin: float) -> None:
    # The bound that the README promises holds for these as for any other row: 4e-7 of its largest.
    p = as_call(*confident_rows_of_any_numbers(classes, margin), "float32")
    p.check_derivative("logits", p.run()[1][0])


@over_margins
@over_few_classes
def test_loss_of_confident_rows_of_any_numbers(classes: int, margin: float) -> None:
    # Its digits are those of the sum of the other probabilities, as for the gradient.
    x, target = confident_rows_of_any_numbers(classes, margin)
    expected = np.asarray(reference.cross_entropy(x, target, reduction="none"))
    loss = fastloss.cross_entropy(x, target, reduction="none")
    assert_within(loss, expected, 4e-7 * expected, "loss")


# What gradients of a softmax loss always are


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [2, 17, 64, 65, 1000, 5000])
def test_gradient_of_a_row_sums_to_zero(classes: int, dtype: str) -> None:
    # A shift of all logits changes nothing (z-loss, softcap apart).
    bound = 1e-14 if dtype == "float64" else 4e-7
    for row in (CROSS_ENTROPY, OF_PROBABILITIES):
        p = call(row, (9, classes), dtype, "none")
        _, (grad, _) = p.run()
        wide = grad.astype(np.float64)
        # The errors of all classes: as many as there are, each of its own size.
        assert_within(wide.sum(axis=-1), np.zeros(9), bound * np.abs(wide).sum(axis=-1), p.title)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradient_vanishes_at_the_optimum(dtype: str) -> None:
    # Where the softmax is the target itself, all that is left is the rounding of either.
    bound = 1e-14 if dtype == "float64" else 4e-7
    for classes in (4, 60, 500):
        x = np.random.default_rng(classes).uniform(-2.0, 2.0, (3, classes)).astype(dtype)
        q = reference.softmax(x)
        if dtype == "float32":
            q = q.astype(np.float32)
        _, grad = fastloss.cross_entropy(x, q, reduction="sum", return_grad=True)
        assert_within(grad, np.zeros(x.shape), bound * np.asarray(q).max(), f"{classes} classes")
