"""What the tests of `fastloss.torch` share: comparisons, tensors, transforms and programs."""

import re
import sys
import types
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed
from torch.autograd import forward_ad

Tensor = torch.Tensor
Of = Callable[[Tensor], Tensor]

DTYPES = {name: getattr(torch, name) for name in ("float32", "float64", "float16", "bfloat16")}
HALVES = (torch.float16, torch.bfloat16)
REDUCTIONS = ("mean", "sum", "none")
over_dtypes = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
over_halves = pytest.mark.parametrize("half", HALVES, ids=str)
over_reductions = pytest.mark.parametrize("reduction", REDUCTIONS)


@dataclass(frozen=True, eq=False)
class Result:
    """A loss, and the gradients of what wants one."""

    loss: Tensor
    gradients: dict[str, Tensor]

    @classmethod
    def of(cls, loss: Tensor, leaves: dict[str, Tensor]) -> "Result":
        """After backward."""
        return cls(loss.detach(), {name: leaf.grad for name, leaf in leaves.items()})

    def list(self) -> list[Tensor]:
        return [self.loss, *self.gradients.values()]


# Comparisons


def assert_near(
    actual: Tensor,
    expected: Tensor,
    relative: float,
    roundings: int = 1,
    title: str = "",
    by_row: int | None = None,
) -> None:
    """Within `relative` of the largest (of the row), and half types rounded beside it."""
    assert actual.shape == expected.shape, f"{title}: {actual.shape}, not {expected.shape}"
    if actual.numel() == 0:
        return
    wide, exact = actual.detach().double(), expected.double()
    size = exact.abs().nan_to_num(0.0, 0.0, 0.0)
    largest = size.amax() if by_row is None else size.amax(by_row, keepdim=True)
    bound = relative * largest + torch.finfo(torch.float32).tiny * (actual.dtype != torch.float64)
    if actual.dtype.itemsize == 2:
        info = torch.finfo(actual.dtype)
        half = 0.5 * info.eps * (size + bound).clamp(min=info.smallest_normal)
        bound = bound + roundings * half * (1.0 + 1e-6)
    good = ((wide - exact).abs() <= bound) | (wide == exact) | (wide.isnan() & exact.isnan())
    if not good.all():
        at = tuple(torch.nonzero(~good)[0].tolist())
        limit = bound.expand(good.shape)[at].item()
        raise AssertionError(
            f"{title}: {int((~good).sum())} of {good.numel()} out of bounds, first at {at}: "
            f"{wide[at].item()!r}, expected {exact[at].item()!r} within {limit:.3g}"
        )


