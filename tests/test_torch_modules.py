"""The modules of fastloss.torch: torch.nn's own classes with our functions, and those that torch lacks."""

import copy
import inspect
import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch_cases as cases  # noqa: E402
from torch import nn  # noqa: E402
from torch_cases import Call  # noqa: E402
from torch_tools import HALVES, REDUCTIONS, Result, gradients_of  # noqa: E402

import fastloss.torch as ft  # noqa: E402

Tensor = torch.Tensor
pytestmark = pytest.mark.filterwarnings(cases.ignore_kl_mean)

# The one with a layer inside has tests of its own.
FUNCTIONS = {name: function for name, function in cases.MODULES.items() if name != "LinearCrossEntropyLoss"}
OF_TORCH = [name for name in FUNCTIONS if hasattr(nn, name)]
OWN = [name for name in FUNCTIONS if not hasattr(nn, name)]


@dataclass(frozen=True)
class Setup:
    """A module: its class, how it is made, and a call of its function that is the same."""

    name: str
    options: dict[str, Any]
    call: Call
    label: str = ""

    def __str__(self) -> str:
        return f"{self.name}-{self.label}" if self.label else self.name

    def make(self, classes: Any = ft) -> nn.Module:
        return getattr(classes, self.name)(**self.options)

    def run(self, module: nn.Module, dtype: torch.dtype = torch.float64) -> Result:
        call = self.call.cast(dtype)
        leaves = call.leaves()
        tensors = [v for k, v in {**call.arguments, **leaves}.items() if k not in self.options]
        loss = module(*tensors)
        loss.sum().backward()
        return Result.of(loss, leaves)


def setups(name: str, loss: cases.Loss, labels: Any = None) -> list[Setup]:
    """Every set of options that the constructor takes, with every reduction."""
    parameters = inspect.signature(getattr(ft, name)).parameters
    found = []
    for call in loss.calls():
        given = call.options
        if name in OF_TORCH:
            given = {k: v for k, v in {**call.arguments, **call.options}.items() if k in parameters}
        elif any(isinstance(v, Tensor) and k != "weight" for k, v in given.items()):
            continue  # arguments of forward
        if not labels or call.label in labels:
            for reduction in loss.reductions:
                options = {**given, "reduction": reduction}
                found.append(Setup(name, options, call, f"{call.label}-{reduction}"))
    return found


SETUPS = {name: setups(name, cases.row_of(function)) for name, function in FUNCTIONS.items()}
FIRST_SETUPS = [several[0] for several in SETUPS.values()]
EXTRAS = setups("CrossEntropyLoss", cases.EXTRAS[0], ("z_loss", "softcap", "temperature", "logit_scale"))
over_first = pytest.mark.parametrize("setup", FIRST_SETUPS, ids=str)
over_own = pytest.mark.parametrize("name", OWN)


def first_call(name: str, label: str = "plain") -> Call:
    return cases.row_of(FUNCTIONS[name]).call(label)


@pytest.mark.parametrize("name", cases.MODULES)
def test_classes(name: str) -> None:
    ours = getattr(ft, name)
    assert issubclass(ours, nn.Module) and ours.__name__ == name
    if hasattr(nn, name):
        assert issubclass(ours, getattr(nn, name)) and ours is not getattr(nn, name)


@pytest.mark.parametrize("name", [*OF_TORCH, "LinearCrossEntropyLoss"])
def test_constructors_are_torchs(name: str) -> None:
    ours, theirs = (inspect.signature(getattr(m, name)).parameters.values() for m in (ft, nn))
    described = [[(p.name, p.kind, p.default) for p in parameters] for parameters in (ours, theirs)]
    extra = described[0][len(described[1]) :]
    assert described[0][: len(described[1])] == described[1]
    assert all(kind is inspect.Parameter.KEYWORD_ONLY for _, kind, _ in extra)
    if name == "CrossEntropyLoss":
        names = {"z_loss": 0.0, "softcap": None, "temperature": 1.0, "logit_scale": 1.0, "inplace": False}
        assert {n: default for n, _, default in extra} == names
    else:
        assert name == "LinearCrossEntropyLoss" or not extra


