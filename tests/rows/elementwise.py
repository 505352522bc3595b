"""Rows of the elementwise losses, of the penalties and of kl_div, and how near they have to be.

Inputs are made over several scales, with ties at the kinks and targets at the edges of the domain. The bound
is ULPS units in the last place of the type computed in (float32 for half types), of the answer itself, or of
the terms whose difference it is: nothing computed from rounded terms can do better. What else widens a bound
is said beside the row.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
from helpers import (
    INF,
    Array,
    Bad,
    Options,
    Shape,
    bad,
    bad_numbers,
    loss_dtype,
    rounded,
    smallest_normal,
    ulp,
)
from registry import STEP, Call, Option, Row

ULPS = {"float32": 4.0, "float64": 8.0}
EPSILON = {"float32": 2.0**-23, "float64": 2.0**-52}


# The size of the terms


@dataclass(frozen=True)
class Arguments:
    """What a row's functions see: float64 arrays and all options; `error` is the bound relative to a term."""

    x: Array
    t: Array
    third: Array | None
    options: Options
    error: float

    def __getitem__(self, name: str) -> Any:
        return self.options[name]

    def get(self, name: str, default: Any) -> Any:
        """An option that not every row with these terms has."""
        return self.options.get(name, default)

    @property
    def r(self) -> Array:
        return self.x - self.t

    def with_rounding(self, amount: Array) -> Array | float:
        """One, and what rounding inside of an exponential adds where there is no wider type to do it in."""
        return 1.0 + amount if self.error < 1e-12 else 1.0


@dataclass(frozen=True)
class Terms:
    """Sizes of the terms of value, first and second result (gradient; hessian or gradient of var).

    None where a result is no difference, and has to be right to its own last places.
    """

    value: Array | None = None
    first: Array | None = None
    second: Array | None = None


@dataclass(frozen=True)
class Jump:
    """Where a derivative jumps: how far the elements are from it, measured in what size, and how high it is.

    An element that is nearer than rounding, but not on it, may be on either side.
    """

    distance: Array
    size: Array
    first: float = 0.0
    second: float = 0.0


def bend(a: Arguments, at: float, **heights: float) -> Jump:
    """Where input and target are apart by `at`."""
    return Jump(np.abs(a.r) - at, np.abs(a.r) + at, **heights)


def at_margin(a: Arguments, **heights: float) -> Jump:
    """Where a score reaches the margin."""
    return Jump(a["margin"] - a.t * a.x, abs(a["margin"]) + np.abs(a.x), **heights)


@dataclass(frozen=True)
class Elementwise:
    """What an elementwise row knows besides.

    Attributes
    ----------
    terms, jump : callable
        See `Terms` and `Jump`.
    room : callable
        How far an input can be moved either way before the loss is another function.
    by_weights : bool
        Whether "mean" divides by the sum of the weights. Otherwise it divides by the number of losses.
    bad_targets : callable
        Targets outside of the domain, from the options.
    good_target : float
        A scalar target that every set of options allows.
    """

    terms: Callable[[Arguments], Terms] = lambda a: Terms()
    jump: Callable[[Arguments], Jump | None] = lambda a: None
    room: Callable[[Array, Options], Array] = lambda x, options: np.ones(x.shape)
    by_weights: bool = True
    bad_targets: Callable[[Options], tuple[float, ...]] = lambda options: ()
    good_target: float = 1.0


@lru_cache(maxsize=4096)
def arguments_of(c: Call) -> Arguments:
    x, *others = (np.asarray(a, np.float64) for a in c.arguments.values())
    t, third = (np.broadcast_to(a, x.shape) for a in (*others, x)[:2])
    error = ULPS[loss_dtype(c.dtype)] * EPSILON[loss_dtype(c.dtype)]
    defaults = {name: parameter.default for name, parameter in c.row.parameters.items()}
    return Arguments(x, t, third if len(others) > 1 else None, {**defaults, **c.options}, error)


@lru_cache(maxsize=4096)
def terms_of(c: Call) -> Terms:
    with np.errstate(all="ignore"):
        return c.row.info.terms(arguments_of(c))


def weights_of(c: Call) -> Array:
    return np.broadcast_to(np.asarray(c.options.get("weight", 1.0), np.float64), c.shape)


def divisor(c: Call) -> float:
    return float(weights_of(c).sum() if c.row.info.by_weights else c.expected_losses.size)


