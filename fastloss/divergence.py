"""How far two distributions are apart: of given log-probabilities, or straight from two arrays of logits.

The formulas and their gradients are derived at the head of ``src/divergence.h``.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from fastloss import _kernels
from fastloss._engine import arguments
from fastloss._engine.conversion import cast
from fastloss._engine.elementwise import elementwise
from fastloss._engine.parts import Given, common
from fastloss._engine.types import Array, Reduction

__all__ = [
    "DivergenceGradients",
    "js_div_with_logits",
    "kl_div",
    "kl_div_with_logits",
    "tv_distance_with_logits",
]

_NAMES = ("student_logits", "teacher_logits")


class DivergenceGradients(NamedTuple):
    """The gradients of a divergence with ``teacher_grad=True``; None where one was not wanted."""

    student_logits: Array | None
    teacher_logits: Array | None


def kl_div(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    log_target: bool = False,
    reduction: Literal["mean", "batchmean", "sum", "none"] = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
    out: Array | None = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""Kullback-Leibler divergence of given distributions, element by element.

    .. math:: t (\log t - x)

    for a log-probability `x` and a probability `t`; from logits there is `kl_div_with_logits`.

    Parameters
    ----------
    input : array_like, any shape
        Log-probabilities of the model, as `log_softmax` gives them. Its type decides.
    target : scalar or array_like, the same shape
        Probabilities, or with `log_target` their logarithms. One of 0 adds 0.
    log_target : bool, default False
        Whether `target` holds logarithms.
    reduction : {"mean", "batchmean", "sum", "none"}, default "mean"
        ``"mean"`` divides by the number of elements; ``"batchmean"`` by the length of the first axis, which
        for rows of classes is the mean of their divergences.
    return_grad : bool, default False
        Also return the gradient by `input`.
    grad_output : scalar, or array_like of the loss's shape, optional
        The upstream gradient: multiplies the gradient, not the loss.
    out : ndarray, optional
        Where the gradient is written; may be `input` itself.
    accumulate : bool, default False
        Add the gradient to `out`.
    num_threads : int, optional
        For this call; the package setting otherwise. Results do not depend on it.

    Returns
    -------
    loss : float, or ndarray of the shape of `input`
        A Python float unless for ``"none"``. A negative target makes its element NaN.
    grad : ndarray
        Only with `return_grad`.

    Raises
    ------
    TypeError
        If an argument is of a type that cannot be used.
    ValueError
        If shapes differ, the reduction is unknown, or the buffer cannot be used.

    See Also
    --------
    kl_div_with_logits : from logits.

    References
    ----------
    ``torch.nn.functional.kl_div``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> round(fastloss.kl_div(np.log([[0.5, 0.5]]), [[0.25, 0.75]], reduction="batchmean"), 4)
    0.1308
    """
    kernel = "kl_div_log" if arguments.flag("log_target", log_target) else "kl_div"
    arguments.reduction(reduction, ("mean", "batchmean", "sum", "none"))
    rows = 1
    if reduction == "batchmean":
        x = arguments.floating("input", input)
        if x.ndim == 0:
            raise ValueError("input must have a first axis for reduction='batchmean', got a scalar")
        rows = x.shape[0]
        scale, _ = arguments.upstream(grad_output, (), return_grad)
        if return_grad:
            grad_output = scale / rows if rows else scale
    result = elementwise(
        kernel, "input", input, target, reduction="sum" if reduction == "batchmean" else reduction,
        return_grad=return_grad, grad_output=grad_output, out=out, accumulate=accumulate,
        num_threads=num_threads,
    )  # fmt: skip
    if reduction != "batchmean":
        return result
    total = result[0] if return_grad else result
    mean = float(np.float64(total) / rows) if rows else float("nan")
    return (mean, result[1]) if return_grad else mean


