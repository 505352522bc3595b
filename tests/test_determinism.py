"""The same bits of rows so long that threads share them, whoever computes them, in whichever company."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import DTYPES, Options, bits
from registry import of_values
from rows.softmax import CROSS_ENTROPY

import fastloss

pytestmark = pytest.mark.usefixtures("isa")


@pytest.mark.parametrize("rows", [5, 33, 63, 67, 100, 127])
def test_long_rows_for_many_threads(rows: int) -> None:
    """At 4 * threads rows the threads stop sharing each row; sums must not notice."""
    rng = np.random.default_rng(12)
    x = rng.standard_normal((rows, 1)) * np.linspace(0.0, 5.0, 32_768)
    x = x.astype(np.float32)
    target = rng.integers(0, 32_768, rows)
    sums = {
        threads: fastloss.cross_entropy(x, target, reduction="sum", num_threads=threads)
        for threads in (1, 2, 8, 16, 17, 32)
    }
    assert len(set(sums.values())) == 1, sums


@pytest.mark.parametrize(
    ("classes", "dtype"), [*((250_000, dtype) for dtype in DTYPES), (1_000_000, "float32")]
)
@pytest.mark.parametrize("name", ["plain", "all"])
def test_long_row_alone_or_in_a_batch(name: str, classes: int, dtype: str) -> None:
    """Alone all threads share the row, in a batch of 4 * threads rows each takes its own."""
    rng = np.random.default_rng(11)
    c = of_values(
        replace(CROSS_ENTROPY, hessian=False),
        4.0 * rng.standard_normal((1, classes)),
        rng.integers(0, classes, 1),
        dtype=dtype,
    )
    batch = c.with_(logits=np.broadcast_to(c.first, (8, classes)), target=np.repeat(c["target"], 8))
    if name == "all":
        options: Options = {"label_smoothing": 0.1, "z_loss": 1e-3, "softcap": 15.0, "temperature": 0.7}
        options["weight"] = rng.uniform(0.5, 2.0, classes)
        weight = rng.uniform(0.5, 2.0, 1)
        c = c.with_(sample_weight=weight, **options)
        batch = batch.with_(sample_weight=weight.repeat(8), **options)
    one, *others = (c.bits(num_threads=threads) for threads in (1, 2, 3, 7))
    assert others == [one] * len(others)
    loss, (grad,) = batch.run(num_threads=2)
    for row in range(8):
        assert bits(loss[row], grad[row]) == one