def tolerance(
    c: Call, expected: Array, terms: Array | None = None, factor: Any = 1.0, factors: float = 0.0
) -> Array:
    """The bound of ULPS, and a rounding more for each further factor.

    Half a unit in the last place of one number can be nearly a whole one of the product.
    """
    size, kind = np.abs(expected), loss_dtype(c.dtype)
    if terms is not None:
        size = np.maximum(size, np.abs(terms * factor))
    # What underflows may be multiplied by the factor.
    return (ULPS[kind] + factors) * ulp(size, kind) + smallest_normal(kind) * np.maximum(1.0, np.abs(factor))


def reduced(c: Call, rows: Array) -> Array:
    """The bound of a loss from those of its elements: nothing is lost in adding."""
    if c.reduction == "none":
        return np.asarray(rows)
    total = rows.sum() + 1e-14 * np.abs(c.expected_losses).sum()
    return np.asarray(total / (abs(c.denominator) or np.nan))


def bound(c: Call) -> Array:
    """How far the loss may be off."""
    terms, factor = (None, 1.0) if c.row.loss_axes else (terms_of(c).value, weights_of(c))
    return reduced(c, tolerance(c, c.expected_losses, terms, factor, float("weight" in c.options)))


def derivative_bound(c: Call, name: str) -> Array:
    position = c.row.derivatives.index(name)
    terms = (terms_of(c).first, terms_of(c).second)[position]
    upstream = np.asarray(c.options.get("grad_output", 1.0), np.float64)
    if c.row.loss_axes and upstream.ndim:
        upstream = upstream[..., np.newaxis]
    factor = weights_of(c) * upstream / (c.denominator or np.nan)
    if c.row.loss_axes:
        factor = factor / c.shape[-1]
    # The weight, the upstream gradient, and the quotient of a mean (rounded, and multiplied with).
    factors = float("weight" in c.options) + ("grad_output" in c.options)
    factors += 2.0 * (c.reduction == "mean" or c.row.loss_axes > 0)
    found = tolerance(c, c.expected[1][position], terms, factor, factors)
    jump = c.row.info.jump(arguments_of(c))
    height = (jump.first, jump.second)[position] if jump else 0.0
    if jump and height:
        close = np.abs(jump.distance) <= 2.0 * EPSILON[loss_dtype(c.dtype)] * jump.size
        found = found + np.where(close & (jump.distance != 0.0), height * np.abs(factor), 0.0)
    return found


def room(c: Call, name: str) -> Array:
    """Where a step leads neither over a kink nor to where the gradient is not that of the value."""
    a = arguments_of(c)
    if name == "var":
        # Where the variance is held at eps, the gradient is that of a variance of eps.
        free = a.third - a["eps"]
        return np.where(free > 1e-3 * a.third, np.minimum(1.0, free), 0.0)
    where, jump = np.ones(c.shape, bool), c.row.info.jump(a)
    if jump:
        where &= np.abs(jump.distance) > 3.0 * STEP
    if c.row.name in ("l1_loss", "quantile_loss") or c.options.get("beta") == 0.0:
        where &= np.abs(a.r) > 3.0 * STEP
    if c.row.name == "binary_cross_entropy":
        where &= np.minimum(a.x, 1.0 - a.x) > 1e-7
    return np.where(where, c.row.info.room(a.x, c.options), 0.0)


# Inputs. Every array mixes several kinds of elements, each far enough apart to be in every vector.


def spread(rng: np.random.Generator, shape: Shape) -> Array:
    """Of both signs: numbers near 1, and from 1e-5 to 1e3."""
    near = 2.0 * rng.standard_normal(shape)
    wide = rng.choice([-1.0, 1.0], shape) * 10.0 ** rng.uniform(-5.0, 3.0, shape)
    return np.where(rng.random(shape) < 0.7, near, wide)


def sometimes(rng: np.random.Generator, share: float, some: Any, others: Array) -> Array:
    """The first in that share of the elements, the others elsewhere."""
    return np.where(rng.random(others.shape) < share, some, others)


# Multiples of 1/8 below 16: differences of them are exact in every type, and so are ties with dyadic options.
STEPS = np.array([0.0, 0.125, 0.25, 0.5, 0.75, 1.0, 2.0, 10.0])


def residuals(rng: np.random.Generator, shape: Shape, options: Options) -> tuple[Array, Array]:
    """Input and target apart by little and much, equal, and apart by exactly an option."""
    t = spread(rng, shape)
    x = t + spread(rng, shape)
    exact = rng.random(shape) < 0.4
    t = np.where(exact, rng.integers(-5, 6, shape), t)
    x = np.where(exact, t + rng.choice([-1.0, 1.0], shape) * rng.choice(STEPS, shape), x)
    return x, t


