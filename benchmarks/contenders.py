"""What is timed: the memory limit, fastloss in its variants, and the peers, each checked.

A contender is a function of no arguments that does the whole work of its row once. Peers are given what helps
them: inputs in their own form and place beforehand, compiled beforehand, a reused output where they can take
one. PyTorch drops the gradient of the call before within the timed call, as a training loop does.
"""

from __future__ import annotations

import importlib.util
import os
import queue
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

import fastloss
from benchmarks.cases import LIMIT, OURS
from benchmarks.problem import Problem
from fastloss import _kernels

__all__ = [
    "OUR_TOLERANCE",
    "PEER_TOLERANCE",
    "Contender",
    "UnavailableError",
    "build",
    "imported",
    "is_installed",
    "reading",
    "require_equal",
    "shared",
    "torch_compiled",
    "torch_tensor",
]

Array = npt.NDArray[Any]

# The largest error allowed, by type: of ours (a rounding of the result), and of those that sum in float32.
OUR_TOLERANCE = {"float64": 1e-13, "float32": 1e-6, "float16": 2.0**-11, "bfloat16": 2.0**-8}
PEER_TOLERANCE = {"float64": 1e-10, "float32": 1e-3, "float16": 5e-3, "bfloat16": 2e-2}
# Elements under which scikit-learn is called with one thread.
SERIAL = 4096
# Width of the layer whose product makes the logits in the row "after-matmul".
HIDDEN = 256


class UnavailableError(Exception):
    """This contender has nothing to offer here: not installed, or not for this row or machine."""


@dataclass(frozen=True)
class Contender:
    """`call` is timed; `before` runs each time before it, untimed; `setting` is around all of it.

    `check` takes what `call` returned and raises `WrongResultError` where it is wrong.
    """

    name: str
    call: Callable[[], Any]
    check: Callable[[Any], None]
    before: Callable[[], None] | None = None
    setting: Callable[[], AbstractContextManager[object]] = nullcontext


# --- the memory limit ---


class Team:
    """As many Python threads as fastloss uses, the caller among them.

    They work at the same time because NumPy lets go of the interpreter lock.
    """

    def __init__(self, threads: int) -> None:
        self._inboxes = [queue.SimpleQueue[Callable[[], Any]]() for _ in range(threads - 1)]
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for inbox in self._inboxes:
            threading.Thread(target=self._serve, args=(inbox,), daemon=True).start()

    def _serve(self, inbox: queue.SimpleQueue[Callable[[], Any]]) -> None:
        while True:
            self._done.put(inbox.get()())

    def run(self, parts: list[Callable[[], Any]]) -> list[Any]:
        """Run one part in each thread; returns what they return, in no order."""
        for inbox, part in zip(self._inboxes, parts[1:], strict=True):
            inbox.put(part)
        first = parts[0]()
        return [first, *(self._done.get() for _ in self._inboxes)]


@lru_cache
def _team(threads: int) -> Team:
    return Team(threads)


def shared(threads: int, function: Callable[..., Any], *arrays: Array) -> Callable[[], list[Any]]:
    """The function over equal parts of the arrays, each in a thread of its own."""
    # Half types as integers: NumPy moves them in the same way, and faster than a type it does not know.
    flat = [array.reshape(-1) for array in arrays]
    flat = [array.view(np.uint16) if array.itemsize == 2 else array for array in flat]
    pieces = zip(*(np.array_split(array, threads) for array in flat), strict=True)
    return partial(_team(threads).run, [partial(function, *piece) for piece in pieces])


def require_equal(got: object, expected: object) -> None:
    if not np.array_equal(got, expected):  # type: ignore[arg-type]
        raise AssertionError("the memory limit did not do its work")


def _memcpy(problem: Problem, name: str) -> Contender:
    logits, out = problem.logits, problem.out
    return Contender(
        name,
        shared(problem.threads, np.copyto, out, logits),
        lambda _: require_equal(problem.sampled(out), problem.sampled(logits)),
    )


def _scale(problem: Problem, name: str) -> Contender:
    logits, work = problem.logits, problem.logits.copy()
    one = np.float32(1.0)
    return Contender(
        name,
        shared(problem.threads, lambda part: np.multiply(part, one, out=part), work),
        lambda _: require_equal(problem.sampled(work), problem.sampled(logits)),
        before=partial(np.copyto, work, logits),
    )


