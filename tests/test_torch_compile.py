"""fastloss.torch under torch.compile: no graph breaks, and the answers of eager mode."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
from helpers import full_if

torch = pytest.importorskip("torch")

import torch_cases as cases  # noqa: E402
import torch_tools as tools  # noqa: E402
from functorch.compile import make_boxed_func  # noqa: E402
from torch import nn  # noqa: E402
from torch._dynamo import compiled_autograd  # noqa: E402
from torch._dynamo.backends.common import aot_autograd  # noqa: E402
from torch._dynamo.testing import CompileCounterWithBackend  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch_cases import Call  # noqa: E402
from torch_tools import FORWARD, REDUCTIONS, REVERSE, Of, by_autograd, run, tangent_of  # noqa: E402

import fastloss.torch as ft  # noqa: E402

Tensor = torch.Tensor
# What torch says of itself and of its parts while it compiles.
IGNORED = (
    ":DeprecationWarning:torch.*",
    ":FutureWarning:torch.*",
    "The .grad attribute of a Tensor that is not a leaf:UserWarning",
    ".*lru_cache.*:UserWarning",
)
pytestmark = [
    pytest.mark.filterwarnings(cases.ignore_kl_mean),
    *(pytest.mark.filterwarnings(f"ignore:{warning}") for warning in IGNORED),
    pytest.mark.skipif(not torch._dynamo.is_dynamo_supported(), reason="no torch.compile here"),
]
# Only the inductor needs a compiler; this one goes as far as it does, and runs the graphs as they are.
GRAPHS = "aot_eager"
has_compiler = any(map(shutil.which, ("g++", "clang++", "c++")))
needs_compiler = pytest.mark.skipif(not has_compiler, reason="no C++ compiler for the inductor")


def mostly_full(names: Iterable[str], *kept: str) -> list[Any]:
    """All names; those that are not kept are for the full run."""
    return [full_if(name not in kept, name) for name in names]


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Nothing that another test has compiled."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def x() -> Tensor:
    """Logits of eight rows with six classes."""
    return torch.randn(8, 6, dtype=torch.float64)


SIX = torch.arange(8) % 6


def compiled(f: Callable[..., Any], backend: str = GRAPHS, **options: Any) -> Callable[..., Any]:
    return torch.compile(f, fullgraph=True, backend=backend, **options)


def check(f: Callable[..., Any], *leaves: Tensor, backend: str = GRAPHS, **bounds: Any) -> list[Tensor]:
    """Losses and gradients of a whole graph are those of eager mode, and are returned."""
    actual = run(compiled(f, backend), leaves)
    torch.testing.assert_close(actual, run(f, leaves), **bounds)
    return actual


def function_of(call: Call, reductions: tuple[str, ...] = REDUCTIONS) -> Callable[..., tuple[Tensor, ...]]:
    """All reductions in one function of the tensors that have gradients: one graph."""
    # Plain things alone, as all that is in here is compiled.
    function, wants = getattr(ft, call.name), call.wants
    values, named = call.given()
    positional = list(zip(call.arguments, values, strict=False))

    def f(*tensors: Tensor) -> tuple[Tensor, ...]:
        leaves = dict(zip(wants, tensors, strict=True))
        arguments = [leaves.get(n, v) for n, v in positional]
        by_name = {n: leaves.get(n, v) for n, v in named.items()}
        return tuple([function(*arguments, **by_name, reduction=r) for r in reductions])

    return f


def leaves_of(call: Call) -> list[Tensor]:
    return list(call.leaves().values())


ALL_CALLS = {**cases.FIRST, **{str(call): call for call in cases.WITH_EXTRAS}}
SOME = ("cross_entropy", "linear_cross_entropy", "mse_loss", "dpo_loss", "cross_entropy-extras-2d-all-extras")


@pytest.mark.parametrize("name", mostly_full(ALL_CALLS, *SOME))
def test_whole_graph(name: str) -> None:
    """Every reduction, gradients that are scaled, and a second call that compiles nothing."""
    f, leaves = function_of(ALL_CALLS[name]), leaves_of(ALL_CALLS[name])
    graph = compiled(f)
    for scale in (1.0, -2.5):
        torch.testing.assert_close(run(graph, leaves, scale), run(f, leaves, scale), rtol=1e-11, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(graph(*leaves), f(*leaves), rtol=1e-12, atol=0.0)


@tools.over_halves
@pytest.mark.parametrize("name", ["cross_entropy", "mse_loss", "kl_div_with_logits"])
def test_half_types(name: str, half: torch.dtype) -> None:
    call = cases.FIRST[name].cast(half)
    found = check(function_of(call), *leaves_of(call), rtol=0.0, atol=0.0)
    assert {x.dtype for x in found} == {half}


def test_autocast(x: Tensor) -> None:
    def f(x: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return ft.cross_entropy(x, SIX), ft.log_cosh_loss(x, x.detach() + 1.0)

    assert [a.dtype for a in check(f, x.bfloat16())] == [torch.float32, torch.float32, torch.bfloat16]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_autocast_of_a_layer(dtype: torch.dtype) -> None:
    """Its operands are cast; each has a gradient of its own type."""
    functions = (
        ft.linear_cross_entropy,
        partial(ft.linear_cross_entropy, softcap=5.0),
        ft.linear_token_log_probs,
    )
    target = torch.arange(8)

    def f(hidden: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return tuple([function(hidden, weight, target) for function in functions])

    found = check(f, torch.randn(8, 6).to(dtype), torch.randn(11, 6))
    assert [x.dtype for x in found] == [*[torch.float32] * 3, dtype, torch.float32]


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
    torch.testing.assert_close(run(g, [x, x, x], -1.5), run(f, [x, x, x], -1.5))


@pytest.mark.parametrize("name", ["cross_entropy", "mse_loss", "log_cosh_loss", "token_log_probs"])
def test_dynamic_shapes(name: str) -> None:
    """One graph for all numbers of rows."""
    counter = CompileCounterWithBackend("eager")
    of_indices = name in ("cross_entropy", "token_log_probs")

    def f(x: Tensor, target: Tensor) -> Tensor:
        return getattr(ft, name)(2.0 * x, target, reduction="none")

    counting, checked = compiled(f, counter, dynamic=True), compiled(f, dynamic=True)
    for rows in (3, 5, 8):
        x = torch.randn(rows, 7, dtype=torch.float64)
        target = torch.arange(rows) % 7 if of_indices else torch.randn(rows, 7, dtype=torch.float64)
        ours, plain = (run(lambda x, g=g, t=target: g(x, t), [x]) for g in (checked, f))
        torch.testing.assert_close(ours, plain)
        torch.testing.assert_close(counting(x, target), f(x, target))
    assert counter.frame_count == 1


@tools.over_reductions
def test_inplace_has_no_effect(reduction: str, x: Tensor) -> None:
    def f(x: Tensor, inplace: bool = True) -> tuple[Tensor, Tensor]:
        logits = 2.0 * x
        return ft.cross_entropy(logits, SIX, reduction=reduction, inplace=inplace), logits.sum()

    torch.testing.assert_close(run(compiled(f), [x]), run(lambda x: f(x, False), [x]))


def test_inplace_of_a_leaf_has_no_effect(x: Tensor) -> None:
    leaf = x.clone().requires_grad_()
    compiled(lambda x: ft.cross_entropy(x, SIX, inplace=True))(leaf).backward()
    assert torch.equal(leaf.detach(), x)
    torch.testing.assert_close(leaf.grad, run(lambda x: functional.cross_entropy(x, SIX), [x])[1])


def test_modules(x: Tensor) -> None:
    for module in (ft.CrossEntropyLoss(weight=torch.rand(6).double(), z_loss=0.1), ft.MultiMarginLoss(p=2)):
        check(lambda x, m=module: m(x, SIX), x)


def test_bad_class_index() -> None:
    f, x = compiled(lambda x, target: ft.cross_entropy(x, target)), torch.randn(4, 5)
    f(x, torch.tensor([0, 1, 2, 3]))
    with pytest.raises(IndexError):
        f(x, torch.tensor([0, 1, 2, 5]))


def test_outside_of_our_ground(x: Tensor) -> None:
    """torch's own functions are compiled as they are."""

    def f(x: Tensor) -> tuple[Tensor, ...]:
        soft = (0.5 * x).softmax(1)
        summed = ft.mse_loss(x, soft, reduction="sum")
        return ft.cross_entropy(x, soft), summed, ft.kl_div(x, soft.log(), log_target=True)

    check(f, x)


