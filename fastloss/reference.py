"""The reference implementation of every loss, in plain NumPy.

Each function has the name, the arguments and the meaning of the compiled function, follows the formula in
its docstring line by line, and computes in float64 for any input dtype (float16 and ml_dtypes.bfloat16
included). The tests compare the kernels with it, it documents the exact meaning of each loss, and
benchmarks use it as the baseline. It shares no code with the kernels, is not optimised for speed or memory,
and checks only arguments that would otherwise give a wrong result silently.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "adaptive_log_softmax_with_loss",
    "aft_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cosine_embedding_loss",
    "cox_ph_loss",
    "cpo_loss",
    "cross_entropy",
    "crps_loss",
    "ctc_loss",
    "ctc_loss_with_logits",
    "dpo_loss",
    "elastic_net_penalty",
    "entropy",
    "epsilon_insensitive_loss",
    "gamma_nll_loss",
    "gaussian_nll_loss",
    "generalized_cross_entropy",
    "grpo_loss",
    "hinge_embedding_loss",
    "hinge_loss",
    "huber_loss",
    "info_nce_loss",
    "interpret",
    "js_div_with_logits",
    "kl_div",
    "kl_div_with_logits",
    "kl_penalty",
    "kto_loss",
    "l1_loss",
    "l1_penalty",
    "l2_penalty",
    "lambda_rank_loss",
    "linear_cross_entropy",
    "linear_js_div",
    "linear_kl_div",
    "linear_token_log_probs",
    "linear_token_statistics",
    "linear_tv_distance",
    "list_net_loss",
    "log_cosh_loss",
    "log_softmax",
    "logsumexp",
    "margin_ranking_loss",
    "mean_squared_log_loss",
    "mse_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "negative_binomial_nll_loss",
    "nll_loss",
    "orpo_loss",
    "perplexity",
    "poisson_nll_loss",
    "poly_loss",
    "ppo_loss",
    "preference_rewards",
    "quantile_loss",
    "reward_model_loss",
    "sequence_log_probs",
    "siglip_loss",
    "sigmoid_focal_loss",
    "simpo_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
    "softmax",
    "softmax_focal_loss",
    "sparsemax_loss",
    "squared_hinge_loss",
    "student_t_nll_loss",
    "token_log_probs",
    "token_statistics",
    "triplet_margin_loss",
    "tv_distance_with_logits",
    "tweedie_nll_loss",
    "value_loss",
]

Array = npt.NDArray[np.float64]
# A loss: a number, the pair of a sum and its count, or an array.
Loss = float | tuple[float, float] | Array
# The result of a call: the loss, and on request the gradient and the second derivative.
Result = Loss | tuple[Loss, Array] | tuple[Loss, Array, Array]

# Below, the classes are always the last axis, and reductions over them keep that axis.


def _classes_last(name: str, x: npt.ArrayLike, axis: int) -> Array:
    """Return `x` as float64 with its class axis moved to the end."""
    array = np.asarray(x, dtype=np.float64)
    if array.ndim == 0:
        raise ValueError(f"{name} needs a class axis, got a scalar")
    array = np.moveaxis(array, axis, -1)
    if array.shape[-1] == 0:
        raise ValueError(f"{name} has no classes along axis {axis}")
    return array


def _class_indices(
    target: npt.ArrayLike, rows: tuple[int, ...], classes: int, ignore_index: int
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.intp]]:
    """Return a flat mask of the rows that count, and the class index of each of them."""
    indices = np.asarray(target)
    if not np.issubdtype(indices.dtype, np.integer):
        raise TypeError(f"target must hold integer class indices, got {indices.dtype}")
    if indices.shape != rows:
        raise ValueError(f"target must have shape {rows}, got {indices.shape}")
    indices = indices.reshape(-1)
    counted = indices != ignore_index
    bad = np.flatnonzero(counted & ((indices < 0) | (indices >= classes)))
    if bad.size > 0:
        raise IndexError(f"target {indices[bad[0]]} at row {bad[0]} is not a class index below {classes}")
    return counted, indices[counted].astype(np.intp)


def _per_row(name: str, value: npt.ArrayLike | None, shape: tuple[int, ...]) -> Array:
    """Return `value`, a scalar (1 if absent) or an array of exactly `shape`, in that shape."""
    array = np.asarray(1.0 if value is None else value, dtype=np.float64)
    if array.shape not in ((), shape):
        raise ValueError(f"{name} must be a scalar or have shape {shape}, got {array.shape}")
    return np.broadcast_to(array, shape)


def _per_class(weight: npt.ArrayLike | None, classes: int) -> Array:
    """Return the class weights, 1 if absent."""
    array = np.asarray(np.ones(classes) if weight is None else weight, dtype=np.float64)
    if array.shape != (classes,):
        raise ValueError(f"weight must have shape {(classes,)}, got {array.shape}")
    return array


def _upstream(
    grad_output: npt.ArrayLike | None, reduction: str, rows: tuple[int, ...], return_grad: bool
) -> Array:
    """Check the common arguments; return the upstream gradient of each row, flat."""
    if reduction not in ("mean", "sum", "none", "sum_and_count"):
        raise ValueError(f'reduction must be "mean", "sum", "none" or "sum_and_count", got {reduction!r}')
    if grad_output is not None and not return_grad:
        raise ValueError("grad_output needs return_grad=True")
    upstream = _per_row("grad_output", grad_output, rows if reduction == "none" else ())
    return np.broadcast_to(upstream, rows).reshape(-1)


def _reduced(
    losses: Array, count: float, reduction: str, *, is_masked: bool = False
) -> tuple[Loss, np.float64]:
    """Return the loss, and what the gradient of its sum is divided by.

    A mean divides by the count: it is NaN if nothing counts, but 0 if a mask leaves nothing.
    """
    divisor = np.float64(1.0)
    if reduction == "none":
        return losses, divisor
    if reduction == "sum_and_count":
        return (float(losses.sum()), float(count)), divisor
    if reduction == "mean":
        divisor = np.float64(max(count, 1) if is_masked else count)
    return float(losses.sum() / divisor), divisor


def _times(coefficient: Array, term: Array) -> Array:
    """Multiply, with 0 * inf = 0, so that a term without weight vanishes. NaN stays NaN."""
    return np.where((coefficient == 0.0) & np.isinf(term), 0.0, coefficient * term)


def _is_largest(values: Array) -> npt.NDArray[np.bool_]:
    """Return a mask with one True in each row, at its (first) largest value."""
    mask: npt.NDArray[np.bool_] = np.arange(values.shape[-1]) == values.argmax(-1, keepdims=True)
    return mask


def _sum_of_smaller(values: Array) -> Array:
    """Return the sum of each row without its (first) largest value."""
    total: Array = np.where(_is_largest(values), 0.0, values).sum(axis=-1, keepdims=True)
    return total


def _sum_of_others(values: Array) -> Array:
    """Return, for every value (>= 0), the sum of the others in its row, to full precision.

    Total minus value is accurate for a value up to half of the total. Only the largest value can exceed
    that; for it the others are added up instead.
    """
    total = values.sum(axis=-1, keepdims=True)
    return np.where(_is_largest(values), _sum_of_smaller(values), total - values)


def _below_top(scores: Array) -> tuple[Array, Array]:
    """Return the largest score of each row, and the distance of every score from it (<= 0).

    A row whose largest score is not finite (a row with NaN or +inf, or of -inf alone) has no probabilities,
    and is all NaN.
    """
    top = scores.max(axis=-1, keepdims=True)
    top = np.where(np.isfinite(top), top, np.nan)
    return top, scores - top


def _log_sum(below: Array) -> Array:
    """Return log(sum(exp(below))) of scores whose largest is 0, to full precision near 0.

    The largest is the 1 in log1p, so that a confident row keeps the digits of the small scores.
    """
    return np.log1p(_sum_of_smaller(np.exp(below)))


@np.errstate(invalid="ignore", over="ignore")
def logsumexp(x: npt.ArrayLike, *, axis: int = -1) -> Array:
    """Logarithm of the sum of the exponentials along an axis.

    The largest value m is subtracted first, so that nothing overflows, and is the 1 in log1p, so that small
    terms keep their digits. A row with NaN gives NaN; a row with +inf gives +inf, and one of -inf alone -inf.

        logsumexp(x) = log(sum_c exp(x_c)) = m + log1p(sum over the others of exp(x_c - m))
    """
    scores = _classes_last("x", x, axis)
    top, below = _below_top(scores)
    largest = scores.max(axis=-1, keepdims=True)
    return np.where(np.isinf(largest), largest, top + _log_sum(below)).squeeze(axis=-1)


@np.errstate(invalid="ignore", over="ignore")
def log_softmax(x: npt.ArrayLike, *, axis: int = -1) -> Array:
    """Logarithm of the softmax along an axis.

    A -inf is a masked class and stays -inf. A row with NaN or +inf, or of -inf alone, gives NaN.

        log_softmax(x)_c = x_c - logsumexp(x)
    """
    _, below = _below_top(_classes_last("x", x, axis))
    return np.moveaxis(below - _log_sum(below), -1, axis)


@np.errstate(invalid="ignore", over="ignore")
def softmax(x: npt.ArrayLike, *, axis: int = -1) -> Array:
    """Exponentials along an axis, divided by their sum: the probabilities of the classes.

    A -inf is a masked class and has probability 0. A row with NaN or +inf, or of -inf alone, gives NaN.

        softmax(x)_c = exp(x_c) / sum_j exp(x_j)
    """
    _, below = _below_top(_classes_last("x", x, axis))
    exps = np.exp(below)
    return np.moveaxis(exps / exps.sum(axis=-1, keepdims=True), -1, axis)


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def cross_entropy(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    axis: int = -1,
    weight: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    sample_weight: npt.ArrayLike | None = None,
    z_loss: float = 0.0,
    softcap: float | None = None,
    temperature: float = 1.0,
    logit_scale: float = 1.0,
    reduction: str = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """Cross entropy between the softmax of the logits and the target, row by row.

    The target holds class indices (integers, shaped like the logits without the class axis) or
    probabilities (floats, shaped like the logits). With class weights w, sample weight s, smoothing
    eps, C classes and target probabilities q (for a class index y: 1 at y, 0 elsewhere), a row is

        x    = logit_scale * logits
        z    = softcap * tanh(x / softcap) / temperature, or x / temperature without
        lse  = log(sum_c exp(z_c))
        q'   = (1 - eps) * q + eps / C
        loss = s * [ sum_c w_c * q'_c * (lse - z_c)  +  v * z_loss * lse**2 ]

    where v is w_y for a class index and 1 for probabilities. "mean" divides the sum of the rows by the sum
    of v * s. A row whose class index is `ignore_index` is left out: its loss and gradient are 0, and its
    values are never read. A logit of -inf masks its class: it stays -inf through the softcap, has
    probability and gradient 0, and contributes 0 where w_c * q'_c is 0. With return_grad the second result
    is the gradient with respect to the logits, times grad_output; with return_hessian the third is the
    diagonal of the second derivative, scaled in the same way.
    """
    if return_hessian and not return_grad:
        raise ValueError("return_hessian needs return_grad=True")
    moved = _classes_last("logits", logits, axis)
    rows, classes = moved.shape[:-1], moved.shape[-1]
    class_weight = _per_class(weight, classes)
    upstream = _upstream(grad_output, reduction, rows, return_grad)
    samples = _per_row("sample_weight", sample_weight, rows).reshape(-1)
    _option("label_smoothing", label_smoothing, 0.0 <= label_smoothing <= 1.0, "in [0, 1]")
    _option("z_loss", z_loss, True, "finite")
    _positive(softcap=softcap, temperature=temperature, logit_scale=logit_scale)
    has_indices = np.asarray(target).dtype.kind in "biu"
    if has_indices:
        counted, probs, share = _of_indices(target, rows, class_weight, ignore_index)
    else:
        counted, probs, share = _of_probabilities(target, np.shape(logits), axis, ignore_index)
    raw = logit_scale * moved.reshape(-1, classes)[counted]
    sample = samples[counted, np.newaxis]
    row_weight = sample * share[:, np.newaxis]

    top, below = _scores(_softcapped(raw, softcap), temperature)
    log_sum = _log_sum(below)
    lse = top + log_sum

    # loss = sum_c a_c * (lse - z_c) + b * lse**2, where a_c = s * w_c * q'_c and b = s * v * z_loss
    smooth = (1.0 - label_smoothing) * probs + label_smoothing / classes
    a = sample * np.where(smooth == 0.0, 0.0, class_weight * smooth)
    b = row_weight * z_loss
    loss = _times(a, log_sum - below).sum(axis=-1, keepdims=True) + _times(b, lse**2)

    losses = np.zeros(samples.size)
    losses[counted] = loss[:, 0]
    result, denominator = _reduced(losses.reshape(rows), row_weight.sum(), reduction)
    if not return_grad:
        return result

    def to_logits(of_counted: Array) -> Array:
        """Return rows in the shape of the logits, with 0 for ignored rows and for rows without weight."""
        full = np.zeros((samples.size, classes))
        full[counted] = _times(of_counted, upstream[counted, np.newaxis] / denominator)
        return np.moveaxis(full.reshape(moved.shape), -1, axis)

    # The loss does not depend on a masked class, whose derivatives are 0. If it is the target itself, the
    # formulas hold. A row whose loss is NaN is all NaN.
    counts = (raw != -np.inf) | (has_indices & (probs == 1.0)) | np.isnan(loss)
    by_scores = [np.where(counts, one, 0.0) for one in _by_scores(below, a, b, lse, 1 + return_hessian)]
    by_logits = _by_map(by_scores, raw, softcap, temperature)
    grads = to_logits(by_logits[0] * logit_scale)
    return (result, grads, to_logits(by_logits[1] * logit_scale**2)) if return_hessian else (result, grads)


def _of_indices(
    target: npt.ArrayLike, rows: tuple[int, ...], class_weight: Array, ignore_index: int
) -> tuple[npt.NDArray[np.bool_], Array, Array]:
    """Return which rows count, and of these the target as probabilities and the weight of its class, v."""
    counted, y = _class_indices(target, rows, len(class_weight), ignore_index)
    return counted, (np.arange(len(class_weight)) == y[:, np.newaxis]).astype(np.float64), class_weight[y]


def _of_probabilities(
    target: npt.ArrayLike, shape: tuple[int, ...], axis: int, ignore_index: int
) -> tuple[npt.NDArray[np.bool_], Array, Array]:
    """Return the same of probabilities: every row counts, and v is 1."""
    if ignore_index >= 0:
        raise ValueError("ignore_index is for class indices, target holds probabilities")
    if np.shape(target) != shape:
        raise ValueError(f"target must have the shape of logits {shape}, got {np.shape(target)}")
    probs = _classes_last("target", target, axis).reshape(-1, shape[axis])
    return np.ones(len(probs), dtype=np.bool_), probs, np.ones(len(probs))


def _softcapped(x: Array, softcap: float | None) -> Array:
    """Return the scaled logits under a softcap; a masked class stays -inf."""
    return x if softcap is None else np.where(x == -np.inf, x, softcap * np.tanh(x / softcap))


def _scores(capped: Array, temperature: float) -> tuple[Array, Array]:
    """Return the largest of the scores z of each row, and the distance of every score from it.

    The largest is subtracted before the division by the temperature, so that a large common shift of the
    logits costs no digits.
    """
    top, below = _below_top(capped)
    return top / temperature, below / temperature


def _by_scores(below: Array, a: Array, b: Array, lse: Array, number: int) -> list[Array]:
    """Return the first derivative of a cross entropy with respect to the scores z, and the second of two.

    With p = softmax(z), d lse / d z_k = p_k, so

        d loss / d z_k = sum_c a_c * p_k - a_k + 2 * b * lse * p_k.

    For a confident row the first two terms cancel (p_y - 1 for a class index y). Taking a_k * p_k out of both
    leaves

        d loss / d z_k = p_k * sum_{c != k} a_c - a_k * sum_{c != k} p_c + 2 * b * lse * p_k,

    in which a class index has -w_y * sum_{c != y} p_c at y, to full precision. Once more, with
    K = sum_c a_c and d p_k / d z_k = p_k * (1 - p_k):

        d2 loss / d z_k**2 = (K + 2 * b * lse) * p_k * (1 - p_k) + 2 * b * p_k**2,

    where 1 - p_k = sum_{c != k} p_c, to full precision.
    """
    exps = np.exp(below)
    total = exps.sum(axis=-1, keepdims=True)
    p, others = exps / total, _sum_of_others(exps) / total
    pull = _times(2.0 * b, lse)
    first = p * _sum_of_others(a) - a * others + pull * p
    if number == 1:
        return [first]
    return [first, (a.sum(axis=-1, keepdims=True) + pull) * p * others + 2.0 * b * p * p]


def _by_map(by_scores: list[Array], x: Array, softcap: float | None, temperature: float) -> list[Array]:
    """Return derivatives with respect to the scaled logits x, from those with respect to the scores z.

    As z_k is a function of x_k alone,

        d loss / d x_k      = d loss / d z_k * d z_k / d x_k
        d2 loss / d x_k**2  = d2 loss / d z_k**2 * (d z_k / d x_k)**2 + d loss / d z_k * d2 z_k / d x_k**2
        d z_k / d x_k       = (1 - tanh(x_k / softcap)**2) / temperature, and 1 - tanh**2 = 1 / cosh**2
        d2 z_k / d x_k**2   = -2 / softcap * tanh(x_k / softcap) * d z_k / d x_k, and 0 without a softcap
    """
    first, *second = by_scores
    slope = 1.0 if softcap is None else 1.0 / np.cosh(x / softcap) ** 2
    found = [first * slope / temperature, *(one * (slope / temperature) ** 2 for one in second)]
    if softcap is not None and second:
        bend = -2.0 / softcap * np.tanh(x / softcap) * slope / temperature
        found[1] = found[1] + first * bend
    return found


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def nll_loss(
    log_probs: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    axis: int = -1,
    weight: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    sample_weight: npt.ArrayLike | None = None,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, Array]:
    """Negative log-likelihood of class indices under given log-probabilities.

    Only the value at the target y of each row is read, and none of an ignored row. "mean" divides by the
    sum of w_y * s over the rows that count.

        loss = -s * w_y * log_probs_y
        d loss / d log_probs_y = -s * w_y, and 0 for every other class
    """
    moved = _classes_last("log_probs", log_probs, axis)
    rows, classes = moved.shape[:-1], moved.shape[-1]
    class_weight = _per_class(weight, classes)
    upstream = _upstream(grad_output, reduction, rows, return_grad)
    samples = _per_row("sample_weight", sample_weight, rows).reshape(-1)
    counted, y = _class_indices(target, rows, classes, ignore_index)

    row_weight = samples[counted] * class_weight[y]
    losses = np.zeros(samples.size)
    losses[counted] = _times(row_weight, -moved.reshape(-1, classes)[counted, y])
    result, denominator = _reduced(losses.reshape(rows), row_weight.sum(), reduction)
    if not return_grad:
        return result

    grads = np.zeros((samples.size, classes))
    grads[counted, y] = -row_weight * (upstream[counted] / denominator)
    return result, np.moveaxis(grads.reshape(moved.shape), -1, axis)


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def softmax_focal_loss(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    axis: int = -1,
    gamma: float = 2.0,
    alpha: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, Array]:
    """Cross entropy of class indices, reduced where the probability p_y of the target y is already high.

    `alpha` has a weight for each class, or one for all. "mean" divides by the number of rows that count.

        u    = 1 - p_y = the sum of the other probabilities
        loss = alpha_y * u**gamma * -log(p_y)
        d loss / d x_j = alpha_y * (u**gamma - gamma * u**(gamma - 1) * p_y * log(p_y)) * (p_j - [j = y])
    """
    _option("gamma", gamma, gamma >= 0.0, "finite and at least 0")
    if alpha is not None:
        alpha = np.broadcast_to(alpha, np.shape(logits)[axis])

    def focal(u: Array, p: Array, surprise: Array) -> tuple[Array, Array]:
        # At u = 0 the second term is 0 (or, without gamma, missing); at p_y = 0 it vanishes with p_y log p_y.
        steep = np.where((u == 0.0) | (p == 0.0), 0.0, gamma * u ** (gamma - 1.0) * p * surprise)
        return u**gamma * surprise, u**gamma + steep

    return _focused(
        focal, True, logits, target, axis, alpha, ignore_index, reduction, return_grad, grad_output
    )


def _focused(
    function: Callable[[Array, Array, Array], tuple[Array, Array]],
    is_over_rows: bool,
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    axis: int,
    weight: npt.ArrayLike | None,
    ignore_index: int,
    reduction: str,
    return_grad: bool,
    grad_output: npt.ArrayLike | None,
) -> Loss | tuple[Loss, Array]:
    """Return a loss of the probabilities p_y of the targets, from a function of 1 - p_y, p_y and -log(p_y).

    The function returns the loss and its derivative by -log(p_y), the factor of cross entropy's gradient.
    "mean" divides by the number of rows that count if it is over rows, else by the sum of their weights.
    """
    moved = _classes_last("logits", logits, axis)
    rows, classes = moved.shape[:-1], moved.shape[-1]
    class_weight = _per_class(weight, classes)
    upstream = _upstream(grad_output, reduction, rows, return_grad)
    counted, y = _class_indices(target, rows, classes, ignore_index)

    _, below = _below_top(moved.reshape(-1, classes)[counted])
    exps = np.exp(below)
    total = exps.sum(axis=-1, keepdims=True)
    at = (np.arange(len(y)), y)
    p, others = exps / total, _sum_of_others(exps) / total
    value, slope = function(others[at], p[at], (_log_sum(below) - below)[at])
    losses = np.zeros(counted.size)
    losses[counted] = _times(class_weight[y], value)
    count = counted.sum() if is_over_rows else class_weight[y].sum()
    result, denominator = _reduced(losses.reshape(rows), count, reduction)
    if not return_grad:
        return result

    p[at] = -others[at]
    factor = _times(class_weight[y] * slope, upstream[counted] / denominator)
    grads = np.zeros((counted.size, classes))
    grads[counted] = factor[:, np.newaxis] * p
    return result, np.moveaxis(grads.reshape(moved.shape), -1, axis)


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def poly_loss(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    axis: int = -1,
    epsilon: float = 1.0,
    weight: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, Array]:
    """Cross entropy of class indices, with another coefficient of its first term in 1 - p_y.

    "mean" divides by the sum of w_y over the rows that count.

        u    = 1 - p_y = the sum of the other probabilities
        loss = w_y * (-log(p_y) + epsilon * u)
        d loss / d x_j = w_y * (1 + epsilon * p_y) * (p_j - [j = y])
    """
    _option("epsilon", epsilon, epsilon >= -1.0, "finite and at least -1")

    def poly(u: Array, p: Array, surprise: Array) -> tuple[Array, Array]:
        # 1 + epsilon * p_y = (1 + epsilon) - epsilon * u: without cancellation for an epsilon below 0. There
        # small losses are the sum of the series, the terms (1 + epsilon) * u, u**2 / 2, u**3 / 3 ...
        value, slope = surprise + epsilon * u, 1.0 + epsilon * p
        if epsilon < 0.0:
            series = (1.0 + epsilon) * u + sum(u**k / k for k in range(2, 40))
            value, slope = np.where(u < 0.3, series, value), (1.0 + epsilon) - epsilon * u
        return value, slope

    return _focused(
        poly, False, logits, target, axis, weight, ignore_index, reduction, return_grad, grad_output
    )


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def generalized_cross_entropy(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    axis: int = -1,
    q: float = 0.7,
    weight: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, Array]:
    """Generalised cross entropy of class indices, at most 1 / q; its limit for q = 0 is the cross entropy.

    "mean" divides by the sum of w_y over the rows that count.

        p_y**q = exp(-q * surprise), where surprise = -log(p_y)
        loss   = w_y * (1 - p_y**q) / q
        d loss / d x_j = w_y * p_y**q * (p_j - [j = y])
    """
    _option("q", q, 0.0 <= q <= 1.0, "from 0 to 1")

    def generalized(u: Array, p: Array, surprise: Array) -> tuple[Array, Array]:
        if q == 0.0:
            return surprise, np.ones(u.shape)
        return -np.expm1(-q * surprise) / q, np.exp(-q * surprise)

    return _focused(
        generalized, False, logits, target, axis, weight, ignore_index, reduction, return_grad, grad_output
    )


@np.errstate(invalid="ignore", over="ignore")
def sparsemax_loss(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    axis: int = -1,
    ignore_index: int = -100,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, Array]:
    """Loss of sparsemax, the projection of the logits onto the probability simplex.

    Sort the logits z, the largest first. The support has the first k, k the largest number for which
    1 + k * z_(k) > z_(1) + ... + z_(k). "mean" divides by the number of rows that count.

        tau  = (sum_{j in support} z_j - 1) / k
        loss = -z_y + 0.5 * sum_{j in support} (z_j**2 - tau**2) + 0.5
        d loss / d z_j = max(0, z_j - tau) - (1 if j = y else 0)

    A constant added to all z changes nothing, so that the largest z may be taken as 0.
    """
    moved = _classes_last("logits", logits, axis)
    rows, classes = moved.shape[:-1], moved.shape[-1]
    upstream = _upstream(grad_output, reduction, rows, return_grad)
    counted, y = _class_indices(target, rows, classes, ignore_index)

    z = moved.reshape(-1, classes)[counted]
    z = z - z.max(axis=-1, keepdims=True)
    ordered = np.sort(z, axis=-1)[:, ::-1]
    sums = np.cumsum(ordered, axis=-1)
    k = (1.0 + np.arange(1, classes + 1) * ordered > sums).sum(axis=-1)
    at = np.arange(len(z))
    tau = (sums[at, k - 1] - 1.0) / k
    is_in = z > tau[:, np.newaxis]
    squares = np.where(is_in, z**2 - tau[:, np.newaxis] ** 2, 0.0).sum(axis=-1)
    is_none = np.isnan(z).any(axis=-1)
    losses = np.zeros(counted.shape)
    losses[counted] = np.where(is_none, np.nan, -z[at, y] + 0.5 * squares + 0.5)
    result, denominator = _reduced(losses.reshape(rows), counted.sum(), reduction)
    if not return_grad:
        return result

    p = np.where(is_in, z - tau[:, np.newaxis], 0.0)
    p[at, y] -= 1.0
    p[is_none] = np.nan
    grads = np.zeros((counted.size, classes))
    grads[counted] = _times((upstream[counted] / denominator)[:, np.newaxis], p)
    return result, np.moveaxis(grads.reshape(moved.shape), -1, axis)


@np.errstate(over="ignore")
def perplexity(logits: npt.ArrayLike, target: npt.ArrayLike, *, ignore_index: int = -100) -> float:
    """Exponential of the mean cross entropy over the rows that are not ignored.

    It is inf if the exponential overflows, and NaN if no row counts.

        perplexity = exp(cross_entropy(logits, target))
    """
    mean = cross_entropy(logits, target, ignore_index=ignore_index)
    assert isinstance(mean, float)
    return float(np.exp(mean))


class Interpretation(NamedTuple):
    """The result of interpret."""

    probability: Loss
    perplexity: Loss
    bits_per_token: Loss
    bits_per_byte: Loss | None


@np.errstate(over="ignore", under="ignore")
def interpret(
    loss: npt.ArrayLike,
    *,
    base: float = math.e,
    tokens: npt.ArrayLike | None = None,
    utf8_bytes: npt.ArrayLike | None = None,
) -> Interpretation:
    """Probability, perplexity and bits of a cross entropy, which has logarithms to a base.

        nats = loss * log(base)
        probability = exp(-nats),  perplexity = exp(nats)
        bits_per_token = nats / log(2)
        bits_per_byte = bits_per_token * tokens / utf8_bytes

    A scalar gives floats.
    """
    nats = np.asarray(loss, dtype=np.float64) * math.log(base)
    if np.any(nats < 0):
        raise ValueError("a cross entropy is not negative")
    bits = nats / math.log(2)
    per_byte = None
    if tokens is not None and utf8_bytes is not None:
        per_byte = bits * np.asarray(tokens, np.float64) / np.asarray(utf8_bytes, np.float64)
    values: list[Any] = [np.exp(-nats), np.exp(nats), bits, per_byte]
    return Interpretation(*(float(v) if v is not None and np.ndim(v) == 0 else v for v in values))


# Log-probabilities of tokens and of whole sequences, and entropies, from the logits of a policy or language
# model. They are values to be used in a loss, so none of them is negated.


@np.errstate(invalid="ignore", over="ignore")
def token_log_probs(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    axis: int = -1,
    ignore_index: int = -100,
    temperature: float = 1.0,
    reduction: str = "none",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, Array]:
    """Log-probability of the target, a class index, in each row of logits.

    An ignored token has value and gradient 0, and its logits are never read. "mean" divides by the number
    of tokens that are not ignored.

        p        = softmax(logits / temperature)
        log_prob = log(p_target)
        d log_prob / d logits_k = -p_k / temperature, and (1 - p_k) / temperature at the target
    """
    _positive(temperature=temperature)
    moved = _classes_last("logits", logits, axis)
    rows, classes = moved.shape[:-1], moved.shape[-1]
    upstream = _upstream(grad_output, reduction, rows, return_grad)
    counted, y = _class_indices(target, rows, classes, ignore_index)
    is_target = np.arange(classes) == y[:, np.newaxis]

    # Both terms of log(p_target) are at most 0, and the first is 0 for a confident token: nothing cancels.
    _, below = _below_top(moved.reshape(-1, classes)[counted])
    below = below / temperature
    log_p = below - _log_sum(below)

    values = np.zeros(counted.size)
    values[counted] = log_p[is_target]
    result, denominator = _reduced(values.reshape(rows), counted.sum(), reduction)
    if not return_grad:
        return result

    # With z = logits / temperature, log(p_y) = z_y - log(sum_c exp(z_c)), and so
    #
    #     d log(p_y) / d z_k = [k = y] - p_k,
    #
    # where at the target 1 - p_y = sum_{c != y} p_c, to full precision.
    exps = np.exp(below)
    total = exps.sum(axis=-1, keepdims=True)
    slope = np.where(is_target, _sum_of_others(exps), -exps) / total
    grads = np.zeros((counted.size, classes))
    grads[counted] = slope / temperature * (upstream[counted, np.newaxis] / denominator)
    return result, np.moveaxis(grads.reshape(moved.shape), -1, axis)


def _tokens_that_count(
    mask: npt.ArrayLike | None, lengths: npt.ArrayLike | None, tokens: tuple[int, ...]
) -> npt.NDArray[np.bool_]:
    """Return the tokens that count: those of a mask of 0 and 1, or the first `lengths` of each sequence."""
    if mask is not None and lengths is not None:
        raise ValueError("mask and lengths cannot be given together")
    if mask is not None:
        values = np.asarray(mask, dtype=np.float64)
        if values.shape != tokens:
            raise ValueError(f"mask must have the shape of target, {tokens}, got {values.shape}")
        if not np.isin(values, (0.0, 1.0)).all():
            raise ValueError("mask must hold 0 and 1")
        return np.asarray(values == 1.0)
    if lengths is None:
        return np.ones(tokens, dtype=np.bool_)
    first = np.asarray(lengths)
    if not np.issubdtype(first.dtype, np.integer):
        raise TypeError(f"lengths must hold integers, got {first.dtype}")
    if first.shape != tokens[:-1]:
        raise ValueError(f"lengths must have shape {tokens[:-1]}, got {first.shape}")
    if not ((first >= 0) & (first <= tokens[-1])).all():
        raise ValueError(f"lengths must be between 0 and {tokens[-1]}")
    return np.asarray(np.arange(tokens[-1]) < first[..., np.newaxis])


@np.errstate(invalid="ignore", over="ignore")
def sequence_log_probs(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    mask: npt.ArrayLike | None = None,
    lengths: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    average: bool = False,
    temperature: float = 1.0,
    reduction: str = "none",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, Array]:
    """Log-probability of each sequence: the sum of the log-probabilities of its tokens.

    The logits have shape (..., T, V) and the target, of class indices, (..., T). A token counts if `mask`
    is 1, or if it is among the first `lengths` of its sequence; without either all tokens count. A token
    whose target is `ignore_index` does not count. The logits and targets of tokens that do not count are
    never read, and their gradient is 0. With `average` the sum is divided by the number of tokens that
    count; a sequence without any has value 0. "mean" divides by the number of sequences.

        n     = 1, or with average the number of tokens t that count
        value = sum over the t that count of token_log_prob_t / n
        d value / d logits_t = (d token_log_prob_t / d logits_t) / n
    """
    x = _classes_last("logits", logits, -1)
    if x.ndim < 2:
        raise ValueError(f"logits must have shape (..., T, V), got {x.shape}")
    tokens, sequences, classes = x.shape[:-1], x.shape[:-2], x.shape[-1]
    labels = np.asarray(target)
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"target must hold integer class indices, got {labels.dtype}")
    if labels.shape != tokens:
        raise ValueError(f"target must have shape {tokens}, got {labels.shape}")
    counts = _tokens_that_count(mask, lengths, tokens) & (labels != ignore_index)
    bad = np.argwhere(counts & ((labels < 0) | (labels >= classes)))
    if bad.size > 0:
        position = tuple(int(i) for i in bad[0])
        raise IndexError(f"target {labels[position]} at {position} is not a class index below {classes}")
    upstream = _upstream(grad_output, reduction, sequences, return_grad).reshape(sequences)

    n = np.maximum(counts.sum(axis=-1), 1) if average else np.ones(sequences)

    # The tokens that count, as one batch. The value is linear in their log-probabilities, so the gradient
    # of each token is its own, times the factor of its log-probability.
    log_probs, of_tokens = token_log_probs(  # type: ignore[misc]
        x[counts], labels[counts], temperature=temperature, return_grad=True
    )
    values = np.zeros(tokens)
    values[counts] = log_probs
    value = np.asarray(values.sum(axis=-1) / n)
    result, denominator = _reduced(value, n.size, reduction)
    if not return_grad:
        return result
    scale = np.broadcast_to((upstream / denominator / n)[..., np.newaxis, np.newaxis], x.shape)
    grads = np.zeros(x.shape)
    grads[counts] = scale[counts] * of_tokens
    return result, grads


@np.errstate(invalid="ignore", over="ignore")
def entropy(
    logits: npt.ArrayLike,
    *,
    axis: int = -1,
    temperature: float = 1.0,
    reduction: str = "none",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, Array]:
    """Entropy of the softmax of each row of logits, in nats.

    A logit of -inf masks its class, which contributes 0 and has gradient 0. A row with NaN or +inf, or of
    -inf alone, is all NaN. "mean" divides by the number of rows.

        p = softmax(logits / temperature)
        H = -sum_c p_c * log(p_c)  (0 where p_c is 0)
        d H / d logits_k = -p_k * (log(p_k) + H) / temperature
    """
    _positive(temperature=temperature)
    moved = _classes_last("logits", logits, axis)
    rows = moved.shape[:-1]
    upstream = _upstream(grad_output, reduction, rows, return_grad).reshape((*rows, 1))

    # With z the logits over the temperature, minus the largest, and L = log(sum_c exp(z_c)), a
    # log-probability is log(p_c) = z_c - L. As the p_c sum to 1,
    #
    #     H = -sum_c p_c * (z_c - L) = L + sum_c p_c * -z_c,
    #
    # whose terms are all at least 0: nothing cancels, and a confident row, whose entropy is nearly 0,
    # keeps its digits.
    _, below = _below_top(moved)
    below = below / temperature
    exps = np.exp(below)
    p = exps / exps.sum(axis=-1, keepdims=True)
    mean_below = _times(p, below).sum(axis=-1, keepdims=True)
    values = (_log_sum(below) - mean_below).squeeze(axis=-1)
    result, denominator = _reduced(values, values.size, reduction)
    if not return_grad:
        return result

    # With d p_c / d z_k = p_c * ([c = k] - p_k), and as the p_c always sum to 1,
    #
    #     d H / d z_k = -sum_c (d p_c / d z_k) * (log(p_c) + 1)
    #                 = -p_k * log(p_k) + p_k * sum_c p_c * log(p_c)
    #                 = -p_k * (log(p_k) + H).
    #
    # In log(p_k) + H = (z_k - L) + (L - sum_c p_c * z_c) the L cancels: the rest is the distance of a logit
    # from the mean of the logits, and a confident row loses no digits here either.
    slope = _times(p, mean_below - below)
    return result, np.moveaxis(slope / temperature * (upstream / denominator), -1, axis)


class TokenStatistics(NamedTuple):
    """The result of token_statistics; None for what was not asked for."""

    log_probs: Array | None
    entropy: Array | None
    logsumexp: Array | None
    log_sum_sq_probs: Array | None
    mean_logits: Array | None
    is_top1: npt.NDArray[np.bool_] | None


@np.errstate(invalid="ignore", over="ignore", divide="ignore")
def token_statistics(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    axis: int = -1,
    outputs: Sequence[str] = ("log_probs", "entropy"),
    ignore_index: int = -100,
    temperature: float = 1.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    return_grad: bool = False,
    grad_output: tuple[npt.ArrayLike | None, npt.ArrayLike | None] | None = None,
) -> TokenStatistics | tuple[TokenStatistics, Array]:
    """Log-probability of the target, a class index, in each row of logits, and statistics of the logits.

        x = logit_scale * logits
        z = softcap * tanh(x / softcap) / temperature, or x / temperature without
        p = softmax(z)
        log_probs        = log(p_target)
        entropy          = -sum_c p_c * log(p_c)  (0 where p_c is 0)
        logsumexp        = log(sum_c exp(z_c))
        log_sum_sq_probs = log(sum_c p_c**2)
        mean_logits      = sum_c z_c / C
        is_top1          = whether the target is the first maximum of x (and of z, which is monotone in x)

    An ignored token has 0, False and gradient 0, and its logits are never read. A row with NaN is all NaN.
    The gradient is that of log_probs times the first upstream gradient plus entropy times the second; without
    `grad_output` these are 1 for those among `outputs`.
    """
    _positive(temperature=temperature)
    moved = _classes_last("logits", logits, axis)
    rows, classes = moved.shape[:-1], moved.shape[-1]
    counted, y = _class_indices(target, rows, classes, ignore_index)
    is_target = np.arange(classes) == y[:, np.newaxis]
    raw = logit_scale * moved.reshape(-1, classes)[counted]
    capped = _softcapped(raw, softcap)

    # As in entropy: relative to the largest logit nothing cancels.
    _, below = _scores(capped, temperature)
    exps = np.exp(below)
    p = exps / exps.sum(axis=-1, keepdims=True)
    log_sum, mean_below = _log_sum(below), _times(p, below).sum(axis=-1, keepdims=True)
    # log(sum_c p_c**2) = log(sum_c exp(2 z_c)) - 2 log(sum_c exp(z_c)), with z relative to the largest.
    log_sum_sq = _log_sum(2.0 * below) - 2.0 * log_sum
    is_top1 = raw.argmax(axis=-1) == y
    values = {
        "log_probs": (below - log_sum)[is_target],
        "entropy": (log_sum - mean_below)[:, 0],
        "logsumexp": logsumexp(capped / temperature),
        "log_sum_sq_probs": log_sum_sq[:, 0],
        "mean_logits": (capped / temperature).mean(axis=-1),
        "is_top1": is_top1 & ~np.isnan(raw).any(axis=-1),
    }
    found: dict[str, Array | None] = dict.fromkeys(TokenStatistics._fields)
    for name in outputs:
        every = np.zeros(counted.size, values[name].dtype)
        every[counted] = values[name]
        found[name] = every.reshape(rows)
    result = TokenStatistics(**found)  # type: ignore[arg-type]
    if not return_grad:
        return result

    # With d log(p_y) / d z_k = [k = y] - p_k and d H / d z_k = -p_k * (log(p_k) + H) (see entropy).
    upstreams = grad_output or (float("log_probs" in outputs), float("entropy" in outputs))
    first, second = (
        _per_row("grad_output", 0.0 if one is None else one, rows).reshape(-1)[counted, np.newaxis]
        for one in upstreams
    )
    total = exps.sum(axis=-1, keepdims=True)
    of_log_probs = np.where(is_target, _sum_of_others(exps), -exps) / total
    slope = of_log_probs * first + _times(p, mean_below - below) * second
    if softcap is not None:
        slope = slope / np.cosh(raw / softcap) ** 2
    grads = np.zeros((counted.size, classes))
    grads[counted] = slope * logit_scale / temperature
    return result, np.moveaxis(grads.reshape(moved.shape), -1, axis)


# Divergences between the distributions of a teacher, p, and a student, q.


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def kl_div(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    log_target: bool = False,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """Kullback-Leibler divergence from log-probabilities, element by element.

    The input x has log-probabilities, the target t has probabilities, or with `log_target` their
    logarithms. "mean" divides by the number of elements, "batchmean" by the length of the first axis.

        loss = t * (log(t) - x),  0 where t = 0,            d loss / dx = -t
        loss = exp(t) * (t - x),  0 where exp(t) = 0,  and  d loss / dx = -exp(t)  with log_target

    A negative probability gives NaN. An element that is NaN has a gradient of NaN.
    """
    x, t = np.asarray(input, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if t.shape != x.shape:
        raise ValueError(f"target must have the shape of input, {x.shape}, got {t.shape}")
    if reduction == "batchmean" and x.ndim == 0:
        raise ValueError('reduction "batchmean" needs a batch axis, got a scalar input')
    p, log_p = (np.exp(t), t) if log_target else (t, np.log(t))
    value = np.where((p == 0.0) & ~np.isnan(x), 0.0, p * (log_p - x))
    if reduction != "batchmean":
        return _elementwise(value, (lambda: -p,), None, reduction, return_grad, grad_output)
    result: Any = _elementwise(value, (lambda: -p,), None, "sum", return_grad, grad_output)
    batch = np.float64(x.shape[0])
    if not isinstance(result, tuple):
        return float(result / batch)
    return float(result[0] / batch), result[1] / batch


class DivergenceGradients(NamedTuple):
    """The gradients of a divergence with respect to both distributions."""

    student_logits: Array
    teacher_logits: Array


# From rows of log(p) and log(q): the divergence, and its derivatives with respect to the logits (over the
# temperature) of the student and of the teacher.
Divergence = Callable[[Array, Array], tuple[Array, Array, Array]]


def _log_ratio(log_a: Array, log_b: Array) -> Array:
    """Return log(a / b), 0 where both are 0."""
    return np.where(log_a == log_b, 0.0, log_a - log_b)


def _less(a: Array, b: Array, log_ratio: Array) -> Array:
    """Return a - b, from log(a / b): as b * (a / b - 1) where they are close, to full precision."""
    return np.where(np.abs(log_ratio) < 1.0, b * np.expm1(log_ratio), a - b)


def _relative_entropy(a: Array, b: Array, log_ratio: Array) -> Array:
    """Return KL(a || b) of each row, from log(a / b) = r.

    As a and b both sum to 1, adding b - a to each class changes nothing:

        KL(a || b) = sum_c a_c * r_c = sum_c (a_c * r_c + b_c - a_c) = sum_c a_c * (exp(-r_c) - 1 + r_c)

    Now no term is negative, so that nearly equal distributions keep their digits. Each term is computed in
    the last form where a and b are close, and in the form before elsewhere; where a is 0, it is b.
    """
    near = a * (np.expm1(-log_ratio) + log_ratio)
    far = _times(a, log_ratio) + (b - a)
    terms = np.where(np.abs(log_ratio) < 1.0, near, far)
    total: Array = np.maximum(terms.sum(axis=-1, keepdims=True), 0.0)
    return total


def _divergence(
    formula: Divergence,
    student_logits: npt.ArrayLike,
    teacher_logits: npt.ArrayLike,
    axis: int,
    temperature: float,
    mask: npt.ArrayLike | None,
    teacher_grad: bool,
    reduction: str,
    return_grad: bool,
    grad_output: npt.ArrayLike | None,
) -> Loss | tuple[Loss, Array] | tuple[Loss, DivergenceGradients]:
    """Return the reduced divergence of the rows under the mask, and on request its gradients."""
    if teacher_grad and not return_grad:
        raise ValueError("teacher_grad needs return_grad=True")
    _positive(temperature=temperature)
    student = _classes_last("student_logits", student_logits, axis)
    teacher = _classes_last("teacher_logits", teacher_logits, axis)
    if teacher.shape != student.shape:
        raise ValueError(
            f"teacher_logits must have the shape of student_logits, {np.shape(student_logits)}, "
            f"got {np.shape(teacher_logits)}"
        )
    rows, classes = student.shape[:-1], student.shape[-1]
    of_rows = np.asarray(1.0 if mask is None else mask, dtype=np.float64)
    if mask is not None and of_rows.shape != rows:
        raise ValueError(f"mask must have the shape of the rows, {rows}, got {of_rows.shape}")
    if not np.isin(of_rows, (0.0, 1.0)).all():
        raise ValueError("mask must hold 0 and 1")
    counted = np.broadcast_to(of_rows == 1.0, rows).reshape(-1)
    upstream = _upstream(grad_output, reduction, rows, return_grad)

    def log_probs(logits: Array) -> Array:
        # The largest logit is subtracted first: a large common shift costs no digits.
        _, below = _below_top(logits.reshape(-1, classes)[counted])
        below = below / temperature
        return below - _log_sum(below)

    value, *slopes = formula(log_probs(teacher), log_probs(student))

    values = np.zeros(counted.size)
    values[counted] = value[:, 0]
    result, denominator = _reduced(values.reshape(rows), counted.sum(), reduction, is_masked=mask is not None)
    if not return_grad:
        return result

    # A row whose divergence is NaN is all NaN. 0 is added, so that no zero is negative.
    scale = upstream[counted, np.newaxis] / denominator / temperature
    grads = []
    for slope in slopes:
        full = np.zeros((counted.size, classes))
        full[counted] = np.where(np.isnan(value), np.nan, slope * scale) + 0.0
        grads.append(np.moveaxis(full.reshape(student.shape), -1, axis))
    if teacher_grad:
        return result, DivergenceGradients(*grads)
    return result, grads[0]


def _kl(log_p: Array, log_q: Array) -> tuple[Array, Array, Array]:
    """KL(p || q), and its derivatives with respect to the logits of q and of p.

    With d q_k / d z_j = q_k * ([k = j] - q_j),

        d / d z_j of -sum_k p_k * log(q_k) = q_j - p_j,

    and 0 for a masked class (with q_j = 0 the divergence does not depend on its logit). Likewise, as the
    sum of the p_k * (log(p_k) - log(q_k)) is the divergence itself,

        d / d y_j of sum_k p_k * (log(p_k) - log(q_k)) = p_j * (log(p_j) - log(q_j) - KL).
    """
    p, q, r = np.exp(log_p), np.exp(log_q), _log_ratio(log_p, log_q)
    value = _relative_entropy(p, q, r)
    by_q = np.where(log_q == -np.inf, 0.0, _less(q, p, -r))
    return value, by_q, np.where(p == 0.0, 0.0, p * (r - value))


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def kl_div_with_logits(
    student_logits: npt.ArrayLike,
    teacher_logits: npt.ArrayLike,
    *,
    axis: int = -1,
    temperature: float = 1.0,
    mask: npt.ArrayLike | None = None,
    teacher_grad: bool = False,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, Array] | tuple[Loss, DivergenceGradients]:
    """Kullback-Leibler divergence of the student's distribution from the teacher's, for each row.

        p, q = softmax(teacher_logits / temperature), softmax(student_logits / temperature)
        KL = sum_j p_j * (log(p_j) - log(q_j)),  0 where p_j is 0
        d KL / d student_logits_j = (q_j - p_j) / temperature
        d KL / d teacher_logits_j = p_j * (log(p_j) - log(q_j) - KL) / temperature

    The value is infinite if the student masks (-inf) a class that the teacher does not. A row with NaN or
    +inf, or of -inf alone, in either, is all NaN. A row with mask 0 has value and gradient 0, and is never
    read. "mean" divides by the number of rows under the mask, and is 0 if there are none. With
    `teacher_grad` both gradients are returned, otherwise only the student's.
    """
    return _divergence(
        _kl,
        student_logits,
        teacher_logits,
        axis,
        temperature,
        mask,
        teacher_grad,
        reduction,
        return_grad,
        grad_output,
    )


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def js_div_with_logits(
    student_logits: npt.ArrayLike,
    teacher_logits: npt.ArrayLike,
    *,
    axis: int = -1,
    beta: float = 0.5,
    temperature: float = 1.0,
    mask: npt.ArrayLike | None = None,
    teacher_grad: bool = False,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, Array] | tuple[Loss, DivergenceGradients]:
    """Generalised Jensen-Shannon divergence of the distributions of student and teacher, for each row.

    Everything except the formula is as in kl_div_with_logits. beta = 0 is KL(p || q), beta = 1 KL(q || p).

        m  = beta * p + (1 - beta) * q
        JS = beta * KL(p || m) + (1 - beta) * KL(q || m)
        d JS / d student_logits_j = (1 - beta) * q_j * (log(q_j / m_j) - KL(q || m)) / temperature
        d JS / d teacher_logits_j = beta * p_j * (log(p_j / m_j) - KL(p || m)) / temperature
    """
    _option("beta", beta, 0.0 <= beta <= 1.0, "in [0, 1]")

    def formula(log_p: Array, log_q: Array) -> tuple[Array, Array, Array]:
        if beta == 0.0:
            return _kl(log_p, log_q)
        if beta == 1.0:
            value, by_p, by_q = _kl(log_q, log_p)
            return value, by_q, by_p
        p, q, r = np.exp(log_p), np.exp(log_q), _log_ratio(log_p, log_q)
        m = beta * p + (1.0 - beta) * q
        log_m = np.logaddexp(math.log(beta) + log_p, math.log1p(-beta) + log_q)
        # Where p and q are close, both logarithms are small: of m / p = 1 + (1 - beta) * (q / p - 1), and
        # of m / q = 1 + beta * (p / q - 1).
        near = np.abs(r) < 1.0
        p_to_m = np.where(near, -np.log1p((1.0 - beta) * np.expm1(-r)), _log_ratio(log_p, log_m))
        q_to_m = np.where(near, -np.log1p(beta * np.expm1(r)), _log_ratio(log_q, log_m))
        of_p, of_q = _relative_entropy(p, m, p_to_m), _relative_entropy(q, m, q_to_m)
        by_q = np.where(q == 0.0, 0.0, (1.0 - beta) * q * (q_to_m - of_q))
        by_p = np.where(p == 0.0, 0.0, beta * p * (p_to_m - of_p))
        return beta * of_p + (1.0 - beta) * of_q, by_q, by_p

    return _divergence(
        formula,
        student_logits,
        teacher_logits,
        axis,
        temperature,
        mask,
        teacher_grad,
        reduction,
        return_grad,
        grad_output,
    )


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def tv_distance_with_logits(
    student_logits: npt.ArrayLike,
    teacher_logits: npt.ArrayLike,
    *,
    axis: int = -1,
    temperature: float = 1.0,
    mask: npt.ArrayLike | None = None,
    teacher_grad: bool = False,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, Array] | tuple[Loss, DivergenceGradients]:
    """Total variation distance of the distributions of student and teacher, for each row.

    Everything except the formula is as in kl_div_with_logits.

        TV = sum_j |p_j - q_j| / 2,  s_j = sign(q_j - p_j)
        d TV / d student_logits_j = q_j * (s_j - sum_k q_k * s_k) / (2 * temperature)
        d TV / d teacher_logits_j = -p_j * (s_j - sum_k p_k * s_k) / (2 * temperature)
    """

    def formula(log_p: Array, log_q: Array) -> tuple[Array, Array, Array]:
        p, q, r = np.exp(log_p), np.exp(log_q), _log_ratio(log_p, log_q)
        difference = _less(q, p, -r)
        value = 0.5 * np.abs(difference).sum(axis=-1, keepdims=True)

        def slope(a: Array) -> Array:
            sign = np.sign(difference)
            return np.asarray(0.5 * a * (sign - (a * sign).sum(axis=-1, keepdims=True)))

        return value, slope(q), -slope(p)

    return _divergence(
        formula,
        student_logits,
        teacher_logits,
        axis,
        temperature,
        mask,
        teacher_grad,
        reduction,
        return_grad,
        grad_output,
    )


# The softmax losses of a linear layer. Here the whole array of logits is computed.


class LinearGradients(NamedTuple):
    """The gradients of a loss of a linear layer; that of an absent bias is None."""

    input: Array
    linear_weight: Array
    linear_bias: Array | None


def _linear(
    input: npt.ArrayLike,
    linear_weight: npt.ArrayLike,
    linear_bias: npt.ArrayLike | None,
    target: npt.ArrayLike,
    ignore_index: int,
) -> tuple[Array, Callable[[Array], LinearGradients]]:
    """Return the logits of a linear layer, and a function from their gradient to the layer's gradients.

    With G the gradient of the loss with respect to the logits, by the chain rule,

        logits = input @ linear_weight.T + linear_bias
        d loss / d input = G @ linear_weight
        d loss / d linear_weight = G.T @ input, and d loss / d linear_bias = sum of the rows of G

    An ignored row is left out of all products: its values are never read, and its gradient is 0.
    """
    x, w = np.asarray(input, dtype=np.float64), np.asarray(linear_weight, dtype=np.float64)
    if w.ndim != 2:
        raise ValueError(f"linear_weight must have shape (V, D), got {w.shape}")
    if x.ndim == 0 or x.shape[-1] != w.shape[1]:
        raise ValueError(f"input must have shape (..., {w.shape[1]}) like linear_weight, got {x.shape}")
    bias = np.asarray(0.0 if linear_bias is None else linear_bias, dtype=np.float64)
    if linear_bias is not None and bias.shape != w.shape[:1]:
        raise ValueError(f"linear_bias must have shape {w.shape[:1]}, got {bias.shape}")
    labels, counted = np.asarray(target), np.ones(x.shape[:-1], dtype=np.bool_)
    if labels.dtype.kind in "iu" and labels.shape == counted.shape:
        counted = np.asarray(labels != ignore_index)
    logits = np.zeros((*counted.shape, w.shape[0]))
    logits[counted] = x[counted] @ w.T + bias

    def gradients(of_logits: Array) -> LinearGradients:
        g = of_logits[counted]
        of_input = np.zeros(x.shape)
        of_input[counted] = g @ w
        return LinearGradients(of_input, g.T @ x[counted], None if linear_bias is None else g.sum(axis=0))

    return logits, gradients


class AdaptiveGradients(NamedTuple):
    """The gradients of the adaptive softmax."""

    input: Array
    head_weight: Array
    head_bias: Array | None
    tail_weights: tuple[tuple[Array, Array], ...]


def _softmax_of(logits: Array, labels: npt.NDArray[np.intp]) -> tuple[Array, Array]:
    """Return ``-log softmax(logits)[label]`` of each row, and its gradient ``softmax(logits) - onehot``."""
    shifted = logits - logits.max(axis=1, keepdims=True, initial=-np.inf)
    total = np.exp(shifted).sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    gradient = np.exp(shifted) / total
    gradient[rows, labels] -= 1.0
    return np.log(total)[:, 0] - shifted[rows, labels], gradient


@np.errstate(invalid="ignore", over="ignore")
def adaptive_log_softmax_with_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    head_weight: npt.ArrayLike,
    tail_weights: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]],
    *,
    head_bias: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, AdaptiveGradients]:
    """Cross entropy of the adaptive softmax.

    The input has shape (..., D), and the target the class index of each row. The head has a row for each of
    its V classes, then one for each cluster, and as many biases. Cluster k, counted from 0, has a projection
    (H, D) and a weight (C, H); its classes follow those of the head and of the clusters before it.

        p      = softmax(head_weight @ x + head_bias)
        p_k    = softmax(weight_k @ projection_k @ x)
        loss   = -log p[y]                       for a class y of the head, y < V
        loss   = -log p[V + k] - log p_k[y - s]  for a class y of cluster k, whose first class is s

    Each softmax has the gradient ``softmax - onehot`` with respect to its logits. An ignored row is never
    read, and contributes 0 to all gradients. "mean" divides by the number of the other rows.
    """
    x, w = np.asarray(input, dtype=np.float64), np.asarray(head_weight, dtype=np.float64)
    tails = [tuple(np.asarray(one, dtype=np.float64) for one in pair) for pair in tail_weights]
    own = len(w) - len(tails)
    first = own + np.cumsum([0, *(len(weight) for _, weight in tails)])
    rows = x.shape[:-1]
    counted, labels = _class_indices(target, rows, int(first[-1]), ignore_index)
    upstream = _upstream(grad_output, reduction, rows, return_grad)
    divisor = labels.size if reduction == "mean" else 1
    factor = upstream[counted, np.newaxis] / divisor
    x = x.reshape(-1, w.shape[1])[counted]

    cluster = np.searchsorted(first, labels, side="right") - 1  # -1 for the head
    logits = x @ w.T + (0.0 if head_bias is None else np.asarray(head_bias, dtype=np.float64))
    found, g = _softmax_of(logits, np.where(cluster < 0, labels, own + cluster))
    g = factor * g
    of_input, of_tails = g @ w, []
    for k, (projection, weight) in enumerate(tails):
        here = cluster == k
        hidden = x[here] @ projection.T
        within, of_logits = _softmax_of(hidden @ weight.T, labels[here] - first[k])
        of_logits = factor[here] * of_logits
        found[here] += within
        of_hidden = of_logits @ weight
        of_input[here] += of_hidden @ projection
        of_tails.append((of_hidden.T @ x[here], of_logits.T @ hidden))

    losses = np.zeros(counted.size)
    losses[counted] = found
    loss, _ = _reduced(losses.reshape(rows), labels.size, reduction)
    if not return_grad:
        return loss
    whole = np.zeros((counted.size, w.shape[1]))
    whole[counted] = of_input
    of_bias = None if head_bias is None else g.sum(axis=0)
    return loss, AdaptiveGradients(whole.reshape((*rows, w.shape[1])), g.T @ x, of_bias, tuple(of_tails))


@np.errstate(invalid="ignore", over="ignore")
def linear_cross_entropy(
    input: npt.ArrayLike,
    linear_weight: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    linear_bias: npt.ArrayLike | None = None,
    weight: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    sample_weight: npt.ArrayLike | None = None,
    z_loss: float = 0.0,
    softcap: float | None = None,
    temperature: float = 1.0,
    logit_scale: float = 1.0,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, LinearGradients]:
    """Cross entropy of the logits of a linear layer.

    The input has shape (..., D), the weight (V, D) and the bias (V,). The target holds class indices of
    shape (...), or probabilities of shape (..., V). All options are those of cross_entropy. An ignored row
    of the input is never read, and contributes 0 to all gradients.

        loss = cross_entropy(input @ linear_weight.T + linear_bias, target)
    """
    logits, gradients = _linear(input, linear_weight, linear_bias, target, ignore_index)
    result: Any = cross_entropy(
        logits,
        target,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        sample_weight=sample_weight,
        z_loss=z_loss,
        softcap=softcap,
        temperature=temperature,
        logit_scale=logit_scale,
        reduction=reduction,
        return_grad=return_grad,
        grad_output=grad_output,
    )
    return (result[0], gradients(result[1])) if return_grad else result


@np.errstate(invalid="ignore", over="ignore")
def linear_token_log_probs(
    input: npt.ArrayLike,
    linear_weight: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    linear_bias: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    temperature: float = 1.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    reduction: str = "none",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, LinearGradients]:
    """Log-probability of each target, a class index, under a linear layer.

    An ignored token has 0. "mean" divides by the number of tokens that are not ignored.

        x = logit_scale * (input @ linear_weight.T + linear_bias)
        log_prob = log_softmax(softcap * tanh(x / softcap) / temperature)_target = -cross_entropy(x, target)
    """
    logits, gradients = _linear(input, linear_weight, linear_bias, target, ignore_index)
    if np.asarray(target).dtype.kind not in "iu":
        raise TypeError(f"target must hold integer class indices, got {np.asarray(target).dtype}")
    result: Any = cross_entropy(
        logits,
        target,
        ignore_index=ignore_index,
        softcap=softcap,
        temperature=temperature,
        logit_scale=logit_scale,
        reduction=reduction,
        return_grad=return_grad,
        grad_output=grad_output,
    )
    loss = result[0] if return_grad else result
    # 0 - loss, so that an ignored token has 0 and not -0.
    if isinstance(loss, tuple):
        log_probs: Loss = 0.0 - loss[0], loss[1]
    else:
        log_probs = np.asarray(0.0 - loss) if reduction == "none" else 0.0 - loss
    return (log_probs, gradients(0.0 - result[1])) if return_grad else log_probs


def linear_token_statistics(
    input: npt.ArrayLike,
    linear_weight: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    linear_bias: npt.ArrayLike | None = None,
    outputs: Sequence[str] = ("log_probs", "entropy"),
    ignore_index: int = -100,
    temperature: float = 1.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    return_grad: bool = False,
    grad_output: tuple[npt.ArrayLike | None, npt.ArrayLike | None] | None = None,
) -> TokenStatistics | tuple[TokenStatistics, LinearGradients]:
    """Log-probability of each target, a class index, under a linear layer, and statistics of its logits.

    token_statistics(input @ linear_weight.T + linear_bias, target)
    """
    logits, gradients = _linear(input, linear_weight, linear_bias, target, ignore_index)
    result = token_statistics(
        logits,
        target,
        outputs=outputs,
        ignore_index=ignore_index,
        temperature=temperature,
        softcap=softcap,
        logit_scale=logit_scale,
        return_grad=return_grad,
        grad_output=grad_output,
    )
    if isinstance(result, TokenStatistics):
        return result
    return result[0], gradients(result[1])


class InfoNCEGradients(NamedTuple):
    """The gradients of info_nce_loss."""

    query: Array
    key: Array
    temperature: float


class SigLIPGradients(NamedTuple):
    """The gradients of siglip_loss."""

    query: Array
    key: Array
    scale: float
    bias: float


def _alignments(log_p: Array, labels: Sequence[int], blank: int) -> tuple[float, Array]:
    """Return minus the log-probability of labels, and the posteriors (T, C) of the classes.

    The states are blank, label, blank, ..., blank. A path stays, goes on by one, or by two where that passes
    a blank between different labels. forward[t, s] adds up the paths that are in s at step t, backward[t, s]
    what can follow.
    """
    states = [blank]
    for label in labels:
        states += [label, blank]
    steps, count = len(log_p), len(states)
    may_skip = [s % 2 == 1 and s >= 3 and states[s] != states[s - 2] for s in range(count)]
    forward, backward = np.full((steps + 1, count), -np.inf), np.full((steps + 1, count), -np.inf)
    forward[0, 0] = 0.0
    backward[steps, -2:] = 0.0
    for t in range(steps):
        for s in range(count):
            before = [s] + [s - 1] * (s >= 1) + [s - 2] * may_skip[s]
            forward[t + 1, s] = np.logaddexp.reduce(forward[t, before]) + log_p[t, states[s]]
    for t in reversed(range(steps)):
        for s in range(count):
            after = [s] + [s + 1] * (s + 1 < count) + [s + 2] * (s + 2 < count and may_skip[s + 2])
            backward[t, s] = np.logaddexp.reduce([backward[t + 1, k] + log_p[t, states[k]] for k in after])
    total = np.logaddexp.reduce(forward[steps, -2:])
    posterior = np.zeros(log_p.shape)
    for t in range(steps):
        for s, c in enumerate(states):
            posterior[t, c] += np.exp(forward[t + 1, s] + backward[t + 1, s] - total)
    return -float(total), posterior


def _ctc(
    log_p: Array,
    targets: npt.ArrayLike,
    input_lengths: npt.ArrayLike,
    target_lengths: npt.ArrayLike,
    blank: int,
    zero_infinity: bool,
    reduction: str,
    return_grad: bool,
    grad_output: npt.ArrayLike | None,
    softmax: Array | None,
) -> Any:
    """Return the loss and the gradient: minus the posterior, and plus the softmax of logits."""
    shape, is_batch = log_p.shape, log_p.ndim == 3
    log_p = log_p if is_batch else log_p[:, np.newaxis]
    samples = log_p.shape[1]
    upstream = _upstream(grad_output, reduction, (samples,) if is_batch else (), return_grad).reshape(-1)
    steps, lengths = (np.asarray(a, np.int64).reshape(samples) for a in (input_lengths, target_lengths))
    rows = np.asarray(targets)
    joined = np.concatenate([[0], np.cumsum(lengths)])
    losses, gradient = np.zeros(samples), np.zeros(log_p.shape)
    for n in range(samples):
        labels = rows[n, : lengths[n]] if rows.ndim == 2 else rows[joined[n] : joined[n + 1]]
        read = np.s_[: steps[n], n]
        needed = log_p[read][:, np.unique([blank, *labels]).astype(int)]
        loss, posterior = _alignments(log_p[read], [int(c) for c in labels], blank)
        slope = -posterior if softmax is None else softmax.reshape(log_p.shape)[read] - posterior
        if np.isnan(needed).any():
            loss = math.nan
        if not np.isfinite(loss):
            slope = np.full(slope.shape, 0.0 if zero_infinity and loss == np.inf else math.nan)
        losses[n] = 0.0 if zero_infinity and loss == np.inf else loss
        gradient[read] = slope
    is_divided = reduction in ("mean", "sum_and_count")
    weight = 1.0 / np.maximum(lengths, 1) if is_divided else np.ones(samples)
    weighed = losses * weight
    result, count = _reduced(weighed if is_batch else weighed.reshape(()), samples, reduction)
    if not return_grad:
        return result
    inside = np.arange(len(log_p))[:, np.newaxis] < steps
    factor = (upstream * weight / count)[:, np.newaxis]
    with np.errstate(invalid="ignore"):
        gradient = np.where(inside[..., np.newaxis] & (gradient != 0), gradient * factor, 0.0)
    return result, gradient.reshape(shape)


@np.errstate(invalid="ignore", over="ignore")
def ctc_loss(
    log_probs: npt.ArrayLike,
    targets: npt.ArrayLike,
    input_lengths: npt.ArrayLike,
    target_lengths: npt.ArrayLike,
    *,
    blank: int = 0,
    zero_infinity: bool = False,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Any:
    """Connectionist temporal classification of log-probabilities (T, N, C) or (T, C).

        loss_n = -log(sum over alignments a of exp(sum_t log_probs[t, n, a_t]))

    An alignment has a class for each step; without repetitions, and then without blanks, it is the labels of
    the sample. The gradient is minus the posterior of each class at each step. The mean divides each loss by
    max(target length, 1) before. With zero_infinity an infinite loss is 0, otherwise its gradient is NaN.
    """
    log_p = np.asarray(log_probs).astype(np.float64)
    return _ctc(
        log_p,
        targets,
        input_lengths,
        target_lengths,
        blank,
        zero_infinity,
        reduction,
        return_grad,
        grad_output,
        None,
    )


@np.errstate(invalid="ignore", over="ignore")
def ctc_loss_with_logits(
    logits: npt.ArrayLike,
    targets: npt.ArrayLike,
    input_lengths: npt.ArrayLike,
    target_lengths: npt.ArrayLike,
    *,
    blank: int = 0,
    zero_infinity: bool = False,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Any:
    """Connectionist temporal classification of logits: ctc_loss(log_softmax(logits), ...)."""
    z = np.asarray(logits).astype(np.float64)
    log_p = z - z.max(axis=-1, keepdims=True, initial=-np.inf)
    log_p = log_p - np.log(np.exp(log_p).sum(axis=-1, keepdims=True))
    return _ctc(
        log_p, targets, input_lengths, target_lengths, blank, zero_infinity, reduction, return_grad,
        grad_output, np.exp(log_p),
    )  # fmt: skip


def _two_sides(query: npt.ArrayLike, key: npt.ArrayLike) -> tuple[Array, Array]:
    q, k = np.asarray(query, dtype=np.float64), np.asarray(key, dtype=np.float64)
    if q.ndim != 2 or k.ndim != 2 or q.shape[1] != k.shape[1]:
        raise ValueError(f"query and key must have shapes (N, D) and (M, D), got {q.shape} and {k.shape}")
    return q, k


def _through_lengths(x: Array, of_units: Array) -> Array:
    """Return the gradient of vectors from that of the vectors over max(length, 1e-12)."""
    length = np.sqrt((x**2).sum(axis=1, keepdims=True))
    unit = x / np.maximum(length, 1e-12)
    along = (of_units * unit).sum(axis=1, keepdims=True)
    across = of_units - np.where(length < 1e-12, 0.0, unit * along)
    return np.asarray(across / np.maximum(length, 1e-12))


@np.errstate(invalid="ignore", over="ignore", divide="ignore")
def info_nce_loss(
    query: npt.ArrayLike,
    key: npt.ArrayLike,
    *,
    target: npt.ArrayLike | None = None,
    temperature: float = 0.05,
    symmetric: bool = False,
    normalize: bool = True,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, InfoNCEGradients]:
    """Cross entropy of the similarities of queries (N, D) and keys (M, D), divided by the temperature.

    With normalize vectors are divided by max(length, 1e-12) before, as by torch.nn.functional.normalize. The
    target t of query i is i if none is given.

        s_ij = query_i . key_j
        loss_i = log(sum_j exp(s_ij / T)) - s_it / T

    With symmetric (N = M, t = i) it is the mean of this and of log(sum_j exp(s_ji / T)) - s_ii / T.
    """
    q, k = _two_sides(query, key)
    upstream = _upstream(grad_output, reduction, q.shape[:1], return_grad)
    if symmetric and (target is not None or len(q) != len(k)):
        raise ValueError("symmetric needs as many keys as queries, and no target")
    index = np.arange(len(q)) if target is None else np.asarray(target)
    if index.shape != q.shape[:1] or ((index < 0) | (index >= len(k))).any():
        raise IndexError(f"target must hold the row of a key for each query, got {index}")

    lengths = [np.sqrt((x**2).sum(axis=1, keepdims=True)) for x in (q, k)]
    u, v = (
        x / np.maximum(length, 1e-12) if normalize else x for x, length in zip((q, k), lengths, strict=True)
    )
    z = u @ v.T / temperature
    is_target = np.arange(len(k)) == index[:, np.newaxis]

    def one_way(z: Array, is_target: npt.NDArray[np.bool_]) -> tuple[Array, Array]:
        """Return the loss of each row, log(1 + e^d), and its gradient.

        d is the log-sum-exp of the others minus the target, whose gradient is minus the sum of the others.
        """
        top = z.max(axis=1, keepdims=True, initial=-np.inf)
        e = np.exp(z - top)
        others = np.where(is_target, 0.0, e).sum(axis=1, keepdims=True)
        total = others + e[is_target][:, np.newaxis]
        d = np.log(others) + top - z[is_target][:, np.newaxis]
        return np.logaddexp(0.0, d)[:, 0], np.where(is_target, -others / total, e / total)

    losses, slopes = one_way(z, is_target)
    if symmetric:
        of_columns, back = one_way(z.T, is_target.T)
        losses = 0.5 * (losses + of_columns)
    loss, count = _reduced(losses, len(losses), reduction)
    if not return_grad:
        return loss
    factor = upstream / count
    g = slopes * factor[:, np.newaxis]
    if symmetric:
        g = 0.5 * (g + (back * factor[:, np.newaxis]).T)
    of_u, of_v = g @ v / temperature, g.T @ u / temperature
    if normalize:
        of_u, of_v = _through_lengths(q, of_u), _through_lengths(k, of_v)
    return loss, InfoNCEGradients(of_u, of_v, float(-(g * z).sum() / temperature))


@np.errstate(invalid="ignore", over="ignore")
def siglip_loss(
    query: npt.ArrayLike,
    key: npt.ArrayLike,
    *,
    scale: float,
    bias: float,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, SigLIPGradients]:
    """Logistic loss of all pairs of queries (N, D) and keys (M, D), M >= N.

    y_ij = scale * query_i . key_j + bias
    l_ij = 1 if i = j else -1
    loss_i = sum_j -log(sigmoid(l_ij y_ij))
    """
    q, k = _two_sides(query, key)
    upstream = _upstream(grad_output, reduction, q.shape[:1], return_grad)
    if len(k) < len(q):
        raise ValueError(f"there must be at least {len(q)} keys, got {len(k)}")
    s = q @ k.T
    label = 2.0 * np.eye(len(q), len(k)) - 1.0
    y = label * (scale * s + bias)
    loss, count = _reduced(np.logaddexp(0.0, -y).sum(axis=1), len(y), reduction)
    if not return_grad:
        return loss
    factor = upstream / count
    # The derivative of -log(sigmoid(y)) is -sigmoid(-y).
    g = -label * np.exp(-np.logaddexp(0.0, y)) * factor[:, np.newaxis]
    return loss, SigLIPGradients(scale * g @ k, scale * g.T @ q, float((g * s).sum()), float(g.sum()))


class StudentGradients(NamedTuple):
    """The gradients of a divergence of two linear layers; that of an absent bias is None."""

    student_input: Array
    student_weight: Array
    student_bias: Array | None


# Pairs and triples of vectors, along the last axis.


class CosineEmbeddingGradients(NamedTuple):
    """The gradients of cosine_embedding_loss."""

    input1: Array
    input2: Array


class TripletMarginGradients(NamedTuple):
    """The gradients of triplet_margin_loss."""

    anchor: Array
    positive: Array
    negative: Array


def _vectors(*values: npt.ArrayLike) -> list[Array]:
    """Return arrays of vectors, of one shape."""
    arrays = [np.asarray(value, dtype=np.float64) for value in values]
    if any(array.shape != arrays[0].shape or array.ndim == 0 for array in arrays):
        raise ValueError(f"vectors must have one shape (..., D), got {[array.shape for array in arrays]}")
    return arrays


def _of_rows(losses: Array, slopes: Sequence[Array], upstream: Array) -> list[Array]:
    """Scale the gradients of rows; without upstream gradient they are 0, and NaN where the loss is."""
    scaled = [_times(upstream.reshape(losses.shape)[..., np.newaxis], slope) for slope in slopes]
    return [np.where(np.isnan(losses)[..., np.newaxis], np.nan, gradient) for gradient in scaled]


@np.errstate(invalid="ignore", over="ignore", divide="ignore")
def cosine_embedding_loss(
    input1: npt.ArrayLike,
    input2: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    margin: float = 0.0,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, CosineEmbeddingGradients]:
    """How far the cosine of two vectors x, y is from 1 (target 1), or above a margin (target -1).

        cos  = x.y / sqrt((x.x + 1e-12) * (y.y + 1e-12))
        loss = 1 - cos,  or max(0, cos - margin)
        d cos / dx = y / sqrt(...) - x * cos / (x.x + 1e-12)

    For the target -1 the gradient of the loss is that of cos from cos = margin on.
    """
    _option("margin", margin, True, "finite")
    x, y = _vectors(input1, input2)
    rows = x.shape[:-1]
    t = _per_row("target", target, rows)
    _in_domain("target", t, np.abs(t) == 1.0, "-1 or 1")
    upstream = _upstream(grad_output, reduction, rows, return_grad)
    of_x, of_y = ((v * v).sum(axis=-1) + 1e-12 for v in (x, y))
    both = np.sqrt(of_x) * np.sqrt(of_y)
    cos = (x * y).sum(axis=-1) / both
    losses = np.where(t == 1.0, 1.0 - cos, np.maximum(0.0, cos - margin)) + 0.0 * t
    result, denominator = _reduced(losses, losses.size, reduction)
    if not return_grad:
        return result

    sign = np.where(t == 1.0, -1.0, np.where(cos >= margin, 1.0, 0.0))
    cos, of_x, of_y, both = (a[..., np.newaxis] for a in (cos, of_x, of_y, both))
    slopes = [
        _times(sign[..., np.newaxis], slope)
        for slope in (y / both - x * cos / of_x, x / both - y * cos / of_y)
    ]
    return result, CosineEmbeddingGradients(*_of_rows(losses, slopes, upstream / denominator))


def _distance(x: Array, y: Array, p: float, eps: float) -> tuple[Array, Array]:
    """Return the p-norm of d = x - y + eps, and its gradient by d: sign(d) * (|d| / norm)**(p - 1).

    For p = inf the largest |d| share the gradient. It is 0 where d or the norm is 0.
    """
    d = x - y + eps
    size, sign = np.abs(d), np.sign(d)
    largest = size.max(axis=-1, keepdims=True)
    if p == math.inf:
        is_largest = size == largest
        return largest[..., 0], sign * is_largest / is_largest.sum(axis=-1, keepdims=True)
    if p == 2.0:
        norm = np.sqrt((d * d).sum(axis=-1, keepdims=True))
        return norm[..., 0], np.where(norm == 0.0, 0.0, d / norm)
    # Relative to the largest, so that no power overflows.
    power = np.where(largest == 0.0, 0.0, size / largest) ** p
    norm = np.where(np.isinf(largest), largest, largest * power.sum(axis=-1, keepdims=True) ** (1.0 / p))
    return norm[..., 0], np.where(size == 0.0, 0.0, sign * (size / norm) ** (p - 1.0))


@np.errstate(invalid="ignore", over="ignore", divide="ignore")
def triplet_margin_loss(
    anchor: npt.ArrayLike,
    positive: npt.ArrayLike,
    negative: npt.ArrayLike,
    *,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, TripletMarginGradients]:
    """How far the negative fails to be farther from the anchor than the positive, by a margin.

        D(x, y) = (sum |x - y + eps|**p)**(1 / p), the largest for p = inf
        loss    = max(0, margin + D(anchor, positive) - D(anchor, negative))

    With swap the distance to the negative is min(D(anchor, negative), D(positive, negative)); if both are
    equal each has half of the gradient. The gradient begins where margin + ... is 0.
    """
    _option("margin", margin, margin > 0.0, "finite and greater than 0")
    _option("eps", eps, eps >= 0.0, "finite and at least 0")
    if not p > 0.0:
        raise ValueError(f"p must be greater than 0, got {p}")
    a, b, c = _vectors(anchor, positive, negative)
    upstream = _upstream(grad_output, reduction, a.shape[:-1], return_grad)
    (near, to_near), (far, to_far), (other, to_other) = (
        _distance(x, y, p, eps) for x, y in ((a, b), (a, c), (b, c))
    )
    short = margin + near - (np.minimum(far, other) if swap else far)
    losses = np.maximum(0.0, short)
    result, denominator = _reduced(losses, losses.size, reduction)
    if not return_grad:
        return result

    share = np.where(far < other, 1.0, np.where(far == other, 0.5, 0.0)) if swap else np.ones(far.shape)
    upstream = np.where(short >= 0.0, upstream.reshape(far.shape) / denominator, 0.0)
    to_far = _times(share[..., np.newaxis], to_far)
    to_other = _times((1.0 - share)[..., np.newaxis], to_other)
    slopes = [to_near - to_far, -to_near - to_other, to_far + to_other]
    return result, TripletMarginGradients(*_of_rows(losses, slopes, upstream))


def _capped(logits: Array, softcap: float | None, logit_scale: float) -> tuple[Array, Array]:
    """Return logits with scale and softcap, and their derivatives; a masked logit stays masked."""
    scaled = logit_scale * logits
    if softcap is None:
        return scaled, np.full(logits.shape, logit_scale)
    slope = logit_scale / np.cosh(np.where(scaled == -np.inf, np.inf, scaled) / softcap) ** 2
    return _softcapped(scaled, softcap), slope


def _of_both(soft: Any, hard: Any, share: float) -> Any:
    """Return the loss of a divergence and of hard targets, which have a count in common."""
    if not isinstance(soft, tuple):
        return _times(np.asarray(1.0 - share), soft) + share * hard
    if share < 1.0 and soft[1] != hard[1]:
        raise ValueError(f"the divergence counts {soft[1]:g} tokens, the hard target {hard[1]:g}")
    return float(_times(np.asarray(1.0 - share), soft[0]) + share * hard[0]), hard[1]


def _linear_divergence(
    divergence: Callable[..., Any],
    student: tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike | None, float | None, float],
    teacher: tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike | None, float | None, float],
    temperature: float,
    mask: npt.ArrayLike | None,
    hard_target: npt.ArrayLike | None,
    hard_share: float,
    ignore_index: int,
    reduction: str,
    return_grad: bool,
    return_entropy: bool,
    grad_output: npt.ArrayLike | None,
) -> Any:
    """Return the loss of two layers, each with input, weight, bias, softcap and scale.

    For x the logits of the student's layer, z = softcap * tanh(logit_scale * x / softcap) and y the logits
    of the teacher, treated in the same way with an own softcap and scale,

        loss = (1 - hard_share) * divergence(z, y) + hard_share * cross_entropy(z, hard_target)
        d z / d x = logit_scale * (1 - tanh(logit_scale * x / softcap)**2)

    Each part has a mean of its own, so "sum_and_count" is an error unless both have the same tokens. A token
    outside the mask belongs to neither part and is never read.
    """
    if (hard_target is not None) != (hard_share > 0.0):
        raise ValueError("hard_target and hard_share need each other")
    _option("hard_share", hard_share, 0.0 <= hard_share <= 1.0, "in [0, 1]")
    rows = np.shape(student[0])[:-1]
    counted = np.ones(rows, dtype=np.bool_) if mask is None else np.asarray(mask, dtype=np.float64) == 1.0
    labels = np.where(counted, 0, -1)
    x, gradients = _linear(*student[:3], labels, -1)
    y, _ = _linear(*teacher[:3], labels, -1)
    z, slope = _capped(x, *student[3:])
    options: dict[str, Any] = {"reduction": reduction, "return_grad": True, "grad_output": grad_output}
    loss, of_z = divergence(z, _capped(y, *teacher[3:])[0], temperature=temperature, mask=mask, **options)
    if hard_target is not None:
        target = np.where(counted, np.asarray(hard_target), ignore_index)
        hard: Any = cross_entropy(z, target, ignore_index=ignore_index, **options)
        is_empty = reduction == "mean" and mask is not None and not (target != ignore_index).any()
        loss = _of_both(loss, 0.0 if is_empty else hard[0], hard_share)
        of_z = (1.0 - hard_share) * of_z + hard_share * hard[1]
    found = [float(loss) if np.ndim(loss) == 0 and reduction != "none" else loss]
    if return_grad:
        found.append(StudentGradients(*gradients(of_z * slope)))
    if return_entropy:
        entropies: Any = entropy(z, temperature=temperature)
        found.append(np.where(counted, entropies, 0.0))
    return tuple(found) if len(found) > 1 else found[0]


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def linear_kl_div(
    student_input: npt.ArrayLike,
    student_weight: npt.ArrayLike,
    teacher_input: npt.ArrayLike,
    teacher_weight: npt.ArrayLike,
    *,
    student_bias: npt.ArrayLike | None = None,
    teacher_bias: npt.ArrayLike | None = None,
    temperature: float = 1.0,
    student_softcap: float | None = None,
    teacher_softcap: float | None = None,
    student_logit_scale: float = 1.0,
    teacher_logit_scale: float = 1.0,
    mask: npt.ArrayLike | None = None,
    hard_target: npt.ArrayLike | None = None,
    hard_share: float = 0.0,
    ignore_index: int = -100,
    reduction: str = "mean",
    return_grad: bool = False,
    return_entropy: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Any:
    """Kullback-Leibler divergence of a student from its teacher, from the inputs of their last layers.

    The inputs have shapes (..., D) and (..., E), the weights (V, D) and (V, E), the biases (V,).

        student_logits = student_input @ student_weight.T + student_bias, and those of the teacher likewise
        loss = kl_div_with_logits(student_logits, teacher_logits), after scale and softcap of each

    With `hard_share` it is mixed with the student's cross entropy, without the temperature. "mean" divides
    each part by its own number of tokens: those under the mask, and those of them that are not ignored; if
    a mask leaves none, the part is 0. With `return_entropy` the entropies of the student, at the same
    temperature, are returned too.
    """
    return _linear_divergence(
        kl_div_with_logits,
        (student_input, student_weight, student_bias, student_softcap, student_logit_scale),
        (teacher_input, teacher_weight, teacher_bias, teacher_softcap, teacher_logit_scale),
        temperature,
        mask,
        hard_target,
        hard_share,
        ignore_index,
        reduction,
        return_grad,
        return_entropy,
        grad_output,
    )


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def linear_js_div(
    student_input: npt.ArrayLike,
    student_weight: npt.ArrayLike,
    teacher_input: npt.ArrayLike,
    teacher_weight: npt.ArrayLike,
    *,
    student_bias: npt.ArrayLike | None = None,
    teacher_bias: npt.ArrayLike | None = None,
    beta: float = 0.5,
    temperature: float = 1.0,
    student_softcap: float | None = None,
    teacher_softcap: float | None = None,
    student_logit_scale: float = 1.0,
    teacher_logit_scale: float = 1.0,
    mask: npt.ArrayLike | None = None,
    hard_target: npt.ArrayLike | None = None,
    hard_share: float = 0.0,
    ignore_index: int = -100,
    reduction: str = "mean",
    return_grad: bool = False,
    return_entropy: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Any:
    """Generalised Jensen-Shannon divergence of the distributions of two linear layers, for each token.

    Everything except the formula, that of js_div_with_logits, is as in linear_kl_div.
    """
    return _linear_divergence(
        partial(js_div_with_logits, beta=beta),
        (student_input, student_weight, student_bias, student_softcap, student_logit_scale),
        (teacher_input, teacher_weight, teacher_bias, teacher_softcap, teacher_logit_scale),
        temperature,
        mask,
        hard_target,
        hard_share,
        ignore_index,
        reduction,
        return_grad,
        return_entropy,
        grad_output,
    )


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def linear_tv_distance(
    student_input: npt.ArrayLike,
    student_weight: npt.ArrayLike,
    teacher_input: npt.ArrayLike,
    teacher_weight: npt.ArrayLike,
    *,
    student_bias: npt.ArrayLike | None = None,
    teacher_bias: npt.ArrayLike | None = None,
    temperature: float = 1.0,
    student_softcap: float | None = None,
    teacher_softcap: float | None = None,
    student_logit_scale: float = 1.0,
    teacher_logit_scale: float = 1.0,
    mask: npt.ArrayLike | None = None,
    hard_target: npt.ArrayLike | None = None,
    hard_share: float = 0.0,
    ignore_index: int = -100,
    reduction: str = "mean",
    return_grad: bool = False,
    return_entropy: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Any:
    """Total variation distance of the distributions of two linear layers, for each token.

    Everything except the formula, that of tv_distance_with_logits, is as in linear_kl_div.
    """
    return _linear_divergence(
        tv_distance_with_logits,
        (student_input, student_weight, student_bias, student_softcap, student_logit_scale),
        (teacher_input, teacher_weight, teacher_bias, teacher_softcap, teacher_logit_scale),
        temperature,
        mask,
        hard_target,
        hard_share,
        ignore_index,
        reduction,
        return_grad,
        return_entropy,
        grad_output,
    )


# Elementwise losses. Each element of the input has its own loss. So each function below consists of its
# formula, its derivatives, and one call of _elementwise for the rest: weight, reduction, upstream gradient.
# x is the input, t the target, and r = x - t.

Mask = npt.NDArray[np.bool_]


def _input_and_target(values: npt.ArrayLike, target: npt.ArrayLike) -> tuple[Array, Array]:
    """Return the input as float64, and the target, a scalar or of the same shape, in that shape."""
    x = np.asarray(values, dtype=np.float64)
    return x, _per_row("target", target, x.shape)


def _in_domain(name: str, values: Array, inside: Mask, expected: str) -> None:
    """Raise if a value is outside the domain of the loss. NaN is accepted."""
    bad = np.flatnonzero(~inside & ~np.isnan(values))
    if bad.size > 0:
        position = tuple(int(i) for i in np.unravel_index(bad[0], values.shape))
        raise ValueError(f"{name} must be {expected}, got {values[position]} at position {position}")


def _option(name: str, value: float, valid: bool, expected: str) -> None:
    """Raise if an option is out of range, NaN or infinite, or is not a number."""
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be a number, got {value}")
    if not (valid and math.isfinite(value)):
        raise ValueError(f"{name} must be {expected}, got {value}")


def _positive(**options: float | None) -> None:
    """Raise unless each option is positive and finite, or None."""
    for name, value in options.items():
        if value is not None:
            _option(name, value, value > 0.0, "positive and finite")


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def _weighed(
    value: Array,
    derivatives: Sequence[Callable[[], Array]],
    weight: npt.ArrayLike | None,
    reduction: str,
    return_grad: bool,
    grad_output: npt.ArrayLike | None,
    mean_over_weights: bool = True,
) -> tuple[Loss, list[Array]]:
    """Weight and reduce the loss of each element, and scale its derivatives to match.

        loss = sum(weight * value) / denominator
        derivative = weight * upstream / denominator * (derivative of value)

    The denominator of "mean" is the sum of the weights or the number of elements, otherwise it is 1. An
    element of weight 0 has loss and derivatives 0, unless it is NaN. A NaN element has NaN derivatives,
    even where a comparison in the derivative would hide it.
    """
    upstream = _upstream(grad_output, reduction, value.shape, return_grad).reshape(value.shape)
    weights = _per_row("weight", weight, value.shape)
    losses = _times(weights, value)
    result, denominator = _reduced(losses, weights.sum() if mean_over_weights else value.size, reduction)
    scale = weights * upstream / denominator
    results = [np.where(weights == 0.0, 0.0, _times(scale, derivative())) for derivative in derivatives]
    return result, [np.where(np.isnan(value), np.nan, scaled) for scaled in results]


def _elementwise(
    value: Array,
    derivatives: Sequence[Callable[[], Array]],
    weight: npt.ArrayLike | None = None,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
    return_hessian: bool = False,
    mean_over_weights: bool = True,
) -> Result:
    """Return the loss, and on request the first and second derivative."""
    if return_hessian and not return_grad:
        raise ValueError("return_hessian needs return_grad=True")
    wanted = derivatives[: int(return_grad) + int(return_hessian)]
    loss, results = _weighed(value, wanted, weight, reduction, return_grad, grad_output, mean_over_weights)
    if not return_grad:
        return loss
    return (loss, results[0], results[1]) if return_hessian else (loss, results[0])


# The loss of each element, and functions that return its first and second derivative by the input.
Derivative = Callable[[], Array]
WithSecond = tuple[Array, Derivative, Derivative]
Elements = tuple[Array, Derivative] | WithSecond

# The domains of targets, by their names in errors.
_DOMAINS: dict[str, Callable[[Array], Mask]] = {
    "in [0, 1]": lambda t: (t >= 0.0) & (t <= 1.0),
    "-1 or 1": lambda t: np.abs(t) == 1.0,
    "at least 0": lambda t: t >= 0.0,
    "positive": lambda t: t > 0.0,
    "greater than -1": lambda t: t > -1.0,
}


def _of_elements(
    name: str = "input",
    domain: str | None = None,
    *,
    has_hessian: bool = False,
    mean_over_weights: bool = True,
) -> Callable[[Callable[..., Elements]], Callable[..., Result]]:
    """Return a decorator that makes an elementwise loss of its formula.

    The formula takes the input x, the target t (float64 arrays of one shape) and the options of this loss.
    The loss calls the first two `name` and `target`. It also takes a weight w for each element, a reduction
    and `grad_output`, and returns derivatives on request, with `has_hessian` the second one too. "mean"
    divides by the sum of the weights, or by the number of elements.
    """

    def complete(formula: Callable[..., Elements]) -> Callable[..., Result]:
        first, second, *own = inspect.signature(formula).parameters.values()
        kinds = inspect.signature(_elementwise).parameters
        common = ["weight", "reduction", "return_grad", *["return_hessian"] * has_hessian, "grad_output"]
        signature = inspect.Signature(
            [
                first.replace(name=name, annotation=npt.ArrayLike),
                second.replace(name="target", annotation=npt.ArrayLike),
                *own,
                *(kinds[one].replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in common),
            ],
            return_annotation=Result,
        )

        @wraps(formula)
        @np.errstate(divide="ignore", invalid="ignore", over="ignore")
        def loss(*values: Any, **named: Any) -> Result:
            given = signature.bind(*values, **named).arguments
            x, t = _input_and_target(given.pop(name), given.pop("target"))
            if domain is not None:
                _in_domain("target", t, _DOMAINS[domain](t), domain)
            shared = {one: given.pop(one) for one in common if one in given}
            value, *derivatives = formula(x, t, **given)
            return _elementwise(value, derivatives, **shared, mean_over_weights=mean_over_weights)

        loss.__signature__ = signature  # type: ignore[attr-defined]
        return loss

    return complete


def _quotient(numerator: Array, denominator: Array) -> Array:
    """Divide, with 0 / 0 = 0."""
    return np.where((numerator == 0.0) & (denominator == 0.0), 0.0, numerator / denominator)


def _times_exp(coefficient: Array, exponent: Array) -> Array:
    """Return coefficient * exp(exponent), finite wherever the product is, and 0 for coefficient 0."""
    half = np.exp(0.5 * exponent)
    return _times(_times(coefficient, half), half)


def _sigmoid(x: Array) -> Array:
    """Return 1 / (1 + exp(-x)), to full precision on both sides."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0.0, 1.0, small) / (1.0 + small)


def _softplus(x: Array) -> Array:
    """Return log(1 + exp(x)): the loss of a logit x with target 0, and with -x that of target 1."""
    value: Array = np.logaddexp(0.0, x)
    return value


def _logistic(x: Array, positive: Array, negative: Array) -> Array:
    """Binary cross entropy of logits, from the weights of the two classes.

    Nothing cancels in this form: both terms are positive, and precise where they are small.

        positive * -log(sigmoid(x)) + negative * -log(1 - sigmoid(x))
    """
    return _times(positive, _softplus(-x)) + _times(negative, _softplus(x))


def _logistic_gradient(x: Array, positive: Array, negative: Array) -> Array:
    """Derivative of _logistic.

    As d softplus(x) / dx = sigmoid(x), it is

        negative * sigmoid(x) - positive * sigmoid(-x),

    precise where either is small. With sigmoid(x) = (1 + tanh(x / 2)) / 2 it is also

        (negative - positive) / 2 + (negative + positive) / 2 * tanh(x / 2),

    precise near x = 0, where equal weights (a target of 0.5) make it 0.
    """
    near = 0.5 * (negative - positive) + 0.5 * (negative + positive) * np.tanh(0.5 * x)
    return np.where(np.abs(x) < 1.0, near, negative * _sigmoid(x) - positive * _sigmoid(-x))


# Regression


@_of_elements(has_hessian=True)
def mse_loss(x: Array, t: Array) -> Elements:
    """Squared error.

        loss = w * r**2,  r = input - target
        d loss / d input = w * 2 * r,  and once more: w * 2

    "mean" divides by the sum of the weights.
    """
    r = x - t
    return r * r, lambda: 2.0 * r, lambda: np.full(r.shape, 2.0)


@_of_elements(has_hessian=True)
def l1_loss(x: Array, t: Array) -> Elements:
    """Absolute error.

        loss = w * |r|,  r = input - target
        d loss / d input = w * sign(r)  (0 at r = 0),  and once more: 0

    "mean" divides by the sum of the weights.
    """
    r = x - t
    return np.abs(r), lambda: np.sign(r), lambda: np.zeros(r.shape)


@_of_elements(has_hessian=True)
def huber_loss(x: Array, t: Array, *, delta: float = 1.0) -> Elements:
    """Half the squared error up to `delta`, and a straight line beyond.

    "mean" divides by the sum of the weights.

        loss = w * r**2 / 2                   where |r| <= delta,  r = input - target
               w * delta * (|r| - delta / 2)  elsewhere
        d loss / d input = w * r held within -delta and delta,
        and once more:     w where |r| <= delta, 0 elsewhere
    """
    _positive(delta=delta)
    r = x - t
    inside = np.abs(r) <= delta
    value = np.where(inside, 0.5 * r * r, delta * (np.abs(r) - 0.5 * delta))
    return value, lambda: np.clip(r, -delta, delta), lambda: inside.astype(np.float64)


@_of_elements(has_hessian=True)
def smooth_l1_loss(x: Array, t: Array, *, beta: float = 1.0) -> Elements:
    """Absolute error with a parabola instead of the kink; beta=0 is the absolute error itself.

    "mean" divides by the sum of the weights.

        loss = w * r**2 / (2 * beta)  where |r| < beta,  r = input - target
               w * (|r| - beta / 2)   elsewhere
        d loss / d input = w * r / beta  or  w * sign(r),
        and once more:     w / beta      or  0
    """
    _option("beta", beta, beta >= 0.0, "finite and at least 0")
    r = x - t
    inside = np.abs(r) < beta
    value = np.where(inside, 0.5 * r * (r / beta), np.abs(r) - 0.5 * beta)
    return (
        value,
        lambda: np.where(inside, r / beta, np.sign(r)),
        lambda: np.where(inside, np.divide(1.0, beta), 0.0),
    )


@_of_elements(has_hessian=True)
def log_cosh_loss(x: Array, t: Array) -> Elements:
    """Logarithm of the hyperbolic cosine of the error.

        loss = w * log(cosh(r)),  r = input - target
        d loss / d input = w * tanh(r),  and once more: w / cosh(r)**2

    "mean" divides by the sum of the weights.
    """
    r = x - t
    # cosh(r) = 1 + 2 * sinh(r / 2)**2 keeps the digits of a small r, and
    # cosh(r) = exp(|r|) / 2 * (1 + exp(-2 * |r|)) does not overflow.
    near = np.log1p(2.0 * np.sinh(0.5 * r) ** 2)
    far = np.abs(r) - math.log(2.0) + np.log1p(np.exp(-2.0 * np.abs(r)))
    value = np.where(np.abs(r) < 20.0, near, far)
    return value, lambda: np.tanh(r), lambda: (1.0 / np.cosh(r)) ** 2


@np.errstate(invalid="ignore", over="ignore")
def quantile_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    quantile: npt.ArrayLike = 0.5,
    reduction: str = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """Pinball loss; its minimum is that quantile of the target.

    With an array of quantiles the last axis of the input has a prediction for each of them. Targets, and
    weights with the shape of the targets, count for all of a row. "mean" divides by the sum of the weights.

        loss = w * max(q * d, (q - 1) * d),  d = target - input
        d loss / d input = -w * q       where the input is too small (d > 0)
                           w * (1 - q)  where it is too large (d < 0), and 0 at d = 0
        and once more:     0
    """
    q = np.asarray(quantile, np.float64)
    if q.ndim == 0:
        _option("quantile", float(q), 0.0 < float(q) < 1.0, "between 0 and 1")
        x, t = _input_and_target(input, target)
    else:
        x = np.asarray(input, np.float64)
        t = _per_row("target", target, x.shape[:-1])[..., np.newaxis]
        if weight is not None and np.shape(weight) == x.shape[:-1]:
            weight = np.broadcast_to(np.asarray(weight, np.float64)[..., np.newaxis], x.shape)
    d = t - x
    value = np.maximum(q * d, (q - 1.0) * d)
    derivatives = (
        lambda: np.where(d > 0.0, -q, np.where(d < 0.0, 1.0 - q, 0.0)),
        lambda: np.zeros(d.shape),
    )
    return _elementwise(value, derivatives, weight, reduction, return_grad, grad_output, return_hessian)


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def crps_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    quantile: npt.ArrayLike,
    *,
    quantile_weight: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, Array]:
    """Continuous ranked probability score of quantiles: twice the integral of their losses from 0 to 1.

    The trapezoidal rule with 0 at both ends, or other weights v. "mean" divides by the sum of w.

        v_k  = (q_(k+1) - q_(k-1)) / 2, where q_0 = 0 and q_(Q+1) = 1
        loss = w * 2 * sum_k v_k * max(q_k * d_k, (q_k - 1) * d_k),  d_k = target - input_k
        d loss / d input_k = -w * 2 * v_k * q_k       where the input is too small (d_k > 0)
                             w * 2 * v_k * (1 - q_k)  where it is too large (d_k < 0), and 0 at d_k = 0
    """
    x, q = np.asarray(input, np.float64), np.asarray(quantile, np.float64)
    rows = x.shape[:-1]
    if quantile_weight is None:
        if not (np.diff(q) >= 0.0).all():
            raise ValueError(f"quantile must ascend, got {q}")
        share = 0.5 * (np.r_[q[1:], 1.0] - np.r_[0.0, q[:-1]])
    else:
        share = _per_class(quantile_weight, q.size)
    d = _per_row("target", target, rows)[..., np.newaxis] - x
    factor = _per_row("sample_weight", sample_weight, rows)[..., np.newaxis] * 2.0 * share
    upstream = _upstream(grad_output, reduction, rows, return_grad).reshape(rows)
    losses = _times(factor, np.maximum(q * d, (q - 1.0) * d)).sum(axis=-1)
    result, denominator = _reduced(losses, _per_row("sample_weight", sample_weight, rows).sum(), reduction)
    if not return_grad:
        return result
    slope = np.where(d > 0.0, -q, np.where(d < 0.0, 1.0 - q, 0.0 * d))
    scale = upstream[..., np.newaxis] / denominator
    return result, np.where(factor == 0.0, 0.0 * d, _times(factor * scale, slope))


