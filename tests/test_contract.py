"""What every function promises, over the registry: values, reductions, derivatives, NaN, masks, bits.

How arguments lie in memory is in test_contract_memory.py, what is refused in test_contract_errors.py.
"""

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers import (
    DTYPES,
    HALF,
    INF,
    NAN,
    SETTINGS,
    Array,
    Shape,
    assert_within,
    bits,
    dtype_named,
    each,
    full_if,
    largest,
    on_one_isa,
    over_dtypes,
    over_product,
    shifted,
    smallest_normal,
    ulp,
)
from registry import STEP, Call, Row, call, over, plain_and_all, upstreams, with_all
from rows import OBJECTS, ROWS

import fastloss
from fastloss import reference

full = pytest.mark.full
# Options of many functions, in the order of all signatures.
COMMON = ["check_domain", "teacher_grad", "memory_budget", "reduction", "return_grad", "return_hessian"]
COMMON += ["return_entropy", "grad_output", "out", "accumulate", "num_threads"]


over_rows = over(ROWS)
# Float32 and another type in turn; all of them in the full matrix.
over_rows_and_dtypes = pytest.mark.parametrize(
    "row, dtype",
    [
        full_if(dtype not in (DTYPES[0], DTYPES[1 + number % (len(DTYPES) - 1)]), row, dtype)
        for number, row in enumerate(ROWS)
        for dtype in DTYPES
    ],
    ids=str,
)
LOSSES = [row for row in ROWS if row.gradients and row.returns == "loss"]
MASKED = [row for row in LOSSES if {"mask", "lengths", "ignore_index"} & {o.argument for o in row.extras}]
SHARED_OUT = [row for row in ROWS if row.large]


# The registry


def test_every_function_has_a_row() -> None:
    """Or is one of the objects, not both; and every row is of what is public."""
    with_rows = {row.name for row in ROWS}
    assert sorted(set(fastloss.__all__) - SETTINGS) == sorted([*with_rows, *OBJECTS])


def test_every_option_is_tried() -> None:
    common = {*COMMON, "axis", "filter_eps"}
    for name in {row.name for row in ROWS}:
        rows = [row for row in ROWS if row.name == name]
        tried = {option for row in rows for given in (row.fixed, *row.sets) for option in given}
        tried |= {option.argument for row in rows for option in row.extras}
        options = set(rows[0].parameters) - {array for row in rows for array in row.arrays}
        assert options - common <= tried, name
        assert tried <= set(rows[0].parameters), name
        assert hasattr(reference, name)


@over_rows
def test_signature(row: Row) -> None:
    """The common parameters stand last and in one order, all options by name."""
    common = [name for name in COMMON if name in row.parameters]
    assert list(row.parameters)[-len(common) or len(row.parameters) :] == common
    assert ("return_hessian" in row.parameters) == row.hessian
    assert ("check_domain" in row.parameters) == any(map(row.checked, row.sets))
    positional = [name for name, p in row.parameters.items() if p.kind is not p.KEYWORD_ONLY]
    required = [name for name, p in row.parameters.items() if p.default is p.empty]
    assert set(positional) <= {*row.arrays, *row.fixed} and set(required) <= {*positional, *row.numbers}


NAMES_OF_GRADIENTS = {
    "reward_model_loss": "RewardGradients",
    "linear_cross_entropy": "LinearGradients",
    "linear_token_log_probs": "LinearGradients",
    **dict.fromkeys(("linear_kl_div", "linear_js_div", "linear_tv_distance"), "StudentGradients"),
    **dict.fromkeys(("dpo_loss", "orpo_loss", "simpo_loss", "cpo_loss"), "PairGradients"),
    **dict.fromkeys(
        ("kl_div_with_logits", "js_div_with_logits", "tv_distance_with_logits"), "DivergenceGradients"
    ),
}


@over([row for row in LOSSES if row.name in NAMES_OF_GRADIENTS and len(row.gradients) > 1])
def test_names_of_gradients(row: Row) -> None:
    _, gradients = call(row, row.shapes[0])._call(fastloss, {**row.fixed, "return_grad": True})
    assert type(gradients).__name__ == NAMES_OF_GRADIENTS[row.name]


