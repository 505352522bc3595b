"""The type of every public call, for type checkers alone: tests/test_types.py runs them over this file."""

from typing import Any, assert_type

import numpy as np
import numpy.typing as npt

import fastloss as fl
from fastloss.contrastive import InfoNCEGradients, SigLIPGradients
from fastloss.distribution import NegativeBinomialNLLGradients, StudentTNLLGradients
from fastloss.divergence import DivergenceGradients
from fastloss.linear import AdaptiveGradients, LinearGradients
from fastloss.linear_divergence import StudentGradients
from fastloss.pairs import CosineEmbeddingGradients, MarginRankingGradients, TripletMarginGradients
from fastloss.preference import PairGradients, PreferenceRewards, RewardGradients
from fastloss.reading import Interpretation
from fastloss.regression import GaussianNLLGradients
from fastloss.sequence import TokenStatistics

Array = npt.NDArray[Any]
# A reduced or unreduced loss with its gradient, and with the second derivative.
Mean1 = tuple[float, Array]
Each1 = tuple[Array, Array]
Mean2 = tuple[float, Array, Array]
Each2 = tuple[Array, Array, Array]
x = np.zeros((2, 3), np.float32)
y = [0, 1]

# Settings, transforms, perplexity
assert_type(fl.get_num_threads(), int)
assert_type(fl.set_num_threads(2), None)
with fl.num_threads(2):
    assert_type(fl.show_config(), None)
for transformed in (fl.softmax(x), fl.log_softmax(x, out=x), fl.logsumexp(x, axis=0)):
    assert_type(transformed, Array)
assert_type(fl.perplexity(x, y), float)
assert_type(fl.Perplexity().update(x, y), fl.Perplexity)
assert_type(fl.Perplexity().compute(), float)
assert_type(fl.Perplexity().update(x, y, by=y) + fl.Perplexity(), fl.Perplexity)
assert_type(fl.Perplexity().load_state_dict(fl.Perplexity().state_dict()), fl.Perplexity)
assert_type(fl.Perplexity().documents["a"].perplexity, float)
assert_type(fl.preference_rewards(x, x), PreferenceRewards)
assert_type(fl.interpret(2.0), Interpretation)
assert_type(fl.interpret(x, base=2, tokens=6, utf8_bytes=[[20.0] * 3] * 2), Interpretation)

# Curves
assert_type(fl.LossCurve().update(1, train=2.0), fl.LossCurve)
assert_type(fl.LossCurve.from_arrays([1, 2], train=[2.0, None], validation=x[0]), fl.LossCurve)
assert_type(fl.LossCurve.read("log.csv", unigram=7.0), fl.LossCurve)
assert_type(fl.LossCurve().diagnose(), list[fl.Finding])
assert_type(fl.Finding("spike", 1, 2, {"size": 1.0}, "None.").severity, str)

assert_type(fl.aft_loss(x, x, x), float)
assert_type(fl.aft_loss(x, x, x, reduction="none"), Array)
assert_type(fl.aft_loss(x, x, x, return_grad=True), Mean1)
assert_type(fl.aft_loss(x, x, x, reduction="none", return_grad=True), Each1)
assert_type(fl.aft_loss(x, x, x, return_grad=True, return_hessian=True), Mean2)
assert_type(fl.aft_loss(x, x, x, reduction="none", return_grad=True, return_hessian=True), Each2)

assert_type(fl.binary_cross_entropy(x, x), float)
assert_type(fl.binary_cross_entropy(x, x, reduction="none"), Array)
assert_type(fl.binary_cross_entropy(x, x, return_grad=True), Mean1)
assert_type(fl.binary_cross_entropy(x, x, reduction="none", return_grad=True), Each1)

assert_type(fl.binary_cross_entropy_with_logits(x, x), float)
assert_type(fl.binary_cross_entropy_with_logits(x, x, reduction="none"), Array)
assert_type(fl.binary_cross_entropy_with_logits(x, x, return_grad=True), Mean1)
assert_type(fl.binary_cross_entropy_with_logits(x, x, reduction="none", return_grad=True), Each1)
assert_type(fl.binary_cross_entropy_with_logits(x, x, return_grad=True, return_hessian=True), Mean2)
assert_type(
    fl.binary_cross_entropy_with_logits(x, x, reduction="none", return_grad=True, return_hessian=True), Each2
)

