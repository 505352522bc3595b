"""Losses and gradients against the float64 reference, over the whole table of cases.py."""

import math
from typing import Any

import numpy as np
import pytest
from cases import (
    CASE_AND_TARGET_IDS,
    CASE_IDS,
    CASES,
    CASES_AND_TARGETS,
    DTYPES,
    REDUCTIONS,
    TRANSFORM_IDS,
    TRANSFORMS,
    Case,
    Problem,
    Transform,
    assert_within,
    dtype_named,
    problem,
    transform_input,
    ulp,
)

import fastloss
from fastloss import reference

pytestmark = pytest.mark.usefixtures("isa")

over_cases = pytest.mark.parametrize(("case", "target"), CASES_AND_TARGETS, ids=CASE_AND_TARGET_IDS)
over_dtypes = pytest.mark.parametrize("dtype", DTYPES)
over_transforms = pytest.mark.parametrize("transform", TRANSFORMS, ids=TRANSFORM_IDS)

# Up to 64 classes, rows are worked on 16 at a time: 37 rows are two full groups and a part. Longer
# rows go one by one, in blocks of 2048; 70000 classes is a row that threads may share.
SIZES = [(37, range(1, 71)), (5, (100,)), (4, (1000, 1025)), (4, (5000,)), (4, (70_000,))]
over_sizes = pytest.mark.parametrize(
    ("rows", "sizes"), SIZES, ids=["C1-70", "C100", "C1000-1025", "C5000", "C70000"]
)


def check(p: Problem) -> None:
    """Check a call with its gradient and one without, which is another path."""
    loss, grad = p.loss_and_gradient()
    p.check_loss(loss)
    p.check_gradient(grad)
    p.check_loss(p.loss())


@over_dtypes
@over_sizes
@over_cases
def test_every_number_of_classes(case: Case, target: str, rows: int, sizes: Any, dtype: str) -> None:
    for classes in sizes:
        for reduction in REDUCTIONS:
            for options in ((), case.all_options(target, reduction)):
                check(problem(case, target, (rows, classes), dtype, reduction, options))


# A short row and a long one, neither a multiple of any vector.
@pytest.mark.parametrize("shape", [(6, 7), (2, 3, 67)], ids=["short", "long"])
@over_dtypes
@over_cases
def test_every_option_with_every_other(case: Case, target: str, dtype: str, shape: tuple[int, ...]) -> None:
    for reduction in REDUCTIONS:
        for options in case.combinations(target, reduction):
            check(problem(case, target, shape, dtype, reduction, options))


def test_a_million_classes() -> None:
    shape = (4, 1_000_000)
    check(problem(CASES[0], "indices", shape, "float32", "none"))


@pytest.mark.parametrize("rows", [*range(1, 36), 1000])
@pytest.mark.parametrize("case", CASES, ids=CASE_IDS)
def test_every_number_of_rows(case: Case, rows: int) -> None:
    # Groups of 16 rows, with every rest.
    check(problem(case, "indices", (rows, 3), reduction="none", seed=rows))


@pytest.mark.parametrize("case", CASES, ids=CASE_IDS)
def test_one_row_without_a_batch(case: Case) -> None:
    p = problem(case, "indices", (1, 9), "float64", "none")
    loss, grad = p.function(p.input[0], p.target[0], reduction="none", return_grad=True)
    assert np.shape(loss) == ()
    assert_within(loss, p.expected[0][0], p.loss_tolerance[0], "loss")
    assert_within(grad, p.expected[1][0], p.gradient_tolerance[0], "gradient")


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


@pytest.mark.parametrize("kind", ["indices", "probabilities"])
@pytest.mark.parametrize("options", ENDS.values(), ids=ENDS)
def test_options_at_their_ends(options: dict[str, Any], kind: str) -> None:
    base = problem(CASES[0], kind, (8, 11), "float64")
    # float64: at these ends float32 is at the mercy of its inputs (a temperature of 0.05 makes 20
    # units in the last place of one).
    given = dict(options)
    reduction = given.pop("reduction", "mean")
    x = base.input[[0, 1, 2, 4, 5, 6, 0, 1]]  # without the rows shifted by 1e4
    p = Problem(base.case, "float64", reduction, x, base.target[:8], given)
    loss, grad = p.loss_and_gradient()
    # The numbers that enter a loss are up to 1e5 times 1 here, and so are their errors.
    assert_within(loss, p.expected[0], 1e-13 * np.maximum(np.abs(p.expected[0]), 1.0), p.title)
    largest = np.maximum(np.abs(p.expected[1]).max(axis=-1, keepdims=True), p.gradient_scale)
    assert_within(grad, p.expected[1], 1e-13 * largest, p.title)


