"""The contract of fastloss.torch with autograd: what is kept, scaled, overwritten, refused and recomputed."""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch_cases as cases  # noqa: E402
from torch.autograd import forward_ad  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402
from torch_cases import REDUCTIONS, Call, outcome  # noqa: E402

import fastloss.torch as ft  # noqa: E402

Tensor = torch.Tensor
pytestmark = pytest.mark.filterwarnings(cases.ignore_kl_mean)

over_functions = pytest.mark.parametrize("name", cases.FIRST)
over_torchs = pytest.mark.parametrize("name", cases.NAMES_OF_TORCH)
over_own = pytest.mark.parametrize("name", cases.NAMES_OF_OWN)
over_reductions = pytest.mark.parametrize("reduction", REDUCTIONS)

# No second derivative in torch.
ONCE_IN_TORCH = ("multi_margin_loss",)


def loss_of(name: str, reduction: str, function: Any = None) -> tuple[Callable[..., Tensor], list[Tensor]]:
    """A function of the tensors that have gradients, and these as leaves."""
    call = cases.FIRST[name]
    leaves = call.leaves()

    def f(*tensors: Tensor) -> Tensor:
        return call.value(dict(zip(leaves, tensors, strict=True)), function, reduction=reduction)

    return f, list(leaves.values())


# Derivatives


@over_reductions
@over_functions
def test_gradcheck(name: str, reduction: str) -> None:
    f, leaves = loss_of(name, reduction)
    assert torch.autograd.gradcheck(f, leaves, fast_mode=name.startswith("linear"))


@over_reductions
@over_torchs
def test_gradgradcheck(name: str, reduction: str) -> None:
    f, leaves = loss_of(name, reduction)
    if name in ONCE_IN_TORCH:
        return
    assert torch.autograd.gradgradcheck(f, leaves, fast_mode=True, atol=1e-4)


@over_reductions
@over_torchs
def test_second_derivatives_are_torchs(name: str, reduction: str) -> None:
    """The penalty of a gradient, whose own gradient goes through it."""
    results = []
    for function in (cases.TORCHS[name], None):
        f, leaves = loss_of(name, reduction, function)

        def run(f: Any = f, leaves: Any = leaves) -> list[Tensor]:
            loss = f(*leaves)
            weight = torch.linspace(0.5, 2.0, max(loss.numel(), 1), dtype=loss.dtype).view(loss.shape)
            grads = torch.autograd.grad((loss * weight).sum() ** 2, leaves, create_graph=True)
            penalty = sum((g**2).sum() for g in grads)
            return [*grads, *torch.autograd.grad(penalty, leaves)]

        results.append(outcome(run))
    theirs, ours = results
    if isinstance(theirs, Exception):
        assert name in ONCE_IN_TORCH and type(ours) is type(theirs)
        return
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@over_reductions
@pytest.mark.parametrize("name", [*cases.NAMES_OF_OWN, "cross_entropy-extras", "linear_cross_entropy-extras"])
def test_second_derivatives_of_ours_are_refused(name: str, reduction: str) -> None:
    """Right or an error, never wrong."""
    if name.endswith("-extras"):
        loss = next(x for x in cases.EXTRAS if x.name == name.removesuffix("-extras"))
        call = loss.call("all-extras")
    else:
        call = cases.FIRST[name]
    leaves = call.leaves()
    loss = call.value(leaves, reduction=reduction).sum()
    with pytest.raises(RuntimeError):
        grads = torch.autograd.grad(loss, list(leaves.values()), create_graph=True)
        sum((g**2).sum() for g in grads).backward()


def test_hessian_is_torchs() -> None:
    x, target = torch.randn(3, 4, dtype=torch.float64), torch.tensor([0, 3, 1])
    for vectorize in (False, True):
        ours, theirs = (
            torch.autograd.functional.hessian(lambda x, f=f: f(x, target), x, vectorize=vectorize)
            for f in (ft.cross_entropy, functional.cross_entropy)
        )
        assert ours.any()
        torch.testing.assert_close(ours, theirs)


# The incoming gradient


@over_functions
def test_incoming_gradient_multiplies(name: str) -> None:
    """Of factors in the graph on both sides of the loss, and of sums of several losses."""
    for reduction in REDUCTIONS:
        f, leaves = loss_of(name, reduction)
        plain = torch.autograd.grad(f(*leaves).sum(), leaves)
        scaled = torch.autograd.grad(3.0 * f(*(1.0 * x for x in leaves)).sum(), leaves)
        twice = torch.autograd.grad((f(*leaves) + 2.0 * f(*leaves)).sum(), leaves)
        for p, s, t in zip(plain, scaled, twice, strict=True):
            torch.testing.assert_close(s, 3.0 * p, rtol=1e-12, atol=0.0)
            torch.testing.assert_close(t, 3.0 * p, rtol=1e-12, atol=1e-18)


@over_functions
def test_zero_incoming_gradient(name: str) -> None:
    for reduction in REDUCTIONS:
        f, leaves = loss_of(name, reduction)
        loss = f(*leaves)
        grads = torch.autograd.grad(loss, leaves, torch.zeros_like(loss))
        assert all(g.shape == x.shape and not g.any() for g, x in zip(grads, leaves, strict=True))


