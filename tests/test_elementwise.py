"""Of elementwise losses, penalties and margins alone: far ends, infinities, digits, scikit-learn."""

import itertools
import math
import re
from functools import partial
from typing import Any

import numpy as np
import pytest
from helpers import (
    DTYPES,
    EITHER,
    INF,
    NAN,
    REDUCTIONS,
    Array,
    assert_near,
    bits,
    dtype_named,
    is_half,
    loss_dtype,
    on_every_isa,
    over_dtypes,
    refused,
    rounded,
)
from registry import STEP, Call, Row, call, of_values, over
from rows.elementwise import (
    ELEMENTWISE,
    PENALTIES,
    ROW,
    arguments_of,
    not_a_sign,
    outside_unit,
    terms_of,
    weights_of,
)
from rows.softmax import MULTI_MARGIN

import fastloss
from fastloss import reference

over_rows = over(ELEMENTWISE)
NONE: dict[str, Any] = {"reduction": "none", "return_grad": True}


@on_every_isa
@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if is_half(dtype)])
def test_every_number_of_a_half_type(dtype: str) -> None:
    """Read exactly, and written rounded to nearest: halfway between two numbers to the even one.

    The gradient of l1_loss at 1 is the upstream gradient.
    """
    kind = dtype_named(dtype)
    every = np.arange(2**16, dtype=np.uint16).view(kind)
    with np.errstate(all="ignore"):
        every = np.where(np.isnan(every), kind.type(NAN), every)  # none that signals
        finite = np.sort(every[np.isfinite(every)].astype(np.float64))
        between = (0.5 * (finite[:-1] + finite[1:])).astype(np.float32)
        beside = [np.nextafter(between, side) for side in (-INF, INF)]
        exact = np.concatenate([every.astype(np.float32), between, *beside])
        expected = exact.astype(kind).astype(np.float32)
    for spread in (np.array, lambda array: np.stack([array, array], axis=1)[:, 0]):
        read = fastloss.l1_loss(spread(every), 0.0, reduction="none")
        np.testing.assert_array_equal(read, np.abs(every.astype(np.float32)))
        ones, out = spread(np.ones(exact.shape, kind)), spread(np.zeros(exact.shape, kind))
        fastloss.l1_loss(ones, 0.0, grad_output=exact, out=out, **NONE)
        np.testing.assert_array_equal(out.astype(np.float32), expected)


@on_every_isa
@over_rows
def test_scalar_target(row: Row) -> None:
    for dtype in DTYPES:
        t = row.info.good_target
        base = call(row, (37, 11), dtype)
        kinds = [t, int(t), np.float32(t), np.array(t), np.array(t, np.int8), dtype_named(dtype).type(t)]
        for reduction in REDUCTIONS:
            full = base.with_(reduction=reduction, target=np.full_like(base.first, t))
            expected = full.check()
            for target in kinds:
                c = full.with_(target=target)
                assert c.bits() == bits(expected), c.title
                assert bits(c.value()) == bits(expected[0]), c.title
        loss, derivatives = base.with_(reduction="none", target=NAN).run()
        assert np.isnan(loss).all()
        assert all(np.isnan(array.astype(np.float64)).all() for array in derivatives)


@on_every_isa
@over_dtypes
def test_scalar_variance(dtype: str) -> None:
    """It has no gradient; where the input has no axes either it cannot be told from an array."""
    row = ROW["gaussian_nll_loss"]
    base = call(row, (37, 11), dtype)
    for reduction in REDUCTIONS:
        for var in (0.75, 2, 0.0, np.float64(0.75), np.array(0.75)):
            full = base.with_(reduction=reduction, var=np.full_like(base.first, var))
            loss, (grad, _) = full.run()
            c = full.with_(var=var)
            result = c.run()
            c.check_result(result)
            assert bits(result) == bits(loss, grad), c.title
            buffer = np.empty_like(base.first)
            assert c.run(out=(buffer, None))[1][0] is buffer
            assert bits(buffer) == bits(grad), c.title
            refused(partial(c.run, out=(buffer, buffer.copy())), EITHER, "out")
        point = of_values(row, 1.0, 0.25, 0.5, dtype=dtype, reduction=reduction)
        loss, (grad, _) = point.run()
        point.check_loss(loss)
        assert float(grad) == float(point.expected[1][0])


