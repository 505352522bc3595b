"""The arrays of a row, and the answer that every contender's result is held against."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

import fastloss
from benchmarks.cases import Case
from fastloss import reference

__all__ = [
    "BLOCK",
    "Problem",
    "WrongResultError",
    "class_indices",
    "dtype_of",
    "logits_of",
    "require",
    "sample_of",
]

Array = npt.NDArray[Any]

# Rows whose gradients are compared one by one, and elements that the reference takes at a time.
SAMPLED_ROWS = 16
BLOCK = 1 << 21


class WrongResultError(AssertionError):
    """A contender's result is not what the reference says: its time counts for nothing."""


def dtype_of(name: str) -> np.dtype[Any]:
    """NumPy's dtype of that name; ImportError for bfloat16 without ml_dtypes."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def require(error: float | Array, tolerance: float, what: str) -> None:
    """Raise where an error is over the tolerance."""
    # NaN fails too.
    if not np.all(error <= tolerance):
        raise WrongResultError(f"{what} is off by {np.max(error):.2g} of {tolerance:.2g}")


def sample_of(rows: int) -> npt.NDArray[np.intp]:
    """The rows whose gradients are compared, of so many."""
    return np.unique(np.linspace(0, rows - 1, SAMPLED_ROWS).astype(np.intp))


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """The shape of the rows along an axis."""
    axis %= len(shape)
    return shape[:axis] + shape[axis + 1 :]


# Two, for the row in bfloat16, which is timed beside its like in float32.
@lru_cache(maxsize=2)
def logits_of(shape: tuple[int, ...], dtype: str) -> Array:
    values = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    np.multiply(values, 2.0, out=values)
    return values.astype(dtype_of(dtype), copy=False)


# Float64 takes seconds on the large rows, which share their logits: the last answers are kept.
@lru_cache(maxsize=8)
def _mean_loss(shape: tuple[int, ...], dtype: str, axis: int, smoothing: float, probabilities: bool) -> float:
    """The reference's mean over all rows, a block along the first axis at a time."""
    logits, target = logits_of(shape, dtype), _target(shape, axis, probabilities)
    step = max(1, BLOCK * shape[0] // logits.size)
    total = 0.0
    for begin in range(0, shape[0], step):
        block = slice(begin, begin + step)
        total += float(
            reference.cross_entropy(
                logits[block], target[block], axis=axis, label_smoothing=smoothing, reduction="sum"
            )
        )
    return total / (logits.size // shape[axis])


def class_indices(shape: tuple[int, ...], axis: int = -1) -> Array:
    """A target for each row of logits of that shape."""
    return np.random.default_rng(1).integers(0, shape[axis], size=_without(shape, axis))


@lru_cache(maxsize=1)
def _target(shape: tuple[int, ...], axis: int, probabilities: bool) -> Array:
    if probabilities:
        target = np.random.default_rng(1).random(shape, dtype=np.float32)
        return np.divide(target, target.sum(axis=axis, keepdims=True), out=target)
    return class_indices(shape, axis)


@dataclass(frozen=True)
class Problem:
    """A row at the size that is run: its arrays, made once and shared, and its right answer.

    Nobody writes to `logits` or `target`; `out` is the buffer of those that write a result into one. The
    reference has every row's loss, and the values (gradient, softmax) of a sample of rows.
    """

    case: Case
    is_small: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.case.small if self.is_small else self.case.shape

    @property
    def classes(self) -> int:
        return self.shape[self.case.axis]

    @property
    def rows(self) -> int:
        return self.logits.size // self.classes

    @cached_property
    def threads(self) -> int:
        return fastloss.get_num_threads()

    @cached_property
    def logits(self) -> Array:
        return logits_of(self.shape, self.case.dtype)

    @cached_property
    def target(self) -> Array:
        return _target(self.shape, self.case.axis, self.case.probabilities)

    @cached_property
    def out(self) -> Array:
        """Written to once, so that nobody pays for its page faults."""
        return np.full_like(self.logits, 1)

    def sampled(self, values: Array) -> Array:
        """The sample of rows of an array, the classes (where it has them) last."""
        has_classes = values.ndim == len(self.shape)
        moved = np.moveaxis(values, self.case.axis, -1) if has_classes else values
        return np.asarray(moved[np.unravel_index(sample_of(self.rows), _without(self.shape, self.case.axis))])

    @cached_property
    def expected_loss(self) -> float | None:
        case = self.case
        if case.mode == "values":
            return None
        return _mean_loss(self.shape, case.dtype, case.axis, case.label_smoothing, case.probabilities)

    @cached_property
    def expected_values(self) -> Array | None:
        """Of the sampled rows: the gradient of the mean over all rows, or what the function gives."""
        case = self.case
        if case.mode == "loss":
            return None
        logits = self.sampled(self.logits)
        if case.mode == "values":
            return np.asarray(getattr(reference, case.function)(logits))
        _, grad = reference.cross_entropy(
            logits,
            self.sampled(self.target),
            label_smoothing=case.label_smoothing,
            reduction="sum",
            return_grad=True,
        )
        return np.asarray(grad / self.rows)

    def check(
        self,
        loss: float | None,
        values: Array | None,
        tolerance: float,
        *,
        loss_tolerance: float | None = None,
        scale: float = 1.0,
    ) -> None:
        """Compare with the reference: the loss, and the sampled values times `scale`.

        Errors are relative: to the loss (or 1, where it is less), to the largest value of each row.
        """
        if self.expected_loss is not None:
            assert loss is not None
            largest = max(1.0, abs(self.expected_loss))
            error = abs(loss - self.expected_loss) / largest
            require(error, loss_tolerance or tolerance, "the loss")
        if self.expected_values is not None:
            assert values is not None
            expected = self.expected_values
            got = self.sampled(values).astype(np.float64) * scale
            largest = np.abs(expected).max(axis=-1, keepdims=True)
            require(np.abs(got - expected) / largest, tolerance, "an element")
