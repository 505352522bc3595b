"""Run the losses of a linear layer in chunks.

A matrix product computes the logits of a chunk of tokens. The softmax family replaces them with their
gradient in place, and two more products compute the gradients of input and weight. If the memory budget
holds too few tokens for efficient products, a chunk is also cut into bands of classes. The log-sum-exps of
the bands are merged, and the logits of each band are computed a second time for the gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from fastloss import _kernels
from fastloss._engine.bands import OF_A_BAND, Merged, clear_masked, look, target_slope, weighed
from fastloss._engine.blas import add_product, is_straight
from fastloss._engine.conversion import stored, widened
from fastloss._engine.rows import run_family
from fastloss._engine.types import Array
from fastloss._engine.workspace import empty

__all__ = [
    "ALONE", "Call", "Held", "Layer", "LinearGradients", "Share", "Sums", "cut", "for_products", "held",
    "matrix_in", "multiplier", "pitch", "product", "rows_of_chunk",
]  # fmt: skip

# Logits are computed in chunks of WHOLE bytes, ROWS rows or 1/SHARE of all rows, whichever is largest. A
# product packs the weight again for every chunk. For each row it takes 1.5 times as long with 128 rows as
# with 1024, 1.2 times with 256 and 1.1 times with 512.
WHOLE, ROWS, SHARE = 2**27, 256, 25
# If ROWS rows need more than MOST bytes, MOST is the default budget.
MOST = 2**29
# A budget of fewer rows than FEW is met with bands of classes: a fourth product costs less than fewer rows.
# The value alone needs no further product, so its limit is FEW_FOR_VALUE. (Measured with 1024 tokens of
# width 768 and 32000 classes, relative to the time of one chunk. Gradients in chunks of 128, 64 and 32 rows:
# 1.27, 1.52 and 2.3; in bands of as many bytes: 1.42, 1.45 and 1.48. The value in such chunks: 1.36, 1.73
# and 2.6; in such bands: 1.10, 1.15 and 1.27.)
FEW, FEW_FOR_VALUE = 80, 512
# Rows of logits begin at multiples of LINE bytes. (MKL's product of 1024 tokens, width 128 and 50257 classes
# takes 113 ms without gaps between the rows, and 79 ms so; that for the weight's gradient 88 and 78 ms.
# OpenBLAS gains 0 and 4 %.)
LINE = 64
# A band has BAND_ROWS rows if the budget has room for BAND_CLASSES classes of each. It has at least NARROW
# classes (more than FL_SHORT_ROW of the kernels).
BAND_ROWS, BAND_CLASSES, NARROW = 512, 1024, 128
# One thread processes up to this many logits at a time, unless the caller sets `num_threads`. Waking other
# threads costs more, because the threads of BLAS spin while they wait. (Measured as above, with one thread
# and with all: 0.20 and 0.38 s for 4 MiB, 0.26 and 1.4 s for 1 MiB, 0.20 and 0.23 s for 16 MiB.)
ALONE = 2**22
# Bytes of the weight that are converted or made contiguous at a time.
BAND = 2**24
# Multiplications of one product, as signals wait for its end: about 60 ms with two threads of a Zen 4. (A
# product that is cut so takes as long, and with OpenBLAS has the same bits.)
MULTIPLICATIONS = 2**33
# Number of rows that are summed at a time in the type of the computation.
ADDED = 64


class LinearGradients(NamedTuple):
    """The gradients of the linear losses; None for a gradient not wanted, or without a bias."""

    input: Array | None
    linear_weight: Array | None
    linear_bias: Array | None


def cut(length: int, most: int) -> int:
    """Return the length of the pieces, at most `most`, that cut `length` as evenly as possible."""
    return -(-length // -(-length // most))


def pitch(classes: int, itemsize: int) -> int:
    """Return the number of elements from one row of logits to the next."""
    line = LINE // itemsize
    return classes if classes < NARROW else -(-classes // line) * line


def matrix_in(room: Array, rows: int, classes: int) -> Array:
    """Return the beginning of a one-dimensional buffer as a matrix of logits."""
    width = pitch(classes, room.itemsize)
    return room[: rows * width].reshape(rows, width)[:, :classes]


def _budget_for(row: int, memory_budget: int | None) -> int | None:
    """Return the budget, or None for the default one unless ROWS rows of `row` bytes exceed it."""
    return MOST if memory_budget is None and ROWS * row > MOST else memory_budget


def _most_rows(rows: int, row: int, memory_budget: int | None) -> int:
    """Return how many of the rows, of `row` bytes each, a chunk may have; 0 if none fits."""
    if memory_budget is not None:
        return memory_budget // row
    return max(ROWS, WHOLE // row, rows // SHARE)


def rows_of_chunk(rows: int, classes: int, itemsize: int, memory_budget: int | None) -> int:
    """Return the number of rows of a chunk with all classes, at least 1."""
    row = pitch(classes, itemsize) * itemsize
    return cut(rows, max(1, _most_rows(rows, row, _budget_for(row, memory_budget))))


def _shape_of_chunk(
    rows: int, classes: int, itemsize: int, memory_budget: int | None, has_gradients: bool
) -> tuple[int, int]:
    """Return the number of rows of a chunk, and the number of bands of classes that it is cut into."""
    row = pitch(classes, itemsize) * itemsize
    memory_budget = _budget_for(row, memory_budget)
    most = _most_rows(rows, row, memory_budget)
    if most >= min(rows, FEW if has_gradients else FEW_FOR_VALUE):
        return cut(rows, most), 1
    elements = (memory_budget or 0) // itemsize
    at_once = min(rows, BAND_ROWS, max(1, elements // BAND_CLASSES))
    line = LINE // itemsize
    bands = -(-classes // max(NARROW, elements // at_once // line * line))
    while bands > 1 and classes // bands <= NARROW // 2:
        bands -= 1
    return cut(rows, at_once), bands


# The function that multiplies instead of NumPy's BLAS, in a program with its own threads for products.
multiplier: ContextVar[Callable[[Array, Array, Array, bool], None] | None] = ContextVar(
    "fastloss_multiplier", default=None
)


class Held:
    """The logits of a call without gradients, for a later call that computes them.

    The first call sets `logits`, if all of them are one chunk that the budget has room for. The second writes
    their gradient over them. Both must have the same arguments.
    """

    def __init__(self, logits: Array | None = None) -> None:
        self.logits = logits


# Where a program that computes gradients later wants the logits to be held.
held: ContextVar[Held | None] = ContextVar("fastloss_held", default=None)


def product(a: Array, b: Array, out: Array, *, add: bool) -> None:
    """Compute ``out = a @ b``, or ``out += a @ b`` with `add`, in bands of the output if it is large."""
    rows, columns = out.shape
    if rows * columns * a.shape[1] <= MULTIPLICATIONS:
        _product(a, b, out, add=add)
    elif rows >= columns:
        step = cut(rows, max(1, MULTIPLICATIONS // (columns * a.shape[1])))
        for start in range(0, rows, step):
            _product(a[start : start + step], b, out[start : start + step], add=add)
    else:
        step = cut(columns, max(1, MULTIPLICATIONS // (rows * a.shape[1])))
        for start in range(0, columns, step):
            _product(a, b[:, start : start + step], out[:, start : start + step], add=add)


def _product(a: Array, b: Array, out: Array, *, add: bool) -> None:
    other = multiplier.get()
    if other is not None:
        other(a, b, out, add)
    elif add:
        add_product(a, b, out)
    else:
        np.matmul(a, b, out=out)


def for_products(x: Array, compute: np.dtype[Any]) -> Array:
    """Return inputs for BLAS, in the type of the computation."""
    return x if x.dtype == compute and is_straight(x) else widened(x, compute)


@dataclass
class Layer:
    """The weight, and the bias in the type of the computation, `compute`."""

    weight: Array
    bias: Array | None
    compute: np.dtype[Any]

    def pieces(self, classes: slice) -> Iterator[tuple[slice, Array]]:
        """Yield the weight of some classes for BLAS: without a copy, or converted piece by piece.

        Each piece comes with its slice, counted from the first of these classes.
        """
        weight = self.weight[classes]
        count = len(weight)
        if weight.dtype == self.compute and is_straight(weight):
            yield slice(0, count), weight
            return
        step = max(1, BAND // max(1, weight.shape[1] * self.compute.itemsize))
        for start in range(0, count, step):
            piece = slice(start, min(start + step, count))
            yield piece, widened(weight[piece], self.compute)

    def logits(self, x: Array, classes: slice, out: Array) -> None:
        """Write ``x @ weight.T + bias`` of some classes to `out`."""
        if self.bias is not None:
            out[...] = self.bias[classes]
        for piece, weight in self.pieces(classes):
            product(x, weight.T, out[:, piece], add=self.bias is not None)

    def back(self, z: Array, classes: slice, out: Array, *, add: bool) -> None:
        """Write ``z @ weight`` of some classes to `out`, or add it with `add`."""
        for piece, weight in self.pieces(classes):
            product(z[:, piece], weight, out, add=add or piece.start > 0)


class Share(Protocol):
    """A layer whose classes are divided among processes, as seen by one of them."""

    rank: int
    first: int  # the first class of this process
    classes: int  # the number of classes of all processes
    most: int  # the largest number of classes of one process

    def gather(self, values: Array) -> Array:
        """Return the values of all processes, stacked in order of rank."""


@dataclass
class Call:
    """A checked call with flattened rows. A field is None if it was not given or is not wanted."""

    layer: Layer
    x: Array
    indices: Array | None
    probabilities: Array | None
    counted: npt.NDArray[np.bool_] | None  # the rows that are not ignored, None for all
    weight: Array | None
    sample_weight: Array | None
    grad_output: Array | None
    grad_scale: float
    sign: float
    options: dict[str, Any]
    filter_eps: float
    gradients: LinearGradients
    accumulate: tuple[bool, ...]  # whether to add to each gradient
    memory_budget: int | None
    num_threads: int | None  # None for the package setting, or one for few logits
    share: Share | None  # if given, indices count from the first class of this process

    def has_gradients(self) -> bool:
        """Return whether any gradient is wanted."""
        return any(gradient is not None for gradient in self.gradients)

    def run(self, losses: Array | None) -> float:
        """Run all chunks and return the sum of the losses; also write each loss to `losses`.

        Product and softmax alternate. Running the softmax of one chunk in another thread, during the product
        of the next chunk, brought no gain (1.05 times the bare products either way).
        """
        kept = None if self.counted is None else np.flatnonzero(self.counted)
        count, classes = self.x.shape[0] if kept is None else kept.size, self.layer.weight.shape[0]
        store = held.get()
        known = None if store is None else store.logits
        step, parts = self.cut(max(count, 1), self.has_gradients() and known is None)
        edges = [k * classes // parts for k in range(parts + 1)]
        bands = [slice(*edge) for edge in pairwise(edges)]
        at_once = min(step, count) * pitch(-(-classes // parts), self.layer.compute.itemsize)
        if self.num_threads is None and at_once <= ALONE:
            self.num_threads = 1
        total = 0.0
        room = empty((at_once,), self.layer.compute) if known is None else known
        sums = Sums(self)  # writes to the gradients, so all checks come before
        for start in range(0, count, step):
            chunk = slice(start, min(start + step, count))
            rows = chunk if kept is None else kept[chunk]
            some = self.chunk(rows, bands, room, sums, is_known=known is not None)
            total += float(some.sum())
            if losses is not None:
                losses[rows] = some
        sums.end()
        most = WHOLE if self.memory_budget is None else self.memory_budget
        is_whole = step >= count > 0 and parts == 1
        if store is not None and known is None and is_whole and room.nbytes <= most:
            store.logits = room
        return total

    def cut(self, count: int, has_gradients: bool) -> tuple[int, int]:
        """Return the number of rows of a chunk, of `count` in all, and the number of its bands of classes."""
        # Processes that share a layer must use the same chunks and bands.
        longest = self.layer.weight.shape[0] if self.share is None else self.share.most
        return _shape_of_chunk(count, longest, self.layer.compute.itemsize, self.memory_budget, has_gradients)

    def chunk(self, rows: Any, bands: list[slice], room: Array, sums: Sums, *, is_known: bool) -> Array:
        """Run some rows and return their losses.

        `room` is for their logits, of all classes or of one band. If they are known, it contains them.
        """
        x = self.inputs(rows)

        def logits(band: slice) -> Array:
            return self.logits(x, band, room, is_known=is_known)

        losses = np.zeros(len(x))
        if len(bands) == 1 and self.share is None:
            z = logits(bands[0])
            self.softmax(rows, bands[0], z, row_loss=losses, output=z if self.has_gradients() else None)
            if self.has_gradients():
                sums.add(rows, bands[0], x, z)
            return losses if self.sign > 0 else 0.0 - losses
        seen = []
        for band in bands:
            z = logits(band)
            seen.append(self.look(rows, band, z))
        merged, first = self.merged(seen)
        losses = merged.losses
        if self.sample_weight is not None:
            losses = weighed(losses, self.sample_weight[rows])
        for k, band in enumerate(bands if self.has_gradients() else ()):
            if len(bands) > 1:
                z = logits(band)
            elsewhere = (*merged.elsewhere(first + k), self.all_classes())
            self.softmax(rows, band, z, output=z, elsewhere=elsewhere, **OF_A_BAND)
            self.clear_masked(rows, band, z, merged.is_masked(first + k))
            sums.add(rows, band, x, z)
        return losses if self.sign > 0 else 0.0 - losses

    def inputs(self, rows: Any) -> Array:
        """Return the input of some rows for BLAS."""
        return for_products(self.x[rows], self.layer.compute)

    def logits(self, x: Array, band: slice, room: Array, *, is_known: bool) -> Array:
        """Return the logits of some inputs in a band, which are written to `room` unless they are known."""
        z = matrix_in(room, len(x), band.stop - band.start)
        if not is_known:
            self.layer.logits(x, band, z)
        return z

    def all_classes(self) -> int:
        """Return the number of classes, including those of other processes."""
        return self.layer.weight.shape[0] if self.share is None else self.share.classes

    def look(self, rows: Any, band: slice, z: Array) -> Array:
        """Return the statistics of the logits of some rows in a band."""
        return look(z, self.target_in(rows, band), self.options, self.all_classes(), self.num_threads)

    def merged(self, seen: list[Array]) -> tuple[Merged, int]:
        """Return the merged bands of some rows, over all processes, and the index of our first band."""
        stacked, first = np.stack(seen), 0
        if self.share is not None:
            stacked = np.concatenate(list(self.share.gather(stacked)))
            first = self.share.rank * len(seen)
        return Merged(stacked, self.options, has_indices=self.indices is not None), first

    def clear_masked(self, rows: Any, band: slice, z: Array, is_masked: Array) -> None:
        """Correct the gradient of rows whose classes in a band are all masked."""
        if not is_masked.any():
            return
        factor = np.full(len(z), self.sign * self.grad_scale)
        for array in (self.grad_output, self.sample_weight):
            if array is not None:
                factor = weighed(factor, array[rows])
        target = self.target_in(rows, band)
        clear_masked(z, is_masked, target, factor * target_slope(self.options, self.all_classes()))

    def target_in(self, rows: Any, band: slice) -> dict[str, Any]:
        """Return target and class weights of some rows for a band. Indices in other bands become -1."""
        weight = None if self.weight is None else self.weight[band]
        if self.indices is None:
            assert self.probabilities is not None
            return {"probabilities": self.probabilities[rows, band], "weight": weight}
        indices = self.indices[rows]
        is_here = (indices >= band.start) & (indices < band.stop)
        return {"indices": np.where(is_here, indices - band.start, -1), "weight": weight}

    def softmax(self, rows: Any, band: slice, z: Array, **more: Any) -> None:
        """Compute the losses of some rows, or the gradients for their logits `z`, which may be in place."""

        def of(array: Array | None) -> Array | None:
            return None if array is None else array[rows]

        run_family(
            _kernels.CROSS_ENTROPY, z, 1, sample_weight=of(self.sample_weight),
            grad_output=of(self.grad_output), grad_scale=self.sign * self.grad_scale,
            num_threads=self.num_threads, **self.target_in(rows, band), **{**self.options, **more},
        )  # fmt: skip

    def kept_classes(self, rows: Any, z: Array) -> npt.NDArray[np.intp] | None:
        """Return the classes that `filter_eps` keeps; None for all, or if dropping some would not pay."""
        if self.filter_eps == 0.0:
            return None
        factors = np.full(z.shape[0], abs(self.grad_scale))
        for array in (self.sample_weight, self.grad_output):
            if array is not None:
                factors *= np.abs(array[rows])
        if self.weight is not None and self.indices is not None:
            factors *= np.abs(self.weight[self.indices[rows]])
        factors = factors[factors > 0.0]
        bound = self.filter_eps * factors.min() if factors.size else 0.0
        # Written as a negation, so that a class with a NaN is kept.
        kept = np.flatnonzero(~((z.max(axis=0) < bound) & (z.min(axis=0) > -bound)))
        return kept if kept.size <= z.shape[1] // 2 else None


class Sums:
    """The gradients of a call, summed chunk by chunk.

    A sum is kept in the caller's buffer if possible. If the buffer has another type than the computation, or
    gaps, the sum is kept in a separate array until the end.
    """

    def __init__(self, call: Call) -> None:
        self.call = call
        given, compute = call.gradients, call.layer.compute
        accumulates_input, accumulates_weight, _ = call.accumulate
        self.input = self.weight = self.bias = None
        self.input_is_begun = self.weight_is_begun = False
        if given.input is not None:
            # Each row is written once and rounded once, so the buffer may be of any type.
            is_ready = given.input.flags.c_contiguous
            self.input = given.input if is_ready else np.zeros(given.input.shape, compute)
            self.input = self.input.reshape(call.x.shape)
            self.input_is_begun = accumulates_input and is_ready
            if call.counted is not None and not self.input_is_begun:
                self.input[~call.counted] = 0
        if given.linear_weight is not None:
            is_ready = given.linear_weight.dtype == compute and given.linear_weight.flags.c_contiguous
            self.weight = given.linear_weight if is_ready else np.empty(given.linear_weight.shape, compute)
            self.weight_is_begun = accumulates_weight and is_ready
        if given.linear_bias is not None:
            self.bias = np.zeros(given.linear_bias.shape)

    def add(self, rows: Any, band: slice, x: Array, z: Array) -> None:
        """Add the contribution of `z`, the gradients of the logits of some rows in a band of classes."""
        has_products = self.input is not None or self.weight is not None
        kept = self.call.kept_classes(rows, z) if has_products else None
        if self.bias is not None:
            for start in range(0, z.shape[0], ADDED):
                self.bias[band] += z[start : start + ADDED].sum(axis=0)
        if kept is not None:
            z = z.take(kept, axis=1)
        if self.input is not None:
            self.add_input(self.input, rows, band, z, kept)
        if self.weight is not None:
            self.add_weight(self.weight[band], x, z, kept)
            self.weight_is_begun |= band.stop == self.weight.shape[0]

    def add_input(
        self, total: Array, rows: Any, band: slice, z: Array, kept: npt.NDArray[np.intp] | None
    ) -> None:
        layer, classes = self.call.layer, self.call.layer.weight.shape[0]
        is_direct = total.dtype == layer.compute and isinstance(rows, slice)
        if is_direct:
            out, add = total[rows], self.input_is_begun or band.start > 0
        else:
            if band.start == 0:
                self.beside = np.empty((z.shape[0], total.shape[1]), layer.compute)
            out, add = self.beside, band.start > 0
        if kept is None:
            layer.back(z, band, out, add=add)
        else:
            weight = widened(layer.weight[band][kept], layer.compute)
            product(z, weight, out, add=add)
        if not is_direct and band.stop == classes:
            done = widened(total[rows], layer.compute) + out if self.input_is_begun else out
            total[rows] = stored(done, total.dtype)

    def add_weight(self, total: Array, x: Array, z: Array, kept: npt.NDArray[np.intp] | None) -> None:
        if kept is None:
            product(z.T, x, total, add=self.weight_is_begun)
        else:
            if not self.weight_is_begun:
                total[...] = 0
            total[kept] += z.T @ x

    def end(self) -> None:
        """Copy the sums that were kept in separate arrays to the caller's buffers."""
        if self.weight is not None and not self.weight_is_begun:
            self.weight[...] = 0
        totals = (self.input, self.weight, self.bias)
        for gradient, total, is_added in zip(self.call.gradients, totals, self.call.accumulate, strict=True):
            if gradient is None or total is None or np.may_share_memory(gradient, total):
                continue
            total = total.reshape(gradient.shape)
            if is_added:
                total = widened(gradient, self.call.layer.compute) + total
            gradient[...] = stored(total, gradient.dtype)
