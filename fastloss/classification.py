"""The softmax family: cross-entropy, negative log-likelihood, softmax, log-softmax, log-sum-exp.

The formulas and their gradients are derived at the head of ``src/softmax.h``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import numpy.typing as npt

from fastloss import _kernels
from fastloss._engine import arguments
from fastloss._engine.rows import cross_entropy_rows, row_loss, run_family
from fastloss._engine.settings import get_num_threads
from fastloss._engine.types import Array, CrossEntropyOptions, Reduction, RowOptions, Scalar
from fastloss._engine.workspace import empty_like

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["cross_entropy", "log_softmax", "logsumexp", "multi_margin_loss", "nll_loss", "softmax"]

# Defaults as objects, so that whether an option was left out is one comparison.
_ZERO = 0.0
_ONE = 1.0


@overload
def cross_entropy(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    reduction: Scalar = ...,
    return_grad: Literal[False] = ...,
    **options: Unpack[CrossEntropyOptions],
) -> float: ...
@overload
def cross_entropy(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    reduction: Literal["none"],
    return_grad: Literal[False] = ...,
    **options: Unpack[CrossEntropyOptions],
) -> Array: ...
@overload
def cross_entropy(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    reduction: Scalar = ...,
    return_grad: Literal[True],
    **options: Unpack[CrossEntropyOptions],
) -> tuple[float, Array]: ...
@overload
def cross_entropy(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    reduction: Literal["none"],
    return_grad: Literal[True],
    **options: Unpack[CrossEntropyOptions],
) -> tuple[Array, Array]: ...
@overload
def cross_entropy(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    reduction: Scalar = ...,
    return_grad: Literal[True],
    return_hessian: Literal[True],
    **options: Unpack[CrossEntropyOptions],
) -> tuple[float, Array, Array]: ...
@overload
def cross_entropy(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    reduction: Literal["none"],
    return_grad: Literal[True],
    return_hessian: Literal[True],
    **options: Unpack[CrossEntropyOptions],
) -> tuple[Array, Array, Array]: ...
@overload
def cross_entropy(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    reduction: Reduction = ...,
    return_grad: bool = ...,
    return_hessian: bool = ...,
    **options: Unpack[CrossEntropyOptions],
) -> Any: ...
def cross_entropy(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    axis: int = -1,
    weight: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    label_smoothing: float = _ZERO,
    sample_weight: npt.ArrayLike | None = None,
    z_loss: float = _ZERO,
    softcap: float | None = None,
    temperature: float = _ONE,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    grad_output: npt.ArrayLike | None = None,
    out: Array | None = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""Cross-entropy of softmax(logits) against class indices or probabilities.

    With :math:`u = c \tanh(x / c)` (a softcap `c`; else :math:`u = x`), :math:`z = u / T`,
    :math:`\mathrm{lse} = \log \sum_j e^{z_j}`, class weights `w`, sample weight `s`, label smoothing
    :math:`\varepsilon`, z-loss factor :math:`\lambda` and `C` classes, the loss of a row with class
    `y`, and of one with probabilities `q`, is

    .. math::

        s\Big[(1 - \varepsilon)\, w_y (\mathrm{lse} - z_y)
        + \frac{\varepsilon}{C} \sum_j w_j (\mathrm{lse} - z_j)
        + w_y \lambda\, \mathrm{lse}^2\Big]

        s\Big[\sum_j w_j \big((1 - \varepsilon) q_j + \tfrac{\varepsilon}{C}\big) (\mathrm{lse} - z_j)
        + \lambda\, \mathrm{lse}^2\Big]

    Parameters
    ----------
    logits : array_like, shape (..., C) or with the classes on `axis`
        Unnormalised scores; float16, bfloat16 (of ml_dtypes), float32 or float64. Rows may have any
        stride, and are not copied. Lists and integers become float64. A class at ``-inf`` is masked:
        its probability and gradient are 0.
    target : array_like, shape (...) or that of `logits`
        A class index for each row, of any integer type; or, in the shape of `logits`, probabilities
        (converted to the type of `logits`).
    axis : int, default -1
        The axis of the classes: the last by default, where torch has axis 1.
    weight : array_like, shape (C,), optional
        A weight for each class. It is not checked: a negative one turns the sign of its term.
    ignore_index : int, default -100
        Rows with this target have loss and gradient 0, and are not read. With probabilities it must
        be negative.
    label_smoothing : float, default 0.0
        The share, between 0 and 1, of the target that is spread evenly over all classes.
    sample_weight : scalar or array_like, shape (...), optional
        A weight for each row. A row of weight 0 has loss and gradient 0, an infinite loss included.
    z_loss : float, default 0.0
        Factor of the squared log-sum-exp, which keeps logits from drifting.
    softcap : float, optional
        Bounds the logits smoothly to this magnitude.
    temperature : float, default 1.0
        Divides the (capped) logits.
    reduction : {"mean", "sum", "none"}, default "mean"
        For class indices ``"mean"`` divides by the sum, over the rows that are not ignored, of class
        weight times sample weight; for probabilities by the number of rows, or the sum of their
        sample weights.
    return_grad : bool, default False
        Also return the gradient with respect to `logits`, computed in the same pass.
    return_hessian : bool, default False
        Also return the diagonal of the second derivative by the logits, which boosting wants; needs
        `return_grad`.
    grad_output : scalar, or array_like of the loss's shape, optional
        The upstream gradient: multiplies the derivatives, not the loss.
    out : ndarray, shape and dtype of `logits`, optional
        Where the gradient is written; may be `logits` itself (in place). Nothing is allocated then.
    accumulate : bool, default False
        Add the gradient to `out`.
    num_threads : int, optional
        For this call; the package setting otherwise. Results do not depend on it.

    Returns
    -------
    loss : float, or ndarray of shape (...)
        A Python float for ``"mean"`` and ``"sum"``; for ``"none"`` an array of the dtype of
        `logits`, float32 for half types. The mean over no row at all is NaN.
    grad : ndarray, shape of `logits`
        Only with `return_grad`; `out` where it was given.
    hessian : ndarray, shape and dtype of `logits`
        Only with `return_hessian`; always a new array. Of what is returned: ``"mean"`` divides it too.

    Raises
    ------
    TypeError
        If an argument is of a type that cannot be used.
    ValueError
        If a shape or an option is wrong, or `out` overlaps an input without being `logits`.
    IndexError
        If a class index is neither in ``[0, C)`` nor `ignore_index`; it names the first. Nothing has
        been written to `out` then, as with any other error.

    See Also
    --------
    nll_loss : from log-probabilities.
    perplexity : its exponential.

    References
    ----------
    ``torch.nn.functional.cross_entropy``, for the meaning of weights, smoothing and reductions;
    ``sklearn.metrics.log_loss``, ``optax.losses.softmax_cross_entropy_with_integer_labels``,
    ``keras.losses.SparseCategoricalCrossentropy``; the objectives ``multiclass`` of LightGBM and
    ``multi:softprob`` of XGBoost.
    Szegedy et al., "Rethinking the Inception architecture", 2016, for label smoothing. Chowdhery et
    al., "PaLM", 2022, for the z-loss. Gemma Team, "Gemma 2", 2024, for the softcap.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> logits = np.array([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    >>> loss, grad = fastloss.cross_entropy(logits, [0, 2], return_grad=True)
    >>> round(loss, 4)
    0.8955
    >>> grad.round(3)
    array([[-0.107,  0.053,  0.053],
           [ 0.106,  0.288, -0.394]])

    In a training loop the gradient takes the place of the logits:

    >>> loss, grad = fastloss.cross_entropy(logits, [0, 2], return_grad=True, out=logits)
    >>> grad is logits
    True
    """
    if (
        weight is sample_weight is softcap is grad_output is num_threads is None
        and label_smoothing is z_loss is _ZERO
        and temperature is _ONE
        and accumulate is return_hessian is False
    ):
        plain = _kernels.plain_cross_entropy(
            logits, target, axis, ignore_index, reduction, return_grad, out, get_num_threads
        )
        if plain is not None:
            return plain
    x = arguments.floating("logits", logits)
    return row_loss(
        cross_entropy_rows,
        x,
        arguments.class_axis(axis, x, "logits"),
        target,
        weight=weight,
        ignore_index=arguments.index("ignore_index", ignore_index),
        sample_weight=sample_weight,
        reduction=reduction,
        return_grad=return_grad,
        grad_output=grad_output,
        out=out,
        accumulate=accumulate,
        num_threads=num_threads,
        return_hessian=arguments.flag("return_hessian", return_hessian),
        **arguments.softmax_options(
            label_smoothing=label_smoothing, z_loss=z_loss, softcap=softcap, temperature=temperature
        ),
    )


