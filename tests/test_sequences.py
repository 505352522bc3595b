"""token_log_probs, sequence_log_probs and entropy: against the reference, and without it."""

import itertools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from typing import Any

import cases
import numpy as np
import pytest
import test_errors as errors
from cases import REDUCTIONS, Array, Case, Option, Problem, Shape, assert_within, dtype_named, ulp

import fastloss
from fastloss import reference

pytestmark = pytest.mark.usefixtures("isa")

INF, NAN = math.inf, math.nan
CLASSES = (1, 2, 3, 10, 64, 65, 1000, 5000)

# The three, as cases of the table


def leave_out(rng: np.random.Generator, x: Array, target: Array, counts: Array) -> None:
    """Where a token does not count there is NaN, and any integer."""
    x[~counts], target[~counts] = NAN, rng.choice([-100, -1, x.shape[-1], 2**40], np.sum(~counts))


def mask(rng: np.random.Generator, x: Array, target: Array) -> Array:
    counts = np.asarray(rng.random(target.shape) < 0.6)
    counts[0], counts.reshape(-1)[-1] = False, True  # a whole sequence without tokens
    leave_out(rng, x, target, counts)
    return counts


def lengths(rng: np.random.Generator, x: Array, target: Array) -> Array:
    most = target.shape[-1]
    first = np.asarray(rng.integers(0, most + 1, target.shape[:-1]))
    first.reshape(-1)[0], first.reshape(-1)[-1] = 0, most - 1
    leave_out(rng, x, target, np.arange(most) < first[..., np.newaxis])
    return first


@np.errstate(over="ignore", invalid="ignore")
def largest_term(p: Problem) -> Array:
    """Of the gradient of an entropy, which may be a small difference: p_c * max(1, -log(p_c), H)."""
    temperature, x = p.options.get("temperature", 1.0), np.asarray(p.input, np.float64)
    log_p = reference.log_softmax((x - x.max(axis=-1, keepdims=True)) / temperature)
    size = np.maximum(np.maximum(-log_p, 1.0), p.expected_rows[..., np.newaxis])
    largest = np.where(log_p == -INF, 0.0, np.exp(log_p) * size).max(axis=-1)
    upstream = np.abs(p.options.get("grad_output", 1.0)) / temperature
    return np.asarray(largest * upstream / (p.case.divisor(p) if p.reduction == "mean" else 1.0))


def tokens(p: Problem) -> float:
    return float(np.sum(p.target != p.options.get("ignore_index", -100)))


def values(p: Problem) -> float:
    return max(float(p.expected_rows.size), 1.0)


IGNORE, _, _, SCALAR, ARRAY = cases.COMMON_ROW_OPTIONS
TEMPERATURE, AVERAGE = Option("temperature", cases.constant(1.7)), Option("average", cases.constant(True))
OF_ROWS = (TEMPERATURE, SCALAR, ARRAY)
OF_SEQUENCES = replace(ARRAY, make=lambda rng, x, target: cases.row_gradients(rng, x[..., 0], target))
OPTIONS = (Option("mask", mask), Option("lengths", lengths), AVERAGE, TEMPERATURE, SCALAR, OF_SEQUENCES)
BOUNDS = cases.Bounds(loss_ulps=3.3, exact=1e-13)  # 4e-7
OF_LOGITS = partial(Case, input_name="logits", targets=("indices",), make=cases.logits_and_target)
TOKENS, SEQUENCES, ENTROPY = NAMES = (
    OF_LOGITS("token_log_probs", divisor=tokens, small_difference=cases.nowhere, options=(IGNORE, *OF_ROWS)),
    OF_LOGITS(
        "sequence_log_probs", divisor=values, small_difference=cases.nowhere, options=OPTIONS, bounds=BOUNDS
    ),
    OF_LOGITS("entropy", divisor=values, small_difference=largest_term, options=OF_ROWS, bounds=BOUNDS),
)