@pytest.mark.parametrize("setup", [s for name in OF_TORCH for s in SETUPS[name]], ids=str)
def test_modules_are_torchs(setup: Setup) -> None:
    ours, theirs = setup.make(), setup.make(nn)
    assert isinstance(ours, type(theirs))
    setup.call.check(setup.run(ours), setup.run(theirs), torch.float64)
    assert repr(ours) == repr(theirs)
    assert set(ours.state_dict()) == set(theirs.state_dict())
    assert {n for n, _ in ours.named_buffers()} == {n for n, _ in theirs.named_buffers()}
    assert not list(ours.parameters())


@pytest.mark.parametrize("setup", [*EXTRAS, *(s for name in OWN for s in SETUPS[name])], ids=str)
def test_modules_are_their_functions(setup: Setup) -> None:
    reduction = setup.options["reduction"]
    setup.call.check(setup.run(setup.make()), setup.call.expected(reduction), torch.float64)


def test_by_position() -> None:
    """As `nn.CrossEntropyLoss(weight, size_average, ignore_index)`."""
    weight, x, target = torch.rand(5) + 0.5, torch.randn(4, 5), torch.tensor([0, 3, 1, 3])
    for name, arguments, given in (
        ("CrossEntropyLoss", (weight,), target),
        ("CrossEntropyLoss", (weight, None, 3), target),
        ("CrossEntropyLoss", (weight, None, 3, None, "sum", 0.1), target),
        ("HuberLoss", ("sum", 0.3), x + 1.0),
        ("MultiMarginLoss", (2, 0.5, weight), target),
    ):
        ours, theirs = (getattr(m, name)(*arguments)(x, given) for m in (ft, nn))
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", OF_TORCH)
def test_modules_use_our_functions(name: str) -> None:
    """torch's own has another node in its graph."""
    call = first_call(name)
    leaves = {**call.arguments, **call.leaves()}
    nodes = [type(getattr(m, name)()(*leaves.values()).grad_fn).__name__ for m in (ft, nn)]
    assert nodes[0] != nodes[1] and nodes[0].startswith("_")


def test_inplace() -> None:
    x, target = torch.randn(4, 5, requires_grad=True), torch.tensor([0, 3, 1, 3])
    logits = x * 1.0
    where, arrived = logits.data_ptr(), []
    logits.grad_fn.register_prehook(lambda grads: arrived.append(grads[0].data_ptr()))
    ft.CrossEntropyLoss(inplace=True)(logits, target).backward()
    assert arrived == [where]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("bias", [False, True], ids=["no-bias", "bias"])
def test_linear_cross_entropy(bias: bool, reduction: str) -> None:
    options: dict[str, Any] = {
        "bias": bias, "reduction": reduction, "label_smoothing": 0.1, "ignore_index": 3,
        "weight": torch.rand(11, dtype=torch.float64) + 0.5, "dtype": torch.float64,
    }  # fmt: skip
    theirs, ours = (module.LinearCrossEntropyLoss(6, 11, **options) for module in (nn, ft))
    assert isinstance(ours, nn.LinearCrossEntropyLoss)
    ours.load_state_dict(theirs.state_dict())
    assert repr(ours) == repr(theirs)
    x = torch.randn(8, 6, dtype=torch.float64, requires_grad=True)
    found = []
    for module in (theirs, ours):
        loss = module(x, torch.tensor([0, 3, 10, 3, 1, 2, 4, 5]))
        found.append([loss.detach(), *gradients_of(loss, [x, *module.parameters()])])
    assert len(found[0]) == 3 + bias
    torch.testing.assert_close(found[1], found[0])


