"""Losses of policy optimisation: PPO, values, GRPO and its kin, and the divergence from a reference."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fastloss._engine import arguments
from fastloss._engine.conversion import widened
from fastloss._engine.parts import Part, choice, common, given, part, run
from fastloss._engine.types import Array, Reduction

__all__ = ["grpo_loss", "kl_penalty", "ppo_loss", "value_loss"]

_CLIPPED = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")
_BY_ITEMS = ("dapo", "cispo")
_LEVELS = ("token", "sequence")


def _log(x: float) -> float:
    return math.log(x) if x > 0.0 else -math.inf


class _Mask:
    """Which elements count. The others are never read, and are 0 in all that comes out."""

    def __init__(self, mask: npt.ArrayLike | None, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.counts = None if mask is None else arguments.mask("mask", mask, shape)

    def kept(self, array: Array) -> Array:
        """The elements that count."""
        return array if self.counts is None else array[self.counts]

    def spread(self, kept: Any) -> Array:
        """Elements that count, in their places."""
        if self.counts is None:
            return np.asarray(kept)
        out = np.zeros(self.shape)
        out[self.counts] = kept
        return out

    def of_mean(self) -> float:
        """What multiplies a sum for the mean: nothing under a mask has mean 0, nothing without one NaN."""
        if self.counts is not None:
            return 1.0 / max(int(self.counts.sum()), 1)
        size = math.prod(self.shape)
        return 1.0 / size if size else math.nan


def _over_tokens(
    line: Any,
    names: tuple[str, ...],
    values: tuple[Any, ...],
    mask: npt.ArrayLike | None,
    others: tuple[Any, ...] = (),
    **rest: Any,
) -> Any:
    """A loss of each element of some arrays: `line` gives its values and derivatives by the first."""
    read = given(names, values)
    mask = arguments.given("mask", mask)
    where = _Mask(mask, read.arrays[0].shape)
    call = common(read, names[:1], others=(mask, *others), **rest)

    def formula(factor: Any) -> tuple[Array, tuple[Any, ...]]:
        found = line(
            *(where.kept(a) for a in read.numbers),
            derivatives=int(call.return_grad),
            num_threads=call.num_threads,
        )
        if factor is None:
            return where.spread(found.value), ()
        some = where.kept(factor) if isinstance(factor, np.ndarray) else factor
        return where.spread(found.value), (where.spread(found.first * some),)

    return run(read.arrays[0], call, formula, where.of_mean())


def _clipped_ratio(
    logps: Array, old_logps: Array, advantages: Array, *, low: float, high: float, delta: float, **more: Any
) -> Any:
    """max(-A min(r, delta), -A clip(r, low, high)) with r the ratio; all bounds as logarithms.

    For A > 0 that holds r under the less of high and delta, for A < 0 between low and the greater of them.
    """
    bounds = low, min(high, delta)
    return part("policy_clip", logps - old_logps, advantages, max(high, delta), parameters=bounds, **more)


def ppo_loss(
    logps: npt.ArrayLike,
    old_logps: npt.ArrayLike,
    advantages: npt.ArrayLike,
    *,
    clip: float = 0.2,
    mask: npt.ArrayLike | None = None,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
    out: Array | None = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""Clipped surrogate of proximal policy optimisation.

    .. math:: \max\big(-A r,\ -A\,\mathrm{clip}(r, 1 - \epsilon, 1 + \epsilon)\big), \qquad
              r = \pi / \pi_{old}

    for each token, with advantage `A`.

    Parameters
    ----------
    logps : array_like, any shape, usually (B, T)
        Log-probabilities of the tokens, as `token_log_probs` gives them. Its type decides; all are computed
        in float64.
    old_logps : array_like, the same shape
        Under the policy that drew the tokens.
    advantages : array_like, the same shape
        How much better than expected each turned out.
    clip : float, default 0.2
        How far the ratio may move. At least 0.
    mask : array_like of bool, or of 0 and 1, the same shape, optional
        Which tokens count. The others are not read, and have loss and gradient 0.
    reduction : {"mean", "sum", "none"}, default "mean"
        ``"mean"`` divides by the number of tokens that count, or by 1.
    return_grad : bool, default False
        Also return the gradient by `logps`: :math:`-A r` where the first term is the greater or equal,
        otherwise 0.
    grad_output : scalar, or array_like of the loss's shape, optional
        The upstream gradient: multiplies the gradient, not the loss.
    out : ndarray, optional
        Where the gradient is written; may be `logps` itself.
    accumulate : bool, default False
        Add the gradient to `out`.
    num_threads : int, optional
        For this call; the package setting otherwise. Results do not depend on it.

    Returns
    -------
    loss : float, or ndarray of the shape of `logps`
        A Python float for ``"mean"`` and ``"sum"``: 0 where nothing is under the mask.
    grad : ndarray
        Only with `return_grad`.

    Raises
    ------
    TypeError
        If an argument is of a type that cannot be used.
    ValueError
        If shapes differ, an option is out of its range, or the buffer cannot be used.

    Notes
    -----
    The ratio is held under its bound as a logarithm: it cannot overflow where its bound counts.

    See Also
    --------
    grpo_loss : with other bounds and other means.

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
    clip = arguments.number("clip", clip, low=0.0)
    line = partial(_clipped_ratio, low=_log(1.0 - clip), high=math.log1p(clip), delta=math.inf)
    return _over_tokens(
        line, ("logps", "old_logps", "advantages"), (logps, old_logps, advantages), mask,
        reduction=reduction, return_grad=return_grad, grad_output=grad_output, out=out,
        accumulate=accumulate, num_threads=num_threads,
    )  # fmt: skip


def value_loss(
    values: npt.ArrayLike,
    old_values: npt.ArrayLike | None,
    returns: npt.ArrayLike,
    *,
    clip: float | None = 0.2,
    mask: npt.ArrayLike | None = None,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
    out: Array | None = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""Clipped squared error of a value function.

    .. math:: \tfrac12 \max\big((v - R)^2,\ (v_{old} + d - R)^2\big), \qquad
              d = \mathrm{clip}(v - v_{old}, -\epsilon, \epsilon)

    Parameters
    ----------
    values : array_like, any shape, usually (B, T)
        What the model predicts. Its type decides; all are computed in float64.
    old_values : array_like, the same shape
        What it predicted when the tokens were drawn; not read, and may be None, where `clip` is None.
    returns : array_like, the same shape
        What came.
    clip : float or None, default 0.2
        How far a value may move and still gain. At least 0; None for the plain half of the squared error.
    mask : array_like of bool, or of 0 and 1, the same shape, optional
        Which tokens count. The others are not read, and have loss and gradient 0.
    reduction : {"mean", "sum", "none"}, default "mean"
        ``"mean"`` divides by the number of tokens that count, or by 1.
    return_grad, grad_output, out, accumulate, num_threads
        As in `ppo_loss`; the gradient is that by `values`.

    Returns
    -------
    loss : float, or ndarray of the shape of `values`
        As that of `ppo_loss`.
    grad : ndarray
        Only with `return_grad`: :math:`v - R` where the first square is the greater or equal, otherwise 0.

    Raises
    ------
    TypeError, ValueError
        As `ppo_loss`.

    References
    ----------
    Schulman et al., "Proximal policy optimization algorithms", 2017; ``trl.PPOTrainer``.

    Examples
    --------
    >>> import fastloss
    >>> round(fastloss.value_loss([1.0, 0.5], [0.0, 0.5], [1.0, 0.0]), 4)
    0.2225
    """
    rest: dict[str, Any] = {
        "reduction": reduction,
        "return_grad": return_grad,
        "grad_output": grad_output,
        "out": out,
        "accumulate": accumulate,
        "num_threads": num_threads,
    }
    if clip is None:

        def plain(v: Array, target: Array, **more: Any) -> Any:
            line = part("mse", v, target, **more)
            return line._replace(
                value=0.5 * line.value, first=None if line.first is None else 0.5 * line.first
            )

        return _over_tokens(
            plain,
            ("values", "returns"),
            (values, returns),
            mask,
            others=(arguments.given("old_values", old_values),),
            **rest,
        )
    clip = arguments.number("clip", clip, low=0.0)
    if old_values is None:
        raise TypeError("old_values is needed, unless clip is None")

    def clipped(v: Array, old: Array, target: Array, **more: Any) -> Any:
        return part("value_clip", v, target, old, parameters=(clip, 0.0), **more)

    names = ("values", "old_values", "returns")
    return _over_tokens(clipped, names, (values, old_values, returns), mask, **rest)


