"""Found by experiment: gradients that are the caller's, odd programs, odd tensors."""

import pickle
import sys
import types

import pytest

torch = pytest.importorskip("torch")
nn, functional = torch.nn, torch.nn.functional
ft = pytest.importorskip("fastloss.torch")

TARGET = torch.tensor([1, 2, 0, 3])
TORCHS = {name: getattr(functional, name) for name in ("cross_entropy", "mse_loss", "gaussian_nll_loss")}


def test_a_gradient_that_was_handed_out_stays() -> None:
    """Of a graph that is kept: whoever has it may scale it, and no later backward writes to it."""
    x = torch.randn(4, 6, requires_grad=True)
    y = x * 1.0
    kept = []
    y.register_hook(kept.append)
    loss = ft.mse_loss(y, torch.zeros(4, 6))
    (first,) = torch.autograd.grad(loss, y, retain_graph=True)
    before = first.clone()
    (second,) = torch.autograd.grad(loss, y, retain_graph=True)
    second.mul_(7.0)
    (10 * loss).backward()
    assert torch.equal(first, before)
    assert torch.allclose(x.grad, 10 * before)


@pytest.mark.parametrize("inplace", [False, True])
def test_backward_of_a_view_accumulates(inplace: bool) -> None:
    w = torch.randn(20, requires_grad=True)
    loss = ft.cross_entropy(w.view(4, 5) + 0.0, TARGET, inplace=inplace)
    loss.backward(retain_graph=True)
    once = w.grad.clone()
    w.grad.mul_(1.0)
    loss.backward(retain_graph=True)
    (3 * loss).backward()
    assert torch.allclose(w.grad, 5 * once)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_second_derivatives_where_one_input_is_made_from_the_other(reduction: str) -> None:
    for make in (lambda x: x, lambda x: x.exp()):
        found = []
        for function in (TORCHS["gaussian_nll_loss"], ft.gaussian_nll_loss):
            x = torch.tensor([0.3, 0.7, 1.1], dtype=torch.float64, requires_grad=True)
            loss = function(x, torch.zeros(3, dtype=torch.float64), make(x), reduction=reduction).sum()
            (first,) = torch.autograd.grad(loss, x, create_graph=True)
            (second,) = torch.autograd.grad(first.sum(), x)
            found.append((first.detach(), second))
        for torchs, ours in zip(*found, strict=True):
            assert torch.allclose(torchs, ours)


def test_an_operator_has_no_second_derivative() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    x = torch.randn(3, requires_grad=True)
    with FlopCounterMode(display=False):
        loss = ft.log_cosh_loss(x, torch.zeros(3), reduction="sum")
    (first,) = torch.autograd.grad(loss, x, create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated"):
        torch.autograd.grad(first.sum(), x)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: ft.entropy(x),
        lambda x: ft.quantile_loss(x, x),
        lambda x: ft.dpo_loss(x[0], x[0], x[0], x[0]),
        lambda x: ft.cross_entropy(x, torch.tensor([0, 1]), z_loss=0.1),
    ],
)
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_integers_are_no_inputs(call, dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match="must be float16, bfloat16, float32 or float64"):
        call(torch.ones(2, 3).to(dtype))


class Odd(types.ModuleType):
    def __getattribute__(self, name: str) -> object:
        raise RuntimeError("not to be touched")

    def __setattr__(self, name: str, value: object) -> None:
        raise RuntimeError("not to be written to")


def test_odd_modules_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    nameless = types.ModuleType("nameless")
    del nameless.__dict__["__name__"]
    monkeypatch.setitem(sys.modules, "nameless", nameless)
    monkeypatch.setitem(sys.modules, "odd", Odd("odd"))
    monkeypatch.setitem(sys.modules, "none", None)
    with ft.install():
        assert functional.mse_loss is not TORCHS["mse_loss"]
    assert functional.mse_loss is TORCHS["mse_loss"]