@_of_elements()
def epsilon_insensitive_loss(x: Array, t: Array, *, epsilon: float = 0.1) -> Elements:
    """Absolute error beyond `epsilon`, and 0 up to it.

        loss = w * max(0, |r| - epsilon),  r = input - target
        d loss / d input = w * sign(r) where |r| > epsilon, 0 elsewhere

    "mean" divides by the sum of the weights.
    """
    _option("epsilon", epsilon, epsilon >= 0.0, "finite and at least 0")
    r = x - t
    value = np.maximum(0.0, np.abs(r) - epsilon)
    return value, lambda: np.where(np.abs(r) > epsilon, np.sign(r), 0.0)


@_of_elements(domain="greater than -1")
def mean_squared_log_loss(x: Array, t: Array) -> Elements:
    """Squared difference of the logarithms of one plus each. "mean" divides by the sum of the weights.

    The target must be above -1. An input below -1 gives NaN.

        loss = w * d**2,  d = log(1 + input) - log(1 + target)
        d loss / d input = w * 2 * d / (1 + input)
    """
    # log(1 + high) - log(1 + low) = log(1 + (high - low) / (1 + low)), in which nothing cancels. Where the
    # quotient overflows, the logarithms are far apart and are subtracted as they are.
    low, high = np.minimum(x, t), np.maximum(x, t)
    ratio = (high - low) / (1.0 + low)
    d = np.where(np.isinf(ratio), np.log1p(high) - np.log1p(low), np.log1p(ratio))
    d = np.where(x < -1.0, np.nan, np.where(x < t, -d, d))
    return d * d, lambda: 2.0 * d / (1.0 + x)


