"""Losses over pairs of better and worse answers: DPO and its kin, reward models, KTO, ORPO, SimPO, CPO."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from fastloss import _kernels
from fastloss._engine import arguments
from fastloss._engine.parts import Common, Given, choice, common, given, part, run
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

_PAIR = ("policy_chosen_logps", "policy_rejected_logps")
_REFERENCES = ("ref_chosen_logps", "ref_rejected_logps")
# Which losses are functions of the difference of the scores, which of the two of them, and which sort.
_OF_DIFFERENCE = ("sigmoid", "hinge", "ipo", "exo_pair", "robust", "discopop")
_OF_BOTH = ("nca_pair", "bco_pair", "sppo_hard", "apo_zero", "apo_down")
_OF_SORTED = ("aot", "aot_unpaired")
_SMOOTHED = ("sigmoid", "exo_pair", "robust", *_OF_SORTED)
_F_DIVERGENCES = ("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence")
# Exponents of scores end here, as in TRL.
_LARGEST_EXPONENT = 80.0

# A line of losses.def, with what a whole call has in common.
_Run = Callable[..., Any]


class PairGradients(NamedTuple):
    """The gradients of losses of pairs; None where one was not wanted."""

    policy_chosen_logps: Array | None
    policy_rejected_logps: Array | None


class RewardGradients(NamedTuple):
    """The gradients of `reward_model_loss`; None where one was not wanted."""

    chosen_rewards: Array | None
    rejected_rewards: Array | None


class PreferenceRewards(NamedTuple):
    """What a policy's answers are worth to it, relative to the reference; see `preference_rewards`."""

    chosen: Array
    rejected: Array
    margins: Array
    accuracy: float


def _parts(call: Common) -> _Run:
    return partial(part, derivatives=int(call.return_grad), num_threads=call.num_threads)


def _smoothed(loss_type: str, label_smoothing: Any, allowed: tuple[str, ...]) -> float:
    """Check that label smoothing has a meaning for a type of loss."""
    smoothing = arguments.number("label_smoothing", label_smoothing, low=0.0, high=1.0)
    if smoothing and loss_type not in allowed:
        raise ValueError(
            f"label_smoothing={smoothing:g} has no meaning for loss_type={loss_type!r}; it has for "
            + ", ".join(map(repr, allowed))
        )
    if loss_type == "robust" and smoothing >= 0.5:
        raise ValueError(f"label_smoothing must be less than 0.5 for loss_type='robust', got {smoothing:g}")
    if loss_type == "exo_pair" and not 0.0 < smoothing < 1.0:
        raise ValueError(
            f"label_smoothing must be greater than 0 and less than 1 for loss_type='exo_pair', where its "
            f"logarithm is taken; got {smoothing:g}"
        )
    return smoothing


class _Line(NamedTuple):
    """A loss of the difference D of two scores: a line of losses.def, of scale * D - offset."""

    kernel: str
    scale: float
    offset: float = 0.0
    target: float = 0.0
    parameters: tuple[float, float] = (0.0, 0.0)

    def run(self, parts: _Run, d: Array) -> tuple[Array, Any]:
        """The losses, and their derivatives (None: not wanted)."""
        found = parts(self.kernel, self.scale * d - self.offset, self.target, parameters=self.parameters)
        return found.value, None if found.first is None else self.scale * found.first

    def plain(self, values: tuple[Any, ...], reduction: Any, return_grad: Any) -> Any:
        """The result of a call without further options, where its arguments are plain arrays; or None."""
        found = _kernels.plain_pairs(
            _kernels.ELEMENTWISE[self.kernel][0], *self.parameters, self.target, self.scale, self.offset,
            values, reduction, return_grad,
        )  # fmt: skip
        return (found[0], PairGradients(*found[1:])) if isinstance(found, tuple) else found


