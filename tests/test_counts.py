"""`reduction="sum_and_count"` over the registry: the sum beside what a mean divides by."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers import DTYPES, HALF, assert_near, bits, dtype_named, each, nearly, on_one_isa, over_product
from registry import Call, Row, call, plain_and_all
from test_contract import LOSSES, MASKED, SHARED_OUT, mask_options, over, read_by_row, some_rows

import fastloss
from fastloss import reference

# Their means are over the means of the sequences, whose sum stands in the pair.
OF_SEQUENCES = ("grpo", "sapo")
PAIR = "sum_and_count"


def is_of_sequences(c: Call) -> bool:
    return c.row.name == "grpo_loss" and c.get("loss_type", "grpo") in OF_SEQUENCES


def is_uneven(c: Call) -> bool:
    """Whether the two parts of a linear divergence divide by two numbers."""
    target, share = c.arguments.get("hard_target"), c.get("hard_share", 0.0)
    if target is None or share == 1.0:
        return False
    counted = np.ones(c.loss_shape, bool) if c.get("mask", None) is None else np.asarray(c["mask"]) == 1
    return bool((counted & (np.asarray(target) == c.get("ignore_index", -100))).any())


def evened(c: Call) -> Call:
    """The call with a hard target for each token; without both parts, the call itself."""
    if not is_uneven(c):
        return c
    target = c["hard_target"]
    is_ignored = target == c.get("ignore_index", -100)
    return replace(c, arguments={**c.arguments, "hard_target": np.where(is_ignored, 0, target)})


def same(c: Call, actual: Any, expected: Any) -> bool:
    """The same bits, but for the order of the terms in matrix products."""
    if c.row.same_bits or bits(actual) == bits(expected):
        return bits(actual) == bits(expected)
    return all(np.allclose(a, b, rtol=1e-6, atol=1e-9) for a, b in zip(actual, expected, strict=True))


def check(c: Call) -> None:
    """A sum: its bits, its derivatives, and its count against the mean and the reference."""
    pair = replace(c, reduction=PAIR)
    if is_uneven(c):
        for module in (fastloss, reference):
            with pytest.raises(ValueError, match=r"hard.target"):
                pair.value(module=module)
        c = evened(c)
        pair = replace(c, reduction=PAIR)
    (total, count), derivatives = pair.run()
    assert type(total) is type(count) is float, c.title
    assert same(c, pair.value(), (total, count)), c.title
    (exact, exact_count), exact_derivatives = pair.expected
    assert count == pytest.approx(exact_count, rel=1e-14 if pair.dtype == "float64" else 1e-6), c.title
    if not is_of_sequences(c):
        assert_near(total, exact, c.bound, "float64", c.title)
        loss, expected = c.run()
        assert same(c, (total,), (loss,)) and same(c, derivatives, expected), c.title
    else:
        assert total == pytest.approx(exact, rel=1e-6, abs=1e-9), c.title
        for one, other in zip(derivatives, exact_derivatives, strict=True):
            np.testing.assert_allclose(one.astype(float), other, rtol=1e-2, atol=1e-2)
    mean = replace(c, reduction="mean").value()
    if count:
        quotient, relative = total / count, 1e-14 if c.row.same_bits else 1e-6
        assert nearly(mean, quotient) or mean == pytest.approx(quotient, rel=relative)
    else:
        assert total == 0.0 and (math.isnan(mean) or mean == 0.0), c.title


@on_one_isa
@over_product
@over(LOSSES)
@each("dtype", DTYPES)
def test_sum_and_count(row: Row, dtype: str, product: bool) -> None:
    for number in range(len(row.sets)):
        shape = row.shapes[number % 2]
        single = [(option.name,) for option in row.extras if product or number == 0]
        for company in {(), row.company(), *single}:
            check(call(row, shape, dtype, "sum", number, company, "scalar"))


@on_one_isa
@over_product
@over(LOSSES)
def test_sum_and_count_of_many_sizes(row: Row, product: bool) -> None:
    """Plain calls have a way of their own, and so have short rows, one element and nothing.

    Plain calls and calls with all options take turns, from size to size and from type to type.
    """
    sizes = [*row.sizes, *row.empty]
    for turn, dtype in enumerate(("float32", "float64", HALF)):
        for place, shape in enumerate(sizes):
            for path, c in enumerate(plain_and_all(row, shape, dtype)):
                if product or path == (place + turn) % 2:
                    options = {k: v for k, v in c.options.items() if k != "grad_output"}
                    check(replace(c, reduction="sum", options=options))


@on_one_isa
@over([row for row in SHARED_OUT if row in LOSSES])
def test_sum_and_count_on_several_threads(row: Row) -> None:
    c = evened(call(row, row.large[0], "float32", PAIR, len(row.sets) - 1, row.company()))
    assert bits(c.run(num_threads=1)) == bits(c.run(num_threads=3)), c.title


@over(LOSSES)
def test_buffers_of_sum_and_count(row: Row) -> None:
    """The gradient goes to a buffer, is added to one, and is scaled as that of a sum."""
    for dtype in ("float32", HALF):
        c = evened(call(row, row.shapes[0], dtype, "sum"))
        for options in ({}, {"grad_output": 0.75}):
            results = []
            for reduction in ("sum", PAIR):
                for accumulate in (False, True):
                    buffers = c.buffers()
                    one = replace(c, reduction=reduction)
                    one.run(out=c.out(*buffers), accumulate=accumulate, **options)
                    results.append(buffers)
            if is_of_sequences(c):
                continue
            assert same(c, results[2], results[0]) and same(c, results[3], results[1]), c.title
    with pytest.raises(ValueError, match="grad_output"):
        replace(c, reduction=PAIR).run(grad_output=np.ones(c.loss_shape))


@over(MASKED)
def test_nothing_counts_in_a_pair(row: Row) -> None:
    """No rank that has nothing adds to the count."""
    for name in mask_options(row):
        c = call(row, row.shapes[0], "float32", PAIR, 0, (name,))
        given = {k: np.full_like(a, np.nan) for k, a in read_by_row(c)}
        rows = c["target"].shape if "target" in row.arrays else c.loss_shape
        none = {
            "ignore_index": {"target": np.full(rows, -100), "ignore_index": None},
            "lengths": {"lengths": np.zeros(rows[:-1], int)},
        }.get(name, {"mask": np.zeros(rows, bool)})
        pair = c.with_(**given, **none)
        total, count = pair.value()
        # A sequence without tokens is a sequence; and a type may divide by their number.
        is_each = row.name in ("sequence_log_probs", "grpo_loss")
        assert total == 0.0 and not np.signbit(total), c.title
        assert count == pair.expected[0][1] and (count == 0.0 or is_each), c.title
        assert not any(np.asarray(a, float).any() for a in pair.run()[1]), c.title


@over([row for row in LOSSES if row.local and not row.shared])
def test_counts_of_parts_add_up(row: Row) -> None:
    """The mean of the whole is the sum of the parts' sums over that of their counts."""
    c = call(row, row.shapes[0], "float64", "mean", 0, row.company())
    parts = (replace(some_rows(c, slice(*at)), reduction=PAIR) for at in ((0, 1), (1, 4), (4, None)))
    total, count = (math.fsum(values) for values in zip(*(part.value() for part in parts), strict=True))
    assert c.value() == pytest.approx(total / count, rel=1e-12), c.title


@each("dtype", DTYPES)
def test_a_weighted_count(dtype: str) -> None:
    """Class weights times sample weights; elements by their weights, and without them by their number."""
    x = np.zeros((3, 2), dtype_named(dtype))
    weights: Any = {"weight": [0.25, 2.0], "sample_weight": [2.0, 1.0, 9.0]}
    total, count = fastloss.cross_entropy(x, [0, 1, -100], **weights, reduction=PAIR)
    assert count == 2.5 and total == pytest.approx(2.5 * math.log(2.0))
    assert fastloss.mse_loss(x, 1.0, weight=0.5, reduction=PAIR) == (3.0, 3.0)
    assert fastloss.binary_cross_entropy_with_logits(x, 1.0, weight=0.5, reduction=PAIR)[1] == 6.0
    assert fastloss.kl_div(x, x, reduction=PAIR)[1] == 6.0
