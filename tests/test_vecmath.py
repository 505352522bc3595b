"""The elementary functions: the errors stated in src/vecmath.h hold, on every instruction set."""

import math
import os
from functools import cache

import mpmath
import numpy as np
import pytest
from helpers import INF, NAN
from numpy.testing import assert_allclose, assert_array_equal

from fastloss import _kernels

pytestmark = pytest.mark.usefixtures("isa")

EXHAUSTIVE = os.environ.get("FASTLOSS_EXHAUSTIVE") == "1"
# Below these the exponential leaves the normal range of its type, and is 0.
LOWEST_F32 = np.float32(-87.33)
LOWEST_F64 = -708.39
DIGITS = 60

# Largest errors that src/vecmath.h states: in float relative (but for log1p_near_f32), in double in units in
# the last place. The baseline has no fused multiply-add.
EXP_F32 = 2.1e-7
POWER_F32 = {"avx2": 9e-8, "avx512": 9e-8, "baseline": 1.6e-7}
# With a softcap; of a product with its slope.
CAPPED_F32 = {"avx2": 1.1e-7, "avx512": 1.1e-7, "baseline": 1.6e-7}
CAPPED_PRODUCT_F32 = {"avx2": 2.2e-7, "avx512": 2.2e-7, "baseline": 2.8e-7}
LOG1P_NEAR_F32 = 1.0
EXP_F64 = {"avx2": 1.7, "avx512": 1.7, "baseline": 2.0}
LOG1P_F64 = 3.0
# Alone, and both from one exponential.
TANH_F64 = {"tanh_f64": 4.0, "bend_tanh_f64": 5.0}
SECH_SQUARED_F64 = {"sech_squared_f64": 5.0, "bend_slope_f64": 6.0}

has_long_double = pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="needs an 80-bit long double")


def apply(name, x):
    """An elementary function of the kernels in use."""
    x = np.ascontiguousarray(x, dtype=np.float32 if name.endswith("f32") else np.float64)
    out = np.full_like(x, 7.0)
    _kernels.vecmath(name, x, out)
    return out


def level_in_use():
    level = _kernels.use_level(0)
    _kernels.use_level(level)
    return _kernels.LEVELS[level]


def nonpositive_f32(step):
    """Float32 arrays: 0 and down to where exp_f32 is cut off, every step-th pattern of bits."""
    first, last = 0x80000000, int(LOWEST_F32.view(np.uint32))
    length = step << 22
    for start in range(first, last + 1, length):
        stop = min(start + length, last + 1)
        yield np.arange(start, stop, step, dtype=np.uint32).view(np.float32)


# Every 61st pattern (a prime, so that all low bits occur) is 18 million numbers.
@pytest.mark.parametrize("step", [1 if EXHAUSTIVE else 61])
def test_exp_f32(step):
    count = 0
    for x in nonpositive_f32(step):
        error = np.abs(apply("exp_f32", x) / np.exp(x.astype(np.float64)) - 1.0)
        assert error.max() <= EXP_F32, (x[error.argmax()], error.max())
        count += x.size
    # 1.12e9 patterns in all, most of them tiny numbers.
    assert count * step > 1.1e9


def test_exp_f32_where_it_bends():
    """Not by bits but evenly: most patterns above are so small that their exponential is 1."""
    x = np.linspace(-87.33, 0.0, 4_000_001).astype(np.float32)
    error = np.abs(apply("exp_f32", x) / np.exp(x.astype(np.float64)) - 1.0)
    assert error.max() <= EXP_F32, (x[error.argmax()], error.max())


