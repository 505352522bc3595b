"""fastloss.torch.install: our functions in the place of torch's, and back."""

import copy
import inspect
import pickle
import sys
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch_cases as cases  # noqa: E402
import torch_tools as tools  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch_tools import TRANSFORMS, Counting, Tagged, gradients_of, make_module, outcome, penalty  # noqa: E402

import fastloss.torch as ft  # noqa: E402

Tensor = torch.Tensor
pytestmark = [
    pytest.mark.filterwarnings(cases.ignore_kl_mean),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*"),  # what torch says of itself
]
X, TARGET = torch.linspace(-2.0, 2.0, 20).view(4, 5), torch.tensor([0, 2, 1, 4])
SHORT = TARGET.to(torch.int16)  # torch takes no such indices
Module = Callable[..., types.ModuleType]


def is_installed() -> bool:
    originals = [getattr(functional, name) is f for name, f in cases.TORCHS.items()]
    assert all(originals) or not any(originals), "half of it"
    return not originals[0]


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    assert not is_installed()
    yield
    # So that a failure in one test is not one of the others.
    ft.uninstall(all=True)
    for name, function in cases.TORCHS.items():
        setattr(functional, name, function)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Module:
    return partial(make_module, monkeypatch)


@pytest.fixture
def theirs() -> Callable[[Tensor, Tensor], Tensor]:
    return tools.make_selective_log_softmax()


@pytest.fixture
def utils(theirs: Callable[..., Tensor], module: Module) -> types.ModuleType:
    return module("trl.trainer.utils", selective_log_softmax=theirs)


# There and back


def test_import_installs_nothing() -> None:
    assert not is_installed() and ft.installed() == ()
    with pytest.raises(RuntimeError, match="Long or Byte"):
        functional.cross_entropy(X, SHORT)


def test_install_and_uninstall() -> None:
    ft.uninstall()
    ft.uninstall()
    names = ft.install()
    assert is_installed(), "an uninstall too many must not count"
    assert isinstance(names, tuple) and len(set(names)) == len(names)
    assert {f"torch.nn.functional.{name}" for name in cases.TORCHS} <= set(names)
    assert all(isinstance(name, str) for name in names)
    functional.cross_entropy(X, SHORT)
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
        with pytest.raises(KeyError), ft.install():
            assert is_installed()
            raise KeyError
        assert is_installed()
    assert not is_installed()
    with pytest.raises(ZeroDivisionError), ft.install():
        assert is_installed()
        raise ZeroDivisionError
    assert not is_installed()


def test_context_manager_later() -> None:
    """The value is both: what was replaced, and the way back."""
    installed = ft.install()
    assert "torch.nn.functional.mse_loss" in installed
    with installed:
        assert is_installed()
    assert not is_installed()


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


# Where functions are replaced


def test_modules_that_imported_by_name(module: Module) -> None:
    theirs = functional.cross_entropy
    holder = module(
        "somebody", ce=theirs, again=theirs, mse_loss=functional.mse_loss, F=functional, other=len
    )
    inner = module("somebody.models.head", cross_entropy=theirs)
    other = module("bystander", cross_entropy=len, mse_loss=lambda x, y: 0.0)
    kept = dict(other.__dict__)
    with ft.install() as names:
        for replaced in (holder.ce, holder.again, inner.cross_entropy):
            assert replaced is functional.cross_entropy is not theirs
            replaced(X, SHORT)
        assert holder.mse_loss is functional.mse_loss is not cases.TORCHS["mse_loss"]
        assert holder.F is functional
        assert other.__dict__ == kept
        assert "somebody.ce" in names and "somebody.other" not in names
        assert not any(name.startswith("fastloss.") for name in names)
    assert holder.ce is theirs and holder.again is theirs and inner.cross_entropy is theirs
    assert holder.mse_loss is functional.mse_loss and other.__dict__ == kept


def test_what_a_program_has_saved_is_replaced(module: Module) -> None:
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


