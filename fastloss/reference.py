"""The plain NumPy twin of every loss: what fastloss computes, written to be read.

Each function here has the name, the arguments and the meaning of its compiled namesake, follows
the formula in its docstring line by line, and computes in float64 whatever the input's dtype
(float16 and ml_dtypes.bfloat16 included). It serves three times: the tests compare the kernels
with it, a reader learns from it what a loss means exactly, and benchmarks take it as the baseline.
It shares no code with the kernels, makes no attempt to be fast or to save memory, and checks only
what would otherwise give a wrong answer in silence.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "elastic_net_penalty",
    "entropy",
    "epsilon_insensitive_loss",
    "gamma_nll_loss",
    "gaussian_nll_loss",
    "hinge_loss",
    "huber_loss",
    "l1_loss",
    "l1_penalty",
    "l2_penalty",
    "linear_cross_entropy",
    "linear_token_log_probs",
    "log_cosh_loss",
    "log_softmax",
    "logsumexp",
    "mean_squared_log_loss",
    "mse_loss",
    "multi_margin_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
    "perplexity",
    "poisson_nll_loss",
    "quantile_loss",
    "sequence_log_probs",
    "sigmoid_focal_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
    "softmax",
    "squared_hinge_loss",
    "token_log_probs",
    "tweedie_nll_loss",
]

Array = npt.NDArray[np.float64]
Loss = float | Array
# What a call returns: the loss, the gradient where asked for, the second derivative where asked for.
Result = Loss | tuple[Loss, Array] | tuple[Loss, Array, Array]

# Everywhere below the classes are the last axis, and the reductions over them keep that axis.


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
    """Return which rows count, as a flat mask, and the class index of each row that does."""
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
    """Return `value`, a scalar (1 where absent) or an array of exactly `shape`, as that shape."""
    array = np.asarray(1.0 if value is None else value, dtype=np.float64)
    if array.shape not in ((), shape):
        raise ValueError(f"{name} must be a scalar or have shape {shape}, got {array.shape}")
    return np.broadcast_to(array, shape)


def _per_class(weight: npt.ArrayLike | None, classes: int) -> Array:
    """Return the class weights, 1 where absent."""
    array = np.asarray(np.ones(classes) if weight is None else weight, dtype=np.float64)
    if array.shape != (classes,):
        raise ValueError(f"weight must have shape {(classes,)}, got {array.shape}")
    return array


def _upstream(
    grad_output: npt.ArrayLike | None, reduction: str, rows: tuple[int, ...], return_grad: bool
) -> Array:
    """Check the common arguments; return the upstream gradient of each row, flat."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction must be "mean", "sum" or "none", got {reduction!r}')
    if grad_output is not None and not return_grad:
        raise ValueError("grad_output needs return_grad=True")
    upstream = _per_row("grad_output", grad_output, rows if reduction == "none" else ())
    return np.broadcast_to(upstream, rows).reshape(-1)


def _times(coefficient: Array, term: Array) -> Array:
    """Multiply, with 0 * inf = 0: a term that nothing weighs is not there. NaN stays NaN."""
    return np.where((coefficient == 0.0) & np.isinf(term), 0.0, coefficient * term)


def _is_largest(values: Array) -> npt.NDArray[np.bool_]:
    """Return a mask with one True in each row: at its (first) largest value."""
    mask: npt.NDArray[np.bool_] = np.arange(values.shape[-1]) == values.argmax(-1, keepdims=True)
    return mask


def _sum_of_smaller(values: Array) -> Array:
    """Return the sum of each row without its (first) largest value."""
    total: Array = np.where(_is_largest(values), 0.0, values).sum(axis=-1, keepdims=True)
    return total


def _sum_of_others(values: Array) -> Array:
    """Return, for every value (>= 0), the sum of the others in its row, to full precision.

    Total minus value is exact enough for a value up to half of the total. Only the largest can be
    more than that, and there the others are added up instead.
    """
    total = values.sum(axis=-1, keepdims=True)
    return np.where(_is_largest(values), _sum_of_smaller(values), total - values)


def _below_top(scores: Array) -> tuple[Array, Array]:
    """Return the largest score of each row, and how far every score lies from it (<= 0).

    A row whose largest score is not finite has no probabilities (it holds a NaN or +inf, or
    nothing but -inf), and is NaN altogether.
    """
    top = scores.max(axis=-1, keepdims=True)
    top = np.where(np.isfinite(top), top, np.nan)
    return top, scores - top


def _log_sum(below: Array) -> Array:
    """Return log(sum(exp(below))) of scores whose largest is 0, to full precision near 0.

    The largest is the 1 in log1p, so that a confident row keeps the digits of the small ones.
    """
    return np.log1p(_sum_of_smaller(np.exp(below)))


@np.errstate(invalid="ignore", over="ignore")
def logsumexp(x: npt.ArrayLike, *, axis: int = -1) -> Array:
    """Logarithm of the sum of the exponentials along an axis.

    The largest value m is taken out first, so that nothing overflows, and stands for the 1 in
    log1p, so that nothing small is lost. A row with NaN, or of nothing but -inf, gives NaN; a row
    with +inf gives +inf.

        logsumexp(x) = log(sum_c exp(x_c)) = m + log1p(sum over the others of exp(x_c - m))
    """
    scores = _classes_last("x", x, axis)
    top, below = _below_top(scores)
    infinite = scores.max(axis=-1, keepdims=True) == np.inf
    return np.where(infinite, np.inf, top + _log_sum(below)).squeeze(axis=-1)


