"""Rows of the losses of classes, of the transforms, of perplexity, and of tokens and sequences."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from helpers import (
    EITHER,
    INF,
    NAN,
    Array,
    Options,
    Shape,
    bad,
    largest,
    loss_dtype,
    rounded,
    smallest_normal,
    ulp,
)
from registry import Call, Option, Row, every_one_with_every_other

from fastloss import reference

from .elementwise import in_torch, numbers


@dataclass(frozen=True)
class Bounds:
    """How far from the float64 reference: what the README promises.

    A loss may be `loss_ulps` units in the last place of float32 off, or `loss_absolute` where it is
    near 0; a gradient `grad` of the largest of its row. `exact` is for float64, in both places, and
    `hessian` of the larger of the largest second derivative and the largest gradient of the row: with a
    softcap the gradient is one of its terms.

    Where a gradient is the difference of two numbers that both carry a rounding error of their own (p - q for
    probabilities or smoothing: neither is small near the optimum, where the difference is), no way of
    computing it can do better than the size of these. `small_difference` is that size for each row. A class
    index without smoothing is not such a case: there it is p and minus the sum of the other p.
    """

    loss_ulps: float = 2.0
    loss_absolute: float = 1e-6
    grad: float = 4e-7
    exact: float = 1e-14
    exact_hessian: float = 1e-13
    small_difference: Callable[[Call], Array] = lambda c: np.zeros(c.shape[:-1])


def bound(c: Call) -> Array:
    """How far the loss may be off. Row errors add up, and nothing is lost in adding rows."""
    limits, size = c.row.info, np.abs(c.expected_losses)
    if c.dtype == "float64":
        rows = limits.exact * np.maximum(size, 1.0)
    else:
        rows = np.maximum(limits.loss_ulps * ulp(size, "float32"), limits.loss_absolute)
    if c.reduction == "none":
        return np.asarray(rows)
    return np.asarray(rows.sum() / (c.denominator or NAN))


def gradient_scale(c: Call) -> Array:
    """What the error of a gradient is relative to: the largest of its row."""
    most = np.abs(c.expected[1][0]).max(axis=-1, keepdims=True)
    return np.maximum(most, c.row.info.small_difference(c)[..., np.newaxis])


def derivative_bound(c: Call, name: str) -> Array:
    """Below the smallest normal number there are no relative errors in any type."""
    limits, wide = c.row.info, c.dtype == "float64"
    if name == "hessian":
        both = np.maximum(*(np.abs(a) for a in c.expected[1]))
        scale = np.broadcast_to(both.max(axis=-1, keepdims=True), both.shape)
        return (limits.exact_hessian if wide else limits.grad) * scale + smallest_normal(c.dtype)
    return (limits.exact if wide else limits.grad) * gradient_scale(c) + smallest_normal(c.dtype)


# Inputs


def indices(
    rng: np.random.Generator, shape: Shape, options: Options, has_probabilities: bool = False
) -> dict[str, Array]:
    """Rows of four kinds in turn.

    Two are narrow, with any class as the target; one is wide, so that most of its probabilities are
    nearly 0; one is shifted by 1e4. Where the target is an index, the last two are rows that the
    model gets wrong, so that losses reach far and gradients do not vanish. (Rows that it gets right
    beyond doubt have tests of their own, in test_gradients.py.)
    """
    classes = shape[-1]
    x = np.clip(1.2 * rng.standard_normal(shape), -2.5, 2.5).reshape(-1, classes)
    x += rng.uniform(-3.0, 3.0, (len(x), 1))
    x[2::4] *= 6.0
    x[3::4] += 1e4
    if has_probabilities:
        # Far from even, with zeros among them, and one row that is certain.
        q = rng.exponential(size=x.shape) ** 2
        q[q < 0.02] = 0.0
        q[:, 0] += 0.01
        q /= q.sum(axis=-1, keepdims=True)
        q[:1] = np.arange(classes) == classes - 1
        return {"logits": x.reshape(shape), "target": q.reshape(shape)}
    y = rng.integers(0, classes, len(x))
    y[:1], y[1:2] = classes - 1, 0
    y[2::4] = x[2::4].argmin(axis=-1)
    y[3::4] = x[3::4].argmin(axis=-1)
    return {"logits": x.reshape(shape), "target": y.reshape(shape[:-1])}


def log_probs(rng: np.random.Generator, shape: Shape, options: Options) -> dict[str, Array]:
    """Log-probabilities of such logits (a single class, where all are 0, keeps its scores)."""
    x, y = indices(rng, shape, options).values()
    return {"log_probs": x - 10.0 if shape[-1] == 1 else reference.log_softmax(x), "target": y}


def scores(rng: np.random.Generator, shape: Shape, options: Options) -> dict[str, Array]:
    """Scores with ties at the margin, and classes."""
    x = 2.0 * rng.standard_normal(shape)
    x = np.where(rng.random(shape) < 0.3, rng.integers(-4, 5, shape) * 0.5, x)
    return {"scores": x, "target": np.asarray(rng.integers(0, shape[-1], shape[:-1]))}


def logits_alone(
    rng: np.random.Generator, shape: Shape, options: Options, name: str = "logits"
) -> dict[str, Array]:
    return {name: indices(rng, shape, options)["logits"]}


# What goes with them


def first_of(a: dict[str, Array]) -> Array:
    return next(iter(a.values()))


def class_weights(rng: np.random.Generator, a: dict[str, Array]) -> Array:
    return rng.uniform(0.2, 3.0, first_of(a).shape[-1])


def row_weights(rng: np.random.Generator, a: dict[str, Array]) -> Array:
    return rng.uniform(0.1, 2.0, first_of(a).shape[:-1])


def ignore_rows(rng: np.random.Generator, a: dict[str, Array]) -> int:
    """Ignore every third row, whose values nobody may look at."""
    x = first_of(a)
    a["target"].reshape(-1)[1::3] = -7
    x.reshape(-1, x.shape[-1])[1::3] = np.nan
    return -7


def leave_out(rng: np.random.Generator, a: dict[str, Array], counts: Array) -> None:
    """Where a token does not count there is NaN, and any integer."""
    x, target = a["logits"], a["target"]
    x[~counts], target[~counts] = NAN, rng.choice([-100, -1, x.shape[-1], 2**40], np.sum(~counts))


def token_mask(rng: np.random.Generator, a: dict[str, Array]) -> Array:
    counts = np.asarray(rng.random(a["target"].shape) < 0.6)
    counts[:1], counts.reshape(-1)[-1:] = False, True  # a whole sequence without tokens
    leave_out(rng, a, counts)
    return counts


def token_lengths(rng: np.random.Generator, a: dict[str, Array]) -> Array:
    most = a["target"].shape[-1]
    first = np.asarray(rng.integers(0, most + 1, a["target"].shape[:-1]))
    first.reshape(-1)[:1], first.reshape(-1)[-1:] = 0, most - 1
    leave_out(rng, a, np.arange(most) < first[..., np.newaxis])
    return first


IGNORE = Option("ignore_index", ignore_rows)
WEIGHT, SAMPLE_WEIGHT = Option("weight", class_weights), Option("sample_weight", row_weights)


# What the mean divides by, and what a gradient can be a small difference of


def row_options(c: Call) -> tuple[Array, Array, Array]:
    """Class weights, weights of samples and which rows count, spelt out."""
    rows = c.shape[:-1]
    weight = np.asarray(c.options.get("weight", np.ones(c.shape[-1])), dtype=np.float64)
    sample = np.broadcast_to(np.float64(c.options.get("sample_weight", 1.0)), rows)
    counted = np.asarray(c["target"]) != c.get("ignore_index", -100) if is_index(c) else np.ones(rows, bool)
    return weight, sample, counted


def is_index(c: Call) -> bool:
    return np.asarray(c["target"]).dtype.kind in "iu"


def sum_of_weights(c: Call) -> float:
    """Over the rows that count, class weight (for class indices) times sample weight."""
    weight, sample, counted = row_options(c)
    share = weight[np.where(counted, c["target"], 0).astype(int)] if is_index(c) else np.float64(1.0)
    return float(np.where(counted, share * sample, 0.0).sum())


def largest_target_mass(c: Call) -> Array:
    """The largest w_c q'_c of each row, as it enters the gradient."""
    weight, sample, counted = row_options(c)
    smoothing = c.options.get("label_smoothing", 0.0)
    if is_index(c) and smoothing == 0.0:
        return np.zeros(sample.shape)
    q = np.asarray(c["target"], dtype=np.float64)
    if is_index(c):
        q = (np.arange(weight.size) == np.asarray(c["target"])[..., np.newaxis]).astype(np.float64)
    mass = (weight * ((1.0 - smoothing) * q + smoothing / weight.size)).max(axis=-1, initial=0.0)
    upstream = c.upstream * c.options.get("logit_scale", 1.0) / c.options.get("temperature", 1.0)
    return np.where(counted, sample * mass * upstream / (c.denominator or NAN), 0.0)