def reading(name: str, threads: int, array: Array) -> Contender:
    """The largest element: NumPy's fastest way to look at every one."""
    return Contender(
        name,
        shared(threads, np.maximum.reduce, array),
        lambda result: require_equal(max(result), array.max()),
    )


def _read(problem: Problem, name: str) -> Contender:
    return reading(name, problem.threads, problem.logits)


def _add(problem: Problem, name: str) -> Contender:
    logits, target, out = problem.logits, problem.target, problem.out
    sample = problem.sampled(logits) + problem.sampled(target)
    return Contender(
        name,
        shared(problem.threads, np.add, logits, target, out),
        lambda _: require_equal(problem.sampled(out), sample),
    )


def _limit(problem: Problem, name: str) -> Contender:
    kinds = {"copy": _memcpy, "scale": _scale, "read": _read, "add": _add}
    if problem.case.limit is None:
        raise UnavailableError("memory is no limit to this row")
    return kinds[problem.case.limit](problem, name)


# --- fastloss ---


def _fastloss(problem: Problem, name: str) -> Contender:
    """Ours, through the public function. Options that a row does not need are not passed, as by its users."""
    case, logits = problem.case, problem.logits
    options: dict[str, Any] = {}
    if case.axis != -1:
        options["axis"] = case.axis
    if case.label_smoothing:
        options["label_smoothing"] = case.label_smoothing
    before = None
    if case.mode == "in place":
        logits = logits.copy()
        options["out"] = logits
        before = partial(np.copyto, logits, problem.logits)
    elif case.mode != "loss" and case.function != "logsumexp" and case.reused:
        options["out"] = problem.out
    if case.mode in ("gradient", "in place"):
        options["return_grad"] = True
    arguments = (logits,) if case.mode == "values" else (logits, problem.target)
    tolerance = OUR_TOLERANCE[case.dtype]

    def check(result: Any) -> None:
        if case.mode == "loss":
            result = (result, None)
        elif case.mode == "values":
            result = (None, result)
        # The loss is a Python float, whatever the type of the logits.
        problem.check(*result, tolerance, loss_tolerance=OUR_TOLERANCE["float32"])

    call = partial(getattr(fastloss, case.function), *arguments, **options)
    return Contender(name, call, check, before)


def _new_array(problem: Problem, name: str) -> Contender:
    """Without `out`: a new array for the gradient at each call, page faults and all."""
    return _fastloss(replace(problem, case=replace(problem.case, reused=False)), name)


def _float32(problem: Problem, name: str) -> Contender:
    """The same row in float32."""
    case = replace(problem.case, dtype="float32")
    return _fastloss(replace(problem, case=case), name)


def _after_matmul(problem: Problem, name: str) -> Contender:
    """Just after a product as large as the logits, whose threads may still be spinning."""
    hidden = np.ones((problem.rows, HIDDEN), dtype=np.float32)
    weight = np.ones((HIDDEN, problem.classes), dtype=np.float32)
    product = np.empty(problem.shape, dtype=np.float32)

    def layer() -> None:
        np.matmul(hidden, weight, out=product)

    return replace(_fastloss(problem, name), before=layer)


def _one_thread(problem: Problem, name: str) -> Contender:
    if problem.threads == 1:
        raise UnavailableError("one thread is all there is")
    return replace(_fastloss(problem, name), setting=partial(fastloss.num_threads, 1))


@contextmanager
def _level(level: int) -> Iterator[None]:
    before = _kernels.use_level(level)
    try:
        yield
    finally:
        _kernels.use_level(before)


def _instruction_set(problem: Problem, name: str) -> Contender:
    level = _kernels.LEVELS.index(name.removeprefix("fastloss "))
    if level not in _kernels.BUILT_LEVELS or level > _kernels.MACHINE_LEVEL:
        raise UnavailableError("not built, or not supported by this machine")
    return replace(_fastloss(problem, name), setting=partial(_level, level))


# --- the peers ---


