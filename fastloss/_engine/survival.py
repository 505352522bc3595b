"""Run the losses of survival times: check times, events, strata and options, sort, call the kernels once.

`src/survival.h` has the formulas of Cox's partial likelihood, `src/aft.h` those of accelerated failure.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fastloss import _kernels
from fastloss._engine import arguments
from fastloss._engine.conversion import widened
from fastloss._engine.elementwise import intervals
from fastloss._engine.parts import choice
from fastloss._engine.results import Request, reduced, request
from fastloss._engine.types import Array
from fastloss._engine.workspace import empty

__all__ = ["aft", "aft_parameters", "cox", "distribution_kernel"]

TIES = ("breslow", "efron")
DISTRIBUTIONS = ("normal", "logistic", "extreme")
# Rows are numbered by 32 bits.
MOST_ROWS = 2**32 - 1


def _of_rows(name: str, array: Array, rows: int) -> Array:
    if array.shape != (rows,):
        raise ValueError(f"{name} must have an entry for each row, shape ({rows},); got {array.shape}")
    return array


def _times(value: Array, rows: int) -> Array:
    """Return times as contiguous float64, in which different times stay different."""
    if value.dtype.kind in "iu" and value.dtype.itemsize == 8 and rows:
        given = _of_rows("time", value, rows)
        if (given < 0).any():
            raise arguments.first_bad_value("time", given, given < 0, "a time of at least 0")
        if int(given.max()) > 2**53:  # only their order counts
            return np.unique(given, return_inverse=True)[1].reshape(-1).astype(np.float64)
    return _of_rows("time", arguments.converted("time", value, np.float64), rows)


def _strata(value: Array, rows: int) -> Array:
    """Return strata as int64; equal ones stay equal."""
    if value.dtype.kind not in "biu":
        raise TypeError(f"strata must hold integers, got {value.dtype}")
    codes: Array = _of_rows("strata", value, rows).astype(np.int64)  # uint64 wraps around
    return codes


def _weights(value: Array, rows: int) -> Array:
    weight = arguments.per_row("weight", value, (rows,))
    assert weight is not None
    is_bad = ~(np.isfinite(weight) & (weight >= 0.0))
    if is_bad.any():
        raise arguments.first_bad_value("weight", weight, is_bad, "a finite weight of at least 0")
    return weight


def _in_order(time: Array, given: Array, strata: Array | None, room: Array, threads: int) -> tuple[Any, ...]:
    """Return the order of the rows by stratum and time, with the times and strata in that order."""
    rows = len(time)
    order, in_order = np.empty(rows, np.uint32), room[4 * rows : 5 * rows]
    bad = _kernels.order_by_time(time, room, in_order, order, threads)
    if bad >= 0:
        raise arguments.first_bad_value("time", given, np.arange(rows) == bad, "a time of at least 0")
    if strata is None:
        return order, in_order, None
    by_stratum = np.argsort(strata[order], kind="stable")
    order = order[by_stratum]
    return order, in_order[by_stratum], strata[order]


def cox(
    log_hazard: npt.ArrayLike,
    time: npt.ArrayLike,
    event: npt.ArrayLike,
    weight: npt.ArrayLike | None,
    strata: npt.ArrayLike | None,
    ties: Any,
    reduction: Any,
    return_grad: Any,
    return_hessian: Any,
    out: Any,
    options: Any,
) -> Any:
    """Check, run and reduce `cox_ph_loss`."""
    seen = arguments.as_array("log_hazard", log_hazard)
    x = arguments.floating("log_hazard", seen)
    if x.ndim != 1:
        raise ValueError(f"log_hazard must have shape (n,), one for each row; got {x.shape}")
    rows = len(x)
    if rows > MOST_ROWS:
        raise ValueError(f"log_hazard must have at most {MOST_ROWS} rows, got {rows}")
    choice("ties", ties, TIES)
    given = [arguments.as_array("time", time), arguments.as_array("event", event)]
    given += [arguments.given("weight", weight), arguments.given("strata", strata)]  # type: ignore[list-item]
    times = _times(given[0], rows)
    events = np.ascontiguousarray(arguments.mask("event", given[1], (rows,)))
    weights = None if weight is None else _weights(given[2], rows)
    codes = None if strata is None else _strata(given[3], rows)
    return_hessian = arguments.flag("return_hessian", return_hessian)
    checked = request(
        ("log_hazard",), (x,), given, (rows,), reduction, return_grad, out, options, given=(seen,)
    )
    if return_hessian and not checked.return_grad:
        raise ValueError("return_hessian needs return_grad=True")
    room = empty((5 * rows,), np.float64)
    in_order = _in_order(times, given[0], codes, room, checked.num_threads)
    count = float(np.count_nonzero(events) if weights is None else weights[events].sum())
    hessian = empty((rows,), x.dtype, is_beside=True) if return_hessian else None
    losses = np.zeros(rows) if checked.reduction == "none" else None
    total = _run(
        x, in_order, events, weights, count, ties, (checked.buffers[0], hessian, losses), room, checked
    )
    loss = reduced(checked.reduction, losses, total, count, x)
    if not checked.return_grad:
        return loss
    return (loss, checked.buffers[0], hessian) if return_hessian else (loss, checked.buffers[0])


def _run(
    x: Array,
    in_order: tuple[Any, ...],
    events: Array,
    weights: Array | None,
    count: float,
    ties: str,
    outputs: tuple[Array | None, Array | None, Array | None],
    room: Array,
    checked: Request,
) -> float:
    """Run the kernels with checked arguments."""
    rows = len(x)
    parts = room.reshape(5, rows)
    scale = checked.scale
    if checked.reduction == "mean":
        scale = scale / count if count else 0.0
    upstream = None if checked.upstream is None else widened(checked.upstream, np.float64)
    scratch = (
        parts[0], parts[1], parts[2], None if weights is None else parts[3],
        None if upstream is None else np.empty(rows), np.empty(rows, np.uint8),
    )  # fmt: skip
    total: float = _kernels.cox(
        x, in_order, events, weights, upstream, scale, ties == "efron", outputs, scratch,
        checked.accumulate[0], checked.num_threads,
    )  # fmt: skip
    return total


def aft(
    values: npt.ArrayLike,
    lower: npt.ArrayLike,
    upper: npt.ArrayLike,
    weight: npt.ArrayLike | None,
    scale: Any,
    distribution: Any,
    reduction: Any,
    return_grad: Any,
    return_hessian: Any,
    out: Any,
    options: Any,
) -> Any:
    """Check options of `aft_loss`, and run it."""
    return intervals(
        distribution_kernel(distribution), values, lower, upper, weight, reduction, return_grad, out, options,
        parameters=aft_parameters(scale), return_hessian=return_hessian,
    )  # fmt: skip


def distribution_kernel(distribution: Any) -> str:
    """Return the line of losses.def of a distribution."""
    return f"aft_{choice('distribution', distribution, DISTRIBUTIONS)}"


def aft_parameters(scale: Any) -> tuple[float, float]:
    """Return the scale and its logarithm."""
    scale = arguments.number("scale", scale, above=0.0)
    return scale, math.log(scale)