def above_minus_one(rng: np.random.Generator, shape: Shape, options: Options) -> tuple[Array, Array]:
    x, t = np.expm1(2.0 * rng.standard_normal((2, *shape)))
    edges = np.array([-1.0 + 2.0**-8, -1.0 + 2.0**-3, -0.5, 0.0, 2.0**-10, -(2.0**-10), 100.0])
    x = sometimes(rng, 0.2, rng.choice(edges, shape), np.maximum(x, -0.98))
    t = sometimes(rng, 0.2, rng.choice(edges, shape), np.maximum(t, -0.98))
    return sometimes(rng, 0.15, t, x), t


def counts(rng: np.random.Generator, shape: Shape) -> Array:
    """Zeros, ones, counts and fractions."""
    t = np.asarray(rng.poisson(10.0 ** rng.uniform(-1.0, 2.0, shape)), np.float64)
    return sometimes(rng, 0.3, rng.uniform(0.0, 3.0, shape), t)


def counts_and_rates(rng: np.random.Generator, shape: Shape, options: Options) -> tuple[Array, Array]:
    t = counts(rng, shape)
    near = np.maximum(t, 0.25) * (1.0 + 0.05 * rng.standard_normal(shape))
    if options.get("log_input", True):
        x = sometimes(rng, 0.3, np.log(near), rng.uniform(-6.0, 5.0, shape))
        return sometimes(rng, 0.1, 0.0, x), t
    x = sometimes(rng, 0.3, near, 10.0 ** rng.uniform(-4.0, 3.0, shape))
    x = sometimes(rng, 0.1, t, x)
    return np.where((x == 0.0) & (options.get("eps", 1e-8) == 0.0), 1.0, x), t


def log_means(rng: np.random.Generator, shape: Shape, options: Options) -> tuple[Array, Array]:
    """Positive targets, and logarithms of means near them and far off."""
    t = 10.0 ** rng.uniform(-3.0, 2.0, shape)
    x = sometimes(rng, 0.3, np.log(t) + 0.05 * rng.standard_normal(shape), rng.uniform(-4.0, 4.0, shape))
    return sometimes(rng, 0.1, 0.0, x), t


def tweedie(rng: np.random.Generator, shape: Shape, options: Options) -> tuple[Array, Array]:
    x, t = log_means(rng, shape, options)
    power = options.get("power", 1.5)
    if power <= 0.0:
        t = t * rng.choice([-1.0, 0.0, 1.0], shape)
    elif power < 2.0:
        t = sometimes(rng, 0.3, 0.0, t)
    return 0.75 * x, t


def means_and_variances(
    rng: np.random.Generator, shape: Shape, options: Options
) -> tuple[Array, Array, Array]:
    x, t = residuals(rng, shape, options)
    var = 10.0 ** rng.uniform(-3.0, 3.0, shape)
    # With r**2 near var, where the gradient of the variance cancels, and below eps.
    var = sometimes(rng, 0.3, np.clip((x - t) ** 2, 1e-3, 1e3), var)
    return x, t, sometimes(rng, 0.1, rng.choice([0.0, 2.0**-20, 1.0], shape), var)


def soft_targets(rng: np.random.Generator, shape: Shape) -> Array:
    """0, 1, what is between, and what is nearly 1 (exact in all types)."""
    hard = rng.integers(0, 2, shape).astype(np.float64)
    soft = sometimes(rng, 0.2, rng.choice([0.5, 2.0**-12, 1.0 - 2.0**-7], shape), rng.random(shape))
    return sometimes(rng, 0.4, soft, hard)


def probabilities(rng: np.random.Generator, shape: Shape, options: Options) -> tuple[Array, Array]:
    t = soft_targets(rng, shape)
    p = 1.0 / (1.0 + np.exp(-4.0 * rng.standard_normal(shape)))
    p = sometimes(rng, 0.15, rng.choice([0.0, 1.0, 0.5, 1e-6, 1.0 - 2.0**-8], shape), p)
    return sometimes(rng, 0.1, t, p), t


def logits_and_targets(rng: np.random.Generator, shape: Shape, options: Options) -> tuple[Array, Array]:
    x = 3.0 * rng.standard_normal(shape)
    x = sometimes(rng, 0.2, rng.choice([0.0, 1e-4, -1e-3, 30.0, -30.0, 12.0, -60.0], shape), x)
    return x, soft_targets(rng, shape)