@on_every_isa
@over_rows
def test_weights_of_nothing(row: Row) -> None:
    """All weights 0: the sum is 0, and the mean 0 / 0 where weights are what it divides by."""
    c = call(row, (37, 11), "float32")
    zero = np.zeros(c.shape[-1:] if row.loss_axes else c.shape, np.float32)
    for weight in (zero,) if row.loss_axes else (zero, 0.0):
        for reduction in ("sum", "none"):
            loss, derivatives = c.run(reduction=reduction, weight=weight)
            assert not np.any(loss)
            assert not any(a.any() for a in derivatives)
        mean = c.run(reduction="mean", weight=weight)[0]
        assert math.isnan(mean) if row.info.by_weights else mean == 0.0


# Derivatives without the reference


def quotients(c: Call, name: str, step: Array) -> list[Array]:
    """Difference quotients of the loss (times the upstream gradient) and the derivatives by one argument.

    The quotient of the loss has the shape of the argument: classes that share a loss are moved in turn.
    """
    upstream, length = c["grad_output"], np.where(step == 0.0, 1.0, step)

    def differences(moved: Array) -> list[Array]:
        values = []
        for steps in (-2.0, -1.0, 1.0, 2.0):
            loss, found = c.run(**{name: c[name] + steps * moved})
            values.append([loss * upstream, *found])
        return [(a - 8.0 * b + 8.0 * c - d) / 12.0 for a, b, c, d in zip(*values, strict=True)]

    if c.row.loss_axes:
        columns = [differences(step * (np.arange(step.shape[-1]) == k))[0] for k in range(step.shape[-1])]
        return [np.stack(columns, axis=-1) / length]
    return [difference / length for difference in differences(step)]


@on_every_isa
@over_rows
def test_central_differences_of_many_elements(row: Row) -> None:
    """Within bounds as narrow as the size of value and slope allows.

    Differences of four points are off by the step's fourth power, over 30, times a fifth derivative; and by
    the rounding of the values over the step, which is a small share of the room that an input has.
    """
    shape = (97, 7) if row.loss_axes else (41, 61)
    for number in range(len(row.sets)):
        c = call(row, shape, "float64", "none", number, row.company(), "array", seed=3)
        _, derivatives = c.run()
        upstream, terms = c["grad_output"], terms_of(c)
        factor = np.abs(weights_of(c) * (upstream[..., np.newaxis] if row.loss_axes else upstream))
        losses = c.expected_losses * upstream
        losses = np.abs(losses[..., np.newaxis] if row.loss_axes else losses)
        value = np.maximum(losses, factor * np.abs(0.0 if terms.value is None else terms.value))
        sizes = [
            np.maximum(np.abs(found), factor * np.abs(0.0 if size is None else size))
            for found, size in zip(derivatives, (terms.first, terms.second), strict=False)
        ]

        room = row.room(c, row.first)
        step = STEP * np.minimum(1.0, room)
        # Where the derivative is 0, the fifth need not be.
        slope = sizes[0] + 1e-2 * factor / np.maximum(row.info.room(arguments_of(c).x, c.options), 1e-9)
        found = quotients(c, row.first, step)
        compare(c, derivatives[0], found[0], step, value, slope)
        if row.hessian:
            compare(c, derivatives[1], found[1], step, slope, sizes[1] + 1e-3 * factor)
        if "var" in row.gradients:
            step = STEP * row.room(c, "var")
            compare(c, derivatives[1], quotients(c, "var", step)[0], step, value, sizes[1])


