"""Divergences of two distributions, from log-probabilities or straight from two arrays of logits.

The comment at the top of ``src/divergence.h`` derives the formulas and their gradients.
"""

from __future__ import annotations

from typing import Any, Literal, Unpack

import numpy.typing as npt

from fastloss import _kernels
from fastloss._engine.arguments import number
from fastloss._engine.documentation import documented
from fastloss._engine.elementwise import kl_divergence
from fastloss._engine.fragments import DIVERGENCES, ELEMENTWISE
from fastloss._engine.options import Common
from fastloss._engine.rows import DivergenceGradients, divergence
from fastloss._engine.types import Array, Reduction

__all__ = [
    "DivergenceGradients",
    "js_div_with_logits",
    "kl_div",
    "kl_div_with_logits",
    "tv_distance_with_logits",
]


@documented(ELEMENTWISE)
def kl_div(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    log_target: bool = False,
    reduction: Literal["mean", "batchmean", "sum", "none", "sum_and_count"] = "mean",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Kullback-Leibler divergence of given distributions, element by element.

    ``loss = target * (log(target) - input)``, or ``exp(target) * (target - input)`` with `log_target`

    .. math:: t (\log t - x)

    for a log-probability `x` and a probability `t`. Choose it if the log-probabilities exist already;
    `kl_div_with_logits` takes logits. The gradient is ``-target``, or ``-exp(target)`` with `log_target`.

    Parameters
    ----------
    input : array_like of any shape
        Log-probabilities of the model, as `log_softmax` returns them; |types|
    target : scalar or array_like with the shape of `|x|`
        Probabilities, or their logarithms with `log_target`, converted to the type of `|x|`. A probability of
        0 adds 0, even if `|x|` is ``-inf``. A negative one gives NaN at its element.
    log_target : bool, default False
        Whether `target` holds logarithms of probabilities.
    reduction : {"mean", "batchmean", "sum", "none", "sum_and_count"}, default "mean"
        ``"mean"`` divides by the number of elements. ``"batchmean"`` divides by the length of the first axis:
        for rows of classes, it is the mean of their divergences. ``"sum"`` adds. ``"none"`` returns the loss
        of each element. ``"sum_and_count"`` returns the sum and the number of elements; gradients are those
        of the sum.

    Returns
    -------
    loss : float, tuple of two floats, or ndarray with the shape of `|x|`
        A Python float, or a tuple of two for ``"sum_and_count"``. For ``"none"`` an array with the dtype of
        `|x|`, float32 for half types. The mean of no elements is NaN, their sum is 0. A NaN in an argument
        gives NaN at that element alone.

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
    return kl_divergence(input, target, reduction, return_grad, out, common, log_target=log_target)


@documented(DIVERGENCES)
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
    out: Any = None,
    **common: Unpack[Common],
) -> Any:
    r"""Kullback-Leibler divergence of a student from its teacher, straight from their logits.

    ``loss = sum(p * (log(p) - log(q)))`` for each row, with ``p = softmax(teacher_logits / temperature)`` and
    ``q = softmax(student_logits / temperature)``

    .. math:: \mathrm{KL}(p \| q) = \sum_j p_j (\log p_j - \log q_j), \qquad
              p = \mathrm{softmax}(t / T), \quad q = \mathrm{softmax}(x / T)

    for a row of logits `x` of the student and `t` of the teacher. It is the usual loss of distillation: the
    student is penalised for a low probability of a class that is probable for the teacher. Probabilities are
    not stored, and value and gradient take one pass. The gradient is ``(q - p) / temperature``. There is no
    factor :math:`T^2`; pass it as `grad_output` if the gradient should have it.

    The divergence is never negative. It is infinite if the student excludes (with ``-inf``) a class that the
    teacher does not exclude; the gradient for the teacher is not finite then. In float32 its error is at most
    1e-6, or 2e-6 of its value: a divergence below 1e-6 says only that the two rows are close.

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
    return divergence(
        _kernels.KL, student_logits, teacher_logits, reduction, return_grad, out, common, axis=axis,
        temperature=temperature, mask=mask, teacher_grad=teacher_grad,
    )  # fmt: skip


@documented(DIVERGENCES)
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
    out: Any = None,
    **common: Unpack[Common],
) -> Any:
    r"""Generalised Jensen-Shannon divergence of a student and its teacher, straight from their logits.

    ``loss = beta * KL(p, m) + (1 - beta) * KL(q, m)`` for each row, with ``m = beta * p + (1 - beta) * q``,
    ``p = softmax(teacher_logits / temperature)`` and ``q = softmax(student_logits / temperature)``

    .. math:: \beta\, \mathrm{KL}(p \| m) + (1 - \beta)\, \mathrm{KL}(q \| m), \qquad
              m = \beta p + (1 - \beta) q

    Choose it for a divergence that is bounded, and between the two directions of Kullback-Leibler. The
    gradient is ``(1 - beta) * q * (a - sum(q * a)) / temperature`` with ``a = log(q / m)``. As in TRL, the
    loss is :math:`\mathrm{KL}(p \| q)` at ``beta=0`` and :math:`\mathrm{KL}(q \| p)` at ``beta=1``; for other
    values it is always finite. It is never negative. In float32 its error is at most 1e-6, or 2e-6 of its
    value.

    Parameters
    ----------
    beta : float, default 0.5
        The teacher's share of the mixture, between 0 and 1.

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
    beta = number("beta", beta, low=0.0, high=1.0)
    operation = _kernels.KL if beta in (0.0, 1.0) else _kernels.JS
    return divergence(
        operation, student_logits, teacher_logits, reduction, return_grad, out, common, axis=axis,
        temperature=temperature, mask=mask, teacher_grad=teacher_grad, beta=beta, is_reversed=beta == 1.0,
    )  # fmt: skip


@documented(DIVERGENCES)
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
    out: Any = None,
    **common: Unpack[Common],
) -> Any:
    r"""Total variation distance of a student and its teacher, straight from their logits.

    ``loss = 0.5 * sum(abs(p - q))`` for each row, with ``p = softmax(teacher_logits / temperature)`` and
    ``q = softmax(student_logits / temperature)``

    .. math:: \tfrac12 \sum_j |p_j - q_j|

    Choose it for a symmetric distance between 0 and 1, in which classes of small probability count little.
    The gradient is ``q * (s - sum(q * s)) / (2 * temperature)`` with ``s = sign(q - p)``, which is 0 for a
    class with equal probabilities. In float32 the error is at most 1e-6, or 2e-6 of the distance.

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
    return divergence(
        _kernels.TV, student_logits, teacher_logits, reduction, return_grad, out, common, axis=axis,
        temperature=temperature, mask=mask, teacher_grad=teacher_grad,
    )  # fmt: skip
