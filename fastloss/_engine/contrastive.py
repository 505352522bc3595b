"""Run the contrastive losses: every query against every key, in chunks of queries.

A matrix product computes the similarities of a chunk of queries with all keys. A kernel replaces them with
their gradient in place, and two more products compute the gradients of the unit vectors on both sides. These
then go through the division by the lengths. `src/contrast.h` has the formulas of a chunk.

With u the unit vector of x, and g the gradient with respect to u, that with respect to x is
(g - u (u.g)) / |x|. The sum of u.g over one side is sum_ij G_ij s_ij, from which the derivatives with respect
to the temperature follow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastloss import _kernels
from fastloss._engine import arguments
from fastloss._engine.blas import is_straight
from fastloss._engine.chunks import ALONE, Layer, cut, matrix_in, pitch, product
from fastloss._engine.conversion import stored, widened
from fastloss._engine.linear import budget
from fastloss._engine.options import option
from fastloss._engine.results import Reduced, Request, reduced, request
from fastloss._engine.rows import run_family
from fastloss._engine.types import Array
from fastloss._engine.workspace import empty

__all__ = ["InfoNCEGradients", "SigLIPGradients", "info_nce", "siglip"]

# The default budget for similarities, and the least rows of a chunk, which may take up to MOST bytes.
# (Measured with keys of width 384: products of 128 or 256 rows take 1.6 times as long for each row as those
# of 512 or 1024, most of all that for the gradient of the queries.)
BUDGET, ROWS, MOST = 2**27, 512, 2**29
# Vectors are divided by their length, or by this if they are shorter, as in `torch.nn.functional.normalize`.
SHORTEST = 1e-12
# Elements of vectors that are converted to float64 at a time.
CONVERTED = 2**17


class InfoNCEGradients(NamedTuple):
    """The gradients of `info_nce_loss`; None for an array not wanted."""

    query: Array | None
    key: Array | None
    temperature: float


class SigLIPGradients(NamedTuple):
    """The gradients of `siglip_loss`; None for an array not wanted."""

    query: Array | None
    key: Array | None
    scale: float
    bias: float


def _pieces(x: Array) -> Iterator[slice]:
    """Yield slices of some rows."""
    step = max(1, CONVERTED // max(1, x.shape[1]))
    return (slice(start, start + step) for start in range(0, len(x), step))


class _Units:
    """Vectors for products: in the type of the computation, and divided by their lengths if asked."""

    def __init__(self, x: Array, compute: np.dtype[Any], *, normalize: bool) -> None:
        self.lengths = None
        if not normalize:
            is_ready = x.dtype == compute and is_straight(x)
            self.vectors = x if is_ready else widened(x, compute)
            return
        self.vectors = np.empty(x.shape, compute)
        self.lengths = np.empty((len(x), 1))
        for rows in _pieces(x):
            wide = widened(x[rows], np.float64)
            np.sqrt(np.einsum("ij,ij->i", wide, wide), out=self.lengths[rows, 0])
            np.divide(
                wide, np.maximum(self.lengths[rows], SHORTEST), out=self.vectors[rows], casting="same_kind"
            )

    def back(self, gradient: Array) -> float:
        """Turn the gradient of the units into that of the vectors, in place; return the sum of u.g."""
        total = 0.0
        for rows in _pieces(gradient):
            units, some = self.vectors[rows], gradient[rows]
            along = (units * some).sum(axis=1, keepdims=True, dtype=np.float64)
            total += float(along.sum())
            if self.lengths is not None:
                # The length of a shorter vector does not count, so it has no gradient.
                along[self.lengths[rows] < SHORTEST] = 0.0
                some -= units * along.astype(some.dtype)
                some *= (1.0 / np.maximum(self.lengths[rows], SHORTEST)).astype(some.dtype)
        return total


@dataclass
class _Call:
    """A checked call."""

    query: Array
    key: Array
    compute: np.dtype[Any]
    normalize: bool
    request: Request
    memory_budget: int | None
    num_threads: int | None

    def __post_init__(self) -> None:
        self.losses = np.zeros(len(self.query))
        count, scale = max(1, len(self.query)), self.request.scale
        if self.request.reduction == "mean":
            scale /= count
        upstream = self.request.upstream
        self.factor = np.full(len(self.query), scale) if upstream is None else upstream * scale
        self.keys = _Units(self.key, self.compute, normalize=self.normalize)
        self.layer = Layer(self.keys.vectors, None, self.compute)
        width = pitch(len(self.key), self.compute.itemsize)
        self.step = cut(count, max(1, self._budget(width) // max(1, width * self.compute.itemsize)))
        at_once = min(count, self.step) * width
        is_alone = self.num_threads is None and at_once <= ALONE
        self.threads = 1 if is_alone else self.request.num_threads
        self.room = empty((at_once,), self.compute)

    def _budget(self, width: int) -> int:
        if self.memory_budget is not None:
            return self.memory_budget
        return min(MOST, max(BUDGET, ROWS * width * self.compute.itemsize))

    def reduced(self) -> Reduced:
        """Return the reduced losses."""
        total = float(self.losses.sum())
        return reduced(self.request.reduction, self.losses, total, len(self.query), self.query)

    def chunks(self) -> list[slice]:
        """Return the rows of each chunk."""
        count = len(self.query)
        return [slice(start, min(start + self.step, count)) for start in range(0, count, self.step)]

    def units(self, rows: slice) -> _Units:
        """Return some queries for products."""
        return _Units(self.query[rows], self.compute, normalize=self.normalize)

    def similarities(self, units: _Units) -> Array:
        """Return the similarities of some queries with all keys, in memory that the next call uses again."""
        z = matrix_in(self.room, len(units.vectors), len(self.key))
        self.layer.logits(units.vectors, slice(0, len(self.key)), z)
        return z


class _Gradients:
    """The gradients of both sides, chunk by chunk, and the sum of gradient times similarity over all pairs.

    That sum is also the sum of u.g over either side: it needs no further product.
    """

    def __init__(self, call: _Call, *, needs_total: bool) -> None:
        self.call, self.total, self.is_begun = call, 0.0, False
        self.query, self.key = call.request.buffers[:2]
        # What is there already must not go through the lengths.
        self.key_is_separate = self.key is not None and (
            self.key.dtype != call.compute or not self.key.flags.c_contiguous or call.request.accumulate[1]
        )
        if self.key is not None and self.key_is_separate:
            self.key = np.empty(self.key.shape, call.compute)
        self.multiplies_keys = self.query is not None or (needs_total and self.key is None)

    def add(self, rows: slice, units: _Units, z: Array) -> None:
        """Add the contribution of `z`, the gradient of the similarities of some queries."""
        call, out, adds = self.call, self.query, self.call.request.accumulate[0]
        if self.key is not None:
            product(z.T, units.vectors, self.key, add=self.is_begun)
            self.is_begun = True
        if not self.multiplies_keys:
            return
        is_direct = out is not None and out.dtype == call.compute and out.flags.c_contiguous and not adds
        values = out[rows] if out is not None and is_direct else np.empty(units.vectors.shape, call.compute)
        call.layer.back(z, slice(0, len(call.key)), values, add=False)
        self.total += units.back(values)
        if out is not None and not is_direct:
            _write(out[rows], values, adds=adds)

    def end(self) -> float:
        """Finish the gradient of the keys, and return the sum."""
        if self.key is None:
            return self.total
        if not self.is_begun:
            self.key[...] = 0
        total = self.call.keys.back(self.key)
        if self.key_is_separate:
            _write(self.call.request.buffers[1], self.key, adds=self.call.request.accumulate[1])
        return self.total if self.multiplies_keys else total


def _write(out: Array | None, values: Array, *, adds: bool) -> None:
    """Write values to a buffer of any type, or add them."""
    assert out is not None
    out[...] = stored(widened(out, values.dtype) + values if adds else values, out.dtype)


def _take_positives(z: Array, rows: slice, room: Array) -> tuple[Any, ...]:
    """Move the similarities of the positive pairs to `room`, leave -inf, and return where they stand."""
    where = np.arange(len(z)), np.arange(rows.start, rows.stop)
    room[rows] = z[where]
    z[where] = -math.inf
    return where


def _sigmoid(x: Array) -> Array:
    return np.asarray(np.exp(-np.logaddexp(0.0, -x)))


def _one_way(call: _Call, gradients: _Gradients | None, indices: Array, temperature: float) -> None:
    """Run the cross-entropy of each query."""
    for rows in call.chunks():
        units = call.units(rows)
        z = call.similarities(units)
        run_family(
            _kernels.CROSS_ENTROPY, z, 1, indices=indices[rows], temperature=temperature,
            output=None if gradients is None else z, grad_output=call.factor[rows],
            row_loss=call.losses[rows], num_threads=call.threads,
        )  # fmt: skip
        if gradients is not None:
            gradients.add(rows, units, z)


def _both_ways(call: _Call, gradients: _Gradients | None, temperature: float) -> None:
    """Run the mean of the cross-entropies of queries and keys.

    The gradient of a similarity needs the log-sum-exp of its column, so that all similarities are computed
    twice, except those of the last chunk, with which the second sweep begins.
    """
    count, rate = len(call.query), 1.0 / temperature
    own, others, top, sums = np.empty(count), np.empty(count), np.full(count, -math.inf), np.zeros(count)
    chunks = call.chunks()
    for rows in chunks:
        units = call.units(rows)
        z = call.similarities(units)
        where = _take_positives(z, rows, own)
        run_family(
            _kernels.LOGSUMEXP, z, 1, temperature=temperature, row_loss=others[rows], num_threads=call.threads
        )
        _kernels.contrast_columns(z, rate, top, sums, call.threads)
    positive = own * rate
    row, column = others - positive, (top * rate + np.log(sums)) - positive
    call.losses[...] = 0.5 * (np.logaddexp(0.0, row) + np.logaddexp(0.0, column))
    if gradients is None:
        return
    half = 0.5 * rate * call.factor
    row_lse, column_lse = (temperature * np.logaddexp(d, 0.0) + own for d in (row, column))
    high = column_lse.astype(call.compute)
    columns = (half.astype(call.compute), high, (column_lse - high).astype(call.compute))
    slope = -half * (_sigmoid(row) + _sigmoid(column))
    for rows in reversed(chunks):
        if rows is not chunks[-1]:
            units = call.units(rows)
            z = call.similarities(units)
            where = _take_positives(z, rows, own)
        _kernels.contrast_both(z, rate, half[rows], row_lse[rows], columns, call.threads)
        z[where] = slope[rows]
        gradients.add(rows, units, z)


def _pairs(call: _Call, gradients: _Gradients | None, scale: float, bias: float) -> tuple[float, float]:
    """Run the logistic loss of all pairs, and return its derivatives with respect to scale and bias."""
    own, by_scale, by_bias = np.empty(len(call.query)), 0.0, 0.0
    for rows in call.chunks():
        units, factor = call.units(rows), call.factor[rows]
        z = call.similarities(units)
        where = _take_positives(z, rows, own)
        sums, some = np.zeros((3, len(z))), own[rows]
        y = scale * some + bias
        _kernels.contrast_pairs(
            z, scale, bias, None if gradients is None else scale * factor, sums, call.threads
        )
        call.losses[rows] = sums[0] + np.logaddexp(0.0, -y)
        if gradients is not None:
            slope = -_sigmoid(-y)
            by_bias += float((factor * (sums[1] + slope)).sum())
            by_scale += float((factor * (sums[2] + slope * some)).sum())
            z[where] = scale * factor * slope
            gradients.add(rows, units, z)
    return by_scale, by_bias


def _sides(query: npt.ArrayLike, key: npt.ArrayLike) -> tuple[Array, Array]:
    """Check the vectors of both sides against each other."""
    x, y = arguments.floating("query", query), arguments.floating("key", key)
    if y.dtype != x.dtype:
        raise TypeError(f"key must be {x.dtype} like query, got {y.dtype}")
    if x.ndim != 2:
        raise ValueError(f"query must have a row for each vector, shape (N, D); got {x.shape}")
    if y.ndim != 2 or y.shape[1] != x.shape[1]:
        raise ValueError(f"key must have rows of {x.shape[1]} numbers like query; got shape {y.shape}")
    return x, y


def _require_positives(x: Array, y: Array) -> None:
    if len(y) < len(x):
        raise ValueError(
            f"key must have a row for each of the {len(x)} rows of query, and may have more; got {len(y)}"
        )


def _indices(target: Any, x: Array, y: Array, *, symmetric: bool) -> tuple[Array | None, Array]:
    """Check the target; return it as an array, and the index of each query's key."""
    if target is None:
        _require_positives(x, y)
        if symmetric and len(x) != len(y):
            raise ValueError(
                f"key must have as many rows as query with symmetric=True, {len(x)}; got {len(y)}"
            )
        return None, np.arange(len(x))
    if symmetric:
        raise ValueError("target must be None with symmetric=True: row i of key belongs to row i of query")
    given = arguments.as_array("target", target)
    indices, _ = arguments.class_indices(given, (len(x), len(y)), 1, None)
    arguments.require_classes(given, indices, len(y), np.ones(len(x), np.bool_))
    return given, indices


