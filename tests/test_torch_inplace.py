"""``fastloss.torch.cross_entropy(..., inplace=True)``, and the memory that losses take."""

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch_cases as cases  # noqa: E402
import torch_tools as tools  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402
from torch_tools import Of, assert_error_or, assert_near, gradients_of, outcome, packing  # noqa: E402

import fastloss.torch as ft  # noqa: E402

Tensor = torch.Tensor
ROWS, CLASSES = 6, 9
MODIFIED = "modified by an inplace operation"


def leaf_and_target(
    dtype: torch.dtype = torch.float64, shape: tuple[int, ...] = (ROWS, CLASSES)
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    return x, torch.randint(shape[1], (shape[0], *shape[2:]), generator=generator)


@pytest.fixture
def x() -> Tensor:
    return leaf_and_target()[0]


@pytest.fixture
def target() -> Tensor:
    return leaf_and_target()[1]


def overwriting(logits: Tensor, target: Tensor, **options: Any) -> Tensor:
    return ft.cross_entropy(logits, target, inplace=True, **options).sum()


def expected_gradient(x: Tensor, target: Tensor, upstream: Tensor | None = None, **options: Any) -> Tensor:
    """That of the sum of torch's loss, or with the incoming gradient."""
    leaf = x.detach().double().requires_grad_()
    if options.get("weight") is not None:
        options["weight"] = options["weight"].double()
    loss = functional.cross_entropy(leaf, target, **options)
    loss.backward(torch.ones_like(loss) if upstream is None else upstream.double())
    assert leaf.grad is not None
    return leaf.grad


def assert_refused_or(gradient: Callable[[bool], Tensor], reduction: str) -> None:
    """RuntimeError; where nothing is overwritten before backward ("none"), the right answer is one, too."""
    actual = outcome(lambda: gradient(True))
    assert reduction == "none" or isinstance(actual, Exception)
    assert_error_or(actual, lambda: gradient(False))


# What is written, and what comes out


@pytest.mark.parametrize("scale", [1.0, -0.5, 0.0])
@tools.over_dtypes
@pytest.mark.parametrize("shape", [(ROWS, CLASSES), (3, CLASSES, 4), (2, 300)], ids=str)
@tools.over_reductions
def test_inplace_takes_the_storage_of_the_logits(
    reduction: str, shape: tuple[int, ...], dtype: torch.dtype, scale: float
) -> None:
    x, target = leaf_and_target(dtype, shape)
    target[0] = -100
    weight = torch.linspace(0.5, 2.0, shape[1], dtype=dtype)
    options: dict[str, Any] = {"reduction": reduction, "label_smoothing": 0.1, "weight": weight}
    logits = x * 1.0
    where = logits.data_ptr()
    arrived: list[int] = []
    assert logits.grad_fn is not None
    logits.grad_fn.register_prehook(lambda grads: arrived.append(grads[0].data_ptr()))
    wide = {**options, "weight": weight.double()}
    value = functional.cross_entropy(logits.detach().double(), target, **wide)
    loss = ft.cross_entropy(logits, target, inplace=True, **options)
    assert loss.dtype == dtype and loss.shape == value.shape
    assert_near(loss, value, cases.RELATIVE[dtype])
    upstream = torch.full_like(loss, scale)
    loss.backward(upstream)
    assert arrived == [where]
    expected = expected_gradient(x, target, upstream, **options)
    assert_near(x.grad, expected, cases.RELATIVE[dtype], roundings=2, by_row=1)


@pytest.mark.parametrize("options", [{}, {"z_loss": 0.1}, {"softcap": 3.0, "temperature": 1.5}], ids=str)
@pytest.mark.parametrize("given", ["indices", "probabilities"])
def test_inplace_with_other_options(given: str, options: dict[str, Any], x: Tensor, target: Tensor) -> None:
    target = target if given == "indices" else torch.randn(ROWS, CLASSES, dtype=torch.float64).softmax(1)
    options = {**options, "sample_weight": torch.linspace(0.5, 2.0, ROWS, dtype=torch.float64)}
    grads = [gradients_of(ft.cross_entropy(x * 1.0, target, inplace=i, **options), x) for i in (False, True)]
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-12, atol=1e-15)


