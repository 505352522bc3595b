"""The elementwise losses, over the table of elementwise_cases.py: values, buffers, errors, bits, peers."""

import inspect
import itertools
import math
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import DTYPES, REDUCTIONS, Array, Shape, dtype_named, is_half, loss_dtype, ulp
from elementwise_cases import (
    ELEMENTWISE,
    EPSILON,
    INF,
    NAMES,
    NAN,
    NO_NUMBERS,
    NOT_FINITE,
    ROW,
    SMALLEST_NORMAL,
    ULPS,
    Call,
    Row,
    assert_near,
    call,
    not_a_sign,
    outside_unit,
    residuals,
    rounded,
)

import fastloss
from fastloss import binary, penalty, reference, regression

on_every_isa = pytest.mark.usefixtures("isa")
over_rows = pytest.mark.parametrize("row", ELEMENTWISE, ids=NAMES)
over_dtypes = pytest.mark.parametrize("dtype", DTYPES)

# Weight and upstream gradient, in company that costs no more calls than needed.
FACTORS: list[tuple[str | None, str | None]] = [
    (None, None),
    ("array", "scalar"),
    ("scalar", "array"),
]


def every_call(
    row: Row, shape: Shape, dtype: str, reductions: list[str] = REDUCTIONS, seed: int = 0
) -> list[Call]:
    """Every set of options with every reduction, weighted or not, with and without upstream gradient."""
    found = []
    for options in range(len(row.options)):
        for reduction in reductions:
            for weight, grad_output in FACTORS:
                if grad_output == "array" and reduction != "none":
                    grad_output = None
                weight = weight if weight in row.weights else None
                found.append(call(row, shape, dtype, reduction, options, weight, grad_output, seed))
    return list(dict.fromkeys(found))


def all_options(row: Row, shape: Shape, dtype: str, reduction: str = "none") -> Call:
    """A call with the last set of options, weights and upstream gradients."""
    grad_output = "array" if reduction == "none" else "scalar"
    return call(row, shape, dtype, reduction, len(row.options) - 1, "array", grad_output)


def bits(loss: Any, derivatives: list[Any]) -> list[bytes]:
    """What is compared bit for bit. NaN is NaN, whatever its sign and payload (large arrays have none)."""
    found = []
    for array in map(np.asarray, (a for a in (loss, *derivatives) if a is not None)):
        is_nan = array != array if array.size < 100_000 else np.False_
        found.append(
            (np.where(is_nan, np.asarray(NAN, array.dtype), array) if is_nan.any() else array).tobytes()
        )
    return found


def same_bits(result: tuple[Any, list[Any]], expected: tuple[Any, list[Any]]) -> bool:
    return bits(*result) == bits(*expected)


# The table


def public_losses() -> dict[str, Callable[..., Any]]:
    modules = (regression, binary, penalty)
    return {name: getattr(module, name) for module in modules for name in module.__all__}


PENALTIES = ["elastic_net_penalty", "l1_penalty", "l2_penalty"]


def test_the_table_is_complete() -> None:
    public = public_losses()
    # multi_margin_loss has classes, and may be among the losses of those.
    assert set(public) - {"multi_margin_loss"} == {*NAMES, *PENALTIES}
    for name in (*public, "multi_margin_loss"):
        assert name in fastloss.__all__
        assert getattr(fastloss, name) is public.get(name, getattr(fastloss, name))
        assert name in reference.__all__
        assert callable(getattr(reference, name))


def test_every_option_is_tried() -> None:
    common = {"weight", "check_domain", "reduction", "return_grad", "return_hessian", "grad_output", "out"}
    for row in ELEMENTWISE:
        parameters = list(inspect.signature(getattr(fastloss, row.name)).parameters)
        options = set(parameters[3 if row.third else 2 :]) - common - {"accumulate", "num_threads"}
        assert options == {name for given in row.options for name in given}, row.name
        assert options <= {name for name, _, _ in row.bad_options}, row.name
        assert row.options[0] == {}


@pytest.mark.parametrize("name", [*NAMES, "multi_margin_loss", *PENALTIES])
def test_signature(name: str) -> None:
    ours = inspect.signature(getattr(fastloss, name)).parameters
    theirs = inspect.signature(getattr(reference, name)).parameters
    only_ours = {"out", "accumulate", "num_threads", "check_domain"}
    assert [(k, v.default) for k, v in ours.items() if k not in only_ours] == [
        (k, v.default) for k, v in theirs.items()
    ]
    common = ["reduction", "return_grad", "grad_output", "out", "accumulate", "num_threads"]
    if name in ROW and ROW[name].hessian:
        common.insert(2, "return_hessian")
    checked = name == "gaussian_nll_loss" or (
        name in ROW and any(map(ROW[name].bad_targets, ROW[name].options))
    )
    if checked:
        common.insert(0, "check_domain")
    assert list(ours)[-len(common) :] == common
    assert ("check_domain" in ours) == bool(checked)
    assert ours["reduction"].default == ("sum" if name in PENALTIES else "mean")
    for parameter in list(ours)[(3 if name in ("gaussian_nll_loss", "elastic_net_penalty") else 2) :]:
        assert ours[parameter].kind is inspect.Parameter.KEYWORD_ONLY


# Values and derivatives


@on_every_isa
@over_dtypes
@over_rows
def test_every_option(row: Row, dtype: str) -> None:
    for c in every_call(row, (41, 61), dtype) + every_call(row, (7, 5, 3), dtype):
        result = c.run()
        c.check(result)
        # Without the gradient: another path, the same bits.
        value = c.value()
        c.check_loss(value)
        assert bits(value, []) == bits(result[0], []), c.title
        if row.hessian:
            without = c.run(return_hessian=False)
            assert len(without[1]) == 1
            assert same_bits(without, (result[0], result[1][:1])), c.title


@on_every_isa
@over_dtypes
@over_rows
def test_every_length(row: Row, dtype: str) -> None:
    """5000 elements, and the first 1 to 70 of them: full vectors and every rest."""
    if row.by_rows:
        for n in [*range(1, 71), 5000]:
            call(row, (3, n), dtype, "none", 0, "array", "array", seed=n).check(
                call(row, (3, n), dtype, "none", 0, "array", "array", seed=n).run()
            )
        return
    for c in (call(row, (5000,), dtype, "none"), all_options(row, (5000,), dtype)):
        losses, derivatives = c.run()
        c.check((losses, derivatives))
        for n in range(1, 71):
            part = c.moved(lambda array, n=n: array[:n] if array.shape == (5000,) else array)
            expected = losses[:n], [array[:n] for array in derivatives]
            assert same_bits(part.run(), expected), f"{c.title} {n}"
            assert bits(part.value(), []) == bits(losses[:n], []), f"{c.title} {n}"
            exact = losses[:n].astype(np.float64)
            bound = 1e-14 if dtype == "float64" else 1e-7
            assert abs(part.value(reduction="sum") - exact.sum()) <= bound * np.abs(exact).sum()


@on_every_isa
@over_rows
def test_scalars(row: Row) -> None:
    for dtype in DTYPES:
        for c in every_call(row, (1,) if row.by_rows else (), dtype):
            loss, derivatives = c.run()
            c.check_loss(loss)
            assert bits(c.value(), []) == bits(loss, []), c.title
            # Whether a variance without axes is a scalar cannot be told where the input has none either.
            c.check_derivatives([derivatives[0], None] if row.third else derivatives)


@on_every_isa
@over_rows
def test_nothing(row: Row) -> None:
    for dtype in DTYPES:
        for shape in [(0, 2) if row.by_rows else (0,), (0, 3), (3, 0, 2)]:
            for weight in row.weights:
                for reduction in REDUCTIONS:
                    c = call(row, shape, dtype, reduction, 0, weight)
                    loss, derivatives = c.run()
                    if reduction == "none":
                        assert isinstance(loss, np.ndarray)
                        assert loss.shape == row.loss_shape(shape)
                        assert loss.dtype == loss_dtype(dtype)
                    else:
                        assert type(loss) is float
                        assert math.isnan(loss) if reduction == "mean" else loss == 0.0
                    assert len(derivatives) == 1 + row.hessian + bool(row.third)
                    for array in derivatives:
                        assert array.shape == shape
                        assert array.dtype == dtype_named(dtype)
                    assert bits(c.value(), []) == bits(loss, [])


@on_every_isa
@over_rows
def test_scalar_target(row: Row) -> None:
    for dtype in DTYPES:
        t = row.good_target
        base = call(row, (37, 11), dtype)
        kinds: list[Any] = [
            t,
            int(t),
            np.float32(t),
            np.array(t),
            np.array(t, np.int8),
            dtype_named(dtype).type(t),
        ]
        for reduction in REDUCTIONS:
            full = Call(row, dtype, reduction, base.x, np.full_like(base.x, t), base.third)
            expected = full.run()
            full.check(expected)
            for target in kinds:
                c = Call(row, dtype, reduction, base.x, target, base.third)
                assert same_bits(c.run(), expected), c.title
                assert bits(c.value(), []) == bits(expected[0], []), c.title


@on_every_isa
@over_dtypes
def test_scalar_variance(dtype: str) -> None:
    row = ROW["gaussian_nll_loss"]
    base = call(row, (37, 11), dtype)
    for reduction in REDUCTIONS:
        for var in (0.75, 2, 0.0, np.float64(0.75), np.array(0.75)):
            full = Call(row, dtype, reduction, base.x, base.target, np.full_like(base.x, var))
            loss, (grad, _) = full.run()
            c = Call(row, dtype, reduction, base.x, base.target, var)
            result = c.run()
            c.check(result)
            assert bits(*result) == bits(loss, [grad]), c.title
            assert result[1][1] is None
            buffer = np.empty_like(base.x)
            assert c.run(out=(buffer, None))[1][0] is buffer
            assert bits(loss, [buffer]) == bits(loss, [grad])


@on_every_isa
def test_gaussian_gradients_have_names() -> None:
    c = call(ROW["gaussian_nll_loss"], (7, 5), "float32")
    _, gradients = fastloss.gaussian_nll_loss(*c.arrays, return_grad=True)
    assert gradients._fields == ("input", "var")
    assert bits(0, [gradients.input, gradients.var]) == bits(0, c.run()[1])


@on_every_isa
def test_gaussian_gradients_that_are_not_wanted() -> None:
    c = call(ROW["gaussian_nll_loss"], (37, 11), "float32")
    loss, gradients = c.run()
    for wanted in ((True, False), (False, True), (False, False)):
        out = tuple(np.empty_like(c.x) if want else None for want in wanted)
        result = c.run(out=out)
        assert all(a is b for a, b in zip(result[1], out, strict=True))
        expected = [g if want else None for g, want in zip(gradients, wanted, strict=True)]
        assert same_bits(result, (loss, expected))
    # What was returned can be passed back; the gradient of the variance can take its place.
    _, first = fastloss.gaussian_nll_loss(*c.arrays, return_grad=True)
    _, second = fastloss.gaussian_nll_loss(*c.arrays, return_grad=True, out=first)
    assert second[0] is first[0] and second[1] is first[1]


@on_every_isa
@over_rows
def test_mean_divides(row: Row) -> None:
    """By the sum of the weights, or by the number of losses: a scalar weight tells them apart."""
    for dtype in ("float32", "float64"):
        c = call(row, (37, 11), dtype, "sum")
        total, gradients = c.run()
        means = {"mean": c.run(reduction="mean")}
        number = c.x.size // (11 if row.by_rows else 1)
        factor = {"mean": 1.0}
        if not row.by_rows:
            means["weighted"] = c.run(reduction="mean", weight=3.0)
            factor["weighted"] = 1.0 if row.by_weights else 3.0
        for name, (loss, derivatives) in means.items():
            assert loss == pytest.approx(
                factor[name] * total / number, rel=1e-7 if dtype == "float32" else 1e-14
            )
            for one, other in zip(derivatives, gradients, strict=True):
                expected = factor[name] * other.astype(np.float64) / number
                # Each is rounded on its own.
                bound = 3.0 * ulp(expected, dtype) + SMALLEST_NORMAL[dtype]
                assert_near(one, expected, bound, dtype, f"{row.name} {name}")