def scores(rng: np.random.Generator, shape: Shape, options: Options) -> tuple[Array, Array]:
    """Scores on both sides, and on the margin exactly; targets -1 and 1."""
    x = sometimes(rng, 0.4, rng.choice([*STEPS, *-STEPS, 30.0, -30.0], shape), 1.5 * spread(rng, shape))
    return x, rng.choice([-1.0, 1.0], shape)


# Options that are arrays


def positive(shape_of: Callable[[Shape], Shape]) -> Callable[[np.random.Generator, Shape], Array]:
    return lambda rng, shape: rng.uniform(0.2, 4.0, shape_of(shape))


per_class = positive(lambda shape: shape[-1:])
per_element = positive(lambda shape: shape)


# Terms and jumps


def log_cosh_terms(a: Arguments) -> Terms:
    """The second derivative falls as exp(-2 r): rounding r itself changes it by an ulp times r.

    The value is a logarithm (2.5 ulp) of m**2 / (2 exp(-r)), m = exp(-r) - 1: its error counts twice near 0.
    """
    value, first = np.log1p(2.0 * np.sinh(np.minimum(np.abs(a.r), 300.0) / 2.0) ** 2), np.tanh(a.r)
    return Terms(value=2.0 * value, first=1.5 * first, second=(1.0 + np.abs(a.r)) / np.cosh(a.r) ** 2)


def squared_log_terms(a: Arguments) -> Terms:
    """d is as exact as the two logarithms, and an error e of d makes one of 2 d e + e**2."""
    logs = np.abs(np.log1p(a.x)) + np.abs(np.log1p(a.t))
    d = np.abs(np.log1p(a.x) - np.log1p(a.t))
    return Terms(value=2.0 * d * logs + a.error * logs**2, first=2.0 * (d + logs) / (1.0 + a.x))


def stirling_terms(a: Arguments) -> Array | float:
    if not a.get("full", False):
        return 0.0
    t = np.maximum(a.t, 1.0)
    return np.where(a.t > 1.0, t * np.log(t) + t + 0.5 * np.log(2.0 * np.pi * t), 0.0)


def poisson_terms(a: Arguments) -> Terms:
    """exp(x) and t x; or x, t log(y) and t, as rounding y = x + eps moves the logarithm by an ulp of 1."""
    if a.get("log_input", True):
        e = np.exp(a.x)
        return Terms(value=e + np.abs(a.t * a.x) + stirling_terms(a), first=e + a.t)
    y = a.x + a["eps"]
    log = np.where(a.t == 0.0, 0.0, np.abs(np.log(np.where(y == 0.0, 1.0, y))) + 1.0)
    ratio = np.where(a.t == 0.0, 0.0, a.t / np.where(y == 0.0, 1.0, y))
    return Terms(value=np.abs(a.x) + a.t * log + stirling_terms(a), first=1.0 + ratio)


def gamma_terms(a: Arguments) -> Terms:
    q = a.t * np.exp(-a.x)
    return Terms(value=np.abs(a.x) + q, first=1.0 + q)


def tweedie_terms(a: Arguments) -> Terms:
    """Two exponentials. In float64 their exponents, which are products, are rounded to their own size."""
    p = a["power"]
    if p in (1.0, 2.0):
        return poisson_terms(a) if p == 1.0 else gamma_terms(a)
    first = np.exp((2.0 - p) * a.x) * a.with_rounding(np.abs((2.0 - p) * a.x))
    second = np.abs(a.t) * np.exp((1.0 - p) * a.x) * a.with_rounding(np.abs((1.0 - p) * a.x))
    return Terms(
        value=first / abs(2.0 - p) + second / abs(1.0 - p),
        first=first + second,
        second=abs(2.0 - p) * first + abs(1.0 - p) * second,
    )


def gaussian_terms(a: Arguments) -> Terms:
    assert a.third is not None
    v = np.maximum(a.third, a["eps"])
    constant = 0.5 * np.log(2.0 * np.pi) if a["full"] else 0.0
    # eps is rounded to the type, and moves the logarithm by an ulp of 1, its square by two.
    is_eps = a.third < v
    log = np.abs(np.log(v)) + is_eps
    second = 0.5 * (1.0 / v + (1.0 + 0.25 * is_eps) * (a.r / v) ** 2)
    return Terms(value=0.5 * (log + a.r**2 / v) + constant, second=second)


def sigmoid(x: Array) -> Array:
    return np.where(x >= 0.0, 1.0, np.exp(-np.abs(x))) / (1.0 + np.exp(-np.abs(x)))


