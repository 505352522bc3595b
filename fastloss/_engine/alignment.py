"""Run connectionist temporal classification: checks of targets and lengths, and one call of the kernel.

A sample has as many steps and labels as its lengths say; what is behind them is not read. `src/ctc.h` has the
formulas.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastloss import _kernels
from fastloss._engine import arguments
from fastloss._engine.results import Request, reduced, request
from fastloss._engine.types import Array

__all__ = ["ctc"]


class _Samples(NamedTuple):
    """The labels of all samples, where those of each begin, and how many labels and steps each has."""

    labels: Array
    starts: Array
    labels_of: Array
    steps_of: Array


def _lengths(name: str, value: npt.ArrayLike, samples: int, most: int, what: str) -> Array:
    """Check the lengths of the samples, and return them as new int64."""
    array = arguments.as_array(name, value)
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold integers, got {array.dtype}")
    if array.shape != (samples,) and not (array.ndim == 0 and samples == 1):
        scalar = "a scalar or have " if samples == 1 else ""
        raise ValueError(
            f"{name} must {'be ' if scalar else ''}{scalar or 'have '}one length for each sample, shape "
            f"({samples},); got shape {array.shape}"
        )
    array = array.reshape(samples)
    is_bad = (array < 0) | (array > most)
    if is_bad.any():
        first = int(is_bad.argmax())
        raise ValueError(f"{name}[{first}] must be from 0 to {most}, {what}; got {array[first]}")
    return array.astype(np.int64)


def _samples(targets: npt.ArrayLike, steps: Any, lengths: Any, shape: tuple[int, ...]) -> _Samples:
    """Check the targets, padded or joined, and the lengths against an input of a shape."""
    most, samples, classes = shape
    given = arguments.as_array("targets", targets)
    if given.size == 0 and given.dtype.kind == "f" and not isinstance(targets, np.ndarray):
        given = given.astype(np.int64)  # an empty list
    indices, _ = arguments.class_indices(given, (*given.shape, classes), given.ndim, None, "targets")
    if given.ndim not in (1, 2) or (given.ndim == 2 and len(given) != samples):
        raise ValueError(
            f"targets must have a row for each of the {samples} samples, or be those of all samples joined "
            f"in one dimension; got shape {given.shape}"
        )
    steps_of = _lengths("input_lengths", steps, samples, most, "the steps of the input")
    width = given.shape[-1]
    labels_of = _lengths("target_lengths", lengths, samples, width, "the size of targets along its last axis")
    if given.ndim == 2:
        counts = np.arange(width) < labels_of[:, np.newaxis]
        starts = np.arange(samples, dtype=np.int64) * width
    else:
        if labels_of.sum() != width:
            raise ValueError(
                f"target_lengths must add up to the {width} labels of targets, which are joined in one "
                f"dimension; got {labels_of.sum()}"
            )
        counts = np.ones(width, np.bool_)
        starts = np.cumsum(labels_of) - labels_of
    arguments.require_classes(given, indices, classes, counts, "targets")
    return _Samples(indices.ravel(), starts, labels_of, steps_of)


def _class(name: str, value: Any, classes: int) -> int:
    index = arguments.index(name, value)
    if not 0 <= index < classes:
        raise IndexError(f"{name} is {index}, which is not a class: expected 0 <= index < {classes}")
    return index


def _factor(call: Request, weight: Array) -> Array | None:
    """Return what multiplies the gradient of each sample."""
    if not call.return_grad:
        return None
    upstream = call.scale if call.upstream is None else call.upstream.reshape(-1)
    count = len(weight) if call.reduction == "mean" else 1
    return np.asarray(upstream * weight / max(count, 1))


def ctc(
    input: npt.ArrayLike,
    targets: npt.ArrayLike,
    input_lengths: Any,
    target_lengths: Any,
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: Any,
    *,
    name: str,
    blank: Any,
    zero_infinity: Any,
    has_logits: bool,
) -> Any:
    """Check, run and reduce the loss of the first argument, which is called `name`."""
    seen = arguments.as_array(name, input)
    x = arguments.floating(name, seen)
    if x.ndim not in (2, 3):
        raise ValueError(f"{name} must have shape (T, N, C), or (T, C) for one sample; got {x.shape}")
    is_batch = x.ndim == 3
    shape = x.shape if is_batch else (len(x), 1, x.shape[1])
    if shape[2] == 0:
        raise ValueError(f"there must be at least one class along axis {x.ndim - 1}, got shape {x.shape}")
    blank = _class("blank", blank, shape[2])
    zero_infinity = arguments.flag("zero_infinity", zero_infinity)
    samples = _samples(targets, input_lengths, target_lengths, shape)
    others = [arguments.as_array("targets", targets) if isinstance(targets, np.ndarray) else None]
    call = request(
        (name,),
        (x,),
        others,
        shape[1:2] if is_batch else (),
        reduction,
        return_grad,
        out,
        options,
        given=(seen,),
    )
    # The mean divides each loss by the number of its labels first, as torch's.
    is_divided = call.reduction in ("mean", "sum_and_count")
    weight = 1.0 / np.maximum(samples.labels_of, 1) if is_divided else np.ones(shape[1])
    losses, buffer = np.empty(shape[1]), call.buffers[0]
    with np.errstate(all="ignore"):
        _kernels.ctc(
            x if is_batch else x[:, np.newaxis], *samples, losses, blank=blank, has_logits=has_logits,
            zero_infinity=zero_infinity, threads=call.num_threads,
            output=buffer if is_batch or buffer is None else buffer[:, np.newaxis],
            factor=_factor(call, weight), accumulate=call.accumulate[0],
        )  # fmt: skip
        total = float((losses * weight).sum())
        unreduced = losses if is_batch else losses.reshape(())
        loss = reduced(call.reduction, unreduced, total, shape[1], x)
    return (loss, buffer) if call.return_grad else loss