@on_every_isa
@over_rows
def test_weights_of_nothing(row: Row) -> None:
    """All weights 0: the sum is 0, and the mean 0 / 0 where weights are what it divides by."""
    c = call(row, (37, 11), "float32")
    zero = np.zeros(row.weight_shape(c.x.shape), np.float32)
    for weight in (zero,) if row.by_rows else (zero, 0.0):
        for reduction in ("sum", "none"):
            loss, derivatives = c.run(reduction=reduction, weight=weight)
            assert not np.any(loss)
            assert not any(a.any() for a in derivatives)
        mean = c.run(reduction="mean", weight=weight)[0]
        assert math.isnan(mean) if row.by_weights else mean == 0.0


@on_every_isa
def test_upstream_of_nothing() -> None:
    for row in ELEMENTWISE:
        c = call(row, (37, 11), "float32", "none")
        for grad_output in (0.0, 0, np.zeros(row.loss_shape(c.x.shape))):
            for array in c.run(grad_output=grad_output)[1]:
                assert not array.any(), row.name


# Derivatives without the reference

STEP = 2.0**-9


def quotients(c: Call, position: int, step: Array) -> list[Array]:
    """Difference quotients of the loss (times the upstream gradient) and the derivatives by one argument.

    The quotient of the loss has the shape of the argument: classes that share a loss are moved in turn.
    """
    upstream = c.options["grad_output"]
    length = np.where(step == 0.0, 1.0, step)

    def at(steps: float, moved: Array) -> list[Array]:
        arrays = list(c.arrays)
        arrays[position] = arrays[position] + steps * moved
        loss, found = Call(c.row, c.dtype, "none", *arrays, options=c.options).run()
        return [loss * upstream, *found]

    def differences(moved: Array) -> list[Array]:
        values = [at(steps, moved) for steps in (-2.0, -1.0, 1.0, 2.0)]
        return [(a - 8.0 * b + 8.0 * c - d) / 12.0 for a, b, c, d in zip(*values, strict=True)]

    if c.row.by_rows:
        columns = [differences(step * (np.arange(step.shape[-1]) == k))[0] for k in range(step.shape[-1])]
        return [np.stack(columns, axis=-1) / length]
    return [difference / length for difference in differences(step)]


def smooth_part(c: Call) -> Array:
    """Where a step leads neither over a kink nor to where the gradient is not that of the value."""
    where = np.ones(c.x.shape, bool)
    jump = c.row.jump(c.arguments)
    if jump:
        where &= np.abs(jump.distance) > 3.0 * STEP
    if c.row.name in ("l1_loss", "quantile_loss") or c.options.get("beta") == 0.0:
        where &= np.abs(c.x - c.target) > 3.0 * STEP
    if c.row.name == "binary_cross_entropy":
        where &= np.minimum(c.x, 1.0 - c.x) > 1e-7
    return where


@on_every_isa
@over_rows
def test_central_differences(row: Row) -> None:
    """The reference could share a mistake with the kernels; a difference quotient of the loss cannot.

    Differences of four points are off by the step's fourth power, over 30, times a fifth derivative; and by
    the rounding of the values over the step, which is a small share of the room that an input has.
    """
    for number, options in enumerate(row.options):
        c = call(
            row, (97, 7) if row.by_rows else (41, 61), "float64", "none", number, "array", "array", seed=3
        )
        _, derivatives = c.run()
        upstream = c.options["grad_output"]
        factor = np.abs(c.weights * (upstream[..., np.newaxis] if row.by_rows else upstream))

        def size_of(terms: Array | None, result: Array, factor: Array = factor) -> Array:
            return np.maximum(np.abs(result), factor * np.abs(0.0 if terms is None else terms))

        def compare(
            actual: Array, quotient: Array, step: Array, value: Array, slope: Array, c: Call = c
        ) -> None:
            where = step > 0.0
            bound = 1e-8 * slope + 8e-15 * value / np.where(where, step, 1.0)
            bad = where & (np.abs(actual - quotient) > bound)
            assert where.mean() > 0.4
            assert not bad.any(), (
                f"{c.title} {actual[bad][0]}, but the quotient is {quotient[bad][0]} "
                f"within {bound[bad][0]:.3g} for {[float(a[bad][0]) for a in c.arrays]}"
            )

        terms, room = c.terms, row.room(c.x, options)
        value = size_of(terms.value, (c.expected_losses * upstream)[..., np.newaxis] if row.by_rows else 0.0)
        value = np.maximum(value, size_of(None, c.expected_losses * upstream)) if not row.by_rows else value
        step = STEP * np.minimum(1.0, np.where(smooth_part(c), room, 0.0))
        # Where the derivative is 0, the fifth need not be.
        slope = size_of(terms.first, derivatives[0]) + 1e-2 * factor / np.maximum(room, 1e-9)
        found = quotients(c, 0, step)
        compare(derivatives[0], found[0], step, value, slope)
        if row.hessian:
            compare(
                derivatives[1], found[1], step, slope, size_of(terms.second, derivatives[1]) + 1e-3 * factor
            )
        if row.third:
            assert c.third is not None
            # Where the variance is held at eps, the gradient is that of a variance of eps.
            free = c.third - options.get("eps", 1e-6)
            step = STEP * np.where(free > 1e-3 * c.third, np.minimum(1.0, free), 0.0)
            compare(
                derivatives[1], quotients(c, 2, step)[0], step, value, size_of(terms.second, derivatives[1])
            )


# In memory


@on_every_isa
@over_rows
def test_buffers(row: Row) -> None:
    for dtype in DTYPES:
        for shape in ((7, 5, 3), (41, 61)):
            for reduction in REDUCTIONS:
                for c in (call(row, shape, dtype, reduction), all_options(row, shape, dtype, reduction)):
                    expected = c.run()
                    kind = dtype_named(dtype)
                    buffers = [np.full(shape, NAN).astype(kind) for _ in range(2)]
                    for _ in range(2):
                        result = c.run(out=c.out(*buffers))
                        assert result[1][0] is buffers[0]
                        assert not row.third or result[1][1] is buffers[1]
                        assert same_bits(result, expected), c.title

                    # In place.
                    x = c.x.copy()
                    mine = Call(row, dtype, reduction, x, c.target, c.third, c.options)
                    result = mine.run(out=c.out(x, buffers[1]))
                    assert result[1][0] is x
                    assert same_bits(result, expected), c.title
                    # The same memory, not the same object.
                    x[...] = c.x
                    view = x[:]
                    result = mine.run(out=c.out(view, buffers[1]))
                    assert result[1][0] is view
                    assert same_bits(result, expected), c.title


@on_every_isa
@over_rows
def test_plain_calls(row: Row) -> None:
    """A call without further options takes a shorter way, on which num_threads does not, to the same bits."""
    for dtype in DTYPES:
        for reduction, shape in itertools.product(("mean", "sum"), ((1,), (41, 61), (3, 20_000))):
            c = call(row, shape, dtype, reduction)
            buffer = np.empty(shape, dtype_named(dtype))
            expected = c.run(num_threads=2)
            assert same_bits(c.run(), expected), c.title
            assert same_bits(c.run(out=c.out(buffer, np.empty_like(buffer))), expected), c.title
            assert c.value() == expected[0] or expected[0] != expected[0], c.title


@on_every_isa
@over_rows
def test_accumulate(row: Row) -> None:
    for dtype in DTYPES:
        rng = np.random.default_rng(4)
        for shape in ((7, 5, 3), (41, 61)):
            for reduction in REDUCTIONS:
                for c in (call(row, shape, dtype, reduction), all_options(row, shape, dtype, reduction)):
                    plain = c.run()
                    before = [rounded(rng.standard_normal(shape), dtype) for _ in range(2)]
                    buffers = [b.copy() for b in before]
                    result = c.run(out=c.out(*buffers), accumulate=True)
                    assert result[1][0] is buffers[0]
                    # The loss does not see what was there, and a hessian goes to an array of its own.
                    assert bits(result[0], []) == bits(plain[0], [])
                    if row.hessian:
                        # (-0 + 0 is 0.)
                        assert np.array_equal(result[1][1], plain[1][1]), c.title
                    for i in range(2 if row.third else 1):
                        start = before[i].astype(np.float64)
                        total = start + c.expected[1][i]
                        bound = c.derivative_tolerances[i] + 0.5 * ulp(total, c.computed_in)
                        assert_near(buffers[i], total, bound, dtype, c.title + " accumulated")


def test_several_losses_in_one_buffer() -> None:
    x = np.linspace(0.1, 2.0, 12).reshape(3, 4)
    t = x[::-1].copy()
    out = np.zeros_like(x)
    fastloss.mse_loss(x, t, return_grad=True, out=out, accumulate=True)
    fastloss.l1_loss(x, t, return_grad=True, out=out, accumulate=True)
    expected = fastloss.mse_loss(x, t, return_grad=True)[1] + fastloss.l1_loss(x, t, return_grad=True)[1]
    np.testing.assert_allclose(out, expected, rtol=1e-15)


def around(shape: Shape, view: Callable[[Array], Array], dtype: Any, values: Any) -> tuple[Array, Array]:
    """An array full of 77, and the view of it that has the shape and the values."""
    array = np.full(shape, 77.0).astype(dtype)
    seen = view(array)
    seen[...] = values
    return array, seen


# For arrays (b, t, c): the shape of the array around, and the view that has theirs.
LAYOUTS: dict[str, tuple[Callable[[int, int, int], Shape], Callable[[Array], Array]]] = {
    "contiguous": (lambda b, t, c: (b, t, c), lambda a: a),
    "one element on": (lambda b, t, c: (b * t * c + 1,), lambda a: a[1:]),
    "last column sliced off": (lambda b, t, c: (b, t, c + 1), lambda a: a[..., :-1]),
    "middle sliced": (lambda b, t, c: (b, t + 2, c), lambda a: a[:, 1:-1]),
    "every second": (lambda b, t, c: (b, t, 2 * c), lambda a: a[..., ::2]),
    "every third in front": (lambda b, t, c: (3 * b, t, c), lambda a: a[1::3]),
    "reversed": (lambda b, t, c: (b, t, c), lambda a: a[::-1, ::-1, ::-1]),
    "last axis reversed": (lambda b, t, c: (b, t, c), lambda a: a[..., ::-1]),
    "every second, reversed": (lambda b, t, c: (b, 2 * t, 2 * c), lambda a: a[:, ::-2, ::-2]),
    "Fortran order": (lambda b, t, c: (c, t, b), lambda a: a.T),
    "swapped in front": (lambda b, t, c: (t, b, c), lambda a: a.swapaxes(0, 1)),
    "swapped at the end": (lambda b, t, c: (b, c, t), lambda a: a.swapaxes(1, 2)),
    "moved and sliced": (lambda b, t, c: (c, b, t + 1), lambda a: np.moveaxis(a, 0, 2)[:, :-1]),
}


def place(layout: str, values: Array) -> tuple[Array, Array]:
    shape, view = LAYOUTS[layout]
    size = shape(*values.shape)
    if len(size) == 1:
        array, flat_view = around(size, view, values.dtype, values.reshape(-1))
        return array, flat_view.reshape(values.shape)
    return around(size, view, values.dtype, values)


def is_untouched(layout: str, array: Array, shape: Shape) -> bool:
    """Whether nothing but the view was written."""
    copy = array.copy()
    LAYOUTS[layout][1](copy)[...] = 77.0
    return bool((np.asarray(copy, np.float64) == 77.0).all())


def nearly(actual: float, expected: float) -> bool:
    return abs(actual - expected) <= 1e-15 * abs(expected) or (math.isnan(actual) and math.isnan(expected))


@on_every_isa
@pytest.mark.parametrize("layout", LAYOUTS)
@over_rows
def test_strides(row: Row, layout: str) -> None:
    for dtype in DTYPES:
        for shape in ((7, 5, 3), (19, 3, 50)):
            check_layout(call(row, shape, dtype, "mean"), layout)
            check_layout(all_options(row, shape, dtype), layout)