def logistic_terms(a: Arguments) -> Terms:
    """The gradient is what pulls to one side less what pulls to the other (0 for hard targets)."""
    smoothing = a.get("label_smoothing", 0.0)
    weight = a.get("pos_weight", None)
    pull_up = np.asarray(1.0 if weight is None else weight, np.float64) * (a.t + smoothing * (0.5 - a.t))
    pull_down = (1.0 - a.t) - smoothing * (0.5 - a.t)
    # The hessian is a product of five factors that have all been rounded.
    second = 1.5 * (pull_down + pull_up) * sigmoid(a.x) * sigmoid(-a.x)
    return Terms(first=pull_down * sigmoid(a.x) + pull_up * sigmoid(-a.x), second=second)


def focal_terms(a: Arguments) -> Terms:
    """In float64, u**gamma is exp(gamma log(u)), whose exponent is rounded to its own size (60 gamma).

    An error of u itself is multiplied by gamma as well.
    """
    alpha, gamma, p, n = a["alpha"], a["gamma"], sigmoid(a.x), sigmoid(-a.x)
    u = a.t * n + (1.0 - a.t) * p
    share = 1.0 if alpha is None or alpha < 0.0 else alpha * a.t + (1.0 - alpha) * (1.0 - a.t)
    ce = a.t * np.logaddexp(0.0, -a.x) + (1.0 - a.t) * np.logaddexp(0.0, a.x)
    factor = share * u**gamma * a.with_rounding(gamma + gamma * np.abs(np.log(u)))
    return Terms(value=factor * ce, first=factor * (u + gamma * np.abs(1.0 - 2.0 * a.t) * p * n / u * ce))


def squared_hinge_terms(a: Arguments) -> Terms:
    """An error e of z = margin - t x, which may be a small difference, makes one of 2 z e + e**2."""
    short = at_margin(a)
    size = np.where(short.distance > -a.error * short.size, short.size, 0.0)
    return Terms(value=2.0 * np.maximum(0.0, short.distance) * size + a.error * size**2, first=2.0 * size)


# Targets outside of the domain


def always(*values: float) -> Callable[[Options], tuple[float, ...]]:
    return lambda options: values


outside_unit = always(-0.125, 1.0078125, 2.0, INF, -INF)
not_a_sign = always(0.0, 0.5, -2.0, 2.0, INF, -INF)
negative = always(-1.0, -(2.0**-10), -INF)
not_positive = always(0.0, -0.0, -1.0, -INF)


def outside_tweedie(options: Options) -> tuple[float, ...]:
    power = options.get("power", 1.5)
    if power <= 0.0:
        return ()
    return negative(options) if power < 2.0 else not_positive(options)


# What goes with the arguments


def weights(rng: np.random.Generator, a: dict[str, Array], axes: slice = slice(None)) -> Array:
    """Some weigh nothing (but not all)."""
    x, *_ = a.values()
    some = rng.uniform(0.2, 3.0, x.shape[axes])
    return rounded(sometimes(rng, 0.15 if some.size > 10 else 0.0, 0.0, some), x.dtype.name)


WEIGHTS = (Option("weight", weights), Option("weight", lambda rng, a: 2.5, "scalar weight"))
CLASS_WEIGHTS = (Option("weight", partial(weights, axes=slice(-1, None))),)


# PyTorch


def in_torch(torch: Any, tensors: dict[str, Any], options: Options, reduction: str, name: str) -> Any:
    """The function of this name, with the options of ours that it has."""
    if "weight" in options and (np.ndim(options["weight"]) == 0 or reduction not in IN_TORCH.get(name, ())):
        return None
    tensors, given = dict(tensors), dict(options)
    if "label_smoothing" in given:
        smoothing = given.pop("label_smoothing")
        tensors["target"] = tensors["target"] * (1.0 - smoothing) + 0.5 * smoothing
    if isinstance(given.get("pos_weight"), float):
        given["pos_weight"] = torch.tensor(given["pos_weight"], dtype=torch.float64)
    return getattr(torch.nn.functional, name)(*tensors.values(), reduction=reduction, **given)


# Which of torch's take a weight, and whether the weighted mean is ours: torch's mean of huber_loss is divided
# by the number of elements.
EVERY = ("sum", "mean", "none")
IN_TORCH: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("mse_loss", "l1_loss", "multi_margin_loss", "multilabel_soft_margin_loss"), EVERY),
    **dict.fromkeys(("binary_cross_entropy", "binary_cross_entropy_with_logits"), EVERY),
    "huber_loss": ("sum", "none"),
    **dict.fromkeys(("smooth_l1_loss", "poisson_nll_loss", "gaussian_nll_loss", "soft_margin_loss"), ()),
}


