"""Run the statistics of tokens: check arguments, call the kernel, and return what was asked for.

The comment at the top of ``src/statistics.h`` derives the formulas and the gradient.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastloss import _kernels
from fastloss._engine import arguments
from fastloss._engine.bands import others
from fastloss._engine.chunks import Call
from fastloss._engine.options import softmax_options
from fastloss._engine.results import as_loss, request, upstream
from fastloss._engine.types import Array

__all__ = ["StatisticsCall", "TokenStatistics", "arrays_of", "statistics_of_rows", "wanted"]


class TokenStatistics(NamedTuple):
    """What `token_statistics` returns for each token; None for what was not asked for."""

    log_probs: Array | None
    entropy: Array | None
    logsumexp: Array | None
    log_sum_sq_probs: Array | None
    mean_logits: Array | None
    is_top1: npt.NDArray[np.bool_] | None


# The outputs that have a gradient, and those that need no sum but that of the exponentials.
DIFFERENTIABLE = ("log_probs", "entropy")
_PLAIN = frozenset(("log_probs", "logsumexp", "is_top1"))
# The columns of what the kernel finds, in the order of kernels.h.
LARGEST, LOGSUM, ENTROPY, LOG_PROB, LOG_SUM_SQ, MEAN, IS_TOP = range(_kernels.STATISTICS)


def _outputs(value: Any) -> tuple[str, ...]:
    """Check `outputs`: names of statistics, each at most once."""
    fields = TokenStatistics._fields
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"outputs must be a tuple of names, got {value!r}")
    names = tuple(value)
    if not names:
        raise ValueError(f"outputs must name at least one of {', '.join(fields)}; got {value!r}")
    for name in names:
        if name not in fields:
            raise ValueError(f"outputs must be among {', '.join(fields)}; got {name!r}")
    if len(set(names)) < len(names):
        raise ValueError(f"outputs must name each statistic once, got {value!r}")
    return names


@dataclass
class Wanted:
    """The outputs of a call, and the upstream gradients of log_probs and of entropy."""

    outputs: tuple[str, ...]
    scales: tuple[float, float]
    upstreams: tuple[Array | None, Array | None]

    def has_all(self) -> bool:
        """Return whether more than the log-probabilities is wanted."""
        return self.scales[1] != 0.0 or not _PLAIN.issuperset(self.outputs)

    def flat(self) -> Wanted:
        """Return the same with upstream gradients of flattened rows."""
        first, second = (None if one is None else one.reshape(-1) for one in self.upstreams)
        return Wanted(self.outputs, self.scales, (first, second))

    def run(self, x: Array, axis: int, found: Array, rows: Any = None, **more: Any) -> int:
        """Call the kernel, with the upstream gradients of some of the rows."""
        first, second = (a if a is None or rows is None else a[rows] for a in self.upstreams)
        return _kernels.statistics(
            x, axis, found, grad_output=(first, second), grad_scale=self.scales, has_all=self.has_all(),
            **more,
        )  # fmt: skip

    def taken(self, found: Array, rows: tuple[int, ...], x: Array, temperature: float) -> TokenStatistics:
        """Return the outputs from what the kernel has found."""
        values: dict[str, Any] = dict.fromkeys(TokenStatistics._fields)
        for name in self.outputs:
            if name == "is_top1":
                values[name] = (found[:, IS_TOP] != 0.0).reshape(rows)
                continue
            if name == "logsumexp":
                column = found[:, LARGEST] / temperature + found[:, LOGSUM]
            else:
                column = found[:, _COLUMNS[name]]
            values[name] = np.array(as_loss(column.reshape(rows), x))
        return TokenStatistics(**values)


_COLUMNS = {"log_probs": LOG_PROB, "entropy": ENTROPY, "log_sum_sq_probs": LOG_SUM_SQ, "mean_logits": MEAN}


def wanted(outputs: Any, grad_output: Any, return_grad: Any, rows: tuple[int, ...]) -> Wanted:
    """Check `outputs` and `grad_output`, a tuple of two upstream gradients."""
    names = _outputs(outputs)
    return_grad = arguments.flag("return_grad", return_grad)
    if return_grad and not set(DIFFERENTIABLE).intersection(names):
        raise ValueError(f"return_grad needs {' or '.join(DIFFERENTIABLE)} among the outputs, got {names}")
    if grad_output is None:
        of_log_probs, of_entropy = (float(return_grad and name in names) for name in DIFFERENTIABLE)
        return Wanted(names, (of_log_probs, of_entropy), (None, None))
    if not isinstance(grad_output, tuple) or len(grad_output) != len(DIFFERENTIABLE):
        raise TypeError(
            f"grad_output must be a tuple of two ({', '.join(DIFFERENTIABLE)}), None for one that has none; "
            f"got {type(grad_output).__name__}"
        )
    scales, arrays = [], []
    for name, value in zip(DIFFERENTIABLE, grad_output, strict=True):
        if value is not None and name not in names:
            raise ValueError(f"grad_output.{name} must be None: {name} is not among the outputs")
        scale, array = upstream(value, rows, return_grad, f"grad_output.{name}")
        scales.append(0.0 if value is None else scale)
        arrays.append(array)
    return Wanted(names, (scales[0], scales[1]), (arrays[0], arrays[1]))


def statistics_of_rows(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    return_grad: Any,
    grad_output: Any,
    out: Any,
    options: dict[str, Any],
    *,
    axis: Any,
    outputs: Any,
    ignore_index: Any,
    own: dict[str, Any],
) -> Any:
    """Check and run `token_statistics`; `own` are its softmax options."""
    x = arguments.floating("logits", logits)
    axis = arguments.class_axis(axis, x, "logits")
    rows, classes = arguments.rows_and_classes(x, axis)
    softmax, _ = softmax_options(own)
    given = arguments.as_array("target", target)
    indices, ignored = arguments.class_indices(
        given, x.shape, axis, arguments.index("ignore_index", ignore_index)
    )
    asked = wanted(outputs, grad_output, return_grad, rows)
    call = request(
        ("logits",), (x,), (given, *arrays_of(grad_output)), rows, "none", return_grad, out, options
    )  # fmt: skip
    found = np.zeros((math.prod(rows), _kernels.STATISTICS))
    first_bad = asked.run(
        x, axis, found, indices=indices, ignored=ignored, output=call.buffers[0],
        accumulate=call.accumulate[0], threads=call.num_threads, **softmax,
    )  # fmt: skip
    if first_bad >= 0:
        raise arguments.bad_class_index(given, first_bad, classes)
    statistics = asked.taken(found, rows, x, softmax["temperature"])
    return (statistics, call.buffers[0]) if call.return_grad else statistics


def arrays_of(grad_output: Any) -> list[Array]:
    """Return the arrays among two upstream gradients, which a buffer must not overlap."""
    return [one for one in grad_output or () if isinstance(one, np.ndarray)]


# --- of a linear layer ---


@dataclass
class StatisticsCall(Call):
    """A call for the statistics of the logits of a linear layer; what is found takes the place of losses."""

    wanted: Wanted

    def chunk(self, rows: Any, bands: list[slice], room: Array, sums: Any, *, is_known: bool) -> Array:
        """Run some rows and return their statistics, as the kernel writes them."""
        x, has_gradients = self.inputs(rows), self.has_gradients()
        found = np.zeros((len(x), _kernels.STATISTICS))
        if len(bands) == 1:
            z = self.logits(x, bands[0], room, is_known=is_known)
            self._run(rows, bands[0], z, found, output=z if has_gradients else None)
            if has_gradients:
                sums.add(rows, bands[0], x, z)
            return found
        seen = np.zeros((len(bands), *found.shape))
        for band, one in zip(bands, seen, strict=True):
            self._run(rows, band, self.logits(x, band, room, is_known=False), one, has_elsewhere=True)
        homes = np.array([self.target_in(rows, band)["indices"] >= 0 for band in bands])
        sizes = np.array([band.stop - band.start for band in bands])
        found = _merged(seen, homes, sizes, self.options["temperature"])
        for band in bands if has_gradients else ():
            z = self.logits(x, band, room, is_known=False)
            self._run(rows, band, z, found, output=z, has_elsewhere=True, is_given=True)
            sums.add(rows, band, x, z)
        return found

    def _run(self, rows: Any, band: slice, z: Array, found: Array, **more: Any) -> None:
        self.wanted.run(
            z, 1, found, rows, indices=self.target_in(rows, band)["indices"],
            threads=arguments.threads(self.num_threads), **self.options, **more,
        )  # fmt: skip


def _merged(seen: Array, homes: npt.NDArray[np.bool_], sizes: Array, temperature: float) -> Array:
    """Return the statistics of rows from those of their bands, with shape (bands, rows, statistics).

    `homes` says which band has the target of a row, `sizes` are the numbers of classes. With lse_b the
    log-sum-exp of a band and p_b = exp(lse_b - lse) its probability,

        H = sum_b p_b (H_b + lse - lse_b)        log sum p^2 = log sum_b exp(log sum_b p^2 + 2 (lse_b - lse))

    in which nothing cancels; lse - lse_b = log(1 + e^(lse of the others - lse_b)), as in `bands`.
    """
    of = np.moveaxis(seen, -1, 0)
    found = np.zeros(seen.shape[1:])
    largest = of[LARGEST].max(axis=0)
    lse = (of[LARGEST] - largest) / temperature + of[LOGSUM]  # relative to the largest
    ahead = np.logaddexp(0.0, others(lse) - lse)
    share = np.exp(-ahead)
    found[:, LARGEST] = largest
    found[:, LOGSUM] = np.where(np.isinf(largest), 0.0, np.logaddexp.reduce(lse, axis=0))
    found[:, ENTROPY] = np.where(share == 0.0, 0.0, share * (of[ENTROPY] + ahead)).sum(axis=0)
    squares = np.where(share == 0.0, -np.inf, of[LOG_SUM_SQ] - 2.0 * ahead)
    found[:, LOG_SUM_SQ] = np.logaddexp.reduce(squares, axis=0)
    own = np.where(ahead == np.inf, -np.inf, of[LOG_PROB] - ahead)  # inf: all of the band is masked
    found[:, LOG_PROB] = np.where(homes, own, 0.0).sum(axis=0)
    found[:, MEAN] = (of[MEAN] * sizes[:, np.newaxis]).sum(axis=0) / sizes.sum()
    before = np.maximum.accumulate(of[LARGEST], axis=0)[:-1] < largest
    is_first = np.concatenate((np.ones((1, len(found)), np.bool_), before))
    found[:, IS_TOP] = (homes & (of[IS_TOP] != 0.0) & (of[LARGEST] == largest) & is_first).any(axis=0)
    return found
