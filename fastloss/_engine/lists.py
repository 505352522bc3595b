"""Run the losses of lists: check the sizes of the groups and the labels, call the kernels once, and reduce.

`src/lists.h` has the formulas.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastloss import _kernels
from fastloss._engine import arguments
from fastloss._engine.conversion import cast, is_bfloat16
from fastloss._engine.results import Request, reduced, request
from fastloss._engine.types import Array
from fastloss._engine.workspace import empty

__all__ = [
    "bounds_of",
    "checked_gains",
    "checked_truncation",
    "discounts_of",
    "labels_of",
    "lambda_rank",
    "list_net",
]

# Labels of LightGBM's default gains, 2^i - 1.
LEVELS = 31


def _scores(values: npt.ArrayLike) -> Array:
    x = arguments.floating("scores", values)
    if x.ndim != 1:
        raise ValueError(f"scores must have an entry for each document, shape (n,); got {x.shape}")
    return x


def _of_documents(name: str, array: Array, x: Array) -> None:
    if array.shape != x.shape:
        raise ValueError(f"{name} must have an entry for each document, shape {x.shape}; got {array.shape}")


def bounds_of(sizes: Array | None, documents: int, name: str = "group_sizes") -> tuple[Array, int]:
    """Return where each group begins, with the end, as int64, and the size of the largest group."""
    if sizes is None:
        return np.array([0, documents] if documents else [0]), documents
    if sizes.dtype.kind not in "iu" and (sizes.size or sizes.dtype == np.bool_):
        raise TypeError(f"{name} must hold integers, got {sizes.dtype}")
    if sizes.ndim != 1:
        raise ValueError(f"{name} must have one axis, got shape {sizes.shape}")
    if (sizes < 0).any():
        first = int((sizes < 0).argmax())
        raise ValueError(f"{name}[{first}] is {sizes[first]}: expected a size of at least 0")
    largest = int(sizes.max(initial=0))
    # A size beyond the number of documents might overflow the sum.
    total = int(sizes.sum(dtype=np.int64)) if largest <= documents else sum(map(int, sizes))
    if total != documents:
        raise ValueError(f"{name} must add up to the number of documents, {documents}; got {total}")
    bounds = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=bounds[1:])
    return bounds, largest


def checked_gains(value: npt.ArrayLike | None) -> Array:
    """Return the gain of each label: by default those of LightGBM."""
    if value is None:
        return 2.0 ** np.arange(LEVELS) - 1.0
    gains = arguments.converted("label_gain", value, np.float64)
    if gains.ndim != 1 or not gains.size:
        raise ValueError(f"label_gain must have a gain for each label, shape (labels,); got {gains.shape}")
    before = np.concatenate([[0.0], gains[:-1]])
    is_good = np.isfinite(gains) & (gains >= before)
    if not is_good.all():
        first = int((~is_good).argmax())
        raise ValueError(
            f"label_gain[{first}] is {gains[first]}: expected a finite gain of at least 0, and of at least "
            "that of the label before"
        )
    return gains


def labels_of(relevance: Array, levels: int, name: str = "relevance") -> Array:
    """Return labels, integers of any type, as contiguous int32."""
    values = cast(relevance, np.float32) if is_bfloat16(relevance.dtype) else relevance
    if values.dtype.kind not in "iufb":
        raise TypeError(f"{name} must hold integers of any type, got {values.dtype}")
    with np.errstate(invalid="ignore"):
        is_good = (values >= 0) & (values < levels)
        labels: Array = np.ascontiguousarray(values).astype(np.int32)
        if values.dtype.kind == "f":
            is_good &= labels == values
    if not is_good.all():
        first = int((~is_good).argmax())
        raise ValueError(
            f"{name}[{first}] is {values[first]}: expected an integer of at least 0 and less than {levels}, "
            "the number of gains in label_gain"
        )
    return labels


def checked_truncation(value: Any) -> int:
    """Return how many documents at the head of a list are compared with all others."""
    level = arguments.index("truncation_level", value)
    if level < 1:
        raise ValueError(f"truncation_level must be at least 1, got {value!r}")
    return min(level, 2**62)


def _scale(call: Request, groups: int) -> float:
    return call.scale / max(groups, 1) if call.reduction == "mean" else call.scale


def list_net(
    scores: npt.ArrayLike,
    relevance: npt.ArrayLike,
    group_sizes: npt.ArrayLike | None,
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: Any,
) -> Any:
    """Check, run and reduce `list_net_loss`."""
    seen = arguments.as_array("scores", scores)
    x = _scores(seen)
    given = arguments.as_array("relevance", relevance)
    sizes = arguments.given("group_sizes", group_sizes)
    y = arguments.floating("relevance", given)
    _of_documents("relevance", y, x)
    bounds, longest = bounds_of(sizes, len(x))
    groups = len(bounds) - 1
    call = request(
        ("scores",), (x,), (given, sizes), (groups,), reduction, return_grad, out, options, given=(seen,)
    )
    losses = np.zeros(groups) if call.reduction == "none" else None
    total = _kernels.list_net(
        x, y, bounds, longest, gradient=call.buffers[0], upstream=call.upstream, scale=_scale(call, groups),
        losses=losses, accumulate=call.accumulate[0], threads=call.num_threads,
    )  # fmt: skip
    loss = reduced(call.reduction, losses, total, groups, x)
    return (loss, call.buffers[0]) if call.return_grad else loss


def discounts_of(longest: int) -> Array:
    """Return the discount of each position of a list."""
    discounts: Array = 1.0 / np.log2(np.arange(2.0, longest + 2.0))
    return discounts


def lambda_rank(
    scores: npt.ArrayLike,
    relevance: npt.ArrayLike,
    group_sizes: npt.ArrayLike | None,
    reduction: Any,
    return_grad: Any,
    return_hessian: Any,
    out: Any,
    options: Any,
    *,
    sigmoid: Any,
    truncation_level: Any,
    label_gain: npt.ArrayLike | None,
    normalize: Any,
) -> Any:
    """Check, run and reduce `lambda_rank_loss`."""
    sigmoid = arguments.number("sigmoid", sigmoid, above=0.0)
    truncation_level = checked_truncation(truncation_level)
    normalize = arguments.flag("normalize", normalize)
    return_hessian = arguments.flag("return_hessian", return_hessian)
    seen = arguments.as_array("scores", scores)
    x = _scores(seen)
    given = arguments.as_array("relevance", relevance)
    sizes, gains = arguments.given("group_sizes", group_sizes), arguments.given("label_gain", label_gain)
    _of_documents("relevance", given, x)
    of_labels = checked_gains(gains)
    labels = labels_of(given, len(of_labels))
    bounds, longest = bounds_of(sizes, len(x))
    groups = len(bounds) - 1
    call = request(
        ("scores",), (x,), (given, sizes, gains), (groups,), reduction, return_grad, out, options,
        given=(seen,),
    )  # fmt: skip
    if return_hessian and not call.return_grad:
        raise ValueError("return_hessian needs return_grad=True")
    hessian = empty(x.shape, x.dtype, is_beside=True) if return_hessian else None
    losses = np.zeros(groups) if call.reduction == "none" else None
    total = _kernels.lambda_rank(
        x, labels, bounds, longest, label_gain=of_labels, discounts=discounts_of(longest), sigmoid=sigmoid,
        truncation_level=truncation_level, normalize=normalize, gradient=call.buffers[0], hessian=hessian,
        upstream=call.upstream, scale=_scale(call, groups), losses=losses, accumulate=call.accumulate[0],
        threads=call.num_threads,
    )  # fmt: skip
    loss = reduced(call.reduction, losses, total, groups, x)
    if not call.return_grad:
        return loss
    return (loss, call.buffers[0], hessian) if return_hessian else (loss, call.buffers[0])