assert_type(fl.cox_ph_loss(x, x, x), float)
assert_type(fl.cox_ph_loss(x, x, x, reduction="none"), Array)
assert_type(fl.cox_ph_loss(x, x, x, return_grad=True), Mean1)
assert_type(fl.cox_ph_loss(x, x, x, reduction="none", return_grad=True), Each1)
assert_type(fl.cox_ph_loss(x, x, x, return_grad=True, return_hessian=True), Mean2)
assert_type(fl.cox_ph_loss(x, x, x, reduction="none", return_grad=True, return_hessian=True), Each2)

assert_type(fl.cosine_embedding_loss(x, x, y), float)
assert_type(fl.cosine_embedding_loss(x, x, y, reduction="none"), Array)
assert_type(fl.cosine_embedding_loss(x, x, y, return_grad=True), tuple[float, CosineEmbeddingGradients])
assert_type(
    fl.cosine_embedding_loss(x, x, y, reduction="none", return_grad=True),
    tuple[Array, CosineEmbeddingGradients],
)

assert_type(fl.cpo_loss(x, x), float)
assert_type(fl.cpo_loss(x, x, reduction="none"), Array)
assert_type(fl.cpo_loss(x, x, return_grad=True), tuple[float, PairGradients])
assert_type(fl.cpo_loss(x, x, reduction="none", return_grad=True), tuple[Array, PairGradients])

assert_type(fl.crps_loss(x, x, quantile=[0.1, 0.9]), float)
assert_type(fl.crps_loss(x, x, quantile=[0.1, 0.9], reduction="none"), Array)
assert_type(fl.crps_loss(x, x, quantile=[0.1, 0.9], return_grad=True), Mean1)
assert_type(fl.crps_loss(x, x, quantile=[0.1, 0.9], reduction="none", return_grad=True), Each1)

assert_type(fl.cross_entropy(x, x), float)
assert_type(fl.cross_entropy(x, x, reduction="none"), Array)
assert_type(fl.cross_entropy(x, x, return_grad=True), Mean1)
assert_type(fl.cross_entropy(x, x, reduction="none", return_grad=True), Each1)
assert_type(fl.cross_entropy(x, x, return_grad=True, return_hessian=True), Mean2)
assert_type(fl.cross_entropy(x, x, reduction="none", return_grad=True, return_hessian=True), Each2)

assert_type(fl.ctc_loss(x, x, x, x), float)
assert_type(fl.ctc_loss(x, x, x, x, reduction="none"), Array)
assert_type(fl.ctc_loss(x, x, x, x, return_grad=True), Mean1)
assert_type(fl.ctc_loss(x, x, x, x, reduction="none", return_grad=True), Each1)

assert_type(fl.ctc_loss_with_logits(x, x, x, x), float)
assert_type(fl.ctc_loss_with_logits(x, x, x, x, reduction="none"), Array)
assert_type(fl.ctc_loss_with_logits(x, x, x, x, return_grad=True), Mean1)
assert_type(fl.ctc_loss_with_logits(x, x, x, x, reduction="none", return_grad=True), Each1)

assert_type(fl.dpo_loss(x, x, x, x), float)
assert_type(fl.dpo_loss(x, x, x, x, reduction="none"), Array)
assert_type(fl.dpo_loss(x, x, x, x, return_grad=True), tuple[float, PairGradients])
assert_type(fl.dpo_loss(x, x, x, x, reduction="none", return_grad=True), tuple[Array, PairGradients])

assert_type(fl.elastic_net_penalty(x, 1.0, 1.0), float)
assert_type(fl.elastic_net_penalty(x, 1.0, 1.0, reduction="none"), Array)
assert_type(fl.elastic_net_penalty(x, 1.0, 1.0, return_grad=True), Mean1)
assert_type(fl.elastic_net_penalty(x, 1.0, 1.0, reduction="none", return_grad=True), Each1)

