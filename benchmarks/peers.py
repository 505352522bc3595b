"""NumPy, PyTorch, JAX and scikit-learn, as their users write the losses."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .case import COMPILED, JAX, NUMPY, SKLEARN, TORCH, Case
from .contenders import Contender, UnavailableError, contender, imported
from .problem import Array, Problem

__all__ = ["SKLEARN_LOSSES", "torch_compiled", "torch_peer", "torch_tensor"]

# The teacher's share of js_div_with_logits, and the beta of dpo_loss: the defaults of fastloss.
JS_BETA, DPO_BETA = 0.5, 0.1
# A Python float: compilers turn it neither into an array nor into a wider type.
LOG_2 = math.log(2.0)


# --- NumPy ---


def _numpy_indices(
    logits: Array, target: Array, axis: int, smoothing: float, grad: bool, out: Array | None
) -> tuple[float, Array | None]:
    """Build the usual cross-entropy in float32; with `out`, in place if NumPy can."""
    classes, rows = logits.shape[axis], target.size
    index = np.expand_dims(target, axis)
    shifted = np.subtract(logits, logits.max(axis=axis, keepdims=True), out=out)
    reached = np.take_along_axis(shifted, index, axis)
    if smoothing:
        reached = (1.0 - smoothing) * reached
        reached += smoothing * shifted.mean(axis=axis, keepdims=True)
    exps = np.exp(shifted, out=out)
    total = exps.sum(axis=axis, keepdims=True)
    loss = float(np.mean(np.log(total) - reached))
    if not grad:
        return loss, None
    gradient = np.divide(exps, total * np.float32(rows), out=out)
    if smoothing:
        gradient -= np.float32(smoothing / classes / rows)
    at_target = np.take_along_axis(gradient, index, axis) - np.float32((1.0 - smoothing) / rows)
    np.put_along_axis(gradient, index, at_target, axis)
    return loss, gradient


def _numpy_probabilities(logits: Array, target: Array) -> tuple[float, Array]:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    exps = np.exp(shifted)
    total = exps.sum(axis=-1, keepdims=True)
    loss = float(np.sum(target * (np.log(total) - shifted)) / len(logits))
    return loss, (exps / total - target) / np.float32(len(logits))


def _numpy_values(function: str, logits: Array) -> tuple[None, Array]:
    top = logits.max(axis=-1, keepdims=True)
    shifted = logits - top
    exps = np.exp(shifted)
    total = exps.sum(axis=-1, keepdims=True)
    if function == "softmax":
        return None, np.asarray(exps / total)
    if function == "log_softmax":
        return None, np.asarray(shifted - np.log(total))
    return None, np.asarray((top + np.log(total))[..., 0])


def _numpy_through_float32(logits: Array, target: Array) -> tuple[float, Array]:
    """Convert to float32 and back, as NumPy has no bfloat16 arithmetic."""
    loss, grad = _numpy_indices(logits.astype(np.float32), target, -1, 0.0, True, None)
    assert grad is not None
    return loss, grad.astype(logits.dtype)


# The losses of elements and their slopes, as functions of prediction, target and options.
Pair = tuple[Callable[..., Array], Callable[..., Array]]
NUMPY_LOSSES: dict[str, Pair] = {
    "mse_loss": (lambda x, t: (x - t) ** 2, lambda x, t: 2.0 * (x - t)),
    "l1_loss": (lambda x, t: np.abs(x - t), lambda x, t: np.sign(x - t)),
    "huber_loss": (lambda x, t: _numpy_huber(x - t), lambda x, t: np.clip(x - t, -1.0, 1.0)),
    "smooth_l1_loss": (lambda x, t: _numpy_huber(x - t), lambda x, t: np.clip(x - t, -1.0, 1.0)),
    "quantile_loss": (
        lambda x, t, quantile: np.maximum((1.0 - quantile) * (x - t), quantile * (t - x)),
        lambda x, t, quantile: (x > t) - x.dtype.type(quantile),
    ),
    "binary_cross_entropy_with_logits": (
        lambda x, t: np.logaddexp(0.0, x) - t * x,
        lambda x, t: 1.0 / (1.0 + np.exp(-x)) - t,
    ),
    "soft_margin_loss": (
        lambda x, t: np.logaddexp(0.0, -t * x),
        lambda x, t: -t / (1.0 + np.exp(t * x)),
    ),
    "log_cosh_loss": (lambda x, t: np.logaddexp(x - t, t - x) - LOG_2, lambda x, t: np.tanh(x - t)),
    "poisson_nll_loss": (lambda x, t: np.exp(x) - t * x, lambda x, t: np.exp(x) - t),
}


def _numpy_huber(r: Array) -> Array:
    size = np.abs(r)
    return np.where(size <= 1.0, 0.5 * r * r, size - 0.5)


def _numpy_elements(problem: Problem, name: str) -> Contender:
    """Build loss and gradient; half types are converted to float32 and back."""
    case, (x, target) = problem.case, problem.arguments
    of_loss, of_slope = (partial(part, **case.options) for part in NUMPY_LOSSES[case.function])
    wide, factor = np.float32 if x.itemsize == 2 else x.dtype, 1.0 / x.size

    def call() -> tuple[float, Array | None]:
        given = [array.astype(wide, copy=False) for array in (x, target)]
        loss = float(np.mean(of_loss(*given)))
        if not case.has_gradient:
            return loss, None
        slope = of_slope(*given)
        slope *= factor if problem.upstream is None else factor * problem.upstream
        return loss, slope.astype(x.dtype, copy=False)

    return Contender(name, call, lambda result: problem.check(name, *result))


@contender(NUMPY)
def _numpy(problem: Problem, name: str) -> Contender:
    if problem.case.function in NUMPY_LOSSES:
        return _numpy_elements(problem, name)
    case, (logits, *others) = problem.case, problem.arguments
    target: Any = others[0] if others else None
    call: Callable[[], Any]
    before = None
    if case.mode == "values":
        call = partial(_numpy_values, case.function, logits)
    elif case.dtype == "bfloat16":
        call = partial(_numpy_through_float32, logits, target)
    elif target.ndim == logits.ndim:
        call = partial(_numpy_probabilities, logits, target)
    else:
        out = None
        if case.mode == "in place":
            logits = out = problem.arguments[0].copy()
            before = partial(np.copyto, out, problem.arguments[0])
        smoothing = case.options.get("label_smoothing", 0.0)
        call = partial(_numpy_indices, logits, target, case.axis, smoothing, case.has_gradient, out)
    return Contender(name, call, lambda result: problem.check(name, *result), before)


# --- PyTorch ---


def torch_tensor(torch: Any, array: Array) -> Any:
    """Return the same memory as a tensor. PyTorch accepts bfloat16 from NumPy only as integers."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def torch_compiled(torch: Any, function: Callable[..., Any]) -> Any:
    """Return the function compiled for the shapes of this row only, independent of earlier compilations."""
    imported("torch._dynamo").reset()
    return torch.compile(function, dynamic=False)