def compare(c: Call, actual: Array, quotient: Array, step: Array, value: Array, slope: Array) -> None:
    where = step > 0.0
    bound = 1e-8 * slope + 8e-15 * value / np.where(where, step, 1.0)
    bad = where & (np.abs(actual - quotient) > bound)
    assert where.mean() > 0.4
    assert not bad.any(), (
        f"{c.title} {actual[bad][0]}, but the quotient is {quotient[bad][0]} within {bound[bad][0]:.3g}"
    )


@on_every_isa
@over_rows
def test_nan_keeps_its_weight(row: Row) -> None:
    """A weight of 0 does not hide a NaN."""
    c = call(row, (4, 6), "float32", "none")
    x = np.array(c.first)
    x[1, 2] = NAN
    weight = np.ones(c.shape[-1:] if row.loss_axes else c.shape, np.float32)
    weight[2 if row.loss_axes else (1, 2)] = 0.0
    loss, derivatives = c.run(**{row.first: x}, weight=weight)
    assert np.isnan(loss[1] if row.loss_axes else loss[1, 2])
    assert all(np.isnan(array[1, 2]) for array in derivatives)


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
        c = of_values(row, *(np.full((2, 35), v) for v in values), dtype=dtype, **options)
        assert np.isposinf(c.value()).all()
        weights = [np.zeros(35 if row.loss_axes else (2, 35), np.float32), *([] if row.loss_axes else [0.0])]
        for weight in weights:
            for reduction in ("sum", "none"):
                loss, derivatives = c.run(weight=weight, reduction=reduction)
                assert not np.any(loss), c.title
                assert not any(np.asarray(array, np.float64).any() for array in derivatives), c.title
                assert not np.any(c.value(weight=weight, reduction=reduction))


# What is in question at the far ends; nothing here is in the table's generators.
FAR = [0.0, -0.0, 1e-30, 1e-3, 1.0, 30.0, 100.0, 1e4, 1e15, 1e30, 1e38, INF]
BOTH_SIDES = [*FAR, *(-v for v in FAR)]
FAR_INPUTS = {
    "binary_cross_entropy": [0.0, 1e-38, 1e-30, 1e-12, 0.5, 1.0 - 2.0**-24, 1.0],
    "mean_squared_log_loss": [*FAR, -1e-30, -0.5, -1.0 + 2.0**-24, -1.0, -1.5, -INF],
    # exp(100) overflows in float32, and its product with a small target need not.
    "poisson_nll_loss": [v for v in BOTH_SIDES if abs(v) != 100.0],
    "gamma_nll_loss": [v for v in BOTH_SIDES if abs(v) != 100.0],
    "tweedie_nll_loss": [v for v in BOTH_SIDES if abs(v) != 100.0 and v != INF],
}
FAR_TARGETS = {
    "mean_squared_log_loss": [*FAR, -1e-30, -0.5, -1.0 + 2.0**-24],
    # An infinite target against an exponential that over- or underflows in float32 has no answer there.
    "poisson_nll_loss": FAR[:-2],
    "gamma_nll_loss": FAR[2:-1],
    **{row.name: [0.0, 1e-30, 0.5, 1.0] for row in ELEMENTWISE if row.info.bad_targets is outside_unit},
}


def has_signs(row: Row, options: dict[str, Any]) -> bool:
    """Whether targets are classes -1 and 1."""
    bad = row.checked(options).get("target", ())
    return 0.5 in bad and 0.0 in bad


def far_targets(row: Row, options: dict[str, Any]) -> list[float]:
    if row.name == "tweedie_nll_loss":
        power = options.get("power", 1.5)
        return FAR[:-1] if power < 2.0 else FAR[2:-1]
    if has_signs(row, options):
        return [-1.0, 1.0]
    return FAR_TARGETS.get(row.name, BOTH_SIDES)