def elementwise(
    name: str,
    make: Callable[..., tuple[Array, ...]],
    sets: tuple[Options, ...] = ({},),
    *,
    hessian: bool = False,
    input_name: str = "input",
    third: str = "",
    by_rows: bool = False,
    bad: Iterable[Bad] = (),
    checks: dict[str, tuple[float, ...]] | None = None,
    **info: Any,
) -> Row:
    """The row of an elementwise loss; `by_rows` where the last axis of the input is missing from the loss."""
    names = (input_name, "target", *([third] if third else []))
    own = Elementwise(**info)

    def checked(options: Options) -> dict[str, tuple[float, ...]]:
        return {**({"target": t} if (t := own.bad_targets(options)) else {}), **(checks or {})}

    return Row(
        name,
        lambda rng, shape, options: dict(zip(names, make(rng, shape, options), strict=True)),
        gradients=(input_name, *names[2:]),
        loss_axes=int(by_rows),
        sets=sets,
        extras=CLASS_WEIGHTS if by_rows else WEIGHTS,
        hessian=hessian,
        bound=bound,
        derivative_bound=derivative_bound,
        divisor=divisor,
        room=room,
        empty=((0, 2), (0, 3), (3, 0, 2)) if by_rows else ((0,), (0, 3), (3, 0, 2)),
        # Whether a variance without axes is a scalar cannot be told where the input has none either.
        sizes=((1,), (7,), (1000,), (41, 61)) if by_rows or third else ((), (1,), (7,), (1000,), (41, 61)),
        bad=tuple(bad),
        checked=checked,
        torch=partial(in_torch, name=name) if name in IN_TORCH else None,
        info=own,
    )


def of_each(name: str, *values: Any) -> tuple[Options, ...]:
    """No option, and each value of one."""
    return ({}, *({name: value} for value in values))


def numbers(name: str, *values: Any) -> list[Bad]:
    """As `bad_numbers`, where None is no number either."""
    return [*bad_numbers(name, *values), *bad(name, TypeError, None)]


def no_bool(name: str) -> list[Bad]:
    return bad(name, TypeError, 1, 0, None, "yes")


# Families

of_residuals = partial(elementwise, make=residuals, hessian=True)
of_logits = partial(
    elementwise, make=logits_and_targets, by_weights=False, input_name="logits", bad_targets=outside_unit
)
of_signs = partial(elementwise, make=scores, bad_targets=not_a_sign)
with_margin = partial(
    of_signs, sets=of_each("margin", 0.25, 0.3, 0.0, -2.0), bad=numbers("margin"), input_name="scores"
)
RATES = {"log_input": False}