def _torch_written(torch: Any) -> dict[str, Callable[..., Any]]:
    """Return the losses that PyTorch lacks, in their usual form; Jensen-Shannon as in TRL."""
    functional = torch.nn.functional
    log_softmax, kl_div = partial(torch.log_softmax, dim=-1), partial(functional.kl_div, log_target=True)

    def log_cosh_loss(x: Any, t: Any) -> Any:
        r = x - t
        return (r + functional.softplus(-2.0 * r) - LOG_2).mean()

    def quantile_loss(x: Any, t: Any, quantile: float) -> Any:
        r = x - t
        return torch.maximum((1.0 - quantile) * r, -quantile * r).mean()

    def token_log_probs(logits: Any, target: Any) -> Any:
        return log_softmax(logits).gather(-1, target.unsqueeze(-1)).squeeze(-1)

    def kl_div_with_logits(student: Any, teacher: Any) -> Any:
        return kl_div(log_softmax(student), log_softmax(teacher), reduction="batchmean")

    def js_div_with_logits(student: Any, teacher: Any) -> Any:
        log_q, log_p = log_softmax(student), log_softmax(teacher)
        shares = [log_q + math.log(1.0 - JS_BETA), log_p + math.log(JS_BETA)]
        log_m = torch.logsumexp(torch.stack(shares), dim=0)
        of_p, of_q = (kl_div(log_m, log_of, reduction="none") for log_of in (log_p, log_q))
        return (JS_BETA * of_p + (1.0 - JS_BETA) * of_q).sum() / len(student)

    def tv_distance_with_logits(student: Any, teacher: Any) -> Any:
        difference = torch.softmax(student, -1) - torch.softmax(teacher, -1)
        return 0.5 * difference.abs().sum(-1).mean()

    def dpo_loss(chosen: Any, rejected: Any, ref_chosen: Any, ref_rejected: Any) -> Any:
        difference = (chosen - rejected) - (ref_chosen - ref_rejected)
        return -functional.logsigmoid(DPO_BETA * difference).mean()

    def linear_kl_div(x: Any, w: Any, teacher: Any, teacher_weight: Any) -> Any:
        return kl_div_with_logits(functional.linear(x, w), functional.linear(teacher, teacher_weight))

    def sparsemax_loss(logits: Any, target: Any) -> Any:
        ordered = logits.sort(dim=-1, descending=True).values
        count = torch.arange(1, logits.shape[-1] + 1)
        excess = ordered.cumsum(-1) - 1.0
        k = (count * ordered > excess).sum(-1, keepdim=True)
        tau = excess.gather(-1, k - 1) / k
        squares = torch.where(logits > tau, logits**2 - tau**2, 0.0).sum(-1)
        return (0.5 * squares - logits.gather(-1, target[:, None])[:, 0] + 0.5).mean()

    divergences = (kl_div_with_logits, js_div_with_logits, tv_distance_with_logits, linear_kl_div)
    written = (log_cosh_loss, quantile_loss, token_log_probs, *divergences, dpo_loss, sparsemax_loss)
    return {function.__name__: function for function in written}


