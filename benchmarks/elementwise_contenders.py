"""What is timed of an elementwise loss: the memory limit, fastloss, and the peers, each checked.

The limit of value and gradient is a subtraction of the two arrays into a third by all threads (two reads and
a write), that of the value alone `numpy.dot` of the two. NumPy has no fast arithmetic for half types: there
the limit takes the same number of bytes as integers, and for the dot as float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

import fastloss
from benchmarks import contenders
from benchmarks.cases import JAX, LIMIT, OURS, SKLEARN, TORCH
from benchmarks.contenders import (
    OUR_TOLERANCE,
    PEER_TOLERANCE,
    Contender,
    UnavailableError,
    imported,
    require_equal,
    shared,
    torch_compiled,
    torch_tensor,
)
from benchmarks.elementwise_cases import COMPILED, SERIAL, UNCHECKED, Problem

__all__ = ["build", "subtraction"]

Array = npt.NDArray[Any]

# The largest error of a peer's gradient, by type: nothing is summed in it, but PyTorch rounds every step.
SLOPE_TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "float16": 1e-2, "bfloat16": 3e-2}
# Where the limit is checked: at one element of so many.
SAMPLE = slice(None, None, 4096)
# A Python float: compilers make neither an array nor a wider type of it.
LOG_2 = math.log(2.0)


def _threads(problem: Problem) -> int:
    """Of everyone who can be told: for little to do one, as waking a second costs more than it saves."""
    return problem.threads if problem.case.size >= SERIAL else 1


# --- the memory limit ---


def subtraction(name: str, threads: int, *arrays: Array) -> Contender:
    """Of the first two arrays, into the third."""

    def check(_: Any) -> None:
        samples = [array.reshape(-1)[SAMPLE] for array in arrays]
        x, t, difference = (part.view(np.uint16) if part.itemsize == 2 else part for part in samples)
        require_equal(difference, x - t)

    return Contender(name, shared(threads, np.subtract, *arrays), check)


def _subtraction(problem: Problem, name: str) -> Contender:
    return subtraction(name, _threads(problem), problem.input, problem.target, problem.out)


def _dot(problem: Problem, name: str) -> Contender:
    x, t = problem.input, problem.target
    if x.itemsize == 2:
        x, t = (np.ones(x.nbytes // 4, dtype=np.float32) for _ in range(2))
    products = x * t
    expected, bound = products.sum(dtype=np.float64), 1e-3 * np.abs(products).sum(dtype=np.float64)

    def check(result: Any) -> None:
        require_equal(abs(float(result) - expected) <= bound, True)

    return Contender(name, partial(np.dot, x, t), check)


def _limit(problem: Problem, name: str) -> Contender:
    return (_dot if problem.case.is_value else _subtraction)(problem, name)


# --- fastloss ---


def _fastloss(problem: Problem, name: str, **options: Any) -> Contender:
    """Ours, through the public function; the gradient into a buffer that is kept."""
    case = problem.case
    options |= case.row.options
    if not case.is_value:
        options |= {"return_grad": True, "out": problem.out}
        if case.scale != 1.0:
            options["grad_output"] = case.scale
    # The loss is a Python float, whatever the type of the input.
    loss_tolerance = OUR_TOLERANCE["float64" if case.dtype == "float64" else "float32"]

    def check(result: Any) -> None:
        loss, grad = (result, None) if case.is_value else result
        problem.check(loss, grad, OUR_TOLERANCE[case.dtype], loss_tolerance=loss_tolerance)

    call = partial(getattr(fastloss, case.row.loss), problem.input, problem.target, **options)
    return Contender(name, call, check)


def _unchecked(problem: Problem, name: str) -> Contender:
    """Without the check that every target lies in the domain of the loss."""
    return _fastloss(problem, name, check_domain=False)


# --- the peers ---


def _check_peer(problem: Problem, loss: float, grad: Array | None, scale: float = 1.0) -> None:
    dtype = problem.case.dtype
    problem.check(loss, grad, SLOPE_TOLERANCE[dtype], loss_tolerance=PEER_TOLERANCE[dtype], scale=scale)


def _torch_function(torch: Any, problem: Problem) -> Callable[..., Any]:
    """The loss of `torch.nn.functional`, or one as its users write it."""

    def log_cosh_loss(x: Any, t: Any) -> Any:
        r = x - t
        return (r + torch.nn.functional.softplus(-2.0 * r) - LOG_2).mean()

    def quantile_loss(x: Any, t: Any, quantile: float) -> Any:
        r = x - t
        return torch.maximum((1.0 - quantile) * r, -quantile * r).mean()

    functions: dict[str, Callable[..., Any]] = vars(torch.nn.functional).copy()
    functions.update(log_cosh_loss=log_cosh_loss, quantile_loss=quantile_loss)
    return functions[problem.case.row.loss]


def _torch(problem: Problem, name: str, compiled: bool = False) -> Contender:
    """Forward and backward to a leaf whose gradient starts as None; or the forward alone."""
    torch = imported("torch")
    case = problem.case
    torch.set_num_threads(_threads(problem))
    function = _torch_function(torch, problem)
    if compiled:
        function = torch_compiled(torch, function)
    function = partial(function, **case.row.options)
    x = torch_tensor(torch, problem.input).detach().requires_grad_(not case.is_value)
    t = torch_tensor(torch, problem.target)
    upstream = torch.tensor(case.scale, dtype=x.dtype) if case.scale != 1.0 else None

    def forward() -> tuple[float, None]:
        return function(x, t).item(), None

    def forward_and_backward() -> tuple[float, Any]:
        x.grad = None
        loss = function(x, t)
        loss.backward(upstream)
        return loss.item(), x.grad

    def check(result: tuple[float, Any]) -> None:
        loss, grad = result
        _check_peer(problem, loss, None if grad is None else grad.double().numpy())

    return Contender(name, forward if case.is_value else forward_and_backward, check)


def _torch_compile(problem: Problem, name: str) -> Contender:
    return _torch(problem, name, compiled=True)


def _jax_huber(jnp: Any, x: Any, t: Any) -> Any:
    s = jnp.abs(x - t)
    return jnp.mean(jnp.where(s <= 1.0, 0.5 * s * s, s - 0.5))


def _jax_quantile(jnp: Any, x: Any, t: Any, quantile: float) -> Any:
    r = x - t
    return jnp.mean(jnp.maximum((1.0 - quantile) * r, -quantile * r))


def _jax_log_cosh(jnp: Any, x: Any, t: Any) -> Any:
    r = x - t
    return jnp.mean(jnp.logaddexp(r, -r) - LOG_2)


# JAX itself has no losses: by row, as its users write them.
JAX_LOSSES: dict[str, Callable[..., Any]] = {
    "mse": lambda jnp, x, t: jnp.mean((x - t) ** 2),
    "l1": lambda jnp, x, t: jnp.mean(jnp.abs(x - t)),
    "huber": _jax_huber,
    "smooth-l1": _jax_huber,
    "quantile": _jax_quantile,
    "logits": lambda jnp, x, t: jnp.mean(jnp.logaddexp(0.0, x) - t * x),
    "soft-margin": lambda jnp, x, t: jnp.mean(jnp.logaddexp(0.0, -t * x)),
    "log-cosh": _jax_log_cosh,
    "poisson": lambda jnp, x, t: jnp.mean(jnp.exp(x) - t * x),
}


def _jax_function(jax: Any, problem: Problem) -> Callable[..., Any]:
    """The value, or the value and its gradient; half types are computed in float32, as ours are."""
    case, jnp = problem.case, jax.numpy
    mean = JAX_LOSSES[case.row.name]
    wide = jnp.float64 if case.dtype == "float64" else jnp.float32

    def loss(x: Any, t: Any) -> Any:
        return case.scale * mean(jnp, x.astype(wide), t.astype(wide), **case.row.options)

    compiled: Callable[..., Any] = jax.jit(loss if case.is_value else jax.value_and_grad(loss))
    return compiled


def _jax(problem: Problem, name: str) -> Contender:
    """One compiled function, the loss and its gradient together, on its own arrays; waits for the result."""
    jax = imported("jax")
    case = problem.case
    # Without, JAX makes float32 of float64.
    setting = partial(jax.enable_x64, case.dtype == "float64")
    with setting():
        arguments = [jax.device_put(problem.input), jax.device_put(problem.target)]
    function = _jax_function(jax, problem)

    def call() -> tuple[Any, Any]:
        result = jax.block_until_ready(function(*arguments))
        loss, grad = (result, None) if case.is_value else result
        return np.asarray(loss), None if grad is None else np.asarray(grad)

    def check(result: tuple[Any, Any]) -> None:
        _check_peer(problem, float(result[0]) / case.scale, result[1])

    return Contender(name, call, check, setting=setting)


def _sklearn(problem: Problem, name: str) -> Contender:
    """The loss inside its estimators (private: it may move), into buffers that are kept.

    It gives the loss of each element and the gradient of their sum: the mean of the losses is part of the
    time, the division of the gradient is left to others.
    """
    case, row = problem.case, problem.case.row
    if row.sklearn is None:
        raise UnavailableError("scikit-learn has no such loss")
    if not case.has_sklearn:
        raise UnavailableError("scikit-learn has no half types")
    class_name, factor = row.sklearn
    try:
        loss = getattr(imported("sklearn._loss"), class_name)(**row.sklearn_options)
    except AttributeError as error:
        raise UnavailableError(f"scikit-learn has moved its loss: {error}") from error
    losses = np.empty_like(problem.input)
    options = {"loss_out": losses, "n_threads": _threads(problem)}

    def value() -> tuple[float, None]:
        loss.loss(problem.target, problem.input, **options)
        return float(losses.mean(dtype=np.float64)), None

    def value_and_gradient() -> tuple[float, Array]:
        loss.loss_gradient(problem.target, problem.input, gradient_out=problem.out, **options)
        return float(losses.mean(dtype=np.float64)), problem.out

    def check(result: tuple[float, Array | None]) -> None:
        _check_peer(problem, result[0] * factor, result[1], factor / case.size)

    return Contender(name, value if case.is_value else value_and_gradient, check)


# --- all of them ---

BUILDERS: dict[str, Callable[[Problem, str], Contender]] = {
    LIMIT: _limit,
    OURS: _fastloss,
    UNCHECKED: _unchecked,
    TORCH: _torch,
    COMPILED: _torch_compile,
    JAX: _jax,
    SKLEARN: _sklearn,
}


def build(name: str, problem: Problem) -> Contender:
    """The contender of that name, ready to run; `UnavailableError` says why there is none."""
    return contenders.build(name, problem, BUILDERS)
