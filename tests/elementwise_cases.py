"""The table of the elementwise losses: one row for each, and how near its float64 reference it has to be.

A row says how to make inputs (over several scales, with ties at the kinks and targets at the edges of the
domain), which values each option takes, and the size of the terms that a result is the sum of. A `Call` is
one call made from a row, with the answer of `fastloss.reference` and how far from it a result may be.

The bound is ULPS units in the last place of the type computed in (float32 for half types), of the answer
itself, or of the terms whose difference it is: nothing computed from rounded terms can do better. What else
widens a bound is said in the row.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import numpy as np
from cases import Array, Shape, dtype_named, loss_dtype, ulp

import fastloss
from fastloss import reference

ULPS = {"float32": 4.0, "float64": 8.0}
SMALLEST_NORMAL = {"float32": 2.0**-126, "float64": 2.0**-1022}
EPSILON = {"float32": 2.0**-23, "float64": 2.0**-52}

Options = dict[str, Any]
Make = Callable[[np.random.Generator, Shape, Options], tuple[Array, ...]]


# The size of the terms


@dataclass(frozen=True)
class Arguments:
    """What a row's functions see: float64 arrays and options; `error` is the bound relative to a term."""

    x: Array
    t: Array
    third: Array | None
    options: Options
    error: float

    def __getitem__(self, name: str) -> Any:
        return self.options[name]

    def get(self, name: str, default: Any) -> Any:
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


def no_terms(a: Arguments) -> Terms:
    return Terms()


def no_jump(a: Arguments) -> Jump | None:
    return None


def plenty(x: Array, options: Options) -> Array:
    """The room of an input that may be anything."""
    return np.ones(x.shape)


def never(options: Options) -> tuple[float, ...]:
    return ()


@dataclass(frozen=True, eq=False)
class Row:
    """A loss.

    Attributes
    ----------
    name : str
        In `fastloss` and in `fastloss.reference`.
    make : callable
        Input, target (and the third argument) in float64, from a generator, a shape and the options.
    options : tuple of dict
        Sets of options to go through, the first being none. A value may be a function of a generator and a
        shape that makes an array.
    hessian : bool
        Whether there is return_hessian.
    by_weights : bool
        Whether "mean" divides by the sum of the weights. Otherwise it divides by the number of losses.
    input_name : str
        Of the first argument, as errors call it.
    third : str
        Name of a third argument, which has a gradient as well.
    bad_targets : callable
        Targets outside of the domain, from the options.
    terms, jump : callable
        See `Terms` and `Jump`.
    room : callable
        How far an input can be moved either way before the loss is another function.
    by_rows : bool
        Whether the last axis of the input is missing from the loss (and the weights are those of that axis).
    good_target : float
        A scalar target that every set of options allows.
    bad_options : tuple of (name, TypeError or ValueError, values)
        Values that must be refused.
    """

    name: str
    make: Make
    options: tuple[Options, ...] = ({},)
    hessian: bool = False
    by_weights: bool = True
    input_name: str = "input"
    third: str = ""
    bad_targets: Callable[[Options], tuple[float, ...]] = never
    terms: Callable[[Arguments], Terms] = no_terms
    jump: Callable[[Arguments], Jump | None] = no_jump
    room: Callable[[Array, Options], Array] = plenty
    by_rows: bool = False
    good_target: float = 1.0
    bad_options: tuple[tuple[str, type[Exception], tuple[Any, ...]], ...] = ()

    def loss_shape(self, shape: Shape) -> Shape:
        return shape[:-1] if self.by_rows else shape

    def weight_shape(self, shape: Shape) -> Shape:
        return shape[-1:] if self.by_rows else shape

    @property
    def weights(self) -> tuple[str | None, ...]:
        return (None, "array") if self.by_rows else (None, "array", "scalar")


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


def epsilon_terms(a: Arguments) -> Terms:
    return Terms(value=np.where(np.abs(a.r) > a.get("epsilon", 0.1), np.abs(a.r), 0.0))


