"""The short ways of fastloss.torch: plain cross-entropies, and linear losses of few logits."""

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402
from torch_tools import equal, gradients_of  # noqa: E402

import fastloss.torch as ft  # noqa: E402
from fastloss.torch import _divided, _evaluate, _functional  # noqa: E402

Tensor = torch.Tensor
LOGITS = torch.randn(6, 70, generator=torch.Generator().manual_seed(0))
TARGET = torch.tensor([3, 0, 69, -100, 5, 5])
over_wide = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def node_of(loss: Tensor) -> str:
    return type(loss.grad_fn).__name__


def in_general(x: Tensor, target: Tensor, reduction: str, ignore_index: int) -> Tensor:
    options = {"axis": 1 if x.dim() > 1 else 0, "ignore_index": ignore_index}
    return _evaluate.evaluate(_functional._CROSS_ENTROPY, (x, target, None, None), options, reduction)


@over_wide
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(("x", "target"), [(LOGITS, TARGET), (LOGITS[0], TARGET[0])], ids=["rows", "row"])
def test_bits_of_the_general_way(x: Tensor, target: Tensor, reduction: str, dtype: torch.dtype) -> None:
    for ignore_index in (-100, 5):
        target = target.where(target >= 0, ignore_index)
        options: dict[str, Any] = {"reduction": reduction, "ignore_index": ignore_index}
        results = []
        for function in (ft.cross_entropy, in_general):
            leaf = x.to(dtype, copy=True).requires_grad_()
            loss = function(leaf, target, **options)
            results.append([loss, *gradients_of(loss, [leaf])])
            assert all(one.dtype is dtype for one in results[-1])
        short, general = results
        assert node_of(short[0]) == "_PlainBackward"
        assert torch.equal(ft.cross_entropy(x.to(dtype), target, **options), short[0])
        assert equal(short, general)


def _with(**options: Any) -> Callable[[], Tensor]:
    return lambda: ft.cross_entropy(LOGITS.clone().requires_grad_(), TARGET, **options)


OTHER: dict[str, Callable[[], Tensor]] = {
    "weight": _with(weight=torch.ones(70)),
    "smoothing": _with(label_smoothing=0.1),
    "option": _with(z_loss=0.1),
    "samples": _with(sample_weight=torch.ones(6)),
    "unreduced": _with(reduction="none"),
    "pair": lambda: _with(reduction="sum_and_count")()[0],
    "half": lambda: ft.cross_entropy(LOGITS.bfloat16().requires_grad_(), TARGET),
    "strided": lambda: ft.cross_entropy(LOGITS.t().contiguous().t().requires_grad_(), TARGET),
    "axis": lambda: ft.cross_entropy(LOGITS.view(2, 70, 3).clone().requires_grad_(), TARGET.view(2, 3)),
    "int32": lambda: ft.cross_entropy(LOGITS.clone().requires_grad_(), TARGET.int()),
}


@pytest.mark.parametrize("name", OTHER)
def test_other_calls_go_the_general_way(name: str) -> None:
    loss = OTHER[name]()
    assert node_of(loss) != "_PlainBackward" and loss.grad_fn is not None


