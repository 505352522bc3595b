"""`reduction="sum_and_count"` of tensors: the sum with autograd, and what a mean divides by without."""

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch_cases as cases  # noqa: E402
from torch._dynamo import compiled_autograd  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch_cases import Call  # noqa: E402
from torch_tools import DTYPES, HALVES, equal  # noqa: E402

import fastloss.torch as ft  # noqa: E402
from fastloss.torch import _factors  # noqa: E402

Tensor = torch.Tensor
PAIR = "sum_and_count"
pytestmark = pytest.mark.filterwarnings(cases.ignore_kl_mean)
# Torch computes this one; the means of these are over those of the sequences.
OF_TORCH = ("smooth_l1_loss-no-beta",)
CALLS = [call for call in cases.CALLS if str(call) not in OF_TORCH]


@pytest.fixture(autouse=True)
def nothing_assumed() -> None:
    """Forget the incoming gradients of other tests: one that keeps changing costs the last bit."""
    _factors._last.clear()


def is_of_sequences(call: Call) -> bool:
    is_of_means = call.name == "grpo_loss" and call.options.get("loss_type", "grpo") in ("grpo", "sapo")
    return is_of_means or call.name == "ctc_loss_with_logits"


def is_uneven(call: Call) -> bool:
    """Whether a divergence and its hard targets have two counts."""
    target, share = call.options.get("hard_target"), call.options.get("hard_share", 1.0)
    ignored = call.options.get("ignore_index", -100)
    return target is not None and share < 1.0 and bool((target == ignored).any())


def gradients(total: Tensor, leaves: dict[str, Tensor], upstream: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(total, list(leaves.values()), upstream.to(total.dtype)))


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_pair(call: Call, dtype: torch.dtype) -> None:
    """The bits of the sum and of its gradients; over the count it is the mean."""
    call, upstream = call.cast(dtype), torch.tensor(-0.75)
    if is_uneven(call):
        with pytest.raises(ValueError, match="hard_target"):
            call.value(reduction=PAIR)
        return
    leaves = call.leaves()
    total, count = call.value(leaves, reduction=PAIR)
    assert total.requires_grad and not count.requires_grad
    assert total.shape == count.shape == ()
    assert count.dtype == (torch.float32 if dtype in HALVES else dtype)
    with torch.no_grad():
        assert equal(call.value(reduction=PAIR), (total, count))
    mean = call.value(reduction="mean")
    assert mean.dtype == total.dtype
    bound = 4.0 * torch.finfo(dtype).eps + (1e-12 if dtype is torch.float64 else 2e-6)
    torch.testing.assert_close(
        (total / count).double(), mean.double(), rtol=bound, atol=bound, equal_nan=True
    )
    found = gradients(total, leaves, upstream)
    if not is_of_sequences(call):
        leaves = call.leaves()
        alone = call.value(leaves, reduction="sum")
        assert equal([total, *found], [alone, *gradients(alone, leaves, upstream)])


