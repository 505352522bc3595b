"""What a forward pass of fastloss.torch leaves to backward: assumed incoming gradients, and held logits."""

import math
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch_cases as cases  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402
from torch_tools import assert_batches_of_gradients, equal, gradients_of, over_dtypes, packing  # noqa: E402

import fastloss  # noqa: E402
import fastloss.torch as ft  # noqa: E402
from fastloss.torch import _autograd, _bridge, _evaluate, _factors, _functional, _plain  # noqa: E402

Tensor = torch.Tensor


@pytest.fixture(autouse=True)
def history(monkeypatch: pytest.MonkeyPatch) -> dict[Any, Any]:
    """Nothing is remembered of earlier tests."""
    found: dict[Any, Any] = {}
    monkeypatch.setattr(_factors, "_last", found)
    return found


# Incoming gradients that repeat

FACTORS = (0.125, 0.125, 0.3, 0.3, 0.3, 1.0, 1.0, 0.75, 0.75, -2.0, -2.0, 1e-30, 3e38, 0.0, math.inf, 0.25)
LOGITS = torch.randn(6, 70, generator=torch.Generator().manual_seed(0))
TARGET = torch.tensor([3, 0, 69, -100, 5, 5])


def calls_to_kernels(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The incoming gradients of all calls of `cross_entropy` for a gradient, from here on."""
    found: list[float] = []

    def seen(**arguments: Any) -> Any:
        found.extend([arguments.get("grad_output", 1.0)] if arguments.get("return_grad") else ())
        return fastloss.cross_entropy(**arguments)

    def seen_plain(logits: Tensor, target: Tensor, how: Any, *grad_output: float) -> Any:
        found.extend(grad_output)
        return own(logits, target, how, *grad_output)

    own = _plain._run
    loss = _functional._CROSS_ENTROPY._replace(function=seen)
    monkeypatch.setattr(_functional, "_CROSS_ENTROPY", loss)
    monkeypatch.setattr(_plain, "_run", seen_plain)
    return found


def leaf(dtype: torch.dtype = torch.float32) -> Tensor:
    return LOGITS.to(dtype).clone().requires_grad_()


def loss_at(x: Tensor, **options: Any) -> Tensor:
    """One place that calls the loss: factors are remembered for each."""
    return ft.cross_entropy(x, TARGET, **options)


def gradient(factor: float, dtype: torch.dtype = torch.float32, **options: Any) -> Tensor:
    x = leaf(dtype)
    loss = loss_at(x * 1.0, **options)
    return torch.autograd.grad(loss, x, torch.full_like(loss, factor))[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@cases.over_functions
def test_history_changes_no_bit(
    call: cases.Call, reduction: str, dtype: torch.dtype, history: dict[Any, Any]
) -> None:
    def gradients(factor: float) -> list[Tensor]:
        f, leaves = call.cast(dtype).of_leaves(reduction)
        loss = f(*leaves)
        return list(torch.autograd.grad(loss, leaves, torch.full_like(loss, factor)))

    found = [gradients(factor) for factor in FACTORS]
    for factor, actual in zip(FACTORS, found, strict=True):
        history.clear()
        for a, b in zip(actual, gradients(factor), strict=True):
            torch.testing.assert_close(a, b, rtol=0.0, atol=0.0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("factor", [0.125, 0.3])
def test_bits_are_those_of_the_kernel(factor: float, dtype: torch.dtype) -> None:
    """Before and after the factor is known; in place those of the kernel for powers of two."""
    factor = torch.tensor(factor, dtype=dtype).item()
    x = _bridge.as_array(LOGITS.to(dtype))
    _, expected = fastloss.cross_entropy(x, TARGET.numpy(), return_grad=True, grad_output=factor)
    for inplace in (False, True) if factor == 0.125 else (False,):
        for _ in range(3):
            found = _bridge.as_array(gradient(factor, dtype, inplace=inplace))
            assert np.array_equal(found.view(np.uint8), expected.view(np.uint8))


THIRD = torch.tensor(1 / 3).item()
# Where the logits are lost only powers of two are assumed.
LOST = (
    (0.3, 0.3, 0.125, 0.125, 0.125, 2.0**-30, 2.0**-30, 2.0**-30),
    [1.0, 1.0, 1.0, 0.125, 0.125, 0.125, 1.0, 1.0],
)


@pytest.mark.parametrize(
    ("factors", "expected", "options"),
    [
        ((0.125, 0.125, 0.25, 1.0, 1.0), [1.0, 0.125, 0.125, 0.25, 1.0], {}),
        ((THIRD, THIRD, THIRD, 0.5), [1.0, THIRD, THIRD, THIRD, THIRD, 0.5], {}),
        (*LOST, {"inplace": True}),
        (*LOST, {"z_loss": 0.1}),
    ],
    ids=["powers", "thirds", "inplace", "z_loss"],
)
def test_factor_that_repeats_is_assumed(
    factors: tuple[float, ...], expected: list[float], options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call of the kernel each; another one for a factor that is neither assumed nor a power of two."""
    calls = calls_to_kernels(monkeypatch)
    for factor in factors:
        gradient(factor, **options)
    assert calls == expected


def test_factor_that_keeps_changing_costs_a_multiplication(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is rounded twice; once it repeats, it is assumed again."""
    factors = torch.linspace(0.1, 0.2, 9).tolist()
    expected = [gradient(factor) for factor in factors]
    calls = calls_to_kernels(monkeypatch)
    for factor, exact in zip(factors, expected, strict=True):
        torch.testing.assert_close(gradient(factor), exact, rtol=3e-7, atol=0.0)
    assert calls[-5:] == [1.0] * 5
    for _ in range(2):
        gradient(factors[-1])
    assert calls[-1] == factors[-1]


def test_factors_that_alternate_are_not_assumed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two losses at one place cost what they cost without a memory; each place has its own."""
    calls = calls_to_kernels(monkeypatch)
    for _ in range(4):
        gradient(1.0)
        gradient(0.5)
    assert calls.count(0.5) <= 1 and calls[3:] == [1.0] * 5
    x = leaf()
    for _ in range(2):
        ft.cross_entropy(x, TARGET).backward()
        (0.5 * ft.cross_entropy(x, TARGET)).backward()
    assert calls[-2:] == [1.0, 0.5]


def test_logits_that_have_changed(history: dict[Any, Any]) -> None:
    """The gradient that has been computed is multiplied."""
    expected = gradient(0.3)
    for assumed in (1.0, 0.7):
        history.clear()
        gradient(assumed)
        x = leaf()
        y = x * 1.0
        loss = loss_at(y)
        with torch.no_grad():
            y.zero_()
        torch.testing.assert_close(torch.autograd.grad(0.3 * loss, x)[0], expected, rtol=3e-7, atol=0.0)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("options", [{}, {"z_loss": 0.1}], ids=str)
def test_another_factor_while_a_checkpoint_computes_again(reentrant: bool, options: dict[str, Any]) -> None:
    """The gradient comes from the second forward pass, and so does its factor."""
    expected = gradient(0.25, **options)
    for assumed in (0.125, 0.3):
        x = leaf()
        loss = checkpoint(lambda x: loss_at(x * 1.0, **options), x, use_reentrant=reentrant)
        gradient(assumed, **options)
        gradient(assumed, **options)
        loss.backward(torch.tensor(0.25))
        torch.testing.assert_close(x.grad, expected, rtol=1e-6, atol=0.0)


def test_kept_graph_with_another_factor() -> None:
    for _ in range(2):
        gradient(0.3)
    x = leaf()
    loss = loss_at(x)
    for factor, keep in ((0.3, True), (0.7, True), (0.3, True), (0.5, False)):
        (found,) = torch.autograd.grad(loss, x, torch.tensor(factor), retain_graph=keep)
        assert torch.equal(found, gradient(factor))
        found.zero_()


def test_batches_and_hooks_with_an_assumed_factor() -> None:
    for _ in range(2):
        gradient(0.125)
    x = leaf()
    assert_batches_of_gradients(lambda: loss_at(x), [x])
    expected = gradient(0.3)
    with packing([]):
        loss = loss_at(x)
    assert equal(gradients_of(0.3 * loss, [x]), [expected])


def test_memory_of_factors_is_bounded(history: dict[Any, Any]) -> None:
    for size in range(1, 600):
        _factors.remember((size,), 0.5)
    assert 0 < len(history) <= 256


# A divisor that is known in advance


def twelfth(input: Tensor, reduction: str = "sum", **options: Any) -> Tensor:
    """A twelfth of the cross-entropy."""

    def theirs(input: Tensor, target: Tensor, *_: Any) -> Tensor:
        return torch.nn.functional.cross_entropy(input, target, reduction=reduction) / 12.0

    tensors = (input, TARGET, None, None)
    call = _functional._CROSS_ENTROPY, tensors, {"axis": 1}, reduction, theirs
    return _evaluate.evaluate(*call, divisor=12.0, **options)


@pytest.mark.parametrize("inplace", [False, True])
@over_dtypes
@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_divisor(reduction: str, dtype: torch.dtype, inplace: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is divided, and the kernel gets the quotient."""
    calls = calls_to_kernels(monkeypatch)
    x = leaf(dtype)
    exact = x.detach().double().requires_grad_()
    loss = twelfth(x * 1.0, reduction, inplace=inplace)
    expected = torch.nn.functional.cross_entropy(exact, TARGET, reduction=reduction) / 12.0
    tolerance = 2 * torch.finfo(dtype).eps
    torch.testing.assert_close(loss.double(), expected, rtol=tolerance, atol=1e-7)
    loss.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(x.grad.double(), exact.grad, rtol=2 * tolerance, atol=6e-8)
    assert len(calls) == 1
    with torch.no_grad():
        torch.testing.assert_close(twelfth(x, reduction), loss)


def test_divisor_elsewhere() -> None:
    """In a graph, under a mode, in a second derivative."""
    x, expected = leaf(), gradient(1 / 12, reduction="sum")
    torch.testing.assert_close(gradients_of(torch.compile(twelfth, backend="eager")(x), [x]), [expected])
    with FlopCounterMode(display=False):
        torch.testing.assert_close(gradients_of(twelfth(x), [x]), [expected])
    torch.testing.assert_close(gradients_of(twelfth(x), [x], create_graph=True), [expected])


# Logits that are held for backward

HIDDEN, LAYER, BIAS = (
    torch.randn(*s, generator=torch.Generator().manual_seed(1)) for s in ((6, 8), (90, 8), (90,))
)
LINEAR = [ft.linear_cross_entropy, ft.linear_token_log_probs]
over_linear = pytest.mark.parametrize("function", LINEAR, ids=["cross_entropy", "token_log_probs"])


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """The shapes of all results of products."""
    found: list[tuple[int, ...]] = []
    multiply = _bridge._multiply

    def counted(a: Any, b: Any, out: Any, add: bool) -> None:
        found.append(out.shape)
        multiply(a, b, out, add)

    monkeypatch.setattr(_bridge, "_multiply", counted)
    return found


def leaves(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [x.to(dtype).clone().requires_grad_() for x in (HIDDEN, LAYER, BIAS)]


def loss_of(function: Callable[..., Tensor], x: list[Tensor], **options: Any) -> Tensor:
    return function(*x[:2], TARGET, linear_bias=x[2], **{"reduction": "none", **options})


@over_dtypes
@pytest.mark.parametrize("options", [{}, {"softcap": 3.0, "temperature": 0.7}], ids=["plain", "options"])
@over_linear
def test_three_products(
    function: Any, options: dict[str, Any], dtype: torch.dtype, products: list[tuple[int, ...]]
) -> None:
    """Four if they do not fit; the ignored row takes no part."""
    upstream = torch.linspace(-1.0, 2.0, 6)
    results = []
    for budget, count in ((None, 3), (5 * 90 * 8, 3), (5 * 90 * 4 - 1, 4)):
        products.clear()
        x = leaves(dtype)
        loss = loss_of(function, x, memory_budget=budget, **options)
        loss.backward(upstream.to(loss.dtype))
        assert len(products) == count or (count == 4 and len(products) > 4)
        assert products[0] == (5, 90) or count == 4
        results.append([loss.detach(), *(one.grad for one in x)])
    for other in results[1:]:
        eps = 4 * torch.finfo(dtype).eps
        torch.testing.assert_close(other, results[0], rtol=eps, atol=4 * eps)


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 1)])
@over_linear
def test_frozen_parts_take_no_product(
    function: Any, wanted: tuple[int, ...], products: list[tuple[int, ...]]
) -> None:
    """A frozen head under adapters: two products."""
    every = leaves()
    loss_of(function, every).sum().backward()
    products.clear()
    some = [x.detach().requires_grad_(k in wanted) for k, x in enumerate(leaves())]
    loss_of(function, some).sum().backward()
    assert len(products) == 1 + (0 in wanted) + (1 in wanted)
    for k, (a, b) in enumerate(zip(some, every, strict=True)):
        assert torch.equal(a.grad, b.grad) if k in wanted else a.grad is None


@over_linear
def test_held_logits_of_a_kept_graph(function: Any, products: list[tuple[int, ...]]) -> None:
    x = leaves()
    loss = loss_of(function, x).sum()
    first = gradients_of(loss, x, retain_graph=True)
    second = gradients_of(2.0 * loss, x, retain_graph=True)
    third = gradients_of(loss, x)
    assert equal(first, third) and equal(second, [2.0 * g for g in first])
    assert len(products) == 7
    with pytest.raises(RuntimeError, match="second time"):
        gradients_of(loss, x)


def test_held_logits_under_autocast_and_hooks(products: list[tuple[int, ...]]) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x = leaves()
        loss = loss_of(ft.linear_cross_entropy, x)
    loss.sum().backward()
    assert len(products) == 3 and loss.dtype == torch.float32 and x[1].grad.dtype == torch.float32
    with packing([]):
        loss = loss_of(ft.linear_cross_entropy, x)
    assert equal(gradients_of(loss, x), gradients_of(loss_of(ft.linear_cross_entropy, x), x))


def test_gradient_that_fails_leaves_no_wrong_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its beginning may stand over them: then nobody can use them again."""
    x = leaves()
    loss = loss_of(ft.linear_cross_entropy, x)
    with monkeypatch.context() as patch:
        patch.setattr(_bridge, "_multiply", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            loss.sum().backward()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.sum().backward()


def test_nothing_is_held_without_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a gradient, and after backward."""
    held: list[Any] = []

    class Seen(_autograd.Held):
        def __init__(self, *logits: Any) -> None:
            super().__init__(*logits)
            held.append(self)

    monkeypatch.setattr(_autograd, "Held", Seen)
    x = leaves()
    with torch.no_grad():
        loss_of(ft.linear_cross_entropy, x)
    loss_of(ft.linear_cross_entropy, [one.detach() for one in x])
    loss_of(ft.linear_cross_entropy, x, reduction="mean")
    assert not held
    loss = loss_of(ft.linear_cross_entropy, x)
    (store,) = held
    memory = weakref.ref(store.logits)
    store.logits = None
    assert memory() is not None, "the graph has it"
    loss.sum().backward()
    held.clear()  # what backward used
    assert memory() is None
