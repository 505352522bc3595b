"""Rows of the further losses over classes."""

from typing import Any

from helpers import INF, NAN, Array, Options, bad, bad_numbers, smallest_normal
from registry import Call, Option, Row

from .softmax import (
    IGNORE,
    OF_INDICES,
    Bounds,
    class_weights,
    gradient_scale,
    indices,
    shifted_down,
    tokens,
)


def focal_derivative_bound(c: Call, name: str) -> Array:
    """As of cross-entropy; the power of 1 - p magnifies the error of 1 - p by gamma."""
    limit = c.row.info.exact if c.dtype == "float64" else c.row.info.grad
    return limit * (1.0 + c.options.get("gamma", 2.0)) * gradient_scale(c) + smallest_normal(c.dtype)


def focal_in_torch(torch: Any, tensors: dict[str, Any], options: Options, reduction: str) -> Any:
    """Of log-softmax; 1 - p is exact enough for the rows of this registry."""
    x, y = tensors.values()
    counted = y != options.get("ignore_index", -100)
    kept = torch.where(counted, y, 0)
    x = torch.where(counted.unsqueeze(-1), x, 0.0)
    log_p = torch.log_softmax(x, dim=-1).gather(-1, kept.unsqueeze(-1)).squeeze(-1)
    losses = -((-torch.expm1(log_p)) ** options.get("gamma", 2.0)) * log_p
    if "alpha" in options:
        losses = losses * torch.as_tensor(options["alpha"], dtype=x.dtype).expand(x.shape[-1])[kept]
    losses = torch.where(counted, losses, 0.0)
    return {"none": losses, "sum": losses.sum(), "mean": losses.sum() / counted.sum()}[reduction]


FOCAL = Row(
    "softmax_focal_loss",
    indices,
    gradients=("logits",),
    sets=({}, {"gamma": 0.5}, {"gamma": 5, "alpha": 0.25}, {"gamma": 0}),
    extras=(IGNORE, Option("alpha", class_weights)),
    bad=(
        *bad_numbers("gamma", low=0.0),
        *bad("alpha", ValueError, [1.0, 2.0], INF, NAN),
        *bad("alpha", TypeError, True, "1"),
    ),
    divisor=tokens,
    room=shifted_down,
    torch=focal_in_torch,
    info=Bounds(),
    **{**OF_INDICES, "derivative_bound": focal_derivative_bound},
)

ROWS = [FOCAL]