@pytest.mark.parametrize(
    ("name", "near", "temperature"), [("power_near_0_f32", 0.0, 1.0), ("power_near_1000_f32", 1000.0, 0.7)]
)
def test_power_f32(name, near, temperature):
    """From the cut to the headroom of 40; 0 below."""
    shift = round(near / temperature / math.log(2.0)) * math.log(2.0)
    z = np.linspace(shift - 86.6, shift + 45.0, 4_000_001)
    x = (z * temperature).astype(np.float32)
    actual, exact = apply(name, x), np.exp(x.astype(np.float64) / temperature - shift)
    error = np.abs(actual / exact - 1.0)
    assert error.max() <= POWER_F32[level_in_use()], (x[error.argmax()], error.max())
    below = np.array([(shift - 87.0) * temperature, -3e38, -INF], np.float32)
    assert_array_equal(apply(name, below), np.zeros(3, np.float32))
    assert math.isnan(apply(name, np.array([NAN]))[0])


# name, softcap, and the range of x: near and how far from it. Each of the three ways of src/softcap.h.
CAPPED = [
    ("capped_tenth", 0.1, 0.0, 1.0),
    ("capped_30", 30.0, 0.0, 12.0),
    ("capped_30", 30.0, 0.0, 400.0),
    ("capped_10000", 1e4, 0.0, 40.0),
    ("capped_10000_half", 1e4, 3000.0, 40.0),
    ("capped_10000_any", 1e4, 6000.0, 40.0),
]


@has_long_double
@pytest.mark.parametrize(("name", "cap", "near", "reach"), CAPPED)
def test_capped_f32(name, cap, near, reach):
    """About as exact as without a softcap; mpmath agrees with the long double."""
    level = level_in_use()
    x = np.linspace(near - reach, near + reach, 300_000).astype(np.float32)
    tanh = np.tanh(x.astype(np.longdouble) / cap)
    shift = np.rint(cap * math.tanh(near / cap) / math.log(2.0)) * np.log(np.longdouble(2.0))
    expected = np.exp(cap * tanh - shift)
    error = np.abs(apply(f"{name}_f32", x) / expected - 1.0)
    assert error.max() <= CAPPED_F32[level], (x[error.argmax()], error.max())
    product = expected / np.cosh(x.astype(np.longdouble) / cap) ** 2
    actual = apply(f"{name}_product_f32", x)
    counts = product > 1e-30
    error = np.abs(actual / np.where(counts, product, 1.0) - 1.0)[counts]
    assert error.max() <= CAPPED_PRODUCT_F32[level], error.max()
    assert np.all(actual[~counts] <= 1.1e-30)
    some = slice(None, None, 3_001)
    with mpmath.workdps(DIGITS):
        exact = [mpmath.exp(cap * mpmath.tanh(mpmath.mpf(float(v)) / cap) - shift.item()) for v in x[some]]
    assert_allclose(expected[some].astype(float), [float(v) for v in exact], rtol=1e-13)


def test_capped_f32_special_values():
    # A mixture in one strip: masked, infinite, NaN.
    x = np.array([-INF, INF, NAN, 3e38, -3e38, 0.0], np.float32)
    actual, product = apply("capped_tenth_f32", x), apply("capped_tenth_product_f32", x)
    assert_allclose(actual, [0, math.exp(0.1), NAN, math.exp(0.1), math.exp(-0.1), 1.0], rtol=1e-7)
    assert_allclose(product, [0, 0, NAN, 0, 0, 1.0], atol=1e-42)
    assert apply("capped_10000_f32", np.array([-3e38, -100.0]))[0] == 0.0


def test_log1p_near_f32():
    near = np.linspace(math.sqrt(0.5) - 1.0, math.sqrt(2.0) - 1.0, 4_000_001)
    tiny = np.ldexp(np.linspace(-1.0, 1.0, 4001), -30)
    x = np.concatenate([near, tiny[tiny != 0.0]]).astype(np.float32)
    exact = np.log1p(x.astype(np.float64))
    error = np.abs((apply("log1p_near_f32", x) - exact) / np.spacing(np.abs(exact).astype(np.float32)))
    assert error.max() <= LOG1P_NEAR_F32, (x[error.argmax()], error.max())