def test_calls_of_other_devices_are_torchs(x: Tensor) -> None:
    graphs = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph.code)
        return graph

    torch.compile(ft.cross_entropy, backend=backend, fullgraph=True)(x.to("meta"), SIX.to("meta"))
    assert graphs and "fastloss" not in graphs[0]


@needs_compiler
def test_gradients_of_expanded_logits() -> None:
    check(lambda x: ft.cross_entropy(x.expand(8, 6), SIX), torch.randn(1, 6), backend="inductor")


@pytest.mark.parametrize("name", ["cross_entropy", "mse_loss", "log_cosh_loss", "kl_div_with_logits"])
def test_operators(name: str) -> None:
    """There are operators `fastloss::...`: a graph holds them, and nothing that they are made of."""
    call = cases.FIRST[name]
    seen: list[str] = []

    def look(graph: Any, inputs: Any) -> Any:
        seen.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return make_boxed_func(graph.forward)

    run(compiled(function_of(call, ("mean",)), aot_autograd(fw_compiler=look)), leaves_of(call))
    assert any(target.startswith("fastloss") for target in seen), seen
    assert not any("softmax" in target or "exp" in target for target in seen)


# Installed


def test_installed_functions(x: Tensor) -> None:
    short = SIX.to(torch.int32)  # torch takes no such indices

    def f(x: Tensor) -> Tensor:
        return functional.cross_entropy(x, short) + nn.HuberLoss()(x, x.detach() + 2.0)

    def ours(x: Tensor) -> Tensor:
        return ft.cross_entropy(x, short) + ft.huber_loss(x, x.detach() + 2.0)

    with ft.install():
        torch.testing.assert_close(run(compiled(f), [x]), run(ours, [x]))
    # What was compiled with ours is compiled anew.
    check(lambda x: functional.cross_entropy(x, SIX), x)


