"""How far two distributions are apart: of given log-probabilities, or straight from two arrays of logits.

The formulas and their gradients are derived at the head of ``src/divergence.h``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy.typing as npt

from fastloss import _kernels
from fastloss._engine.arguments import number
from fastloss._engine.documentation import documented
from fastloss._engine.elementwise import kl_divergence
from fastloss._engine.fragments import DIVERGENCES, ELEMENTWISE
from fastloss._engine.options import Common
from fastloss._engine.rows import DivergenceGradients, divergence
from fastloss._engine.types import Array, Reduction

if TYPE_CHECKING:
    from typing_extensions import Unpack

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
    reduction: Literal["mean", "batchmean", "sum", "none"] = "mean",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Kullback-Leibler divergence of given distributions, element by element.

    ``loss = target * (log(target) - input)``

    .. math:: t (\log t - x)

    for a log-probability `x` and a probability `t`; from logits there is `kl_div_with_logits`.

    Parameters
    ----------
    input : array_like of any shape
        Log-probabilities of the model, as `log_softmax` gives them. Its type decides.
    target : scalar or array_like with the shape of `|x|`
        Probabilities, or with `log_target` their logarithms. One of 0 adds 0.
    log_target : bool, default False
        Whether `target` holds logarithms.
    reduction : {"mean", "batchmean", "sum", "none"}, default "mean"
        ``"mean"`` divides by the number of elements; ``"batchmean"`` by the length of the first axis, which
        for rows of classes is the mean of their divergences.

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

    ``loss = sum(p * (log(p) - log(q)))``, ``p`` the teacher's and ``q`` the student's softmax

    .. math:: \mathrm{KL}(p \| q) = \sum_j p_j (\log p_j - \log q_j), \qquad
              p = \mathrm{softmax}(t / T), \quad q = \mathrm{softmax}(x / T)

    for each row, with logits `x` of the student and `t` of the teacher: no probabilities in memory, and one
    pass for value and gradient. There is no factor :math:`T^2`; distillation that wants one has it as
    `grad_output`.

    Returns
    -------
    loss : float, or ndarray of shape (...)
        A Python float for ``"mean"`` and ``"sum"``; for ``"none"`` an array of the dtype of the student,
        float32 for half types. 0 where nothing is under the mask; never negative; infinite where the student
        excludes (with ``-inf``) a class that the teacher does not: then the teacher's gradient is not finite.
        In float32 within 1e-6, or 2e-6 of itself: of rows that are nearer than that it says only so.

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
        _kernels.KL,
        student_logits,
        teacher_logits,
        reduction,
        return_grad,
        out,
        common,
        axis=axis,
        temperature=temperature,
        mask=mask,
        teacher_grad=teacher_grad,
    )


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

    ``loss = beta * KL(p, m) + (1 - beta) * KL(q, m)``, ``m = beta * p + (1 - beta) * q``

    .. math:: \beta\, \mathrm{KL}(p \| m) + (1 - \beta)\, \mathrm{KL}(q \| m), \qquad
              m = \beta p + (1 - \beta) q

    for each row, with the softmax `p` of the teacher's and `q` of the student's logits over the temperature.
    At ``beta=0`` it is :math:`\mathrm{KL}(p \| q)`, at ``beta=1`` :math:`\mathrm{KL}(q \| p)`.

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
        operation,
        student_logits,
        teacher_logits,
        reduction,
        return_grad,
        out,
        common,
        axis=axis,
        temperature=temperature,
        mask=mask,
        teacher_grad=teacher_grad,
        beta=beta,
        is_reversed=beta == 1.0,
    )


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

    ``loss = 0.5 * sum(abs(p - q))``, ``p`` the teacher's and ``q`` the student's softmax

    .. math:: \tfrac12 \sum_j |p_j - q_j|

    for each row, with the softmax `p` of the teacher's and `q` of the student's logits over the temperature.

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
        _kernels.TV,
        student_logits,
        teacher_logits,
        reduction,
        return_grad,
        out,
        common,
        axis=axis,
        temperature=temperature,
        mask=mask,
        teacher_grad=teacher_grad,
    )
