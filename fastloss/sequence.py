"""What sequences of tokens are worth to a model: log-probabilities and entropies, straight from logits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fastloss import _kernels
from fastloss._engine import arguments
from fastloss._engine.rows import cross_entropy_rows, row_loss, run_family
from fastloss._engine.types import Array, Reduction

__all__ = ["entropy", "sequence_log_probs", "token_log_probs"]


def token_log_probs(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    axis: int = -1,
    ignore_index: int = -100,
    temperature: float = 1.0,
    reduction: Reduction = "none",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
    out: Array | None = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""Log-probability of each target token.

    .. math:: z_y - \log \sum_j e^{z_j}, \qquad z = x / T

    for a row of logits `x` with class `y`. Minus the `cross_entropy` of each row, without log-probabilities
    of the other classes in memory. What preference and policy losses are made from; their gradients come back
    to the logits through `grad_output`.

    Parameters
    ----------
    logits : array_like, shape (..., V) or with the classes on `axis`
        Unnormalised scores; types and strides as in `cross_entropy`.
    target : array_like of int, shape (...)
        A class index for each token.
    axis : int, default -1
        The axis of the classes.
    ignore_index : int, default -100
        Tokens with this target have log-probability and gradient 0, and are not read.
    temperature : float, default 1.0
        Divides the logits.
    reduction : {"mean", "sum", "none"}, default "none"
        ``"mean"`` divides by the number of tokens that are not ignored.
    return_grad : bool, default False
        Also return the gradient of the log-probabilities (not of their negatives) by the logits.
    grad_output : scalar, or array_like of the result's shape, optional
        The upstream gradient: multiplies the gradient.
    out, accumulate, num_threads
        As in `cross_entropy`.

    Returns
    -------
    log_probs : float, or ndarray of shape (...)
        Types as those of the loss of `cross_entropy`.
    grad : ndarray, shape of `logits`
        Only with `return_grad`.

    Raises
    ------
    TypeError, ValueError, IndexError
        As `cross_entropy`.

    See Also
    --------
    sequence_log_probs : their sums over sequences.
    linear_token_log_probs : without logits.

    References
    ----------
    ``trl.trainer.utils.selective_log_softmax``; ``torch.log_softmax`` and ``gather``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> logits = np.log([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])
    >>> fastloss.token_log_probs(logits, [0, 1]).round(4)
    array([-0.6931, -0.2231])
    """
    x = arguments.floating("logits", logits)
    return row_loss(
        cross_entropy_rows,
        x,
        arguments.class_axis(axis, x, "logits"),
        target,
        sign=-1.0,
        weight=None,
        ignore_index=arguments.index("ignore_index", ignore_index),
        sample_weight=None,
        reduction=reduction,
        return_grad=return_grad,
        grad_output=grad_output,
        out=out,
        accumulate=accumulate,
        num_threads=num_threads,
        **arguments.softmax_options(temperature=temperature),
    )


