"""Rows of the losses of pairs and triples of vectors. Vectors lie along the last axis of a shape."""

import math
from functools import partial
from typing import Any

import numpy as np
from helpers import (
    CLASSES,
    INF,
    NAN,
    ROWS,
    Array,
    Options,
    Shape,
    bad,
    bad_numbers,
    smallest_normal,
    unit_roundoff,
)
from registry import Call, Row

from .elementwise import in_torch, not_a_sign, numbers, of_each

# All is computed in float64 from any type: what is left, relative to the terms, before rounding to the type.
ERROR = 4e-15
# The same through logarithms and exponentials.
ERROR_OF_POWERS = 1e-13


def vectors(rng: np.random.Generator, shape: Shape, number: int) -> list[Array]:
    """Vectors of several lengths that are not far from each other."""
    base = rng.standard_normal(shape)
    scale = rng.choice([0.25, 1.0, 4.0], (*shape[:-1], 1))
    return [scale * (base + rng.standard_normal(shape)) for _ in range(number)]


def signs(rng: np.random.Generator, shape: Shape) -> Array:
    return np.asarray(rng.choice([-1.0, 1.0], shape))


def pairs(rng: np.random.Generator, shape: Shape, options: Options) -> dict[str, Array]:
    x, y = vectors(rng, shape, 2)
    return {"input1": x, "input2": y, "target": signs(rng, shape[:-1])}


def triples(rng: np.random.Generator, shape: Shape, options: Options) -> dict[str, Array]:
    return dict(zip(("anchor", "positive", "negative"), vectors(rng, shape, 3), strict=True))


def wide(c: Call) -> list[Array]:
    return [np.asarray(c[name], np.float64) for name in c.row.gradients]


def reduced_error(c: Call, error: Array) -> Array:
    """The bound of a loss from those of the rows: rounded to the type if they are not added.

    The roundings of a sum in lanes are a random walk.
    """
    if c.reduction == "none":
        return np.asarray(error + unit_roundoff(c.dtype) * np.abs(c.expected_losses))
    losses = np.abs(c.expected_losses)
    return np.asarray((error + 1e-16 * math.sqrt(losses.size) * losses).sum() / c.denominator)


def derivative_error(c: Call, name: str, terms: Array, error: float) -> Array:
    """The bound of a derivative, from its terms."""
    upstream = c.upstream if c.upstream.ndim in (0, terms.ndim) else c.upstream[..., np.newaxis]
    scaled = error * terms * upstream / c.denominator
    exact = np.abs(c.expected[1][c.row.gradients.index(name)])
    return np.asarray(scaled + unit_roundoff(c.dtype) * exact + smallest_normal(c.dtype))


# cosine_embedding_loss


def cosine_parts(c: Call) -> tuple[Array, list[Array], Array]:
    """The cosine of each pair, the squared lengths, and their common length."""
    x, y = wide(c)
    squares = [(v * v).sum(axis=-1) + 1e-12 for v in (x, y)]
    both = np.sqrt(squares[0] * squares[1])
    return np.asarray((x * y).sum(axis=-1) / both), squares, both


def cosine_derivative_bound(c: Call, name: str) -> Array:
    """Relative to the two terms of which a derivative is the difference."""
    own = c.row.gradients.index(name)
    cosine, squares, both = cosine_parts(c)
    x, other = wide(c)[own], wide(c)[1 - own]
    terms = np.abs(other) / both[..., np.newaxis] + np.abs(x) * np.abs(cosine / squares[own])[..., np.newaxis]
    return derivative_error(c, name, terms, ERROR)


def cosine_room(c: Call, name: str) -> Array:
    """A step is short beside the vectors, and does not reach the kink."""
    cosine, squares, _ = cosine_parts(c)
    away = np.abs(cosine - c.get("margin", 0.0)) > 0.02
    room = np.where(away | (np.asarray(c["target"]) == 1.0), np.minimum(1.0, 0.25 * np.sqrt(squares[0])), 0.0)
    return np.broadcast_to(room[..., np.newaxis], c.shape)


def cosine_in_torch(torch: Any, tensors: dict[str, Any], options: Options, reduction: str) -> Any:
    x, y, t = tensors.values()
    flat = [v.reshape(-1, v.shape[-1]) for v in (x, y)]
    found = torch.nn.functional.cosine_embedding_loss(*flat, t.reshape(-1), reduction=reduction, **options)
    return found.reshape(t.shape) if reduction == "none" else found


# triplet_margin_loss


def distances(c: Call) -> tuple[list[Array], list[Array]]:
    """The differences of a triple, and their norms: (a, p), (a, n), (p, n)."""
    a, p, n = wide(c)
    eps, power = c.get("eps", 1e-6), c.get("p", 2.0)
    differences = [np.abs(x - y + eps) for x, y in ((a, p), (a, n), (p, n))]
    return differences, [np.linalg.norm(d, power, axis=-1) if d.size else d[..., 0] for d in differences]


def triplet_error(c: Call) -> float:
    return ERROR if c.get("p", 2.0) in (1.0, 2.0, INF) else ERROR_OF_POWERS