POINT = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
OTHER = POINT.flip(0) + 0.5
CLASS_OF, COUNTED = torch.tensor([0, 5, 2, 1]), torch.tensor([True, False, True, True])
SKIPPED = CLASS_OF.masked_fill(~COUNTED, -100)
ROW_WEIGHT = COUNTED.double()  # a weight for each row
CLASS_WEIGHT = torch.ones(6, dtype=torch.float64).index_fill(0, torch.tensor(5), 0.0)
LAYER = torch.randn(9, 6, generator=torch.Generator().manual_seed(1))
Example = Callable[[Tensor], Tensor]
# Losses of (4, 6) tensors of which row 1 does not count.
NOT_ALL: dict[str, Example] = {
    "ignored": lambda x: ft.cross_entropy(x, SKIPPED),
    "ignored-sum": lambda x: ft.cross_entropy(x, SKIPPED, reduction="sum"),
    "ignored-inplace": lambda x: ft.cross_entropy(1.0 * x, SKIPPED, inplace=True),
    "ignored-extras": lambda x: ft.cross_entropy(x, SKIPPED, z_loss=0.1, label_smoothing=0.1, softcap=9.0),
    "sample-weight": lambda x: ft.cross_entropy(x, CLASS_OF, sample_weight=ROW_WEIGHT.to(x.dtype)),
    "sample-weight-of-probabilities": lambda x: ft.cross_entropy(
        x, x.detach().softmax(1).flip(0), sample_weight=ROW_WEIGHT.to(x.dtype)
    ),
    "class-weight": lambda x: ft.cross_entropy(x, CLASS_OF, CLASS_WEIGHT.to(x.dtype)),
    "nll": lambda x: ft.nll_loss(x, SKIPPED),
    "nll-sample-weight": lambda x: ft.nll_loss(x, CLASS_OF, sample_weight=ROW_WEIGHT.to(x.dtype)),
    "linear": lambda x: ft.linear_cross_entropy(x, LAYER.to(x.dtype), SKIPPED),
    "linear-sample-weight": lambda x: ft.linear_cross_entropy(
        x, LAYER.to(x.dtype), CLASS_OF, sample_weight=ROW_WEIGHT.to(x.dtype)
    ),
    "linear-token-log-probs": lambda x: ft.linear_token_log_probs(
        x, LAYER.to(x.dtype), SKIPPED, reduction="mean"
    ),
    "token-log-probs": lambda x: ft.token_log_probs(x, SKIPPED, reduction="mean"),
    "sequence-log-probs": lambda x: ft.sequence_log_probs(x[None], CLASS_OF[None], mask=COUNTED[None]).sum(),
    "kl": lambda x: ft.kl_div_with_logits(x, OTHER.to(x.dtype), mask=COUNTED),
    "teacher": lambda x: ft.kl_div_with_logits(OTHER.to(x.dtype), x, mask=COUNTED),
    "js": lambda x: ft.js_div_with_logits(x, OTHER.to(x.dtype), mask=COUNTED),
    "tv": lambda x: ft.tv_distance_with_logits(x, OTHER.to(x.dtype), mask=COUNTED),
    "weighted": lambda x: ft.mse_loss(
        x, OTHER.to(x.dtype), weight=ROW_WEIGHT.to(x.dtype)[:, None].expand(4, 6)
    ),
    "weighted-logits": lambda x: ft.binary_cross_entropy_with_logits(
        x, OTHER.to(x.dtype).sigmoid(), ROW_WEIGHT.to(x.dtype)[:, None]
    ),
    "ppo": lambda x: ft.ppo_loss(x, x.detach(), OTHER.to(x.dtype), mask=COUNTED[:, None].expand(4, 6)),
    "grpo": lambda x: ft.grpo_loss(
        x, x.detach(), OTHER.to(x.dtype)[:, 0], mask=COUNTED[:, None].expand(4, 6)
    ),
    "kl-penalty": lambda x: ft.kl_penalty(x, OTHER.to(x.dtype), mask=COUNTED[:, None].expand(4, 6)),
    "value": lambda x: ft.value_loss(x, x.detach(), OTHER.to(x.dtype), mask=COUNTED[:, None].expand(4, 6)),
}
# Weights of 0 count for the kernels of softmax losses, which have the gradient of losses that wait.
EARLY = [torch.float32, torch.float64, torch.bfloat16]


@pytest.mark.parametrize("factor", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("dtype", EARLY, ids=str)
@pytest.mark.parametrize("label", NOT_ALL)
def test_what_does_not_count_has_no_gradient(label: str, dtype: torch.dtype, factor: float) -> None:
    """Whatever comes in, exactly 0; from what counts infinities or NaN go on."""
    x = POINT.to(dtype).requires_grad_()
    (plain,) = torch.autograd.grad(NOT_ALL[label](x), x)
    loss = NOT_ALL[label](x)
    upstream = torch.full_like(loss, factor)
    kept, last = (torch.autograd.grad(loss, x, upstream, retain_graph=keep)[0] for keep in (True, False))
    for grad in (kept, last):
        assert grad.dtype == dtype and not grad[1].any()
        assert torch.equal(grad.isfinite(), plain == 0)
    if not math.isnan(factor):
        assert torch.equal(last.sign(), plain.sign() * math.copysign(1.0, factor))


@pytest.mark.parametrize("label", [n for n in NOT_ALL if "weight" not in n or n.startswith("weighted")])
def test_what_does_not_count_has_no_gradient_later(label: str) -> None:
    """Where the gradient waits for the incoming one."""
    x = POINT.half().requires_grad_()
    for factor in (math.inf, math.nan):
        (grad,) = torch.autograd.grad(factor * NOT_ALL[label](x), x)
        assert not grad[1].any() and not grad[0].isfinite().all()


@pytest.mark.parametrize("label", ["ignored", "linear", "kl", "weighted"])
def test_batches_of_incoming_gradients_that_are_not_finite(label: str) -> None:
    x = POINT.clone().requires_grad_()
    upstreams = torch.tensor([1.0, math.inf, math.nan])
    (grads,) = torch.autograd.grad(NOT_ALL[label](x), x, upstreams, is_grads_batched=True)
    assert grads[0].isfinite().all() and not grads[:, 1].any()
    assert not grads[1:, 0].isfinite().any()


def test_weight_of_a_layer_with_an_incoming_gradient_that_is_not_finite() -> None:
    """Ignored tokens leave no trace in it; features that are 0 for all others have a gradient of 0."""
    x, weight = POINT.clone(), LAYER.clone().requires_grad_()
    x[:, 3], x[1] = 0.0, math.nan
    (grad,) = torch.autograd.grad(math.inf * ft.linear_cross_entropy(x, weight, SKIPPED), weight)
    assert not grad[:, 3].any() and grad[:, :3].isinf().all() and grad[:, 4:].isinf().all()


@over_reductions
@over_functions
def test_backward_twice(name: str, reduction: str) -> None:
    f, leaves = loss_of(name, reduction)
    loss = f(*leaves)
    first = torch.autograd.grad(2.0 * loss.sum(), leaves, retain_graph=True)
    kept = [g.clone() for g in first]
    for g in first:
        g.zero_()  # nobody's but the caller's
    second = torch.autograd.grad(2.0 * loss.sum(), leaves, retain_graph=True)
    other = torch.autograd.grad(loss.sum(), leaves)
    for a, b, c in zip(kept, second, other, strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(c, 0.5 * a, rtol=1e-12, atol=0.0)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss.sum(), leaves)


@over_functions
def test_backward_twice_with_one(name: str) -> None:
    """An incoming gradient of 1 multiplies nothing: what comes out must not be what is kept."""
    f, leaves = loss_of(name, "sum")
    loss = f(*leaves)
    loss.backward(retain_graph=True)
    kept = [x.grad.clone() for x in leaves]
    for x in leaves:
        x.grad.zero_()
    loss.backward(retain_graph=True)
    assert all(torch.equal(x.grad, g) for x, g in zip(leaves, kept, strict=True))
    for g in torch.autograd.grad(loss, leaves, retain_graph=True):
        g.mul_(7.0)
    second = outcome(lambda: torch.autograd.grad(loss, leaves))
    if isinstance(second, Exception):
        assert isinstance(second, RuntimeError) and "modified by an inplace operation" in str(second)
    else:
        assert all(torch.equal(a, b) for a, b in zip(second, kept, strict=True))


@over_functions
def test_gradients_are_added_up(name: str) -> None:
    f, leaves = loss_of(name, "sum")
    f(*leaves).backward()
    once = [x.grad.clone() for x in leaves]
    f(*leaves).backward()
    f(*leaves).backward(torch.tensor(-1.0, dtype=torch.float64))
    for x, g in zip(leaves, once, strict=True):
        torch.testing.assert_close(x.grad, g, rtol=1e-12, atol=1e-16)


@over_reductions
@pytest.mark.parametrize("name", ["cross_entropy", "mse_loss", "log_cosh_loss", "kl_div_with_logits"])
def test_leaf_takes_the_gradient_without_a_copy(name: str, reduction: str) -> None:
    f, leaves = loss_of(name, reduction)
    arrived: list[int] = []
    leaves[0].register_hook(lambda g: arrived.append(g.data_ptr()))
    f(*leaves).sum().backward()
    assert arrived == [leaves[0].grad.data_ptr()]


# What is saved


def changed_after(change: Callable[[Tensor, Call], None], name: str, reduction: str) -> Any:
    """The gradient, or the error, where something changes between the loss and backward."""
    call = cases.FIRST[name].cast(torch.float64)
    leaf = call.arguments[call.wants[0]].detach().clone().requires_grad_()
    input = leaf * 1.0
    given = {k: v.clone() if isinstance(v, Tensor) else v for k, v in call.arguments.items()}
    call = Call(call.loss, call.label, given, call.options)
    loss = call.value({call.wants[0]: input}, reduction=reduction)
    with torch.no_grad():
        change(input, call)
    return outcome(lambda: torch.autograd.grad(loss.sum(), leaf)[0])


def zero_input(input: Tensor, call: Call) -> None:
    input.zero_()


def change_target(input: Tensor, call: Call) -> None:
    target = call.arguments["target"]
    target.copy_(target.roll(1, 0))


# torch's own functions save the logarithms of the probabilities, not what they are computed of.
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_logits_may_change_before_backward(reduction: str) -> None:
    for name in ("cross_entropy", "kl_div_with_logits", "entropy"):
        grad = changed_after(zero_input, name, reduction)
        assert isinstance(grad, Tensor), grad
        call = cases.FIRST[name]
        expected = call.expected(reduction).gradients[call.wants[0]]
        cases.assert_near(grad, expected, 1e-11, title=name)


@pytest.mark.parametrize("change", [zero_input, change_target])
@over_reductions
@pytest.mark.parametrize("name", [n for n, c in cases.FIRST.items() if "target" in c.arguments])
def test_changes_before_backward_are_never_wrong(
    name: str, reduction: str, change: Callable[[Tensor, Call], None]
) -> None:
    """The right gradient, or torch's error of versions."""
    grad = changed_after(change, name, reduction)
    if isinstance(grad, Exception):
        assert isinstance(grad, RuntimeError) and "modified by an inplace operation" in str(grad)
        return
    call = cases.FIRST[name]
    expected = call.expected(reduction).gradients[call.wants[0]]
    cases.assert_near(grad, expected, 1e-11, title=name)


def packing(copies: list[int]) -> AbstractContextManager[None]:
    """Everything that is saved is copied there and back."""

    def pack(x: Tensor) -> Tensor:
        copies.append(x.numel())
        return x.detach().clone()

    return torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x.clone())


