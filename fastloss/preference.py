"""Losses over preferred and rejected answers: DPO and its variants, reward models, KTO, ORPO, SimPO, CPO."""

from __future__ import annotations

from typing import Any, Literal, Unpack

import numpy.typing as npt

from fastloss._engine.arguments import flag, number
from fastloss._engine.documentation import documented
from fastloss._engine.fragments import PAIRS
from fastloss._engine.options import Common, CommonOfSeveral, option
from fastloss._engine.parts import choice
from fastloss._engine.preference import (
    PairGradients,
    PreferenceRewards,
    RewardGradients,
    direct_preference,
    dpo_options,
    line_of,
    odds_ratio,
    prospect,
    reward_difference,
    rewards,
    smoothed,
    without_reference,
)
from fastloss._engine.types import Array, Reduction

__all__ = [
    "PairGradients",
    "PreferenceRewards",
    "RewardGradients",
    "cpo_loss",
    "dpo_loss",
    "kto_loss",
    "orpo_loss",
    "preference_rewards",
    "reward_model_loss",
    "simpo_loss",
]


@documented(
    PAIRS,
    gradients=PairGradients,
    unreduced="the loss of each pair, for aot and aot_unpaired in sorted order (that of `grad_output`, too; "
    "gradients are in the order of the arguments)",
    outside="if a reference is missing, if an option does not apply to `loss_type`, ",
)
def dpo_loss(
    policy_chosen_logps: npt.ArrayLike,
    policy_rejected_logps: npt.ArrayLike,
    ref_chosen_logps: npt.ArrayLike | None = None,
    ref_rejected_logps: npt.ArrayLike | None = None,
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    loss_type: str = "sigmoid",
    reference_free: bool = False,
    f_divergence_type: str = "reverse_kl",
    f_alpha_divergence_coef: float = 0.5,
    discopop_tau: float = 0.05,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: tuple[Array | None, Array | None] | None = None,
    **common: Unpack[CommonOfSeveral],
) -> Any:
    r"""Direct preference optimisation, in every form that is a function of four log-probabilities.

    ``loss = -log_sigmoid(beta * (r_chosen - r_rejected))`` with ``r = policy_logps - ref_logps``, without
    `label_smoothing`

    .. math:: -(1 - \epsilon) \log \sigma(\beta D) - \epsilon \log \sigma(-\beta D), \qquad D = r_c - r_r

    for ``"sigmoid"``, with :math:`r = \log \pi - \log \pi_{ref}` of the chosen and of the rejected answer.
    Choose DPO to train on pairs without a reward model. The gradient of ``"sigmoid"`` with respect to
    `policy_chosen_logps` is ``-beta * sigmoid(-beta * D)``, that with respect to `policy_rejected_logps` its
    negative. Pass the gradients to `sequence_log_probs` as its `grad_output` for those of the logits.

    The formulas of all types, with ``D = r_chosen - r_rejected``, ``x = beta * D``, ``a = beta * r_chosen``,
    ``b = beta * r_rejected``, ``e = label_smoothing``, ``s = sigmoid`` and ``ls = log_sigmoid``:

    ================  ==========================================================================
    sigmoid           ``-(1 - e) * ls(x) - e * ls(-x)``
    hinge             ``max(0, 1 - x)``
    ipo               ``(D - 1 / (2 * beta))**2``, of log-probabilities that are averages over tokens
    exo_pair          ``s(x) * (ls(x) - log(1 - e)) + s(-x) * (ls(-x) - log(e))``
    nca_pair          ``-ls(a) - 0.5 * ls(-a) - 0.5 * ls(-b)``
    robust            ``(-(1 - e) * ls(x) + e * ls(-x)) / (1 - 2 * e)``
    bco_pair          ``-ls(a) - ls(-b)``
    sppo_hard         ``(r_chosen - 1 / (2 * beta))**2 + (r_rejected + 1 / (2 * beta))**2``
    aot               sigmoid, where `D` is the sorted ``policy_chosen - policy_rejected`` minus the
                      sorted ``ref_chosen - ref_rejected``
    aot_unpaired      sigmoid, where `D` is the sorted ``r_chosen`` minus the sorted ``r_rejected``
    apo_zero          ``1 - s(a) + s(b)``
    apo_down          ``s(a) + 1 - s(x)``
    discopop          ``-(1 - m) * ls(x) + m * exp(-x)``, with ``m = s(x / discopop_tau)``
    ================  ==========================================================================

    Parameters
    ----------
    policy_chosen_logps, policy_rejected_logps : array_like of any shape, usually (N,)
        Log-probabilities of the chosen and of the rejected answers under the model in training: sums over
        their tokens, as `sequence_log_probs` returns them, or sums of `linear_token_log_probs`; |types| All
        are computed in float64. The dtype of the first one is that of the results.
    ref_chosen_logps, ref_rejected_logps : array_like with the shape of `|x|`, optional
        Log-probabilities of the same answers under the reference model. Required unless `reference_free`.
    beta : float, default 0.1
        Scale of the rewards, greater than 0. A smaller `beta` lets the model move further from its reference.
    label_smoothing : float, default 0.0
        The share of labels, between 0 and 1, that are taken to be wrong. It applies to sigmoid (conservative
        DPO), exo_pair (which needs more than 0 and less than 1), robust (less than 0.5), aot and
        aot_unpaired.
    loss_type : str, default "sigmoid"
        The formula: "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard",
        "aot", "aot_unpaired", "apo_zero", "apo_down" or "discopop".
    reference_free : bool, default False
        Use 0 for the log-probabilities of the reference, whatever is given.
    f_divergence_type : str, default "reverse_kl"
        The divergence between model and reference that is kept small. "forward_kl", "js_divergence" and
        "alpha_divergence" replace each ``r`` in ``D`` by ``-exp(-r)``, ``log_sigmoid(r)`` or
        ``exp(k*r)/k`` with ``k = f_alpha_divergence_coef - 1``. Exponents are at most 80, with gradient 0
        beyond. They apply to sigmoid, hinge, ipo, exo_pair, robust and discopop.
    f_alpha_divergence_coef : float, default 0.5
        The coefficient of the alpha divergence; 1 gives "reverse_kl".
    discopop_tau : float, default 0.05
        The temperature of discopop, greater than 0.

    See Also
    --------
    preference_rewards : rewards, margins and accuracy of the same arguments.
    sequence_log_probs : computes the log-probabilities.

    References
    ----------
    Rafailov et al., "Direct preference optimization", 2023. ``trl.DPOTrainer``, which has these types and
    names the paper of each; it leaves `label_smoothing` of sigmoid unused.

    Examples
    --------
    >>> import fastloss
    >>> loss, grad = fastloss.dpo_loss([-10.0], [-12.0], [-11.0], [-11.0], return_grad=True)
    >>> round(loss, 4), grad.policy_chosen_logps.round(4)
    (0.5981, array([-0.045]))
    """
    checked = dpo_options(
        loss_type, beta, label_smoothing, f_divergence_type, f_alpha_divergence_coef, discopop_tau
    )
    values = (policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps)
    return direct_preference(
        checked, values, flag("reference_free", reference_free), reduction, return_grad, out, common
    )


