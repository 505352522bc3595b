"""Train a causal language model of Hugging Face without its logits.

The model's own forward pass runs. Its output layer returns an object in place of the logits, which records
what the model does to them: factors and a tanh. The loss function takes its input, the weight and the record,
and makes the logits in chunks. Whatever else a model does raises an error, so it is not understood.
"""

from __future__ import annotations

import functools
import inspect
import math
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastloss._engine.arguments import flag
from fastloss.torch._bridge import FLOATING, HALF
from fastloss.torch._divided import divisor_of, linear_cross_entropy_over, mapped
from fastloss.torch._foreign import own_of
from fastloss.torch._transformers import CAUSAL, shifted

__all__ = ["without_logits"]

Model = TypeVar("Model", bound=nn.Module)
# The attribute of a model that says whether it trains without logits.
_MARK = "_fastloss_without_logits"
_NOT_MADE = (
    "logits were not computed: fastloss.torch.without_logits(model) goes from the hidden states straight to "
    "the loss while the model trains with labels; call the model without labels or in evaluation, or restore "
    "it by fastloss.torch.without_logits(model, undo=True)"
)


class _Map(NamedTuple):
    """What a model does to its logits: ``before * x``, or ``after * tanh(before * x)``."""

    before: float = 1.0
    after: float | None = None

    def times(self, factor: Any) -> _Map:
        if type(factor) not in (int, float) or not 0.0 < factor < math.inf:
            raise NotImplementedError(f"logits times {factor!r}")
        if self.after is None:
            return _Map(self.before * factor)
        return _Map(self.before, self.after * factor)

    def tanh(self) -> _Map:
        if self.after is not None:
            raise NotImplementedError("a tanh of the tanh of logits")
        return _Map(self.before, 1.0)

    def options(self) -> dict[str, Any]:
        """Return it as `logit_scale` and `softcap`: ``softcap * tanh(logit_scale * x / softcap)``."""
        return {
            "logit_scale": self.before * (1.0 if self.after is None else self.after),
            "softcap": self.after,
        }


# The input, the weight and the bias of an output layer.
_Layer = tuple[Tensor, Tensor, Tensor | None]


class _NoDtypeError(RuntimeError, AttributeError):
    """The use of a dtype that is not there. ``hasattr`` is False, as accelerate asks so under autocast."""


class _Pass:
    """One forward pass. Before and after it there is no layer, and the logits refuse every use."""

    def __init__(self) -> None:
        self.layer: _Layer | None = None
        self.has_loss = False


class _Logits:
    """The logits of an output layer, which have not been computed."""

    def __init__(self, of: _Pass, map: _Map) -> None:
        self._pass, self._map = of, map

    @property
    def map(self) -> _Map:
        """What the model has done to them."""
        self.layer()
        return self._map

    def layer(self) -> _Layer:
        """Return the input, the weight and the bias of the layer."""
        if self._pass.layer is None:
            raise RuntimeError(_NOT_MADE)
        return self._pass.layer

    def made(self) -> Tensor:
        """Compute the logits."""
        return mapped(functional.linear(*self.layer()), **self.map.options())

    def _with(self, map: _Map) -> _Logits:
        return _Logits(self._pass, map)

    def __mul__(self, factor: Any) -> _Logits:
        return self._with(self.map.times(factor))

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> _Logits:
        map = self.map
        if type(divisor) not in (int, float) or divisor == 0:
            raise NotImplementedError(f"logits divided by {divisor!r}")
        return self._with(map.times(1.0 / divisor))

    def tanh(self) -> _Logits:
        return self._with(self.map.tanh())

    def contiguous(self) -> _Logits:
        return self._with(self.map)

    def to(self, dtype: Any) -> _Logits:
        map = self.map
        if dtype not in FLOATING:
            raise NotImplementedError(f"logits.to({dtype!r})")
        return self._with(map)

    @property
    def device(self) -> torch.device:
        return self.layer()[0].device

    @property
    def shape(self) -> torch.Size:
        input, weight, _ = self.layer()
        return torch.Size((*input.shape[:-1], weight.shape[0]))

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        first, *others = args
        known: dict[Any, Callable[..., _Logits]] = {
            torch.tanh: cls.tanh,
            torch.mul: cls.__mul__,
            torch.div: cls.__truediv__,
        }
        if not isinstance(first, cls) or kwargs or func not in known:
            name = getattr(func, "__name__", func)
            given = next((one for one in (*args, *(kwargs or {}).values()) if isinstance(one, cls)), None)
            _refuse(given, f"torch.{name}")
        return known[func](first, *others)

    def __getattr__(self, name: str) -> torch.dtype:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "dtype":
            if self._pass.layer is None:
                raise _NoDtypeError(_NOT_MADE)
            return self._pass.layer[0].dtype
        _refuse(self, f"logits.{name}")

    def __repr__(self) -> str:
        return "<logits that were not computed (fastloss.torch.without_logits)>"


