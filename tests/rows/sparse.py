"""Rows of the losses that read few of many classes."""

from typing import Any

import numpy as np
from helpers import Array, Options, Shape
from registry import Call, Row

from .softmax import IGNORE, OF_INDICES, Bounds, indices, tokens


def logits(rng: np.random.Generator, shape: Shape, options: Options) -> dict[str, Array]:
    """Rows whose supports have one class, several, or nearly all."""
    arrays = indices(rng, shape, options)
    size = np.array([3.0, 0.02, 0.5, 1.0, 0.003])[np.arange(np.prod(shape[:-1], dtype=int)) % 5]
    x = rng.standard_normal(shape) * size.reshape(*shape[:-1], 1)
    return {**arrays, "logits": np.where(np.isfinite(arrays["logits"]), x, arrays["logits"])}


@np.errstate(divide="ignore", invalid="ignore")  # of ignored rows, which are NaN
def room(c: Call, name: str) -> Array:
    """Rows in which no class is near the edge of the support."""
    x = np.moveaxis(np.asarray(c.first, np.float64), -1, 0)
    x = x - x.max(axis=0)
    tau = np.full(x.shape[1:], -1.0)
    for _ in range(100):
        tau = (np.where(x > tau, x, 0.0).sum(axis=0) - 1.0) / (x > tau).sum(axis=0)
    clear = (np.abs(x - tau) > 0.01).all(axis=0)
    return np.moveaxis(np.where(np.isfinite(x) & clear, 1.0, 0.0), 0, -1)


def in_torch(torch: Any, tensors: dict[str, Any], options: Options, reduction: str) -> Any:
    """Half the squared distance to the target, by bisection; the gradient follows from the loss."""
    if options or reduction != "none":
        return None
    z, y = tensors.values()
    low, high = z.amax(-1, keepdim=True) - 1.0, z.amax(-1, keepdim=True)
    with torch.no_grad():
        for _ in range(70):
            middle = (low + high) / 2
            is_low = (z - middle).clamp(min=0).sum(-1, keepdim=True) >= 1.0
            low, high = torch.where(is_low, middle, low), torch.where(is_low, high, middle)
        p = (z - low).clamp(min=0)
    own = z.gather(-1, y.unsqueeze(-1)).squeeze(-1)
    return torch.where(p > 0, p * (z - p / 2), 0.0).sum(-1) - own + 0.5


SPARSEMAX = Row(
    "sparsemax_loss",
    logits,
    gradients=("logits",),
    extras=(IGNORE,),
    divisor=tokens,
    room=room,
    torch=in_torch,
    info=Bounds(loss_ulps=0.51, loss_absolute=1e-13, grad=1.3e-7),
    **OF_INDICES,
)
ROWS = [SPARSEMAX]
