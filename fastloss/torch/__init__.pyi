"""Types of the functions of tensors; made by tests/stubs.py from their signatures."""

from typing import Any, Literal

from torch import Tensor, nn

from fastloss.torch._statistics import TokenStatistics
from fastloss.torch._functional import binary_cross_entropy as binary_cross_entropy
from fastloss.torch._functional import binary_cross_entropy_with_logits as binary_cross_entropy_with_logits
from fastloss.torch._functional import cross_entropy as cross_entropy
from fastloss.torch._functional import gaussian_nll_loss as gaussian_nll_loss
from fastloss.torch._functional import huber_loss as huber_loss
from fastloss.torch._functional import kl_div as kl_div
from fastloss.torch._functional import l1_loss as l1_loss
from fastloss.torch._functional import linear_cross_entropy as linear_cross_entropy
from fastloss.torch._functional import mse_loss as mse_loss
from fastloss.torch._functional import multi_margin_loss as multi_margin_loss
from fastloss.torch._functional import multilabel_soft_margin_loss as multilabel_soft_margin_loss
from fastloss.torch._functional import nll_loss as nll_loss
from fastloss.torch._functional import poisson_nll_loss as poisson_nll_loss
from fastloss.torch._functional import smooth_l1_loss as smooth_l1_loss
from fastloss.torch._functional import soft_margin_loss as soft_margin_loss
from fastloss.torch._install import Calls as Calls
from fastloss.torch._install import Installed as Installed
from fastloss.torch._install import calls as calls
from fastloss.torch._install import install as install
from fastloss.torch._install import installed as installed
from fastloss.torch._install import uninstall as uninstall
from fastloss.torch._modules import BCELoss as BCELoss
from fastloss.torch._modules import BCEWithLogitsLoss as BCEWithLogitsLoss
from fastloss.torch._modules import CPOLoss as CPOLoss
from fastloss.torch._modules import CrossEntropyLoss as CrossEntropyLoss
from fastloss.torch._modules import DPOLoss as DPOLoss
from fastloss.torch._modules import GaussianNLLLoss as GaussianNLLLoss
from fastloss.torch._modules import HuberLoss as HuberLoss
from fastloss.torch._modules import JSDivWithLogitsLoss as JSDivWithLogitsLoss
from fastloss.torch._modules import KLDivLoss as KLDivLoss
from fastloss.torch._modules import KLDivWithLogitsLoss as KLDivWithLogitsLoss
from fastloss.torch._modules import KTOLoss as KTOLoss
from fastloss.torch._modules import L1Loss as L1Loss
from fastloss.torch._modules import LinearCrossEntropyLoss as LinearCrossEntropyLoss
from fastloss.torch._modules import MSELoss as MSELoss
from fastloss.torch._modules import MultiLabelSoftMarginLoss as MultiLabelSoftMarginLoss
from fastloss.torch._modules import MultiMarginLoss as MultiMarginLoss
from fastloss.torch._modules import NLLLoss as NLLLoss
from fastloss.torch._modules import ORPOLoss as ORPOLoss
from fastloss.torch._modules import PoissonNLLLoss as PoissonNLLLoss
from fastloss.torch._modules import RewardModelLoss as RewardModelLoss
from fastloss.torch._modules import SimPOLoss as SimPOLoss
from fastloss.torch._modules import SmoothL1Loss as SmoothL1Loss
from fastloss.torch._modules import SoftMarginLoss as SoftMarginLoss
from fastloss.torch._modules import TVDistanceWithLogitsLoss as TVDistanceWithLogitsLoss
from fastloss.torch._parallel import vocab_parallel_cross_entropy as vocab_parallel_cross_entropy
from fastloss.torch._parallel import vocab_parallel_linear_cross_entropy as vocab_parallel_linear_cross_entropy
from fastloss.torch._processes import all_reduce as all_reduce
from fastloss.torch._without_logits import without_logits as without_logits

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CPOLoss",
    "Calls",
    "CrossEntropyLoss",
    "DPOLoss",
    "EpsilonInsensitiveLoss",
    "GammaNLLLoss",
    "GaussianNLLLoss",
    "HingeEmbeddingLoss",
    "HingeLoss",
    "HuberLoss",
    "Installed",
    "JSDivWithLogitsLoss",
    "KLDivLoss",
    "KLDivWithLogitsLoss",
    "KTOLoss",
    "L1Loss",
    "LinearCrossEntropyLoss",
    "LogCoshLoss",
    "MSELoss",
    "MeanSquaredLogLoss",
    "MultiLabelSoftMarginLoss",
    "MultiMarginLoss",
    "NLLLoss",
    "ORPOLoss",
    "PoissonNLLLoss",
    "QuantileLoss",
    "RewardModelLoss",
    "SigmoidFocalLoss",
    "SimPOLoss",
    "SmoothL1Loss",
    "SoftMarginLoss",
    "SquaredHingeLoss",
    "TVDistanceWithLogitsLoss",
    "TweedieNLLLoss",
    "all_reduce",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "calls",
    "cpo_loss",
    "cross_entropy",
    "dpo_loss",
    "elastic_net_penalty",
    "entropy",
    "epsilon_insensitive_loss",
    "gamma_nll_loss",
    "gaussian_nll_loss",
    "grpo_loss",
    "hinge_embedding_loss",
    "hinge_loss",
    "huber_loss",
    "info_nce_loss",
    "install",
    "installed",
    "js_div_with_logits",
    "kl_div",
    "kl_div_with_logits",
    "kl_penalty",
    "kto_loss",
    "l1_loss",
    "l1_penalty",
    "l2_penalty",
    "linear_cross_entropy",
    "linear_js_div",
    "linear_kl_div",
    "linear_token_log_probs",
    "linear_token_statistics",
    "linear_tv_distance",
    "log_cosh_loss",
    "mean_squared_log_loss",
    "mse_loss",
    "multi_margin_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
    "orpo_loss",
    "poisson_nll_loss",
    "ppo_loss",
    "quantile_loss",
    "reward_model_loss",
    "sequence_log_probs",
    "siglip_loss",
    "sigmoid_focal_loss",
    "simpo_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
    "squared_hinge_loss",
    "token_log_probs",
    "token_statistics",
    "tv_distance_with_logits",
    "tweedie_nll_loss",
    "uninstall",
    "value_loss",
    "vocab_parallel_cross_entropy",
    "vocab_parallel_linear_cross_entropy",
    "without_logits",
]

