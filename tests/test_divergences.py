"""kl_div, and the divergences of two rows of logits: against the reference, and without it."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import Any

import cases
import numpy as np
import pytest
import test_errors as errors
from cases import REDUCTIONS, Array, Shape, assert_within, dtype_named, is_half, loss_dtype, ulp
from test_sequences import VIEWS

import fastloss
from fastloss import reference

pytestmark = pytest.mark.usefixtures("isa")

INF, NAN = math.inf, math.nan
CLASSES = (1, 2, 3, 10, 64, 65, 1000, 5000)
TEMPERATURES = (0.5, 2.0, 4.0)
BETAS = (0.0, 0.1, 0.5, 0.9, 1.0)
MASKS = ("bool", "int", "float")
FIELDS = ("student_logits", "teacher_logits")


@dataclass(frozen=True)
class Loss:
    """A divergence of logits; `beta` is None where it is not given."""

    name: str
    beta: float | None = None

    def __str__(self) -> str:
        return self.name.split("_")[0] + ("" if self.beta is None else f" {self.beta}")

    @property
    def options(self) -> dict[str, Any]:
        return {} if self.beta is None else {"beta": self.beta}

    @property
    def weight(self) -> float:
        """The beta that is meant: a KL divergence is a JS divergence of beta 0."""
        return 0.0 if self.name == KL.name else 0.5 if self.beta is None else self.beta


KL, JS, TV = Loss("kl_div_with_logits"), Loss("js_div_with_logits"), Loss("tv_distance_with_logits")
OF_BETA = tuple(Loss(JS.name, beta) for beta in BETAS)
LOSSES = (KL, JS, Loss(JS.name, 0.9), TV)


def over(dtypes: Any, *losses: Loss) -> pytest.MarkDecorator:
    pairs = itertools.product(losses, dtypes)
    params = [pytest.param(loss, dtype, id=f"{loss}-{dtype}") for loss, dtype in pairs]
    return pytest.mark.parametrize(("loss", "dtype"), params)


over_all, over_wide = over(cases.DTYPES, *LOSSES), over(["float32", "float64"], *LOSSES)
over_every = over(cases.DTYPES, KL, *OF_BETA, TV)
over_losses = pytest.mark.parametrize("loss", LOSSES, ids=str)
over_modules = pytest.mark.parametrize("module", [reference, fastloss], ids=["reference", "fastloss"])


# What to be within


def smallest(dtype: str) -> float:
    """The smallest normal number of the type computed in."""
    return float(2.0 ** cases.FORMATS[loss_dtype(dtype)][2])


def value_tolerance(expected: Array, dtype: str) -> Array:
    size = np.abs(expected)
    if dtype == "float64":
        return np.asarray(1e-13 * np.maximum(size, 1.0))
    return np.maximum(1e-6, 2e-6 * size)


def gradient_tolerance(size: Any, stored: Array, dtype: str) -> Array:
    """A bound relative to the size of the terms; half types add one rounding of what is stored."""
    tolerance = (1e-13 if dtype == "float64" else 1e-6) * np.asarray(size) + smallest(dtype)
    if is_half(dtype):
        tolerance = tolerance + 0.5 * ulp(np.abs(stored) + tolerance, dtype)
    return np.broadcast_to(tolerance, stored.shape)


def check_type(value: Any, dtype: str, reduction: str, shape: Shape) -> None:
    """Assert that a loss is a float, or an array as it should be."""
    if reduction == "none":
        assert isinstance(value, np.ndarray)
        assert value.dtype == loss_dtype(dtype)
        assert value.shape == shape
    else:
        assert type(value) is float


def largest(terms: Array) -> Array:
    """Of each row, without what is no number: that row has no bound of its own."""
    return np.asarray(np.where(np.isfinite(terms), terms, 0.0).max(axis=-1, initial=0.0))


def bits(value: Any) -> list[bytes]:
    """Of a loss, or of whatever a call returns."""
    flat = value if isinstance(value, tuple | list) else (value,)
    return [b for one in flat for b in (bits(one) if isinstance(one, tuple) else [np.asarray(one).tobytes()])]


@dataclass(frozen=True, eq=False)
class Call:
    """A call of a divergence, its classes on the last axis, and what it should answer."""

    loss: Loss
    dtype: str
    reduction: str
    student: Array
    teacher: Array
    options: dict[str, Any]

    def _call(self, module: Any, given: dict[str, Any]) -> Any:
        arrays = given.pop("student", self.student), given.pop("teacher", self.teacher)
        return getattr(module, self.loss.name)(*arrays, **given)

    def value(self, *, module: Any = fastloss, **more: Any) -> Any:
        """Run a call without gradient."""
        given = {"reduction": self.reduction, **self.loss.options, **self.options, **more}
        given.pop("grad_output", None)
        return self._call(module, given)

    def run(self, *, module: Any = fastloss, **more: Any) -> Any:
        """Run a call with both gradients."""
        given = {"reduction": self.reduction, "return_grad": True, "teacher_grad": True}
        return self._call(module, {**given, **self.loss.options, **self.options, **more})

    @cached_property
    def expected(self) -> tuple[Any, tuple[Array, Array]]:
        value, grads = self.run(module=reference)
        return value, grads

    @cached_property
    def expected_rows(self) -> Array:
        return np.asarray(self.value(module=reference, reduction="none"))

    @cached_property
    def counts(self) -> Array:
        """Which rows are under the mask."""
        return np.asarray(self.options.get("mask", np.ones(self.student.shape[:-1]))).astype(bool)

    @property
    def denominator(self) -> float:
        return max(float(self.counts.sum()), 1.0) if self.reduction == "mean" else 1.0

    @cached_property
    def factor(self) -> Array:
        """What a derivative by the logits over the temperature is multiplied with, of each row."""
        upstream = np.abs(self.options.get("grad_output", 1.0)) / self.options.get("temperature", 1.0)
        return np.asarray(np.where(self.counts, upstream / self.denominator, 0.0))

    @cached_property
    def log_probs(self) -> tuple[Array, Array]:
        """log(p) and log(q), 0 for rows that do not count."""
        found = []
        with np.errstate(invalid="ignore", over="ignore"):
            for logits in (self.teacher, self.student):
                x = np.where(self.counts[..., np.newaxis], np.asarray(logits, np.float64), 0.0)
                below = (x - x.max(axis=-1, keepdims=True)) / self.options.get("temperature", 1.0)
                found.append(reference.log_softmax(below))
        return found[0], found[1]

    @cached_property
    @np.errstate(invalid="ignore", over="ignore", divide="ignore")
    def sizes(self) -> tuple[Array, Array]:
        """Of each row the largest of the terms that the gradients, student's and teacher's, are made of."""
        log_p, log_q = self.log_probs
        p, q, beta = np.exp(log_p), np.exp(log_q), self.loss.weight
        plain = largest(np.maximum(p, q))
        if self.loss.name == TV.name:
            return plain, plain
        if beta in (0.0, 1.0):
            # KL(a || b) by the logits of b, and of a: differences of a * log(a / b), and of a * KL.
            a, r = (q, log_q - log_p) if beta else (p, log_p - log_q)
            terms = np.abs(np.where(a == 0.0, 0.0, a * r)), a * self.expected_rows[..., np.newaxis]
            of_first = np.maximum(plain, largest(np.maximum(*terms)))
            return (of_first, plain) if beta else (plain, of_first)
        log_m = np.logaddexp(math.log(beta) + log_p, math.log1p(-beta) + log_q)
        first = np.where(p == 0.0, 0.0, p * np.abs(log_p - log_m))
        second = np.where(q == 0.0, 0.0, q * np.abs(log_q - log_m))
        size = np.maximum(plain, largest(first + second))
        return size, size

    @cached_property
    def slack(self) -> tuple[Array, Array] | tuple[float, float]:
        """What a total variation may be off besides, where rounding decides which of p and q is larger."""
        if self.loss.name != TV.name or self.student.shape[-1] == 1:
            return 0.0, 0.0
        log_p, log_q = self.log_probs
        width = 1e-14 if self.dtype == "float64" else 1e-6
        with np.errstate(invalid="ignore"):
            close = np.abs(log_p - log_q) <= width * (2.0 - log_p)
        of_close = [(np.exp(x), np.where(close, np.exp(x), 0.0)) for x in (log_q, log_p)]
        first, second = (near + every * near.sum(axis=-1, keepdims=True) for every, near in of_close)
        return first, second

    def tolerance(self, field: int, stored: Array) -> Array:
        """How far numbers of the size of `stored`, made of a gradient, may be off."""
        factor = self.factor[..., np.newaxis]
        size = np.broadcast_to(self.sizes[field][..., np.newaxis] * factor, stored.shape)
        return gradient_tolerance(size, stored, self.dtype) + np.nan_to_num(self.slack[field] * factor)

    def check_value(self, value: Any) -> None:
        """Assert that a divergence is of the right type and near enough, and not negative."""
        check_type(value, self.dtype, self.reduction, self.student.shape[:-1])
        rows = value_tolerance(self.expected_rows, self.dtype)
        tolerance = rows if self.reduction == "none" else (rows * self.counts).sum() / self.denominator
        assert_within(value, self.expected[0], tolerance, self.title + " value")
        assert np.array_equal(np.isinf(value), np.isinf(self.expected[0])), self.title
        assert not np.signbit(np.asarray(value)[~np.isnan(value)]).any(), f"{self.title} negative value"

    def check_gradient(self, field: int, grad: Any) -> None:
        """Assert that a gradient is of the right type and near enough, and 0 where it must be."""
        title = f"{self.title} gradient of {FIELDS[field]}"
        assert isinstance(grad, np.ndarray), title
        assert grad.dtype == dtype_named(self.dtype), title
        assert grad.shape == self.student.shape, title
        expected, actual = self.expected[1][field], grad.astype(np.float64)
        first = self.loss.weight == 1.0 - field and self.loss.name != TV.name
        if first:
            # What an infinite KL(a || b) gives by the logits of a: no number, and 0 where a is.
            infinite = np.isinf(self.expected_rows) & self.counts
            finite = np.isfinite(actual[infinite])
            assert (finite == (expected[infinite] == 0.0)).all(), title
            assert not actual[infinite][finite].any(), title
            expected, actual = expected.copy(), actual.copy()
            expected[infinite] = actual[infinite] = 0.0
        assert_within(actual, expected, self.tolerance(field, expected), title)
        assert not actual[~self.counts].any(), f"{title} under the mask"
        masked = np.asarray((self.student, self.teacher)[field], np.float64) == -INF
        masked &= ~np.isnan(self.expected_rows)[..., np.newaxis]
        assert not actual[masked].any(), f"{title} of a masked class"

    def check(self, **more: Any) -> None:
        """Check a call with both gradients, with one, and without."""
        value, grads = self.run(**more)
        self.check_value(value)
        for field, grad in enumerate(grads):
            self.check_gradient(field, grad)
        alone, grad = self.run(teacher_grad=False, **more)
        self.check_gradient(0, grad)
        assert bits(value) == bits(alone) == bits(self.value(**more)), self.title

    def bits(self, **more: Any) -> list[bytes]:
        return bits(self.run(**more))

    @property
    def title(self) -> str:
        given = {k: v if np.ndim(v) == 0 else "array" for k, v in self.options.items()}
        return f"{self.loss} {self.dtype} {self.student.shape} {self.reduction} {given}:"


# Calls


def pair(rng: np.random.Generator, shape: Shape) -> tuple[Array, Array]:
    """Student and teacher, in rows of five kinds in turn.

    One is narrow, one wide; in one the two are shifted by 1e4, to either side; in one they are near each
    other; in one some classes are masked in both.
    """
    classes = shape[-1]
    s, t = np.clip(1.2 * rng.standard_normal((2, math.prod(shape[:-1]), classes)), -2.5, 2.5)
    s[1::5] *= 6.0
    t[1::5] *= 6.0
    s[2::5] += 1e4
    t[2::5] -= 1e4
    t[3::5] = s[3::5] + 0.3 * rng.standard_normal(s[3::5].shape)
    masked = rng.random(s[4::5].shape) < 0.25
    masked[:, -1] = False
    s[4::5][masked] = t[4::5][masked] = -INF
    return s.reshape(shape), t.reshape(shape)


def rounded(dtype: str, *arrays: Array) -> list[Array]:
    """In a type, and nobody can write to them."""
    found = [np.asarray(a).astype(dtype_named(dtype)) for a in arrays]
    for a in found:
        a.flags.writeable = False
    return found


@lru_cache(maxsize=1024)
def arguments(
    shape: Shape,
    dtype: str,
    temperature: float | None = None,
    mask: str | None = None,
    grad_output: str | None = None,
    seed: int = 0,
) -> tuple[Array, Array, dict[str, Any]]:
    """Student, teacher and options: rows under a mask of 0 hold NaN, as does their upstream gradient."""
    rng = np.random.default_rng(seed)
    student, teacher = pair(rng, shape)
    options: dict[str, Any] = {} if temperature is None else {"temperature": temperature}
    counts = np.ones(shape[:-1], bool)
    if mask is not None:
        counts = np.asarray(rng.random(shape[:-1]) < 0.6)
        counts.reshape(-1)[0], counts.reshape(-1)[-1] = False, True
        unread = np.nonzero(~counts)
        student[tuple(i[::2] for i in unread)] = teacher[tuple(i[1::2] for i in unread)] = NAN
        options["mask"] = counts.astype({"bool": "?", "int": "int8", "float": "float32"}[mask])
    if grad_output == "scalar":
        options["grad_output"] = -2.5
    elif grad_output == "array":
        of_rows = rng.uniform(0.5, 2.0, shape[:-1]) * rng.choice([-1.0, 1.0], shape[:-1])
        options["grad_output"] = np.where(counts, of_rows, NAN)
    student, teacher = rounded(dtype, student, teacher)
    return student, teacher, options


@lru_cache(maxsize=4096)
def call(
    loss: Loss, shape: Shape, dtype: str = "float32", reduction: str = "mean", *options_and_seed: Any
) -> Call:
    """Make a call; the same arguments give the same object, so its answer is kept."""
    return Call(loss, dtype, reduction, *arguments(shape, dtype, *options_and_seed))


def all_options(loss: Loss, shape: Shape, dtype: str, reduction: str = "none", mask: str = "bool") -> Call:
    return call(loss, shape, dtype, reduction, 2.0, mask, "array" if reduction == "none" else "scalar")


def plain_and_all(loss: Loss, dtype: str, *shapes: Shape) -> Iterator[Call]:
    for shape in shapes:
        yield call(loss, shape, dtype)
        yield all_options(loss, shape, dtype)


def of_rows(loss: Loss, dtype: str, student: Array, teacher: Array, **options: Any) -> Call:
    """A call with these rows, unreduced."""
    student, teacher = rounded(dtype, student, teacher)
    return Call(loss, dtype, "none", student, teacher, options)


# Against the reference


@over_all
def test_number_of_classes(loss: Loss, dtype: str) -> None:
    # 42 rows are two groups of 16 and a part; long rows go one by one.
    for shape in (*((7, 6, c) if c < 65 else (3, 2, c) for c in CLASSES), (2, 40, 33)):
        for reduction in REDUCTIONS if shape[-1] < 1000 else ["none"]:
            call(loss, shape, dtype, reduction).check()
            all_options(loss, shape, dtype, reduction).check()
    call(loss, (2, 70_000), dtype, "none").check()


@over_all
def test_every_option_with_every_other(loss: Loss, dtype: str) -> None:
    for reduction, mask, classes in itertools.product(REDUCTIONS, (None, *MASKS), (7, 67)):
        for temperature in (None, 2.0):
            for grad_output in (None, "scalar", *(["array"] if reduction == "none" else [])):
                call(loss, (2, 4, classes), dtype, reduction, temperature, mask, grad_output, 1).check()


@over_every
def test_temperatures_and_betas(loss: Loss, dtype: str) -> None:
    for temperature, classes in itertools.product(TEMPERATURES, (3, 20, 80)):
        call(loss, (3, 6, classes), dtype, "none", temperature).check()


# Without the reference


@over_modules
def test_by_hand(module: Any) -> None:
    p, q = np.array([1.0, 2.0, 5.0]) / 8, np.array([4.0, 1.0, 3.0]) / 8

    def kl(a: Array, b: Array) -> float:
        return math.fsum(x * math.log(x / y) for x, y in zip(a, b, strict=True))

    def answer(loss: Loss) -> tuple[float, Array, Array]:
        if loss.name == TV.name:
            # q - p is 3, -1, -2 eighths; sum q s = 0 and sum p s = -3/4.
            return 3 / 8, q * [1, -1, -1] / 2, p * [-1.75, 0.25, 0.25] / 2
        if loss.weight == 0.0:
            return kl(p, q), q - p, p * (np.log(p / q) - kl(p, q))
        if loss.weight == 1.0:
            return kl(q, p), q * (np.log(q / p) - kl(q, p)), p - q
        b = loss.weight
        m = (1 - b) * q + b * p
        of_p, of_q = kl(p, m), kl(q, m)
        by_q, by_p = (1 - b) * q * (np.log(q / m) - of_q), b * p * (np.log(p / m) - of_p)
        return b * of_p + (1 - b) * of_q, by_q, by_p

    for loss, t in itertools.product((KL, JS, *OF_BETA, TV), (0.5, 1.0, 2.0)):
        value, by_q, by_p = answer(loss)
        # Two rows that count, and one that does not.
        teacher = np.array([np.log(p) * t + 3.0, np.log(p) * t, [NAN, 0.0, 1.0]])
        student = np.array([np.log(q) * t, np.log(q) * t - 7.0, [0.0, INF, 1.0]])
        given = {"temperature": t, "mask": [1, 1, 0], "return_grad": True, "grad_output": 3.0}
        f = getattr(module, loss.name)
        mean, grads = f(student, teacher, teacher_grad=True, **given, **loss.options)
        assert mean == pytest.approx(value, rel=1e-13, abs=1e-15)
        for grad, exact in zip(grads, (by_q, by_p), strict=True):
            rows = np.array([exact, exact, 0.0 * exact]) * 3.0 / t / 2
            np.testing.assert_allclose(grad, rows, rtol=1e-12, atol=1e-15)
        total, of_student = f(student, teacher, reduction="sum", **given, **loss.options)
        assert total == pytest.approx(2 * value, rel=1e-13, abs=1e-15)
        np.testing.assert_allclose(of_student, 2 * grads[0], rtol=1e-12, atol=1e-15)
        given = {"temperature": t, "mask": [True, True, False], "reduction": "none", **loss.options}
        np.testing.assert_allclose(f(student, teacher, **given), [value, value, 0.0], rtol=1e-12)


@over_losses
def test_reference_has_every_digit(loss: Loss) -> None:
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

            beta = mpmath.mpf(loss.weight)
            m = [beta * x + (1 - beta) * y for x, y in zip(p, q, strict=True)]
            if loss.name == TV.name:
                exact = mpmath.fsum(abs(x - y) for x, y in zip(p, q, strict=True)) / 2
            else:
                exact = kl(p, q) if loss.name == KL.name else beta * kl(p, m) + (1 - beta) * kl(q, m)
        value = getattr(reference, loss.name)(student, teacher, temperature=2.0, **loss.options)
        assert value == pytest.approx(float(exact), rel=digits, abs=0.0), (spread, noise)


def check_central_differences(p: Call, module: Any) -> None:
    arrays, step = (p.student, p.teacher), 2.0**-8
    _, grads = p.run(module=module)
    upstream = np.where(p.counts if p.reduction == "none" else True, p.options.get("grad_output", 1.0), 0.0)
    for field, name in enumerate(("student", "teacher")):
        for index in zip(*np.nonzero(np.isfinite(arrays[field])), strict=True):
            if not p.counts[index[:-1]]:
                continue
            v, moved = [], arrays[field].copy()
            for steps in (-2, -1, 1, 2):
                moved[index] = arrays[field][index] + steps * step
                v.append(np.sum(p.value(module=module, **{name: moved}) * upstream))
            quotient = (v[0] - 8.0 * v[1] + 8.0 * v[2] - v[3]) / (12.0 * step)
            exact = pytest.approx(quotient, rel=1e-6, abs=2e-9)
            assert grads[field][index] == exact, f"{p.title} {name} {index}"


@pytest.mark.parametrize("loss", (KL, *OF_BETA, TV), ids=str)
def test_central_differences(loss: Loss) -> None:
    for reduction in REDUCTIONS:
        for temperature, mask in ((None, None), (0.5, "int"), (2.0, "bool")):
            grad_output = None if mask is None else "array" if reduction == "none" else "scalar"
            for seed in itertools.count():
                p = call(loss, (5, 4), "float64", reduction, temperature, mask, grad_output, seed)
                # Without the large shifts, which would cost the quotient its digits.
                p = replace(p, student=p.student.copy(), teacher=p.teacher.copy())
                p.student[2] -= 1e4
                p.teacher[2] += 1e4
                log_p, log_q = p.log_probs
                # Away from where total variation has a kink.
                finite = p.counts[:, np.newaxis] & np.isfinite(log_p)
                if np.abs(log_p[finite] - log_q[finite]).min() > 0.05:
                    break
            check_central_differences(p, fastloss)
    check_central_differences(p, reference)


@over_losses
def test_as_torch(loss: Loss) -> None:
    torch = pytest.importorskip("torch")
    kl_div, log_softmax = torch.nn.functional.kl_div, torch.nn.functional.log_softmax
    for classes, t in itertools.product((5, 150), (None, *TEMPERATURES)):
        p = call(loss, (2, 2, classes), "float64", "none", t, None, None, 6)
        student, teacher = (torch.tensor(a, requires_grad=True) for a in (p.student, p.teacher))
        log_q, log_p = (log_softmax(x / (t or 1.0), dim=-1) for x in (student, teacher))
        if loss.name == TV.name:
            theirs = 0.5 * (log_p.exp() - log_q.exp()).abs()
        elif loss.name == KL.name:
            theirs = kl_div(log_q, log_p, reduction="none", log_target=True)
        else:
            beta = torch.tensor(loss.weight, dtype=torch.float64)
            both = torch.stack([log_q + torch.log(1 - beta), log_p + torch.log(beta)])
            log_m = torch.logsumexp(both, dim=0)
            of_p, of_q = (kl_div(log_m, x, reduction="none", log_target=True) for x in (log_p, log_q))
            theirs = beta * of_p + (1 - beta) * of_q
        theirs = theirs.sum(dim=-1)
        theirs.sum().backward()
        value, grads = p.run()
        # Rows shifted by 1e4 have fewer digits in torch.
        np.testing.assert_allclose(value, theirs.detach().numpy(), rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(grads[0], student.grad.numpy(), rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(grads[1], teacher.grad.numpy(), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_a_beta_of_0_or_1_is_a_kl_divergence(dtype: str) -> None:
    for shape, reduction in itertools.product(((2, 7, 9), (3, 4, 90)), REDUCTIONS):
        p = all_options(KL, shape, dtype, reduction)
        value, grads = replace(p, loss=OF_BETA[0]).run()
        p.check_value(value)
        p.check_gradient(0, grads[0])
        p.check_gradient(1, grads[1])
        # The other way round, and so are the gradients.
        value, grads = replace(p, loss=OF_BETA[-1], student=p.teacher, teacher=p.student).run()
        p.check_value(value)
        p.check_gradient(0, grads[1])
        p.check_gradient(1, grads[0])


@over(cases.DTYPES, JS, TV)
def test_symmetry(loss: Loss, dtype: str) -> None:
    for p in plain_and_all(loss, dtype, (2, 7, 9), (3, 4, 90)):
        value, grads = replace(p, student=p.teacher, teacher=p.student).run()
        p.check_value(value)
        p.check_gradient(0, grads[1])
        p.check_gradient(1, grads[0])


@over_wide
def test_a_common_shift_changes_nothing(loss: Loss, dtype: str) -> None:
    for c in (10, 70):
        p = all_options(loss, (2, 4, c), dtype)
        # Multiples of 2**-7 between -8 and 8: with 1e4 beside them they are exact in float32.
        x, y = np.rint(np.random.default_rng(c).uniform(-8, 8, (2, *p.student.shape)) * 128) / 128
        level = replace(p, student=x.astype(dtype), teacher=y.astype(dtype))
        value, grads = level.run(student=(x + 1e4).astype(dtype), teacher=(y - 1e4).astype(dtype))
        level.check_value(value)
        level.check_gradient(0, grads[0])
        level.check_gradient(1, grads[1])


def test_through_log_probabilities() -> None:
    p = call(KL, (3, 4, 30), "float64", "none")
    student, teacher = p.student[:, :3], p.teacher[:, :3]
    log_q, target = fastloss.log_softmax(student), fastloss.softmax(teacher)
    by_element = fastloss.kl_div(log_q, target, reduction="none")
    both = by_element.sum(axis=-1), fastloss.kl_div_with_logits(student, teacher, reduction="none")
    np.testing.assert_allclose(*both, rtol=1e-10, atol=1e-11)


# Distributions that are equal, or nearly so


@over_every
def test_equal_distributions(loss: Loss, dtype: str) -> None:
    """To the bit: nothing but 0, and none of them negative."""
    for c, temperature in itertools.product(CLASSES, (1.0, 0.5, 4.0)):
        x = arguments((10 if c < 1000 else 5, c), dtype)[0]
        for other in (x, x.copy(), np.asfortranarray(x), x.repeat(2, axis=-1)[:, ::2]):
            p = Call(loss, dtype, "none", x, other, {"temperature": temperature})
            value, grads = p.run()
            for a in (value, p.value(), *grads, p.run(teacher_grad=False)[1]):
                as_double = a.astype(np.float64)
                assert not as_double.any(), p.title
                assert not np.signbit(as_double).any(), p.title
        assert p.value(reduction="mean") == p.value(reduction="sum") == 0.0


@lru_cache(maxsize=1024)
def nearly_equal(loss: Loss, dtype: str, c: int, noise: float) -> Call:
    rng = np.random.default_rng(c)
    teacher = pair(rng, (10 if c < 1000 else 5, c))[0]
    return of_rows(loss, dtype, teacher + noise * rng.standard_normal(teacher.shape), teacher)


@over_every
def test_nearly_equal_distributions(loss: Loss, dtype: str) -> None:
    for c, noise in itertools.product(CLASSES, (1e-4, 1e-6)):
        p = nearly_equal(loss, dtype, c, noise)
        p.check()
        assert (np.abs(p.value() - p.expected_rows) < 1e-6).all(), p.title
        if dtype == "float64" and loss.name != TV.name:
            # Of the order of the noise squared: what is left of it is no rounding error.
            assert (p.expected_rows < 100 * noise**2).all()


@lru_cache(maxsize=1024)
def confident(loss: Loss, dtype: str, c: int, margin: float) -> Call:
    x, y = np.zeros((2, 4, c))
    x[[0, 1, 2], [0, 1, c - 1]] = y[[1, 2, 3], [1, 0, c - 1]] = margin
    return of_rows(loss, dtype, x, y)


@over_every
def test_confident_rows(loss: Loss, dtype: str) -> None:
    """Of one of the two, of both, which agree or do not."""
    for c, margin in itertools.product(CLASSES[1:], (12.0, 60.0)):
        confident(loss, dtype, c, margin).check()


# Rows far away, rows that are not numbers


@lru_cache(maxsize=1024)
def wide(loss: Loss, dtype: str, c: int, shift: float, temperature: float) -> Call:
    x, y = 100.0 * np.random.default_rng(c).standard_normal((2, 10 if c < 1000 else 3, c))
    return of_rows(loss, dtype, x + shift, y - shift, temperature=temperature)


@over_every
def test_wide_logits(loss: Loss, dtype: str) -> None:
    for c in (*CLASSES[1:], 33):
        for shift, temperature in ((0.0, 1.0), (1e4, 1.0), (-1e4, 2.0)):
            wide(loss, dtype, c, shift, temperature).check()


ROWS = "nan 1 2, 0 1 nan, 0 inf 2, inf inf 2, inf 0 -inf, -inf -inf -inf, -inf nan -inf"
ROWS += ", 1 .5 .25, 1 -inf .5, -inf .5 1, -inf 3 -inf, -1 -inf -inf"
GOOD, FAR = "1 .5 .25", "6e4 -6e4 0"


@lru_cache(maxsize=1024)
def odd_rows(loss: Loss, dtype: str, c: int, plain: bool) -> tuple[Call, Call, Array]:
    """Pairs of rows of all kinds with a good one before each, good ones alone, and which are not numbers."""
    rows = ROWS.split(", ")
    pairs = list(itertools.product(rows, repeat=2)) if c < 100 else [(GOOD, row) for row in rows]
    pairs += [(row, GOOD) for row in rows] * (c >= 100) + [(FAR, GOOD), (GOOD, FAR), (FAR, FAR)]
    both = np.full((2, 2 * len(pairs), c), -3.0 if c < 100 else -9.0)
    both[0, :, :3], both[1, :, :3] = [0.25, -1.0, 2.0], [1.0, 0.5, -0.75]
    good, bad = both.copy(), np.zeros(2 * len(pairs), bool)
    for i, given in enumerate(pairs):
        for x, numbers in zip(both[:, 2 * i + 1], given, strict=True):
            row = np.array(numbers.split(), float)
            x[...] = -INF if (row == -INF).all() else -3.0 if c < 100 else -9.0
            x[[0, c // 2, c - 1]] = row
            bad[2 * i + 1] |= not np.isfinite(row.max())
    options: dict[str, Any] = {}
    if not plain:
        options = {"temperature": 2.0, "grad_output": np.linspace(0.5, 1.5, len(bad))}
    return of_rows(loss, dtype, *both, **options), of_rows(loss, dtype, *good, **options), bad


@over_every
def test_rows_with_infinities_or_nan(loss: Loss, dtype: str) -> None:
    for c, plain in itertools.product((3, 10, 64, 65, 2100), (True, False)):
        p, good, bad = odd_rows(loss, dtype, c, plain)
        p.check()
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


# Nothing to read


@over_all
def test_nothing_to_read(loss: Loss, dtype: str) -> None:
    """No rows, or none under the mask."""
    for shape, reduction in itertools.product(((0, 5), (3, 0, 5), (0, 4, 100), (6, 5), (6, 100)), REDUCTIONS):
        x = np.full(shape, NAN, dtype_named(dtype))
        rows = shape[:-1]
        masks = [{"mask": np.zeros(rows, kind)} for kind in (bool, int, np.float32)]
        for options in masks + [{}] * (x.size == 0):
            p = Call(loss, dtype, reduction, x, x.copy(), options)
            value, grads = p.run()
            for grad in (*grads, p.run(teacher_grad=False)[1]):
                assert grad.dtype == x.dtype
                assert_within(grad, np.zeros(shape), 0.0, p.title)
            for v in (value, p.value(), p.expected[0]):
                assert np.shape(v) == (rows if reduction == "none" else ()), p.title
                if reduction == "mean" and not options:
                    assert math.isnan(v), p.title
                else:
                    assert not np.any(v) and not np.signbit(v).any(), p.title


@over_wide
def test_rows_that_count_are_what_they_are_without_the_others(loss: Loss, dtype: str) -> None:
    for c in (9, 64, 90, 3000):
        p = call(loss, (37, c), dtype, "none", 2.0, "bool", "array")
        counts = p.counts
        options = {"temperature": 2.0, "grad_output": p.options["grad_output"][counts]}
        some = replace(p, student=p.student[counts], teacher=p.teacher[counts], options=options)
        value, grads = p.run()
        assert bits((value[counts], *(g[counts] for g in grads))) == some.bits(), p.title
        assert not value[~counts].any()
        assert p.value(reduction="mean") == pytest.approx(some.value(reduction="mean"), rel=1e-14), p.title


# In memory


@pytest.mark.parametrize("axis", [-3, -2, 0, 1, 2])
@over_all
def test_any_axis(loss: Loss, dtype: str, axis: int) -> None:
    for p in plain_and_all(loss, dtype, (4, 5, 7), (3, 2, 90)):
        x, y = (np.moveaxis(a, -1, axis) for a in (p.student, p.teacher))
        lying: tuple[Callable[[Array], Array], ...] = (np.asarray, np.ascontiguousarray)
        for of_x, of_y in itertools.product(lying, repeat=2):
            value, grads = p.run(student=of_x(x), teacher=of_y(y), axis=axis)
            p.check_value(value)
            for field, grad in enumerate(grads):
                p.check_gradient(field, np.moveaxis(grad, axis, -1))
            _, grad = p.run(student=of_x(x), teacher=of_y(y), axis=axis, teacher_grad=False)
            p.check_gradient(0, np.moveaxis(grad, axis, -1))
        theirs = p.value(module=reference, student=x, teacher=y, axis=axis)
        np.testing.assert_allclose(theirs, p.expected[0], rtol=1e-12)


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@over_all
def test_strides(loss: Loss, dtype: str, view: Callable[[Array], Array]) -> None:
    for p in plain_and_all(loss, dtype, (3, 4, 9), (3, 4, 90)):
        options = {k: view(v) if np.ndim(v) else v for k, v in p.options.items()}
        moved = replace(p, student=view(p.student), teacher=view(p.teacher), options=options)
        moved.check()
        # One of the two alone.
        for more in ({"student": moved.student}, {"teacher": moved.teacher}):
            p.check(**more)


@over_losses
def test_batch_shapes_and_kinds_of_arrays(loss: Loss) -> None:
    for p in plain_and_all(loss, "float64", (4, 6), (2, 3, 4, 5), (2, 1, 2, 3, 70)):
        p.check()
    one = call(loss, (1, 9), "float64", "none")
    assert one.value(student=one.student[0], teacher=one.teacher[0]) == one.value()[0]
    value, grads = one.run(student=one.student[0], teacher=one.teacher[0])
    assert np.shape(value) == () and grads[1].shape == (9,)
    p = call(loss, (2, 3, 6), "float64", "sum")
    for student, teacher in (
        (p.student.tolist(), p.teacher.tolist()),
        (p.student.astype(">f8"), p.teacher.astype(">f8")),
    ):
        p.check(student=student, teacher=teacher)
        p.check(teacher=teacher)
    x, y = np.random.default_rng(0).integers(-3, 4, (2, 2, 3, 6))
    whole = replace(p, student=x, teacher=y)
    for student, teacher in ((x, y), (x.astype("i1"), y.astype("i1")), (x.tolist(), y.tolist())):
        whole.check(student=student, teacher=teacher)


@over_all
def test_the_student_decides_the_type(loss: Loss, dtype: str) -> None:
    p = all_options(loss, (3, 4, 9), dtype)
    want = p.bits()
    for other in cases.DTYPES:
        # In a type that holds all of them the teacher is what it was.
        wide = p.teacher.astype(np.float64)
        given = wide.astype(dtype_named(other))
        if np.array_equal(given.astype(np.float64), wide, equal_nan=True):
            assert p.bits(teacher=given) == want, other
    value, grads = p.run(teacher=p.teacher.astype(np.float64).tolist())
    assert bits((value, grads)) == want
    rough = np.random.default_rng(3).standard_normal(p.student.shape)
    assert p.bits(teacher=rough) == p.bits(teacher=rough.astype(dtype_named(dtype)))


def test_kinds_of_masks() -> None:
    kinds = ["int8", "uint8", "int64", "uint64", ">i4", *map(dtype_named, cases.DTYPES)]
    for loss, c in itertools.product(LOSSES, (6, 70)):
        p = all_options(loss, (5, 7, c), "float32")
        given, want = p.options["mask"], p.bits()
        for other in (*(given.astype(kind) for kind in kinds), given.tolist(), np.asfortranarray(given)):
            assert p.bits(mask=other) == want
        assert p.bits(mask=-0.0 + given.astype(float) * 1.0) == want
        assert replace(p, options={}).bits(student=p.student[-1, -1], teacher=p.teacher[-1, -1], mask=1) == (
            replace(p, options={}).bits(student=p.student[-1, -1], teacher=p.teacher[-1, -1])
        )


@over_all
def test_in_place_and_out(loss: Loss, dtype: str) -> None:
    for p in plain_and_all(loss, dtype, (3, 4, 9), (3, 4, 90)):
        value, (of_student, of_teacher) = p.run()
        assert type(p.run()[1]).__name__ == "DivergenceGradients"
        assert p.run()[1]._fields == FIELDS
        alone = p.run(teacher_grad=False)[1]

        def buffers(p: Call = p) -> Iterator[tuple[Array, Array, Array]]:
            """Student, teacher, and a buffer."""
            x, y = np.array(p.student), np.array(p.teacher)
            wide = np.full((*x.shape[:-1], 2 * x.shape[-1]), 77.0).astype(x.dtype)
            turned = np.flip(np.flip(x).copy())
            yield from ((x, y, x), (x.copy(), y, wide[..., ::2]), (x.copy(), y, np.empty_like(x.T).T))
            assert (wide[..., 1::2].astype(np.float64) == 77.0).all()
            yield (turned, y, turned)

        for x, y, out in buffers():
            result = p.run(student=x, teacher=y, out=out, teacher_grad=False)
            assert result[1] is out
            assert bits(result) == bits((value, alone)), p.title
        for x, y, out in buffers():
            # Each gradient in the memory of its own argument, in that of a buffer, or nowhere.
            second = np.empty_like(y)
            for first, other in ((out, second), (out, y), (out, None), (None, y)):
                mine, theirs = x.copy() if out is not x else x, y.copy()
                if out is x and first is not None:
                    mine = first = np.array(p.student)
                if other is y:
                    other = theirs
                result = p.run(student=mine, teacher=theirs, out=(first, other))
                assert result[1]._fields == FIELDS
                assert result[1][0] is first and result[1][1] is other
                assert bits(result[0]) == bits(value), p.title
                assert first is None or bits(first) == bits(of_student), p.title
                assert other is None or bits(other) == bits(of_teacher), p.title
                if first is not mine:
                    assert bits(mine) == bits(p.student)
                if other is not theirs:
                    assert bits(theirs) == bits(p.teacher)
        # What was returned can be passed back.
        again = p.run(out=result[1]) if result[1][1] is not None else result
        assert again[1][1] is result[1][1]


def check_added(p: Call, field: int, out: Array, start: Array) -> None:
    """Assert that a gradient was added to what was there; the sum is rounded once more."""
    total = start.astype(np.float64) + p.expected[1][field]
    rounding = np.abs(total) * (2.0**-53 if p.dtype == "float64" else 2.0**-24)
    assert_within(out, total, p.tolerance(field, total) + rounding, p.title)
    assert bits(out[~p.counts]) == bits(start[~p.counts]), p.title


@over_all
def test_accumulate(loss: Loss, dtype: str) -> None:
    for p in plain_and_all(loss, dtype, (3, 4, 9), (3, 4, 90)):
        start = np.random.default_rng(1).standard_normal((2, *p.student.shape)).astype(p.student.dtype)
        out = start.copy()
        value, grad = p.run(out=out[0], accumulate=True, teacher_grad=False)
        p.check_value(value)
        check_added(p, 0, grad, start[0])
        for wanted in itertools.product((True, False), repeat=2):
            out = start.copy()
            fields = tuple(a if want else None for a, want in zip(out, wanted, strict=True))
            value, grads = p.run(out=fields, accumulate=True)
            p.check_value(value)
            for field, given in enumerate(fields):
                assert grads[field] is given
                if given is None:
                    assert bits(out[field]) == bits(start[field])
                else:
                    check_added(p, field, given, start[field])
        # In place: the logits and their gradients, added up.
        x, y = np.array(p.student), np.array(p.teacher)
        p.run(student=x, teacher=y, out=(x, y), accumulate=True)
        check_added(p, 0, x, p.student)
        check_added(p, 1, y, p.teacher)


@over_losses
def test_the_same_logits_twice(loss: Loss) -> None:
    """As student and teacher, and as the buffer of one of them: right, or refused."""
    for c, field in itertools.product((9, 90), (0, 1)):
        x = np.array(call(loss, (3, c)).student)
        before = x.tobytes()
        given: list[dict[str, Any]] = [{"teacher_grad": True, "out": (x, None) if field == 0 else (None, x)}]
        given += [{"teacher_grad": False, "out": x}] * (field == 0)
        for more in given:
            try:
                value, _ = getattr(fastloss, loss.name)(x, x, return_grad=True, **more)
            except ValueError as error:
                assert "out" in str(error)
                assert x.tobytes() == before
            else:
                assert value == 0.0 and not x.any()
                x = np.array(call(loss, (3, c)).student)


# The same bits


@over_all
def test_any_number_of_threads(loss: Loss, dtype: str) -> None:
    shapes: list[Shape] = [(300, 10, 10), (70, 10, 64), (2, 7, 5000), (1, 300_000), (3, 100_000)]
    for shape in shapes if not is_half(dtype) else shapes[2:4]:
        for p in (call(loss, shape, dtype), all_options(loss, shape, dtype)):
            one, *more = (p.bits(num_threads=n) for n in (1, 2, 3))
            assert all(other == one for other in more), p.title
            alone, *more = (bits(p.run(num_threads=n, teacher_grad=False)) for n in (1, 2, 3))
            assert all(other == alone for other in more), p.title
            assert all(bits(p.value(num_threads=n)) == one[:1] == alone[:1] for n in (1, 2, 3)), p.title


@over_wide
def test_any_batch_and_any_alignment(loss: Loss, dtype: str) -> None:
    for c in (1, 3, 10, 33, 64, 65, 100, 3000):
        p = call(loss, (37, c), dtype, "none", 2.0)
        value, grads = p.run()
        for some in (
            slice(0, 16),
            slice(1, 17),
            slice(5, 36),
            slice(None, None, -1),
            slice(0, 37, 5),
            slice(7, 8),
        ):
            found = p.bits(student=p.student[some], teacher=p.teacher[some])
            assert found == bits((value[some], *(g[some] for g in grads))), f"{p.title} {some}"
        for offset in range(1, 4):
            room = np.empty((2, p.student.size + 4), dtype)
            x, y = (
                r[k : k + p.student.size].reshape(37, c)
                for r, k in zip(room, (offset, 4 - offset), strict=True)
            )
            x[...], y[...] = p.student, p.teacher
            assert p.bits(student=x, teacher=y, out=(x, y)) == bits((value, grads)), p.title


# Errors


def logits_of_teacher() -> Array:
    return errors.logits()[::-1].copy()


OF_GRADIENT = ("return_grad", "teacher_grad", "accumulate", "grad_output", "out")


def refused(loss: Loss, error: Any, name: str, **given: Any) -> str:
    """Assert that an error names the argument, and that nothing is written, in place or to a buffer."""
    f, message = getattr(fastloss, loss.name), ""
    for both, in_place, accumulate in itertools.product((False, True), repeat=3):
        if both and name in ("return_grad", "teacher_grad"):
            continue
        options: dict[str, Any] = {"return_grad": True, "teacher_grad": both, "accumulate": accumulate}
        options |= {"student_logits": errors.logits(), "teacher_logits": logits_of_teacher()}
        out = [a if in_place else np.full_like(a, 55.0) for a in (options[field] for field in FIELDS)]
        before = bits(out)
        options |= {"out": tuple(out) if both else out[0], **loss.options, **given}
        arrays = [options.pop(field) for field in FIELDS]
        message = errors.refused(partial(f, *arrays, **options), error, name)
        assert bits(out) == before, f"written before the error: {message}"
        forward = {k: v for k, v in options.items() if k not in OF_GRADIENT}
        if name not in OF_GRADIENT:
            errors.refused(partial(f, *arrays, **forward), error, name)
    return message


M = np.ones(errors.ROWS)
MORE_DIMENSIONS = [(4, 5), (5, 6), (6,), (4,), (4, 1), (1, 6), (1, 4, 6), (4, 6, 1), (6, 4), (24,), (0, 6)]
OWN = [
    *errors.bad("teacher_logits", ValueError, 1.0, *(np.zeros(s, np.float32) for s in MORE_DIMENSIONS)),
    *errors.bad("mask", ValueError, *(v * M for v in (2, -1, 0.5, NAN, INF, 256, 1e-300)), [1, 1, -1, 0]),
    *errors.bad("mask", ValueError, True, M[:3], M[np.newaxis], np.ones((4, 6)), np.ones(1, bool), []),
    *errors.bad("mask", ValueError, M[:, np.newaxis]),
    *errors.bad("mask", (TypeError, ValueError), "text", M.astype(complex), [None] * 4, [[1], [1, 0]]),
    *errors.bad("teacher_grad", TypeError, 1, 0, None, "yes", [True], 1.0),
    *errors.bad("grad_output", ValueError, np.ones((4, 1)), np.ones(3), reduction="none"),
]
OF_JS = [
    *errors.bad("beta", ValueError, -0.1, 1.1, -1, 2, NAN, INF, -INF, np.float32(1.5)),
    *errors.bad("beta", TypeError, True, False, np.True_, "0.5", None, 0.5j, [0.5], np.array([0.5])),
]
SHARED = [row for row in errors.SHARED if "weight" not in row.argument and row.argument != "ignore_index"]
TEMPERATURE = [row for row in errors.CROSS_ENTROPY if row.argument == "temperature"]


@over_losses
def test_bad_arguments(loss: Loss) -> None:
    inputs = [replace(row, argument=field) for field in FIELDS for row in errors.INPUTS]
    of_js = OF_JS if loss.name == JS.name else []
    for row in (*inputs, *SHARED, *TEMPERATURE, *OWN, *of_js):
        name, given = row.argument, dict(row.with_options)
        for reduction in ("mean", "sum") if name == "grad_output" and not given else ("none", "mean"):
            refused(loss, row.error, name, **{"reduction": reduction, name: row.value, **given})
    for name in ("label_smoothing", "ignore_index", "log_target", *(["beta"] if not of_js else [])):
        refused(loss, TypeError, name, **{name: 0.1})
    refused(loss, ValueError, "class", student_logits=np.zeros((4, 0)), teacher_logits=np.zeros((4, 0)))
    refused(loss, ValueError, "teacher_logits", axis=0, teacher_logits=np.zeros((6, 4), np.float32))


@over_losses
def test_gradient_arguments_without_gradient(loss: Loss) -> None:
    x, y = errors.logits(), logits_of_teacher()
    before = bits((x, y))
    wrong: tuple[tuple[str, dict[str, Any]], ...] = (
        ("teacher_grad", {"teacher_grad": True}),
        ("teacher_grad|out", {"teacher_grad": True, "out": (x, y)}),
        ("out", {"out": x}),
        ("grad_output", {"grad_output": 2.0}),
        ("accumulate", {"accumulate": True}),
    )
    for name, given in wrong:
        for more in ({}, {"return_grad": False}):
            message = errors.refused(
                partial(getattr(fastloss, loss.name), x, y, **given, **more),
                ValueError,
                name,
            )
            assert name == "accumulate" or "return_grad" in message, message
    for both in (False, True):
        f = partial(getattr(fastloss, loss.name), x, y, return_grad=True, teacher_grad=both)
        message = errors.refused(partial(f, accumulate=True), ValueError, "accumulate")
        assert "out" in message
    assert bits((x, y)) == before


@over_losses
def test_bad_out(loss: Loss) -> None:
    f, (x, y) = getattr(fastloss, loss.name), (errors.logits(), logits_of_teacher())
    spare, other = np.full((2, *x.shape), 55.0, np.float32)

    def check(error: Any, out: Any, teacher_grad: bool) -> None:
        for more in ({}, {"accumulate": True}, {"mask": [1, 0, 1, 1], "reduction": "none"}):
            given = {"return_grad": True, "teacher_grad": teacher_grad, "out": out, **more}
            errors.refused(partial(f, x, y, **given), error, "out")
            assert bits((x, y)) == before
            assert (spare == 55.0).all() and (other == 55.0).all()

    before = bits((x, y))
    for error, make in errors.BUFFERS.values():
        for out, both in (
            (make(), False),
            ((make(), spare), True),
            ((spare, make()), True),
            ((None, make()), True),
        ):
            parts = [np.array(a) for a in (out if both else (out,)) if isinstance(a, np.ndarray)]
            check(error, out, both)
            new = [a for a in (out if both else (out,)) if isinstance(a, np.ndarray)]
            assert bits(parts) == bits(new)
    either = (TypeError, ValueError)
    for out in (
        spare,
        (spare,),
        (),
        (spare, other, None),
        [spare, other],
        np.stack([spare, other]),
        spare[0],
    ):
        check(either, out, True)
    for out in ((spare,), (spare, None), (spare, other), (None, spare), [spare], ()):
        check(either, out, False)
    # Two gradients want two buffers.
    for out in ((spare, spare), (spare, spare[::-1]), (spare, spare[:, ::-1]), (spare[:], spare)):
        check(ValueError, out, True)


@over_losses
def test_out_that_overlaps(loss: Loss) -> None:
    """In part with its own argument, or at all with any other."""
    f = getattr(fastloss, loss.name)
    rows, classes = errors.ROWS, errors.CLASSES

    def check(x: Any, y: Any, out: Any, memory: list[Array], **more: Any) -> None:
        both = isinstance(out, tuple)
        for accumulate in (False, True):
            before = bits(memory)
            given = {"return_grad": True, "teacher_grad": both, "accumulate": accumulate, "out": out, **more}
            errors.refused(partial(f, x, y, **given), ValueError, "out")
            assert bits(memory) == before

    spare = np.full((rows, classes), 55.0, np.float32)
    for name in errors.over_input(np.zeros((2 * rows, classes))):
        room = np.random.default_rng(0).normal(size=(2 * rows, classes)).astype(np.float32)
        lies, out = errors.over_input(room)[name]
        far = logits_of_teacher()
        memory = [room, far, spare]
        # Of one's own argument a part; of the other's a part.
        for fields in (out, (out, spare), (out, None), (spare, out), (None, out)):
            check(lies, far, fields, memory)
            check(far, lies, fields, memory)
    x, y = errors.logits(), logits_of_teacher()
    for fields in (
        y,
        (y, None),
        (y, spare),
        (None, x),
        (spare, x),
        (y, x),
        (y[::-1], spare),
        (spare, x[::-1]),
    ):
        check(x, y, fields, [x, y, spare])
    square = np.arange(16.0, dtype=np.float32).reshape(4, 4)
    other = np.ones_like(square)
    for fields in (square.T, (square.T, None), (None, square.T)):
        check(square, other, fields, [square, other])
        check(other, square, fields, [square, other])
    # A mask, an upstream gradient.
    for name, axis in itertools.product(("mask", "grad_output"), (0, 1)):
        wide = np.ones((rows, classes + 2), np.float32)
        lies = wide[:, axis * 5]
        out = wide[:, axis : axis + classes]
        for fields in (out, (out, None), (None, out), (spare, out)):
            check(x, y, fields, [wide, x, y, spare], **{name: lies, "reduction": "none"})
    # Neighbours in one array are no overlap.
    wide = np.zeros((2, rows, classes), np.float32)
    wide[...] = x, y
    value, grads = f(wide[0], wide[1], return_grad=True, teacher_grad=True, out=(wide[0], wide[1]))
    want = f(x, y, return_grad=True, teacher_grad=True)
    assert bits((value, *wide)) == bits((want[0], *want[1])) == bits((value, *grads))


# kl_div: of log-probabilities, an element at a time


@dataclass(frozen=True, eq=False)
class Elements:
    """A call of kl_div, and what it should answer."""

    dtype: str
    reduction: str
    input: Array
    target: Array
    options: dict[str, Any]

    def value(self, *, module: Any = fastloss, **more: Any) -> Any:
        given = {"reduction": self.reduction, **self.options, **more}
        given.pop("grad_output", None)
        return module.kl_div(given.pop("input", self.input), given.pop("target", self.target), **given)

    def run(self, *, module: Any = fastloss, **more: Any) -> Any:
        given = {"reduction": self.reduction, "return_grad": True, **self.options, **more}
        return module.kl_div(given.pop("input", self.input), given.pop("target", self.target), **given)

    @cached_property
    def expected(self) -> tuple[Any, Array]:
        value, grad = self.run(module=reference)
        return value, grad

    @cached_property
    def expected_elements(self) -> Array:
        return np.asarray(self.value(module=reference, reduction="none"))

    def tolerance(self, stored: Array) -> Array:
        return gradient_tolerance(np.abs(self.expected[1]), stored, self.dtype)

    def check_value(self, value: Any) -> None:
        check_type(value, self.dtype, self.reduction, np.shape(self.input))
        tolerance = value_tolerance(self.expected_elements, self.dtype)
        if self.reduction != "none":
            shape = np.shape(self.input)
            divisors = {"sum": 1, "mean": math.prod(shape), "batchmean": shape[0] if shape else 0}
            tolerance = tolerance.sum() / max(divisors[self.reduction], 1)
        assert_within(value, self.expected[0], tolerance, self.title + " value")
        assert np.array_equal(np.isinf(value), np.isinf(self.expected[0])), self.title

    def check_gradient(self, grad: Any) -> None:
        assert isinstance(grad, np.ndarray), self.title
        assert grad.dtype == dtype_named(self.dtype), self.title
        exact = self.expected[1]
        assert_within(grad, exact, self.tolerance(exact), self.title + " gradient")

    def check(self, **more: Any) -> None:
        value, grad = self.run(**more)
        self.check_value(value)
        self.check_gradient(grad)
        assert bits(value) == bits(self.value(**more)), self.title

    @property
    def title(self) -> str:
        given = {k: v if np.ndim(v) == 0 else "array" for k, v in self.options.items()}
        return f"kl_div {self.dtype} {np.shape(self.input)} {self.reduction} {given}:"


ELEMENT_REDUCTIONS = [*REDUCTIONS, "batchmean"]
over_dtypes = pytest.mark.parametrize("dtype", cases.DTYPES)
over_log_target = pytest.mark.parametrize("log_target", [False, True])


@lru_cache(maxsize=1024)
def elements(
    shape: Shape, dtype: str, reduction: str, log_target: bool = False, grad_output: str | None = None
) -> Elements:
    """Log-probabilities, and targets with zeros (and numbers above 1, which are no probabilities) in them."""
    rng = np.random.default_rng(0)
    x = -4.0 * rng.exponential(size=shape)
    t = np.asarray(rng.uniform(0.0, 1.0, shape) ** 2)
    t = np.where(rng.random(shape) < 0.2, 0.0, np.where(rng.random(shape) < 0.05, 2.5, t))
    # Where nothing is expected, nothing is asked of the input.
    x = np.where((t == 0.0) & (rng.random(shape) < 0.5), -INF, x)
    options: dict[str, Any] = {}
    if log_target:
        with np.errstate(divide="ignore"):
            t = np.log(t)
        options["log_target"] = True
    if grad_output == "scalar":
        options["grad_output"] = -2.5
    elif grad_output == "array":
        options["grad_output"] = rng.uniform(0.5, 2.0, shape) * rng.choice([-1.0, 1.0], shape)
    x, t = rounded(dtype, np.asarray(x), t)
    return Elements(dtype, reduction, x, t, options)


@over_log_target
@over_dtypes
def test_kl_div(dtype: str, log_target: bool) -> None:
    for shape in ((), (1,), (7,), (3, 5), (4, 1), (2, 3, 40), (5, 0), (1001,), (3, 30_000)):
        for reduction in ELEMENT_REDUCTIONS if shape else REDUCTIONS:
            for grad_output in (None, "scalar", *(["array"] if reduction == "none" else [])):
                elements(shape, dtype, reduction, log_target, grad_output).check()


@over_modules
def test_kl_div_by_hand(module: Any) -> None:
    x, t = np.log([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]]), np.array([[0.25, 0.25, 0.5], [0.0, 1.0, 0.0]])
    half = math.log(2.0)
    exact = np.array([[-half / 4, 0.0, half / 2], [0.0, 3 * half, 0.0]])
    total = 3.25 * half
    with np.errstate(divide="ignore"):
        logs = np.log(t)
    for target, given in ((t, {}), (logs, {"log_target": True})):
        value, grad = module.kl_div(x, target, reduction="none", return_grad=True, grad_output=exact, **given)
        np.testing.assert_allclose(value, exact, rtol=1e-14, atol=1e-16)
        np.testing.assert_allclose(grad, -t * exact, rtol=1e-14)
        for reduction, divisor in (("sum", 1), ("mean", 6), ("batchmean", 2)):
            value, grad = module.kl_div(x, target, reduction=reduction, return_grad=True, **given)
            assert type(value) is float and value == pytest.approx(total / divisor, rel=1e-14)
            np.testing.assert_allclose(grad, -t / divisor, rtol=1e-14)
        assert module.kl_div(x, target, **given) == pytest.approx(total / 6, rel=1e-14)
    value, grad = module.kl_div(-1.0, 0.5, return_grad=True)
    assert value == pytest.approx(0.5 - half / 2, rel=1e-14) and grad == -0.5 and grad.shape == ()


@pytest.mark.filterwarnings("ignore:reduction")
@over_log_target
def test_kl_div_as_torch(log_target: bool) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    for shape in ((), (7,), (3, 5), (2, 3, 40), (0, 5)):
        x, t = -3.0 * rng.exponential(size=(2, *shape))
        if not log_target:
            t = np.asarray(np.where(rng.random(shape) < 0.2, 0.0, np.exp(t)))
        for reduction in ELEMENT_REDUCTIONS if shape else REDUCTIONS:
            theirs_x = torch.tensor(x, requires_grad=True)
            given: dict[str, Any] = {"reduction": reduction, "log_target": log_target}
            theirs = torch.nn.functional.kl_div(theirs_x, torch.tensor(t), **given)
            theirs.sum().backward()
            value, grad = fastloss.kl_div(x, t, return_grad=True, **given)
            np.testing.assert_allclose(value, theirs.detach().numpy(), rtol=1e-13, atol=1e-15)
            np.testing.assert_allclose(grad, theirs_x.grad.numpy(), rtol=1e-14)


@over_log_target
def test_kl_div_central_differences(log_target: bool) -> None:
    for module, reduction in itertools.product((reference, fastloss), ELEMENT_REDUCTIONS):
        p = elements((3, 5), "float64", reduction, log_target, "array" if reduction == "none" else "scalar")
        _, grad = p.run(module=module)
        for index in zip(*np.nonzero(np.isfinite(p.input)), strict=True):
            ends = []
            for step in (-0.5, 0.5):  # a straight line
                moved = p.input.copy()
                moved[index] += step
                ends.append(np.sum(p.value(module=module, input=moved) * p.options["grad_output"]))
            assert grad[index] == pytest.approx(ends[1] - ends[0], rel=1e-9, abs=1e-12), p.title


@over_log_target
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
        first, second = rounded(dtype, np.tile(x, repeats), np.tile(t, repeats))
        p = Elements(dtype, "none", first, second, {"log_target": log_target})
        p.check()
        values, grads = p.run()
        tolerance = 0.01 if is_half(dtype) else 1e-6
        assert_within(values, np.tile(value, repeats), tolerance, p.title)
        assert_within(grads, np.tile(grad, repeats), tolerance, p.title)
        assert math.isnan(p.value(reduction="sum"))


@over_dtypes
def test_kl_div_of_nothing(dtype: str) -> None:
    for shape, reduction in itertools.product(((0,), (0, 5), (3, 0)), ELEMENT_REDUCTIONS):
        x = np.zeros(shape, dtype_named(dtype))
        p = Elements(dtype, reduction, x, x.copy(), {})
        value, grad = p.run()
        assert grad.shape == shape and grad.dtype == x.dtype
        if reduction == "none":
            assert value.shape == shape and value.dtype == loss_dtype(dtype)
        elif reduction == "sum" or (reduction == "batchmean" and shape[0]):
            assert value == 0.0
        else:
            assert math.isnan(value)


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@over_dtypes
def test_kl_div_strides(dtype: str, view: Callable[[Array], Array]) -> None:
    for shape, log_target in itertools.product(((3, 4, 9), (3, 300)), (False, True)):
        p = elements(shape, dtype, "none", log_target, "array")
        p.check(input=view(p.input), target=view(p.target), grad_output=view(p.options["grad_output"]))
        p.check(target=view(p.target))
        whole = elements(shape, dtype, "batchmean", log_target)
        whole.check(input=view(p.input), target=view(p.target))


def test_kl_div_kinds_of_arrays() -> None:
    p = elements((3, 5), "float64", "batchmean")
    x, t = p.input, p.target
    p.check(input=x.tolist(), target=t.tolist())
    p.check(input=x.astype(">f8"), target=t.astype(">f8"))
    p.check(input=np.asfortranarray(x), target=np.asfortranarray(t))
    # The input decides the type.
    for dtype in cases.DTYPES:
        given, exact = elements((3, 5), dtype, "none"), p.target
        want = given.run(target=exact.astype(dtype_named(dtype)))
        assert bits(given.run(target=exact)) == bits(want)
        assert want[1].dtype == dtype_named(dtype)


@over_log_target
@over_dtypes
def test_kl_div_in_place_out_and_accumulate(dtype: str, log_target: bool) -> None:
    for p in (
        elements((4, 9), dtype, "batchmean", log_target),
        elements((4, 90), dtype, "none", log_target, "array"),
    ):
        want, x = bits(p.run()), np.array(p.input)
        wide = np.full((4, 2 * x.shape[1]), 77.0).astype(x.dtype)
        for given in ({"input": x, "out": x}, {"out": wide[:, ::2]}, {"out": np.empty_like(x.T).T}):
            result = p.run(**given)
            assert result[1] is given["out"] and bits(result) == want, p.title
        assert (wide[:, 1::2].astype(np.float64) == 77.0).all()
        start = np.random.default_rng(1).standard_normal(x.shape).astype(x.dtype)
        out = start.copy()
        value, grad = p.run(out=out, accumulate=True)
        p.check_value(value)
        assert grad is out
        total = start.astype(np.float64) + p.expected[1]
        rounding = np.abs(total) * (2.0**-53 if dtype == "float64" else 2.0**-24)
        assert_within(out, total, p.tolerance(total) + rounding, p.title)


@over_log_target
def test_kl_div_any_number_of_threads(log_target: bool) -> None:
    for dtype, reduction in itertools.product(("float32", "float64", "float16"), ELEMENT_REDUCTIONS):
        p = elements((3, 100_000), dtype, reduction, log_target)
        one, two, three = (bits(p.run(num_threads=n)) for n in (1, 2, 3))
        assert one == two == three, p.title
        assert {bits(p.value(num_threads=n))[0] for n in (1, 2, 3)} == {one[0]}, p.title


def test_kl_div_bad_arguments() -> None:
    f: Any = fastloss.kl_div
    shapes = [(4, 5), (6,), (4,), (4, 1), (1, 6), (1, 4, 6), (6, 4), (24,), (0, 6)]
    inputs = [row for row in errors.INPUTS if row.error is TypeError]
    rows = [
        *(replace(row, argument=name) for name in ("input", "target") for row in inputs),
        *errors.bad("target", ValueError, *(np.zeros(s, np.float32) for s in shapes)),
        *errors.bad("input", ValueError, [[1.0, 2.0], [3.0]]),
        *errors.bad("log_target", TypeError, 1, 0, None, "yes", [True]),
        *errors.bad("reduction", ValueError, "avg", "", "Mean", "batch_mean", None, 1, b"mean", ["mean"]),
        *errors.bad("grad_output", ValueError, np.ones(4), np.ones((4, 6)), [1.0], reduction="batchmean"),
        *errors.bad("grad_output", ValueError, np.ones(4), np.ones((4, 1)), reduction="none"),
        *errors.bad("grad_output", TypeError, "text", True, np.True_, 1j),
        *(row for row in errors.SHARED if row.argument in ("return_grad", "accumulate", "num_threads")),
        *errors.bad("axis", TypeError, -1),
        *errors.bad("mask", TypeError, M),
    ]
    for row, in_place, accumulate in itertools.product(rows, (False, True), (False, True)):
        x, t = -np.abs(errors.logits()), errors.probabilities()
        out = x if in_place else np.full_like(x, 55.0)
        before = out.tobytes()
        options = {"return_grad": True, "out": out, "accumulate": accumulate, **dict(row.with_options)}
        options[row.argument] = row.value
        arrays = options.pop("input", x), options.pop("target", t)
        errors.refused(partial(f, *arrays, **options), row.error, row.argument)
        assert out.tobytes() == before, f"written before the error: {row}"
        if row.argument not in ("return_grad", "accumulate", "grad_output"):
            options = {k: v for k, v in options.items() if k not in ("return_grad", "out", "accumulate")}
            errors.refused(partial(f, *arrays, **options), row.error, row.argument)
    x, t = np.zeros((4, 6), np.float32), errors.probabilities()
    errors.refused(partial(f, -1.0, 0.5, reduction="batchmean"), ValueError, "batchmean")
    for given in ({"grad_output": 2.0}, {"out": x}, {"accumulate": True}):
        name = next(iter(given))
        errors.refused(partial(f, x, t, **given), ValueError, name)
    errors.refused(partial(f, x, t, return_grad=True, accumulate=True), ValueError, "accumulate")
    for error, make in errors.BUFFERS.values():
        errors.refused(partial(f, x, t, return_grad=True, out=make()), error, "out")
    assert not x.any() and np.array_equal(t, errors.probabilities())


def test_kl_div_out_that_overlaps() -> None:
    f: Any = fastloss.kl_div
    for name in errors.over_input(np.zeros((8, 6))):
        room = -np.ones((8, 6), np.float32)
        x, out = errors.over_input(room)[name]
        far = errors.probabilities()
        for arrays in ((x, far), (far, x)):
            given = {"return_grad": True, "out": out}
            errors.refused(partial(f, *arrays, **given), ValueError, "out")
    t = errors.probabilities()
    errors.refused(partial(f, -t, t, return_grad=True, out=t), ValueError, "out")
    upstream = np.ones_like(t)
    given = {"return_grad": True, "out": upstream, "grad_output": upstream, "reduction": "none"}
    errors.refused(partial(f, -t, t, **given), ValueError, "out")
    assert np.array_equal(t, errors.probabilities()) and (upstream == 1.0).all() and (room == -1.0).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_temperatures_that_are_nearly_nothing(dtype: str) -> None:
    """What is left is which class is the largest."""
    x, t = np.array([[3.0, 1.0], [1.0, 3.0]], dtype), np.array([[5.0, 1.0], [1.0, 2.0]], dtype)
    for function in (
        fastloss.kl_div_with_logits,
        fastloss.js_div_with_logits,
        fastloss.tv_distance_with_logits,
    ):
        for temperature in (1e-50, 1e-320):
            assert (function(x, t, temperature=temperature, reduction="none") == 0.0).all()
    assert fastloss.tv_distance_with_logits(x, t[::-1].copy(), temperature=1e-320) == 1.0
