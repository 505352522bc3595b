"""Rows of the further losses over classes."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from helpers import INF, NAN, Array, Options, bad, bad_numbers, smallest_normal
from registry import Call, Option, Row

from fastloss import reference

from .elementwise import of_each
from .softmax import (
    IGNORE,
    OF_INDICES,
    WEIGHT,
    Bounds,
    class_weights,
    gradient_scale,
    indices,
    shifted_down,
    sum_of_weights,
    tokens,
)


def focal_derivative_bound(c: Call, name: str) -> Array:
    """As of cross-entropy; the power of 1 - p magnifies the error of 1 - p by gamma."""
    limit = c.row.info.exact if c.dtype == "float64" else c.row.info.grad
    return limit * (1.0 + c.options.get("gamma", 2.0)) * gradient_scale(c) + smallest_normal(c.dtype)


def of_log_probs(torch: Any, tensors: dict[str, Any], options: Options) -> tuple[Any, Any]:
    """The log-probability of each target, 0 where it is ignored; and which rows count."""
    x, y = tensors.values()
    counted = y != options.get("ignore_index", -100)
    x = torch.where(counted.unsqueeze(-1), x, 0.0)
    found = torch.log_softmax(x, dim=-1).gather(-1, torch.where(counted, y, 0).unsqueeze(-1)).squeeze(-1)
    return torch.where(counted, found, 0.0), counted


def focal_in_torch(torch: Any, tensors: dict[str, Any], options: Options, reduction: str) -> Any:
    """Of log-softmax; 1 - p is exact enough for the rows of this registry."""
    log_p, counted = of_log_probs(torch, tensors, options)
    losses = -((-torch.expm1(log_p)) ** options.get("gamma", 2.0)) * log_p
    if "alpha" in options:
        classes = tensors["logits"].shape[-1]
        alpha = torch.as_tensor(options["alpha"], dtype=log_p.dtype).expand(classes)
        losses = losses * alpha[torch.where(counted, tensors["target"], 0)]
    losses = torch.where(counted, losses, 0.0)
    return {"none": losses, "sum": losses.sum(), "mean": losses.sum() / counted.sum()}[reduction]


def weighed_in_torch(
    function: Callable[[Any, Any, Options], Any],
    torch: Any,
    tensors: dict[str, Any],
    options: Options,
    reduction: str,
) -> Any:
    """A function of the log-probabilities, whose mean divides by the sum of the class weights."""
    log_p, counted = of_log_probs(torch, tensors, options)
    weight = torch.as_tensor(options.get("weight", np.ones(tensors["logits"].shape[-1])), dtype=log_p.dtype)
    weight = torch.where(counted, weight[torch.where(counted, tensors["target"], 0)], 0.0)
    losses = weight * function(torch, log_p, options)
    return {"none": losses, "sum": losses.sum(), "mean": losses.sum() / weight.sum()}[reduction]


def poly_of(torch: Any, log_p: Any, options: Options) -> Any:
    return -log_p - options.get("epsilon", 1.0) * torch.expm1(log_p)


def generalized_of(torch: Any, log_p: Any, options: Options) -> Any:
    q = options.get("q", 0.7)
    return -torch.expm1(q * log_p) / q if q else -log_p


def generalized_derivative_bound(c: Call, name: str) -> Array:
    """As of cross-entropy; an error of the cross-entropy l is one of exp(-q l), relative to that times l."""
    limit = c.row.info.exact if c.dtype == "float64" else c.row.info.grad
    size = np.minimum(c.options.get("q", 0.7) * surprises(c), 700.0)
    return limit * (1.0 + size[..., np.newaxis]) * gradient_scale(c) + smallest_normal(c.dtype)


@np.errstate(invalid="ignore")
def surprises(c: Call) -> Array:
    """The cross-entropy of each row, 0 of one that is ignored."""
    x, y = np.asarray(c.first, np.float64), np.asarray(c["target"])
    return reference.cross_entropy(
        x, y, axis=c.get("axis", -1), ignore_index=c.get("ignore_index", -100), reduction="none"
    )


FOCAL = Row(
    "softmax_focal_loss",
    indices,
    gradients=("logits",),
    sets=({}, {"gamma": 0.5}, {"gamma": 5, "alpha": 0.25}, {"gamma": 0}),
    extras=(IGNORE, Option("alpha", class_weights)),
    bad=(
        *bad_numbers("gamma", -0.1, -1),
        *bad("alpha", ValueError, [1.0, 2.0], INF, NAN),
        *bad("alpha", TypeError, True, "1"),
    ),
    divisor=tokens,
    room=shifted_down,
    torch=focal_in_torch,
    info=Bounds(),
    **{**OF_INDICES, "derivative_bound": focal_derivative_bound},
)

_FOCUSED: dict[str, Any] = {
    "gradients": ("logits",),
    "extras": (IGNORE, WEIGHT),
    "divisor": sum_of_weights,
    "room": shifted_down,
    "info": Bounds(),
}
POLY = Row(
    "poly_loss",
    indices,
    sets=of_each("epsilon", -1, -0.5, 6.0, 0),
    bad=bad_numbers("epsilon", -1.1, -2),
    torch=partial(weighed_in_torch, poly_of),
    **_FOCUSED,
    **OF_INDICES,
)
GENERALIZED = Row(
    "generalized_cross_entropy",
    indices,
    sets=of_each("q", 1, 0.01, 0),
    bad=bad_numbers("q", -0.1, 1.1, 2),
    torch=partial(weighed_in_torch, generalized_of),
    **_FOCUSED,
    **{**OF_INDICES, "derivative_bound": generalized_derivative_bound},
)

ROWS = [FOCAL, POLY, GENERALIZED]
