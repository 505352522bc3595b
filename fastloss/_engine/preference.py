"""Formulas of the losses over pairs of better and worse answers, for `fastloss.preference`."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from fastloss import _kernels
from fastloss._engine import arguments
from fastloss._engine.options import option
from fastloss._engine.parts import Given, call_of, choice, given, part, run
from fastloss._engine.results import Request, as_loss
from fastloss._engine.types import Array

__all__ = [
    "DPO_TYPES",
    "Line",
    "PairGradients",
    "PreferenceRewards",
    "RewardGradients",
    "direct_preference",
    "dpo_options",
    "line_of",
    "odds_ratio",
    "prospect",
    "reward_difference",
    "rewards",
    "smoothed",
    "without_reference",
]

PAIR = ("policy_chosen_logps", "policy_rejected_logps")
_REFERENCES = ("ref_chosen_logps", "ref_rejected_logps")
# The losses of the difference of two scores, of both scores, and of sorted scores.
_OF_DIFFERENCE = ("sigmoid", "hinge", "ipo", "exo_pair", "robust", "discopop")
_OF_BOTH = ("nca_pair", "bco_pair", "sppo_hard", "apo_zero", "apo_down")
_OF_SORTED = ("aot", "aot_unpaired")
DPO_TYPES = (*_OF_DIFFERENCE, *_OF_BOTH, *_OF_SORTED)
_SMOOTHED = ("sigmoid", "exo_pair", "robust", *_OF_SORTED)
_F_DIVERGENCES = ("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence")
# Exponents of scores are clamped to this, as in TRL.
_LARGEST_EXPONENT = 80.0

# Runs a line of losses.def, with the arguments that are common to a call.
_Run = Callable[..., Any]


class PairGradients(NamedTuple):
    """The gradients of losses over pairs; None for a gradient not wanted."""

    policy_chosen_logps: Array | None
    policy_rejected_logps: Array | None


class RewardGradients(NamedTuple):
    """The gradients of `reward_model_loss`; None for a gradient not wanted."""

    chosen_rewards: Array | None
    rejected_rewards: Array | None


class PreferenceRewards(NamedTuple):
    """The rewards of a policy's answers relative to the reference; see `preference_rewards`."""

    chosen: Array
    rejected: Array
    margins: Array
    accuracy: float


def _parts(call: Request) -> _Run:
    return partial(part, derivatives=int(call.return_grad), num_threads=call.num_threads)


def smoothed(loss_type: str, label_smoothing: Any, allowed: tuple[str, ...]) -> float:
    """Return label smoothing, checked for a type of loss."""
    smoothing = option("label_smoothing", label_smoothing)
    if smoothing and loss_type not in allowed:
        raise ValueError(
            f"label_smoothing={smoothing:g} does not apply to loss_type={loss_type!r}, only to "
            + ", ".join(map(repr, allowed))
        )
    if loss_type == "robust" and smoothing >= 0.5:
        raise ValueError(f"label_smoothing must be less than 0.5 for loss_type='robust', got {smoothing:g}")
    if loss_type == "exo_pair" and not 0.0 < smoothing < 1.0:
        raise ValueError(
            f"label_smoothing must be greater than 0 and less than 1 for loss_type='exo_pair', which "
            f"takes its logarithm; got {smoothing:g}"
        )
    return smoothing


class Line(NamedTuple):
    """A loss of the difference D of two scores: a line of losses.def at scale * D - offset."""

    kernel: str
    scale: float
    offset: float = 0.0
    target: float = 0.0
    parameters: tuple[float, float] = (0.0, 0.0)

    def run(self, parts: _Run, d: Array) -> tuple[Array, Any]:
        """Return the losses and their derivatives (None if not wanted)."""
        found = parts(self.kernel, self.scale * d - self.offset, self.target, parameters=self.parameters)
        return found.value, None if found.first is None else self.scale * found.first

    def plain(self, values: tuple[Any, ...], reduction: Any, return_grad: Any) -> Any:
        """Return the result of a call with plain arrays and no further options; else None."""
        found = _kernels.plain_pairs(
            _kernels.ELEMENTWISE[self.kernel][0], *self.parameters, self.target, self.scale, self.offset,
            values, reduction, return_grad,
        )  # fmt: skip
        return found if found is None or not return_grad else (found[0], PairGradients(*found[1:]))


def line_of(loss_type: str, beta: float, e: float, tau: float = 1.0, gamma: float = 0.0) -> Line:
    """Return the line of a type of loss; `e` is its label smoothing."""
    if loss_type == "ipo":
        return Line("mse", 1.0, target=0.5 / beta)
    if loss_type == "hinge":
        return Line("hinge", beta, target=1.0, parameters=(1.0, 0.0))
    if loss_type == "exo_pair":
        return Line("exo", beta, parameters=(math.log1p(-e), math.log(e)))
    if loss_type == "robust":
        return Line("logistic", beta, parameters=((1.0 - e) / (1.0 - 2.0 * e), -e / (1.0 - 2.0 * e)))
    if loss_type == "discopop":
        return Line("discopop", beta, parameters=(1.0 / tau, 0.0))
    return Line("logistic", beta, gamma, parameters=(1.0 - e, e))


