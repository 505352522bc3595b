"""Rows of the losses of survival times. That of Cox's is for test_survival.py alone, not in `ROWS`."""

import math

import numpy as np
from helpers import Array, Options, Shape, bad, bad_numbers, largest, rounded, unit_roundoff
from registry import Call, Option, Row

from .elementwise import of_each

# Of sums in float64, beside their largest terms.
ROUNDING = 2e-13


def times(rng: np.random.Generator, shape: Shape, options: Options) -> dict[str, Array]:
    """Ties and distinct times, and hazards of several scales, those of the last times far smaller."""
    rows = math.prod(shape)
    time = np.where(rng.random(rows) < 0.5, rng.integers(0, 5, rows), rng.exponential(3.0, rows))
    x = rng.standard_normal(rows) * rng.choice([0.5, 1.0, 20.0], rows)
    if rows > 10:
        x -= np.where(time > 3.0, 1200.0, 0.0) * (rows % 2)
    return {"log_hazard": x, "time": time, "event": rng.random(rows) < 0.6}


def weights_of(c: Call) -> Array:
    rows = np.broadcast_to(np.asarray(c.options.get("weight", 1.0), np.float64), np.shape(c["event"]))
    return np.asarray(rows[np.asarray(c["event"], bool)])


def bound(c: Call) -> Array:
    exact = np.abs(np.asarray(c.expected[0]))
    rounding = unit_roundoff(c.dtype) if c.reduction == "none" else 0.0
    return np.asarray(rounding * exact + ROUNDING * (largest(exact) + largest(weights_of(c))))


def derivative_bound(c: Call, name: str) -> Array:
    """Beside the weight of an event: p (1 - p) is a difference where a risk set has one row that counts."""
    exact = np.abs(c.expected[1][("log_hazard", "hessian").index(name)])
    term = largest(weights_of(c)) * largest(c.upstream) / (c.denominator or 1.0)
    return np.asarray(unit_roundoff(c.dtype) * exact + ROUNDING * (largest(exact) + term))


def weights(rng: np.random.Generator, arguments: dict[str, Array]) -> Array:
    rows = len(arguments["event"])
    return np.asarray(rng.uniform(0.5, 2.0, rows) * (rng.random(rows) < 0.8))


COX = Row(
    "cox_ph_loss",
    times,
    gradients=("log_hazard",),
    sets=({}, {"ties": "efron"}),
    extras=(
        Option("weight", weights),
        Option("strata", lambda rng, arguments: rng.integers(-2, 2, len(arguments["event"]))),
    ),
    hessian=True,
    bound=bound,
    derivative_bound=derivative_bound,
    divisor=lambda c: float(weights_of(c).sum()),
    shapes=((12,), (41,)),
    sizes=((1,), (2,), (7,), (1000,), (2100,)),
    large=((70_000,),),
    empty=((0,),),
    local=False,
    integers=("event",),
    bad=(
        *bad("ties", ValueError, "exact", "", None, 1, ["efron"]),
        *bad("time", ValueError, *(np.arange(n) for n in (5, 7, 0)), np.ones((6, 1)), 1.0),
        *bad("time", ValueError, [1.0, 2.0, -1.0, 0.0, 1.0, 2.0], [0, 1, 2, 3, 4, math.nan], -np.ones(6)),
        *bad("time", ValueError, np.array([2**60, 1, 2, 3, -4, 5]), [[1.0], [2.0, 3.0]]),
        *bad("time", TypeError, "text", np.ones(6, complex), [None] * 6, np.zeros(6, "M8[s]")),
        *bad("event", ValueError, *(np.full(6, v) for v in (2, 0.5, math.nan)), np.ones((6, 1)), True),
        *bad("event", TypeError, "text", np.ones(6, complex), [None] * 6),
        *bad("weight", ValueError, np.ones(5), np.ones((6, 1)), -np.ones(6), -1.0, math.nan, math.inf, []),
        *bad("weight", TypeError, "text", np.ones(6, complex)),
        *bad("strata", TypeError, np.ones(6), "text", [None] * 6),
        *bad("strata", ValueError, np.ones(5, int), np.ones((6, 1), int), 1),
        *bad("log_hazard", ValueError, np.ones((6, 1)), np.ones((1, 6)), 1.0, [[1.0], [2.0, 3.0]]),
        *bad("log_hazard", TypeError, "text", np.ones(6, complex), [None] * 6),
        *bad("return_hessian", TypeError, 1, None, "yes"),
        *bad("grad_output", ValueError, np.ones(5), np.ones((6, 1)), reduction="none"),
        *bad("grad_output", ValueError, np.ones(6), reduction="mean"),
        *bad("out", ValueError, np.ones(5, "f4"), np.ones((6, 1), "f4")),
        *bad("out", TypeError, np.ones(6), [0.0] * 6),
    ),
)