def epsilon_jump(a: Arguments) -> Jump:
    epsilon = a.get("epsilon", 0.1)
    return Jump(np.abs(a.r) - epsilon, np.abs(a.r) + epsilon, first=1.0)


def huber_jump(a: Arguments) -> Jump:
    delta = a.get("delta", 1.0)
    return Jump(np.abs(a.r) - delta, np.abs(a.r) + delta, second=1.0)


def smooth_l1_jump(a: Arguments) -> Jump | None:
    beta = a.get("beta", 1.0)
    return None if beta == 0.0 else Jump(np.abs(a.r) - beta, np.abs(a.r) + beta, second=1.0 / beta)


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
    y = a.x + a.get("eps", 1e-8)
    log = np.where(a.t == 0.0, 0.0, np.abs(np.log(np.where(y == 0.0, 1.0, y))) + 1.0)
    ratio = np.where(a.t == 0.0, 0.0, a.t / np.where(y == 0.0, 1.0, y))
    return Terms(value=np.abs(a.x) + a.t * log + stirling_terms(a), first=1.0 + ratio)


def gamma_terms(a: Arguments) -> Terms:
    q = a.t * np.exp(-a.x)
    return Terms(value=np.abs(a.x) + q, first=1.0 + q)


def tweedie_terms(a: Arguments) -> Terms:
    """Two exponentials. In float64 their exponents, which are products, are rounded to their own size."""
    p = a.get("power", 1.5)
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
    v = np.maximum(a.third, a.get("eps", 1e-6))
    constant = 0.5 * np.log(2.0 * np.pi) if a.get("full", False) else 0.0
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
    pull_up = np.asarray(a.get("pos_weight", 1.0), np.float64) * (a.t + smoothing * (0.5 - a.t))
    pull_down = (1.0 - a.t) - smoothing * (0.5 - a.t)
    # The hessian is a product of five factors that have all been rounded.
    second = 1.5 * (pull_down + pull_up) * sigmoid(a.x) * sigmoid(-a.x)
    return Terms(first=pull_down * sigmoid(a.x) + pull_up * sigmoid(-a.x), second=second)


def focal_terms(a: Arguments) -> Terms:
    """In float64, u**gamma is exp(gamma log(u)), whose exponent is rounded to its own size (60 gamma).

    An error of u itself is multiplied by gamma as well.
    """
    alpha, gamma, p, n = a.get("alpha", 0.25), a.get("gamma", 2.0), sigmoid(a.x), sigmoid(-a.x)
    u = a.t * n + (1.0 - a.t) * p
    share = 1.0 if alpha is None or alpha < 0.0 else alpha * a.t + (1.0 - alpha) * (1.0 - a.t)
    ce = a.t * np.logaddexp(0.0, -a.x) + (1.0 - a.t) * np.logaddexp(0.0, a.x)
    factor = share * u**gamma * a.with_rounding(gamma + gamma * np.abs(np.log(u)))
    return Terms(value=factor * ce, first=factor * (u + gamma * np.abs(1.0 - 2.0 * a.t) * p * n / u * ce))


def hinge_terms(a: Arguments) -> Terms:
    margin = a.get("margin", 1.0)
    return Terms(value=np.where(margin - a.t * a.x > 0.0, abs(margin) + np.abs(a.x), 0.0))


def hinge_jump(a: Arguments) -> Jump:
    margin = a.get("margin", 1.0)
    return Jump(margin - a.t * a.x, abs(margin) + np.abs(a.x), first=1.0)


def squared_hinge_terms(a: Arguments) -> Terms:
    """An error e of z = margin - t x, which may be a small difference, makes one of 2 z e + e**2."""
    margin = a.get("margin", 1.0)
    z, size = np.maximum(0.0, margin - a.t * a.x), abs(margin) + np.abs(a.x)
    size = np.where(margin - a.t * a.x > -a.error * size, size, 0.0)
    return Terms(value=2.0 * z * size + a.error * size**2, first=2.0 * size)