ELEMENTWISE = [
    of_residuals("mse_loss"),
    of_residuals("l1_loss"),
    of_residuals(
        "huber_loss",
        sets=of_each("delta", 0.125, 0.3, 2, 1e4),
        jump=lambda a: bend(a, a["delta"], second=1.0),
        bad=numbers("delta", 0.0, 0, -1.0),
    ),
    of_residuals(
        "smooth_l1_loss",
        sets=of_each("beta", 0.0, 0.125, 0.3, 2, 1e4),
        jump=lambda a: bend(a, a["beta"], second=1.0 / a["beta"]) if a["beta"] else None,
        bad=numbers("beta", -0.1, -1),
    ),
    of_residuals("log_cosh_loss", terms=log_cosh_terms),
    of_residuals(
        "quantile_loss",
        sets=of_each("quantile", 0.25, 0.1, 0.99, 1e-4),
        bad=(
            *bad("quantile", ValueError, 0.0, 1.0, 0, 1, -0.1, 1.1, INF, np.nan, [1.0], np.ones(2), []),
            *bad("quantile", TypeError, True, np.True_, "1", 1j, None, ["a"], np.ones(6, complex)),
        ),
    ),
    of_residuals(
        "epsilon_insensitive_loss",
        sets=of_each("epsilon", 0.0, 0.125, 2, 1e4),
        hessian=False,
        terms=lambda a: Terms(value=np.where(np.abs(a.r) > a["epsilon"], np.abs(a.r), 0.0)),
        jump=lambda a: bend(a, a["epsilon"], first=1.0),
        bad=numbers("epsilon", -0.1, -1),
    ),
    elementwise(
        "mean_squared_log_loss",
        above_minus_one,
        terms=squared_log_terms,
        room=lambda x, options: 1.0 + x,
        bad_targets=always(-1.0, -2.0, -INF),
    ),
    elementwise(
        "poisson_nll_loss",
        counts_and_rates,
        ({}, {"full": True}, RATES, {**RATES, "full": True}, {**RATES, "eps": 0.0}, {**RATES, "eps": 0.5}),
        hessian=True,
        terms=poisson_terms,
        room=lambda x, o: np.ones(x.shape) if o.get("log_input", True) else x + o.get("eps", 1e-8),
        bad_targets=negative,
        bad=(*numbers("eps", -1e-8), *no_bool("log_input"), *no_bool("full")),
    ),
    elementwise("gamma_nll_loss", log_means, hessian=True, terms=gamma_terms, bad_targets=not_positive),
    elementwise(
        "tweedie_nll_loss",
        tweedie,
        of_each("power", 1, 1.1, 1.9, 2.0, 3, 2.2, 0, -1.5),
        hessian=True,
        terms=tweedie_terms,
        bad_targets=outside_tweedie,
        bad=numbers("power", 0.5, 1e-9, 1.0 - 1e-9),
    ),
    elementwise(
        "gaussian_nll_loss",
        means_and_variances,
        ({}, {"full": True}, {"eps": 0.5}, {"eps": 1e-3, "full": True}),
        third="var",
        checks={"var": (-1.0, -(2.0**-20), -INF)},
        terms=gaussian_terms,
        bad=(*numbers("eps", -1e-8), *no_bool("full")),
    ),
    elementwise(
        "binary_cross_entropy",
        probabilities,
        by_weights=False,
        input_name="probs",
        checks={"probs": (-0.125, 1.0078125, 1.5, INF, -INF)},
        room=lambda x, options: np.minimum(x, 1.0 - x),
        bad_targets=outside_unit,
    ),
    of_logits(
        "binary_cross_entropy_with_logits",
        sets=(
            *of_each("label_smoothing", 0.1, 1.0),
            {"pos_weight": 3.5},
            {"pos_weight": 0.0},
            {"pos_weight": per_class, "label_smoothing": 1e-3},
            {"pos_weight": per_element},
        ),
        hessian=True,
        terms=logistic_terms,
        bad=(
            *numbers("label_smoothing", -0.1, 1.1, 2),
            *bad("pos_weight", TypeError, "text", np.ones(6, complex)),
            *bad("pos_weight", ValueError, *(np.ones(shape) for shape in (5, (4, 1), (1, 6), (6, 4)))),
        ),
    ),
    of_logits(
        "sigmoid_focal_loss",
        sets=(
            *of_each("alpha", None, -1),
            {"alpha": 0.9, "gamma": 0.5},
            {"alpha": 0.0, "gamma": 1},
            {"alpha": 1.0, "gamma": 5.0},
            {"gamma": 0},
        ),
        terms=focal_terms,
        bad=(*bad_numbers("alpha", 1.1, 2), *numbers("gamma", -0.1)),
    ),
    with_margin(
        "hinge_loss",
        terms=lambda a: Terms(value=np.where(at_margin(a).distance > 0.0, at_margin(a).size, 0.0)),
        jump=partial(at_margin, first=1.0),
    ),
    # The slope of the gradient jumps, the gradient does not.
    with_margin("squared_hinge_loss", terms=squared_hinge_terms, jump=at_margin),
    with_margin(
        "hinge_embedding_loss",
        input_name="input",
        terms=lambda a: Terms(value=np.where(a.t < 0.0, at_margin(a).size, 0.0)),
        jump=lambda a: Jump(np.where(a.t < 0.0, a["margin"] - a.x, INF), at_margin(a).size, first=1.0),
    ),
    of_signs(
        "soft_margin_loss",
        hessian=True,
        input_name="scores",
        # As of logistic_terms.
        terms=lambda a: Terms(second=1.5 * a.t**2 * sigmoid(a.x * a.t) * sigmoid(-a.x * a.t)),
    ),
    of_logits("multilabel_soft_margin_loss", by_rows=True, terms=logistic_terms),
]


# Penalties


def params(rng: np.random.Generator, shape: Shape, options: Options) -> dict[str, Array]:
    w = rng.standard_normal(shape) * 10.0 ** rng.uniform(-4.0, 2.0, shape)
    return {"params": np.where(rng.random(shape) < 0.2, 0.0, w)}