def over(dtypes: Any, *functions: Case) -> pytest.MarkDecorator:
    pairs = itertools.product(functions, dtypes)
    params = [pytest.param(case, dtype, id=f"{case.name}-{dtype}") for case, dtype in pairs]
    return pytest.mark.parametrize(("case", "dtype"), params)


over_all, over_wide = over(cases.DTYPES, *NAMES), over(["float32", "float64"], *NAMES)
over_cases = pytest.mark.parametrize("case", NAMES, ids=lambda case: case.name)
over_dtypes = pytest.mark.parametrize("dtype", cases.DTYPES)


def function(module: Any, case: Case) -> Callable[..., Any]:
    """With a target, which the entropy leaves alone."""
    f: Callable[..., Any] = getattr(module, case.name)
    return f if case is not ENTROPY else lambda x, target, **options: f(x, **options)


class Call(Problem):
    """A call of one of the three, and what it should answer."""

    @property
    def function(self) -> Callable[..., Any]:
        return function(fastloss, self.case)

    @cached_property
    def expected(self) -> tuple[Any, Array]:
        given = {"reduction": self.reduction, "return_grad": True, **self.options}
        value, grad = function(reference, self.case)(self.input, self.target, **given)
        return value, grad

    @cached_property
    def expected_rows(self) -> Array:
        given = self.forward_options | {"reduction": "none"}
        return np.asarray(function(reference, self.case)(self.input, self.target, **given))

    def check(self, **more: Any) -> None:
        """Check a call with gradient and one without."""
        loss, grad = self.loss_and_gradient(**more)
        self.check_gradient(grad)
        for value in (loss, self.loss()):
            self.check_loss(value)
            assert np.array_equal(np.isinf(value), np.isinf(self.expected[0])), self.title

    def bits(self, **more: Any) -> list[bytes]:
        return [np.asarray(a).tobytes() for a in self.loss_and_gradient(**more)]


def combinations(case: Case, reduction: str) -> list[tuple[str, ...]]:
    """Every option with every other, but for mask and lengths."""
    return [o for o in case.combinations("indices", reduction) if not {"mask", "lengths"} <= set(o)]


def all_options(case: Case, reduction: str) -> tuple[str, ...]:
    return max(combinations(case, reduction), key=lambda o: (len(o), "mask" in o, ARRAY.label in o))


@lru_cache(maxsize=4096)
def call(case: Case, shape: Shape, dtype: str, reduction: str, *options_and_seed: Any) -> Call:
    """Make a call; the same arguments give the same object, so its answer is kept."""
    p = cases.problem(case, "indices", shape, dtype, reduction, *options_and_seed)
    return Call(p.case, p.dtype, p.reduction, p.input, p.target, p.options)


def plain_and_all(case: Case, dtype: str, *shapes: Shape) -> Iterator[Call]:
    for shape in shapes:
        yield call(case, shape, dtype, "mean")
        yield call(case, shape, dtype, "none", all_options(case, "none"))


def of_rows(case: Case, x: Array, target: Any, reduction: str = "none", **options: Any) -> Call:
    """A call with these rows; as sequences, each of one token."""
    y = np.asarray(target)
    if case is SEQUENCES:
        x, y = x[:, np.newaxis], y[:, np.newaxis]
    return Call(case, x.dtype.name, reduction, x, y, options)


# Against the reference


@over_all
def test_number_of_classes(case: Case, dtype: str) -> None:
    # 42 rows are two groups of 16 and a part; long rows go one by one, in blocks of 2048.
    for shape in (*((7, 6, c) if c < 65 else (3, 2, c) for c in CLASSES), (2, 40, 33)):
        for reduction in REDUCTIONS:
            for options in ((), all_options(case, reduction)):
                call(case, shape, dtype, reduction, options).check()