@on_every_isa
@over_dtypes
@over_rows
def test_far_ends(row: Row, dtype: str) -> None:
    """Every far input with every far target: as the reference has it, or out of the type's range."""
    for options in row.sets:
        if any(callable(value) for value in options.values()):
            continue
        # Where both terms of Tweedie's loss overflow (outside of powers 1 to 2), so does their difference.
        if not 1.0 <= options.get("power", 1.5) <= 2.0:
            continue
        inputs = FAR_INPUTS.get(row.name, BOTH_SIDES)
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
        if "var" in row.gradients:
            axes.append([0.0, 1e-30, 1e-6, 1.0, 1e4, 1e30, INF])
        with np.errstate(over="ignore"):
            grids = [rounded(g.reshape(-1, 1), dtype) for g in np.meshgrid(*axes, indexing="ij")]
        for weight in (None, 0.0):
            given = {**options} if weight is None or row.loss_axes else {**options, "weight": weight}
            c = of_values(row, *grids, dtype=dtype, **given)
            loss, derivatives = c.run()
            with np.errstate(all="ignore"):
                assert_far(c, loss, c.expected[0], row.bound(c), loss_dtype(dtype), "loss")
                for array, right, name in zip(derivatives, c.expected[1], row.derivatives, strict=True):
                    assert_far(c, array, right, row.derivative_bound(c, name), dtype, name)
            assert bits(c.value()) == bits(loss)


def assert_far(c: Call, value: Any, expected: Array, tolerance: Array, dtype: str, name: str) -> None:
    finite = np.nan_to_num(tolerance, nan=0.0, posinf=0.0)
    try:
        assert_near(value, expected, finite, dtype, f"{c.title} {name}")
    except AssertionError as error:
        where = int(re.search(r"first at \((\d+), ?", str(error)).group(1))  # type: ignore[union-attr]
        values = [float(a.reshape(-1)[where]) for a in c.arguments.values()]
        raise AssertionError(f"{error} for {values}") from None


