"""The second derivative of cross_entropy: its diagonal, against the reference and against differences.

The bounds are those of the gradient (float64: 1e-13), relative to the larger of the largest second derivative
and the largest gradient of the row: with a softcap the gradient is one of its terms.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from cases import (
    CASES,
    DTYPES,
    FORMATS,
    REDUCTIONS,
    Array,
    Problem,
    Shape,
    assert_within,
    dtype_named,
    is_half,
    problem,
    ulp,
)

import fastloss
from fastloss import reference

CASE = CASES[0]
assert CASE.name == "cross_entropy"

on_every_isa = pytest.mark.usefixtures("isa")
over_targets = pytest.mark.parametrize("target", CASE.targets)
over_dtypes = pytest.mark.parametrize("dtype", DTYPES)
over_reductions = pytest.mark.parametrize("reduction", REDUCTIONS)

INF, NAN = math.inf, math.nan


@lru_cache(maxsize=4096)
def expected(p: Problem) -> Array:
    """The second derivative of the reference."""
    given = {"reduction": p.reduction, "return_grad": True, "return_hessian": True, **p.options}
    result: Any = reference.cross_entropy(p.input, p.target, **given)
    hessian: Array = result[2]
    return hessian


def tolerance(p: Problem) -> Array:
    """How far a second derivative may be off; a half type adds one rounding."""
    axis = p.options.get("axis", -1)
    exact = np.abs(expected(p))
    scale = np.maximum(exact, np.abs(p.expected[1])).max(axis=axis, keepdims=True)
    if p.dtype == "float64":
        return 1e-13 * scale + 2.0 ** FORMATS["float64"][2]
    bound = 4e-7 * scale + 2.0 ** FORMATS["float32"][2]
    return bound + 0.5 * ulp(exact + bound, p.dtype) if is_half(p.dtype) else bound


def run(p: Problem, **more: Any) -> tuple[Any, Array, Array]:
    loss, grad, hessian = p.loss_and_gradient(return_hessian=True, **more)
    return loss, grad, hessian


def check_hessian(p: Problem, hessian: Any) -> None:
    assert isinstance(hessian, np.ndarray)
    assert hessian.dtype == dtype_named(p.dtype)
    assert_within(hessian, expected(p), tolerance(p), p.title + " hessian")
    if "ignore_index" in p.options:
        assert not np.asarray(hessian[p.target == p.options["ignore_index"]], np.float64).any(), p.title


def check(p: Problem) -> None:
    loss, grad, hessian = run(p)
    p.check_loss(loss)
    p.check_gradient(grad)
    check_hessian(p, hessian)


def plain_and_all(target: str, shape: Shape, dtype: str, seed: int = 0) -> list[Problem]:
    """A plain call, and one with all options."""
    options = CASE.all_options(target, "none")
    return [
        problem(CASE, target, shape, dtype, "mean", seed=seed),
        problem(CASE, target, shape, dtype, "none", options, seed=seed),
    ]


def with_input(p: Problem, x: Array, target: Array | None = None, **options: Any) -> Problem:
    target = p.target if target is None else target
    return Problem(CASE, p.dtype, p.reduction, x, target, {**p.options, **options})


# Against the reference

# 37 rows are two groups of 16 and a part; long rows go one by one, in blocks of 2048.
SIZES = [(37, 2), (37, 3), (37, 10), (37, 64), (5, 65), (5, 1000), (3, 5000)]


@on_every_isa
@over_dtypes
@pytest.mark.parametrize(("rows", "classes"), SIZES)
@over_targets
def test_number_of_classes(target: str, rows: int, classes: int, dtype: str) -> None:
    for reduction in REDUCTIONS:
        for options in ((), CASE.all_options(target, reduction)):
            check(problem(CASE, target, (rows, classes), dtype, reduction, options))


@on_every_isa
@over_reductions
@over_dtypes
@over_targets
def test_each_option(target: str, dtype: str, reduction: str) -> None:
    for shape in ((6, 7), (2, 3, 67)):
        for option in CASE.legal_options(target, reduction):
            check(problem(CASE, target, shape, dtype, reduction, (option.label,)))


@on_every_isa
@pytest.mark.parametrize("shape", [(6, 7), (2, 3, 67)], ids=["short", "long"])
@over_dtypes
@over_targets
def test_every_option_with_every_other(target: str, dtype: str, shape: Shape) -> None:
    for options in CASE.combinations(target, "none"):
        check(problem(CASE, target, shape, dtype, "none", options))


def test_by_hand() -> None:
    # Probabilities 1/8, 2/8, 5/8.
    x, p = np.log([[1.0, 2.0, 5.0]] * 2), np.array([1.0, 2.0, 5.0]) / 8
    given: dict[str, Any] = {"return_grad": True, "return_hessian": True}
    for module in (reference, fastloss):
        loss, grad, hessian = module.cross_entropy(x, [1, 0], **given)
        assert loss == pytest.approx(math.log(4.0) / 2 + math.log(8.0) / 2, rel=1e-14)
        np.testing.assert_allclose(grad[0], [1 / 16, -6 / 16, 5 / 16], rtol=1e-14)
        np.testing.assert_allclose(hessian, [p * (1 - p) / 2] * 2, rtol=1e-14)
        # Weights 3 and 4 of the classes, 2 of the rows, 5 upstream; the mean divides by 2 * (4 + 3).
        options = {**given, "weight": [3.0, 4.0, 9.0], "sample_weight": 2.0, "grad_output": 5.0}
        _, _, hessian = module.cross_entropy(x, [1, 0], **options)
        np.testing.assert_allclose(hessian, np.outer([8, 6], p * (1 - p)) * 5 / 14, rtol=1e-14)
        _, _, hessian = module.cross_entropy(x, [1, 0], z_loss=0.5, temperature=2.0, **given)
        q = np.sqrt([1.0, 2.0, 5.0])
        lse, q = math.log(q.sum()), q / q.sum()
        np.testing.assert_allclose(hessian[0], ((1 + lse) * q * (1 - q) + q * q) / 8, rtol=1e-13)


@on_every_isa
@over_dtypes
def test_confident_rows_keep_their_digits(dtype: str) -> None:
    # 1 - p is the sum of the others: at a margin of 30 it is far below one unit in the last place of 1.
    for classes in (2, 10, 64, 65, 1000):
        x = np.zeros((3, classes), dtype_named(dtype))
        x[np.arange(3), [0, 1, classes - 1]] = 30.0
        p = Problem(CASE, dtype, "sum", x, np.array([0, 1, classes - 1]), {})
        _, _, hessian = run(p)
        small = math.exp(-30.0)
        total = 1.0 + (classes - 1) * small
        exact = np.full(x.shape, small * (1.0 + (classes - 2) * small) / total**2)
        exact[np.arange(3), p.target] = (classes - 1) * small / total**2
        bound = 1e-13 if dtype == "float64" else 4e-7
        assert_within(hessian, exact, bound * exact + 0.5 * ulp(exact, dtype), p.title)


@on_every_isa
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_confident_rows_that_are_wrong(dtype: str) -> None:
    """The winning class keeps its digits where it is not the target, too."""
    for classes in (2, 10, 64, 65, 5000):
        for margin in (1.0, 10.0, 18.0, 30.0):
            x = np.random.default_rng(3).uniform(-60.0, -50.0, (3, classes)).astype(dtype)
            target = np.array([0, 1, classes - 1])
            x[np.arange(3), target] = 0.0
            x[np.arange(3), (target + 1) % classes] = margin
            for options in ({}, {"softcap": 50.0}, {"temperature": 2.0}):
                p = Problem(CASE, dtype, "sum", x, target, options)
                exact = expected(p)
                largest = np.abs(exact).max(axis=-1, keepdims=True)
                bound = 1e-12 if dtype == "float64" else 1e-6
                assert_within(run(p)[2], exact, bound * largest, p.title)


@on_every_isa
@over_dtypes
@over_targets
def test_masked_classes_and_nan(target: str, dtype: str) -> None:
    for shape in ((7, 6), (7, 100)):
        for base in plain_and_all(target, shape, dtype, seed=2):
            x, q = base.input.copy(), base.target.copy()
            x[:, 2] = -INF
            if target == "indices":
                q[q == 2] = 0
            else:
                q[:, 2] = 0.0
            x[3, 0], x[5, 1] = NAN, NAN if shape[1] == 6 else INF
            p = with_input(base, x, q, label_smoothing=0.0)
            _, grad, hessian = run(p)
            wide = hessian.astype(np.float64)
            bad = np.isnan(np.asarray(reference.cross_entropy(x, q, reduction="none", **row_options(p))))
            assert bad[3] and not bad[[0, 2, 6]].any()
            assert np.isnan(wide[bad]).all()
            assert not wide[~bad, 2].any()
            assert np.isfinite(wide[~bad]).all()
            p.check_gradient(grad)
            check_hessian(p, hessian)


def row_options(p: Problem) -> dict[str, Any]:
    return {k: v for k, v in p.options.items() if k in ("softcap", "temperature", "ignore_index")}


# A far logit, where everything is level, where a class or a sample weighs nothing
EXTREMES: dict[str, dict[str, Any]] = {
    "plain": {},
    "tight cap": {"softcap": 0.01},
    "loose cap": {"softcap": 1e6},
    "hot": {"temperature": 1e4},
    "cold and capped": {"temperature": 0.05, "softcap": 2.0},
    "heavy z-loss": {"z_loss": 100.0},
    "all smoothing": {"label_smoothing": 1.0, "weight": np.arange(1.0, 12.0)},
    "some classes weigh nothing": {"weight": np.arange(11) % 3 * 1.0},
    "some samples weigh nothing": {"sample_weight": np.arange(8) % 2 * 1.0},
    "upstream of 0": {"grad_output": 0.0},
}


@on_every_isa
@over_targets
@pytest.mark.parametrize("options", EXTREMES.values(), ids=EXTREMES)
def test_options_at_their_ends(options: dict[str, Any], target: str) -> None:
    base = problem(CASE, target, (8, 11), "float64", "sum")
    x = base.input[[0, 1, 2, 4, 5, 6, 0, 1]].copy()  # without the rows shifted by 1e4
    x[4] = 0.25
    p = with_input(base, x, **options)
    check_hessian(p, run(p)[2])
    far = with_input(base, np.where(x > 0.0, 1e30, x), **options)
    check_hessian(far, run(far)[2])


# Nothing to average over


@on_every_isa
@over_dtypes
@over_reductions
def test_nothing_counts(reduction: str, dtype: str) -> None:
    kind = dtype_named(dtype)
    for shape in ((0, 5), (3, 0, 70)):
        x, target = np.empty(shape, kind), np.empty(shape[:-1], np.int64)
        _, grad, hessian = fastloss.cross_entropy(
            x, target, reduction=reduction, return_grad=True, return_hessian=True
        )
        assert grad.shape == hessian.shape == shape
        assert grad.dtype == hessian.dtype == kind
    for classes in (5, 100):
        x, target = np.full((6, classes), NAN, kind), np.full(6, -100)
        for options in ({}, {"softcap": 3.0, "z_loss": 0.1}):
            loss, grad, hessian = fastloss.cross_entropy(
                x, target, reduction=reduction, return_grad=True, return_hessian=True, **options
            )
            assert math.isnan(loss) if reduction == "mean" else not np.any(loss)
            assert_within(grad, np.zeros(x.shape), 0.0, reduction)
            assert_within(hessian, np.zeros(x.shape), 0.0, reduction)


# In memory


@on_every_isa
@pytest.mark.parametrize("axis", [-3, -2, 0, 1, 2])
@over_dtypes
@over_targets
def test_any_axis(target: str, dtype: str, axis: int) -> None:
    for base in plain_and_all(target, (4, 5, 7), dtype):
        moved = np.moveaxis(base.input, -1, axis)
        for x in (moved, np.ascontiguousarray(moved)):
            q = base.target if target == "indices" else np.moveaxis(base.target, -1, axis)
            p = with_input(base, x, q, axis=axis)
            _, grad, hessian = run(p)
            assert_within(
                np.moveaxis(grad, axis, -1), base.expected[1], base.gradient_tolerance, p.title + " gradient"
            )
            assert hessian.shape == x.shape
            assert_within(np.moveaxis(hessian, axis, -1), expected(base), tolerance(base), p.title)


# An array around one of shape (7, 9) or (7, 90), and the view of it that has that shape.
VIEWS: dict[str, Callable[[Array], Array]] = {
    "sliced": lambda x: np.concatenate([x, x[:, :3]], axis=1)[:, :-3],
    "every second class": lambda x: x.repeat(2, axis=1)[:, ::2],
    "every third row": lambda x: x.repeat(3, axis=0)[::3],
    "reversed": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "Fortran order": np.asfortranarray,
    "broadcast": lambda x: np.broadcast_to(x[:1], x.shape),
}


@on_every_isa
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@over_dtypes
@over_targets
def test_strides_of_the_input(target: str, dtype: str, view: Callable[[Array], Array]) -> None:
    for classes in (9, 90):
        for base in plain_and_all(target, (7, classes), dtype, seed=3):
            x = view(base.input)
            assert x.shape == base.input.shape
            x.flags.writeable = False
            check(with_input(base, x))


@on_every_isa
@over_dtypes
@over_targets
def test_in_place_and_buffers(target: str, dtype: str) -> None:
    for shape in ((7, 9), (7, 90)):
        for p in plain_and_all(target, shape, dtype):
            _, grad, hessian = run(p)
            # In place, and into a strided buffer: the same bits, and a hessian of its own.
            x, wide = p.input.copy(), np.full((7, 2 * shape[1]), 77.0).astype(p.input.dtype)
            for given in ({"input": x, "out": x}, {"out": wide[:, ::2]}):
                _, first, second = run(p, **given)
                assert first is given["out"]
                assert not np.shares_memory(first, second)
                assert first.tobytes() == grad.tobytes(), p.title
                assert second.tobytes() == hessian.tobytes(), p.title
            assert (wide[:, 1::2].astype(np.float64) == 77.0).all()
            # Adding to a buffer adds the gradient alone.
            out = np.full_like(p.input, 3.0)
            _, first, second = run(p, out=out, accumulate=True)
            assert first is out
            assert second.tobytes() == hessian.tobytes(), p.title
            total = 3.0 + p.expected[1]
            assert_within(out, total, p.tolerance_of(total) + 3.0 * 2.0**-23, p.title)


@on_every_isa
def test_kinds_of_input() -> None:
    p = problem(CASE, "indices", (4, 6), "float64", "sum")
    for x in (p.input.tolist(), p.input.astype(p.input.dtype.newbyteorder())):
        check_hessian(p, run(p, input=x)[2])
    x = np.random.default_rng(0).integers(-3, 4, (4, 6))
    check(with_input(p, x))
    one = with_input(p, p.input[0], p.target[0])
    check(one)


# The same bits, and errors


@on_every_isa
@pytest.mark.parametrize("shape", [(3000, 10), (700, 64), (40, 5000), (3, 70_000)])
def test_any_number_of_threads(shape: Shape) -> None:
    for dtype in ("float32", "float64"):
        for p in plain_and_all("indices", shape, dtype, seed=4):
            results = [[np.asarray(a).tobytes() for a in run(p, num_threads=n)] for n in (1, 2)]
            assert results[0] == results[1], p.title


ERRORS: list[tuple[type[Exception], dict[str, Any]]] = [
    (ValueError, {"return_hessian": True, "return_grad": False}),
    *((TypeError, {"return_hessian": value}) for value in (1, 0, None, "yes", [True], 1.0)),
]


@pytest.mark.parametrize(("error", "given"), ERRORS, ids=str)
def test_bad_return_hessian(error: type[Exception], given: dict[str, Any]) -> None:
    p = problem(CASE, "indices", (4, 6))
    out = np.full_like(p.input, 55.0)
    for more in ({}, {"out": out}) if given.get("return_grad", True) else ({},):
        with pytest.raises(error, match="return_hessian"):
            p.loss_and_gradient(**given, **more)
    assert (out == 55.0).all()


def test_return_hessian_of_false_or_numpy() -> None:
    p = problem(CASE, "indices", (4, 6), "float64")
    assert len(p.loss_and_gradient(return_hessian=False)) == 2
    assert type(p.loss(return_hessian=False)) is float
    assert len(p.loss_and_gradient(return_hessian=np.bool_(True))) == 3
    with pytest.raises(ValueError, match="return_hessian"):
        reference.cross_entropy(p.input, p.target, return_hessian=True)
    # A bad target is found before anything is written.
    x, target = p.input.copy(), np.array([0, 1, 6, 2])
    with pytest.raises(IndexError, match="2"):
        fastloss.cross_entropy(x, target, return_grad=True, return_hessian=True, out=x)
    assert x.tobytes() == p.input.tobytes()


# Central differences of the gradient

STEP = 2.0**-8


def check_differences(p: Problem, function: Callable[..., Any]) -> None:
    # Without the large shift of every fourth row, which would cost the quotient its digits.
    x = p.input - 1e4 * (p.input > 5e3)
    given = {"reduction": p.reduction, "return_grad": True, **p.options}
    hessian = function(x, p.target, return_hessian=True, **given)[2]

    def gradients(steps: float, k: int) -> Array:
        """Of all rows at once: rows do not see each other."""
        moved = x.copy()
        moved[:, k] += steps * STEP
        return np.asarray(function(moved, p.target, **given)[1][:, k])

    for k in range(x.shape[1]):
        a, b, c, d = (gradients(steps, k) for steps in (-2, -1, 1, 2))
        quotient = (a - 8.0 * b + 8.0 * c - d) / (12.0 * STEP)
        bound = 1e-7 * np.abs(quotient) + 4e-9
        assert_within(hessian[:, k], quotient, bound, f"{p.title} class {k}")


@over_reductions
@over_targets
def test_central_differences(target: str, reduction: str) -> None:
    """Of the reference with every option and every other, so that they cannot share a mistake."""
    for options in CASE.combinations(target, reduction):
        if reduction == "none" or len(options) < 3:
            p = problem(CASE, target, (6, 5), "float64", reduction, options)
            check_differences(p, reference.cross_entropy)
    for options in ((), CASE.all_options(target, reduction)):
        p = problem(CASE, target, (4, 66), "float64", reduction, options)
        check_differences(p, fastloss.cross_entropy)
