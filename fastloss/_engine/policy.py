"""Formulas of the losses of policy optimisation over tokens, for `fastloss.policy`."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastloss._engine import arguments
from fastloss._engine.conversion import widened
from fastloss._engine.parts import Part, Terms, call_of, choice, given, part, run
from fastloss._engine.results import Request
from fastloss._engine.types import Array

__all__ = ["GROUP_TYPES", "group_options", "group_policy", "kl_estimate", "surrogate", "value_error"]

_CLIPPED = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")
_BY_ITEMS = ("dapo", "cispo")
_LEVELS = ("token", "sequence")
GROUP_TYPES = (*_CLIPPED, "cispo", "sapo")


def _log(x: float) -> float:
    return math.log(x) if x > 0.0 else -math.inf


class _Mask:
    """The elements that count. The others are never read, and are 0 in every result."""

    def __init__(self, mask: npt.ArrayLike | None, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.counts = None if mask is None else arguments.mask("mask", mask, shape)

    def kept(self, array: Array) -> Array:
        """Return the elements that count, flattened if there is a mask."""
        return array if self.counts is None else array[self.counts]

    def spread(self, kept: Any) -> Array:
        """Return the elements that count in their places, and 0 elsewhere."""
        if self.counts is None:
            return np.asarray(kept)
        out = np.zeros(self.shape)
        out[self.counts] = kept
        return out

    def terms(self) -> Terms:
        """Return what the mean divides by: the mean of no elements is 0 with a mask, NaN without."""
        if self.counts is None:
            return Terms(float(math.prod(self.shape)))
        return Terms(float(self.counts.sum()), is_masked=True)

    def of_sequences(self) -> Array:
        """Return the number of elements that count in each row."""
        if self.counts is None:
            return np.full(self.shape[0], float(self.shape[1]))
        return np.asarray(self.counts.sum(axis=1, dtype=float))


_Line = Callable[..., Any]


def _over_tokens(
    line: _Line,
    names: tuple[str, ...],
    values: tuple[Any, ...],
    mask: npt.ArrayLike | None,
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: Any,
    *,
    others: tuple[Any, ...] = (),
) -> Any:
    """Run an elementwise loss; `line` returns its values and its derivatives for the first array."""
    read = given(names, values)
    mask = arguments.given("mask", mask)
    where = _Mask(mask, read.arrays[0].shape)
    call = call_of(read, names[:1], reduction, return_grad, out, options, others=(mask, *others))

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

    return run(read.arrays[0], call, formula, where.terms())


def _clipped_ratio(
    logps: Array, old_logps: Array, advantages: Array, *, low: float, high: float, delta: float, **more: Any
) -> Any:
    """Compute max(-A min(r, delta), -A clip(r, low, high)) for the ratio r; all bounds are logarithms.

    For A > 0, min(high, delta) is an upper bound of r. For A < 0, r is between low and max(high, delta).
    """
    bounds = low, min(high, delta)
    return part("policy_clip", logps - old_logps, advantages, max(high, delta), parameters=bounds, **more)


def surrogate(values: tuple[Any, ...], clip: float, *common: Any) -> Any:
    """Run the clipped surrogate of PPO; `common` is mask, reduction, return_grad, out and options."""
    line = partial(_clipped_ratio, low=_log(1.0 - clip), high=math.log1p(clip), delta=math.inf)
    return _over_tokens(line, ("logps", "old_logps", "advantages"), values, *common)


def _half_square(v: Array, target: Array, **more: Any) -> Any:
    line = part("mse", v, target, **more)
    return line._replace(value=0.5 * line.value, first=None if line.first is None else 0.5 * line.first)


def _clipped_square(v: Array, old: Array, target: Array, *, clip: float, **more: Any) -> Any:
    return part("value_clip", v, target, old, parameters=(clip, 0.0), **more)


def value_error(values: tuple[Any, Any, Any], clip: float | None, *common: Any) -> Any:
    """Run the (clipped) squared error of values, old values and returns."""
    predicted, old, returns = values
    if clip is None:
        others = (arguments.given("old_values", old),)
        return _over_tokens(_half_square, ("values", "returns"), (predicted, returns), *common, others=others)
    if old is None:
        raise TypeError("old_values is required unless clip is None")
    line = partial(_clipped_square, clip=clip)
    return _over_tokens(line, ("values", "old_values", "returns"), values, *common)


def _penalty(logps: Array, ref_logps: Array, *, estimator: str, **more: Any) -> Any:
    """Return an estimate of the divergence from the reference."""
    x = np.asarray(logps - ref_logps)
    if estimator == "k3":
        return part("k3", x, **more)
    if estimator == "k1":
        return Part(x, np.where(np.isnan(x), x, 1.0), None)
    return Part(0.5 * x * x, x, None)


def kl_estimate(values: tuple[Any, Any], estimator: Any, *common: Any) -> Any:
    """Run an estimate of the divergence from a reference."""
    choice("estimator", estimator, ("k1", "k2", "k3"))
    return _over_tokens(partial(_penalty, estimator=estimator), ("logps", "ref_logps"), values, *common)


# --- GRPO and its variants ---


class _GroupOptions(NamedTuple):
    """The checked options of `grpo_loss`."""

    loss_type: str
    low: float  # bounds of the ratio, as logarithms; for cispo `high` is not a logarithm
    high: float
    delta: float
    beta: float
    is_joint: bool  # one ratio for all tokens of a sequence
    max_length: float | None
    items: float | None
    temperatures: tuple[float, float]


def _number_of(name: str, value: Any, loss_type: str, allowed: tuple[str, ...]) -> float | None:
    """Check and return a denominator that only some types have."""
    if value is None:
        return None
    if loss_type not in allowed:
        raise ValueError(f"{name} does not apply to loss_type={loss_type!r}, only to {', '.join(allowed)}")
    return arguments.number(name, value, above=0.0)


def group_options(
    loss_type: Any,
    epsilon_low: Any,
    epsilon_high: Any,
    delta: Any,
    beta: Any,
    importance_sampling_level: Any,
    max_completion_length: Any,
    num_items: Any,
    temperatures: tuple[Any, Any],
) -> _GroupOptions:
    """Check the options of `grpo_loss`."""
    choice("loss_type", loss_type, GROUP_TYPES)
    choice("importance_sampling_level", importance_sampling_level, _LEVELS)
    low = arguments.number("epsilon_low", epsilon_low, low=0.0)
    high = low if epsilon_high is None else arguments.number("epsilon_high", epsilon_high, low=0.0)
    bound = math.inf
    if delta is not None:
        if loss_type not in _CLIPPED:
            raise ValueError(f"delta does not apply to loss_type={loss_type!r}")
        bound = math.log(arguments.number("delta", delta, above=0.0))
    max_length = _number_of("max_completion_length", max_completion_length, loss_type, ("dr_grpo",))
    if loss_type == "dr_grpo" and max_length is None:
        raise ValueError("loss_type='dr_grpo' needs max_completion_length, its divisor")
    return _GroupOptions(
        loss_type, _log(1.0 - low), high if loss_type == "cispo" else math.log1p(high), bound,
        arguments.number("beta", beta, low=0.0), importance_sampling_level == "sequence", max_length,
        _number_of("num_items", num_items, loss_type, _BY_ITEMS),
        (
            arguments.number("sapo_temperature_pos", temperatures[0], above=0.0),
            arguments.number("sapo_temperature_neg", temperatures[1], above=0.0),
        ),
    )  # fmt: skip


def _normaliser(o: _GroupOptions, counts: Array, *, is_masked: bool) -> Terms:
    """Return what the mean divides by; `counts` are the tokens of each sequence."""
    sequences = float(len(counts))
    if not is_masked and not counts.any():
        return Terms(0.0)
    if o.loss_type in ("grpo", "sapo"):
        return Terms(sequences, np.maximum(counts, 1.0)[:, np.newaxis], is_masked)
    if o.loss_type == "luspo":
        return Terms(sequences, None, is_masked)
    if o.loss_type == "dr_grpo":
        assert o.max_length is not None
        return Terms(sequences * o.max_length, None, is_masked)
    return Terms(o.items or float(counts.sum()), None, is_masked)


def _token_losses(o: _GroupOptions, x: Array, logps: Array, advantage: Array, **more: Any) -> Any:
    """Return the losses of tokens, and their derivatives for the log-ratios `x` (cispo: for `logps`)."""
    if o.loss_type == "sapo":
        return part("sapo", x, advantage, parameters=o.temperatures, **more)
    if o.loss_type in _CLIPPED:
        return _clipped_ratio(x, np.zeros_like(x), advantage, low=o.low, high=o.high, delta=o.delta, **more)
    slope = -np.minimum(np.exp(x), o.high) * advantage
    # An impossible token (logps of -inf) with slope 0 has loss 0, not NaN.
    has_none = (slope == 0.0) & ~np.isnan(logps)
    return Part(np.where(has_none, 0.0, slope * logps), slope, None)


def _joint(values: Array, where: _Mask, counts: Array) -> Array:
    """Return for each token that counts the mean over the tokens of its sequence."""
    mean = where.spread(values).sum(axis=1) / np.maximum(counts, 1.0)
    return where.kept(np.repeat(mean[:, np.newaxis], where.shape[1], axis=1))


def _group_formula(
    o: _GroupOptions, call: Request, numbers: list[Array], a: Array, where: _Mask, counts: Array
) -> Callable[[Any], tuple[Array, tuple[Any, ...]]]:
    """Return the formula of `grpo_loss`, as `run` takes it."""
    more: dict[str, Any] = {"derivatives": int(call.return_grad), "num_threads": call.num_threads}

    def formula(factor: Any) -> tuple[Array, tuple[Any, ...]]:
        kept = [where.kept(array) for array in numbers]
        x, advantage = kept[0] - kept[1], np.ascontiguousarray(where.kept(a))
        if o.is_joint:
            x = _joint(x, where, counts)
        found = _token_losses(o, x, kept[0], advantage, **more)
        value, slope = found.value, found.first
        penalty = _penalty(kept[0], kept[2], estimator="k3", **more) if o.beta else None
        if penalty is not None:
            value = value + o.beta * penalty.value
        if factor is None:
            return where.spread(value), ()
        some = where.kept(np.broadcast_to(factor, where.shape))
        slope = slope * some
        if o.is_joint and o.loss_type != "cispo":
            slope = _joint(slope, where, counts)
        if penalty is not None:
            slope = slope + o.beta * penalty.first * some
        return where.spread(value), (where.spread(slope),)

    return formula


def group_policy(
    o: _GroupOptions,
    logps: Any,
    old_logps: Any,
    advantages: Any,
    ref_logps: Any,
    mask: Any,
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: Any,
) -> Any:
    """Check the arrays of `grpo_loss`, run it and reduce."""
    if o.beta and ref_logps is None:
        raise ValueError(f"beta={o.beta:g} needs ref_logps")
    names: tuple[str, ...] = ("logps", "old_logps")
    values: tuple[Any, ...] = (logps, old_logps)
    if ref_logps is not None:
        names, values = (*names, "ref_logps"), (*values, ref_logps)
    read = given(names, values)
    x, shape = read.arrays[0], read.arrays[0].shape
    if len(shape) != 2:
        raise ValueError(f"logps must have shape (B, T), got {shape}")
    advantages, mask = arguments.as_array("advantages", advantages), arguments.given("mask", mask)
    a = widened(arguments.converted("advantages", advantages, x.dtype), np.float64)
    if a.shape not in (shape, shape[:1]):
        raise ValueError(f"advantages must have shape {shape[:1]} or {shape}, got {a.shape}")
    a = np.broadcast_to(a if a.ndim == 2 else a[:, np.newaxis], shape)
    where = _Mask(mask, shape)
    counts = where.of_sequences()
    call = call_of(read, names[:1], reduction, return_grad, out, options, others=(advantages, mask))
    formula = _group_formula(o, call, read.numbers, a, where, counts)
    return run(x, call, formula, _normaliser(o, counts, is_masked=mask is not None))
