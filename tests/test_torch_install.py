"""fastloss.torch.install: our functions in the place of torch's, and back."""

import copy
import inspect
import pickle
import sys
import threading
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


def index_and_logits(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 7, generator=generator, dtype=torch.float64).to(dtype)
    return logits, torch.tensor([[0, 6, 2], [3, 3, 1]])


def hessian(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return torch.autograd.functional.hessian(lambda x: f(x).square().sum(), x)


def penalty(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(f(x).square().sum(), x, create_graph=True)
    return torch.autograd.grad(grad.square().sum(), x)[0]


TRANSFORMS: dict[str, Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]] = {
    "grad": lambda f, x: torch.func.grad(lambda x: f(x).sum())(x),
    "vjp": lambda f, x: torch.func.vjp(f, x)[1](torch.ones(2, 3, dtype=x.dtype))[0],
    "jvp": lambda f, x: torch.func.jvp(f, (x,), (x.cos(),))[1],
    "jacrev": lambda f, x: torch.func.jacrev(f)(x),
    "jacfwd": lambda f, x: torch.func.jacfwd(f)(x),
    "vmap": lambda f, x: torch.func.vmap(f)(torch.stack([x, 2.0 * x])),
    "per-sample": lambda f, x: torch.func.vmap(torch.func.grad(lambda x: f(x).sum()))(torch.stack([x, -x])),
    "func.hessian": lambda f, x: torch.func.hessian(lambda x: f(x).sum())(x),
    "hessian": hessian,
    "penalty": penalty,
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")  # what torch says of itself
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transforms_of_trls_function(transform: str, module: Callable[..., types.ModuleType]) -> None:
    """They are its own: torch.func, forward differentiation, second derivatives."""
    theirs = make_selective_log_softmax()
    utils = module("trl.trainer.utils", selective_log_softmax=theirs)
    logits, index = index_and_logits()
    run = TRANSFORMS[transform]
    expected = run(lambda x: theirs(x, index), logits)
    assert expected.any()
    with ft.install():
        actual = run(lambda x: utils.selective_log_softmax(x, index), logits)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("bad", [-100, -1, 7, torch.iinfo(torch.int64).max])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("wanted", [False, True])
def test_errors_of_trls_function(
    bad: int, dtype: torch.dtype, wanted: bool, module: Callable[..., types.ModuleType]
) -> None:
    """It knows no ignored classes: what it refuses is refused, with its error."""
    theirs = make_selective_log_softmax()
    utils = module("trl.trainer.utils", selective_log_softmax=theirs)
    logits, index = index_and_logits(dtype)
    index[1, 1] = bad
    errors = []
    for function in (theirs, None):
        with ft.install(), pytest.raises(RuntimeError) as caught:
            (function or utils.selective_log_softmax)(logits.requires_grad_(wanted), index)
        errors.append((type(caught.value), str(caught.value)))
    assert errors[0] == errors[1]


def test_other_calls_of_trls_function(module: Callable[..., types.ModuleType]) -> None:
    """What is no index for each row is its own; it sees subclasses and shapes as they are given."""
    seen = []
    theirs = make_selective_log_softmax()

    def selective_log_softmax(logits: Tensor, index: Tensor, **more: Any) -> Tensor:
        seen.append((type(logits), tuple(index.shape), more))
        return (
            logits.log_softmax(-1).gather(-1, index) if index.ndim == logits.ndim else theirs(logits, index)
        )

    class Tagged(Tensor):
        pass

    utils = module("trl.trainer.utils", selective_log_softmax=selective_log_softmax)
    logits, index = index_and_logits()
    with ft.install():
        function = utils.selective_log_softmax
        assert function(logits, index[..., None].expand(2, 3, 4)).shape == (2, 3, 4)
        assert type(function(logits.as_subclass(Tagged), index)) is Tagged
        function(logits, index)
        function(logits, index, mode="other")
    assert seen == [(Tensor, (2, 3, 4), {}), (Tagged, (2, 3), {}), (Tensor, (2, 3), {"mode": "other"})]
    assert ft.calls() == {"selective_log_softmax": ft.Calls(fastloss=1, torch=3)}


def test_masked_rows_of_trls_function(module: Callable[..., types.ModuleType]) -> None:
    """Of a TRL that has a temperature and a mask; with second derivatives."""

    def selective_log_softmax(
        logits: Tensor, index: Tensor, temperature: float = 1.0, row_mask: Tensor | None = None
    ) -> Tensor:
        rows = torch.gather((logits / temperature).log_softmax(-1), -1, index.unsqueeze(-1)).squeeze(-1)
        return rows if row_mask is None else torch.where(row_mask != 0, rows, 0.0)

    utils = module("trl.trainer.utils", selective_log_softmax=selective_log_softmax)
    logits, index = index_and_logits()
    mask = torch.tensor([[1, 0, 1], [0, 1, 1]])
    for more in ({}, {"temperature": 0.7}, {"row_mask": mask}, {"temperature": 0.7, "row_mask": mask.bool()}):
        for run in (TRANSFORMS["grad"], TRANSFORMS["vmap"], penalty, lambda f, x: f(x)):
            expected = run(lambda x, m=more: selective_log_softmax(x, index, **m), logits)
            with ft.install():
                actual = run(lambda x, m=more: utils.selective_log_softmax(x, index, **m), logits)
            torch.testing.assert_close(actual, expected)
    with ft.install():
        kept = utils.selective_log_softmax(logits, index.masked_fill(mask == 0, -100), row_mask=mask)
        assert not kept[mask == 0].any() and kept[mask != 0].all()
        with pytest.raises(RuntimeError, match="-100"):
            utils.selective_log_softmax(logits, index.masked_fill(mask == 0, -100))


def test_trl_that_is_imported_later(module: Callable[..., types.ModuleType]) -> None:
    """A second call of `install` finds it; the last `uninstall` restores it."""
    theirs = make_selective_log_softmax()
    with ft.install():
        utils = module("trl.trainer.utils", selective_log_softmax=theirs)
        assert utils.selective_log_softmax is theirs
        with ft.install() as names:
            assert "trl.trainer.utils.selective_log_softmax" in names
            assert utils.selective_log_softmax is not theirs
            with ft.install():
                assert utils.selective_log_softmax.fastloss_replaces is theirs
        assert utils.selective_log_softmax is not theirs
    assert utils.selective_log_softmax is theirs


# What stands installed, and what it does


def test_what_a_program_has_saved_is_replaced(module: Callable[..., types.ModuleType]) -> None:
    """As a global variable; in a list or an object it stays."""

    class Holder:
        function = staticmethod(functional.cross_entropy)

    saved = module("somebody", mine=functional.cross_entropy, several=[functional.cross_entropy], held=Holder)
    own = saved.mine
    with ft.install():
        assert saved.mine is functional.cross_entropy is not own
        assert saved.several == [own] and saved.held.function is own
        assert functional.cross_entropy.fastloss_replaces is own
    assert saved.mine is own


def test_repr_of_what_is_installed(module: Callable[..., types.ModuleType]) -> None:
    theirs = make_selective_log_softmax()
    utils = module("trl.trainer.utils", selective_log_softmax=theirs)
    with ft.install():
        for name, own in cases.TORCHS.items():
            text = repr(getattr(functional, name))
            assert text == f"<{name} of fastloss.torch, installed in the place of {own!r}>"
        assert repr(theirs) in repr(utils.selective_log_softmax)
    assert "fastloss" not in repr(functional.cross_entropy) + repr(ft.cross_entropy).partition(" at ")[2]


def test_installed_functions_look_like_functions() -> None:
    with ft.install():
        for name, own in cases.TORCHS.items():
            function, ours = getattr(functional, name), getattr(ft, name)
            assert function.__name__ == name and function.__module__ == own.__module__
            assert function.__doc__ == ours.__doc__
            assert inspect.signature(function) == inspect.signature(ours)
            assert copy.deepcopy(function) is function
            assert pickle.loads(pickle.dumps(function)) is function
        pickled = pickle.dumps(functional.mse_loss)
    assert pickle.loads(pickled) is functional.mse_loss, "by name: torch's, where nothing is installed"


def test_installed_lists_what_stands_replaced(module: Callable[..., types.ModuleType]) -> None:
    assert ft.installed() == ()
    holder = module("somebody", ce=functional.cross_entropy)
    with ft.install() as names:
        assert ft.installed() == names and "somebody.ce" in names
        holder.ce = len
        assert "somebody.ce" not in ft.installed()
        module("late", mse=functional.mse_loss)
        assert "late.mse" in ft.installed()
        ft.install()
        ft.uninstall()
        assert "late.mse" in ft.installed()
    assert ft.installed() == ()


def test_uninstall_all() -> None:
    for _ in range(3):
        ft.install()
    ft.uninstall(all=True)
    assert not is_installed() and ft.installed() == ()
    ft.uninstall(all=True)
    ft.install()
    assert is_installed()
    ft.uninstall(all=False)
    assert not is_installed()
    with ft.install(), ft.install():
        ft.uninstall(all=True)
        assert not is_installed()
    with pytest.raises(TypeError):
        ft.uninstall(True)  # type: ignore[misc]


def test_calls_are_counted() -> None:
    leaf = X.clone().requires_grad_()
    with ft.install():
        assert ft.calls() == {}
        functional.cross_entropy(X, TARGET)
        nn.CrossEntropyLoss()(leaf, SHORT).backward()
        functional.cross_entropy(X, TARGET, weight=torch.ones(5, dtype=torch.float64)[:5].float())
        functional.mse_loss(X, X.double())  # two types
        functional.mse_loss(X, X)
        functional.mse_loss(X.as_subclass(type("Tagged", (Tensor,), {})), X)
        functional.huber_loss(leaf, leaf * 2.0)  # a target with a gradient
        torch.func.grad(lambda x: functional.huber_loss(x, X))(X)
        # Nobody's but the program's own.
        ft.cross_entropy(X, TARGET)
        ft.mse_loss(X, X.double())
        expected = {
            "cross_entropy": ft.Calls(fastloss=3, torch=0),
            "huber_loss": ft.Calls(fastloss=0, torch=2),
            "mse_loss": ft.Calls(fastloss=1, torch=2),
        }
        assert ft.calls() == expected and list(ft.calls()) == sorted(expected)
        with ft.install():
            functional.l1_loss(X, X)
        assert ft.calls() == {**expected, "l1_loss": ft.Calls(1, 0)}, "one count for all installations"
    ft.mse_loss(X, X)
    assert ft.calls()["mse_loss"] == (1, 2), "to be read afterwards"
    ft.calls().clear()
    assert ft.calls()
    with ft.install():
        assert ft.calls() == {}


def test_calls_inside_torchs_own_are_counted() -> None:
    """Its linear_cross_entropy calls cross_entropy, which is ours."""
    x, weight = torch.randn(4, 6), torch.randn(5, 3, 6)  # (C, d, D): not ours
    with ft.install():
        functional.linear_cross_entropy(x, weight, torch.zeros(4, 3, dtype=torch.int64))
        assert ft.calls() == {"cross_entropy": (1, 0), "linear_cross_entropy": (0, 1)}


def test_calls_that_raise_are_not_counted() -> None:
    with ft.install():
        for target in (TARGET + 5, TARGET[:2], TARGET.bool()):
            with pytest.raises((IndexError, ValueError, RuntimeError)):
                functional.cross_entropy(X, target)
        assert ft.calls() == {}


def test_second_derivatives_are_one_call() -> None:
    """The gradient that torch's own function recomputes is no call of the program."""
    with ft.install():
        penalty(lambda x: functional.mse_loss(x, X), X)
        assert ft.calls() == {"mse_loss": (1, 0)}


def test_calls_of_several_threads() -> None:
    """Each knows what of its own calls was left to torch."""
    barrier = threading.Barrier(4)

    def work(k: int) -> None:
        barrier.wait()
        for _ in range(200):
            functional.mse_loss(X, X.double()) if k % 2 else functional.l1_loss(X, X)

    with ft.install():
        threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        counts = ft.calls()
    assert counts["l1_loss"].torch == 0 and counts["mse_loss"].fastloss == 0
    assert 390 <= counts["l1_loss"].fastloss <= 400 and 390 <= counts["mse_loss"].torch <= 400


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