def cpo_loss(policy_chosen_logps: Tensor, policy_rejected_logps: Tensor | float, *, beta: float = ..., label_smoothing: float = ..., loss_type: Literal['sigmoid', 'hinge', 'ipo'] = ..., reduction: str = ...) -> Tensor: ...
def dpo_loss(policy_chosen_logps: Tensor, policy_rejected_logps: Tensor | float, ref_chosen_logps: Tensor | float | None = ..., ref_rejected_logps: Tensor | float | None = ..., *, beta: float = ..., label_smoothing: float = ..., loss_type: str = ..., reference_free: bool = ..., f_divergence_type: str = ..., f_alpha_divergence_coef: float = ..., discopop_tau: float = ..., reduction: str = ...) -> Tensor: ...
def elastic_net_penalty(params: Tensor, l1: float, l2: float, *, reduction: str = ...) -> Tensor: ...
def entropy(logits: Tensor, *, axis: int = ..., temperature: float = ..., reduction: str = ...) -> Tensor: ...
def grpo_loss(logps: Tensor, old_logps: Tensor | float, advantages: Tensor | float, *, mask: Tensor | float | None = ..., ref_logps: Tensor | float | None = ..., loss_type: str = ..., epsilon_low: float = ..., epsilon_high: float | None = ..., delta: float | None = ..., beta: float = ..., importance_sampling_level: Literal['token', 'sequence'] = ..., max_completion_length: float | None = ..., num_items: float | None = ..., sapo_temperature_pos: float = ..., sapo_temperature_neg: float = ..., reduction: str = ...) -> Tensor: ...
def info_nce_loss(query: Tensor, key: Tensor | float, *, target: Tensor | float | None = ..., temperature: Tensor | float = ..., symmetric: bool = ..., normalize: bool = ..., memory_budget: int | None = ..., reduction: str = ...) -> Tensor: ...
def js_div_with_logits(student_logits: Tensor, teacher_logits: Tensor | float, *, axis: int = ..., beta: float = ..., temperature: float = ..., mask: Tensor | float | None = ..., reduction: str = ...) -> Tensor: ...
def kl_div_with_logits(student_logits: Tensor, teacher_logits: Tensor | float, *, axis: int = ..., temperature: float = ..., mask: Tensor | float | None = ..., reduction: str = ...) -> Tensor: ...
def kl_penalty(logps: Tensor, ref_logps: Tensor | float, *, estimator: Literal['k1', 'k2', 'k3'] = ..., mask: Tensor | float | None = ..., reduction: str = ...) -> Tensor: ...
def kto_loss(policy_logps: Tensor, ref_logps: Tensor | float, labels: Tensor | float, *, kl: float = ..., beta: float = ..., desirable_weight: float = ..., undesirable_weight: float = ..., loss_type: Literal['kto', 'apo_zero_unpaired'] = ..., reduction: str = ...) -> Tensor: ...
def l1_penalty(params: Tensor, strength: float, *, reduction: str = ...) -> Tensor: ...
def l2_penalty(params: Tensor, strength: float, *, reduction: str = ...) -> Tensor: ...
def linear_js_div(student_input: Tensor, student_weight: Tensor | float, teacher_input: Tensor | float, teacher_weight: Tensor | float, *, student_bias: Tensor | float | None = ..., teacher_bias: Tensor | float | None = ..., beta: float = ..., temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float | None = ..., student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: Tensor | float | None = ..., hard_target: Tensor | float | None = ..., hard_share: float = ..., ignore_index: int = ..., memory_budget: int | None = ..., reduction: str = ...) -> Tensor: ...
def linear_kl_div(student_input: Tensor, student_weight: Tensor | float, teacher_input: Tensor | float, teacher_weight: Tensor | float, *, student_bias: Tensor | float | None = ..., teacher_bias: Tensor | float | None = ..., temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float | None = ..., student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: Tensor | float | None = ..., hard_target: Tensor | float | None = ..., hard_share: float = ..., ignore_index: int = ..., memory_budget: int | None = ..., reduction: str = ...) -> Tensor: ...
def linear_token_log_probs(input: Tensor, linear_weight: Tensor | float, target: Tensor | float, *, linear_bias: Tensor | float | None = ..., ignore_index: int = ..., temperature: float = ..., softcap: float | None = ..., logit_scale: float = ..., memory_budget: int | None = ..., reduction: str = ...) -> Tensor: ...
def linear_tv_distance(student_input: Tensor, student_weight: Tensor | float, teacher_input: Tensor | float, teacher_weight: Tensor | float, *, student_bias: Tensor | float | None = ..., teacher_bias: Tensor | float | None = ..., temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float | None = ..., student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: Tensor | float | None = ..., hard_target: Tensor | float | None = ..., hard_share: float = ..., ignore_index: int = ..., memory_budget: int | None = ..., reduction: str = ...) -> Tensor: ...
def orpo_loss(policy_chosen_logps: Tensor, policy_rejected_logps: Tensor | float, *, beta: float = ..., reduction: str = ...) -> Tensor: ...
def ppo_loss(logps: Tensor, old_logps: Tensor | float, advantages: Tensor | float, *, clip: float = ..., mask: Tensor | float | None = ..., reduction: str = ...) -> Tensor: ...
def reward_model_loss(chosen_rewards: Tensor, rejected_rewards: Tensor | float, *, margin: Tensor | float | None = ..., center_coefficient: float = ..., reduction: str = ...) -> Tensor: ...
def sequence_log_probs(logits: Tensor, target: Tensor | float, *, mask: Tensor | float | None = ..., lengths: Tensor | float | None = ..., ignore_index: int = ..., average: bool = ..., temperature: float = ..., reduction: str = ...) -> Tensor: ...
def siglip_loss(query: Tensor, key: Tensor | float, *, scale: Tensor | float, bias: Tensor | float, memory_budget: int | None = ..., reduction: str = ...) -> Tensor: ...
def simpo_loss(policy_chosen_logps: Tensor, policy_rejected_logps: Tensor | float, *, beta: float = ..., gamma: float = ..., label_smoothing: float = ..., reduction: str = ...) -> Tensor: ...
def token_log_probs(logits: Tensor, target: Tensor | float, *, axis: int = ..., ignore_index: int = ..., temperature: float = ..., reduction: str = ...) -> Tensor: ...
def tv_distance_with_logits(student_logits: Tensor, teacher_logits: Tensor | float, *, axis: int = ..., temperature: float = ..., mask: Tensor | float | None = ..., reduction: str = ...) -> Tensor: ...
def value_loss(values: Tensor, old_values: Tensor | float | None, returns: Tensor | float, *, clip: float | None = ..., mask: Tensor | float | None = ..., reduction: str = ...) -> Tensor: ...
class EpsilonInsensitiveLoss(nn.Module):
    def __init__(self, *args: Any, **options: Any) -> None: ...
    def forward(self, *tensors: Tensor | None, **options: Any) -> Tensor: ...