def intervals(rng: np.random.Generator, shape: Shape, options: Options) -> dict[str, Array]:
    """Exact times, intervals, and times that are open on either side; derivatives that need not be held."""
    lower = np.exp(rng.standard_normal(shape))
    upper = lower * (1.0 + rng.exponential(1.0, shape))
    kind = rng.integers(0, 4, shape)
    return {
        "input": np.log(lower) + rng.uniform(-1.2, 2.0, shape),
        "lower": np.where(kind == 2, 0.0, lower),
        "upper": np.where(kind == 0, lower, np.where(kind == 1, math.inf, upper)),
    }


def aft_bound(c: Call) -> Array:
    """The probability of an interval is a difference, whose error is not relative to it."""
    exact, weight = np.abs(np.asarray(c.expected[0])), np.asarray(c.options.get("weight", 1.0), np.float64)
    losses = np.divide(np.abs(c.expected_losses), weight, out=np.zeros(c.shape), where=weight > 0.0)
    cancelled = 4e-16 * weight * np.exp(np.minimum(losses, 28.0))  # the least probability is 1e-12
    if c.reduction != "none":
        return np.asarray(1e-12 * exact + 1e-12 + np.nansum(cancelled) / (c.denominator or 1.0))
    return np.asarray((unit_roundoff(c.dtype) + 1e-12) * exact + 1e-12 + cancelled)


def aft_derivative_bound(c: Call, name: str) -> Array:
    """As differences of distribution functions have rounded, over the probability of the interval."""
    exact, first = np.abs(c.expected[1][("input", "hessian").index(name)]), np.abs(c.expected[1][0])
    weight = np.asarray(c.options.get("weight", 1.0), np.float64)
    factor = np.broadcast_to(np.abs(weight * c.upstream / (c.denominator or 1.0)), first.shape)
    losses = np.divide(np.abs(c.expected_losses), weight, out=np.zeros(c.shape), where=weight > 0.0)
    slope = np.divide(first, factor, out=np.zeros(first.shape), where=factor > 0.0)
    cancelled = 4e-16 * np.exp(np.minimum(losses, 28.0)) * (1.0 + slope) ** 2
    return np.asarray(1.01 * unit_roundoff(c.dtype) * exact + (1e-11 + cancelled) * factor)


def aft_weights(rng: np.random.Generator, arguments: dict[str, Array]) -> Array:
    x = arguments["input"]
    return rounded(rng.uniform(0.5, 2.0, x.shape) * (rng.random(x.shape) < 0.8), x.dtype.name)


AFT = Row(
    "aft_loss",
    intervals,
    gradients=("input",),
    sets=(
        *of_each("distribution", "logistic", "extreme"),
        {"distribution": "extreme", "scale": 0.7},
        {"scale": 1.6},
    ),
    extras=(Option("weight", aft_weights),),
    hessian=True,
    bound=aft_bound,
    derivative_bound=aft_derivative_bound,
    divisor=lambda c: float(np.sum(np.broadcast_to(c.options.get("weight", 1.0), c.shape), dtype=np.float64)),
    local=False,
    quotients=(1e-6, 5e-8),
    bad=(
        *bad("distribution", ValueError, "gumbel", "", None, 1, ["normal"]),
        *bad_numbers("scale", 0.0, -1.0),
        *bad("lower", ValueError, -1.0, -np.ones((4, 6)), math.nan, np.full((4, 6), math.nan), upper=9.0),
        *bad("lower", ValueError, 10.0, np.full((4, 6), 10.0), upper=9.0),
        *bad("upper", ValueError, math.nan, np.full((4, 6), math.nan), lower=0.0),
    ),
)
ROWS = [AFT]