# Logits, target, ignore_index, and the error.
WRONG: dict[str, tuple[Tensor, Tensor, Any, Any]] = {
    "too-large": (LOGITS, TARGET.where(TARGET != 69, 70), -100, IndexError),
    "negative": (LOGITS, TARGET, -1, IndexError),
    "short": (LOGITS, TARGET[:5], -100, ValueError),
    "column": (LOGITS, TARGET.view(6, 1), -100, RuntimeError),
    "scalar": (torch.tensor(1.0), torch.tensor(0), -100, RuntimeError),
    "fraction": (LOGITS, TARGET, 1.5, (TypeError, RuntimeError)),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("requires", [True, False])
def test_errors_are_those_of_the_general_way(name: str, requires: bool) -> None:
    x, target, ignore_index, error = WRONG[name]
    with pytest.raises(error):
        ft.cross_entropy(x.clone().requires_grad_(requires), target, ignore_index=ignore_index)


@over_wide
def test_second_derivative(dtype: torch.dtype) -> None:
    """It is torch's, with the divisor of the call."""
    found = []
    for function in (
        lambda x: _divided.cross_entropy_over(x, TARGET, 7.0, ignore_index=-100),
        lambda x: torch.nn.functional.cross_entropy(x, TARGET, reduction="sum") / 7.0,
    ):
        leaf = LOGITS.to(dtype, copy=True).requires_grad_()
        (first,) = torch.autograd.grad(function(leaf), leaf, create_graph=True)
        found.append([first, *torch.autograd.grad((first**2).sum(), leaf)])
    torch.testing.assert_close(*found)


def test_kept_graph() -> None:
    """Each backward returns a gradient of its own."""
    leaf = LOGITS.clone().requires_grad_()
    loss = ft.cross_entropy(leaf, TARGET)
    first, second = (torch.autograd.grad(loss, leaf, retain_graph=True)[0] for _ in range(2))
    expected = first.clone()
    first.zero_()
    assert torch.equal(second, expected)
    assert torch.equal(*torch.autograd.grad(loss, leaf), expected)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


# Linear losses of few logits

HIDDEN, LAYER, BIAS = (
    torch.randn(*s, generator=torch.Generator().manual_seed(1)) for s in ((6, 8), (70, 8), (70,))
)
CLASSES = TARGET.where(TARGET >= 0, 7)


def of_layer(function: Callable[..., Tensor], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    leaves = [x.to(dtype, copy=True).requires_grad_() for x in (HIDDEN, LAYER, BIAS)]
    loss = function(*leaves)
    return [loss.detach(), *gradients_of(loss.sum(), leaves)]


LINEAR: dict[str, Callable[..., Tensor]] = {
    "plain": lambda x, w, b: ft.linear_cross_entropy(x, w, CLASSES, linear_bias=b),
    "no-bias": lambda x, w, b: ft.linear_cross_entropy(x, w, CLASSES) + 0 * b.sum(),
    "smoothing": lambda x, w, b: ft.linear_cross_entropy(x, w, CLASSES, linear_bias=b, label_smoothing=0.2),
    "unreduced": lambda x, w, b: ft.linear_cross_entropy(x, w, CLASSES, linear_bias=b, reduction="none"),
    "divided": lambda x, w, b: _divided.linear_cross_entropy_over(
        x, w, b, TARGET, 3.0, ignore_index=-100, logit_scale=0.5, softcap=4.0
    ),
}


@over_wide
@pytest.mark.parametrize("name", LINEAR)
def test_few_logits_and_chunks_agree(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    few = of_layer(LINEAR[name], dtype)
    monkeypatch.setattr(_functional, "_FEW", 0)
    torch.testing.assert_close(few, of_layer(LINEAR[name], dtype))


def test_ignored_rows_of_few_logits_are_not_read() -> None:
    leaves = [HIDDEN.clone().requires_grad_(), LAYER.clone().requires_grad_()]
    with torch.no_grad():
        leaves[0][3] = torch.nan
    gradients = gradients_of(ft.linear_cross_entropy(*leaves, TARGET), leaves)
    assert all(one.isfinite().all() for one in gradients) and not gradients[0][3].any()


def _loss(x: Tensor, target: Tensor) -> Tensor:
    return ft.linear_cross_entropy(x, LAYER, target)


SHIFTED = torch.stack([CLASSES, CLASSES.roll(1)])
TRANSFORMS: dict[str, Callable[[], Tensor]] = {
    "vmap": lambda: torch.vmap(_loss)(torch.stack([HIDDEN, -HIDDEN]), SHIFTED),
    "targets": lambda: torch.vmap(lambda target: _loss(HIDDEN, target))(SHIFTED),
    "grad": lambda: torch.func.grad(_loss)(HIDDEN, CLASSES),
    "jvp": lambda: torch.func.jvp(lambda x: _loss(x, CLASSES), (HIDDEN,), (HIDDEN,))[1],
    "make_fx": lambda: make_fx(_loss)(HIDDEN, CLASSES)(HIDDEN, CLASSES),
    "divided": lambda: torch.func.grad(
        lambda x: _divided.linear_cross_entropy_over(
            x, LAYER, None, CLASSES, 3.0, ignore_index=-100, logit_scale=1.0, softcap=None
        )
    )(HIDDEN),
}


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch's own forward derivative
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_of_few_logits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    few = TRANSFORMS[name]()
    monkeypatch.setattr(_functional, "_FEW", 0)
    torch.testing.assert_close(few, TRANSFORMS[name]())


@pytest.mark.parametrize("options", [{"ignore_index": "a"}, {"label_smoothing": None}], ids=str)
@pytest.mark.parametrize("function", [ft.cross_entropy, ft.linear_cross_entropy])
def test_types_of_options(function: Any, options: dict[str, Any]) -> None:
    given = (LOGITS, CLASSES) if function is ft.cross_entropy else (HIDDEN, LAYER, CLASSES)
    with pytest.raises(TypeError):
        function(*given, **options)


def test_no_class_is_ignored() -> None:
    """By an index that no integer of 64 bits has."""
    expected = ft.linear_cross_entropy(HIDDEN, LAYER, CLASSES)
    assert torch.equal(ft.linear_cross_entropy(HIDDEN, LAYER, CLASSES, ignore_index=-(2**70)), expected)


def test_target_elsewhere() -> None:
    with pytest.raises(RuntimeError, match="not on the expected device meta"):
        ft.linear_cross_entropy(HIDDEN, LAYER, CLASSES.to("meta"))


def test_empty_layers() -> None:
    """No features, or no rows."""
    loss = ft.linear_cross_entropy(torch.ones(2, 0), torch.ones(3, 0), torch.tensor([0, 1]))
    torch.testing.assert_close(loss, torch.tensor(3.0).log())
    assert ft.linear_cross_entropy(torch.ones(0, 2), torch.ones(3, 2), TARGET[:0]).isnan()