def imported(name: str) -> Any:
    """A peer's module; what it warns of at import is not our concern."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        raise UnavailableError(str(error)) from error


def _numpy_indices(
    logits: Array, target: Array, axis: int, smoothing: float, grad: bool, out: Array | None
) -> tuple[float, Array | None]:
    """Cross-entropy in float32, as one would write it; with `out`, in place wherever NumPy can be."""
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


def _numpy_values(function: str, logits: Array) -> Array:
    top = logits.max(axis=-1, keepdims=True)
    shifted = logits - top
    exps = np.exp(shifted)
    total = exps.sum(axis=-1, keepdims=True)
    if function == "softmax":
        return np.asarray(exps / total)
    if function == "log_softmax":
        return np.asarray(shifted - np.log(total))
    return np.asarray((top + np.log(total))[..., 0])


def _numpy_through_float32(logits: Array, target: Array) -> tuple[float, Array]:
    """NumPy knows no bfloat16 arithmetic of its own: there and back."""
    loss, grad = _numpy_indices(logits.astype(np.float32), target, -1, 0.0, True, None)
    assert grad is not None
    return loss, grad.astype(logits.dtype)


def _numpy(problem: Problem, name: str) -> Contender:
    case, logits, target = problem.case, problem.logits, problem.target
    tolerance = PEER_TOLERANCE[case.dtype]
    if case.mode == "values":
        return Contender(
            name,
            partial(_numpy_values, case.function, logits),
            lambda values: problem.check(None, values, tolerance),
        )
    before = None
    if case.dtype == "bfloat16":
        call = partial(_numpy_through_float32, logits, target)
    elif case.probabilities:
        call = partial(_numpy_probabilities, logits, target)
    else:
        out = None
        if case.mode == "in place":
            logits = out = problem.logits.copy()
            before = partial(np.copyto, out, problem.logits)
        grad = case.mode != "loss"
        call = partial(_numpy_indices, logits, target, case.axis, case.label_smoothing, grad, out)
    return Contender(name, call, lambda result: problem.check(*result, tolerance), before)


def torch_tensor(torch: Any, array: Array) -> Any:
    """The same memory as a tensor. PyTorch takes bfloat16 from NumPy only as integers."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def torch_compiled(torch: Any, function: Callable[..., Any]) -> Any:
    """The function compiled for the shapes of this row alone, whatever was compiled before."""
    imported("torch._dynamo").reset()
    return torch.compile(function, dynamic=False)


def _torch_values(problem: Problem, torch: Any, name: str) -> Contender:
    function = getattr(torch, problem.case.function)
    options = {}
    if problem.case.function != "logsumexp":
        options["out"] = torch_tensor(torch, problem.out)
    return Contender(
        name,
        partial(function, torch_tensor(torch, problem.logits), -1, **options),
        lambda values: problem.check(None, values.numpy(), PEER_TOLERANCE["float32"]),
    )


def _torch(problem: Problem, name: str, compiled: bool = False) -> Contender:
    """Forward and backward to a leaf whose gradient starts as None; or the forward alone."""
    torch = imported("torch")
    case = problem.case
    torch.set_num_threads(problem.threads)
    if case.mode == "in place":
        raise UnavailableError("PyTorch cannot")
    if case.mode == "values":
        return _torch_values(problem, torch, name)
    leaf = torch_tensor(torch, problem.logits)
    if case.axis not in (1, leaf.ndim - 1, -1):
        raise UnavailableError("PyTorch's class dimension is the second")
    target = torch_tensor(torch, problem.target)
    function = torch.nn.functional.cross_entropy
    if compiled:
        function = torch_compiled(torch, function)
    if case.label_smoothing:
        function = partial(function, label_smoothing=case.label_smoothing)
    leaf = leaf.detach().requires_grad_(case.mode == "gradient")

    def forward() -> tuple[Any, None]:
        with torch.no_grad():
            return function(leaf, target), None

    def forward_and_backward() -> tuple[Any, Any]:
        leaf.grad = None
        loss = function(leaf, target)
        loss.backward()
        return loss.detach(), leaf.grad

    def check(result: tuple[Any, Any]) -> None:
        loss, grad = result
        values = None if grad is None else grad.float().numpy()
        problem.check(float(loss), values, PEER_TOLERANCE[case.dtype])

    return Contender(name, forward if case.mode == "loss" else forward_and_backward, check)


def _torch_compile(problem: Problem, name: str) -> Contender:
    if problem.case.mode != "gradient":
        raise UnavailableError("only the gradient is of interest")
    return _torch(problem, name, compiled=True)


