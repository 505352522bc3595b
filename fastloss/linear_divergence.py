"""Divergences of two linear layers, whose logits are computed in chunks and never exist all at once."""

from __future__ import annotations

from typing import Any, Unpack

import numpy.typing as npt

from fastloss import _kernels
from fastloss._engine.arguments import number
from fastloss._engine.documentation import documented
from fastloss._engine.fragments import LINEAR_DIVERGENCES
from fastloss._engine.linear_divergence import Hard, Side, StudentGradients, linear_divergence
from fastloss._engine.options import CommonOfSeveral
from fastloss._engine.types import Array, Reduction

__all__ = ["StudentGradients", "linear_js_div", "linear_kl_div", "linear_tv_distance"]


@documented(LINEAR_DIVERGENCES, gradients=StudentGradients)
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
    memory_budget: int | None = None,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_entropy: bool = False,
    out: tuple[Array | None, Array | None, Array | None] | None = None,
    **common: Unpack[CommonOfSeveral],
) -> Any:
    r"""Kullback-Leibler divergence of a student from its teacher, from the inputs of their last layers.

    ``loss = kl_div_with_logits(student_input @ student_weight.T + student_bias, teacher_input @
    teacher_weight.T + teacher_bias)``

    .. math:: \mathrm{KL}(p \| q), \qquad p = \mathrm{softmax}(t / T), \quad q = \mathrm{softmax}(x / T)

    for the logits :math:`x = \mathrm{softcap}(s\,(W h + b))` of a token of the student, and `t` of the
    teacher. Choose it to distil one language model into another: for `N` tokens and `V` classes, the logits
    of both and the gradient would be three ``(N, V)`` arrays. Here they are computed for some tokens at a
    time, in two buffers. There are four products for each token: the logits of both models, and the student's
    two gradients. With the gradient `g` of the student's logits, the gradients are ``g @ student_weight``,
    ``g.T @ student_input`` and ``g.sum(axis=0)``. The teacher has none. There is no factor :math:`T^2`; pass
    it as `grad_output` if the gradient should have it.

    See Also
    --------
    kl_div_with_logits : from logits.
    linear_js_div : bounded, and between the two directions.
    linear_cross_entropy : of hard targets alone.

    References
    ----------
    Hinton et al., "Distilling the knowledge in a neural network", 2015; ``trl.DistillationTrainer`` with
    ``beta=0``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> rng = np.random.default_rng(0)
    >>> student, teacher = rng.standard_normal((4, 3)), rng.standard_normal((4, 8))
    >>> weight, teacher_weight = rng.standard_normal((10, 3)), rng.standard_normal((10, 8))
    >>> loss, grad = fastloss.linear_kl_div(student, weight, teacher, teacher_weight, return_grad=True)
    >>> round(loss, 4)
    1.3205
    >>> grad.student_input.shape, grad.student_weight.shape, grad.student_bias
    ((4, 3), (10, 3), None)

    A fifth of the loss is the cross-entropy of labels, of which the last token has none:

    >>> loss = fastloss.linear_kl_div(
    ...     student, weight, teacher, teacher_weight, hard_target=[1, 7, 2, -100], hard_share=0.2
    ... )
    >>> round(loss, 4)
    1.6959
    """
    return linear_divergence(
        _kernels.KL,
        Side(student_input, student_weight, student_bias, student_softcap, student_logit_scale),
        Side(teacher_input, teacher_weight, teacher_bias, teacher_softcap, teacher_logit_scale),
        temperature, mask, Hard(hard_target, hard_share, ignore_index), memory_budget, reduction, return_grad,
        return_entropy, out, common,
    )  # fmt: skip