@_of_elements(domain="at least 0", has_hessian=True)
def poisson_nll_loss(
    x: Array, t: Array, *, log_input: bool = True, full: bool = False, eps: float = 1e-8
) -> Elements:
    """Negative log-likelihood of counts, from the logarithm of their rate, or from the rate itself.

    The target must not be negative. "mean" divides by the sum of the weights.

        log_input:  loss = w * (exp(x) - t * x)
                    d loss / dx = w * (exp(x) - t),        and once more: w * exp(x)
        otherwise:  loss = w * (x - t * log(x + eps))
                    d loss / dx = w * (1 - t / (x + eps)), and once more: w * t / (x + eps)**2

    `full` adds Stirling's approximation of log(t!), w * (t * log(t) - t + log(2 * pi * t) / 2), where
    t > 1. With a target of 0 only the first term remains, also if the other factor is infinite.
    """
    _option("eps", eps, eps >= 0.0, "finite and at least 0")
    constant = np.where(full & (t > 1.0), t * np.log(t) - t + 0.5 * np.log(2.0 * math.pi * t), 0.0)
    if log_input:
        value, first, second = _of_log_rate(x, t)
        return value + constant, first, second
    rate = x + eps
    return (
        x - _times(t, np.log(rate)) + constant,
        # 1 - t / (x + eps) = (x - t + eps) / (x + eps), in which x - t is exact where it matters.
        lambda: np.where(t == 0.0, 1.0, (x - t + eps) / rate),
        lambda: _quotient(_quotient(t, rate), rate),
    )


