"""Linear losses and the adaptive softmax beside the bare matrix products and PyTorch.

The limit is the three matrix products of NumPy, into buffers that are kept (for the value alone, the first
product), and one more for the logits of a teacher. With chunks, each chunk overwrites the weight's gradient
of the previous one: the limit does not include the addition. NumPy's products use the threads of its BLAS,
independent of `--threads`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np

import fastloss
from fastloss import reference
from fastloss.linear import LinearGradients

from ..case import COMPILED, LIGER, LIMIT, OURS, TORCH, TRL, Case, Suite, at_least, at_most, bound
from ..contenders import Contender, UnavailableError, contender, imported, ours, require_equal
from ..peers import torch_peer
from ..problem import Array, Problem, WrongResultError, blocks, dtype_of

__all__ = ["MANY_CHUNKS", "SUITE"]

# The largest error of fastloss's float32 gradients, relative to their largest entry, and of its losses.
AGREEMENT = 2e-6
# Logits that the reference computes at a time.
BLOCK = 1 << 24
STEPS, FILTERED, LATE = "fastloss in steps", "fastloss filtered", "fastloss unreduced"
STATISTICS = "fastloss statistics"
CHUNKED = "torch chunked"

SHAPE = (1024, 768, 32000)
# Tokens, features of student and of teacher, classes.
TWO_LAYERS = (1024, 512, 32000)
ADAPTIVE = (4096, 512, 50000)


def _case(name: str, what: str, *, shape: tuple[int, ...] = SHAPE, **others: Any) -> Case:
    """Return a row.

    The detail "bias" selects the bias of the logits: none, or the logarithm of the frequency of the
    classes: a twentieth of them e30 times as frequent as the others, or Zipf's law. The targets are drawn
    from it. The limit runs in "chunks".
    """
    attributes = {"contenders": (LIMIT, OURS, TORCH, CHUNKED), "limit": "products", "small": (32, 24, 2000)}
    title = f"linear cross entropy {shape}, {what}"
    return Case("linear", name, title, "linear_cross_entropy", shape=shape, **{**attributes, **others})


MANY_CHUNKS = _case("many-chunks", "gradients", shape=(8192, 256, 50000), details={"chunks": 8})
CASES = (
    _case(
        "gradients",
        "gradients",
        contenders=(LIMIT, OURS, STEPS, TORCH, CHUNKED, TRL),
        targets=(
            at_most(1.05, LIMIT),
            at_most(1.0, STEPS),
            *(at_least(1.0, peer) for peer in (TORCH, CHUNKED, TRL)),
        ),
    ),
    _case("value", "value alone", targets=(at_most(1.08, LIMIT),), mode="value"),
    # The gradient of fastloss.torch that needs the incoming one first.
    _case(
        "late", "gradients in backward", contenders=(LIMIT, LATE), targets=(at_most(1.06, LIMIT, of=LATE),)
    ),
    _case(
        "statistics",
        "gradients, with all statistics of a token",
        contenders=(LIMIT, STATISTICS),
        targets=(at_most(1.15, LIMIT, of=STATISTICS),),
    ),
    # The filtered classes have probabilities of e-30: an eps below the rounding of float32 suffices, and
    # the result has to be as accurate as without it.
    _case(
        "filter",
        "a twentieth of the classes in use",
        contenders=(OURS, FILTERED),
        targets=(at_most(0.75, OURS, of=FILTERED),),
        details={"bias": "few", "filter_eps": 1e-6, "filter_tolerance": AGREEMENT},
    ),
    # The eps of Cut Cross-Entropy: the rounding of bfloat16. Here the result loses accuracy.
    _case(
        "filter-zipf",
        "classes as frequent as words",
        contenders=(OURS, FILTERED),
        details={"bias": "zipf", "filter_eps": 2.0**-12, "filter_tolerance": 2e-2},
    ),
    MANY_CHUNKS,
    _case("bfloat16", "gradients, bfloat16", contenders=(OURS, TORCH, CHUNKED), dtype="bfloat16"),
    _case(
        "agreement",
        "largest error of a gradient",
        contenders=("fastloss error",),
        targets=(bound(AGREEMENT, "fastloss error"),),
        quantity="error",
    ),
    Case(
        "linear",
        "kl",
        f"linear KL divergence {TWO_LAYERS}, gradients",
        "linear_kl_div",
        shape=TWO_LAYERS,
        small=(32, 24, 2000),
        contenders=(LIMIT, OURS, TORCH, TRL, LIGER),
        targets=(at_most(1.1, LIMIT), *(at_least(1.0, peer) for peer in (TORCH, TRL, LIGER))),
        limit="products",
    ),
    Case(
        "linear",
        "adaptive",
        f"adaptive softmax {ADAPTIVE}, clusters of 2000, 8000 and 40000 classes, gradients",
        "adaptive_log_softmax_with_loss",
        shape=ADAPTIVE,
        small=(64, 32, 500),
        contenders=(LIMIT, OURS, TORCH),
        targets=(at_least(1.0, TORCH),),
        limit="products",
    ),
)


# Consecutive rows share them.
@lru_cache(maxsize=1)
def _arrays(shape: tuple[int, int, int], dtype: str, kind: str) -> tuple[Array, Array, Array | None, Array]:
    """Return input, weight, bias and target."""
    tokens, features, classes = shape
    rng, to = np.random.default_rng(0), dtype_of(dtype)
    x = rng.standard_normal((tokens, features), dtype=np.float32).astype(to, copy=False)
    w = rng.standard_normal((classes, features), dtype=np.float32)
    w = np.multiply(w, 0.05, out=w).astype(to, copy=False)
    rank = rng.permutation(classes)  # frequent classes have random positions
    frequency = {
        "none": np.ones(classes),
        "few": np.where(rank < classes // 20, 1.0, np.exp(-30.0)),
        "zipf": 1.0 / (1.0 + rank),
    }[kind]
    frequency /= frequency.sum()
    bias = None if kind == "none" else np.log(frequency).astype(to)
    return x, w, bias, rng.choice(classes, tokens, p=frequency)


@lru_cache(maxsize=1)
def _answer(shape: tuple[int, int, int], dtype: str, kind: str) -> tuple[float, LinearGradients]:
    """Return the mean of the reference and its gradients in float64, some tokens at a time."""
    x, w, bias, target = _arrays(shape, dtype, kind)
    w = w.astype(np.float64)
    function: Any = reference.linear_cross_entropy
    gx, gw, gb = np.empty(x.shape), np.zeros(w.shape), np.zeros(len(w))
    loss = 0.0
    for rows in blocks(len(x), len(x) * len(w), BLOCK):
        options = {"linear_bias": bias, "reduction": "sum", "return_grad": True, "grad_output": 1 / len(x)}
        some, grad = function(x[rows], w, target[rows], **options)
        loss += some / len(x)
        gx[rows] = grad.input
        gw += grad.linear_weight
        if bias is not None:
            gb += grad.linear_bias
    return loss, LinearGradients(gx, gw, None if bias is None else gb)


class LinearProblem(Problem):
    """The reference has all gradients; errors are relative to the largest entry of each."""

    leaves = 2
    largest_axis = None

    def __init__(self, case: Case, is_small: bool = False) -> None:
        super().__init__(case, is_small)
        self._key: Any = self.shape, case.dtype, case.details.get("bias", "none")

    @cached_property
    def arguments(self) -> tuple[Array, ...]:
        x, w, _, target = _arrays(*self._key)
        return x, w, target

    @property
    def our_options(self) -> dict[str, Any]:
        bias = _arrays(*self._key)[2]
        return {} if bias is None else {"linear_bias": bias}

    @cached_property
    def out(self) -> tuple[Array, Array, Array | None]:
        """Return the buffers, written once, so that no timed call has their page faults."""
        x, w, bias, _ = _arrays(*self._key)
        return np.ones_like(x), np.ones_like(w), None if bias is None else np.ones_like(bias)

    @cached_property
    def logits(self) -> Array:
        """Return the logits of one chunk of the limit."""
        x, w, *_ = self.arguments
        return np.ones((len(x) // self.case.details.get("chunks", 1), len(w)), x.dtype)

    @property
    def expected_loss(self) -> float:
        return _answer(*self._key)[0]

    @property
    def expected_values(self) -> tuple[Array, ...]:
        return self.sampled(_answer(*self._key)[1])

    def sampled(self, values: tuple[Array | None, ...]) -> tuple[Array, ...]:
        return tuple(array for array in values if array is not None)

    def tolerance(self, name: str) -> tuple[float, float]:
        if name == FILTERED:
            return AGREEMENT, float(self.case.details["filter_tolerance"])
        of_loss, of_gradients = super().tolerance(name)
        if not name.startswith(OURS):
            return of_loss, of_gradients
        return AGREEMENT, AGREEMENT if self.case.dtype == "float32" else of_gradients

    def notes(self, medians: dict[str, float]) -> list[str]:
        errors = ", ".join(f"{name} {error:.1e}" for name, error in self.errors.items())
        return [f"largest error of a gradient, in units of its largest entry: {errors}"] if errors else []


@lru_cache(maxsize=1)
def _teacher(shape: tuple[int, int, int]) -> tuple[Array, Array]:
    """Return input and weight of a teacher, of the same shape as the student's."""
    tokens, features, classes = shape
    rng = np.random.default_rng(1)
    x = rng.standard_normal((tokens, features), dtype=np.float32)
    w = rng.standard_normal((classes, features), dtype=np.float32)
    return x, np.multiply(w, 0.05, out=w)


