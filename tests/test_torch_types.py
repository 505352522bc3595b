"""Losses of tensors of several types at once: each is read as what it is."""

import os
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.distributed as dist  # noqa: E402

import fastloss.torch as ft  # noqa: E402

DTYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64]
Make = Callable[[Any], tuple[Any, ...]]


def logits(g: Any) -> Any:
    return torch.randn(6, 5, generator=g, dtype=torch.float64)


def probabilities(g: Any) -> Any:
    return torch.softmax(logits(g), -1)


def labels(g: Any) -> Any:
    return (logits(g) > 0).double()


def logps(g: Any) -> Any:
    return -torch.rand(6, generator=g, dtype=torch.float64) - 0.1


def positive(g: Any) -> Any:
    return torch.rand(6, 5, generator=g, dtype=torch.float64) + 0.1


# What a loss takes, and how each tensor is made.
LOSSES: dict[str, tuple[Callable[..., Any], tuple[Callable[[Any], Any], ...]]] = {
    "sigmoid_focal_loss": (lambda x, t, w: ft.sigmoid_focal_loss(x, t, weight=w), (logits, labels, positive)),
    "hinge_loss": (lambda x, t, w: ft.hinge_loss(x, 2 * t - 1, weight=w), (logits, labels, positive)),
    "log_cosh_loss": (lambda x, t, w: ft.log_cosh_loss(x, t, weight=w), (logits, logits, positive)),
    "gamma_nll_loss": (lambda x, t, w: ft.gamma_nll_loss(x, t, weight=w), (logits, positive, positive)),
    "tweedie_nll_loss": (lambda x, t, w: ft.tweedie_nll_loss(x, t, weight=w), (logits, positive, positive)),
    "kl_div_with_logits": (ft.kl_div_with_logits, (logits, logits)),
    "js_div_with_logits": (ft.js_div_with_logits, (logits, logits)),
    "tv_distance_with_logits": (ft.tv_distance_with_logits, (logits, logits)),
    "masked": (lambda x, t, m: ft.kl_div_with_logits(x, t, mask=m[:, 0]), (logits, logits, labels)),
    "cross_entropy": (lambda x, q: ft.cross_entropy(x, q, z_loss=1e-4), (logits, probabilities)),
    "weighted": (
        lambda x, w, s: ft.cross_entropy(x, torch.arange(6) % 5, weight=w[0], sample_weight=s[:, 0]),
        (logits, positive, positive),
    ),
    "dpo_loss": (ft.dpo_loss, (logps, logps, logps, logps)),
    "simpo_loss": (ft.simpo_loss, (logps, logps)),
    "orpo_loss": (ft.orpo_loss, (logps, logps)),
    "kto_loss": (lambda x, r, t: ft.kto_loss(x, r, t[:, 0]), (logps, logps, labels)),
    "reward_model_loss": (lambda c, r, m: ft.reward_model_loss(c, r, margin=m), (logps, logps, logps)),
    "ppo_loss": (lambda x, o, a, m: ft.ppo_loss(x, o, a, mask=m[:, 0]), (logps, logps, logps, labels)),
    "value_loss": (ft.value_loss, (logps, logps, logps)),
    "kl_penalty": (ft.kl_penalty, (logps, logps)),
    "sequence_log_probs": (
        lambda x, m: ft.sequence_log_probs(x, torch.arange(6) % 5, mask=m[:, 0], reduction="sum"),
        (logits, labels),
    ),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("first", DTYPES, ids=str)
@pytest.mark.parametrize("name", LOSSES)
def test_each_tensor_of_its_own_type(name: str, first: Any, dtype: Any) -> None:
    loss, makers = LOSSES[name]
    for k in range(1, len(makers)):
        g = torch.Generator().manual_seed(k)
        tensors = [make(g).to(dtype if i == k else first) for i, make in enumerate(makers)]
        # What the first one's type makes of the others is documented: they are rounded to it.
        exact = loss(*(tensor.to(first).double() for tensor in tensors)).item()
        x = tensors[0].detach().requires_grad_()
        found = loss(x, *tensors[1:])
        found.backward()
        assert found.item() == pytest.approx(exact, rel=0.02 if first.itemsize == 2 else 0.01)
        other = tensors[0].double().requires_grad_()
        loss(other, *(tensor.to(first).double() for tensor in tensors[1:])).backward()
        largest = other.grad.abs().max().item()
        assert (x.grad.double() - other.grad).abs().max().item() <= 0.02 * largest + 1e-6


@pytest.mark.parametrize("integers", [torch.bool, torch.int64, torch.uint8], ids=str)
@pytest.mark.parametrize("first", DTYPES, ids=str)
def test_labels_of_integers(first: Any, integers: Any) -> None:
    g = torch.Generator().manual_seed(0)
    x, t = logits(g).to(first), labels(g)
    found = ft.sigmoid_focal_loss(x, t.to(integers)).item()
    assert found == pytest.approx(ft.sigmoid_focal_loss(x.double(), t).item(), rel=0.01)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("first", DTYPES, ids=str)
def test_probabilities_of_a_layer(first: Any, dtype: Any) -> None:
    g = torch.Generator().manual_seed(0)
    x, layer, q = logits(g).to(first), logits(g).to(first), probabilities(g)[:, :1].repeat(1, 6) * 0 + 1 / 6
    q[:, 0], q[:, 1] = 0.25, 1 / 12
    found = ft.linear_cross_entropy(x, layer, q.to(dtype), z_loss=1e-4)
    exact = ft.linear_cross_entropy(x.double(), layer.double(), q.to(dtype).to(first).double(), z_loss=1e-4)
    assert found.item() == pytest.approx(exact.item(), rel=0.01)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("first", DTYPES, ids=str)
def test_probabilities_of_a_slice(first: Any, dtype: Any, tmp_path: Any) -> None:
    g = torch.Generator().manual_seed(0)
    x, q = logits(g).to(first), probabilities(g)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        found = ft.vocab_parallel_cross_entropy(x, q.to(dtype))
        layer = torch.eye(5, dtype=torch.float64).to(first)
        linear = ft.vocab_parallel_linear_cross_entropy(x, layer, q.to(dtype))
        for name, bad in (("label_smoothing", 2.0), ("z_loss", -1.0), ("softcap", 0.0), ("temperature", 0.0)):
            with pytest.raises(ValueError, match=name):
                ft.vocab_parallel_cross_entropy(x, q.to(first), **{name: bad})
            with pytest.raises(ValueError, match=name):
                ft.vocab_parallel_linear_cross_entropy(x, layer, q.to(first), **{name: bad})
    finally:
        dist.destroy_process_group()
    exact = torch.nn.functional.cross_entropy(x.double(), q.to(dtype).to(first).double()).item()
    assert found.item() == pytest.approx(exact, rel=0.01)
    assert linear.item() == pytest.approx(exact, rel=0.01)
