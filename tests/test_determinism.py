"""The same bits of rows so long that threads share them, whoever computes them, in whichever company."""

import ml_dtypes
import numpy as np
import pytest
from helpers import bits

import fastloss

pytestmark = pytest.mark.usefixtures("isa")

DTYPES = [
    pytest.param(np.dtype(kind), id=np.dtype(kind).name)
    for kind in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)
]
THREADS = (1, 2, 3, 7)


def make_case(classes, dtype, name):
    """Logits, target and options of one row."""
    rng = np.random.default_rng(11)
    options = {"label_smoothing": 0.1, "z_loss": 1e-3, "softcap": 15.0, "temperature": 0.7}
    options |= {"weight": rng.uniform(0.5, 2.0, classes), "sample_weight": rng.uniform(0.5, 2.0, 1)}
    x = (4.0 * rng.standard_normal((1, classes))).astype(dtype)
    return x, rng.integers(0, classes, 1), options if name == "all" else {}


@pytest.mark.parametrize("rows", [5, 33, 63, 67, 100, 127])
def test_long_rows_for_many_threads(rows):
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
    ("classes", "dtype"),
    [pytest.param(250_000, *param.values, id=f"250000-{param.id}") for param in DTYPES]
    + [pytest.param(1_000_000, np.dtype(np.float32), id="1000000-float32")],
)
@pytest.mark.parametrize("name", ["plain", "all"])
def test_long_row_alone_or_in_a_batch(name, classes, dtype):
    """Alone all threads share the row, in a batch of 4 * threads rows each takes its own."""
    x, target, options = make_case(classes, dtype, name)
    one, *others = [
        bits(*fastloss.cross_entropy(
            x, target, reduction="none", return_grad=True, num_threads=threads, **options
        ))
        for threads in THREADS
    ]  # fmt: skip
    assert others == [one] * len(others)

    batch = np.broadcast_to(x, (8, classes))
    repeated = {**options}
    if "sample_weight" in options:
        repeated["sample_weight"] = np.repeat(options["sample_weight"], 8)
    loss, grad = fastloss.cross_entropy(
        batch, np.repeat(target, 8), reduction="none", return_grad=True, num_threads=2, **repeated
    )
    for row in range(8):
        assert bits(loss[row], grad[row]) == one