class GammaNLLLoss(nn.Module):
    def __init__(self, *args: Any, **options: Any) -> None: ...
    def forward(self, *tensors: Tensor | None, **options: Any) -> Tensor: ...
class HingeEmbeddingLoss(nn.HingeEmbeddingLoss):
    def __init__(self, *args: Any, **options: Any) -> None: ...
    def forward(self, *tensors: Tensor | None, **options: Any) -> Tensor: ...
class HingeLoss(nn.Module):
    def __init__(self, *args: Any, **options: Any) -> None: ...
    def forward(self, *tensors: Tensor | None, **options: Any) -> Tensor: ...
class LogCoshLoss(nn.Module):
    def __init__(self, *args: Any, **options: Any) -> None: ...
    def forward(self, *tensors: Tensor | None, **options: Any) -> Tensor: ...
class MeanSquaredLogLoss(nn.Module):
    def __init__(self, *args: Any, **options: Any) -> None: ...
    def forward(self, *tensors: Tensor | None, **options: Any) -> Tensor: ...
class QuantileLoss(nn.Module):
    def __init__(self, *args: Any, **options: Any) -> None: ...
    def forward(self, *tensors: Tensor | None, **options: Any) -> Tensor: ...
class SigmoidFocalLoss(nn.Module):
    def __init__(self, *args: Any, **options: Any) -> None: ...
    def forward(self, *tensors: Tensor | None, **options: Any) -> Tensor: ...