@np.errstate(invalid="ignore", over="ignore")
def log_softmax(x: npt.ArrayLike, *, axis: int = -1) -> Array:
    """Logarithm of the softmax along an axis.

    A -inf is a masked class and stays -inf. A row with NaN or +inf, or of nothing but -inf, gives
    NaN.

        log_softmax(x)_c = x_c - logsumexp(x)
    """
    _, below = _below_top(_classes_last("x", x, axis))
    return np.moveaxis(below - _log_sum(below), -1, axis)


@np.errstate(invalid="ignore", over="ignore")
def softmax(x: npt.ArrayLike, *, axis: int = -1) -> Array:
    """Exponentials along an axis, divided by their sum: the probabilities of the classes.

    A -inf is a masked class and has probability 0. A row with NaN or +inf, or of nothing but -inf,
    gives NaN.

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
    reduction: str = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """Cross entropy between the softmax of the logits and the target, a row of logits at a time.

    The target holds class indices (integers, shaped like the logits without the class axis) or
    probabilities (floats, shaped like the logits). With class weights w, sample weight s, smoothing
    eps, C classes and target probabilities q (for a class index y: 1 at y, 0 elsewhere), a row is

        z    = softcap * tanh(logits / softcap) / temperature, or logits / temperature without
        lse  = log(sum_c exp(z_c))
        q'   = (1 - eps) * q + eps / C
        loss = s * [ sum_c w_c * q'_c * (lse - z_c)  +  v * z_loss * lse**2 ]

    where v is w_y for a class index and 1 for probabilities. "mean" divides the sum of the rows by
    the sum of v * s. A row whose class index is `ignore_index` is left out altogether: its loss and
    gradient are 0, and its values are never looked at. A logit of -inf masks its class: it stays
    -inf through the softcap, has probability and gradient 0, and adds nothing where w_c * q'_c is
    0. With return_grad the gradient with respect to the logits, times grad_output, comes second; with
    return_hessian the diagonal of the second derivative, which is scaled in the same way, comes third.
    """
    if return_hessian and not return_grad:
        raise ValueError("return_hessian needs return_grad=True")
    moved = _classes_last("logits", logits, axis)
    rows, classes = moved.shape[:-1], moved.shape[-1]
    class_weight = _per_class(weight, classes)
    upstream = _upstream(grad_output, reduction, rows, return_grad)
    samples = _per_row("sample_weight", sample_weight, rows).reshape(-1)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"label_smoothing must be in [0, 1], got {label_smoothing}")
    if not math.isfinite(z_loss):
        raise ValueError(f"z_loss must be finite, got {z_loss}")
    if softcap is not None and not 0.0 < softcap < math.inf:
        raise ValueError(f"softcap must be positive and finite, got {softcap}")
    if not 0.0 < temperature < math.inf:
        raise ValueError(f"temperature must be positive and finite, got {temperature}")

    # The target as probabilities of the rows that count; `share` is v above.
    if np.asarray(target).dtype.kind in "biu":
        counted, y = _class_indices(target, rows, classes, ignore_index)
        is_target = np.arange(classes) == y[:, np.newaxis]
        probs = is_target.astype(np.float64)
        share = class_weight[y]
    else:
        if ignore_index >= 0:
            raise ValueError("ignore_index is for class indices, target holds probabilities")
        if np.shape(target) != np.shape(logits):
            raise ValueError(
                f"target must have the shape of logits {np.shape(logits)}, got {np.shape(target)}"
            )
        counted = np.ones(samples.size, dtype=np.bool_)
        probs = _classes_last("target", target, axis).reshape(-1, classes)
        is_target = np.zeros(probs.shape, dtype=np.bool_)
        share = np.ones(samples.size)

    raw = moved.reshape(-1, classes)[counted]
    sample = samples[counted, np.newaxis]
    row_weight = sample * share[:, np.newaxis]
    masked = raw == -np.inf

    # z less its largest, and its log-sum-exp. The largest is taken off before dividing by the
    # temperature, so that a large shift common to all logits costs no digits.
    capped = raw if softcap is None else np.where(masked, raw, softcap * np.tanh(raw / softcap))
    top, below = _below_top(capped)
    below = below / temperature
    log_sum = _log_sum(below)
    lse = top / temperature + log_sum

    # loss = sum_c a_c * (lse - z_c) + b * lse**2, where a_c = s * w_c * q'_c and b = s * v * z_loss
    smooth = (1.0 - label_smoothing) * probs + label_smoothing / classes
    a = sample * np.where(smooth == 0.0, 0.0, class_weight * smooth)
    b = row_weight * z_loss
    loss = _times(a, log_sum - below).sum(axis=-1, keepdims=True) + _times(b, lse**2)

    losses = np.zeros(samples.size)
    losses[counted] = loss[:, 0]
    denominator = row_weight.sum() if reduction == "mean" else np.float64(1.0)
    result: Loss = losses.reshape(rows) if reduction == "none" else float(losses.sum() / denominator)
    if not return_grad:
        return result

    # With p = softmax(z), d lse / d z_k = p_k, so
    #
    #     d loss / d z_k = sum_c a_c * p_k - a_k + 2 * b * lse * p_k.
    #
    # For a confident row the first two terms cancel (p_y - 1 for a class index y). Taking a_k * p_k
    # out of both leaves
    #
    #     d loss / d z_k = p_k * sum_{c != k} a_c - a_k * sum_{c != k} p_c + 2 * b * lse * p_k,
    #
    # in which a class index has -w_y * sum_{c != y} p_c at y, to full precision. Then, from z back
    # to the logits x,
    #
    #     d z_k / d x_k = (1 - tanh(x_k / softcap)**2) / temperature, and 1 - tanh**2 = 1 / cosh**2.
    #
    # A masked class is no function of anything, and has gradient 0 (where it is the target itself
    # the formula is left to speak). A row whose loss is NaN is NaN throughout.
    exps = np.exp(below)
    total = exps.sum(axis=-1, keepdims=True)
    p, others = exps / total, _sum_of_others(exps) / total
    pull = _times(2.0 * b, lse)
    slope = 1.0 if softcap is None else 1.0 / np.cosh(raw / softcap) ** 2
    counts = ~masked | is_target | np.isnan(loss)
    scale = upstream[counted, np.newaxis] / denominator
    grad = np.where(counts, p * _sum_of_others(a) - a * others + pull * p, 0.0)

    def to_logits(of_counted: Array) -> Array:
        """Return rows in the shape of the logits, with 0 for those that are ignored."""
        full = np.zeros((samples.size, classes))
        full[counted] = of_counted
        return np.moveaxis(full.reshape(moved.shape), -1, axis)

    grads = to_logits(grad * slope / temperature * scale)
    if not return_hessian:
        return result, grads

    # Once more, with K = sum_c a_c and d p_k / d z_k = p_k * (1 - p_k):
    #
    #     d2 loss / d z_k**2 = (K + 2 * b * lse) * p_k * (1 - p_k) + 2 * b * p_k**2,
    #
    # where 1 - p_k = sum_{c != k} p_c, to full precision. Then, as z_k is a function of x_k alone,
    #
    #     d2 loss / d x_k**2 = d2 loss / d z_k**2 * (d z_k / d x_k)**2 + d loss / d z_k * d2 z_k / d x_k**2,
    #     d2 z_k / d x_k**2 = -2 / softcap * tanh(x_k / softcap) * d z_k / d x_k, and 0 without a softcap.
    hessian = (a.sum(axis=-1, keepdims=True) + pull) * p * others + 2.0 * b * p * p
    hessian = np.where(counts, hessian, 0.0) * (slope / temperature) ** 2
    if softcap is not None:
        bend = -2.0 / softcap * np.tanh(raw / softcap) * slope / temperature
        hessian = hessian + grad * bend
    return result, grads, to_logits(hessian * scale)


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

    Of each row only the value at the target y is looked at, and of an ignored row none. "mean"
    divides by the sum of w_y * s over the rows that count.

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
    denominator = row_weight.sum() if reduction == "mean" else np.float64(1.0)
    result: Loss = losses.reshape(rows) if reduction == "none" else float(losses.sum() / denominator)
    if not return_grad:
        return result

    grads = np.zeros((samples.size, classes))
    grads[counted, y] = -row_weight * (upstream[counted] / denominator)
    return result, np.moveaxis(grads.reshape(moved.shape), -1, axis)


@np.errstate(over="ignore")
def perplexity(logits: npt.ArrayLike, target: npt.ArrayLike, *, ignore_index: int = -100) -> float:
    """Exponential of the mean cross entropy over the rows that are not ignored.

    It is inf where the exponential overflows, and NaN where no row counts.

        perplexity = exp(cross_entropy(logits, target))
    """
    mean = cross_entropy(logits, target, ignore_index=ignore_index)
    assert isinstance(mean, float)
    return float(np.exp(mean))


# What a policy, or a language model, makes of its logits: log-probabilities of tokens and of whole
# sequences, and entropies. These are values to be used in a loss, so none of them is negated.


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
    """Logarithm of the probability that each row of logits gives its target, which is a class index.

    An ignored token has value and gradient 0, and its logits are never looked at. "mean" divides by
    the number of tokens that are not ignored.

        p        = softmax(logits / temperature)
        log_prob = log(p_target)
        d log_prob / d logits_k = -p_k / temperature, and (1 - p_k) / temperature at the target
    """
    _option("temperature", temperature, temperature > 0.0, "positive and finite")
    moved = _classes_last("logits", logits, axis)
    rows, classes = moved.shape[:-1], moved.shape[-1]
    upstream = _upstream(grad_output, reduction, rows, return_grad)
    counted, y = _class_indices(target, rows, classes, ignore_index)
    is_target = np.arange(classes) == y[:, np.newaxis]

    # Both terms of log(p_target) are at most 0, and a confident token has the first 0: nothing cancels.
    _, below = _below_top(moved.reshape(-1, classes)[counted])
    below = below / temperature
    log_p = below - _log_sum(below)

    values = np.zeros(counted.size)
    values[counted] = log_p[is_target]
    denominator = np.float64(counted.sum() if reduction == "mean" else 1.0)
    result: Loss = values.reshape(rows) if reduction == "none" else float(values.sum() / denominator)
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
    """Return which tokens of the sequences count: those of a mask of 0 and 1, or the first so many."""
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
    average: bool = False,
    temperature: float = 1.0,
    reduction: str = "none",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, Array]:
    """Logarithm of the probability of each sequence: the sum over its tokens of theirs.

    The logits have shape (..., T, V) and the target, of class indices, (..., T). A token counts where
    `mask` is 1, or where it is among the first `lengths` of its sequence; without either all do. What
    does not count is never looked at, neither logits nor target, and has gradient 0. With `average`
    the sum is divided by the number of tokens that count; a sequence without any has value 0. "mean"
    divides by the number of sequences.

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
    counts = _tokens_that_count(mask, lengths, tokens)
    bad = np.argwhere(counts & ((labels < 0) | (labels >= classes)))
    if bad.size > 0:
        position = tuple(int(i) for i in bad[0])
        raise IndexError(f"target {labels[position]} at {position} is not a class index below {classes}")
    upstream = _upstream(grad_output, reduction, sequences, return_grad).reshape(sequences)

    n = np.maximum(counts.sum(axis=-1), 1) if average else np.ones(sequences)
    denominator = np.float64(n.size if reduction == "mean" else 1.0)
    scale = np.broadcast_to((upstream / denominator / n)[..., np.newaxis], tokens)

    # The tokens that count, as one batch. The value is linear in their log-probabilities, so that the
    # gradient of each is its own, times what its log-probability is multiplied with.
    log_probs, of_tokens = token_log_probs(  # type: ignore[misc]
        x[counts], labels[counts], temperature=temperature, return_grad=True, grad_output=scale[counts]
    )
    values = np.zeros(tokens)
    values[counts] = log_probs
    value = np.asarray(values.sum(axis=-1) / n)
    result: Loss = value if reduction == "none" else float(value.sum() / denominator)
    if not return_grad:
        return result
    grads = np.zeros(x.shape)
    grads[counts] = of_tokens
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

    A logit of -inf masks its class, which adds nothing and has gradient 0. A row with NaN or +inf, or
    of nothing but -inf, is NaN altogether. "mean" divides by the number of rows.

        p = softmax(logits / temperature)
        H = -sum_c p_c * log(p_c)  (0 where p_c is 0)
        d H / d logits_k = -p_k * (log(p_k) + H) / temperature
    """
    _option("temperature", temperature, temperature > 0.0, "positive and finite")
    moved = _classes_last("logits", logits, axis)
    rows = moved.shape[:-1]
    upstream = _upstream(grad_output, reduction, rows, return_grad).reshape((*rows, 1))

    # With z the logits over the temperature, less the largest, and L = log(sum_c exp(z_c)), a
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
    denominator = np.float64(values.size if reduction == "mean" else 1.0)
    result: Loss = values if reduction == "none" else float(values.sum() / denominator)
    if not return_grad:
        return result

    # With d p_c / d z_k = p_c * ([c = k] - p_k), and as the p_c always sum to 1,
    #
    #     d H / d z_k = -sum_c (d p_c / d z_k) * (log(p_c) + 1)
    #                 = -p_k * log(p_k) + p_k * sum_c p_c * log(p_c)
    #                 = -p_k * (log(p_k) + H).
    #
    # In log(p_k) + H = (z_k - L) + (L - sum_c p_c * z_c) the L goes away: what is left is how far a
    # logit lies from the mean of the logits, and of a confident row no digits are lost here either.
    slope = _times(p, mean_below - below)
    return result, np.moveaxis(slope / temperature * (upstream / denominator), -1, axis)


# The softmax losses of a linear layer, whose logits are made here in full.


class LinearGradients(NamedTuple):
    """The gradients of a loss of a linear layer; the bias has none where there is no bias."""

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
    """Return the logits of a linear layer, and what makes its gradients of theirs.

    With G the gradient of the loss with respect to the logits, by the chain rule,

        logits = input @ linear_weight.T + linear_bias
        d loss / d input = G @ linear_weight
        d loss / d linear_weight = G.T @ input, and d loss / d linear_bias = sum of the rows of G

    An ignored row is left out of all products: its values are never looked at, and its gradient is 0.
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
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, LinearGradients]:
    """Cross entropy of the logits that a linear layer makes of the input.

    The input has shape (..., D), the weight (V, D) and the bias (V,). The target holds class indices
    of shape (...), or probabilities of shape (..., V). All options are those of cross_entropy. An
    ignored row of the input is never looked at, and adds nothing to any gradient.

        loss = cross_entropy(input @ linear_weight.T + linear_bias, target)
    """
    logits, gradients = _linear(input, linear_weight, linear_bias, target, ignore_index)
    result = cross_entropy(
        logits,
        target,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        sample_weight=sample_weight,
        z_loss=z_loss,
        softcap=softcap,
        temperature=temperature,
        reduction=reduction,
        return_grad=return_grad,
        grad_output=grad_output,
    )
    if not isinstance(result, tuple):
        return result
    return result[0], gradients(result[1])


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
    reduction: str = "none",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, LinearGradients]:
    """Logarithm of the probability that a linear layer gives each target, which is a class index.

    An ignored token has 0. "mean" divides by the number of tokens that are not ignored.

        x = input @ linear_weight.T + linear_bias
        log_prob = log_softmax(softcap * tanh(x / softcap) / temperature)_target = -cross_entropy(x, target)
    """
    logits, gradients = _linear(input, linear_weight, linear_bias, target, ignore_index)
    if np.asarray(target).dtype.kind not in "iu":
        raise TypeError(f"target must hold integer class indices, got {np.asarray(target).dtype}")
    result = cross_entropy(
        logits,
        target,
        ignore_index=ignore_index,
        softcap=softcap,
        temperature=temperature,
        reduction=reduction,
        return_grad=return_grad,
        grad_output=grad_output,
    )
    loss = result[0] if isinstance(result, tuple) else result
    # 0 - loss, so that an ignored token has 0 and not -0.
    log_probs: Loss = 0.0 - loss if isinstance(loss, float) else np.asarray(0.0 - loss)
    return (log_probs, gradients(0.0 - result[1])) if isinstance(result, tuple) else log_probs


