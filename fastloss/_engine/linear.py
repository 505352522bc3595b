"""Check the arguments of the losses of a linear layer. The losses run in `fastloss._engine.chunks`."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastloss import _kernels
from fastloss._engine import arguments
from fastloss._engine.chunks import Call, Layer, LinearGradients, Share
from fastloss._engine.conversion import widened
from fastloss._engine.options import softmax_options
from fastloss._engine.results import reduced, request
from fastloss._engine.statistics import StatisticsCall, arrays_of, wanted
from fastloss._engine.types import Array

__all__ = ["budget", "layer_of", "linear_loss", "linear_statistics"]


def layer_of(
    names: tuple[str, str, str], input: Any, linear_weight: Any, linear_bias: Any
) -> tuple[Array, Array, Array | None]:
    """Return input, weight and bias of a layer, which have these names, as arrays that fit each other."""
    of_input, of_weight, of_bias = names
    x = arguments.floating(of_input, input)
    weight = arguments.floating(of_weight, linear_weight)
    bias = None if linear_bias is None else arguments.floating(of_bias, linear_bias)
    for name, array in ((of_weight, weight), (of_bias, bias)):
        if array is not None and array.dtype != x.dtype:
            raise TypeError(f"{name} must be {x.dtype} like {of_input}, got {array.dtype}")
    if x.ndim == 0:
        raise ValueError(f"{of_input} must have features on its last axis, got a scalar")
    if weight.ndim != 2 or weight.shape[1] != x.shape[-1] or weight.shape[0] == 0:
        raise ValueError(
            f"{of_weight} must have a row of {x.shape[-1]} features for each class, "
            f"shape (V, {x.shape[-1]}) with V > 0; got {weight.shape}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"{of_bias} must have shape {weight.shape[:1]}, got {bias.shape}")
    return x, weight, bias


def _weights_of(indices: Array, weight: Array, share: Share | None) -> Array:
    """Return the class weights of class indices, which count from the first class of this process."""
    if share is None:
        return weight[indices]
    is_here = (indices >= 0) & (indices < len(weight))
    own = np.zeros(len(indices))
    own[is_here] = weight[indices[is_here]]
    return np.asarray(share.gather(own).sum(axis=0))


class _Target(NamedTuple):
    """The target of all tokens, the tokens that count (None for all), and the sum of their weights."""

    indices: Array | None
    probabilities: Array | None
    counted: npt.NDArray[np.bool_] | None
    denominator: float


def _target(
    given: Array,
    x: Array,
    classes: int,
    class_weight: Array | None,
    samples: Array | None,
    ignore_index: Any,
    share: Share | None,
    *,
    is_soft: bool,
) -> _Target:
    rows = x.shape[:-1]
    count, shape = math.prod(rows), (*rows, classes)
    ignore_index = arguments.index("ignore_index", ignore_index)
    weights = np.ones(count) if samples is None else samples
    if is_soft and arguments.is_probabilities(given):
        probabilities = arguments.probabilities(given, shape, len(rows), x.dtype, ignore_index)
        return _Target(None, probabilities.reshape(count, classes), None, float(weights.sum()))
    indices, ignored = arguments.class_indices(given, shape, len(rows), ignore_index)
    indices = indices.reshape(-1)
    counted = np.ones(count, np.bool_) if ignored is None else indices != ignored
    all_classes, first = (classes, 0) if share is None else (share.classes, share.first)
    arguments.require_classes(given, indices, all_classes, counted)
    indices, weights = indices - first, weights[counted]
    if class_weight is not None:
        weights = weights * _weights_of(indices[counted], class_weight, share)
    return _Target(indices, None, None if counted.all() else counted, float(weights.sum()))


def budget(memory_budget: Any) -> int | None:
    """Return a checked memory budget in bytes, or None for the default."""
    if memory_budget is None:
        return None
    found = arguments.index("memory_budget", memory_budget)
    if found < 1:
        raise ValueError(f"memory_budget must be at least 1, got {found}")
    return found


def linear_loss(
    input: npt.ArrayLike,
    linear_weight: npt.ArrayLike,
    target: npt.ArrayLike,
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: Any,
    *,
    linear_bias: npt.ArrayLike | None,
    weight: npt.ArrayLike | None = None,
    ignore_index: Any,
    sample_weight: npt.ArrayLike | None = None,
    sign: float = 1.0,
    filter_eps: Any = 0.0,
    memory_budget: Any,
    share: Share | None = None,
    own: dict[str, Any] | None = None,
) -> Any:
    """Check, run and reduce a loss of a linear layer, in chunks.

    With a `share`, the layer, the class weights and target probabilities are the slice of this process. `own`
    are the softmax options of a function that has only some of them.
    """
    softmax, options = softmax_options(options, own)
    filter_eps = arguments.number("filter_eps", filter_eps, low=0.0, high=1.0)
    memory_budget = budget(memory_budget)
    x, layer_weight, bias = layer_of(LinearGradients._fields, input, linear_weight, linear_bias)
    rows, classes = x.shape[:-1], layer_weight.shape[0]
    given = arguments.as_array("target", target)
    weight = arguments.given("weight", weight)
    sample_weight = arguments.given("sample_weight", sample_weight)
    class_weight = None if weight is None else arguments.class_weight(weight, classes)
    samples = arguments.per_row("sample_weight", sample_weight, rows)
    samples = None if samples is None else samples.reshape(-1)
    found = _target(given, x, classes, class_weight, samples, ignore_index, share, is_soft=sign > 0)
    call = request(
        LinearGradients._fields, (x, layer_weight, bias), (given, weight, sample_weight), rows, reduction,
        return_grad, out, options, in_place=False,
    )  # fmt: skip
    gradients = LinearGradients(*call.buffers)
    divisor = found.denominator if reduction == "mean" else 1.0
    compute = np.dtype(np.float64 if x.dtype == np.float64 else np.float32)
    losses = np.zeros(math.prod(rows)) if reduction == "none" else None
    with np.errstate(all="ignore"):
        total = Call(
            layer=Layer(layer_weight, bias if bias is None else widened(bias, compute), compute),
            x=x.reshape(math.prod(rows), x.shape[-1]),
            indices=found.indices,
            probabilities=found.probabilities,
            counted=found.counted,
            weight=class_weight,
            sample_weight=samples,
            grad_output=None if call.upstream is None else call.upstream.reshape(-1),
            grad_scale=float(np.float64(call.scale) / divisor),
            sign=sign,
            options=softmax,
            filter_eps=filter_eps,
            gradients=gradients,
            accumulate=call.accumulate,
            memory_budget=memory_budget,
            num_threads=options.get("num_threads"),
            share=share,
        ).run(losses)
    unreduced = None if losses is None else losses.reshape(rows)
    loss = reduced(reduction, unreduced, total, found.denominator, x)
    return (loss, gradients) if return_grad else loss


def linear_statistics(
    input: npt.ArrayLike,
    linear_weight: npt.ArrayLike,
    target: npt.ArrayLike,
    return_grad: Any,
    grad_output: Any,
    out: Any,
    options: dict[str, Any],
    *,
    linear_bias: npt.ArrayLike | None,
    outputs: Any,
    ignore_index: Any,
    memory_budget: Any,
    own: dict[str, Any],
) -> Any:
    """Check and run `linear_token_statistics`, in chunks; `own` are its softmax options."""
    softmax, _ = softmax_options(own)
    memory_budget = budget(memory_budget)
    x, layer_weight, bias = layer_of(LinearGradients._fields, input, linear_weight, linear_bias)
    rows = x.shape[:-1]
    given = arguments.as_array("target", target)
    found = _target(given, x, layer_weight.shape[0], None, None, ignore_index, None, is_soft=False)
    asked = wanted(outputs, grad_output, return_grad, rows)
    call = request(
        LinearGradients._fields, (x, layer_weight, bias), (given, *arrays_of(grad_output)), rows, "none",
        return_grad, out, options, in_place=False,
    )  # fmt: skip
    gradients = LinearGradients(*call.buffers)
    compute = np.dtype(np.float64 if x.dtype == np.float64 else np.float32)
    statistics = np.zeros((math.prod(rows), _kernels.STATISTICS))
    with np.errstate(all="ignore"):
        StatisticsCall(
            layer=Layer(layer_weight, bias if bias is None else widened(bias, compute), compute),
            x=x.reshape(math.prod(rows), x.shape[-1]),
            indices=found.indices,
            probabilities=None,
            counted=found.counted,
            weight=None,
            sample_weight=None,
            grad_output=None,
            grad_scale=1.0,
            sign=1.0,
            options=softmax,
            filter_eps=0.0,
            gradients=gradients,
            accumulate=call.accumulate,
            memory_budget=memory_budget,
            num_threads=options.get("num_threads"),
            share=None,
            wanted=asked.flat(),
        ).run(statistics)
        taken = asked.taken(statistics, rows, x, softmax["temperature"])
    return (taken, gradients) if call.return_grad else taken