def _from_logits(
    operation: int,
    student_logits: npt.ArrayLike,
    teacher_logits: npt.ArrayLike,
    *,
    axis: int,
    temperature: float,
    mask: npt.ArrayLike | None,
    teacher_grad: bool,
    reduction: str,
    return_grad: bool,
    grad_output: npt.ArrayLike | None,
    out: Any,
    accumulate: bool,
    num_threads: int | None,
    beta: float = 0.0,
    is_reversed: bool = False,
) -> Any:
    """Check, run and reduce. Reversed, the two change places in the kernel."""
    options = arguments.softmax_options(temperature=temperature)
    teacher_grad = arguments.flag("teacher_grad", teacher_grad)
    arguments.reduction(reduction)
    seen = [arguments.as_array(*pair) for pair in zip(_NAMES, (student_logits, teacher_logits), strict=True)]
    x, t = (arguments.floating(name, value) for name, value in zip(_NAMES, seen, strict=True))
    axis = arguments.class_axis(axis, x, _NAMES[0])
    if t.shape != x.shape:
        raise ValueError(f"{_NAMES[1]} must have the shape of {_NAMES[0]}, {x.shape}; got {t.shape}")
    t = cast(t, x.dtype)
    mask = arguments.given("mask", mask)
    rows, _ = arguments.rows_and_classes(x, axis)
    counted = None if mask is None else np.ascontiguousarray(arguments.mask("mask", mask, rows))
    if teacher_grad and not arguments.flag("return_grad", return_grad):
        raise ValueError("teacher_grad needs return_grad=True")
    call = common(
        Given(seen, [x, t], []), _NAMES if teacher_grad else _NAMES[:1], others=(mask,), loss_shape=rows,
        reduction=reduction, return_grad=return_grad, grad_output=grad_output, out=out,
        accumulate=accumulate, num_threads=num_threads,
    )  # fmt: skip
    count = int(np.prod(rows)) if counted is None else max(int(counted.sum()), 1)
    losses = np.zeros(rows) if reduction == "none" else None
    sides = list(zip((x, t), (*call.buffers, None), (*call.accumulate, False), strict=False))
    first, second = reversed(sides) if is_reversed else sides
    total = _kernels.divergence(
        operation, first[0], second[0], axis, x_gradient=first[1], t_gradient=second[1], counted=counted,
        grad_output=call.upstream, beta=beta, accumulate=first[2] | second[2] << 1, row_loss=losses,
        grad_scale=call.scale / max(count, 1) if reduction == "mean" else call.scale,
        threads=call.num_threads, **options,
    )  # fmt: skip
    loss = arguments.reduced(reduction, losses, total, count, x)
    if not call.return_grad:
        return loss
    return loss, DivergenceGradients(*call.buffers) if teacher_grad else call.buffers[0]


def kl_div_with_logits(
    student_logits: npt.ArrayLike,
    teacher_logits: npt.ArrayLike,
    *,
    axis: int = -1,
    temperature: float = 1.0,
    mask: npt.ArrayLike | None = None,
    teacher_grad: bool = False,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
    out: Any = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""Kullback-Leibler divergence of a student from its teacher, straight from their logits.

    .. math:: \mathrm{KL}(p \| q) = \sum_j p_j (\log p_j - \log q_j), \qquad
              p = \mathrm{softmax}(t / T), \quad q = \mathrm{softmax}(x / T)

    for each row, with logits `x` of the student and `t` of the teacher: no probabilities in memory, and one
    pass for value and gradient. There is no factor :math:`T^2`; distillation that wants one has it as
    `grad_output`.

    Parameters
    ----------
    student_logits : array_like, shape (..., V) or with the classes on `axis`
        Unnormalised scores; types and strides as in `cross_entropy`. Its type decides.
    teacher_logits : array_like, the same shape
        Those of the teacher.
    axis : int, default -1
        The axis of the classes.
    temperature : float, default 1.0
        Divides both. Greater than 0.
    mask : array_like of bool, or of 0 and 1, shape (...), optional
        Which rows count. The others are not read, and have divergence and gradient 0.
    teacher_grad : bool, default False
        With `return_grad`: the gradient by the teacher's logits, too.
    reduction : {"mean", "sum", "none"}, default "mean"
        ``"mean"`` divides by the number of rows that count.
    return_grad : bool, default False
        Also return the gradient by the student's logits, :math:`(q - p) / T`.
    grad_output : scalar, or array_like of the loss's shape, optional
        The upstream gradient: multiplies the gradient, not the loss.
    out : ndarray, or tuple of two, optional
        Where the gradient is written; may be `student_logits` itself. With `teacher_grad` a tuple, None for
        one that is not wanted.
    accumulate : bool, default False
        Add the gradient to `out`.
    num_threads : int, optional
        For this call; the package setting otherwise. Results do not depend on it.

    Returns
    -------
    loss : float, or ndarray of shape (...)
        A Python float for ``"mean"`` and ``"sum"``; for ``"none"`` an array of the dtype of the student,
        float32 for half types. 0 where nothing is under the mask; never negative; infinite where the student
        excludes (with ``-inf``) a class that the teacher does not: then the teacher's gradient is not finite.
        In float32 within 1e-6, or 2e-6 of itself: of rows that are nearer than that it says only so.
    grad : ndarray, or DivergenceGradients
        Only with `return_grad`; with `teacher_grad` a named tuple ``(student_logits, teacher_logits)``.

    Raises
    ------
    TypeError
        If an argument is of a type that cannot be used.
    ValueError
        If shapes differ, an option is out of its range, or a buffer cannot be used.

    See Also
    --------
    js_div_with_logits : bounded, and between the two directions.

    References
    ----------
    Hinton et al., "Distilling the knowledge in a neural network", 2015; ``torch.nn.functional.kl_div`` of two
    ``log_softmax`` with ``log_target``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> student, teacher = np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]])
    >>> loss, grad = fastloss.kl_div_with_logits(student, teacher, return_grad=True)
    >>> round(loss, 4), grad.round(4)
    (0.1308, array([[ 0.25, -0.25]]))
    """
    return _from_logits(
        _kernels.KL, student_logits, teacher_logits, axis=axis, temperature=temperature, mask=mask,
        teacher_grad=teacher_grad, reduction=reduction, return_grad=return_grad, grad_output=grad_output,
        out=out, accumulate=accumulate, num_threads=num_threads,
    )  # fmt: skip


def js_div_with_logits(
    student_logits: npt.ArrayLike,
    teacher_logits: npt.ArrayLike,
    *,
    axis: int = -1,
    beta: float = 0.5,
    temperature: float = 1.0,
    mask: npt.ArrayLike | None = None,
    teacher_grad: bool = False,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
    out: Any = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""Generalised Jensen-Shannon divergence of a student and its teacher, straight from their logits.

    .. math:: \beta\, \mathrm{KL}(p \| m) + (1 - \beta)\, \mathrm{KL}(q \| m), \qquad
              m = \beta p + (1 - \beta) q

    with `p` and `q` as in `kl_div_with_logits`. At ``beta=0`` it is :math:`\mathrm{KL}(p \| q)`, at
    ``beta=1`` :math:`\mathrm{KL}(q \| p)`.

    Parameters
    ----------
    student_logits, teacher_logits : array_like, shape (..., V) or with the classes on `axis`
        As in `kl_div_with_logits`.
    axis : int, default -1
        The axis of the classes.
    beta : float, default 0.5
        The teacher's share of the mixture, between 0 and 1.
    temperature : float, default 1.0
        Divides both. Greater than 0.
    mask, teacher_grad, reduction, return_grad, grad_output, out, accumulate, num_threads
        As in `kl_div_with_logits`.

    Returns
    -------
    loss : float, or ndarray of shape (...)
        As that of `kl_div_with_logits`; with `beta` between 0 and 1 always finite.
    grad : ndarray, or DivergenceGradients
        Only with `return_grad`.

    Raises
    ------
    TypeError, ValueError
        As `kl_div_with_logits`.

    See Also
    --------
    kl_div_with_logits : one direction.

    References
    ----------
    Agarwal et al., "On-policy distillation of language models", 2024; ``trl.GKDTrainer``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> round(fastloss.js_div_with_logits(np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]])), 4)
    0.0338
    """
    beta = arguments.number("beta", beta, low=0.0, high=1.0)
    is_one_way = beta in (0.0, 1.0)
    return _from_logits(
        _kernels.KL if is_one_way else _kernels.JS, student_logits, teacher_logits, axis=axis, beta=beta,
        temperature=temperature, mask=mask, teacher_grad=teacher_grad, reduction=reduction,
        return_grad=return_grad, grad_output=grad_output, out=out, accumulate=accumulate,
        num_threads=num_threads, is_reversed=beta == 1.0,
    )  # fmt: skip