def _torch_function(torch: Any, case: Case) -> Any:
    """Return the loss as a function of tensors."""
    written = _torch_written(torch).get(case.function)
    return written or getattr(torch.nn.functional, case.function)


def _torch_values(problem: Problem, torch: Any, name: str) -> Contender:
    options = {"out": torch_tensor(torch, problem.out)} if problem.case.reused else {}
    function = getattr(torch, problem.case.function)
    call = partial(function, torch_tensor(torch, problem.arguments[0]), -1, **options)
    return Contender(name, call, lambda values: problem.check(name, None, values.numpy()))


def _torch_gradient(leaf: Any, dtype: str) -> Array:
    grad = leaf.grad if dtype in ("float32", "float64") else leaf.grad.float()
    return np.asarray(grad.numpy())


@contender(TORCH, COMPILED)
def torch_peer(problem: Problem, name: str, function: Callable[..., Any] | None = None) -> Contender:
    """Build forward and backward to leaves whose gradients start as None, or the forward alone."""
    torch = imported("torch")
    case = problem.case
    torch.set_num_threads(problem.threads)
    if case.mode == "in place" or (case.mode == "values" and name == COMPILED):
        raise UnavailableError("PyTorch cannot")
    if case.mode == "values":
        return _torch_values(problem, torch, name)
    if case.axis not in (1, len(problem.shape) - 1, -1):
        raise UnavailableError("PyTorch's class dimension is the second")
    try:
        function = function or _torch_function(torch, case)
    except AttributeError as error:
        raise UnavailableError(f"this PyTorch has none: {error}") from error
    if name == COMPILED:
        function = torch_compiled(torch, function)
    function = partial(function, **case.options)
    tensors = [torch_tensor(torch, array).detach() for array in problem.arguments]
    leaves = [tensors[k] for k in problem.differentiable] if case.has_gradient else []
    for leaf in leaves:
        leaf.requires_grad_()
    upstream = None
    if problem.upstream is not None:
        upstream = torch.as_tensor(problem.upstream, dtype=tensors[0].dtype)

    def forward() -> Any:
        with torch.no_grad():
            return function(*tensors)

    def forward_and_backward() -> Any:
        for leaf in leaves:
            leaf.grad = None
        loss = function(*tensors)
        loss.backward(upstream)
        return loss.detach()

    def check(loss: Any) -> None:
        gradients = tuple(_torch_gradient(leaf, case.dtype) for leaf in leaves)
        problem.check(name, loss.double().numpy(), gradients)

    return Contender(name, forward_and_backward if leaves else forward, check)


# --- JAX ---


def _jax_losses(jax: Any) -> dict[str, Callable[..., Any]]:
    """Return the losses in their usual form: JAX itself has none."""
    jnp = jax.numpy

    def huber(x: Any, t: Any) -> Any:
        s = jnp.abs(x - t)
        return jnp.mean(jnp.where(s <= 1.0, 0.5 * s * s, s - 0.5))

    def quantile(x: Any, t: Any, quantile: float) -> Any:
        r = x - t
        return jnp.mean(jnp.maximum((1.0 - quantile) * r, -quantile * r))

    def cross_entropy(logits: Any, target: Any, axis: int = -1, label_smoothing: float = 0.0) -> Any:
        """Compute log-sum-exp minus the target's logit, as Optax does."""
        if target.ndim == logits.ndim:
            return -(target * jax.nn.log_softmax(logits, axis)).sum(axis).mean()
        reached = jnp.take_along_axis(logits, jnp.expand_dims(target, axis), axis).squeeze(axis)
        if label_smoothing:
            reached = (1.0 - label_smoothing) * reached + label_smoothing * logits.mean(axis)
        return (jax.nn.logsumexp(logits, axis) - reached).mean()

    return {
        "cross_entropy": cross_entropy,
        "mse_loss": lambda x, t: jnp.mean((x - t) ** 2),
        "l1_loss": lambda x, t: jnp.mean(jnp.abs(x - t)),
        "huber_loss": huber,
        "smooth_l1_loss": huber,
        "quantile_loss": quantile,
        "binary_cross_entropy_with_logits": lambda x, t: jnp.mean(jnp.logaddexp(0.0, x) - t * x),
        "soft_margin_loss": lambda x, t: jnp.mean(jnp.logaddexp(0.0, -t * x)),
        "log_cosh_loss": lambda x, t: jnp.mean(jnp.logaddexp(x - t, t - x) - LOG_2),
        "poisson_nll_loss": lambda x, t: jnp.mean(jnp.exp(x) - t * x),
    }


