"""fastloss.torch.AdaptiveLogSoftmaxWithLoss, against torch's module."""

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import fastloss.torch as ft  # noqa: E402

CLASSES, WIDTH = 60, 16
MODULES: dict[str, dict[str, Any]] = {
    "three-clusters": {"cutoffs": [5, 20, 40], "div_value": 2.0},
    "bias": {"cutoffs": [10], "head_bias": True},
    "one-class-each": {"cutoffs": [1, 2, 59], "div_value": 1.5, "head_bias": True},
}


def pair(dtype: Any = torch.float64, **options: Any) -> tuple[Any, Any]:
    torch.manual_seed(3)
    theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(WIDTH, CLASSES, dtype=dtype, **options)
    ours = ft.AdaptiveLogSoftmaxWithLoss(WIDTH, CLASSES, dtype=dtype, **options)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def answer(
    module: Any, x: Any, y: Any, loss_of: Callable[[Any], Any] = lambda found: found.loss
) -> list[Any]:
    """Output, loss, and the gradients of input and weights (None for those of an empty cluster)."""
    x = x.clone().requires_grad_()
    found = module(x, y)
    gradients = torch.autograd.grad(loss_of(found), [x, *module.parameters()], allow_unused=True)
    return [*found, *gradients]


def assert_same(theirs: Any, ours: Any, *arguments: Any, **bounds: float) -> None:
    torch.testing.assert_close(answer(ours, *arguments), answer(theirs, *arguments), equal_nan=True, **bounds)


TARGETS = {
    "all": torch.arange(CLASSES),
    "head": torch.zeros(3, dtype=torch.int64),
    "last": torch.tensor([59, 59, 58]),
    "one-row": torch.tensor([30]),
    "no-batch": torch.tensor(45),
    "no-rows": torch.zeros(0, dtype=torch.int64),
}
LOSSES = {
    "loss": lambda found: found.loss,
    "output": lambda found: (found.output * torch.linspace(-1, 2, found.output.numel()).double()).sum(),
    "both": lambda found: 2 * found.loss + found.output.sum(),
}


@pytest.mark.parametrize("options", MODULES.values(), ids=MODULES)
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_answers_are_torchs(options: dict[str, Any], target: Any) -> None:
    torch.manual_seed(5)
    x = torch.randn(*target.shape, WIDTH, dtype=torch.float64)
    left = ft._functional.left_to_torch()
    for loss_of in LOSSES.values():
        assert_same(*pair(**options), x, target, loss_of)
    assert ft._functional.left_to_torch() == left


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_types(dtype: Any) -> None:
    """Ours computes half types in float32: it need not have torch's roundings."""
    theirs, ours = pair(dtype, **MODULES["three-clusters"])
    bounds = {"rtol": 1e-5, "atol": 1e-6} if dtype is torch.float32 else {"rtol": 0.03, "atol": 0.03}
    assert_same(theirs, ours, torch.randn(CLASSES, WIDTH).to(dtype), torch.arange(CLASSES), **bounds)


@pytest.mark.parametrize(
    ("shape", "target"),
    [
        ((3, WIDTH), torch.tensor([0, 60, 1])),
        ((3, WIDTH), torch.tensor([0, -1, 1])),
        ((WIDTH,), torch.tensor(60)),
        ((2, WIDTH), torch.tensor([0, 1, 2])),
        ((WIDTH,), torch.tensor([0])),
        ((1, WIDTH), torch.tensor(0)),
        ((2, 2, WIDTH), torch.zeros(2, 2, dtype=torch.int64)),
        ((3, WIDTH + 1), torch.tensor([0, 1, 2])),
        ((3, WIDTH), torch.tensor([0.0, 1.0, 2.0])),
    ],
)
def test_errors_are_torchs(shape: tuple[int, ...], target: Any) -> None:
    theirs, ours = pair(**MODULES["bias"])
    x = torch.zeros(shape, dtype=torch.float64)
    with pytest.raises(Exception) as expected:
        theirs(x, target)
    with pytest.raises(type(expected.value)) as found:
        ours(x, target)
    assert str(found.value) == str(expected.value)


def hooked(module: Any) -> None:
    module.head.register_forward_hook(lambda layer, given, found: 2 * found)


def replaced(module: Any) -> None:
    module.tail[0][1] = torch.nn.Sequential(module.tail[0][1], torch.nn.Tanh())


def scaled(module: Any) -> None:
    torch.nn.utils.parametrizations.weight_norm(module.tail[1][0])


@pytest.mark.parametrize("change", [hooked, replaced, scaled])
def test_changed_layers_are_left_to_torch(change: Callable[[Any], Any]) -> None:
    theirs, ours = pair(**MODULES["three-clusters"])
    change(theirs)
    change(ours)
    left = ft._functional.left_to_torch()
    assert_same(theirs, ours, torch.randn(CLASSES, WIDTH, dtype=torch.float64), torch.arange(CLASSES))
    assert ft._functional.left_to_torch() > left


def test_further_features_are_torchs() -> None:
    theirs, ours = pair(torch.float32, **MODULES["three-clusters"])
    x, y = torch.randn(CLASSES, WIDTH), torch.arange(CLASSES)
    assert torch.equal(ours.log_prob(x), theirs.log_prob(x))
    assert torch.equal(ours.predict(x), theirs.predict(x))
    torch.testing.assert_close(ours(x, y).output.exp(), ours.log_prob(x).exp().diagonal())
    for copied in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert torch.equal(copied(x, y).output, ours(x, y).output)
    assert inspect.signature(type(ours)) == inspect.signature(type(theirs))


def test_second_derivatives() -> None:
    def twice(module: Any) -> Any:
        x = torch.linspace(-1, 1, 4 * WIDTH, dtype=torch.float64).reshape(4, WIDTH).requires_grad_()
        (first,) = torch.autograd.grad(module(x, torch.tensor([0, 7, 25, 50])).loss, x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x)[0]

    theirs, ours = pair(**MODULES["three-clusters"])
    torch.testing.assert_close(twice(ours), twice(theirs))


def test_install_takes_the_module_over() -> None:
    theirs, ours = pair(**MODULES["three-clusters"])
    own = torch.nn.AdaptiveLogSoftmaxWithLoss.forward
    x, y = torch.randn(CLASSES, WIDTH, dtype=torch.float64), torch.arange(CLASSES)
    expected = theirs(x, y)
    with ft.install():
        assert "torch.nn.modules.adaptive.AdaptiveLogSoftmaxWithLoss.forward" in ft.installed()
        found = theirs(x, y)
        with pytest.raises(RuntimeError, match="Target values should be in"):
            theirs(x, y + 1)
        assert torch.equal(found.output, ours(x, y).output)
    assert ft.calls()["AdaptiveLogSoftmaxWithLoss"] == (1, 0)
    assert type(found) is type(expected)
    torch.testing.assert_close(found.output, expected.output)
    assert torch.nn.AdaptiveLogSoftmaxWithLoss.forward is own
