"""The contract of fastloss.torch with autograd: what is kept, scaled, refused and recomputed."""

import gc
import math
import threading
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch_cases as cases  # noqa: E402
import torch_tools as tools  # noqa: E402
from torch.autograd import forward_ad  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402
from torch_cases import Call, assert_as_torch, over  # noqa: E402
from torch_tools import HALVES, REDUCTIONS, Of, Result, assert_near, equal, gradients_of, outcome  # noqa: E402

import fastloss.torch as ft  # noqa: E402

Tensor = torch.Tensor
pytestmark = [
    pytest.mark.filterwarnings(cases.ignore_kl_mean),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*"),  # what torch says of itself
]

# No second derivative in torch.
ONCE_IN_TORCH = ("multi_margin_loss", "multilabel_margin_loss")


# Derivatives


# The weights of the pairs of lambda_rank_loss count as constants: see test_lists.py.
@tools.over_reductions
@over([n for n in cases.FIRST if n != "lambda_rank_loss"])
def test_gradcheck(call: Call, reduction: str) -> None:
    f, leaves = call.of_leaves(reduction)
    assert torch.autograd.gradcheck(f, leaves, fast_mode=call.name.startswith("linear"))


@tools.over_reductions
@over([n for n in cases.NAMES_OF_TORCH if n not in ONCE_IN_TORCH])
def test_gradgradcheck(call: Call, reduction: str) -> None:
    f, leaves = call.of_leaves(reduction)
    assert torch.autograd.gradgradcheck(f, leaves, fast_mode=True, atol=1e-4)


@tools.over_reductions
@cases.over_torchs
def test_second_derivatives_are_torchs(call: Call, reduction: str) -> None:
    """The penalty of a gradient, whose own gradient goes through it."""

    def answer(function: Any) -> list[Tensor]:
        f, leaves = call.of_leaves(reduction, function)
        loss = f(*leaves)
        weight = torch.linspace(0.5, 2.0, max(loss.numel(), 1), dtype=loss.dtype).view(loss.shape)
        grads = gradients_of((loss * weight).sum() ** 2, leaves, create_graph=True)
        return [*grads, *gradients_of(sum((g**2).sum() for g in grads), leaves)]

    found = assert_as_torch(call.name, answer, rtol=1e-9, atol=1e-11)
    assert isinstance(found, Exception) == (call.name in ONCE_IN_TORCH)


@tools.over_reductions
@cases.over_beyond
def test_second_derivatives_of_ours_are_refused(call: Call, reduction: str) -> None:
    """Right or an error, never wrong."""
    f, leaves = call.of_leaves(reduction)
    with pytest.raises(RuntimeError):
        grads = gradients_of(f(*leaves), leaves, create_graph=True)
        sum((g**2).sum() for g in grads).backward()


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("make", [lambda x: x, lambda x: x.exp()])
def test_second_derivatives_where_one_input_is_made_from_the_other(make: Of, reduction: str) -> None:
    def answer(f: Any) -> list[Tensor]:
        x = torch.tensor([0.3, 0.7, 1.1], dtype=torch.float64, requires_grad=True)
        loss = f(x, torch.zeros(3, dtype=torch.float64), make(x), reduction=reduction)
        (first,) = gradients_of(loss, x, create_graph=True)
        return [first.detach(), *gradients_of(first, x)]

    assert len(assert_as_torch("gaussian_nll_loss", answer)) == 2


def test_tied_weights_have_torchs_second_derivative() -> None:
    def answer(f: Any) -> Tensor:
        weight = torch.linspace(-1.0, 1.0, 30, dtype=torch.float64).sin().view(5, 6).requires_grad_()
        loss = f(torch.tanh(weight[:4]), weight, torch.tensor([1, 2, 0, 3]))
        (first,) = gradients_of(loss, weight, create_graph=True)
        return gradients_of(first.square(), weight)[0]

    assert assert_as_torch("linear_cross_entropy", answer).any()