def _of_log_rate(x: Array, t: Array) -> WithSecond:
    # Above 720 the exponential exceeds the other term for any finite t: where both terms overflow, and at
    # infinity, the loss is infinite.
    value = np.where((x > 720.0) & np.isfinite(t), np.inf, np.exp(x) - _times(t, x))
    return value, lambda: np.exp(x) - t, lambda: np.exp(x)


@_of_elements(domain="positive", has_hessian=True)
def gamma_nll_loss(x: Array, t: Array) -> Elements:
    """Negative log-likelihood of the gamma distribution, from the logarithm of its mean.

    Terms without the input are left out. The target must be positive. "mean" divides by the sum of
    the weights.

        loss = w * (x + t * exp(-x))
        d loss / dx = w * (1 - t * exp(-x)),  and once more: w * t * exp(-x)
    """
    return _of_log_mean(x, t)


def _of_log_mean(x: Array, t: Array) -> WithSecond:
    ratio = _times_exp(t, -x)
    return x + ratio, lambda: 1.0 - ratio, lambda: ratio


@_of_elements(has_hessian=True)
def tweedie_nll_loss(x: Array, t: Array, *, power: float = 1.5) -> Elements:
    """Half the Tweedie deviance (variance = mean**power), from the logarithm of the mean.

    Terms without the input are left out. The target must be at least 0 for 1 <= p < 2, and positive for
    p >= 2; for p <= 0 it may be any number, and no distribution has 0 < p < 1. "mean" divides by the sum of
    the weights. Powers 1 and 2 are poisson_nll_loss and gamma_nll_loss. For other powers

        loss = w * (exp((2 - p) * x) / (2 - p) - t * exp((1 - p) * x) / (1 - p))
        d loss / dx = w * (exp((2 - p) * x) - t * exp((1 - p) * x))
        and once more: w * ((2 - p) * exp((2 - p) * x) - (1 - p) * t * exp((1 - p) * x))
    """
    p = power
    _option("power", p, not 0.0 < p < 1.0, "finite and not between 0 and 1")
    if 1.0 <= p < 2.0:
        _in_domain("target", t, t >= 0.0, f"at least 0 for power {p}")
    elif p >= 2.0:
        _in_domain("target", t, t > 0.0, f"positive for power {p}")
    if p in (1.0, 2.0):
        return _of_log_rate(x, t) if p == 1.0 else _of_log_mean(x, t)

    # Value and derivatives are all a * exp((2 - p) * x) - b * t * exp((1 - p) * x). Where both terms are
    # infinite, the larger exponential is taken out as a factor, and the rest gives the sign of the
    # infinity.
    def combine(a: float, b: float) -> Array:
        first = _times_exp(np.full(x.shape, a), (2.0 - p) * x)
        second = _times_exp(b * t, (1.0 - p) * x)
        rest = a * np.exp(np.minimum(x, 0.0)) - b * t * np.exp(np.minimum(-x, 0.0))
        return np.where(np.isinf(first) & np.isinf(second), np.inf * rest, first - second)

    value = combine(1.0 / (2.0 - p), 1.0 / (1.0 - p))
    return value, lambda: combine(1.0, 1.0), lambda: combine(2.0 - p, 1.0 - p)