def tv_distance_with_logits(
    student_logits: npt.ArrayLike,
    teacher_logits: npt.ArrayLike,
    *,
    axis: int = -1,
    temperature: float = 1.0,
    mask: npt.ArrayLike | None = None,
    teacher_grad: bool = False,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
    out: Any = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""Total variation distance of a student and its teacher, straight from their logits.

    .. math:: \tfrac12 \sum_j |p_j - q_j|

    with `p` and `q` as in `kl_div_with_logits`.

    Parameters
    ----------
    student_logits, teacher_logits : array_like, shape (..., V) or with the classes on `axis`
        As in `kl_div_with_logits`.
    axis : int, default -1
        The axis of the classes.
    temperature : float, default 1.0
        Divides both. Greater than 0.
    mask, teacher_grad, reduction, return_grad, grad_output, out, accumulate, num_threads
        As in `kl_div_with_logits`.

    Returns
    -------
    loss : float, or ndarray of shape (...)
        As that of `kl_div_with_logits`; between 0 and 1.
    grad : ndarray, or DivergenceGradients
        Only with `return_grad`. Where the two probabilities of a class are equal, the derivative of their
        difference is taken to be 0.

    Raises
    ------
    TypeError, ValueError
        As `kl_div_with_logits`.

    References
    ----------
    The ``LigerTVDLoss`` of the Liger kernels; Wen et al., "f-divergence minimization for sequence-level
    knowledge distillation", 2023.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> round(fastloss.tv_distance_with_logits(np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]])), 4)
    0.25
    """
    return _from_logits(
        _kernels.TV, student_logits, teacher_logits, axis=axis, temperature=temperature, mask=mask,
        teacher_grad=teacher_grad, reduction=reduction, return_grad=return_grad, grad_output=grad_output,
        out=out, accumulate=accumulate, num_threads=num_threads,
    )  # fmt: skip