# By hand, for kernels and reference: input, target, options, and loss, gradient (and second derivative).
INFINITIES: list[tuple[str, float, float, dict[str, Any], tuple[float, ...]]] = [
    # A class that alpha leaves out adds nothing, however wrong its logit is.
    ("sigmoid_focal_loss", -INF, 1.0, {"alpha": 0.0}, (0.0, 0.0)),
    ("sigmoid_focal_loss", INF, 0.0, {"alpha": 1.0}, (0.0, 0.0)),
    ("sigmoid_focal_loss", -INF, 1.0, {"alpha": 0.0, "gamma": 0.0}, (0.0, 0.0)),
    ("sigmoid_focal_loss", -INF, 1.0, {"alpha": 0.5}, (INF, -0.5)),
    ("sigmoid_focal_loss", INF, 1.0, {}, (0.0, 0.0)),
    ("sigmoid_focal_loss", INF, 0.0, {"alpha": None}, (INF, 1.0)),
    ("binary_cross_entropy_with_logits", INF, 0.0, {}, (INF, 1.0, 0.0)),
    ("binary_cross_entropy_with_logits", INF, 1.0, {}, (0.0, 0.0, 0.0)),
    ("binary_cross_entropy_with_logits", -INF, 1.0, {}, (INF, -1.0, 0.0)),
    ("soft_margin_loss", -INF, 1.0, {}, (INF, -1.0, 0.0)),
    ("soft_margin_loss", INF, 1.0, {}, (0.0, 0.0, 0.0)),
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
        c = of_values(ROW[name], np.full(37, x), np.full(37, t), dtype=dtype, **options)
        for loss, derivatives in (c.run(), c.expected):
            for array, exact in zip((loss, *derivatives), expected, strict=True):
                assert np.asarray(array, np.float64).tolist() == [exact] * 37, c.title


def test_tweedie_where_both_terms_overflow() -> None:
    """The reference has the limit, whose sign is that of the larger term; the kernels have NaN there."""
    for x, t, power, signs in (
        (INF, 2.0, 0, (1, 1, 1)),
        (1e4, 1e30, -1.5, (1, 1, 1)),
        (1e4, -1e30, -1.5, (1, 1, 1)),
        # For p > 2 both terms of the loss are positive near -inf: t * exp((1 - p) * x) / (p - 1) wins.
        (-INF, 2.0, 3, (1, -1, 1)),
        (-1e4, 1e-30, 2.2, (1, -1, 1)),
    ):
        found = reference.tweedie_nll_loss([x], [t], power=power, return_hessian=True, **NONE)
        assert [float(a[0]) for a in found] == [INF * sign for sign in signs], (x, t, power)  # type: ignore[index, union-attr]


# By hand, where a formula used as it is written loses everything: input, target, options, value, gradient.
SMALL, LOG = 2.0**-40, math.log1p(2.0**-40)
DIGITS: list[tuple[str, float, float, dict[str, Any], float, float]] = [
    ("log_cosh_loss", SMALL, 0.0, {}, SMALL**2 / 2, SMALL),
    ("mean_squared_log_loss", SMALL, 0.0, {}, LOG**2, 2 * LOG / (1 + SMALL)),
    # A confident row: exp(-40), not 0.
    ("binary_cross_entropy_with_logits", 40.0, 1.0, {}, math.exp(-40), -math.exp(-40)),
    ("soft_margin_loss", -40.0, -1.0, {}, math.exp(-40), math.exp(-40)),
    # The slope is over 1e-12 at least.
    ("binary_cross_entropy", 2.0**-66, 0.0, {}, 2.0**-66, 2.0**-66 / 1e-12),
    # Subgradients at the kinks are 0, between the slopes.
    ("l1_loss", 0.5, 0.5, {}, 0.0, 0.0),
    ("quantile_loss", 0.5, 0.5, {"quantile": 0.9}, 0.0, 0.0),
    ("smooth_l1_loss", 0.5, 0.5, {"beta": 0.0}, 0.0, 0.0),
    ("epsilon_insensitive_loss", 0.5, 0.25, {"epsilon": 0.25}, 0.0, 0.0),
    ("hinge_loss", 0.5, 1.0, {"margin": 0.5}, 0.0, 0.0),
    ("squared_hinge_loss", 0.5, 1.0, {"margin": 0.5}, 0.0, 0.0),
]


@on_every_isa
@pytest.mark.parametrize(("name", "x", "t", "options", "value", "slope"), DIGITS)
def test_digits_near_0_and_at_the_kinks(
    name: str, x: float, t: float, options: dict[str, Any], value: float, slope: float
) -> None:
    for dtype, rel in (("float32", 3e-7), ("float64", 1e-14)):
        loss, grad = getattr(fastloss, name)(np.array([x], dtype), t, **options, **NONE)
        assert loss[0] == pytest.approx(value, rel=rel, abs=0.0)
        assert grad[0] == pytest.approx(slope, rel=rel, abs=0.0)


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


# Errors


@on_every_isa
@over([row for row in ELEMENTWISE if "check_domain" in row.parameters])
def test_edges_of_the_domain(row: Row) -> None:
    """What is just inside of it, negative zeros included, is not refused; nor is NaN."""
    inside = {
        "mean_squared_log_loss": (-1.0 + 2.0**-24, 0.0, 1e38, INF),
        "poisson_nll_loss": (0.0, -0.0, 1e38),
        "gamma_nll_loss": (2.0**-149, 1e38),
        "tweedie_nll_loss": (0.0, -0.0, 2.0**-149, 1e38),
    }.get(row.name, (0.0, -0.0, 1.0, 1.0 - 2.0**-24, 2.0**-149))
    if has_signs(row, {}):
        inside = (-1.0, 1.0)
    for value in (*inside, NAN):
        c = call(row, (4, 6), "float32", "none")
        target = np.array(c["target"])
        target[1, 2] = value
        for given in (target, value):
            loss = c.value(target=given)
            assert math.isnan(value) == np.isnan(loss).any()


@on_every_isa
@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [
        ("binary_cross_entropy", "probs", -(2.0**-149)),
        ("binary_cross_entropy", "probs", 1.0 + 2.0**-23),
        ("gaussian_nll_loss", "var", -(2.0**-149)),
    ],
)
def test_first_numbers_outside_of_the_domain(name: str, argument: str, value: float) -> None:
    c = call(ROW[name], (4, 6), "float32")
    wrong = np.array(c[argument])
    wrong[2, 3] = wrong[3, 0] = value
    for run in (c.run, c.value):
        assert "2, 3" in refused(partial(run, **{argument: wrong}), ValueError, argument)
    c.run(**{argument: wrong}, check_domain=False)


