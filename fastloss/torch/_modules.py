"""Modules of torch.nn that call our functions, and modules for the functions that torch lacks."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Unpack

from torch import Tensor, nn

from fastloss._engine.documentation import with_every_parameter
from fastloss._engine.options import MapOptions
from fastloss.torch import _beyond, _functional
from fastloss.torch._documentation import as_module, formula
from fastloss.torch._functional import MAP_DEFAULTS

__all__ = [
    "AFTLoss",
    "BCELoss",
    "BCEWithLogitsLoss",
    "CPOLoss",
    "CRPSLoss",
    "CTCLoss",
    "CTCWithLogitsLoss",
    "CosineEmbeddingLoss",
    "CoxPHLoss",
    "CrossEntropyLoss",
    "DPOLoss",
    "GaussianNLLLoss",
    "GeneralizedCrossEntropyLoss",
    "HuberLoss",
    "JSDivWithLogitsLoss",
    "KLDivLoss",
    "KLDivWithLogitsLoss",
    "KTOLoss",
    "L1Loss",
    "LambdaRankLoss",
    "LinearCrossEntropyLoss",
    "ListNetLoss",
    "MSELoss",
    "MarginRankingLoss",
    "MultiLabelMarginLoss",
    "MultiLabelSoftMarginLoss",
    "MultiMarginLoss",
    "NLLLoss",
    "NegativeBinomialNLLLoss",
    "ORPOLoss",
    "PoissonNLLLoss",
    "PolyLoss",
    "RewardModelLoss",
    "SimPOLoss",
    "SmoothL1Loss",
    "SoftMarginLoss",
    "SoftmaxFocalLoss",
    "SparsemaxLoss",
    "StudentTNLLLoss",
    "TVDistanceWithLogitsLoss",
    "TripletMarginLoss",
    "TripletMarginWithDistanceLoss",
]


@as_module("cross_entropy")
class CrossEntropyLoss(nn.CrossEntropyLoss):
    """``torch.nn.CrossEntropyLoss``, computed by `fastloss.torch.cross_entropy`, with its further options."""

    @with_every_parameter
    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        *,
        inplace: bool = False,
        **extras: Unpack[MapOptions],
    ) -> None:
        super().__init__(weight, size_average, ignore_index, reduce, reduction, label_smoothing)
        for name, value in {**MAP_DEFAULTS, **extras}.items():
            if name not in MAP_DEFAULTS:
                raise TypeError(f"CrossEntropyLoss() got an unexpected keyword argument {name!r}")
            setattr(self, name, value)
        self.inplace = inplace

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return _functional.cross_entropy(
            input, target, weight=self.weight, ignore_index=self.ignore_index, reduction=self.reduction,
            label_smoothing=self.label_smoothing, inplace=self.inplace,
            **{name: getattr(self, name) for name in MAP_DEFAULTS},
        )  # fmt: skip


@as_module("nll_loss")
class NLLLoss(nn.NLLLoss):
    """``torch.nn.NLLLoss``, computed by `fastloss.torch.nll_loss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return _functional.nll_loss(
            input, target, weight=self.weight, ignore_index=self.ignore_index, reduction=self.reduction
        )


@as_module("binary_cross_entropy")
class BCELoss(nn.BCELoss):
    """``torch.nn.BCELoss``, computed by `fastloss.torch.binary_cross_entropy`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return _functional.binary_cross_entropy(input, target, weight=self.weight, reduction=self.reduction)


@as_module("binary_cross_entropy_with_logits")
class BCEWithLogitsLoss(nn.BCEWithLogitsLoss):
    """``torch.nn.BCEWithLogitsLoss``, computed by `fastloss.torch.binary_cross_entropy_with_logits`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return _functional.binary_cross_entropy_with_logits(
            input, target, self.weight, pos_weight=self.pos_weight, reduction=self.reduction
        )


@as_module("mse_loss")
class MSELoss(nn.MSELoss):
    """``torch.nn.MSELoss``, computed by `fastloss.torch.mse_loss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return _functional.mse_loss(input, target, reduction=self.reduction)


@as_module("l1_loss")
class L1Loss(nn.L1Loss):
    """``torch.nn.L1Loss``, computed by `fastloss.torch.l1_loss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return _functional.l1_loss(input, target, reduction=self.reduction)


@as_module("smooth_l1_loss")
class SmoothL1Loss(nn.SmoothL1Loss):
    """``torch.nn.SmoothL1Loss``, computed by `fastloss.torch.smooth_l1_loss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return _functional.smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


@as_module("huber_loss")
class HuberLoss(nn.HuberLoss):
    """``torch.nn.HuberLoss``, computed by `fastloss.torch.huber_loss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return _functional.huber_loss(input, target, reduction=self.reduction, delta=self.delta)


