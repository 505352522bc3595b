"""Types of the public functions; made by tests/stubs.py from their signatures."""

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy.typing as npt

from fastloss import boosting as boosting
from fastloss import reference as reference
from fastloss import torch as torch
from fastloss._curve.finding import Finding as Finding
from fastloss._engine.adaptive import AdaptiveGradients
from fastloss._engine.chunks import LinearGradients
from fastloss._engine.contrastive import InfoNCEGradients
from fastloss._engine.contrastive import SigLIPGradients
from fastloss._engine.distribution import NegativeBinomialNLLGradients
from fastloss._engine.distribution import StudentTNLLGradients
from fastloss._engine.elementwise import GaussianNLLGradients
from fastloss._engine.elementwise import MarginRankingGradients
from fastloss._engine.linear_divergence import StudentGradients
from fastloss._engine.pairs import CosineEmbeddingGradients
from fastloss._engine.pairs import TripletMarginGradients
from fastloss._engine.preference import PairGradients
from fastloss._engine.preference import RewardGradients
from fastloss._engine.rows import DivergenceGradients
from fastloss._engine.settings import get_num_threads as get_num_threads
from fastloss._engine.settings import num_threads as num_threads
from fastloss._engine.settings import set_num_threads as set_num_threads
from fastloss._engine.settings import show_config as show_config
from fastloss._engine.statistics import TokenStatistics
from fastloss._engine.types import Array, Reduction
from fastloss.classification import log_softmax as log_softmax
from fastloss.classification import logsumexp as logsumexp
from fastloss.classification import softmax as softmax
from fastloss.curve import LossCurve as LossCurve
from fastloss.perplexity import Perplexity as Perplexity
from fastloss.perplexity import perplexity as perplexity
from fastloss.preference import preference_rewards as preference_rewards
from fastloss.reading import interpret as interpret

__all__ = [
    "Finding",
    "LossCurve",
    "Perplexity",
    "adaptive_log_softmax_with_loss",
    "aft_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cosine_embedding_loss",
    "cox_ph_loss",
    "cpo_loss",
    "cross_entropy",
    "crps_loss",
    "ctc_loss",
    "ctc_loss_with_logits",
    "dpo_loss",
    "elastic_net_penalty",
    "entropy",
    "epsilon_insensitive_loss",
    "gamma_nll_loss",
    "gaussian_nll_loss",
    "generalized_cross_entropy",
    "get_num_threads",
    "grpo_loss",
    "hinge_embedding_loss",
    "hinge_loss",
    "huber_loss",
    "info_nce_loss",
    "interpret",
    "js_div_with_logits",
    "kl_div",
    "kl_div_with_logits",
    "kl_penalty",
    "kto_loss",
    "l1_loss",
    "l1_penalty",
    "l2_penalty",
    "lambda_rank_loss",
    "linear_cross_entropy",
    "linear_js_div",
    "linear_kl_div",
    "linear_token_log_probs",
    "linear_token_statistics",
    "linear_tv_distance",
    "list_net_loss",
    "log_cosh_loss",
    "log_softmax",
    "logsumexp",
    "margin_ranking_loss",
    "mean_squared_log_loss",
    "mse_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "negative_binomial_nll_loss",
    "nll_loss",
    "num_threads",
    "orpo_loss",
    "perplexity",
    "poisson_nll_loss",
    "poly_loss",
    "ppo_loss",
    "preference_rewards",
    "quantile_loss",
    "reward_model_loss",
    "sequence_log_probs",
    "set_num_threads",
    "show_config",
    "siglip_loss",
    "sigmoid_focal_loss",
    "simpo_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
    "softmax",
    "softmax_focal_loss",
    "sparsemax_loss",
    "squared_hinge_loss",
    "student_t_nll_loss",
    "token_log_probs",
    "token_statistics",
    "triplet_margin_loss",
    "tv_distance_with_logits",
    "tweedie_nll_loss",
    "value_loss",
]

__version__: str
@overload
def adaptive_log_softmax_with_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, head_weight: npt.ArrayLike, tail_weights:
    Sequence[tuple[npt.ArrayLike, npt.ArrayLike]], *, head_bias: npt.ArrayLike | None = ..., ignore_index: int
    = ..., memory_budget: int | None = ..., reduction: Literal["mean", "sum"] = ..., return_grad:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None,
    Array | None, tuple[tuple[Array | None, Array | None], ...] | None] | None = ..., accumulate: bool |
    tuple[bool, ...] = ..., num_threads: int | None = ...
) -> float: ...
@overload
def adaptive_log_softmax_with_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, head_weight: npt.ArrayLike, tail_weights:
    Sequence[tuple[npt.ArrayLike, npt.ArrayLike]], *, head_bias: npt.ArrayLike | None = ..., ignore_index: int
    = ..., memory_budget: int | None = ..., reduction: Literal["sum_and_count"], return_grad: Literal[False] =
    ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None, Array | None,
    tuple[tuple[Array | None, Array | None], ...] | None] | None = ..., accumulate: bool | tuple[bool, ...] =
    ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def adaptive_log_softmax_with_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, head_weight: npt.ArrayLike, tail_weights:
    Sequence[tuple[npt.ArrayLike, npt.ArrayLike]], *, head_bias: npt.ArrayLike | None = ..., ignore_index: int
    = ..., memory_budget: int | None = ..., reduction: Literal["none"], return_grad: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None, Array | None,
    tuple[tuple[Array | None, Array | None], ...] | None] | None = ..., accumulate: bool | tuple[bool, ...] =
    ..., num_threads: int | None = ...
) -> Array: ...
@overload
def adaptive_log_softmax_with_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, head_weight: npt.ArrayLike, tail_weights:
    Sequence[tuple[npt.ArrayLike, npt.ArrayLike]], *, head_bias: npt.ArrayLike | None = ..., ignore_index: int
    = ..., memory_budget: int | None = ..., reduction: Literal["mean", "sum"] = ..., return_grad:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None, Array |
    None, tuple[tuple[Array | None, Array | None], ...] | None] | None = ..., accumulate: bool | tuple[bool,
    ...] = ..., num_threads: int | None = ...
) -> tuple[float, AdaptiveGradients]: ...
@overload
def adaptive_log_softmax_with_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, head_weight: npt.ArrayLike, tail_weights:
    Sequence[tuple[npt.ArrayLike, npt.ArrayLike]], *, head_bias: npt.ArrayLike | None = ..., ignore_index: int
    = ..., memory_budget: int | None = ..., reduction: Literal["sum_and_count"], return_grad: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None, Array | None,
    tuple[tuple[Array | None, Array | None], ...] | None] | None = ..., accumulate: bool | tuple[bool, ...] =
    ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], AdaptiveGradients]: ...
@overload
def adaptive_log_softmax_with_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, head_weight: npt.ArrayLike, tail_weights:
    Sequence[tuple[npt.ArrayLike, npt.ArrayLike]], *, head_bias: npt.ArrayLike | None = ..., ignore_index: int
    = ..., memory_budget: int | None = ..., reduction: Literal["none"], return_grad: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None, Array | None,
    tuple[tuple[Array | None, Array | None], ...] | None] | None = ..., accumulate: bool | tuple[bool, ...] =
    ..., num_threads: int | None = ...
) -> tuple[Array, AdaptiveGradients]: ...
@overload
def adaptive_log_softmax_with_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, head_weight: npt.ArrayLike, tail_weights:
    Sequence[tuple[npt.ArrayLike, npt.ArrayLike]], *, head_bias: npt.ArrayLike | None = ..., ignore_index: int
    = ..., memory_budget: int | None = ..., reduction: Reduction = ..., return_grad: bool = ..., grad_output:
    npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None, Array | None, tuple[tuple[Array | None,
    Array | None], ...] | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int |
    None = ...
) -> Any: ...