def test_inplace_under_autocast() -> None:
    x, target = leaf_and_target(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ft.cross_entropy(x * 1.0, target, inplace=True)
    assert loss.dtype == torch.float32
    loss.backward()
    assert x.grad.dtype == torch.bfloat16
    assert_near(x.grad, expected_gradient(x, target), 1e-6, by_row=1)


@tools.over_reductions
@pytest.mark.parametrize("way", ["not-reentrant", "reentrant", "hooks"])
def test_inplace_where_tensors_are_saved_otherwise(
    way: str, reduction: str, x: Tensor, target: Tensor
) -> None:
    def block(x: Tensor) -> Tensor:
        return overwriting(2.0 * x, target, reduction=reduction)

    if way == "hooks":
        with packing([]):
            loss = block(x)
    else:
        loss = checkpoint(block, x, use_reentrant=way == "reentrant")
    loss.backward()
    assert_near(x.grad, 2.0 * expected_gradient(2.0 * x, target, reduction=reduction), 1e-12)


# Other uses of the logits


def retaining(x: Tensor) -> Tensor:
    logits = x * 1.0
    logits.retain_grad()
    return logits


@tools.over_reductions
@pytest.mark.parametrize(
    ("view", "reason"),
    [(lambda x: x, "leaf"), (lambda x: torch.nn.Parameter(x.detach().clone()), "leaf"),
     (lambda x: x.view(ROWS, CLASSES), "leaf"), (lambda x: x[:], "leaf"), (lambda x: x.t().t(), "leaf"),
     (retaining, "retain")],
    ids=["leaf", "parameter", "view", "rows", "transposed", "retaining"],
)  # fmt: skip
def test_inplace_of_a_leaf(view: Of, reason: str, reduction: str, x: Tensor, target: Tensor) -> None:
    """Or of logits that retain their gradient."""
    logits = view(x)
    before = logits.detach().clone()
    with pytest.raises(RuntimeError, match=reason):
        ft.cross_entropy(logits, target, inplace=True, reduction=reduction)
    assert torch.equal(logits.detach(), before)


SAVED: dict[str, Of] = {
    "exp": torch.exp, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "log_softmax": lambda x: x.log_softmax(1)
}  # fmt: skip


@tools.over_reductions
@pytest.mark.parametrize("operation", [*SAVED, "square"])
def test_inplace_of_what_others_have_saved(operation: str, reduction: str, x: Tensor, target: Tensor) -> None:
    """Some compute their gradients of their results, and who has used the logits, of these."""
    logits = SAVED.get(operation, lambda x: x * 1.0)(x)
    squares = (logits**2).sum() if operation == "square" else 0.0
    loss = overwriting(logits, target, reduction=reduction)
    with pytest.raises(RuntimeError, match=MODIFIED):
        (loss + squares).backward()
    assert x.grad is None


@tools.over_reductions
def test_inplace_of_what_has_been_used_without_saving(reduction: str, x: Tensor, target: Tensor) -> None:
    """A sum needs nothing of its input, so that both gradients are right (or there is an error)."""
    logits = x * 1.0
    total = logits.sum()
    loss = overwriting(logits, target, reduction=reduction)
    grad = outcome(lambda: gradients_of(loss + total, x)[0])
    assert_error_or(grad, lambda: expected_gradient(x, target, reduction=reduction) + 1.0, relative=1e-12)


USES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sum": lambda logits, target: logits.sum(),
    "square": lambda logits, target: (logits**2).sum(),
    "view": lambda logits, target: logits[:, :3].sum(),
    "loss": lambda logits, target: functional.cross_entropy(logits, target),
    "ours": lambda logits, target: ft.cross_entropy(logits, target),
    "inplace": lambda logits, target: ft.cross_entropy(logits, target, inplace=True),
}


@tools.over_reductions
@pytest.mark.parametrize("is_view", [False, True])
@pytest.mark.parametrize("use", USES)
def test_inplace_and_use_of_the_logits_after(
    use: str, is_view: bool, reduction: str, x: Tensor, target: Tensor
) -> None:
    """The logits, or the whole of which they are a part, are no more: they may not be used in the graph."""
    if is_view and use == "inplace":
        return
    target %= 7

    def gradient(inplace: bool) -> Tensor:
        hidden = x * 1.0
        logits = hidden[:, :7] if is_view else hidden
        loss = ft.cross_entropy(logits, target, inplace=inplace, reduction=reduction).sum()
        return gradients_of(loss + USES[use](hidden if inplace else x, target), x)[0]

    assert_refused_or(gradient, reduction)