@over_reductions
@over_functions
def test_saved_tensor_hooks(name: str, reduction: str) -> None:
    f, leaves = loss_of(name, reduction)
    plain = torch.autograd.grad(f(*leaves).sum(), leaves)
    copies: list[int] = []
    for hooks in (packing(copies), torch.autograd.graph.save_on_cpu()):
        with hooks:
            loss = f(*leaves)
        for grads in (
            torch.autograd.grad(loss.sum(), leaves, retain_graph=True),
            torch.autograd.grad(loss.sum(), leaves),
        ):
            assert all(torch.equal(a, b) for a, b in zip(grads, plain, strict=True))
    if reduction == "none":
        assert copies, "the gradient is computed in backward, of what has been saved"


@over_reductions
@pytest.mark.parametrize("use_reentrant", [False, True], ids=["not-reentrant", "reentrant"])
@over_functions
def test_activation_checkpointing(name: str, use_reentrant: bool, reduction: str) -> None:
    f, leaves = loss_of(name, reduction)

    def block(*tensors: Tensor) -> Tensor:
        return f(*(x * 1.0 for x in tensors)).sum()

    plain = torch.autograd.grad(block(*leaves), leaves)
    loss = checkpoint(block, *leaves, use_reentrant=use_reentrant)
    loss.backward()
    assert all(torch.equal(x.grad, g) for x, g in zip(leaves, plain, strict=True))


@over_functions
def test_nothing_keeps_the_inputs_alive(name: str) -> None:
    """Neither the loss of a call without gradient, nor what is left after backward."""
    import gc
    import weakref

    f, leaves = loss_of(name, "sum")
    inputs = [x * 1.0 for x in leaves]
    watch = [weakref.ref(x) for x in inputs]
    loss = f(*inputs)
    loss.backward()
    inputs.clear()
    if any(w() is not None for w in watch):
        gc.collect()
    assert loss.grad_fn is not None and all(w() is None for w in watch)


# Modes


@over_reductions
@over_functions
def test_modes_without_gradient(name: str, reduction: str) -> None:
    f, leaves = loss_of(name, reduction)
    expected = f(*leaves).detach()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            loss = f(*leaves)
        assert torch.equal(loss, expected)
        assert not loss.requires_grad and loss.grad_fn is None
        assert loss.is_inference() == (mode is torch.inference_mode)
    with torch.inference_mode():
        assert torch.equal(f(*(x.clone() for x in leaves)), expected)
    # Tensors of inference outside of it, where nothing has a gradient.
    with torch.inference_mode():
        inputs = [x.detach().clone() for x in leaves]
    assert torch.equal(f(*inputs), expected)


