"""Rows of the losses of lists, whose losses are those of groups. They are for test_lists.py alone."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from helpers import Array, Options, Shape, bad, bad_numbers, largest, unit_roundoff
from registry import Call, Row, every_one_with_every_other

# Of sums in float64, beside their largest terms.
ROUNDING = 2e-13


def sizes_of(documents: int) -> Array:
    """Groups of several sizes, among them empty ones, and one of half of all."""
    sizes = [documents // 2] if documents else []
    while sum(sizes) < documents:
        sizes.append(min((0, 1, 2, 5, 40, 131)[len(sizes) % 6], documents - sum(sizes)))
    return np.array(sizes, np.int64)


def lists(rng: np.random.Generator, shape: Shape, options: Options) -> dict[str, Array]:
    """Scores of several scales with some ties, and labels from 0 to 4."""
    documents = math.prod(shape)
    scores = rng.standard_normal(documents) * rng.choice([0.5, 3.0, 20.0], documents)
    scores = np.where(rng.random(documents) < 0.3, np.round(scores), scores)
    labels = rng.integers(0, 5, documents)
    return {"scores": scores, "relevance": labels, "group_sizes": sizes_of(documents)}


def bound(c: Call) -> Array:
    exact = np.abs(np.asarray(c.expected[0]))
    rounding = unit_roundoff(c.dtype) if c.reduction == "none" else 0.0
    return np.asarray(rounding * exact + ROUNDING * np.maximum(largest(exact), 1.0))


def derivative_bound(c: Call, name: str) -> Array:
    exact = np.abs(c.expected[1][("scores", "hessian").index(name)])
    term = largest(c.upstream) / (c.denominator or 1.0)
    return np.asarray(unit_roundoff(c.dtype) * exact + ROUNDING * (largest(exact) + term))


@dataclass(frozen=True, eq=False)
class ListRow(Row):
    """A row whose loss has an element for each group."""

    def loss_shape(self, shape: Shape) -> Shape:
        return sizes_of(math.prod(shape)).shape


BAD = (
    *bad("group_sizes", TypeError, [2.0, 4.0], "text", [True, True], [None]),
    *bad("group_sizes", ValueError, [2, 3], [2, 5], [], [7, -1], [[2, 4]], 6, [[2], [3, 1]]),
    *bad("group_sizes", ValueError, np.array([2**63, 2**63, 6], np.uint64)),
    *bad("scores", ValueError, np.ones((6, 1)), np.ones((1, 6)), 1.0, [[1.0], [2.0, 3.0]]),
    *bad("scores", TypeError, "text", np.ones(6, complex), [None] * 6),
    *bad("relevance", ValueError, np.ones(5), np.ones((6, 1)), 1.0, [[1.0], [2.0, 3.0]]),
    *bad("relevance", TypeError, np.ones(6, complex), [None] * 6, np.zeros(6, "M8[s]")),
    *bad("grad_output", ValueError, np.ones(5), np.ones((2, 1)), reduction="none"),
    *bad("grad_output", ValueError, np.ones(2), reduction="mean"),
    *bad("out", ValueError, np.ones(5, "f4"), np.ones((6, 1), "f4")),
    *bad("out", TypeError, np.ones(6), [0.0] * 6),
)
COMMON: dict[str, Any] = {
    "make": lists,
    "gradients": ("scores",),
    "bound": bound,
    "derivative_bound": derivative_bound,
    "shapes": ((12,), (41,), (300,)),
    "large": ((70_000,),),
    "empty": ((0,),),
    "local": False,
    "integers": ("relevance", "group_sizes"),
}
LIST_NET = ListRow("list_net_loss", bad=BAD, **COMMON)
LAMBDA_RANK = ListRow(
    "lambda_rank_loss",
    hessian=True,
    sets=every_one_with_every_other(
        sigmoid=2.0, truncation_level=3, normalize=False, label_gain=[0.0, 1.0, 1.0, 2.5, 9.0]
    ),
    bad=(
        *BAD,
        *bad_numbers("sigmoid", 0.0, -1.0),
        *bad("truncation_level", TypeError, 1.5, "3", None, True),
        *bad("truncation_level", ValueError, 0, -1),
        *bad("normalize", TypeError, 1, None, "yes"),
        *bad("return_hessian", TypeError, 1, None, "yes"),
        *bad("relevance", ValueError, np.full(6, -1), np.full(6, 31), np.full(6, 0.5), np.full(6, math.nan)),
        *bad("relevance", ValueError, np.full(6, 2**63, np.uint64), np.full(6, math.inf), np.full(6, 1e300)),
        *bad("label_gain", ValueError, [], 1.0, [[0.0, 1.0]], [0.0, 2.0, 1.0], [-1.0, 0.0], [0.0, math.nan]),
        *bad("label_gain", ValueError, [0.0, math.inf]),
        *bad("label_gain", TypeError, "text", [None], np.ones(6, complex)),
    ),
    **COMMON,
)
ROWS = (LIST_NET, LAMBDA_RANK)
