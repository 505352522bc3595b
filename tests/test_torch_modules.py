"""The modules of fastloss.torch: torch.nn's own classes with our functions, and those that torch lacks."""

import copy
import inspect
import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch_cases as cases  # noqa: E402
from torch import nn  # noqa: E402
from torch_cases import Call  # noqa: E402

import fastloss.torch as ft  # noqa: E402

Tensor = torch.Tensor
pytestmark = pytest.mark.filterwarnings(cases.ignore_kl_mean)

# Their forward methods, before anything was installed.
OF_TORCH = {
    "CrossEntropyLoss": "cross_entropy",
    "NLLLoss": "nll_loss",
    "BCELoss": "binary_cross_entropy",
    "BCEWithLogitsLoss": "binary_cross_entropy_with_logits",
    "MSELoss": "mse_loss",
    "L1Loss": "l1_loss",
    "SmoothL1Loss": "smooth_l1_loss",
    "HuberLoss": "huber_loss",
    "KLDivLoss": "kl_div",
    "PoissonNLLLoss": "poisson_nll_loss",
    "GaussianNLLLoss": "gaussian_nll_loss",
    "SoftMarginLoss": "soft_margin_loss",
    "MultiMarginLoss": "multi_margin_loss",
    "MultiLabelSoftMarginLoss": "multilabel_soft_margin_loss",
}
OWN = {
    "SigmoidFocalLoss": "sigmoid_focal_loss",
    "HingeLoss": "hinge_loss",
    "SquaredHingeLoss": "squared_hinge_loss",
    "LogCoshLoss": "log_cosh_loss",
    "QuantileLoss": "quantile_loss",
    "GammaNLLLoss": "gamma_nll_loss",
    "TweedieNLLLoss": "tweedie_nll_loss",
    "EpsilonInsensitiveLoss": "epsilon_insensitive_loss",
    "MeanSquaredLogLoss": "mean_squared_log_loss",
    "KLDivWithLogitsLoss": "kl_div_with_logits",
    "JSDivWithLogitsLoss": "js_div_with_logits",
    "TVDistanceWithLogitsLoss": "tv_distance_with_logits",
    "DPOLoss": "dpo_loss",
    "SimPOLoss": "simpo_loss",
    "CPOLoss": "cpo_loss",
    "ORPOLoss": "orpo_loss",
    "KTOLoss": "kto_loss",
    "RewardModelLoss": "reward_model_loss",
}
ALL = {**OF_TORCH, **OWN}


@dataclass(frozen=True)
class Setup:
    """A module: its class, how it is made, and a call of its function that is the same."""

    name: str
    options: dict[str, Any]
    call: Call
    label: str = ""

    def __str__(self) -> str:
        return f"{self.name}-{self.label}" if self.label else self.name

    def make(self, classes: Any = None) -> nn.Module:
        return getattr(classes or ft, self.name)(**self.options)

    def run(self, module: nn.Module, dtype: torch.dtype = torch.float64) -> cases.Result:
        """The loss, and the gradients."""
        call = self.call.cast(dtype)
        leaves = call.leaves()
        tensors = [v for k, v in {**call.arguments, **leaves}.items() if k not in self.options]
        loss = module(*tensors)
        loss.sum().backward()
        return cases.Result(loss.detach(), {n: x.grad for n, x in leaves.items()})


def setups_of_torch() -> list[Setup]:
    """Every set of options that the constructor takes, with every reduction."""
    found = []
    for name, function in OF_TORCH.items():
        parameters = inspect.signature(getattr(nn, name).__init__).parameters
        loss = next(x for x in cases.OF_TORCH if x.name == function)
        for call in loss.calls():
            more = {k: v for k, v in {**call.arguments, **call.options}.items() if k in parameters}
            for reduction in loss.reductions:
                found.append(Setup(name, {**more, "reduction": reduction}, call, f"{call.label}-{reduction}"))
    return found


OF_TORCH_SETUPS = setups_of_torch()
OF_EXTRAS = [
    Setup("CrossEntropyLoss", call.options, call, call.label)
    for call in (cases.EXTRAS[0].call(label) for label in ("z_loss", "softcap", "temperature"))
]


def setups_of_own() -> list[Setup]:
    found = []
    for name, function in OWN.items():
        loss = next(x for x in cases.OWN if x.name == function)
        for call in loss.calls():
            tensors = {k for k, v in call.options.items() if isinstance(v, Tensor) and k != "weight"}
            if tensors:  # arguments of forward
                continue
            for reduction in cases.REDUCTIONS:
                found.append(
                    Setup(name, {**call.options, "reduction": reduction}, call, f"{call.label}-{reduction}")
                )
    return found


OWN_SETUPS = setups_of_own()
FIRST_SETUPS = {s.name: s for s in reversed([*OF_TORCH_SETUPS, *OWN_SETUPS])}
over_first = pytest.mark.parametrize("setup", FIRST_SETUPS.values(), ids=str)