# Elementwise losses. Each element of the input has a loss of its own, so that each function below
# is its formula, the derivatives of it, and one call of _elementwise, where the rest is done:
# weight, reduction, upstream gradient. x is the input, t the target, and r = x - t.

Mask = npt.NDArray[np.bool_]


def _input_and_target(values: npt.ArrayLike, target: npt.ArrayLike) -> tuple[Array, Array]:
    """Return the input as float64, and the target, a scalar or of its shape, in its shape."""
    x = np.asarray(values, dtype=np.float64)
    return x, _per_row("target", target, x.shape)


def _in_domain(name: str, values: Array, inside: Mask, expected: str) -> None:
    """Raise where a value lies outside of what the loss is defined for. NaN is let through."""
    bad = np.flatnonzero(~inside & ~np.isnan(values))
    if bad.size > 0:
        position = tuple(int(i) for i in np.unravel_index(bad[0], values.shape))
        raise ValueError(f"{name} must be {expected}, got {values[position]} at position {position}")


def _option(name: str, value: float, valid: bool, expected: str) -> None:
    """Raise for an option that is out of range (or NaN, or infinite), or no number at all."""
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be a number, got {value}")
    if not (valid and math.isfinite(value)):
        raise ValueError(f"{name} must be {expected}, got {value}")


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
    """Weigh and reduce the loss of each element, and scale its derivatives to match.

        loss = sum(weight * value) / denominator
        derivative = weight * upstream / denominator * (derivative of value)

    The denominator of "mean" is the sum of the weights or the number of elements, otherwise it is 1.
    An element of weight 0 has loss and derivatives 0, unless it is NaN. An element that is NaN is
    NaN throughout, even where a comparison in its derivative would hide it.
    """
    upstream = _upstream(grad_output, reduction, value.shape, return_grad).reshape(value.shape)
    weights = _per_row("weight", weight, value.shape)
    losses = _times(weights, value)
    denominator = np.float64(1.0)
    if reduction == "mean":
        denominator = np.float64(weights.sum() if mean_over_weights else value.size)
    result: Loss = losses if reduction == "none" else float(losses.sum() / denominator)
    scale = weights * upstream / denominator
    results = [np.where(weights == 0.0, 0.0, _times(scale, derivative())) for derivative in derivatives]
    return result, [np.where(np.isnan(value), np.nan, scaled) for scaled in results]