@on_every_isa
@over(PENALTIES)
def test_penalty_of_nan_and_infinity(row: Row) -> None:
    w = np.array([1.0, NAN, -2.0, 0.0], np.float32)
    c = of_values(row, w, dtype="float32")
    loss, (grad,) = c.run()
    assert np.isnan(loss).tolist() == np.isnan(grad).tolist() == [False, True, False, False]
    assert math.isnan(c.value(reduction="sum"))
    infinite = of_values(row, [INF, -INF, 1.0], reduction="sum")
    assert infinite.value() == INF
    # A strength of 0 weighs nothing.
    loss, (grad,) = infinite.run(**dict.fromkeys(row.fixed, 0.0))
    assert loss == 0.0 and not grad.any()


# multi_margin_loss


@on_every_isa
@over_dtypes
def test_nan_in_any_class_of_a_margin(dtype: str) -> None:
    """It is the row's, and the row's alone."""
    c = call(MULTI_MARGIN, (60, 7), dtype, "none", 5, ("weight",))
    for column in range(7):
        bad = np.array(c.first)
        bad[3, column] = NAN
        losses, (grads,) = c.run(scores=bad)
        assert np.isnan(losses).tolist() == [i == 3 for i in range(60)]
        assert np.isnan(grads.astype(np.float64)).all(axis=1).tolist() == [i == 3 for i in range(60)]
        assert not np.isnan(np.delete(grads.astype(np.float64), 3, axis=0)).any()


@on_every_isa
@over_dtypes
def test_a_row_of_a_margin_depends_on_itself_alone(dtype: str) -> None:
    """Whatever stands in the other lanes of its group, and in whichever lane it stands."""
    rng = np.random.default_rng(0)
    for classes, p in itertools.product((2, 3, 4, 7, 10, 33, 64, 65), (1, 2)):
        scores, target = rounded(rng.standard_normal((5, classes)), dtype), rng.integers(0, classes, 5)
        alone = [
            fastloss.multi_margin_loss(x[None], y[None], p=p, **NONE)
            for x, y in zip(scores, target, strict=True)
        ]
        for first in range(16):
            company = rng.choice([NAN, INF, -INF, 3e4, 0.0], (23, classes)).astype(scores.dtype)
            among, classes_of_all = company.copy(), rng.integers(0, classes, 23)
            among[first : first + 5], classes_of_all[first : first + 5] = scores, target
            losses, grads = fastloss.multi_margin_loss(among, classes_of_all, p=p, **NONE)
            for i, (loss, grad) in enumerate(alone):
                assert bits(losses[first + i], grads[first + i]) == bits(loss[0], grad[0])


# scikit-learn


# Ours, options, theirs, options, and our loss over theirs.
SKLEARN: list[tuple[str, dict[str, Any], str, dict[str, Any], float]] = [
    ("mse_loss", {}, "HalfSquaredError", {}, 2.0),
    ("l1_loss", {}, "AbsoluteError", {}, 1.0),
    *(("quantile_loss", {"quantile": q}, "PinballLoss", {"quantile": q}, 1.0) for q in (0.25, 0.1)),
    ("poisson_nll_loss", {}, "HalfPoissonLoss", {}, 1.0),
    ("gamma_nll_loss", {}, "HalfGammaLoss", {}, 1.0),
    ("tweedie_nll_loss", {}, "HalfTweedieLoss", {"power": 1.5}, 1.0),
    *(("tweedie_nll_loss", {"power": p}, "HalfTweedieLoss", {"power": p}, 1.0) for p in (1, 1.9, 2.0, 3, 0)),
    *(("huber_loss", {"delta": d}, "HuberLoss", {"delta": d}, 1.0) for d in (2, 0.3)),
    ("binary_cross_entropy_with_logits", {}, "HalfBinomialLoss", {}, 1.0),
]