def _line(loss_type: str, beta: float, e: float, tau: float = 1.0, gamma: float = 0.0) -> _Line:
    """The line of a type of loss; e is its smoothing."""
    if loss_type == "ipo":
        return _Line("mse", 1.0, target=0.5 / beta)
    if loss_type == "hinge":
        return _Line("hinge", beta, target=1.0, parameters=(1.0, 0.0))
    if loss_type == "exo_pair":
        return _Line("exo", beta, parameters=(math.log1p(-e), math.log(e)))
    if loss_type == "robust":
        return _Line("logistic", beta, parameters=((1.0 - e) / (1.0 - 2.0 * e), -e / (1.0 - 2.0 * e)))
    if loss_type == "discopop":
        return _Line("discopop", beta, parameters=(1.0 / tau, 0.0))
    return _Line("logistic", beta, gamma, parameters=(1.0 - e, e))


def _of_both(parts: _Run, loss_type: str, rc: Array, rr: Array, beta: float) -> tuple[Array, Any, Any]:
    """A loss of two log-ratios and its derivatives (None: not wanted)."""
    if loss_type == "sppo_hard":
        c, r = parts("mse", rc, 0.5 / beta), parts("mse", rr, -0.5 / beta)
        return c.value + r.value, c.first, r.first
    x, y = beta * rc, beta * rr
    if loss_type == "nca_pair":
        c, r = parts("logistic", x, parameters=(1.0, 0.5)), parts("logistic", y, parameters=(0.0, 0.5))
    elif loss_type == "bco_pair":
        c, r = parts("logistic", x, parameters=(1.0, 0.0)), parts("logistic", y, parameters=(0.0, 1.0))
    elif loss_type == "apo_zero":
        c, r = parts("sigmoid", -x), parts("sigmoid", y)
    else:
        c, r = parts("sigmoid", x), parts("sigmoid", beta * (rr - rc))
    value = c.value + r.value
    if c.first is None:
        return value, None, None
    if loss_type == "apo_zero":
        return value, -beta * c.first, beta * r.first
    if loss_type == "apo_down":
        return value, beta * (c.first - r.first), beta * r.first
    return value, beta * c.first, beta * r.first


def _of_sorted(
    parts: _Run, loss_type: str, logps: list[Array], beta: float, smoothing: float, factor: Any
) -> tuple[Array, tuple[Any, ...]]:
    """The losses that compare sorted samples; gradients go back to where each came from."""
    shape = logps[0].shape
    pc, pr, fc, fr = (array.reshape(-1) for array in logps)
    first, second = (pc - pr, fc - fr) if loss_type == "aot" else (pc - fc, pr - fr)
    by_first, by_second = np.argsort(first, kind="stable"), np.argsort(second, kind="stable")
    d = first[by_first] - second[by_second]
    line = parts("logistic", beta * d, parameters=(1.0 - smoothing, smoothing))
    if factor is None:
        return line.value.reshape(shape), ()
    slope = beta * line.first * (factor.reshape(-1) if isinstance(factor, np.ndarray) else factor)
    chosen, rejected = np.empty_like(d), np.empty_like(d)
    chosen[by_first] = slope
    rejected[by_first if loss_type == "aot" else by_second] = -slope
    return line.value.reshape(shape), (chosen.reshape(shape), rejected.reshape(shape))


def _score(parts: _Run, f_divergence_type: str, r: Array, alpha: float) -> tuple[Array, Any]:
    """A log-ratio as an f-divergence scores it, and the derivative; constants, which cancel, are left out."""
    if f_divergence_type == "js_divergence":
        line = parts("logistic", r, parameters=(1.0, 0.0))
        return -line.value, None if line.first is None else -line.first
    k = -1.0 if f_divergence_type == "forward_kl" else alpha - 1.0
    if f_divergence_type == "reverse_kl" or abs(k) < 1e-6:
        return r, 1.0
    exponential = np.exp(np.minimum(k * r, _LARGEST_EXPONENT))
    return exponential / k, np.where(k * r > _LARGEST_EXPONENT, 0.0, exponential)


class _DPOOptions(NamedTuple):
    """Checked options of `dpo_loss`; `line` where it is a loss of a difference."""

    beta: float
    smoothing: float
    alpha: float
    line: _Line | None


