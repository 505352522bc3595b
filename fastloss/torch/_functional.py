"""Functions with torch's names, signatures and meaning, computed by the kernels of this package.

Unsupported calls (another device, mixed dtypes, shapes that broadcast, a target that requires a gradient ...)
go to torch's own function. Each function passes `evaluate` a call of torch's function for this.
"""

from __future__ import annotations

import math
import threading
import types
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

import torch
from torch import Tensor
from torch.nn import _reduction as _legacy
from torch.nn import functional as _current
from torch.overrides import handle_torch_function, has_torch_function

import fastloss
from fastloss._engine.options import DEFAULTS, MapOptions
from fastloss._engine.types import Array
from fastloss.torch._autograd import LOSSES, PAIR, Loss
from fastloss.torch._bridge import FLOATING, HALF, are_plain, autocast, is_dual, is_undisturbed, like
from fastloss.torch._documentation import as_torchs
from fastloss.torch._evaluate import evaluate
from fastloss.torch._plain import plain_cross_entropy

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cosine_embedding_loss",
    "cross_entropy",
    "ctc_loss",
    "gaussian_nll_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "linear_cross_entropy",
    "margin_ranking_loss",
    "mse_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]


class _Left(threading.local):
    """The number of calls that this thread has left to torch, which installed functions use to count them."""

    calls = 0


_left = _Left()


# torch.compile runs these functions once, when it traces a program, and not in its graph.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def left_to_torch() -> int:
    """Return the number of calls that this thread has left to torch."""
    return _left.calls


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def leave_to_torch() -> None:
    """Count a call that is left to torch."""
    _left.calls += 1


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _would_be_ours(name: str) -> bool:
    """Return whether a dynamo graph must call a copy of torch's function instead of the function itself.

    A graph looks up the function by name when it runs, and finds ours if that is installed. Ours then calls
    torch's, except under forward-mode differentiation, whose levels Python does not count when a graph enters
    them.
    """
    return is_dual() and hasattr(getattr(_current, name), "fastloss_replaces")


def _torchs_own(name: str) -> Callable[..., Any]:
    """Return a function that calls torch's original function `name`, even if ours is installed in its place.

    Tensor subclasses and modes that intercept functions receive the original function.
    """
    function = getattr(_current, name)
    function = getattr(function, "fastloss_replaces", function)
    body = types.FunctionType(function.__code__, function.__globals__, name, function.__defaults__)
    body.__kwdefaults__ = function.__kwdefaults__

    def call(*args: Any, **options: Any) -> Any:
        if options.get("reduction") == PAIR:
            raise ValueError(
                f"reduction={PAIR!r} is not torch's, which has to compute this {name}: fastloss takes CPU "
                "tensors of one floating dtype, whose shapes match"
            )
        leave_to_torch()
        tensors = [value for value in (*args, *options.values()) if isinstance(value, Tensor)]
        if has_torch_function(tensors):
            return handle_torch_function(function, tensors, *args, **options)
        return (body if _would_be_ours(name) else function)(*args, **options)

    return call


class _Torchs:
    """Torch's original functions, as attributes."""

    def __init__(self) -> None:
        vars(self).update({name: _torchs_own(name) for name in __all__})

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Callable[..., Tensor]: ...


torchs = _Torchs()
# Our functions, by the names of torch's functions.
OF_TORCH: dict[str, Callable[..., Tensor]] = {}


def take_over(name: str, function: Callable[..., Tensor]) -> None:
    """Register our function for a name of torch's."""
    OF_TORCH[name] = function
    vars(torchs).setdefault(name, _torchs_own(name))


def same_shape(input: Tensor, options: dict[str, Any]) -> Any:
    """Return the shape of an unreduced elementwise loss."""
    return input.shape


def row_shape(input: Tensor, options: dict[str, Any]) -> Any:
    """Return the shape of an unreduced loss over classes, without the class axis (by default the last)."""
    axis = options.get("axis", -1) % input.dim()
    return (*input.shape[:axis], *input.shape[axis + 1 :])