def _call(
    x: Array, y: Array, checked: Request, compute: type, *, normalize: bool, budget: int | None, options: Any
) -> _Call:
    return _Call(x, y, np.dtype(compute), normalize, checked, budget, options.get("num_threads"))


def _computed_in(x: Array, rate: float) -> type:
    """Return the type of the computation: float32 for it and half types, if the exponents fit."""
    return np.float32 if x.dtype != np.float64 and 1e-30 < rate < 1e30 else np.float64


def info_nce(
    query: npt.ArrayLike,
    key: npt.ArrayLike,
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: Any,
    *,
    target: npt.ArrayLike | None,
    temperature: Any,
    symmetric: Any,
    normalize: Any,
    memory_budget: Any,
) -> Any:
    """Check, run and reduce `info_nce_loss`."""
    temperature = option("temperature", temperature)
    symmetric, normalize = arguments.flag("symmetric", symmetric), arguments.flag("normalize", normalize)
    memory_budget = budget(memory_budget)
    x, y = _sides(query, key)
    given, indices = _indices(target, x, y, symmetric=symmetric)
    checked = request(
        InfoNCEGradients._fields, (x, y, None), (given,), (len(x),), reduction, return_grad, out, options,
        in_place=False,
    )  # fmt: skip
    with np.errstate(all="ignore"):
        call = _call(
            x, y, checked, _computed_in(x, temperature), normalize=normalize, budget=memory_budget,
            options=options,
        )  # fmt: skip
        gradients = _Gradients(call, needs_total=True) if checked.return_grad else None
        if symmetric:
            _both_ways(call, gradients, temperature)
        else:
            _one_way(call, gradients, indices, temperature)
        loss = call.reduced()
        if gradients is None:
            return loss
        total = gradients.end()
        return loss, InfoNCEGradients(checked.buffers[0], checked.buffers[1], 0.0 - total / temperature)


def siglip(
    query: npt.ArrayLike,
    key: npt.ArrayLike,
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: Any,
    *,
    scale: Any,
    bias: Any,
    memory_budget: Any,
) -> Any:
    """Check, run and reduce `siglip_loss`."""
    scale, bias = arguments.number("scale", scale, above=0.0), arguments.number("bias", bias)
    memory_budget = budget(memory_budget)
    x, y = _sides(query, key)
    _require_positives(x, y)
    checked = request(
        SigLIPGradients._fields, (x, y, None, None), (), (len(x),), reduction, return_grad, out, options,
        in_place=False,
    )  # fmt: skip
    with np.errstate(all="ignore"):
        call = _call(
            x, y, checked, _computed_in(x, scale), normalize=False, budget=memory_budget, options=options
        )
        gradients = _Gradients(call, needs_total=False) if checked.return_grad else None
        derivatives = _pairs(call, gradients, scale, bias)
        loss = call.reduced()
        if gradients is None:
            return loss
        gradients.end()
        return loss, SigLIPGradients(checked.buffers[0], checked.buffers[1], *derivatives)