# entropy
assert_type(fl.entropy(x), Array)
assert_type(fl.entropy(x, reduction="sum"), float)
assert_type(fl.entropy(x, return_grad=True), Each1)
assert_type(fl.entropy(x, reduction="sum", return_grad=True), Mean1)

assert_type(fl.epsilon_insensitive_loss(x, x), float)
assert_type(fl.epsilon_insensitive_loss(x, x, reduction="none"), Array)
assert_type(fl.epsilon_insensitive_loss(x, x, return_grad=True), Mean1)
assert_type(fl.epsilon_insensitive_loss(x, x, reduction="none", return_grad=True), Each1)

assert_type(fl.gamma_nll_loss(x, x), float)
assert_type(fl.gamma_nll_loss(x, x, reduction="none"), Array)
assert_type(fl.gamma_nll_loss(x, x, return_grad=True), Mean1)
assert_type(fl.gamma_nll_loss(x, x, reduction="none", return_grad=True), Each1)
assert_type(fl.gamma_nll_loss(x, x, return_grad=True, return_hessian=True), Mean2)
assert_type(fl.gamma_nll_loss(x, x, reduction="none", return_grad=True, return_hessian=True), Each2)

assert_type(fl.gaussian_nll_loss(x, x, x), float)
assert_type(fl.gaussian_nll_loss(x, x, x, reduction="none"), Array)
assert_type(fl.gaussian_nll_loss(x, x, x, return_grad=True), tuple[float, GaussianNLLGradients])
assert_type(
    fl.gaussian_nll_loss(x, x, x, reduction="none", return_grad=True), tuple[Array, GaussianNLLGradients]
)

assert_type(fl.grpo_loss(x, x, x), float)
assert_type(fl.grpo_loss(x, x, x, reduction="none"), Array)
assert_type(fl.grpo_loss(x, x, x, return_grad=True), Mean1)
assert_type(fl.grpo_loss(x, x, x, reduction="none", return_grad=True), Each1)

assert_type(fl.hinge_embedding_loss(x, x), float)
assert_type(fl.hinge_embedding_loss(x, x, reduction="none"), Array)
assert_type(fl.hinge_embedding_loss(x, x, return_grad=True), Mean1)
assert_type(fl.hinge_embedding_loss(x, x, reduction="none", return_grad=True), Each1)

assert_type(fl.generalized_cross_entropy(x, y), float)
assert_type(fl.generalized_cross_entropy(x, y, reduction="none"), Array)
assert_type(fl.generalized_cross_entropy(x, y, return_grad=True), Mean1)
assert_type(fl.generalized_cross_entropy(x, y, reduction="none", return_grad=True), Each1)

assert_type(fl.hinge_loss(x, x), float)
assert_type(fl.hinge_loss(x, x, reduction="none"), Array)
assert_type(fl.hinge_loss(x, x, return_grad=True), Mean1)
assert_type(fl.hinge_loss(x, x, reduction="none", return_grad=True), Each1)

assert_type(fl.huber_loss(x, x), float)
assert_type(fl.huber_loss(x, x, reduction="none"), Array)
assert_type(fl.huber_loss(x, x, return_grad=True), Mean1)
assert_type(fl.huber_loss(x, x, reduction="none", return_grad=True), Each1)
assert_type(fl.huber_loss(x, x, return_grad=True, return_hessian=True), Mean2)
assert_type(fl.huber_loss(x, x, reduction="none", return_grad=True, return_hessian=True), Each2)

assert_type(fl.info_nce_loss(x, x), float)
assert_type(fl.info_nce_loss(x, x, reduction="none"), Array)
assert_type(fl.info_nce_loss(x, x, return_grad=True), tuple[float, InfoNCEGradients])
assert_type(fl.info_nce_loss(x, x, reduction="none", return_grad=True), tuple[Array, InfoNCEGradients])

assert_type(fl.js_div_with_logits(x, x), float)
assert_type(fl.js_div_with_logits(x, x, reduction="none"), Array)
assert_type(fl.js_div_with_logits(x, x, return_grad=True), Mean1)
assert_type(fl.js_div_with_logits(x, x, reduction="none", return_grad=True), Each1)
assert_type(
    fl.js_div_with_logits(x, x, return_grad=True, teacher_grad=True), tuple[float, DivergenceGradients]
)