def declare(
    name: str,
    *tensors: str,
    shape: Any = same_shape,
    function: Callable[..., Any] | None = None,
    **fields: Any,
) -> Loss:
    """Register a function of arrays, by default the function of the package with this name."""
    loss = Loss(name, function or getattr(fastloss, name), tensors, shape, **fields)
    LOSSES[name] = loss
    return loss


def sum_over(function: Callable[..., Any], divisor: float, options: dict[str, Any]) -> Any:
    """Call a function of arrays for the sum of a loss, divided by a number other than 0.

    The kernel divides the gradient while it makes it.
    """
    if options.get("return_grad"):
        options["grad_output"] = options.get("grad_output", 1.0) / divisor
    result = function(**{**options, "reduction": "sum"})
    return (result[0] / divisor, result[1]) if options.get("return_grad") else result / divisor


def _huber_loss(input: Array, target: Array, weight: Array | None = None, **options: Any) -> Any:
    """Compute `fastloss.huber_loss`, but divide the weighted mean by the number of elements, like torch."""
    function: Callable[..., Any] = partial(fastloss.huber_loss, input, target, weight=weight)
    if weight is None or options["reduction"] not in ("mean", PAIR) or not input.size:
        return function(**options)
    if options["reduction"] == "mean":
        return sum_over(function, input.size, options)
    result = function(**{**options, "reduction": "sum"})
    if not options.get("return_grad"):
        return result, float(input.size)
    return (result[0], float(input.size)), result[1]


_CROSS_ENTROPY = declare("cross_entropy", "logits", "target", "weight", "sample_weight", shape=row_shape)
_NLL = declare("nll_loss", "log_probs", "target", "weight", "sample_weight", shape=row_shape)
_LINEAR = declare(
    "linear_cross_entropy",
    "input",
    "linear_weight",
    "target",
    "linear_bias",
    "weight",
    "sample_weight",
    shape=row_shape,
    gradients=(0, 1, 3),
    is_linear=True,
)
_BINARY = declare("binary_cross_entropy", "probs", "target", "weight")
_LOGISTIC = declare("binary_cross_entropy_with_logits", "logits", "target", "weight", "pos_weight")
_SQUARED = declare("mse_loss", "input", "target", "weight")
_ABSOLUTE = declare("l1_loss", "input", "target", "weight")
_SMOOTH = declare("smooth_l1_loss", "input", "target")
_HUBER = declare("huber_loss", "input", "target", "weight", function=_huber_loss)
_KL = declare("kl_div", "input", "target")
_POISSON = declare("poisson_nll_loss", "input", "target")
_GAUSSIAN = declare("gaussian_nll_loss", "input", "target", "var", gradients=(0, 2), is_autocast=False)
_SOFT_MARGIN = declare("soft_margin_loss", "scores", "target")
_MULTI_MARGIN = declare("multi_margin_loss", "scores", "target", "weight", shape=row_shape)
_MULTILABEL = declare(
    "multilabel_soft_margin_loss", "logits", "target", "weight", shape=row_shape, is_autocast=False
)
_LABELS = declare("multilabel_margin_loss", "scores", "target", shape=row_shape)
_RANKING = declare("margin_ranking_loss", "input1", "input2", "target", gradients=(0, 1))
_COSINE = declare("cosine_embedding_loss", "input1", "input2", "target", shape=row_shape, gradients=(0, 1))
_TRIPLE = ("anchor", "positive", "negative")
_TRIPLET = declare("triplet_margin_loss", *_TRIPLE, shape=row_shape, gradients=(0, 1, 2))
_WITH_DISTANCE = declare(
    "triplet_margin_with_distance_loss", *_TRIPLE, shape=row_shape, gradients=(0, 1, 2),
    function=fastloss.triplet_margin_loss, is_autocast=False,
)  # fmt: skip


def sample_shape(input: Tensor, options: dict[str, Any]) -> Any:
    """Return the shape of an unreduced loss of samples (T, N, C), or of one sample (T, C)."""
    return input.shape[1:2] if input.dim() == 3 else ()


