"""Rows of the divergences of two rows of logits, with one gradient and with both."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from helpers import INF, NAN, Array, Options, Shape, bad, bad_numbers, loss_dtype, smallest_normal
from registry import Call, Option, Row

from fastloss import reference

BETAS = (0.0, 0.1, 0.5, 0.9, 1.0)
FIELDS = ("student_logits", "teacher_logits")


def pair(rng: np.random.Generator, shape: Shape, options: Options) -> dict[str, Array]:
    """Student and teacher, in rows of five kinds in turn.

    One is narrow, one wide; in one the two are shifted by 1e4, to either side; in one they are near each
    other; in one some classes are masked in both.
    """
    classes = shape[-1]
    s, t = np.clip(1.2 * rng.standard_normal((2, math.prod(shape[:-1]), classes)), -2.5, 2.5)
    s[1::5] *= 6.0
    t[1::5] *= 6.0
    s[2::5] += 1e4
    t[2::5] -= 1e4
    t[3::5] = s[3::5] + 0.3 * rng.standard_normal(s[3::5].shape)
    masked = rng.random(s[4::5].shape) < 0.25
    masked[:, -1] = False
    s[4::5][masked] = t[4::5][masked] = -INF
    return {"student_logits": s.reshape(shape), "teacher_logits": t.reshape(shape)}


def row_mask(rng: np.random.Generator, a: dict[str, Array], kind: str) -> Array:
    """Rows under a mask of 0 hold NaN, in the student or in the teacher."""
    student, teacher = a.values()
    counts = np.asarray(rng.random(student.shape[:-1]) < 0.6)
    if counts.ndim == 0:
        return np.ones((), kind)
    counts.reshape(-1)[:1], counts.reshape(-1)[-1:] = False, True
    unread = np.nonzero(~counts)
    student[tuple(i[::2] for i in unread)] = teacher[tuple(i[1::2] for i in unread)] = NAN
    return counts.astype(kind)


def masks(make: Callable[..., Array]) -> tuple[Option, ...]:
    kinds = ("bool", "int8", "float32")
    return tuple(Option("mask", partial(make, kind=kind), f"{kind} mask") for kind in kinds)


MASKS = masks(row_mask)


# What to be within


def weight(c: Call) -> float:
    """The beta that is meant: a KL divergence is a JS divergence of beta 0."""
    return 0.0 if c.row.name == "kl_div_with_logits" else c.get("beta", 0.5)


def is_tv(c: Call) -> bool:
    return c.row.name == "tv_distance_with_logits"


def divisor(c: Call) -> float:
    return max(float(c.counts.sum()), 1.0)


def bound(c: Call) -> Array:
    size = np.abs(c.expected_losses)
    rows = 1e-13 * np.maximum(size, 1.0) if c.dtype == "float64" else np.maximum(1e-6, 2e-6 * size)
    return np.asarray(rows if c.reduction == "none" else (rows * c.counts).sum() / c.denominator)


def largest_of_rows(terms: Array) -> Array:
    """Of each row, without what is no number: that row has no bound of its own."""
    return np.asarray(np.where(np.isfinite(terms), terms, 0.0).max(axis=-1, initial=0.0))


def log_probs(c: Call) -> tuple[Array, Array]:
    """log(p) and log(q), 0 for rows that do not count."""
    found = []
    with np.errstate(invalid="ignore", over="ignore"):
        for logits in (c["teacher_logits"], c["student_logits"]):
            x = np.where(c.counts[..., np.newaxis], np.asarray(logits, np.float64), 0.0)
            below = (x - x.max(axis=-1, keepdims=True)) / c.options.get("temperature", 1.0)
            found.append(reference.log_softmax(below))
    return found[0], found[1]


@np.errstate(invalid="ignore", over="ignore", divide="ignore")
def size_of_terms(c: Call, name: str) -> Array:
    """Of each row the largest of the terms that a gradient is made of."""
    log_p, log_q = log_probs(c)
    p, q, beta = np.exp(log_p), np.exp(log_q), weight(c)
    plain = largest_of_rows(np.maximum(p, q))
    if is_tv(c):
        return plain
    if beta in (0.0, 1.0):
        if (name == "student_logits") == (beta == 0.0):
            return plain
        # KL(a || b) by the logits of a: differences of a * log(a / b), and of a * KL.
        a, r = (q, log_q - log_p) if beta else (p, log_p - log_q)
        terms = np.abs(np.where(a == 0.0, 0.0, a * r)), a * c.expected_losses[..., np.newaxis]
        return np.maximum(plain, largest_of_rows(np.maximum(*terms)))
    log_m = np.logaddexp(math.log(beta) + log_p, math.log1p(-beta) + log_q)
    first = np.where(p == 0.0, 0.0, p * np.abs(log_p - log_m))
    second = np.where(q == 0.0, 0.0, q * np.abs(log_q - log_m))
    return np.maximum(plain, largest_of_rows(first + second))


def slack(c: Call, name: str) -> Array | float:
    """What a total variation may be off besides, where rounding decides which of p and q is larger."""
    if not is_tv(c) or c.shape[-1] == 1:
        return 0.0
    log_p, log_q = log_probs(c)
    with np.errstate(invalid="ignore"):
        close = np.abs(log_p - log_q) <= (1e-14 if c.dtype == "float64" else 1e-6) * (2.0 - log_p)
    every = np.exp(log_q if name == "student_logits" else log_p)
    near = np.where(close, every, 0.0)
    return np.asarray(near + every * near.sum(axis=-1, keepdims=True))


def derivative_bound(c: Call, name: str) -> Array:
    """Relative to the size of the terms."""
    upstream = np.where(c.counts, c.upstream / c.options.get("temperature", 1.0) / c.denominator, 0.0)
    factor = upstream[..., np.newaxis]
    size = np.broadcast_to(size_of_terms(c, name)[..., np.newaxis] * factor, c.shape)
    relative = 1e-13 if c.dtype == "float64" else 1e-6
    return np.asarray(
        relative * size + smallest_normal(loss_dtype(c.dtype)) + np.nan_to_num(slack(c, name) * factor)
    )


def settle(c: Call, name: str, actual: Array, expected: Array) -> None:
    """By the logits of a, an infinite KL(a || b) has no number, and 0 where a is 0. So has a masked class."""
    title = f"{c.title} {name}"
    if weight(c) == 1.0 - FIELDS.index(name) and not is_tv(c):
        infinite = np.isinf(c.expected_losses) & c.counts
        finite = np.isfinite(actual[infinite])
        assert (finite == (expected[infinite] == 0.0)).all(), title
        assert not actual[infinite][finite].any(), title
        expected[infinite] = actual[infinite] = 0.0
    masked = (np.asarray(c[name], np.float64) == -INF) & ~np.isnan(c.expected_losses)[..., np.newaxis]
    assert not actual[masked].any(), f"{title} of a masked class"


def room(c: Call, name: str) -> Array:
    """Away from where a total variation has a kink, without the rows shifted by 1e4."""
    logits = np.asarray(c[name], np.float64)
    where = np.isfinite(logits) & (np.abs(logits) < 5e3).all(
        axis=-1, keepdims=True, where=np.isfinite(logits)
    )
    if is_tv(c):
        log_p, log_q = log_probs(c)
        with np.errstate(invalid="ignore"):
            close = np.isfinite(log_p) & (np.abs(log_p - log_q) < 0.05)
        where &= ~close.any(axis=-1, keepdims=True)
    return where.astype(float)


def in_torch(row: Row, torch: Any, tensors: dict[str, Any], options: Options, reduction: str) -> Any:
    if reduction != "none" or "mask" in options:
        return None
    kl_div = torch.nn.functional.kl_div
    student, teacher = (x / options.get("temperature", 1.0) for x in tensors.values())
    log_q, log_p = (torch.log_softmax(x, dim=-1) for x in (student, teacher))
    if row.name == "tv_distance_with_logits":
        theirs = 0.5 * (log_p.exp() - log_q.exp()).abs()
    elif row.name == "kl_div_with_logits":
        theirs = kl_div(log_q, log_p, reduction="none", log_target=True)
    else:
        beta = torch.tensor(row.fixed.get("beta", 0.5), dtype=torch.float64)
        both = torch.stack([log_q + torch.log(1 - beta), log_p + torch.log(beta)])
        log_m = torch.logsumexp(both, dim=0)
        of_p, of_q = (kl_div(log_m, x, reduction="none", log_target=True) for x in (log_p, log_q))
        theirs = beta * of_p + (1 - beta) * of_q
    return theirs.sum(dim=-1)


def divergence(name: str, bad_options: tuple[Any, ...] = ()) -> Row:
    return Row(
        name,
        pair,
        gradients=FIELDS,
        loss_axes=1,
        fixed={"teacher_grad": True},
        sets=({}, {"temperature": 0.5}, {"temperature": 4.0}, {"temperature": 2.0}),
        extras=MASKS,
        bound=bound,
        derivative_bound=derivative_bound,
        divisor=divisor,
        shapes=((3, 4, 9), (3, 4, 90)),
        # 42 rows are two groups of 16 and a part; long rows go one by one.
        sizes=(
            *((7, 6, c) if c < 65 else (3, 2, c) for c in (1, 2, 3, 10, 64, 65, 1000, 5000)),
            (2, 40, 33),
            (9,),
            (4, 6),
            (2, 1, 2, 3, 70),
            (2, 70_000),
        ),
        large=((300, 10, 10), (70, 10, 64), (2, 7, 5000), (1, 300_000), (3, 100_000)),
        empty=((0, 5), (3, 0, 5), (0, 4, 100)),
        room=room,
        quotients=(1e-6, 5e-9),
        settle=settle,
        bad=(*bad("teacher_grad", TypeError, 1, 0, None, "yes", [True], 1.0), *bad_options),
    )


def with_beta(row: Row, beta: float) -> Row:
    return replace(row.with_(beta=beta), sizes=tuple(shape for shape in row.sizes if shape[-1] < 1000))


def alone(row: Row) -> Row:
    """With the gradient of the student alone."""
    fixed = {name: value for name, value in row.fixed.items() if name != "teacher_grad"}
    sizes = tuple(shape for shape in row.sizes if shape[-1] < 70_000)
    return replace(row, gradients=FIELDS[:1], fixed=fixed, sizes=sizes, large=row.large[:3])


OF_JS = (*bad_numbers("beta", -0.1, 1.1, -1, 2, np.float32(1.5)), *bad("beta", TypeError, None))
KL, JS, TV = (
    divergence("kl_div_with_logits"),
    divergence("js_div_with_logits", OF_JS),
    divergence("tv_distance_with_logits"),
)
OF_BETA = tuple(with_beta(JS, beta) for beta in BETAS)
PLAIN = (KL, JS, OF_BETA[3], TV)
ALL = (KL, JS, *OF_BETA, TV)
# Torch has no limit of a Jensen-Shannon divergence.
ROWS = [
    replace(row, torch=None if row.fixed.get("beta") in (0.0, 1.0) else partial(in_torch, row))
    for row in (*ALL, *map(alone, PLAIN))
]
