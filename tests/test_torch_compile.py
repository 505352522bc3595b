"""fastloss.torch under torch.compile: no graph breaks, and the answers of eager mode."""

import shutil
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch_cases as cases  # noqa: E402
from functorch.compile import make_boxed_func  # noqa: E402
from torch import nn  # noqa: E402
from torch._dynamo import compiled_autograd  # noqa: E402
from torch._dynamo.backends.common import aot_autograd  # noqa: E402
from torch.autograd import forward_ad  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch_cases import Call  # noqa: E402

import fastloss.torch as ft  # noqa: E402

Tensor = torch.Tensor
# What torch says of itself and of its parts while it compiles.
pytestmark = [
    pytest.mark.filterwarnings(cases.ignore_kl_mean),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*"),
    pytest.mark.filterwarnings("ignore::FutureWarning:torch.*"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*lru_cache.*:UserWarning"),
    pytest.mark.skipif(not torch._dynamo.is_dynamo_supported(), reason="no torch.compile here"),
]
# Only the inductor needs a compiler; this one goes as far as it does, and runs the graphs as they are.
GRAPHS = "aot_eager"
needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="no C++ compiler for the inductor"
)


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Nothing that another test has compiled."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(f: Callable[..., Any], backend: str = GRAPHS, **options: Any) -> Callable[..., Any]:
    return torch.compile(f, fullgraph=True, backend=backend, **options)


def run(f: Callable[..., Tensor], leaves: list[Tensor], scale: float = 1.0) -> list[Tensor]:
    """The losses, and the gradients."""
    fresh = [x.detach().clone().requires_grad_() for x in leaves]
    losses = f(*fresh)
    losses = losses if isinstance(losses, tuple) else (losses,)
    sum(scale * loss.sum() for loss in losses).backward()
    return [*(loss.detach() for loss in losses), *(x.grad for x in fresh)]


def function_of(
    call: Call, reductions: tuple[str, ...] = cases.REDUCTIONS
) -> Callable[..., tuple[Tensor, ...]]:
    """All reductions in one function of the tensors that have gradients: one graph."""
    # Plain things alone, as all that is in here is compiled.
    function, wants = getattr(ft, call.name), call.wants
    positional = [(n, v) for n, v in call.arguments.items() if n not in call.loss.by_name]
    named = {n: call.arguments[n] for n in call.loss.by_name}
    options = dict(call.options)

    def f(*tensors: Tensor) -> tuple[Tensor, ...]:
        leaves = dict(zip(wants, tensors, strict=True))
        arguments = [leaves.get(n, v) for n, v in positional]
        by_name = {n: leaves.get(n, v) for n, v in named.items()}
        return tuple([function(*arguments, **by_name, **options, reduction=r) for r in reductions])

    return f


SOME = (
    "cross_entropy", "nll_loss", "linear_cross_entropy", "binary_cross_entropy_with_logits", "mse_loss",
    "huber_loss", "kl_div", "gaussian_nll_loss", "multi_margin_loss", "multilabel_soft_margin_loss",
    "log_cosh_loss", "kl_div_with_logits", "token_log_probs", "sequence_log_probs", "entropy",
    "linear_token_log_probs", "dpo_loss", "grpo_loss", "elastic_net_penalty",
)  # fmt: skip


@pytest.mark.parametrize("name", SOME)
def test_whole_graph(name: str) -> None:
    """Every reduction, gradients that are scaled, and a second call that compiles nothing."""
    call = cases.FIRST[name]
    f = function_of(call)
    leaves = list(call.leaves().values())
    graph = compiled(f)
    for scale in (1.0, -2.5):
        torch.testing.assert_close(run(graph, leaves, scale), run(f, leaves, scale), rtol=1e-11, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(graph(*leaves), f(*leaves), rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_types(dtype: torch.dtype) -> None:
    for name in ("cross_entropy", "mse_loss", "kl_div_with_logits"):
        call = cases.FIRST[name].cast(dtype)
        f = function_of(call)
        leaves = list(call.leaves().values())
        actual, expected = run(compiled(f), leaves), run(f, leaves)
        assert {x.dtype for x in actual} == {dtype}
        assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True)), name