_CTC = declare("ctc_loss", "log_probs", "targets", "input_lengths", "target_lengths", shape=sample_shape)


def reduction_of(reduction: str, size_average: bool | None, reduce: bool | None) -> str:
    """Return the reduction, also from torch's deprecated `size_average` and `reduce`."""
    if size_average is None and reduce is None:
        return reduction
    return _legacy.legacy_get_string(size_average, reduce)


def are_alike(input: Any, *others: Any) -> bool:
    """Return whether these are tensors of one supported dtype and one shape; further ones may be None."""
    return (
        isinstance(input, Tensor)
        and input.dtype in FLOATING
        and all(
            other is None
            or (isinstance(other, Tensor) and other.dtype is input.dtype and other.shape == input.shape)
            for other in others
        )
    )


def _spread(weight: Any, input: Any) -> Any:
    """Return a weight expanded to the shape of the input, or unchanged if it does not broadcast to it."""
    if isinstance(weight, Tensor) and isinstance(input, Tensor) and weight.shape != input.shape:
        lengths = zip(reversed(weight.shape), reversed(input.shape), strict=False)
        if weight.dim() <= input.dim() and all(one in (1, all_) for one, all_ in lengths):
            return weight.expand(input.shape)
    return weight


MAP_DEFAULTS = {name: DEFAULTS[name] for name in MapOptions.__optional_keys__}


def further(function: str, extras: Any) -> dict[str, Any]:
    """Return the options that torch lacks and that differ from their defaults."""
    for name in extras:
        if name not in MAP_DEFAULTS:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")
    return {name: value for name, value in extras.items() if value != MAP_DEFAULTS[name]}


def _is_positive(value: Any) -> bool:
    """Return whether this is a finite number greater than 0."""
    return type(value) in (int, float) and 0.0 < value < math.inf


def _class_axis(input: Any) -> int:
    return 1 if isinstance(input, Tensor) and input.dim() > 1 else 0


def _is_index(target: Any) -> bool:
    if not isinstance(target, Tensor) or target.dtype is torch.bool:
        return False
    return not (target.is_floating_point() or target.is_complex())


def has_classes(input: Any, target: Any, weight: Any) -> bool:
    """Return whether these are scores, class indices of their rows, and a valid weight or None."""
    if not (isinstance(input, Tensor) and input.dtype in FLOATING and input.dim() > 0 and _is_index(target)):
        return False
    axis = _class_axis(input)
    if torch.compiler.is_compiling() and target.shape != (*input.shape[:axis], *input.shape[axis + 1 :]):
        return False  # in eager mode our function checks the shape
    return weight is None or _is_weight(weight, input, axis)


def _is_weight(weight: Any, input: Tensor, axis: int) -> bool:
    # Autocast casts both to float32.
    return (
        isinstance(weight, Tensor)
        and weight.shape == input.shape[axis : axis + 1]
        and weight.dtype in FLOATING
        and (weight.dtype is input.dtype or torch.is_autocast_enabled("cpu"))
    )