assert_type(fl.kl_div(x, x), float)
assert_type(fl.kl_div(x, x, reduction="none"), Array)
assert_type(fl.kl_div(x, x, return_grad=True), Mean1)
assert_type(fl.kl_div(x, x, reduction="none", return_grad=True), Each1)
assert_type(fl.kl_div(x, x, reduction="batchmean"), float)

assert_type(fl.kl_div_with_logits(x, x), float)
assert_type(fl.kl_div_with_logits(x, x, reduction="none"), Array)
assert_type(fl.kl_div_with_logits(x, x, return_grad=True), Mean1)
assert_type(fl.kl_div_with_logits(x, x, reduction="none", return_grad=True), Each1)
assert_type(
    fl.kl_div_with_logits(x, x, return_grad=True, teacher_grad=True), tuple[float, DivergenceGradients]
)

assert_type(fl.kl_penalty(x, x), float)
assert_type(fl.kl_penalty(x, x, reduction="none"), Array)
assert_type(fl.kl_penalty(x, x, return_grad=True), Mean1)
assert_type(fl.kl_penalty(x, x, reduction="none", return_grad=True), Each1)

assert_type(fl.kto_loss(x, x, x), float)
assert_type(fl.kto_loss(x, x, x, reduction="none"), Array)
assert_type(fl.kto_loss(x, x, x, return_grad=True), Mean1)
assert_type(fl.kto_loss(x, x, x, reduction="none", return_grad=True), Each1)

assert_type(fl.l1_loss(x, x), float)
assert_type(fl.l1_loss(x, x, reduction="none"), Array)
assert_type(fl.l1_loss(x, x, return_grad=True), Mean1)
assert_type(fl.l1_loss(x, x, reduction="none", return_grad=True), Each1)
assert_type(fl.l1_loss(x, x, return_grad=True, return_hessian=True), Mean2)
assert_type(fl.l1_loss(x, x, reduction="none", return_grad=True, return_hessian=True), Each2)

assert_type(fl.l1_penalty(x, 1.0), float)
assert_type(fl.l1_penalty(x, 1.0, reduction="none"), Array)
assert_type(fl.l1_penalty(x, 1.0, return_grad=True), Mean1)
assert_type(fl.l1_penalty(x, 1.0, reduction="none", return_grad=True), Each1)

assert_type(fl.l2_penalty(x, 1.0), float)
assert_type(fl.l2_penalty(x, 1.0, reduction="none"), Array)
assert_type(fl.l2_penalty(x, 1.0, return_grad=True), Mean1)
assert_type(fl.l2_penalty(x, 1.0, reduction="none", return_grad=True), Each1)

assert_type(fl.adaptive_log_softmax_with_loss(x, x, x, [(x, x)]), float)
assert_type(fl.adaptive_log_softmax_with_loss(x, x, x, [(x, x)], reduction="none"), Array)
assert_type(
    fl.adaptive_log_softmax_with_loss(x, x, x, ((x, x), (x, x)), return_grad=True),
    tuple[float, AdaptiveGradients],
)
assert_type(
    fl.adaptive_log_softmax_with_loss(x, x, x, [(x, x)], reduction="none", return_grad=True),
    tuple[Array, AdaptiveGradients],
)

assert_type(fl.linear_cross_entropy(x, x, x), float)
assert_type(fl.linear_cross_entropy(x, x, x, reduction="none"), Array)
assert_type(fl.linear_cross_entropy(x, x, x, return_grad=True), tuple[float, LinearGradients])
assert_type(
    fl.linear_cross_entropy(x, x, x, reduction="none", return_grad=True), tuple[Array, LinearGradients]
)

assert_type(fl.linear_js_div(x, x, x, x), float)
assert_type(fl.linear_js_div(x, x, x, x, reduction="none"), Array)
assert_type(fl.linear_js_div(x, x, x, x, return_grad=True), tuple[float, StudentGradients])
assert_type(fl.linear_js_div(x, x, x, x, return_entropy=True), tuple[float, Array])

