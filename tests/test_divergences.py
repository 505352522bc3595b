"""Of kl_div and the divergences of rows of logits alone: by hand, equal rows, rows far away, infinities."""

import itertools
import math
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from helpers import DTYPES, INF, NAN, Array, assert_within, bits, is_half, over_dtypes, over_modules
from registry import Call, Row, call, of_values, with_all
from rows.divergences import BETAS, FIELDS, JS, KL, OF_BETA, PLAIN, TV, pair, weight
from rows.elementwise import KL_DIV

import fastloss
from fastloss import reference

pytestmark = pytest.mark.usefixtures("one_isa")

CLASSES = (1, 2, 3, 10, 64, 65, 1000, 5000)


def over(dtypes: Any, *rows: Row) -> pytest.MarkDecorator:
    params = [pytest.param(row, dtype, id=f"{row}-{dtype}") for row, dtype in itertools.product(rows, dtypes)]
    return pytest.mark.parametrize(("row", "dtype"), params)


over_wide = over(["float32", "float64"], *PLAIN)
over_every = over(DTYPES, KL, *OF_BETA, TV)
over_rows = pytest.mark.parametrize("row", PLAIN, ids=str)


def weight_of(row: Row) -> float:
    """The beta that is meant."""
    return weight(Call(row, "float64", "mean", {}))


def check(c: Call) -> None:
    """As of any call, and that no value is negative; alone the gradient of the student is as near."""
    loss, _ = c.check()
    assert not np.signbit(np.asarray(loss)[~np.isnan(loss)]).any(), f"{c.title} negative value"
    alone, grad = student_alone(c)
    assert bits(alone) == bits(loss), c.title
    c.check_derivative("student_logits", grad)


def student_alone(c: Call) -> Any:
    """The call without the gradient of the teacher."""
    options = {**c.row.fixed, **c.options, "teacher_grad": False, "return_grad": True}
    return getattr(fastloss, c.row.name)(*c.arguments.values(), reduction=c.reduction, **options)


@over_rows
def test_reference_has_every_digit(row: Row) -> None:
    """Also of distributions that are nearly equal."""
    mpmath = pytest.importorskip("mpmath")
    rng = np.random.default_rng(0)
    for spread, noise, digits in ((1, 1, 1e-13), (30, 30, 1e-13), (100, 100, 1e-13), (2, 1e-4, 1e-10)):
        teacher = spread * rng.standard_normal(20) + 1e3
        student = teacher + noise * rng.standard_normal(20)
        with mpmath.workdps(60):
            p, q = (
                [e / mpmath.fsum(exps) for e in exps]
                for exps in ([mpmath.exp(mpmath.mpf(float(a)) / 2) for a in x] for x in (teacher, student))
            )

            def kl(a: list[Any], b: list[Any]) -> Any:
                log = mpmath.log
                return mpmath.fsum(x * log(x / y) for x, y in zip(a, b, strict=True))

            beta = mpmath.mpf(weight_of(row))
            m = [beta * x + (1 - beta) * y for x, y in zip(p, q, strict=True)]
            if row.name == TV.name:
                exact = mpmath.fsum(abs(x - y) for x, y in zip(p, q, strict=True)) / 2
            else:
                exact = kl(p, q) if row.name == KL.name else beta * kl(p, m) + (1 - beta) * kl(q, m)
        c = of_values(row, student, teacher, reduction="mean", temperature=2.0)
        value = c.value(module=reference)
        assert value == pytest.approx(float(exact), rel=digits, abs=0.0), (spread, noise)


def other_way_round(c: Call) -> tuple[Any, tuple[Any, ...]]:
    """The result, its gradients in the order of the call, with student and teacher exchanged."""
    exchanged = dict(zip(FIELDS, (c[name] for name in FIELDS[::-1]), strict=True))
    value, (of_teacher, of_student) = c.run(**exchanged)
    return value, (of_student, of_teacher)


@over_dtypes
def test_a_beta_of_0_or_1_is_a_kl_divergence(dtype: str) -> None:
    for shape, reduction in itertools.product(((2, 7, 9), (3, 4, 90)), ("mean", "sum", "none")):
        c = with_all(KL, shape, dtype, reduction)
        c.check_result(Call(OF_BETA[0], dtype, reduction, c.arguments, c.options).run())
        c.check_result(other_way_round(Call(OF_BETA[-1], dtype, reduction, c.arguments, c.options)))