def tokens(c: Call) -> float:
    return float(np.sum(c["target"] != c.get("ignore_index", -100)))


@np.errstate(over="ignore", invalid="ignore")
def largest_term(c: Call) -> Array:
    """Of the gradient of an entropy, which may be a small difference: p_c * max(1, -log(p_c), H)."""
    temperature, x = c.options.get("temperature", 1.0), np.asarray(c.first, np.float64)
    log_p = reference.log_softmax((x - x.max(axis=-1, keepdims=True)) / temperature)
    size = np.maximum(np.maximum(-log_p, 1.0), c.expected_losses[..., np.newaxis])
    most = np.where(log_p == -INF, 0.0, np.exp(log_p) * size).max(axis=-1)
    return np.asarray(most * c.upstream / temperature / c.denominator)


def statistics_bound(c: Call) -> tuple[Any, ...]:
    """Of each statistic: 1e-6 of the value or, near 0, of 1; a log-probability as a loss."""
    wide, found = c.dtype == "float64", []
    for name, exact in zip(c.expected[0]._fields, c.expected[0], strict=True):
        size = np.maximum(np.abs(exact if exact is not None else 0.0), 1.0)
        if name == "log_probs" and not wide:
            found.append(np.maximum(2.0 * ulp(size, "float32"), 1e-6))
        else:
            found.append((1e-13 if wide else 1e-6) * size)
    return tuple(found)