@as_torchs
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    sample_weight: Tensor | None = None,
    inplace: bool = False,
    **extras: Unpack[MapOptions],
) -> Tensor:
    r"""Cross-entropy of logits, like ``torch.nn.functional.cross_entropy``.

    ``loss = sample_weight * weight[y] * (log(sum(exp(input))) - input[y])`` for a row with class ``y``

    .. math:: -s\, w_y \log \frac{e^{x_y}}{\sum_j e^{x_j}}

    The options that torch lacks are described in `fastloss.cross_entropy`.

    Raises
    ------
    RuntimeError
        With `inplace`, if `input` is a leaf that requires a gradient, or a view of one.
    TypeError, ValueError
        If an option that torch lacks is wrong, or is used in a call that only torch's function supports.

    See Also
    --------
    fastloss.cross_entropy : the function of arrays.

    References
    ----------
    ``torch.nn.functional.cross_entropy``.

    Examples
    --------
    >>> import torch
    >>> import fastloss.torch as ft
    >>> logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]], requires_grad=True)
    >>> loss = ft.cross_entropy(logits, torch.tensor([0, 2]))
    >>> loss.backward()
    >>> logits.grad[0]
    tensor([-0.1065,  0.0533,  0.0533])
    """
    reduction = reduction_of(reduction, size_average, reduce)
    is_smoothed = label_smoothing != 0.0
    is_plain = weight is None and sample_weight is None and not (is_smoothed or inplace or extras)
    how = (_CROSS_ENTROPY, torchs.cross_entropy, ignore_index, reduction, 1.0)
    if is_plain and (loss := plain_cross_entropy(input, target, how)) is not None:
        return loss
    axis = _class_axis(input)
    options: dict[str, Any] = {"axis": axis}
    # Pass only options that differ from the defaults: a call without options is faster.
    if ignore_index != -100:
        options["ignore_index"] = ignore_index
    if is_smoothed:
        options["label_smoothing"] = label_smoothing
    more = further("cross_entropy", extras)

    def own(
        input: Tensor, target: Tensor, weight: Tensor | None, _: Tensor | None, *, reduction: str = reduction
    ) -> Tensor:
        if _is_index(target):
            target = target.long()
        return torchs.cross_entropy(
            input, target, weight, ignore_index=ignore_index, reduction=reduction,
            label_smoothing=label_smoothing,
        )  # fmt: skip

    is_torchs = sample_weight is None and not more
    is_ours = has_classes(input, target, weight) or (
        are_alike(input, target) and (weight is None or _is_weight(weight, input, axis))
    )
    if is_torchs and not is_ours:
        return own(input, target, weight, None)
    return evaluate(
        _CROSS_ENTROPY, (input, target, weight, sample_weight), {**options, **more}, reduction,
        own if is_torchs else None, inplace=inplace,
    )  # fmt: skip


@as_torchs
def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    *,
    sample_weight: Tensor | None = None,
) -> Tensor:
    """A `sample_weight` multiplies the loss of a row and counts in the mean."""
    reduction = reduction_of(reduction, size_average, reduce)

    def own(
        input: Tensor, target: Tensor, weight: Tensor | None, _: Tensor | None, *, reduction: str = reduction
    ) -> Tensor:
        if _is_index(target):
            target = target.long()
        return torchs.nll_loss(input, target, weight, ignore_index=ignore_index, reduction=reduction)

    if sample_weight is None and not has_classes(input, target, weight):
        return own(input, target, weight, None)
    options = {"axis": _class_axis(input), "ignore_index": ignore_index}
    return evaluate(
        _NLL,
        (input, target, weight, sample_weight),
        options,
        reduction,
        own if sample_weight is None else None,
    )


@as_torchs
def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: Any = None,
    sample_weight: Tensor | None = None,
    memory_budget: int | None = None,
    **extras: Unpack[MapOptions],
) -> Tensor:
    """Large logits are never held all at once. `input` must have shape (D,) or (N, D). Torch computes the
    matrix products, on its threads.
    """
    more = further("linear_cross_entropy", extras)
    if memory_budget is not None:
        more["memory_budget"] = memory_budget
    is_torchs = sample_weight is None and not more

    def own(
        input: Tensor,
        linear_weight: Tensor,
        target: Tensor,
        linear_bias: Tensor | None,
        weight: Tensor | None,
        _: Tensor | None,
        *,
        reduction: str = reduction,
    ) -> Tensor:
        return torchs.linear_cross_entropy(
            input, linear_weight, target, linear_bias=linear_bias, weight=weight, reduction=reduction,
            ignore_index=ignore_index, label_smoothing=label_smoothing, options=options,
        )  # fmt: skip

    cast = (autocast(input), autocast(linear_weight), autocast(linear_bias))
    is_ours = (
        options is None
        and is_layer(*cast)
        and isinstance(target, Tensor)
        and (weight is None or _is_weight(weight, linear_weight, 0))
        and (
            (_is_index(target) and target.shape == input.shape[:-1])
            or (target.dtype is cast[0].dtype and target.shape == (*input.shape[:-1], linear_weight.shape[0]))
        )
    )
    if is_torchs and not is_ours:
        return own(input, linear_weight, target, linear_bias, weight, None)
    index = -100 if ignore_index is None else ignore_index
    is_bare = is_torchs and weight is None and _is_index(target) and has_few_logits(*cast, target)
    if is_bare and not _may_ignore(target, index):
        logits = _current.linear(*cast)
        return cross_entropy(
            logits, target, ignore_index=index, reduction=reduction, label_smoothing=label_smoothing
        )
    tensors = (*cast[:2], like(cast[0], target), cast[2], weight, sample_weight)
    said = {"ignore_index": index, "label_smoothing": label_smoothing}
    return evaluate(_LINEAR, tensors, {**said, **more}, reduction, own if is_torchs else None)


