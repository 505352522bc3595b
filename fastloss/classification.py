"""The softmax family: cross-entropy, negative log-likelihood, softmax, log-softmax, log-sum-exp."""

from __future__ import annotations

import math
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from fastloss import _arguments, _kernels
from fastloss._arguments import Array, Reduction
from fastloss._settings import get_num_threads

__all__ = ["cross_entropy", "log_softmax", "logsumexp", "nll_loss", "softmax"]

_IGNORE_INDEX = -100
# The defaults as objects, so that "was not given" is one comparison.
_NONE = 0.0
_ONE = 1.0


def _loss_of_rows(
    operation: int,
    x: Array,
    axis: int,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None,
    ignore_index: int,
    sample_weight: npt.ArrayLike | None,
    reduction: str,
    return_grad: bool,
    grad_output: npt.ArrayLike | None,
    out: Array | None,
    accumulate: bool,
    num_threads: int | None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float = 0.0,
    temperature: float = 1.0,
) -> Any:
    """Check what all losses over rows of classes have in common, run, and reduce."""
    ignore_index = _arguments.index("ignore_index", ignore_index)
    _arguments.reduction(reduction)
    shape = x.shape
    classes = shape[axis]
    rows = shape[:axis] + shape[axis + 1 :]
    if classes == 0:
        raise ValueError(f"the input must have at least one class along axis {axis}, got {shape}")
    given = target if type(target) is np.ndarray else np.asarray(target)
    indices: Array | None = None
    probabilities: Array | None = None
    ignored: int | None = None
    if _kernels.is_index(given) or operation == _kernels.NLL or not _arguments.is_probabilities(given):
        indices, ignored = _arguments.class_indices(given, rows, ignore_index)
    else:
        probabilities = _arguments.probabilities(given, x, ignore_index)
    class_weight: Array | None = None
    if weight is not None:
        class_weight = _arguments.class_weight(weight, classes)
    samples = None if sample_weight is None else _arguments.per_row("sample_weight", sample_weight, rows)
    scale, upstream = 1.0, None
    if grad_output is not None:
        loss_shape = rows if reduction == "none" else ()
        scale, upstream = _arguments.upstream(grad_output, loss_shape, return_grad)
    others = (target, weight, sample_weight, grad_output)
    grad = _arguments.gradient_buffer(out, x, others, return_grad, accumulate)
    threads = _arguments.threads(num_threads)
    row_loss = np.empty(rows) if reduction == "none" else None
    first_bad, total, denominator = _kernels.softmax_family(
        operation, x, axis, grad, indices, probabilities, ignored, class_weight,
        samples, upstream, scale, reduction == "mean", label_smoothing, z_loss, softcap,
        temperature, accumulate, row_loss, threads,
    )  # fmt: skip
    if first_bad >= 0:
        raise _arguments.bad_class_index(given, first_bad, classes)
    loss: float | Array
    if row_loss is not None:
        loss = row_loss.astype(_arguments.loss_dtype(x), copy=False)
    elif reduction == "sum":
        loss = total
    else:
        loss = total / denominator if denominator else math.nan
    return (loss, grad) if return_grad else loss


def cross_entropy(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    axis: int = -1,
    weight: npt.ArrayLike | None = None,
    ignore_index: int = _IGNORE_INDEX,
    label_smoothing: float = _NONE,
    sample_weight: npt.ArrayLike | None = None,
    z_loss: float = _NONE,
    softcap: float | None = None,
    temperature: float = _ONE,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
    out: Array | None = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    if (
        weight is sample_weight is softcap is grad_output is num_threads is None
        and label_smoothing is z_loss is _NONE
        and temperature is _ONE
        and accumulate is False
    ):
        plain = _kernels.plain_cross_entropy(
            logits, target, axis, ignore_index, reduction, return_grad, out, get_num_threads
        )
        if plain is not None:
            return plain
    x = _arguments.floating("logits", logits)
    return _loss_of_rows(
        _kernels.CROSS_ENTROPY, x, _arguments.class_axis(axis, x, "logits"), target,
        weight=weight, ignore_index=ignore_index, sample_weight=sample_weight, reduction=reduction,
        return_grad=return_grad, grad_output=grad_output, out=out, accumulate=accumulate,
        num_threads=num_threads,
        label_smoothing=_arguments.number("label_smoothing", label_smoothing, low=0.0, high=1.0),
        z_loss=_arguments.number("z_loss", z_loss, low=0.0),
        softcap=0.0 if softcap is None else _arguments.number("softcap", softcap, low=0.0, open_low=True),
        temperature=_arguments.number("temperature", temperature, low=0.0, open_low=True),
    )  # fmt: skip


def nll_loss(log_probs, target, *, axis=-1, weight=None, ignore_index=-100, sample_weight=None, reduction="mean",
             return_grad=False, grad_output=None, out=None, accumulate=False, num_threads=None):
    x = _arguments.floating("log_probs", log_probs)
    return _loss_of_rows(
        _kernels.NLL, x, _arguments.class_axis(axis, x, "log_probs"), target,
        weight=weight, ignore_index=ignore_index, sample_weight=sample_weight, reduction=reduction,
        return_grad=return_grad, grad_output=grad_output, out=out, accumulate=accumulate,
        num_threads=num_threads)


def _transform(operation, x, axis, out, num_threads, row_loss=None):
    threads = _arguments.threads(num_threads)
    _kernels.softmax_family(operation, x, axis, out, None, None, None, None, None, None, 1.0, False,
                            0.0, 0.0, 0.0, 1.0, False, row_loss, threads)


def softmax(x, *, axis=-1, out=None, num_threads=None):
    x = _arguments.floating("x", x)
    axis = _arguments.class_axis(axis, x, "x")
    out = np.empty_like(x) if out is None else _arguments.buffer(out, x, ())
    _transform(_kernels.SOFTMAX, x, axis, out, num_threads)
    return out


def log_softmax(x, *, axis=-1, out=None, num_threads=None):
    x = _arguments.floating("x", x)
    axis = _arguments.class_axis(axis, x, "x")
    out = np.empty_like(x) if out is None else _arguments.buffer(out, x, ())
    _transform(_kernels.LOG_SOFTMAX, x, axis, out, num_threads)
    return out


def logsumexp(x, *, axis=-1, num_threads=None):
    x = _arguments.floating("x", x)
    axis = _arguments.class_axis(axis, x, "x")
    rows = _arguments.rows_shape(x, axis)
    result = np.full(rows, -math.inf)
    _transform(_kernels.LOGSUMEXP, x, axis, None, num_threads, result)
    return result.astype(_arguments.loss_dtype(x), copy=False)


def row_losses(logits: npt.ArrayLike, target: npt.ArrayLike, *, ignore_index: int, num_threads: int | None):
    x = _arguments.floating("logits", logits)
    axis = _arguments.class_axis(-1, x, "logits")
    rows = _arguments.rows_shape(x, axis)
    given = np.asarray(target)
    indices, ignored = _arguments.class_indices(given, rows, ignore_index)
    losses = np.empty(rows)
    first_bad, _, tokens = _kernels.softmax_family(
        _kernels.CROSS_ENTROPY, x, axis, None, indices, None, ignored, None, None, None, 1.0, False,
        0.0, 0.0, 0.0, 1.0, False, losses, _arguments.threads(num_threads))
    if first_bad >= 0:
        raise _arguments.bad_class_index(given, first_bad, x.shape[axis])
    return losses, int(tokens)