# Values


@over_rows_and_dtypes
def test_every_set_of_options(row: Row, dtype: str) -> None:
    """Each with every reduction, alone or with all data that can go with it; the data one by one.

    On all instruction sets with one reduction, another in each type; with the others on the best.
    """
    reductions, turn = row.reductions or ("none",), DTYPES.index(dtype)
    for number, (place, reduction) in itertools.product(range(len(row.sets)), enumerate(reductions)):
        kind = upstreams(row, reduction)[-1]
        alone = call(row, row.shapes[0], dtype, reduction, number)
        together = call(row, row.shapes[number % 2], dtype, reduction, number, row.company(), kind)
        if place == (number + turn) % len(reductions):
            alone.check_on_every_isa()
            together.check_on_every_isa()
        else:
            (alone, together)[(number + place + turn) % 2].check()
    for place, option in enumerate(row.extras):
        reduction = reductions[(place + turn) % len(reductions)]
        kind = upstreams(row, reduction)[-1]
        call(row, row.shapes[1], dtype, reduction, 0, (option.name,), kind).check_on_every_isa()
    assert_real_spread(call(row, row.shapes[0], dtype, reductions[0]))


def assert_real_spread(c: Call) -> None:
    """Neither a constant input nor a single target says anything."""
    for name, array in c.arguments.items():
        values = np.asarray(array, np.float64)
        assert np.ptp(values[np.isfinite(values)]) >= (0.1 if c.row.name in ("orpo_loss",) else 0.5), name


@full
@over_dtypes
@over_rows
def test_every_option_with_every_other(row: Row, dtype: str) -> None:
    """A short row and a long one, neither a multiple of any vector.

    Reductions and upstream gradients meet the options on the best instruction set; on the others each option
    meets every other once, and one alone or all together meet every reduction.
    """
    reductions, numbers = row.reductions or ("none",), range(len(row.sets))
    for reduction, number, company in itertools.product(reductions, numbers, row.companies()):
        on_every_isa = reduction == reductions[-1] or company == row.company() or len(company) < 2
        for kind, shape in itertools.product(upstreams(row, reduction), row.shapes):
            c = call(row, shape, dtype, reduction, number, company, kind)
            if on_every_isa and kind == upstreams(row, reduction)[-1]:
                c.check_on_every_isa()
            else:
                c.check()


@over_product
@over_rows_and_dtypes
def test_sizes(row: Row, dtype: str, product: bool) -> None:
    """Plain calls and calls with all options take turns on the lower instruction sets, from type to type."""
    turn = DTYPES.index(dtype)
    for number in range(len(row.sets)):
        call(row, row.sizes[0], dtype, (row.reductions or ("none",))[-1], number).check()
    for place, shape in enumerate(row.sizes):
        calls = list(plain_and_all(row, shape, dtype))
        chosen = calls if product else [calls.pop((place + turn) % len(calls))]
        for c in chosen:
            c.check_on_every_isa()
        for c in [] if product else calls:
            c.check()
        if math.prod(shape) < 50_000 and row.reductions and (product or (place + turn) % 2):
            call(row, shape, dtype, "sum", seed=1).check()


@on_one_isa
@over_rows
def test_nothing(row: Row) -> None:
    """No rows: the mean is NaN, the sum 0, the gradient 0 (of what the rows share)."""
    for dtype in DTYPES:
        for shape in row.empty:
            for reduction in row.reductions or ("none",):
                c = call(row, shape, dtype, reduction)
                loss, derivatives = c.run()
                for value in (loss, c.value(), c.expected[0]):
                    if reduction == "none" and row.returns == "loss":
                        assert value.shape == c.loss_shape and not value.any()
                    elif row.returns == "loss" and reduction != "batchmean":
                        is_mean = reduction == "mean" and math.prod(c.loss_shape) == 0
                        assert math.isnan(value) if is_mean else value == 0.0, c.title
                    elif row.returns == "number":
                        assert math.isnan(value)
                for array, like in zip(derivatives, (*row.gradients, row.first), strict=False):
                    assert array.dtype == dtype_named(dtype)
                    assert_within(array, np.zeros(np.shape(c[like])), 0.0, c.title)