def statistics_derivative_bound(c: Call, name: str) -> Array:
    """Relative to the largest of the row, and the largest term of the entropy's: they may cancel."""
    temperature = c.get("temperature", 1.0) / c.get("logit_scale", 1.0)
    entropy = np.asarray(c.expected[0].entropy)[..., np.newaxis]
    most = np.abs(c.expected[1][0]).max(axis=-1, keepdims=True) + np.nan_to_num(1.0 + entropy) / temperature
    return (1e-13 if c.dtype == "float64" else 4e-7) * most + smallest_normal(c.dtype) + np.zeros(c.shape)


# In PyTorch, which has the classes second


def classes_second(x: Any) -> Any:
    return x.movedim(-1, 1) if x.ndim > 1 else x


def cross_entropy_in_torch(
    torch: Any, tensors: dict[str, Any], options: Options, reduction: str, name: str = "cross_entropy"
) -> Any:
    x, y = tensors.values()
    if options.keys() & {"z_loss", "sample_weight"}:
        return None  # torch has neither
    y = classes_second(y) if y.is_floating_point() else y
    x = options.get("logit_scale", 1.0) * x
    if "softcap" in options:
        x = options["softcap"] * torch.tanh(x / options["softcap"])
    given = {k: v for k, v in options.items() if k in ("weight", "ignore_index", "label_smoothing")}
    x = x / options.get("temperature", 1.0)
    return getattr(torch.nn.functional, name)(classes_second(x), y, reduction=reduction, **given)


