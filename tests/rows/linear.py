"""Rows of the losses of a linear layer, of whose logits the options are those of cross_entropy.

The vocabulary is the last axis of a row's shape; the width of the input follows from it.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from helpers import INF, NAN, Array, Bad, Options, Shape, bad, largest, loss_dtype, smallest_normal
from registry import Call, Option, Row, every_one_with_every_other

from fastloss import reference

from . import softmax
from .contrastive import BAD_BUDGET
from .elementwise import numbers

FIELDS = ("input", "linear_weight", "linear_bias")
# Relative to the largest entry of a gradient (or term of it: a sum of two rows may be a small difference),
# and to a loss (or to 1, where it is less).
RELATIVE = {"float64": 1e-12, "float32": 2e-6}


def width_of(shape: Shape) -> int:
    if shape[-1] >= 1000:
        return 64 if shape[0] >= 100 else 3
    return (5, 3, 17, 64)[len(shape) % 2 + 2 * (shape[-1] >= 64)]


def set_up(
    rng: np.random.Generator, rows: Shape, width: int, vocabulary: int, has_probabilities: bool
) -> dict[str, Array]:
    """Inputs of different sizes, weights that make logits between -10 and 10 of them, targets and biases."""
    x = rng.standard_normal((*rows, width)) * rng.choice([0.25, 1.0, 2.0], (*rows, 1))
    w = rng.standard_normal((vocabulary, width)) / np.sqrt(width)
    bias = 0.5 * rng.standard_normal(vocabulary)
    if has_probabilities:
        q = rng.exponential(size=(*rows, vocabulary)) ** 2
        q[q < 0.02] = 0.0
        q[..., 0] += 0.01
        target = q / q.sum(axis=-1, keepdims=True)
    else:
        target = np.asarray(rng.integers(0, vocabulary, rows))
    return {"input": x, "linear_weight": w, "target": target, "linear_bias": bias}


def indices(
    rng: np.random.Generator, shape: Shape, options: Options, has_probabilities: bool = False
) -> dict[str, Array]:
    return set_up(rng, shape[:-1], width_of(shape), shape[-1], has_probabilities)


def ignore_rows(rng: np.random.Generator, a: dict[str, Array]) -> int:
    """Ignore every third row, whose values nobody may look at."""
    a["target"].reshape(-1)[1::3] = -7
    x = a["input"]
    x.reshape(-1, x.shape[-1])[1::3] = x.dtype.type(rng.choice([NAN, INF]))
    return -7


def class_weights(rng: np.random.Generator, a: dict[str, Array]) -> Array:
    return rng.uniform(0.2, 3.0, len(a["linear_weight"]))


def sum_of_weights(c: Call) -> float:
    return softmax.sum_of_weights(of_logits(c, np.zeros((*c.shape[:-1], len(c["linear_weight"])))))


def of_logits(c: Call, logits: Array) -> Call:
    """The call of cross_entropy with these logits."""
    return Call(
        softmax.CROSS_ENTROPY, c.dtype, c.reduction, {"logits": logits, "target": c["target"]}, c.options
    )


def bound(c: Call) -> Array:
    return np.asarray(RELATIVE[loss_dtype(c.dtype)] * np.maximum(np.abs(c.expected[0]), 1.0))


def largest_terms(c: Call) -> tuple[float, float, float]:
    """The largest product that is a term of each gradient: it may be larger than the sum of a few."""
    x, w = np.asarray(c["input"], np.float64), np.asarray(c["linear_weight"], np.float64)
    if x.size > 100 * x.shape[-1]:  # not of many
        return 0.0, 0.0, 0.0
    x = np.where(c.counts[..., np.newaxis], x, 0.0)
    bias = c["linear_bias"]
    logits = x @ w.T + (0.0 if bias is None else np.asarray(bias, np.float64))
    g = np.abs(np.nan_to_num(of_logits(c, logits).run(module=reference)[1][0], posinf=0.0)).reshape(
        -1, len(w)
    )
    rows = np.abs(np.nan_to_num(x, posinf=0.0)).reshape(-1, w.shape[1])
    of_input = g.max(axis=0, initial=0.0) * np.abs(w).max(axis=1)
    of_weight = g.max(axis=1) * rows.max(axis=1)
    return of_input.max(), of_weight.max(initial=0.0), g.max(initial=0.0)


def derivative_bound(c: Call, name: str) -> Array:
    position, computed = FIELDS.index(name), loss_dtype(c.dtype)
    exact = c.expected[1][position]
    most = max(largest(exact), largest_terms(c)[position])
    return np.full(exact.shape, RELATIVE[computed] * most + smallest_normal(computed))


def in_torch(torch: Any, tensors: dict[str, Any], options: Options, reduction: str) -> Any:
    function = getattr(torch.nn.functional, "linear_cross_entropy", None)
    if function is None or options.keys() - {"weight", "ignore_index", "label_smoothing"}:
        return None
    x, w, y, b = tensors.values()
    if x.ndim > 2:
        return None
    return function(x, w, y, linear_bias=b, reduction=reduction, **options)


def bad_bias(name: str) -> list[Bad]:
    return [
        *bad(name, ValueError, np.ones(5, "f4"), np.ones((6, 1), "f4"), np.float32(1.0)),
        *bad(name, TypeError, np.ones(6), np.ones(6, "f2"), "text", [1.0] * 6),
    ]


BAD = (*BAD_BUDGET, *bad_bias("linear_bias"))
OF_LINEAR: dict[str, Any] = {
    "gradients": FIELDS,
    "loss_axes": 1,
    "bound": bound,
    "derivative_bound": derivative_bound,
    "shapes": ((4, 3, 12), (2, 3, 70)),
    "sizes": (
        *((rows, vocabulary) for rows in (1, 2, 7) for vocabulary in (1, 2, 10, 65)),
        *((300, vocabulary) for vocabulary in (1, 65)),
        (7, 3000),
        (10,),
        (2, 3, 2, 70),
    ),
    "large": ((150, 1000), (20, 40, 70)),
    "empty": ((0, 10), (3, 0, 6)),
    "shared": ("linear_weight", "linear_bias"),
    "same_bits": False,
    "quotients": (1e-7, 2e-8),
    "room": lambda c, name: np.isfinite(np.asarray(c[name], np.float64)).astype(float),
}
WEIGHT = Option("weight", class_weights)
CROSS_ENTROPY = Row(
    "linear_cross_entropy",
    indices,
    sets=(
        *every_one_with_every_other(label_smoothing=0.1, z_loss=0.05, softcap=8.0, temperature=1.7),
        softmax.SCALED,
    ),
    extras=(Option("ignore_index", ignore_rows), WEIGHT, softmax.SAMPLE_WEIGHT),
    divisor=sum_of_weights,
    integers=("target",),
    bad=(*BAD, *numbers("filter_eps", -1e-6)),
    torch=in_torch,
    **OF_LINEAR,
)
OF_PROBABILITIES = replace(
    CROSS_ENTROPY,
    label="probabilities",
    make=partial(indices, has_probabilities=True),
    extras=(WEIGHT, softmax.SAMPLE_WEIGHT),
    integers=(),
)
LOG_PROBS = Row(
    "linear_token_log_probs",
    indices,
    sets=(*every_one_with_every_other(softcap=8.0, temperature=1.7), softmax.SCALED),
    extras=(Option("ignore_index", ignore_rows),),
    divisor=softmax.tokens,
    integers=("target",),
    bad=BAD,
    **OF_LINEAR,
)


def statistics_bound(c: Call) -> tuple[Array, ...]:
    return tuple(RELATIVE[loss_dtype(c.dtype)] * np.maximum(np.abs(one), 1.0) for one in c.expected[0])


STATISTICS = Row(
    "linear_token_statistics",
    indices,
    fixed={"outputs": reference.TokenStatistics._fields},
    sets=LOG_PROBS.sets,
    extras=LOG_PROBS.extras,
    reductions=(),
    returns="arrays",
    divisor=None,
    integers=("target",),
    bad=(*BAD, *softmax.BAD_OUTPUTS),
    **{**OF_LINEAR, "bound": statistics_bound},
)
ROWS = [CROSS_ENTROPY, OF_PROBABILITIES, LOG_PROBS, STATISTICS]