def _may_ignore(target: Tensor, ignore_index: Any) -> bool:
    """Return whether rows may be ignored: what they hold must not reach a product."""
    is_plain = type(ignore_index) is int and abs(ignore_index) < 2**62
    return not is_plain or bool(target.eq(ignore_index).any())


def is_layer(input: Any, linear_weight: Any, linear_bias: Any) -> bool:
    return (
        isinstance(input, Tensor)
        and isinstance(linear_weight, Tensor)
        and input.dtype in FLOATING
        and input.dim() in (1, 2)
        and linear_weight.dim() == 2
        and linear_weight.dtype is input.dtype
        and linear_weight.shape[1] == input.shape[-1]
        and (
            linear_bias is None
            or (linear_bias.dtype is input.dtype and linear_bias.shape == linear_weight.shape[:1])
        )
    )


# Up to this number, logits in memory take less time than chunks of them, whose checks and loops are Python's.
_FEW = 2**18


def has_few_logits(input: Tensor, linear_weight: Tensor, linear_bias: Tensor | None, target: Tensor) -> bool:
    """Return whether the logits of a layer may be made at once; those of half types would be rounded."""
    if torch.compiler.is_compiling() or not is_undisturbed() or input.dtype in HALF:
        return False
    if not are_plain((input, linear_weight, linear_bias, target)):
        return False
    return math.prod(input.shape[:-1]) * linear_weight.shape[0] <= _FEW


@as_torchs
def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    reduction = reduction_of(reduction, size_average, reduce)
    own = partial(torchs.binary_cross_entropy, reduction=reduction)
    spread = _spread(weight, input)
    # Torch raises an error for this loss under autocast.
    if not are_alike(input, target, spread) or torch.is_autocast_enabled("cpu"):
        return own(input, target, weight)
    return evaluate(_BINARY, (input, target, spread), {}, reduction, own)


@as_torchs
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    reduction = reduction_of(reduction, size_average, reduce)

    def own(
        input: Tensor,
        target: Tensor,
        weight: Tensor | None,
        pos_weight: Tensor | None,
        *,
        reduction: str = reduction,
    ) -> Tensor:
        return torchs.binary_cross_entropy_with_logits(
            input, target, weight, reduction=reduction, pos_weight=pos_weight
        )

    spread, pos_spread = _spread(weight, input), _spread(pos_weight, input)
    if not are_alike(input, target, spread, pos_spread):
        return own(input, target, weight, pos_weight)
    tensors = (input, target, spread, pos_spread)
    return evaluate(_LOGISTIC, tensors, {"check_domain": False}, reduction, own)


@as_torchs
def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """A weighted mean divides by the sum of the weights."""
    reduction = reduction_of(reduction, size_average, reduce)

    def own(input: Tensor, target: Tensor, weight: Tensor | None, *, reduction: str = reduction) -> Tensor:
        return torchs.mse_loss(input, target, reduction=reduction, weight=weight)

    if not are_alike(input, target, weight):
        return own(input, target, weight)
    return evaluate(_SQUARED, (input, target, weight), {}, reduction, own)