def test_subclasses_and_modes_see_torchs_function() -> None:
    seen = []

    class Watched(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            seen.append(func)
            return super().__torch_function__(func, types, args, kwargs or {})

    class Watching(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    x = torch.randn(4, 5)
    with ft.install():
        functional.cross_entropy(x.as_subclass(Watched), TARGET)
        assert TORCHS["cross_entropy"] in seen
        seen.clear()
        with Watching():
            functional.cross_entropy(x, TARGET)
        assert TORCHS["cross_entropy"] in seen


def test_pickles_by_name_while_installed() -> None:
    with ft.install():
        function = functional.cross_entropy
        assert pickle.loads(pickle.dumps(function)) is function


def test_compiled_calls_of_other_devices_are_torchs() -> None:
    torch._dynamo.reset()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph.code)
        return graph

    x = torch.randn(4, 5, device="meta")
    torch.compile(ft.cross_entropy, backend=backend, fullgraph=True)(x, TARGET.to("meta"))
    assert graphs and "fastloss" not in graphs[0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_gradients_of_expanded_logits() -> None:
    torch._dynamo.reset()
    x = torch.randn(1, 5, requires_grad=True)
    compiled = torch.compile(lambda x: ft.cross_entropy(x.expand(4, 5), TARGET))
    found, expected = (
        torch.autograd.grad(f(x), x)[0]
        for f in (compiled, lambda x: TORCHS["cross_entropy"](x.expand(4, 5), TARGET))
    )
    assert torch.allclose(found, expected, atol=1e-6)


def test_batched_gradients() -> None:
    x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    upstreams = torch.tensor([1.0, 2.0], dtype=torch.float64)
    found, expected = (
        torch.autograd.grad(f(x, TARGET), x, upstreams, is_grads_batched=True)[0]
        for f in (ft.cross_entropy, TORCHS["cross_entropy"])
    )
    assert torch.allclose(found, expected)
    found, expected = (
        torch.autograd.functional.jacobian(
            lambda x, f=f: f(x, TARGET, reduction="none"), x.detach(), vectorize=True
        )
        for f in (ft.cross_entropy, TORCHS["cross_entropy"])
    )
    assert torch.allclose(found, expected)


def test_a_number_may_be_a_tensor() -> None:
    a, b, labels = torch.randn(4), torch.randn(4), torch.tensor([True, False, True, True])
    assert torch.equal(ft.kto_loss(a, b, labels, kl=torch.tensor(0.25)), ft.kto_loss(a, b, labels, kl=0.25))
    assert torch.equal(
        ft.HingeLoss(margin=torch.tensor(2.0))(a, b.sign()), ft.hinge_loss(a, b.sign(), margin=2.0)
    )
    with pytest.raises(ValueError, match="kl must not require a gradient"):
        ft.kto_loss(a, b, labels, kl=torch.tensor(0.25, requires_grad=True))


def test_in_place_refuses_logits_that_retain_their_gradient() -> None:
    x = torch.randn(4, 5, requires_grad=True) * 1.0
    x.retain_grad()
    before = x.detach().clone()
    with pytest.raises(RuntimeError, match="retain"):
        ft.cross_entropy(x, TARGET, inplace=True)
    assert torch.equal(x, before)


def test_in_place_where_logits_overlap_themselves() -> None:
    w = torch.randn(20, requires_grad=True)
    logits = (w * 1.0).as_strided((4, 5), (3, 1))
    found = torch.autograd.grad(ft.cross_entropy(logits, TARGET, inplace=True, reduction="none").sum(), w)[0]
    logits = (w * 1.0).as_strided((4, 5), (3, 1))
    expected = torch.autograd.grad(TORCHS["cross_entropy"](logits, TARGET, reduction="sum"), w)[0]
    assert torch.allclose(found, expected, atol=1e-6)


def test_memory_that_is_gone_is_an_error() -> None:
    x = torch.randn(4, 5)
    x.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError):
        ft.cross_entropy(x, TARGET)


def test_tied_weights_have_torchs_second_derivative() -> None:
    found = []
    for function in (functional.linear_cross_entropy, ft.linear_cross_entropy):
        torch.manual_seed(0)
        layer = nn.Linear(6, 5, bias=False, dtype=torch.float64)
        loss = function(torch.tanh(layer.weight[:4]), layer.weight, TARGET)
        (first,) = torch.autograd.grad(loss, layer.weight, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), layer.weight)[0])
    assert torch.allclose(*found)