@over([row for row in LOSSES if row.divisor])
def test_mean_divides(row: Row) -> None:
    """A mean is the sum divided by what the row says, with its gradients."""
    for dtype in ("float32", "float64"):
        for company in {(), row.company(), *((o.name,) for o in row.extras)}:
            c, total = (call(row, row.shapes[0], dtype, how, 0, company) for how in ("mean", "sum"))
            (mean, of_mean), (whole, of_whole) = c.run(), total.run()
            assert row.divisor is not None
            divisor = row.divisor(c)
            bound = 1e-6 * row.bound(total) / divisor if row.same_bits else row.bound(total) / divisor
            assert abs(mean - whole / divisor) <= bound + (1e-7 if dtype == "float32" else 1e-14) * abs(mean)
            for name, one, other in zip(row.derivatives, of_mean, of_whole, strict=True):
                expected = other.astype(np.float64) / divisor
                # Each is rounded on its own.
                slack = 4.0 * ulp(expected, dtype) + smallest_normal(dtype)
                if not row.same_bits or row.loss_axes:
                    slack = slack + row.derivative_bound(c, name)
                assert_within(one, expected, slack, f"{c.title} {name}")


@over(LOSSES)
def test_upstream_of_nothing(row: Row) -> None:
    c = call(row, row.shapes[0], "float32", "none")
    for grad_output in (0.0, 0, np.zeros(c.loss_shape)):
        for array in c.run(grad_output=grad_output)[1]:
            assert not np.asarray(array, np.float64).any(), c.title


@on_one_isa
@over([row for row in ROWS if row.reductions])
def test_sums_are_of_the_unreduced_losses(row: Row) -> None:
    for dtype in DTYPES:
        c = call(row, row.shapes[1], dtype, "sum", 0, row.company())
        losses = c.value(reduction="none").astype(np.float64)
        # Unreduced losses are rounded to float32, sums need not be.
        bound = (1e-7 if dtype != "float64" else 1e-14) * np.abs(losses).sum()
        assert abs(c.value() - math.fsum(losses.reshape(-1))) <= bound, c.title


@over([row for row in ROWS if row.reductions and not row.label])
def test_default_reduction(row: Row) -> None:
    expected = "mean"
    if row.name.endswith("_penalty") and row.name != "kl_penalty":
        expected = "sum"
    if row.name.endswith(("log_probs", "entropy")) and "cross" not in row.name:
        expected = "none"
    assert row.parameters["reduction"].default == expected
    c = call(row, row.shapes[0], "float32", expected)
    without = replace(c, row=replace(row, reductions=()))
    assert bits(without.value()) == bits(c.value())


# Derivatives without the reference, which could share a mistake with the kernels


def small_shape(row: Row) -> Shape:
    return (2, 3, 4) if row.loss_axes == 2 else (5, 4)


def difference(c: Call, name: str, index: tuple[int, ...], step: float) -> tuple[float, float, float]:
    """The quotients of the scalar whose gradient a call returns, and of the gradient; the size of the scalar.

    Differences of four points are off by the step's fourth power, over 30, times a fifth derivative, and by
    the rounding of the values over the step. What does not change cancels exactly.
    """
    upstream = np.where(np.isnan(c.options.get("grad_output", 1.0)), 0.0, c.options.get("grad_output", 1.0))
    values, slopes = [], []
    for steps in (-2, -1, 1, 2):
        moved = np.array(c[name])
        moved[index] += steps * step
        loss, derivatives = c.run(**{name: moved})
        values.append(np.where(upstream == 0.0, 0.0, loss) * upstream)
        slopes.append(derivatives[0][index] if c.row.hessian else 0.0)
    (a, b, d, e), (f, g, h, i) = values, slopes
    moved_by = np.asarray(a - 8.0 * b + 8.0 * d - e)
    size = float(np.abs(np.asarray(a)[moved_by != 0.0]).sum()) if np.ndim(a) else abs(float(a))
    quotient = math.fsum(moved_by.reshape(-1)) / (12.0 * step)
    return quotient, (f - 8.0 * g + 8.0 * h - i) / (12.0 * step), size