class GaussianGradients(NamedTuple):
    """The gradients of gaussian_nll_loss; that of a scalar variance is None."""

    input: Array
    var: Array | None


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def gaussian_nll_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    var: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, GaussianGradients]:
    """Negative log-likelihood of the normal distribution, from its mean and variance.

    The variance, a scalar or one for each element, must not be negative. Below `eps` it counts as `eps`;
    its gradient is not set to 0 there. `full` adds w * log(2 * pi) / 2. "mean" divides by the sum of the
    weights.

        loss = w * (log(v) + r**2 / v) / 2,  r = input - target,  v = max(var, eps)
        d loss / d input = w * r / v
        d loss / d var = w * (1 / v - r**2 / v**2) / 2
    """
    _option("eps", eps, eps >= 0.0, "finite and at least 0")
    x, t = _input_and_target(input, target)
    variance = _per_row("var", var, x.shape)
    _in_domain("var", variance, variance >= 0.0, "at least 0")
    r = x - t
    v = np.maximum(variance, eps)
    value = 0.5 * (np.log(v) + r * (r / v))
    if full:
        value = value + 0.5 * math.log(2.0 * math.pi)
    derivatives = (lambda: r / v, lambda: 0.5 * (1.0 / v - (r / v) ** 2)) if return_grad else ()
    loss, grads = _weighed(value, derivatives, weight, reduction, return_grad, grad_output)
    if not return_grad:
        return loss
    return loss, GaussianGradients(grads[0], None if np.ndim(var) == 0 else grads[1])


# Distributions


def _log_rising(t: Array, a: Array) -> tuple[Array, Array]:
    """Return log(Gamma(t + r) / Gamma(r)) - t log r of r = 1 / a, and its derivative by a.

    With the fraction f of t the whole steps are the sum of log(1 + (f + k) a) over k < floor(t). The rest,
    the same of f instead of t, is moved to R = r + 200: there it is the series of c_k(f) / R**k, of Tricomi
    and Erdelyi.
    """
    f = t - np.floor(t)
    steps = np.where(np.isfinite(t), np.floor(t), 0.0)
    value, slope = 0.0 * a, 0.0 * a
    for k in range(int(steps.max(initial=0.0))):
        z = f + k
        value = value + np.where(k < steps, np.log1p(z * a), 0.0)
        slope = slope + np.where(k < steps, z / (1.0 + z * a), 0.0)
    for j in range(200):
        value = value - np.log1p(f * a / (1.0 + j * a))
        slope = slope - f * (1.0 / ((1.0 + (f + j) * a) * (1.0 + j * a)) - 1.0 / (1.0 + 200.0 * a))
    value = value + f * np.log1p(200.0 * a)
    y, g, h = a / (1.0 + 200.0 * a), f * (f - 1.0), 2.0 * f - 1.0
    series = (
        g / 2.0,
        -g * h / 12.0,
        g * g / 12.0,
        -g * h * (3.0 * g - 1.0) / 120.0,
        g * g * (2.0 * g - 1.0) / 60.0,
    )
    for k, c in enumerate(series, 1):
        value = value + c * y**k
        slope = slope + k * c * y ** (k - 1) / (1.0 + 200.0 * a) ** 2
    return value + (t - t), slope + (t - t)


def _log_factorial(t: Array) -> Array:
    return np.array([math.lgamma(one + 1.0) if one > -1.0 else math.nan for one in t.flat]).reshape(t.shape)


class NegativeBinomialGradients(NamedTuple):
    """The gradients of negative_binomial_nll_loss; that of a scalar dispersion is a number."""

    input: Array
    dispersion: Array | float


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def negative_binomial_nll_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    dispersion: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    full: bool = False,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, NegativeBinomialGradients]:
    """Negative log-likelihood of the negative binomial distribution, from the logarithm of its mean.

    With mean m = exp(input), dispersion a > 0 and target t >= 0 the variance is m + a * m**2. `full` adds
    w * log(t!). "mean" divides by the sum of the weights.

        loss = w * (log(1 + a m) / a + t (log(1 + a m) - input) - log(Gamma(t + 1/a) / Gamma(1/a)) - t log(a))
        d loss / d input = w * (m - t) / (1 + a m)
        d loss / d a = w * ((t + 1/a) m / (1 + a m) - log(1 + a m) / a**2 - d/da of the last two terms)
    """
    x, t = _input_and_target(input, target)
    a = _per_row("dispersion", dispersion, x.shape)
    _in_domain("target", t, t >= 0.0, "at least 0")
    _in_domain("dispersion", a, a > 0.0, "greater than 0")
    m = np.exp(x)
    u = a * m
    rising, slope = _log_rising(t, a)
    value = np.log1p(u) / a + _times(t, np.log1p(u) - x) - rising
    if full:
        value = value + _log_factorial(t)
    # (log(1 + u) - u / (1 + u)) / u**2, by its series near 0
    near = sum((-1.0) ** k * (k + 1.0) / (k + 2.0) * np.minimum(u, 0.1) ** k for k in range(20))
    bend = np.where(u < 0.1, m * m * near, (np.log1p(u) - u / (1.0 + u)) / (a * a))
    derivatives = (
        (lambda: (m - t) / (1.0 + u), lambda: t * m / (1.0 + u) - bend - slope) if return_grad else ()
    )
    loss, grads = _weighed(value, derivatives, weight, reduction, return_grad, grad_output)
    if not return_grad:
        return loss
    return loss, NegativeBinomialGradients(grads[0], _of_parameter(grads[1], dispersion, x))


def _of_parameter(gradient: Array, parameter: npt.ArrayLike, x: Array) -> Array | float:
    """Return the gradient by a parameter: the sum of it if the parameter is a scalar beside an array."""
    return float(gradient.sum()) if np.ndim(parameter) == 0 and x.ndim else gradient