def test_setups_have_every_module() -> None:
    assert set(FIRST_SETUPS) == set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_classes(name: str) -> None:
    ours = getattr(ft, name)
    assert issubclass(ours, nn.Module) and ours.__name__ == name
    if name in OF_TORCH:
        assert issubclass(ours, getattr(nn, name)) and ours is not getattr(nn, name)


@pytest.mark.parametrize("name", [*OF_TORCH, "LinearCrossEntropyLoss"])
def test_constructors_are_torchs(name: str) -> None:
    ours, theirs = (inspect.signature(getattr(m, name)).parameters.values() for m in (ft, nn))
    described = [[(p.name, p.kind, p.default) for p in parameters] for parameters in (ours, theirs)]
    extra = described[0][len(described[1]) :]
    assert described[0][: len(described[1])] == described[1]
    keyword = inspect.Parameter.KEYWORD_ONLY
    if name == "CrossEntropyLoss":
        names = ("z_loss", 0.0), ("softcap", None), ("temperature", 1.0), ("inplace", False)
        assert sorted(extra, key=str) == sorted([(n, keyword, d) for n, d in names], key=str)
    else:
        assert all(kind is keyword for _, kind, _ in extra)
        assert name == "LinearCrossEntropyLoss" or not extra


@pytest.mark.parametrize("setup", OF_TORCH_SETUPS, ids=str)
def test_modules_are_torchs(setup: Setup) -> None:
    ours, theirs = setup.make(), setup.make(nn)
    assert isinstance(ours, type(theirs))
    expected, actual = setup.run(theirs), setup.run(ours)
    setup.call.check(actual, expected, torch.float64)
    assert repr(ours) == repr(theirs)
    assert set(ours.state_dict()) == set(theirs.state_dict())
    assert {n for n, _ in ours.named_buffers()} == {n for n, _ in theirs.named_buffers()}
    assert not list(ours.parameters())


def test_by_position() -> None:
    """As `nn.CrossEntropyLoss(weight, size_average, ignore_index)`."""
    weight, x, target = torch.rand(5) + 0.5, torch.randn(4, 5), torch.tensor([0, 3, 1, 3])
    for arguments in ((weight,), (weight, None, 3), (weight, None, 3, None, "sum", 0.1)):
        expected = nn.CrossEntropyLoss(*arguments)(x, target)
        torch.testing.assert_close(ft.CrossEntropyLoss(*arguments)(x, target), expected)
    torch.testing.assert_close(ft.HuberLoss("sum", 0.3)(x, x + 1.0), nn.HuberLoss("sum", 0.3)(x, x + 1.0))
    torch.testing.assert_close(
        ft.MultiMarginLoss(2, 0.5, weight)(x, target), nn.MultiMarginLoss(2, 0.5, weight)(x, target)
    )


@pytest.mark.parametrize("name", ["CrossEntropyLoss", "MSELoss", "BCEWithLogitsLoss"])
def test_modules_use_our_functions(name: str) -> None:
    """torch's own has another node in its graph."""
    setup = FIRST_SETUPS[name]
    call = setup.call
    x, target = call.arguments["input"].detach().requires_grad_(), call.arguments["target"]
    nodes = {m: type(setup.make(m)(x, target).grad_fn).__name__ for m in (ft, nn)}
    assert nodes[ft] != nodes[nn]


@pytest.mark.parametrize("setup", OF_EXTRAS, ids=str)
def test_extra_options(setup: Setup) -> None:
    setup.call.check(setup.run(setup.make()), setup.call.expected("mean"), torch.float64)


def test_inplace() -> None:
    x, target = torch.randn(4, 5, requires_grad=True), torch.tensor([0, 3, 1, 3])
    logits = x * 1.0
    where, arrived = logits.data_ptr(), []
    logits.grad_fn.register_prehook(lambda grads: arrived.append(grads[0].data_ptr()))
    ft.CrossEntropyLoss(inplace=True)(logits, target).backward()
    assert arrived == [where]


@pytest.mark.parametrize("reduction", cases.REDUCTIONS)
@pytest.mark.parametrize("bias", [False, True], ids=["no-bias", "bias"])
def test_linear_cross_entropy(bias: bool, reduction: str) -> None:
    options: dict[str, Any] = {
        "bias": bias, "reduction": reduction, "label_smoothing": 0.1, "ignore_index": 3,
        "weight": torch.rand(11, dtype=torch.float64) + 0.5, "dtype": torch.float64,
    }  # fmt: skip
    theirs, ours = nn.LinearCrossEntropyLoss(6, 11, **options), ft.LinearCrossEntropyLoss(6, 11, **options)
    assert isinstance(ours, nn.LinearCrossEntropyLoss)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in theirs.state_dict().items()
    }
    ours.load_state_dict(theirs.state_dict())
    assert repr(ours) == repr(theirs)
    x, target = torch.randn(8, 6, dtype=torch.float64), torch.tensor([0, 3, 10, 3, 1, 2, 4, 5])
    found = []
    for module in (theirs, ours):
        leaf = x.clone().requires_grad_()
        loss = module(leaf, target)
        loss.sum().backward()
        found.append([loss.detach(), leaf.grad, *(p.grad for p in module.parameters())])
    assert len(found[0]) == 3 + bias
    torch.testing.assert_close(found[1], found[0])


