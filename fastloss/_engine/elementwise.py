"""What the elementwise losses share: arguments, one call of the kernels, reductions.

Each loss is a line of ``src/losses.def``; the functions of ``regression``, ``binary`` and ``penalty`` give it
a name, its options and its documentation.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastloss import _kernels
from fastloss._engine import arguments
from fastloss._engine.conversion import cast, is_bfloat16
from fastloss._engine.settings import get_num_threads
from fastloss._engine.types import Array

__all__ = [
    "WIDE",
    "GaussianNLLGradients",
    "computed_in",
    "elementwise",
    "gaussian",
    "outside",
    "penalty",
    "two",
]

_ANYTHING = (_kernels.ANY,) * 3
# Computed in double from any type: an exponential magnifies what a product before it has rounded.
WIDE = {"tweedie", "tweedie_beyond", "focal"}


class GaussianNLLGradients(NamedTuple):
    """The gradients of `gaussian_nll_loss`; None where none was wanted."""

    input: Array | None
    var: Array | None


def outside(name: str, values: Array, position: tuple[int, ...], domain: int) -> ValueError:
    """The error for a value that lies outside of a domain."""
    where = f"{name}[{', '.join(map(str, position))}]" if position else name
    value = cast(values[position], np.float32) if is_bfloat16(values.dtype) else values[position]
    return ValueError(f"{where} is {value}: expected a value {_kernels.EXPECTED[domain]}")


def _domains(kernel: str, target: int, parameters: tuple[float, ...]) -> tuple[int, int, int]:
    """What input, target and third array may be."""
    if kernel == "binary":
        return _kernels.UNIT, target, _kernels.ANY
    if kernel.startswith("tweedie") and parameters[0] >= 1:
        target = _kernels.STRICTLY_POSITIVE if parameters[0] >= 2 else _kernels.NONNEGATIVE
    return _kernels.ANY, target, _kernels.ANY


def two(parameters: tuple[float, ...]) -> tuple[float, float]:
    """The parameters a and b of a line of losses.def, 0 where it has fewer."""
    return (*parameters, 0.0, 0.0)[:2]  # type: ignore[return-value]


def _operand(
    name: str, value: npt.ArrayLike, x: Array, dtype: npt.DTypeLike | None = None
) -> tuple[Array | None, float]:
    """Return an array of the shape of `x` and of a type, by default that of `x`; or None and a scalar."""
    array = arguments.floating(name, value)
    if array.ndim == 0 and x.ndim:
        return None, float(cast(array, np.float64))
    if array.shape != x.shape:
        raise ValueError(
            f"{name} must be a scalar or have the shape of the input, {x.shape}; got {array.shape}"
        )
    return cast(array, dtype or x.dtype), 0.0


def computed_in(x: Array) -> npt.DTypeLike:
    """The type that an elementwise loss of `x` is computed in, but for those that are `WIDE`."""
    return np.float64 if x.dtype == np.float64 else np.float32


def _factors(name: str, value: npt.ArrayLike | None, shape: tuple[int, ...], x: Array) -> Array | None:
    """Return weights in the type that `x` is computed in, spread out if scalar."""
    if value is None:
        return None
    array = arguments.floating(name, value)
    if array.ndim and array.shape != shape:
        raise ValueError(f"{name} must be a scalar or have shape {shape}, got {array.shape}")
    array = cast(array, computed_in(x))
    return array if array.shape == shape else np.broadcast_to(array, shape)


def _run(
    kernel: str,
    name: str,
    x: Array,
    target: npt.ArrayLike,
    *,
    parameters: tuple[float, float],
    third: tuple[str, Array | None, float],
    weight: npt.ArrayLike | None,
    mean_over_weights: bool,
    reduction: str,
    return_grad: Any,
    grad_output: npt.ArrayLike | None,
    first: Array | None,
    second: Array | None,
    is_fresh: bool,
    accumulate: int,
    num_threads: int | None,
    domains: tuple[int, int, int],
) -> float | Array:
    """Run a line of losses.def with checked arguments and return the loss."""
    line, _ = _kernels.ELEMENTWISE[kernel]
    t, target_value = _operand("target", target, x)
    third_name, extra, extra_value = third
    for value_name, value, array, domain in (
        ("target", target_value, t, domains[1]),
        (third_name, extra_value, extra, domains[2]),
    ):
        if array is None and domain and _kernels.is_outside(domain, value):
            raise outside(value_name, np.asarray(value), (), domain)
    weights = _factors("weight", weight, x.shape, x)
    loss_shape = x.shape if reduction == "none" else ()
    scale, upstream = arguments.upstream(grad_output, loss_shape, return_grad)
    losses = None
    if reduction == "none":
        losses = np.empty(x.shape, computed_in(x))
    wide = x.dtype == np.float64 or kernel in WIDE
    a, b = parameters
    arrays = (x, t, extra, weights, _factors("grad_output", upstream, x.shape, x), first, second, losses)
    bad, position, total, denominator = _kernels.elementwise(
        line, wide, arrays, domains, target_value, extra_value, a, b, scale, is_fresh, reduction == "mean",
        mean_over_weights, accumulate, arguments.threads(num_threads),
    )  # fmt: skip
    if bad >= 0:
        bad_array = arrays[bad]
        assert bad_array is not None
        raise outside((name, "target", third_name)[bad], bad_array, position, domains[bad])
    if losses is not None:
        return losses
    return total if reduction == "sum" else arguments.mean(total, denominator)


def elementwise(
    kernel: str,
    name: str,
    values: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    parameters: tuple[float, ...] = (),
    extra: npt.ArrayLike | None = None,
    extra_name: str = "",
    weight: npt.ArrayLike | None = None,
    mean_over_weights: bool = True,
    check_domain: bool = False,
    inputs: tuple[Any, ...] = (),
    reduction: str,
    return_grad: Any,
    return_hessian: Any = False,
    grad_output: npt.ArrayLike | None,
    out: Any,
    accumulate: Any,
    num_threads: int | None,
) -> Any:
    """Check, run and reduce a loss whose gradient is that of its first argument.

    `inputs` are further arrays from which `out` must be apart.
    """
    line, domain = _kernels.ELEMENTWISE[kernel]
    domains = _domains(kernel, domain, parameters)
    if not arguments.flag("check_domain", check_domain):
        domains = _ANYTHING
    a, b = two(parameters)
    if (
        weight is extra is grad_output is num_threads is None
        and accumulate is return_hessian is False
        and not inputs
    ):
        plain = _kernels.plain_elementwise(
            line, kernel in WIDE, domains[0], domains[1], a, b, values, target, reduction, return_grad, out,
            get_num_threads,
        )  # fmt: skip
        if plain is not None:
            return plain
    arguments.reduction(reduction)
    return_hessian = arguments.flag("return_hessian", return_hessian)
    seen = arguments.as_array(name, values)
    x = arguments.floating(name, seen)
    target = arguments.as_array("target", target)
    weight = arguments.given("weight", weight)
    grad_output = arguments.given("grad_output", grad_output)
    extra = arguments.given(extra_name, extra)
    third: tuple[str, Array | None, float] = (extra_name, None, 1.0)
    if extra is not None:
        third = (extra_name, *_operand(extra_name, extra, x, computed_in(x)))
    (first,), (is_added,) = arguments.gradient_buffers(
        out, (name,), (x,), (target, weight, grad_output, extra, *inputs), given=(seen,),
        return_grad=return_grad, accumulate=accumulate,
    )  # fmt: skip
    if return_hessian and first is None:
        raise ValueError("return_hessian needs return_grad=True")
    # A hessian is always new.
    second = np.empty(x.shape, x.dtype) if return_hessian else None
    loss = _run(
        kernel, name, x, target, parameters=(a, b), third=third, weight=weight,
        mean_over_weights=mean_over_weights, reduction=reduction, return_grad=return_grad,
        grad_output=grad_output, first=first, second=second, is_fresh=out is None, accumulate=is_added,
        num_threads=num_threads, domains=domains,
    )  # fmt: skip
    if not return_grad:
        return loss
    return (loss, first, second) if return_hessian else (loss, first)


def gaussian(
    values: npt.ArrayLike,
    target: npt.ArrayLike,
    var: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None,
    full: Any,
    eps: float,
    check_domain: Any,
    reduction: str,
    return_grad: Any,
    grad_output: npt.ArrayLike | None,
    out: Any,
    accumulate: Any,
    num_threads: int | None,
) -> Any:
    """The one loss here with two gradients."""
    arguments.reduction(reduction)
    seen = [arguments.as_array("input", values), arguments.as_array("var", var)]
    x = arguments.floating("input", seen[0])
    target = arguments.as_array("target", target)
    weight = arguments.given("weight", weight)
    grad_output = arguments.given("grad_output", grad_output)
    constant = 0.5 * math.log(2.0 * math.pi) if arguments.flag("full", full) else 0.0
    third = ("var", *_operand("var", seen[1], x))
    (first, second), flags = arguments.gradient_buffers(
        out, GaussianNLLGradients._fields, (x, third[1]), (target, weight, grad_output), given=seen,
        return_grad=return_grad, accumulate=accumulate,
    )  # fmt: skip
    is_checked = arguments.flag("check_domain", check_domain)
    loss = _run(
        "gaussian", "input", x, target, parameters=(eps, constant), third=third, weight=weight,
        mean_over_weights=True, reduction=reduction, return_grad=return_grad, grad_output=grad_output,
        first=first, second=second, is_fresh=out is None, accumulate=flags[0] | flags[1] << 1,
        num_threads=num_threads,
        domains=(_kernels.ANY, _kernels.ANY, _kernels.NONNEGATIVE if is_checked else _kernels.ANY),
    )  # fmt: skip
    return (loss, GaussianNLLGradients(first, second)) if return_grad else loss


def penalty(
    kernel: str,
    params: npt.ArrayLike,
    parameters: tuple[float, float],
    *,
    reduction: str,
    return_grad: Any,
    grad_output: npt.ArrayLike | None,
    out: Any,
    accumulate: Any,
    num_threads: int | None,
) -> Any:
    """A loss of its first argument alone."""
    return elementwise(
        kernel, "params", params, 0.0, parameters=parameters, reduction=reduction, return_grad=return_grad,
        grad_output=grad_output, out=out, accumulate=accumulate, num_threads=num_threads,
    )  # fmt: skip
