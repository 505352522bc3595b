"""Rows of the contrastive losses. Of a shape (N, M) there are N queries, and M keys or more."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
from helpers import Array, Options, Shape, bad, bad_numbers, largest, loss_dtype, smallest_normal
from registry import Call, Row, every_one_with_every_other

FIELDS = ("query", "key")
# The rounding of products in units of their sizes, and that of everything else.
ROUNDING = {"float64": 1e-15, "float32": 4e-7}
RELATIVE = {"float64": 1e-13, "float32": 2e-6}


def vectors(rng: np.random.Generator, queries: int, keys: int, width: int) -> dict[str, Array]:
    """Vectors of several lengths; each query has something of its key."""
    k = rng.standard_normal((keys, width)) / width**0.25
    q = rng.standard_normal((queries, width)) / width**0.25
    some = min(queries, keys)
    q[:some] += 0.5 * k[:some]
    return {
        "query": q * rng.choice([0.5, 1.0, 2.0], (queries, 1)),
        "key": k * rng.choice([0.5, 1.0], (keys, 1)),
    }


def width_of(shape: Shape) -> int:
    return (5, 3, 17)[math.prod(shape) % 3]


def pairs(rng: np.random.Generator, shape: Shape, options: Options) -> dict[str, Array]:
    """A key for each query, and more."""
    return vectors(rng, shape[0], max(shape), width_of(shape))


def square(rng: np.random.Generator, shape: Shape, options: Options) -> dict[str, Array]:
    return vectors(rng, shape[0], shape[0], width_of(shape))


def targets(rng: np.random.Generator, shape: Shape, options: Options) -> dict[str, Array]:
    """Any number of keys, several queries with the same one."""
    arrays = vectors(rng, *shape, width_of(shape))
    return {**arrays, "target": np.asarray(rng.integers(0, shape[1], shape[0]))}


def units(c: Call) -> tuple[Array, Array, Array, Array]:
    """The vectors as they are multiplied, and what they were divided by."""
    found: list[Array] = []
    for name in FIELDS:
        x = np.asarray(c[name], np.float64)
        length = np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
        if c.row.name == "siglip_loss" or not c.get("normalize", True):
            length = np.ones_like(length)
        found += [x / length, length]
    return found[0], found[2], found[1], found[3]


def sharpness(c: Call) -> float:
    """The largest logit: an error of a similarity is multiplied as much."""
    u, v, _, _ = units(c)
    rate = c.get("scale", 1.0 / c.get("temperature", 0.05))
    size = largest(np.linalg.norm(u, axis=1)) * largest(np.linalg.norm(v, axis=1)) * rate
    return float(size) + abs(c.get("bias", 0.0))


def bound(c: Call) -> Array:
    kind = loss_dtype(c.dtype)
    size = np.maximum(np.abs(c.expected[0]), 1.0)
    pairs = len(c["key"]) if c.row.name == "siglip_loss" else 1
    if c.reduction == "sum":
        pairs *= len(c["query"])
    most = min(pairs, 4.0 * float(np.max(size, initial=1.0)))
    return np.asarray(ROUNDING[kind] * (size + sharpness(c) * most))


def derivative_bound(c: Call, name: str) -> Array:
    """Relative to the largest term: what is along the vector is taken from a sum over pairs."""
    kind, exact = loss_dtype(c.dtype), c.expected[1][FIELDS.index(name)]
    u, v, over_u, over_v = units(c)
    other, own = (v, over_u) if name == "query" else (u, over_v)
    rate = c.get("scale", 1.0 / c.get("temperature", 0.05))
    upstream = largest(c.upstream) / c.denominator
    # The gradient of a logit is at most 1, so that this is the largest term of all.
    most = upstream * rate * largest(np.linalg.norm(other, axis=1)) / own if own.size else own
    size = np.maximum(largest(exact), np.broadcast_to(most, exact.shape))
    relative = RELATIVE[kind] + ROUNDING[kind] * sharpness(c)
    return np.asarray(relative * size + smallest_normal(kind))


def info_nce_in_torch(torch: Any, tensors: dict[str, Any], options: Options, reduction: str) -> Any:
    """As users write it, of the whole matrix."""
    function = torch.nn.functional
    q, k, *target = tensors.values()
    if options.get("normalize", True):
        q, k = function.normalize(q, dim=1), function.normalize(k, dim=1)
    y = target[0] if target else torch.arange(len(q))
    return function.cross_entropy(q @ k.T / options.get("temperature", 0.05), y, reduction=reduction)


def symmetric_in_torch(torch: Any, tensors: dict[str, Any], options: Options, reduction: str) -> Any:
    """As CLIP has it."""
    ways = (tensors, dict(zip(FIELDS, reversed(tensors.values()), strict=True)))
    return sum(info_nce_in_torch(torch, way, options, reduction) for way in ways) / 2


def siglip_in_torch(torch: Any, tensors: dict[str, Any], options: Options, reduction: str) -> Any:
    q, k = tensors.values()
    fixed = SIGLIP.fixed
    labels = 2.0 * torch.eye(len(q), len(k), dtype=q.dtype) - 1.0
    losses = -torch.nn.functional.logsigmoid(labels * (fixed["scale"] * q @ k.T + fixed["bias"])).sum(dim=1)
    return losses if reduction == "none" else getattr(losses, reduction)()


BAD_BUDGET = (
    *bad("memory_budget", TypeError, 1.5, True, np.True_, "1", [1]),
    *bad("memory_budget", ValueError, 0, -1),
)
BAD = (
    *BAD_BUDGET,
    *bad("key", TypeError, np.ones((6, 5)), np.ones((6, 5), "f2")),
    *bad("key", ValueError, *(np.ones(shape, "f4") for shape in ((6, 2), (6,), (1, 6, 5), ()))),
    *bad("key", ValueError, [[1.0], [2.0, 3.0]]),
    *bad("query", ValueError, *(np.ones(shape, "f4") for shape in ((3,), (1, 4, 5), ()))),
)
COMMON: dict[str, Any] = {
    "gradients": FIELDS,
    "loss_axes": 1,
    "bound": bound,
    "derivative_bound": derivative_bound,
    "shapes": ((4, 12), (9, 70)),
    "sizes": (*((n, m) for n in (1, 2, 7) for m in (1, 2, 10, 65)), (300, 65), (7, 3000), (70, 1100)),
    "large": ((150, 1000),),
    "empty": ((0, 10),),
    "shared": ("key",),
    "same_bits": False,
    # A logit moves by up to 1 / temperature times as much, and no derivative of it is bounded by less.
    "room": lambda c, name: np.full(np.shape(c[name]), 0.0625),
    "quotients": (1e-6, 2e-7),
}
TOO_FEW = bad("key", ValueError, np.ones((3, 5), "f4"), np.ones((0, 5), "f4"))
INFO_NCE = Row(
    "info_nce_loss",
    pairs,
    numbers=("temperature",),
    sets=every_one_with_every_other(temperature=0.4, normalize=False),
    bad=(
        *BAD,
        *TOO_FEW,
        *bad_numbers("temperature", 0.0, -0.05),
        *bad("symmetric", TypeError, 1, None, "yes"),
        *bad("normalize", TypeError, 1, None, "yes"),
        *bad("key", ValueError, np.ones((6, 5), "f4"), symmetric=True),
        *bad("target", ValueError, np.arange(4), symmetric=True),
    ),
    torch=info_nce_in_torch,
    **COMMON,
)
OF_TARGETS = replace(
    INFO_NCE, label="targets", make=targets, integers=("target",), bad=BAD, sizes=(*INFO_NCE.sizes, (40, 3))
)
SYMMETRIC = replace(
    INFO_NCE.with_(symmetric=True),
    make=square,
    local=False,
    large=((1300, 10),),
    sizes=((1, 1), (2, 1), (7, 1), (65, 1), (300, 1)),
    torch=symmetric_in_torch,
)
SIGLIP = Row(
    "siglip_loss",
    pairs,
    numbers=("scale", "bias"),
    fixed={"scale": 3.0, "bias": -2.5},
    bad=(*BAD, *TOO_FEW, *bad_numbers("scale", 0.0, -1.0), *bad_numbers("bias")),
    torch=siglip_in_torch,
    **COMMON,
)
ROWS = [INFO_NCE, OF_TARGETS, SYMMETRIC, SIGLIP]