@as_module("kl_div")
class KLDivLoss(nn.KLDivLoss):
    """``torch.nn.KLDivLoss``, computed by `fastloss.torch.kl_div`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return _functional.kl_div(input, target, reduction=self.reduction, log_target=self.log_target)


@as_module("poisson_nll_loss")
class PoissonNLLLoss(nn.PoissonNLLLoss):
    """``torch.nn.PoissonNLLLoss``, computed by `fastloss.torch.poisson_nll_loss`."""

    def forward(self, log_input: Tensor, target: Tensor) -> Tensor:
        return _functional.poisson_nll_loss(
            log_input, target, log_input=self.log_input, full=self.full, eps=self.eps,
            reduction=self.reduction,
        )  # fmt: skip


@as_module("gaussian_nll_loss")
class GaussianNLLLoss(nn.GaussianNLLLoss):
    """``torch.nn.GaussianNLLLoss``, computed by `fastloss.torch.gaussian_nll_loss`."""

    def forward(self, input: Tensor, target: Tensor, var: Tensor | float) -> Tensor:
        return _functional.gaussian_nll_loss(
            input, target, var, full=self.full, eps=self.eps, reduction=self.reduction
        )


@as_module("soft_margin_loss")
class SoftMarginLoss(nn.SoftMarginLoss):
    """``torch.nn.SoftMarginLoss``, computed by `fastloss.torch.soft_margin_loss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return _functional.soft_margin_loss(input, target, reduction=self.reduction)


@as_module("multi_margin_loss")
class MultiMarginLoss(nn.MultiMarginLoss):
    """``torch.nn.MultiMarginLoss``, computed by `fastloss.torch.multi_margin_loss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return _functional.multi_margin_loss(
            input, target, p=self.p, margin=self.margin, weight=self.weight, reduction=self.reduction
        )