@documented(PAIRS)
def preference_rewards(
    policy_chosen_logps: npt.ArrayLike,
    policy_rejected_logps: npt.ArrayLike,
    ref_chosen_logps: npt.ArrayLike | None = None,
    ref_rejected_logps: npt.ArrayLike | None = None,
    *,
    beta: float = 0.1,
) -> PreferenceRewards:
    r"""Rewards that a policy implies, their margins, and the accuracy of its preferences.

    ``rewards = beta * (policy_logps - ref_logps)``

    .. math:: \beta (\log \pi - \log \pi_{ref})

    of each answer. These are the numbers to monitor while training with DPO, CPO, ORPO or SimPO.

    Parameters
    ----------
    ref_chosen_logps, ref_rejected_logps : array_like with the shape of `|x|`, optional
        Log-probabilities of the same answers under the reference model. Pass both, or neither for a loss
        without a reference, which has 0 in their place.

    Returns
    -------
    PreferenceRewards
        A named tuple of arrays ``chosen`` and ``rejected`` (the rewards) and ``margins`` (their difference),
        with the dtype of `|x|`, float32 for half types; and of a float ``accuracy``: the share of pairs in
        which the chosen answer has the greater reward, NaN for no pairs.

    Raises
    ------
    ValueError
        If one reference is given without the other, if shapes differ, or if `beta` is not greater than 0.

    References
    ----------
    ``rewards/chosen``, ``rewards/rejected``, ``rewards/margins`` and ``rewards/accuracies`` of TRL.

    Examples
    --------
    >>> import fastloss
    >>> rewards = fastloss.preference_rewards([-10.0, -9.0], [-12.0, -8.0], [-11.0, -9.0], [-11.0, -9.0])
    >>> rewards.margins.round(4), rewards.accuracy
    (array([ 0.2, -0.1]), 0.5)
    """
    values = (policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps)
    return rewards(values, number("beta", beta, above=0.0))


