"""Values of the softmax family: every number of classes and of rows, options at the ends of their range."""

import math
from typing import Any

import numpy as np
import pytest
from helpers import DTYPES, NAN, assert_within, dtype_named, on_every_isa, over_dtypes, ulp
from registry import Row, call, over, plain_and_all, with_all
from rows import ROWS
from rows.softmax import CROSS_ENTROPY, NLL, OF_PROBABILITIES, TRANSFORMS, gradient_scale

import fastloss

OF_CLASSES = [row for row in ROWS if row.loss_axes == 1 and row.same_bits]
# The reference takes memory for each pair of classes.
OF_PAIRS = ("multilabel_margin_loss",)
# Up to 64 classes, rows are worked on 16 at a time: 37 rows are two full groups and a part. Longer
# rows go one by one, in blocks of 2048; 70000 classes is a row that threads may share.
SIZES: dict[str, Any] = {"C1-70": (37, range(1, 71)), "C100": (5, (100,)), "C1000-1025": (4, (1000, 1025))}
SIZES |= {"C5000": (4, (5000,)), "C70000": (4, (70_000,))}
over_sizes = pytest.mark.parametrize(("rows", "sizes"), SIZES.values(), ids=SIZES)


@over_dtypes
@over_sizes
@over([CROSS_ENTROPY, OF_PROBABILITIES, NLL, *TRANSFORMS])
def test_every_number_of_classes(row: Row, rows: int, sizes: Any, dtype: str) -> None:
    for classes in sizes:
        for c in plain_and_all(row, (rows, classes), dtype):
            c.check_on_every_isa()


@pytest.mark.full
@over_dtypes
@over_sizes
@over([row for row in OF_CLASSES if row.name not in OF_PAIRS])
def test_every_number_of_classes_with_every_reduction(row: Row, rows: int, sizes: Any, dtype: str) -> None:
    """On the best instruction set: the default run has the others."""
    reductions = row.reductions or ("none",)
    for classes in sizes:
        call(row, (rows, classes), dtype, reductions[-1]).check()
        for reduction in reductions:
            with_all(row, (rows, classes), dtype, reduction).check()


@over([CROSS_ENTROPY, *TRANSFORMS])
def test_a_million_classes(row: Row) -> None:
    call(row, (4, 1_000_000), "float32", "none").check_on_every_isa()


@over([row for row in OF_CLASSES if row.gradients])
def test_every_number_of_rows(row: Row) -> None:
    """Groups of 16 rows, with every rest."""
    for rows in (*range(1, 36), 1000):
        call(row, (rows, 3), "float32", "none", seed=rows).check_on_every_isa()


# Options at the ends of their range, and where two of them meet

ENDS: dict[str, dict[str, Any]] = {
    "no smoothing": {"label_smoothing": 0.0},
    "all smoothing": {"label_smoothing": 1.0},
    "all smoothing, weighted": {"label_smoothing": 1.0, "weight": np.arange(1.0, 12.0)},
    "hot": {"temperature": 1e4},
    "cold": {"temperature": 0.05},
    "cold and capped": {"temperature": 0.05, "softcap": 2.0},
    "tight cap": {"softcap": 0.01},
    "loose cap": {"softcap": 1e6},
    "heavy z-loss": {"z_loss": 100.0},
    "some classes weigh nothing": {"weight": np.arange(11) % 3 * 1.0},
    "some samples weigh nothing": {"sample_weight": np.arange(8) % 2 * 1.0},
    "scalar sample weight": {"sample_weight": 0.25, "reduction": "none"},
    "gradient times 0": {"grad_output": 0.0},
    "loss scale": {"grad_output": 65536.0, "reduction": "sum"},
}


@on_every_isa
@over([CROSS_ENTROPY, OF_PROBABILITIES])
@pytest.mark.parametrize("options", ENDS.values(), ids=ENDS)
def test_options_at_their_ends(options: dict[str, Any], row: Row) -> None:
    # float64: at these ends float32 is at the mercy of its inputs (a temperature of 0.05 makes 20
    # units in the last place of one).
    base = call(row, (8, 11), "float64")
    x = base.first[[0, 1, 2, 4, 5, 6, 0, 1]].copy()  # without the rows shifted by 1e4
    x[4] = 0.25
    far = np.where(x > 0.0, 1e30, x)
    c = base.with_(logits=x, **options)
    loss, (grad, hessian) = c.run()
    # The numbers that enter a loss are up to 1e5 times 1 here, and so are their errors.
    assert_within(loss, c.expected[0], 1e-13 * np.maximum(np.abs(c.expected[0]), 1.0), c.title)
    largest = np.maximum(np.abs(c.expected[1][0]).max(axis=-1, keepdims=True), gradient_scale(c))
    assert_within(grad, c.expected[1][0], 1e-13 * largest, c.title)
    c.check_derivative("hessian", hessian)
    c = base.with_(logits=far, **options)
    c.check_derivative("hessian", c.run()[1][1])


@on_every_isa
def test_ignored_rows_have_no_values() -> None:
    """Neither their logits nor their weights nor their upstream gradient are looked at."""
    base = call(CROSS_ENTROPY, (7, 5), "float32", "none")
    target = np.array(base["target"])
    target[[2, 5]] = -100
    ignored = target == -100
    rows = np.where(ignored, NAN, np.linspace(0.5, 2.0, 7))
    x = np.where(ignored[:, np.newaxis], np.float32(NAN), base.first)
    for reduction in ("mean", "sum", "none"):
        given: dict[str, Any] = {"sample_weight": rows, "z_loss": 0.1, "ignore_index": -100}
        if reduction == "none":
            given["grad_output"] = rows
        c = base.with_(logits=x, target=target, reduction=reduction, **given)
        assert np.isfinite(c.expected[0]).all()
        c.check()


@on_every_isa
@over_dtypes
def test_transforms_of_no_classes(dtype: str) -> None:
    """The logarithm of a sum of nothing, as torch.logsumexp has it."""
    for row in TRANSFORMS:
        result = getattr(fastloss, row.name)(np.empty((4, 0), dtype_named(dtype)))
        assert result.shape == ((4, 0) if row.gradients else (4,))
        assert (result == -math.inf).all()


def test_ulp() -> None:
    """What the bounds are measured in, against NumPy where it knows the type."""
    for dtype in ("float16", "float32", "float64"):
        values = np.array([0.0, 1e-7, 0.1, 1.0, 1.5, 2.0, 1000.0], dtype)
        assert ulp(values, dtype).tolist() == np.spacing(values).astype(np.float64).tolist()
    assert ulp([0.0, 1.0, 3.0], "bfloat16").tolist() == [2.0**-133, 2.0**-7, 2.0**-6]
    assert DTYPES[:3] == ["float32", "float64", "float16"]