def test_an_operator_has_no_second_derivative() -> None:
    x = torch.randn(3, requires_grad=True)
    with FlopCounterMode(display=False):
        loss = ft.log_cosh_loss(x, torch.zeros(3), reduction="sum")
    (first,) = gradients_of(loss, x, create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated"):
        gradients_of(first, x)


# The incoming gradient


@tools.over_reductions
@cases.over_functions
def test_incoming_gradient_multiplies(call: Call, reduction: str) -> None:
    """Of factors in the graph on both sides of the loss, and of sums of several losses."""
    f, leaves = call.of_leaves(reduction)
    expected = [3.0 * grad for grad in gradients_of(f(*leaves), leaves)]
    scaled = gradients_of(3.0 * f(*(1.0 * x for x in leaves)), leaves)
    twice = gradients_of(f(*leaves) + 2.0 * f(*leaves), leaves)
    torch.testing.assert_close(scaled, expected, rtol=1e-12, atol=0.0)
    torch.testing.assert_close(twice, expected, rtol=1e-12, atol=1e-18)


CLASS_OF, COUNTED = torch.tensor([0, 5, 2, 1]), torch.tensor([True, False, True, True])
SKIPPED = CLASS_OF.masked_fill(~COUNTED, -100)
LAYER = torch.randn(9, 6, generator=torch.Generator().manual_seed(1))
POINT = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
OTHER = POINT.flip(0) + 0.5
OF_CLASSES = torch.ones(6).index_fill(0, torch.tensor(5), 0.0)
ELEMENTS = COUNTED[:, None].expand(4, 6)
# Losses of (4, 6) tensors of which row 1 does not count; b has other tensors of their type.
NOT_ALL: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "ignored": lambda x, b: ft.cross_entropy(x, SKIPPED),
    "ignored-sum": lambda x, b: ft.cross_entropy(x, SKIPPED, reduction="sum"),
    "ignored-inplace": lambda x, b: ft.cross_entropy(1.0 * x, SKIPPED, inplace=True),
    "ignored-extras": lambda x, b: ft.cross_entropy(x, SKIPPED, z_loss=0.1, label_smoothing=0.1, softcap=9.0),
    "sample-weight": lambda x, b: ft.cross_entropy(x, CLASS_OF, sample_weight=b.rows),
    "sample-weight-of-probabilities": lambda x, b: ft.cross_entropy(
        x, x.detach().softmax(1).flip(0), sample_weight=b.rows
    ),
    "class-weight": lambda x, b: ft.cross_entropy(x, CLASS_OF, b.classes),
    "nll": lambda x, b: ft.nll_loss(x, SKIPPED),
    "nll-sample-weight": lambda x, b: ft.nll_loss(x, CLASS_OF, sample_weight=b.rows),
    "linear": lambda x, b: ft.linear_cross_entropy(x, b.layer, SKIPPED),
    "linear-sample-weight": lambda x, b: ft.linear_cross_entropy(x, b.layer, CLASS_OF, sample_weight=b.rows),
    "linear-token-log-probs": lambda x, b: ft.linear_token_log_probs(x, b.layer, SKIPPED, reduction="mean"),
    "token-log-probs": lambda x, b: ft.token_log_probs(x, SKIPPED, reduction="mean"),
    "sequence-log-probs": lambda x, b: ft.sequence_log_probs(
        x[None], CLASS_OF[None], mask=COUNTED[None]
    ).sum(),
    "kl": lambda x, b: ft.kl_div_with_logits(x, b.other, mask=COUNTED),
    "teacher": lambda x, b: ft.kl_div_with_logits(b.other, x, mask=COUNTED),
    "js": lambda x, b: ft.js_div_with_logits(x, b.other, mask=COUNTED),
    "tv": lambda x, b: ft.tv_distance_with_logits(x, b.other, mask=COUNTED),
    "weighted": lambda x, b: ft.mse_loss(x, b.other, weight=b.elements),
    "weighted-logits": lambda x, b: ft.binary_cross_entropy_with_logits(
        x, b.other.sigmoid(), b.rows[:, None]
    ),
    "ppo": lambda x, b: ft.ppo_loss(x, x.detach(), b.other, mask=ELEMENTS),
    "grpo": lambda x, b: ft.grpo_loss(x, x.detach(), b.other[:, 0], mask=ELEMENTS),
    "kl-penalty": lambda x, b: ft.kl_penalty(x, b.other, mask=ELEMENTS),
    "value": lambda x, b: ft.value_loss(x, x.detach(), b.other, mask=ELEMENTS),
}