def triplet_bound(c: Call) -> Array:
    _, norms = distances(c)
    return reduced_error(c, triplet_error(c) * (c.get("margin", 1.0) + norms[0] + norms[1]))


def triplet_derivative_bound(c: Call, name: str) -> Array:
    """Relative to the slopes of both distances, of which only those with p < 1 exceed 1."""
    differences, norms = distances(c)
    p = c.get("p", 2.0)
    terms = np.zeros(c.shape)
    for d, norm in zip(differences, norms, strict=True):
        share = d / norm[..., np.newaxis]
        terms += share if p == 2.0 else np.ones(c.shape) if p in (1.0, INF) else share ** (p - 1.0)
    return derivative_error(c, name, terms, triplet_error(c))


def triplet_room(c: Call, name: str) -> Array:
    """No step reaches a kink of the margin, of the choice between distances, or of an absolute value."""
    differences, (near, far, other) = distances(c)
    p = c.get("p", 2.0)
    reach = 0.01 * c.shape[-1] ** max(0.0, 1.0 / p - 1.0)
    farther = np.minimum(far, other) if c.get("swap", False) else far
    clear = (np.abs(c.get("margin", 1.0) + near - farther) > reach) & (np.abs(far - other) > reach)
    room = np.minimum(np.min(differences, axis=0).min(axis=-1) * (1.0 if p > 1.0 else 0.25), 1.0)
    if p == INF:  # which one is the largest
        gaps = [np.diff(np.sort(d, axis=-1)[..., -2:], axis=-1) for d in differences]
        room = np.minimum(room, np.min([gap.min(axis=-1, initial=1.0) for gap in gaps], axis=0))
    return np.broadcast_to(np.where(clear & (room > 0.05), room, 0.0)[..., np.newaxis], c.shape)


# margin_ranking_loss


def scored(rng: np.random.Generator, shape: Shape, options: Options) -> dict[str, Array]:
    """Scores of several sizes, some of whose differences are on the margin exactly."""
    first, apart = rng.standard_normal(shape), rng.choice([0.0, 0.25, -0.25, 2.0, -2.0], shape)
    first = np.round(first * 64.0) / 64.0
    second = np.where(rng.random(shape) < 0.4, first - apart, rng.standard_normal(shape))
    return {"input1": first, "input2": second, "target": signs(rng, shape)}


def ranking_terms(c: Call) -> tuple[Array, Array, float]:
    """How far a pair is from the kink, the size of the numbers in this, and the rounding of these."""
    x, y, t = (np.asarray(c[name], np.float64) for name in c.row.arrays)
    margin = c.get("margin", 0.0)
    return margin - t * (x - y), abs(margin) + np.abs(x) + np.abs(y), 2.0 * unit_roundoff(c.dtype)


def ranking_bound(c: Call) -> Array:
    _, size, error = ranking_terms(c)
    return reduced_error(c, error * size + 0.0 * c.expected_losses)


def ranking_derivative_bound(c: Call, name: str) -> Array:
    """On either side of the kink if that is within the rounding, but not on it."""
    short, size, error = ranking_terms(c)
    jumps = (short != 0.0) & (np.abs(short) <= error * size)
    return derivative_error(c, name, np.ones(c.shape), 3.0 * error) + jumps * c.upstream / c.denominator


# multilabel_margin_loss


def labelled(rng: np.random.Generator, shape: Shape, options: Options) -> dict[str, Array]:
    """Any number of labels, some twice; nothing behind the first -1 is an index."""
    labels = rng.integers(0, shape[-1], shape)
    number = rng.integers(0, min(shape[-1], 9) + 1, shape[:-1])[..., np.newaxis]
    beyond = np.arange(shape[-1])
    labels = np.where(beyond < number, labels, np.where(beyond == number, -1, 10**6))
    return {"scores": np.round(rng.standard_normal(shape) * 32.0) / 32.0, "target": labels}


def compared(c: Call) -> tuple[Array, Array]:
    """By how much each label and each other class fall short, NaN for other pairs; and their sizes."""
    x = np.asarray(c["scores"], np.float64)
    target, classes = np.asarray(c["target"]), np.arange(x.shape[-1])
    is_read = np.cumsum(target == -1, axis=-1) == 0
    labels = np.where(is_read, target, 0)
    is_label = ((labels[..., np.newaxis] == classes) & is_read[..., np.newaxis]).any(axis=-2)
    own = np.take_along_axis(x, labels, axis=-1)[..., np.newaxis]
    short = 1.0 - own + x[..., np.newaxis, :]
    counts = is_read[..., np.newaxis] & ~is_label[..., np.newaxis, :]
    return np.where(counts, short, np.nan), np.abs(own) + np.abs(x[..., np.newaxis, :]) + 1.0


def multilabel_bound(c: Call) -> Array:
    short, size = compared(c)
    return reduced_error(c, 1e-15 * np.where(short > 0.0, size, 0.0).sum(axis=(-1, -2)) / c.shape[-1])


