"""The adaptive softmax: a head of frequent classes, and clusters of the others.

The head has an entry for each of its own classes, and behind these one for each cluster. The rows of a
cluster pass through its projection and its layer. Head and layers run as other linear losses do, in chunks.
So the logits of a cluster exist for its own rows alone.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from fastloss._engine import arguments
from fastloss._engine.chunks import Call, Layer, LinearGradients, for_products, product
from fastloss._engine.conversion import stored, widened
from fastloss._engine.linear import budget, layer_of
from fastloss._engine.options import common_options
from fastloss._engine.results import Request, accumulations, places, reduced, request
from fastloss._engine.types import Array

__all__ = ["AdaptiveGradients", "adaptive_loss", "divided"]

TailGradients: TypeAlias = tuple[tuple[Array | None, Array | None], ...]

_NAMES = ("input", "head_weight", "head_bias")


class AdaptiveGradients(NamedTuple):
    """The gradients of the adaptive softmax; None for a gradient not wanted, or without a bias."""

    input: Array | None
    head_weight: Array | None
    head_bias: Array | None
    tail_weights: TailGradients | None


def divided(target: Array, edges: list[int]) -> tuple[Array, list[tuple[Array, Array]]]:
    """Return the entry of the head of each target, and the rows of each cluster with their classes in it.

    `edges` are the first class behind the head, that behind the first cluster, and so on. A negative target
    keeps its value and is in no cluster.
    """
    cluster = np.searchsorted(edges, target, side="right")
    entries = np.where(cluster == 0, target, edges[0] - 1 + cluster)
    found = []
    for k, first in enumerate(edges[:-1], 1):
        rows = np.flatnonzero(cluster == k)
        found.append((rows, target[rows] - first))
    return entries, found


class _Tail(NamedTuple):
    """The projection and the weight of a cluster."""

    projection: Array
    weight: Array


def _matrix(name: str, value: Any, x: Array, shape: str) -> Array:
    """Return a matrix of the dtype of the input; `shape` is for the error."""
    found = arguments.floating(name, value)
    if found.dtype != x.dtype:
        raise TypeError(f"{name} must be {x.dtype} like input, got {found.dtype}")
    if found.ndim != 2:
        raise ValueError(f"{name} must have shape {shape}, got {found.shape}")
    return found


def _tail(name: str, pair: Any, x: Array) -> _Tail:
    """Return the checked arrays of one cluster."""
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        what = f"{len(pair)} of them" if isinstance(pair, (tuple, list)) else type(pair).__name__
        raise TypeError(f"{name} must be a pair of a projection and a weight, got {what}")
    width = x.shape[-1]
    projection = _matrix(f"{name}[0]", pair[0], x, f"(H, {width})")
    if projection.shape[1] != width:
        raise ValueError(f"{name}[0] must have shape (H, {width}), got {projection.shape}")
    hidden = projection.shape[0]
    weight = _matrix(f"{name}[1]", pair[1], x, f"(C, {hidden})")
    if weight.shape[1] != hidden or weight.shape[0] == 0:
        raise ValueError(
            f"{name}[1] must have a row of {hidden} features, one for each row of {name}[0], for each class "
            f"of the cluster, shape (C, {hidden}) with C > 0; got {weight.shape}"
        )
    return _Tail(projection, weight)


def _tails(given: Any, x: Array) -> list[_Tail]:
    if not isinstance(given, (tuple, list)):
        raise TypeError(f"tail_weights must be a list or tuple of pairs, got {type(given).__name__}")
    if not given:
        raise ValueError("tail_weights must have a pair for each cluster, and at least one; got none")
    return [_tail(f"tail_weights[{k}]", pair, x) for k, pair in enumerate(given)]


def _edges(head_weight: Array, tails: list[_Tail]) -> list[int]:
    """Return the first class behind the head, and that behind each cluster."""
    if len(head_weight) <= len(tails):
        raise ValueError(
            f"head_weight must have a row for each cluster, {len(tails)}, behind at least one for a class of "
            f"its own; got {len(head_weight)} rows"
        )
    edges = [len(head_weight) - len(tails)]
    for tail in tails:
        edges.append(edges[-1] + len(tail.weight))
    return edges


def _indices(given: Array, rows: tuple[int, ...], classes: int, ignore_index: Any) -> Array:
    """Return the class index of each row, -1 for those ignored."""
    ignore_index = arguments.index("ignore_index", ignore_index)
    indices, ignored = arguments.class_indices(given, (*rows, classes), len(rows), ignore_index)
    indices = indices.reshape(-1)
    counted = np.ones(len(indices), np.bool_) if ignored is None else indices != ignored
    arguments.require_classes(given, indices, classes, counted)
    return np.where(counted, indices, -1)


def _flat_out(out: Any, tails: int) -> Any:
    """Return the buffers of all gradients behind one another, from a tuple like `AdaptiveGradients`."""
    if out is None:
        return None
    *head, nested = places(out, AdaptiveGradients._fields)
    if nested is None:
        return (*head, *(None,) * (2 * tails))
    pairs = nested if isinstance(nested, tuple) else ()
    if len(pairs) != tails or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
        raise TypeError(
            f"out.tail_weights must be None or a tuple of {tails} pairs of buffers, got {nested!r}"
        )
    return (*head, *(one for pair in pairs for one in pair))


def _request(
    arrays: tuple[Array, Array, Array | None],
    tails: list[_Tail],
    target: Array,
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: dict[str, Any],
) -> Request:
    """Check the common parameters. The weights of the clusters follow the other gradients, one by one."""
    accumulate = common_options(options).accumulate
    flags = accumulations(accumulate, out, AdaptiveGradients._fields)
    names = [f"tail_weights[{k}][{i}]" for k in range(len(tails)) for i in range(2)]
    return request(
        (*_NAMES, *names), (*arrays, *(one for tail in tails for one in tail)), (target,),
        arrays[0].shape[:-1], reduction, return_grad, _flat_out(out, len(tails)),
        {**options, "accumulate": (*flags[:3], *flags[3:] * len(names))}, in_place=False,
    )  # fmt: skip


class _Adaptive:
    """A checked call with flattened rows.

    The gradient of the input is summed in the caller's buffer if that has the type of the computation and no
    gaps, else in a separate array until the end. So a half type is rounded once.
    """

    def __init__(
        self,
        x: Array,
        compute: np.dtype[Any],
        call: Request,
        grad_scale: float,
        memory_budget: int | None,
        num_threads: int | None,
    ) -> None:
        self.x, self.compute, self.call, self.grad_scale = x, compute, call, grad_scale
        self.memory_budget, self.num_threads = memory_budget, num_threads
        own = call.buffers[0]
        self.is_direct = own is not None and own.dtype == compute and own.flags.c_contiguous
        self.input = None if own is None else np.empty(x.shape, compute)
        if own is not None and self.is_direct:
            self.input = own.reshape(x.shape)

    def run(
        self,
        layer: Layer,
        x: Array,
        indices: Array,
        gradients: LinearGradients,
        accumulate: tuple[bool, ...],
        rows: Array | slice = np.s_[:],
    ) -> Array:
        """Run a layer on inputs, those of some rows, and return their losses."""
        counted = indices >= 0
        upstream = self.call.upstream
        losses = np.zeros(len(x))
        Call(
            layer=layer,
            x=x,
            indices=indices,
            probabilities=None,
            counted=None if counted.all() else counted,
            weight=None,
            sample_weight=None,
            grad_output=None if upstream is None else upstream.reshape(-1)[rows],
            grad_scale=self.grad_scale,
            sign=1.0,
            options={},
            filter_eps=0.0,
            gradients=gradients,
            accumulate=accumulate,
            memory_budget=self.memory_budget,
            num_threads=self.num_threads,
            share=None,
        ).run(losses)
        return losses

    def head(self, layer: Layer, entries: Array) -> Array:
        """Return the losses of the head, and begin the gradient of the input."""
        _, of_weight, of_bias, *_ = self.call.buffers
        adds_input, adds_weight, adds_bias, *_ = self.call.accumulate
        return self.run(
            layer, self.x, entries, LinearGradients(self.input, of_weight, of_bias),
            (adds_input and self.is_direct, adds_weight, adds_bias),
        )  # fmt: skip

    def cluster(self, tail: _Tail, k: int, rows: Array, indices: Array) -> Array:
        """Return the losses of rows within their cluster `k`, and add its part to the gradients."""
        of_projection, of_weight = self.call.buffers[3 + 2 * k : 5 + 2 * k]
        adds = self.call.accumulate[3 + 2 * k]
        x = for_products(self.x[rows], self.compute)
        projection = for_products(tail.projection, self.compute)
        hidden = np.empty((len(rows), len(projection)), self.compute)
        product(x, projection.T, hidden, add=False)
        is_through = self.input is not None or of_projection is not None
        of_hidden = np.empty_like(hidden) if is_through else None
        losses = self.run(
            Layer(tail.weight, None, self.compute), hidden, indices,
            LinearGradients(of_hidden, of_weight, None), (False, adds, False), rows,
        )  # fmt: skip
        if of_hidden is not None and self.input is not None:
            self.input[rows] += of_hidden @ projection
        if of_hidden is not None and of_projection is not None:
            found = of_hidden.T @ x
            if adds:
                found += widened(of_projection, self.compute)
            of_projection[...] = stored(found, of_projection.dtype)
        return losses

    def end(self) -> None:
        """Copy the gradient of the input to the caller's buffer, if it was summed in a separate array."""
        own = self.call.buffers[0]
        if own is None or self.input is None or self.is_direct:
            return
        total = self.input.reshape(own.shape)
        if self.call.accumulate[0]:
            total += widened(own, self.compute)
        own[...] = stored(total, own.dtype)