@lru_cache(maxsize=64, typed=True)
def _dpo_options(
    loss_type: Any, beta: Any, label_smoothing: Any, f_divergence_type: Any, f_alpha: Any, discopop_tau: Any
) -> _DPOOptions:
    """Check the options, once for all calls that have them: it takes longer than the loss of 1000 pairs."""
    choice("loss_type", loss_type, (*_OF_DIFFERENCE, *_OF_BOTH, *_OF_SORTED))
    choice("f_divergence_type", f_divergence_type, _F_DIVERGENCES)
    beta = arguments.number("beta", beta, above=0.0)
    smoothing = _smoothed(loss_type, label_smoothing, _SMOOTHED)
    alpha = arguments.number("f_alpha_divergence_coef", f_alpha)
    tau = arguments.number("discopop_tau", discopop_tau, above=0.0)
    if loss_type in _OF_DIFFERENCE:
        return _DPOOptions(beta, smoothing, alpha, _line(loss_type, beta, smoothing, tau))
    if f_divergence_type != "reverse_kl":
        raise ValueError(
            f"f_divergence_type={f_divergence_type!r} has no meaning for loss_type={loss_type!r}; it has for "
            + ", ".join(map(repr, _OF_DIFFERENCE))
        )
    return _DPOOptions(beta, smoothing, alpha, None)


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
    grad_output: npt.ArrayLike | None = None,
    out: tuple[Array | None, Array | None] | None = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""Direct preference optimisation, in every form that is a function of four log-probabilities.

    .. math:: -(1 - \epsilon) \log \sigma(\beta D) - \epsilon \log \sigma(-\beta D), \qquad D = r_c - r_r

    for ``"sigmoid"``, with :math:`r = \log \pi - \log \pi_{ref}` of the chosen and of the rejected answer.
    The other types, with :math:`s = \sigma`:

    ================  ==========================================================================
    hinge             :math:`\max(0, 1 - \beta D)`
    ipo               :math:`(D - 1 / 2\beta)^2`, of log-probabilities that are averages over tokens
    exo_pair          :math:`s(\beta D) (\log s(\beta D) - \log(1 - \epsilon)) + s(-\beta D)
                      (\log s(-\beta D) - \log \epsilon)`
    nca_pair          :math:`-\log s(\beta r_c) - \frac12 \log s(-\beta r_c) - \frac12 \log s(-\beta r_r)`
    robust            :math:`(-(1 - \epsilon) \log s(\beta D) + \epsilon \log s(-\beta D)) / (1 - 2\epsilon)`
    bco_pair          :math:`-\log s(\beta r_c) - \log s(-\beta r_r)`
    sppo_hard         :math:`(r_c - 1 / 2\beta)^2 + (r_r + 1 / 2\beta)^2`
    aot               as sigmoid, D the difference of the sorted :math:`\log\pi_c - \log\pi_r` of policy and
                      reference
    aot_unpaired      as sigmoid, D the difference of the sorted :math:`r_c` and the sorted :math:`r_r`
    apo_zero          :math:`1 - s(\beta r_c) + s(\beta r_r)`
    apo_down          :math:`s(\beta r_c) + 1 - s(\beta D)`
    discopop          :math:`-(1 - m) \log s(\beta D) + m e^{-\beta D},\ m = s(\beta D / \tau)`
    ================  ==========================================================================

    Parameters
    ----------
    policy_chosen_logps, policy_rejected_logps : array_like, any shape, usually (N,)
        Log-probabilities of the answers under the model in training: sums over their tokens, as
        `sequence_log_probs` and `linear_token_log_probs` give them. The first one's type decides; all are
        computed in float64.
    ref_chosen_logps, ref_rejected_logps : array_like, the same shape
        Under the reference model. Not needed with `reference_free`.
    beta : float, default 0.1
        How far the model may go from its reference: less for more. Greater than 0.
    label_smoothing : float, default 0.0
        The share of labels taken to be wrong. For sigmoid (conservative DPO), exo_pair (greater than 0),
        robust (less than 0.5), aot and aot_unpaired.
    loss_type : str, default "sigmoid"
        One of those above.
    reference_free : bool, default False
        Take the reference's log-probabilities for 0, whatever is given.
    f_divergence_type : str, default "reverse_kl"
        What is held small between model and reference: "forward_kl", "js_divergence" and "alpha_divergence"
        replace :math:`r` in :math:`D` by :math:`-e^{-r}`, :math:`\log s(r)` or
        :math:`e^{(a - 1) r} / (a - 1)`, with exponents of at most 80. For the types sigmoid, hinge, ipo,
        exo_pair, robust and discopop.
    f_alpha_divergence_coef : float, default 0.5
        The :math:`a` of the alpha divergence.
    discopop_tau : float, default 0.05
        The :math:`\tau` of discopop. Greater than 0.
    reduction : {"mean", "sum", "none"}, default "mean"
        ``"mean"`` divides by the number of pairs. For aot and aot_unpaired ``"none"`` is in sorted order.
    return_grad : bool, default False
        Also return the gradients by the policy's log-probabilities. They go on to the logits as the
        `grad_output` of `sequence_log_probs`.
    grad_output : scalar, or array_like of the loss's shape, optional
        The upstream gradient: multiplies the gradients, not the loss.
    out : tuple of two, optional
        Where the gradients are written; None for one that is not wanted.
    accumulate : bool or tuple of two bools, default False
        Add the gradients to `out`: both of them, or those for which the tuple says so.
    num_threads : int, optional
        For this call; the package setting otherwise. Results do not depend on it.

    Returns
    -------
    loss : float, or ndarray of the arguments' shape
        A Python float for ``"mean"`` and ``"sum"``. The mean of no pair is NaN.
    grad : PairGradients
        Only with `return_grad`: a named tuple ``(policy_chosen_logps, policy_rejected_logps)``.

    Raises
    ------
    TypeError
        If an argument is of a type that cannot be used.
    ValueError
        If a reference is missing, shapes differ, an option is out of its range or has no meaning for this
        type of loss, or a buffer cannot be used.

    See Also
    --------
    preference_rewards : rewards, margins and accuracy of the same arguments.
    sequence_log_probs : where log-probabilities come from.

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
    given_options = (
        loss_type, beta, label_smoothing, f_divergence_type, f_alpha_divergence_coef, discopop_tau
    )  # fmt: skip
    options = None
    with suppress(TypeError):  # of an option, or because one cannot be kept
        options = _dpo_options(*given_options)
    options = options or _dpo_options.__wrapped__(*given_options)
    line = options.line
    is_free = arguments.flag("reference_free", reference_free)
    values = (policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps)
    is_plain = grad_output is None and out is None and num_threads is None and accumulate is False
    if is_plain and line is not None and f_divergence_type == "reverse_kl":
        plain = line.plain(values[:2] if is_free else values, reduction, return_grad)
        if plain is not None:
            return plain
    read = _with_reference(values, is_free, "reference_free=True")
    logps = read.numbers
    call = common(
        read, _PAIR, reduction=reduction, return_grad=return_grad, grad_output=grad_output,
        out=out, accumulate=accumulate, num_threads=num_threads,
    )  # fmt: skip
    parts, alpha = _parts(call), options.alpha

    def formula(factor: Any) -> tuple[Array, tuple[Any, ...]]:
        pc, pr, fc, fr = logps
        if loss_type in _OF_SORTED:
            return _of_sorted(parts, loss_type, logps, options.beta, options.smoothing, factor)
        rc, rr = pc - fc, pr - fr
        if line is None:
            value, by_c, by_r = _of_both(parts, loss_type, rc, rr, options.beta)
            return value, () if factor is None else (by_c * factor, by_r * factor)
        if f_divergence_type == "reverse_kl":
            value, slope = line.run(parts, rc - rr)
            return value, () if factor is None else _opposite(slope * factor)
        (sc, by_c), (sr, by_r) = (_score(parts, f_divergence_type, r, alpha) for r in (rc, rr))
        value, slope = line.run(parts, sc - sr)
        return value, () if factor is None else (slope * by_c * factor, -slope * by_r * factor)

    return run(read.arrays[0], call, formula, gradients=PairGradients)