def not_all(label: str, x: Tensor) -> Tensor:
    beside = {"other": OTHER, "rows": COUNTED, "elements": ELEMENTS, "classes": OF_CLASSES, "layer": LAYER}
    return NOT_ALL[label](x, SimpleNamespace(**{name: one.to(x.dtype) for name, one in beside.items()}))


# Weights of 0 count for the kernels of softmax losses, which have the gradient of losses that wait.
EARLY = [torch.float32, torch.float64, torch.bfloat16]


@pytest.mark.parametrize("factor", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("dtype", EARLY, ids=str)
@pytest.mark.parametrize("label", NOT_ALL)
def test_what_does_not_count_has_no_gradient(label: str, dtype: torch.dtype, factor: float) -> None:
    """Whatever comes in, exactly 0; from what counts infinities or NaN go on."""
    x = POINT.to(dtype).requires_grad_()
    (plain,) = gradients_of(not_all(label, x), x)
    loss = not_all(label, x)
    upstream = torch.full_like(loss, factor)
    kept, last = (torch.autograd.grad(loss, x, upstream, retain_graph=keep)[0] for keep in (True, False))
    for grad in (kept, last):
        assert grad.dtype == dtype and not grad[1].any()
        assert torch.equal(grad.isfinite(), plain == 0)
    if not math.isnan(factor):
        assert torch.equal(last.sign(), plain.sign() * math.copysign(1.0, factor))


@pytest.mark.parametrize("factor", [math.inf, math.nan])
@pytest.mark.parametrize("label", [n for n in NOT_ALL if "weight" not in n or n.startswith("weighted")])
def test_what_does_not_count_has_no_gradient_later(label: str, factor: float) -> None:
    """Where the gradient waits for the incoming one."""
    x = POINT.half().requires_grad_()
    (grad,) = torch.autograd.grad(factor * not_all(label, x), x)
    assert not grad[1].any() and not grad[0].isfinite().all()


@pytest.mark.parametrize("label", ["ignored", "linear", "kl", "weighted"])
def test_batches_of_incoming_gradients_that_are_not_finite(label: str) -> None:
    x = POINT.clone().requires_grad_()
    upstreams = torch.tensor([1.0, math.inf, math.nan])
    (grads,) = torch.autograd.grad(not_all(label, x), x, upstreams, is_grads_batched=True)
    assert grads[0].isfinite().all() and not grads[:, 1].any()
    assert not grads[1:, 0].isfinite().any()


def test_weight_of_a_layer_with_an_incoming_gradient_that_is_not_finite() -> None:
    """Ignored tokens leave no trace in it; features that are 0 for all others have a gradient of 0."""
    x, weight = POINT.clone(), LAYER.clone().requires_grad_()
    x[:, 3], x[1] = 0.0, math.nan
    (grad,) = torch.autograd.grad(math.inf * ft.linear_cross_entropy(x, weight, SKIPPED), weight)
    assert not grad[:, 3].any() and grad[:, :3].isinf().all() and grad[:, 4:].isinf().all()


# Several backward passes


@tools.over_reductions
@cases.over_functions
def test_backward_twice(call: Call, reduction: str) -> None:
    f, leaves = call.of_leaves(reduction)
    loss = f(*leaves)
    first = gradients_of(2.0 * loss.sum(), leaves, retain_graph=True)
    kept = [g.clone() for g in first]
    for g in first:
        g.zero_()  # nobody's but the caller's
    second = gradients_of(2.0 * loss.sum(), leaves, retain_graph=True)
    other = gradients_of(loss, leaves)
    assert equal(kept, second)
    torch.testing.assert_close(other, [0.5 * a for a in kept], rtol=1e-12, atol=0.0)
    with pytest.raises(RuntimeError, match="second time"):
        gradients_of(loss, leaves)


@cases.over_functions
def test_backward_twice_with_one(call: Call) -> None:
    """An incoming gradient of 1 multiplies nothing: what comes out must not be what is kept."""
    f, leaves = call.of_leaves("sum")
    loss = f(*leaves)
    loss.backward(retain_graph=True)
    kept = [x.grad.clone() for x in leaves]
    for x in leaves:
        x.grad.zero_()
    loss.backward(retain_graph=True)
    assert equal([x.grad for x in leaves], kept)
    for g in torch.autograd.grad(loss, leaves, retain_graph=True):
        g.mul_(7.0)
    second = outcome(lambda: torch.autograd.grad(loss, leaves))
    if isinstance(second, Exception):
        tools.assert_error_or(second, lambda: kept[0], "modified by an inplace operation")
    else:
        assert equal(second, kept)


@cases.over_functions
def test_gradients_are_added_up(call: Call) -> None:
    f, leaves = call.of_leaves("sum")
    f(*leaves).backward()
    once = [x.grad.clone() for x in leaves]
    f(*leaves).backward()
    f(*leaves).backward(torch.tensor(-1.0, dtype=torch.float64))
    torch.testing.assert_close([x.grad for x in leaves], once, rtol=1e-12, atol=1e-16)


@tools.over_reductions
@over(["cross_entropy", "mse_loss", "log_cosh_loss", "kl_div_with_logits"])
def test_leaf_takes_the_gradient_without_a_copy(call: Call, reduction: str) -> None:
    f, leaves = call.of_leaves(reduction)
    arrived: list[int] = []
    leaves[0].register_hook(lambda g: arrived.append(g.data_ptr()))
    f(*leaves).sum().backward()
    assert arrived == [leaves[0].grad.data_ptr()]


def test_a_gradient_that_was_handed_out_stays() -> None:
    """Of a graph that is kept: whoever has it may scale it, and no later backward writes to it."""
    x = torch.randn(4, 6, requires_grad=True)
    y = x * 1.0
    kept: list[Tensor] = []
    y.register_hook(kept.append)
    loss = ft.mse_loss(y, torch.zeros(4, 6))
    (first,) = gradients_of(loss, y, retain_graph=True)
    before = first.clone()
    (second,) = gradients_of(loss, y, retain_graph=True)
    second.mul_(7.0)
    (10 * loss).backward()
    assert torch.equal(first, before)
    assert torch.allclose(x.grad, 10 * before)


# What is saved

CHANGED = [(c, "input") for c in cases.FIRST.values()]
CHANGED += [(c, "target") for c in cases.FIRST.values() if "target" in c.arguments]
MAY_CHANGE = ("cross_entropy", "kl_div_with_logits", "entropy")


@tools.over_reductions
@pytest.mark.parametrize(("call", "changed"), CHANGED, ids=str)
def test_changes_before_backward_are_never_wrong(call: Call, changed: str, reduction: str) -> None:
    """The right gradient, or torch's error of versions."""
    expected, call = call.expected(reduction), call.mapped(Tensor.clone)
    name = call.wants[0]
    leaf = call.arguments[name].clone().requires_grad_()
    input, target = leaf * 1.0, call.arguments.get("target")
    loss = call.value({name: input}, reduction=reduction)
    with torch.no_grad():
        if changed == "target":
            target.copy_(target.roll(1, 0))
        else:
            input.zero_()
    grad = outcome(lambda: gradients_of(loss, leaf)[0])
    tools.assert_error_or(grad, lambda: expected.gradients[name], "modified by an inplace operation")
    # Torch's own functions save the logarithms of the probabilities, not what they are computed of.
    if changed == "input" and reduction != "none" and call.name in MAY_CHANGE:
        assert isinstance(grad, Tensor), grad


@tools.over_reductions
@cases.over_functions
def test_saved_tensor_hooks(call: Call, reduction: str) -> None:
    f, leaves = call.of_leaves(reduction)
    plain = gradients_of(f(*leaves), leaves)
    copies: list[int] = []
    for hooks in (tools.packing(copies), torch.autograd.graph.save_on_cpu()):
        with hooks:
            loss = f(*leaves)
        for keep in (True, False):
            assert equal(gradients_of(loss, leaves, retain_graph=keep), plain)
    if reduction == "none":
        assert copies, "the gradient is computed in backward, of what has been saved"


@tools.over_reductions
@pytest.mark.parametrize("use_reentrant", [False, True], ids=["not-reentrant", "reentrant"])
@cases.over_functions
def test_activation_checkpointing(call: Call, use_reentrant: bool, reduction: str) -> None:
    f, leaves = call.of_leaves(reduction)

    def block(*tensors: Tensor) -> Tensor:
        return f(*(x * 1.0 for x in tensors)).sum()

    plain = gradients_of(block(*leaves), leaves)
    checkpoint(block, *leaves, use_reentrant=use_reentrant).backward()
    assert equal([x.grad for x in leaves], plain)


@cases.over_functions
def test_nothing_keeps_the_inputs_alive(call: Call) -> None:
    """Neither the loss of a call without gradient, nor what is left after backward."""
    f, leaves = call.of_leaves("sum")
    inputs = [x * 1.0 for x in leaves]
    watch = [weakref.ref(x) for x in inputs]
    loss = f(*inputs)
    loss.backward()
    inputs.clear()
    if any(w() is not None for w in watch):
        gc.collect()
    assert loss.grad_fn is not None and all(w() is None for w in watch)


@tools.over_reductions
@over(["cross_entropy", "linear_cross_entropy", "kl_div_with_logits"])
def test_backward_in_another_thread(call: Call, reduction: str) -> None:
    f, leaves = call.of_leaves(reduction)
    expected = gradients_of(f(*leaves), leaves)
    thread = threading.Thread(target=f(*leaves).sum().backward)
    thread.start()
    thread.join()
    assert equal([x.grad for x in leaves], expected)


# Modes


@tools.over_reductions
@cases.over_functions
def test_modes_without_gradient(call: Call, reduction: str) -> None:
    f, leaves = call.of_leaves(reduction)
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
        inputs = [x.detach().clone() for x in leaves]
    assert torch.equal(f(*inputs), expected)


def test_dispatch_modes() -> None:
    f, leaves = cases.FIRST["cross_entropy"].of_leaves("mean")
    plain = gradients_of(f(*leaves), leaves)
    with FlopCounterMode(display=False):
        counted = gradients_of(f(*leaves), leaves)
    torch.testing.assert_close(counted, plain)


# Autocast


def under_autocast(call: Call, half: torch.dtype, reduction: str, function: Any = None) -> Result:
    """A loss under autocast, and gradients computed behind it."""
    leaves = call.leaves()
    with torch.autocast("cpu", dtype=half):
        loss = call.value(leaves, function, reduction=reduction)
    loss.sum().backward()
    return Result.of(loss, leaves)


@tools.over_halves
@tools.over_dtypes
@cases.over_torchs
def test_autocast_is_torchs(call: Call, dtype: torch.dtype, half: torch.dtype) -> None:
    for given in (call, call.bare()):
        for reduction in REDUCTIONS:
            assert_autocast_is_torchs(given.cast(dtype), half, reduction)


MIXED = [
    (call, name)
    for loss in cases.OF_TORCH
    for call in loss.calls()[-1:]
    for name, x in call.tensors.items()
    if x.is_floating_point()
]


@tools.over_halves
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("call", "argument"), MIXED, ids=str)
def test_autocast_of_mixed_types_is_torchs(
    call: Call, argument: str, dtype: torch.dtype, half: torch.dtype
) -> None:
    """Half predictions against what a data loader gives, or the other way round."""
    other = torch.bfloat16 if dtype is torch.float32 else torch.float32
    mixed = call.cast(dtype).changed(**{argument: call.tensors[argument].to(other)})
    assert_autocast_is_torchs(mixed, half, "mean")