def multilabel_room(c: Call, name: str) -> Array:
    """Of rows without a term near its kink."""
    clear = np.nan_to_num(np.abs(compared(c)[0]), nan=1.0).min(axis=(-1, -2)) > 0.02
    return np.broadcast_to(clear[..., np.newaxis] * 1.0, c.shape)


def multilabel_in_torch(torch: Any, tensors: dict[str, Any], options: Options, reduction: str) -> Any:
    """In rows, without what torch refuses though it does not read it."""
    x, y = (v.reshape(-1, v.shape[-1]) for v in tensors.values())
    y = torch.where(torch.cumsum(y == -1, dim=-1) > 0, -1, y)
    found = torch.nn.functional.multilabel_margin_loss(x, y, reduction=reduction)
    return found.reshape(tensors["scores"].shape[:-1]) if reduction == "none" else found


def bad_vectors(*names: str) -> list[Any]:
    """Arrays without vectors, and of other shapes than the first."""
    shapes = ((ROWS, CLASSES - 1), (ROWS + 1, CLASSES), (CLASSES,), (1, ROWS, CLASSES), (ROWS, 1), ())
    found = bad(names[0], ValueError, 1.0, np.ones(()), np.ones((ROWS, 0)))
    for name in names[1:]:
        found += bad(name, ValueError, *(np.ones(shape) for shape in shapes), [[1.0], [2.0, 3.0]])
        found += bad(name, TypeError, np.ones((ROWS, CLASSES), complex), "text", None)
    return found


OF_VECTORS: dict[str, Any] = {
    "loss_axes": 1,
    "sizes": ((7,), (1, 1), (7, 1), (40, 16), (3, 300), (2, 1000)),
    "large": ((300, 1003), (20_000, 3)),
    "empty": ((0, 3), (0, 2, 2), (3, 0, 2)),
    # Central differences of a curve: its third derivative is what is left.
    "quotients": (1e-5, 1e-5),
}
COSINE = Row(
    "cosine_embedding_loss",
    pairs,
    gradients=("input1", "input2"),
    sets=of_each("margin", 0.25, -0.5, 2),
    bound=lambda c: reduced_error(c, np.full(c.loss_shape, ERROR)),
    derivative_bound=cosine_derivative_bound,
    room=cosine_room,
    checked=lambda options: {"target": not_a_sign(options)},
    bad=(
        *bad_vectors("input1", "input2"),
        *bad_numbers("margin"),
        *bad(
            "target", ValueError, *(np.ones(s) for s in (ROWS + 1, (ROWS, 1), (1, ROWS), 1, (ROWS, CLASSES)))
        ),
        *bad("target", TypeError, np.ones(ROWS, complex), "text", None),
    ),
    torch=cosine_in_torch,
    **OF_VECTORS,
)
TRIPLET = Row(
    "triplet_margin_loss",
    triples,
    gradients=("anchor", "positive", "negative"),
    sets=(
        *of_each("p", 1, INF, 3.0, 1.5, 0.5),
        {"swap": True},
        {"p": INF, "swap": True},
        {"margin": 0.25, "eps": 0.5},
        {"margin": 2, "p": 2.5, "eps": 0.0, "swap": True},
    ),
    bound=triplet_bound,
    derivative_bound=triplet_derivative_bound,
    room=triplet_room,
    bad=(
        *bad_vectors("anchor", "positive", "negative"),
        *bad_numbers("margin", 0.0, -1.0),
        *bad_numbers("eps", -1e-6),
        *bad("p", ValueError, 0.0, -1.0, NAN, -INF),
        *bad("p", TypeError, True, "2", None, 1j, [1.0]),
        *bad("swap", TypeError, 1, None, "yes"),
    ),
    torch=partial(in_torch, name="triplet_margin_loss"),
    **OF_VECTORS,
)
RANKING = Row(
    "margin_ranking_loss",
    scored,
    gradients=("input1", "input2"),
    sets=of_each("margin", 0.25, 0.3, -2.0),
    bound=ranking_bound,
    derivative_bound=ranking_derivative_bound,
    room=lambda c, name: np.where(np.abs(ranking_terms(c)[0]) > 0.02, 1.0, 0.0),
    # Whether a score without axes is a scalar cannot be told where the other has none either.
    sizes=((1,), (7,), (1000,), (41, 61)),
    bad=tuple(numbers("margin")),
    checked=lambda options: {"target": not_a_sign(options)},
    torch=partial(in_torch, name="margin_ranking_loss"),
)
MULTILABEL = Row(
    "multilabel_margin_loss",
    labelled,
    gradients=("scores",),
    loss_axes=1,
    bound=multilabel_bound,
    derivative_bound=lambda c, name: derivative_error(
        c, name, np.abs(c.expected[1][0]) * c.denominator, ERROR
    ),
    room=multilabel_room,
    integers=("target",),
    shapes=((4, 6, 5), (2, 3, 70)),
    sizes=((37, 5), (9,), (5, 1), (4, 300)),
    large=((3000, 20),),
    empty=((0, 3), (3, 0, 2)),
    torch=multilabel_in_torch,
)
PAIRS = [COSINE, TRIPLET, RANKING, MULTILABEL]