@over_own
def test_defaults_of_own_are_those_of_functions(name: str) -> None:
    """Without options, and with all of them; with tensors by position, and by name."""
    call = first_call(name)
    assert torch.equal(getattr(ft, name)()(**call.arguments), call.value())
    named = {n: p.default for n, p in call.parameters.items() if p.kind is p.KEYWORD_ONLY}
    options = {n: default for n, default in named.items() if n not in ("mask", "margin")}
    assert "reduction" in options
    for given in ({}, options):
        setup = Setup(name, given, call)
        assert torch.equal(setup.run(setup.make()).loss, call.value())
    with pytest.raises(TypeError):
        getattr(ft, name)(*options.values())


@pytest.mark.parametrize("name", ["KLDivWithLogitsLoss", "JSDivWithLogitsLoss", "TVDistanceWithLogitsLoss"])
def test_forward_takes_a_mask(name: str) -> None:
    call = first_call(name, "mask")
    loss = getattr(ft, name)(reduction="sum")(*call.arguments.values(), **call.options)
    assert torch.equal(loss, call.value(reduction="sum"))
    assert not torch.equal(loss, call.bare().value(reduction="sum"))


# What modules are for


def weighted() -> list[tuple[str, str]]:
    """Modules with weights, and the name of the buffer."""
    names = ("weight", "pos_weight")
    return [(m, n) for m in FUNCTIONS for n in names if n in inspect.signature(getattr(ft, m)).parameters]


@pytest.mark.parametrize(("name", "buffer"), weighted())
def test_weights_are_buffers(name: str, buffer: str) -> None:
    """They are saved, and they move with the module."""
    call = first_call(name)
    of_row = {k: v for options in cases.row_of(call.name).options.values() for k, v in options.items()}
    weight = cases.made({buffer: of_row[buffer]}, np.random.default_rng(0), call.arguments)[buffer].float()
    module = getattr(ft, name)(**{buffer: weight})
    assert [n for n, _ in module.named_buffers()] == [buffer] and not list(module.parameters())
    assert list(module.state_dict()) == [buffer]
    module.to(torch.float64)
    assert getattr(module, buffer).dtype == torch.float64
    wide = call.changed(**{buffer: weight.double()})
    call.check(Setup(name, {}, wide).run(module), wide.expected("mean"), torch.float64)
    other = getattr(ft, name)(**{buffer: torch.ones_like(weight)})
    other.load_state_dict(module.state_dict())
    assert torch.equal(getattr(other, buffer), weight)
    with torch.device("meta"):
        assert not getattr(module, buffer).is_meta
    assert getattr(module.to("meta"), buffer).is_meta


def saved_and_loaded(module: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize(
    "again",
    [copy.deepcopy, copy.copy, lambda m: pickle.loads(pickle.dumps(m)), saved_and_loaded],
    ids=["deepcopy", "copy", "pickle", "save"],
)
@over_first
def test_copies(setup: Setup, again: Callable[[nn.Module], nn.Module]) -> None:
    module = setup.make()
    other = again(module)
    assert type(other) is type(module) and other is not module and repr(other) == repr(module)
    assert torch.equal(setup.run(other).loss, setup.run(module).loss)


@over_first
def test_repr_training_mode_and_half_types(setup: Setup) -> None:
    module = setup.make()
    assert repr(module).startswith(f"{setup.name}(")
    before = setup.run(module).loss
    assert torch.equal(setup.run(module.eval()).loss, before)
    outer = nn.ModuleDict({"loss": module})
    assert setup.name in repr(outer) and outer["loss"] is module
    for dtype in HALVES:
        assert setup.run(setup.make(), dtype).loss.dtype == dtype


@over_own
def test_bad_options(name: str) -> None:
    """When the module is made, or when it is called; never dropped in silence."""
    for options in ({"reduction": "average"}, {"no_such_option": 1.0}):
        with pytest.raises((ValueError, TypeError)):
            Setup(name, options, first_call(name)).run(getattr(ft, name)(**options))


def test_hooks_are_called() -> None:
    module = ft.MSELoss()
    seen: list[Any] = []
    module.register_forward_pre_hook(lambda m, inputs: seen.append(len(inputs)))
    module.register_forward_hook(lambda m, inputs, output: seen.append(output.shape))
    module(torch.zeros(3), torch.ones(3))
    assert seen == [2, ()]