def _counted(mask: Any, lengths: Any, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Which tokens count, from a mask or from lengths."""
    if mask is not None and lengths is not None:
        raise ValueError("mask and lengths say the same: give one of them")
    if mask is not None:
        return arguments.mask("mask", mask, shape)
    if lengths is None:
        return np.ones(shape, np.bool_)
    given = arguments.as_array("lengths", lengths)
    if given.dtype.kind not in "iu":
        raise TypeError(f"lengths must hold integers, got {given.dtype}")
    if given.shape != shape[:-1]:
        raise ValueError(
            f"lengths must have one entry for each sequence, shape {shape[:-1]}; got {given.shape}"
        )
    if ((given < 0) | (given > shape[-1])).any():
        raise ValueError(f"lengths must be between 0 and {shape[-1]}, the tokens of a sequence")
    return np.arange(shape[-1]) < given[..., np.newaxis]


def sequence_log_probs(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    mask: npt.ArrayLike | None = None,
    lengths: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    average: bool = False,
    temperature: float = 1.0,
    reduction: Reduction = "none",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
    out: Array | None = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""Log-probability of each sequence of target tokens.

    .. math:: \sum_t m_t \Big(z_{t y_t} - \log \sum_j e^{z_{tj}}\Big), \qquad z_t = x_t / T

    for a sequence with logits :math:`x_t`, classes :math:`y_t` and mask `m`. Nothing is shifted: the logits
    at `t` are those for the target at `t`.

    Parameters
    ----------
    logits : array_like, shape (..., T, V)
        Unnormalised scores; types and strides as in `cross_entropy`. Those of tokens that do not count are
        not read, and their gradient is 0.
    target : array_like of int, shape (..., T)
        A class index for each token; where it does not count, anything.
    mask : array_like of bool, or of 0 and 1, shape (..., T), optional
        Which tokens count; all by default.
    lengths : array_like of int, shape (...), optional
        Instead: how many tokens of each sequence count, from its first on.
    ignore_index : int, default -100
        Tokens with this target do not count either.
    average : bool, default False
        Divide by the number of tokens that count.
    temperature : float, default 1.0
        Divides the logits.
    reduction : {"mean", "sum", "none"}, default "none"
        ``"mean"`` divides by the number of sequences.
    return_grad : bool, default False
        Also return the gradient by the logits.
    grad_output : scalar, or array_like of the result's shape, optional
        The upstream gradient: multiplies the gradient.
    out, accumulate, num_threads
        As in `cross_entropy`.

    Returns
    -------
    log_probs : float, or ndarray of shape (...)
        Types as those of the loss of `cross_entropy`. A sequence without tokens that count has 0.
    grad : ndarray, shape of `logits`
        Only with `return_grad`.

    Raises
    ------
    TypeError, ValueError, IndexError
        As `cross_entropy`; also if `mask` holds anything but 0 and 1, or `lengths` more than `T`.

    See Also
    --------
    token_log_probs : of each token.

    References
    ----------
    The ``logps`` of TRL's DPO trainer, with ``average`` those of its CPO and ORPO trainers.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> logits = np.log([[[0.5, 0.5], [0.25, 0.75], [0.1, 0.9]]])
    >>> fastloss.sequence_log_probs(logits, [[0, 1, 0]], lengths=[2]).round(4)
    array([-0.9808])
    """
    arguments.reduction(reduction)
    x = arguments.floating("logits", logits)
    if x.ndim < 2:
        raise ValueError(f"logits must have tokens and classes on their last axes, got shape {x.shape}")
    tokens, classes = arguments.rows_and_classes(x, x.ndim - 1)
    rows = tokens[:-1]
    average = arguments.flag("average", average)
    options = arguments.softmax_options(temperature=temperature)
    given = arguments.as_array("target", target)
    mask, lengths = arguments.given("mask", mask), arguments.given("lengths", lengths)
    grad_output = arguments.given("grad_output", grad_output)
    indices, ignored = arguments.class_indices(
        given, x.shape, x.ndim - 1, arguments.index("ignore_index", ignore_index)
    )
    counted = _counted(mask, lengths, tokens)
    if ignored is not None:
        counted = counted & (indices != ignored)
    # What no class index is, once bad ones have been refused, marks the tokens that do not count.
    arguments.require_classes(given, indices, classes, counted)
    indices = np.where(counted, indices, -1)
    share = np.ones(rows)
    if average:
        share = 1.0 / np.maximum(counted.sum(axis=-1), 1)
    scale, upstream = arguments.upstream(grad_output, rows if reduction == "none" else (), return_grad)
    others = (given, mask, lengths, grad_output)
    grad = arguments.gradient_buffer(out, x, others, return_grad, accumulate)
    if reduction == "mean":
        scale /= max(1, math.prod(rows))
    weights = share if upstream is None else share * upstream
    losses = np.zeros(tokens)
    run_family(
        _kernels.CROSS_ENTROPY, x, x.ndim - 1, output=grad, indices=indices, ignored=-1,
        grad_output=np.ascontiguousarray(np.broadcast_to(weights[..., np.newaxis], tokens)),
        grad_scale=-scale, accumulate=accumulate, row_loss=losses, num_threads=num_threads, **options,
    )  # fmt: skip
    return _reduced(0.0 - losses.sum(axis=-1) * share, x, reduction, grad)


def _reduced(values: Array, x: Array, reduction: str, grad: Array | None) -> Any:
    """Values in float64 as the caller wants them, with the gradient if there is one."""
    result = arguments.reduced(reduction, np.asarray(values), float(values.sum()), values.size, x)
    return result if grad is None else (result, grad)


def entropy(
    logits: npt.ArrayLike,
    *,
    axis: int = -1,
    temperature: float = 1.0,
    reduction: Reduction = "none",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
    out: Array | None = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""Entropy of softmax(logits), in nats.

    .. math:: -\sum_j p_j \log p_j, \qquad p = \mathrm{softmax}(x / T)

    How undecided a model is. Its gradient, :math:`-p_j (\log p_j + H) / T`, is what an entropy bonus adds to
    a policy's.

    Parameters
    ----------
    logits : array_like, shape (..., V) or with the classes on `axis`
        Unnormalised scores; types and strides as in `cross_entropy`. A class at ``-inf`` is masked: it adds
        nothing, and its gradient is 0.
    axis : int, default -1
        The axis of the classes.
    temperature : float, default 1.0
        Divides the logits.
    reduction : {"mean", "sum", "none"}, default "none"
        ``"mean"`` divides by the number of rows.
    return_grad : bool, default False
        Also return the gradient by the logits.
    grad_output : scalar, or array_like of the result's shape, optional
        The upstream gradient: multiplies the gradient.
    out, accumulate, num_threads
        As in `cross_entropy`.

    Returns
    -------
    entropy : float, or ndarray of shape (...)
        Types as those of the loss of `cross_entropy`. A row with a NaN, with ``+inf``, or of nothing but
        ``-inf`` is NaN.
    grad : ndarray, shape of `logits`
        Only with `return_grad`.

    Raises
    ------
    TypeError, ValueError
        As `cross_entropy`.

    See Also
    --------
    cross_entropy : against a target.

    References
    ----------
    ``torch.distributions.Categorical.entropy``, ``trl.trainer.utils.entropy_from_logits``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> [f"{value:.4g}" for value in fastloss.entropy(np.array([[0.0, 0.0], [0.0, 40.0]]))]
    ['0.6931', '1.742e-16']
    """
    arguments.reduction(reduction)
    x = arguments.floating("logits", logits)
    axis = arguments.class_axis(axis, x, "logits")
    rows, _ = arguments.rows_and_classes(x, axis)
    options = arguments.softmax_options(temperature=temperature)
    grad_output = arguments.given("grad_output", grad_output)
    scale, upstream = arguments.upstream(grad_output, rows if reduction == "none" else (), return_grad)
    grad = arguments.gradient_buffer(out, x, (grad_output,), return_grad, accumulate)
    if reduction == "mean":
        scale /= max(1, math.prod(rows))
    values = np.zeros(rows)
    run_family(
        _kernels.ENTROPY, x, axis, output=grad, grad_output=upstream, grad_scale=scale,
        accumulate=accumulate, row_loss=values, num_threads=num_threads, **options,
    )  # fmt: skip
    return _reduced(values, x, reduction, grad)
