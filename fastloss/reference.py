"""The plain NumPy twin of every loss: what fastloss computes, written to be read.

Each function here has the name, the arguments and the meaning of its compiled namesake, follows
the formula in its docstring line by line, and computes in float64 whatever the input's dtype
(float16 and ml_dtypes.bfloat16 included). It serves three times: the tests compare the kernels
with it, a reader learns from it what a loss means exactly, and benchmarks take it as the baseline.
It shares no code with the kernels, makes no attempt to be fast or to save memory, and checks only
what would otherwise give a wrong answer in silence.
"""

import math

import numpy as np
import numpy.typing as npt

__all__ = ["cross_entropy", "log_softmax", "logsumexp", "nll_loss", "perplexity", "softmax"]

Array = npt.NDArray[np.float64]
Loss = float | Array

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
    grad_output: npt.ArrayLike | None = None,
) -> Loss | tuple[Loss, Array]:
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
    0. With return_grad the gradient with respect to the logits, times grad_output, comes second.
    """
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
    p = exps / total
    grad = p * _sum_of_others(a) - a * (_sum_of_others(exps) / total) + _times(2.0 * b, lse) * p
    grad = np.where(masked & ~is_target & ~np.isnan(loss), 0.0, grad)
    if softcap is not None:
        grad = grad / np.cosh(raw / softcap) ** 2
    grad = grad / temperature * (upstream[counted, np.newaxis] / denominator)

    grads = np.zeros((samples.size, classes))
    grads[counted] = grad
    return result, np.moveaxis(grads.reshape(moved.shape), -1, axis)


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