def check_layout(c: Call, layout: str) -> None:
    """Inputs that lie so, a buffer that does, and in place: the bits of contiguous arrays."""
    expected, shape = c.run(), c.x.shape

    def lay(array: Array) -> Array:
        # What has the shape of the input lies as the layout has it, what is smaller in slices.
        if array.shape == shape:
            return place(layout, array)[1]
        return np.repeat(array, 2, axis=-1)[..., ::2]

    moved = c.moved(lay)
    arrays = [a for a in (*moved.arrays, *moved.options.values()) if isinstance(a, np.ndarray)]
    for array in arrays:
        array.flags.writeable = False
    before = [a.tobytes() for a in arrays]
    loss, derivatives = moved.run()
    assert bits(0, derivatives) == bits(0, expected[1]), c.title
    if c.reduction == "none":
        assert bits(loss, []) == bits(expected[0], []), c.title
        assert bits(moved.value(), []) == bits(expected[0], []), c.title
    else:
        assert nearly(loss, expected[0]) and nearly(moved.value(), expected[0]), c.title
    assert [a.tobytes() for a in arrays] == before

    room, out = place(layout, np.full_like(c.x, 55.0))
    other = np.empty_like(c.x)
    _, derivatives = c.run(out=c.out(out, other))
    assert derivatives[0] is out
    assert bits(0, derivatives) == bits(0, expected[1]), c.title
    assert is_untouched(layout, room, shape)

    room, x = place(layout, c.x)
    mine = Call(c.row, c.dtype, c.reduction, x, moved.target, moved.third, moved.options)
    _, derivatives = mine.run(out=c.out(x, other))
    assert derivatives[0] is x
    assert bits(0, derivatives) == bits(0, expected[1]), c.title
    assert is_untouched(layout, room, shape)


@on_every_isa
@over_rows
def test_broadcast_arrays(row: Row) -> None:
    """One value many times, in every argument; what comes back has memory of its own."""
    for dtype in DTYPES:
        base = all_options(row, (23, 37), dtype)
        for pick in (np.s_[:1], np.s_[:, :1], np.s_[0, 0]):

            def spread(array: Array, pick: Any = pick, base: Call = base) -> Array:
                return np.broadcast_to(array[pick], array.shape) if array.shape == base.x.shape else array

            stretched = base.moved(spread)
            assert 0 in stretched.x.strides
            copied = stretched.moved(np.array)
            for reduction in REDUCTIONS:
                options = {
                    k: v for k, v in stretched.options.items() if reduction == "none" or k != "grad_output"
                }
                one, other = (
                    Call(row, dtype, reduction, *c.arrays, options=options) for c in (stretched, copied)
                )
                result, expected = one.run(), other.run()
                assert bits(0, result[1]) == bits(0, expected[1]), one.title
                assert all(0 not in array.strides for array in result[1])
                if reduction == "none":
                    assert bits(result[0], []) == bits(expected[0], []), one.title
                else:
                    assert nearly(result[0], expected[0]), one.title
                    assert nearly(one.value(), expected[0]), one.title


def unaligned(array: Array) -> Array:
    """The same values at an odd address."""
    buffer = np.empty(array.nbytes + 2, np.uint8)
    start = 1 - buffer.ctypes.data % 2
    view = buffer[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


@on_every_isa
@over_rows
def test_kinds_of_arrays(row: Row) -> None:
    """Odd addresses, the other byte order, lists, other types that hold the same numbers."""
    for dtype in DTYPES:
        c = all_options(row, (9, 31), dtype)
        expected = c.run()
        assert same_bits(c.moved(unaligned).run(), expected), c.title
        if dtype != "bfloat16":
            assert same_bits(c.moved(lambda a: a.astype(a.dtype.newbyteorder())).run(), expected), c.title
        # float64 holds all of them; the first argument decides.
        wide = c.moved(lambda a: a.astype(np.float64))
        mixed = Call(row, dtype, "none", c.x, wide.target, wide.third, wide.options)
        assert same_bits(mixed.run(), expected), c.title
    lists = c = all_options(row, (9, 31), "float64")
    lists = c.moved(lambda a: a.tolist())
    assert same_bits(lists.run(), c.run())
    assert bits(lists.value(), []) == bits(c.value(), [])


@on_every_isa
@over_rows
def test_integers(row: Row) -> None:
    x = np.array([[1, 0, 1, 1, 0], [0, 1, 1, 0, 1]])
    if row.name not in ("binary_cross_entropy",):
        x = x + 2
    t = np.ones_like(x) if row.bad_targets({}) else x[::-1].copy()
    third = x if row.third else None
    wide = Call(row, "float64", "none", *(None if a is None else a.astype(np.float64) for a in (x, t, third)))
    expected = wide.run()
    wide.check(expected)
    for kind in (np.int64, np.int8, np.uint16, ">i4"):
        c = Call(row, "float64", "none", *(None if a is None else a.astype(kind) for a in (x, t, third)))
        assert same_bits(c.run(), expected), kind
    mixed = Call(row, "float64", "none", wide.x, t == 1, wide.third)
    booleans = Call(row, "float64", "none", wide.x, (t == 1).astype(np.float64), wide.third)
    if not set(row.bad_targets({})) & {0.0}:
        assert same_bits(mixed.run(), booleans.run())


# The same bits

HALF = "bfloat16" if "bfloat16" in DTYPES else "float16"


@on_every_isa
@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, "float32") for name in NAMES] + [(name, HALF) for name in ("huber_loss", "gaussian_nll_loss")],
)
def test_any_number_of_threads(name: str, dtype: str) -> None:
    """The work is worth several threads, and its end is in the middle of a block."""
    c = all_options(ROW[name], (300, 1003), dtype)
    assert c.x.size > 300_000
    one, *others = (c.run(num_threads=threads) for threads in (1, 2, 3, 7))
    assert all(same_bits(other, one) for other in others), c.title
    given = {"reduction": "mean", "grad_output": -2.5}
    mean, *others = (c.run(num_threads=threads, **given) for threads in (1, 2, 3, 7))
    assert all(same_bits(other, mean) for other in others), c.title
    assert {c.value(reduction="mean", num_threads=n) for n in (1, 2)} == {mean[0]}, c.title
    # Shared out by the memory of another order.
    transposed = c.moved(np.asfortranarray)
    assert same_bits(transposed.run(num_threads=3), one), c.title


@on_every_isa
@over_rows
def test_unaligned_start(row: Row) -> None:
    """x[1:], x[2:], ...: other lanes of the vectors, other elements left over at the end."""
    for dtype in DTYPES:
        c = all_options(row, (1, 5000) if row.by_rows else (5000,), dtype)
        expected = c.run()
        for start in (1, 2, 3, 5, 8, 15):

            def shifted(array: Array, start: int = start) -> Array:
                room = np.zeros(array.size + start, array.dtype)
                room[start:] = array.reshape(-1)
                return room[start:].reshape(array.shape)

            assert same_bits(c.moved(shifted).run(), expected), c.title
        if row.by_rows:
            continue
        # An element has the same result in any company.
        for part in (np.s_[1:], np.s_[777:1777], np.s_[4999:], np.s_[:1], np.s_[::-1], np.s_[::3]):
            result = c.moved(lambda a, part=part: a[part] if a.shape == (5000,) else a).run()
            assert same_bits(result, (expected[0][part], [e[part] for e in expected[1]])), f"{c.title} {part}"


# NaN and infinities


@on_every_isa
@over_dtypes
@over_rows
def test_nan_stays_where_it_is(row: Row, dtype: str) -> None:
    """In any argument, even behind a comparison, a bound or a factor of 0."""
    for number in range(len(row.options)):
        for weight in (None, "array"):
            c = call(row, (37, 11), dtype, "none", number, weight, seed=5)
            expected = c.run()
            for position in range(len(c.arrays)):
                for where in ((0, 0), (20, 3), (36, 10)):
                    arrays = [np.array(a) for a in c.arrays]
                    arrays[position][where] = NAN
                    bad = Call(row, dtype, "none", *arrays, options=c.options)
                    loss, derivatives = bad.run()
                    # A row of classes has one loss, but a gradient for each class.
                    at = where[:1] if row.by_rows else where
                    assert np.isnan(loss[at]), f"{bad.title} {where}"
                    mask = np.ones(loss.shape, bool)
                    mask[at] = False
                    assert loss[mask].tobytes() == expected[0][mask].tobytes(), f"{bad.title} {where}"
                    assert bits(bad.value(), []) == bits(loss, [])
                    mask = np.ones(c.x.shape, bool)
                    mask[where] = False
                    for array, right in zip(derivatives, expected[1], strict=True):
                        assert np.isnan(array[where].astype(np.float64)), f"{bad.title} {where}"
                        assert array[mask].tobytes() == right[mask].tobytes(), f"{bad.title} {where}"
                    assert math.isnan(bad.value(reduction="sum"))
                    assert math.isnan(bad.value(reduction="mean"))


@on_every_isa
@over_rows
def test_nan_keeps_its_weight(row: Row) -> None:
    """A weight of 0 does not hide a NaN."""
    c = call(row, (4, 6), "float32", "none")
    x = c.x.copy()
    x[1, 2] = NAN
    weight = np.ones(row.weight_shape(x.shape), np.float32)
    weight[2 if row.by_rows else (1, 2)] = 0.0
    loss, derivatives = Call(row, "float32", "none", x, c.target, c.third, {"weight": weight}).run()
    assert np.isnan(loss[1] if row.by_rows else loss[1, 2])
    assert all(np.isnan(array[1, 2]) for array in derivatives)


@on_every_isa
@over_rows
def test_nan_in_a_scalar_target(row: Row) -> None:
    for dtype in DTYPES:
        c = call(row, (7, 5), dtype)
        loss, derivatives = Call(row, dtype, "none", c.x, NAN, c.third).run()
        assert np.isnan(loss).all()
        assert all(np.isnan(array.astype(np.float64)).all() for array in derivatives)


# A term that is infinite, for each loss that can have one in float32: input, target, (var,) options.
INFINITE: list[tuple[str, tuple[float, ...], dict[str, Any]]] = [
    ("mse_loss", (1e30, -1e30), {}),
    ("mse_loss", (INF, 0.0), {}),
    ("l1_loss", (-INF, 0.0), {}),
    ("huber_loss", (INF, 0.0), {}),
    ("smooth_l1_loss", (INF, 0.0), {}),
    ("log_cosh_loss", (0.0, INF), {}),
    ("quantile_loss", (INF, 0.0), {}),
    ("epsilon_insensitive_loss", (INF, 0.0), {}),
    ("mean_squared_log_loss", (-1.0, 1.0), {}),
    ("poisson_nll_loss", (INF, 0.0), {}),
    ("poisson_nll_loss", (100.0, 0.0), {}),
    ("poisson_nll_loss", (0.0, 2.0), {"log_input": False, "eps": 0.0}),
    ("gamma_nll_loss", (-100.0, 1.0), {}),
    ("tweedie_nll_loss", (INF, 0.0), {}),
    ("gaussian_nll_loss", (INF, 0.0, 1.0), {}),
    ("gaussian_nll_loss", (1e30, 0.0, 1.0), {}),
    ("binary_cross_entropy_with_logits", (INF, 0.0), {}),
    ("binary_cross_entropy_with_logits", (-INF, 1.0), {"pos_weight": 2.0}),
    ("sigmoid_focal_loss", (-INF, 1.0), {}),
    ("hinge_loss", (-INF, 1.0), {}),
    ("squared_hinge_loss", (-INF, 1.0), {}),
    ("soft_margin_loss", (-INF, 1.0), {}),
    ("multilabel_soft_margin_loss", (-INF, 1.0), {}),
]


@on_every_isa
@pytest.mark.parametrize(("name", "values", "options"), INFINITE)
def test_weight_0_hides_infinity(name: str, values: tuple[float, ...], options: dict[str, Any]) -> None:
    row = ROW[name]
    for dtype in ("float32", "bfloat16") if "bfloat16" in DTYPES else ("float32",):
        arrays = [np.full((2, 35), v).astype(dtype_named(dtype)) for v in values]
        assert np.isposinf(Call(row, dtype, "none", *arrays, options=options).value()).all()
        weight = np.zeros(row.weight_shape((2, 35)), np.float32)
        for reduction in ("sum", "none"):
            c = Call(row, dtype, reduction, *arrays, options={**options, "weight": weight})
            loss, derivatives = c.run()
            assert not np.any(loss), c.title
            assert not any(np.asarray(array, np.float64).any() for array in derivatives), c.title
            assert not np.any(c.value())
        if not row.by_rows:
            c = Call(row, dtype, "sum", *arrays, options={**options, "weight": 0.0})
            assert c.value() == 0.0
            assert not any(np.asarray(array, np.float64).any() for array in c.run()[1])


