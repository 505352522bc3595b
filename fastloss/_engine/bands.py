"""Losses over rows of classes that are split into bands, computed one by one or held by other processes.

Let lse_b and loss_b be the log-sum-exp and the loss of band b alone, and A_b the mass of its targets. Then

    loss = sum_b (loss_b + A_b (lse - lse_b)) + class weight * z_loss * lse^2

where lse - lse_b = log(1 + e^(lse of the others - lse_b)) avoids a difference of two large numbers. The
gradient of a band needs only the log-sum-exp of the other bands and the mass of their targets.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastloss import _kernels
from fastloss._engine.conversion import stored, widened
from fastloss._engine.rows import run_family
from fastloss._engine.types import Array

__all__ = ["OF_A_BAND", "Merged", "clear_masked", "look", "others", "target_slope", "weighed"]

# The z-loss is computed for all bands together, so a single band has none.
OF_A_BAND = {"z_loss": 0.0}
# Number of rows that are converted to float64 at a time.
CONVERTED = 64


def weighed(values: Array, weight: Array | float) -> Array:
    """Return `values * weight`, where a weight of 0 gives 0 even for infinite values, but not for NaN."""
    return np.where((weight == 0.0) & ~np.isnan(values), 0.0, values * weight)


def target_slope(options: dict[str, Any], all_classes: int) -> float:
    """Return the gradient for the logit of a target with probability 0; a softcap has slope 0 there."""
    if options.get("softcap"):
        return 0.0
    smoothing = options.get("label_smoothing", 0.0)
    return float(-(1.0 - smoothing + smoothing / all_classes) / options.get("temperature", 1.0))


def clear_masked(gradient: Array, is_masked: Array, target: dict[str, Any], slope: Array) -> None:
    """Clear the gradient of rows whose classes in a band are all masked, except at a target among them.

    The loss is infinite there. `slope` holds the target's gradient in each row, without its class weight.
    """
    gradient[is_masked] = 0
    if "indices" not in target:
        return
    here = np.nonzero(is_masked & (target["indices"] >= 0))
    classes = target["indices"][here]
    weight = 1.0 if target["weight"] is None else target["weight"][classes]
    gradient[(*here, classes)] = stored(weighed(slope[here], weight), gradient.dtype)


def _mass(z: Array, target: dict[str, Any], own: Array, label_smoothing: float, all_classes: int) -> Array:
    """Return the mass of the targets of a band, for each row."""
    weight = target["weight"]
    w = np.ones(z.shape[-1]) if weight is None else weight
    if "indices" not in target:
        q = target["probabilities"].reshape(own.size, -1)
        some = [widened(q[i : i + CONVERTED], np.float64) @ w for i in range(0, len(q), CONVERTED)]
        own = np.concatenate(some).reshape(own.shape) if some else own
    return np.asarray((1.0 - label_smoothing) * own + label_smoothing / all_classes * float(w.sum()))


def look(
    z: Array, target: dict[str, Any], options: dict[str, Any], all_classes: int, num_threads: int | None
) -> Array:
    """Return four statistics of a band of logits with the classes on the last axis; shape (4, ...rows).

    They are the log-sum-exp, the loss of the band alone, the mass of its targets, and the class weight of the
    target if it is in this band. The index of a target in another band is negative.
    """
    seen = np.zeros((4, *z.shape[:-1]))
    lse, terms, mass, own = seen
    if "indices" in target:
        is_here = target["indices"] >= 0
        own[is_here] = 1.0 if target["weight"] is None else target["weight"][target["indices"][is_here]]
    lse[...] = -np.inf
    if z.shape[-1] == 0:
        return seen
    axis = z.ndim - 1
    map_options = {name: options[name] for name in ("softcap", "temperature") if name in options}
    run_family(_kernels.LOGSUMEXP, z, axis, row_loss=lse, num_threads=num_threads, **map_options)
    nothing = (np.full(lse.size, -np.inf), np.zeros(lse.size), all_classes)
    run_family(
        _kernels.CROSS_ENTROPY, z, axis, row_loss=terms, elsewhere=nothing, num_threads=num_threads,
        **target, **{**options, **OF_A_BAND},
    )  # fmt: skip
    mass[...] = _mass(z, target, own, options.get("label_smoothing", 0.0), all_classes)
    is_masked = lse == -np.inf
    terms[is_masked] = np.where(mass[is_masked] > 0.0, np.inf, 0.0)
    return seen


class Merged:
    """The merged bands of some rows: the losses, and the statistics that each band needs of the others."""

    def __init__(self, seen: Array, options: dict[str, Any], *, has_indices: bool) -> None:
        """Merge the results of `look` for all bands, stacked in `seen` with shape (bands, 4, rows)."""
        self.lse, terms, self.masses, own = np.moveaxis(seen, 1, 0)
        self.weight = own.sum(axis=0) if has_indices else np.ones(own.shape[1:])
        self.others = others(self.lse)
        self.whole = np.logaddexp(self.others[0], self.lse[0])
        self.whole[np.isinf(self.whole)] = np.nan  # without a finite maximum there is no softmax
        ahead = np.logaddexp(0.0, self.others - self.lse)
        rows = (terms + np.where(self.masses == 0.0, 0.0, self.masses * ahead)).sum(axis=0)
        rows[np.isnan(self.whole)] = np.nan
        z_loss = options.get("z_loss", 0.0)
        self.z_mass = 2.0 * z_loss * self.weight * self.whole if z_loss else np.zeros(rows.shape)
        self.losses = rows + 0.5 * self.z_mass * self.whole if z_loss else rows

    def is_masked(self, k: int) -> Array:
        """Return which rows have only masked classes in band `k`, but not in all bands."""
        return np.asarray((self.lse[k] == -np.inf) & ~np.isnan(self.whole))

    def elsewhere(self, k: int) -> tuple[Array, Array]:
        """Return the log-sum-exp of all bands but `k` and the mass of their targets, for the kernels.

        The mass includes that of the z-loss.
        """
        mass = self.masses.sum(axis=0) - self.masses[k] + self.z_mass
        lse = np.where(np.isnan(self.whole), np.nan, self.others[k])
        return np.ascontiguousarray(lse), np.ascontiguousarray(mass)


def others(lse: Array) -> Array:
    """Return the log-sum-exp of all other bands, for each band."""
    if len(lse) == 1:
        return np.full(lse.shape, -np.inf)
    before = np.logaddexp.accumulate(lse, axis=0)[:-1]
    after = np.logaddexp.accumulate(lse[::-1], axis=0)[-2::-1]
    return np.concatenate((after[:1], np.logaddexp(before[:-1], after[1:]), before[-1:]))
