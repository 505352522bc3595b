"""Losses of policy optimisation: PPO, values, GRPO and its kin, and the divergence from a reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy.typing as npt

from fastloss._engine.documentation import documented
from fastloss._engine.fragments import TOKENS
from fastloss._engine.options import Common, option
from fastloss._engine.policy import group_options, group_policy, kl_estimate, surrogate, value_error
from fastloss._engine.types import Array, Reduction

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "grpo_loss",
    "kl_penalty",
    "ppo_loss",
    "value_loss",
]


@documented(TOKENS)
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

    ``loss = max(-A * r, -A * clip(r, 1 - clip, 1 + clip))``, ``r = exp(logps - old_logps)``, ``A =
    advantages``

    .. math:: \max\big(-A r,\ -A\,\mathrm{clip}(r, 1 - \epsilon, 1 + \epsilon)\big), \qquad
              r = \pi / \pi_{old}

    for each token, with advantage `A`.

    Parameters
    ----------
    logps : array_like of any shape, usually (B, T)
        Log-probabilities of the tokens, as `token_log_probs` gives them. Its type decides; all are computed
        in float64.
    old_logps : array_like with the shape of `|x|`
        Under the policy that drew the tokens.
    advantages : array_like with the shape of `|x|`
        How much better than expected each turned out.
    clip : float, default 0.2
        How far the ratio may move. At least 0.

    See Also
    --------
    grpo_loss : with other bounds and other means.

    Notes
    -----
    The ratio is held under its bound as a logarithm: it cannot overflow where its bound counts.

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


@documented(TOKENS)
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

    ``loss = 0.5 * max((v - R)**2, (old + clip(v - old, -clip, clip) - R)**2)``, ``R = returns``

    .. math:: \tfrac12 \max\big((v - R)^2,\ (v_{old} + d - R)^2\big), \qquad
              d = \mathrm{clip}(v - v_{old}, -\epsilon, \epsilon)

    Parameters
    ----------
    values : array_like of any shape, usually (B, T)
        What the model predicts. Its type decides; all are computed in float64.
    old_values : array_like with the shape of `|x|`
        What it predicted when the tokens were drawn; not read, and may be None, where `clip` is None.
    returns : array_like with the shape of `|x|`
        What came.
    clip : float or None, default 0.2
        How far a value may move and still gain. At least 0; None for the plain half of the squared error.

    Returns
    -------
    grad : ndarray
        Only with `return_grad`: :math:`v - R` where the first square is the greater or equal, otherwise 0.

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
    r"""Estimate of the divergence of a policy from its reference, from the tokens that it drew.

    ``k1 = d``, ``k2 = 0.5 * d**2``, ``k3 = exp(-d) - 1 + d``, ``d = logps - ref_logps``

    .. math:: k_1 = l, \qquad k_2 = \tfrac12 l^2, \qquad k_3 = e^{-l} - 1 + l, \qquad
              l = \log \pi - \log \pi_{ref}

    Parameters
    ----------
    logps : array_like of any shape, usually (B, T)
        Log-probabilities of the tokens. Its type decides; both are computed in float64.
    ref_logps : array_like with the shape of `|x|`
        Under the reference model.
    estimator : {"k1", "k2", "k3"}, default "k3"
        The third has the mean of the first, less spread, and is never negative. In it :math:`-l` is held
        under 80, without a gradient beyond, as its exponential would be larger than any float32.

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


@documented(TOKENS)
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
    r"""Group-relative policy optimisation, and what came of it.

    ``loss = -min(min(r, delta) * A, clip(r, 1 - epsilon_low, 1 + epsilon_high) * A) + beta * k3``,
    ``r = exp(logps - old_logps)``

    .. math:: -\min\big(\min(r, \delta) A,\ \mathrm{clip}(r, 1 - \epsilon_l, 1 + \epsilon_h) A\big)
              + \beta k_3, \qquad r = \pi / \pi_{old}

    for each token. The types differ in this and in what their mean is:

    =========  ==========================================================================================
    grpo       mean over sequences of the mean over their tokens
    bnpo       mean over all tokens
    dr_grpo    sum over ``B * max_completion_length``
    dapo       sum over `num_items`
    luspo      mean over sequences of the sum over their tokens
    cispo      :math:`-\min(r, \epsilon_h) A \log \pi`, the ratio a constant; sum over `num_items`
    sapo       :math:`-\frac{4}{t} \sigma(t (r - 1)) A`, t by the sign of A; mean as grpo
    =========  ==========================================================================================

    Parameters
    ----------
    logps : array_like with shape (B, T)
        Log-probabilities of the tokens, as `token_log_probs` and `linear_token_log_probs` give them. Its type
        decides; all are computed in float64.
    old_logps : array_like with shape (B, T)
        Under the policy that drew the tokens.
    advantages : array_like with shape (B,) or (B, T)
        Of each sequence, or of each token.
    ref_logps : array_like with shape (B, T), optional
        Under the reference model; needed where `beta` is not 0.
    loss_type : str, default "grpo"
        One of those above.
    epsilon_low, epsilon_high : float, default 0.2 and the same
        How far the ratio may move down and up. For cispo `epsilon_high` itself is its bound, with none
        below; sapo has none. At least 0.
    delta : float, optional
        A bound of the ratio for negative advantages, too; it has no meaning for cispo and sapo. Greater
        than 0.
    beta : float, default 0.0
        The weight of the divergence from the reference, `kl_penalty` with ``estimator="k3"``. At least 0.
    importance_sampling_level : {"token", "sequence"}, default "token"
        Whether :math:`\log r` is each token's or, for all of a sequence's tokens, their mean (GSPO).
    max_completion_length : float, optional
        For dr_grpo, which needs it: what it divides by beside the sequences.
    num_items : float, optional
        For dapo and cispo: the tokens of the whole batch, where this is a part of it. By default those that
        count here, or 1.
    sapo_temperature_pos, sapo_temperature_neg : float, default 1.0 and 1.05
        The `t` of sapo for advantages above 0, and for others. Greater than 0.

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
        loss_type,
        epsilon_low,
        epsilon_high,
        delta,
        beta,
        importance_sampling_level,
        max_completion_length,
        num_items,
        (sapo_temperature_pos, sapo_temperature_neg),
    )
    return group_policy(
        checked, logps, old_logps, advantages, ref_logps, mask, reduction, return_grad, out, common
    )