@pytest.mark.parametrize(
    ("name", "lowest", "smallest"), [("exp_f32", LOWEST_F32, 1.4e-45), ("exp_f64", LOWEST_F64, 5e-324)]
)
def test_exp_special_values(name, lowest, smallest):
    kind = np.float32 if name == "exp_f32" else np.float64
    huge = float(np.finfo(kind).max)
    below = float(np.nextafter(kind(lowest), kind(-INF)))
    x = np.array([0.0, -0.0, -smallest, -INF, -huge, 2.0 * lowest, below, NAN], kind)
    assert_array_equal(apply(name, x), np.array([1, 1, 1, 0, 0, 0, 0, NAN], kind))
    last = apply(name, np.array([lowest], kind))[0]
    assert last >= np.finfo(kind).smallest_normal
    # exp(-87.33) is 1.187e-38, and exp(-708.39) 2.25e-308: nothing under the smallest normal.
    assert last == pytest.approx(math.exp(lowest), rel=3e-6)


# In double


def random_nonpositive():
    rng = np.random.default_rng(1)
    near = -np.exp2(rng.uniform(-60.0, 0.0, 4000))
    far = rng.uniform(LOWEST_F64, 0.0, 12000)
    # Where the power of two changes: odd multiples of ln(2) / 2.
    bends = -(np.arange(1, 1001) - 0.5) * math.log(2.0)
    edges = np.array([LOWEST_F64, -1.0, -math.log(2.0), -5e-324, -1e-300])
    return np.concatenate([near, far, bends, np.nextafter(bends, 0.0), edges])


def random_positive(lowest_exponent, highest_exponent, count):
    rng = np.random.default_rng(2)
    return np.exp2(rng.uniform(lowest_exponent, highest_exponent, count))


def logarithmic():
    # Where the argument of the logarithm is halved: 1 + x = sqrt(2) 2^k.
    bends = math.sqrt(2.0) * np.exp2(np.arange(0.0, 60.0)) - 1.0
    return np.concatenate([
        random_positive(-60.0, 0.0, 6000), random_positive(0.0, 64.0, 6000),
        random_positive(64.0, 1000.0, 2000), random_positive(-1022.0, -60.0, 2000),
        bends, np.nextafter(bends, 0.0), np.nextafter(bends, INF),
        np.exp2(np.arange(-20.0, 60.0)), [1e-13, 9.4e-14, 1e6, 5e-324, 1.5e-323, 2e-308],
    ])  # fmt: skip


def of_both_signs():
    x = np.concatenate([random_positive(-60.0, 4.5, 8000), [5e-324, 1e-300, 0.5, 22.0, 300.0]])
    return np.concatenate([x, -x])


def around_0():
    limit = math.sqrt(300.0)
    even = np.random.default_rng(3).uniform(-limit, limit, 8000)
    return np.concatenate([even, random_positive(-60.0, 4.0, 4000)])


def sech_squared(x):
    return mpmath.sech(x) ** 2


EXACT = {
    "exp_f64": (random_nonpositive, mpmath.exp),
    "log1p_f64": (logarithmic, mpmath.log1p),
    **dict.fromkeys(TANH_F64, (of_both_signs, mpmath.tanh)),
    **dict.fromkeys(SECH_SQUARED_F64, (around_0, sech_squared)),
}


def largest_error(name):
    return {"exp_f64": EXP_F64[level_in_use()], "log1p_f64": LOG1P_F64, **TANH_F64, **SECH_SQUARED_F64}[name]


@cache
def exact(numbers, function):
    """Numbers, and values of an mpmath function: as float64, and the rest in units in their last place."""
    x = numbers()
    with mpmath.workdps(DIGITS):
        values = [function(mpmath.mpf(float(value))) for value in x]
        nearest = np.array([float(value) for value in values])
        units = np.spacing(np.abs(nearest))
        rest = [
            float((value - mpmath.mpf(float(n))) / mpmath.mpf(float(unit)))
            for value, n, unit in zip(values, nearest, units, strict=True)
        ]
    return x, nearest, np.array(rest)