@tools.over_reductions
@pytest.mark.parametrize(
    "write",
    [lambda logits: logits.zero_(), lambda logits: logits.detach().mul_(2.0),
     lambda logits: logits[1:].add_(1.0),
     lambda logits: logits.detach().numpy() is not None and logits.clamp_(min=0.0)],
)  # fmt: skip
def test_inplace_and_writing_before_backward(
    write: Callable[[Tensor], Any], reduction: str, x: Tensor, target: Tensor
) -> None:
    logits = x * 1.0
    loss = overwriting(logits, target, reduction=reduction)
    with torch.no_grad():
        write(logits)
    with pytest.raises(RuntimeError):
        loss.backward()
    assert x.grad is None


def test_inplace_and_reading_after(x: Tensor, target: Tensor) -> None:
    """What is read has no meaning, but the gradient is right."""
    logits = x * 1.0
    loss = overwriting(logits, target)
    with torch.no_grad():
        logits.argmax(1)
    logits.detach().sum()
    loss.backward()
    assert_near(x.grad, expected_gradient(x, target), 1e-12)


# Several backward passes


@tools.over_reductions
def test_inplace_and_create_graph(reduction: str, x: Tensor, target: Tensor) -> None:
    def second(inplace: bool) -> Tensor:
        loss = ft.cross_entropy(x * 1.0, target, inplace=inplace, reduction=reduction)
        (grad,) = gradients_of(loss, x, create_graph=True)
        return gradients_of(grad**2, x)[0]

    assert_refused_or(second, reduction)


@tools.over_reductions
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_inplace_and_backward_twice(reduction: str, scale: float, x: Tensor, target: Tensor) -> None:
    """Where it is possible, it gives the same twice."""
    loss = scale * overwriting(x * 1.0, target, reduction=reduction)
    (first,) = gradients_of(loss, x, retain_graph=True)
    expected = scale * expected_gradient(x, target, reduction=reduction)
    assert_near(first, expected, 1e-12)
    assert_error_or(outcome(lambda: gradients_of(loss, x)[0]), lambda: expected, relative=1e-12)
    with pytest.raises(RuntimeError):
        gradients_of(loss, x)


@pytest.mark.parametrize("inplace", [False, True])
def test_backward_of_a_view_accumulates(inplace: bool) -> None:
    w = torch.randn(20, requires_grad=True)
    loss = ft.cross_entropy(w.view(4, 5) + 0.0, torch.tensor([1, 2, 0, 3]), inplace=inplace)
    loss.backward(retain_graph=True)
    once = w.grad.clone()
    w.grad.mul_(1.0)
    loss.backward(retain_graph=True)
    (3 * loss).backward()
    assert torch.allclose(w.grad, 5 * once)


# Where nothing is written


@tools.over_reductions
def test_inplace_without_gradient_writes_nothing(reduction: str, x: Tensor, target: Tensor) -> None:
    before = x.detach().clone()
    expected = functional.cross_entropy(before, target, reduction=reduction)

    def check(logits: Tensor) -> None:
        loss = ft.cross_entropy(logits, target, inplace=True, reduction=reduction)
        torch.testing.assert_close(loss.clone(), expected)
        assert torch.equal(logits.detach(), before) and not loss.requires_grad

    check(before.clone())
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            check(x)
            check(x * 1.0)
    logits = x * 1.0
    with torch.no_grad():
        check(logits)
    assert torch.equal(gradients_of(logits, x)[0], torch.ones_like(x))


@tools.over_reductions
@pytest.mark.parametrize(
    ("options", "last", "error"),
    [({}, CLASSES, IndexError), ({}, -1, IndexError), ({"reduction": "average"}, 0, ValueError),
     ({"label_smoothing": 2.0}, 0, RuntimeError), ({"z_loss": -1.0}, 0, ValueError),
     ({"weight": torch.ones(3)}, 0, RuntimeError)],
    ids=str,
)  # fmt: skip
def test_inplace_of_a_bad_call_writes_nothing(
    options: dict[str, Any], last: int, error: type[Exception], reduction: str, x: Tensor, target: Tensor
) -> None:
    target[-1] = last
    logits = x * 1.0
    before, version = logits.detach().clone(), logits._version
    with pytest.raises(error):
        ft.cross_entropy(logits, target, inplace=True, **{"reduction": reduction, **options})
    assert torch.equal(logits.detach(), before) and logits._version == version
    # As if there had been no call.
    (logits**2).sum().backward()
    torch.testing.assert_close(x.grad, 2.0 * before)


