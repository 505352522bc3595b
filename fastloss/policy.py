"""Losses of policy optimisation: PPO, value functions, GRPO and its variants, divergence from a reference."""

from __future__ import annotations

from typing import Any, Literal, Unpack

import numpy.typing as npt

from fastloss._engine.documentation import documented
from fastloss._engine.fragments import TOKENS
from fastloss._engine.options import Common, option
from fastloss._engine.policy import group_options, group_policy, kl_estimate, surrogate, value_error
from fastloss._engine.types import Array, Reduction

__all__ = [
    "grpo_loss",
    "kl_penalty",
    "ppo_loss",
    "value_loss",
]


@documented(TOKENS, unreduced="the loss of each token")
def ppo_loss(
    logps: npt.ArrayLike,
    old_logps: npt.ArrayLike,
    advantages: npt.ArrayLike,
    *,
    clip: float = 0.2,
    mask: npt.ArrayLike | None = None,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Clipped surrogate of proximal policy optimisation.

    ``loss = max(-A * r, -A * min(max(r, 1 - clip), 1 + clip))`` with ``r = exp(logps - old_logps)`` and
    ``A = advantages``

    .. math:: \max\big(-A r,\ -A\,\mathrm{clip}(r, 1 - \epsilon, 1 + \epsilon)\big), \qquad
              r = \pi / \pi_{old}

    for each token, with advantage `A` and :math:`\epsilon` the `clip`. Choose it to train on the same tokens
    for several steps: the clipping stops a token's gradient once its ratio has moved far enough. The gradient
    is ``-A * r`` where the first term is the greater or equal, otherwise 0.

    Parameters
    ----------
    advantages : array_like with the shape of `|x|`
        Advantage of each token: by how much its outcome was better than expected.
    clip : float, default 0.2
        Largest distance of the ratio from 1, at least 0.

    See Also
    --------
    grpo_loss : with other bounds and other means.

    Notes
    -----
    The ratio is bounded as a logarithm: it cannot overflow where its upper bound applies.

    References
    ----------
    Schulman et al., "Proximal policy optimization algorithms", 2017; ``trl.PPOTrainer``.

    Examples
    --------
    >>> import fastloss
    >>> loss, grad = fastloss.ppo_loss([-1.0, -2.0], [-1.5, -2.0], [1.0, 1.0], return_grad=True)
    >>> round(loss, 4), grad
    (-1.1, array([ 0. , -0.5]))
    """
    return surrogate(
        (logps, old_logps, advantages), option("clip", clip), mask, reduction, return_grad, out, common
    )


@documented(TOKENS, unreduced="the loss of each token")
def value_loss(
    values: npt.ArrayLike,
    old_values: npt.ArrayLike | None,
    returns: npt.ArrayLike,
    *,
    clip: float | None = 0.2,
    mask: npt.ArrayLike | None = None,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Clipped squared error of a value function.

    ``loss = 0.5 * max((v - R)**2, (old + d - R)**2)`` with ``v = values``, ``old = old_values``,
    ``R = returns`` and ``d = min(max(v - old, -clip), clip)``

    .. math:: \tfrac12 \max\big((v - R)^2,\ (v_{old} + d - R)^2\big), \qquad
              d = \mathrm{clip}(v - v_{old}, -\epsilon, \epsilon)

    with :math:`\epsilon` the `clip`. Choose it beside `ppo_loss`, for the value function that its advantages
    come from. The gradient is ``v - R`` where the first square is the greater or equal, otherwise 0.

    Parameters
    ----------
    values : array_like of any shape, usually (B, T)
        Values of the tokens as the model predicts them now; |types| All are computed in float64. The dtype of
        `values` is that of the results.
    old_values : array_like with the shape of `|x|`, or None
        Values that the model predicted when the tokens were generated. If `clip` is None they are not used
        and may be None.
    returns : array_like with the shape of `|x|`
        The returns: the values to predict.
    clip : float or None, default 0.2
        Largest change from the old value that can reduce the loss, at least 0. None gives half of the squared
        error, without clipping.

    Raises
    ------
    TypeError
        If an argument has a type that cannot be used, or if `old_values` is None and `clip` is not.

    References
    ----------
    Schulman et al., "Proximal policy optimization algorithms", 2017; ``trl.PPOTrainer``.

    Examples
    --------
    >>> import fastloss
    >>> round(fastloss.value_loss([1.0, 0.5], [0.0, 0.5], [1.0, 0.0]), 4)
    0.2225
    """
    clip = None if clip is None else option("clip", clip)
    return value_error((values, old_values, returns), clip, mask, reduction, return_grad, out, common)


@documented(TOKENS, result="penalty")
def kl_penalty(
    logps: npt.ArrayLike,
    ref_logps: npt.ArrayLike,
    *,
    estimator: Literal["k1", "k2", "k3"] = "k3",
    mask: npt.ArrayLike | None = None,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Estimate of the Kullback-Leibler divergence of a policy from its reference, from generated tokens.

    ``k1 = d``, ``k2 = 0.5 * d**2``, ``k3 = exp(-d) - 1 + d`` with ``d = logps - ref_logps``

    .. math:: k_1 = l, \qquad k_2 = \tfrac12 l^2, \qquad k_3 = e^{-l} - 1 + l, \qquad
              l = \log \pi - \log \pi_{ref}

    for each token, which the policy itself has generated. Add it to a loss to keep the policy near its
    reference. The gradients are ``1``, ``d`` and ``1 - exp(-d)``.

    Parameters
    ----------
    ref_logps : array_like with the shape of `|x|`
        Log-probabilities of the same tokens under the reference model.
    estimator : {"k1", "k2", "k3"}, default "k3"
        The formula. ``"k3"`` has the mean of ``"k1"`` and less spread, and is never negative. It uses at most
        80 for ``-d``, with gradient 0 beyond, so that the exponential stays within float32.

    References
    ----------
    Schulman, "Approximating KL divergence", 2020; ``kl_estimator`` of ``trl.PPOConfig``.

    Examples
    --------
    >>> import fastloss
    >>> [round(fastloss.kl_penalty([-1.0], [-1.5], estimator=k), 4) for k in ("k1", "k2", "k3")]
    [0.5, 0.125, 0.1065]
    """
    return kl_estimate((logps, ref_logps), estimator, mask, reduction, return_grad, out, common)


@documented(
    TOKENS,
    unreduced="the loss of each token",
    outside="if an option is missing or does not apply to `loss_type`, if `beta` has no `ref_logps`, ",
)
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
    importance_sampling_level: Literal["token", "sequence"] = "token",
    max_completion_length: float | None = None,
    num_items: float | None = None,
    sapo_temperature_pos: float = 1.0,
    sapo_temperature_neg: float = 1.05,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Group-relative policy optimisation and its variants.

    ``loss = -min(min(r, delta) * A, c * A) + beta * k3`` with ``r = exp(logps - old_logps)``,
    ``c = min(max(r, 1 - epsilon_low), 1 + epsilon_high)`` and ``A = advantages``

    .. math:: -\min\big(\min(r, \delta) A,\ \mathrm{clip}(r, 1 - \epsilon_l, 1 + \epsilon_h) A\big)
              + \beta k_3, \qquad r = \pi / \pi_{old}

    for each token, with :math:`k_3` of `kl_penalty`. Choose it for advantages that are relative to a group
    of answers to the same prompt: it needs no value function. The gradient of the first term is ``-A * r``
    where the ratio is within the bound that applies, otherwise 0. The types differ in that term and in their
    mean:

    =========  ==========================================================================================
    grpo       mean over the B sequences of the mean over their tokens
    bnpo       mean over all tokens
    dr_grpo    sum divided by ``B * max_completion_length``
    dapo       sum divided by `num_items`
    luspo      mean over the B sequences of the sum over their tokens
    cispo      ``-min(r, epsilon_high) * A * logps`` with `r` as a constant; sum divided by `num_items`
    sapo       ``-4 / t * sigmoid(t * (r - 1)) * A`` with `t` by the sign of `A`; mean of grpo
    =========  ==========================================================================================

    Parameters
    ----------
    logps : array_like with shape (B, T)
        Log-probabilities of the tokens under the policy in training, as `token_log_probs` and
        `linear_token_log_probs` return them; |types| All are computed in float64. The dtype of `logps` is
        that of the results.
    old_logps : array_like with shape (B, T)
        Log-probabilities of the tokens under the policy that generated them.
    advantages : array_like with shape (B,) or (B, T)
        Advantage of each sequence, or of each token.
    ref_logps : array_like with shape (B, T), optional
        Log-probabilities of the tokens under the reference model. Required if `beta` is not 0.
    loss_type : str, default "grpo"
        The formula and its mean: "grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo" or "sapo".
    epsilon_low : float, default 0.2
        Largest distance of the ratio below 1, at least 0. cispo and sapo have no lower bound.
    epsilon_high : float, optional
        Largest distance of the ratio above 1, at least 0, by default `epsilon_low`. For cispo it is the upper
        bound of the ratio itself; sapo has none.
    delta : float, optional
        An upper bound of the ratio that holds for negative advantages, too, greater than 0. By default none.
        It does not apply to cispo and sapo.
    beta : float, default 0.0
        Weight of the divergence from the reference, `kl_penalty` with ``estimator="k3"``; at least 0.
    importance_sampling_level : {"token", "sequence"}, default "token"
        ``"token"`` takes the ratio of each token. ``"sequence"`` takes one ratio for all tokens of a
        sequence, whose logarithm is the mean of theirs (GSPO).
    max_completion_length : float, optional
        Length by which the mean of dr_grpo divides, beside the number of sequences; greater than 0. Required
        for dr_grpo and not allowed for other types.
    num_items : float, optional
        Number of tokens by which the means of dapo and cispo divide, greater than 0: that of the whole batch,
        if this call has only a part of it. By default the number of tokens that count in this call, at
        least 1. Not allowed for other types.
    sapo_temperature_pos, sapo_temperature_neg : float, default 1.0 and 1.05
        The temperature `t` of sapo for advantages above 0, and for all others; greater than 0.
    reduction : {"mean", "sum", "none", "sum_and_count"}, default "mean"
        ``"mean"`` takes the mean of `loss_type`. ``"sum"`` adds the losses of the tokens. ``"none"`` returns
        the loss of each token. ``"sum_and_count"`` returns the sum and what the mean of `loss_type` divides
        by, with the gradient of the sum. For grpo and sapo it is the sum of the means of the sequences, and
        the number of sequences. With `num_items` the count is that.

    See Also
    --------
    ppo_loss : the clipped loss alone.

    References
    ----------
    Shao et al., "DeepSeekMath", 2024; ``trl.GRPOTrainer``, which has these types and names the paper of each.

    Examples
    --------
    >>> import fastloss
    >>> logps, old = [[-1.0, -2.0], [-1.0, -3.0]], [[-1.5, -2.0], [-1.0, -3.0]]
    >>> round(fastloss.grpo_loss(logps, old, [1.0, -1.0], mask=[[1, 1], [1, 0]]), 4)
    -0.05
    """
    checked = group_options(
        loss_type, epsilon_low, epsilon_high, delta, beta, importance_sampling_level, max_completion_length,
        num_items, (sapo_temperature_pos, sapo_temperature_neg),
    )  # fmt: skip
    return group_policy(
        checked, logps, old_logps, advantages, ref_logps, mask, reduction, return_grad, out, common
    )