def _jax_loss(jax: Any, problem: Problem) -> Callable[..., Any]:
    """Cross-entropy as Optax writes it: log-sum-exp less the target's logit."""
    case, jnp = problem.case, jax.numpy
    axis, smoothing = case.axis, case.label_smoothing

    def loss(logits: Any, target: Any) -> Any:
        logits = logits.astype(jnp.float32)
        if case.probabilities:
            return -(target * jax.nn.log_softmax(logits, axis)).sum(axis).mean()
        reached = jnp.take_along_axis(logits, jnp.expand_dims(target, axis), axis).squeeze(axis)
        if smoothing:
            reached = (1.0 - smoothing) * reached + smoothing * logits.mean(axis)
        return (jax.nn.logsumexp(logits, axis) - reached).mean()

    return loss


def _jax(problem: Problem, name: str) -> Contender:
    """One compiled function, the loss and its gradient together; waits for the result."""
    jax = imported("jax")
    case = problem.case
    if case.mode == "in place":
        raise UnavailableError("JAX has no arrays to write to")
    target = problem.target if case.probabilities else problem.target.astype(np.int32)
    arguments = [jax.device_put(problem.logits), jax.device_put(target)]
    if case.mode == "values":
        function = partial(getattr(jax.nn, case.function), axis=-1)
        arguments.pop()
    elif case.mode == "loss":
        function = _jax_loss(jax, problem)
    else:
        function = jax.value_and_grad(_jax_loss(jax, problem))
    compiled = jax.jit(function)

    def check(result: Any) -> None:
        if case.mode == "values":
            loss, values = None, np.asarray(result)
        elif case.mode == "loss":
            loss, values = float(result), None
        else:
            loss, values = float(result[0]), np.asarray(result[1])
        problem.check(loss, values, PEER_TOLERANCE[case.dtype])

    return Contender(name, lambda: jax.block_until_ready(compiled(*arguments)), check)


def _sklearn(problem: Problem, name: str) -> Contender:
    """The loss inside its estimators (private: it may move).

    It gives the loss of each row and the gradient of their sum: the mean is left to others.
    """
    case, logits = problem.case, problem.logits
    if case.mode not in ("gradient", "loss") or case.axis != -1 or logits.dtype != np.float32:
        raise UnavailableError("scikit-learn has no counterpart")
    try:
        multinomial = imported("sklearn._loss.loss").HalfMultinomialLoss(n_classes=problem.classes)
        function = multinomial.loss if case.mode == "loss" else multinomial.loss_gradient
    except AttributeError as error:
        raise UnavailableError(f"scikit-learn has moved its loss: {error}") from error
    target = problem.target.astype(np.float32)
    # Its default is one thread, and a second only costs it where there is little to do.
    options: dict[str, Any] = {"n_threads": problem.threads if logits.size >= SERIAL else 1}
    if case.reused:
        options["loss_out"] = np.empty_like(target)
        if case.mode == "gradient":
            options["gradient_out"] = problem.out

    def check(result: Any) -> None:
        losses, values = (result, None) if case.mode == "loss" else result
        problem.check(float(losses.mean()), values, PEER_TOLERANCE["float32"], scale=1.0 / problem.rows)

    return Contender(name, partial(function, target, logits, **options), check)


# --- all of them ---

BUILDERS: dict[str, Callable[[Problem, str], Contender]] = {
    LIMIT: _limit,
    "memcpy": _memcpy,
    OURS: _fastloss,
    "fastloss new array": _new_array,
    "fastloss float32": _float32,
    "fastloss after matmul": _after_matmul,
    "fastloss 1 thread": _one_thread,
    "fastloss baseline": _instruction_set,
    "fastloss avx2": _instruction_set,
    "fastloss avx512": _instruction_set,
    "numpy": _numpy,
    "torch": _torch,
    "torch.compile": _torch_compile,
    "jax": _jax,
    "scikit-learn": _sklearn,
}

_PACKAGES = {"torch": "torch", "torch.compile": "torch", "jax": "jax", "scikit-learn": "sklearn"}


def is_installed(name: str) -> bool:
    """Whether a contender's package is there, without importing it."""
    return name not in _PACKAGES or importlib.util.find_spec(_PACKAGES[name]) is not None


def build(
    name: str, problem: Any, builders: Mapping[str, Callable[[Any, str], Contender]] = BUILDERS
) -> Contender:
    """The contender of that name for a row, ready to run; `UnavailableError` says why there is none."""
    if not is_installed(name):
        raise UnavailableError("not installed")
    return builders[name](problem, name)
