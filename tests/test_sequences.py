"""Of token_log_probs, sequence_log_probs and entropy alone: by hand, confident rows, infinities, lengths."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from helpers import INF, Array, assert_within, bits, dtype_named, over_dtypes, over_wide, refused, ulp
from registry import Call, Row, call, over, with_all
from rows.softmax import ENTROPY, SEQUENCES, TOKENS

import fastloss
from fastloss import reference

pytestmark = pytest.mark.usefixtures("one_isa")

CLASSES = (1, 2, 3, 10, 64, 65, 1000, 5000)
NAMES = (TOKENS, SEQUENCES, ENTROPY)


over_names = over(NAMES)


def of_rows(row: Row, x: Array, target: Any, reduction: str = "none", **options: Any) -> Call:
    """A call with these rows; as sequences, each of one token."""
    y = np.asarray(target)
    if row is SEQUENCES:
        x, y = x[:, np.newaxis], y[:, np.newaxis]
    arguments = {"logits": x} if row is ENTROPY else {"logits": x, "target": y}
    return Call(row, x.dtype.name, reduction, arguments, options)


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
    for classes in CLASSES:
        for number, company in itertools.product((0, 1), ((), ("ignore_index",))):
            for kind in (None, "scalar", "array"):
                shape = (3, 4 if classes < 1000 else 1, classes)
                c = call(TOKENS, shape, dtype, "none", number, company, kind, 1)
                value, (grad,) = c.run()
                given: dict[str, Any] = {"reduction": "none", "return_grad": True, **c.options}
                loss, of_loss = fastloss.cross_entropy(*c.arguments.values(), **given)
                # From 0, so that an ignored token has 0 and not -0.
                assert bits(value) == bits(c.value()) == bits(0.0 - loss), c.title
                assert np.array_equal(grad.astype(np.float64), -of_loss.astype(np.float64)), c.title


@over_names
def test_options_at_their_ends(row: Row) -> None:
    for more in ({"temperature": 1e4}, {"temperature": 0.05}, {"grad_output": 0.0}, {"grad_output": 65536}):
        for classes in (11, 80):
            call(row, (2, 4, classes), "float64", "sum").with_(**more).check()


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
            value, (grad,) = p.run()
            for v in (value, p.value()):
                assert_within(v, np.full(3, -math.log1p(small)), digits * math.log1p(small), p.title)
            bound = digits * np.abs(exact) + 0.5 * ulp(exact, dtype)
            assert_within(grad.reshape(3, c), exact, bound, p.title)
        p, entropy = of_rows(ENTROPY, x, y), math.log1p(small) + small / (1 + small) * margin
        for v in (p.run()[0], p.value()):
            assert_within(v, np.full(3, entropy), of_entropy * entropy, p.title)
        p.check()
    # A whole sequence of them.
    x = np.array([[0.0, 30.0, 0.0]] * 20, dtype_named(dtype))
    assert fastloss.sequence_log_probs(x, [1] * 20) == pytest.approx(-3.74304918753567e-12, rel=4e-7)


@over_wide
@over_names
def test_a_common_shift_changes_nothing(row: Row, dtype: str) -> None:
    for classes in (10, 70):
        base = with_all(row, (2, 3, classes), dtype, seed=2)
        # Multiples of 2**-7 between -8 and 8: with 1e4 beside them they are exact in float32.
        x = np.rint(np.random.default_rng(classes).uniform(-8, 8, base.shape) * 128) / 128
        shifted = (x + 1e4).astype(dtype)
        assert (shifted == x + 1e4).all()
        level = base.with_(logits=x.astype(dtype))
        level.check_result(level.run(logits=shifted))


@over_dtypes
@over_names
def test_level_rows(row: Row, dtype: str) -> None:
    for c in CLASSES:
        p = of_rows(row, np.array([[0.75] * c, [-48.0] * c], dtype_named(dtype)), [c // 2, c - 1])
        p.check()
        exact = math.log(c) if row is ENTROPY else -math.log(c)
        assert_within(p.value(), np.full(2, exact), 4e-7 * math.log(c), p.title)


# Rows that are not numbers, rows far away

ROWS = "nan 1 2, 0 1 nan, 0 inf 2, inf inf 2, inf 0 -inf, -inf -inf -inf, -inf nan -inf"
ROWS += ", 1 .5 -inf, 1 -inf .5, -inf 3 -inf, 6e4 -6e4 0"


@over_dtypes
@over_names
def test_rows_with_infinities_or_nan(row: Row, dtype: str) -> None:
    for c, given in itertools.product((3, 64, 65, 2100), ROWS.split(", ")):
        values = np.array(given.split(), float)
        x = np.full((5, c), -3.0 if c < 100 else -20.0)
        x[[0, 1, 3, 4], :3] = [0.25, -1.0, 2.0]
        x[2] = -INF if values[0] == -INF else x[2]
        x[2, [0, c // 2, c - 1]] = values  # the target is the second
        bad = not np.isfinite(values.max())
        options: list[dict[str, Any]] = [{}, {"temperature": 0.7, "grad_output": np.linspace(-1.0, 1.5, 5)}]
        for more in options:
            p = of_rows(row, x.astype(dtype_named(dtype)), [0, 1, c // 2, 1, 2], **more)
            p.check()
            grad = p.run()[1][0].astype(np.float64).reshape(5, c)
            assert np.isnan(grad).any(axis=1).tolist() == [False, False, bad, False, False], p.title
            masked = (x[2] == -INF) & ((np.arange(c) != c // 2) | (row is ENTROPY))
            assert np.isnan(grad[2]).all() if bad else not grad[2, masked].any(), p.title
        # The other gradients go on though the sum is NaN.
        p.plain("sum").check()


@over_wide
@over_names
def test_the_whole_range_of_the_type(row: Row, dtype: str) -> None:
    most = float(np.finfo(dtype).max)
    for c, temperature in itertools.product((3, 70), (1.0, 1e-3, 1e30)):
        x = np.zeros((5, c), dtype)
        x[0, :2], x[1, :2], x[2, 2], x[3] = [most, -most], most, -most, -most
        x[4] = np.linspace(-most / 4, most / 4, c)
        of_rows(row, x, [0, 1, 0, 2, c - 1], temperature=temperature).check()


# Masks and lengths


def test_kinds_of_lengths() -> None:
    for classes in (6, 70):
        c = call(SEQUENCES, (5, 7, classes), "float32", "none", 1, ("lengths",))
        given, want = c["lengths"], c.bits()
        for other in (*map(given.astype, ("int8", "uint8", "int64", "uint64", ">i4")), given.tolist()):
            assert c.bits(lengths=other) == want
        # The same as the mask of those tokens.
        assert c.bits(lengths=None, mask=np.arange(7) < given[:, np.newaxis]) == want
        # A target that is not read may be anything, of any type.
        for kind, wild in (("uint64", 2**64 - 1), ("int64", -(2**63)), ("int8", -100), ("uint8", 255)):
            y = np.array([1, 0, 1, wild, wild], kind)
            arguments = {"logits": np.zeros((5, classes), np.float32), "target": y}
            for options in ({"mask": [1, 1, 1, 0, 0]}, {"lengths": 3}):
                Call(SEQUENCES, "float32", "none", arguments, options).check()


def test_bad_class_indices_of_sequences() -> None:
    c = call(SEQUENCES, (2, 3, 6), "float32", "mean")
    x, y, counts = np.zeros((2, 3, 6), np.float32), np.array([[9, 0, 1], [0, -1, 7]]), np.ones((2, 3))
    # One to ignore is one only if it is the one to ignore.
    ignored = c.with_(target=np.array([[0, 1, 2], [-100, 0, 0]]), ignore_index=-1)
    assert "-100" in refused(ignored.run, IndexError, "target")
    for where, named in (((0, 0), "1, 1"), ((1, 1), "1, 2")):
        counts[where] = 0
        for mask in (counts, counts.astype(bool)):
            assert named in refused(c.with_(logits=x, target=y, mask=mask).run, IndexError, "target")
    assert "1, 1" in refused(c.with_(logits=x, target=y, lengths=np.array([0, 2])).run, IndexError, "target")
    c.with_(logits=x, target=y, lengths=np.array([0, 1])).check()
    counts[1, 2] = 0
    c.with_(logits=x, target=y, mask=counts, reduction="none").check()


def test_mask_and_lengths_together() -> None:
    both = call(SEQUENCES, (2, 3, 6)).with_(mask=np.ones((2, 3)), lengths=np.array([3, 3]))
    assert "lengths" in refused(both.value, ValueError, "mask")