def _elementwise(
    value: Array,
    derivatives: Sequence[Callable[[], Array]],
    weight: npt.ArrayLike | None,
    reduction: str,
    return_grad: bool,
    grad_output: npt.ArrayLike | None,
    return_hessian: bool = False,
    mean_over_weights: bool = True,
) -> Result:
    """Return the loss, and the first and second derivative where asked for."""
    if return_hessian and not return_grad:
        raise ValueError("return_hessian needs return_grad=True")
    wanted = derivatives[: int(return_grad) + int(return_hessian)]
    loss, results = _weighed(value, wanted, weight, reduction, return_grad, grad_output, mean_over_weights)
    if not return_grad:
        return loss
    return (loss, results[0], results[1]) if return_hessian else (loss, results[0])


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
    """Return log(1 + exp(x)): the loss of a logit x whose target is 0; with -x, of one whose target is 1."""
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


@np.errstate(invalid="ignore", over="ignore")
def mse_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    reduction: str = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """Squared error.

        loss = w * r**2,  r = input - target
        d loss / d input = w * 2 * r,  and once more: w * 2

    "mean" divides by the sum of the weights.
    """
    x, t = _input_and_target(input, target)
    r = x - t
    derivatives = (lambda: 2.0 * r, lambda: np.full(r.shape, 2.0))
    return _elementwise(r * r, derivatives, weight, reduction, return_grad, grad_output, return_hessian)