@documented(PAIRS, gradients=RewardGradients)
def reward_model_loss(
    chosen_rewards: npt.ArrayLike,
    rejected_rewards: npt.ArrayLike,
    *,
    margin: npt.ArrayLike | None = None,
    center_coefficient: float = 0.0,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: tuple[Array | None, Array | None] | None = None,
    **common: Unpack[CommonOfSeveral],
) -> Any:
    r"""Bradley-Terry loss of a reward model.

    ``loss = -log_sigmoid(c - r - margin) + center_coefficient * (c + r)**2`` with ``c = chosen_rewards`` and
    ``r = rejected_rewards``

    .. math:: -\log \sigma(c - r - m) + \lambda (c + r)^2

    for the rewards `c` of the chosen and `r` of the rejected answer, margin `m` and center coefficient
    :math:`\lambda`. Choose it to train a reward model on pairs. Without centering the gradient with respect
    to `chosen_rewards` is ``-sigmoid(r + margin - c)``, that with respect to `rejected_rewards` its negative.

    Parameters
    ----------
    chosen_rewards, rejected_rewards : array_like of any shape, usually (N,)
        Rewards of the chosen and of the rejected answers, as the model predicts them; |types| Both are
        computed in float64. The dtype of the first one is that of the results.
    margin : scalar or array_like with the shape of `|x|`, optional
        The lead in reward that the chosen answer should have, by default 0.
    center_coefficient : float, default 0.0
        Weight of the term that keeps the rewards near 0, at least 0.

    References
    ----------
    Ouyang et al., "Training language models to follow instructions with human feedback", 2022;
    ``trl.RewardTrainer``, for margin and centering.

    Examples
    --------
    >>> import fastloss
    >>> round(fastloss.reward_model_loss([1.0, 2.0], [0.0, 3.0]), 4)
    0.8133
    """
    pull = number("center_coefficient", center_coefficient, low=0.0)
    return reward_difference(
        (chosen_rewards, rejected_rewards), margin, pull, reduction, return_grad, out, common
    )