class StudentTGradients(NamedTuple):
    """The gradients of student_t_nll_loss; those of scalar parameters are numbers."""

    input: Array
    scale: Array | float
    df: Array | float


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def student_t_nll_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    scale: npt.ArrayLike,
    df: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    full: bool = False,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, StudentTGradients]:
    """Negative log-likelihood of Student's t-distribution, from location, scale s and degrees of freedom n.

    `full` adds w * log(pi) / 2. "mean" divides by the sum of the weights.

        loss = w * ((n + 1) / 2 * log(1 + q) + log(s) + log(n) / 2 - log(Gamma((n + 1) / 2) / Gamma(n / 2))),
        q = z**2 / n,  z = (input - target) / s
        d loss / d input = w * (n + 1) / n * z / (1 + q) / s
        d loss / d s = w * (1 - z**2) / (1 + q) / s
        d loss / d n = w * (log(1 + q) - (n + 1) / n * q / (1 + q)) / 2 + d/dn of the last two terms
    """
    x, t = _input_and_target(input, target)
    s, n = _per_row("scale", scale, x.shape), _per_row("df", df, x.shape)
    _in_domain("scale", s, s > 0.0, "greater than 0")
    _in_domain("df", n, n > 0.0, "greater than 0")
    z = (x - t) / s
    q = z * z / n
    # log(Gamma(n / 2 + 1 / 2) / Gamma(n / 2)) - log(n / 2) / 2
    rising, slope = _log_rising(np.full(x.shape, 0.5), 2.0 / n)
    value = 0.5 * (n + 1.0) * np.log1p(q) + np.log(s) + 0.5 * math.log(2.0) - rising
    if full:
        value = value + 0.5 * math.log(math.pi)
    near = q * q * sum((-1.0) ** k * (k + 1.0) / (k + 2.0) * np.minimum(q, 0.1) ** k for k in range(20))
    bend = np.where(q < 0.1, near, np.log1p(q) - q / (1.0 + q))
    derivatives = (
        (
            lambda: (n + 1.0) / n * z / (1.0 + q) / s,
            lambda: (1.0 - z * z) / (1.0 + q) / s,
            lambda: 0.5 * (bend - q / (1.0 + q) / n) + slope * 2.0 / (n * n),
        )
        if return_grad
        else ()
    )
    loss, grads = _weighed(value, derivatives, weight, reduction, return_grad, grad_output)
    if not return_grad:
        return loss
    return loss, StudentTGradients(
        grads[0], _of_parameter(grads[1], scale, x), _of_parameter(grads[2], df, x)
    )


# Two classes


@_of_elements("probs", "in [0, 1]", mean_over_weights=False)
def binary_cross_entropy(p: Array, t: Array) -> Elements:
    """Binary cross entropy of probabilities. "mean" divides by the number of elements.

    Probabilities p and targets must be in [0, 1]. As in torch, the logarithms are at least -100, and the
    denominator of the gradient is at least 1e-12.

        loss = -w * (t * max(log(p), -100) + (1 - t) * max(log(1 - p), -100))
        d loss / dp = w * (p - t) / max(p * (1 - p), 1e-12)
    """
    _in_domain("probs", p, (p >= 0.0) & (p <= 1.0), "in [0, 1]")
    value = -(t * np.maximum(np.log(p), -100.0) + (1.0 - t) * np.maximum(np.log1p(-p), -100.0))
    # Without the bounds: -t / p + (1 - t) / (1 - p) = (p - t) / (p * (1 - p)).
    return value, lambda: (p - t) / np.maximum(p * (1.0 - p), 1e-12)


@_of_elements("logits", "in [0, 1]", has_hessian=True, mean_over_weights=False)
def binary_cross_entropy_with_logits(
    x: Array, t: Array, *, pos_weight: npt.ArrayLike | None = None, label_smoothing: float = 0.0
) -> Elements:
    """Binary cross entropy of logits. "mean" divides by the number of elements.

    Targets must be in [0, 1]. `pos_weight` is a scalar, one for each class along the last axis, or
    one for each element.

        t'   = (1 - label_smoothing) * t + label_smoothing / 2
        loss = w * (pos_weight * t' * -log(sigmoid(x)) + (1 - t') * -log(1 - sigmoid(x)))
        d loss / dx = w * ((1 - t') * sigmoid(x) - pos_weight * t' * sigmoid(-x))
        and once more: w * (1 - t' + pos_weight * t') * sigmoid(x) * sigmoid(-x)
    """
    _option("label_smoothing", label_smoothing, 0.0 <= label_smoothing <= 1.0, "in [0, 1]")
    factor = np.asarray(1.0 if pos_weight is None else pos_weight, dtype=np.float64)
    if factor.shape not in ((), x.shape[-1:], x.shape):
        raise ValueError(
            f"pos_weight must be a scalar or have shape {x.shape[-1:]} or {x.shape}, got {factor.shape}"
        )
    positive = factor * ((1.0 - label_smoothing) * t + 0.5 * label_smoothing)
    negative = (1.0 - label_smoothing) * (1.0 - t) + 0.5 * label_smoothing
    return (
        _logistic(x, positive, negative),
        lambda: _logistic_gradient(x, positive, negative),
        lambda: (negative + positive) * _sigmoid(x) * _sigmoid(-x),
    )


@_of_elements("logits", "in [0, 1]", mean_over_weights=False)
def sigmoid_focal_loss(x: Array, t: Array, *, alpha: float | None = 0.25, gamma: float = 2.0) -> Elements:
    """Binary cross entropy of logits, reduced where the right class is already certain.

    Targets must be in [0, 1]. `alpha` weights class 1 against class 0; None or a negative value means no
    weights. "mean" divides by the number of elements.

        ce   = t * -log(sigmoid(x)) + (1 - t) * -log(1 - sigmoid(x))
        u    = 1 - p_t = t * sigmoid(-x) + (1 - t) * sigmoid(x)
        a    = alpha * t + (1 - alpha) * (1 - t),  or 1
        loss = w * a * u**gamma * ce
        d loss / dx = w * a * u**gamma * (ce' + gamma * (1 - 2 * t) * sigmoid(x) * sigmoid(-x) / u * ce)
    """
    _option("gamma", gamma, gamma >= 0.0, "finite and at least 0")
    if alpha is not None:
        _option("alpha", alpha, alpha <= 1.0, "in [0, 1], or None or negative for none")
    ce = _logistic(x, t, 1.0 - t)
    factor = (t * _sigmoid(-x) + (1.0 - t) * _sigmoid(x)) ** gamma
    if alpha is not None and alpha >= 0.0:
        factor = factor * (alpha * t + (1.0 - alpha) * (1.0 - t))

    # d u**gamma / dx = gamma * u**gamma * u' / u, where u' = (1 - 2 * t) * sigmoid(x) * sigmoid(-x).
    # With 1 / sigmoid(x) = 1 + exp(-x), u / (sigmoid(x) * sigmoid(-x)) is a sum that never vanishes:
    #
    #     t / sigmoid(x) + (1 - t) / sigmoid(-x) = 1 + t * exp(-x) + (1 - t) * exp(x).
    def gradient() -> Array:
        share = 1.0 / (1.0 + _times(t, np.exp(-x)) + _times(1.0 - t, np.exp(x)))
        return factor * (_logistic_gradient(x, t, 1.0 - t) + gamma * (1.0 - 2.0 * t) * _times(share, ce))

    # A class with weight 0 by alpha contributes 0 for any logit.
    return _times(factor, ce), gradient


@_of_elements("scores", "-1 or 1")
def hinge_loss(x: Array, t: Array, *, margin: float = 1.0) -> Elements:
    """Distance of a score below the margin on the right side. "mean" divides by the sum of the weights.

    Targets must be -1 or 1.

        loss = w * max(0, margin - t * x)
        d loss / dx = -w * t where t * x < margin, 0 elsewhere
    """
    _option("margin", margin, True, "finite")
    short = np.maximum(0.0, margin - t * x)
    return short, lambda: np.where(short > 0.0, -t, 0.0)


@_of_elements("scores", "-1 or 1")
def squared_hinge_loss(x: Array, t: Array, *, margin: float = 1.0) -> Elements:
    """Square of the hinge loss of a score. "mean" divides by the sum of the weights.

    Targets must be -1 or 1.

        loss = w * max(0, margin - t * x)**2
        d loss / dx = -w * 2 * t * max(0, margin - t * x)
    """
    _option("margin", margin, True, "finite")
    short = np.maximum(0.0, margin - t * x)
    return short * short, lambda: -2.0 * t * short


@_of_elements(domain="-1 or 1")
def hinge_embedding_loss(x: Array, t: Array, *, margin: float = 1.0) -> Elements:
    """A distance where t = 1, its shortfall of a margin where t = -1; "mean" divides by the weights' sum.

    loss = w * x where t = 1,  w * max(0, margin - x) where t = -1
    d loss / dx = w where t = 1,  -w where t = -1 and x <= margin,  0 elsewhere
    """
    _option("margin", margin, True, "finite")
    loss = np.where(t == 1.0, x, np.maximum(0.0, margin - x)) + 0.0 * t
    return loss, lambda: np.where(t == 1.0, 1.0, np.where(x <= margin, -1.0, 0.0))


class MarginRankingGradients(NamedTuple):
    """The gradients of margin_ranking_loss; that of a scalar is None."""

    input1: Array
    input2: Array | None


@np.errstate(invalid="ignore", over="ignore")
def margin_ranking_loss(
    input1: npt.ArrayLike,
    input2: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    margin: float = 0.0,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, MarginRankingGradients]:
    """Distance by which the better of two scores fails to exceed the other by the margin.

    z    = margin - t * (input1 - input2)
    loss = max(0, z)
    d loss / d input1 = -t where z >= 0,  0 elsewhere; d loss / d input2 is the opposite
    """
    _option("margin", margin, True, "finite")
    x, t = _input_and_target(input1, target)
    y = _per_row("input2", input2, x.shape)
    _in_domain("target", t, np.abs(t) == 1.0, "-1 or 1")
    z = margin - t * (x - y)
    derivatives = (lambda: np.where(z >= 0.0, -t, 0.0), lambda: np.where(z >= 0.0, t, 0.0))
    loss, grads = _weighed(
        np.maximum(0.0, z), derivatives if return_grad else (), None, reduction, return_grad, grad_output
    )
    if not return_grad:
        return loss
    return loss, MarginRankingGradients(grads[0], None if np.ndim(input2) == 0 else grads[1])


@_of_elements("scores", "-1 or 1", has_hessian=True)
def soft_margin_loss(x: Array, t: Array) -> Elements:
    """Logistic loss of a score. "mean" divides by the sum of the weights.

    Targets must be -1 or 1.

        loss = w * log(1 + exp(-t * x))
        d loss / dx = -w * t * sigmoid(-t * x),  and once more (t**2 = 1): w * sigmoid(x) * sigmoid(-x)
    """
    return _softplus(-t * x), lambda: -t * _sigmoid(-t * x), lambda: _sigmoid(x) * _sigmoid(-x)


# Rows of scores, each with one class


@np.errstate(invalid="ignore", over="ignore")
def multi_margin_loss(
    scores: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    p: int = 1,
    margin: float = 1.0,
    weight: npt.ArrayLike | None = None,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, Array]:
    """Distance by which the score of the right class y fails to exceed every other by the margin.

    The classes are the last axis of the scores, and the target holds their indices. p is 1 or 2, and
    `weight` has a weight for each of the C classes. "mean" divides by the number of rows.

        s_j  = max(0, margin - x_y + x_j) for j != y
        loss = w_y / C * sum_{j != y} s_j**p
        d loss / d x_j = w_y / C * p * s_j**(p - 1) where s_j > 0, 0 elsewhere
        d loss / d x_y = minus the sum of the others
    """
    x = _classes_last("scores", scores, -1)
    rows, classes = x.shape[:-1], x.shape[-1]
    class_weight = _per_class(weight, classes)
    upstream = _upstream(grad_output, reduction, rows, return_grad).reshape(rows)
    _option("p", p, p in (1, 2), "1 or 2")
    _option("margin", margin, True, "finite")
    counted, y = _class_indices(target, rows, classes, ignore_index=-1)
    if not counted.all():  # there is no ignore_index here
        raise IndexError(f"target -1 at row {np.argmin(counted)} is not a class index below {classes}")

    y = y.reshape(rows)
    is_target = np.arange(classes) == y[..., np.newaxis]
    own = np.take_along_axis(x, y[..., np.newaxis], axis=-1)
    short = np.where(is_target, 0.0, np.maximum(0.0, margin - (own - x)))
    value = np.where(np.isnan(own[..., 0]), np.nan, (short**p).sum(axis=-1))
    losses = _times(class_weight[y] / classes, value)
    result, denominator = _reduced(losses, value.size, reduction)
    if not return_grad:
        return result

    # A row whose loss is NaN is NaN throughout.
    slope = np.where(short > 0.0, p * short ** (p - 1), 0.0)
    slope = np.where(is_target, -slope.sum(axis=-1, keepdims=True), slope)
    slope = np.where(np.isnan(value)[..., np.newaxis], np.nan, slope)
    return result, _times((class_weight[y] / classes * upstream / denominator)[..., np.newaxis], slope)


@np.errstate(invalid="ignore", over="ignore")
def multilabel_margin_loss(
    scores: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, Array]:
    """Distance by which the score of each label y of a row fails to exceed that of every other class by 1.

    The labels of a row are the indices of its target before the first -1; one that is there twice counts
    twice. "mean" divides by the number of rows.

        s_yj = max(0, 1 - x_y + x_j) for labels y and classes j that are no labels
        loss = sum_yj s_yj / C
        d loss / d x_j = (number of y with s_yj > 0) / C,  d loss / d x_y = -(number of j with s_yj > 0) / C
    """
    x = _classes_last("scores", scores, -1)
    rows, classes = x.shape[:-1], x.shape[-1]
    indices = np.asarray(target)
    if indices.shape != x.shape or not np.issubdtype(indices.dtype, np.integer):
        raise ValueError(f"target must hold integers of shape {x.shape}, got {indices.dtype} {indices.shape}")
    upstream = _upstream(grad_output, reduction, rows, return_grad)
    losses, grad = np.zeros(math.prod(rows)), np.zeros((math.prod(rows), classes))
    flat = zip(x.reshape(-1, classes), indices.reshape(-1, classes), strict=True)
    for row, (of_row, given) in enumerate(flat):
        labels = given[: np.argmax([*(given == -1), True])].astype(np.intp)
        if ((labels < 0) | (labels >= classes)).any():
            raise IndexError(f"target of row {row} must hold class indices below {classes}, got {labels}")
        others = np.setdiff1d(np.arange(classes), labels)
        short = np.maximum(0.0, 1.0 - of_row[labels][:, np.newaxis] + of_row[others])
        losses[row] = short.sum() / classes
        grad[row, others] = (short > 0.0).sum(axis=0) / classes
        np.subtract.at(grad[row], labels, (short > 0.0).sum(axis=1) / classes)
    result, denominator = _reduced(losses.reshape(rows), losses.size, reduction)
    if not return_grad:
        return result
    return result, _of_rows(losses, [grad], upstream / denominator)[0].reshape(x.shape)


@np.errstate(invalid="ignore", over="ignore")
def multilabel_soft_margin_loss(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, Array]:
    """Binary cross entropy of logits, averaged over the classes of each row.

    The C classes are the last axis of logits and target, and `weight` has a weight for each. Targets
    must be in [0, 1]. "mean" divides by the number of rows.

        loss = sum_c w_c / C * (t_c * -log(sigmoid(x_c)) + (1 - t_c) * -log(1 - sigmoid(x_c)))
        d loss / d x_c = w_c / C * ((1 - t_c) * sigmoid(x_c) - t_c * sigmoid(-x_c))
    """
    x = _classes_last("logits", logits, -1)
    rows, classes = x.shape[:-1], x.shape[-1]
    share = _per_class(weight, classes) / classes
    upstream = _upstream(grad_output, reduction, rows, return_grad).reshape((*rows, 1))
    t = _per_row("target", target, x.shape)
    _in_domain("target", t, (t >= 0.0) & (t <= 1.0), "in [0, 1]")
    value = _logistic(x, t, 1.0 - t)
    losses = np.asarray(_times(share, value).sum(axis=-1))
    result, denominator = _reduced(losses, losses.size, reduction)
    if not return_grad:
        return result
    return result, _times(share * upstream / denominator, _logistic_gradient(x, t, 1.0 - t))


# Penalties