assert_type(fl.linear_kl_div(x, x, x, x), float)
assert_type(fl.linear_kl_div(x, x, x, x, reduction="none"), Array)
assert_type(fl.linear_kl_div(x, x, x, x, return_grad=True), tuple[float, StudentGradients])
assert_type(fl.linear_kl_div(x, x, x, x, reduction="none", return_entropy=True), tuple[Array, Array])
assert_type(
    fl.linear_kl_div(x, x, x, x, reduction="none", return_grad=True, return_entropy=True),
    tuple[Array, StudentGradients, Array],
)

assert_type(fl.linear_token_log_probs(x, x, x), Array)
assert_type(fl.linear_token_log_probs(x, x, x, reduction="sum"), float)
assert_type(fl.linear_token_log_probs(x, x, x, return_grad=True), tuple[Array, LinearGradients])
assert_type(
    fl.linear_token_log_probs(x, x, x, reduction="sum", return_grad=True), tuple[float, LinearGradients]
)

# linear_token_statistics
assert_type(fl.linear_token_statistics(x, x, x), TokenStatistics)
assert_type(fl.linear_token_statistics(x, x, x, return_grad=True), tuple[TokenStatistics, LinearGradients])
assert_type(fl.linear_tv_distance(x, x, x, x), float)
assert_type(fl.linear_tv_distance(x, x, x, x, reduction="none"), Array)
assert_type(fl.linear_tv_distance(x, x, x, x, return_grad=True), tuple[float, StudentGradients])
assert_type(fl.linear_tv_distance(x, x, x, x, return_entropy=True), tuple[float, Array])

assert_type(fl.lambda_rank_loss(x, x, x), float)
assert_type(fl.lambda_rank_loss(x, x, x, reduction="none"), Array)
assert_type(fl.lambda_rank_loss(x, x, x, return_grad=True), Mean1)
assert_type(fl.lambda_rank_loss(x, x, x, reduction="none", return_grad=True), Each1)
assert_type(fl.lambda_rank_loss(x, x, x, return_grad=True, return_hessian=True), Mean2)
assert_type(fl.lambda_rank_loss(x, x, x, reduction="none", return_grad=True, return_hessian=True), Each2)

assert_type(fl.list_net_loss(x, x, x), float)
assert_type(fl.list_net_loss(x, x, x, reduction="none"), Array)
assert_type(fl.list_net_loss(x, x, x, return_grad=True), Mean1)
assert_type(fl.list_net_loss(x, x, x, reduction="none", return_grad=True), Each1)

assert_type(fl.log_cosh_loss(x, x), float)
assert_type(fl.log_cosh_loss(x, x, reduction="none"), Array)
assert_type(fl.log_cosh_loss(x, x, return_grad=True), Mean1)
assert_type(fl.log_cosh_loss(x, x, reduction="none", return_grad=True), Each1)
assert_type(fl.log_cosh_loss(x, x, return_grad=True, return_hessian=True), Mean2)
assert_type(fl.log_cosh_loss(x, x, reduction="none", return_grad=True, return_hessian=True), Each2)

assert_type(fl.margin_ranking_loss(x, x, x), float)
assert_type(fl.margin_ranking_loss(x, x, x, reduction="none"), Array)
assert_type(fl.margin_ranking_loss(x, x, x, return_grad=True), tuple[float, MarginRankingGradients])
assert_type(
    fl.margin_ranking_loss(x, x, x, reduction="none", return_grad=True),
    tuple[Array, MarginRankingGradients],
)

assert_type(fl.mean_squared_log_loss(x, x), float)
assert_type(fl.mean_squared_log_loss(x, x, reduction="none"), Array)
assert_type(fl.mean_squared_log_loss(x, x, return_grad=True), Mean1)
assert_type(fl.mean_squared_log_loss(x, x, reduction="none", return_grad=True), Each1)