def tokens_in_torch(torch: Any, tensors: dict[str, Any], options: Options, reduction: str, name: str) -> Any:
    if options.keys() & {"mask", "lengths", "ignore_index"} or reduction != "none":
        return None
    x = tensors["logits"] / options.get("temperature", 1.0)
    if name == "entropy":
        return torch.distributions.Categorical(logits=x).entropy()
    found = torch.log_softmax(x, dim=-1).gather(-1, tensors["target"].unsqueeze(-1)).squeeze(-1)
    if name == "token_log_probs":
        return found
    return found.mean(dim=-1) if options.get("average") else found.sum(dim=-1)


# multi_margin_loss


def multi_margin_terms(c: Call) -> tuple[Array, Array, Array, float]:
    """How far each class is short of the margin, the size of the numbers in it, the share of a term.

    A term max(0, m - x_y + x_j) is as exact as these.
    """
    x, y = np.asarray(c.first, np.float64), np.asarray(c["target"])[..., np.newaxis]
    weight = np.asarray(c.options.get("weight", np.ones(x.shape[-1])), np.float64)[y]
    margin, own = c.options.get("margin", 1.0), np.take_along_axis(x, y, axis=-1)
    short = np.where(np.arange(x.shape[-1]) == y, 0.0, np.maximum(0.0, margin - own + x))
    size = np.where(short > 0.0, abs(margin) + np.abs(own) + np.abs(x), 0.0)
    error = 4.0 * 2.0**-23 if loss_dtype(c.dtype) == "float32" else 8.0 * 2.0**-52
    return short, size, weight / x.shape[-1], error


def multi_margin_bound(c: Call) -> Array:
    (short, size, share, error), p = multi_margin_terms(c), c.options.get("p", 1)
    rows = share * (size if p == 1 else 2.0 * short * size + error * size**2 + short**2)
    found = error * rows.sum(axis=-1) + error * np.abs(share[..., 0] * (short**p).sum(axis=-1))
    found = found + smallest_normal(c.dtype)
    return np.asarray(found if c.reduction == "none" else found.sum() / c.denominator)


def multi_margin_derivative_bound(c: Call, name: str) -> Array:
    short, size, share, error = multi_margin_terms(c)
    upstream = c.upstream[..., np.newaxis] if c.upstream.ndim else c.upstream
    slope = np.where(short > 0.0, 1.0 if c.options.get("p", 1) == 1 else 2.0 * (short + size), 0.0)
    own = np.arange(c.shape[-1]) == np.asarray(c["target"])[..., np.newaxis]
    slope = np.where(own, slope.sum(axis=-1, keepdims=True), slope)
    return np.asarray(error * share * upstream / c.denominator * slope + smallest_normal(c.dtype))


def multi_margin_room(c: Call, name: str) -> Array:
    x, y = np.asarray(c.first, np.float64), np.asarray(c["target"])[..., np.newaxis]
    away = np.abs(c.options.get("margin", 1.0) - np.take_along_axis(x, y, axis=-1) + x)
    clear = (away > 0.05) | (np.arange(x.shape[-1]) == y)
    return np.where(clear.all(axis=-1, keepdims=True), 1.0, 0.0) * np.ones(x.shape)


# Transforms


@dataclass(frozen=True)
class TransformBounds:
    """`of_row` is relative to the largest of the row; the others are as for a loss."""

    of_row: float = 0.0
    ulps: float = 0.0
    absolute: float = 0.0
    exact: float = 1e-14


def transform_bound(c: Call, name: str = "") -> Array:
    limits, size = c.row.info, np.abs(c.expected_losses)
    if limits.of_row:
        size = np.broadcast_to(size.max(axis=-1, keepdims=True), size.shape)
    if c.dtype == "float64":
        return np.asarray(limits.exact * (size if limits.of_row else np.maximum(size, 1.0)))
    found = np.maximum(limits.ulps * ulp(size, "float32"), limits.absolute)
    return np.asarray(np.maximum(found, limits.of_row * size) + smallest_normal(c.dtype))