def squared_hinge_jump(a: Arguments) -> Jump:
    """The slope of the gradient jumps, the gradient does not."""
    margin = a.get("margin", 1.0)
    return Jump(margin - a.t * a.x, abs(margin) + np.abs(a.x))


# Targets outside of the domain

INF = np.inf
NAN = np.nan


def outside_unit(options: Options) -> tuple[float, ...]:
    return (-0.125, 1.0078125, 2.0, INF, -INF)


def not_a_sign(options: Options) -> tuple[float, ...]:
    return (0.0, 0.5, -2.0, 2.0, INF, -INF)


def negative(options: Options) -> tuple[float, ...]:
    return (-1.0, -(2.0**-10), -INF)


def not_positive(options: Options) -> tuple[float, ...]:
    return (0.0, -0.0, -1.0, -INF)


def not_above_minus_one(options: Options) -> tuple[float, ...]:
    return (-1.0, -2.0, -INF)


def outside_tweedie(options: Options) -> tuple[float, ...]:
    power = options.get("power", 1.5)
    if power <= 0.0:
        return ()
    return negative(options) if power < 2.0 else not_positive(options)


# Values that are no numbers
NO_NUMBERS = (True, False, np.True_, "1", 1j, [1.0], np.ones(2))
NOT_FINITE = (NAN, INF, -INF)

MARGINS: tuple[Options, ...] = ({}, {"margin": 0.25}, {"margin": 0.3}, {"margin": 0.0}, {"margin": -2.0})
BAD_MARGINS = (("margin", TypeError, (*NO_NUMBERS, None)), ("margin", ValueError, NOT_FINITE))