# What is in question at the far ends; nothing here is in the table's generators.
FAR = [0.0, -0.0, 1e-30, 1e-3, 1.0, 30.0, 100.0, 1e4, 1e15, 1e30, 1e38, INF]
FAR_INPUTS = {
    "binary_cross_entropy": [0.0, 1e-38, 1e-30, 1e-12, 0.5, 1.0 - 2.0**-24, 1.0],
    "mean_squared_log_loss": [*FAR, -1e-30, -0.5, -1.0 + 2.0**-24, -1.0, -1.5, -INF],
    # exp(100) overflows in float32, and its product with a small target need not.
    "poisson_nll_loss": [v for v in (*FAR, *(-v for v in FAR)) if abs(v) != 100.0],
    "gamma_nll_loss": [v for v in (*FAR, *(-v for v in FAR)) if abs(v) != 100.0],
    "tweedie_nll_loss": [v for v in (*FAR, *(-v for v in FAR)) if abs(v) != 100.0 and v != INF],
}
FAR_TARGETS = {
    "mean_squared_log_loss": [*FAR, -1e-30, -0.5, -1.0 + 2.0**-24],
    # An infinite target against an exponential that over- or underflows in float32 has no answer there.
    "poisson_nll_loss": FAR[:-2],
    "gamma_nll_loss": FAR[2:-1],
    "binary_cross_entropy": [0.0, 1e-30, 0.5, 1.0],
    "binary_cross_entropy_with_logits": [0.0, 1e-30, 0.5, 1.0],
    "sigmoid_focal_loss": [0.0, 1e-30, 0.5, 1.0],
    "multilabel_soft_margin_loss": [0.0, 1e-30, 0.5, 1.0],
    "hinge_loss": [-1.0, 1.0],
    "squared_hinge_loss": [-1.0, 1.0],
    "soft_margin_loss": [-1.0, 1.0],
}


def far_targets(row: Row, options: dict[str, Any]) -> list[float]:
    if row.name == "tweedie_nll_loss":
        power = options.get("power", 1.5)
        return FAR[:-1] if power < 2.0 else FAR[2:-1]
    return FAR_TARGETS.get(row.name, [*FAR, *(-v for v in FAR)])


@on_every_isa
@over_dtypes
@over_rows
def test_far_ends(row: Row, dtype: str) -> None:
    """Every far input with every far target: as the reference has it, or out of the type's range."""
    for options in row.options:
        if any(callable(value) for value in options.values()):
            continue
        # Where both terms of Tweedie's loss overflow (outside of powers 1 to 2), so does their difference.
        if not 1.0 <= options.get("power", 1.5) <= 2.0:
            continue
        inputs = FAR_INPUTS.get(row.name, [*FAR, *(-v for v in FAR)])
        if not options.get("log_input", True):
            inputs = FAR
        targets = far_targets(row, options)
        if is_half(dtype):
            # Numbers that are inside of the domain, but not in this type.
            targets = [t for t in targets if not 0.0 < abs(t) < 1e-3 and t != -1.0 + 2.0**-24]
            if dtype == "float16" and INF not in targets:
                targets = [t for t in targets if abs(t) < 6e4]
            if not math.isinf(max(targets)):
                targets = [t for t in targets if abs(t) <= 1e4]
                inputs = [v for v in inputs if abs(v) <= 1e4]
        axes = [inputs, targets]
        if row.third:
            axes.append([0.0, 1e-30, 1e-6, 1.0, 1e4, 1e30, INF])
        with np.errstate(over="ignore"):
            grids = [rounded(g.reshape(-1, 1), dtype) for g in np.meshgrid(*axes, indexing="ij")]
        for weight in (None, 0.0):
            given = {**options} if weight is None or row.by_rows else {**options, "weight": weight}
            c = Call(row, dtype, "none", *grids, options=given)
            loss, derivatives = c.run()
            with np.errstate(all="ignore"):
                expected, bound = c.expected, c.loss_tolerance
                assert_far(c, loss, expected[0], bound, c.computed_in, "loss")
                for array, right, tolerance, name in zip(
                    derivatives, expected[1], c.derivative_tolerances, ("gradient", "second"), strict=False
                ):
                    assert_far(c, array, right, tolerance, dtype, name)
            assert bits(c.value(), []) == bits(loss, [])


def assert_far(c: Call, value: Any, expected: Array, tolerance: Array, dtype: str, name: str) -> None:
    finite = np.nan_to_num(tolerance, nan=0.0, posinf=0.0)
    try:
        assert_near(value, expected, finite, dtype, f"{c.title} {name}")
    except AssertionError as error:
        where = int(re.search(r"first at \((\d+), ?", str(error)).group(1))  # type: ignore[union-attr]
        values = [float(a.reshape(-1)[where]) for a in c.arrays]
        raise AssertionError(f"{error} for {values}") from None


# By hand, for kernels and reference: input, target, options, and loss, gradient (and second derivative).
INFINITIES: list[tuple[str, float, float, dict[str, Any], tuple[float, ...]]] = [
    # A class that alpha leaves out adds nothing, however wrong its logit is.
    ("sigmoid_focal_loss", -INF, 1.0, {"alpha": 0.0}, (0.0, 0.0)),
    ("sigmoid_focal_loss", INF, 0.0, {"alpha": 1.0}, (0.0, 0.0)),
    ("sigmoid_focal_loss", -INF, 1.0, {"alpha": 0.0, "gamma": 0.0}, (0.0, 0.0)),
    ("sigmoid_focal_loss", -INF, 1.0, {"alpha": 0.5}, (INF, -0.5)),
    ("sigmoid_focal_loss", INF, 1.0, {}, (0.0, 0.0)),
    # exp(x) is larger than t * x.
    ("poisson_nll_loss", INF, 0.0, {}, (INF, INF, INF)),
    ("poisson_nll_loss", INF, 2.0, {}, (INF, INF, INF)),
    ("poisson_nll_loss", INF, 1e4, {"full": True}, (INF, INF, INF)),
    ("poisson_nll_loss", -INF, 2.0, {}, (INF, -2.0, 0.0)),
    ("tweedie_nll_loss", INF, 2.0, {"power": 1}, (INF, INF, INF)),
    # -t * exp(x) for power 0, -t * exp(2.5 * x) / 2.5 for -1.5.
    ("tweedie_nll_loss", 0.5, INF, {"power": 0}, (-INF, -INF, -INF)),
    ("tweedie_nll_loss", 0.5, -INF, {"power": 0}, (INF, INF, INF)),
    ("tweedie_nll_loss", -2.0, INF, {"power": -1.5}, (-INF, -INF, -INF)),
    ("tweedie_nll_loss", -2.0, -INF, {"power": -1.5}, (INF, INF, INF)),
]


@on_every_isa
@pytest.mark.parametrize(("name", "x", "t", "options", "expected"), INFINITIES)
def test_infinities(
    name: str, x: float, t: float, options: dict[str, Any], expected: tuple[float, ...]
) -> None:
    for dtype in DTYPES:
        # A full vector, and a rest.
        c = Call(
            ROW[name],
            dtype,
            "none",
            *(np.full(37, v).astype(dtype_named(dtype)) for v in (x, t)),
            options=options,
        )
        for loss, derivatives in (c.run(), c.expected):
            for array, exact in zip((loss, *derivatives), expected, strict=True):
                assert np.asarray(array, np.float64).tolist() == [exact] * 37, c.title


def test_tweedie_where_both_terms_overflow() -> None:
    """The reference has the limit, whose sign is that of the larger term; the kernels have NaN there."""
    given: dict[str, Any] = {"reduction": "none", "return_grad": True, "return_hessian": True}
    for x, t, power, signs in (
        (INF, 2.0, 0, (1, 1, 1)),
        (1e4, 1e30, -1.5, (1, 1, 1)),
        (1e4, -1e30, -1.5, (1, 1, 1)),
        # For p > 2 both terms of the loss are positive near -inf: t * exp((1 - p) * x) / (p - 1) wins.
        (-INF, 2.0, 3, (1, -1, 1)),
        (-1e4, 1e-30, 2.2, (1, -1, 1)),
    ):
        found = reference.tweedie_nll_loss([x], [t], power=power, **given)
        assert [float(a[0]) for a in found] == [INF * sign for sign in signs], (x, t, power)  # type: ignore[index, union-attr]


@on_every_isa
@over_dtypes
def test_losses_that_stay_finite(dtype: str) -> None:
    """By hand: what the reference is not asked about."""
    kind = dtype_named(dtype)
    big = 1e4 if dtype == "float16" else 1e38
    r = np.array([big, -big, 0.0], kind)
    exact = np.abs(r.astype(np.float64))
    for name, slope in (
        ("huber_loss", 1.0),
        ("smooth_l1_loss", 1.0),
        ("log_cosh_loss", 1.0),
        ("l1_loss", 1.0),
    ):
        loss, grad = getattr(fastloss, name)(r, np.zeros_like(r), reduction="none", return_grad=True)
        assert np.isfinite(loss).all()
        np.testing.assert_allclose(loss[:2], exact[:2], rtol=1e-4 if dtype == "float16" else 1e-6)
        assert loss[2] == 0.0
        assert grad.astype(np.float64).tolist() == [slope, -slope, 0.0]

    x = np.array([1e4, 1e4, -1e4, -1e4, INF, INF, -INF, -INF], kind)
    t = np.array([0, 1, 0, 1, 0, 1, 0, 1], kind)
    exact = np.array([1e4, 0, 0, 1e4, INF, 0, 0, INF])
    exact = np.where(exact == 1e4, np.abs(x.astype(np.float64)), exact)
    for name in ("binary_cross_entropy_with_logits", "soft_margin_loss"):
        y = 2 * t - 1 if name == "soft_margin_loss" else t
        loss, grad, hessian = getattr(fastloss, name)(
            x, y, reduction="none", return_grad=True, return_hessian=True
        )
        assert loss.tolist() == exact.tolist(), name
        assert grad.astype(np.float64).tolist() == [1, 0, 0, -1, 1, 0, 0, -1], name
        assert not hessian.astype(np.float64).any(), name
    loss, grad = fastloss.sigmoid_focal_loss(x, t, alpha=None, reduction="none", return_grad=True)
    assert loss.tolist() == exact.tolist()
    assert grad.astype(np.float64).tolist() == [1, 0, 0, -1, 1, 0, 0, -1]


@on_every_isa
def test_digits_near_0_and_at_the_kinks() -> None:
    """By hand, where a formula used as it is written loses everything."""
    for dtype, tiny, rel in (("float32", 1e-12, 3e-7), ("float64", 1e-12, 1e-14)):
        kind = np.dtype(dtype).type
        x = np.array([kind(tiny)])
        exact = float(x[0])
        none: dict[str, Any] = {"reduction": "none", "return_grad": True}
        loss, grad = fastloss.log_cosh_loss(x, 0.0, **none)
        assert loss[0] == pytest.approx(exact**2 / 2, rel=rel)
        assert grad[0] == pytest.approx(exact, rel=rel)
        loss, grad = fastloss.mean_squared_log_loss(x, 0.0, **none)
        assert loss[0] == pytest.approx(exact**2, rel=rel)
        assert grad[0] == pytest.approx(2 * exact, rel=rel)
        # A confident row: exp(-40), not 0.
        x = np.array([kind(40.0)])
        loss, grad = fastloss.binary_cross_entropy_with_logits(x, 1.0, **none)
        assert loss[0] == pytest.approx(math.exp(-40), rel=rel)
        assert grad[0] == pytest.approx(-math.exp(-40), rel=rel)
        loss, grad = fastloss.soft_margin_loss(-x, -1, **none)
        assert loss[0] == pytest.approx(math.exp(-40), rel=rel)
        assert grad[0] == pytest.approx(math.exp(-40), rel=rel)
        loss, grad = fastloss.binary_cross_entropy(np.array([kind(1e-20)]), 0.0, **none)
        assert loss[0] == pytest.approx(1e-20, rel=rel)
        # Subgradients at the kinks are 0, between the slopes.
        x = np.array([kind(0.5)])
        assert fastloss.l1_loss(x, 0.5, **none)[1][0] == 0.0
        assert fastloss.quantile_loss(x, 0.5, quantile=0.9, **none)[1][0] == 0.0
        assert fastloss.smooth_l1_loss(x, 0.5, beta=0.0, **none)[1][0] == 0.0
        assert fastloss.epsilon_insensitive_loss(x, 0.25, epsilon=0.25, **none)[1][0] == 0.0
        assert fastloss.hinge_loss(x, 1, margin=0.5, **none)[1][0] == 0.0
        assert fastloss.squared_hinge_loss(x, 1, margin=0.5, **none)[1][0] == 0.0