def l1_penalty(
    params: npt.ArrayLike,
    strength: float,
    *,
    reduction: str = "sum",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """Sum of the absolute values of the parameters.

        loss = strength * sum |w|
        d loss / dw = strength * sign(w)  (0 at 0)

    "mean" divides the sum by the number of parameters.
    """
    _option("strength", strength, strength >= 0.0, "finite and at least 0")
    return elastic_net_penalty(
        params, strength, 0.0, reduction=reduction, return_grad=return_grad, grad_output=grad_output
    )


def l2_penalty(
    params: npt.ArrayLike,
    strength: float,
    *,
    reduction: str = "sum",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """Half the sum of the squares of the parameters.

        loss = strength / 2 * sum w**2
        d loss / dw = strength * w

    "mean" divides the sum by the number of parameters.
    """
    _option("strength", strength, strength >= 0.0, "finite and at least 0")
    return elastic_net_penalty(
        params, 0.0, strength, reduction=reduction, return_grad=return_grad, grad_output=grad_output
    )


@np.errstate(invalid="ignore", over="ignore")
def elastic_net_penalty(
    params: npt.ArrayLike,
    l1: float,
    l2: float,
    *,
    reduction: str = "sum",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """Sum of the absolute values and half the sum of the squares, each with its own strength.

        loss = l1 * sum |w| + l2 / 2 * sum w**2
        d loss / dw = l1 * sign(w) + l2 * w

    "mean" divides the sum by the number of parameters.
    """
    _option("l1", l1, l1 >= 0.0, "finite and at least 0")
    _option("l2", l2, l2 >= 0.0, "finite and at least 0")
    w = np.asarray(params, dtype=np.float64)
    first, second = np.asarray(l1, dtype=np.float64), np.asarray(l2, dtype=np.float64)
    value = _times(first, np.abs(w)) + _times(second, 0.5 * w * w)
    derivatives = (lambda: l1 * np.sign(w) + _times(second, w),)
    return _elementwise(value, derivatives, None, reduction, return_grad, grad_output)


# Losses of preferences, from the log-probabilities of a chosen and of a rejected answer under the policy
# and under the model that it started from. Below, s(x) = sigmoid(x) and ls(x) = log(s(x)) = -softplus(-x).


class PairGradients(NamedTuple):
    """The gradients of a loss of pairs of answers."""

    policy_chosen_logps: Array
    policy_rejected_logps: Array


class RewardGradients(NamedTuple):
    """The gradients of reward_model_loss."""

    chosen_rewards: Array
    rejected_rewards: Array


class PreferenceRewards(NamedTuple):
    """The result of preference_rewards."""

    chosen: Array
    rejected: Array
    margins: Array
    accuracy: float


def _of_shape(name: str, values: npt.ArrayLike, shape: tuple[int, ...]) -> Array:
    """Return an array of exactly this shape as float64."""
    array = np.asarray(values, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    return array


def _references(
    chosen: npt.ArrayLike | None, rejected: npt.ArrayLike | None, shape: tuple[int, ...]
) -> tuple[Array, Array]:
    """Return the log-probabilities under the reference model, zeros without one."""
    if chosen is None and rejected is None:
        return np.zeros(shape), np.zeros(shape)
    if chosen is None or rejected is None:
        missing = "ref_chosen_logps" if chosen is None else "ref_rejected_logps"
        raise ValueError(f"{missing} is missing: give both references or neither")
    return _of_shape("ref_chosen_logps", chosen, shape), _of_shape("ref_rejected_logps", rejected, shape)


def _smoothed(x: Array, smoothing: float) -> tuple[Array, Array]:
    """Return -(1 - e) * ls(x) - e * ls(-x), and its derivative."""
    right, wrong = np.asarray(1.0 - smoothing), np.asarray(smoothing, dtype=np.float64)
    return _logistic(x, right, wrong), _logistic_gradient(x, right, wrong)


def _discopop(x: Array, tau: float) -> tuple[Array, Array]:
    """Return -(1 - m) * ls(x) + m * exp(-x) with m = s(x / tau), and its derivative.

    The last term is written as exp(ls(x / tau) - x): far below 0 that is exp(x / tau - x), which is finite
    for tau < 1 though exp(-x) is not. With m' = m * (1 - m) / tau the derivative is

        m' * ls(x) - (1 - m) * s(-x) + (m' - m) * exp(-x).
    """
    m, rest = _sigmoid(x / tau), _sigmoid(-x / tau)
    last = np.exp(-_softplus(-x / tau) - x)
    value = _times(rest, _softplus(-x)) + last
    slope = -_times(m * rest / tau, _softplus(-x)) - rest * _sigmoid(-x) + _times(rest / tau - 1.0, last)
    return value, slope


def _of_difference(
    loss_type: str, d: Array, beta: float, smoothing: float, tau: float = 1.0
) -> tuple[Array, Array]:
    """Return a loss of the difference of two scores, and its derivative with respect to it."""
    x = beta * d
    if loss_type == "hinge":
        return np.maximum(0.0, 1.0 - x), np.where(x < 1.0, -beta, 0.0)
    if loss_type == "ipo":
        r = d - 1.0 / (2.0 * beta)
        return r * r, 2.0 * r
    if loss_type == "exo_pair":
        # p * (log(p) - log(1 - e)) + q * (log(q) - log(e)) with p = s(x), q = s(-x): as dp/dx = p * q and
        # log(p) - log(q) = x, its derivative is p * q * (x - log(1 - e) + log(e)).
        p, q = _sigmoid(x), _sigmoid(-x)
        right, wrong = math.log1p(-smoothing), math.log(smoothing)
        value = _times(p, -_softplus(-x) - right) + _times(q, -_softplus(x) - wrong)
        return value, beta * _times(p * q, x - right + wrong)
    if loss_type == "robust":
        wrong_side = _times(np.asarray(smoothing, dtype=np.float64), _softplus(x))
        value = (1.0 - smoothing) * _softplus(-x) - wrong_side
        slope = -(1.0 - smoothing) * _sigmoid(-x) - smoothing * _sigmoid(x)
        return value / (1.0 - 2.0 * smoothing), beta * slope / (1.0 - 2.0 * smoothing)
    value, slope = _discopop(x, tau) if loss_type == "discopop" else _smoothed(x, smoothing)
    return value, beta * slope


def _of_log_ratios(loss_type: str, rc: Array, rr: Array, b: float) -> tuple[Array, Array, Array]:
    """Return a loss of the two log-ratios, and its derivatives with respect to them."""
    if loss_type == "nca_pair":
        value = _softplus(-b * rc) + 0.5 * _softplus(b * rc) + 0.5 * _softplus(b * rr)
        by_rc = 0.5 * _sigmoid(b * rc) - _sigmoid(-b * rc)
        return value, b * by_rc, b * 0.5 * _sigmoid(b * rr)
    if loss_type == "bco_pair":
        return _softplus(-b * rc) + _softplus(b * rr), -b * _sigmoid(-b * rc), b * _sigmoid(b * rr)
    if loss_type == "sppo_hard":
        c, r = rc - 0.5 / b, rr + 0.5 / b
        return c * c + r * r, 2.0 * c, 2.0 * r
    # 1 - s(x) = s(-x) keeps its digits where it is small, and d s(x) / dx = s(x) * s(-x).
    of_c, of_r = (b * _sigmoid(b * r) * _sigmoid(-b * r) for r in (rc, rr))
    if loss_type == "apo_zero":
        return _sigmoid(-b * rc) + _sigmoid(b * rr), -of_c, of_r
    d = rc - rr  # apo_down
    of_d = b * _sigmoid(b * d) * _sigmoid(-b * d)
    return _sigmoid(b * rc) + _sigmoid(-b * d), of_c - of_d, of_d


def _score(r: Array, f_divergence_type: str, alpha: float) -> tuple[Array, Array]:
    """Return the score of a log-ratio under an f-divergence, and its derivative."""
    if f_divergence_type == "reverse_kl":
        return r, np.ones(r.shape)
    if f_divergence_type == "js_divergence":
        return -_softplus(-r), _sigmoid(-r)
    # exp(u * r) / u, where the exponent is at most 80; forward_kl is the case u = -1.
    u = -1.0 if f_divergence_type == "forward_kl" else alpha - 1.0
    if abs(u) < 1e-6:
        return r, np.ones(r.shape)
    value = np.exp(np.minimum(u * r, 80.0))
    # A difference of scores loses digits for a small u, so scores are relative to that of r = 0.
    return np.expm1(np.minimum(u * r, 80.0)) / u, np.where(u * r > 80.0, 0.0, value)


_OF_SMOOTHING = ("sigmoid", "exo_pair", "robust", "aot", "aot_unpaired")
_OF_DIFFERENCE = ("sigmoid", "hinge", "ipo", "exo_pair", "robust", "discopop")
_OF_LOG_RATIOS = ("nca_pair", "bco_pair", "sppo_hard", "apo_zero", "apo_down")
_F_DIVERGENCES = ("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence")


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def dpo_loss(
    policy_chosen_logps: npt.ArrayLike,
    policy_rejected_logps: npt.ArrayLike,
    ref_chosen_logps: npt.ArrayLike | None = None,
    ref_rejected_logps: npt.ArrayLike | None = None,
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    loss_type: str = "sigmoid",
    reference_free: bool = False,
    f_divergence_type: str = "reverse_kl",
    f_alpha_divergence_coef: float = 0.5,
    discopop_tau: float = 0.05,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, PairGradients]:
    """Direct preference optimisation and related losses.

    With rc = policy_chosen - ref_chosen, rr = policy_rejected - ref_rejected (without the references where
    `reference_free`), D = score(rc) - score(rr), b = beta and e = label_smoothing:

        sigmoid       -(1 - e) * ls(b * D) - e * ls(-b * D)
        hinge         max(0, 1 - b * D)
        ipo           (D - 1 / (2 * b))**2
        exo_pair      s(b * D) * (ls(b * D) - log(1 - e)) + s(-b * D) * (ls(-b * D) - log(e))
        nca_pair      -ls(b * rc) - ls(-b * rc) / 2 - ls(-b * rr) / 2
        robust        (-(1 - e) * ls(b * D) + e * ls(-b * D)) / (1 - 2 * e)
        bco_pair      -ls(b * rc) - ls(-b * rr)
        sppo_hard     (rc - 1 / (2 * b))**2 + (rr + 1 / (2 * b))**2
        aot           as sigmoid, D = sort(policy_chosen - policy_rejected) - sort(ref_chosen - ref_rejected)
        aot_unpaired  as sigmoid, D = sort(rc) - sort(rr)
        apo_zero      1 - s(b * rc) + s(b * rr)
        apo_down      s(b * rc) + 1 - s(b * (rc - rr))
        discopop      -(1 - m) * ls(b * D) + m * exp(-b * D),  m = s(b * D / discopop_tau)

    The score of a log-ratio r is r for reverse_kl, -exp(-r) for forward_kl, ls(r) for js_divergence and
    exp((a - 1) * r) / (a - 1) for alpha_divergence, a = f_alpha_divergence_coef (r where |a - 1| < 1e-6).
    Exponents are at most 80. aot sorts all elements at once, with a stable sort. Losses are those of the
    sorted rows; gradients are in the order of the log-probabilities.
    """
    _positive(beta=beta)
    _positive(discopop_tau=discopop_tau)
    _option("f_alpha_divergence_coef", f_alpha_divergence_coef, True, "finite")
    _option("label_smoothing", label_smoothing, 0.0 <= label_smoothing <= 1.0, "in [0, 1]")
    if loss_type not in (*_OF_SMOOTHING, *_OF_DIFFERENCE, *_OF_LOG_RATIOS):
        raise ValueError(f"unknown loss_type {loss_type!r}")
    if label_smoothing != 0.0 and loss_type not in _OF_SMOOTHING:
        raise ValueError(f"label_smoothing is not for loss_type {loss_type!r}")
    if loss_type == "exo_pair" and not 0.0 < label_smoothing < 1.0:
        raise ValueError(f"label_smoothing must be in (0, 1) for exo_pair, got {label_smoothing}")
    if loss_type == "robust" and label_smoothing >= 0.5:
        raise ValueError(f"label_smoothing must be below 0.5 for robust, got {label_smoothing}")
    if f_divergence_type not in _F_DIVERGENCES:
        raise ValueError(f"unknown f_divergence_type {f_divergence_type!r}")
    if f_divergence_type != "reverse_kl" and loss_type not in _OF_DIFFERENCE:
        raise ValueError(f"f_divergence_type is not for loss_type {loss_type!r}")
    chosen = np.asarray(policy_chosen_logps, dtype=np.float64)
    rejected = _of_shape("policy_rejected_logps", policy_rejected_logps, chosen.shape)
    if reference_free:
        ref_chosen_logps = ref_rejected_logps = None
    elif ref_chosen_logps is None and ref_rejected_logps is None:
        raise ValueError("ref_chosen_logps and ref_rejected_logps are missing")
    ref_chosen, ref_rejected = _references(ref_chosen_logps, ref_rejected_logps, chosen.shape)
    rc, rr = chosen - ref_chosen, rejected - ref_rejected

    if loss_type in ("aot", "aot_unpaired"):
        if loss_type == "aot":
            up, down = (chosen - rejected).reshape(-1), (ref_chosen - ref_rejected).reshape(-1)
        else:
            up, down = rc.reshape(-1), rr.reshape(-1)
        rank_up, rank_down = np.argsort(up, kind="stable"), np.argsort(down, kind="stable")
        d = (up[rank_up] - down[rank_down]).reshape(chosen.shape)
        value, slope = _of_difference(loss_type, d, beta, label_smoothing)
        loss, grads = _weighed(value, (lambda: slope,), None, reduction, return_grad, grad_output)
        if not return_grad:
            return loss
        of_chosen, of_rejected = np.zeros(up.size), np.zeros(up.size)
        of_chosen[rank_up] = grads[0].reshape(-1)
        # For aot a pair has one place in the sorted rows; for aot_unpaired each of its answers has its own.
        of_rejected[rank_up if loss_type == "aot" else rank_down] = -grads[0].reshape(-1)
        return loss, PairGradients(of_chosen.reshape(chosen.shape), of_rejected.reshape(chosen.shape))

    if loss_type in _OF_LOG_RATIOS:
        value, by_rc, by_rr = _of_log_ratios(loss_type, rc, rr, beta)
    else:
        of_c, slope_c = _score(rc, f_divergence_type, f_alpha_divergence_coef)
        of_r, slope_r = _score(rr, f_divergence_type, f_alpha_divergence_coef)
        value, slope = _of_difference(loss_type, of_c - of_r, beta, label_smoothing, discopop_tau)
        by_rc, by_rr = _times(slope_c, slope), -_times(slope_r, slope)
    return _of_pairs(value, by_rc, by_rr, reduction, return_grad, grad_output)


def _of_pairs(
    value: Array,
    by_chosen: Array,
    by_rejected: Array,
    reduction: str,
    return_grad: bool,
    grad_output: npt.ArrayLike | None,
) -> Loss | tuple[Loss, PairGradients]:
    """Reduce the losses of pairs, and scale their derivatives to match."""
    derivatives = (lambda: by_chosen, lambda: by_rejected)
    loss, grads = _weighed(value, derivatives, None, reduction, return_grad, grad_output)
    return (loss, PairGradients(*grads)) if return_grad else loss


def preference_rewards(
    policy_chosen_logps: npt.ArrayLike,
    policy_rejected_logps: npt.ArrayLike,
    ref_chosen_logps: npt.ArrayLike | None = None,
    ref_rejected_logps: npt.ArrayLike | None = None,
    *,
    beta: float = 0.1,
) -> PreferenceRewards:
    """Implicit rewards of a policy, their margins, and the share of pairs in which the chosen answer wins.

    Absent references count as 0.

        rewards  = beta * (policy - ref)
        margins  = chosen reward - rejected reward
        accuracy = share of the pairs with chosen reward > rejected reward (NaN for no pairs)
    """
    _positive(beta=beta)
    chosen = np.asarray(policy_chosen_logps, dtype=np.float64)
    rejected = _of_shape("policy_rejected_logps", policy_rejected_logps, chosen.shape)
    ref_chosen, ref_rejected = _references(ref_chosen_logps, ref_rejected_logps, chosen.shape)
    of_chosen, of_rejected = (np.asarray(beta * r) for r in (chosen - ref_chosen, rejected - ref_rejected))
    wins = np.asarray(of_chosen > of_rejected)
    accuracy = float(wins.sum() / wins.size) if wins.size else math.nan
    return PreferenceRewards(of_chosen, of_rejected, np.asarray(of_chosen - of_rejected), accuracy)


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def reward_model_loss(
    chosen_rewards: npt.ArrayLike,
    rejected_rewards: npt.ArrayLike,
    *,
    margin: npt.ArrayLike | None = None,
    center_coefficient: float = 0.0,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, RewardGradients]:
    """Bradley-Terry loss of a reward model, with optional centering of the rewards at 0.

    With chosen reward c, rejected reward r, and the margin a scalar, 0 or one for each pair:

        loss = -ls(c - r - margin) + center_coefficient * (c + r)**2
        d loss / dc = -s(-(c - r - margin)) + 2 * center_coefficient * (c + r)
        d loss / dr =  s(-(c - r - margin)) + 2 * center_coefficient * (c + r)
    """
    _option("center_coefficient", center_coefficient, center_coefficient >= 0.0, "finite and at least 0")
    c = np.asarray(chosen_rewards, dtype=np.float64)
    r = _of_shape("rejected_rewards", rejected_rewards, c.shape)
    z = c - r - (0.0 if margin is None else _per_row("margin", margin, c.shape))
    center = np.asarray(center_coefficient, dtype=np.float64)
    value = _softplus(-z) + _times(center, (c + r) ** 2)
    slope, pull = _sigmoid(-z), _times(center, 2.0 * (c + r))
    derivatives = (lambda: pull - slope, lambda: pull + slope)
    loss, grads = _weighed(value, derivatives, None, reduction, return_grad, grad_output)
    return (loss, RewardGradients(*grads)) if return_grad else loss


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def kto_loss(
    policy_logps: npt.ArrayLike,
    ref_logps: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    kl: float = 0.0,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
    loss_type: str = "kto",
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """Kahneman-Tversky optimisation, for answers that are desirable (label 1) or undesirable (label 0).

    With r = policy_logps - ref_logps, k = max(kl, 0) (0 for apo_zero_unpaired) and b = beta, "mean" dividing
    by the number of answers:

        desirable:    loss = desirable_weight   * (1 - s(b * (r - k)))
        undesirable:  loss = undesirable_weight * (1 - s(b * (k - r)))
        d loss / d policy_logps = -/+ weight * b * s(b * (r - k)) * s(b * (k - r))
    """
    _positive(beta=beta)
    _option("kl", kl, True, "finite")
    _option("desirable_weight", desirable_weight, desirable_weight >= 0.0, "finite and at least 0")
    _option("undesirable_weight", undesirable_weight, undesirable_weight >= 0.0, "finite and at least 0")
    if loss_type not in ("kto", "apo_zero_unpaired"):
        raise ValueError(f"unknown loss_type {loss_type!r}")
    if loss_type == "apo_zero_unpaired" and kl != 0.0:
        raise ValueError("kl is not for loss_type 'apo_zero_unpaired'")
    policy = np.asarray(policy_logps, dtype=np.float64)
    r = policy - _of_shape("ref_logps", ref_logps, policy.shape)
    of_labels = _of_shape("labels", labels, policy.shape)
    if not np.isin(of_labels, (0.0, 1.0)).all():
        raise ValueError("labels must hold 0 and 1")
    desirable = of_labels == 1.0
    x = beta * (r - max(kl, 0.0))
    sign, weight = np.where(desirable, 1.0, -1.0), np.where(desirable, desirable_weight, undesirable_weight)
    value = weight * _sigmoid(-sign * x)
    derivatives = (lambda: -sign * weight * beta * _sigmoid(x) * _sigmoid(-x),)
    return _elementwise(value, derivatives, None, reduction, return_grad, grad_output)


def _log1mexp(x: Array) -> Array:
    """Return log(1 - exp(x)) of x <= 0, to full precision on both sides."""
    return np.where(x > -math.log(2.0), np.log(-np.expm1(x)), np.log1p(-np.exp(x)))


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def orpo_loss(
    policy_chosen_logps: npt.ArrayLike,
    policy_rejected_logps: npt.ArrayLike,
    *,
    beta: float = 0.1,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, PairGradients]:
    """The odds-ratio term of ORPO, from averaged log-probabilities <= 0.

    With lc and lr the log-probabilities of the chosen and of the rejected answer:

        lo   = (lc - lr) - (log(1 - exp(lc)) - log(1 - exp(lr)))
        loss = -beta * ls(lo)
        d loss / d lc = -beta * s(-lo) / (1 - exp(lc))
        d loss / d lr =  beta * s(-lo) / (1 - exp(lr))

    The loss of a certain chosen answer (lc = 0) is 0, that of a certain rejected one (lr = 0 > lc)
    infinite.
    """
    _positive(beta=beta)
    lc = np.asarray(policy_chosen_logps, dtype=np.float64)
    lr = _of_shape("policy_rejected_logps", policy_rejected_logps, lc.shape)
    _in_domain("policy_chosen_logps", lc, lc <= 0.0, "at most 0")
    _in_domain("policy_rejected_logps", lr, lr <= 0.0, "at most 0")
    lo = (lc - lr) - (_log1mexp(lc) - _log1mexp(lr))
    value = np.where(lc == 0.0, np.where(np.isnan(lr), np.nan, 0.0), beta * _softplus(-lo))
    # With p = exp(l) and u = 1 - p, s(-lo) is (p_r / u_r) / (p_c / u_c + p_r / u_r). Multiplied out, and
    # divided by the larger p, no denominator vanishes at lc = 0 or for very small p:
    #
    #     s(-lo) / u_c = p_r / (p_c * u_r + p_r * u_c),  s(-lo) / u_r = (s(-lo) / u_c) * u_c / u_r.
    larger = np.maximum(lc, lr)
    pc, pr, uc, ur = np.exp(lc - larger), np.exp(lr - larger), 0.0 - np.expm1(lc), 0.0 - np.expm1(lr)
    both_certain = (lc == 0.0) & (lr == 0.0)
    shared = pr / (pc * ur + pr * uc)
    by_lc = np.where(both_certain, 0.0, -beta * shared)
    by_lr = np.where(both_certain, 0.0, beta * shared * uc / ur)
    return _of_pairs(value, by_lc, by_lr, reduction, return_grad, grad_output)


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def simpo_loss(
    policy_chosen_logps: npt.ArrayLike,
    policy_rejected_logps: npt.ArrayLike,
    *,
    beta: float = 2.0,
    gamma: float = 1.0,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, PairGradients]:
    """Simple preference optimisation: without a reference model, with a margin.

    The log-probabilities are averages over the tokens of an answer.

        z    = beta * (policy_chosen_logps - policy_rejected_logps) - gamma
        loss = -(1 - e) * ls(z) - e * ls(-z),  e = label_smoothing
        d loss / dz = -(1 - e) * s(-z) + e * s(z)
    """
    _positive(beta=beta)
    _option("gamma", gamma, True, "finite")
    _option("label_smoothing", label_smoothing, 0.0 <= label_smoothing <= 1.0, "in [0, 1]")
    chosen = np.asarray(policy_chosen_logps, dtype=np.float64)
    rejected = _of_shape("policy_rejected_logps", policy_rejected_logps, chosen.shape)
    value, slope = _smoothed(beta * (chosen - rejected) - gamma, label_smoothing)
    return _of_pairs(value, beta * slope, -beta * slope, reduction, return_grad, grad_output)


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def cpo_loss(
    policy_chosen_logps: npt.ArrayLike,
    policy_rejected_logps: npt.ArrayLike,
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    loss_type: str = "sigmoid",
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, PairGradients]:
    """The preference term of contrastive preference optimisation.

    sigmoid (with label_smoothing), hinge and ipo of dpo_loss, where D is
    policy_chosen_logps - policy_rejected_logps.
    """
    _positive(beta=beta)
    _option("label_smoothing", label_smoothing, 0.0 <= label_smoothing <= 1.0, "in [0, 1]")
    if loss_type not in ("sigmoid", "hinge", "ipo"):
        raise ValueError(f"unknown loss_type {loss_type!r}")
    if label_smoothing != 0.0 and loss_type != "sigmoid":
        raise ValueError(f"label_smoothing is not for loss_type {loss_type!r}")
    chosen = np.asarray(policy_chosen_logps, dtype=np.float64)
    rejected = _of_shape("policy_rejected_logps", policy_rejected_logps, chosen.shape)
    value, slope = _of_difference(loss_type, chosen - rejected, beta, label_smoothing)
    return _of_pairs(value, slope, -slope, reduction, return_grad, grad_output)


# Losses of policies, with an element for each token. Values that a mask excludes are replaced before
# anything is computed, so that they have no effect; their loss and gradient are 0.


def _counted(values: Array, counts: Mask) -> Array:
    """Return the values that count, and 0 for the others."""
    return np.where(counts, values, 0.0)


def _averaged(
    value: Array,
    derivative: Array,
    counts: Mask,
    is_masked: bool,
    reduction: str,
    return_grad: bool,
    grad_output: npt.ArrayLike | None,
) -> Result:
    """Reduce losses; "mean" is over the elements that count, and 0 if a mask leaves none."""
    upstream = _upstream(grad_output, reduction, value.shape, return_grad).reshape(value.shape)
    losses = _counted(value, counts)
    result, denominator = _reduced(losses, counts.sum(), reduction, is_masked=is_masked)
    if not return_grad:
        return result
    grad = np.where(np.isnan(value), np.nan, _times(upstream / denominator, derivative))
    return result, _counted(grad, counts)


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def ppo_loss(
    logps: npt.ArrayLike,
    old_logps: npt.ArrayLike,
    advantages: npt.ArrayLike,
    *,
    clip: float = 0.2,
    mask: npt.ArrayLike | None = None,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """Clipped surrogate of proximal policy optimisation.

    "mean" is over the elements under the mask.

        r    = exp(logps - old_logps),  A = advantages
        loss = max(-A * r, -A * min(max(r, 1 - clip), 1 + clip))
        d loss / d logps = -A * r where the first is the larger or equal, 0 elsewhere and where A = 0
    """
    _option("clip", clip, clip >= 0.0, "finite and at least 0")
    x = np.asarray(logps, dtype=np.float64)
    counts = _tokens_that_count(mask, None, x.shape)
    old = _counted(_of_shape("old_logps", old_logps, x.shape), counts)
    a = _counted(_of_shape("advantages", advantages, x.shape), counts)
    r = np.exp(_counted(x, counts) - old)
    plain, clipped = _times(-a, r), _times(-a, np.clip(r, 1.0 - clip, 1.0 + clip))
    value = np.maximum(plain, clipped)
    derivative = np.where(plain >= clipped, plain, 0.0)
    return _averaged(value, derivative, counts, mask is not None, reduction, return_grad, grad_output)


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def value_loss(
    values: npt.ArrayLike,
    old_values: npt.ArrayLike | None,
    returns: npt.ArrayLike,
    *,
    clip: float | None = 0.2,
    mask: npt.ArrayLike | None = None,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """Half the squared error of a value function, with changes from its old values clipped.

    "mean" is over the elements under the mask.

        near = v  where |v - old| <= clip,  old - clip or old + clip elsewhere,  v = values
        loss = max((v - returns)**2, (near - returns)**2) / 2,  without clip: (v - returns)**2 / 2
        d loss / dv = v - returns where the first square is the larger or equal, 0 elsewhere
    """
    x = np.asarray(values, dtype=np.float64)
    counts = _tokens_that_count(mask, None, x.shape)
    x, target = _counted(x, counts), _counted(_of_shape("returns", returns, x.shape), counts)
    r = x - target
    if clip is None:
        value, derivative = 0.5 * r * r, r
    else:
        _option("clip", clip, clip >= 0.0, "finite and at least 0")
        if old_values is None:
            raise ValueError("old_values is missing: clip needs it")
        old = _counted(_of_shape("old_values", old_values, x.shape), counts)
        # Inside, v itself: old + (v - old) may be a different number.
        near = np.where(np.abs(x - old) <= clip, x, old + np.clip(x - old, -clip, clip))
        first, second = r * r, (near - target) ** 2
        value, derivative = 0.5 * np.maximum(first, second), np.where(first >= second, r, 0.0)
    return _averaged(value, derivative, counts, mask is not None, reduction, return_grad, grad_output)


def _k3(log_ratio: Array) -> tuple[Array, Array]:
    """Return exp(-l) - 1 + l, with -l at most 80, and its derivative 1 - exp(-l), 0 beyond.

    Where |l| < 1 it is the series u**2 / 2! + u**3 / 3! + ... with u = -l, summed from the last term, as
    the three terms of the formula cancel.
    """
    u = np.minimum(-log_ratio, 80.0)
    series = np.ones(u.shape)
    for k in range(25, 2, -1):
        series = 1.0 + series * u / k
    value = np.where(np.abs(u) < 1.0, 0.5 * u * u * series, np.expm1(u) - u)
    return value, np.where(-log_ratio > 80.0, 0.0, -np.expm1(u))


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def kl_penalty(
    logps: npt.ArrayLike,
    ref_logps: npt.ArrayLike,
    *,
    estimator: str = "k3",
    mask: npt.ArrayLike | None = None,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """Estimate of the divergence of a policy from a reference model, from sampled tokens.

        l  = logps - ref_logps
        k1 = l,  k2 = l**2 / 2,  k3 = exp(-l) - 1 + l
        and d loss / d logps = 1,  l,  1 - exp(-l)

    In k3 -l is at most 80, and the derivative is 0 beyond. "mean" is over the elements under the mask.
    """
    if estimator not in ("k1", "k2", "k3"):
        raise ValueError(f"unknown estimator {estimator!r}")
    x = np.asarray(logps, dtype=np.float64)
    counts = _tokens_that_count(mask, None, x.shape)
    log_ratio = _counted(x, counts) - _counted(_of_shape("ref_logps", ref_logps, x.shape), counts)
    if estimator == "k1":
        value, derivative = log_ratio, np.ones(x.shape)
    elif estimator == "k2":
        value, derivative = 0.5 * log_ratio * log_ratio, log_ratio
    else:
        value, derivative = _k3(log_ratio)
    return _averaged(value, derivative, counts, mask is not None, reduction, return_grad, grad_output)


_CLIPPED = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def grpo_loss(
    logps: npt.ArrayLike,
    old_logps: npt.ArrayLike,
    advantages: npt.ArrayLike,
    *,
    mask: npt.ArrayLike | None = None,
    ref_logps: npt.ArrayLike | None = None,
    loss_type: str = "grpo",
    epsilon_low: float = 0.2,
    epsilon_high: float | None = None,
    delta: float | None = None,
    beta: float = 0.0,
    importance_sampling_level: str = "token",
    max_completion_length: int | None = None,
    num_items: float | None = None,
    sapo_temperature_pos: float = 1.0,
    sapo_temperature_neg: float = 1.05,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """Group relative policy optimisation and related losses, for B sequences of T tokens.

    The advantages A have shape (B,) or (B, T). The log-ratio l is logps - old_logps, of each token or, for
    all tokens of a sequence, the mean of those under the mask; r = exp(l). A token's loss is

        grpo, bnpo, dr_grpo, dapo, luspo
               -min(min(r, delta) * A, min(max(r, 1 - epsilon_low), 1 + epsilon_high) * A)
        cispo  -min(r, epsilon_high) * A * logps, in which r is a constant
        sapo   -A * 4 / t * s(t * (r - 1)),  t = sapo_temperature_pos where A > 0, else sapo_temperature_neg

    plus beta times k3 of kl_penalty. If epsilon_high is None, it is epsilon_low. "sum" adds all tokens
    under the mask; "mean" is, with n their number in a sequence,

        grpo, sapo   mean over sequences of (sum / max(n, 1))
        luspo        mean over sequences of their sums
        bnpo         sum / sum of n
        dapo, cispo  sum / num_items (None: the sum of n)
        dr_grpo      sum / (B * max_completion_length)

    d loss / d logps includes the path through the mean of a sequence.
    """
    high = epsilon_low if epsilon_high is None else epsilon_high
    temperatures = (sapo_temperature_pos, sapo_temperature_neg)
    _check_of_grpo(loss_type, epsilon_low, high, delta, max_completion_length, num_items)
    _positive(sapo_temperature_pos=sapo_temperature_pos, sapo_temperature_neg=sapo_temperature_neg)
    _option("beta", beta, True, "finite")
    if importance_sampling_level not in ("token", "sequence"):
        raise ValueError(f"unknown importance_sampling_level {importance_sampling_level!r}")
    if beta != 0.0 and ref_logps is None:
        raise ValueError("ref_logps is missing: beta needs it")

    x = np.asarray(logps, dtype=np.float64)
    if x.ndim != 2:
        raise ValueError(f"logps must have shape (B, T), got {x.shape}")
    counts = _tokens_that_count(mask, None, x.shape)
    n = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    a = _counted(_of_tokens("advantages", advantages, x.shape), counts)
    x, old = _counted(x, counts), _counted(_of_shape("old_logps", old_logps, x.shape), counts)
    is_sequence = importance_sampling_level == "sequence"
    log_ratio = x - old
    if is_sequence:
        log_ratio = np.broadcast_to(log_ratio.sum(axis=1, keepdims=True) / n, x.shape)
    r = np.exp(log_ratio)

    value, by_ratio, by_own = _token_of_grpo(loss_type, x, r, a, epsilon_low, high, delta, temperatures)
    by_ratio = np.where(np.isnan(value), np.nan, by_ratio)
    if beta != 0.0 and ref_logps is not None:
        ref = _counted(_of_shape("ref_logps", ref_logps, x.shape), counts)
        penalty, slope = _k3(x - ref)
        value, by_own = value + beta * penalty, by_own + beta * slope
    by_own = np.where(np.isnan(value), np.nan, by_own)

    # For grpo and sapo the mean is over the means of the sequences, whose sum stands beside their number for
    # "sum_and_count".
    is_of_means = loss_type in ("grpo", "sapo") and reduction in ("mean", "sum_and_count")
    share = np.ones(x.shape) / (n if is_of_means else 1.0)
    count: float = len(x) * (max_completion_length or 1)
    if loss_type in ("bnpo", "dapo", "cispo"):
        count = counts.sum() if num_items is None else num_items
    if mask is None and x.size == 0:
        count = 0
    upstream = _upstream(grad_output, reduction, x.shape, return_grad).reshape(x.shape)
    losses = _counted(value * share, counts)
    result, divisor = _reduced(losses, count, reduction, is_masked=mask is not None)
    if not return_grad:
        return result
    scale = _counted(upstream * share / divisor, counts)
    through = _counted(_times(scale, by_ratio), counts)
    if is_sequence:
        through = np.broadcast_to(through.sum(axis=1, keepdims=True) / n, x.shape)
    return result, _counted(through + _times(scale, by_own), counts)


def _of_tokens(name: str, values: npt.ArrayLike, shape: tuple[int, ...]) -> Array:
    """Return a number for each token, from one for each token or for each sequence."""
    given = np.asarray(values, dtype=np.float64)
    if given.shape not in (shape, shape[:1]):
        raise ValueError(f"{name} must have shape {shape[:1]} or {shape}, got {given.shape}")
    return np.broadcast_to(given.reshape((shape[0], -1) if math.prod(shape) else shape), shape)


def _check_of_grpo(
    loss_type: str,
    low: float,
    high: float,
    delta: float | None,
    max_completion_length: int | None,
    num_items: float | None,
) -> None:
    """Check the options of each type, and that no other type has them."""
    if loss_type not in (*_CLIPPED, "cispo", "sapo"):
        raise ValueError(f"unknown loss_type {loss_type!r}")
    _option("epsilon_low", low, low >= 0.0, "finite and at least 0")
    _option("epsilon_high", high, high >= 0.0, "finite and at least 0")
    _positive(delta=delta)
    if delta is not None and loss_type not in _CLIPPED:
        raise ValueError(f"delta is not for loss_type {loss_type!r}")
    if (loss_type == "dr_grpo") != (max_completion_length is not None):
        raise ValueError("max_completion_length is for loss_type 'dr_grpo', which needs it")
    if max_completion_length is not None:
        _option("max_completion_length", max_completion_length, max_completion_length > 0, "positive")
    if num_items is not None:
        _option("num_items", num_items, num_items > 0, "positive")
        if loss_type not in ("dapo", "cispo"):
            raise ValueError(f"num_items is not for loss_type {loss_type!r}")


def _token_of_grpo(
    loss_type: str,
    x: Array,
    r: Array,
    a: Array,
    low: float,
    high: float,
    delta: float | None,
    temperatures: tuple[float, float],
) -> tuple[Array, Array, Array]:
    """Return the loss of each token, and its derivatives by the log-ratio and by the log-probability x."""
    none = np.zeros(x.shape)
    if loss_type == "cispo":
        weight = np.minimum(r, high)
        return -weight * a * x, none, -weight * a
    if loss_type == "sapo":
        t = np.where(a > 0.0, *temperatures)
        z = t * (r - 1.0)
        return -a * 4.0 / t * _sigmoid(z), -4.0 * a * _sigmoid(z) * _times(_sigmoid(-z), r), none
    cap = math.inf if delta is None else delta
    first = _times(a, np.minimum(r, cap))
    second = _times(a, np.clip(r, 1.0 - low, 1.0 + high))
    is_first = first <= second
    moves = np.where(is_first, r <= cap, (r >= 1.0 - low) & (r <= 1.0 + high))
    return -np.where(is_first, first, second), np.where(moves, -_times(a, r), 0.0), none


def _groups(scores: Array, relevance: Array, group_sizes: npt.ArrayLike | None) -> list[slice]:
    """Return the documents of each group."""
    if scores.ndim != 1 or relevance.shape != scores.shape:
        raise ValueError(f"scores and relevance must have shape (n,), got {scores.shape}, {relevance.shape}")
    if group_sizes is None:
        return [slice(0, len(scores))] if len(scores) else []
    sizes = np.asarray(group_sizes)
    if (sizes < 0).any() or sizes.sum() != len(scores):
        raise ValueError(f"group_sizes must add up to {len(scores)}, got {sizes}")
    ends = np.cumsum(sizes)
    return [slice(int(end - size), int(end)) for end, size in zip(ends, sizes, strict=True)]


@np.errstate(invalid="ignore", over="ignore", divide="ignore")
def list_net_loss(
    scores: npt.ArrayLike,
    relevance: npt.ArrayLike,
    group_sizes: npt.ArrayLike | None = None,
    *,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """Cross entropy of the softmax of the scores against the softmax of the relevance, of each group.

        t = softmax(relevance),  loss = -sum_i t_i log softmax(scores)_i

    A score of -inf is masked: its gradient is 0. An empty group has loss 0.
    """
    x, y = np.asarray(scores, np.float64), np.asarray(relevance, np.float64)
    groups = _groups(x, y, group_sizes)
    upstream = _upstream(grad_output, reduction, (len(groups),), return_grad)
    losses, slopes = np.zeros(len(groups)), np.zeros(len(x))
    for k, group in enumerate(groups):
        if not len(x[group]):
            continue
        s, e = x[group] - x[group].max(), np.exp(y[group] - y[group].max())
        t = e / e.sum()
        others = np.exp(s[np.arange(len(s)) != s.argmax()]).sum()
        # The largest is 1; it is NaN where the scores are infinite.
        losses[k] = np.log1p(others) + 0.0 * s.max() - _times(t, s).sum()
        slopes[group] = np.where(s == -np.inf, 0.0, np.exp(s) / (1.0 + others) - t) + 0.0 * s.max()
    loss, count = _reduced(losses, len(losses), reduction)
    if not return_grad:
        return loss
    sizes = [len(x[group]) for group in groups]
    return loss, slopes * np.repeat(upstream / count, sizes)


def _best_dcg(labels: npt.NDArray[np.intp], gains: Array, discounts: Array, truncation_level: int) -> float:
    best = np.sort(labels)[::-1][:truncation_level]
    return float((gains[best] * discounts[: len(best)]).sum())


@np.errstate(invalid="ignore", over="ignore")
def lambda_rank_loss(
    scores: npt.ArrayLike,
    relevance: npt.ArrayLike,
    group_sizes: npt.ArrayLike | None = None,
    *,
    sigmoid: float = 1.0,
    truncation_level: int = 30,
    label_gain: npt.ArrayLike | None = None,
    normalize: bool = True,
    reduction: str = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """Logistic losses of the pairs of a group, weighted by the change of NDCG, as LightGBM's lambdarank.

    In the order of the scores (the largest first, ties as they are), for i < truncation_level and i < j with
    different labels, D the score of the better label minus that of the other:

        w = |gain_i - gain_j| |1 / log2(2 + i) - 1 / log2(2 + j)| / maxDCG / (0.01 + |D|)
        loss = sum w log(1 + exp(-sigmoid D))

    without the last factor unless normalize, or if all scores are equal. maxDCG is that of the first
    truncation_level of the best order. With q = 1 / (1 + exp(sigmoid D)) the gradient of a pair, w held
    constant, is -+ sigmoid w q, the second derivative sigmoid^2 w q (1 - q). With normalize everything is
    multiplied by log2(1 + S) / S, where S is the sum of the sizes of all gradients. Scores of -inf take no
    part, and differences are held at 2e300.
    """
    x, y = np.asarray(scores, np.float64), np.asarray(relevance, np.float64)
    groups = _groups(x, y, group_sizes)
    gains = np.asarray(2.0 ** np.arange(31) - 1.0 if label_gain is None else label_gain, np.float64)
    if ((y < 0) | (y != np.floor(y)) | (y >= len(gains))).any():
        raise ValueError(f"relevance must hold integers from 0 to {len(gains) - 1}, got {y}")
    labels = y.astype(np.intp)
    upstream = _upstream(grad_output, reduction, (len(groups),), return_grad)
    losses, slopes, bends = np.zeros(len(groups)), np.zeros(len(x)), np.zeros(len(x))
    for k, group in enumerate(groups):
        s, label = x[group], labels[group]
        if np.isnan(s).any():
            losses[k] = slopes[group] = bends[group] = np.nan
            continue
        order = np.argsort(-s, kind="stable")
        discounts = 1.0 / np.log2(2.0 + np.arange(len(s)))
        best = _best_dcg(label, gains, discounts, truncation_level)
        last = s[order[-2:]] if len(s) else s
        worst = last[0] if len(last) and last[-1] == -np.inf else last[-1:].sum()
        is_divided = normalize and len(s) > 0 and s[order[0]] != worst
        slope, bend, force = np.zeros(len(s)), np.zeros(len(s)), 0.0
        for i in range(min(len(s), truncation_level)):
            for j in range(i + 1, len(s)):
                a, b = order[i], order[j]
                if s[b] == -np.inf or label[a] == label[b]:
                    continue
                high, low = (a, b) if label[a] > label[b] else (b, a)
                difference = np.clip(s[high], -1e300, 1e300) - np.clip(s[low], -1e300, 1e300)
                w = (
                    (gains[label[high]] - gains[label[low]])
                    * (discounts[i] - discounts[j])
                    / max(best, 1e-300)
                )
                w /= 0.01 + abs(difference) if is_divided else 1.0
                q = np.exp(-np.logaddexp(0.0, sigmoid * difference))
                losses[k] += w * np.logaddexp(0.0, -sigmoid * difference)
                slope[high] -= sigmoid * w * q
                slope[low] += sigmoid * w * q
                curve = sigmoid**2 * w * q * np.exp(-np.logaddexp(0.0, -sigmoid * difference))
                bend[[high, low]] += curve
                force += 2.0 * sigmoid * w * q
        factor = np.log1p(force) / np.log(2.0) / force if normalize and force > 0.0 else 1.0
        losses[k] *= factor
        slopes[group], bends[group] = slope * factor, bend * factor
    loss, count = _reduced(losses, len(losses), reduction)
    if not return_grad:
        return loss
    scale = np.repeat(upstream / count, [len(x[group]) for group in groups])
    return (loss, slopes * scale, bends * scale) if return_hessian else (loss, slopes * scale)


# Survival


def _risk_sets(
    time: Array, event: npt.NDArray[np.bool_], weight: Array, strata: npt.NDArray[Any], ties: str
) -> tuple[Array, Array]:
    """Return the risk sets of all events: the event that each belongs to, and the share of each row in it."""
    owners, shares = [], []
    for i in np.flatnonzero(event & (weight > 0.0)):
        at_risk = (strata == strata[i]) & (time >= time[i])
        tied = at_risk & (time == time[i]) & event & (weight > 0.0)
        count = int(tied.sum()) if ties == "efron" else 1
        for k in range(count):
            owners.append(i)
            shares.append(np.where(tied, 1.0 - k / count, 1.0) * at_risk)
    return np.array(owners, int), np.array(shares, float).reshape(len(owners), len(time))


@np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore")
def cox_ph_loss(
    log_hazard: npt.ArrayLike,
    time: npt.ArrayLike,
    event: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    strata: npt.ArrayLike | None = None,
    ties: str = "breslow",
    reduction: str = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """Negative log partial likelihood of Cox's proportional hazards.

    The loss of an event i, 0 for all other rows, is

        w_i (mean over its risk sets of log(sum_j share_j w_j exp(x_j)) - x_i)

    The rows at risk are those of its stratum whose time is not before its own. With ties="breslow" there is
    one risk set, in which each of them has the share 1. With "efron" there are as many as events at that
    time, d; in set k from 0 to d - 1 these events have the share 1 - k / d. An event of weight 0 is none.

        d loss_i / d x_j = w_i (mean of p_j - (i == j)),  p_j = share_j w_j exp(x_j) / sum

    and the second derivative is w_i times the mean of p_j (1 - p_j). "mean" divides by the sum of the weights
    of the events.
    """
    x, t = np.asarray(log_hazard, dtype=np.float64), np.asarray(time)
    d = np.asarray(event).astype(bool)
    w = _per_row("weight", weight, x.shape) * np.ones(x.shape)
    s = np.zeros(x.shape, int) if strata is None else np.asarray(strata)
    if x.ndim != 1 or not x.shape == t.shape == d.shape == s.shape:
        raise ValueError(
            f"all arguments must have shape (n,), got {x.shape}, {t.shape}, {d.shape}, {s.shape}"
        )
    if return_hessian and not return_grad:
        raise ValueError("return_hessian needs return_grad=True")
    upstream = _upstream(grad_output, reduction, x.shape, return_grad)
    owners, shares = _risk_sets(t, d, w, s, ties)
    counted = shares * w
    top = np.where(counted > 0.0, x + np.log(counted), -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    p = np.where(counted > 0.0, counted * np.exp(x - top), 0.0)
    total = p.sum(axis=1, keepdims=True)
    p /= total
    sets = np.maximum(np.bincount(owners, minlength=len(x)), 1)
    mean = np.bincount(owners, (np.log(total) + (top - x[owners, np.newaxis]))[:, 0], len(x)) / sets
    losses = np.where(d & (w > 0.0), w * mean, 0.0)
    loss, count = _reduced(losses, float(w[d].sum()), reduction)
    if not return_grad:
        return loss
    factor = (w * upstream / (count or 1.0))[owners] / sets[owners]
    gradient = factor @ p - np.bincount(owners, factor, len(x))
    return (loss, gradient, factor @ (p * (1.0 - p))) if return_hessian else (loss, gradient)


def _aft_parts(z: Array, distribution: str) -> tuple[Array, Array, Array, Array, Array]:
    """Return F as it rounds near 1, F and 1 - F with all digits, f and f'."""
    w = np.exp(z)
    if distribution == "normal":
        erf, erfc = np.vectorize(math.erf, [float]), np.vectorize(math.erfc, [float])
        f = np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
        y = z / math.sqrt(2.0)
        return 0.5 * (1.0 + erf(y)), 0.5 * erfc(-y), 0.5 * erfc(y), f, np.where(f > 0.0, -z * f, 0.0)
    if distribution == "logistic":
        f = np.where(np.isinf(w * w), 0.0, w / (1.0 + w) ** 2)
        cdf = np.where(np.isinf(w), 1.0, w / (1.0 + w))
        return cdf, _sigmoid(z), _sigmoid(-z), f, np.where(np.isinf(w), 0.0, f * (1.0 - w) / (1.0 + w))
    f = np.where(np.isinf(w), 0.0, w * np.exp(-w))
    return 1.0 - np.exp(-w), -np.expm1(-w), np.exp(-w), f, np.where(np.isinf(w), 0.0, (1.0 - w) * f)


# XGBoost's limits for a prediction that is far too small, and far too large: gradient and second derivative,
# from the scale.
_AFT_LIMITS: dict[str, Callable[[float], tuple[tuple[float, float], tuple[float, float]]]] = {
    "normal": lambda s: ((-15.0, 15.0), (1.0 / s**2, 1.0 / s**2)),
    "logistic": lambda s: ((-1.0 / s, 1.0 / s), (1e-16, 1e-16)),
    "extreme": lambda s: ((-15.0, 1.0 / s), (15.0, 1e-16)),
}


@np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore")
def aft_loss(
    input: npt.ArrayLike,
    lower: npt.ArrayLike,
    upper: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    scale: float = 1.0,
    distribution: str = "normal",
    reduction: str = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """Accelerated failure time: XGBoost's survival:aft.

        z = (log(bound) - input) / scale
        loss = w * -log(max(F(z_upper) - F(z_lower), 1e-12))
        loss = w * -log(max(f(z) / (scale * lower), 1e-12)) where lower == upper

    F and f are the distribution function and the density: normal; logistic, F = 1 / (1 + e^-z); extreme,
    F = 1 - exp(-e^z). The derivatives are those of the logarithm,

        (f_upper - f_lower) / (s (F_upper - F_lower))
        ((f_upper - f_lower)^2 - (F_upper - F_lower) (f'_upper - f'_lower)) / (s (F_upper - F_lower))^2

    held to [-15, 15] and [1e-16, 15]; where they are not finite for a denominator below 1e-12, XGBoost's
    limits, by the side of the bounds that the prediction is on. Towards a side without a bound there is
    nothing to gain: these are 0 and 1e-16. "mean" divides by the sum of the weights.
    """
    x = np.asarray(input, dtype=np.float64)
    low, high = (np.broadcast_to(np.asarray(b, dtype=np.float64), x.shape) for b in (lower, upper))
    if not ((low >= 0.0) & (high >= low)).all():
        raise ValueError("lower and upper must be intervals of times from 0 on")
    _option("scale", scale, scale > 0.0, "greater than 0")
    z_low, z_high = ((np.log(bound) - x) / scale for bound in (low, high))
    rounded, below, above, f, slope = _aft_parts(z_low, distribution)
    rounded_high, below_high, above_high, f_high, slope_high = _aft_parts(z_high, distribution)

    p = np.where(z_low > 0.0, above - above_high, below_high - below)
    p = np.where(p > 0.5, 1.0 - (below + above_high), p)
    value = np.where(p > 0.5, -np.log1p(-(below + above_high)), -np.log(np.maximum(p, 1e-12)))
    log_f = {
        "normal": -0.5 * z_low**2 - 0.5 * math.log(2.0 * math.pi),
        "logistic": -np.abs(z_low) - 2.0 * np.log1p(np.exp(-np.abs(z_low))),
        "extreme": z_low - np.exp(z_low),
    }[distribution]
    is_exact = low == high
    most = -math.log(1e-12)
    exact = np.where(low > 0.0, np.minimum(-log_f + math.log(scale) + np.log(low), most), most)
    value = np.where(np.isnan(x), np.nan, np.where(is_exact, exact, value))

    mass, density, curve = rounded_high - rounded, f_high - f, slope_high - slope
    denominator = scale * np.where(is_exact, f, mass)
    first = np.where(is_exact, slope, density) / denominator
    bends = {"normal": np.ones_like(x), "logistic": 2.0 * above * below, "extreme": np.exp(z_low)}
    second = np.where(
        is_exact,
        bends[distribution] / scale**2,
        -(mass * curve - density**2) / denominator**2,
    )
    second = np.where(is_exact & (f * f == 0.0), np.nan, second)

    past = (low > 0.0) & (z_low > 0.0) | np.isfinite(high) & (z_high > 0.0)
    no_way = ~is_exact & np.where(past, low <= 0.0, np.isinf(high))
    results = []
    for found, size, (if_past, if_before), least in (
        (first, denominator, _AFT_LIMITS[distribution](scale)[0], 0.0),
        (second, denominator**2, _AFT_LIMITS[distribution](scale)[1], 1e-16),
    ):
        limit = np.where(no_way, least, np.where(past, if_past, if_before))
        results.append(np.where(~np.isfinite(found) & (size < 1e-12), limit, found))
    derivatives = (
        lambda: np.clip(results[0], -15.0, 15.0),
        lambda: np.clip(results[1], 1e-16, 15.0),
    )
    return _elementwise(value, derivatives, weight, reduction, return_grad, grad_output, return_hessian)