def test_autocast() -> None:
    x, target = torch.randn(8, 6).bfloat16(), torch.arange(8) % 6

    def f(x: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return ft.cross_entropy(x, target), ft.log_cosh_loss(x, x.detach() + 1.0)

    actual, expected = run(compiled(f), [x]), run(f, [x])
    assert [a.dtype for a in actual] == [torch.float32, torch.float32, torch.bfloat16]
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("backend", [GRAPHS, pytest.param("inductor", marks=needs_compiler)])
def test_incoming_gradients_that_are_not_finite(backend: str) -> None:
    """Rows that do not count have a gradient of exactly 0."""
    x, some = torch.randn(4, 6), torch.tensor([True, False, True, True])
    target, other = torch.tensor([0, -100, 2, 1]), torch.randn(4, 6)

    def f(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        layer = ft.linear_cross_entropy(y, other, target)
        return ft.cross_entropy(x, target) + layer + ft.kl_div_with_logits(z, other, mask=some)

    g = compiled(f, backend)
    for scale in (float("inf"), float("nan")):
        _, *grads = run(g, [x, x, x], scale)
        for grad in grads:
            assert not grad[1].any() and not grad[0].isfinite().any()
    for actual, expected in zip(run(g, [x, x, x], -1.5), run(f, [x, x, x], -1.5), strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_autocast_of_a_layer(dtype: torch.dtype) -> None:
    """Its operands are cast; each has a gradient of its own type."""
    hidden, weight, target = torch.randn(8, 6).to(dtype), torch.randn(11, 6), torch.arange(8)

    def f(hidden: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return (
                ft.linear_cross_entropy(hidden, weight, target),
                ft.linear_cross_entropy(hidden, weight, target, softcap=5.0),
                ft.linear_token_log_probs(hidden, weight, target),
            )

    actual, expected = run(compiled(f), [hidden, weight]), run(f, [hidden, weight])
    assert [x.dtype for x in actual] == [*[torch.float32] * 3, dtype, torch.float32]
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("name", ["cross_entropy", "mse_loss", "log_cosh_loss", "token_log_probs"])
def test_dynamic_shapes(name: str) -> None:
    """One graph for all numbers of rows."""
    compilations = 0

    def count(graph: Any, inputs: Any) -> Any:
        nonlocal compilations
        compilations += 1
        return graph.forward

    of_indices = name in ("cross_entropy", "token_log_probs")

    def f(x: Tensor, target: Tensor) -> Tensor:
        return getattr(ft, name)(2.0 * x, target, reduction="none")

    counting = compiled(f, count, dynamic=True)
    checked = compiled(f, dynamic=True)
    for rows in (3, 5, 8):
        x = torch.randn(rows, 7, dtype=torch.float64)
        target = torch.arange(rows) % 7 if of_indices else torch.randn(rows, 7, dtype=torch.float64)
        torch.testing.assert_close(
            run(lambda x, t=target: checked(x, t), [x]), run(lambda x, t=target: f(x, t), [x])
        )
        torch.testing.assert_close(counting(x, target), f(x, target))
    assert compilations == 1


def test_options_that_are_tensors() -> None:
    x, target = torch.randn(8, 6, dtype=torch.float64), torch.arange(8) % 6
    weight, of_samples = torch.rand(6, dtype=torch.float64) + 0.5, torch.rand(8, dtype=torch.float64)

    def f(x: Tensor) -> Tensor:
        return ft.cross_entropy(x, target, weight, sample_weight=of_samples, z_loss=0.1, softcap=4.0)

    torch.testing.assert_close(run(compiled(f), [x]), run(f, [x]))


@pytest.mark.parametrize("reduction", cases.REDUCTIONS)
def test_inplace_has_no_effect(reduction: str) -> None:
    x, target = torch.randn(8, 6, dtype=torch.float64), torch.arange(8) % 6

    def f(x: Tensor) -> tuple[Tensor, Tensor]:
        logits = 2.0 * x
        return ft.cross_entropy(logits, target, reduction=reduction, inplace=True), logits.sum()

    def plain(x: Tensor) -> tuple[Tensor, Tensor]:
        logits = 2.0 * x
        return ft.cross_entropy(logits, target, reduction=reduction), logits.sum()

    torch.testing.assert_close(run(compiled(f), [x]), run(plain, [x]))


def test_inplace_of_a_leaf_has_no_effect() -> None:
    target = torch.arange(8) % 6
    f = compiled(lambda x: ft.cross_entropy(x, target, inplace=True))
    x = torch.randn(8, 6, requires_grad=True)
    before = x.detach().clone()
    f(x).backward()
    assert torch.equal(x.detach(), before)
    torch.testing.assert_close(x.grad, run(lambda x: functional.cross_entropy(x, target), [before])[1])


def test_installed_functions() -> None:
    x, target = torch.randn(8, 6), (torch.arange(8) % 6).to(torch.int32)  # torch takes no such indices

    def f(x: Tensor) -> Tensor:
        return functional.cross_entropy(x, target) + nn.HuberLoss()(x, x.detach() + 2.0)

    def ours(x: Tensor) -> Tensor:
        return ft.cross_entropy(x, target) + ft.huber_loss(x, x.detach() + 2.0)

    with ft.install():
        torch.testing.assert_close(run(compiled(f), [x]), run(ours, [x]))
    # What was compiled with ours is compiled anew.
    torch.testing.assert_close(
        run(compiled(lambda x: functional.cross_entropy(x, target.long())), [x]),
        run(lambda x: functional.cross_entropy(x, target.long()), [x]),
    )


def test_calls_of_compiled_code() -> None:
    """Counting them breaks no graph, and compiles nothing anew when they run."""
    x, target = torch.randn(8, 6), torch.arange(8) % 6

    def f(x: Tensor) -> Tensor:
        wide = functional.mse_loss(x, x.detach().double())
        return functional.cross_entropy(x, target) + functional.cross_entropy(x, target) + wide

    counter = torch._dynamo.testing.CompileCounterWithBackend(GRAPHS)
    with ft.install():
        g = torch.compile(f, fullgraph=True, backend=counter)
        first = run(g, [x])
        counts = ft.calls()
        assert counts["cross_entropy"].fastloss >= 2 and counts["cross_entropy"].torch == 0
        assert counts["mse_loss"].fastloss == 0 and counts["mse_loss"].torch >= 1
        for _ in range(3):
            torch.testing.assert_close(run(g, [x]), first)
        assert counter.frame_count == 1 and ft.calls() == counts
        functional.cross_entropy(x, target)
        torch.testing.assert_close(run(g, [x]), first)
        assert counter.frame_count == 1


def test_trls_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaced and compiled: one graph, with the answers of its own."""

    def selective_log_softmax(logits: Tensor, index: Tensor) -> Tensor:
        return torch.gather(logits.log_softmax(-1), dim=-1, index=index.unsqueeze(-1)).squeeze(-1)

    trl = types.ModuleType("trl.trainer.utils")
    trl.selective_log_softmax = selective_log_softmax  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trl.trainer.utils", trl)
    x, index = torch.randn(2, 3, 7), torch.tensor([[0, 6, 2], [3, 3, 1]])
    with ft.install():
        actual = run(compiled(lambda x: trl.selective_log_softmax(x, index)), [x])
        assert ft.calls()["selective_log_softmax"].torch == 0
    torch.testing.assert_close(actual, run(lambda x: selective_log_softmax(x, index), [x]))


def test_modules() -> None:
    x, target = torch.randn(8, 6), torch.arange(8) % 6
    for module in (ft.CrossEntropyLoss(weight=torch.rand(6) + 0.5, z_loss=0.1), ft.MultiMarginLoss(p=2)):
        f = compiled(module)
        torch.testing.assert_close(
            run(lambda x, f=f: f(x, target), [x]), run(lambda x, m=module: m(x, target), [x])
        )


def test_bad_class_index() -> None:
    f = compiled(lambda x, target: ft.cross_entropy(x, target))
    x = torch.randn(4, 5)
    f(x, torch.tensor([0, 1, 2, 3]))
    with pytest.raises(IndexError):
        f(x, torch.tensor([0, 1, 2, 5]))


def test_outside_of_our_ground() -> None:
    """torch's own functions are compiled as they are."""

    def f(x: Tensor) -> tuple[Tensor, ...]:
        soft = (0.5 * x).softmax(1)
        return (
            ft.cross_entropy(x, soft),
            ft.mse_loss(x, soft, reduction="sum"),
            ft.kl_div(x, soft.log(), log_target=True),
        )

    x = torch.randn(8, 6, dtype=torch.float64)
    torch.testing.assert_close(run(compiled(f), [x]), run(f, [x]))


@pytest.mark.parametrize("name", ["cross_entropy", "mse_loss", "log_cosh_loss", "kl_div_with_logits"])
def test_operators(name: str) -> None:
    """There are operators `fastloss::...`: a graph holds them, and nothing that they are made of."""
    call = cases.FIRST[name]
    seen: list[str] = []

    def look(graph: Any, inputs: Any) -> Any:
        seen.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return make_boxed_func(graph.forward)

    f = function_of(call, ("mean",))
    run(
        torch.compile(f, fullgraph=True, backend=aot_autograd(fw_compiler=look)), list(call.leaves().values())
    )
    assert any(target.startswith("fastloss") for target in seen), seen
    assert not any("softmax" in target or "exp" in target for target in seen)


# Transforms of torch.func and forward differentiation, within a graph

CLASSES = torch.tensor([0, 1, 2, 0])
TEACHER = torch.linspace(-1.0, 2.0, 12, dtype=torch.float64).reshape(4, 3)


def tangent_of(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor | None:
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(f(forward_ad.make_dual(x, torch.cos(x)))).tangent


Transform = Callable[[Callable[[Tensor], Tensor]], Callable[[Tensor], Any]]
REVERSE: dict[str, Transform] = {
    "grad": lambda f: torch.func.grad(lambda x: f(x).sum()),
    "vjp": lambda f: lambda x: torch.func.vjp(lambda x: f(x).sum(), x)[1](x.new_ones(()))[0],
    "jacrev": torch.func.jacrev,
    "vmap": lambda f: lambda x: torch.func.vmap(f)(torch.stack([x, 0.5 * x])),
    "per-sample": lambda f: (
        lambda x: torch.func.vmap(torch.func.grad(lambda x: f(x).sum()))(torch.stack([x, 0.5 * x]))
    ),
}
FORWARD: dict[str, Transform] = {
    "jvp": lambda f: lambda x: torch.func.jvp(f, (x,), (torch.cos(x),))[1],
    "jacfwd": torch.func.jacfwd,
    "dual_level": lambda f: lambda x: tangent_of(f, x),
    "hessian": lambda f: torch.func.hessian(lambda x: f(x).sum()),
    "jvp of vjp": lambda f: (
        lambda x: torch.func.jvp(lambda x: torch.func.vjp(lambda x: f(x).sum(), x)[0], (x,), (torch.cos(x),))[
            1
        ]
    ),
}
THEIRS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "cross_entropy": (
        lambda x: ft.cross_entropy(x, CLASSES, label_smoothing=0.1),
        lambda x: functional.cross_entropy(x, CLASSES, label_smoothing=0.1),
    ),
    "sum": (
        lambda x: ft.huber_loss(x, TEACHER, reduction="sum"),
        lambda x: functional.huber_loss(x, TEACHER, reduction="sum"),
    ),
    "none": (
        lambda x: ft.mse_loss(x, TEACHER, reduction="none"),
        lambda x: functional.mse_loss(x, TEACHER, reduction="none"),
    ),
    "module": (
        lambda x: ft.CrossEntropyLoss()(x, CLASSES),
        lambda x: functional.cross_entropy(x, CLASSES),
    ),
}
OURS: dict[str, Callable[[Any], Any]] = {
    "options": lambda x: ft.cross_entropy(x, CLASSES, z_loss=0.1, softcap=3.0),
    "module": lambda x: ft.CrossEntropyLoss(temperature=2.0)(x, CLASSES),
    "mean": lambda x: ft.kl_div_with_logits(x, TEACHER),
    "sum": lambda x: ft.sigmoid_focal_loss(x, (TEACHER > 0).double(), reduction="sum"),
    "none": lambda x: ft.token_log_probs(x, CLASSES),
    "pairs": lambda x: ft.dpo_loss(x[:, 0], x[:, 1], TEACHER[:, 0], TEACHER[:, 1], reduction="none"),
    "linear": lambda x: ft.linear_cross_entropy(x, x.T @ x, CLASSES, softcap=3.0, reduction="none"),
}


@pytest.mark.parametrize("label", [*REVERSE, *FORWARD])
@pytest.mark.parametrize("name", THEIRS)
def test_transforms_are_torchs(name: str, label: str) -> None:
    transform = {**REVERSE, **FORWARD}[label]
    ours, theirs = THEIRS[name]
    x = torch.randn(4, 3, dtype=torch.float64)
    expected = transform(theirs)(x)
    torch.testing.assert_close(compiled(transform(ours))(x), expected)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(transform(ours), backend=GRAPHS)(x), expected)


@pytest.mark.parametrize("label", [*REVERSE, *FORWARD])
def test_transforms_of_installed_functions(label: str) -> None:
    """A program that ran before runs."""
    transform = {**REVERSE, **FORWARD}[label]

    def f(x: Tensor) -> Tensor:
        return functional.cross_entropy(x, CLASSES) + nn.MSELoss()(x, TEACHER)

    x = torch.randn(4, 3, dtype=torch.float64)
    expected = transform(f)(x)
    with ft.install():
        torch.testing.assert_close(compiled(transform(f))(x), expected)


def test_forward_derivatives_of_installed_functions_in_a_graph_as_it_is() -> None:
    """Functions of torch that are found by name when the graph runs."""

    def f(x: Tensor) -> Tensor:
        return functional.cross_entropy(x, CLASSES) + functional.mse_loss(x, TEACHER)

    x = torch.randn(4, 3, dtype=torch.float64)
    expected = tangent_of(f, x)
    with ft.install():
        torch.testing.assert_close(compiled(lambda x: tangent_of(f, x), "eager")(x), expected)


@pytest.mark.parametrize("label", REVERSE)
@pytest.mark.parametrize("name", OURS)
def test_reverse_transforms_of_ours(name: str, label: str) -> None:
    x, transform = torch.randn(4, 3, dtype=torch.float64), REVERSE[label]
    f = OURS[name]
    if label in ("vmap", "per-sample"):
        each = f if label == "vmap" else REVERSE["grad"](f)
        expected = torch.stack([each(x), each(0.5 * x)])
    else:
        leaf = x.clone().requires_grad_()
        value = f(leaf)
        upstreams = torch.eye(value.numel(), dtype=x.dtype).view(-1, *value.shape)
        rows = [torch.autograd.grad(value, leaf, one, retain_graph=True)[0] for one in upstreams]
        jacobian = torch.stack(rows).view(*value.shape, *x.shape)
        expected = jacobian if label == "jacrev" else torch.stack(rows).sum(0)
    torch.testing.assert_close(compiled(transform(f))(x), expected)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(transform(f), backend=GRAPHS)(x), expected)


@pytest.mark.parametrize("fullgraph", [True, False])
@pytest.mark.parametrize("label", FORWARD)
@pytest.mark.parametrize("name", OURS)
def test_forward_derivatives_of_ours_are_errors(name: str, label: str, fullgraph: bool) -> None:
    """Neither 0 nor None."""
    f = torch.compile(FORWARD[label](OURS[name]), fullgraph=fullgraph, backend=GRAPHS)
    with pytest.raises(Exception, match="has no forward derivative") as caught:
        f(torch.randn(4, 3, dtype=torch.float64))
    if not fullgraph:
        assert isinstance(caught.value, NotImplementedError)


@pytest.mark.parametrize("name", ["options", "mean", "none"])
def test_dual_tensors_that_enter_a_graph(name: str) -> None:
    f = compiled(OURS[name])
    with pytest.raises(NotImplementedError, match="has no forward derivative"):
        tangent_of(f, torch.randn(4, 3, dtype=torch.float64))
    x = torch.randn(4, 3, dtype=torch.float64)
    f = compiled(THEIRS["cross_entropy"][0])
    torch.testing.assert_close(tangent_of(f, x), tangent_of(THEIRS["cross_entropy"][1], x))
    torch.testing.assert_close(f(x), THEIRS["cross_entropy"][1](x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_per_sample_gradients_of_half_types(dtype: torch.dtype) -> None:
    x, teacher = torch.randn(2, 4, 3).to(dtype), TEACHER.to(dtype)
    for f in (lambda x: ft.cross_entropy(x, CLASSES), lambda x: ft.kl_div_with_logits(x, teacher)):
        found = compiled(torch.func.vmap(torch.func.grad(f)))(x)
        assert found.dtype is dtype
        wide = torch.stack([torch.func.grad(lambda x, f=f: f(x.to(dtype)))(one) for one in x])
        torch.testing.assert_close(found, wide, rtol=0.02, atol=0.002)
        torch._dynamo.reset()


@pytest.mark.parametrize("f", [*(pair[0] for pair in THEIRS.values()), *OURS.values()])
def test_batched_gradients(f: Callable[[Tensor], Tensor]) -> None:
    """``is_grads_batched=True`` through a compiled loss."""
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    value = compiled(f)(x)
    upstreams = torch.stack([torch.ones_like(value), torch.rand_like(value)])
    (found,) = torch.autograd.grad(value, x, upstreams, is_grads_batched=True)
    for row, upstream in zip(found, upstreams, strict=True):
        torch.testing.assert_close(row, torch.autograd.grad(f(x), x, upstream)[0])


def test_second_derivatives_of_operators_are_errors() -> None:
    """Where a graph is differentiated that a transform has left behind."""
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    with pytest.raises(NotImplementedError, match="cannot be differentiated"):
        torch.autograd.grad(torch.func.grad(OURS["mean"])(x).sum(), x)
    value = torch.compiler.disable(torch.func.vmap(OURS["mean"]))(x[None])
    node = value.grad_fn
    while node is not None and "Loss" not in node.name():
        node = node.next_functions[0][0] if node.next_functions else None
    assert node is not None  # torch asks nodes for their names while it compiles


# Compiled autograd, which has an eager backward in its graph


def backward_compiled(
    f: Callable[[Tensor], Tensor], x: Tensor, fullgraph: bool, times: int = 1
) -> Tensor | None:
    leaf = x.clone().requires_grad_()
    value = f(1.0 * leaf).sum()

    def compiler(graph: Any) -> Any:
        return torch.compile(graph, backend=GRAPHS, fullgraph=fullgraph)

    with compiled_autograd._enable(compiler):
        for left in reversed(range(times)):
            value.backward(retain_graph=left > 0)
    return leaf.grad


EAGER: dict[str, Callable[[Any], Any]] = {
    **OURS,
    **{name: ours for name, (ours, _) in THEIRS.items()},
    "scaled": lambda x: 2.5 * ft.cross_entropy(x, CLASSES),
    "float16": lambda x: ft.cross_entropy(x.half(), CLASSES),
    "bfloat16": lambda x: 2.5 * ft.cross_entropy(x.bfloat16(), CLASSES),
    "in place, none": lambda x: ft.cross_entropy(x, CLASSES, inplace=True, reduction="none"),
}


@pytest.mark.parametrize("fullgraph", [True, False])
@pytest.mark.parametrize("name", EAGER)
def test_compiled_autograd(name: str, fullgraph: bool) -> None:
    f, x = EAGER[name], torch.randn(4, 3, dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    f(1.0 * leaf).sum().backward()
    # Another of the same shapes has the same graph.
    for _ in range(2):
        torch.testing.assert_close(backward_compiled(f, x, fullgraph), leaf.grad)
    torch.testing.assert_close(backward_compiled(f, x, fullgraph, times=2), 2.0 * leaf.grad)


def test_compiled_autograd_that_compiles_nothing() -> None:
    """Its graph as it is, of which dynamo sees nothing."""
    x = torch.randn(4, 3, dtype=torch.float64)
    for name, f in {**EAGER, "in place": lambda x: ft.cross_entropy(x, CLASSES, inplace=True)}.items():
        leaf, other = x.clone().requires_grad_(), x.clone().requires_grad_()
        f(1.0 * leaf).sum().backward()
        value = f(1.0 * other).sum()
        with compiled_autograd._enable(lambda graph: graph):
            value.backward()
        torch.testing.assert_close(other.grad, leaf.grad, msg=name)


def test_compiled_autograd_by_its_option() -> None:
    x, target = torch.randn(4, 3), CLASSES
    leaf, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    ft.cross_entropy(leaf, target).backward()
    value = ft.cross_entropy(other, target)
    with torch._dynamo.config.patch(compiled_autograd=True):
        torch.compile(lambda: value.backward(), backend=GRAPHS)()
    torch.testing.assert_close(other.grad, leaf.grad)


def test_compiled_autograd_with_overwritten_logits() -> None:
    def f(x: Tensor) -> Tensor:
        return ft.cross_entropy(x, CLASSES, inplace=True)

    x = torch.randn(4, 3, dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    f(1.0 * leaf).backward()
    for times in (1, 1, 2):
        torch.testing.assert_close(backward_compiled(f, x, False, times), times * leaf.grad)
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match="needs fullgraph=False"):
        backward_compiled(f, x, True)

    logits = 1.0 * leaf
    value = f(logits)
    logits.detach().mul_(2.0)
    with (
        pytest.raises(RuntimeError, match="modified by an inplace operation"),
        compiled_autograd._enable(lambda graph: torch.compile(graph, backend=GRAPHS)),
    ):
        value.backward()


# With the inductor, which takes some seconds for each graph


@needs_compiler
def test_inductor_has_the_answers_of_eager_mode() -> None:
    """Several functions in one graph, between operations that the inductor fuses."""
    calls = [cases.FIRST[n].cast(torch.float32) for n in ("cross_entropy", "mse_loss", "js_div_with_logits")]
    calls.append(cases.FIRST["linear_cross_entropy"].cast(torch.float32))
    counts = [len(call.wants) for call in calls]
    functions = [function_of(call, ("mean", "none")) for call in calls]
    leaves = [x for call in calls for x in call.leaves().values()]

    def f(*tensors: Tensor) -> tuple[Tensor, ...]:
        scaled, losses = [1.5 * torch.tanh(x) for x in tensors], []
        for function, count in zip(functions, counts, strict=True):
            losses += [torch.sin(loss) for loss in function(*scaled[:count])]
            scaled = scaled[count:]
        return tuple(losses)

    torch.testing.assert_close(run(compiled(f, "inductor"), leaves), run(f, leaves), rtol=1e-5, atol=1e-6)


@needs_compiler
def test_inductor_with_half_types() -> None:
    x, target = torch.randn(16, 40).bfloat16(), torch.arange(16)

    def f(x: Tensor) -> tuple[Tensor, ...]:
        logits = x * 2
        return ft.cross_entropy(logits, target), ft.mse_loss(logits, x.detach(), reduction="none")

    actual, expected = run(compiled(f, "inductor"), [x]), run(f, [x])
    assert {a.dtype for a in actual} == {torch.bfloat16}
    torch.testing.assert_close(actual, expected, rtol=0.02, atol=0.01)


@needs_compiler
def test_inductor_trains_a_model() -> None:
    """The model and its loss, compiled as one, step by step as without."""

    def losses(compile_it: bool, installed: bool) -> list[float]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 5))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.2)

        def loss_of(x: Tensor, target: Tensor) -> Tensor:
            if installed:
                return functional.cross_entropy(model(x), target)
            return ft.cross_entropy(model(x), target, label_smoothing=0.05, inplace=True)

        step = compiled(loss_of, "inductor") if compile_it else loss_of
        x, found = torch.randn(32, 8), []
        for _ in range(6):
            optimizer.zero_grad()
            loss = step(x, x[:, :5].argmax(1))
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found

    eager = losses(False, False)
    assert eager[-1] < eager[0]
    torch.testing.assert_close(losses(True, False), eager, rtol=1e-4, atol=1e-6)
    torch._dynamo.reset()
    with ft.install():
        torch.testing.assert_close(losses(True, True), losses(False, True), rtol=1e-4, atol=1e-6)
