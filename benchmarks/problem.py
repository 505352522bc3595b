"""The arrays of a row, and the result of the float64 reference that every result is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

import fastloss

from .case import OURS, SERIAL, Case

__all__ = [
    "BLOCK",
    "Array",
    "Problem",
    "WrongResultError",
    "blocks",
    "class_indices",
    "dtype_of",
    "in_blocks",
    "logits_of",
    "require",
    "sample_of",
]

Array = npt.NDArray[Any]

# Rows whose gradients are compared one by one, and elements that the reference computes at a time.
SAMPLED_ROWS = 16
BLOCK = 1 << 21
# The largest error allowed, by type: of fastloss (a rounding of the result), and of peers, which sum in
# float32.
OUR_TOLERANCE = {"float64": 1e-13, "float32": 1e-6, "float16": 2.0**-11, "bfloat16": 2.0**-8}
PEER_TOLERANCE = {"float64": 1e-10, "float32": 1e-3, "float16": 5e-3, "bfloat16": 2e-2}


class WrongResultError(AssertionError):
    """A contender's result differs from the reference: it gets no time."""


def dtype_of(name: str) -> np.dtype[Any]:
    """Return NumPy's dtype of that name; ImportError for bfloat16 without ml_dtypes."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)  # type: ignore[no-any-return, unused-ignore]
    return np.dtype(name)


def require(error: float | Array, tolerance: float, what: str) -> None:
    """Raise if an error exceeds the tolerance."""
    # NaN fails too.
    if not np.all(error <= tolerance):
        raise WrongResultError(f"{what} is off by {np.max(error):.2g} of {tolerance:.2g}")


def sample_of(rows: int) -> npt.NDArray[np.intp]:
    """Return which of this many rows have their gradients compared."""
    return np.unique(np.linspace(0, rows - 1, SAMPLED_ROWS).astype(np.intp))


def blocks(rows: int, elements: int, largest: int = BLOCK) -> list[slice]:
    """Return slices of rows that have `largest` elements at most, of `elements` in all."""
    step = max(1, largest * rows // elements)
    return [slice(start, start + step) for start in range(0, rows, step)]


# Two, for the row in bfloat16, which is timed beside the same row in float32.
@lru_cache(maxsize=2)
def logits_of(shape: tuple[int, ...], dtype: str) -> Array:
    values = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    np.multiply(values, 2.0, out=values)
    return values.astype(dtype_of(dtype), copy=False)


def class_indices(shape: tuple[int, ...], axis: int = -1) -> Array:
    """Return a target for each row of logits of that shape."""
    rows = list(shape)
    classes = rows.pop(axis)
    return np.random.default_rng(1).integers(0, classes, size=rows)


class Problem:
    """A row at the size of the run: its arrays, made once and shared, and its expected result.

    No contender writes to `arguments`. A suite derives its own class, which defines at least `arguments`,
    `expected_loss` and `expected_values`. Errors are relative: of the loss to its size (at least 1), of the
    values to the largest along `largest_axis`.
    """

    # Number of arguments with a gradient.
    leaves = 1
    largest_axis: int | None = -1
    # The upstream gradient, if it is not 1.
    upstream: float | Array | None = None

    def __init__(self, case: Case, is_small: bool = False) -> None:
        self.case, self.is_small = case, is_small
        self.shape = case.small if is_small else case.shape
        # The largest error of the values of each contender in its last check.
        self.errors: dict[str, float] = {}

    @property
    def arguments(self) -> tuple[Array, ...]:
        raise NotImplementedError

    @property
    def expected_loss(self) -> float | Array | None:
        """Return the loss; None if the mode has none."""
        raise NotImplementedError

    @property
    def expected_values(self) -> tuple[Array, ...]:
        """Return the values of the sample of `sampled`."""
        raise NotImplementedError

    @cached_property
    def threads(self) -> int:
        """Return the number of threads for contenders with such a setting."""
        is_serial = self.arguments[0].size < SERIAL
        return self.case.threads or (1 if is_serial else fastloss.get_num_threads())

    @cached_property
    def out(self) -> Any:
        """Return the buffer for contenders that write into one, without page faults."""
        return np.ones_like(self.arguments[0])

    @property
    def traffic(self) -> tuple[list[int], list[int]]:
        """Return the bytes of each array that has to be read, and of each that has to be written."""
        out = self.out if isinstance(self.out, tuple) else (self.out,)
        written = out if self.case.has_values else ()
        return [array.nbytes for array in self.arguments], [array.nbytes for array in written]

    @property
    def differentiable(self) -> Sequence[int]:
        """Return the positions of the arguments with a gradient."""
        return range(self.leaves)

    @property
    def our_options(self) -> dict[str, Any]:
        """Return the options of fastloss that peers do not have."""
        return {}

    def tolerance(self, name: str) -> tuple[float, float]:
        """Return the largest error of the loss and of the values of a contender."""
        dtype = self.case.dtype
        if not name.startswith(OURS):
            return PEER_TOLERANCE[dtype], PEER_TOLERANCE[dtype]
        # The loss is a Python float for any type of the arguments.
        return OUR_TOLERANCE["float64" if dtype == "float64" else "float32"], OUR_TOLERANCE[dtype]

    def sampled(self, values: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return the part of each array that is compared: by default all of it."""
        return values

    def check(self, name: str, loss: float | Array | None, values: Any, scale: float = 1.0) -> None:
        """Compare a contender's result with the reference: the loss, and the values times `scale`."""
        of_loss, of_values = self.tolerance(name)
        if self.expected_loss is not None:
            assert loss is not None
            error = np.abs(loss - self.expected_loss) / np.maximum(1.0, np.abs(self.expected_loss))
            require(error, of_loss, "the loss")
        if self.case.has_values:
            found = self.sampled(values if isinstance(values, tuple) else (values,))
            pairs = zip(found, self.expected_values, strict=True)
            # Python's own max may ignore a NaN.
            self.errors[name] = float(np.max([self._error(got, right, scale) for got, right in pairs]))
            require(self.errors[name], of_values, "an element")

    def _error(self, got: Array, right: Array, scale: float) -> float:
        largest = np.abs(right).max(axis=self.largest_axis, keepdims=True)
        return float(np.max(np.abs(got.astype(np.float64) * scale - right) / largest))

    def notes(self, medians: dict[str, float]) -> list[str]:
        """Return the lines to print below the figures, from the medians by contender."""
        return []


def in_blocks(function: Callable[..., Any], arguments: Sequence[Array], **options: Any) -> list[Any]:
    """Return the results of the function for each block of rows along the first axis."""
    first = arguments[0]
    return [
        function(*(array[rows] for array in arguments), **options) for rows in blocks(len(first), first.size)
    ]