def check_differences(c: Call, every: int = 1, first: int = 0) -> int:
    """Compare the derivatives by the elements that have room, one in some; return how many these are."""
    _, derivatives = c.run()
    relative, absolute = c.row.quotients
    compared = 0
    for name, grad in zip(c.row.gradients, derivatives, strict=False):
        room = np.broadcast_to(c.row.room(c, name), grad.shape)
        for index in itertools.islice(np.ndindex(grad.shape), first % every, None, every):
            step = STEP * min(1.0, float(room[index]))
            if step == 0.0 or (
                grad.shape[: c.counts.ndim] == c.counts.shape and not c.counts[index[: c.counts.ndim]]
            ):
                continue
            compared += 1
            quotient, of_gradient, size = difference(c, name, index, step)
            bound = absolute + 2e-14 * size / step
            assert abs(grad[index] - quotient) <= relative * abs(quotient) + bound, (
                f"{c.title} {name} {index}: {grad[index]!r}, but the quotient is {quotient!r}"
            )
            if c.row.hessian:
                bound = absolute + 2e-14 * abs(grad[index]) / step
                found = derivatives[-1][index]
                assert abs(found - of_gradient) <= relative * abs(of_gradient) + bound, (
                    f"{c.title} hessian {index}: {found!r}, but the quotient is {of_gradient!r}"
                )
    return compared


# The gradient of cispo takes its ratio for a constant: see test_policy.py.
SMOOTH = [row for row in LOSSES if "cispo" not in row.fixed.values()]


@over_product
@over(SMOOTH)
def test_central_differences(row: Row, product: bool) -> None:
    """By a third of the elements, others with each reduction and each set of options."""
    compared, shape, last, every = 0, small_shape(row), len(row.sets) - 1, 1 if product else 3
    for place, reduction in enumerate(row.reductions):
        for number in range(len(row.sets)) if reduction == row.reductions[-1] else (0,):
            c = call(row, shape, "float64", reduction, number, seed=3)
            compared += check_differences(c, every, place + number)
        kind = upstreams(row, reduction)[-1]
        for number in {0, last}:
            c = call(row, shape, "float64", reduction, number, row.company(), kind, seed=4)
            compared += check_differences(c, every, place + number)
    assert compared > 10


@full
@over(SMOOTH)
def test_central_differences_of_every_option_with_every_other(row: Row) -> None:
    reduction = row.reductions[-1]
    kind = upstreams(row, reduction)[-1]
    for number in range(len(row.sets)):
        for company in row.companies():
            c = call(row, small_shape(row), "float64", reduction, number, company, kind, seed=5)
            check_differences(c)


# NaN


# Of log-probabilities only that of the target is read.
READ_ALL = [
    row for row in ROWS if row.local and row.returns == "loss" and row.reductions and row.name != "nll_loss"
]