def _of_both(parts: _Run, loss_type: str, rc: Array, rr: Array, beta: float) -> tuple[Array, Any, Any]:
    """Return a loss of two log-ratios and its two derivatives (None if not wanted)."""
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
    """Return the losses that compare sorted samples; gradients are returned in the order of the inputs."""
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
    """Return the score of a log-ratio under an f-divergence, and its derivative, without constants.

    Constants cancel in the difference of two scores.
    """
    if f_divergence_type == "js_divergence":
        line = parts("logistic", r, parameters=(1.0, 0.0))
        return -line.value, None if line.first is None else -line.first
    k = -1.0 if f_divergence_type == "forward_kl" else alpha - 1.0
    if f_divergence_type == "reverse_kl" or abs(k) < 1e-6:
        return r, 1.0
    exponential = np.exp(np.minimum(k * r, _LARGEST_EXPONENT))
    return exponential / k, np.where(k * r > _LARGEST_EXPONENT, 0.0, exponential)


class _DPOOptions(NamedTuple):
    """The checked options of `dpo_loss`; `line` is None unless it is a loss of a difference."""

    loss_type: str
    f_divergence_type: str
    beta: float
    smoothing: float
    alpha: float
    line: Line | None


@lru_cache(maxsize=64, typed=True)
def _dpo_options(
    loss_type: Any, beta: Any, label_smoothing: Any, f_divergence_type: Any, f_alpha: Any, discopop_tau: Any
) -> _DPOOptions:
    """Check the options. The result is cached, as the checks take longer than the loss of 1000 pairs."""
    types = (
        choice("loss_type", loss_type, DPO_TYPES),
        choice("f_divergence_type", f_divergence_type, _F_DIVERGENCES),
    )
    beta = arguments.number("beta", beta, above=0.0)
    smoothing = smoothed(loss_type, label_smoothing, _SMOOTHED)
    alpha = arguments.number("f_alpha_divergence_coef", f_alpha)
    tau = arguments.number("discopop_tau", discopop_tau, above=0.0)
    if loss_type in _OF_DIFFERENCE:
        return _DPOOptions(*types, beta, smoothing, alpha, line_of(loss_type, beta, smoothing, tau))
    if f_divergence_type != "reverse_kl":
        raise ValueError(
            f"f_divergence_type={f_divergence_type!r} does not apply to loss_type={loss_type!r}, only to "
            + ", ".join(map(repr, _OF_DIFFERENCE))
        )
    return _DPOOptions(*types, beta, smoothing, alpha, None)


def _opposite(slope: Array) -> tuple[Array, Array]:
    return slope, -slope


def _with_reference(values: tuple[Any, ...], is_free: bool, otherwise: str) -> Given:
    """Return the four arrays; those of the reference are 0 without one."""
    if is_free:
        read = given(PAIR, values[:2])
        read.numbers.extend([np.zeros(read.arrays[0].shape)] * 2)
        return read
    for name, value in zip(_REFERENCES, values[2:], strict=True):
        if value is None:
            raise ValueError(
                f"{name} is missing: pass ref_chosen_logps and ref_rejected_logps, or {otherwise}"
            )
    return given((*PAIR, *_REFERENCES), values)


def dpo_options(*given_options: Any) -> _DPOOptions:
    """Check the options of `dpo_loss`, in the order of `_dpo_options`."""
    with suppress(TypeError):  # an option has the wrong type, or is not hashable
        return _dpo_options(*given_options)
    return _dpo_options.__wrapped__(*given_options)


def direct_preference(
    o: _DPOOptions,
    values: tuple[Any, Any, Any, Any],
    is_free: bool,
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: Any,
) -> Any:
    """Run `dpo_loss` on four log-probabilities; `is_free` means without a reference."""
    line = o.line
    if out is None and not options and line is not None and o.f_divergence_type == "reverse_kl":
        plain = line.plain(values[:2] if is_free else values, reduction, return_grad)
        if plain is not None:
            return plain
    read = _with_reference(values, is_free, "reference_free=True")
    call = call_of(read, PAIR, reduction, return_grad, out, options)
    return run(
        read.arrays[0], call, partial(_direct_formula, o, _parts(call), read.numbers), gradients=PairGradients
    )


def _direct_formula(
    o: _DPOOptions, parts: _Run, logps: list[Array], factor: Any
) -> tuple[Array, tuple[Any, ...]]:
    """Return the losses of `dpo_loss` and their derivatives for the first two log-probabilities."""
    if o.loss_type in _OF_SORTED:
        return _of_sorted(parts, o.loss_type, logps, o.beta, o.smoothing, factor)
    pc, pr, fc, fr = logps
    rc, rr = pc - fc, pr - fr
    if o.line is None:
        value, by_c, by_r = _of_both(parts, o.loss_type, rc, rr, o.beta)
        return value, () if factor is None else (by_c * factor, by_r * factor)
    if o.f_divergence_type == "reverse_kl":
        value, slope = o.line.run(parts, rc - rr)
        return value, () if factor is None else _opposite(slope * factor)
    (sc, by_c), (sr, by_r) = (_score(parts, o.f_divergence_type, r, o.alpha) for r in (rc, rr))
    value, slope = o.line.run(parts, sc - sr)
    return value, () if factor is None else (slope * by_c * factor, -slope * by_r * factor)


