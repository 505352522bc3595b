"""Rows of the losses of distributions, and of several quantiles at once."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from helpers import INF, NAN, Array, Options, Shape, bad, loss_dtype, smallest_normal, ulp
from registry import Call, Option, Row

from . import elementwise
from .elementwise import WEIGHTS, counts, reduced, residuals, sometimes, tolerance, weights_of

# Several quantiles: of a shape (..., Q) the targets have (...).


def predictions(rng: np.random.Generator, shape: Shape, options: Options) -> dict[str, Array]:
    """Predictions above and below the target, and equal to it."""
    x, t = residuals(rng, shape, options)
    return {"input": t[..., :1] + (x - t) * (rng.random(shape) < 0.9), "target": t[..., 0]}


def levels(rng: np.random.Generator, shape: Shape) -> Array:
    """In no order, with both ends, the middle and what is near an end."""
    return rng.choice([0.0, 1.0, 0.5, 1e-4, 0.9998, 0.1, 0.7, *elementwise.STEPS[1:5]], shape[-1])


def row_weights(rng: np.random.Generator, arguments: dict[str, Array]) -> Array:
    t = arguments["target"]
    return np.where(rng.random(t.shape) < 0.2, 0.0, rng.uniform(0.2, 3.0, t.shape))


def element_weights(rng: np.random.Generator, arguments: dict[str, Array]) -> Array:
    return rng.uniform(0.2, 3.0, arguments["input"].shape)


def quantile_weights(c: Call) -> Array:
    weight = np.asarray(c.options.get("weight", 1.0), np.float64)
    return np.broadcast_to(weight[..., np.newaxis] if weight.shape == c.shape[:-1] else weight, c.shape)


def quantile_derivative_bound(c: Call, name: str) -> Array:
    size = np.abs(c.expected[1][c.row.derivatives.index(name)])
    summed = 1e-14 * size if c.reduction == "mean" else 0.0  # the weights of the denominator
    return np.asarray(tolerance(c, size, factors=4.0) + summed)


def quantile_room(c: Call, name: str) -> Array:
    distance = np.abs(c.first - np.asarray(c["target"])[..., np.newaxis])
    return np.where(distance > 0.01, np.minimum(distance, 1.0), 0.0)


OF_LEVELS: dict[str, Any] = {
    "gradients": ("input",),
    "derivative_bound": quantile_derivative_bound,
    "sizes": ((1,), (7,), (1000,), (41, 61), (100, 1), (3, 600), (300, 7)),
    "large": ((300, 1003), (50_000, 7)),
    "empty": ((0, 3), (3, 0, 2)),
    "room": quantile_room,
}
BAD = (
    *bad("quantile", ValueError, [0.5], [0.1] * 5, [0.1, -0.1], [0.1, NAN], [], [[0.5]], 1.5),
    *bad("quantile", TypeError, ["a"], np.ones(6, complex)),
)
QUANTILES = Row(
    "quantile_loss",
    predictions,
    sets=({"quantile": levels},),
    extras=(
        Option("weight", row_weights),
        Option("weight", element_weights, "element_weight", instead_of="weight"),
    ),
    hessian=True,
    bound=lambda c: reduced(c, tolerance(c, c.expected_losses, factors=1.0)),
    divisor=lambda c: float(quantile_weights(c).sum()),
    bad=BAD,
    label="quantiles",
    **OF_LEVELS,
)


# The score of a row: the sum of the quantile losses, each times twice its weight.


def forecasts(rng: np.random.Generator, shape: Shape, options: Options) -> dict[str, Array]:
    """Of quantiles in order, with both ends."""
    levels = np.sort(rng.random(shape[-1]))
    if shape[-1] > 2:
        levels[0], levels[-1] = 0.0, 1.0
    return {**predictions(rng, shape, options), "quantile": levels}


def quantile_shares(rng: np.random.Generator, arguments: dict[str, Array]) -> Array:
    return rng.uniform(0.0, 2.0, arguments["input"].shape[-1])


CRPS = Row(
    "crps_loss",
    forecasts,
    shared=("quantile",),
    loss_axes=1,
    extras=(Option("sample_weight", row_weights), Option("quantile_weight", quantile_shares)),
    # Of a sum of terms of one sign (for weights of one sign).
    bound=lambda c: reduced(c, tolerance(c, c.expected_losses, factors=2.0)),
    divisor=lambda c: float(
        np.broadcast_to(c.options.get("sample_weight", 1.0), c.loss_shape).sum(dtype=float)
    ),
    bad=(
        *BAD,
        *bad("quantile_weight", ValueError, [1.0], [[1.0]], 1.0),
        *bad("quantile_weight", TypeError, ["a"]),
    ),
    **OF_LEVELS,
)


# Distributions: a parameter has the shape of the input. Scalars are in test_distributions.py.

# Everything is computed in float64: this is its error relative to the largest term.
ROUNDING = 3e-14
Sizes = Callable[[Call, str], Array]


def counts_and_dispersions(rng: np.random.Generator, shape: Shape, options: Options) -> dict[str, Array]:
    """Counts near their means and far off, and dispersions near 0 and large."""
    t = np.minimum(counts(rng, shape), 250.0)
    x = sometimes(rng, 0.5, np.log(np.maximum(t, 0.25)), rng.uniform(-6.0, 5.0, shape))
    return {"input": x, "target": t, "dispersion": 10.0 ** rng.uniform(-4.0, 2.0, shape)}


def sizes_of_negative_binomial(c: Call, name: str) -> Array:
    """The size of the terms of the loss, or of a derivative."""
    x, t, a = (np.asarray(c[k], np.float64) for k in ("input", "target", "dispersion"))
    m = np.exp(x)
    if name == "input":
        return np.asarray((m + t) / (1.0 + a * m))
    if name == "dispersion":
        return np.asarray(m * m / (1.0 + a * m) + t * (1.0 + m) / (1.0 + a * m) + t * t / (1.0 + a * t) + 1.0)
    return np.asarray(1.0 + m / (1.0 + a * m) + t * (1.0 + np.log1p(t) + np.abs(x) + np.abs(np.log1p(a * m))))


def errors_and_scales(rng: np.random.Generator, shape: Shape, options: Options) -> dict[str, Array]:
    """Errors of one scale and far off, and degrees of freedom from few to nearly the normal distribution."""
    scale, t = 10.0 ** rng.uniform(-2.0, 2.0, shape), 3.0 * rng.standard_normal(shape)
    z = sometimes(rng, 0.3, 10.0 ** rng.uniform(-4.0, 2.0, shape), rng.standard_normal(shape))
    x = t + scale * sometimes(rng, 0.1, 0.0, z)
    return {"input": x, "target": t, "scale": scale, "df": 10.0 ** rng.uniform(-1.0, 4.0, shape)}


def sizes_of_student_t(c: Call, name: str) -> Array:
    x, t, s, n = (np.asarray(c[k], np.float64) for k in ("input", "target", "scale", "df"))
    z = np.abs(x - t) / s
    q = z * z / n
    if name == "input":
        return np.asarray((1.0 + 1.0 / n) * z / (1.0 + q) / s)
    if name == "scale":
        return np.asarray((1.0 + z * z) / (1.0 + q) / s)
    if name == "df":
        return np.asarray(np.minimum(q, np.log1p(q) + 1.0) + 1.0 / n + (n < 20.0))
    return np.asarray(1.0 + 0.5 * (n + 1.0) * np.log1p(q) + np.abs(np.log(s)) + np.abs(np.log(n)))


def distribution_bound(c: Call, sizes: Sizes) -> Array:
    kind, error = loss_dtype(c.dtype), ROUNDING * sizes(c, "") * np.abs(weights_of(c))
    if c.reduction == "none":
        return np.asarray(2.0 * ulp(c.expected_losses, kind) + error + smallest_normal(kind))
    return reduced(c, error)


def distribution_derivative_bound(c: Call, name: str, sizes: Sizes) -> Array:
    kind, exact = loss_dtype(c.dtype), np.abs(c.expected[1][c.row.derivatives.index(name)])
    upstream = np.asarray(c.options.get("grad_output", 1.0), np.float64)
    factor = np.abs(weights_of(c) * upstream / (c.denominator or NAN))
    # Weights and upstream gradients are of the type of the losses.
    more = 2.0 * ulp(exact, kind) if factor.ndim or "grad_output" in c.options else 0.0
    return np.asarray(ulp(exact, kind) + more + ROUNDING * sizes(c, name) * factor + smallest_normal(kind))


def student_t_in_torch(torch: Any, tensors: dict[str, Any], options: Options, reduction: str) -> Any:
    x, t, s, n = tensors.values()
    constant = 0.0 if options.get("full") else 0.5 * np.log(np.pi)
    losses = -torch.distributions.StudentT(n, x, s).log_prob(t) - constant
    weight = options.get("weight", torch.ones(()))
    losses = losses * weight
    if reduction == "mean":
        return losses.sum() / torch.as_tensor(weight).expand(losses.shape).sum()
    return losses if reduction == "none" else losses.sum()


def distribution_room(c: Call, name: str) -> Array:
    """Derivatives change over the distance of a scale, and a parameter has to stay positive."""
    of = "scale" if name == "input" and "scale" in c.arguments else name
    return np.full(c.shape, 0.25) if of == "input" else 0.25 * np.minimum(np.asarray(c[of]), 1.0)


def distribution(name: str, make: Any, parameters: tuple[str, ...], sizes: Sizes, **more: Any) -> Row:
    return Row(
        name,
        make,
        gradients=("input", *parameters),
        sets=({}, {"full": True}),
        extras=WEIGHTS,
        bound=partial(distribution_bound, sizes=sizes),
        derivative_bound=partial(distribution_derivative_bound, sizes=sizes),
        divisor=elementwise.divisor,
        sizes=((1,), (7,), (1000,), (41, 61)),
        room=distribution_room,
        info=elementwise.Elementwise(),
        bad=tuple(elementwise.no_bool("full")),
        **more,
    )


NOT_POSITIVE = (0.0, -1.0, -(2.0**-20), -INF)
ROWS = [
    QUANTILES,
    CRPS,
    distribution(
        "negative_binomial_nll_loss",
        counts_and_dispersions,
        ("dispersion",),
        sizes_of_negative_binomial,
        checked=lambda options: {"target": (-1.0, -(2.0**-20), -INF), "dispersion": NOT_POSITIVE},
    ),
    distribution(
        "student_t_nll_loss",
        errors_and_scales,
        ("scale", "df"),
        sizes_of_student_t,
        checked=lambda options: {"scale": NOT_POSITIVE, "df": NOT_POSITIVE},
        torch=student_t_in_torch,
    ),
]