@on_one_isa
@over(READ_ALL)
@each("dtype", DTYPES)
def test_nan_stays_where_it_is(row: Row, dtype: str) -> None:
    """In any argument, even behind a comparison, a bound or a factor of 0: the other rows keep their bits."""
    weights = tuple(o.name for o in row.extras if o.argument in ("weight", "sample_weight") and not o.label)
    for number, options in enumerate(row.sets):
        if "sequence" in options.values() or (row.loss_axes and 0 < number < len(row.sets) - 1):
            continue
        c = call(row, row.shapes[0], dtype, "none", number, weights if number % 2 else (), seed=5)
        loss, derivatives = c.run()
        for name in row.floats:
            if name in row.shared or (name == "old_values" and row.fixed.get("clip", 0.2) is None):
                continue
            if {"reference_free"} & {k for k, v in c.options.items() if v is True} and name.startswith("ref"):
                continue
            for flat in {0, c[name].size // 2, c[name].size - 1}:
                check_nan(c, name, np.unravel_index(flat, c[name].shape), loss, derivatives)


def check_nan(c: Call, name: str, where: Any, loss: Array, derivatives: tuple[Any, ...]) -> None:
    bad = np.array(c[name])
    bad[where] = NAN
    title = f"{c.title} {name} {where}"
    found, moved = c.run(**{name: bad})
    hit = np.zeros(c.loss_shape, bool)
    hit[where[: hit.ndim]] = True
    assert np.array_equal(np.isnan(found), hit), title
    assert bits(found[~hit]) == bits(loss[~hit]), title
    assert bits(c.value(**{name: bad})) == bits(found), title
    for field, before, after in zip(c.row.derivatives, derivatives, moved, strict=True):
        if field in c.row.shared:
            assert np.isnan(after.astype(np.float64)).all(), title
            continue
        is_nan = np.isnan(after.astype(np.float64))
        assert not is_nan[~hit].any(), title
        if c.row.same_bits:
            assert bits(after[~hit]) == bits(before[~hit]), title
        # The gradient of another argument may be a number where it does not depend on this one.
        if field in (name, "hessian") or len(c.row.gradients) == 1:
            assert is_nan[hit].any(), title
            if field == name:
                assert is_nan[where], title
    for reduction in ("sum", "mean"):
        assert math.isnan(c.value(reduction=reduction, **{name: bad})), title


# What is not read


def mask_options(row: Row) -> list[str]:
    return [o.name for o in row.extras if o.argument in ("mask", "lengths", "ignore_index")]


@on_one_isa
@over(MASKED)
def test_what_does_not_count_changes_nothing(row: Row) -> None:
    for dtype in ("float32", "float64", HALF):
        for name in mask_options(row):
            for reduction in ("mean", "none"):
                kind = upstreams(row, reduction)[-1]
                number = 0 if reduction == "mean" else len(row.sets) - 1
                c = call(row, row.shapes[0], dtype, reduction, number, (name,), kind, seed=1)
                assert not c.counts.all() and c.counts.any()
                want = c.check()
                read = {k: (a, spread_counts(c, a)) for k, a in read_by_row(c)}
                for value in (NAN, INF, -INF, 1e30, 0.0):
                    with np.errstate(over="ignore"):
                        given = {k: np.where(ok, a, a.dtype.type(value)) for k, (a, ok) in read.items()}
                    assert bits(c.run(**given)) == bits(want), f"{c.title} {value}"


def spread_counts(c: Call, array: Array) -> Array:
    """Which elements of an array with the rows in front count."""
    counts = c.counts if array.ndim >= c.counts.ndim else c.counts.any(axis=-1)
    return counts.reshape(counts.shape + (1,) * (array.ndim - counts.ndim))


def read_by_row(c: Call) -> list[tuple[str, Array]]:
    return [(k, a) for k, a in c.arguments.items() if k in c.row.floats and k not in c.row.shared]


@on_one_isa
@over(MASKED)
@each("dtype", DTYPES)
def test_nothing_counts(row: Row, dtype: str) -> None:
    """Not even one row: the mean is NaN where indices are ignored, 0 under a mask; the gradient is 0."""
    for shape in (*row.shapes[:2], *row.empty):
        base = call(row, shape, dtype)
        given = {k: np.full_like(a, NAN) for k, a in read_by_row(base)}
        rows = base["target"].shape if "target" in row.arrays else base.loss_shape
        if "ignore_index" in {o.argument for o in row.extras}:
            choices: list[dict[str, Any]] = [{"target": np.full(rows, -100)}]
        else:
            choices = [{"mask": np.zeros(rows, kind)} for kind in (bool, int, np.float32)]
        if "lengths" in row.parameters:
            choices.append({"lengths": np.zeros(rows[:-1], int)})
        for choice in choices:
            for reduction in row.reductions:
                c = base.with_(reduction=reduction, **given, **choice)
                loss, derivatives = c.run()
                for value in (loss, c.value(), c.expected[0]):
                    assert np.shape(value) == (c.loss_shape if reduction == "none" else ()), c.title
                    # (A sequence without tokens has a log-probability, of 0.)
                    no_mean = math.prod(c.loss_shape) == 0 if row.loss_axes == 2 else "target" in choice
                    if reduction == "mean" and no_mean:
                        assert math.isnan(value), c.title
                    else:
                        assert not np.any(value) and not np.signbit(value).any(), c.title
                for array in derivatives:
                    assert array.dtype == dtype_named(dtype)
                    assert_within(array, np.zeros(array.shape), 0.0, c.title)
                total = c.buffers(3.25)
                c.run(out=c.out(*total), accumulate=True)
                assert all((np.asarray(a, np.float64) == 3.25).all() for a in total), c.title


@over([row for row in MASKED if row.local and row.same_bits])
def test_rows_that_count_are_what_they_are_without_the_others(row: Row) -> None:
    """To the bit, in the shape of a list of rows."""
    for dtype in ("float32", "float64"):
        c = call(row, row.shapes[0], dtype, "none", 0, tuple(mask_options(row)[:1]), "array", seed=2)
        if c.counts.shape != c.loss_shape or row.name == "grpo_loss":
            continue
        some = {k: a[c.counts] for k, a in c.arguments.items()}
        alone = c.with_(**some, mask=None, ignore_index=None, grad_output=c["grad_output"][c.counts])
        loss, derivatives = c.run()
        assert bits(loss[c.counts], [a[c.counts] for a in derivatives]) == alone.bits(), c.title
        assert not loss[~c.counts].any()
        assert c.value(reduction="mean") == pytest.approx(alone.value(reduction="mean"), rel=1e-14), c.title


@over([row for row in LOSSES if "mask" in row.parameters])
def test_a_full_mask_is_none(row: Row) -> None:
    for dtype in DTYPES:
        for reduction in row.reductions:
            c = call(row, row.shapes[0], dtype, reduction, seed=1)
            for kind in (bool, int, np.float32):
                ones = np.ones(c.counts.shape if "target" not in row.arrays else c["target"].shape, kind)
                masked = c.with_(mask=ones).run()
                c.check_result(masked)
                if reduction == "none":
                    assert bits(masked[0]) == bits(c.value()), c.title


# The same bits


def check_threads(c: Call, *numbers: int) -> None:
    one, *others = (bits(c.run(num_threads=n), c.value(num_threads=n)) for n in numbers)
    assert all(other == one for other in others), c.title


@on_one_isa
@over(SHARED_OUT)
def test_any_number_of_threads(row: Row) -> None:
    """The work is worth several threads, and its end is in the middle of a block."""
    for number, shape in enumerate(row.large):
        calls = list(plain_and_all(row, shape, "float32" if number % 2 == 0 else "float64"))
        if number == 0 and len(calls) > 1:
            calls[0] = call(row, shape, HALF, row.reductions[-1])
        for c in calls:
            assert math.prod(shape) >= 10_000
            check_threads(c, 1, 3)
    call.cache_clear()


@full
@on_one_isa
@over_dtypes
@over(SHARED_OUT)
def test_any_number_of_threads_of_every_type(row: Row, dtype: str) -> None:
    for shape in row.large:
        for c in plain_and_all(row, shape, dtype):
            check_threads(c, 1, 2, 3, 7)
    call.cache_clear()


def some_rows(c: Call, part: Any) -> Call:
    """The call of some of the rows."""
    shape = c.loss_shape[:1]

    def pick(name: str, a: Any) -> Any:
        is_row_by_row = (
            isinstance(a, np.ndarray) and a.shape[:1] == shape and name not in (*c.row.shared, "weight")
        )
        is_weight = name == "weight" and a.shape in (c.shape, c.shape[:-1])
        return a[part] if is_row_by_row or is_weight else a

    return c.with_(**{k: pick(k, v) for k, v in (*c.arguments.items(), *c.options.items())})


PARTS = (slice(0, 16), slice(1, 17), slice(5, 70), slice(None, None, -1), slice(0, 75, 7), slice(8, 9))
IN_COMPANY = [row for row in ROWS if row.local and row.same_bits and row.returns in ("loss", "array")]


@on_one_isa
@over_product
@over(IN_COMPANY)
def test_any_batch(row: Row, product: bool) -> None:
    """A row has the same bits wherever it stands; a few elements those of many."""
    for dtype in DTYPES:
        for classes in (5, 64, 65, 4500) if row.loss_axes or row.returns == "array" else (1,):
            shape = (75, *([2] if row.loss_axes == 2 else []), classes)
            for c in (call(row, shape, dtype, "none"), with_all(row, shape, dtype)):
                loss, derivatives = c.run()
                ends = range(1, 71) if product else range(1 + DTYPES.index(dtype), 71, 3)
                parts = PARTS if row.loss_axes else (*PARTS, *(slice(0, n) for n in ends))
                if classes > 100 and dtype != "float32":
                    continue
                for part in parts if classes < 100 else PARTS[:3]:
                    want = bits([loss[part] if loss is not None else None, *(a[part] for a in derivatives)])
                    assert some_rows(c, part).bits() == want, f"{c.title} {part}"


@on_one_isa
@over([row for row in ROWS if row.same_bits])
def test_any_alignment(row: Row) -> None:
    """x[1:], x[2:], ...: other lanes of the vectors, other elements left over at the end."""
    for dtype in DTYPES:
        for classes in (5, 65, 4500) if row.loss_axes else (1, 300):
            shape = (18, *([2] if row.loss_axes == 2 else []), classes)
            c = with_all(row, shape, dtype) if row.reductions else call(row, shape, dtype, "none")
            expected = c.run()
            for offset in range(1, 18) if classes < 1000 and dtype == "float32" else (1, 3, 8, 17):
                moved = c.moved(lambda a, k=offset: shifted(a, k))
                if not row.gradients:
                    assert bits(moved.value()) == bits(expected[0]), c.title
                    continue
                out = tuple(shifted(a, 18 - offset) for a in c.buffers(NAN))
                assert bits(moved.run(out=c.out(*out))) == bits(expected), f"{c.title} {offset}"


# PyTorch


def as_tensors(torch: Any, c: Call) -> dict[str, Any]:
    """In float64, what does not count as 0: torch multiplies it with 0."""
    found = {}
    for name, a in c.arguments.items():
        is_row_by_row = name not in c.row.shared and a.shape[: c.counts.ndim] == c.counts.shape
        if is_row_by_row and name in c.row.floats:
            a = np.where(spread_counts(c, a), a, 0.0)
        found[name] = torch.tensor(np.array(a), requires_grad=name in c.row.gradients)
    return found


@pytest.mark.filterwarnings("ignore:reduction")
@over([row for row in LOSSES if row.torch])
def test_as_torch(row: Row) -> None:
    torch = pytest.importorskip("torch")
    compared = 0
    for reduction in row.reductions:
        for number in range(len(row.sets)):
            for company in {(), *((o.name,) for o in row.extras), row.company()}:
                kind = upstreams(row, reduction)[-1]
                # Without a row of masked classes, of which torch makes NaN.
                shape = (2, 2, 9) if row.loss_axes == 2 else (4, 9)
                c = call(row, shape, "float64", reduction, number, company, kind, seed=6)
                compared += compare_with_torch(torch, c)
    assert compared or row.name == "linear_cross_entropy"


def compare_with_torch(torch: Any, c: Call) -> int:
    """Compare kernels and reference; return how many calls torch has."""
    tensors = as_tensors(torch, c)
    options = {k: v for k, v in c.options.items() if k != "grad_output"}
    given = {k: torch.tensor(np.array(v)) if np.ndim(v) else v for k, v in options.items()}
    assert c.row.torch is not None
    theirs = c.row.torch(torch, tensors, given, c.reduction)
    if theirs is None:
        return 0
    upstream = np.nan_to_num(np.asarray(c.options["grad_output"], np.float64))
    (theirs * torch.tensor(upstream)).sum().backward()
    for loss, derivatives in (c.run(), c.expected):
        exact = theirs.detach().numpy()
        # Rows shifted by 1e4 have fewer digits in torch.
        assert_within(loss, exact, 1e-10 * np.abs(exact) + 1e-12 * max(largest(exact), 100.0), c.title)
        for name, grad in zip(c.row.gradients, derivatives, strict=False):
            if tensors[name].grad is None:
                continue
            exact = tensors[name].grad.numpy()
            # The 1e-12 that torch divides by at least is that of float32.
            relative = 5e-9 if c.row.name == "binary_cross_entropy" else 1e-9
            bound = relative * np.abs(exact) + 1e-12 * max(largest(exact), 10.0)
            assert_within(grad, exact, bound, f"{c.title} {name}")
    return 1
