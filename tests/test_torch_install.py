"""fastloss.torch.install: our functions in the place of torch's, and back."""

import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch_cases as cases  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

import fastloss.torch as ft  # noqa: E402

Tensor = torch.Tensor
pytestmark = pytest.mark.filterwarnings(cases.ignore_kl_mean)
X, TARGET = torch.linspace(-2.0, 2.0, 20).view(4, 5), torch.tensor([0, 2, 1, 4])
SHORT = TARGET.to(torch.int16)  # torch takes no such indices


def is_installed() -> bool:
    originals = [getattr(functional, name) is f for name, f in cases.TORCHS.items()]
    assert all(originals) or not any(originals), "half of it"
    return not originals[0]


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    assert not is_installed()
    yield
    # So that a failure in one test is not one of the others.
    for _ in range(10):
        ft.uninstall()
    for name, function in cases.TORCHS.items():
        setattr(functional, name, function)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Callable[..., types.ModuleType]:
    """Makes a module that has imported functions under some names."""

    def make(name: str, **names: Any) -> types.ModuleType:
        made = types.ModuleType(name)
        made.__dict__.update(names)
        monkeypatch.setitem(sys.modules, name, made)
        return made

    return make


def test_import_installs_nothing() -> None:
    assert not is_installed()
    with pytest.raises(RuntimeError, match="Long or Byte"):
        functional.cross_entropy(X, SHORT)


def test_install_and_uninstall() -> None:
    names = ft.install()
    assert is_installed()
    assert isinstance(names, tuple) and len(set(names)) == len(names)
    assert {f"torch.nn.functional.{name}" for name in cases.TORCHS} <= set(names)
    assert all(isinstance(name, str) for name in names)
    functional.cross_entropy(X, SHORT)
    ft.uninstall()
    assert not is_installed()


def test_uninstall_of_nothing() -> None:
    ft.uninstall()
    ft.uninstall()
    ft.install()
    assert is_installed(), "an uninstall too many must not count"
    ft.uninstall()
    assert not is_installed()


def test_install_nests() -> None:
    for _ in range(3):
        ft.install()
    for _ in range(2):
        ft.uninstall()
        assert is_installed()
    ft.uninstall()
    assert not is_installed()


def test_context_manager() -> None:
    with ft.install():
        assert is_installed()
        with ft.install():
            assert is_installed()
        assert is_installed()
    assert not is_installed()


def test_context_manager_later() -> None:
    """The value is both: what was replaced, and the way back."""
    installed = ft.install()
    assert "torch.nn.functional.mse_loss" in installed
    with installed:
        assert is_installed()
    assert not is_installed()


def test_exception_in_the_block() -> None:
    with pytest.raises(ZeroDivisionError), ft.install():
        assert is_installed()
        raise ZeroDivisionError
    assert not is_installed()


def test_exception_in_the_inner_block() -> None:
    with ft.install():
        with pytest.raises(KeyError), ft.install():
            raise KeyError
        assert is_installed()
    assert not is_installed()


def test_modules_that_imported_by_name(module: Callable[..., types.ModuleType]) -> None:
    theirs = functional.cross_entropy
    holder = module("somebody", ce=theirs, again=theirs, mse_loss=functional.mse_loss, F=functional)
    inner = module("somebody.models.head", cross_entropy=theirs)
    other = module("bystander", cross_entropy=len, mse_loss=lambda x, y: 0.0)
    kept = dict(other.__dict__)
    with ft.install():
        for replaced in (holder.ce, holder.again, inner.cross_entropy):
            assert replaced is functional.cross_entropy is not theirs
            replaced(X, SHORT)
        assert holder.mse_loss is functional.mse_loss is not cases.TORCHS["mse_loss"]
        assert holder.F is functional
        assert other.__dict__ == kept
    assert holder.ce is theirs and holder.again is theirs and inner.cross_entropy is theirs
    assert holder.mse_loss is functional.mse_loss and other.__dict__ == kept


def test_names_of_what_was_replaced(module: Callable[..., types.ModuleType]) -> None:
    module("somebody", ce=functional.cross_entropy, other=len)
    names = ft.install()
    assert "somebody.ce" in names and "somebody.other" not in names
    assert not any(name.startswith("fastloss.") for name in names)


