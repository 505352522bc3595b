"""Run the losses over rows of classes: check arguments, call the kernels once, and reduce.

The comments at the top of ``src/softmax.h`` and ``src/divergence.h`` derive their formulas and gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastloss import _kernels
from fastloss._engine import arguments
from fastloss._engine.conversion import cast
from fastloss._engine.options import option, softmax_options
from fastloss._engine.results import as_loss, buffer, reduced, request, scaled
from fastloss._engine.types import Array
from fastloss._engine.workspace import empty_like

__all__ = [
    "DivergenceGradients",
    "cross_entropy_rows",
    "divergence",
    "entropies",
    "entropy_of_rows",
    "focal_loss",
    "focused_loss",
    "multilabel_margin",
    "normalised",
    "row_loss",
    "row_losses",
    "run_family",
    "sequence_loss",
    "sums_of_exponentials",
]

# Returns the first row with a bad target (or -1), the sum of the losses, and the denominator of the mean.
Kernel = Callable[..., tuple[int, float, float]]
cross_entropy_rows: Kernel = partial(_kernels.softmax, _kernels.CROSS_ENTROPY)
# Without the options of cross-entropy.
_focused_rows: Kernel = partial(_kernels.softmax, _kernels.CROSS_ENTROPY)
# The ignore_index of a loss that ignores no row.
_NO_INDEX = object()


def run_family(
    operation: int, x: Array, axis: int, *, num_threads: int | None = None, **fields: Any
) -> tuple[int, float, float]:
    """Run an operation of the softmax family with checked arguments."""
    return _kernels.softmax(operation, x, axis, threads=arguments.threads(num_threads), **fields)


def row_loss(
    kernel: Kernel,
    name: str,
    values: npt.ArrayLike,
    axis: Any,
    target: npt.ArrayLike,
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: Any,
    *,
    weight: npt.ArrayLike | None = None,
    weight_name: str = "weight",
    ignore_index: Any = _NO_INDEX,
    sample_weight: npt.ArrayLike | None = None,
    return_hessian: Any = False,
    sign: float = 1.0,
    own: dict[str, Any] | None = None,
    **more: Any,
) -> Any:
    """Check, run and reduce a loss over rows of classes, whose first argument is called `name`.

    `options` are the parameters behind ``**options``, `own` the softmax options of a function that has only
    some of them, and `more` further parameters of the kernel. A `sign` of -1 gives log-probabilities: it
    negates loss and gradient, and the target must be class indices.
    """
    x = arguments.floating(name, values)
    axis = arguments.class_axis(axis, x, name)
    rows, classes = arguments.rows_and_classes(x, axis)
    ignore_index = None if ignore_index is _NO_INDEX else arguments.index("ignore_index", ignore_index)
    is_soft = kernel is cross_entropy_rows and sign > 0
    if kernel is cross_entropy_rows:
        checked, options = softmax_options(options, own)
        more.update(checked)
    given = arguments.as_array("target", target)
    weight = arguments.given(weight_name, weight)
    sample_weight = arguments.given("sample_weight", sample_weight)
    indices = ignored = None
    if is_soft and arguments.is_probabilities(given):
        assert ignore_index is not None
        more["probabilities"] = arguments.probabilities(given, x.shape, axis, x.dtype, ignore_index)
    else:
        indices, ignored = arguments.class_indices(given, x.shape, axis, ignore_index)
    class_weight = None if weight is None else arguments.class_weight(weight, classes, weight_name)
    samples = arguments.per_row("sample_weight", sample_weight, rows)
    call = request(
        (name,), (x,), (given, weight, sample_weight), rows, reduction, return_grad, out, options
    )  # fmt: skip
    if arguments.flag("return_hessian", return_hessian):
        if not call.return_grad:
            raise ValueError("return_hessian needs return_grad=True")
        more["hessian"] = empty_like(x, is_beside=True)
    if class_weight is not None:
        more["weight"] = class_weight
    if samples is not None:
        more["sample_weight"] = samples
    losses = np.empty(rows) if reduction == "none" else None
    first_bad, total, denominator = kernel(
        x, axis, output=call.buffers[0], indices=indices, ignored=ignored, grad_output=call.upstream,
        grad_scale=sign * call.scale, mean=reduction == "mean", accumulate=call.accumulate[0],
        row_loss=losses, threads=call.num_threads, **more,
    )  # fmt: skip
    if first_bad >= 0:
        raise arguments.bad_class_index(given, first_bad, classes)
    loss = reduced(reduction, losses, total, denominator, x)
    if sign < 0:
        loss = scaled(loss, _negated)
    if not call.return_grad:
        return loss
    return (loss, call.buffers[0], more["hessian"]) if return_hessian else (loss, call.buffers[0])


def focal_loss(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: Any,
    *,
    axis: Any,
    gamma: Any,
    alpha: npt.ArrayLike | None,
    ignore_index: Any,
) -> Any:
    """Run the focal loss of softmax, with alpha as weights. The mean divides by the rows that count."""
    gamma = arguments.number("gamma", gamma, low=0.0)
    given = arguments.given("alpha", alpha)
    if given is not None and given.ndim == 0:
        given = np.full(_classes_of(logits, axis), arguments.number("alpha", given.item()))
    return focused_loss(
        _kernels.FOCAL, gamma, logits, target, reduction, return_grad, out, options, axis=axis, weight=given,
        weight_name="alpha", ignore_index=ignore_index, by_rows=True,
    )  # fmt: skip


def focused_loss(
    focusing: int,
    by: float,
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: Any,
    **more: Any,
) -> Any:
    """Run a loss that is a function of the cross-entropy, which it is itself if its parameter `by` is 0."""
    return row_loss(
        _focused_rows, "logits", logits, target=target, reduction=reduction, return_grad=return_grad, out=out,
        options=options, focusing=focusing if by else _kernels.UNFOCUSED, by=by, **more,
    )  # fmt: skip


def _classes_of(logits: npt.ArrayLike, axis: Any) -> int:
    x = arguments.floating("logits", logits)
    return int(x.shape[arguments.class_axis(axis, x, "logits")])


def _negated(loss: float | Array) -> float | Array:
    return np.asarray(0.0 - loss, loss.dtype) if isinstance(loss, np.ndarray) else 0.0 - loss


def multilabel_margin(
    scores: npt.ArrayLike, target: npt.ArrayLike, reduction: Any, return_grad: Any, out: Any, options: Any
) -> Any:
    """Check, run and reduce `multilabel_margin_loss`."""
    x = arguments.floating("scores", scores)
    rows, classes = arguments.rows_and_classes(x, arguments.class_axis(-1, x, "scores"))
    given = arguments.as_array("target", target)
    if given.shape != x.shape:
        raise ValueError(f"target must have the shape of scores, {x.shape}; got {given.shape}")
    # An index of each element, not of each row.
    indices, _ = arguments.class_indices(given, (*x.shape, classes), x.ndim, None)
    call = request(("scores",), (x,), (given,), rows, reduction, return_grad, out, options)
    count = math.prod(rows)
    losses = np.empty(rows) if reduction == "none" else None
    bad, total = _kernels.multilabel_margin(
        x, indices, output=call.buffers[0], grad_output=call.upstream,
        grad_scale=call.scale_over(count), accumulate=call.accumulate[0],
        row_loss=losses, threads=call.num_threads,
    )  # fmt: skip
    if bad >= 0:
        raise arguments.bad_class_index(given, bad, classes)
    loss = reduced(reduction, losses, total, count, x)
    return (loss, call.buffers[0]) if call.return_grad else loss


def row_losses(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, ignore_index: int, num_threads: int | None
) -> tuple[npt.NDArray[np.float64], int]:
    """Return the cross-entropy of each row in float64, and the number of rows that count."""
    x = arguments.floating("logits", logits)
    axis = arguments.class_axis(-1, x, "logits")
    rows, classes = arguments.rows_and_classes(x, axis)
    given = arguments.as_array("target", target)
    indices, ignored = arguments.class_indices(given, x.shape, axis, ignore_index)
    losses = np.empty(rows)
    first_bad, _, count = cross_entropy_rows(
        x, axis, indices=indices, ignored=ignored, row_loss=losses, threads=arguments.threads(num_threads)
    )
    if first_bad >= 0:
        raise arguments.bad_class_index(given, first_bad, classes)
    return losses, int(count)


def normalised(
    operation: int, values: npt.ArrayLike, axis: Any, out: Array | None, num_threads: Any
) -> Array:
    """Run softmax or log-softmax."""
    x = arguments.floating("x", values)
    axis = arguments.class_axis(axis, x, "x")
    output = empty_like(x) if out is None else buffer(out, x, what="the input")
    run_family(operation, x, axis, output=output, num_threads=num_threads)
    return output


def sums_of_exponentials(values: npt.ArrayLike, axis: Any, num_threads: Any) -> Array:
    """Run log-sum-exp; that of no elements is the logarithm of 0, -inf."""
    x = arguments.floating("x", values)
    axis = arguments.class_axis(axis, x, "x")
    result = np.full(x.shape[:axis] + x.shape[axis + 1 :], -math.inf)
    run_family(_kernels.LOGSUMEXP, x, axis, row_loss=result, num_threads=num_threads)
    return as_loss(result, x)


def _over_rows(values: Array, x: Array, reduction: str, gradient: Array | None) -> Any:
    """Reduce float64 values, the mean over all of them; return the result, and the gradient if not None."""
    result = reduced(reduction, np.asarray(values), float(values.sum()), values.size, x)
    return result if gradient is None else (result, gradient)


def entropies(
    x: Array,
    axis: int,
    softmax: dict[str, float],
    *,
    threads: int,
    output: Array | None = None,
    grad_output: Array | None = None,
    grad_scale: float = 1.0,
    accumulate: bool = False,
) -> Array:
    """Return the entropy of each row in float64, and write the gradient to `output`."""
    rows = x.shape[:axis] + x.shape[axis + 1 :]
    if x.shape[axis] > _kernels.SHORT_ROW:
        found = np.zeros((math.prod(rows), _kernels.STATISTICS))
        _kernels.statistics(
            x, axis, found, output=output, grad_output=(None, grad_output), grad_scale=(0.0, grad_scale),
            accumulate=accumulate, threads=threads, **softmax,
        )  # fmt: skip
        return np.ascontiguousarray(found[:, _kernels.ROW_ENTROPY]).reshape(rows)
    values = np.zeros(rows)
    _kernels.softmax(
        _kernels.ENTROPY, x, axis, output=output, grad_output=grad_output, grad_scale=grad_scale,
        accumulate=accumulate, row_loss=values, threads=threads, **softmax,
    )  # fmt: skip
    return values


def entropy_of_rows(
    logits: npt.ArrayLike,
    axis: Any,
    temperature: Any,
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: Any,
) -> Any:
    """Run the entropy of the softmax of each row."""
    x = arguments.floating("logits", logits)
    axis = arguments.class_axis(axis, x, "logits")
    rows, _ = arguments.rows_and_classes(x, axis)
    own, _ = softmax_options({"temperature": temperature})
    call = request(("logits",), (x,), (), rows, reduction, return_grad, out, options)
    values = entropies(
        x, axis, own, output=call.buffers[0], grad_output=call.upstream,
        grad_scale=call.scale_over(math.prod(rows)), accumulate=call.accumulate[0],
        threads=call.num_threads,
    )  # fmt: skip
    return _over_rows(values, x, reduction, call.buffers[0])


def _counted(mask: Any, lengths: Any, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return the tokens that count as booleans, from a mask or from lengths."""
    if mask is not None and lengths is not None:
        raise ValueError("mask and lengths are alternatives: pass only one of them")
    if mask is not None:
        return arguments.mask("mask", mask, shape)
    if lengths is None:
        return np.ones(shape, np.bool_)
    given = arguments.as_array("lengths", lengths)
    if given.dtype.kind not in "iu":
        raise TypeError(f"lengths must hold integers, got {given.dtype}")
    if given.shape != shape[:-1]:
        raise ValueError(
            f"lengths must have one entry for each sequence, shape {shape[:-1]}; got {given.shape}"
        )
    if ((given < 0) | (given > shape[-1])).any():
        raise ValueError(f"lengths must be between 0 and {shape[-1]}, the tokens of a sequence")
    return np.arange(shape[-1]) < given[..., np.newaxis]