ELEMENTWISE = [
    Row("mse_loss", residuals, hessian=True),
    Row("l1_loss", residuals, hessian=True),
    Row(
        "huber_loss",
        residuals,
        ({}, {"delta": 0.125}, {"delta": 0.3}, {"delta": 2}, {"delta": 1e4}),
        hessian=True,
        jump=huber_jump,
        bad_options=(
            ("delta", TypeError, (*NO_NUMBERS, None)),
            ("delta", ValueError, (0.0, 0, -1.0, *NOT_FINITE)),
        ),
    ),
    Row(
        "smooth_l1_loss",
        residuals,
        ({}, {"beta": 0.0}, {"beta": 0.125}, {"beta": 0.3}, {"beta": 2}, {"beta": 1e4}),
        hessian=True,
        jump=smooth_l1_jump,
        bad_options=(
            ("beta", TypeError, (*NO_NUMBERS, None)),
            ("beta", ValueError, (-0.1, -1, *NOT_FINITE)),
        ),
    ),
    Row("log_cosh_loss", residuals, hessian=True, terms=log_cosh_terms),
    Row(
        "quantile_loss",
        residuals,
        ({}, {"quantile": 0.25}, {"quantile": 0.1}, {"quantile": 0.99}, {"quantile": 1e-4}),
        hessian=True,
        bad_options=(
            ("quantile", TypeError, (*NO_NUMBERS, None)),
            ("quantile", ValueError, (0.0, 1.0, 0, 1, -0.1, 1.1, *NOT_FINITE)),
        ),
    ),
    Row(
        "epsilon_insensitive_loss",
        residuals,
        ({}, {"epsilon": 0.0}, {"epsilon": 0.125}, {"epsilon": 2}, {"epsilon": 1e4}),
        terms=epsilon_terms,
        jump=epsilon_jump,
        bad_options=(
            ("epsilon", TypeError, (*NO_NUMBERS, None)),
            ("epsilon", ValueError, (-0.1, -1, *NOT_FINITE)),
        ),
    ),
    Row(
        "mean_squared_log_loss",
        above_minus_one,
        terms=squared_log_terms,
        room=lambda x, options: 1.0 + x,
        bad_targets=not_above_minus_one,
    ),
    Row(
        "poisson_nll_loss",
        counts_and_rates,
        (
            {},
            {"full": True},
            {"log_input": False},
            {"log_input": False, "full": True},
            {"log_input": False, "eps": 0.0},
            {"log_input": False, "eps": 0.5},
        ),
        hessian=True,
        terms=poisson_terms,
        room=lambda x, o: np.ones(x.shape) if o.get("log_input", True) else x + o.get("eps", 1e-8),
        bad_targets=negative,
        bad_options=(
            ("eps", TypeError, (*NO_NUMBERS, None)),
            ("eps", ValueError, (-1e-8, *NOT_FINITE)),
            ("log_input", TypeError, (1, 0, None, "yes")),
            ("full", TypeError, (1, 0, None, "yes")),
        ),
    ),
    Row("gamma_nll_loss", log_means, hessian=True, terms=gamma_terms, bad_targets=not_positive),
    Row(
        "tweedie_nll_loss",
        tweedie,
        (
            {},
            {"power": 1},
            {"power": 1.1},
            {"power": 1.9},
            {"power": 2.0},
            {"power": 3},
            {"power": 2.2},
            {"power": 0},
            {"power": -1.5},
        ),
        hessian=True,
        terms=tweedie_terms,
        bad_targets=outside_tweedie,
        bad_options=(
            ("power", TypeError, (*NO_NUMBERS, None)),
            ("power", ValueError, (0.5, 1e-9, 1.0 - 1e-9, *NOT_FINITE)),
        ),
    ),
    Row(
        "gaussian_nll_loss",
        means_and_variances,
        ({}, {"full": True}, {"eps": 0.5}, {"eps": 1e-3, "full": True}),
        third="var",
        terms=gaussian_terms,
        bad_options=(
            ("eps", TypeError, (*NO_NUMBERS, None)),
            ("eps", ValueError, (-1e-8, *NOT_FINITE)),
            ("full", TypeError, (1, 0, None, "yes")),
        ),
    ),
    Row(
        "binary_cross_entropy",
        probabilities,
        by_weights=False,
        input_name="probs",
        room=lambda x, options: np.minimum(x, 1.0 - x),
        bad_targets=outside_unit,
    ),
    Row(
        "binary_cross_entropy_with_logits",
        logits_and_targets,
        (
            {},
            {"label_smoothing": 0.1},
            {"label_smoothing": 1.0},
            {"pos_weight": 3.5},
            {"pos_weight": 0.0},
            {"pos_weight": per_class, "label_smoothing": 1e-3},
            {"pos_weight": per_element},
        ),
        hessian=True,
        by_weights=False,
        input_name="logits",
        terms=logistic_terms,
        bad_targets=outside_unit,
        bad_options=(
            ("label_smoothing", TypeError, (*NO_NUMBERS, None)),
            ("label_smoothing", ValueError, (-0.1, 1.1, 2, *NOT_FINITE)),
            ("pos_weight", TypeError, ("text", np.ones(6, complex))),
            ("pos_weight", ValueError, (np.ones(5), np.ones((4, 1)), np.ones((1, 6)), np.ones((6, 4)))),
        ),
    ),
    Row(
        "sigmoid_focal_loss",
        logits_and_targets,
        (
            {},
            {"alpha": None},
            {"alpha": -1},
            {"alpha": 0.9, "gamma": 0.5},
            {"alpha": 0.0, "gamma": 1},
            {"alpha": 1.0, "gamma": 5.0},
            {"gamma": 0},
        ),
        by_weights=False,
        input_name="logits",
        terms=focal_terms,
        bad_targets=outside_unit,
        bad_options=(
            ("alpha", TypeError, NO_NUMBERS),
            ("alpha", ValueError, (1.1, 2, *NOT_FINITE)),
            ("gamma", TypeError, (*NO_NUMBERS, None)),
            ("gamma", ValueError, (-0.1, *NOT_FINITE)),
        ),
    ),
    Row(
        "hinge_loss",
        scores,
        MARGINS,
        input_name="scores",
        terms=hinge_terms,
        jump=hinge_jump,
        bad_targets=not_a_sign,
        bad_options=BAD_MARGINS,
    ),
    Row(
        "squared_hinge_loss",
        scores,
        MARGINS,
        input_name="scores",
        terms=squared_hinge_terms,
        jump=squared_hinge_jump,
        bad_targets=not_a_sign,
        bad_options=BAD_MARGINS,
    ),
    Row("soft_margin_loss", scores, hessian=True, input_name="scores", bad_targets=not_a_sign),
    Row(
        "multilabel_soft_margin_loss",
        logits_and_targets,
        by_weights=False,
        by_rows=True,
        input_name="logits",
        terms=logistic_terms,
        bad_targets=outside_unit,
    ),
]
NAMES = [row.name for row in ELEMENTWISE]
ROW = {row.name: row for row in ELEMENTWISE}