@pytest.mark.parametrize("setup", OWN_SETUPS, ids=str)
def test_modules_are_their_functions(setup: Setup) -> None:
    reduction = setup.options["reduction"]
    setup.call.check(setup.run(setup.make()), setup.call.expected(reduction), torch.float64)


@pytest.mark.parametrize("name", OWN)
def test_defaults_of_own_are_those_of_functions(name: str) -> None:
    """Without options a module is its function; and every option of the function is one of the module."""
    call = next(x for x in cases.OWN if x.name == OWN[name]).call()
    function = inspect.signature(getattr(ft, OWN[name])).parameters.values()
    options = {
        p.name: p.default for p in function if p.kind is p.KEYWORD_ONLY and p.name not in ("mask", "margin")
    }
    assert "reduction" in options
    for given in ({}, options):
        setup = Setup(name, given, call)
        assert torch.equal(setup.run(setup.make()).loss, call.value())
    with pytest.raises(TypeError):
        getattr(ft, name)(*options.values())


@pytest.mark.parametrize("name", ["KLDivWithLogitsLoss", "JSDivWithLogitsLoss", "TVDistanceWithLogitsLoss"])
def test_forward_takes_a_mask(name: str) -> None:
    call = next(x for x in cases.OWN if x.name == OWN[name]).call("mask")
    student, teacher = call.arguments.values()
    loss = getattr(ft, name)(reduction="sum")(student, teacher, mask=call.options["mask"])
    assert torch.equal(loss, call.value(reduction="sum"))
    assert not torch.equal(loss, Call(call.loss, "", call.arguments, {}).value(reduction="sum"))


@pytest.mark.parametrize("name", [n for n in OWN if n.startswith(("DPO", "KTO", "Sim", "CPO", "ORPO"))])
def test_forward_takes_tensors_by_name(name: str) -> None:
    call = next(x for x in cases.OWN if x.name == OWN[name]).call()
    assert torch.equal(getattr(ft, name)()(**call.arguments), call.value())


# What modules are for


def weighted() -> list[tuple[str, str, tuple[int, ...]]]:
    """Modules with weights, the name of the buffer, and its shape in the calls of the table."""
    found = [("BCEWithLogitsLoss", "pos_weight", cases.SHAPE)]
    for name, function in ALL.items():
        call = next(x for x in cases.LOSSES if x.name == function)
        if "weight" in inspect.signature(getattr(ft, name)).parameters:
            by_class = function in (
                "cross_entropy",
                "nll_loss",
                "multi_margin_loss",
                "multilabel_soft_margin_loss",
            )
            shape = tuple(call.call().arguments[call.wants[0]].shape)
            found.append((name, "weight", shape[1:2] if by_class else shape))
    return found


@pytest.mark.parametrize(("name", "buffer", "shape"), weighted())
def test_weights_are_buffers(name: str, buffer: str, shape: tuple[int, ...]) -> None:
    """They are saved, and they move with the module."""
    weight = torch.linspace(0.5, 2.0, 63)[: torch.Size(shape).numel()].view(shape)
    module = getattr(ft, name)(**{buffer: weight})
    assert [n for n, _ in module.named_buffers()] == [buffer] and not list(module.parameters())
    assert list(module.state_dict()) == [buffer]
    module.to(torch.float64)
    assert getattr(module, buffer).dtype == torch.float64
    setup = FIRST_SETUPS[name]
    call = Call(setup.call.loss, "", setup.call.arguments, {buffer: weight.double()})
    call.check(Setup(name, {}, call).run(module), call.expected("mean"), torch.float64)
    other = getattr(ft, name)(**{buffer: torch.ones(shape)})
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
def test_repr_and_training_mode(setup: Setup) -> None:
    module = setup.make()
    assert repr(module).startswith(f"{setup.name}(")
    before = setup.run(module).loss
    assert torch.equal(setup.run(module.eval()).loss, before)
    outer = nn.ModuleDict({"loss": module})
    assert setup.name in repr(outer) and outer["loss"] is module


@over_first
def test_half_types(setup: Setup) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        assert setup.run(setup.make(), dtype).loss.dtype == dtype


@pytest.mark.parametrize("name", OWN)
def test_bad_options(name: str) -> None:
    """When the module is made, or when it is called; never dropped in silence."""
    call = next(x for x in cases.OWN if x.name == OWN[name]).call()
    for options in ({"reduction": "average"}, {"no_such_option": 1.0}):
        with pytest.raises((ValueError, TypeError)):
            Setup(name, options, call).run(getattr(ft, name)(**options))


def test_hooks_are_called() -> None:
    module = ft.MSELoss()
    seen: list[Any] = []
    module.register_forward_pre_hook(lambda m, inputs: seen.append(len(inputs)))
    module.register_forward_hook(lambda m, inputs, output: seen.append(output.shape))
    module(torch.zeros(3), torch.ones(3))
    assert seen == [2, ()]