def sequence_loss(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: Any,
    *,
    mask: npt.ArrayLike | None,
    lengths: npt.ArrayLike | None,
    ignore_index: Any,
    average: Any,
    temperature: Any,
) -> Any:
    """Run the log-probability of each sequence, the sum (or average) over its tokens."""
    x = arguments.floating("logits", logits)
    if x.ndim < 2:
        raise ValueError(f"logits must have tokens and classes on their last axes, got shape {x.shape}")
    tokens, classes = arguments.rows_and_classes(x, x.ndim - 1)
    rows = tokens[:-1]
    own, _ = softmax_options({"temperature": temperature})
    given = arguments.as_array("target", target)
    mask, lengths = arguments.given("mask", mask), arguments.given("lengths", lengths)
    indices, ignored = arguments.class_indices(
        given, x.shape, x.ndim - 1, arguments.index("ignore_index", ignore_index)
    )
    counted = _counted(mask, lengths, tokens)
    if ignored is not None:
        counted = counted & (indices != ignored)
    # After this check no index of a counted token is -1, so -1 can mark the tokens that do not count.
    arguments.require_classes(given, indices, classes, counted)
    indices = np.where(counted, indices, -1)
    share = np.ones(rows)
    if arguments.flag("average", average):
        share = 1.0 / np.maximum(counted.sum(axis=-1), 1)
    call = request(("logits",), (x,), (given, mask, lengths), rows, reduction, return_grad, out, options)
    weights = share if call.upstream is None else share * call.upstream
    losses = np.zeros(tokens)
    run_family(
        _kernels.CROSS_ENTROPY, x, x.ndim - 1, output=call.buffers[0], indices=indices, ignored=-1,
        grad_output=np.ascontiguousarray(np.broadcast_to(weights[..., np.newaxis], tokens)),
        grad_scale=-call.scale_over(math.prod(rows)), accumulate=call.accumulate[0],
        row_loss=losses, num_threads=call.num_threads, **own,
    )  # fmt: skip
    return _over_rows(0.0 - losses.sum(axis=-1) * share, x, reduction, call.buffers[0])