@np.errstate(invalid="ignore", over="ignore")
def l1_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    reduction: str = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """Absolute error.

        loss = w * |r|,  r = input - target
        d loss / d input = w * sign(r)  (0 at r = 0),  and once more: 0

    "mean" divides by the sum of the weights.
    """
    x, t = _input_and_target(input, target)
    r = x - t
    derivatives = (lambda: np.sign(r), lambda: np.zeros(r.shape))
    return _elementwise(np.abs(r), derivatives, weight, reduction, return_grad, grad_output, return_hessian)


@np.errstate(invalid="ignore", over="ignore")
def huber_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    delta: float = 1.0,
    reduction: str = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """Half the squared error up to `delta`, and a straight line beyond it.

    "mean" divides by the sum of the weights.

        loss = w * r**2 / 2                   where |r| <= delta,  r = input - target
               w * delta * (|r| - delta / 2)  elsewhere
        d loss / d input = w * r held within -delta and delta,
        and once more:     w where |r| <= delta, 0 elsewhere
    """
    _option("delta", delta, delta > 0.0, "positive and finite")
    x, t = _input_and_target(input, target)
    r = x - t
    inside = np.abs(r) <= delta
    value = np.where(inside, 0.5 * r * r, delta * (np.abs(r) - 0.5 * delta))
    derivatives = (lambda: np.clip(r, -delta, delta), lambda: inside.astype(np.float64))
    return _elementwise(value, derivatives, weight, reduction, return_grad, grad_output, return_hessian)


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def smooth_l1_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    beta: float = 1.0,
    reduction: str = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """Absolute error with a parabola in place of the kink; beta=0 is the absolute error itself.

    "mean" divides by the sum of the weights.

        loss = w * r**2 / (2 * beta)  where |r| < beta,  r = input - target
               w * (|r| - beta / 2)   elsewhere
        d loss / d input = w * r / beta  or  w * sign(r),
        and once more:     w / beta      or  0
    """
    _option("beta", beta, beta >= 0.0, "finite and at least 0")
    x, t = _input_and_target(input, target)
    r = x - t
    inside = np.abs(r) < beta
    value = np.where(inside, 0.5 * r * (r / beta), np.abs(r) - 0.5 * beta)
    derivatives = (
        lambda: np.where(inside, r / beta, np.sign(r)),
        lambda: np.where(inside, np.divide(1.0, beta), 0.0),
    )
    return _elementwise(value, derivatives, weight, reduction, return_grad, grad_output, return_hessian)