# Sums


@on_every_isa
@pytest.mark.parametrize(
    "name", ["mse_loss", "l1_loss", "binary_cross_entropy_with_logits", "poisson_nll_loss"]
)
def test_sum_of_ten_million(name: str) -> None:
    """Within 1e-7 of the float64 sum of the unreduced losses (float32 sums are off by 1e-3 by then)."""
    n = 10_000_000
    x = np.resize(np.random.default_rng(6).standard_normal(1_000_003).astype(np.float32), n)
    function = getattr(fastloss, name)
    losses = function(x, 1.0, reduction="none")
    exact = float(np.sum(losses, dtype=np.float64))
    assert function(x, 1.0, reduction="sum") == pytest.approx(exact, rel=1e-7)
    assert function(x, 1.0) == pytest.approx(exact / n, rel=1e-7)


@on_every_isa
def test_sum_of_ten_million_equal_terms() -> None:
    x = np.full(10_000_000, 0.1, np.float32)
    assert fastloss.l1_loss(x, 0.0, reduction="sum") == pytest.approx(float(x[0]) * x.size, rel=1e-13)
    weight = np.full(x.size, 0.3, np.float32)
    assert fastloss.l1_loss(x, 0.0, weight=weight) == pytest.approx(float(x[0]), rel=1e-7)


@on_every_isa
@over_rows
def test_sums_are_of_the_unreduced_losses(row: Row) -> None:
    for dtype in DTYPES:
        for c in (call(row, (41, 61), dtype, "sum"), all_options(row, (41, 61), dtype, "sum")):
            losses = c.value(reduction="none").astype(np.float64)
            # Unreduced losses are rounded to float32, sums need not be.
            bound = 1e-7 * np.abs(losses).sum() if dtype != "float64" else 1e-14 * np.abs(losses).sum()
            assert abs(c.value() - math.fsum(losses.reshape(-1))) <= bound, c.title


# Errors


ROWS, CLASSES = 4, 6


def good(row: Row, dtype: str = "float32") -> Call:
    return call(row, (ROWS, CLASSES), dtype)


def refused(
    function: Callable[[], Any], error: type[Exception] | tuple[type[Exception], ...], name: str
) -> str:
    """Assert that a call is refused with an error of this kind that names the argument."""
    with pytest.raises((TypeError, ValueError, IndexError)) as info:
        function()
    message = str(info.value)
    assert isinstance(info.value, error), f"{type(info.value).__name__}: {message}"
    assert re.search(rf"\b{name}\b", message), f"{name} is not in: {message}"
    return message


def refused_and_unwritten(
    c: Call, error: type[Exception] | tuple[type[Exception], ...], name: str, **arguments: Any
) -> str:
    """The same, and that nothing was written: to a buffer, in place, for any reduction."""
    message = ""
    for reduction in REDUCTIONS if "reduction" not in arguments else (None,):
        given = dict(arguments) if reduction is None else {"reduction": reduction, **arguments}
        for in_place in (False, True):
            x = c.x.copy()
            buffers = [x if in_place else np.full_like(x, 55.0), np.full_like(x, 55.0)]
            before = [b.tobytes() for b in buffers]
            mine = Call(c.row, c.dtype, c.reduction, x, c.target, c.third, c.options)
            message = refused(lambda m=mine, b=buffers, g=given: m.run(out=m.out(*b), **g), error, name)  # type: ignore[misc]
            assert [b.tobytes() for b in buffers] == before, f"written before the error: {message}"
    return message


def shows(message: str, *shapes: Shape) -> bool:
    return all(str(shape) in message for shape in shapes)


@over_rows
def test_bad_shapes(row: Row) -> None:
    """Nothing is broadcast but a scalar, and both shapes are in the message."""
    c = good(row)
    right = c.x.shape
    wrong: list[Shape] = [(ROWS, 1), (1, CLASSES), (CLASSES,), (ROWS,), (CLASSES, ROWS), (1, ROWS, CLASSES)]
    wrong += [(1,), (1, 1), (0,), (ROWS, CLASSES, 1), (ROWS * CLASSES,), (ROWS, CLASSES - 1)]
    for shape in wrong:
        ones = np.ones(shape, np.float32)
        bad = Call(row, "float32", "mean", c.x, ones, c.third)
        assert shows(refused_and_unwritten(bad, ValueError, "target"), shape, right)
        refused(bad.value, ValueError, "target")
        if row.third:
            bad = Call(row, "float32", "mean", c.x, c.target, ones)
            assert shows(refused_and_unwritten(bad, ValueError, row.third), shape, right)
        if shape != row.weight_shape(right):
            message = refused_and_unwritten(c, ValueError, "weight", weight=ones)
            assert shows(message, shape, row.weight_shape(right))
        if shape != row.loss_shape(right):
            message = refused_and_unwritten(c, ValueError, "grad_output", grad_output=ones, reduction="none")
            assert shows(message, shape, row.loss_shape(right))
    for reduction in ("mean", "sum"):
        for shape in (right, (1,), row.loss_shape(right)):
            ones = np.ones(shape)
            refused_and_unwritten(c, ValueError, "grad_output", grad_output=ones, reduction=reduction)


@over_rows
def test_the_classic_bug(row: Row) -> None:
    """(N,) against (N, 1), both ways."""
    if row.by_rows:
        pytest.skip("rows of classes")
    flat_call = call(row, (5,), "float32")
    column = [np.array(a).reshape(5, 1) for a in flat_call.arrays]
    function = getattr(fastloss, row.name)
    third = column[2:] if row.third else []
    message = refused(lambda: function(column[0], flat_call.target, *third), ValueError, "target")
    assert shows(message, (5,), (5, 1))
    third = list(flat_call.arrays[2:])
    message = refused(lambda: function(flat_call.x, column[1], *third), ValueError, "target")
    assert shows(message, (5,), (5, 1))
    weight = np.ones((5, 1), np.float32)
    assert shows(refused(lambda: flat_call.value(weight=weight), ValueError, "weight"), (5,), (5, 1))


@over_rows
def test_a_weight_for_each_class_is_no_scalar(row: Row) -> None:
    if row.by_rows:
        c = good(row)
        refused_and_unwritten(c, ValueError, "weight", weight=2.0)


BAD_ARGUMENTS: list[tuple[str, Any, tuple[Any, ...]]] = [
    ("reduction", ValueError, ("avg", "", "Mean", "batchmean", None, 1, b"mean", ["mean"])),
    ("return_grad", TypeError, (1, 0, None, "yes", [True])),
    ("accumulate", TypeError, (1, None, "yes")),
    ("grad_output", TypeError, ("text", True, np.True_, 1j, [None])),
    ("num_threads", TypeError, (1.0, True, "2", NAN, [1])),
    ("num_threads", ValueError, (0, -1)),
    ("weight", TypeError, ("text", 1j, [None], np.ones((ROWS, CLASSES), complex))),
]


@pytest.mark.parametrize(("name", "error", "values"), BAD_ARGUMENTS)
@over_rows
def test_bad_common_argument(row: Row, name: str, error: type[Exception], values: tuple[Any, ...]) -> None:
    c = good(row)
    for value in values:
        refused_and_unwritten(c, error, name, **{name: value})
    if row.hessian and name == "return_grad":
        for value in (1, 0, None, "yes"):
            refused_and_unwritten(c, TypeError, "return_hessian", return_hessian=value)


@over_rows
def test_bad_option(row: Row) -> None:
    c = good(row)
    for name, error, values in row.bad_options:
        for value in values:
            refused_and_unwritten(c, error, name, **{name: value})
            refused(lambda name=name, value=value: c.value(**{name: value}), error, name)  # type: ignore[misc]


@over_rows
def test_unknown_argument(row: Row) -> None:
    refused_and_unwritten(good(row), TypeError, "smoothing", smoothing=0.1)
    if not row.hessian:
        refused_and_unwritten(good(row), TypeError, "return_hessian", return_hessian=True)


@over_rows
def test_bad_arrays(row: Row) -> None:
    c = good(row)
    function = getattr(fastloss, row.name)
    complexes = np.ones((ROWS, CLASSES), complex)
    nothing = np.array([[None] * CLASSES] * ROWS)
    for value in (None, "text", complexes, nothing, np.zeros((ROWS, CLASSES), "M8[s]"), len):
        refused(lambda v=value: function(v, *c.arrays[1:]), TypeError, row.input_name)  # type: ignore[misc]
        bad = Call(row, "float32", "mean", c.x, value, c.third)
        refused_and_unwritten(bad, TypeError, "target")
        if row.third:
            bad = Call(row, "float32", "mean", c.x, c.target, "text" if value is None else value)
            refused_and_unwritten(bad, TypeError, row.third)
    ragged = [[1.0, 2.0], [3.0]]
    refused(lambda: function(ragged, *c.arrays[1:]), ValueError, row.input_name)
    refused(lambda: function(c.x, ragged, *c.arrays[2:]), ValueError, "target")


@over_rows
def test_gradient_arguments_without_gradient(row: Row) -> None:
    c = good(row)
    out = np.full_like(c.x, 55.0)
    out2 = np.full_like(c.x, 55.0)
    for name, value in (("grad_output", 2.0), ("grad_output", np.float32(1)), ("out", c.out(out, out2))):
        message = refused(lambda n=name, v=value: c.value(**{n: v}), ValueError, name)  # type: ignore[misc]
        assert "return_grad" in message
    assert (out == 55.0).all() and (out2 == 55.0).all()
    if row.hessian:
        message = refused(lambda: c.value(return_hessian=True), ValueError, "return_hessian")
        assert "return_grad" in message
    message = refused(lambda: c.run(accumulate=True), ValueError, "accumulate")
    assert "out" in message
    refused(lambda: c.value(accumulate=True), ValueError, "accumulate")


def read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array


def swapped() -> Array:
    return np.full((ROWS, CLASSES), 55.0, ">f4" if sys.byteorder == "little" else "<f4")


BUFFERS: dict[str, tuple[Any, Callable[[], Any]]] = {
    "a list": (TypeError, lambda: [[0.0] * CLASSES] * ROWS),
    "True": (TypeError, lambda: True),
    "float64": (TypeError, lambda: np.full((ROWS, CLASSES), 55.0)),
    "float16": (TypeError, lambda: np.full((ROWS, CLASSES), 55.0, np.float16)),
    "int32": (TypeError, lambda: np.full((ROWS, CLASSES), 55, np.int32)),
    "one less": (ValueError, lambda: np.full((ROWS, CLASSES - 1), 55.0, np.float32)),
    "transposed": (ValueError, lambda: np.full((CLASSES, ROWS), 55.0, np.float32)),
    "flat": (ValueError, lambda: np.full(ROWS * CLASSES, 55.0, np.float32)),
    "one axis more": (ValueError, lambda: np.full((1, ROWS, CLASSES), 55.0, np.float32)),
    "read-only": (ValueError, lambda: read_only(np.full((ROWS, CLASSES), 55.0, np.float32))),
    "byte order": ((TypeError, ValueError), swapped),
    "unaligned": (ValueError, lambda: unaligned(np.full((ROWS, CLASSES), 55.0, np.float32))),
    "one row many times": (
        ValueError,
        lambda: np.lib.stride_tricks.as_strided(
            np.full(CLASSES, 55.0, np.float32), (ROWS, CLASSES), (0, 4), writeable=True
        ),
    ),
}