@on_every_isa
@pytest.mark.parametrize(("name", "options", "theirs", "their_options", "factor"), SKLEARN)
def test_as_sklearn(
    name: str, options: dict[str, Any], theirs: str, their_options: dict[str, Any], factor: float
) -> None:
    pytest.importorskip("sklearn")
    loss_module = pytest.importorskip("sklearn._loss.loss")
    row = ROW[name]
    number = row.sets.index(options)
    peer = getattr(loss_module, theirs)(**their_options)
    if theirs == "HuberLoss":
        peer.closs = type(peer.closs)(delta=their_options["delta"])
    for company in ((), ("weight",)):
        for dtype in ("float32", "float64"):
            c = call(row, (2501,), dtype, "none", number, company, seed=8)
            terms, weights = terms_of(c), weights_of(c)
            y, raw = (np.ascontiguousarray(a, np.float64) for a in (c["target"], c.first))
            given = np.ascontiguousarray(c["weight"], np.float64) if company else None
            bounds = [row.derivative_bound(c, name) for name in row.derivatives]
            loss, grad = peer.loss_gradient(y, raw, given)
            mine_loss, mine = c.run()
            size = np.abs(terms.value * weights) if terms.value is not None else np.abs(loss)
            expected = factor * loss
            if name == "tweedie_nll_loss" and options.get("power") == 0:
                # Half the squared error of exp(x), with the constant t**2 / 2, which ours leaves out.
                expected = expected - weights * 0.5 * y**2
                size = size + 0.5 * weights * y**2
            assert_near(mine_loss, expected, row.bound(c) + 1e-13 * (size + np.abs(expected)), dtype, c.title)
            size = np.abs(terms.first * weights) if terms.first is not None else np.abs(grad)
            if name in ("l1_loss", "quantile_loss"):
                # At the kink theirs is the slope of one side.
                grad = np.where(c.first == c["target"], 0.0, grad)
            assert_near(mine[0], factor * grad, bounds[0] + 2e-14 * size, dtype, c.title + " gradient")
            if theirs in ("HalfPoissonLoss", "HalfGammaLoss", "HalfTweedieLoss", "HalfBinomialLoss"):
                _, hessian = peer.gradient_hessian(y, raw, given)
                size = np.abs(terms.second * weights) if terms.second is not None else np.abs(hessian)
                assert_near(mine[1], hessian, bounds[1] + 2e-14 * size, dtype, c.title + " hessian")


def test_generators_keep_their_promises() -> None:
    """Ties and edges, and elements on both sides of each bend."""
    ties = 0
    for row in ELEMENTWISE:
        for number, options in enumerate(row.sets):
            c = call(row, (41, 61), "float32", "none", number)
            jump = row.info.jump(arguments_of(c))
            size = max((abs(v) for v in options.values()), default=1.0) if jump else 0.0
            if jump and 0.0 < size < 100.0:
                assert (jump.distance > 0.0).any() and (jump.distance < 0.0).any(), c.title
                ties += bool((jump.distance == 0.0).any())
            target = c["target"].astype(np.float64)
            if row.info.bad_targets is outside_unit:
                assert (target == 0.0).any() and (target == 1.0).any()
                assert ((target > 0.0) & (target < 1.0)).any()
            if row.info.bad_targets is not_a_sign:
                assert np.unique(target).tolist() == [-1.0, 1.0]
            if row.name in ("mse_loss", "huber_loss", "gaussian_nll_loss"):
                x, t = c.first, c["target"]
                assert (x == t).any() and (x > t).any() and (x < t).any()
    assert ties >= 12