@np.errstate(invalid="ignore", over="ignore")
def log_cosh_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    reduction: str = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """Logarithm of the hyperbolic cosine of the error.

        loss = w * log(cosh(r)),  r = input - target
        d loss / d input = w * tanh(r),  and once more: w / cosh(r)**2

    "mean" divides by the sum of the weights.
    """
    x, t = _input_and_target(input, target)
    r = x - t
    # cosh(r) = 1 + 2 * sinh(r / 2)**2 keeps the digits of a small r, and
    # cosh(r) = exp(|r|) / 2 * (1 + exp(-2 * |r|)) does not overflow.
    near = np.log1p(2.0 * np.sinh(0.5 * r) ** 2)
    far = np.abs(r) - math.log(2.0) + np.log1p(np.exp(-2.0 * np.abs(r)))
    value = np.where(np.abs(r) < 20.0, near, far)
    derivatives = (lambda: np.tanh(r), lambda: (1.0 / np.cosh(r)) ** 2)
    return _elementwise(value, derivatives, weight, reduction, return_grad, grad_output, return_hessian)


@np.errstate(invalid="ignore", over="ignore")
def quantile_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    quantile: float = 0.5,
    reduction: str = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """Pinball loss, least where the input is that quantile of the target.

    "mean" divides by the sum of the weights.

        loss = w * max(q * d, (q - 1) * d),  d = target - input
        d loss / d input = -w * q       where the input is too small (d > 0)
                           w * (1 - q)  where it is too large (d < 0), and 0 at d = 0
        and once more:     0
    """
    _option("quantile", quantile, 0.0 < quantile < 1.0, "between 0 and 1")
    x, t = _input_and_target(input, target)
    d = t - x
    value = np.maximum(quantile * d, (quantile - 1.0) * d)
    derivatives = (
        lambda: np.where(d > 0.0, -quantile, np.where(d < 0.0, 1.0 - quantile, 0.0)),
        lambda: np.zeros(d.shape),
    )
    return _elementwise(value, derivatives, weight, reduction, return_grad, grad_output, return_hessian)


@np.errstate(invalid="ignore", over="ignore")
def epsilon_insensitive_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    epsilon: float = 0.1,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """Absolute error beyond `epsilon`, and nothing up to it.

        loss = w * max(0, |r| - epsilon),  r = input - target
        d loss / d input = w * sign(r) where |r| > epsilon, 0 elsewhere

    "mean" divides by the sum of the weights.
    """
    _option("epsilon", epsilon, epsilon >= 0.0, "finite and at least 0")
    x, t = _input_and_target(input, target)
    r = x - t
    value = np.maximum(0.0, np.abs(r) - epsilon)
    derivatives = (lambda: np.where(np.abs(r) > epsilon, np.sign(r), 0.0),)
    return _elementwise(value, derivatives, weight, reduction, return_grad, grad_output)


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def mean_squared_log_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """Squared difference of the logarithms of one plus each. "mean" divides by the sum of the weights.

    The target must be above -1. An input below -1 gives NaN.

        loss = w * d**2,  d = log(1 + input) - log(1 + target)
        d loss / d input = w * 2 * d / (1 + input)
    """
    x, t = _input_and_target(input, target)
    _in_domain("target", t, t > -1.0, "greater than -1")
    # log(1 + high) - log(1 + low) = log(1 + (high - low) / (1 + low)), in which nothing cancels. Where
    # the quotient overflows the logarithms are far apart, and can be subtracted as they are.
    low, high = np.minimum(x, t), np.maximum(x, t)
    ratio = (high - low) / (1.0 + low)
    d = np.where(np.isinf(ratio), np.log1p(high) - np.log1p(low), np.log1p(ratio))
    d = np.where(x < -1.0, np.nan, np.where(x < t, -d, d))
    derivatives = (lambda: 2.0 * d / (1.0 + x),)
    return _elementwise(d * d, derivatives, weight, reduction, return_grad, grad_output)


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def poisson_nll_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """Negative log-likelihood of counts, from the logarithm of their rate, or from the rate itself.

    The target must not be negative. "mean" divides by the sum of the weights.

        log_input:  loss = w * (exp(x) - t * x)
                    d loss / dx = w * (exp(x) - t),        and once more: w * exp(x)
        otherwise:  loss = w * (x - t * log(x + eps))
                    d loss / dx = w * (1 - t / (x + eps)), and once more: w * t / (x + eps)**2

    `full` adds Stirling's approximation of log(t!), w * (t * log(t) - t + log(2 * pi * t) / 2), where
    t > 1. A target of 0 leaves nothing but the first term, however infinite its factor.
    """
    _option("eps", eps, eps >= 0.0, "finite and at least 0")
    x, t = _input_and_target(input, target)
    _in_domain("target", t, t >= 0.0, "at least 0")
    rate = x + eps
    if log_input:
        # Above 720 the exponential is the larger one, however large a finite t is: where both terms
        # overflow, and at infinity, the loss is infinite.
        value = np.where((x > 720.0) & np.isfinite(t), np.inf, np.exp(x) - _times(t, x))
    else:
        value = x - _times(t, np.log(rate))
    if full:
        value = value + np.where(t > 1.0, t * np.log(t) - t + 0.5 * np.log(2.0 * math.pi * t), 0.0)
    if log_input:
        derivatives = (lambda: np.exp(x) - t, lambda: np.exp(x))
    else:
        # 1 - t / (x + eps) = (x - t + eps) / (x + eps), in which x - t is exact where it matters.
        derivatives = (
            lambda: np.where(t == 0.0, 1.0, (x - t + eps) / rate),
            lambda: _quotient(_quotient(t, rate), rate),
        )
    return _elementwise(value, derivatives, weight, reduction, return_grad, grad_output, return_hessian)