def assert_autocast_is_torchs(call: Call, half: torch.dtype, reduction: str) -> None:
    functions = (cases.TORCHS[call.name], call.function)
    theirs, ours = (outcome(lambda f=f: under_autocast(call, half, reduction, f).list()) for f in functions)
    if isinstance(theirs, Exception):  # it has no kernels of half types for some
        types = {call.arguments[call.first].dtype, *(x.dtype for x in call.tensors.values())}
        is_lacking = isinstance(theirs, NotImplementedError) and not types.isdisjoint(HALVES)
        assert is_lacking or type(ours) is type(theirs), (call, ours, theirs)
        return
    assert not isinstance(ours, Exception), (call, ours)
    assert [x.dtype for x in ours] == [x.dtype for x in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert_near(a.float(), b, 4.0 * max(torch.finfo(t).eps for t in (half, a.dtype)))


@tools.over_halves
@cases.over_own
def test_autocast_gives_float32(call: Call, half: torch.dtype) -> None:
    """Of half types; others stay what they are, but for float32 in a matrix product."""
    for dtype in (half, torch.float32, torch.float64):
        if call.has_products and dtype is torch.float32:
            continue  # see the tests of matrix products below
        for reduction in REDUCTIONS:
            result = under_autocast(call.cast(dtype), half, reduction)
            assert result.loss.dtype == (torch.float32 if dtype is half else dtype)
            assert {g.dtype for g in result.gradients.values()} == {dtype}
            call.check(result, call.cast(dtype).expected(reduction), dtype, title=reduction)


# The last layer and its loss, which autocast casts to its type as `torch.nn.functional.linear`.
LAYERS: dict[str, tuple[str, dict[str, Any]]] = {
    "linear_cross_entropy": ("linear_cross_entropy", {}),
    "softcap": ("linear_cross_entropy", {"softcap": 5.0}),
    "temperature": ("linear_cross_entropy", {"temperature": 2.0}),
    "linear_token_log_probs": ("linear_token_log_probs", {}),
}
EIGHT = torch.arange(8)
over_layers = pytest.mark.parametrize("layer", LAYERS)


def layer_and_loss(
    layer: str,
    dtypes: tuple[torch.dtype, ...],
    half: torch.dtype | None,
    reduction: str,
    target: Tensor = EIGHT,
) -> list[Tensor]:
    """A loss of hidden states, weight and bias of these types, and their gradients."""
    name, options = LAYERS[layer]
    rng = torch.Generator().manual_seed(0)
    # Numbers that the half types have, so that casting loses nothing.
    numbers = [torch.randn(*shape, generator=rng).half().bfloat16() for shape in ((8, 6), (11, 6), (11,))]
    leaves = [x.to(t).requires_grad_() for x, t in zip(numbers, dtypes, strict=True)]
    with torch.autocast("cpu", dtype=half, enabled=half is not None):
        loss = getattr(ft, name)(*leaves[:2], target, linear_bias=leaves[2], reduction=reduction, **options)
    loss.sum().backward()
    return [loss.detach(), *(x.grad for x in leaves)]


@tools.over_reductions
@tools.over_halves
@over_layers
def test_autocast_of_a_matrix_product(layer: str, half: torch.dtype, reduction: str) -> None:
    """Both operands are cast, and each has a gradient of its own type."""
    single, other = torch.float32, torch.bfloat16 if half is torch.float16 else torch.float16
    expected = layer_and_loss(layer, (half, half, half), half, reduction)
    assert expected[0].dtype == single
    mixed = ((half, single, single), (single, half, half), (single, single, single), (other, single, half))
    for dtypes in mixed:
        actual = layer_and_loss(layer, dtypes, half, reduction)
        assert [x.dtype for x in actual] == [single, *dtypes]
        assert equal(actual, [e.to(a.dtype) for a, e in zip(actual, expected, strict=True)])
    # float64 is not cast, as in torch.
    wide = (torch.float64,) * 3
    alike = [layer_and_loss(layer, wide, enabled, reduction) for enabled in (half, None)]
    assert alike[0][0].dtype == torch.float64 and equal(*alike)


def test_autocast_of_a_matrix_product_is_ours() -> None:
    """There are no logits."""
    x, weight = torch.randn(8, 6, dtype=torch.bfloat16, requires_grad=True), torch.randn(11, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ft.linear_cross_entropy(x, weight.requires_grad_(), EIGHT)
    assert type(loss.grad_fn).__name__.startswith("_Early")


@tools.over_reductions
@pytest.mark.parametrize("layer", ["linear_cross_entropy", "softcap", "temperature"])
@tools.over_halves
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_autocast_of_a_layer_with_probabilities(
    dtype: torch.dtype, half: torch.dtype, layer: str, reduction: str
) -> None:
    """They may stay what they are: the answer is that of float32, within the rounding of the half type."""
    probabilities, single = torch.randn(8, 11).softmax(1), (torch.float32,) * 3
    actual = layer_and_loss(layer, single, half, reduction, probabilities.to(dtype))
    expected = layer_and_loss(layer, single, None, reduction, probabilities)
    assert actual[0].dtype.itemsize >= 4
    for one, exact in zip(actual, expected, strict=True):
        assert_near(one.float(), exact, 8.0 * torch.finfo(half).eps)


@over_layers
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64], ids=str)
def test_types_of_a_layer_that_differ(layer: str, dtype: torch.dtype) -> None:
    """Without autocast an error, which has torch's names of the types."""
    half = torch.bfloat16
    if layer == "linear_cross_entropy":
        with pytest.raises(RuntimeError, match="same dtype"):  # torch's own
            layer_and_loss(layer, (half, dtype, dtype), None, "mean")
        return
    with pytest.raises(TypeError, match=f"linear_weight must be torch.bfloat16 like input, got {dtype}"):
        layer_and_loss(layer, (half, dtype, dtype), None, "mean")
    with pytest.raises(TypeError, match=f"linear_bias must be {dtype} like input, got torch.bfloat16"):
        layer_and_loss(layer, (dtype, dtype, half), None, "mean")