def _opposite(slope: Array) -> tuple[Array, Array]:
    return slope, -slope


def _with_reference(values: tuple[Any, ...], is_free: bool, otherwise: str) -> Given:
    """The four arrays; without a reference its own are 0."""
    if is_free:
        read = given(_PAIR, values[:2])
        read.numbers.extend([np.zeros(read.arrays[0].shape)] * 2)
        return read
    for name, value in zip(_REFERENCES, values[2:], strict=True):
        if value is None:
            raise ValueError(
                f"{name} is missing: pass ref_chosen_logps and ref_rejected_logps, or {otherwise}"
            )
    return given((*_PAIR, *_REFERENCES), values)


def preference_rewards(
    policy_chosen_logps: npt.ArrayLike,
    policy_rejected_logps: npt.ArrayLike,
    ref_chosen_logps: npt.ArrayLike | None = None,
    ref_rejected_logps: npt.ArrayLike | None = None,
    *,
    beta: float = 0.1,
) -> PreferenceRewards:
    r"""Rewards that a policy implies, their margins, and how often it agrees with the preference.

    .. math:: \beta (\log \pi - \log \pi_{ref})

    What a run of DPO, CPO, ORPO or SimPO is watched by.

    Parameters
    ----------
    policy_chosen_logps, policy_rejected_logps : array_like, any shape, usually (N,)
        Log-probabilities under the model in training.
    ref_chosen_logps, ref_rejected_logps : array_like, the same shape, optional
        Under the reference model; 0 for losses without one.
    beta : float, default 0.1
        The factor. Greater than 0.

    Returns
    -------
    PreferenceRewards
        A named tuple: ``chosen`` and ``rejected``, the rewards; ``margins``, their difference; ``accuracy``,
        the share of pairs with the chosen one's reward greater (a float, NaN of no pair).

    Raises
    ------
    ValueError
        If one reference is given without the other, shapes differ, or `beta` is not greater than 0.

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
    beta = arguments.number("beta", beta, above=0.0)
    values = (policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps)
    is_free = ref_chosen_logps is None and ref_rejected_logps is None
    read = _with_reference(values, is_free, "neither of them")
    logps = read.numbers
    with np.errstate(all="ignore"):
        chosen, rejected = beta * (logps[0] - logps[2]), beta * (logps[1] - logps[3])
        margins = chosen - rejected
        accuracy = float(np.mean(chosen > rejected)) if chosen.size else math.nan
        chosen, rejected, margins = (
            arguments.as_loss(np.asarray(a), read.arrays[0]) for a in (chosen, rejected, margins)
        )
        return PreferenceRewards(chosen, rejected, margins, accuracy)


def reward_model_loss(
    chosen_rewards: npt.ArrayLike,
    rejected_rewards: npt.ArrayLike,
    *,
    margin: npt.ArrayLike | None = None,
    center_coefficient: float = 0.0,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
    out: tuple[Array | None, Array | None] | None = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""Bradley-Terry loss of a reward model.

    .. math:: -\log \sigma(c - r - m) + \lambda (c + r)^2

    for the rewards `c` of the chosen and `r` of the rejected answer.

    Parameters
    ----------
    chosen_rewards, rejected_rewards : array_like, any shape, usually (N,)
        What the model gives. The first one's type decides; both are computed in float64.
    margin : scalar or array_like, the same shape, optional
        By how much the chosen answer should be ahead.
    center_coefficient : float, default 0.0
        The :math:`\lambda` that keeps rewards near 0. At least 0.
    reduction : {"mean", "sum", "none"}, default "mean"
        ``"mean"`` divides by the number of pairs.
    return_grad, grad_output, out, accumulate, num_threads
        As in `dpo_loss`.

    Returns
    -------
    loss : float, or ndarray of the arguments' shape
        As that of `dpo_loss`.
    grad : RewardGradients
        Only with `return_grad`: a named tuple ``(chosen_rewards, rejected_rewards)``.

    Raises
    ------
    TypeError, ValueError
        As `dpo_loss`.

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
    names = ("chosen_rewards", "rejected_rewards")
    pull = arguments.number("center_coefficient", center_coefficient, low=0.0)
    read = given(names, (chosen_rewards, rejected_rewards))
    c, r = read.numbers
    if margin is not None and np.ndim(margin) == 0:
        margin = arguments.number("margin", margin.item() if isinstance(margin, np.ndarray) else margin)
    margin = arguments.given("margin", margin)
    margins = arguments.per_row("margin", margin, c.shape)
    call = common(
        read, names, others=(margin,), reduction=reduction, return_grad=return_grad,
        grad_output=grad_output, out=out, accumulate=accumulate, num_threads=num_threads,
    )  # fmt: skip
    parts = _parts(call)

    def formula(factor: Any) -> tuple[Array, tuple[Any, ...]]:
        z = np.asarray(c - r) if margins is None else np.asarray(c - r - margins)
        line, total = parts("logistic", z, parameters=(1.0, 0.0)), c + r
        value = line.value + pull * total * total if pull else line.value
        if factor is None:
            return value, ()
        toward = 2.0 * pull * total if pull else 0.0
        return value, ((line.first + toward) * factor, (toward - line.first) * factor)

    return run(read.arrays[0], call, formula, gradients=RewardGradients)


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
    grad_output: npt.ArrayLike | None = None,
    out: Array | None = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""Kahneman-Tversky optimisation: answers that are good or bad, not pairs.

    .. math:: w_d (1 - \sigma(\beta (r - k))) \ \text{or}\ w_u (1 - \sigma(\beta (k - r)))

    with :math:`r = \log \pi - \log \pi_{ref}` of a desirable or an undesirable answer, and :math:`k` the
    divergence of policy and reference, at least 0.

    Parameters
    ----------
    policy_logps : array_like, any shape, usually (N,)
        Log-probabilities under the model in training. Its type decides; all are computed in float64.
    ref_logps : array_like, the same shape
        Under the reference model.
    labels : array_like of bool, or of 0 and 1, the same shape
        Which answers are desirable.
    kl : float, default 0.0
        An estimate of the divergence, usually the mean log-ratio of mismatched answers; 0 where it is
        negative. A constant: there is no gradient by it.
    beta : float, default 0.1
        As in `dpo_loss`.
    desirable_weight, undesirable_weight : float, default 1.0
        Weights of the two kinds. At least 0.
    loss_type : {"kto", "apo_zero_unpaired"}, default "kto"
        The second has no `kl`.
    reduction : {"mean", "sum", "none"}, default "mean"
        ``"mean"`` divides by the number of answers, whatever their weights.
    return_grad, grad_output, accumulate, num_threads
        As in `dpo_loss`.
    out : ndarray, optional
        Where the gradient is written.

    Returns
    -------
    loss : float, or ndarray of the arguments' shape
        As that of `dpo_loss`.
    grad : ndarray
        Only with `return_grad`: the gradient by `policy_logps`.

    Raises
    ------
    TypeError, ValueError
        As `dpo_loss`; also for a `kl` that apo_zero_unpaired would not use.

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
    kl = arguments.number("kl", kl)
    if kl and loss_type == "apo_zero_unpaired":
        raise ValueError(f"kl={kl:g} has no meaning for loss_type='apo_zero_unpaired'")
    beta = arguments.number("beta", beta, above=0.0)
    weights = (
        arguments.number("undesirable_weight", undesirable_weight, low=0.0),
        arguments.number("desirable_weight", desirable_weight, low=0.0),
    )
    read = given(("policy_logps", "ref_logps"), (policy_logps, ref_logps))
    policy, reference = read.numbers
    labels = arguments.as_array("labels", labels)
    is_good = arguments.mask("labels", labels, policy.shape)
    call = common(
        read, ("policy_logps",), others=(labels,), reduction=reduction, return_grad=return_grad,
        grad_output=grad_output, out=out, accumulate=accumulate, num_threads=num_threads,
    )  # fmt: skip
    parts = _parts(call)

    def formula(factor: Any) -> tuple[Array, tuple[Any, ...]]:
        sign = np.where(is_good, -beta, beta)
        line = parts("sigmoid", sign * (policy - reference - max(kl, 0.0)))
        weight = np.where(is_good, *weights[::-1])
        return weight * line.value, () if factor is None else (weight * sign * line.first * factor,)

    return run(read.arrays[0], call, formula)


def orpo_loss(
    policy_chosen_logps: npt.ArrayLike,
    policy_rejected_logps: npt.ArrayLike,
    *,
    beta: float = 0.1,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
    out: tuple[Array | None, Array | None] | None = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""The odds-ratio term of ORPO.

    .. math:: -\beta \log \sigma\!\left(\log \frac{p_c}{1 - p_c} - \log \frac{p_r}{1 - p_r}\right)

    with :math:`p = e^{\log \pi}` of averages over tokens. The likelihood of the chosen answer, the other term
    of the paper's loss, is a `cross_entropy` whose gradient is added with ``accumulate``.

    Parameters
    ----------
    policy_chosen_logps, policy_rejected_logps : array_like, any shape, usually (N,)
        Averages over tokens of their log-probabilities (``sequence_log_probs(..., average=True)``): at most
        0. The first one's type decides; both are computed in float64.
    beta : float, default 0.1
        The weight of the term. Greater than 0.
    reduction : {"mean", "sum", "none"}, default "mean"
        ``"mean"`` divides by the number of pairs.
    return_grad, grad_output, out, accumulate, num_threads
        As in `dpo_loss`.

    Returns
    -------
    loss : float, or ndarray of the arguments' shape
        As that of `dpo_loss`. 0 where the chosen answer is certain (without a gradient where both are), else
        infinite where the rejected one is.
    grad : PairGradients
        Only with `return_grad`.

    Raises
    ------
    TypeError, ValueError
        As `dpo_loss`; also for a log-probability greater than 0.

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
    beta = arguments.number("beta", beta, above=0.0)
    read = given(_PAIR, (policy_chosen_logps, policy_rejected_logps))
    c, r = read.numbers
    for name, array in zip(_PAIR, (c, r), strict=True):
        if (array > 0.0).any():
            where = np.unravel_index(int((array > 0.0).argmax()), array.shape)
            place = f"{name}[{', '.join(map(str, where))}]" if array.ndim else name
            raise ValueError(f"{place} is {array[where]:g}: expected a log-probability, at most 0")
    call = common(
        read, _PAIR, reduction=reduction, return_grad=return_grad, grad_output=grad_output,
        out=out, accumulate=accumulate, num_threads=num_threads,
    )  # fmt: skip

    def formula(factor: Any) -> tuple[Array, tuple[Any, ...]]:
        line = part(
            "orpo",
            c,
            r,
            parameters=(beta, 0.0),
            derivatives=2 * call.return_grad,
            num_threads=call.num_threads,
        )
        return line.value, () if factor is None else (line.first * factor, line.second * factor)

    return run(read.arrays[0], call, formula, gradients=PairGradients)


def _without_reference(
    line: _Line, values: tuple[Any, Any], *, reduction: Any, return_grad: Any, **rest: Any
) -> Any:
    """A loss of the difference of two log-probabilities."""
    if rest["grad_output"] is rest["out"] is rest["num_threads"] is None and rest["accumulate"] is False:
        plain = line.plain(values, reduction, return_grad)
        if plain is not None:
            return plain
    read = given(_PAIR, values)
    c, r = read.numbers
    call = common(read, _PAIR, reduction=reduction, return_grad=return_grad, **rest)

    def formula(factor: Any) -> tuple[Array, tuple[Any, ...]]:
        value, slope = line.run(_parts(call), c - r)
        return value, () if factor is None else _opposite(slope * factor)

    return run(read.arrays[0], call, formula, gradients=PairGradients)


def simpo_loss(
    policy_chosen_logps: npt.ArrayLike,
    policy_rejected_logps: npt.ArrayLike,
    *,
    beta: float = 2.0,
    gamma: float = 1.0,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
    out: tuple[Array | None, Array | None] | None = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""Simple preference optimisation, without a reference model.

    .. math:: -(1 - \epsilon) \log \sigma(z) - \epsilon \log \sigma(-z), \qquad
              z = \beta (\log \pi_c - \log \pi_r) - \gamma

    Parameters
    ----------
    policy_chosen_logps, policy_rejected_logps : array_like, any shape, usually (N,)
        Averages over tokens of their log-probabilities. The first one's type decides; both are computed in
        float64.
    beta : float, default 2.0
        The scale of the rewards. Greater than 0.
    gamma : float, default 1.0
        By how much the chosen answer's reward should be ahead.
    label_smoothing : float, default 0.0
        The share of labels taken to be wrong.
    reduction : {"mean", "sum", "none"}, default "mean"
        ``"mean"`` divides by the number of pairs.
    return_grad, grad_output, out, accumulate, num_threads
        As in `dpo_loss`.

    Returns
    -------
    loss : float, or ndarray of the arguments' shape
        As that of `dpo_loss`.
    grad : PairGradients
        Only with `return_grad`.

    Raises
    ------
    TypeError, ValueError
        As `dpo_loss`.

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
    beta = arguments.number("beta", beta, above=0.0)
    gamma = arguments.number("gamma", gamma)
    smoothing = arguments.number("label_smoothing", label_smoothing, low=0.0, high=1.0)
    return _without_reference(
        _line("sigmoid", beta, smoothing, gamma=gamma), (policy_chosen_logps, policy_rejected_logps),
        reduction=reduction, return_grad=return_grad, grad_output=grad_output, out=out,
        accumulate=accumulate, num_threads=num_threads,
    )  # fmt: skip


def cpo_loss(
    policy_chosen_logps: npt.ArrayLike,
    policy_rejected_logps: npt.ArrayLike,
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    loss_type: Literal["sigmoid", "hinge", "ipo"] = "sigmoid",
    reduction: Reduction = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
    out: tuple[Array | None, Array | None] | None = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""The preference term of contrastive preference optimisation.

    .. math:: -(1 - \epsilon) \log \sigma(\beta D) - \epsilon \log \sigma(-\beta D), \qquad
              D = \log \pi_c - \log \pi_r

    or, of `D`, the hinge or ipo loss of `dpo_loss`. The likelihood of the chosen answer, the other term of
    the paper's loss, is a `cross_entropy` whose gradient is added with ``accumulate``.

    Parameters
    ----------
    policy_chosen_logps, policy_rejected_logps : array_like, any shape, usually (N,)
        Log-probabilities under the model in training. The first one's type decides; both are computed in
        float64.
    beta : float, default 0.1
        The scale of the difference. Greater than 0.
    label_smoothing : float, default 0.0
        The share of labels taken to be wrong. For sigmoid alone.
    loss_type : {"sigmoid", "hinge", "ipo"}, default "sigmoid"
        As in `dpo_loss`.
    reduction : {"mean", "sum", "none"}, default "mean"
        ``"mean"`` divides by the number of pairs.
    return_grad, grad_output, out, accumulate, num_threads
        As in `dpo_loss`.

    Returns
    -------
    loss : float, or ndarray of the arguments' shape
        As that of `dpo_loss`.
    grad : PairGradients
        Only with `return_grad`.

    Raises
    ------
    TypeError, ValueError
        As `dpo_loss`.

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
    beta = arguments.number("beta", beta, above=0.0)
    smoothing = _smoothed(loss_type, label_smoothing, ("sigmoid",))
    return _without_reference(
        _line(loss_type, beta, smoothing), (policy_chosen_logps, policy_rejected_logps),
        reduction=reduction, return_grad=return_grad, grad_output=grad_output, out=out,
        accumulate=accumulate, num_threads=num_threads,
    )  # fmt: skip