@documented(LINEAR_DIVERGENCES, gradients=StudentGradients)
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
    memory_budget: int | None = None,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_entropy: bool = False,
    out: tuple[Array | None, Array | None, Array | None] | None = None,
    **common: Unpack[CommonOfSeveral],
) -> Any:
    r"""Generalised Jensen-Shannon divergence of student and teacher, from the inputs of their last layers.

    ``loss = js_div_with_logits(student_input @ student_weight.T + student_bias, teacher_input @
    teacher_weight.T + teacher_bias, beta=beta)``

    .. math:: \beta\, \mathrm{KL}(p \| m) + (1 - \beta)\, \mathrm{KL}(q \| m), \qquad
              m = \beta p + (1 - \beta) q

    for the distributions `p` of the teacher and `q` of the student. Choose it for a divergence between the
    two directions of Kullback-Leibler; it is :math:`\mathrm{KL}(p \| q)` at ``beta=0`` and
    :math:`\mathrm{KL}(q \| p)` at ``beta=1``. Logits, products and gradients are those of `linear_kl_div`.

    Parameters
    ----------
    beta : float, default 0.5
        The teacher's share of the mixture, between 0 and 1.

    See Also
    --------
    js_div_with_logits : from logits.
    linear_kl_div : one direction.

    References
    ----------
    Agarwal et al., "On-policy distillation of language models", 2024; ``trl.DistillationTrainer``; the
    ``LigerFusedLinearJSDLoss`` of the Liger kernels.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> hidden, teacher = np.array([[1.0, 0.0]]), np.array([[1.0, 1.0, 1.0]])
    >>> weight, teacher_weight = 2.0 * np.eye(2), np.tri(2, 3)
    >>> loss, entropy = fastloss.linear_js_div(hidden, weight, teacher, teacher_weight, return_entropy=True)
    >>> round(loss, 4), entropy.round(4)
    (0.2081, array([0.3653]))
    """
    beta = number("beta", beta, low=0.0, high=1.0)
    operation = _kernels.KL if beta in (0.0, 1.0) else _kernels.JS
    return linear_divergence(
        operation,
        Side(student_input, student_weight, student_bias, student_softcap, student_logit_scale),
        Side(teacher_input, teacher_weight, teacher_bias, teacher_softcap, teacher_logit_scale),
        temperature, mask, Hard(hard_target, hard_share, ignore_index), memory_budget, reduction, return_grad,
        return_entropy, out, common, beta=beta, is_reversed=beta == 1.0,
    )  # fmt: skip


@documented(LINEAR_DIVERGENCES, gradients=StudentGradients)
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
    memory_budget: int | None = None,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_entropy: bool = False,
    out: tuple[Array | None, Array | None, Array | None] | None = None,
    **common: Unpack[CommonOfSeveral],
) -> Any:
    r"""Total variation distance of a student and its teacher, from the inputs of their last layers.

    ``loss = tv_distance_with_logits(student_input @ student_weight.T + student_bias, teacher_input @
    teacher_weight.T + teacher_bias)``

    .. math:: \tfrac12 \sum_j |p_j - q_j|

    for the distributions `p` of the teacher and `q` of the student. Choose it for a symmetric distance
    between 0 and 1, in which classes of small probability count little. Logits, products and gradients are
    those of `linear_kl_div`.

    See Also
    --------
    tv_distance_with_logits : from logits.
    linear_kl_div : the usual loss of distillation.

    References
    ----------
    The ``LigerTVDLoss`` of the Liger kernels; Wen et al., "f-divergence minimization for sequence-level
    knowledge distillation", 2023.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> hidden, teacher = np.array([[1.0, 0.0]]), np.array([[1.0, 1.0, 1.0]])
    >>> weight, teacher_weight = 2.0 * np.eye(2), np.tri(2, 3)
    >>> round(fastloss.linear_tv_distance(hidden, weight, teacher, teacher_weight), 4)
    0.6119
    """
    return linear_divergence(
        _kernels.TV,
        Side(student_input, student_weight, student_bias, student_softcap, student_logit_scale),
        Side(teacher_input, teacher_weight, teacher_bias, teacher_softcap, teacher_logit_scale),
        temperature, mask, Hard(hard_target, hard_share, ignore_index), memory_budget, reduction, return_grad,
        return_entropy, out, common,
    )  # fmt: skip