def equal(ours: Iterable[Tensor], theirs: Iterable[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def outcome(f: Callable[[], Any]) -> Any:
    """What a call answers, or the exception that it raises (warnings are another matter)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return f()
        except Exception as error:
            return error


def assert_same(theirs: Any, ours: Any, title: Any = "", rtol: float = 1e-6, atol: float = 1e-7) -> None:
    """The same result, or an exception of the same type."""
    if isinstance(theirs, Exception) or isinstance(ours, Exception):
        assert type(ours) is type(theirs), f"{title}: {ours!r}, torch: {theirs!r}"
        return
    if isinstance(theirs, Result):
        assert ours.gradients.keys() == theirs.gradients.keys()
        theirs, ours = theirs.list(), ours.list()
    close = {"rtol": rtol, "atol": atol, "equal_nan": True, "check_stride": False}
    torch.testing.assert_close(ours, theirs, **close, msg=lambda text: f"{title}: {text}")


def assert_error_or(
    actual: Any, expected: Callable[[], Tensor], match: str = "", relative: float = 1e-11
) -> None:
    """RuntimeError, or the right answer."""
    if isinstance(actual, Exception):
        assert isinstance(actual, RuntimeError) and re.search(match, str(actual)), repr(actual)
    else:
        assert_near(actual, expected(), relative)


def upstream_for(shape: tuple[int, ...], seed: int = 5) -> Tensor:
    """An incoming gradient, exact in all types: for each element, zeros and negative ones among them."""
    rng = np.random.default_rng(seed)
    return torch.as_tensor(np.asarray(rng.choice([0.0, 0.25, -1.5, 1.0, 2.0, -0.5], shape)))


def run(f: Callable[..., Any], leaves: Iterable[Tensor], scale: float = 1.0) -> list[Tensor]:
    """The losses of fresh leaves, and the gradients."""
    fresh = [x.detach().clone().requires_grad_() for x in leaves]
    losses = f(*fresh)
    losses = losses if isinstance(losses, tuple) else (losses,)
    sum(scale * loss.sum() for loss in losses).backward()
    return [*(loss.detach() for loss in losses), *(x.grad for x in fresh)]


def gradients_of(loss: Tensor, leaves: Any, **options: Any) -> list[Tensor]:
    return list(torch.autograd.grad(loss.sum(), leaves, **options))


def copied(function: Callable[..., Tensor], *tensors: Any, **options: Any) -> Callable[[], Any]:
    """A call with copies of its tensors: the loss, and the gradient of each that requires one."""

    def copy(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.detach().clone().requires_grad_(value.requires_grad)

    def call() -> list[Tensor]:
        given, named = [copy(t) for t in tensors], {k: copy(v) for k, v in options.items()}
        loss = function(*given, **named)
        if loss.requires_grad:
            loss.sum().backward()
        grads = [t.grad for t in (*given, *named.values()) if isinstance(t, Tensor) and t.is_leaf]
        # A loss of NaN has any gradient.
        return [loss.detach(), *(g for g in grads if g is not None and not loss.isnan().any())]

    return call


# Tensors


class Tagged(Tensor):
    """A subclass that does nothing."""


class Counting(Tensor):
    """A subclass that keeps the functions called with it."""

    called: list[Any] = []  # noqa: RUF012

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.called.append(func)
        return super().__torch_function__(func, types, args, kwargs or {})


def layouts(x: Tensor) -> dict[str, Tensor]:
    """The same values in other places."""
    wide = torch.zeros([2 * n for n in x.shape], dtype=x.dtype)
    strided = wide[tuple(slice(1, None, 2) for _ in x.shape)]
    strided.copy_(x)
    last_first = x.movedim(-1, 0).contiguous().movedim(0, -1) if x.ndim > 1 else x.clone()
    off = torch.zeros(x.numel() + 1, dtype=x.dtype)[1:].view(x.shape)
    off.copy_(x)
    return {"strided": strided, "transposed": last_first, "off": off}


def packing(copies: list[int]) -> AbstractContextManager[None]:
    """Everything that is saved is copied there and back."""

    def pack(x: Tensor) -> Tensor:
        copies.append(x.numel())
        return x.detach().clone()

    return torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x.clone())


# Transforms of torch.func, forward differentiation, and derivatives of derivatives


def sum_of(f: Of) -> Of:
    return lambda x: f(x).sum()


def two(x: Tensor) -> Tensor:
    return torch.stack([x, 0.5 * x])


def tangent_of(f: Of, x: Tensor) -> Tensor | None:
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(f(forward_ad.make_dual(x, torch.cos(x)))).tangent


def jvp(f: Of, x: Tensor) -> Tensor:
    return torch.func.jvp(f, (x,), (torch.cos(x),))[1]


def penalty(f: Of, x: Tensor) -> Tensor:
    """The gradient of a gradient's square."""
    x = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(f(x).square().sum(), x, create_graph=True)
    return torch.autograd.grad(grad.square().sum(), x)[0]


def hessian(f: Of, x: Tensor, **options: Any) -> Tensor:
    return torch.autograd.functional.hessian(lambda x: f(x).square().sum(), x, **options)


Transform = Callable[[Of], Callable[[Tensor], Any]]
REVERSE: dict[str, Transform] = {
    "grad": lambda f: torch.func.grad(sum_of(f)),
    "vjp": lambda f: lambda x: torch.func.vjp(sum_of(f), x)[1](x.new_ones(()))[0],
    "jacrev": torch.func.jacrev,
    "vmap": lambda f: lambda x: torch.func.vmap(f)(two(x)),
    "per-sample": lambda f: lambda x: torch.func.vmap(torch.func.grad(sum_of(f)))(two(x)),
}  # fmt: skip
FORWARD: dict[str, Transform] = {
    "jvp": lambda f: lambda x: jvp(f, x),
    "jacfwd": torch.func.jacfwd,
    "dual_level": lambda f: lambda x: tangent_of(f, x),
    "hessian": lambda f: torch.func.hessian(sum_of(f)),
    "jvp of vjp": lambda f: lambda x: jvp(lambda x: torch.func.vjp(sum_of(f), x)[0], x),
}  # fmt: skip
TWICE: dict[str, Transform] = {
    "penalty": lambda f: lambda x: penalty(f, x),
    "autograd's hessian": lambda f: lambda x: hessian(f, x),
    "its vectorized hessian": lambda f: lambda x: hessian(f, x, vectorize=True),
}
TRANSFORMS = {
    **REVERSE, **FORWARD, **TWICE,
    "grad_and_value": lambda f: torch.func.grad_and_value(sum_of(f)),
    "vectorized jacobian": lambda f: lambda x: torch.autograd.functional.jacobian(f, x, vectorize=True),
}  # fmt: skip


def by_autograd(label: str, f: Of, x: Tensor) -> Tensor:
    """What a transform of `REVERSE` should answer, by `torch.autograd.grad`, one by one."""
    if label in ("vmap", "per-sample"):
        each = f if label == "vmap" else lambda x: by_autograd("grad", f, x)
        return torch.stack([each(one) for one in two(x)])
    leaf = x.detach().clone().requires_grad_()
    value = f(leaf)
    upstreams = torch.eye(value.numel(), dtype=value.dtype).view(-1, *value.shape)
    rows = [torch.autograd.grad(value, leaf, one, retain_graph=True)[0] for one in upstreams]
    return torch.stack(rows).view(*value.shape, *x.shape) if label == "jacrev" else torch.stack(rows).sum(0)


def assert_batches_of_gradients(
    f: Callable[[], Tensor], leaves: list[Tensor], plain: Callable[[], Tensor] | None = None
) -> None:
    """``is_grads_batched=True``: each row is the gradient of its own incoming one, also by a plain call."""
    value, other = f(), (plain or f)()
    upstreams = torch.stack([torch.ones_like(value), torch.rand_like(value)])
    found = torch.autograd.grad(value, leaves, upstreams, is_grads_batched=True)
    for index, upstream in enumerate(upstreams):
        one = torch.autograd.grad(other, leaves, upstream, retain_graph=True)
        torch.testing.assert_close([x[index] for x in found], list(one))


# Programs


def make_selective_log_softmax() -> Callable[[Tensor, Tensor], Tensor]:
    """As TRL has it (not a name of this module, where it would be replaced, too)."""

    def selective_log_softmax(logits: Tensor, index: Tensor) -> Tensor:
        return torch.gather(logits.log_softmax(-1), dim=-1, index=index.unsqueeze(-1)).squeeze(-1)

    selective_log_softmax.__module__ = "trl.trainer.utils"
    return selective_log_softmax


def make_module(monkeypatch: Any, name: str, **names: Any) -> types.ModuleType:
    """A module that has imported functions under some names."""
    made = types.ModuleType(name)
    made.__dict__.update(names)
    monkeypatch.setitem(sys.modules, name, made)
    return made


@contextmanager
def processes(folder: Path | str, rank: int = 0, size: int = 1, seconds: float = 20.0) -> Iterator[None]:
    """A default group of processes over gloo, which meet in a file."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size,
        timeout=timedelta(seconds=seconds),
    )  # fmt: skip
    try:
        yield
    finally:
        distributed.destroy_process_group()