# Transforms


def of_first(call: Call, reduction: str, function: Any = None) -> tuple[Of, Tensor]:
    """A function of the first argument alone."""
    return lambda x: call.value({call.first: x}, function, reduction=reduction), call.arguments[call.first]


@tools.over_reductions
@pytest.mark.parametrize("label", tools.TRANSFORMS)
@cases.over_torchs
def test_transforms_are_torchs(call: Call, label: str, reduction: str) -> None:
    def answer(function: Any) -> Any:
        f, x = of_first(call, reduction, function)
        return tools.TRANSFORMS[label](f)(x)

    assert_as_torch(call.name, answer, label, rtol=1e-7, atol=1e-9)


@cases.over_torchs
def test_forward_mode_is_torchs(call: Call) -> None:
    def answer(function: Any) -> list[Tensor]:
        f, leaves = call.of_leaves("mean", function)
        with forward_ad.dual_level():
            duals = [forward_ad.make_dual(x.detach(), torch.cos(x.detach())) for x in leaves]
            return [x.clone() for x in forward_ad.unpack_dual(f(*duals))]

    assert_as_torch(call.name, answer)


@pytest.mark.parametrize("require", [False, True])
@cases.over_beyond
def test_forward_mode_of_ours_is_an_error(call: Call, require: bool) -> None:
    """A tangent that is dropped would be a derivative of 0."""
    f, leaves = call.of_leaves("sum")
    with forward_ad.dual_level(), pytest.raises(NotImplementedError):
        f(*(forward_ad.make_dual(x.detach().requires_grad_(require), torch.cos(x.detach())) for x in leaves))