@as_torchs
def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """A weighted mean divides by the sum of the weights."""
    reduction = reduction_of(reduction, size_average, reduce)

    def own(input: Tensor, target: Tensor, weight: Tensor | None, *, reduction: str = reduction) -> Tensor:
        return torchs.l1_loss(input, target, reduction=reduction, weight=weight)

    if not are_alike(input, target, weight):
        return own(input, target, weight)
    return evaluate(_ABSOLUTE, (input, target, weight), {}, reduction, own)


@as_torchs
def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    reduction = reduction_of(reduction, size_average, reduce)
    own = partial(torchs.smooth_l1_loss, reduction=reduction, beta=beta)
    if not (are_alike(input, target) and _is_positive(beta)):
        return own(input, target)
    return evaluate(_SMOOTH, (input, target), {"beta": beta}, reduction, own)


@as_torchs
def huber_loss(
    input: Tensor,
    target: Tensor,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Tensor | None = None,
) -> Tensor:
    """The mean divides by the number of elements, weighted or not."""

    def own(input: Tensor, target: Tensor, weight: Tensor | None, *, reduction: str = reduction) -> Tensor:
        return torchs.huber_loss(input, target, reduction=reduction, delta=delta, weight=weight)

    if not (are_alike(input, target, weight) and _is_positive(delta)):
        return own(input, target, weight)
    return evaluate(_HUBER, (input, target, weight), {"delta": delta}, reduction, own)


@as_torchs
def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """Torch's warning that ``"mean"`` divides by the number of elements is not issued."""
    reduction = reduction_of(reduction, size_average, reduce)
    own = partial(torchs.kl_div, reduction=reduction, log_target=log_target)
    if not are_alike(input, target) or (reduction == "batchmean" and input.dim() == 0):
        return own(input, target)
    return evaluate(_KL, (input, target), {"log_target": log_target}, reduction, own)


@as_torchs
def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    reduction = reduction_of(reduction, size_average, reduce)
    own = partial(torchs.poisson_nll_loss, log_input=log_input, full=full, eps=eps, reduction=reduction)
    if not are_alike(input, target):
        return own(input, target)
    options = {"log_input": log_input, "full": full, "eps": eps, "check_domain": False}
    return evaluate(_POISSON, (input, target), options, reduction, own)


@as_torchs
def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """It has gradients for `input` and `var`."""

    def own(input: Tensor, target: Tensor, var: Tensor | None, *, reduction: str = reduction) -> Tensor:
        return torchs.gaussian_nll_loss(
            input, target, given if var is None else var, full=full, eps=eps, reduction=reduction
        )

    # A graph keeps the function above, so it must not refer to a tensor.
    given = None if isinstance(var, Tensor) else var
    options: dict[str, Any] = {"full": full, "eps": eps}
    if isinstance(var, float):
        options["var"] = var
    if not are_alike(input, target) or not ("var" in options or are_alike(input, var)):
        return own(input, target, var)  # type: ignore[arg-type]
    tensors = (input, target, var if isinstance(var, Tensor) else None)
    return evaluate(_GAUSSIAN, tensors, options, reduction, own)


@as_torchs
def soft_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    reduction = reduction_of(reduction, size_average, reduce)
    own = partial(torchs.soft_margin_loss, reduction=reduction)
    if not are_alike(input, target):
        return own(input, target)
    return evaluate(_SOFT_MARGIN, (input, target), {"check_domain": False}, reduction, own)


@as_torchs
def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    reduction = reduction_of(reduction, size_average, reduce)

    def own(input: Tensor, target: Tensor, weight: Tensor | None, *, reduction: str = reduction) -> Tensor:
        return torchs.multi_margin_loss(
            input, target.long() if _is_index(target) else target, p=p, margin=margin, weight=weight,
            reduction=reduction,
        )  # fmt: skip

    if not has_classes(input, target, weight) or input.dim() > 2:
        return own(input, target, weight)
    return evaluate(_MULTI_MARGIN, (input, target, weight), {"p": p, "margin": margin}, reduction, own)


