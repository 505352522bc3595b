"""Rows of the divergences of two linear layers, with and without hard targets.

The vocabulary is the last axis of a row's shape; the widths of student and teacher follow from it.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from helpers import INF, NAN, Array, Options, Shape, bad, bad_numbers, largest, loss_dtype, smallest_normal
from registry import Call, Row

from fastloss import reference

from . import divergences, linear
from .contrastive import BAD_BUDGET

FIELDS = ("student_input", "student_weight", "student_bias")
# Their functions of logits.
OF_LOGITS = {
    "linear_kl_div": "kl_div_with_logits",
    "linear_js_div": "js_div_with_logits",
    "linear_tv_distance": "tv_distance_with_logits",
}
# Of the hard rows: the class that is ignored.
IGNORED = 2


def pair(rng: np.random.Generator, shape: Shape, options: Options) -> dict[str, Array]:
    """Student and teacher of widths that differ; both logits are between -10 and 10."""
    width = linear.width_of(shape)
    found = {}
    for side, features in (("student", width), ("teacher", width + 2)):
        made = linear.set_up(rng, shape[:-1], features, shape[-1], False)
        found |= {f"{side}_input": made["input"], f"{side}_weight": made["linear_weight"]}
        found[f"{side}_bias"] = made["linear_bias"]
    order = ("student_input", "student_weight", "teacher_input", "teacher_weight", "student_bias")
    return {name: found[name] for name in (*order, "teacher_bias")}


def with_hard(rng: np.random.Generator, shape: Shape, options: Options) -> dict[str, Array]:
    """A third of the hard targets is ignored, but not all."""
    target = np.asarray(rng.integers(0, shape[-1], shape[:-1]))
    target.reshape(-1)[1::3] = IGNORED
    target.reshape(-1)[:1] = 0
    return {**pair(rng, shape, options), "hard_target": target}


def mask_of_tokens(rng: np.random.Generator, a: dict[str, Array], kind: str) -> Array:
    """Tokens under a mask of 0 hold NaN or infinity, in the student or in the teacher.

    Their hard targets are no classes.
    """
    student, teacher = a["student_input"], a["teacher_input"]
    counts = np.asarray(rng.random(student.shape[:-1]) < 0.6)
    if counts.ndim == 0:
        return np.ones((), kind)
    counts.reshape(-1)[1:2], counts.reshape(-1)[:1] = False, True
    unread = np.nonzero(~counts)
    student[tuple(i[::2] for i in unread)] = NAN
    teacher[tuple(i[1::2] for i in unread)] = INF
    if "hard_target" in a:
        a["hard_target"][unread] = 10**6
    return counts.astype(kind)


MASKS = divergences.masks(mask_of_tokens)
SETS: tuple[Options, ...] = (
    {},
    {"temperature": 1.7},
    {"student_softcap": 8.0},
    {"teacher_softcap": 6.0, "teacher_logit_scale": 0.7},
    {
        "temperature": 1.7, "student_softcap": 8.0, "teacher_softcap": 6.0, "student_logit_scale": 1.3,
        "teacher_logit_scale": 0.7,
    },
)  # fmt: skip


def logits_of(c: Call, side: str) -> Array:
    """Before scale and softcap, of the tokens that count."""
    x, w, b = (np.asarray(c[f"{side}_{name}"], np.float64) for name in ("input", "weight", "bias"))
    return np.asarray(np.where(c.counts[..., np.newaxis], x, 0.0) @ w.T + b)


@np.errstate(all="ignore")
def largest_probability(c: Call) -> float:
    """The gradient of the logits is made of terms of this size, times upstream gradient and scale."""
    scale = c.get("student_logit_scale", 1.0) / min(c.get("temperature", 1.0), 1.0)
    upstream = np.where(c.counts, c.upstream, 0.0)
    count = divergences.divisor(c) if c.reduction == "mean" else 1.0
    if c.get("hard_share", 0.0) > 0.0 and c.reduction == "mean":
        count = max(float((c.counts & (c["hard_target"] != IGNORED)).sum()), 1.0)
    return float(scale * largest(upstream) / count)


def log_probs(c: Call, side: str) -> Array:
    """The logarithms of the probabilities of a student or teacher."""
    z = c.get(f"{side}_logit_scale", 1.0) * logits_of(c, side)
    cap = c.get(f"{side}_softcap", None)
    z = z if cap is None else cap * np.tanh(z / cap)
    return reference.log_softmax(z / c.get("temperature", 1.0))


@np.errstate(invalid="ignore")
def undecided(c: Call) -> float:
    """How much probability a total variation has where rounding decides which of p and q is larger."""
    if c.row.name != "linear_tv_distance":
        return 0.0
    log_p, log_q = log_probs(c, "teacher"), log_probs(c, "student")
    close = np.abs(log_p - log_q) <= (1e-12 if c.dtype == "float64" else 1e-5)
    return float(np.where(close & c.counts[..., np.newaxis], np.exp(log_q), 0.0).sum())


def derivative_bound(c: Call, name: str) -> Array:
    """Relative to the largest entry, and to the largest product of a term, as terms cancel."""
    computed = loss_dtype(c.dtype)
    exact = c.expected[1][FIELDS.index(name)]
    x, w = np.asarray(c["student_input"], np.float64), np.asarray(c["student_weight"], np.float64)
    beside = {"student_input": largest(w), "student_weight": largest(x[c.counts]), "student_bias": 1.0}[name]
    unit = largest_probability(c) * beside
    most = linear.RELATIVE[computed] * max(largest(exact), unit)
    return np.full(exact.shape, most + unit * undecided(c) + smallest_normal(computed))


def in_torch(row: Row, torch: Any, tensors: dict[str, Any], options: Options, reduction: str) -> Any:
    """From the two products, by the formulas of TRL."""
    if reduction != "none" or "mask" in options or row.fixed.get("hard_share"):
        return None

    def logits(side: str) -> Any:
        z = torch.nn.functional.linear(*(tensors[f"{side}_{name}"] for name in ("input", "weight", "bias")))
        z, cap = z * options.get(f"{side}_logit_scale", 1.0), options.get(f"{side}_softcap")
        return z if cap is None else cap * torch.tanh(z / cap)

    sides, like = ("student", "teacher"), replace(row, name=OF_LOGITS[row.name])
    if row.fixed.get("beta") == 1.0:  # the other direction
        sides, like = sides[::-1], replace(row, name="kl_div_with_logits")
    return divergences.in_torch(like, torch, {side: logits(side) for side in sides}, options, reduction)


def room(c: Call, name: str) -> Array:
    """Away from where a total variation has a kink, in the token or in any token."""
    where = np.isfinite(np.asarray(c[name], np.float64))
    if c.row.name != "linear_tv_distance":
        return where.astype(float)
    close = (np.abs(log_probs(c, "student") - log_probs(c, "teacher")) < 0.05).any(axis=-1) & c.counts
    return (where & ~(close[..., np.newaxis] if name == "student_input" else close.any())).astype(float)


BAD = (
    *BAD_BUDGET,
    *linear.bad_bias("student_bias"),
    *linear.bad_bias("teacher_bias"),
    *bad("teacher_input", ValueError, np.ones((3, 7), "f4"), np.ones(7, "f4"), np.ones((4, 1, 7), "f4")),
    *bad("teacher_weight", ValueError, np.ones((6, 4), "f4"), np.ones(6, "f4")),
    *bad("return_entropy", TypeError, 1, 0, None, "yes", [True]),
    *(
        one
        for side in ("student", "teacher")
        for name, more in (("softcap", (0.0,)), ("logit_scale", (0.0, 5e-324)))
        for one in bad(f"{side}_{name}", ValueError, *more, -1.0, NAN, INF)
    ),
    *bad("student_softcap", TypeError, True, "30", [30.0]),
    *bad("teacher_logit_scale", TypeError, True, "1", None, [1.0]),
)
OF_HARD = (
    *bad_numbers("hard_share", -0.1, 1.1),
    *bad("hard_share", ValueError, 0.3),
    *bad("hard_target", ValueError, np.zeros(4, int)),
    *bad("hard_target", ValueError, np.zeros(3, int), 0, np.zeros((4, 6), int), hard_share=0.3),
    *bad("hard_target", TypeError, np.zeros(4), np.zeros(4, bool), "text", hard_share=0.3),
    *bad("hard_target", IndexError, np.array([0, 1, 6, 2]), np.array([-1, 0, 0, 0]), hard_share=0.3),
)


def divergence(name: str, more: tuple[Any, ...] = (), **fixed: Any) -> Row:
    return Row(
        name,
        pair,
        sets=SETS,
        fixed=fixed,
        extras=MASKS,
        divisor=divergences.divisor,
        bad=(*BAD, *OF_HARD, *more),
        **{
            **linear.OF_LINEAR,
            "gradients": FIELDS,
            "shared": ("student_weight", "student_bias", "teacher_weight", "teacher_bias"),
            "derivative_bound": derivative_bound,
            "room": room,
        },
    )


def hard(row: Row, share: float) -> Row:
    """With hard targets, one of whose classes is ignored."""
    return replace(
        row.with_(hard_share=share, ignore_index=IGNORED),
        make=with_hard,
        label="hard",
        integers=("hard_target",),
        divisor=None,
        bad=(),
    )


KL, JS, TV = (
    divergence("linear_kl_div"),
    divergence("linear_js_div", divergences.OF_JS),
    divergence("linear_tv_distance"),
)
REVERSE = divergence("linear_js_div", beta=1.0)
ROWS = [
    *(
        replace(r, torch=partial(in_torch, r))
        for r in (KL, JS, divergence("linear_js_div", beta=0.2), REVERSE, TV)
    ),
    *(hard(row, share) for row, share in ((KL, 0.3), (REVERSE, 1.0), (TV, 0.6))),
]