@tools.over_reductions
@cases.over_beyond
def test_reverse_transforms_of_ours(call: Call, reduction: str) -> None:
    """`torch.func.vjp`, `jacrev` and `vmap` have what torch.autograd has, one by one, of all arguments."""
    f, leaves = call.of_leaves(reduction)
    plain = [x.detach() for x in leaves]
    value = f(*leaves)
    upstreams = torch.eye(value.numel(), dtype=value.dtype).view(-1, *value.shape)
    jacobian = [torch.autograd.grad(value, leaves, upstream, retain_graph=True) for upstream in upstreams]
    expected = [torch.stack(rows).view(value.shape + rows[0].shape) for rows in zip(*jacobian, strict=True)]
    found = torch.func.jacrev(f, argnums=tuple(range(len(plain))))(*plain)
    torch.testing.assert_close(list(found), expected)
    torch.testing.assert_close(torch.func.vjp(f, *plain)[1](upstreams[-1]), jacobian[-1])
    batch = [tools.two(x) for x in plain]
    values = torch.func.vmap(f)(*batch)
    gradients = torch.func.vmap(torch.func.grad(lambda *xs: f(*xs).sum()))(*batch)
    for index in range(2):
        one = [x[index].requires_grad_() for x in batch]
        torch.testing.assert_close(values[index], f(*one))
        torch.testing.assert_close(gradients[index], gradients_of(f(*one), one)[0])