assert_type(fl.mse_loss(x, x), float)
assert_type(fl.mse_loss(x, x, reduction="none"), Array)
assert_type(fl.mse_loss(x, x, return_grad=True), Mean1)
assert_type(fl.mse_loss(x, x, reduction="none", return_grad=True), Each1)
assert_type(fl.mse_loss(x, x, return_grad=True, return_hessian=True), Mean2)
assert_type(fl.mse_loss(x, x, reduction="none", return_grad=True, return_hessian=True), Each2)

assert_type(fl.multi_margin_loss(x, x), float)
assert_type(fl.multi_margin_loss(x, x, reduction="none"), Array)
assert_type(fl.multi_margin_loss(x, x, return_grad=True), Mean1)
assert_type(fl.multi_margin_loss(x, x, reduction="none", return_grad=True), Each1)

assert_type(fl.multilabel_margin_loss(x, x), float)
assert_type(fl.multilabel_margin_loss(x, x, reduction="none"), Array)
assert_type(fl.multilabel_margin_loss(x, x, return_grad=True), Mean1)
assert_type(fl.multilabel_margin_loss(x, x, reduction="none", return_grad=True), Each1)

assert_type(fl.multilabel_soft_margin_loss(x, x), float)
assert_type(fl.multilabel_soft_margin_loss(x, x, reduction="none"), Array)
assert_type(fl.multilabel_soft_margin_loss(x, x, return_grad=True), Mean1)
assert_type(fl.multilabel_soft_margin_loss(x, x, reduction="none", return_grad=True), Each1)

assert_type(fl.negative_binomial_nll_loss(x, x, 0.5), float)
assert_type(fl.negative_binomial_nll_loss(x, x, 0.5, reduction="none"), Array)
assert_type(
    fl.negative_binomial_nll_loss(x, x, 0.5, return_grad=True), tuple[float, NegativeBinomialNLLGradients]
)
assert_type(
    fl.negative_binomial_nll_loss(x, x, 0.5, reduction="none", return_grad=True),
    tuple[Array, NegativeBinomialNLLGradients],
)

assert_type(fl.nll_loss(x, x), float)
assert_type(fl.nll_loss(x, x, reduction="none"), Array)
assert_type(fl.nll_loss(x, x, return_grad=True), Mean1)
assert_type(fl.nll_loss(x, x, reduction="none", return_grad=True), Each1)

assert_type(fl.orpo_loss(x, x), float)
assert_type(fl.orpo_loss(x, x, reduction="none"), Array)
assert_type(fl.orpo_loss(x, x, return_grad=True), tuple[float, PairGradients])
assert_type(fl.orpo_loss(x, x, reduction="none", return_grad=True), tuple[Array, PairGradients])

assert_type(fl.poisson_nll_loss(x, x), float)
assert_type(fl.poisson_nll_loss(x, x, reduction="none"), Array)
assert_type(fl.poisson_nll_loss(x, x, return_grad=True), Mean1)
assert_type(fl.poisson_nll_loss(x, x, reduction="none", return_grad=True), Each1)
assert_type(fl.poisson_nll_loss(x, x, return_grad=True, return_hessian=True), Mean2)
assert_type(fl.poisson_nll_loss(x, x, reduction="none", return_grad=True, return_hessian=True), Each2)

assert_type(fl.ppo_loss(x, x, x), float)
assert_type(fl.ppo_loss(x, x, x, reduction="none"), Array)
assert_type(fl.ppo_loss(x, x, x, return_grad=True), Mean1)
assert_type(fl.ppo_loss(x, x, x, reduction="none", return_grad=True), Each1)

assert_type(fl.poly_loss(x, y), float)
assert_type(fl.poly_loss(x, y, reduction="none"), Array)
assert_type(fl.poly_loss(x, y, return_grad=True), Mean1)
assert_type(fl.poly_loss(x, y, reduction="none", return_grad=True), Each1)

assert_type(fl.quantile_loss(x, x), float)
assert_type(fl.quantile_loss(x, [0.0, 1.0], quantile=[0.1, 0.5, 0.9]), float)
assert_type(fl.quantile_loss(x, x, reduction="none"), Array)
assert_type(fl.quantile_loss(x, x, return_grad=True), Mean1)
assert_type(fl.quantile_loss(x, x, reduction="none", return_grad=True), Each1)
assert_type(fl.quantile_loss(x, x, return_grad=True, return_hessian=True), Mean2)
assert_type(fl.quantile_loss(x, x, reduction="none", return_grad=True, return_hessian=True), Each2)