def _jax_function(jax: Any, case: Case, scale: float) -> Any:
    """Return the value, also its gradient, or an array; half types are computed in float32."""
    if case.mode == "values":
        return partial(getattr(jax.nn, case.function), axis=-1)
    jnp, of = jax.numpy, _jax_losses(jax)[case.function]
    wide = jnp.float64 if case.dtype == "float64" else jnp.float32
    options = dict(case.options) | ({"axis": case.axis} if case.axis != -1 else {})

    def loss(*arguments: Any) -> Any:
        inputs = [a if jnp.issubdtype(a.dtype, jnp.integer) else a.astype(wide) for a in arguments]
        return scale * of(*inputs, **options)

    return jax.value_and_grad(loss) if case.has_gradient else loss


@contender(JAX)
def _jax(problem: Problem, name: str) -> Contender:
    """Build one compiled function for the loss and its gradient, which waits for the result."""
    jax = imported("jax")
    case = problem.case
    if case.mode == "in place":
        raise UnavailableError("JAX has no arrays to write to")
    scale = 1.0 if problem.upstream is None else float(problem.upstream)
    # Otherwise JAX converts float64 to float32.
    setting = partial(jax.enable_x64, case.dtype == "float64")
    arrays = [a.astype(np.int32) if a.dtype.kind == "i" else a for a in problem.arguments]
    with setting():
        arguments = [jax.device_put(array) for array in arrays]
    compiled = jax.jit(_jax_function(jax, case, scale))

    def check(result: Any) -> None:
        loss, values = (result, None) if case.mode == "value" else (None, result)
        if case.has_gradient:
            loss, values = result
        loss = None if loss is None else float(loss) / scale
        values = None if values is None else np.asarray(values)
        problem.check(name, loss, values)

    return Contender(name, lambda: jax.block_until_ready(compiled(*arguments)), check, setting=setting)


# --- scikit-learn ---

# The class in its `_loss`, the number of its losses that make one of fastloss, and its options.
SKLEARN_LOSSES: dict[str, tuple[str, float, dict[str, Any]]] = {
    "mse_loss": ("HalfSquaredError", 2.0, {}),
    "l1_loss": ("AbsoluteError", 1.0, {}),
    "huber_loss": ("HuberLoss", 1.0, {"delta": 1.0}),
    # With a parabola of this width it is the Huber loss.
    "smooth_l1_loss": ("HuberLoss", 1.0, {"delta": 1.0}),
    "quantile_loss": ("PinballLoss", 1.0, {"quantile": 0.3}),
    "binary_cross_entropy_with_logits": ("HalfBinomialLoss", 1.0, {}),
    "poisson_nll_loss": ("HalfPoissonLoss", 1.0, {}),
    "cross_entropy": ("HalfMultinomialLoss", 1.0, {}),
}


@contender(SKLEARN)
def _sklearn(problem: Problem, name: str) -> Contender:
    """Build the private loss of its estimators.

    It gives the loss of each row or element and the gradient of their sum. The mean of the losses of
    elements is part of the time; the mean of the losses of rows and the division of the gradient are not.
    """
    case, (x, target) = problem.case, problem.arguments
    if case.function not in SKLEARN_LOSSES or case.mode not in ("gradient", "value") or case.axis != -1:
        raise UnavailableError("scikit-learn has no counterpart")
    if case.dtype not in ("float32", "float64"):
        raise UnavailableError("scikit-learn has no half types")
    class_name, factor, options = SKLEARN_LOSSES[case.function]
    has_classes = case.function == "cross_entropy"
    if has_classes:
        options = {"n_classes": x.shape[-1]}
    try:
        loss = getattr(imported("sklearn._loss.loss"), class_name)(**options)
        function = loss.loss_gradient if case.has_gradient else loss.loss
    except AttributeError as error:
        raise UnavailableError(f"scikit-learn has moved its loss: {error}") from error
    target = target.astype(x.dtype)
    arguments: dict[str, Any] = {"n_threads": problem.threads}
    if case.reused:
        arguments["loss_out"] = np.empty_like(target)
        if case.has_gradient:
            arguments["gradient_out"] = problem.out

    def call() -> tuple[Any, Any]:
        result = function(target, x, **arguments)
        losses, grad = result if case.has_gradient else (result, None)
        return (losses if has_classes else losses.mean(dtype=np.float64)), grad

    def check(result: tuple[Any, Any]) -> None:
        losses, grad = result
        found = factor * float(losses.mean())
        problem.check(name, found, grad, scale=factor / target.size)

    return Contender(name, call, check)