def _gradients(call: Request) -> AdaptiveGradients:
    """Return the buffers as a named tuple, with a pair for each cluster."""
    of_input, of_weight, of_bias, *tails = call.buffers
    pairs = tuple(zip(tails[::2], tails[1::2], strict=True))
    is_wanted = any(one is not None for one in tails)
    return AdaptiveGradients(of_input, of_weight, of_bias, pairs if is_wanted else None)


def adaptive_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    head_weight: npt.ArrayLike,
    tail_weights: Any,
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: Any,
    *,
    head_bias: npt.ArrayLike | None,
    ignore_index: Any,
    memory_budget: Any,
) -> Any:
    """Check, run and reduce the loss of the adaptive softmax."""
    memory_budget = budget(memory_budget)
    x, weight, bias = layer_of(_NAMES, input, head_weight, head_bias)
    tails = _tails(tail_weights, x)
    edges = _edges(weight, tails)
    rows, given = x.shape[:-1], arguments.as_array("target", target)
    indices = _indices(given, rows, edges[-1], ignore_index)
    call = _request((x, weight, bias), tails, given, reduction, return_grad, out, options)
    count = int((indices >= 0).sum())
    divisor = float(count) if reduction == "mean" else 1.0
    compute = np.dtype(np.float64 if x.dtype == np.float64 else np.float32)
    with np.errstate(all="ignore"):
        adaptive = _Adaptive(
            x.reshape(math.prod(rows), x.shape[-1]), compute, call, float(np.float64(call.scale) / divisor),
            memory_budget, options.get("num_threads"),
        )  # fmt: skip
        entries, clusters = divided(indices, edges)
        losses = adaptive.head(
            Layer(weight, bias if bias is None else widened(bias, compute), compute), entries
        )
        for k, (tail, (some, within)) in enumerate(zip(tails, clusters, strict=True)):
            losses[some] += adaptive.cluster(tail, k, some, within)
        adaptive.end()
    loss = reduced(reduction, losses.reshape(rows), float(losses.sum()), float(count), x)
    return (loss, _gradients(call)) if call.return_grad else loss