@overload
def nll_loss(
    log_probs: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    reduction: Scalar = ...,
    return_grad: Literal[False] = ...,
    **options: Unpack[RowOptions],
) -> float: ...
@overload
def nll_loss(
    log_probs: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    reduction: Literal["none"],
    return_grad: Literal[False] = ...,
    **options: Unpack[RowOptions],
) -> Array: ...
@overload
def nll_loss(
    log_probs: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    reduction: Scalar = ...,
    return_grad: Literal[True],
    **options: Unpack[RowOptions],
) -> tuple[float, Array]: ...
@overload
def nll_loss(
    log_probs: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    reduction: Literal["none"],
    return_grad: Literal[True],
    **options: Unpack[RowOptions],
) -> tuple[Array, Array]: ...
@overload
def nll_loss(
    log_probs: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    reduction: Reduction = ...,
    return_grad: bool = ...,
    **options: Unpack[RowOptions],
) -> Any: ...
def nll_loss(
    log_probs: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    axis: int = -1,
    weight: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    sample_weight: npt.ArrayLike | None = None,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
    out: Array | None = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""Negative log-likelihood of class indices, from log-probabilities.

    .. math:: -s\, w_y\, x_y

    for a row `x` with class `y`, class weights `w` and sample weight `s`. Only the target's element
    of a row is read.

    Parameters
    ----------
    log_probs : array_like, shape (..., C) or with the classes on `axis`
        Log-probabilities; types and strides as in `cross_entropy`.
    target : array_like of int, shape (...)
        A class index for each row.
    axis : int, default -1
        The axis of the classes.
    weight : array_like, shape (C,), optional
        A weight for each class.
    ignore_index : int, default -100
        Rows with this target have loss and gradient 0, and are not read.
    sample_weight : scalar or array_like, shape (...), optional
        A weight for each row.
    reduction : {"mean", "sum", "none"}, default "mean"
        ``"mean"`` divides by the sum, over the rows that are not ignored, of class weight times
        sample weight.
    return_grad, grad_output, out, accumulate, num_threads
        As in `cross_entropy`.

    Returns
    -------
    loss : float, or ndarray of shape (...)
        As in `cross_entropy`.
    grad : ndarray, shape of `log_probs`
        Only with `return_grad`.

    Raises
    ------
    TypeError, ValueError, IndexError
        As `cross_entropy`.

    See Also
    --------
    cross_entropy : from logits, in one pass and without log-probabilities in memory.

    References
    ----------
    ``torch.nn.functional.nll_loss``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> log_probs = np.log([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])
    >>> fastloss.nll_loss(log_probs, [0, 1], reduction="none").round(4)
    array([0.6931, 0.2231])
    """
    x = arguments.floating("log_probs", log_probs)
    return row_loss(
        _kernels.nll,
        x,
        arguments.class_axis(axis, x, "log_probs"),
        target,
        weight=weight,
        ignore_index=arguments.index("ignore_index", ignore_index),
        sample_weight=sample_weight,
        reduction=reduction,
        return_grad=return_grad,
        grad_output=grad_output,
        out=out,
        accumulate=accumulate,
        num_threads=num_threads,
    )


def multi_margin_loss(
    scores: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    p: int = 1,
    margin: float = 1.0,
    weight: npt.ArrayLike | None = None,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
    out: Array | None = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""Multi-class margin loss: every other class should score a margin less than the target.

    .. math:: \frac{w_y}{C} \sum_{j \neq y} \max(0,\, m - x_y + x_j)^p

    for a row `x` with class `y` among `C`, class weights `w` and margin `m`. Where a term is exactly 0
    its gradient is 0. Choose it for scores that need not be probabilities: once the margin is reached,
    nothing is gained by more.

    Parameters
    ----------
    scores : array_like, shape (..., C)
        A score for each class; types and strides as in `cross_entropy`.
    target : array_like of int, shape (...)
        A class index for each row.
    p : {1, 2}, default 1
        The power of a violation.
    margin : float, default 1.0
        The difference that is asked for.
    weight : array_like, shape (C,), optional
        A weight for each class.
    reduction : {"mean", "sum", "none"}, default "mean"
        ``"mean"`` divides by the number of rows.
    return_grad, grad_output, out, accumulate, num_threads
        As in `cross_entropy`.

    Returns
    -------
    loss : float, or ndarray of shape (...)
        As in `cross_entropy`.
    grad : ndarray, shape of `scores`
        Only with `return_grad`.

    Raises
    ------
    TypeError, ValueError, IndexError
        As `cross_entropy`.

    See Also
    --------
    hinge_loss : two classes.

    References
    ----------
    ``torch.nn.functional.multi_margin_loss``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> scores = np.array([[0.1, 0.2, 0.8]])
    >>> round(fastloss.multi_margin_loss(scores, [2]), 4)
    0.2333
    """
    x = arguments.floating("scores", scores)
    power = arguments.number("p", p)
    if power not in (1.0, 2.0):
        raise ValueError(f"p must be 1 or 2, got {p!r}")
    return row_loss(
        _kernels.multi_margin,
        x,
        arguments.class_axis(-1, x, "scores"),
        target,
        weight=weight,
        ignore_index=None,
        sample_weight=None,
        reduction=reduction,
        return_grad=return_grad,
        grad_output=grad_output,
        out=out,
        accumulate=accumulate,
        num_threads=num_threads,
        margin=arguments.number("margin", margin),
        power=power,
    )


def _normalised(
    operation: int, values: npt.ArrayLike, axis: int, out: Array | None, num_threads: int | None
) -> Array:
    x = arguments.floating("x", values)
    axis = arguments.class_axis(axis, x, "x")
    output = empty_like(x) if out is None else arguments.buffer(out, x)
    run_family(operation, x, axis, output=output, num_threads=num_threads)
    return output


def softmax(
    x: npt.ArrayLike,
    *,
    axis: int = -1,
    out: Array | None = None,
    num_threads: int | None = None,
) -> Array:
    r"""Softmax along an axis.

    .. math:: \frac{e^{x_i}}{\sum_j e^{x_j}}

    Parameters
    ----------
    x : array_like
        Types and strides as in `cross_entropy`.
    axis : int, default -1
        The axis that sums to 1.
    out : ndarray, shape and dtype of `x`, optional
        Where the result is written; may be `x` itself.
    num_threads : int, optional
        For this call; the package setting otherwise.

    Returns
    -------
    ndarray, shape and dtype of `x`
        A row with a NaN, with ``+inf``, or with nothing but ``-inf`` is NaN.

    Raises
    ------
    TypeError, ValueError
        As `cross_entropy`.

    References
    ----------
    ``torch.nn.functional.softmax``, ``scipy.special.softmax``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.softmax(np.log([1.0, 2.0, 5.0])).round(3)
    array([0.125, 0.25 , 0.625])
    """
    return _normalised(_kernels.SOFTMAX, x, axis, out, num_threads)


def log_softmax(
    x: npt.ArrayLike,
    *,
    axis: int = -1,
    out: Array | None = None,
    num_threads: int | None = None,
) -> Array:
    r"""Logarithm of the softmax along an axis.

    .. math:: x_i - \log \sum_j e^{x_j}

    Parameters
    ----------
    x : array_like
        Types and strides as in `cross_entropy`.
    axis : int, default -1
        The axis whose exponentials sum to 1.
    out : ndarray, shape and dtype of `x`, optional
        Where the result is written; may be `x` itself.
    num_threads : int, optional
        For this call; the package setting otherwise.

    Returns
    -------
    ndarray, shape and dtype of `x`
        A row with a NaN, with ``+inf``, or with nothing but ``-inf`` is NaN. The largest entry keeps
        its digits where it is nearly 0.

    Raises
    ------
    TypeError, ValueError
        As `cross_entropy`.

    See Also
    --------
    cross_entropy : picks one entry of each row, without the others in memory.

    References
    ----------
    ``torch.nn.functional.log_softmax``, ``scipy.special.log_softmax``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.log_softmax(np.array([0.0, 40.0])).tolist()
    [-40.0, -4.248354255291589e-18]
    """
    return _normalised(_kernels.LOG_SOFTMAX, x, axis, out, num_threads)


def logsumexp(x: npt.ArrayLike, *, axis: int = -1, num_threads: int | None = None) -> Array:
    r"""Logarithm of the sum of exponentials along an axis.

    .. math:: \log \sum_j e^{x_j}

    Parameters
    ----------
    x : array_like
        Types and strides as in `cross_entropy`.
    axis : int, default -1
        The axis that is summed.
    num_threads : int, optional
        For this call; the package setting otherwise.

    Returns
    -------
    ndarray, shape of `x` without `axis`
        Of the dtype of `x`, float32 for half types. Nothing but ``-inf``, or nothing at all, sums to
        ``-inf``; a row with ``+inf`` to ``+inf``.

    Raises
    ------
    TypeError, ValueError
        As `cross_entropy`.

    References
    ----------
    ``torch.logsumexp``, ``scipy.special.logsumexp``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.logsumexp(np.log([[1.0, 2.0], [3.0, 4.0]])).round(4)
    array([1.0986, 1.9459])
    """
    values = arguments.floating("x", x)
    axis = arguments.class_axis(axis, values, "x")
    result = np.full(values.shape[:axis] + values.shape[axis + 1 :], -math.inf)
    run_family(_kernels.LOGSUMEXP, values, axis, row_loss=result, num_threads=num_threads)
    return arguments.as_loss(result, values)