# All functions take the same way through the compiler.
@pytest.mark.parametrize("name", [n for n in cases.FIRST if n != "siglip_loss"][::5])
def test_compiled(name: str) -> None:
    """One graph, and the answers of eager mode."""
    call = cases.row_of(name).call().cast(torch.float32)

    def f(*tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        given = dict(zip(call.wants, tensors, strict=True))
        total, count = call.value(given, reduction=PAIR)
        return total / count, total.detach(), count

    answers = []
    for one in (f, torch.compile(f, fullgraph=True, backend="aot_eager")):
        leaves = list(call.leaves().values())
        mean, total, count = one(*leaves)
        answers.append([mean, total, count, *torch.autograd.grad(mean, leaves)])
    torch._dynamo.reset()
    torch.testing.assert_close(*answers)


def problem() -> tuple[Tensor, Tensor]:
    target = torch.tensor([0, 3, -100, 1, 5, -100, 2])
    return torch.randn(7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), target


def test_autograd_of_a_pair() -> None:
    """Second derivatives, a second backward, transforms and in-place gradients are those of the mean."""
    x, target = problem()
    x.requires_grad_()

    def of(x: Tensor, **options: Any) -> Tensor:
        total, count = ft.cross_entropy(x, target, reduction=PAIR, **options)
        mean: Tensor = total / count
        return mean

    ours, theirs = of(x), functional.cross_entropy(x, target)
    pairs = []
    for loss in (ours, theirs):
        (first,) = torch.autograd.grad(loss, x, create_graph=True)
        pairs.append([first, *torch.autograd.grad((first**2).sum(), x)])
    torch.testing.assert_close(*pairs)
    ours = of(x)
    kept = torch.autograd.grad(ours, x, retain_graph=True)[0].clone()
    assert equal([kept], torch.autograd.grad(ours, x))
    torch.testing.assert_close(torch.func.grad(of)(x.detach()), kept)
    batch = torch.stack([x.detach(), 2.0 * x.detach()])
    torch.testing.assert_close(torch.vmap(torch.func.grad(of))(batch)[0], kept)
    with compiled_autograd._enable(torch.compile(backend="aot_eager")):
        of(x).backward()
    torch.testing.assert_close(x.grad, kept)
    x.grad = None
    logits = x * 1.0
    of(logits, inplace=True).backward()
    torch.testing.assert_close(x.grad, kept)
    assert torch.equal(logits.detach()[2], torch.zeros(6, dtype=torch.float64))
    with pytest.raises(RuntimeError, match="does not require grad"):
        ft.cross_entropy(x, target, reduction=PAIR)[1].backward()


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_counts_of_half_types_are_exact(dtype: torch.dtype) -> None:
    x, target = torch.zeros(4099, 2, dtype=dtype), torch.zeros(4099, dtype=torch.int64)
    assert ft.cross_entropy(x, target, reduction=PAIR)[1].item() == 4099.0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, count = ft.cross_entropy(x, target, reduction=PAIR)
    assert total.dtype == count.dtype == torch.float32
    assert total.item() == pytest.approx(4099 * math.log(2.0))


def test_nothing_counts() -> None:
    x, target = problem()
    total, count = ft.cross_entropy(x.requires_grad_(), torch.full_like(target, -100), reduction=PAIR)
    assert total.item() == count.item() == 0.0
    assert not torch.autograd.grad(total, x)[0].any()


def test_weights_of_huber_loss_do_not_count() -> None:
    """As in torch, which divides by the number of elements."""
    x, _ = problem()
    weight = torch.rand_like(x)
    total, count = ft.huber_loss(x, x + 1.0, weight=weight, reduction=PAIR)
    assert count.item() == x.numel()
    torch.testing.assert_close(total / count, functional.huber_loss(x, x + 1.0, weight=weight))
    assert ft.mse_loss(x, x, weight=weight, reduction=PAIR)[1].item() == pytest.approx(weight.sum().item())


def test_modules_and_installed_functions() -> None:
    x, target = problem()
    expected = ft.cross_entropy(x, target, reduction=PAIR)
    assert equal(ft.CrossEntropyLoss(reduction=PAIR)(x, target), expected)
    chosen = torch.randn(4, 5)
    assert equal(ft.DPOLoss(reduction=PAIR)(*chosen), ft.dpo_loss(*chosen, reduction=PAIR))
    with ft.install():
        assert equal(functional.cross_entropy(x, target, reduction=PAIR), expected)
        assert equal(torch.nn.CrossEntropyLoss(reduction=PAIR)(x, target), expected)
        with pytest.raises(ValueError, match=r"mse_loss.*shapes match"):
            functional.mse_loss(x, x[0], reduction=PAIR)
        with pytest.raises(ValueError, match="sums_and_count"):
            functional.mse_loss(x, x, reduction="sums_and_count")
    with pytest.raises(ValueError, match="not a valid value for reduction"):
        functional.cross_entropy(x, target, reduction=PAIR)


def test_errors_are_ours() -> None:
    """What torch has to compute has no pair; other errors name the argument."""
    x, target = problem()
    for call in (
        lambda: ft.smooth_l1_loss(x, x, beta=0.0, reduction=PAIR),
        lambda: ft.mse_loss(x, x.float(), reduction=PAIR),
        lambda: ft.cross_entropy(x.to_sparse(), x, reduction=PAIR),
    ):
        with pytest.raises((ValueError, NotImplementedError), match=r"fastloss"):
            call()
    with pytest.raises(ValueError, match="target must not require a gradient"):
        ft.mse_loss(x, x.clone().requires_grad_(), reduction=PAIR)
    with pytest.raises(IndexError, match="target"):
        ft.cross_entropy(x, target + 6, reduction=PAIR)
