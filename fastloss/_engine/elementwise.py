"""Run the elementwise losses: check arguments, call the kernels once, and reduce.

Each loss is a line of ``src/losses.def``. The functions of `fastloss.regression`, `fastloss.binary` and
`fastloss.penalty` add its name, options and documentation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastloss import _kernels
from fastloss._engine import arguments, results
from fastloss._engine.conversion import cast
from fastloss._engine.results import Request, request
from fastloss._engine.settings import get_num_threads
from fastloss._engine.types import Array
from fastloss._engine.workspace import empty

__all__ = [
    "WIDE",
    "GaussianNLLGradients",
    "MarginRankingGradients",
    "Operand",
    "averaged_over_classes",
    "computed_in",
    "crps",
    "elementwise",
    "factors",
    "focal_kernel",
    "gaussian",
    "intervals",
    "kl_divergence",
    "operand",
    "outside",
    "positive_weights",
    "quantiles",
    "ranking",
    "require_numbers_inside",
    "two",
]

_ANYTHING = (_kernels.ANY,) * 3
# Computed in double for any type: exponentials magnify the rounding errors of a product before them, and both
# may overflow; distribution functions are subtracted from each other.
WIDE = {"tweedie_beyond", "aft_normal", "aft_logistic", "aft_extreme"}
# The lines of losses.def: the number, the domain of targets, and whether there is one. That of Tweedie's loss
# depends on the power.
_LINES = {
    kernel: (line, domain, domain != _kernels.ANY or kernel.startswith("tweedie"))
    for kernel, (line, domain) in _kernels.ELEMENTWISE.items()
}


class GaussianNLLGradients(NamedTuple):
    """The gradients of `gaussian_nll_loss`; None for a gradient not wanted."""

    input: Array | None
    var: Array | None


class MarginRankingGradients(NamedTuple):
    """The gradients of `margin_ranking_loss`; None for a gradient not wanted."""

    input1: Array | None
    input2: Array | None


def outside(name: str, values: Array, position: tuple[int, ...], domain: int) -> ValueError:
    """Return the error for a value outside of its domain."""
    return arguments.bad_value(name, values, position, f"a value {_kernels.EXPECTED[domain]}")


def _domains(kernel: str, target: int, parameters: tuple[float, ...]) -> tuple[int, int, int]:
    """Return the domains of input, target and third array."""
    if kernel == "binary":
        return _kernels.UNIT, target, _kernels.ANY
    if kernel.startswith("tweedie") and parameters[0] >= 1:
        target = _kernels.STRICTLY_POSITIVE if parameters[0] >= 2 else _kernels.NONNEGATIVE
    return _kernels.ANY, target, _kernels.ANY


def focal_kernel(gamma: float) -> str:
    """Return the line of losses.def for a focal loss: a square needs no power."""
    return "focal_square" if gamma == 2.0 else "focal"


def two(parameters: tuple[float, ...]) -> tuple[float, float]:
    """Return the parameters a and b of a line of losses.def; a missing one is 0."""
    return (*parameters, 0.0, 0.0)[:2]  # type: ignore[return-value]


def operand(
    name: str, value: npt.ArrayLike, x: Array, dtype: npt.DTypeLike | None = None
) -> tuple[Array | None, float]:
    """Return an array with the shape of `x` and a dtype, by default that of `x`; or None and a scalar."""
    array = arguments.floating(name, value)
    if array.ndim == 0 and x.ndim:
        return None, float(cast(array, np.float64))
    if array.shape != x.shape:
        raise ValueError(
            f"{name} must be a scalar or have the shape of the input, {x.shape}; got {array.shape}"
        )
    return cast(array, dtype or x.dtype), 0.0


def computed_in(x: Array) -> npt.DTypeLike:
    """Return the type in which an elementwise loss of `x` is computed, unless it is one of `WIDE`."""
    return np.float64 if x.dtype == np.float64 else np.float32


def factors(name: str, value: npt.ArrayLike | None, shape: tuple[int, ...], x: Array) -> Array | None:
    """Return weights in the type of the computation for `x`; a scalar is broadcast."""
    if value is None:
        return None
    array = arguments.floating(name, value)
    if array.ndim and array.shape != shape:
        raise ValueError(f"{name} must be a scalar or have shape {shape}, got {array.shape}")
    array = cast(array, computed_in(x))
    return array if array.shape == shape else np.broadcast_to(array, shape)


class Operand(NamedTuple):
    """A further argument: an array, or None and a scalar; and the domain of its values."""

    name: str
    array: Array | None
    value: float
    domain: int


def require_numbers_inside(operands: Iterable[Operand]) -> None:
    """Check the arguments that are numbers; the kernels check arrays."""
    for name, array, value, domain in operands:
        if array is None and domain and _kernels.is_outside(domain, value):
            raise outside(name, np.asarray(value), (), domain)


def _run(
    kernel: str,
    name: str,
    x: Array,
    operands: tuple[Operand, Operand],
    weight: Array | None,
    parameters: tuple[float, float],
    call: Request,
    *,
    input_domain: int = _kernels.ANY,
    second: Array | None,
    is_fresh: bool,
    mean_over_weights: bool = True,
) -> results.Reduced:
    """Run a line of losses.def with checked arguments, and return the loss."""
    target, third = operands
    require_numbers_inside(operands)
    losses = empty(x.shape, computed_in(x), is_beside=call.return_grad) if call.reduction == "none" else None
    wide = x.dtype == np.float64 or kernel in WIDE
    arrays = (
        x, target.array, third.array, factors("weight", weight, x.shape, x),
        factors("grad_output", call.upstream, x.shape, x), call.buffers[0], second, losses,
    )  # fmt: skip
    domains = (input_domain, target.domain, third.domain)
    flags = call.accumulate
    bad, position, total, denominator = _kernels.elementwise(
        _kernels.ELEMENTWISE[kernel][0], wide, arrays, domains, target.value, third.value, *parameters,
        call.scale, is_fresh, call.reduction == "mean",
        mean_over_weights and call.reduction in ("mean", "sum_and_count"),
        flags[0] | flags[-1] << (len(flags) - 1), call.num_threads,
    )  # fmt: skip
    if bad >= 0:
        bad_array = arrays[bad]
        assert bad_array is not None
        raise outside((name, "target", third.name)[bad], bad_array, position, domains[bad])
    return losses if losses is not None else results.reduced(call.reduction, None, total, denominator, x)


def elementwise(
    kernel: str,
    name: str,
    values: npt.ArrayLike,
    target: npt.ArrayLike,
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: Any,
    *parameters: float,
    extra: npt.ArrayLike | None = None,
    extra_name: str = "",
    return_hessian: Any = False,
    has_weight: bool = True,
    mean_over_weights: bool = True,
    others: tuple[Any, ...] = (),
) -> Any:
    """Check, run and reduce a loss with a gradient for its first argument, called `name`.

    `options` are the parameters behind ``**common``, among them the weight of a loss that has one, and
    `check_domain` if the line has a domain. `parameters` are those of the line. `others` are further arrays
    that `out` must not overlap.
    """
    line, domain, is_checked = _LINES[kernel]
    weight: Any = None
    if options:
        weight = options.pop("weight", None) if has_weight else None
        if is_checked:
            is_checked = arguments.flag("check_domain", options.pop("check_domain", True))
    domains = _domains(kernel, domain, parameters) if is_checked else _ANYTHING
    a, b = two(parameters)
    if weight is extra is None and return_hessian is False and not options and not others:
        plain = _kernels.plain_elementwise(
            line, kernel in WIDE, domains[0], domains[1], a, b, values, target, reduction, return_grad, out,
            get_num_threads,
        )  # fmt: skip
        if plain is not None:
            return plain
    return_hessian = arguments.flag("return_hessian", return_hessian)
    seen = arguments.as_array(name, values)
    x = arguments.floating(name, seen)
    target = arguments.as_array("target", target)
    weight = arguments.given("weight", weight)
    extra = arguments.given(extra_name, extra)
    third = Operand(extra_name, None, 1.0, domains[2])
    if extra is not None:
        third = Operand(extra_name, *operand(extra_name, extra, x, computed_in(x)), domains[2])
    call = request(
        (name,), (x,), (target, weight, extra, *others), x.shape, reduction, return_grad, out, options,
        given=(seen,),
    )  # fmt: skip
    if return_hessian and not call.return_grad:
        raise ValueError("return_hessian needs return_grad=True")
    # A hessian is always a new array.
    second = empty(x.shape, x.dtype, is_beside=True) if return_hessian else None
    operands = Operand("target", *operand("target", target, x), domains[1]), third
    loss = _run(
        kernel, name, x, operands, weight, (a, b), call, input_domain=domains[0], second=second,
        is_fresh=out is None, mean_over_weights=mean_over_weights,
    )  # fmt: skip
    if not return_grad:
        return loss
    return (loss, call.buffers[0], second) if return_hessian else (loss, call.buffers[0])


def gaussian(
    values: npt.ArrayLike,
    target: npt.ArrayLike,
    var: npt.ArrayLike,
    weight: npt.ArrayLike | None,
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: Any,
    *,
    full: Any,
    eps: float,
    check_domain: Any,
) -> Any:
    """Run `gaussian_nll_loss`, which has gradients for its input and for its variance."""
    seen = [arguments.as_array("input", values), arguments.as_array("var", var)]
    x = arguments.floating("input", seen[0])
    target = arguments.as_array("target", target)
    weight = arguments.given("weight", weight)
    domain = _kernels.NONNEGATIVE if arguments.flag("check_domain", check_domain) else _kernels.ANY
    constant = 0.5 * math.log(2.0 * math.pi) if arguments.flag("full", full) else 0.0
    third = Operand("var", *operand("var", seen[1], x), domain)
    call = request(
        GaussianNLLGradients._fields, (x, third.array), (target, weight), x.shape, reduction, return_grad,
        out, options, given=seen,
    )  # fmt: skip
    operands = Operand("target", *operand("target", target, x), _kernels.ANY), third
    loss = _run(
        "gaussian", "input", x, operands, weight, (eps, constant), call, second=call.buffers[1],
        is_fresh=out is None,
    )  # fmt: skip
    return (loss, GaussianNLLGradients(*call.buffers)) if return_grad else loss


def intervals(
    kernel: str,
    values: npt.ArrayLike,
    lower: npt.ArrayLike,
    upper: npt.ArrayLike,
    weight: npt.ArrayLike | None,
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: Any,
    *,
    parameters: tuple[float, float],
    return_hessian: Any,
) -> Any:
    """Run a loss of an input and two bounds, which are kept in float64."""
    seen = arguments.as_array("input", values)
    x = arguments.floating("input", seen)
    given = [arguments.as_array("lower", lower), arguments.as_array("upper", upper)]
    bounds = [
        Operand(name, *operand(name, array, x, np.float64), _kernels.ANY)
        for name, array in zip(("lower", "upper"), given, strict=True)
    ]
    _require_intervals(*(np.asarray(b.value if b.array is None else b.array) for b in bounds))
    weight = arguments.given("weight", weight)
    return_hessian = arguments.flag("return_hessian", return_hessian)
    call = request(
        ("input",), (x,), (*given, weight), x.shape, reduction, return_grad, out, options, given=(seen,)
    )
    if return_hessian and not call.return_grad:
        raise ValueError("return_hessian needs return_grad=True")
    second = empty(x.shape, x.dtype, is_beside=True) if return_hessian else None
    loss = _run(
        kernel, "input", x, (bounds[0], bounds[1]), weight, parameters, call, second=second,
        is_fresh=out is None,
    )  # fmt: skip
    if not return_grad:
        return loss
    return (loss, call.buffers[0], second) if return_hessian else (loss, call.buffers[0])


def _require_intervals(lower: Array, upper: Array) -> None:
    """Check that 0 <= lower <= upper; NaN is an error."""
    if (is_bad := ~(lower >= 0.0)).any():
        raise arguments.first_bad_value("lower", lower, is_bad, "a bound of at least 0")
    if (is_bad := np.isnan(upper)).any():
        raise arguments.first_bad_value(
            "upper", upper, is_bad, "a bound of at least that of lower, or infinity"
        )
    if (is_bad := np.asarray(lower > upper)).any():
        position = tuple(int(i) for i in np.unravel_index(int(is_bad.argmax()), is_bad.shape))
        above = np.broadcast_to(upper, is_bad.shape)[position]
        lower = np.broadcast_to(lower, is_bad.shape)
        raise arguments.first_bad_value("lower", lower, is_bad, f"a bound of at most that of upper, {above}")


def _levels(quantile: npt.ArrayLike) -> Array:
    """Return quantiles as float64; they must be one or more numbers from 0 to 1 in an array of one axis."""
    levels = arguments.converted("quantile", quantile, np.float64)
    if levels.ndim != 1 or not levels.size:
        raise ValueError(f"an array of quantile must have shape (Q,) with Q > 0; got shape {levels.shape}")
    is_good = (levels >= 0.0) & (levels <= 1.0)
    if not is_good.all():
        raise arguments.first_bad_value("quantile", levels, ~is_good, "a number from 0 to 1")
    return levels


def _spread(array: Array, x: Array) -> Array:
    """Return numbers of the rows of `x` for each element; anything else unchanged, for the usual rules."""
    if array.ndim == 0 or array.shape != x.shape[:-1]:
        return array
    return np.broadcast_to(array[..., np.newaxis], x.shape)


def _of_quantiles(
    values: npt.ArrayLike, quantile: npt.ArrayLike, target: npt.ArrayLike
) -> tuple[Array, Array, Array, Array, Array]:
    """Return the input as given and as it is computed, the quantiles likewise, and the target of each row."""
    seen = arguments.as_array("input", values)
    x = arguments.floating("input", seen)
    quantile = arguments.as_array("quantile", quantile)
    levels = _levels(quantile)
    if x.shape[-1:] != levels.shape:
        raise ValueError(
            f"quantile must have a number for each prediction on the last axis of input, of shape {x.shape}; "
            f"got {levels.shape}"
        )
    target = arguments.as_array("target", target)
    if target.ndim and target.shape != x.shape[:-1]:
        raise ValueError(
            f"target must be a scalar or have the shape of the input without its last axis, {x.shape[:-1]}; "
            f"got {target.shape}"
        )
    return seen, x, quantile, levels, target


def _sides(levels: Array, target: Array, x: Array) -> tuple[Operand, Operand]:
    """Return the target and the quantile of each element, both without a copy."""
    sides = np.where((levels > 0.0) & (levels <= 0.5), levels, levels - 1.0).astype(computed_in(x))
    return (
        Operand("target", *operand("target", _spread(target, x), x), _kernels.ANY),
        Operand("quantile", np.broadcast_to(sides, x.shape), 0.0, _kernels.ANY),
    )


def quantiles(
    values: npt.ArrayLike,
    target: npt.ArrayLike,
    quantile: npt.ArrayLike,
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: Any,
    *,
    return_hessian: Any,
) -> Any:
    """Run `quantile_loss` with an array of quantiles, one for each element of the last axis of the input.

    Targets and weights of rows are broadcast along it without a copy, and so are the quantiles along the
    rows. The kernel has a quantile above 1/2 less 1, because the slope 1 - q would lose its digits near 0.
    """
    seen, x, quantile, levels, target = _of_quantiles(values, quantile, target)
    weight = arguments.given("weight", options.pop("weight", None))
    return_hessian = arguments.flag("return_hessian", return_hessian)
    call = request(
        ("input",), (x,), (target, weight, quantile), x.shape, reduction, return_grad, out, options,
        given=(seen,),
    )  # fmt: skip
    if return_hessian and not call.return_grad:
        raise ValueError("return_hessian needs return_grad=True")
    second = empty(x.shape, x.dtype, is_beside=True) if return_hessian else None
    operands = _sides(levels, target, x)
    weights = None if weight is None else _spread(weight, x)
    loss = _run(
        "quantiles", "input", x, operands, weights, (0.0, 0.0), call, second=second, is_fresh=out is None
    )
    if not return_grad:
        return loss
    return (loss, call.buffers[0], second) if return_hessian else (loss, call.buffers[0])


def _shares(levels: Array, quantile_weight: Array | None) -> Array:
    """Return the weights of the quantiles, by default those of the trapezoidal rule with 0 at both ends."""
    if quantile_weight is not None:
        return arguments.class_weight(quantile_weight, len(levels), "quantile_weight")
    is_bad = np.concatenate(([False], levels[1:] < levels[:-1]))
    if is_bad.any():
        raise arguments.first_bad_value(
            "quantile", levels, is_bad, "at least the number before it, or quantile_weight"
        )
    edges = np.concatenate(([0.0], levels, [1.0]))
    return 0.5 * (edges[2:] - edges[:-2])


def crps(
    values: npt.ArrayLike,
    target: npt.ArrayLike,
    quantile: npt.ArrayLike,
    quantile_weight: npt.ArrayLike | None,
    sample_weight: npt.ArrayLike | None,
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: Any,
) -> Any:
    """Run `crps_loss`: the quantile losses of a row, each times twice its weight, and added up."""
    seen, x, quantile, levels, target = _of_quantiles(values, quantile, target)
    quantile_weight = arguments.given("quantile_weight", quantile_weight)
    shares = 2.0 * _shares(levels, quantile_weight)
    sample_weight = arguments.given("sample_weight", sample_weight)
    rows = x.shape[:-1]
    of_rows = arguments.per_row("sample_weight", sample_weight, rows)
    call = request(
        ("input",), (x,), (target, quantile, quantile_weight, sample_weight), rows, reduction, return_grad,
        out, options, given=(seen,),
    )  # fmt: skip
    count = float(math.prod(rows) if of_rows is None else of_rows.sum())
    is_reduced = call.reduction != "none"
    scale, upstream = call.scale, call.upstream
    if call.reduction == "mean":
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = float(np.float64(scale) / count)
    if upstream is not None:
        upstream = np.broadcast_to(cast(upstream, computed_in(x))[..., np.newaxis], x.shape)
    shares = shares if of_rows is None else of_rows[..., np.newaxis] * shares
    weights = np.broadcast_to(cast(shares, computed_in(x)), x.shape)
    of_elements = call._replace(
        reduction="sum" if is_reduced else "none", scale=scale, upstream=upstream
    )  # fmt: skip
    found = _run(
        "quantiles", "input", x, _sides(levels, target, x), weights, (0.0, 0.0), of_elements, second=None,
        is_fresh=out is None,
    )  # fmt: skip
    losses = None if is_reduced else np.asarray(np.asarray(found).sum(axis=-1, dtype=np.float64))
    loss = results.reduced(call.reduction, losses, found, count, x)  # type: ignore[arg-type]
    return (loss, call.buffers[0]) if call.return_grad else loss


def ranking(
    input1: npt.ArrayLike,
    input2: npt.ArrayLike,
    target: npt.ArrayLike,
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: Any,
    *,
    margin: float,
    check_domain: Any,
) -> Any:
    """Run `margin_ranking_loss`, which has gradients for both inputs."""
    names = MarginRankingGradients._fields
    seen = [arguments.as_array(name, value) for name, value in zip(names, (input1, input2), strict=True)]
    x = arguments.floating(names[0], seen[0])
    target = arguments.as_array("target", target)
    domain = _kernels.SIGN if arguments.flag("check_domain", check_domain) else _kernels.ANY
    third = Operand(names[1], *operand(names[1], seen[1], x), _kernels.ANY)
    call = request(
        names, (x, third.array), (target,), x.shape, reduction, return_grad, out, options, given=seen
    )
    operands = Operand("target", *operand("target", target, x), domain), third
    loss = _run(
        "margin_ranking", names[0], x, operands, None, (margin, 0.0), call, second=call.buffers[1],
        is_fresh=out is None,
    )  # fmt: skip
    return (loss, MarginRankingGradients(*call.buffers)) if return_grad else loss


def positive_weights(value: npt.ArrayLike, x: Array) -> Array:
    """Return `pos_weight` as a scalar, or broadcast to the shape of `x`.

    It is a scalar, or has an entry for each class or for each element.
    """
    array = arguments.as_array("pos_weight", value)
    if array.shape not in ((), x.shape[-1:], x.shape):
        raise ValueError(
            f"pos_weight must be a scalar or have shape {x.shape[-1:]} or {x.shape}, got {array.shape}"
        )
    return np.broadcast_to(array, x.shape) if array.ndim else array


def averaged_over_classes(
    kernel: str,
    name: str,
    values: npt.ArrayLike,
    target: npt.ArrayLike,
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: Any,
    *parameters: float,
) -> Any:
    """Run an elementwise loss whose unreduced loss is the mean over the last axis, that of the class weights.

    The mean over rows of the means over classes is the mean over elements. The sum and the unreduced loss are
    sums over elements, divided by the number of classes, and so are their gradients.
    """
    results.check_reduction(reduction)
    x = arguments.floating(name, values)
    rows, classes = arguments.rows_and_classes(x, arguments.class_axis(-1, x, name))
    others: tuple[Any, ...] = ()
    if options.get("weight") is not None:
        weight = arguments.as_array("weight", options["weight"])
        others = (weight,)
        options["weight"] = np.broadcast_to(arguments.class_weight(weight, classes), x.shape)
    if reduction != "mean" and return_grad:
        grad_output = arguments.given("grad_output", options.get("grad_output"))
        others = (*others, grad_output)
        scale, upstream = results.upstream(grad_output, rows if reduction == "none" else (), return_grad)
        share: Any = scale / classes
        if upstream is not None:
            share = np.broadcast_to(upstream[..., np.newaxis] / classes, x.shape)
        options["grad_output"] = share
    result = elementwise(
        kernel, name, x, target, reduction, return_grad, out, options, *parameters, others=others,
        mean_over_weights=False,
    )  # fmt: skip
    if reduction == "mean":
        return result
    loss, *gradient = result if return_grad else (result,)
    if reduction == "none":
        loss = results.as_loss(np.asarray(loss.mean(axis=-1, dtype=np.float64)), x)
    elif reduction == "sum":
        loss = loss / classes
    else:
        total, count = loss
        loss = total / classes, count / classes
    return (loss, *gradient) if gradient else loss


def kl_divergence(
    values: npt.ArrayLike,
    target: npt.ArrayLike,
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: Any,
    *,
    log_target: Any,
) -> Any:
    """Run `kl_div`; its reduction "batchmean" divides the sum by the length of the first axis."""
    kernel = "kl_div_log" if arguments.flag("log_target", log_target) else "kl_div"
    results.check_reduction(reduction, "batchmean")
    if reduction != "batchmean":
        return elementwise(
            kernel, "input", values, target, reduction, return_grad, out, options, has_weight=False
        )
    x = arguments.floating("input", values)
    if x.ndim == 0:
        raise ValueError("input must have a first axis for reduction='batchmean', got a scalar")
    rows = x.shape[0]
    scale, _ = results.upstream(options.get("grad_output"), (), return_grad)
    if return_grad:
        options["grad_output"] = scale / rows if rows else scale
    result = elementwise(kernel, "input", values, target, "sum", return_grad, out, options, has_weight=False)
    total, *gradient = result if return_grad else (result,)
    loss = float(np.float64(total) / rows) if rows else math.nan
    return (loss, *gradient) if gradient else loss