# Rows

OF_CLASSES: dict[str, Any] = {
    "loss_axes": 1,
    "shapes": ((4, 6, 5), (2, 3, 70), (2, 2, 4500)),
    "sizes": (
        *((7, 6, c) if c < 65 else (3, 2, c) for c in (1, 2, 3, 10, 64, 65, 1000, 5000)),
        (2, 40, 33),
        (9,),
    ),
    "large": ((4001, 10), (67, 700), (9, 5000), (3, 40_000)),
    "empty": ((0, 5), (3, 0, 5), (0, 4, 100)),
}
OF_LOSS: dict[str, Any] = {**OF_CLASSES, "bound": bound, "derivative_bound": derivative_bound}
OF_INDICES: dict[str, Any] = {**OF_LOSS, "integers": ("target",)}


def shifted_down(c: Call, name: str) -> Array:
    """Room for differences without what would cost the quotient its digits: the large shift of a row."""
    x = np.asarray(c.first, np.float64)
    return np.where(np.isfinite(x) & (np.abs(x) < 5e3), 1.0, 0.0)


SCALED = {"logit_scale": 0.6, "softcap": 8.0, "temperature": 1.7}

CROSS_ENTROPY = Row(
    "cross_entropy",
    indices,
    gradients=("logits",),
    # The last two act on the rows made above: the wide ones are well into the bend of the cap.
    sets=(
        *every_one_with_every_other(label_smoothing=0.1, z_loss=0.05, softcap=8.0, temperature=1.7),
        SCALED,
    ),
    extras=(IGNORE, WEIGHT, SAMPLE_WEIGHT),
    hessian=True,
    divisor=sum_of_weights,
    room=shifted_down,
    torch=cross_entropy_in_torch,
    info=Bounds(small_difference=largest_target_mass),
    **OF_INDICES,
)
OF_PROBABILITIES = replace(
    CROSS_ENTROPY,
    label="probabilities",
    make=partial(indices, has_probabilities=True),
    extras=(WEIGHT, SAMPLE_WEIGHT),
    integers=(),
)
NLL = Row(
    "nll_loss",
    log_probs,
    gradients=("log_probs",),
    extras=(IGNORE, WEIGHT, SAMPLE_WEIGHT),
    divisor=sum_of_weights,
    room=lambda c, name: np.isfinite(np.asarray(c.first, np.float64)).astype(float),
    torch=partial(cross_entropy_in_torch, name="nll_loss"),
    # A product in float64, rounded once: nothing is lost near 0 either.
    info=Bounds(loss_ulps=0.5, loss_absolute=0.0, grad=1.2e-7),
    **OF_INDICES,
)
MULTI_MARGIN = Row(
    "multi_margin_loss",
    scores,
    gradients=("scores",),
    # Dyadic margins: with others, who is in reach is a matter of rounding.
    sets=(
        {},
        *({"margin": m} for m in (0.25, 2, 0.0, -0.5)),
        *({"p": 2, "margin": m} for m in (1.0, 0.25, 2, 0.0, -0.5)),
    ),
    extras=(Option("weight", lambda rng, a: rounded(class_weights(rng, a), first_of(a).dtype.name)),),
    bad=(*bad("p", EITHER, 0, 3, 1.5, True, "1", None, NAN), *numbers("margin")),
    room=multi_margin_room,
    torch=partial(in_torch, name="multi_margin_loss"),
    **{
        **OF_INDICES,
        "sizes": ((37, 5), (3, 4, 7), (9,), (5, 1), (4, 1000)),
        "bound": multi_margin_bound,
        "derivative_bound": multi_margin_derivative_bound,
    },
)
TOKEN_BOUNDS = Bounds(loss_ulps=3.3, exact=1e-13)
TOKENS = Row(
    "token_log_probs",
    indices,
    gradients=("logits",),
    sets=({}, {"temperature": 1.7}),
    extras=(IGNORE,),
    divisor=tokens,
    room=shifted_down,
    torch=partial(tokens_in_torch, name="token_log_probs"),
    info=Bounds(),
    **OF_INDICES,
)
SEQUENCES = Row(
    "sequence_log_probs",
    indices,
    gradients=("logits",),
    sets=every_one_with_every_other(average=True, temperature=1.7),
    extras=(
        Option("mask", token_mask),
        Option("lengths", token_lengths, instead_of="mask"),
        replace(IGNORE, instead_of="mask"),
    ),
    room=shifted_down,
    bad=tuple(bad("average", TypeError, 1, 0, None, "yes", [True])),
    torch=partial(tokens_in_torch, name="sequence_log_probs"),
    info=TOKEN_BOUNDS,
    **{
        **OF_INDICES,
        "loss_axes": 2,
        "sizes": (*OF_CLASSES["sizes"][:-1], (4, 6), (2, 3, 4, 5)),
        "large": ((300, 10, 10), (70, 10, 64), (2, 7, 5000), (1, 2, 70_000)),
        "empty": ((0, 4, 100), (0, 0, 5), (3, 0, 5)),
    },
)
ENTROPY = Row(
    "entropy",
    logits_alone,
    gradients=("logits",),
    sets=({}, {"temperature": 1.7}),
    room=shifted_down,
    torch=partial(tokens_in_torch, name="entropy"),
    info=replace(TOKEN_BOUNDS, small_difference=largest_term),
    **OF_LOSS,
)
BAD_OUTPUTS = (
    *bad("outputs", TypeError, "log_probs", None, 1),
    *bad("outputs", ValueError, (), ("text",), (1,), ("entropy", "entropy"), ["log_probs", "logits"]),
)
STATISTICS = Row(
    "token_statistics",
    indices,
    gradients=("logits",),
    fixed={"outputs": reference.TokenStatistics._fields},
    sets=(*every_one_with_every_other(softcap=8.0, temperature=1.7), SCALED),
    extras=(IGNORE,),
    reductions=(),
    returns="arrays",
    divisor=None,
    bad=BAD_OUTPUTS,
    **{**OF_INDICES, "bound": statistics_bound, "derivative_bound": statistics_derivative_bound},
)
OF_LOGARITHMS = TransformBounds(ulps=2.0, absolute=1e-6)
TRANSFORMS = [
    Row(
        name,
        partial(logits_alone, name="x"),
        gradients=("x",) if returns == "array" else (),
        reductions=(),
        returns=returns,
        bound=transform_bound,
        derivative_bound=transform_bound,
        info=TransformBounds(of_row=4e-7) if name == "softmax" else OF_LOGARITHMS,
        **OF_CLASSES,
    )
    for name, returns in (("softmax", "array"), ("log_softmax", "array"), ("logsumexp", "loss"))
]


# Perplexity


def narrow_logits(rng: np.random.Generator, shape: Shape, options: Options) -> dict[str, Array]:
    """Without the rows whose loss is in the thousands: their perplexity is infinite."""
    arrays = indices(rng, shape, options)
    return {**arrays, "logits": np.where(arrays["logits"] > 1e3, 0.0, arrays["logits"])}


def perplexity_bound(c: Call) -> Array:
    """The exponential turns an absolute error of the mean loss into a relative one."""
    return np.asarray((1e-14 * 50 if c.dtype == "float64" else 1e-6) * largest(c.expected[0]))


PERPLEXITY = Row(
    "perplexity",
    narrow_logits,
    extras=(IGNORE,),
    reductions=(),
    returns="number",
    bound=perplexity_bound,
    **{**OF_CLASSES, "integers": ("target",)},
)

LOSSES = [CROSS_ENTROPY, OF_PROBABILITIES, NLL, MULTI_MARGIN]
ROWS = [*LOSSES, TOKENS, SEQUENCES, ENTROPY, STATISTICS, *TRANSFORMS, PERPLEXITY]