@over_all
def test_every_option_with_every_other(case: Case, dtype: str) -> None:
    for reduction in REDUCTIONS:
        for options, classes in itertools.product(combinations(case, reduction), (7, 67)):
            call(case, (2, 3, classes), dtype, reduction, options).check()


@over_cases
def test_options_at_their_ends(case: Case) -> None:
    for more in ({"temperature": 1e4}, {"temperature": 0.05}, {"grad_output": 0.0}, {"grad_output": 65536}):
        for classes in (11, 80):
            replace(call(case, (2, 4, classes), "float64", "sum"), options=more).check()


# Without the reference


@pytest.mark.parametrize("module", [reference, fastloss], ids=["reference", "fastloss"])
def test_by_hand(module: Any) -> None:
    def near(given: Any, exact: Any) -> None:
        np.testing.assert_allclose(given, exact, rtol=1e-13, atol=1e-15)

    p = np.array([1.0, 2.0, 5.0]) / 8
    x, y = np.log([[p, p], [p, p]]) + 3.0, np.array([[1, 0], [2, 2]])
    of_class = np.eye(3) - p
    value, grad = module.token_log_probs(x, y, return_grad=True)
    near(value, np.log(p)[y])
    near(grad, of_class[y])
    near(module.token_log_probs(x, [[1, 9], [2, 9]], ignore_index=9, reduction="mean"), -math.log(6.4) / 2)
    value, grad = module.sequence_log_probs(x, y, lengths=[2, 1], average=True, return_grad=True)
    near(value, [-math.log(32.0) / 2, -math.log(1.6)])
    near(grad, [[of_class[1] / 2, of_class[0] / 2], [of_class[2], 0.0 * p]])
    near(module.sequence_log_probs(x, y, mask=[[0, 1], [0, 0]], reduction="mean"), -math.log(8.0) / 2)
    entropy = math.log(8.0) - math.log(2.0) / 4 - 5 * math.log(5.0) / 8
    value, grad = module.entropy(x, return_grad=True, grad_output=3.0, reduction="mean")
    near(value, entropy)
    near(grad, np.broadcast_to(-p * (np.log(p) + entropy) * 3 / 4, x.shape))
    value, grad = module.entropy(np.log([1.0, 4.0, 25.0]), temperature=2.0, return_grad=True)
    near(value, entropy)
    near(grad, -p * (np.log(p) + entropy) / 2)


@over_dtypes
def test_token_log_probs_are_minus_the_cross_entropy(dtype: str) -> None:
    """To the bit."""
    for classes, options in itertools.product(CLASSES, combinations(TOKENS, "none")):
        p = call(TOKENS, (3, 4 if classes < 1000 else 1, classes), dtype, "none", options, 1)
        value, grad = p.loss_and_gradient()
        given: dict[str, Any] = {"reduction": "none", "return_grad": True, **p.options}
        loss, of_loss = fastloss.cross_entropy(p.input, p.target, **given)
        # From 0, so that an ignored token has 0 and not -0.
        assert value.tobytes() == p.loss().tobytes() == (0.0 - loss).tobytes(), p.title
        assert np.array_equal(grad.astype(np.float64), -of_loss.astype(np.float64)), p.title


def check_central_differences(p: Call, module: Any) -> None:
    # Without the large shift of every fourth row, which would cost the quotient its digits.
    x, step, f = p.input - 1e4 * (p.input > 5e3), 2.0**-8, function(module, p.case)
    _, grad = f(x, p.target, reduction=p.reduction, return_grad=True, **p.options)
    for index in zip(*np.nonzero(np.isfinite(x)), strict=True):
        v, moved = [], x.copy()
        for steps in (-2, -1, 1, 2):
            moved[index] = x[index] + steps * step
            v.append(np.sum(f(moved, p.target, **p.forward_options) * p.options.get("grad_output", 1.0)))
        quotient = (v[0] - 8.0 * v[1] + 8.0 * v[2] - v[3]) / (12.0 * step)
        assert grad[index] == pytest.approx(quotient, rel=1e-7, abs=5e-9), f"{p.title} {index}"


