"""The losses over rows of classes: what they share, and one call of the kernels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from fastloss import _kernels
from fastloss._engine import arguments
from fastloss._engine.types import Array
from fastloss._engine.workspace import empty_like

__all__ = ["cross_entropy_rows", "row_loss", "row_losses", "run_family"]

# First row with a bad target or -1, sum of the losses, the mean's denominator.
Kernel = Callable[..., tuple[int, float, float]]
cross_entropy_rows: Kernel = partial(_kernels.softmax, _kernels.CROSS_ENTROPY)


def run_family(
    operation: int, x: Array, axis: int, *, num_threads: int | None = None, **fields: Any
) -> tuple[int, float, float]:
    """Run an operation of the softmax family with checked arguments."""
    return _kernels.softmax(operation, x, axis, threads=arguments.threads(num_threads), **fields)


def row_loss(
    kernel: Kernel,
    x: Array,
    axis: int,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None,
    ignore_index: int | None,
    sample_weight: npt.ArrayLike | None,
    reduction: str,
    return_grad: bool,
    grad_output: npt.ArrayLike | None,
    out: Array | None,
    accumulate: bool,
    num_threads: int | None,
    return_hessian: bool = False,
    sign: float = 1.0,
    **options: Any,
) -> Any:
    """Check what the losses over rows of classes share, run, and reduce.

    With a `sign` of -1 loss and gradient are negated, and the target is class indices: log-probabilities.
    """
    arguments.reduction(reduction)
    rows, classes = arguments.rows_and_classes(x, axis)
    given = arguments.as_array("target", target)
    weight = arguments.given("weight", weight)
    sample_weight = arguments.given("sample_weight", sample_weight)
    grad_output = arguments.given("grad_output", grad_output)
    indices = ignored = None
    if kernel is cross_entropy_rows and sign > 0 and arguments.is_probabilities(given):
        assert ignore_index is not None
        options["probabilities"] = arguments.probabilities(given, x.shape, axis, x.dtype, ignore_index)
    else:
        indices, ignored = arguments.class_indices(given, x.shape, axis, ignore_index)
    class_weight = None if weight is None else arguments.class_weight(weight, classes)
    samples = arguments.per_row("sample_weight", sample_weight, rows)
    loss_shape = rows if reduction == "none" else ()
    scale, upstream = arguments.upstream(grad_output, loss_shape, return_grad)
    others = (given, weight, sample_weight, grad_output)
    grad = arguments.gradient_buffer(out, x, others, return_grad, accumulate)
    if return_hessian:
        if grad is None:
            raise ValueError("return_hessian needs return_grad=True")
        options["hessian"] = empty_like(x)
    losses = np.empty(rows) if reduction == "none" else None
    first_bad, total, denominator = kernel(
        x, axis, output=grad, indices=indices, ignored=ignored, weight=class_weight, sample_weight=samples,
        grad_output=upstream, grad_scale=sign * scale, mean=reduction == "mean", accumulate=bool(accumulate),
        row_loss=losses, threads=arguments.threads(num_threads), **options,
    )  # fmt: skip
    if first_bad >= 0:
        raise arguments.bad_class_index(given, first_bad, classes)
    loss = arguments.reduced(reduction, losses, total, denominator, x)
    if sign < 0:
        loss = np.asarray(0.0 - loss, loss.dtype) if isinstance(loss, np.ndarray) else 0.0 - loss
    if not return_grad:
        return loss
    return (loss, grad, options["hessian"]) if return_hessian else (loss, grad)


def row_losses(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, ignore_index: int, num_threads: int | None
) -> tuple[npt.NDArray[np.float64], int]:
    """Return the cross-entropy of each row in float64, and how many rows count."""
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