@as_torchs
def multilabel_soft_margin_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    reduction = reduction_of(reduction, size_average, reduce)
    own = partial(torchs.multilabel_soft_margin_loss, reduction=reduction)
    is_ours = are_alike(input, target) and input.dim() > 0
    # Autocast does not cast this loss: a weight of another type decides the dtype of torch's result.
    if weight is not None and is_ours:
        is_ours = _is_weight(weight, input, input.dim() - 1) and weight.dtype is input.dtype
    if not is_ours:
        return own(input, target, weight)
    return evaluate(_MULTILABEL, (input, target, weight), {"check_domain": False}, reduction, own)


def _has_vectors(input: Any) -> bool:
    """Return whether this is a tensor of a supported dtype with vectors along its last axis."""
    return isinstance(input, Tensor) and input.dtype in FLOATING and input.dim() > 0 and input.shape[-1] > 0


@as_torchs
def multilabel_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """What is behind the first -1 of a row of `target` is not read, so that it may be anything."""
    reduction = reduction_of(reduction, size_average, reduce)

    def own(input: Tensor, target: Tensor, *, reduction: str = reduction) -> Tensor:
        return torchs.multilabel_margin_loss(
            input, target.long() if _is_index(target) else target, reduction=reduction
        )

    is_ours = _has_vectors(input) and input.dim() <= 2 and _is_index(target) and target.shape == input.shape
    return evaluate(_LABELS, (input, target), {}, reduction, own) if is_ours else own(input, target)


@as_torchs
def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """It has gradients for `input1` and `input2`."""
    reduction = reduction_of(reduction, size_average, reduce)
    own = partial(torchs.margin_ranking_loss, margin=margin, reduction=reduction)
    tensors = (input1, input2, target)
    if not are_alike(*tensors):
        return own(*tensors)
    return evaluate(_RANKING, tensors, {"margin": margin, "check_domain": False}, reduction, own)


@as_torchs
def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """It has gradients for `input1` and `input2`."""
    reduction = reduction_of(reduction, size_average, reduce)
    own = partial(torchs.cosine_embedding_loss, margin=margin, reduction=reduction)
    tensors = (input1, input2, target)
    is_ours = _has_vectors(input1) and input1.dim() <= 2 and are_alike(input1, input2)
    if not (
        is_ours
        and isinstance(target, Tensor)
        and target.shape == input1.shape[:-1]
        and (target.dtype in FLOATING or _is_index(target))
    ):
        return own(*tensors)
    return evaluate(_COSINE, tensors, {"margin": margin, "check_domain": False}, reduction, own)


def _is_norm(p: Any, eps: Any) -> bool:
    """Return whether these are the exponent and the shift of a norm that the kernel computes."""
    return type(p) in (int, float) and p > 0 and type(eps) in (int, float) and 0.0 <= eps < math.inf


@as_torchs
def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """It has gradients for all three."""
    reduction = reduction_of(reduction, size_average, reduce)
    tensors = (anchor, positive, negative)
    options: dict[str, Any] = {"margin": margin, "p": p, "eps": eps, "swap": swap}
    own = partial(torchs.triplet_margin_loss, **options, reduction=reduction)
    is_ours = _has_vectors(anchor) and are_alike(*tensors)
    if not (is_ours and _is_positive(margin) and _is_norm(p, eps)):
        return own(*tensors)
    return evaluate(_TRIPLET, tensors, {**options, "p": float(p)}, reduction, own)


def _norm_of(distance_function: Any) -> dict[str, Any] | None:
    """Return exponent and shift of torch's pairwise distance, or None for another distance."""
    if distance_function is None or distance_function is torch.pairwise_distance:
        return {"p": 2.0, "eps": 1e-6}
    if type(distance_function) is not torch.nn.PairwiseDistance or distance_function.keepdim:
        return None
    p, eps = distance_function.norm, distance_function.eps
    return {"p": float(p), "eps": eps} if _is_norm(p, eps) else None