# --- divergences of two arrays of logits ---


class DivergenceGradients(NamedTuple):
    """The gradients of a divergence with ``teacher_grad=True``; None for a gradient not wanted."""

    student_logits: Array | None
    teacher_logits: Array | None


_NAMES = DivergenceGradients._fields


def divergence(
    operation: int,
    student_logits: npt.ArrayLike,
    teacher_logits: npt.ArrayLike,
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: Any,
    *,
    axis: Any,
    temperature: Any,
    mask: npt.ArrayLike | None,
    teacher_grad: Any,
    beta: float = 0.0,
    is_reversed: bool = False,
) -> Any:
    """Check, run and reduce a divergence. If it is reversed, the kernel takes the two arrays swapped."""
    temperature = option("temperature", temperature)
    teacher_grad = arguments.flag("teacher_grad", teacher_grad)
    seen = [arguments.as_array(*pair) for pair in zip(_NAMES, (student_logits, teacher_logits), strict=True)]
    x, t = (arguments.floating(name, value) for name, value in zip(_NAMES, seen, strict=True))
    axis = arguments.class_axis(axis, x, _NAMES[0])
    if t.shape != x.shape:
        raise ValueError(f"{_NAMES[1]} must have the shape of {_NAMES[0]}, {x.shape}; got {t.shape}")
    t = cast(t, x.dtype)
    mask = arguments.given("mask", mask)
    rows, _ = arguments.rows_and_classes(x, axis)
    counted = None if mask is None else np.ascontiguousarray(arguments.mask("mask", mask, rows))
    if teacher_grad and not arguments.flag("return_grad", return_grad):
        raise ValueError("teacher_grad needs return_grad=True")
    wanted = 2 if teacher_grad else 1
    call = request(
        _NAMES[:wanted], (x, t)[:wanted], (*seen[wanted:], mask), rows, reduction, return_grad, out, options,
        given=seen[:wanted],
    )  # fmt: skip
    count = math.prod(rows) if counted is None else int(counted.sum())
    losses = np.zeros(rows) if reduction == "none" else None
    sides = list(zip((x, t), (*call.buffers, None), (*call.accumulate, False), strict=False))
    first, second = reversed(sides) if is_reversed else sides
    total = _kernels.divergence(
        operation, first[0], second[0], axis, x_gradient=first[1], t_gradient=second[1], counted=counted,
        grad_output=call.upstream, beta=beta, accumulate=first[2] | second[2] << 1, row_loss=losses,
        grad_scale=call.scale_over(count),
        x_temperature=temperature, t_temperature=temperature, threads=call.num_threads,
    )  # fmt: skip
    loss = reduced(reduction, losses, total, count, x, of_nothing=math.nan if counted is None else 0.0)
    if not call.return_grad:
        return loss
    return loss, DivergenceGradients(*call.buffers) if teacher_grad else call.buffers[0]