# Logits that are views


@tools.over_reductions
@pytest.mark.parametrize(
    "view",
    [lambda h: h[:, :CLASSES], lambda h: h[1:, 2 : 2 + CLASSES],
     lambda h: h.view(-1)[: 4 * CLASSES].view(4, CLASSES), lambda h: h.t()[:, :5]],
    ids=["columns", "block", "flat", "transposed"],
)  # fmt: skip
def test_inplace_of_a_view(view: Of, reduction: str) -> None:
    """Of logits that an operation has made, such as `logits.view(-1, V)`: the whole has its gradient."""
    x, _ = leaf_and_target(shape=(ROWS, CLASSES + 3))
    rows, classes = view(x).shape
    target = torch.arange(rows) % classes
    overwriting(view(x * 1.0), target, reduction=reduction).backward()
    (expected,) = gradients_of(functional.cross_entropy(view(x), target, reduction=reduction), x)
    assert_near(x.grad, expected, 1e-12)


@pytest.mark.parametrize(
    ("view", "reduction"),
    [(lambda x: x[:1].expand(ROWS, CLASSES), "mean"), (lambda x: x.as_strided((4, 5), (3, 1)), "none")],
    ids=["expanded", "overlapping"],
)
def test_inplace_of_logits_that_overlap_themselves(view: Of, reduction: str, x: Tensor) -> None:
    """Rows that share their memory can not take a gradient each: right, or refused as torch does."""
    target = torch.arange(len(view(x)))
    loss = outcome(lambda: overwriting(view(x * 1.0), target, reduction=reduction))
    result = loss if isinstance(loss, Exception) else outcome(lambda: gradients_of(loss, x)[0])
    if reduction == "none":
        assert isinstance(result, Tensor), result
    plain = functional.cross_entropy(view(x), target, reduction=reduction)
    if not isinstance(result, ValueError):
        assert_error_or(result, lambda: gradients_of(plain, x)[0], relative=1e-12)


# Memory

CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def kilobytes(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text())
    assert found
    return int(found[1])


@pytest.fixture
def peak() -> Iterator[Callable[[Callable[[], Any]], int]]:
    """How many bytes of memory a call needs beside what is there already."""

    def measure(f: Callable[[], Any]) -> int:
        CLEAR.write_text("5")  # the peak from now on
        before = kilobytes("VmRSS")
        f()
        return 1024 * (kilobytes("VmHWM") - before)

    try:
        measure(lambda: None)
    except (OSError, AssertionError):
        pytest.skip("the system does not tell peaks of memory")
    yield measure


# Beyond what malloc keeps for itself, so that all of it comes from the system and goes back.
LARGE = (160, 65536)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("loss", 0.0), ("leaf", 1.0), ("inner", 1.0), ("inner-scaled", 1.0), ("inplace", 0.0),
     ("inplace-none", 0.0)],
)  # fmt: skip
def test_memory_of_cross_entropy(
    name: str, expected: float, peak: Callable[[Callable[[], Any]], int]
) -> None:
    """As many times the logits: nothing for the loss alone, one gradient, none in place."""
    ft.cross_entropy(torch.randn(2, 5, requires_grad=True), torch.tensor([0, 1])).backward()
    leaf = torch.zeros(LARGE).normal_().requires_grad_(name != "loss")
    target = torch.arange(LARGE[0])
    # A view has the logits' storage, and is no leaf; what arrives there goes no further.
    logits = Through.apply(leaf) if name.startswith("in") else leaf
    reduction = "none" if name.endswith("none") else "mean"

    def step() -> None:
        loss = ft.cross_entropy(logits, target, inplace=name.startswith("inplace"), reduction=reduction)
        if leaf.requires_grad:
            (0.5 * loss if name.endswith("scaled") else loss).sum().backward()

    size = leaf.numel() * leaf.element_size()
    assert peak(step) < (expected + 0.3) * size


class Through(torch.autograd.Function):
    """A copy, whose gradient is dropped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> None:
        assert grad.shape == LARGE and math.isfinite(grad[0, 0].item())