class SquaredHingeLoss(nn.Module):
    def __init__(self, *args: Any, **options: Any) -> None: ...
    def forward(self, *tensors: Tensor | None, **options: Any) -> Tensor: ...
class TweedieNLLLoss(nn.Module):
    def __init__(self, *args: Any, **options: Any) -> None: ...
    def forward(self, *tensors: Tensor | None, **options: Any) -> Tensor: ...
def epsilon_insensitive_loss(input: Tensor, target: Tensor | float, *, weight: Tensor | float | None = ..., epsilon: float = ..., reduction: str = ...) -> Tensor: ...
def gamma_nll_loss(input: Tensor, target: Tensor | float, *, weight: Tensor | float | None = ..., reduction: str = ...) -> Tensor: ...
def hinge_embedding_loss(input: Tensor, target: Tensor | float, margin: float = ..., size_average: bool | None = ..., reduce: bool | None = ..., reduction: str = ...) -> Tensor: ...
def hinge_loss(scores: Tensor, target: Tensor | float, *, margin: float = ..., weight: Tensor | float | None = ..., reduction: str = ...) -> Tensor: ...
def log_cosh_loss(input: Tensor, target: Tensor | float, *, weight: Tensor | float | None = ..., reduction: str = ...) -> Tensor: ...
def mean_squared_log_loss(input: Tensor, target: Tensor | float, *, weight: Tensor | float | None = ..., reduction: str = ...) -> Tensor: ...
def quantile_loss(input: Tensor, target: Tensor | float, *, weight: Tensor | float | None = ..., quantile: float = ..., reduction: str = ...) -> Tensor: ...
def sigmoid_focal_loss(logits: Tensor, target: Tensor | float, *, weight: Tensor | float | None = ..., alpha: float | None = ..., gamma: float = ..., reduction: str = ...) -> Tensor: ...
def squared_hinge_loss(scores: Tensor, target: Tensor | float, *, margin: float = ..., weight: Tensor | float | None = ..., reduction: str = ...) -> Tensor: ...
def tweedie_nll_loss(input: Tensor, target: Tensor | float, *, weight: Tensor | float | None = ..., power: float = ..., reduction: str = ...) -> Tensor: ...
def linear_token_statistics(input: Tensor, linear_weight: Tensor | float, target: Tensor | float, *, linear_bias: Tensor | float | None = ..., outputs: tuple[str, ...] = ..., ignore_index: int = ..., temperature: float = ..., softcap: float | None = ..., logit_scale: float = ..., memory_budget: int | None = ...) -> TokenStatistics: ...
def token_statistics(logits: Tensor, target: Tensor | float, *, axis: int = ..., outputs: tuple[str, ...] = ..., ignore_index: int = ..., temperature: float = ..., softcap: float | None = ..., logit_scale: float = ...) -> TokenStatistics: ...