def without_reference(
    line: Line, values: tuple[Any, Any], reduction: Any, return_grad: Any, out: Any, options: Any
) -> Any:
    """Run a loss of the difference of two log-probabilities."""
    if out is None and not options:
        plain = line.plain(values, reduction, return_grad)
        if plain is not None:
            return plain
    read = given(PAIR, values)
    c, r = read.numbers
    call = call_of(read, PAIR, reduction, return_grad, out, options)

    def formula(factor: Any) -> tuple[Array, tuple[Any, ...]]:
        value, slope = line.run(_parts(call), c - r)
        return value, () if factor is None else _opposite(slope * factor)

    return run(read.arrays[0], call, formula, gradients=PairGradients)


def odds_ratio(
    values: tuple[Any, Any], beta: float, reduction: Any, return_grad: Any, out: Any, options: Any
) -> Any:
    """Check that log-probabilities are at most 0, and run `orpo_loss`."""
    read = given(PAIR, values)
    c, r = read.numbers
    for name, array in zip(PAIR, (c, r), strict=True):
        if (array > 0.0).any():
            where = np.unravel_index(int((array > 0.0).argmax()), array.shape)
            place = f"{name}[{', '.join(map(str, where))}]" if array.ndim else name
            raise ValueError(f"{place} is {array[where]:g}: expected a log-probability, at most 0")
    call = call_of(read, PAIR, reduction, return_grad, out, options)

    def formula(factor: Any) -> tuple[Array, tuple[Any, ...]]:
        line = part(
            "orpo", c, r, parameters=(beta, 0.0), derivatives=2 * call.return_grad,
            num_threads=call.num_threads,
        )  # fmt: skip
        return line.value, () if factor is None else (line.first * factor, line.second * factor)

    return run(read.arrays[0], call, formula, gradients=PairGradients)


def rewards(values: tuple[Any, Any, Any, Any], beta: float) -> PreferenceRewards:
    """Compute `preference_rewards`."""
    is_free = values[2] is None and values[3] is None
    read = _with_reference(values, is_free, "neither of them")
    logps = read.numbers
    with np.errstate(all="ignore"):
        chosen, rejected = beta * (logps[0] - logps[2]), beta * (logps[1] - logps[3])
        margins = chosen - rejected
        accuracy = float(np.mean(chosen > rejected)) if chosen.size else math.nan
        chosen, rejected, margins = (
            as_loss(np.asarray(a), read.arrays[0]) for a in (chosen, rejected, margins)
        )
        return PreferenceRewards(chosen, rejected, margins, accuracy)


def reward_difference(
    values: tuple[Any, Any],
    margin: Any,
    pull: float,
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: Any,
) -> Any:
    """Run `reward_model_loss`; `pull` is the factor of the centering term."""
    names = RewardGradients._fields
    read = given(names, values)
    c, r = read.numbers
    if margin is not None and np.ndim(margin) == 0:
        margin = arguments.number("margin", margin.item() if isinstance(margin, np.ndarray) else margin)
    margin = arguments.given("margin", margin)
    margins = arguments.per_row("margin", margin, c.shape)
    call = call_of(read, names, reduction, return_grad, out, options, others=(margin,))

    def formula(factor: Any) -> tuple[Array, tuple[Any, ...]]:
        z = np.asarray(c - r) if margins is None else np.asarray(c - r - margins)
        line, total = _parts(call)("logistic", z, parameters=(1.0, 0.0)), c + r
        value = line.value + pull * total * total if pull else line.value
        if factor is None:
            return value, ()
        toward = 2.0 * pull * total if pull else 0.0
        return value, ((line.first + toward) * factor, (toward - line.first) * factor)

    return run(read.arrays[0], call, formula, gradients=RewardGradients)


def prospect(
    policy_logps: Any,
    ref_logps: Any,
    labels: Any,
    beta: float,
    kl: float,
    weights: tuple[float, float],
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: Any,
) -> Any:
    """Run `kto_loss`; `weights` are those of desirable and of undesirable answers."""
    read = given(("policy_logps", "ref_logps"), (policy_logps, ref_logps))
    policy, reference = read.numbers
    labels = arguments.as_array("labels", labels)
    is_good = arguments.mask("labels", labels, policy.shape)
    call = call_of(read, ("policy_logps",), reduction, return_grad, out, options, others=(labels,))

    def formula(factor: Any) -> tuple[Array, tuple[Any, ...]]:
        sign = np.where(is_good, -beta, beta)
        line = _parts(call)("sigmoid", sign * (policy - reference - max(kl, 0.0)))
        weight = np.where(is_good, *weights)
        return weight * line.value, () if factor is None else (weight * sign * line.first * factor,)

    return run(read.arrays[0], call, formula)
