"""The functions that torch lacks, with the names and options of the package."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Iterable
from typing import Any

import torch
from torch import Tensor

import fastloss
from fastloss.torch._autograd import Loss
from fastloss.torch._bridge import autocast
from fastloss.torch._documentation import of_tensors as documentation
from fastloss.torch._evaluate import evaluate
from fastloss.torch._functional import declare, row_shape, sample_shape

__all__ = [
    "aft_loss",
    "cox_ph_loss",
    "cpo_loss",
    "crps_loss",
    "ctc_loss_with_logits",
    "dpo_loss",
    "elastic_net_penalty",
    "entropy",
    "generalized_cross_entropy",
    "grpo_loss",
    "info_nce_loss",
    "js_div_with_logits",
    "kl_div_with_logits",
    "kl_penalty",
    "kto_loss",
    "l1_penalty",
    "l2_penalty",
    "lambda_rank_loss",
    "linear_js_div",
    "linear_kl_div",
    "linear_token_log_probs",
    "linear_tv_distance",
    "list_net_loss",
    "negative_binomial_nll_loss",
    "orpo_loss",
    "poly_loss",
    "ppo_loss",
    "reward_model_loss",
    "sequence_log_probs",
    "siglip_loss",
    "simpo_loss",
    "softmax_focal_loss",
    "sparsemax_loss",
    "student_t_nll_loss",
    "token_log_probs",
    "tv_distance_with_logits",
    "value_loss",
]

# Parameters that functions of tensors do not have: torch has other means for gradients, buffers and threads.
OTHERWISE = frozenset(
    (
        "return_grad",
        "return_hessian",
        "return_entropy",
        "grad_output",
        "out",
        "accumulate",
        "num_threads",
        "check_domain",
        "teacher_grad",
    )
)


def bound(
    name: str,
    positions: tuple[str, ...],
    names: Container[str],
    required: Iterable[str],
    args: tuple[Any, ...],
    options: dict[str, Any],
) -> dict[str, Any]:
    """Return the arguments of a call by name. `Signature.bind` would take 3 us longer, in a call of 12 us."""
    if len(args) > len(positions):
        raise TypeError(f"{name}() takes {len(positions)} positional arguments but {len(args)} were given")
    for position, value in zip(positions, args, strict=False):
        if position in options:
            raise TypeError(f"{name}() got multiple values for argument {position!r}")
        options[position] = value
    for option in options:
        if option not in names:
            raise TypeError(f"{name}() got an unexpected keyword argument {option!r}")
    for option in required:
        if option not in options:
            raise TypeError(f"{name}() missing a required argument: {option!r}")
    return options


def of_tensors(name: str, *tensors: str, **fields: Any) -> Callable[..., Tensor]:
    """Make a function of tensors from the function of arrays."""
    signature = inspect.signature(getattr(fastloss, name))
    nullable = frozenset(p.name for p in signature.parameters.values() if p.default is not None)
    loss = declare(name, *tensors, nullable=nullable, **fields)
    kept = [p for p in signature.parameters.values() if p.name not in OTHERWISE]
    positions = tuple(p.name for p in kept if p.kind is p.POSITIONAL_OR_KEYWORD)
    required = frozenset(p.name for p in kept if p.default is p.empty)
    names = frozenset(p.name for p in kept)
    default_reduction = signature.parameters["reduction"].default

    def function(*args: Any, reduction: str = default_reduction, **options: Any) -> Tensor:
        return _evaluate(loss, bound(name, positions, names, required, args, options), reduction)

    function.__name__ = function.__qualname__ = name
    function.__module__ = "fastloss.torch"
    wanted = [loss.tensors[k] for k in loss.gradients]
    function.__doc__ = documentation(name, names, loss.tensors[0], wanted)
    function.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[p.replace(annotation=p.empty) for p in kept], return_annotation=signature.empty
    )
    return function


def _are_floats(value: Any) -> bool:
    """Return whether this is a list of numbers, some of them floats."""
    numbers = isinstance(value, (list, tuple)) and all(isinstance(one, (int, float)) for one in value)
    return numbers and any(isinstance(one, float) for one in value)


def arranged(loss: Loss, arguments: dict[str, Any]) -> tuple[list[Tensor | None], dict[str, Any]]:
    """Return the tensors of a call, in the order of the loss, and its options."""
    tensors: list[Tensor | None] = [None] * len(loss.tensors)
    options = {}
    for name, value in arguments.items():
        if name in loss.listed and value is not None and not isinstance(value, Tensor):
            value = torch.as_tensor(value, device="cpu")
        if isinstance(value, Tensor) and name in loss.tensors:
            if name in loss.numbers and value.numel() != 1:
                raise TypeError(f"{name} must be a number, got a tensor of shape {tuple(value.shape)}")
            tensors[loss.tensors.index(name)] = value
        elif isinstance(value, Tensor):
            if value.requires_grad:
                raise ValueError(f"{name} must not require a gradient: {loss.name} has no gradient for it")
            options[name] = value.item() if value.numel() == 1 else value
        elif name in loss.tensors and _are_floats(value):  # an operator takes no lists
            tensors[loss.tensors.index(name)] = torch.tensor(value, dtype=torch.float64, device="cpu")
        elif value is not None or name in loss.nullable:
            options[name] = value
    for k in loss.gradients[:1]:
        if tensors[k] is None:
            raise TypeError(
                f"{loss.tensors[k]} must be a tensor, got {type(options.get(loss.tensors[k])).__name__}"
            )
    if loss.is_linear:
        for k in (*loss.gradients, *loss.operands):
            if loss.tensors[k] not in loss.numbers:
                tensors[k] = autocast(tensors[k])
    return tensors, options


def _evaluate(loss: Loss, arguments: dict[str, Any], reduction: str) -> Tensor:
    tensors, options = arranged(loss, arguments)
    return evaluate(loss, tensors, options, reduction)


def _sequence_shape(logits: Tensor, options: dict[str, Any]) -> Any:
    return logits.shape[:-2]


def _groups_shape(group_sizes: Tensor | None, options: dict[str, Any]) -> Any:
    return (1,) if group_sizes is None else group_sizes.shape


# Annotated, as type checkers see these names before the function that makes them.
_Function = Callable[..., Tensor]
_PAIR = ("policy_chosen_logps", "policy_rejected_logps")

l1_penalty: _Function = of_tensors("l1_penalty", "params")
l2_penalty: _Function = of_tensors("l2_penalty", "params")
elastic_net_penalty: _Function = of_tensors("elastic_net_penalty", "params")

_DIVERGENCE = {"shape": row_shape, "gradients": (0, 1), "second_wanted": "teacher_grad"}
kl_div_with_logits: _Function = of_tensors(
    "kl_div_with_logits", "student_logits", "teacher_logits", "mask", **_DIVERGENCE
)
js_div_with_logits: _Function = of_tensors(
    "js_div_with_logits", "student_logits", "teacher_logits", "mask", **_DIVERGENCE
)
tv_distance_with_logits: _Function = of_tensors(
    "tv_distance_with_logits", "student_logits", "teacher_logits", "mask", **_DIVERGENCE
)

token_log_probs: _Function = of_tensors("token_log_probs", "logits", "target", shape=row_shape)
softmax_focal_loss: _Function = of_tensors("softmax_focal_loss", "logits", "target", "alpha", shape=row_shape)
poly_loss: _Function = of_tensors("poly_loss", "logits", "target", "weight", shape=row_shape)
generalized_cross_entropy: _Function = of_tensors(
    "generalized_cross_entropy", "logits", "target", "weight", shape=row_shape
)
sparsemax_loss: _Function = of_tensors("sparsemax_loss", "logits", "target", shape=row_shape)
sequence_log_probs: _Function = of_tensors(
    "sequence_log_probs", "logits", "target", "mask", "lengths", shape=_sequence_shape
)
entropy: _Function = of_tensors("entropy", "logits", shape=row_shape)
linear_token_log_probs: _Function = of_tensors(
    "linear_token_log_probs",
    "input",
    "linear_weight",
    "target",
    "linear_bias",
    shape=row_shape,
    gradients=(0, 1, 3),
    is_linear=True,
)
_STUDENT_AND_TEACHER = (
    "student_input",
    "student_weight",
    "teacher_input",
    "teacher_weight",
    "student_bias",
    "teacher_bias",
    "mask",
    "hard_target",
)
_OF_TWO_LAYERS = {"shape": row_shape, "gradients": (0, 1, 4), "operands": (2, 3, 5), "is_linear": True}
linear_kl_div: _Function = of_tensors("linear_kl_div", *_STUDENT_AND_TEACHER, **_OF_TWO_LAYERS)
linear_js_div: _Function = of_tensors("linear_js_div", *_STUDENT_AND_TEACHER, **_OF_TWO_LAYERS)
linear_tv_distance: _Function = of_tensors("linear_tv_distance", *_STUDENT_AND_TEACHER, **_OF_TWO_LAYERS)

info_nce_loss: _Function = of_tensors(
    "info_nce_loss",
    "query",
    "key",
    "target",
    "temperature",
    shape=row_shape,
    gradients=(0, 1, 3),
    numbers=("temperature",),
    is_linear=True,
)
siglip_loss: _Function = of_tensors(
    "siglip_loss",
    "query",
    "key",
    "scale",
    "bias",
    shape=row_shape,
    gradients=(0, 1, 2, 3),
    numbers=("scale", "bias"),
    is_linear=True,
)

_LISTS = {"shape": _groups_shape, "shaped_by": 2, "listed": ("group_sizes", "label_gain")}
list_net_loss: _Function = of_tensors("list_net_loss", "scores", "relevance", "group_sizes", **_LISTS)
lambda_rank_loss: _Function = of_tensors(
    "lambda_rank_loss", "scores", "relevance", "group_sizes", "label_gain", **_LISTS
)

crps_loss: _Function = of_tensors(
    "crps_loss", "input", "target", "quantile", "quantile_weight", "sample_weight", shape=row_shape
)
aft_loss: _Function = of_tensors("aft_loss", "input", "lower", "upper", "weight")
cox_ph_loss: _Function = of_tensors("cox_ph_loss", "log_hazard", "time", "event", "weight", "strata")

negative_binomial_nll_loss: _Function = of_tensors(
    "negative_binomial_nll_loss", "input", "target", "dispersion", "weight", gradients=(0, 2)
)
student_t_nll_loss: _Function = of_tensors(
    "student_t_nll_loss", "input", "target", "scale", "df", "weight", gradients=(0, 2, 3)
)

ctc_loss_with_logits: _Function = of_tensors(
    "ctc_loss_with_logits", "logits", "targets", "input_lengths", "target_lengths", shape=sample_shape
)

dpo_loss: _Function = of_tensors(
    "dpo_loss", *_PAIR, "ref_chosen_logps", "ref_rejected_logps", gradients=(0, 1), is_small=True
)
cpo_loss: _Function = of_tensors("cpo_loss", *_PAIR, gradients=(0, 1), is_small=True)
simpo_loss: _Function = of_tensors("simpo_loss", *_PAIR, gradients=(0, 1), is_small=True)
orpo_loss: _Function = of_tensors("orpo_loss", *_PAIR, gradients=(0, 1), is_small=True)
kto_loss: _Function = of_tensors("kto_loss", "policy_logps", "ref_logps", "labels", is_small=True)
reward_model_loss: _Function = of_tensors(
    "reward_model_loss", "chosen_rewards", "rejected_rewards", "margin", gradients=(0, 1), is_small=True
)
ppo_loss: _Function = of_tensors("ppo_loss", "logps", "old_logps", "advantages", "mask", is_small=True)
value_loss: _Function = of_tensors("value_loss", "values", "old_values", "returns", "mask", is_small=True)
grpo_loss: _Function = of_tensors(
    "grpo_loss", "logps", "old_logps", "advantages", "mask", "ref_logps", is_small=True
)
kl_penalty: _Function = of_tensors("kl_penalty", "logps", "ref_logps", "mask", is_small=True)