assert_type(fl.reward_model_loss(x, x), float)
assert_type(fl.reward_model_loss(x, x, reduction="none"), Array)
assert_type(fl.reward_model_loss(x, x, return_grad=True), tuple[float, RewardGradients])
assert_type(fl.reward_model_loss(x, x, reduction="none", return_grad=True), tuple[Array, RewardGradients])

assert_type(fl.sequence_log_probs(x, x), Array)
assert_type(fl.sequence_log_probs(x, x, reduction="sum"), float)
assert_type(fl.sequence_log_probs(x, x, return_grad=True), Each1)
assert_type(fl.sequence_log_probs(x, x, reduction="sum", return_grad=True), Mean1)

assert_type(fl.siglip_loss(x, x, scale=1.0, bias=0.0), float)
assert_type(fl.siglip_loss(x, x, scale=1.0, bias=0.0, reduction="none"), Array)
assert_type(fl.siglip_loss(x, x, scale=1.0, bias=0.0, return_grad=True), tuple[float, SigLIPGradients])
assert_type(
    fl.siglip_loss(x, x, scale=1.0, bias=0.0, reduction="none", return_grad=True),
    tuple[Array, SigLIPGradients],
)

assert_type(fl.sigmoid_focal_loss(x, x), float)
assert_type(fl.sigmoid_focal_loss(x, x, reduction="none"), Array)
assert_type(fl.sigmoid_focal_loss(x, x, return_grad=True), Mean1)
assert_type(fl.sigmoid_focal_loss(x, x, reduction="none", return_grad=True), Each1)

assert_type(fl.simpo_loss(x, x), float)
assert_type(fl.simpo_loss(x, x, reduction="none"), Array)
assert_type(fl.simpo_loss(x, x, return_grad=True), tuple[float, PairGradients])
assert_type(fl.simpo_loss(x, x, reduction="none", return_grad=True), tuple[Array, PairGradients])

assert_type(fl.smooth_l1_loss(x, x), float)
assert_type(fl.smooth_l1_loss(x, x, reduction="none"), Array)
assert_type(fl.smooth_l1_loss(x, x, return_grad=True), Mean1)
assert_type(fl.smooth_l1_loss(x, x, reduction="none", return_grad=True), Each1)
assert_type(fl.smooth_l1_loss(x, x, return_grad=True, return_hessian=True), Mean2)
assert_type(fl.smooth_l1_loss(x, x, reduction="none", return_grad=True, return_hessian=True), Each2)

assert_type(fl.soft_margin_loss(x, x), float)
assert_type(fl.soft_margin_loss(x, x, reduction="none"), Array)
assert_type(fl.soft_margin_loss(x, x, return_grad=True), Mean1)
assert_type(fl.soft_margin_loss(x, x, reduction="none", return_grad=True), Each1)
assert_type(fl.soft_margin_loss(x, x, return_grad=True, return_hessian=True), Mean2)
assert_type(fl.soft_margin_loss(x, x, reduction="none", return_grad=True, return_hessian=True), Each2)

assert_type(fl.softmax_focal_loss(x, x), float)
assert_type(fl.softmax_focal_loss(x, x, reduction="none"), Array)
assert_type(fl.softmax_focal_loss(x, x, return_grad=True), Mean1)
assert_type(fl.softmax_focal_loss(x, x, reduction="none", return_grad=True), Each1)

assert_type(fl.sparsemax_loss(x, y), float)
assert_type(fl.sparsemax_loss(x, y, reduction="none"), Array)
assert_type(fl.sparsemax_loss(x, y, return_grad=True), Mean1)
assert_type(fl.sparsemax_loss(x, y, reduction="none", return_grad=True), Each1)