def _penalty(logps: Array, ref_logps: Array, *, estimator: str, **more: Any) -> Any:
    """An estimate of the divergence from the reference."""
    x = np.asarray(logps - ref_logps)
    if estimator == "k3":
        return part("k3", x, **more)
    if estimator == "k1":
        return Part(x, np.where(np.isnan(x), x, 1.0), None)
    return Part(0.5 * x * x, x, None)


def kl_penalty(
    logps: npt.ArrayLike,
    ref_logps: npt.ArrayLike,
    *,
    estimator: Literal["k1", "k2", "k3"] = "k3",
    mask: npt.ArrayLike | None = None,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
    out: Array | None = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""Estimate of the divergence of a policy from its reference, from the tokens that it drew.

    .. math:: k_1 = l, \qquad k_2 = \tfrac12 l^2, \qquad k_3 = e^{-l} - 1 + l, \qquad
              l = \log \pi - \log \pi_{ref}

    Parameters
    ----------
    logps : array_like, any shape, usually (B, T)
        Log-probabilities of the tokens. Its type decides; both are computed in float64.
    ref_logps : array_like, the same shape
        Under the reference model.
    estimator : {"k1", "k2", "k3"}, default "k3"
        The third has the mean of the first, less spread, and is never negative. In it :math:`-l` is held
        under 80, without a gradient beyond, as its exponential would be larger than any float32.
    mask : array_like of bool, or of 0 and 1, the same shape, optional
        Which tokens count. The others are not read, and have value and gradient 0.
    reduction : {"mean", "sum", "none"}, default "mean"
        ``"mean"`` divides by the number of tokens that count, or by 1.
    return_grad, grad_output, out, accumulate, num_threads
        As in `ppo_loss`.

    Returns
    -------
    penalty : float, or ndarray of the shape of `logps`
        As the loss of `ppo_loss`.
    grad : ndarray
        Only with `return_grad`: :math:`1`, :math:`l` or :math:`1 - e^{-l}`.

    Raises
    ------
    TypeError, ValueError
        As `ppo_loss`.

    References
    ----------
    Schulman, "Approximating KL divergence", 2020; ``kl_estimator`` of ``trl.PPOConfig``.

    Examples
    --------
    >>> import fastloss
    >>> [round(fastloss.kl_penalty([-1.0], [-1.5], estimator=k), 4) for k in ("k1", "k2", "k3")]
    [0.5, 0.125, 0.1065]
    """
    choice("estimator", estimator, ("k1", "k2", "k3"))
    return _over_tokens(
        partial(_penalty, estimator=estimator), ("logps", "ref_logps"), (logps, ref_logps), mask,
        reduction=reduction, return_grad=return_grad, grad_output=grad_output, out=out,
        accumulate=accumulate, num_threads=num_threads,
    )  # fmt: skip


def _normaliser(
    loss_type: str, counts: Array, is_masked: bool, max_length: float | None, items: float | None
) -> float | Array:
    """What multiplies each token's loss in the "mean" of a type; `counts` are the tokens of the sequences."""
    sequences = max(len(counts), 1)
    if not is_masked and not counts.any():
        return math.nan
    if loss_type in ("grpo", "sapo"):
        return (1.0 / (sequences * np.maximum(counts, 1.0)))[:, np.newaxis]
    if loss_type == "luspo":
        return 1.0 / sequences
    if loss_type == "dr_grpo":
        assert max_length is not None
        return 1.0 / (sequences * max_length)
    return 1.0 / (items or max(float(counts.sum()), 1.0))


def _number_of(name: str, value: Any, loss_type: str, allowed: tuple[str, ...]) -> float | None:
    """A denominator that only some types have."""
    if value is None:
        return None
    if loss_type not in allowed:
        raise ValueError(
            f"{name} has no meaning for loss_type={loss_type!r}; it has for {', '.join(allowed)}"
        )
    return arguments.number(name, value, above=0.0)


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
    grad_output: npt.ArrayLike | None = None,
    out: Array | None = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""Group-relative policy optimisation, and what came of it.

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
    logps : array_like, shape (B, T)
        Log-probabilities of the tokens, as `token_log_probs` and `linear_token_log_probs` give them. Its type
        decides; all are computed in float64.
    old_logps : array_like, shape (B, T)
        Under the policy that drew the tokens.
    advantages : array_like, shape (B,) or (B, T)
        Of each sequence, or of each token.
    mask : array_like of bool, or of 0 and 1, shape (B, T), optional
        Which tokens count. The others are not read, and have loss and gradient 0.
    ref_logps : array_like, shape (B, T), optional
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
    reduction : {"mean", "sum", "none"}, default "mean"
        ``"mean"`` is that of the type; ``"sum"`` and ``"none"`` are of the tokens' losses.
    return_grad, grad_output, out, accumulate, num_threads
        As in `ppo_loss`.

    Returns
    -------
    loss : float, or ndarray of shape (B, T)
        As that of `ppo_loss`.
    grad : ndarray, shape (B, T)
        Only with `return_grad`: the gradient by `logps`.

    Raises
    ------
    TypeError
        If an argument is of a type that cannot be used.
    ValueError
        If shapes differ, an option is out of its range, is missing, or has no meaning for this type of loss,
        or the buffer cannot be used.

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
    choice("loss_type", loss_type, (*_CLIPPED, "cispo", "sapo"))
    choice("importance_sampling_level", importance_sampling_level, _LEVELS)
    low = arguments.number("epsilon_low", epsilon_low, low=0.0)
    high = low if epsilon_high is None else arguments.number("epsilon_high", epsilon_high, low=0.0)
    beta = arguments.number("beta", beta, low=0.0)
    temperatures = (
        arguments.number("sapo_temperature_pos", sapo_temperature_pos, above=0.0),
        arguments.number("sapo_temperature_neg", sapo_temperature_neg, above=0.0),
    )
    bound = math.inf
    if delta is not None:
        if loss_type not in _CLIPPED:
            raise ValueError(f"delta has no meaning for loss_type={loss_type!r}")
        bound = math.log(arguments.number("delta", delta, above=0.0))
    max_length = _number_of("max_completion_length", max_completion_length, loss_type, ("dr_grpo",))
    if loss_type == "dr_grpo" and max_length is None:
        raise ValueError("loss_type='dr_grpo' needs max_completion_length, by which it divides")
    items = _number_of("num_items", num_items, loss_type, _BY_ITEMS)
    if beta and ref_logps is None:
        raise ValueError(f"beta={beta:g} needs ref_logps")

    names: tuple[str, ...] = ("logps", "old_logps")
    values: tuple[Any, ...] = (logps, old_logps)
    if ref_logps is not None:
        names, values = (*names, "ref_logps"), (*values, ref_logps)
    read = given(names, values)
    numbers, shape = read.numbers, read.arrays[0].shape
    if len(shape) != 2:
        raise ValueError(f"logps must have shape (B, T), got {shape}")
    advantages, mask = arguments.as_array("advantages", advantages), arguments.given("mask", mask)
    a = widened(arguments.converted("advantages", advantages, read.arrays[0].dtype), np.float64)
    if a.shape not in (shape, shape[:1]):
        raise ValueError(f"advantages must have shape {shape[:1]} or {shape}, got {a.shape}")
    a = np.broadcast_to(a if a.ndim == 2 else a[:, np.newaxis], shape)
    where = _Mask(mask, shape)
    counts = (
        np.full(shape[0], float(shape[1])) if where.counts is None else where.counts.sum(axis=1, dtype=float)
    )
    call = common(
        read, names[:1], others=(advantages, mask), reduction=reduction, return_grad=return_grad,
        grad_output=grad_output, out=out, accumulate=accumulate, num_threads=num_threads,
    )  # fmt: skip

    more: dict[str, Any] = {"derivatives": int(call.return_grad), "num_threads": call.num_threads}

    def token_losses(x: Array, kept: list[Array], advantage: Array) -> Any:
        if loss_type == "sapo":
            return part("sapo", x, advantage, parameters=temperatures, **more)
        if loss_type in _CLIPPED:
            zero = np.zeros_like(x)
            return _clipped_ratio(
                x, zero, advantage, low=_log(1.0 - low), high=math.log1p(high), delta=bound, **more
            )
        slope = -np.minimum(np.exp(x), high) * advantage
        # Without a slope an impossible token has no loss.
        has_none = (slope == 0.0) & ~np.isnan(kept[0])
        return Part(np.where(has_none, 0.0, slope * kept[0]), slope, None)

    def formula(factor: Any) -> tuple[Array, tuple[Any, ...]]:
        kept = [where.kept(array) for array in numbers]
        x, advantage = kept[0] - kept[1], np.ascontiguousarray(where.kept(a))
        is_joint = importance_sampling_level == "sequence"
        if is_joint:
            mean = where.spread(x).sum(axis=1) / np.maximum(counts, 1.0)
            x = where.kept(np.repeat(mean[:, np.newaxis], shape[1], axis=1))
        found = token_losses(x, kept, advantage)
        value, slope = found.value, found.first
        penalty = None
        if beta:
            penalty = _penalty(
                kept[0],
                kept[2],
                estimator="k3",
                derivatives=int(call.return_grad),
                num_threads=call.num_threads,
            )
            value = value + beta * penalty.value
        rows = where.spread(value)
        if factor is None:
            return rows, ()
        some = where.kept(np.broadcast_to(factor, shape))
        slope = slope * some
        if is_joint and loss_type != "cispo":
            shares = where.spread(slope).sum(axis=1) / np.maximum(counts, 1.0)
            slope = where.kept(np.repeat(shares[:, np.newaxis], shape[1], axis=1))
        if penalty is not None:
            slope = slope + beta * penalty.first * some
        return rows, (where.spread(slope),)

    return run(
        read.arrays[0], call, formula, _normaliser(loss_type, counts, mask is not None, max_length, items)
    )