@pytest.mark.parametrize("name", BUFFERS)
@over_rows
def test_bad_out(row: Row, name: str) -> None:
    error, make = BUFFERS[name]
    c = good(row)
    for options in ({}, {"reduction": "none"}, {"accumulate": True}):
        out, fine = make(), np.full_like(c.x, 55.0)
        before = np.asarray(out).tobytes()
        refused(lambda o=out, f=fine, g=options: c.run(out=c.out(o, f), **g), error, "out")  # type: ignore[misc]
        if row.third:
            refused(lambda o=out, f=fine, g=options: c.run(out=(f, o), **g), error, "out")  # type: ignore[misc]
        assert np.asarray(out).tobytes() == before
        assert (fine == 55.0).all()


def test_bad_out_of_two_gradients() -> None:
    c = good(ROW["gaussian_nll_loss"])
    a, b = np.full_like(c.x, 55.0), np.full_like(c.x, 55.0)
    for out in (a, (a,), (a, b, None), [a, b], (a, a), (a, a[::-1])):
        refused(lambda out=out: c.run(out=out), (TypeError, ValueError), "out")  # type: ignore[misc]
    for var in (1.0, np.float32(2.0)):
        scalar = Call(c.row, "float32", "mean", c.x, c.target, var)
        refused(lambda s=scalar: s.run(out=(a, b)), (TypeError, ValueError), "out")  # type: ignore[misc]
    # Each may be written over by its own gradient alone.
    assert c.third is not None
    var = c.third.copy()
    mine = Call(c.row, "float32", "mean", c.x, c.target, var)
    before = var.tobytes()
    refused(lambda: mine.run(out=(a, var[::-1])), ValueError, "out")
    refused(lambda: mine.run(out=(var, b)), ValueError, "out")
    x = c.x.copy()
    mine = Call(c.row, "float32", "mean", x, c.target, c.third)
    for out in ((x, x), (x[::-1], b), (a, x[::-1])):
        refused(lambda out=out: mine.run(out=out), ValueError, "out")  # type: ignore[misc]
    assert var.tobytes() == before and x.tobytes() == c.x.tobytes()
    assert (a == 55.0).all() and (b == 55.0).all()
    refused(lambda: mine.run(out=(a, x)), ValueError, "out")
    assert (a == 55.0).all() and x.tobytes() == c.x.tobytes()
    both = Call(c.row, "float32", "mean", x, c.target, var)
    assert same_bits(both.run(out=(x, var)), c.run())


@over_rows
def test_out_that_overlaps(row: Row) -> None:
    """Part of the input, or any of another input."""
    c = good(row)
    size = ROWS * CLASSES
    both = np.zeros((2 * ROWS, CLASSES), np.float32)
    line = both.reshape(-1)
    x = both[:ROWS]
    x[...] = c.x
    other = np.full_like(c.x, 55.0)
    before = both.tobytes()
    mine = Call(row, "float32", "mean", x, c.target, c.third)
    for out in (
        both[1 : ROWS + 1],
        line[1 : size + 1].reshape(ROWS, CLASSES),
        x[::-1],
        x[:, ::-1],
        both[::2],
    ):
        for options in ({}, {"accumulate": True}):
            refused(lambda o=out, g=options: mine.run(out=c.out(o, other), **g), ValueError, "out")  # type: ignore[misc]
    assert both.tobytes() == before

    for position, name in enumerate(["target", row.third or "", "weight", "grad_output"]):
        if not name:
            continue
        shape = {"weight": row.weight_shape, "grad_output": row.loss_shape}.get(name, lambda s: s)(c.x.shape)
        arrays = [np.array(a) for a in c.arrays]
        given: dict[str, Any] = {}
        if name in ("weight", "grad_output"):
            given[name] = np.ones(shape, np.float32)
        out = np.zeros((ROWS, CLASSES), np.float32)
        values = given[name] if name in given else arrays[1 + position]
        part = out.reshape(-1)[-values.size :].reshape(shape)
        part[...] = values
        if name in given:
            given[name] = part
        else:
            arrays[1 + position] = part
        before = out.tobytes()
        bad = Call(row, "float32", "none", *arrays, options=given)
        refused(lambda b=bad, o=out: b.run(out=c.out(o, other)), ValueError, "out")  # type: ignore[misc]
        assert out.tobytes() == before
    assert (other == 55.0).all()


# Outside of the domain

over_checked = pytest.mark.parametrize(
    "row",
    [row for row in ELEMENTWISE if any(row.bad_targets(o) for o in row.options)],
    ids=lambda row: row.name,
)


@on_every_isa
@over_dtypes
@over_checked
def test_target_outside_of_the_domain(row: Row, dtype: str) -> None:
    kind = dtype_named(dtype)
    for number, options in enumerate(row.options):
        for value in row.bad_targets(options):
            c = call(row, (ROWS, CLASSES), dtype, "mean", number)
            target = np.array(c.target)
            target[2, 3] = target[3, 1] = kind.type(value)
            layouts = (target, np.asfortranarray(target), np.repeat(target, 2, axis=1)[:, ::2])
            for given in layouts if value == row.bad_targets(options)[0] else layouts[:1]:
                bad = Call(row, dtype, "mean", c.x, given, c.third, c.options)
                message = refused_and_unwritten(bad, ValueError, "target")
                # The first of them, and what it is.
                assert re.search(r"\b2, 3\b", message), message
                assert value == 0.0 or str(value).rstrip("0").rstrip(".") in message, message
                refused(bad.value, ValueError, "target")
            # A scalar, too.
            bad = Call(row, dtype, "mean", c.x, value, c.third, c.options)
            refused_and_unwritten(bad, ValueError, "target")
            refused(bad.value, ValueError, "target")
            # Unchecked, the other elements are what they were.
            expected = Call(row, dtype, "none", *c.arrays, options=c.options).run()
            bad = Call(row, dtype, "none", c.x, target, c.third, c.options)
            loss, derivatives = bad.run(check_domain=False)
            keep = target == c.target
            rows = keep.all(axis=-1) if row.by_rows else keep
            assert loss[rows].tobytes() == expected[0][rows].tobytes()
            for one, other in zip(derivatives, expected[1], strict=True):
                assert one[keep].tobytes() == other[keep].tobytes()
            refused_and_unwritten(c, TypeError, "check_domain", check_domain=1)


@on_every_isa
@over_checked
def test_edges_of_the_domain(row: Row) -> None:
    """What is just inside of it, negative zeros included, is not refused; nor is NaN."""
    inside = {
        "mean_squared_log_loss": (-1.0 + 2.0**-24, 0.0, 1e38, INF),
        "poisson_nll_loss": (0.0, -0.0, 1e38),
        "gamma_nll_loss": (2.0**-149, 1e38),
        "tweedie_nll_loss": (0.0, -0.0, 2.0**-149, 1e38),
        "hinge_loss": (-1.0, 1.0),
        "squared_hinge_loss": (-1.0, 1.0),
        "soft_margin_loss": (-1.0, 1.0),
    }.get(row.name, (0.0, -0.0, 1.0, 1.0 - 2.0**-24, 2.0**-149))
    for value in (*inside, NAN):
        c = good(row)
        target = c.target.copy()
        target[1, 2] = value
        for given in (target, value):
            loss = Call(row, "float32", "none", c.x, given, c.third).value()
            assert math.isnan(value) == np.isnan(loss).any()


@on_every_isa
@pytest.mark.parametrize(
    ("name", "argument", "values"),
    [
        ("binary_cross_entropy", "probs", (-0.125, 1.5, INF, -INF, -(2.0**-149), 1.0 + 2.0**-23)),
        ("gaussian_nll_loss", "var", (-1.0, -(2.0**-149), -INF)),
    ],
)
def test_other_arguments_outside_of_the_domain(name: str, argument: str, values: tuple[float, ...]) -> None:
    c = good(ROW[name])
    position = 0 if argument == "probs" else 2
    for value in values:
        arrays = [np.array(a) for a in c.arrays]
        arrays[position][2, 3] = arrays[position][3, 0] = value
        bad = Call(c.row, "float32", "mean", *arrays)
        message = refused_and_unwritten(bad, ValueError, argument)
        assert re.search(r"\b2, 3\b", message), message
        refused(bad.value, ValueError, argument)
        bad.run(check_domain=False)
        if argument == "var":
            bad = Call(c.row, "float32", "mean", c.x, c.target, value)
            refused(bad.run, ValueError, argument)
            refused(bad.value, ValueError, argument)
    arrays[position][...] = NAN
    assert np.isnan(Call(c.row, "float32", "none", *arrays).value()).all()


@on_every_isa
@over_checked
def test_first_bad_target_of_many(row: Row) -> None:
    """Far into the array, where several threads look at once: still the first."""
    options = next(options for options in row.options if row.bad_targets(options))
    value = row.bad_targets(options)[0]
    x = np.full((300, 500, 3), 0.5, np.float32)
    target = np.full_like(x, row.good_target)
    target[123, 45, 2] = value
    target[200:] = value
    given = {k: v for k, v in options.items() if not callable(v)}
    for threads in (1, 2, 5):
        bad = Call(row, "float32", "mean", x, target, options=given)
        message = refused(lambda b=bad, n=threads: b.run(out=x, num_threads=n), ValueError, "target")  # type: ignore[misc]
        assert "123, 45, 2" in message
    assert (x == 0.5).all()


# multi_margin_loss


def multi_margin(
    shape: Shape, dtype: str, seed: int = 0, weighted: bool = False, **options: Any
) -> tuple[Array, Array, dict[str, Any]]:
    """Scores with ties at the margin, classes, and options."""
    rng = np.random.default_rng(seed)
    x = 2.0 * rng.standard_normal(shape)
    x = np.where(rng.random(shape) < 0.3, rng.integers(-4, 5, shape) * 0.5, x)
    if weighted:
        options["weight"] = rounded(rng.uniform(0.2, 3.0, shape[-1]), dtype)
    return rounded(x, dtype), rng.integers(0, shape[-1], shape[:-1]), options


def check_multi_margin(x: Array, y: Array, dtype: str, **options: Any) -> tuple[Any, Array]:
    """Against the reference: a term max(0, m - x_y + x_j) is as exact as the numbers it is made of."""
    loss, grad = fastloss.multi_margin_loss(x, y, return_grad=True, **options)
    exact, exact_grad = reference.multi_margin_loss(x, y, return_grad=True, **options)
    names = ("margin", "p", "weight")
    p = options.get("p", 1)
    wide, kind = np.asarray(x, np.float64), loss_dtype(dtype)
    weight = np.asarray(options.get("weight", np.ones(x.shape[-1])), np.float64)[y][..., np.newaxis]
    margin = options.get("margin", 1.0)
    own = np.take_along_axis(wide, y[..., np.newaxis], axis=-1)
    short = np.where(np.arange(x.shape[-1]) == y[..., np.newaxis], 0.0, np.maximum(0.0, margin - own + wide))
    size = np.where(short > 0.0, abs(margin) + np.abs(own) + np.abs(wide), 0.0)
    error = ULPS[kind] * EPSILON[kind]
    share = weight / x.shape[-1]
    rows = error * (share * (size if p == 1 else 2.0 * short * size + error * size**2 + short**2)).sum(
        axis=-1
    )
    rows = rows + error * np.abs(share[..., 0] * (short**p).sum(axis=-1)) + SMALLEST_NORMAL[kind]
    reduction = options.get("reduction", "mean")
    title = f"{dtype} {x.shape} {options if len(options) < 4 else names}"
    if reduction == "none":
        assert loss.dtype == kind and loss.shape == x.shape[:-1]
        assert_near(loss, exact, rows, kind, title)
    else:
        assert type(loss) is float
        assert_near(loss, exact, rows.sum() / (rows.size if reduction == "mean" else 1), "float64", title)
    upstream = np.abs(np.asarray(options.get("grad_output", 1.0), np.float64))
    upstream = upstream[..., np.newaxis] if upstream.ndim else upstream
    factor = share * upstream / (rows.size if reduction == "mean" else 1)
    slope = np.where(short > 0.0, 1.0 if p == 1 else 2.0 * (short + size), 0.0)
    slope = np.where(np.arange(x.shape[-1]) == y[..., np.newaxis], slope.sum(axis=-1, keepdims=True), slope)
    assert grad.dtype == x.dtype and grad.shape == x.shape
    assert_near(grad, exact_grad, error * factor * slope + SMALLEST_NORMAL[kind], dtype, title + " gradient")
    given = {k: v for k, v in options.items() if k != "grad_output"}
    value = fastloss.multi_margin_loss(x, y, **given)
    assert bits(value, []) == bits(loss, [])
    return loss, grad