@over(DTYPES, JS, TV)
def test_symmetry(row: Row, dtype: str) -> None:
    for shape in ((2, 7, 9), (3, 4, 90)):
        for c in (call(row, shape, dtype), with_all(row, shape, dtype)):
            c.check_result(other_way_round(c))


@over_wide
def test_a_common_shift_changes_nothing(row: Row, dtype: str) -> None:
    for classes in (10, 70):
        c = with_all(row, (2, 4, classes), dtype)
        # Multiples of 2**-7 between -8 and 8: with 1e4 beside them they are exact in float32.
        x, y = np.rint(np.random.default_rng(classes).uniform(-8, 8, (2, *c.shape)) * 128) / 128
        level = c.with_(student_logits=x.astype(dtype), teacher_logits=y.astype(dtype))
        far = {"student_logits": (x + 1e4).astype(dtype), "teacher_logits": (y - 1e4).astype(dtype)}
        level.check_result(level.run(**far))


def test_through_log_probabilities() -> None:
    c = call(KL, (3, 4, 30), "float64", "none")
    student, teacher = c["student_logits"][:, :3], c["teacher_logits"][:, :3]
    log_q, target = fastloss.log_softmax(student), fastloss.softmax(teacher)
    by_element = fastloss.kl_div(log_q, target, reduction="none")
    both = by_element.sum(axis=-1), fastloss.kl_div_with_logits(student, teacher, reduction="none")
    np.testing.assert_allclose(*both, rtol=1e-10, atol=1e-11)


# Distributions that are equal, or nearly so


@over_every
def test_equal_distributions(row: Row, dtype: str) -> None:
    """To the bit: nothing but 0, and none of them negative."""
    for classes, temperature in itertools.product(CLASSES, (1.0, 0.5, 4.0)):
        x = call(row, (10 if classes < 1000 else 5, classes), dtype)["student_logits"]
        for other in (x, x.copy(), np.asfortranarray(x), x.repeat(2, axis=-1)[:, ::2]):
            arguments = {"student_logits": x, "teacher_logits": other}
            c = Call(row, dtype, "none", arguments, {"temperature": temperature})
            value, grads = c.run()
            for a in (value, c.value(), *grads, student_alone(c)[1]):
                as_double = a.astype(np.float64)
                assert not as_double.any(), c.title
                assert not np.signbit(as_double).any(), c.title
        assert c.value(reduction="mean") == c.value(reduction="sum") == 0.0


@lru_cache(maxsize=1024)
def nearly_equal(row: Row, dtype: str, c: int, noise: float) -> Call:
    rng = np.random.default_rng(c)
    teacher = pair(rng, (10 if c < 1000 else 5, c), {})[FIELDS[0]]
    return of_values(row, teacher + noise * rng.standard_normal(teacher.shape), teacher, dtype=dtype)


@over_every
def test_nearly_equal_distributions(row: Row, dtype: str) -> None:
    for c, noise in itertools.product(CLASSES, (1e-4, 1e-6)):
        p = nearly_equal(row, dtype, c, noise)
        check(p)
        assert (np.abs(p.value() - p.expected_losses) < 1e-6).all(), p.title
        if dtype == "float64" and row.name != TV.name:
            # Of the order of the noise squared: what is left of it is no rounding error.
            assert (p.expected_losses < 100 * noise**2).all()


@lru_cache(maxsize=1024)
def confident(row: Row, dtype: str, c: int, margin: float) -> Call:
    x, y = np.zeros((2, 4, c))
    x[[0, 1, 2], [0, 1, c - 1]] = y[[1, 2, 3], [1, 0, c - 1]] = margin
    return of_values(row, x, y, dtype=dtype)


@over_every
def test_confident_rows(row: Row, dtype: str) -> None:
    """Of one of the two, of both, which agree or do not."""
    for c, margin in itertools.product(CLASSES[1:], (12.0, 60.0)):
        check(confident(row, dtype, c, margin))


# Rows far away, rows that are not numbers


@lru_cache(maxsize=1024)
def wide(row: Row, dtype: str, c: int, shift: float, temperature: float) -> Call:
    x, y = 100.0 * np.random.default_rng(c).standard_normal((2, 10 if c < 1000 else 3, c))
    return of_values(row, x + shift, y - shift, dtype=dtype, temperature=temperature)