@np.errstate(invalid="ignore", over="ignore")
def gamma_nll_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    reduction: str = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """Negative log-likelihood of the gamma distribution, from the logarithm of its mean.

    Terms without the input are left out. The target must be positive. "mean" divides by the sum of
    the weights.

        loss = w * (x + t * exp(-x))
        d loss / dx = w * (1 - t * exp(-x)),  and once more: w * t * exp(-x)
    """
    x, t = _input_and_target(input, target)
    _in_domain("target", t, t > 0.0, "positive")
    ratio = _times_exp(t, -x)
    derivatives = (lambda: 1.0 - ratio, lambda: ratio)
    return _elementwise(x + ratio, derivatives, weight, reduction, return_grad, grad_output, return_hessian)


@np.errstate(invalid="ignore", over="ignore")
def tweedie_nll_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    power: float = 1.5,
    reduction: str = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """Half the Tweedie deviance (variance = mean**power), from the logarithm of the mean.

    Terms without the input are left out. The target must be at least 0 for 1 <= p < 2, and positive
    for p >= 2; for p <= 0 it may be anything, and no such distribution has 0 < p < 1. "mean" divides
    by the sum of the weights. Powers 1 and 2 are poisson_nll_loss and gamma_nll_loss, and otherwise

        loss = w * (exp((2 - p) * x) / (2 - p) - t * exp((1 - p) * x) / (1 - p))
        d loss / dx = w * (exp((2 - p) * x) - t * exp((1 - p) * x))
        and once more: w * ((2 - p) * exp((2 - p) * x) - (1 - p) * t * exp((1 - p) * x))
    """
    p = power
    _option("power", p, not 0.0 < p < 1.0, "finite and not between 0 and 1")
    if p in (1.0, 2.0):
        return (poisson_nll_loss if p == 1.0 else gamma_nll_loss)(
            input,
            target,
            weight=weight,
            reduction=reduction,
            return_grad=return_grad,
            return_hessian=return_hessian,
            grad_output=grad_output,
        )
    x, t = _input_and_target(input, target)
    if 1.0 < p < 2.0:
        _in_domain("target", t, t >= 0.0, f"at least 0 for power {p}")
    elif p > 2.0:
        _in_domain("target", t, t > 0.0, f"positive for power {p}")

    # Value and derivatives are all a * exp((2 - p) * x) - b * t * exp((1 - p) * x). Where both terms
    # are infinite, the larger exponential is taken out, and the rest says which infinity it is.
    def combine(a: float, b: float) -> Array:
        first = _times_exp(np.full(x.shape, a), (2.0 - p) * x)
        second = _times_exp(b * t, (1.0 - p) * x)
        rest = a * np.exp(np.minimum(x, 0.0)) - b * t * np.exp(np.minimum(-x, 0.0))
        return np.where(np.isinf(first) & np.isinf(second), np.inf * rest, first - second)

    value = combine(1.0 / (2.0 - p), 1.0 / (1.0 - p))
    derivatives = (lambda: combine(1.0, 1.0), lambda: combine(2.0 - p, 1.0 - p))
    return _elementwise(value, derivatives, weight, reduction, return_grad, grad_output, return_hessian)


class GaussianGradients(NamedTuple):
    """The gradients of gaussian_nll_loss; a scalar variance has none."""

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

    The variance, a scalar or one for each element, must not be negative, and counts as `eps` where it
    is less; its gradient is not cut off there. `full` adds w * log(2 * pi) / 2. "mean" divides by the
    sum of the weights.

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