def test_odd_modules(module: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in sys.modules may be no module, or one that answers with an error."""

    class Lazy(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("not now")

        def __dir__(self) -> list[str]:
            raise RuntimeError("not now")

    class Closed(types.ModuleType):
        def __getattribute__(self, name: str) -> object:
            raise RuntimeError("not to be touched")

        def __setattr__(self, name: str, value: object) -> None:
            raise RuntimeError("not to be written to")

    class Slotted:
        __slots__ = ()

    class Odd:
        def __eq__(self, other: object) -> bool:
            raise ValueError("no comparisons")

        __hash__ = None  # type: ignore[assignment]

    odd = {"lazy": Lazy("lazy"), "closed": Closed("closed"), "nothing": None, "slotted": Slotted()}
    for name, one in odd.items():
        monkeypatch.setitem(sys.modules, name, one)  # type: ignore[arg-type]
    del module("nameless").__dict__["__name__"]
    holder = module("holder", tensor=torch.zeros(3), odd=Odd(), ce=functional.cross_entropy)
    with ft.install():
        assert holder.ce is functional.cross_entropy
        assert functional.mse_loss is not cases.TORCHS["mse_loss"]
    assert holder.ce is cases.TORCHS["cross_entropy"]


def test_modules_that_change_meanwhile(module: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = functional.cross_entropy
    holder = module("somebody", ce=theirs)
    module("gone", ce=theirs)
    with ft.install() as names:
        assert ft.installed() == names and "somebody.ce" in names
        assert holder.ce is functional.cross_entropy
        holder.ce = len
        assert "somebody.ce" not in ft.installed()
        monkeypatch.delitem(sys.modules, "gone")
        late = module("late", ce=theirs, mse=functional.mse_loss)
        assert "late.mse" in ft.installed()
        with ft.install():
            assert late.ce is functional.cross_entropy
        assert "late.mse" in ft.installed()
    assert holder.ce is len, "not ours any more, so not ours to restore"
    assert late.ce is theirs and not is_installed() and ft.installed() == ()


def test_modules_of_torch_use_ours() -> None:
    criterion = nn.CrossEntropyLoss(weight=torch.ones(5))
    with ft.install():
        loss = criterion(X, SHORT)
        nn.CrossEntropyLoss()(X, SHORT)
    torch.testing.assert_close(loss, criterion(X, TARGET))
    with pytest.raises(RuntimeError, match="Long or Byte"):
        criterion(X, SHORT)


# What stands there


def test_installed_functions_look_like_functions(theirs: Any, utils: Any) -> None:
    with ft.install():
        for name, own in cases.TORCHS.items():
            function, ours = getattr(functional, name), getattr(ft, name)
            assert function.__name__ == name and function.__module__ == own.__module__
            assert function.__doc__ == ours.__doc__
            assert inspect.signature(function) == inspect.signature(ours)
            assert copy.deepcopy(function) is function
            assert pickle.loads(pickle.dumps(function)) is function
            assert repr(function) == f"<{name} of fastloss.torch, installed in the place of {own!r}>"
        pickled = pickle.dumps(functional.mse_loss)
        assert repr(theirs) in repr(utils.selective_log_softmax)
    assert pickle.loads(pickled) is functional.mse_loss, "by name: torch's, where nothing is installed"
    assert "fastloss" not in repr(functional.cross_entropy) + repr(ft.cross_entropy).partition(" at ")[2]


@pytest.mark.parametrize("name", cases.NAMES_OF_TORCH)
def test_torchs_ground_is_still_torchs(name: str) -> None:
    """What is handed on to torch must not come back to ours."""
    call = cases.FIRST[name]
    tagged = call.changed(**{call.first: call.arguments[call.first].as_subclass(Tagged)})
    expected = tagged.value(function=cases.TORCHS[name])
    with ft.install():
        for function in (getattr(functional, name), getattr(ft, name)):
            actual = tagged.value(function=function)
            assert type(actual) is type(expected)
            torch.testing.assert_close(actual.as_subclass(Tensor), expected.as_subclass(Tensor))
        with pytest.raises((RuntimeError, TypeError, ValueError, AttributeError)):
            tagged.value(function=getattr(functional, name), reduction="average")


def test_subclasses_and_modes_see_torchs_function() -> None:
    seen: list[Any] = []

    class Watching(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(func)
            return func(*args, **(kwargs or {}))

    Counting.called.clear()
    with ft.install():
        functional.cross_entropy(X.as_subclass(Counting), TARGET)
        with Watching():
            functional.cross_entropy(X, TARGET)
    assert cases.TORCHS["cross_entropy"] in Counting.called and cases.TORCHS["cross_entropy"] in seen


# TRL


INDEX = torch.tensor([[0, 6, 2], [3, 3, 1]])


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_trl(theirs: Any, utils: Any, module: Module, logits: Tensor) -> None:
    module("trl")
    module("trl.trainer")
    trainer = module("trl.trainer.grpo_trainer", selective_log_softmax=theirs)
    logits.requires_grad_()
    expected = theirs(logits, INDEX)
    with ft.install() as names:
        assert "trl.trainer.utils.selective_log_softmax" in names
        assert "trl.trainer.grpo_trainer.selective_log_softmax" in names
        assert trainer.selective_log_softmax is not theirs
        assert utils.selective_log_softmax is not theirs
        actual = utils.selective_log_softmax(logits, INDEX)
        torch.testing.assert_close(actual, expected)
        torch.testing.assert_close(gradients_of(actual, logits), gradients_of(expected, logits))
        half = utils.selective_log_softmax(logits.detach().bfloat16(), INDEX)
        torch.testing.assert_close(half.double(), expected, rtol=0.02, atol=0.02)
    assert trainer.selective_log_softmax is theirs
    assert utils.selective_log_softmax is theirs


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transforms_of_trls_function(transform: str, theirs: Any, utils: Any, logits: Tensor) -> None:
    """They are its own: torch.func, forward differentiation, second derivatives."""
    run = TRANSFORMS[transform]
    expected = run(lambda x: theirs(x, INDEX))(logits)
    with ft.install():
        actual = run(lambda x: utils.selective_log_softmax(x, INDEX))(logits)
    torch.testing.assert_close(actual, expected)
    assert (actual[0] if isinstance(actual, tuple) else actual).any()


@pytest.mark.parametrize("bad", [-100, -1, 7, torch.iinfo(torch.int64).max])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("wanted", [False, True])
def test_errors_of_trls_function(
    bad: int, dtype: torch.dtype, wanted: bool, theirs: Any, utils: Any, logits: Tensor
) -> None:
    """It knows no ignored classes: what it refuses is refused, with its error."""
    index = INDEX.clone()
    index[1, 1] = bad
    with ft.install():
        functions = theirs, utils.selective_log_softmax
        errors = [outcome(partial(f, logits.to(dtype).requires_grad_(wanted), index)) for f in functions]
    assert isinstance(errors[0], RuntimeError)
    assert (type(errors[1]), str(errors[1])) == (type(errors[0]), str(errors[0]))


def test_other_calls_of_trls_function(theirs: Any, module: Module, logits: Tensor) -> None:
    """What is no index for each row is its own; it sees subclasses and shapes as they are given."""
    seen = []

    def selective_log_softmax(
        logits: Tensor, index: Tensor, temperature: float = 1.0, row_mask: Tensor | None = None
    ) -> Tensor:
        seen.append((type(logits), tuple(index.shape), temperature))
        is_several = index.ndim == logits.ndim
        return logits.log_softmax(-1).gather(-1, index) if is_several else theirs(logits, index)

    utils = module("trl.trainer.utils", selective_log_softmax=selective_log_softmax)
    with ft.install():
        function = utils.selective_log_softmax
        assert function(logits, INDEX[..., None].expand(2, 3, 4)).shape == (2, 3, 4)
        assert type(function(logits.as_subclass(Tagged), INDEX)) is Tagged
        function(logits, INDEX)
        function(logits, INDEX[..., None], temperature=2.0)
    assert seen == [(Tensor, (2, 3, 4), 1.0), (Tagged, (2, 3), 1.0), (Tensor, (2, 3, 1), 2.0)]
    assert ft.calls() == {"selective_log_softmax": ft.Calls(fastloss=1, torch=3)}


def test_unknown_signatures_are_left_alone(module: Module) -> None:
    """With one warning in all; a version that lacks the function is passed over."""

    def selective_log_softmax(logits: Tensor, index: Tensor, new: int = 0) -> Tensor:
        return logits

    utils = module("trl.trainer.utils", selective_log_softmax=selective_log_softmax)
    module("transformers.loss.loss_utils")
    with pytest.warns(RuntimeWarning, match=r"trl.trainer.utils.*\(logits, index, new=0\)") as caught:
        for _ in range(2):
            with ft.install() as names:
                assert utils.selective_log_softmax is selective_log_softmax
                assert not any(name.startswith("trl") for name in names)
                with ft.install():
                    pass
    assert len(caught) == 1 and Path(caught[0].filename) == Path(__file__)


MASK = torch.tensor([[1, 0, 1], [0, 1, 1]])


@pytest.mark.parametrize(
    "more", [{}, {"temperature": 0.7}, {"row_mask": MASK}, {"temperature": 0.7, "row_mask": MASK.bool()}]
)
def test_masked_rows_of_trls_function(more: dict[str, Any], module: Module, logits: Tensor) -> None:
    """Of a TRL that has a temperature and a mask; with second derivatives."""

    def selective_log_softmax(
        logits: Tensor, index: Tensor, temperature: float = 1.0, row_mask: Tensor | None = None
    ) -> Tensor:
        rows = torch.gather((logits / temperature).log_softmax(-1), -1, index.unsqueeze(-1)).squeeze(-1)
        return rows if row_mask is None else torch.where(row_mask != 0, rows, 0.0)

    utils = module("trl.trainer.utils", selective_log_softmax=selective_log_softmax)
    for run in (TRANSFORMS["grad"], TRANSFORMS["vmap"], TRANSFORMS["penalty"], lambda f: f):
        expected = run(lambda x: selective_log_softmax(x, INDEX, **more))(logits)
        with ft.install():
            actual = run(lambda x: utils.selective_log_softmax(x, INDEX, **more))(logits)
        torch.testing.assert_close(actual, expected)
    ignored = INDEX.masked_fill(MASK == 0, -100)
    with ft.install():
        kept = utils.selective_log_softmax(logits, ignored, row_mask=MASK)
        assert not kept[MASK == 0].any() and kept[MASK != 0].all()
        with pytest.raises(RuntimeError, match="-100"):
            utils.selective_log_softmax(logits, ignored)


def test_trl_that_is_imported_later(theirs: Any, module: Module) -> None:
    """A second call of `install` finds it; the last `uninstall` restores it."""
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


# Calls that are counted


def test_calls_are_counted() -> None:
    leaf = X.clone().requires_grad_()
    with ft.install():
        assert ft.calls() == {}
        functional.cross_entropy(X, TARGET)
        nn.CrossEntropyLoss()(leaf, SHORT).backward()
        functional.cross_entropy(X, TARGET, weight=torch.ones(5, dtype=torch.float64)[:5].float())
        functional.mse_loss(X, X.double())  # two types
        functional.mse_loss(X, X)
        functional.mse_loss(X.as_subclass(Tagged), X)
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
    target = torch.zeros(4, 3, dtype=torch.int64)
    expected = functional.linear_cross_entropy(x, weight, target)
    with ft.install():
        torch.testing.assert_close(functional.linear_cross_entropy(x, weight, target), expected)
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
    barrier = Barrier(4)

    def work(k: int) -> None:
        barrier.wait()
        for _ in range(200):
            functional.mse_loss(X, X.double()) if k % 2 else functional.l1_loss(X, X)

    with ft.install():
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
        counts = ft.calls()
    assert counts["l1_loss"].torch == 0 and counts["mse_loss"].fastloss == 0
    assert 390 <= counts["l1_loss"].fastloss <= 400 and 390 <= counts["mse_loss"].torch <= 400


# Training


def curve(loss_of: Callable[[Tensor, Tensor], Tensor], target_of: Callable[[Tensor], Tensor]) -> list[float]:
    """The losses of a small network in training."""
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