@pytest.mark.parametrize("name", EXACT)
def test_exact_values(name):
    x, nearest, rest = exact(*EXACT[name])
    error = np.abs((apply(name, x) - nearest) / np.spacing(np.abs(nearest)) - rest)
    assert error.max() <= largest_error(name), x[error.argmax()]


EXP_ANY = [0.0, -1000.0, INF, -INF, NAN, 1000.0, -1e4, -0.0], [1.0, 0.0, INF, 0.0, NAN, INF, 0.0, 1.0]
LOG = [0.0, -0.0, 1.0, INF, -1.0, -INF, NAN], [-INF, -INF, 0.0, INF, NAN, NAN, NAN]
LOG1P = [0.0, -1.0, INF, -2.0, NAN], [0.0, -INF, INF, NAN, NAN]
TANH = [INF, -INF, 1.7e308, -1.7e308, 0.0, -0.0, NAN], [1.0, -1.0, 1.0, -1.0, 0.0, -0.0, NAN]
SPECIAL = {
    "log1p_f64": ([0.0, NAN], [0.0, NAN]),
    **dict.fromkeys(TANH_F64, TANH),
    **dict.fromkeys(SECH_SQUARED_F64, ([0.0, -0.0, INF, -INF, 1e300, NAN], [1.0, 1.0, 0.0, 0.0, 0.0, NAN])),
    **dict.fromkeys(("exp_any_f32", "exp_any_f64"), EXP_ANY),
    **dict.fromkeys(("log_f32", "log_f64"), LOG),
    **dict.fromkeys(("log1p_f32", "log1p_any_f64"), LOG1P),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_special_values(name):
    x, expected = SPECIAL[name]
    found = apply(name, x)
    assert_array_equal(found, expected)
    numbers = ~np.isnan(expected)
    assert_array_equal(np.signbit(found)[numbers], np.signbit(expected)[numbers])


# A million numbers in the range that matters.
DENSE = {
    "exp_f64": (lambda rng: rng.uniform(-40.0, 0.0, 1_000_000), np.exp),
    "log1p_f64": (lambda rng: np.exp2(rng.uniform(-8.0, 8.0, 1_000_000)), np.log1p),
    **dict.fromkeys(TANH_F64, (lambda rng: 3.0 * rng.standard_normal(1_000_000), np.tanh)),
    **dict.fromkeys(
        SECH_SQUARED_F64, (lambda rng: rng.uniform(-17.0, 17.0, 1_000_000), lambda x: 1.0 / np.cosh(x) ** 2)
    ),
}


@has_long_double
@pytest.mark.parametrize("name", DENSE)
def test_dense(name):
    """Against long double (a 2048th of an ulp)."""
    draw, function = DENSE[name]
    x = draw(np.random.default_rng(4))
    expected = function(x.astype(np.longdouble))
    error = np.abs(apply(name, x) - expected).astype(np.float64)
    # Long double brings a thousandth of an ulp of its own.
    error = error / np.spacing(np.abs(expected.astype(np.float64))) - 0.002
    assert error.max() <= largest_error(name), x[error.argmax()]


@pytest.mark.parametrize("name", ["exp_f32", *EXACT])
def test_vector_and_tail_give_the_same_bits(name):
    """A number comes out the same in the body of a loop, in its tail and alone."""
    rng = np.random.default_rng(5)
    x = -rng.exponential(10.0, 67)
    if name == "log1p_f64":
        x = -x
    whole = apply(name, x)
    for start in range(18):
        for stop in range(start + 1, 67):
            assert_array_equal(apply(name, x[start:stop]), whole[start:stop])


# Those of the elementwise losses: name, function, largest error in units in the last place, ranges.
GENERAL = [
    ("exp_any_f32", np.exp, 1.6, [(-87.3, 88.7), (-87.32, -86.0)]),
    ("expm1_f32", np.expm1, 2.5, [(-87.3, 0.0), (-1e-3, 0.0)]),
    ("log_f32", np.log, 1.5, [(1e-6, 4.0), (0.7, 1.5), (1.0, 3e38), (1e-45, 1e-37)]),
    ("log1p_f32", np.log1p, 2.5, [(-0.999, 4.0)]),
    ("log1p_f32", np.log1p, 2.0, [(-1e-3, 1e-3), (1.0, 3e38)]),
    ("log1p_unit_f32", np.log1p, 2.0, [(0.0, 1.0), (0.0, 1e-3)]),
    ("log_quotient_f32", np.log, 1.8, [(1e-37, 1.0), (0.5, 0.75), (0.999, 1.0), (1e-37, 1e-30)]),
    ("exp_down_f32", np.exp, 1.6, [(-87.32, 0.0), (-1e-3, 0.0)]),
    ("log1p_unit_f64", np.log1p, 2.0, [(0.0, 1.0), (0.0, 1e-3)]),
    ("exp_any_f64", np.exp, 2.0, [(-708.38, 709.7), (-708.38, -707.0)]),
    ("log_f64", np.log, 1.5, [(1e-6, 4.0), (1.0, 1e308), (5e-324, 1e-307)]),
    ("log_quotient_f64", np.log, 2.5, [(1e-300, 1.0), (0.5, 1.0)]),
    ("log1p_any_f64", np.log1p, 2.2, [(-0.999, 4.0)]),
    ("log1p_any_f64", np.log1p, 2.0, [(-1e-3, 1e-3)]),
]


@has_long_double
@pytest.mark.parametrize(
    ("name", "function", "bound", "interval"),
    [(name, *rest, interval) for name, *rest, intervals in GENERAL for interval in intervals],
)
def test_functions_of_any_argument(name, function, bound, interval):
    kind = np.float32 if name.endswith("f32") else np.float64
    x = np.random.default_rng(6).uniform(*interval, 300_000).astype(kind)
    expected = function(x.astype(np.longdouble))
    unit = np.spacing(np.abs(expected.astype(kind))).astype(np.longdouble)
    error = np.abs(apply(name, x) - expected) / unit - 0.002
    assert error.max() <= bound, (x[error.argmax()], error.max())


# Those of the focal loss, in double for results in float: name, function, range, largest relative error, and
# absolute error besides.
NEAR = [
    ("exp2_near_f64", np.exp2, (-1000.0, 1000.0), 2.6e-9, 0.0),
    ("log1p_near_f64", np.log1p, (0.0, 1.0), 5.4e-9, 0.0),
    ("log1p_near_f64", np.log1p, (0.0, 1e-3), 5.4e-9, 0.0),
    ("log2_near_f64", np.log2, (1e-300, 1.0), 1e-15, 2.4e-9),
    ("log2_near_f64", np.log2, (0.7, 1.0), 0.0, 2.4e-9),
]


@pytest.mark.parametrize(("name", "function", "interval", "relative", "absolute"), NEAR)
def test_functions_near_enough_for_float(name, function, interval, relative, absolute):
    x = np.random.default_rng(7).uniform(*interval, 1_000_000)
    expected = function(x)
    assert np.all(np.abs(apply(name, x) - expected) <= relative * np.abs(expected) + absolute)


@pytest.mark.parametrize("interval", [(-290.0, 295.0), (-4.0, 4.0), (-1e-3, 1e-3)])
def test_exponential_of_a_product(interval):
    """exp_rate_f32 is exp(0.3 x), where neither 0.3 nor the product is rounded to float."""
    x = np.random.default_rng(8).uniform(*interval, 1_000_000).astype(np.float32)
    expected = np.exp(0.3 * x.astype(np.float64))
    unit = np.spacing(expected.astype(np.float32)).astype(np.float64)
    error = np.abs(apply("exp_rate_f32", x) - expected) / unit
    assert error.max() <= 1.6, x[error.argmax()]


def test_unknown_name():
    with pytest.raises(ValueError, match="sinh_f64"):
        apply("sinh_f64", np.zeros(3))