# Calls


def flat(result: Any) -> tuple[Any, list[Any]]:
    """The loss, and the arrays that come with it (those of a NamedTuple one by one)."""
    if not isinstance(result, tuple):
        return result, []
    loss, *others = result
    return loss, list(others[0]) if isinstance(others[0], tuple) else others


@dataclass(frozen=True, eq=False)
class Call:
    """One call: its arguments (which nobody can write to), and what it should answer."""

    row: Row
    dtype: str
    reduction: str
    x: Array
    target: Any
    third: Any = None
    options: Options = field(default_factory=dict)

    @property
    def arrays(self) -> tuple[Any, ...]:
        return (self.x, self.target) if self.third is None else (self.x, self.target, self.third)

    @property
    def forward_options(self) -> Options:
        return {name: value for name, value in self.options.items() if name != "grad_output"}

    def value(self, **more: Any) -> Any:
        """Run a call without gradient."""
        given = {"reduction": self.reduction, **self.forward_options, **more}
        return getattr(fastloss, self.row.name)(*self.arrays, **given)

    def run(self, **more: Any) -> tuple[Any, list[Any]]:
        """Run a call with gradient (and hessian)."""
        given = {"reduction": self.reduction, "return_grad": True, **self.options, **more}
        if self.row.hessian:
            given.setdefault("return_hessian", True)
        return flat(getattr(fastloss, self.row.name)(*self.arrays, **given))

    def moved(self, change: Callable[[Any], Any]) -> "Call":
        """The same call with every array changed in the way it lies in memory."""
        arrays = [change(a) if isinstance(a, np.ndarray) else a for a in (self.x, self.target, self.third)]
        options = {k: change(v) if isinstance(v, np.ndarray) else v for k, v in self.options.items()}
        return Call(self.row, self.dtype, self.reduction, *arrays, options)

    def out(self, first: Any, second: Any = None) -> Any:
        """A buffer as this loss wants it."""
        return (first, second) if self.row.third else first

    @cached_property
    def expected(self) -> tuple[Any, list[Array]]:
        function = getattr(reference, self.row.name)
        more = {"return_hessian": True} if self.row.hessian else {}
        given = {"reduction": self.reduction, "return_grad": True, **self.options, **more}
        return flat(function(*self.arrays, **given))

    @cached_property
    def expected_losses(self) -> Array:
        function = getattr(reference, self.row.name)
        return np.asarray(function(*self.arrays, **(self.forward_options | {"reduction": "none"})))

    @property
    def computed_in(self) -> str:
        return loss_dtype(self.dtype)

    @cached_property
    def weights(self) -> Array:
        weight = np.asarray(self.options.get("weight", 1.0), np.float64)
        return np.broadcast_to(weight, self.x.shape)

    @cached_property
    def denominator(self) -> float:
        """What the mean divides by; 1 for the other reductions."""
        if self.reduction != "mean":
            return 1.0
        return float(self.weights.sum() if self.row.by_weights else self.expected_losses.size)

    @cached_property
    def arguments(self) -> Arguments:
        x, t = np.asarray(self.x, np.float64), np.asarray(self.target, np.float64)
        third = None if self.third is None else np.broadcast_to(np.asarray(self.third, np.float64), x.shape)
        error = ULPS[self.computed_in] * EPSILON[self.computed_in]
        return Arguments(x, np.broadcast_to(t, x.shape), third, self.options, error)

    @cached_property
    def terms(self) -> Terms:
        with np.errstate(all="ignore"):
            return self.row.terms(self.arguments)

    def _tolerance(self, expected: Array, terms: Array | None, factor: Any, factors: float) -> Array:
        """The bound of ULPS, and a rounding more for each further factor.

        Half a unit in the last place of one number can be nearly a whole one of the product.
        """
        size = np.abs(expected)
        if terms is not None:
            size = np.maximum(size, np.abs(terms * factor))
        ulps = ULPS[self.computed_in] + factors
        return ulps * ulp(size, self.computed_in) + SMALLEST_NORMAL[self.computed_in]

    @cached_property
    def loss_tolerance(self) -> Array:
        """How far the loss may be off: nothing is lost in adding."""
        terms = None if self.row.by_rows else self.terms.value
        rows = self._tolerance(self.expected_losses, terms, self.weights, float("weight" in self.options))
        if self.reduction == "none":
            return rows
        total = rows.sum() + 1e-14 * np.abs(self.expected_losses).sum()
        return np.asarray(total / abs(self.denominator))

    @cached_property
    def derivative_tolerances(self) -> list[Array]:
        """How far gradient and hessian may be off, before they are rounded to a half type."""
        upstream = np.asarray(self.options.get("grad_output", 1.0), np.float64)
        if self.row.by_rows and upstream.ndim:
            upstream = upstream[..., np.newaxis]
        factor = self.weights * upstream / self.denominator
        if self.row.by_rows:
            factor = factor / self.x.shape[-1]
        # The weight, the upstream gradient, and the quotient of a mean (rounded, and multiplied with).
        factors = float("weight" in self.options) + ("grad_output" in self.options)
        factors += 2.0 * (self.reduction == "mean" or self.row.by_rows)
        jump = self.row.jump(self.arguments)
        tolerances = []
        for expected, terms, height in zip(
            self.expected[1],
            (self.terms.first, self.terms.second),
            (jump.first, jump.second) if jump else (0.0, 0.0),
            strict=False,
        ):
            if expected is None:
                continue
            tolerance = self._tolerance(expected, terms, factor, factors)
            if jump and height:
                close = np.abs(jump.distance) <= 2.0 * EPSILON[self.computed_in] * jump.size
                tolerance = tolerance + np.where(close & (jump.distance != 0.0), height * np.abs(factor), 0.0)
            tolerances.append(tolerance)
        return tolerances

    def check_loss(self, loss: Any) -> None:
        """Assert that a loss is of the right type and near enough."""
        if self.reduction == "none":
            assert isinstance(loss, np.ndarray), self.title
            assert loss.dtype == self.computed_in, self.title
            assert loss.shape == self.row.loss_shape(self.x.shape), self.title
        else:
            assert type(loss) is float, self.title
        kind = self.computed_in if self.reduction == "none" else "float64"
        assert_near(loss, self.expected[0], self.loss_tolerance, kind, self.title + " loss")

    def check_derivatives(self, derivatives: list[Any]) -> None:
        """Assert that gradient and hessian are of the right type and near enough."""
        assert len(derivatives) == len(self.expected[1]), self.title
        names = ("gradient", self.row.third or "hessian")
        assert [a is None for a in derivatives] == [e is None for e in self.expected[1]], self.title
        actuals, exacts = ([a for a in arrays if a is not None] for arrays in (derivatives, self.expected[1]))
        for actual, expected, tolerance, name in zip(
            actuals, exacts, self.derivative_tolerances, names, strict=False
        ):
            assert isinstance(actual, np.ndarray), self.title
            assert actual.dtype == dtype_named(self.dtype), self.title
            assert_near(actual, expected, tolerance, self.dtype, f"{self.title} {name}")

    def check(self, result: tuple[Any, list[Any]]) -> None:
        self.check_loss(result[0])
        self.check_derivatives(result[1])

    @property
    def title(self) -> str:
        given = {k: v if np.ndim(v) == 0 else f"array{np.shape(v)}" for k, v in self.options.items()}
        return f"{self.row.name} {self.dtype} {self.x.shape} {self.reduction} {given}:"