def test_odd_modules(module: Callable[..., types.ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in sys.modules may be no module, or one that answers with an error."""

    class Lazy(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("not now")

        def __dir__(self) -> list[str]:
            raise RuntimeError("not now")

    class Slotted:
        __slots__ = ()

    class Odd:
        def __eq__(self, other: object) -> bool:
            raise ValueError("no comparisons")

        __hash__ = None  # type: ignore[assignment]

    monkeypatch.setitem(sys.modules, "lazy", Lazy("lazy"))
    monkeypatch.setitem(sys.modules, "nothing", None)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "slotted", Slotted())  # type: ignore[arg-type]
    holder = module("holder", tensor=torch.zeros(3), odd=Odd(), ce=functional.cross_entropy)
    with ft.install():
        assert holder.ce is functional.cross_entropy
    assert holder.ce is cases.TORCHS["cross_entropy"]


def test_what_somebody_else_put_there_is_left(module: Callable[..., types.ModuleType]) -> None:
    holder = module("somebody", ce=functional.cross_entropy)
    with ft.install():
        assert holder.ce is functional.cross_entropy
        holder.ce = len
    assert holder.ce is len, "not ours any more, so not ours to restore"


def test_module_that_is_gone(
    module: Callable[..., types.ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    module("somebody", ce=functional.cross_entropy)
    with ft.install():
        monkeypatch.delitem(sys.modules, "somebody")
    assert not is_installed()


def test_module_imported_between_two_installs(module: Callable[..., types.ModuleType]) -> None:
    with ft.install():
        late = module("late", ce=cases.TORCHS["cross_entropy"])
        with ft.install():
            assert late.ce is functional.cross_entropy
    assert late.ce is cases.TORCHS["cross_entropy"]


def test_modules_of_torch_use_ours() -> None:
    criterion = nn.CrossEntropyLoss(weight=torch.ones(5))
    with ft.install():
        loss = criterion(X, SHORT)
        nn.CrossEntropyLoss()(X, SHORT)
    torch.testing.assert_close(loss, criterion(X, TARGET))
    with pytest.raises(RuntimeError, match="Long or Byte"):
        criterion(X, SHORT)


@pytest.mark.parametrize("name", cases.NAMES_OF_TORCH)
def test_torchs_ground_is_still_torchs(name: str) -> None:
    """What is handed on to torch must not come back to ours."""
    call = cases.FIRST[name]
    first = next(iter(call.arguments))

    class Tagged(Tensor):
        pass

    special = {**call.arguments, first: call.arguments[first].as_subclass(Tagged)}
    tagged = cases.Call(call.loss, call.label, special, call.options)
    expected = tagged.value(function=cases.TORCHS[name])
    with ft.install():
        for function in (getattr(functional, name), getattr(ft, name)):
            actual = tagged.value(function=function)
            assert type(actual) is type(expected)
            torch.testing.assert_close(actual.as_subclass(Tensor), expected.as_subclass(Tensor))
        with pytest.raises((RuntimeError, TypeError, ValueError, AttributeError)):
            tagged.value(function=getattr(functional, name), reduction="average")


def test_linear_cross_entropy_of_torch_calls_cross_entropy() -> None:
    x, weight = torch.randn(4, 6), torch.randn(5, 3, 6)  # (C, d, D): not ours
    target = torch.zeros(4, 3, dtype=torch.int64)
    expected = functional.linear_cross_entropy(x, weight, target)
    with ft.install():
        torch.testing.assert_close(functional.linear_cross_entropy(x, weight, target), expected)


# TRL


def make_selective_log_softmax() -> Callable[[Tensor, Tensor], Tensor]:
    """As TRL has it (not a name of this module, where it would be replaced, too)."""

    def selective_log_softmax(logits: Tensor, index: Tensor) -> Tensor:
        return torch.gather(logits.log_softmax(-1), dim=-1, index=index.unsqueeze(-1)).squeeze(-1)

    selective_log_softmax.__module__ = "trl.trainer.utils"
    return selective_log_softmax


def test_trl(module: Callable[..., types.ModuleType]) -> None:
    module("trl")
    module("trl.trainer")
    theirs = make_selective_log_softmax()
    utils = module("trl.trainer.utils", selective_log_softmax=theirs)
    trainer = module("trl.trainer.grpo_trainer", selective_log_softmax=theirs)
    logits, index = torch.randn(2, 3, 7, requires_grad=True), torch.tensor([[0, 6, 2], [3, 3, 1]])
    expected = theirs(logits, index)
    (grad,) = torch.autograd.grad(expected.sum(), logits)
    with ft.install() as names:
        assert "trl.trainer.utils.selective_log_softmax" in names
        assert "trl.trainer.grpo_trainer.selective_log_softmax" in names
        assert trainer.selective_log_softmax is not theirs
        assert utils.selective_log_softmax is not theirs
        actual = utils.selective_log_softmax(logits, index)
        torch.testing.assert_close(actual, expected)
        torch.testing.assert_close(torch.autograd.grad(actual.sum(), logits)[0], grad)
        half = utils.selective_log_softmax(logits.detach().bfloat16(), index)
        torch.testing.assert_close(half.float(), expected, rtol=0.02, atol=0.02)
    assert trainer.selective_log_softmax is theirs
    assert utils.selective_log_softmax is theirs


# Training


def curve(loss_of: Callable[[Tensor, Tensor], Tensor], target_of: Callable[[Tensor], Tensor]) -> list[float]:
    """A small network, trained for a while; its losses."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 5))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    x = torch.randn(64, 8)
    losses = []
    for step in range(24):
        rows = x[16 * (step % 4) :][:16]
        optimizer.zero_grad()
        loss = loss_of(model(rows), target_of(rows))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


def classes(x: Tensor) -> Tensor:
    return x[:, :5].argmax(1)


def numbers(x: Tensor) -> Tensor:
    return torch.tanh(x[:, 1:6])


CURVES: dict[str, tuple[Callable[..., Tensor], Callable[[Tensor], Tensor]]] = {
    "cross_entropy": (lambda x, t: functional.cross_entropy(x, t, label_smoothing=0.05), classes),
    "module": (nn.CrossEntropyLoss(), classes),
    "mse_loss": (lambda x, t: functional.mse_loss(x, t), numbers),
    "huber": (nn.HuberLoss(delta=0.5), numbers),
    "logits": (lambda x, t: functional.binary_cross_entropy_with_logits(x, t.sigmoid()), numbers),
    "none": (lambda x, t: functional.cross_entropy(x, t, reduction="none").square().mean(), classes),
}


@pytest.mark.parametrize("name", CURVES)
def test_training_curve_is_the_same(name: str) -> None:
    expected = curve(*CURVES[name])
    with ft.install():
        actual = curve(*CURVES[name])
    assert expected[-1] < 0.98 * expected[0]
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)
    assert curve(*CURVES[name]) == expected