@on_every_isa
@pytest.mark.parametrize("p", [1, 2])
@over_dtypes
def test_multi_margin(dtype: str, p: int) -> None:
    for shape in ((37, 5), (3, 4, 7), (9,), (5, 1), (4, 1000), (0, 4)):
        for weighted in (False, True):
            # Dyadic margins: with others, who is in reach is a matter of rounding.
            for margin in (1.0, 0.25, 2, 0.0, -0.5):
                for reduction in REDUCTIONS:
                    x, y, options = multi_margin(shape, dtype, 1, weighted, p=p, margin=margin)
                    if 0 in shape:
                        loss, grad = fastloss.multi_margin_loss(
                            x, y, reduction=reduction, return_grad=True, **options
                        )
                        assert grad.shape == shape
                        if reduction == "none":
                            assert loss.shape == (0,)
                        else:
                            assert math.isnan(loss) if reduction == "mean" else loss == 0.0
                        continue
                    check_multi_margin(x, y, dtype, reduction=reduction, **options)
                    upstream = -2.5 * np.ones(shape[:-1]) if reduction == "none" else -2.5
                    check_multi_margin(x, y, dtype, reduction=reduction, grad_output=upstream, **options)


@on_every_isa
@over_dtypes
def test_multi_margin_in_memory(dtype: str) -> None:
    x, y, options = multi_margin((60, 7), dtype, 2, True, p=2)
    call_it: Callable[..., Any] = lambda x, y, **more: fastloss.multi_margin_loss(  # noqa: E731
        x, y, return_grad=True, **options, **more
    )
    loss, grad = call_it(x, y)
    for kind in (np.int8, np.uint16, np.int32, ">i8"):
        assert bits(*(lambda r: (r[0], [r[1]]))(call_it(x, y.astype(kind)))) == bits(loss, [grad])
    out = np.empty_like(x)
    result = call_it(x, y, out=out)
    assert result[1] is out and bits(result[0], [out]) == bits(loss, [grad])
    for view in (np.repeat(x, 2, axis=1)[:, ::2], np.asfortranarray(x), np.array(x[::-1])[::-1]):
        assert bits(*(lambda r: (r[0], [r[1]]))(call_it(view, y))) == bits(loss, [grad])
    mine = x.copy()
    result = call_it(mine, y, out=mine)
    assert result[1] is mine and bits(result[0], [mine]) == bits(loss, [grad])
    total = np.zeros_like(x)
    call_it(x, y, out=total, accumulate=True)
    assert ((total == grad) | (total == 0.0)).all()
    for threads in (1, 2, 3):
        assert call_it(x, y, num_threads=threads)[0] == loss
    # NaN in a row is that row's alone; in place of any class.
    for column in range(7):
        bad = x.copy()
        bad[3, column] = NAN
        losses, grads = fastloss.multi_margin_loss(bad, y, reduction="none", return_grad=True)
        assert np.isnan(losses).tolist() == [i == 3 for i in range(60)]
        assert np.isnan(grads.astype(np.float64)).all(axis=1).tolist() == [i == 3 for i in range(60)]
        assert not np.isnan(np.delete(grads.astype(np.float64), 3, axis=0)).any()


def test_multi_margin_errors() -> None:
    x = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    y = np.array([0, 5, 2, 3])
    bad: list[tuple[str, Any, dict[str, Any]]] = [
        ("target", IndexError, {"target": np.array([0, 6, 2, 9])}),
        ("target", IndexError, {"target": np.array([0, -1, 2, 3])}),
        ("target", IndexError, {"target": np.array([0, 2**40, 2, 3])}),
        ("target", IndexError, {"target": np.array([0, -100, 2, 3])}),
        ("target", TypeError, {"target": np.zeros(4, np.float32)}),
        ("target", TypeError, {"target": np.zeros(4, bool)}),
        ("target", ValueError, {"target": np.zeros((4, 1), int)}),
        ("target", ValueError, {"target": np.zeros(3, int)}),
        *[("p", (TypeError, ValueError), {"p": v}) for v in (0, 3, 1.5, True, "1", None, NAN)],
        *[("margin", TypeError, {"margin": v}) for v in (*NO_NUMBERS, None)],
        *[("margin", ValueError, {"margin": v}) for v in NOT_FINITE],
        *[("weight", ValueError, {"weight": v}) for v in (2.0, np.ones(5), np.ones(4), np.ones((4, 6)))],
        ("reduction", ValueError, {"reduction": "batchmean"}),
        ("grad_output", ValueError, {"grad_output": np.ones(4)}),
        ("grad_output", ValueError, {"grad_output": np.ones((4, 1)), "reduction": "none"}),
        ("out", TypeError, {"out": np.zeros((4, 6))}),
        ("out", ValueError, {"out": np.zeros((4, 5), np.float32)}),
        ("smoothing", TypeError, {"smoothing": 1}),
    ]
    for name, error, given in bad:
        mine = x.copy()
        arguments = {"target": y, "return_grad": True, "out": mine, **given}
        message = refused(lambda a=arguments, m=mine: fastloss.multi_margin_loss(m, **a), error, name)  # type: ignore[misc]
        assert mine.tobytes() == x.tobytes(), message
        if error is IndexError:
            assert re.search(r"\b1\b", message), message
    refused(lambda: fastloss.multi_margin_loss(x, y, grad_output=1.0), ValueError, "grad_output")
    refused(lambda: fastloss.multi_margin_loss(x, y, out=x.copy()), ValueError, "out")
    refused(lambda: fastloss.multi_margin_loss(1.0, 0), ValueError, "scores")
    # A class out of range is looked for in all rows, however many threads there are.
    many = np.zeros((50_000, 3), np.float32)
    targets = np.zeros(50_000, np.int64)
    targets[40_123:] = 3
    for threads in (1, 2, 3):
        message = refused(
            lambda n=threads: fastloss.multi_margin_loss(many, targets, num_threads=n),  # type: ignore[misc]
            IndexError,
            "target",
        )
        assert "40123" in message


# Penalties

STRENGTHS: dict[str, list[tuple[Any, ...]]] = {
    "l1_penalty": [(0.0,), (1,), (0.3,), (1e-4,), (np.float32(2.5),)],
    "l2_penalty": [(0.0,), (1,), (0.3,), (1e-4,), (np.float32(2.5),)],
    "elastic_net_penalty": [(0.0, 0.0), (1, 2), (0.3, 0.0), (0.0, 0.7), (1e-4, 0.3)],
}
over_penalties = pytest.mark.parametrize("name", PENALTIES)


def params(shape: Shape, dtype: str) -> Array:
    rng = np.random.default_rng(8)
    w = rng.standard_normal(shape) * 10.0 ** rng.uniform(-4.0, 2.0, shape)
    return rounded(np.where(rng.random(shape) < 0.2, 0.0, w), dtype)


@on_every_isa
@pytest.mark.parametrize("shape", [(), (1,), (7, 5, 3), (5000,), (0,)], ids=str)
@over_dtypes
@over_penalties
def test_penalty(name: str, dtype: str, shape: Shape) -> None:
    function, twin, kind = getattr(fastloss, name), getattr(reference, name), loss_dtype(dtype)
    w = params(shape, dtype)
    rng = np.random.default_rng(9)
    for strength in STRENGTHS[name]:
        losses = twin(w, *strength, reduction="none")
        rows = ULPS[kind] * ulp(losses, kind) + SMALLEST_NORMAL[kind]
        l1, l2 = {"l1_penalty": (*strength, 0.0), "l2_penalty": (0.0, *strength)}.get(name, strength)
        slope = l1 + l2 * np.abs(w.astype(np.float64))
        for reduction in (None, *REDUCTIONS):
            upstreams: list[Any] = [None, -2.5]
            if reduction == "none":
                upstreams.append(rounded(rng.uniform(-2.0, 2.0, shape), dtype))
            for upstream in upstreams:
                given = {} if reduction is None else {"reduction": reduction}
                more = {**given, "return_grad": True} | (
                    {} if upstream is None else {"grad_output": upstream}
                )
                loss, grad = function(w, *strength, **more)
                exact, exact_grad = twin(w, *strength, **more)
                title = f"{name} {dtype} {shape} {strength} {reduction}"
                divisor = max(w.size, 1) if reduction == "mean" else 1
                if reduction == "none":
                    assert isinstance(loss, np.ndarray) and loss.dtype == kind
                    assert_near(loss, exact, rows, kind, title)
                elif w.size == 0:
                    # A sum of nothing; and nothing to take the mean of.
                    assert type(loss) is float
                    assert math.isnan(loss) if reduction == "mean" else loss == 0.0
                else:
                    assert type(loss) is float
                    assert_near(loss, exact, (rows.sum() + 1e-14 * losses.sum()) / divisor, "float64", title)
                size = slope * np.abs(1.0 if upstream is None else np.asarray(upstream, np.float64)) / divisor
                assert isinstance(grad, np.ndarray) and grad.dtype == dtype_named(dtype)
                bound = ULPS[kind] * ulp(size, kind) + SMALLEST_NORMAL[kind]
                assert_near(grad, exact_grad, bound, dtype, title + " gradient")
                value = function(w, *strength, **given)
                assert bits(value, []) == bits(loss, [])


@on_every_isa
@over_dtypes
@over_penalties
def test_penalty_in_memory(name: str, dtype: str) -> None:
    function, strength = getattr(fastloss, name), STRENGTHS[name][-1]
    w = params((37, 40, 7), dtype)
    loss, grad = function(w, *strength, return_grad=True)
    for layout in LAYOUTS:
        room, view = place(layout, w)
        result = function(view, *strength, return_grad=True)
        assert nearly(result[0], loss) and bits(0, [result[1]]) == bits(0, [grad]), layout
        result = function(view, *strength, return_grad=True, out=view)
        assert result[1] is view
        assert bits(0, [view]) == bits(0, [grad]), layout
        assert is_untouched(layout, room, w.shape)
    before = rounded(np.random.default_rng(0).standard_normal(w.shape), dtype)
    out = before.copy()
    function(w, *strength, return_grad=True, out=out, accumulate=True)
    kind = loss_dtype(dtype)
    exact = (
        before.astype(np.float64)
        + reference.elastic_net_penalty(
            w,
            *{"l1_penalty": (*strength, 0.0), "l2_penalty": (0.0, *strength)}.get(name, strength),
            return_grad=True,
        )[1]
    )
    size = np.abs(before.astype(np.float64)) + np.abs(exact)
    assert_near(out, exact, ULPS[kind] * ulp(size, kind), dtype, name)
    big = np.resize(w.reshape(-1), 300_001)
    one, *others = (function(big, *strength, return_grad=True, num_threads=n) for n in (1, 2, 3, 7))
    assert all(bits(o[0], [o[1]]) == bits(one[0], [one[1]]) for o in others)


@over_penalties
def test_penalty_errors(name: str) -> None:
    function = getattr(fastloss, name)
    names = ("l1", "l2") if name == "elastic_net_penalty" else ("strength",)
    w = np.linspace(-1.0, 1.0, 12, dtype=np.float32).reshape(3, 4)
    before = w.tobytes()
    fine = (0.5,) * len(names)
    for i, argument in enumerate(names):
        for error, values in ((TypeError, (*NO_NUMBERS, None)), (ValueError, (-1e-3, *NOT_FINITE))):
            for value in values:
                given = (*fine[:i], value, *fine[i + 1 :])
                refused(lambda g=given: function(w, *g, return_grad=True, out=w), error, argument)  # type: ignore[misc]
    options: list[tuple[str, Any, dict[str, Any]]] = [
        ("reduction", ValueError, {"reduction": "avg"}),
        ("return_grad", TypeError, {"return_grad": 1}),
        ("grad_output", ValueError, {"grad_output": np.ones((3, 4))}),
        ("grad_output", ValueError, {"grad_output": np.ones(3), "reduction": "none"}),
        ("grad_output", ValueError, {"grad_output": 1.0, "return_grad": False, "out": None}),
        ("accumulate", ValueError, {"accumulate": True, "out": None}),
        ("out", ValueError, {"out": np.zeros((4, 3), np.float32)}),
        ("out", TypeError, {"out": np.zeros((3, 4))}),
        ("out", ValueError, {"out": w[::-1]}),
        ("out", ValueError, {"out": read_only(w.copy())}),
        ("num_threads", ValueError, {"num_threads": 0}),
        ("weight", TypeError, {"weight": 1.0}),
    ]
    for argument, error, more in options:
        given = {"return_grad": True, "out": w, **more}
        refused(lambda g=given: function(w, *fine, **g), error, argument)  # type: ignore[misc]
    refused(lambda: function("text", *fine), TypeError, "params")
    assert w.tobytes() == before