def strengths(c: Call) -> tuple[float, float]:
    of_one = c.get("strength", 0.0)
    l1 = c.get("l1", of_one if c.row.name == "l1_penalty" else 0.0)
    return float(l1), float(c.get("l2", of_one if c.row.name == "l2_penalty" else 0.0))


def penalty_derivative_bound(c: Call, name: str) -> Array:
    l1, l2 = strengths(c)
    return tolerance(c, (l1 + l2 * np.abs(np.asarray(c.first, np.float64))) * c.upstream / c.denominator)


def penalty(name: str, *names: str, sets: tuple[tuple[Any, ...], ...]) -> Row:
    return Row(
        name,
        params,
        gradients=("params",),
        # Strengths have no default; those of a set come after the row's own.
        fixed=dict(zip(names, sets[0], strict=True)),
        sets=tuple(dict(zip(names, values, strict=True)) for values in sets),
        bound=lambda c: reduced(c, tolerance(c, c.expected_losses)),
        derivative_bound=penalty_derivative_bound,
        room=lambda c, name: np.where(np.abs(c.first) > 3.0 * STEP, 1.0, 0.0),
        bad=tuple(b for n in names for b in numbers(n, -1e-3)),
    )


ONE = ((0.3,), (0.0,), (1,), (1e-4,), (np.float32(2.5),))
TWO = ((0.3, 0.7), (0.0, 0.0), (1, 2), (0.3, 0.0), (0.0, 0.7), (1e-4, 0.3))
PENALTIES = [
    penalty("l1_penalty", "strength", sets=ONE),
    penalty("l2_penalty", "strength", sets=ONE),
    penalty("elastic_net_penalty", "l1", "l2", sets=TWO),
]


# kl_div


def log_probs_and_probs(rng: np.random.Generator, shape: Shape, options: Options) -> dict[str, Array]:
    """Log-probabilities, and targets with zeros (and numbers above 1, which are no probabilities) in them."""
    x = -4.0 * rng.exponential(size=shape)
    t = np.asarray(rng.uniform(0.0, 1.0, shape) ** 2)
    t = np.where(rng.random(shape) < 0.2, 0.0, np.where(rng.random(shape) < 0.05, 2.5, t))
    # Where nothing is expected, nothing is asked of the input.
    x = np.where((t == 0.0) & (rng.random(shape) < 0.5), -INF, x)
    if options.get("log_target", False):
        with np.errstate(divide="ignore"):
            t = np.log(t)
    return {"input": np.asarray(x), "target": t}


def kl_div_bound(c: Call) -> Array:
    size = np.abs(c.expected_losses)
    rows = 1e-13 * np.maximum(size, 1.0) if c.dtype == "float64" else np.maximum(1e-6, 2e-6 * size)
    return np.asarray(rows if c.reduction == "none" else rows.sum() / c.denominator)


def kl_div_in_torch(torch: Any, tensors: dict[str, Any], options: Options, reduction: str) -> Any:
    """With a small logarithm for that of 0, of which torch makes NaN."""
    finite = {name: torch.nan_to_num(x, neginf=-60.0) for name, x in tensors.items()}
    return in_torch(torch, finite, options, reduction, "kl_div")


def kl_div_divisor(c: Call) -> float:
    return float(max(c.shape[0] if c.reduction == "batchmean" else math.prod(c.shape), 1))


KL_DIV = Row(
    "kl_div",
    log_probs_and_probs,
    gradients=("input",),
    reductions=("mean", "sum", "none", "batchmean"),
    bound=kl_div_bound,
    derivative_bound=lambda c, name: (
        (1e-13 if c.dtype == "float64" else 1e-6) * np.abs(c.expected[1][0]) + smallest_normal(c.dtype)
    ),
    divisor=kl_div_divisor,
    shapes=((3, 4, 9), (3, 2, 50)),
    sizes=((1,), (7,), (3, 5), (4, 1), (2, 3, 40), (1001,), (3, 30_000)),
    large=((3, 100_000),),
    empty=((0,), (0, 5), (3, 0), (5, 0)),
    room=lambda c, name: np.isfinite(c.first).astype(float),
    bad=tuple(bad("log_target", TypeError, 1, 0, None, "yes", [True])),
    torch=kl_div_in_torch,
)
KL_DIVS = [
    KL_DIV,
    replace(
        KL_DIV,
        fixed={"log_target": True},
        torch=lambda torch, tensors, options, reduction: kl_div_in_torch(
            torch, tensors, {**options, "log_target": True}, reduction
        ),
    ),
]

ROW = {row.name: row for row in ELEMENTWISE}
