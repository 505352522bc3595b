"""More than 2**31 elements: no position overflows 32 bits, and memory stays small.

Large arrays are rows repeated with stride 0, or fresh zeros, whose pages the system shares until
they are written to, so that positions beyond 32 bits are counted, addressed and read for nothing.
"""

import math

import ml_dtypes
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastloss
from fastloss import reference

BEYOND = 2**31
THREADS = 2
CLASSES = 32_768
ROWS = 65_600  # times CLASSES is 2.1e6 more than 2**31


def zeros(shape, dtype):
    """Fresh zeros of more than 2**31 elements, in memory that is there only where it is used."""
    try:
        array = np.zeros(shape, dtype)
    except MemoryError:
        pytest.skip("the system does not promise this much memory")
    assert array.size > BEYOND
    return array


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_repeated_rows(dtype):
    """Every row is counted once, with its own target."""
    row = np.random.default_rng(0).standard_normal(CLASSES).astype(dtype)
    x = np.broadcast_to(row, (ROWS, CLASSES))
    assert x.size > BEYOND
    target = np.arange(ROWS) % CLASSES
    loss = fastloss.cross_entropy(x, target, reduction="none", num_threads=THREADS)
    expected = reference.logsumexp(row) - row.astype(np.float64)[target]
    assert_allclose(loss, expected, rtol=3e-7, atol=1e-6)
    assert_array_equal(loss[:CLASSES], loss[CLASSES : 2 * CLASSES])


def test_rows_beyond():
    """Rows that lie beyond 2**31 elements are read there, and their gradients written there."""
    x = zeros((ROWS, CLASSES), np.float16)
    counted = np.array([0, 1, ROWS // 2 - 1, ROWS // 2, ROWS - 2, ROWS - 1])
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((counted.size, CLASSES)).astype(np.float16)
    x[counted] = rows
    target = np.full(ROWS, -100)
    target[counted] = rng.integers(0, CLASSES, counted.size)
    target[-1] = CLASSES - 1
    few, few_grad = fastloss.cross_entropy(rows, target[counted], return_grad=True)
    # Losses of other rows stand between those that are added: the last bit may differ.
    assert_allclose(fastloss.cross_entropy(x, target, num_threads=THREADS), few, rtol=1e-15)
    nll = fastloss.nll_loss(x, target, num_threads=THREADS)
    assert_allclose(nll, fastloss.nll_loss(rows, target[counted]), rtol=1e-15)

    # Adding to a buffer leaves the memory of ignored rows alone.
    out = zeros((ROWS, CLASSES), np.float16)
    given = {"return_grad": True, "out": out, "accumulate": True, "num_threads": THREADS}
    loss, _ = fastloss.cross_entropy(x, target, **given)
    assert_allclose(loss, few, rtol=1e-15)
    assert_array_equal(out[counted], few_grad)
    assert not np.any(out[counted[:-2] + 2])


def test_target_beyond():
    """A row of more than 2**31 classes, its largest logit and its target among the last."""
    classes = BEYOND + 1000
    x = zeros((1, classes), np.float16)
    x[0, -3] = 30.0
    x[0, 5] = 29.0
    total = (classes - 2) + math.exp(30.0) + math.exp(29.0)
    for target in (classes - 3, classes - 1, 5):
        loss = fastloss.cross_entropy(x, [target], num_threads=THREADS)
        expected = math.log(total) - float(x[0, target])
        assert_allclose(loss, expected, rtol=1e-6)
    with pytest.raises(IndexError, match=str(classes)):
        fastloss.cross_entropy(x, [classes])


def test_classes_first():
    """The class axis first: neighbouring classes of the last row are 65600 elements apart."""
    x = zeros((CLASSES, ROWS), np.float16)
    column = np.zeros(CLASSES, np.float16)
    # Few, as each makes a page of its own (of 2 MB, perhaps) real.
    chosen = np.array([0, 5, CLASSES // 2, CLASSES - 2, CLASSES - 1])
    column[chosen] = [7.0, -3.0, 8.5, 9.0, 6.0]
    x[chosen, -1] = column[chosen]
    target = np.full(ROWS, -100)
    for last in (CLASSES - 1, CLASSES // 2, 1):
        target[-1] = last
        loss = fastloss.cross_entropy(x, target, axis=0, num_threads=THREADS)
        assert loss == fastloss.cross_entropy(column, last)


def test_short_rows_beyond():
    """Rows of 64 go into vector lanes; of more than 2**25 of them the last 20 count."""
    rows, last = BEYOND // 64 + 1000, 20
    x = zeros((rows, 64), np.float16)
    values = np.random.default_rng(3).standard_normal((last, 64)).astype(np.float16)
    x[-last:] = values
    target = np.full(rows, -100)
    target[-last:] = np.arange(last)
    loss = fastloss.cross_entropy(x, target, num_threads=THREADS)
    assert_allclose(loss, fastloss.cross_entropy(values, np.arange(last)), rtol=1e-15)


def test_a_hundred_million_terms():
    """Sums of float32 terms are those of float64."""
    part = np.random.default_rng(7).standard_normal(1_000_003).astype(np.float32)
    x = np.resize(part, 100_000_000)
    away = x - np.float32(0.25)
    for function, terms in ((fastloss.mse_loss, np.square), (fastloss.l1_loss, np.abs)):
        exact = float(np.sum(terms(away), dtype=np.float64))
        assert_allclose(function(x, 0.25, reduction="sum", num_threads=THREADS), exact, rtol=1e-7)
