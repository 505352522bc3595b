"""Fast, exact loss functions with gradients for training on CPUs.

Every function takes NumPy arrays (or anything that ``numpy.asarray`` takes) and, where asked, returns the
gradient from the same pass over memory. Names and meanings are those of ``torch.nn.functional``.

The modules `fastloss.torch`, `fastloss.boosting` and `fastloss.reference` are imported when they are first
used.
"""

import importlib
import typing

try:
    importlib.import_module("fastloss._kernels")
except ImportError as error:
    import pathlib

    from fastloss._missing import raise_without_kernels as _raise_without_kernels

    _raise_without_kernels(error, pathlib.Path(__file__).parent)

from fastloss._engine.settings import (
    get_num_threads,
    num_threads,
    set_num_threads,
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
from fastloss.divergence import (
    js_div_with_logits,
    kl_div,
    kl_div_with_logits,
    tv_distance_with_logits,
)
from fastloss.linear import linear_cross_entropy, linear_token_log_probs
from fastloss.penalty import elastic_net_penalty, l1_penalty, l2_penalty
from fastloss.perplexity import Perplexity, perplexity
from fastloss.policy import grpo_loss, kl_penalty, ppo_loss, value_loss
from fastloss.preference import (
    cpo_loss,
    dpo_loss,
    kto_loss,
    orpo_loss,
    preference_rewards,
    reward_model_loss,
    simpo_loss,
)
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
    "cpo_loss",
    "cross_entropy",
    "dpo_loss",
    "elastic_net_penalty",
    "entropy",
    "epsilon_insensitive_loss",
    "gamma_nll_loss",
    "gaussian_nll_loss",
    "get_num_threads",
    "grpo_loss",
    "hinge_loss",
    "huber_loss",
    "js_div_with_logits",
    "kl_div",
    "kl_div_with_logits",
    "kl_penalty",
    "kto_loss",
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
    "orpo_loss",
    "perplexity",
    "poisson_nll_loss",
    "ppo_loss",
    "preference_rewards",
    "quantile_loss",
    "reward_model_loss",
    "sequence_log_probs",
    "set_num_threads",
    "show_config",
    "sigmoid_focal_loss",
    "simpo_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
    "softmax",
    "squared_hinge_loss",
    "token_log_probs",
    "tv_distance_with_logits",
    "tweedie_nll_loss",
    "value_loss",
]

_LAZY_MODULES = ("boosting", "reference", "torch")

if typing.TYPE_CHECKING:
    from fastloss import boosting as boosting
    from fastloss import reference as reference
    from fastloss import torch as torch
else:  # a type checker that saw this function would take every name for an attribute

    def __getattr__(name: str) -> object:
        """Import a module when it is first used: PyTorch takes seconds, and need not be there."""
        if name not in _LAZY_MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            return importlib.import_module(f"{__name__}.{name}")
        except ImportError as error:
            # So hasattr() is False, and help() and tab completion, which ask for every attribute, go on.
            raise AttributeError(f"{__name__}.{name} cannot be imported: {error}") from error


def __dir__() -> list[str]:
    """Return the names for users; the modules that the functions are defined in are not among them."""
    special = [name for name in globals() if name.startswith("__") and name.endswith("__")]
    return sorted([*special, *__all__, *_LAZY_MODULES])