# Two classes


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def binary_cross_entropy(
    probs: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """Binary cross entropy of probabilities. "mean" divides by the number of elements.

    Probabilities p and targets must be in [0, 1]. As in torch, the logarithms are held above -100,
    and the denominator of the gradient above 1e-12.

        loss = -w * (t * max(log(p), -100) + (1 - t) * max(log(1 - p), -100))
        d loss / dp = w * (p - t) / max(p * (1 - p), 1e-12)
    """
    p, t = _input_and_target(probs, target)
    _in_domain("probs", p, (p >= 0.0) & (p <= 1.0), "in [0, 1]")
    _in_domain("target", t, (t >= 0.0) & (t <= 1.0), "in [0, 1]")
    value = -(t * np.maximum(np.log(p), -100.0) + (1.0 - t) * np.maximum(np.log1p(-p), -100.0))
    # Without the bounds: -t / p + (1 - t) / (1 - p) = (p - t) / (p * (1 - p)).
    derivatives = (lambda: (p - t) / np.maximum(p * (1.0 - p), 1e-12),)
    return _elementwise(
        value, derivatives, weight, reduction, return_grad, grad_output, mean_over_weights=False
    )


@np.errstate(invalid="ignore", over="ignore")
def binary_cross_entropy_with_logits(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    pos_weight: npt.ArrayLike | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """Binary cross entropy of logits. "mean" divides by the number of elements.

    Targets must be in [0, 1]. `pos_weight` is a scalar, one for each class along the last axis, or
    one for each element.

        t'   = (1 - label_smoothing) * t + label_smoothing / 2
        loss = w * (pos_weight * t' * -log(sigmoid(x)) + (1 - t') * -log(1 - sigmoid(x)))
        d loss / dx = w * ((1 - t') * sigmoid(x) - pos_weight * t' * sigmoid(-x))
        and once more: w * (1 - t' + pos_weight * t') * sigmoid(x) * sigmoid(-x)
    """
    _option("label_smoothing", label_smoothing, 0.0 <= label_smoothing <= 1.0, "in [0, 1]")
    x, t = _input_and_target(logits, target)
    _in_domain("target", t, (t >= 0.0) & (t <= 1.0), "in [0, 1]")
    factor = np.asarray(1.0 if pos_weight is None else pos_weight, dtype=np.float64)
    if factor.shape not in ((), x.shape[-1:], x.shape):
        raise ValueError(
            f"pos_weight must be a scalar or have shape {x.shape[-1:]} or {x.shape}, got {factor.shape}"
        )
    positive = factor * ((1.0 - label_smoothing) * t + 0.5 * label_smoothing)
    negative = (1.0 - label_smoothing) * (1.0 - t) + 0.5 * label_smoothing
    derivatives = (
        lambda: _logistic_gradient(x, positive, negative),
        lambda: (negative + positive) * _sigmoid(x) * _sigmoid(-x),
    )
    return _elementwise(
        _logistic(x, positive, negative),
        derivatives,
        weight,
        reduction,
        return_grad,
        grad_output,
        return_hessian,
        mean_over_weights=False,
    )


@np.errstate(invalid="ignore", over="ignore")
def sigmoid_focal_loss(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """Binary cross entropy of logits, less the more certain the right class already is.

    Targets must be in [0, 1]. `alpha` weighs class 1 against class 0; None or a negative one does
    not. "mean" divides by the number of elements.

        ce   = t * -log(sigmoid(x)) + (1 - t) * -log(1 - sigmoid(x))
        u    = 1 - p_t = t * sigmoid(-x) + (1 - t) * sigmoid(x)
        a    = alpha * t + (1 - alpha) * (1 - t),  or 1
        loss = w * a * u**gamma * ce
        d loss / dx = w * a * u**gamma * (ce' + gamma * (1 - 2 * t) * sigmoid(x) * sigmoid(-x) / u * ce)
    """
    _option("gamma", gamma, gamma >= 0.0, "finite and at least 0")
    if alpha is not None:
        _option("alpha", alpha, alpha <= 1.0, "in [0, 1], or None or negative for none")
    x, t = _input_and_target(logits, target)
    _in_domain("target", t, (t >= 0.0) & (t <= 1.0), "in [0, 1]")
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

    # A class that alpha leaves out adds nothing, however wrong its logit is.
    return _elementwise(
        _times(factor, ce),
        (gradient,),
        weight,
        reduction,
        return_grad,
        grad_output,
        mean_over_weights=False,
    )


@np.errstate(invalid="ignore", over="ignore")
def hinge_loss(
    scores: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    margin: float = 1.0,
    weight: npt.ArrayLike | None = None,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """How far a score falls short of the margin on the right side. "mean" divides by the sum of the weights.

    Targets must be -1 or 1.

        loss = w * max(0, margin - t * x)
        d loss / dx = -w * t where t * x < margin, 0 elsewhere
    """
    _option("margin", margin, True, "finite")
    x, t = _input_and_target(scores, target)
    _in_domain("target", t, np.abs(t) == 1.0, "-1 or 1")
    short = np.maximum(0.0, margin - t * x)
    derivatives = (lambda: np.where(short > 0.0, -t, 0.0),)
    return _elementwise(short, derivatives, weight, reduction, return_grad, grad_output)


@np.errstate(invalid="ignore", over="ignore")
def squared_hinge_loss(
    scores: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    margin: float = 1.0,
    weight: npt.ArrayLike | None = None,
    reduction: str = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """Square of the hinge loss of a score. "mean" divides by the sum of the weights.

    Targets must be -1 or 1.

        loss = w * max(0, margin - t * x)**2
        d loss / dx = -w * 2 * t * max(0, margin - t * x)
    """
    _option("margin", margin, True, "finite")
    x, t = _input_and_target(scores, target)
    _in_domain("target", t, np.abs(t) == 1.0, "-1 or 1")
    short = np.maximum(0.0, margin - t * x)
    derivatives = (lambda: -2.0 * t * short,)
    return _elementwise(short * short, derivatives, weight, reduction, return_grad, grad_output)


@np.errstate(invalid="ignore", over="ignore")
def soft_margin_loss(
    scores: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    reduction: str = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    grad_output: npt.ArrayLike | None = None,
) -> Result:
    """Logistic loss of a score. "mean" divides by the sum of the weights.

    Targets must be -1 or 1.

        loss = w * log(1 + exp(-t * x))
        d loss / dx = -w * t * sigmoid(-t * x),  and once more (t**2 = 1): w * sigmoid(x) * sigmoid(-x)
    """
    x, t = _input_and_target(scores, target)
    _in_domain("target", t, np.abs(t) == 1.0, "-1 or 1")
    derivatives = (lambda: -t * _sigmoid(-t * x), lambda: _sigmoid(x) * _sigmoid(-x))
    return _elementwise(
        _softplus(-t * x), derivatives, weight, reduction, return_grad, grad_output, return_hessian
    )


# Rows of scores, a class to each


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
    """How far the score of the right class y falls short of leading every other by the margin.

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
    denominator = np.float64(value.size if reduction == "mean" else 1.0)
    result: Loss = losses if reduction == "none" else float(losses.sum() / denominator)
    if not return_grad:
        return result

    # A row whose loss is NaN is NaN throughout.
    slope = np.where(short > 0.0, p * short ** (p - 1), 0.0)
    slope = np.where(is_target, -slope.sum(axis=-1, keepdims=True), slope)
    slope = np.where(np.isnan(value)[..., np.newaxis], np.nan, slope)
    return result, _times((class_weight[y] / classes * upstream / denominator)[..., np.newaxis], slope)


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
    denominator = np.float64(losses.size if reduction == "mean" else 1.0)
    result: Loss = losses if reduction == "none" else float(losses.sum() / denominator)
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
