"""Run the losses of pairs and triples of vectors: check arguments, call the kernels once, and reduce.

The comment at the top of ``src/pairs.h`` derives their formulas and gradients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastloss import _kernels
from fastloss._engine import arguments
from fastloss._engine.conversion import cast
from fastloss._engine.elementwise import outside
from fastloss._engine.options import option
from fastloss._engine.results import Request, reduced, request
from fastloss._engine.types import Array

__all__ = ["CosineEmbeddingGradients", "TripletMarginGradients", "cosine", "triplet"]

# Added to the squared lengths of a cosine, as in torch.
_EPS = 1e-12


class CosineEmbeddingGradients(NamedTuple):
    """The gradients of `cosine_embedding_loss`; None for a gradient not wanted."""

    input1: Array | None
    input2: Array | None


class TripletMarginGradients(NamedTuple):
    """The gradients of `triplet_margin_loss`; None for a gradient not wanted."""

    anchor: Array | None
    positive: Array | None
    negative: Array | None


def _vectors(names: Sequence[str], values: Sequence[Any]) -> tuple[list[Array], tuple[Array, ...]]:
    """Check arrays of vectors of one shape; return them as they were given, and in the type of the first."""
    seen = [arguments.as_array(name, value) for name, value in zip(names, values, strict=True)]
    x = arguments.floating(names[0], seen[0])
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"{names[0]} must have vectors along its last axis, got shape {x.shape}")
    arrays = [x]
    for name, value in zip(names[1:], seen[1:], strict=True):
        array = arguments.floating(name, value)
        if array.shape != x.shape:
            raise ValueError(f"{name} must have the shape of {names[0]}, {x.shape}; got {array.shape}")
        arrays.append(cast(array, x.dtype))
    return seen, tuple(arrays)


def _run(vectors: tuple[Array, ...], call: Request, **more: Any) -> Any:
    """Run checked vectors, and return the loss."""
    x = vectors[0]
    rows = x.shape[:-1]
    count = math.prod(rows)
    losses = np.empty(rows) if call.reduction == "none" else None
    total = _kernels.pairs(
        vectors, tuple(call.buffers), grad_output=call.upstream,
        grad_scale=call.scale_over(count),
        accumulate=sum(flag << k for k, flag in enumerate(call.accumulate)), row_loss=losses,
        threads=call.num_threads, **more,
    )  # fmt: skip
    return reduced(call.reduction, losses, total, count, x)


def _signs(target: Array, rows: tuple[int, ...], *, is_checked: bool) -> Array:
    """Return targets of rows, -1 or 1, as contiguous float64; a scalar is broadcast."""
    t = arguments.per_row("target", target, rows)
    assert t is not None
    is_bad = (np.abs(t) != 1.0) & ~np.isnan(t)
    if is_checked and is_bad.any():
        position = np.unravel_index(int(is_bad.argmax()), rows) if target.ndim else ()
        raise outside("target", target, tuple(map(int, position)), _kernels.SIGN)
    return t


def cosine(
    input1: npt.ArrayLike,
    input2: npt.ArrayLike,
    target: npt.ArrayLike,
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: Any,
    *,
    margin: Any,
    check_domain: Any,
) -> Any:
    """Check, run and reduce `cosine_embedding_loss`."""
    margin = arguments.number("margin", margin)
    is_checked = arguments.flag("check_domain", check_domain)
    names = CosineEmbeddingGradients._fields
    seen, vectors = _vectors(names, (input1, input2))
    given = arguments.as_array("target", target)
    rows = vectors[0].shape[:-1]
    signs = _signs(given, rows, is_checked=is_checked)
    call = request(names, vectors, (given,), rows, reduction, return_grad, out, options, given=seen)
    loss = _run(vectors, call, target=signs, margin=margin, eps=_EPS)
    return (loss, CosineEmbeddingGradients(*call.buffers)) if call.return_grad else loss


def _power(p: Any) -> float:
    """Return the exponent of a norm, which may be infinite."""
    if isinstance(p, float) and p == math.inf:
        return p
    return arguments.number("p", p, above=0.0)


def triplet(
    anchor: npt.ArrayLike,
    positive: npt.ArrayLike,
    negative: npt.ArrayLike,
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: Any,
    *,
    margin: Any,
    p: Any,
    eps: Any,
    swap: Any,
) -> Any:
    """Check, run and reduce `triplet_margin_loss`."""
    checked = {
        "margin": arguments.number("margin", margin, above=0.0),
        "p": _power(p),
        "eps": option("eps", eps),
        "swap": arguments.flag("swap", swap),
    }
    names = TripletMarginGradients._fields
    seen, vectors = _vectors(names, (anchor, positive, negative))
    call = request(
        names, vectors, (), vectors[0].shape[:-1], reduction, return_grad, out, options, given=seen
    )
    loss = _run(vectors, call, **checked)
    return (loss, TripletMarginGradients(*call.buffers)) if call.return_grad else loss