@pytest.mark.parametrize("reduction", REDUCTIONS)
@over_cases
def test_central_differences(case: Case, reduction: str) -> None:
    for options in combinations(case, reduction):
        p = call(case, (2, 3, 4), "float64", reduction, options, 5)
        check_central_differences(p, fastloss)
    check_central_differences(p, reference)


def test_as_torch() -> None:
    torch = pytest.importorskip("torch")
    for classes, case in itertools.product((5, 150), NAMES):
        p = call(case, (3, 4, classes), "float64", "none", ("temperature",), 6)
        x, y = torch.tensor(p.input, requires_grad=True), torch.tensor(p.target).unsqueeze(-1)
        if case is ENTROPY:
            theirs = torch.distributions.Categorical(logits=x / 1.7).entropy()
        else:
            theirs = torch.log_softmax(x / 1.7, dim=-1).gather(-1, y).squeeze(-1)
            theirs = theirs.sum(dim=-1) if case is SEQUENCES else theirs
        theirs.sum().backward()
        value, grad = p.loss_and_gradient()
        # Rows shifted by 1e4 have fewer digits in torch.
        np.testing.assert_allclose(value, theirs.detach().numpy(), rtol=1e-11, atol=1e-10)
        np.testing.assert_allclose(grad, x.grad.numpy(), rtol=1e-10, atol=1e-11)


@over_dtypes
def test_confident_rows_keep_their_digits(dtype: str) -> None:
    digits, of_entropy = (1e-12, 1e-12) if dtype == "float64" else (4e-7, 1e-5)
    for c, margin in itertools.product(CLASSES[1:], (12.0, 30.0, 60.0)):
        y, rows = np.array([0, 1, c - 1]), np.arange(3)
        x = np.zeros((3, c), dtype_named(dtype))
        x[rows, y] = margin
        x[1] -= x.dtype.type(16.0)  # exact in every type
        small = (c - 1) * math.exp(-margin)
        exact = np.full((3, c), -small / (c - 1) / (1 + small))
        exact[rows, y] = small / (1 + small)
        for p in (of_rows(TOKENS, x, y), of_rows(SEQUENCES, x, y, average=True)):
            value, grad = p.loss_and_gradient()
            for v in (value, p.loss()):
                assert_within(v, np.full(3, -math.log1p(small)), digits * math.log1p(small), p.title)
            bound = digits * np.abs(exact) + 0.5 * ulp(exact, dtype)
            assert_within(grad.reshape(3, c), exact, bound, p.title)
        p, entropy = of_rows(ENTROPY, x, y), math.log1p(small) + small / (1 + small) * margin
        for v in (p.loss_and_gradient()[0], p.loss()):
            assert_within(v, np.full(3, entropy), of_entropy * entropy, p.title)
        p.check()
    # A whole sequence of them.
    x = np.array([[0.0, 30.0, 0.0]] * 20, dtype_named(dtype))
    assert fastloss.sequence_log_probs(x, [1] * 20) == pytest.approx(-3.74304918753567e-12, rel=4e-7)