@documented(
    PAIRS,
    mean="the number of answers, whatever their weights",
    unreduced="the loss of each answer",
    of_nothing="The mean of no answers is NaN.",
    outside="if `kl` is given for apo_zero_unpaired, if `labels` holds other numbers than 0 and 1, ",
    gradient_or_gradients="gradient",
)
def kto_loss(
    policy_logps: npt.ArrayLike,
    ref_logps: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    kl: float = 0.0,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
    loss_type: Literal["kto", "apo_zero_unpaired"] = "kto",
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Kahneman-Tversky optimisation, of single answers that are labelled desirable or undesirable.

    ``loss = weight * (1 - sigmoid(z))`` with ``z = s * beta * (policy_logps - ref_logps - kl)`` and ``s = 1``
    for a desirable answer, ``s = -1`` for an undesirable one

    .. math:: w_d (1 - \sigma(\beta (r - k))) \ \text{or}\ w_u (1 - \sigma(\beta (k - r)))

    with :math:`r = \log \pi - \log \pi_{ref}` of a desirable or an undesirable answer, and :math:`k` the
    divergence of policy and reference, at least 0. Choose it for answers that do not come in pairs. The
    gradient is ``-weight * s * beta * sigmoid(z) * sigmoid(-z)``.

    Parameters
    ----------
    policy_logps : array_like of any shape, usually (N,)
        Log-probabilities of the answers under the model in training; |types| All are computed in float64. The
        dtype of `policy_logps` is that of the results.
    ref_logps : array_like with the shape of `|x|`
        Log-probabilities of the same answers under the reference model.
    labels : array_like of bool, or of 0 and 1, with the shape of `|x|`
        True or 1 for a desirable answer, False or 0 for an undesirable one.
    kl : float, default 0.0
        An estimate of the divergence, usually the mean log-ratio of mismatched answers. A negative one counts
        as 0. It is a constant: there is no gradient with respect to it.
    desirable_weight, undesirable_weight : float, default 1.0
        Weights of the desirable and of the undesirable answers, at least 0.
    loss_type : {"kto", "apo_zero_unpaired"}, default "kto"
        The formula; "apo_zero_unpaired" is that of "kto" without `kl`.

    References
    ----------
    Ethayarajh et al., "KTO: model alignment as prospect theoretic optimization", 2024; ``trl.KTOTrainer``.

    Examples
    --------
    >>> import fastloss
    >>> round(fastloss.kto_loss([-10.0, -9.0], [-11.0, -9.0], [True, False]), 4)
    0.4875
    """
    choice("loss_type", loss_type, ("kto", "apo_zero_unpaired"))
    kl = number("kl", kl)
    if kl and loss_type == "apo_zero_unpaired":
        raise ValueError(f"kl={kl:g} has no meaning for loss_type='apo_zero_unpaired'")
    weights = (
        number("desirable_weight", desirable_weight, low=0.0),
        number("undesirable_weight", undesirable_weight, low=0.0),
    )
    return prospect(
        policy_logps, ref_logps, labels, number("beta", beta, above=0.0), kl, weights, reduction, return_grad,
        out, common,
    )  # fmt: skip


@documented(
    PAIRS,
    gradients=PairGradients,
    of_nothing=(
        "The mean of no pairs is NaN. The loss is 0 where the chosen answer is certain (with gradient 0 if "
        "the rejected one is, too), and infinite where only the rejected one is certain."
    ),
    outside="if a log-probability is greater than 0 (the message names its position), ",
)
def orpo_loss(
    policy_chosen_logps: npt.ArrayLike,
    policy_rejected_logps: npt.ArrayLike,
    *,
    beta: float = 0.1,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: tuple[Array | None, Array | None] | None = None,
    **common: Unpack[CommonOfSeveral],
) -> Any:
    r"""The odds-ratio term of ORPO.

    ``loss = -beta * log_sigmoid(log_odds(chosen) - log_odds(rejected))`` with
    ``log_odds(x) = x - log(1 - exp(x))`` of the log-probabilities

    .. math:: -\beta \log \sigma\!\left(\log \frac{p_c}{1 - p_c} - \log \frac{p_r}{1 - p_r}\right)

    with :math:`p = e^{\log \pi}` of averages over tokens. Choose it to train without a reference model. The
    other term of the paper's loss is the likelihood of the chosen answer: a `cross_entropy`, whose gradient
    is added with ``accumulate``. The gradients are ``-beta * sigmoid(-o) / (1 - p_chosen)`` and
    ``beta * sigmoid(-o) / (1 - p_rejected)``, where ``o`` is the difference of the log-odds.

    Parameters
    ----------
    policy_chosen_logps, policy_rejected_logps : array_like of any shape, usually (N,)
        Log-probabilities of the chosen and of the rejected answers under the model in training, at most 0:
        averages over their tokens, as ``sequence_log_probs(..., average=True)`` returns them; |types| Both
        are computed in float64. The dtype of the first one is that of the results.
    beta : float, default 0.1
        Weight of the term, greater than 0.

    References
    ----------
    Hong et al., "ORPO: monolithic preference optimization without reference model", 2024;
    ``trl.ORPOTrainer``.

    Examples
    --------
    >>> import fastloss
    >>> round(fastloss.orpo_loss([-0.5], [-1.0]), 4)
    0.032
    """
    return odds_ratio(
        (policy_chosen_logps, policy_rejected_logps), number("beta", beta, above=0.0), reduction, return_grad,
        out, common,
    )  # fmt: skip


@documented(PAIRS, gradients=PairGradients)
def simpo_loss(
    policy_chosen_logps: npt.ArrayLike,
    policy_rejected_logps: npt.ArrayLike,
    *,
    beta: float = 2.0,
    gamma: float = 1.0,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: tuple[Array | None, Array | None] | None = None,
    **common: Unpack[CommonOfSeveral],
) -> Any:
    r"""Simple preference optimisation, without a reference model.

    ``loss = -log_sigmoid(z)`` with ``z = beta * (policy_chosen_logps - policy_rejected_logps) - gamma``,
    without `label_smoothing`

    .. math:: -(1 - \epsilon) \log \sigma(z) - \epsilon \log \sigma(-z), \qquad
              z = \beta (\log \pi_c - \log \pi_r) - \gamma

    of averages over tokens. Choose it to train without a reference model where long answers should have no
    advantage. Without smoothing the gradient with respect to `policy_chosen_logps` is
    ``-beta * sigmoid(-z)``, that with respect to `policy_rejected_logps` its negative.

    Parameters
    ----------
    policy_chosen_logps, policy_rejected_logps : array_like of any shape, usually (N,)
        Log-probabilities of the chosen and of the rejected answers under the model in training: averages over
        their tokens, as ``sequence_log_probs(..., average=True)`` returns them; |types| Both are computed in
        float64. The dtype of the first one is that of the results.
    beta : float, default 2.0
        Scale of the rewards, greater than 0.
    gamma : float, default 1.0
        The lead in reward that the chosen answer should have.

    References
    ----------
    Meng et al., "SimPO: simple preference optimization with a reference-free reward", 2024;
    ``trl.CPOTrainer`` with ``loss_type="simpo"``.

    Examples
    --------
    >>> import fastloss
    >>> round(fastloss.simpo_loss([-0.5], [-1.5]), 4)
    0.3133
    """
    smoothing = option("label_smoothing", label_smoothing)
    line = line_of("sigmoid", number("beta", beta, above=0.0), smoothing, gamma=number("gamma", gamma))
    return without_reference(
        line, (policy_chosen_logps, policy_rejected_logps), reduction, return_grad, out, common
    )


@documented(
    PAIRS,
    gradients=PairGradients,
    outside="if `label_smoothing` is given for another type than sigmoid, ",
)
def cpo_loss(
    policy_chosen_logps: npt.ArrayLike,
    policy_rejected_logps: npt.ArrayLike,
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    loss_type: Literal["sigmoid", "hinge", "ipo"] = "sigmoid",
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: tuple[Array | None, Array | None] | None = None,
    **common: Unpack[CommonOfSeveral],
) -> Any:
    r"""The preference term of contrastive preference optimisation.

    ``loss = -log_sigmoid(beta * D)`` with ``D = policy_chosen_logps - policy_rejected_logps``, without
    `label_smoothing`

    .. math:: -(1 - \epsilon) \log \sigma(\beta D) - \epsilon \log \sigma(-\beta D), \qquad
              D = \log \pi_c - \log \pi_r

    for "sigmoid"; ``max(0, 1 - beta * D)`` for "hinge", ``(D - 1 / (2 * beta))**2`` for "ipo". Choose it to
    train without a reference model. The other term of the paper's loss is the likelihood of the chosen
    answer: a `cross_entropy`, whose gradient is added with ``accumulate``. The gradient of "sigmoid" with
    respect to `policy_chosen_logps` is ``-beta * sigmoid(-beta * D)``, the other one its negative.

    Parameters
    ----------
    label_smoothing : float, default 0.0
        The share of labels, between 0 and 1, that are taken to be wrong. It applies to sigmoid alone.
    loss_type : {"sigmoid", "hinge", "ipo"}, default "sigmoid"
        The formula, one of those above.

    References
    ----------
    Xu et al., "Contrastive preference optimization", 2024; ``trl.CPOTrainer``.

    Examples
    --------
    >>> import fastloss
    >>> round(fastloss.cpo_loss([-10.0], [-12.0]), 4)
    0.5981
    """
    choice("loss_type", loss_type, ("sigmoid", "hinge", "ipo"))
    smoothing = smoothed(loss_type, label_smoothing, ("sigmoid",))
    line = line_of(loss_type, number("beta", beta, above=0.0), smoothing)
    return without_reference(
        line, (policy_chosen_logps, policy_rejected_logps), reduction, return_grad, out, common
    )