assert_type(fl.squared_hinge_loss(x, x), float)
assert_type(fl.squared_hinge_loss(x, x, reduction="none"), Array)
assert_type(fl.squared_hinge_loss(x, x, return_grad=True), Mean1)
assert_type(fl.squared_hinge_loss(x, x, reduction="none", return_grad=True), Each1)

assert_type(fl.student_t_nll_loss(x, x, 1.0, x), float)
assert_type(fl.student_t_nll_loss(x, x, 1.0, x, reduction="none"), Array)
assert_type(fl.student_t_nll_loss(x, x, 1.0, x, return_grad=True), tuple[float, StudentTNLLGradients])
assert_type(
    fl.student_t_nll_loss(x, x, 1.0, x, reduction="none", return_grad=True),
    tuple[Array, StudentTNLLGradients],
)

assert_type(fl.token_log_probs(x, x), Array)
assert_type(fl.token_log_probs(x, x, reduction="sum"), float)
assert_type(fl.token_log_probs(x, x, return_grad=True), Each1)
assert_type(fl.token_log_probs(x, x, reduction="sum", return_grad=True), Mean1)

# token_statistics
assert_type(fl.token_statistics(x, x), TokenStatistics)
assert_type(fl.token_statistics(x, x, return_grad=True), tuple[TokenStatistics, Array])

assert_type(fl.triplet_margin_loss(x, x, x), float)
assert_type(fl.triplet_margin_loss(x, x, x, reduction="none"), Array)
assert_type(fl.triplet_margin_loss(x, x, x, return_grad=True), tuple[float, TripletMarginGradients])
assert_type(
    fl.triplet_margin_loss(x, x, x, reduction="none", return_grad=True),
    tuple[Array, TripletMarginGradients],
)

assert_type(fl.tv_distance_with_logits(x, x), float)
assert_type(fl.tv_distance_with_logits(x, x, reduction="none"), Array)
assert_type(fl.tv_distance_with_logits(x, x, return_grad=True), Mean1)
assert_type(fl.tv_distance_with_logits(x, x, reduction="none", return_grad=True), Each1)
assert_type(
    fl.tv_distance_with_logits(x, x, return_grad=True, teacher_grad=True), tuple[float, DivergenceGradients]
)

assert_type(fl.tweedie_nll_loss(x, x), float)
assert_type(fl.tweedie_nll_loss(x, x, reduction="none"), Array)
assert_type(fl.tweedie_nll_loss(x, x, return_grad=True), Mean1)
assert_type(fl.tweedie_nll_loss(x, x, reduction="none", return_grad=True), Each1)
assert_type(fl.tweedie_nll_loss(x, x, return_grad=True, return_hessian=True), Mean2)
assert_type(fl.tweedie_nll_loss(x, x, reduction="none", return_grad=True, return_hessian=True), Each2)

assert_type(fl.value_loss(x, x, x), float)
assert_type(fl.value_loss(x, x, x, reduction="none"), Array)
assert_type(fl.value_loss(x, x, x, return_grad=True), Mean1)
assert_type(fl.value_loss(x, x, x, reduction="none", return_grad=True), Each1)

# The pair of a sum and what a mean divides by
Pair = tuple[float, float]
assert_type(fl.cross_entropy(x, x, reduction="sum_and_count"), Pair)
assert_type(fl.cross_entropy(x, x, reduction="sum_and_count", return_grad=True), tuple[Pair, Array])
assert_type(
    fl.mse_loss(x, x, reduction="sum_and_count", return_grad=True, return_hessian=True),
    tuple[Pair, Array, Array],
)
assert_type(fl.kl_div(x, x, reduction="sum_and_count"), Pair)
assert_type(fl.token_log_probs(x, x, reduction="sum_and_count"), Pair)
assert_type(fl.dpo_loss(x, x, x, x, reduction="sum_and_count", return_grad=True), tuple[Pair, PairGradients])
assert_type(
    fl.linear_cross_entropy(x, x, x, reduction="sum_and_count", return_grad=True),
    tuple[Pair, LinearGradients],
)
assert_type(
    fl.linear_kl_div(x, x, x, x, reduction="sum_and_count", return_grad=True, return_entropy=True),
    tuple[Pair, StudentGradients, Array],
)
