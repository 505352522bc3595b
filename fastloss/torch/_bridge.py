"""Conversions between tensors and arrays without copies, and checks for tensors that the kernels can use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._device import DeviceContext

from fastloss import _kernels
from fastloss._engine import chunks, settings
from fastloss._engine.types import Array

__all__ = [
    "FLOATING",
    "HALF",
    "are_of_processor",
    "are_plain",
    "as_array",
    "as_tensor",
    "autocast",
    "for_product",
    "holding",
    "is_dual",
    "is_transformed",
    "is_undisturbed",
    "like",
    "on_torchs_threads",
]

FLOATING = frozenset((torch.float16, torch.bfloat16, torch.float32, torch.float64))
HALF = frozenset((torch.float16, torch.bfloat16))


def as_array(tensor: Tensor) -> Array:
    """Return an array that shares the memory of a tensor; bfloat16, which NumPy lacks, as its bits."""
    if tensor.requires_grad:
        tensor = tensor.detach()
    if tensor.dtype is torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(_kernels.BFLOAT16_BITS)
    array: Array = tensor.numpy()
    return array


def as_tensor(array: Array, dtype: torch.dtype) -> Tensor:
    """Return a tensor that shares the memory of an array, converted if `dtype` is another type."""
    if array.dtype == _kernels.BFLOAT16_BITS:
        tensor = torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    else:
        tensor = torch.from_numpy(array)
    return tensor if tensor.dtype is dtype else tensor.to(dtype)


def autocast(tensor: Any) -> Any:
    """Return an operand of a matrix product in the type that autocast, if enabled, gives it.

    Like torch's autocast, this casts all floating-point tensors except float64. Each tensor has a gradient of
    its own type. Any other value is returned unchanged.
    """
    if not (isinstance(tensor, Tensor) and torch.is_autocast_enabled("cpu")):
        return tensor
    is_cast = tensor.is_cpu and tensor.is_floating_point() and tensor.dtype is not torch.float64
    return tensor.to(torch.get_autocast_dtype("cpu")) if is_cast else tensor


def for_product(first: Tensor, *others: Tensor | None) -> list[Tensor | None]:
    """Return the tensors of a product in one type: that of autocast, or of the first tensor."""
    if torch.is_autocast_enabled("cpu"):
        return [autocast(first), *(autocast(one) for one in others)]
    return [first, *(None if one is None else one.to(first.dtype) for one in others)]


def like(input: Tensor, target: Any) -> Any:
    """Return target probabilities in the dtype of the input, and class indices unchanged."""
    is_other = isinstance(target, Tensor) and target.is_floating_point() and target.dtype is not input.dtype
    return target.to(input.dtype) if is_other and input.is_floating_point() else target


def are_of_processor(tensors: Sequence[Tensor | None]) -> bool:
    """Return whether these are strided CPU tensors."""
    return all(t is None or (t.is_cpu and t.layout is torch.strided) for t in tensors)


def are_plain(tensors: Sequence[Tensor | None]) -> bool:
    """Return whether these are strided CPU tensors of no subclass, with memory that can be read."""
    for tensor in tensors:
        if tensor is None:
            continue
        if type(tensor) is not Tensor and type(tensor) is not torch.nn.Parameter:
            return False
        if not tensor.is_cpu or tensor.layout is not torch.strided or tensor.is_neg():
            return False
        if tensor.data_ptr() == 0 and tensor.numel():
            return False
    return True


# A graph contains the answer at the time of tracing, and torch guards it.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def is_transformed() -> bool:
    """Return whether a transform of ``torch.func`` or forward-mode differentiation is active."""
    return torch._C._are_functorch_transforms_active() or is_dual()


def is_dual() -> bool:
    """Return whether forward-mode differentiation is active."""
    return forward_ad._current_level >= 0


def is_undisturbed() -> bool:
    """Return whether no transform, mode, tracing or forward-mode differentiation is active."""
    return not (
        torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack()
        or forward_ad._current_level >= 0  # is_dual(), without a call
        or torch._C._get_tracing_state() is not None
        or (torch._C._len_torch_function_stack() and _has_function_mode())
    )


def _has_function_mode() -> bool:
    """Return whether a torch function mode other than that of a default device is active."""
    modes: Any = torch.overrides._get_current_function_mode_stack
    return any(type(mode) is not DeviceContext for mode in modes())


def on_torchs_threads(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Call a function of the package with torch's number of threads."""
    token = settings.context_threads.set(torch.get_num_threads())
    try:
        return function(**arguments)
    finally:
        settings.context_threads.reset(token)


def _multiply(a: Array, b: Array, out: Array, add: bool) -> None:
    """Compute ``out = a @ b``, or ``out += a @ b`` with `add`, by torch and on its threads."""
    x, y, into = torch.from_numpy(a), torch.from_numpy(b), torch.from_numpy(out)
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        if add:
            into.addmm_(x, y)
        else:
            torch.mm(x, y, out=into)


@contextmanager
def holding(held: chunks.Held | None) -> Iterator[None]:
    """Hold the logits of a linear loss within this block for a later call, or use those that are held."""
    token = chunks.held.set(held)
    try:
        yield
    finally:
        chunks.held.reset(token)


def with_torchs_products(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Call a function of the package, with torch computing its matrix products."""
    token = chunks.multiplier.set(_multiply)
    try:
        return on_torchs_threads(function, arguments)
    finally:
        chunks.multiplier.reset(token)