@over_all
def test_level_rows(case: Case, dtype: str) -> None:
    for c in CLASSES:
        p = of_rows(case, np.array([[0.75] * c, [-48.0] * c], dtype_named(dtype)), [c // 2, c - 1])
        p.check()
        exact = math.log(c) if case is ENTROPY else -math.log(c)
        assert_within(p.loss(), np.full(2, exact), 4e-7 * math.log(c), p.title)


@over_wide
def test_a_common_shift_changes_nothing(case: Case, dtype: str) -> None:
    for c in (10, 70):
        base = call(case, (2, 3, c), dtype, "none", all_options(case, "none"), 2)
        # Multiples of 2**-7 between -8 and 8: with 1e4 beside them they are exact in float32.
        x = np.rint(np.random.default_rng(c).uniform(-8, 8, base.input.shape) * 128) / 128
        shifted = (x + 1e4).astype(dtype)
        assert (shifted == x + 1e4).all()
        level = replace(base, input=x.astype(dtype))
        value, grad = level.loss_and_gradient(input=shifted)
        level.check_loss(value)
        level.check_gradient(grad)


# Rows that are not numbers, rows far away

ROWS = "nan 1 2, 0 1 nan, 0 inf 2, inf inf 2, inf 0 -inf, -inf -inf -inf, -inf nan -inf"
ROWS += ", 1 .5 -inf, 1 -inf .5, -inf 3 -inf, 6e4 -6e4 0"


@over_all
def test_rows_with_infinities_or_nan(case: Case, dtype: str) -> None:
    for c, given in itertools.product((3, 64, 65, 2100), ROWS.split(", ")):
        row = np.array(given.split(), float)
        x = np.full((5, c), -3.0 if c < 100 else -20.0)
        x[[0, 1, 3, 4], :3] = [0.25, -1.0, 2.0]
        x[2] = -INF if row[0] == -INF else x[2]
        x[2, [0, c // 2, c - 1]] = row  # the target is the second
        bad = not np.isfinite(row.max())
        options: list[dict[str, Any]] = [{}, {"temperature": 0.7, "grad_output": np.linspace(-1.0, 1.5, 5)}]
        for more in options:
            p = of_rows(case, x.astype(dtype_named(dtype)), [0, 1, c // 2, 1, 2], **more)
            p.check()
            grad = p.loss_and_gradient()[1].astype(np.float64).reshape(5, c)
            assert np.isnan(grad).any(axis=1).tolist() == [False, False, bad, False, False], p.title
            masked = (x[2] == -INF) & ((np.arange(c) != c // 2) | (case is ENTROPY))
            assert np.isnan(grad[2]).all() if bad else not grad[2, masked].any(), p.title
        # The other gradients go on though the sum is NaN.
        replace(p, reduction="sum", options={}).check()


@over_wide
def test_the_whole_range_of_the_type(case: Case, dtype: str) -> None:
    most = float(np.finfo(dtype).max)
    for c, temperature in itertools.product((3, 70), (1.0, 1e-3, 1e30)):
        x = np.zeros((5, c), dtype)
        x[0, :2], x[1, :2], x[2, 2], x[3] = [most, -most], most, -most, -most
        x[4] = np.linspace(-most / 4, most / 4, c)
        of_rows(case, x, [0, 1, 0, 2, c - 1], temperature=temperature).check()


# Nothing to read


@over_all
def test_nothing_to_read(case: Case, dtype: str) -> None:
    """No rows, or none that counts."""
    shapes = [
        (0, 5),
        (3, 0, 5),
        (0, 4, 100),
        (0, 0, 5),
        *([] if case is ENTROPY else [(6, 3, 5), (6, 3, 100)]),
    ]
    for shape, reduction, average in itertools.product(shapes, REDUCTIONS, (False, True)):
        x, y = np.full(shape, NAN, dtype_named(dtype)), np.full(shape[:-1], -100)
        rows: Shape = shape[:-1]
        options: list[dict[str, Any]] = [{}]
        if case is SEQUENCES:
            rows, options = shape[:-2], [{"mask": 0 * y}, {"lengths": np.zeros(shape[:-2], int)}]
            options = [{**given, "average": average} for given in options + [{}] * (x.size == 0)]
        for given in options:
            value, grad = (p := Call(case, dtype, reduction, x, y, given)).loss_and_gradient()
            assert grad.dtype == x.dtype
            assert_within(grad, np.zeros(shape), 0.0, p.title)
            for v in (value, p.loss(), p.expected[0]):
                assert np.shape(v) == (rows if reduction == "none" else ()), p.title
                if reduction == "mean" and (case is TOKENS or math.prod(rows) == 0):
                    assert math.isnan(v), p.title
                else:
                    assert not np.any(v) and not np.signbit(v).any(), p.title


# In memory


@pytest.mark.parametrize("axis", [-3, -2, 0, 1, 2])
@over(cases.DTYPES, TOKENS, ENTROPY)
def test_any_axis(case: Case, dtype: str, axis: int) -> None:
    for p in plain_and_all(case, dtype, (4, 5, 7), (3, 2, 90)):
        moved = np.moveaxis(p.input, -1, axis)
        for x in (moved, np.ascontiguousarray(moved)):
            value, grad = p.loss_and_gradient(input=x, axis=axis)
            p.check_loss(value)
            p.check_gradient(np.moveaxis(grad, axis, -1))
            theirs = function(reference, case)(x, p.target, axis=axis, **p.forward_options)
            np.testing.assert_allclose(theirs, p.expected[0], rtol=1e-12)


# Each makes, of an array, one that lies in another way with the same values.
VIEWS: dict[str, Callable[[Array], Array]] = {
    "sliced": lambda a: np.concatenate([a, a], axis=-1)[..., : a.shape[-1]],
    "every second": lambda a: a.repeat(2, axis=-1)[..., ::2],
    "every third row": lambda a: a.repeat(3, axis=0)[::3],
    "reversed": lambda a: np.flip(np.flip(a).copy()),
    "Fortran order": np.asfortranarray,
    "first axes swapped": lambda a: a.swapaxes(0, (a.ndim > 1) * 1).copy().swapaxes(0, (a.ndim > 1) * 1),
    "unaligned": lambda a: np.frombuffer(b"0" + a.tobytes(), a.dtype, offset=1).reshape(a.shape),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@over_all
def test_strides(case: Case, dtype: str, view: Callable[[Array], Array]) -> None:
    for p in plain_and_all(case, dtype, (3, 4, 9), (3, 4, 90)):
        options = {k: view(v) if np.ndim(v) else v for k, v in p.options.items()}
        replace(p, input=view(p.input), target=view(p.target), options=options).check()


@over_cases
def test_batch_shapes_and_kinds_of_arrays(case: Case) -> None:
    for p in plain_and_all(case, "float64", (4, 6), (2, 3, 4, 5), (2, 1, 2, 3, 70)):
        p.check()
    one = call(case, (1, 9), "float64", "none")
    if case is not SEQUENCES:
        assert one.function(one.input[0], one.target[0]) == one.loss()[0]
    p = call(case, (2, 3, 6), "float64", "sum")
    for x in (p.input.tolist(), p.input.astype(">f8")):
        p.check(input=x)
    whole = replace(p, input=np.random.default_rng(0).integers(-3, 4, (2, 3, 6)))
    for x in (whole.input, whole.input.astype("i1"), whole.input.tolist()):
        whole.check(input=x)
    for kind in ("int8", "uint8", ">i4", "uint64"):
        replace(p, target=p.target.astype(kind)).check()
    assert p.function(p.input, p.target.tolist(), reduction="sum") == p.loss()


def test_kinds_of_masks_and_lengths() -> None:
    integers = ["int8", "uint8", "int64", "uint64", ">i4"]
    for c in (6, 70):
        for label, kinds in (("mask", [*integers, *map(dtype_named, cases.DTYPES)]), ("lengths", integers)):
            p = call(SEQUENCES, (5, 7, c), "float32", "none", (label, "average"))
            given, want = p.options[label], p.bits()
            for other in (*(given.astype(kind) for kind in kinds), given.tolist()):
                assert p.bits(**{label: other}) == want
        # The same as the mask of those tokens.
        assert p.bits(lengths=None, mask=np.arange(7) < given[:, np.newaxis]) == want
        # A target that is not read may be anything, of any type.
        for kind, wild in (("uint64", 2**64 - 1), ("int64", -(2**63)), ("int8", -100), ("uint8", 255)):
            y = np.array([1, 0, 1, wild, wild], kind)
            for options in ({"mask": [1, 1, 1, 0, 0]}, {"lengths": 3}):
                Call(SEQUENCES, "float32", "none", np.zeros((5, c), np.float32), y, options).check()


@over_all
def test_in_place_out_and_accumulate(case: Case, dtype: str) -> None:
    for p in plain_and_all(case, dtype, (3, 4, 9), (3, 4, 90)):
        want, x, turned = p.bits(), np.array(p.input), np.flip(np.flip(p.input).copy())
        wide = np.full((*x.shape[:-1], 2 * x.shape[-1]), 77.0).astype(x.dtype)
        for given in ({"input": x, "out": x}, {"out": wide[..., ::2]}, {"out": np.empty_like(x.T).T}):
            assert p.bits(**given) == want, p.title
            assert p.loss_and_gradient(out=given["out"])[1] is given["out"]
        assert (wide[..., 1::2].astype(np.float64) == 77.0).all()
        p.check_gradient(p.loss_and_gradient(input=turned, out=turned)[1])
        start = np.random.default_rng(1).standard_normal(x.shape).astype(x.dtype)
        out = start.copy()
        value, grad = p.loss_and_gradient(out=out, accumulate=True)
        p.check_loss(value)
        assert grad is out
        # The sum is rounded once more, in the type computed in.
        total = start.astype(np.float64) + p.expected[1]
        rounding = np.abs(total) * (2.0**-53 if dtype == "float64" else 2.0**-24)
        assert_within(out, total, p.tolerance_of(total) + rounding, p.title)
        unread = np.isnan(p.input.astype(np.float64)).all(axis=-1)
        assert out[unread].tobytes() == start[unread].tobytes(), p.title


@over_wide
def test_any_number_of_threads(case: Case, dtype: str) -> None:
    shapes = ((300, 10, 10), (70, 10, 64), (2, 7, 5000), (1, 2, 70_000))
    for p in plain_and_all(case, dtype, *shapes):
        assert p.bits(num_threads=1) == p.bits(num_threads=2), p.title
        one, two = (np.asarray(p.loss(num_threads=n)).tobytes() for n in (1, 2))
        assert one == two, p.title


# Errors: those of cross_entropy, and of mask, lengths and average


def refused(case: Case, error: Any, name: str, **given: Any) -> str:
    """Assert that an error names the argument, and that nothing is written, in place or to a buffer."""
    of_gradient = {"return_grad", "accumulate", "grad_output", "out"} & {name, *given}
    f, message = function(fastloss, case), ""
    for accumulate, in_place, forward in itertools.product((False, True), repeat=3):
        x = given.get("logits", errors.logits())
        out = errors.logits() if not isinstance(x, np.ndarray) else x if in_place else np.zeros_like(x)
        before = np.array(out).tobytes()
        options: dict[str, Any] = {"return_grad": True, "out": out, "accumulate": accumulate}
        options = {**({} if forward and not of_gradient else options), "reduction": "none", **given}
        arrays = [options.pop("logits", x), options.pop("target", errors.indices())]
        message = errors.refused(lambda a=arrays, o=options: f(*a, **o), error, name)  # type: ignore[misc]
        assert np.array(out).tobytes() == before, f"written before the error: {message}"
    return message


M = np.ones(4)
OWN = [
    *errors.bad("average", TypeError, 1, 0, None, "yes", [True]),
    *errors.bad("mask", ValueError, *(v * M for v in (2, -1, 0.5, NAN, INF, 256, 1e-300)), [1, 1, -1, 0]),
    *errors.bad("mask", ValueError, True, M[:3], M[np.newaxis], np.ones((4, 6)), np.ones(1, bool), []),
    *errors.bad("mask", (TypeError, ValueError), "text", M.astype(complex), [None] * 4, [[1], [1, 0]]),
    *errors.bad("lengths", ValueError, -1, 5, 2**40, np.uint64(2**63), [2], [4] * 4),
    *errors.bad("lengths", TypeError, 2.0, True, np.bool_(True), 1j),
    *errors.bad("lengths", (TypeError, ValueError), "text", [None], 2.0 * M),
    *errors.bad("grad_output", ValueError, M, [1.0]),
    *errors.bad("logits", ValueError, np.zeros(6, np.float32)),
]
TEMPERATURES = [row for row in errors.CROSS_ENTROPY if row.argument == "temperature"]
SHARED = [row for row in errors.SHARED if "weight" not in row.argument]


@over_cases
def test_bad_arguments(case: Case) -> None:
    unknown = {SEQUENCES: ("axis", "ignore_index"), ENTROPY: ("target", "ignore_index")}.get(case, ())
    own = OWN if case is SEQUENCES else []
    for row in (*errors.INPUTS, *errors.TARGETS, *SHARED, *TEMPERATURES, *own):
        name, given = row.argument or "logits", dict(row.with_options)
        if name in unknown:
            continue
        for reduction in ("mean", "sum") if name == "grad_output" and not given else ("none", "mean"):
            refused(case, row.error, name, **{"reduction": reduction, name: row.value, **given})
    refused(case, TypeError, "label_smoothing", label_smoothing=0.1)
    refused(case, ValueError, "class", logits=np.zeros((4, 0), np.float32))
    refused(case, ValueError, "out|accumulate", out=None, accumulate=True)
    for given in ({"out": None, "accumulate": False, "grad_output": 2.0}, {"accumulate": False}):
        refused(case, ValueError, "return_grad", return_grad=False, **given)
    if case is SEQUENCES:
        assert "lengths" in refused(case, ValueError, "mask", mask=M, lengths=4)


@over_cases
def test_bad_out(case: Case) -> None:
    for error, make in errors.BUFFERS.values():
        refused(case, error, "out", out=make())
    for name in errors.over_input(np.zeros((8, 6))):
        x, out = errors.over_input(np.zeros((8, 6), np.float32))[name]
        refused(case, ValueError, "out", logits=x, out=out)
    wide = np.zeros((4, 8), np.float32)
    other = {"mask" if case is SEQUENCES else "grad_output": wide[:, 0]}
    refused(case, ValueError, "out", out=wide[:, :6], reduction="none", **other)
    assert not wide.any()


@pytest.mark.parametrize("case", [TOKENS, SEQUENCES], ids=lambda case: case.name)
def test_bad_class_indices(case: Case) -> None:
    for wrong, dtype, position, shown in errors.OUT_OF_RANGE:
        message = refused(case, IndexError, "target", target=np.array(wrong, dtype))
        assert {str(position), shown} <= set(re.findall(r"-?\d+", message)), message
    x, y = np.zeros((3, 30, 20, 70), np.float32), np.zeros((3, 30, 20), int)
    y[1, 28, 13] = y[2] = 70
    assert "1, 28, 13" in refused(case, IndexError, "target", logits=x, target=y)
    if case is TOKENS:
        return
    # One to ignore is one only if it is the one to ignore.
    assert "-100" in refused(case, IndexError, "target", target=np.array([0, 1, 2, -100]), ignore_index=-1)
    x, y, counts = x[0, :2, :3, :6].copy(), np.array([[9, 0, 1], [0, -1, 7]]), np.ones((2, 3))
    for where, named in (((0, 0), "1, 1"), ((1, 1), "1, 2")):
        counts[where] = 0
        for mask in (counts, counts.astype(bool)):
            assert named in refused(case, IndexError, "target", logits=x, target=y, mask=mask)
    assert "1, 1" in refused(case, IndexError, "target", logits=x, target=y, lengths=[0, 2])
    Call(case, "float32", "mean", x, y, {"lengths": [0, 1]}).check()
    counts[1, 2] = 0
    Call(case, "float32", "none", x, y, {"mask": counts}).check()
