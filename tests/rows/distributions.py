"""Rows of the losses of distributions, and of several quantiles at once."""

import numpy as np
from helpers import NAN, Array, Options, Shape, bad, loss_dtype, smallest_normal, ulp
from registry import Call, Option, Row

from .elementwise import STEPS, residuals

ULPS = {"float32": 4.0, "float64": 8.0}


# Several quantiles: of a shape (..., Q) the targets have (...).


def predictions(rng: np.random.Generator, shape: Shape, options: Options) -> dict[str, Array]:
    """Predictions above and below the target, and equal to it."""
    x, t = residuals(rng, shape, options)
    return {"input": t[..., :1] + (x - t) * (rng.random(shape) < 0.9), "target": t[..., 0]}


def levels(rng: np.random.Generator, shape: Shape) -> Array:
    """In no order, with both ends, the middle and what is near an end."""
    return rng.choice([0.0, 1.0, 0.5, 1e-4, 0.9998, 0.1, 0.7, *STEPS[1:5]], shape[-1])


def row_weights(rng: np.random.Generator, arguments: dict[str, Array]) -> Array:
    t = arguments["target"]
    return np.where(rng.random(t.shape) < 0.2, 0.0, rng.uniform(0.2, 3.0, t.shape))


def element_weights(rng: np.random.Generator, arguments: dict[str, Array]) -> Array:
    return rng.uniform(0.2, 3.0, arguments["input"].shape)


def quantile_weights(c: Call) -> Array:
    weight = np.asarray(c.options.get("weight", 1.0), np.float64)
    return np.broadcast_to(weight[..., np.newaxis] if weight.shape == c.shape[:-1] else weight, c.shape)


def quantile_bound(c: Call) -> Array:
    kind = loss_dtype(c.dtype)
    rows = (ULPS[kind] + 1.0) * ulp(c.expected_losses, kind) + smallest_normal(kind)
    if c.reduction == "none":
        return np.asarray(rows)
    return np.asarray((rows.sum() + 1e-14 * c.expected_losses.sum()) / (c.denominator or NAN))


def quantile_derivative_bound(c: Call, name: str) -> Array:
    kind = loss_dtype(c.dtype)
    size = np.abs(c.expected[1][c.row.derivatives.index(name)])
    return np.asarray((ULPS[kind] + 4.0) * ulp(size, kind) + smallest_normal(kind))


def quantile_room(c: Call, name: str) -> Array:
    distance = np.abs(c.first - np.asarray(c["target"])[..., np.newaxis])
    return np.where(distance > 0.01, np.minimum(distance, 1.0), 0.0)


QUANTILES = Row(
    "quantile_loss",
    predictions,
    gradients=("input",),
    sets=({"quantile": levels},),
    extras=(
        Option("weight", row_weights),
        Option("weight", element_weights, "element_weight", instead_of="weight"),
    ),
    hessian=True,
    bound=quantile_bound,
    derivative_bound=quantile_derivative_bound,
    divisor=lambda c: float(quantile_weights(c).sum()),
    sizes=((1,), (7,), (1000,), (41, 61), (100, 1), (3, 600), (300, 7)),
    large=((300, 1003), (50_000, 7)),
    empty=((0, 3), (3, 0, 2)),
    room=quantile_room,
    bad=(
        *bad("quantile", ValueError, [0.5], [0.1] * 5, [0.1, -0.1], [0.1, NAN], [], [[0.5]], 1.5),
        *bad("quantile", TypeError, ["a"], np.ones(6, complex)),
    ),
    label="quantiles",
)
ROWS = [QUANTILES]