AUTOCAST = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("half", AUTOCAST, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@over_torchs
def test_autocast_is_torchs(name: str, dtype: torch.dtype, half: torch.dtype) -> None:
    call = cases.FIRST[name].cast(dtype)
    for reduction in REDUCTIONS:
        results = []
        for function in (cases.TORCHS[name], None):
            leaves = call.leaves()

            def run(function: Any = function, leaves: Any = leaves, r: str = reduction) -> list[Tensor]:
                with torch.autocast("cpu", dtype=half):
                    loss = call.value(leaves, function, reduction=r)
                loss.sum().backward()
                return [loss.detach(), *(x.grad for x in leaves.values())]

            results.append(outcome(run))
        theirs, ours = results
        assert not isinstance(ours, Exception), ours
        if isinstance(theirs, Exception):  # it has no kernels of half types for some
            assert isinstance(theirs, NotImplementedError)
            continue
        assert [x.dtype for x in ours] == [x.dtype for x in theirs]
        eps = torch.finfo(half).eps
        for a, b in zip(ours, theirs, strict=True):
            bound = 4.0 * eps * b.float().abs().max().item()
            torch.testing.assert_close(a.float(), b.float(), rtol=4.0 * eps, atol=bound)


@pytest.mark.parametrize("half", AUTOCAST, ids=str)
@over_own
def test_autocast_gives_float32(name: str, half: torch.dtype) -> None:
    """Of half types; others stay what they are, but for float32 in a matrix product."""
    for dtype, expected in (
        (half, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ):
        if name.startswith("linear") and dtype is torch.float32:
            continue  # see the tests of matrix products below
        call = cases.FIRST[name].cast(dtype)
        for reduction in REDUCTIONS:
            leaves = call.leaves()
            with torch.autocast("cpu", dtype=half):
                loss = call.value(leaves, reduction=reduction)
            assert loss.dtype == expected
            loss.sum().backward()
            result = cases.Result(loss.detach(), {n: x.grad for n, x in leaves.items()})
            assert all(g.dtype == dtype for g in result.gradients.values())
            call.check(result, call.expected(reduction), dtype, title=reduction)


# The last layer and its loss, which autocast casts to its type as `torch.nn.functional.linear`.
LAYERS: dict[str, tuple[str, dict[str, Any]]] = {
    "linear_cross_entropy": ("linear_cross_entropy", {}),
    "softcap": ("linear_cross_entropy", {"softcap": 5.0}),
    "temperature": ("linear_cross_entropy", {"temperature": 2.0}),
    "linear_token_log_probs": ("linear_token_log_probs", {}),
}
over_layers = pytest.mark.parametrize("layer", LAYERS)


def layer_and_loss(
    layer: str, dtypes: tuple[torch.dtype, ...], half: torch.dtype | None, reduction: str
) -> list[Tensor]:
    """A loss of hidden states, weight and bias of these types, and their gradients."""
    name, options = LAYERS[layer]
    rng = torch.Generator().manual_seed(0)
    # Numbers that the half types have, so that casting loses nothing.
    hidden, weight, bias = (
        torch.randn(*shape, generator=rng).half().bfloat16() for shape in ((8, 6), (11, 6), (11,))
    )
    leaves = [x.to(t).requires_grad_() for x, t in zip((hidden, weight, bias), dtypes, strict=True)]
    with torch.autocast("cpu", dtype=half, enabled=half is not None):
        loss = getattr(ft, name)(
            leaves[0], leaves[1], torch.arange(8), linear_bias=leaves[2], reduction=reduction, **options
        )
    loss.sum().backward()
    return [loss.detach(), *(x.grad for x in leaves)]


@over_reductions
@pytest.mark.parametrize("half", AUTOCAST, ids=str)
@over_layers
def test_autocast_of_a_matrix_product(layer: str, half: torch.dtype, reduction: str) -> None:
    """Both operands are cast, and each has a gradient of its own type."""
    single, other = torch.float32, torch.bfloat16 if half is torch.float16 else torch.float16
    expected = layer_and_loss(layer, (half, half, half), half, reduction)
    assert expected[0].dtype == single
    for dtypes in (
        (half, single, single),
        (single, half, half),
        (single, single, single),
        (other, single, half),
    ):
        actual = layer_and_loss(layer, dtypes, half, reduction)
        assert [x.dtype for x in actual] == [single, *dtypes]
        for a, e, dtype in zip(actual, expected, (single, *dtypes), strict=True):
            assert torch.equal(a, e.to(dtype))
    wide = torch.float64
    for a, e in zip(
        layer_and_loss(layer, (wide, wide, wide), half, reduction),
        layer_and_loss(layer, (wide, wide, wide), None, reduction),
        strict=True,
    ):
        assert a.dtype == wide and torch.equal(a, e), "float64 is not cast, as in torch"


def test_autocast_of_the_layer_is_torchs() -> None:
    """Loss and gradients within the rounding of the logits, which torch has in bfloat16."""
    x, weight, target = torch.randn(8, 6), torch.randn(11, 6), torch.arange(8)
    results = []
    for function in (functional.linear_cross_entropy, ft.linear_cross_entropy):
        leaves = [x.bfloat16().requires_grad_(), weight.clone().requires_grad_()]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = function(*leaves, target)
        loss.backward()
        results.append([loss.detach(), *(leaf.grad for leaf in leaves)])
    torch.testing.assert_close(results[1], results[0], rtol=0.02, atol=0.01)
    assert type(loss.grad_fn).__name__.startswith("_Early"), "ours: there are no logits"


@over_reductions
@pytest.mark.parametrize("layer", ["linear_cross_entropy", "softcap", "temperature"])
@pytest.mark.parametrize("half", AUTOCAST, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_autocast_of_a_layer_with_probabilities(
    dtype: torch.dtype, half: torch.dtype, layer: str, reduction: str
) -> None:
    """They may stay what they are: the answer is that of float32, within the rounding of the half type."""
    hidden, weight, probabilities = torch.randn(8, 6), torch.randn(11, 6), torch.randn(8, 11).softmax(1)
    options = LAYERS[layer][1]
    results = []
    for enabled, target in ((True, probabilities.to(dtype)), (False, probabilities)):
        leaves = [hidden.clone().requires_grad_(), weight.clone().requires_grad_()]
        with torch.autocast("cpu", dtype=half, enabled=enabled):
            loss = ft.linear_cross_entropy(*leaves, target, reduction=reduction, **options)
        loss.sum().backward()
        assert loss.dtype.itemsize >= 4
        results.append([loss.detach().float(), *(leaf.grad for leaf in leaves)])
    for actual, expected in zip(*results, strict=True):
        bound = 8.0 * torch.finfo(half).eps * expected.abs().max().item()
        torch.testing.assert_close(actual, expected, rtol=0.0, atol=bound)


@over_layers
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64], ids=str)
def test_types_of_a_layer_that_differ(layer: str, dtype: torch.dtype) -> None:
    """Without autocast an error, which has torch's names of the types."""
    if layer == "linear_cross_entropy":
        with pytest.raises(RuntimeError, match="same dtype"):  # torch's own
            layer_and_loss(layer, (torch.bfloat16, dtype, dtype), None, "mean")
        return
    with pytest.raises(TypeError, match=f"linear_weight must be torch.bfloat16 like input, got {dtype}"):
        layer_and_loss(layer, (torch.bfloat16, dtype, dtype), None, "mean")
    with pytest.raises(TypeError, match=f"linear_bias must be {dtype} like input, got torch.bfloat16"):
        layer_and_loss(layer, (dtype, dtype, torch.bfloat16), None, "mean")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_autocast_of_a_layer_before_the_loss(dtype: torch.dtype) -> None:
    """Logits come in half, parameters are not: a training step as people write it."""
    layer = torch.nn.Linear(6, 11).to(dtype)
    x, target = torch.randn(8, 6, dtype=dtype), torch.arange(8)
    grads = []
    for f in (functional.cross_entropy, ft.cross_entropy):
        layer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = f(layer(x), target)
        assert loss.dtype == (torch.float64 if dtype is torch.float64 else torch.float32)
        loss.backward()
        grads.append(layer.weight.grad.clone())
    torch.testing.assert_close(grads[1], grads[0], rtol=0.02, atol=2e-3)


HALF = torch.bfloat16
# Half predictions against what a data loader gives: name, arguments, options.
MIXED: dict[str, tuple[str, tuple[Tensor, ...], dict[str, Tensor]]] = {
    "target": ("mse_loss", (torch.randn(4, 5).to(HALF), torch.randn(4, 5)), {}),
    "target-of-l1": ("l1_loss", (torch.randn(4, 5).to(HALF), torch.randn(4, 5)), {}),
    "target-of-logits": (
        "binary_cross_entropy_with_logits",
        (torch.randn(4, 5).to(HALF), torch.rand(4, 5)),
        {},
    ),
    "pos_weight": (
        "binary_cross_entropy_with_logits",
        (torch.randn(4, 5).to(HALF), torch.rand(4, 5).to(HALF)),
        {"pos_weight": torch.rand(5)},
    ),
    "class-weight": (
        "cross_entropy",
        (torch.randn(4, 5).to(HALF), torch.tensor([0, 3, 1, 4])),
        {"weight": torch.rand(5) + 0.5},
    ),
    "probabilities": ("cross_entropy", (torch.randn(4, 5).to(HALF), torch.rand(4, 5).softmax(1)), {}),
    "input": ("huber_loss", (torch.randn(4, 5), torch.randn(4, 5).to(HALF)), {}),
    "kl": ("kl_div", (torch.randn(4, 5).to(HALF), torch.rand(4, 5).softmax(1)), {}),
    "var": (
        "gaussian_nll_loss",
        (torch.randn(4, 5).to(HALF), torch.randn(4, 5), torch.rand(4, 5) + 0.5),
        {},
    ),
    "linear_weight": (
        "linear_cross_entropy",
        (torch.randn(4, 6).to(HALF), torch.randn(5, 6), torch.tensor([0, 3, 1, 4])),
        {},
    ),
    "linear-float32": (
        "linear_cross_entropy",
        (torch.randn(4, 6), torch.randn(5, 6), torch.tensor([0, 3, 1, 4])),
        {"linear_bias": torch.randn(5)},
    ),
}


@pytest.mark.parametrize("label", MIXED)
def test_autocast_of_mixed_types_is_torchs(label: str) -> None:
    name, tensors, options = MIXED[label]
    results = []
    for f in (cases.TORCHS[name], getattr(ft, name)):
        leaf = tensors[0].clone().requires_grad_()

        def run(f: Any = f, leaf: Tensor = leaf) -> list[Tensor]:
            with torch.autocast("cpu", dtype=HALF):
                loss = f(leaf, *tensors[1:], **options)
            loss.backward()
            return [loss.detach(), leaf.grad]

        results.append(outcome(run))
    theirs, ours = results
    if isinstance(theirs, Exception):
        assert type(ours) is type(theirs), ours
        return
    assert not isinstance(ours, Exception), ours
    assert [x.dtype for x in ours] == [x.dtype for x in theirs]
    for a, b in zip(ours, theirs, strict=True):
        bound = 4.0 * torch.finfo(HALF).eps * b.float().abs().max().item()
        torch.testing.assert_close(a.float(), b.float(), rtol=0.0, atol=bound)


# Transforms


def cross_entropy_of(f: Callable[..., Tensor]) -> Callable[[Tensor], Tensor]:
    target = torch.tensor([0, 3, 1])
    return lambda x: f(x, target, label_smoothing=0.1)


def mean_squares_of(f: Callable[..., Tensor]) -> Callable[[Tensor], Tensor]:
    target = torch.linspace(-1.0, 1.0, 12, dtype=torch.float64).view(3, 4)
    return lambda x: f(x, target)


SOME = {
    "cross_entropy": cross_entropy_of,
    "mse_loss": mean_squares_of,
    "huber_loss": mean_squares_of,
    "soft_margin_loss": mean_squares_of,
    "smooth_l1_loss": mean_squares_of,
}


@pytest.mark.parametrize("name", SOME)
def test_functional_transforms_are_torchs(name: str) -> None:
    ours, theirs = (SOME[name](f) for f in (getattr(ft, name), cases.TORCHS[name]))
    x = torch.randn(3, 4, dtype=torch.float64)
    v, batch = torch.randn_like(x), torch.randn(5, 3, 4, dtype=torch.float64)
    transforms: dict[str, Callable[[Any], Any]] = {
        "grad": lambda f: torch.func.grad(f)(x),
        "grad_and_value": lambda f: torch.func.grad_and_value(f)(x),
        "vmap": lambda f: torch.func.vmap(f)(batch),
        "vmap of grad": lambda f: torch.func.vmap(torch.func.grad(f))(batch),
        "jvp": lambda f: torch.func.jvp(f, (x,), (v,)),
        "vjp": lambda f: torch.func.vjp(f, x)[1](torch.tensor(2.0, dtype=torch.float64)),
        "jacrev": lambda f: torch.func.jacrev(f)(x),
        "jacfwd": lambda f: torch.func.jacfwd(f)(x),
        "hessian": lambda f: torch.func.hessian(f)(x),
    }
    for label, transform in transforms.items():
        expected, actual = outcome(lambda t=transform: t(theirs)), outcome(lambda t=transform: t(ours))
        if isinstance(expected, Exception):
            assert type(actual) is type(expected), label
        else:
            torch.testing.assert_close(actual, expected, msg=label)


@over_torchs
def test_forward_mode_is_torchs(name: str) -> None:
    def tangents(function: Any) -> list[Tensor]:
        f, leaves = loss_of(name, "mean", function)
        with forward_ad.dual_level():
            duals = [forward_ad.make_dual(x.detach(), torch.cos(x.detach())) for x in leaves]
            return [x.clone() for x in forward_ad.unpack_dual(f(*duals))]

    theirs, ours = outcome(lambda: tangents(cases.TORCHS[name])), outcome(lambda: tangents(None))
    if isinstance(theirs, Exception):
        assert type(ours) is type(theirs)
    else:
        torch.testing.assert_close(ours, theirs)


@over_own
def test_forward_mode_of_ours_is_never_wrong(name: str) -> None:
    """A tangent that is dropped would be a derivative of 0."""
    f, leaves = loss_of(name, "sum")
    grads = torch.autograd.grad(f(*leaves), leaves)

    def tangent(require: bool) -> Tensor | None:
        with forward_ad.dual_level():
            duals = [
                forward_ad.make_dual(x.detach().requires_grad_(require), torch.cos(x.detach()))
                for x in leaves
            ]
            return forward_ad.unpack_dual(f(*duals)).tangent

    for require in (False, True):
        result = outcome(lambda r=require: tangent(r))
        if isinstance(result, Exception):
            assert isinstance(result, (RuntimeError, ValueError, TypeError))
            continue
        assert result is not None
        expected = sum((g * torch.cos(x.detach())).sum() for g, x in zip(grads, leaves, strict=True))
        torch.testing.assert_close(result, expected)


@over_own
def test_vmap_of_ours_is_never_wrong(name: str) -> None:
    f, leaves = loss_of(name, "sum")
    batch = [torch.stack([x.detach(), x.detach() + 0.125]) for x in leaves]
    result = outcome(lambda: torch.func.vmap(f)(*batch))
    if isinstance(result, Exception):
        assert isinstance(result, (RuntimeError, ValueError, TypeError))
        return
    for i in range(2):
        torch.testing.assert_close(result[i], f(*(b[i] for b in batch)))


@over_reductions
@over_own
def test_reverse_transforms_of_ours(name: str, reduction: str) -> None:
    """`torch.func.vjp`, `jacrev` and `vmap` have what torch.autograd has, one by one."""
    f, leaves = loss_of(name, reduction)
    plain = [x.detach() for x in leaves]
    value = f(*leaves)
    upstreams = torch.eye(value.numel(), dtype=value.dtype).view(value.numel(), *value.shape)
    jacobian = [torch.autograd.grad(value, leaves, upstream, retain_graph=True) for upstream in upstreams]
    expected = [torch.stack(rows).view(*value.shape, *rows[0].shape) for rows in zip(*jacobian, strict=True)]
    found = torch.func.jacrev(f, argnums=tuple(range(len(plain))))(*plain)
    torch.testing.assert_close(list(found), expected)
    found = torch.func.vjp(f, *plain)[1](upstreams[-1])
    torch.testing.assert_close(list(found), list(jacobian[-1]))
    batch = [torch.stack([x, 0.5 * x]) for x in plain]
    gradients = torch.func.vmap(torch.func.grad(lambda *xs: f(*xs).sum()))(*batch)
    for index in range(2):
        one = [x[index].requires_grad_() for x in batch]
        torch.testing.assert_close(gradients[index], torch.autograd.grad(f(*one).sum(), one)[0])


NESTED: dict[str, Callable[[Any], Callable[[Tensor], Any]]] = {
    "jvp": lambda f: lambda x: torch.func.jvp(f, (x,), (x,))[1],
    "vmap of jvp": lambda f: torch.func.vmap(lambda x: torch.func.jvp(f, (x[None],), (x[None],))[1]),
    "jacfwd": torch.func.jacfwd,
    "hessian": torch.func.hessian,
    "reverse over reverse": lambda f: torch.func.jacrev(torch.func.jacrev(f)),
    "forward over forward": lambda f: torch.func.jacfwd(torch.func.jacfwd(f)),
    "reverse over forward": lambda f: torch.func.jacrev(torch.func.jacfwd(f)),
    "the value within vjp": lambda f: lambda x: torch.func.jvp(
        lambda x: torch.func.vjp(f, x)[0], (x,), (x,)
    )[1],
    "dual of grad": lambda f: lambda x: tangent_of(torch.func.grad(f), x),
    "grad of dual": lambda f: torch.func.grad(lambda x: tangent_of(f, x)),
    "autograd of jvp": lambda f: lambda x: leaf_gradient(lambda x: torch.func.jvp(f, (x,), (x,))[1], x),
    "autograd of grad": lambda f: lambda x: leaf_gradient(torch.func.grad(f), x),
    "dual of vmap": lambda f: lambda x: tangent_of(torch.func.vmap(lambda x: f(x[None])), x),
}  # fmt: skip


def tangent_of(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor | None:
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(f(forward_ad.make_dual(x, x))).tangent


def leaf_gradient(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    leaf = x.detach().clone().requires_grad_()
    return torch.autograd.grad(f(leaf).sum(), leaf)[0]


@pytest.mark.parametrize("label", NESTED)
def test_derivatives_that_ours_lack_are_errors(label: str) -> None:
    """Through whatever transforms: not 0, and not None."""
    x, teacher = torch.randn(2, 3, 4, dtype=torch.float64).unbind()
    with pytest.raises(NotImplementedError, match=r"no forward derivative|cannot be differentiated"):
        NESTED[label](lambda x: ft.kl_div_with_logits(x, teacher[: len(x)]))(x)


def test_vmap_of_an_empty_batch() -> None:
    teacher, batch = torch.randn(3, 4), torch.randn(0, 3, 4)
    found = torch.func.vmap(lambda x: ft.kl_div_with_logits(x, teacher, reduction="none"))(batch)
    assert found.shape == (0, 3)


def test_vmap_of_vmap() -> None:
    teacher, batch = torch.randn(3, 4), torch.randn(3, 2, 5, 4)
    f = torch.func.vmap(lambda x: ft.kl_div_with_logits(x, teacher), in_dims=1)
    found = torch.func.vmap(f, in_dims=2)(batch)
    for i in range(5):
        for j in range(2):
            torch.testing.assert_close(found[i, j], ft.kl_div_with_logits(batch[:, j, i], teacher))


@pytest.mark.parametrize("name", ["kl_div_with_logits", "dpo_loss", "linear_token_log_probs"])
def test_batched_gradients_of_ours(name: str) -> None:
    f, leaves = loss_of(name, "none")
    value = f(*leaves)
    upstreams = torch.stack([torch.ones_like(value), torch.rand_like(value)])
    found = torch.autograd.grad(value, leaves, upstreams, is_grads_batched=True, retain_graph=True)
    for index, upstream in enumerate(upstreams):
        one = torch.autograd.grad(value, leaves, upstream, retain_graph=True)
        torch.testing.assert_close([x[index] for x in found], list(one))


def test_dispatch_modes() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    f, leaves = loss_of("cross_entropy", "mean")
    plain = torch.autograd.grad(f(*leaves), leaves)
    with FlopCounterMode(display=False):
        counted = torch.autograd.grad(f(*leaves), leaves)
    torch.testing.assert_close(counted, plain)


# cross_entropy(..., inplace=True)

ROWS, CLASSES = 6, 9


def leaf_and_target(
    dtype: torch.dtype = torch.float64, shape: tuple[int, ...] = (ROWS, CLASSES)
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    target = torch.randint(shape[1], (shape[0], *shape[2:]), generator=generator)
    return x, target


def expected_gradient(x: Tensor, target: Tensor, upstream: Tensor | None = None, **options: Any) -> Tensor:
    leaf = x.detach().double().requires_grad_()
    if options.get("weight") is not None:
        options["weight"] = options["weight"].double()
    loss = functional.cross_entropy(leaf, target, **options)
    loss.backward(torch.ones_like(loss) if upstream is None else upstream.double())
    assert leaf.grad is not None
    return leaf.grad


@pytest.mark.parametrize("scale", [1.0, -0.5, 0.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(ROWS, CLASSES), (3, CLASSES, 4), (2, 300)], ids=str)
@over_reductions
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
    value = functional.cross_entropy(
        logits.detach().double(), target, **{**options, "weight": weight.double()}
    )
    loss = ft.cross_entropy(logits, target, inplace=True, **options)
    assert loss.dtype == dtype and loss.shape == value.shape
    cases.assert_near(loss, value, cases.RELATIVE[dtype])
    upstream = torch.full_like(loss, scale)
    loss.backward(upstream)
    assert arrived == [where]
    expected = expected_gradient(x, target, upstream, **options)
    cases.assert_near(x.grad, expected, cases.RELATIVE[dtype], roundings=2, by_row=1)


@pytest.mark.parametrize("options", [{"z_loss": 0.1}, {"softcap": 3.0, "temperature": 1.5}], ids=str)
def test_inplace_with_other_options(options: dict[str, Any]) -> None:
    x, target = leaf_and_target()
    sample_weight = torch.linspace(0.5, 2.0, ROWS, dtype=torch.float64)
    grads = [
        torch.autograd.grad(
            ft.cross_entropy(x * 1.0, target, sample_weight=sample_weight, inplace=inplace, **options), x
        )[0]
        for inplace in (False, True)
    ]
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-12, atol=1e-15)


def test_inplace_with_probabilities() -> None:
    x, _ = leaf_and_target()
    target = torch.randn(ROWS, CLASSES, dtype=torch.float64).softmax(1)
    ft.cross_entropy(x * 1.0, target, inplace=True).backward()
    cases.assert_near(x.grad, expected_gradient(x, target), 1e-12)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_inplace_of_a_leaf(reduction: str) -> None:
    x, target = leaf_and_target()
    before = x.detach().clone()
    views = {
        "leaf": lambda: x,
        "parameter": lambda: torch.nn.Parameter(before.clone()),
        "view": lambda: x.view(ROWS, CLASSES),
        "rows": lambda: x[:],
        "transposed": lambda: x.t().t(),
    }
    for label, view in views.items():
        logits = view()
        with pytest.raises(RuntimeError, match=r"leaf"):
            ft.cross_entropy(logits, target, inplace=True, reduction=reduction)
        assert torch.equal(logits.detach(), before), label


@over_reductions
@pytest.mark.parametrize("operation", [torch.exp, torch.sigmoid, torch.tanh, lambda x: x.log_softmax(1)])
def test_inplace_of_what_others_have_saved(operation: Callable[[Tensor], Tensor], reduction: str) -> None:
    """These compute their gradients of their results."""
    x, target = leaf_and_target()
    loss = outcome(lambda: ft.cross_entropy(operation(x), target, inplace=True, reduction=reduction))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.sum().backward()
    assert x.grad is None


@over_reductions
def test_inplace_of_what_has_been_used_and_saved(reduction: str) -> None:
    x, target = leaf_and_target()
    logits = x * 1.0
    squares = (logits**2).sum()
    loss = ft.cross_entropy(logits, target, inplace=True, reduction=reduction).sum()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        (loss + squares).backward()


@over_reductions
def test_inplace_of_what_has_been_used_without_saving(reduction: str) -> None:
    """A sum needs nothing of its input, so that both gradients are right (or there is an error)."""
    x, target = leaf_and_target()
    logits = x * 1.0
    total = logits.sum()
    loss = ft.cross_entropy(logits, target, inplace=True, reduction=reduction).sum()
    grad = outcome(lambda: torch.autograd.grad(loss + total, x)[0])
    if isinstance(grad, Exception):
        assert isinstance(grad, RuntimeError)
    else:
        expected = expected_gradient(x, target, reduction="mean" if reduction == "mean" else "sum") + 1.0
        cases.assert_near(grad, expected, 1e-12)


USES = {
    "sum": lambda logits, target: logits.sum(),
    "square": lambda logits, target: (logits**2).sum(),
    "view": lambda logits, target: logits[:, :3].sum(),
    "loss": lambda logits, target: functional.cross_entropy(logits, target),
    "ours": lambda logits, target: ft.cross_entropy(logits, target),
    "inplace": lambda logits, target: ft.cross_entropy(logits, target, inplace=True),
}


def assert_refused_or(expected: Callable[[], Tensor], actual: Any, reduction: str) -> None:
    """RuntimeError; where nothing is overwritten before backward ("none"), the right answer is one, too."""
    if reduction == "none" and not isinstance(actual, Exception):
        cases.assert_near(actual, expected(), 1e-11)
    else:
        assert isinstance(actual, RuntimeError), actual


@over_reductions
@pytest.mark.parametrize("use", USES)
def test_inplace_and_use_of_the_logits_after(use: str, reduction: str) -> None:
    """The logits are no more: in the graph they may not be used, and the error says so."""
    x, target = leaf_and_target()

    def gradient(inplace: bool) -> Tensor:
        logits = x * 1.0
        loss = ft.cross_entropy(logits, target, inplace=inplace, reduction=reduction).sum()
        return torch.autograd.grad(loss + USES[use](logits if inplace else x, target), x)[0]

    actual = outcome(lambda: gradient(True))
    assert_refused_or(lambda: gradient(False), actual, reduction)


@over_reductions
@pytest.mark.parametrize(
    "write",
    [
        lambda logits: logits.zero_(),
        lambda logits: logits.detach().mul_(2.0),
        lambda logits: logits[1:].add_(1.0),
        lambda logits: logits.detach().numpy() is not None and logits.clamp_(min=0.0),
    ],
)
def test_inplace_and_writing_before_backward(write: Callable[[Tensor], Any], reduction: str) -> None:
    x, target = leaf_and_target()
    logits = x * 1.0
    loss = ft.cross_entropy(logits, target, inplace=True, reduction=reduction).sum()
    with torch.no_grad():
        write(logits)
    with pytest.raises(RuntimeError):
        loss.backward()
    assert x.grad is None


def test_inplace_and_reading_after() -> None:
    """What is read has no meaning, but the gradient is right."""
    x, target = leaf_and_target()
    logits = x * 1.0
    loss = ft.cross_entropy(logits, target, inplace=True)
    with torch.no_grad():
        logits.argmax(1)
    logits.detach().sum()
    loss.backward()
    cases.assert_near(x.grad, expected_gradient(x, target), 1e-12)


@over_reductions
def test_inplace_and_create_graph(reduction: str) -> None:
    x, target = leaf_and_target()

    def second(inplace: bool) -> Tensor:
        loss = ft.cross_entropy(x * 1.0, target, inplace=inplace, reduction=reduction).sum()
        (grad,) = torch.autograd.grad(loss, x, create_graph=True)
        return torch.autograd.grad((grad**2).sum(), x)[0]

    assert_refused_or(lambda: second(False), outcome(lambda: second(True)), reduction)


@over_reductions
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_inplace_and_backward_twice(reduction: str, scale: float) -> None:
    """Where it is possible, it gives the same twice."""
    x, target = leaf_and_target()
    loss = scale * ft.cross_entropy(x * 1.0, target, inplace=True, reduction=reduction).sum()
    (first,) = torch.autograd.grad(loss, x, retain_graph=True)
    expected = scale * expected_gradient(x, target, reduction="mean" if reduction == "mean" else "sum")
    cases.assert_near(first, expected, 1e-12)
    second = outcome(lambda: torch.autograd.grad(loss, x)[0])
    if isinstance(second, Exception):
        assert isinstance(second, RuntimeError)
    else:
        cases.assert_near(second, expected, 1e-12)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(loss, x)


@over_reductions
def test_inplace_without_gradient_writes_nothing(reduction: str) -> None:
    x, target = leaf_and_target()
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
    assert torch.equal(torch.autograd.grad(logits.sum(), x)[0], torch.ones_like(x))


@over_reductions
@pytest.mark.parametrize("bad", [CLASSES, -1])
def test_inplace_with_a_bad_class_writes_nothing(bad: int, reduction: str) -> None:
    x, target = leaf_and_target()
    target[-1] = bad
    logits = x * 1.0
    before = logits.detach().clone()
    version = logits._version
    with pytest.raises(IndexError):
        ft.cross_entropy(logits, target, inplace=True, reduction=reduction)
    assert torch.equal(logits.detach(), before) and logits._version == version
    # As if there had been no call.
    (logits**2).sum().backward()
    torch.testing.assert_close(x.grad, 2.0 * before)


@pytest.mark.parametrize(
    "options",
    [{"reduction": "average"}, {"label_smoothing": 2.0}, {"z_loss": -1.0}, {"weight": torch.ones(3)}],
    ids=str,
)
def test_inplace_with_bad_options_writes_nothing(options: dict[str, Any]) -> None:
    x, target = leaf_and_target()
    logits = x * 1.0
    before = logits.detach().clone()
    with pytest.raises((ValueError, RuntimeError)):
        ft.cross_entropy(logits, target, inplace=True, **options)
    assert torch.equal(logits.detach(), before)


@over_reductions
@pytest.mark.parametrize(
    "view",
    [
        lambda h: h[:, :CLASSES],
        lambda h: h[1:, 2 : 2 + CLASSES],
        lambda h: h.view(-1)[: 4 * CLASSES].view(4, CLASSES),
        lambda h: h.t()[:, :5],
    ],
    ids=["columns", "block", "flat", "transposed"],
)
def test_inplace_of_a_view(view: Callable[[Tensor], Tensor], reduction: str) -> None:
    """Of logits that an operation has made, such as `logits.view(-1, V)`: the whole has its gradient."""
    x, _ = leaf_and_target(shape=(ROWS, CLASSES + 3))
    rows, classes = view(x).shape
    target = torch.arange(rows) % classes
    hidden = x * 1.0
    ft.cross_entropy(view(hidden), target, inplace=True, reduction=reduction).sum().backward()
    expected = torch.autograd.grad(functional.cross_entropy(view(x), target, reduction=reduction).sum(), x)[0]
    cases.assert_near(x.grad, expected, 1e-12)


@over_reductions
def test_inplace_of_a_view_and_use_of_the_whole(reduction: str) -> None:
    x, target = leaf_and_target()

    def gradient(inplace: bool) -> Tensor:
        hidden = x * 1.0
        loss = ft.cross_entropy(hidden[:, :7], target % 7, inplace=inplace, reduction=reduction).sum()
        return torch.autograd.grad(loss + (hidden**2).sum(), x)[0]

    assert_refused_or(lambda: gradient(False), outcome(lambda: gradient(True)), reduction)


def test_inplace_of_expanded_logits() -> None:
    """Rows that share their memory can not take a gradient each: right, or refused as torch does."""
    x, target = leaf_and_target(shape=(1, CLASSES))
    target = torch.arange(ROWS)
    logits = (x * 1.0).expand(ROWS, CLASSES)
    result = outcome(lambda: torch.autograd.grad(ft.cross_entropy(logits, target, inplace=True), x)[0])
    if isinstance(result, Exception):
        assert isinstance(result, (RuntimeError, ValueError))
    else:
        expected = torch.autograd.grad(functional.cross_entropy(x.expand(ROWS, CLASSES), target), x)[0]
        cases.assert_near(result, expected, 1e-12)


@pytest.mark.parametrize("use_reentrant", [False, True], ids=["not-reentrant", "reentrant"])
@over_reductions
def test_inplace_in_a_checkpoint(reduction: str, use_reentrant: bool) -> None:
    x, target = leaf_and_target()

    def block(x: Tensor) -> Tensor:
        return ft.cross_entropy(2.0 * x, target, inplace=True, reduction=reduction).sum()

    checkpoint(block, x, use_reentrant=use_reentrant).backward()
    expected = 2.0 * expected_gradient(2.0 * x, target, reduction="mean" if reduction == "mean" else "sum")
    cases.assert_near(x.grad, expected, 1e-12)


@over_reductions
def test_inplace_with_saved_tensor_hooks(reduction: str) -> None:
    x, target = leaf_and_target()
    logits = x * 1.0
    with packing([]):
        loss = ft.cross_entropy(logits, target, inplace=True, reduction=reduction).sum()
    loss.backward()
    expected = expected_gradient(x, target, reduction="mean" if reduction == "mean" else "sum")
    cases.assert_near(x.grad, expected, 1e-12)


def test_inplace_under_autocast() -> None:
    x, target = leaf_and_target(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ft.cross_entropy(x * 1.0, target, inplace=True)
    assert loss.dtype == torch.float32
    loss.backward()
    assert x.grad.dtype == torch.bfloat16
    cases.assert_near(x.grad, expected_gradient(x, target), 1e-6, by_row=1)


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
    [
        ("loss", 0.0),
        ("leaf", 1.0),
        ("inner", 1.0),
        ("inner-scaled", 1.0),
        ("inplace", 0.0),
        ("inplace-none", 0.0),
    ],
)
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


# Threads


def test_backward_in_another_thread() -> None:
    """Gradients may be computed by a thread that has not called the function."""
    import threading

    for name in ("cross_entropy", "linear_cross_entropy", "kl_div_with_logits"):
        for reduction in REDUCTIONS:
            f, leaves = loss_of(name, reduction)
            expected = torch.autograd.grad(f(*leaves).sum(), leaves)
            loss = f(*leaves).sum()
            thread = threading.Thread(target=loss.backward)
            thread.start()
            thread.join()
            assert all(torch.equal(x.grad, g) for x, g in zip(leaves, expected, strict=True))