@over_every
def test_wide_logits(row: Row, dtype: str) -> None:
    for c in (*CLASSES[1:], 33):
        for shift, temperature in ((0.0, 1.0), (1e4, 1.0), (-1e4, 2.0)):
            check(wide(row, dtype, c, shift, temperature))


ROWS = "nan 1 2, 0 1 nan, 0 inf 2, inf inf 2, inf 0 -inf, -inf -inf -inf, -inf nan -inf"
ROWS += ", 1 .5 .25, 1 -inf .5, -inf .5 1, -inf 3 -inf, -1 -inf -inf"
GOOD, FAR = "1 .5 .25", "6e4 -6e4 0"


@lru_cache(maxsize=1024)
def odd_rows(row: Row, dtype: str, c: int, plain: bool) -> tuple[Call, Call, Array]:
    """Pairs of rows of all kinds with a good one before each, good ones alone, and which are not numbers."""
    rows = ROWS.split(", ")
    pairs = list(itertools.product(rows, repeat=2)) if c < 100 else [(GOOD, other) for other in rows]
    pairs += [(other, GOOD) for other in rows] * (c >= 100) + [(FAR, GOOD), (GOOD, FAR), (FAR, FAR)]
    both = np.full((2, 2 * len(pairs), c), -3.0 if c < 100 else -9.0)
    both[0, :, :3], both[1, :, :3] = [0.25, -1.0, 2.0], [1.0, 0.5, -0.75]
    good, bad = both.copy(), np.zeros(2 * len(pairs), bool)
    for i, given in enumerate(pairs):
        for x, numbers in zip(both[:, 2 * i + 1], given, strict=True):
            values = np.array(numbers.split(), float)
            x[...] = -INF if (values == -INF).all() else -3.0 if c < 100 else -9.0
            x[[0, c // 2, c - 1]] = values
            bad[2 * i + 1] |= not np.isfinite(values.max())
    options: dict[str, Any] = {}
    if not plain:
        options = {"temperature": 2.0, "grad_output": np.linspace(0.5, 1.5, len(bad))}
    return of_values(row, *both, dtype=dtype, **options), of_values(row, *good, dtype=dtype, **options), bad


@over_every
def test_rows_with_infinities_or_nan(row: Row, dtype: str) -> None:
    for c, plain in itertools.product((3, 10, 64, 65, 2100), (True, False)):
        p, good, bad = odd_rows(row, dtype, c, plain)
        check(p)
        value, grads = p.run()
        assert (np.isnan(value) == bad).all(), p.title
        # Their neighbours are what they are without them.
        want, of_good = good.run()
        assert bits(value[::2]) == bits(want[::2]), p.title
        for grad, other in zip(grads, of_good, strict=True):
            assert np.isnan(grad[bad].astype(np.float64)).all(), p.title
            assert bits(grad[::2]) == bits(other[::2]), p.title
        # The other gradients go on though the sum is NaN.
        total, of_sum = p.run(reduction="sum", grad_output=None)
        assert math.isnan(total)
        if plain:
            assert bits(of_sum) == bits(grads), p.title


def test_infinite_values() -> None:
    """Where the student rules out what the teacher does not, and only there."""
    for c in (4, 70):
        x, y = np.zeros((2, 4, c))
        x[1, 1], y[2, 2], x[3, 3], y[3, 3] = -INF, -INF, -INF, -INF
        values = fastloss.kl_div_with_logits(x, y, reduction="none")
        assert (values == INF).tolist() == [False, True, False, False]
        assert fastloss.kl_div_with_logits(x, y) == INF
        _, grad = fastloss.kl_div_with_logits(x, y, reduction="none", return_grad=True)
        exact = np.full(c, 1 / (c - 1) - 1 / c)
        exact[1] = 0.0
        np.testing.assert_allclose(grad[1], exact, rtol=1e-12)
        values = fastloss.js_div_with_logits(x, y, reduction="none", beta=1.0)
        assert (values == INF).tolist() == [False, False, True, False]
        for beta in BETAS[1:-1]:
            assert np.isfinite(fastloss.js_div_with_logits(x, y, reduction="none", beta=beta)).all()
        np.testing.assert_allclose(fastloss.tv_distance_with_logits(x, y, reduction="sum"), 2 / c)
    # Nothing in common: as far apart as can be.
    x, y = np.array([[0.0, 0.0, -INF, -INF]]), np.array([[-INF, -INF, 0.0, 0.0]])
    assert fastloss.js_div_with_logits(x, y) == pytest.approx(math.log(2.0), rel=1e-14)
    assert fastloss.tv_distance_with_logits(x, y) == 1.0


def in_company(x: Array, first: int, rng: np.random.Generator) -> Array:
    """The rows among rows of any numbers, the first of them at `first`."""
    among: Array = rng.choice([NAN, INF, -INF, 3e4, 0.0, 1.0], (23, x.shape[1])).astype(x.dtype)
    among[first : first + len(x)] = x
    return among


@over_every
def test_a_row_depends_on_itself_alone(row: Row, dtype: str) -> None:
    """Whatever stands in the other lanes of its group, and in whichever lane it stands; under any stride."""
    rng = np.random.default_rng(0)
    for c in (2, 3, 4, 5, 7, 10, 31, 64):
        kinds = pair(rng, (5, c), {})
        p = of_values(row, *kinds.values(), dtype=dtype, temperature=2.0)
        x, y = p[FIELDS[0]], p[FIELDS[1]]
        alone = [p.with_(student_logits=x[i : i + 1], teacher_logits=y[i : i + 1]).run() for i in range(5)]
        for first in range(16):
            among = {name: in_company(p[name], first, rng) for name in FIELDS}
            for lay in (np.asarray, np.asfortranarray):
                losses, grads = p.run(**{name: lay(a) for name, a in among.items()})
                for place, (loss, of_row) in enumerate(alone, first):
                    found = losses[place], *(grad[place] for grad in grads)
                    assert bits(found) == bits(loss[0], *(wanted[0] for wanted in of_row)), p.title


# kl_div: of log-probabilities, an element at a time


@over_modules
def test_kl_div_of_numbers(module: Any) -> None:
    value, grad = module.kl_div(-1.0, 0.5, return_grad=True)
    assert value == pytest.approx(0.5 - math.log(2.0) / 2, rel=1e-14)
    assert (grad.shape, float(grad)) == ((), -0.5)


@pytest.mark.parametrize("log_target", [False, True])
@over_dtypes
def test_kl_div_of_what_is_no_probability(dtype: str, log_target: bool) -> None:
    """Each element on its own, whatever stands beside it."""
    x = [-1.0, NAN, -INF, -INF, NAN, 0.0, -2.0, -3.0, -INF]
    t = [0.5, 0.5, 0.0, 1.0, 0.0, -0.5, NAN, 0.0, -0.0]
    value = [math.log(0.5) / 2 + 0.5, NAN, 0.0, INF, NAN, NAN, NAN, 0.0, 0.0]
    grad = [-0.5, NAN, 0.0, -1.0, NAN, NAN, NAN, 0.0, 0.0]
    if log_target:
        t = [-INF if v == 0.0 else math.log(v) if v > 0.0 else NAN for v in t]
    for repeats in (1, 40):
        c = of_values(KL_DIV, np.tile(x, repeats), np.tile(t, repeats), dtype=dtype, log_target=log_target)
        values, (grads,) = c.check()
        tolerance = 0.01 if is_half(dtype) else 1e-6
        assert_within(values, np.tile(value, repeats), tolerance, c.title)
        assert_within(grads, np.tile(grad, repeats), tolerance, c.title)
        assert math.isnan(c.value(reduction="sum"))


def test_batchmean_needs_a_batch() -> None:
    with pytest.raises(ValueError, match="batchmean"):
        fastloss.kl_div(-1.0, 0.5, reduction="batchmean")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_temperatures_that_are_nearly_nothing(dtype: str) -> None:
    """What is left is which class is the largest."""
    x, t = np.array([[3.0, 1.0], [1.0, 3.0]], dtype), np.array([[5.0, 1.0], [1.0, 2.0]], dtype)
    for row, temperature in itertools.product((KL, JS, TV), (1e-50, 1e-320)):
        function = getattr(fastloss, row.name)
        assert (function(x, t, temperature=temperature, reduction="none") == 0.0).all()
    assert fastloss.tv_distance_with_logits(x, t[::-1].copy(), temperature=1e-320) == 1.0


@over_rows
def test_one_row_under_a_mask(row: Row) -> None:
    for classes in (6, 70):
        c = call(row, (classes,), "float32", "none")
        assert c.bits(mask=1) == c.bits()