@as_module("multilabel_soft_margin_loss")
class MultiLabelSoftMarginLoss(nn.MultiLabelSoftMarginLoss):
    """``torch.nn.MultiLabelSoftMarginLoss``, computed by `fastloss.torch.multilabel_soft_margin_loss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return _functional.multilabel_soft_margin_loss(
            input, target, weight=self.weight, reduction=self.reduction
        )


@as_module("multilabel_margin_loss")
class MultiLabelMarginLoss(nn.MultiLabelMarginLoss):
    """``torch.nn.MultiLabelMarginLoss``, computed by `fastloss.torch.multilabel_margin_loss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return _functional.multilabel_margin_loss(input, target, reduction=self.reduction)


@as_module("margin_ranking_loss")
class MarginRankingLoss(nn.MarginRankingLoss):
    """``torch.nn.MarginRankingLoss``, computed by `fastloss.torch.margin_ranking_loss`."""

    def forward(self, input1: Tensor, input2: Tensor, target: Tensor) -> Tensor:
        return _functional.margin_ranking_loss(
            input1, input2, target, margin=self.margin, reduction=self.reduction
        )


@as_module("cosine_embedding_loss")
class CosineEmbeddingLoss(nn.CosineEmbeddingLoss):
    """``torch.nn.CosineEmbeddingLoss``, computed by `fastloss.torch.cosine_embedding_loss`."""

    def forward(self, input1: Tensor, input2: Tensor, target: Tensor) -> Tensor:
        return _functional.cosine_embedding_loss(
            input1, input2, target, margin=self.margin, reduction=self.reduction
        )


@as_module("triplet_margin_loss")
class TripletMarginLoss(nn.TripletMarginLoss):
    """``torch.nn.TripletMarginLoss``, computed by `fastloss.torch.triplet_margin_loss`."""

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        return _functional.triplet_margin_loss(
            anchor, positive, negative, margin=self.margin, p=self.p, eps=self.eps, swap=self.swap,
            reduction=self.reduction,
        )  # fmt: skip


@as_module("triplet_margin_loss")
class TripletMarginWithDistanceLoss(nn.TripletMarginWithDistanceLoss):
    """``torch.nn.TripletMarginWithDistanceLoss``, by `fastloss.torch.triplet_margin_with_distance_loss`."""

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        return _functional.triplet_margin_with_distance_loss(
            anchor, positive, negative, distance_function=self.distance_function, margin=self.margin,
            swap=self.swap, reduction=self.reduction,
        )  # fmt: skip


@as_module("ctc_loss")
class CTCLoss(nn.CTCLoss):
    """``torch.nn.CTCLoss``, computed by `fastloss.torch.ctc_loss`."""

    def forward(
        self, log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor
    ) -> Tensor:
        return _functional.ctc_loss(
            log_probs, targets, input_lengths, target_lengths, self.blank, self.reduction, self.zero_infinity
        )


@as_module("linear_cross_entropy")
class LinearCrossEntropyLoss(nn.LinearCrossEntropyLoss):
    """``torch.nn.LinearCrossEntropyLoss``, computed by `fastloss.torch.linear_cross_entropy`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        weight, bias = self.linear.weight, self.linear.bias
        classes = (self.num_classes, *self.out_features)
        return _functional.linear_cross_entropy(
            input, weight.reshape(*classes, weight.shape[1]), target,
            linear_bias=None if bias is None else bias.reshape(classes), weight=self.weight,
            reduction=self.reduction, ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing, options=self.options,
        )  # fmt: skip


class _Of(nn.Module):
    """A module for a function that torch lacks. Options are set in the constructor, tensors in each call."""

    function: Callable[..., Tensor]

    def __init__(self, **options: Any) -> None:
        super().__init__()
        parameters = inspect.signature(self.function).parameters
        for name in options:
            if name not in parameters or parameters[name].kind is not inspect.Parameter.KEYWORD_ONLY:
                raise TypeError(f"{type(self).__name__}() got an unexpected keyword argument {name!r}")
        self.options = {}
        for name, value in options.items():
            if isinstance(value, Tensor):
                self.register_buffer(name, value)
            else:
                self.options[name] = value

    def forward(self, *tensors: Tensor | None, **more: Any) -> Tensor:
        buffers = dict(self.named_buffers(recurse=False))
        loss: Tensor = type(self).function(*tensors, **{**self.options, **buffers, **more})
        return loss

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())


def module_of(name: str, function: Callable[..., Tensor]) -> type[_Of]:
    documentation = (
        f"A module that computes `fastloss.torch.{function.__name__}`.\n\n{formula(function.__name__)}\n\n"
        "The options of the function are keyword arguments of the constructor; tensors among them become\n"
        "buffers. A call takes the tensors of the function, and further options."
    )
    contents = {"function": staticmethod(function), "__doc__": documentation, "__module__": __name__}
    return type(name, (_Of,), contents)


KLDivWithLogitsLoss = module_of("KLDivWithLogitsLoss", _beyond.kl_div_with_logits)
JSDivWithLogitsLoss = module_of("JSDivWithLogitsLoss", _beyond.js_div_with_logits)
TVDistanceWithLogitsLoss = module_of("TVDistanceWithLogitsLoss", _beyond.tv_distance_with_logits)
ListNetLoss = module_of("ListNetLoss", _beyond.list_net_loss)
LambdaRankLoss = module_of("LambdaRankLoss", _beyond.lambda_rank_loss)
AFTLoss = module_of("AFTLoss", _beyond.aft_loss)
CoxPHLoss = module_of("CoxPHLoss", _beyond.cox_ph_loss)
NegativeBinomialNLLLoss = module_of("NegativeBinomialNLLLoss", _beyond.negative_binomial_nll_loss)
StudentTNLLLoss = module_of("StudentTNLLLoss", _beyond.student_t_nll_loss)
SparsemaxLoss = module_of("SparsemaxLoss", _beyond.sparsemax_loss)
CTCWithLogitsLoss = module_of("CTCWithLogitsLoss", _beyond.ctc_loss_with_logits)
DPOLoss = module_of("DPOLoss", _beyond.dpo_loss)
SimPOLoss = module_of("SimPOLoss", _beyond.simpo_loss)
CPOLoss = module_of("CPOLoss", _beyond.cpo_loss)
ORPOLoss = module_of("ORPOLoss", _beyond.orpo_loss)
KTOLoss = module_of("KTOLoss", _beyond.kto_loss)
RewardModelLoss = module_of("RewardModelLoss", _beyond.reward_model_loss)
SoftmaxFocalLoss = module_of("SoftmaxFocalLoss", _beyond.softmax_focal_loss)
CRPSLoss = module_of("CRPSLoss", _beyond.crps_loss)
PolyLoss = module_of("PolyLoss", _beyond.poly_loss)
GeneralizedCrossEntropyLoss = module_of("GeneralizedCrossEntropyLoss", _beyond.generalized_cross_entropy)