class TwoLayersProblem(LinearProblem):
    """A student and a teacher; the reference has the student's gradients."""

    @cached_property
    def arguments(self) -> tuple[Array, ...]:
        return (*super().arguments[:2], *_teacher(self.shape))

    @cached_property
    def answer(self) -> tuple[float, tuple[Array, ...]]:
        """Return the mean of the reference and its gradients in float64, some tokens at a time."""
        x, w, t, u = self.arguments
        w, u = w.astype(np.float64), u.astype(np.float64)
        gx, gw, loss = np.empty(x.shape), np.zeros(w.shape), 0.0
        options: dict[str, Any] = {"reduction": "sum", "return_grad": True, "grad_output": 1 / len(x)}
        for rows in blocks(len(x), len(x) * len(w), BLOCK):
            some, grad = reference.linear_kl_div(x[rows], w, t[rows], u, **options)
            loss += some / len(x)
            gx[rows] = grad.student_input
            gw += grad.student_weight
        return loss, (gx, gw)

    @property
    def expected_loss(self) -> float:
        return self.answer[0]

    @property
    def expected_values(self) -> tuple[Array, ...]:
        return self.answer[1]


class AdaptiveProblem(Problem):
    """Input, target, the weight of the head, and two weights of each cluster; classes as frequent as words.

    The head has the first 4 % of the classes and the first cluster those up to 20 %. As in PyTorch, the
    clusters have a fourth and a sixteenth of the features.
    """

    largest_axis = None

    @cached_property
    def arguments(self) -> tuple[Array, ...]:
        rng, (tokens, features, classes) = np.random.default_rng(0), self.shape
        edges = self.cutoffs
        head = (edges[0] + 2, features)
        first = (features // 4, features), (edges[1] - edges[0], features // 4)
        second = (features // 16, features), (classes - edges[1], features // 16)
        weights = [
            rng.standard_normal(shape, dtype=np.float32) / np.sqrt(np.float32(shape[1]))
            for shape in (head, *first, *second)
        ]
        frequency = 1.0 / (1.0 + np.arange(classes))
        target = rng.choice(classes, tokens, p=frequency / frequency.sum())
        return rng.standard_normal((tokens, features), dtype=np.float32), target, *weights

    @property
    def cutoffs(self) -> tuple[int, int]:
        return self.shape[2] // 25, self.shape[2] // 5

    @property
    def differentiable(self) -> list[int]:
        return [k for k in range(len(self.arguments)) if k != 1]

    @cached_property
    def out(self) -> Any:
        """Return the buffers in the order of the arguments, written once."""
        return tuple(np.ones_like(self.arguments[k]) for k in self.differentiable)

    @cached_property
    def answer(self) -> tuple[float, tuple[Array, ...]]:
        x, target, head, *tails = self.arguments
        found: Any = reference.adaptive_log_softmax_with_loss(
            x, target, head, _pairs(tails), return_grad=True
        )
        loss, gradients = found
        return loss, (gradients.input, gradients.head_weight, *_flat(gradients.tail_weights))

    @property
    def expected_loss(self) -> float:
        return self.answer[0]

    @property
    def expected_values(self) -> tuple[Array, ...]:
        return self.answer[1]

    def tolerance(self, name: str) -> tuple[float, float]:
        return (AGREEMENT, AGREEMENT) if name.startswith(OURS) else super().tolerance(name)


def _pairs(arrays: Sequence[Array]) -> tuple[tuple[Array, Array], ...]:
    return tuple(zip(arrays[::2], arrays[1::2], strict=True))


def _flat(pairs: Iterable[tuple[Array, Array]]) -> tuple[Array, ...]:
    return tuple(array for pair in pairs for array in pair)


def _problem(case: Case, is_small: bool) -> Problem:
    kinds: dict[str, type[Problem]] = {
        "linear_kl_div": TwoLayersProblem,
        "adaptive_log_softmax_with_loss": AdaptiveProblem,
    }
    return kinds.get(case.function, LinearProblem)(case, is_small)


@contender(OURS, suite="linear")
def _ours(problem: Problem, name: str) -> Contender:
    if not isinstance(problem, AdaptiveProblem):
        return ours(problem, name)
    (x, target, head, *tails), (gx, ghead, *gtails) = problem.arguments, problem.out
    out = gx, ghead, None, _pairs(gtails)

    def call() -> Any:
        return fastloss.adaptive_log_softmax_with_loss(
            x, target, head, _pairs(tails), return_grad=True, out=out
        )

    def check(result: Any) -> None:
        loss, gradients = result
        problem.check(name, loss, (gradients.input, gradients.head_weight, *_flat(gradients.tail_weights)))

    return Contender(name, call, check)


def _adaptive_products(problem: AdaptiveProblem, name: str) -> Contender:
    """Build the products of the head for all tokens, and of each cluster for its own."""
    (x, target, head, *tails), (gx, ghead, *gtails) = problem.arguments, problem.out
    edges = *problem.cutoffs, problem.shape[2]
    layers = [(x, head, gx, ghead)]
    clusters = []
    for (project, weight), (gproject, gweight), low, high in zip(
        _pairs(tails), _pairs(gtails), edges, edges[1:], strict=False
    ):
        some = x[(target >= low) & (target < high)]
        hidden = np.ones((len(some), len(project)), np.float32)
        ghidden = np.ones_like(hidden)
        layers.append((hidden, weight, ghidden, gweight))
        clusters.append((some, project, hidden, ghidden, np.ones_like(some), gproject))
    logits = [np.ones((len(inner), len(weight)), np.float32) for inner, weight, *_ in layers]

    def call() -> None:
        for some, project, hidden, *_ in clusters:
            np.matmul(some, project.T, out=hidden)
        for (inner, weight, ginner, gweight), z in zip(layers, logits, strict=True):
            np.matmul(inner, weight.T, out=z)
            np.matmul(z, weight, out=ginner)
            np.matmul(z.T, inner, out=gweight)
        for some, project, _, ghidden, gsome, gproject in clusters:
            np.matmul(ghidden, project, out=gsome)
            np.matmul(ghidden.T, some, out=gproject)

    def check(_: Any) -> None:
        """Check the last product: one row of it."""
        some, _, _, ghidden, _, gproject = clusters[-1]
        right = ghidden[:, -1] @ some
        require_equal(np.allclose(gproject[-1], right, rtol=0.0, atol=1e-3 * np.abs(right).max()), True)

    return Contender(name, call, check)


@contender(TORCH, suite="linear")
def _torch_whole(problem: Problem, name: str) -> Contender:
    if not isinstance(problem, AdaptiveProblem):
        return torch_peer(problem, name)
    torch = imported("torch")
    _, features, classes = problem.shape
    module = torch.nn.AdaptiveLogSoftmaxWithLoss(features, classes, problem.cutoffs)
    names = [parameter for parameter, _ in module.named_parameters()]

    def function(x: Any, target: Any, *weights: Any) -> Any:
        given = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(module, given, (x, target)).loss

    return torch_peer(problem, name, function)


@contender(LIMIT, suite="linear")
def _products(problem: LinearProblem | AdaptiveProblem, name: str) -> Contender:
    if isinstance(problem, AdaptiveProblem):
        return _adaptive_products(problem, name)
    (x, w, *more), z = problem.arguments, problem.logits
    gx, gw, _ = problem.out
    teacher = [(more[0], more[1], np.ones_like(z))] if isinstance(problem, TwoLayersProblem) else []
    has_gradient = problem.case.has_gradient
    chunks = [slice(start, start + len(z)) for start in range(0, len(x), len(z))]

    def call() -> None:
        for chunk in chunks:
            np.matmul(x[chunk], w.T, out=z)
            for other, weight, logits in teacher:
                np.matmul(other[chunk], weight.T, out=logits)
            if has_gradient:
                np.matmul(z, w, out=gx[chunk])
                np.matmul(z.T, x[chunk], out=gw)

    def check(_: Any) -> None:
        """Check one row of each product of the last chunk."""
        pairs = [(z[-1], w @ x[-1])]
        if has_gradient:
            pairs += [(gx[-1], z[-1] @ w), (gw[-1], z[:, -1] @ x[-len(z) :])]
        for got, right in pairs:
            require_equal(np.allclose(got, right, rtol=0.0, atol=1e-3 * np.abs(right).max()), True)

    return Contender(name, call, check)


@contender(FILTERED, suite="linear")
def _filtered(problem: LinearProblem, name: str) -> Contender:
    return ours(problem, name, filter_eps=problem.case.details["filter_eps"])


@contender(STEPS, suite="linear")
def _in_steps(problem: LinearProblem, name: str) -> Contender:
    """Build the products of the limit, with cross_entropy in place after the first: all logits at once."""
    (x, w, target), z = problem.arguments, problem.logits
    gx, gw, _ = problem.out

    def call() -> float:
        np.matmul(x, w.T, out=z)
        loss, _ = fastloss.cross_entropy(z, target, return_grad=True, out=z)
        np.matmul(z, w, out=gx)
        np.matmul(z.T, x, out=gw)
        return float(loss)

    return Contender(name, call, lambda loss: problem.check(name, loss, (gx, gw)))


@contender(CHUNKED, COMPILED, suite="linear")
def _torch(problem: LinearProblem, name: str) -> Contender:
    torch = imported("torch")
    try:
        function = torch.nn.functional.linear_cross_entropy
        options = torch.nn.LinearCrossEntropyOptions() if name == CHUNKED else None
    except AttributeError as error:
        raise UnavailableError(f"this PyTorch has none: {error}") from error
    return torch_peer(problem, name, partial(function, options=options))


@contender(TRL, suite="linear")
def _trl(problem: LinearProblem, name: str) -> Contender:
    """Build the heads of TRL's trainers, with no more outputs than the loss needs."""
    if isinstance(problem, TwoLayersProblem):
        divergence = imported("trl.kernels.chunked_divergence").ChunkedDivergenceFunction.apply

        def kl_div(x: Any, w: Any, teacher: Any, teacher_weight: Any) -> Any:
            return divergence(x, w, None, teacher, teacher_weight, None, 0.0)[0].mean()

        return torch_peer(problem, name, kl_div)
    size = imported("trl.trainer.utils")._CHUNKED_LOGPROB_CHUNK_SIZE
    log_probs = imported("trl.kernels").ChunkedLogProbFunction.apply

    def cross_entropy(x: Any, w: Any, target: Any) -> Any:
        return -log_probs(x, w, None, target, 1.0, size, None, 1.0, ("log_probs",))[0].mean()

    return torch_peer(problem, name, cross_entropy)


@contender(LIGER, suite="linear")
def _liger(problem: LinearProblem, name: str) -> Contender:
    """Build Liger's head for distillation. Only its heads of chunks run on a CPU, the others need Triton."""
    torch = imported("torch")
    head = imported("liger_kernel.chunked_loss").LigerFusedLinearJSDLoss
    loss = head(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=0.0)
    labels = torch.zeros(len(problem.arguments[0]), dtype=torch.int64)
    return torch_peer(problem, name, lambda *tensors: loss(*tensors, labels))


@contender(LATE, suite="linear")
def _late(problem: LinearProblem, name: str) -> Contender:
    function = imported("fastloss.torch").linear_cross_entropy
    return torch_peer(problem, name, lambda *tensors: function(*tensors, reduction="none").mean())


@contender(STATISTICS, suite="linear")
def _statistics(problem: LinearProblem, name: str) -> Contender:
    """Build the gradient of the same loss from `linear_token_statistics`."""
    outputs, upstream = reference.TokenStatistics._fields, (-1.0 / len(problem.arguments[0]), None)

    def call() -> tuple[float, tuple[Array, ...]]:
        statistics: Any
        gradients: Any
        statistics, gradients = fastloss.linear_token_statistics(
            *problem.arguments, outputs=outputs, return_grad=True, grad_output=upstream, out=problem.out
        )
        return -float(statistics.log_probs.mean()), gradients[:2]

    return Contender(name, call, lambda result: problem.check(name, *result))


@contender("fastloss error", suite="linear")
def _error(problem: LinearProblem, name: str) -> Contender:
    """Build the largest error of the gradients; infinite if the loss is wrong."""
    timed = ours(problem, name)

    def call() -> float:
        with suppress(WrongResultError):
            timed.check(timed.call())
        return problem.errors.get(name, float("inf"))

    return Contender(name, call)


SUITE = Suite(
    name="linear",
    title="linear losses and the adaptive softmax beside the bare matrix products (several minutes)",
    cases=CASES,
    problem=_problem,
    columns={
        LIMIT: "matrix products",
        OURS: OURS,
        TORCH: "PyTorch",
        CHUNKED: "PyTorch, chunked",
        TRL: TRL,
        LIGER: LIGER,
    },
    # Few enough that slow contenders run in each, and enough that each contender of the longest row is
    # first once.
    repeats=7,
)