def test_ignored_rows_have_no_values() -> None:
    # Neither their logits nor their weights nor their upstream gradient are looked at.
    case = CASES[0]
    base = problem(case, "indices", (7, 5), "float32", "none")
    target = base.target.copy()
    target[[2, 5]] = -100
    ignored = target == -100
    rows = np.where(ignored, np.nan, np.linspace(0.5, 2.0, 7))
    x = np.where(ignored[:, np.newaxis], np.float32(np.nan), base.input)
    for reduction in REDUCTIONS:
        given: dict[str, Any] = {"sample_weight": rows, "z_loss": 0.1}
        if reduction == "none":
            given["grad_output"] = rows
        p = Problem(case, "float32", reduction, x, target, given | {"ignore_index": -100})
        assert np.isfinite(p.expected[0]).all()
        check(p)


# Nothing to average over


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 5), (3, 0, 5), (0, 100)])
@pytest.mark.parametrize("case", CASES, ids=CASE_IDS)
def test_empty_batch(case: Case, shape: tuple[int, ...], dtype: str) -> None:
    x, target = np.empty(shape, dtype_named(dtype)), np.empty(shape[:-1], np.int64)
    function = getattr(fastloss, case.name)
    loss, grad = function(x, target, return_grad=True)
    assert type(loss) is float
    assert math.isnan(loss)
    assert grad.shape == shape
    assert grad.dtype == x.dtype
    assert function(x, target, reduction="sum") == 0.0
    assert function(x, target, reduction="none").shape == shape[:-1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [5, 100])
@pytest.mark.parametrize("case", CASES, ids=CASE_IDS)
def test_every_row_ignored(case: Case, classes: int, dtype: str) -> None:
    x = np.full((6, classes), np.nan, dtype_named(dtype))
    target = np.full(6, -100)
    function = getattr(fastloss, case.name)
    for reduction in REDUCTIONS:
        loss, grad = function(x, target, reduction=reduction, return_grad=True)
        if reduction == "mean":
            assert math.isnan(loss)
        else:
            assert_within(loss, np.zeros(np.shape(loss)), 0.0, reduction)
        assert_within(grad, np.zeros(x.shape), 0.0, reduction)


# The transforms


@over_dtypes
@over_sizes
@over_transforms
def test_transforms_for_every_number_of_classes(
    transform: Transform, rows: int, sizes: Any, dtype: str
) -> None:
    for classes in sizes:
        x = transform_input((rows, classes), dtype)
        transform.check(x, getattr(fastloss, transform.name)(x), dtype)


@over_transforms
def test_transforms_of_a_million_classes(transform: Transform) -> None:
    x = transform_input((4, 1_000_000), "float32")
    transform.check(x, getattr(fastloss, transform.name)(x), "float32")


@pytest.mark.parametrize("axis", [-4, -3, -2, -1, 0, 1, 2, 3])
@over_dtypes
@over_transforms
def test_transforms_along_any_axis(transform: Transform, dtype: str, axis: int) -> None:
    x = transform_input((3, 4, 5, 6), dtype)
    transform.check(x, getattr(fastloss, transform.name)(x, axis=axis), dtype, axis)


@over_dtypes
@over_transforms
def test_transforms_of_nothing(transform: Transform, dtype: str) -> None:
    function = getattr(fastloss, transform.name)
    for shape in ((0, 5), (3, 0, 70), (4, 0)):
        result = function(np.empty(shape, dtype_named(dtype)))
        assert result.shape == (shape if transform.keeps_classes else shape[:-1])
        # The logarithm of a sum of nothing, as torch.logsumexp has it.
        assert (result == -math.inf).all()


# Perplexity


@pytest.mark.parametrize("shape", [(9, 7), (2, 5, 300)])
@over_dtypes
def test_perplexity(dtype: str, shape: tuple[int, ...]) -> None:
    p = problem(CASES[0], "indices", shape, dtype, "mean", ("ignore_index",), seed=1)
    # Without the rows whose loss is in the thousands: their perplexity is infinite.
    x = np.where(np.asarray(p.input, np.float64) > 1e3, dtype_named(dtype).type(0.0), p.input)
    result = fastloss.perplexity(x, p.target, ignore_index=-7)
    expected = reference.perplexity(x, p.target, ignore_index=-7)
    assert 1.0 < expected < 1e20
    assert type(result) is float
    # exp turns an absolute error of the mean loss into a relative one.
    assert result == pytest.approx(expected, rel=1e-14 * 50 if dtype == "float64" else 1e-6)


def test_ulp() -> None:
    # What the bounds are measured in, against NumPy where it knows the type.
    for dtype in ("float16", "float32", "float64"):
        values = np.array([0.0, 1e-7, 0.1, 1.0, 1.5, 2.0, 1000.0], dtype)
        assert ulp(values, dtype).tolist() == np.spacing(values).astype(np.float64).tolist()
    assert ulp([0.0, 1.0, 3.0], "bfloat16").tolist() == [2.0**-133, 2.0**-7, 2.0**-6]