def bounds(expected: Array, tolerance: Array, dtype: str) -> tuple[Array, Array]:
    """The least and the largest number of a type that are within a tolerance.

    For half types these are rounded to them, and so is what was computed: rounding keeps the order.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = expected - tolerance, expected + tolerance
        if dtype == "float64":
            return low, high
        if dtype == "float32":
            largest = float(np.finfo(np.float32).max)
            return np.where(low < -largest, -INF, low), np.where(high > largest, INF, high)
        kind = dtype_named(dtype)
        return low.astype(kind).astype(np.float64), high.astype(kind).astype(np.float64)


def assert_near(value: Any, expected: Any, tolerance: Any, dtype: str, title: str) -> None:
    """Assert that a result is within the tolerance (NaN only where it is expected; may overflow the type)."""
    actual, expected = np.asarray(value, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    assert actual.shape == expected.shape, f"{title} {actual.shape}, not {expected.shape}"
    low, high = bounds(expected, np.asarray(tolerance), dtype)
    good = (actual >= low) & (actual <= high)
    good |= (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    if good.all():
        return
    where = np.unravel_index(int(np.argmin(good)), good.shape)
    raise AssertionError(
        f"{title} {int((~good).sum())} of {good.size} out of bounds, first at {tuple(map(int, where))}: "
        f"{actual[where]!r}, expected {expected[where]!r} "
        f"within {np.broadcast_to(tolerance, good.shape)[where]:.3g}"
    )


def rounded(values: Any, dtype: str) -> Array:
    """In a type, and nobody can write to it."""
    array = np.asarray(values).astype(dtype_named(dtype))
    array.flags.writeable = False
    return array


@cache
def call(
    row: Row,
    shape: Shape,
    dtype: str = "float32",
    reduction: str = "mean",
    options: int = 0,
    weight: str | None = None,
    grad_output: str | None = None,
    seed: int = 0,
) -> Call:
    """Make a call of a loss; the same arguments give the same object, so its answer is kept.

    All arrays hold numbers of the type, so that nobody's conversion is part of the comparison.
    """
    rng = np.random.default_rng(seed)
    arrays = [rounded(a, dtype) for a in row.make(rng, shape, row.options[options])]
    given = {
        name: rounded(value(rng, shape), dtype) if callable(value) else value
        for name, value in row.options[options].items()
    }
    if weight == "scalar":
        given["weight"] = 2.5
    elif weight == "array":
        size = row.weight_shape(shape)
        some = rng.uniform(0.2, 3.0, size)
        # Some weigh nothing (but not all).
        given["weight"] = rounded(sometimes(rng, 0.15 if some.size > 10 else 0.0, 0.0, some), dtype)
    if grad_output == "scalar":
        given["grad_output"] = -2.5
    elif grad_output == "array":
        size = row.loss_shape(shape)
        given["grad_output"] = rounded(rng.uniform(0.5, 2.0, size) * rng.choice([-1.0, 1.0], size), dtype)
    if np.prod(shape, dtype=int) > 100:
        # Real spread: neither a constant input nor a single target says anything.
        for array in arrays:
            assert np.ptp(array.astype(np.float64)) >= 1.0
    return Call(row, dtype, reduction, *arrays, options=given)