def test_calls_of_compiled_code() -> None:
    """Counting them breaks no graph, and compiles nothing anew when they run."""
    x = torch.randn(8, 6)

    def f(x: Tensor) -> Tensor:
        wide = functional.mse_loss(x, x.detach().double())
        return functional.cross_entropy(x, SIX) + functional.cross_entropy(x, SIX) + wide

    counter = CompileCounterWithBackend(GRAPHS)
    with ft.install():
        g = compiled(f, counter)
        first = run(g, [x])
        counts = ft.calls()
        assert counts["cross_entropy"].fastloss >= 2 and counts["cross_entropy"].torch == 0
        assert counts["mse_loss"].fastloss == 0 and counts["mse_loss"].torch >= 1
        for _ in range(3):
            torch.testing.assert_close(run(g, [x]), first)
        assert counter.frame_count == 1 and ft.calls() == counts
        functional.cross_entropy(x, SIX)
        torch.testing.assert_close(run(g, [x]), first)
        assert counter.frame_count == 1


def test_trls_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaced and compiled: one graph, with the answers of its own."""
    theirs = tools.make_selective_log_softmax()
    trl = tools.make_module(monkeypatch, "trl.trainer.utils", selective_log_softmax=theirs)
    x, index = torch.randn(2, 3, 7), torch.tensor([[0, 6, 2], [3, 3, 1]])
    with ft.install():
        actual = run(compiled(lambda x: trl.selective_log_softmax(x, index)), [x])
        assert ft.calls()["selective_log_softmax"].torch == 0
    torch.testing.assert_close(actual, run(lambda x: theirs(x, index), [x]))


# Transforms of torch.func and forward differentiation, within a graph

CLASSES = torch.tensor([0, 1, 2, 0])
TEACHER = torch.linspace(-1.0, 2.0, 12, dtype=torch.float64).reshape(4, 3)
THEIRS: dict[str, Callable[[Any], Of]] = {
    "cross_entropy": lambda m: lambda x: m.cross_entropy(x, CLASSES, label_smoothing=0.1),
    "sum": lambda m: lambda x: m.huber_loss(x, TEACHER, reduction="sum"),
    "none": lambda m: lambda x: m.mse_loss(x, TEACHER, reduction="none"),
    "module": lambda m: lambda x: (nn if m is functional else ft).CrossEntropyLoss()(x, CLASSES),
}
OURS: dict[str, Of] = {
    "options": lambda x: ft.cross_entropy(x, CLASSES, z_loss=0.1, softcap=3.0),
    "module": lambda x: ft.CrossEntropyLoss(temperature=2.0)(x, CLASSES),
    "mean": lambda x: ft.kl_div_with_logits(x, TEACHER),
    "sum": lambda x: ft.sigmoid_focal_loss(x, (TEACHER > 0).double(), reduction="sum"),
    "none": lambda x: ft.token_log_probs(x, CLASSES),
    "pairs": lambda x: ft.dpo_loss(x[:, 0], x[:, 1], TEACHER[:, 0], TEACHER[:, 1], reduction="none"),
    "linear": lambda x: ft.linear_cross_entropy(x, x.T @ x, CLASSES, softcap=3.0, reduction="none"),
}
ALL: dict[str, Of] = {**OURS, **{f"torch's {name}": f(ft) for name, f in THEIRS.items()}}
over_ours = pytest.mark.parametrize("name", mostly_full(OURS, "mean"))
BOTH = {**REVERSE, **FORWARD}


@pytest.fixture
def point() -> Tensor:
    return torch.randn(4, 3, dtype=torch.float64)


def assert_compiled(f: Callable[[Tensor], Any], x: Tensor, expected: Any) -> None:
    """With and without the demand for a whole graph."""
    for fullgraph in (True, False):
        torch._dynamo.reset()
        torch.testing.assert_close(torch.compile(f, fullgraph=fullgraph, backend=GRAPHS)(x), expected)


@pytest.mark.parametrize("label", BOTH)
@pytest.mark.parametrize("name", mostly_full(THEIRS, "cross_entropy"))
def test_transforms_are_torchs(name: str, label: str, point: Tensor) -> None:
    expected = BOTH[label](THEIRS[name](functional))(point)
    assert_compiled(BOTH[label](THEIRS[name](ft)), point, expected)


@pytest.mark.parametrize("label", mostly_full(BOTH, "grad", "jvp"))
def test_transforms_of_installed_functions(label: str, point: Tensor) -> None:
    """A program that ran before runs."""
    f = BOTH[label](lambda x: functional.cross_entropy(x, CLASSES) + nn.MSELoss()(x, TEACHER))
    expected = f(point)
    with ft.install():
        torch.testing.assert_close(compiled(f)(point), expected)


def test_forward_derivatives_of_installed_functions_in_a_graph_as_it_is(point: Tensor) -> None:
    """Functions of torch that are found by name when the graph runs."""

    def f(x: Tensor) -> Tensor | None:
        return tangent_of(lambda x: functional.cross_entropy(x, CLASSES) + functional.mse_loss(x, TEACHER), x)

    expected = f(point)
    with ft.install():
        torch.testing.assert_close(compiled(f, "eager")(point), expected)


@pytest.mark.parametrize("label", REVERSE)
@over_ours
def test_reverse_transforms_of_ours(name: str, label: str, point: Tensor) -> None:
    assert_compiled(REVERSE[label](OURS[name]), point, by_autograd(label, OURS[name], point))


@pytest.mark.parametrize("fullgraph", [True, False])
@pytest.mark.parametrize("label", FORWARD)
@over_ours
def test_forward_derivatives_of_ours_are_errors(
    name: str, label: str, fullgraph: bool, point: Tensor
) -> None:
    """Neither 0 nor None."""
    f = torch.compile(FORWARD[label](OURS[name]), fullgraph=fullgraph, backend=GRAPHS)
    with pytest.raises(Exception, match="has no forward derivative") as caught:
        f(point)
    assert fullgraph or isinstance(caught.value, NotImplementedError)


@pytest.mark.parametrize("name", ["options", "mean", "none"])
def test_dual_tensors_that_enter_a_graph(name: str, point: Tensor) -> None:
    f = compiled(OURS[name])
    with pytest.raises(NotImplementedError, match="has no forward derivative"):
        tangent_of(f, point)
    f, theirs = compiled(THEIRS["cross_entropy"](ft)), THEIRS["cross_entropy"](functional)
    torch.testing.assert_close(tangent_of(f, point), tangent_of(theirs, point))
    torch.testing.assert_close(f(point), theirs(point))


@tools.over_halves
@pytest.mark.parametrize("name", ["cross_entropy", "kl_div_with_logits"])
def test_per_sample_gradients_of_half_types(name: str, half: torch.dtype) -> None:
    x = torch.randn(2, 4, 3).to(half)
    other = CLASSES if name == "cross_entropy" else TEACHER.to(half)
    gradient = torch.func.grad(lambda x: getattr(ft, name)(x, other))
    found = compiled(torch.func.vmap(gradient))(x)
    assert found.dtype is half
    torch.testing.assert_close(found, torch.stack([gradient(one) for one in x]), rtol=0.02, atol=0.002)


@pytest.mark.parametrize("name", mostly_full(ALL, "mean", "linear", "torch's cross_entropy"))
def test_batched_gradients(name: str, point: Tensor) -> None:
    """``is_grads_batched=True`` through a compiled loss."""
    f, leaves = compiled(ALL[name]), [point.requires_grad_()]
    tools.assert_batches_of_gradients(lambda: f(point), leaves, lambda: ALL[name](point))


def test_second_derivatives_of_operators_are_errors(point: Tensor) -> None:
    """Where a graph is differentiated that a transform has left behind."""
    x = point.requires_grad_()
    with pytest.raises(NotImplementedError, match="cannot be differentiated"):
        torch.autograd.grad(torch.func.grad(OURS["mean"])(x).sum(), x)
    value = torch.compiler.disable(torch.func.vmap(OURS["mean"]))(x[None])
    node = value.grad_fn
    while node is not None and "Loss" not in node.name():
        node = node.next_functions[0][0] if node.next_functions else None
    assert node is not None  # torch asks nodes for their names while it compiles


# Compiled autograd, which has an eager backward in its graph


def backward(f: Of, x: Tensor, compiler: Any = None, times: int = 1) -> Tensor | None:
    """The gradient, by eager backward or with its graph compiled."""
    leaf = x.clone().requires_grad_()
    value = f(1.0 * leaf).sum()
    if compiler is None:
        value.backward()
        return leaf.grad
    with compiled_autograd._enable(compiler):
        for left in reversed(range(times)):
            value.backward(retain_graph=left > 0)
    return leaf.grad


def compiler_of(fullgraph: bool) -> Callable[[Any], Any]:
    return lambda graph: torch.compile(graph, backend=GRAPHS, fullgraph=fullgraph)


EAGER: dict[str, Of] = {
    **ALL,
    "scaled": lambda x: 2.5 * ft.cross_entropy(x, CLASSES),
    "float16": lambda x: ft.cross_entropy(x.half(), CLASSES),
    "bfloat16": lambda x: 2.5 * ft.cross_entropy(x.bfloat16(), CLASSES),
    "in place, none": lambda x: ft.cross_entropy(x, CLASSES, inplace=True, reduction="none"),
}


def assert_as_eager(name: str, actual: Tensor | None, expected: Tensor) -> None:
    """Where the incoming gradient is no power of two, the compiled gradient is rounded once more."""
    tolerance = {"rtol": 2.0**-7, "atol": 0.0} if name == "bfloat16" else {}
    torch.testing.assert_close(actual, expected, **tolerance)


def in_place(x: Tensor) -> Tensor:
    return ft.cross_entropy(x, CLASSES, inplace=True)


@pytest.mark.parametrize("fullgraph", [True, False])
@pytest.mark.parametrize(
    "name", mostly_full(EAGER, "mean", "torch's cross_entropy", "float16", "in place, none")
)
def test_compiled_autograd(name: str, fullgraph: bool, point: Tensor) -> None:
    f, expected = EAGER[name], backward(EAGER[name], point)
    # Another of the same shapes has the same graph.
    for _ in range(2):
        assert_as_eager(name, backward(f, point, compiler_of(fullgraph)), expected)
    assert_as_eager(name, backward(f, point, compiler_of(fullgraph), times=2), 2.0 * expected)


@pytest.mark.parametrize("name", [*EAGER, "in place"])
def test_compiled_autograd_that_compiles_nothing(name: str, point: Tensor) -> None:
    """Its graph as it is, of which dynamo sees nothing."""
    f = EAGER.get(name, in_place)
    assert_as_eager(name, backward(f, point, lambda graph: graph), backward(f, point))


def test_compiled_autograd_by_its_option(point: Tensor) -> None:
    leaf = point.clone().requires_grad_()
    value = ft.cross_entropy(leaf, CLASSES)
    with torch._dynamo.config.patch(compiled_autograd=True):
        torch.compile(lambda: value.backward(), backend=GRAPHS)()
    torch.testing.assert_close(leaf.grad, backward(lambda x: ft.cross_entropy(x, CLASSES), point))


def test_compiled_autograd_with_overwritten_logits(point: Tensor) -> None:
    expected = backward(in_place, point)
    for times in (1, 1, 2):
        torch.testing.assert_close(backward(in_place, point, compiler_of(False), times), times * expected)
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match="needs fullgraph=False"):
        backward(in_place, point, compiler_of(True))

    logits = 1.0 * point.requires_grad_()
    value = in_place(logits)
    logits.detach().mul_(2.0)
    with (
        pytest.raises(RuntimeError, match="modified by an inplace operation"),
        compiled_autograd._enable(compiler_of(False)),
    ):
        value.backward()


# With the inductor, which takes some seconds for each graph


@needs_compiler
def test_inductor_has_the_answers_of_eager_mode() -> None:
    """Several functions in one graph, between operations that the inductor fuses."""
    names = ("cross_entropy", "mse_loss", "js_div_with_logits", "linear_cross_entropy")
    calls = [cases.FIRST[n].cast(torch.float32) for n in names]
    counts = [len(call.wants) for call in calls]
    functions = [function_of(call, ("mean", "none")) for call in calls]

    def f(*tensors: Tensor) -> tuple[Tensor, ...]:
        scaled, losses = [1.5 * torch.tanh(x) for x in tensors], []
        for function, count in zip(functions, counts, strict=True):
            losses += [torch.sin(loss) for loss in function(*scaled[:count])]
            scaled = scaled[count:]
        return tuple(losses)

    check(f, *(x for call in calls for x in leaves_of(call)), backend="inductor", rtol=1e-5, atol=1e-6)


@needs_compiler
def test_inductor_with_half_types() -> None:
    target = torch.arange(16)

    def f(x: Tensor) -> tuple[Tensor, ...]:
        logits = x * 2
        return ft.cross_entropy(logits, target), ft.mse_loss(logits, x.detach(), reduction="none")

    found = check(f, torch.randn(16, 40).bfloat16(), backend="inductor", rtol=0.02, atol=0.01)
    assert {a.dtype for a in found} == {torch.bfloat16}


@needs_compiler
@pytest.mark.parametrize("is_installed", [False, True])
def test_inductor_trains_a_model(is_installed: bool) -> None:
    """The model and its loss, compiled as one, step by step as without."""

    def losses(compile_it: bool) -> list[float]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 5))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.2)

        def loss_of(x: Tensor, target: Tensor) -> Tensor:
            if is_installed:
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

    with ft.install() if is_installed else nullcontext():
        compiled_losses, eager = losses(True), losses(False)
    assert eager[-1] < eager[0]
    torch.testing.assert_close(compiled_losses, eager, rtol=1e-4, atol=1e-6)