NESTED: dict[str, Callable[[Of], Callable[[Tensor], Any]]] = {
    "jvp": lambda f: lambda x: tools.jvp(f, x),
    "vmap of jvp": lambda f: torch.func.vmap(lambda x: tools.jvp(f, x[None])),
    "jacfwd": torch.func.jacfwd,
    "hessian": torch.func.hessian,
    "reverse over reverse": lambda f: torch.func.jacrev(torch.func.jacrev(f)),
    "forward over forward": lambda f: torch.func.jacfwd(torch.func.jacfwd(f)),
    "reverse over forward": lambda f: torch.func.jacrev(torch.func.jacfwd(f)),
    "the value within vjp": lambda f: lambda x: tools.jvp(lambda x: torch.func.vjp(f, x)[0], x),
    "dual of grad": lambda f: lambda x: tools.tangent_of(torch.func.grad(f), x),
    "grad of dual": lambda f: torch.func.grad(lambda x: tools.tangent_of(f, x)),
    "autograd of jvp": lambda f: lambda x: tools.by_autograd("grad", lambda x: tools.jvp(f, x), x),
    "autograd of grad": lambda f: lambda x: tools.by_autograd("grad", torch.func.grad(f), x),
    "dual of vmap": lambda f: lambda x: tools.tangent_of(torch.func.vmap(lambda x: f(x[None])), x),
}


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


@tools.over_reductions
@cases.over_functions
def test_batched_gradients(call: Call, reduction: str) -> None:
    f, leaves = call.of_leaves(reduction)
    tools.assert_batches_of_gradients(lambda: f(*leaves), leaves)
