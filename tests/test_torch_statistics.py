"""`token_statistics` and `linear_token_statistics` of tensors: values, two incoming gradients, refusals."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")

import fastloss.torch as ft  # noqa: E402
from fastloss.torch._statistics import TokenStatistics  # noqa: E402

NAMES = TokenStatistics._fields
BOUNDS = {"float64": 1e-12, "float32": 2e-6, "float16": 4e-3, "bfloat16": 3e-2}


def in_torch(logits: Any, target: Any) -> TokenStatistics:
    """The formulas in float64, with autograd."""
    counts = target != -100
    wide, log_p = logits.double(), torch.log_softmax(logits.double(), -1)
    own = log_p.gather(-1, target.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    entropy = -(log_p.exp() * log_p).sum(-1)
    values = own, entropy, wide.logsumexp(-1), (2.0 * log_p).logsumexp(-1), wide.mean(-1)
    top = counts & (logits.argmax(-1) == target)
    return TokenStatistics(*(torch.where(counts, v, 0.0) for v in values), top)  # type: ignore[call-arg]


def tensors(dtype: Any, classes: int = 300) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 7, classes, generator=generator, dtype=torch.float64).to(dtype)
    y = torch.randint(0, classes, (4, 7), generator=generator)
    y[0, 1], y[1] = -100, x[1].argmax(-1)
    return x.requires_grad_(), y


@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("dtype", BOUNDS)
def test_two_incoming_gradients(dtype: str, wanted: tuple[bool, bool]) -> None:
    x, y = tensors(getattr(torch, dtype))
    found, exact = ft.token_statistics(x, y, outputs=NAMES), in_torch(x, y)
    for name, mine, other in zip(NAMES, found, exact, strict=True):
        assert mine.dtype is (torch.bool if name == "is_top1" else x.dtype)
        assert mine.requires_grad == (name in NAMES[:2])
        torch.testing.assert_close(mine.double(), other.double(), rtol=BOUNDS[dtype], atol=BOUNDS[dtype])
    factors = torch.linspace(-1.0, 1.0, 28).view(4, 7), torch.linspace(2.0, 1.0, 28).view(4, 7)
    grads = []
    for some in (found, exact):
        total = sum((v.double() * f).sum() for v, f, take in zip(some, factors, wanted, strict=False) if take)
        grads += torch.autograd.grad(total, x, retain_graph=True)
    torch.testing.assert_close(grads[0], grads[1], rtol=BOUNDS[dtype], atol=BOUNDS[dtype])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("budget", [None, 4000])
def test_of_a_linear_layer(bias: bool, budget: int | None) -> None:
    generator = torch.Generator().manual_seed(0)
    w, b = (torch.randn(*s, generator=generator).requires_grad_() for s in ((300, 16), (300,)))
    h = torch.randn(4, 7, 16, generator=generator).requires_grad_()
    _, y = tensors(torch.float32)
    leaves = [h, w, *[b] * bias]
    options: dict[str, Any] = {"linear_bias": b if bias else None, "memory_budget": budget}
    found = ft.linear_token_statistics(h, w, y, outputs=NAMES, **options)
    exact = in_torch(h @ w.T + (b if bias else 0.0), y)
    grads = []
    for some in (found, exact):
        for mine, other in zip(some, exact, strict=True):
            torch.testing.assert_close(mine.double(), other.double(), rtol=2e-5, atol=2e-5)
        total = some.log_probs.double().mean() - 0.1 * some.entropy.double().sum()
        grads.append(torch.autograd.grad(total, leaves))
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-5)
    (alone,) = torch.autograd.grad(ft.linear_token_statistics(h.detach(), w, y).entropy.sum(), [w])
    assert alone.shape == w.shape


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_a_compiled_program_runs_it_eagerly() -> None:
    x, y = tensors(torch.float32)

    def total(logits: Any) -> Any:
        found = ft.token_statistics(2.0 * logits, y)
        return (found.log_probs + found.entropy).sum() * 3.0

    expected = torch.autograd.grad(total(x), x)
    found = torch.autograd.grad(torch.compile(total, backend="eager")(x), x)
    torch.testing.assert_close(found, expected)
    torch.compiler.reset()
    with pytest.raises(Exception, match="no operator"):
        torch.compile(total, backend="eager", fullgraph=True)(x)


def test_refusals() -> None:
    x, y = tensors(torch.float32)
    with pytest.raises(RuntimeError, match="create_graph"):
        torch.autograd.grad(ft.token_statistics(x, y).entropy.sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="only eagerly"):
        torch.func.vmap(ft.token_statistics)(x, y)
    with pytest.raises(TypeError, match="logits"):
        ft.token_statistics(y, y)
    with pytest.raises(ValueError, match="outputs"):
        ft.token_statistics(x, y, outputs=())
    with pytest.raises(TypeError, match="return_grad"):
        ft.token_statistics(x, y, return_grad=True)
    assert not ft.token_statistics(x, y, outputs=("logsumexp",)).logsumexp.requires_grad
    with torch.no_grad():
        assert not ft.token_statistics(x, y).entropy.requires_grad
