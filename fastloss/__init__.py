"""Fast, exact loss functions with gradients for training on CPUs.

Every function takes NumPy arrays (or anything that ``numpy.asarray`` takes) and, where asked, returns the
gradient from the same pass over memory. Names and meanings are those of ``torch.nn.functional``.
"""

from fastloss._settings import (
    get_num_threads,
    num_threads,
    set_num_threads,
    share_threads_with_blas,
    show_config,
)
from fastloss.binary import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    hinge_loss,
    multilabel_soft_margin_loss,
    sigmoid_focal_loss,
    soft_margin_loss,
    squared_hinge_loss,
)
from fastloss.classification import (
    cross_entropy,
    log_softmax,
    logsumexp,
    multi_margin_loss,
    nll_loss,
    softmax,
)
from fastloss.linear import linear_cross_entropy, linear_token_log_probs
from fastloss.penalty import elastic_net_penalty, l1_penalty, l2_penalty
from fastloss.perplexity import Perplexity, perplexity
from fastloss.regression import (
    epsilon_insensitive_loss,
    gamma_nll_loss,
    gaussian_nll_loss,
    huber_loss,
    l1_loss,
    log_cosh_loss,
    mean_squared_log_loss,
    mse_loss,
    poisson_nll_loss,
    quantile_loss,
    smooth_l1_loss,
    tweedie_nll_loss,
)
from fastloss.sequence import entropy, sequence_log_probs, token_log_probs

__version__ = "0.1.0"

__all__ = [
    "Perplexity",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "elastic_net_penalty",
    "entropy",
    "epsilon_insensitive_loss",
    "gamma_nll_loss",
    "gaussian_nll_loss",
    "get_num_threads",
    "hinge_loss",
    "huber_loss",
    "l1_loss",
    "l1_penalty",
    "l2_penalty",
    "linear_cross_entropy",
    "linear_token_log_probs",
    "log_cosh_loss",
    "log_softmax",
    "logsumexp",
    "mean_squared_log_loss",
    "mse_loss",
    "multi_margin_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
    "num_threads",
    "perplexity",
    "poisson_nll_loss",
    "quantile_loss",
    "sequence_log_probs",
    "set_num_threads",
    "share_threads_with_blas",
    "show_config",
    "sigmoid_focal_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
    "softmax",
    "squared_hinge_loss",
    "token_log_probs",
    "tweedie_nll_loss",
]