@overload
def aft_loss(
    input: npt.ArrayLike, lower: npt.ArrayLike, upper: npt.ArrayLike, *, weight: npt.ArrayLike | None = ...,
    scale: float = ..., distribution: Literal['normal', 'logistic', 'extreme'] = ..., reduction:
    Literal["mean", "sum"] = ..., return_grad: Literal[False] = ..., return_hessian: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> float: ...
@overload
def aft_loss(
    input: npt.ArrayLike, lower: npt.ArrayLike, upper: npt.ArrayLike, *, weight: npt.ArrayLike | None = ...,
    scale: float = ..., distribution: Literal['normal', 'logistic', 'extreme'] = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[False] = ..., return_hessian: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, float]: ...
@overload
def aft_loss(
    input: npt.ArrayLike, lower: npt.ArrayLike, upper: npt.ArrayLike, *, weight: npt.ArrayLike | None = ...,
    scale: float = ..., distribution: Literal['normal', 'logistic', 'extreme'] = ..., reduction:
    Literal["none"], return_grad: Literal[False] = ..., return_hessian: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def aft_loss(
    input: npt.ArrayLike, lower: npt.ArrayLike, upper: npt.ArrayLike, *, weight: npt.ArrayLike | None = ...,
    scale: float = ..., distribution: Literal['normal', 'logistic', 'extreme'] = ..., reduction:
    Literal["mean", "sum"] = ..., return_grad: Literal[True], return_hessian: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, Array]: ...
@overload
def aft_loss(
    input: npt.ArrayLike, lower: npt.ArrayLike, upper: npt.ArrayLike, *, weight: npt.ArrayLike | None = ...,
    scale: float = ..., distribution: Literal['normal', 'logistic', 'extreme'] = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[True], return_hessian: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def aft_loss(
    input: npt.ArrayLike, lower: npt.ArrayLike, upper: npt.ArrayLike, *, weight: npt.ArrayLike | None = ...,
    scale: float = ..., distribution: Literal['normal', 'logistic', 'extreme'] = ..., reduction:
    Literal["none"], return_grad: Literal[True], return_hessian: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def aft_loss(
    input: npt.ArrayLike, lower: npt.ArrayLike, upper: npt.ArrayLike, *, weight: npt.ArrayLike | None = ...,
    scale: float = ..., distribution: Literal['normal', 'logistic', 'extreme'] = ..., reduction:
    Literal["mean", "sum"] = ..., return_grad: Literal[True], return_hessian: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, Array, Array]: ...
@overload
def aft_loss(
    input: npt.ArrayLike, lower: npt.ArrayLike, upper: npt.ArrayLike, *, weight: npt.ArrayLike | None = ...,
    scale: float = ..., distribution: Literal['normal', 'logistic', 'extreme'] = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[True], return_hessian: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array, Array]: ...
@overload
def aft_loss(
    input: npt.ArrayLike, lower: npt.ArrayLike, upper: npt.ArrayLike, *, weight: npt.ArrayLike | None = ...,
    scale: float = ..., distribution: Literal['normal', 'logistic', 'extreme'] = ..., reduction:
    Literal["none"], return_grad: Literal[True], return_hessian: Literal[True], grad_output: npt.ArrayLike |
    None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array, Array]: ...
@overload
def aft_loss(
    input: npt.ArrayLike, lower: npt.ArrayLike, upper: npt.ArrayLike, *, weight: npt.ArrayLike | None = ...,
    scale: float = ..., distribution: Literal['normal', 'logistic', 'extreme'] = ..., reduction: Reduction =
    ..., return_grad: bool = ..., return_hessian: bool = ..., grad_output: npt.ArrayLike | None = ..., out:
    Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def binary_cross_entropy(
    probs: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> float: ...
@overload
def binary_cross_entropy(
    probs: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["sum_and_count"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike |
    None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def binary_cross_entropy(
    probs: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["none"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None =
    ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def binary_cross_entropy(
    probs: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True], grad_output: npt.ArrayLike |
    None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def binary_cross_entropy(
    probs: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["sum_and_count"], return_grad: Literal[True], grad_output: npt.ArrayLike | None =
    ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def binary_cross_entropy(
    probs: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["none"], return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out:
    Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def binary_cross_entropy(
    probs: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Reduction = ..., return_grad: bool = ..., grad_output: npt.ArrayLike | None = ..., out:
    Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def binary_cross_entropy_with_logits(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, pos_weight: npt.ArrayLike | None = ..., label_smoothing:
    float = ..., weight: npt.ArrayLike | None = ..., check_domain: bool = ..., reduction: Literal["mean",
    "sum"] = ..., return_grad: Literal[False] = ..., return_hessian: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> float: ...
@overload
def binary_cross_entropy_with_logits(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, pos_weight: npt.ArrayLike | None = ..., label_smoothing:
    float = ..., weight: npt.ArrayLike | None = ..., check_domain: bool = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[False] = ..., return_hessian: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, float]: ...
@overload
def binary_cross_entropy_with_logits(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, pos_weight: npt.ArrayLike | None = ..., label_smoothing:
    float = ..., weight: npt.ArrayLike | None = ..., check_domain: bool = ..., reduction: Literal["none"],
    return_grad: Literal[False] = ..., return_hessian: Literal[False] = ..., grad_output: npt.ArrayLike | None
    = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def binary_cross_entropy_with_logits(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, pos_weight: npt.ArrayLike | None = ..., label_smoothing:
    float = ..., weight: npt.ArrayLike | None = ..., check_domain: bool = ..., reduction: Literal["mean",
    "sum"] = ..., return_grad: Literal[True], return_hessian: Literal[False] = ..., grad_output: npt.ArrayLike
    | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def binary_cross_entropy_with_logits(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, pos_weight: npt.ArrayLike | None = ..., label_smoothing:
    float = ..., weight: npt.ArrayLike | None = ..., check_domain: bool = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[True], return_hessian: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def binary_cross_entropy_with_logits(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, pos_weight: npt.ArrayLike | None = ..., label_smoothing:
    float = ..., weight: npt.ArrayLike | None = ..., check_domain: bool = ..., reduction: Literal["none"],
    return_grad: Literal[True], return_hessian: Literal[False] = ..., grad_output: npt.ArrayLike | None = ...,
    out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def binary_cross_entropy_with_logits(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, pos_weight: npt.ArrayLike | None = ..., label_smoothing:
    float = ..., weight: npt.ArrayLike | None = ..., check_domain: bool = ..., reduction: Literal["mean",
    "sum"] = ..., return_grad: Literal[True], return_hessian: Literal[True], grad_output: npt.ArrayLike | None
    = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, Array, Array]: ...
@overload
def binary_cross_entropy_with_logits(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, pos_weight: npt.ArrayLike | None = ..., label_smoothing:
    float = ..., weight: npt.ArrayLike | None = ..., check_domain: bool = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[True], return_hessian: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array, Array]: ...
@overload
def binary_cross_entropy_with_logits(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, pos_weight: npt.ArrayLike | None = ..., label_smoothing:
    float = ..., weight: npt.ArrayLike | None = ..., check_domain: bool = ..., reduction: Literal["none"],
    return_grad: Literal[True], return_hessian: Literal[True], grad_output: npt.ArrayLike | None = ..., out:
    Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array, Array]: ...
@overload
def binary_cross_entropy_with_logits(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, pos_weight: npt.ArrayLike | None = ..., label_smoothing:
    float = ..., weight: npt.ArrayLike | None = ..., check_domain: bool = ..., reduction: Reduction = ...,
    return_grad: bool = ..., return_hessian: bool = ..., grad_output: npt.ArrayLike | None = ..., out: Array |
    None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def cosine_embedding_loss(
    input1: npt.ArrayLike, input2: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., check_domain:
    bool = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] | None = ..., accumulate: bool |
    tuple[bool, ...] = ..., num_threads: int | None = ...
) -> float: ...
@overload
def cosine_embedding_loss(
    input1: npt.ArrayLike, input2: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., check_domain:
    bool = ..., reduction: Literal["sum_and_count"], return_grad: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] | None = ..., accumulate: bool |
    tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def cosine_embedding_loss(
    input1: npt.ArrayLike, input2: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., check_domain:
    bool = ..., reduction: Literal["none"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike |
    None = ..., out: tuple[Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] =
    ..., num_threads: int | None = ...
) -> Array: ...
@overload
def cosine_embedding_loss(
    input1: npt.ArrayLike, input2: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., check_domain:
    bool = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] | None = ..., accumulate: bool |
    tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[float, CosineEmbeddingGradients]: ...
@overload
def cosine_embedding_loss(
    input1: npt.ArrayLike, input2: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., check_domain:
    bool = ..., reduction: Literal["sum_and_count"], return_grad: Literal[True], grad_output: npt.ArrayLike |
    None = ..., out: tuple[Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] =
    ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], CosineEmbeddingGradients]: ...
@overload
def cosine_embedding_loss(
    input1: npt.ArrayLike, input2: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., check_domain:
    bool = ..., reduction: Literal["none"], return_grad: Literal[True], grad_output: npt.ArrayLike | None =
    ..., out: tuple[Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ...,
    num_threads: int | None = ...
) -> tuple[Array, CosineEmbeddingGradients]: ...
@overload
def cosine_embedding_loss(
    input1: npt.ArrayLike, input2: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., check_domain:
    bool = ..., reduction: Reduction = ..., return_grad: bool = ..., grad_output: npt.ArrayLike | None = ...,
    out: tuple[Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ...,
    num_threads: int | None = ...
) -> Any: ...

@overload
def cox_ph_loss(
    log_hazard: npt.ArrayLike, time: npt.ArrayLike, event: npt.ArrayLike, *, weight: npt.ArrayLike | None =
    ..., strata: npt.ArrayLike | None = ..., ties: Literal['breslow', 'efron'] = ..., reduction:
    Literal["mean", "sum"] = ..., return_grad: Literal[False] = ..., return_hessian: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> float: ...
@overload
def cox_ph_loss(
    log_hazard: npt.ArrayLike, time: npt.ArrayLike, event: npt.ArrayLike, *, weight: npt.ArrayLike | None =
    ..., strata: npt.ArrayLike | None = ..., ties: Literal['breslow', 'efron'] = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[False] = ..., return_hessian: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, float]: ...
@overload
def cox_ph_loss(
    log_hazard: npt.ArrayLike, time: npt.ArrayLike, event: npt.ArrayLike, *, weight: npt.ArrayLike | None =
    ..., strata: npt.ArrayLike | None = ..., ties: Literal['breslow', 'efron'] = ..., reduction:
    Literal["none"], return_grad: Literal[False] = ..., return_hessian: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def cox_ph_loss(
    log_hazard: npt.ArrayLike, time: npt.ArrayLike, event: npt.ArrayLike, *, weight: npt.ArrayLike | None =
    ..., strata: npt.ArrayLike | None = ..., ties: Literal['breslow', 'efron'] = ..., reduction:
    Literal["mean", "sum"] = ..., return_grad: Literal[True], return_hessian: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, Array]: ...
@overload
def cox_ph_loss(
    log_hazard: npt.ArrayLike, time: npt.ArrayLike, event: npt.ArrayLike, *, weight: npt.ArrayLike | None =
    ..., strata: npt.ArrayLike | None = ..., ties: Literal['breslow', 'efron'] = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[True], return_hessian: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def cox_ph_loss(
    log_hazard: npt.ArrayLike, time: npt.ArrayLike, event: npt.ArrayLike, *, weight: npt.ArrayLike | None =
    ..., strata: npt.ArrayLike | None = ..., ties: Literal['breslow', 'efron'] = ..., reduction:
    Literal["none"], return_grad: Literal[True], return_hessian: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def cox_ph_loss(
    log_hazard: npt.ArrayLike, time: npt.ArrayLike, event: npt.ArrayLike, *, weight: npt.ArrayLike | None =
    ..., strata: npt.ArrayLike | None = ..., ties: Literal['breslow', 'efron'] = ..., reduction:
    Literal["mean", "sum"] = ..., return_grad: Literal[True], return_hessian: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, Array, Array]: ...
@overload
def cox_ph_loss(
    log_hazard: npt.ArrayLike, time: npt.ArrayLike, event: npt.ArrayLike, *, weight: npt.ArrayLike | None =
    ..., strata: npt.ArrayLike | None = ..., ties: Literal['breslow', 'efron'] = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[True], return_hessian: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array, Array]: ...
@overload
def cox_ph_loss(
    log_hazard: npt.ArrayLike, time: npt.ArrayLike, event: npt.ArrayLike, *, weight: npt.ArrayLike | None =
    ..., strata: npt.ArrayLike | None = ..., ties: Literal['breslow', 'efron'] = ..., reduction:
    Literal["none"], return_grad: Literal[True], return_hessian: Literal[True], grad_output: npt.ArrayLike |
    None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array, Array]: ...
@overload
def cox_ph_loss(
    log_hazard: npt.ArrayLike, time: npt.ArrayLike, event: npt.ArrayLike, *, weight: npt.ArrayLike | None =
    ..., strata: npt.ArrayLike | None = ..., ties: Literal['breslow', 'efron'] = ..., reduction: Reduction =
    ..., return_grad: bool = ..., return_hessian: bool = ..., grad_output: npt.ArrayLike | None = ..., out:
    Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def cpo_loss(
    policy_chosen_logps: npt.ArrayLike, policy_rejected_logps: npt.ArrayLike, *, beta: float = ...,
    label_smoothing: float = ..., loss_type: Literal['sigmoid', 'hinge', 'ipo'] = ..., reduction:
    Literal["mean", "sum"] = ..., return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ...,
    out: tuple[Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ...,
    num_threads: int | None = ...
) -> float: ...
@overload
def cpo_loss(
    policy_chosen_logps: npt.ArrayLike, policy_rejected_logps: npt.ArrayLike, *, beta: float = ...,
    label_smoothing: float = ..., loss_type: Literal['sigmoid', 'hinge', 'ipo'] = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out:
    tuple[Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads:
    int | None = ...
) -> tuple[float, float]: ...
@overload
def cpo_loss(
    policy_chosen_logps: npt.ArrayLike, policy_rejected_logps: npt.ArrayLike, *, beta: float = ...,
    label_smoothing: float = ..., loss_type: Literal['sigmoid', 'hinge', 'ipo'] = ..., reduction:
    Literal["none"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out:
    tuple[Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads:
    int | None = ...
) -> Array: ...
@overload
def cpo_loss(
    policy_chosen_logps: npt.ArrayLike, policy_rejected_logps: npt.ArrayLike, *, beta: float = ...,
    label_smoothing: float = ..., loss_type: Literal['sigmoid', 'hinge', 'ipo'] = ..., reduction:
    Literal["mean", "sum"] = ..., return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out:
    tuple[Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads:
    int | None = ...
) -> tuple[float, PairGradients]: ...
@overload
def cpo_loss(
    policy_chosen_logps: npt.ArrayLike, policy_rejected_logps: npt.ArrayLike, *, beta: float = ...,
    label_smoothing: float = ..., loss_type: Literal['sigmoid', 'hinge', 'ipo'] = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out:
    tuple[Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads:
    int | None = ...
) -> tuple[tuple[float, float], PairGradients]: ...
@overload
def cpo_loss(
    policy_chosen_logps: npt.ArrayLike, policy_rejected_logps: npt.ArrayLike, *, beta: float = ...,
    label_smoothing: float = ..., loss_type: Literal['sigmoid', 'hinge', 'ipo'] = ..., reduction:
    Literal["none"], return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array |
    None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[Array, PairGradients]: ...
@overload
def cpo_loss(
    policy_chosen_logps: npt.ArrayLike, policy_rejected_logps: npt.ArrayLike, *, beta: float = ...,
    label_smoothing: float = ..., loss_type: Literal['sigmoid', 'hinge', 'ipo'] = ..., reduction: Reduction =
    ..., return_grad: bool = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array |
    None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def cross_entropy(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., weight: npt.ArrayLike | None = ...,
    ignore_index: int = ..., label_smoothing: float = ..., sample_weight: npt.ArrayLike | None = ..., z_loss:
    float = ..., softcap: float | None = ..., temperature: float = ..., logit_scale: float = ..., reduction:
    Literal["mean", "sum"] = ..., return_grad: Literal[False] = ..., return_hessian: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> float: ...
@overload
def cross_entropy(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., weight: npt.ArrayLike | None = ...,
    ignore_index: int = ..., label_smoothing: float = ..., sample_weight: npt.ArrayLike | None = ..., z_loss:
    float = ..., softcap: float | None = ..., temperature: float = ..., logit_scale: float = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[False] = ..., return_hessian: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, float]: ...
@overload
def cross_entropy(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., weight: npt.ArrayLike | None = ...,
    ignore_index: int = ..., label_smoothing: float = ..., sample_weight: npt.ArrayLike | None = ..., z_loss:
    float = ..., softcap: float | None = ..., temperature: float = ..., logit_scale: float = ..., reduction:
    Literal["none"], return_grad: Literal[False] = ..., return_hessian: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def cross_entropy(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., weight: npt.ArrayLike | None = ...,
    ignore_index: int = ..., label_smoothing: float = ..., sample_weight: npt.ArrayLike | None = ..., z_loss:
    float = ..., softcap: float | None = ..., temperature: float = ..., logit_scale: float = ..., reduction:
    Literal["mean", "sum"] = ..., return_grad: Literal[True], return_hessian: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, Array]: ...
@overload
def cross_entropy(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., weight: npt.ArrayLike | None = ...,
    ignore_index: int = ..., label_smoothing: float = ..., sample_weight: npt.ArrayLike | None = ..., z_loss:
    float = ..., softcap: float | None = ..., temperature: float = ..., logit_scale: float = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[True], return_hessian: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def cross_entropy(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., weight: npt.ArrayLike | None = ...,
    ignore_index: int = ..., label_smoothing: float = ..., sample_weight: npt.ArrayLike | None = ..., z_loss:
    float = ..., softcap: float | None = ..., temperature: float = ..., logit_scale: float = ..., reduction:
    Literal["none"], return_grad: Literal[True], return_hessian: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def cross_entropy(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., weight: npt.ArrayLike | None = ...,
    ignore_index: int = ..., label_smoothing: float = ..., sample_weight: npt.ArrayLike | None = ..., z_loss:
    float = ..., softcap: float | None = ..., temperature: float = ..., logit_scale: float = ..., reduction:
    Literal["mean", "sum"] = ..., return_grad: Literal[True], return_hessian: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, Array, Array]: ...
@overload
def cross_entropy(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., weight: npt.ArrayLike | None = ...,
    ignore_index: int = ..., label_smoothing: float = ..., sample_weight: npt.ArrayLike | None = ..., z_loss:
    float = ..., softcap: float | None = ..., temperature: float = ..., logit_scale: float = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[True], return_hessian: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array, Array]: ...
@overload
def cross_entropy(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., weight: npt.ArrayLike | None = ...,
    ignore_index: int = ..., label_smoothing: float = ..., sample_weight: npt.ArrayLike | None = ..., z_loss:
    float = ..., softcap: float | None = ..., temperature: float = ..., logit_scale: float = ..., reduction:
    Literal["none"], return_grad: Literal[True], return_hessian: Literal[True], grad_output: npt.ArrayLike |
    None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array, Array]: ...
@overload
def cross_entropy(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., weight: npt.ArrayLike | None = ...,
    ignore_index: int = ..., label_smoothing: float = ..., sample_weight: npt.ArrayLike | None = ..., z_loss:
    float = ..., softcap: float | None = ..., temperature: float = ..., logit_scale: float = ..., reduction:
    Reduction = ..., return_grad: bool = ..., return_hessian: bool = ..., grad_output: npt.ArrayLike | None =
    ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def crps_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, quantile: npt.ArrayLike, *, quantile_weight: npt.ArrayLike |
    None = ..., sample_weight: npt.ArrayLike | None = ..., reduction: Literal["mean", "sum"] = ...,
    return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> float: ...
@overload
def crps_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, quantile: npt.ArrayLike, *, quantile_weight: npt.ArrayLike |
    None = ..., sample_weight: npt.ArrayLike | None = ..., reduction: Literal["sum_and_count"], return_grad:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def crps_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, quantile: npt.ArrayLike, *, quantile_weight: npt.ArrayLike |
    None = ..., sample_weight: npt.ArrayLike | None = ..., reduction: Literal["none"], return_grad:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> Array: ...
@overload
def crps_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, quantile: npt.ArrayLike, *, quantile_weight: npt.ArrayLike |
    None = ..., sample_weight: npt.ArrayLike | None = ..., reduction: Literal["mean", "sum"] = ...,
    return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate:
    bool = ..., num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def crps_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, quantile: npt.ArrayLike, *, quantile_weight: npt.ArrayLike |
    None = ..., sample_weight: npt.ArrayLike | None = ..., reduction: Literal["sum_and_count"], return_grad:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def crps_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, quantile: npt.ArrayLike, *, quantile_weight: npt.ArrayLike |
    None = ..., sample_weight: npt.ArrayLike | None = ..., reduction: Literal["none"], return_grad:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def crps_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, quantile: npt.ArrayLike, *, quantile_weight: npt.ArrayLike |
    None = ..., sample_weight: npt.ArrayLike | None = ..., reduction: Reduction = ..., return_grad: bool =
    ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> Any: ...

@overload
def ctc_loss(
    log_probs: npt.ArrayLike, targets: npt.ArrayLike, input_lengths: npt.ArrayLike, target_lengths:
    npt.ArrayLike, *, blank: int = ..., zero_infinity: bool = ..., reduction: Literal["mean", "sum"] = ...,
    return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> float: ...
@overload
def ctc_loss(
    log_probs: npt.ArrayLike, targets: npt.ArrayLike, input_lengths: npt.ArrayLike, target_lengths:
    npt.ArrayLike, *, blank: int = ..., zero_infinity: bool = ..., reduction: Literal["sum_and_count"],
    return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def ctc_loss(
    log_probs: npt.ArrayLike, targets: npt.ArrayLike, input_lengths: npt.ArrayLike, target_lengths:
    npt.ArrayLike, *, blank: int = ..., zero_infinity: bool = ..., reduction: Literal["none"], return_grad:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> Array: ...
@overload
def ctc_loss(
    log_probs: npt.ArrayLike, targets: npt.ArrayLike, input_lengths: npt.ArrayLike, target_lengths:
    npt.ArrayLike, *, blank: int = ..., zero_infinity: bool = ..., reduction: Literal["mean", "sum"] = ...,
    return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate:
    bool = ..., num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def ctc_loss(
    log_probs: npt.ArrayLike, targets: npt.ArrayLike, input_lengths: npt.ArrayLike, target_lengths:
    npt.ArrayLike, *, blank: int = ..., zero_infinity: bool = ..., reduction: Literal["sum_and_count"],
    return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate:
    bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def ctc_loss(
    log_probs: npt.ArrayLike, targets: npt.ArrayLike, input_lengths: npt.ArrayLike, target_lengths:
    npt.ArrayLike, *, blank: int = ..., zero_infinity: bool = ..., reduction: Literal["none"], return_grad:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def ctc_loss(
    log_probs: npt.ArrayLike, targets: npt.ArrayLike, input_lengths: npt.ArrayLike, target_lengths:
    npt.ArrayLike, *, blank: int = ..., zero_infinity: bool = ..., reduction: Reduction = ..., return_grad:
    bool = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> Any: ...

@overload
def ctc_loss_with_logits(
    logits: npt.ArrayLike, targets: npt.ArrayLike, input_lengths: npt.ArrayLike, target_lengths:
    npt.ArrayLike, *, blank: int = ..., zero_infinity: bool = ..., reduction: Literal["mean", "sum"] = ...,
    return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> float: ...
@overload
def ctc_loss_with_logits(
    logits: npt.ArrayLike, targets: npt.ArrayLike, input_lengths: npt.ArrayLike, target_lengths:
    npt.ArrayLike, *, blank: int = ..., zero_infinity: bool = ..., reduction: Literal["sum_and_count"],
    return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def ctc_loss_with_logits(
    logits: npt.ArrayLike, targets: npt.ArrayLike, input_lengths: npt.ArrayLike, target_lengths:
    npt.ArrayLike, *, blank: int = ..., zero_infinity: bool = ..., reduction: Literal["none"], return_grad:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> Array: ...
@overload
def ctc_loss_with_logits(
    logits: npt.ArrayLike, targets: npt.ArrayLike, input_lengths: npt.ArrayLike, target_lengths:
    npt.ArrayLike, *, blank: int = ..., zero_infinity: bool = ..., reduction: Literal["mean", "sum"] = ...,
    return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate:
    bool = ..., num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def ctc_loss_with_logits(
    logits: npt.ArrayLike, targets: npt.ArrayLike, input_lengths: npt.ArrayLike, target_lengths:
    npt.ArrayLike, *, blank: int = ..., zero_infinity: bool = ..., reduction: Literal["sum_and_count"],
    return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate:
    bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def ctc_loss_with_logits(
    logits: npt.ArrayLike, targets: npt.ArrayLike, input_lengths: npt.ArrayLike, target_lengths:
    npt.ArrayLike, *, blank: int = ..., zero_infinity: bool = ..., reduction: Literal["none"], return_grad:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def ctc_loss_with_logits(
    logits: npt.ArrayLike, targets: npt.ArrayLike, input_lengths: npt.ArrayLike, target_lengths:
    npt.ArrayLike, *, blank: int = ..., zero_infinity: bool = ..., reduction: Reduction = ..., return_grad:
    bool = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> Any: ...

@overload
def dpo_loss(
    policy_chosen_logps: npt.ArrayLike, policy_rejected_logps: npt.ArrayLike, ref_chosen_logps: npt.ArrayLike
    | None = ..., ref_rejected_logps: npt.ArrayLike | None = ..., *, beta: float = ..., label_smoothing: float
    = ..., loss_type: str = ..., reference_free: bool = ..., f_divergence_type: str = ...,
    f_alpha_divergence_coef: float = ..., discopop_tau: float = ..., reduction: Literal["mean", "sum"] = ...,
    return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array
    | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> float: ...
@overload
def dpo_loss(
    policy_chosen_logps: npt.ArrayLike, policy_rejected_logps: npt.ArrayLike, ref_chosen_logps: npt.ArrayLike
    | None = ..., ref_rejected_logps: npt.ArrayLike | None = ..., *, beta: float = ..., label_smoothing: float
    = ..., loss_type: str = ..., reference_free: bool = ..., f_divergence_type: str = ...,
    f_alpha_divergence_coef: float = ..., discopop_tau: float = ..., reduction: Literal["sum_and_count"],
    return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array
    | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def dpo_loss(
    policy_chosen_logps: npt.ArrayLike, policy_rejected_logps: npt.ArrayLike, ref_chosen_logps: npt.ArrayLike
    | None = ..., ref_rejected_logps: npt.ArrayLike | None = ..., *, beta: float = ..., label_smoothing: float
    = ..., loss_type: str = ..., reference_free: bool = ..., f_divergence_type: str = ...,
    f_alpha_divergence_coef: float = ..., discopop_tau: float = ..., reduction: Literal["none"], return_grad:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] |
    None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def dpo_loss(
    policy_chosen_logps: npt.ArrayLike, policy_rejected_logps: npt.ArrayLike, ref_chosen_logps: npt.ArrayLike
    | None = ..., ref_rejected_logps: npt.ArrayLike | None = ..., *, beta: float = ..., label_smoothing: float
    = ..., loss_type: str = ..., reference_free: bool = ..., f_divergence_type: str = ...,
    f_alpha_divergence_coef: float = ..., discopop_tau: float = ..., reduction: Literal["mean", "sum"] = ...,
    return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array |
    None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[float, PairGradients]: ...
@overload
def dpo_loss(
    policy_chosen_logps: npt.ArrayLike, policy_rejected_logps: npt.ArrayLike, ref_chosen_logps: npt.ArrayLike
    | None = ..., ref_rejected_logps: npt.ArrayLike | None = ..., *, beta: float = ..., label_smoothing: float
    = ..., loss_type: str = ..., reference_free: bool = ..., f_divergence_type: str = ...,
    f_alpha_divergence_coef: float = ..., discopop_tau: float = ..., reduction: Literal["sum_and_count"],
    return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array |
    None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], PairGradients]: ...
@overload
def dpo_loss(
    policy_chosen_logps: npt.ArrayLike, policy_rejected_logps: npt.ArrayLike, ref_chosen_logps: npt.ArrayLike
    | None = ..., ref_rejected_logps: npt.ArrayLike | None = ..., *, beta: float = ..., label_smoothing: float
    = ..., loss_type: str = ..., reference_free: bool = ..., f_divergence_type: str = ...,
    f_alpha_divergence_coef: float = ..., discopop_tau: float = ..., reduction: Literal["none"], return_grad:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] | None =
    ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[Array, PairGradients]: ...
@overload
def dpo_loss(
    policy_chosen_logps: npt.ArrayLike, policy_rejected_logps: npt.ArrayLike, ref_chosen_logps: npt.ArrayLike
    | None = ..., ref_rejected_logps: npt.ArrayLike | None = ..., *, beta: float = ..., label_smoothing: float
    = ..., loss_type: str = ..., reference_free: bool = ..., f_divergence_type: str = ...,
    f_alpha_divergence_coef: float = ..., discopop_tau: float = ..., reduction: Reduction = ..., return_grad:
    bool = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] | None = ...,
    accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def elastic_net_penalty(
    params: npt.ArrayLike, l1: float, l2: float, *, reduction: Literal["mean", "sum"] = ..., return_grad:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> float: ...
@overload
def elastic_net_penalty(
    params: npt.ArrayLike, l1: float, l2: float, *, reduction: Literal["sum_and_count"], return_grad:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def elastic_net_penalty(
    params: npt.ArrayLike, l1: float, l2: float, *, reduction: Literal["none"], return_grad: Literal[False] =
    ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> Array: ...
@overload
def elastic_net_penalty(
    params: npt.ArrayLike, l1: float, l2: float, *, reduction: Literal["mean", "sum"] = ..., return_grad:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def elastic_net_penalty(
    params: npt.ArrayLike, l1: float, l2: float, *, reduction: Literal["sum_and_count"], return_grad:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def elastic_net_penalty(
    params: npt.ArrayLike, l1: float, l2: float, *, reduction: Literal["none"], return_grad: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[Array, Array]: ...
@overload
def elastic_net_penalty(
    params: npt.ArrayLike, l1: float, l2: float, *, reduction: Reduction = ..., return_grad: bool = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> Any: ...

@overload
def entropy(
    logits: npt.ArrayLike, *, axis: int = ..., temperature: float = ..., reduction: Literal["mean", "sum"],
    return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> float: ...
@overload
def entropy(
    logits: npt.ArrayLike, *, axis: int = ..., temperature: float = ..., reduction: Literal["sum_and_count"],
    return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def entropy(
    logits: npt.ArrayLike, *, axis: int = ..., temperature: float = ..., reduction: Literal["none"] = ...,
    return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def entropy(
    logits: npt.ArrayLike, *, axis: int = ..., temperature: float = ..., reduction: Literal["mean", "sum"],
    return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate:
    bool = ..., num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def entropy(
    logits: npt.ArrayLike, *, axis: int = ..., temperature: float = ..., reduction: Literal["sum_and_count"],
    return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate:
    bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def entropy(
    logits: npt.ArrayLike, *, axis: int = ..., temperature: float = ..., reduction: Literal["none"] = ...,
    return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate:
    bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def entropy(
    logits: npt.ArrayLike, *, axis: int = ..., temperature: float = ..., reduction: Reduction = ...,
    return_grad: bool = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate:
    bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def epsilon_insensitive_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, epsilon: float = ..., weight: npt.ArrayLike | None = ...,
    reduction: Literal["mean", "sum"] = ..., return_grad: Literal[False] = ..., grad_output: npt.ArrayLike |
    None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> float: ...
@overload
def epsilon_insensitive_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, epsilon: float = ..., weight: npt.ArrayLike | None = ...,
    reduction: Literal["sum_and_count"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None
    = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def epsilon_insensitive_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, epsilon: float = ..., weight: npt.ArrayLike | None = ...,
    reduction: Literal["none"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ...,
    out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def epsilon_insensitive_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, epsilon: float = ..., weight: npt.ArrayLike | None = ...,
    reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True], grad_output: npt.ArrayLike | None =
    ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def epsilon_insensitive_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, epsilon: float = ..., weight: npt.ArrayLike | None = ...,
    reduction: Literal["sum_and_count"], return_grad: Literal[True], grad_output: npt.ArrayLike | None = ...,
    out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def epsilon_insensitive_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, epsilon: float = ..., weight: npt.ArrayLike | None = ...,
    reduction: Literal["none"], return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out:
    Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def epsilon_insensitive_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, epsilon: float = ..., weight: npt.ArrayLike | None = ...,
    reduction: Reduction = ..., return_grad: bool = ..., grad_output: npt.ArrayLike | None = ..., out: Array |
    None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def gamma_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[False] = ..., return_hessian:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> float: ...
@overload
def gamma_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["sum_and_count"], return_grad: Literal[False] = ..., return_hessian:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def gamma_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["none"], return_grad: Literal[False] = ..., return_hessian: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> Array: ...
@overload
def gamma_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True], return_hessian: Literal[False] =
    ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def gamma_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["sum_and_count"], return_grad: Literal[True], return_hessian: Literal[False] =
    ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def gamma_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["none"], return_grad: Literal[True], return_hessian: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[Array, Array]: ...
@overload
def gamma_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True], return_hessian: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, Array, Array]: ...
@overload
def gamma_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["sum_and_count"], return_grad: Literal[True], return_hessian: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[tuple[float, float], Array, Array]: ...
@overload
def gamma_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["none"], return_grad: Literal[True], return_hessian: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array, Array]: ...
@overload
def gamma_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Reduction = ..., return_grad: bool = ..., return_hessian: bool = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def gaussian_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, var: npt.ArrayLike, *, weight: npt.ArrayLike | None = ...,
    full: bool = ..., eps: float = ..., check_domain: bool = ..., reduction: Literal["mean", "sum"] = ...,
    return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array
    | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> float: ...
@overload
def gaussian_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, var: npt.ArrayLike, *, weight: npt.ArrayLike | None = ...,
    full: bool = ..., eps: float = ..., check_domain: bool = ..., reduction: Literal["sum_and_count"],
    return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array
    | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def gaussian_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, var: npt.ArrayLike, *, weight: npt.ArrayLike | None = ...,
    full: bool = ..., eps: float = ..., check_domain: bool = ..., reduction: Literal["none"], return_grad:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] |
    None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def gaussian_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, var: npt.ArrayLike, *, weight: npt.ArrayLike | None = ...,
    full: bool = ..., eps: float = ..., check_domain: bool = ..., reduction: Literal["mean", "sum"] = ...,
    return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array |
    None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[float, GaussianNLLGradients]: ...
@overload
def gaussian_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, var: npt.ArrayLike, *, weight: npt.ArrayLike | None = ...,
    full: bool = ..., eps: float = ..., check_domain: bool = ..., reduction: Literal["sum_and_count"],
    return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array |
    None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], GaussianNLLGradients]: ...
@overload
def gaussian_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, var: npt.ArrayLike, *, weight: npt.ArrayLike | None = ...,
    full: bool = ..., eps: float = ..., check_domain: bool = ..., reduction: Literal["none"], return_grad:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] | None =
    ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[Array, GaussianNLLGradients]: ...
@overload
def gaussian_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, var: npt.ArrayLike, *, weight: npt.ArrayLike | None = ...,
    full: bool = ..., eps: float = ..., check_domain: bool = ..., reduction: Reduction = ..., return_grad:
    bool = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] | None = ...,
    accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def generalized_cross_entropy(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., q: float = ..., weight: npt.ArrayLike |
    None = ..., ignore_index: int = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[False]
    = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> float: ...
@overload
def generalized_cross_entropy(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., q: float = ..., weight: npt.ArrayLike |
    None = ..., ignore_index: int = ..., reduction: Literal["sum_and_count"], return_grad: Literal[False] =
    ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def generalized_cross_entropy(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., q: float = ..., weight: npt.ArrayLike |
    None = ..., ignore_index: int = ..., reduction: Literal["none"], return_grad: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> Array: ...
@overload
def generalized_cross_entropy(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., q: float = ..., weight: npt.ArrayLike |
    None = ..., ignore_index: int = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, Array]: ...
@overload
def generalized_cross_entropy(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., q: float = ..., weight: npt.ArrayLike |
    None = ..., ignore_index: int = ..., reduction: Literal["sum_and_count"], return_grad: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def generalized_cross_entropy(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., q: float = ..., weight: npt.ArrayLike |
    None = ..., ignore_index: int = ..., reduction: Literal["none"], return_grad: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def generalized_cross_entropy(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., q: float = ..., weight: npt.ArrayLike |
    None = ..., ignore_index: int = ..., reduction: Reduction = ..., return_grad: bool = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def grpo_loss(
    logps: npt.ArrayLike, old_logps: npt.ArrayLike, advantages: npt.ArrayLike, *, mask: npt.ArrayLike | None =
    ..., ref_logps: npt.ArrayLike | None = ..., loss_type: str = ..., epsilon_low: float = ..., epsilon_high:
    float | None = ..., delta: float | None = ..., beta: float = ..., importance_sampling_level:
    Literal['token', 'sequence'] = ..., max_completion_length: float | None = ..., num_items: float | None =
    ..., sapo_temperature_pos: float = ..., sapo_temperature_neg: float = ..., reduction: Literal["mean",
    "sum"] = ..., return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array |
    None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> float: ...
@overload
def grpo_loss(
    logps: npt.ArrayLike, old_logps: npt.ArrayLike, advantages: npt.ArrayLike, *, mask: npt.ArrayLike | None =
    ..., ref_logps: npt.ArrayLike | None = ..., loss_type: str = ..., epsilon_low: float = ..., epsilon_high:
    float | None = ..., delta: float | None = ..., beta: float = ..., importance_sampling_level:
    Literal['token', 'sequence'] = ..., max_completion_length: float | None = ..., num_items: float | None =
    ..., sapo_temperature_pos: float = ..., sapo_temperature_neg: float = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out:
    Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def grpo_loss(
    logps: npt.ArrayLike, old_logps: npt.ArrayLike, advantages: npt.ArrayLike, *, mask: npt.ArrayLike | None =
    ..., ref_logps: npt.ArrayLike | None = ..., loss_type: str = ..., epsilon_low: float = ..., epsilon_high:
    float | None = ..., delta: float | None = ..., beta: float = ..., importance_sampling_level:
    Literal['token', 'sequence'] = ..., max_completion_length: float | None = ..., num_items: float | None =
    ..., sapo_temperature_pos: float = ..., sapo_temperature_neg: float = ..., reduction: Literal["none"],
    return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def grpo_loss(
    logps: npt.ArrayLike, old_logps: npt.ArrayLike, advantages: npt.ArrayLike, *, mask: npt.ArrayLike | None =
    ..., ref_logps: npt.ArrayLike | None = ..., loss_type: str = ..., epsilon_low: float = ..., epsilon_high:
    float | None = ..., delta: float | None = ..., beta: float = ..., importance_sampling_level:
    Literal['token', 'sequence'] = ..., max_completion_length: float | None = ..., num_items: float | None =
    ..., sapo_temperature_pos: float = ..., sapo_temperature_neg: float = ..., reduction: Literal["mean",
    "sum"] = ..., return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None =
    ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def grpo_loss(
    logps: npt.ArrayLike, old_logps: npt.ArrayLike, advantages: npt.ArrayLike, *, mask: npt.ArrayLike | None =
    ..., ref_logps: npt.ArrayLike | None = ..., loss_type: str = ..., epsilon_low: float = ..., epsilon_high:
    float | None = ..., delta: float | None = ..., beta: float = ..., importance_sampling_level:
    Literal['token', 'sequence'] = ..., max_completion_length: float | None = ..., num_items: float | None =
    ..., sapo_temperature_pos: float = ..., sapo_temperature_neg: float = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array
    | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def grpo_loss(
    logps: npt.ArrayLike, old_logps: npt.ArrayLike, advantages: npt.ArrayLike, *, mask: npt.ArrayLike | None =
    ..., ref_logps: npt.ArrayLike | None = ..., loss_type: str = ..., epsilon_low: float = ..., epsilon_high:
    float | None = ..., delta: float | None = ..., beta: float = ..., importance_sampling_level:
    Literal['token', 'sequence'] = ..., max_completion_length: float | None = ..., num_items: float | None =
    ..., sapo_temperature_pos: float = ..., sapo_temperature_neg: float = ..., reduction: Literal["none"],
    return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate:
    bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def grpo_loss(
    logps: npt.ArrayLike, old_logps: npt.ArrayLike, advantages: npt.ArrayLike, *, mask: npt.ArrayLike | None =
    ..., ref_logps: npt.ArrayLike | None = ..., loss_type: str = ..., epsilon_low: float = ..., epsilon_high:
    float | None = ..., delta: float | None = ..., beta: float = ..., importance_sampling_level:
    Literal['token', 'sequence'] = ..., max_completion_length: float | None = ..., num_items: float | None =
    ..., sapo_temperature_pos: float = ..., sapo_temperature_neg: float = ..., reduction: Reduction = ...,
    return_grad: bool = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate:
    bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def hinge_embedding_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., weight: npt.ArrayLike | None = ...,
    check_domain: bool = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> float: ...
@overload
def hinge_embedding_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., weight: npt.ArrayLike | None = ...,
    check_domain: bool = ..., reduction: Literal["sum_and_count"], return_grad: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, float]: ...
@overload
def hinge_embedding_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., weight: npt.ArrayLike | None = ...,
    check_domain: bool = ..., reduction: Literal["none"], return_grad: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def hinge_embedding_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., weight: npt.ArrayLike | None = ...,
    check_domain: bool = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, Array]: ...
@overload
def hinge_embedding_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., weight: npt.ArrayLike | None = ...,
    check_domain: bool = ..., reduction: Literal["sum_and_count"], return_grad: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def hinge_embedding_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., weight: npt.ArrayLike | None = ...,
    check_domain: bool = ..., reduction: Literal["none"], return_grad: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def hinge_embedding_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., weight: npt.ArrayLike | None = ...,
    check_domain: bool = ..., reduction: Reduction = ..., return_grad: bool = ..., grad_output: npt.ArrayLike
    | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def hinge_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., weight: npt.ArrayLike | None = ...,
    check_domain: bool = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> float: ...
@overload
def hinge_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., weight: npt.ArrayLike | None = ...,
    check_domain: bool = ..., reduction: Literal["sum_and_count"], return_grad: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, float]: ...
@overload
def hinge_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., weight: npt.ArrayLike | None = ...,
    check_domain: bool = ..., reduction: Literal["none"], return_grad: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def hinge_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., weight: npt.ArrayLike | None = ...,
    check_domain: bool = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, Array]: ...
@overload
def hinge_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., weight: npt.ArrayLike | None = ...,
    check_domain: bool = ..., reduction: Literal["sum_and_count"], return_grad: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def hinge_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., weight: npt.ArrayLike | None = ...,
    check_domain: bool = ..., reduction: Literal["none"], return_grad: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def hinge_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., weight: npt.ArrayLike | None = ...,
    check_domain: bool = ..., reduction: Reduction = ..., return_grad: bool = ..., grad_output: npt.ArrayLike
    | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def huber_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, delta: float = ..., weight: npt.ArrayLike | None = ...,
    reduction: Literal["mean", "sum"] = ..., return_grad: Literal[False] = ..., return_hessian: Literal[False]
    = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> float: ...
@overload
def huber_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, delta: float = ..., weight: npt.ArrayLike | None = ...,
    reduction: Literal["sum_and_count"], return_grad: Literal[False] = ..., return_hessian: Literal[False] =
    ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def huber_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, delta: float = ..., weight: npt.ArrayLike | None = ...,
    reduction: Literal["none"], return_grad: Literal[False] = ..., return_hessian: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> Array: ...
@overload
def huber_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, delta: float = ..., weight: npt.ArrayLike | None = ...,
    reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True], return_hessian: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, Array]: ...
@overload
def huber_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, delta: float = ..., weight: npt.ArrayLike | None = ...,
    reduction: Literal["sum_and_count"], return_grad: Literal[True], return_hessian: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def huber_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, delta: float = ..., weight: npt.ArrayLike | None = ...,
    reduction: Literal["none"], return_grad: Literal[True], return_hessian: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def huber_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, delta: float = ..., weight: npt.ArrayLike | None = ...,
    reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True], return_hessian: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, Array, Array]: ...
@overload
def huber_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, delta: float = ..., weight: npt.ArrayLike | None = ...,
    reduction: Literal["sum_and_count"], return_grad: Literal[True], return_hessian: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[tuple[float, float], Array, Array]: ...
@overload
def huber_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, delta: float = ..., weight: npt.ArrayLike | None = ...,
    reduction: Literal["none"], return_grad: Literal[True], return_hessian: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array, Array]: ...
@overload
def huber_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, delta: float = ..., weight: npt.ArrayLike | None = ...,
    reduction: Reduction = ..., return_grad: bool = ..., return_hessian: bool = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def info_nce_loss(
    query: npt.ArrayLike, key: npt.ArrayLike, *, target: npt.ArrayLike | None = ..., temperature: float = ...,
    symmetric: bool = ..., normalize: bool = ..., memory_budget: int | None = ..., reduction: Literal["mean",
    "sum"] = ..., return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array
    | None, Array | None, None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int |
    None = ...
) -> float: ...
@overload
def info_nce_loss(
    query: npt.ArrayLike, key: npt.ArrayLike, *, target: npt.ArrayLike | None = ..., temperature: float = ...,
    symmetric: bool = ..., normalize: bool = ..., memory_budget: int | None = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out:
    tuple[Array | None, Array | None, None] | None = ..., accumulate: bool | tuple[bool, ...] = ...,
    num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def info_nce_loss(
    query: npt.ArrayLike, key: npt.ArrayLike, *, target: npt.ArrayLike | None = ..., temperature: float = ...,
    symmetric: bool = ..., normalize: bool = ..., memory_budget: int | None = ..., reduction: Literal["none"],
    return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array
    | None, None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def info_nce_loss(
    query: npt.ArrayLike, key: npt.ArrayLike, *, target: npt.ArrayLike | None = ..., temperature: float = ...,
    symmetric: bool = ..., normalize: bool = ..., memory_budget: int | None = ..., reduction: Literal["mean",
    "sum"] = ..., return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array |
    None, Array | None, None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None
    = ...
) -> tuple[float, InfoNCEGradients]: ...
@overload
def info_nce_loss(
    query: npt.ArrayLike, key: npt.ArrayLike, *, target: npt.ArrayLike | None = ..., temperature: float = ...,
    symmetric: bool = ..., normalize: bool = ..., memory_budget: int | None = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out:
    tuple[Array | None, Array | None, None] | None = ..., accumulate: bool | tuple[bool, ...] = ...,
    num_threads: int | None = ...
) -> tuple[tuple[float, float], InfoNCEGradients]: ...
@overload
def info_nce_loss(
    query: npt.ArrayLike, key: npt.ArrayLike, *, target: npt.ArrayLike | None = ..., temperature: float = ...,
    symmetric: bool = ..., normalize: bool = ..., memory_budget: int | None = ..., reduction: Literal["none"],
    return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array |
    None, None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[Array, InfoNCEGradients]: ...
@overload
def info_nce_loss(
    query: npt.ArrayLike, key: npt.ArrayLike, *, target: npt.ArrayLike | None = ..., temperature: float = ...,
    symmetric: bool = ..., normalize: bool = ..., memory_budget: int | None = ..., reduction: Reduction = ...,
    return_grad: bool = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None,
    None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def js_div_with_logits(
    student_logits: npt.ArrayLike, teacher_logits: npt.ArrayLike, *, axis: int = ..., beta: float = ...,
    temperature: float = ..., mask: npt.ArrayLike | None = ..., teacher_grad: Literal[False] = ..., reduction:
    Literal["mean", "sum"] = ..., return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ...,
    out: Any = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> float: ...
@overload
def js_div_with_logits(
    student_logits: npt.ArrayLike, teacher_logits: npt.ArrayLike, *, axis: int = ..., beta: float = ...,
    temperature: float = ..., mask: npt.ArrayLike | None = ..., teacher_grad: Literal[False] = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out:
    Any = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def js_div_with_logits(
    student_logits: npt.ArrayLike, teacher_logits: npt.ArrayLike, *, axis: int = ..., beta: float = ...,
    temperature: float = ..., mask: npt.ArrayLike | None = ..., teacher_grad: Literal[False] = ..., reduction:
    Literal["none"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Any =
    ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def js_div_with_logits(
    student_logits: npt.ArrayLike, teacher_logits: npt.ArrayLike, *, axis: int = ..., beta: float = ...,
    temperature: float = ..., mask: npt.ArrayLike | None = ..., teacher_grad: Literal[False] = ..., reduction:
    Literal["mean", "sum"] = ..., return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out:
    Any = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def js_div_with_logits(
    student_logits: npt.ArrayLike, teacher_logits: npt.ArrayLike, *, axis: int = ..., beta: float = ...,
    temperature: float = ..., mask: npt.ArrayLike | None = ..., teacher_grad: Literal[False] = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Any =
    ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def js_div_with_logits(
    student_logits: npt.ArrayLike, teacher_logits: npt.ArrayLike, *, axis: int = ..., beta: float = ...,
    temperature: float = ..., mask: npt.ArrayLike | None = ..., teacher_grad: Literal[False] = ..., reduction:
    Literal["none"], return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Any = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def js_div_with_logits(
    student_logits: npt.ArrayLike, teacher_logits: npt.ArrayLike, *, axis: int = ..., beta: float = ...,
    temperature: float = ..., mask: npt.ArrayLike | None = ..., teacher_grad: Literal[True], reduction:
    Literal["mean", "sum"] = ..., return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out:
    Any = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, DivergenceGradients]: ...
@overload
def js_div_with_logits(
    student_logits: npt.ArrayLike, teacher_logits: npt.ArrayLike, *, axis: int = ..., beta: float = ...,
    temperature: float = ..., mask: npt.ArrayLike | None = ..., teacher_grad: Literal[True], reduction:
    Literal["sum_and_count"], return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Any =
    ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], DivergenceGradients]: ...
@overload
def js_div_with_logits(
    student_logits: npt.ArrayLike, teacher_logits: npt.ArrayLike, *, axis: int = ..., beta: float = ...,
    temperature: float = ..., mask: npt.ArrayLike | None = ..., teacher_grad: Literal[True], reduction:
    Literal["none"], return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Any = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, DivergenceGradients]: ...
@overload
def js_div_with_logits(
    student_logits: npt.ArrayLike, teacher_logits: npt.ArrayLike, *, axis: int = ..., beta: float = ...,
    temperature: float = ..., mask: npt.ArrayLike | None = ..., teacher_grad: bool = ..., reduction: Reduction
    = ..., return_grad: bool = ..., grad_output: npt.ArrayLike | None = ..., out: Any = ..., accumulate: bool
    = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def kl_div(
    input: npt.ArrayLike, target: npt.ArrayLike, *, log_target: bool = ..., reduction: Literal["mean", "sum",
    "batchmean"] = ..., return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array
    | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> float: ...
@overload
def kl_div(
    input: npt.ArrayLike, target: npt.ArrayLike, *, log_target: bool = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out:
    Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def kl_div(
    input: npt.ArrayLike, target: npt.ArrayLike, *, log_target: bool = ..., reduction: Literal["none"],
    return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def kl_div(
    input: npt.ArrayLike, target: npt.ArrayLike, *, log_target: bool = ..., reduction: Literal["mean", "sum",
    "batchmean"] = ..., return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None
    = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def kl_div(
    input: npt.ArrayLike, target: npt.ArrayLike, *, log_target: bool = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array
    | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def kl_div(
    input: npt.ArrayLike, target: npt.ArrayLike, *, log_target: bool = ..., reduction: Literal["none"],
    return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate:
    bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def kl_div(
    input: npt.ArrayLike, target: npt.ArrayLike, *, log_target: bool = ..., reduction: Literal['mean',
    'batchmean', 'sum', 'none', 'sum_and_count'] = ..., return_grad: bool = ..., grad_output: npt.ArrayLike |
    None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def kl_div_with_logits(
    student_logits: npt.ArrayLike, teacher_logits: npt.ArrayLike, *, axis: int = ..., temperature: float =
    ..., mask: npt.ArrayLike | None = ..., teacher_grad: Literal[False] = ..., reduction: Literal["mean",
    "sum"] = ..., return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Any = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> float: ...
@overload
def kl_div_with_logits(
    student_logits: npt.ArrayLike, teacher_logits: npt.ArrayLike, *, axis: int = ..., temperature: float =
    ..., mask: npt.ArrayLike | None = ..., teacher_grad: Literal[False] = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out:
    Any = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def kl_div_with_logits(
    student_logits: npt.ArrayLike, teacher_logits: npt.ArrayLike, *, axis: int = ..., temperature: float =
    ..., mask: npt.ArrayLike | None = ..., teacher_grad: Literal[False] = ..., reduction: Literal["none"],
    return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Any = ..., accumulate:
    bool = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def kl_div_with_logits(
    student_logits: npt.ArrayLike, teacher_logits: npt.ArrayLike, *, axis: int = ..., temperature: float =
    ..., mask: npt.ArrayLike | None = ..., teacher_grad: Literal[False] = ..., reduction: Literal["mean",
    "sum"] = ..., return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Any = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def kl_div_with_logits(
    student_logits: npt.ArrayLike, teacher_logits: npt.ArrayLike, *, axis: int = ..., temperature: float =
    ..., mask: npt.ArrayLike | None = ..., teacher_grad: Literal[False] = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Any =
    ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def kl_div_with_logits(
    student_logits: npt.ArrayLike, teacher_logits: npt.ArrayLike, *, axis: int = ..., temperature: float =
    ..., mask: npt.ArrayLike | None = ..., teacher_grad: Literal[False] = ..., reduction: Literal["none"],
    return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Any = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def kl_div_with_logits(
    student_logits: npt.ArrayLike, teacher_logits: npt.ArrayLike, *, axis: int = ..., temperature: float =
    ..., mask: npt.ArrayLike | None = ..., teacher_grad: Literal[True], reduction: Literal["mean", "sum"] =
    ..., return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Any = ..., accumulate: bool
    = ..., num_threads: int | None = ...
) -> tuple[float, DivergenceGradients]: ...
@overload
def kl_div_with_logits(
    student_logits: npt.ArrayLike, teacher_logits: npt.ArrayLike, *, axis: int = ..., temperature: float =
    ..., mask: npt.ArrayLike | None = ..., teacher_grad: Literal[True], reduction: Literal["sum_and_count"],
    return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Any = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], DivergenceGradients]: ...
@overload
def kl_div_with_logits(
    student_logits: npt.ArrayLike, teacher_logits: npt.ArrayLike, *, axis: int = ..., temperature: float =
    ..., mask: npt.ArrayLike | None = ..., teacher_grad: Literal[True], reduction: Literal["none"],
    return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Any = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> tuple[Array, DivergenceGradients]: ...
@overload
def kl_div_with_logits(
    student_logits: npt.ArrayLike, teacher_logits: npt.ArrayLike, *, axis: int = ..., temperature: float =
    ..., mask: npt.ArrayLike | None = ..., teacher_grad: bool = ..., reduction: Reduction = ..., return_grad:
    bool = ..., grad_output: npt.ArrayLike | None = ..., out: Any = ..., accumulate: bool = ..., num_threads:
    int | None = ...
) -> Any: ...

@overload
def kl_penalty(
    logps: npt.ArrayLike, ref_logps: npt.ArrayLike, *, estimator: Literal['k1', 'k2', 'k3'] = ..., mask:
    npt.ArrayLike | None = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> float: ...
@overload
def kl_penalty(
    logps: npt.ArrayLike, ref_logps: npt.ArrayLike, *, estimator: Literal['k1', 'k2', 'k3'] = ..., mask:
    npt.ArrayLike | None = ..., reduction: Literal["sum_and_count"], return_grad: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, float]: ...
@overload
def kl_penalty(
    logps: npt.ArrayLike, ref_logps: npt.ArrayLike, *, estimator: Literal['k1', 'k2', 'k3'] = ..., mask:
    npt.ArrayLike | None = ..., reduction: Literal["none"], return_grad: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def kl_penalty(
    logps: npt.ArrayLike, ref_logps: npt.ArrayLike, *, estimator: Literal['k1', 'k2', 'k3'] = ..., mask:
    npt.ArrayLike | None = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, Array]: ...
@overload
def kl_penalty(
    logps: npt.ArrayLike, ref_logps: npt.ArrayLike, *, estimator: Literal['k1', 'k2', 'k3'] = ..., mask:
    npt.ArrayLike | None = ..., reduction: Literal["sum_and_count"], return_grad: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def kl_penalty(
    logps: npt.ArrayLike, ref_logps: npt.ArrayLike, *, estimator: Literal['k1', 'k2', 'k3'] = ..., mask:
    npt.ArrayLike | None = ..., reduction: Literal["none"], return_grad: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def kl_penalty(
    logps: npt.ArrayLike, ref_logps: npt.ArrayLike, *, estimator: Literal['k1', 'k2', 'k3'] = ..., mask:
    npt.ArrayLike | None = ..., reduction: Reduction = ..., return_grad: bool = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def kto_loss(
    policy_logps: npt.ArrayLike, ref_logps: npt.ArrayLike, labels: npt.ArrayLike, *, kl: float = ..., beta:
    float = ..., desirable_weight: float = ..., undesirable_weight: float = ..., loss_type: Literal['kto',
    'apo_zero_unpaired'] = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> float: ...
@overload
def kto_loss(
    policy_logps: npt.ArrayLike, ref_logps: npt.ArrayLike, labels: npt.ArrayLike, *, kl: float = ..., beta:
    float = ..., desirable_weight: float = ..., undesirable_weight: float = ..., loss_type: Literal['kto',
    'apo_zero_unpaired'] = ..., reduction: Literal["sum_and_count"], return_grad: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, float]: ...
@overload
def kto_loss(
    policy_logps: npt.ArrayLike, ref_logps: npt.ArrayLike, labels: npt.ArrayLike, *, kl: float = ..., beta:
    float = ..., desirable_weight: float = ..., undesirable_weight: float = ..., loss_type: Literal['kto',
    'apo_zero_unpaired'] = ..., reduction: Literal["none"], return_grad: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def kto_loss(
    policy_logps: npt.ArrayLike, ref_logps: npt.ArrayLike, labels: npt.ArrayLike, *, kl: float = ..., beta:
    float = ..., desirable_weight: float = ..., undesirable_weight: float = ..., loss_type: Literal['kto',
    'apo_zero_unpaired'] = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, Array]: ...
@overload
def kto_loss(
    policy_logps: npt.ArrayLike, ref_logps: npt.ArrayLike, labels: npt.ArrayLike, *, kl: float = ..., beta:
    float = ..., desirable_weight: float = ..., undesirable_weight: float = ..., loss_type: Literal['kto',
    'apo_zero_unpaired'] = ..., reduction: Literal["sum_and_count"], return_grad: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def kto_loss(
    policy_logps: npt.ArrayLike, ref_logps: npt.ArrayLike, labels: npt.ArrayLike, *, kl: float = ..., beta:
    float = ..., desirable_weight: float = ..., undesirable_weight: float = ..., loss_type: Literal['kto',
    'apo_zero_unpaired'] = ..., reduction: Literal["none"], return_grad: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def kto_loss(
    policy_logps: npt.ArrayLike, ref_logps: npt.ArrayLike, labels: npt.ArrayLike, *, kl: float = ..., beta:
    float = ..., desirable_weight: float = ..., undesirable_weight: float = ..., loss_type: Literal['kto',
    'apo_zero_unpaired'] = ..., reduction: Reduction = ..., return_grad: bool = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def l1_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., reduction:
    Literal["mean", "sum"] = ..., return_grad: Literal[False] = ..., return_hessian: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> float: ...
@overload
def l1_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[False] = ..., return_hessian: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, float]: ...
@overload
def l1_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., reduction:
    Literal["none"], return_grad: Literal[False] = ..., return_hessian: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def l1_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., reduction:
    Literal["mean", "sum"] = ..., return_grad: Literal[True], return_hessian: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, Array]: ...
@overload
def l1_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[True], return_hessian: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def l1_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., reduction:
    Literal["none"], return_grad: Literal[True], return_hessian: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def l1_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., reduction:
    Literal["mean", "sum"] = ..., return_grad: Literal[True], return_hessian: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, Array, Array]: ...
@overload
def l1_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[True], return_hessian: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array, Array]: ...
@overload
def l1_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., reduction:
    Literal["none"], return_grad: Literal[True], return_hessian: Literal[True], grad_output: npt.ArrayLike |
    None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array, Array]: ...
@overload
def l1_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., reduction: Reduction =
    ..., return_grad: bool = ..., return_hessian: bool = ..., grad_output: npt.ArrayLike | None = ..., out:
    Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def l1_penalty(
    params: npt.ArrayLike, strength: float, *, reduction: Literal["mean", "sum"] = ..., return_grad:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> float: ...
@overload
def l1_penalty(
    params: npt.ArrayLike, strength: float, *, reduction: Literal["sum_and_count"], return_grad:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def l1_penalty(
    params: npt.ArrayLike, strength: float, *, reduction: Literal["none"], return_grad: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> Array: ...
@overload
def l1_penalty(
    params: npt.ArrayLike, strength: float, *, reduction: Literal["mean", "sum"] = ..., return_grad:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def l1_penalty(
    params: npt.ArrayLike, strength: float, *, reduction: Literal["sum_and_count"], return_grad:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def l1_penalty(
    params: npt.ArrayLike, strength: float, *, reduction: Literal["none"], return_grad: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[Array, Array]: ...
@overload
def l1_penalty(
    params: npt.ArrayLike, strength: float, *, reduction: Reduction = ..., return_grad: bool = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> Any: ...

@overload
def l2_penalty(
    params: npt.ArrayLike, strength: float, *, reduction: Literal["mean", "sum"] = ..., return_grad:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> float: ...
@overload
def l2_penalty(
    params: npt.ArrayLike, strength: float, *, reduction: Literal["sum_and_count"], return_grad:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def l2_penalty(
    params: npt.ArrayLike, strength: float, *, reduction: Literal["none"], return_grad: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> Array: ...
@overload
def l2_penalty(
    params: npt.ArrayLike, strength: float, *, reduction: Literal["mean", "sum"] = ..., return_grad:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def l2_penalty(
    params: npt.ArrayLike, strength: float, *, reduction: Literal["sum_and_count"], return_grad:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def l2_penalty(
    params: npt.ArrayLike, strength: float, *, reduction: Literal["none"], return_grad: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[Array, Array]: ...
@overload
def l2_penalty(
    params: npt.ArrayLike, strength: float, *, reduction: Reduction = ..., return_grad: bool = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> Any: ...

@overload
def lambda_rank_loss(
    scores: npt.ArrayLike, relevance: npt.ArrayLike, group_sizes: npt.ArrayLike | None = ..., *, sigmoid:
    float = ..., truncation_level: int = ..., label_gain: npt.ArrayLike | None = ..., normalize: bool = ...,
    reduction: Literal["mean", "sum"] = ..., return_grad: Literal[False] = ..., return_hessian: Literal[False]
    = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> float: ...
@overload
def lambda_rank_loss(
    scores: npt.ArrayLike, relevance: npt.ArrayLike, group_sizes: npt.ArrayLike | None = ..., *, sigmoid:
    float = ..., truncation_level: int = ..., label_gain: npt.ArrayLike | None = ..., normalize: bool = ...,
    reduction: Literal["sum_and_count"], return_grad: Literal[False] = ..., return_hessian: Literal[False] =
    ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def lambda_rank_loss(
    scores: npt.ArrayLike, relevance: npt.ArrayLike, group_sizes: npt.ArrayLike | None = ..., *, sigmoid:
    float = ..., truncation_level: int = ..., label_gain: npt.ArrayLike | None = ..., normalize: bool = ...,
    reduction: Literal["none"], return_grad: Literal[False] = ..., return_hessian: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> Array: ...
@overload
def lambda_rank_loss(
    scores: npt.ArrayLike, relevance: npt.ArrayLike, group_sizes: npt.ArrayLike | None = ..., *, sigmoid:
    float = ..., truncation_level: int = ..., label_gain: npt.ArrayLike | None = ..., normalize: bool = ...,
    reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True], return_hessian: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, Array]: ...
@overload
def lambda_rank_loss(
    scores: npt.ArrayLike, relevance: npt.ArrayLike, group_sizes: npt.ArrayLike | None = ..., *, sigmoid:
    float = ..., truncation_level: int = ..., label_gain: npt.ArrayLike | None = ..., normalize: bool = ...,
    reduction: Literal["sum_and_count"], return_grad: Literal[True], return_hessian: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def lambda_rank_loss(
    scores: npt.ArrayLike, relevance: npt.ArrayLike, group_sizes: npt.ArrayLike | None = ..., *, sigmoid:
    float = ..., truncation_level: int = ..., label_gain: npt.ArrayLike | None = ..., normalize: bool = ...,
    reduction: Literal["none"], return_grad: Literal[True], return_hessian: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def lambda_rank_loss(
    scores: npt.ArrayLike, relevance: npt.ArrayLike, group_sizes: npt.ArrayLike | None = ..., *, sigmoid:
    float = ..., truncation_level: int = ..., label_gain: npt.ArrayLike | None = ..., normalize: bool = ...,
    reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True], return_hessian: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, Array, Array]: ...
@overload
def lambda_rank_loss(
    scores: npt.ArrayLike, relevance: npt.ArrayLike, group_sizes: npt.ArrayLike | None = ..., *, sigmoid:
    float = ..., truncation_level: int = ..., label_gain: npt.ArrayLike | None = ..., normalize: bool = ...,
    reduction: Literal["sum_and_count"], return_grad: Literal[True], return_hessian: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[tuple[float, float], Array, Array]: ...
@overload
def lambda_rank_loss(
    scores: npt.ArrayLike, relevance: npt.ArrayLike, group_sizes: npt.ArrayLike | None = ..., *, sigmoid:
    float = ..., truncation_level: int = ..., label_gain: npt.ArrayLike | None = ..., normalize: bool = ...,
    reduction: Literal["none"], return_grad: Literal[True], return_hessian: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array, Array]: ...
@overload
def lambda_rank_loss(
    scores: npt.ArrayLike, relevance: npt.ArrayLike, group_sizes: npt.ArrayLike | None = ..., *, sigmoid:
    float = ..., truncation_level: int = ..., label_gain: npt.ArrayLike | None = ..., normalize: bool = ...,
    reduction: Reduction = ..., return_grad: bool = ..., return_hessian: bool = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def linear_cross_entropy(
    input: npt.ArrayLike, linear_weight: npt.ArrayLike, target: npt.ArrayLike, *, linear_bias: npt.ArrayLike |
    None = ..., weight: npt.ArrayLike | None = ..., ignore_index: int = ..., label_smoothing: float = ...,
    sample_weight: npt.ArrayLike | None = ..., z_loss: float = ..., softcap: float | None = ..., temperature:
    float = ..., logit_scale: float = ..., filter_eps: float = ..., memory_budget: int | None = ...,
    reduction: Literal["mean", "sum"] = ..., return_grad: Literal[False] = ..., grad_output: npt.ArrayLike |
    None = ..., out: tuple[Array | None, Array | None, Array | None] | None = ..., accumulate: bool |
    tuple[bool, ...] = ..., num_threads: int | None = ...
) -> float: ...
@overload
def linear_cross_entropy(
    input: npt.ArrayLike, linear_weight: npt.ArrayLike, target: npt.ArrayLike, *, linear_bias: npt.ArrayLike |
    None = ..., weight: npt.ArrayLike | None = ..., ignore_index: int = ..., label_smoothing: float = ...,
    sample_weight: npt.ArrayLike | None = ..., z_loss: float = ..., softcap: float | None = ..., temperature:
    float = ..., logit_scale: float = ..., filter_eps: float = ..., memory_budget: int | None = ...,
    reduction: Literal["sum_and_count"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None
    = ..., out: tuple[Array | None, Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool,
    ...] = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def linear_cross_entropy(
    input: npt.ArrayLike, linear_weight: npt.ArrayLike, target: npt.ArrayLike, *, linear_bias: npt.ArrayLike |
    None = ..., weight: npt.ArrayLike | None = ..., ignore_index: int = ..., label_smoothing: float = ...,
    sample_weight: npt.ArrayLike | None = ..., z_loss: float = ..., softcap: float | None = ..., temperature:
    float = ..., logit_scale: float = ..., filter_eps: float = ..., memory_budget: int | None = ...,
    reduction: Literal["none"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ...,
    out: tuple[Array | None, Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] =
    ..., num_threads: int | None = ...
) -> Array: ...
@overload
def linear_cross_entropy(
    input: npt.ArrayLike, linear_weight: npt.ArrayLike, target: npt.ArrayLike, *, linear_bias: npt.ArrayLike |
    None = ..., weight: npt.ArrayLike | None = ..., ignore_index: int = ..., label_smoothing: float = ...,
    sample_weight: npt.ArrayLike | None = ..., z_loss: float = ..., softcap: float | None = ..., temperature:
    float = ..., logit_scale: float = ..., filter_eps: float = ..., memory_budget: int | None = ...,
    reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True], grad_output: npt.ArrayLike | None =
    ..., out: tuple[Array | None, Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool,
    ...] = ..., num_threads: int | None = ...
) -> tuple[float, LinearGradients]: ...
@overload
def linear_cross_entropy(
    input: npt.ArrayLike, linear_weight: npt.ArrayLike, target: npt.ArrayLike, *, linear_bias: npt.ArrayLike |
    None = ..., weight: npt.ArrayLike | None = ..., ignore_index: int = ..., label_smoothing: float = ...,
    sample_weight: npt.ArrayLike | None = ..., z_loss: float = ..., softcap: float | None = ..., temperature:
    float = ..., logit_scale: float = ..., filter_eps: float = ..., memory_budget: int | None = ...,
    reduction: Literal["sum_and_count"], return_grad: Literal[True], grad_output: npt.ArrayLike | None = ...,
    out: tuple[Array | None, Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] =
    ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], LinearGradients]: ...
@overload
def linear_cross_entropy(
    input: npt.ArrayLike, linear_weight: npt.ArrayLike, target: npt.ArrayLike, *, linear_bias: npt.ArrayLike |
    None = ..., weight: npt.ArrayLike | None = ..., ignore_index: int = ..., label_smoothing: float = ...,
    sample_weight: npt.ArrayLike | None = ..., z_loss: float = ..., softcap: float | None = ..., temperature:
    float = ..., logit_scale: float = ..., filter_eps: float = ..., memory_budget: int | None = ...,
    reduction: Literal["none"], return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out:
    tuple[Array | None, Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ...,
    num_threads: int | None = ...
) -> tuple[Array, LinearGradients]: ...
@overload
def linear_cross_entropy(
    input: npt.ArrayLike, linear_weight: npt.ArrayLike, target: npt.ArrayLike, *, linear_bias: npt.ArrayLike |
    None = ..., weight: npt.ArrayLike | None = ..., ignore_index: int = ..., label_smoothing: float = ...,
    sample_weight: npt.ArrayLike | None = ..., z_loss: float = ..., softcap: float | None = ..., temperature:
    float = ..., logit_scale: float = ..., filter_eps: float = ..., memory_budget: int | None = ...,
    reduction: Reduction = ..., return_grad: bool = ..., grad_output: npt.ArrayLike | None = ..., out:
    tuple[Array | None, Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ...,
    num_threads: int | None = ...
) -> Any: ...

@overload
def linear_js_div(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    beta: float = ..., temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float |
    None = ..., student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None
    = ..., hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ...,
    memory_budget: int | None = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[False] =
    ..., return_entropy: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array |
    None, Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads:
    int | None = ...
) -> float: ...
@overload
def linear_js_div(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    beta: float = ..., temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float |
    None = ..., student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None
    = ..., hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ...,
    memory_budget: int | None = ..., reduction: Literal["sum_and_count"], return_grad: Literal[False] = ...,
    return_entropy: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None,
    Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int |
    None = ...
) -> tuple[float, float]: ...
@overload
def linear_js_div(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    beta: float = ..., temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float |
    None = ..., student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None
    = ..., hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ...,
    memory_budget: int | None = ..., reduction: Literal["none"], return_grad: Literal[False] = ...,
    return_entropy: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None,
    Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int |
    None = ...
) -> Array: ...
@overload
def linear_js_div(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    beta: float = ..., temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float |
    None = ..., student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None
    = ..., hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ...,
    memory_budget: int | None = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[False] =
    ..., return_entropy: Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None,
    Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int |
    None = ...
) -> tuple[float, Array]: ...
@overload
def linear_js_div(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    beta: float = ..., temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float |
    None = ..., student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None
    = ..., hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ...,
    memory_budget: int | None = ..., reduction: Literal["sum_and_count"], return_grad: Literal[False] = ...,
    return_entropy: Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array |
    None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def linear_js_div(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    beta: float = ..., temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float |
    None = ..., student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None
    = ..., hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ...,
    memory_budget: int | None = ..., reduction: Literal["none"], return_grad: Literal[False] = ...,
    return_entropy: Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array |
    None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def linear_js_div(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    beta: float = ..., temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float |
    None = ..., student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None
    = ..., hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ...,
    memory_budget: int | None = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True],
    return_entropy: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None,
    Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int |
    None = ...
) -> tuple[float, StudentGradients]: ...
@overload
def linear_js_div(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    beta: float = ..., temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float |
    None = ..., student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None
    = ..., hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ...,
    memory_budget: int | None = ..., reduction: Literal["sum_and_count"], return_grad: Literal[True],
    return_entropy: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None,
    Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int |
    None = ...
) -> tuple[tuple[float, float], StudentGradients]: ...
@overload
def linear_js_div(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    beta: float = ..., temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float |
    None = ..., student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None
    = ..., hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ...,
    memory_budget: int | None = ..., reduction: Literal["none"], return_grad: Literal[True], return_entropy:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None,
    Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[Array, StudentGradients]: ...
@overload
def linear_js_div(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    beta: float = ..., temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float |
    None = ..., student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None
    = ..., hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ...,
    memory_budget: int | None = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True],
    return_entropy: Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array |
    None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[float, StudentGradients, Array]: ...
@overload
def linear_js_div(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    beta: float = ..., temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float |
    None = ..., student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None
    = ..., hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ...,
    memory_budget: int | None = ..., reduction: Literal["sum_and_count"], return_grad: Literal[True],
    return_entropy: Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array |
    None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], StudentGradients, Array]: ...
@overload
def linear_js_div(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    beta: float = ..., temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float |
    None = ..., student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None
    = ..., hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ...,
    memory_budget: int | None = ..., reduction: Literal["none"], return_grad: Literal[True], return_entropy:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None, Array |
    None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[Array, StudentGradients, Array]: ...
@overload
def linear_js_div(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    beta: float = ..., temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float |
    None = ..., student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None
    = ..., hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ...,
    memory_budget: int | None = ..., reduction: Reduction = ..., return_grad: bool = ..., return_entropy: bool
    = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None, Array | None] |
    None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def linear_kl_div(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float | None = ...,
    student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None = ...,
    hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ..., memory_budget:
    int | None = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[False] = ...,
    return_entropy: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None,
    Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int |
    None = ...
) -> float: ...
@overload
def linear_kl_div(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float | None = ...,
    student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None = ...,
    hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ..., memory_budget:
    int | None = ..., reduction: Literal["sum_and_count"], return_grad: Literal[False] = ..., return_entropy:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None,
    Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def linear_kl_div(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float | None = ...,
    student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None = ...,
    hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ..., memory_budget:
    int | None = ..., reduction: Literal["none"], return_grad: Literal[False] = ..., return_entropy:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None,
    Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def linear_kl_div(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float | None = ...,
    student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None = ...,
    hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ..., memory_budget:
    int | None = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[False] = ...,
    return_entropy: Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array |
    None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def linear_kl_div(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float | None = ...,
    student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None = ...,
    hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ..., memory_budget:
    int | None = ..., reduction: Literal["sum_and_count"], return_grad: Literal[False] = ..., return_entropy:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None, Array |
    None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def linear_kl_div(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float | None = ...,
    student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None = ...,
    hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ..., memory_budget:
    int | None = ..., reduction: Literal["none"], return_grad: Literal[False] = ..., return_entropy:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None, Array |
    None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def linear_kl_div(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float | None = ...,
    student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None = ...,
    hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ..., memory_budget:
    int | None = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True], return_entropy:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None,
    Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[float, StudentGradients]: ...
@overload
def linear_kl_div(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float | None = ...,
    student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None = ...,
    hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ..., memory_budget:
    int | None = ..., reduction: Literal["sum_and_count"], return_grad: Literal[True], return_entropy:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None,
    Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], StudentGradients]: ...
@overload
def linear_kl_div(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float | None = ...,
    student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None = ...,
    hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ..., memory_budget:
    int | None = ..., reduction: Literal["none"], return_grad: Literal[True], return_entropy: Literal[False] =
    ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None, Array | None] | None
    = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[Array, StudentGradients]: ...
@overload
def linear_kl_div(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float | None = ...,
    student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None = ...,
    hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ..., memory_budget:
    int | None = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True], return_entropy:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None, Array |
    None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[float, StudentGradients, Array]: ...
@overload
def linear_kl_div(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float | None = ...,
    student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None = ...,
    hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ..., memory_budget:
    int | None = ..., reduction: Literal["sum_and_count"], return_grad: Literal[True], return_entropy:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None, Array |
    None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], StudentGradients, Array]: ...
@overload
def linear_kl_div(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float | None = ...,
    student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None = ...,
    hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ..., memory_budget:
    int | None = ..., reduction: Literal["none"], return_grad: Literal[True], return_entropy: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None, Array | None] | None =
    ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[Array, StudentGradients, Array]: ...
@overload
def linear_kl_div(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float | None = ...,
    student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None = ...,
    hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ..., memory_budget:
    int | None = ..., reduction: Reduction = ..., return_grad: bool = ..., return_entropy: bool = ...,
    grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None, Array | None] | None =
    ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def linear_token_log_probs(
    input: npt.ArrayLike, linear_weight: npt.ArrayLike, target: npt.ArrayLike, *, linear_bias: npt.ArrayLike |
    None = ..., ignore_index: int = ..., temperature: float = ..., softcap: float | None = ..., logit_scale:
    float = ..., memory_budget: int | None = ..., reduction: Literal["mean", "sum"], return_grad:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None,
    Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> float: ...
@overload
def linear_token_log_probs(
    input: npt.ArrayLike, linear_weight: npt.ArrayLike, target: npt.ArrayLike, *, linear_bias: npt.ArrayLike |
    None = ..., ignore_index: int = ..., temperature: float = ..., softcap: float | None = ..., logit_scale:
    float = ..., memory_budget: int | None = ..., reduction: Literal["sum_and_count"], return_grad:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None,
    Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def linear_token_log_probs(
    input: npt.ArrayLike, linear_weight: npt.ArrayLike, target: npt.ArrayLike, *, linear_bias: npt.ArrayLike |
    None = ..., ignore_index: int = ..., temperature: float = ..., softcap: float | None = ..., logit_scale:
    float = ..., memory_budget: int | None = ..., reduction: Literal["none"] = ..., return_grad:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None,
    Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def linear_token_log_probs(
    input: npt.ArrayLike, linear_weight: npt.ArrayLike, target: npt.ArrayLike, *, linear_bias: npt.ArrayLike |
    None = ..., ignore_index: int = ..., temperature: float = ..., softcap: float | None = ..., logit_scale:
    float = ..., memory_budget: int | None = ..., reduction: Literal["mean", "sum"], return_grad:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None, Array |
    None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[float, LinearGradients]: ...
@overload
def linear_token_log_probs(
    input: npt.ArrayLike, linear_weight: npt.ArrayLike, target: npt.ArrayLike, *, linear_bias: npt.ArrayLike |
    None = ..., ignore_index: int = ..., temperature: float = ..., softcap: float | None = ..., logit_scale:
    float = ..., memory_budget: int | None = ..., reduction: Literal["sum_and_count"], return_grad:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None, Array |
    None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], LinearGradients]: ...
@overload
def linear_token_log_probs(
    input: npt.ArrayLike, linear_weight: npt.ArrayLike, target: npt.ArrayLike, *, linear_bias: npt.ArrayLike |
    None = ..., ignore_index: int = ..., temperature: float = ..., softcap: float | None = ..., logit_scale:
    float = ..., memory_budget: int | None = ..., reduction: Literal["none"] = ..., return_grad:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None, Array |
    None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[Array, LinearGradients]: ...
@overload
def linear_token_log_probs(
    input: npt.ArrayLike, linear_weight: npt.ArrayLike, target: npt.ArrayLike, *, linear_bias: npt.ArrayLike |
    None = ..., ignore_index: int = ..., temperature: float = ..., softcap: float | None = ..., logit_scale:
    float = ..., memory_budget: int | None = ..., reduction: Reduction = ..., return_grad: bool = ...,
    grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None, Array | None] | None =
    ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def linear_token_statistics(
    input: npt.ArrayLike, linear_weight: npt.ArrayLike, target: npt.ArrayLike, *, linear_bias: npt.ArrayLike |
    None = ..., outputs: tuple[str, ...] = ..., ignore_index: int = ..., temperature: float = ..., softcap:
    float | None = ..., logit_scale: float = ..., memory_budget: int | None = ..., return_grad: Literal[False]
    = ..., grad_output: tuple[npt.ArrayLike | None, npt.ArrayLike | None] | None = ..., out: tuple[Array |
    None, Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads:
    int | None = ...
) -> TokenStatistics: ...
@overload
def linear_token_statistics(
    input: npt.ArrayLike, linear_weight: npt.ArrayLike, target: npt.ArrayLike, *, linear_bias: npt.ArrayLike |
    None = ..., outputs: tuple[str, ...] = ..., ignore_index: int = ..., temperature: float = ..., softcap:
    float | None = ..., logit_scale: float = ..., memory_budget: int | None = ..., return_grad: Literal[True],
    grad_output: tuple[npt.ArrayLike | None, npt.ArrayLike | None] | None = ..., out: tuple[Array | None,
    Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int |
    None = ...
) -> tuple[TokenStatistics, LinearGradients]: ...
@overload
def linear_token_statistics(
    input: npt.ArrayLike, linear_weight: npt.ArrayLike, target: npt.ArrayLike, *, linear_bias: npt.ArrayLike |
    None = ..., outputs: tuple[str, ...] = ..., ignore_index: int = ..., temperature: float = ..., softcap:
    float | None = ..., logit_scale: float = ..., memory_budget: int | None = ..., return_grad: bool = ...,
    grad_output: tuple[npt.ArrayLike | None, npt.ArrayLike | None] | None = ..., out: tuple[Array | None,
    Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int |
    None = ...
) -> Any: ...

@overload
def linear_tv_distance(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float | None = ...,
    student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None = ...,
    hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ..., memory_budget:
    int | None = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[False] = ...,
    return_entropy: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None,
    Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int |
    None = ...
) -> float: ...
@overload
def linear_tv_distance(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float | None = ...,
    student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None = ...,
    hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ..., memory_budget:
    int | None = ..., reduction: Literal["sum_and_count"], return_grad: Literal[False] = ..., return_entropy:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None,
    Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def linear_tv_distance(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float | None = ...,
    student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None = ...,
    hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ..., memory_budget:
    int | None = ..., reduction: Literal["none"], return_grad: Literal[False] = ..., return_entropy:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None,
    Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def linear_tv_distance(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float | None = ...,
    student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None = ...,
    hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ..., memory_budget:
    int | None = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[False] = ...,
    return_entropy: Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array |
    None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def linear_tv_distance(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float | None = ...,
    student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None = ...,
    hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ..., memory_budget:
    int | None = ..., reduction: Literal["sum_and_count"], return_grad: Literal[False] = ..., return_entropy:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None, Array |
    None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def linear_tv_distance(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float | None = ...,
    student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None = ...,
    hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ..., memory_budget:
    int | None = ..., reduction: Literal["none"], return_grad: Literal[False] = ..., return_entropy:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None, Array |
    None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def linear_tv_distance(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float | None = ...,
    student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None = ...,
    hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ..., memory_budget:
    int | None = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True], return_entropy:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None,
    Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[float, StudentGradients]: ...
@overload
def linear_tv_distance(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float | None = ...,
    student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None = ...,
    hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ..., memory_budget:
    int | None = ..., reduction: Literal["sum_and_count"], return_grad: Literal[True], return_entropy:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None,
    Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], StudentGradients]: ...
@overload
def linear_tv_distance(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float | None = ...,
    student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None = ...,
    hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ..., memory_budget:
    int | None = ..., reduction: Literal["none"], return_grad: Literal[True], return_entropy: Literal[False] =
    ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None, Array | None] | None
    = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[Array, StudentGradients]: ...
@overload
def linear_tv_distance(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float | None = ...,
    student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None = ...,
    hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ..., memory_budget:
    int | None = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True], return_entropy:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None, Array |
    None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[float, StudentGradients, Array]: ...
@overload
def linear_tv_distance(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float | None = ...,
    student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None = ...,
    hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ..., memory_budget:
    int | None = ..., reduction: Literal["sum_and_count"], return_grad: Literal[True], return_entropy:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None, Array |
    None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], StudentGradients, Array]: ...
@overload
def linear_tv_distance(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float | None = ...,
    student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None = ...,
    hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ..., memory_budget:
    int | None = ..., reduction: Literal["none"], return_grad: Literal[True], return_entropy: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None, Array | None] | None =
    ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[Array, StudentGradients, Array]: ...
@overload
def linear_tv_distance(
    student_input: npt.ArrayLike, student_weight: npt.ArrayLike, teacher_input: npt.ArrayLike, teacher_weight:
    npt.ArrayLike, *, student_bias: npt.ArrayLike | None = ..., teacher_bias: npt.ArrayLike | None = ...,
    temperature: float = ..., student_softcap: float | None = ..., teacher_softcap: float | None = ...,
    student_logit_scale: float = ..., teacher_logit_scale: float = ..., mask: npt.ArrayLike | None = ...,
    hard_target: npt.ArrayLike | None = ..., hard_share: float = ..., ignore_index: int = ..., memory_budget:
    int | None = ..., reduction: Reduction = ..., return_grad: bool = ..., return_entropy: bool = ...,
    grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None, Array | None] | None =
    ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def list_net_loss(
    scores: npt.ArrayLike, relevance: npt.ArrayLike, group_sizes: npt.ArrayLike | None = ..., *, reduction:
    Literal["mean", "sum"] = ..., return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ...,
    out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> float: ...
@overload
def list_net_loss(
    scores: npt.ArrayLike, relevance: npt.ArrayLike, group_sizes: npt.ArrayLike | None = ..., *, reduction:
    Literal["sum_and_count"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out:
    Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def list_net_loss(
    scores: npt.ArrayLike, relevance: npt.ArrayLike, group_sizes: npt.ArrayLike | None = ..., *, reduction:
    Literal["none"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array |
    None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def list_net_loss(
    scores: npt.ArrayLike, relevance: npt.ArrayLike, group_sizes: npt.ArrayLike | None = ..., *, reduction:
    Literal["mean", "sum"] = ..., return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out:
    Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def list_net_loss(
    scores: npt.ArrayLike, relevance: npt.ArrayLike, group_sizes: npt.ArrayLike | None = ..., *, reduction:
    Literal["sum_and_count"], return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array
    | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def list_net_loss(
    scores: npt.ArrayLike, relevance: npt.ArrayLike, group_sizes: npt.ArrayLike | None = ..., *, reduction:
    Literal["none"], return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None =
    ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def list_net_loss(
    scores: npt.ArrayLike, relevance: npt.ArrayLike, group_sizes: npt.ArrayLike | None = ..., *, reduction:
    Reduction = ..., return_grad: bool = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None =
    ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def log_cosh_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., reduction:
    Literal["mean", "sum"] = ..., return_grad: Literal[False] = ..., return_hessian: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> float: ...
@overload
def log_cosh_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[False] = ..., return_hessian: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, float]: ...
@overload
def log_cosh_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., reduction:
    Literal["none"], return_grad: Literal[False] = ..., return_hessian: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def log_cosh_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., reduction:
    Literal["mean", "sum"] = ..., return_grad: Literal[True], return_hessian: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, Array]: ...
@overload
def log_cosh_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[True], return_hessian: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def log_cosh_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., reduction:
    Literal["none"], return_grad: Literal[True], return_hessian: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def log_cosh_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., reduction:
    Literal["mean", "sum"] = ..., return_grad: Literal[True], return_hessian: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, Array, Array]: ...
@overload
def log_cosh_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[True], return_hessian: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array, Array]: ...
@overload
def log_cosh_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., reduction:
    Literal["none"], return_grad: Literal[True], return_hessian: Literal[True], grad_output: npt.ArrayLike |
    None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array, Array]: ...
@overload
def log_cosh_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., reduction: Reduction =
    ..., return_grad: bool = ..., return_hessian: bool = ..., grad_output: npt.ArrayLike | None = ..., out:
    Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def margin_ranking_loss(
    input1: npt.ArrayLike, input2: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., check_domain:
    bool = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] | None = ..., accumulate: bool |
    tuple[bool, ...] = ..., num_threads: int | None = ...
) -> float: ...
@overload
def margin_ranking_loss(
    input1: npt.ArrayLike, input2: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., check_domain:
    bool = ..., reduction: Literal["sum_and_count"], return_grad: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] | None = ..., accumulate: bool |
    tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def margin_ranking_loss(
    input1: npt.ArrayLike, input2: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., check_domain:
    bool = ..., reduction: Literal["none"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike |
    None = ..., out: tuple[Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] =
    ..., num_threads: int | None = ...
) -> Array: ...
@overload
def margin_ranking_loss(
    input1: npt.ArrayLike, input2: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., check_domain:
    bool = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] | None = ..., accumulate: bool |
    tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[float, MarginRankingGradients]: ...
@overload
def margin_ranking_loss(
    input1: npt.ArrayLike, input2: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., check_domain:
    bool = ..., reduction: Literal["sum_and_count"], return_grad: Literal[True], grad_output: npt.ArrayLike |
    None = ..., out: tuple[Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] =
    ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], MarginRankingGradients]: ...
@overload
def margin_ranking_loss(
    input1: npt.ArrayLike, input2: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., check_domain:
    bool = ..., reduction: Literal["none"], return_grad: Literal[True], grad_output: npt.ArrayLike | None =
    ..., out: tuple[Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ...,
    num_threads: int | None = ...
) -> tuple[Array, MarginRankingGradients]: ...
@overload
def margin_ranking_loss(
    input1: npt.ArrayLike, input2: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., check_domain:
    bool = ..., reduction: Reduction = ..., return_grad: bool = ..., grad_output: npt.ArrayLike | None = ...,
    out: tuple[Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ...,
    num_threads: int | None = ...
) -> Any: ...

@overload
def mean_squared_log_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> float: ...
@overload
def mean_squared_log_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["sum_and_count"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike |
    None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def mean_squared_log_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["none"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None =
    ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def mean_squared_log_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True], grad_output: npt.ArrayLike |
    None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def mean_squared_log_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["sum_and_count"], return_grad: Literal[True], grad_output: npt.ArrayLike | None =
    ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def mean_squared_log_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["none"], return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out:
    Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def mean_squared_log_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Reduction = ..., return_grad: bool = ..., grad_output: npt.ArrayLike | None = ..., out:
    Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def mse_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., reduction:
    Literal["mean", "sum"] = ..., return_grad: Literal[False] = ..., return_hessian: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> float: ...
@overload
def mse_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[False] = ..., return_hessian: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, float]: ...
@overload
def mse_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., reduction:
    Literal["none"], return_grad: Literal[False] = ..., return_hessian: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def mse_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., reduction:
    Literal["mean", "sum"] = ..., return_grad: Literal[True], return_hessian: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, Array]: ...
@overload
def mse_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[True], return_hessian: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def mse_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., reduction:
    Literal["none"], return_grad: Literal[True], return_hessian: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def mse_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., reduction:
    Literal["mean", "sum"] = ..., return_grad: Literal[True], return_hessian: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, Array, Array]: ...
@overload
def mse_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[True], return_hessian: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array, Array]: ...
@overload
def mse_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., reduction:
    Literal["none"], return_grad: Literal[True], return_hessian: Literal[True], grad_output: npt.ArrayLike |
    None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array, Array]: ...
@overload
def mse_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., reduction: Reduction =
    ..., return_grad: bool = ..., return_hessian: bool = ..., grad_output: npt.ArrayLike | None = ..., out:
    Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def multi_margin_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, p: int = ..., margin: float = ..., weight: npt.ArrayLike
    | None = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> float: ...
@overload
def multi_margin_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, p: int = ..., margin: float = ..., weight: npt.ArrayLike
    | None = ..., reduction: Literal["sum_and_count"], return_grad: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def multi_margin_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, p: int = ..., margin: float = ..., weight: npt.ArrayLike
    | None = ..., reduction: Literal["none"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike |
    None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def multi_margin_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, p: int = ..., margin: float = ..., weight: npt.ArrayLike
    | None = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def multi_margin_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, p: int = ..., margin: float = ..., weight: npt.ArrayLike
    | None = ..., reduction: Literal["sum_and_count"], return_grad: Literal[True], grad_output: npt.ArrayLike
    | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def multi_margin_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, p: int = ..., margin: float = ..., weight: npt.ArrayLike
    | None = ..., reduction: Literal["none"], return_grad: Literal[True], grad_output: npt.ArrayLike | None =
    ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def multi_margin_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, p: int = ..., margin: float = ..., weight: npt.ArrayLike
    | None = ..., reduction: Reduction = ..., return_grad: bool = ..., grad_output: npt.ArrayLike | None =
    ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def multilabel_margin_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, reduction: Literal["mean", "sum"] = ..., return_grad:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> float: ...
@overload
def multilabel_margin_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, reduction: Literal["sum_and_count"], return_grad:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def multilabel_margin_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, reduction: Literal["none"], return_grad: Literal[False] =
    ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> Array: ...
@overload
def multilabel_margin_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, reduction: Literal["mean", "sum"] = ..., return_grad:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def multilabel_margin_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, reduction: Literal["sum_and_count"], return_grad:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def multilabel_margin_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, reduction: Literal["none"], return_grad: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[Array, Array]: ...
@overload
def multilabel_margin_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, reduction: Reduction = ..., return_grad: bool = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> Any: ...

@overload
def multilabel_soft_margin_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> float: ...
@overload
def multilabel_soft_margin_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["sum_and_count"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike |
    None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def multilabel_soft_margin_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["none"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None =
    ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def multilabel_soft_margin_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True], grad_output: npt.ArrayLike |
    None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def multilabel_soft_margin_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["sum_and_count"], return_grad: Literal[True], grad_output: npt.ArrayLike | None =
    ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def multilabel_soft_margin_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["none"], return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out:
    Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def multilabel_soft_margin_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Reduction = ..., return_grad: bool = ..., grad_output: npt.ArrayLike | None = ..., out:
    Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def negative_binomial_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, dispersion: npt.ArrayLike, *, weight: npt.ArrayLike | None =
    ..., full: bool = ..., check_domain: bool = ..., reduction: Literal["mean", "sum"] = ..., return_grad:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] |
    None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> float: ...
@overload
def negative_binomial_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, dispersion: npt.ArrayLike, *, weight: npt.ArrayLike | None =
    ..., full: bool = ..., check_domain: bool = ..., reduction: Literal["sum_and_count"], return_grad:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] |
    None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def negative_binomial_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, dispersion: npt.ArrayLike, *, weight: npt.ArrayLike | None =
    ..., full: bool = ..., check_domain: bool = ..., reduction: Literal["none"], return_grad: Literal[False] =
    ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] | None = ...,
    accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def negative_binomial_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, dispersion: npt.ArrayLike, *, weight: npt.ArrayLike | None =
    ..., full: bool = ..., check_domain: bool = ..., reduction: Literal["mean", "sum"] = ..., return_grad:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] | None =
    ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[float, NegativeBinomialNLLGradients]: ...
@overload
def negative_binomial_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, dispersion: npt.ArrayLike, *, weight: npt.ArrayLike | None =
    ..., full: bool = ..., check_domain: bool = ..., reduction: Literal["sum_and_count"], return_grad:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] | None =
    ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], NegativeBinomialNLLGradients]: ...
@overload
def negative_binomial_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, dispersion: npt.ArrayLike, *, weight: npt.ArrayLike | None =
    ..., full: bool = ..., check_domain: bool = ..., reduction: Literal["none"], return_grad: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] | None = ..., accumulate:
    bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[Array, NegativeBinomialNLLGradients]: ...
@overload
def negative_binomial_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, dispersion: npt.ArrayLike, *, weight: npt.ArrayLike | None =
    ..., full: bool = ..., check_domain: bool = ..., reduction: Reduction = ..., return_grad: bool = ...,
    grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] | None = ..., accumulate:
    bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def nll_loss(
    log_probs: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., weight: npt.ArrayLike | None = ...,
    ignore_index: int = ..., sample_weight: npt.ArrayLike | None = ..., reduction: Literal["mean", "sum"] =
    ..., return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> float: ...
@overload
def nll_loss(
    log_probs: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., weight: npt.ArrayLike | None = ...,
    ignore_index: int = ..., sample_weight: npt.ArrayLike | None = ..., reduction: Literal["sum_and_count"],
    return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def nll_loss(
    log_probs: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., weight: npt.ArrayLike | None = ...,
    ignore_index: int = ..., sample_weight: npt.ArrayLike | None = ..., reduction: Literal["none"],
    return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def nll_loss(
    log_probs: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., weight: npt.ArrayLike | None = ...,
    ignore_index: int = ..., sample_weight: npt.ArrayLike | None = ..., reduction: Literal["mean", "sum"] =
    ..., return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def nll_loss(
    log_probs: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., weight: npt.ArrayLike | None = ...,
    ignore_index: int = ..., sample_weight: npt.ArrayLike | None = ..., reduction: Literal["sum_and_count"],
    return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate:
    bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def nll_loss(
    log_probs: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., weight: npt.ArrayLike | None = ...,
    ignore_index: int = ..., sample_weight: npt.ArrayLike | None = ..., reduction: Literal["none"],
    return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate:
    bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def nll_loss(
    log_probs: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., weight: npt.ArrayLike | None = ...,
    ignore_index: int = ..., sample_weight: npt.ArrayLike | None = ..., reduction: Reduction = ...,
    return_grad: bool = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate:
    bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def orpo_loss(
    policy_chosen_logps: npt.ArrayLike, policy_rejected_logps: npt.ArrayLike, *, beta: float = ..., reduction:
    Literal["mean", "sum"] = ..., return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ...,
    out: tuple[Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ...,
    num_threads: int | None = ...
) -> float: ...
@overload
def orpo_loss(
    policy_chosen_logps: npt.ArrayLike, policy_rejected_logps: npt.ArrayLike, *, beta: float = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out:
    tuple[Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads:
    int | None = ...
) -> tuple[float, float]: ...
@overload
def orpo_loss(
    policy_chosen_logps: npt.ArrayLike, policy_rejected_logps: npt.ArrayLike, *, beta: float = ..., reduction:
    Literal["none"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out:
    tuple[Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads:
    int | None = ...
) -> Array: ...
@overload
def orpo_loss(
    policy_chosen_logps: npt.ArrayLike, policy_rejected_logps: npt.ArrayLike, *, beta: float = ..., reduction:
    Literal["mean", "sum"] = ..., return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out:
    tuple[Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads:
    int | None = ...
) -> tuple[float, PairGradients]: ...
@overload
def orpo_loss(
    policy_chosen_logps: npt.ArrayLike, policy_rejected_logps: npt.ArrayLike, *, beta: float = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out:
    tuple[Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads:
    int | None = ...
) -> tuple[tuple[float, float], PairGradients]: ...
@overload
def orpo_loss(
    policy_chosen_logps: npt.ArrayLike, policy_rejected_logps: npt.ArrayLike, *, beta: float = ..., reduction:
    Literal["none"], return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array |
    None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[Array, PairGradients]: ...
@overload
def orpo_loss(
    policy_chosen_logps: npt.ArrayLike, policy_rejected_logps: npt.ArrayLike, *, beta: float = ..., reduction:
    Reduction = ..., return_grad: bool = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array |
    None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def poisson_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, log_input: bool = ..., full: bool = ..., eps: float = ...,
    weight: npt.ArrayLike | None = ..., check_domain: bool = ..., reduction: Literal["mean", "sum"] = ...,
    return_grad: Literal[False] = ..., return_hessian: Literal[False] = ..., grad_output: npt.ArrayLike | None
    = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> float: ...
@overload
def poisson_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, log_input: bool = ..., full: bool = ..., eps: float = ...,
    weight: npt.ArrayLike | None = ..., check_domain: bool = ..., reduction: Literal["sum_and_count"],
    return_grad: Literal[False] = ..., return_hessian: Literal[False] = ..., grad_output: npt.ArrayLike | None
    = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def poisson_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, log_input: bool = ..., full: bool = ..., eps: float = ...,
    weight: npt.ArrayLike | None = ..., check_domain: bool = ..., reduction: Literal["none"], return_grad:
    Literal[False] = ..., return_hessian: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out:
    Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def poisson_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, log_input: bool = ..., full: bool = ..., eps: float = ...,
    weight: npt.ArrayLike | None = ..., check_domain: bool = ..., reduction: Literal["mean", "sum"] = ...,
    return_grad: Literal[True], return_hessian: Literal[False] = ..., grad_output: npt.ArrayLike | None = ...,
    out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def poisson_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, log_input: bool = ..., full: bool = ..., eps: float = ...,
    weight: npt.ArrayLike | None = ..., check_domain: bool = ..., reduction: Literal["sum_and_count"],
    return_grad: Literal[True], return_hessian: Literal[False] = ..., grad_output: npt.ArrayLike | None = ...,
    out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def poisson_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, log_input: bool = ..., full: bool = ..., eps: float = ...,
    weight: npt.ArrayLike | None = ..., check_domain: bool = ..., reduction: Literal["none"], return_grad:
    Literal[True], return_hessian: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array |
    None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def poisson_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, log_input: bool = ..., full: bool = ..., eps: float = ...,
    weight: npt.ArrayLike | None = ..., check_domain: bool = ..., reduction: Literal["mean", "sum"] = ...,
    return_grad: Literal[True], return_hessian: Literal[True], grad_output: npt.ArrayLike | None = ..., out:
    Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, Array, Array]: ...
@overload
def poisson_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, log_input: bool = ..., full: bool = ..., eps: float = ...,
    weight: npt.ArrayLike | None = ..., check_domain: bool = ..., reduction: Literal["sum_and_count"],
    return_grad: Literal[True], return_hessian: Literal[True], grad_output: npt.ArrayLike | None = ..., out:
    Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array, Array]: ...
@overload
def poisson_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, log_input: bool = ..., full: bool = ..., eps: float = ...,
    weight: npt.ArrayLike | None = ..., check_domain: bool = ..., reduction: Literal["none"], return_grad:
    Literal[True], return_hessian: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None =
    ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array, Array]: ...
@overload
def poisson_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, log_input: bool = ..., full: bool = ..., eps: float = ...,
    weight: npt.ArrayLike | None = ..., check_domain: bool = ..., reduction: Reduction = ..., return_grad:
    bool = ..., return_hessian: bool = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def poly_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., epsilon: float = ..., weight:
    npt.ArrayLike | None = ..., ignore_index: int = ..., reduction: Literal["mean", "sum"] = ..., return_grad:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> float: ...
@overload
def poly_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., epsilon: float = ..., weight:
    npt.ArrayLike | None = ..., ignore_index: int = ..., reduction: Literal["sum_and_count"], return_grad:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def poly_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., epsilon: float = ..., weight:
    npt.ArrayLike | None = ..., ignore_index: int = ..., reduction: Literal["none"], return_grad:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> Array: ...
@overload
def poly_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., epsilon: float = ..., weight:
    npt.ArrayLike | None = ..., ignore_index: int = ..., reduction: Literal["mean", "sum"] = ..., return_grad:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def poly_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., epsilon: float = ..., weight:
    npt.ArrayLike | None = ..., ignore_index: int = ..., reduction: Literal["sum_and_count"], return_grad:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def poly_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., epsilon: float = ..., weight:
    npt.ArrayLike | None = ..., ignore_index: int = ..., reduction: Literal["none"], return_grad:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def poly_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., epsilon: float = ..., weight:
    npt.ArrayLike | None = ..., ignore_index: int = ..., reduction: Reduction = ..., return_grad: bool = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> Any: ...

@overload
def ppo_loss(
    logps: npt.ArrayLike, old_logps: npt.ArrayLike, advantages: npt.ArrayLike, *, clip: float = ..., mask:
    npt.ArrayLike | None = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> float: ...
@overload
def ppo_loss(
    logps: npt.ArrayLike, old_logps: npt.ArrayLike, advantages: npt.ArrayLike, *, clip: float = ..., mask:
    npt.ArrayLike | None = ..., reduction: Literal["sum_and_count"], return_grad: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, float]: ...
@overload
def ppo_loss(
    logps: npt.ArrayLike, old_logps: npt.ArrayLike, advantages: npt.ArrayLike, *, clip: float = ..., mask:
    npt.ArrayLike | None = ..., reduction: Literal["none"], return_grad: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def ppo_loss(
    logps: npt.ArrayLike, old_logps: npt.ArrayLike, advantages: npt.ArrayLike, *, clip: float = ..., mask:
    npt.ArrayLike | None = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, Array]: ...
@overload
def ppo_loss(
    logps: npt.ArrayLike, old_logps: npt.ArrayLike, advantages: npt.ArrayLike, *, clip: float = ..., mask:
    npt.ArrayLike | None = ..., reduction: Literal["sum_and_count"], return_grad: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def ppo_loss(
    logps: npt.ArrayLike, old_logps: npt.ArrayLike, advantages: npt.ArrayLike, *, clip: float = ..., mask:
    npt.ArrayLike | None = ..., reduction: Literal["none"], return_grad: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def ppo_loss(
    logps: npt.ArrayLike, old_logps: npt.ArrayLike, advantages: npt.ArrayLike, *, clip: float = ..., mask:
    npt.ArrayLike | None = ..., reduction: Reduction = ..., return_grad: bool = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def quantile_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, quantile: float | npt.ArrayLike = ..., weight:
    npt.ArrayLike | None = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[False] = ...,
    return_hessian: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> float: ...
@overload
def quantile_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, quantile: float | npt.ArrayLike = ..., weight:
    npt.ArrayLike | None = ..., reduction: Literal["sum_and_count"], return_grad: Literal[False] = ...,
    return_hessian: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def quantile_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, quantile: float | npt.ArrayLike = ..., weight:
    npt.ArrayLike | None = ..., reduction: Literal["none"], return_grad: Literal[False] = ..., return_hessian:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> Array: ...
@overload
def quantile_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, quantile: float | npt.ArrayLike = ..., weight:
    npt.ArrayLike | None = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True],
    return_hessian: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def quantile_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, quantile: float | npt.ArrayLike = ..., weight:
    npt.ArrayLike | None = ..., reduction: Literal["sum_and_count"], return_grad: Literal[True],
    return_hessian: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def quantile_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, quantile: float | npt.ArrayLike = ..., weight:
    npt.ArrayLike | None = ..., reduction: Literal["none"], return_grad: Literal[True], return_hessian:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def quantile_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, quantile: float | npt.ArrayLike = ..., weight:
    npt.ArrayLike | None = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True],
    return_hessian: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, Array, Array]: ...
@overload
def quantile_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, quantile: float | npt.ArrayLike = ..., weight:
    npt.ArrayLike | None = ..., reduction: Literal["sum_and_count"], return_grad: Literal[True],
    return_hessian: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array, Array]: ...
@overload
def quantile_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, quantile: float | npt.ArrayLike = ..., weight:
    npt.ArrayLike | None = ..., reduction: Literal["none"], return_grad: Literal[True], return_hessian:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> tuple[Array, Array, Array]: ...
@overload
def quantile_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, quantile: float | npt.ArrayLike = ..., weight:
    npt.ArrayLike | None = ..., reduction: Reduction = ..., return_grad: bool = ..., return_hessian: bool =
    ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> Any: ...

@overload
def reward_model_loss(
    chosen_rewards: npt.ArrayLike, rejected_rewards: npt.ArrayLike, *, margin: npt.ArrayLike | None = ...,
    center_coefficient: float = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[False] =
    ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] | None = ...,
    accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> float: ...
@overload
def reward_model_loss(
    chosen_rewards: npt.ArrayLike, rejected_rewards: npt.ArrayLike, *, margin: npt.ArrayLike | None = ...,
    center_coefficient: float = ..., reduction: Literal["sum_and_count"], return_grad: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] | None = ..., accumulate:
    bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def reward_model_loss(
    chosen_rewards: npt.ArrayLike, rejected_rewards: npt.ArrayLike, *, margin: npt.ArrayLike | None = ...,
    center_coefficient: float = ..., reduction: Literal["none"], return_grad: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] | None = ..., accumulate:
    bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def reward_model_loss(
    chosen_rewards: npt.ArrayLike, rejected_rewards: npt.ArrayLike, *, margin: npt.ArrayLike | None = ...,
    center_coefficient: float = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] | None = ..., accumulate:
    bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[float, RewardGradients]: ...
@overload
def reward_model_loss(
    chosen_rewards: npt.ArrayLike, rejected_rewards: npt.ArrayLike, *, margin: npt.ArrayLike | None = ...,
    center_coefficient: float = ..., reduction: Literal["sum_and_count"], return_grad: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] | None = ..., accumulate:
    bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], RewardGradients]: ...
@overload
def reward_model_loss(
    chosen_rewards: npt.ArrayLike, rejected_rewards: npt.ArrayLike, *, margin: npt.ArrayLike | None = ...,
    center_coefficient: float = ..., reduction: Literal["none"], return_grad: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] | None = ..., accumulate: bool |
    tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[Array, RewardGradients]: ...
@overload
def reward_model_loss(
    chosen_rewards: npt.ArrayLike, rejected_rewards: npt.ArrayLike, *, margin: npt.ArrayLike | None = ...,
    center_coefficient: float = ..., reduction: Reduction = ..., return_grad: bool = ..., grad_output:
    npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] | None = ..., accumulate: bool |
    tuple[bool, ...] = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def sequence_log_probs(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, mask: npt.ArrayLike | None = ..., lengths: npt.ArrayLike
    | None = ..., ignore_index: int = ..., average: bool = ..., temperature: float = ..., reduction:
    Literal["mean", "sum"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out:
    Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> float: ...
@overload
def sequence_log_probs(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, mask: npt.ArrayLike | None = ..., lengths: npt.ArrayLike
    | None = ..., ignore_index: int = ..., average: bool = ..., temperature: float = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out:
    Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def sequence_log_probs(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, mask: npt.ArrayLike | None = ..., lengths: npt.ArrayLike
    | None = ..., ignore_index: int = ..., average: bool = ..., temperature: float = ..., reduction:
    Literal["none"] = ..., return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out:
    Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def sequence_log_probs(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, mask: npt.ArrayLike | None = ..., lengths: npt.ArrayLike
    | None = ..., ignore_index: int = ..., average: bool = ..., temperature: float = ..., reduction:
    Literal["mean", "sum"], return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array |
    None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def sequence_log_probs(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, mask: npt.ArrayLike | None = ..., lengths: npt.ArrayLike
    | None = ..., ignore_index: int = ..., average: bool = ..., temperature: float = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array
    | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def sequence_log_probs(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, mask: npt.ArrayLike | None = ..., lengths: npt.ArrayLike
    | None = ..., ignore_index: int = ..., average: bool = ..., temperature: float = ..., reduction:
    Literal["none"] = ..., return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array |
    None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def sequence_log_probs(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, mask: npt.ArrayLike | None = ..., lengths: npt.ArrayLike
    | None = ..., ignore_index: int = ..., average: bool = ..., temperature: float = ..., reduction: Reduction
    = ..., return_grad: bool = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def siglip_loss(
    query: npt.ArrayLike, key: npt.ArrayLike, *, scale: float, bias: float, memory_budget: int | None = ...,
    reduction: Literal["mean", "sum"] = ..., return_grad: Literal[False] = ..., grad_output: npt.ArrayLike |
    None = ..., out: tuple[Array | None, Array | None, None, None] | None = ..., accumulate: bool |
    tuple[bool, ...] = ..., num_threads: int | None = ...
) -> float: ...
@overload
def siglip_loss(
    query: npt.ArrayLike, key: npt.ArrayLike, *, scale: float, bias: float, memory_budget: int | None = ...,
    reduction: Literal["sum_and_count"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None
    = ..., out: tuple[Array | None, Array | None, None, None] | None = ..., accumulate: bool | tuple[bool,
    ...] = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def siglip_loss(
    query: npt.ArrayLike, key: npt.ArrayLike, *, scale: float, bias: float, memory_budget: int | None = ...,
    reduction: Literal["none"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ...,
    out: tuple[Array | None, Array | None, None, None] | None = ..., accumulate: bool | tuple[bool, ...] =
    ..., num_threads: int | None = ...
) -> Array: ...
@overload
def siglip_loss(
    query: npt.ArrayLike, key: npt.ArrayLike, *, scale: float, bias: float, memory_budget: int | None = ...,
    reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True], grad_output: npt.ArrayLike | None =
    ..., out: tuple[Array | None, Array | None, None, None] | None = ..., accumulate: bool | tuple[bool, ...]
    = ..., num_threads: int | None = ...
) -> tuple[float, SigLIPGradients]: ...
@overload
def siglip_loss(
    query: npt.ArrayLike, key: npt.ArrayLike, *, scale: float, bias: float, memory_budget: int | None = ...,
    reduction: Literal["sum_and_count"], return_grad: Literal[True], grad_output: npt.ArrayLike | None = ...,
    out: tuple[Array | None, Array | None, None, None] | None = ..., accumulate: bool | tuple[bool, ...] =
    ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], SigLIPGradients]: ...
@overload
def siglip_loss(
    query: npt.ArrayLike, key: npt.ArrayLike, *, scale: float, bias: float, memory_budget: int | None = ...,
    reduction: Literal["none"], return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out:
    tuple[Array | None, Array | None, None, None] | None = ..., accumulate: bool | tuple[bool, ...] = ...,
    num_threads: int | None = ...
) -> tuple[Array, SigLIPGradients]: ...
@overload
def siglip_loss(
    query: npt.ArrayLike, key: npt.ArrayLike, *, scale: float, bias: float, memory_budget: int | None = ...,
    reduction: Reduction = ..., return_grad: bool = ..., grad_output: npt.ArrayLike | None = ..., out:
    tuple[Array | None, Array | None, None, None] | None = ..., accumulate: bool | tuple[bool, ...] = ...,
    num_threads: int | None = ...
) -> Any: ...

@overload
def sigmoid_focal_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, alpha: float | None = ..., gamma: float = ..., weight:
    npt.ArrayLike | None = ..., check_domain: bool = ..., reduction: Literal["mean", "sum"] = ...,
    return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> float: ...
@overload
def sigmoid_focal_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, alpha: float | None = ..., gamma: float = ..., weight:
    npt.ArrayLike | None = ..., check_domain: bool = ..., reduction: Literal["sum_and_count"], return_grad:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def sigmoid_focal_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, alpha: float | None = ..., gamma: float = ..., weight:
    npt.ArrayLike | None = ..., check_domain: bool = ..., reduction: Literal["none"], return_grad:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> Array: ...
@overload
def sigmoid_focal_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, alpha: float | None = ..., gamma: float = ..., weight:
    npt.ArrayLike | None = ..., check_domain: bool = ..., reduction: Literal["mean", "sum"] = ...,
    return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate:
    bool = ..., num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def sigmoid_focal_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, alpha: float | None = ..., gamma: float = ..., weight:
    npt.ArrayLike | None = ..., check_domain: bool = ..., reduction: Literal["sum_and_count"], return_grad:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def sigmoid_focal_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, alpha: float | None = ..., gamma: float = ..., weight:
    npt.ArrayLike | None = ..., check_domain: bool = ..., reduction: Literal["none"], return_grad:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def sigmoid_focal_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, alpha: float | None = ..., gamma: float = ..., weight:
    npt.ArrayLike | None = ..., check_domain: bool = ..., reduction: Reduction = ..., return_grad: bool = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> Any: ...

@overload
def simpo_loss(
    policy_chosen_logps: npt.ArrayLike, policy_rejected_logps: npt.ArrayLike, *, beta: float = ..., gamma:
    float = ..., label_smoothing: float = ..., reduction: Literal["mean", "sum"] = ..., return_grad:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] |
    None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> float: ...
@overload
def simpo_loss(
    policy_chosen_logps: npt.ArrayLike, policy_rejected_logps: npt.ArrayLike, *, beta: float = ..., gamma:
    float = ..., label_smoothing: float = ..., reduction: Literal["sum_and_count"], return_grad:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] |
    None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def simpo_loss(
    policy_chosen_logps: npt.ArrayLike, policy_rejected_logps: npt.ArrayLike, *, beta: float = ..., gamma:
    float = ..., label_smoothing: float = ..., reduction: Literal["none"], return_grad: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] | None = ..., accumulate:
    bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def simpo_loss(
    policy_chosen_logps: npt.ArrayLike, policy_rejected_logps: npt.ArrayLike, *, beta: float = ..., gamma:
    float = ..., label_smoothing: float = ..., reduction: Literal["mean", "sum"] = ..., return_grad:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] | None =
    ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[float, PairGradients]: ...
@overload
def simpo_loss(
    policy_chosen_logps: npt.ArrayLike, policy_rejected_logps: npt.ArrayLike, *, beta: float = ..., gamma:
    float = ..., label_smoothing: float = ..., reduction: Literal["sum_and_count"], return_grad:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] | None =
    ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], PairGradients]: ...
@overload
def simpo_loss(
    policy_chosen_logps: npt.ArrayLike, policy_rejected_logps: npt.ArrayLike, *, beta: float = ..., gamma:
    float = ..., label_smoothing: float = ..., reduction: Literal["none"], return_grad: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] | None = ..., accumulate:
    bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[Array, PairGradients]: ...
@overload
def simpo_loss(
    policy_chosen_logps: npt.ArrayLike, policy_rejected_logps: npt.ArrayLike, *, beta: float = ..., gamma:
    float = ..., label_smoothing: float = ..., reduction: Reduction = ..., return_grad: bool = ...,
    grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None] | None = ..., accumulate:
    bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def smooth_l1_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, beta: float = ..., weight: npt.ArrayLike | None = ...,
    reduction: Literal["mean", "sum"] = ..., return_grad: Literal[False] = ..., return_hessian: Literal[False]
    = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> float: ...
@overload
def smooth_l1_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, beta: float = ..., weight: npt.ArrayLike | None = ...,
    reduction: Literal["sum_and_count"], return_grad: Literal[False] = ..., return_hessian: Literal[False] =
    ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def smooth_l1_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, beta: float = ..., weight: npt.ArrayLike | None = ...,
    reduction: Literal["none"], return_grad: Literal[False] = ..., return_hessian: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> Array: ...
@overload
def smooth_l1_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, beta: float = ..., weight: npt.ArrayLike | None = ...,
    reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True], return_hessian: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, Array]: ...
@overload
def smooth_l1_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, beta: float = ..., weight: npt.ArrayLike | None = ...,
    reduction: Literal["sum_and_count"], return_grad: Literal[True], return_hessian: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def smooth_l1_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, beta: float = ..., weight: npt.ArrayLike | None = ...,
    reduction: Literal["none"], return_grad: Literal[True], return_hessian: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def smooth_l1_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, beta: float = ..., weight: npt.ArrayLike | None = ...,
    reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True], return_hessian: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, Array, Array]: ...
@overload
def smooth_l1_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, beta: float = ..., weight: npt.ArrayLike | None = ...,
    reduction: Literal["sum_and_count"], return_grad: Literal[True], return_hessian: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[tuple[float, float], Array, Array]: ...
@overload
def smooth_l1_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, beta: float = ..., weight: npt.ArrayLike | None = ...,
    reduction: Literal["none"], return_grad: Literal[True], return_hessian: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array, Array]: ...
@overload
def smooth_l1_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, beta: float = ..., weight: npt.ArrayLike | None = ...,
    reduction: Reduction = ..., return_grad: bool = ..., return_hessian: bool = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def soft_margin_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[False] = ..., return_hessian:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> float: ...
@overload
def soft_margin_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["sum_and_count"], return_grad: Literal[False] = ..., return_hessian:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def soft_margin_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["none"], return_grad: Literal[False] = ..., return_hessian: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> Array: ...
@overload
def soft_margin_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True], return_hessian: Literal[False] =
    ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def soft_margin_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["sum_and_count"], return_grad: Literal[True], return_hessian: Literal[False] =
    ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def soft_margin_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["none"], return_grad: Literal[True], return_hessian: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[Array, Array]: ...
@overload
def soft_margin_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True], return_hessian: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, Array, Array]: ...
@overload
def soft_margin_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["sum_and_count"], return_grad: Literal[True], return_hessian: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[tuple[float, float], Array, Array]: ...
@overload
def soft_margin_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Literal["none"], return_grad: Literal[True], return_hessian: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array, Array]: ...
@overload
def soft_margin_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, weight: npt.ArrayLike | None = ..., check_domain: bool =
    ..., reduction: Reduction = ..., return_grad: bool = ..., return_hessian: bool = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def softmax_focal_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., gamma: float = ..., alpha: npt.ArrayLike
    | None = ..., ignore_index: int = ..., reduction: Literal["mean", "sum"] = ..., return_grad:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> float: ...
@overload
def softmax_focal_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., gamma: float = ..., alpha: npt.ArrayLike
    | None = ..., ignore_index: int = ..., reduction: Literal["sum_and_count"], return_grad: Literal[False] =
    ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def softmax_focal_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., gamma: float = ..., alpha: npt.ArrayLike
    | None = ..., ignore_index: int = ..., reduction: Literal["none"], return_grad: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> Array: ...
@overload
def softmax_focal_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., gamma: float = ..., alpha: npt.ArrayLike
    | None = ..., ignore_index: int = ..., reduction: Literal["mean", "sum"] = ..., return_grad:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def softmax_focal_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., gamma: float = ..., alpha: npt.ArrayLike
    | None = ..., ignore_index: int = ..., reduction: Literal["sum_and_count"], return_grad: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def softmax_focal_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., gamma: float = ..., alpha: npt.ArrayLike
    | None = ..., ignore_index: int = ..., reduction: Literal["none"], return_grad: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[Array, Array]: ...
@overload
def softmax_focal_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., gamma: float = ..., alpha: npt.ArrayLike
    | None = ..., ignore_index: int = ..., reduction: Reduction = ..., return_grad: bool = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def sparsemax_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., ignore_index: int = ..., reduction:
    Literal["mean", "sum"] = ..., return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ...,
    out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> float: ...
@overload
def sparsemax_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., ignore_index: int = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out:
    Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def sparsemax_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., ignore_index: int = ..., reduction:
    Literal["none"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array |
    None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def sparsemax_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., ignore_index: int = ..., reduction:
    Literal["mean", "sum"] = ..., return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out:
    Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def sparsemax_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., ignore_index: int = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array
    | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def sparsemax_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., ignore_index: int = ..., reduction:
    Literal["none"], return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None =
    ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def sparsemax_loss(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., ignore_index: int = ..., reduction:
    Reduction = ..., return_grad: bool = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None =
    ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def squared_hinge_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., weight: npt.ArrayLike | None = ...,
    check_domain: bool = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> float: ...
@overload
def squared_hinge_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., weight: npt.ArrayLike | None = ...,
    check_domain: bool = ..., reduction: Literal["sum_and_count"], return_grad: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, float]: ...
@overload
def squared_hinge_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., weight: npt.ArrayLike | None = ...,
    check_domain: bool = ..., reduction: Literal["none"], return_grad: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def squared_hinge_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., weight: npt.ArrayLike | None = ...,
    check_domain: bool = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[float, Array]: ...
@overload
def squared_hinge_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., weight: npt.ArrayLike | None = ...,
    check_domain: bool = ..., reduction: Literal["sum_and_count"], return_grad: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def squared_hinge_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., weight: npt.ArrayLike | None = ...,
    check_domain: bool = ..., reduction: Literal["none"], return_grad: Literal[True], grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def squared_hinge_loss(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, margin: float = ..., weight: npt.ArrayLike | None = ...,
    check_domain: bool = ..., reduction: Reduction = ..., return_grad: bool = ..., grad_output: npt.ArrayLike
    | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def student_t_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, scale: npt.ArrayLike, df: npt.ArrayLike, *, weight:
    npt.ArrayLike | None = ..., full: bool = ..., check_domain: bool = ..., reduction: Literal["mean", "sum"]
    = ..., return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array |
    None, Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads:
    int | None = ...
) -> float: ...
@overload
def student_t_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, scale: npt.ArrayLike, df: npt.ArrayLike, *, weight:
    npt.ArrayLike | None = ..., full: bool = ..., check_domain: bool = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out:
    tuple[Array | None, Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ...,
    num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def student_t_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, scale: npt.ArrayLike, df: npt.ArrayLike, *, weight:
    npt.ArrayLike | None = ..., full: bool = ..., check_domain: bool = ..., reduction: Literal["none"],
    return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array
    | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None =
    ...
) -> Array: ...
@overload
def student_t_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, scale: npt.ArrayLike, df: npt.ArrayLike, *, weight:
    npt.ArrayLike | None = ..., full: bool = ..., check_domain: bool = ..., reduction: Literal["mean", "sum"]
    = ..., return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array
    | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None =
    ...
) -> tuple[float, StudentTNLLGradients]: ...
@overload
def student_t_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, scale: npt.ArrayLike, df: npt.ArrayLike, *, weight:
    npt.ArrayLike | None = ..., full: bool = ..., check_domain: bool = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out:
    tuple[Array | None, Array | None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ...,
    num_threads: int | None = ...
) -> tuple[tuple[float, float], StudentTNLLGradients]: ...
@overload
def student_t_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, scale: npt.ArrayLike, df: npt.ArrayLike, *, weight:
    npt.ArrayLike | None = ..., full: bool = ..., check_domain: bool = ..., reduction: Literal["none"],
    return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array |
    None, Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[Array, StudentTNLLGradients]: ...
@overload
def student_t_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, scale: npt.ArrayLike, df: npt.ArrayLike, *, weight:
    npt.ArrayLike | None = ..., full: bool = ..., check_domain: bool = ..., reduction: Reduction = ...,
    return_grad: bool = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None,
    Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def token_log_probs(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., ignore_index: int = ..., temperature:
    float = ..., reduction: Literal["mean", "sum"], return_grad: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> float: ...
@overload
def token_log_probs(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., ignore_index: int = ..., temperature:
    float = ..., reduction: Literal["sum_and_count"], return_grad: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def token_log_probs(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., ignore_index: int = ..., temperature:
    float = ..., reduction: Literal["none"] = ..., return_grad: Literal[False] = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def token_log_probs(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., ignore_index: int = ..., temperature:
    float = ..., reduction: Literal["mean", "sum"], return_grad: Literal[True], grad_output: npt.ArrayLike |
    None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def token_log_probs(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., ignore_index: int = ..., temperature:
    float = ..., reduction: Literal["sum_and_count"], return_grad: Literal[True], grad_output: npt.ArrayLike |
    None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def token_log_probs(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., ignore_index: int = ..., temperature:
    float = ..., reduction: Literal["none"] = ..., return_grad: Literal[True], grad_output: npt.ArrayLike |
    None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def token_log_probs(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., ignore_index: int = ..., temperature:
    float = ..., reduction: Reduction = ..., return_grad: bool = ..., grad_output: npt.ArrayLike | None = ...,
    out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def token_statistics(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., outputs: tuple[str, ...] = ...,
    ignore_index: int = ..., temperature: float = ..., softcap: float | None = ..., logit_scale: float = ...,
    return_grad: Literal[False] = ..., grad_output: tuple[npt.ArrayLike | None, npt.ArrayLike | None] | None =
    ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> TokenStatistics: ...
@overload
def token_statistics(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., outputs: tuple[str, ...] = ...,
    ignore_index: int = ..., temperature: float = ..., softcap: float | None = ..., logit_scale: float = ...,
    return_grad: Literal[True], grad_output: tuple[npt.ArrayLike | None, npt.ArrayLike | None] | None = ...,
    out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[TokenStatistics, Array]: ...
@overload
def token_statistics(
    logits: npt.ArrayLike, target: npt.ArrayLike, *, axis: int = ..., outputs: tuple[str, ...] = ...,
    ignore_index: int = ..., temperature: float = ..., softcap: float | None = ..., logit_scale: float = ...,
    return_grad: bool = ..., grad_output: tuple[npt.ArrayLike | None, npt.ArrayLike | None] | None = ..., out:
    Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def triplet_margin_loss(
    anchor: npt.ArrayLike, positive: npt.ArrayLike, negative: npt.ArrayLike, *, margin: float = ..., p: float
    = ..., eps: float = ..., swap: bool = ..., reduction: Literal["mean", "sum"] = ..., return_grad:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None,
    Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> float: ...
@overload
def triplet_margin_loss(
    anchor: npt.ArrayLike, positive: npt.ArrayLike, negative: npt.ArrayLike, *, margin: float = ..., p: float
    = ..., eps: float = ..., swap: bool = ..., reduction: Literal["sum_and_count"], return_grad:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None,
    Array | None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def triplet_margin_loss(
    anchor: npt.ArrayLike, positive: npt.ArrayLike, negative: npt.ArrayLike, *, margin: float = ..., p: float
    = ..., eps: float = ..., swap: bool = ..., reduction: Literal["none"], return_grad: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None, Array | None] | None =
    ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def triplet_margin_loss(
    anchor: npt.ArrayLike, positive: npt.ArrayLike, negative: npt.ArrayLike, *, margin: float = ..., p: float
    = ..., eps: float = ..., swap: bool = ..., reduction: Literal["mean", "sum"] = ..., return_grad:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None, Array |
    None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[float, TripletMarginGradients]: ...
@overload
def triplet_margin_loss(
    anchor: npt.ArrayLike, positive: npt.ArrayLike, negative: npt.ArrayLike, *, margin: float = ..., p: float
    = ..., eps: float = ..., swap: bool = ..., reduction: Literal["sum_and_count"], return_grad:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None, Array |
    None] | None = ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], TripletMarginGradients]: ...
@overload
def triplet_margin_loss(
    anchor: npt.ArrayLike, positive: npt.ArrayLike, negative: npt.ArrayLike, *, margin: float = ..., p: float
    = ..., eps: float = ..., swap: bool = ..., reduction: Literal["none"], return_grad: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None, Array | None] | None =
    ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> tuple[Array, TripletMarginGradients]: ...
@overload
def triplet_margin_loss(
    anchor: npt.ArrayLike, positive: npt.ArrayLike, negative: npt.ArrayLike, *, margin: float = ..., p: float
    = ..., eps: float = ..., swap: bool = ..., reduction: Reduction = ..., return_grad: bool = ...,
    grad_output: npt.ArrayLike | None = ..., out: tuple[Array | None, Array | None, Array | None] | None =
    ..., accumulate: bool | tuple[bool, ...] = ..., num_threads: int | None = ...
) -> Any: ...

@overload
def tv_distance_with_logits(
    student_logits: npt.ArrayLike, teacher_logits: npt.ArrayLike, *, axis: int = ..., temperature: float =
    ..., mask: npt.ArrayLike | None = ..., teacher_grad: Literal[False] = ..., reduction: Literal["mean",
    "sum"] = ..., return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Any = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> float: ...
@overload
def tv_distance_with_logits(
    student_logits: npt.ArrayLike, teacher_logits: npt.ArrayLike, *, axis: int = ..., temperature: float =
    ..., mask: npt.ArrayLike | None = ..., teacher_grad: Literal[False] = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out:
    Any = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def tv_distance_with_logits(
    student_logits: npt.ArrayLike, teacher_logits: npt.ArrayLike, *, axis: int = ..., temperature: float =
    ..., mask: npt.ArrayLike | None = ..., teacher_grad: Literal[False] = ..., reduction: Literal["none"],
    return_grad: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Any = ..., accumulate:
    bool = ..., num_threads: int | None = ...
) -> Array: ...
@overload
def tv_distance_with_logits(
    student_logits: npt.ArrayLike, teacher_logits: npt.ArrayLike, *, axis: int = ..., temperature: float =
    ..., mask: npt.ArrayLike | None = ..., teacher_grad: Literal[False] = ..., reduction: Literal["mean",
    "sum"] = ..., return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Any = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def tv_distance_with_logits(
    student_logits: npt.ArrayLike, teacher_logits: npt.ArrayLike, *, axis: int = ..., temperature: float =
    ..., mask: npt.ArrayLike | None = ..., teacher_grad: Literal[False] = ..., reduction:
    Literal["sum_and_count"], return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Any =
    ..., accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def tv_distance_with_logits(
    student_logits: npt.ArrayLike, teacher_logits: npt.ArrayLike, *, axis: int = ..., temperature: float =
    ..., mask: npt.ArrayLike | None = ..., teacher_grad: Literal[False] = ..., reduction: Literal["none"],
    return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Any = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def tv_distance_with_logits(
    student_logits: npt.ArrayLike, teacher_logits: npt.ArrayLike, *, axis: int = ..., temperature: float =
    ..., mask: npt.ArrayLike | None = ..., teacher_grad: Literal[True], reduction: Literal["mean", "sum"] =
    ..., return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Any = ..., accumulate: bool
    = ..., num_threads: int | None = ...
) -> tuple[float, DivergenceGradients]: ...
@overload
def tv_distance_with_logits(
    student_logits: npt.ArrayLike, teacher_logits: npt.ArrayLike, *, axis: int = ..., temperature: float =
    ..., mask: npt.ArrayLike | None = ..., teacher_grad: Literal[True], reduction: Literal["sum_and_count"],
    return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Any = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], DivergenceGradients]: ...
@overload
def tv_distance_with_logits(
    student_logits: npt.ArrayLike, teacher_logits: npt.ArrayLike, *, axis: int = ..., temperature: float =
    ..., mask: npt.ArrayLike | None = ..., teacher_grad: Literal[True], reduction: Literal["none"],
    return_grad: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Any = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> tuple[Array, DivergenceGradients]: ...
@overload
def tv_distance_with_logits(
    student_logits: npt.ArrayLike, teacher_logits: npt.ArrayLike, *, axis: int = ..., temperature: float =
    ..., mask: npt.ArrayLike | None = ..., teacher_grad: bool = ..., reduction: Reduction = ..., return_grad:
    bool = ..., grad_output: npt.ArrayLike | None = ..., out: Any = ..., accumulate: bool = ..., num_threads:
    int | None = ...
) -> Any: ...

@overload
def tweedie_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, power: float = ..., weight: npt.ArrayLike | None = ...,
    check_domain: bool = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[False] = ...,
    return_hessian: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> float: ...
@overload
def tweedie_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, power: float = ..., weight: npt.ArrayLike | None = ...,
    check_domain: bool = ..., reduction: Literal["sum_and_count"], return_grad: Literal[False] = ...,
    return_hessian: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def tweedie_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, power: float = ..., weight: npt.ArrayLike | None = ...,
    check_domain: bool = ..., reduction: Literal["none"], return_grad: Literal[False] = ..., return_hessian:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> Array: ...
@overload
def tweedie_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, power: float = ..., weight: npt.ArrayLike | None = ...,
    check_domain: bool = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True],
    return_hessian: Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def tweedie_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, power: float = ..., weight: npt.ArrayLike | None = ...,
    check_domain: bool = ..., reduction: Literal["sum_and_count"], return_grad: Literal[True], return_hessian:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def tweedie_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, power: float = ..., weight: npt.ArrayLike | None = ...,
    check_domain: bool = ..., reduction: Literal["none"], return_grad: Literal[True], return_hessian:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> tuple[Array, Array]: ...
@overload
def tweedie_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, power: float = ..., weight: npt.ArrayLike | None = ...,
    check_domain: bool = ..., reduction: Literal["mean", "sum"] = ..., return_grad: Literal[True],
    return_hessian: Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ...,
    accumulate: bool = ..., num_threads: int | None = ...
) -> tuple[float, Array, Array]: ...
@overload
def tweedie_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, power: float = ..., weight: npt.ArrayLike | None = ...,
    check_domain: bool = ..., reduction: Literal["sum_and_count"], return_grad: Literal[True], return_hessian:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> tuple[tuple[float, float], Array, Array]: ...
@overload
def tweedie_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, power: float = ..., weight: npt.ArrayLike | None = ...,
    check_domain: bool = ..., reduction: Literal["none"], return_grad: Literal[True], return_hessian:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> tuple[Array, Array, Array]: ...
@overload
def tweedie_nll_loss(
    input: npt.ArrayLike, target: npt.ArrayLike, *, power: float = ..., weight: npt.ArrayLike | None = ...,
    check_domain: bool = ..., reduction: Reduction = ..., return_grad: bool = ..., return_hessian: bool = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> Any: ...

@overload
def value_loss(
    values: npt.ArrayLike, old_values: npt.ArrayLike | None, returns: npt.ArrayLike, *, clip: float | None =
    ..., mask: npt.ArrayLike | None = ..., reduction: Literal["mean", "sum"] = ..., return_grad:
    Literal[False] = ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool =
    ..., num_threads: int | None = ...
) -> float: ...
@overload
def value_loss(
    values: npt.ArrayLike, old_values: npt.ArrayLike | None, returns: npt.ArrayLike, *, clip: float | None =
    ..., mask: npt.ArrayLike | None = ..., reduction: Literal["sum_and_count"], return_grad: Literal[False] =
    ..., grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> tuple[float, float]: ...
@overload
def value_loss(
    values: npt.ArrayLike, old_values: npt.ArrayLike | None, returns: npt.ArrayLike, *, clip: float | None =
    ..., mask: npt.ArrayLike | None = ..., reduction: Literal["none"], return_grad: Literal[False] = ...,
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> Array: ...
@overload
def value_loss(
    values: npt.ArrayLike, old_values: npt.ArrayLike | None, returns: npt.ArrayLike, *, clip: float | None =
    ..., mask: npt.ArrayLike | None = ..., reduction: Literal["mean", "sum"] = ..., return_grad:
    Literal[True], grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ...,
    num_threads: int | None = ...
) -> tuple[float, Array]: ...
@overload
def value_loss(
    values: npt.ArrayLike, old_values: npt.ArrayLike | None, returns: npt.ArrayLike, *, clip: float | None =
    ..., mask: npt.ArrayLike | None = ..., reduction: Literal["sum_and_count"], return_grad: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[tuple[float, float], Array]: ...
@overload
def value_loss(
    values: npt.ArrayLike, old_values: npt.ArrayLike | None, returns: npt.ArrayLike, *, clip: float | None =
    ..., mask: npt.ArrayLike | None = ..., reduction: Literal["none"], return_grad: Literal[True],
    grad_output: npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int
    | None = ...
) -> tuple[Array, Array]: ...
@overload
def value_loss(
    values: npt.ArrayLike, old_values: npt.ArrayLike | None, returns: npt.ArrayLike, *, clip: float | None =
    ..., mask: npt.ArrayLike | None = ..., reduction: Reduction = ..., return_grad: bool = ..., grad_output:
    npt.ArrayLike | None = ..., out: Array | None = ..., accumulate: bool = ..., num_threads: int | None = ...
) -> Any: ...