@as_torchs
def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """It has gradients for all three. Torch's function is called for any other distance."""
    tensors = (anchor, positive, negative)
    own = partial(
        torchs.triplet_margin_with_distance_loss, distance_function=distance_function, margin=margin,
        swap=swap, reduction=reduction,
    )  # fmt: skip
    norm = _norm_of(distance_function)
    is_ours = norm is not None and _has_vectors(anchor) and are_alike(*tensors) and _is_positive(margin)
    if norm is None or not is_ours or torch.is_autocast_enabled("cpu"):
        return own(*tensors)
    return evaluate(_WITH_DISTANCE, tensors, {**norm, "margin": margin, "swap": swap}, reduction, own)


def _lengths(value: Any) -> Any:
    """Return the lengths of samples as a tensor; None if torch has to judge them."""
    if isinstance(value, Tensor):
        return value if _is_index(value) else None
    is_sequence = isinstance(value, (list, tuple)) and all(type(length) is int for length in value)
    return torch.tensor(value, dtype=torch.int64, device="cpu") if is_sequence else None


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Tensor | tuple[int, ...] | list[int],
    target_lengths: Tensor | tuple[int, ...] | list[int],
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    r"""Connectionist temporal classification, like ``torch.nn.functional.ctc_loss``.

    ``loss = -log(sum over all alignments of exp(sum over steps of log_probs[step, class of the alignment]))``

    .. math:: -\log \sum_{a \in A(y)} \prod_t p_t(a_t)

    The gradient is that with respect to `log_probs`, minus the posterior of each class. Torch's is that of a
    log-softmax before it; through one both are the same.

    Parameters
    ----------
    log_probs : Tensor with shape (T, N, C), or (T, C) for one sample
        Log-probabilities. Any strides; float16, bfloat16, float32 or float64.
    targets : Tensor of integers with shape (N, S), or (sum of target_lengths,)
        The labels of each sample, padded or joined.
    input_lengths, target_lengths : Tensor or tuple of integers with shape (N,)
        The numbers of steps and of labels of each sample.
    blank : int, default 0
        The class that stands for no label.
    reduction : {"mean", "sum", "none", "sum_and_count"}, default "mean"
        ``"mean"`` divides each loss by its target length, or by 1 if that is 0, and then by the number of
        samples. ``"sum_and_count"``, which torch lacks, returns the sum of these quotients and that number.
    zero_infinity : bool, default False
        Make infinite losses and their gradients 0.

    Returns
    -------
    Tensor
        The loss; with ``"none"`` one for each sample.

    Raises
    ------
    IndexError
        If a label is not a class.

    See Also
    --------
    fastloss.ctc_loss : the function of arrays.

    References
    ----------
    ``torch.nn.functional.ctc_loss``.

    Examples
    --------
    >>> import torch
    >>> import fastloss.torch as ft
    >>> log_probs = torch.zeros(3, 1, 4).log_softmax(2)
    >>> ft.ctc_loss(log_probs, torch.tensor([[1, 2]]), (3,), (2,), reduction="sum")
    tensor(2.5494)
    """

    def own(
        log_probs: Tensor, targets: Tensor, steps: Any, labels: Any, *, reduction: str = reduction
    ) -> Tensor:
        return torchs.ctc_loss(log_probs, targets, steps, labels, blank, reduction, zero_infinity)

    steps, labels = _lengths(input_lengths), _lengths(target_lengths)
    is_ours = (
        isinstance(log_probs, Tensor)
        and log_probs.dtype in FLOATING
        and log_probs.dim() in (2, 3)
        and log_probs.numel() > 0
        and _is_index(targets)
        and steps is not None
        and labels is not None
        and isinstance(input_lengths, Tensor) is isinstance(target_lengths, Tensor)
        and type(blank) is int
        and 0 <= blank < log_probs.shape[-1]
        and type(zero_infinity) is bool
    )
    if not is_ours:
        return own(log_probs, targets, input_lengths, target_lengths)
    options = {"blank": blank, "zero_infinity": zero_infinity}
    return evaluate(_CTC, (log_probs, targets, steps, labels), options, reduction, own)


for _name in __all__:
    take_over(_name, globals()[_name])