@on_every_isa
@over_penalties
def test_penalty_of_nan_and_infinity(name: str) -> None:
    function, strength = getattr(fastloss, name), STRENGTHS[name][2]
    w = np.array([1.0, NAN, -2.0, 0.0], np.float32)
    loss, grad = function(w, *strength, reduction="none", return_grad=True)
    assert np.isnan(loss).tolist() == np.isnan(grad).tolist() == [False, True, False, False]
    assert math.isnan(function(w, *strength))
    assert function(np.array([INF, -INF]), *strength) == INF
    # A strength of 0 weighs nothing.
    zero = (0.0,) * len(strength)
    loss, grad = function(np.array([INF, -INF, 1.0]), *zero, return_grad=True)
    assert loss == 0.0 and not grad.any()


# PyTorch


def torch_results(loss: Any, *leaves: Any) -> list[Array]:
    """Value and gradients, from the float64 tensors that it was computed from."""
    loss.sum().backward()
    return [loss.detach().numpy(), *(leaf.grad.numpy() for leaf in leaves)]


# Name, options of ours, and the same in torch: from x, t, (var), weight and our options.
PEERS = [
    (name, number)
    for name in (
        "mse_loss",
        "l1_loss",
        "huber_loss",
        "smooth_l1_loss",
        "poisson_nll_loss",
        "gaussian_nll_loss",
        "binary_cross_entropy",
        "binary_cross_entropy_with_logits",
        "soft_margin_loss",
        "multilabel_soft_margin_loss",
    )
    for number in range(len(ROW[name].options))
]
# Which of torch's take a weight, and a weighted mean of which is ours.
TORCH_WEIGHTS = {
    "mse_loss": ("sum", "mean", "none"),
    "l1_loss": ("sum", "mean", "none"),
    # Torch's mean of these is divided by the number of elements.
    "huber_loss": ("sum", "none"),
    "binary_cross_entropy": ("sum", "mean", "none"),
    "binary_cross_entropy_with_logits": ("sum", "mean", "none"),
    "multilabel_soft_margin_loss": ("sum", "mean", "none"),
}


@on_every_isa
@pytest.mark.parametrize(("name", "number"), PEERS)
@over_dtypes
def test_as_torch(name: str, number: int, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    row = ROW[name]
    for reduction in REDUCTIONS:
        for weight in (None, "array"):
            if weight and reduction not in TORCH_WEIGHTS.get(name, ()):
                continue
            c = call(row, (23, 17), dtype, reduction, number, weight, seed=7)
            if name == "soft_margin_loss":
                # Torch's exp(-t x) overflows beyond 709.
                c = Call(
                    row,
                    dtype,
                    reduction,
                    rounded(np.clip(c.x, -500, 500), dtype),
                    c.target,
                    options=c.options,
                )
            tensors = [torch.tensor(np.asarray(a, np.float64)) for a in c.arrays]
            leaves = [tensors[0].requires_grad_()]
            if row.third:
                leaves.append(tensors[2].requires_grad_())
            given: dict[str, Any] = {"reduction": reduction}
            for key, value in c.options.items():
                given[key] = torch.tensor(np.asarray(value, np.float64)) if np.ndim(value) else value
            if "label_smoothing" in given:
                smoothing = given.pop("label_smoothing")
                tensors[1] = tensors[1] * (1.0 - smoothing) + 0.5 * smoothing
            if isinstance(given.get("pos_weight"), float):
                given["pos_weight"] = torch.tensor(given["pos_weight"], dtype=torch.float64)
            if name == "gaussian_nll_loss":
                # Its clamp and its check of the variance are the same; its broadcasting is not in play.
                assert set(given) <= {"reduction", "full", "eps"}
            loss, *gradients = torch_results(getattr(functional, name)(*tensors, **given), *leaves)

            # Torch's answers have roundings of their own, of float64: of 1, of the input, of the terms.
            mine_loss, mine = c.run()
            x, scale = (
                np.abs(np.asarray(c.x, np.float64)),
                np.asarray(c.options.get("pos_weight", 1.0), np.float64),
            )
            size = c.weights * np.maximum(1.0 + x, 0.0 if c.terms.value is None else np.abs(c.terms.value))
            size = size * np.maximum(scale, 1.0)
            slack = 1e-14 * (size if not row.by_rows else size.mean(axis=-1)) + 1e-14 * np.abs(
                c.expected_losses
            )
            if reduction != "none":
                slack = slack.sum() / c.denominator
            kind = c.computed_in if np.ndim(loss) else "float64"
            assert_near(mine_loss, loss, c.loss_tolerance + slack, kind, c.title)
            for one, other, bound, terms in zip(
                mine, gradients, c.derivative_tolerances, (c.terms.first, c.terms.second), strict=False
            ):
                size = c.weights * np.maximum(np.maximum(scale, 1.0), 0.0 if terms is None else np.abs(terms))
                slack = 2e-15 * size / c.denominator + 1e-13 * np.abs(other)
                if name == "binary_cross_entropy":
                    # The 1e-12 that torch divides by at least is that of float32.
                    slack = 5e-9 * np.abs(other)
                assert_near(one, other, bound + slack, dtype, c.title + " gradient")


@on_every_isa
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_multi_margin_as_torch(reduction: str, p: int) -> None:
    torch = pytest.importorskip("torch")
    for dtype in DTYPES:
        for weighted in (False, True):
            for margin in (1.0, 0.25, 3):
                x, y, options = multi_margin((29, 6), dtype, 3, weighted, p=p, margin=margin)
                loss, grad = fastloss.multi_margin_loss(
                    x, y, reduction=reduction, return_grad=True, **options
                )
                leaf = torch.tensor(np.asarray(x, np.float64), requires_grad=True)
                if weighted:
                    options["weight"] = torch.tensor(np.asarray(options["weight"], np.float64))
                expected, slope = torch_results(
                    torch.nn.functional.multi_margin_loss(
                        leaf, torch.tensor(y), reduction=reduction, **options
                    ),
                    leaf,
                )
                kind = loss_dtype(dtype)
                rel = 4e-6 if kind == "float32" else 1e-13
                assert_near(loss, expected, rel * np.abs(expected), "float64", "loss")
                # The target's is a sum of the others, which all have one sign.
                bound = rel * np.abs(slope).max(axis=-1, keepdims=True)
                assert_near(grad, slope, bound, dtype, "gradient")


# scikit-learn


def sklearn_losses() -> list[tuple[str, dict[str, Any], str, dict[str, Any], float]]:
    """Ours, options, theirs, options, and our loss over theirs."""
    return [
        ("mse_loss", {}, "HalfSquaredError", {}, 2.0),
        ("l1_loss", {}, "AbsoluteError", {}, 1.0),
        ("quantile_loss", {"quantile": 0.25}, "PinballLoss", {"quantile": 0.25}, 1.0),
        ("quantile_loss", {"quantile": 0.1}, "PinballLoss", {"quantile": 0.1}, 1.0),
        ("poisson_nll_loss", {}, "HalfPoissonLoss", {}, 1.0),
        ("gamma_nll_loss", {}, "HalfGammaLoss", {}, 1.0),
        ("tweedie_nll_loss", {}, "HalfTweedieLoss", {"power": 1.5}, 1.0),
        ("tweedie_nll_loss", {"power": 1}, "HalfTweedieLoss", {"power": 1}, 1.0),
        ("tweedie_nll_loss", {"power": 1.9}, "HalfTweedieLoss", {"power": 1.9}, 1.0),
        ("tweedie_nll_loss", {"power": 2.0}, "HalfTweedieLoss", {"power": 2}, 1.0),
        ("tweedie_nll_loss", {"power": 3}, "HalfTweedieLoss", {"power": 3}, 1.0),
        ("tweedie_nll_loss", {"power": 0}, "HalfTweedieLoss", {"power": 0}, 1.0),
        ("huber_loss", {"delta": 2}, "HuberLoss", {"delta": 2.0}, 1.0),
        ("huber_loss", {"delta": 0.3}, "HuberLoss", {"delta": 0.3}, 1.0),
        ("binary_cross_entropy_with_logits", {}, "HalfBinomialLoss", {}, 1.0),
    ]


@on_every_isa
@pytest.mark.parametrize(("name", "options", "theirs", "their_options", "factor"), sklearn_losses())
def test_as_sklearn(
    name: str, options: dict[str, Any], theirs: str, their_options: dict[str, Any], factor: float
) -> None:
    pytest.importorskip("sklearn")
    loss_module = pytest.importorskip("sklearn._loss.loss")
    row = ROW[name]
    number = row.options.index(options)
    peer = getattr(loss_module, theirs)(**their_options)
    if theirs == "HuberLoss":
        peer.closs = type(peer.closs)(delta=their_options["delta"])
    for weight in (None, "array"):
        for dtype in ("float32", "float64"):
            c = call(row, (2501,), dtype, "none", number, weight, seed=8)
            y, raw = (np.ascontiguousarray(a, np.float64) for a in (c.target, c.x))
            given = None if weight is None else np.ascontiguousarray(c.options["weight"], np.float64)
            loss, grad = peer.loss_gradient(y, raw, given)
            mine_loss, mine = c.run()
            size = np.abs(c.terms.value * c.weights) if c.terms.value is not None else np.abs(loss)
            expected = factor * loss
            if name == "tweedie_nll_loss" and options.get("power") == 0:
                # Half the squared error of exp(x), with the constant t**2 / 2, which ours leaves out.
                expected = expected - c.weights * 0.5 * y**2
                size = size + 0.5 * c.weights * y**2
            assert_near(
                mine_loss, expected, c.loss_tolerance + 1e-13 * (size + np.abs(expected)), dtype, c.title
            )
            size = np.abs(c.terms.first * c.weights) if c.terms.first is not None else np.abs(grad)
            if name in ("l1_loss", "quantile_loss"):
                # At the kink theirs is the slope of one side.
                grad = np.where(c.x == c.target, 0.0, grad)
            assert_near(
                mine[0],
                factor * grad,
                c.derivative_tolerances[0] + 2e-14 * size,
                dtype,
                c.title + " gradient",
            )
            if theirs in ("HalfPoissonLoss", "HalfGammaLoss", "HalfTweedieLoss", "HalfBinomialLoss"):
                _, hessian = peer.gradient_hessian(y, raw, given)
                size = np.abs(c.terms.second * c.weights) if c.terms.second is not None else np.abs(hessian)
                assert_near(
                    mine[1], hessian, c.derivative_tolerances[1] + 2e-14 * size, dtype, c.title + " hessian"
                )


def test_generators_keep_their_promises() -> None:
    """Ties and edges, and elements on both sides of each bend."""
    ties = 0
    for row in ELEMENTWISE:
        for number, options in enumerate(row.options):
            c = call(row, (41, 61), "float32", "none", number)
            jump = row.jump(c.arguments)
            size = max((abs(v) for v in options.values()), default=1.0) if jump else 0.0
            if jump and 0.0 < size < 100.0:
                assert (jump.distance > 0.0).any() and (jump.distance < 0.0).any(), c.title
                ties += bool((jump.distance == 0.0).any())
            target = c.target.astype(np.float64)
            if row.bad_targets is outside_unit:
                assert (target == 0.0).any() and (target == 1.0).any()
                assert ((target > 0.0) & (target < 1.0)).any()
            if row.bad_targets is not_a_sign:
                assert np.unique(target).tolist() == [-1.0, 1.0]
            if row.make is residuals:
                assert (c.x == c.target).any() and (c.x > c.target).any() and (c.x < c.target).any()
    assert ties >= 12
