"""The rows of the linear benchmarks: their arrays, right answers, and the ratios to reach."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

import fastloss
from benchmarks.cases import LIMIT, OURS, TORCH, Target, at_least, at_most
from benchmarks.problem import dtype_of, require
from fastloss import reference
from fastloss.linear import LinearGradients

__all__ = ["AGREEMENT", "CASES", "GRADIENTS", "SMALL", "Case", "Problem"]

Array = npt.NDArray[Any]

# Tokens, features, classes.
SMALL = (32, 24, 2000)
# The largest error of our float32 gradients, relative to their largest entry, and of our losses.
AGREEMENT = 2e-6
# Logits that the reference takes at a time.
BLOCK = 1 << 24

STEPS, FILTERED = "fastloss in steps", "fastloss filtered"
CHUNKED = "torch chunked"


@dataclass(frozen=True)
class Case:
    """One row: the value with all gradients, or alone; a mean over tokens.

    `bias` says what the logits have added: nothing, or the logarithm of how frequent the classes are, a
    twentieth of them e30 times as much as the others, or after Zipf. The targets are drawn from it. The limit
    runs in `chunks`.
    """

    name: str
    what: str
    shape: tuple[int, int, int] = (1024, 768, 32000)
    contenders: tuple[str, ...] = (LIMIT, OURS, TORCH, CHUNKED)
    targets: tuple[Target, ...] = ()
    dtype: str = "float32"
    bias: Literal["none", "few", "zipf"] = "none"
    filter_eps: float = 0.0
    filter_tolerance: float = AGREEMENT
    chunks: int = 1
    is_value: bool = False
    ceiling: None = None

    @property
    def title(self) -> str:
        return f"linear cross entropy {self.shape}, {self.what}"


GRADIENTS = Case(
    name="gradients",
    what="gradients",
    contenders=(LIMIT, OURS, STEPS, TORCH, CHUNKED),
    targets=(
        at_most(1.05, LIMIT),
        at_most(1.0, STEPS),
        at_least(1.0, TORCH),
        at_least(1.0, CHUNKED),
    ),
)
CASES = (
    GRADIENTS,
    Case(
        name="value",
        what="value alone",
        contenders=(LIMIT, OURS, TORCH, CHUNKED),
        targets=(at_most(1.08, LIMIT),),
        is_value=True,
    ),
    # What is left out has probabilities of e-30: an eps under the rounding of float32 suffices, and the
    # result has to be as near as without it.
    Case(
        name="filter",
        what="a twentieth of the classes in use",
        contenders=(OURS, FILTERED),
        targets=(at_most(0.75, OURS, of=FILTERED),),
        bias="few",
        filter_eps=1e-6,
    ),
    # The eps of Cut Cross-Entropy: the rounding of bfloat16. Here something is lost.
    Case(
        name="filter-zipf",
        what="classes as frequent as words",
        contenders=(OURS, FILTERED),
        bias="zipf",
        filter_eps=2.0**-12,
        filter_tolerance=2e-2,
    ),
    Case("many-chunks", "gradients", shape=(8192, 256, 50000), chunks=8),
    Case("bfloat16", "gradients, bfloat16", contenders=(OURS, TORCH, CHUNKED), dtype="bfloat16"),
)


# Rows that follow each other share them.
@lru_cache(maxsize=1)
def _arrays(shape: tuple[int, int, int], dtype: str, kind: str) -> tuple[Array, Array, Array | None, Array]:
    """Input, weight, bias and target."""
    tokens, features, classes = shape
    rng, to = np.random.default_rng(0), dtype_of(dtype)
    x = rng.standard_normal((tokens, features), dtype=np.float32).astype(to, copy=False)
    w = rng.standard_normal((classes, features), dtype=np.float32)
    w = np.multiply(w, 0.05, out=w).astype(to, copy=False)
    rank = rng.permutation(classes)  # frequent classes lie anywhere
    frequency = {
        "none": np.ones(classes),
        "few": np.where(rank < classes // 20, 1.0, np.exp(-30.0)),
        "zipf": 1.0 / (1.0 + rank),
    }[kind]
    frequency /= frequency.sum()
    bias = None if kind == "none" else np.log(frequency).astype(to)
    return x, w, bias, rng.choice(classes, tokens, p=frequency)


@lru_cache(maxsize=1)
def _answer(shape: tuple[int, int, int], dtype: str, kind: str) -> tuple[float, LinearGradients]:
    """The reference's mean and its gradients in float64, some tokens at a time."""
    x, w, bias, target = _arrays(shape, dtype, kind)
    w = w.astype(np.float64)
    function: Any = reference.linear_cross_entropy
    gx, gw, gb = np.empty(x.shape), np.zeros(w.shape), np.zeros(len(w))
    loss, step = 0.0, max(1, BLOCK // len(w))
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        options = {"linear_bias": bias, "reduction": "sum", "return_grad": True, "grad_output": 1 / len(x)}
        some, grad = function(x[rows], w, target[rows], **options)
        loss += some / len(x)
        gx[rows] = grad.input
        gw += grad.linear_weight
        if bias is not None:
            gb += grad.linear_bias
    return loss, LinearGradients(gx, gw, None if bias is None else gb)


class Problem:
    """The arrays of a row at the size that is run, and its right answer.

    Nobody writes to the inputs. `out` and `logits` are buffers that are kept; `errors` has the largest error
    of each contender's gradients as it was checked last, relative to their largest entries.
    """

    def __init__(self, case: Case, is_small: bool = False) -> None:
        self.case, self.threads = case, fastloss.get_num_threads()
        self.shape = SMALL if is_small else case.shape
        self.x, self.w, self.bias, self.target = _arrays(self.shape, case.dtype, case.bias)
        self.errors: dict[str, float] = {}

    @cached_property
    def out(self) -> tuple[Array, Array, Array | None]:
        """Written to once, so that nobody pays for their page faults."""
        bias = None if self.bias is None else np.ones_like(self.bias)
        return np.ones_like(self.x), np.ones_like(self.w), bias

    @cached_property
    def logits(self) -> Array:
        """Of one of the limit's chunks."""
        return np.ones((len(self.x) // self.case.chunks, len(self.w)), self.x.dtype)

    def chunks(self) -> Iterator[slice]:
        step = len(self.logits)
        return (slice(start, start + step) for start in range(0, len(self.x), step))

    def check(
        self, name: str, loss: float, gradients: Sequence[Array | None], tolerance: float, of_loss: float
    ) -> None:
        """Compare with the reference: the loss (relative to 1, where it is less) and every gradient."""
        expected_loss, expected = _answer(self.shape, self.case.dtype, self.case.bias)
        error = abs(loss - expected_loss) / max(1.0, abs(expected_loss))
        require(error, of_loss, "the loss")
        if self.case.is_value:
            return
        errors = [
            float(np.abs(got - right).max() / np.abs(right).max())
            for got, right in zip(gradients, expected, strict=True)
            if got is not None and right is not None
        ]
        # Python's own max may pass over a NaN.
        self.errors[name] = float(np.max(errors))
        require(self.errors[name], tolerance, "a gradient")