def _refuse(logits: _Logits | None, what: str) -> NoReturn:
    if logits is None or logits._pass.layer is None:
        raise RuntimeError(_NOT_MADE)
    raise NotImplementedError(what)


def _refusing(name: str) -> Callable[..., NoReturn]:
    def refused(self: _Logits, *_: Any) -> NoReturn:
        _refuse(self, f"logits.{name}")

    return refused


setattr(_Logits, "float", _Logits.contiguous)  # noqa: B010, as its name is that of a type
# Python looks these up in the class alone.
for _name in (
    "add",
    "radd",
    "sub",
    "rsub",
    "neg",
    "getitem",
    "len",
    "iter",
    "array",
    "matmul",
    "float",
    "int",
):
    setattr(_Logits, f"__{_name}__", _refusing(f"__{_name}__"))


def _loss_of(own: Callable[..., Tensor], of: _Pass) -> Callable[..., Tensor]:
    """Return the loss function of a model in a pass."""

    def loss(
        logits: Any,
        labels: Tensor,
        vocab_size: int,
        num_items_in_batch: Any = None,
        ignore_index: int = -100,
        shift_labels: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        divisor = divisor_of(num_items_in_batch)
        is_ours = isinstance(logits, _Logits) and logits.shape[-1] == vocab_size
        if not is_ours or (divisor is None and num_items_in_batch is not None):
            logits = logits.made() if isinstance(logits, _Logits) else logits
            return own(logits, labels, vocab_size, num_items_in_batch, ignore_index, shift_labels, **kwargs)
        of.has_loss = True
        input, weight, bias = logits.layer()
        return linear_cross_entropy_over(
            input.reshape(-1, input.shape[-1]), weight, bias, shifted(labels, shift_labels, ignore_index),
            divisor, ignore_index=ignore_index, **logits.map.options(),
        )  # fmt: skip

    return loss


@contextmanager
def _replaced(holder: nn.Module, name: str, value: Any) -> Iterator[None]:
    """Set an attribute of a module for a while."""
    contents, missing = vars(holder), object()
    before = contents.get(name, missing)
    contents[name] = value
    try:
        yield
    finally:
        if before is missing:
            del contents[name]
        else:
            contents[name] = before


@contextmanager
def _without(model: Any, head: nn.Linear) -> Iterator[_Pass]:
    """Let the output layer of a model return no logits, and its loss function take them."""
    of = _Pass()

    def forward(input: Tensor) -> _Logits:
        if of.layer is not None:
            raise NotImplementedError("an output layer that is used twice")
        of.layer = (input, head.weight, head.bias)
        return _Logits(of, _Map())

    loss = _loss_of(model.loss_function, of)
    try:
        with _replaced(head, "forward", forward), _replaced(model, "_loss_function", loss):
            yield of
    finally:
        of.layer = None


def _head_of(model: Any) -> nn.Linear | None:
    """Return the output layer of a model if it is a plain one on the processor, without hooks."""
    head: Any = model.get_output_embeddings()
    if type(head) is not nn.Linear or "forward" in vars(head) or not head.weight.is_cpu:
        return None
    return None if head._forward_hooks or head._forward_pre_hooks else head


def _has_known_loss(model: Any) -> bool:
    """Return whether the loss of a model is transformers' own for causal language models."""
    own = own_of(CAUSAL.find(CAUSAL.name))
    return own is not None and own_of(model.loss_function) is own


def _trains(model: Any, labels: Any, options: dict[str, Any]) -> bool:
    """Return whether a call is to go without logits."""
    return (
        labels is not None
        and model.training
        and vars(model).get(_MARK, False)
        and torch.is_grad_enabled()
        and not options.get("fused_lm_head")  # TRL's own way, which has no logits either
        and not torch.compiler.is_compiling()
        and _has_known_loss(model)
    )


def _forward_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the forward method of a model that trains without logits, given its own."""
    names = list(inspect.signature(function).parameters)
    place = names.index("labels") - 1 if "labels" in names else -1

    @functools.wraps(function)
    def forward(self: Any, *args: Any, **options: Any) -> Any:
        labels = args[place] if 0 <= place < len(args) else options.get("labels")
        head = _head_of(self) if _trains(self, labels, options) else None
        if head is None:
            return function(self, *args, **options)
        with _without(self, head):
            return function(self, *args, **options)

    forward.fastloss_replaces = function  # type: ignore[attr-defined]
    return forward


def _losses(model: Any, function: Callable[..., Any], head: nn.Linear) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the model's own loss of a few tokens, and that without logits, for each kind of mean."""
    rows = min(model.get_input_embeddings().weight.shape[0], head.weight.shape[0])
    ids = torch.arange(1, 11).view(2, 5) % rows
    labels = ids.clone()
    labels[0, 3] = -100
    for more in ({}, {"num_items_in_batch": torch.tensor(5)}):
        given = {"input_ids": ids, "labels": labels, **more}
        own = function(model, **given)[0]
        with _without(model, head) as of:
            ours = function(model, **given)[0]
        if not of.has_loss:
            raise NotImplementedError("its loss does not come from its output layer")
        yield own, ours


def _not_understood(model: Any, function: Callable[..., Any]) -> str:
    """Return why a model cannot train without logits, or an empty string; it is tried on a few tokens."""
    if not (hasattr(model, "get_output_embeddings") and hasattr(model, "loss_function")):
        return "it is no language model of transformers"
    if (head := _head_of(model)) is None:
        return "its output layer is no plain torch.nn.Linear on the processor"
    if CAUSAL.unknown() or not _has_known_loss(model):
        return f"its loss is not the known {CAUSAL.name} of transformers"
    states = {module: module.training for module in model.modules()}
    tolerance = 2e-2 if head.weight.dtype in HALF else 1e-5
    try:
        model.eval()
        with torch.no_grad(), torch.autocast("cpu", enabled=False), torch.random.fork_rng(devices=[]):
            for own, ours in _losses(model, function, head):
                if not abs(ours.item() - own.item()) <= tolerance * max(1.0, abs(own.item())):
                    return f"on a few tokens its loss is {own.item()}, and without logits {ours.item()}"
    except Exception as error:  # whatever a model may raise, it stays as it was
        return f"a trial on a few tokens failed: {type(error).__name__}: {error}"
    finally:
        for module, is_training in states.items():
            module.training = is_training
    return ""


def without_logits(model: Model, undo: bool = False) -> Model:
    r"""Let a causal language model of Hugging Face train without its logits.

    ``loss = linear_cross_entropy(hidden, head.weight, labels)`` where the model would make ``head(hidden)``

    In training, a call with labels goes from the hidden states straight to the loss. The logits are made in
    chunks, as by `linear_cross_entropy`, and only for tokens that count. Up to 262,144 are made at once.
    This covers tied and untied output
    layers with or without bias, factors and softcaps of the logits, ``num_items_in_batch``, ``shift_labels``,
    autocast, gradient checkpointing, accumulation, and adapters of PEFT that leave the output layer as it is.
    The output's ``logits`` raises an error when it is used. In evaluation, in generation, without labels, and
    where the model is compiled, the model is as before. So are calls of TRL with ``fused_lm_head=True``.

    The model's own forward pass runs, with an output layer and a loss function of this package. The function
    first tries the model on a few tokens: the loss must be equal. A model for which this fails, or whose
    output layer or loss is another, is left as it was, with a warning.

    Parameters
    ----------
    model : torch.nn.Module
        A causal language model of transformers, or a model of PEFT around it. It is changed.
    undo : bool, default False
        Restore the model instead.

    Returns
    -------
    torch.nn.Module
        The same model.

    Raises
    ------
    TypeError
        If `model` is no module, or `undo` no bool.

    Warns
    -----
    RuntimeWarning
        If the model is not understood.

    See Also
    --------
    linear_cross_entropy : the loss by itself.
    install : replace losses in a whole program.

    References
    ----------
    Wijmans et al., "Cut your losses in large-vocabulary language models", 2025.

    Examples
    --------
    With a model of transformers and its ``Trainer``::

        model = fastloss.torch.without_logits(AutoModelForCausalLM.from_pretrained(name))
        Trainer(model, arguments, train_dataset=data).train()
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    undo = flag("undo", undo)
    inner: Any = model
    inner = inner.get_base_model() if hasattr(model, "get_base_model") else model
    function = _unbound(inner.forward)
    if undo:
        vars(inner).pop(_MARK, None)
        if hasattr(function, "fastloss_replaces"):
            _restore(inner, function.fastloss_replaces)
    elif not vars(inner).get(_MARK, False):
        if reason := _not_understood(inner, function):
            warnings.warn(
                f"fastloss.torch.without_logits() leaves {type(inner).__name__} as it is: {reason}",
                RuntimeWarning,
                stacklevel=2,
            )
            return model
        inner.forward = types.MethodType(_forward_of(function), inner)
        vars(inner)[_MARK] = True
    return model


def _unbound(method: Any) -> Any:
    """Return the function of a method, or one that calls something else that is bound already."""

    def call(self: Any, *args: Any, **options: Any) -> Any:
        return method(*args, **options)

    return getattr(method, "__func__", None) or functools.wraps(method)(call)


def _restore(model: Any, function: Callable[..., Any]) -> None:
    """Give a model its own forward method again."""
    if function is getattr(type(model), "forward", None):
        del model.forward
    else:
        model.forward = types.MethodType(function, model)
